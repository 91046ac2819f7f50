"""Feature flags: the value of ``ff:<key>`` in Redis is ``true``, ``false``, or a percentage such as ``25`` or ``25%``.

:mod:`zdd_tui.service.flags` has its own copy of these rules, because an application imports that package alone; a test
compares the two. Which units a percentage selects is decided there.
"""

import re
from dataclasses import dataclass

PREFIX = "ff:"
_PERCENT = re.compile(r"(\d{1,3})\s*%?")


@dataclass(frozen=True, slots=True)
class FlagValue:
    """The share of units that a flag is on for.

    Attributes:
        percent: 0 (``false``) to 100 (``true``).
    """

    percent: int

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise ValueError(f"a flag's percentage is 0 to 100, got {self.percent}")

    @property
    def is_on(self) -> bool:
        """Whether it is on for all units."""
        return self.percent == 100

    @property
    def is_off(self) -> bool:
        """Whether it is on for no unit."""
        return self.percent == 0

    @property
    def to_redis(self) -> str:
        """The value as stored in Redis."""
        if self.is_on:
            return "true"
        return "false" if self.is_off else str(self.percent)

    def __str__(self) -> str:
        if self.is_on:
            return "on"
        return "off" if self.is_off else f"{self.percent}%"


ON = FlagValue(100)
OFF = FlagValue(0)


def parse_flag(text: str) -> FlagValue:
    """Parses a stored value.

    Raises:
        ValueError: neither ``true``, ``false`` nor a percentage from 0 to 100.
    """
    word = text.strip().lower()
    if word in ("true", "false"):
        return ON if word == "true" else OFF
    match = _PERCENT.fullmatch(word)
    if match is None or int(match[1]) > 100:
        raise ValueError(f"expected true, false or a percentage from 0 to 100, got {text[:40]!r}")
    return FlagValue(int(match[1]))


def flag_key(key: str) -> str:
    """The flag's key in Redis."""
    return PREFIX + key

"""What the terminal can show and how much the line to it can carry: decided once, from the environment and flags."""

from collections.abc import Mapping
from dataclasses import dataclass

from zdd_tui.model.errors import ZddError

_COERCED_LOCALE = "C.UTF-8"
"""What Python itself puts into LC_CTYPE where LANG asks for plain C (PEP 538)."""


@dataclass(frozen=True, slots=True)
class DisplayOptions:
    """How the dashboard draws. Colours are decided by TERM, COLORTERM and NO_COLOR alone, and carry no meaning.

    Attributes:
        ascii: every sign, frame and bar in ASCII.
        low_bandwidth: at most one paint a second, no histories.
        bell: a bell and a notification when something needs a person.
    """

    ascii: bool = False
    low_bandwidth: bool = False
    bell: bool = True

    @property
    def paint_interval(self) -> float:
        """Seconds between two paints: more often than an eye follows is only traffic on the line."""
        return 1.0 if self.low_bandwidth else 0.1

    @property
    def paint_tolerance(self) -> float:
        """Seconds that a paint may come before it is due: changes of the same pace are not held up by it."""
        return 0.0 if self.low_bandwidth else 0.05


def is_utf8_locale(environ: Mapping[str, str]) -> bool:
    """Whether the locale is a UTF-8 one. Where none is set nothing is known, and UTF-8 is taken, as Python does."""
    ctype = environ.get("LC_CTYPE", "")
    if ctype == _COERCED_LOCALE and environ.get("LANG") in ("C", "POSIX"):
        ctype = ""
    locale = environ.get("LC_ALL") or ctype or environ.get("LANG") or ""
    return not locale or locale.lower().replace("-", "").partition("@")[0].endswith("utf8")


def check_terminal(environ: Mapping[str, str]) -> None:
    """Whether a full screen can be drawn at all.

    Raises:
        ZddError: it cannot, by TERM.
    """
    term = environ.get("TERM", "")
    if term in ("", "dumb", "unknown"):
        text = f"TERM is {term}" if term else "TERM is not set"
        raise ZddError(
            f"this terminal cannot show the dashboard: {text}",
            "set TERM to what the terminal is, such as xterm-256color, or use `zdd status PLAN`",
        )

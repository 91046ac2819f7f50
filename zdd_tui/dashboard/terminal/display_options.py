"""What the terminal can show and how fast the connection to it is: decided once, from the environment and options."""

from collections.abc import Mapping
from dataclasses import dataclass

from zdd_tui.model.errors import ZddError

_COERCED_LOCALE = "C.UTF-8"
"""The value that Python itself sets in LC_CTYPE if LANG is plain C (PEP 538)."""


DEFAULT_THEME = "ansi-dark"
"""It uses the colours of the operator's terminal, and costs half the bytes of the others, which paint a background."""


@dataclass(frozen=True, slots=True)
class DisplayOptions:
    """How the dashboard draws. Colours are decided by TERM, COLORTERM and NO_COLOR alone, and carry no meaning.

    Attributes:
        ascii: every glyph, frame and bar in ASCII.
        low_bandwidth: at most one paint a second, no sparklines.
        bell: a bell and a notification when the release needs attention.
        theme: name of one of Textual's themes.
        tour: the demo's tour is shown above the release.
    """

    ascii: bool = False
    low_bandwidth: bool = False
    bell: bool = True
    theme: str = DEFAULT_THEME
    tour: bool = False

    @property
    def paint_interval(self) -> float:
        """Minimum seconds between two paints."""
        return 1.0 if self.low_bandwidth else 0.1

    @property
    def paint_tolerance(self) -> float:
        """Seconds that a paint may be early, so that changes at the same rate are not delayed."""
        return 0.0 if self.low_bandwidth else 0.05


def is_utf8_locale(environ: Mapping[str, str]) -> bool:
    """Whether the locale is a UTF-8 one. Without any setting UTF-8 is assumed, as Python does."""
    ctype = environ.get("LC_CTYPE", "")
    if ctype == _COERCED_LOCALE and environ.get("LANG") in ("C", "POSIX"):
        ctype = ""
    locale = environ.get("LC_ALL") or ctype or environ.get("LANG") or ""
    return not locale or locale.lower().replace("-", "").partition("@")[0].endswith("utf8")


def check_terminal(environ: Mapping[str, str]) -> None:
    """Checks that a full screen can be drawn.

    Raises:
        ZddError: TERM names a terminal that cannot.
    """
    term = environ.get("TERM", "")
    if term in ("", "dumb", "unknown"):
        text = f"TERM is {term}" if term else "TERM is not set"
        raise ZddError(
            f"this terminal cannot show the dashboard: {text}",
            "set TERM to the type of the terminal, such as xterm-256color, or use `zdd status PLAN`",
        )


def check_theme(name: str, origin: str = "--theme") -> None:
    """
    Args:
        origin: where the name comes from.

    Raises:
        ZddError: Textual has no theme of that name.
    """
    from textual.theme import BUILTIN_THEMES  # noqa: PLC0415  # slow; only a named theme needs it

    if name not in BUILTIN_THEMES:
        known = ", ".join(sorted(BUILTIN_THEMES))
        raise ZddError(f"{origin}: there is no theme {name!r}", f"use one of {known}")

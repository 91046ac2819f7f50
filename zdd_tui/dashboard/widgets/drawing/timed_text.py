"""A text about something that has just happened: with its age once it is not new, and for a bounded time."""

from dataclasses import dataclass

from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, format_age, wrap
from zdd_tui.model.release.claims import is_current

MAX_AGE_SECONDS = 60.0
"""Seconds for which a text is shown at most."""


@dataclass(frozen=True, slots=True)
class TimedText:
    """A text and the time of what it reports.

    Attributes:
        at: monotonic seconds.
    """

    text: str
    style: TextStyle
    at: float

    def lines(self, now: float, cells: int) -> list[Line]:
        """Wrapped to so many cells; none once it is old.

        Args:
            now: monotonic seconds.
        """
        age = max(0.0, now - self.at)
        if age > MAX_AGE_SECONDS:
            return []
        return wrap(self.text if is_current(age) else f"{format_age(age)} ago: {self.text}", cells, self.style)

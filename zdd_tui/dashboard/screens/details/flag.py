"""A flag: its value, who answers for it, and every change of it with who asked for that and why."""

from collections.abc import Sequence
from typing import ClassVar

from zdd_tui.dashboard.screens.details.base import DetailScreen, Look, Told, same_story
from zdd_tui.dashboard.state import FLAGS_STALE, Board, BoardSource, FlagView, Moment, Sourced
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, human_age, outside
from zdd_tui.model.queries import Story, StoryQuery
from zdd_tui.model.release.records import Event
from zdd_tui.model.release.strategy import Strategy
from zdd_tui.model.release.timeline import Try, timeline

_MEANING = {
    "write": "while it is on the application writes the new side too",
    "read": "this share of requests is answered by the new side",
    "shadow": "for this share of requests the new path runs too, unseen",
    "weight": "this share of users gets the new image's path",
}
_STEPS = {
    "write": ("write-flag-on", "delete-flags"),
    "read": ("read-ramp", "read-flag-on", "set-read", "delete-flags"),
    "shadow": ("set-shadow", "shadow-off"),
    "weight": ("set-weight",),
}
"""The work, by the flag's role, that changes it."""


class FlagScreen(DetailScreen):
    """One flag, by its key."""

    every: ClassVar[float] = 2.0

    def __init__(self, source: BoardSource, look: Look, key: str) -> None:
        super().__init__(source, look)
        self._key = key
        self._asked = self.will_ask(StoryQuery(), "the audit", same_story)

    def heading(self, board: Board) -> str:
        return f"flag {self._key}"

    def aged(self, board: Board) -> tuple[Sourced[object], float]:
        return board.flags, FLAGS_STALE

    def body(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        flag = next((each for each in board.flags.value or () if each.key == self._key), None)
        if flag is None:
            return [(("the flag is not among the release's", Tone.WARN),)]
        lines = [_value(flag), *self._about(flag, board, moment, cells), (), (("changes", Tone.DIM),)]
        lines += self.missing(self._asked, cells)
        record = board.release.value
        if self._asked.value is not None and record is not None:
            lines += history_lines(flag, record.release.strategy, self._asked.value, moment, cells, self.text)
        return lines

    def _about(self, flag: FlagView, board: Board, moment: Moment, cells: int) -> list[Line]:
        lines = self.text(f"ff:{flag.key} at {board.plan.flags or '?'}", cells, Tone.DIM)
        if meaning := _MEANING.get(flag.role):
            lines += self.text(f"{flag.role}: {meaning}", cells)
        lines += self.text(f"owner {flag.owner or 'nobody is named'}, expires {flag.expires or 'never'}", cells)
        if flag.changed_at is not None:
            ago = human_age(max(0.0, moment.wall - flag.changed_at))
            lines += self.text(f"this dashboard saw it change {ago} ago", cells, Tone.DIM)
        return lines


def _value(flag: FlagView) -> Line:
    if flag.problem:
        return ((f"✗ {outside(flag.problem)}", Tone.BAD),)
    if flag.value is None:
        return (("· unset: the application takes its default", Tone.DIM),)
    glyph = "○" if flag.value.off else "●" if flag.value.on else "◐"
    return ((f"{glyph} {flag.value}", Tone.NORMAL if flag.value.off else Tone.GOOD),)


def history_lines(
    flag: FlagView, strategy: Strategy, story: Story, moment: Moment, cells: int, told: Told
) -> list[Line]:
    """The tries of the steps that change the flag, newest first, each under the command that led to it."""
    works = _STEPS.get(flag.role, ())
    names = {spec.name for spec in strategy.steps if spec.key in works}
    tries = [
        item
        for stretch in timeline(strategy, story.events)
        for item in stretch.items
        if isinstance(item, Try) and item.step in names
    ]
    if not tries:
        return [(("this release has not changed it", Tone.DIM),)]
    lines: list[Line] = []
    for item in reversed(tries):
        verb, tone = ("undone", Tone.WARN) if item.undo else ("done", Tone.NORMAL)
        outcome = verb if item.outcome == "done" else item.outcome
        lines += told(f"{moment.clock.time_of_day(item.began)} {item.label}: {outcome}", cells, tone)
        lines += told(f"✗ {item.error}", cells, Tone.BAD, indent="         ") if item.error else []
        asked = _asked(story.events, item.began)
        if asked is not None:
            why = f": “{asked.why}”" if asked.why else ""
            lines += told(f"asked by {asked.actor}{why}", cells, Tone.DIM, indent="         ")
    return lines


def _asked(events: Sequence[Event], before: float) -> Event | None:
    """The newest command before a moment."""
    return next((event for event in reversed(events) if event.kind == "command" and event.at <= before), None)

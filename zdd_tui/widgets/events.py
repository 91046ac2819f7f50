"""The audit, newest first."""

from zdd_tui.board import RELEASE_STALE, Board, Clock, Moment, Sourced
from zdd_tui.model.records import Event
from zdd_tui.widgets.line import Line, Tone, clip, outside
from zdd_tui.widgets.pane import Pane

_MARKS = {"refused": ("✗ refused ", Tone.BAD), "error": ("✗ ", Tone.BAD), "command": ("» ", Tone.KEY)}


_OURS = ("agent", "guard")
"""Actors whose host matters only where there is room."""


class EventPane(Pane):
    """One line an event."""

    name_of_pane = "events"
    tells_error = False
    limit = RELEASE_STALE

    def source(self, board: Board) -> Sourced[object]:
        return board.release

    def body(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        record = board.release.value
        ordered = sorted(record.events, key=lambda event: event.id, reverse=True) if record else []
        if not ordered:
            return [(("nothing has happened yet", Tone.DIM),)]
        return [clip(event_line(event, moment.clock), cells) for event in ordered]


def event_line(event: Event, clock: Clock, *, full: bool = False) -> Line:
    """``14:02:11 ana@bastion resumed backfill: "lag recovered"``; our own hosts only where there is room."""
    who = str(event.actor) if full or event.actor.name not in _OURS else event.actor.name
    mark, tone = _MARKS.get(event.kind, ("", Tone.NORMAL))
    why = f": “{outside(event.why)}”" if event.why else ""
    return (
        (f"{clock.time_of_day(event.at)} ", Tone.DIM),
        (f"{outside(who)} ", Tone.DIM),
        (mark, tone),
        (outside(event.what), Tone.BAD if tone is Tone.BAD else Tone.NORMAL),
        (why, Tone.DIM),
    )

"""The audit, newest first."""

from collections.abc import Mapping, Sequence

from zdd_tui.dashboard.state import RELEASE_STALE, Board, Clock, Moment, Sourced
from zdd_tui.dashboard.widgets.drawing.line import Line, Span, Tone, cut, outside, width
from zdd_tui.dashboard.widgets.panes.columns import Column
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.release.records import Event

_MARKS = {"refused": ("✗ refused ", Tone.BAD), "error": ("✗ ", Tone.BAD), "command": ("» ", Tone.KEY)}


_OURS = ("agent", "guard")
"""Actors whose host matters only where there is room."""

_WIDE = 100
"""Cells from which on there is."""

_LONGEST_NAME = 24


class EventPane(TablePane[Event, Clock]):
    """A row an event."""

    name_of_pane = "events"
    tells_error = False
    limit = RELEASE_STALE
    titles_from = 9

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._ordered: tuple[object, list[Event]] = (None, [])

    def source(self, board: Board) -> Sourced[object]:
        return board.release

    def watched(self, board: Board) -> tuple[object, ...]:
        record = board.release.value
        return board.release.error, record is None, record.events if record else ()

    def rows(self, board: Board, moment: Moment) -> Sequence[Event]:
        record = board.release.value
        events = record.events if record is not None else ()
        if self._ordered[0] is not events:
            self._ordered = (events, sorted(events, key=lambda event: event.id, reverse=True))
        return self._ordered[1]

    def columns(self, board: Board, rows: Sequence[Event], cells: int) -> Sequence[Column[Event, Clock]]:
        return event_columns(rows, cells)

    def context(self, board: Board, moment: Moment) -> Clock:
        return moment.clock

    def identity(self, row: Event) -> str:
        return str(row.id)

    def labels(self, row: Event) -> Mapping[str, str]:
        return {"kind": row.kind, "actor": row.actor.name, "host": row.actor.host}

    def nothing(self, board: Board) -> Line:
        return (("nothing has happened yet", Tone.DIM),)


def event_columns(rows: Sequence[Event], cells: int) -> list[Column[Event, Clock]]:
    """The columns of these events. Cells get a clock that tells the time of day."""
    full = cells >= _WIDE
    longest = min(_LONGEST_NAME, max((len(outside(_who(row, full))) for row in rows), default=0))
    kind = max((len(outside(row.kind)) for row in rows), default=0)
    columns: list[Column[Event, Clock]] = [
        Column("time", "TIME", lambda row, clock: clock.time_of_day(row.at), 8, tone=lambda _row, _: Tone.DIM,
               sort=lambda row: row.at),
        Column("who", "WHO", lambda row, _: _who(row, full), min(5, longest), longest, tone=lambda _row, _: Tone.DIM,
               find=lambda row: str(row.actor)),
    ]  # fmt: skip
    if full:
        columns.append(
            Column(
                "kind",
                "KIND",
                lambda row, _: row.kind,
                min(8, kind),
                min(12, kind),
                find=lambda row: row.kind,
                tone=lambda _row, _: Tone.DIM,
            )
        )
    columns.append(
        Column(
            "what",
            "WHAT",
            lambda row, _: row.what,
            16,
            10_000,
            draw=_draw_what,
            find=lambda row: f"{_MARKS.get(row.kind, ('', None))[0]}{row.what} {row.why}",
        )
    )
    return columns


def _who(event: Event, full: bool) -> str:
    return str(event.actor) if full or event.actor.name not in _OURS else event.actor.name


def _what(event: Event) -> Line:
    mark, tone = _MARKS.get(event.kind, ("", Tone.NORMAL))
    why = f": “{outside(event.why)}”" if event.why else ""
    return (
        (mark, tone),
        (outside(event.what), Tone.BAD if tone is Tone.BAD else Tone.NORMAL),
        (why, Tone.DIM),
    )


def _draw_what(event: Event, _clock: Clock, cells: int) -> Line:
    spans: list[Span] = []
    for text, tone in _what(event):
        room = cells - width(tuple(spans))
        spans.append((cut(text, room), tone))
    return tuple(spans)


def event_line(event: Event, clock: Clock, *, full: bool = False) -> Line:
    """``14:02:11 ana@bastion resumed backfill: "lag recovered"``; our own hosts only where there is room."""
    return (
        (f"{clock.time_of_day(event.at)} ", Tone.DIM),
        (f"{outside(_who(event, full))} ", Tone.DIM),
        *_what(event),
    )

"""The audit, newest first."""

from collections.abc import Mapping, Sequence

from zdd_tui.dashboard.state import Clock, DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, Span, TextStyle, line_width, sanitize, truncate
from zdd_tui.dashboard.widgets.panes.columns import PaneColumn, dim_style
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.release.records import Event

_KIND_PREFIXES = {
    "refused": ("✗ refused ", TextStyle.BAD),
    "error": ("✗ ", TextStyle.BAD),
    "command": ("» ", TextStyle.KEY),
}


_OWN_ACTORS = ("agent", "guard")
"""Actors whose host is shown only in a wide pane."""

_WIDE_FROM = 100
"""Width in cells from which a pane is wide."""

_MAX_NAME_WIDTH = 24


RETURN_SECONDS = 60.0
"""Seconds without a key after which the scrolled pane returns to the newest event."""


class EventPane(TablePane[Event, Clock]):
    """One row per event. While it is scrolled it counts the newer events above, and later returns to them."""

    pane_name = "events"
    fixed_columns = frozenset({"time", "what"})
    title_action = "timeline"
    titles_from_height = 9

    def __init__(self) -> None:
        super().__init__()
        self._sorted_events: tuple[object, list[Event]] = (None, [])
        self._was_touched = False
        self._touched_at: float | None = None
        """When it was scrolled last, in monotonic seconds; None at the newest event."""

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        record = board.release.value
        return board.release.error, record is None, record.events if record else ()

    def rows(self, board: DashboardState, context: RenderContext) -> Sequence[Event]:
        record = board.release.value
        events = record.events if record is not None else ()
        if self._sorted_events[0] is not events:
            self._sorted_events = (events, sorted(events, key=lambda event: event.id, reverse=True))
        return self._sorted_events[1]

    def columns(self, board: DashboardState, rows: Sequence[Event], cells: int) -> Sequence[PaneColumn[Event, Clock]]:
        return event_columns(rows, cells)

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> Sequence[Line]:
        """Also returns to the newest event some time after the last key."""
        lines, store = super().lines(board, context, cells), self._store
        if store.first_visible == 0 or self._sort or self._is_descending:
            self._touched_at = None
        elif self._touched_at is None or self._was_touched:
            self._touched_at = context.now
        elif context.now - self._touched_at > RETURN_SECONDS:
            store.scroll(-store.first_visible)
            if self._focused:
                store.move_cursor(0)
        self._was_touched = False
        return lines

    def _move_cursor(self, rows: int) -> None:
        self._was_touched = True
        super()._move_cursor(rows)

    def _scroll_rows(self, rows: int) -> None:
        self._was_touched = True
        super()._scroll_rows(rows)

    def position_text(self) -> str:
        position, newer = super().position_text(), self._store.first_visible
        return f"{newer} newer ↑ {position}" if newer and not (self._sort or self._is_descending) else position

    def cell_context(self, board: DashboardState, context: RenderContext) -> Clock:
        return context.clock

    def identity(self, row: Event) -> str:
        return str(row.id)

    def labels(self, row: Event) -> Mapping[str, str]:
        return {"kind": row.kind, "actor": row.actor.name, "host": row.actor.host}

    def empty_line(self, board: DashboardState) -> Line:
        return (("no events yet", TextStyle.DIM),)


def event_columns(rows: Sequence[Event], cells: int) -> list[PaneColumn[Event, Clock]]:
    """The columns for these events and a width in cells. The cell context is a clock."""
    full = cells >= _WIDE_FROM
    longest = min(_MAX_NAME_WIDTH, max((len(sanitize(_actor_text(row, full))) for row in rows), default=0))
    kind = max((len(sanitize(row.kind)) for row in rows), default=0)
    columns: list[PaneColumn[Event, Clock]] = [
        PaneColumn("time", "TIME", lambda row, clock: clock.time_of_day(row.at), 8, style=dim_style,
               sort=lambda row: row.at),
        PaneColumn("who", "WHO", lambda row, _: _actor_text(row, full), min(5, longest), longest, style=dim_style,
               find=lambda row: str(row.actor)),
        PaneColumn("kind", "KIND", lambda row, _: row.kind, min(8, kind), min(12, kind), style=dim_style,
               find=lambda row: row.kind),
        PaneColumn("what", "WHAT", lambda row, _: row.message, 16, 10_000, draw=_draw_event, weight=4,
               find=lambda row: f"{_KIND_PREFIXES.get(row.kind, ('', None))[0]}{row.message} {row.reason}"),
    ]  # fmt: skip
    return [column for column in columns if full or column.key != "kind"]


def _actor_text(event: Event, full: bool) -> str:
    """Name and host; the database role only in a wide pane, the host of agent and guard too."""
    actor = event.actor
    is_own = actor.name in _OWN_ACTORS and not actor.role
    if full:
        return str(actor)
    return actor.name if is_own else f"{actor.name}@{actor.host}"


def _event_text(event: Event) -> Line:
    mark, style = _KIND_PREFIXES.get(event.kind, ("", TextStyle.NORMAL))
    reason = f": “{sanitize(event.reason)}”" if event.reason else ""
    return (
        (mark, style),
        (sanitize(event.message), TextStyle.BAD if style is TextStyle.BAD else TextStyle.NORMAL),
        (reason, TextStyle.DIM),
    )


def _draw_event(event: Event, _clock: Clock, cells: int) -> Line:
    spans: list[Span] = []
    for text, style in _event_text(event):
        room = cells - line_width(tuple(spans))
        spans.append((truncate(text, room), style))
    return tuple(spans)


def event_line(event: Event, clock: Clock, *, full: bool = False) -> Line:
    """``14:02:11 ana@bastion resumed backfill: “lag recovered”``.

    Args:
        full: with the host of agent and guard.
    """
    return (
        (f"{clock.time_of_day(event.at)} ", TextStyle.DIM),
        (f"{sanitize(_actor_text(event, full))} ", TextStyle.DIM),
        *_event_text(event),
    )

"""The releases of the fleet as a table: those that have not ended, or the history."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from rich.cells import cell_len
from textual.message import Message

from zdd_tui.dashboard.state import DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.drawing.glyphs import SEVERITY_STYLES, VERDICT_GLYPHS, VERDICT_ORDER
from zdd_tui.dashboard.widgets.drawing.line import Line, Span, TextStyle, format_age, sanitize, truncate, wrap
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.dashboard.widgets.panes.columns import PaneColumn
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.duration import format_duration
from zdd_tui.model.fleet.rows import Fleet, FleetRow, summarize_history
from zdd_tui.model.release.claims import format_silence, is_current, uncounted_seconds
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.model.release.summary import Severity

COLOUR_STYLES: Mapping[str, TextStyle] = {
    "red": TextStyle.BAD,
    "yellow": TextStyle.WARN,
    "green": TextStyle.GOOD,
    "blue": TextStyle.RUNNING,
    "grey": TextStyle.DIM,
}
"""Of the configured colours; the terminal's own palette decides how they look."""


AnsweredAt = Callable[[str], float | None]
"""When a database was last read, by its name: seconds since the epoch by this machine's clock; None for never."""


LeaseEnds = Callable[[FleetRow], float | None]
"""When the lease of a release's agent ends unless it is renewed, as :data:`AnsweredAt`."""


def _never(_of: object) -> None:
    return None


class FleetCellContext(NamedTuple):
    """What cells need besides the row."""

    wall: float
    colours: Mapping[str, str]
    answered_at: AnsweredAt = _never
    lease_ends: LeaseEnds = _never

    def data_age(self, row: FleetRow) -> float | None:
        """Seconds since a release was read; None for what is no reading, or cannot change: an ended release."""
        at = None if row.release_id is None or row.has_ended else self.answered_at(row.database)
        return None if at is None else max(0.0, self.wall - at)

    def silence(self, row: FleetRow) -> float | None:
        """As :meth:`data_age`, once the reading is old; None before."""
        age = self.data_age(row)
        return None if age is None or is_current(age) else age

    def is_unanswered(self, row: FleetRow) -> bool:
        """Its database has not been read for a time."""
        return row.is_last_known or self.silence(row) is not None

    def is_old(self, row: FleetRow) -> bool:
        """Its values were so, and need not be so now: there is no newer reading, or the lease has ended since it."""
        ends = self.lease_ends(row) if row.agent and not row.has_ended else None
        return self.is_unanswered(row) or (ends is not None and self.wall > ends)


_NORMAL = TextStyle.NORMAL

_WIDE_CELLS = 100
"""Width from which places and groups give way to whole names."""

_UNKNOWN = f"{VERDICT_GLYPHS[Verdict.UNKNOWN][0]} {Verdict.UNKNOWN}"
"""Guard and agent of a release whose database is silent: what they were a moment ago opens nothing."""

FleetColumn = PaneColumn[FleetRow, FleetCellContext]


class ColumnNeeds(NamedTuple):
    """Widths in cells of the longest texts; 0 for a column that is not needed."""

    name: int = 8
    region: int = 0
    environment: int = 3
    phase: int = 5
    database: int = 0
    group: int = 0


class CursorMoved(Message):
    """The cursor may be on another row."""


class BackRequested(Message):
    """Escape, where there is no filter to remove."""


class FleetPane(TablePane[FleetRow, FleetCellContext]):
    """One row per release. It shows :attr:`fleet`, not the state of a dashboard."""

    pane_name = "fleet"
    fixed_columns = frozenset({"state", "name"})

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet()
        self.colours: Mapping[str, str] = {}
        self.answered_at: AnsweredAt = _never
        self.lease_ends: LeaseEnds = _never
        self.has_history = False
        """Ended releases are shown instead of the others."""
        self.is_cursor_moved = False
        """A key was pressed: from then on the cursor follows its row."""
        self._shown_row: FleetRow | None = None
        self._measured: tuple[Sequence[FleetRow], ColumnNeeds] = ((), ColumnNeeds())

    def source(self, board: DashboardState) -> Observed[object]:
        return Observed(self.fleet)

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        return self.fleet, self.has_history

    def is_uncertain(self, board: DashboardState, context: RenderContext) -> bool:
        """Old rows are dimmed one by one."""
        return False

    def draw(self, board: DashboardState, context: RenderContext) -> None:
        if self.fleet.pending and not self.is_cursor_moved:  # the first answers are not the most urgent rows
            self._store.cursor_index, self._store.cursor_identity = -1, ""
        LineView.draw(self, board, context)  # the fleet has no single age for the title
        self._update_title(summarize_history(self.fleet) if self.has_history else "releases")

    def rows(self, board: DashboardState, context: RenderContext) -> Sequence[FleetRow]:
        return self.fleet.ended if self.has_history else self.fleet.active

    def columns(self, board: DashboardState, rows: Sequence[FleetRow], cells: int) -> Sequence[FleetColumn]:
        if self._measured[0] is not rows:
            self._measured = rows, measure_columns(rows)
        needs = self._measured[1]
        is_wide = cells >= _WIDE_CELLS
        return history_columns(needs, is_wide) if self.has_history else active_columns(needs, is_wide)

    def cell_context(self, board: DashboardState, context: RenderContext) -> FleetCellContext:
        return FleetCellContext(context.wall, self.colours, self.answered_at, self.lease_ends)

    def is_row_old(self, row: FleetRow, cell_context: FleetCellContext) -> bool:
        return cell_context.is_old(row)

    def identity(self, row: FleetRow) -> str:
        return row.key

    def empty_line(self, board: DashboardState) -> Line:
        if self.has_history:
            unread = self.fleet.unanswered + self.fleet.pending
            where = (
                f" in the databases that respond; not known for {unread} of {self.fleet.databases}" if unread else ""
            )
            return ((f"no release has ended yet{where}", TextStyle.WARN if unread else TextStyle.DIM),)
        text = "no active release; the history has those that have ended" if self.fleet.databases else "no database"
        return ((text, TextStyle.DIM),)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """It has the whole screen."""
        return action != "maximise"

    def on_resize(self) -> None:  # besides that of the table: Textual calls both
        self.post_message(CursorMoved())  # with a size it has a row under the cursor

    def set_lines(self, lines: Sequence[Line]) -> None:
        """A filter, an order or new rows may give the cursor another row."""
        before, self._shown_row = self._shown_row, self.selected_row
        super().set_lines(lines)
        if self._shown_row is not before:
            self.post_message(CursorMoved())

    def _move_cursor(self, rows: int) -> None:
        super()._move_cursor(rows)
        self._shown_row = self.selected_row
        self.post_message(CursorMoved())

    def action_back(self) -> None:
        """Removes the filter first, then leaves."""
        if self._filter.is_visible:
            super().action_back()
        else:
            self.post_message(BackRequested())


def measure_columns(rows: Sequence[FleetRow]) -> ColumnNeeds:
    """Bounded widths of the columns, the same for equal sets of texts."""

    def longest(text: Callable[[FleetRow], str], limit: int, title: int = 0) -> int:
        widest = min(limit, max((cell_len(text(row)) for row in rows), default=0))
        return max(widest, title) if widest else 0

    return ColumnNeeds(
        max(8, longest(lambda row: row.name, 40)),
        longest(lambda row: row.region, 27, len("REGION")),
        max(3, longest(lambda row: row.environment, 20)),  # an error begins in this column
        max(5, longest(lambda row: row.phase, 14)),
        longest(lambda row: row.database, 30, len("DATABASE")),
        longest(lambda row: row.group, 20, len("GROUP")),
    )


@lru_cache(maxsize=8)
def active_columns(needs: ColumnNeeds, is_wide: bool) -> Sequence[FleetColumn]:
    """The columns of releases that have not ended, the most important ones first."""
    return _kept(
        needs,
        [
            _state_column(),
            *_name_columns(needs, is_wide),
            PaneColumn(
                "phase", "PHASE", lambda row, _: row.phase, min(12 if is_wide else 8, needs.phase), needs.phase,
                drop_order=1, draw=lambda row, _, cells: ((_first_words(row.phase, " ", cells), _NORMAL),),
                find=lambda row: row.phase, sort=lambda row: row.share,
            ),
            PaneColumn(
                "progress", "PROGRESS", lambda row, _: row.progress, 9, 10, drop_order=3,
                sort=lambda row: row.share,
            ),
            PaneColumn(
                "waits", "WAITS FOR", lambda row, _: row.waits_for, 12 if is_wide else 8, 40,
                draw=lambda row, context, cells: ((_first_words(_waits_text(row, context), ": ", cells), _NORMAL),),
                find=lambda row: row.waits_for or _ended_cause(row),
            ),
            PaneColumn(
                "since", "SINCE", _since_text, 5, align_right=True,
                sort=lambda row: row.listed_since,
            ),
            PaneColumn(
                "guard", "GUARD", _guard_text, 6, 16, drop_order=4,
                draw=lambda row, context, cells: _draw_state(
                    _guard_text(row, context), _guard_style(row, context), cells
                ),
                find=lambda row: "" if row.guard is None else f"{row.guard} {row.guard_rule}",
                sort=lambda row: None if row.guard is None else VERDICT_ORDER[row.guard],
            ),
            PaneColumn(
                "agent", "AGENT", _agent_text, 7, 20, drop_order=5,
                draw=lambda row, context, cells: _draw_state(
                    _agent_text(row, context), _agent_style(row, context), cells
                ),
                find=_find_agent,
            ),
            PaneColumn(
                "age", "AGE", lambda row, context: _age(row, row.created_at, context), 4, align_right=True,
                drop_order=6, style=_dim, sort=_newest_first,
            ),
            *_place_columns(needs),
        ],
    )  # fmt: skip


@lru_cache(maxsize=8)
def history_columns(needs: ColumnNeeds, is_wide: bool) -> Sequence[FleetColumn]:
    """The columns of ended releases."""
    return _kept(
        needs,
        [
            _state_column(),
            *_name_columns(needs, is_wide),
            PaneColumn(
                "ended", "ENDED", lambda row, context: _age(row, row.finished_at, context), 5, align_right=True,
                sort=lambda row: None if row.finished_at is None else -row.finished_at,
            ),
            PaneColumn(
                "duration", "TOOK", lambda row, _: _duration(row.duration), 6, align_right=True,
                sort=lambda row: row.duration,
            ),
            PaneColumn(
                "rollbacks", "ROLLBACK", _rollback_text, 8, align_right=True,
                find=lambda row: str(row.rollbacks), sort=lambda row: row.rollback_seconds,
            ),
            PaneColumn(
                "cause", "CAUSE", lambda row, _: row.cause, 30 if is_wide else 8, 80,
                find=lambda row: row.cause,
            ),
            *_place_columns(needs),
        ],
    )  # fmt: skip


def _kept(needs: ColumnNeeds, columns: list[FleetColumn]) -> Sequence[FleetColumn]:
    widths = needs._asdict()
    return [column for column in columns if widths.get(column.key, 1)]


def _state_column() -> FleetColumn:
    return PaneColumn(
        "state", "STATE", lambda row, context: f"{'?' if context.is_old(row) else row.glyph} {row.label}", 19,
        style=lambda row, _: _STATE_STYLES.get(row.state, _severity_style(row)),
        find=lambda row: row.label, sort=lambda row: row.urgency,
    )  # fmt: skip


_STATE_STYLES: Mapping[ReleaseState | None, TextStyle] = {ReleaseState.ROLLED_BACK: TextStyle.WARN}


def _severity_style(row: FleetRow) -> TextStyle:
    """As the badge of the release's screen, but not reversed: a whole column of badges would be a wall."""
    return TextStyle.BAD if row.severity is Severity.ERROR else SEVERITY_STYLES[row.severity]


def _name_columns(needs: ColumnNeeds, is_wide: bool) -> list[FleetColumn]:
    return [
        PaneColumn(
            "name", "RELEASE", lambda row, _: row.name, min(16 if is_wide else 14, needs.name), needs.name,
            style=lambda _row, _: TextStyle.STRONG, find=lambda row: row.name,
        ),
        PaneColumn(
            "region", "REGION", lambda row, _: row.region, needs.region, find=lambda row: row.region,
        ),
        PaneColumn(
            "environment", "ENV", lambda row, _: row.environment, needs.environment,
            style=_environment_style, find=lambda row: row.environment, group_label=_error_label, group_span=20,
        ),
    ]  # fmt: skip


def _place_columns(needs: ColumnNeeds) -> list[FleetColumn]:
    return [
        PaneColumn(
            "database", "DATABASE", lambda row, _: row.database, min(8, needs.database), needs.database, drop_order=7,
            style=_dim, find=lambda row: row.database,
        ),
        PaneColumn(
            "group", "GROUP", lambda row, _: row.group, min(6, needs.group), needs.group, drop_order=8, style=_dim,
            find=lambda row: row.group,
        ),
    ]  # fmt: skip


def _first_words(text: str, separator: str, cells: int) -> str:
    """What is before the separator, where the whole text does not fit: ``backfill`` for ``backfill 3/6``."""
    text = sanitize(text)
    return text if cell_len(text) <= cells else truncate(text.partition(separator)[0], cells)


def _dim(_row: FleetRow, _context: FleetCellContext) -> TextStyle:
    return TextStyle.DIM


def _environment_style(row: FleetRow, context: FleetCellContext) -> TextStyle:
    colour = context.colours.get(row.environment.lower(), "")
    return COLOUR_STYLES.get(colour, TextStyle.NORMAL)


def _error_label(row: FleetRow, _context: FleetCellContext) -> Span | None:
    """Of a database without a release, or that does not answer, the text takes the place of all columns."""
    if not row.error:
        return None
    environment = f"{row.environment}: " if row.environment else ""
    return f"{environment}{row.error}", TextStyle.DIM if row.severity is Severity.IDLE else TextStyle.BAD


def _draw_state(text: str, style: TextStyle, cells: int) -> Line:
    """``?`` alone where ``? unknown`` does not fit."""
    return ((_first_words(text, " ", cells) if text == _UNKNOWN else truncate(sanitize(text), cells), style),)


def _guard_text(row: FleetRow, context: FleetCellContext) -> str:
    if row.guard is None:
        return ""
    if context.is_old(row):
        return _UNKNOWN
    glyph, _ = VERDICT_GLYPHS[row.guard]
    return f"{glyph} {row.guard if glyph == '✔' else row.guard_rule or row.guard}"


def _guard_style(row: FleetRow, _context: FleetCellContext) -> TextStyle:
    return TextStyle.DIM if row.guard is None else VERDICT_GLYPHS[row.guard][1]


def _agent_text(row: FleetRow, context: FleetCellContext) -> str:
    if context.is_old(row) and not row.has_ended:
        return _UNKNOWN
    return row.agent if row.has_agent else "✗ none"


def _agent_style(row: FleetRow, _context: FleetCellContext) -> TextStyle:
    return TextStyle.NORMAL if row.has_agent else TextStyle.BAD


def _find_agent(row: FleetRow) -> str:
    if row.is_last_known and not row.has_ended:
        return str(Verdict.UNKNOWN)
    return row.agent if row.has_agent else "none"


def _newest_first(row: FleetRow) -> float | None:
    return None if row.created_at is None else -row.created_at


def _age(row: FleetRow, at: float | None, context: FleetCellContext) -> str:
    seconds = row.seconds_since(at, context.wall)
    return "" if seconds is None else format_age(seconds)


def _waiting_seconds(row: FleetRow, context: FleetCellContext) -> float | None:
    """How long it was known to wait: the time stops with the readings. Of an ended release how long ago it ended."""
    return row.seconds_since(row.listed_since, context.wall - uncounted_seconds(context.data_age(row) or 0.0))


def _since_text(row: FleetRow, context: FleetCellContext) -> str:
    """How long a release has waited; ``>`` where its row is old, because it may have waited on since."""
    seconds = _waiting_seconds(row, context)
    sign = ">" if context.is_old(row) and not row.has_ended else ""
    return "" if seconds is None else f"{sign}{format_age(seconds)}"


def _waits_text(row: FleetRow, context: FleetCellContext) -> str:
    """Whom or what it waits for; of an old row when it was read comes first. Of an ended release why it ended."""
    silence = context.silence(row)
    read = "" if silence is None else f"{format_age(silence)} ago"
    return ": ".join(filter(None, (read, row.waits_for or _ended_cause(row))))


def _ended_cause(row: FleetRow) -> str:
    return row.cause if row.has_ended else ""


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else format_duration(seconds)


def _rollback_text(row: FleetRow, _context: FleetCellContext) -> str:
    if row.state is not ReleaseState.ROLLED_BACK:
        return ""
    took = _duration(row.rollback_seconds) or "?"
    return f"{row.rollbacks}× {took}" if row.rollbacks > 1 else took


def fleet_detail_lines(row: FleetRow | None, context: FleetCellContext, cells: int) -> list[Line]:
    """The row under the cursor in full: where it is, what it waits for, why, and what to do."""
    if row is None:
        return []
    where = ", ".join(filter(None, (row.environment, row.region and f"region {row.region}", row.group)))
    head = f"{row.name}{f' ({where})' if where else ''} in {row.database}" if row.release_id is not None else row.name
    lines = wrap(head, cells, TextStyle.STRONG)[:1]
    seconds = _waiting_seconds(row, context)
    verb, since = "waits", "" if seconds is None else f", for {format_duration(seconds)}"
    if context.is_old(row):
        verb, since = "waited", since and f"{since} then"
        age = context.data_age(row)
        when = "last known values" if age is None else f"values of {format_silence(age)} ago"
        lost = "database has not responded" if context.is_unanswered(row) else "agent has not renewed its lease"
        lines += wrap(f"{when}: its {lost} since", cells, TextStyle.WARN)
    if row.error:
        silence = f"; last response {format_duration(seconds)} ago" if seconds is not None else ""
        lines += wrap(f"{row.error}{silence}", cells, TextStyle.NORMAL)
    waits = f"{verb} for {row.waits_for}{since}" if row.waits_for else ""
    if row.has_ended and seconds is not None:
        waits = f"{row.label.lower()} {format_duration(seconds)} ago"
    if not row.error and (facts := [text for text in (row.phase, row.progress, waits) if text]):
        lines += wrap(", ".join(facts), cells, TextStyle.NORMAL)
    if row.cause:
        lines += wrap(row.cause, cells, TextStyle.WARN)
    return lines + (wrap(f"→ Fix: {row.hint}", cells, TextStyle.STRONG) if row.hint else [])

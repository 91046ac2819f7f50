"""The release's flags."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

from zdd_tui.dashboard.state import FLAGS_STALE_SECONDS, DashboardState, FlagView, Observed, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, format_age, sanitize, truncate
from zdd_tui.dashboard.widgets.panes.columns import PaneColumn, dim_style
from zdd_tui.dashboard.widgets.panes.table import TablePane

_DAY = 86400.0


class FlagContext(NamedTuple):
    """What cells need besides the row.

    Attributes:
        wall: seconds since the epoch by this machine's clock.
        is_old: the values were so, and need not be so now.
    """

    wall: float
    is_old: bool = False


class FlagPane(TablePane[FlagView, FlagContext]):
    """One row per flag: role, value, key, last change, the day by which to remove it, and owner. A wrong one comes
    first, then the one of the reads: it decides what users get, and a low pane shows one row.
    """

    pane_name = "flags"
    shows_error = True
    stale_after = FLAGS_STALE_SECONDS

    def has_room_for_titles(self, rows: int, lines: int) -> bool:
        """Only where they hide no flag."""
        return lines > rows

    def source(self, board: DashboardState) -> Observed[object]:
        return board.flags

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        record = board.release.value
        return board.flags.value, board.flags.error, record.steps if record else ()

    def rows(self, board: DashboardState, context: RenderContext) -> Sequence[FlagView]:
        return sorted(board.flags.value or (), key=lambda flag: (not flag.problem, flag.role != "read"))

    def columns(
        self, board: DashboardState, rows: Sequence[FlagView], cells: int
    ) -> Sequence[PaneColumn[FlagView, FlagContext]]:
        return flag_columns(rows, {flag.key: last_changed_at(board, flag) for flag in rows})

    def cell_context(self, board: DashboardState, context: RenderContext) -> FlagContext:
        return FlagContext(context.wall, self.is_uncertain(board, context))

    def identity(self, row: FlagView) -> str:
        return row.key

    def labels(self, row: FlagView) -> Mapping[str, str]:
        return {"role": row.role, "owner": row.owner, "expires": row.expires}

    def notes(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return flag_notes(board.flags.value or (), cells)


def flag_notes(flags: Sequence[FlagView], cells: int) -> list[Line]:
    """Values that are not valid."""
    return [((truncate(f"✗ {flag.role}: {flag.problem}", cells), TextStyle.BAD),) for flag in flags if flag.problem]


def flag_columns(
    rows: Sequence[FlagView], changes: Mapping[str, float | None]
) -> list[PaneColumn[FlagView, FlagContext]]:
    """The columns for these flags.

    Args:
        changes: time of each flag's last change in seconds since the epoch, by its key; None where it is unknown.
    """

    def since(row: FlagView, context: FlagContext) -> str:
        at = changes.get(row.key)
        return "" if at is None else format_age(context.wall - at)

    longest = max([5, *(len(row.owner) for row in rows)])
    columns: list[PaneColumn[FlagView, FlagContext]] = [
        PaneColumn(
            "role", "ROLE", lambda row, _: row.role, max((len(row.role) for row in rows), default=5),
            find=lambda row: row.role,
        ),
        PaneColumn("value", "VALUE", _value_text, 9,
               style=lambda row, _: _value_cell(row)[2], find=lambda row: _value_cell(row)[1],
               sort=lambda row: row.value.percent if row.value else None),
        PaneColumn(
            "key", "FLAG", lambda row, _: row.key, 12, max((len(sanitize(row.key)) for row in rows), default=12),
            keep_end=True, style=dim_style, find=lambda row: row.key,
        ),
        PaneColumn("since", "SINCE", since, 5, align_right=True, drop_order=1, style=dim_style,
               sort=lambda row: changes.get(row.key)),
        PaneColumn("expires", "REMOVE BY", _removal_text, 9, drop_order=2, style=_removal_style,
               sort=lambda row: row.expires or None),
        PaneColumn("owner", "OWNER", lambda row, _: row.owner, min(8, longest), longest, drop_order=3,
               find=lambda row: row.owner),
    ]  # fmt: skip
    empty = {"expires": not any(row.expires for row in rows), "owner": not any(row.owner for row in rows)}
    return [column for column in columns if not empty.get(column.key)]


def _value_cell(flag: FlagView) -> tuple[str, str, TextStyle]:
    """Glyph, word and style."""
    if flag.problem:
        return "✗", "invalid", TextStyle.BAD
    if flag.value is None:
        return "·", "unset", TextStyle.DIM
    if flag.value.is_off:
        return "○", "off", TextStyle.NORMAL
    return ("●" if flag.value.is_on else "◐"), str(flag.value), TextStyle.GOOD


def _value_text(flag: FlagView, context: FlagContext) -> str:
    glyph, word, _ = _value_cell(flag)
    if context.is_old and not flag.problem:
        return f"? was {word}" if flag.value is not None else f"? {word}"
    return f"{glyph} {word}"


def days_left(flag: FlagView, now: float) -> int | None:
    """Whole days until a flag that is set should be removed, negative afterwards; None without a date.

    Args:
        now: seconds since the epoch.
    """
    if not flag.expires or (flag.value is None and not flag.problem):
        return None
    return (date.fromisoformat(flag.expires) - datetime.fromtimestamp(now, UTC).date()).days


def _removal_text(flag: FlagView, context: FlagContext) -> str:
    left = days_left(flag, context.wall)
    if left is None:
        return ""
    return f"✗ {-left}d late" if left < 0 else "today" if left == 0 else f"in {left}d"


def _removal_style(flag: FlagView, context: FlagContext) -> TextStyle:
    left = days_left(flag, context.wall)
    return TextStyle.BAD if left is not None and left < 0 else TextStyle.DIM


def last_changed_at(board: DashboardState, flag: FlagView) -> float | None:
    """Time of a flag's last change: as seen by this dashboard, or by the release's step that switches it."""
    record = board.release.value
    steps = record.steps if record is not None else ()
    known = [step.ended_at for step in steps if step.name.startswith(f"{flag.role}-flag") and step.ended_at is not None]
    return max([*known, *([flag.changed_at] if flag.changed_at is not None else [])], default=None)

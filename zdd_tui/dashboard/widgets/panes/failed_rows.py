"""The rows that the backfill could not copy."""

from collections.abc import Sequence

from zdd_tui.dashboard.state import Clock, DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, sanitize
from zdd_tui.dashboard.widgets.panes.columns import PaneColumn, dim_style
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.release.records import FailedRow


class FailedRowsPane(TablePane[FailedRow, Clock]):
    """One row per failed row. They are not part of the dashboard's state: :meth:`set_failed_rows` provides them."""

    pane_name = "failed rows"
    stale_after = 15.0
    titles_from_height = 2

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._failed_rows: Observed[Sequence[FailedRow]] = Observed()

    def heading(self, board: DashboardState, context: RenderContext) -> str:
        count = len(self._failed_rows.value or ())
        return f"{count} {'row' if count == 1 else 'rows'} failed"

    def set_failed_rows(self, failed_rows: Observed[Sequence[FailedRow]]) -> None:
        self._failed_rows = failed_rows
        self.redraw()

    def source(self, board: DashboardState) -> Observed[object]:
        return self._failed_rows

    def rows(self, board: DashboardState, context: RenderContext) -> Sequence[FailedRow]:
        return self._failed_rows.value or ()

    def columns(
        self, board: DashboardState, rows: Sequence[FailedRow], cells: int
    ) -> Sequence[PaneColumn[FailedRow, Clock]]:
        return failed_rows_columns(rows)

    def cell_context(self, board: DashboardState, context: RenderContext) -> Clock:
        return context.clock

    def identity(self, row: FailedRow) -> str:
        return key_text(row)

    def empty_line(self, board: DashboardState) -> Line:
        return (("✔ no failed rows", TextStyle.GOOD),)


def key_text(row: FailedRow) -> str:
    return ", ".join(row.key)


def failed_rows_columns(rows: Sequence[FailedRow]) -> list[PaneColumn[FailedRow, Clock]]:
    """The columns for these rows. The cell context is a clock."""
    longest = min(36, max((len(sanitize(key_text(row))) for row in rows), default=3))
    return [
        PaneColumn("key", "KEY", lambda row, _: key_text(row), min(8, longest), longest, find=key_text),
        PaneColumn("reason", "REASON", lambda row, _: row.reason, 16, 10_000, style=lambda _row, _: TextStyle.BAD,
               find=lambda row: row.reason),
        PaneColumn("time", "AT", lambda row, clock: clock.time_of_day(row.at), 8, drop_order=1,
               style=dim_style, sort=lambda row: row.at),
    ]  # fmt: skip

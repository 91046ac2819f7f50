"""The rows that the backfill could not move."""

from collections.abc import Sequence

from zdd_tui.dashboard.state import Board, Clock, Moment, Sourced
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, outside
from zdd_tui.dashboard.widgets.panes.columns import Column
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.release.records import FailedRow


class LedgerPane(TablePane[FailedRow, Clock]):
    """A row a failed row. It is no part of the board: whoever has read the ledger gives it with :meth:`give`."""

    name_of_pane = "failed rows"
    limit = 15.0
    titles_from = 2

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._given: Sourced[Sequence[FailedRow]] = Sourced()

    def heading(self, board: Board, moment: Moment) -> str:
        count = len(self._given.value or ())
        return f"{count} {'row' if count == 1 else 'rows'} could not be moved"

    def give(self, ledger: Sourced[Sequence[FailedRow]]) -> None:
        self._given = ledger
        self.redraw()

    def source(self, board: Board) -> Sourced[object]:
        return self._given

    def rows(self, board: Board, moment: Moment) -> Sequence[FailedRow]:
        return self._given.value or ()

    def columns(self, board: Board, rows: Sequence[FailedRow], cells: int) -> Sequence[Column[FailedRow, Clock]]:
        return ledger_columns(rows)

    def context(self, board: Board, moment: Moment) -> Clock:
        return moment.clock

    def identity(self, row: FailedRow) -> str:
        return key_text(row)

    def nothing(self, board: Board) -> Line:
        return (("✔ no row has failed", Tone.GOOD),)


def key_text(row: FailedRow) -> str:
    return ", ".join(row.key)


def ledger_columns(rows: Sequence[FailedRow]) -> list[Column[FailedRow, Clock]]:
    """The columns of these rows. Cells get a clock that tells the time of day."""
    longest = min(36, max((len(outside(key_text(row))) for row in rows), default=3))
    return [
        Column("key", "KEY", lambda row, _: key_text(row), min(8, longest), longest, find=key_text),
        Column("reason", "REASON", lambda row, _: row.reason, 16, 10_000, tone=lambda _row, _: Tone.BAD,
               find=lambda row: row.reason),
        Column("time", "AT", lambda row, clock: clock.time_of_day(row.at), 8, gives_way=1,
               tone=lambda _row, _: Tone.DIM, sort=lambda row: row.at),
    ]  # fmt: skip

"""The tables that operations fill, one of which can be paused or resumed by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from zdd_tui.dashboard.screens.dialog import (
    FollowingDialog,
    KeyHints,
    PageView,
    key_hints_line,
    reading_age_lines,
    target_lines,
    text_field,
)
from zdd_tui.dashboard.state import Clock, DashboardState, RenderContext
from zdd_tui.dashboard.widgets.bars.footer import disabled_reason
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, clip, fit, sanitize, wrap
from zdd_tui.dashboard.widgets.panes.backfill import backfill_progress, fill_line
from zdd_tui.model.release.claims import Progress
from zdd_tui.model.release.fills import list_fills
from zdd_tui.model.release.next_commands import pause_or_resume_table
from zdd_tui.model.release.preview import preview_table_command
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import CommandKind, Precondition, find_table_pause, unfilled_tables


@dataclass(frozen=True, slots=True)
class TablePauseRequest:
    """What the operator confirmed.

    Attributes:
        kind: pause or resume.
        targets: the lines that were shown as what will run.
        reason: for the audit.
    """

    kind: CommandKind
    table: str
    targets: tuple[str, ...]
    expected: Precondition | None
    reason: str = ""


class PauseTableScreen(FollowingDialog[TablePauseRequest]):
    """Arrows select a table, Enter pauses or resumes it.

    Which of the two is fixed when the table is selected: somebody else may pause it while the dialog is open.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Cancel", show=False, id="pause-table.leave"),
        Binding("up", "move(-1)", "Previous table", show=False, priority=True, id="pause-table.up"),
        Binding("down", "move(1)", "Next table", show=False, priority=True, id="pause-table.down"),
        Binding("enter", "send", "Pause or resume", show=False, id="pause-table.send"),
    ]

    def __init__(self, board: DashboardState, context: RenderContext) -> None:
        super().__init__(board, context)
        self._error = ""
        self._table, self._kind = "", CommandKind.PAUSE
        tables = self._tables
        left = unfilled_tables(board.release.value.release) if board.release.value is not None else ()
        self._select(next((table for table in tables if table in left), tables[0] if tables else ""))

    @property
    def _tables(self) -> Sequence[str]:
        record = self._last_shown[0].release.value
        return record.release.strategy.filled_tables if record is not None else ()

    @property
    def _is_reason_required(self) -> bool:
        return self._kind.value in self._last_shown[0].plan.commands_needing_reason

    def compose_dialog(self) -> ComposeResult:
        yield PageView()
        if {CommandKind.PAUSE.value, CommandKind.RESUME.value} & set(self._last_shown[0].plan.commands_needing_reason):
            yield text_field("reason", "reason (required by the plan)")
        yield KeyHints()

    def action_move(self, by: int) -> None:
        tables = self._tables
        if self._table in tables:
            self._select(tables[min(max(0, tables.index(self._table) + by), len(tables) - 1)])
            self._draw()

    def _select(self, table: str) -> None:
        self._table, self._error = table, ""
        record = self._last_shown[0].release.value
        if record is not None:
            self._kind = pause_or_resume_table(record.release, table)

    def _refusal(self, board: DashboardState, context: RenderContext) -> str:
        return disabled_reason(board, context, self._kind, self._table)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._error = ""
        self._draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_send()

    def action_send(self) -> None:
        if not self.is_ready:
            return
        board, context = self._last_shown
        field = next(iter(self.query(Input)), None)
        reason = field.value.strip() if field is not None else ""
        self._error = self._refusal(board, context)
        if not self._error and self._is_reason_required and not reason:
            self._error = "the plan requires a reason"
        if self._error:
            self._draw()
            return
        targets = self._targets(board)
        self.dismiss(TablePauseRequest(self._kind, self._table, targets, board.build_precondition(), reason))

    def _targets(self, board: DashboardState) -> tuple[str, ...]:
        record = board.release.value
        return () if record is None else preview_table_command(record.release, self._kind, self._table)

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        record = board.release.value
        lines = [
            *target_lines(board, "pause or resume the backfill of one table", cells),
            (),
            *reading_age_lines(board, context, cells),
        ]
        if record is None:
            return lines
        for table in self._tables:
            lines += _table_lines(
                record, table, context.clock, backfill_progress(board, context), cells, is_selected=table == self._table
            )
        refusal = self._refusal(board, context)
        head = f"cannot {self._kind} {self._table}" if refusal else f"{self._kind} {self._table}"
        lines += [(), *wrap(f"{sanitize(head)}:", cells, TextStyle.STRONG)]
        for text in (refusal,) if refusal else self._targets(board):
            lines += wrap(sanitize(text), cells, TextStyle.WARN if refusal else TextStyle.NORMAL, indent="  ")
        return lines

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        above = wrap(f"✗ {self._error}", cells, TextStyle.BAD) if self._error else []
        can_send = self.is_ready and not self._refusal(board, context)
        enter = f"{self._kind} {sanitize(self._table)}" if can_send else ""
        return [*above, key_hints_line((("↑ ↓", "select"), ("Enter", enter), ("Esc", "cancel")))]


def _table_lines(
    record: ReleaseRecord, table: str, clock: Clock, progress: Progress, cells: int, *, is_selected: bool
) -> list[Line]:
    """The table, who has paused it and since when, and its fills.

    Args:
        progress: whether rows are written now.
    """
    pause = find_table_pause(record.release, table)
    name = fit(sanitize(table), min(30, max(len(each) for each in record.release.strategy.filled_tables) + 2))
    text = f"‖ paused by {pause.by} since {clock.time_of_day(pause.since)}" if pause is not None else ""
    head: Line = (
        ("▸ " if is_selected else "  ", TextStyle.KEY),
        (name, TextStyle.STRONG if is_selected else TextStyle.NORMAL),
        (sanitize(text), TextStyle.WARN),
    )
    fills = (fill for fill in list_fills(record) if fill.table == table)
    return [clip(head, cells), *((("    ", TextStyle.NORMAL), *fill_line(fill, cells - 4, progress)) for fill in fills)]

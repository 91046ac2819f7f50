"""The dialog that starts an agent on this machine, or shows the line that starts one elsewhere."""

from zdd_tui.dashboard.screens.confirm import ConfirmDialog, lock_fields
from zdd_tui.dashboard.screens.dialog import key_hints_line, target_lines
from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.bars.footer import agent_start_disabled_reason
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, wrap
from zdd_tui.model.actions import find_action
from zdd_tui.model.agent_start import describe_start
from zdd_tui.model.duration import format_duration

UNKNOWN_FILE_COMMAND = "zdd agent PLAN"


class StartAgentScreen(ConfirmDialog):
    """Enter starts the agent. Without the plan's file there is only the line to copy."""

    def __init__(self, board: DashboardState, context: RenderContext) -> None:
        fields = lock_fields(board, context) if board.plan.agent_command else ()  # else Enter starts nothing
        super().__init__(board, context, find_action("start-agent"), fields)
        self.command = board.plan.agent_command or UNKNOWN_FILE_COMMAND

    def _find_conflict(self, board: DashboardState, context: RenderContext) -> str:
        return agent_start_disabled_reason(board, context) or super()._find_conflict(board, context)

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        lines = [*target_lines(board, "start an agent", cells), ()]
        lines += wrap(_last_agent_text(board, context), cells)
        if started := describe_start(board.agent_start, context.now, board.activity(context.now)):
            lines += wrap(started, cells, TextStyle.WARN)
        if board.plan.agent_command:
            lines += [(), *wrap("Enter starts it on this machine, detached: it keeps running when you quit.", cells)]
            lines += wrap("On another machine that has the plan’s file, run", cells)
        else:
            text = "The plan’s file is not known here. On a machine that has it, run"
            lines += [(), *wrap(text, cells, TextStyle.WARN)]
        lines += wrap(self.command, cells, TextStyle.STRONG, indent="  ")
        return [*lines, (), *wrap("Two agents cannot run one release: the second one stands by.", cells, TextStyle.DIM)]

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        if board.plan.agent_command:
            return super().key_hints(board, context, cells)
        return [key_hints_line((("y", "copy the line"), ("Esc", "close")))]

    def action_yes(self) -> None:
        if self._last_shown[0].plan.agent_command:
            super().action_yes()


def _last_agent_text(board: DashboardState, context: RenderContext) -> str:
    record, age = board.release.value, board.release.age(context.now)
    if record is None or record.lease is None:
        return "No agent has run this release yet."
    lease = record.lease
    silent = format_duration(lease.age + (age or 0.0))
    if not lease.holder:
        return f"No agent is running this release; the last one released its lease (epoch {lease.epoch})."
    return (
        f"No agent is running this release; pid {lease.pid} on {lease.host} was last heard {silent} ago. If it still"
        " runs, it loses the lease: its later writes are refused."
    )

"""The dialog before a release is left while a command is not in the database yet."""

from collections.abc import Callable
from typing import ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.dialog import FollowingDialog, key_hints_line
from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.bars.command_progress import CommandProgress, command_progress_lines
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, wrap
from zdd_tui.model.release.delivery import RETRY_SECONDS, VALID_SECONDS


class QuitScreen(FollowingDialog[bool]):
    """Shows the delivery of the command: True where the operator leaves all the same, False to wait.

    Args:
        get_progress: the newest progress of the command.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,escape", "dismiss(False)", "Wait", show=False, id="quit.wait"),
        Binding("q", "dismiss(True)", "Leave and give the command up", show=False, id="quit.leave"),
    ]

    def __init__(
        self, board: DashboardState, context: RenderContext, get_progress: Callable[[], CommandProgress | None]
    ) -> None:
        super().__init__(board, context)
        self._get_progress = get_progress

    def confirms(self, key: str) -> bool:
        """See :class:`zdd_tui.dashboard.typed_keys.ConfirmsByKey`: a second q typed too fast gives no command up."""
        active = self.active_bindings.get(key)
        return active is not None and active.binding.id == "quit.leave"

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        progress = self._get_progress()
        if progress is None:
            return []
        lines = [*command_progress_lines(progress, board, context, cells), ()]
        if not progress.is_unsent:
            return [*lines, *wrap("Nothing is waiting to be sent.", cells)]
        text = (
            f"If you leave now, {progress.kind} is given up: it is not sent again, and an attempt that is on its way is"
            f" refused by the database after {VALID_SECONDS:.0f} s. If you wait, it is retried for"
            f" {RETRY_SECONDS:.0f} s."
        )
        return [((f"{progress.kind} is NOT SENT", TextStyle.BAD),), (), *lines, *wrap(text, cells)]

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return [key_hints_line((("Enter", "wait"), ("q" if self.is_ready else "", "leave")))]

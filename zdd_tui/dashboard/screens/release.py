"""The main screen: one release."""

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.base import ActionScreen, action_bindings
from zdd_tui.dashboard.screens.details.base import PolledQuery, QueryAnswered
from zdd_tui.dashboard.state import DashboardState, RenderContext, StateSource
from zdd_tui.dashboard.widgets.bars.command_progress import CommandProgress, MessageLine
from zdd_tui.dashboard.widgets.bars.footer import Footer
from zdd_tui.dashboard.widgets.bars.gates import GateSummary
from zdd_tui.dashboard.widgets.bars.header import Header
from zdd_tui.dashboard.widgets.bars.health import HealthLine
from zdd_tui.dashboard.widgets.bars.stepper import Stepper
from zdd_tui.dashboard.widgets.bars.summary import SummaryLines
from zdd_tui.dashboard.widgets.bars.tour import TourLines
from zdd_tui.dashboard.widgets.panes.charts import CHART_INTERVAL, last_point_observed
from zdd_tui.dashboard.widgets.panes.container import PaneContainer
from zdd_tui.dashboard.widgets.panes.filter import FilterInput
from zdd_tui.model.actions import ACTIONS, Action, find_action
from zdd_tui.model.queries import MetricHistoryQuery


class ReleaseScreen(ActionScreen[None]):
    """Header, health, phases, summary, gates, panes, progress of the last command, keys."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        *action_bindings(ACTIONS),
        Binding("escape", "end_tour", "End the tour of the demo", show=False, id="release.end-tour"),
    ]

    DEFAULT_CSS = """
    ReleaseScreen {
        GateSummary, SummaryLines, MessageLine, HealthLine, Header, Stepper, Footer { padding: 0 1; }
    }
    /* Production has a frame: bars above and below, and edges in place of the padding. It needs no extra cells. */
    ReleaseScreen.-production {
        Header, Footer { background: $error; color: ansi_bright_white; }
        GateSummary, SummaryLines, MessageLine, HealthLine, Stepper {
            padding: 0;
            border-left: heavy $error;
            border-right: heavy $error;
        }
    }
    """

    def __init__(
        self, source: StateSource, context: RenderContext, notice: tuple[str, ...] = (), *, with_tour: bool = False
    ) -> None:
        super().__init__()
        self._with_tour = with_tour
        board = source.state()
        self._source = source
        self._chart_query = PolledQuery(MetricHistoryQuery(), "the history of the guard", CHART_INTERVAL)
        self._charts_read_at = float("-inf")
        self._last_shown = (board, context)
        self._notice = notice
        self._panes: PaneContainer | None = None
        self._progress: CommandProgress | None = None

    def compose(self) -> ComposeResult:
        if self._with_tour:
            yield TourLines()
        yield Header()
        yield HealthLine()
        yield Stepper()
        yield SummaryLines()
        yield GateSummary()
        yield PaneContainer()
        message = MessageLine()
        message.notice = self._notice
        yield message
        yield Footer()

    def on_mount(self) -> None:
        self._panes = self.query_one(PaneContainer)
        self.show(*self._last_shown)
        if self._last_shown[0].release.value is not None:
            self.call_after_refresh(self._read_chart_history)

    def _read_chart_history(self) -> None:
        """Only while the charts are visible: a small terminal costs the database nothing."""
        if self._panes is not None and self._panes.visible_charts is not None and self.is_in_front:
            self._charts_read_at = self._last_shown[1].now
            self._chart_query.refresh(self._source, self.post_message, self._charts_read_at)

    def on_query_answered(self, message: QueryAnswered) -> None:
        message.query.set_result(message.future, self._last_shown[1].now)
        self._pass_chart_history()

    def _pass_chart_history(self) -> None:
        board, context = self._last_shown
        if self._panes is not None and (charts := self._panes.visible_charts) is not None:
            result = self._chart_query.result
            charts.set_history(last_point_observed(result, board.server_now(context.now), context.now))

    def show(self, board: DashboardState, context: RenderContext) -> None:
        """Passes the state to every widget; each repaints only what has changed."""
        is_first_reading = self._last_shown[0].release.value is None and board.release.value is not None
        self._last_shown = (board, context)
        if self._panes is None:
            return  # not composed yet; `on_mount` shows it
        if is_first_reading:
            self.call_after_refresh(self._read_chart_history)
        # By the clock of the data: that of a recording may run faster, or go back.
        elif board.release.value is not None and not 0 <= context.now - self._charts_read_at < CHART_INTERVAL:
            self._read_chart_history()
        before = self._chart_query.result
        self._chart_query.note_silence(context.now)
        if self._chart_query.result is not before:
            self._pass_chart_history()
        self._panes.place_panes(board, self.size.height)
        with self.painted(self._panes) as views:
            for widget in views:
                widget.show(board, context)

    def on_descendant_focus(self) -> None:
        """The footer has other keys while a filter is typed."""
        self.show(*self._last_shown)

    def on_screen_resume(self) -> None:
        self._read_chart_history()

    def on_resize(self) -> None:
        if self._panes is not None:  # composed
            self._panes.place_panes(self._last_shown[0], self.size.height)
            self.call_after_refresh(self._read_chart_history)  # the charts may have got a place

    def forward_to_filter(self, event: events.Key) -> None:
        """Types a character into the filter's field that was on its way to another widget when the field opened."""
        if isinstance(self.focused, FilterInput) and event.is_printable and event.character is not None:
            event.stop()
            event.prevent_default()
            self.focused.insert_text_at_cursor(event.character)

    def action_act(self, action_id: str) -> None:
        """Runs pane actions at once: the next key may be queued already, and is for that pane."""
        each = find_action(action_id)
        if not each.is_pane_action:
            super().action_act(action_id)
        else:
            self.run_pane_action(each)

    def run_pane_action(self, action: Action) -> None:
        """Focuses a pane, or runs an action in one; shows why where it is not possible."""
        if self._panes is not None and (text := self._panes.handle_action(action)):
            self.notify(text, markup=False, timeout=3)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return bool(self.query(TourLines)) if action == "end_tour" else super().check_action(action, parameters)

    def action_end_tour(self) -> None:
        self._views = [view for view in self._views if not isinstance(view, TourLines)]
        self.query(TourLines).remove()

    def show_progress(self, progress: CommandProgress | None) -> None:
        """Shows the progress of the last command."""
        if progress is self._progress:
            return  # `show` has drawn it
        for line in self.query(MessageLine):  # none while the screen is being composed
            self._progress = line.progress = progress
            line.notice = ()  # it was shown until the first command
            line.show(*self._last_shown)

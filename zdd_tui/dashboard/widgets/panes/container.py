"""The panes of one release: which are shown, where, and which one is maximised."""

from textual.app import ComposeResult
from textual.geometry import NULL_OFFSET, NULL_SPACING, Region, Size
from textual.layout import ArrangeResult, WidgetPlacement
from textual.layout import Layout as TextualLayout
from textual.widget import Widget

from zdd_tui.dashboard.state import DashboardState
from zdd_tui.dashboard.widgets.drawing.fast_paint import CachedWidget
from zdd_tui.dashboard.widgets.panes.backfill import BackfillPane
from zdd_tui.dashboard.widgets.panes.charts import ChartPane
from zdd_tui.dashboard.widgets.panes.events import EventPane
from zdd_tui.dashboard.widgets.panes.flags import FlagPane
from zdd_tui.dashboard.widgets.panes.gates import GatePane
from zdd_tui.dashboard.widgets.panes.guard import GuardPane
from zdd_tui.dashboard.widgets.panes.layout import Box, LayoutRequest, place_panes, pod_count, request_layout
from zdd_tui.dashboard.widgets.panes.pane import Pane, missing_pane_reason
from zdd_tui.dashboard.widgets.panes.pods import PodPane
from zdd_tui.dashboard.widgets.panes.steps import StepPane
from zdd_tui.model.actions import Action

_STEPS = {"next-pane": 1, "previous-pane": -1}


class PaneLayout(TextualLayout):
    """Places the panes by :func:`zdd_tui.dashboard.widgets.panes.layout.place_panes`."""

    name = "pane-layout"

    def __init__(self) -> None:
        self.request: LayoutRequest | None = None

    def arrange(self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True) -> ArrangeResult:
        panes = [child for child in children if isinstance(child, Pane)]
        if self.request is None:
            return []
        boxes = place_panes(self.request, size.width, size.height)
        if len(panes) == 1:  # it is maximised
            boxes = {panes[0].pane_name: Box(0, 0, size.width, size.height)}
        return [
            WidgetPlacement(Region(box.x, box.y, box.width, box.height), NULL_OFFSET, NULL_SPACING, pane)
            for pane in panes
            if (box := boxes.get(pane.pane_name)) is not None
        ]


class PaneContainer(CachedWidget):
    """Pods at the left; backfill, flags, guard and gates at the right; events below, or at the right too.

    A maximised pane takes the place of all panes; the lines above and below them stay.
    """

    DEFAULT_CSS = """
    PaneContainer { height: 1fr; width: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._pane_layout = PaneLayout()
        self._maximised: Pane | None = None
        self._last_placed: tuple[DashboardState, int] | None = None
        self._placed: tuple[LayoutRequest, Pane | None] | None = None
        self._is_overlaid = False
        """The maximised pane has no place of its own on a screen of this height."""
        self._max_pods = 0
        self._pod_columns = 0

    def compose(self) -> ComposeResult:
        yield PodPane()
        yield StepPane()
        yield BackfillPane()
        yield FlagPane()
        yield GuardPane()
        yield GatePane()
        yield EventPane()
        yield ChartPane()

    @property
    def layout(self) -> TextualLayout:
        """Textual's styles accept built-in layouts only."""
        return self._pane_layout

    @property
    def visible_charts(self) -> ChartPane | None:
        """The charts, if they have a place; on a small screen they have none."""
        return self.query_one(ChartPane) if self._is_placed("charts") and self._maximised is None else None

    def place_panes(self, board: DashboardState, rows: int) -> None:
        """Places the panes of a release on a screen of this many rows."""
        self._last_placed = board, rows
        self._max_pods = max(self._max_pods, pod_count(board))
        self._pod_columns = max(self._pod_columns, self.query_one(PodPane).full_width(board))
        charts = self.query_one(ChartPane)
        wanted = request_layout(board, rows, self._max_pods, self._pod_columns, with_charts=charts.shows_history)
        if (wanted, self._maximised) != self._placed:
            self._placed = wanted, self._maximised
            self._apply(wanted)

    def on_pane_maximise(self, message: Pane.Maximise) -> None:
        """Maximises a pane, or restores it."""
        message.stop()
        self._maximise(None if self._maximised is message.pane else message.pane)

    def _maximise(self, pane: Pane | None, *, overlaid: bool = False) -> None:
        self._maximised, self._is_overlaid = pane, overlaid
        if self._last_placed is not None:
            self.place_panes(*self._last_placed)

    # --- keys --------------------------------------------------------------------------------------------------------

    def handle_action(self, action: Action) -> str:
        """Focuses a pane, or runs an action in the focused pane, or else in the first.

        Returns:
            Why it is not possible; empty where it is done.
        """
        if self._last_placed is None:
            return "panes are not ready yet"
        if action.pane:
            name = self._main_name if action.pane == "pods" else action.pane
            return missing_pane_reason(self._last_placed[0].plan, name) or self._focus_pane(name)
        focused = self._focused_pane
        if action.id in _STEPS:
            names = self._visible_names()
            at = names.index(focused.pane_name) + _STEPS[action.id] if focused else min(0, _STEPS[action.id])
            return self._focus_pane(names[at % len(names)])
        pane = focused or self._pane_named(self._main_name)
        handler = getattr(pane, f"action_{action.id}", None)
        if handler is None:
            return f"{action.label}: the pane {pane.pane_name} has no rows"
        self.screen.set_focus(pane)
        handler()
        return ""

    def _focus_pane(self, name: str) -> str:
        """Focuses a pane; maximises it where it has no place of its own or another pane is maximised."""
        pane = self._pane_named(name)
        hidden = name not in self._placed_names or not self._is_placed(name)
        if hidden or (self._maximised is not None and not self._is_overlaid):
            self._maximise(pane, overlaid=hidden)
        elif self._is_overlaid and self._maximised is not pane:
            self._maximise(None)
        self.screen.set_focus(pane)
        return ""

    @property
    def _focused_pane(self) -> Pane | None:
        """The pane with the focus, or whose filter field has it."""
        focused = self.screen.focused
        return next((node for node in focused.ancestors_with_self if isinstance(node, Pane)), None) if focused else None

    def _pane_named(self, name: str) -> Pane:
        return next(pane for pane in self.query(Pane) if pane.pane_name == name)

    @property
    def _main_name(self) -> str:
        """The pane at the left."""
        return self._placed[0].main if self._placed is not None else "pods"

    @property
    def _placed_names(self) -> set[str]:
        """Names of the panes that have a place in the layout."""
        if self._placed is None:
            return {"pods", "events"}
        request = self._placed[0]
        return {request.main, "events", *request.right_column, *(("charts",) if request.charts else ())}

    def _is_placed(self, name: str) -> bool:
        """Whether the layout has a row for a pane: the lines above the panes may leave too few."""
        size = self.size
        return self._placed is None or not size or name in place_panes(self._placed[0], size.width, size.height)

    def _visible_names(self) -> list[str]:
        """The placed panes and the focused one, in the order of the screen."""
        visible = self._placed_names | ({self._focused_pane.pane_name} if self._focused_pane is not None else set())
        return [pane.pane_name for pane in self.query(Pane) if pane.pane_name in visible]

    # --- layout ------------------------------------------------------------------------------------------------------

    def _apply(self, request: LayoutRequest) -> None:
        self._pane_layout.request = request
        self.query_one(GuardPane).is_compact = request.is_guard_compact
        placed = self._placed_names
        for pane in self.query(Pane):
            pane.set_class(pane is self._maximised, "-maximised")
            pane.display = pane is self._maximised if self._maximised is not None else pane.pane_name in placed
        self.refresh(layout=True)

"""The panes of one release: which are there, where each stands, and which one has all the room."""

from textual.app import ComposeResult
from textual.geometry import NULL_OFFSET, NULL_SPACING, Region, Size
from textual.layout import ArrangeResult, WidgetPlacement
from textual.layout import Layout as TextualLayout
from textual.widget import Widget

from zdd_tui.dashboard.state import Board
from zdd_tui.dashboard.widgets.drawing.cached_widget import Calm
from zdd_tui.dashboard.widgets.panes.backfill import BackfillPane
from zdd_tui.dashboard.widgets.panes.events import EventPane
from zdd_tui.dashboard.widgets.panes.flags import FlagPane
from zdd_tui.dashboard.widgets.panes.gates import GatePane
from zdd_tui.dashboard.widgets.panes.guard import GuardPane
from zdd_tui.dashboard.widgets.panes.layout import Box, Layout, layout, places, pod_count
from zdd_tui.dashboard.widgets.panes.pane import Pane, missing
from zdd_tui.dashboard.widgets.panes.pods import PodPane
from zdd_tui.model.actions import Action

_STEPS = {"next-pane": 1, "previous-pane": -1}


class Places(TextualLayout):
    """Puts each pane where :func:`zdd_tui.dashboard.widgets.panes.layout.places` says."""

    name = "places"

    def __init__(self) -> None:
        self.wanted: Layout | None = None

    def arrange(self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True) -> ArrangeResult:
        panes = [child for child in children if isinstance(child, Pane)]
        if self.wanted is None:
            return []
        boxes = places(self.wanted, size.width, size.height)
        if len(panes) == 1:  # it has all the room
            boxes = {panes[0].name_of_pane: Box(0, 0, size.width, size.height)}
        return [
            WidgetPlacement(Region(box.x, box.y, box.width, box.height), NULL_OFFSET, NULL_SPACING, pane)
            for pane in panes
            if (box := boxes.get(pane.name_of_pane)) is not None
        ]


class Panes(Calm):
    """Pods at the left, backfill, flags, guard and gates at the right, events below, or at the right too.

    A pane that wants it has all the room, and what stands above and below the panes stays.
    """

    DEFAULT_CSS = """
    Panes { height: 1fr; width: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._places = Places()
        self._alone: Pane | None = None
        self._last: tuple[Board, int] | None = None
        self._placed: tuple[Layout, Pane | None] | None = None
        self._lifted = False
        """The pane that is alone has no place of its own on so low a screen."""
        self._most_pods = 0

    def compose(self) -> ComposeResult:
        yield PodPane()
        yield BackfillPane()
        yield FlagPane()
        yield GuardPane()
        yield GatePane()
        yield EventPane()

    @property
    def layout(self) -> TextualLayout:
        """Textual's styles take none but Textual's own."""
        return self._places

    def place(self, board: Board, rows: int) -> None:
        """Gives the panes that there are their place on a screen of so many rows."""
        self._last = board, rows
        self._most_pods = max(self._most_pods, pod_count(board))
        wanted = layout(board, rows, self._most_pods)
        if (wanted, self._alone) != self._placed:
            self._placed = wanted, self._alone
            self._put(wanted)

    def on_pane_maximise(self, message: Pane.Maximise) -> None:
        """All the room for a pane, or its own place again."""
        message.stop()
        self._give_all(None if self._alone is message.pane else message.pane)

    def _give_all(self, pane: Pane | None, *, lifted: bool = False) -> None:
        self._alone, self._lifted = pane, lifted
        if self._last is not None:
            self.place(*self._last)

    # --- keys ----------------------------------------------------------------------------------------------------

    def act(self, each: Action) -> str:
        """Goes to a pane, or does something in the one that has the focus, or else in the first.

        Returns:
            Why that cannot be, for the operator; empty where it is done.
        """
        if self._last is None:
            return "the panes are not there yet"
        if each.pane:
            return missing(self._last[0].plan, each.pane) or self._go(each.pane)
        focused = self._focused
        if each.id in _STEPS:
            names = self._names()
            at = names.index(focused.name_of_pane) + _STEPS[each.id] if focused else min(0, _STEPS[each.id])
            return self._go(names[at % len(names)])
        pane = focused or self._pane("pods")
        does = getattr(pane, f"action_{each.id}", None)
        if does is None:
            return f"{each.label}: the pane {pane.name_of_pane} has no rows"
        self.screen.set_focus(pane)
        does()
        return ""

    def _go(self, name: str) -> str:
        """The focus for a pane, and the room of one that is alone; one that had to give way has all the room."""
        pane = self._pane(name)
        hidden = name not in self._with_place or not self._fits(name)
        if hidden or (self._alone is not None and not self._lifted):
            self._give_all(pane, lifted=hidden)
        elif self._lifted and self._alone is not pane:
            self._give_all(None)
        self.screen.set_focus(pane)
        return ""

    @property
    def _focused(self) -> Pane | None:
        return next((pane for pane in self.query(Pane) if pane is self.screen.focused), None)

    def _pane(self, name: str) -> Pane:
        return next(pane for pane in self.query(Pane) if pane.name_of_pane == name)

    @property
    def _with_place(self) -> set[str]:
        """Names of the panes that have a place of their own."""
        return {"pods", "events", *(self._placed[0].right if self._placed is not None else ())}

    def _fits(self, name: str) -> bool:
        """Whether a pane with a place gets a row: the lines above the panes may have left too few."""
        size = self.size
        return self._placed is None or not size or name in places(self._placed[0], size.width, size.height)

    def _names(self) -> list[str]:
        """Those, and the one that has the focus, in the order of the screen."""
        there = self._with_place | ({self._focused.name_of_pane} if self._focused is not None else set())
        return [pane.name_of_pane for pane in self.query(Pane) if pane.name_of_pane in there]

    # --- places --------------------------------------------------------------------------------------------------

    def _put(self, wanted: Layout) -> None:
        self._places.wanted = wanted
        self.query_one(GuardPane).compact = wanted.compact
        there = self._with_place
        for pane in self.query(Pane):
            pane.set_class(pane is self._alone, "-maximised")
            pane.display = pane is self._alone if self._alone is not None else pane.name_of_pane in there
        self.refresh(layout=True)

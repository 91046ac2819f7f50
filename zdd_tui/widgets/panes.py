"""The panes of one release: which are there, how high they are, and which one has all the room."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from zdd_tui.board import Board
from zdd_tui.widgets.backfill import BackfillPane
from zdd_tui.widgets.calm import Calm
from zdd_tui.widgets.events import EventPane
from zdd_tui.widgets.flags import FlagPane
from zdd_tui.widgets.guard import GuardPane
from zdd_tui.widgets.layout import Layout, layout
from zdd_tui.widgets.pane import Pane
from zdd_tui.widgets.pods import PodPane

_FRAME = 2
"""Lines of a pane's border."""


class Row(Horizontal, Calm):
    """Panes beside each other."""


class Stack(Vertical, Calm):
    """Panes above each other."""


class Panes(Stack):
    """Pods at the left, backfill, flags and guard at the right, events below.

    A pane that wants it has all the room, and what stands above and below the panes stays.
    """

    DEFAULT_CSS = """
    Panes {
        height: 1fr;
        #body { height: 2fr; min-height: 3; }
        #right { width: 2fr; }
        PodPane { width: 3fr; }
        BackfillPane { height: 1fr; min-height: 3; max-height: 7; }
        FlagPane { height: 5; }
        GuardPane { height: 1fr; min-height: 3; }
        EventPane { height: 1fr; min-height: 5; max-height: 14; }
        .-maximised { width: 1fr; height: 1fr; max-height: 100%; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._alone: Pane | None = None
        self._last: tuple[Board, int] | None = None
        self._placed: tuple[Layout, Pane | None] | None = None

    def compose(self) -> ComposeResult:
        with Row(id="body"):
            yield PodPane()
            with Stack(id="right"):
                yield BackfillPane()
                yield FlagPane()
                yield GuardPane()
        yield EventPane()

    def place(self, board: Board, rows: int) -> None:
        """Gives the panes that there are their place on a screen of so many rows."""
        self._last = board, rows
        wanted = layout(board, rows)
        if (wanted, self._alone) != self._placed:
            self._placed = wanted, self._alone
            self._put(wanted)

    def on_pane_maximise(self, message: Pane.Maximise) -> None:
        """All the room for a pane, or its own place again."""
        message.stop()
        self._alone = None if self._alone is message.pane else message.pane
        if self._last is not None:
            self.place(*self._last)

    def _put(self, wanted: Layout) -> None:
        alone, guard, flags = self._alone, self.query_one(GuardPane), self.query_one(FlagPane)
        backfill = self.query_one(BackfillPane)
        guard.compact = wanted.compact
        guard.styles.max_height = None if alone is guard else wanted.guard_rows + _FRAME
        flags.styles.height = None if alone is flags else wanted.flag_rows + _FRAME
        there = {backfill: wanted.backfill, flags: wanted.flags, guard: wanted.guard}
        for pane in self.query(Pane):
            pane.set_class(pane is alone, "-maximised")
            pane.display = pane is alone if alone is not None else there.get(pane, True)
        right, events = self.query_one("#right"), self.query_one(EventPane)
        right.display = wanted.right if alone is None else alone in there
        right.set_class(alone in there, "-maximised")
        self.query_one("#body").display = alone is not events

"""What every detail screen shares: a title with the age of what it shows, a page, search, wrapping, the way back."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from zdd_tui.dashboard.screens.base import Acting
from zdd_tui.dashboard.screens.dialog import HasPage, Keys, Page
from zdd_tui.dashboard.state import RELEASE_STALE, Board, BoardSource, Moment, Sourced
from zdd_tui.dashboard.widgets.drawing.cached_widget import ThinCompositor
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    Rows,
    Tone,
    clip,
    found_in,
    join,
    marked,
    outside,
    source_age,
    spread,
    width,
    wrap,
)
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.model.queries import Query, Story
from zdd_tui.model.release.records import ReleaseRecord

T = TypeVar("T")

Look = Callable[[], Moment]
"""The moment at which a screen is drawn."""


class Told(Protocol):
    """Makes lines of a text: over as many as it needs, or cut at the edge, as the operator has it."""

    def __call__(self, text: str, cells: int, tone: Tone = Tone.NORMAL, *, indent: str = "") -> list[Line]: ...


Still = Callable[[Board, T], bool]


def same_story(board: Board, story: Story) -> bool:
    """The audit on the board ends where the story does."""
    record = board.release.value
    ids = [event.id for event in (*record.events[-1:], *story.events[-1:])] if record is not None else []
    return len(ids) == 2 and ids[0] == ids[1]


class Answered(Message):
    """An answer has come for a screen that asked."""

    def __init__(self, asked: "Asked[Any]", future: "Future[Any]") -> None:
        super().__init__()
        self.asked, self.future = asked, future


class Asked(Generic[T]):
    """What a screen asks for again and again: the last answer, its age, and why there is none newer."""

    def __init__(self, query: Query[T], name: str, limit: float, still: "Still[T] | None" = None) -> None:
        self.query = query
        self.name = name
        self.limit = limit
        self._still = still
        self.answer: Sourced[T] = Sourced()
        self._pending = False

    @property
    def value(self) -> T | None:
        return self.answer.value

    def ask(self, source: BoardSource, tell: Callable[[Message], Any]) -> None:
        """One question at a time: a slow system is not asked twice, and none for what the board confirms."""
        board = source.board()
        if self._confirmed(board):
            self.answer = replace(self.answer, observed_at=board.release.observed_at)
            return
        if not self._pending:
            self._pending = True
            source.ask(self.query).add_done_callback(lambda done: tell(Answered(self, done)))

    def _confirmed(self, board: Board) -> bool:
        known = self.answer
        if self._still is None or known.value is None or known.error or board.release.error:
            return False
        return self._still(board, known.value)

    def take(self, future: "Future[T]", now: float) -> None:
        self._pending = False
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self.answer = Sourced(future.result(), now)
        else:
            title = getattr(error, "title", "") or type(error).__name__
            self.answer = replace(self.answer, error=title, mend=getattr(error, "mend", ""))


class TitleLine(LineView):
    """What is shown, and how old it is."""

    def lines(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        screen = self.screen
        assert isinstance(screen, DetailScreen)
        return [screen.title_line(board, moment, cells)]


class DetailScreen(Acting[None], HasPage):
    """A page over the whole screen. It follows the board, and asks for what is not on it.

    Args:
        source: where boards and answers come from.
        look: the present moment.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "Back to where you came from", show=False, id="detail.close"),
        Binding("w", "wrap", "Wrap long lines, or cut them", show=False, id="detail.wrap"),
        Binding("slash", "search", "Search in what is shown", show=False, id="detail.search"),
        Binding("n", "match(1)", "Next match", show=False, id="detail.next"),
        Binding("N", "match(-1)", "Match before", show=False, id="detail.previous"),
    ]

    DEFAULT_CSS = """
    DetailScreen {
        #detail { border: round $secondary; padding: 0 1; height: 1fr; }
        &.-production #detail { border: round $error; }
        TitleLine, Keys { padding: 0 2; }
        #search { height: 3; border: round $warning; padding: 0 1; display: none; }
        #search.-open { display: block; }
    }
    """

    every: ClassVar[float] = 2.0
    """Seconds between two questions."""

    hints: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Keys of this screen alone, with what they do."""

    def __init__(self, source: BoardSource, look: Look) -> None:
        super().__init__()
        self._compositor = ThinCompositor()
        self._source, self._look = source, look
        self._questions: list[Asked[Any]] = []
        self._needle = ""
        self._match = 0
        self.wrapped = True

    # --- for subclasses ------------------------------------------------------------------------------------------

    def heading(self, board: Board) -> str:
        """What is shown."""
        raise NotImplementedError

    def body(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        """The page's lines."""
        raise NotImplementedError

    def own_hints(self) -> tuple[tuple[str, str], ...]:
        """Keys of this screen alone, with what they do now."""
        return self.hints

    def aged(self, board: Board) -> tuple[Sourced[object], float]:
        """The source whose age the title tells, and from what age on it is stale."""
        question = self._questions[0] if self._questions else None
        return (question.answer, question.limit) if question else (board.release, 5.0)

    def will_ask(self, query: Query[T], name: str, still: Still[T] | None = None) -> Asked[T]:
        """Asks as long as the screen is open.

        Args:
            still: whether the board says that an answer is still the newest; then nobody is asked.
        """
        asked = Asked(query, name, 3 * self.every, still)
        self._questions.append(asked)
        return asked

    def text(self, text: str, cells: int, tone: Tone = Tone.NORMAL, *, indent: str = "") -> list[Line]:
        """A text, over as many lines as it needs or cut at the edge, as the operator has it."""
        if self.wrapped:
            return wrap(text, cells, tone, indent=indent)
        return [clip(((indent + outside(part), tone),), cells) for part in text.splitlines() or [""]]

    def missing(self, asked: Asked[Any], cells: int) -> list[Line]:
        """Why an answer is not there, or not newer; nothing while all is well."""
        answer = asked.answer
        if answer.error:
            lines = wrap(f"✗ {asked.name}: {answer.error}", cells, Tone.BAD)
            return lines + (wrap(f"→ {answer.mend}", cells, Tone.STRONG) if answer.mend else [])
        return [] if answer.value is not None else [((f"… reading {asked.name}", Tone.DIM),)]

    # --- drawing -------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield TitleLine()
        with Vertical(id="detail"):
            yield Page()
        yield Input(placeholder="search, Enter", id="search")
        yield Keys()

    def on_mount(self) -> None:
        self.query_one(Page).focus()
        self.ask_again()
        if self._questions:
            self.set_interval(self.every, self.ask_again)
        self.redraw()

    def ask_again(self) -> None:
        """Asks for everything that is not being asked for."""
        for question in self._questions:
            question.ask(self._source, self.post_message)

    def on_answered(self, message: Answered) -> None:
        message.asked.take(message.future, self._look().now)
        self.redraw()

    def redraw(self) -> None:
        self.show(self._source.board(), self._look())

    def show(self, board: Board, moment: Moment) -> None:
        for view in self.query(LineView):  # none while the screen is still being made
            view.show(board, moment)

    def title_line(self, board: Board, moment: Moment, cells: int) -> Line:
        source, limit = self.aged(board)
        age = source.age(moment.now)
        stale = source.stale(moment.now, limit)
        told = "not read yet" if age is None else f"{source_age(age, stale=stale)} old"
        environment = board.plan.environment.upper()
        mark: Line = ((f" ■ {outside(environment)} ", Tone.ALARM), ("  ", Tone.NORMAL)) if board.plan.production else ()
        right: Line = (*mark, (told, Tone.WARN if stale else Tone.DIM))
        return spread(((outside(self.heading(board)), Tone.STRONG),), right, cells)

    def page(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        lines = self.body(board, moment, cells)
        if not self._needle:
            return lines
        return Rows((), len(lines), lambda at: marked(lines[at], self._needle))

    def keys(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        """The way back and rollback stay in sight; where it is narrow, what is less needed gives way."""
        found = f"n/N “{outside(self._needle)}”" if self._needle else "search"
        own, common = list(self.own_hints()), [("w", "cut" if self.wrapped else "wrap"), ("/", found)]
        back = self.key_here("rollback")  # none where it may not be had
        kept = [*([(back, "rollback")] if back else []), ("Esc", "back")]
        room = cells - max((len(view.more) + 1 for view in self.query(Keys) if view.more), default=0)
        while (own or common) and width(_hints([*own, *common, *kept])) > room:
            common.pop(0) if common else own.pop()
        return [clip(_hints([*own, *common, *kept]), cells)]

    # --- keys ----------------------------------------------------------------------------------------------------

    def action_leave(self) -> None:
        """Closes the search first, then the screen."""
        box = self.query_one("#search", Input)
        if box.has_class("-open"):
            box.remove_class("-open")
            self.query_one(Page).focus()
        elif self._needle:
            self._needle = ""
            self.redraw()
        else:
            self.dismiss()

    def action_wrap(self) -> None:
        self.wrapped = not self.wrapped
        self.redraw()

    def action_search(self) -> None:
        box = self.query_one("#search", Input)
        box.add_class("-open")
        box.value = self._needle
        box.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._needle, self._match = event.value.strip(), -1
        self.query_one("#search", Input).remove_class("-open")
        self.query_one(Page).focus()
        self.redraw()
        self.action_match(1)

    def action_match(self, step: int) -> None:
        """To the next line that holds what was searched for, round and round."""
        if not self._needle:
            return
        page = self.query_one(Page)
        hits = [at for at, line in enumerate(page.all_lines()) if found_in(line, self._needle)]
        if not hits:
            self.notify(f"nothing here holds “{self._needle}”", markup=False, timeout=3)
            return
        self._match = (self._match + step) % len(hits)
        page.scroll_to(y=max(0, hits[self._match] - page.content_size.height // 3), animate=False)


def _hints(pairs: Sequence[tuple[str, str]]) -> Line:
    return join((((key, Tone.KEY), (f" {told}", Tone.NORMAL)) for key, told in pairs), ("  ", Tone.NORMAL))


class RecordScreen(DetailScreen):
    """A page that is made of the release's record."""

    def aged(self, board: Board) -> tuple[Sourced[object], float]:
        return board.release, RELEASE_STALE

    def body(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        record, now = board.release.value, board.server_now(moment.now)
        if record is None or now is None:
            return [(("… connecting", Tone.DIM),)]
        return self.record_body(board, record, now, moment, cells)

    def record_body(
        self, board: Board, record: ReleaseRecord, now: float, moment: Moment, cells: int
    ) -> Sequence[Line]:
        """The page's lines.

        Args:
            now: seconds since the epoch, by the database's clock.
        """
        raise NotImplementedError

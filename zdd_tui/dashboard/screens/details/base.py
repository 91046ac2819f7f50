"""Base of the detail screens: a title with the age of the data, a page, search and line wrap."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from zdd_tui.dashboard.screens.base import ActionScreen, action_bindings
from zdd_tui.dashboard.screens.dialog import HasPage, KeyHints, PageView
from zdd_tui.dashboard.state import RELEASE_STALE_SECONDS, DashboardState, Observed, RenderContext, StateSource
from zdd_tui.dashboard.widgets.bars.health import short_name
from zdd_tui.dashboard.widgets.drawing.line import (
    LazyLines,
    Line,
    Span,
    TextStyle,
    clip,
    contains,
    error_lines,
    format_source_age,
    hang,
    highlight_matches,
    join,
    justify,
    line_width,
    sanitize,
    with_plan_file,
    wrap,
)
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.dashboard.widgets.text_field import TextField
from zdd_tui.model.actions import ACTIONS
from zdd_tui.model.queries import AuditLog, AuditLogQuery, ObjectQuery, Query
from zdd_tui.model.release.claims import FRESH_SECONDS, format_silence, is_stopped
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.shadow import ShadowQuery

T = TypeVar("T")

ContextSource = Callable[[], RenderContext]
"""Provides time, lock and keys for drawing."""


LABEL_WIDTH = 12
"""Width in cells of a label and the blanks around it."""

MAX_CHANGES = 6
"""Changes of a verdict that are shown, the newest first."""


@dataclass(frozen=True, slots=True)
class TextFormatter:
    """Makes lines of a text: wrapped or truncated, as the operator has chosen.

    Attributes:
        cells: width of the page.
    """

    cells: int
    is_wrapped: bool

    def __call__(self, text: str, style: TextStyle = TextStyle.NORMAL, *, indent: str = "") -> list[Line]:
        if self.is_wrapped:
            return wrap(text, self.cells, style, indent=indent)
        parts = with_plan_file(text).splitlines() or [""]
        return [self.clip(((indent + sanitize(part), style),)) for part in parts]

    def beside(self, head: Line, text: str, style: TextStyle = TextStyle.NORMAL) -> list[Line]:
        """A text beside a head; further lines are aligned with the first."""
        return hang(head, replace(self, cells=max(10, self.cells - line_width(head)))(text, style))

    def labelled(self, name: str, text: str, style: TextStyle = TextStyle.NORMAL) -> list[Line]:
        """A text beside its label."""
        return self.beside(((f"  {name:<{LABEL_WIDTH - 2}}", TextStyle.DIM),), text, style)

    def clip(self, line: Line) -> Line:
        """Truncates a line to the page."""
        return clip(line, self.cells)

    def heading(self, head: Line, age: str) -> Line:
        """A line with the age of its values at the right edge."""
        return justify(self.clip(head), ((age, TextStyle.DIM),), self.cells)


FreshnessCheck = Callable[[DashboardState, T], bool]


def is_same_audit_log(board: DashboardState, audit_log: AuditLog) -> bool:
    """Whether the state's audit ends with the same event."""
    record = board.release.value
    ids = [event.id for event in (*record.events[-1:], *audit_log.events[-1:])] if record is not None else []
    return len(ids) == 2 and ids[0] == ids[1]


class QueryAnswered(Message):
    """The result of a screen's query has arrived."""

    def __init__(self, query: "PolledQuery[Any]", future: "Future[Any]") -> None:
        super().__init__()
        self.query, self.future = query, future


class PolledQuery(Generic[T]):
    """A query that a screen repeats: the last result, its age, and why there is no newer one.

    Args:
        interval: seconds between two fetches.
        is_fresh: whether the state shows that a result is still the newest.
    """

    def __init__(
        self, query: Query[T], name: str, interval: float, is_fresh: "FreshnessCheck[T] | None" = None
    ) -> None:
        self.query = query
        self.name = name
        self.stale_after = interval + FRESH_SECONDS  # the next one was requested, and is not there
        self._is_fresh = is_fresh
        self.result: Observed[T] = Observed()
        self._requested_at: float | None = None
        self._noted = ""

    @property
    def value(self) -> T | None:
        return self.result.value

    def refresh(self, source: StateSource, post: Callable[[Message], Any], now: float) -> None:
        """Fetches, unless a fetch is pending or the state shows that the result is still the newest.

        Args:
            now: monotonic seconds.
        """
        board = source.state()
        if self._is_confirmed_by(board):
            self.result = replace(self.result, observed_at=board.release.observed_at)
            return
        if self._requested_at is None:
            self._requested_at = now
            source.fetch(self.query).add_done_callback(lambda done: post(QueryAnswered(self, done)))

    def note_silence(self, now: float) -> None:
        """Says that there is no result once one is late: the connection may give up much later, with an error."""
        silent = 0.0 if self._requested_at is None else now - self._requested_at
        if silent > FRESH_SECONDS and self.result.error in ("", self._noted):
            self._noted = describe_silence(self.query, silent)
            self.result = replace(self.result, error=self._noted, hint="")

    def _is_confirmed_by(self, board: DashboardState) -> bool:
        result = self.result
        if self._is_fresh is None or result.value is None or result.error or board.release.error:
            return False
        return self._is_fresh(board, result.value)

    def set_result(self, future: "Future[T]", now: float) -> None:
        self._requested_at = None
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self.result = Observed(future.result(), now)
        else:
            title = getattr(error, "title", "") or type(error).__name__
            self.result = replace(self.result, error=title, hint=getattr(error, "hint", ""))


def describe_silence(query: Query[Any], seconds: float) -> str:
    """``no result for 4s from PostgreSQL``."""
    is_cluster = isinstance(query, ObjectQuery | ShadowQuery)
    return f"no result for {format_silence(seconds)} from {'Kubernetes' if is_cluster else 'PostgreSQL'}"


def page_age(source: Observed[object], limit: float, now: float) -> Span:
    """How old what a page shows is.

    Args:
        limit: seconds from which it is stale.
        now: monotonic seconds.
    """
    age, stale = source.age(now), source.is_stale(now, limit)
    text = "not read yet" if age is None else f"{format_source_age(age, stale=stale)} old"
    return text, TextStyle.WARN if stale else TextStyle.DIM


_CRUMB_GAP: Span = (" › ", TextStyle.DIM)


class TitleLine(LineView):
    """The way to this screen, and the age of the data. A click goes back to the main screen."""

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        screen = self.screen
        assert isinstance(screen, DetailScreen)
        return [screen.title_line(board, context, cells)]

    def on_click(self, event: events.Click) -> None:
        screen = self.screen
        assert isinstance(screen, DetailScreen)
        screen.action_leave_all()


def _has_ended(board: DashboardState) -> bool:
    record = board.release.value
    return record is not None and record.release.state.has_ended


class DetailScreen(ActionScreen[None], HasPage):
    """A page over the whole screen. It follows the state, and queries what the state does not hold."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "Back to the previous screen", show=False, id="detail.close"),
        Binding("w", "wrap", "Toggle line wrap", show=False, id="detail.wrap"),
        Binding("slash", "search", "Search this page", show=False, id="detail.search"),
        Binding("n", "match(1)", "Next match", show=False, id="detail.next"),
        Binding("N", "match(-1)", "Previous match", show=False, id="detail.previous"),
        *action_bindings(tuple(each for each in ACTIONS if each.opens_detail)),
    ]

    DEFAULT_CSS = """
    DetailScreen {
        #detail { border: round $secondary; padding: 0 1; height: 1fr; }
        &.-production #detail { border: round $error; }
        TitleLine, KeyHints { padding: 0 2; }
        #search { height: 3; border: round $warning; padding: 0 1; display: none; }
        #search.-open { display: block; }
    }
    """

    refresh_interval: ClassVar[float] = 2.0
    """Seconds between two fetches."""

    hints: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Keys of this screen alone, and their effects."""

    field_effect: ClassVar[str] = "search"
    """What Enter does in the text field."""

    def __init__(self, source: StateSource, get_context: ContextSource) -> None:
        super().__init__()
        self._source, self._get_context = source, get_context
        self._queries: list[PolledQuery[Any]] = []
        self._search_text = ""
        self._match_index = 0
        self._is_covered = False
        self.is_wrapped = True

    # --- provided by a subclass --------------------------------------------------------------------------------------

    def heading(self, board: DashboardState) -> str:
        """The heading of the page."""
        raise NotImplementedError

    def body(self, board: DashboardState, context: RenderContext, formatter: TextFormatter) -> Sequence[Line]:
        """The page's lines."""
        raise NotImplementedError

    def own_hints(self) -> tuple[tuple[str, str], ...]:
        """Keys of this screen alone, and their current effects."""
        return self.hints

    def escape_effect(self) -> str:
        """What Esc does outside of the text field."""
        return "end search" if self._search_text else "back"

    def age_source(self, board: DashboardState) -> tuple[Observed[object], float]:
        """The source whose age the title shows, and the age in seconds from which it is stale."""
        query = self._queries[0] if self._queries else None
        return (query.result, query.stale_after) if query else (board.release, RELEASE_STALE_SECONDS)

    def add_query(self, query: Query[T], name: str, is_fresh: FreshnessCheck[T] | None = None) -> PolledQuery[T]:
        """Adds a query that is repeated while the screen is open.

        Args:
            is_fresh: whether the state shows that a result is still the newest; then nothing is fetched.
        """
        polled_query = PolledQuery(query, name, self.refresh_interval, is_fresh)
        self._queries.append(polled_query)
        return polled_query

    def add_audit_query(self) -> PolledQuery[AuditLog]:
        """Adds the query for the audit, which is repeated when it has a newer event."""
        return self.add_query(AuditLogQuery(), "the audit", is_same_audit_log)

    def query_error_lines(self, query: PolledQuery[Any], formatter: TextFormatter) -> list[Line]:
        """Why there is no result, or no newer one; empty without an error."""
        result = query.result
        if result.error:
            return error_lines(f"{query.name}: {result.error}", result.hint, formatter.cells)
        return [] if result.value is not None else [((f"… reading {query.name}", TextStyle.DIM),)]

    # --- drawing -----------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield TitleLine()
        with Vertical(id="detail"):
            yield PageView()
        yield TextField(placeholder=f"{self.field_effect}, Enter", id="search")
        yield KeyHints()

    def on_mount(self) -> None:
        self.query_one(PageView).focus()
        self.refresh_queries()
        if self._queries:
            self.set_interval(self.refresh_interval, self.refresh_queries)
        self.redraw()

    def on_descendant_focus(self) -> None:
        """The keys of the footer change where the text field opens or closes."""
        self.redraw()

    def on_screen_suspend(self) -> None:
        self._is_covered = True

    def on_screen_resume(self) -> None:
        if self._is_covered:
            self._is_covered = False
            self.refresh_queries()
            for view in self.views:
                view.invalidate()

    def refresh_queries(self) -> None:
        """Fetches everything that is not being fetched. Behind another screen nothing is fetched."""
        if self._is_covered:
            return
        for query in self._queries:
            query.refresh(self._source, self.post_message, self._get_context().now)

    def on_query_answered(self, message: QueryAnswered) -> None:
        message.query.set_result(message.future, self._get_context().now)
        self.redraw()

    def redraw(self) -> None:
        """Draws all again; behind another screen only when that is closed."""
        if not self._is_covered:
            for view in self.views:
                view.invalidate()
            self.show(self._source.state(), self._get_context())

    def show(self, board: DashboardState, context: RenderContext) -> None:
        for query in self._queries:
            query.note_silence(context.now)
        with self.painted() as views:
            for view in views:
                view.show(board, context)

    def title_line(self, board: DashboardState, context: RenderContext, cells: int) -> Line:
        source, limit = self.age_source(board)
        right: Line = (*self.place_line(board, context), page_age(source, limit, context.now))
        stop = self.stop_line(board, context)
        room = cells - line_width(right) - 1
        crumbs = self.crumb_line(board, room - line_width(stop))
        return justify(clip((*crumbs, *stop), room), right, cells)

    def stop_line(self, board: DashboardState, context: RenderContext) -> Line:
        """What stops the release, for the first line of every screen; empty while every standing condition holds."""
        record = board.release.value
        breach = record.release.breach if record is not None else None
        if record is None or breach is None or not is_stopped(record.release, board.activity(context.now)):
            return ()
        text = f"✗ STOPPED: {sanitize(breach.title)}"
        return ("  ", TextStyle.NORMAL), (text, TextStyle.BAD)

    def short_heading(self, board: DashboardState, cells: int) -> str:
        """The heading where it does not fit; it may be wider than `cells` all the same."""
        return self.heading(board)

    def status_title(self, board: DashboardState, context: RenderContext, cells: int, status: Line) -> Line:
        """A title with a state of the page's own in place of an age. The heading is cut first, then the state."""
        place, stop = self.place_line(board, context), self.stop_line(board, context)
        room = cells - line_width(stop) - line_width(status) - line_width(place) - 3
        crumbs = self.crumb_line(board, room)
        if line_width(crumbs) > room:
            crumbs = ((sanitize(self.short_heading(board, room)), TextStyle.STRONG),)
        left = clip((*crumbs, *stop, ("  ", TextStyle.NORMAL), *status), cells - line_width(place) - 1)
        return justify(left, place, cells)

    @staticmethod
    def place_line(board: DashboardState, context: RenderContext) -> Line:
        """Which sources are lost, the region, and production: at the right edge of every title."""
        names = ", ".join(short_name(each.name) for each in board.lost_sources(context.now))
        lost: Line = ((f"✗ lost: {names}  ", TextStyle.BAD),) if names else ()
        region: Line = ((f"region {board.plan.region}  ", TextStyle.STRONG),) if board.plan.region else ()
        environment = sanitize(board.plan.environment.upper())
        badge: Line = ((f" ■ {environment} ", TextStyle.ALARM), ("  ", TextStyle.NORMAL))
        return (*lost, *region, *(badge if board.plan.is_production else ()))

    def crumb_line(self, board: DashboardState, cells: int) -> Line:
        """Release and open screens, the present one last; the first ones are left out where they do not fit."""
        screens = [each for each in self.app.screen_stack if isinstance(each, DetailScreen)]
        parents = screens[: screens.index(self)] if self in screens else []
        names = [board.plan.name, *(each.heading(board) for each in parents)]
        crumbs: list[Span] = [(sanitize(name), TextStyle.DIM) for name in names]
        crumbs.append((sanitize(self.heading(board)), TextStyle.STRONG))
        while len(crumbs) > 1 and sum(cell_len(text) + cell_len(_CRUMB_GAP[0]) for text, _ in crumbs) > cells:
            crumbs.pop(0)
        return join(((crumb,) for crumb in crumbs), _CRUMB_GAP)

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> Sequence[Line]:
        lines = self.body(board, context, TextFormatter(cells, self.is_wrapped))
        if not self._search_text:
            return lines
        return LazyLines((), len(lines), lambda at: highlight_matches(lines[at], self._search_text))

    def hint_dependencies(self, board: DashboardState) -> tuple[object, ...]:
        """Which keys there are, which costs far less than their names."""
        return (
            self.check_action("act", ("rollback",)),
            _has_ended(board),
            self.focused,
            self._search_text,
            self.own_hints(),
            self.escape_effect(),
        )

    def key_hints(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        """Rollback and back are always shown; a narrow screen leaves out other keys. A text field takes the others."""
        is_typing = isinstance(self.focused, Input)
        search = ("n/N", f"“{sanitize(self._search_text)}”") if self._search_text else ("/", self.field_effect)
        own, common = list(self.own_hints()), [("w", f"wrap {'off' if self.is_wrapped else 'on'}"), search]
        if is_typing:
            own, common = [("Enter", self.field_effect)], []
        rollback = "" if _has_ended(board) else self.key_label("rollback")  # empty where it is not possible
        kept = [
            *([(rollback, "rollback")] if rollback else []),
            ("Esc", "cancel" if is_typing else self.escape_effect()),
        ]
        room = cells - max(
            (len(view.position_text) + 1 for view in self.query(KeyHints) if view.position_text), default=0
        )
        while (own or common) and line_width(_hint_line([*own, *common, *kept])) > room:
            common.pop(0) if common else own.pop()
        return [clip(_hint_line([*own, *common, *kept]), cells)]

    # --- keys --------------------------------------------------------------------------------------------------------

    def action_leave(self) -> None:
        """Closes the search first, then the screen."""
        field = self.query_one("#search", Input)
        if field.has_class("-open"):
            field.remove_class("-open")
            self.query_one(PageView).focus()
        elif self._search_text:
            self._search_text = ""
            self.redraw()
        else:
            self.dismiss()

    def action_leave_all(self) -> None:
        """Back to the main screen."""
        while isinstance(self.app.screen, DetailScreen):
            self.app.pop_screen()

    def action_wrap(self) -> None:
        self.is_wrapped = not self.is_wrapped
        self.redraw()

    def action_search(self) -> None:
        field = self.query_one("#search", Input)
        field.add_class("-open")
        field.value = self._search_text
        field.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._search_text, self._match_index = event.value.strip(), -1
        self.query_one("#search", Input).remove_class("-open")
        self.query_one(PageView).focus()
        self.redraw()
        self.action_match(1)

    def action_match(self, step: int) -> None:
        """Scrolls to the next match, and from the last one to the first."""
        if not self._search_text:
            return
        page = self.query_one(PageView)
        matches = [at for at, line in enumerate(page.all_lines()) if contains(line, self._search_text)]
        if not matches:
            self.notify(f"no match for “{self._search_text}”", markup=False, timeout=3)
            return
        self._match_index = (self._match_index + step) % len(matches)
        page.scroll_to(y=max(0, matches[self._match_index] - page.content_size.height // 3), animate=False)


def _hint_line(pairs: Sequence[tuple[str, str]]) -> Line:
    return join(
        (((key, TextStyle.KEY), (f" {text}", TextStyle.NORMAL)) for key, text in pairs), ("  ", TextStyle.NORMAL)
    )


class RecordScreen(DetailScreen):
    """A page made from the release's record and its audit."""

    def __init__(self, source: StateSource, get_context: ContextSource) -> None:
        super().__init__(source, get_context)
        self._audit = self.add_audit_query()

    def age_source(self, board: DashboardState) -> tuple[Observed[object], float]:
        return board.release, RELEASE_STALE_SECONDS

    def body(self, board: DashboardState, context: RenderContext, formatter: TextFormatter) -> Sequence[Line]:
        record, now = board.release.value, board.server_now(context.now)
        if record is None or now is None:
            return [(("… connecting", TextStyle.DIM),)]
        return self.record_body(board, record, now, context, formatter)

    def record_body(
        self, board: DashboardState, record: ReleaseRecord, now: float, context: RenderContext, formatter: TextFormatter
    ) -> Sequence[Line]:
        """The page's lines.

        Args:
            now: seconds since the epoch, by the database's clock.
        """
        raise NotImplementedError


def verdict_change_lines(
    kind: str,
    name: str,
    audit_log: AuditLog,
    context: RenderContext,
    formatter: TextFormatter,
    style: TextStyle = TextStyle.NORMAL,
    *,
    indent: str,
) -> list[Line]:
    """Changes of the verdict of a gate or of a rule, with their reasons, the newest first.

    Args:
        kind: of the audit events: ``gate``, or ``guard``, which also has the guard's actions.
    """
    prefix = f"{name}: "
    changes = [event for event in audit_log.events if event.kind == kind and event.message.startswith(prefix)]
    lines: list[Line] = []
    for event in reversed(changes[-MAX_CHANGES:]):
        when, what = context.clock.time_of_day(event.at), sanitize(event.message.removeprefix(prefix))
        lines += formatter(f"{when} {what}: {event.reason}", style, indent=indent)
    return lines

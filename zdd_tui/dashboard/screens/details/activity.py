"""Database activity: who blocks zdd, who waits for it, replication and vacuum; and stopping a session."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from zdd_tui.dashboard.screens.confirm import ConfirmDialog, ConfirmField, ConfirmResult, lock_fields
from zdd_tui.dashboard.screens.details.base import ContextSource, DetailScreen, TextFormatter, TitleLine
from zdd_tui.dashboard.screens.dialog import KeyHints, PageView, target_lines
from zdd_tui.dashboard.state import DashboardState, Observed, RenderContext, StateSource
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, sanitize, wrap
from zdd_tui.dashboard.widgets.drawing.timed_text import TimedText
from zdd_tui.dashboard.widgets.panes.columns import PaneColumn, dim_style
from zdd_tui.dashboard.widgets.panes.pane import RowSelected
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.dashboard.widgets.text_field import TextField
from zdd_tui.model.activity import (
    STOP_SESSION,
    ActivityQuery,
    DatabaseActivity,
    ListedSession,
    Replica,
    Session,
    SessionRelation,
    StopRequest,
    TableVacuum,
    list_sessions,
    must_terminate,
    why_no_stop,
)
from zdd_tui.model.counting import count_noun
from zdd_tui.model.duration import format_duration
from zdd_tui.model.release.claims import FRESH_SECONDS, format_silence

_STYLES = {
    SessionRelation.BLOCKS_AGENT: TextStyle.BAD,
    SessionRelation.WAITS_FOR_AGENT: TextStyle.WARN,
    SessionRelation.BLOCKS: TextStyle.WARN,
    SessionRelation.WAITS: TextStyle.NORMAL,
    SessionRelation.LONG: TextStyle.NORMAL,
    SessionRelation.AGENT: TextStyle.RUNNING,
}


def _seconds(value: float | None) -> str:
    return "-" if value is None else format_duration(max(0.0, value))


def _others(row: ListedSession) -> str:
    """The pids on the other side of the lock."""
    pids = row.session.blocked_by if row.session.blocked_by else row.blocks
    return ", ".join(map(str, pids))


def _short_state(row: ListedSession) -> str:
    """``idle in tx``: the words that tell it from ``idle`` must not be cut."""
    return row.session.state.replace("idle in transaction", "idle in tx")


def _statement(row: ListedSession) -> str:
    return " ".join(row.session.query.split())


SESSION_COLUMNS: Sequence[PaneColumn[ListedSession, float]] = [
    PaneColumn("why", "WHY", lambda row, _: row.relation, 13, style=lambda row, _: _STYLES[row.relation],
               find=lambda row: row.relation),
    PaneColumn("pid", "PID", lambda row, _: str(row.session.pid or "-"), 7, align_right=True,
               find=lambda row: str(row.session.pid)),
    PaneColumn("with", "OTHER PID", lambda row, _: _others(row), 7, 15, drop_order=2),
    PaneColumn("role", "ROLE", lambda row, _: row.session.role, 6, 10, drop_order=3, find=lambda row: row.session.role),
    PaneColumn("app", "APPLICATION", lambda row, _: row.session.application, 11, 16,
               find=lambda row: row.session.application),
    PaneColumn("state", "STATE", lambda row, _: _short_state(row), 10, 19, find=lambda row: row.session.state),
    PaneColumn("open", "OPEN", lambda row, _: _seconds(row.session.transaction_seconds), 6, align_right=True,
               sort=lambda row: -(row.session.transaction_seconds or 0.0)),
    PaneColumn("wait", "WAITS FOR", lambda row, _: row.session.wait, 9, 13, drop_order=4, style=dim_style),
    PaneColumn("statement", "STATEMENT", lambda row, _: _statement(row), 16, 10_000, drop_order=1, style=dim_style,
               find=_statement),
]  # fmt: skip


class SessionsPane(TablePane[ListedSession, float]):
    """One row per session that matters. :meth:`set_sessions` provides them."""

    pane_name = "sessions"
    shows_error = True
    titles_from_height = 2

    def __init__(self) -> None:
        super().__init__()
        self._sessions: Observed[Sequence[ListedSession]] = Observed()
        self._hidden = 0

    def set_sessions(self, sessions: Observed[Sequence[ListedSession]], hidden: int) -> None:
        """The screen shows them afterwards."""
        self._sessions, self._hidden = sessions, hidden

    def source(self, board: DashboardState) -> Observed[object]:
        return self._sessions

    def heading(self, board: DashboardState, context: RenderContext) -> str:
        rows = self._sessions.value
        if rows is None:
            return "not read yet"
        blocking = sum(row.relation is SessionRelation.BLOCKS_AGENT for row in rows)
        others = sum(row.relation is SessionRelation.BLOCKS for row in rows)
        of_others = f", {others} {'blocks' if others == 1 else 'block'} others" if others else ""
        hidden = f", {self._hidden} hidden from this role (GRANT pg_read_all_stats)" if self._hidden else ""
        return f"{len(rows)} listed, {blocking} {'blocks' if blocking == 1 else 'block'} zdd{of_others}{hidden}"

    def rows(self, board: DashboardState, context: RenderContext) -> Sequence[ListedSession]:
        return self._sessions.value or ()

    def columns(
        self, board: DashboardState, rows: Sequence[ListedSession], cells: int
    ) -> Sequence[PaneColumn[ListedSession, float]]:
        return SESSION_COLUMNS

    def cell_context(self, board: DashboardState, context: RenderContext) -> float:
        return context.now

    def identity(self, row: ListedSession) -> str:
        session = row.session
        return f"{session.pid} {session.started or session.application}"

    def action_back(self) -> None:
        """Clears the filter first, then closes the screen."""
        if self._filter.is_visible:
            super().action_back()
        else:
            self.screen.dismiss()

    def empty_line(self, board: DashboardState) -> Line:
        if self._hidden:
            text = f"? none is visible, but {count_noun(self._hidden, 'session')} may block zdd unseen"
            return ((text, TextStyle.WARN),)
        return (("✔ no session blocks zdd or waits for it, and no transaction is open for long", TextStyle.GOOD),)


class SessionStopped(Message):
    """The server has answered a request to stop a session."""

    def __init__(self, request: StopRequest, future: "Future[bool]") -> None:
        super().__init__()
        self.request, self.future = request, future


class ActivityScreen(DetailScreen):
    """Sessions as a table, replication and vacuum below it. Enter stops the session under the cursor."""

    DEFAULT_CSS = """
    ActivityScreen SessionsPane { height: 2fr; }
    ActivityScreen #detail { height: 1fr; min-height: 6; }
    """

    refresh_interval: ClassVar[float] = 2.0

    def __init__(self, source: StateSource, get_context: ContextSource) -> None:
        super().__init__(source, get_context)
        self._query = self.add_query(ActivityQuery(), "the activity")
        self._listed_of: DatabaseActivity | None = None
        self._listed: tuple[ListedSession, ...] = ()
        self._cancelled: dict[tuple[int, str], float] = {}
        self._result: TimedText | None = None

    def compose(self) -> ComposeResult:
        yield TitleLine()
        sessions = SessionsPane()
        sessions.stale_after = self._query.stale_after
        yield sessions
        with Vertical(id="detail"):
            yield PageView()
        yield TextField(placeholder="search, Enter", id="search")
        yield KeyHints()

    def on_mount(self) -> None:
        self.call_next(self.query_one(SessionsPane).focus)  # after the page got the focus

    def heading(self, board: DashboardState) -> str:
        return f"database activity  {board.plan.database}"

    def show(self, board: DashboardState, context: RenderContext) -> None:
        super().show(board, context)
        self._pass_sessions()

    def redraw(self) -> None:
        self._pass_sessions()
        super().redraw()

    def _pass_sessions(self) -> None:
        value = self._query.value
        if value is not None and value is not self._listed_of:
            self._listed_of, self._listed = value, list_sessions(value.sessions)
        for pane in self.query(SessionsPane):
            result = self._query.result
            rows = None if value is None else self._listed
            pane.set_sessions(
                Observed(rows, result.observed_at, result.error, result.hint), value.hidden if value else 0
            )

    def page_dependencies(self, board: DashboardState) -> tuple[object, ...]:
        return (self._query.result,)

    def body(self, board: DashboardState, context: RenderContext, formatter: TextFormatter) -> Sequence[Line]:
        lines = self._result.lines(context.now, formatter.cells) if self._result is not None else []
        lines = [*lines, *self.query_error_lines(self._query, formatter)]
        if self._query.value is None:
            return lines
        return [*lines, *replica_lines(self._query.value.replicas, formatter),
                *vacuum_lines(self._query.value.tables, formatter)]  # fmt: skip

    def own_hints(self) -> tuple[tuple[str, str], ...]:
        return (("Enter", "stop"),) if self._listed else ()

    @on(RowSelected)
    def confirm_stop(self, message: RowSelected) -> None:
        """Asks before the session under the cursor is stopped."""
        message.stop()
        board, context = self._source.state(), self._get_context()
        if not isinstance(message.row, ListedSession):
            return
        session = message.row.session
        reason = why_no_stop(session)
        if not context.production_lock.is_available(STOP_SESSION, context.now):
            reason = "read-only session: nothing can be stopped here"
        if reason:
            self.notify(reason, markup=False, timeout=5)
            return
        cancelled_at = self._cancelled.get((session.pid, session.started))
        terminate = must_terminate(session, None if cancelled_at is None else context.now - cancelled_at)

        def decided(result: ConfirmResult | None) -> None:
            if result is not None:
                self._stop(StopRequest(session.pid, session.started, terminate, result.reason))

        read_at = self._query.result.observed_at or context.now
        self.app.push_screen(StopSessionScreen(board, context, message.row, read_at, terminate=terminate), decided)

    def _stop(self, request: StopRequest) -> None:
        self._source.stop_session(request).add_done_callback(
            lambda done: self.post_message(SessionStopped(request, done))
        )

    def on_session_stopped(self, message: SessionStopped) -> None:
        request, future, now = message.request, message.future, self._get_context().now
        error = None if future.cancelled() else future.exception()
        verb = "terminate" if request.terminate else "cancel"
        if error is not None or future.cancelled():
            title = getattr(error, "title", "") or type(error).__name__
            hint = getattr(error, "hint", "")
            text, style = f"✗ {verb} of pid {request.pid}: {title}{f'. Fix: {hint}' if hint else ''}", TextStyle.BAD
        elif not future.result():
            text, style = f"✗ {verb} of pid {request.pid}: the server sent no signal", TextStyle.BAD
        else:
            text, style = f"✔ {verb} sent to pid {request.pid}; the list shows whether it has ended", TextStyle.GOOD
            if not request.terminate:
                self._cancelled[request.pid, request.started] = now
        self._result = TimedText(text, style, now)
        self.refresh_queries()
        self.redraw()


class StopSessionScreen(ConfirmDialog):
    """The confirmation: which session, what it did when it was listed, and what stopping it means.

    Args:
        read_at: when it was listed, in monotonic seconds.
    """

    def __init__(
        self, board: DashboardState, context: RenderContext, row: ListedSession, read_at: float, *, terminate: bool
    ) -> None:
        fields = list(lock_fields(board, context))
        if board.plan.is_production:
            fields.append(ConfirmField("reason", "reason for the audit (optional)"))
        super().__init__(board, context, STOP_SESSION, tuple(fields))
        self._row, self._read_at = row, read_at
        self._terminate = terminate

    def page(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        session = self._row.session
        title = "terminate the session" if self._terminate else "cancel the statement"
        lines = [*target_lines(board, f"{title} of pid {session.pid}", cells), ()]
        function = "pg_terminate_backend" if self._terminate else "pg_cancel_backend"
        lines += wrap(f"SELECT {function}({session.pid})", cells, TextStyle.STRONG)
        for text in describe_stop(session, terminate=self._terminate):
            lines += wrap(text, cells)
        who = f"{session.application or 'no application_name'} as {session.role}, {session.address or 'local'}"
        lines += [(), *wrap(f"{self._row.relation}: {who}", cells, _STYLES[self._row.relation])]
        lines += wrap(
            f"{session.state} for {_seconds(session.state_seconds)}, transaction open for"
            f" {_seconds(session.transaction_seconds)}",
            cells,
        )
        if self._row.blocks:
            lines += wrap(f"waiting for it: pid {', '.join(map(str, self._row.blocks))}", cells)
        age = context.now - self._read_at
        if age > ActivityScreen.refresh_interval + FRESH_SECONDS:
            lines += wrap(f"This was so {format_silence(age)} ago, when the session was listed.", cells, TextStyle.WARN)
        return [*lines, (), *wrap(session.query or "its statement is hidden from this role", cells, TextStyle.DIM)]


def describe_stop(session: Session, *, terminate: bool) -> tuple[str, ...]:
    """What stopping a session means."""
    if not terminate:
        return ("Its statement fails with “canceling statement due to user request”; the session stays.",)
    why = "It runs no statement that could be cancelled. " if session.is_idle else ""
    return (f"{why}Its transaction is rolled back and its connection is closed.",)


def replica_lines(replicas: Sequence[Replica], formatter: TextFormatter) -> list[Line]:
    """Lag of each standby, and what each inactive slot retains."""
    lines: list[Line] = [(("replication", TextStyle.DIM),)]
    if not replicas:
        return [*lines, (("  no standby and no inactive slot is visible", TextStyle.DIM),)]
    for each in replicas:
        lag = "lag not known" if each.lag_seconds is None else f"lag {_seconds(each.lag_seconds)}"
        size = "" if each.lag_bytes is None else f", {_bytes_text(each.lag_bytes)} of WAL behind"
        style = TextStyle.NORMAL if each.state == "streaming" else TextStyle.WARN
        lines += formatter(f"{each.name}: {each.state}, {lag}{size}", style, indent="  ")
    return lines


def vacuum_lines(tables: Sequence[TableVacuum], formatter: TextFormatter) -> list[Line]:
    """Vacuum of the release's tables."""
    lines: list[Line] = [(("vacuum", TextStyle.DIM),)]
    if not tables:
        return [*lines, (("  this release changes no table", TextStyle.DIM),)]
    for each in tables:
        last = "never vacuumed" if each.last_seconds is None else f"last vacuum {_seconds(each.last_seconds)} ago"
        now = f", now {each.running}" if each.running else ""
        share = 100 * each.dead_rows / (each.live_rows + each.dead_rows) if each.dead_rows else 0.0
        style = TextStyle.WARN if share > 20 or each.wraparound_percent > 100 else TextStyle.NORMAL
        dead = f"{each.dead_rows:,} dead rows ({share:.0f}%)"
        age = f"{each.wraparound_percent:.0f}% towards a forced vacuum"
        lines += formatter(f"{sanitize(each.table)}: {dead}, {last}{now}; {age}", style, indent="  ")
    return lines


def _bytes_text(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"

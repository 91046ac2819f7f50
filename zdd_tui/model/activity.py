"""What happens in the release's database: sessions in the way, replication, vacuum. And what stops a session."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from zdd_tui.model.actions import Action, Confirmation
from zdd_tui.model.queries import Query

LONG_SECONDS = 10.0
"""Seconds from which an open transaction is listed although nobody waits for it."""

CANCEL_SECONDS = 3.0
"""Seconds that a cancelled statement gets to end before terminating its session is offered."""

MAX_SHOWN = 100

STOP_SESSION = Action(
    "stop-session",
    "enter",
    "stop",
    "Cancel the session's statement, or terminate the session.",
    Confirmation.DIALOG,
    mutating=True,
    available_while_locked=True,
    sends_command=False,
)
"""Of the activity screen alone."""


class SessionRelation(StrEnum):
    """Why a session is listed, the most urgent first."""

    BLOCKS_AGENT = "blocks zdd"
    WAITS_FOR_AGENT = "waits for zdd"
    BLOCKS = "blocks"
    WAITS = "waits"
    LONG = "long open"
    AGENT = "zdd agent"


@dataclass(frozen=True, slots=True)
class Session:
    """A session of the database, or a prepared transaction.

    Attributes:
        pid: 0 for a prepared transaction.
        started: when the session started, as the server writes it; with the pid it names one session.
        state: as in pg_stat_activity; ``hidden`` where this role may not see it.
        transaction_seconds: age of its transaction; None without one.
        state_seconds: how long it has been in this state.
        wait: what it waits for, such as ``Lock relation``; empty where it waits for nothing.
        query: its current or last statement, with secrets masked.
        blocked_by: pids that it waits for.
    """

    pid: int
    started: str
    role: str
    application: str
    address: str
    state: str
    transaction_seconds: float | None
    state_seconds: float | None
    wait: str = ""
    query: str = ""
    blocked_by: tuple[int, ...] = ()

    @property
    def is_agent(self) -> bool:
        """It belongs to an agent of zdd."""
        return self.application.startswith("zdd agent ")

    @property
    def is_idle(self) -> bool:
        """It runs no statement that could be cancelled."""
        return self.state.startswith("idle")


@dataclass(frozen=True, slots=True)
class Replica:
    """A standby, or a replication slot without one.

    Attributes:
        lag_seconds: by the server's measure; None where it is not known.
        lag_bytes: WAL that it has not replayed, or that the slot retains.
    """

    name: str
    state: str
    lag_seconds: float | None
    lag_bytes: int | None


@dataclass(frozen=True, slots=True)
class TableVacuum:
    """Vacuum of one table of the release.

    Attributes:
        running: phase and progress of the vacuum that runs now; empty where none runs.
        last_seconds: since the last vacuum, automatic or not; None where there was none.
        wraparound_percent: age of the oldest transaction id, of autovacuum_freeze_max_age.
    """

    table: str
    live_rows: int
    dead_rows: int
    last_seconds: float | None
    running: str = ""
    wraparound_percent: float = 0.0


@dataclass(frozen=True, slots=True)
class DatabaseActivity:
    """One reading.

    Attributes:
        hidden: number of sessions whose state this role may not see.
    """

    sessions: tuple[Session, ...] = ()
    replicas: tuple[Replica, ...] = ()
    tables: tuple[TableVacuum, ...] = ()
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class ActivityQuery(Query[DatabaseActivity]):
    """What happens in the release's database now."""


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session with the reason why it is listed.

    Attributes:
        blocks: pids that wait for it.
    """

    session: Session
    relation: SessionRelation
    blocks: tuple[int, ...] = ()


def list_sessions(sessions: Iterable[Session]) -> tuple[ListedSession, ...]:
    """The sessions that matter, the most urgent first, then by the age of their transactions."""
    by_pid = {session.pid: session for session in sessions}
    waiters: dict[int, list[int]] = {}
    for session in by_pid.values():
        for pid in session.blocked_by:
            waiters.setdefault(pid, []).append(session.pid)
    in_our_way = _blockers_of([pid for pid, session in by_pid.items() if session.is_agent], by_pid)
    found = [
        ListedSession(session, relation, tuple(sorted(waiters.get(session.pid, ()))))
        for session in by_pid.values()
        if (relation := _relation(session, by_pid, waiters, in_our_way)) is not None
    ]
    order = list(SessionRelation)
    found.sort(key=lambda each: (order.index(each.relation), -(each.session.transaction_seconds or 0.0)))
    return tuple(found[:MAX_SHOWN])


def _blockers_of(pids: Iterable[int], by_pid: dict[int, Session]) -> set[int]:
    """Every session that one of these waits for, directly or behind another one."""
    found: set[int] = set()
    pending = list(pids)
    while pending:
        session = by_pid.get(pending.pop())
        new = set(session.blocked_by) - found if session is not None else set()
        found |= new
        pending += new
    return found


def _relation(
    session: Session, by_pid: dict[int, Session], waiters: dict[int, list[int]], in_our_way: set[int]
) -> SessionRelation | None:
    if session.is_agent:
        return SessionRelation.AGENT if session.blocked_by or session.pid in waiters else None
    if session.pid in in_our_way:
        return SessionRelation.BLOCKS_AGENT
    if any(pid in by_pid and by_pid[pid].is_agent for pid in session.blocked_by):
        return SessionRelation.WAITS_FOR_AGENT
    if session.pid in waiters:
        return SessionRelation.BLOCKS
    if session.blocked_by:
        return SessionRelation.WAITS
    return SessionRelation.LONG if (session.transaction_seconds or 0.0) >= LONG_SECONDS else None


# --- stopping a session ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StopRequest:
    """What an operator has confirmed.

    Attributes:
        terminate: end the session, not only its statement.
    """

    pid: int
    started: str
    terminate: bool
    reason: str = ""


def must_terminate(session: Session, cancelled_seconds: float | None) -> bool:
    """Whether only the end of the session helps: it runs no statement, or was cancelled and has not stopped.

    Args:
        cancelled_seconds: since this dashboard has cancelled its statement; None where it has not.
    """
    return session.is_idle or (cancelled_seconds is not None and cancelled_seconds >= CANCEL_SECONDS)


def why_no_stop(session: Session) -> str:
    """Why a session cannot be stopped here; empty where it can."""
    if session.is_agent:
        return "it belongs to an agent of zdd: pause or roll back the release"
    if session.pid == 0:
        return f"a prepared transaction has no session: ROLLBACK PREPARED '{session.application}'"
    return ""

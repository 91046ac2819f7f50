"""What a detail screen asks, and what it is told: data that is fetched when somebody looks, never kept on the board.

Times are seconds since 1970 by the clock of the system that was asked, unless they say otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from zdd_tui.model.plan.guard import GuardAction
from zdd_tui.model.release.records import Event, FailedRow, StoredCommand
from zdd_tui.model.workload.rollout import EventView

T_co = TypeVar("T_co", covariant=True)

ObjectKind = Literal["Pod", "ReplicaSet", "Deployment", "Service"]


class Query(Generic[T_co]):
    """A question to the systems behind the board; its type says what the answer is."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ChangeView:
    """What a schema change makes of what, as far as a screen draws it.

    Attributes:
        old_columns, new_columns: name, and the expression that computes it from the other side.
        writes_by_trigger: a trigger, not the application, writes the new side until the cutover.
    """

    old_table: str
    new_table: str
    old_columns: tuple[tuple[str, str], ...]
    new_columns: tuple[tuple[str, str], ...]
    writes_by_trigger: bool = False


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule of the guard, as its detail screen tells it.

    Attributes:
        properties: word and text of what it asks, of whom, over which time and against which limit.
        interval: seconds between two looks.
        action: what it asks for when it fails.
    """

    name: str
    properties: tuple[tuple[str, str], ...] = ()
    interval: float = 0.0
    action: GuardAction = GuardAction.ALERT


# --- Kubernetes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ObjectDetail:
    """An object of the release's namespace.

    Attributes:
        document: as the API gave it, without managedFields, with what looks secret masked.
        yaml: the same, as kubectl would write it.
        events: about it, the oldest first.
        events_error: why there are none, where they could not be read.
    """

    document: Mapping[str, Any]
    yaml: str
    events: tuple[EventView, ...] = ()
    events_error: str = ""


@dataclass(frozen=True, slots=True)
class ObjectQuery(Query[ObjectDetail]):
    """One object by kind and name."""

    kind: ObjectKind
    name: str


@dataclass(frozen=True, slots=True)
class LogQuery:
    """A container's log.

    Attributes:
        container: empty takes the pod's only one, or the one that the plan names.
        previous: of the container that ended before the present one.
        tail: how many lines of what is there already.
    """

    pod: str
    container: str = ""
    previous: bool = False
    tail: int = 500


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line.

    Attributes:
        at: when it was written; None where that is not known.
        is_note: it is ours, about the stream, and not the container's.
    """

    text: str
    at: float | None = None
    is_note: bool = False


@dataclass(frozen=True, slots=True)
class LogView:
    """The newest lines of a log.

    Attributes:
        total: lines that came in all, the dropped ones included.
        dropped: lines that came and are not kept any more, oldest first.
        state: ``connecting``, ``following``, ``ended`` (there is no more to come) or ``lost`` (it is tried again).
        error: why the log is lost, in one line.
    """

    lines: tuple[LogLine, ...] = ()
    total: int = 0
    dropped: int = 0
    state: Literal["connecting", "following", "ended", "lost"] = "connecting"
    error: str = ""
    hint: str = ""


class LogTail(Protocol):
    """A log that is followed until somebody closes it."""

    def snapshot(self) -> LogView:
        """What is kept now; cheap, from any thread. The very same object while nothing has changed."""
        ...

    def close(self) -> None:
        """Ends the subscription; from any thread, more than once."""
        ...


# --- the store -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AuditLog:
    """What has happened in a release, as far as the audit goes back.

    Attributes:
        events: oldest first.
        commands: oldest first.
        earlier_count: events that are left out at the beginning.
        recorded_since: what was before is not known; None where the audit is known from its beginning.
    """

    events: tuple[Event, ...]
    commands: tuple[StoredCommand, ...] = ()
    earlier_count: int = 0
    recorded_since: float | None = None


@dataclass(frozen=True, slots=True)
class AuditLogQuery(Query[AuditLog]):
    """The audit of the release on the board."""

    limit: int = 5000


@dataclass(frozen=True, slots=True)
class PlanText:
    """The plan as the release was registered with it, beside the file that it came from.

    Attributes:
        stored: with its ${PLACEHOLDERS}; passwords that stood in it all the same are masked.
        at: when the release was registered.
        path: of the file; empty where the dashboard was not opened with one.
        file: its text now, masked like the stored one; None where it cannot be read.
        file_changed_at: by this machine's clock.
    """

    stored: str
    at: float
    hash: str
    path: str = ""
    file: str | None = None
    file_error: str = ""
    file_changed_at: float | None = None


@dataclass(frozen=True, slots=True)
class PlanQuery(Query[PlanText]):
    """The plan of the release on the board."""


@dataclass(frozen=True, slots=True)
class RangeView:
    """A piece of the table in key order.

    Attributes:
        kind: ``backfill`` or ``verify``.
        lo, hi, cursor: key texts; None: from the start, to the end, not begun.
    """

    kind: str
    id: int
    lo: tuple[str, ...] | None
    hi: tuple[str, ...] | None
    cursor: tuple[str, ...] | None
    rows: int
    done: bool


@dataclass(frozen=True, slots=True)
class MismatchView:
    """A row whose two sides differ; its values are not kept anywhere."""

    key: tuple[str, ...]
    reason: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BackfillDetail:
    """The backfill with what it runs.

    Attributes:
        statement: the SQL of one batch.
        query_plan: how the server would run it for the next page, from EXPLAIN without ANALYZE: nothing is run.
        limits: what can be changed while it runs, by name.
    """

    ranges: tuple[RangeView, ...] = ()
    failed: tuple[FailedRow, ...] = ()
    mismatches: tuple[MismatchView, ...] = ()
    statement: str = ""
    query_plan: tuple[str, ...] = ()
    explain_error: str = ""
    limits: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BackfillQuery(Query[BackfillDetail]):
    """The backfill of the release on the board."""

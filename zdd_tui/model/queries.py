"""Queries of the detail screens, and their results: data that is read on demand, never part of the dashboard's state.

Times are seconds since 1970 by the clock of the queried system, unless stated otherwise.
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
    """A query to the release's systems; the type parameter is its result."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ChangeView:
    """A schema change, as a screen draws it.

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
    """A rule of the guard, for its detail screen.

    Attributes:
        properties: label and text of its query, source, window and limit.
        interval: seconds between two evaluations.
        action: the guard's action when the rule fails.
    """

    name: str
    properties: tuple[tuple[str, str], ...] = ()
    interval: float = 0.0
    action: GuardAction = GuardAction.ALERT


# Kubernetes


@dataclass(frozen=True, slots=True)
class ObjectDetail:
    """An object of the release's namespace.

    Attributes:
        document: as the API returned it, without managedFields and with secrets masked.
        yaml: the document in the form of kubectl.
        events: the object's events, oldest first.
        events_error: why the events could not be read, else empty.
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
        container: empty selects the pod's only container, or the one that the plan names.
        previous: the log of the container before the last restart.
        tail: number of existing lines to read.
    """

    pod: str
    container: str = ""
    previous: bool = False
    tail: int = 500


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line.

    Attributes:
        at: time of the line; None where it is unknown.
    """

    text: str
    at: float | None = None


@dataclass(frozen=True, slots=True)
class LogView:
    """The newest lines of a log.

    Attributes:
        total: lines received, the dropped ones included.
        dropped: received lines that are no longer stored, the oldest ones.
        state: ``connecting``, ``following``, ``ended`` (no more lines follow) or ``lost`` (it reconnects).
        error: why the log is lost, in one line.
    """

    lines: tuple[LogLine, ...] = ()
    total: int = 0
    dropped: int = 0
    state: Literal["connecting", "following", "ended", "lost"] = "connecting"
    error: str = ""
    hint: str = ""


class LogTail(Protocol):
    """A log that is followed until it is closed."""

    def snapshot(self) -> LogView:
        """The stored lines; cheap, callable from any thread; the same object while nothing has changed."""
        ...

    def close(self) -> None:
        """Ends the subscription; callable from any thread, and repeatedly."""
        ...


# The store


@dataclass(frozen=True, slots=True)
class AuditLog:
    """The history of a release, as far as the audit goes back.

    Attributes:
        events: oldest first.
        commands: oldest first.
        earlier_count: number of events before the first one returned.
        recorded_since: nothing is known before this time; None where the audit is complete.
    """

    events: tuple[Event, ...]
    commands: tuple[StoredCommand, ...] = ()
    earlier_count: int = 0
    recorded_since: float | None = None


@dataclass(frozen=True, slots=True)
class AuditLogQuery(Query[AuditLog]):
    """The audit of the shown release."""

    limit: int = 5000


@dataclass(frozen=True, slots=True)
class PlanText:
    """The stored plan of the release, and the plan file.

    Attributes:
        stored: with its ${PLACEHOLDERS}; any passwords in it are masked.
        at: time of the release's registration.
        path: of the file; empty where the dashboard was opened without one.
        file: its current text, masked like the stored one; None where it cannot be read.
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
    """The plan of the shown release."""


@dataclass(frozen=True, slots=True)
class RangeView:
    """A piece of the table in key order.

    Attributes:
        kind: ``backfill`` or ``verify``.
        job: name of the step that fills the table; empty for the rows of a change.
        lo, hi, cursor: key texts; None: from the start, to the end, not started.
        job: name of the step that fills the table; empty for the rows of a change.
    """

    kind: str
    id: int
    lo: tuple[str, ...] | None
    hi: tuple[str, ...] | None
    cursor: tuple[str, ...] | None
    rows: int
    done: bool
    job: str = ""


@dataclass(frozen=True, slots=True)
class MismatchView:
    """A row whose two sides differ; its values are never stored."""

    key: tuple[str, ...]
    reason: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BackfillDetail:
    """The backfill with its ranges and its SQL.

    Attributes:
        statement: the SQL of one batch; of operations the statement of every fill.
        query_plan: EXPLAIN without ANALYZE for the next batch; nothing is executed.
        limits: the limits that can be changed while it runs, by name.
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
    """The backfill of the shown release."""


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """The values of one evaluation, in the rule's unit.

    Attributes:
        at: seconds; in an agent by its monotonic clock, on a screen since the epoch by the database's clock.
        new: of the newest version that runs; None where it has none.
        old: of all older versions together; None where they have none.
    """

    at: float
    new: float | None
    old: float | None


@dataclass(frozen=True, slots=True)
class MetricHistory:
    """The values of the guard's rules over time.

    Attributes:
        points: by rule, the oldest first; their times are seconds since the epoch by the database's clock.
    """

    points: Mapping[str, tuple[MetricPoint, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MetricHistoryQuery(Query[MetricHistory]):
    """What the charts of the shown release are drawn from."""

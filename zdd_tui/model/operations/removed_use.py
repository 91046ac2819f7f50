"""What a release removes, and whether live queries have stopped using it since a baseline. Pure.

pg_stat_statements counts calls without the time of the last one, so its counts are compared with those of the baseline:
it is taken when the last pod of the old version is gone, or when the gate is evaluated first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from zdd_tui.model.counting import count_noun
from zdd_tui.model.operations.base import RemovedKind, RemovedObject
from zdd_tui.model.operations.registry import plan_operations
from zdd_tui.model.operations.scope import ObjectKey
from zdd_tui.model.operations.statement_uses import RemovedTarget, Use, can_read, find_use
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.base import AcceptedLoss, Plan
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.sql import redact_query

_WITHOUT_STATEMENTS = {RemovedKind.INDEX, RemovedKind.CONSTRAINT, RemovedKind.SEQUENCE}
"""Their use is counted by the server, without an extension."""


def removed_objects(plan: BaseOperationsPlan, phase: Phase | None = None) -> tuple[RemovedObject, ...]:
    """What a plan takes away, in the order of its operations.

    Args:
        phase: only what this phase takes away.

    Raises:
        PlanError: an operation cannot be executed.
    """
    return tuple(
        replace(each, settings=operation.settings)
        for operation in plan_operations(plan)
        for each in operation.removes
        if phase is None or each.phase is phase
    )


def accept_every_use(plan: BaseOperationsPlan, reason: str) -> tuple[AcceptedLoss, ...]:
    """Entries of ``accept:`` for a database that only zdd uses."""
    labels = dict.fromkeys(each.label for each in removed_objects(plan))
    return tuple(AcceptedLoss(what=label, reason=reason) for label in labels)


def old_side(plan: Plan) -> tuple[RemovedObject, ...]:
    """What contract of a change takes away: columns, or a table."""
    table = plan.change.table
    names = (table.schema_, table.name)
    if plan.change.into is not None:
        return (RemovedObject(RemovedKind.RELATION, names, f"table {table}", Phase.CONTRACT),)
    return tuple(
        RemovedObject(RemovedKind.COLUMN, (*names, column), f"column {table}.{column}", Phase.CONTRACT)
        for column in plan.change.down
    )


def replaced_routines(plan: BaseOperationsPlan) -> tuple[ObjectKey, ...]:
    """The functions that the operations create, replace or remove."""
    keys = (key for each in plan_operations(plan) for key in (each.creates, each.archives) if key is not None)
    return tuple(key for key in keys if key.space == "routine")


# --- what the server reports


@dataclass(frozen=True, slots=True)
class ResolvedObject:
    """A removed object as the catalog has it.

    Attributes:
        relations: OIDs of its indexes, or of the sequence, whose use the server counts.
        functions: those that stay and whose body names it.
    """

    removed: RemovedObject
    target: RemovedTarget
    relations: tuple[int, ...] = ()
    functions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientSession:
    """A client's session.

    Attributes:
        query: the last one, in full where the server knows it.
        query_id: 0 where there is none.
        is_busy: it runs a statement, or is in a transaction.
        started_at: of the query, seconds since 1970.
        is_cut: the text is not complete.
    """

    pid: int
    role: str
    application: str
    address: str
    query: str
    query_id: int
    is_busy: bool
    started_at: float
    is_cut: bool = False

    @property
    def who(self) -> str:
        """Role, application and address, as far as they are known."""
        application = f", application {self.application}" if self.application else ""
        return f"role {self.role}{application}, address {self.address or 'local'}"


@dataclass(frozen=True, slots=True)
class StatementCount:
    """A statement of pg_stat_statements.

    Attributes:
        key: user, database and statement, as the function that resets its count wants them.
        first_at: when its count began, seconds since 1970; 0 before PostgreSQL 17, which does not record it.
    """

    key: tuple[int, int, int]
    role: str
    query: str
    calls: int
    first_at: float = 0.0


@dataclass(frozen=True, slots=True)
class UseFacts:
    """What the server reports about queries at one time.

    Attributes:
        at: seconds since 1970, by the server's clock.
        statements: those that may name a removed object.
        scans: by OID.
        schema: of pg_stat_statements.
        reset_at: when its counts began; seconds since 1970.
        discarded: how often it has discarded statements.
        unavailable: what cannot be seen, each with its fix.
    """

    at: float
    sessions: tuple[ClientSession, ...] = ()
    statements: tuple[StatementCount, ...] = ()
    scans: Mapping[int, int] = field(default_factory=dict)
    schema: str = ""
    reset_at: float = 0.0
    discarded: int = 0
    unavailable: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class UseBaseline:
    """Counts from which uses are counted on.

    Attributes:
        since: the name of what had ended then, a rollout or a phase; ``planned`` where nothing had begun.
        at: seconds since 1970, by the server's clock.
        reset_at, discarded: as in :class:`UseFacts`, then.
        calls: by the key of a statement, as text.
        scans: by OID, as text.
    """

    since: str
    at: float
    reset_at: float
    discarded: int
    calls: Mapping[str, int]
    scans: Mapping[str, int]

    @classmethod
    def take(cls, since: str, facts: UseFacts) -> Self:
        """The baseline of what the server reports now."""
        calls = {_key_text(each.key): each.calls for each in facts.statements}
        scans = {str(oid): count for oid, count in facts.scans.items()}
        return cls(since, facts.at, facts.reset_at, facts.discarded, calls, scans)

    def follow(self, facts: UseFacts) -> Self:
        """The baseline after a reading: counts that were reset are counted from 0 on, or all of them anew."""
        now = self.take(self.since, facts)
        if facts.reset_at != self.reset_at:
            return now
        return replace(
            self,
            calls={key: 0 if now.calls.get(key, 0) < count else count for key, count in self.calls.items()},
            scans={oid: 0 if now.scans.get(oid, count) < count else count for oid, count in self.scans.items()},
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "since": self.since,
            "at": self.at,
            "reset_at": self.reset_at,
            "discarded": self.discarded,
            "calls": dict(self.calls),
            "scans": dict(self.scans),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(**document)


def _key_text(key: tuple[int, int, int]) -> str:
    return "/".join(map(str, key))


# --- findings


def names_object(query: str, objects: Iterable[ResolvedObject]) -> bool:
    """Whether a statement names one of the objects, or may: it cannot be read, or there are several tables of the name.

    ``SELECT *`` names no column: it survives the removal, and which columns the client uses is not seen here.
    """
    return any(
        use is Use.YES or (use is Use.MAYBE and (each.target.kind is RemovedKind.RELATION or not can_read(query)))
        for each in objects
        if (use := find_use(query, each.target))
    )


@dataclass(frozen=True, slots=True)
class UseFindings:
    """What is known about the uses of removed objects.

    Attributes:
        used: statements that would fail; each as a line.
        unknown: what may be a use, or cannot be seen, and is not accepted by the plan.
        accepted: labels of the objects for which the plan accepts such a thing.
    """

    used: tuple[str, ...]
    unknown: tuple[str, ...]
    accepted: tuple[str, ...]


def find_uses(
    objects: Sequence[ResolvedObject], facts: UseFacts, baseline: UseBaseline, accepted: Mapping[str, str]
) -> UseFindings:
    """The uses since the baseline.

    Args:
        accepted: reasons by label: what may be a use of these objects does not count.
    """
    used: list[str] = []
    unknown: list[str] = []
    with_reason: list[str] = []
    invisible = [f"{what}: {fix}" for what, fix in facts.unavailable]
    if facts.discarded > baseline.discarded:
        invisible.append("pg_stat_statements has discarded statements since the baseline: raise pg_stat_statements.max")
    for each in objects:
        label = each.removed.label
        certain, perhaps = _uses_of(each, facts, baseline)
        used += [f"{label} is used by {line}" for line in certain]
        if each.removed.kind not in _WITHOUT_STATEMENTS or each.target.key:
            perhaps += invisible
        if perhaps and label in accepted:
            with_reason.append(label)
        else:
            unknown += [f"{label}: {line}" for line in perhaps]
    return UseFindings(tuple(used), tuple(unknown), tuple(with_reason))


def _uses_of(each: ResolvedObject, facts: UseFacts, baseline: UseBaseline) -> tuple[list[str], list[str]]:
    """Certain uses, and what may be one."""
    found: dict[Use, list[str]] = {Use.YES: [], Use.MAYBE: []}
    named = set()
    for session in facts.sessions:
        if not session.is_busy and session.started_at < baseline.at:
            continue
        use = find_use(session.query, each.target)
        if use is Use.NO and session.is_cut and session.is_busy:
            use = Use.MAYBE
        if use is not Use.NO:
            named.add(session.query_id)
            how = "cut off: raise track_activity_query_size" if session.is_cut else f"pid {session.pid}"
            found[use].append(f"{session.who}: {redact_query(session.query, 60)} ({how})")
    for statement in facts.statements:
        calls = statement.calls - baseline.calls.get(_key_text(statement.key), 0)
        if calls <= 0 or (use := find_use(statement.query, each.target)) is Use.NO:
            continue
        user, database, query = statement.key
        if query in named:
            continue
        reset = f"{facts.schema}.pg_stat_statements_reset({user}, {database}, {query})"
        more = f"{count_noun(calls, 'call')} since the baseline; once it has stopped: SELECT {reset}"
        found[use].append(f"{_who_calls(statement, facts)}: {redact_query(statement.query, 60)} ({more})")
    scans = sum(facts.scans.get(oid, 0) - baseline.scans.get(str(oid), 0) for oid in each.relations)
    if scans > 0:
        what = "calls of nextval or reads" if each.removed.kind is RemovedKind.SEQUENCE else "index scans"
        found[Use.MAYBE].append(f"{scans:,} {what} since the baseline; PostgreSQL does not record whose")
    found[Use.MAYBE] += [f"the body of function {name} names it" for name in each.functions]
    return found[Use.YES], found[Use.MAYBE]


def _who_calls(statement: StatementCount, facts: UseFacts) -> str:
    """The sessions whose last statement it was; else those of its role, which may be others."""
    query = statement.key[2]
    callers = {each.who for each in facts.sessions if each.query_id == query and each.role == statement.role}
    if callers:
        return sorted(callers)[0]
    of_role = sorted({each.who.partition(", ")[2] for each in facts.sessions if each.role == statement.role})
    return f"role {statement.role}" + (f" (it has sessions of {'; '.join(of_role[:2])})" if of_role else "")

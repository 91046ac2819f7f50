"""Facts that the doctor collects before it evaluates its rules. Times are seconds since the epoch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.release.gate import Verdict

T_co = TypeVar("T_co", covariant=True)


# --- Results: observations with a verdict each, and findings made of them.


WORST_FIRST = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.INCONCLUSIVE, Verdict.PENDING, Verdict.PASS)


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that was examined.

    Attributes:
        verdict: unknown where it could not be examined; then `text` is the reason.
        text: the evidence, in one line.
        hint: what to do about it; empty where there is nothing to do.
    """

    verdict: Verdict
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A pitfall, or a point of the checklist, with its evidence.

    Attributes:
        id: stable name, for scripts and for `--answer`.
    """

    id: str
    title: str
    observations: tuple[Observation, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the observations; unknown where there is none."""
        seen = {observation.verdict for observation in self.observations}
        return next((verdict for verdict in WORST_FIRST if verdict in seen), Verdict.UNKNOWN)

    @property
    def deciding_observation(self) -> Observation:
        """The observation that made the verdict; where all is well, the last one, since proof follows declaration."""
        deciding = [each for each in self.observations if each.verdict is self.verdict]
        if not deciding:
            return Observation(Verdict.UNKNOWN, "not examined")
        return deciding[-1 if self.verdict is Verdict.PASS else 0]


@dataclass(frozen=True, slots=True)
class Report:
    """A whole examination.

    Attributes:
        at: seconds since the epoch.
    """

    name: str
    plan_hash: str
    at: float
    pitfalls: tuple[Finding, ...]
    checklist: tuple[Finding, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return tuple(finding.verdict for finding in (*self.pitfalls, *self.checklist))


@dataclass(frozen=True, slots=True)
class DoctorRule:
    """A pitfall, or a point of the checklist.

    Attributes:
        check: yields what it sees in the facts.
        question: the question for a person, where only a person knows what evidence leaves open; else empty.
    """

    id: str
    title: str
    check: "Callable[[DoctorFacts], Iterator[Observation]]"
    question: str = ""

    def examine(self, facts: "DoctorFacts") -> Iterator[Observation]:
        """What the check sees; where a fact that it needs is missing, it ends as unknown."""
        try:
            yield from self.check(facts)
        except FactMissing as missing:
            yield missing.observation


class FactMissing(Exception):
    """A fact could not be read. Only :meth:`DoctorRule.examine` sees it.

    Args:
        observation: the reason.
    """

    def __init__(self, observation: Observation) -> None:
        super().__init__(observation.text)
        self.observation = observation


def passed(text: str) -> Observation:
    return Observation(Verdict.PASS, text)


def failed(text: str, hint: str) -> Observation:
    return Observation(Verdict.FAIL, text, hint)


def inconclusive(text: str, hint: str = "") -> Observation:
    return Observation(Verdict.INCONCLUSIVE, text, hint)


def unknown(text: str, hint: str = "") -> Observation:
    return Observation(Verdict.UNKNOWN, text, hint)


# --- What is known about the systems.


@dataclass(frozen=True, slots=True)
class Fact(Generic[T_co]):
    """A fact, or the reason why it is missing.

    Attributes:
        value: what was read; None where it could not be read.
        unavailable_reason: then the reason.
    """

    value: T_co | None = None
    unavailable_reason: str = ""
    hint: str = ""

    @property
    def as_unknown(self) -> Observation:
        """The observation that nothing could be observed."""
        return unknown(self.unavailable_reason or "not examined", self.hint)

    def require(self) -> T_co:
        """The value.

        Raises:
            FactMissing: it could not be read.
        """
        if self.value is None:
            raise FactMissing(self.as_unknown)
        return self.value


@dataclass(frozen=True, slots=True)
class PreStop:
    """A container's preStop hook; `seconds` is None where it cannot be known without running it."""

    action: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    """The container that serves, as its Deployment describes it.

    Attributes:
        startup, readiness, liveness: what each probe calls, such as ``GET http/ready``; empty where there is none.
        drain: seconds that the application serves after SIGTERM; None where unknown.
        session_hints: hints at sessions kept in the process.
    """

    image: str
    startup: str
    readiness: str
    liveness: str
    pre_stop: PreStop | None
    grace: float
    drain: float | None
    session_hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrafficFacts:
    """How requests reach the pods.

    Attributes:
        affinity: the Service's sessionAffinity.
        sticky: annotations and fields that bind a client to a pod, as ``ingress/shop: key=value``.
        routes: how many ingresses and HTTPRoutes lead to the Service.
        unavailable: what could not be examined, with the reason.
    """

    service: str
    affinity: str
    sticky: tuple[str, ...]
    routes: int
    unavailable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OldSideQuery:
    """A query that names the old side.

    Attributes:
        evidence: why it counts as live, such as ``called 3 times during the check``; empty where it may be old.
    """

    text: str
    evidence: str


@dataclass(frozen=True, slots=True)
class QueryFacts:
    """Queries that still use the old side.

    Attributes:
        unavailable: what could not be examined, with the reason, and its fix.
    """

    queries: tuple[OldSideQuery, ...]
    unavailable: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RollbackRecord:
    """What `zdd rehearse` has stored, or a release that was rolled back for good.

    Attributes:
        verdict: as stored; ``pass`` is the good one.
        rows: how many it copied; None where unknown.
        scale: part of production's volume, 1.0 for all of it; None where unknown.
    """

    plan_hash: str
    at: float
    verdict: str
    rows: int | None = None
    scale: float | None = None
    where: str = "an embedded server"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a person answered, or what was tried.

    Attributes:
        source: ``person`` or ``trial``.
        item_id: of the checklist.
        subject: of a trial, the image that was tried.
        actor: ``name@host``.
    """

    item_id: str
    source: str
    verdict: str
    text: str
    actor: str
    at: float
    plan_hash: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseHistory:
    """What the `zdd` schema knows.

    Attributes:
        cutover_at: when the newest release of the plan had rolled out the version that knows only the new side.
        is_contracted: the old side is archived.
        waiting_since: since when it has been waiting for a person.
        flag_set_at: since when a flag has had the value that the release gave it, by its steps.
        ended_flags: flags of releases that have ended, with the release's name.
    """

    cutover_at: float | None = None
    is_contracted: bool = False
    waiting_since: float | None = None
    rehearsals: tuple[RollbackRecord, ...] = ()
    flag_set_at: dict[str, float] = field(default_factory=dict)
    ended_flags: dict[str, str] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class DnsFacts:
    """A public name.

    Attributes:
        ttl: seconds; the longest on the way from the name to its addresses; None where it was not answered.
        authoritative: it comes from a server of the zone, not from a cache where it has been running down.
        problem: why there is no answer.
    """

    name: str
    ttl: int | None
    authoritative: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class MigrationFacts:
    """The SQL that ships with a release whose strategy leaves the schema alone.

    Attributes:
        statements: how many there are; 0 where the plan names none.
        breaking: place and statement, and why running code does not survive it.
        advice: the command that writes the expand/contract plan.
    """

    statements: int = 0
    breaking: tuple[tuple[str, str], ...] = ()
    advice: str = ""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The plan file in version control.

    Attributes:
        state: ``committed``, ``changed``, ``untracked`` or ``outside`` (in no repository).
        revision: the last commit of the file, short; empty where there is none.
    """

    state: str
    revision: str = ""


@dataclass(frozen=True, slots=True)
class DoctorFacts:
    """Everything that the rules evaluate.

    Attributes:
        now: of this machine.
        flags: the stored values in Redis by key; None for one that does not exist.
        refusals: title and hint of each reason for which `zdd check --offline` refuses the plan.
    """

    plan: BasePlan
    plan_hash: str
    now: float
    workload: Fact[WorkloadFacts] = Fact()
    traffic: Fact[TrafficFacts] = Fact()
    queries: Fact[QueryFacts] = Fact()
    history: Fact[ReleaseHistory] = Fact()
    flags: Fact[dict[str, str | None]] = Fact()
    names: Fact[tuple[DnsFacts, ...]] = Fact()
    refusals: Fact[tuple[tuple[str, str], ...]] = Fact()
    file: Fact[FileFacts] = Fact()
    migrations: Fact[MigrationFacts] = Fact()

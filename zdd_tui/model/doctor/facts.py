"""What the doctor collects before it judges. Times are seconds since the epoch unless they say otherwise."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.release.gate import Verdict

T_co = TypeVar("T_co", covariant=True)


# --- What the doctor says: observations with a verdict each, and findings made of them.


WORST_FIRST = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.INCONCLUSIVE, Verdict.PASS)


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that was looked at.

    Attributes:
        verdict: unknown where it could not be looked at; then `text` is the reason.
        text: the evidence, in one line.
        mend: what to do about it; empty where there is nothing to do.
    """

    verdict: Verdict
    text: str
    mend: str = ""


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
    def telling(self) -> Observation:
        """The observation that made the verdict; where all is well, the last one, since proof follows declaration."""
        deciding = [each for each in self.observations if each.verdict is self.verdict]
        if not deciding:
            return Observation(Verdict.UNKNOWN, "nobody has looked")
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
class Rule:
    """One line of a table of rules.

    Attributes:
        judge: yields what it sees in the facts.
    """

    id: str
    title: str
    judge: "Callable[[Facts], Iterator[Observation]]"

    def finding(self, facts: "Facts") -> Finding:
        return Finding(self.id, self.title, tuple(self.judge(facts)))


def apply(rules: Iterable[Rule], facts: "Facts") -> tuple[Finding, ...]:
    return tuple(rule.finding(facts) for rule in rules)


def passed(text: str) -> Observation:
    return Observation(Verdict.PASS, text)


def failed(text: str, mend: str) -> Observation:
    return Observation(Verdict.FAIL, text, mend)


def unsure(text: str, mend: str = "") -> Observation:
    return Observation(Verdict.INCONCLUSIVE, text, mend)


def unknown(text: str, mend: str = "") -> Observation:
    return Observation(Verdict.UNKNOWN, text, mend)


# --- What is known about the systems.


@dataclass(frozen=True, slots=True)
class Look(Generic[T_co]):
    """A look at something.

    Attributes:
        value: what was seen; None where it could not be looked at.
        why_not: then the reason.
    """

    value: T_co | None = None
    why_not: str = ""
    mend: str = ""

    @property
    def failure(self) -> Observation:
        """The observation that nothing could be observed."""
        return unknown(self.why_not or "it was not looked at", self.mend)


@dataclass(frozen=True, slots=True)
class PreStop:
    """A container's preStop hook; `seconds` is None where only running it would tell."""

    what: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    """The container that serves, as its Deployment describes it.

    Attributes:
        startup, readiness, liveness: what each probe asks, such as ``GET http/ready``; empty where there is none.
        drain: seconds that the application goes on serving after SIGTERM; None where nothing tells.
        session_hints: what looks as if sessions were kept in the process.
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
        not_looked: what could not be looked at, with the reason.
    """

    service: str
    affinity: str
    sticky: tuple[str, ...]
    routes: int
    not_looked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OldQuery:
    """A query that names the old side.

    Attributes:
        proof: why it must be called live, such as ``called 3 times while we looked``; empty where it may be history.
    """

    text: str
    proof: str


@dataclass(frozen=True, slots=True)
class QueryFacts:
    """Who still asks for the old side.

    Attributes:
        not_looked: what could not be looked at, with the reason.
    """

    queries: tuple[OldQuery, ...]
    not_looked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WayBack:
    """What `zdd rehearse` has stored, or a release that was rolled back for good.

    Attributes:
        verdict: as stored; ``pass`` is the good one.
        rows: how many it moved; None where it does not tell.
        scale: part of production's volume, 1.0 for all of it; None where it does not tell.
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
        point: of the checklist.
        subject: of a trial, the image that was tried.
        who: ``name@host``.
    """

    point: str
    source: str
    verdict: str
    text: str
    who: str
    at: float
    plan_hash: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """What the `zdd` schema knows.

    Attributes:
        cut_over_at: when the newest release of the plan had rolled out the version that knows only the new side.
        contracted: the old side is set aside.
        waiting_since: since when it has been waiting for a person.
        flag_set_at: since when a flag has had the value that the release gave it, by its steps.
        ended_flags: flags of releases that have ended, with the release's name.
        other_versions: hashes that releases of the plan's name had.
    """

    cut_over_at: float | None = None
    contracted: bool = False
    waiting_since: float | None = None
    rehearsals: tuple[WayBack, ...] = ()
    flag_set_at: dict[str, float] = field(default_factory=dict)
    ended_flags: dict[str, str] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class NameFacts:
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
class Facts:
    """Everything that the rules look at.

    Attributes:
        now: of this machine.
        flags: the stored values in Redis by key; None for one that does not exist.
    """

    plan: BasePlan
    plan_hash: str
    now: float
    workload: Look[WorkloadFacts] = Look()
    traffic: Look[TrafficFacts] = Look()
    queries: Look[QueryFacts] = Look()
    history: Look[History] = Look()
    flags: Look[dict[str, str | None]] = Look()
    names: Look[tuple[NameFacts, ...]] = Look()
    file: Look[FileFacts] = Look()
    migrations: Look[MigrationFacts] = Look()

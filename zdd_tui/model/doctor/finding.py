"""What the doctor says: observations with a verdict each, and findings made of them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zdd_tui.model.gate import Verdict

if TYPE_CHECKING:
    from zdd_tui.model.doctor.facts import Facts

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

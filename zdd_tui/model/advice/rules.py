"""Which strategy a change asks for: the table of rules, and nothing else.

The first row of TABLE that holds decides; the cost is the highest of all the rows that hold, so a further
difficulty never makes a release cheaper. AGAINST says why the others were not taken.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Literal

from zdd_tui.model.advice.locks import StatementVerdict, evaluate_statements, select_breaking
from zdd_tui.model.advice.migration import DatabaseStats, Statement
from zdd_tui.model.errors import PlanError


class EffortLevel(IntEnum):
    """In work, machines and attention."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3


class SchemaImpact(StrEnum):
    """What the change does to the database."""

    UNTOUCHED = "untouched"
    ADDITIVE = "additive"
    BREAKING = "breaking"


ROLLING, BLUE_GREEN, CANARY = "rolling", "blue-green", "canary"
DARK_LAUNCH, EXPAND_CONTRACT = "dark-launch", "expand-contract"
STRATEGIES = (ROLLING, BLUE_GREEN, CANARY, DARK_LAUNCH, EXPAND_CONTRACT)


@dataclass(frozen=True, slots=True)
class ChangeFacts:
    """What is known of a change.

    Attributes:
        risk: of the feature, as its owner sees it.
        regions: how many of them serve.
        sessions: where users' sessions are kept.
        is_monolith: one large program with rare releases.
        is_experimental: logic whose answers have to be proven right first.
    """

    schema: SchemaImpact = SchemaImpact.UNTOUCHED
    risk: Literal["low", "high"] = "low"
    regions: int = 1
    sessions: Literal["external", "in-memory"] = "external"
    is_monolith: bool = False
    is_experimental: bool = False


FactsPredicate = Callable[[ChangeFacts], bool]


@dataclass(frozen=True, slots=True)
class AdviceRule:
    """When `holds`, take `strategy`."""

    change: str
    strategy: str
    reason: str
    cost: EffortLevel
    applies: FactsPredicate


def _has_breaking_schema(facts: ChangeFacts) -> bool:
    return facts.schema is SchemaImpact.BREAKING


def _is_risky(facts: ChangeFacts) -> bool:
    return facts.risk == "high"


def _has_many_regions(facts: ChangeFacts) -> bool:
    return facts.regions > 1


def _keeps_sessions_in_memory(facts: ChangeFacts) -> bool:
    return facts.sessions == "in-memory"


def _always(_facts: ChangeFacts) -> bool:
    return True


ADVICE_RULES = (
    AdviceRule(
        *("database schema, breaking", EXPAND_CONTRACT, "the only one that survives a breaking change"),
        *(EffortLevel.MEDIUM, _has_breaking_schema),
    ),
    AdviceRule(
        *("experimental logic", DARK_LAUNCH, "nobody sees it until it is right"),
        *(EffortLevel.HIGH, lambda facts: facts.experimental),
    ),
    AdviceRule(
        "high-risk feature, A/B test", CANARY, "with flags: fine control, kill switch", EffortLevel.HIGH, _is_risky
    ),
    AdviceRule(
        "many regions", BLUE_GREEN, "region by region: isolation, fast way back", EffortLevel.HIGH, _has_many_regions
    ),
    AdviceRule(
        *("legacy monolith, rare releases", BLUE_GREEN, "simple way back"),
        *(EffortLevel.MEDIUM, lambda facts: facts.monolith),
    ),
    AdviceRule(
        *("sessions in memory", BLUE_GREEN, "one switch: no session is lost more than once"),
        *(EffortLevel.MEDIUM, _keeps_sessions_in_memory),
    ),
    AdviceRule(
        *("database schema, additive", ROLLING, "code that runs now survives it: run the migration first, by itself"),
        *(EffortLevel.LOW, lambda facts: facts.schema is SchemaImpact.ADDITIVE),
    ),
    AdviceRule("stateless service, configuration", ROLLING, "simple, safe without state", EffortLevel.LOW, _always),
)

ROLLBACK_TIMES = {
    ROLLING: ("minutes", "as long as a rollout: every pod is replaced once more"),
    BLUE_GREEN: ("seconds", "one patch of the Service, while the old pods are kept warm"),
    CANARY: ("seconds", "the weight goes back to 0"),
    DARK_LAUNCH: ("seconds", "the flag goes off; users never saw it"),
    EXPAND_CONTRACT: (
        "seconds to minutes",
        "flags in seconds until V3 is out, then one rollout; open until cleanup drops the old data",
    ),
}

REJECTIONS: tuple[tuple[str, FactsPredicate, str], ...] = (
    (
        ROLLING,
        _has_breaking_schema,
        "old and new pods run side by side, and one of them meets a schema that it does not know",
    ),
    (ROLLING, lambda facts: facts.is_experimental, "every user meets the new logic before anybody has compared it"),
    (ROLLING, _is_risky, "it cannot stop at a few users, and its way back takes as long as a rollout"),
    (ROLLING, _has_many_regions, "its way back takes minutes in each region"),
    (ROLLING, lambda facts: facts.is_monolith, "a program that starts slowly makes the way back slow"),
    (ROLLING, _keeps_sessions_in_memory, "a user whose pods go one by one can lose the session more than once"),
    (BLUE_GREEN, _has_breaking_schema, "both colours share one database: the switch back finds the old schema gone"),
    (BLUE_GREEN, lambda facts: facts.is_experimental, "the switch shows the new logic to everybody at once"),
    (BLUE_GREEN, _is_risky, "the switch brings the feature to everybody at once"),
    (BLUE_GREEN, _always, "a second set of pods, and nothing here needs it"),
    (CANARY, _has_breaking_schema, "old and new run side by side for hours on one schema that suits only one of them"),
    (CANARY, lambda facts: facts.is_experimental, "some users would see answers that nobody has compared yet"),
    (CANARY, _keeps_sessions_in_memory, "a user would go to and fro between versions and lose the session each time"),
    (CANARY, _always, "steps and analysis cost time, and no risk here asks for them"),
    (DARK_LAUNCH, _has_breaking_schema, "it hides new code, not a changed schema"),
    (DARK_LAUNCH, _always, "a second path beside the first, and there is no experiment to hide"),
    (EXPAND_CONTRACT, _always, "six phases, and no schema change here needs them"),
)


@dataclass(frozen=True, slots=True)
class Advice:
    """The answer.

    Attributes:
        reasons: change and why, the deciding one first; the others add to the cost.
        rollback: how long the way back takes, and what it is.
        rejected: every other strategy, and why.
    """

    strategy: str
    reasons: tuple[AdviceRule, ...]
    cost: EffortLevel
    rollback: tuple[str, str]
    rejected: tuple[tuple[str, str], ...]


def choose_strategy(facts: ChangeFacts) -> Advice:
    """The strategy for a change."""
    reasons = tuple(row for row in ADVICE_RULES if row.applies(facts))
    strategy = reasons[0].strategy
    rejected = tuple(
        (other, next(why for name, holds, why in REJECTIONS if name == other and holds(facts)))
        for other in STRATEGIES
        if other != strategy
    )
    return Advice(strategy, reasons, max(row.cost for row in reasons), ROLLBACK_TIMES[strategy], rejected)


def classify_schema_impact(verdicts: Iterable[StatementVerdict]) -> SchemaImpact:
    """What a migration does to the schema, as running code sees it."""
    seen = tuple(verdicts)
    if any(select_breaking(seen)):
        return SchemaImpact.BREAKING
    return SchemaImpact.ADDITIVE if seen else SchemaImpact.UNTOUCHED


def refuse_destructive(statements: Iterable[Statement], strategy: str, stats: DatabaseStats | None = None) -> None:
    """A destructive statement belongs to expand/contract alone.

    Args:
        stats: with it a NOT NULL that a validated CHECK has proven, and a type that only widens, pass.

    Raises:
        PlanError: place and statement, with the expand/contract plan as mend.
    """
    if strategy == EXPAND_CONTRACT:
        return
    rulings = evaluate_statements(tuple(statements), stats)
    found = tuple(select_breaking(rulings))
    if not found:
        return
    from zdd_tui.model.advice.plan_from_migration import derive_change  # noqa: PLC0415  it needs the SQL parser

    derived = derive_change(rulings, stats)
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    title = (
        f"{first.statement.location}: {first.statement.one_line[:60]}{more}\n"
        f"  a {strategy} release does not survive it: {first.rule.breaking_reason}"
    )
    raise PlanError(title, f"make it an expand/contract release:\n{derived.format_hint()}")

"""Which strategy fits a change: the table of rules.

The first rule that applies decides. The cost is the highest of all rules that apply, so a further difficulty never
makes a release cheaper. REJECTIONS gives the reasons against the other strategies.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Literal

from zdd_tui.model.advice.effects import MeasuredMigration
from zdd_tui.model.advice.locks import StatementVerdict, evaluate_statements, select_breaking
from zdd_tui.model.advice.migration import DatabaseStats, Statement
from zdd_tui.model.advice.plan_from_migration import derive_change
from zdd_tui.model.errors import PlanError


class EffortLevel(IntEnum):
    """What a release costs in work, machines and attention."""

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
    """The known facts of a change.

    Attributes:
        risk: of the feature, as its owner sees it.
        regions: number of regions that serve.
        sessions: where users' sessions are kept.
        is_monolith: one large program with rare releases.
        is_experimental: logic whose results must be verified before users see them.
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
    """Where it applies, `strategy` is the right one."""

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
        *("experimental logic", DARK_LAUNCH, "no user sees the new logic until it is verified"),
        *(EffortLevel.HIGH, lambda facts: facts.is_experimental),
    ),
    AdviceRule(
        "high-risk feature, A/B test", CANARY, "with flags: fine control, kill switch", EffortLevel.HIGH, _is_risky
    ),
    AdviceRule(
        "many regions", BLUE_GREEN, "region by region: isolation, fast rollback", EffortLevel.HIGH, _has_many_regions
    ),
    AdviceRule(
        *("legacy monolith, rare releases", BLUE_GREEN, "simple rollback"),
        *(EffortLevel.MEDIUM, lambda facts: facts.is_monolith),
    ),
    AdviceRule(
        *("sessions in memory", BLUE_GREEN, "one switch: no session is lost more than once"),
        *(EffortLevel.MEDIUM, _keeps_sessions_in_memory),
    ),
    AdviceRule(
        *(
            "database schema, additive",
            ROLLING,
            "running code works with both schemas: run the migration first, by itself",
        ),
        *(EffortLevel.LOW, lambda facts: facts.schema is SchemaImpact.ADDITIVE),
    ),
    AdviceRule("stateless service, configuration", ROLLING, "simple, safe without state", EffortLevel.LOW, _always),
)

ROLLBACK_TIMES = {
    ROLLING: ("minutes", "as long as a rollout: every pod is replaced again"),
    BLUE_GREEN: ("seconds", "one patch of the Service, while the old pods are kept warm"),
    CANARY: ("seconds", "the weight returns to 0"),
    DARK_LAUNCH: ("seconds", "the flag is switched off; users never saw the new path"),
    EXPAND_CONTRACT: (
        "seconds to minutes",
        "flags in seconds until V3 is rolled out, then one rollout; possible until cleanup drops the old data",
    ),
}

REJECTIONS: tuple[tuple[str, FactsPredicate, str], ...] = (
    (
        ROLLING,
        _has_breaking_schema,
        "old and new pods run side by side, and one of the versions does not fit the schema",
    ),
    (ROLLING, lambda facts: facts.is_experimental, "every user gets the new logic before its results are compared"),
    (ROLLING, _is_risky, "it cannot stop at a few users, and its rollback takes as long as a rollout"),
    (ROLLING, _has_many_regions, "its rollback takes minutes in each region"),
    (ROLLING, lambda facts: facts.is_monolith, "a program that starts slowly makes the rollback slow"),
    (ROLLING, _keeps_sessions_in_memory, "pods are replaced one by one, so a user can lose the session more than once"),
    (
        BLUE_GREEN,
        _has_breaking_schema,
        "blue and green share one database: after the migration a switch back does not work",
    ),
    (BLUE_GREEN, lambda facts: facts.is_experimental, "the switch shows the new logic to all users at once"),
    (BLUE_GREEN, _is_risky, "the switch brings the feature to all users at once"),
    (BLUE_GREEN, _always, "a second set of pods, which this change does not need"),
    (CANARY, _has_breaking_schema, "old and new run side by side for hours on a schema that fits only one of them"),
    (CANARY, lambda facts: facts.is_experimental, "some users would see results that are not compared yet"),
    (CANARY, _keeps_sessions_in_memory, "a user would switch between versions and lose the session each time"),
    (CANARY, _always, "steps and analysis take time, and the risk of this change does not require them"),
    (DARK_LAUNCH, _has_breaking_schema, "it hides new code, not a changed schema"),
    (DARK_LAUNCH, _always, "a second path beside the first, and there is no experiment to hide"),
    (EXPAND_CONTRACT, _always, "six phases, and this change breaks no schema"),
)


@dataclass(frozen=True, slots=True)
class Advice:
    """The recommended strategy.

    Attributes:
        reasons: the rules that apply, the deciding one first; the others add to the cost.
        rollback: how long a rollback takes, and how it is done.
        rejected: every other strategy, with the reason against it.
    """

    strategy: str
    reasons: tuple[AdviceRule, ...]
    cost: EffortLevel
    rollback: tuple[str, str]
    rejected: tuple[tuple[str, str], ...]


def choose_strategy(facts: ChangeFacts) -> Advice:
    """The strategy for a change, with its reasons."""
    reasons = tuple(rule for rule in ADVICE_RULES if rule.applies(facts))
    strategy = reasons[0].strategy
    rejected = tuple(
        (other, next(reason for name, applies, reason in REJECTIONS if name == other and applies(facts)))
        for other in STRATEGIES
        if other != strategy
    )
    return Advice(strategy, reasons, max(rule.cost for rule in reasons), ROLLBACK_TIMES[strategy], rejected)


def classify_schema_impact(verdicts: Iterable[StatementVerdict]) -> SchemaImpact:
    """The effect of a migration on running code."""
    verdicts = tuple(verdicts)
    if any(select_breaking(verdicts)):
        return SchemaImpact.BREAKING
    return SchemaImpact.ADDITIVE if verdicts else SchemaImpact.UNTOUCHED


def refuse_destructive(
    statements: Iterable[Statement],
    strategy: str,
    stats: DatabaseStats | None = None,
    measured: MeasuredMigration | None = None,
) -> None:
    """Refuses statements that break running code, unless the strategy is expand-contract.

    Args:
        stats: with them a NOT NULL that a validated CHECK has proven, and a type that only widens, pass.
        measured: with it code that no rule can evaluate passes where it did no harm on a copy of the schema.

    Raises:
        PlanError: location and statement, with the expand-contract plan as hint.
    """
    if strategy == EXPAND_CONTRACT:
        return
    verdicts = evaluate_statements(tuple(statements), stats, measured)
    breaking = tuple(select_breaking(verdicts))
    if not breaking:
        return
    derived = derive_change(verdicts, stats)
    first = breaking[0]
    more = f" (and {len(breaking) - 1} more)" if len(breaking) > 1 else ""
    title = (
        f"{first.statement.location}: {first.statement.one_line[:60]}{more}\n"
        f"  this breaks a {strategy} release: {first.rule.breaking_reason}"
    )
    raise PlanError(title, f"make it an expand/contract release:\n{derived.format_hint()}")

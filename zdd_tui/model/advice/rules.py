"""Which strategy a change asks for: the table of rules, and nothing else.

The first row of TABLE that holds decides; the cost is the highest of all the rows that hold, so a further
difficulty never makes a release cheaper. AGAINST says why the others were not taken.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Literal

from zdd_tui.model.advice.locks import Ruling, breaking, judge
from zdd_tui.model.advice.migration import Live, Statement
from zdd_tui.model.errors import PlanError


class Cost(IntEnum):
    """In work, machines and attention."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3


class Schema(StrEnum):
    """What the change does to the database."""

    UNTOUCHED = "untouched"
    ADDITIVE = "additive"
    BREAKING = "breaking"


ROLLING, BLUE_GREEN, CANARY = "rolling", "blue/green", "canary"
DARK_LAUNCH, EXPAND_CONTRACT = "dark-launch", "expand/contract"
STRATEGIES = (ROLLING, BLUE_GREEN, CANARY, DARK_LAUNCH, EXPAND_CONTRACT)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a change.

    Attributes:
        risk: of the feature, as its owner sees it.
        regions: how many of them serve.
        sessions: where users' sessions are kept.
        monolith: one large program with rare releases.
        experimental: logic whose answers have to be proven right first.
    """

    schema: Schema = Schema.UNTOUCHED
    risk: Literal["low", "high"] = "low"
    regions: int = 1
    sessions: Literal["external", "in-memory"] = "external"
    monolith: bool = False
    experimental: bool = False


Condition = Callable[[Facts], bool]


@dataclass(frozen=True, slots=True)
class Row:
    """When `holds`, take `strategy`."""

    change: str
    strategy: str
    why: str
    cost: Cost
    holds: Condition


def _breaks(facts: Facts) -> bool:
    return facts.schema is Schema.BREAKING


def _risky(facts: Facts) -> bool:
    return facts.risk == "high"


def _many(facts: Facts) -> bool:
    return facts.regions > 1


def _forgetful(facts: Facts) -> bool:
    return facts.sessions == "in-memory"


def _always(_facts: Facts) -> bool:
    return True


TABLE = (
    Row(
        *("database schema, breaking", EXPAND_CONTRACT, "the only one that survives a breaking change"),
        *(Cost.MEDIUM, _breaks),
    ),
    Row(
        *("experimental logic", DARK_LAUNCH, "nobody sees it until it is right"),
        *(Cost.HIGH, lambda facts: facts.experimental),
    ),
    Row("high-risk feature, A/B test", CANARY, "with flags: fine control, kill switch", Cost.HIGH, _risky),
    Row("many regions", BLUE_GREEN, "region by region: isolation, fast way back", Cost.HIGH, _many),
    Row(
        *("legacy monolith, rare releases", BLUE_GREEN, "simple way back"),
        *(Cost.MEDIUM, lambda facts: facts.monolith),
    ),
    Row(
        *("sessions in memory", BLUE_GREEN, "one switch: no session is lost more than once"),
        *(Cost.MEDIUM, _forgetful),
    ),
    Row(
        *("database schema, additive", ROLLING, "code that runs now survives it: run the migration first, by itself"),
        *(Cost.LOW, lambda facts: facts.schema is Schema.ADDITIVE),
    ),
    Row("stateless service, configuration", ROLLING, "simple, safe without state", Cost.LOW, _always),
)

ROLLBACK = {
    ROLLING: ("minutes", "as long as a rollout: every pod is replaced once more"),
    BLUE_GREEN: ("seconds", "one patch of the Service, while the old pods are kept warm"),
    CANARY: ("seconds", "the weight goes back to 0"),
    DARK_LAUNCH: ("seconds", "the flag goes off; users never saw it"),
    EXPAND_CONTRACT: (
        "seconds to minutes",
        "flags in seconds until V3 is out, then one rollout; open until cleanup drops the old data",
    ),
}

AGAINST: tuple[tuple[str, Condition, str], ...] = (
    (ROLLING, _breaks, "old and new pods run side by side, and one of them meets a schema that it does not know"),
    (ROLLING, lambda facts: facts.experimental, "every user meets the new logic before anybody has compared it"),
    (ROLLING, _risky, "it cannot stop at a few users, and its way back takes as long as a rollout"),
    (ROLLING, _many, "its way back takes minutes in each region"),
    (ROLLING, lambda facts: facts.monolith, "a program that starts slowly makes the way back slow"),
    (ROLLING, _forgetful, "a user whose pods go one by one can lose the session more than once"),
    (BLUE_GREEN, _breaks, "both colours share one database: the switch back finds the old schema gone"),
    (BLUE_GREEN, lambda facts: facts.experimental, "the switch shows the new logic to everybody at once"),
    (BLUE_GREEN, _risky, "the switch brings the feature to everybody at once"),
    (BLUE_GREEN, _always, "a second set of pods, and nothing here needs it"),
    (CANARY, _breaks, "old and new run side by side for hours on one schema that suits only one of them"),
    (CANARY, lambda facts: facts.experimental, "some users would see answers that nobody has compared yet"),
    (CANARY, _forgetful, "a user would go to and fro between versions and lose the session each time"),
    (CANARY, _always, "steps and analysis cost time, and no risk here asks for them"),
    (DARK_LAUNCH, _breaks, "it hides new code, not a changed schema"),
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
    reasons: tuple[Row, ...]
    cost: Cost
    rollback: tuple[str, str]
    rejected: tuple[tuple[str, str], ...]


def advise(facts: Facts) -> Advice:
    """The strategy for a change."""
    reasons = tuple(row for row in TABLE if row.holds(facts))
    strategy = reasons[0].strategy
    rejected = tuple(
        (other, next(why for name, holds, why in AGAINST if name == other and holds(facts)))
        for other in STRATEGIES
        if other != strategy
    )
    return Advice(strategy, reasons, max(row.cost for row in reasons), ROLLBACK[strategy], rejected)


def schema_of(rulings: Iterable[Ruling]) -> Schema:
    """What a migration does to the schema, as running code sees it."""
    seen = tuple(rulings)
    if any(breaking(seen)):
        return Schema.BREAKING
    return Schema.ADDITIVE if seen else Schema.UNTOUCHED


def refuse_destructive(statements: Iterable[Statement], strategy: str, live: Live | None = None) -> None:
    """A destructive statement belongs to expand/contract alone.

    Args:
        live: with it a NOT NULL that a validated CHECK has proven, and a type that only widens, pass.

    Raises:
        PlanError: place and statement, with the expand/contract plan as mend.
    """
    if strategy == EXPAND_CONTRACT:
        return
    rulings = judge(tuple(statements), live)
    found = tuple(breaking(rulings))
    if not found:
        return
    from zdd_tui.model.advice.plan_from_migration import derive  # noqa: PLC0415  it needs the SQL parser

    derived = derive(rulings, live)
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    title = (
        f"{first.statement.place}: {first.statement.line[:60]}{more}\n"
        f"  a {strategy} release does not survive it: {first.rule.breaks}"
    )
    raise PlanError(title, f"make it an expand/contract release:\n{derived.as_mend()}")

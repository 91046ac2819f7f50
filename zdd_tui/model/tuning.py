"""Limits of a backfill that an operator changes while it runs.

A **tuning** holds the differences from the plan: pairs of a limit's name and its value, sorted by name, stored with the
release. It never changes the plan. A request maps names to values; the value ``"plan"`` restores the plan's value,
``None`` removes an optional limit.

Where operations fill several tables, each may have limits of its own: ``users:speed`` is that of the table ``users``.
They only make it gentler: in effect is the stricter one of the release's limit and the table's own.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import Backfill, BackfillOfTables, BasePlan, Plan, short_table_name
from zdd_tui.model.plan.operations import BaseOperationsPlan

LimitValue = int | float | None
Tuning = tuple[tuple[str, LimitValue], ...]
"""The names are those of the release's limits, and ``table:limit`` for limits of a table's own."""
RequestedLimits = Mapping[str, object]
"""Name to value: a number, a text as in the plan (``500ms``), None, or PLAN_VALUE."""

PLAN_VALUE = "plan"
"""The value that restores the plan's limit."""

SPEEDS = (10, 25, 50, 75, 100)
"""The steps of :func:`slow_down` and :func:`speed_up`, in percent."""


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """One limit that can be changed while the backfill runs.

    Attributes:
        key: as in the plan's `backfill:`.
        unit: ``rows``, ``rows/s``, ``s``, ``%``, ``MB/s``, ``workers``.
        optional: it may be none, which removes it.
        help: one line, from the plan's schema.
    """

    key: str
    unit: str
    optional: bool
    help: str


_UNITS = {
    "speed": "%",
    "batch_rows": "rows",
    "batch_rows_max": "rows",
    "batch_budget": "s",
    "max_rows_per_second": "rows/s",
    "max_replica_lag": "s",
    "max_lock_wait": "s",
    "max_snapshot_age": "s",
    "max_wal_mb_per_second": "MB/s",
    "max_vacuum_wait": "s",
    "max_guard_latency": "%",
    "workers": "workers",
}
_VALUE_KINDS = {"s": "a duration such as 500ms", "%": "a whole percentage", "workers": "a whole number"}
_OPTIONAL = frozenset({"max_rows_per_second", "max_wal_mb_per_second"})

LIMITS = tuple(
    LimitSpec(key, unit, key in _OPTIONAL, Backfill.model_fields[key].description or "") for key, unit in _UNITS.items()
)
"""In the order of the screens."""


def plan_limits(plan: BasePlan) -> Backfill | None:
    """The limits that a plan sets; None where its strategy writes no rows."""
    return plan.backfill if isinstance(plan, Plan | BaseOperationsPlan) else None


def effective_limits(plan: Backfill, tuning: Tuning) -> Backfill:
    """The limits in effect. A stored value that the plan's rules no longer allow is ignored."""
    if not tuning:
        return plan  # the usual case, on every repaint
    try:
        return _with_changes(plan, dict(tuning))
    except ValidationError:
        pass
    limits = plan
    for key, value in tuning:
        try:
            limits = _with_changes(limits, {key: value})
        except ValidationError:
            continue
    return limits


def limits_of_table(limits: Backfill, table: str) -> Backfill:
    """The limits in effect while a table is filled: limit by limit the stricter one of the release's and its own.

    Args:
        limits: in effect for the release.
        table: as SQL, or as people write it.
    """
    own = _table_sections(limits).get(short_table_name(table))
    if own is None:
        return limits
    stricter: dict[str, LimitValue] = {}
    for key in _UNITS:
        value, of_release = getattr(own, key), getattr(limits, key)
        if value is not None:
            choose = max if key == "max_vacuum_wait" else min  # a longer wait for vacuum is the gentler one
            stricter[key] = value if of_release is None else choose(value, of_release)
    both = limits.model_copy(update=stricter)
    return both.model_copy(update={"batch_rows": min(both.batch_rows, both.batch_rows_max)})


def limit_values(limits: Backfill) -> dict[str, LimitValue]:
    """Every limit of the release by its name, and those that tables have of their own as ``table:limit``."""
    values: dict[str, LimitValue] = {key: getattr(limits, key) for key in _UNITS}
    for table, own in _table_sections(limits).items():
        values |= {f"{table}:{key}": value for key in _UNITS if (value := getattr(own, key)) is not None}
    return values


def own_limits(limits: Backfill, table: str) -> dict[str, LimitValue]:
    """The limits that a table has of its own, by the name of the limit."""
    own = _table_sections(limits).get(short_table_name(table))
    return {key: value for key in _UNITS if (value := getattr(own, key, None)) is not None}


def _table_sections(limits: Backfill) -> Mapping[str, object]:
    return limits.tables if isinstance(limits, BackfillOfTables) else {}


def apply_tuning(plan: Backfill, tuning: Tuning, requested: RequestedLimits, tables: Sequence[str] = ()) -> Tuning:
    """The tuning after a request; a value equal to the plan's is not stored.

    Args:
        tables: that the release fills; the request may change limits of theirs.

    Raises:
        PlanError: no such limit (names the nearest), no such table, or a value that the plan's rules do not allow.
    """
    wanted: dict[str, object] = dict(tuning)
    for written, value in requested.items():
        table, limit = _split_name(written)
        if limit not in _UNITS:
            near = get_close_matches(limit, _UNITS, n=1, cutoff=0.4)
            raise PlanError(
                f"the backfill has no limit {limit} that can be changed while it runs",
                f"did you mean {near[0]}?" if near else f"there are: {', '.join(_UNITS)}",
            )
        table = short_table_name(table) if table else ""
        if table and table not in tables:
            raise PlanError(*explain_unfilled_table(table, tables, f"change the limit of the release: {limit}=…"))
        key = f"{table}:{limit}" if table else limit
        if value == PLAN_VALUE:
            wanted.pop(key, None)
        else:
            wanted[key] = value
    try:
        limits = _with_changes(plan, wanted)
    except ValidationError as error:
        raise _to_plan_error(error, plan) from None
    before, after = limit_values(plan), limit_values(limits)
    return tuple(sorted((key, after.get(key)) for key in wanted if after.get(key) != before.get(key)))


def explain_unfilled_table(table: str, tables: Sequence[str], otherwise: str) -> tuple[str, str]:
    """Title and hint of the error about a table that the release does not fill.

    Args:
        otherwise: the hint where it fills none.
    """
    hint = f"name one of the tables that it fills: {', '.join(tables)}" if tables else otherwise
    return f"no step of the release fills a table {table}", hint


MAX_DIGITS = 18
"""Of a limit. Python converts no number of more than 4300 digits, and no limit comes near either."""


def parse_requested_limits(assignments: Sequence[str]) -> dict[str, object]:
    """Parses ``key=value``: ``speed=50``, ``max_rows_per_second=5k`` or ``none``, ``users:batch_rows=plan``.

    Raises:
        PlanError: an assignment has another form.
    """
    requested: dict[str, object] = {}
    for word in assignments:
        key, equals, text = word.rpartition("=")  # no value has one, and a table may
        if not (key and equals and text):
            raise PlanError(f"{word!r} is not a change of a limit", "write it as key=value, such as speed=50")
        requested[key.strip()] = _parse_value(text.strip())
    return requested


def _parse_value(text: str) -> object:
    lower = text.lower().rstrip("%")
    if lower == "none":
        return None
    if lower == PLAN_VALUE:
        return PLAN_VALUE
    digits = lower.removesuffix("k")
    if not digits.isdecimal() or len(digits) > MAX_DIGITS:
        return text
    return int(digits) * (1 if digits == lower else 1000)


def reset_to_plan(tuning: Tuning) -> dict[str, object]:
    """The request that restores every limit of the plan."""
    return {key: PLAN_VALUE for key, _ in tuning}


def slow_down(limits: Backfill) -> dict[str, object]:
    """The request for one step slower; empty at the slowest."""
    below = [speed for speed in SPEEDS if speed < limits.speed]
    return {"speed": below[-1]} if below else {}


def speed_up(limits: Backfill) -> dict[str, object]:
    """The request for one step faster; empty at full speed."""
    above = [speed for speed in SPEEDS if speed > limits.speed]
    return {"speed": above[0]} if above else {}


def describe_tuning(plan: Backfill, tuning: Tuning) -> tuple[str, ...]:
    """The changed limits, one text each: ``max_rows_per_second 5k (plan: none)``, ``users: speed 50% (plan: none)``."""
    changes = _changed_limits(plan, effective_limits(plan, tuning))
    return tuple(
        f"{format_limit_name(key)} {format_limit(key, value)} (plan: {format_limit(key, planned)})"
        for key, planned, value in changes
    )


def describe_table_limits(plan: Backfill, limits: Backfill, tables: Sequence[str]) -> list[str]:
    """The limits that tables have of their own, a line each, and how they are changed; empty without such tables.

    Args:
        limits: in effect for the release.
        tables: that the release fills.
    """
    if not tables:
        return []
    planned, values = limit_values(plan), limit_values(limits)
    lines = []
    for name in (key for key in planned | values if _split_name(key)[0]):
        now, own = format_limit(name, values.get(name)), format_limit(name, planned.get(name))
        lines.append(f"{format_limit_name(name)} {now}" + (f" (plan: {own})" if own != now else ""))
    example = f"zdd tune PLAN {shlex.quote(f'{tables[0]}:speed=50')}"
    return [
        f"own limits of tables, where stricter: {'' if lines else 'none; '}{example}",
        *(f"  {line}" for line in lines),
    ]


def describe_limit_changes(plan: Backfill, before: Tuning, after: Tuning) -> str:
    """The effect of a change, for the audit: ``speed 100% -> 50%``, or ``limits unchanged``."""
    changes = _changed_limits(effective_limits(plan, before), effective_limits(plan, after))
    texts = (
        f"{format_limit_name(key)} {format_limit(key, old)} -> {format_limit(key, new)}" for key, old, new in changes
    )
    return ", ".join(texts) or "limits unchanged"


def _changed_limits(old: Backfill, new: Backfill) -> list[tuple[str, LimitValue, LimitValue]]:
    before, after = limit_values(old), limit_values(new)
    values = ((key, before.get(key), after.get(key)) for key in before | after)
    return [(key, was, now) for key, was, now in values if was != now]


def _split_name(name: str) -> tuple[str, str]:
    """The table, empty for the release, and the limit."""
    table, _, limit = name.rpartition(":")
    return table, limit


def format_limit_name(name: str) -> str:
    """``speed``, or ``users: speed`` for a limit of a table's own."""
    table, limit = _split_name(name)
    return f"{table}: {limit}" if table else limit


def format_own_limits(values: Mapping[str, LimitValue]) -> str:
    """``speed 50%, max_rows_per_second 1k``"""
    return ", ".join(f"{format_limit_name(key)} {format_limit(key, value)}" for key, value in values.items())


def format_limit(key: str, value: LimitValue) -> str:
    """A limit's value for screens: ``5k``, ``150ms``, ``50%``, ``none``."""
    if value is None:
        return "none"
    match _UNITS[_split_name(key)[1]]:
        case "s":
            return f"{value * 1000:.0f}ms" if value < 1 else format_duration(value)
        case "%":
            return f"{value:.0f}%"
        case "MB/s":
            return f"{value:.0f}MB/s"
        case _:
            return f"{value // 1000:.0f}k" if value >= 1000 and value % 1000 == 0 else f"{value:.0f}"


def _with_changes(plan: Backfill, changes: Mapping[str, object]) -> Backfill:
    document = plan.model_dump()
    tables = document.get("tables", {})
    for key, value in changes.items():
        table, limit = _split_name(key)
        if limit in _UNITS and (not table or isinstance(plan, BackfillOfTables)):
            (tables.setdefault(table, {}) if table else document)[limit] = value
    return type(plan).model_validate(document)


def _to_plan_error(error: ValidationError, plan: Backfill) -> PlanError:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    of_table = place[0] == "tables" if place else False
    key = place[-1] if len(place) == (3 if of_table else 1) else ""
    reason = str(first["msg"]).removeprefix("Value error, ")
    if not key:  # two limits that contradict each other
        has = f"the plan has batch_rows={plan.batch_rows}, batch_rows_max={plan.batch_rows_max}"
        return PlanError(
            f"{place[1] if of_table else 'backfill'}: {reason}",
            "change both at once" if of_table else f"change both at once ({has})",
        )
    reason, got = _plain_reason(first), f", got {first['input']!r}"
    name = f"{place[1]}: {key}" if of_table else key
    return PlanError(f"{name}: {reason.removesuffix(got)}{got}", _describe_values(key))


def _plain_reason(error: ErrorDetails) -> str:
    """A reason without the words of the validating library."""
    if error["type"] in ("int_parsing", "int_type", "int_from_float", "float_parsing", "float_type"):
        return "it is not a whole number"
    return str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "it must be")


def _describe_values(key: str) -> str:
    """Which values a limit takes, and what it limits."""
    spec = next(each for each in LIMITS if each.key == key)
    kind = _VALUE_KINDS.get(spec.unit, f"a number of {spec.unit}")
    return f"{key} is {kind}{', or none' if spec.optional else ''}: {spec.help}"


def pause_seconds(rows: int, seconds: float, limits: Backfill) -> float:
    """Seconds to pause after a batch of ``rows`` that took ``seconds``: for the rate limit, then for the speed."""
    least = seconds if limits.max_rows_per_second is None else max(seconds, rows / limits.max_rows_per_second)
    return least * (100 / limits.speed) - seconds

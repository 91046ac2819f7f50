"""Limits of a backfill that an operator changes while it runs.

A **tuning** holds the differences from the plan: pairs of a limit's name and its value, sorted by name, stored with the
release. It never changes the plan. A request maps names to values; the value ``"plan"`` restores the plan's value,
``None`` removes an optional limit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import Backfill, BasePlan, Plan
from zdd_tui.model.plan.operations import BaseOperationsPlan

LimitValue = int | float | None
Tuning = tuple[tuple[str, LimitValue], ...]
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


def apply_tuning(plan: Backfill, tuning: Tuning, requested: RequestedLimits) -> Tuning:
    """The tuning after a request; a value equal to the plan's is not stored.

    Raises:
        PlanError: no such limit (names the nearest), or a value that the plan's rules do not allow.
    """
    wanted: dict[str, object] = dict(tuning)
    for key, value in requested.items():
        if key not in _UNITS:
            near = get_close_matches(key, _UNITS, n=1, cutoff=0.4)
            raise PlanError(
                f"the backfill has no limit {key} that can be changed while it runs",
                f"did you mean {near[0]}?" if near else f"there are: {', '.join(_UNITS)}",
            )
        if value == PLAN_VALUE:
            wanted.pop(key, None)
        else:
            wanted[key] = value
    try:
        limits = _with_changes(plan, wanted)
    except ValidationError as error:
        raise _to_plan_error(error, plan) from None
    return tuple(sorted((key, getattr(limits, key)) for key in wanted if getattr(limits, key) != getattr(plan, key)))


MAX_DIGITS = 18
"""Of a limit. Python converts no number of more than 4300 digits, and no limit comes near either."""


def parse_requested_limits(assignments: Sequence[str]) -> dict[str, object]:
    """Parses ``key=value``: ``speed=50``, ``max_rows_per_second=5k`` or ``none``, ``batch_rows=plan``.

    Raises:
        PlanError: an assignment has another form.
    """
    requested: dict[str, object] = {}
    for word in assignments:
        key, equals, text = word.partition("=")
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
    """The changed limits, one text each: ``max_rows_per_second 5k (plan: none)``."""
    changes = _changed_limits(plan, effective_limits(plan, tuning))
    return tuple(
        f"{key} {format_limit(key, value)} (plan: {format_limit(key, planned)})" for key, planned, value in changes
    )


def describe_limit_changes(plan: Backfill, before: Tuning, after: Tuning) -> str:
    """The effect of a change, for the audit: ``speed 100% -> 50%``, or ``limits unchanged``."""
    changes = _changed_limits(effective_limits(plan, before), effective_limits(plan, after))
    texts = (f"{key} {format_limit(key, old)} -> {format_limit(key, new)}" for key, old, new in changes)
    return ", ".join(texts) or "limits unchanged"


def _changed_limits(old: Backfill, new: Backfill) -> list[tuple[str, LimitValue, LimitValue]]:
    values = ((key, getattr(old, key), getattr(new, key)) for key in _UNITS)
    return [(key, before, after) for key, before, after in values if before != after]


def format_limit(key: str, value: LimitValue) -> str:
    """A limit's value for screens: ``5k``, ``150ms``, ``50%``, ``none``."""
    if value is None:
        return "none"
    match _UNITS[key]:
        case "s":
            return f"{value * 1000:.0f}ms" if value < 1 else format_duration(value)
        case "%":
            return f"{value:.0f}%"
        case "MB/s":
            return f"{value:.0f}MB/s"
        case _:
            return f"{value // 1000:.0f}k" if value >= 1000 and value % 1000 == 0 else f"{value:.0f}"


def _with_changes(plan: Backfill, changes: Mapping[str, object]) -> Backfill:
    known = {key: value for key, value in changes.items() if key in _UNITS}
    return Backfill.model_validate(plan.model_dump() | known)


def _to_plan_error(error: ValidationError, plan: Backfill) -> PlanError:
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    reason = str(first["msg"]).removeprefix("Value error, ")
    if not key:  # two limits that contradict each other
        return PlanError(
            f"backfill: {reason}",
            f"change both at once (the plan has batch_rows={plan.batch_rows}, batch_rows_max={plan.batch_rows_max})",
        )
    reason, got = _plain_reason(first), f", got {first['input']!r}"
    return PlanError(f"{key}: {reason.removesuffix(got)}{got}", _describe_values(key))


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

"""Limits of a backfill that an operator changes while it runs: which there are, what is in force, faster and slower.

A **tuning** is what differs from the plan: pairs of a limit's name and its value, sorted by name, stored with the
release. It never changes the plan. What is asked for is a mapping of names to values; ``"plan"`` as a value takes the
limit back to the plan's own, ``None`` lifts one that may be lifted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic import ValidationError

from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import Backfill

LimitValue = int | float | None
Tuning = tuple[tuple[str, LimitValue], ...]
RequestedLimits = Mapping[str, object]
"""Name to value: a number, a text as the plan has it (``500ms``), None, or PLAN."""

PLAN_VALUE = "plan"
"""The value that takes a limit back to the plan's own."""

SPEEDS = (10, 25, 50, 75, 100)
"""Percent that :func:`slow_down` and :func:`speed_up` step through."""


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """One limit that can be changed while the backfill runs.

    Attributes:
        key: as in the plan's `backfill:`.
        unit: ``rows``, ``rows/s``, ``s``, ``%``, ``MB/s``, ``workers``.
        optional: it may be none, which lifts it.
        help: what it does, in one line, as the plan's schema says it.
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
_OPTIONAL = frozenset({"max_rows_per_second", "max_wal_mb_per_second"})

LIMITS = tuple(
    LimitSpec(key, unit, key in _OPTIONAL, Backfill.model_fields[key].description or "") for key, unit in _UNITS.items()
)
"""In the order in which screens list them."""


def effective_limits(plan: Backfill, tuning: Tuning) -> Backfill:
    """The limits that hold now. A stored value that the plan's rules do not allow any more is left out."""
    if not tuning:
        return plan  # asked with every board
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
    """The tuning after what is asked for; a value that is the plan's own is no tuning.

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


def parse_requested_limits(assignments: Sequence[str]) -> dict[str, object]:
    """``key=value`` as typed: ``speed=50``, ``max_rows_per_second=5k`` or ``none``, ``batch_rows=plan``.

    Raises:
        PlanError: a word is not of that form.
    """
    asked: dict[str, object] = {}
    for word in assignments:
        key, equals, text = word.partition("=")
        if not (key and equals and text):
            raise PlanError(f"{word!r} is no change of a limit", "write it as key=value, such as speed=50")
        asked[key.strip()] = _parse_value(text.strip())
    return asked


def _parse_value(text: str) -> object:
    lower = text.lower().rstrip("%")
    if lower == "none":
        return None
    if lower == PLAN_VALUE:
        return PLAN_VALUE
    if lower.endswith("k") and lower[:-1].isdecimal():
        return int(lower[:-1]) * 1000
    return int(lower) if lower.isdecimal() else text


def reset_to_plan(tuning: Tuning) -> dict[str, object]:
    """What to ask for so that the plan's own limits hold again."""
    return {key: PLAN_VALUE for key, _ in tuning}


def slow_down(limits: Backfill) -> dict[str, object]:
    """One step slower: what to ask for; empty at the slowest."""
    below = [speed for speed in SPEEDS if speed < limits.speed]
    return {"speed": below[-1]} if below else {}


def speed_up(limits: Backfill) -> dict[str, object]:
    """One step faster: what to ask for; empty at full speed."""
    above = [speed for speed in SPEEDS if speed > limits.speed]
    return {"speed": above[0]} if above else {}


def describe_tuning(plan: Backfill, tuning: Tuning) -> tuple[str, ...]:
    """What is tuned, one text a limit: ``max_rows_per_second 5k (plan: none)``."""
    limits = effective_limits(plan, tuning)
    return tuple(
        f"{key} {format_limit(key, getattr(limits, key))} (plan: {format_limit(key, getattr(plan, key))})"
        for key in _UNITS
        if getattr(limits, key) != getattr(plan, key)
    )


def describe_limit_changes(plan: Backfill, before: Tuning, after: Tuning) -> str:
    """What a change does, for the audit: ``speed 100% -> 50%``; says so where it changes nothing."""
    old, new = effective_limits(plan, before), effective_limits(plan, after)
    changed = [
        f"{key} {format_limit(key, getattr(old, key))} -> {format_limit(key, getattr(new, key))}"
        for key in _UNITS
        if getattr(old, key) != getattr(new, key)
    ]
    return ", ".join(changed) or "every limit is as it was"


def format_limit(key: str, value: LimitValue) -> str:
    """A limit's value for people: ``5k``, ``150ms``, ``50%``, ``none``."""
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
    what = str(first["msg"]).removeprefix("Value error, ")
    if not key:  # two limits that do not go together
        return PlanError(
            f"backfill: {what}",
            f"change both at once (the plan has batch_rows={plan.batch_rows}, batch_rows_max={plan.batch_rows_max})",
        )
    help_text = Backfill.model_fields[key].description
    return PlanError(f"backfill.{key}: {what}, got {first['input']!r}", f"{key}: {help_text}")

"""Limits of a backfill: which can be changed while it runs, by which rules, and how a change is described."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdd_tui.model.errors import PlanError, Refused
from zdd_tui.model.plan.base import Backfill, BackfillOfTables, TableName, short_table_name
from zdd_tui.model.release.state import Command, CommandKind, Precondition, Release, ReleaseState, apply_command
from zdd_tui.model.release.strategies import build_blue_green
from zdd_tui.model.release.strategy import build_expand_contract
from zdd_tui.model.tuning import (
    LIMITS,
    apply_tuning,
    describe_limit_changes,
    describe_table_limits,
    describe_tuning,
    effective_limits,
    limits_of_table,
    own_limits,
    parse_requested_limits,
    reset_to_plan,
    slow_down,
    speed_up,
)

FORWARD = build_expand_contract()
PLAN = Backfill(max_rows_per_second=500)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=3)
NAMES = [spec.key for spec in LIMITS]
KEYS = st.sampled_from([*NAMES, "max_failed_rows", "other", "users:speed", "a b:speed", ":speed", "public.users:speed"])


def test_a_tuning_holds_the_differences_from_the_plan_and_can_be_reset() -> None:
    tuning = apply_tuning(PLAN, (), {"max_rows_per_second": None, "speed": "50", "batch_budget": "80ms"})
    assert tuning == (("batch_budget", 0.08), ("max_rows_per_second", None), ("speed", 50))
    limits = effective_limits(PLAN, tuning)
    assert (limits.max_rows_per_second, limits.speed, limits.batch_budget) == (None, 50, 0.08)
    assert limits.batch_rows == PLAN.batch_rows
    assert describe_tuning(PLAN, tuning) == (
        "speed 50% (plan: 100%)",
        "batch_budget 80ms (plan: 150ms)",
        "max_rows_per_second none (plan: 500)",
    )
    after = apply_tuning(PLAN, tuning, {"speed": "plan", "batch_budget": 0.15})  # the plan's own value is no tuning
    assert after == (("max_rows_per_second", None),)
    assert describe_limit_changes(PLAN, tuning, after) == "speed 50% -> 100%, batch_budget 80ms -> 150ms"
    assert apply_tuning(PLAN, tuning, reset_to_plan(tuning)) == ()
    assert describe_limit_changes(PLAN, (), ()) == "limits unchanged"


@pytest.mark.parametrize(
    ("requested", "message", "hint"),
    [
        ({"max_rows_per_secnd": 5}, "no limit max_rows_per_secnd", "max_rows_per_second"),
        ({"max_failed_rows": 5}, "no limit max_failed_rows", ""),
        ({"speed": 5}, "speed: it must be greater than or equal to 10, got 5", "percent"),
        ({"max_replica_lag": None}, "max_replica_lag: expected a duration", "standby"),
        ({"batch_budget": "fast"}, "batch_budget: expected a duration", "smaller"),
        ({"batch_rows_max": 10}, "batch_rows is larger than batch_rows_max", "both"),
        ({"batch_rows": "'; DROP TABLE users"}, "batch_rows: it is not a whole number", "first batch"),
    ],
)
def test_what_the_plans_rules_do_not_allow_is_refused(requested: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        apply_tuning(PLAN, (), requested)
    assert hint in caught.value.hint


@given(st.dictionaries(KEYS, JSON))
def test_stored_limits_are_never_trusted(stored: dict[str, object]) -> None:
    for plan in (PLAN, BackfillOfTables(max_rows_per_second=500)):
        limits = effective_limits(plan, tuple(stored.items()))  # type: ignore[arg-type]
        assert type(plan).model_validate(limits.model_dump()) == limits
        assert limits.max_failed_rows == PLAN.max_failed_rows


def test_one_bad_stored_limit_leaves_the_others() -> None:
    limits = effective_limits(PLAN, (("batch_rows", -7), ("speed", 25)))
    assert (limits.batch_rows, limits.speed) == (PLAN.batch_rows, 25)


def test_words_as_they_are_typed() -> None:
    words = [
        "speed=50%",
        "max_rows_per_second=5k",
        "batch_budget=80ms",
        "max_wal_mb_per_second=none",
        "batch_rows=plan",
    ]
    assert parse_requested_limits(words) == {
        "speed": 50,
        "max_rows_per_second": 5000,
        "batch_budget": "80ms",
        "max_wal_mb_per_second": None,
        "batch_rows": "plan",
    }
    with pytest.raises(PlanError, match="'speed' is not a change of a limit"):
        parse_requested_limits(["speed"])


def test_faster_and_slower_go_all_the_way_and_stop_there() -> None:
    seen, limits = [100], Backfill()
    while requested := slow_down(limits):
        limits = effective_limits(limits, apply_tuning(limits, (), requested))
        seen.append(limits.speed)
    assert seen == [100, 75, 50, 25, 10]
    while requested := speed_up(limits):
        limits = effective_limits(limits, apply_tuning(limits, (), requested))
    assert limits.speed == 100
    assert slow_down(Backfill(speed=60)) == {"speed": 50}
    assert speed_up(Backfill(speed=60)) == {"speed": 75}


# --- limits of a table's own

_VALUES = {
    "%": st.integers(10, 90), "rows": st.integers(1, 100_000), "rows/s": st.none() | st.integers(1, 10**6),
    "s": st.floats(0.001, 10), "MB/s": st.none() | st.integers(1, 10**4), "workers": st.integers(1, 4),
}  # fmt: skip
OF_LIMITS = st.fixed_dictionaries({}, optional={spec.key: _VALUES[spec.unit] for spec in LIMITS}).filter(
    lambda values: values.get("batch_rows", 1000) <= values.get("batch_rows_max", 5000)
)


def strictness(key: str, value: float | None) -> float:
    """Larger is stricter."""
    return -math.inf if value is None else value if key == "max_vacuum_wait" else -value


@given(OF_LIMITS, OF_LIMITS)
def test_a_table_is_never_filled_faster_than_the_release_or_its_own_limits_allow(
    release: dict[str, Any], table: dict[str, Any]
) -> None:
    limits = BackfillOfTables.model_validate(release | {"tables": {"users": table}})
    both = limits_of_table(limits, "public.users")
    for key in NAMES:
        strict = strictness(key, getattr(both, key))
        wanted = [strictness(key, getattr(limits, key)), strictness(key, table.get(key))]
        wanted = wanted if table.get(key) is not None else wanted[:1]
        if key == "batch_rows":  # a batch is never larger than batch_rows_max
            wanted.append(strictness(key, both.batch_rows_max))
        assert strict == max(wanted), key
    assert BackfillOfTables.model_validate(both.model_dump()) == both
    assert limits_of_table(limits, "orders") == limits
    assert limits_of_table(Backfill.model_validate(release), "users") == Backfill.model_validate(release)


TABLES = BackfillOfTables.model_validate({"tables": {"Shop.users": {"speed": 50, "max_rows_per_second": 1000}}})


def test_limits_of_a_table_are_tuned_and_described_like_those_of_the_release() -> None:
    requested = parse_requested_limits(
        ["SHOP.Users:speed=25%", "shop.users:max_rows_per_second=plan", "items:workers=2"]
    )
    filled = ("shop.users", "items")
    tuning = apply_tuning(TABLES, (("speed", 75),), requested, filled)
    assert tuning == (("items:workers", 2), ("shop.users:speed", 25), ("speed", 75))
    assert describe_tuning(TABLES, tuning) == (
        "speed 75% (plan: 100%)",
        "shop.users: speed 25% (plan: 50%)",
        "items: workers 2 (plan: none)",
    )
    limits = effective_limits(TABLES, tuning)
    assert own_limits(limits, "shop.users") == {"speed": 25, "max_rows_per_second": 1000}
    assert describe_table_limits(TABLES, limits, filled) == [
        "own limits of tables, where stricter: zdd tune PLAN shop.users:speed=50",
        "  shop.users: speed 25% (plan: 50%)",
        "  shop.users: max_rows_per_second 1k",
        "  items: workers 2 (plan: none)",
    ]
    after = apply_tuning(TABLES, tuning, {"shop.users:speed": None, "items:workers": "plan"}, filled)
    assert after == (("shop.users:speed", None), ("speed", 75))
    assert own_limits(effective_limits(TABLES, after), "shop.users") == {"max_rows_per_second": 1000}
    assert describe_limit_changes(TABLES, tuning, after) == "shop.users: speed 25% -> none, items: workers 2 -> none"
    assert apply_tuning(TABLES, tuning, reset_to_plan(tuning), filled) == ()
    # The dialog changes only limits of the release: those of tables stay as they are.
    assert apply_tuning(TABLES, after, {"speed": 50}) == (("shop.users:speed", None), ("speed", 50))


@pytest.mark.parametrize(
    ("requested", "message", "hint"),
    [
        ({"users:speed": 50}, "no step of the release fills a table users", "it fills: shop.users, items"),
        ({"items:spead": 50}, "no limit spead", "did you mean speed?"),
        ({"items:speed": 5}, "items: speed: it must be greater than or equal to 10, got 5", "percent"),
        ({"items:batch_rows": 9, "items:batch_rows_max": 8}, "items: batch_rows is larger than batch_rows_max", "both"),
    ],
)
def test_what_no_table_may_have_is_refused(requested: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        apply_tuning(TABLES, (), requested, ("shop.users", "items"))
    assert hint in caught.value.hint
    with pytest.raises(PlanError, match="no step of the release fills a table users"):
        apply_tuning(PLAN, (), {"users:speed": 50})


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), st.text(min_size=1))
def test_the_short_name_of_a_table_is_the_table(schema: str, name: str) -> None:
    for table in (TableName(name=name), TableName(schema_=schema, name=name)):
        assert TableName.parse(table.short_name) == table
    assert short_table_name('public."users"') == short_table_name("USERS") == "users"


TUNE = Command(CommandKind.TUNE, tuning=(("speed", 50),))


def test_a_tune_is_accepted_until_the_backfill_has_ended() -> None:
    phases = [phase.name for phase in FORWARD.phases]
    for phase in range(-1, phases.index("backfill") + 1):
        release = Release("r", "h", FORWARD, ReleaseState.RUNNING, phase, paused=True)
        assert apply_command(release, TUNE, {}, 0.0).tuning == (("speed", 50),)
    moved = Precondition("h", ReleaseState.PLANNED, -1)  # what was seen matters less than that it comes in time
    assert apply_command(release, Command(CommandKind.TUNE, moved, tuning=TUNE.tuning), {}, 0.0).tuning
    for refused in (
        Release("r", "h", FORWARD, ReleaseState.RUNNING, phases.index("cutover")),
        Release("r", "h", FORWARD, ReleaseState.ROLLING_BACK, 1),
        Release("r", "h", FORWARD, ReleaseState.DONE, 5),
        Release("r", "h", build_blue_green(), ReleaseState.RUNNING, 0),
    ):
        with pytest.raises(Refused):
            apply_command(refused, TUNE, {}, 0.0)

"""The rules around a rehearsal: when it counts, what CHECKs tell, what figures mean for the full size."""

from dataclasses import replace

import pytest

from zdd_tui.model.errors import Refused
from zdd_tui.model.production_lock import is_production
from zdd_tui.model.release.rehearsal import MAX_REHEARSAL_AGE, Rehearsal, require_rehearsal_for_start, why_not_rehearsed
from zdd_tui.model.release.strategy import build_expand_contract
from zdd_tui.rehearsal.expected_rows import RowDiff
from zdd_tui.rehearsal.generator import AllowedValues, read_allowed_values
from zdd_tui.rehearsal.pg_dump import split_password
from zdd_tui.rehearsal.report import RehearsalReport, format_rehearsal_report
from zdd_tui.rehearsal.scenario import ScenarioResult
from zdd_tui.rehearsal.step_metrics import StepMetrics
from zdd_tui.rehearsal.table_stats import ColumnStats, TableStats

GOOD = Rehearsal("h", at=1000.0, passed=True, scale=0.1, actor="ana", host="bastion")


def test_a_fresh_rehearsal_of_the_very_plan_that_passed_is_enough() -> None:
    assert why_not_rehearsed("h", GOOD, 1000.0 + MAX_REHEARSAL_AGE - 1) == ""


@pytest.mark.parametrize(
    ("newest", "now", "words"),
    [
        (None, 1000.0, "never rehearsed"),
        (replace(GOOD, plan_hash="other"), 1000.0, "never rehearsed"),
        (replace(GOOD, passed=False), 1000.0, "ana@bastion, failed"),
        (GOOD, 1000.0 + MAX_REHEARSAL_AGE + 86400, "31d00h old"),
    ],
)
def test_what_is_missing_is_told(newest: Rehearsal | None, now: float, words: str) -> None:
    assert words in why_not_rehearsed("h", newest, now)


def precondition_error(**changes: object) -> str:
    usual = {
        "strategy": "expand-contract",
        "environment": "production",
        "plan_hash": "h",
        "newest": None,
        "now": 0.0,
        "skip_rehearsal": False,
        "reason": "",
    }
    usual["is_production"] = is_production(str((usual | changes)["environment"]))
    return require_rehearsal_for_start(**(usual | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("environment", ["production", "prod-eu", "LIVE"])
def test_production_does_not_begin_unrehearsed_and_the_hint_names_both_ways(environment: str) -> None:
    with pytest.raises(Refused, match=f"^environment {environment}: ") as refused:
        precondition_error(environment=environment)
    assert "zdd rehearse" in refused.value.hint
    assert "--unrehearsed --reason" in refused.value.hint


def test_a_waiver_needs_a_reason_and_leaves_a_trace() -> None:
    with pytest.raises(Refused, match="needs a reason"):
        precondition_error(skip_rehearsal=True, reason="  ")
    assert "without a rehearsal" in precondition_error(skip_rehearsal=True, reason="the fire of tonight")


@pytest.mark.parametrize("other", [{"environment": "pre-production"}, {"strategy": "canary"}, {"newest": GOOD}])
def test_everybody_else_begins_without_a_word(other: dict[str, object]) -> None:
    assert precondition_error(**other) == ""


def test_checks_tell_lists_bounds_and_pairs() -> None:
    names = ("age", "plan", "born", "died", "score")
    table = TableStats(
        "s",
        "t",
        tuple(ColumnStats(name, "int", "int4") for name in names),
        checks=(
            ("a", "((age >= 18) AND (age <= 99))"),
            ("b", "(plan = ANY (ARRAY['monthly'::text, 'yearly'::text]))"),
            ("c", "(died >= born)"),
            ("d", "(score > (0)::numeric)"),
            ("e", "(length(plan) < 9)"),
            ("f", "(elsewhere > 3)"),
        ),
    )
    assert read_allowed_values(table) == {
        "age": AllowedValues(low=18, high=99),
        "plan": AllowedValues(values=("monthly", "yearly")),
        "died": AllowedValues(same_as="born"),
        "score": AllowedValues(low=1),
    }


def test_passwords_never_stand_on_a_command_line() -> None:
    plain, secret = split_password("postgresql://ana:p%40ss@db:5432/shop?sslmode=require")
    assert (plain, secret) == ("postgresql://ana@db:5432/shop?sslmode=require", {"PGPASSWORD": "p@ss"})
    plain, secret = split_password("postgresql://db/shop?user=ana&password=p%40ss")
    assert (plain, secret) == ("postgresql://db/shop?user=ana", {"PGPASSWORD": "p@ss"})


def outcome(**changes: object) -> RehearsalReport:
    made = RehearsalReport("p", "h", build_expand_contract(), 1000, 100_000, False, (15, 18), 3.0, None)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def estimated_seconds(made: RehearsalReport, step: str) -> list[float]:
    return next(entry["full_seconds"] for entry in made.to_json()["steps"] if entry["step"] == step)


def test_only_what_grows_with_the_table_is_stretched_and_the_range_is_wider_where_little_is_known() -> None:
    runs = [
        StepMetrics("backfill-rows", "run", 2.0),
        StepMetrics("backfill-rows", "run", 3.0),
        StepMetrics("archive-old-side", "run", 0.2),
    ]
    made = outcome(step_metrics=runs)
    assert estimated_seconds(made, "backfill-rows") == [pytest.approx(2.0 * 100 / 1.5, abs=0.01), 900.0]
    assert estimated_seconds(made, "archive-old-side") == [0.2, 0.4]
    short = outcome(step_metrics=[StepMetrics("backfill-rows", "run", 0.2)])
    assert estimated_seconds(short, "backfill-rows") == [4.0, 60.0]


def test_the_plans_own_ceiling_bounds_the_backfill_from_below() -> None:
    made = outcome(step_metrics=[StepMetrics("backfill-rows", "run", 2.0)], max_rows_per_second=100)
    assert estimated_seconds(made, "backfill-rows") == [1000.0, 1000.0]


def test_lost_rows_failed_writes_and_long_waits_fail_it_each_with_its_place() -> None:
    made = outcome(
        scenarios=[
            ScenarioResult(
                "cutover", RowDiff(10, missing=1, unexpected=0, changed=2, sample='["7"]'), 0.5, ("gone: x",)
            )
        ],
        step_metrics=[StepMetrics("archive-old-side", "run", 9.0, blocked_seconds=5.0)],
    )
    made.writer_stats.failures["null value"] = 3
    made.evaluate()
    text = format_rehearsal_report(made.to_json())
    assert not made.has_passed
    for words in (
        '1 rows are missing and 2 rows hold something else than was written, such as key ["7"]',
        "after the rollback from cutover these differ: gone: x",
        "3 writes of the application failed: null value",
        "archive-old-side kept a write waiting for 5.0s; allowed is 3.0s",
        "no pods were rolled out",
    ):
        assert words in text

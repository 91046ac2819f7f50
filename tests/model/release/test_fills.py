"""Several fills of one release: their sum, the gate of tuning, and a line for each on the screen and in the status."""

import json
from dataclasses import replace

import pytest

from tests.support.operations import plan_of
from tests.support.states import EPOCH, record
from zdd_tui.cli.status import format_status, status_to_dict
from zdd_tui.dashboard.widgets.drawing.line import Line, line_width
from zdd_tui.dashboard.widgets.panes.backfill import backfill_lines
from zdd_tui.model.backfill import max_rate
from zdd_tui.model.errors import Refused
from zdd_tui.model.plan.base import Backfill, BackfillOfTables
from zdd_tui.model.release.claims import PROGRESS_GLYPHS, Progress, ProgressState
from zdd_tui.model.release.fills import limits_now, list_fills
from zdd_tui.model.release.records import BackfillRecord, ReleaseRecord, combine_backfills
from zdd_tui.model.release.state import Command, CommandKind, Release, ReleaseState, StepStatus, apply_command
from zdd_tui.model.release.strategies import build_strategy
from zdd_tui.model.tuning import limits_of_table

PLAN = plan_of(
    "postgresql:///x",
    {"sql": "UPDATE items SET n = 1", "undo": []},
    "ALTER TABLE orders ADD COLUMN token uuid DEFAULT gen_random_uuid()",
    {"sql": "ALTER TABLE items ALTER code SET NOT NULL", "repair": {"code": "''"}},
)
STRATEGY = build_strategy(PLAN)
DONE = BackfillRecord(
    "done", 100, 100, batches=2, seconds=1.0, started_at=5.0, ended_at=8.0, waits=(("paused", 2.0),), job="backfill-1"
)
RUNNING = BackfillRecord(
    "running", 4000, 1000, rate=500.0, throttle="", failed_rows=1, started_at=9.0, job="backfill-2", updated_at=EPOCH
)
PREPARED = BackfillRecord("prepared", 900, job="backfill-3")


def in_phase(name: str, state: ReleaseState = ReleaseState.RUNNING) -> Release:
    index = [phase.name for phase in STRATEGY.phases].index(name)
    return Release("shop", "hash", STRATEGY, state, index, (StepStatus.PENDING,) * len(STRATEGY.steps))


def filling() -> ReleaseRecord:
    release = in_phase("backfill").with_status("backfill-2", StepStatus.STARTED)
    fills = (DONE, RUNNING, PREPARED)
    return record(release, fills=fills, backfill=combine_backfills(fills), plan_limits=Backfill())


def shown(*lines: Line) -> str:
    return "\n".join("".join(text for text, _ in line) for line in lines)


def test_the_sum_shows_the_current_one() -> None:
    both = combine_backfills((DONE, RUNNING, PREPARED))
    assert both is not None
    assert (both.status, both.job, both.rows_total, both.rows_done, both.rate) == (
        "running", "backfill-2", 5000, 1100, 500.0
    )  # fmt: skip
    assert (both.failed_rows, both.started_at, both.ended_at, both.waits) == (1, 5.0, None, (("paused", 2.0),))
    between = combine_backfills((DONE, replace(RUNNING, status="prepared"), PREPARED))
    assert between is not None
    assert between.status == "running"
    ended = combine_backfills((DONE, replace(DONE, ended_at=12.0)))
    assert ended is not None
    assert (ended.status, ended.wall_seconds) == ("done", 7.0)
    assert combine_backfills(()) is None


def test_every_fill_has_a_line_with_its_progress() -> None:
    fills = list_fills(filling())
    assert [(fill.name, fill.phase, fill.is_current) for fill in fills] == [
        ("backfill-1", "backfill", False),
        ("backfill-2", "backfill", True),
        ("backfill-3", "backfill", False),
        ("contract-2", "contract", False),
    ]
    for cells in (26, 60):
        lines = backfill_lines(filling().backfill, cells, fills=fills)
        assert all(line_width(line) <= cells for line in lines)
    shown = ["".join(text for text, _ in line) for line in lines][-4:]
    assert [" ".join(line.split()) for line in shown] == [
        "✔ update n of items 100% 100/100",
        "▶ fill orders.token 25% 1k/~4k ✗ 1 failed",
        "○ repair rows: items.code is NULL ~900 rows",
        "○ repair rows: items.code is NULL in contract",
    ]
    for held in (ProgressState.UNKNOWN, ProgressState.STOPPED, ProgressState.PAUSED, ProgressState.STALLED):
        lines = backfill_lines(filling().backfill, 60, fills=fills, progress=Progress(held))
        assert f"{PROGRESS_GLYPHS[held]} fill orders.token" in "\n".join(
            "".join(text for text, _ in each) for each in lines
        )


def test_the_status_names_every_fill() -> None:
    text = format_status(filling())
    assert "backfill running: 1,100 of 5,000 rows, 500 a second, 1 failed" in text
    assert "▶ fill orders.token: running: 1,000 of 4,000 rows, 500 a second, 1 failed" in text
    assert "○ repair rows: items.code is NULL: waits for phase contract" in text
    fills = status_to_dict(filling())["fills"]
    assert [(fill["name"], fill["current"]) for fill in fills][:2] == [("backfill-1", False), ("backfill-2", True)]
    assert fills[1]["progress"]["rows_done"] == 1000
    assert fills[3]["progress"] is None
    json.dumps(fills)


def test_a_table_with_limits_of_its_own_shows_them_and_its_time_left_is_by_them() -> None:
    limits = BackfillOfTables.model_validate({"tables": {"orders": {"max_rows_per_second": 100}}})
    seen = replace(filling(), plan_limits=limits)
    assert [fill.table for fill in list_fills(seen)] == ["items", "orders", "items", "items"]
    assert seen.limits == limits
    assert (
        limits_now(seen) == limits_of_table(limits, "orders") == limits.model_copy(update={"max_rows_per_second": 100})
    )
    assert limits_now(replace(seen, steps=())) == limits
    own = "max_rows_per_second 100"
    assert (
        f"fill orders.token: running: 1,000 of 4,000 rows, 500 a second, 1 failed; its own limits: {own}"
        in " ".join(format_status(seen).split())
    )
    for cells, is_shown in ((120, True), (60, False)):  # the progress comes first
        text = shown(*backfill_lines(seen.backfill, cells, fills=list_fills(seen), ceiling=max_rate(limits_now(seen))))
        assert (own in text, text.count(own) <= 1) == (is_shown, True)
        assert "25% 1k/~4k" in text
        assert "ETA ~39s" in text  # 3,900 rows at 100 a second, not at the 500 of the last batch
    tuned = replace(seen, release=replace(seen.release, tuning=(("orders:max_rows_per_second", None),)))
    assert limits_now(tuned) == tuned.limits
    assert "tuned: orders: max_rows_per_second none (plan: 100)" in format_status(tuned)


def test_limits_can_be_changed_until_the_last_phase_that_fills() -> None:
    tuning = (("speed", 50),)
    command = Command(CommandKind.TUNE, tuning=tuning)
    for phase in ("expand", "backfill", "cutover", "contract"):
        assert apply_command(in_phase(phase), command, {}, EPOCH).tuning == tuning
    with pytest.raises(Refused, match="the backfill is complete"):
        apply_command(in_phase("cleanup"), command, {}, EPOCH)

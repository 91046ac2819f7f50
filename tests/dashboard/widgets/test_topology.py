"""The topology of a strategy: what is not known is not drawn as a share, a pod or a trigger that works."""

from dataclasses import replace

import pytest

from tests.support.states import EPOCH, MONOTONIC, FixedClock, dashboard_situations
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.state import DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.diagrams.strategy import diagram_lines
from zdd_tui.model.queries import ChangeView
from zdd_tui.model.release.condition import ConditionReading, ConditionStatus

CONTEXT = RenderContext(MONOTONIC, EPOCH, FixedClock())
CHANGE = ChangeView("public.users", "public.users", (("first_name", "a"),), (("full_name", "b"),))


def drawn(board: DashboardState) -> str:
    return "\n".join("".join(part for part, _ in line) for line in diagram_lines(board, CONTEXT, 100))


def with_change(name: str) -> DashboardState:
    made = dashboard_situations()[name]
    return replace(made, plan=replace(made.plan, change=CHANGE))


def test_flags_that_were_not_read_are_unknown() -> None:
    unread: Observed[object] = Observed(error="connection refused")
    dark = drawn(replace(guard_situations()["dark-launch"], flags=unread))
    assert dark.count("unknown") == 2
    assert "%" not in dark.split("comparison results")[0].split("shadow reads")[1]
    assert "? flags not read yet (connection refused)" in dark
    schema = drawn(replace(with_change("backfill"), flags=unread))
    assert "writes: V2 (flag ?) + trigger" in schema
    assert schema.count("unknown") == 2


def test_a_flag_that_is_gone_after_it_was_set_is_unknown() -> None:
    made = with_change("gates")  # the read flag is on, and V3 is rolled out
    assert "reads:  100%" in drawn(made)
    record = made.release.value
    assert record is not None
    statuses = record.release.statuses
    at = [step.name for step in record.release.strategy.steps].index("rollout-v3")
    rel = replace(record.release, statuses=(*statuses[:at], *[type(statuses[0]).PENDING] * (len(statuses) - at)))
    views = tuple(replace(each, value=None) for each in made.flags.value or ())
    before = replace(made, release=Observed(replace(record, release=rel), MONOTONIC))
    assert "reads:  100%" in drawn(before)
    assert drawn(replace(before, flags=Observed(views, MONOTONIC))).count("unknown") == 2


@pytest.mark.parametrize("name", ["blue-green", "canary"])
def test_pods_that_were_not_read_are_no_pods(name: str) -> None:
    text = drawn(replace(guard_situations()[name], workload=Observed(), second_workload=Observed()))
    assert "not read yet" in text
    assert "0 pods" not in text
    assert "not found" not in text


def test_a_deployment_that_does_not_exist_is_not_found() -> None:
    text = drawn(replace(guard_situations()["blue-green"], second_workload=Observed(None, MONOTONIC)))
    assert "○ not found" in text
    assert "not read yet" not in text


@pytest.mark.parametrize(
    ("status", "arrow"),
    [
        (None, "── trigger ─▶"),
        (ConditionStatus.BREACHED, "── trigger ✗"),
        (ConditionStatus.UNKNOWN, "── trigger ?"),
        (ConditionStatus.RECHECKING, "── trigger ─▶"),
    ],
)
def test_a_trigger_that_is_disabled_moves_nothing(status: ConditionStatus | None, arrow: str) -> None:
    made = with_change("backfill")
    record = made.release.value
    assert record is not None
    unmet = () if status is None else (ConditionReading("trigger zdd_users-full-name_fwd", status, "it is disabled"),)
    rel = replace(record.release, unmet=unmet)
    assert f"{arrow} " in drawn(replace(made, release=Observed(replace(record, release=rel), MONOTONIC)))
    old = replace(record, lease=replace(record.lease, age=60.0)) if record.lease else record
    assert "── trigger ?" in drawn(replace(made, release=Observed(old, MONOTONIC)))


def test_a_version_without_pods_is_not_said_to_write() -> None:
    made = with_change("backfill")
    assert "writes: V2 (flag on) + trigger" in drawn(made)
    snapshot = made.workload.value
    assert snapshot is not None
    older = replace(snapshot, pods=tuple(replace(pod, version="1") for pod in snapshot.pods))
    assert "writes: V2 (flag on, no pods)" in drawn(replace(made, workload=Observed(older, MONOTONIC)))


def test_operations_have_phases_and_no_sides() -> None:
    text = drawn(guard_situations()["operations"])
    assert "▶ backfill" in text
    assert "OLD WRITTEN" not in text

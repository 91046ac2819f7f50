"""Lines of the guard's pane, of long steppers, and of pods of two Deployments."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.states import EPOCH, MONOTONIC, FixedClock, backfill, board, dashboard_situations, record, release
from tests.support.strategy_states import (
    BREACHED,
    CAUSE,
    GUARDED,
    NEW,
    OLD,
    OTHER,
    STABLE,
    errors,
    guard_situations,
    latency,
    pods_of,
)
from zdd_tui.dashboard.state import DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.bars.header import header_line
from zdd_tui.dashboard.widgets.bars.stepper import stepper_line
from zdd_tui.dashboard.widgets.bars.summary import summary_lines
from zdd_tui.dashboard.widgets.drawing.chart import sparkline
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, line_width
from zdd_tui.dashboard.widgets.panes.columns import fit_columns, row_line
from zdd_tui.dashboard.widgets.panes.guard import (
    RuleAges,
    guard_columns,
    guard_heading,
    guard_readings,
    second_line,
)
from zdd_tui.dashboard.widgets.panes.layout import request_layout
from zdd_tui.dashboard.widgets.panes.pod_rows import build_pod_rows, measure_widths, sorted_pod_rows
from zdd_tui.dashboard.widgets.panes.pods import PodAges, deployments_heading, drain_lines, pod_columns, pod_notes
from zdd_tui.model.actions import default_keys
from zdd_tui.model.phase import Phase
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import GuardReading
from zdd_tui.model.release.state import ReleaseState, StepStatus
from zdd_tui.model.release.summary import summarize_release
from zdd_tui.model.workload.drain import summarize_drain
from zdd_tui.model.workload.pod import PodState
from zdd_tui.model.workload.rollout import RolloutStatus

MOMENT = RenderContext.at_clock(FixedClock())
BOARDS = guard_situations()
AGES = RuleAges(EPOCH, {})


def text(*lines: Line) -> str:
    return "\n".join("".join(part for part, _ in line) for line in lines)


def guard_lines(readings: Sequence[GuardReading], cells: int, *, compact: bool = False) -> list[Line]:
    """The rows of the pane."""
    fitted = fit_columns(guard_columns(readings, cells, with_titles=not compact), cells)
    shown = {column.key for column, _ in fitted}
    lines: list[Line] = []
    for reading in readings:
        lines.append(row_line(fitted, reading, AGES))
        if not compact:
            lines.append(second_line(reading, shown, cells))
    return lines


@pytest.mark.parametrize("cells", range(28, 70))
def test_a_short_name_of_a_rule_is_not_cut_for_the_sake_of_a_column(cells: int) -> None:
    reading = GuardReading("restarts", Verdict.PASS, "", value=0.0, limit=1.0, series=(0.0, 0.0))
    assert "restarts" in text(*guard_lines([reading], cells))


def board_pods(made: DashboardState, now: float, cells: int) -> list[Line]:
    """Notes and rows of the pane."""
    rows = sorted_pod_rows(made)
    fitted = fit_columns(pod_columns(measure_widths(rows)), cells)
    return [*pod_notes(made, MONOTONIC, cells), *[row_line(fitted, row, PodAges((now, now))) for row in rows]]


def of_record(made: DashboardState, **changes: object) -> DashboardState:
    assert made.release.value is not None
    return replace(made, release=Observed(replace(made.release.value, **changes), MONOTONIC))  # type: ignore[arg-type]


# --- cause ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["guard-backwards", "guard-rolled-back", "guard-paused"])
def test_the_cause_of_the_guard_is_on_the_first_line_in_full(name: str) -> None:
    made = BOARDS[name]
    assert made.release.value is not None
    lines = summary_lines(made, MOMENT, 78)
    cause = made.release.value.cause
    assert "guard:" in text(lines[0])
    assert cause in " ".join(text(*lines).split())
    assert summarize_release(made.release.value, EPOCH + 1).text in " ".join(text(*lines).split())


def test_a_dark_launch_with_mismatches_names_the_key_that_shows_them() -> None:
    def press(name: str, keys: dict[str, str] | None = None) -> str:
        record = BOARDS[name].release.value
        assert record is not None
        return summarize_release(record, EPOCH, keys).next_action

    assert press("dark-mismatch").startswith("V shows which responses differ, a runs shadow-100")
    assert press("dark-mismatch", {**default_keys(), "topology": "F9"}).startswith("F9 shows which responses differ")
    assert "differ" not in press("dark-launch")


def test_a_past_cause_is_not_shown() -> None:
    going = record(release(ReleaseState.RUNNING, Phase.BACKFILL, done=7, current=StepStatus.STARTED), cause=CAUSE)
    assert summarize_release(going, EPOCH).cause == ""
    assert summarize_release(replace(going, release=replace(going.release, paused=True)), EPOCH).cause


# --- guard ----------------------------------------------------------------------------------------------------


def test_a_rule_that_was_never_evaluated_is_unknown() -> None:
    made = board(record(release(ReleaseState.PLANNED)), plan=GUARDED)
    assert [(one.rule, one.verdict) for one in guard_readings(made, EPOCH)] == [
        ("errors", Verdict.UNKNOWN),
        ("p99", Verdict.UNKNOWN),
    ]
    assert "not checked yet" in text(*guard_lines(guard_readings(made, EPOCH), 60))
    assert "STALE" not in text(*guard_lines(guard_readings(made, EPOCH), 60))


def test_an_old_reading_is_unknown_until_the_release_has_ended() -> None:
    made = of_record(BOARDS["guard-pass"], guard=(errors(observed_at=EPOCH - 60), latency()))
    worst, other = guard_readings(made, EPOCH)
    assert (worst.rule, worst.verdict, other.verdict) == ("errors", Verdict.UNKNOWN, Verdict.PASS)
    assert "STALE 1m00s" in text(*guard_lines((worst,), 60))
    assert made.release.value is not None
    ended = of_record(made, release=replace(made.release.value.release, state=ReleaseState.DONE))
    assert {one.verdict for one in guard_readings(ended, EPOCH)} == {Verdict.PASS}


def test_the_worst_rule_comes_first_with_verdict_and_numbers() -> None:
    readings = sorted((latency(), BREACHED), key=lambda one: one.rule, reverse=True)
    made = board(record(release(ReleaseState.PLANNED), guard=tuple(readings)), plan=GUARDED)
    found = guard_readings(made, EPOCH)
    assert [one.rule for one in found] == ["errors", "p99"]
    assert guard_heading(found) == "1 fail"
    for compact in (True, False):
        message = text(*guard_lines(found, 28, compact=compact))
        assert "✗ errors" in message
        assert "7.1%" in message
        assert "1%" in message.replace("7.1%", "")
    assert "old 79ms" in text(*guard_lines(found, 28))
    assert "✗ fail" in text(*guard_lines(found, 76))


@pytest.mark.parametrize("cells", [28, 39, 44, 76, 120])
def test_the_columns_of_the_guard_do_not_move_with_its_readings(cells: int) -> None:
    """Values, verdicts, baselines and series come and go several times in the first seconds of a rollout."""
    kinds = [
        GuardReading("errors", Verdict.UNKNOWN, "not checked yet"),
        GuardReading("errors", Verdict.INCONCLUSIVE, "3 of 50 requests", value=0.123456, limit=0.01, samples=3),
        GuardReading("errors", Verdict.PASS, "fine", value=0.0, limit=0.01, baseline=0.0, series=(0.0,) * 60),
        BREACHED,
    ]
    for with_titles in (True, False):
        forms = [
            [
                (column.key, width)
                for column, width in fit_columns(guard_columns([kind], cells, with_titles=with_titles), cells)
            ]
            for kind in kinds
        ]
        assert all(form == forms[0] for form in forms)
    assert "unknown" in text(*guard_lines(kinds[:1], cells, compact=True))
    assert "inconclu" in text(*guard_lines(kinds[1:2], cells, compact=True))


readings_of_any_kind = st.builds(
    GuardReading,
    rule=st.text(st.characters(codec="utf-8"), min_size=1, max_size=50),
    verdict=st.sampled_from(Verdict),
    reason=st.text(st.characters(codec="utf-8"), max_size=80),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False, min_value=0, max_value=1e12),
    limit=st.none() | st.floats(min_value=0, max_value=1e9),
    baseline=st.none() | st.floats(min_value=0, max_value=1e9),
    samples=st.integers(0, 10**9),
    series=st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), max_size=60).map(tuple),
    action_taken=st.sampled_from(["", "rollback", "pause", "alert"]),
    is_applicable=st.booleans(),
)


@given(readings_of_any_kind, st.integers(24, 120), st.booleans())
def test_any_reading_of_a_rule_fits_the_pane(reading: GuardReading, cells: int, compact: bool) -> None:
    lines = guard_lines((reading,), cells, compact=compact)
    assert len(lines) == (1 if compact else 2)
    # Three numbers of a dozen digits each need more than the narrowest pane has; the pane cuts what is over.
    assert all(line_width(line) <= max(cells, 45) for line in lines)


def test_a_sparkline_is_scaled_by_the_limit_and_shows_gaps() -> None:
    assert text(sparkline((0.0, 0.5, 1.0), 1.0, 10)) == "▁▅█"
    assert text(sparkline((0.0, None, 0.01), 1.0, 10)) == "▁·▁"
    assert sparkline((1.0, 4.0), 1.0, 10) == (("▃", TextStyle.NORMAL), ("█", TextStyle.BAD))
    assert text(sparkline((1.0, 2.0, 3.0), 3.0, 2)) == "▆█"
    assert sparkline((), 1.0, 10) == ()
    assert text(sparkline((0.0, 0.0), None, 10)) == "▁▁"


# --- layout ---------------------------------------------------------------------------------------------------


def test_on_a_low_screen_the_guard_replaces_an_idle_pane() -> None:
    waiting, moving = BOARDS["guard-pass"], BOARDS["guard-backfill"]
    assert list(request_layout(waiting, 24).right_column) == ["flags", "guard"]
    assert list(request_layout(moving, 24).right_column) == ["backfill", "guard"]
    assert request_layout(moving, 24).is_guard_compact
    for made in (waiting, moving):
        high = request_layout(made, 36)
        assert list(high.right_column) == ["backfill", "flags", "guard"]
        assert not high.is_guard_compact


def test_flags_with_an_error_are_never_hidden() -> None:
    moving = BOARDS["guard-backfill"]
    assert request_layout(replace(moving, flags=replace(moving.flags, error="Redis is away")), 24).flags


def test_only_what_the_plan_has_gets_a_pane() -> None:
    bare = request_layout(BOARDS["blue-green"], 24)
    assert not bare.right_column
    plain = request_layout(dashboard_situations()["backfill"], 24)
    assert list(plain.right_column) == ["backfill", "flags"]


# --- stepper --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [40, 60, 78, 118])
@pytest.mark.parametrize("phase", range(8))
def test_the_current_phase_is_visible_at_every_width(phase: int, cells: int) -> None:
    made = BOARDS["dark-launch"]
    assert made.release.value is not None
    rel = replace(made.release.value.release, phase=phase)
    line = stepper_line(of_record(made, release=rel), cells)
    assert line_width(line) <= cells
    assert f"▶ {rel.strategy.phases[phase].name}" in text(line)


def test_a_stepper_that_does_not_fit_counts_the_phases_left_out() -> None:
    message = text(stepper_line(BOARDS["dark-launch"], 40))
    assert "before" in message
    assert "more" in message
    assert text(stepper_line(BOARDS["dark-launch"], 78)) == (
        "✔ rollout ✔ shadow-1 ▶ shadow-25 ○ 100 ○ ramp-10 ○ 50 ○ 100 ○ cleanup"
    )


def test_the_stepper_shows_the_percentage_of_the_backfill() -> None:
    going = release(ReleaseState.RUNNING, Phase.BACKFILL, done=7, current=StepStatus.STARTED)
    assert "backfill 63%" in text(stepper_line(board(record(going, backfill=backfill())), 78))


# --- pods -----------------------------------------------------------------------------------------------------


def test_pods_show_their_deployment_and_version() -> None:
    message = text(*board_pods(BOARDS["canary"], EPOCH, 60))
    assert sum("stable old" in line for line in message.splitlines()) == 4
    assert sum("canary new" in line for line in message.splitlines()) == 4


def test_a_pod_of_both_watches_is_shown_once_with_its_deployment() -> None:
    made = BOARDS["canary"]
    first, second = made.workload.value, made.second_workload.value
    assert first is not None
    assert second is not None
    both = replace(first, pods=(*first.pods, *second.pods))
    assert len(build_pod_rows(made.plan, [both, second])) == 8
    # The second Deployment is gone already, and its pods are not.
    rows = build_pod_rows(made.plan, [both])
    assert [side for _, side in rows] == [0] * 4 + [1] * 4
    assert deployments_heading(made.plan, both, second) == "serving: stable 4/4, canary 4/4"


def test_ready_pods_without_traffic_are_on_standby_after_the_rollout() -> None:
    made = BOARDS["blue-green"]
    assert text(*board_pods(made, EPOCH, 70)).count("◇ Standby ") == 4
    coming = pods_of("users-api-green", NEW, PodState.WARMING, OTHER)
    coming = replace(coming, rollout=RolloutStatus(False, False, "2 of 4 new replicas available"))
    blue = pods_of("users-api", OLD, PodState.SERVING, STABLE)
    message = text(
        *board_pods(
            replace(made, workload=Observed(blue, MONOTONIC), second_workload=Observed(coming, MONOTONIC)), EPOCH, 70
        )
    )
    assert message.count("◐ Warming") == 4
    assert "rollout green: 2 of 4" in message


def test_the_error_of_the_second_deployment_is_shown() -> None:
    made = BOARDS["canary"]
    broken = replace(made, second_workload=replace(made.second_workload, error="the API server does not respond"))
    assert "canary: the API server does not respond" in text(*board_pods(broken, EPOCH, 60))


def test_the_header_of_a_canary_has_the_wanted_and_the_real_weight() -> None:
    made = BOARDS["canary"]

    def shown(board: DashboardState, cells: int = 120, later: float = 0.0) -> str:
        return text(header_line(board, RenderContext(MONOTONIC + later, EPOCH, FixedClock()), cells))

    assert "weight 50%, real 50% of serving pods" in shown(made)
    assert "weight 50% real 50%" in shown(made, 70)
    canary = made.second_workload.value
    assert canary is not None
    one_serves = (canary.pods[0], *(replace(pod, state=PodState.WARMING) for pod in canary.pods[1:]))
    part = replace(made, second_workload=Observed(replace(canary, pods=one_serves), MONOTONIC))
    assert "weight 50%, real 20% of serving pods" in shown(part)
    assert "real ? of serving pods" in shown(part, later=20.0), "the pods were read long ago"
    by_route = replace(made, plan=replace(made.plan, weight_source="gateway"))
    assert "weight 50%, real ? of requests, by the HTTPRoute" in shown(by_route)
    read = replace(by_route, route_weight=Observed(48.0, MONOTONIC))
    assert "weight 50%, real 48% of requests" in shown(read)
    assert "weight" not in shown(BOARDS["rolling"])


def test_the_pods_pane_counts_the_pods_of_each_version() -> None:
    made = BOARDS["rolling"]
    rows = [(row.version, row.pod) for row in sorted_pod_rows(made)]
    lines = [text(line) for line in drain_lines(summarize_drain(rows, None), 60)]
    assert sorted(lines) == [
        "new: 1 serving, 2 not serving",
        "old: 2 serving, 1 draining, 1 OVERDUE, db sessions not known",
    ]
    assert len(drain_lines(summarize_drain(rows, None), 100)) == 1
    narrow = [text(line) for line in drain_lines(summarize_drain(rows, None), 44)]
    assert "old: 2 serving 1 OVERDUE 1 draining db ?" in narrow, "what is late is not cut"

"""Charts: gaps stay gaps, and the lines are told apart by their glyphs."""

import sys
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.support.states import EPOCH, MONOTONIC
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.screens.details.backfill import rate_chart_lines
from zdd_tui.dashboard.state import DashboardState, Observed
from zdd_tui.dashboard.terminal.ascii import to_ascii
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, line_width
from zdd_tui.dashboard.widgets.drawing.line_chart import OLD_GLYPH, ChartLines, draw_line_chart
from zdd_tui.dashboard.widgets.panes.charts import (
    chart_end,
    charts_stale_limit,
    ended_text,
    final_at_end,
    first_known_at,
    last_point_observed,
    rule_chart_lines,
)
from zdd_tui.dashboard.widgets.panes.guard import rule_ages
from zdd_tui.model.backfill import RateHistory
from zdd_tui.model.plan.guard import MetricUnit
from zdd_tui.model.queries import MetricHistory, MetricPoint, RuleView
from zdd_tui.model.release.claims import FRESH_SECONDS
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import BackfillRecord, GuardReading, Lease, MetricsProbe
from zdd_tui.model.release.state import ReleaseState

NOW = 1_000_000.0


def texts(lines: list[Line]) -> list[str]:
    return ["".join(text for text, _ in line) for line in lines]


def columns_with_dots(lines: list[Line]) -> list[bool]:
    """For each column right of the scale, whether the new version's line is there."""
    rows = [text.split("┤", 1)[1] for text in texts(lines)[:-1]]
    return [any("\u2800" < row[at] <= "\u28ff" for row in rows) for at in range(len(rows[0]))]


def draw(**changes: object) -> list[Line]:
    return draw_line_chart(ChartLines(**changes), NOW, 64, 8, str)  # type: ignore[arg-type]


def test_a_gap_in_the_data_is_no_line() -> None:
    """The agent was away from 300 to 150 seconds ago."""
    ages = [age for age in range(600, 0, -5) if not 150 < age < 300]
    filled = columns_with_dots(draw(new=[(NOW - age, 5.0) for age in ages], max_gap=12.0))
    runs = "".join("x" if each else " " for each in filled).split()
    assert len(runs) == 2
    connected = columns_with_dots(draw(new=[(NOW - age, 5.0) for age in ages]))
    assert "".join("x" if each else " " for each in connected).strip().count(" ") == 0


def test_a_missing_value_is_no_line() -> None:
    points = [(NOW - age, None if 100 < age < 300 else 5.0) for age in range(600, 0, -5)]
    filled = columns_with_dots(draw(new=points, max_gap=12.0))
    assert len("".join("x" if each else " " for each in filled).split()) == 2


def test_a_single_value_between_two_gaps_is_visible() -> None:
    points = [(NOW - 600, 1.0), (NOW - 300, 9.0), (NOW - 10, 1.0)]
    assert sum(columns_with_dots(draw(new=points, max_gap=12.0))) == 3
    assert "".join(texts(draw(new=(), old=points, max_gap=12.0))).count(OLD_GLYPH) == 3


def test_two_versions_with_the_same_value_are_both_visible_without_colour() -> None:
    points = [(NOW - age, 5.0) for age in range(600, 0, -5)]
    shown = "".join(texts(draw(new=points, old=points)))
    assert OLD_GLYPH in shown
    assert any("\u2800" < glyph <= "\u28ff" for glyph in shown)
    in_ascii = to_ascii(shown)
    assert "o" in in_ascii
    assert set("-'.") & set(in_ascii.split("now", maxsplit=1)[0].replace("-10m", ""))


@pytest.mark.parametrize("cells", [12, 22, 46, 120])
def test_no_line_is_wider_than_the_place(cells: int) -> None:
    points = [(NOW - age, age / 7) for age in range(3600, 0, -5)]
    lines = draw_line_chart(ChartLines(points, points, 100.0), NOW, cells, 6, lambda value: f"{value:.0f}ms")
    assert len(lines) == 6
    assert max(map(line_width, lines)) <= cells


def test_extreme_values_are_drawn() -> None:
    for values in ([0.0, 0.0], [1e300, 1e-300], [5.0]):
        assert draw(new=[(NOW - 20 * at - 1, value) for at, value in enumerate(values[::-1])][::-1], limit=0.0)


def test_the_head_names_the_versions_by_glyph_and_the_last_values() -> None:
    reading = GuardReading("errors", Verdict.PASS, "", MetricUnit.RATIO, limit=0.01)
    points = [MetricPoint(NOW - 5, 0.002, 0.001), MetricPoint(NOW - 1, None, 0.001)]
    head, *_ = texts(rule_chart_lines(reading, points, 5.0, NOW, 60, 8))
    assert head == "errors  ⠒ -  ○ 0.1%  ╍ 1%"


@pytest.mark.parametrize(("limit", "is_drawn"), [(6.0, True), (19.0, True), (100.0, False), (None, False)])
def test_a_limit_far_above_the_values_does_not_press_them_to_the_ground(limit: float | None, is_drawn: bool) -> None:
    lines = draw(new=[(NOW - age, 5.0) for age in range(600, 0, -5)], limit=limit)
    assert ("╍" in "".join(texts(lines))) is is_drawn


@pytest.mark.parametrize("rows", [3, 4, 5, 8])
def test_the_lowest_label_is_0_where_the_limit_is_in_the_lowest_row(rows: int) -> None:
    """One peak of 30 % in an hour; the limit is 2 %."""
    points = [(NOW - age, 0.3 if age == 500 else 0.0) for age in range(600, 0, -5)]
    lines = draw_line_chart(ChartLines(points, (), 0.02), NOW, 40, rows, lambda value: f"{100 * value:.0f}%")
    lowest = texts(lines)[-2]
    assert lowest.split("┤")[0].strip() == "0"
    assert "╍" not in lowest


def axis(lines: list[Line]) -> str:
    return texts(lines)[-1].split()[0]


def test_charts_beside_each_other_have_one_time_axis_that_grows_in_small_steps() -> None:
    errors = GuardReading("errors", Verdict.PASS, "", MetricUnit.RATIO, limit=0.01)
    latency = GuardReading("p99", Verdict.PASS, "", MetricUnit.SECONDS, limit=0.1185)
    lengths = []
    for seconds in range(60, 1200, 7):
        points = [MetricPoint(NOW - age, 0.0825, 0.0805) for age in range(seconds, 0, -5)]
        late = points[len(points) // 2 :]
        since = first_known_at([points, late])
        beside = [
            rule_chart_lines(reading, each, 5.0, NOW, 34, 7, "now", since)
            for reading, each in ((errors, points), (latency, late))
        ]
        assert axis(beside[0]) == axis(beside[1])
        label = axis(beside[0]).removeprefix("-")
        lengths.append(int(label[:-1]) * {"s": 1, "m": 60}[label[-1]])
    assert lengths[0] <= 120
    assert lengths[-1] >= 1140
    assert all(after < 1.4 * before + 60 for before, after in pairwise(lengths)), "labels are whole minutes"


def test_a_pause_of_the_backfill_is_a_gap_in_its_rate() -> None:
    rates = RateHistory()
    for second in range(300):
        status = "paused" if 100 <= second < 200 else "running"
        rows = 500 * (second - 100 if second >= 200 else min(second, 100))
        rates.add_reading(1, BackfillRecord(status, 100_000, rows, updated_at=EPOCH + second))
    assert {rate for _, rate in rates.samples} == {500.0}
    lines = rate_chart_lines(rates, EPOCH + 300, 80)
    assert "last value 1s ago" in texts(lines)[0]
    assert {style for line in lines for _, style in line} > {TextStyle.DIM}
    assert {style for line in rate_chart_lines(rates, EPOCH + 304, 80) for _, style in line} <= {
        TextStyle.DIM,
        TextStyle.NORMAL,  # blanks
    }
    filled = columns_with_dots(lines[1:])
    assert len("".join("x" if each else " " for each in filled).split()) == 2
    for second in range(300, 5000):
        rates.add_reading(1, BackfillRecord("running", 100_000, 500 * second, updated_at=EPOCH + second))
    assert len(rates.samples) <= 240
    rates.add_reading(2, BackfillRecord("running", 100_000, 10, updated_at=EPOCH + 5001))
    assert rates.samples == (), "another release has a rate of its own"


def test_the_library_is_not_imported_before_a_chart_is_drawn() -> None:
    """It must not delay the first paint."""
    import subprocess

    code = "import zdd_tui.dashboard.app, sys; assert 'plotille' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("state", [ReleaseState.DONE, ReleaseState.ROLLED_BACK])
def test_the_charts_of_a_release_that_has_ended_are_final_and_end_with_it(state: ReleaseState) -> None:
    """Its agent leaves, and no value follows: that is no lost source."""
    board = guard_situations()["guard-backfill"]
    record = board.release.value
    assert record is not None
    now = MONOTONIC + 600.0
    history = Observed(MetricHistory({"errors": (MetricPoint(EPOCH - 30.0, 0.01, 0.01),)}), now)

    def with_release(shown: DashboardState, at: float) -> DashboardState:
        found = shown.release.value
        assert found is not None
        return replace(shown, release=Observed(replace(found, now=EPOCH + 600.0), at))

    running = with_release(board, now)
    observed = last_point_observed(history, running.server_now(now), now)
    assert is_stale(running, observed, now), "the agent is away"
    assert ended_text(running, now) == ""
    assert chart_end(running, now) == EPOCH + 600.0

    finished = replace(record, release=replace(record.release, state=state), finished_at=EPOCH)
    ended = with_release(replace(board, release=Observed(finished, now)), now)
    assert not is_stale(ended, observed, now)
    assert ended_text(ended, now) == "ended 10m ago"
    assert chart_end(ended, now) == EPOCH
    unconfirmed = with_release(ended, now - 60.0)
    assert is_stale(unconfirmed, observed, now), "that it has ended was read long ago"


def is_stale(board: DashboardState, observed: Observed[MetricHistory], now: float) -> bool:
    return final_at_end(board, observed).is_stale(now, charts_stale_limit(board, board.plan.rule_names, now))


def evaluated(interval: float, evaluated_before: float, **changes: object) -> DashboardState:
    """A backfill whose rules query Prometheus, so many seconds apart and ago."""
    board = guard_situations()["guard-backfill"]
    record = board.release.value
    assert record is not None
    names = board.plan.rule_names
    plan = replace(
        board.plan,
        guard_rules=tuple(RuleView(name, interval=interval) for name in names),
        queried_rules=dict.fromkeys(names, interval),
    )
    guard = tuple(replace(reading, observed_at=EPOCH - evaluated_before) for reading in record.guard)
    record = replace(record, guard=guard, metrics_probe=MetricsProbe(EPOCH - 1.0))
    return replace(board, plan=plan, release=Observed(replace(record, **changes), MONOTONIC))  # type: ignore[arg-type]


def drawn_before(seconds: float) -> Observed[MetricHistory]:
    history = MetricHistory({name: (MetricPoint(EPOCH - seconds, None, None),) for name in ("errors", "p99")})
    return last_point_observed(Observed(history, MONOTONIC), EPOCH, MONOTONIC)


LOST_PROBE = MetricsProbe(EPOCH - 1.0, "Prometheus prom:9090 is unreachable")
GONE = Lease(4, "agent", "bastion", 1, 4.0, 3.0)


@pytest.mark.parametrize(
    ("interval", "seconds", "changes", "is_late"),
    [
        pytest.param(2.0, 9.0, {}, False, id="the next point is not read yet"),
        pytest.param(2.0, 14.0, {}, True, id="no point, although the rule is evaluated"),
        pytest.param(2.0, 4.0, {"lease": GONE}, True, id="agent lost"),
        pytest.param(2.0, 2.0, {"lease": GONE}, False, id="agent lost, but the data are not old yet"),
        pytest.param(60.0, 50.0, {}, False, id="a long interval"),
        pytest.param(60.0, 50.0, {"metrics_probe": LOST_PROBE}, True, id="a long interval, source lost"),
        pytest.param(60.0, 50.0, {"lease": GONE}, True, id="a long interval, agent lost"),
    ],
)
def test_a_chart_is_stale_once_its_next_value_is_late_or_known_not_to_come(
    interval: float, seconds: float, changes: dict[str, object], is_late: bool
) -> None:
    board = evaluated(interval, min(seconds, interval), **changes)
    assert is_stale(board, drawn_before(seconds), MONOTONIC) is is_late


def test_a_chart_is_stale_once_the_evaluation_is_overdue_or_the_database_silent() -> None:
    assert not is_stale(evaluated(2.0, 2.0), drawn_before(4.0), MONOTONIC)
    assert is_stale(evaluated(2.0, 3.5), drawn_before(4.0), MONOTONIC)
    now = MONOTONIC + 3.5
    board = evaluated(60.0, 2.0)
    assert is_stale(board, last_point_observed(drawn_before(2.0), board.server_now(now), now), now)


def test_values_of_the_guard_are_old_once_their_source_is_lost_however_rarely_it_is_queried() -> None:
    for changes, is_old in (({}, False), ({"metrics_probe": LOST_PROBE}, True)):
        board = evaluated(60.0, 50.0, **changes)
        assert board.release.value is not None
        ages = rule_ages(board, MONOTONIC)
        assert {ages.is_old(reading) for reading in board.release.value.guard} == {is_old}


def test_the_loss_of_the_metrics_server_has_a_paint_of_its_own() -> None:
    silent = evaluated(60.0, 50.0)  # its last response was a second ago, all else is current for longer
    assert silent.seconds_until_expiry(MONOTONIC) == pytest.approx(FRESH_SECONDS - 1.0)
    assert silent.current_sources(MONOTONIC + 1.9) != silent.current_sources(MONOTONIC + 2.1)

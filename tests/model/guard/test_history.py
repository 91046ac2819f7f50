"""The histories that charts are drawn from: by version, and through a change of the agent."""

import math
from collections import deque

import pytest

from zdd_tui.model.guard.history import add_point, pack_histories, unpack_histories
from zdd_tui.model.guard.rule_state import RuleState
from zdd_tui.model.guard.rules import new_and_old_values
from zdd_tui.model.guard.series import WindowStats
from zdd_tui.model.guard.snapshot import load_histories, load_rule_states, save_rule_states
from zdd_tui.model.plan.guard import GuardRule
from zdd_tui.model.queries import MetricPoint

RULE = GuardRule.model_validate({"name": "errors", "metric": "error-rate", "limit": "1%", "window": "30s"})
ORDER = ("v1", "v2", "v3")


def stats(version: str, errors: float = 1.0, **changes: object) -> WindowStats:
    return WindowStats(version, requests=100.0, errors=errors, targets=2, is_live=True, **changes)  # type: ignore[arg-type]


def test_points_keep_their_ages_from_one_process_to_the_next() -> None:
    points = {"errors": (MetricPoint(100.0, None, 0.001), MetricPoint(105.0, 0.123456, math.inf))}
    again = unpack_histories(pack_histories(points, 110.0), 5000.0)
    assert again == {"errors": (MetricPoint(4990.0, None, 0.001), MetricPoint(4995.0, 0.1235, None))}


def test_points_of_a_short_interval_are_thinned() -> None:
    points: deque[MetricPoint] = deque()
    for at in range(100):
        add_point(points, MetricPoint(at + 0.01 * (at % 3), 0.0, 0.0))
    assert [round(point.at) for point in points] == list(range(0, 100, 5))


def test_the_snapshot_of_the_guard_has_them_and_one_without_them_is_read() -> None:
    points = {"errors": (MetricPoint(100.0, 0.5, None),)}
    saved = save_rule_states({"errors": RuleState()}, {}, 110.0, points)
    assert load_histories(saved, 1000.0) == {"errors": (MetricPoint(990.0, 0.5, None),)}
    assert set(load_rule_states(saved, 0.0, 110.0)[0]) == {"errors"}
    assert load_histories(b'{"format": 2, "rules": {}}', 0.0) == {}


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ((stats("v1"),), (None, 0.01)),
        ((stats("v1"), stats("v2", 2.0)), (0.02, 0.01)),
        ((stats("v1", 3.0), stats("v2"), stats("v3", 4.0)), (0.04, 0.02)),
        ((stats("v1"), stats("v2", silent_targets=2)), (None, 0.01)),
        ((stats("v1", unsteady_targets=2), stats("v2")), (0.01, None)),
        ((stats("service"),), (None, None)),
    ],
)
def test_the_newest_running_version_is_compared_with_all_older_ones(
    versions: tuple[WindowStats, ...], expected: tuple[float | None, float | None]
) -> None:
    by_version = {each.version: each for each in versions}
    assert new_and_old_values(RULE, ORDER, by_version) == expected

"""The layout of the panes on screens of every size: nothing overlaps, and no rows are wasted."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.states import SERVING, dashboard_situations, workload
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.state import DashboardState, Observed
from zdd_tui.dashboard.widgets.panes.layout import (
    BORDER_ROWS,
    Box,
    LayoutRequest,
    PaneRequest,
    place_panes,
    request_layout,
    share_rows,
)

BOARDS = dashboard_situations() | guard_situations()
SIZES = {"80x24": (80, 24), "120x36": (120, 36), "160x50": (160, 50), "200x60": (200, 60)}
ROWS_OUTSIDE = 6
"""Rows above and below the panes without an error."""


def many(board: DashboardState, count: int) -> DashboardState:
    pods = [replace(SERVING[0], name=f"pod-{number}", uid=str(number)) for number in range(count)]
    return replace(board, workload=Observed(workload(pods), board.workload.observed_at))


def placed(board: DashboardState, size: str) -> tuple[LayoutRequest, dict[str, Box]]:
    width, rows = SIZES[size]
    requested = request_layout(board, rows)
    return requested, dict(place_panes(requested, width, rows - ROWS_OUTSIDE))


REQUESTS = st.builds(lambda least, more: PaneRequest(least, least + more), st.integers(1, 12), st.integers(0, 12))


@given(
    request=st.builds(
        LayoutRequest,
        backfill=st.none() | REQUESTS,
        flags=st.none() | REQUESTS,
        guard=st.none() | REQUESTS,
        gates=st.none() | REQUESTS,
        is_guard_compact=st.booleans(),
        pods=st.integers(1, 600),
        events=st.integers(0, 300),
    ),
    width=st.integers(2, 250),
    height=st.integers(0, 80),
)
@example(
    request=LayoutRequest(None, None, None, is_guard_compact=False, pods=3, events=0, gates=PaneRequest(1, 1)),
    width=160,
    height=4,
)
def test_no_cell_belongs_to_two_panes_and_all_are_on_the_screen(
    request: LayoutRequest, width: int, height: int
) -> None:
    found = place_panes(request, width, height)
    cells: set[tuple[int, int]] = set()
    for box in found.values():
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= width
        assert box.y + box.height <= height
        mine = {(x, y) for x in range(box.x, box.x + box.width) for y in range(box.y, box.y + box.height)}
        assert not cells & mine
        cells |= mine
        assert box.height >= min(3, height), "a frame around nothing"
    assert found.keys() <= {"pods", "events", *request.right_column}
    assert height == 0 or "pods" in found
    if height >= 30 and width >= 5:
        assert found.keys() | {"gates"} == {"pods", "events", "gates", *request.right_column}
    if "gates" in found:  # they take from nobody
        assert request.gates is not None
        assert found["gates"].height >= request.gates.minimum + BORDER_ROWS
        assert found["gates"].y == sum(found[name].height for name in found.keys() & {"backfill", "flags", "guard"})
        others = {name: each for name, each in request.right_column.items() if name != "gates"}
        assert all(found[name].height == ask.maximum + BORDER_ROWS for name, ask in others.items())
        assert height < 9 or found["events"].height >= min(request.events + BORDER_ROWS, height // 3)


@given(asks=st.lists(REQUESTS, max_size=3), rows=st.integers(0, 60))
def test_rows_are_shared_up_to_the_maximum_or_completely(asks: list[PaneRequest], rows: int) -> None:
    heights = share_rows(asks, rows)
    request = [ask.maximum + BORDER_ROWS for ask in asks]
    given = [wished for wished, height in zip(request, heights, strict=True) if height]
    assert sum(heights) == min(rows, sum(given))
    assert len(given) == min(len(asks), max(rows // 3, min(rows, 1)))
    assert all(height <= wished for height, wished in zip(heights, request, strict=True))
    least = [ask.minimum + BORDER_ROWS for ask in asks]
    if rows >= sum(least):
        assert all(height >= needed for height, needed in zip(heights, least, strict=True))


@pytest.mark.parametrize("size", ["120x36", "160x50", "200x60"])
@pytest.mark.parametrize("name", BOARDS)
def test_from_120x36_every_pane_at_the_right_shows_all_its_lines(name: str, size: str) -> None:
    requested, found = placed(BOARDS[name], size)
    for pane, ask in requested.right_column.items():
        assert pane == "gates" or found[pane].height == ask.maximum + BORDER_ROWS, pane


@pytest.mark.parametrize("name", BOARDS)
def test_the_gates_have_a_place_on_a_high_screen(name: str) -> None:
    for size in ("80x24", "120x36"):
        requested, found = placed(BOARDS[name], size)
        assert requested.gates is None
        assert "gates" not in found
    requested, found = placed(BOARDS[name], "200x60")
    if BOARDS[name].release.value is None:
        assert requested.gates is None  # nobody knows them yet
    else:
        assert requested.gates is not None
        assert found["gates"].height >= 6


def test_a_guard_with_many_rules_leaves_no_place_for_the_gates() -> None:
    made = BOARDS["guard-backfill"]
    rules = replace(made.plan, rule_names=tuple(f"rule-{number}" for number in range(12)))
    assert request_layout(replace(made, plan=rules), 50).gates is None
    assert request_layout(made, 50).gates is not None
    assert request_layout(made, 49).gates is None


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", BOARDS)
def test_no_pod_and_no_step_is_hidden_while_events_have_blank_lines(name: str, size: str) -> None:
    requested, found = placed(BOARDS[name], size)
    hidden = requested.pods + BORDER_ROWS - found[requested.main].height
    blank = found["events"].height - BORDER_ROWS - requested.events
    assert hidden <= 0 or blank <= 0 or found["events"].height <= 8


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["backfill", "guard-backfill", "canary", "dark-launch"])
def test_five_hundred_pods_get_most_rows(name: str, size: str) -> None:
    _, found = placed(many(BOARDS[name], 500), size)
    pods, rest = found["pods"], [box for pane, box in found.items() if pane != "pods"]
    assert pods.height * 3 >= (SIZES[size][1] - ROWS_OUTSIDE) * 2 - 2
    assert all(pods.width * pods.height > box.width * box.height for box in rest)


def test_on_a_wide_screen_many_pods_get_the_whole_height() -> None:
    _, found = placed(many(BOARDS["guard-backfill"], 500), "200x60")
    assert found["pods"] == Box(0, 0, 104, 54)
    assert found["events"].x == 104
    assert found["events"].y + found["events"].height == 54


def test_panes_do_not_move_while_pods_come_and_go() -> None:
    surge = request_layout(many(BOARDS["dark-launch"], 30), 36)
    after = request_layout(many(BOARDS["dark-launch"], 4), 36, max_pods=30)
    assert after == surge
    assert request_layout(many(BOARDS["dark-launch"], 4), 36) != surge

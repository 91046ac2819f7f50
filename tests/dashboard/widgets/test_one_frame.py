"""What a state changes on the main screen is painted in one frame: the header tells of no pods that are not shown."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.support.screen_text import screen_text
from tests.support.states import FixedClock, FixedSource
from tests.support.strategy_states import NEW, guard_situations, pods_of
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.state import DashboardState, Observed
from zdd_tui.dashboard.terminal.ansi_writer import Piece
from zdd_tui.model.workload.pod import PodState


def with_canary_pods(board: DashboardState, count: int) -> DashboardState:
    tails = tuple(f"5c9b8d7f6c-{letter * 5}" for letter in "abcdefgh"[:count])
    made = pods_of("users-api-canary", NEW, PodState.SERVING, tails)
    return replace(board, second_workload=Observed(made, board.workload.observed_at))


@pytest.mark.parametrize("is_covered", [False, True])
@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
@pytest.mark.parametrize("counts", [(1, 2), (3, 1)])
async def test_header_and_pods_are_painted_together(
    counts: tuple[int, int], size: tuple[int, int], is_covered: bool
) -> None:
    board = guard_situations()["canary"]
    source = FixedSource(with_canary_pods(board, counts[0]))
    app = ZddApp(source, clock=FixedClock())
    async with app.run_test(size=size, notifications=True) as pilot:
        if is_covered:
            app.notify("word " * 250, timeout=30)  # over a part of the pods
        await pilot.pause()
        before, painted = screen_text(app).splitlines()[0], list[Piece]()

        def draw_cells(pieces: Sequence[Piece]) -> None:
            painted.extend(pieces)

        app.draw_cells = draw_cells  # type: ignore[method-assign]
        source.current = with_canary_pods(board, counts[1])
        app.repaint()
        rows = {piece[1] for piece in painted}  # the others are for Textual's next frame
        await pilot.pause()
        shown = screen_text(app)
        assert shown.splitlines()[0] != before, "the real weight"
        assert f"canary {counts[1]}/{counts[1]}" in shown
        title = next(y for y, line in enumerate(shown.splitlines()) if f"canary {counts[1]}/{counts[1]}" in line)
        assert not rows or {0, title} <= rows, "the header, and the pods in another frame"

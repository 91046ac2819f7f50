"""What Textual's own partial updates send for one changed cell."""

from dataclasses import replace

from tests.support.screen_text import screen_text
from tests.support.states import FixedClock, FixedSource, dashboard_situations, pod, workload
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.screens.release import ReleaseScreen
from zdd_tui.dashboard.state import Observed
from zdd_tui.dashboard.widgets.panes.pods import PodPane
from zdd_tui.model.workload.pod import PodState


async def test_one_changed_cell_sends_that_cell_only() -> None:
    pods = [pod(f"abc-{number}", "2", PodState.SERVING) for number in range(5)]
    start = replace(dashboard_situations()["backfill"], workload=Observed(workload(pods), 1000.0))
    app = ZddApp(FixedSource(start), clock=FixedClock())
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, ReleaseScreen)
        compositor = screen._compositor
        pods[2] = replace(pods[2], restarts=7)
        with app.batch_update():  # so that Textual does not send it itself
            screen.show(replace(start, workload=Observed(workload(pods), 1000.0)), app.render_context())
            widgets = set(screen.query("PodPane"))
            compositor.update_widgets(widgets)
            update = compositor.render_partial_update()
        assert update is not None
        sent = update.render_segments(app.console)
        assert " 7" in sent
        assert "users-api" not in sent
        assert len(sent) < 40


async def test_an_age_in_a_title_sends_that_title_only() -> None:
    start = dashboard_situations()["backfill"]
    clock = FixedClock()
    app = ZddApp(FixedSource(start), clock=clock)
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, ReleaseScreen)
        compositor = screen._compositor
        pane = screen.query_one(PodPane)
        clock.seconds += 11
        pane.show(start, app.render_context())  # stale: the whole pane is drawn again
        await pilot.pause()
        clock.seconds += 1
        with app.batch_update():
            pane.show(start, app.render_context())
            compositor.update_widgets({pane})
            update = compositor.render_partial_update()
        assert update is not None
        sent = update.render_segments(app.console)
        assert "pods STALE 13s · last: users-api 4/4 ready" in sent
        assert "Serving" not in sent
        assert len(sent) < 200
        await pilot.pause()
        assert "pods STALE 13s" in screen_text(app)

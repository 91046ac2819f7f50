"""A replay: the recorded screens, read-only, with the recorded ages."""

import time
from pathlib import Path

import pytest

from tests.dashboard.conftest import SameInAllSizes
from tests.dashboard.test_recording import recorded
from tests.support.screen_text import screen_text
from tests.support.states import EPOCH, MONOTONIC, SERVING, FixedClock, FixedSource, dashboard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.recording.player import Player
from zdd_tui.dashboard.recording.reader import Recording, RecordingHeader, load_recording
from zdd_tui.dashboard.replay import ReplayApp
from zdd_tui.dashboard.terminal.display_options import DisplayOptions
from zdd_tui.dashboard.widgets.panes.pane import RowSelected

STATES = dashboard_situations()
SHOWN = ("planned", "backfill", "stale", "done")


class FixedTimePlayer(Player):
    """Times of day that do not depend on the time zone."""

    def time_of_day(self, at: float) -> str:
        return FixedClock().time_of_day(at)


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """Four states, a minute apart, as if read at the times that they hold."""
    found = load_recording(recorded(tmp_path / "r.jsonl", *[STATES[name] for name in SHOWN]))
    found.header = RecordingHeader(found.header.plan, EPOCH + 1, MONOTONIC + 1)
    found.times[:] = [60.0 * at for at in range(len(SHOWN))]
    found.marks[:] = found.times[1:]
    return found


def player(recording: Recording) -> tuple[FixedTimePlayer, list[float]]:
    now = [0.0]
    return FixedTimePlayer(recording, now=lambda: now[0]), now


async def test_the_screen_is_as_recorded(recording: Recording) -> None:
    playing, _ = player(recording)
    playing.toggle()
    app = ReplayApp(playing, display_options=DisplayOptions())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        first, *rest = screen_text(app).splitlines()
    assert " ".join(first.split()) == "REPLAY 03:12:01 0:00 of 3:00 ×1 ‖ paused space arrows <> nN"
    live = ZddApp(FixedSource(STATES["planned"]), clock=FixedClock(), read_only=True)
    async with live.run_test(size=(80, 23), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        assert screen_text(live).splitlines() == rest


async def test_keys_move_in_the_recording(recording: Recording) -> None:
    playing, now = player(recording)
    app = ReplayApp(playing, display_options=DisplayOptions())

    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:

        async def press(wanted: str, *keys: str) -> None:
            """Presses keys and waits for a text on the screen."""
            await pilot.press(*keys)
            deadline = time.monotonic() + 30
            while wanted not in screen_text(app):
                assert time.monotonic() < deadline, screen_text(app)
                await pilot.pause(0.05)

        await press("‖ paused", "space")
        assert "nothing has run yet" in screen_text(app)
        await press("1:00 of 3:00", "n")
        await press("move old rows in batches")
        await press("1:10 of 3:00", "right")
        await press("STALE", "n")
        await press("■ ended", "end")
        await press("all 6 phases are complete")
        await press("move old rows", "N", "N")
        await press("nothing has run yet", "home")
        await press("×4", "greater_than_sign", "greater_than_sign", "less_than_sign", "greater_than_sign")
        await press("▶ playing", "space")
        now[0] += 16
        await press("1:04 of 3:00", "less_than_sign")
        await press("move old rows")


async def test_no_command_can_be_sent(recording: Recording) -> None:
    playing, _ = player(recording)
    playing.seek(60.0)
    playing.toggle()
    app = ReplayApp(playing, display_options=DisplayOptions())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        assert "p pause" not in screen_text(app)
        for key in ("p", "a", "R"):
            await pilot.press(key)
            await pilot.pause()
            assert len(app.screen_stack) == 1
        await pilot.press("e", "end")
        await pilot.pause()
        assert len(app.screen_stack) == 2
        assert playing.position == 60, "in a dialog, End belongs to the dialog"


async def test_an_invalid_line_ends_the_replay_with_its_number(recording: Recording) -> None:
    recording.lines[2] = {"t": 120.0, "d": {"~": {"is_doctor_running": {"=": "perhaps"}}}}
    playing, _ = player(recording)
    app = ReplayApp(playing, display_options=DisplayOptions())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.press("n", "n")
        await pilot.pause()
    assert app.error is not None
    assert "line 4 cannot be shown: is_doctor_running" in app.error.title
    assert app.return_value == 2


PICTURES = {
    "replay": (False, ""),
    "replay-timeline": (False, "T"),
    "replay-plan": (False, "P"),
    "replay-pod": (True, ""),
    "replay-log": (True, "l"),
    "replay-yaml": (True, "v"),
}
"""Whether a pod is opened first, and a key."""


@pytest.mark.parametrize("picture", PICTURES)
async def test_picture(picture: str, recording: Recording, same_in_all_sizes: SameInAllSizes) -> None:
    playing, _ = player(recording)
    playing.seek(60.0)
    playing.toggle()
    app = ReplayApp(playing, display_options=DisplayOptions())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        on_pod, key = PICTURES[picture]
        if on_pod:
            app.screen.post_message(RowSelected("pods", "x", SERVING[0]))
            await pilot.pause()
        if key:
            await pilot.press(key)
        await same_in_all_sizes(pilot, picture)


DETAILS = {
    "T": ("users-full-name › timeline", "refused advance: backfill is still running"),
    "G": ("gates of backfill", "756k of 1.2M"),
    "B": ("users-full-name › backfill", "✗ the backfill: the recording has no ranges, rows and SQL of the backfill"),
    "P": ("users-full-name › plan", "✗ the plan: the recording has no text of the plan"),
    "m": ("users-full-name › charts",),
    "V": ("users-full-name › topology (Expand/Contract)", "OLD WRITTEN"),
}


async def test_details_show_what_was_recorded_and_name_what_was_not(recording: Recording) -> None:
    playing, _ = player(recording)
    playing.seek(60.0)
    playing.toggle()
    app = ReplayApp(playing, display_options=DisplayOptions())
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:

        async def shown(*wanted: str) -> None:
            deadline = time.monotonic() + 30
            while not all(text in screen_text(app) for text in wanted):
                assert time.monotonic() < deadline, (wanted, screen_text(app))
                await pilot.pause(0.05)

        await pilot.pause()
        for key, wanted in DETAILS.items():
            await pilot.press(key)
            await shown(*wanted)
            await pilot.press("escape")
            await shown("move old rows in batches")
        app.screen.post_message(RowSelected("pods", "x", SERVING[0]))
        await shown(
            "✗ pod users-api-6d4f9c7b5d-x7k2p: the recording has no API object of the pod",
            "● Serving  12m old",  # its age stops once the cluster is silent
            "image shop/users-api:2  node node-1  0 restarts",
            "the recording has no logs",
        )
        await pilot.press("l")
        await shown(
            "log of users-api-6d4f9c7b5d-x7k2p",
            "· ended",
            "✗ the recording has no logs",
            "`zdd open PLAN` shows live data",
        )
        await pilot.press("escape", "v")
        await shown("pod/users-api", "✗ Pod users-api-6d4f9c7b5d-x7k2p: the recording has no API object of the pod")


async def test_the_gates_pane_shows_recorded_gates(recording: Recording) -> None:
    playing, _ = player(recording)
    playing.seek(60.0)
    playing.toggle()
    app = ReplayApp(playing, display_options=DisplayOptions())
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.press("6")
        await pilot.pause()
        shown = screen_text(app)
        assert "╍ 6:gates STALE 1m" in shown, "the source was stale at that time of the recording"
        assert "→ backfill   backfill-complete ? unknown     1m agent not known; last: pending, 756k of 1.2M" in shown
        assert "cleanup    cleanup-complete  ○ upcoming" in shown

"""Nothing from outside is parsed as markup, and no control character reaches the terminal."""

from dataclasses import replace

import pytest

from tests.support.screen_text import screen_text
from tests.support.states import (
    FixedClock,
    FixedSource,
    board,
    dashboard_situations,
    events,
    gate,
    pod,
    record,
    release,
    workload,
)
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.state import FlagView, Observed
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.phase import Phase
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import CommandKind, ReleaseState, StepStatus
from zdd_tui.model.workload.pod import PodState

EVIL = "[/var/log/app] [bold]x[/] [@click=app.quit]y[/] $text {z} \x1b[2J\x1b]0;title\x07\x00\u202e\u200b\r\n\t漢字"
SHOWN = "[/var/log/app]"


def evil_source(state: str) -> FixedSource:
    rel = release(ReleaseState.RUNNING, Phase.EXPAND, done=1, current=StepStatus.STARTED)
    if state == "failed":
        rel = release(ReleaseState.FAILED, Phase.EXPAND, done=1, current=StepStatus.FAILED, error=EVIL)
    if state == "waiting":
        rel = release(ReleaseState.WAITING, Phase.EXPAND)
    rec = record(
        rel,
        note=EVIL,
        events=events(("command", EVIL, EVIL), ("refused", EVIL, EVIL), (EVIL, EVIL, EVIL)),
        gates=dict([gate("schema-valid", Verdict.PASS, EVIL), gate("no-waiters", Verdict.PASS, EVIL)]),
    )
    made = board(
        rec,
        workload=Observed(workload([pod(EVIL, EVIL, PodState.STARTING, reason=EVIL)], EVIL), 1000.0, EVIL, EVIL),
        flags=Observed((FlagView(EVIL, "write", None, EVIL),), 1000.0, EVIL, EVIL),
        previews=dict.fromkeys(CommandKind, (EVIL, f"  {EVIL}")),
    )
    return FixedSource(replace(made, plan=replace(made.plan, name=EVIL, environment=EVIL, target=EVIL, database=EVIL)))


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
@pytest.mark.parametrize("state", ["running", "failed", "waiting"])
async def test_hostile_data_is_only_text(state: str, size: tuple[int, int]) -> None:
    source = evil_source(state)
    app = ZddApp(source, clock=FixedClock())
    async with app.run_test(size=size, notifications=True, tooltips=True) as pilot:
        for keys in ((), ("e",), ("escape",), ("R",), ("escape",), ("p",)):
            await pilot.press(*keys)
            await pilot.pause()
            shown = screen_text(app)
            assert SHOWN in shown
            assert all(line.isprintable() for line in shown.splitlines())
        source.futures[-1].set_exception(DatabaseError(EVIL, EVIL))
        await pilot.pause()
        assert f"✗ pause NOT SENT: {SHOWN}" in screen_text(app)


async def test_a_hostile_first_error_is_only_text() -> None:
    made = dashboard_situations()["connecting"]
    source = FixedSource(replace(made, release=Observed(error=EVIL, hint=EVIL), workload=Observed(error=EVIL)))
    app = ZddApp(source, clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        assert SHOWN in screen_text(app)

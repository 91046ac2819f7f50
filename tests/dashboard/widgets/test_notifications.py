"""The bell: once for each condition that needs attention; and where a toast is shown."""

from dataclasses import replace

import pytest
from textual.widgets._toast import Toast

from tests.support.states import EPOCH, MONOTONIC, FixedClock, FixedSource, dashboard_situations, workload
from tests.support.states import pod as make_pod
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.screens.dialog import KeyHints
from zdd_tui.dashboard.state import DashboardState, Observed, RenderContext
from zdd_tui.dashboard.widgets.bars.command_progress import MessageLine
from zdd_tui.dashboard.widgets.bars.footer import Footer
from zdd_tui.dashboard.widgets.bars.gates import GateSummary
from zdd_tui.dashboard.widgets.bars.notifications import MAX_TEXT_LENGTH, NotificationTracker, attention_items
from zdd_tui.dashboard.widgets.bars.summary import SummaryLines, summary_lines
from zdd_tui.model.workload.pod import PodState

BOARDS = dashboard_situations() | guard_situations()
MOMENT = RenderContext.at_clock(FixedClock())


def attention_for(name: str) -> str:
    return "; ".join((attention_items(BOARDS[name], MOMENT) or {}).values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("open", "approval is needed"),
        ("contract", "approval is needed"),
        ("failed", "failed in expand"),
        ("no-agent", "no agent"),
        ("guard-backwards", "the guard acted (rollback)"),
    ],
)
def test_conditions_that_need_attention(name: str, expected: str) -> None:
    assert expected in attention_for(name)


@pytest.mark.parametrize("name", ["planned", "lock", "paused", "backfill", "rolling-back", "rolled-back", "done"])
def test_states_that_need_no_attention(name: str) -> None:
    assert attention_for(name) == ""


@pytest.mark.parametrize("name", ["connecting", "stale"])
def test_without_a_recent_state_attention_is_unknown(name: str) -> None:
    assert attention_items(BOARDS[name], MOMENT) is None


def test_each_condition_is_reported_once() -> None:
    attention = NotificationTracker()
    idle, open_, lost = (attention_items(BOARDS[name], MOMENT) for name in ("backfill", "open", "no-agent"))
    assert attention.pop_new_text(open_) == "", "it existed when the dashboard was opened"
    assert attention.pop_new_text(idle) == ""
    assert "approval is needed" in attention.pop_new_text(open_)
    assert attention.pop_new_text(open_) == ""
    assert attention.pop_new_text(None) == ""
    assert attention.pop_new_text(open_) == "", "a lost connection is not a new condition"
    assert "no agent" in attention.pop_new_text(lost)


def test_a_wait_over_its_limit_is_reported_when_the_limit_is_exceeded() -> None:
    def board(since: float) -> DashboardState:
        record = BOARDS["open"].release.value
        assert record is not None
        gates = {name: replace(gate, since=EPOCH - since) for name, gate in record.gates.items()}
        return replace(BOARDS["open"], release=Observed(replace(record, gates=gates, wait_limit=600.0), MONOTONIC))

    attention = NotificationTracker()
    assert attention.pop_new_text(attention_items(board(590.0), MOMENT)) == ""
    assert (
        attention.pop_new_text(attention_items(board(610.0), MOMENT)) == "waiting for a person for 10m11s, limit 10m00s"
    )
    second = summary_lines(board(610.0), MOMENT, 80)[1]
    assert "".join(part for part, _tone in second) == "  ✗ LATE: waiting for a person for 10m11s, limit 10m00s"


def test_without_an_agent_no_approval_is_asked_for_and_nothing_is_late() -> None:
    record = BOARDS["open"].release.value
    assert record is not None
    lost = replace(BOARDS["open"], release=Observed(replace(record, lease=None, wait_limit=1.0), MONOTONIC))
    assert set(attention_items(lost, MOMENT) or {}) == {"agent"}


def test_an_overdue_pod_is_one_condition() -> None:
    def board(*late: str, seconds: float = 0.0) -> DashboardState:
        pods = [replace(make_pod(name, "1", PodState.OVERDUE), seconds_left=-seconds) for name in late]
        return replace(BOARDS["gates"], workload=Observed(workload(pods), MONOTONIC))

    attention = NotificationTracker()
    assert attention.pop_new_text(attention_items(board(), MOMENT)) == ""
    assert "is overdue" in attention.pop_new_text(attention_items(board("aaaaa"), MOMENT))
    assert attention.pop_new_text(attention_items(board("aaaaa", seconds=9), MOMENT)) == ""
    assert "bbbbb is overdue" in attention.pop_new_text(attention_items(board("aaaaa", "bbbbb"), MOMENT))


def test_a_long_or_hostile_text_is_truncated_and_sanitized() -> None:
    attention = NotificationTracker()
    attention.pop_new_text({})
    text = attention.pop_new_text({"x": "\x1b[2J" + "long " * 100})
    assert len(text) == MAX_TEXT_LENGTH
    assert text.startswith("[2J")


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_a_toast_covers_neither_the_keys_nor_a_message_nor_the_state(size: tuple[int, int]) -> None:
    """The longest state, over the longest message, and a text that may be longer than there is room for."""
    app = ZddApp(FixedSource(dashboard_situations()["stopped"]), clock=(clock := FixedClock()))
    app.action_controller.access = app.action_controller.access.unlock(clock.seconds)
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        for keys, kept in (
            ("a", (Footer, MessageLine, SummaryLines, GateSummary)),
            ("question_mark", (KeyHints,)),
            ("escape m", (KeyHints,)),
        ):
            await pilot.press(*keys.split())
            app.notify("short")
            app.notify("word " * 60)
            await pilot.pause()
            (toast,) = app.screen.query(Toast)
            assert toast.region.height > 1
            for kind in kept:
                (view,) = app.screen.query(kind)
                assert view.region.height
                assert not view.region.overlaps(toast.region), (keys, view, view.region, toast.region)

"""The screen of a guard rule."""

import json
from dataclasses import replace

import pytest

from tests.dashboard.conftest import SameInAllSizes
from tests.dashboard.screens.detail_answers import ANSWERS
from tests.dashboard.screens.test_details import hostile, until
from tests.dashboard.screens.test_untrusted_text import EVIL
from tests.support.screen_text import screen_text
from tests.support.states import EPOCH, FixedClock, FixedSource
from tests.support.strategy_states import guard_situations, latency
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.recording.codec import Decoder, Encoder
from zdd_tui.dashboard.screens.details.rule import RuleScreen, predict_action
from zdd_tui.dashboard.screens.dialog import PageView
from zdd_tui.dashboard.state import DashboardState
from zdd_tui.dashboard.widgets.drawing.chart import draw_chart
from zdd_tui.dashboard.widgets.drawing.line import TextStyle
from zdd_tui.model.guard.rules import describe_rules
from zdd_tui.model.plan.guard import Guard
from zdd_tui.model.release.gate import Verdict

GUARD = Guard.model_validate(
    {
        "rules": [
            {"name": "errors", "metric": "error-rate", "limit": "1%", "window": "30s", "for": "10s", "min_samples": 50},
            {
                "name": "p99",
                "metric": "latency",
                "compare": {"ratio": 1.5},
                "limit": "50ms",
                "action": "pause",
                "no_data": {"after": "2m"},
            },
        ]
    }
)
PICTURES = {
    "pass": ("guard-pass", "errors"),
    "compared": ("guard-pass", "p99"),
    "failed": ("guard-backwards", "errors"),
    "stale": ("guard-unknown", "errors"),
    "no-data": ("guard-unknown", "p99"),
}


def rule_text(board: DashboardState) -> DashboardState:
    return replace(board, plan=replace(board.plan, guard_rules=describe_rules(GUARD)))


@pytest.mark.parametrize("picture", PICTURES)
async def test_picture(picture: str, same_in_all_sizes: SameInAllSizes) -> None:
    situation, rule = PICTURES[picture]
    source = FixedSource(rule_text(guard_situations()[situation]), answers=dict(ANSWERS))
    app = ZddApp(source, clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await app.push_screen(RuleScreen(source, app.render_context, rule))
        await same_in_all_sizes(pilot, f"detail-rule-{picture}")


async def test_enter_on_the_row_of_a_rule_opens_it_and_it_follows_the_state() -> None:
    source = FixedSource(rule_text(guard_situations()["guard-pass"]), answers=dict(ANSWERS))
    app = ZddApp(source, clock=FixedClock())
    async with app.run_test(size=(120, 36), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.press("4", "down", "enter")
        await until(pilot, lambda: isinstance(app.screen, RuleScreen) and "guard rule p99" in screen_text(app))
        text = app.screen.query_one(PageView).plain_text()
        assert "79ms: new is 1.04 times old" in text
        assert "new at most 1.5 times old; never below 50ms" in text
        assert "p99 of the histogram http_request_duration_seconds" in text
        assert "pause the release and notify" in text
        record = source.current.release.value
        assert record is not None
        broken = latency(verdict=Verdict.FAIL, value=0.2, reason="v2 200ms, v1 79ms, limit 118ms", action_taken="pause")
        moved = replace(record, guard=(record.guard[0], broken))
        source.set_board(replace(source.current, release=replace(source.current.release, value=moved)))
        await until(pilot, lambda: "none: 69% above the limit" in screen_text(app))
        assert "triggered pause (once per breach)" in app.screen.query_one(PageView).plain_text()
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)


async def test_hostile_texts_of_a_rule_are_only_text() -> None:
    made = rule_text(guard_situations()["guard-pass"])
    record = made.release.value
    assert record is not None
    evil = replace(record.guard[0], **dict.fromkeys(("rule", "reason", "action_taken"), EVIL))
    views = tuple(replace(hostile(replace(view, action=None)), action=view.action) for view in made.plan.guard_rules)
    board = replace(
        made,
        plan=replace(made.plan, rule_names=(evil.rule,), guard_rules=views),
        release=replace(made.release, value=replace(record, guard=(evil,))),
    )
    source = FixedSource(board, answers={kind: hostile(answer) for kind, answer in ANSWERS.items()})
    app = ZddApp(source, clock=FixedClock())
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await app.push_screen(RuleScreen(source, app.render_context, evil.rule))
        await pilot.pause()
        for key in ("end", "w", "home"):
            await pilot.press(key)
            await pilot.pause()
            assert all(line.isprintable() for line in screen_text(app).splitlines())
        assert "[/var/log/app]" in app.screen.query_one(PageView).plain_text()


@pytest.mark.parametrize(
    ("situation", "does"),
    [
        ("guard-pass", "roll back automatically"),
        ("guard-backwards", "no action: the release is rolling back"),
        ("guard-rolled-back", "no action: the guard has ended: the release is rolled back"),
    ],
)
def test_the_predicted_action_is_the_decision_of_the_guard(situation: str, does: str) -> None:
    board = rule_text(guard_situations()[situation])
    record = board.release.value
    assert record is not None
    assert does in predict_action(record.guard[0], board.plan.guard_rules[0], record)


def test_after_one_rollback_the_predicted_action_is_pause() -> None:
    board = rule_text(guard_situations()["guard-pass"])
    record = board.release.value
    assert record is not None
    before = replace(record, guard=(record.guard[0], replace(record.guard[1], action_taken="rollback")))
    assert predict_action(record.guard[0], board.plan.guard_rules[0], before).startswith(
        "pause the release (rollback is no longer possible)"
    )


def text(series: tuple[float | None, ...], limit: float | None, cells: int = 30) -> list[str]:
    lines = draw_chart(series, limit, cells, 4, lambda number: f"{number:g}")
    return ["".join(part for part, _ in line) for line in lines]


def test_bars_have_a_scale_and_the_limit() -> None:
    assert text((1.0, 2.0, None, 4.0), 2.0, 11) == [
        "4 ┤      ██",
        "  ┤      ██",
        "2 ┤──██──██",
        "0 ┤████··██",
    ]
    assert text((1.0, 2.0, None, 4.0), 2.0, 7) == ["4 ┤   █", "  ┤   █", "2 ┤─█─█", "0 ┤██·█"]
    assert text((1.0, 2.0, None, 4.0), 2.0, 5) == ["4 ┤ █", "  ┤ █", "2 ┤─█", "0 ┤·█"], "the newest stay"
    assert text((1.0,), 8.0, 6)[0] == "8 ┤───"
    assert text((None, None), 1.0) == ["no value yet"]
    over = draw_chart((3.0,), 2.0, 10, 4, str)
    assert any(style is TextStyle.BAD for line in over for _, style in line)


def test_the_age_of_a_verdict_is_by_the_clock_of_the_database() -> None:
    board = rule_text(guard_situations()["guard-unknown"])
    record = board.release.value
    assert record is not None
    assert record.guard[0].age(EPOCH) == 31


def test_a_recording_holds_the_queries_of_rules_and_plays_without_them() -> None:
    board = rule_text(guard_situations()["guard-pass"])
    parts = json.loads(json.dumps(Encoder().encode(board)))
    assert Decoder().decode(parts).plan.guard_rules == board.plan.guard_rules
    del parts["plan"]["guard_rules"]
    assert Decoder().decode(parts).plan.guard_rules == ()

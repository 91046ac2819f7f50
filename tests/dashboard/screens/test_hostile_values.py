"""Control characters of a database, a cluster or a log do not reach the terminal by any screen."""

import re
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from tests.support.states import FixedClock, FixedSource, dashboard_situations
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.app import ZddApp

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r\x08"
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e]")
FREE_TEXTS = {
    "environment", "error", "message", "reason", "note", "cause", "hint", "host", "role", "holder", "text", "outcome",
    "image", "version", "address", "database", "throttle",
}  # fmt: skip

SITUATIONS = dashboard_situations() | guard_situations()


def with_hostile_texts(value: Any) -> Any:
    """A copy of a state whose free texts begin and end with control sequences."""
    if is_dataclass(value) and not isinstance(value, type):
        changes = {}
        for field in fields(value):
            if not field.init:
                continue
            given = getattr(value, field.name)
            if isinstance(given, str) and type(given) is str and field.name in FREE_TEXTS and given:
                changes[field.name] = f"{HOSTILE}{given}{HOSTILE}"
            else:
                changes[field.name] = with_hostile_texts(given)
        return replace(value, **changes)
    if type(value) is tuple:
        return tuple(with_hostile_texts(item) for item in value)
    if type(value) is dict:
        return {key: with_hostile_texts(item) for key, item in value.items()}
    return value


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_no_screen_draws_a_control_character(situation: str) -> None:
    state = with_hostile_texts(SITUATIONS[situation])
    app = ZddApp(FixedSource(state), clock=FixedClock())
    drawn = ""
    async with app.run_test(size=(160, 50), notifications=True) as pilot:
        await pilot.pause()
        for keys in (
            "",
            "e",
            "escape",
            "R",
            "escape",
            "G",
            "escape",
            "T",
            "escape",
            "question_mark",
            "escape",
            "tab z",
        ):
            if keys:
                await pilot.press(*keys.split())
            await pilot.pause()
            drawn += "".join(strip.text for strip in app.screen._compositor.render_strips())
    assert not UNSAFE.search(drawn)
    assert "owned" in drawn  # the texts themselves are there

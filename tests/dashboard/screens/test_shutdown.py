"""Shutdown: a state or a key that arrives while a screen is closed does no harm."""

import asyncio

import pytest
from textual import events

from tests.support.states import FixedClock, FixedSource, dashboard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.screens.confirm import ConfirmScreen
from zdd_tui.dashboard.screens.dialog import KeyHints, PageView

KEYS = {"confirm": "a", "palette": "colon", "details": "e", "help": "question_mark", "unlock": "u", "tune": "t"}


@pytest.mark.parametrize("dialog", KEYS)
@pytest.mark.parametrize("first", [PageView, KeyHints])
async def test_a_state_after_shutdown(dialog: str, first: type, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FixedClock()
    app = ZddApp(FixedSource(dashboard_situations()["backfill" if dialog == "tune" else "open"]), clock=clock)
    if dialog != "unlock":
        app.action_controller.access = app.action_controller.access.unlock(clock.seconds)
    came = []
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.press(KEYS[dialog])
        await pilot.pause()
        assert len(app.screen_stack) == 2
        monkeypatch.setattr(first, "on_unmount", lambda page: (app.repaint(), came.append(page)), raising=False)
    assert came


@pytest.mark.parametrize("keys", [["enter", "enter"], ["enter", "escape"], ["escape", "enter"], ["enter"] * 4])
@pytest.mark.parametrize("under", ["", "T"])
async def test_keys_typed_ahead_close_one_dialog_and_confirm_once(under: str, keys: list[str]) -> None:
    """All keys in one piece, before anything is drawn, as a terminal sends them."""
    clock = FixedClock()
    source = FixedSource(dashboard_situations()["backfill"])
    app = ZddApp(source, clock=clock)
    app.action_controller.access = app.action_controller.access.unlock(clock.seconds)
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        for opener in (*under, "R"):
            await pilot.press(opener)
            await pilot.pause()
        assert len(app.screen_stack) == 2 + len(under)
        assert app._driver is not None
        for key in keys:
            event = events.Key(key, None)
            event.set_sender(app)
            app._driver.send_message(event)
        async with asyncio.timeout(20):
            while isinstance(app.screen, ConfirmScreen):
                await pilot.pause(0.02)
        await pilot.pause(0.1)
        assert len(app.screen_stack) == (1 if source.sent_commands else 1 + len(under)), (
            "what is sent is followed from home"
        )
        assert len(source.sent_commands) == (keys[0] == "enter"), "the first key is about the dialog that was on screen"


async def test_a_page_that_is_drawn_after_its_dialog_was_closed_does_no_harm() -> None:
    """As by a timer of the dialog that was due while it was closed."""
    app = ZddApp(FixedSource(dashboard_situations()["open"]), clock=FixedClock())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        page, keys = app.screen.query_one(PageView), app.screen.query_one(KeyHints)
        await pilot.press("escape")
        await pilot.pause()
        assert not page.is_attached
        page.redraw()
        keys.redraw()
        page.watch_scroll_y(0.0, 1.0)


async def test_a_key_that_is_handled_after_the_last_screen_is_gone_does_no_harm() -> None:
    app = ZddApp(FixedSource(dashboard_situations()["open"]), clock=FixedClock())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
    assert not app.screen_stack
    app.on_key(events.Key("a", "a"))

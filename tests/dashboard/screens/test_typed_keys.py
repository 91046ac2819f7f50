"""Keys that arrive in one read of the terminal, before any of them has had an effect."""

import asyncio

import pytest
from textual import events

from tests.dashboard.screens.test_keys import AppDriver
from zdd_tui.dashboard.screens.columns import ColumnScreen
from zdd_tui.dashboard.screens.confirm import ConfirmScreen
from zdd_tui.dashboard.screens.release import ReleaseScreen
from zdd_tui.model.release.state import CommandKind


async def type_at_once(desk: AppDriver, *keys: str) -> None:
    for key in keys:
        desk.app.post_message(events.Key(key, key if len(key) == 1 else None))
    await desk.pilot.pause()
    while not desk.app.typed_keys.is_idle:
        await desk.pilot.pause()
    await desk.pilot.pause()


async def test_keys_typed_ahead_of_the_columns_dialog_are_for_it() -> None:
    async with AppDriver("open") as desk:
        await type_at_once(desk, "c", "down", "space")
        assert isinstance(desk.app.screen, ColumnScreen)
        assert "[ ] VERSION" in desk.screen
        await type_at_once(desk, "escape", "c", "a", "enter")
        assert isinstance(desk.app.screen, ReleaseScreen)
        assert not desk.source.sent_commands


@pytest.mark.parametrize("key", ["a", "R"])
async def test_enter_typed_ahead_confirms_nothing(key: str) -> None:
    async with AppDriver("open") as desk:
        await type_at_once(desk, key, "enter", "enter")
        assert isinstance(desk.app.screen, ConfirmScreen)
        assert not desk.source.sent_commands
        await desk.press("enter")
        assert len(desk.source.sent_commands) == 1


async def test_enter_typed_as_soon_as_it_is_shown_confirms(monkeypatch: pytest.MonkeyPatch) -> None:
    """`R` is still in work then: its end comes a moment after the paint of the dialog."""
    set_ready = ConfirmScreen._set_ready

    def press_enter(dialog: ConfirmScreen) -> None:
        assert "Enter" not in "".join(text for text, _ in dialog.key_hints(*dialog._last_shown, 80)[-1])
        set_ready(dialog)
        assert "Enter" in "".join(text for text, _ in dialog.key_hints(*dialog._last_shown, 80)[-1])
        assert not desk.app.typed_keys.is_idle
        enter = events.Key("enter", None)
        enter.set_sender(desk.app)  # else it is of this dialog, and bubbles no further
        desk.app.post_message(enter)

    monkeypatch.setattr(ConfirmScreen, "_set_ready", press_enter)
    async with AppDriver("open") as desk:
        await type_at_once(desk, "R")
        async with asyncio.timeout(10):
            while not desk.source.sent_commands:
                await desk.pilot.pause()
        assert [command.kind for command in desk.source.sent_commands] == [CommandKind.ROLLBACK]


@pytest.mark.parametrize("key", ["d", "V"])
async def test_a_key_typed_ahead_never_reaches_the_screen_below(key: str) -> None:
    async with AppDriver("open") as desk:
        await desk.press(key)
        opened = type(desk.app.screen)
        await desk.press("escape")
        assert isinstance(desk.app.screen, ReleaseScreen)
        await type_at_once(desk, key, "c")  # c opens the columns of a pane on the main screen alone
        assert type(desk.app.screen) is opened is not ReleaseScreen


async def test_a_name_typed_ahead_is_complete_in_the_dialog_and_waits_for_its_enter() -> None:
    async with AppDriver("open", unlocked=False) as desk:
        await type_at_once(desk, "u", *"production", "enter")
        assert "a advance" in desk.footer
        await type_at_once(desk, "colon", *"roll", "enter", "enter")
        assert isinstance(desk.app.screen, ConfirmScreen)
        assert desk.app.screen.kind is CommandKind.ROLLBACK
        assert not desk.source.sent_commands

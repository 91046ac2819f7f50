"""Leaving: a board that comes while the screens are being taken down harms nothing."""

import pytest

from tests.ui.boards import FixedClock, FixedSource, situations
from zdd_tui.app import ZddApp
from zdd_tui.screens.dialog import Keys, Page

KEYS = {"confirm": "a", "palette": "colon", "details": "e", "help": "question_mark", "unlock": "u", "tune": "t"}


@pytest.mark.parametrize("dialog", KEYS)
@pytest.mark.parametrize("first", [Page, Keys])
async def test_a_board_that_comes_too_late(dialog: str, first: type, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FixedClock()
    app = ZddApp(FixedSource(situations()["backfill" if dialog == "tune" else "open"]), clock=clock)
    if dialog != "unlock":
        app.operator.access = app.operator.access.unlock(clock.seconds)
    came = []
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        await pilot.pause()
        await pilot.press(KEYS[dialog])
        await pilot.pause()
        assert len(app.screen_stack) == 2
        monkeypatch.setattr(first, "on_unmount", lambda page: (app.repaint(), came.append(page)), raising=False)
    assert came

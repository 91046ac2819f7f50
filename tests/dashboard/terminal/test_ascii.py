"""The dashboard in ASCII: the same columns, and glyphs that stay different."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.support.screen_text import screen_text
from tests.support.states import FixedClock, FixedSource, dashboard_situations
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.app import ZddApp
from zdd_tui.dashboard.terminal.ascii import ASCII_REPLACEMENTS, to_ascii
from zdd_tui.dashboard.widgets.bars.gates import VERDICT_GLYPHS
from zdd_tui.dashboard.widgets.drawing.line import sanitize

SITUATIONS = dashboard_situations() | guard_situations()
STATES = "✔✗▶◆‖◀◁○~?"
PODS = "●◐○▽▼·◇"


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_every_drawn_glyph_has_a_replacement(situation: str) -> None:
    """Without a replacement a glyph becomes a question mark, which is also a verdict."""
    app = ZddApp(FixedSource(SITUATIONS[situation]), clock=FixedClock())
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        for key in ("question_mark", "escape", "e") if situation == "failed" else ("tab",):
            await pilot.press(key)
            await pilot.pause()
            text = screen_text(app)
            assert [len(line) for line in to_ascii(text).splitlines()] == [len(line) for line in text.splitlines()]
            assert {char for char in text if not char.isascii() and char not in ASCII_REPLACEMENTS} == set()


@pytest.mark.parametrize("family", [STATES, PODS, "▁▂▃▄▅▆▇█", "".join(glyph for glyph, _ in VERDICT_GLYPHS.values())])
def test_glyphs_of_a_family_stay_different(family: str) -> None:
    assert len({to_ascii(sign) for sign in family}) == len(set(family))


@given(st.text())
def test_any_text_keeps_its_width(text: str) -> None:
    shown = sanitize(text)
    assert to_ascii(shown).isascii()
    assert cell_len(to_ascii(shown)) == sum(cell_len(char) for char in shown)


def test_letters_lose_their_accents_and_keep_their_width() -> None:
    assert to_ascii("Zoë naïve 東京 “x”…") == 'Zoe naive ???? "x"~'
    assert to_ascii("Łukasz Søren Straße") == "Lukasz Soren Strase"
    assert to_ascii("\x1b[31m● Serving\x1b[0m") == "\x1b[31m* Serving\x1b[0m"

"""The short encoding shows the same on a terminal as the long one of Rich."""

import random

import pyte
import pytest
from rich.color import ColorSystem
from rich.console import Console
from rich.control import Control
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from zdd_tui.dashboard.terminal.ansi_writer import RESET, Piece, ScrollUp, encode_pieces

STYLES = [
    None,
    Style.null(),
    Style.parse("default on default"),
    Style.parse("yellow on default"),
    Style.parse("bold yellow on default"),
    Style.parse("bold reverse red on default"),
    Style.parse("dim"),
    Style.parse("white on color(39)"),
    Style.parse("color(49) on default"),
    Style.parse("#278cff on rgb(39,49,5)"),
    Style.parse("underline bright_white on red"),
]
WORDS = ["7", "50", "Crashed", "●", "数据", "a─b", " ", " " * 13]
COLUMNS, ROWS = 40, 8


def pieces(rng: random.Random) -> list[tuple[int, int, Strip]]:
    made = []
    for _ in range(rng.randint(1, 12)):
        strip = Strip([Segment(rng.choice(WORDS), rng.choice(STYLES)) for _ in range(rng.randint(1, 3))])
        most = COLUMNS - strip.cell_length
        x = rng.choice([rng.randint(0, most), most, max(0, most - 1)])
        made.append((x, rng.randrange(ROWS), strip))
    return made


def screen() -> tuple[pyte.Screen, pyte.Stream]:
    made = pyte.Screen(COLUMNS, ROWS)
    return made, pyte.Stream(made)


@pytest.mark.parametrize("seed", range(40))
def test_a_terminal_shows_the_same(seed: int) -> None:
    rng, (ours, our_stream), (theirs, their_stream) = random.Random(seed), screen(), screen()
    console = Console(color_system="truecolor", force_terminal=True)  # a style caches its first rendering
    sgr = ""
    for _ in range(10):
        made = pieces(rng)
        ansi_write = encode_pieces(made, COLUMNS, ColorSystem.TRUECOLOR, sgr)
        sgr = ansi_write.sgr
        our_stream.feed(ansi_write.text)
        for x, y, strip in made:
            their_stream.feed(Control.move_to(x, y).segment.text + strip.render(console))
        assert ours.buffer == theirs.buffer
        if rng.random() < 0.3:  # other output in between starts with the default style
            text = f"\x1b[{rng.randint(1, ROWS)};1Hother"
            our_stream.feed((RESET if sgr else "") + text)
            their_stream.feed(text)
            sgr = ""


def test_a_changed_digit_costs_a_cursor_move_and_the_digit() -> None:
    style = Style.parse("yellow on default")
    digits = [(20, row, Strip([Segment("7", style)])) for row in (6, 7, 11)]
    first = encode_pieces(digits[:1], COLUMNS, ColorSystem.STANDARD)
    assert (first.text, first.sgr) == ("\x1b[7;21H\x1b[33m7", "33")
    assert encode_pieces(digits[1:2], COLUMNS, ColorSystem.STANDARD, first.sgr).text == "\x1b[8;21H7"
    assert encode_pieces(digits[1:], COLUMNS, ColorSystem.STANDARD, first.sgr).text == "\x1b[8;21H7\x1b[4B\b7"


def test_after_a_character_of_unknown_width_the_cursor_is_set() -> None:
    text = encode_pieces(
        [(0, 0, Strip([Segment("●")])), (1, 1, Strip([Segment("x")]))], COLUMNS, ColorSystem.STANDARD
    ).text
    assert text == "\x1b[1;1H●\x1b[2;2Hx"


def test_after_the_last_column_the_cursor_is_set() -> None:
    edge = Strip([Segment("ab")])
    assert (
        encode_pieces([(38, 0, edge), (38, 1, edge)], COLUMNS, ColorSystem.STANDARD).text == "\x1b[1;39Hab\x1b[2;39Hab"
    )
    assert (
        encode_pieces([(37, 0, edge), (37, 1, edge)], COLUMNS, ColorSystem.STANDARD).text == "\x1b[1;38Hab\x1b[B\b\bab"
    )


def test_rows_that_move_leave_the_others_and_end_the_style() -> None:
    ours, stream = screen()
    stream.feed("".join(f"\x1b[{y + 1};1Hrow {y}" for y in range(ROWS)))
    bold = Strip([Segment("x", Style.parse("bold red on blue"))])
    made: list[Piece] = [(0, 0, bold), ScrollUp(2, 5, 3), (4, 7, Strip([Segment("z")]))]
    stream.feed(encode_pieces(made, COLUMNS, ColorSystem.TRUECOLOR).text)
    assert [line.rstrip() for line in ours.display] == ["xow 0", "row 1", "row 5", "", "", "", "row 6", "row z"]
    assert {char.bg for y in range(3, 6) for char in ours.buffer[y].values()} <= {"default"}


def test_a_long_blank_costs_a_few_bytes() -> None:
    made: list[Piece] = [(0, 0, Strip([Segment("a" + " " * 30 + "b" + " " * 30)]))]
    assert len(encode_pieces(made, 80, ColorSystem.TRUECOLOR).text) < 24

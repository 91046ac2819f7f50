"""Encodes cells for the terminal in as few bytes as possible: a changed digit needs about ten.

Textual and Rich send both colours, default ones included, before each piece, and reset them afterwards. Here the SGR
state is kept until another style is needed, and the cursor moves by the shortest sequence.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from rich.color import ColorSystem
from rich.style import Style
from textual.strip import Strip


@dataclass(frozen=True, slots=True)
class ScrollUp:
    """Whole rows of the terminal that move up; those that become free are blank.

    Attributes:
        top, bottom: first and last row of the region.
        rows: by how many.
    """

    top: int
    bottom: int
    rows: int


Piece = tuple[int, int, Strip] | ScrollUp
"""Column and row of the first cell, and the cells; or rows that move."""

RESET = "\x1b[m"

_LONG_BLANK = re.compile(" {12,}")
"""Erasing so many cells and moving over them takes fewer bytes than blanks: ECH and CUF, at most ten."""


@dataclass(frozen=True, slots=True)
class AnsiWrite:
    """Encoded output.

    Attributes:
        text: to send.
        sgr: parameters of the SGR sequence in effect afterwards; empty for the default style.
    """

    text: str
    sgr: str


def encode_pieces(pieces: Iterable[Piece], columns: int, colours: ColorSystem, sgr: str = "") -> AnsiWrite:
    """Encodes pieces.

    Args:
        columns: width of the terminal.
        colours: what the terminal can show.
        sgr: parameters of the SGR sequence in effect.
    """
    output: list[str] = []
    cursor: tuple[int, int] | None = None
    for piece in pieces:
        if isinstance(piece, ScrollUp):
            output.append((RESET if sgr else "") + _scroll(piece))
            cursor, sgr = None, ""
            continue
        x, y, strip = piece
        output.append(_cursor_move(cursor, (x, y)))
        is_ascii, passed = True, 0
        for text, style, _ in strip:
            wanted = _sgr_parameters(style, colours) if style else ""
            if wanted != sgr:
                output.append(_sgr_change(sgr, wanted))
                sgr = wanted
            is_ascii = is_ascii and text.isascii()
            if passed:  # erased cells before this text
                output.append(f"\x1b[{passed}C")
            shown, passed = _erase_long_blanks(text) if not sgr else (text, 0)
            output.append(shown)
        # Terminals disagree on the width of other characters, and on the cursor after the last column.
        end = x + strip.cell_length - passed
        cursor = (end, y) if is_ascii and end < columns else None
    return AnsiWrite("".join(output), sgr)


def _erase_long_blanks(text: str) -> tuple[str, int]:
    """The text with long blanks in the default style erased, and the cells of the last one, if it ends the text."""
    *parts, last = _LONG_BLANK.split(text)
    blanks = [len(blank) for blank in _LONG_BLANK.findall(text)]
    passed = blanks[-1] if blanks and not last else 0
    output = "".join(
        f"{part}\x1b[{cells}X" + ("" if passed and at == len(blanks) - 1 else f"\x1b[{cells}C")
        for at, (part, cells) in enumerate(zip(parts, blanks, strict=True))
    )
    return output + last, passed


def _scroll(piece: ScrollUp) -> str:
    """Line feeds at the bottom of a scroll region: every terminal since the VT100 has them, but not all have SU."""
    return f"\x1b[{piece.top + 1};{piece.bottom + 1}r\x1b[{piece.bottom + 1};1H{piece.rows * chr(10)}\x1b[r"


def _sgr_change(sgr: str, wanted: str) -> str:
    if not wanted:
        return RESET
    return f"\x1b[0;{wanted}m" if sgr else f"\x1b[{wanted}m"


def _cursor_move(cursor: tuple[int, int] | None, target: tuple[int, int]) -> str:
    """The shortest move.

    Args:
        cursor: current position; None where it is unknown.
    """
    x, y = target
    absolute = f"\x1b[{y + 1};{x + 1}H"
    if cursor is None:
        return absolute
    across, down = x - cursor[0], y - cursor[1]
    relative = _axis_move(down, "B", "A") + ("\b" * -across if -3 <= across < 0 else _axis_move(across, "C", "D"))
    return relative if len(relative) < len(absolute) else absolute


def _axis_move(by: int, forwards: str, backwards: str) -> str:
    if not by:
        return ""
    return f"\x1b[{'' if abs(by) == 1 else abs(by)}{forwards if by > 0 else backwards}"


@lru_cache(maxsize=256)
def _sgr_parameters(style: Style, colours: ColorSystem) -> str:
    """SGR parameters of a style, relative to the default style: default colours need none."""
    colour, background = (one if one and not one.is_default else None for one in (style.color, style.bgcolor))
    drawn = (style.without_color + Style(color=colour, bgcolor=background)).render("x", color_system=colours)
    return drawn[2 : drawn.index("m")] if drawn.startswith("\x1b[") else ""

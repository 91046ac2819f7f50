"""Encodes cells for the terminal in as few bytes as possible: a changed digit needs about ten.

Textual and Rich send both colours, default ones included, before each piece, and reset them afterwards. Here the SGR
state is kept until another style is needed, and the cursor moves by the shortest sequence.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from rich.color import ColorSystem
from rich.style import Style
from textual.strip import Strip

Piece = tuple[int, int, Strip]
"""Column and row of the first cell, and the cells."""

RESET = "\x1b[m"


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
    for x, y, strip in pieces:
        output.append(_cursor_move(cursor, (x, y)))
        is_ascii = True
        for text, style, _ in strip:
            wanted = _sgr_parameters(style, colours) if style else ""
            if wanted != sgr:
                output.append(_sgr_change(sgr, wanted))
                sgr = wanted
            output.append(text)
            is_ascii = is_ascii and text.isascii()
        # Terminals disagree on the width of other characters, and on the cursor after the last column.
        end = x + strip.cell_length
        cursor = (end, y) if is_ascii and end < columns else None
    return AnsiWrite("".join(output), sgr)


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

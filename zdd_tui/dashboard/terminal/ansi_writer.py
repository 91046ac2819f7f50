"""Writes cells at places of a terminal in as few bytes as can be: a changed digit needs some ten.

Textual and Rich state both colours, the default ones too, before each piece and reset all of it behind. Here the pen
keeps its colours until another one is needed, and within one writing the cursor goes the shortest way.
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
    """What to send, and the pen that it leaves behind: the parameters of an SGR sequence, empty for none."""

    text: str
    sgr: str


def encode_pieces(pieces: Iterable[Piece], columns: int, colours: ColorSystem, sgr: str = "") -> AnsiWrite:
    """The shortest writing of pieces.

    Args:
        columns: of the terminal.
        colours: what the terminal can show.
        sgr: what the terminal's pen is now.
    """
    message: list[str] = []
    cursor: tuple[int, int] | None = None
    for x, y, strip in pieces:
        message.append(_cursor_move(cursor, (x, y)))
        known = True
        for text, style, _ in strip:
            wanted = _sgr_parameters(style, colours) if style else ""
            if wanted != sgr:
                message.append(_sgr_change(sgr, wanted))
                sgr = wanted
            message.append(text)
            known = known and text.isascii()
        # How wide another letter is, terminals do not agree on, nor on where the cursor is behind the last column.
        end = x + strip.cell_length
        cursor = (end, y) if known and end < columns else None
    return AnsiWrite("".join(message), sgr)


def _sgr_change(sgr: str, wanted: str) -> str:
    if not wanted:
        return RESET
    return f"\x1b[0;{wanted}m" if sgr else f"\x1b[{wanted}m"


def _cursor_move(cursor: tuple[int, int] | None, place: tuple[int, int]) -> str:
    """Moves the cursor."""
    x, y = place
    address = f"\x1b[{y + 1};{x + 1}H"
    if cursor is None:
        return address
    across, down = x - cursor[0], y - cursor[1]
    steps = _axis_move(down, "B", "A") + ("\b" * -across if -3 <= across < 0 else _axis_move(across, "C", "D"))
    return steps if len(steps) < len(address) else address


def _axis_move(by: int, forwards: str, backwards: str) -> str:
    if not by:
        return ""
    return f"\x1b[{'' if abs(by) == 1 else abs(by)}{forwards if by > 0 else backwards}"


@lru_cache(maxsize=256)
def _sgr_parameters(style: Style, colours: ColorSystem) -> str:
    """The parameters that draw a style with a pen that has none: the default colours are there already."""
    colour, ground = (one if one and not one.is_default else None for one in (style.color, style.bgcolor))
    drawn = (style.without_color + Style(color=colour, bgcolor=ground)).render("x", color_system=colours)
    return drawn[2 : drawn.index("m")] if drawn.startswith("\x1b[") else ""

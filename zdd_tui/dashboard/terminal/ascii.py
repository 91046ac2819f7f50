"""Replaces everything that is drawn with ASCII of the same width, so that no column moves.

Glyphs of one family stay different from each other: a state is recognisable by its glyph alone, as in Unicode.
"""

import unicodedata
from collections.abc import Mapping

from rich.cells import cell_len

_BRAILLE_START = 0x2800
_UPPER_DOTS, _MIDDLE_DOTS, _LOWER_DOTS = 0x09, 0x36, 0xC0
"""Bits of the dots in the highest row of a braille character, in the two rows below it, and in the lowest row."""


def _braille_to_ascii(dots: int) -> str:
    """Where the dots are: ``'`` high, ``-`` in the middle, ``.`` low, ``|`` from top to bottom."""
    upper, middle, lower = bool(dots & _UPPER_DOTS), bool(dots & _MIDDLE_DOTS), bool(dots & _LOWER_DOTS)
    if upper and lower:
        return "|"
    return "'" if upper else "." if lower else "-" if middle else " "


ASCII_REPLACEMENTS: Mapping[str, str] = {
    # lines of charts
    **{chr(_BRAILLE_START + dots): _braille_to_ascii(dots) for dots in range(256)},
    # verdicts and states: + pass or done, x fail, > running, @ waiting, = paused, < rolling back, { reverted, o pending
    **dict(zip("✔✗▶◆‖◀◁○", "+x>@=<{o", strict=True)),
    # pods and sides: * serving, % warming, o starting, v draining, V stopping, & standby
    **dict(zip("●◐▽▼◇■▲·", "*%vV&#^.", strict=True)),
    # glyphs that no verdict uses: cursor, sort direction, warnings
    **dict(zip("▸▹►◂◃◄▴▾△▷□◉◎★⚠✓✕↻↺", ">>><<<^v^>#@@*!+x@@", strict=True)),
    # history and progress
    **dict(zip("▁▂▃▄▅▆▇█░▒▓", "_.-:=+*#.:%", strict=True)),
    # frames: plain, in focus, stale
    **dict(zip("╭╮╰╯┌┐└┘─│├┤┬┴┼", "++++++++-|+++++", strict=True)),
    **dict(zip("┏┓┗┛━┃╍╏", "++++=|~:", strict=True)),
    **dict(zip("═║╔╗╚╝┄┆┈┊╌╎╴╶", "=|++++-:-:-:--", strict=True)),
    # scroll bars and thin edges
    **dict(zip("▔▕▏▎▍▌▋▊▉▐▀▖▗▘▝", "-||||######....", strict=True)),
    # text
    **dict(zip("…⋯’‘“”«»‹›→←↑↓↕↔×µ–—−•≤≥≈±Δ", "~~''\"\"<><>><^v|-xu---*<>~+D", strict=True)),
    "\u00a0": " ",
    # letters that Unicode does not decompose
    **dict(zip("ŁłØøĐđĦħıßÆæŒœÞþÐðŊŋ", "LlOoDdHhisAaOoPpDdNn", strict=True)),
}


class _AsciiTable(dict[int, str]):
    """A translation table that computes each entry at its first use."""

    def __missing__(self, code: int) -> str:
        replacement = self[code] = chr(code) if code < 128 else _to_ascii_cells(chr(code))
        return replacement


def _to_ascii_cells(char: str) -> str:
    """ASCII of the same width: the replacement, the letter without accent, or question marks."""
    cells = cell_len(char)
    if char in ASCII_REPLACEMENTS:
        return ASCII_REPLACEMENTS[char]
    base = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    return base if base.isprintable() and len(base) == cells else "?" * cells


_TABLE = _AsciiTable()


def to_ascii(text: str) -> str:
    """The text in ASCII, with the same width. ASCII text, escape sequences included, is unchanged."""
    return text if text.isascii() else text.translate(_TABLE)

"""Everything that is drawn, in ASCII: one sign for one cell, so that no column moves.

Signs of the same family stay different from each other: a state can be told by its sign alone, as it can in Unicode.
"""

import unicodedata
from collections.abc import Mapping

from rich.cells import cell_len

ASCII_REPLACEMENTS: Mapping[str, str] = {
    # verdicts and states: + pass or done, x fail, > running, @ waiting, = paused, < rolling back, { undone, o not begun
    **dict(zip("✔✗▶◆‖◀◁○", "+x>@=<{o", strict=True)),
    # pods and sides: * serving, % warming, o starting, v draining, V stopping, & warm
    **dict(zip("●◐▽▼◇■▲·", "*%vV&#^.", strict=True)),
    # marks that no verdict shares: the cursor, the way a column is sorted, warnings
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
    # letters of names that Unicode does not take apart
    **dict(zip("ŁłØøĐđĦħıßÆæŒœÞþÐðŊŋ", "LlOoDdHhisAaOoPpDdNn", strict=True)),
}


class _AsciiTable(dict[int, str]):
    """A translation that finds out about a character when it first meets it."""

    def __missing__(self, code: int) -> str:
        found = self[code] = chr(code) if code < 128 else _to_ascii_cells(chr(code))
        return found


def _to_ascii_cells(char: str) -> str:
    """As many cells as the character takes: its sign, its letter without accent, or question marks."""
    cells = cell_len(char)
    if char in ASCII_REPLACEMENTS:
        return ASCII_REPLACEMENTS[char]
    base = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    return base if base.isprintable() and len(base) == cells else "?" * cells


_TABLE = _AsciiTable()


def to_ascii(text: str) -> str:
    """The same text with the same width, in ASCII. What is ASCII already, escape sequences too, stays as it is."""
    return text if text.isascii() else text.translate(_TABLE)

"""The key that a click on a line of key hints stands for, such as ``p pause  R rollback  T V G more``."""

from rich.cells import cell_len

from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle
from zdd_tui.model.actions import KEY_NAMES

_TEXTUAL_NAMES = {shown: name for name, shown in KEY_NAMES.items()}


def clicked_key(line: Line, cell: int) -> str:
    """Textual's name of the key under a cell, or of the key whose text is there; empty where there is none.

    A text belongs to the only key before it; of several keys, such as ``T V G more``, each is clicked by itself.
    """
    start, names = 0, []
    for text, style in line:
        end = start + cell_len(text)
        if style is TextStyle.KEY:
            names = text.split()
            if start <= cell < end:
                return _key_at(text, cell - start)
        elif start <= cell < end:
            return _textual_name(names[0]) if len(names) == 1 and text[: cell - start + 1].strip() else ""
        start = end
    return ""


def _key_at(text: str, cell: int) -> str:
    at = 0
    for name in text.split(" "):
        if at <= cell < at + cell_len(name):
            return _textual_name(name)
        at += cell_len(name) + 1
    return ""


def _textual_name(shown: str) -> str:
    """Empty for what is not one key, such as ``1-6`` or ``n/N``."""
    name = _TEXTUAL_NAMES.get(shown, shown)
    return name if len(shown) == 1 or name in KEY_NAMES or "+" in name else ""

"""What a terminal shows, as lines of text."""

import html
import re
from collections import defaultdict
from typing import Any

from rich.cells import cell_len
from textual.app import App

_CELL = 12.2
_TEXT = re.compile(
    r'<text class="[^"]*-r\d+" x="([\d.]+)" y="([\d.]+)" textLength="[\d.]+"[^>]*>(.*?)</text>', re.DOTALL
)


def screen_text(app: App[Any]) -> str:
    """Read from the screenshot, because that is the public way to what is on the screen."""
    rows: dict[float, dict[int, str]] = defaultdict(dict)
    for x, y, text in _TEXT.findall(app.export_screenshot()):
        rows[float(y)][round(float(x) / _CELL)] = html.unescape(text).replace("\xa0", " ")
    lines = []
    for y in sorted(rows):
        line = ""
        for column, text in sorted(rows[y].items()):
            line += " " * (column - cell_len(line)) + text
        lines.append(line.rstrip())
    return "\n".join(lines) + "\n"

"""How tones look, in the colours of the theme.

Textual's own way, a component class for each tone, works out a dozen styles for each widget on the screen, at the first
paint and with each change of the focus: a tenth of the time to the first paint.
"""

from collections.abc import Mapping

from rich.style import Style
from textual.color import Color

from zdd_tui.dashboard.widgets.drawing.line import Tone

LOOKS: Mapping[Tone, tuple[str, str]] = {
    Tone.NORMAL: ("", ""),
    Tone.STRONG: ("", "bold"),
    Tone.DIM: ("foreground", "dim"),
    Tone.GOOD: ("success", ""),
    Tone.BAD: ("error", "bold"),
    Tone.WARN: ("warning", ""),
    Tone.BUSY: ("secondary", ""),
    Tone.ALARM: ("error", "bold reverse"),
    Tone.DONE: ("success", "bold reverse"),
    Tone.UNDONE: ("warning", "bold reverse"),
    Tone.FOUND: ("", "bold reverse"),
    Tone.KEY: ("secondary", "bold"),
}
"""Of each tone the theme's name of its colour, or none, and its attributes."""

ON_PLATE = dict(LOOKS) | {
    Tone.NORMAL: ("plate", ""),
    Tone.STRONG: ("plate", "bold"),
    Tone.DIM: ("plate", ""),
    Tone.GOOD: ("plate", ""),
    Tone.WARN: ("plate", "bold underline"),
    Tone.KEY: ("plate", "bold underline"),
    Tone.ALARM: ("plate", "bold reverse"),
}
"""The same on a coloured bar, where other colours could not be read: attributes tell them apart."""

_PLATE = "ansi_bright_white"


def tone_style(tone: Tone, variables: Mapping[str, str], *, on_plate: bool = False) -> Style:
    """The style of a tone; what it leaves open is the widget's own.

    Args:
        variables: the theme's colours by name.
    """
    name, attributes = (ON_PLATE if on_plate else LOOKS)[tone]
    colour = (_PLATE if name == "plate" else variables[name]) if name else ""
    style = Style.parse(attributes) if attributes else Style.null()
    return style + Style(color=Color.parse(colour).rich_color) if colour else style

"""How tones look, in the colours of the theme.

Textual's own way, a component class for each tone, works out a dozen styles for each widget on the screen, at the first
paint and with each change of the focus: a tenth of the time to the first paint.
"""

from collections.abc import Mapping

from rich.style import Style
from textual.color import Color

from zdd_tui.dashboard.widgets.drawing.line import TextStyle

STYLES: Mapping[TextStyle, tuple[str, str]] = {
    TextStyle.NORMAL: ("", ""),
    TextStyle.STRONG: ("", "bold"),
    TextStyle.DIM: ("foreground", "dim"),
    TextStyle.GOOD: ("success", ""),
    TextStyle.BAD: ("error", "bold"),
    TextStyle.WARN: ("warning", ""),
    TextStyle.RUNNING: ("secondary", ""),
    TextStyle.ALARM: ("error", "bold reverse"),
    TextStyle.DONE: ("success", "bold reverse"),
    TextStyle.ROLLED_BACK: ("warning", "bold reverse"),
    TextStyle.MATCH: ("", "bold reverse"),
    TextStyle.KEY: ("secondary", "bold"),
}
"""Of each tone the theme's name of its colour, or none, and its attributes."""

ON_BAR_STYLES = dict(STYLES) | {
    TextStyle.NORMAL: ("plate", ""),
    TextStyle.STRONG: ("plate", "bold"),
    TextStyle.DIM: ("plate", ""),
    TextStyle.GOOD: ("plate", ""),
    TextStyle.WARN: ("plate", "bold underline"),
    TextStyle.KEY: ("plate", "bold underline"),
    TextStyle.ALARM: ("plate", "bold reverse"),
}
"""The same on a coloured bar, where other colours could not be read: attributes tell them apart."""

_BAR_COLOUR = "ansi_bright_white"


def resolve_style(text_style: TextStyle, variables: Mapping[str, str], *, on_bar: bool = False) -> Style:
    """The style of a tone; what it leaves open is the widget's own.

    Args:
        variables: the theme's colours by name.
    """
    name, attributes = (ON_BAR_STYLES if on_bar else STYLES)[text_style]
    colour = (_BAR_COLOUR if name == "plate" else variables[name]) if name else ""
    style = Style.parse(attributes) if attributes else Style.null()
    return style + Style(color=Color.parse(colour).rich_color) if colour else style

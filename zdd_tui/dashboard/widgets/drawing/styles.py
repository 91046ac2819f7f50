"""The colours and attributes of text styles.

A Textual component class for each style would cost a tenth of the time to the first paint: Textual computes a dozen
styles for each widget, at the first paint and at each change of the focus.
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
"""Of each style the name of a theme colour, or an empty one, and the attributes."""

ON_BAR_STYLES = dict(STYLES) | {
    TextStyle.NORMAL: ("bar", ""),
    TextStyle.STRONG: ("bar", "bold"),
    TextStyle.DIM: ("bar", ""),
    TextStyle.GOOD: ("bar", ""),
    TextStyle.WARN: ("bar", "bold underline"),
    TextStyle.KEY: ("bar", "bold underline"),
    TextStyle.ALARM: ("bar", "bold reverse"),
}
"""The same on a coloured bar, where other colours are hard to read: attributes distinguish them."""

_BAR_COLOUR = "ansi_bright_white"


def resolve_style(text_style: TextStyle, variables: Mapping[str, str], *, on_bar: bool = False) -> Style:
    """The Rich style to apply over the widget's own.

    Args:
        variables: colours of the theme by name.
    """
    name, attributes = (ON_BAR_STYLES if on_bar else STYLES)[text_style]
    colour = (_BAR_COLOUR if name == "bar" else variables[name]) if name else ""
    style = Style.parse(attributes) if attributes else Style.null()
    return style + Style(color=Color.parse(colour).rich_color) if colour else style

"""The line in which a filter is typed, and the filter that is in force meanwhile."""

from collections.abc import Callable, Mapping, Sequence

from rich.cells import cell_len

from zdd_tui.widgets.filter import Filter, FilterError, parse_filter
from zdd_tui.widgets.line import Line, Tone, cut, cut_start, spread, width


class FilterLine:
    """What is typed filters at once; while it cannot be used, it says why, and the filter before it stays.

    Attributes:
        filter: the one in force.
        typed: what stands in the line; None while nobody types.
        problem: why it cannot be used, else empty.
    """

    def __init__(self) -> None:
        self.filter = Filter()
        self.typed: str | None = None
        self.problem = ""

    @property
    def there(self) -> bool:
        """The line is shown."""
        return self.typed is not None or bool(self.filter.text)

    def begin(self) -> None:
        self.typed = self.filter.text

    def leave(self) -> None:
        """Nobody types any more; the filter stays."""
        self.typed, self.problem = None, ""

    def clear(self) -> None:
        self.filter = Filter()
        self.leave()

    def key(self, name: str, character: str | None, columns: Sequence[str]) -> bool:
        """Takes a key while somebody types; False for one that is none of the line's.

        Args:
            columns: keys of the columns that can be searched.
        """
        if self.typed is None:
            return False
        edit = _EDITS.get(name)
        if name == "enter":
            self.leave()
        elif name == "escape":
            self.clear()
        elif edit is not None:
            self.write(edit(self.typed), columns)
        elif character is not None and character.isprintable():
            self.write(self.typed + character, columns)
        else:
            return False
        return True

    def write(self, text: str, columns: Sequence[str]) -> None:
        self.typed = text
        try:
            self.filter, self.problem = parse_filter(text, columns), ""
        except FilterError as error:
            self.problem = str(error)

    def line(self, shown: int, total: int, cells: int) -> Line:
        """``/state:drain  12 of 500``, with what is wrong before the count."""
        count: Line = ((f"{shown} of {total}", Tone.STRONG),)
        text, caret = (self.filter.text, "") if self.typed is None else (self.typed, "▏")
        room = cells - width(count) - 2
        if self.problem:
            room = min(cell_len(text) + 2, max(4, room // 2))
            problem = cut(f"✗ {self.problem}", max(4, cells - room - width(count) - 2))
            count = ((problem, Tone.BAD), (" ", Tone.NORMAL), *count)
        return spread((("/", Tone.KEY), (cut_start(text, max(1, room - 2)) + caret, Tone.STRONG)), count, cells)


_EDITS: Mapping[str, Callable[[str], str]] = {
    "backspace": lambda text: text[:-1],
    "ctrl+w": lambda text: " ".join(text.split()[:-1]),
    "ctrl+u": lambda text: "",
}

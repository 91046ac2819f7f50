"""What an operator types behind ``/``: which rows of a table stay in sight.

Terms are parted by blanks, and all of them must hold; quotes keep blanks. Upper and lower case are the same.

==================  =============================================================
``text``            some cell contains it
``col:regex``       the cell of that column matches; the column's name may be shortened
``label:k=v``       the label has that value; ``label:k!=v``, and ``label:k`` for any value
``!term``           not so
==================  =============================================================
"""

import difflib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, justify, line_width, truncate, truncate_start

MAX_LENGTH = 200
"""Of a filter, and of a cell that a pattern is held against: more is no help to anybody."""

_TOKENS = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_COLUMN = re.compile(r"[A-Za-z][A-Za-z ]*")
_NESTED_QUANTIFIER = re.compile(r"\([^)]*[+*}][^)]*\)[+*{]")
"""A repetition of a repetition can take longer than a release."""


class FilterError(ValueError):
    """A filter that cannot be used, and why, in one line."""


@dataclass(frozen=True, slots=True)
class FilterTerm:
    """One condition.

    Attributes:
        column: key of the column that it looks at; empty for all.
        pattern: where it looks at one column.
        label: name of a label, for a term that looks at labels.
        value: None where any value will do.
        is_inequality: the label must have another value, or be missing.
    """

    text: str = ""
    is_negated: bool = False
    column: str = ""
    pattern: re.Pattern[str] | None = None
    label: str = ""
    value: str | None = None
    is_inequality: bool = False

    def matches(self, cells: Mapping[str, str], labels: Mapping[str, str]) -> bool:
        """Whether a row stays.

        Args:
            cells: what the row says in each column that can be searched.
        """
        return self._contains(cells, labels) != self.is_negated

    def _contains(self, cells: Mapping[str, str], labels: Mapping[str, str]) -> bool:
        if self.label:
            found = labels.get(self.label)
            if self.value is None:
                return found is not None
            return (found is not None and found.lower() == self.value) != self.is_inequality
        if self.pattern is not None:
            return self.pattern.search(cells.get(self.column, "")[:MAX_LENGTH]) is not None
        return any(self.text in cell.lower() for cell in cells.values())


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter as it was typed, and what it means. The empty one keeps every row."""

    text: str = ""
    terms: tuple[FilterTerm, ...] = ()

    def matches(self, cells: Mapping[str, str], labels: Mapping[str, str]) -> bool:
        return all(term.matches(cells, labels) for term in self.terms)


def parse_filter(text: str, columns: Sequence[str]) -> Filter:
    """Reads a filter.

    Args:
        columns: keys of the columns that can be searched.

    Raises:
        FilterError: a pattern that is none, or a column that is not there.
    """
    if len(text) > MAX_LENGTH:
        raise FilterError(f"a filter has {MAX_LENGTH} characters at most")
    terms = (_parse_term(token, columns) for token in _TOKENS.findall(text))
    return Filter(text.strip(), tuple(term for term in terms if term is not None))


def _parse_term(token: str, columns: Sequence[str]) -> FilterTerm | None:
    """None for one that is not finished, such as ``!`` or ``state:``."""
    negated = token.startswith("!")
    body = token.removeprefix("!")
    plain = body.replace('"', "")
    name, colon, rest = plain.partition(":")
    if colon and not body.startswith('"') and _COLUMN.fullmatch(name):
        if name.lower() == "label":
            return _parse_label(rest, negated)
        column = _resolve_column(name.lower(), columns)
        return FilterTerm(is_negated=negated, column=column, pattern=_compile_pattern(rest)) if rest else None
    return FilterTerm(plain.lower(), negated) if plain else None


def _parse_label(text: str, negated: bool) -> FilterTerm | None:
    name, equals, value = text.partition("=")
    differs = bool(equals) and name.endswith("!")
    name = name.removesuffix("!") if differs else name
    if not name:
        return None
    return FilterTerm(is_negated=negated, label=name, value=value.lower() if equals else None, is_inequality=differs)


def _resolve_column(name: str, columns: Sequence[str]) -> str:
    found = [name] if name in columns else [column for column in columns if column.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise FilterError(f"“{name}” may be {' or '.join(found)}")
    near = difflib.get_close_matches(name, columns, 1)
    text = f"did you mean {near[0]}?" if near else f"there are {', '.join(columns)}"
    raise FilterError(f"no column “{name}”: {text} (in quotes it is text)")


def _compile_pattern(text: str) -> re.Pattern[str]:
    if _NESTED_QUANTIFIER.search(text):
        raise FilterError("a repetition of a repetition may take for ever")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a pattern may mean one day
            return re.compile(text, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        raise FilterError(f"pattern “{text}”: {error}") from None


# --- The line in which a filter is typed, and the filter that is in force meanwhile.


class FilterLine:
    """What is typed filters at once; while it cannot be used, it says why, and the filter before it stays.

    Attributes:
        filter: the one in force.
        typed: what stands in the line; None while nobody types.
        error: why it cannot be used, else empty.
    """

    def __init__(self) -> None:
        self.filter = Filter()
        self.typed: str | None = None
        self.error = ""

    @property
    def is_visible(self) -> bool:
        """The line is shown."""
        return self.typed is not None or bool(self.filter.text)

    def start_typing(self) -> None:
        self.typed = self.filter.text

    def stop_typing(self) -> None:
        """Nobody types any more; the filter stays."""
        self.typed, self.error = None, ""

    def clear(self) -> None:
        self.filter = Filter()
        self.stop_typing()

    def handle_key(self, name: str, character: str | None, columns: Sequence[str]) -> bool:
        """Takes a key while somebody types; False for one that is none of the line's.

        Args:
            columns: keys of the columns that can be searched.
        """
        if self.typed is None:
            return False
        edit = _EDITS.get(name)
        if name == "enter":
            self.stop_typing()
        elif name == "escape":
            self.clear()
        elif edit is not None:
            self.set_text(edit(self.typed), columns)
        elif character is not None and character.isprintable():
            self.set_text(self.typed + character, columns)
        else:
            return False
        return True

    def set_text(self, text: str, columns: Sequence[str]) -> None:
        self.typed = text
        try:
            self.filter, self.error = parse_filter(text, columns), ""
        except FilterError as error:
            self.error = str(error)

    def render(self, shown: int, total: int, cells: int) -> Line:
        """``/state:drain  12 of 500``, with what is wrong before the count."""
        count: Line = ((f"{shown} of {total}", TextStyle.STRONG),)
        text, caret = (self.filter.text, "") if self.typed is None else (self.typed, "▏")
        room = cells - line_width(count) - 2
        if self.error:
            room = min(cell_len(text) + 2, max(4, room // 2))
            problem = truncate(f"✗ {self.error}", max(4, cells - room - line_width(count) - 2))
            count = ((problem, TextStyle.BAD), (" ", TextStyle.NORMAL), *count)
        return justify(
            (("/", TextStyle.KEY), (truncate_start(text, max(1, room - 2)) + caret, TextStyle.STRONG)), count, cells
        )


_EDITS: Mapping[str, Callable[[str], str]] = {
    "backspace": lambda text: text[:-1],
    "ctrl+w": lambda text: " ".join(text.split()[:-1]),
    "ctrl+u": lambda text: "",
}

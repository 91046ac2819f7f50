"""The filter of a table, typed after ``/``.

Terms are separated by blanks, and a row must match all of them; quotes keep blanks. Case is ignored.

==================  =============================================================
``text``            some cell contains it
``col:regex``       the cell of that column matches; a unique prefix of the column's key will do
``label:k=v``       the label has that value; ``label:k!=v``, and ``label:k`` for any value
``!term``           the row does not match
==================  =============================================================
"""

import difflib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    TextStyle,
    justify,
    line_width,
    truncate,
    truncate_start,
)
from zdd_tui.dashboard.widgets.text_field import TextField

MAX_LENGTH = 200
"""Characters of a filter, and of a cell that a pattern is matched with."""

_TOKENS = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_COLUMN = re.compile(r"[A-Za-z][A-Za-z ]*")
_NESTED_QUANTIFIER = re.compile(r"\([^)]*[+*}][^)]*\)[+*{]")
"""A nested repetition can take exponential time."""


class FilterError(ValueError):
    """A filter cannot be parsed; the message is one line."""


@dataclass(frozen=True, slots=True)
class FilterTerm:
    """One condition.

    Attributes:
        column: key of the only column to search; empty for all.
        pattern: pattern for that column.
        label: name of the label to compare; empty for other terms.
        value: of the label; None for any.
        is_inequality: the label must differ from `value` or be missing.
    """

    text: str = ""
    is_negated: bool = False
    column: str = ""
    pattern: re.Pattern[str] | None = None
    label: str = ""
    value: str | None = None
    is_inequality: bool = False

    def matches(self, cells: Mapping[str, str], labels: Mapping[str, str]) -> bool:
        """Whether a row is kept.

        Args:
            cells: the row's text in each column that can be searched, by the column's key.
        """
        return self._contains(cells, labels) != self.is_negated

    def _contains(self, cells: Mapping[str, str], labels: Mapping[str, str]) -> bool:
        if self.label:
            value = labels.get(self.label)
            if self.value is None:
                return value is not None
            return (value is not None and value.lower() == self.value) != self.is_inequality
        if self.pattern is not None:
            return self.pattern.search(cells.get(self.column, "")[:MAX_LENGTH]) is not None
        return any(self.text in cell.lower() for cell in cells.values())


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter as typed, and its parsed terms. An empty filter keeps every row."""

    text: str = ""
    terms: tuple[FilterTerm, ...] = ()

    def matches(self, cells: Mapping[str, str], labels: Mapping[str, str]) -> bool:
        return all(term.matches(cells, labels) for term in self.terms)


def parse_filter(text: str, columns: Sequence[str]) -> Filter:
    """Parses a filter.

    Args:
        columns: keys of the columns that can be searched.

    Raises:
        FilterError: an invalid pattern, or an unknown or ambiguous column.
    """
    if len(text) > MAX_LENGTH:
        raise FilterError(f"a filter has at most {MAX_LENGTH} characters")
    terms = (_parse_term(token, columns) for token in _TOKENS.findall(text))
    return Filter(text.strip(), tuple(term for term in terms if term is not None))


def _parse_term(token: str, columns: Sequence[str]) -> FilterTerm | None:
    """None for an incomplete term, such as ``!`` or ``state:``."""
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
    matches = [name] if name in columns else [column for column in columns if column.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise FilterError(f"“{name}” is ambiguous: {' or '.join(matches)}")
    near = difflib.get_close_matches(name, columns, 1)
    text = f"did you mean {near[0]}?" if near else f"columns are {', '.join(columns)}"
    raise FilterError(f"no column “{name}”: {text} (quote it to search for text)")


def _compile_pattern(text: str) -> re.Pattern[str]:
    if _NESTED_QUANTIFIER.search(text):
        raise FilterError("a repetition of a repetition is not allowed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # FutureWarning about set operations
            return re.compile(text, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        raise FilterError(f"pattern “{text}”: {error}") from None


class FilterInput(TextField):
    """The text field of a table's filter; it lies over the filter line of its pane."""

    DEFAULT_CSS = """
    FilterInput { dock: top; margin: 0 0 0 2; display: none; }
    FilterInput > .input--cursor { text-style: reverse; }
    """

    def __init__(self) -> None:
        super().__init__(max_length=MAX_LENGTH, select_on_focus=False, compact=True)
        self.cursor_blink = False

    def open(self, text: str) -> None:
        """Shows the field with a text, the cursor at its end, and gives it the focus."""
        self.value = text
        self.action_end()
        self.display = True
        self.screen.set_focus(self)


class FilterLine:
    """The state of a table's filter. Typing filters at once; a text that cannot be parsed keeps the filter before it.

    Attributes:
        filter: the filter in effect.
        typed: the text in the field; None while the field is closed.
        error: why `typed` cannot be parsed, else empty.
        text_cells: width of the text in the line rendered last.
    """

    def __init__(self) -> None:
        self.filter = Filter()
        self.typed: str | None = None
        self.error = ""
        self.text_cells = 1

    @property
    def is_visible(self) -> bool:
        return self.typed is not None or bool(self.filter.text)

    def start_typing(self) -> None:
        self.typed = self.filter.text

    def stop_typing(self) -> None:
        """Closes the field and keeps the filter."""
        self.typed, self.error = None, ""

    def clear(self) -> None:
        self.filter = Filter()
        self.stop_typing()

    def set_text(self, text: str, columns: Sequence[str]) -> None:
        """Applies a text from the field.

        Args:
            columns: keys of the columns that can be searched.
        """
        self.typed = text
        try:
            self.filter, self.error = parse_filter(text, columns), ""
        except FilterError as error:
            self.error = str(error)

    def render(self, shown: int, total: int, cells: int) -> Line:
        """``/state:drain  12 of 500``, with the error before the count."""
        count: Line = ((f"{shown} of {total}", TextStyle.STRONG),)
        text = self.filter.text if self.typed is None else self.typed
        room = cells - line_width(count) - 2
        if self.error:
            room = min(cell_len(text) + 3, max(4, room // 2))
            problem = truncate(f"✗ {self.error}", max(4, cells - room - line_width(count) - 2))
            count = ((problem, TextStyle.BAD), (" ", TextStyle.NORMAL), *count)
        self.text_cells = max(1, room - 1)
        return justify((("/", TextStyle.KEY), (truncate_start(text, max(1, room - 2)), TextStyle.STRONG)), count, cells)

"""The rows of a table, in the order in which they are shown, and the cursor that is held on one of them.

No Textual, no drawing: what moves where, and nothing else.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

R = TypeVar("R")


class RowStore(Generic[R]):
    """Rows, sorted and filtered.

    Attributes:
        shown: the rows that the filter keeps, in order.
        total: rows with those that it hides.
        cursor_index: index of the cursor's row in `shown`; -1 without a cursor.
        cursor_identity: the identity of the cursor's row; empty without one.
        first_visible: index of the first row in sight.
        visible_rows: rows that are in sight at once.

    The cursor stands on a row, not on a place: sorting, new rows and gone rows move the place with the row. When its
    row goes, for good or behind the filter, the next one in the old order that is still there gets it, else the one
    before: so it never names a row that is not shown.
    """

    def __init__(self, identity: Callable[[R], str]) -> None:
        self._identity = identity
        self.shown: Sequence[R] = ()
        self.total = 0
        self.cursor_index = -1
        self.cursor_identity = ""
        self.first_visible = 0
        self.visible_rows = 1

    def update(
        self,
        rows: Sequence[R],
        *,
        keep: Callable[[R], bool] | None = None,
        key: Callable[[R], Any] | None = None,
        reverse: bool = False,
    ) -> None:
        """Takes new rows in their own order.

        Args:
            keep: the filter.
            key: what to sort by, stably; None leaves the order. Rows whose key is None come last either way.
        """
        self.total = len(rows)
        found = rows if keep is None else [row for row in rows if keep(row)]
        before, self.shown = self.shown, sort_rows(found, key, reverse=reverse)
        was = self.cursor_index
        if self.cursor_identity:
            self._locate_cursor(before)
        if (
            self.cursor_index >= 0
            and was >= 0
            and self.first_visible > 0
            and self.first_visible <= was < self.first_visible + self.visible_rows
        ):
            self.first_visible += self.cursor_index - was  # it stays where it is on the screen
        self._clamp()

    def resize(self, visible_rows: int) -> None:
        """As many rows are in sight as that."""
        self.visible_rows = max(1, visible_rows)
        self._clamp()

    def move_cursor(self, at: int) -> None:
        """Puts the cursor on a row, the nearest where there is none of that index, and brings it into sight."""
        if not self.shown:
            self.cursor_index, self.cursor_identity = -1, ""
            return
        self.cursor_index = min(max(0, at), len(self.shown) - 1)
        self.cursor_identity = self._identity(self.shown[self.cursor_index])
        self._scroll_to_cursor()

    def focus_cursor(self) -> None:
        """Somebody begins to look at the table: the cursor goes where it was, else on the first row in sight."""
        self.move_cursor(self.cursor_index if self.cursor_index >= 0 else self.first_visible)

    def scroll(self, rows: int) -> None:
        """Moves what is in sight, and leaves the cursor alone."""
        self.first_visible += rows
        self._clamp()

    @property
    def selected_row(self) -> R | None:
        """The cursor's row."""
        return self.shown[self.cursor_index] if 0 <= self.cursor_index < len(self.shown) else None

    def _locate_cursor(self, before: Sequence[R]) -> None:
        """Sets `at` for the new order."""
        shown, was = self.shown, self.cursor_index
        if was < len(shown) and self._identity(shown[was]) == self.cursor_identity:
            return
        places = {self._identity(row): place for place, row in enumerate(shown)}
        if self.cursor_identity in places:
            self.cursor_index = places[self.cursor_identity]
            return
        for at in (*range(was + 1, len(before)), *range(was - 1, -1, -1)):
            name = self._identity(before[at])
            if name in places:
                self.cursor_index, self.cursor_identity = places[name], name
                return
        self.cursor_index = -1
        self.move_cursor(min(was, len(shown) - 1))

    def _scroll_to_cursor(self) -> None:
        if self.cursor_index >= 0:
            self.first_visible = min(
                max(self.first_visible, self.cursor_index - self.visible_rows + 1), self.cursor_index
            )
        self._clamp()

    def _clamp(self) -> None:
        self.first_visible = max(0, min(self.first_visible, len(self.shown) - self.visible_rows))


def sort_rows(rows: Sequence[R], key: Callable[[R], Any] | None, *, reverse: bool = False) -> Sequence[R]:
    """Sorted stably, also backwards; rows whose key is None keep their order behind all others."""
    if key is None:
        return rows[::-1] if reverse else rows
    keyed = [(key(row), row) for row in rows]
    known = [pair for pair in keyed if pair[0] is not None]
    known.sort(key=lambda pair: pair[0], reverse=reverse)
    return [row for _, row in known] + [row for value, row in keyed if value is None]

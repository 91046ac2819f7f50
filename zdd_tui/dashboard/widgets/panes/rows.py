"""The rows of a table in their shown order, and the cursor. No Textual and no drawing."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

R = TypeVar("R")


class RowStore(Generic[R]):
    """Rows, sorted and filtered.

    Attributes:
        shown: the rows that pass the filter, in order.
        total: number of all rows.
        cursor_index: index of the cursor's row in `shown`; -1 without a cursor.
        cursor_identity: the identity of the cursor's row; empty without one.
        first_visible: index of the first visible row.
        visible_rows: number of rows that are visible at once.

    The cursor follows its row when rows are sorted, added or removed. When its row is removed or filtered out, it
    moves to the next remaining row of the old order, else to the previous one; so it is always on a shown row.
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
        """Replaces the rows, given in their default order.

        Args:
            keep: the filter.
            key: sort key; None keeps the order. The sort is stable, and rows whose key is None come last.
        """
        self.total = len(rows)
        kept = rows if keep is None else [row for row in rows if keep(row)]
        before, self.shown = self.shown, sort_rows(kept, key, reverse=reverse)
        was = self.cursor_index
        if self.cursor_identity:
            self._locate_cursor(before)
        if (
            self.cursor_index >= 0
            and was >= 0
            and self.first_visible > 0
            and self.first_visible <= was < self.first_visible + self.visible_rows
        ):
            self.first_visible += self.cursor_index - was  # the cursor keeps its place on screen
        self._clamp()

    def resize(self, visible_rows: int) -> None:
        self.visible_rows = max(1, visible_rows)
        self._clamp()

    def move_cursor(self, at: int) -> None:
        """Moves the cursor to an index, clamped to the rows, and scrolls to it."""
        if not self.shown:
            self.cursor_index, self.cursor_identity = -1, ""
            return
        self.cursor_index = min(max(0, at), len(self.shown) - 1)
        self.cursor_identity = self._identity(self.shown[self.cursor_index])
        self._scroll_to_cursor()

    def focus_cursor(self) -> None:
        """On focus: the cursor stays where it was, else it moves to the first visible row."""
        self.move_cursor(self.cursor_index if self.cursor_index >= 0 else self.first_visible)

    def scroll(self, rows: int) -> None:
        """Scrolls without moving the cursor."""
        self.first_visible += rows
        self._clamp()

    def show(self, row: R) -> None:
        """Scrolls to a row and the one after it, without moving the cursor; does nothing where it is filtered out."""
        name = self._identity(row)
        at = next((at for at, each in enumerate(self.shown) if self._identity(each) == name), None)
        if at is not None:
            self.first_visible = min(max(self.first_visible, at - max(0, self.visible_rows - 2)), at)
            self._clamp()

    @property
    def selected_row(self) -> R | None:
        """The row under the cursor."""
        return self.shown[self.cursor_index] if 0 <= self.cursor_index < len(self.shown) else None

    def _locate_cursor(self, before: Sequence[R]) -> None:
        """Sets the cursor's index for the new order."""
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
    """Sorts stably in both directions; rows whose key is None come last, in their order."""
    if key is None:
        return rows[::-1] if reverse else rows
    keyed = [(key(row), row) for row in rows]
    known = [pair for pair in keyed if pair[0] is not None]
    known.sort(key=lambda pair: pair[0], reverse=reverse)
    return [row for _, row in known] + [row for value, row in keyed if value is None]

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
        at: index of the cursor's row in `shown`; -1 without a cursor.
        cursor: the identity of the cursor's row; empty without one.
        top: index of the first row in sight.
        room: rows that are in sight at once.

    The cursor stands on a row, not on a place: sorting, new rows and gone rows move the place with the row. When its
    row goes, for good or behind the filter, the next one in the old order that is still there gets it, else the one
    before: so it never names a row that is not shown.
    """

    def __init__(self, identity: Callable[[R], str]) -> None:
        self._identity = identity
        self.shown: Sequence[R] = ()
        self.total = 0
        self.at = -1
        self.cursor = ""
        self.top = 0
        self.room = 1

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
        before, self.shown = self.shown, ordered(found, key, reverse=reverse)
        was = self.at
        if self.cursor:
            self._find(before)
        if self.at >= 0 and was >= 0 and self.top > 0 and self.top <= was < self.top + self.room:
            self.top += self.at - was  # it stays where it is on the screen
        self._clamp()

    def resize(self, room: int) -> None:
        """As many rows are in sight as that."""
        self.room = max(1, room)
        self._clamp()

    def point(self, at: int) -> None:
        """Puts the cursor on a row, the nearest where there is none of that index, and brings it into sight."""
        if not self.shown:
            self.at, self.cursor = -1, ""
            return
        self.at = min(max(0, at), len(self.shown) - 1)
        self.cursor = self._identity(self.shown[self.at])
        self._reveal()

    def enter(self) -> None:
        """Somebody begins to look at the table: the cursor goes where it was, else on the first row in sight."""
        self.point(self.at if self.at >= 0 else self.top)

    def scroll(self, rows: int) -> None:
        """Moves what is in sight, and leaves the cursor alone."""
        self.top += rows
        self._clamp()

    @property
    def row(self) -> R | None:
        """The cursor's row."""
        return self.shown[self.at] if 0 <= self.at < len(self.shown) else None

    def _find(self, before: Sequence[R]) -> None:
        """Sets `at` for the new order."""
        shown, was = self.shown, self.at
        if was < len(shown) and self._identity(shown[was]) == self.cursor:
            return
        places = {self._identity(row): place for place, row in enumerate(shown)}
        if self.cursor in places:
            self.at = places[self.cursor]
            return
        for at in (*range(was + 1, len(before)), *range(was - 1, -1, -1)):
            name = self._identity(before[at])
            if name in places:
                self.at, self.cursor = places[name], name
                return
        self.at = -1
        self.point(min(was, len(shown) - 1))

    def _reveal(self) -> None:
        if self.at >= 0:
            self.top = min(max(self.top, self.at - self.room + 1), self.at)
        self._clamp()

    def _clamp(self) -> None:
        self.top = max(0, min(self.top, len(self.shown) - self.room))


def ordered(rows: Sequence[R], key: Callable[[R], Any] | None, *, reverse: bool = False) -> Sequence[R]:
    """Sorted stably, also backwards; rows whose key is None keep their order behind all others."""
    if key is None:
        return rows[::-1] if reverse else rows
    keyed = [(key(row), row) for row in rows]
    known = [pair for pair in keyed if pair[0] is not None]
    known.sort(key=lambda pair: pair[0], reverse=reverse)
    return [row for _, row in known] + [row for value, row in keyed if value is None]

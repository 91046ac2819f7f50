"""The expected content of the rows that only one worker writes.

Bounded: a worker keeps at most ``MAX_OWN_ROWS`` rows of its own and changes at most ``MAX_CHANGED_ROWS`` seeded rows;
the content of all other seeded rows is computed from their ids.
"""

import random
from dataclasses import dataclass

from zdd_tui.demo.data import FIRST_NAMES, LAST_NAMES, seed_email, seed_name

MAX_OWN_ROWS = 60
MAX_CHANGED_ROWS = 400


@dataclass(frozen=True, slots=True)
class UserContent:
    """A row's content."""

    name: str
    email: str | None


class RowTracker:
    """The rows of worker ``number`` of ``workers``: those it created, and every ``workers``-th seeded row.

    Args:
        rows: number of seeded rows; with 0 none of them is read or changed.
    """

    def __init__(self, number: int, workers: int, rows: int, rng: random.Random) -> None:
        self._label = f"w{number}"  # in every name, so that names are unique among workers
        self._rng = rng
        self._rows: dict[int, UserContent | None] = {}
        self._own: list[int] = []
        self._changed: dict[int, UserContent | None] = {}
        self._uncertain: set[int] = set()
        self._seeded = range(number + 1, rows + 1, workers)
        self._names = 0

    @property
    def needs_more_rows(self) -> bool:
        return len(self._own) < MAX_OWN_ROWS

    @property
    def own_count(self) -> int:
        return len(self._own)

    @property
    def may_delete_seeded(self) -> bool:
        """Few seeded rows are deleted, so that a long run still reads rows that exist."""
        return sum(content is None for content in self._changed.values()) < MAX_CHANGED_ROWS // 8

    def pick_own(self) -> int | None:
        return self._rng.choice(self._own) if self._own else None

    def pick_seeded(self, *, to_change: bool) -> int | None:
        """A seeded row, in half of the cases one that was changed before; None where none is certain."""
        if not self._seeded:
            return None
        full = len(self._changed) >= MAX_CHANGED_ROWS
        if self._changed and ((to_change and full) or self._rng.random() < 0.5):
            row_id = self._rng.choice(list(self._changed)[-50:])
        else:
            row_id = self._rng.choice(self._seeded)
        return None if row_id in self._uncertain else row_id

    def expected(self, row_id: int) -> UserContent | None:
        """The row's content; None when it must not exist."""
        for known in (self._rows, self._changed):
            if row_id in known:
                return known[row_id]
        return UserContent(seed_name(row_id), seed_email(row_id))

    def record_created(self, row_id: int, content: UserContent) -> None:
        self._rows[row_id] = content
        self._own.append(row_id)

    def record_written(self, row_id: int, content: UserContent | None) -> None:
        """A confirmed change, or a confirmed deletion (None)."""
        if row_id not in self._rows:
            self._changed[row_id] = content
            return
        before, self._rows[row_id] = self._rows[row_id], content
        if content is None and (before is None or self._rng.random() < 0.7):
            # The others stay expected as deleted until they are deleted once more.
            self.mark_uncertain(row_id)

    def mark_uncertain(self, row_id: int) -> None:
        """The row's content is unknown: a request for it got no response, or a wrong result was counted already."""
        if row_id in self._rows:
            del self._rows[row_id]
            self._own.remove(row_id)
        else:
            self._changed.pop(row_id, None)
            self._uncertain.add(row_id)

    def new_content(self) -> UserContent:
        """A name by the sample's rule (words, single spaces): one to four words, in several scripts."""
        self._names += 1
        first = self._rng.choice(FIRST_NAMES)
        last = self._rng.choice(LAST_NAMES)
        name = f"{first} {last} {self._label}-{self._names}" if last else f"{first}-{self._label}-{self._names}"
        return UserContent(name, f"{self._label}.{self._names}@example.com")

"""What one worker knows about the rows that only it writes: exactly what every answer must say.

Bounded: a worker keeps at most ``OWN`` rows of its own and changes at most ``CHANGED`` seeded rows; the content of
all other seeded rows is computed from their ids.
"""

import random
from dataclasses import dataclass

from zdd_tui.demo.data import FIRST_NAMES, LAST_NAMES, seed_email, seed_name

OWN = 60
CHANGED = 400


@dataclass(frozen=True, slots=True)
class Expected:
    """A row's content."""

    name: str
    email: str | None


class Ledger:
    """Rows of worker ``number`` of ``workers``: those it created, and seeded ids that leave that rest.

    Args:
        rows: how many rows were seeded; 0 keeps away from them.
        label: stands in every name, so that names are unique among workers.
    """

    def __init__(self, number: int, workers: int, rows: int, dice: random.Random) -> None:
        self._label = f"w{number}"
        self._dice = dice
        self._rows: dict[int, Expected | None] = {}
        self._own: list[int] = []
        self._changed: dict[int, Expected | None] = {}
        self._doubtful: set[int] = set()
        self._seeded = range(number + 1, rows + 1, workers)
        self._names = 0

    @property
    def wants_more(self) -> bool:
        return len(self._own) < OWN

    @property
    def own(self) -> int:
        return len(self._own)

    @property
    def may_delete_seeded(self) -> bool:
        """Only a few of them, so that a long run does not end with reading nothing but deleted rows."""
        return sum(content is None for content in self._changed.values()) < CHANGED // 8

    def pick_own(self) -> int | None:
        return self._dice.choice(self._own) if self._own else None

    def pick_seeded(self, *, to_change: bool) -> int | None:
        """A seeded row, one of the few changed ones in half of the cases; None when there is none to be had."""
        if not self._seeded:
            return None
        full = len(self._changed) >= CHANGED
        if self._changed and ((to_change and full) or self._dice.random() < 0.5):
            row_id = self._dice.choice(list(self._changed)[-50:])
        else:
            row_id = self._dice.choice(self._seeded)
        return None if row_id in self._doubtful else row_id

    def expected(self, row_id: int) -> Expected | None:
        """What the row must hold; None when it must not exist."""
        if row_id in self._rows:
            return self._rows[row_id]
        if row_id in self._changed:
            return self._changed[row_id]
        return Expected(seed_name(row_id), seed_email(row_id))

    def created(self, row_id: int, content: Expected) -> None:
        self._rows[row_id] = content
        self._own.append(row_id)

    def wrote(self, row_id: int, content: Expected | None) -> None:
        """A confirmed change, or a confirmed deletion (None)."""
        if row_id not in self._rows:
            self._changed[row_id] = content
            return
        before, self._rows[row_id] = self._rows[row_id], content
        if content is None and (before is None or self._dice.random() < 0.7):
            # The others stay known until they are deleted once more, to see that they stay away.
            self.forget(row_id)

    def forget(self, row_id: int) -> None:
        """The row's content is in doubt: a request for it got no answer, or a wrong one was reported already."""
        if row_id in self._rows:
            del self._rows[row_id]
            self._own.remove(row_id)
        else:
            self._changed.pop(row_id, None)
            self._doubtful.add(row_id)

    def new_content(self) -> Expected:
        """A name that obeys the sample's rule (words, single spaces): of one word to four, in many scripts."""
        self._names += 1
        first = self._dice.choice(FIRST_NAMES)
        last = self._dice.choice(LAST_NAMES)
        name = f"{first} {last} {self._label}-{self._names}" if last else f"{first}-{self._label}-{self._names}"
        return Expected(name, f"{self._label}.{self._names}@example.com")

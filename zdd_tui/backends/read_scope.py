"""How old the data are that a verdict rests on: what reads from a cache reports its age to the verdict's scope."""

import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class ReadScope:
    """What was read for one verdict.

    Attributes:
        fresh: nothing is read from a cache.
        age: seconds; the greatest age of what was read.
        max_age: seconds; some of it is renewed so rarely that a lower limit of its age would say nothing.
    """

    fresh: bool = False
    age: float = 0.0
    max_age: float = 0.0


_SCOPE: ContextVar[ReadScope | None] = ContextVar("zdd_read_scope", default=None)


@contextmanager
def read_scope(*, fresh: bool = False) -> Iterator[ReadScope]:
    """Everything that the present task reads in this block is fresh, or its age is reported."""
    scope = ReadScope(fresh)
    token = _SCOPE.set(scope)
    try:
        yield scope
    finally:
        _SCOPE.reset(token)


def requires_fresh() -> bool:
    """Whether the present task must not read from a cache."""
    scope = _SCOPE.get()
    return scope is not None and scope.fresh


def report_age(age: float, max_age: float = 0.0) -> None:
    """Says how old something is that was read.

    Args:
        age: seconds.
        max_age: seconds after which it is too old; 0 for the limit of the verdict itself.
    """
    scope = _SCOPE.get()
    if scope is not None:
        scope.age = max(scope.age, age)
        scope.max_age = max(scope.max_age, max_age)


@dataclass(slots=True)
class CachedReading(Generic[T]):
    """What costs the server too much to be read for each verdict; read again when it is due, or where a verdict must be
    fresh.

    Attributes:
        key: what the value is about; empty before the first reading.
        read_at, due_at: of the reading and of the next one; seconds of the monotonic clock.
    """

    value: T | None = None
    key: Hashable = ()
    read_at: float = 0.0
    due_at: float = 0.0

    def get(self, key: Hashable, max_age: float) -> T | None:
        """The value with its age reported; None where it must be read.

        Args:
            max_age: seconds, as of :func:`report_age`.
        """
        now = time.monotonic()
        if requires_fresh() or key != self.key or now >= self.due_at:
            return None
        report_age(now - self.read_at, max_age)
        return self.value

    def put(self, key: Hashable, value: T, began_at: float, seconds: float) -> None:
        """Keeps a value.

        Args:
            began_at: when its reading began; seconds of the monotonic clock.
            seconds: from now, where the reading has ended, to the next one.
        """
        self.value, self.key, self.read_at, self.due_at = value, key, began_at, time.monotonic() + seconds

    def expire(self) -> None:
        """Makes the next reading due now."""
        self.due_at = 0.0

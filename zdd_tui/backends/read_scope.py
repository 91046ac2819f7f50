"""How old the data are that a verdict rests on: what reads from a cache reports its age to the verdict's scope."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


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

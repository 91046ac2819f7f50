"""A user, the interface of every version's storage, and the rule between a full name and its two parts."""

from dataclasses import asdict, dataclass
from typing import Any, Protocol

Connection = Any
"""An asyncpg connection (asyncpg is not typed)."""


@dataclass(frozen=True, slots=True)
class User:
    id: int
    name: str
    email: str | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class UserStore(Protocol):
    """The storage of one version. Writes run in a transaction of the caller."""

    async def create(self, connection: Connection, name: str, email: str | None) -> User: ...

    async def get(self, connection: Connection, user_id: int) -> User | None: ...

    async def update(self, connection: Connection, user_id: int, name: str | None, email: str | None) -> User | None:
        """Sets what is not None; returns the row as written, None when there is no such user."""
        ...

    async def delete(self, connection: Connection, user_id: int) -> bool: ...


def split_full_name(name: str) -> tuple[str, str]:
    """First name: up to the first space. Last name: the rest. The same rule as the plan's ``down``."""
    first, _, last = name.partition(" ")
    return first, last


def join_full_name(first: str, last: str) -> str:
    """The same rule as the plan's ``up``."""
    return f"{first} {last}" if last else first


def is_valid_name(value: object) -> bool:
    """Whether a name is unchanged after a split and a join: words with single spaces between, and no NUL."""
    return isinstance(value, str) and value != "" and "\0" not in value and "" not in value.split(" ")

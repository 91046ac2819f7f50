"""A user, and its storage on the old and on the new side.

Version 1 has only the old side, version 3 only the new one. Every statement names its columns: the first ALTER TABLE
would change the result of ``SELECT *``.
"""

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


def old_user(row: Any) -> User | None:
    return None if row is None else User(row["id"], join_full_name(row["first_name"], row["last_name"]), row["email"])


def new_user(row: Any) -> User | None:
    return None if row is None else User(row["id"], row["full_name"], row["email"])


class OldUsers:
    """First and last name in ``users``, without any code for the release."""

    INSERT = """
    INSERT INTO public.users (first_name, last_name, email) VALUES ($1, $2, $3)
    RETURNING id, first_name, last_name, email"""
    SELECT = "SELECT id, first_name, last_name, email FROM public.users WHERE id = $1"
    UPDATE = """
    UPDATE public.users SET first_name = coalesce($2, first_name), last_name = coalesce($3, last_name),
      email = coalesce($4, email), updated_at = now()
    WHERE id = $1
    RETURNING id, first_name, last_name, email"""
    DELETE = "DELETE FROM public.users WHERE id = $1 RETURNING id"
    STORE = """
    INSERT INTO public.users (id, first_name, last_name, email) VALUES ($1, $2, $3, $4)
    ON CONFLICT (id) DO UPDATE SET first_name = excluded.first_name, last_name = excluded.last_name,
      email = excluded.email, updated_at = now()"""

    async def create(self, connection: Connection, name: str, email: str | None) -> User:
        user = old_user(await connection.fetchrow(self.INSERT, *split_full_name(name), email))
        assert user is not None
        return user

    async def get(self, connection: Connection, user_id: int) -> User | None:
        return old_user(await connection.fetchrow(self.SELECT, user_id))

    async def update(self, connection: Connection, user_id: int, name: str | None, email: str | None) -> User | None:
        parts = (None, None) if name is None else split_full_name(name)
        return old_user(await connection.fetchrow(self.UPDATE, user_id, *parts, email))

    async def store(self, connection: Connection, user: User) -> None:
        """Inserts or replaces a whole row."""
        await connection.execute(self.STORE, user.id, *split_full_name(user.name), user.email)

    async def delete(self, connection: Connection, user_id: int) -> bool:
        return await connection.fetchval(self.DELETE, user_id) is not None


class NewColumnUsers:
    """The full name in ``users.full_name``. The SQL does not name the old columns."""

    INSERT = "INSERT INTO public.users (full_name, email) VALUES ($1, $2) RETURNING id, full_name, email"
    SELECT = "SELECT id, full_name, email FROM public.users WHERE id = $1"
    UPDATE = """
    UPDATE public.users SET full_name = coalesce($2, full_name), email = coalesce($3, email), updated_at = now()
    WHERE id = $1
    RETURNING id, full_name, email"""
    DELETE = "DELETE FROM public.users WHERE id = $1 RETURNING id"

    async def create(self, connection: Connection, name: str, email: str | None) -> User:
        user = new_user(await connection.fetchrow(self.INSERT, name, email))
        assert user is not None
        return user

    async def get(self, connection: Connection, user_id: int) -> User | None:
        return new_user(await connection.fetchrow(self.SELECT, user_id))

    async def update(self, connection: Connection, user_id: int, name: str | None, email: str | None) -> User | None:
        return new_user(await connection.fetchrow(self.UPDATE, user_id, name, email))

    async def delete(self, connection: Connection, user_id: int) -> bool:
        return await connection.fetchval(self.DELETE, user_id) is not None


class NewTableUsers(NewColumnUsers):
    """The full name in ``people``. Every change is an upsert (see UPDATE)."""

    INSERT = "INSERT INTO public.people (full_name, email) VALUES ($1, $2) RETURNING id, full_name, email"
    SELECT = "SELECT id, full_name, email FROM public.people WHERE id = $1"
    # An upsert although the row exists: a release's triggers then lock the old row before the new one, in the order
    # of version 2. The SELECT only checks that the row exists.
    UPDATE = """
    INSERT INTO public.people AS p (id, full_name, email)
      SELECT id, coalesce($2, full_name), coalesce($3, email) FROM public.people WHERE id = $1
    ON CONFLICT (id) DO UPDATE SET full_name = coalesce($2, p.full_name), email = coalesce($3, p.email)
    RETURNING p.id, p.full_name, p.email"""
    DELETE = "DELETE FROM public.people WHERE id = $1 RETURNING id"
    STORE = """
    INSERT INTO public.people (id, full_name, email) VALUES ($1, $2, $3)
    ON CONFLICT (id) DO UPDATE SET full_name = excluded.full_name, email = excluded.email"""

    async def store(self, connection: Connection, user: User) -> None:
        """Inserts or replaces a whole row: the backfill may have copied it or not."""
        await connection.execute(self.STORE, user.id, user.name, user.email)

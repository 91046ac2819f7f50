"""Version 1: first and last name in ``users``, without any code for the release.

Every statement names its columns: the first ALTER TABLE would change the result of ``SELECT *``.
"""

from typing import Any

from zdd_tui.demo.sample.users import Connection, User, join_full_name, split_full_name

INSERT = """
INSERT INTO public.users (first_name, last_name, email) VALUES ($1, $2, $3)
RETURNING id, first_name, last_name, email"""
SELECT = "SELECT id, first_name, last_name, email FROM public.users WHERE id = $1"
UPDATE = """
UPDATE public.users SET first_name = coalesce($2, first_name), last_name = coalesce($3, last_name),
  email = coalesce($4, email), updated_at = now()
WHERE id = $1
RETURNING id, first_name, last_name, email"""
STORE = """
INSERT INTO public.users (id, first_name, last_name, email) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET first_name = excluded.first_name, last_name = excluded.last_name,
  email = excluded.email, updated_at = now()"""
DELETE = "DELETE FROM public.users WHERE id = $1 RETURNING id"


def old_user(row: Any) -> User | None:
    return None if row is None else User(row["id"], join_full_name(row["first_name"], row["last_name"]), row["email"])


class OldUsers:
    """Only the old side."""

    async def create(self, connection: Connection, name: str, email: str | None) -> User:
        user = old_user(await connection.fetchrow(INSERT, *split_full_name(name), email))
        assert user is not None
        return user

    async def get(self, connection: Connection, user_id: int) -> User | None:
        return old_user(await connection.fetchrow(SELECT, user_id))

    async def update(self, connection: Connection, user_id: int, name: str | None, email: str | None) -> User | None:
        parts = (None, None) if name is None else split_full_name(name)
        return old_user(await connection.fetchrow(UPDATE, user_id, *parts, email))

    async def store(self, connection: Connection, user: User) -> None:
        """Inserts or replaces a whole row."""
        await connection.execute(STORE, user.id, *split_full_name(user.name), user.email)

    async def delete(self, connection: Connection, user_id: int) -> bool:
        return await connection.fetchval(DELETE, user_id) is not None

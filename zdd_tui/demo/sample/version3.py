"""Version 3: the full name, in ``users.full_name`` or in ``people``. Its SQL does not name the old columns."""

from typing import Any

from zdd_tui.demo.sample.users import Connection, User


def new_user(row: Any) -> User | None:
    return None if row is None else User(row["id"], row["full_name"], row["email"])


class NewColumnUsers:
    """``users.full_name``."""

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
    """``people``. Every change is an upsert (see UPDATE)."""

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

"""Version 2: both sides, by flags. One class for each way to keep the new side equal to the old one.

Where the read flag is on, the new side is authoritative, because pods of version 3 may already write only that one.
"""

from dataclasses import dataclass
from typing import ClassVar

from zdd_tui.demo.sample.users import (
    Connection,
    NewColumnUsers,
    NewTableUsers,
    OldUsers,
    User,
    new_user,
    old_user,
    split_full_name,
)
from zdd_tui.service.dual_write import DualWrite

NEXT_ID = "SELECT nextval(pg_get_serial_sequence('public.users', 'id'))"
"""The flags decide by id, so a new user needs its id before the first write."""


@dataclass(frozen=True, slots=True)
class _DualUsers:
    """What all of them have in common."""

    dual_write: DualWrite
    new: NewColumnUsers
    old: ClassVar = OldUsers()

    async def get(self, connection: Connection, user_id: int) -> User | None:
        side = self.new if self.dual_write.decide(user_id).read_new else self.old
        return await side.get(connection, user_id)

    async def delete(self, connection: Connection, user_id: int) -> bool:
        return await self.old.delete(connection, user_id)


class ColumnDualUsers(_DualUsers):
    """The application writes ``full_name`` and the old columns in the same statement.

    Every change makes both sides of the row equal, even a change of only the e-mail address: they can differ because
    a pod that had not read the write flag yet wrote the row last, and the gate checks it before any backfill does.
    """

    INSERT = """
    INSERT INTO public.users (id, first_name, last_name, full_name, email) VALUES ($1, $2, $3, $4, $5)
    RETURNING id, first_name, last_name, full_name, email"""
    INSERT_OLD = """
    INSERT INTO public.users (id, first_name, last_name, email) VALUES ($1, $2, $3, $4)
    RETURNING id, first_name, last_name, email"""
    UPDATE_BY_OLD = """
    UPDATE public.users SET first_name = coalesce($2, first_name), last_name = coalesce($3, last_name),
      full_name = coalesce($2, first_name)
        || CASE WHEN coalesce($3, last_name) = '' THEN '' ELSE ' ' || coalesce($3, last_name) END,
      email = coalesce($4, email), updated_at = now()
    WHERE id = $1
    RETURNING id, first_name, last_name, email"""
    UPDATE_BY_NEW = """
    UPDATE public.users SET full_name = coalesce($2, full_name),
      first_name = split_part(coalesce($2, full_name), ' ', 1),
      last_name = substr(coalesce($2, full_name), length(split_part(coalesce($2, full_name), ' ', 1)) + 2),
      email = coalesce($3, email), updated_at = now()
    WHERE id = $1
    RETURNING id, full_name, email"""

    async def create(self, connection: Connection, name: str, email: str | None) -> User:
        user_id = await connection.fetchval(NEXT_ID)
        sides = self.dual_write.decide(user_id)
        first, last = split_full_name(name)
        if sides.write_new:
            row = await connection.fetchrow(self.INSERT, user_id, first, last, name, email)
        else:
            row = await connection.fetchrow(self.INSERT_OLD, user_id, first, last, email)
        user = new_user(row) if sides.read_new else old_user(row)
        assert user is not None
        return user

    async def update(self, connection: Connection, user_id: int, name: str | None, email: str | None) -> User | None:
        sides = self.dual_write.decide(user_id)
        if not sides.write_new:
            return await self.old.update(connection, user_id, name, email)
        if sides.read_new:
            return new_user(await connection.fetchrow(self.UPDATE_BY_NEW, user_id, name, email))
        first, last = (None, None) if name is None else split_full_name(name)
        return old_user(await connection.fetchrow(self.UPDATE_BY_OLD, user_id, first, last, email))


class TableDualUsers(_DualUsers):
    """The application writes ``people`` and ``users`` in the same transaction."""

    new: NewTableUsers

    async def create(self, connection: Connection, name: str, email: str | None) -> User:
        user = User(await connection.fetchval(NEXT_ID), name, email)
        await self.old.store(connection, user)
        if self.dual_write.decide(user.id).write_new:
            await self.new.store(connection, user)
        return user

    async def update(self, connection: Connection, user_id: int, name: str | None, email: str | None) -> User | None:
        async def write(side: OldUsers | NewTableUsers, source: User | None) -> User | None:
            if source is None:
                return await side.update(connection, user_id, name, email)
            await side.store(connection, source)
            return source

        return await self.dual_write.decide(user_id).write(
            old=lambda source: write(self.old, source), new=lambda source: write(self.new, source)
        )

    async def delete(self, connection: Connection, user_id: int) -> bool:
        sides = self.dual_write.decide(user_id)
        old_existed = await self.old.delete(connection, user_id)
        if not sides.write_new:
            return old_existed
        new_existed = await self.new.delete(connection, user_id)
        return new_existed if sides.read_new else old_existed


class TriggerUsers(_DualUsers):
    """The application writes only the old side; a trigger in the database copies each write to the new one."""

    async def create(self, connection: Connection, name: str, email: str | None) -> User:
        return await self._as_read(connection, await self.old.create(connection, name, email))

    async def update(self, connection: Connection, user_id: int, name: str | None, email: str | None) -> User | None:
        user = await self.old.update(connection, user_id, name, email)
        return None if user is None else await self._as_read(connection, user)

    async def _as_read(self, connection: Connection, user: User) -> User:
        """The user as readers see it. Where the trigger is missing the write fails: "not found" would be untrue, since
        the old side would keep it."""
        if not self.dual_write.decide(user.id).read_new:
            return user
        written = await self.new.get(connection, user.id)
        assert written is not None, "the trigger has not copied this row to the new side"
        return written

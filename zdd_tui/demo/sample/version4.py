"""Versions 4 and 5: a dark launch. The name is put together by the database instead of by us.

Version 5 is the same with the mistake that somebody who "only tidies up" makes: it capitalises every word, which is
wrong for people like van der Berg.
"""

from zdd_tui.demo.sample.database import Database
from zdd_tui.demo.sample.users import Connection, User
from zdd_tui.demo.sample.version1 import OldUsers
from zdd_tui.demo.sample.version3 import new_user
from zdd_tui.service.flags import FlagClient
from zdd_tui.service.shadow import Shadow

PATH = "users_name"
NAME = "first_name || CASE WHEN last_name = '' THEN '' ELSE ' ' || last_name END"
SELECT = f"SELECT id, {NAME} AS full_name, email FROM public.users WHERE id = $1"  # noqa: S608  constants
SELECT_WRONG = f"SELECT id, initcap({NAME}) AS full_name, email FROM public.users WHERE id = $1"  # noqa: S608


class SqlNameUsers:
    """The new path: reads alone."""

    def __init__(self, *, mistaken: bool) -> None:
        self._statement = SELECT_WRONG if mistaken else SELECT

    async def get(self, connection: Connection, user_id: int) -> User | None:
        return new_user(await connection.fetchrow(self._statement, user_id))


class ShadowedReads:
    """Reads by the old path, the new one, or both, as the flags say. Each uses a connection of its own."""

    def __init__(
        self, flags: FlagClient, database: Database, *, shadow_flag: str, dark_flag: str, mistaken: bool
    ) -> None:
        # Real names would not be shown; these are made up.
        self.shadow: Shadow[User | None] = Shadow(
            PATH, flags, shadow_key=shadow_flag, read_key=dark_flag, show=["name"]
        )
        self._database = database
        self._old = OldUsers()
        self._new = SqlNameUsers(mistaken=mistaken)

    async def get(self, user_id: int) -> User | None:
        return await self.shadow.run(
            user_id,
            old=lambda: self._database.read(lambda connection: self._old.get(connection, user_id)),
            new=lambda: self._database.read(lambda connection: self._new.get(connection, user_id)),
        )

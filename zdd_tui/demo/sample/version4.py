"""Versions 4 and 5: a dark launch. The database joins the name instead of the application.

Version 5 has a bug: it capitalises every word, which is wrong for names like van der Berg.
"""

from zdd_tui.demo.sample.database import ConnectionPool
from zdd_tui.demo.sample.settings import Settings
from zdd_tui.demo.sample.users import Connection, OldUsers, User, new_user
from zdd_tui.service.flags import FlagClient
from zdd_tui.service.shadow import ShadowComparison

SHADOW_PATH = "users_name"
NAME_SQL = "first_name || CASE WHEN last_name = '' THEN '' ELSE ' ' || last_name END"
SELECT_BY_SQL_NAME = f"SELECT id, {NAME_SQL} AS full_name, email FROM public.users WHERE id = $1"  # noqa: S608  constants
SELECT_WRONG = f"SELECT id, initcap({NAME_SQL}) AS full_name, email FROM public.users WHERE id = $1"  # noqa: S608


class ShadowedReads:
    """Reads by the old path, the new one, or both, by the flags. Each uses a connection of its own."""

    def __init__(self, flags: FlagClient, database: ConnectionPool, settings: Settings) -> None:
        # Only synthetic names may be shown.
        self.shadow: ShadowComparison[User | None] = ShadowComparison(
            SHADOW_PATH,
            flags,
            shadow_key=settings.shadow_flag,
            read_key=settings.dark_flag,
            visible_fields=["name"],
        )
        self._database = database
        self._old = OldUsers()
        self._new_select = SELECT_WRONG if settings.version == 5 else SELECT_BY_SQL_NAME

    async def get(self, user_id: int) -> User | None:
        return await self.shadow.run(
            user_id,
            old=lambda: self._database.read(lambda connection: self._old.get(connection, user_id)),
            new=lambda: self._database.read(lambda connection: self._get_by_sql_name(connection, user_id)),
        )

    async def _get_by_sql_name(self, connection: Connection, user_id: int) -> User | None:
        return new_user(await connection.fetchrow(self._new_select, user_id))

"""Proves that our role sees every row of a table. Row security filters silently: a backfill would copy only what the
policies show, and every comparison would agree."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.sql import quote_identifier, quote_qualified

WITH_DESCENDANTS = """family (oid) AS (
    SELECT to_regclass(root)::oid FROM unnest({roots}::text[]) AS root
    UNION SELECT i.inhrelid FROM pg_inherits i JOIN family ON family.oid = i.inhparent)"""
"""A CTE, for WITH RECURSIVE: the tables of the parameter {roots}, with their partitions and children."""

_TABLES = f"""
WITH RECURSIVE {WITH_DESCENDANTS.format(roots="$1")}
SELECT n.nspname AS schema, c.relname AS name, c.relforcerowsecurity AS forced,
       pg_has_role(c.relowner, 'USAGE') AS owned, pg_get_userbyid(c.relowner) AS owner,
       (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) AS policies, current_user::text AS role,
       row_security_active(c.oid) AS active
FROM family JOIN pg_class c ON c.oid = family.oid JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid), 1, 2
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class HiddenRows:
    """A table of which row security may hide rows from our role.

    Attributes:
        table: with its schema, for messages.
        forced: row security also applies to the owner.
        owned: our role owns the table, or is a member of its owner.
    """

    table: str
    role: str
    owner: str
    forced: bool
    owned: bool
    policies: int

    def __str__(self) -> str:
        policies = f"{self.policies} polic{'y' if self.policies == 1 else 'ies'}"
        forced = ", FORCE" if self.forced else ""
        return f"role {self.role} may not see every row of {self.table}: row security ({policies}{forced})"

    @property
    def hint(self) -> str:
        role, owner = quote_identifier(self.role), quote_identifier(self.owner)
        if not self.owned:
            return f"GRANT {owner} TO {role}, or as a superuser: ALTER ROLE {role} BYPASSRLS"
        return (
            f"as a superuser: ALTER ROLE {role} BYPASSRLS; where the application uses that role too: CREATE ROLE"
            f" zdd_agent LOGIN BYPASSRLS IN ROLE {owner}, and zdd_agent in database.dsn"
        )


async def find_hidden_rows(conn: Connection, tables: Sequence[str]) -> list[HiddenRows]:
    """Returns the tables, their partitions and children included, whose rows our role may not all see.

    The server decides twice: by ``row_security_active``, and by refusing to read with ``row_security = off``. A table
    that does not exist hides nothing.

    Args:
        tables: quoted and qualified.
    """
    hidden = []
    for row in await conn.fetch(_TABLES, tables):
        name = quote_qualified(row["schema"], row["name"])
        if row["active"] or await _is_refused(conn, name):
            hidden.append(
                HiddenRows(
                    f"{row['schema']}.{row['name']}",
                    row["role"],
                    row["owner"],
                    row["forced"],
                    row["owned"],
                    row["policies"],
                )
            )
    return hidden


async def require_all_rows_visible(conn: Connection, tables: Sequence[str]) -> None:
    """Checks tables, as the standing condition does all the time.

    Args:
        tables: quoted and qualified.

    Raises:
        DatabaseError: the role may not see every row of one.
    """
    if hidden := await find_hidden_rows(conn, tables):
        raise DatabaseError(str(hidden[0]), hidden[0].hint)


async def count_blocks(conn: Connection, table: str) -> int:
    """Returns the blocks of a table's files, partitions included; 0 for a table without a file.

    Args:
        table: quoted and qualified.
    """
    return int(
        await conn.fetchval(
            "SELECT coalesce(sum(pg_relation_size(relid)), 0)::bigint / current_setting('block_size')::bigint"
            " FROM (SELECT to_regclass($1)::oid AS relid UNION SELECT relid FROM pg_partition_tree(to_regclass($1))) t",
            table,
        )
    )


_UNREAD_BLOCKS = """
SELECT coalesce(sum(b.blocks), 0)::bigint
FROM (SELECT to_regclass($1)::oid AS relid UNION SELECT relid FROM pg_partition_tree(to_regclass($1))) t
JOIN pg_class c ON c.oid = t.relid
CROSS JOIN LATERAL (SELECT coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::bigint AS blocks) b
WHERE NOT (c.reltuples = 0 AND c.relpages = b.blocks
           AND b.blocks <= 300 * least(current_setting('default_statistics_target')::int, 100))
"""
"""ANALYZE reads up to 300 blocks for each unit of its target, and no row security filters it."""


async def count_unread_blocks(conn: Connection, table: str) -> int:
    """Returns the blocks in which there may be a row that our role does not see; partitions included.

    Of a table whose every block ANALYZE has read, and found no row in, there are none: its rows are deleted ones. Nor
    are there where we see a row: a table that was empty has got its first ones meanwhile.

    Args:
        table: quoted and qualified.
    """
    try:
        async with conn.transaction():
            await conn.execute("SET LOCAL row_security = off")
            if await conn.fetchval(f"SELECT EXISTS (SELECT FROM {table})"):  # noqa: S608 quoted
                return 0
    except asyncpg.InsufficientPrivilegeError:
        pass  # policies would hide rows
    return int(await conn.fetchval(_UNREAD_BLOCKS, table))


async def _is_refused(conn: Connection, table: str) -> bool:
    try:
        async with conn.transaction():
            await conn.execute("SET LOCAL row_security = off")
            await conn.execute(f"SELECT FROM {table} LIMIT 0")
    except asyncpg.InsufficientPrivilegeError as error:
        return "row-level security" in str(error) or "row security" in str(error)
    return False

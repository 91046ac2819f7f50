"""Proves that our role sees every row of a table. Row security filters silently: a backfill would copy only what the
policies show, and every comparison would agree."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import quote_identifier, quote_qualified

_TABLES = """
SELECT n.nspname AS schema, c.relname AS name, c.relforcerowsecurity AS forced,
       pg_has_role(c.relowner, 'USAGE') AS owned, pg_get_userbyid(c.relowner) AS owner,
       (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) AS policies, current_user::text AS role,
       row_security_active(c.oid) AS active
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass($1)
   OR c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass($1)))
   OR c.oid IN (WITH RECURSIVE child (oid) AS (
        SELECT to_regclass($1)::oid UNION
        SELECT i.inhrelid FROM pg_inherits i JOIN child ON child.oid = i.inhparent) SELECT oid FROM child)
ORDER BY c.oid <> to_regclass($1), 1, 2
"""


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
    for table in tables:
        for row in await conn.fetch(_TABLES, table):
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


async def require_all_rows_visible(conn: Connection, plan: Plan) -> None:
    """Checks the tables of a plan.

    Raises:
        DatabaseError: the role may not see every row of one.
    """
    tables = dict.fromkeys(
        quote_qualified(table.schema_, table.name) for table in (plan.change.table, plan.change.target_table)
    )
    if hidden := await find_hidden_rows(conn, list(tables)):
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


async def _is_refused(conn: Connection, table: str) -> bool:
    try:
        async with conn.transaction():
            await conn.execute("SET LOCAL row_security = off")
            await conn.execute(f"SELECT FROM {table} LIMIT 0")
    except asyncpg.InsufficientPrivilegeError as error:
        return "row-level security" in str(error) or "row security" in str(error)
    return False

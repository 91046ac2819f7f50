"""Reads the table in which a migration tool keeps what the database has applied."""

# ruff: noqa: S608  the name is quoted

from zdd_tui.backends.postgres.connection import Connection, connect, describe_dsn, translate_errors
from zdd_tui.model.errors import PlanError
from zdd_tui.model.migrations.base import MigrationTool, VersionTable
from zdd_tui.model.sql import quote_qualified

MAX_ROWS = 100_000
_FIND = """
SELECT n.nspname::text AS schema, c.relname::text AS name,
  ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns,
  ARRAY(SELECT r FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r
    WHERE NOT has_table_privilege(c.oid, r))
    AS denied
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p')
"""


async def read_version_table(dsn: str, tool: MigrationTool, name: str, *, timeout: float = 5.0) -> VersionTable:
    """The version table of a tool; one that does not exist where the tool can do without.

    Args:
        name: of the table, without quotation marks, with the schema where it is not looked up in the search path.

    Raises:
        PlanError: there is none, it is another tool's, or the role may not change it.
        DatabaseError: the database cannot be read.
    """
    conn = await connect(dsn, application_name="zdd plan", timeout=timeout)
    try:
        with translate_errors(dsn):
            async with conn.transaction(isolation="repeatable_read", readonly=True):
                return await _read(conn, dsn, tool, name)
    finally:
        await conn.close()


async def has_version_table(dsn: str, tool: MigrationTool, name: str, *, timeout: float = 5.0) -> bool:
    """Whether the database has a table of that name with the tool's columns."""
    conn = await connect(dsn, application_name="zdd plan", timeout=timeout)
    try:
        with translate_errors(dsn):
            found = await conn.fetchrow(_FIND, _quote(name))
            return found is not None and tool.columns <= set(found["columns"])
    finally:
        await conn.close()


def _quote(name: str) -> str:
    return quote_qualified(*name.split("."))


async def _read(conn: Connection, dsn: str, tool: MigrationTool, name: str) -> VersionTable:
    place = describe_dsn(dsn)
    found = await conn.fetchrow(_FIND, _quote(name))
    if found is None:
        if tool.missing_table:
            raise PlanError(
                f"{place} has no table {name}: it is not known what the database has applied",
                f"check the database and --version-table; {tool.missing_table}",
            )
        schema = str(await conn.fetchval("SELECT current_schema()"))
        return VersionTable(quote_qualified(*([] if "." in name else [schema]), *name.split(".")), exists=False)
    table = quote_qualified(found["schema"], found["name"])
    if missing := tool.columns - set(found["columns"]):
        raise PlanError(
            f"{place}: {table} is no table of {tool.name}: it has no column {', '.join(sorted(missing))}",
            "name the right tool with --tool, or the table with --version-table",
        )
    if found["denied"]:
        raise PlanError(
            f"{place}: the role may not {' or '.join(found['denied'])} in {table}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO the agent's role",
        )
    rows = await conn.fetch(f"SELECT * FROM {table} LIMIT {MAX_ROWS + 1}")
    if len(rows) > MAX_ROWS:
        raise PlanError(
            f"{place}: {table} has more than {MAX_ROWS:,} rows", "name the right table with --version-table"
        )
    return VersionTable(table, tuple(dict(row) for row in rows))

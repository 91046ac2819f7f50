"""The `zdd` schema, from nothing or from any older version to the present one.

Versions are the files sql/NNN_name.sql. A file that was applied somewhere is never changed: write the next one.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

import asyncpg

from zdd_tui.backends.postgres.connection import describe_dsn
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.sql import quote_identifier

SQL_FOLDER: Traversable = files("zdd_tui.backends") / "sql"
_NAME = re.compile(r"^(\d{3})_(\w+)\.sql$")
_LOCK = 0x7A6464  # "zdd": the advisory lock that migrations of one database queue behind

_CREATE_MIGRATION_TABLE = """
CREATE TABLE zdd.migration (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by text NOT NULL DEFAULT session_user
);
COMMENT ON TABLE zdd.migration IS 'versions of this schema';
"""

_CREATE_SCHEMA = """
CREATE SCHEMA zdd;
COMMENT ON SCHEMA zdd IS 'zero-downtime releases: state, commands, audit (zdd-tui)';
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One version.

    Attributes:
        checksum: SHA-256 of the file, hexadecimal.
    """

    version: int
    name: str
    sql: str
    checksum: str


def load_migrations(folder: Traversable = SQL_FOLDER) -> tuple[Migration, ...]:
    """The versions in order, numbered from 1 without a gap."""
    found = []
    for path in folder.iterdir():
        if match := _NAME.match(path.name):
            sql = path.read_text(encoding="utf-8")
            found.append(Migration(int(match[1]), match[2], sql, hashlib.sha256(sql.encode()).hexdigest()))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise DatabaseError("the SQL files of this zdd are not complete", "install zdd-tui again")
    return tuple(found)


async def read_schema_version(connection: "asyncpg.Connection[asyncpg.Record]") -> int | None:
    """The version of the schema in the database, None where there is none."""
    return max(await _read_applied(connection), default=None)


async def migrate(
    connection: "asyncpg.Connection[asyncpg.Record]", dsn: str, folder: Traversable = SQL_FOLDER
) -> tuple[int, ...]:
    """Applies what is missing, in one transaction; returns the versions that were applied.

    Raises:
        DatabaseError: no right to create the schema, made by a newer zdd, an applied file was changed,
            or a schema `zdd` that is not ours.
    """
    wanted = load_migrations(folder)
    if not _find_pending(wanted, await _read_applied(connection), dsn):
        return ()
    # Before the transaction: one that waited for its turn must begin with a fresh view of the catalog.
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        async with connection.transaction():
            return await _apply(connection, dsn, wanted)
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def check_can_migrate(
    connection: "asyncpg.Connection[asyncpg.Record]", dsn: str, folder: Traversable = SQL_FOLDER
) -> None:
    """Whether :func:`migrate` could do its work. Changes nothing.

    Raises:
        DatabaseError: as :func:`migrate`.
    """
    applied = await _read_applied(connection)
    _find_pending(load_migrations(folder), applied, dsn)
    if not applied:
        await _can_create_schema(connection, dsn)


async def _apply(
    connection: "asyncpg.Connection[asyncpg.Record]", dsn: str, migrations: tuple[Migration, ...]
) -> tuple[int, ...]:
    applied = await _read_applied(connection)  # another may have been faster
    missing = _find_pending(migrations, applied, dsn)
    if not applied:
        await _create_schema(connection, dsn)
    for migration in missing:
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO zdd.migration (version, name, checksum) VALUES ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )
    return tuple(migration.version for migration in missing)


def _find_pending(migrations: tuple[Migration, ...], applied: dict[int, str], dsn: str) -> list[Migration]:
    newest = max(applied, default=0)
    if newest > len(migrations):
        raise DatabaseError(
            f"{describe_dsn(dsn)}: the zdd schema has version {newest}, this zdd knows versions up to {len(migrations)}",
            "use a zdd that is as new as the one that made the schema",
        )
    for migration in migrations:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise DatabaseError(
                f"{describe_dsn(dsn)}: version {migration.version} ({migration.name}) of the zdd schema was applied"
                " from another file than this zdd has",
                "install an unchanged zdd-tui; a change of the schema is a new numbered file",
            )
    return [migration for migration in migrations if migration.version not in applied]


async def _read_applied(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[int, str]:
    # Not to_regclass(): it asks for USAGE of the schema, and whether we have that is for later to explain.
    if not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'migration'"
        " AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'zdd'))"
    ):
        return {}
    return {row["version"]: row["checksum"] for row in await connection.fetch("SELECT * FROM zdd.migration")}


_RIGHTS = """
SELECT current_database() AS database, current_user AS role, n.oid IS NOT NULL AS there,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       coalesce(has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE'), false) AS may_use,
       EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid) AS filled,
       pg_is_in_recovery() AS standby
FROM (SELECT) AS one LEFT JOIN pg_namespace n ON n.nspname = 'zdd'
"""


async def _create_schema(connection: "asyncpg.Connection[asyncpg.Record]", dsn: str) -> None:
    if not await _can_create_schema(connection, dsn):
        await connection.execute(_CREATE_SCHEMA)
    await connection.execute(_CREATE_MIGRATION_TABLE)


async def _can_create_schema(connection: "asyncpg.Connection[asyncpg.Record]", dsn: str) -> bool:
    """Whether an empty schema is there already; raises where we could not fill it."""
    found = await connection.fetchrow(_RIGHTS)
    assert found is not None
    database, role = quote_identifier(found["database"]), quote_identifier(found["role"])
    if found["standby"]:
        raise DatabaseError(f"{describe_dsn(dsn)} is a standby: it takes no writes", "point dsn at the primary")
    if found["filled"]:
        raise DatabaseError(
            f"{describe_dsn(dsn)}: there is a schema zdd already, and it was not made by zdd",
            "rename that schema, or look whether this is the right database",
        )
    if not found["there"] and not found["may_create"]:
        raise DatabaseError(
            f"{describe_dsn(dsn)}: role {role} may not create the schema zdd in database {database}",
            f"as its owner run: GRANT CREATE ON DATABASE {database} TO {role};"
            f" or: CREATE SCHEMA zdd AUTHORIZATION {role};",
        )
    if found["there"] and not found["may_use"]:
        raise DatabaseError(
            f"{describe_dsn(dsn)}: role {role} may not create tables in the schema zdd",
            f"as its owner run: GRANT CREATE, USAGE ON SCHEMA zdd TO {role};",
        )
    return bool(found["there"])

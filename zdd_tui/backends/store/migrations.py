"""Creates the `zdd` schema, or updates it from any older version.

Versions are the files sql/NNN_name.sql. Never change a released file: add the next one.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from zdd_tui.backends.postgres.connection import Connection, describe_dsn
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.sql import quote_identifier

SQL_FOLDER: Traversable = files("zdd_tui.backends") / "sql"
_NAME = re.compile(r"^(\d{3})_(\w+)\.sql$")
_LOCK = 0x7A6464  # "zdd": advisory lock that serialises the migrations of a database

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
    """Loads the versions in order, numbered from 1 without a gap."""
    migrations = []
    for path in folder.iterdir():
        if match := _NAME.match(path.name):
            sql = path.read_text(encoding="utf-8")
            migrations.append(Migration(int(match[1]), match[2], sql, hashlib.sha256(sql.encode()).hexdigest()))
    migrations.sort(key=lambda migration: migration.version)
    if [migration.version for migration in migrations] != list(range(1, len(migrations) + 1)):
        raise DatabaseError("the SQL files of this zdd are incomplete", "install zdd-tui again")
    return tuple(migrations)


async def read_schema_version(connection: Connection) -> int | None:
    """Reads the version of the schema in the database; None where there is none."""
    return max(await _read_applied(connection), default=None)


async def migrate(connection: Connection, dsn: str, folder: Traversable = SQL_FOLDER) -> tuple[int, ...]:
    """Applies the missing versions in one transaction and returns them.

    Raises:
        DatabaseError: no right to create the schema, a schema of a newer zdd, a changed file, or a schema `zdd` that
            belongs to another program.
    """
    migrations = load_migrations(folder)
    if not _find_pending(migrations, await _read_applied(connection), dsn):
        return ()
    # Lock before the transaction starts, so that its snapshot includes what the previous lock holder did.
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        async with connection.transaction():
            return await _apply(connection, dsn, migrations)
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def check_can_migrate(connection: Connection, dsn: str, folder: Traversable = SQL_FOLDER) -> None:
    """Checks that :func:`migrate` can succeed. Changes nothing.

    Raises:
        DatabaseError: as :func:`migrate`.
    """
    applied = await _read_applied(connection)
    _find_pending(load_migrations(folder), applied, dsn)
    if not applied:
        await _can_create_schema(connection, dsn)


async def _apply(connection: Connection, dsn: str, migrations: tuple[Migration, ...]) -> tuple[int, ...]:
    applied = await _read_applied(connection)  # another process may have been faster
    pending = _find_pending(migrations, applied, dsn)
    if not applied:
        await _create_schema(connection, dsn)
    for migration in pending:
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO zdd.migration (version, name, checksum) VALUES ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )
    return tuple(migration.version for migration in pending)


def _find_pending(migrations: tuple[Migration, ...], applied: dict[int, str], dsn: str) -> list[Migration]:
    newest = max(applied, default=0)
    if newest > len(migrations):
        raise DatabaseError(
            f"{describe_dsn(dsn)}: the zdd schema has version {newest}; this zdd supports up to {len(migrations)}",
            "use a zdd at least as new as the one that created the schema",
        )
    for migration in migrations:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise DatabaseError(
                f"{describe_dsn(dsn)}: version {migration.version} ({migration.name}) of the zdd schema was applied"
                " from a different file",
                "install an unchanged zdd-tui",
            )
    return [migration for migration in migrations if migration.version not in applied]


async def _read_applied(connection: Connection) -> dict[int, str]:
    # Not to_regclass(): it needs USAGE on the schema, and a missing right is explained later.
    if not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'migration'"
        " AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'zdd'))"
    ):
        return {}
    return {row["version"]: row["checksum"] for row in await connection.fetch("SELECT * FROM zdd.migration")}


_RIGHTS = """
SELECT current_database() AS database, current_user AS role, n.oid IS NOT NULL AS exists,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       coalesce(has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE'), false) AS may_use,
       EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid) AS filled,
       pg_is_in_recovery() AS standby
FROM (SELECT) AS one LEFT JOIN pg_namespace n ON n.nspname = 'zdd'
"""


async def _create_schema(connection: Connection, dsn: str) -> None:
    if not await _can_create_schema(connection, dsn):
        await connection.execute(_CREATE_SCHEMA)
    await connection.execute(_CREATE_MIGRATION_TABLE)


async def _can_create_schema(connection: Connection, dsn: str) -> bool:
    """Whether an empty schema exists already; raises where it could not be filled."""
    rights = await connection.fetchrow(_RIGHTS)
    assert rights is not None
    database, role = quote_identifier(rights["database"]), quote_identifier(rights["role"])
    if rights["standby"]:
        raise DatabaseError(f"{describe_dsn(dsn)} is a standby: it accepts no writes", "point dsn at the primary")
    if rights["filled"]:
        raise DatabaseError(
            f"{describe_dsn(dsn)}: a schema named zdd exists that zdd did not create",
            "rename that schema, or check whether this is the right database",
        )
    if not rights["exists"] and not rights["may_create"]:
        raise DatabaseError(
            f"{describe_dsn(dsn)}: role {role} may not create the schema zdd in database {database}",
            f"as its owner run: GRANT CREATE ON DATABASE {database} TO {role};"
            f" or: CREATE SCHEMA zdd AUTHORIZATION {role};",
        )
    if rights["exists"] and not rights["may_use"]:
        raise DatabaseError(
            f"{describe_dsn(dsn)}: role {role} may not create tables in the schema zdd",
            f"as its owner run: GRANT CREATE, USAGE ON SCHEMA zdd TO {role};",
        )
    return bool(rights["exists"])

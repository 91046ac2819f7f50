"""The copy: production's definitions, and rows with production's shape, on a server of the rehearsal's own."""

import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import asyncpg

from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.connection import Connection, connect, refuse_pooler, translate_errors
from zdd_tui.model.ddl import expand_statements, search_path
from zdd_tui.model.ddl.scratch_copy import planned_publications, planned_roles
from zdd_tui.model.errors import ZddError
from zdd_tui.model.plan.base import Database, Plan
from zdd_tui.model.sql import quote_identifier
from zdd_tui.rehearsal.dependencies import Dependencies, read_dependencies
from zdd_tui.rehearsal.expected_rows import CREATE_EXPECTED, REHEARSAL_SCHEMA
from zdd_tui.rehearsal.pg_dump import check_versions, copy_rows, copy_schema
from zdd_tui.rehearsal.populate import make_generators, populate, set_sequences
from zdd_tui.rehearsal.table_stats import TableStats, read_structure, with_statistics

TableKey: TypeAlias = tuple[str, str]
ProgressCallback: TypeAlias = Callable[[str], None]

MIN_ROWS = 1000
"""Rows below which a scale makes no sense: so many are made where production has them."""


@dataclass(frozen=True, slots=True)
class RehearsalOptions:
    """How large, and with what.

    Attributes:
        scale: share of production's rows, over 0 to 1.
        rows: of the plan's table; goes before scale.
        with_data: production's own rows.
    """

    scale: float = 0.1
    rows: int | None = None
    with_data: bool = False

    def rows_of(self, full: int) -> int:
        """How many rows a table gets that has ``full`` in production."""
        return min(full, self.rows) if self.rows else max(min(full, MIN_ROWS), round(full * self.scale))


@dataclass(slots=True)
class SchemaCopy:
    """What was made.

    Attributes:
        main: the plan's table, with production's sizes.
        new: the target table as expand will make it; None where expand fails.
        rows: of the plan's table, here.
        versions: major versions of PostgreSQL, in production and here.
        error: why the plan cannot be walked on it; empty where it can.
    """

    main: TableStats
    rows: int
    versions: tuple[int, int]
    new: TableStats | None = None
    notes: list[str] = field(default_factory=list)
    error: str = ""


@asynccontextmanager
async def copy_session(dsn: str, plan: Plan) -> AsyncIterator[Connection]:
    """A session of the copy with the search_path of the plan's statements."""
    settings = {"application_name": "zdd rehearsal", "search_path": search_path(plan), "row_security": "off"}
    conn = await asyncpg.connect(dsn, server_settings=settings)
    try:
        yield conn
    finally:
        await conn.close()


@asynccontextmanager
async def read_production(database: Database) -> AsyncIterator[Connection]:
    """A session that cannot change anything."""
    dsn = database.dsn.get_secret_value()
    conn = await connect(
        dsn,
        application_name="zdd rehearse",
        timeout=database.connect_timeout,
        default_transaction_read_only="on",
        row_security="off",  # the server refuses a statement that would not see every row
    )
    try:
        await refuse_pooler(conn, dsn)
        with translate_errors(dsn):
            yield conn
    finally:
        conn.terminate()


async def make_copy(
    conn: Connection,
    plan: Plan,
    options: RehearsalOptions,
    target: str,
    programs: Path,
    folder: Path,
    log: ProgressCallback,
) -> SchemaCopy:
    """Brings everything over and fills it.

    Args:
        conn: of :func:`copy_session`.
        target: address of the empty database that becomes the copy.
        programs: the folder of pg_dump and pg_restore.
        folder: for files on the way; they hold rows only with ``with_data``, and go at once.

    Raises:
        ZddError: production cannot be read, is newer than we are, or has what the embedded server has not.
    """
    source = plan.database.dsn.get_secret_value()
    async with read_production(plan.database) as production:
        versions = await check_versions(production, source, programs)
        dependencies = await read_dependencies(production, plan)
        if not any(str(relation) == str(plan.change.table) for relation in dependencies.tables):
            await read_catalog(production, plan)  # raises with the nearest name
        await _create_named_objects(conn, production, plan)
        log(f"bringing the schema of {len(dependencies.tables)} tables over")
        await copy_schema(source, target, dependencies, programs, folder)
        tables = await _read_table_stats(conn, production, dependencies)
    name = (plan.change.table.schema_, plan.change.table.name)
    rows = plan_row_counts(tables, name, options)
    copy = SchemaCopy(tables[name], rows[name], versions)
    if not copy.main.is_analyzed and not options.with_data:
        copy.notes.append(f"{plan.change.table} was never analyzed: nothing is known of its values but their types")
    _refuse_too_large(copy, folder)
    try:
        copy.new = await _structure_after_expand(conn, plan)
    except asyncpg.PostgresError as error:
        copy.error = f"expand: {str(error).splitlines()[0]}"
        return copy
    log(f"filling {copy.rows:,} rows")
    if options.with_data:
        made = await _copy_production_rows(conn, source, dependencies, tables, name, copy, folder)
    else:
        filled = await populate(conn, make_generators(tables, rows))
        made, copy.notes = filled.rows, copy.notes + filled.notes
    await _finish_copy(conn, tables, 1_000_000_000 if options.with_data else 2 * max(rows.values()) + 1)
    copy.rows = made.get(str(plan.change.table), 0)
    if not copy.rows and copy.main.rows:
        copy.error = f"{plan.change.table} could not be filled, so nothing would be shown by walking on"
    return copy


def plan_row_counts(
    tables: Mapping[TableKey, TableStats], main: TableKey, options: RehearsalOptions
) -> dict[TableKey, int]:
    """How many rows each table gets; the others no more than twice those of the plan's table."""
    full = tables[main].rows
    wanted = options.rows_of(full)
    share = wanted / full if full else 1.0
    rows = {}
    for name, table in tables.items():
        scaled = max(min(table.rows, 100), round(table.rows * share))
        rows[name] = wanted if name == main else min(scaled, 2 * wanted)
    return rows


async def _read_table_stats(
    conn: Connection, production: Connection, dependencies: Dependencies
) -> dict[TableKey, TableStats]:
    tables = {}
    for relation in dependencies.tables:
        table = await read_structure(conn, relation.schema, relation.name)
        tables[relation.schema, relation.name] = await with_statistics(production, table)
    return tables


def _refuse_too_large(copy: SchemaCopy, folder: Path) -> None:
    share = copy.rows / copy.main.rows if copy.main.rows else 0.0
    needed = int(copy.main.bytes * share * 4)  # the table, its new side, WAL, and dead rows
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ZddError(
            f"a rehearsal of {copy.rows:,} rows needs about {needed // 10**6:,} MB; {folder} has {free // 10**6:,} MB",
            "choose a smaller --scale, or set TMPDIR to a larger disk",
        )


async def _create_named_objects(conn: Connection, production: Connection, plan: Plan) -> None:
    """Roles and publications that the plan and the policies of its tables name; a dump of tables brings none of them.

    The roles have no rights and cannot log in, and nothing subscribes to the publications.
    """
    policies = await production.fetch(
        "SELECT DISTINCT pg_get_userbyid(r)::text AS role FROM pg_policy p, unnest(p.polroles) r WHERE r <> 0"
    )
    for role in dict.fromkeys([*planned_roles(plan), *(row["role"] for row in policies)]):
        if not await conn.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role):
            await conn.execute(f"CREATE ROLE {quote_identifier(role)} NOLOGIN")
    for name in dict.fromkeys(each.name for each in planned_publications(plan)):
        if not await conn.fetchval("SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1)", name):
            await conn.execute(f"CREATE PUBLICATION {quote_identifier(name)}")


async def _structure_after_expand(conn: Connection, plan: Plan) -> TableStats:
    """The shape of the target table: created, read, and rolled back."""
    transaction = conn.transaction()
    await transaction.start()
    try:
        for statement in expand_statements(plan):
            await conn.execute(statement)
        for statement in plan.change.indexes:
            await conn.execute(statement.replace("CONCURRENTLY", "").replace("concurrently", ""))
        return await read_structure(conn, plan.change.target_table.schema_, plan.change.target_table.name)
    finally:
        await transaction.rollback()


async def _copy_production_rows(
    conn: Connection,
    source: str,
    dependencies: Dependencies,
    tables: Mapping[TableKey, TableStats],
    main: TableKey,
    copy: SchemaCopy,
    folder: Path,
) -> dict[str, int]:
    """Production's own rows: a share of the plan's table, all of what it refers to, and nothing that refers to it
    unless the table came whole."""
    share = copy.rows / copy.main.rows if copy.main.rows else 1.0
    made: dict[str, int] = {}
    await conn.execute("SET session_replication_role = replica")
    try:
        for relation in dependencies.tables:
            name = (relation.schema, relation.name)
            refers = any((key.schema, key.table) == main for key in tables[name].foreign_keys)
            if refers and name != main and share < 1:
                copy.notes.append(f"{relation} stays empty: it refers to rows that were not all brought over")
                continue
            made[str(relation)] = await copy_rows(source, conn, relation, share if name == main else 1.0, folder)
    finally:
        await conn.execute("SET session_replication_role = origin")
    return made


async def _finish_copy(conn: Connection, tables: Mapping[TableKey, TableStats], ordinal: int) -> None:
    for table in tables.values():
        await set_sequences(conn, table)
    await conn.execute(CREATE_EXPECTED)
    await conn.execute(f"SELECT setval('{REHEARSAL_SCHEMA}.ordinal', $1)", ordinal)
    await conn.execute("VACUUM (ANALYZE)")

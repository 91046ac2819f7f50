"""The copy: production's definitions, and rows that look like production's, on a server of the rehearsal's own."""

import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg

from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.connection import connect, explained, refuse_pooler
from zdd_tui.model.ddl import expand_statements, search_path
from zdd_tui.model.errors import ZddError
from zdd_tui.model.plan.base import Plan
from zdd_tui.rehearsal.dependencies import Closure, read_closure
from zdd_tui.rehearsal.expected_rows import MAKE, SCHEMA
from zdd_tui.rehearsal.pg_dump import bring_rows, bring_schema, refuse_newer
from zdd_tui.rehearsal.populate import fill, generators, set_sequences
from zdd_tui.rehearsal.table_stats import TableShape, read_structure, with_statistics

Connection: TypeAlias = Any
Name: TypeAlias = tuple[str, str]
Say: TypeAlias = Callable[[str], None]

SMALLEST = 1000
"""Rows below which a scale makes no sense: so many are made where production has them."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How large, and with what.

    Attributes:
        scale: share of production's rows, over 0 to 1.
        rows: of the plan's table; goes before scale.
        with_data: production's own rows.
    """

    scale: float = 0.1
    rows: int | None = None
    with_data: bool = False


@dataclass(slots=True)
class Copy:
    """What was made.

    Attributes:
        main: the plan's table, with production's sizes.
        new: the target table as expand will make it; None where expand fails.
        rows: of the plan's table, here.
        versions: major versions of PostgreSQL, in production and here.
        trouble: why the plan cannot be walked on it; empty where it can.
    """

    main: TableShape
    rows: int
    versions: tuple[int, int]
    new: TableShape | None = None
    notes: list[str] = field(default_factory=list)
    trouble: str = ""


@asynccontextmanager
async def copy_session(dsn: str, plan: Plan) -> AsyncIterator[Connection]:
    """A session of the copy that finds names where the plan's texts look for them."""
    settings = {"application_name": "zdd rehearsal", "search_path": search_path(plan)}
    conn = await asyncpg.connect(dsn, server_settings=settings)
    try:
        yield conn
    finally:
        await conn.close()


@asynccontextmanager
async def _production(plan: Plan) -> AsyncIterator[Connection]:
    """A session that cannot change anything."""
    dsn = plan.database.dsn.get_secret_value()
    conn = await connect(
        dsn,
        application_name="zdd rehearse",
        timeout=plan.database.connect_timeout,
        default_transaction_read_only="on",
    )
    try:
        await refuse_pooler(conn, dsn)
        with explained(dsn):
            yield conn
    finally:
        conn.terminate()


async def make_copy(
    conn: Connection, plan: Plan, wish: Wish, target: str, programs: Path, folder: Path, say: Say
) -> Copy:
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
    async with _production(plan) as production:
        versions = await refuse_newer(production, source, programs)
        closure = await read_closure(production, plan)
        if not any(str(relation) == str(plan.change.table) for relation in closure.tables):
            await read_catalog(production, plan)  # says what is wrong, with the nearest name
        say(f"bringing the schema of {len(closure.tables)} tables over")
        await bring_schema(source, target, closure, programs, folder)
        shapes = await _shapes(conn, production, closure)
    name = (plan.change.table.schema_, plan.change.table.name)
    rows = wanted_rows(shapes, name, wish)
    copy = Copy(shapes[name], rows[name], versions)
    if not copy.main.analyzed and not wish.with_data:
        copy.notes.append(f"{plan.change.table} was never analyzed: nothing is known of its values but their types")
    _refuse_too_large(copy, folder)
    try:
        copy.new = await _structure_after_expand(conn, plan)
    except asyncpg.PostgresError as error:
        copy.trouble = f"expand: {str(error).splitlines()[0]}"
        return copy
    say(f"filling {copy.rows:,} rows")
    if wish.with_data:
        made = await _bring_all(conn, source, closure, shapes, name, copy, folder)
    else:
        filled = await fill(conn, generators(shapes, rows))
        made, copy.notes = filled.rows, copy.notes + filled.notes
    await _finish(conn, shapes, 1_000_000_000 if wish.with_data else 2 * max(rows.values()) + 1)
    copy.rows = made.get(str(plan.change.table), 0)
    if not copy.rows and copy.main.rows:
        copy.trouble = f"{plan.change.table} could not be filled, so nothing would be shown by walking on"
    return copy


def wanted_rows(shapes: Mapping[Name, TableShape], main: Name, wish: Wish) -> dict[Name, int]:
    """How many rows each table gets; the others no more than twice those of the plan's table."""
    full = shapes[main].rows
    wanted = min(full, wish.rows) if wish.rows else max(min(full, SMALLEST), round(full * wish.scale))
    share = wanted / full if full else 1.0
    rows = {}
    for name, shape in shapes.items():
        scaled = max(min(shape.rows, 100), round(shape.rows * share))
        rows[name] = wanted if name == main else min(scaled, 2 * wanted)
    return rows


async def _shapes(conn: Connection, production: Connection, closure: Closure) -> dict[Name, TableShape]:
    shapes = {}
    for relation in closure.tables:
        shape = await read_structure(conn, relation.schema, relation.name)
        shapes[relation.schema, relation.name] = await with_statistics(production, shape)
    return shapes


def _refuse_too_large(copy: Copy, folder: Path) -> None:
    share = copy.rows / copy.main.rows if copy.main.rows else 0.0
    needed = int(copy.main.bytes * share * 4)  # the table, its new side, WAL, and dead rows
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ZddError(
            f"a rehearsal of {copy.rows:,} rows needs about {needed // 10**6:,} MB; {folder} has {free // 10**6:,} MB",
            "choose a smaller --scale, or set TMPDIR to a larger disk",
        )


async def _structure_after_expand(conn: Connection, plan: Plan) -> TableShape:
    """What the target table will look like: made, looked at, and taken back."""
    transaction = conn.transaction()
    await transaction.start()
    try:
        for statement in expand_statements(plan):
            await conn.execute(statement)
        for statement in plan.change.indexes:
            await conn.execute(statement.replace("CONCURRENTLY", "").replace("concurrently", ""))
        return await read_structure(conn, plan.change.target.schema_, plan.change.target.name)
    finally:
        await transaction.rollback()


async def _bring_all(
    conn: Connection,
    source: str,
    closure: Closure,
    shapes: Mapping[Name, TableShape],
    main: Name,
    copy: Copy,
    folder: Path,
) -> dict[str, int]:
    """Production's own rows: a share of the plan's table, all of what it refers to, and nothing that refers to it
    unless the table came whole."""
    share = copy.rows / copy.main.rows if copy.main.rows else 1.0
    made: dict[str, int] = {}
    await conn.execute("SET session_replication_role = replica")
    try:
        for relation in closure.tables:
            name = (relation.schema, relation.name)
            refers = any((key.schema, key.table) == main for key in shapes[name].foreign)
            if refers and name != main and share < 1:
                copy.notes.append(f"{relation} stays empty: it refers to rows that were not all brought over")
                continue
            made[str(relation)] = await bring_rows(source, conn, relation, share if name == main else 1.0, folder)
    finally:
        await conn.execute("SET session_replication_role = origin")
    return made


async def _finish(conn: Connection, shapes: Mapping[Name, TableShape], ordinal: int) -> None:
    for shape in shapes.values():
        await set_sequences(conn, shape)
    await conn.execute(MAKE)
    await conn.execute(f"SELECT setval('{SCHEMA}.ordinal', $1)", ordinal)
    await conn.execute("VACUUM (ANALYZE)")

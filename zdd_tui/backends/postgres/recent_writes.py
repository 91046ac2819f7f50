"""Compares again what was written since a transaction, on both sides: what a verification has not seen.

A row that was written has a new ``xmin``, which a scan of both tables finds. A row that was deleted has none: where the
two sides are two tables, the scan looks each row up in the other one.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.row_visibility import count_blocks
from zdd_tui.model.ddl.catalog import Catalog, Table
from zdd_tui.model.ddl.lint import new_column_types
from zdd_tui.model.ddl.names import search_path
from zdd_tui.model.ddl.rows import block_keys_statement
from zdd_tui.model.ddl.witness import disagreements_statement, last_writes_statement
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.rollback import NewSideCount

Key: TypeAlias = tuple[str, ...]
Connections: TypeAlias = Callable[[], AbstractAsyncContextManager[Connection]]
ProgressCallback: TypeAlias = Callable[[str], Awaitable[None]]

MAX_XID_AGE = 1_000_000_000
"""Transactions after which an id no longer tells what is new: ids wrap around after four times as many."""

SCANNED_BLOCKS = 512
"""4 MiB that one statement scans for new rows."""

COMPARED_BLOCKS = 64
"""Blocks of which one statement returns every key."""

COMPARED_KEYS = 1000
"""Keys that one statement compares."""

STATEMENT_TIMEOUT = "60s"

TRIES = 20
RETRY_DELAY = 0.5
"""Seconds until a page is read again that could not be read."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A row whose two sides differ. Its values are never read.

    Attributes:
        columns: names of the new columns that differ; empty where a whole row is missing, or an expression fails.
        has_old, has_new: whether the row exists on that side.
    """

    key: Key
    columns: tuple[str, ...] = ()
    has_old: bool = True
    has_new: bool = True

    @property
    def reason(self) -> str:
        if not self.has_old:
            return "only the new side has the row"
        if not self.has_new:
            return "the row is missing on the new side"
        if not self.columns:
            return "change.up fails"
        return f"{', '.join(self.columns)} {'differs' if len(self.columns) == 1 else 'differ'}"

    def __str__(self) -> str:
        return f"{', '.join(self.key)} ({self.reason})"


@dataclass(frozen=True, slots=True)
class RecentWrites:
    """The result of a comparison.

    Attributes:
        rows: number of compared keys.
        differing: all rows that differ, also when they were compared a second time.
        is_whole: every row was compared, not only recent ones.
    """

    rows: int
    differing: tuple[Disagreement, ...]
    is_whole: bool


async def read_horizon(conn: Connection) -> str:
    """Returns the id of the oldest transaction that still runs. What is not committed now is written by it or later.

    The marker of a comparison that starts now: a row that the comparison does not see has an ``xmin`` from here on.
    """
    return str(await conn.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text"))


async def compare_recent_writes(
    connections: Connections,
    plan: Plan,
    catalog: Catalog,
    since: str | None,
    *,
    either: bool = False,
    ignored: frozenset[Key] = frozenset(),
    on_progress: ProgressCallback | None = None,
) -> RecentWrites:
    """Compares every row that was written on either side at or after a transaction.

    Args:
        connections: a session that reads; it may be another one for each page.
        since: transaction id, from :func:`read_horizon` or a snapshot marker. None: compare every row. The same when
            the id is too old, or of another server.
        either: rows also agree when ``down`` gives the old side, as for rows that V3 wrote.
        ignored: keys that may differ, such as failed rows that the plan tolerates.
        on_progress: called with a text for the screen.
    """
    marker = await usable_marker(connections, since)
    differing: dict[Key, Disagreement] = {}
    compared = 0
    async with aclosing(_read_pages(connections, plan, catalog, marker)) as pages:
        async for page in pages:
            compared += len(page.keys)
            await _compare(connections, plan, catalog, page.keys, either, ignored, differing)
            if on_progress is not None and page.progress:
                await on_progress(f"compared {compared:,} rows, {page.progress}")
    return RecentWrites(compared, tuple(differing.values()), marker is None)


async def count_new_side_only(
    connections: Connections, plan: Plan, catalog: Catalog, since: str, *, seconds: float
) -> NewSideCount:
    """Counts the rows whose new side is not what ``up`` makes of the old side: dropping the new side loses it.

    Args:
        connections: as for :func:`compare_recent_writes`.
        since: transaction id of the verification, which found no such row.
        seconds: the count ends after that time, with what it has found.
    """
    differing: dict[Key, Disagreement] = {}
    compared, is_complete, marker = 0, False, None
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            marker = await usable_marker(connections, since)
            async with aclosing(_read_pages(connections, plan, catalog, marker)) as pages:
                async for page in pages:
                    await _compare(connections, plan, catalog, page.keys, False, frozenset(), differing)
                    compared += len(page.keys)
            is_complete = True
    compared_columns = {*catalog.key_names, *plan.change.up}
    other_columns = tuple(name for name in new_column_types(plan) if name not in compared_columns)
    lost = sum(each.has_new for each in differing.values())
    return NewSideCount(compared, lost, is_complete, marker is None, other_columns)


@dataclass(frozen=True, slots=True)
class _Page:
    """Keys to compare.

    Attributes:
        progress: share of a table that was scanned, now and then; else empty.
    """

    keys: list[Key]
    progress: str = ""


async def _read_pages(
    connections: Connections, plan: Plan, catalog: Catalog, marker: str | None
) -> AsyncGenerator[_Page, None]:
    """The keys of every row that was written since the marker, or that only one of two tables has, in pages of at most
    COMPARED_KEYS."""
    tables = [catalog.old] if plan.change.kind == "column" else [catalog.old, catalog.new_table]
    keys: set[Key] = set()
    for table in tables:
        for relation in await _list_relations(connections, table):
            blocks, step = await _count_blocks(connections, relation), SCANNED_BLOCKS if marker else COMPARED_BLOCKS
            for first in range(0, blocks, step):
                keys |= await _read_keys(connections, plan, catalog, table, relation, marker, first, first + step)
                while len(keys) >= COMPARED_KEYS:
                    yield _Page([keys.pop() for _ in range(COMPARED_KEYS)])
                if first // step % 16 == 15:
                    yield _Page([], f"{100 * first // blocks}% of {table.schema}.{table.name}")
    yield _Page(list(keys))


async def find_disagreements(
    conn: Connection, plan: Plan, catalog: Catalog, keys: Sequence[Key], *, either: bool
) -> list[Disagreement]:
    """Returns those of the keys whose two sides differ, or for which an expression fails."""
    if not keys:
        return []
    try:
        async with conn.transaction():
            await conn.execute(_settings_sql(plan))
            await conn.execute("SET LOCAL enable_seqscan = off")
            rows = await conn.fetch(
                disagreements_statement(plan, catalog, either=either),
                *(list(column) for column in zip(*keys, strict=True)),
            )
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.PLPGSQLError):
        if len(keys) == 1:
            return [Disagreement(keys[0])]
        middle = len(keys) // 2
        return [
            *await find_disagreements(conn, plan, catalog, keys[:middle], either=either),
            *await find_disagreements(conn, plan, catalog, keys[middle:], either=either),
        ]
    return [
        Disagreement(tuple(json.loads(row["key"])), tuple(row["differs"] or ()), row["old"], row["new"]) for row in rows
    ]


async def find_last_writes(conn: Connection, catalog: Catalog, keys: Sequence[Key]) -> dict[Key, str]:
    """Returns the id (``xmin``) of the transaction that wrote the old row last; without the rows that are gone."""
    if not keys:
        return {}
    columns = (list(column) for column in zip(*keys, strict=True))
    rows = await conn.fetch(last_writes_statement(catalog), *columns)
    return {tuple(json.loads(row["key"])): row["xid"] for row in rows}


async def usable_marker(connections: Connections, since: str | None) -> str | None:
    """The transaction id; None where it does not tell what is new."""
    if since is None:
        return None
    xid = int(since.partition("@")[0])
    async with connections() as conn:
        current = int(await conn.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text"))
    return str(xid) if 0 <= current - xid < MAX_XID_AGE else None


async def _list_relations(connections: Connections, table: Table) -> list[str]:
    """The tables that hold the rows: the table itself, or its partitions."""
    async with connections() as conn:
        rows = await conn.fetch(
            "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm') AND c.oid IN ("
            " SELECT to_regclass($1)::oid UNION SELECT relid FROM pg_partition_tree(to_regclass($1)) WHERE isleaf)",
            table.sql,
        )
    return [row["name"] for row in rows]


async def _count_blocks(connections: Connections, relation: str) -> int:
    async with connections() as conn:
        return await count_blocks(conn, relation)


async def _read_keys(
    connections: Connections,
    plan: Plan,
    catalog: Catalog,
    table: Table,
    relation: str,
    marker: str | None,
    first: int,
    end: int,
) -> set[Key]:
    other = catalog.old if table is catalog.new else catalog.new
    statement = block_keys_statement(
        catalog,
        table,
        relation,
        recent=marker is not None,
        other=other if plan.change.kind == "table" else None,
    )
    parameters = (first, end, *((marker,) if marker else ()))

    async def read(conn: Connection) -> set[Key]:
        async with conn.transaction():
            await conn.execute(_settings_sql(plan))
            return {tuple(row) for row in await conn.fetch(statement, *parameters)}

    return await _with_retry(connections, read)


async def _compare(
    connections: Connections,
    plan: Plan,
    catalog: Catalog,
    keys: list[Key],
    either: bool,
    ignored: frozenset[Key],
    differing: dict[Key, Disagreement],
) -> None:
    """Compares keys twice where they differ: a writer may have been between two transactions."""
    for _ in range(2):
        find = partial(find_disagreements, plan=plan, catalog=catalog, keys=keys, either=either)
        found = await _with_retry(connections, find)
        found = [each for each in found if each.key not in ignored]
        keys = [each.key for each in found]
        if not keys:
            return
    differing.update({each.key: each for each in found})


async def _with_retry(connections: Connections, read: Callable[[Connection], Awaitable[T]]) -> T:
    """Reads again after a lock was not granted, or a statement took too long."""
    for _ in range(TRIES - 1):
        try:
            async with connections() as conn:
                return await read(conn)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.QueryCanceledError):
            await asyncio.sleep(RETRY_DELAY)
    async with connections() as conn:
        return await read(conn)


def _settings_sql(plan: Plan) -> str:
    return (
        f"SET LOCAL search_path = {search_path(plan)}; SET LOCAL row_security = off;"
        f" SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"
    )

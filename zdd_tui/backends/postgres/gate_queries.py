"""The queries of gates: snapshot markers, recent rows, old snapshots, waiting sessions, leftovers."""
# ruff: noqa: S608  the only text inserted is the constant MARKER_AGE_SQL

import json
from collections.abc import Sequence
from dataclasses import dataclass

from zdd_tui.backends.postgres.catalog import read_catalog, trigger_names
from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.recent_writes import Key, find_disagreements
from zdd_tui.model.ddl.catalog import Catalog, Table
from zdd_tui.model.ddl.lint import created_objects
from zdd_tui.model.ddl.names import ARCHIVE_SCHEMA, SCHEMA, archived_name, sync_name
from zdd_tui.model.ddl.rows import (
    MARKER_AGE_SQL,
    last_key_statement,
    not_copied_statement,
    recent_rows_statement,
)
from zdd_tui.model.duration import format_duration
from zdd_tui.model.plan.base import DualWriteMode, Plan, TableName
from zdd_tui.model.sql import quote_qualified

TAIL_BLOCKS = 256
"""2 MiB at the end of a table, where most new rows are."""
SCATTERED_BLOCKS = 1000
"""Blocks sampled from the whole table, for rows that were updated in place."""


@dataclass(frozen=True, slots=True)
class RecentSample:
    """Rows written since a snapshot marker.

    Attributes:
        rows: number of compared rows.
        mismatches: rows whose new side differs from what ``up`` makes of the old side.
        not_copied: rows that are not on the new side yet. Before the backfill this is no mismatch for a row older than
            the marker: a writer that changes another column of it need not write the new side.
        example: key of a mismatch.
    """

    rows: int
    mismatches: int
    not_copied: int = 0
    example: Key | None = None

    @property
    def example_key(self) -> str | None:
        """Readable."""
        return ", ".join(self.example) if self.example else None

    @property
    def matches(self) -> int:
        return self.rows - self.mismatches - self.not_copied


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session or prepared transaction that blocks.

    Attributes:
        pid: 0 for a prepared transaction.
        age: seconds since its transaction began.
    """

    pid: int
    app: str
    state: str
    age: float

    def __str__(self) -> str:
        who = f"pid {self.pid}" if self.pid else "prepared transaction"
        return f"{who} ({self.app or 'no application_name'}, {self.state}, {format_duration(self.age)})"


async def snapshot_marker(conn: Connection) -> str:
    """Returns an opaque marker of the present: a transaction id and the server's clock."""
    row = await conn.fetchrow("SELECT pg_current_xact_id()::text, extract(epoch FROM clock_timestamp())::float8")
    assert row is not None
    return f"{row[0]}@{row[1]:.6f}"


async def read_newest_key(conn: Connection, catalog: Catalog) -> int | None:
    """Returns the highest key where keys are integers: a row with a higher key was inserted later."""
    if len(catalog.key) != 1 or catalog.key[0].type not in ("smallint", "integer", "bigint"):
        return None
    row = await conn.fetchrow(last_key_statement(catalog))
    return int(row[0]) if row else 0


async def compare_recent_rows(
    conn: Connection, plan: Plan, catalog: Catalog, marker: str, *, inserted_after: int | None = None
) -> RecentSample:
    """Compares up to ``plan.gates.sample_rows`` rows written since a marker: the end of each table, and a sample of
    blocks. A mismatch is compared twice, because its row may be in the middle of being written.

    Args:
        inserted_after: result of :func:`read_newest_key` at the marker; a row above it must be on the new side.
    """
    tables = [catalog.old] if plan.change.kind == "column" else [catalog.old, catalog.new_table]
    keys: dict[Key, None] = {}
    for table in tables:
        keys |= dict.fromkeys(await _read_recent_keys(conn, catalog, table, marker, plan.gates.sample_rows))
    sample = list(keys)[: plan.gates.sample_rows]
    wrong = await _find_differing(conn, plan, catalog, sample)
    if wrong:
        wrong = await _find_differing(conn, plan, catalog, wrong)
    not_copied = set(await _find_not_copied(conn, plan, catalog, wrong, inserted_after))
    wrong = [key for key in wrong if key not in not_copied]
    return RecentSample(len(sample), len(wrong), len(not_copied), wrong[0] if wrong else None)


async def _find_differing(conn: Connection, plan: Plan, catalog: Catalog, keys: Sequence[Key]) -> list[Key]:
    return [each.key for each in await find_disagreements(conn, plan, catalog, keys, either=False)]


async def _find_not_copied(
    conn: Connection, plan: Plan, catalog: Catalog, keys: Sequence[Key], inserted_after: int | None
) -> list[Key]:
    older = [key for key in keys if inserted_after is None or int(key[0]) <= inserted_after]
    if not older:
        return []
    rows = await conn.fetch(not_copied_statement(plan, catalog), *(list(column) for column in zip(*older, strict=True)))
    return [tuple(json.loads(row["key"])) for row in rows]


async def _read_recent_keys(conn: Connection, catalog: Catalog, table: Table, marker: str, limit: int) -> list[Key]:
    xid = marker.partition("@")[0]
    blocks = await conn.fetchval(
        "SELECT pg_relation_size(to_regclass($1)) / current_setting('block_size')::bigint", table.sql
    )
    first = max(0, blocks - TAIL_BLOCKS)
    rows = await conn.fetch(recent_rows_statement(catalog, table, from_end=True), xid, limit, first)
    if first and len(rows) < limit:
        share = min(100.0, 100.0 * SCATTERED_BLOCKS / blocks)
        rows += await conn.fetch(recent_rows_statement(catalog, table, from_end=False), xid, limit, share)
    return [tuple(row) for row in rows]


async def find_older_transactions(conn: Connection, marker: str) -> list[Blocker]:
    """Returns the transactions of this database, prepared ones included, that are older than a marker: oldest first.

    Left out: this session, agents, autovacuum and processes that cannot see rows.
    """
    xid, _, began = marker.partition("@")
    rows = await conn.fetch(
        "SELECT pid, coalesce(application_name, '') AS app, coalesce(state, backend_type) AS state,"
        " coalesce(extract(epoch FROM clock_timestamp() - xact_start)::float8, 0) AS age"
        " FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type IN ('client backend', 'walsender') AND application_name NOT LIKE 'zdd agent %'"
        f" AND (greatest(age(backend_xmin), age(backend_xid)) > ({MARKER_AGE_SQL})"
        "      OR extract(epoch FROM xact_start) < $2::float8)"
        " UNION ALL"
        " SELECT 0, gid, 'prepared', extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_prepared_xacts"
        " WHERE database = current_database()"
        f" AND (age(transaction) > ({MARKER_AGE_SQL}) OR extract(epoch FROM prepared) < $2::float8)"
        " ORDER BY age DESC",
        xid,
        float(began or 0),
    )
    return [Blocker(*row) for row in rows]


async def find_snapshot_holders(conn: Connection) -> dict[str, Blocker]:
    """Returns the transactions of this database that hold a snapshot now, by their virtual ids, which every role sees.

    A READ COMMITTED transaction holds one only while a statement runs. Left out: this session, agents and autovacuum.
    """
    rows = await conn.fetch(
        "SELECT l.virtualxid, a.pid, coalesce(a.application_name, '') AS app, coalesce(a.state, a.backend_type, '')"
        " AS state, coalesce(extract(epoch FROM clock_timestamp() - a.xact_start)::float8, 0) AS age"
        " FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'virtualxid'"
        " AND l.mode = 'ExclusiveLock'"
        " WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_xmin IS NOT NULL"
        # Only autovacuum and the like have no role. The type of other roles' sessions may be hidden.
        " AND a.usesysid IS NOT NULL AND a.application_name NOT LIKE 'zdd agent %'"
        " ORDER BY age DESC"
    )
    return {row[0]: Blocker(*list(row)[1:]) for row in rows}


async def count_hidden_sessions(conn: Connection) -> int:
    """Counts the sessions of this database whose state this role may not see (it needs pg_read_all_stats)."""
    count = await conn.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usesysid IS NOT NULL"
        " AND NOT pg_has_role(usesysid, 'USAGE') AND NOT pg_has_role('pg_read_all_stats', 'USAGE')"
    )
    return int(count)


async def find_waiters(conn: Connection, tables: Sequence[TableName] | None = None) -> list[Blocker]:
    """Returns the sessions that wait for a lock that an agent holds, oldest first.

    Args:
        tables: only locks on these; None for all.
    """
    names = [quote_qualified(table.schema_, table.name) for table in tables or ()]
    rows = await conn.fetch(
        "SELECT DISTINCT a.pid, coalesce(a.application_name, '') AS app, coalesce(a.state, '') AS state,"
        " coalesce(extract(epoch FROM clock_timestamp() - a.query_start)::float8, 0) AS age"
        " FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
        " WHERE NOT l.granted AND a.datname = current_database() AND a.application_name NOT LIKE 'zdd agent %'"
        " AND EXISTS (SELECT FROM unnest(pg_blocking_pids(l.pid)) AS b (pid)"
        "             JOIN pg_stat_activity g ON g.pid = b.pid AND g.application_name LIKE 'zdd agent %'"
        "             JOIN pg_locks h ON h.pid = b.pid AND ($2 OR h.relation = ANY ($1::text[]::regclass[]::oid[])))"
        " ORDER BY age DESC",
        [table for table in names if await conn.fetchval("SELECT to_regclass($1) IS NOT NULL", table)],
        tables is None,
    )
    return [Blocker(*row) for row in rows]


async def find_leftovers(conn: Connection, plan: Plan) -> list[str]:
    """Describes the objects of the release that are left in the database; empty after cleanup."""
    names = list(trigger_names(plan))
    leftovers = [
        f"trigger {row['tgname']} on {row['table']}"
        for row in await conn.fetch(
            "SELECT tgname, tgrelid::regclass::text AS table FROM pg_trigger WHERE tgname = ANY ($1::text[])", names
        )
    ]
    leftovers += [
        f"function {SCHEMA}.{row['proname']}"
        for row in await conn.fetch(
            "SELECT proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
            " WHERE n.nspname = $1 AND proname = ANY ($2::text[])",
            SCHEMA,
            names,
        )
    ]
    if plan.change.into is not None:
        archive = quote_qualified(ARCHIVE_SCHEMA, plan.change.table.name)
        if await conn.fetchval("SELECT to_regclass($1) IS NOT NULL", archive):
            leftovers.append(f"table {ARCHIVE_SCHEMA}.{plan.change.table.name}")
        return leftovers
    columns = [archived_name(plan, column) for column in plan.change.down]
    rows = await conn.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = ANY ($2::text[])"
        " AND NOT attisdropped",
        quote_qualified(plan.change.table.schema_, plan.change.table.name),
        columns,
    )
    return leftovers + [f"column {row['attname']} of {plan.change.table}" for row in rows]


async def list_enabled_triggers(conn: Connection, names: Sequence[str]) -> set[str]:
    """Returns those of the triggers that exist and are always enabled, as the witness's are."""
    rows = await conn.fetch(
        "SELECT tgname FROM pg_trigger WHERE tgname = ANY ($1::text[]) AND NOT tgisinternal AND tgenabled = 'A'",
        list(names),
    )
    return {row["tgname"] for row in rows}


async def read_trigger_state(conn: Connection, name: str) -> str | None:
    """Returns ``pg_trigger.tgenabled`` of a trigger of ours; None where it does not exist."""
    state = await conn.fetchval(
        "SELECT tgenabled::text FROM pg_trigger WHERE tgname = $1 AND NOT tgisinternal LIMIT 1", name
    )
    return None if state is None else str(state)


async def find_invalid_objects(conn: Connection, plan: Plan) -> list[str]:
    """Describes the objects of the expanded schema that are missing or invalid (the expand gate)."""
    catalog = await read_catalog(conn, plan)
    if catalog.new is None:
        return [f"table {plan.change.target_table} is missing"]
    wrong = [
        f"column {name} of {plan.change.target_table} is missing"
        for name in plan.change.up
        if not _has_column(catalog, name)
    ]
    for schema, name in created_objects(plan).indexes:
        valid = await conn.fetchval(
            "SELECT indisvalid AND indisready FROM pg_index WHERE indexrelid = to_regclass($1)",
            quote_qualified(schema, name),
        )
        if not valid:
            wrong.append(f"index {name} is {'missing' if valid is None else 'invalid'}")
    if plan.change.dual_write is DualWriteMode.TRIGGER and sync_name(plan, "forward") not in catalog.triggers:
        wrong.append(f"trigger {sync_name(plan, 'forward')} is missing or disabled")
    return wrong


def _has_column(catalog: Catalog, name: str) -> bool:
    return catalog.new is not None and catalog.new.column(name) is not None

"""Reads the tables of a migration from the database: size, indexes, triggers, traffic."""

from collections.abc import Iterable

from zdd_tui.backends.postgres.connection import Connection, connect, describe_dsn, translate_errors
from zdd_tui.backends.postgres.schema_snapshot import read_schema_snapshot
from zdd_tui.model.advice.migration import DatabaseStats, LiveTableStats
from zdd_tui.model.advice.schema import SchemaSnapshot
from zdd_tui.model.plan.base import TableName

_TABLE = """
SELECT c.oid::bigint AS oid, CASE WHEN c.relkind = 'p' THEN s.rows ELSE c.reltuples END::bigint AS rows,
  c.relkind = 'r' AND NOT c.relispartition
    AND NOT EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhparent, i.inhrelid)) AS ordinary,
  s.heap, s.indexes,
  ARRAY(SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i
        WHERE i.indrelid = c.oid AND NOT i.indisprimary AND i.indisvalid ORDER BY i.indexrelid) AS index_defs,
  ARRAY(SELECT t.tgname::text FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal ORDER BY 1) AS triggers,
  ARRAY(SELECT DISTINCT f.conrelid::regclass::text FROM pg_constraint f
        WHERE f.contype = 'f' AND f.confrelid = c.oid ORDER BY 1) AS referenced_by,
  ARRAY(SELECT a.attname::text FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
        JOIN pg_attribute a ON a.attnum = k.attnum
        WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid ORDER BY k.n) AS key,
  ARRAY(SELECT pg_get_constraintdef(k.oid) || '|' || a.attname FROM pg_constraint k
        JOIN pg_attribute a ON a.attrelid = c.oid AND k.conkey = ARRAY[a.attnum]
        WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.convalidated) AS checks
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  -- of a partitioned table: the sum of its partitions
  SELECT coalesce(sum(pg_table_size(p.oid)), 0)::bigint AS heap,
    coalesce(sum(pg_indexes_size(p.oid)), 0)::bigint AS indexes, coalesce(sum(greatest(p.reltuples, 0)), 0) AS rows
  FROM pg_class p WHERE (c.relkind <> 'p' AND p.oid = c.oid)
    OR (c.relkind = 'p' AND p.relkind = 'r' AND p.oid IN (SELECT t.relid FROM pg_partition_tree(c.oid) t))
) s
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')
"""

_COLUMNS = """
SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null,
  a.attgenerated <> '' AS generated,
  CASE WHEN a.attidentity <> ''
       THEN format('nextval(%L::regclass)', pg_get_serial_sequence($2, a.attname))
       ELSE pg_get_expr(d.adbin, d.adrelid) END AS filled
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = $1::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

_TRAFFIC = """
SELECT coalesce(s.seq_scan, 0) + coalesce(s.idx_scan, 0) AS reads, s.n_tup_ins + s.n_tup_upd + s.n_tup_del AS writes,
  extract(epoch FROM clock_timestamp() - greatest(d.stats_reset, pg_postmaster_start_time()))::float8 AS seconds
FROM pg_stat_user_tables s, pg_stat_database d WHERE s.relid = $1::bigint::oid AND d.datname = current_database()
"""

_LONGEST_TRANSACTION = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8
FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database() AND backend_type = 'client backend'
"""


_LOCK_TIMEOUT = "2s"
"""Of a session that only reads: to measure a table takes ACCESS SHARE, which waits behind another session's DDL."""


async def read_schema(dsn: str, *, timeout: float = 5.0) -> SchemaSnapshot:
    """Reads the schema of a database, with the search_path of a session of this role; takes no lock on its tables.

    Raises:
        DatabaseError: the database cannot be read.
    """
    conn = await _connect(dsn, timeout)
    try:
        with translate_errors(dsn):
            return await read_schema_snapshot(conn)
    finally:
        await conn.close()


async def _connect(dsn: str, timeout: float) -> Connection:
    return await connect(
        dsn,
        application_name="zdd advise",
        timeout=timeout,
        default_transaction_read_only="on",
        lock_timeout=_LOCK_TIMEOUT,
    )


async def read_database_stats(dsn: str, tables: Iterable[TableName], *, timeout: float = 5.0) -> DatabaseStats:
    """Reads the tables; takes no lock that blocks the application.

    Raises:
        DatabaseError: the database cannot be read.
    """
    conn = await _connect(dsn, timeout)
    tables_found: dict[str, LiveTableStats] = {}
    missing = []
    try:
        with translate_errors(dsn):
            # Definitions and types then come with their schemas.
            await conn.execute("SET search_path = pg_catalog")
            for table in dict.fromkeys(tables):
                stats = await _read_table_stats(conn, table)
                if stats is None:
                    missing.append(table)
                else:
                    tables_found[str(table)] = stats
            longest = await conn.fetchval(_LONGEST_TRANSACTION)
    finally:
        await conn.close()
    return DatabaseStats(describe_dsn(dsn), tables_found, tuple(missing), longest)


async def _read_table_stats(conn: Connection, table: TableName) -> LiveTableStats | None:
    row = await conn.fetchrow(_TABLE, table.schema_, table.name)
    if row is None:
        return None
    columns = await conn.fetch(
        _COLUMNS, row["oid"], await conn.fetchval("SELECT $1::bigint::regclass::text", row["oid"])
    )
    traffic = await conn.fetchrow(_TRAFFIC, row["oid"])
    seconds = traffic["seconds"] if traffic else None
    not_null = {column["name"] for column in columns if column["not_null"]}
    for check in row["checks"]:
        definition, _, column = check.rpartition("|")
        # The form that pg_get_constraintdef prints, whatever the author wrote.
        if definition.startswith("CHECK ((") and definition.endswith(" IS NOT NULL))"):
            not_null.add(column)
    return LiveTableStats(
        table=table,
        rows=row["rows"],
        heap_bytes=row["heap"],
        index_bytes=row["indexes"],
        columns={column["name"]: column["type"] for column in columns},
        key=tuple(row["key"]),
        defaults={
            column["name"]: column["filled"] for column in columns if column["filled"] and not column["generated"]
        },
        generated=frozenset(column["name"] for column in columns if column["generated"]),
        not_null=frozenset(not_null),
        indexes=tuple(row["index_defs"]),
        triggers=tuple(row["triggers"]),
        referenced_by=tuple(row["referenced_by"]),
        is_ordinary=row["ordinary"],
        reads=traffic["reads"] / seconds if traffic and seconds else None,
        writes=traffic["writes"] / seconds if traffic and seconds else None,
    )

"""Shape of tables: structure from the copy, sizes and distributions from production's statistics.

Only frequencies are read, never a value: `most_common_freqs` and not `most_common_vals`.
"""

import json
from dataclasses import dataclass, replace

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.model.sql import quote_qualified

# One JSON document for a table: names as production has them, constraints in the server's own words.
_STRUCTURE = """
SELECT json_build_object(
  'columns', (SELECT coalesce(json_agg(json_build_object(
      'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'not_null', a.attnotnull,
      'identity', a.attidentity, 'generated', a.attgenerated <> '',
      'base', b.typname, 'typmod', CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
      'element', CASE WHEN b.typcategory = 'A' THEN e.typname END,
      'default', CASE WHEN a.atthasdef AND a.attgenerated = '' THEN (
          SELECT pg_get_expr(f.adbin, f.adrelid) FROM pg_attrdef f WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum)
        END,
      'labels', (SELECT json_agg(l.enumlabel ORDER BY l.enumsortorder) FROM pg_enum l
                 WHERE l.enumtypid = CASE WHEN b.typcategory = 'A' THEN e.oid ELSE b.oid END),
      'sequence', (SELECT s.refobjid::bigint::oid::regclass::text FROM pg_attrdef f
                   JOIN pg_depend s ON s.classid = 'pg_attrdef'::regclass AND s.objid = f.oid
                   JOIN pg_class q ON q.oid = s.refobjid AND q.relkind = 'S'
                   WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum LIMIT 1)
    ) ORDER BY a.attnum), '[]')
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
    LEFT JOIN pg_type e ON e.oid = b.typelem
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'unique', (SELECT coalesce(json_agg(u.columns), '[]') FROM (
      SELECT CASE WHEN i.indpred IS NULL AND i.indexprs IS NULL THEN (
          SELECT json_agg(a.attname ORDER BY k.n) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum WHERE k.n <= i.indnkeyatts)
        ELSE (
          -- of an expression or a part of the table: the columns that it mentions
          SELECT json_agg(DISTINCT a.attname) FROM pg_depend d
          JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
          WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = c.oid) END AS columns
      FROM pg_index i WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion)
      ORDER BY i.indisprimary DESC, i.indexrelid) u WHERE u.columns IS NOT NULL),
  'foreign', (SELECT coalesce(json_agg(json_build_object(
      'schema', n.nspname, 'table', r.relname,
      'columns', (SELECT json_agg(a.attname ORDER BY k.n) FROM unnest(f.conkey) WITH ORDINALITY AS k (attnum, n)
                  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum),
      'refers', (SELECT json_agg(a.attname ORDER BY k.n) FROM unnest(f.confkey) WITH ORDINALITY AS k (attnum, n)
                 JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = k.attnum)
    ) ORDER BY cardinality(f.conkey) DESC, f.oid), '[]')
    FROM pg_constraint f JOIN pg_class r ON r.oid = f.confrelid JOIN pg_namespace n ON n.oid = r.relnamespace
    WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.conparentid = 0),
  'checks', (SELECT coalesce(json_object_agg(k.conname, pg_get_expr(k.conbin, k.conrelid)), '{}')
    FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c')
)::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2
"""

_SIZES = """
SELECT greatest(c.reltuples, -1)::bigint AS rows, pg_total_relation_size(c.oid)::bigint AS bytes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2
"""

_STATISTICS = """
SELECT DISTINCT ON (attname) attname AS name, null_frac::float8 AS nulls, avg_width AS width,
       n_distinct::float8 AS distinct, coalesce(most_common_freqs::float8[], '{}') AS common
FROM pg_stats WHERE schemaname = $1 AND tablename = $2 ORDER BY attname, inherited DESC
"""


@dataclass(frozen=True, slots=True)
class ColumnStats:
    """A column: its type, and how its values are spread.

    Attributes:
        base: name of the type, that under a domain for a domain.
        element: name of the element's type, for an array.
        sequence: it takes its values from this one by default, else empty.
        default: expression of its default, else empty.
        null_fraction: share of NULL, 0 to 1.
        width: average bytes.
        n_distinct: as in pg_stats: a number, or a negative share of the rows; 0 where it is not known.
        common_frequencies: frequencies of the most common values, greatest first.
    """

    name: str
    type: str
    base: str
    typmod: int = -1
    not_null: bool = False
    identity: str = ""
    generated: bool = False
    element: str | None = None
    labels: tuple[str, ...] = ()
    sequence: str = ""
    default: str = ""
    null_fraction: float = 0.0
    width: int = 12
    n_distinct: float = 0.0
    common_frequencies: tuple[float, ...] = ()

    @property
    def constant_default(self) -> str:
        """A default that is a plain constant: most likely the most common value; else empty."""
        return self.default if self.default and "(" not in self.default else ""

    @property
    def has_server_default(self) -> bool:
        """An INSERT may leave it to the server."""
        return bool(self.identity or self.sequence)


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns that refer to those of another table."""

    schema: str
    table: str
    columns: tuple[str, ...]
    referenced_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableStats:
    """A table.

    Attributes:
        rows: in production, by its statistics.
        bytes: in production, indexes and TOAST included.
        unique: columns of each unique index (or exclusion constraint), the primary key first.
        checks: expression of each CHECK, by name.
        is_analyzed: production has statistics of its columns.
    """

    schema: str
    name: str
    columns: tuple[ColumnStats, ...]
    rows: int = 0
    bytes: int = 0
    unique: tuple[tuple[str, ...], ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    checks: tuple[tuple[str, str], ...] = ()
    is_analyzed: bool = False

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        return quote_qualified(self.schema, self.name)

    def column(self, name: str) -> ColumnStats:
        return next(column for column in self.columns if column.name == name)

    @property
    def insertable_columns(self) -> tuple[ColumnStats, ...]:
        return tuple(column for column in self.columns if not column.generated)


async def read_structure(conn: Connection, schema: str, name: str) -> TableStats:
    """A table of the copy, its sizes and distributions still unknown."""
    # Type names are then qualified: they are used in casts.
    async with conn.transaction():
        before = await conn.fetchval("SELECT current_setting('search_path')")
        await conn.execute("SET LOCAL search_path = pg_catalog")
        raw = json.loads(await conn.fetchval(_STRUCTURE, schema, name))
        await conn.execute("SELECT set_config('search_path', $1, true)", before)
    columns = tuple(
        ColumnStats(
            **{key: value for key, value in column.items() if key not in ("labels", "sequence", "default")},
            labels=tuple(column["labels"] or ()),
            sequence=column["sequence"] or "",
            default=column["default"] or "",
        )
        for column in raw["columns"]
    )
    foreign = tuple(
        ForeignKey(key["schema"], key["table"], tuple(key["columns"]), tuple(key["refers"])) for key in raw["foreign"]
    )
    return TableStats(
        schema,
        name,
        columns,
        unique=tuple(tuple(names) for names in raw["unique"]),
        foreign_keys=foreign,
        checks=tuple(raw["checks"].items()),
    )


async def with_statistics(conn: Connection, table: TableStats) -> TableStats:
    """The shape with production's sizes and distributions; ``conn`` is a session of production.

    Rows of a table that was never analyzed are counted, if that takes no longer than a few seconds.
    """
    sizes = await conn.fetchrow(_SIZES, table.schema, table.name)
    if sizes is None:
        return table
    found = {row["name"]: row for row in await conn.fetch(_STATISTICS, table.schema, table.name)}
    rows = sizes["rows"] if sizes["rows"] > 0 else await _count_rows(conn, table, sizes["bytes"])
    columns = tuple(
        replace(
            column,
            null_fraction=known["nulls"],
            width=known["width"],
            n_distinct=known["distinct"],
            common_frequencies=tuple(known["common"]),
        )
        if (known := found.get(column.name))
        else column
        for column in table.columns
    )
    return replace(table, columns=columns, rows=rows, bytes=sizes["bytes"], is_analyzed=bool(found))


async def _count_rows(conn: Connection, table: TableStats, size: int) -> int:
    try:
        return int(await conn.fetchval(f"SELECT count(*) FROM {table.sql}", timeout=5.0))  # noqa: S608 - quoted
    except TimeoutError:
        return max(1, size // 100)  # a usual row with its share of the indexes

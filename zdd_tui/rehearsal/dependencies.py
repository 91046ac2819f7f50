"""The database objects that belong to the tables of a plan: what they depend on, and what depends on them."""

# ruff: noqa: S608  only our own condition is put together

from dataclasses import dataclass
from typing import TypeAlias

from zdd_tui.backends.postgres.catalog import find_table
from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.model.plan.base import Plan, TableName

Object: TypeAlias = tuple[int, int]
"""(oid of the catalog, oid of the object), as in pg_depend and in the table of contents of a dump."""

_USER_SCHEMAS = "n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'zdd', 'zdd_archive')"

# Tables that refer to the plan's: their foreign keys take part in its locks. Views on them: they are in the way of a
# drop, and the application reads them.
_DEPENDENTS = """
SELECT 'pg_class'::regclass::oid::bigint AS classid, c.conrelid::bigint AS objid FROM pg_constraint c
WHERE c.contype = 'f' AND c.confrelid = ANY ($1::bigint[]::oid[])
UNION
SELECT 'pg_class'::regclass::oid::bigint, r.ev_class::bigint FROM pg_depend d
JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY ($1::bigint[]::oid[])
"""

_NEEDED = f"""
WITH o AS (SELECT * FROM unnest($1::bigint[]::oid[], $2::bigint[]::oid[]) AS t (classid, objid))
-- what they cannot be without
SELECT d.refclassid::bigint AS classid, d.refobjid::bigint AS objid
FROM o JOIN pg_depend d ON d.classid = o.classid AND d.objid = o.objid
UNION
-- what is part of them: constraints, defaults, indexes, triggers, sequences, partitions
SELECT d.classid::bigint, d.objid::bigint
FROM o JOIN pg_depend d ON d.refclassid = o.classid AND d.refobjid = o.objid AND d.deptype IN ('a', 'i', 'P', 'S')
WHERE o.classid IN ('pg_class'::regclass, 'pg_type'::regclass, 'pg_constraint'::regclass)
  AND d.classid IN ('pg_class'::regclass, 'pg_constraint'::regclass, 'pg_attrdef'::regclass, 'pg_trigger'::regclass,
                    'pg_rewrite'::regclass, 'pg_statistic_ext'::regclass, 'pg_type'::regclass)
UNION
-- what the bodies of functions name; the server keeps no record of that
SELECT 'pg_class'::regclass::oid::bigint, c.oid::bigint
FROM o JOIN pg_proc p ON o.classid = 'pg_proc'::regclass AND p.oid = o.objid
JOIN pg_language l ON l.oid = p.prolang AND l.lanname NOT IN ('c', 'internal')
JOIN pg_class c ON c.relkind IN ('r', 'p', 'v', 'm', 'S')
  AND p.prosrc ~* ('\\m' || regexp_replace(c.relname, '(\\W)', '\\\\\\1', 'g') || '\\M')
JOIN pg_namespace n ON n.oid = c.relnamespace AND {_USER_SCHEMAS}
UNION
SELECT 'pg_proc'::regclass::oid::bigint, f.oid::bigint
FROM o JOIN pg_proc p ON o.classid = 'pg_proc'::regclass AND p.oid = o.objid
JOIN pg_language l ON l.oid = p.prolang AND l.lanname NOT IN ('c', 'internal')
JOIN pg_proc f ON f.oid <> p.oid
  AND p.prosrc ~* ('\\m' || regexp_replace(f.proname, '(\\W)', '\\\\\\1', 'g') || '\\s*\\(')
JOIN pg_namespace n ON n.oid = f.pronamespace AND {_USER_SCHEMAS}
"""

_RELATIONS = f"""
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       c.relispartition AS is_partition
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'i', 'I') AND {_USER_SCHEMAS}
"""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, view, sequence or index.

    Attributes:
        kind: pg_class.relkind.
        is_partition: it is a partition of another.
    """

    oid: int
    schema: str
    name: str
    kind: str
    is_partition: bool = False

    @property
    def is_table(self) -> bool:
        return self.kind in ("r", "p")

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What is brought over.

    Attributes:
        included: relations that belong to it.
        excluded: those that do not.
    """

    objects: frozenset[Object]
    included: tuple[Relation, ...]
    excluded: tuple[Relation, ...]

    @property
    def tables(self) -> tuple[Relation, ...]:
        """Tables that rows can be put into; partitions get theirs through the table that they are part of."""
        return tuple(relation for relation in self.included if relation.is_table and not relation.is_partition)


async def read_dependencies(conn: Connection, plan: Plan) -> Dependencies:
    """Follows dependencies from the plan's tables until nothing is added."""
    oids = [oid for table in (plan.change.table, plan.change.into) if (oid := await _oid(conn, table))]
    table_class = int(await conn.fetchval("SELECT 'pg_class'::regclass::oid::bigint"))
    objects = {(table_class, oid) for oid in oids}
    objects |= await _follow_dependents(conn, oids)
    fresh = objects
    while fresh:
        pairs = sorted(fresh)
        rows = await conn.fetch(_NEEDED, [pair[0] for pair in pairs], [pair[1] for pair in pairs])
        fresh = {(row["classid"], row["objid"]) for row in rows if row["objid"]} - objects
        objects |= fresh
    relations = [Relation(**row) for row in await conn.fetch(_RELATIONS)]
    ours = {objid for _, objid in objects}
    return Dependencies(
        frozenset(objects),
        tuple(relation for relation in relations if relation.oid in ours),
        tuple(relation for relation in relations if relation.oid not in ours),
    )


async def _follow_dependents(conn: Connection, oids: list[int]) -> set[Object]:
    """Tables and views that depend on the given ones; views on those views too, but no tables of tables."""
    found: set[Object] = set()
    while oids:
        rows = {(row["classid"], row["objid"]) for row in await conn.fetch(_DEPENDENTS, oids)} - found
        found |= rows
        views = await conn.fetch(
            "SELECT oid::bigint FROM pg_class WHERE oid = ANY ($1::bigint[]::oid[]) AND relkind IN ('v', 'm')",
            [objid for _, objid in rows],
        )
        oids = [row["oid"] for row in views]
    return found


async def _oid(conn: Connection, table: TableName | None) -> int | None:
    found = await find_table(conn, table.schema_, table.name) if table else None
    return found["oid"] if found else None

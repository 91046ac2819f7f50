"""Indexes of partitioned tables: PostgreSQL builds none concurrently, so each partition's is built by itself."""

from dataclasses import dataclass
from typing import Any

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.model.operations.indexes import choose_index_name, distinct_name, make_object_name
from zdd_tui.model.sql import deparse, name_sql, parse_sql, quote_qualified

_PARTITIONS = """
SELECT n.nspname::text AS schema, c.relname::text AS name, c.relkind = 'p' AS is_partitioned
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = to_regclass($1) AND c.relkind IN ('r', 'p') ORDER BY c.oid
"""

_OWN_INDEX = """
SELECT c.relname::text AS name, i.inhrelid IS NOT NULL AS is_attached
FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = to_regclass($1)
WHERE x.indrelid = to_regclass($2) AND (i.inhrelid IS NOT NULL OR c.relname = ANY($3))
ORDER BY 2 DESC
"""

# PostgreSQL compares without storage parameters and the order of each column (CompareIndexInfo, catalog/index.c).
_INDEXES = """
SELECT c.relname::text AS name, pg_get_indexdef(c.oid) AS definition
FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
WHERE x.indrelid = to_regclass($1) AND x.indisvalid AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid)
ORDER BY c.oid
"""

_INDEX_TREE = """
SELECT n.nspname::text AS schema, c.relname::text AS name, c.relkind = 'I' AS is_parent,
       pg_get_indexdef(c.oid) AS definition, p.relname::text AS parent, pn.nspname::text AS parent_schema
FROM pg_partition_tree(to_regclass($1)) t JOIN pg_class c ON c.oid = t.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class p ON p.oid = t.parentrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE t.level > 0 ORDER BY t.level, c.oid
"""

ATTACH_SEPARATOR = ";\n"


@dataclass(frozen=True, slots=True)
class IndexBuild:
    """One index of a tree.

    Attributes:
        is_parent: of a partitioned table: only an entry of the catalog.
        attach: the statement that joins it to its parent; empty for the root.
        adopted: definition of an index that was there before and is attached, as PostgreSQL does it; else empty.
    """

    schema: str
    name: str
    statement: str
    is_parent: bool
    attach: str
    exists: bool = False
    is_attached: bool = False
    adopted: str = ""


async def is_partitioned_table(conn: Connection, table: str) -> bool:
    """
    Args:
        table: as SQL.
    """
    return bool(await conn.fetchval("SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass($1)", table))


async def is_partitioned_index(conn: Connection, schema: str, name: str) -> bool:
    """Whether it is the index of a partitioned table; False where there is none."""
    kind = await conn.fetchval(
        "SELECT relkind FROM pg_class WHERE oid = to_regclass($1)", quote_qualified(schema, name)
    )
    return kind in (b"I", "I")


async def is_attached_index(conn: Connection, schema: str, name: str) -> bool:
    """Whether it belongs to the index of a partitioned table, and can only be dropped with that."""
    query = "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass($1))"
    return bool(await conn.fetchval(query, quote_qualified(schema, name)))


def root_statement(statement: str, schema: str) -> str:
    """The statement that builds the index of a partitioned table alone: an entry of the catalog."""
    tree = parse_sql(statement)
    index = tree.stmts[0].stmt.index_stmt
    index.concurrent, index.relation.inh, index.relation.schemaname = False, False, schema
    return deparse(tree)


async def list_index_builds(conn: Connection, statement: str, schema: str, made: list[list[str]]) -> list[IndexBuild]:
    """The indexes to build below that of :func:`root_statement`, which is there; parents before their partitions.

    Args:
        statement: CREATE INDEX on the partitioned table.
        schema: of the table.
        made: schema and name of the indexes that the step has begun to build.
    """
    if is_without_partitions(statement):
        return []
    root = root_statement(statement, schema)
    tree = parse_sql(root)
    name = tree.stmts[0].stmt.index_stmt.idxname
    built = await conn.fetchval("SELECT pg_get_indexdef(to_regclass($1))", quote_qualified(schema, name))
    return await _list_partitions(conn, tree, IndexBuild(schema, name, root, True, ""), made, _comparable(built))


def is_without_partitions(statement: str) -> bool:
    """Whether it builds the index of a partitioned table alone, which is not valid before each partition has one."""
    return not parse_sql(statement).stmts[0].stmt.index_stmt.relation.inh


def _comparable(definition: str) -> str:
    """What two indexes have in common that PostgreSQL takes for the same, whatever their tables and names are."""
    tree = parse_sql(definition)
    index = tree.stmts[0].stmt.index_stmt
    index.idxname, index.relation.relname, index.relation.schemaname, index.relation.inh = "i", "t", "", True
    del index.options[:]
    for each in index.index_params:
        each.index_elem.ordering, each.index_elem.nulls_ordering = 1, 1
    return deparse(tree)


async def _list_partitions(
    conn: Connection, tree: Any, parent: IndexBuild, made: list[list[str]], wanted: str
) -> list[IndexBuild]:
    builds: list[IndexBuild] = []
    table = tree.stmts[0].stmt.index_stmt.relation
    parent_table = quote_qualified(table.schemaname, table.relname)
    parent_index = quote_qualified(parent.schema, parent.name)
    for row in await conn.fetch(_PARTITIONS, parent_table):
        child = parse_sql(deparse(tree))
        index = child.stmts[0].stmt.index_stmt
        index.relation.schemaname, index.relation.relname = row["schema"], row["name"]
        begun = [name for schema, name in made if schema == row["schema"]]
        own = await conn.fetchrow(_OWN_INDEX, parent_index, quote_qualified(row["schema"], row["name"]), begun)
        taken = {each.name for each in builds if each.schema == row["schema"]} | await _names(conn, row["schema"])
        present = await conn.fetch(_INDEXES, quote_qualified(row["schema"], row["name"])) if own is None else []
        same = next((each for each in present if _comparable(each["definition"]) == wanted), None)
        found = own or same
        name = found["name"] if found else choose_index_name(index, taken)
        index.idxname, index.concurrent = name, not row["is_partitioned"]
        index.relation.inh = not row["is_partitioned"]
        build = IndexBuild(
            row["schema"],
            name,
            deparse(child),
            row["is_partitioned"],
            f"ALTER INDEX {parent_index} ATTACH PARTITION {quote_qualified(row['schema'], name)}",
            exists=same is not None or (own is not None and row["is_partitioned"]),
            is_attached=own is not None and own["is_attached"],
            adopted=same["definition"] if same else "",
        )
        builds.append(build)
        if row["is_partitioned"] and same is None:
            index.concurrent, index.relation.inh = False, False
            builds += await _list_partitions(conn, child, build, made, wanted)
    return builds


_LEAVES = """
SELECT n.nspname::text AS schema, c.relname::text AS name,
  (SELECT i.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
   WHERE x.indrelid = c.oid AND i.relname = ANY ($2)) AS begun,
  EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.conname = ANY ($2) AND k.conindid <> 0) AS is_done
FROM pg_partition_tree(to_regclass($1)) t JOIN pg_class c ON c.oid = t.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' ORDER BY c.oid
"""


async def list_key_builds(
    conn: Connection, statement: str, key: str, schema: str, made: list[list[str]]
) -> list[IndexBuild]:
    """The unique index of each partition for a constraint of a partitioned table; ``attach`` makes it a constraint.

    A partition that has the constraint already, as one of its own, gets it a second time.

    Args:
        statement: CREATE UNIQUE INDEX on the partitioned table.
        key: ``UNIQUE`` or ``PRIMARY KEY``.
        schema: of the table.
        made: schema and name of the indexes that the step has begun to build.
    """
    tree = parse_sql(statement)
    index = tree.stmts[0].stmt.index_stmt
    table = quote_qualified(schema, index.relation.relname)
    parts = [each.index_elem.name for each in (*index.index_params, *index.index_including_params)]
    columns, label = ("", "pkey") if key == "PRIMARY KEY" else ("_".join(parts), "key")
    builds: list[IndexBuild] = []

    def choose_name(relation: str, taken: set[str]) -> str:
        return distinct_name(lambda suffix: make_object_name(relation, columns, f"{label}{suffix}"), taken)

    for row in await conn.fetch(_LEAVES, table, [name for _, name in made]):
        taken = {each.name for each in builds if each.schema == row["schema"]} | await _names(conn, row["schema"])
        relation = row["name"]
        name = row["begun"] or choose_name(relation, taken)
        index.relation.schemaname, index.relation.relname, index.idxname = row["schema"], relation, name
        attach = f"ALTER TABLE {quote_qualified(row['schema'], relation)} ADD CONSTRAINT {quote_qualified(name)} {key}"
        builds.append(
            IndexBuild(
                row["schema"],
                name,
                deparse(tree),
                False,
                f"{attach} USING INDEX {quote_qualified(name)}",
                is_attached=row["is_done"],
            )
        )
    return builds


async def drop_key_sql(conn: Connection, schema: str, name: str) -> str | None:
    """The statement that drops the constraint of an index, and the index with it; None where it has none."""
    drop = await conn.fetchval(
        "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint"
        " WHERE conindid = to_regclass($1) AND contype IN ('p', 'u')",
        quote_qualified(schema, name),
    )
    return None if drop is None else str(drop)


async def _names(conn: Connection, schema: str) -> set[str]:
    rows = await conn.fetch(
        "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace($1)", name_sql(schema)
    )
    return {row[0] for row in rows}


async def find_index_partitions(conn: Connection, schema: str, name: str) -> list[list[str]]:
    """Schema, name and definition of the indexes below one, parents first.

    What follows :data:`ATTACH_SEPARATOR` in a definition attaches the index to its parent.
    """
    rows = await conn.fetch(_INDEX_TREE, quote_qualified(schema, name))
    return [
        [
            row["schema"],
            row["name"],
            f"{row['definition']}{ATTACH_SEPARATOR}ALTER INDEX {quote_qualified(row['parent_schema'], row['parent'])}"
            f" ATTACH PARTITION {quote_qualified(row['schema'], row['name'])}",
        ]
        for row in rows
    ]

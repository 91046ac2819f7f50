"""Statements over rows: a page of keys, a batch, a comparison, a sample.

Keys are passed as text, one parameter a column, and are cast to the column's type on the server. Parameters of a page:
the lower bound (exclusive; left out for the first page), then the upper bound (inclusive; left out for the last).
"""

# ruff: noqa: S608  names are quoted, expressions have passed the lint, values are parameters

from collections.abc import Sequence
from typing import TypeAlias

from zdd_tui.model.ddl.catalog import Catalog, CatalogColumn, Table
from zdd_tui.model.ddl.names import old_column_name
from zdd_tui.model.ddl.sync import (
    distinct_condition,
    new_fields,
    overriding_clause,
    row_source,
    stored_value,
    upsert_clause,
)
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import quote_identifier, quote_literal, quote_names

Key: TypeAlias = tuple[str, ...]

MARKER_AGE_SQL = "CASE WHEN age($1::text::xid8::xid) >= 0 THEN age($1::text::xid8::xid) ELSE 2147483647 END"
"""Age of the transaction whose id is $1. Ids wrap around, so ages reach over half of them: an older transaction gets
the greatest age, and tables are frozen long before that."""


def key_texts(catalog: Catalog, alias: str) -> str:
    """The key's columns as text: ``k1`` and so on."""
    return ", ".join(f"{alias}.{c.sql}::text AS k{n}" for n, c in enumerate(catalog.key, 1))


def last_key_statement(catalog: Catalog) -> str:
    """The greatest key; no row when the table is empty. No parameters."""
    order = key_expressions(catalog, catalog.old, " DESC")
    keys = key_texts(catalog, quote_identifier(catalog.old.name))
    return f"SELECT {keys} FROM {catalog.old.sql} ORDER BY {order} LIMIT 1"


def range_ends_statement(catalog: Catalog) -> str:
    """The greatest key of each of several ranges of the table, of about the same size, in order.

    Parameters: the table's upper bound, the sample's size (percent), the number of ranges.
    """
    number = len(catalog.key)
    order = key_expressions(catalog, catalog.old)
    last = key_expressions(catalog, catalog.old, " DESC")
    name = quote_identifier(catalog.old.name)
    return (
        f"SELECT {key_texts(catalog, name)} FROM (\n"
        f"  SELECT DISTINCT ON (zdd_range) * FROM (\n"
        f"    SELECT {order}, ntile(${number + 2}::integer) OVER (ORDER BY {order}) AS zdd_range\n"
        f"    FROM {catalog.old.sql} TABLESAMPLE SYSTEM (${number + 1}::real)\n"
        f"    WHERE {bounds_condition(catalog, catalog.old, first=True)}\n"
        f"  ) AS {name} ORDER BY zdd_range, {last}\n"
        f") AS {name} ORDER BY zdd_range"
    )


def page_statement(catalog: Catalog, *, first: bool, last: bool = False) -> str:
    """The number of keys on the next page (``rows``) and its last key. Parameters: bounds, then the page's size.

    A full page is one step along the index; only where there is none, the rest is counted.
    """
    size = f"${1 + len(catalog.key) * ((not first) + (not last))}::bigint"
    order = key_expressions(catalog, catalog.old)
    source = f"FROM {catalog.old.sql} WHERE {bounds_condition(catalog, catalog.old, first=first, last=last)}"
    return (
        f"WITH full_page AS (SELECT {order} {source} ORDER BY {order} OFFSET {size} - 1 LIMIT 1)\n"
        f"SELECT {size} AS rows, {key_texts(catalog, 'full_page')} FROM full_page\n"
        f"UNION ALL (\n"
        f"  SELECT rest.rows, {key_texts(catalog, 'rest')} FROM (\n"
        f"    SELECT {order}, row_number() OVER (ORDER BY {order}) AS rows {source}\n"
        f"    AND NOT EXISTS (SELECT FROM full_page)\n"
        f"  ) AS rest ORDER BY rest.rows DESC LIMIT 1)"
    )


def batch_statement(plan: Plan, catalog: Catalog, *, first: bool = False, target_is_empty: bool = False) -> str:
    """Updates the rows of a page; rows that agree are not written. Parameters: both bounds.

    Args:
        target_is_empty: the new table has no row of the page. Then a plain INSERT is enough, which costs the server
            half of an upsert; if another session inserts first, it fails with a unique violation.
    """
    return _batch(plan, catalog, bounds_condition(catalog, catalog.old, first=first), target_is_empty)


def target_is_empty_statement(catalog: Catalog, *, first: bool = False) -> str:
    """Whether the new table has no row of a page. Parameters: both bounds."""
    page = bounds_condition(catalog, catalog.new_table, first=first)
    return f"SELECT NOT EXISTS (SELECT FROM {catalog.new_table.sql} WHERE {page})"


def batch_row_statement(plan: Plan, catalog: Catalog) -> str:
    """As :func:`batch_statement`, for one row. Parameters: its key."""
    return _batch(plan, catalog, key_condition(catalog, catalog.old))


def has_row_statement(catalog: Catalog) -> str:
    """Whether the old side has a row. Parameters: its key."""
    return f"SELECT EXISTS (SELECT FROM {catalog.old.sql} WHERE {key_condition(catalog, catalog.old)})"


def remove_orphan_statements(catalog: Catalog) -> tuple[str, str]:
    """Removes a row of the new table that the old one does not have. Parameters: its key.

    The first statement locks the row, so that the second one, with a newer snapshot, sees an old row that a writer of
    both tables has committed meanwhile.
    """
    found, wanted = key_condition(catalog, catalog.new_table), key_condition(catalog, catalog.old)
    return (
        f"SELECT FROM {catalog.new_table.sql} WHERE {found} FOR UPDATE",
        f"DELETE FROM {catalog.new_table.sql} WHERE {found}"
        f" AND NOT EXISTS (SELECT FROM {catalog.old.sql} WHERE {wanted})",
    )


def lock_row_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """Locks a row on both sides, the old one first, as everything that locks both does. Parameters: its key."""
    return tuple(
        f"SELECT FROM {table.sql} WHERE {key_condition(catalog, table)} FOR UPDATE" for table in _tables(plan, catalog)
    )


def copy_down_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """Makes the old side of a row what ``down`` gives. Parameters: its key.

    Table kind: updates, inserts or deletes the row of the old table.
    """
    columns = catalog.old.require_columns(plan.change.down)
    stored = [old_column_name(plan, column.name, catalog.is_archived) for column in columns]
    values = ", ".join(f"({plan.change.down[column.name]})" for column in columns)
    names, fields = quote_names(stored), new_fields(plan, catalog)
    old = catalog.old.sql
    if plan.change.kind == "column":
        row = row_source("zdd_t", fields, plan.change.table.name)
        return (f"UPDATE {old} AS zdd_t SET ({names}) = (SELECT {values} FROM {row}) WHERE {_is_aliased(catalog)}",)
    read = ", ".join(f"zdd_n.{quote_identifier(field)} AS {quote_identifier(name)}" for name, field in fields.items())
    row = f"SELECT {read} FROM {catalog.new_table.sql} AS zdd_n WHERE {_is_aliased(catalog, 'zdd_n')}"
    source = f"FROM ({row}) AS {quote_identifier(plan.change.target_table.name)}"
    missing = f"NOT EXISTS (SELECT {source})"
    keys = quote_names(catalog.key_names)
    return (
        f"DELETE FROM {old} AS zdd_t WHERE {_is_aliased(catalog)} AND {missing}",
        f"UPDATE {old} AS zdd_t SET ({names}) = (SELECT {values} {source}) WHERE {_is_aliased(catalog)}",
        f"INSERT INTO {old} ({keys}, {names}){overriding_clause(catalog.old, catalog.key_names)}\n"
        f"SELECT {keys}, {values} {source} ON CONFLICT ({keys}) DO NOTHING",
    )


def written_since_statement(plan: Plan, catalog: Catalog) -> str:
    """Whether the row of each side was written since a transaction; NULL where a side has no row.

    Columns of the result: ``old``, ``new``; in the column kind they are of one row. Parameters: a transaction's id
    (text), then the row's key.
    """
    tables = _tables(plan, catalog)
    written = [
        f"(SELECT age({quote_identifier(table.name)}.xmin) <= (SELECT {MARKER_AGE_SQL}) FROM {table.sql}"
        f" WHERE {key_condition(catalog, table, first=2)})"
        for table in tables
    ]
    return f"SELECT {written[0]} AS old, {written[-1]} AS new"


def _is_aliased(catalog: Catalog, alias: str = "zdd_t") -> str:
    key = ", ".join(f"{alias}.{column.sql}" for column in catalog.key)
    values = ", ".join(f"${number}::text::{column.type}" for number, column in enumerate(catalog.key, 1))
    return f"({key}) = ({values})"


def keep_side_statements(plan: Plan, catalog: Catalog, keys: Sequence[Key]) -> tuple[str, str]:
    """Two statements for a person, for rows that exist on both sides: one keeps the new side, one the old side."""
    columns = catalog.old.require_columns(plan.change.down)
    stored = quote_names(old_column_name(plan, column.name, catalog.is_archived) for column in columns)
    down = ", ".join(f"({plan.change.down[column.name]})" for column in columns)
    new = new_columns(plan, catalog)
    names, up = quote_names(column.name for column in new), ", ".join(f"({plan.change.up[c.name]})" for c in new)
    given = ", ".join(f"({', '.join(quote_literal(part) for part in key)})" for key in keys)

    def where(table: Table) -> str:
        return f"({key_expressions(catalog, table)}) IN ({given})"

    old, target = catalog.old, catalog.new_table
    if plan.change.kind == "column":
        return (
            f"UPDATE {old.sql} SET ({stored}) = ROW({down}) WHERE {where(old)}",
            f"UPDATE {old.sql} SET ({names}) = ROW({up}) WHERE {where(old)}",
        )
    match = " AND ".join(
        f"{quote_identifier(old.name)}.{column.sql} = {quote_identifier(target.name)}.{column.sql}"
        for column in catalog.key
    )
    return (
        f"UPDATE {old.sql} SET ({stored}) = (SELECT {down} FROM {target.sql} WHERE {match}) WHERE {where(old)}",
        f"UPDATE {target.sql} SET ({names}) = (SELECT {up} FROM {old.sql} WHERE {match}) WHERE {where(target)}",
    )


def key_condition(catalog: Catalog, table: Table, *, first: int = 1) -> str:
    """The condition of one row. Parameters: its key, from the number `first`."""
    key = key_expressions(catalog, table)
    values = ", ".join(f"${number}::text::{column.type}" for number, column in enumerate(catalog.key, first))
    return f"({key}) = ({values})"


def _batch(plan: Plan, catalog: Catalog, page: str, target_is_empty: bool = False) -> str:
    columns = new_columns(plan, catalog)
    names = quote_names(column.name for column in columns)
    up = plan.change.up
    if plan.change.kind == "column":
        table = quote_identifier(catalog.old.name)
        differs = " OR ".join(distinct_condition(c, f"{table}.{c.sql}", stored_value(c, up[c.name])) for c in columns)
        values = ", ".join(f"({up[column.name]})" for column in columns)
        return f"UPDATE {catalog.old.sql} SET ({names}) = ROW({values})\nWHERE {page}\n  AND ({differs})"
    keys = quote_names(catalog.key_names)
    reads = quote_names(_source_columns(plan, catalog))
    values = ", ".join([keys, *(f"({up[column.name]})" for column in columns)])
    clause = overriding_clause(catalog.new_table, catalog.key_names)
    return (
        f"INSERT INTO {catalog.new_table.sql} AS zdd_new ({keys}, {names}){clause}\n"
        f"SELECT {values} FROM (\n"
        # Without the lock a row that is changed or deleted meanwhile would be written with its old values.
        f"  SELECT {reads} FROM {catalog.old.sql} WHERE {page} ORDER BY {keys} FOR SHARE\n"
        f") AS {quote_identifier(plan.change.table.name)}"
        + ("" if target_is_empty else "\n" + upsert_clause(catalog.key_names, list(columns), "zdd_new"))
    )


def verify_statement(plan: Plan, catalog: Catalog, *, first: bool, last: bool, skip_failed_rows: bool = False) -> str:
    """The rows of a page whose sides differ. Parameters: bounds, then, with ``skip_failed_rows``, the release's id.

    Columns of the result: ``key`` (JSON array of texts), ``old`` and ``new`` (whether the row exists), ``differs``
    (names of the new columns that differ). ``skip_failed_rows`` leaves out the rows of zdd.failed_row.
    """
    release = 1 + len(catalog.key) * ((not first) + (not last))
    return _mismatch_query(
        plan,
        catalog,
        [bounds_condition(catalog, table, first=first, last=last) for table in _tables(plan, catalog)],
        release if skip_failed_rows else 0,
    )


def verify_keys_statement(plan: Plan, catalog: Catalog, *, skip_failed_rows: bool = False) -> str:
    """As :func:`verify_statement`, for given keys. Parameters: one ``text[]`` a key column, then the release's id."""
    wanted = ", ".join(f"k{n}::{column.type}" for n, column in enumerate(catalog.key, 1))
    conditions = [
        f"({key_expressions(catalog, table)}) IN (SELECT {wanted} FROM {_given_keys(catalog)})"
        for table in _tables(plan, catalog)
    ]
    return _mismatch_query(plan, catalog, conditions, len(catalog.key) + 1 if skip_failed_rows else 0)


def not_copied_statement(plan: Plan, catalog: Catalog) -> str:
    """The given keys that have no data on the new side: every new column is NULL, or no row in the new table.

    Parameters: one ``text[]`` a key column.
    """
    numbered = list(enumerate(catalog.key, 1))
    matches = " AND ".join(f"new_side.{column.sql} = wanted.k{n}::{column.type}" for n, column in numbered)
    written = " OR ".join(f"new_side.{quote_identifier(column)} IS NOT NULL" for column in plan.change.up)
    is_copied = f"{matches} AND ({written})" if plan.change.kind == "column" else matches
    return (
        f"SELECT jsonb_build_array({', '.join(f'k{n}' for n, _ in numbered)}) AS key FROM {_given_keys(catalog)}\n"
        f"WHERE NOT EXISTS (SELECT FROM {catalog.new_table.sql} AS new_side WHERE {is_copied})"
    )


def recent_rows_statement(catalog: Catalog, table: Table, *, from_end: bool) -> str:
    """Keys of rows that were written since a transaction began.

    Parameters: that transaction's id (text), the number of rows, then the first block (``from_end``) or the percentage
    of blocks to read.
    """
    name = quote_identifier(table.name)
    if from_end:
        source, where = f"{table.sql}", f"{name}.ctid >= ('(' || $3::bigint || ',0)')::tid AND "
    else:
        source, where = f"{table.sql} TABLESAMPLE SYSTEM ($3::real)", ""
    return (
        f"SELECT {key_texts(catalog, name)} FROM {source}\n"
        f"WHERE {where}age({name}.xmin) <= (SELECT {MARKER_AGE_SQL}) LIMIT $2::bigint"
    )


def block_keys_statement(
    catalog: Catalog, table: Table, relation: str, *, recent: bool, other: Table | None = None
) -> str:
    """Keys of the rows in a range of blocks. Parameters: the first block, the block after the last, and with ``recent``
    a transaction's id (text): only rows that were written by it or later, or that the other table lacks.

    Args:
        relation: the table itself or one of its partitions, quoted.
        other: the table of the other side; None where one row has both.
    """
    name = quote_identifier(table.name)
    where = f"{name}.ctid >= ('(' || $1::bigint || ',0)')::tid AND {name}.ctid < ('(' || $2::bigint || ',0)')::tid"
    if recent:
        marker_age = MARKER_AGE_SQL.replace("$1", "$3")
        chosen = f"age({name}.xmin) <= (SELECT {marker_age})"
        if other is not None:
            match = " AND ".join(f"zdd_other.{column.sql} = {name}.{column.sql}" for column in catalog.key)
            chosen += f" OR NOT EXISTS (SELECT FROM {other.sql} AS zdd_other WHERE {match})"
        where += f" AND ({chosen})"
    return f"SELECT {key_texts(catalog, name)} FROM {relation} AS {name} WHERE {where}"


def new_columns(plan: Plan, catalog: Catalog) -> tuple[CatalogColumn, ...]:
    """The columns that ``up`` fills, in the plan's order."""
    return tuple(catalog.new_table.require_columns(plan.change.up))


def _tables(plan: Plan, catalog: Catalog) -> list[Table]:
    return [catalog.old] if plan.change.kind == "column" else [catalog.old, catalog.new_table]


def _source_columns(plan: Plan, catalog: Catalog) -> list[str]:
    return list(dict.fromkeys([*catalog.key_names, *catalog.up_source_columns]))


def key_expressions(catalog: Catalog, table: Table, suffix: str = "") -> str:
    """The key's columns in a table, each with a suffix such as `` DESC``."""
    return ", ".join(f"{quote_identifier(table.name)}.{column.sql}{suffix}" for column in catalog.key)


def _given_keys(catalog: Catalog) -> str:
    """A FROM item of the keys in the parameters, one ``text[]`` a key column: ``k1`` and so on."""
    numbers = range(1, len(catalog.key) + 1)
    arrays = ", ".join(f"${n}::text[]" for n in numbers)
    return f"unnest({arrays}) AS wanted ({', '.join(f'k{n}' for n in numbers)})"


def bounds_condition(catalog: Catalog, table: Table, *, first: bool = False, last: bool = False) -> str:
    """The condition of a page on the rows of a table, or of an alias with the table's key. Parameters: the bounds."""
    key = key_expressions(catalog, table)
    conditions, number = [], 1
    for operator, wanted in ((">", not first), ("<=", not last)):
        if wanted:
            values = ", ".join(f"${number + n}::text::{column.type}" for n, column in enumerate(catalog.key))
            conditions.append(f"({key}) {operator} ({values})")
            number += len(catalog.key)
    return " AND ".join(conditions) or "true"


def _mismatch_query(plan: Plan, catalog: Catalog, conditions: list[str], release: int) -> str:
    columns = new_columns(plan, catalog)
    if plan.change.kind == "column":
        return _column_mismatch_query(plan, catalog, columns, conditions[0], release)
    keys = [quote_identifier(name) for name in catalog.key_names]
    old = (
        f"SELECT {', '.join(keys)}, "
        + ", ".join(f"{stored_value(c, plan.change.up[c.name])} AS zdd_{n}" for n, c in enumerate(columns))
        + f" FROM {_optimization_fence(catalog, catalog.old, _source_columns(plan, catalog), conditions[0], release)}"
        f" AS {quote_identifier(plan.change.table.name)}"
    )
    new_names = [*catalog.key_names, *plan.change.up]
    new = (
        f"SELECT {', '.join(keys)}, "
        + ", ".join(f"{c.sql} AS zdd_{n}" for n, c in enumerate(columns))
        + f" FROM {_optimization_fence(catalog, catalog.new_table, new_names, conditions[1], release)} AS new_side"
    )
    differs = _differs_condition({c: (f"o.zdd_{n}", f"n.zdd_{n}") for n, c in enumerate(columns)})
    joined = " AND ".join(f"o.{key} = n.{key}" for key in keys)
    key = ", ".join(f"coalesce(o.{key}, n.{key})::text" for key in keys)
    return (
        f"SELECT jsonb_build_array({key}) AS key, o.{keys[0]} IS NOT NULL AS old, n.{keys[0]} IS NOT NULL AS new,\n"
        f"  {differs} AS differs\nFROM ({old}) AS o\nFULL JOIN ({new}) AS n ON {joined}\n"
        f"WHERE o.{keys[0]} IS NULL OR n.{keys[0]} IS NULL OR cardinality({differs}) > 0"
    )


def _column_mismatch_query(
    plan: Plan, catalog: Catalog, columns: tuple[CatalogColumn, ...], condition: str, release: int
) -> str:
    table = quote_identifier(catalog.old.name)
    names = dict.fromkeys([*_source_columns(plan, catalog), *plan.change.up])
    differs = _differs_condition({c: (stored_value(c, plan.change.up[c.name]), f"{table}.{c.sql}") for c in columns})
    key = key_expressions(catalog, catalog.old, "::text")
    return (
        f"SELECT compared.key, true AS old, true AS new, compared.differs FROM (\n"
        f"  SELECT jsonb_build_array({key}) AS key, {differs} AS differs\n"
        f"  FROM {_optimization_fence(catalog, catalog.old, list(names), condition, release)} AS {table}\n"
        f") AS compared WHERE cardinality(compared.differs) > 0"
    )


def _optimization_fence(catalog: Catalog, table: Table, names: list[str], condition: str, release: int) -> str:
    """The rows of a page. OFFSET 0 keeps the planner from computing expressions for rows that are left out."""
    key = key_expressions(catalog, table, "::text")
    failed = (
        f" AND jsonb_build_array({key}) NOT IN (SELECT f.key FROM zdd.failed_row AS f"
        f" WHERE f.release_id = ${release}::bigint)"
        if release
        else ""
    )
    return f"(SELECT {quote_names(dict.fromkeys(names))} FROM {table.sql} WHERE {condition}{failed} OFFSET 0)"


def _differs_condition(pairs: dict[CatalogColumn, tuple[str, str]]) -> str:
    cases = ", ".join(
        f"CASE WHEN {distinct_condition(column, left, right)} THEN {quote_literal(column.name)} END"
        for column, (left, right) in pairs.items()
    )
    return f"array_remove(ARRAY[{cases}], NULL)"

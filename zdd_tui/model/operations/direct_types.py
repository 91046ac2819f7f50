"""Changes of a type for which PostgreSQL changes the catalog alone: no row is read, no index is built."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from typing import Any

from zdd_tui.model.sql import name_sql, quote_literal, string_values

NEVER = "SELECT false"
"""The condition of a change for which PostgreSQL rewrites the table, whatever the old type is."""

SMALL_TABLE = 64 * 1024 * 1024
"""Bytes up to which a rollback makes a type narrow again, which rewrites the table under a lock."""

_LENGTHS = {"varchar": 4, "varbit": 0, "time": 0, "timetz": 0, "timestamp": 0, "timestamptz": 0}
"""Types with one modifier, and what PostgreSQL adds to it in pg_attribute.atttypmod."""


def is_direct_query(table: str, column: str, type_name: Any) -> str:
    """A query of one truth value: whether the type changes without reading the table.

    As ATColumnChangeRequiresRewrite and CheckIndexCompatible do: a longer or unlimited varchar, varbit, numeric or
    time, varchar to text and back without a limit, cidr to inet. A CHECK would be tested again for every row, an index
    with an expression or a condition would be built again, both under the lock: then it is not direct. Nor is it where
    a view or a trigger names the column: PostgreSQL refuses the change as long as there is one.
    """
    name, modifiers = string_values(type_name.names)[-1], [_number(each) for each in type_name.typmods]
    if type_name.array_bounds or type_name.setof or None in modifiers:
        return NEVER
    wider = _wider(name, [each for each in modifiers if each is not None])
    if wider == "false":
        return NEVER
    catalog = quote_literal(f"pg_catalog.{name_sql(name)}")
    return f"""SELECT EXISTS (
  SELECT FROM pg_attribute a
  WHERE a.attrelid = to_regclass({quote_literal(table)}) AND a.attname = {quote_literal(column)} AND NOT a.attisdropped
    AND ({wider})
    AND a.attcollation = (SELECT typcollation FROM pg_type WHERE oid = to_regtype({catalog}))
    AND NOT EXISTS (SELECT FROM pg_constraint k
                    WHERE k.conrelid = a.attrelid AND k.contype = 'c' AND a.attnum = ANY (k.conkey))
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid IN ('pg_rewrite'::regclass, 'pg_trigger'::regclass)
                    AND d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum)
    AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_depend d ON d.objid = i.indexrelid
                    AND d.classid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum
                    WHERE i.indrelid = a.attrelid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)))"""


def _number(node: Any) -> int | None:
    constant = node.a_const
    return int(constant.ival.ival) if node.WhichOneof("node") == "a_const" and constant.HasField("ival") else None


def _wider(name: str, modifiers: list[int]) -> str:
    old = "a.atttypid = 'pg_catalog.{}'::regtype"
    same = old.format(name)
    if name not in (*_LENGTHS, "text", "numeric", "interval", "inet"):
        return "false"
    if not modifiers:
        others = {"text": ["varchar"], "varchar": ["text"], "inet": ["cidr"]}.get(name, [])
        return " OR ".join([same, *(old.format(other) for other in others)])
    if name in _LENGTHS:
        return f"{same} AND a.atttypmod BETWEEN 0 AND {modifiers[0] + _LENGTHS[name]}"
    if name == "numeric":
        precision, scale = [*modifiers, 0][:2]
        return (
            f"{same} AND a.atttypmod >= 4 AND (a.atttypmod - 4) >> 16 <= {precision}"
            f" AND (a.atttypmod - 4) & 2047 = {scale & 2047}"
        )
    return "false"


def narrow_again(table: str, column: str) -> str:
    """A query of the statement that takes the change back.

    Narrowing rewrites the table under a lock that blocks everybody, so a table that is large by then keeps the wider
    type, and so does one with values that the narrow type cannot hold: every version can work with it.
    """
    template = (
        f"DO $zdd$ BEGIN IF pg_table_size({quote_literal(table)}::regclass) < {SMALL_TABLE} THEN"
        f" ALTER TABLE {table} ALTER COLUMN {name_sql(column)} TYPE {{{{type}}}}; END IF;"
        " EXCEPTION WHEN data_exception THEN RAISE NOTICE 'the wider type stays'; END $zdd$"
    )
    return (
        f"SELECT replace({quote_literal(template)}, '{{{{type}}}}', format_type(atttypid, atttypmod)) FROM pg_attribute"
        f" WHERE attrelid = to_regclass({quote_literal(table)}) AND attname = {quote_literal(column)}"
    )

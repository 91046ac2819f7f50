"""ALTER COLUMN TYPE to a domain with constraints: the plain statement, in contract, on a small table.

PostgreSQL tests the constraints for every row under a lock that stops everybody, also where it adds an empty column of
such a type, so that no second column can be made beside the first. Where the domain is over the type that the column
has, the values stay as they are: both versions work with them before and after, and only the test takes time.
"""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from collections.abc import Iterable
from typing import Any

from zdd_tui.model.operations.base import MAX_VIOLATIONS, Requirement, Violation, old_object_name, relation_names
from zdd_tui.model.operations.direct_types import NEVER
from zdd_tui.model.operations.generated import block
from zdd_tui.model.operations.rights import recreated_rights_query
from zdd_tui.model.operations.scope import NewDomain
from zdd_tui.model.operations.type_swap import oids_sql
from zdd_tui.model.sql import name_sql, parse_sql, quote_literal, string_values

MAX_BYTES = 4 * 1024 * 1024
"""Of a table, with its long values, that is rewritten under a lock: 0.2 s for narrow rows with three indexes."""

DOMAIN_HINT = "use the domain's base type, and add its condition as a CHECK of the table"

_PLAIN_TYPES = {
    *("bytea", "citext", "cidr", "date", "float4", "float8", "inet", "int2", "int4", "int8", "json", "jsonb", "money"),
    *("name", "oid", "text", "timestamptz", "uuid", "xml"),
}
"""Types that are no domain, by the name that statements give them without a schema."""


def describe_checked_domain(type_name: str) -> str:
    """Why a column cannot get such a type."""
    return f"the new type {type_name} is a domain with constraints, which PostgreSQL tests for every row under a lock"


def is_checked_domain_query(table: str, column: str, type_name: Any, type_sql: str) -> str:
    """A query of one truth value: whether the new type is a domain with constraints over the column's type.

    :data:`zdd_tui.model.operations.direct_types.NEVER` where the name alone shows that it is none.

    Args:
        type_name: a TypeName.
        type_sql: the same as SQL.
    """
    names = string_values(type_name.names)
    is_plain = names[0] == "pg_catalog" or (len(names) == 1 and names[0] in _PLAIN_TYPES)
    if is_plain or type_name.array_bounds or type_name.typmods:
        return NEVER
    return f"{_chains(table, column, type_sql)}SELECT {_IS_CHECKED} AND {_HAS_SAME_BASE}"


def _chains(table: str, column: str, type_sql: str) -> str:
    """The beginning of a query: ``chain`` has, for the sides ``new`` and ``old`` (the column's), the type and each one
    below a domain; ``base`` has the last of them."""
    return f"""WITH RECURSIVE chain (side, type, modifier) AS (
  SELECT * FROM (
    SELECT 'new', to_regtype({quote_literal(type_sql)})::oid, -1
    UNION ALL SELECT 'old', atttypid, atttypmod FROM pg_attribute
    WHERE attrelid = to_regclass({quote_literal(table)}) AND attname = {quote_literal(column)} AND NOT attisdropped
  ) AS given
  UNION ALL SELECT c.side, t.typbasetype, t.typtypmod FROM chain c JOIN pg_type t ON t.oid = c.type
  WHERE t.typtype = 'd'
), base AS (
  SELECT c.side, c.type, c.modifier FROM chain c JOIN pg_type t ON t.oid = c.type WHERE t.typtype <> 'd'
)
"""


_IS_CHECKED = """EXISTS (SELECT FROM chain c JOIN pg_type t ON t.oid = c.type WHERE c.side = 'new' AND t.typtype = 'd'
    AND (t.typnotnull OR EXISTS (SELECT FROM pg_constraint k WHERE k.contypid = t.oid)))"""
_HAS_SAME_BASE = """EXISTS (SELECT FROM base o JOIN base n USING (type, modifier)
    WHERE o.side = 'old' AND n.side = 'new')"""


def domain_requirement(
    table: str,
    column: str,
    type_sql: str,
    removed_views: Iterable[str],
    created: NewDomain | None,
    *,
    is_possible: bool,
) -> Requirement:
    """Refuses a domain with constraints where the plain statement would hold its lock for long, or cannot run.

    Args:
        removed_views: those that the migration drops before, as SQL.
        created: the domain, where the migration creates it.
        is_possible: False refuses every domain with constraints.
    """
    what, shown = quote_literal(describe_checked_domain(type_sql)), quote_literal(f"{table}.{name_sql(column)}: ")
    literal = quote_literal(table)
    if not is_possible:
        return Requirement(f"{_chains(table, column, type_sql)}SELECT {what} WHERE {_IS_CHECKED}", DOMAIN_HINT)
    new, is_checked = (type_sql, _IS_CHECKED) if created is None else (created.base, "true")
    query = f"""{_chains(table, column, new)}, found AS (
  SELECT c.oid AS relation, c.relkind, a.attnum FROM pg_class c
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = {quote_literal(column)} AND NOT a.attisdropped
  WHERE c.oid = to_regclass({literal})
)
SELECT {shown} || {what} || problem FROM found, LATERAL (
  SELECT ', and the table has ' || pg_size_pretty(pg_table_size(relation)) WHERE {_is_large("relation")}
  UNION ALL SELECT ', and the table is partitioned, or inherits, or is inherited'
  WHERE relkind <> 'r' OR EXISTS (SELECT FROM pg_inherits WHERE relation IN (inhparent, inhrelid))
  UNION ALL SELECT ', and the column has another type than the domain is over'
  WHERE attnum IS NOT NULL AND NOT {_HAS_SAME_BASE}
  UNION ALL SELECT ', and the column is used by ' || coalesce(
    (SELECT 'view ' || w.ev_class::regclass FROM pg_rewrite w
     WHERE d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid),
    pg_describe_object(d.classid, d.objid, d.objsubid))
  FROM pg_depend d LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
  LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
  LEFT JOIN pg_attrdef v ON d.classid = 'pg_attrdef'::regclass AND v.oid = d.objid
  WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = relation AND d.refobjsubid = attnum
    AND c.relkind IS DISTINCT FROM 'i' AND c.relkind IS DISTINCT FROM 'S' AND k.conrelid IS DISTINCT FROM relation
    AND v.adnum IS DISTINCT FROM attnum
    AND NOT EXISTS (SELECT FROM pg_rewrite w WHERE d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
                    AND w.ev_class = ANY ({oids_sql(removed_views)}) AND {_IS_PLAIN_VIEW})
) AS problems (problem) WHERE {is_checked}"""
    return Requirement(query, DOMAIN_HINT)


_IS_PLAIN_VIEW = """NOT EXISTS (SELECT FROM pg_rewrite o WHERE o.ev_class = w.ev_class AND o.rulename <> '_RETURN')
    AND NOT EXISTS (SELECT FROM pg_attrdef o WHERE o.adrelid = w.ev_class)"""
"""Over pg_rewrite w: the view is what its query, rights, comments and triggers say."""


def _is_large(relation: str) -> str:
    return f"pg_table_size({relation}) > {MAX_BYTES}"


def domain_violations(table: str, column: str, type_sql: str, created: NewDomain | None) -> tuple[Violation, ...]:
    """The rows that a domain refuses, by its own conditions, which name the value VALUE.

    Args:
        created: the domain, where the migration creates it: until then its statement says the conditions.
    """
    what = f"{table}.{name_sql(column)}: domain {type_sql} refuses the value"
    violating = (
        f"SELECT 'violates'::tsvector FROM (SELECT %I AS value FROM %s) AS s WHERE NOT (%s) LIMIT {MAX_VIOLATIONS}"
    )
    # ts_stat runs a query that is a text, here with the conditions of the catalog, and counts its rows.
    query = f"""{_chains(table, column, type_sql)}, condition (sql) AS (
  SELECT 'value IS NOT NULL' FROM chain c JOIN pg_type t ON t.oid = c.type
  WHERE c.side = 'new' AND t.typtype = 'd' AND t.typnotnull
  UNION ALL SELECT format('coalesce(%s, true)', pg_get_expr(k.conbin, 0))
  FROM chain c JOIN pg_constraint k ON k.contypid = c.type WHERE c.side = 'new' AND k.contype = 'c'
)
SELECT (SELECT ndoc FROM ts_stat(format({quote_literal(violating)}, {quote_literal(column)}, {quote_literal(table)},
  string_agg(sql, ' AND ')))) FROM condition HAVING count(*) > 0"""
    present = Violation(what, query, table, (column,))
    if created is None:
        return (present,)
    refused = (
        f"SELECT FROM (SELECT {name_sql(column)} AS value FROM {table}) AS s WHERE NOT ({created.condition})"
        f" AND to_regtype({quote_literal(type_sql)}) IS NULL LIMIT {MAX_VIOLATIONS}"
    )
    return present, Violation(what, f"SELECT count(*)::int FROM ({refused}) AS violating", table, (column,))


def change_to_domain(table: str, column: str, statement: str, is_domain: str) -> str:
    """The plain statement, where the column gets such a type and the table is still small."""
    label = quote_literal(f"{table}: too large to be tested under a lock: ".replace("%", "%%") + "%")
    return block(f"""
  IF ({is_domain}) THEN
    LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;
    IF {_is_large(f"{quote_literal(table)}::regclass")} THEN
      RAISE EXCEPTION {label}, pg_size_pretty(pg_table_size({quote_literal(table)}::regclass));
    END IF;
    EXECUTE {quote_literal(statement)};
  END IF;""")


def former_type_query(table: str, column: str, is_domain: str) -> str:
    """The statement that gives a column the type that it has now."""
    return (
        f"SELECT format('ALTER TABLE %s ALTER COLUMN %I TYPE %s%s', {quote_literal(table)}, a.attname,"
        " format_type(a.atttypid, a.atttypmod), CASE WHEN a.attcollation <> t.typcollation"
        " THEN format(' COLLATE %s', a.attcollation::regcollation) END)"
        " FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid"
        f" WHERE a.attrelid = to_regclass({quote_literal(table)}) AND a.attname = {quote_literal(column)}"
        f" AND ({is_domain})"
    )


def archived_views(columns: Iterable[tuple[str, str]], removed_views: Iterable[str]) -> tuple[str, ...]:
    """Queries of one statement a row, in their order: DROP of each archived view that reads a column, CREATE, rights.

    Args:
        columns: table as SQL, and name.
        removed_views: those that the migration drops before, as SQL; they have their other names by now.
    """
    archived = []
    for view in removed_views:
        *schema, name = relation_names(parse_sql(f"TABLE {view}").stmts[0].stmt.select_stmt.from_clause[0].range_var)
        archived.append(name_sql(*schema, old_object_name(name)))
    listed = ", ".join(f"({quote_literal(table)}, {quote_literal(column)})" for table, column in columns)
    found = f"""(
  WITH RECURSIVE used (oid, depth) AS (
    SELECT w.ev_class, 1 FROM (VALUES {listed}) AS c (relation, name)
    JOIN pg_attribute a ON a.attrelid = to_regclass(c.relation) AND a.attname = c.name AND NOT a.attisdropped
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
    JOIN pg_rewrite w ON w.oid = d.objid
    UNION SELECT w.ev_class, u.depth + 1 FROM used u
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid = u.oid
    JOIN pg_rewrite w ON w.oid = d.objid AND w.ev_class <> u.oid
  )
  SELECT c.oid, c.oid::regclass::text AS name, c.reloptions, max(u.depth) AS depth
  FROM used u JOIN pg_class c USING (oid) WHERE c.oid = ANY ({oids_sql(archived)}) GROUP BY c.oid
) AS v"""
    return (
        f"SELECT format('DROP VIEW %s', v.name) FROM {found} ORDER BY v.depth DESC, v.oid",
        "SELECT format('CREATE VIEW %s%s AS %s', v.name,"
        " ' WITH (' || array_to_string(v.reloptions, ', ') || ')', rtrim(pg_get_viewdef(v.oid), ';'))"
        f" FROM {found} ORDER BY v.depth, v.oid",
        f"SELECT ({recreated_rights_query('VIEW', 'v.name')}) FROM {found} ORDER BY v.depth, v.oid",
    )


def drop_and_create_archived_views(queries: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Statements that drop the archived views of a column, and those that create them again in the same transaction.

    Args:
        queries: of :func:`archived_views`.
    """
    drop, *create = queries
    kept = ", ".join(f"ARRAY({query})" for query in create)
    before = f"""
  PERFORM set_config('zdd.archived_views', to_jsonb(array_cat({kept}))::text, true);
  FOREACH zdd_sql IN ARRAY ARRAY({drop}) LOOP
    EXECUTE zdd_sql;
  END LOOP;"""
    after = """
  FOR zdd_sql IN SELECT jsonb_array_elements_text(current_setting('zdd.archived_views')::jsonb) LOOP
    EXECUTE zdd_sql;
  END LOOP;"""
    return (block(before, _DECLARE_SQL),), (block(after, _DECLARE_SQL),)


_DECLARE_SQL = "  zdd_sql text;\n"


def join_statements_query(before: Iterable[str], queries: Iterable[str], after: Iterable[str]) -> str:
    """A query that returns statements in their order, one a row, for :attr:`OperationStep.undo_query`.

    Args:
        before, after: statements as they are.
        queries: each returns statements that only the server can make, one a row.
    """
    first, last = ((f"SELECT {quote_literal(sql)}" for sql in each) for each in (before, after))
    return " UNION ALL ".join([*first, *(f"({each})" for each in queries), *last])

"""Statements that try a plan's expressions and triggers on copies of real rows, in temporary tables.

A row that fails must not end the try, so each row runs in a block of its own, and its error is returned.
"""

# ruff: noqa: S608  names are quoted, expressions have passed the lint

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from zdd_tui.model.ddl.catalog import CatalogColumn, Table
from zdd_tui.model.ddl.names import search_path
from zdd_tui.model.ddl.sync import distinct_condition, row_source, stored_value
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import dollar_quoted, quote_identifier, quote_names

SAMPLE = "pg_temp.zdd_sample"
"""The sampled rows, as they are in the old table."""
NEW_ROWS = "pg_temp.zdd_new_rows"
"""The new side of the sampled rows."""
FAILURES = "pg_temp.zdd_failures()"
"""Set-returning function that runs a try: one row of ``state``, ``message``, ``place``, ``rule`` for each failure."""

LOSSY_ROLLBACK = "lossy-rollback "
"""Begins the name of a loss in the plan's `accept`; the old column follows."""

_MASKED = "regexp_replace(zdd_message, '\"[^\"]*\"', '\"…\"', 'g')"


@dataclass(frozen=True, slots=True)
class RowFailure:
    """Rows that failed in one way.

    Attributes:
        state: SQLSTATE.
        message: of the server, without values.
        place: the column; empty where the server names none.
        rule: the constraint; empty where there is none.
        rows: how many of the sampled rows.
    """

    state: str
    message: str
    place: str
    rule: str
    rows: int


FAILURES_SQL = (
    f"SELECT state, message, place, rule, count(*) AS rows FROM {FAILURES} GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 1, 2"
)


def sample_statements(table: Table, columns: Sequence[str], key: Sequence[str], rows: int) -> tuple[str, ...]:
    """Copies rows from both ends of a table, and of blocks in between, into :data:`SAMPLE`.

    Args:
        columns: those that are copied.
        rows: at most; each end gives a third.
    """
    names, keys, third = quote_names(columns), quote_names(key), max(1, rows // 3)
    match = " AND ".join(f"s.{quote_identifier(name)} = t.{quote_identifier(name)}" for name in key)
    fresh = f"NOT EXISTS (SELECT FROM {SAMPLE} AS s WHERE {match})"
    share = min(100.0, 100.0 * 20 / max(table.blocks, 1))
    last = ", ".join(f"{quote_identifier(name)} DESC" for name in key)
    insert = f"INSERT INTO {SAMPLE} ({names}) SELECT {quote_names(columns, 't.')} FROM"
    return (
        f"CREATE TEMPORARY TABLE zdd_sample ON COMMIT DROP AS SELECT {names} FROM {table.sql} LIMIT 0",
        f"{insert} (SELECT {names} FROM {table.sql} ORDER BY {keys} LIMIT {third}) AS t",
        f"{insert} (SELECT {names} FROM {table.sql} ORDER BY {last} LIMIT {third}) AS t WHERE {fresh}",
        f"{insert} (SELECT {names} FROM {table.sql} TABLESAMPLE SYSTEM ({share}) LIMIT {third}) AS t WHERE {fresh}",
    )


def try_rows_statement(plan: Plan, source: str, statement: str) -> str:
    """Creates :data:`FAILURES` for one statement, run for each row of a source; the row is ``zdd_r``."""
    return _failures_function(
        plan,
        "",
        f"""
  FOR zdd_r IN SELECT * FROM {source} LOOP
    BEGIN
      {statement};
    EXCEPTION WHEN OTHERS THEN
{_RETURN_FAILURE}
    END;
  END LOOP;""",
    )


def try_expressions_statement(
    plan: Plan,
    columns: Iterable[CatalogColumn],
    expressions: Mapping[str, str],
    source: str,
    fields: Iterable[str],
    alias: str,
) -> str:
    """Creates :data:`FAILURES` for each expression alone, stored as its column's type; ``place`` is the column.

    Args:
        fields: columns of the source that the expressions may read.
        alias: the table that the expressions may name.
    """
    columns = tuple(columns)
    declared = "".join(f"  zdd_v{number} {column.type};\n" for number, column in enumerate(columns))
    row = row_source("zdd_r", {name: name for name in fields}, alias)
    blocks = "".join(
        f"""
    BEGIN
      zdd_v{number} := (SELECT ({expressions[column.name]}) FROM {row});
    EXCEPTION WHEN OTHERS THEN
{_RETURN_FAILURE.replace("place := zdd_place;", f"place := {dollar_quoted(column.name)};")}
    END;"""
        for number, column in enumerate(columns)
    )
    return _failures_function(plan, declared, f"\n  FOR zdd_r IN SELECT * FROM {source} LOOP{blocks}\n  END LOOP;")


_RETURN_FAILURE = f"""      GET STACKED DIAGNOSTICS zdd_state = RETURNED_SQLSTATE, zdd_message = MESSAGE_TEXT,
        zdd_place = COLUMN_NAME, zdd_rule = CONSTRAINT_NAME;
      state := zdd_state; message := {_MASKED}; place := zdd_place; rule := zdd_rule;
      RETURN NEXT;"""


def _failures_function(plan: Plan, declared: str, body: str) -> str:
    text = f"""
#variable_conflict use_column
DECLARE
  zdd_r record; zdd_state text; zdd_message text; zdd_place text; zdd_rule text;
{declared}BEGIN{body}
END
"""
    return (
        "CREATE OR REPLACE FUNCTION pg_temp.zdd_failures()"
        " RETURNS TABLE (state text, message text, place text, rule text) LANGUAGE plpgsql"
        f" SET search_path = {search_path(plan)}\nAS {dollar_quoted(text)}"
    )


def insert_statement(table: str, columns: Sequence[str]) -> str:
    """Inserts ``zdd_r`` into a table."""
    return (
        f"INSERT INTO {table} ({quote_names(columns)}) OVERRIDING SYSTEM VALUE"
        f" VALUES ({quote_names(columns, 'zdd_r.')})"
    )


def fill_statement(plan: Plan, table: str, columns: Sequence[CatalogColumn], key: Sequence[str]) -> str:
    """Fills the new columns of the row ``zdd_r`` of a table, as the backfill does; column kind."""
    values = ", ".join(f"({plan.change.up[column.name]})" for column in columns)
    alias = quote_identifier(plan.change.table.name)
    match = " AND ".join(f"{alias}.{quote_identifier(name)} = zdd_r.{quote_identifier(name)}" for name in key)
    names = quote_names(column.name for column in columns)
    return f"UPDATE {table} AS {alias} SET ({names}) = ROW({values}) WHERE {match}"


def count_unequal_statement(
    plan: Plan, old: str, new: str, columns: Sequence[CatalogColumn], sources: Sequence[str], key: Sequence[str]
) -> str:
    """One row: for each new column the number of rows in which it is not what ``up`` gives.

    Args:
        old, new: the two tables; the same one in the column kind.
        sources: columns of the old table that ``up`` reads.
    """
    names = quote_names(dict.fromkeys([*key, *sources]))
    counts = ", ".join(
        f"count(*) FILTER (WHERE {distinct_condition(c, stored_value(c, plan.change.up[c.name]), f'zdd_n.zdd_c{n}')})"
        for n, c in enumerate(columns)
    )
    renamed = [f"{quote_identifier(name)} AS zdd_k{n}" for n, name in enumerate(key)]
    renamed += [f"{c.sql} AS zdd_c{n}" for n, c in enumerate(columns)]
    alias = quote_identifier(plan.change.table.name)
    match = " AND ".join(f"{alias}.{quote_identifier(name)} = zdd_n.zdd_k{n}" for n, name in enumerate(key))
    return (
        f"SELECT {counts} FROM (SELECT {names} FROM {old}) AS {alias}"
        f" JOIN (SELECT {', '.join(renamed)} FROM {new}) AS zdd_n ON {match}"
    )


def count_changed_statement(old: str, columns: Sequence[CatalogColumn], key: Sequence[str]) -> str:
    """One row: for each old column the number of rows that differ from the sample, then the number of rows."""
    counts = ", ".join(f"count(*) FILTER (WHERE {distinct_condition(c, f'o.{c.sql}', f's.{c.sql}')})" for c in columns)
    match = " AND ".join(f"o.{quote_identifier(name)} = s.{quote_identifier(name)}" for name in key)
    return f"SELECT {counts}, count(*) FROM {old} AS o JOIN {SAMPLE} AS s ON {match}"

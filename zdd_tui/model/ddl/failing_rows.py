"""Statements that compute the values of a backfill for the rows that a table has now, and write none of them.

The values are assigned to the columns of a temporary table, as the backfill assigns them to the real ones: a text that
is too long fails. A trigger leaves every row out. Rows are computed by ranges of blocks; where a range fails, each of
its rows is computed by itself, so that the failing ones are counted.
"""

# ruff: noqa: S608  names are quoted, expressions are those of the plan

from dataclasses import dataclass, replace

from zdd_tui.model.sql import dollar_quoted, quote_identifier, quote_literal

BLOCKS = 32
"""That are computed by one statement."""

_FAILED = "SQLSTATE LIKE ANY (ARRAY['22%', '23%', '21%', 'P0%'])"
"""The row has failed. Any other error says nothing about rows. As ROW_ERRORS of the engine."""

_SETS = "pg_temp.zdd_values"


@dataclass(frozen=True, slots=True)
class ComputedValues:
    """Expressions over the rows of a table, as an UPDATE has them.

    Attributes:
        table: as SQL, with its schema.
        alias: the name by which the expressions know it.
        values: expression and type, as SQL.
        key: names of the columns by which a failing row is told; empty for its place in the table.
        source: further items for FROM, as SQL; empty for none.
        only_where: SQL condition of the rows that get the values; empty for all.
        added: columns that the table does not have yet: name, type and value, the latter two as SQL.
    """

    table: str
    alias: str
    values: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    source: str = ""
    only_where: str = ""
    added: tuple[tuple[str, str, str], ...] = ()


def failing_rows_statements(computed: ComputedValues) -> tuple[str, ...]:
    """Creates the temporary objects of :data:`FAILING_ROWS_QUERY`. Names mean what they mean in the session.

    Run them in one transaction, and make it read-only after them: a function that writes then fails.
    """
    columns = ", ".join(f"zdd_v{n} {type_name}" for n, (_, type_name) in enumerate(computed.values, 1))
    return (
        f"CREATE TEMPORARY TABLE zdd_values ({columns or 'zdd_v1 int'}) ON COMMIT DROP",
        "CREATE FUNCTION pg_temp.zdd_leave_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        f"CREATE TRIGGER zdd_leave_out BEFORE INSERT ON {_SETS} FOR EACH ROW EXECUTE FUNCTION pg_temp.zdd_leave_out()",
        "CREATE FUNCTION pg_temp.zdd_failing_rows(zdd_seconds float8, zdd_limit int) RETURNS TABLE (failed int,"
        " share float8, message text, number int, key text[]) LANGUAGE plpgsql AS "
        + dollar_quoted(_function_body(computed)),
    )


FAILING_ROWS_QUERY = "SELECT * FROM pg_temp.zdd_failing_rows($1, $2)"
"""One row. Parameters: seconds, and the number of failing rows after which it ends.

``share`` of the table's blocks was computed, 1 for all of them, spread over the table. Of the first failing row:
the server's ``message`` without its values, the ``number`` of the value, 0 for the condition, and ``key``.
"""


def _function_body(computed: ComputedValues) -> str:
    alias = computed.alias
    block = f"{alias}.ctid >= zdd_low AND {alias}.ctid < zdd_high"
    row = f"{alias}.ctid = zdd_row.zdd_ctid AND {alias}.tableoid = zdd_row.zdd_tableoid"
    numbers = list(range(1, len(computed.values) + 1))
    # Without the condition: it may hold the value.
    blame = "".join(
        f"""
          IF number = 0 THEN
            BEGIN {_insert(replace(computed, only_where=""), row, [n])};
            EXCEPTION WHEN OTHERS THEN number := {n};
            END;
          END IF;"""
        for n in numbers
    )
    keys = ", ".join(f"{alias}.{quote_identifier(each)}::text" for each in computed.key) or f"{alias}.ctid::text"
    return f"""
#variable_conflict use_column
DECLARE
  zdd_ends timestamptz := clock_timestamp() + make_interval(secs => zdd_seconds);
  zdd_chunks bigint;
  zdd_step bigint := 1;
  zdd_place bigint := 0;
  zdd_done bigint := 0;
  zdd_low tid;
  zdd_high tid;
  zdd_row record;
BEGIN
  WITH RECURSIVE part (oid) AS (
    SELECT {quote_literal(computed.table)}::regclass::oid
    UNION SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
  )
  SELECT ceil(max(pg_relation_size(oid)) / current_setting('block_size')::float8 / {BLOCKS}) INTO STRICT zdd_chunks
  FROM part;
  failed := 0;
  number := 0;
  -- Steps of the golden ratio visit every part of the table early, and each range once.
  zdd_step := greatest(1, round(zdd_chunks * 0.618));
  WHILE gcd(zdd_step, zdd_chunks) > 1 LOOP zdd_step := zdd_step + 1; END LOOP;
  WHILE zdd_done < zdd_chunks AND failed < zdd_limit AND clock_timestamp() < zdd_ends LOOP
    zdd_low := format('(%s,0)', zdd_place * {BLOCKS})::tid;
    zdd_high := format('(%s,0)', (zdd_place + 1) * {BLOCKS})::tid;
    BEGIN
      {_insert(computed, block, numbers)};
    EXCEPTION WHEN OTHERS THEN
      IF NOT {_FAILED} THEN RAISE; END IF;
      FOR zdd_row IN
        SELECT {alias}.ctid AS zdd_ctid, {alias}.tableoid AS zdd_tableoid, ARRAY[{keys}] AS zdd_key
        FROM {computed.table} AS {alias} WHERE {block}
      LOOP
        EXIT WHEN failed >= zdd_limit;
        BEGIN
          {_insert(computed, row, numbers)};
        EXCEPTION WHEN OTHERS THEN
          IF NOT {_FAILED} THEN RAISE; END IF;
          failed := failed + 1;
          CONTINUE WHEN failed > 1;
          message := regexp_replace(SQLERRM, '"[^"]*"', '"…"', 'g');
          key := zdd_row.zdd_key;{blame}
        END;
      END LOOP;
    END;
    zdd_done := zdd_done + 1;
    zdd_place := (zdd_place + zdd_step) % zdd_chunks;
  END LOOP;
  share := CASE WHEN zdd_done < zdd_chunks THEN zdd_done / zdd_chunks::float8 ELSE 1 END;
  RETURN NEXT;
END
"""


def _insert(computed: ComputedValues, where: str, numbers: list[int]) -> str:
    names = ", ".join(f"zdd_v{n}" for n in numbers) or "zdd_v1"
    values = ", ".join(f"({computed.values[n - 1][0]})" for n in numbers) or "1"
    condition = f" AND ({computed.only_where})" if computed.only_where else ""
    return f"INSERT INTO {_SETS} ({names}) SELECT {values} {_from(computed, where)}{condition}"


def _from(computed: ComputedValues, where: str) -> str:
    added = "".join(f", {value}::{kind} AS {quote_identifier(name)}" for name, kind, value in computed.added)
    # A subquery may name its columns as those that every table has.
    table = (
        f"(SELECT zdd_t.ctid, zdd_t.tableoid, zdd_t.*{added} FROM {computed.table} AS zdd_t)"
        if added
        else computed.table
    )
    source = f", {computed.source}" if computed.source else ""
    return f"FROM {table} AS {computed.alias}{source} WHERE {where}"

"""The witness: deferred constraint triggers that record who left the two sides of a row different.

The trigger compares at commit, so a writer may write the two sides in any order. It never fails or delays the
application: every error is caught, a lock is waited for once in a transaction and only briefly, and records are only
added. A record that cannot be written is counted in a sequence.

From cutover until the old side is archived it also copies a row whose old side was written alone to the new side, in
the transaction of its writer: reads use the new side, and V2 writes whole rows from what it has read, so it may replace
a write that is copied later. The writer is recorded all the same. A row that cannot be copied stays as it is, and is
recorded as different.
"""

# ruff: noqa: S608  names are quoted, expressions have passed the lint, values are parameters

from zdd_tui.model.ddl.catalog import Catalog, CatalogColumn
from zdd_tui.model.ddl.names import (
    SCHEMA,
    SYNC_SETTING,
    WITNESS_SETTING,
    Side,
    old_column_name,
    search_path,
    sync_name,
    witness_functions,
    witness_triggers,
)
from zdd_tui.model.ddl.sync import (
    copy_at_commit,
    copy_lock_timeout,
    distinct_condition,
    new_fields,
    old_fields,
    old_table_sql,
    portable_key_text,
    stored_value,
)
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import dollar_quoted, quote_identifier, quote_literal, quote_qualified, with_record

_SIDES: tuple[Side, Side] = ("new", "old")

LOCK_TIMEOUT_MS = 50
"""Milliseconds that the witness waits for a lock, once in a transaction; never more than the plan's lock_timeout."""

_NOT_COMPARED = "unread"
"""Value of WITNESS_SETTING in a transaction in which a comparison had to wait: its other rows are only recorded."""


def has_witness(plan: Plan, catalog: Catalog) -> bool:
    """Whether an enabled trigger of the witness exists."""
    return any(name in catalog.triggers for side in _SIDES for name in witness_triggers(plan, side))


def expected_triggers(plan: Plan, *, both_sides: bool) -> tuple[str, ...]:
    """Names of the triggers that the witness consists of.

    Args:
        both_sides: also the new side is watched, as from cutover on.
    """
    if plan.change.kind == "column":
        return witness_triggers(plan, "new" if both_sides else "old")[:1]
    return (*witness_triggers(plan, "old"), *(witness_triggers(plan, "new") if both_sides else ()))


def create_witness_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """The witness before cutover: writes of the old side, whose sides agree when ``up`` gives the new side."""
    return (
        *_function_statements(plan, catalog, either=False, archived=False),
        *_trigger_statements(plan, catalog, "old", archived=False),
    )


def extend_witness_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """The witness from cutover on: writes of both sides, which also agree when ``down`` gives the old side.

    A write of the old side alone is copied at its commit.

    In the column kind one trigger watches the columns of both sides, in place of the one before it.
    """
    archived = catalog.is_archived
    if plan.change.kind == "column":
        triggers = (*_trigger_statements(plan, catalog, "new", archived), *_drop_triggers(plan, catalog, "old"))
    else:
        # In this order, as everything that locks both tables does.
        triggers = tuple(
            statement for side in _SIDES for statement in _trigger_statements(plan, catalog, side, archived)
        )
    return (*_function_statements(plan, catalog, either=True, archived=archived), *triggers)


def reduce_witness_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """Undoes :func:`extend_witness_statements`."""
    return (
        *_drop_triggers(plan, catalog, "new"),
        *_function_statements(plan, catalog, either=False, archived=catalog.is_archived),
        *_trigger_statements(plan, catalog, "old", catalog.is_archived),
    )


def restore_trigger_statements(plan: Plan, catalog: Catalog, trigger: str, *, exists: bool) -> tuple[str, ...]:
    """Creates one trigger of the witness, or enables the one that exists, and restores the functions.

    A trigger that exists is not dropped: that would need a lock that blocks readers too.
    """
    side: Side = "old" if trigger in witness_triggers(plan, "old") else "new"
    both_sides = side == "new" or bool({*witness_triggers(plan, "new"), sync_name(plan, "reverse")} & catalog.triggers)
    functions = _function_statements(plan, catalog, either=both_sides, archived=catalog.is_archived)
    if exists:
        return (*functions, _enable_sql(_watched_table(plan, catalog, side, catalog.is_archived), trigger))
    return (*functions, *_trigger_statements(plan, catalog, side, catalog.is_archived, only=trigger))


def drop_witness_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """Removes the witness, whatever exists of it."""
    return (
        *(statement for side in _SIDES for statement in _drop_triggers(plan, catalog, side)),
        *(f"DROP FUNCTION IF EXISTS {quote_qualified(SCHEMA, name)}()" for name in witness_functions(plan)),
    )


def move_witness_statements(plan: Plan, catalog: Catalog, archived: bool) -> tuple[str, ...]:
    """The function for the names that the old side has after it was archived or restored; none without a witness."""
    if not has_witness(plan, catalog):
        return ()
    return _function_statements(plan, catalog, either=True, archived=archived)


def disagreements_statement(plan: Plan, catalog: Catalog, *, either: bool) -> str:
    """The given keys whose two sides differ. Parameters: one ``text[]`` a key column.

    Columns of the result: ``key`` (JSON array of texts), ``old`` and ``new`` (whether the row exists), ``differs``
    (names of the new columns that differ).

    Args:
        either: rows also agree when ``down`` gives the old side, as it does for rows that V3 wrote.
    """
    key, given, values = _given_keys(catalog)
    source, present_old, present_new, pairs, differs = _comparison(plan, catalog, catalog.is_archived, values, either)
    cases = ", ".join(
        f"CASE WHEN {distinct_condition(column, left, right)} THEN {quote_literal(column.name)} END"
        for column, (left, right) in pairs.items()
    )
    return (
        f"SELECT {key} AS key,\n"
        f"  {present_old} AS old, {present_new} AS new,\n"
        f"  CASE WHEN {present_old} AND {present_new} THEN array_remove(ARRAY[{cases}], NULL) END AS differs\n"
        f"FROM {given}\n"
        f"CROSS JOIN LATERAL (SELECT) AS zdd_one{source}\nWHERE {differs}"
    )


def last_writes_statement(catalog: Catalog) -> str:
    """Which transaction has written the old row of each given key last. Parameters: one ``text[]`` a key column.

    Columns of the result: ``key`` (JSON array of texts), ``xid``. A row that is gone is left out.
    """
    key, given, values = _given_keys(catalog)
    match = " AND ".join(f"zdd_t.{column.sql} = {value}" for column, value in zip(catalog.key, values, strict=True))
    return f"SELECT {key} AS key, zdd_t.xmin::text AS xid\nFROM {given} JOIN {catalog.old.sql} AS zdd_t ON {match}"


def _given_keys(catalog: Catalog) -> tuple[str, str, list[str]]:
    """The keys of a statement's parameters, one ``text[]`` a key column.

    Returns:
        a key as JSON array of texts; the FROM item that has them; the value of each key column.
    """
    names = [f"k{number}" for number in range(1, len(catalog.key) + 1)]
    arrays = ", ".join(f"${number}::text[]" for number in range(1, len(catalog.key) + 1))
    values = [f"wanted.{name}::{column.type}" for name, column in zip(names, catalog.key, strict=True)]
    key = f"jsonb_build_array({', '.join(f'wanted.{name}' for name in names)})"
    return key, f"unnest({arrays}) AS wanted ({', '.join(names)})", values


def orphans_statement(catalog: Catalog) -> str:
    """Whether a row of the new table has no row in the old one, as after a TRUNCATE of the old table."""
    match = " AND ".join(f"o.{quote_identifier(name)} = n.{quote_identifier(name)}" for name in catalog.key_names)
    return (
        f"SELECT EXISTS (SELECT FROM {catalog.new_table.sql} AS n"
        f" WHERE NOT EXISTS (SELECT FROM {catalog.old.sql} AS o WHERE {match}))"
        f" OR EXISTS (SELECT FROM {catalog.old.sql} AS o"
        f" WHERE NOT EXISTS (SELECT FROM {catalog.new_table.sql} AS n WHERE {match}))"
    )


# --- the comparison of one row


def _comparison(
    plan: Plan, catalog: Catalog, archived: bool, key: list[str], either: bool
) -> tuple[str, str, str, dict[CatalogColumn, tuple[str, str]], str]:
    """Joins that read both sides of one row, to be appended to a FROM item, and expressions over them.

    Args:
        key: an expression for each column of the key.

    Returns:
        the joins; whether the old row exists; whether the new row exists; by new column what ``up`` gives and what is
        stored; the condition that the sides differ.
    """
    old_table = old_table_sql(plan, catalog, archived)
    match = " AND ".join(
        f"zdd_t.{quote_identifier(name)} = {value}" for name, value in zip(catalog.key_names, key, strict=True)
    )
    new = catalog.new_table.require_columns(plan.change.up)
    old = catalog.old.require_columns(plan.change.down)
    ups = [f"{stored_value(column, plan.change.up[column.name])} AS zdd_up{n}" for n, column in enumerate(new)]
    downs = [f"{stored_value(column, plan.change.down[column.name])} AS zdd_down{n}" for n, column in enumerate(old)]
    has_new = [f"{quote_identifier(column.name)} AS zdd_new{n}" for n, column in enumerate(new)]
    has_old = [f"{quote_identifier(column.name)} AS zdd_old{n}" for n, column in enumerate(old)]
    if not either:
        downs, has_old = [], []
    if plan.change.kind == "column":
        names = new_fields(plan, catalog) | old_fields(plan, catalog, archived)
        row = _select_row(old_table, names, match)
        values = ", ".join(["true AS zdd_here", *ups, *has_new, *downs, *has_old])
        source = (
            f"\nLEFT JOIN LATERAL (SELECT {values} FROM {row} AS {quote_identifier(plan.change.table.name)}"
            ") AS o ON true"
        )
        present, other = "o.zdd_here IS NOT NULL", "o"
        present_new = present
    else:
        old_row = _select_row(old_table, old_fields(plan, catalog, archived), match)
        new_row = _select_row(catalog.new_table.sql, new_fields(plan, catalog), match)
        source = (
            f"\nLEFT JOIN LATERAL (SELECT {', '.join(['true AS zdd_here', *ups, *has_old])} FROM {old_row}"
            f" AS {quote_identifier(plan.change.table.name)}) AS o ON true"
            f"\nLEFT JOIN LATERAL (SELECT {', '.join(['true AS zdd_here', *has_new, *downs])} FROM {new_row}"
            f" AS {quote_identifier(plan.change.target_table.name)}) AS n ON true"
        )
        present, present_new, other = "o.zdd_here IS NOT NULL", "n.zdd_here IS NOT NULL", "n"
    pairs = {column: (f"o.zdd_up{n}", f"{other}.zdd_new{n}") for n, column in enumerate(new)}
    differs = " OR ".join(distinct_condition(column, left, right) for column, (left, right) in pairs.items())
    if either:
        backward = " OR ".join(
            distinct_condition(column, f"{other}.zdd_down{n}", f"o.zdd_old{n}") for n, column in enumerate(old)
        )
        differs = f"({differs}) AND ({backward})"
    if plan.change.kind == "column":
        return source, present, present_new, pairs, f"{present} AND ({differs})"
    missing = f"({present}) <> ({present_new})"
    return source, present, present_new, pairs, f"({missing} OR {present} AND {present_new} AND ({differs}))"


def _select_row(table: str, names: dict[str, str], match: str) -> str:
    """The row of a table under the names that the plan's expressions use."""
    fields = ", ".join(f"zdd_t.{quote_identifier(field)} AS {quote_identifier(name)}" for name, field in names.items())
    return f"(SELECT {fields} FROM {table} AS zdd_t WHERE {match} OFFSET 0)"


# --- functions


def _function_statements(plan: Plan, catalog: Catalog, *, either: bool, archived: bool) -> tuple[str, ...]:
    """The functions of all triggers. One that no trigger uses yet does no harm."""
    old_function, new_function, truncate_function = witness_functions(plan)
    statements = [_function_sql(plan, old_function, _row_body(plan, catalog, "old", either, archived))]
    if plan.change.kind == "table":
        statements.append(_function_sql(plan, new_function, _row_body(plan, catalog, "new", either, archived)))
        statements.append(_function_sql(plan, truncate_function, _truncate_body(plan)))
    return tuple(statements)


def _function_sql(plan: Plan, name: str, body: str) -> str:
    # What is set for a function costs at each call. In the column kind no lock is waited for in the usual case.
    timeout = "" if plan.change.kind == "column" else f" SET lock_timeout = {_lock_timeout(plan)}"
    return (
        # The application's roles need no right in the schema zdd, and none on the other table.
        f"CREATE OR REPLACE FUNCTION {quote_qualified(SCHEMA, name)}() RETURNS trigger LANGUAGE plpgsql\n"
        f"SECURITY DEFINER SET search_path = {search_path(plan)}{timeout}\nAS {dollar_quoted(body)}"
    )


def _lock_timeout(plan: Plan) -> str:
    return quote_literal(f"{min(LOCK_TIMEOUT_MS, max(1, round(plan.database.lock_timeout * 1000)))}ms")


def _record_sql(plan: Plan, key: str, side: str, is_checked: str, is_copied: str = "false") -> str:
    setting = "current_setting('role')"
    return f"""INSERT INTO zdd.witness_record (release_id, key, side, operation, is_checked, is_copied, is_foreign, xid,
          role, session_role, application_name, address, pid)
        SELECT w.release_id, {key}, {side}, TG_OP, {is_checked}, {is_copied}, pg_current_xact_id() >= w.counts_from,
          pg_current_xact_id(), CASE {setting} WHEN 'none' THEN session_user ELSE {setting} END, session_user,
          current_setting('application_name'), coalesce(host(inet_client_addr()), ''), pg_backend_pid()
        FROM zdd.witness AS w WHERE w.name = {quote_literal(plan.name)} AND w.counts_from IS NOT NULL"""


_GIVE_UP = f"""EXCEPTION WHEN OTHERS OR query_canceled THEN
  BEGIN
    PERFORM set_config('{WITNESS_SETTING}', 'off', true);
    PERFORM nextval('zdd.witness_missed');
  EXCEPTION WHEN OTHERS OR query_canceled THEN
    NULL;
  END;
END"""
"""Ends a block: what goes wrong is counted, and the rest of the transaction is not watched."""


def _row_body(plan: Plan, catalog: Catalog, side: Side, either: bool, archived: bool) -> str:
    """The function for one written row, in this order:

    1. The written row is compared first, which is cheap and enough for a writer of both sides.
    2. A writer that changed nothing of either side did not make them differ, though it named the columns.
    3. What is stored under the row's key, and under the key before an UPDATE of it, is compared and recorded. From
       cutover until the archive a row whose old side was written is copied before.

    No variable has a type of the database: one that was renamed would make the function, and so the statement of the
    application, fail before anything can be caught.
    """
    same_key = " AND ".join(
        f"OLD.{quote_identifier(name)} = NEW.{quote_identifier(name)}" for name in catalog.key_names
    )
    changed = _changed(plan, catalog, _watched_columns(plan, catalog, side), archived, side)
    if plan.change.kind == "column":  # one trigger watches both sides: which one was written is seen from the row
        written_side = _written_side(plan, catalog, archived)
        changed = _changed(plan, catalog, _watched_columns(plan, catalog, "new"), archived)
    else:
        written_side = quote_literal(side)
    copies = either and side == "old" and not archived
    return f"""
#variable_conflict use_column
DECLARE
  zdd_setting text;
  zdd_read boolean;
  zdd_timeout text;
  zdd_row record;
  zdd_checked boolean;
  zdd_differs boolean;
  zdd_copied boolean;
  zdd_names text;
BEGIN
{_quick_check(plan, catalog, side, archived, same_key)}
  zdd_setting := coalesce(current_setting('{WITNESS_SETTING}', true), '');
  IF zdd_setting = 'off' THEN RETURN NULL; END IF;
  BEGIN
    IF TG_OP = 'UPDATE' AND NOT ({changed}) THEN RETURN NULL; END IF;
    zdd_read := zdd_setting <> '{_NOT_COMPARED}' AND current_setting('transaction_isolation') <> 'serializable';
    FOR zdd_turn IN 1..2 LOOP
{_choose_row(plan, same_key)}
      zdd_checked := zdd_read;
      zdd_differs := true;
      zdd_copied := false;
{_compare_stored(plan, catalog, either, archived)}
      IF zdd_differs THEN{_copy_old_side(plan, catalog, archived) if copies else ""}
{_record_row(plan, catalog, written_side)}
      END IF;
    END LOOP;
  {_GIVE_UP};
  RETURN NULL;
END
"""


def _written_side(plan: Plan, catalog: Catalog, archived: bool) -> str:
    """Column kind: an expression for the side that a statement has written, ``both`` where it may be either.

    An INSERT with a value in a new column has written the new side; the old columns may hold their defaults.
    """
    old_changed = _changed(plan, catalog, _watched_columns(plan, catalog, "old"), archived)
    new_changed = _changed(plan, catalog, list(plan.change.up), archived, "new")
    new_written = " OR ".join(
        f"NEW.{quote_identifier(name)} IS NOT NULL" for name in plan.change.up if catalog.new_table.column(name)
    )
    return (
        f"CASE WHEN TG_OP = 'INSERT' THEN CASE WHEN {new_written or 'false'} THEN 'both' ELSE 'old' END"
        f" WHEN NOT ({old_changed}) THEN 'new' WHEN {new_changed} THEN 'both' ELSE 'old' END"
    )


def _choose_row(plan: Plan, same_key: str) -> str:
    """Turn 1: the row under its key before the statement, where that is another one. Turn 2: the row as written."""
    if plan.change.kind == "column":  # a row that is gone, or has another key, is so on both sides
        old_row = "CONTINUE;"
    else:
        old_row = f"""CONTINUE WHEN TG_OP = 'INSERT';
        IF TG_OP = 'UPDATE' THEN
          CONTINUE WHEN {same_key};
        END IF;
        zdd_row := OLD;"""
    return f"""      IF zdd_turn = 1 THEN
        {old_row}
      ELSE
        CONTINUE WHEN TG_OP = 'DELETE';
        zdd_row := NEW;
      END IF;"""


def _compare_stored(plan: Plan, catalog: Catalog, either: bool, archived: bool) -> str:
    """Sets ``zdd_differs`` by what both sides have under the key of ``zdd_row``. Where that cannot be read in time the
    row counts as different and not checked, and the rest of the transaction is not read."""
    keys = [f"zdd_row.{quote_identifier(name)}" for name in catalog.key_names]
    joins, _, _, _, differs = _comparison(plan, catalog, archived, keys, either)
    query = f"""          PERFORM FROM (SELECT) AS zdd_one{joins}
          WHERE {differs};
          zdd_differs := FOUND;"""
    return f"""      IF zdd_read THEN
        BEGIN
{_with_timeout(plan, query)}
        EXCEPTION WHEN OTHERS OR query_canceled THEN
          zdd_checked := false;
          IF SQLSTATE IN ('55P03', '57014') THEN
            zdd_read := false;
            PERFORM set_config('{WITNESS_SETTING}', '{_NOT_COMPARED}', true);
          END IF;
        END;
      END IF;"""


def _copy_old_side(plan: Plan, catalog: Catalog, archived: bool) -> str:
    """Copies the row to the new side where both could be compared, and notes that in ``zdd_copied``.

    Turn 1 copies a key that changed along; then turn 2 finds nothing different. Deferred constraints of the new side
    are checked within the block: after it their error would be one of the application's COMMIT.
    """
    own = ", ".join(quote_literal(name) for each in _SIDES for name in witness_triggers(plan, each))
    table = f"{quote_literal(catalog.new_table.sql)}::regclass"
    return f"""
        IF zdd_checked AND current_setting({quote_literal(SYNC_SETTING)}, true) IS DISTINCT FROM 'new' THEN
          BEGIN
            zdd_timeout := current_setting('lock_timeout');
            PERFORM set_config('lock_timeout', {copy_lock_timeout(plan)}, true);
{copy_at_commit(plan, catalog, archived)}
            SELECT string_agg(format('%I.%I', s.nspname, c.conname), ', ') INTO zdd_names FROM pg_constraint AS c
              JOIN pg_namespace AS s ON s.oid = c.connamespace
              WHERE {table} IN (c.conrelid, c.confrelid) AND c.condeferrable AND c.conname NOT IN ({own});
            IF zdd_names IS NOT NULL THEN
              EXECUTE 'SET CONSTRAINTS ' || zdd_names || ' IMMEDIATE';
            END IF;
            PERFORM set_config('lock_timeout', zdd_timeout, true);
            zdd_copied := true;
          EXCEPTION WHEN OTHERS OR query_canceled THEN
            IF SQLSTATE IN ('40P01', '55P03', '57014') THEN
              zdd_read := false;
              PERFORM set_config('{WITNESS_SETTING}', '{_NOT_COMPARED}', true);
            END IF;
          END;
        END IF;"""


def _record_row(plan: Plan, catalog: Catalog, side: str) -> str:
    """Records ``zdd_row``. ``side``: an expression for the side that was written."""
    values = [f"zdd_row.{quote_identifier(name)}" for name in catalog.key_names]
    key = f"jsonb_build_array({', '.join(map(portable_key_text, catalog.key, values))})"
    return _with_timeout(plan, f"        {_record_sql(plan, key, side, 'zdd_checked', 'zdd_copied')};")


def _with_timeout(plan: Plan, statements: str) -> str:
    """Column kind: the lock_timeout for what waits for a lock. An error restores it, as it undoes the block."""
    if plan.change.kind != "column":
        return statements
    return f"""          zdd_timeout := current_setting('lock_timeout');
          PERFORM set_config('lock_timeout', {_lock_timeout(plan)}, true);
{statements}
          PERFORM set_config('lock_timeout', zdd_timeout, true);"""


def _quick_check(plan: Plan, catalog: Catalog, side: Side, archived: bool, same_key: str) -> str:
    """Returns where the written row agrees with its other side: enough for a writer of both sides, and cheap.

    Column kind: one expression over the record. Table kind: one lookup. A change of the key, and a DELETE, for which
    NEW is NULL, is left to the full comparison; so is an expression that fails.
    """
    new = catalog.new_table.require_columns(plan.change.up)
    fields = old_fields(plan, catalog, archived)
    old_record, new_record = ("new", "NEW") if plan.change.kind == "column" else ("new", "zdd_t")
    if plan.change.kind == "table" and side == "new":
        old_record, new_record = "zdd_t", "NEW"
    differs = " OR ".join(
        distinct_condition(
            column,
            stored_value(column, with_record(plan.change.up[column.name], old_record, fields)),
            f"{new_record}.{quote_identifier(column.name)}",
        )
        for column in new
    )
    if plan.change.kind == "column":
        quick = f"    IF NOT ({differs}) THEN RETURN NULL; END IF;"
    else:
        table = catalog.new_table.sql if side == "old" else old_table_sql(plan, catalog, archived)
        key = " AND ".join(
            f"zdd_t.{quote_identifier(name)} = NEW.{quote_identifier(name)}" for name in catalog.key_names
        )
        quick = f"""    IF coalesce(current_setting('{WITNESS_SETTING}', true), '') = '' THEN
      PERFORM FROM {table} AS zdd_t
      WHERE current_setting('transaction_isolation') <> 'serializable' AND ({same_key}) IS NOT FALSE
        AND {key} AND NOT ({differs});
      IF FOUND THEN RETURN NULL; END IF;
    END IF;"""
    return f"""  BEGIN
{quick}
  EXCEPTION WHEN OTHERS OR query_canceled THEN
    IF SQLSTATE IN ('55P03', '57014') THEN
      PERFORM set_config('{WITNESS_SETTING}', '{_NOT_COMPARED}', true);
    END IF;
  END;"""


def _truncate_body(plan: Plan) -> str:
    return f"""
BEGIN
  IF coalesce(current_setting('{WITNESS_SETTING}', true), '') = 'off' THEN RETURN NULL; END IF;
  BEGIN
    {_record_sql(plan, "'[]'::jsonb", "TG_ARGV[0]", "false")};
  {_GIVE_UP};
  RETURN NULL;
END
"""


# --- triggers


def _trigger_statements(plan: Plan, catalog: Catalog, side: Side, archived: bool, *, only: str = "") -> tuple[str, ...]:
    """The triggers of one side that do not exist yet, or ``only`` one. In the column kind both sides are in one table.

    There is no WHEN: it is parsed anew by each statement of the application, which costs more than the function.
    """
    old_function, new_function, truncate_function = (quote_qualified(SCHEMA, n) for n in witness_functions(plan))
    is_column = plan.change.kind == "column"
    by_row, by_truncate = witness_triggers(plan, side)
    table = _watched_table(plan, catalog, side, archived)
    names = dict.fromkeys(_watched_columns(plan, catalog, side))
    columns = [quote_identifier(old_column_name(plan, name, archived)) for name in names]
    # A trigger of the table may change a column that the statement does not name.
    update = "UPDATE" if catalog.other_before_triggers else f"UPDATE OF {', '.join(columns)}"
    events = f"INSERT OR {update}" if is_column else f"INSERT OR DELETE OR {update}"
    function = old_function if is_column or side == "old" else new_function
    made = {
        by_row: f"CREATE CONSTRAINT TRIGGER {quote_identifier(by_row)} AFTER {events} ON {table}"
        f"\nDEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {function}()"
    }
    if not is_column:  # a truncated table has no row on either side
        made[by_truncate] = (
            f"CREATE TRIGGER {quote_identifier(by_truncate)} AFTER TRUNCATE ON {table}"
            f"\nFOR EACH STATEMENT EXECUTE FUNCTION {truncate_function}('{side}')"
        )
    return tuple(
        statement
        for name, create in made.items()
        if (name == only if only else name not in catalog.triggers)
        for statement in (create, _enable_sql(table, name))
    )


def _enable_sql(table: str, trigger: str) -> str:
    """Also for sessions that skip ordinary triggers, with session_replication_role = replica."""
    return f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {quote_identifier(trigger)}"


def _drop_triggers(plan: Plan, catalog: Catalog, side: Side) -> tuple[str, ...]:
    is_gone = catalog.is_dropped and plan.change.kind == "table" if side == "old" else catalog.new is None
    if is_gone:
        return ()
    table = _watched_table(plan, catalog, side, catalog.is_archived)
    names = witness_triggers(plan, side)[: 1 if plan.change.kind == "column" else 2]
    return tuple(f"DROP TRIGGER IF EXISTS {quote_identifier(name)} ON {table}" for name in names)


def _watched_table(plan: Plan, catalog: Catalog, side: Side, archived: bool) -> str:
    if side == "old" or plan.change.kind == "column":
        return old_table_sql(plan, catalog, archived)
    return catalog.new_table.sql


def _watched_columns(plan: Plan, catalog: Catalog, side: Side) -> list[str]:
    """The columns whose change can make the two sides differ."""
    old = [*plan.change.down, *catalog.up_source_columns]
    if plan.change.kind == "column":
        # Before cutover not the new columns: the backfill writes them, and they are compared before V3.
        return old if side == "old" else [*old, *plan.change.up]
    return [*(old if side == "old" else [*plan.change.up, *catalog.down_source_columns]), *catalog.key_names]


def _changed(plan: Plan, catalog: Catalog, names: list[str], archived: bool, side: Side = "old") -> str:
    """The condition that an UPDATE has changed one of the columns."""
    table = catalog.old if side == "old" else catalog.new_table
    conditions = []
    for column in table.require_columns(dict.fromkeys(names)):
        field = quote_identifier(old_column_name(plan, column.name, archived) if side == "old" else column.name)
        conditions.append(distinct_condition(column, f"NEW.{field}", f"OLD.{field}"))
    return " OR ".join(conditions) or "true"

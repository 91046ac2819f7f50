"""Triggers that keep one side in sync with the other.

Column kind: BEFORE ROW triggers fill the other columns of the same row. Table kind: AFTER ROW triggers upsert the
row of the other table. None of them changes a row whose sides agree, so a lossy ``down`` never damages old data.

From cutover on both sides are written, by V3 and by whoever still runs an older version. Then no trigger overwrites
what it did not copy itself: where the two sides of a row differed before the statement, each keeps its own, the row is
recorded, and a person decides. Before cutover the old side is right, and the forward trigger overwrites the new one.

None of them makes a statement of the application fail (invariant 13): an error ends the copy of that row alone,
which is recorded in zdd.witness_record, as a row whose sides differ. The functions run with the rights of their owner:
the application's roles need none on the other table, and none in the schema zdd.
"""

# ruff: noqa: S608  names are quoted, expressions have passed the lint, values are parameters

from collections.abc import Iterable, Mapping, Sequence

from zdd_tui.model.ddl.catalog import Catalog, CatalogColumn, Table
from zdd_tui.model.ddl.names import (
    ARCHIVE_SCHEMA,
    LEFT_OUT_SETTING,
    SCHEMA,
    SYNC_SETTING,
    Direction,
    Side,
    archived_name,
    left_out_name,
    lock_order_name,
    old_column_name,
    search_path,
    sync_name,
)
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import dollar_quoted, quote_identifier, quote_literal, quote_names, quote_qualified


def distinct_condition(column: CatalogColumn, left: str, right: str) -> str:
    """A condition that two values for ``column`` differ; NULLs are equal to each other."""
    if column.is_comparable:
        return f"({left} IS DISTINCT FROM {right})"
    return f"(({left})::text IS DISTINCT FROM ({right})::text)"


def stored_value(column: CatalogColumn, expression: str) -> str:
    """The value of a column after ``expression`` was stored in it: rounded and padded by its type."""
    return f"CAST(({expression}) AS {column.type})"


def row_source(record: str, names: dict[str, str], alias: str) -> str:
    """A FROM item of one row: the fields of ``record``, under the names that the plan's expressions use."""
    fields = ", ".join(
        f"{record}.{quote_identifier(field)} AS {quote_identifier(name)}" for name, field in names.items()
    )
    return f"(SELECT {fields}) AS {quote_identifier(alias)}"


def old_fields(plan: Plan, catalog: Catalog, archived: bool) -> dict[str, str]:
    """Columns that ``up`` may read: name in the table, by name in the plan."""
    names = dict.fromkeys([*plan.change.down, *catalog.up_source_columns, *catalog.key_names])
    return {name: old_column_name(plan, name, archived) for name in names}


def new_fields(plan: Plan, catalog: Catalog) -> dict[str, str]:
    """Columns that ``down`` may read, in the same form."""
    return {name: name for name in [*plan.change.up, *catalog.down_source_columns, *catalog.key_names]}


def sync_statements(
    plan: Plan,
    catalog: Catalog,
    direction: Direction,
    archived: bool | None = None,
    *,
    scratch_schema: str = "",
) -> tuple[str, ...]:
    """Function and trigger of one direction, replacing what is there.

    Args:
        archived: whether the old side is archived when they are used; default: as it is now.
        scratch_schema: a schema for functions that try the copy on scratch tables: an error is not caught there.
    """
    archived = catalog.is_archived if archived is None else archived
    is_two_way = direction == "reverse" or sync_name(plan, "reverse") in catalog.triggers
    schema = scratch_schema or SCHEMA
    statements = [
        _sync_function(plan, catalog, direction, archived, is_two_way=is_two_way, scratch_schema=scratch_schema),
        _trigger_sql(plan, catalog, direction, archived, schema),
    ]
    if not scratch_schema:
        statements.append(
            _enable_sql(_watched_table_sql(plan, catalog, direction, archived), sync_name(plan, direction))
        )
    if direction == "reverse" and not scratch_schema:
        if plan.change.kind == "table":
            statements = [*_lock_order_statements(plan, catalog, archived), *statements]
        if sync_name(plan, "forward") in catalog.triggers:
            statements.insert(0, _sync_function(plan, catalog, "forward", archived, is_two_way=True))
        statements = [*_left_out_statements(plan, catalog), *statements]
    return tuple(statements)


def undo_reverse_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """Removes the reverse direction; the old side alone is right again."""
    drops = drop_sync_statements(plan, catalog, "reverse")
    if sync_name(plan, "forward") not in catalog.triggers:
        return drops
    return (*drops, _sync_function(plan, catalog, "forward", catalog.is_archived, is_two_way=False))


def drop_sync_statements(
    plan: Plan, catalog: Catalog, direction: Direction, *, scratch_schema: str = ""
) -> tuple[str, ...]:
    """Removes function and trigger of one direction, if they exist."""
    schema = scratch_schema or SCHEMA
    table = _watched_table_sql(plan, catalog, direction, catalog.is_archived)
    names = [sync_name(plan, direction)]
    if plan.change.kind == "table" and direction == "reverse":
        names.append(lock_order_name(plan))
    drops = tuple(
        statement
        for name in names
        for statement in (
            f"DROP TRIGGER IF EXISTS {quote_identifier(name)} ON {table}",
            f"DROP FUNCTION IF EXISTS {quote_qualified(schema, name)}()",
        )
    )
    if direction == "reverse" and not scratch_schema and catalog.has_left_out_function:
        alters = (f"ALTER COLUMN {quote_identifier(name)} DROP DEFAULT" for name in catalog.left_out_columns)
        alter = (f"ALTER TABLE {catalog.new_table.sql} {', '.join(alters)}",) if catalog.left_out_columns else ()
        return (*drops, *alter, f"DROP FUNCTION IF EXISTS {quote_qualified(SCHEMA, left_out_name(plan))}()")
    return drops


# --- an explicit NULL ---------------------------------------------------------------------------------------------


def _can_tell_null(plan: Plan, catalog: Catalog) -> bool:
    """Whether an INSERT of NULL by V3 and one that leaves the new columns out could be the same row to the triggers.

    So it is where every old column has its default, which an older version may rely on. Where one of them is required,
    its NULL shows V3. Then the default of the new columns is a function that notes that it was called.
    """
    new = catalog.new_table.require_columns(plan.change.up)
    return (
        plan.change.kind == "column"
        and bool(catalog.constant_defaults)
        and any(default != "NULL" for _, default in catalog.constant_defaults)
        and not any(column.is_required for column in catalog.old.require_columns(plan.change.down))
        and all(column.name in catalog.left_out_columns or not column.has_default for column in new)
    )


def _left_out_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    if not _can_tell_null(plan, catalog):
        return ()
    new, name = catalog.new_table.require_columns(plan.change.up), quote_qualified(SCHEMA, left_out_name(plan))
    body = f"""
BEGIN
  PERFORM set_config({quote_literal(LEFT_OUT_SETTING)}, '1', true);
  RETURN NULL;
END
"""
    alters = ", ".join(
        f"ALTER COLUMN {column.sql} SET DEFAULT {name}()::{column.type}"
        for column in new
        if column.name not in catalog.left_out_columns
    )
    return (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS text LANGUAGE plpgsql VOLATILE AS {dollar_quoted(body)}",
        # It runs with the rights of the application's role. Who may insert must be able to call it.
        f"GRANT EXECUTE ON FUNCTION {name}() TO PUBLIC",
        *((f"ALTER TABLE {catalog.new_table.sql} {alters}",) if alters else ()),
    )


def _storable_null(plan: Plan, catalog: Catalog, archived: bool) -> str:
    """The condition that an INSERT is one of V3 by a NULL in a required old column, for which ``down`` has a value.

    Where ``down`` has none the row is filled as one of an older version: the table would refuse it, and so V3's INSERT.
    """
    required = [column for column in catalog.old.require_columns(plan.change.down) if column.is_required]
    if not required:
        return ""
    has_value = " AND ".join(f"({plan.change.down[column.name]}) IS NOT NULL" for column in required)
    source = row_source("NEW", new_fields(plan, catalog), plan.change.table.name)
    shown = _shows_new_version(plan, catalog, archived)
    return f"(({shown}) AND EXISTS (SELECT FROM {source} WHERE {has_value}))"


def _explicit_null(plan: Plan, catalog: Catalog, archived: bool) -> str:
    """The condition that an INSERT whose new columns are all NULL is one of V3 that names them; empty where it cannot
    be told."""
    if not _can_tell_null(plan, catalog):
        return ""
    names, known = old_fields(plan, catalog, archived), dict(catalog.constant_defaults)
    defaults = " AND ".join(
        f"NOT {distinct_condition(column, f'NEW.{quote_identifier(names[column.name])}', f'({default})')}"
        for column in catalog.old.require_columns(plan.change.down)
        if (default := known.get(column.name)) is not None
    )
    return f"(coalesce(current_setting({quote_literal(LEFT_OUT_SETTING)}, true), '') = '' AND {defaults})"


def _shows_new_version(plan: Plan, catalog: Catalog, archived: bool) -> str:
    """The condition that the writer of an INSERT does not know the old columns: a NULL that the table refuses."""
    names = old_fields(plan, catalog, archived)
    required = (
        quote_identifier(names[column.name])
        for column in catalog.old.require_columns(plan.change.down)
        if column.is_required
    )
    return " OR ".join(f"NEW.{name} IS NULL" for name in required) or "false"


def _function_sql(plan: Plan, schema: str, name: str, body: str) -> str:
    return (
        f"CREATE OR REPLACE FUNCTION {quote_qualified(schema, name)}() RETURNS trigger LANGUAGE plpgsql\n"
        f"SECURITY DEFINER SET search_path = {search_path(plan)} SET lock_timeout = {copy_lock_timeout(plan)}\n"
        f"AS {dollar_quoted(body)}"
    )


def copy_lock_timeout(plan: Plan) -> str:
    """How long the copy of a row waits for a lock of the other side, as a literal.

    A writer of the application waits no longer than our own DDL would. That is shorter than the server's
    deadlock_timeout, so in a deadlock the copy gives way, and no statement of the application.
    """
    return quote_literal(f"{max(1, round(plan.database.lock_timeout_max * 1000))}ms")


def _sync_function(
    plan: Plan, catalog: Catalog, direction: Direction, archived: bool, *, is_two_way: bool, scratch_schema: str = ""
) -> str:
    """The function of one direction. In a scratch schema nothing is caught, so that the check sees the error.

    Every name of a column is inside the block that catches: one that somebody has renamed or dropped fails there.

    Args:
        is_two_way: both directions exist: a row whose sides differed before the statement is not overwritten.
    """
    is_column = plan.change.kind == "column"
    if is_column:
        build = _column_forward if direction == "forward" else _column_reverse
        statements = build(plan, catalog, archived, is_two_way)
    else:
        statements = _copy_to_table(plan, catalog, "old" if direction == "forward" else "new", archived, is_two_way)
    given = "  zdd_given := NEW;\n" if is_column else ""
    if not scratch_schema:
        restore = "\n    NEW := zdd_given;" if is_column else ""
        statements = f"""
  BEGIN{statements}
  EXCEPTION WHEN OTHERS THEN{restore}
{_record_failure(plan, catalog, direction)}
  END;"""
    body = f"""
#variable_conflict use_column
{"DECLARE zdd_given record;" if is_column else ""}
BEGIN
{given}{statements}
  RETURN {"NEW" if is_column else "NULL"};
END
"""
    return _function_sql(plan, scratch_schema or SCHEMA, sync_name(plan, direction), body)


def portable_key_text(column: CatalogColumn, value: str) -> str:
    """A key's value as text that another session reads alike, whatever the DateStyle of this one."""
    if column.type.startswith(("date", "timestamp")):
        return f"to_jsonb({value}) #>> '{{}}'"
    return f"{value}::text"


def _record_failure(plan: Plan, catalog: Catalog, direction: Direction) -> str:
    """Records the row; where that fails too, it is counted, so that the next comparison reads every row."""
    setting = "current_setting('role')"
    side = "old" if direction == "forward" else "new"

    def insert(record: str) -> str:
        key = ", ".join(portable_key_text(column, f"{record}.{column.sql}") for column in catalog.key)
        return f"""      INSERT INTO zdd.witness_record (release_id, key, side, operation, is_checked, is_foreign, xid,
        role, session_role, application_name, address, pid)
      SELECT r.id, jsonb_build_array({key}), {quote_literal(side)}, TG_OP, false, true, pg_current_xact_id(),
        CASE {setting} WHEN 'none' THEN session_user ELSE {setting} END, session_user,
        current_setting('application_name'), coalesce(host(inet_client_addr()), ''), pg_backend_pid()
      FROM zdd.release AS r WHERE r.name = {quote_literal(plan.name)} AND r.state NOT IN ('done', 'rolled-back');"""

    keys = " OR ".join(
        f"NEW.{quote_identifier(name)} IS DISTINCT FROM OLD.{quote_identifier(name)}" for name in catalog.key_names
    )
    both = f"""
      IF TG_OP <> 'DELETE' THEN
{insert("NEW")}
      END IF;
      IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND ({keys}) THEN
{insert("OLD")}
      END IF;"""
    records = both if plan.change.kind == "table" else "\n" + insert("NEW")
    return f"""    BEGIN{records}
    EXCEPTION WHEN OTHERS THEN
      BEGIN
        PERFORM nextval('zdd.witness_missed');
      EXCEPTION WHEN OTHERS THEN
        NULL;
      END;
    END;"""


def _lock_order_statements(plan: Plan, catalog: Catalog, archived: bool) -> tuple[str, str]:
    """Makes an upsert of the new table lock the old row first, as a writer of the old table does.

    In the other order V2 and V3 would deadlock when they write one row. A BEFORE INSERT trigger fires for an upsert
    before its row is locked; that is why writers of the new table must upsert.
    """
    table, name = old_table_sql(plan, catalog, archived), lock_order_name(plan)
    body = f"""
#variable_conflict use_column
BEGIN
  IF current_setting({quote_literal(SYNC_SETTING)}, true) IS DISTINCT FROM 'old' THEN
    BEGIN
      PERFORM FROM {table} WHERE {_key_match(catalog, "NEW")} FOR NO KEY UPDATE;
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;
  RETURN NEW;
END
"""
    return (
        _function_sql(plan, SCHEMA, name, body),
        f"CREATE OR REPLACE TRIGGER {quote_identifier(name)} BEFORE INSERT\n"
        f"ON {catalog.new_table.sql} FOR EACH ROW EXECUTE FUNCTION {quote_qualified(SCHEMA, name)}()",
    )


def _watched_table_sql(plan: Plan, catalog: Catalog, direction: Direction, archived: bool) -> str:
    if plan.change.kind == "table" and direction == "reverse":
        if catalog.new is not None:
            return catalog.new.sql
        return quote_qualified(plan.change.target_table.schema_, plan.change.target_table.name)
    return old_table_sql(plan, catalog, archived)


def old_table_sql(plan: Plan, catalog: Catalog, archived: bool) -> str:
    """The old table at its present place, or where it will be, quoted."""
    if archived == catalog.is_archived and not catalog.is_dropped:
        return catalog.old.sql
    if plan.change.kind == "table" and archived:
        return quote_qualified(ARCHIVE_SCHEMA, plan.change.table.name)
    return quote_qualified(plan.change.table.schema_, plan.change.table.name)


def _trigger_sql(plan: Plan, catalog: Catalog, direction: Direction, archived: bool, schema: str) -> str:
    name = sync_name(plan, direction)
    keys = list(catalog.key_names) if plan.change.kind == "table" else []
    if direction == "forward":
        columns = [
            old_column_name(plan, column, archived)
            for column in dict.fromkeys([*plan.change.down, *catalog.up_source_columns, *keys])
        ]
    else:
        columns = list(dict.fromkeys([*plan.change.up, *catalog.down_source_columns, *keys]))
    events = f"INSERT OR UPDATE OF {quote_names(columns)}"
    timing = f"BEFORE {events}" if plan.change.kind == "column" else f"AFTER DELETE OR {events}"
    return (
        f"CREATE OR REPLACE TRIGGER {quote_identifier(name)} {timing}\n"
        f"ON {_watched_table_sql(plan, catalog, direction, archived)} FOR EACH ROW "
        f"EXECUTE FUNCTION {quote_qualified(schema, name)}()"
    )


def _enable_sql(table: str, trigger: str) -> str:
    """Also for sessions that skip ordinary triggers, with session_replication_role = replica: no write goes unseen."""
    return f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {quote_identifier(trigger)}"


def _changed_condition(columns: Sequence[CatalogColumn], names: Mapping[str, str] | None = None) -> str:
    """Whether an UPDATE changes any of the columns; ``names`` has their present names where they may differ."""
    quoted = [(column, quote_identifier(names[column.name] if names else column.name)) for column in columns]
    return " OR ".join(distinct_condition(column, f"NEW.{name}", f"OLD.{name}") for column, name in quoted)


def _written_condition(columns: Sequence[CatalogColumn]) -> str:
    return " OR ".join(f"NEW.{column.sql} IS NOT NULL" for column in columns)


def _disagrees_condition(plan: Plan, new: Sequence[CatalogColumn], record: str = "NEW") -> str:
    """Whether the new columns of a record differ from what ``up`` computes."""
    stored = ((column, stored_value(column, plan.change.up[column.name])) for column in new)
    return " OR ".join(distinct_condition(column, value, f"{record}.{column.sql}") for column, value in stored)


def _agree_condition(plan: Plan, catalog: Catalog, archived: bool, old: str, new: str) -> str:
    """Whether the old side in one record and the new side in another agree: by ``up``, or by ``down``.

    As the witness compares from cutover on: a lossy expression makes one of the two fail.
    """
    fields, change = old_fields(plan, catalog, archived), plan.change
    up_differs = _disagrees_condition(plan, catalog.new_table.require_columns(change.up), new)
    down_differs = " OR ".join(
        distinct_condition(
            column, stored_value(column, change.down[column.name]), f"{old}.{quote_identifier(fields[column.name])}"
        )
        for column in catalog.old.require_columns(change.down)
    )
    from_old = row_source(old, fields, change.table.name)
    from_new = row_source(new, new_fields(plan, catalog), change.target_table.name)
    return (
        f"(EXISTS (SELECT FROM {from_old} WHERE NOT ({up_differs}))\n"
        f"      OR EXISTS (SELECT FROM {from_new} WHERE NOT ({down_differs})))"
    )


_RAISE_CONFLICT = "RAISE EXCEPTION 'the two sides of the row differ'"


def _expressions(columns: Sequence[CatalogColumn], expressions: Mapping[str, str]) -> str:
    return ", ".join(f"({expressions[column.name]})" for column in columns)


def _require_storable(plan: Plan, catalog: Catalog, columns: Iterable[str], archived: bool) -> str:
    """Raises, inside the block that catches it, what the table would raise after the trigger.

    Args:
        columns: the columns that the trigger has filled, with their names at the time of the trigger.
    """
    filled, tests = set(columns), []
    renamed = _renamed_columns(plan, catalog, archived)
    for check in catalog.row_checks:
        names = [renamed.get(name, name) for name in check.columns]
        expression = _renamed_expression(check.expression, renamed)
        is_computed = any((column := catalog.old.column(name)) and column.is_generated for name in check.columns)
        if filled & set(names) and expression and not is_computed:
            violated = f"EXISTS (SELECT FROM (SELECT (NEW).*) AS zdd_row WHERE NOT ({expression}))"
            tests.append(("check_violation", f"check constraint {check.name}", violated))
    for key in catalog.row_keys:
        names = [renamed.get(name, name) for name in key.columns]
        if filled & set(names):
            match = " AND ".join(f"zdd_t.{quote_identifier(name)} = NEW.{quote_identifier(name)}" for name in names)
            own, before = quote_names(catalog.key_names, "zdd_t."), quote_names(catalog.key_names, "OLD.")
            other = f"(TG_OP = 'INSERT' OR ({own}) IS DISTINCT FROM ({before}))"
            violated = f"EXISTS (SELECT FROM {catalog.old.sql} AS zdd_t WHERE {match} AND {other})"
            tests.append(("unique_violation", f"unique index {key.name}", violated))
    for reference in catalog.row_references:
        names = [renamed.get(name, name) for name in reference.columns]
        if filled & set(names):
            given = " AND ".join(f"NEW.{quote_identifier(name)} IS NOT NULL" for name in names)
            match = " AND ".join(
                f"zdd_t.{quote_identifier(target)} = NEW.{quote_identifier(name)}"
                for name, target in zip(names, reference.target_columns, strict=True)
            )
            violated = f"{given} AND NOT EXISTS (SELECT FROM {reference.target} AS zdd_t WHERE {match})"
            tests.append(("foreign_key_violation", f"foreign key {reference.name}", violated))
    required = [new for name in catalog.required_columns if (new := renamed.get(name, name)) in filled]
    if required:
        violated = " OR ".join(f"NEW.{quote_identifier(name)} IS NULL" for name in required)
        tests.append(("not_null_violation", "a column that must not be NULL", violated))
    return "".join(
        f"""
    IF {violated} THEN
      RAISE {condition} USING MESSAGE = {quote_literal(message)};
    END IF;"""
        for condition, message, violated in tests
    )


def _renamed_columns(plan: Plan, catalog: Catalog, archived: bool) -> dict[str, str]:
    """Present names of old columns that have another name when the trigger runs, by archiving or restoring them."""
    names = {column: archived_name(plan, column) for column in plan.change.down}
    if archived == catalog.is_archived:
        return {}
    return names if archived else {later: now for now, later in names.items()}


def _renamed_expression(expression: str, renamed: Mapping[str, str]) -> str:
    """A check's expression with other names; empty where it cannot be rewritten, and then the table alone tests it."""
    if not renamed:
        return expression
    from zdd_tui.model.ddl.canonical import Renaming, renamed_constraint  # noqa: PLC0415  imports the SQL parser late

    text = renamed_constraint(f"CHECK ({expression})", Renaming(dict(renamed))) or ""
    return text.strip().removeprefix("CHECK").strip()


def _column_forward(plan: Plan, catalog: Catalog, archived: bool, is_two_way: bool) -> str:
    old = old_fields(plan, catalog, archived)
    reads = catalog.old.require_columns(dict.fromkeys([*plan.change.down, *catalog.up_source_columns]))
    new = catalog.new_table.require_columns(plan.change.up)
    names = [column.name for column in new]
    is_new_version, wrote_both = [_written_condition(new)], ""
    if is_two_way:
        # One statement has written both sides: where they differ it is recorded, as a write of the old side.
        wrote_both = f"""
      IF ({_changed_condition(reads, old)}) AND ({_changed_condition(new)})
         AND NOT {_agree_condition(plan, catalog, archived, "NEW", "NEW")} THEN
        {_RAISE_CONFLICT};
      END IF;"""
        is_new_version += [_storable_null(plan, catalog, archived), _explicit_null(plan, catalog, archived)]
    return f"""
    IF TG_OP = 'INSERT' THEN
      IF {" OR ".join(each for each in is_new_version if each)} THEN RETURN NEW; END IF;
    ELSIF NOT ({_changed_condition(reads, old)})
       OR {_changed_condition(new)} THEN{wrote_both}
      RETURN NEW;
    END IF;{_column_conflict(plan, catalog, archived, "new") if is_two_way else ""}
    SELECT {_expressions(new, plan.change.up)}
      INTO {quote_names(names, "NEW.")}
      FROM {row_source("NEW", old, plan.change.table.name)};{_require_storable(plan, catalog, names, archived)}"""


def _column_reverse(plan: Plan, catalog: Catalog, archived: bool, _is_two_way: bool) -> str:
    old = old_fields(plan, catalog, archived)
    new = catalog.new_table.require_columns(plan.change.up)
    old_columns = catalog.old.require_columns(plan.change.down)
    unknown = _shows_new_version(plan, catalog, archived)
    explicit = _explicit_null(plan, catalog, archived)
    is_new_version = f"{_written_condition(new)} OR {unknown}" + (f" OR {explicit}" if explicit else "")
    reset = f"PERFORM set_config({quote_literal(LEFT_OUT_SETTING)}, '', true);" if explicit else ""
    names = [old[column.name] for column in old_columns]
    return f"""
    IF TG_OP = 'INSERT' THEN
      IF NOT ({is_new_version}) THEN {reset} RETURN NEW; END IF; {reset}
    ELSIF NOT ({_changed_condition(new)})
       OR {_changed_condition(old_columns, old)} THEN
      RETURN NEW;
    END IF;
    IF NOT (TG_OP = 'INSERT' AND ({unknown}))
       AND NOT EXISTS (SELECT FROM {row_source("NEW", old, plan.change.table.name)}
                       WHERE {_disagrees_condition(plan, new)}) THEN
      RETURN NEW;
    END IF;{_column_conflict(plan, catalog, archived, "old")}
    SELECT {_expressions(old_columns, plan.change.down)}
      INTO {quote_names(names, "NEW.")}
      FROM {row_source("NEW", new_fields(plan, catalog), plan.change.table.name)};{
        _require_storable(plan, catalog, names, archived)
    }"""


def _column_conflict(plan: Plan, catalog: Catalog, archived: bool, other: Side) -> str:
    """Ends the copy where the row's sides differed before the UPDATE: its other side is not this writer's to change.

    Args:
        other: the side that the trigger writes; a copy from there, by the agent, is what makes the sides agree.
    """
    return f"""
    IF TG_OP = 'UPDATE' THEN
      IF NOT {_agree_condition(plan, catalog, archived, "OLD", "OLD")} THEN
        IF current_setting({quote_literal(SYNC_SETTING)}, true) = {quote_literal(other)} THEN RETURN NEW; END IF;
        {_RAISE_CONFLICT};
      END IF;
    END IF;"""


def _key_match(catalog: Catalog, record: str) -> str:
    return " AND ".join(f"{quote_identifier(name)} = {record}.{quote_identifier(name)}" for name in catalog.key_names)


def overriding_clause(table: Table, key: tuple[str, ...]) -> str:
    """The clause that allows to write an identity key that is GENERATED ALWAYS; empty where it is not needed."""
    always = any(column.identity == "a" for column in table.require_columns(key))
    return " OVERRIDING SYSTEM VALUE" if always else ""


def upsert_clause(key: tuple[str, ...], columns: Sequence[CatalogColumn], alias: str) -> str:
    """ON CONFLICT … that updates only where something differs."""
    sets = ", ".join(f"{column.sql} = EXCLUDED.{column.sql}" for column in columns)
    differs = " OR ".join(distinct_condition(each, f"{alias}.{each.sql}", f"EXCLUDED.{each.sql}") for each in columns)
    return f"ON CONFLICT ({quote_names(key)}) DO UPDATE SET {sets}\n  WHERE {differs}"


def _copy_to_table(plan: Plan, catalog: Catalog, source: Side, archived: bool, is_two_way: bool) -> str:
    """Copies a row of one table to the other, unless the statement is itself such a copy."""
    copy = _copy_unless_different(plan, catalog, source, archived) if is_two_way else _overwrite(plan, catalog)
    other = quote_literal("new" if source == "old" else "old")
    return f"""
    IF current_setting({quote_literal(SYNC_SETTING)}, true) = {other} THEN RETURN NULL; END IF;
{_marked_copy(source, copy)}"""


def _marked_copy(source: Side, copy: str) -> str:
    """The copy under the setting by which the other direction's trigger does nothing."""
    setting = quote_literal(SYNC_SETTING)
    # An error takes the setting back with the rest of its block.
    return f"""    PERFORM set_config({setting}, {quote_literal(source)}, true);
{copy}
    PERFORM set_config({setting}, '', true);"""


def copy_at_commit(plan: Plan, catalog: Catalog, archived: bool) -> str:
    """Copies the row of a deferred trigger on the old table to the new side, for a writer of the old side alone.

    By the rule of the sync triggers: only where the new side is still the image of OLD. Anything else is raised. Column
    kind: the new columns get the image of the row as it is at commit, so the first event of several is enough.
    """
    if plan.change.kind == "table":
        return _marked_copy("old", _copy_unless_different(plan, catalog, "old", archived))
    new = catalog.new_table.require_columns(plan.change.up)
    written = " OR ".join(f"zdd_t.{column.sql} IS NOT NULL" for column in new)
    copy = (
        f"UPDATE {old_table_sql(plan, catalog, archived)} AS zdd_t"
        f" SET ({quote_names(column.name for column in new)}) = (SELECT {_expressions(new, plan.change.up)}"
        f" FROM {row_source('zdd_t', old_fields(plan, catalog, archived), plan.change.table.name)})\n"
        f"      WHERE {_key_match(catalog, 'NEW')}"
    )
    return f"""
    IF TG_OP = 'INSERT' THEN
      {copy} AND NOT ({written});
    ELSE
      {copy} AND {_agree_condition(plan, catalog, archived, "OLD", "zdd_t")};
    END IF;
    IF NOT FOUND THEN
      {_RAISE_CONFLICT};
    END IF;"""


def _overwrite(plan: Plan, catalog: Catalog) -> str:
    """Makes the row of the new table what ``up`` gives, whatever it was: before cutover the old side is right."""
    target = catalog.new_table
    new = target.require_columns(plan.change.up)
    names = quote_names([*catalog.key_names, *(column.name for column in new)])
    values = f"{quote_names(catalog.key_names, 'NEW.')}, {_expressions(new, plan.change.up)}"
    return f"""
    IF TG_OP = 'DELETE' THEN
      DELETE FROM {target.sql} WHERE {_key_match(catalog, "OLD")};
    ELSE
      IF TG_OP = 'UPDATE' AND ({_changed_condition(catalog.key)}) THEN
        DELETE FROM {target.sql} WHERE {_key_match(catalog, "OLD")};
      END IF;
      INSERT INTO {target.sql} AS zdd_new ({names}){overriding_clause(target, catalog.key_names)}
      SELECT {values}
        FROM {row_source("NEW", old_fields(plan, catalog, archived=False), plan.change.table.name)}
      {upsert_clause(catalog.key_names, new, "zdd_new")};
    END IF;"""


def _copy_unless_different(plan: Plan, catalog: Catalog, source: Side, archived: bool) -> str:
    """Makes the other table's row the image of NEW where it was the image of OLD, or was missing before an INSERT.

    A row that is the image of NEW already is left alone, such as one whose writer has written both tables. Anything
    else is raised.
    """

    def agrees(record: str) -> str:
        old, new = (record, "zdd_t") if source == "old" else ("zdd_t", record)
        return _agree_condition(plan, catalog, archived, old, new)

    def exists(condition: str) -> str:
        return f"EXISTS (SELECT FROM {table} AS zdd_t WHERE {condition})"

    change, keys = plan.change, catalog.key_names
    if source == "old":
        target, table = catalog.new_table, catalog.new_table.sql
        columns, expressions = target.require_columns(change.up), change.up
        values = row_source("NEW", old_fields(plan, catalog, archived), change.table.name)
    else:
        target, table = catalog.old, old_table_sql(plan, catalog, archived)
        columns, expressions = target.require_columns(change.down), change.down
        values = row_source("NEW", new_fields(plan, catalog), change.target_table.name)
    names = [column.name for column in columns]
    computed = _expressions(columns, expressions)
    given = quote_names(keys, "NEW.")
    at_old, at_new, moved = _key_match(catalog, "OLD"), _key_match(catalog, "NEW"), _changed_condition(catalog.key)
    return f"""
    IF TG_OP = 'INSERT' THEN
      INSERT INTO {table} ({quote_names([*keys, *names])}){overriding_clause(target, keys)}
      SELECT {given}, {computed} FROM {values}
      ON CONFLICT ({quote_names(keys)}) DO NOTHING;
    ELSIF TG_OP = 'DELETE' THEN
      DELETE FROM {table} AS zdd_t WHERE {at_old} AND {agrees("OLD")};
      IF NOT FOUND AND {exists(at_old)} THEN
        {_RAISE_CONFLICT};
      END IF;
    ELSIF {moved} THEN
      UPDATE {table} AS zdd_t SET ({quote_names([*keys, *names])}) = (SELECT {given}, {computed} FROM {values})
      WHERE {at_old} AND {agrees("OLD")};
    ELSE
      UPDATE {table} AS zdd_t SET ({quote_names(names)}) = (SELECT {computed} FROM {values})
      WHERE {at_old} AND {agrees("OLD")} AND NOT {agrees("NEW")};
    END IF;
    IF NOT FOUND AND TG_OP <> 'DELETE' THEN
      IF NOT {exists(f"{at_new} AND {agrees('NEW')}")}
         OR TG_OP = 'UPDATE' AND ({moved}) AND {exists(at_old)} THEN
        {_RAISE_CONFLICT};
      END IF;
    END IF;"""

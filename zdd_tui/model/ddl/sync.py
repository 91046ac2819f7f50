"""Triggers that keep one side in sync with the other.

Column kind: BEFORE ROW triggers fill the other columns of the same row. Table kind: AFTER ROW triggers upsert the
row of the other table. None of them changes a row whose sides agree, so a lossy ``down`` never damages old data.

None of them makes a statement of the application fail (invariant 13): an error ends the copy of that row alone,
which is recorded in zdd.witness_record, as a row whose sides differ. The functions run with the rights of their owner:
the application's roles need none on the other table, and none in the schema zdd.
"""

# ruff: noqa: S608  names are quoted, expressions have passed the lint, values are parameters

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from zdd_tui.model.ddl.catalog import Catalog, CatalogColumn, Table
from zdd_tui.model.ddl.names import (
    ARCHIVE_SCHEMA,
    SCHEMA,
    SYNC_SETTING,
    Direction,
    archived_name,
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
    if plan.change.kind == "column":
        body = (_column_forward if direction == "forward" else _column_reverse)(plan, catalog, archived)
    else:
        body = (_table_forward if direction == "forward" else _table_reverse)(plan, catalog, archived)
    text = body.complete(plan, catalog, direction, is_scratch=bool(scratch_schema))
    schema = scratch_schema or SCHEMA
    statements = (
        _function_sql(plan, schema, sync_name(plan, direction), text),
        _trigger_sql(plan, catalog, direction, archived, schema),
    )
    if plan.change.kind == "table" and direction == "reverse" and not scratch_schema:
        return (*_lock_order_statements(plan, catalog, archived), *statements)
    return statements


def drop_sync_statements(
    plan: Plan, catalog: Catalog, direction: Direction, *, scratch_schema: str = ""
) -> tuple[str, ...]:
    """Removes function and trigger of one direction, if they exist."""
    schema = scratch_schema or SCHEMA
    table = _watched_table_sql(plan, catalog, direction, catalog.is_archived)
    names = [sync_name(plan, direction)]
    if plan.change.kind == "table" and direction == "reverse":
        names.append(lock_order_name(plan))
    return tuple(
        statement
        for name in names
        for statement in (
            f"DROP TRIGGER IF EXISTS {quote_identifier(name)} ON {table}",
            f"DROP FUNCTION IF EXISTS {quote_qualified(schema, name)}()",
        )
    )


def _function_sql(plan: Plan, schema: str, name: str, body: str) -> str:
    # A writer of the application waits for a lock of the other side no longer than our own DDL would. That is shorter
    # than the server's deadlock_timeout, so in a deadlock the copy gives way, and no statement of the application.
    timeout = max(1, round(plan.database.lock_timeout_max * 1000))
    return (
        f"CREATE OR REPLACE FUNCTION {quote_qualified(schema, name)}() RETURNS trigger LANGUAGE plpgsql\n"
        f"SECURITY DEFINER SET search_path = {search_path(plan)} SET lock_timeout = {quote_literal(f'{timeout}ms')}\n"
        f"AS {dollar_quoted(body)}"
    )


@dataclass(frozen=True, slots=True)
class _SyncBody:
    """The body of a sync function.

    Attributes:
        begin: runs first; may end the function.
        copy: copies the row; an error ends it alone.
        restore: takes back what an interrupted copy has assigned to NEW.
        end: ends the function.
        declare: variables.
    """

    begin: str
    copy: str
    restore: str
    end: str
    declare: str = ""

    def complete(self, plan: Plan, catalog: Catalog, direction: Direction, *, is_scratch: bool) -> str:
        """The whole text. In a scratch schema nothing is caught, so that the check sees the error."""
        copy = self.copy
        if not is_scratch:
            copy = f"""
  BEGIN{copy}
  EXCEPTION WHEN OTHERS THEN{self.restore}
{_record_failure(plan, catalog, direction)}
  END;"""
        return f"""
#variable_conflict use_column
{self.declare}BEGIN{self.begin}{copy}
{self.end}
END
"""


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


def _changed_condition(columns: Sequence[CatalogColumn], names: Mapping[str, str] | None = None) -> str:
    """Whether an UPDATE changes any of the columns; ``names`` has their present names where they may differ."""
    quoted = [(column, quote_identifier(names[column.name] if names else column.name)) for column in columns]
    return " OR ".join(distinct_condition(column, f"NEW.{name}", f"OLD.{name}") for column, name in quoted)


def _written_condition(columns: Sequence[CatalogColumn]) -> str:
    return " OR ".join(f"NEW.{column.sql} IS NOT NULL" for column in columns)


def _disagrees_condition(plan: Plan, new: Sequence[CatalogColumn]) -> str:
    """Whether the new columns of NEW differ from what ``up`` computes."""
    stored = ((column, stored_value(column, plan.change.up[column.name])) for column in new)
    return " OR ".join(distinct_condition(column, value, f"NEW.{column.sql}") for column, value in stored)


def _expressions(columns: Sequence[CatalogColumn], expressions: Mapping[str, str]) -> str:
    return ", ".join(f"({expressions[column.name]})" for column in columns)


def _columns(table: Table, names: Iterable[str]) -> list[CatalogColumn]:
    return [column for name in names if (column := table.column(name)) is not None]


def _assign(columns: Iterable[str], record: str = "") -> str:
    """Assignments to columns of NEW: those of a record, or NULL."""
    names = [quote_identifier(name) for name in columns]
    return " ".join(f"NEW.{name} := {f'{record}.{name}' if record else 'NULL'};" for name in names)


def _restore(columns: Iterable[str]) -> str:
    """Takes back assignments to columns that were NULL in an INSERT, and unchanged in an UPDATE."""
    columns = list(columns)
    return f"""
    IF TG_OP = 'INSERT' THEN {_assign(columns)} ELSE {_assign(columns, "OLD")} END IF;"""


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


def _column_forward(plan: Plan, catalog: Catalog, archived: bool) -> _SyncBody:
    old = old_fields(plan, catalog, archived)
    reads = _columns(catalog.old, dict.fromkeys([*plan.change.down, *catalog.up_source_columns]))
    new = _columns(catalog.new_table, plan.change.up)
    names = [column.name for column in new]
    return _SyncBody(
        begin=f"""
  IF TG_OP = 'INSERT' THEN
    IF {_written_condition(new)} THEN RETURN NEW; END IF;
  ELSIF NOT ({_changed_condition(reads, old)})
     OR {_changed_condition(new)} THEN
    RETURN NEW;
  END IF;""",
        copy=f"""
    SELECT {_expressions(new, plan.change.up)}
      INTO {quote_names(names, "NEW.")}
      FROM {row_source("NEW", old, plan.change.table.name)};{_require_storable(plan, catalog, names, archived)}""",
        restore=_restore(names),
        end="  RETURN NEW;",
    )


def _column_reverse(plan: Plan, catalog: Catalog, archived: bool) -> _SyncBody:
    old = old_fields(plan, catalog, archived)
    new = _columns(catalog.new_table, plan.change.up)
    old_columns = _columns(catalog.old, plan.change.down)
    # A NULL that the table does not accept shows that the writer does not know the old columns.
    required = (quote_identifier(old[column.name]) for column in old_columns if column.is_required)
    unknown = " OR ".join(f"NEW.{name} IS NULL" for name in required) or "false"
    names = [old[column.name] for column in old_columns]
    storable = _require_storable(plan, catalog, names, archived)
    return _SyncBody(
        begin=f"""
  IF TG_OP = 'INSERT' THEN
    IF NOT ({_written_condition(new)} OR {unknown}) THEN RETURN NEW; END IF;
  ELSIF NOT ({_changed_condition(new)})
     OR {_changed_condition(old_columns, old)} THEN
    RETURN NEW;
  END IF;""",
        copy=f"""
    IF (TG_OP = 'INSERT' AND ({unknown}))
       OR EXISTS (SELECT FROM {row_source("NEW", old, plan.change.table.name)}
                  WHERE {_disagrees_condition(plan, new)}) THEN
      zdd_given := NEW;
      zdd_has_given := true;
      SELECT {_expressions(old_columns, plan.change.down)}
        INTO {quote_names(names, "NEW.")}
        FROM {row_source("NEW", new_fields(plan, catalog), plan.change.table.name)};{storable}
    END IF;""",
        # An INSERT may have given the old columns, by their defaults at least.
        restore=f"""
    IF zdd_has_given THEN {_assign(names, "zdd_given")} END IF;""",
        end="  RETURN NEW;",
        declare="DECLARE\n  zdd_given record;\n  zdd_has_given boolean := false;\n",
    )


def _key_match(catalog: Catalog, record: str) -> str:
    return " AND ".join(f"{quote_identifier(name)} = {record}.{quote_identifier(name)}" for name in catalog.key_names)


def overriding_clause(table: Table, key: tuple[str, ...]) -> str:
    """The clause that allows to write an identity key that is GENERATED ALWAYS; empty where it is not needed."""
    always = any(column.identity == "a" for column in _columns(table, key))
    return " OVERRIDING SYSTEM VALUE" if always else ""


def upsert_clause(key: tuple[str, ...], columns: Sequence[CatalogColumn], alias: str, condition: str = "") -> str:
    """ON CONFLICT … that updates only where something differs, or where ``condition`` holds."""
    sets = ", ".join(f"{column.sql} = EXCLUDED.{column.sql}" for column in columns)
    differs = " OR ".join(distinct_condition(each, f"{alias}.{each.sql}", f"EXCLUDED.{each.sql}") for each in columns)
    return f"ON CONFLICT ({quote_names(key)}) DO UPDATE SET {sets}\n  WHERE {condition or differs}"


def _skip_when_syncing(source: str, body: str) -> _SyncBody:
    other = "new" if source == "old" else "old"
    setting = quote_literal(SYNC_SETTING)
    return _SyncBody(
        begin=f"""
  IF current_setting({setting}, true) = {quote_literal(other)} THEN RETURN NULL; END IF;""",
        # An error takes the setting back with the rest of its block.
        copy=f"""
  PERFORM set_config({setting}, {quote_literal(source)}, true);
{body}
  PERFORM set_config({setting}, '', true);""",
        restore="",
        end="  RETURN NULL;",
    )


def _table_forward(plan: Plan, catalog: Catalog, archived: bool) -> _SyncBody:
    target = catalog.new_table
    new = _columns(target, plan.change.up)
    names = quote_names([*catalog.key_names, *(column.name for column in new)])
    values = f"{quote_names(catalog.key_names, 'NEW.')}, {_expressions(new, plan.change.up)}"
    return _skip_when_syncing(
        "old",
        f"""
  IF TG_OP = 'DELETE' THEN
    DELETE FROM {target.sql} WHERE {_key_match(catalog, "OLD")};
  ELSE
    IF TG_OP = 'UPDATE' AND ({_changed_condition(catalog.key)}) THEN
      DELETE FROM {target.sql} WHERE {_key_match(catalog, "OLD")};
    END IF;
    INSERT INTO {target.sql} AS zdd_new ({names}){overriding_clause(target, catalog.key_names)}
    SELECT {values}
      FROM {row_source("NEW", old_fields(plan, catalog, archived), plan.change.table.name)}
    {upsert_clause(catalog.key_names, new, "zdd_new")};
  END IF;""",
    )


def _table_reverse(plan: Plan, catalog: Catalog, archived: bool) -> _SyncBody:
    table = old_table_sql(plan, catalog, archived)
    old_columns = _columns(catalog.old, plan.change.down)
    names = quote_names([*catalog.key_names, *(column.name for column in old_columns)])
    values = f"{quote_names(catalog.key_names, 'NEW.')}, {_expressions(old_columns, plan.change.down)}"
    disagrees = _disagrees_condition(plan, _columns(catalog.new_table, plan.change.up))
    source = row_source("zdd_old", old_fields(plan, catalog, archived), plan.change.table.name)
    moved = ", ".join(f"{quote_identifier(name)} = NEW.{quote_identifier(name)}" for name in catalog.key_names)
    return _skip_when_syncing(
        "new",
        f"""
  IF TG_OP = 'DELETE' THEN
    DELETE FROM {table} WHERE {_key_match(catalog, "OLD")};
  ELSE
    IF TG_OP = 'UPDATE' AND ({_changed_condition(catalog.key)}) THEN
      UPDATE {table} SET {moved} WHERE {_key_match(catalog, "OLD")};
    END IF;
    INSERT INTO {table} AS zdd_old ({names}){overriding_clause(catalog.old, catalog.key_names)}
    SELECT {values}
      FROM {row_source("NEW", new_fields(plan, catalog), plan.change.target_table.name)}
    {upsert_clause(catalog.key_names, old_columns, "zdd_old", f"EXISTS (SELECT FROM {source} WHERE {disagrees})")};
  END IF;""",
    )

"""Triggers that keep one side in sync with the other.

Column kind: BEFORE ROW triggers fill the other columns of the same row. Table kind: AFTER ROW triggers upsert the
row of the other table. None of them changes a row whose sides agree, so a lossy ``down`` never damages old data.
"""

# ruff: noqa: S608  names are quoted, expressions have passed the lint, values are parameters

from collections.abc import Iterable, Mapping, Sequence

from zdd_tui.model.ddl.catalog import Catalog, CatalogColumn, Table
from zdd_tui.model.ddl.names import (
    ARCHIVE_SCHEMA,
    SCHEMA,
    SYNC_SETTING,
    Direction,
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
    plan: Plan, catalog: Catalog, direction: Direction, archived: bool | None = None
) -> tuple[str, ...]:
    """Function and trigger of one direction, replacing what is there.

    Args:
        archived: whether the old side is archived when they are used; default: as it is now.
    """
    archived = catalog.is_archived if archived is None else archived
    if plan.change.kind == "column":
        body = (_column_forward if direction == "forward" else _column_reverse)(plan, catalog, archived)
    else:
        body = (_table_forward if direction == "forward" else _table_reverse)(plan, catalog, archived)
    statements = (
        _function_sql(plan, sync_name(plan, direction), body),
        _trigger_sql(plan, catalog, direction, archived),
    )
    if plan.change.kind == "table" and direction == "reverse":
        return (*_lock_order_statements(plan, catalog, archived), *statements)
    return statements


def drop_sync_statements(plan: Plan, catalog: Catalog, direction: Direction) -> tuple[str, ...]:
    """Removes function and trigger of one direction, if they exist."""
    table = _watched_table_sql(plan, catalog, direction, catalog.is_archived)
    names = [sync_name(plan, direction)]
    if plan.change.kind == "table" and direction == "reverse":
        names.append(lock_order_name(plan))
    return tuple(
        statement
        for name in names
        for statement in (
            f"DROP TRIGGER IF EXISTS {quote_identifier(name)} ON {table}",
            f"DROP FUNCTION IF EXISTS {quote_qualified(SCHEMA, name)}()",
        )
    )


def _function_sql(plan: Plan, name: str, body: str) -> str:
    # A writer of one table may lack rights on the other, so in the table kind the function runs with the owner's.
    rights = "SECURITY DEFINER " if plan.change.kind == "table" else ""
    return (
        f"CREATE OR REPLACE FUNCTION {quote_qualified(SCHEMA, name)}() RETURNS trigger LANGUAGE plpgsql\n"
        f"{rights}SET search_path = {search_path(plan)}\nAS {dollar_quoted(body)}"
    )


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
    PERFORM FROM {table} WHERE {_key_match(catalog, "NEW")} FOR NO KEY UPDATE;
  END IF;
  RETURN NEW;
END
"""
    return (
        _function_sql(plan, name, body),
        f"CREATE OR REPLACE TRIGGER {quote_identifier(name)} BEFORE INSERT\n"
        f"ON {catalog.new_table.sql} FOR EACH ROW EXECUTE FUNCTION {quote_qualified(SCHEMA, name)}()",
    )


def _watched_table_sql(plan: Plan, catalog: Catalog, direction: Direction, archived: bool) -> str:
    if plan.change.kind == "table" and direction == "reverse":
        return quote_qualified(plan.change.target_table.schema_, plan.change.target_table.name)
    return old_table_sql(plan, catalog, archived)


def old_table_sql(plan: Plan, catalog: Catalog, archived: bool) -> str:
    """The old table at its present place, quoted."""
    if plan.change.kind == "table" and archived:
        return quote_qualified(ARCHIVE_SCHEMA, plan.change.table.name)
    return quote_qualified(plan.change.table.schema_, plan.change.table.name)


def _trigger_sql(plan: Plan, catalog: Catalog, direction: Direction, archived: bool) -> str:
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
        f"EXECUTE FUNCTION {quote_qualified(SCHEMA, name)}()"
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


def _column_forward(plan: Plan, catalog: Catalog, archived: bool) -> str:
    old = old_fields(plan, catalog, archived)
    reads = _columns(catalog.old, dict.fromkeys([*plan.change.down, *catalog.up_source_columns]))
    new = _columns(catalog.new_table, plan.change.up)
    return f"""
#variable_conflict use_column
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF {_written_condition(new)} THEN RETURN NEW; END IF;
  ELSIF NOT ({_changed_condition(reads, old)})
     OR {_changed_condition(new)} THEN
    RETURN NEW;
  END IF;
  SELECT {_expressions(new, plan.change.up)}
    INTO {quote_names((column.name for column in new), "NEW.")}
    FROM {row_source("NEW", old, plan.change.table.name)};
  RETURN NEW;
END
"""


def _column_reverse(plan: Plan, catalog: Catalog, archived: bool) -> str:
    old = old_fields(plan, catalog, archived)
    new = _columns(catalog.new_table, plan.change.up)
    old_columns = _columns(catalog.old, plan.change.down)
    # A NULL that the table does not accept shows that the writer does not know the old columns.
    required = (quote_identifier(old[column.name]) for column in old_columns if column.is_required)
    unknown = " OR ".join(f"NEW.{name} IS NULL" for name in required) or "false"
    return f"""
#variable_conflict use_column
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NOT ({_written_condition(new)} OR {unknown}) THEN RETURN NEW; END IF;
  ELSIF NOT ({_changed_condition(new)})
     OR {_changed_condition(old_columns, old)} THEN
    RETURN NEW;
  END IF;
  IF (TG_OP = 'INSERT' AND ({unknown}))
     OR EXISTS (SELECT FROM {row_source("NEW", old, plan.change.table.name)}
                WHERE {_disagrees_condition(plan, new)}) THEN
    SELECT {_expressions(old_columns, plan.change.down)}
      INTO {quote_names((old[column.name] for column in old_columns), "NEW.")}
      FROM {row_source("NEW", new_fields(plan, catalog), plan.change.table.name)};
  END IF;
  RETURN NEW;
END
"""


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


def _skip_when_syncing(source: str, body: str) -> str:
    other = "new" if source == "old" else "old"
    return f"""
#variable_conflict use_column
BEGIN
  IF current_setting({quote_literal(SYNC_SETTING)}, true) = {quote_literal(other)} THEN RETURN NULL; END IF;
  PERFORM set_config({quote_literal(SYNC_SETTING)}, {quote_literal(source)}, true);
{body}
  PERFORM set_config({quote_literal(SYNC_SETTING)}, '', true);
  RETURN NULL;
END
"""


def _table_forward(plan: Plan, catalog: Catalog, archived: bool) -> str:
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


def _table_reverse(plan: Plan, catalog: Catalog, archived: bool) -> str:
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

"""Triggers that keep one side in step with the other.

Column kind: BEFORE ROW triggers fill the other columns of the same row. Table kind: AFTER ROW triggers upsert the
row of the other table. None of them touches a row whose sides agree, so a lossy ``down`` never spoils old data.
"""

# ruff: noqa: S608  names are quoted by ident(), expressions have passed the lint, values are parameters

from zdd_tui.model.ddl.catalog import Catalog, Column, Table
from zdd_tui.model.ddl.names import (
    ASIDE_SCHEMA,
    SCHEMA,
    SYNCING,
    Direction,
    old_side_name,
    order_name,
    search_path,
    sync_name,
)
from zdd_tui.model.ddl.tokens import dollar_quoted
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import ident, literal, qualified


def distinct(column: Column, left: str, right: str) -> str:
    """A condition: two values for ``column`` differ, NULLs being equal to each other."""
    if column.comparable:
        return f"({left} IS DISTINCT FROM {right})"
    return f"(({left})::text IS DISTINCT FROM ({right})::text)"


def computed(column: Column, expression: str) -> str:
    """What a column holds after ``expression`` was stored in it: rounded and padded by its type."""
    return f"CAST(({expression}) AS {column.type})"


def row_source(record: str, names: dict[str, str], alias: str) -> str:
    """A FROM item of one row: ``record``'s fields, by the names that the plan's expressions use."""
    fields = ", ".join(f"{record}.{ident(field)} AS {ident(name)}" for name, field in names.items())
    return f"(SELECT {fields}) AS {ident(alias)}"


def old_fields(plan: Plan, catalog: Catalog, aside: bool) -> dict[str, str]:
    """Columns that ``up`` may read: name in the plan, name in the table."""
    names = dict.fromkeys([*plan.change.down, *catalog.up_reads, *catalog.key_names])
    return {name: old_side_name(plan, name, aside) for name in names}


def new_fields(plan: Plan, catalog: Catalog) -> dict[str, str]:
    """Columns that ``down`` may read."""
    return {name: name for name in [*plan.change.up, *catalog.down_reads, *catalog.key_names]}


def sync_statements(plan: Plan, catalog: Catalog, direction: Direction, aside: bool | None = None) -> tuple[str, ...]:
    """Function and trigger of one direction, replacing what is there.

    Args:
        aside: whether the old side is set aside when they are used; default: as it is now.
    """
    aside = catalog.aside if aside is None else aside
    if plan.change.kind == "column":
        body = (_column_forward if direction == "forward" else _column_reverse)(plan, catalog, aside)
    else:
        body = (_table_forward if direction == "forward" else _table_reverse)(plan, catalog, aside)
    statements = (
        _function(plan, sync_name(plan, direction), body),
        _trigger(plan, catalog, direction, aside),
    )
    if plan.change.kind == "table" and direction == "reverse":
        return (*_order_statements(plan, catalog, aside), *statements)
    return statements


def drop_sync_statements(
    plan: Plan, catalog: Catalog, direction: Direction, aside: bool | None = None
) -> tuple[str, ...]:
    """Removes function and trigger of one direction; harmless when they are not there."""
    table = _watched(plan, catalog, direction, catalog.aside if aside is None else aside)
    names = [sync_name(plan, direction)]
    if plan.change.kind == "table" and direction == "reverse":
        names.append(order_name(plan))
    return tuple(
        statement
        for name in names
        for statement in (
            f"DROP TRIGGER IF EXISTS {ident(name)} ON {table}",
            f"DROP FUNCTION IF EXISTS {qualified(SCHEMA, name)}()",
        )
    )


def _function(plan: Plan, name: str, body: str) -> str:
    # The writer of one table may lack rights on the other, so the table kind acts with the owner's.
    rights = "SECURITY DEFINER " if plan.change.kind == "table" else ""
    return (
        f"CREATE OR REPLACE FUNCTION {qualified(SCHEMA, name)}() RETURNS trigger LANGUAGE plpgsql\n"
        f"{rights}SET search_path = {search_path(plan)}\nAS {dollar_quoted(body)}"
    )


def _order_statements(plan: Plan, catalog: Catalog, aside: bool) -> tuple[str, str]:
    """An upsert of the new table locks the old row first, as a writer of the old table does.

    In the other order V2 and V3 at work on one row would run into a deadlock. A BEFORE INSERT trigger fires for an
    upsert before its row is locked; that is why writers of the new table are asked to upsert.
    """
    table, name = old_table(plan, catalog, aside), order_name(plan)
    body = f"""
#variable_conflict use_column
BEGIN
  IF current_setting({literal(SYNCING)}, true) IS DISTINCT FROM 'old' THEN
    PERFORM FROM {table} WHERE {_key_match(catalog, "NEW")} FOR NO KEY UPDATE;
  END IF;
  RETURN NEW;
END
"""
    return (
        _function(plan, name, body),
        f"CREATE OR REPLACE TRIGGER {ident(name)} BEFORE INSERT\n"
        f"ON {catalog.target.sql} FOR EACH ROW EXECUTE FUNCTION {qualified(SCHEMA, name)}()",
    )


def _watched(plan: Plan, catalog: Catalog, direction: Direction, aside: bool) -> str:
    if plan.change.kind == "table" and direction == "reverse":
        return qualified(plan.change.target.schema_, plan.change.target.name)
    return old_table(plan, catalog, aside)


def old_table(plan: Plan, catalog: Catalog, aside: bool) -> str:
    """Where the old table is."""
    if plan.change.kind == "table" and aside:
        return qualified(ASIDE_SCHEMA, plan.change.table.name)
    return qualified(plan.change.table.schema_, plan.change.table.name)


def _trigger(plan: Plan, catalog: Catalog, direction: Direction, aside: bool) -> str:
    name = sync_name(plan, direction)
    keys = list(catalog.key_names) if plan.change.kind == "table" else []
    if direction == "forward":
        columns = [
            old_side_name(plan, column, aside)
            for column in dict.fromkeys([*plan.change.down, *catalog.up_reads, *keys])
        ]
    else:
        columns = list(dict.fromkeys([*plan.change.up, *catalog.down_reads, *keys]))
    listed = ", ".join(ident(column) for column in columns)
    events = f"INSERT OR UPDATE OF {listed}"
    timing = f"BEFORE {events}" if plan.change.kind == "column" else f"AFTER DELETE OR {events}"
    return (
        f"CREATE OR REPLACE TRIGGER {ident(name)} {timing}\n"
        f"ON {_watched(plan, catalog, direction, aside)} FOR EACH ROW "
        f"EXECUTE FUNCTION {qualified(SCHEMA, name)}()"
    )


def _changed(columns: list[Column], names: dict[str, str], verb: str = " OR ") -> str:
    return verb.join(
        distinct(column, f"NEW.{ident(names[column.name])}", f"OLD.{ident(names[column.name])}") for column in columns
    )


def _columns(table: Table, names: object) -> list[Column]:
    return [column for name in names if (column := table.column(name)) is not None]  # type: ignore[attr-defined]


def _column_forward(plan: Plan, catalog: Catalog, aside: bool) -> str:
    old = old_fields(plan, catalog, aside)
    reads = _columns(catalog.old, dict.fromkeys([*plan.change.down, *catalog.up_reads]))
    new = _columns(catalog.target, plan.change.up)
    written = " OR ".join(f"NEW.{ident(column.name)} IS NOT NULL" for column in new)
    return f"""
#variable_conflict use_column
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF {written} THEN RETURN NEW; END IF;
  ELSIF NOT ({_changed(reads, old)})
     OR {_changed(new, {column.name: column.name for column in new})} THEN
    RETURN NEW;
  END IF;
  SELECT {", ".join(f"({plan.change.up[column.name]})" for column in new)}
    INTO {", ".join(f"NEW.{ident(column.name)}" for column in new)}
    FROM {row_source("NEW", old, plan.change.table.name)};
  RETURN NEW;
END
"""


def _column_reverse(plan: Plan, catalog: Catalog, aside: bool) -> str:
    old = old_fields(plan, catalog, aside)
    new = _columns(catalog.target, plan.change.up)
    kept = _columns(catalog.old, plan.change.down)
    # A NULL that the table does not accept tells that the writer does not know the old columns.
    unknown = " OR ".join(f"NEW.{ident(old[column.name])} IS NULL" for column in kept if column.required) or "false"
    written = " OR ".join(f"NEW.{ident(column.name)} IS NOT NULL" for column in new)
    differs = " OR ".join(
        distinct(column, computed(column, plan.change.up[column.name]), f"NEW.{ident(column.name)}") for column in new
    )
    return f"""
#variable_conflict use_column
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NOT ({written} OR {unknown}) THEN RETURN NEW; END IF;
  ELSIF NOT ({_changed(new, {column.name: column.name for column in new})})
     OR {_changed(kept, old)} THEN
    RETURN NEW;
  END IF;
  IF (TG_OP = 'INSERT' AND ({unknown}))
     OR EXISTS (SELECT FROM {row_source("NEW", old, plan.change.table.name)}
                WHERE {differs}) THEN
    SELECT {", ".join(f"({plan.change.down[column.name]})" for column in kept)}
      INTO {", ".join(f"NEW.{ident(old[column.name])}" for column in kept)}
      FROM {row_source("NEW", new_fields(plan, catalog), plan.change.table.name)};
  END IF;
  RETURN NEW;
END
"""


def _key_match(catalog: Catalog, record: str) -> str:
    return " AND ".join(f"{ident(name)} = {record}.{ident(name)}" for name in catalog.key_names)


def overriding(table: Table, key: tuple[str, ...]) -> str:
    """The clause that lets us write an identity key that is GENERATED ALWAYS."""
    always = any(column.identity == "a" for column in _columns(table, key))
    return " OVERRIDING SYSTEM VALUE" if always else ""


def upsert_tail(key: tuple[str, ...], columns: list[Column], alias: str, extra: str = "") -> str:
    """ON CONFLICT … that updates only where something differs."""
    sets = ", ".join(f"{ident(column.name)} = EXCLUDED.{ident(column.name)}" for column in columns)
    where = extra or " OR ".join(
        distinct(column, f"{alias}.{ident(column.name)}", f"EXCLUDED.{ident(column.name)}") for column in columns
    )
    return f"ON CONFLICT ({', '.join(ident(name) for name in key)}) DO UPDATE SET {sets}\n  WHERE {where}"


def _guarded(source: str, work: str) -> str:
    other = "new" if source == "old" else "old"
    return f"""
#variable_conflict use_column
BEGIN
  IF current_setting({literal(SYNCING)}, true) = {literal(other)} THEN RETURN NULL; END IF;
  PERFORM set_config({literal(SYNCING)}, {literal(source)}, true);
{work}
  PERFORM set_config({literal(SYNCING)}, '', true);
  RETURN NULL;
END
"""


def _table_forward(plan: Plan, catalog: Catalog, aside: bool) -> str:
    target = catalog.target
    new = _columns(target, plan.change.up)
    key = catalog.key
    names = ", ".join(ident(column.name) for column in [*key, *new])
    values = ", ".join(
        [f"NEW.{ident(column.name)}" for column in key] + [f"({plan.change.up[column.name]})" for column in new]
    )
    return _guarded(
        "old",
        f"""
  IF TG_OP = 'DELETE' THEN
    DELETE FROM {target.sql} WHERE {_key_match(catalog, "OLD")};
  ELSE
    IF TG_OP = 'UPDATE' AND ({_changed(list(key), {column.name: column.name for column in key})}) THEN
      DELETE FROM {target.sql} WHERE {_key_match(catalog, "OLD")};
    END IF;
    INSERT INTO {target.sql} AS zdd_new ({names}){overriding(target, catalog.key_names)}
    SELECT {values}
      FROM {row_source("NEW", old_fields(plan, catalog, aside), plan.change.table.name)}
    {upsert_tail(catalog.key_names, new, "zdd_new")};
  END IF;""",
    )


def _table_reverse(plan: Plan, catalog: Catalog, aside: bool) -> str:
    table = old_table(plan, catalog, aside)
    kept = _columns(catalog.old, plan.change.down)
    key = catalog.key
    names = ", ".join(ident(column.name) for column in [*key, *kept])
    values = ", ".join(
        [f"NEW.{ident(column.name)}" for column in key] + [f"({plan.change.down[column.name]})" for column in kept]
    )
    disagrees = " OR ".join(
        distinct(column, computed(column, plan.change.up[column.name]), f"NEW.{ident(column.name)}")
        for column in _columns(catalog.target, plan.change.up)
    )
    source = row_source("zdd_old", old_fields(plan, catalog, aside), plan.change.table.name)
    moved = ", ".join(f"{ident(name)} = NEW.{ident(name)}" for name in catalog.key_names)
    return _guarded(
        "new",
        f"""
  IF TG_OP = 'DELETE' THEN
    DELETE FROM {table} WHERE {_key_match(catalog, "OLD")};
  ELSE
    IF TG_OP = 'UPDATE' AND ({_changed(list(key), {column.name: column.name for column in key})}) THEN
      UPDATE {table} SET {moved} WHERE {_key_match(catalog, "OLD")};
    END IF;
    INSERT INTO {table} AS zdd_old ({names}){overriding(catalog.old, catalog.key_names)}
    SELECT {values}
      FROM {row_source("NEW", new_fields(plan, catalog), plan.change.target.name)}
    {upsert_tail(catalog.key_names, kept, "zdd_old", f"EXISTS (SELECT FROM {source} WHERE {disagrees})")};
  END IF;""",
    )

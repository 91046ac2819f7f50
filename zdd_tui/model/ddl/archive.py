"""Contract and cleanup: the old side is archived, restored, or dropped."""

# ruff: noqa: S608  names are quoted, expressions have passed the lint, values are parameters

from itertools import chain

from zdd_tui.model.ddl.catalog import Catalog, KeySequence
from zdd_tui.model.ddl.names import ARCHIVE_SCHEMA, Direction, archived_name, sync_name
from zdd_tui.model.ddl.sync import drop_sync_statements, sync_statements
from zdd_tui.model.ddl.witness import drop_witness_statements, has_witness, move_witness_statements
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import quote_identifier, quote_literal, quote_qualified

_DIRECTIONS: tuple[Direction, Direction] = ("forward", "reverse")


def archive_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """Archives the old side without changing its data; nothing when it is archived already.

    The sync triggers and the witness that exist are recreated for the new names of the old columns.
    """
    if catalog.is_archived or catalog.is_dropped:
        return ()
    if plan.change.kind == "column":
        names = ((column, archived_name(plan, column)) for column in plan.change.down)
        moves = tuple(_rename_column(catalog, column, archived) for column, archived in names)
    else:
        moves = (
            *_lock_new_side_first(catalog),
            f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(ARCHIVE_SCHEMA)}",
            f"ALTER TABLE {catalog.old.sql} SET SCHEMA {quote_identifier(ARCHIVE_SCHEMA)}",
        )
    return (*moves, *_recreate_triggers(plan, catalog, archived=True))


def restore_archive_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """Restores the old side; nothing when it is not archived."""
    if not catalog.is_archived:
        return ()
    if plan.change.kind == "column":
        names = ((column, archived_name(plan, column)) for column in plan.change.down)
        moves = tuple(_rename_column(catalog, archived, column) for column, archived in names)
    else:
        table = plan.change.table
        moves = (
            *_lock_new_side_first(catalog),
            f"ALTER TABLE {quote_qualified(ARCHIVE_SCHEMA, table.name)} SET SCHEMA {quote_identifier(table.schema_)}",
        )
    return (*moves, *_recreate_triggers(plan, catalog, archived=False))


def drop_archive_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """Drops triggers, functions and the archived data. After this no rollback is possible.

    Nothing is dropped in cascade: policies, triggers and foreign keys of the old side are dropped by name, and the
    statement fails and names any other object that still depends on the old side.
    """
    drops = tuple(chain.from_iterable(drop_sync_statements(plan, catalog, direction) for direction in _DIRECTIONS))
    if has_witness(plan, catalog):
        drops = (*drop_witness_statements(plan, catalog), *drops)
    if not catalog.is_archived:
        return drops
    attached = tuple(each.drop_sql for each in catalog.attached)
    if plan.change.kind == "column":
        names = (quote_identifier(archived_name(plan, column)) for column in plan.change.down)
        dropped = ", ".join(f"DROP COLUMN IF EXISTS {name}" for name in names)
        return (*drops, *attached, f"ALTER TABLE {catalog.old.sql} {dropped}")
    shared = (sequence for sequence in catalog.sequences if sequence.is_shared)
    transfers = tuple(chain.from_iterable(_transfer_sequence(catalog, sequence) for sequence in shared))
    drop_schema = () if catalog.archive_in_use else (f"DROP SCHEMA {quote_identifier(ARCHIVE_SCHEMA)}",)
    return (
        *_lock_new_side_first(catalog, "ACCESS EXCLUSIVE"),
        *drops,
        *attached,
        *transfers,
        f"DROP TABLE {quote_qualified(ARCHIVE_SCHEMA, plan.change.table.name)}",
        *drop_schema,
    )


def _rename_column(catalog: Catalog, column: str, name: str) -> str:
    return f"ALTER TABLE {catalog.old.sql} RENAME COLUMN {quote_identifier(column)} TO {quote_identifier(name)}"


def _lock_new_side_first(catalog: Catalog, mode: str = "SHARE ROW EXCLUSIVE") -> tuple[str, ...]:
    """Table kind: writers lock the new table, then through the reverse trigger the old one, and so must we.

    In the other order both would wait for each other, and PostgreSQL would cancel the writer, not us.
    """
    return (f"LOCK TABLE {catalog.new_table.sql} IN {mode} MODE",)


def _recreate_triggers(plan: Plan, catalog: Catalog, archived: bool) -> tuple[str, ...]:
    recreated = tuple(
        statement
        for direction in _DIRECTIONS
        if sync_name(plan, direction) in catalog.triggers
        for statement in sync_statements(plan, catalog, direction, archived)
    )
    return (*recreated, *move_witness_statements(plan, catalog, archived))


def _transfer_sequence(catalog: Catalog, sequence: KeySequence) -> tuple[str, ...]:
    """The new table's default uses a sequence that would be dropped with the old table."""
    target, old = catalog.new_table, quote_qualified(sequence.schema, sequence.name)
    column = f"{target.sql}.{quote_identifier(sequence.key)}"
    if not sequence.is_identity:
        moved = quote_qualified(target.schema, sequence.name)
        move = (f"ALTER SEQUENCE {old} SET SCHEMA {quote_identifier(target.schema)}",) if moved != old else ()
        return (
            f"ALTER SEQUENCE {old} OWNED BY NONE",
            *move,
            f"ALTER SEQUENCE {moved} OWNED BY {column}",
        )
    # The sequence of an identity column cannot change its owner: a new one continues from its last value.
    successor = quote_qualified(target.schema, sequence.successor)
    options = " ".join([f"INCREMENT BY {sequence.increment}", *sequence.options])
    return (
        f"LOCK TABLE {target.sql} IN ACCESS EXCLUSIVE MODE",
        f"CREATE SEQUENCE {successor} {options} OWNED BY {column}",
        f"SELECT setval({quote_literal(successor)}::regclass, last_value, is_called) FROM {old}",
        f"ALTER TABLE {target.sql} ALTER COLUMN {quote_identifier(sequence.key)}"
        f" SET DEFAULT nextval({quote_literal(successor)}::regclass)",
        *(f"GRANT {privilege} ON SEQUENCE {successor} TO {role}" for privilege, role in sequence.grants),
    )

"""Contract and cleanup: the old side goes out of the way, comes back, or is dropped for good."""

# ruff: noqa: S608  names are quoted by ident(), expressions have passed the lint, values are parameters

from zdd_tui.model.ddl.catalog import Catalog, KeySequence
from zdd_tui.model.ddl.names import ARCHIVE_SCHEMA, Direction, archived_name, sync_name
from zdd_tui.model.ddl.sync import drop_sync_statements, sync_statements
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import quote_identifier, quote_literal, quote_qualified

_DIRECTIONS: tuple[Direction, Direction] = ("forward", "reverse")


def archive_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """Takes the old side away without touching its data; nothing when it is aside already.

    The sync triggers that exist go on working, under the names that the old columns have then.
    """
    if catalog.is_archived or catalog.is_dropped:
        return ()
    if plan.change.kind == "column":
        moves: tuple[str, ...] = tuple(
            f"ALTER TABLE {catalog.old.sql} RENAME COLUMN {quote_identifier(column)} TO {quote_identifier(archived_name(plan, column))}"
            for column in plan.change.down
        )
    else:
        moves = (
            *_lock_new_side_first(catalog),
            f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(ARCHIVE_SCHEMA)}",
            f"ALTER TABLE {catalog.old.sql} SET SCHEMA {quote_identifier(ARCHIVE_SCHEMA)}",
        )
    return (*moves, *_recreate_sync_triggers(plan, catalog, archived=True))


def restore_archive_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """Brings the old side back; nothing when it is in its place."""
    if not catalog.is_archived:
        return ()
    if plan.change.kind == "column":
        moves: tuple[str, ...] = tuple(
            f"ALTER TABLE {catalog.old.sql} RENAME COLUMN {quote_identifier(archived_name(plan, column))} TO {quote_identifier(column)}"
            for column in plan.change.down
        )
    else:
        table = plan.change.table
        moves = (
            *_lock_new_side_first(catalog),
            f"ALTER TABLE {quote_qualified(ARCHIVE_SCHEMA, table.name)} SET SCHEMA {quote_identifier(table.schema_)}",
        )
    return (*moves, *_recreate_sync_triggers(plan, catalog, archived=False))


def drop_archive_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """Drops triggers, functions and the data kept aside. There is no way back.

    Nothing is dropped in cascade: what still depends on the old side makes the statement fail by name.
    """
    drops = tuple(
        statement
        for direction in _DIRECTIONS
        for statement in drop_sync_statements(plan, catalog, direction, archived=catalog.is_archived)
    )
    if not catalog.is_archived:
        return drops
    if plan.change.kind == "column":
        gone = ", ".join(
            f"DROP COLUMN IF EXISTS {quote_identifier(archived_name(plan, column))}" for column in plan.change.down
        )
        return (*drops, f"ALTER TABLE {catalog.old.sql} {gone}")
    handed_over = tuple(
        statement
        for sequence in catalog.sequences
        if sequence.is_shared
        for statement in _transfer_sequence(catalog, sequence)
    )
    last = () if catalog.archive_in_use else (f"DROP SCHEMA {quote_identifier(ARCHIVE_SCHEMA)}",)
    first = _lock_new_side_first(catalog, "ACCESS EXCLUSIVE")
    return (
        *first,
        *drops,
        *handed_over,
        f"DROP TABLE {quote_qualified(ARCHIVE_SCHEMA, plan.change.table.name)}",
        *last,
    )


def _lock_new_side_first(catalog: Catalog, mode: str = "SHARE ROW EXCLUSIVE") -> tuple[str, ...]:
    """Table kind: writers lock the new table, then by the reverse trigger the old one. So must we: in the other order
    they would wait for us and we for them, and PostgreSQL would end theirs, not ours."""
    return (f"LOCK TABLE {catalog.new_table.sql} IN {mode} MODE",)


def _recreate_sync_triggers(plan: Plan, catalog: Catalog, archived: bool) -> tuple[str, ...]:
    return tuple(
        statement
        for direction in _DIRECTIONS
        if sync_name(plan, direction) in catalog.triggers
        for statement in sync_statements(plan, catalog, direction, archived)
    )


def _transfer_sequence(catalog: Catalog, sequence: KeySequence) -> tuple[str, ...]:
    """The new table's default takes its values from a sequence that would go with the old table."""
    target, old = catalog.new_table, quote_qualified(sequence.schema, sequence.name)
    column = f"{target.sql}.{quote_identifier(sequence.key)}"
    if not sequence.is_identity:
        return (
            f"ALTER SEQUENCE {old} OWNED BY NONE",
            *(
                (f"ALTER SEQUENCE {old} SET SCHEMA {quote_identifier(target.schema)}",)
                if sequence.schema != target.schema
                else ()
            ),
            f"ALTER SEQUENCE {quote_qualified(target.schema, sequence.name)} OWNED BY {column}",
        )
    # The sequence of an identity column cannot be handed over: another goes on from where it stands.
    heir = quote_qualified(target.schema, sequence.successor)
    return (
        f"LOCK TABLE {target.sql} IN ACCESS EXCLUSIVE MODE",
        f"CREATE SEQUENCE {heir} OWNED BY {column}",
        f"SELECT setval({quote_literal(heir)}::regclass, last_value, is_called) FROM {old}",
        f"ALTER TABLE {target.sql} ALTER COLUMN {quote_identifier(sequence.key)} SET DEFAULT nextval({quote_literal(heir)}::regclass)",
    )

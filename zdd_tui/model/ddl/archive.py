"""Contract and cleanup: the old side goes out of the way, comes back, or is dropped for good."""

# ruff: noqa: S608  names are quoted by ident(), expressions have passed the lint, values are parameters

from zdd_tui.model.ddl.catalog import Catalog, Sequence
from zdd_tui.model.ddl.names import ASIDE_SCHEMA, Direction, aside_name, sync_name
from zdd_tui.model.ddl.sync import drop_sync_statements, sync_statements
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import ident, literal, qualified

_DIRECTIONS: tuple[Direction, Direction] = ("forward", "reverse")


def set_aside_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """Takes the old side away without touching its data; nothing when it is aside already.

    The sync triggers that exist go on working, under the names that the old columns have then.
    """
    if catalog.aside or catalog.gone:
        return ()
    if plan.change.kind == "column":
        moves: tuple[str, ...] = tuple(
            f"ALTER TABLE {catalog.old.sql} RENAME COLUMN {ident(column)} TO {ident(aside_name(plan, column))}"
            for column in plan.change.down
        )
    else:
        moves = (
            *_new_side_first(catalog),
            f"CREATE SCHEMA IF NOT EXISTS {ident(ASIDE_SCHEMA)}",
            f"ALTER TABLE {catalog.old.sql} SET SCHEMA {ident(ASIDE_SCHEMA)}",
        )
    return (*moves, *_resync(plan, catalog, aside=True))


def undo_aside_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """Brings the old side back; nothing when it is in its place."""
    if not catalog.aside:
        return ()
    if plan.change.kind == "column":
        moves: tuple[str, ...] = tuple(
            f"ALTER TABLE {catalog.old.sql} RENAME COLUMN {ident(aside_name(plan, column))} TO {ident(column)}"
            for column in plan.change.down
        )
    else:
        table = plan.change.table
        moves = (
            *_new_side_first(catalog),
            f"ALTER TABLE {qualified(ASIDE_SCHEMA, table.name)} SET SCHEMA {ident(table.schema_)}",
        )
    return (*moves, *_resync(plan, catalog, aside=False))


def drop_aside_statements(plan: Plan, catalog: Catalog) -> tuple[str, ...]:
    """Drops triggers, functions and the data kept aside. There is no way back.

    Nothing is dropped in cascade: what still depends on the old side makes the statement fail by name.
    """
    drops = tuple(
        statement
        for direction in _DIRECTIONS
        for statement in drop_sync_statements(plan, catalog, direction, aside=catalog.aside)
    )
    if not catalog.aside:
        return drops
    if plan.change.kind == "column":
        gone = ", ".join(f"DROP COLUMN IF EXISTS {ident(aside_name(plan, column))}" for column in plan.change.down)
        return (*drops, f"ALTER TABLE {catalog.old.sql} {gone}")
    handed_over = tuple(
        statement for sequence in catalog.sequences if sequence.shared for statement in _hand_over(catalog, sequence)
    )
    last = () if catalog.aside_shared else (f"DROP SCHEMA {ident(ASIDE_SCHEMA)}",)
    first = _new_side_first(catalog, "ACCESS EXCLUSIVE")
    return (*first, *drops, *handed_over, f"DROP TABLE {qualified(ASIDE_SCHEMA, plan.change.table.name)}", *last)


def _new_side_first(catalog: Catalog, mode: str = "SHARE ROW EXCLUSIVE") -> tuple[str, ...]:
    """Table kind: writers lock the new table, then by the reverse trigger the old one. So must we: in the other order
    they would wait for us and we for them, and PostgreSQL would end theirs, not ours."""
    return (f"LOCK TABLE {catalog.target.sql} IN {mode} MODE",)


def _resync(plan: Plan, catalog: Catalog, aside: bool) -> tuple[str, ...]:
    return tuple(
        statement
        for direction in _DIRECTIONS
        if sync_name(plan, direction) in catalog.triggers
        for statement in sync_statements(plan, catalog, direction, aside)
    )


def _hand_over(catalog: Catalog, sequence: Sequence) -> tuple[str, ...]:
    """The new table's default takes its values from a sequence that would go with the old table."""
    target, old = catalog.target, qualified(sequence.schema, sequence.name)
    column = f"{target.sql}.{ident(sequence.key)}"
    if not sequence.identity:
        return (
            f"ALTER SEQUENCE {old} OWNED BY NONE",
            *((f"ALTER SEQUENCE {old} SET SCHEMA {ident(target.schema)}",) if sequence.schema != target.schema else ()),
            f"ALTER SEQUENCE {qualified(target.schema, sequence.name)} OWNED BY {column}",
        )
    # The sequence of an identity column cannot be handed over: another goes on from where it stands.
    heir = qualified(target.schema, sequence.successor)
    return (
        f"LOCK TABLE {target.sql} IN ACCESS EXCLUSIVE MODE",
        f"CREATE SEQUENCE {heir} OWNED BY {column}",
        f"SELECT setval({literal(heir)}::regclass, last_value, is_called) FROM {old}",
        f"ALTER TABLE {target.sql} ALTER COLUMN {ident(sequence.key)} SET DEFAULT nextval({literal(heir)}::regclass)",
    )

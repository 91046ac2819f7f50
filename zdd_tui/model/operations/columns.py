"""Columns: added beside what running code knows, and removed after nothing uses them."""

# ruff: noqa: S608  names are quoted by the parser's own rules, expressions are those of the statement

from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, column_exists, relation_sql
from zdd_tui.model.operations.computed_columns import add_computed_column, is_computed
from zdd_tui.model.operations.constraints import add_table_constraint, set_not_null_steps
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import (
    enum_name,
    name_sql,
    quote_literal,
    single_command_sql,
)

_SEPARATE = {"CONSTR_UNIQUE", "CONSTR_PRIMARY", "CONSTR_CHECK", "CONSTR_FOREIGN"}
"""Constraints of a new column that would read the table, or lock another one, while it is locked."""


def read_add_column(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """A column that only the catalog changes for, or that is filled in batches; its constraints become operations of
    their own.

    Raises:
        PlanError: the column cannot be added online.
    """
    table, column = relation_sql(alter.relation), getattr(command.alter_table_cmd, "def").column_def
    what = f"{table}.{name_sql(column.colname)}"
    parts = {enum_name(each.constraint, "contype"): each.constraint for each in column.constraints}
    default = parts.get("CONSTR_DEFAULT")
    if "CONSTR_GENERATED" in parts and parts["CONSTR_GENERATED"].generated_kind != "v":
        raise PlanError(
            f"{what}: a stored generated column rewrites the table under a lock, and PostgreSQL knows no other way",
            "make it VIRTUAL (PostgreSQL 18: it is computed when it is read), or add a plain column, a trigger that"
            " keeps it, and an UPDATE of the old rows, which runs in batches",
        )
    if "CONSTR_NOTNULL" in parts and default is None and not is_computed(column) and "CONSTR_GENERATED" not in parts:
        raise PlanError(
            f"{what} is NOT NULL and has no default: rows that exist have no value for it",
            "give it a DEFAULT, or add it without NOT NULL and fill it first",
        )
    kept = [each for each in column.constraints if enum_name(each.constraint, "contype") not in _SEPARATE]
    separate = [each.constraint for each in column.constraints if enum_name(each.constraint, "contype") in _SEPARATE]
    del column.constraints[:]
    column.constraints.extend(kept)
    others = [add_table_constraint(alter.relation, each, text, options, column=column.colname) for each in separate]
    if is_computed(column):
        return (add_computed_column(alter, command, text, options), *others)
    drop = f"ALTER TABLE {table} DROP COLUMN {name_sql(column.colname)}"
    is_optional = command.alter_table_cmd.missing_ok
    step = OperationStep(
        Phase.EXPAND,
        f"add column {what}",
        (single_command_sql(alter, command),),
        undo=(drop,),
        only_if=f"SELECT NOT ({column_exists(table, column.colname)})" if is_optional else "",
    )
    return (Operation(text, step.label, (step,)), *others)


def read_drop_column(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """A column that is renamed in contract, and dropped in cleanup.

    A version that does not know the column any more must be able to insert rows while it exists: NOT NULL goes first,
    and comes back with a rollback.
    """
    table, column = relation_sql(alter.relation), name_sql(command.alter_table_cmd.name)
    old = f"zdd_old_{command.alter_table_cmd.name}"
    archived, is_optional = name_sql(old), command.alter_table_cmd.missing_ok
    what, steps = f"{table}.{column}", []
    behavior = enum_name(command.alter_table_cmd, "behavior")
    if behavior == "DROP_CASCADE":
        raise PlanError(f"{what}: CASCADE drops objects that the statement does not name", "drop each of them by name")
    if options.has_rollout:
        steps.append(
            OperationStep(
                Phase.EXPAND,
                f"{what} may be NULL",
                (f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL",),
                undo_query=_was_not_null(table, command.alter_table_cmd.name),
                only_if=column_exists(table, command.alter_table_cmd.name) if is_optional else "",
            )
        )
    steps += [
        OperationStep(
            Phase.CONTRACT,
            f"archive column {what}",
            (f"ALTER TABLE {table} RENAME COLUMN {column} TO {archived}",),
            (f"ALTER TABLE {table} RENAME COLUMN {archived} TO {column}",),
            only_if=column_exists(table, command.alter_table_cmd.name) if is_optional else "",
        ),
        OperationStep(
            Phase.CLEANUP,
            f"drop column {what}",
            (f"ALTER TABLE {table} DROP COLUMN {'IF EXISTS ' if is_optional else ''}{archived}",),
        ),
    ]
    return (Operation(text, f"drop column {what}", tuple(steps), removes=(f"column {what}",)),)


def read_drop_not_null(alter: Any, command: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    """In expand: a new version may write NULL."""
    table, column = relation_sql(alter.relation), command.alter_table_cmd.name
    label = f"{table}.{name_sql(column)} may be NULL"
    step = OperationStep(Phase.EXPAND, label, (text,), undo_query=_was_not_null(table, column))
    return (Operation(text, label, (step,)),)


def _was_not_null(table: str, column: str) -> str:
    restore = f"ALTER TABLE {table} ALTER COLUMN {name_sql(column)} SET NOT NULL"
    return (
        f"SELECT {quote_literal(restore)} FROM pg_attribute WHERE attrelid = to_regclass({quote_literal(table)})"
        f" AND attname = {quote_literal(column)} AND attnotnull"
    )


def read_set_not_null(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """NOT NULL through a validated CHECK: the table is read under a lock that lets writers continue."""
    table, column = relation_sql(alter.relation), command.alter_table_cmd.name
    return (set_not_null_steps(table, column, text, options),)


def read_column_default(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """A default is set in expand and dropped in contract, where no running version relies on it."""
    table, column = relation_sql(alter.relation), command.alter_table_cmd.name
    is_set = getattr(command.alter_table_cmd, "def").WhichOneof("node") is not None
    alter_column = f"ALTER TABLE {table} ALTER COLUMN {name_sql(column)}"
    before = (
        f"SELECT coalesce({quote_literal(alter_column + ' SET DEFAULT ')} || (SELECT pg_get_expr(adbin, adrelid)"
        f" FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum"
        f" WHERE adrelid = to_regclass({quote_literal(table)}) AND attname = {quote_literal(column)}),"
        f" {quote_literal(alter_column + ' DROP DEFAULT')})"
    )
    phase = Phase.EXPAND if is_set or not options.has_rollout else Phase.CONTRACT
    label = f"{'set' if is_set else 'drop'} the default of {table}.{name_sql(column)}"
    step = OperationStep(phase, label, (single_command_sql(alter, command),), undo_query=before)
    return (Operation(text, label, (step,)),)

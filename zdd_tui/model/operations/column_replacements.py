"""A column that a migration drops and adds again: another type or default, and none of the old values.

The new column exists beside the old one until contract, with its default in the old rows. From expand on a trigger
gives it each value that is written to the old one, as far as its type holds it: what running code writes after the
plain statement is kept, too. In contract the two change names; then the trigger keeps the old one, for a rollback.
"""

from dataclasses import replace

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    Operation,
    OperationStep,
    ReliedKind,
    ReliedObject,
    RenameOperation,
    Requirement,
    StepMode,
    column_exists,
    old_object_name,
    relation_sql,
)
from zdd_tui.model.operations.generated import (
    NEW_PREFIX,
    derived_name,
    differs,
    function_name,
    function_sql,
    prefixed_column,
    trigger_function,
)
from zdd_tui.model.operations.scope import ObjectKey
from zdd_tui.model.operations.types import TypeOperation
from zdd_tui.model.operations.views import run_in_contract
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import deparse, enum_name, name_sql, parse_sql, quote_literal, read_names


def replace_column(removal: Operation, creation: Operation) -> tuple[Operation, Operation]:
    """
    Args:
        removal: the operation of DROP COLUMN.
        creation: that of ADD COLUMN, whose value is the same for every row.
    """
    key = creation.on
    assert key is not None, "of ALTER TABLE"
    add, *others = creation.steps
    tree = parse_sql(add.statements[0])
    alter = tree.stmts[0].stmt.alter_table_stmt
    definition = getattr(alter.cmds[0].alter_table_cmd, "def").column_def
    table, name = relation_sql(alter.relation), definition.colname
    new, old = prefixed_column(NEW_PREFIX, table, name), old_object_name(name)
    definition.colname = new
    is_required = any(enum_name(each.constraint, "contype") == "CONSTR_NOTNULL" for each in definition.constraints)
    what = f"{table}.{name_sql(name)}"
    function, trigger = function_name("replace", key, name), derived_name("~zdd_replace", key.name, name)
    forward = _keep_written(function, name, new, may_be_null=not is_required)
    backward = _keep_written(function, name, old, may_be_null=True)
    lock = f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"
    drop_trigger = (
        f"DROP TRIGGER {name_sql(trigger)} ON {table}",
        f"DROP FUNCTION {function_sql(function)}()",
    )

    def rename(before: str, after: str) -> str:
        return f"ALTER TABLE {table} RENAME COLUMN {name_sql(before)} TO {name_sql(after)}"

    keeps = ReliedObject(ReliedKind.TRIGGER, table, trigger)
    beside = replace(
        add,
        label=f"add the new column {what} as {name_sql(new)}",
        statements=(
            lock,
            deparse(tree),
            forward,
            f"CREATE TRIGGER {name_sql(trigger)} BEFORE INSERT OR UPDATE ON {table}"
            f" FOR EACH ROW EXECUTE FUNCTION {function_sql(function)}()",
            f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name_sql(trigger)}",
        ),
        undo=(lock, *drop_trigger, f"ALTER TABLE {table} DROP COLUMN {name_sql(new)}"),
        are_locks_known=True,
        keeps=(ReliedObject(ReliedKind.COLUMN, table, new), keeps),
    )
    swap = OperationStep(
        Phase.CONTRACT,
        f"archive column {what}, and give its name to the new one",
        (lock, rename(name, old), rename(new, name), backward),
        (lock, rename(name, new), rename(old, name), forward),
        settings=add.settings,
        are_locks_known=True,
        keeps=(keeps,),
    )
    missing = f"{what} does not exist, and the migration drops it and adds it again"
    required = Requirement(
        f"SELECT {quote_literal(missing)} WHERE NOT ({column_exists(table, name)})", "leave its DROP COLUMN out"
    )
    *relaxing, _, drop = removal.steps
    gone = replace(drop, statements=(lock, *drop_trigger, *drop.statements), are_locks_known=True)
    return (
        replace(removal, steps=(*relaxing, gone), removes=()),  # its name stays in use: it is that of the new one
        replace(creation, steps=(beside, swap, *others), requirements=(*creation.requirements, required)),
    )


def _keep_written(function: str, written: str, kept: str, *, may_be_null: bool) -> str:
    """Gives a column each value that a statement writes to another one; what its type does not hold, it does not get.

    Args:
        may_be_null: it gets NULL, too, by an UPDATE; an INSERT of NULL may be one that names no column.
    """
    source, target = f"NEW.{name_sql(written)}", f"NEW.{name_sql(kept)}"
    cleared = f" OR TG_OP = 'UPDATE' AND {source} IS NULL" if may_be_null else ""
    return trigger_function(
        function,
        f"""  IF TG_OP = 'UPDATE' THEN
    IF NOT ({differs(source, f"OLD.{name_sql(written)}")}) THEN
      RETURN NEW;
    END IF;
  END IF;
  IF {source} IS NOT NULL{cleared} THEN
    BEGIN
      {target} := {source};
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END IF;""",
    )


def run_after_swap(operation: Operation, table: ObjectKey, column: str) -> Operation:
    """A later operation of the migration, which names the new column: in contract, where that has its name.

    Raises:
        PlanError: it cannot wait until then.
    """
    if not _names_column(operation, table, column):
        return operation
    builds_index = any(step.mode is StepMode.BUILD_INDEX for step in operation.steps)
    is_late = any(step.phase is Phase.BACKFILL for step in operation.steps)
    is_change = isinstance(operation, RenameOperation | TypeOperation)
    if is_late or is_change or (operation.creates is not None and not builds_index):
        what = name_sql(table.name, column)
        raise PlanError(
            f"{operation.summary}: the migration drops {what} and adds it again, and until contract its name is that of"
            " the old column",
            "write it in a release after this one; or add the column under another name",
        )
    return run_in_contract(operation)


def _names_column(operation: Operation, table: ObjectKey, column: str) -> bool:
    """Whether a statement names the column, or shows it by ``*``."""
    names = read_names(operation.text)
    return (table.name in names or operation.on == table) and not names.isdisjoint((column, "*"))

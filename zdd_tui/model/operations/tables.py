"""Tables: created in expand, archived in contract by a rename, dropped in cleanup."""

from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, exists_query, relation_sql
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import name_sql


def read_create_table(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    """A table that no running code knows. Foreign keys lock the tables they point at for a moment."""
    table = relation_sql(statement.relation)
    drop = f"DROP TABLE {table}"
    is_optional = statement.if_not_exists
    step = OperationStep(
        Phase.EXPAND,
        f"create table {table}",
        (text,),
        undo=() if is_optional else (drop,),
        undo_query=exists_query(table, drop) if is_optional else "",
    )
    return (Operation(text, step.label, (step,)),)


def read_drop_table(names: list[str], text: str, *, cascade: bool) -> Operation:
    """
    Raises:
        PlanError: it would drop objects that the statement does not name.
    """
    table, archived = name_sql(*names), name_sql(f"zdd_old_{names[-1]}")
    if cascade:
        raise PlanError(f"{table}: CASCADE drops objects that the statement does not name", "drop each of them by name")
    there = name_sql(*names[:-1], f"zdd_old_{names[-1]}")
    steps = (
        OperationStep(
            Phase.CONTRACT,
            f"archive table {table}",
            (f"ALTER TABLE {table} RENAME TO {archived}",),
            (f"ALTER TABLE {there} RENAME TO {name_sql(names[-1])}",),
        ),
        OperationStep(Phase.CLEANUP, f"drop table {table}", (f"DROP TABLE {there}",)),
    )
    return Operation(text, f"drop table {table}", steps, removes=(f"table {table}",))

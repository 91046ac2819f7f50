"""Tables: created beside what running code knows."""

from typing import Any

from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, exists_query, relation_sql
from zdd_tui.model.phase import Phase


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

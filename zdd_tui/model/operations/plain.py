"""A migration as the team wrote it, without zdd: a copy of the schema must accept it before a release starts. Pure."""

from zdd_tui.model.operations.partitioning import partition_plainly
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.sql import split_statements


def list_plain_statements(plan: BaseOperationsPlan) -> tuple[str, ...]:
    """The statements of a plan's operations, in order.

    A table that becomes partitioned has no statement of the team: there its steps run, without clients and rows.
    """
    statements: list[str] = []
    for operation in plan.operations:
        if operation.partition is None:
            statements += split_statements(operation.sql)
        else:
            statements.append("CREATE SCHEMA IF NOT EXISTS zdd")  # where the functions of the steps are
            statements += partition_plainly(operation.partition)
    return tuple(statements)

"""A migration as the team wrote it, without zdd: a copy of the schema must accept it before a release starts. Pure."""

from collections.abc import Sequence

from zdd_tui.model.operations.partitioning import partition_plainly
from zdd_tui.model.operations.statements import block_ends_transactions
from zdd_tui.model.plan.operations import BaseOperationsPlan, OperationSection
from zdd_tui.model.sql import enum_name, parse_sql, split_statements

_IN_TRANSACTION = ("declare_cursor_stmt", "lock_stmt", "do_stmt", "call_stmt")
"""Statements that PostgreSQL refuses outside of a transaction, and code that may end one."""


def list_plain_statements(plan: BaseOperationsPlan) -> tuple[str, ...]:
    """The statements of a plan's operations, in order.

    A table that becomes partitioned has no statement of the team: there its steps run, without clients and rows.
    """
    statements: list[str] = []
    for operation in plan.operations:
        if operation.partition is None:
            own = split_statements(operation.sql)
            statements += ["BEGIN", *own, "COMMIT"] if _runs_in_transaction(operation, own) else own
        else:
            statements.append("CREATE SCHEMA IF NOT EXISTS zdd")  # where the functions of the steps are
            statements += partition_plainly(operation.partition)
    return tuple(statements)


def _runs_in_transaction(operation: OperationSection, statements: Sequence[str]) -> bool:
    """Whether the statements need the transaction that the step of an operation with ``undo:`` has, or may end it."""
    if operation.undo is None:
        return False
    nodes = [parse_sql(each).stmts[0].stmt for each in statements]
    kinds = {enum_name(each.transaction_stmt, "kind") for each in nodes if each.HasField("transaction_stmt")}
    has_own = not kinds.isdisjoint(("TRANS_STMT_BEGIN", "TRANS_STMT_START"))
    if any(map(block_ends_transactions, statements)):
        return False
    needs_one = "TRANS_STMT_SAVEPOINT" in kinds or any(each.WhichOneof("node") in _IN_TRANSACTION for each in nodes)
    return needs_one and not has_own

"""A statement of the team's own, with the undo and the phase that the plan gives it."""

import re

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, StepMode, shorten
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import parse_sql

UNKNOWN_UNDO = "zdd does not know how to undo it"


class UndoRequired(PlanError):
    """A statement whose undo only the team knows."""


def read_own_statement(text: str, options: OperationOptions, reason: str = UNKNOWN_UNDO) -> Operation:
    """
    Args:
        reason: why zdd cannot undo it.

    Raises:
        UndoRequired: the plan does not say how it is undone.
    """
    return read_own_statements((text,), options, reason)


def read_own_statements(
    statements: tuple[str, ...], options: OperationOptions, reason: str = UNKNOWN_UNDO
) -> Operation:
    """Statements with one undo: one operation with one step, in one transaction.

    A block that ends transactions by itself, as those do that change many rows in batches, runs in none.

    Raises:
        UndoRequired: the plan does not say how they are undone.
        PlanError: such a block is not alone.
    """
    shown = shorten(statements[0], 50)
    if options.undo is None:
        raise UndoRequired(
            f"{shown}: {reason}",
            "write the operation as a mapping with sql: and undo:, where undo: [] says that there is nothing to undo",
        )
    shown += f" and {len(statements) - 1} more" if len(statements) > 1 else ""
    settings = tuple(options.scope.settings.values())
    ends_transactions = any(map(block_ends_transactions, statements))
    if ends_transactions and len(statements) > 1:
        raise PlanError(
            f"{shown}: a block with COMMIT or ROLLBACK runs in no transaction, and the rest of its operation in one",
            "write the block as an operation of its own",
        )
    step = OperationStep(
        options.phase or Phase.EXPAND,
        f"run {shown}",
        statements,
        options.undo,
        mode=StepMode.AUTOCOMMIT if ends_transactions else StepMode.TRANSACTION,
        settings=settings,
    )
    return Operation(";\n".join(statements), shown, (step,), settings=settings)


_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_END = re.compile(r"\b(COMMIT|ROLLBACK)\b(\s+AND\s+(NO\s+)?CHAIN)?\s*;", re.IGNORECASE)


def block_ends_transactions(statement: str) -> bool:
    """Whether it is a block with COMMIT or ROLLBACK, which PostgreSQL refuses in a transaction of the caller's."""
    nodes = [each.stmt for each in parse_sql(statement).stmts]
    if not any(each.HasField("do_stmt") for each in nodes):
        return False
    bodies = [
        each.def_elem.arg.string.sval for node in nodes for each in node.do_stmt.args if each.def_elem.defname == "as"
    ]
    return any(_END.search(_COMMENTS.sub(" ", body)) for body in bodies)

"""The order of functions and of what their bodies name: running code may call a function between two statements."""

import re
from collections.abc import Iterable, Sequence

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, RenameOperation
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import enum_name, parse_sql

_NAMED_TYPES = {"TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "TYPE", "DOMAIN", "FUNCTION", "PROCEDURE"}
"""Types of the objects that a body may name."""
_WRITES_ROWS = re.compile(r"\s*(INSERT|UPDATE|DELETE|MERGE|SELECT|WITH|DO|CALL)\b", re.IGNORECASE)


def order_routines(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """The operations, each function after the columns, tables and functions that its body names.

    The server reads a body when the function is called, so a migration may have them in any order. Here each statement
    commits by itself, and running code would call a function whose column is not there yet. What names the function,
    such as a new trigger, is moved with it.

    Raises:
        PlanError: a statement between the two needs the function, or may.
    """
    found = list(operations)
    for routine in operations:
        if routine.creates is None or routine.creates.space != "routine" or not _is_in_expand(routine):
            continue
        first = found.index(routine)
        needed = [n for n, each in enumerate(found) if n > first and _is_named(routine, each)]
        if needed:
            found[first : needed[-1] + 1] = _move_behind(found[first : needed[-1] + 1], found[needed[-1]])
    return tuple(found)


def _move_behind(operations: list[Operation], last: Operation) -> list[Operation]:
    """The operations with the first one, a function, and those that name it behind the last one.

    Raises:
        PlanError: see :func:`order_routines`.
    """
    routine, *others = operations
    names, moved, kept = {_name(routine)}, [routine], []
    is_in_use = any(step.may_break or step.is_replacement for step in routine.steps)
    for each in others:
        if not names.isdisjoint(_words(each)) and _is_in_expand(each):
            moved.append(each)
            names |= {_name(each)} if each.creates is not None else set()
        else:
            kept.append(each)
    if not is_in_use and len(moved) == 1:
        return operations  # running code does not call a new function that no other operation names
    wrong = last if last in moved else next((each for each in kept if _may_write_rows(each)), None)
    if wrong is not None:
        raise PlanError(
            f"{routine.summary}: it names what {last.summary} makes later, so that running code would fail in between,"
            f" and {wrong.summary} may need the function before that",
            f"write the function after {last.summary}",
        )
    return [*kept, *moved]


def _may_write_rows(operation: Operation) -> bool:
    return any(
        step.phase is Phase.EXPAND and any(map(_WRITES_ROWS.match, step.statements)) and not step.are_locks_known
        for step in operation.steps
    )


def _is_named(routine: Operation, other: Operation) -> bool:
    """Whether the body of a function names what another operation makes in expand."""
    words = _words(routine)
    for table, column in _made_names(other):
        is_field = column and re.search(rf'\b(new|old)\."?{re.escape(column)}\b', routine.text, re.IGNORECASE)
        if is_field or words.issuperset(each for each in (table, column) if each):
            return True
    return False


def _made_names(operation: Operation) -> Iterable[tuple[str, str]]:
    """What exists from its step of expand on: table and column; or an object of any type, and no column."""
    if not _is_in_expand(operation):
        return
    if isinstance(operation, RenameOperation):
        if operation.columns:
            yield operation.tables[0].lower(), operation.columns[1].lower()
        elif operation.moved:
            yield operation.tables[-1].lower(), ""
    elif operation.on is not None:
        for column in _added_columns(operation):
            yield operation.on.name.lower(), column.lower()
    elif operation.object_type in _NAMED_TYPES and not any(
        step.may_break or step.is_replacement for step in operation.steps
    ):
        yield _name(operation), ""


def _is_in_expand(operation: Operation) -> bool:
    return any(step.phase is Phase.EXPAND for step in operation.steps)


def _added_columns(operation: Operation) -> list[str]:
    if " add " not in operation.text.lower():  # most texts are not parsed once more
        return []
    statements = [each.stmt.alter_table_stmt for each in parse_sql(operation.text).stmts]
    commands = [each.alter_table_cmd for statement in statements for each in statement.cmds]
    return [
        getattr(each, "def").column_def.colname for each in commands if enum_name(each, "subtype") == "AT_AddColumn"
    ]


def _name(operation: Operation) -> str:
    assert operation.creates is not None, operation.summary
    return operation.creates.name.partition("(")[0].lower()


def _words(operation: Operation) -> set[str]:
    return set(re.findall(r"\w+", operation.text.lower()))

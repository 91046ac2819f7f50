"""Operations of one migration that meet while two forms of an object exist."""

import re
from collections.abc import Sequence
from dataclasses import replace

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationStep, RenameOperation, StepMode
from zdd_tui.model.operations.indexes import copied_index
from zdd_tui.model.operations.types import TypeOperation
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import name_sql, parse_sql

_BEFORE_CONTRACT = (Phase.EXPAND, Phase.BACKFILL)


def combine_renames(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """The operations, with what is about a renamed object as it has to run while two names exist.

    Of a renamed column: a fill may use the new name, which exists from expand on. An index is built on the original
    column, which has the old name until contract: phase backfill copies it to the new name as it does with every other
    index. Constraints and comments wait for contract, where the original has the new name.

    Of a renamed table: what is written before the rename uses the old name, which is the table's until contract; in
    cleanup it has the new one. What is written after the rename comes in contract.

    Raises:
        PlanError: an operation would change the second form of an object that is renamed, which is dropped at the end.
    """
    dropped = {each.archives for each in operations if each.archives is not None}
    found = list(operations)
    first: list[Operation] = []
    for number, rename in enumerate(operations):
        if isinstance(rename, RenameOperation | TypeOperation) and rename.on in dropped:
            raise PlanError(f"{rename.summary}: the migration drops the table, too", "leave one of them out")
        if not isinstance(rename, RenameOperation):
            continue
        for position, other in enumerate(found):
            if position != number and _is_about(rename, other, is_later=position > number):
                found[position] = _adapt(rename, other, is_later=position > number)
        if rename.moved:  # the view goes before the columns that it shows
            first.append(replace(rename, steps=tuple(step for step in rename.steps if step.phase is Phase.CLEANUP)))
            found[number] = replace(rename, steps=tuple(s for s in rename.steps if s.phase is not Phase.CLEANUP))
    return (*first, *found)


def _is_about(rename: RenameOperation, other: Operation, *, is_later: bool) -> bool:
    if not _mentions_table(other, rename):
        return False
    if not rename.columns:
        return True
    if isinstance(other, TypeOperation):
        return any(change.column in rename.columns for change in other.changes)
    if is_later and re.search(r"\bview\b", other.summary) and other.creates is not None:
        return True  # it shows both columns, also by *
    if other.summary.startswith("create table"):
        return is_later and any(_refers_to(other, table, rename.columns[1]) for table in rename.tables)
    is_early = any(step.phase in _BEFORE_CONTRACT for step in other.steps)
    return is_later and is_early and not isinstance(other, RenameOperation) and _mentions(other, rename.columns[1:])


def _adapt(rename: RenameOperation, other: Operation, *, is_later: bool) -> Operation:
    """An operation that meets a rename, in the form that runs while two names exist.

    Args:
        is_later: the migration has it after the rename.

    Raises:
        PlanError: the operation cannot run beside the rename.
    """
    hint = "write it before the rename, with the old name; or in a release of its own"
    has_new_name = len(rename.tables) > 1  # in another schema indexes would have another one, too
    if has_new_name and rename.moved and not is_later and not isinstance(other, RenameOperation | TypeOperation):
        return replace(other, steps=tuple(_with_new_table_name(step, rename) for step in other.steps))
    if isinstance(other, RenameOperation | TypeOperation) or not all(
        _is_early_form(step, rename) for step in other.steps
    ):
        if isinstance(other, RenameOperation | TypeOperation) or not is_later:
            hint = "write it in a release of its own"
        verb = "is"
        if rename.on is not None and other.on is not None and rename.on != other.on and not rename.moved:
            verb, hint = "may be", f"write the schema of both tables; else {hint}"
        raise PlanError(
            f"{rename.summary}: {other.summary} {verb} about it too, and two forms exist until contract", hint
        )
    return replace(other, steps=tuple(_build_on_original(step, rename) for step in other.steps))


def _mentions(operation: Operation, names: Sequence[str]) -> bool:
    patterns = (rf"(?<!\w){_as_written(name)}(?!\w)" for name in names)
    return any(re.search(each, operation.text, re.IGNORECASE) for each in patterns)


def _mentions_table(operation: Operation, rename: RenameOperation) -> bool:
    """Whether a statement holds the name of the table, and not with the name of another schema."""
    if not rename.schema or rename.moved:
        return _mentions(operation, rename.tables)
    qualified = (rf'(?:("(?:[^"]|"")+"|\w+)\s*\.\s*)?(?<!\w)"?{_as_written(name)}"?(?!\w)' for name in rename.tables)
    schemas = [found[1] for pattern in qualified for found in re.finditer(pattern, operation.text, re.IGNORECASE)]
    own = name_sql(rename.schema)
    return any(not each or each.lower() in (own.lower(), f'"{own}"'.lower()) for each in schemas)


def _as_written(name: str) -> str:
    """A pattern of a name in SQL that a team wrote: in any case, a quotation mark doubled."""
    return re.escape(name.replace('"', '""'))


def _refers_to(operation: Operation, table: str, column: str) -> bool:
    """Whether a CREATE TABLE has a foreign key to a column, or is made of the table."""
    key = rf'\bREFERENCES\s+[\w."]*{_as_written(table)}"?\s*\([^)]*{_as_written(column)}|\b(LIKE|FROM|INHERITS)\b'
    return re.search(key, operation.text, re.IGNORECASE) is not None


_WAITS = re.compile(r"COMMENT ON |ALTER TABLE .* (ADD CONSTRAINT|VALIDATE CONSTRAINT|SET NOT NULL)\b", re.DOTALL)
"""What no version needs before contract."""


def _is_early_form(step: OperationStep, rename: RenameOperation) -> bool:
    """Whether a step of expand or backfill has a form beside a rename; in contract there is one name."""
    if step.phase not in _BEFORE_CONTRACT:
        return True
    if rename.columns and (step.mode is StepMode.BUILD_INDEX or step.phase is Phase.BACKFILL):
        return True
    return step.mode is StepMode.TRANSACTION and all(map(_WAITS.match, step.statements))


def _build_on_original(step: OperationStep, rename: RenameOperation) -> OperationStep:
    """A step of expand: an index is built with the name that the column has then, anything else waits for contract."""
    if step.phase is not Phase.EXPAND:
        return step
    if step.mode is not StepMode.BUILD_INDEX:
        return replace(step, phase=Phase.CONTRACT)
    index = parse_sql(step.statements[0]).stmts[0].stmt.index_stmt
    if index.relation.relname not in rename.tables:
        return step
    old, new = rename.columns
    build = copied_index(step.statements[0], {new: old}, step.index, is_unique=index.unique)
    return replace(step, statements=(build,))


def _with_new_table_name(step: OperationStep, rename: RenameOperation) -> OperationStep:
    """A step of cleanup, where the table has its new name."""
    if step.phase is not Phase.CLEANUP:
        return step
    old, new = rename.moved
    statements = (
        re.sub(rf"^(ALTER TABLE (?:ONLY )?){re.escape(old)} ", lambda found: f"{found[1]}{new} ", sql)
        for sql in step.statements
    )
    return replace(
        step,
        statements=tuple(
            f"{sql.removesuffix(old)}{new}" if sql.startswith("DROP TRIGGER ") and sql.endswith(f" ON {old}") else sql
            for sql in statements
        ),
    )

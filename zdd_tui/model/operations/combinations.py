"""Operations of one migration that meet while two forms of an object exist."""

import re
from collections.abc import Sequence
from dataclasses import replace

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationStep, RenameOperation, StepMode
from zdd_tui.model.operations.indexes import copied_index
from zdd_tui.model.operations.types import TypeOperation
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import parse_sql

_BEFORE_CONTRACT = (Phase.EXPAND, Phase.BACKFILL)


def combine_renames(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """The operations, with what is about a renamed column as it has to run until the names are swapped.

    A fill may use the new name, which exists from expand on. An index is built on the original column, which has the
    old name until contract: phase backfill copies it to the new name as it does with every other index. Constraints and
    comments wait for contract, where the original has the new name.

    Raises:
        PlanError: an operation would change the second form of an object that is renamed, which is dropped at the end.
    """
    dropped = {each.archives for each in operations if each.archives is not None}
    found = list(operations)
    for number, rename in enumerate(operations):
        if isinstance(rename, RenameOperation | TypeOperation) and rename.on in dropped:
            raise PlanError(f"{rename.summary}: the migration drops the table, too", "leave one of them out")
        if not isinstance(rename, RenameOperation):
            continue
        for position, other in enumerate(found):
            if position == number or not _is_about(rename, other, is_later=position > number):
                continue
            if not rename.columns or isinstance(other, TypeOperation) or not all(map(_is_early_form, other.steps)):
                raise PlanError(
                    f"{rename.summary}: {other.summary} is about it too, and two forms exist until contract",
                    "write it before the rename, with the old name; or in a release of its own",
                )
            found[position] = replace(other, steps=tuple(_on_original(step, rename) for step in other.steps))
    return tuple(found)


def _is_about(rename: RenameOperation, other: Operation, *, is_later: bool) -> bool:
    if not rename.columns:
        return _mentions(other, rename.tables)
    if not _mentions(other, rename.tables):
        return False
    if isinstance(other, TypeOperation):
        return any(change.column in rename.columns for change in other.changes)
    is_early = any(step.phase in _BEFORE_CONTRACT for step in other.steps)
    return is_later and is_early and not isinstance(other, RenameOperation) and _mentions(other, rename.columns[1:])


def _mentions(operation: Operation, names: Sequence[str]) -> bool:
    return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", operation.text) for name in names)


_WAITS = re.compile(r"COMMENT ON |ALTER TABLE .* (ADD CONSTRAINT|VALIDATE CONSTRAINT|SET NOT NULL)\b", re.DOTALL)
"""What no version needs before contract."""


def _is_early_form(step: OperationStep) -> bool:
    """Whether a step of expand or backfill has a form beside a rename of the column; in contract there is one name."""
    is_late = step.phase not in _BEFORE_CONTRACT
    return is_late or step.mode in (StepMode.FILL, StepMode.BUILD_INDEX) or all(map(_WAITS.match, step.statements))


def _on_original(step: OperationStep, rename: RenameOperation) -> OperationStep:
    if step.phase not in _BEFORE_CONTRACT or step.mode is StepMode.FILL:
        return step
    if step.mode is not StepMode.BUILD_INDEX:
        return replace(step, phase=Phase.CONTRACT)
    index = parse_sql(step.statements[0]).stmts[0].stmt.index_stmt
    if index.relation.relname not in rename.tables:
        return step
    old, new = rename.columns
    build = copied_index(step.statements[0], {new: old}, step.index, is_unique=index.unique)
    return replace(step, statements=(build,))

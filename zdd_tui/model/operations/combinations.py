"""Operations of one migration that cannot be executed beside each other, while two forms of an object exist."""

import re
from collections.abc import Sequence

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, RenameOperation
from zdd_tui.model.operations.types import TypeOperation
from zdd_tui.model.phase import Phase

_BEFORE_CONTRACT = (Phase.EXPAND, Phase.BACKFILL)


def refuse_combinations(operations: Sequence[Operation]) -> None:
    """
    Raises:
        PlanError: an operation would change the second form of an object that is renamed, which is dropped at the end.
    """
    dropped = {each.archives for each in operations if each.archives is not None}
    for number, rename in enumerate(operations):
        if isinstance(rename, RenameOperation | TypeOperation) and rename.on in dropped:
            raise PlanError(f"{rename.summary}: the migration drops the table, too", "leave one of them out")
        if not isinstance(rename, RenameOperation):
            continue
        for position, other in enumerate(operations):
            if position != number and _would_be_lost(rename, other, is_later=position > number):
                raise PlanError(
                    f"{rename.summary}: {other.summary} is about it too, and two forms exist until contract",
                    "write it before the rename, with the old name; or in a release of its own",
                )


def _would_be_lost(rename: RenameOperation, other: Operation, *, is_later: bool) -> bool:
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

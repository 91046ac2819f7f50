"""From pending migrations to the operations of a plan, with the undo of statements that only the team knows.

A team's down file takes the whole migration back. zdd derives the undo of most statements itself; of the down file it
takes only what takes the others back.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from zdd_tui.model.advice.locks import evaluate_statements, select_breaking
from zdd_tui.model.advice.migration import Statement, mark_new_tables, read_migration
from zdd_tui.model.errors import PlanError, Refused
from zdd_tui.model.migrations.base import MigrationSet, PendingMigration, VersionRecord
from zdd_tui.model.operations.base import OperationOptions
from zdd_tui.model.operations.registry import read_operations
from zdd_tui.model.operations.statements import UndoRequired
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import tokens

PlanOperation = str | dict[str, Any]
"""An item of a plan's ``operations:``."""


def plan_pending(
    found: MigrationSet, *, record_in: Phase = Phase.EXPAND, has_rollout: bool = True
) -> list[PlanOperation]:
    """The operations of all pending migrations, and the one that changes the version table.

    Args:
        record_in: the phase whose last operation changes the version table.

    Raises:
        Refused: a statement cannot be executed online, or nothing says how it is undone; names its place.
        PlanError: a migration is not SQL.
    """
    texts = [_read_statements(each.up, each.source) for each in found.pending]
    options = OperationOptions(has_rollout)  # its scope follows from one migration to the next
    marked = iter(mark_new_tables(tuple(statement for statements in texts for statement in statements)))
    result: list[PlanOperation] = [*found.record.prepare]
    for migration, statements in zip(found.pending, texts, strict=True):
        result += _build_migration(migration, [next(marked) for _ in statements], options)
    return [*result, record_operation(found.record, record_in)]


def record_operation(record: VersionRecord, phase: Phase) -> PlanOperation:
    """The operation that makes the tool find the migrations applied."""
    return {"sql": ";\n".join(record.statements), "undo": list(record.undo), "phase": str(phase)}


def _read_statements(text: str, source: str) -> tuple[Statement, ...]:
    if all(token.kind in ("comment", "semicolon") for token in _scan(text, source)):
        return ()
    return read_migration(text, source)


def _scan(text: str, source: str) -> Sequence[Any]:
    try:
        return tokens(text)
    except PlanError as error:
        raise PlanError(f"{source}: {error.title}", error.hint) from None


@dataclass(frozen=True, slots=True)
class _Part:
    """A statement of a migration; `needs_undo` where only the team knows its undo."""

    text: str
    needs_undo: bool = False
    undo: tuple[str, ...] | None = None


def _build_migration(
    migration: PendingMigration, statements: Sequence[Statement], options: OperationOptions
) -> list[PlanOperation]:
    parts: list[_Part] = []
    first_unknown: Statement | None = None
    for statement in statements:
        before = dict(options.scope.settings)
        try:
            if read_operations(statement.text, options) or options.scope.settings != before:
                parts.append(_Part(statement.text))
        except UndoRequired:
            if statement.actions and all(action.on_new_table for action in statement.actions):
                parts.append(_Part(statement.text, undo=()))  # the rows go with the table
                continue
            _refuse_breaking(statement)
            first_unknown = first_unknown or statement
            parts.append(_Part(statement.text, needs_undo=True))
        except PlanError as error:
            raise Refused(f"{statement.location}: {error.title}", error.hint) from None
    if first_unknown is not None:
        parts = _add_undo(migration, parts, first_unknown, options)
    return [part.text if part.undo is None else {"sql": part.text, "undo": list(part.undo)} for part in parts]


def _refuse_breaking(statement: Statement) -> None:
    """
    Raises:
        Refused: running code would not survive the statement, whatever takes it back.
    """
    for verdict in select_breaking(evaluate_statements((statement,))):
        raise Refused(
            f"{statement.location}: {statement.one_line[:60]}: {verdict.rule.breaking_reason}",
            verdict.rule.hint or "release it by a plan of its own: docs/operations.md",
        )


def _add_undo(
    migration: PendingMigration, parts: list[_Part], first_unknown: Statement, options: OperationOptions
) -> list[_Part]:
    """
    Raises:
        Refused: there is no down file, or it does not tell which statement takes back which.
    """
    place = f"{first_unknown.location}: {first_unknown.one_line[:60]}"
    if migration.down is None:
        raise Refused(
            f"{place}: zdd does not know how to undo it",
            migration.undo_hint or "move it to a migration that the release does not need",
        )
    undo = _own_undo(migration, options)
    numbers = [number for number, part in enumerate(parts) if part.needs_undo]
    first, last = numbers[0], numbers[-1]
    if last - first + 1 == len(numbers):  # one after another: one operation, taken back as a whole
        joined = ";\n".join(parts[number].text for number in numbers)
        return [*parts[:first], _Part(joined, undo=tuple(undo)), *parts[last + 1 :]]
    if not undo or len(undo) == len(numbers):
        by_number = dict(zip(reversed(numbers), undo, strict=True)) if undo else {}
        return [
            _Part(part.text, undo=(by_number[number],) if number in by_number else ()) if part.needs_undo else part
            for number, part in enumerate(parts)
        ]
    raise Refused(
        f"{place}: {len(numbers)} statements need an undo, and {len(undo)} of the down migration take them back:"
        " which belongs to which is not known",
        "write these statements one after another, or a migration for each",
    )


def _own_undo(migration: PendingMigration, options: OperationOptions) -> list[str]:
    """What of the down migration takes back statements whose undo zdd cannot derive."""
    kept = []
    options = replace(options, scope=deepcopy(options.scope))  # what the down migration does is not done
    for statement in _read_statements(migration.down or "", f"{migration.source} (down)"):
        try:
            read_operations(statement.text, options)
        except UndoRequired:
            kept.append(statement.text)
        except PlanError:
            continue  # such as DROP … CASCADE: the inverse of what zdd undoes itself
    return kept

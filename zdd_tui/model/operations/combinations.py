"""Operations of one migration that meet while two forms of an object exist."""

import re
from collections.abc import Sequence
from dataclasses import replace

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationStep, RenameOperation, StepMode
from zdd_tui.model.operations.indexes import copied_index
from zdd_tui.model.operations.renames import REPLACED_FUNCTIONS, REPLACED_TRIGGERS
from zdd_tui.model.operations.scope import ObjectKey, part_key
from zdd_tui.model.operations.type_swap import recreate_views
from zdd_tui.model.operations.types import TypeOperation
from zdd_tui.model.operations.views import VIEW, created_view, reads_unnamed_columns
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import name_sql, parse_sql, quote_literal

_BEFORE_CONTRACT = (Phase.EXPAND, Phase.BACKFILL)


def combine_renames(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """The operations, with what is about a renamed object as it has to run while two names exist.

    Of a renamed column: a fill may use the new name, which exists from expand on, and so may a function. An index is
    built on the original column, which has the old name until contract: phase backfill copies it to the new name as it
    does with every other index. Constraints and comments wait for contract, where the original has the new name. A view
    reads the second column, and is created again in contract; a trigger that names the column comes there.

    Of a renamed table: the view is made after everything that the migration adds to the table, and contract renames
    all tables at the place of the first rename, so that what comes after it finds every table under its new name.

    Raises:
        PlanError: an operation would change the second form of an object that is renamed, which is dropped at the end.
    """
    _refuse_dropped_tables(operations)
    found = list(operations)
    renames = [(number, each) for number, each in enumerate(operations) if isinstance(each, RenameOperation)]
    columns = [number for number, each in renames if each.columns]
    for number, rename in renames:
        for position, other in enumerate(found):
            is_later = position > number
            if position == number or (is_later and _is_made_in_contract(rename, other, renames)):
                continue
            if rename.is_table_rename:
                _check_beside_table_rename(rename, other, is_later=is_later)
            elif _is_about(rename, other, is_later=is_later):
                found[position] = _adapt(rename, other, is_later=is_later)
    late = [
        (number, n)
        for number, each in renames
        for n in range(number + 1, len(found))
        if _is_made_in_contract(each, operations[n], renames)
    ]
    triggers = {n: number for number, n in late if not created_view(found[n])}
    for number in columns:
        own = [found[n] for n, of in triggers.items() if of == number]
        found[number] = _without_replaced(found[number], found[number + 1 :], own)
    if len(late) > len(triggers):
        _create_views_again(found, columns)
    for n, number in triggers.items():
        found[number], found[n] = _swap_trigger(found[number], found[n])
    return _place_table_renames(_copy_indexes_together(found))


def _copy_indexes_together(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """An index of several renamed columns is copied once, for all of them: a version uses either old or new names.

    The last rename of a table does it, when all columns are filled.
    """
    pairs: dict[ObjectKey | None, list[tuple[str, str]]] = {}
    last: dict[ObjectKey | None, int] = {}
    for number, each in enumerate(operations):
        if isinstance(each, RenameOperation) and each.columns:
            old, new = each.columns
            pairs.setdefault(each.on, []).append((old, new))
            last[each.on] = number
    found = list(operations)
    for number, each in enumerate(operations):
        if isinstance(each, RenameOperation) and each.columns and len(pairs[each.on]) > 1:
            others = [step for step in each.steps if step.mode is not StepMode.COPY_INDEXES]
            together = [_copy_columns(step, pairs[each.on]) for step in each.steps]
            found[number] = replace(each, steps=tuple(together if number == last[each.on] else others))
    return tuple(found)


def _copy_columns(step: OperationStep, pairs: Sequence[tuple[str, str]]) -> OperationStep:
    if step.mode is not StepMode.COPY_INDEXES:
        return step
    olds, news = (", ".join(map(name_sql, names)) for names in zip(*pairs, strict=True))
    return replace(step, copies=tuple(pairs), label=f"build the indexes of {step.table} ({olds}) for {news}")


def _is_made_in_contract(
    rename: RenameOperation, other: Operation, renames: Sequence[tuple[int, RenameOperation]]
) -> bool:
    """Whether it creates a view or a trigger of a renamed column, in the transaction that swaps the names."""
    return _is_view_of(rename, other) or _is_trigger_of(rename, other, renames)


def _refuse_dropped_tables(operations: Sequence[Operation]) -> None:
    """
    Raises:
        PlanError: a table that is dropped gets another name, or a column of it another name or type.
    """
    dropped = {each.archives for each in operations if each.archives is not None}
    for each in operations:
        if isinstance(each, RenameOperation | TypeOperation) and each.on in dropped:
            raise PlanError(f"{each.summary}: the migration drops the table, too", "leave one of them out")


def _is_view_of(rename: RenameOperation, other: Operation) -> bool:
    """Whether it creates a view that reads a renamed column by its new name."""
    is_new = created_view(other) != "" and not other.summary.startswith("create or replace")
    if not rename.columns or not is_new or reads_unnamed_columns(other, rename.tables):
        return False
    return _mentions_table(other, rename) and _mentions(other, rename.columns[1:])


def _is_trigger_of(rename: RenameOperation, other: Operation, renames: Sequence[tuple[int, RenameOperation]]) -> bool:
    """Whether it creates a trigger of the table, in one step, that names one renamed column by its new name."""
    table, key = rename.on, other.creates
    if table is None or key is None or key != part_key("trigger", table, key.name):
        return False
    named = [each for _, each in renames if each.columns and each.on == table and _mentions(other, each.columns[1:])]
    return named == [rename] and [step.phase for step in other.steps] == [Phase.EXPAND]


def _swap_trigger(rename: Operation, trigger: Operation) -> tuple[Operation, Operation]:
    """The trigger takes its place, and that of the one that it replaces, in the transaction that swaps the names.

    Until then the old one finds the old name, and no trigger refuses that rows get a value under the new one.
    """
    (step,) = trigger.steps

    def swap(own: OperationStep) -> OperationStep:
        before = replace(step.before, phase=Phase.CONTRACT, before=own) if step.before is not None else own
        label, keeps = f"{own.label}, and {step.label}", (*own.keeps, *step.keeps)
        return replace(step, phase=Phase.CONTRACT, label=label, before=before, keeps=keeps, are_locks_known=True)

    steps = tuple(swap(each) if each.phase is Phase.CONTRACT else each for each in rename.steps)
    return replace(rename, steps=steps), replace(trigger, steps=())


def _without_replaced(rename: Operation, later: Sequence[Operation], triggers: Sequence[Operation]) -> Operation:
    """The rename of a column, which triggers and their functions do not forbid that the migration replaces after it."""
    created = [each.creates.name for each in later if each.creates is not None and each.creates.space == "routine"]
    names = ", ".join(quote_literal(name) for name in sorted({name.partition("(")[0] for name in created}))
    own = ", ".join(quote_literal(each.creates.name) for each in triggers if each.creates is not None)
    add, *others = rename.steps
    statements = (
        each.replace(REPLACED_FUNCTIONS, f"ARRAY[{names}]::text[]").replace(REPLACED_TRIGGERS, f"ARRAY[{own}]::name[]")
        for each in add.statements
    )
    return replace(rename, steps=(replace(add, statements=tuple(statements)), *others))


def _create_views_again(operations: list[Operation], columns: Sequence[int]) -> None:
    """Views that the migration creates after a rename are made for the second columns: they are created again when the
    last original has its new name, and in a rollback when the first one has its old name.

    Raises:
        PlanError: they do not belong to the same settings of the session; or one waits for contract.
    """
    views = [(each, view) for each in operations[columns[0] :] if (view := created_view(each))]
    waiting = next((each for each, _ in views if each.steps[0].phase is Phase.CONTRACT), None)
    if waiting is not None:
        raise PlanError(
            f"{waiting.summary}: it waits for contract, where a column of this or another view changes its name",
            "create it in a release after this one; or without phase:, with the columns of the view before",
        )
    if len({operations[number].settings for number in columns} | {each.settings for each, _ in views}) > 1:
        raise PlanError(
            "columns get other names, and views of them are created, under different settings of the session",
            "write these statements without a SET between them, with the names of the schemas",
        )
    again = recreate_views([(view, each.text) for each, view in views], "true")
    for number, is_forward in ((columns[-1], True), (columns[0], False)):
        operations[number] = replace(
            operations[number],
            steps=tuple(
                step
                if step.phase is not Phase.CONTRACT
                else replace(step, statements=(*step.statements, *again))
                if is_forward
                else replace(step, undo=(*step.undo, *again))
                for step in operations[number].steps
            ),
        )


def _place_table_renames(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """The operations, where each phase of a table's rename runs when it has to."""
    moves = {n: each for n, each in enumerate(operations) if isinstance(each, RenameOperation) and each.moved}
    renames = {n: each for n, each in moves.items() if each.is_table_rename}
    first = min(renames, default=-1)
    views: dict[int, list[Operation]] = {}
    for number, rename in renames.items():
        later = (n for n, each in enumerate(operations) if n > number and each.on == rename.on)
        views.setdefault(max(later, default=number), []).append(_only(rename, Phase.EXPAND))
    placed = [_only(each, Phase.CLEANUP) for each in moves.values()]  # the view goes before the columns that it shows
    for number, operation in enumerate(operations):
        if number == first:
            placed += [_only(each, Phase.CONTRACT) for each in renames.values()]
        if number not in renames:
            placed.append(_only(operation, Phase.EXPAND, Phase.CONTRACT) if number in moves else operation)
        placed += views.get(number, [])
    return tuple(placed)


def _only(rename: Operation, *phases: Phase) -> Operation:
    """Some phases of a rename. What queries must not use any more, and what goes, belongs to cleanup."""
    steps = tuple(step for step in rename.steps if step.phase in phases)
    return (
        replace(rename, steps=steps) if Phase.CLEANUP in phases else replace(rename, steps=steps, removes=(), drops=())
    )


def _check_beside_table_rename(rename: RenameOperation, other: Operation, *, is_later: bool) -> None:
    """Any other statement is read with the name that the table has in each phase.

    Raises:
        PlanError: the view would not show what the statement makes, or the name is in code that is not read.
    """
    reason = f"{rename.summary}: {other.summary} is about it too, and two forms exist until contract"
    if other.on == rename.on and isinstance(other, RenameOperation) and not other.columns:
        raise PlanError(reason, "write it in a release of its own")
    if other.on == rename.on and isinstance(other, RenameOperation | TypeOperation) and not is_later:
        # In contract the view would write the column that is archived.
        raise PlanError(reason, "write it after the rename of the table, with the new name")
    is_ready = is_later and all(step.phase in (Phase.CONTRACT, Phase.CLEANUP) for step in other.steps)
    if not is_ready and _mentions(other, rename.tables) and _is_code(other):
        raise PlanError(reason, "write it after the rename, with phase: contract, where the table has its new name")


def _is_code(operation: Operation) -> bool:
    """Whether it is a block, whose statements only the server knows."""
    is_named = re.search(r"\bDO\b", operation.text, re.IGNORECASE) is not None
    return is_named and any(each.stmt.HasField("do_stmt") for each in parse_sql(operation.text).stmts)


def _is_about(rename: RenameOperation, other: Operation, *, is_later: bool) -> bool:
    if not _mentions_table(other, rename):
        return False
    if not rename.columns:
        return True
    if isinstance(other, TypeOperation):
        return any(change.column in rename.columns for change in other.changes)
    if is_later and VIEW.match(other.summary):
        return reads_unnamed_columns(other, rename.tables) or _mentions(other, rename.columns)
    if is_later and _is_late_bound(other):
        return False
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


def _is_late_bound(operation: Operation) -> bool:
    """Whether it creates a function whose body the server reads only when it is called."""
    statement = parse_sql(operation.text).stmts[0].stmt
    return statement.HasField("create_function_stmt") and not statement.create_function_stmt.HasField("sql_body")


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

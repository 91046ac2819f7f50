"""From SQL to operations: the reader of each kind of statement."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.addresses import RELATION_KINDS
from zdd_tui.model.operations.alterations import ALTERATION_READERS, read_composite_attribute
from zdd_tui.model.operations.base import (
    DroppedData,
    Operation,
    OperationOptions,
    OperationStep,
    RenameOperation,
    StepMode,
    relation_sql,
    same_table,
    shorten,
)
from zdd_tui.model.operations.columns import (
    read_add_column,
    read_column_default,
    read_drop_column,
    read_drop_not_null,
    read_set_not_null,
)
from zdd_tui.model.operations.combinations import combine_renames
from zdd_tui.model.operations.comments import COMMENT_READERS
from zdd_tui.model.operations.constraints import (
    add_table_constraint,
    read_alter_constraint,
    read_drop_constraint,
    read_validate,
)
from zdd_tui.model.operations.identities import (
    read_add_identity,
    read_drop_expression,
    read_drop_identity,
    read_set_identity,
)
from zdd_tui.model.operations.indexes import read_create_index
from zdd_tui.model.operations.maintenance import MAINTENANCE_READERS
from zdd_tui.model.operations.object_renames import RENAME_READERS
from zdd_tui.model.operations.objects import OBJECT_READERS
from zdd_tui.model.operations.partitioning import read_partition
from zdd_tui.model.operations.removal import (
    drop_cascaded,
    drop_tables_together,
    drop_triggers_of_functions,
    read_drop,
    read_drop_owned,
    read_drop_role,
    read_drop_user_mapping,
)
from zdd_tui.model.operations.repairs import add_repairs, repeat_fills
from zdd_tui.model.operations.replacements import (
    created_key,
    drop_with_table,
    make_room,
    merge_replacements,
    repeat_overtaken,
)
from zdd_tui.model.operations.rights import RIGHT_READERS
from zdd_tui.model.operations.routine_order import order_routines
from zdd_tui.model.operations.routines import ROUTINE_READERS, name_arguments
from zdd_tui.model.operations.rows import ROW_READERS, check_truncate, require_no_dropped_unique_index, rows_phase
from zdd_tui.model.operations.scope import Scope
from zdd_tui.model.operations.session import SESSION_READERS
from zdd_tui.model.operations.settings import SETTING_READERS
from zdd_tui.model.operations.statements import read_own_statement, read_own_statements
from zdd_tui.model.operations.table_names import join_readings, resolve_table_names, resolve_undo
from zdd_tui.model.operations.tables import TABLE_COMMANDS, read_create_table, read_on_new
from zdd_tui.model.operations.triggers import TRIGGER_COMMANDS, TRIGGER_READERS
from zdd_tui.model.operations.type_names import combine_type_renames, resolve_type_names
from zdd_tui.model.operations.types import TypeOperation, combine_type_changes, read_column_type
from zdd_tui.model.operations.view_columns import name_columns
from zdd_tui.model.operations.views import VIEW_READERS, can_wait_for_contract, run_in_contract
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import BaseOperationsPlan, OperationSection, OperationsPlan
from zdd_tui.model.sql import (
    SqlSyntaxError,
    enum_name,
    name_sql,
    parse_sql,
    quote_literal,
    refuse_placeholder,
    single_command_sql,
    split_statements,
)

Reader = Callable[[Any, str, OperationOptions], tuple[Operation, ...]]
CommandReader = Callable[[Any, Any, str, OperationOptions], tuple[Operation, ...]]


def plan_operations(plan: BaseOperationsPlan) -> tuple[Operation, ...]:
    """The operations of a plan, in their order.

    Raises:
        PlanError: names the operation that cannot be executed.
    """
    return _read_sections(plan.operations, has_rollout=isinstance(plan, OperationsPlan))


@lru_cache(maxsize=16)
def _read_sections(sections: tuple[OperationSection, ...], *, has_rollout: bool) -> tuple[Operation, ...]:
    scope = Scope()
    operations = _read_all(sections, scope, has_rollout=has_rollout)
    if scope.tables_before:
        renamed = Scope(tables_before=dict(scope.tables_before), has_new_names=True)
        operations = join_readings(operations, _read_all(sections, renamed, has_rollout=has_rollout))
    return make_room(_keep_keys(order_routines(operations)))


def _read_all(sections: tuple[OperationSection, ...], scope: Scope, *, has_rollout: bool) -> tuple[Operation, ...]:
    found: list[Operation] = []
    for number, section in enumerate(sections):
        options = OperationOptions(
            has_rollout, section.undo, section.phase, tuple(section.repair.items()), section.down_by_column, scope
        )
        try:
            _check_undo(section.undo or ())
            if section.partition is not None:
                found.append(read_partition(section.partition, options))
                continue
            read = tuple(_read_text(section.sql, options))
            if section.down and not any(_uses_down(each) for each in read):
                raise PlanError(
                    "down: no ALTER COLUMN TYPE and no DROP COLUMN of this statement uses it",
                    "put down beside one of them; for a statement of your own, write undo",
                )
            found += add_repairs(read, options)
        except PlanError as error:
            raise PlanError(f"operations[{number}]: {error.title}", error.hint) from None
    try:
        combined = combine_type_changes(
            *combine_type_renames(combine_renames(_finish(found, OperationOptions(has_rollout))))
        )
    except PlanError as error:
        raise PlanError(f"operations: {error.title}", error.hint) from None
    return _after_fills(repeat_fills(list(combined)))


def _check_undo(statements: Iterable[str]) -> None:
    """
    Raises:
        PlanError: one is no SQL, which only a rollback would find.
    """
    for text in statements:
        try:
            parse_sql(text)
        except SqlSyntaxError as error:
            raise PlanError(f"undo: {shorten(text)}: {error.reason}", "write SQL statements") from None


def _uses_down(operation: Operation) -> bool:
    return isinstance(operation, TypeOperation) or any(step.not_null is not None for step in operation.steps)


def _after_fills(operations: list[Operation]) -> tuple[Operation, ...]:
    """What depends on rows that the operation itself, or one before it, fills: violations are counted after that, and
    unique indexes are built after that, as both would be by the plain migration."""
    filled: set[tuple[str, str]] = set()
    marked = []
    for operation in operations:
        for step in operation.steps:
            if step.fill is not None and not step.fill.into:
                table = same_table(step.fill.table)
                filled |= {(table, column) for column, _ in step.fill.values}
                filled |= {(table, "")} if not step.fill.values else set()  # a deleted row violates nothing
        violations = tuple(
            replace(each, repaired_in=each.repaired_in or Phase.BACKFILL)
            if any((same_table(each.table), column) in filled for column in ("", *each.columns))
            else each
            for each in operation.violations
        )
        tables = {table for table, _ in filled}
        is_late = any(each.repaired_in for each in violations) and not any(step.fill for step in operation.steps)
        unique = next((n for n, step in enumerate(operation.steps) if _needs_rows(step, tables)), len(operation.steps))
        steps = tuple(
            replace(step, phase=Phase.BACKFILL)
            if number >= unique and step.phase is Phase.EXPAND and not is_late  # the index, and its constraint
            # Without a rollout too: the constraint would refuse updates of rows that have no value yet.
            else replace(step, phase=Phase.CONTRACT)
            if is_late and step.phase is Phase.EXPAND
            else step
            for number, step in enumerate(operation.steps)
        )
        marked.append(replace(operation, violations=violations, steps=steps))
    return tuple(marked)


_RENAMED_COLUMN = re.compile(r"ALTER TABLE (?P<table>.+) RENAME COLUMN (?P<old>.+) TO (?P<new>.+)")
"""A statement that the operations themselves write."""

_HOLDS_KEY = {"table column", "table constraint"}


def _keep_keys(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """A constraint, or a column with one, that is dropped after rows of its table are filled: the batches may need its
    key, so it stays until they are done, and so do NOT NULL, which a key requires, and what may be referenced by it.
    No new version runs before. Batches that come later have their bounds from the start of the phase, by that key."""
    filled: set[str] = set()
    is_late = False
    found: list[Operation] = []
    kept: list[int] = []
    for operation in operations:
        table = _altered_table(operation)
        is_loosened = any(each.kind in _HOLDS_KEY for each in operation.drops) or any(
            step.not_null is not None for step in operation.steps
        )
        is_late |= is_loosened and table in filled
        if is_late and is_loosened:
            operation = replace(operation, steps=tuple(map(_after_rows, operation.steps)))  # noqa: PLW2901
            kept.append(len(found))
        fills = (step.fill for step in operation.steps if step.fill is not None and _is_batched(step))
        filled |= {same_table(each.table) for each in fills}
        found.append(operation)
    for number in kept:
        _move_behind_batches(found, number)
    return tuple(found)


def _is_batched(step: OperationStep) -> bool:
    return step.phase is Phase.BACKFILL and step.fill is not None and not step.fill.statement


def _move_behind_batches(operations: list[Operation], number: int) -> None:
    """Steps of phase backfill of one operation run after the last batches of its table."""
    operation = operations[number]
    table = _altered_table(operation)
    places = [
        (other, place)
        for other, each in enumerate(operations[number + 1 :], number + 1)
        for place, step in enumerate(each.steps, 1)
        if step.fill is not None and _is_batched(step) and same_table(step.fill.table) == table
    ]
    if places:
        other, place = places[-1]
        moved = tuple(step for step in operation.steps if step.phase is Phase.BACKFILL)
        kept = tuple(step for step in operation.steps if step.phase is not Phase.BACKFILL)
        operations[number] = replace(operation, steps=kept)
        steps = operations[other].steps
        operations[other] = replace(operations[other], steps=(*steps[:place], *moved, *steps[place:]))


def _altered_table(operation: Operation) -> str:
    """The table of an ALTER TABLE, as :func:`same_table`."""
    return same_table(name_sql(operation.on.schema, operation.on.name)) if operation.on is not None else ""


def _needs_rows(step: OperationStep, filled: set[str]) -> bool:
    """Whether a step of expand builds a unique index on a table whose rows are filled."""
    return (
        step.phase is Phase.EXPAND
        and step.mode is StepMode.BUILD_INDEX
        and step.statements[0].startswith("CREATE UNIQUE INDEX")
        and same_table(step.table) in filled
    )


def numbered_steps(plan: BaseOperationsPlan, phase: Phase) -> tuple[tuple[int, OperationStep], ...]:
    """The steps of all operations in a phase, in their order, each with its number in the plan."""
    return tuple((number, step) for number, step in enumerate(_all_steps(plan)) if step.phase is phase)


OPERATION_STEPS = ("run-operation", "fill-rows")
"""Keys of the engine's steps whose value is the number of an operation's step."""


def named_steps(plan: BaseOperationsPlan, phase: Phase) -> tuple[tuple[str, int, OperationStep], ...]:
    """As :func:`numbered_steps`, each with the name of its step in the strategy."""
    return tuple(
        (f"{phase}-{position}", number, step) for position, (number, step) in enumerate(numbered_steps(plan, phase), 1)
    )


def list_dropped_by_undo(plan: BaseOperationsPlan) -> Mapping[str, tuple[DroppedData, ...]] | None:
    """The columns and tables that the undo of each step drops; None where the operations cannot be planned."""
    try:
        operations = plan_operations(plan)
    except PlanError:
        return None
    steps = [step for operation in operations for step in operation.steps]
    copied = [_has_copy(operation) for operation in operations for _ in operation.steps]
    filled = {
        (same_table(step.fill.into or step.fill.table), name_sql(column))
        for step in steps
        if step.fill is not None
        for column in [each for each, _ in step.fill.values] or [""]
    }
    later = {
        (same_table(found["table"]), found["old"]): found["new"]
        for step in steps
        for sql in step.statements
        if (found := _RENAMED_COLUMN.fullmatch(sql)) is not None
    }
    return {
        name: tuple(
            replace(
                each,
                is_copy=copied[number] and bool(each.column),
                is_filled=(same_table(each.table), each.column) in filled,
                later=later.get((same_table(each.table), each.column), ""),
            )
            for each in step.dropped_by_undo
        )
        for phase in Phase
        for name, number, step in named_steps(plan, phase)
    }


def _has_copy(operation: Operation) -> bool:
    """Whether the column that it adds holds the values of another one, and a trigger keeps both equal."""
    return isinstance(operation, TypeOperation) or (isinstance(operation, RenameOperation) and bool(operation.columns))


def list_blocks(plan: BaseOperationsPlan) -> Mapping[str, tuple[str, ...]]:
    """The lines of the blocks that are shortened where the steps are shown, by the title that stands for them; two
    with the same title, one after the other."""
    found: dict[str, tuple[str, ...]] = {}
    for title, lines in dict.fromkeys(block for step in _all_steps(plan) for block in step.blocks):
        found[title] = (*found.get(title, ()), *lines)
    return found


def find_step(plan: BaseOperationsPlan, number: int) -> OperationStep:
    """The step with a number that :func:`numbered_steps` returned."""
    return _all_steps(plan)[number]


def dropped_indexes(plan: BaseOperationsPlan) -> frozenset[str]:
    """The names of indexes that the operations build and drop again, by themselves or with their constraint."""
    names: set[str] = set()
    for operation in plan_operations(plan):
        for step in operation.steps:
            if step.mode is StepMode.DROP_INDEX:
                names.add(step.index)
            elif step.renames is not None:
                names.discard(step.renames[1])
            elif step.mode is StepMode.BUILD_INDEX:
                names.discard(step.index)
        names |= {each.names[-1] for each in operation.drops if each.kind == "table constraint"}
    return frozenset(names)


def _all_steps(plan: BaseOperationsPlan) -> list[OperationStep]:
    return [step for operation in plan_operations(plan) for step in operation.steps]


def read_operations(sql: str, options: OperationOptions) -> tuple[Operation, ...]:
    """The operations of one or several statements, in their order.

    Args:
        options: its scope follows from one call to the next.

    Raises:
        PlanError: a statement cannot be executed online, or not be undone.
    """
    return _finish(_read_text(sql, options), options)


def _read_text(sql: str, options: OperationOptions) -> list[Operation]:
    try:
        statements = split_statements(sql)
        trees = [parse_sql(statement).stmts for statement in statements]
    except SqlSyntaxError as error:
        refuse_placeholder(sql, error)
        raise PlanError(f"PostgreSQL cannot read it: {error.reason}", "correct the SQL") from None
    refuse_placeholder(sql)
    nodes = [(each.stmt, text) for text, found in zip(statements, trees, strict=True) for each in found]
    if options.undo is not None:
        options = replace(options, undo=resolve_undo(options.undo, options.scope))
        nodes = _without_transactions(nodes, options)
        if nodes and not (len(nodes) == 1 and _has_known_form(nodes[0][0])):
            nodes = [resolve_table_names(node, text, options.scope) for node, text in nodes]
            phase = options.phase or _own_phase(nodes, options)
            own = read_own_statements(tuple(text for _, text in nodes), replace(options, phase=phase))
            checked = [
                check_truncate(node.truncate_stmt, options.scope)
                for node, _ in nodes
                if node.HasField("truncate_stmt") and phase is not Phase.CLEANUP
            ]
            required = [each for each, _ in checked]
            if phase is not Phase.CONTRACT:
                for node, text in nodes:
                    required += require_no_dropped_unique_index(node, text, options)
            notes = tuple(note for _, note in checked if note)
            return [replace(own, requirements=tuple(required), notes=notes)]
    found = [operation for node, text in nodes for operation in _read_statement(node, text, options)]
    if options.phase is None or options.undo is not None:
        return found
    can_wait = [can_wait_for_contract(node) for node, _ in nodes]
    if options.phase is not Phase.CONTRACT or not any(can_wait):
        raise PlanError(
            f"{shorten(sql)}: it has phase: and no undo:, so that the phase cannot be chosen",
            "leave phase: out, and zdd chooses it; or write undo:, where undo: [] says that there is nothing to undo",
        )
    if not all(can_wait):
        other = next(text for (_, text), is_known in zip(nodes, can_wait, strict=True) if not is_known)
        raise PlanError(
            f"{shorten(other)}: without undo: only statements of views and functions can have phase: contract",
            "write it as an operation of its own, without phase:",
        )
    return [run_in_contract(each) for each in found] if options.has_rollout else found


def _has_known_form(node: Any) -> bool:
    """Whether zdd chooses how a statement runs, in batches or as a new table, although the plan has an ``undo:``."""
    if node.HasField("select_stmt"):
        return bool(node.select_stmt.HasField("into_clause"))
    if node.HasField("create_table_as_stmt"):
        return enum_name(node.create_table_as_stmt, "objtype") == "OBJECT_TABLE"
    return node.WhichOneof("node") in ("update_stmt", "delete_stmt")


_OF_ROWS = {"insert_stmt", "update_stmt", "delete_stmt", "merge_stmt", "select_stmt", "create_table_as_stmt"}


def _own_phase(nodes: list[tuple[Any, str]], options: OperationOptions) -> Phase:
    """Where statements of the team's own run, as one, if the plan does not say it."""
    scope = options.scope
    if any(_may_refer_to_late_key(text, scope) for _, text in nodes):
        return options.last_phase
    statements = [
        getattr(node, kind) for node, kind in ((each, each.WhichOneof("node")) for each, _ in nodes) if kind in _OF_ROWS
    ]
    phases = {rows_phase(each, options) for each in statements}
    if Phase.CONTRACT in phases or phases <= {Phase.EXPAND}:
        return Phase.CONTRACT if Phase.CONTRACT in phases else Phase.EXPAND
    scope.late |= {scope.relation_key(each.relation) for each in statements if hasattr(each, "relation")}
    return Phase.BACKFILL


def _may_refer_to_late_key(text: str, scope: Scope) -> bool:
    """Whether a block, whose statements only the server knows, may add a foreign key to a key of contract."""
    words = set(re.findall(r"\w+", text))
    return "REFERENCES" in text.upper() and any(key.name in words for key, _ in scope.deferred_keys)


def _without_transactions(nodes: list[tuple[Any, str]], options: OperationOptions) -> list[tuple[Any, str]]:
    """Statements without BEGIN and COMMIT, which would end the step's own transaction.

    Raises:
        PlanError: they take back what they have done.
    """
    kept = []
    for node, text in nodes:
        if node.WhichOneof("node") == "transaction_stmt":
            _read_statement(node, text, options)
        else:
            kept.append((node, text))
    return kept


def _finish(operations: list[Operation], options: OperationOptions) -> tuple[Operation, ...]:
    """What only the whole migration shows: an object that is dropped and created again; two indexes of one name.

    Raises:
        PlanError: two indexes would get the same name.
    """
    merged = merge_replacements(drop_cascaded(operations, options), options)
    merged = name_columns(drop_tables_together(repeat_overtaken(drop_with_table(merged))))
    merged = tuple(drop_triggers_of_functions(merged))
    seen: set[tuple[str, str]] = set()
    for step in (step for operation in merged for step in operation.steps if step.mode is StepMode.BUILD_INDEX):
        key = (step.table.rpartition(".")[0], step.index)
        if key in seen:
            raise PlanError(f"two indexes would have the name {step.index}", "name them: CREATE INDEX name ON …")
        seen.add(key)
    return merged


def _read_statement(node: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    node, text = resolve_table_names(*resolve_type_names(node, text, options.scope), options.scope)
    node, text = name_arguments(node, text, options.scope)
    late_tables = options.scope.late_tables.intersection(re.findall(r"\w+", text))
    kind = node.WhichOneof("node")
    statement = getattr(node, kind)
    settings = tuple(options.scope.settings.values())
    if kind not in _READERS:
        operations: tuple[Operation, ...] = (read_own_statement(text, options),)
    else:
        created = created_key(kind, statement, options.scope)
        operations = read_on_new(kind, statement, text, options) or _READERS[kind](statement, text, options)
        if created is not None and operations:
            operations = (replace(operations[0], creates=created), *operations[1:])
    if late_tables or (kind in ("alter_table_stmt", "rename_stmt") and _has_late_rows(statement, options.scope)):
        operations = tuple(replace(each, steps=tuple(map(_after_rows, each.steps))) for each in operations)
    if kind == "alter_table_stmt" or (kind == "rename_stmt" and isinstance(operations[0], RenameOperation)):
        key, schema = options.scope.relation_key(statement.relation), statement.relation.schemaname
        operations = tuple(
            replace(each, on=key, schema=schema) if isinstance(each, RenameOperation) else replace(each, on=key)
            for each in operations
        )
    if not settings:
        return operations
    return tuple(
        replace(each, settings=settings, steps=tuple(replace(step, settings=settings) for step in each.steps))
        for each in operations
    )


def _has_late_rows(statement: Any, scope: Scope) -> bool:
    """Whether it changes a table of the migration that gets its rows in phase backfill."""
    key = scope.relation_key(statement.relation)
    return scope.is_new(key) and key in scope.late


def _after_rows(step: OperationStep) -> OperationStep:
    return replace(step, phase=Phase.BACKFILL) if step.phase is Phase.EXPAND else step


def _read_alter_table(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    objtype = enum_name(statement, "objtype")
    if objtype == "OBJECT_TYPE":
        return read_composite_attribute(statement, text, options)
    if objtype not in RELATION_KINDS:
        return (read_own_statement(text, options),)
    operations: list[Operation] = []
    for each in statement.cmds:
        subtype = enum_name(each.alter_table_cmd, "subtype")
        own = single_command_sql(statement, each)
        if subtype not in _COMMAND_READERS:
            operations.append(read_own_statement(own, options))
        else:
            operations += _COMMAND_READERS[subtype](statement, each, own, options)
    if not statement.missing_ok:
        return tuple(operations)
    if any(isinstance(each, TypeOperation) for each in operations):
        raise PlanError(f"{shorten(text)}: IF EXISTS is not supported for a change of a type", "leave it out")
    exists = f"SELECT to_regclass({quote_literal(relation_sql(statement.relation))}) IS NOT NULL"
    return tuple(replace(each, steps=tuple(_only_if(exists, step) for step in each.steps)) for each in operations)


def _only_if(query: str, step: OperationStep) -> OperationStep:
    return replace(step, only_if=f"{query} AND ({step.only_if})" if step.only_if else query)


def _read_add_constraint(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    constraint = getattr(command.alter_table_cmd, "def").constraint
    return (add_table_constraint(alter.relation, constraint, text, options),)


_READERS: Mapping[str, Reader] = {
    **ALTERATION_READERS,
    **COMMENT_READERS,
    **MAINTENANCE_READERS,
    **OBJECT_READERS,
    **RENAME_READERS,
    **RIGHT_READERS,
    **ROUTINE_READERS,
    **ROW_READERS,
    **SESSION_READERS,
    **TRIGGER_READERS,
    **VIEW_READERS,
    "alter_table_stmt": _read_alter_table,
    "create_stmt": read_create_table,
    "drop_owned_stmt": read_drop_owned,
    "drop_role_stmt": read_drop_role,
    "drop_stmt": read_drop,
    "drop_user_mapping_stmt": read_drop_user_mapping,
    "index_stmt": read_create_index,
    "reassign_owned_stmt": read_drop_owned,
}
_COMMAND_READERS: Mapping[str, CommandReader] = {
    **SETTING_READERS,
    **TABLE_COMMANDS,
    **TRIGGER_COMMANDS,
    "AT_AddColumn": read_add_column,
    "AT_AddIdentity": read_add_identity,
    "AT_SetIdentity": read_set_identity,
    "AT_DropIdentity": read_drop_identity,
    "AT_DropExpression": read_drop_expression,
    "AT_AlterColumnType": read_column_type,
    "AT_AddConstraint": _read_add_constraint,
    "AT_AlterConstraint": read_alter_constraint,
    "AT_ColumnDefault": read_column_default,
    "AT_DropColumn": read_drop_column,
    "AT_DropConstraint": read_drop_constraint,
    "AT_DropNotNull": read_drop_not_null,
    "AT_SetNotNull": read_set_not_null,
    "AT_ValidateConstraint": read_validate,
}

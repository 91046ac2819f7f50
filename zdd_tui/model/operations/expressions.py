"""Which expressions of a migration are computed for the rows of today before anything starts, and which cannot be."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from zdd_tui.model.operations.base import (
    Fill,
    Operation,
    OperationStep,
    RenameOperation,
    relation_sql,
    same_table,
    shorten,
)
from zdd_tui.model.operations.types import TypeOperation
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import (
    enum_name,
    expression_sql,
    node_class,
    parse_expression,
    parse_sql,
    read_names,
    string_values,
    type_sql,
    walk,
)


@dataclass(frozen=True, slots=True)
class AddedColumn:
    """A column that expand adds to a table.

    Attributes:
        type: as SQL.
        default: the value that rows of today get, as SQL.
        only_if: see :attr:`OperationStep.only_if`.
    """

    name: str
    type: str
    default: str
    only_if: str


@dataclass(frozen=True, slots=True)
class TriedFill:
    """A fill whose expressions are computed before the start.

    Attributes:
        summary: of its operation.
        values: pairs of a column's name and an SQL expression.
        only_where: SQL condition; empty for every row.
        added: of its table.
        doubt: why the result for the rows of today would say nothing; empty where it counts.
    """

    summary: str
    step: OperationStep
    fill: Fill
    values: tuple[tuple[str, str], ...]
    only_where: str
    added: tuple[AddedColumn, ...]
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class _Change:
    """What a statement may change before a fill reads it.

    Attributes:
        table: as SQL; empty for any.
        columns: empty for any.
        name: of a function or view that gets another definition; empty for rows.
        is_insert: it adds rows and leaves others as they are.
        text: the statement, for people.
    """

    table: str
    text: str
    columns: frozenset[str] = frozenset()
    name: str = ""
    is_insert: bool = False


def list_tried_fills(operations: Iterable[Operation]) -> list[TriedFill]:
    """The fills of phase backfill that compute something, in their order. The same in contract repeat them.

    Copies of whole rows, renamed columns, and what runs as one statement are left out.
    """
    operations = list(operations)
    in_expand = [step for each in operations for step in each.steps if step.phase is Phase.EXPAND]
    added = list(_added_columns(in_expand))
    changes = [change for step in in_expand for change in _list_changes(step)]
    found: list[TriedFill] = []
    for operation in operations:
        for step in operation.steps:
            fill = step.fill
            if step.phase is not Phase.BACKFILL:
                continue
            if fill is not None and not fill.into and not fill.statement and not _is_counted(operation):
                where = "" if isinstance(operation, TypeOperation) else fill.only_where
                values = tuple((column, value) for column, value in fill.values if value.strip().upper() != "DEFAULT")
                own = tuple(column for table, column in added if table == same_table(fill.table))
                doubt = _find_doubt(fill, changes)
                found.append(TriedFill(operation.summary, step, fill, values, where, own, doubt))
            changes += _list_changes(step)
    return found


def _is_counted(operation: Operation) -> bool:
    """Whether its expressions cannot fail, or the rows for which they do are counted as a violation."""
    if isinstance(operation, RenameOperation):
        return True
    return isinstance(operation, TypeOperation) and any(getattr(each, "sample", "") for each in operation.violations)


def _added_columns(steps: Iterable[OperationStep]) -> Iterator[tuple[str, AddedColumn]]:
    for step in steps:
        for sql in (each for each in step.statements if " ADD " in each.upper()):
            for alter in (each for each in walk(parse_sql(sql)) if node_class(each) == "AlterTableStmt"):
                for command in (each.alter_table_cmd for each in alter.cmds):
                    if enum_name(command, "subtype") == "AT_AddColumn":
                        column = _added_column(getattr(command, "def").column_def, step)
                        yield same_table(relation_sql(alter.relation)), column


def _added_column(column: Any, step: OperationStep) -> AddedColumn:
    constraints = (each.constraint for each in column.constraints)
    default = next((each for each in constraints if enum_name(each, "contype") == "CONSTR_DEFAULT"), None)
    value = f"({expression_sql(default.raw_expr)})" if default is not None else "NULL"
    return AddedColumn(column.colname, type_sql(column.type_name), value, step.only_if)


def _list_changes(step: OperationStep) -> Iterator[_Change]:
    if step.fill is not None and not step.fill.statement:
        columns = frozenset(column for column, _ in step.fill.values)
        if not step.fill.into:
            yield _Change(same_table(step.fill.table), shorten(step.fill.sql), columns)
        return
    if step.are_locks_known:
        return  # ours, which change no value
    for sql in (step.fill.statement,) if step.fill is not None else step.statements:
        for node in walk(parse_sql(sql)):
            yield from _changes_of(node, shorten(sql))


def _changes_of(node: Any, text: str) -> Iterator[_Change]:
    match node_class(node):
        case "DoStmt" | "CallStmt" | "ExecuteStmt":
            yield _Change("", text)
        case "UpdateStmt":
            columns = frozenset(target.res_target.name for target in node.target_list)
            yield _Change(same_table(relation_sql(node.relation)), text, columns)
        case "InsertStmt" if not node.HasField("on_conflict_clause"):
            yield _Change(same_table(relation_sql(node.relation)), text, is_insert=True)
        case "InsertStmt" | "DeleteStmt" | "MergeStmt":
            yield _Change(same_table(relation_sql(node.relation)), text)
        case "TruncateStmt":
            for relation in node.relations:
                yield _Change(same_table(relation_sql(relation.range_var)), text)
        case "CreateFunctionStmt":
            yield _Change("", text, name=string_values(node.funcname)[-1])
        case "ViewStmt":
            yield _Change("", text, name=node.view.relname)


def _find_doubt(fill: Fill, changes: Iterable[_Change]) -> str:
    texts = [value for _, value in fill.values if value.strip().upper() != "DEFAULT"]
    query = f"SELECT {', '.join(f'({each})' for each in texts)}"
    query += f" FROM {fill.source}" if fill.source else ""
    query += f" WHERE {fill.only_where}" if fill.only_where else ""
    nodes = list(walk(parse_sql(query)))
    names = read_names(query)
    read = {same_table(relation_sql(each)) for each in nodes if node_class(each) == "RangeVar"}
    own = same_table(fill.table)
    whole_row = [fill.alias or string_values(parse_expression(own).column_ref.fields)[-1]]
    columns = (string_values(each.fields) for each in nodes if node_class(each) == "ColumnRef")
    is_whole = "*" in names or any(each == whole_row for each in columns)
    for change in changes:
        if change.name:
            is_relevant = change.name in names
        elif change.table in ("", *read):
            is_relevant = True
        else:
            is_relevant = change.table == own and not change.is_insert
            is_relevant = is_relevant and (is_whole or not change.columns or not names.isdisjoint(change.columns))
        if is_relevant:
            return f"{change.text} comes before it"
    return ""

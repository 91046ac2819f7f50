"""UPDATE and DELETE of a migration: in batches, in the order of the table's key.

Each row that the table has when the step starts is written once, as by the plain statement at the end of the step: a
batch commits together with its checkpoint. Rows that are inserted meanwhile may be written or not. A statement that
batches would change runs as one, where the table has few rows.
"""

# ruff: noqa: S608  these texts are read by people

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    Fill,
    Operation,
    OperationOptions,
    OperationStep,
    StepMode,
    relation_sql,
    shorten,
)
from zdd_tui.model.operations.scope import ObjectKey
from zdd_tui.model.operations.statements import UndoRequired, read_own_statement
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import (
    deparse,
    enum_name,
    expression_sql,
    node_class,
    parse_sql,
    quote_literal,
    string_values,
    walk,
)

UNDO_ROWS = "zdd cannot know which rows a rollback has to take back"


def read_update(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """
    Raises:
        PlanError: the plan does not say how it is undone.
    """
    table, scope, key = relation_sql(statement.relation), options.scope, options.scope.relation_key(statement.relation)
    targets = [target.res_target for target in statement.target_list]
    special = any(target.indirection or target.val.HasField("multi_assign_ref") for target in targets)
    reason = "sets a part of a column, or several columns by one expression" if special else _not_in_batches(statement)
    if options.phase is not None:
        return (read_own_statement(text, options, f"{UNDO_ROWS} of {table}"),)
    is_new = all((key, target.name) in scope.added_columns for target in targets)
    if reason:
        scope.new_columns -= {(key, target.name) for target in targets}
        columns = tuple(dict.fromkeys(target.name for target in targets))
        return (_read_whole(statement, text, columns, reason, options, needs_undo=not is_new),)
    values = tuple((target.name, _value_sql(target.val)) for target in targets)
    where = expression_sql(statement.where_clause) if statement.HasField("where_clause") else ""
    cleared = _cleared_column(statement, dict(values))
    if cleared is not None:
        where = f"({where}) AND ({dict(values)[cleared]}) IS NOT NULL"
    names = ", ".join(name for name, _ in values)
    fill = Fill(
        table,
        values,
        where,
        is_once=cleared is None,
        alias=statement.relation.alias.aliasname,
        source=_items_sql(statement.from_clause),
    )
    scope.new_columns -= {(key, name) for name, _ in values}
    label = f"update {names} of {table}"
    found = _fill_operation(label, text, fill, scope.relation_key(statement.relation), options, needs_undo=not is_new)
    return (replace(found, notes=_note_any_row(label, statement)),)


def read_delete(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """
    Raises:
        PlanError: the plan does not say how it is undone.
    """
    table = relation_sql(statement.relation)
    if options.phase is not None:
        return (read_own_statement(text, options, f"{UNDO_ROWS} of {table}"),)
    if reason := _not_in_batches(statement):
        return (_read_whole(statement, text, (), reason, options, needs_undo=True),)
    fill = Fill(
        table,
        (),
        expression_sql(statement.where_clause) if statement.HasField("where_clause") else "",
        is_once=True,
        alias=statement.relation.alias.aliasname,
        source=_items_sql(statement.using_clause),
    )
    label = f"delete from {table}"
    key = options.scope.relation_key(statement.relation)
    found = _fill_operation(label, text, fill, key, options, needs_undo=True)
    return (replace(found, notes=_note_any_row(label, statement)),)


def _note_any_row(label: str, statement: Any) -> tuple[str, ...]:
    """A subquery that takes any rows: the plain statement takes them once, each batch for itself."""
    queries = [node for node in walk(statement) if node_class(node) == "SelectStmt"]
    if all(each.sort_clause or not each.HasField("limit_count") for each in queries):
        return ()
    note = f"{label}: a LIMIT without ORDER BY takes any rows, and each batch may take others: add ORDER BY"
    return (f"SELECT {quote_literal(note)}",)


def _fill_operation(
    label: str, text: str, fill: Fill, key: ObjectKey, options: OperationOptions, *, needs_undo: bool
) -> Operation:
    if needs_undo and options.undo is None:
        raise UndoRequired(
            f"{shorten(text)}: {UNDO_ROWS} of {fill.table}",
            "write the operation as a mapping with sql: and undo:, where undo: [] says that there is nothing to undo",
        )
    undo = options.undo or ()
    options.scope.late.add(key)
    step = OperationStep(Phase.BACKFILL, label, (), undo, mode=StepMode.FILL, fill=fill)
    return Operation(text, label, (step,))


def _read_whole(
    statement: Any, text: str, columns: tuple[str, ...], reason: str, options: OperationOptions, *, needs_undo: bool
) -> Operation:
    """
    Args:
        columns: those that it sets; none for DELETE.

    Raises:
        PlanError: the plan does not say how it is undone, or it needs a session's cursor.
    """
    if any(node_class(node) == "CurrentOfExpr" for node in walk(statement)):
        raise PlanError(f"{shorten(text)}: the cursor of WHERE CURRENT OF is not there", "name the rows by their key")
    table = relation_sql(statement.relation)
    changes = [node for node in walk(statement) if node_class(node) in _CHANGES]
    options.scope.late |= {options.scope.relation_key(node.relation) for node in changes}
    values = tuple((column, "") for column in columns)
    fill = Fill(table, values, "", is_once=True, statement=text, reason=reason)
    label = f"update {', '.join(columns)} of {table}" if columns else f"delete from {table}"
    return _fill_operation(
        label,
        text,
        fill,
        options.scope.relation_key(statement.relation),
        options,
        needs_undo=needs_undo or len(changes) > 1,
    )


_CHANGES = ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt")


def _not_in_batches(statement: Any) -> str:
    """Why the statement has to run as a whole; empty where batches do the same."""
    if statement.HasField("with_clause"):
        return "has a WITH clause"
    if statement.HasField("returning_clause"):
        return "has a RETURNING clause"
    if not statement.relation.inh:
        return "has ONLY"
    if any(node_class(node) == "CurrentOfExpr" for node in walk(statement)):
        return "has WHERE CURRENT OF"
    own = statement.relation.relname
    read = [node.relname for node in walk(statement) if node_class(node) == "RangeVar"]
    if read.count(own) > 1:
        return "reads the table that it changes: a batch would see the rows of the batches before it"
    return ""


def _value_sql(node: Any) -> str:
    return "DEFAULT" if node.HasField("set_to_default") else expression_sql(node)


def _items_sql(items: Iterable[Any]) -> str:
    """Items of FROM or USING as SQL; empty for none."""
    items = list(items)
    if not items:
        return ""
    tree = parse_sql("SELECT FROM a")
    select = tree.stmts[0].stmt.select_stmt
    del select.from_clause[:]
    for item in items:
        select.from_clause.add().CopyFrom(item)
    return deparse(tree).partition("FROM ")[2]


def _cleared_column(statement: Any, values: dict[str, str]) -> str | None:
    """A column that WHERE requires to be NULL and that gets a value: an updated row does not meet WHERE again."""
    if not statement.HasField("where_clause"):
        return None
    where = statement.where_clause
    is_and = where.HasField("bool_expr") and enum_name(where.bool_expr, "boolop") == "AND_EXPR"
    own = {statement.relation.alias.aliasname or statement.relation.relname}
    for condition in where.bool_expr.args if is_and else [where]:
        test = condition.null_test
        if not condition.HasField("null_test") or enum_name(test, "nulltesttype") != "IS_NULL":
            continue
        names = string_values(test.arg.column_ref.fields) if test.arg.HasField("column_ref") else []
        # Without a qualifier the column may be one of FROM.
        is_own = (len(names) == 1 and not statement.from_clause) or (len(names) == 2 and names[0] in own)
        if is_own and names[-1] in values and values[names[-1]] != "DEFAULT":
            return names[-1]
    return None

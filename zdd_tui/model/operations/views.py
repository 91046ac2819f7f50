"""Views and materialized views."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    ObjectAddress,
    Operation,
    OperationOptions,
    OperationStep,
    relation_sql,
    shorten,
)
from zdd_tui.model.operations.objects import create_object, refuse_temporary, relation_address
from zdd_tui.model.operations.rights import recreated_rights_query
from zdd_tui.model.operations.scope import Scope
from zdd_tui.model.operations.statements import UndoRequired
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import enum_name, node_class, parse_sql, quote_literal, string_values, walk

VIEW = re.compile(r"create (?:or replace )?(materialized )?view ")
"""What the summary of an operation that creates a view begins with."""

_RESTORE_VIEW = (
    "DO $zdd$ BEGIN CREATE OR REPLACE VIEW %1$s %4$s AS %2$s EXCEPTION WHEN invalid_table_definition THEN"
    " DROP VIEW %1$s; CREATE VIEW %1$s %4$s AS %2$s %3$s END $zdd$"
)
"""A view that has got columns cannot be replaced by one without them: then it is created anew, with its rights."""


def _read_view(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    name, key = relation_sql(statement.view), options.scope.relation_key(statement.view)
    if statement.view.relpersistence == "t":
        raise refuse_temporary(text)
    options.scope.create_view(key, statement.query)
    if not statement.replace:
        options.scope.create(key)
        return create_object("VIEW", name, text)
    if not options.scope.is_new(key):
        options.scope.create(key, is_optional=True)
    literal = quote_literal(name)
    before = (
        f"SELECT CASE WHEN to_regclass({literal}) IS NULL THEN {quote_literal(f'DROP VIEW IF EXISTS {name}')} ELSE"
        f" format({quote_literal(_RESTORE_VIEW)}, {literal}, pg_get_viewdef(to_regclass({literal})),"
        f" ({recreated_rights_query('VIEW', literal)}),"
        " (SELECT 'WITH (' || string_agg(format('%s = %L', option_name, option_value), ', ') || ')'"
        f" FROM pg_class, pg_options_to_table(reloptions) WHERE oid = to_regclass({literal}))) END"
    )
    step = OperationStep(Phase.EXPAND, f"create or replace view {name}", (text,), undo_query=before)
    return (Operation(text, step.label, (step,)),)


def can_wait_for_contract(node: Any) -> bool:
    """Whether a statement may have ``phase: contract`` without ``undo:``: one of those that replace a view or function,
    whose old form stays until then.

    Args:
        node: a Node of the parse tree.
    """
    if node.HasField("drop_stmt"):
        return enum_name(node.drop_stmt, "remove_type") in _REPLACEABLE
    kinds = ("view_stmt", "create_function_stmt", "comment_stmt", "grant_stmt", "transaction_stmt")
    return node.WhichOneof("node") in kinds


_REPLACEABLE = {"OBJECT_VIEW", "OBJECT_FUNCTION", "OBJECT_PROCEDURE", "OBJECT_ROUTINE"}


def run_in_contract(operation: Operation) -> Operation:
    """The operation, where what would run in expand waits for the end of the older version."""
    steps = (replace(each, phase=Phase.CONTRACT) if each.phase is Phase.EXPAND else each for each in operation.steps)
    return replace(operation, steps=tuple(steps))


def _read_table_as(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """CREATE TABLE AS and CREATE MATERIALIZED VIEW.

    Raises:
        PlanError: rows that running code still changes would be copied once.
    """
    relation, is_optional = statement.into.rel, statement.if_not_exists
    is_view = enum_name(statement, "objtype") == "OBJECT_MATVIEW"
    if relation.relpersistence == "t":
        raise refuse_temporary(text)
    kind = "materialized view" if is_view else "table"
    exists = relation_address(kind, relation) if is_optional else None
    if not is_view:
        query = None if statement.into.skip_data else statement.query
        return create_filled_table(relation, query, text, options, exists)
    key = options.scope.relation_key(relation)
    options.scope.create(key, is_optional=is_optional)
    options.scope.filled.add(key)
    options.scope.create_view(key, statement.query)
    return create_object(kind.upper(), relation_sql(relation), text, exists=exists)


def create_filled_table(
    relation: Any, query: Any, text: str, options: OperationOptions, exists: ObjectAddress | None = None
) -> tuple[Operation, ...]:
    """A new table with the rows of a query, which runs where an INSERT of them would; what names the table comes after.

    Args:
        query: None for no rows.

    Raises:
        UndoRequired: as :func:`require_own_rows`.
    """
    scope = options.scope
    if query is not None:
        require_own_rows(query, text, options)
    is_late = query is not None and (
        scope.reads_late(query) or (options.has_rollout and bool(used_tables(query, scope)))
    )
    key = scope.relation_key(relation)
    scope.create(key, is_optional=exists is not None)
    scope.filled.add(key)
    phase = options.phase or (Phase.BACKFILL if is_late else Phase.EXPAND)
    if phase is Phase.BACKFILL:
        scope.late.add(key)
        scope.late_tables.add(key.name)
    (operation,) = create_object("TABLE", relation_sql(relation), text, exists=exists)
    (step,) = operation.steps
    return (replace(operation, steps=(replace(step, phase=phase, undo=options.undo or step.undo),)),)


def created_view(operation: Operation) -> str:
    """The name of a plain view that is created, as SQL; empty for anything else."""
    if VIEW.match(operation.summary) is None:
        return ""
    statement = parse_sql(operation.text).stmts[0].stmt
    return relation_sql(statement.view_stmt.view) if statement.HasField("view_stmt") else ""


def reads_unnamed_columns(operation: Operation, tables: Iterable[str]) -> bool:
    """Whether its query reads columns of tables without their names: by ``*``, a whole row, or a natural join.

    Args:
        tables: their names without a schema.
    """
    nodes = [(node_class(node), node) for node in walk(parse_sql(operation.text))]
    given = [(node.alias.aliasname or node.relname, node.relname) for kind, node in nodes if kind == "RangeVar"]
    names, own = {name for name, _ in given}, set(tables)
    rows = {name for name, table in given if table in own}
    return any(
        kind == "A_Star"
        or (kind == "JoinExpr" and node.is_natural)
        or (kind == "ColumnRef" and _may_be_row(string_values(node.fields), rows, names))
        for kind, node in nodes
    )


def _may_be_row(column: list[str], rows: set[str], names: set[str]) -> bool:
    """Whether dotted names may mean a whole row: ``a.b`` is a column where the query has an ``a``, else the table."""
    return column[-1] in rows and (len(column) == 1 or column[-2] not in names)


def used_tables(query: Any, scope: Scope) -> tuple[str, ...]:
    """What a query reads, also by views of the migration, and running code uses; as SQL."""
    old = (each for each in scope.read_tables(query) if not scope.is_new(scope.relation_key(each)))
    return tuple(dict.fromkeys(relation_sql(each) for each in old))


def require_own_rows(query: Any, text: str, options: OperationOptions) -> None:
    """
    Raises:
        UndoRequired: a query that fills a new table reads rows that running code changes until cutover, and the plan
            does not accept that.
    """
    if options.undo is None and options.has_rollout and (used := used_tables(query, options.scope)):
        raise UndoRequired(
            f"{shorten(text)}: it copies rows of {', '.join(used)} once, and running code changes them until cutover",
            "change.into keeps a new table in step; where the rows do not change, or V2 does not need the late ones,"
            " write the operation as a mapping with sql: and undo: [], and it runs at the end of backfill",
        )


def _read_refresh(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    name = relation_sql(statement.relation)
    if not statement.concurrent and not options.scope.is_new(options.scope.relation_key(statement.relation)):
        raise PlanError(
            f"{shorten(text)}: it locks {name} against readers while it computes all rows",
            "REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index",
        )
    return (Operation(text, f"refresh {name}", (OperationStep(Phase.EXPAND, f"refresh {name}", (text,)),)),)


VIEW_READERS: Mapping[str, Any] = {
    "create_table_as_stmt": _read_table_as,
    "refresh_mat_view_stmt": _read_refresh,
    "view_stmt": _read_view,
}

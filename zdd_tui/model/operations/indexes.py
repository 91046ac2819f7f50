"""Indexes: built and dropped concurrently."""

from collections.abc import Mapping
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, StepMode, relation_sql
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import MAX_IDENTIFIER_BYTES, SqlSyntaxError, deparse, name_sql, parse_sql, string_values


def read_create_index(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    """
    Raises:
        PlanError: PostgreSQL cannot build it concurrently.
    """
    name = statement.idxname or default_index_name(statement)
    step = build_index_step(Phase.EXPAND, statement, name)
    return (Operation(text, step.label, (step,)),)


def build_index_step(phase: Phase, statement: Any, name: str) -> OperationStep:
    """The step that builds an index concurrently, under a name that is known before.

    Args:
        statement: an IndexStmt.
    """
    tree = parse_sql("CREATE INDEX a ON b (c)")
    index = tree.stmts[0].stmt.index_stmt
    index.CopyFrom(statement)
    index.concurrent, index.idxname, index.if_not_exists = True, name, statement.if_not_exists
    table = relation_sql(statement.relation)
    unique = "unique index" if statement.unique else "index"
    return OperationStep(
        phase,
        f"build {unique} {name} on {table}",
        (deparse(tree),),
        mode=StepMode.BUILD_INDEX,
        index=name,
        table=table,
        is_optional=statement.if_not_exists,
    )


def concurrent_build(definition: str) -> str:
    """The statement that builds an index again from what pg_get_indexdef returns."""
    tree = parse_sql(definition)
    tree.stmts[0].stmt.index_stmt.concurrent = True
    return deparse(tree)


def copied_index(definition: str, columns: Mapping[str, str], name: str, *, is_unique: bool) -> str:
    """The statement that builds an index on other columns of its table.

    Args:
        definition: as pg_get_indexdef returns it.
        columns: new name by old name.
        is_unique: whether the copy may be unique.

    Raises:
        PlanError: the definition cannot be read.
    """
    from zdd_tui.model.ddl.canonical import Renaming  # noqa: PLC0415  imports the SQL parser late

    try:
        tree = parse_sql(definition)
    except SqlSyntaxError as error:
        raise PlanError(
            f"{definition}: {error.reason}", "drop the index before, and create it after the release"
        ) from None
    index = tree.stmts[0].stmt.index_stmt
    own = frozenset({(index.relation.schemaname, index.relation.relname), ("", index.relation.relname)})
    Renaming(dict(columns), own).apply(tree)
    index.idxname, index.concurrent = name, True
    index.unique = index.unique and is_unique
    return deparse(tree)


def default_index_name(statement: Any) -> str:
    """The name that PostgreSQL chooses for an index without one: ``users_email_idx`` (ChooseIndexName, indexcmds.c).

    Raises:
        PlanError: PostgreSQL would shorten it.
    """
    elements = (each.index_elem for each in (*statement.index_params, *statement.index_including_params))
    columns = [each.name or _expression_name(each.expr) for each in elements]
    name = "_".join((statement.relation.relname, *columns, "idx"))
    if len(name.encode()) > MAX_IDENTIFIER_BYTES:
        raise PlanError(
            f"an index on {relation_sql(statement.relation)} has no name", "name it: CREATE INDEX name ON …"
        )
    return name


def _expression_name(node: Any) -> str:
    """As FigureIndexColname (parse_target.c) does: the function's name, or ``expr``."""
    match node.WhichOneof("node"):
        case "func_call":
            return string_values(node.func_call.funcname)[-1]
        case "type_cast":
            return _expression_name(node.type_cast.arg)
        case "collate_clause":
            return _expression_name(node.collate_clause.arg)
    return "expr"


def read_drop_index(names: list[str], text: str, *, missing_ok: bool) -> Operation:
    """Dropped in contract; the undo builds it again from its definition."""
    schema, name = ["", *names][-2:]
    index = name_sql(*(part for part in (schema, name) if part))
    step = OperationStep(
        Phase.CONTRACT,
        f"drop index {index}",
        (f"DROP INDEX CONCURRENTLY {'IF EXISTS ' if missing_ok else ''}{index}",),
        mode=StepMode.DROP_INDEX,
        index=name,
        schema=schema,
        is_optional=missing_ok,
    )
    return Operation(text, step.label, (step,), removes=(f"index {index}",))

"""Functions and procedures: replaced in expand; the definition before comes back with a rollback."""

from collections.abc import Mapping
from typing import Any

from zdd_tui.model.operations.addresses import name_object
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, shorten
from zdd_tui.model.operations.objects import create_object
from zdd_tui.model.operations.rights import recreated_rights_query
from zdd_tui.model.operations.scope import input_types, routine_name
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import name_sql, quote_literal, string_values, type_sql


def _read_function(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """A function or procedure; one that exists is replaced."""
    types = input_types(statement.parameters)
    names = string_values(statement.funcname)
    name = f"{name_sql(*names)}({', '.join(type_sql(each) for each in types)})"
    key = options.scope.key("routine", routine_name(names, types))
    if not statement.replace:
        options.scope.create(key)
        return create_object("PROCEDURE" if statement.is_procedure else "FUNCTION", name, text)
    if not options.scope.is_new(key):
        options.scope.create(key, is_optional=True)
    label = f"create or replace function {name}"
    step = OperationStep(Phase.EXPAND, label, (text,), undo_query=_restore_function(name), may_break=True)
    return (Operation(text, step.label, (step,)),)


def _restore_function(name: str) -> str:
    """The definition before; created anew where it cannot replace the present one, as when defaults have been added."""
    literal = quote_literal(name)
    rights = recreated_rights_query("FUNCTION", literal)
    block = (
        "DO $zdd_outer$ BEGIN EXECUTE %1$L; EXCEPTION WHEN invalid_function_definition THEN"
        " DROP ROUTINE %2$s; EXECUTE %1$L; %3$s END $zdd_outer$"
    )
    return (
        f"SELECT CASE WHEN to_regprocedure({literal}) IS NULL THEN {quote_literal(f'DROP ROUTINE IF EXISTS {name}')}"
        f" ELSE format({quote_literal(block)}, pg_get_functiondef(to_regprocedure({literal})), {literal},"
        f" ({rights})) END"
    )


def _read_alter_function(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """Attributes such as SECURITY DEFINER, STABLE, COST and SET: all of them are in the definition."""
    given = name_object("OBJECT_ROUTINE", _wrapped(statement), options.scope)
    name = given.sql.removeprefix("ROUTINE ")
    label = shorten(text)
    query = (
        f"SELECT pg_get_functiondef(to_regproc({quote_literal(name)}))"
        if given.address is None
        else f"SELECT pg_get_functiondef(to_regprocedure({quote_literal(name)}))"
    )
    return (Operation(text, label, (OperationStep(Phase.EXPAND, label, (text,), undo_query=query, may_break=True),)),)


def _wrapped(statement: Any) -> Any:
    from zdd_tui.model.sql import parse_sql  # noqa: PLC0415

    node = parse_sql("COMMENT ON FUNCTION a() IS NULL").stmts[0].stmt.comment_stmt.object
    node.object_with_args.CopyFrom(statement.func)
    return node


ROUTINE_READERS: Mapping[str, Any] = {
    "create_function_stmt": _read_function,
    "alter_function_stmt": _read_alter_function,
}

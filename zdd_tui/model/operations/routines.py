"""Functions and procedures: replaced in expand; the definition before comes back with a rollback."""

from collections.abc import Mapping
from typing import Any

from zdd_tui.model.operations.addresses import name_object
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, shorten
from zdd_tui.model.operations.objects import create_object
from zdd_tui.model.operations.rights import recreated_rights_query
from zdd_tui.model.operations.scope import Scope, input_types, routine_name
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import (
    deparse,
    name_sql,
    node_class,
    parse_sql,
    quote_literal,
    string_values,
    type_sql,
    walk,
)


def name_arguments(node: Any, text: str, scope: Scope) -> tuple[Any, str]:
    """A statement about a function that it names without arguments, with those of the one that the migration creates.

    Another one of the name, which the migration drops, may exist until contract.
    """
    created = [key for key in scope.created if key.space == "routine"]
    if not created or node.HasField("drop_stmt"):
        return node, text
    tree = parse_sql(text)
    is_changed = False
    for given in (each for each in walk(tree) if node_class(each) == "ObjectWithArgs" and each.args_unspecified):
        *_, name = names = string_values(given.objname)
        schema = scope.key("routine", names).schema
        found = [key for key in created if key.schema == schema and key.name.startswith(f"{name}(")]
        if len(found) == 1:
            arguments = found[0].name.removeprefix(name)
            known = parse_sql(f"COMMENT ON FUNCTION a{arguments} IS NULL").stmts[0].stmt.comment_stmt.object
            given.CopyFrom(known.object_with_args)
            del given.objname[:]
            for part in names:
                given.objname.add().string.sval = part
            is_changed = True
    return (tree.stmts[0].stmt, deparse(tree)) if is_changed else (node, text)


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
    node = parse_sql("COMMENT ON FUNCTION a() IS NULL").stmts[0].stmt.comment_stmt.object
    node.object_with_args.CopyFrom(statement.func)
    return node


ROUTINE_READERS: Mapping[str, Any] = {
    "create_function_stmt": _read_function,
    "alter_function_stmt": _read_alter_function,
}

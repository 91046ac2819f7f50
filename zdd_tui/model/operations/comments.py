"""Comments and security labels: only people read them. A rollback restores the comment of before."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from collections.abc import Mapping
from typing import Any

from zdd_tui.model.operations.addresses import name_object
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep
from zdd_tui.model.operations.statements import read_own_statement
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import enum_name, quote_literal

_SHARED = {"OBJECT_ROLE", "OBJECT_DATABASE", "OBJECT_TABLESPACE"}


def _read_comment(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    kind = enum_name(statement, "objtype")
    given = name_object(kind, statement.object, options.scope)
    if given.address is None:
        return (read_own_statement(text, options),)
    begin = quote_literal(f"COMMENT ON {given.sql} IS ")
    described = (
        "pg_shdescription d ON d.objoid = a.objid AND d.classoid = a.classid"
        if kind in _SHARED
        else "pg_description d ON d.objoid = a.objid AND d.classoid = a.classid AND d.objsubid = a.objsubid"
    )
    before = (
        f"SELECT {begin} || coalesce(quote_literal(d.description), 'NULL') FROM {given.address.sql} AS a"
        f" LEFT JOIN {described}"
    )
    table = given.key if kind == "OBJECT_TABCONSTRAINT" else None
    is_late = kind in ("OBJECT_TABCONSTRAINT", "OBJECT_INDEX") and options.scope.is_deferred(given.names[-1], table)
    word, _, name = given.sql.partition(" ")
    label = f"comment on {word.lower()} {name}"
    step = OperationStep(options.last_phase if is_late else Phase.EXPAND, label, (text,), undo_query=before)
    return (Operation(text, label, (step,)),)


COMMENT_READERS: Mapping[str, Any] = {"comment_stmt": _read_comment}

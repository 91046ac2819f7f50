"""Settings of the session: carried over to the steps of the statements that follow, each of which has a session."""

from collections.abc import Mapping
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationOptions, shorten
from zdd_tui.model.operations.scope import DEFAULT_SCHEMA
from zdd_tui.model.operations.statements import read_own_statement
from zdd_tui.model.sql import deparse, enum_name, node_class, parse_sql, quote_literal, string_values, walk

_IGNORED = {
    *("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"),
    *("client_min_messages", "client_encoding", "idle_session_timeout", "TRANSACTION", "SESSION CHARACTERISTICS"),
    *("application_name", "synchronous_commit", "log_statement", "log_min_duration_statement", "extra_float_digits"),
}
"""Settings that each step has a value for, or that change nothing in a schema."""


def _read_set(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """
    Raises:
        PlanError: the setting changes how the statements are read.
    """
    scope, name = options.scope, statement.name
    kind = enum_name(statement, "kind")
    if kind == "VAR_RESET_ALL":
        scope.settings.clear()
        scope.schema = DEFAULT_SCHEMA
    elif name in _IGNORED or kind == "VAR_SET_MULTI":
        pass
    elif name == "standard_conforming_strings":
        if text.rstrip().lower().endswith(("off", "false", "0")):
            raise PlanError(f"{shorten(text)}: zdd reads strings as the standard says", "write E'…' where you need it")
    elif kind in ("VAR_SET_DEFAULT", "VAR_RESET"):
        scope.settings.pop(name, None)
        if name == "search_path":
            scope.schema = DEFAULT_SCHEMA
    else:
        tree = parse_sql(text)
        setting = tree.stmts[0].stmt.variable_set_stmt
        setting.is_local = True
        if name == "session_authorization":
            name = setting.name = "role"
        scope.settings[name] = deparse(tree)
        (scope.local_settings.add if statement.is_local else scope.local_settings.discard)(name)
        if name == "search_path":
            _follow_path(options, [each.a_const.sval.sval for each in statement.args])
    return ()


def _follow_path(options: OperationOptions, schemas: list[str]) -> None:
    named = [schema for schema in schemas if schema and schema not in ("$user", "pg_catalog", "pg_temp")]
    options.scope.schema = named[0] if named else ""


def _read_transaction(statement: Any, _text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """BEGIN and COMMIT: each step has a transaction of its own.

    Raises:
        PlanError: the file takes back what it has done.
    """
    kind = enum_name(statement, "kind")
    if kind in ("TRANS_STMT_ROLLBACK", "TRANS_STMT_ROLLBACK_TO", "TRANS_STMT_PREPARE"):
        raise PlanError(
            f"the migration holds {kind.removeprefix('TRANS_STMT_').replace('_', ' ')}", "leave out what it takes back"
        )
    if kind == "TRANS_STMT_COMMIT":
        for name in options.scope.local_settings:
            options.scope.settings.pop(name, None)
        if "search_path" in options.scope.local_settings:
            options.scope.schema = DEFAULT_SCHEMA
        options.scope.local_settings.clear()
    return ()


_READING_FUNCTIONS = {
    *("version", "now", "count", "current_setting", "pg_sleep", "to_regclass", "current_schema", "pg_is_in_recovery"),
    *("pg_get_serial_sequence", "max", "min", "coalesce", "current_database"),
}


def _read_select(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """set_config is a setting, and a query that calls nothing changes nothing.

    Raises:
        PlanError: it may change rows or sequences.
    """
    from zdd_tui.model.operations.rows import read_select_into, read_setval  # noqa: PLC0415

    if statement.HasField("into_clause"):
        return read_select_into(statement, text, options)
    calls = [each for each in walk(statement) if node_class(each) == "FuncCall"]
    names = {string_values(call.funcname)[-1] for call in calls}
    if names == {"set_config"} and len(calls) == 1:
        values = [each.a_const.sval.sval for each in calls[0].args[:2]]
        if values[0] == "search_path":
            _follow_path(options, [part.strip().strip('"') for part in values[1].split(",")])
        if values[0] not in _IGNORED:
            options.scope.settings[values[0]] = (
                f"SELECT pg_catalog.set_config({quote_literal(values[0])}, {quote_literal(values[1])}, true)"
            )
        return ()
    if "setval" in names and names - {"setval"} <= _READING_FUNCTIONS:
        return read_setval(statement, text, options)
    writes = any(
        node_class(each) in ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt") for each in walk(statement)
    )
    if names <= _READING_FUNCTIONS and not writes:
        return ()
    return (read_own_statement(text, options, "it calls functions, which may change anything"),)


def _read_nothing(_statement: Any, _text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    """LOCK TABLE, EXPLAIN and the like: each step takes the locks that it needs."""
    return ()


SESSION_READERS: Mapping[str, Any] = {
    "select_stmt": _read_select,
    "transaction_stmt": _read_transaction,
    "variable_set_stmt": _read_set,
    **dict.fromkeys(
        (
            *("checkpoint_stmt", "discard_stmt", "explain_stmt", "lock_stmt", "listen_stmt", "unlisten_stmt"),
            *("variable_show_stmt", "deallocate_stmt", "load_stmt", "constraints_set_stmt"),
        ),
        _read_nothing,
    ),
}

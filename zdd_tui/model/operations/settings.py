"""Settings of tables and columns that only the catalog changes for; a rollback restores the value before."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, relation_sql
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import enum_name, name_sql, quote_literal

_CLASS, _COLUMN = "pg_class", "pg_attribute"

_BEFORE: Mapping[str, tuple[str, str]] = {
    "AT_SetStatistics": (_COLUMN, "'ALTER COLUMN {column} SET STATISTICS ' || coalesce(attstattarget, -1)"),
    "AT_SetStorage": (
        _COLUMN,
        "'ALTER COLUMN {column} SET STORAGE ' || CASE attstorage"
        " WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END",
    ),
    "AT_SetCompression": (
        _COLUMN,
        "'ALTER COLUMN {column} SET COMPRESSION ' || CASE attcompression"
        " WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' ELSE 'default' END",
    ),
    **dict.fromkeys(
        ("AT_EnableRowSecurity", "AT_DisableRowSecurity"),
        (_CLASS, "CASE WHEN relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END || ' ROW LEVEL SECURITY'"),
    ),
    **dict.fromkeys(
        ("AT_ForceRowSecurity", "AT_NoForceRowSecurity"),
        (_CLASS, "CASE WHEN relforcerowsecurity THEN '' ELSE 'NO ' END || 'FORCE ROW LEVEL SECURITY'"),
    ),
    "AT_ReplicaIdentity": (
        _CLASS,
        "'REPLICA IDENTITY ' || CASE relreplident WHEN 'd' THEN 'DEFAULT' WHEN 'n' THEN 'NOTHING' WHEN 'f' THEN 'FULL'"
        " ELSE (SELECT format('USING INDEX %I', i.relname) FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid"
        " WHERE x.indrelid = pg_class.oid AND x.indisreplident) END",
    ),
    "AT_ChangeOwner": (_CLASS, "format('OWNER TO %I', pg_get_userbyid(relowner))"),
}
"""Where the value is, and the command that sets it."""

_IN_CONTRACT = {"AT_EnableRowSecurity", "AT_ForceRowSecurity"}
"""They hide rows from running code."""


def read_setting(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """A setting whose value before is one expression over the catalog."""
    table, subtype = relation_sql(alter.relation), enum_name(command.alter_table_cmd, "subtype")
    catalog, value = _BEFORE[subtype]
    column = command.alter_table_cmd.name
    value = value.replace("{column}", name_sql(column).replace("'", "''")) if column else value
    relation = f"to_regclass({quote_literal(table)})"
    where = f"oid = {relation}"
    if catalog == _COLUMN:
        where = f"attrelid = {relation} AND attname = {quote_literal(column)}"
    before = f"SELECT {quote_literal(f'ALTER TABLE {table} ')} || {value} FROM {catalog} WHERE {where}"
    key = options.scope.relation_key(alter.relation)
    is_late_index = subtype == "AT_ReplicaIdentity" and options.scope.is_deferred(_identity_index(command), key)
    phase = options.last_phase if subtype in _IN_CONTRACT or is_late_index else Phase.EXPAND
    topic = f"row security of {table}" if "RowSecurity" in subtype else ""
    operation = _setting(phase, text, before)
    steps = tuple(replace(step, may_break=subtype == "AT_ReplicaIdentity") for step in operation.steps)
    return (replace(operation, steps=steps, topic=topic),)


def _identity_index(command: Any) -> str:
    return str(getattr(command.alter_table_cmd, "def").replica_identity_stmt.name)


def read_storage_options(alter: Any, command: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    """``SET (fillfactor = 70)`` and ``RESET (fillfactor)``."""
    table = relation_sql(alter.relation)
    names = [
        f"{each.def_elem.defnamespace}.{each.def_elem.defname}".lstrip(".")
        for each in getattr(command.alter_table_cmd, "def").list.items
    ]
    listed = ", ".join(quote_literal(name) for name in names)
    restore = quote_literal(f"ALTER TABLE {table.replace('%', '%%')} SET (%s = %L)")
    reset = f"ALTER TABLE {table} RESET ({', '.join(names)})"
    before = (
        f"SELECT {quote_literal(reset)} UNION ALL"
        f" SELECT format({restore}, option_name, option_value)"
        f" FROM pg_class, pg_options_to_table(reloptions) WHERE oid = to_regclass({quote_literal(table)})"
        f" AND option_name IN ({listed})"
    )
    return (_setting(Phase.EXPAND, text, before),)


def _setting(phase: Phase, text: str, before: str) -> Operation:
    label = " ".join(text.split())
    return Operation(text, label, (OperationStep(phase, label, (text,), undo_query=before),))


SETTING_READERS = {
    **dict.fromkeys(_BEFORE, read_setting),
    **dict.fromkeys(("AT_SetRelOptions", "AT_ResetRelOptions"), read_storage_options),
}

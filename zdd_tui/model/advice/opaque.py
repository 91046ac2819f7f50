"""Code that only an execution shows: DO blocks, functions and procedures; and what must not be executed at all."""

import re
from collections.abc import Iterable, Mapping

_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_BRANCH = re.compile(r"\b(IF|CASE|LOOP|WHILE|FOR|FOREACH|EXCEPTION)\b", re.IGNORECASE)
_EXCEPTION_BLOCK = re.compile(r"\bEXCEPTION\s+WHEN\b", re.IGNORECASE)
_HARMFUL = re.compile(
    r"\b(DROP|TRUNCATE|(?<!ON )DELETE|REVOKE|RENAME|DETACH|DISABLE|ENABLE|OWNER|INHERIT|REPLACE|CALL|PERFORM)\b"
    r"|\bEXECUTE\b(?!\s+(FUNCTION|PROCEDURE))"
    r"|\bALTER\s+(COLUMN\s+)?\S+\s+(SET\s+DATA\s+)?TYPE\b|\bSET\s+(NOT\s+NULL|SCHEMA)\b",
    re.IGNORECASE,
)
_DELETE = re.compile(r"\bDELETE\s+FROM\b|\bTRUNCATE\b", re.IGNORECASE)
_OUTSIDE = re.compile(
    r"\b(dblink\w*|pg_read_\w+|pg_write_\w+|pg_ls_\w+|pg_stat_file|lo_import|lo_export|http_\w+|pg_terminate_backend"
    r"|pg_cancel_backend|pg_reload_conf|pg_rotate_logfile\w*|pg_switch_wal|pg_promote|pg_\w*replication_slot\w*"
    r"|pg_\w*backup\w*|pg_create_restore_point|pg_logical_\w+)\b"
    r"|\bALTER\s+SYSTEM\b|\bTO\s+PROGRAM\b|\bFROM\s+PROGRAM\b|\bCREATE\s+SUBSCRIPTION\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")

_EXECUTE = re.compile(r"\bEXECUTE\b", re.IGNORECASE)
_CODE = frozenset(
    (
        *("select_stmt", "insert_stmt", "update_stmt", "delete_stmt", "merge_stmt", "execute_stmt", "do_stmt"),
        "call_stmt",
    )
)

NOT_EXECUTED = {
    **dict.fromkeys(("alter_system_stmt", "load_stmt"), "it changes the server, not the database"),
    **dict.fromkeys(
        (
            *("createdb_stmt", "dropdb_stmt", "alter_database_stmt", "alter_database_set_stmt", "create_role_stmt"),
            *("alter_role_stmt", "alter_role_set_stmt", "drop_role_stmt", "create_table_space_stmt"),
            *("drop_table_space_stmt", "grant_role_stmt", "drop_owned_stmt", "reassign_owned_stmt"),
        ),
        "it changes the server, not the database",
    ),
    **dict.fromkeys(
        (
            *("create_subscription_stmt", "alter_subscription_stmt", "drop_subscription_stmt"),
            *("import_foreign_schema_stmt", "create_user_mapping_stmt", "alter_user_mapping_stmt"),
        ),
        "it reaches another server",
    ),
    "copy_stmt": "it reads or writes data outside of the database",
    "notify_stmt": "it reaches other sessions",
}
"""Kinds of statements, as the root of the parse tree, that are never executed on a copy, and why."""


def why_not_executed(node: str, text: str, bodies: Mapping[str, str]) -> str:
    """Why a statement is not executed on a scratch server; empty where it may be.

    Args:
        bodies: source of the functions of users, by name.
    """
    if reason := NOT_EXECUTED.get(node):
        return reason
    for code in _all_code(text, bodies):
        if match := _OUTSIDE.search(code):
            return f"{_one_line(match[0])} reaches outside of the database"
    return ""


def is_left_out(node: str, text: str, *, is_whole_server: bool) -> bool:
    """Whether a copy without rows leaves a statement out, and continues: no later one needs it.

    Args:
        is_whole_server: the copy has a server of its own, with its roles.
    """
    if node == "copy_stmt":  # the client would wait for data that nothing sends, and the server for the client
        return "STDIN" in text.upper()
    return node in ("create_role_stmt", "notify_stmt") and not is_whole_server


def reads_rows(node: str) -> bool:
    """Whether a statement, as the root of its parse tree, computes with values of rows."""
    return node in _CODE


def why_unproven(text: str, bodies: Mapping[str, str]) -> str:
    """Why one execution of a statement's code on a copy without rows proves nothing; empty where it does.

    A branch that the copy did not take can do what it likes where the data or the server differ. Only code that has
    no branch, or nothing harmful in any, is proven; and rows that are deleted are not seen where there are none.
    """
    for code in _all_code(text, bodies):
        harmful = _HARMFUL.search(code)
        if _BRANCH.search(code) and harmful:
            return f"it has branches, and {_one_line(harmful[0])} may run in one that the copy did not take"
        if _DELETE.search(code):
            return "it deletes rows, and no rollback restores them"
    return ""


def depends_on_rows(node: str, text: str, bodies: Mapping[str, str]) -> bool:
    """Whether what a statement does to the schema, and its errors, may be others where there are rows: its code has
    branches, or makes SQL of values."""
    if node not in _CODE:
        return False
    codes = list(_all_code(text, bodies))
    return any(_BRANCH.search(code) or _EXECUTE.search(code) for code in codes)


def find_exception_code(text: str, bodies: Mapping[str, str]) -> str:
    """A statement with the bodies of its functions, where one has an EXCEPTION block; empty where none has.

    Such a block is a subtransaction: where it is taken back, its locks are released before the statement ends.
    """
    codes = list(_all_code(text, bodies))
    return "\n".join(codes) if any(_EXCEPTION_BLOCK.search(code) for code in codes) else ""


def _all_code(text: str, bodies: Mapping[str, str]) -> Iterable[str]:
    """A statement, and the bodies of the functions that it names, theirs included."""
    waiting, seen = [text], set[str]()
    while waiting:
        code = _COMMENT.sub(" ", waiting.pop())
        yield code
        named = {word for word in _WORD.findall(code) if word in bodies} - seen
        seen |= named
        waiting += [bodies[word] for word in named]


def _one_line(text: str) -> str:
    return " ".join(text.split())

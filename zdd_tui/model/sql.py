"""SQL as text: quoting by the server's rules, and PostgreSQL's own parser (libpg_query, through postgast).

Rules of quoting: PostgreSQL documentation, "Lexical Structure", sections 4.1.1 and 4.1.2. The parser reads strings as
a server with ``standard_conforming_strings`` on does; :mod:`zdd_tui.checks.schema` refuses any other server.

Nodes of parse trees are protobuf messages whose classes are named as in PostgreSQL's parsenodes.h. postgast takes a
fifth of a second to import, so every function here imports it late: most commands parse nothing.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from zdd_tui.model.errors import PlanError

MAX_IDENTIFIER_BYTES = 63
"""NAMEDATALEN - 1: PostgreSQL silently truncates longer names, so we refuse them."""


# --- quoting


def quote_identifier(name: str) -> str:
    """One identifier, always double-quoted.

    Raises:
        PlanError: the name is empty, holds a NUL, or is longer than 63 bytes.
    """
    if not name or "\0" in name:
        raise PlanError(f"not a usable SQL name: {name!r}", "name an existing table or column")
    if len(name.encode()) > MAX_IDENTIFIER_BYTES:
        raise PlanError(
            f"SQL name {name!r} is longer than {MAX_IDENTIFIER_BYTES} bytes",
            "PostgreSQL would truncate it silently; choose a shorter one",
        )
    return '"' + name.replace('"', '""') + '"'


def quote_qualified(*parts: str) -> str:
    """A dotted name, every part quoted: ``quote_qualified("public", "users")``."""
    return ".".join(quote_identifier(part) for part in parts)


def quote_names(names: Iterable[str], prefix: str = "") -> str:
    """Names between commas, each quoted, and with the prefix: ``NEW."id", NEW."name"``."""
    return ", ".join(prefix + quote_identifier(name) for name in names)


def quote_literal(value: str) -> str:
    """A string literal that is safe whatever ``standard_conforming_strings`` is set to."""
    if "\0" in value:
        raise PlanError("an SQL string cannot contain a NUL", "remove it")
    escaped = value.replace("'", "''")
    if "\\" in value:
        return " E'" + escaped.replace("\\", "\\\\") + "'"
    return f"'{escaped}'"


def dollar_quoted(body: str) -> str:
    """``body`` between dollar quotes whose tag does not occur in it."""
    tag, number = "$zdd$", 0
    while tag in body:
        number += 1
        tag = f"$zdd{number}$"
    return f"{tag}{body}{tag}"


# --- tokens


class SqlSyntaxError(PlanError):
    """PostgreSQL's parser does not accept a text.

    Attributes:
        reason: the parser's message.
        offset: where, in characters (postgast's documentation says bytes, and is wrong).
    """

    def __init__(self, reason: str, offset: int = 0) -> None:
        super().__init__(f"PostgreSQL cannot read it: {reason}", "correct the SQL")
        self.reason, self.offset = reason, offset


@dataclass(frozen=True, slots=True)
class Token:
    """A token of SQL, with its offsets in bytes.

    Attributes:
        kind: word, name (in double quotes), string, escaped (E'', U&'' or U&""), dollar, number, parameter, comment,
            open, close, semicolon, unreadable (only in text that was cut off), or other.
    """

    kind: str
    text: str
    start: int
    end: int


_KINDS = {
    "IDENT": "word",
    **dict.fromkeys(("SCONST", "BCONST", "XCONST"), "string"),
    **dict.fromkeys(("USCONST", "UIDENT"), "escaped"),
    **dict.fromkeys(("ICONST", "FCONST"), "number"),
    "PARAM": "parameter",
    **dict.fromkeys(("SQL_COMMENT", "C_COMMENT"), "comment"),
    **dict.fromkeys(("ASCII_40", "ASCII_91"), "open"),
    **dict.fromkeys(("ASCII_41", "ASCII_93"), "close"),
    "ASCII_59": "semicolon",
}
_FORBIDDEN_TOKENS = {
    "comment": "a comment",
    "escaped": "an escape string (E'' or U&'')",
    "dollar": "a dollar-quoted string",
    "parameter": "a parameter such as $1",
}


@cache
def _token_kinds() -> dict[int, str]:
    from postgast.pg_query_pb2 import Token as TokenNumber  # noqa: PLC0415

    return {TokenNumber.Value(name): kind for name, kind in _KINDS.items()}


def tokens(text: str) -> tuple[Token, ...]:
    """The tokens of a text, comments included.

    Raises:
        SqlSyntaxError: a quotation mark or comment is not closed, or no token of SQL.
    """
    found = _call("scan", text).tokens
    raw, kinds, result = text.encode(), _token_kinds(), []
    for each in found:
        content = raw[each.start : each.end].decode()
        kind = kinds.get(each.token, "word" if each.keyword_kind else "other")
        if kind == "word" and content.startswith('"'):
            kind = "name"
        elif kind == "string" and content[0] in "eE$":
            kind = "dollar" if content[0] == "$" else "escaped"
        result.append(Token(kind, content, each.start, each.end))
    return tuple(result)


def readable_tokens(text: str) -> tuple[Token, ...]:
    """The tokens of a text that may be cut off; what cannot be read is one token, ``unreadable``, at the end."""
    text = text.replace("\0", " ").encode(errors="replace").decode()
    end = len(text)
    while True:
        try:
            found = tokens(text[:end])
        except SqlSyntaxError as error:
            end = min(error.offset, end - 1)
            continue
        start, rest = len(text[:end].encode()), text[end:]
        return (*found, Token("unreadable", rest, start, start + len(rest.encode()))) if rest else found


_PLACEHOLDER = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|<%.*?%>|\$\{\w[^}\n]*\}|\{\w+\}", re.DOTALL)


def find_placeholder(text: str, error: SqlSyntaxError | None = None) -> tuple[str, int] | None:
    """A placeholder of a template that stands for a name, with its offset in characters; None where there is none.

    Those in strings, comments and the bodies of functions do not count.

    Args:
        error: the parser's, where it does not accept the text: a placeholder counts that it stops at. Without it those
            in quoted names count.
    """
    if error is not None:
        marks = (found for found in _PLACEHOLDER.finditer(text) if found.start() <= error.offset < found.end())
        return next(((found[0], found.start()) for found in marks), None)
    raw = text.encode(errors="replace")
    for token in tokens(text):
        if token.kind == "name" and (found := _PLACEHOLDER.search(token.text)) is not None:
            return found[0], len(raw[: token.start].decode(errors="replace")) + found.start()
    return None


def refuse_placeholder(text: str, error: SqlSyntaxError | None = None, file: str = "") -> None:
    """
    Args:
        error: as for :func:`find_placeholder`.
        file: the file that holds the text; empty for a plan.

    Raises:
        PlanError: the text holds a placeholder; names its line in the file.
    """
    if (found := find_placeholder(text, error)) is None:
        return
    placeholder, offset = found
    title = f"{placeholder} is a placeholder of a template, and no SQL"
    if not file:
        raise PlanError(title, "write its value in its place") from None
    line = text.count("\n", 0, offset) + 1
    pattern = re.sub(r"([][.*^$/\\])", r"\\\1", placeholder)
    script = f"s/{pattern}/VALUE/g"
    raise PlanError(
        f"{file}:{line}: {title}",
        f"fill it in: sed {shlex.quote(script)} {shlex.quote(file)} > filled.sql; name that file then",
    ) from None


def fold_name(token: Token) -> str:
    """The name in a token of kind ``word`` or ``name``, as PostgreSQL folds it."""
    return token.text[1:-1].replace('""', '"') if token.kind == "name" else token.text.lower()


_MASKS = {**dict.fromkeys(("string", "escaped", "dollar", "unreadable"), "'…'"), "number": "…", "comment": ""}


def redact_query(query: str, length: int = 100) -> str:
    """A query for a line of evidence, without its strings and numbers, which may be personal data."""
    end, parts = 0, []
    for token in readable_tokens(query):
        parts += [" " if token.start > end else "", _MASKS.get(token.kind, token.text)]
        end = token.end
    text = " ".join("".join(parts).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def unsafe_token(text: str, *, statements: bool = False) -> str | None:
    """Why this text could mean something else to the server than to us, or None when it cannot.

    Escape strings, dollar quotes, parameters, comments and unbalanced brackets are refused as a whole:
    they are what text could use to leave the parentheses that it is put in.
    """
    try:
        found = tokens(text)
    except SqlSyntaxError as error:
        return _describe_scan_error(error.reason)
    depth: list[str] = []
    for token in found:
        if token.kind in _FORBIDDEN_TOKENS:
            return f"it holds {_FORBIDDEN_TOKENS[token.kind]}"
        if token.kind == "semicolon" and (not statements or depth):
            return "it holds a semicolon"
        if token.kind == "open":
            depth.append(token.text)
        elif token.kind == "close" and (not depth or depth.pop() + token.text not in ("()", "[]")):
            return f"it closes a bracket that it did not open: {token.text}"
    return f"it opens a bracket that it does not close: {depth[-1]}" if depth else None


def _describe_scan_error(reason: str) -> str:
    for words, what in (
        ("unterminated dollar-quoted", "it holds a dollar-quoted string"),
        ("unterminated /*", "it holds a comment"),
        ("unterminated", "it holds a quotation mark that is never closed"),
    ):
        if reason.startswith(words):
            return what
    return reason if reason.startswith("it ") else f"PostgreSQL cannot read it: {reason}"


_ATOMIC = re.compile(r"\bBEGIN\s+ATOMIC\b", re.IGNORECASE)


def split_statements(text: str) -> tuple[str, ...]:
    """The statements of a script, without their semicolons.

    Raises:
        SqlSyntaxError: a quotation mark or comment is not closed.
    """
    try:  # the scanner ends a statement within BEGIN ATOMIC, and reads what is no SQL
        statements = _call("split", text, method="parser" if _ATOMIC.search(text) else "scanner")
    except SqlSyntaxError:
        statements = _call("split", text, method="scanner")
    return tuple(stripped for statement in statements if (stripped := statement.strip()))


def _call(function: str, text: str, **options: str) -> Any:
    """One of postgast's functions, with its errors translated."""
    import postgast  # noqa: PLC0415
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    if "\0" in text:  # the library is written in C and would stop there
        raise SqlSyntaxError("it holds a NUL", text.index("\0"))
    try:
        return getattr(postgast, function)(text, **options)
    except postgast.PgQueryError as error:
        raise SqlSyntaxError(error.message, max(error.cursorpos - 1, 0)) from None
    except UnicodeEncodeError:
        raise SqlSyntaxError("it is not valid Unicode") from None
    except DecodeError:  # protobuf reads 100 levels: some 45 operators in a row
        raise SqlSyntaxError("a long chain of operators: put parts of it in parentheses") from None


# --- parse trees


def parse_sql(text: str) -> Any:
    """The parse tree of a script: its ``stmts`` are RawStmt messages.

    Raises:
        SqlSyntaxError: it is not SQL of PostgreSQL, or an expression in it is nested too deeply to be read.
    """
    return _call("parse", text)


def parse_expression(text: str) -> Any:
    """The node of one expression.

    Raises:
        SqlSyntaxError: not exactly one expression.
    """
    tree = parse_sql(f"SELECT (\n{text}\n)")
    statement = tree.stmts[0].stmt.select_stmt if len(tree.stmts) == 1 else None
    if statement is None or [field.name for field, _ in statement.ListFields()] != _BARE_SELECT:
        raise SqlSyntaxError("expected one expression")
    targets = [target.res_target for target in statement.target_list]
    value = targets[0].val
    several = value.WhichOneof("node") == "row_expr" and value.row_expr.location == len("SELECT ")
    if len(targets) != 1 or targets[0].name or several:
        raise SqlSyntaxError("expected one expression")
    return value


_BARE_SELECT = ["target_list", "limit_option", "op"]


def walk(node: Any) -> Iterator[Any]:
    """A node and all below it; the ``Node`` wrappers between them are left out."""
    from postgast import walk as walk_named  # noqa: PLC0415

    return (each for _, each in walk_named(node))


def node_class(node: Any) -> str:
    """The class of a node, such as ``ColumnRef``."""
    return str(node.DESCRIPTOR.name)


def read_names(text: str) -> set[str]:
    """What stands as text in the parse tree of a script, the names of tables and columns among them; ``*`` for all."""
    nodes = list(walk(parse_sql(text)))
    stars = {"*" for node in nodes if node_class(node) == "A_Star"}
    return stars | {value for node in nodes for _, value in node.ListFields() if isinstance(value, str)}


def enum_name(node: Any, field: str) -> str:
    """The name of an enumeration's value, such as ``AT_AddColumn`` of ``subtype``."""
    return str(node.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[getattr(node, field)].name)


def string_values(nodes: Any) -> list[str]:
    """The texts of a list of String nodes; other nodes, such as ``*``, are left out."""
    return [node.string.sval for node in nodes if node.HasField("string")]


def called_functions(expression: Any) -> tuple[tuple[str, str, int], ...]:
    """Schema (as written, often empty), name and number of arguments of every function that an expression calls.

    Keywords such as COALESCE and CAST are not functions.
    """
    calls = (node for node in walk(expression) if node_class(node) == "FuncCall")
    named = ((["", *string_values(call.funcname)][-2:], len(call.args)) for call in calls)
    return tuple(dict.fromkeys((schema, name, count) for (schema, name), count in named))


def is_serial(type_name: Any) -> bool:
    """Whether a column's type makes a sequence; in PostgreSQL it does only under its unqualified name."""
    return string_values(type_name.names) in _SERIAL_TYPES


_SERIAL_TYPES = [["smallserial"], ["serial2"], ["serial"], ["serial4"], ["bigserial"], ["serial8"]]


def deparse(tree: Any) -> str:
    """A parse tree as SQL."""
    from postgast import deparse as deparse_tree  # noqa: PLC0415

    return str(deparse_tree(tree))


def expression_sql(node: Any) -> str:
    """An expression as SQL."""
    tree = parse_sql("SELECT 1")
    tree.stmts[0].stmt.select_stmt.target_list[0].res_target.val.CopyFrom(node)
    return deparse(tree).removeprefix("SELECT ")


def with_record(expression: str, record: str, fields: Mapping[str, str]) -> str:
    """An expression over the fields of a record instead of the columns of a table.

    Args:
        record: a table's alias, or a record of PL/pgSQL such as ``new``.
        fields: the record's field by the column's name in the expression; default: the same name.
    """
    tree = parse_expression(expression)
    for node in walk(tree):
        if node_class(node) == "ColumnRef":
            column = string_values(node.fields)[-1]
            del node.fields[:]
            for part in (record, fields.get(column, column)):
                node.fields.add().string.sval = part
    return expression_sql(tree)


def type_sql(type_name: Any) -> str:
    """A type as SQL."""
    tree = parse_sql("SELECT NULL::int")
    tree.stmts[0].stmt.select_stmt.target_list[0].res_target.val.type_cast.type_name.CopyFrom(type_name)
    return deparse(tree).removeprefix("SELECT NULL::")


@lru_cache(maxsize=4096)
def name_sql(*parts: str) -> str:
    """A dotted name, each part quoted only where PostgreSQL needs it: for SQL that people read."""
    column = parse_expression(".".join("a" for _ in parts))
    for field, part in zip(column.column_ref.fields, parts, strict=True):
        field.string.sval = part
    return expression_sql(column)


def single_command_sql(node: Any, command: Any) -> str:
    """An ALTER TABLE with one of its commands only."""
    tree = parse_sql("ALTER TABLE a ADD b int")
    alter = tree.stmts[0].stmt.alter_table_stmt
    alter.CopyFrom(node)
    del alter.cmds[:]
    alter.cmds.add().CopyFrom(command)
    return deparse(tree)


_STABLE_FUNCTIONS = {"now", "transaction_timestamp", "statement_timestamp", "lower", "upper"}
"""Functions that are not volatile: a default that calls them is computed once. Any other may be volatile."""


def may_be_volatile(default: Any) -> bool:
    """Whether a default calls a function that is not known to give one result for a whole statement."""
    return any(
        schema not in ("", "pg_catalog") or name not in _STABLE_FUNCTIONS
        for schema, name, _ in called_functions(default)
    )

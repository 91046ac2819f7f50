"""Quoting by the server's rules, for the places where SQL takes no parameter.

Rules: PostgreSQL documentation, "Lexical Structure", sections 4.1.1 and 4.1.2.
"""

from zdd_tui.model.errors import PlanError

MAX_IDENTIFIER_BYTES = 63
"""NAMEDATALEN - 1: PostgreSQL silently cuts longer names, so we refuse them."""


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
            "PostgreSQL would cut it silently; choose a shorter one",
        )
    return '"' + name.replace('"', '""') + '"'


def quote_qualified(*parts: str) -> str:
    """A dotted name, every part quoted: ``qualified("public", "users")``."""
    return ".".join(quote_identifier(part) for part in parts)


def quote_literal(value: str) -> str:
    """A string literal that is safe whatever ``standard_conforming_strings`` says."""
    if "\0" in value:
        raise PlanError("a NUL cannot stand in an SQL string", "remove it")
    escaped = value.replace("'", "''")
    if "\\" in value:
        return " E'" + escaped.replace("\\", "\\\\") + "'"
    return f"'{escaped}'"

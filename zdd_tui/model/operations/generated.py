"""SQL that depends on what the database holds: blocks of PL/pgSQL, and conditions that hold for every type."""

import hashlib

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.scope import ObjectKey
from zdd_tui.model.sql import MAX_IDENTIFIER_BYTES, dollar_quoted, name_sql

HELPER_PREFIX = "zdd_next_"
"""The name of an index or constraint that takes the place of another one begins so; the OID of that follows.

The SQL of ``type_swap`` and ``partition_swap`` has it as a literal.
"""

RENAMED_PREFIX = "zdd_name_"
"""The name of an index for the other name of a column begins so; the OID of its original follows.

It is an index like any other for a change of a type, which copies it too.
"""

NEW_PREFIX = "zdd_new_"
"""The name of what takes the name of another object later begins so, until then."""

OLD_PREFIX = "zdd_old_"
"""The name of what another object has taken the name of begins so."""

FUNCTION_SCHEMA = "zdd"
"""Where functions of triggers are. The roles of the application need no right to call them."""

_QUALIFIED_NAMES = "PERFORM set_config('search_path', 'pg_catalog', true);"
_NAMES_AS_BEFORE = "PERFORM set_config('search_path', zdd_path, true);"


def block(body: str, declare: str = "") -> str:
    """A DO statement. The server's definitions are read with an empty search path, so that every name is qualified.

    Args:
        body: statements after ``zdd_path`` is kept. ``{{qualified}}`` begins the part that reads definitions;
            tables of the plan are looked up before it.
    """
    text = body.replace("{{qualified}}", _QUALIFIED_NAMES)
    code = (
        f"\nDECLARE\n  zdd_path text := current_setting('search_path');\n{declare}BEGIN\n{text}\n  {_NAMES_AS_BEFORE}\n"
        "END\n"
    )
    return f"DO {dollar_quoted(code)}"


def derived_name(prefix: str, *parts: str) -> str:
    """A name of ours that tells what it belongs to; shortened with a digest where PostgreSQL would cut it."""
    name = "_".join((prefix, *parts))
    if len(name.encode()) <= MAX_IDENTIFIER_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name.encode()[: MAX_IDENTIFIER_BYTES - 9].decode(errors="ignore") + "_" + digest


def prefixed_column(prefix: str, table: str, column: str) -> str:
    """The name of a column that exists beside another one.

    Raises:
        PlanError: PostgreSQL would cut it.
    """
    name = prefix + column
    if len(name.encode()) > MAX_IDENTIFIER_BYTES:
        raise PlanError(
            f"{table}.{name_sql(column)}: the name is too long for {prefix}{column} beside it",
            f"shorten it to {MAX_IDENTIFIER_BYTES - len(prefix)} bytes in a release of its own",
        )
    return name


def function_name(purpose: str, table: ObjectKey, *columns: str) -> str:
    """The name of a function of ours. All share one schema, and the names differ for tables of one name in two schemas,
    and for column ``c`` of ``a_b`` and ``b_c`` of ``a``.

    Args:
        purpose: a word without an underscore.
    """
    return derived_name(purpose, name_sql(*filter(None, (table.schema, table.name)), *columns))


def function_sql(name: str) -> str:
    """The qualified name of a function of ours, without arguments."""
    return name_sql(FUNCTION_SCHEMA, name)


def trigger_function(name: str, code: str) -> str:
    """The function of a trigger that fires before a row is written.

    Args:
        code: statements of PL/pgSQL.
    """
    body = dollar_quoted(f"\nBEGIN\n{code}\n  RETURN NEW;\nEND\n")
    return f"CREATE OR REPLACE FUNCTION {function_sql(name)}() RETURNS trigger LANGUAGE plpgsql AS {body}"


def differs(left: str, right: str) -> str:
    """A condition that two values of one type differ, for every type: also of those without an operator ``=``.

    It compares the stored bytes: what is equal but written differently, such as 1.0 and 1.00, differs.
    """
    # Of two plain rows PostgreSQL would compare the fields, and there is no such operator for them.
    return f"ROW({left})::record OPERATOR(pg_catalog.*<>) ROW({right})::record"

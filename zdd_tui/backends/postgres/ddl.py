"""Runs DDL without blocking the application for long: a ladder of lock timeouts, and concurrent index builds.

While ALTER TABLE waits for its lock, every later query on the table waits behind it. So DDL requests the lock with a
short timeout, and retries after a random pause with a slightly longer one.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Self, TypeAlias

import asyncpg

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.postgres.connection import Connection, Pool
from zdd_tui.model.ddl.lint import index_name
from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan.base import Database
from zdd_tui.model.release.records import WAITING_NOTE
from zdd_tui.model.sql import quote_identifier, quote_literal, quote_qualified

Connections: TypeAlias = Pool | Callable[[], AbstractAsyncContextManager[Connection]]
"""The source of connections that are not fenced."""

WaitCallback: TypeAlias = Callable[[str], Awaitable[None]]
"""Called with the reason of a wait, for the screen; with an empty string when the wait is over."""

_RETRIED_ERRORS = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)

_DO_BLOCK = re.compile(r"\s*DO\b", re.IGNORECASE)

_BLOCKERS = """
SELECT a.pid, coalesce(a.application_name, '') AS app, coalesce(a.state, a.backend_type) AS state,
       extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.query_start, a.backend_start))::float8 AS age
FROM unnest(pg_blocking_pids($1)) AS b (pid) JOIN pg_stat_activity a ON a.pid = b.pid
GROUP BY 1, 2, 3, 4
UNION ALL
SELECT DISTINCT 0, x.gid, 'prepared', extract(epoch FROM clock_timestamp() - x.prepared)::float8
FROM pg_prepared_xacts x
JOIN pg_locks own ON own.pid IS NULL AND own.locktype = 'transactionid' AND own.transactionid = x.transaction
JOIN pg_locks h ON h.pid IS NULL AND h.virtualtransaction = own.virtualtransaction AND h.granted
JOIN pg_locks w ON w.pid = $1 AND NOT w.granted AND w.locktype = h.locktype
  AND w.relation IS NOT DISTINCT FROM h.relation AND w.database IS NOT DISTINCT FROM h.database
  AND w.virtualxid IS NOT DISTINCT FROM h.virtualxid
WHERE 0 = ANY (pg_blocking_pids($1))
ORDER BY age DESC
"""
"""A prepared transaction has no session: the server names process 0 for it."""


MAX_PAUSE = 2.0
"""Seconds between two attempts to get a lock."""


@dataclass(frozen=True, slots=True)
class LadderSettings:
    """How often and how long DDL requests its lock.

    Attributes:
        lock_timeout: seconds, of the first try.
        lock_timeout_max: seconds, of the last try.
        max_tries: attempts, the first included.
        pause: upper bound in seconds of the random pause after the first try; it doubles up to `MAX_PAUSE`.
    """

    lock_timeout: float = 0.2
    lock_timeout_max: float = 2.0
    max_tries: int = 40
    pause: float = 0.1

    @classmethod
    def from_database(cls, database: Database) -> Self:
        return cls(database.lock_timeout, database.lock_timeout_max, database.lock_tries)

    def timeout_at(self, attempt: int) -> float:
        """Returns the lock timeout in seconds of an attempt, from 0. It grows evenly from the first to the last."""
        if self.max_tries < 2:
            return self.lock_timeout
        share = min(1.0, attempt / (self.max_tries - 1))
        return max(0.001, self.lock_timeout + (self.lock_timeout_max - self.lock_timeout) * share)


async def run_ddl(
    connections: Connections,
    fenced: Callable[[], AbstractAsyncContextManager[Connection]],
    statements: Iterable[str],
    *,
    ladder: LadderSettings,
    on_wait: WaitCallback,
    first: Callable[[Connection], Awaitable[None]] | None = None,
    record: Callable[[Connection], Awaitable[None]] | None = None,
) -> None:
    """Runs the statements and ``record`` in one fenced transaction, so that effect and record commit together.

    Args:
        first: reads what the undo needs, in the same transaction, before the statements.

    Raises:
        StepFailed: a statement is refused, or the lock could not be acquired; it names the blockers.
    """
    statements = tuple(statements)
    blockers: list[str] = []
    backoff = Backoff(ladder.pause, MAX_PAUSE, jitter=1.0)
    for attempt in range(ladder.max_tries):
        timeout = ladder.timeout_at(attempt)
        try:
            async with fenced() as conn:
                await conn.execute("SET LOCAL statement_timeout = 0")
                await conn.execute(f"SET LOCAL lock_timeout = {quote_literal(f'{timeout * 1000:.0f}ms')}")
                async with _report_blockers(connections, conn, timeout / 2, on_wait, blockers):
                    if first is not None:
                        await first(conn)
                    for statement in statements:
                        await execute_ddl(conn, statement)
                await conn.execute("SET LOCAL lock_timeout = 0")
                if record is not None:
                    await record(conn)
        except _RETRIED_ERRORS as error:
            who = ", ".join(blockers) or "a session that could not be identified in time"
            await on_wait(f"attempt {attempt + 1} of {ladder.max_tries}: blocked by {who}")
            if attempt + 1 == ladder.max_tries:
                raise StepFailed(
                    f"no lock after {ladder.max_tries} attempts ({type(error).__name__}): blocked by {who}",
                    "let those transactions end, or end them: pg_terminate_backend(pid), ROLLBACK PREPARED; retry",
                ) from None
            await backoff.sleep()
        else:
            return


async def create_index(
    conn_factory: Connections, statement: str, *, on_wait: WaitCallback, schema: str = "public", name: str | None = None
) -> None:
    """Builds an index concurrently. Idempotent: a valid index of that name stays, an invalid one (of an interrupted
    build) is dropped and built again.

    Args:
        schema: of the table and the index; unqualified names are resolved in it.
        name: of the index; default: read from the statement.

    Raises:
        StepFailed: the build failed.
    """
    name = name or index_name(statement)
    index = quote_qualified(schema, name)
    async with _session(conn_factory) as conn:
        # No lock_timeout: it would interrupt the build and leave an invalid index (online_migrations #94).
        await conn.execute("SET lock_timeout = 0")
        await conn.execute("SET statement_timeout = 0")
        await conn.execute(f"SET search_path = {quote_identifier(schema)}, public")
        valid = await _index_valid(conn, index)
        async with _report_blockers(conn_factory, conn, 1.0, on_wait, [], show_progress=True):
            if valid is False:
                await on_wait(f"removing the invalid index {name}")
                await execute_ddl(conn, f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
            if valid is not True:
                await execute_ddl(conn, statement)
        if await _index_valid(conn, index) is not True:
            raise StepFailed(
                f"index {name} is not valid after it was built", "retry: the step drops it and builds it again"
            )


async def drop_index(conn_factory: Connections, schema: str, name: str, *, on_wait: WaitCallback) -> None:
    """Drops an index without blocking the application; does nothing when it does not exist."""
    async with _session(conn_factory) as conn:
        await conn.execute("SET lock_timeout = 0")
        await conn.execute("SET statement_timeout = 0")
        async with _report_blockers(conn_factory, conn, 1.0, on_wait, []):
            await execute_ddl(conn, f"DROP INDEX CONCURRENTLY IF EXISTS {quote_qualified(schema, name)}")


async def run_outside_transaction(
    conn_factory: Connections, statement: str, *, on_wait: WaitCallback, settings: Iterable[str] = ()
) -> None:
    """Runs a statement that PostgreSQL allows in no transaction, such as REINDEX CONCURRENTLY. It may be repeated.

    Args:
        settings: SET LOCAL statements, which are made the session's.

    Raises:
        StepFailed: the statement is refused.
    """
    async with _session(conn_factory) as conn:
        await conn.execute("SET lock_timeout = 0")
        await conn.execute("SET statement_timeout = 0")
        for setting in settings:
            await execute_ddl(conn, _of_session(setting))
        async with _report_blockers(conn_factory, conn, 1.0, on_wait, []):
            await execute_ddl(conn, statement)


def _of_session(setting: str) -> str:
    """``SET a TO b`` of SET LOCAL; set_config without is_local."""
    if setting.startswith("SET LOCAL "):
        return "SET " + setting.removeprefix("SET LOCAL ")
    return f"{setting.removesuffix(', true)')}, false)"


_OWNER = """
SELECT pg_get_userbyid(c.relowner)::text AS owner, current_user::text AS role
FROM pg_class c JOIN pg_roles r ON r.rolname = current_user
WHERE c.oid = to_regclass($1) AND NOT r.rolsuper AND c.relowner <> r.oid AND pg_has_role(c.relowner, 'MEMBER')
  AND has_schema_privilege(c.relowner, (SELECT oid FROM pg_namespace WHERE nspname = $2), 'CREATE')
"""


async def find_creating_owner(conn: Connection, table: str, schema: str) -> tuple[str, str] | None:
    """The owner of a table, as whom new objects beside it are created, and this role; None to create them as this role.

    As the owner where this role is only a member of it: what it creates in `schema` then belongs to the owner, with the
    owner's default privileges. Else the role of an agent of least privilege would own the new table, and the
    application could not use it.

    Args:
        table: qualified and quoted.
    """
    row = await conn.fetchrow(_OWNER, table, schema)
    return None if row is None else (row["owner"], row["role"])


async def as_owner(conn: Connection, table: str, schema: str, statements: Iterable[str]) -> tuple[str, ...]:
    """The statements, run as :func:`find_creating_owner` says."""
    found = await find_creating_owner(conn, table, schema)
    if found is None:
        return tuple(statements)
    owner, role = (quote_identifier(name) for name in found)
    return (f"SET LOCAL ROLE {owner}", *statements, f"SET LOCAL ROLE {role}")


async def list_blockers(conn: Connection, pid: int) -> list[str]:
    """Returns the sessions that block a session, oldest first: ``pid 4711 (app, idle in transaction, 12s)``.

    Without query text. A prepared transaction, which has no session, is named as ``ROLLBACK PREPARED`` needs it.
    """
    return [
        f"prepared transaction {quote_literal(row['app']).strip()} ({format_duration(row['age'])})"
        if row["state"] == "prepared"
        else f"pid {row['pid']} ({row['app'] or 'no application_name'}, {row['state']}, {format_duration(row['age'])})"
        for row in await conn.fetch(_BLOCKERS, pid)
    ]


@asynccontextmanager
async def _session(connections: Connections) -> AsyncIterator[Connection]:
    if isinstance(connections, asyncpg.Pool):
        async with connections.acquire() as conn:
            yield conn
    else:
        async with connections() as conn:
            yield conn


async def _index_valid(conn: Connection, index: str) -> bool | None:
    """Returns None when there is no such index."""
    valid: bool | None = await conn.fetchval(
        "SELECT indisvalid AND indisready FROM pg_index WHERE indexrelid = to_regclass($1)", index
    )
    return valid


async def execute_ddl(conn: Connection, statement: str) -> None:
    """
    Raises:
        StepFailed: the statement is refused, for a reason that waiting does not change.
    """
    try:
        await conn.execute(statement)
    except _RETRIED_ERRORS:
        raise
    except asyncpg.DependentObjectsStillExistError as error:
        raise StepFailed(
            f"{_describe(statement, error)}: {(error.detail or '').replace(chr(10), '; ')}",
            "drop the dependent objects, then retry; zdd never uses CASCADE",
        ) from None
    except asyncpg.InsufficientPrivilegeError as error:
        raise StepFailed(
            _describe(statement, error),
            "grant that right to the role of database.dsn, then retry",
        ) from None
    except (asyncpg.AdminShutdownError, asyncpg.PostgresConnectionError, asyncpg.IdleInTransactionSessionTimeoutError):
        raise
    except asyncpg.PostgresError as error:
        raise StepFailed(
            _describe(statement, error),
            "correct the database, then retry; another plan needs a rollback of this release first",
        ) from None


def _describe(statement: str, error: asyncpg.PostgresError) -> str:
    """The statement and the server's message; of a DO block, whose code says nothing to a reader, the message alone."""
    message = str(error).splitlines()[0]
    return message if _DO_BLOCK.match(statement) else f"{_shorten(statement)}: {message}"


def _shorten(statement: str) -> str:
    line = " ".join(statement.split())
    return line if len(line) <= 60 else line[:59] + "…"


@asynccontextmanager
async def _report_blockers(
    connections: Connections,
    conn: Connection,
    interval: float,
    on_wait: WaitCallback,
    blockers: list[str],
    *,
    show_progress: bool = False,
) -> AsyncIterator[None]:
    """Reads the blockers of ``conn`` from a second session every ``interval`` seconds into ``blockers``."""
    task = asyncio.create_task(
        _report_blockers_loop(connections, conn.get_server_pid(), interval, on_wait, blockers, show_progress)
    )
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error  # from on_wait


async def _report_blockers_loop(
    connections: Connections, pid: int, interval: float, on_wait: WaitCallback, blockers: list[str], show_progress: bool
) -> None:
    # The statement continues even when the blockers cannot be read.
    with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        await asyncio.sleep(interval)
        async with _session(connections) as second:
            while True:
                current = await list_blockers(second, pid)
                if current:
                    blockers[:] = current
                    await on_wait(WAITING_NOTE + ", ".join(current))
                elif show_progress and (phase := await _index_build_progress(second, pid)):
                    await on_wait(phase)
                await asyncio.sleep(interval)


async def _index_build_progress(conn: Connection, pid: int) -> str:
    row = await conn.fetchrow(
        "SELECT phase, blocks_done, blocks_total FROM pg_stat_progress_create_index WHERE pid = $1", pid
    )
    if row is None:
        return ""
    share = f" {row['blocks_done'] * 100 // row['blocks_total']}%" if row["blocks_total"] else ""
    return f"{row['phase']}{share}"

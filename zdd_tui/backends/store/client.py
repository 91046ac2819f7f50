"""The `zdd` schema for every client: register a release, read it, send commands, listen for changes.

The writes of the lease holder are in :mod:`zdd_tui.backends.store.agent`.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

import asyncpg

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.postgres.connection import (
    CONNECTION_ERRORS,
    Connection,
    Pool,
    connect,
    create_pool,
    describe_dsn,
    refuse_pooler,
    translate_error,
    translate_errors,
)
from zdd_tui.backends.store import migrations, records
from zdd_tui.model.activity import StopRequest
from zdd_tui.model.errors import DatabaseError, DatabaseUnavailable, Refused
from zdd_tui.model.masking import mask_secrets
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.release.delivery import ATTEMPT_SECONDS
from zdd_tui.model.release.records import Actor, CommandRequest, FailedRow, Lease, ReleaseRecord, StoredCommand
from zdd_tui.model.release.regions import require_same_region
from zdd_tui.model.release.strategies import build_strategy

PING_SECONDS = 5.0
"""A listener without a notification for this long checks the connection: TCP does not detect a lost server."""

COMMAND_TIMEOUT = 10.0
"""Seconds. Every statement here is short; a longer one has lost its server."""

RECONNECT_SECONDS = (0.1, 4.0)
"""First and longest pause between two attempts to listen again."""

ConnectionCallback = Callable[[bool, str], None]
"""Called with (connected, error); error is empty while connected."""


class NotificationListener:
    """LISTEN for one release on a connection of its own; several pending notifications count as one."""

    def __init__(self, connection: asyncpg.Connection, release_id: int) -> None:
        self._connection = connection
        self._payload = str(release_id)
        self._notified_event = asyncio.Event()

    async def start(self) -> None:
        self._connection.add_termination_listener(lambda *_: self._notified_event.set())
        await self._connection.add_listener("zdd", self._on_notification)

    def close(self) -> None:
        self._connection.terminate()

    def _on_notification(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        if payload == self._payload:
            self._notified_event.set()

    async def wait_for_change(self, idle_timeout: float | None) -> bool:
        """Returns True after a change or `idle_timeout` seconds without one; False when the connection is lost."""
        loop = asyncio.get_running_loop()
        deadline = None if idle_timeout is None else loop.time() + idle_timeout
        while not self._connection.is_closed():
            timeout = PING_SECONDS if deadline is None else min(PING_SECONDS, max(0.0, deadline - loop.time()))
            try:
                async with asyncio.timeout(timeout):
                    await self._notified_event.wait()
            except TimeoutError:
                if deadline is None or loop.time() < deadline:
                    if not await self._is_alive():
                        return False
                    continue
                return True
            self._notified_event.clear()
            return not self._connection.is_closed()
        return False

    async def _is_alive(self) -> bool:
        try:
            await self._connection.execute("SELECT 1", timeout=PING_SECONDS)
        except CONNECTION_ERRORS:
            return False
        return True


class Store:
    """A client's connection to the store."""

    def __init__(self, dsn: str, pool: Pool, application_name: str, timeout: float) -> None:
        self._dsn = dsn
        self._pool = pool
        self._name = application_name
        self._timeout = timeout

    @classmethod
    async def open(cls, dsn: str, *, application_name: str = "zdd", timeout: float = 5.0) -> Self:
        """Connects and refuses poolers in transaction mode.

        Raises:
            DatabaseError: see :func:`zdd_tui.backends.postgres.connection.connect`.
        """
        probe = await connect(dsn, application_name=application_name, timeout=timeout)
        try:
            await refuse_pooler(probe, dsn, timeout=timeout)
        finally:
            probe.terminate()
        pool = await create_pool(
            dsn,
            application_name,
            max_size=2,
            timeout=timeout,
            command_timeout=COMMAND_TIMEOUT,
            keep_session=True,
        )
        return cls(dsn, pool, application_name, timeout)

    async def close(self) -> None:
        """Ends every session of this store; does not hang on an unreachable server."""
        try:
            async with asyncio.timeout(2):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def pool(self) -> Pool:
        """The sessions, for short queries; errors are those of asyncpg."""
        return self._pool

    @property
    def address(self) -> str:
        """``user@host:port/db``, for screens."""
        return describe_dsn(self._dsn)

    # --- schema ------------------------------------------------------------------------------------------------

    async def migrate(self) -> None:
        """Creates or updates the schema; safe from several processes at once.

        Raises:
            DatabaseError: missing rights (the hint has the GRANT), or a schema of a newer zdd.
        """
        connection = await connect(self._dsn, application_name=self._name, timeout=self._timeout)
        try:
            with translate_errors(self._dsn):
                await migrations.migrate(connection, self._dsn)
        finally:
            connection.terminate()

    async def schema_version(self) -> int | None:
        """Reads the version of the `zdd` schema; None when there is none."""
        with translate_errors(self._dsn):
            async with self._pool.acquire() as connection:
                return await migrations.read_schema_version(connection)

    # --- releases ----------------------------------------------------------------------------------------------

    async def register_release(
        self, plan: BasePlan, *, text: str, document: Mapping[str, Any], plan_hash: str, actor: Actor
    ) -> int:
        """Returns the id of the active release of the plan's name; creates one where there is none.

        Args:
            text: the plan as written, with its ${PLACEHOLDERS}; `document` is the same as data.
                Passwords in them are masked.

        Raises:
            Refused: a release of that name runs with another plan.
        """
        strategy = build_strategy(plan)
        with translate_errors(self._dsn):
            async with self._pool.acquire() as connection, connection.transaction():
                created = await connection.fetchval(
                    "INSERT INTO zdd.release (name, environment, plan_text, document, plan_hash, strategy, region)"
                    " VALUES ($1, $2, $3, $4, $5, $6, $7)"
                    " ON CONFLICT (name) WHERE state NOT IN ('rolled-back', 'done') DO NOTHING RETURNING id",
                    plan.name,
                    plan.environment,
                    mask_secrets(text),
                    json.dumps(mask_secrets(document), default=str),  # YAML parses dates
                    plan_hash,
                    records.dump_strategy(strategy),
                    plan.region,
                )
                if created is None:
                    return await _require_same_plan(connection, plan, plan_hash)
                await connection.executemany(
                    "INSERT INTO zdd.step (release_id, position, name) VALUES ($1, $2, $3)",
                    [(created, position, step.name) for position, step in enumerate(strategy.steps)],
                )
                await connection.execute(
                    "INSERT INTO zdd.event (release_id, actor, host, kind, message) VALUES ($1, $2, $3, 'release', $4)",
                    created,
                    actor.name,
                    actor.host,
                    f"registered {plan.name} for {plan.environment}{f', region {plan.region}' * bool(plan.region)}",
                )
                return int(created)

    async def find_release(self, name: str) -> int | None:
        """Returns the newest release of that name; None also where there is no schema yet."""
        with translate_errors(self._dsn):
            try:
                release_id = await self._pool.fetchval(
                    "SELECT id FROM zdd.release WHERE name = $1 ORDER BY id DESC LIMIT 1", name
                )
            except asyncpg.UndefinedTableError:
                return None
        return None if release_id is None else int(release_id)

    async def read_release(self, release_id: int, *, events: int = 50) -> ReleaseRecord:
        """Reads everything about a release, in one snapshot and one round trip.

        Events (the newest `events`) and commands (the newest 20) come oldest first.

        Raises:
            DatabaseError: the server is unreachable, or there is no such release.
        """
        with translate_errors(self._dsn):
            record = await records.read_release(self._pool, release_id, events)
        if record is None:
            raise self._release_not_found(release_id)
        return record

    async def read_lease(self, release_id: int) -> Lease | None:
        """Reads the lease of the release; None when no agent ever ran."""
        with translate_errors(self._dsn):
            row = await self._pool.fetchrow(
                f"SELECT {records.LEASE_COLUMNS} FROM zdd.lease WHERE release_id = $1",  # noqa: S608
                release_id,
            )
        return records.parse_lease(row) if row else None

    async def read_failed_rows(self, release_id: int, limit: int = 100) -> tuple[FailedRow, ...]:
        """Reads the first rows that the backfill could not copy, oldest first."""
        with translate_errors(self._dsn):
            rows = await self._pool.fetch(
                "SELECT job, key, reason, extract(epoch FROM at)::float8 AS at FROM zdd.failed_row"
                " WHERE release_id = $1 ORDER BY zdd.failed_row.at LIMIT $2",
                release_id,
                limit,
            )
        return tuple(records.parse_failed_row(row) for row in rows)

    # --- commands ----------------------------------------------------------------------------------------------

    async def send_command(
        self, release_id: int, request: CommandRequest, *, actor: Actor, valid_until: float | None = None
    ) -> int:
        """Queues a command for the agent and returns its id. The server records the database role of the sender.

        The same `request_id` again returns the id of the command that is stored.

        Args:
            valid_until: seconds since the epoch, by the database's clock, after which it is not stored.

        Raises:
            DatabaseUnavailable: not confirmed within `ATTEMPT_SECONDS`: repeat it with the same request id.
            DatabaseError: no such release, a role that may not send commands, or a text that is too long.
        """
        with translate_errors(self._dsn):
            try:
                sent = await self._fetch_in_time(
                    "SELECT zdd.send_command($1, $2, $3, $4, $5, $6)",
                    release_id,
                    str(request.kind),
                    records.dump_args(request, valid_until),
                    records.strip_nul(request.reason),
                    records.strip_nul(actor.name),
                    records.strip_nul(actor.host),
                )
            except asyncpg.ObjectNotInPrerequisiteStateError as error:
                raise DatabaseUnavailable(f"{self.address} was too slow: {error}") from None
            except asyncpg.ForeignKeyViolationError:
                raise self._release_not_found(release_id) from None
            except asyncpg.InsufficientPrivilegeError:
                raise DatabaseError(
                    f"{self.address}: this role may not send commands; nothing was sent",
                    "use a member of the operator role (GRANT zdd_operator TO …; see config/postgres/roles.sql)",
                ) from None
            except asyncpg.InvalidParameterValueError as error:
                raise DatabaseError(f"the command was not sent: {error}", "shorten it, then retry") from None
        return int(sent)

    async def _fetch_in_time(self, query: str, *values: object) -> Any:
        """Fetches one value within `ATTEMPT_SECONDS`, also where the server is frozen: the session is then ended,
        because asyncpg would wait until the server has cancelled the statement."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ATTEMPT_SECONDS
        try:
            connection = await self._pool.acquire(timeout=ATTEMPT_SECONDS)
        except TimeoutError as error:
            raise translate_error(error, self._dsn, timeout=ATTEMPT_SECONDS) from None
        try:
            return await connection.fetchval(query, *values, timeout=max(0.1, deadline - loop.time()))
        except TimeoutError as error:
            connection.terminate()
            raise translate_error(error, self._dsn, timeout=ATTEMPT_SECONDS) from None
        except asyncio.CancelledError:
            connection.terminate()
            raise
        finally:
            await self._pool.release(connection)

    async def stop_session(self, release_id: int, request: StopRequest, *, actor: Actor) -> bool:
        """Cancels the statement of a session of this database, or ends the session; the audit records it.

        Returns:
            whether the server has sent the signal.

        Raises:
            DatabaseError: the session has ended, or this role or the agent's may not stop it; nothing was done.
        """
        with translate_errors(self._dsn):
            try:
                return bool(
                    await self._pool.fetchval(
                        "SELECT zdd.stop_session($1, $2, $3, $4, $5, $6, $7)",
                        release_id,
                        request.pid,
                        request.started,
                        request.terminate,
                        records.strip_nul(request.reason),
                        records.strip_nul(actor.name),
                        records.strip_nul(actor.host),
                    )
                )
            except (asyncpg.NoDataFoundError, asyncpg.ObjectInUseError, asyncpg.InvalidParameterValueError) as error:
                raise DatabaseError(f"nothing was stopped: {error}") from None
            except asyncpg.UndefinedFunctionError:
                raise DatabaseError(
                    f"{self.address}: its zdd schema is older than this zdd; nothing was stopped",
                    "start an agent of this version: zdd agent PLAN",
                ) from None
            except asyncpg.InsufficientPrivilegeError as error:
                raise DatabaseError(
                    f"{self.address}: nothing was stopped: {error}",
                    "run config/postgres/roles.sql again; the session of a superuser only a superuser can stop",
                ) from None

    async def read_command(self, command_id: int) -> StoredCommand:
        """Reads a command and its result.

        Raises:
            DatabaseError: the server is unreachable, or there is no such command.
        """
        return (await self._read_command(command_id))[0]

    async def wait_command(self, command_id: int, timeout: float) -> StoredCommand:
        """Waits until the agent has answered a command, at most `timeout` seconds; returns its last state.

        Retries while the server is unreachable.
        """
        stored, release_id = await self._read_command(command_id)
        try:
            async with asyncio.timeout(timeout), aclosing(self.watch_changes(release_id, idle_timeout=1.0)) as changes:
                async for _ in changes:
                    try:
                        stored, _release = await self._read_command(command_id)
                    except DatabaseError:
                        continue
                    if stored.status != "queued":
                        break
        except TimeoutError:
            pass
        return stored

    async def _read_command(self, command_id: int) -> tuple[StoredCommand, int]:
        with translate_errors(self._dsn):
            row = await self._pool.fetchrow(
                f"SELECT {records.COMMAND_COLUMNS}, release_id FROM zdd.command WHERE id = $1",  # noqa: S608
                command_id,
            )
        if row is None:
            raise DatabaseError(f"{self.address} has no command {command_id}")
        return records.parse_command(row), row["release_id"]

    # --- changes -----------------------------------------------------------------------------------------------

    async def watch_changes(
        self, release_id: int, *, idle_timeout: float | None = None, on_connection: ConnectionCallback | None = None
    ) -> AsyncGenerator[None, None]:
        """Yields at once, after every change of the release, and after every reconnection, without end.

        Changes while the consumer is busy count as one. Close it with ``aclosing``. It raises no errors: a lost
        server is reported to `on_connection`, and the connection is retried.

        Args:
            idle_timeout: seconds without a change after which it yields too.
        """
        report = on_connection or (lambda connected, error: None)
        backoff = Backoff(*RECONNECT_SECONDS)
        while True:
            try:
                listener = await self._listen(release_id)
            except DatabaseError as error:
                report(False, error.title)
            else:
                backoff.reset()
                report(True, "")
                try:
                    yield
                    while await listener.wait_for_change(idle_timeout):
                        yield
                finally:
                    listener.close()
                report(False, f"{self.address}: the connection is lost")
            await backoff.sleep()

    async def _listen(self, release_id: int) -> NotificationListener:
        connection = await connect(self._dsn, application_name=f"{self._name} listen", timeout=self._timeout)
        listener = NotificationListener(connection, release_id)
        try:
            with translate_errors(self._dsn):
                await listener.start()
        except BaseException:
            listener.close()
            raise
        return listener

    def _release_not_found(self, release_id: int) -> DatabaseError:
        return DatabaseError(f"{self.address} has no release {release_id}", "list the releases with `zdd status PLAN`")


async def _require_same_plan(connection: Connection, plan: BasePlan, plan_hash: str) -> int:
    row = await connection.fetchrow(
        "SELECT id, plan_hash, region FROM zdd.release WHERE name = $1 AND state NOT IN ('rolled-back', 'done')",
        plan.name,
    )
    if row is None:  # it ended between the two statements
        raise Refused(f"the release {plan.name} has just ended", "check it with `zdd status PLAN`, then retry")
    if row["plan_hash"] != plan_hash:
        raise Refused(
            f"a release {plan.name} runs with another plan",
            "finish it or roll it back first, or undo the changes of the plan file",
        )
    require_same_region(plan, row["region"])
    return int(row["id"])

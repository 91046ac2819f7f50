"""The writes of the agent that holds the lease: each carries the epoch of the lease.

Three rules keep a suspended agent from writing after a takeover: the first statement of each of its transactions is
``zdd.fence``; the new agent ends its sessions (and so does the server, when they are idle in a transaction for longer
than the TTL of the lease); and a new session with an old epoch is refused when it is opened.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

import asyncpg

from zdd_tui.backends.postgres.connection import (
    CONNECTION_ERRORS,
    Connection,
    Pool,
    connect,
    create_pool,
    describe_dsn,
    is_session_lost,
    refuse_pooler,
    translate_error,
    translate_errors,
)
from zdd_tui.backends.store import records, writes
from zdd_tui.backends.store.row_values import MalformedRow
from zdd_tui.model.errors import DatabaseError, StaleEpoch
from zdd_tui.model.release.gate import GateReading
from zdd_tui.model.release.records import LEASE_ACQUIRED, Actor, NewEvent, ReleaseRecord, StepChange, StoredCommand
from zdd_tui.model.release.state import Release
from zdd_tui.model.sql import quote_literal

STALE_EPOCH_SQLSTATE = "ZD001"
"""Raised by zdd.fence."""

TAKEOVER_WAIT_SECONDS = 2.0
"""How long a takeover waits for the last transaction of the old holder, before the next try."""

_IS_LIVE_SQL = "holder <> '' AND clock_timestamp() <= renewed_at + make_interval(secs => ttl) AS live"


async def acquire_lease(
    dsn: str, release_id: int, actor: Actor, *, ttl: float = 3.0, timeout: float = 5.0
) -> "AgentStore | None":
    """Acquires the lease of a release; None while another live agent holds it, by the server's clock.

    Args:
        ttl: seconds until a lease without renewal expires; also how long a session may be idle in a transaction.
        timeout: seconds to connect.

    Raises:
        DatabaseError: the server is unreachable or behind a pooler, or there is no such release.
    """
    connection = await connect(dsn, application_name=f"zdd agent {release_id}", timeout=timeout)
    try:
        with translate_errors(dsn):
            if await _is_held(connection, release_id):
                return None
            await refuse_pooler(connection, dsn, timeout=timeout)
            epoch = await _acquire(connection, dsn, release_id, actor, ttl)
        if epoch is None:
            return None
        return await AgentStore.open(dsn, release_id, epoch, actor, ttl=ttl, timeout=timeout)
    except StaleEpoch:  # another agent has taken over in the meantime
        return None
    finally:
        connection.terminate()


async def _is_held(connection: Connection, release_id: int) -> bool:
    query = f"SELECT {_IS_LIVE_SQL} FROM zdd.lease WHERE release_id = $1"  # noqa: S608
    return bool(await connection.fetchval(query, release_id))


async def _acquire(connection: Connection, dsn: str, release_id: int, actor: Actor, ttl: float) -> int | None:
    """Returns the new epoch; None when another agent was faster, or the old holder's last transaction does not end."""
    # One statement: the sessions of an agent that was faster must not be ended.
    await connection.execute(
        f"SELECT zdd.evict(release_id, epoch) FROM (SELECT release_id, epoch, {_IS_LIVE_SQL} FROM zdd.lease) l"  # noqa: S608
        " WHERE release_id = $1 AND NOT live",
        release_id,
    )
    try:
        async with connection.transaction():
            await connection.execute(
                f"SET LOCAL lock_timeout = {quote_literal(f'{TAKEOVER_WAIT_SECONDS * 1000:.0f}ms')}"
            )
            await connection.execute(
                "INSERT INTO zdd.lease (release_id, epoch, holder, host, pid, ttl)"
                " VALUES ($1, nextval('zdd.epoch'), '', '', 0, $2) ON CONFLICT (release_id) DO NOTHING",
                release_id,
                ttl,
            )
            # FOR UPDATE waits for every fenced transaction of the old holder; later ones wait for this transaction.
            old = await connection.fetchrow(
                "SELECT holder, host, extract(epoch FROM clock_timestamp() - renewed_at)::float8 AS age,"  # noqa: S608
                f" {_IS_LIVE_SQL} FROM zdd.lease WHERE release_id = $1 FOR UPDATE",
                release_id,
            )
            assert old is not None  # inserted above
            if old["live"]:
                return None
            epoch = await connection.fetchval(
                "UPDATE zdd.lease SET epoch = nextval('zdd.epoch'), holder = $2, host = $3, pid = $4, ttl = $5,"
                " acquired_at = clock_timestamp(), renewed_at = clock_timestamp()"
                " WHERE release_id = $1 RETURNING epoch",
                release_id,
                actor.name,
                actor.host,
                os.getpid(),
                ttl,
            )
            reason = f"no renewal by {old['holder']}@{old['host']} for {old['age']:.1f} s" if old["holder"] else ""
            await writes.insert_events(
                connection, release_id, actor, [NewEvent("lease", f"{LEASE_ACQUIRED}, epoch {epoch}", reason)]
            )
            return int(epoch)
    except asyncpg.LockNotAvailableError:
        return None
    except asyncpg.ForeignKeyViolationError:
        raise DatabaseError(
            f"{describe_dsn(dsn)} has no release {release_id}", "start the release with `zdd agent PLAN`"
        ) from None


class AgentStore:
    """The store for the agent that holds the lease.

    Attributes:
        epoch: of the lease; every effect outside the database carries it too.
        pool: sessions named ``zdd agent <release> <epoch>``. Its statements are not fenced: use :meth:`fenced`, or
            :meth:`check_lease` right before an effect that cannot run in a transaction.
    """

    def __init__(self, dsn: str, release_id: int, epoch: int, actor: Actor, ttl: float, timeout: float) -> None:
        self.release_id = release_id
        self.epoch = epoch
        self.actor = actor
        self.ttl = ttl
        self.pool: Pool
        self._dsn = dsn
        self._timeout = timeout
        # A connection of its own: an exhausted pool must not lose the lease.
        self._heartbeat: asyncpg.Connection | None = None
        self._renewed = asyncio.get_running_loop().time()

    @classmethod
    async def open(cls, dsn: str, release_id: int, epoch: int, actor: Actor, *, ttl: float, timeout: float) -> Self:
        """Opens the sessions of a new lease, for :func:`acquire_lease`."""
        store = cls(dsn, release_id, epoch, actor, ttl, timeout)
        store.pool = await create_pool(
            dsn,
            store.application_name,
            max_size=8,
            idle_in_transaction_ms=int(ttl * 1000),
            timeout=timeout,
            init=store._fence,
            row_security="off",  # the server then refuses a statement that would not see every row
            # Whatever the database's default: each statement sees what was committed before it, also after a lock.
            default_transaction_isolation="read committed",
        )
        return store

    @property
    def application_name(self) -> str:
        return f"zdd agent {self.release_id} {self.epoch}"

    @property
    def seconds_remaining(self) -> float:
        """Seconds until the lease may expire; negative when another agent may hold it.

        By our monotonic clock, counted from before the last renewal was sent. It guards effects outside the database,
        such as in Kubernetes; in a process that was suspended it is negative.
        """
        return self._renewed + self.ttl - asyncio.get_running_loop().time()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the sessions; the lease expires unless :meth:`release_lease` was called before."""
        if self._heartbeat is not None:
            self._heartbeat.terminate()
            self._heartbeat = None
        try:
            async with asyncio.timeout(2):
                await self.pool.close()
        except TimeoutError:
            self.pool.terminate()

    # --- lease -------------------------------------------------------------------------------------------------

    async def renew_lease(self) -> None:
        """Renews the lease; call it at least three times in `ttl`.

        Raises:
            StaleEpoch: another agent has taken over; stop.
            DatabaseError: the server is unreachable or did not respond within `ttl`; retry.
        """
        began = asyncio.get_running_loop().time()
        try:
            if self._heartbeat is None or self._heartbeat.is_closed():
                self._heartbeat = await connect(
                    self._dsn, application_name=self.application_name, timeout=min(self._timeout, self.ttl)
                )
            renewed = await self._heartbeat.fetchval(
                "UPDATE zdd.lease SET renewed_at = clock_timestamp() WHERE release_id = $1 AND epoch = $2"
                " AND holder <> '' RETURNING true",
                self.release_id,
                self.epoch,
                timeout=self.ttl,
            )
        except CONNECTION_ERRORS as error:
            if self._heartbeat is not None:
                self._heartbeat.terminate()
                self._heartbeat = None
            raise translate_error(error, self._dsn, timeout=self.ttl) from None
        if not renewed:
            raise self._stale_epoch_error()
        self._renewed = began

    async def release_lease(self) -> None:
        """Releases the lease, so that another agent can acquire it at once. Does nothing when it is lost already."""
        with translate_errors(self._dsn), suppress(StaleEpoch):
            async with self.pool.acquire() as connection, connection.transaction():
                released = await connection.fetchval(
                    "UPDATE zdd.lease SET holder = '' WHERE release_id = $1 AND epoch = $2 AND holder <> ''"
                    " RETURNING true",
                    self.release_id,
                    self.epoch,
                )
                if released:
                    event = NewEvent("lease", f"released the lease, epoch {self.epoch}")
                    await writes.insert_events(connection, self.release_id, self.actor, [event])

    async def check_lease(self) -> None:
        """Checks the lease. Call it right before an effect that no transaction can fence.

        Raises:
            StaleEpoch: another agent has taken over.
        """
        async with self.fenced():
            pass

    @asynccontextmanager
    async def fenced(self) -> AsyncIterator[Connection]:
        """Opens a transaction that commits only while this agent holds the lease: its first statement is ``zdd.fence``.

        Errors of the caller's own statements, such as LockNotAvailableError, are those of asyncpg. Await only the
        database inside: the server ends a session that is idle in a transaction for longer than `ttl`.

        Raises:
            StaleEpoch: another agent has taken over.
            DatabaseError: the session was ended, by the server or by another agent, or the server is unreachable.
        """
        with translate_errors(self._dsn):
            connection = await self.pool.acquire()
        try:
            async with connection.transaction():
                await self._fence(connection)
                yield connection
        except CONNECTION_ERRORS as error:
            if is_session_lost(error) or _is_closed(connection):
                with suppress(asyncpg.InterfaceError):  # returned to the pool already
                    connection.terminate()
                raise translate_error(error, self._dsn) from None
            raise
        finally:
            with suppress(*CONNECTION_ERRORS):  # the reset of an ended session fails; the pool then drops it
                await self.pool.release(connection, timeout=self._timeout)

    async def _fence(self, connection: Connection) -> None:
        try:
            await connection.execute("SELECT zdd.fence($1, $2)", self.release_id, self.epoch)
        except asyncpg.PostgresError as error:
            if error.sqlstate == STALE_EPOCH_SQLSTATE:
                raise self._stale_epoch_error() from None
            raise

    def _stale_epoch_error(self) -> StaleEpoch:
        return StaleEpoch(
            f"epoch {self.epoch} of release {self.release_id} is stale: another agent runs the release, this one stops"
        )

    # --- reading -----------------------------------------------------------------------------------------------

    async def read(self) -> ReleaseRecord:
        """As :meth:`zdd_tui.backends.store.client.Store.read_release`."""
        with translate_errors(self._dsn):
            record = await records.read_release(self.pool, self.release_id)
        if record is None:
            raise DatabaseError(f"{describe_dsn(self._dsn)} has no release {self.release_id}")
        return record

    async def next_command(self) -> StoredCommand | None:
        """Returns the oldest queued command. Refuses rows that are none, and commands of a newer zdd."""
        while True:
            with translate_errors(self._dsn):
                row = await self.pool.fetchrow(
                    f"SELECT {records.COMMAND_COLUMNS} FROM zdd.command WHERE release_id = $1 AND status = 'queued'"  # noqa: S608
                    " ORDER BY id LIMIT 1",
                    self.release_id,
                )
            if row is None:
                return None
            if records.is_known(row["kind"]):
                try:
                    return records.parse_command(row)
                except MalformedRow as error:
                    outcome = f"malformed command: {error.title}"
            else:
                kind = row["kind"][:40]
                outcome = f"this agent is older than the zdd that sent {kind!r} and does not know it: update it"
            await self.complete_command(row["id"], refused=True, outcome=outcome, release=None)

    # --- writing -----------------------------------------------------------------------------------------------

    async def save(
        self,
        release: Release,
        *,
        conn: Connection | None = None,
        events: Sequence[NewEvent] = (),
        step: StepChange | None = None,
    ) -> None:
        """Writes the state of the release and its audit lines in one transaction.

        Args:
            conn: of an open :meth:`fenced`, to commit in the same transaction.

        A step whose status changes gets a time: started and undoing set started_at and clear note and error; done,
        failed, undone and undo-failed set ended_at. An ended release gets its finished_at.
        """
        async with self._write_transaction(conn) as connection:
            await writes.update_release(connection, self.release_id, release)
            if step is not None:
                await writes.update_step(connection, self.release_id, step)
            await writes.insert_events(connection, self.release_id, self.actor, events)

    async def save_end(self, release: Release, *, events: Sequence[NewEvent] = ()) -> None:
        """Writes the last state of a release that is done or rolled back."""
        if not release.state.has_ended:
            raise ValueError(f"{release.name} is {release.state} and has not ended")
        await self.save(release, events=events)

    async def save_step_note(self, step: str, note: str) -> None:
        """Writes the progress line of a running step."""
        async with self._write_transaction(None) as connection:
            await writes.update_step(connection, self.release_id, StepChange(step, note=note))

    async def save_step_detail(self, step: str, detail: Mapping[str, Any], *, conn: Connection | None = None) -> None:
        """Replaces the detail of a step that does not run. ``conn``: of an open fenced transaction."""
        async with self._write_transaction(conn) as connection:
            await writes.update_step(connection, self.release_id, StepChange(step, detail=dict(detail)))

    async def append_events(self, events: Sequence[NewEvent], *, conn: Connection | None = None) -> None:
        """Writes audit lines."""
        async with self._write_transaction(conn) as connection:
            await writes.insert_events(connection, self.release_id, self.actor, events)

    async def complete_command(
        self,
        command_id: int,
        *,
        refused: bool,
        outcome: str,
        release: Release | None,
        events: Sequence[NewEvent] = (),
    ) -> None:
        """Writes the result of a command, the new state and an audit line in one transaction.

        The audit line has the kind `command` or `refused`, the operator as actor and the operator's reason; `events`
        come after it.
        """
        async with self._write_transaction(None) as connection:
            answered = await writes.complete_command(
                connection, self.release_id, command_id, refused=refused, outcome=outcome
            )
            if release is not None:
                await writes.update_release(connection, self.release_id, release)
            await writes.insert_events(connection, self.release_id, self.actor, [answered, *events])

    async def save_gates(self, readings: Sequence[GateReading]) -> None:
        """Writes the newest readings, and an audit line for each changed verdict."""
        if not readings:
            return
        async with self._write_transaction(None) as connection:
            changed = await writes.save_gates(connection, self.release_id, readings)
            await writes.insert_events(connection, self.release_id, self.actor, changed)

    @asynccontextmanager
    async def _write_transaction(self, conn: Connection | None) -> AsyncIterator[Connection]:
        if conn is not None:
            yield conn
            return
        try:
            async with self.fenced() as connection:
                yield connection
        except asyncpg.PostgresError as error:
            raise translate_error(error, self._dsn) from None


def _is_closed(connection: Connection) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:  # the pool detaches a broken connection from its user
        return True

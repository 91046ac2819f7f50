"""What only the holder of a release's lease may do: every write carries the lease's epoch and is refused without it.

Three things keep a frozen agent from writing once another has taken over: the first statement of each of its
transactions is ``zdd.fence``; its sessions are ended by whoever takes over (and by the server itself, when they idle
in a transaction for longer than the lease lives); and a new session of an old epoch is refused when it is opened.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeAlias

import asyncpg

from zdd_tui.backends.postgres.connection import (
    CONNECTION_ERRORS,
    connect,
    create_pool,
    describe_dsn,
    is_session_lost,
    refuse_pooler,
    translate_error,
    translate_errors,
)
from zdd_tui.backends.store import records, writes
from zdd_tui.model.errors import DatabaseError, StaleEpoch
from zdd_tui.model.release.gate import GateReading
from zdd_tui.model.release.records import Actor, NewEvent, ReleaseRecord, StepChange, StoredCommand
from zdd_tui.model.release.state import Release
from zdd_tui.model.sql import quote_literal

Connection: TypeAlias = Any
"""asyncpg.Connection, or the pool's proxy of one."""

STALE_EPOCH_SQLSTATE = "ZD001"
"""SQLSTATE that zdd.fence raises."""

TAKEOVER_WAIT_SECONDS = 2.0
"""How long a takeover waits for the last transaction of the old holder to end; then the next try."""

_IS_LIVE_SQL = "holder <> '' AND clock_timestamp() <= renewed_at + make_interval(secs => ttl) AS live"


async def acquire_lease(
    dsn: str, release_id: int, actor: Actor, *, ttl: float = 3.0, timeout: float = 5.0
) -> "AgentStore | None":
    """The right to carry a release out, or None while another live holder has it. Judged by the server's clock.

    Args:
        ttl: seconds that the lease lives without being renewed; also how long a session may idle in a transaction.
        timeout: seconds to connect.

    Raises:
        DatabaseError: the server is away, a pooler is in between, no such release.
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
    except StaleEpoch:  # we were so slow that yet another has taken over
        return None
    finally:
        connection.terminate()


async def _is_held(connection: Connection, release_id: int) -> bool:
    return bool(await connection.fetchval(f"SELECT {_IS_LIVE_SQL} FROM zdd.lease WHERE release_id = $1", release_id))  # noqa: S608


async def _acquire(connection: Connection, dsn: str, release_id: int, actor: Actor, ttl: float) -> int | None:
    """The new epoch; None when another was faster, or the old holder's last transaction does not end."""
    # Judged and named in one statement: the sessions of one who was faster than we are not meant.
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
            # FOR UPDATE waits for every fenced transaction of the old holder, and every later one waits for us.
            old = await connection.fetchrow(
                f"SELECT holder, host, {_IS_LIVE_SQL}, extract(epoch FROM clock_timestamp() - renewed_at)::float8 AS age"  # noqa: S608
                " FROM zdd.lease WHERE release_id = $1 FOR UPDATE",
                release_id,
            )
            if old["live"]:
                return None
            epoch = await connection.fetchval(
                "UPDATE zdd.lease SET epoch = nextval('zdd.epoch'), holder = $2, host = $3, pid = $4, ttl = $5,"
                " taken_at = clock_timestamp(), renewed_at = clock_timestamp() WHERE release_id = $1 RETURNING epoch",
                release_id,
                actor.name,
                actor.host,
                os.getpid(),
                ttl,
            )
            why = f"{old['holder']}@{old['host']} was silent for {old['age']:.1f} s" if old["holder"] else ""
            await writes.insert_events(
                connection, release_id, actor, [NewEvent("lease", f"took the lease, epoch {epoch}", why)]
            )
            return int(epoch)
    except asyncpg.LockNotAvailableError:
        return None
    except asyncpg.ForeignKeyViolationError:
        raise DatabaseError(
            f"{describe_dsn(dsn)} has no release {release_id}", "register it with its plan first"
        ) from None


class AgentStore:
    """The store in the hands of the agent that holds the lease.

    Attributes:
        epoch: of the lease; goes with every effect outside the database too.
        pool: sessions named ``zdd agent <release> <epoch>``. Statements on it are not fenced by themselves: use
            :meth:`fenced`, or :meth:`check_lease` right before what cannot run in a transaction.
    """

    def __init__(self, dsn: str, release_id: int, epoch: int, actor: Actor, ttl: float, timeout: float) -> None:
        self.release_id = release_id
        self.epoch = epoch
        self.actor = actor
        self.ttl = ttl
        self.pool: asyncpg.Pool[asyncpg.Record]
        self._dsn = dsn
        self._timeout = timeout
        self._heartbeat: Connection = None  # of its own: a pool that is used up must not cost us the lease
        self._renewed = asyncio.get_running_loop().time()

    @classmethod
    async def open(cls, dsn: str, release_id: int, epoch: int, actor: Actor, *, ttl: float, timeout: float) -> Self:
        """Opens the sessions of a lease that was just taken; :func:`acquire_lease` does this."""
        store = cls(dsn, release_id, epoch, actor, ttl, timeout)
        store.pool = await create_pool(
            dsn,
            store.application_name,
            max_size=6,
            idle_in_transaction_ms=int(ttl * 1000),
            timeout=timeout,
            init=store._fence,
        )
        return store

    @property
    def application_name(self) -> str:
        return f"zdd agent {self.release_id} {self.epoch}"

    @property
    def seconds_remaining(self) -> float:
        """Seconds that the lease surely lives on without being renewed; negative when another may have it.

        By our own monotonic clock, counted from before the last renewal was sent: the check for effects outside
        the database, such as in Kubernetes. A process that was frozen finds it negative when it wakes.
        """
        return self._renewed + self.ttl - asyncio.get_running_loop().time()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the sessions; the lease runs out by itself unless :meth:`release_lease` was called before."""
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
        """Keeps the lease; call it at least three times in `ttl`.

        Raises:
            StaleEpoch: another has taken over; stop.
            DatabaseError: the server is away, or did not answer within `ttl`; try again.
        """
        began = asyncio.get_running_loop().time()
        try:
            if self._heartbeat is None or self._heartbeat.is_closed():
                self._heartbeat = await connect(
                    self._dsn, application_name=self.application_name, timeout=min(self._timeout, self.ttl)
                )
            kept = await self._heartbeat.fetchval(
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
        if not kept:
            raise self._stale_epoch_error()
        self._renewed = began

    async def release_lease(self) -> None:
        """Gives the lease back, so that another may take it at once. Nothing when it is lost already."""
        with translate_errors(self._dsn), suppress(StaleEpoch):
            async with self.pool.acquire() as connection, connection.transaction():
                given = await connection.fetchval(
                    "UPDATE zdd.lease SET holder = '' WHERE release_id = $1 AND epoch = $2 AND holder <> ''"
                    " RETURNING true",
                    self.release_id,
                    self.epoch,
                )
                if given:
                    gone = NewEvent("lease", f"gave the lease back, epoch {self.epoch}")
                    await writes.insert_events(connection, self.release_id, self.actor, [gone])

    async def check_lease(self) -> None:
        """Right before an effect that no transaction can fence.

        Raises:
            StaleEpoch: another has taken over.
        """
        async with self.fenced():
            pass

    @asynccontextmanager
    async def fenced(self) -> AsyncIterator[Connection]:
        """A transaction that commits only while the lease is ours: its first statement is ``zdd.fence``.

        Errors of the caller's own statements, such as LockNotAvailableError, come through as asyncpg raised them.
        Await nothing but the database inside: the server ends a session that idles in it for longer than `ttl`.

        Raises:
            StaleEpoch: another has taken over.
            DatabaseError: the session was ended, by the server or by whoever took over, or the server is away.
        """
        with translate_errors(self._dsn):
            connection = await self.pool.acquire()
        try:
            async with connection.transaction():
                await self._fence(connection)
                yield connection
        except CONNECTION_ERRORS as error:
            if is_session_lost(error) or _is_closed(connection):
                with suppress(asyncpg.InterfaceError):  # the pool has taken it back already
                    connection.terminate()
                raise translate_error(error, self._dsn) from None
            raise
        finally:
            with suppress(
                *CONNECTION_ERRORS
            ):  # its reset fails on a session that has ended; the pool drops it by itself
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
            f"epoch {self.epoch} of release {self.release_id} is over: another agent carries the release out",
            "nothing is lost and nothing has to be done; this agent stops",
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
        """The oldest command that has no answer; one that a newer zdd has sent and we do not know is refused."""
        while True:
            with translate_errors(self._dsn):
                row = await self.pool.fetchrow(
                    f"SELECT {records.COMMAND_COLUMNS} FROM zdd.command WHERE release_id = $1 AND status = 'queued'"  # noqa: S608
                    " ORDER BY id LIMIT 1",
                    self.release_id,
                )
            if row is None or records.is_known(row["kind"]):
                return records.parse_command(row) if row else None
            why = f"this agent knows no command {row['kind']!r}: it is older than the zdd that sent it; update it"
            await self.complete_command(row["id"], refused=True, outcome=why, release=None)

    # --- writing -----------------------------------------------------------------------------------------------

    async def save(
        self,
        release: Release,
        *,
        conn: Connection | None = None,
        events: Sequence[NewEvent] = (),
        step: StepChange | None = None,
    ) -> None:
        """Writes where the release stands, with its audit lines, in one transaction.

        Args:
            conn: of an open :meth:`fenced`, to commit together with what else happens in it.

        A step whose status changes is stamped: intent and undoing begin it anew (note and error cleared); done,
        failed, undone and undo-failed end it. An ended release gets its finished_at.
        """
        async with self._write_transaction(conn) as connection:
            await writes.update_release(connection, self.release_id, release)
            if step is not None:
                await writes.update_step(connection, self.release_id, step)
            await writes.insert_events(connection, self.release_id, self.actor, events)

    async def save_end(self, release: Release, *, events: Sequence[NewEvent] = ()) -> None:
        """Writes the last state of a release that is done or rolled back."""
        if not release.state.has_ended:
            raise ValueError(f"{release.name} is {release.state}, which is no end")
        await self.save(release, events=events)

    async def save_step_note(self, step: str, note: str) -> None:
        """The progress line of a running step."""
        async with self._write_transaction(None) as connection:
            await writes.update_step(connection, self.release_id, StepChange(step, note=note))

    async def append_events(self, events: Sequence[NewEvent], *, conn: Connection | None = None) -> None:
        """Audit lines alone."""
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
        """What became of a command, the state that it led to, and its audit line, in one transaction.

        The audit line (kind `command` or `refused`, the operator as actor, the given reason as why) is written
        here; `events` come after it.
        """
        async with self._write_transaction(None) as connection:
            asked = await writes.complete_command(
                connection, self.release_id, command_id, refused=refused, outcome=outcome
            )
            if release is not None:
                await writes.update_release(connection, self.release_id, release)
            await writes.insert_events(connection, self.release_id, self.actor, [asked, *events])

    async def save_gates(self, readings: Sequence[GateReading]) -> None:
        """The newest readings, stamped with the server's clock; an audit line for each verdict that changed."""
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
    except asyncpg.InterfaceError:  # the pool takes a broken connection away from whoever holds it
        return True

"""Moves old rows to the new side: pages in key order, each one transaction with its checkpoint.

Kill it anywhere: what is committed is checkpointed, and the next run goes on behind it.
"""

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from typing import Any, Protocol

import asyncpg

from zdd_tui.backends import backfill_store as rows
from zdd_tui.backends.backfill_store import Key, Progress, Range
from zdd_tui.backends.catalog import Connection
from zdd_tui.engine.throttle import Signal, Throttle, signals_for
from zdd_tui.model.backfill import Rate, Sizer, rest_seconds
from zdd_tui.model.ddl.facts import Catalog
from zdd_tui.model.ddl.names import search_path
from zdd_tui.model.ddl.rows import (
    batch_row_statement,
    batch_statement,
    last_key_statement,
    page_statement,
    untouched_statement,
)
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan import Backfill, Plan
from zdd_tui.model.sql import literal

LOCK_TIMEOUT = 0.2
"""Seconds that a batch waits for a row. Well below PostgreSQL's deadlock_timeout (1 s), so that in a deadlock with
the application it is always we who give way, and never a request that fails."""

LOOK_EVERY = 0.25
"""Seconds between two looks at pause and limits while nothing is written."""

RECENT = 40
"""Batches whose times are kept for the screens."""

SMALL_TABLE = 10_000
"""Rows below which a sequential scan a batch does no harm."""

BUSY = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.QueryCanceledError,
)
"""Another try, with fewer rows, may go well."""

BAD_ROW = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.CardinalityViolationError,
    asyncpg.PLPGSQLError,
)
"""A row that will fail again."""


class FencedStore(Protocol):
    """What we need of :class:`zdd_tui.backends.agent_store.AgentStore`."""

    release_id: int

    def fenced(self) -> AbstractAsyncContextManager[Connection]: ...


def settings(plan: Plan, budget: float) -> str:
    """What holds in each transaction of a backfill or verification."""
    timeout = max(1.0, 8 * budget)
    return (
        # Safe: a batch that a crash of the server loses takes its checkpoint with it.
        "SET LOCAL synchronous_commit = off;"
        # Only a page is read; without statistics the planner would sometimes rather read the table.
        "SET LOCAL enable_seqscan = off;"
        f"SET LOCAL search_path = {search_path(plan)};"
        f"SET LOCAL lock_timeout = {literal(f'{LOCK_TIMEOUT * 1000:.0f}ms')};"
        f"SET LOCAL statement_timeout = {literal(f'{timeout * 1000:.0f}ms')}"
    )


def reason_of(error: asyncpg.PostgresError) -> str:
    """Why a row failed, without any of its values: the condition's name, its code, and what it is about."""
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in type(error).__name__.removesuffix("Error")).strip()
    about = getattr(error, "constraint_name", None) or getattr(error, "column_name", None)
    return f"{words} ({error.sqlstate}{f', {about}' if about else ''})"


class BackfillRunner:
    """The backfill of one release.

    Args:
        store: the lease's store; every write goes through its fence.
        clock: seconds, monotonic.
        signals: reasons to wait, asked in order; None: all that there are.
    """

    def __init__(
        self,
        store: FencedStore,
        plan: Plan,
        catalog: Catalog,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        signals: Sequence[Signal] | None = None,
    ) -> None:
        self._store = store
        self._plan = plan
        self._catalog = catalog
        self._clock = clock
        self._sleep = sleep
        self._throttle = Throttle(clock, signals_for(store.release_id, catalog) if signals is None else signals)
        self._limits_now: Callable[[], Backfill] = lambda: plan.backfill
        self._limits = plan.backfill
        self._paused: Callable[[], bool] = lambda: False
        self._recent: deque[tuple[float, int, float]] = deque(maxlen=RECENT)
        self._sizer = Sizer(plan.backfill.batch_rows)
        self._hunt: int | None = None  # rows of a batch while we close in on a row that fails
        self._rate = Rate()
        self._since: float | None = None  # when the rate was last told
        self._busy = ""  # the lock wait that the last try met
        self._tries = 0
        self._overtaken = False  # a writer was faster than our last try

    async def prepare(self) -> None:
        """ANALYZE, the fixed upper bound, and a look at how a batch would run. Run again, it keeps the bound.

        Raises:
            StepFailed: every batch would read the whole table.
        """
        budget = self._limits.batch_budget
        async with self._store.fenced() as conn:
            await conn.execute("SET LOCAL statement_timeout = 0")
            await conn.execute(f"ANALYZE (SKIP_LOCKED) {self._catalog.old.sql}")
        async with self._store.fenced() as conn:
            await conn.execute(settings(self._plan, budget))
            await conn.execute("SET LOCAL synchronous_commit = on")  # the bound must outlive a crash
            estimate = await conn.fetchval(
                "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass($1)", self._catalog.old.sql
            )
            last = await conn.fetchrow(last_key_statement(self._catalog))
            hi = tuple(last) if last else None
            if hi is not None and estimate >= SMALL_TABLE:
                await self._explain(conn, hi)
            await rows.prepare(
                conn, self._store.release_id, rows_total=estimate, batch_rows=self._sizer.bounded(self._limits)
            )
            await rows.add_range(conn, self._store.release_id, "backfill", hi, done=hi is None)

    async def run(
        self, should_pause: Callable[[], bool] = lambda: False, limits: Callable[[], Backfill] | None = None
    ) -> None:
        """Moves everything up to the bound. Returns when all is done; cancel the task to stop it.

        Args:
            should_pause: asked before every batch; while it says yes, nothing is written and no lock is held.
            limits: what is allowed now, asked before every batch and while it rests; by default the plan's own.

        Raises:
            StepFailed: it was not prepared; a statement is refused for a reason that no smaller batch mends; or more
                rows than the plan forgives cannot be moved (run again, it tries those first).
            StaleEpoch, DatabaseError: of the store; run again to go on.
        """
        self._limits_now = limits or self._limits_now
        self._paused = should_pause
        release_id = self._store.release_id
        async with self._store.fenced() as conn:
            last = await rows.last_batch(conn, release_id)
            todo = await rows.ranges(conn, release_id, "backfill")
        if last is None or not todo:
            raise StepFailed("the backfill was not prepared", "roll back, or run prepare-backfill first")
        self._sizer = Sizer(max(1, last[0]))
        self._recent.extend((at, int(count), seconds) for at, count, seconds in last[1])
        while todo:
            for piece in todo:
                await self._move(piece)
            await self._retry_failed()
            async with self._store.fenced() as conn:
                # Asked of the server, in a transaction that is flushed: batches are not, and a crash takes some back.
                todo = [piece for piece in await rows.ranges(conn, release_id, "backfill") if not piece.done]
                left = len(await rows.failed_keys(conn, release_id))
                if not todo:
                    await rows.set_status(conn, release_id, "done")
        forgiven = self._plan.backfill.max_failed_rows
        if left > forgiven:
            raise StepFailed(
                f"{left} rows could not be moved; backfill.max_failed_rows forgives {forgiven}",
                "see zdd.failed_row for keys and reasons; mend those rows, then advance again",
            )

    async def _move(self, position: Range) -> None:
        """Moves one range to its end."""
        while not position.done:
            self._look_at_limits()
            if not await self._must_wait():
                position = await self._step(position)

    async def cancel(self) -> None:
        """Notes that the backfill will not go on, as when the release is rolled back."""
        async with self._store.fenced() as conn:
            await rows.set_status(conn, self._store.release_id, "cancelled")

    def _look_at_limits(self) -> None:
        """Takes what an operator has changed; a new first size is begun with."""
        before, self._limits = self._limits, self._limits_now()
        if self._limits.batch_rows != before.batch_rows:
            self._sizer = Sizer(self._limits.batch_rows)

    async def _must_wait(self) -> bool:
        """Waits a moment when paused or throttled, and tells so."""
        paused = self._paused()
        reason = "" if paused else self._throttle.reason
        if paused or self._throttle.due():
            async with self._store.fenced() as conn:
                reason = "" if paused else await self._throttle.ask(conn, self._limits)
                if paused or reason:
                    await rows.set_status(conn, self._store.release_id, "paused" if paused else "running", reason)
        if paused:
            self._since = None
        if paused or reason:
            await self._sleep(LOOK_EVERY)
            return True
        return False

    async def _step(self, position: Range) -> Range:
        """One try of one batch, and the pause that a ceiling asks for after it."""
        size = self._sizer.bounded(self._limits)
        if self._hunt is not None:
            size = min(size, self._hunt)
        began = self._clock()
        try:
            after, moved = await self._batch(position, size, began)
        except rows.TakenBack:
            async with self._store.fenced() as conn:
                known = await rows.ranges(conn, self._store.release_id, "backfill")
            return next(piece for piece in known if piece.id == position.id)
        except BUSY as error:
            await self._give_way(position, size, error)
            return position
        except asyncpg.PostgresError as error:
            if isinstance(error, asyncpg.UniqueViolationError) and not self._overtaken:
                self._overtaken = True
                return position
            if isinstance(error, BAD_ROW) and size > 1:
                self._hunt = size // 2
                return position
            # A single row fails here only at COMMIT, by a deferred constraint: its key cannot be told.
            raise StepFailed(
                f"a batch of the backfill is refused: {str(error).splitlines()[0]}", "mend the cause, then retry"
            ) from None
        seconds = self._clock() - began
        self._busy, self._tries, self._overtaken = "", 0, False
        if self._hunt is not None:
            self._hunt = self._hunt * 2 if self._hunt * 2 < self._sizer.rows else None
        elif moved == size or seconds > self._limits.batch_budget:
            self._sizer = self._sizer.after(moved, seconds, self._limits)
        if not after.done:
            await self._rest(moved, seconds)
        # Tries that failed and waits for a throttle belong to the rate; pauses do not.
        now = self._clock()
        self._rate = self._rate.after(moved, now - (began if self._since is None else self._since))
        self._since = now
        return after

    async def _rest(self, moved: int, seconds: float) -> None:
        """The pause that a ceiling or a speed below 100 % asks for; a change of either counts at once."""
        rested = 0.0
        while (left := rest_seconds(moved, seconds, self._limits_now()) - rested) > 0 and not self._paused():
            await self._sleep(min(left, LOOK_EVERY))
            rested += min(left, LOOK_EVERY)

    async def _batch(self, position: Range, size: int, began: float) -> tuple[Range, int]:
        """Page, work and checkpoint in one transaction."""
        async with self._store.fenced() as conn:
            await conn.execute(settings(self._plan, self._limits.batch_budget))
            page = await self._page(conn, position, size)
            moved = page["rows"] if page else 0
            end: Key | None = tuple(page.values())[1:] if page else None
            if end is not None:
                parameters = (*(position.after or ()), *end)
                statement = await self._statement(conn, parameters, first=position.after is None, alone=size == 1)
                await self._work(conn, statement, parameters, alone=end if size == 1 else None)
            done = moved < size
            seconds = self._clock() - began
            rate = self._rate.after(moved, seconds).value if self._rate.value == 0 else self._rate.value
            recent = (*self._recent, (round(time.time(), 3), moved, round(seconds, 4)))
            progress = Progress(moved, seconds, size, rate, self._busy, recent[-RECENT:])
            await rows.checkpoint(conn, self._store.release_id, position, end=end, done=done, progress=progress)
        self._recent.append(recent[-1])
        return replace(position, cursor=end or position.cursor, rows=position.rows + moved, done=done), moved

    async def _statement(self, conn: Connection, parameters: Key, *, first: bool, alone: bool) -> str:
        """Of the batch: a plain INSERT where the new table has no row of the page yet."""
        untouched = (
            self._plan.change.kind == "table"
            and not (alone or self._overtaken)
            and await conn.fetchval(untouched_statement(self._catalog, first=first), *parameters)
        )
        return batch_statement(self._plan, self._catalog, first=first, untouched=untouched)

    async def _page(self, conn: Connection, position: Range, size: int) -> Any:
        statement = page_statement(self._catalog, first=position.after is None, last=position.hi is None)
        return await conn.fetchrow(statement, *(position.after or ()), *(position.hi or ()), size)

    async def _work(self, conn: Connection, statement: str, parameters: Key, *, alone: Key | None) -> bool:
        """Runs a batch. Of a row that stands ``alone`` a failure is noted in the same transaction, so that it is this
        row, as it is now, that is in the ledger. False when it failed."""
        if alone is None:
            await conn.execute(statement, *parameters)
            return True
        try:
            async with conn.transaction():
                await conn.execute(statement, *parameters)
        except BAD_ROW as error:
            await rows.add_failed(conn, self._store.release_id, alone, reason_of(error))
            return False
        return True

    async def _retry_failed(self) -> None:
        """Tries the rows of the ledger once more; somebody may have mended them."""
        release_id = self._store.release_id
        async with self._store.fenced() as conn:
            keys = await rows.failed_keys(conn, release_id)
        for key in keys:
            with suppress(*BUSY):
                async with self._store.fenced() as conn:
                    await conn.execute(settings(self._plan, self._limits.batch_budget))
                    statement = batch_row_statement(self._plan, self._catalog)
                    if await self._work(conn, statement, key, alone=key):
                        await rows.drop_failed(conn, release_id, key)

    async def _give_way(self, position: Range, size: int, error: asyncpg.PostgresError) -> None:
        """Somebody holds a lock, or the batch was late: fewer rows, a pause, another try; for ever, but visibly."""
        self._sizer = self._sizer.halved(size)
        self._tries += 1
        self._busy = "lock waits" if not isinstance(error, asyncpg.QueryCanceledError) else "late batches"
        if self._tries % 5 == 0:
            async with self._store.fenced() as conn:
                who = await _holders(conn, self._catalog.old.sql)
                self._busy = f"{self._busy}: {who}" if who else self._busy
                await rows.set_status(conn, self._store.release_id, "running", self._busy)
        await self._sleep(random.uniform(0.02, min(1.0, 0.05 * 2 ** min(self._tries, 6))))  # noqa: S311  jitter

    async def _explain(self, conn: Connection, hi: Key) -> None:
        """A page in the middle of nowhere must be found by an index."""
        size = self._plan.backfill.batch_rows_max
        page = await conn.fetchrow(page_statement(self._catalog, first=True), *hi, size)
        end = tuple(page.values())[1:]
        texts = (
            (page_statement(self._catalog, first=False), (*end, *hi, size)),
            (batch_statement(self._plan, self._catalog), (*end, *hi)),
        )
        for statement, parameters in texts:
            tree = json.loads(await conn.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters))
            if _reads_whole(tree[0]["Plan"], self._catalog.old.name):
                raise StepFailed(
                    f"every batch would read all of {self._plan.change.table}: no index serves the key's order",
                    "ANALYZE the table; make sure that the key's unique index is an ordinary, ascending btree",
                )


def _reads_whole(node: dict[str, Any], table: str) -> bool:
    if node["Node Type"] == "Seq Scan" and node.get("Relation Name") == table:
        return True
    return any(_reads_whole(child, table) for child in node.get("Plans", ()))


async def _holders(conn: Connection, table: str) -> str:
    """The longest transaction that has written to the table and is still open."""
    row = await conn.fetchrow(
        "SELECT a.pid, coalesce(a.application_name, '') AS app FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
        " WHERE l.relation = to_regclass($1)::oid AND l.granted AND a.pid <> pg_backend_pid()"
        " AND l.mode NOT IN ('AccessShareLock') ORDER BY a.xact_start LIMIT 1",
        table,
    )
    return f"pid {row['pid']} ({row['app'] or 'no name'})" if row else ""

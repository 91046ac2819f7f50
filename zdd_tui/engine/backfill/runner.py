"""Writes the rows of a table in batches, in key order. Each batch commits with its checkpoint.

The next run continues after the last checkpoint, wherever this one was interrupted.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from zdd_tui.backends.postgres.connection import Connection, is_session_lost
from zdd_tui.backends.postgres.row_visibility import require_all_rows_visible
from zdd_tui.backends.store import backfill as rows
from zdd_tui.backends.store.backfill import Key, Range
from zdd_tui.engine.backfill.pacing import CHECK_INTERVAL, BackfillPacer
from zdd_tui.engine.backfill.throttle import ThrottleSignal, build_signals
from zdd_tui.engine.backfill.transaction import (
    RETRYABLE_ERRORS,
    FencedStore,
    require_rows_found,
    transaction_settings_sql,
)
from zdd_tui.engine.backfill.worker import BackfillWorker
from zdd_tui.model.counting import count_noun, count_up_to
from zdd_tui.model.ddl.jobs import BackfillJob
from zdd_tui.model.errors import StepFailed, StepSuspended
from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.sql import quote_qualified

SMALL_TABLE = 10_000
"""Rows. Below this a sequential scan for every batch is harmless."""

MIN_RANGE_ROWS = 25_000
"""The smallest range, in rows. More ranges keep more workers busy, but each ends with a batch that is not full."""

MAX_RANGES = 16
"""Several ranges for each worker, so that none is idle for long at the end."""

SAMPLE_ROWS = 20_000
"""Sampled rows for the ends of the ranges. Correctness does not depend on them."""

MAX_PASSES = 3
"""Over the whole table, where writers produce many rows that the backfill must not leave."""

MAX_SWEEPS = 5
"""Over the rows that a pass has left, where writers produce few."""

SWEEP_ROWS = 1000
"""Rows that are written one by one; where more are left, another pass is quicker."""


class BackfillRunner:
    """One backfill of a release.

    Args:
        store: of the lease; it fences every write.
        clock: seconds, monotonic.
        signals: reasons to wait, in order of priority; None: all of them.
        range_rows: the smallest range, in rows.
        on_note: told what the backfill does beside its batches, for the screen.
    """

    def __init__(
        self,
        store: FencedStore,
        job: BackfillJob,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        signals: Sequence[ThrottleSignal] | None = None,
        range_rows: int = MIN_RANGE_ROWS,
        on_note: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._job = job
        self._range_rows = range_rows
        self._on_note = on_note
        if signals is None:
            signals = build_signals(store.release_id, job.written_tables)
        self._pacer = BackfillPacer(store, job, clock=clock, sleep=sleep, signals=signals)

    async def prepare(self) -> None:
        """Runs ANALYZE, fixes the upper bound and checks the query plan of a batch. A second call keeps the bound.

        Raises:
            StepFailed: PostgreSQL refuses the batch, every batch would read the whole table, or no row is visible in a
                table that has pages.
            DatabaseError: the role may not see every row.
        """
        async with self._store.fenced() as conn:
            await require_all_rows_visible(conn, self._job.read_tables)
        await self._analyze()
        async with self._store.fenced() as conn:
            bound, ends, estimate = await self._read_ranges(conn)
            await rows.create_backfill(
                conn,
                self._store.release_id,
                rows_total=estimate,
                batch_rows=self._pacer.next_batch_rows,
                job=self._job.name,
            )
            if await rows.read_status(conn, self._store.release_id, job=self._job.name) == "cancelled":
                # Its undo has taken back what the checkpoints say.
                await rows.restart_backfill(conn, self._store.release_id, rows_total=estimate, job=self._job.name)
            await self._add_ranges(conn, bound, ends)

    async def is_prepared(self) -> bool:
        """Whether the upper bound is fixed."""
        async with self._store.fenced() as conn:
            status = await rows.read_status(conn, self._store.release_id, job=self._job.name)
        return status not in (None, "cancelled")

    async def _analyze(self) -> None:
        async with self._store.fenced() as conn:
            await conn.execute("SET LOCAL statement_timeout = 0")
            await conn.execute(f"ANALYZE (SKIP_LOCKED) {self._job.table.sql}")

    async def _read_ranges(self, conn: Connection) -> tuple[Key | None, list[Key], int]:
        """The upper bound (None: the table is empty), the last keys of the other ranges, the estimated rows."""
        await conn.execute(transaction_settings_sql(self._job.settings, self._pacer.limits.batch_budget))
        await conn.execute("SET LOCAL synchronous_commit = on")  # the bound must outlive a crash
        estimate = await conn.fetchval(
            "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass($1)", self._job.table.sql
        )
        last = await conn.fetchrow(self._job.last_key())
        bound = tuple(last) if last else None
        if bound is None:
            await require_rows_found(conn, self._job.table.sql)
            return None, [], estimate
        await self._check_query_plan(conn, bound)
        return bound, await self._range_ends(conn, bound, estimate), estimate

    async def _add_ranges(self, conn: Connection, bound: Key | None, ends: list[Key]) -> None:
        await rows.add_ranges(
            conn, self._store.release_id, "backfill", [*ends, bound], done=bound is None, job=self._job.name
        )

    async def _range_ends(self, conn: Connection, upper_bound: Key, estimate: int) -> list[Key]:
        """The last key of each range, except the last range."""
        count = min(MAX_RANGES, estimate // self._range_rows)
        if count < 2:
            return []
        await conn.execute("SET LOCAL statement_timeout = 0")
        percent = min(100.0, 100 * SAMPLE_ROWS / estimate)
        ends = await conn.fetch(self._job.range_ends(), *upper_bound, percent, count)
        return [tuple(row) for row in ends][:-1]

    async def run(
        self,
        should_pause: Callable[[], bool] = lambda: False,
        limits: Callable[[], Backfill] | None = None,
        must_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Writes all rows up to the bound, then those that writers have left behind. Cancel the task to stop it.

        Args:
            should_pause: called before every batch; while it returns True, nothing is written and no lock is held.
            limits: returns the effective limits; called before every batch and during pauses. Default: the plan's.
            must_stop: called before every batch; once it returns True, the run ends at the checkpoints that it has.

        Raises:
            StepSuspended: ``must_stop`` has ended it; the next run continues there.
            StepFailed: it was not prepared; a statement is refused for a reason that a smaller batch does not avoid;
                or more rows failed than the plan allows, within the batch of the first row too many (the next run
                tries those first); or writers produce rows faster than they are written.
            StaleEpoch, DatabaseError: from the store; run it again to continue.
        """
        self._pacer.read_limits = limits or self._pacer.read_limits
        self._pacer.is_paused = should_pause
        self._pacer.must_stop = must_stop
        release_id, name = self._store.release_id, self._job.name
        async with self._store.fenced() as conn:
            last = await rows.read_last_batch(conn, release_id, job=name)
            todo = await rows.list_ranges(conn, release_id, "backfill", job=name)
        if last is None or not todo:
            raise StepFailed("the backfill was not prepared", "roll back")
        async with self._store.fenced() as conn:
            await rows.record_start(conn, release_id, job=name)
        self._pacer.resume(*last)
        await self._new_worker().retry_failed()
        await self._stop_if_required()
        await self._new_worker().require_few_failed_rows()
        await self._copy_ranges(todo)
        await self._write_rows_left()
        async with self._store.fenced() as conn:
            await rows.set_status(conn, release_id, "done", job=name)
        await self._new_worker().require_few_failed_rows()

    async def _copy_ranges(self, todo: list[Range]) -> None:
        """Runs until every range is done."""
        release_id, name = self._store.release_id, self._job.name
        while todo:
            await self._run_workers(deque(piece for piece in todo if not piece.done))
            await self._stop_if_required()
            await self._new_worker().retry_failed()
            async with self._store.fenced() as conn:
                # Read in a transaction that is flushed: batches are not, and a crash of the server loses some.
                known = await rows.list_ranges(conn, release_id, "backfill", job=name)
                todo = [piece for piece in known if not piece.done]
                if not todo:
                    await require_all_rows_visible(conn, self._job.read_tables)
                    if not await rows.read_copied(conn, release_id, job=name):
                        await require_rows_found(conn, self._job.table.sql)

    async def _write_rows_left(self) -> None:
        """Proves that no row is left that the backfill should have written; writes those that are.

        Rows beyond the bound, and rows that a writer has changed back, are found by reading the table once more.
        """
        if not self._job.rows_left():
            return
        for number in range(1, MAX_PASSES + 1):
            left = await self._sweep()
            if not left:
                return
            many = f"{count_up_to(left, SWEEP_ROWS, 'row')} of {self._job.table.sql}"
            if number == MAX_PASSES:
                break
            await self._note(f"{many} without the values: pass {number + 1} of {MAX_PASSES}")
            await self._copy_ranges(await self._start_pass())
        raise StepFailed(
            f"after {MAX_PASSES} passes {many} without the values: sessions continue to write such rows",
            "find who writes them, or give the column a default; then advance again",
        )

    async def _sweep(self) -> int:
        """Writes few rows that are left, one by one. Returns how many there are in the end."""
        for _ in range(MAX_SWEEPS):
            await self._stop_if_required()
            keys = await self._list_rows_left()
            if not keys or len(keys) >= SWEEP_ROWS:
                return len(keys)
            await self._note(f"copying {count_noun(len(keys), 'row')} written meanwhile")
            await self._new_worker().process_keys(keys)
            await self._new_worker().require_few_failed_rows()
        await self._stop_if_required()
        return len(await self._list_rows_left())

    async def _list_rows_left(self) -> list[Key]:
        async with self._store.fenced() as conn:
            await require_all_rows_visible(conn, self._job.read_tables)
            await conn.execute(transaction_settings_sql(self._job.settings, self._pacer.limits.batch_budget))
            await conn.execute("SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = on")
            found = await conn.fetch(self._job.rows_left(), self._store.release_id, self._job.name, SWEEP_ROWS)
        return [tuple(row) for row in found]

    async def _start_pass(self) -> list[Range]:
        await self._analyze()
        release_id, name = self._store.release_id, self._job.name
        async with self._store.fenced() as conn:
            bound, ends, estimate = await self._read_ranges(conn)
            await rows.restart_backfill(conn, release_id, rows_total=estimate, job=name)
            await self._add_ranges(conn, bound, ends)
            return await rows.list_ranges(conn, release_id, "backfill", job=name)

    async def _stop_if_required(self) -> None:
        """
        Raises:
            StepSuspended: the run must end here.
        """
        if self._pacer.must_stop():
            async with self._store.fenced() as conn:
                await rows.set_status(conn, self._store.release_id, "paused", job=self._job.name)
            raise StepSuspended(self._job.name)

    async def _note(self, text: str) -> None:
        if self._on_note is not None:
            await self._on_note(text)

    async def _run_workers(self, todo: deque[Range]) -> None:
        """Copies the ranges with as many workers as the limits allow now. The first failure stops all."""
        running: set[asyncio.Task[None]] = set()
        try:
            while running or (todo and not self._pacer.must_stop()):
                self._pacer.refresh_limits()
                while todo and len(running) < self._pacer.limits.workers and not self._pacer.must_stop():
                    running.add(asyncio.create_task(self._run_worker(todo.popleft(), todo)))
                done, running = await asyncio.wait(running, timeout=CHECK_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
                for worker in done:
                    worker.result()
        finally:
            for worker in running:
                worker.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _run_worker(self, position: Range, todo: deque[Range]) -> None:
        """Runs one worker until no range is left. If there are too many workers, it returns its range and ends."""
        worker = self._new_worker()
        self._pacer.workers += 1
        try:
            while True:
                position = await worker.process_range(position)
                if not position.done:
                    todo.appendleft(position)
                    return
                if not todo:
                    return
                position = todo.popleft()
        finally:
            self._pacer.workers -= 1

    def _new_worker(self) -> BackfillWorker:
        return BackfillWorker(self._store, self._job, self._pacer)

    async def mark_cancelled(self) -> None:
        """Records that the backfill does not continue, as after a rollback."""
        async with self._store.fenced() as conn:
            await rows.set_status(conn, self._store.release_id, "cancelled", job=self._job.name)

    async def _check_query_plan(self, conn: Connection, upper_bound: Key) -> None:
        """Checks that PostgreSQL accepts the batch, and reads no large table as a whole for a page in the middle.

        Raises:
            StepFailed: one of them does not hold.
        """
        size = self._job.limits.batch_rows_max
        page = await conn.fetchrow(self._job.page(first=True), *upper_bound, size)
        end = tuple(page.values())[1:] if page is not None else upper_bound
        statements = (
            (self._job.page(first=False), (*end, *upper_bound, size)),
            (self._job.batch(first=False), (*end, *upper_bound)),
        )
        scanned: set[str] = set()
        for statement, parameters in statements:
            try:
                tree = json.loads(await conn.fetchval(f"EXPLAIN (VERBOSE, FORMAT JSON) {statement}", *parameters))
            except asyncpg.PostgresError as error:
                if isinstance(error, RETRYABLE_ERRORS) or is_session_lost(error):
                    raise
                raise StepFailed(
                    f"PostgreSQL refuses the batches of {self._job.table.sql}: {str(error).splitlines()[0]}",
                    "correct the statement in the plan",
                ) from None
            scanned |= _sequential_scans(tree[0]["Plan"])
        large = await conn.fetch(
            "SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.oid = ANY (ARRAY(SELECT to_regclass(t)::oid FROM unnest($1::text[]) t)) AND c.reltuples >= $2"
            " ORDER BY c.oid <> to_regclass($3)",
            sorted(scanned),
            float(SMALL_TABLE),
            self._job.table.sql,
        )
        if large:
            own = large[0]["name"] == f"{self._job.table.schema}.{self._job.table.name}"
            raise StepFailed(
                f"every batch would read all of {large[0]['name']}: no index serves"
                f" {'the order of the key' if own else 'how the statement reads it'}",
                "ANALYZE the table; the key needs a unique btree index in ascending order, without an expression"
                if own
                else "ANALYZE the table, or create an index on the columns by which the statement joins or filters it",
            )


def _sequential_scans(node: dict[str, Any]) -> set[str]:
    """The quoted names of the tables that a query plan reads as a whole."""
    found = {name for child in node.get("Plans", ()) for name in _sequential_scans(child)}
    if node["Node Type"] == "Seq Scan":
        found.add(quote_qualified(node["Schema"], node["Relation Name"]))
    return found

"""Copies old rows to the new side in batches, in key order. Each batch commits with its checkpoint.

The next run continues after the last checkpoint, wherever this one was interrupted.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.row_visibility import require_all_rows_visible
from zdd_tui.backends.store import backfill as rows
from zdd_tui.backends.store.backfill import Key, Range
from zdd_tui.engine.backfill.pacing import CHECK_INTERVAL, BackfillPacer
from zdd_tui.engine.backfill.throttle import ThrottleSignal, build_signals
from zdd_tui.engine.backfill.transaction import FencedStore, require_rows_found, transaction_settings_sql
from zdd_tui.engine.backfill.worker import BackfillWorker
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.ddl.rows import batch_statement, last_key_statement, page_statement, range_ends_statement
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan.base import Backfill, Plan

SMALL_TABLE = 10_000
"""Rows. Below this a sequential scan for every batch is harmless."""

MIN_RANGE_ROWS = 25_000
"""The smallest range, in rows. More ranges keep more workers busy, but each ends with a batch that is not full."""

MAX_RANGES = 16
"""Several ranges for each worker, so that none is idle for long at the end."""

SAMPLE_ROWS = 20_000
"""Sampled rows for the ends of the ranges. Correctness does not depend on them."""


class BackfillRunner:
    """The backfill of one release.

    Args:
        store: of the lease; it fences every write.
        clock: seconds, monotonic.
        signals: reasons to wait, in order of priority; None: all of them.
        range_rows: the smallest range, in rows.
    """

    def __init__(
        self,
        store: FencedStore,
        plan: Plan,
        catalog: Catalog,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        signals: Sequence[ThrottleSignal] | None = None,
        range_rows: int = MIN_RANGE_ROWS,
    ) -> None:
        self._store = store
        self._plan = plan
        self._catalog = catalog
        self._range_rows = range_rows
        if signals is None:
            signals = build_signals(store.release_id, catalog)
        self._pacer = BackfillPacer(store, plan.backfill, clock=clock, sleep=sleep, signals=signals)

    async def prepare(self) -> None:
        """Runs ANALYZE, fixes the upper bound and checks the query plan of a batch. A second call keeps the bound.

        Raises:
            StepFailed: every batch would read the whole table, or no row is visible in a table that has pages.
            DatabaseError: the role may not see every row.
        """
        release_id, limits = self._store.release_id, self._pacer.limits
        async with self._store.fenced() as conn:
            await require_all_rows_visible(conn, self._plan)
        async with self._store.fenced() as conn:
            await conn.execute("SET LOCAL statement_timeout = 0")
            await conn.execute(f"ANALYZE (SKIP_LOCKED) {self._catalog.old.sql}")
        async with self._store.fenced() as conn:
            await conn.execute(transaction_settings_sql(self._plan, limits.batch_budget))
            await conn.execute("SET LOCAL synchronous_commit = on")  # the bound must outlive a crash
            estimate = await conn.fetchval(
                "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass($1)", self._catalog.old.sql
            )
            last = await conn.fetchrow(last_key_statement(self._catalog))
            hi = tuple(last) if last else None
            if hi is None:
                await require_rows_found(conn, self._catalog.old.sql)
            if hi is not None and estimate >= SMALL_TABLE:
                await self._require_index_scan(conn, hi)
            ends = await self._range_ends(conn, hi, estimate) if hi else []
            await rows.create_backfill(conn, release_id, rows_total=estimate, batch_rows=self._pacer.next_batch_rows)
            await rows.add_ranges(conn, release_id, "backfill", [*ends, hi], done=hi is None)

    async def _range_ends(self, conn: Connection, upper_bound: Key, estimate: int) -> list[Key]:
        """The last key of each range, except the last range."""
        count = min(MAX_RANGES, estimate // self._range_rows)
        if count < 2:
            return []
        await conn.execute("SET LOCAL statement_timeout = 0")
        percent = min(100.0, 100 * SAMPLE_ROWS / estimate)
        ends = await conn.fetch(range_ends_statement(self._catalog), *upper_bound, percent, count)
        return [tuple(row) for row in ends][:-1]

    async def run(
        self, should_pause: Callable[[], bool] = lambda: False, limits: Callable[[], Backfill] | None = None
    ) -> None:
        """Copies all rows up to the bound. Cancel the task to stop it.

        Args:
            should_pause: called before every batch; while it returns True, nothing is written and no lock is held.
            limits: returns the effective limits; called before every batch and during pauses. Default: the plan's.

        Raises:
            StepFailed: it was not prepared; a statement is refused for a reason that a smaller batch does not avoid;
                or more rows failed than the plan allows, within the batch of the first row too many (the next run
                tries those first).
            StaleEpoch, DatabaseError: from the store; run it again to continue.
        """
        self._pacer.read_limits = limits or self._pacer.read_limits
        self._pacer.is_paused = should_pause
        release_id = self._store.release_id
        async with self._store.fenced() as conn:
            last = await rows.read_last_batch(conn, release_id)
            todo = await rows.list_ranges(conn, release_id, "backfill")
        if last is None or not todo:
            raise StepFailed("the backfill was not prepared", "roll back")
        async with self._store.fenced() as conn:
            await rows.record_start(conn, release_id)
        self._pacer.resume(*last)
        await self._new_worker().retry_failed()
        await self._new_worker().require_few_failed_rows()
        while todo:
            await self._run_workers(deque(piece for piece in todo if not piece.done))
            await self._new_worker().retry_failed()
            async with self._store.fenced() as conn:
                # Read in a transaction that is flushed: batches are not, and a crash of the server loses some.
                todo = [piece for piece in await rows.list_ranges(conn, release_id, "backfill") if not piece.done]
                if not todo:
                    await require_all_rows_visible(conn, self._plan)
                    if not await rows.read_copied(conn, release_id):
                        await require_rows_found(conn, self._catalog.old.sql)
                    await rows.set_status(conn, release_id, "done")
        await self._new_worker().require_few_failed_rows()

    async def _run_workers(self, todo: deque[Range]) -> None:
        """Copies the ranges with as many workers as the limits allow now. The first failure stops all."""
        running: set[asyncio.Task[None]] = set()
        try:
            while todo or running:
                self._pacer.refresh_limits()
                while todo and len(running) < self._pacer.limits.workers:
                    running.add(asyncio.create_task(self._run_worker(todo)))
                done, running = await asyncio.wait(running, timeout=CHECK_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
                for worker in done:
                    worker.result()
        finally:
            for worker in running:
                worker.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _run_worker(self, todo: deque[Range]) -> None:
        """Runs one worker until no range is left. If there are too many workers, it returns its range and ends."""
        worker, position = self._new_worker(), todo.popleft()
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
        return BackfillWorker(self._store, self._plan, self._catalog, self._pacer)

    async def mark_cancelled(self) -> None:
        """Records that the backfill does not continue, as after a rollback."""
        async with self._store.fenced() as conn:
            await rows.set_status(conn, self._store.release_id, "cancelled")

    async def _require_index_scan(self, conn: Connection, upper_bound: Key) -> None:
        """Checks that a page in the middle of the table is read with an index."""
        size = self._plan.backfill.batch_rows_max
        page = await conn.fetchrow(page_statement(self._catalog, first=True), *upper_bound, size)
        assert page is not None  # the table has rows: upper_bound is the key of one
        end = tuple(page.values())[1:]
        statements = (
            (page_statement(self._catalog, first=False), (*end, *upper_bound, size)),
            (batch_statement(self._plan, self._catalog), (*end, *upper_bound)),
        )
        for statement, parameters in statements:
            tree = json.loads(await conn.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters))
            if _has_sequential_scan(tree[0]["Plan"], self._catalog.old.name):
                raise StepFailed(
                    f"every batch would read all of {self._plan.change.table}: no index serves the key's order",
                    "ANALYZE the table; the key needs a unique btree index in ascending order, without an expression",
                )


def _has_sequential_scan(node: dict[str, Any], table: str) -> bool:
    if node["Node Type"] == "Seq Scan" and node.get("Relation Name") == table:
        return True
    return any(_has_sequential_scan(child, table) for child in node.get("Plans", ()))

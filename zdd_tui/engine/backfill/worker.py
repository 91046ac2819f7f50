"""One worker of a backfill: moves a range of keys, batch by batch, each one transaction with its checkpoint."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import asyncpg

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.store import backfill as rows
from zdd_tui.backends.store.backfill import Key, Range
from zdd_tui.engine.backfill.pacing import BackfillPacer
from zdd_tui.engine.backfill.transaction import (
    RETRYABLE_ERRORS,
    ROW_ERRORS,
    FencedStore,
    describe_row_error,
    find_longest_writer,
    transaction_settings_sql,
)
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.ddl.rows import batch_row_statement, batch_statement, page_statement, target_is_empty_statement
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan.base import Plan


class BackfillWorker:
    """Moves one range after the other; what it learns of one place says nothing of another."""

    def __init__(self, store: FencedStore, plan: Plan, catalog: Catalog, pacer: BackfillPacer) -> None:
        self._store = store
        self._plan = plan
        self._catalog = catalog
        self._pacer = pacer
        self._bisect_rows: int | None = None  # rows of a batch while we close in on a row that fails
        self._last_lock_wait = ""  # the lock wait that the last try met
        self._tries = 0
        self._backoff = Backoff(0.1, 1.0, jitter=0.98)
        self._lost_race = False  # a writer was faster than our last try

    async def process_range(self, position: Range) -> Range:
        """Moves a range to its end, or until there are too many workers; returns where it stands then."""
        while not position.done:
            self._pacer.refresh_limits()
            if self._pacer.has_too_many_workers:
                break
            if not await self._pacer.wait_if_blocked():
                position = await self._try_batch(position)
        return position

    async def retry_failed(self) -> None:
        """Tries the rows of the ledger once more; somebody may have mended them."""
        release_id = self._store.release_id
        async with self._store.fenced() as conn:
            keys = await rows.list_failed_keys(conn, release_id)
        for key in keys:
            with suppress(*RETRYABLE_ERRORS):
                async with self._store.fenced() as conn:
                    await conn.execute(transaction_settings_sql(self._plan, self._pacer.limits.batch_budget))
                    statement = batch_row_statement(self._plan, self._catalog)
                    if await self._execute_batch(conn, statement, key, single_key=key):
                        await rows.remove_failed_row(conn, release_id, key)

    async def _try_batch(self, position: Range) -> Range:
        """One try of one batch, and the pause that a ceiling asks for after it."""
        size = self._pacer.next_batch_rows
        if self._bisect_rows is not None:
            size = min(size, self._bisect_rows)
        began = self._pacer.clock()
        try:
            after, moved = await self._run_batch(position, size, began)
        except rows.CheckpointLost:
            async with self._store.fenced() as conn:
                known = await rows.list_ranges(conn, self._store.release_id, "backfill")
            return next(piece for piece in known if piece.id == position.id)
        except RETRYABLE_ERRORS as error:
            await self._back_off(position, size, error)
            return position
        except asyncpg.PostgresError as error:
            if isinstance(error, asyncpg.UniqueViolationError) and not self._lost_race:
                self._lost_race = True
                return position
            if isinstance(error, ROW_ERRORS) and size > 1:
                self._bisect_rows = size // 2
                return position
            # A single row fails here only at COMMIT, by a deferred constraint: its key cannot be told.
            raise StepFailed(
                f"a batch of the backfill is refused: {str(error).splitlines()[0]}", "mend the cause, then retry"
            ) from None
        seconds = self._pacer.clock() - began
        self._last_lock_wait, self._tries, self._lost_race = "", 0, False
        self._backoff.reset()
        if self._bisect_rows is not None:
            self._bisect_rows = self._bisect_rows * 2 if self._bisect_rows * 2 < self._pacer.sizer.rows else None
        elif moved == size or seconds > self._pacer.limits.batch_budget:
            self._pacer.sizer = self._pacer.sizer.after_batch(moved, seconds, self._pacer.limits)
        if not after.done:
            await self._pacer.pause_after_batch(moved, seconds)
        self._pacer.record_rate(moved, began)
        return after

    async def _run_batch(self, position: Range, size: int, started_at: float) -> tuple[Range, int]:
        """Page, work and checkpoint in one transaction."""
        async with self._store.fenced() as conn:
            await conn.execute(transaction_settings_sql(self._plan, self._pacer.limits.batch_budget))
            page = await self._read_page(conn, position, size)
            moved = page["rows"] if page else 0
            end: Key | None = tuple(page.values())[1:] if page else None
            if end is not None:
                parameters = (*(position.start_key or ()), *end)
                statement = await self._batch_sql(
                    conn, parameters, first=position.start_key is None, single_row=size == 1
                )
                await self._execute_batch(conn, statement, parameters, single_key=end if size == 1 else None)
            done = moved < size
            progress = self._pacer.build_progress(moved, self._pacer.clock() - started_at, size, self._last_lock_wait)
            await rows.save_checkpoint(conn, self._store.release_id, position, end=end, done=done, progress=progress)
        self._pacer.record_committed(progress)
        return replace(position, cursor=end or position.cursor, rows=position.rows + moved, done=done), moved

    async def _batch_sql(self, conn: Connection, parameters: Key, *, first: bool, single_row: bool) -> str:
        """Of the batch: a plain INSERT where the new table has no row of the page yet."""
        untouched = (
            self._plan.change.kind == "table"
            and not (single_row or self._lost_race)
            and await conn.fetchval(target_is_empty_statement(self._catalog, first=first), *parameters)
        )
        return batch_statement(self._plan, self._catalog, first=first, target_is_empty=untouched)

    async def _read_page(self, conn: Connection, position: Range, size: int) -> Any:
        statement = page_statement(self._catalog, first=position.start_key is None, last=position.hi is None)
        return await conn.fetchrow(statement, *(position.start_key or ()), *(position.hi or ()), size)

    async def _execute_batch(
        self, conn: Connection, statement: str, parameters: Key, *, single_key: Key | None
    ) -> bool:
        """Runs a batch. Of a row that stands ``single_key`` a failure is noted in the same transaction, so that it is this
        row, as it is now, that is in the ledger. False when it failed."""
        if single_key is None:
            await conn.execute(statement, *parameters)
            return True
        try:
            async with conn.transaction():
                await conn.execute(statement, *parameters)
        except ROW_ERRORS as error:
            await rows.add_failed_row(conn, self._store.release_id, single_key, describe_row_error(error))
            return False
        return True

    async def _back_off(self, position: Range, size: int, error: asyncpg.PostgresError) -> None:
        """Somebody holds a lock, or the batch was late: fewer rows, a pause, another try; for ever, but visibly."""
        self._pacer.sizer = self._pacer.sizer.halve(size)
        self._tries += 1
        self._last_lock_wait = "lock waits" if not isinstance(error, asyncpg.QueryCanceledError) else "late batches"
        if self._tries % 5 == 0:
            async with self._store.fenced() as conn:
                who = await find_longest_writer(conn, self._catalog.old.sql)
                self._last_lock_wait = f"{self._last_lock_wait}: {who}" if who else self._last_lock_wait
                await rows.set_status(conn, self._store.release_id, "running", self._last_lock_wait)
        await self._pacer.sleep(self._backoff.next_delay())

"""One worker of a backfill: copies ranges of keys, batch by batch. Each batch commits with its checkpoint."""

from collections.abc import Sequence
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
from zdd_tui.model.counting import count_noun
from zdd_tui.model.ddl.jobs import BackfillJob
from zdd_tui.model.errors import StepFailed


class BackfillWorker:
    """Copies one range after the other. Its state is about its own position, so workers do not share it."""

    def __init__(self, store: FencedStore, job: BackfillJob, pacer: BackfillPacer) -> None:
        self._store = store
        self._job = job
        self._pacer = pacer
        self._bisect_rows: int | None = None  # rows of a batch while it searches for a row that fails
        self._throttle_reason = ""  # why the last attempt was retried
        self._retries = 0
        self._backoff = Backoff(0.1, 1.0, jitter=0.9)
        self._lost_race = False  # another writer inserted a row of the last attempt first
        self._row_failed = False  # a single row of the last batch

    async def process_range(self, position: Range) -> Range:
        """Copies a range to its end, or until there are too many workers, or all must stop. Returns the range with its
        new position."""
        while not position.done:
            self._pacer.refresh_limits()
            if self._pacer.has_too_many_workers or self._pacer.must_stop():
                break
            if not await self._pacer.wait_if_blocked():
                position = await self._try_batch(position)
        return position

    async def retry_failed(self) -> None:
        """Tries the failed rows once more: they may have been corrected."""
        async with self._store.fenced() as conn:
            keys = await rows.list_failed_keys(conn, self._store.release_id, job=self._job.name)
        await self.process_keys(keys)

    async def process_keys(self, keys: Sequence[Key]) -> None:
        """Writes single rows, each in a transaction of its own; a row that is locked for long is left out, and so are
        the others once all workers stop."""
        for key in keys:
            while not self._pacer.must_stop() and await self._pacer.wait_if_blocked():
                self._pacer.refresh_limits()
            if self._pacer.must_stop():
                return
            with suppress(*RETRYABLE_ERRORS):
                async with self._store.fenced() as conn:
                    await conn.execute(self._settings_sql())
                    if await self._execute_batch(conn, self._job.batch_row(), key, single_key=key):
                        await rows.remove_failed_row(conn, self._store.release_id, key, job=self._job.name)

    def _settings_sql(self) -> str:
        return transaction_settings_sql(self._job.settings, self._pacer.limits.batch_budget)

    async def require_few_failed_rows(self) -> None:
        """Raises StepFailed where more rows have failed than the plan allows: the gate would not open at the end."""
        async with self._store.fenced() as conn:
            failed = await rows.count_failed_rows(conn, self._store.release_id, job=self._job.name)
        allowed = self._job.limits.max_failed_rows
        if failed > allowed:
            raise StepFailed(
                f"{count_noun(failed, 'row')} failed; backfill.max_failed_rows allows {allowed}",
                "see zdd.failed_row for keys and reasons; correct those rows, then advance again",
            )

    async def _try_batch(self, position: Range) -> Range:
        """Attempts one batch, and pauses after it as the limits require."""
        size = self._pacer.next_batch_rows
        if self._bisect_rows is not None:
            size = min(size, self._bisect_rows)
        started_at = self._pacer.clock()
        try:
            after, moved = await self._run_batch(position, size, started_at)
        except rows.CheckpointLost:
            async with self._store.fenced() as conn:
                known = await rows.list_ranges(conn, self._store.release_id, "backfill", job=self._job.name)
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
            # A single row fails here only at COMMIT, by a deferred constraint, and its key is then unknown.
            raise StepFailed(
                f"PostgreSQL refused a batch of {self._job.table.sql}: {str(error).splitlines()[0]}",
                "correct the cause, then advance again",
            ) from None
        seconds = self._pacer.clock() - started_at
        self._throttle_reason, self._retries, self._lost_race = "", 0, False
        self._backoff.reset()
        if self._bisect_rows is not None:
            self._bisect_rows = self._bisect_rows * 2 if self._bisect_rows * 2 < self._pacer.sizer.rows else None
        elif moved == size or seconds > self._pacer.limits.batch_budget:
            self._pacer.sizer = self._pacer.sizer.after_batch(moved, seconds, self._pacer.limits)
        # Where a pause cuts the rest after a batch short, its rows would be divided by too little time.
        if after.done or await self._pacer.pause_after_batch(moved, seconds):
            self._pacer.record_rate(moved, started_at)
        return after

    async def _run_batch(self, position: Range, size: int, started_at: float) -> tuple[Range, int]:
        """Reads the page, copies it and saves the checkpoint in one transaction."""
        async with self._store.fenced() as conn:
            await conn.execute(self._settings_sql())
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
            progress = self._pacer.build_progress(moved, self._pacer.clock() - started_at, size, self._throttle_reason)
            await rows.save_checkpoint(
                conn, self._store.release_id, position, end=end, done=done, progress=progress, job=self._job.name
            )
        self._pacer.record_committed(progress)
        if self._row_failed:
            self._row_failed = False
            await self.require_few_failed_rows()
        return replace(position, cursor=end or position.cursor, rows=position.rows + moved, done=done), moved

    async def _batch_sql(self, conn: Connection, parameters: Key, *, first: bool, single_row: bool) -> str:
        """The statement of the batch: a plain INSERT if the new table has no row of the page yet."""
        question = "" if single_row or self._lost_race else self._job.target_is_empty(first=first)
        target_is_empty = bool(question) and bool(await conn.fetchval(question, *parameters))
        return self._job.batch(first=first, target_is_empty=target_is_empty)

    async def _read_page(self, conn: Connection, position: Range, size: int) -> Any:
        statement = self._job.page(first=position.start_key is None, last=position.hi is None)
        return await conn.fetchrow(statement, *(position.start_key or ()), *(position.hi or ()), size)

    async def _execute_batch(
        self, conn: Connection, statement: str, parameters: Key, *, single_key: Key | None
    ) -> bool:
        """Runs a batch; False if its single row failed.

        The failure of a single row is recorded in the same transaction, so that the record matches the row as it is.
        """
        if single_key is None:
            await conn.execute(statement, *parameters)
            return True
        try:
            async with conn.transaction():
                await conn.execute(statement, *parameters)
        except ROW_ERRORS as error:
            reason = describe_row_error(error)
            await rows.add_failed_row(conn, self._store.release_id, single_key, reason, job=self._job.name)
            self._row_failed = True
            return False
        return True

    async def _back_off(self, position: Range, size: int, error: asyncpg.PostgresError) -> None:
        """After a lock wait or a timeout: fewer rows, a pause and a retry. Without limit, but shown as a throttle."""
        self._pacer.sizer = self._pacer.sizer.halve(size)
        self._retries += 1
        self._throttle_reason = "lock waits" if not isinstance(error, asyncpg.QueryCanceledError) else "late batches"
        if self._retries % 5 == 0:
            async with self._store.fenced() as conn:
                writer = await find_longest_writer(conn, self._job.table.sql)
                self._throttle_reason = f"{self._throttle_reason}: {writer}" if writer else self._throttle_reason
                await rows.set_status(
                    conn, self._store.release_id, "running", self._throttle_reason, job=self._job.name
                )
        await self._pacer.sleep(self._backoff.next_delay())

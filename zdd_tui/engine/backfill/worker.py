"""One worker of a backfill: moves a range of keys, batch by batch, each one transaction with its checkpoint."""

import random
from contextlib import suppress
from dataclasses import replace
from typing import Any

import asyncpg

from zdd_tui.backends.postgres.catalog import Connection
from zdd_tui.backends.store import backfill as rows
from zdd_tui.backends.store.backfill import Key, Range
from zdd_tui.engine.backfill.pacing import Pace
from zdd_tui.engine.backfill.transaction import BAD_ROW, BUSY, FencedStore, longest_holder, reason_of, settings
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.ddl.rows import batch_row_statement, batch_statement, page_statement, untouched_statement
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan.base import Plan


class Mover:
    """Moves one range after the other; what it learns of one place says nothing of another."""

    def __init__(self, store: FencedStore, plan: Plan, catalog: Catalog, pace: Pace) -> None:
        self._store = store
        self._plan = plan
        self._catalog = catalog
        self._pace = pace
        self._hunt: int | None = None  # rows of a batch while we close in on a row that fails
        self._busy = ""  # the lock wait that the last try met
        self._tries = 0
        self._overtaken = False  # a writer was faster than our last try

    async def move(self, position: Range) -> Range:
        """Moves a range to its end, or until there are too many workers; returns where it stands then."""
        while not position.done:
            self._pace.look()
            if self._pace.too_many:
                break
            if not await self._pace.must_wait():
                position = await self._step(position)
        return position

    async def retry_failed(self) -> None:
        """Tries the rows of the ledger once more; somebody may have mended them."""
        release_id = self._store.release_id
        async with self._store.fenced() as conn:
            keys = await rows.failed_keys(conn, release_id)
        for key in keys:
            with suppress(*BUSY):
                async with self._store.fenced() as conn:
                    await conn.execute(settings(self._plan, self._pace.limits.batch_budget))
                    statement = batch_row_statement(self._plan, self._catalog)
                    if await self._work(conn, statement, key, alone=key):
                        await rows.drop_failed(conn, release_id, key)

    async def _step(self, position: Range) -> Range:
        """One try of one batch, and the pause that a ceiling asks for after it."""
        size = self._pace.size
        if self._hunt is not None:
            size = min(size, self._hunt)
        began = self._pace.clock()
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
        seconds = self._pace.clock() - began
        self._busy, self._tries, self._overtaken = "", 0, False
        if self._hunt is not None:
            self._hunt = self._hunt * 2 if self._hunt * 2 < self._pace.sizer.rows else None
        elif moved == size or seconds > self._pace.limits.batch_budget:
            self._pace.sizer = self._pace.sizer.after(moved, seconds, self._pace.limits)
        if not after.done:
            await self._pace.rest(moved, seconds)
        self._pace.told(moved, began)
        return after

    async def _batch(self, position: Range, size: int, began: float) -> tuple[Range, int]:
        """Page, work and checkpoint in one transaction."""
        async with self._store.fenced() as conn:
            await conn.execute(settings(self._plan, self._pace.limits.batch_budget))
            page = await self._page(conn, position, size)
            moved = page["rows"] if page else 0
            end: Key | None = tuple(page.values())[1:] if page else None
            if end is not None:
                parameters = (*(position.after or ()), *end)
                statement = await self._statement(conn, parameters, first=position.after is None, alone=size == 1)
                await self._work(conn, statement, parameters, alone=end if size == 1 else None)
            done = moved < size
            progress = self._pace.progress(moved, self._pace.clock() - began, size, self._busy)
            await rows.checkpoint(conn, self._store.release_id, position, end=end, done=done, progress=progress)
        self._pace.committed(progress)
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

    async def _give_way(self, position: Range, size: int, error: asyncpg.PostgresError) -> None:
        """Somebody holds a lock, or the batch was late: fewer rows, a pause, another try; for ever, but visibly."""
        self._pace.sizer = self._pace.sizer.halved(size)
        self._tries += 1
        self._busy = "lock waits" if not isinstance(error, asyncpg.QueryCanceledError) else "late batches"
        if self._tries % 5 == 0:
            async with self._store.fenced() as conn:
                who = await longest_holder(conn, self._catalog.old.sql)
                self._busy = f"{self._busy}: {who}" if who else self._busy
                await rows.set_status(conn, self._store.release_id, "running", self._busy)
        await self._pace.sleep(random.uniform(0.02, min(1.0, 0.05 * 2 ** min(self._tries, 6))))  # noqa: S311  jitter

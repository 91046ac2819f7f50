"""Compares every row on both sides, page by page in key order, up to the current end of the table."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.row_visibility import require_all_rows_visible
from zdd_tui.backends.store import backfill as rows
from zdd_tui.backends.store.backfill import Key, Range, RowMismatch
from zdd_tui.engine.backfill.pacing import CHECK_INTERVAL, sleep_until
from zdd_tui.engine.backfill.transaction import (
    RETRYABLE_ERRORS,
    ROW_ERRORS,
    FencedStore,
    describe_row_error,
    require_rows_found,
    transaction_settings_sql,
)
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.ddl.jobs import change_settings, list_read_tables
from zdd_tui.model.ddl.rows import (
    batch_row_statement,
    page_statement,
    remove_orphan_statements,
    verify_keys_statement,
    verify_statement,
)
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan.base import Backfill, Plan

PAGE_ROWS = 5000
MAX_KEPT_MISMATCHES = 1000
"""Mismatches stored with their keys; the rest is only counted."""
SAMPLE_MISMATCHES = 20
RECHECK_DELAY = 0.1
"""Seconds until a mismatch is checked again: a writer may have been between two transactions."""
SETTLE_TRIES = 3
"""A client that writes one side may write again between the copy and the comparison."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of a verification.

    Attributes:
        rows: keys of the old side. Failed rows count, but are not compared.
        samples: the first mismatches.
    """

    rows: int
    mismatches: int
    samples: tuple[RowMismatch, ...] = ()


class Verifier:
    """The verification of one release. The next run continues after the last page, wherever it was interrupted.

    Args:
        repairs: rows that differ are copied again from the old side, as after a breach of a standing condition. Only
            while all reads use the old side.
        settle: copies the rows that the witness has recorded; called where rows differ, before they count.
    """

    def __init__(
        self,
        store: FencedStore,
        plan: Plan,
        catalog: Catalog,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        page_rows: int = PAGE_ROWS,
        repairs: bool = False,
        settle: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._repairs = repairs
        self._settle = settle
        self._store = store
        self._plan = plan
        self._catalog = catalog
        self._clock = clock
        self._sleep = sleep
        self._page_rows = page_rows
        self._size = page_rows
        self._limits: Callable[[], Backfill] = lambda: plan.backfill
        self._has_failed_rows = False

    async def run(
        self, should_pause: Callable[[], bool] = lambda: False, limits: Callable[[], Backfill] | None = None
    ) -> VerifyReport:
        """Verifies the remaining rows. A finished verification is repeated only if it found mismatches.

        Args:
            should_pause: called before every page; while it returns True, nothing is read.
            limits: returns the effective limits, of which speed and batch_budget are used. Default: the plan's.

        Raises:
            StepFailed: there was no backfill, a statement is refused, or no row is visible in a table that has pages.
            StaleEpoch, DatabaseError: from the store; run it again to continue.
        """
        self._limits = limits or self._limits
        position = await self._start_or_resume()
        while not position.done:
            if should_pause():
                await self._sleep(CHECK_INTERVAL)
                continue
            began = self._clock()
            try:
                position = await self._verify_page(position)
                if not position.done:
                    seconds = self._clock() - began
                    await sleep_until(partial(self._pause_seconds, seconds), should_pause, self._sleep)
            except RETRYABLE_ERRORS:
                self._size = max(1, self._size // 2)
                await self._sleep(RECHECK_DELAY)
        async with self._store.fenced() as conn:
            count, mismatches, samples = await rows.read_verification(conn, self._store.release_id, SAMPLE_MISMATCHES)
            await require_all_rows_visible(conn, list_read_tables(self._plan))
            if not count:
                await require_rows_found(conn, self._catalog.old.sql)
        return VerifyReport(count, mismatches, tuple(samples))

    def _pause_seconds(self, seconds: float) -> float:
        return seconds * (100 / self._limits().speed) - seconds

    async def _start_or_resume(self) -> Range:
        release_id = self._store.release_id
        async with self._store.fenced() as conn:
            if await rows.read_last_batch(conn, release_id) is None:
                raise StepFailed("there is no backfill to verify", "roll back")
            self._has_failed_rows = bool(
                await conn.fetchval("SELECT EXISTS (SELECT FROM zdd.failed_row WHERE release_id = $1)", release_id)
            )
            ranges = await rows.list_ranges(conn, release_id, "verify")
            if ranges and ranges[0].done:
                _, mismatches, _ = await rows.read_verification(conn, release_id, 0)
                if not mismatches:
                    return ranges[0]
            if not ranges or ranges[0].done:
                await rows.reset_verification(conn, release_id)
                await rows.add_ranges(conn, release_id, "verify", [None])
                ranges = await rows.list_ranges(conn, release_id, "verify")
            return ranges[0]

    async def _verify_page(self, position: Range) -> Range:
        size = self._size
        async with self._store.fenced() as conn:
            # A page only reads and blocks no other session, so it may take longer than a batch.
            await conn.execute(transaction_settings_sql(change_settings(self._plan), self._limits().batch_budget * 8))
            page = await conn.fetchrow(
                page_statement(self._catalog, first=position.cursor is None, last=True), *(position.cursor or ()), size
            )
        count = page["rows"] if page else 0
        end: Key | None = tuple(page.values())[1:] if page else None
        last = count < size  # the last page has no upper end, so that no later row is missed
        try:
            mismatches = await self._find_mismatches(position.cursor, None if last else end)
        except ROW_ERRORS as error:
            if size > 1:
                self._size = size // 2
                return position
            # The only row of this page has a value that `up` cannot compute.
            mismatches = [RowMismatch(end, f"change.up fails: {describe_row_error(error)}")] if end else []
            last = False
        mismatches = await self._recheck(mismatches)
        if self._settle is not None:
            for _ in range(SETTLE_TRIES):
                if mismatches:
                    await self._settle()
                    mismatches = await self._recheck(mismatches)
        if self._repairs and mismatches:
            mismatches = await self._repair(mismatches)
        async with self._store.fenced() as conn:
            await rows.save_verified_page(
                conn, self._store.release_id, rows=count, mismatches=mismatches, done=last, max_kept=MAX_KEPT_MISMATCHES
            )
            await rows.advance_range(
                conn, self._store.release_id, "verify", position.id, cursor=end, rows=count, done=last
            )
        self._size = min(self._size * 2, self._page_rows)
        return replace(position, cursor=end or position.cursor, rows=position.rows + count, done=last)

    async def _find_mismatches(self, after: Key | None, end: Key | None) -> list[RowMismatch]:
        statement = verify_statement(
            self._plan, self._catalog, first=after is None, last=end is None, skip_failed_rows=self._has_failed_rows
        )
        return await self._fetch(statement, *(after or ()), *(end or ()))

    async def _repair(self, mismatches: list[RowMismatch]) -> list[RowMismatch]:
        """Copies the rows again; returns those that still differ."""
        copy = batch_row_statement(self._plan, self._catalog)
        for mismatch in mismatches:
            statements = (copy,) if mismatch.has_old else remove_orphan_statements(self._catalog)
            # A row that cannot be copied, or is locked for long, stays a mismatch.
            with suppress(*ROW_ERRORS, *RETRYABLE_ERRORS):
                async with self._store.fenced() as conn:
                    await conn.execute(
                        transaction_settings_sql(change_settings(self._plan), self._limits().batch_budget)
                    )
                    for statement in statements:
                        await conn.execute(statement, *mismatch.key)
        return await self._recheck(mismatches)

    async def _recheck(self, mismatches: list[RowMismatch]) -> list[RowMismatch]:
        """Returns the mismatches that a later snapshot also shows."""
        if not mismatches:
            return mismatches
        await self._sleep(RECHECK_DELAY)
        statement = verify_keys_statement(self._plan, self._catalog, skip_failed_rows=self._has_failed_rows)
        keys = [list(column) for column in zip(*(mismatch.key for mismatch in mismatches), strict=True)]
        try:
            return await self._fetch(statement, *keys)
        except ROW_ERRORS:
            return mismatches

    async def _fetch(self, statement: str, *parameters: Any) -> list[RowMismatch]:
        if self._has_failed_rows:
            parameters = (*parameters, self._store.release_id)
        async with self._store.fenced() as conn:
            await conn.execute(transaction_settings_sql(change_settings(self._plan), self._limits().batch_budget * 8))
            return [_parse_mismatch(row) for row in await _fetch_rows(conn, statement, parameters)]


async def _fetch_rows(conn: Connection, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
    try:
        return list(await conn.fetch(statement, *parameters))
    except (*ROW_ERRORS, *RETRYABLE_ERRORS, asyncpg.PostgresConnectionError):
        raise
    except asyncpg.PostgresError as error:
        raise StepFailed(
            f"PostgreSQL refused the verification: {str(error).splitlines()[0]}",
            "correct the cause, then advance again",
        ) from None


def _parse_mismatch(row: Any) -> RowMismatch:
    if not row["old"]:
        what = "only the new side has the row"
    elif not row["new"]:
        what = "the row is missing on the new side"
    else:
        what = f"{', '.join(row['differs'])} {'differs' if len(row['differs']) == 1 else 'differ'}"
    return RowMismatch(tuple(json.loads(row["key"])), what, tuple(row["differs"] or ()), row["old"], row["new"])

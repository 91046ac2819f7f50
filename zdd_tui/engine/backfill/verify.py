"""Compares every row on both sides, page by page in key order, to the present end of the table."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import asyncpg

from zdd_tui.backends.postgres.catalog import Connection
from zdd_tui.backends.store import backfill as rows
from zdd_tui.backends.store.backfill import Key, Mismatch, Range
from zdd_tui.engine.backfill.pacing import LOOK_EVERY, rest
from zdd_tui.engine.backfill.transaction import BAD_ROW, BUSY, FencedStore, reason_of, settings
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.ddl.rows import page_statement, verify_keys_statement, verify_statement
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan.base import Backfill, Plan

PAGE_ROWS = 5000
KEPT = 1000
"""Mismatches kept with their keys; the rest is only counted."""
SAMPLES = 20
RECHECK_AFTER = 0.1
"""Seconds after which a mismatch is looked at again: a writer may have been between two transactions."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification found.

    Attributes:
        rows: keys of the old side that were compared; those in the ledger of failures count, but are not compared.
        samples: the first mismatches.
    """

    rows: int
    mismatches: int
    samples: tuple[Mismatch, ...] = ()


class Verifier:
    """The verification of one release. Kill it anywhere: the next run goes on behind the last page."""

    def __init__(
        self,
        store: FencedStore,
        plan: Plan,
        catalog: Catalog,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        page_rows: int = PAGE_ROWS,
    ) -> None:
        self._store = store
        self._plan = plan
        self._catalog = catalog
        self._clock = clock
        self._sleep = sleep
        self._page_rows = page_rows
        self._size = page_rows
        self._limits: Callable[[], Backfill] = lambda: plan.backfill
        self._ledger = False

    async def run(
        self, should_pause: Callable[[], bool] = lambda: False, limits: Callable[[], Backfill] | None = None
    ) -> VerifyReport:
        """Verifies what is not verified yet. A finished verification without mismatch is not repeated; one with
        mismatches begins anew.

        Args:
            should_pause: asked before every page; while it says yes, nothing is read.
            limits: those that hold now; of them the speed counts here, and the budget. By default the plan's own.

        Raises:
            StepFailed: there was no backfill, or a statement is refused.
            StaleEpoch, DatabaseError: of the store; run again to go on.
        """
        self._limits = limits or self._limits
        position = await self._begin()
        while not position.done:
            if should_pause():
                await self._sleep(LOOK_EVERY)
                continue
            began = self._clock()
            try:
                position = await self._step(position)
                if not position.done:
                    seconds = self._clock() - began
                    await rest(partial(self._rest_seconds, seconds), should_pause, self._sleep)
            except BUSY:
                self._size = max(1, self._size // 2)
                await self._sleep(RECHECK_AFTER)
        async with self._store.fenced() as conn:
            count, wrong, samples = await rows.report(conn, self._store.release_id, SAMPLES)
        return VerifyReport(count, wrong, tuple(samples))

    def _rest_seconds(self, seconds: float) -> float:
        return seconds * (100 / self._limits().speed) - seconds

    async def _begin(self) -> Range:
        release_id = self._store.release_id
        async with self._store.fenced() as conn:
            if await rows.last_batch(conn, release_id) is None:
                raise StepFailed("there was no backfill that could be verified", "run the backfill first")
            self._ledger = bool(
                await conn.fetchval("SELECT EXISTS (SELECT FROM zdd.failed_row WHERE release_id = $1)", release_id)
            )
            begun = await rows.ranges(conn, release_id, "verify")
            if begun and begun[0].done:
                _, wrong, _ = await rows.report(conn, release_id, 0)
                if not wrong:
                    return begun[0]
            if not begun or begun[0].done:
                await rows.forget_verification(conn, release_id)
                await rows.add_ranges(conn, release_id, "verify", [None])
                begun = await rows.ranges(conn, release_id, "verify")
            return begun[0]

    async def _step(self, position: Range) -> Range:
        size = self._size
        async with self._store.fenced() as conn:
            await conn.execute(
                settings(self._plan, self._limits().batch_budget * 8)
            )  # a page only reads: it stands in nobody's way
            page = await conn.fetchrow(
                page_statement(self._catalog, first=position.cursor is None, last=True), *(position.cursor or ()), size
            )
        count = page["rows"] if page else 0
        end: Key | None = tuple(page.values())[1:] if page else None
        last = count < size  # the page is open at its end then, so that no row beyond is missed
        try:
            found = await self._compare(position.cursor, None if last else end)
        except BAD_ROW as error:
            if size > 1:
                self._size = size // 2
                return position
            # The only row of this page: a writer has put into it what `up` cannot compute.
            found = [Mismatch(end, f"up fails: {reason_of(error)}")] if end else []
            last = False
        found = await self._recheck(found)
        async with self._store.fenced() as conn:
            await rows.verified(conn, self._store.release_id, rows=count, mismatches=found, done=last, cap=KEPT)
            await rows.advance_range(
                conn, self._store.release_id, "verify", position.id, cursor=end, rows=count, done=last
            )
        self._size = min(self._size * 2, self._page_rows)
        return replace(position, cursor=end or position.cursor, rows=position.rows + count, done=last)

    async def _compare(self, after: Key | None, end: Key | None) -> list[Mismatch]:
        statement = verify_statement(
            self._plan, self._catalog, first=after is None, last=end is None, ledger=self._ledger
        )
        return await self._fetch(statement, *(after or ()), *(end or ()))

    async def _recheck(self, found: list[Mismatch]) -> list[Mismatch]:
        """Only what differs in a later snapshot too is a mismatch."""
        if not found:
            return found
        await self._sleep(RECHECK_AFTER)
        statement = verify_keys_statement(self._plan, self._catalog, ledger=self._ledger)
        keys = [list(column) for column in zip(*(mismatch.key for mismatch in found), strict=True)]
        try:
            return await self._fetch(statement, *keys)
        except BAD_ROW:
            return found

    async def _fetch(self, statement: str, *parameters: Any) -> list[Mismatch]:
        if self._ledger:
            parameters = (*parameters, self._store.release_id)
        async with self._store.fenced() as conn:
            await conn.execute(settings(self._plan, self._limits().batch_budget * 8))
            return [_mismatch(row) for row in await _rows(conn, statement, parameters)]


async def _rows(conn: Connection, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
    try:
        return list(await conn.fetch(statement, *parameters))
    except (*BAD_ROW, *BUSY, asyncpg.PostgresConnectionError):
        raise
    except asyncpg.PostgresError as error:
        raise StepFailed(
            f"the verification is refused: {str(error).splitlines()[0]}", "mend the cause, then retry"
        ) from None


def _mismatch(row: Any) -> Mismatch:
    if not row["old"]:
        what = "the new side has a row that the old one has not"
    elif not row["new"]:
        what = "the row is missing on the new side"
    else:
        what = f"{', '.join(row['differs'])} differs"
    return Mismatch(tuple(json.loads(row["key"])), what, tuple(row["differs"] or ()), row["old"], row["new"])

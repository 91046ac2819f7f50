"""Verification, the sample of recent rows, and old snapshots, on a real PostgreSQL."""

import asyncio
import itertools
import random
from typing import Any

import asyncpg
import pytest

from tests.model.ddl.test_sync import backfilled, run_writers
from tests.support.schema_change import USERS, insert_rows, make_plan, open_leased_store, run_expand
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.gate_queries import (
    compare_recent_rows,
    find_older_transactions,
    read_newest_key,
    snapshot_marker,
)
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.engine.backfill.runner import BackfillRunner
from zdd_tui.engine.backfill.verify import Verifier
from zdd_tui.model.ddl.jobs import ChangeJob
from zdd_tui.model.plan.base import Backfill, Plan

KINDS = pytest.mark.parametrize("kind", ["column", "table"])


async def run_backfill(store: AgentStore, plan: Plan) -> None:
    async with store.pool.acquire() as conn:
        backfill = BackfillRunner(store, ChangeJob(plan, await read_catalog(conn, plan)))
    await backfill.prepare()
    await backfill.run()


@KINDS
async def test_planted_mismatches_are_found_and_nothing_else(db: asyncpg.Connection, pg_dsn: str, kind: str) -> None:
    plan = make_plan(kind, dsn=pg_dsn)
    await db.execute(USERS)
    await insert_rows(db, 1000)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        await run_backfill(store, plan)
        target = "users" if kind == "column" else "people"
        planted = {("1",), ("333",), ("1000",)}
        await db.execute(f"UPDATE {target} SET full_name = full_name || '!' WHERE id IN (1, 333, 1000)")
        if kind == "table":
            await db.execute("DELETE FROM people WHERE id IN (2, 999); INSERT INTO people VALUES (-5), (5000)")
            planted |= {("2",), ("999",), ("-5",), ("5000",)}
        catalog = await read_catalog(db, plan)
        report = await Verifier(store, plan, catalog, page_rows=97).run()
        assert report.rows == 1000
        assert report.mismatches == len(planted)
        assert {mismatch.key for mismatch in report.samples} == planted
        assert {m.reason for m in report.samples if m.key == ("333",)} == {"full_name differs"}
        stored = (await store.read()).backfill
        assert stored is not None
        assert (stored.verified, stored.mismatches, stored.verified_rows) == (True, len(planted), 1000)
        raw = await db.fetchval("SELECT string_agg(old::text || new::text, '') FROM zdd.mismatch")
        assert "First" not in raw, "no value of a row is kept"
        # Corrected, and verified again because the last run found mismatches.
        await run_backfill(store, plan)
        await db.execute("UPDATE zdd.range SET done = false, cursor = NULL WHERE kind = 'backfill'")
        await run_backfill(store, plan)
        if kind == "table":
            await db.execute("DELETE FROM people WHERE id IN (-5, 5000)")
        again = await Verifier(store, plan, catalog, page_rows=97).run()
        assert (again.rows, again.mismatches, again.samples) == (1000, 0, ())
        assert await Verifier(store, plan, catalog).run() == again, "a clean result stands"


@KINDS
async def test_verification_continues_where_it_was_killed(db: asyncpg.Connection, pg_dsn: str, kind: str) -> None:
    plan = make_plan(kind, dsn=pg_dsn)
    await db.execute(USERS)
    await insert_rows(db, 2000)
    rng = random.Random(5)
    async with open_leased_store(pg_dsn, plan) as store:
        catalog = await run_expand(store, plan)
        await run_backfill(store, plan)
        target = "users" if kind == "column" else "people"
        await db.execute(f"UPDATE {target} SET full_name = 'wrong' WHERE id % 200 = 7")
        kills = 0
        while True:
            run = asyncio.create_task(Verifier(store, plan, catalog, page_rows=50).run())
            await asyncio.wait({run}, timeout=rng.uniform(0.02, 0.4))
            if run.done():
                break
            kills += 1
            run.cancel()
            await asyncio.wait({run})
        assert kills > 0
        report = run.result()
        assert (report.rows, report.mismatches) == (2000, 10)


@KINDS
async def test_verification_under_writers_finds_no_mismatch(db: asyncpg.Connection, pg_dsn: str, kind: str) -> None:
    plan = make_plan(kind, dsn=pg_dsn)
    await db.execute(USERS)
    await insert_rows(db, 40)
    async with open_leased_store(pg_dsn, plan) as store:
        catalog = await run_expand(store, plan)
        await run_backfill(store, plan)
        writers = asyncio.create_task(run_writers(pg_dsn, plan, (2, 2, 2), 3, times=150))
        while not writers.done():
            async with store.fenced() as conn:
                await conn.execute("DELETE FROM zdd.range WHERE kind = 'verify'")
            report = await Verifier(store, plan, catalog, page_rows=11).run()
            assert report.mismatches == 0
        await writers


@KINDS
async def test_recent_rows_are_sampled_and_older_ones_are_not(db: asyncpg.Connection, pg_dsn: str, kind: str) -> None:
    plan = make_plan(kind, dsn=pg_dsn)
    await db.execute(USERS)
    await insert_rows(db, 3000)  # not backfilled: none of them agrees
    async with open_leased_store(pg_dsn, plan) as store:
        catalog = await run_expand(store, plan)
        since = await snapshot_marker(db)
        assert (await compare_recent_rows(db, plan, catalog, since)).rows == 0
        await run_writers(pg_dsn, plan, (2,), 3, times=60)
        good = await compare_recent_rows(db, plan, catalog, since)
        assert good.rows > 20
        assert (good.mismatches, good.example_key) == (0, None)
        await db.execute("UPDATE users SET first_name = 'only old' WHERE id = 2500")
        early = await compare_recent_rows(db, plan, catalog, since)
        # Nothing on the new side yet: that is what the backfill is for, unless the row was inserted after the marker.
        assert (early.mismatches, early.not_copied, early.matches) == (0, 1, good.matches)
        bad = await compare_recent_rows(db, plan, catalog, since, inserted_after=2499)
        assert (bad.mismatches, bad.not_copied, bad.example_key) == (1, 0, "2500")
        if kind == "table":
            await db.execute("UPDATE users SET first_name = 'x', last_name = '' WHERE id = 2500")
            await db.execute("INSERT INTO people VALUES (2500, 'x', '2500@x')")
            await db.execute("INSERT INTO people VALUES (70000, 'unknown')")
            assert (await compare_recent_rows(db, plan, catalog, since)).example_key == "70000"
        else:
            await db.execute("UPDATE users SET full_name = 'wrong' WHERE id = 2500")
            assert (await compare_recent_rows(db, plan, catalog, since)).example_key == "2500"


async def test_the_sample_is_bounded(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn, gates={"sample_rows": 50})
    await db.execute(USERS)
    async with open_leased_store(pg_dsn, plan) as store:
        catalog = await run_expand(store, plan)
        since, newest = await snapshot_marker(db), await read_newest_key(db, catalog)
        await insert_rows(db, 40_000)  # 400 blocks, so the end of the table and scattered blocks are read
        sample = await compare_recent_rows(db, plan, catalog, since, inserted_after=newest)
        assert (sample.rows, sample.mismatches) == (50, 50)


async def test_a_recent_row_that_up_cannot_compute_disagrees(db: asyncpg.Connection, pg_dsn: str) -> None:
    change: dict[str, Any] = {"table": "t", "up": {"share": "100 / parts"}, "down": {"parts": "100 / share"}}
    change["expand"] = "ALTER TABLE t ADD COLUMN share int"
    plan = make_plan(dsn=pg_dsn, change=change)
    await db.execute("CREATE TABLE t (id int PRIMARY KEY, parts int)")
    async with open_leased_store(pg_dsn, plan) as store:
        catalog = await run_expand(store, plan)
        since = await snapshot_marker(db)
        await db.execute(
            "INSERT INTO t SELECT n, n, 100 / n FROM generate_series(1, 50) n; INSERT INTO t VALUES (99, 0)"
        )
        sample = await compare_recent_rows(db, plan, catalog, since, inserted_after=0)
        assert (sample.rows, sample.mismatches, sample.example_key) == (51, 1, "99")


async def test_transactions_older_than_a_marker_are_named(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn)
    await db.execute(USERS)
    await insert_rows(db, 2)
    old = await asyncpg.connect(pg_dsn, server_settings={"application_name": "old report"})
    new = await asyncpg.connect(pg_dsn, server_settings={"application_name": "new report"})
    try:
        async with open_leased_store(pg_dsn, plan) as store:
            await run_expand(store, plan)
            await backfilled(db, plan)
            transaction = old.transaction(isolation="repeatable_read")
            await transaction.start()
            await old.fetch("SELECT count(*) FROM users")
            since = await snapshot_marker(db)
            found = await find_older_transactions(db, since)
            assert [(blocker.pid, blocker.app) for blocker in found] == [(old.get_server_pid(), "old report")]
            assert "old report, idle in transaction" in str(found[0])
            await transaction.rollback()
            async with new.transaction(isolation="repeatable_read"):
                await new.fetch("SELECT count(*) FROM users")
                assert await find_older_transactions(db, since) == []
    finally:
        await old.close()
        await new.close()


async def test_a_lower_speed_pauses_between_pages_and_can_be_changed(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn)
    await db.execute(USERS)
    await insert_rows(db, 100)
    ticks = itertools.count()  # each page takes a second
    slept: list[float] = []
    limits = Backfill(speed=50)

    async def sleep(seconds: float) -> None:
        nonlocal limits
        slept.append(seconds)
        if len(slept) == 8:
            limits = Backfill()

    async with open_leased_store(pg_dsn, plan) as store:
        catalog = await run_expand(store, plan)
        await run_backfill(store, plan)
        verifier = Verifier(store, plan, catalog, page_rows=20, clock=lambda: float(next(ticks)), sleep=sleep)
        report = await verifier.run(limits=lambda: limits)
        assert (report.rows, report.mismatches) == (100, 0)
        assert slept == [0.25] * 8

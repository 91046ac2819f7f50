"""Each signal that makes the backfill wait, on a real PostgreSQL: when it is active, and with which numbers."""

import asyncio
import re

import asyncpg

from tests.support.schema_change import (
    USERS,
    count_disagreements,
    insert_rows,
    make_plan,
    open_leased_store,
    run_expand,
)
from tests.support.sessions import client_session
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.engine.backfill.runner import BackfillRunner
from zdd_tui.engine.backfill.throttle import (
    GuardLatencySignal,
    LockWaitSignal,
    OldestSnapshotSignal,
    Throttle,
    ThrottleSignal,
    VacuumSignal,
    WalRateSignal,
)
from zdd_tui.model.ddl.jobs import ChangeJob
from zdd_tui.model.plan.base import Backfill

TABLES = ("public.users",)


async def read_signal(
    signal: ThrottleSignal, db: asyncpg.Connection, limits: Backfill, expected: str, now: float = 0.0
) -> str:
    """The signal's reason, once it contains ``expected``; "" waits until it is inactive."""
    async with asyncio.timeout(20):
        while True:
            text = await signal.read(db, limits, now)
            if (expected in text) if expected else not text:
                return text
            await asyncio.sleep(0.02)


async def test_lock_waits_of_other_sessions_are_detected_until_they_end(db: asyncpg.Connection, pg_dsn: str) -> None:
    await db.execute(USERS)
    await insert_rows(db, 3)
    signal, limits = LockWaitSignal(TABLES), Backfill(max_lock_wait=0.05)
    async with client_session(pg_dsn) as holder, client_session(pg_dsn) as waiter, client_session(pg_dsn) as other:
        await other.execute("CREATE TABLE elsewhere (id int)")
        await other.execute("BEGIN; LOCK TABLE elsewhere")
        assert await signal.read(db, limits, 0.0) == ""
        await holder.execute("BEGIN; UPDATE users SET email = 'x' WHERE id = 1")
        waits = asyncio.create_task(waiter.execute("UPDATE users SET email = 'y' WHERE id = 1"))
        text = await read_signal(signal, db, limits, "lock waits")
        assert text.startswith("lock waits 0.")
        assert re.search(r"s \(1 session behind pid \d+.*\), limit 0.1s$", text)
        assert await signal.read(db, Backfill(max_lock_wait=60), 0.0) == ""
        await holder.execute("ROLLBACK")
        await waits
        await read_signal(signal, db, limits, "")

        # A lock on the whole table, and one on another table, which is not the plan's.
        await holder.execute("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        elsewhere = asyncio.create_task(wait_for_lock_wait(pg_dsn, "SELECT * FROM elsewhere"))
        waits = asyncio.create_task(waiter.execute("SELECT * FROM users"))
        assert "(1 session behind pid " in await read_signal(signal, db, limits, "lock waits")
        await holder.execute("ROLLBACK")
        await other.execute("ROLLBACK")
        await asyncio.gather(waits, elsewhere)


async def wait_for_lock_wait(dsn: str, statement: str) -> None:
    async with client_session(dsn) as connection:
        await connection.execute(statement)


async def test_the_oldest_snapshot_is_named(db: asyncpg.Connection, pg_dsn: str) -> None:
    signal, limits = OldestSnapshotSignal(), Backfill(max_snapshot_age=0.05)
    async with client_session(pg_dsn, "a report") as reader:
        await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        pid = await reader.fetchval("SELECT pg_backend_pid()")
        text = await read_signal(signal, db, limits, "a report")
        assert text.startswith("oldest snapshot 0.")
        assert f"(pid {pid}, a report), limit 0.1s" in text
        assert await signal.read(db, Backfill(), 0.0) == ""
        await reader.execute("ROLLBACK; BEGIN")  # a transaction without a snapshot prevents no cleanup
        await read_signal(signal, db, limits, "")


async def test_the_wal_rate_is_measured_between_two_reads(db: asyncpg.Connection) -> None:
    signal, limits = WalRateSignal(), Backfill(max_wal_mb_per_second=3)
    await db.execute("CREATE TABLE heavy (text text)")
    assert await signal.read(db, limits, 10.0) == ""
    await db.execute("INSERT INTO heavy SELECT repeat(md5(n::text), 32) FROM generate_series(1, 8000) n")
    text = await signal.read(db, limits, 11.0)
    assert text.startswith("WAL rate ")
    assert 7 < int(text.removeprefix("WAL rate ").partition("MB/s")[0]) < 40
    assert text.endswith("MB/s, limit 3MB/s")
    assert await signal.read(db, limits, 12.0) == ""
    await db.execute("INSERT INTO heavy SELECT repeat(md5(n::text), 32) FROM generate_series(1, 8000) n")
    assert await signal.read(db, Backfill(max_wal_mb_per_second=None), 13.0) == ""


async def test_a_vacuum_delays_the_backfill_for_a_limited_time(db: asyncpg.Connection, pg_dsn: str) -> None:
    await db.execute(USERS)
    await insert_rows(db, 30_000)
    await db.execute("DELETE FROM users WHERE id % 3 = 0")
    signal = VacuumSignal(TABLES)
    async with client_session(pg_dsn) as cleaner:
        await cleaner.execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1")
        cleans = asyncio.create_task(cleaner.execute("VACUUM users"))
        text = await read_signal(signal, db, Backfill(), "vacuum of users", now=100.0)
        assert text.startswith("vacuum of users (")
        assert text.endswith(") 0.0s, limit 30s")
        assert "12s, limit 30s" in await signal.read(db, Backfill(), 112.0)
        assert await signal.read(db, Backfill(), 131.0) == ""
        assert await signal.read(db, Backfill(max_vacuum_wait=0), 112.0) == ""
        assert await VacuumSignal(("public.people", "public.nothing")).read(db, Backfill(), 0.0) == ""
        await db.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_progress_vacuum")
        await asyncio.gather(cleans, return_exceptions=True)
    assert await signal.read(db, Backfill(), 132.0) == ""


async def test_the_guards_latency_and_every_signal_in_one_run(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn)
    await db.execute(USERS)
    await insert_rows(db, 20)
    async with open_leased_store(pg_dsn, plan) as store:
        await db.executemany(
            'INSERT INTO zdd.guard (release_id, rule, verdict, reason, unit, value, "limit", action, observed_at,'
            " max_age) VALUES ($1, $2, 'pass', '', $3, $4, $5, 'alert', clock_timestamp() - $6 * interval '1 s', 10)",
            [
                (store.release_id, "p99", "seconds", 0.19, 0.2, 0.0),
                (store.release_id, "p50", "seconds", 0.01, 0.1, 0.0),
                (store.release_id, "errors", "ratio", 0.5, 0.01, 0.0),
                (store.release_id, "old p99", "seconds", 9.0, 0.1, 60.0),
            ],
        )
        signal = GuardLatencySignal(store.release_id)
        text = await signal.read(db, Backfill(), 0.0)
        assert text == "guard latency 95% (p99 190ms of 200ms), limit 90%"
        assert await signal.read(db, Backfill(max_guard_latency=96), 0.0) == ""
        assert await GuardLatencySignal(store.release_id + 1).read(db, Backfill(), 0.0) == ""

        # All signals in one backfill: it waits with a reason, and continues when the guard passes.
        waited: list[tuple[str, int]] = []

        async def sleep(seconds: float) -> None:
            stands = (await store.read()).backfill
            assert stands is not None
            waited.append((stands.throttle, stands.rows_done))
            await db.execute("UPDATE zdd.guard SET value = 0.05 WHERE rule = 'p99'")

        ticks = iter(range(0, 10_000, 2))
        await run_expand(store, plan)
        backfill = BackfillRunner(
            store, ChangeJob(plan, await read_catalog(db, plan)), sleep=sleep, clock=lambda: float(next(ticks))
        )
        await backfill.prepare()
        await backfill.run()
        assert waited == [(text, 0)]
        assert await count_disagreements(db, "column") == []


class FakeSignal:
    """A signal with fixed reasons."""

    def __init__(self, *words: str) -> None:
        self.words = list(words)

    async def read(self, conn: object, limits: Backfill, now: float) -> str:
        return self.words.pop(0)


async def test_a_reason_is_used_until_the_next_read_and_the_first_is_shown(db: asyncpg.Connection) -> None:
    now = 0.0
    second = FakeSignal("second", "second", "")
    throttle = Throttle(lambda: now, [FakeSignal("", "first", ""), second])
    assert throttle.is_due()
    assert await throttle.evaluate(db, Backfill()) == "second"
    now = 0.9
    assert not throttle.is_due()
    assert throttle.reason == "second"
    now = 1.0
    assert throttle.is_due()
    assert await throttle.evaluate(db, Backfill()) == "first"
    assert second.words == [""]  # read all the same
    assert await throttle.evaluate(db, Backfill()) == ""

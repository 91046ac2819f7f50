"""The backfill on a real PostgreSQL: all kinds of keys, failing rows, kills, pauses, limits, concurrent writers."""

import asyncio
import random
import time
from typing import Any

import asyncpg
import pytest

from tests.model.ddl.test_sync import run_writers, table_with_rows
from tests.support.schema_change import (
    USERS,
    count_disagreements,
    insert_rows,
    make_plan,
    open_leased_store,
    run_expand,
)
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.store import backfill as rows
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.engine.backfill.runner import BackfillRunner
from zdd_tui.engine.backfill.verify import Verifier
from zdd_tui.model.ddl.jobs import ChangeJob
from zdd_tui.model.errors import DatabaseError, PlanError, StaleEpoch, StepFailed
from zdd_tui.model.plan.base import Backfill, Plan

KINDS = pytest.mark.parametrize("kind", ["column", "table"])
SMALL = {"batch_rows": 7, "batch_rows_max": 50, "batch_budget": "5s"}


async def runner(store: AgentStore, plan: Plan, **options: Any) -> BackfillRunner:
    async with store.pool.acquire() as conn:
        return BackfillRunner(store, ChangeJob(plan, await read_catalog(conn, plan)), **options)


async def record(store: AgentStore) -> Any:
    return (await store.read()).backfill


@KINDS
async def test_every_row_is_copied_and_recorded(db: asyncpg.Connection, pg_dsn: str, kind: str) -> None:
    plan = make_plan(kind, dsn=pg_dsn, backfill=SMALL)
    await db.execute(USERS)
    await insert_rows(db, 500)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        backfill = await runner(store, plan)
        await backfill.prepare()
        await db.execute("INSERT INTO users (id, first_name) VALUES (5000, 'after the bound')")
        await backfill.run()
        assert [row[0] for row in await count_disagreements(db, kind)] == [5000]
        done = await record(store)
        assert (done.status, done.rows_done, done.rows_total, done.failed_rows) == ("done", 500, 500, 0)
        assert done.batches > 5
        assert done.seconds > 0
        assert done.rate > 0
        await backfill.prepare()  # as after a crash between effect and record
        await backfill.run()
        assert (await record(store)).rows_done == 500


async def test_an_empty_table_is_done_at_once(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn)
    await db.execute(USERS)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        backfill = await runner(store, plan)
        await backfill.prepare()
        await backfill.run()
        assert (await record(store)).status == "done"


@pytest.mark.parametrize(
    ("columns", "key", "values"),
    [
        ("id uuid PRIMARY KEY", [], "gen_random_uuid()"),
        ('id text COLLATE "C" PRIMARY KEY', [], "'key ''\\\" ' || n"),
        ("id varchar(20) PRIMARY KEY", [], "'k' || n"),
        ("id char(8) PRIMARY KEY", [], "'k' || n"),
        ("id timestamptz PRIMARY KEY", [], "timestamptz '2020-01-01' + n * interval '1.000001 s'"),
        ("id numeric PRIMARY KEY", [], "n / 7.0"),
        ("id double precision PRIMARY KEY", [], "1.0 / n"),
        ("id bytea PRIMARY KEY", [], "decode(md5(n::text), 'hex')"),
        ("id int[] PRIMARY KEY", [], "ARRAY[n % 5, n]"),
        ("a int, b text, PRIMARY KEY (b, a)", [], "n % 13, 'x' || n % 17 || n"),
        ("a int NOT NULL, b uuid NOT NULL, UNIQUE (a, b)", ["b", "a"], "n % 9, gen_random_uuid()"),
    ],
    ids=["uuid", "text", "varchar", "char", "time", "numeric", "float", "bytea", "array", "composite", "unique"],
)
@KINDS
async def test_keys_of_many_types(
    db: asyncpg.Connection, pg_dsn: str, kind: str, columns: str, key: list[str], values: str
) -> None:
    change: dict[str, Any] = {"table": "t", "key": key, "up": {"new": "old || '!'"}, "down": {"old": "rtrim(new, '!')"}}
    change["expand"] = "ALTER TABLE t ADD COLUMN new text"
    if kind == "table":
        change |= {"into": "t2", "expand": f"CREATE TABLE t2 ({columns}, new text)"}
    plan = make_plan(dsn=pg_dsn, change=change, backfill=SMALL)
    await db.execute(f"CREATE TABLE t ({columns}, old text)")
    await db.execute(f"INSERT INTO t SELECT {values}, 'v' || n FROM generate_series(1, 300) n")
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        backfill = await runner(store, plan)
        await backfill.prepare()
        await backfill.run()
        target = "t" if kind == "column" else "t2"
        assert await db.fetchval(f"SELECT count(*) FROM {target} WHERE new LIKE 'v%!'") == 300
        assert (await record(store)).rows_done == 300
        report = await Verifier(store, plan, await read_catalog(db, plan), page_rows=41).run()
        assert (report.rows, report.mismatches) == (300, 0)


@pytest.mark.parametrize(
    ("definition", "key", "message"),
    [
        ("id json NOT NULL", ["id"], r"column id of public\.t is of type json"),
        ("id point NOT NULL", ["id"], "of type point, which has no order"),
        ("id int UNIQUE", ["id"], "can be NULL"),
        ("id int NOT NULL", ["id"], r"no unique index on \(id\)"),
        ("id int NOT NULL", [], "no primary key"),
        ("id int PRIMARY KEY", ["ids"], "no column ids; did you mean id"),
    ],
)
async def test_unsuitable_keys_are_refused(
    db: asyncpg.Connection, pg_dsn: str, definition: str, key: list[str], message: str
) -> None:
    change = {"table": "t", "key": key, "up": {"new": "old"}, "down": {"old": "new"}}
    plan = make_plan(dsn=pg_dsn, change=change)
    await db.execute(f"CREATE TABLE t ({definition}, old text)")
    with pytest.raises(PlanError, match=message) as caught:
        await read_catalog(db, plan)
    assert caught.value.hint


@KINDS
async def test_failed_rows_are_recorded_and_the_rest_is_copied(db: asyncpg.Connection, pg_dsn: str, kind: str) -> None:
    change: dict[str, Any] = {"table": "t", "up": {"share": "100 / parts"}, "down": {"parts": "100 / share"}}
    change["expand"] = "ALTER TABLE t ADD COLUMN share int"
    if kind == "table":
        change |= {"into": "t2", "expand": "CREATE TABLE t2 (id int PRIMARY KEY, share int)"}
    plan = make_plan(dsn=pg_dsn, change=change, backfill={**SMALL, "max_failed_rows": 3})
    await db.execute("CREATE TABLE t (id int PRIMARY KEY, parts int)")
    await db.execute(
        "INSERT INTO t SELECT n, CASE WHEN n IN (1, 77, 78, 200) THEN 0 ELSE n END FROM generate_series(1, 200) n"
    )
    async with open_leased_store(pg_dsn, plan) as store:
        catalog = await run_expand(store, plan)
        backfill = await runner(store, plan)
        await backfill.prepare()
        with pytest.raises(StepFailed, match="4 rows failed") as caught:
            await backfill.run()
        assert "zdd.failed_row" in caught.value.hint
        failed = await db.fetch("SELECT key, reason FROM zdd.failed_row ORDER BY (key->>0)::int")
        assert [row["key"] for row in failed] == ['["1"]', '["77"]', '["78"]', '["200"]']
        assert {row["reason"] for row in failed} == {"division by zero (22012)"}
        done = await record(store)
        assert (done.rows_done, done.failed_rows) == (200, 4)
        target = "t" if kind == "column" else "t2"
        assert await db.fetchval(f"SELECT count(*) FROM {target} WHERE share IS NOT NULL") == 196
        # Verification skips those rows, and finds one that a writer has broken since.
        await db.execute("UPDATE t SET parts = 0 WHERE id = 100")
        report = await Verifier(store, plan, catalog, page_rows=41).run()
        assert (report.rows, report.mismatches) == (200, 1)
        assert report.samples[0].key == ("100",)
        assert "division by zero" in report.samples[0].reason
        # Corrected rows are copied and removed from the record when the step runs again.
        await db.execute("UPDATE t SET parts = 5 WHERE id IN (1, 77, 100); DELETE FROM t WHERE id = 78")
        if kind == "table":
            await db.execute("INSERT INTO t2 VALUES (100, 20) ON CONFLICT (id) DO UPDATE SET share = 20")
        else:
            await db.execute("UPDATE t SET share = 20 WHERE id = 100")
        await backfill.run()
        assert (await record(store)).failed_rows == 1
        await db.execute("UPDATE t SET parts = 1 WHERE id = 200")
        await backfill.run()
        assert (await record(store)).failed_rows == 0
        assert await db.fetch("SELECT FROM zdd.failed_row") == []
        report = await Verifier(store, plan, catalog, page_rows=41).run()
        assert (report.rows, report.mismatches) == (199, 0)


@KINDS
async def test_more_failed_rows_than_allowed_stop_the_backfill_within_a_batch(
    db: asyncpg.Connection, pg_dsn: str, kind: str
) -> None:
    change: dict[str, Any] = {"table": "t", "up": {"share": "100 / parts"}, "down": {"parts": "100 / share"}}
    change["expand"] = "ALTER TABLE t ADD COLUMN share int"
    if kind == "table":
        change |= {"into": "t2", "expand": "CREATE TABLE t2 (id int PRIMARY KEY, share int)"}
    plan = make_plan(dsn=pg_dsn, change=change, backfill={**SMALL, "max_failed_rows": 2})
    await db.execute("CREATE TABLE t (id int PRIMARY KEY, parts int)")
    await db.execute("INSERT INTO t SELECT n, CASE WHEN n % 100 = 50 THEN 0 ELSE n END FROM generate_series(1, 2000) n")
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        backfill = await runner(store, plan)
        await backfill.prepare()
        with pytest.raises(StepFailed, match=r"3 rows failed; backfill\.max_failed_rows allows 2"):
            await backfill.run()
        done = await record(store)
        assert (done.failed_rows, done.rows_done) == (3, 250), "it went on after the row too many"
        # An attempt without a correction ends at once, and a corrected one continues.
        with pytest.raises(StepFailed, match="3 rows failed"):
            await backfill.run()
        assert (await record(store)).rows_done == 250
        await db.execute("UPDATE t SET parts = 1 WHERE parts = 0")
        await backfill.run()
        assert ((await record(store)).failed_rows, (await record(store)).rows_done) == (0, 2000)


@KINDS
@pytest.mark.parametrize("seed", range(4))
async def test_killed_anywhere_it_continues_and_repeats_nothing(
    db: asyncpg.Connection, pg_dsn: str, kind: str, seed: int
) -> None:
    """The task is cancelled, or its session ended by the server, at random times, under concurrent writers."""
    rng = random.Random(seed)
    plan = make_plan(kind, "trigger", pg_dsn, backfill={**SMALL, "batch_rows_max": 15})
    await table_with_rows(db)
    await insert_rows(db, 3000)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, forward=True)
        await (await runner(store, plan)).prepare()
        writers = asyncio.create_task(run_writers(pg_dsn, plan, (1, 2), seed, times=100))
        kills = 0
        while (await record(store)).status != "done":
            run = asyncio.create_task((await runner(store, plan)).run())
            await asyncio.wait({run}, timeout=rng.uniform(0.0, 0.1))
            if not run.done():
                kills += 1
                if rng.random() < 0.5:
                    run.cancel()
                else:
                    await db.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name LIKE 'zdd agent %' AND state <> 'idle'"
                    )
            await asyncio.wait({run})
            if not run.cancelled():
                failure = run.exception()
                if failure is not None and not isinstance(failure, DatabaseError):
                    raise failure
            pieces = await db.fetchrow(
                "SELECT r.rows, b.rows_done FROM zdd.range r JOIN zdd.backfill b USING (release_id)"
            )
            assert pieces["rows"] == pieces["rows_done"], "cursor and counter commit together"
        await writers
        assert kills > 0
        assert await count_disagreements(db, kind) == []
        report = await Verifier(store, plan, await read_catalog(db, plan), page_rows=500).run()
        assert report.mismatches == 0
        assert report.rows == await db.fetchval("SELECT count(*) FROM users")


@KINDS
async def test_dual_writers_do_not_conflict_with_the_backfill(db: asyncpg.Connection, pg_dsn: str, kind: str) -> None:
    plan = make_plan(kind, "application", pg_dsn, backfill={**SMALL, "batch_budget": "50ms"})
    await table_with_rows(db)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        stop = asyncio.Event()
        crowding = asyncio.create_task(run_writers(pg_dsn, plan, (2, 2, 2), 11, times=300))

        async def write_repeatedly() -> None:
            while not stop.is_set():
                await db.execute("DELETE FROM zdd.range; DELETE FROM zdd.backfill")
                backfill = await runner(store, plan)
                await backfill.prepare()
                await backfill.run()

        backfills = asyncio.create_task(write_repeatedly())
        writers = await crowding
        stop.set()
        await backfills
        assert sum(writer.deadlocks for writer in writers) == 0, "it is always the backfill that gives way"
        assert await count_disagreements(db, kind) == []


async def test_pause_takes_effect_within_one_batch(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn, backfill={"batch_rows": 5, "batch_rows_max": 5})
    await db.execute(USERS)
    await insert_rows(db, 100)
    paused, waits, requested = True, asyncio.Event(), 0

    def should_pause() -> bool:
        nonlocal requested
        requested += 1
        return requested > 4 and paused

    async def sleep(seconds: float) -> None:
        waits.set()
        await asyncio.sleep(0)

    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        backfill = await runner(store, plan, sleep=sleep)
        await backfill.prepare()
        run = asyncio.create_task(backfill.run(should_pause))
        await waits.wait()
        stands = await record(store)
        assert stands.status == "paused"
        assert stands.rows_done == 4 * 5
        waits.clear()
        await waits.wait()
        assert (await record(store)).rows_done == stands.rows_done
        await asyncio.sleep(1.1)  # measured by the database's clock
        paused = False
        await run
        assert await count_disagreements(db, "column") == []
        ended = await record(store)
        assert ended.wall_seconds is not None
        assert [name for name, _ in ended.waits] == ["paused"]
        assert 1.0 < ended.waits[0][1] < ended.wall_seconds
        assert ended.seconds < ended.wall_seconds - 1.0, "the sum of the batches does not say how long it took"
        assert ended.describe_duration().startswith("in ")
        assert ", paused 1." in ended.describe_duration()


async def test_waits_are_added_up_by_the_name_of_the_throttle(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn)
    await db.execute(USERS)
    await insert_rows(db, 10)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        await (await runner(store, plan)).prepare()
        assert (await record(store)).wall_seconds is None
        for status, throttle in (
            ("running", "replica lag 6.1s (b), limit 5s"),
            ("running", "replica lag 7s (b), limit 5s"),
            ("running", "lock waits: session 4711 of app"),
            ("running", ""),
            ("running", "autovacuum of users (scanning heap) 9s, limit 5s"),
            ("cancelled", ""),
        ):
            async with store.fenced() as conn:
                await rows.set_status(conn, store.release_id, status, throttle)
            await asyncio.sleep(0.02)
        ended = await record(store)
        assert sorted(name for name, _ in ended.waits) == ["autovacuum", "lock waits", "replica lag"]
        assert dict(ended.waits)["replica lag"] > dict(ended.waits)["lock waits"] > 0.01


async def test_limits_apply_and_can_be_changed_while_it_runs(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn, backfill={"batch_rows": 10, "batch_rows_max": 10, "max_rows_per_second": 40})
    await db.execute(USERS)
    await insert_rows(db, 200)
    slept: list[float] = []
    limits = plan.backfill

    async with open_leased_store(pg_dsn, plan) as store:

        async def sleep(seconds: float) -> None:
            nonlocal limits
            slept.append(seconds)
            if len(slept) == 1:
                assert 0 < (await record(store)).rate <= 40, "not that of the first batch without its pause"
            if len(slept) == 5:
                limits = Backfill(batch_rows=10, batch_rows_max=10)

        await run_expand(store, plan)
        backfill = await runner(store, plan, sleep=sleep, signals=[])
        await backfill.prepare()
        await backfill.run(limits=lambda: limits)
        assert len(slept) == 5  # without a limit there is no pause
        assert all(0.1 < seconds <= 0.25 for seconds in slept)
        done = await record(store)
        assert done.rows_done == 200
        assert [batch.rows for batch in done.recent] == [10] * 20 + [0]
        assert all(0 < batch.seconds < 60 for batch in done.recent)


async def test_at_half_speed_it_pauses_as_long_as_it_works(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn, backfill={"batch_rows": 10, "batch_rows_max": 10, "speed": 50})
    await db.execute(USERS)
    await insert_rows(db, 100)
    rested = 0.0
    limits = plan.backfill

    async with open_leased_store(pg_dsn, plan) as store:

        async def sleep(seconds: float) -> None:
            nonlocal rested, limits
            rested += seconds
            if (await record(store)).rows_done >= 50:
                limits = Backfill(batch_rows=3, batch_rows_max=3)

        await run_expand(store, plan)
        backfill = await runner(store, plan, sleep=sleep, signals=[])
        await backfill.prepare()
        await backfill.run(limits=lambda: limits)
        batches = (await record(store)).recent
        assert [batch.rows for batch in batches] == [10] * 5 + [3] * 16 + [2]
        # Measured up to the checkpoint, so a little less than the pause.
        assert rested >= 0.9 * sum(batch.seconds for batch in batches[:5])


class LaggingSignal:
    """A signal that is active for a while."""

    def __init__(self) -> None:
        self.reads = 0

    async def read(self, conn: Connection, limits: Backfill, now: float) -> str:
        self.reads += 1
        return "replica lag 9.0s" if self.reads < 4 else ""


async def test_a_throttle_signal_is_shown_and_delays_the_backfill(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn)
    await db.execute(USERS)
    await insert_rows(db, 20)
    seen: list[tuple[str, int]] = []
    now = 0.0

    async with open_leased_store(pg_dsn, plan) as store:

        async def sleep(seconds: float) -> None:
            nonlocal now
            now += 1.0
            stands = await record(store)
            seen.append((stands.throttle, stands.rows_done))

        await run_expand(store, plan)
        backfill = await runner(store, plan, sleep=sleep, clock=lambda: now, signals=[LaggingSignal()])
        await backfill.prepare()
        await backfill.run()
        assert seen == [("replica lag 9.0s", 0)] * 3
        done = await record(store)
        assert (done.throttle, done.rows_done) == ("", 20)


async def test_a_locked_row_delays_the_backfill_and_its_holder_is_named(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn, backfill=SMALL)
    await db.execute(USERS)
    await insert_rows(db, 30)
    other = await asyncpg.connect(pg_dsn, server_settings={"application_name": "sleepy"})
    try:
        async with open_leased_store(pg_dsn, plan) as store:
            await run_expand(store, plan)
            backfill = await runner(store, plan)
            await backfill.prepare()
            transaction = other.transaction()
            await transaction.start()
            await other.execute("UPDATE users SET email = 'held' WHERE id = 20")
            run = asyncio.create_task(backfill.run())
            while "sleepy" not in (await record(store)).throttle:  # noqa: ASYNC110  the event is in the database
                await asyncio.sleep(0.05)
            assert f"lock waits: pid {other.get_server_pid()} (sleepy)" in (await record(store)).throttle
            assert not run.done()
            await transaction.commit()
            await run
            assert await count_disagreements(db, "column") == []
            assert (await record(store)).throttle == ""
    finally:
        await other.close()


async def test_a_foreign_epoch_writes_nothing(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn, backfill=SMALL)
    await db.execute(USERS)
    await insert_rows(db, 100)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        backfill = await runner(store, plan)
        await backfill.prepare()
        await db.execute("UPDATE zdd.lease SET epoch = nextval('zdd.epoch')")
        with pytest.raises(StaleEpoch):
            await backfill.run()
        assert await db.fetchval("SELECT count(*) FROM users WHERE full_name IS NOT NULL") == 0


async def test_a_batch_that_would_read_the_whole_table_is_refused(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(
        dsn=pg_dsn,
        change={
            "table": "t",
            "key": ["id"],
            "expand": "ALTER TABLE t ADD COLUMN new text",
            "up": {"new": "old"},
            "down": {"old": "new"},
        },
    )
    # A unique index whose operators are not those of the type's usual order serves no page.
    await db.execute("CREATE TABLE t (id text NOT NULL, old text)")
    await db.execute("CREATE UNIQUE INDEX ON t (id text_pattern_ops)")
    await db.execute("INSERT INTO t SELECT 'k' || n, 'x' FROM generate_series(1, 12000) n")
    await db.execute("ALTER DATABASE " + pg_dsn.rpartition("/")[2] + " SET enable_bitmapscan = off")
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        with pytest.raises(StepFailed, match=r"read all of public\.t"):
            await (await runner(store, plan)).prepare()


async def test_it_does_not_run_unprepared(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn)
    await db.execute(USERS)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        with pytest.raises(StepFailed, match="not prepared"):
            await (await runner(store, plan)).run()


async def test_ten_thousand_rows_take_less_than_a_minute(db: asyncpg.Connection, pg_dsn: str) -> None:
    """Against a mistake of an order of magnitude, such as a scan of the table in every batch."""
    plan = make_plan(dsn=pg_dsn)
    await db.execute(USERS)
    await insert_rows(db, 20_000)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        backfill = await runner(store, plan)
        await backfill.prepare()
        began = time.monotonic()
        await backfill.run()
        assert time.monotonic() - began < 30


async def test_a_writer_inserts_a_row_before_the_batch(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan("table", dsn=pg_dsn)
    await db.execute(USERS)
    await insert_rows(db, 40)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        backfill = await runner(store, plan, signals=[])
        await backfill.prepare()
        writer = await asyncpg.connect(pg_dsn)
        try:
            # Not committed, so the page looks empty; then the INSERT conflicts with the row.
            await writer.execute("BEGIN; INSERT INTO people (id, full_name, email) VALUES (7, 'stale', 'stale')")
            run = asyncio.create_task(backfill.run())
            async with asyncio.timeout(20):
                while not await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            await writer.execute("COMMIT")
            await run
        finally:
            writer.terminate()
        assert await count_disagreements(db, "table") == []
        assert (await record(store)).failed_rows == 0


@KINDS
async def test_workers_copy_separate_ranges_and_their_number_changes(
    db: asyncpg.Connection, pg_dsn: str, kind: str
) -> None:
    size = {"batch_rows": 20, "batch_rows_max": 20, "max_rows_per_second": 2000}  # slow enough to be watched
    plan = make_plan(kind, dsn=pg_dsn, backfill=size)
    await db.execute(USERS)
    await insert_rows(db, 4000)
    limits = plan.backfill
    seen: list[int] = []

    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        backfill = await runner(store, plan, signals=[], range_rows=200)
        await backfill.prepare()
        pieces = await db.fetch("SELECT lo, hi, done FROM zdd.range ORDER BY id")
        assert len(pieces) == 16
        assert pieces[0]["lo"] is None
        assert pieces[-1]["hi"] == '["4000"]'
        assert [piece["lo"] for piece in pieces[1:]] == [piece["hi"] for piece in pieces[:-1]]
        await backfill.prepare()  # as after a crash between effect and record
        assert await db.fetch("SELECT lo, hi, done FROM zdd.range ORDER BY id") == pieces

        def now() -> Backfill:
            return limits

        async def watch() -> None:
            nonlocal limits
            for workers, until in ((1, 200), (4, 2000), (2, 3000)):
                limits = Backfill(**size, workers=workers)
                while (await record(store)).rows_done < until:
                    seen.append(await db.fetchval("SELECT count(*) FROM zdd.range WHERE rows > 0 AND NOT done"))
                    await asyncio.sleep(0.005)

        await asyncio.gather(backfill.run(limits=now), watch())
        done = await record(store)
        assert (done.status, done.rows_done, done.failed_rows) == ("done", 4000, 0)
        assert await count_disagreements(db, kind) == []
        assert seen[0] <= 1
        assert max(seen) == 4
        assert await db.fetchval("SELECT count(*) FROM zdd.range WHERE done") == 16


async def test_a_throttle_with_other_numbers_is_the_same_wait(db: asyncpg.Connection, pg_dsn: str) -> None:
    plan = make_plan(dsn=pg_dsn)
    await db.execute(USERS)
    await insert_rows(db, 3)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        await (await runner(store, plan)).prepare()
        await set_status(store, "running")
        before = await record(store)
        for text in ("lock waits 0.4s (1 session)", "lock waits: psql, pid 7", "lock waits 1.4s (1 session)"):
            await set_status(store, "running", text)
            await asyncio.sleep(0.1)
        seen = await record(store)
        assert (seen.updated_at, seen.throttle) == (before.updated_at, "lock waits 1.4s (1 session)")
        await set_status(store, "paused")
        ((name, seconds),) = (await record(store)).waits
        assert name == "lock waits"
        assert 0.3 <= seconds < 5.0


async def set_status(store: AgentStore, status: str, throttle: str = "") -> None:
    async with store.fenced() as conn:
        await rows.set_status(conn, store.release_id, status, throttle)


async def test_a_pause_lifts_no_rate(db: asyncpg.Connection, pg_dsn: str) -> None:
    """Rows are divided by the time that the limits ask for, also where a pause cuts it short."""
    plan = make_plan(dsn=pg_dsn, backfill={"batch_rows": 10, "batch_rows_max": 10, "max_rows_per_second": 10})
    await db.execute(USERS)
    await insert_rows(db, 200)
    now, naps, paused = 0.0, 0, False

    async def sleep(seconds: float) -> None:
        nonlocal now, paused, naps
        now, naps = now + seconds, naps + 1
        paused = naps % 6 == 1  # in the middle of the rest after a batch
        await asyncio.sleep(0)

    def clock() -> float:
        nonlocal now
        now += 0.001
        return now

    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        backfill = await runner(store, plan, sleep=sleep, clock=clock)
        await backfill.prepare()
        await backfill.run(lambda: paused)
        assert 0 < (await record(store)).rate <= 10.5

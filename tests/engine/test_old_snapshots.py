"""Writers whose snapshot is older than rows that the release has written: REPEATABLE READ and SERIALIZABLE."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
import pytest

from tests.engine.test_unsynced_rows import in_backfill
from tests.support.operations import handle, open_context, plan_of, run_phases
from tests.support.schema_change import (
    USERS,
    count_disagreements,
    insert_rows,
    make_plan,
    open_leased_store,
    run_expand,
)
from tests.support.witness import AwayCluster
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.gate_queries import find_snapshot_holders
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.engine.backfill.runner import BackfillRunner
from zdd_tui.engine.context import Context
from zdd_tui.engine.steps.cutover import ReadFlagOn, ReadRamp
from zdd_tui.engine.steps.operations import RunOperation
from zdd_tui.engine.witness import settle_recorded_rows
from zdd_tui.model.ddl.jobs import ChangeJob
from zdd_tui.model.operations.registry import numbered_steps
from zdd_tui.model.phase import Phase

ROWS = """
CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL); CREATE TABLE other (a int);
INSERT INTO t SELECT i, 0 FROM generate_series(1, 50) i;
"""
PARTITION = {"partition": {"table": "t", "by": "HASH (id)", "partitions": {"t_0": "WITH (MODULUS 1, REMAINDER 0)"}}}
ISOLATIONS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


@asynccontextmanager
async def transaction(dsn: str, isolation: str = "REPEATABLE READ") -> AsyncIterator[asyncpg.Connection]:
    """A session whose transaction has a snapshot from now, and no lock of the table ``t``."""
    session = await asyncpg.connect(dsn, server_settings={"application_name": "shop"})
    try:
        await session.execute(f"BEGIN ISOLATION LEVEL {isolation}; SELECT FROM other")
        yield session
    finally:
        await session.close()


class Steps:
    """Steps that run one after the other, beside the test."""

    def __init__(self, ctx: Context, numbers: Sequence[int], *, undo: bool = False) -> None:
        self._is_waiting = asyncio.Event()
        self._task = asyncio.create_task(self._run(ctx, numbers, undo))

    async def _run(self, ctx: Context, numbers: Sequence[int], undo: bool) -> None:
        for number in numbers:
            step = handle(number, on_note=self._note)
            await (RunOperation().undo(ctx, step) if undo else RunOperation().run(ctx, step))

    async def _note(self, text: str) -> None:
        if "an older snapshot: pid" in text and "(shop, " in text:
            assert re.search(r"pid (\d+) \(shop, .*Fix: .* SELECT pg_terminate_backend\(\1\)$", text), text
            self._is_waiting.set()

    async def wait(self) -> None:
        """Returns when a step waits for the session of :func:`transaction`."""
        waiting = asyncio.create_task(self._is_waiting.wait())
        await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        assert not self._task.done(), "the steps ended"

    async def end(self) -> None:
        await self._task


def numbers_of(plan: Any, phase: Phase) -> list[int]:
    return [number for number, _ in numbered_steps(plan, phase)]


def number_of(plan: Any, phase: Phase, label: str) -> int:
    (found,) = (number for number, step in numbered_steps(plan, phase) if step.label.startswith(label))
    return found


async def write_alone(db: asyncpg.Connection, table: str, sql: str) -> None:
    """Writes without the triggers, so that a row differs from its copy."""
    await db.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER; {sql}; ALTER TABLE {table} ENABLE TRIGGER USER")
    names = await db.fetch("SELECT tgname FROM pg_trigger WHERE tgrelid = $1::regclass AND tgname LIKE '!zdd%'", table)
    for (name,) in names:
        await db.execute(f'ALTER TABLE {table} ENABLE ALWAYS TRIGGER "{name}"')


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_a_transaction_from_before_the_copy_writes_its_rows(
    pg_dsn: str, db: asyncpg.Connection, isolation: str
) -> None:
    """As it does without zdd: it sees its rows, and no statement fails, until it ends; then the tables swap."""
    await db.execute(ROWS)
    plan = plan_of(pg_dsn, PARTITION)
    async with open_context(plan) as ctx:
        await run_phases(ctx, plan, [Phase.EXPAND])
        async with transaction(pg_dsn, isolation) as shop:
            await run_phases(ctx, plan, [Phase.BACKFILL])
            steps = Steps(ctx, numbers_of(plan, Phase.CONTRACT))
            if isolation != "READ COMMITTED":  # it holds no snapshot now
                await steps.wait()
            assert await shop.execute("UPDATE t SET n = 1 WHERE id <= 3") == "UPDATE 3"
            assert await shop.execute("DELETE FROM t WHERE id = 3") == "DELETE 1"
            assert await shop.execute("INSERT INTO t VALUES (3, 3), (51, 3)") == "INSERT 0 2"
            await shop.execute("COMMIT")
            await steps.end()
    assert await db.fetchval("SELECT relkind::text FROM pg_class WHERE relname = 't'") == "p"
    written = {row["id"]: row["n"] for row in await db.fetch("SELECT id, n FROM t WHERE n > 0 ORDER BY id")}
    assert (written, await db.fetchval("SELECT count(*) FROM t")) == ({1: 1, 2: 1, 3: 3, 51: 3}, 51)


async def test_a_row_that_is_copied_right_before_the_swap_fails_no_statement(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(ROWS)
    plan = plan_of(pg_dsn, PARTITION)
    async with open_context(plan) as ctx:
        await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL])
        contract = numbers_of(plan, Phase.CONTRACT)
        compare = contract.index(number_of(plan, Phase.CONTRACT, "compare every row"))
        await Steps(ctx, contract[:compare]).end()
        await write_alone(db, "t", "UPDATE t SET n = 5 WHERE id IN (7, 8)")
        async with transaction(pg_dsn) as first:
            steps = Steps(ctx, contract[compare:])
            await steps.wait()
            async with transaction(pg_dsn) as second:
                await first.execute("COMMIT")
                while not await db.fetchval("SELECT bool_and(n = 5) FROM zdd_new_t WHERE id IN (7, 8)"):
                    pass  # the query itself lets the steps run
                # It does not see the copies of the two rows, and the trigger is strict now.
                assert await second.execute("UPDATE t SET n = n + 1 WHERE id IN (7, 8)") == "UPDATE 2"
                await second.execute("COMMIT")
            await steps.end()
    assert await db.fetchval("SELECT relkind::text FROM pg_class WHERE relname = 't'") == "p"
    assert await db.fetchval("SELECT count(*) FROM t WHERE n = 6") == 2


async def test_a_row_that_is_copied_in_a_rollback_fails_no_statement(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(ROWS)
    plan = plan_of(pg_dsn, PARTITION)
    async with open_context(plan) as ctx:
        done = await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL, Phase.CONTRACT])
        await write_alone(db, "t", "UPDATE t SET n = 5 WHERE id IN (7, 8)")
        async with transaction(pg_dsn) as shop:
            undone = [each.value or 0 for each in reversed(done)]
            swap = number_of(plan, Phase.CONTRACT, "swap ")
            stored = {each.value: each.detail for each in done}
            steps = Steps(ctx, undone[: undone.index(swap)], undo=True)
            await steps.wait()
            assert await shop.execute("UPDATE t SET n = n + 1 WHERE id IN (7, 8)") == "UPDATE 2"
            await shop.execute("COMMIT")
            await steps.end()
        for each in reversed(done):
            if each.value in undone[undone.index(swap) :]:
                assert stored[each.value] is each.detail
                await RunOperation().undo(ctx, each)
    assert await db.fetchval("SELECT relkind::text FROM pg_class WHERE relname = 't'") == "r"
    assert await db.fetchval("SELECT count(*) FROM t WHERE n = 6") == 2


async def test_rows_are_copied_before_the_swap_one_by_one(pg_dsn: str, db: asyncpg.Connection) -> None:
    """A writer of one of them waits for that row alone: a later one that is locked holds none of the others."""
    await db.execute(ROWS)
    plan = plan_of(pg_dsn, PARTITION, database={"dsn": pg_dsn, "lock_timeout": "100ms", "lock_tries": 200})
    async with open_context(plan) as ctx:
        await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL])
        await write_alone(db, "t", "UPDATE t SET n = 5 WHERE id IN (7, 8)")
        async with transaction(pg_dsn, "READ COMMITTED") as shop:
            await shop.execute("SELECT FROM t WHERE id = 8 FOR UPDATE")
            compare = number_of(plan, Phase.CONTRACT, "compare every row")
            steps = Steps(ctx, [compare])
            while await db.fetchval("SELECT n FROM zdd_new_t WHERE id = 7") != 5:
                pass  # the query itself lets the steps run
            await shop.execute("UPDATE t SET n = 6 WHERE id = 7")
            await shop.execute("COMMIT")
            await steps.end()
    assert await db.fetch("SELECT id, n FROM zdd_new_t WHERE n > 0 ORDER BY id") == [(7, 6), (8, 5)]


async def test_a_column_of_another_type_swaps_when_no_transaction_is_from_before_its_values(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(ROWS)
    plan = plan_of(pg_dsn, "ALTER TABLE t ALTER COLUMN n TYPE text")
    async with open_context(plan) as ctx:
        await run_phases(ctx, plan, [Phase.EXPAND])
        async with transaction(pg_dsn) as shop:
            await run_phases(ctx, plan, [Phase.BACKFILL])
            steps = Steps(ctx, numbers_of(plan, Phase.CONTRACT))
            await steps.wait()
            assert await shop.fetchval("SELECT count(n) FROM t") == 50
            await shop.execute("COMMIT")
            await steps.end()
    assert await db.fetchval("SELECT count(*) FROM t WHERE n = '0'") == 50


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_values_in_the_rows_themselves_are_an_update_of_another_session(
    pg_dsn: str, db: asyncpg.Connection, isolation: str
) -> None:
    """As docs/operations.md says: PostgreSQL lets an older transaction write no row that a batch has updated."""
    await db.execute(ROWS)
    plan = plan_of(pg_dsn, "ALTER TABLE t RENAME COLUMN n TO m")
    async with open_context(plan) as ctx:
        await run_phases(ctx, plan, [Phase.EXPAND])
        async with transaction(pg_dsn, isolation) as shop:
            await run_phases(ctx, plan, [Phase.BACKFILL])
            update = shop.execute("UPDATE t SET n = 1 WHERE id = 1")
            if isolation == "READ COMMITTED":
                assert await update == "UPDATE 1"
                return
            with pytest.raises(asyncpg.SerializationError, match="concurrent update"):
                await update
            await shop.execute(f"ROLLBACK; BEGIN ISOLATION LEVEL {isolation}; UPDATE t SET n = 1 WHERE id = 1; COMMIT")


async def test_a_trigger_of_a_change_that_does_not_see_the_copy_records_the_row(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    plan = make_plan("table", "trigger", pg_dsn)
    await db.execute(f"{USERS}; CREATE TABLE other (a int)")
    await insert_rows(db, 20)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, forward=True)
        async with transaction(pg_dsn) as shop:
            backfill = BackfillRunner(store, ChangeJob(plan, await read_catalog(db, plan)))
            await backfill.prepare()
            await backfill.run()
            assert await shop.execute("UPDATE users SET last_name = 'Other' WHERE id <= 2") == "UPDATE 2"
            await shop.execute("COMMIT")
        assert len(await count_disagreements(db, "table")) == 2
        ctx = Context(plan, store, None, cast(Cluster, AwayCluster()), lambda: False, lambda _line: None)
        await settle_recorded_rows(ctx, in_backfill(plan, await store.read()))
    assert await count_disagreements(db, "table") == []


@pytest.mark.parametrize("ramp", [(), (50, 80)])
async def test_reads_move_when_no_transaction_is_from_before_the_backfill(
    pg_dsn: str, redis_url: str, db: asyncpg.Connection, ramp: tuple[int, ...]
) -> None:
    """It would read the flag of now, and no value of the new side. Later shares of the reads need not wait again."""
    cutover = {"ramp": ramp, "hold": "10ms"}
    plan = make_plan("column", "trigger", pg_dsn, cutover=cutover, flags={"max_staleness": "10ms"})
    await db.execute(f"{USERS}; CREATE TABLE other (a int)")
    await insert_rows(db, 20)
    async with open_leased_store(pg_dsn, plan) as store, await FlagStore.connect(redis_url) as flags:
        await run_expand(store, plan, forward=True)
        ctx = Context(plan, store, flags, cast(Cluster, AwayCluster()), lambda: False, lambda _line: None)
        noted = asyncio.Event()

        async def note(text: str) -> None:
            if "an older snapshot: pid" in text:
                noted.set()

        first = ReadRamp() if ramp else ReadFlagOn()
        async with transaction(pg_dsn) as shop:
            backfill = BackfillRunner(store, ChangeJob(plan, await read_catalog(db, plan)))
            await backfill.prepare()
            await backfill.run()
            switch = asyncio.create_task(first.run(ctx, handle(ramp[0] if ramp else 0, on_note=note)))
            await asyncio.wait({switch, asyncio.create_task(noted.wait())}, return_when=asyncio.FIRST_COMPLETED)
            assert not switch.done()
            assert await shop.fetchval("SELECT count(full_name) FROM users") == 0, "what it would read"
            assert (await flags.read_raw([plan.flags.read]))[plan.flags.read] is None
            await shop.execute("COMMIT")
            await switch
            assert (await flags.read_raw([plan.flags.read]))[plan.flags.read] == ("50" if ramp else "true")
            if ramp:
                await shop.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM other")
                await ReadRamp().run(ctx, handle(ramp[1]))
                assert await shop.fetchval("SELECT count(full_name) FROM users") == 20


async def test_a_role_that_sees_no_other_sessions_waits_for_them(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(ROWS)
    await db.execute("CREATE ROLE sees_no_sessions; SET ROLE sees_no_sessions")
    try:
        async with transaction(pg_dsn) as shop:
            pid = await shop.fetchval("SELECT pg_backend_pid()")
            assert await db.fetchval("SELECT xact_start IS NULL FROM pg_stat_activity WHERE pid = $1", pid)
            assert pid in [each.pid for each in (await find_snapshot_holders(db)).values()]
            await shop.execute("COMMIT; BEGIN; SELECT 1")
            assert pid not in [each.pid for each in (await find_snapshot_holders(db)).values()]
    finally:
        await db.execute("RESET ROLE; DROP ROLE sees_no_sessions")


async def test_the_databases_own_isolation_is_not_that_of_the_agent(pg_dsn: str, db: asyncpg.Connection) -> None:
    """A step that locks a table and then compares its rows must see what was committed before the lock."""
    database = await db.fetchval("SELECT quote_ident(current_database())")
    await db.execute(f"{ROWS}; ALTER DATABASE {database} SET default_transaction_isolation = 'repeatable read'")
    async with open_context(plan_of(pg_dsn, PARTITION)) as ctx, ctx.store.fenced() as conn:
        await db.execute("INSERT INTO t VALUES (51, 0)")
        assert await conn.fetchval("SELECT count(*) FROM t") == 51

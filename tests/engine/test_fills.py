"""Fills on a real PostgreSQL: rows get values in batches, each once, whatever interrupts them and whoever writes."""

import asyncio
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from tests.engine.test_operations import handle, open_context, plan_of, run_phases
from zdd_tui.engine.context import Context
from zdd_tui.engine.steps.fills import PrepareFills
from zdd_tui.engine.steps.operations import RunOperation
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.operations.registry import numbered_steps
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import OperationsPlan

SMALL = {"batch_rows": 7, "batch_rows_max": 20, "batch_budget": "5s"}
TABLES = """
CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, code text);
CREATE TABLE orders (a text, b uuid NOT NULL DEFAULT gen_random_uuid(), n int, UNIQUE (b));
CREATE TABLE log (n int, at timestamptz);
INSERT INTO items (id, code) SELECT i, 'c' || i FROM generate_series(1, 300) i;
INSERT INTO orders (a, n) SELECT 'x' || i, i FROM generate_series(1, 200) i;
INSERT INTO log (n) SELECT i FROM generate_series(1, 500) i;
"""


def undoable(sql: str, undo: str | list[str] | None = None) -> dict[str, Any]:
    return {"sql": sql, "undo": undo or []}


async def fill(ctx: Context, plan: OperationsPlan) -> None:
    for number, _ in numbered_steps(plan, Phase.BACKFILL):
        await RunOperation().run(ctx, handle(number))


async def test_several_tables_are_filled_each_row_once(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TABLES)
    plan = plan_of(
        pg_dsn,
        undoable("UPDATE items AS i SET n = i.n + 1, code = upper(i.code) WHERE i.id % 2 = 0"),
        undoable("UPDATE orders SET n = orders.n + items.n FROM items WHERE items.id = orders.n"),
        undoable("DELETE FROM orders USING items WHERE items.id = orders.n AND items.id > 150"),
        "ALTER TABLE log ADD COLUMN kind text; UPDATE log SET kind = 'old' WHERE kind IS NULL",
        backfill=SMALL,
    )
    async with open_context(plan) as ctx:
        await run_phases(ctx, plan, [Phase.EXPAND])
        await fill(ctx, plan)
        await fill(ctx, plan)  # as after a crash between the effect and its record
        record = await ctx.store.read()
    assert [(each.status, each.failed_rows) for each in record.fills] == [("done", 0)] * 4
    assert [each.rows_done for each in record.fills[:3]] == [300, 200, 200]
    assert record.fills[3].rows_done >= 500  # without a key a row that has moved may be read again
    assert record.backfill is not None
    assert (record.backfill.status, record.backfill.rows_done) == ("done", record.backfill.rows_total)
    assert record.backfill.batches > 40
    assert await db.fetchval("SELECT count(*) FROM items WHERE n = (1 - id % 2) AND code ~ '^C' = (id % 2 = 0)") == 300
    assert await db.fetchval("SELECT count(*) FROM log WHERE kind = 'old'") == 500
    expected = {i + (1 - i % 2) for i in range(1, 201)}
    assert {row["n"] for row in await db.fetch("SELECT n FROM orders")} == {n for n in expected if n <= 150}


async def test_an_interrupted_fill_continues_and_writes_no_row_twice(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TABLES)
    plan = plan_of(pg_dsn, undoable("UPDATE items SET n = n + 1"), backfill=SMALL | {"workers": 2})
    interrupted = 0
    async with open_context(plan) as ctx:
        for batches in range(1, 60):
            run = asyncio.create_task(fill(ctx, plan))
            while not run.done() and not await db.fetchval("SELECT sum(batches) > $1 FROM zdd.backfill", batches * 2):
                pass  # the query itself lets the fill run
            if run.done():
                await run
                break
            run.cancel()
            interrupted += 1
            with suppress(asyncio.CancelledError):
                await run
        record = await ctx.store.read()
    assert interrupted > 5
    assert record.backfill is not None
    assert (record.backfill.status, record.backfill.rows_done) == ("done", 300)
    assert await db.fetchval("SELECT count(*) FROM items WHERE n = 1") == 300


async def test_rows_that_writers_leave_are_filled_at_the_end(pg_dsn: str, db: asyncpg.Connection) -> None:
    """Rows beyond the bound, rows moved into pages that are done, and a table without a key."""
    await db.execute(TABLES)
    plan = plan_of(
        pg_dsn,
        "ALTER TABLE log ADD COLUMN kind text; UPDATE log SET kind = 'old' WHERE kind IS NULL",
        backfill=SMALL | {"max_rows_per_second": 2000},
    )
    async with open_context(plan) as ctx:
        await run_phases(ctx, plan, [Phase.EXPAND])
        run = asyncio.create_task(fill(ctx, plan))
        writes = 0
        while not run.done():
            await db.execute("UPDATE log SET at = now() WHERE n = $1", 1 + writes * 37 % 500)
            if writes < 100:
                await db.execute("INSERT INTO log (n) VALUES (-1)")
            writes += 1
        await run
    assert writes > 20
    assert await db.fetchval("SELECT count(*) FROM log WHERE kind IS NULL AND n > 0") == 0


async def test_writers_that_never_stop_are_told(
    pg_dsn: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await db.execute(TABLES)
    await db.execute(
        "ALTER TABLE items ADD COLUMN kind text;"
        "CREATE FUNCTION reset() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.kind := NULL; RETURN new; END';"
        "CREATE TRIGGER reset BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION reset()"
    )
    plan = plan_of(pg_dsn, undoable("UPDATE items SET kind = 'old' WHERE kind IS NULL AND id < 4"), backfill=SMALL)
    async with open_context(plan) as ctx:
        with pytest.raises(StepFailed, match=r'3 rows of "public"\."items" still need the values after 3 passes'):
            await fill(ctx, plan)


async def test_rows_that_fail_are_named_and_tried_again(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TABLES + "UPDATE items SET n = id % 100; ALTER TABLE items ADD COLUMN share int")
    plan = plan_of(pg_dsn, undoable("UPDATE items SET share = 100 / n WHERE share IS NULL"), backfill=SMALL)
    async with open_context(plan) as ctx:
        with pytest.raises(StepFailed, match=r"rows failed; backfill\.max_failed_rows allows 0"):
            await fill(ctx, plan)
        failed = await db.fetch("SELECT job, key, reason FROM zdd.failed_row")
        assert {(row["job"], row["key"]) for row in failed} <= {("step-0", f'["{id}"]') for id in (100, 200, 300)}
        assert "division by zero" in failed[0]["reason"]
        await db.execute("UPDATE items SET n = 1 WHERE n = 0")
        await fill(ctx, plan)
        assert await db.fetch("SELECT FROM zdd.failed_row") == []
    assert await db.fetchval("SELECT count(*) FROM items WHERE share = 100 / n") == 300


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("UPDATE log SET n = n + 1", "no unique index over columns that are NOT NULL"),
        ("DELETE FROM log WHERE n > 3", "no unique index over columns that are NOT NULL"),
        ("UPDATE items SET id = id + 1000", "id is part of the key"),
        ("UPDATE nothing SET id = id + 1000", "there is no table nothing"),
        ("UPDATE items SET missing = 1", "PostgreSQL refuses the batches"),
        ("UPDATE item_view SET n = 1", "item_view is not a table"),
    ],
)
async def test_what_cannot_be_filled_is_refused_before_a_row_is_written(
    pg_dsn: str, db: asyncpg.Connection, sql: str, reason: str
) -> None:
    await db.execute(TABLES + "CREATE VIEW item_view AS SELECT * FROM items")
    plan = plan_of(pg_dsn, undoable("UPDATE orders SET n = n + 1"), undoable(sql))
    async with open_context(plan) as ctx:
        with pytest.raises(StepFailed, match=reason) as refused:
            await PrepareFills().run(ctx, handle(0))
    assert refused.value.hint
    assert await db.fetchval("SELECT count(*) FROM orders WHERE n = substr(a, 2)::int") == 200

"""Fills on a real PostgreSQL: rows get values in batches, each once, whatever interrupts them and whoever writes."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

from tests.support.operations import assert_done_and_undone, handle, open_context, plan_of, run_phases
from zdd_tui.checks.operations import check_operation_rows
from zdd_tui.engine.context import Context
from zdd_tui.engine.steps.fills import PrepareFills
from zdd_tui.engine.steps.operations import CheckRows, RunOperation
from zdd_tui.model.errors import DatabaseError, StepFailed
from zdd_tui.model.operations.registry import named_steps
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import OperationsPlan, SchemaPlan
from zdd_tui.model.tuning import Tuning
from zdd_tui.testbed.servers import PostgresServer, postgres_server

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
    for name, number, _ in named_steps(plan, Phase.BACKFILL):
        await RunOperation().run(ctx, handle(number, name))


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
        with pytest.raises(StepFailed, match=r'after 3 passes 3 rows of "public"\."items" without the values'):
            await fill(ctx, plan)


async def test_rows_that_fail_are_named_and_tried_again(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TABLES + "UPDATE items SET n = id % 100; ALTER TABLE items ADD COLUMN share int")
    plan = plan_of(pg_dsn, undoable("UPDATE items SET share = 100 / n WHERE share IS NULL"), backfill=SMALL)
    async with open_context(plan) as ctx:
        with pytest.raises(StepFailed, match=r"1 row failed; backfill\.max_failed_rows allows 0"):
            await fill(ctx, plan)
        failed = await db.fetch("SELECT job, key, reason FROM zdd.failed_row")
        assert {(row["job"], row["key"]) for row in failed} <= {("backfill-1", f'["{id}"]') for id in (100, 200, 300)}
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
        ("UPDATE items SET n = $1", "holds a parameter"),
        ("UPDATE items SET n = (SELECT max(n) FROM items)", "more than 100 rows"),
    ],
)
async def test_what_cannot_be_filled_is_refused_before_a_row_is_written(
    pg_dsn: str, db: asyncpg.Connection, sql: str, reason: str
) -> None:
    await db.execute(TABLES + "CREATE VIEW item_view AS SELECT * FROM items")
    plan = plan_of(pg_dsn, undoable("UPDATE orders SET n = n + 1"), undoable(sql), backfill={"max_statement_rows": 100})
    async with open_context(plan) as ctx:
        with pytest.raises(StepFailed, match=reason) as refused:
            await PrepareFills().run(ctx, handle(0))
    assert refused.value.hint
    assert await db.fetchval("SELECT count(*) FROM orders WHERE n = substr(a, 2)::int") == 200


async def test_what_no_batches_can_do_runs_as_one_statement_on_a_small_table(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    """Each row gets what the plain statement gives it."""
    await db.execute(TABLES + "UPDATE items SET n = id % 10")
    plan = plan_of(
        pg_dsn,
        "ALTER TABLE items ADD COLUMN peers int; UPDATE items i SET peers = s.c FROM (SELECT n, count(*) AS c"
        " FROM items GROUP BY n) s WHERE s.n = i.n; ALTER TABLE items ALTER peers SET NOT NULL",
        undoable("UPDATE items SET id = id + 1000", "UPDATE items SET id = id - 1000"),
        undoable("UPDATE log SET n = n + 1", "UPDATE log SET n = n - 1"),
        undoable(
            "WITH few AS (SELECT max(n) AS m FROM orders) UPDATE orders SET (n, a) = (m, 'x') FROM few RETURNING n"
        ),
        undoable("DELETE FROM orders o USING orders p WHERE o.n = p.n AND o.b < p.b"),
    )
    lines = await check_operation_rows(db, plan)
    assert any("runs as one statement" in line and "items.id" not in line for line in lines)
    async with open_context(plan) as ctx:
        await CheckRows().run(ctx, handle(-1))
        await PrepareFills().run(ctx, handle(-1))
        handles = await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL])
        assert await db.fetchval("SELECT count(*) FROM items WHERE peers = 30 AND id > 1000") == 300
        assert await db.fetch("SELECT a, n FROM orders") == [("x", 200)]
        await run_phases(ctx, plan, [Phase.CONTRACT])
        for each in reversed(handles):
            await RunOperation().undo(ctx, each)
    assert await db.fetchval("SELECT sum(n) FROM log") == 500 * 501 // 2
    assert await db.fetchval("SELECT max(id) FROM items") == 300


@pytest.mark.parametrize("has_rollout", [True, False])
async def test_rows_are_copied_after_those_that_they_are_read_from(
    has_rollout: bool, pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(TABLES)
    sql = (
        "ALTER TABLE items ADD COLUMN kind text; UPDATE items SET kind = 'k' || id;"
        "CREATE TABLE kinds (id serial PRIMARY KEY, item int, kind text NOT NULL)"
    )
    copy = "INSERT INTO kinds (item, kind) SELECT id, kind FROM items"
    position = "SELECT setval(pg_get_serial_sequence('kinds', 'id'), (SELECT max(id) + 100 FROM kinds))"
    plan = plan_of(pg_dsn, sql, undoable(copy) if has_rollout else copy, position, backfill=SMALL)
    if not has_rollout:
        document = plan.model_dump(exclude={"kubernetes", "cutover"}, exclude_unset=True)
        plan = cast(OperationsPlan, SchemaPlan.model_validate(document | {"database": {"dsn": pg_dsn}}))
    async with open_context(plan) as ctx:
        handles = await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL])
        assert await db.fetchval("SELECT count(*) FROM kinds JOIN items ON item = items.id AND kinds.kind = items.kind")
        assert await db.fetchval("INSERT INTO kinds (kind) VALUES ('new') RETURNING id") == 401
        for each in reversed(handles):
            await RunOperation().undo(ctx, each)
    assert await db.fetchval("SELECT to_regclass('kinds') IS NULL")


async def test_the_undo_of_a_statement_that_has_failed_changes_nothing(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TABLES)
    plan = plan_of(pg_dsn, undoable("UPDATE log SET n = n / (n - 1)", "UPDATE log SET n = 0"))
    async with open_context(plan) as ctx:
        with pytest.raises(StepFailed, match="division by zero"):
            await RunOperation().run(ctx, step := handle(0))
        await RunOperation().undo(ctx, step)
    assert await db.fetchval("SELECT sum(n) FROM log") == 500 * 501 // 2


async def test_a_killed_server_loses_no_row_and_writes_none_twice(server_folder: Path) -> None:
    """Batches are not flushed: a crash loses some, each together with its checkpoint."""
    async with postgres_server(server_folder / "crash-fill") as server:
        plan = plan_of(
            server.dsn, undoable("UPDATE items SET n = n + 1"), backfill=SMALL | {"max_rows_per_second": 900}
        )
        db = await asyncpg.connect(server.dsn)
        await db.execute(TABLES + "INSERT INTO items (id) SELECT i FROM generate_series(301, 1500) i")
        await db.close()
        async with open_context(plan) as ctx:
            for delay in (0.3, 0.6, None):
                run = asyncio.create_task(fill(ctx, plan))
                await asyncio.wait({run}, timeout=delay)
                if delay is None:
                    run.result()
                    break
                await server.kill()
                with pytest.raises(DatabaseError):
                    await run
                await server.start()
            record = (await ctx.store.read()).backfill
        assert record is not None
        assert (record.status, record.rows_done) == ("done", 1500)
        db = await asyncpg.connect(server.dsn)
        assert await db.fetchval("SELECT count(*) FROM items WHERE n = 1") == 1500
        await db.close()


async def test_a_pause_stops_within_one_batch_and_limits_change_at_once(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TABLES)
    plan = plan_of(pg_dsn, undoable("UPDATE items SET n = n + 1"), backfill=SMALL | {"batch_rows_max": 7})
    paused, tuning = True, ()
    async with open_context(plan) as ctx:
        ctx.is_paused = lambda: paused
        ctx.tuning = lambda: tuning
        run = asyncio.create_task(fill(ctx, plan))
        async with asyncio.timeout(10):
            while (record := (await ctx.store.read()).backfill) is None or record.status != "paused":
                assert not run.done()
        assert (record.rows_done, record.rows_total) == (0, 300)
        paused, tuning = False, (("batch_rows", 3), ("batch_rows_max", 3))
        await run
        record = (await ctx.store.read()).backfill
    assert record is not None
    assert (record.status, record.batches) == ("done", 100)
    assert dict(record.waits)["paused"] > 0


async def test_limits_of_a_table_slow_that_table_alone_and_change_at_once(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TABLES)
    limits = {"batch_rows": 300, "batch_budget": "10s", "tables": {"public.items": {"max_rows_per_second": 10}}}
    changes = undoable("UPDATE items SET n = n + 1"), undoable("UPDATE orders SET n = n + 1")
    plan = plan_of(pg_dsn, *changes, backfill=limits)
    tuning: Tuning = ()
    async with open_context(plan) as ctx:
        ctx.tuning = lambda: tuning
        run, began = asyncio.create_task(fill(ctx, plan)), time.monotonic()
        async with asyncio.timeout(30):
            while (record := (await ctx.store.read()).backfill) is None or record.rows_done < 20:
                assert not run.done()
        assert time.monotonic() - began >= 1.0  # the pause after the first ten rows
        tuning = (("items:max_rows_per_second", None),)
        await run
        items, orders = (await ctx.store.read()).fills
    sizes = [batch.rows for batch in items.recent]
    assert (sizes[:2], max(sizes) > 10) == ([10, 10], True), sizes  # with the limit a batch has ten rows at most
    assert [batch.rows for batch in orders.recent] == [200]  # at once: it has the limits of the release
    assert (items.rows_done, orders.rows_done) == (300, 200)


async def test_partitions_and_children_are_filled_by_the_name_of_their_parent(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(
        "CREATE TABLE parts (id int, n int DEFAULT 0, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (50);"
        "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (50) TO (500);"
        "INSERT INTO parts SELECT i FROM generate_series(1, 200) i;"
        "CREATE TABLE parent (id int PRIMARY KEY, n int DEFAULT 0); CREATE TABLE child () INHERITS (parent);"
        "INSERT INTO parent SELECT i FROM generate_series(1, 50) i;"
        "INSERT INTO child SELECT i FROM generate_series(30, 100) i"
    )
    plan = plan_of(
        pg_dsn, undoable("UPDATE parts SET n = n + 1"), undoable("UPDATE parent SET n = n + 1"), backfill=SMALL
    )
    async with open_context(plan) as ctx:
        await fill(ctx, plan)
    for table, rows in (("parts", 200), ("parent", 121)):
        assert await db.fetchval(f"SELECT count(*) FROM {table} WHERE n = 1") == rows


async def test_rows_get_a_value_of_a_required_column_without_a_default(pg_dsn: str, db: asyncpg.Connection) -> None:
    """An older version inserts rows without it until cutover."""
    await db.execute(TABLES)
    sql = "ALTER TABLE items ADD COLUMN kind text NOT NULL, ADD COLUMN m int NOT NULL"
    plan = plan_of(pg_dsn, {"sql": sql, "repair": {"kind": "'k' || id", "m": "n"}}, backfill=SMALL)
    async with open_context(plan) as ctx:
        await CheckRows().run(ctx, handle(-1))
        await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL])
        await db.execute("INSERT INTO items (id) VALUES (1000)")
        await run_phases(ctx, plan, [Phase.CONTRACT, Phase.CLEANUP])
    assert await db.fetchval("SELECT count(*) FROM items WHERE kind = 'k' || id AND m = n") == 301
    query = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'items'::regclass AND attnum > 0 AND attnotnull"
    assert await db.fetchval(query) == 4


async def test_rows_are_repaired_before_their_constraint(pg_dsn: str, db: asyncpg.Connection) -> None:
    """An older version may write such rows until cutover."""
    await db.execute(TABLES + "UPDATE items SET code = NULL WHERE id < 50; UPDATE items SET n = -1 WHERE id > 280")
    plan = plan_of(
        pg_dsn,
        {
            "sql": "ALTER TABLE items ALTER code SET NOT NULL, ADD CONSTRAINT n_ok CHECK (n >= 0)",
            "repair": {"code": "'none'", "n": "0"},
        },
        "ALTER TABLE log ADD COLUMN kind text",
        "UPDATE log SET kind = 'old' WHERE kind IS NULL",
        "ALTER TABLE log ALTER kind SET NOT NULL",
        backfill=SMALL,
    )
    async with open_context(plan) as ctx:
        await CheckRows().run(ctx, handle(-1))
        await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL])
        assert await db.fetchval("SELECT count(*) FROM items WHERE code = 'none' OR n = 0 AND id > 280") == 69
        await db.execute("INSERT INTO items (id, n) VALUES (1000, -5); INSERT INTO log (n) VALUES (1000)")
        again = handle(-1)
        again.name = "check-rows-again"
        await CheckRows().run(ctx, again)
        await run_phases(ctx, plan, [Phase.CONTRACT, Phase.CLEANUP])
    assert await db.fetchrow("SELECT n, code FROM items WHERE id = 1000") == (0, "none")
    columns = (
        "SELECT attname::text FROM pg_attribute WHERE attrelid = ANY ($1::regclass[]) AND attnum > 0 AND attnotnull"
    )
    assert {row[0] for row in await db.fetch(columns, ["items", "log"])} == {"id", "n", "code", "kind"}
    assert await db.fetchval("SELECT bool_and(convalidated) FROM pg_constraint WHERE conname = 'n_ok'")


async def test_a_unique_index_is_built_after_the_rows_are_filled(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TABLES + "UPDATE items SET code = 'same'")
    plan = plan_of(
        pg_dsn,
        undoable("UPDATE items SET code = code || id", "UPDATE items SET code = 'same'"),
        "CREATE UNIQUE INDEX items_code ON items (code)",
        backfill=SMALL,
    )
    async with open_context(plan) as ctx:
        handles = await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL, Phase.CONTRACT])
        assert await db.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = 'items_code'::regclass")
        for each in reversed(handles):
            await RunOperation().undo(ctx, each)
    assert await db.fetchval("SELECT count(DISTINCT code) FROM items") == 1
    assert await db.fetchval("SELECT to_regclass('items_code')") is None


async def test_an_older_version_inserts_rows_while_columns_get_numbers(pg_dsn: str, db: asyncpg.Connection) -> None:
    """Its role owns nothing and has no right on the new sequences."""
    await db.execute(TABLES + "CREATE ROLE fills_app; GRANT INSERT, SELECT ON items TO fills_app")
    plan = plan_of(
        pg_dsn,
        "ALTER TABLE items ADD COLUMN s serial, ADD COLUMN i int GENERATED ALWAYS AS IDENTITY (START WITH 100)",
        backfill=SMALL,
    )

    async def insert(number: int) -> None:
        await db.execute(f"SET ROLE fills_app; INSERT INTO items (id) VALUES ({number}); RESET ROLE")

    try:
        async with open_context(plan) as ctx:
            for number, phase in enumerate((Phase.EXPAND, Phase.BACKFILL, Phase.CONTRACT, Phase.CLEANUP), 1000):
                handles = await run_phases(ctx, plan, [phase])
                await insert(number)
            assert await db.fetchval("SELECT attidentity::text FROM pg_attribute WHERE attname = 'i'") == "a"
            assert (await db.fetchrow("SELECT min(i), max(i), count(DISTINCT i), count(DISTINCT s) FROM items")) == (
                100, 403, 304, 304
            )  # fmt: skip
            assert handles
    finally:
        await db.execute("RESET ROLE; DROP OWNED BY fills_app; DROP ROLE fills_app")


async def test_a_batch_that_would_read_a_large_table_as_a_whole_is_refused(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(
        TABLES + "CREATE TABLE names (item int, name text); INSERT INTO names SELECT i, 'n' || i"
        " FROM generate_series(1, 12000) i; ANALYZE names; ALTER TABLE items ADD COLUMN name text"
    )
    sql = "UPDATE items SET name = names.name FROM names WHERE names.item = items.id AND items.name IS NULL"
    plan = plan_of(pg_dsn, undoable(sql), backfill=SMALL)
    async with open_context(plan) as ctx:
        with pytest.raises(StepFailed, match=r"every batch would read all of public\.names: no index serves how"):
            await PrepareFills().run(ctx, handle(0))
        await db.execute("CREATE INDEX ON names (item)")
        await fill(ctx, plan)
    assert await db.fetchval("SELECT count(*) FROM items WHERE name = 'n' || id") == 300


async def test_names_are_looked_up_as_the_migration_says(pg_dsn: str, db: asyncpg.Connection) -> None:
    """A fill, its repetition in contract and its constraint use the search_path that the migration sets."""
    await db.execute(
        "CREATE SCHEMA app; CREATE TABLE app.things (id int PRIMARY KEY, n int);"
        "CREATE FUNCTION app.doubled(n int) RETURNS int LANGUAGE sql AS 'SELECT n * 2';"
        "INSERT INTO app.things SELECT i, i FROM generate_series(1, 50) i"
    )
    sql = (
        "SET search_path = app; ALTER TABLE things ADD m int; UPDATE things SET m = doubled(n);"
        "ALTER TABLE things ALTER m SET NOT NULL; ALTER TABLE things ALTER n TYPE bigint USING doubled(n)"
    )
    plan = plan_of(pg_dsn, sql, backfill=SMALL)
    async with open_context(plan) as ctx:
        await CheckRows().run(ctx, handle(-1))
        await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL])
        assert await db.fetchval("SELECT count(*) FROM app.things WHERE m = n * 2") == 50
        await db.execute("INSERT INTO app.things VALUES (51, 51)")  # by an older version
        await run_phases(ctx, plan, [Phase.CONTRACT, Phase.CLEANUP])
    assert await db.fetchrow("SELECT n, m FROM app.things WHERE id = 51") == (102, 102)


async def test_a_key_is_dropped_after_the_fill_that_needs_it(
    pg: PostgresServer, pg_dsn: str, db: asyncpg.Connection
) -> None:
    setup = """
        CREATE TABLE sets (id int PRIMARY KEY, project int NOT NULL, UNIQUE (id, project));
        CREATE TABLE runs (id int PRIMARY KEY, set_id int CONSTRAINT runs_set REFERENCES sets (id), old int NOT NULL);
        INSERT INTO sets SELECT i, i % 3 FROM generate_series(1, 20) i;
        INSERT INTO runs SELECT i, i % 20 + 1, i FROM generate_series(1, 100) i;
    """
    statements = (
        "ALTER TABLE runs ADD COLUMN project int",
        "UPDATE runs SET project = sets.project FROM sets WHERE runs.set_id = sets.id",
        "ALTER TABLE runs DROP CONSTRAINT runs_set",
        "ALTER TABLE sets DROP CONSTRAINT sets_pkey, ADD CONSTRAINT sets_pkey PRIMARY KEY (id, project)",
        "ALTER TABLE runs ALTER COLUMN project SET NOT NULL, DROP CONSTRAINT runs_pkey, DROP COLUMN old,"
        " ADD CONSTRAINT runs_pkey PRIMARY KEY (id, project)",
        "ALTER TABLE runs ADD CONSTRAINT runs_set FOREIGN KEY (set_id, project) REFERENCES sets (id, project)",
    )
    limits = SMALL | {"max_statement_rows": 10}
    await assert_done_and_undone(pg, pg_dsn, setup, statements, backfill=limits)
    assert await db.fetchval("SELECT count(*) FROM runs WHERE project = (set_id % 3)") == 100


async def test_a_table_of_deleted_rows_is_empty(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(f"{TABLES}; ALTER TABLE items SET (autovacuum_enabled = false); DELETE FROM items")
    plan = plan_of(pg_dsn, undoable("UPDATE items SET n = n + 1"), backfill=SMALL)
    assert await db.fetchval("SELECT pg_relation_size('items')") > 0
    async with open_context(plan) as ctx:
        await fill(ctx, plan)
        assert [(each.status, each.rows_done) for each in (await ctx.store.read()).fills] == [("done", 0)]


async def fill_prepared(ctx: Context, plan: OperationsPlan, between: str = "SELECT") -> None:
    """Phase backfill, with every fill that can be prepared before the first.

    Args:
        between: a statement of another session, when all of them are prepared.
    """
    await PrepareFills().run(ctx, handle(-1))
    async with ctx.read_connection() as conn:
        await conn.execute(between)
    for name, number, _ in named_steps(plan, Phase.BACKFILL):
        await RunOperation().run(ctx, handle(number, name))


async def test_rows_that_the_migration_inserts_before_are_written_too(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TABLES + "CREATE TABLE parts (id int PRIMARY KEY, item int, n int)")
    plan = plan_of(
        pg_dsn,
        undoable("UPDATE items SET n = id"),
        undoable("INSERT INTO parts (id, item) SELECT id, n FROM items"),
        undoable("UPDATE parts SET n = item + 1"),
        backfill=SMALL,
    )
    async with open_context(plan) as ctx:
        await fill_prepared(ctx, plan)
    assert await db.fetchval("SELECT count(*) FROM parts WHERE n = id + 1") == 300


async def test_a_table_that_was_empty_may_get_its_first_rows_meanwhile(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TABLES + "CREATE TABLE parts (id int PRIMARY KEY, n int)")
    plan = plan_of(pg_dsn, undoable("UPDATE parts SET n = 5"), backfill=SMALL)
    async with open_context(plan) as ctx:
        await fill_prepared(ctx, plan, between="INSERT INTO parts VALUES (1, 1)")
    assert await db.fetchval("SELECT n FROM parts") == 1


async def test_a_fill_finds_no_row_where_the_migration_has_deleted_all(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TABLES)
    plan = plan_of(pg_dsn, undoable("DELETE FROM items"), undoable("UPDATE items SET n = 5"), backfill=SMALL)
    async with open_context(plan) as ctx:
        await fill_prepared(ctx, plan)
        assert [each.status for each in (await ctx.store.read()).fills] == ["done", "done"]
    assert await db.fetchval("SELECT count(*) FROM items") == 0


async def test_a_key_that_is_dropped_between_two_fills_stays_until_both_are_done(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(TABLES)
    plan = plan_of(
        pg_dsn,
        undoable("DELETE FROM items WHERE id > 250"),
        "ALTER TABLE items DROP CONSTRAINT items_pkey, ALTER COLUMN id TYPE text, ADD PRIMARY KEY (id)",
        backfill=SMALL,
    )
    async with open_context(plan) as ctx:
        await run_phases(ctx, plan, [Phase.EXPAND])
        await fill_prepared(ctx, plan)
        await run_phases(ctx, plan, [Phase.CONTRACT])
    assert await db.fetchval("SELECT count(*) FROM items WHERE code = 'c' || id") == 250

"""Expressions that fail for rows are found before the start, on a real server."""

from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from tests.support.operations import handle, open_context, plan_of
from zdd_tui.backends.postgres import failing_rows
from zdd_tui.backends.postgres.failing_rows import find_failing_rows
from zdd_tui.checks.operations import check_operation_rows
from zdd_tui.engine.steps.operations import CheckRows
from zdd_tui.model.ddl.failing_rows import ComputedValues
from zdd_tui.model.errors import PlanError, StepFailed

TABLES = """
CREATE TABLE items (id int PRIMARY KEY, code text, n bigint, price numeric, kind_id int);
INSERT INTO items SELECT i, i::text, i, i, i % 3 FROM generate_series(1, 3000) i;
CREATE TABLE kinds (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO kinds VALUES (0, 'none'), (1, 'one'), (2, 'two');
CREATE TABLE log (n int, kind text);
INSERT INTO log SELECT i, 'k' FROM generate_series(1, 10) i;
CREATE TABLE parted (id int, code text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (100) TO (1000);
INSERT INTO parted SELECT i, i::text FROM generate_series(0, 500) i;
CREATE SEQUENCE numbers;
CREATE FUNCTION counted(text) RETURNS int LANGUAGE sql VOLATILE AS $$SELECT nextval('numbers')::int + $1::int$$;
CREATE FUNCTION checked(text) RETURNS int LANGUAGE plpgsql AS
  $$BEGIN IF $1 = '77' THEN RAISE EXCEPTION 'code "%" is not known', $1; END IF; RETURN $1::int; END$$;
"""

TO_INT = "ALTER TABLE items ALTER COLUMN code TYPE int USING code::int"
SPLIT = "ALTER TABLE items ADD COLUMN part int; UPDATE items SET part = split_part(code, '-', 1)::int"


def undoable(sql: str) -> dict[str, Any]:
    return {"sql": sql, "undo": []}


@pytest.mark.parametrize(
    ("rows", "operation", "found"),
    [
        (
            "UPDATE items SET code = 'abc' WHERE id IN (7, 2900)",
            TO_INT,
            r"change the type of items.code to int: code::int fails for 2 rows of items:"
            r' invalid input syntax for type integer: "…" \(id = (7|2900)\)',
        ),
        (
            "UPDATE items SET n = 3000000000 WHERE id = 12",
            "ALTER TABLE items ALTER COLUMN n TYPE int",
            r"n fails for 1 row of items: integer out of range \(id = 12\)",
        ),
        (
            "UPDATE items SET code = 'four' WHERE id = 9; UPDATE items SET code = '123' WHERE id > 100",
            "ALTER TABLE items ALTER COLUMN code TYPE varchar(3)",
            r"code fails for 1 row of items: value too long for type character varying\(3\) \(id = 9\)",
        ),
        ("UPDATE items SET code = 'x-1' WHERE id = 4", SPLIT, r"update part of items: .* fails for 1 row .*\(id = 4\)"),
        (
            "UPDATE items SET price = 0 WHERE id = 8",
            undoable("UPDATE items SET price = n / price, n = n + 1 WHERE n > 5"),
            r"n / price fails for 1 row of items: division by zero \(id = 8\)",
        ),
        (
            "UPDATE items SET code = '' WHERE id = 8",
            undoable("UPDATE items SET n = 5 WHERE code::int > 2"),
            r"update n of items: code::int > 2 fails for 1 row .*\(id = 8\)",
        ),
        (
            "UPDATE items SET kind_id = NULL WHERE id = 3; ALTER TABLE kinds DROP CONSTRAINT kinds_pkey;"
            "INSERT INTO kinds VALUES (1, 'again')",
            undoable("UPDATE items SET code = (SELECT name FROM kinds WHERE kinds.id = items.kind_id)"),
            r"fails for 1,000 rows or more of items: more than one row returned by a subquery",
        ),
        (
            "INSERT INTO items VALUES (0, NULL, 0, 0, 0)",
            {"sql": "ALTER TABLE items ALTER code SET NOT NULL", "repair": {"code": "(1 / n)::text"}},
            r"\(1 / n\)::text fails for 1 row of items: division by zero \(id = 0\)",
        ),
        (
            "UPDATE log SET kind = NULL WHERE n = 5; UPDATE log SET n = 0 WHERE n = 5",
            undoable("UPDATE log SET kind = (1 / n)::text WHERE kind IS NULL"),
            r"fails for 1 row of log: division by zero \(ctid = \(0,\d+\)\)",
        ),
        (
            "UPDATE parted SET code = 'x' WHERE id IN (3, 300)",
            undoable("UPDATE parted SET code = (code::int + 1)::text"),
            r"fails for 2 rows of parted: .*\(id = (3|300)\)",
        ),
        (
            "SELECT 1",
            undoable("UPDATE items SET n = checked(code)"),
            r'checked\(code\) fails for 1 row of items: code "…" is not known \(id = 77\)',
        ),
    ],
)
async def test_an_expression_that_fails_for_a_row_refuses_the_start(
    pg_dsn: str, db: asyncpg.Connection, rows: str, operation: Any, found: str
) -> None:
    await db.execute(TABLES)
    plan = plan_of(pg_dsn, operation)
    await db.execute(rows)
    before = await db.fetchval("SELECT md5(string_agg(i::text, ',' ORDER BY id)) FROM items i")
    with pytest.raises(PlanError, match=found) as refused:
        await check_operation_rows(db, plan)
    assert refused.value.hint
    async with open_context(plan) as ctx:
        with pytest.raises(StepFailed, match=found) as failed:
            await CheckRows().run(ctx, handle(-1))
        assert "correct these rows" in failed.value.hint
    assert await db.fetchval("SELECT md5(string_agg(i::text, ',' ORDER BY id)) FROM items i") == before
    assert not await db.fetchval("SELECT to_regclass('pg_temp.zdd_values') IS NOT NULL")


def notes_of(lines: list[str]) -> list[str]:
    return [line for line in lines if "fits" in line or "tolerates" in line]


async def test_expressions_that_fit_every_row_start(pg_dsn: str, db: asyncpg.Connection) -> None:
    """Also columns that the migration adds, values that only a rollback of the agent would give, and direct changes."""
    await db.execute(TABLES + "INSERT INTO items VALUES (0, 'abc', 0, 0, 0)")
    plan = plan_of(
        pg_dsn,
        "ALTER TABLE items ADD COLUMN part int, ADD COLUMN u uuid NOT NULL DEFAULT gen_random_uuid();"
        "UPDATE items SET part = code::int WHERE part IS NULL AND id > 0",
        "ALTER TABLE items ADD COLUMN five int DEFAULT 5; UPDATE items SET five = 1 / five WHERE kind_id = 1",
        "ALTER TABLE items ALTER COLUMN code TYPE varchar",
        "ALTER TABLE items RENAME COLUMN n TO number",
        undoable("UPDATE items i SET price = 1 / k.id FROM kinds k WHERE k.id = i.kind_id AND k.id > 0"),
        undoable("DELETE FROM items WHERE id = 5 / (n + 1)"),
        undoable("UPDATE log SET kind = DEFAULT"),
    )
    assert notes_of(await check_operation_rows(db, plan)) == []
    async with open_context(plan) as ctx:
        await CheckRows().run(ctx, handle(-1))


@pytest.mark.parametrize(
    ("operations", "reason"),
    [
        ([undoable("UPDATE items SET code = '0' WHERE code = 'abc'"), TO_INT], "UPDATE items SET code = '0'"),
        ([undoable("DELETE FROM items WHERE code = 'abc'"), TO_INT], "DELETE FROM items"),
        ([undoable("DO $$BEGIN END$$"), TO_INT], "DO "),
        ([undoable("UPDATE items SET n = counted(code)")], "a function in it writes: cannot execute nextval()"),
        (
            [
                "CREATE OR REPLACE FUNCTION checked(text) RETURNS int LANGUAGE sql AS 'SELECT 5'",
                undoable("UPDATE items SET n = checked(code)"),
            ],
            "CREATE OR REPLACE FUNCTION checked",
        ),
        (
            [
                "CREATE FUNCTION g(text) RETURNS int LANGUAGE sql AS 'SELECT 5'",
                undoable("UPDATE items SET n = g(code)"),
            ],
            "CREATE FUNCTION g",
        ),
    ],
)
async def test_what_only_the_release_can_show_is_not_known_and_refuses_nothing(
    pg_dsn: str, db: asyncpg.Connection, operations: list[Any], reason: str
) -> None:
    await db.execute(TABLES + "INSERT INTO items VALUES (0, 'abc', 0, 0, 0)")
    plan = plan_of(pg_dsn, *operations)
    notes = notes_of(await check_operation_rows(db, plan))
    assert len(notes) == 1, notes
    assert "whether it fits every row is not known" in notes[0]
    assert reason in notes[0]
    async with open_context(plan) as ctx:
        await CheckRows().run(ctx, step := handle(-1))
        assert f"note: {step.detail['uncounted'][0]}" == notes[0]
    assert await db.fetchval("SELECT last_value = 1 AND NOT is_called FROM numbers")


async def test_failed_rows_that_the_plan_tolerates_refuse_nothing(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TABLES + "UPDATE items SET code = 'abc' WHERE id IN (7, 2900)")
    plan = plan_of(pg_dsn, undoable("UPDATE items SET n = code::int"), backfill={"max_failed_rows": 2})
    [note] = notes_of(await check_operation_rows(db, plan))
    assert "fails for 2 rows of items" in note
    assert note.endswith("; backfill.max_failed_rows tolerates that")
    async with open_context(plan) as ctx:
        await CheckRows().run(ctx, handle(-1))


async def test_what_is_not_computed_in_time_is_not_known(
    db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part that was computed is spread over the table: a failure near its end is found."""
    await db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a text, filler text);"
        "INSERT INTO t SELECT i, CASE WHEN i > 45000 THEN 'x' ELSE '1' END, repeat('y', 200)"
        " FROM generate_series(1, 50000) i"
    )
    slow = ComputedValues(
        "t", "t", (("CASE WHEN id % 100 = 0 THEN pg_sleep(0.003)::text ELSE a END", "text"),), ("id",)
    )
    found = await find_failing_rows(db, slow, (), limit=10, seconds=0.3)
    assert (found.count, found.unknown) == (0, "")
    assert 0 < found.share < 1
    casts = replace(slow, values=(("CASE WHEN id % 100 = 0 THEN pg_sleep(0.003)::text ELSE a END::int", "int"),))
    assert (await find_failing_rows(db, casts, (), limit=10, seconds=0.3)).count == 10
    monkeypatch.setattr(failing_rows, "_SLOW_RANGE_SECONDS", 0.1)
    never = replace(slow, values=(("pg_sleep(9)::text", "text"),))
    assert "not computed within" in (await find_failing_rows(db, never, (), limit=10, seconds=0.1)).unknown

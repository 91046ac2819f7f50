"""Any combination of operations, while both versions of an application write.

Rolled back from any phase the schema is as before, and done it is what the plain migration makes; no statement of a
running version fails, and no row is lost. Until contract the older version writes rows that the migration's constraints
refuse: they must not be in force yet.
"""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.operations import dump, handle, open_context, plan_of, run_phases
from zdd_tui.engine.context import StepHandle
from zdd_tui.engine.steps.operations import CheckRows, RunOperation
from zdd_tui.model.operations.registry import numbered_steps
from zdd_tui.model.phase import Phase
from zdd_tui.testbed.servers import PostgresServer

SCHEMA = """
CREATE TABLE a (
  id bigserial PRIMARY KEY, n int, b text NOT NULL, c text, d int, u int, e int NOT NULL DEFAULT 1,
  CONSTRAINT a_e CHECK (e > 0), CONSTRAINT a_be CHECK (b <> '' OR e > 5)
);
CREATE INDEX a_c ON a (c); CREATE INDEX a_d ON a (d) WHERE n > 0;
CREATE TABLE b (id bigserial PRIMARY KEY, a_id bigint, x int, y text NOT NULL);
CREATE TABLE unused (id int PRIMARY KEY, t text);
CREATE VIEW v AS SELECT id, n FROM a;
CREATE FUNCTION fn() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE FUNCTION other(a int) RETURNS int LANGUAGE sql AS 'SELECT a';
CREATE TRIGGER tr BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION fn();
INSERT INTO a (n, b, c, d, u) SELECT i, 'b', 'c', i, -i FROM generate_series(1, 300) i;
INSERT INTO b (a_id, x, y) SELECT i, -i, 'y' FROM generate_series(1, 300) i;
"""

OPERATIONS: dict[str, str] = {
    "add": "ALTER TABLE a ADD COLUMN g int",
    "add checked": "ALTER TABLE a ADD COLUMN h int NOT NULL DEFAULT 5 CHECK (h > 0)",
    "add unique": "ALTER TABLE a ADD COLUMN i int UNIQUE",
    "add key": "ALTER TABLE a ADD COLUMN j bigint REFERENCES b ON DELETE SET NULL",
    "drop b": "ALTER TABLE a DROP COLUMN b",
    "drop c": "ALTER TABLE a DROP COLUMN IF EXISTS c",
    "not null": "ALTER TABLE a ALTER d SET NOT NULL",
    "unique": "ALTER TABLE a ADD UNIQUE (u)",
    "check": "ALTER TABLE a ADD CHECK (n > 0), ADD CONSTRAINT more CHECK (n < 1000000)",
    "drop check": "ALTER TABLE a DROP CONSTRAINT a_e",
    "default": "ALTER TABLE a ALTER e SET DEFAULT 7",
    "no default": "ALTER TABLE a ALTER e DROP DEFAULT",
    "foreign key": "ALTER TABLE b ADD FOREIGN KEY (a_id) REFERENCES a",
    "index": "CREATE INDEX ON a (n, lower(u::text))",
    "replace index": "DROP INDEX a_d; CREATE INDEX a_d ON a (d, n)",
    "unique index": "CREATE UNIQUE INDEX bx ON b (x)",
    "drop table": "DROP TABLE unused CASCADE",
    "new table": "CREATE TABLE n (id serial PRIMARY KEY, a_id bigint REFERENCES a); CREATE INDEX ON n (a_id);"
    "INSERT INTO n DEFAULT VALUES",
    "drop trigger": "DROP TRIGGER tr ON b",
    "replace function": "CREATE OR REPLACE FUNCTION fn() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new ; END'",
    "trigger": "CREATE TRIGGER second BEFORE UPDATE ON a FOR EACH ROW EXECUTE FUNCTION fn()",
    "replace view": "DROP VIEW IF EXISTS v; CREATE VIEW v AS SELECT id, e FROM a",
    "drop function": "DROP FUNCTION other(int)",
    "parameters": "ALTER TABLE a SET (fillfactor = 70)",
    "grant": "GRANT SELECT ON a TO pg_monitor; REVOKE ALL ON b FROM PUBLIC",
    "policy": "CREATE POLICY p ON b USING (true)",
    "nullable": "ALTER TABLE b ALTER y DROP NOT NULL",
    "comment": "COMMENT ON TABLE a IS 'x'; COMMENT ON COLUMN b.x IS 'x'",
    "rename constraint": "ALTER TABLE b RENAME CONSTRAINT b_pkey TO b_key",
}


@dataclass(slots=True)
class Writers:
    """Writes in the shape of one version until it is stopped; a statement that fails is kept."""

    dsn: str
    errors: list[str]
    written: list[int]
    numbers: "itertools.count[int]"

    @asynccontextmanager
    async def run(self, insert: str, *, is_bad: bool = False) -> AsyncIterator[None]:
        """
        Args:
            insert: into a, with a number as the parameter.
            is_bad: rows that the migration's constraints would refuse.
        """
        has_written = asyncio.Event()
        task = asyncio.create_task(self._write(insert, is_bad, has_written))
        waiting = asyncio.create_task(has_written.wait())
        try:
            yield
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (task, waiting):
                each.cancel()
            await asyncio.wait({task, waiting})

    async def _write(self, insert: str, is_bad: bool, has_written: asyncio.Event) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            while True:
                number = next(self.numbers)
                key = await connection.fetchval(insert, number)
                child = (None if is_bad else key, 1 if is_bad else number)
                await connection.execute("INSERT INTO b (a_id, x, y) VALUES ($1, $2, 'y')", *child)
                await connection.execute("UPDATE a SET n = n + 1 WHERE id = $1", key)
                await connection.fetch("SELECT id FROM v WHERE id = $1", key)
                if not is_bad:
                    self.written.append(key)
                has_written.set()
                await asyncio.sleep(0.005)
        except asyncpg.PostgresError as error:
            self.errors.append(f"{insert}: {type(error).__name__}: {error}")
        finally:
            with contextlib.suppress(asyncpg.PostgresError):
                connection.terminate()


OLD_GOOD = "INSERT INTO a (n, b, c, d, u) VALUES (1, 'b', 'c', 1, $1) RETURNING id"
OLD_BAD = "INSERT INTO a (n, b, c, d, u) VALUES (-9 + 0 * $1::int, 'b', 'c', NULL, 1) RETURNING id"


def new_insert(names: set[str]) -> str:
    columns = [*(["b"] if "drop b" not in names else []), *(["c"] if "drop c" not in names else [])]
    listed = "".join(f", {column}" for column in columns)
    return f"INSERT INTO a (n, d, u, e{listed}) VALUES (1, 1, $1, 6{', $$x$$' * len(columns)}) RETURNING id"


async def run_combination(pg: PostgresServer, names: list[str], last: Phase) -> None:
    dsn, plain = (pg.dsn_for(f"combined_{secrets.token_hex(4)}") for _ in range(2))
    admin = await asyncpg.connect(pg.dsn)
    try:
        for each in (dsn, plain):
            await admin.execute(f"CREATE DATABASE {each.rpartition('/')[2]} TEMPLATE zdd_template")
            db = await asyncpg.connect(each)
            await db.execute(SCHEMA)
            if each == plain:
                for name in names:
                    await db.execute(OPERATIONS[name])
            await db.close()
        operations = [
            {"sql": OPERATIONS[name]} | ({"down": "'filled'"} if "DROP COLUMN" in OPERATIONS[name] else {})
            for name in names
        ]
        await _walk(pg, dsn, plan_of(dsn, *operations), set(names), last)
        assert dump(pg, dsn) == dump(pg, plain), "done"
    finally:
        for each in (dsn, plain):
            await admin.execute(f"DROP DATABASE IF EXISTS {each.rpartition('/')[2]} WITH (FORCE)")
        await admin.close()


async def _walk(pg: PostgresServer, dsn: str, plan: Any, names: set[str], last: Phase) -> None:
    before = dump(pg, dsn)
    writers = Writers(dsn, [], [], itertools.count(1))
    db = await asyncpg.connect(dsn)
    new = new_insert(names)
    try:
        async with open_context(plan) as ctx:
            await CheckRows().run(ctx, handle(0))
            done = await _forward(ctx, plan, writers, db, new, last)
            async with writers.run(new) if last is Phase.CONTRACT else writers.run(OLD_GOOD):
                await _undo(ctx, plan, done, Phase.CONTRACT)
            async with writers.run(OLD_GOOD):
                await _undo(ctx, plan, done, Phase.EXPAND)
            assert writers.errors == []
            assert dump(pg, dsn) == before, f"rolled back from {last}"
            await _forward(ctx, plan, writers, db, new, Phase.CONTRACT)
            async with writers.run(new):
                await run_phases(ctx, plan, [Phase.CLEANUP])
        assert writers.errors == []
        found = {row[0] for row in await db.fetch("SELECT id FROM a")}
        assert set(writers.written) <= found, "rows are lost"
        assert len(writers.written) > 3
    finally:
        await db.close()


async def _forward(
    ctx: Any, plan: Any, writers: Writers, db: asyncpg.Connection, new: str, last: Phase
) -> list[StepHandle]:
    async with writers.run(OLD_BAD, is_bad=True), writers.run(OLD_GOOD):
        done = await run_phases(ctx, plan, [Phase.EXPAND])
        async with writers.run(new):
            pass  # both versions write
    await db.execute("DELETE FROM a WHERE d IS NULL; DELETE FROM b WHERE x = 1")
    if last is Phase.CONTRACT:
        async with writers.run(new):
            done += await run_phases(ctx, plan, [Phase.CONTRACT])
    return done


async def _undo(ctx: Any, plan: Any, done: list[StepHandle], phase: Phase) -> None:
    numbers = {number for number, _ in numbered_steps(plan, phase)}
    for each in reversed(done):
        if each.value in numbers:
            await RunOperation().undo(ctx, each)


COMBINATIONS = st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=3, max_size=9, unique=True)
PHASES = st.sampled_from([Phase.EXPAND, Phase.CONTRACT])


@settings(max_examples=3, derandomize=True, deadline=None, database=None)
@given(names=COMBINATIONS, last=PHASES)
def test_operations_may_be_combined(pg: PostgresServer, names: list[str], last: Phase) -> None:
    asyncio.run(run_combination(pg, names, last))


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(names=COMBINATIONS, last=PHASES)
def test_many_operations_may_be_combined(pg: PostgresServer, names: list[str], last: Phase) -> None:
    asyncio.run(run_combination(pg, names, last))

"""One table is paused by itself: a real agent fills the others, and continues it where it stopped."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tests.support.operations import open_context, plan_of
from tests.support.schema_change import ACTOR
from zdd_tui.backends.store.client import Store
from zdd_tui.backends.store.fleet import FleetReader
from zdd_tui.cli.status import format_status
from zdd_tui.engine.agent import Agent
from zdd_tui.engine.preconditions import find_waiting_fills
from zdd_tui.model.fleet.config import FleetDatabase
from zdd_tui.model.operations.registry import named_steps
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import SchemaPlan
from zdd_tui.model.release.claims import ProgressState, assess_activity, assess_progress
from zdd_tui.model.release.records import Actor, CommandRequest, ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import CommandKind, ReleaseState

pytestmark = pytest.mark.timeout(120)

ANA = Actor("ana", "bastion")
TABLES = "".join(
    f"CREATE TABLE {name} (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);"
    f"INSERT INTO {name} (id) SELECT i FROM generate_series(1, 300) i;"
    for name in ("users", "orders", "items")
)
FILLS = tuple({"sql": f"UPDATE {name} SET n = n + 1", "undo": []} for name in ("users", "orders", "items"))
SMALL = {"batch_rows": 10, "batch_rows_max": 10, "batch_budget": "5s", "workers": 2}


class Release:
    """A release, and agents for it in this process."""

    def __init__(self, store: Store, release_id: int, plan: SchemaPlan) -> None:
        self.store, self.id, self.plan = store, release_id, plan

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[asyncio.Task[Any]]:
        lines: list[str] = []
        running = asyncio.create_task(Agent(self.plan, self.id, ACTOR, log=lines.append, ttl=1.0).run())
        try:
            yield running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            print("\n".join(lines))

    async def wait(self, condition: Callable[[ReleaseRecord], bool]) -> ReleaseRecord:
        try:
            async with asyncio.timeout(30):
                while not condition(record := await self.store.read_release(self.id)):  # noqa: ASYNC110 - see there
                    await asyncio.sleep(0.02)
        except TimeoutError:
            record = await self.store.read_release(self.id)
            raise AssertionError(format_status(record)) from None
        return record

    async def send(self, kind: CommandKind, table: str = "", actor: Actor = ANA) -> StoredCommand:
        request = CommandRequest(kind, typed="notes", table=table)
        return await self.store.wait_command(await self.store.send_command(self.id, request, actor=actor), 30.0)

    async def do(self, kind: CommandKind, table: str = "") -> str:
        answer = await self.send(kind, table)
        assert answer.status == "done", answer.outcome
        return answer.outcome

    async def run_expand(self) -> None:
        await self.do(CommandKind.ADVANCE)
        await self.wait(lambda record: record.release.state is ReleaseState.WAITING)
        await self.wait_for_gates()

    async def wait_for_gates(self) -> None:
        await self.wait(
            lambda record: all(str(each.verdict) == "pass" for each in record.gates.values()) and bool(record.gates)
        )


@asynccontextmanager
async def registered(dsn: str, *operations: Any, **backfill: Any) -> AsyncIterator[Release]:
    plan = SchemaPlan.model_validate(
        {
            "name": "notes",
            "environment": "staging",
            "production": False,
            "database": {"dsn": dsn},
            "gates": {"soak": "0s"},
            "operations": list(operations),
            "backfill": SMALL | backfill,
        }
    )
    async with await Store.open(dsn) as store:
        await store.migrate()
        release_id = await store.register_release(plan, text="plan", document={}, plan_hash="h", actor=ACTOR)
        yield Release(store, release_id, plan)


def rows_done(record: ReleaseRecord, table: str) -> int:
    step = next(step.name for step in record.release.strategy.steps if step.table == table)
    return next((fill.rows_done for fill in record.fills if fill.job == step), 0)


def is_held(record: ReleaseRecord) -> bool:
    return assess_progress(record.release, assess_activity(record.lease, 0.0)).state is ProgressState.PAUSED


async def fleet_waits(dsn: str) -> str:
    """What the fleet says that the release waits for."""
    reader = FleetReader(FleetDatabase("shop", dsn, "", "staging"))
    try:
        (row,) = await reader.read()
    finally:
        reader.close()
    return row.waits_for


async def locks_of(db: asyncpg.Connection, table: str) -> Sequence[Any]:
    found: Sequence[Any] = await db.fetch("SELECT mode FROM pg_locks WHERE relation = to_regclass($1)", table)
    return found


async def test_a_table_that_is_paused_before_its_turn_is_left_out_until_it_is_resumed(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(TABLES)
    async with registered(pg_dsn, *FILLS) as release, release.agent():
        await release.run_expand()
        refused = await release.send(CommandKind.PAUSE, "pets")
        assert refused.outcome.startswith("no step of the release fills a table pets")
        outcome = await release.do(CommandKind.PAUSE, "public.orders")
        assert outcome == "table orders is paused; the release continues where it does not need it"
        await release.do(CommandKind.ADVANCE)
        record = await release.wait(is_held)

        assert await db.fetchval("SELECT (SELECT sum(n) FROM users) + (SELECT sum(n) FROM items)") == 600
        assert await db.fetchval("SELECT sum(n) FROM orders") == 0
        assert await locks_of(db, "orders") == []
        assert record.release.state is ReleaseState.RUNNING  # the phase does not end
        (pause,) = record.release.table_pauses
        assert (pause.table, pause.by, pause.waits) == ("orders", "ana@bastion as postgres", ())
        assert 0 <= record.now - pause.since < 30
        assert (await release.send(CommandKind.ADVANCE)).outcome.endswith("zdd resume PLAN --table orders")
        assert (await release.send(CommandKind.PAUSE, "users")).outcome.startswith("table users is filled")

        assert await release.do(CommandKind.RESUME, "orders") == "table orders is resumed"
        record = await release.wait(lambda record: record.release.state is ReleaseState.WAITING)
        assert await db.fetchval("SELECT count(*) FROM orders WHERE n = 1") == 300
        audit = [(each.message, str(each.actor)) for each in record.events if "orders is" in each.message]
        assert audit == [
            (f"pause: {outcome}", "ana@bastion as postgres"),
            ("resume: table orders is resumed", "ana@bastion as postgres"),
        ]


async def test_a_table_paused_in_the_middle_stays_paused_under_the_next_agent_and_writes_no_row_twice(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(TABLES)
    slow = {"users": {"max_rows_per_second": 100}}
    async with registered(pg_dsn, *FILLS, tables=slow) as release:
        async with release.agent() as agent:
            await release.run_expand()
            await release.do(CommandKind.ADVANCE)
            await release.wait(lambda record: rows_done(record, "users") >= 20)
            await release.do(CommandKind.PAUSE, "users")
            record = await release.wait(is_held)
            await release.wait(lambda record: [str(step.status) for step in record.steps].count("suspended") == 1)
            stopped = rows_done(record, "users")
            assert 20 <= stopped < 300
            assert await locks_of(db, "users") == []
            agent.cancel()
        async with release.agent():
            await release.wait(lambda record: record.lease is not None and record.lease.is_live)
            record = await release.wait(is_held)
            assert [pause.table for pause in record.release.table_pauses] == ["users"]
            assert await db.fetchval("SELECT sum(n) FROM users") == rows_done(record, "users") == stopped
            assert await db.fetchval("SELECT (SELECT sum(n) FROM orders) + (SELECT sum(n) FROM items)") == 600

            assert await fleet_waits(pg_dsn) == f"resume of table users, paused by {record.release.table_pauses[0].by}"
            await release.do(CommandKind.PAUSE)  # the whole release, too
            assert await fleet_waits(pg_dsn) == "resume, paused by ana"
            assert (await release.send(CommandKind.PAUSE, "users")).status == "refused"
            assert await release.do(CommandKind.RESUME, "users") == "table users is resumed; the release is paused"
            await asyncio.sleep(0.3)  # several batches at its speed
            assert await db.fetchval("SELECT sum(n) FROM users") == stopped
            await release.do(CommandKind.RESUME)
            await release.wait(lambda record: record.release.state is ReleaseState.WAITING)
        assert await db.fetchval("SELECT count(*) FROM users WHERE n = 1") == 300


async def test_a_rollback_undoes_a_paused_table_too(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(TABLES)
    operations = [
        {"sql": f"UPDATE {name} SET n = n + 1", "undo": [f"UPDATE {name} SET n = 0"]} for name in ("users", "orders")
    ]
    slow = {"users": {"max_rows_per_second": 100}}
    async with registered(pg_dsn, *operations, tables=slow) as release, release.agent():
        await release.run_expand()
        await release.do(CommandKind.ADVANCE)
        await release.wait(lambda record: rows_done(record, "users") >= 20)
        await release.do(CommandKind.PAUSE, "users")
        await release.wait(is_held)
        await release.do(CommandKind.ROLLBACK)
        record = await release.wait(lambda record: record.release.state is ReleaseState.ROLLED_BACK)
        assert record.release.table_pauses == ()
        assert {fill.status for fill in record.fills} == {"cancelled"}
        assert await db.fetchval("SELECT (SELECT sum(n) FROM users) + (SELECT sum(n) FROM orders)") == 0


RELATED = """
CREATE TABLE teams (id int PRIMARY KEY, n int, code text UNIQUE);
CREATE TABLE notes (id int PRIMARY KEY, n int, team int REFERENCES teams, team_code text REFERENCES teams (code));
CREATE TABLE tags (id int PRIMARY KEY, n int);
CREATE TABLE logs (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM (0) TO (100);
CREATE VIEW team_names AS SELECT * FROM teams;
CREATE FUNCTION pure(a int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT a';
CREATE FUNCTION reads(a int) RETURNS int STABLE LANGUAGE sql AS 'SELECT n FROM teams WHERE id = a';
"""


@pytest.mark.parametrize(
    ("paused", "statements", "waits"),
    [
        ("teams", ["UPDATE teams SET n = 1", "UPDATE notes SET n = 1", "UPDATE tags SET n = pure(1)"], ""),
        ("teams", ["UPDATE teams SET n = 1", "UPDATE notes SET n = t.n FROM teams t WHERE t.id = team"], "notes"),
        ("notes", ["UPDATE notes SET n = t.n FROM teams t WHERE t.id = team", "UPDATE teams SET n = 1"], "teams"),
        ("teams", ["UPDATE teams SET n = 1", "UPDATE notes SET team = 1"], "notes"),
        ("teams", ["UPDATE teams SET code = 'a'", "UPDATE notes SET team = 1"], "notes"),
        ("notes", ["DELETE FROM notes WHERE n = 1", "DELETE FROM teams WHERE n = 1", "UPDATE tags SET n = 1"], "teams"),
        ("teams", ["UPDATE teams SET n = 1", "UPDATE notes SET n = v.n FROM team_names v WHERE v.id = team"], "notes"),
        ("teams", ["UPDATE teams SET n = 1", "UPDATE tags SET n = reads(id)", "UPDATE notes SET n = 1"], "tags notes"),
        ("logs", ["UPDATE logs SET n = 1", "UPDATE logs_1 SET n = 2", "UPDATE tags SET n = 1"], "logs_1"),
        ("tags", ["UPDATE teams SET n = 1", "UPDATE tags SET n = t.n FROM teams t WHERE t.id = tags.id"], ""),
        ("teams", ["UPDATE teams SET n = 1", *(f"UPDATE tags SET n = {n}" for n in (1, 2))], ""),
        ("teams", ["UPDATE teams SET n = 1", "INSERT INTO notes VALUES (1)", "UPDATE tags SET n = 1"], ""),
        ("teams", ["UPDATE teams SET n = 1", "INSERT INTO tags VALUES (1)", "UPDATE tags SET n = 1"], "tags"),
        (  # the repairs of contract: each follows a constraint of its table, which waits in its place
            "teams",
            [
                f"ALTER TABLE {each} ADD COLUMN m int; UPDATE {each} SET m = n; ALTER TABLE {each} ALTER m SET NOT NULL"
                for each in ("teams", "notes", "tags")
            ],
            "notes tags",
        ),
        ("teams", ["UPDATE teams SET n = 1", "DO 'BEGIN END'", "UPDATE tags SET n = 1"], "tags"),
    ],
)
async def test_a_fill_waits_for_a_paused_one_where_the_order_of_rows_may_matter(
    paused: str, statements: list[str], waits: str, pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(RELATED)
    batches = ("UPDATE", "DELETE")
    plan = plan_of(
        pg_dsn,
        *(
            each
            if each.startswith("ALTER")
            else {"sql": each, "undo": []} | ({} if each.startswith(batches) else {"phase": "backfill"})
            for each in statements
        ),
    )
    steps = [each for phase in Phase for each in named_steps(plan, phase)]
    tables = {name: spec.fill.table for name, _, spec in steps if spec.fill}
    async with open_context(plan) as ctx:
        found = await find_waiting_fills(ctx, paused)
    assert " ".join(tables[name] for name in found) == waits

"""Standing conditions of operations: a real agent notices who changes what the release has made, stops and restores."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import count
from typing import Any

import asyncpg
import pytest

from tests.conftest import create_database
from tests.support.operations import SCHEMA
from tests.support.schema_change import ACTOR
from tests.support.sessions import client_session
from zdd_tui.backends.store.client import Store
from zdd_tui.cli.status import format_status
from zdd_tui.engine.agent import Agent
from zdd_tui.model.plan.operations import SchemaPlan
from zdd_tui.model.release.condition import ConditionStatus
from zdd_tui.model.release.records import CommandRequest, ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import CommandKind, ReleaseState, closed_gates
from zdd_tui.testbed.servers import PostgresServer

STOP_SECONDS = 5.0
"""The budget is 2 s; a test machine that does much else gets more."""

pytestmark = pytest.mark.timeout(120)


class Release:
    """A release that an agent runs in this process."""

    def __init__(self, store: Store, release_id: int, dsn: str) -> None:
        self.store, self.id, self.dsn = store, release_id, dsn

    async def read(self) -> ReleaseRecord:
        return await self.store.read_release(self.id)

    async def wait(self, condition: Callable[[ReleaseRecord], bool]) -> ReleaseRecord:
        try:
            async with asyncio.timeout(30):
                while not condition(record := await self.read()):  # noqa: ASYNC110 - another task writes it
                    await asyncio.sleep(0.05)
        except TimeoutError:
            record = await self.read()
            raise AssertionError(format_status(record)) from None
        return record

    async def advance(self) -> StoredCommand:
        request = CommandRequest(CommandKind.ADVANCE, typed="notes")
        return await self.store.wait_command(await self.store.send_command(self.id, request, actor=ACTOR), 30.0)

    async def run_phase(self, phase: str) -> None:
        """Advances; returns when its steps are done and every object is noted."""
        answer = await self.advance()
        assert answer.status == "done", answer.outcome
        await self.wait(lambda record: record.release.state is not ReleaseState.RUNNING)
        record = await self.read()
        assert (record.release.state, record.release.current_phase.name) == (ReleaseState.WAITING, phase), (
            record.release.error
        )

    async def wait_until_noted(self, *names: str) -> None:
        """The agent has read the objects after the steps that have changed them."""
        connection = await asyncpg.connect(self.dsn)
        try:
            async with asyncio.timeout(15):
                while not set(names) <= {  # noqa: ASYNC110 - another task writes it
                    row[0]
                    for row in await connection.fetch(
                        "SELECT o ->> 'condition' FROM zdd.baseline, jsonb_array_elements(objects) o"
                    )
                }:
                    await asyncio.sleep(0.05)
        finally:
            await connection.close()

    async def breach(self, text: str, *statements: str) -> str:
        """Changes something as another client does; returns how the release reports it."""
        async with client_session(self.dsn) as connection:
            await connection.execute("; ".join(statements))  # one transaction
            began = time.monotonic()
            record = await self.wait(
                lambda record: any(text in event.message for event in record.events if event.kind == "condition")
            )
            assert time.monotonic() - began < STOP_SECONDS
        return next(event.message for event in record.events if event.kind == "condition" and text in event.message)


@asynccontextmanager
async def start(dsn: str, *operations: Any, accept: tuple[str, ...] = ()) -> AsyncIterator[Release]:
    plan = SchemaPlan.model_validate(
        {
            "name": "notes",
            "environment": "staging",
            "production": False,
            "database": {"dsn": dsn},
            "gates": {"soak": "0s"},
            "operations": list(operations),
            "accept": [{"what": what, "reason": "only this test reads it"} for what in accept],
        }
    )
    async with await Store.open(dsn) as store:
        await store.migrate()
        release_id = await store.register_release(plan, text="plan", document={}, plan_hash="h", actor=ACTOR)
        lines: list[str] = []
        agent = asyncio.create_task(Agent(plan, release_id, ACTOR, log=lines.append).run())
        try:
            yield Release(store, release_id, dsn)
        finally:
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)
            print("\n".join(lines))


def is_met(record: ReleaseRecord) -> bool:
    return not record.release.unmet


async def a_dropped_index_a_changed_type_and_a_lost_constraint_stop_the_release(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(SCHEMA)
    operations = (
        "ALTER TABLE notes ADD COLUMN extra int",
        "CREATE INDEX notes_n ON notes (n)",
        "ALTER TABLE notes ADD CONSTRAINT small CHECK (n < 1000)",
        "CREATE TABLE tags (id int)",
    )
    async with start(pg_dsn, *operations) as release:
        await release.run_phase("expand")
        await release.wait_until_noted(
            "index public.notes_n", "column notes.extra", "constraint notes.small", "table tags"
        )
        assert is_met(await release.read())

        line = await release.breach("index notes_n of public.notes is missing", "DROP INDEX notes_n")
        assert "probably by role postgres, application psql, address" in line
        record = await release.wait(lambda record: record.release.breach is not None)
        assert format_status(record).startswith("✗ STOPPED: index notes_n of public.notes is missing")
        assert "restore it in psql" in format_status(record)
        answer = await release.advance()
        assert (answer.status, "index notes_n" in answer.outcome) == ("refused", True)
        await db.execute("CREATE INDEX notes_n ON notes (n)")
        await release.wait(is_met)

        type_changed = "column extra of public.notes is bigint now, it was integer"
        await release.breach(type_changed, "ALTER TABLE notes ALTER extra TYPE bigint")
        await db.execute("ALTER TABLE notes ALTER extra TYPE int")
        await release.wait(is_met)
        await release.breach("constraint small of public.notes is missing", "ALTER TABLE notes DROP CONSTRAINT small")
        await db.execute("ALTER TABLE notes ADD CONSTRAINT small CHECK (n < 1000)")
        await release.wait(is_met)
        await release.breach("column extra of public.notes was renamed to e", "ALTER TABLE notes RENAME extra TO e")
        await db.execute("ALTER TABLE notes RENAME e TO extra")
        await release.wait(is_met)
        await release.breach("table tags is missing", "DROP TABLE tags")
        await db.execute("CREATE TABLE tags (id int)")
        await release.wait(is_met)
        await release.advance()
        await release.wait(lambda record: record.release.state is ReleaseState.DONE)


async def what_the_release_itself_changes_is_no_breach(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(SCHEMA + "DROP STATISTICS notes_statistics; CREATE EXTENSION pg_stat_statements")
    await db.execute("SELECT pg_stat_statements_reset()")
    await db.execute("CREATE TABLE tickets (id int); ALTER TABLE teams ADD COLUMN old int NOT NULL DEFAULT 1")
    operations = (
        "ALTER TABLE notes ALTER user_id SET NOT NULL, ALTER body SET NOT NULL, ALTER code SET NOT NULL",
        "ALTER TABLE notes ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE, ADD COLUMN s bigserial",
        "ALTER TABLE notes ADD COLUMN extra varchar(5) CHECK (extra <> ''); ALTER TABLE notes ALTER extra TYPE text",
        "ALTER TABLE notes ADD i int GENERATED ALWAYS AS IDENTITY; ALTER TABLE notes RENAME legacy TO old",
        "ALTER TYPE kind RENAME TO k; CREATE TYPE kind AS ENUM ('a', 'c', 'b'); ALTER TABLE tickets ADD kind kind",
        "ALTER TABLE notes ALTER kind TYPE kind USING kind::text::kind; DROP TYPE k",
        "ALTER TABLE notes ALTER n TYPE bigint, ADD CONSTRAINT big CHECK (user_id < 1000)",
        "CREATE UNIQUE INDEX notes_u ON notes (user_id); CREATE TABLE tags (id int); ALTER TABLE tags RENAME TO labels",
        "DROP INDEX notes_kind; DROP TABLE unused; ALTER TABLE teams ADD place int; CREATE INDEX ON teams (place)",
        "ALTER TABLE teams RENAME TO groups; ALTER TABLE groups RENAME name TO title; CREATE INDEX ON groups (place)",
        "ALTER TABLE groups ADD CHECK (place > 0), ADD late int UNIQUE, ALTER id ADD GENERATED ALWAYS AS IDENTITY",
        "ALTER TABLE groups DROP COLUMN old; CREATE TABLE owners (owner int REFERENCES groups)",
    )
    async with start(pg_dsn, *operations) as release:
        for phase in ("", "expand", "backfill", "contract"):
            if phase:
                await release.run_phase(phase)
            await release.wait(lambda record: not closed_gates(record.release, record.gates, record.now))
        await release.advance()
        record = await release.wait(lambda record: record.release.state is ReleaseState.DONE)
    assert [event.message for event in record.events if event.kind == "condition"] == []


RENAME, RETYPE = "ALTER TABLE notes RENAME body TO content", "ALTER TABLE notes ALTER user_id TYPE numeric"
CASES = {
    "rename": (RENAME, "!zdd_rename_notes_body", "body", "content", "zdd_old_content", "'lost {}'"),
    "type": (RETYPE, "~zdd_retype_notes_user_id", "user_id", "zdd_new_user_id", "zdd_old_user_id", "77{}"),
}


async def a_trigger_is_restored_and_the_rows_that_it_missed_are_found(
    case: str, pg_dsn: str, db: asyncpg.Connection
) -> None:
    operation, trigger, old, new, archived, value = CASES[case]
    await db.execute(SCHEMA)
    await db.execute("SET application_name = 'zdd test'")  # its statements do not count as uses of the old name
    accept = ("column notes.body",) if case == "rename" else ()
    numbers = count()

    async def count_differing(left: str, right: str) -> Any:
        return await db.fetchval(f"SELECT count(*) FROM notes WHERE {left}::text IS DISTINCT FROM {right}::text")

    async def lose(release: Release, how: str, column: str) -> ReleaseRecord:
        """The trigger does not fire for one row. What is found within the same second is not found twice."""
        before = sum(event.kind == "condition" for event in (await release.read()).events)
        async with db.transaction():
            await db.execute(f'{how} "{trigger}"' + (" ON notes" if how.startswith("DROP") else ""))
            await db.execute(f"UPDATE notes SET {column} = {value.format(next(numbers))} WHERE id = 3")
        await release.wait(lambda record: sum(event.kind == "condition" for event in record.events) > before)
        async with asyncio.timeout(STOP_SECONDS):
            while await db.fetchval("SELECT tgenabled = 'A' FROM pg_trigger WHERE tgname = $1", trigger) is not True:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return await release.read()

    disable, drop = "ALTER TABLE notes DISABLE TRIGGER", "DROP TRIGGER"
    async with start(pg_dsn, operation, accept=accept) as release:
        await release.run_phase("expand")
        await release.wait_until_noted(f"trigger {trigger} of notes", f"column notes.{new}")
        await lose(release, drop, old)
        await release.wait(is_met)
        await release.run_phase("backfill")
        assert await count_differing(old, new) == 0

        for how in (disable, drop):
            await lose(release, how, old)
            await release.wait(lambda record: is_met(record) and record.release.state is ReleaseState.WAITING)
            assert await count_differing(old, new) == 0, "the fill has run once more"
        events = [event.message for event in (await release.read()).events if event.kind == "condition"]
        assert any("restored by the agent" in line for line in events), events

        await release.run_phase("contract")
        current = "content" if case == "rename" else "user_id"
        assert await count_differing(current, archived) == 0
        await release.wait_until_noted(f"trigger {trigger} of notes")
        await asyncio.sleep(1.2)  # noted again, after the swap
        await lose(release, disable, current)
        found = "1 row of notes was written without trigger"
        record = await release.wait(
            lambda record: record.release.breach is not None and found in record.release.breach.text
        )
        assert record.release.breach.status is ConditionStatus.BREACHED
        assert (await release.advance()).status == "refused"
        await db.execute(f"UPDATE notes SET {current} = {current} WHERE id = 3")  # the trigger fires
        await release.wait(is_met)
        await release.advance()
        await release.wait(lambda record: record.release.state is ReleaseState.DONE)


async def wait_for(db: asyncpg.Connection, query: str, expected: Any) -> None:
    found = None
    try:
        async with asyncio.timeout(STOP_SECONDS):
            while found != expected:
                with suppress(asyncpg.InternalServerError):  # a view is dropped while its definition is read
                    found = await db.fetchval(query)
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(found) from None


async def restored(release: Release, text: str) -> None:
    """The condition holds again, and the audit says who has restored it."""
    record = await release.wait(is_met)
    ends = [event for event in record.events if "restored by the agent" in event.message]
    assert any(text in event.reason for event in ends), record.events


async def the_function_of_a_trigger_and_the_trigger_itself_are_restored_when_they_are_replaced(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(SCHEMA)
    function = (
        "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'zdd'::regnamespace AND proname ~ 'rename'"
    )
    definition = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = '!zdd_rename_notes_body'"
    async with start(pg_dsn, RENAME, accept=("column notes.body",)) as release:
        await release.run_phase("expand")
        await release.wait_until_noted("trigger !zdd_rename_notes_body of notes")
        before, trigger = await db.fetchval(function), await db.fetchval(definition)
        head = before.partition("AS $")[0]
        found = "trigger !zdd_rename_notes_body on public.notes or its function was replaced"
        line = await release.breach(found, f"{head} AS 'BEGIN RETURN NEW; END'")
        assert "probably by role postgres, application psql, address" in line
        await wait_for(db, function, before)
        await restored(release, found)

        never = trigger.replace(" EXECUTE ", " WHEN (new.id < 0) EXECUTE ").replace("CREATE ", "CREATE OR REPLACE ")
        await db.execute(never)
        await wait_for(db, definition, trigger)
        await release.wait(is_met)
        assert await db.fetchval("SELECT tgenabled FROM pg_trigger WHERE tgname = '!zdd_rename_notes_body'") == b"A"
        await release.run_phase("backfill")
        assert await db.fetchval("SELECT count(*) FROM notes WHERE body IS DISTINCT FROM content") == 0


async def the_view_under_the_other_name_of_a_table_is_created_again_unless_another_view_depends_on_what_is_there(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(SCHEMA + "GRANT SELECT ON teams TO pg_monitor")
    view = "SELECT pg_get_viewdef(to_regclass('groups'))"
    async with start(pg_dsn, "ALTER TABLE teams RENAME TO groups", accept=("table teams",)) as release:
        await release.run_phase("expand")
        await release.wait_until_noted("view groups")
        before = await db.fetchval(view)
        await db.execute("GRANT SELECT ON groups TO pg_read_all_stats")
        line = await release.breach("view groups is missing", "DROP VIEW groups")
        assert "probably by role postgres, application psql, address" in line
        await wait_for(db, view, before)
        await restored(release, "view groups is missing")
        assert await db.fetchval("SELECT has_table_privilege('pg_monitor', 'groups', 'SELECT')")

        other = "DROP VIEW groups; CREATE VIEW groups AS SELECT id FROM teams; CREATE VIEW late AS SELECT * FROM groups"
        await release.breach("view groups was replaced", other)
        record = await release.wait(lambda record: record.release.breach is not None)
        assert record.release.breach is not None
        assert "unless another object depends on what is there now" in record.release.breach.hint
        assert (await release.advance()).status == "refused"
        await db.execute("DROP VIEW late")
        await wait_for(db, view, before)
        await release.wait(is_met)

        await release.run_phase("contract")
        await release.wait_until_noted("view teams")
        await release.breach("view teams is missing", "DROP VIEW teams")
        await wait_for(db, "SELECT relkind FROM pg_class WHERE relname = 'teams'", b"v")
        await release.wait(is_met)
        await release.advance()
        await release.wait(lambda record: record.release.state is ReleaseState.DONE)


async def the_second_table_of_partition_and_its_functions_are_watched(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, i FROM generate_series(1, 9) i"
    )
    partition = {"table": "t", "by": "HASH (id)", "partitions": {"t_0": "WITH (MODULUS 1, REMAINDER 0)"}}
    copy = (
        "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'zdd'::regnamespace AND proname LIKE 'copy%'"
    )
    async with start(pg_dsn, {"partition": partition}) as release:
        await release.run_phase("expand")
        function = 'function zdd."copy_public.t"'
        await release.wait_until_noted(function, "helpers zdd_new_t", "table zdd_new_t")
        before = await db.fetchval(copy)
        await db.execute(before.partition("AS $")[0] + " AS 'BEGIN END'")
        await wait_for(db, copy, before)
        await restored(release, f"{function} was replaced")

        key = await db.fetchval(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'zdd_new_t'::regclass AND contype = 'p'"
        )
        assert key.startswith("zdd_next_")
        line = await release.breach(
            f"{key} of public.zdd_new_t is missing", f"ALTER TABLE zdd_new_t DROP CONSTRAINT {key}"
        )
        assert "probably by role postgres, application psql" in line
        assert (await release.advance()).status == "refused"
        await db.execute(f"ALTER TABLE zdd_new_t ADD CONSTRAINT {key} PRIMARY KEY (id)")
        await release.wait(is_met)
        for phase in ("backfill", "contract"):
            await release.run_phase(phase)
        await release.wait_until_noted("table zdd_old_t")
        await release.breach("table zdd_old_t is missing", "ALTER TABLE zdd_old_t RENAME TO gone")
        await db.execute("ALTER TABLE gone RENAME TO zdd_old_t")
        await release.wait(is_met)
        await release.advance()
        record = await release.wait(lambda record: record.release.state is ReleaseState.DONE)
    assert await db.fetchval("SELECT count(*) FROM t_0") == 9
    assert record.release.error == ""


async def rows_that_were_written_without_a_default_are_filled_again(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 9)")
    column = "ALTER TABLE t ALTER COLUMN token"
    async with start(pg_dsn, "ALTER TABLE t ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()") as release:
        for phase in ("expand", "backfill"):
            await release.run_phase(phase)
        await release.wait_until_noted("column t.token")
        line = await release.breach(
            "column token of public.t has lost its default", f"{column} DROP DEFAULT", "INSERT INTO t VALUES (10)"
        )
        assert "probably by role postgres, application psql" in line
        assert (await release.advance()).status == "refused"
        await db.execute(f"{column} SET DEFAULT gen_random_uuid()")
        await release.wait(lambda record: is_met(record) and record.release.state is ReleaseState.WAITING)
        assert await db.fetchval("SELECT count(*) FROM t WHERE token IS NULL") == 0, "the fill has run again"
        other = f"{column} SET DEFAULT '{uuid.UUID(int=0)}'"
        await release.breach("column token of public.t has another default", other)
        await db.execute(f"{column} SET DEFAULT gen_random_uuid()")
        await release.wait(lambda record: is_met(record) and record.release.state is ReleaseState.WAITING)
        await release.run_phase("contract")


async def objects_that_are_dropped_and_created_again_as_they_were_count_as_restored(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT generate_series(1, 9)")
    operations = (
        "ALTER TABLE t ADD COLUMN phone text NOT NULL DEFAULT '', ADD COLUMN number bigserial",
        "ALTER TABLE t ADD CONSTRAINT short CHECK (length(phone) < 20); CREATE INDEX t_phone ON t (phone, n)",
    )

    async def release_goes_on(release: Release) -> None:
        await release.wait(lambda record: is_met(record) and record.release.state is ReleaseState.WAITING)

    async def statements(release: Release) -> dict[str, str]:
        found = {}
        for each in (await release.read()).release.unmet:
            assert "restore it in psql as " in each.hint
            found[each.name] = each.hint.partition(" has made it: ")[2].partition("; the release continues then")[0]
        return found

    async with start(pg_dsn, *operations) as release:
        for phase in ("expand", "backfill"):
            await release.run_phase(phase)
        phone, names = "column t.phone", ("column t.phone", "column t.number", "index public.t_phone")
        await release.wait_until_noted(*names, "constraint t.short")
        await asyncio.sleep(2.0)  # and once more, after the last step about the table
        await release.breach("column phone of public.t is missing", "ALTER TABLE t DROP phone, DROP number")
        await release.wait(
            lambda record: {*names, "constraint t.short"} <= {each.name for each in record.release.unmet}
        )
        restore = await statements(release)
        assert restore[phone] == "ALTER TABLE public.t ADD COLUMN phone text NOT NULL DEFAULT ''::text"
        unmet = {each.name: each for each in (await release.read()).release.unmet}
        assert "as expand-1" in unmet[phone].hint, "the step that made it, not the last one about its table"

        await db.execute("ALTER TABLE t ADD COLUMN phone text")
        other = "column phone of public.t has lost its default"
        await release.wait(lambda record: any(other in each.text for each in record.release.unmet))
        await db.execute("ALTER TABLE t ALTER phone SET DEFAULT ''")
        other = "column phone of public.t was created again, but not as it was"
        await release.wait(lambda record: any(other in each.text for each in record.release.unmet))
        await db.execute("ALTER TABLE t DROP phone")
        for name in (phone, "column t.number", "constraint t.short", "index public.t_phone"):
            await db.execute(restore[name])
        await release_goes_on(release)
        await release.run_phase("contract")


Scenario = Callable[[str, asyncpg.Connection], Awaitable[None]]

SCENARIOS: dict[str, tuple[Scenario, ...]] = {
    "objects": (
        a_dropped_index_a_changed_type_and_a_lost_constraint_stop_the_release,
        what_the_release_itself_changes_is_no_breach,
        the_view_under_the_other_name_of_a_table_is_created_again_unless_another_view_depends_on_what_is_there,
        the_second_table_of_partition_and_its_functions_are_watched,
        rows_that_were_written_without_a_default_are_filled_again,
        objects_that_are_dropped_and_created_again_as_they_were_count_as_restored,
    ),
    "triggers": (
        partial(a_trigger_is_restored_and_the_rows_that_it_missed_are_found, "rename"),
        partial(a_trigger_is_restored_and_the_rows_that_it_missed_are_found, "type"),
        the_function_of_a_trigger_and_the_trigger_itself_are_restored_when_they_are_replaced,
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_standing_conditions(name: str, pg: PostgresServer, migrated_template: str) -> None:
    """The agents wait most of the time: they run side by side, each with a database of its own."""

    async def run(scenario: Scenario, dsn: str) -> None:
        db = await asyncpg.connect(dsn)
        try:
            await scenario(dsn, db)
        finally:
            await db.close()

    async def run_all(dsns: list[str]) -> list[Exception]:
        results = await asyncio.gather(*map(run, SCENARIOS[name], dsns), return_exceptions=True)
        return [result for result in results if isinstance(result, Exception)]

    with ExitStack() as stack:
        dsns = [stack.enter_context(create_database(pg, migrated_template)) for _ in SCENARIOS[name]]
        failures = asyncio.run(run_all(dsns))
    if failures:
        raise ExceptionGroup(name, failures)

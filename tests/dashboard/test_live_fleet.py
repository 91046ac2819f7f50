"""The live fleet: real databases, one that does not respond, and the sources that it opens and ends."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import asyncpg
import pytest

from tests.support.fleet_databases import PLAN_NAME, fresh_databases, register_regions
from zdd_tui.backends.actor import this_actor
from zdd_tui.cli.dashboard import _open_stored
from zdd_tui.dashboard import live_fleet
from zdd_tui.dashboard.live_fleet import LiveFleet
from zdd_tui.dashboard.live_source import LiveSource
from zdd_tui.dashboard.state import StateSource
from zdd_tui.model.errors import ZddError
from zdd_tui.model.fleet.config import FleetConfigError, FleetDatabase, FleetSettings
from zdd_tui.model.fleet.rows import Fleet
from zdd_tui.testbed.processes import free_port
from zdd_tui.testbed.servers import PostgresServer


@asynccontextmanager
async def live(load: Callable[[], FleetSettings]) -> AsyncIterator[LiveFleet]:
    fleet = LiveFleet(load, partial(_open_stored, this_actor()))
    try:
        yield fleet
    finally:
        await asyncio.to_thread(fleet.stop)


def set_from_thread(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the test has ended
        loop.call_soon_threadsafe(event.set)


async def wait_until(subscribe: Callable[[Callable[[], None]], None], is_reached: Callable[[], bool]) -> None:
    """Waits for the change after which something holds."""
    changed, loop = asyncio.Event(), asyncio.get_running_loop()
    subscribe(lambda: set_from_thread(loop, changed))
    async with asyncio.timeout(30):
        while not is_reached():
            await changed.wait()
            changed.clear()


async def wait_for(fleet: LiveFleet, is_reached: Callable[[Fleet], bool]) -> Fleet:
    await wait_until(fleet.subscribe, lambda: is_reached(fleet.fleet()))
    return fleet.fleet()


async def wait_for_release(source: StateSource) -> str:
    await wait_until(source.subscribe, lambda: source.state().release.value is not None)
    record = source.state().release.value
    assert record is not None
    return f"{record.release.name} {record.region} {record.release.state}"


@pytest.fixture
async def settings(pg: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FleetSettings]:
    async with fresh_databases(pg, 2) as dsns:
        for name, value in (await register_regions(dsns)).items():
            monkeypatch.setitem(os.environ, name, value)
        gone = FleetDatabase("gone", f"postgresql://u@127.0.0.1:{free_port()}/x")
        yield FleetSettings((FleetDatabase("eu", dsns[0]), FleetDatabase("us", dsns[1]), gone), {"demo": "blue"})


async def test_it_reads_while_it_is_shown_and_opens_releases(settings: FleetSettings) -> None:
    async with live(lambda: settings) as fleet:
        fleet.resume()
        shown = await wait_for(fleet, lambda each: each.databases > 0 and not each.pending)
        assert (shown.databases, shown.unanswered) == (3, 1)
        assert fleet.colours == {"demo": "blue"}
        assert [(row.name, row.region) for row in shown.rows if row.release_id] == [
            (PLAN_NAME, "eu 1/2"),
            (PLAN_NAME, "us 2/2"),
        ]
        done, planned = (row for row in shown.rows if row.release_id)
        first = await asyncio.wrap_future(fleet.open_release(done))
        assert await wait_for_release(first) == f"{PLAN_NAME} eu done"
        second = await asyncio.wrap_future(fleet.open_region(first.state().plan, "us"))
        assert await wait_for_release(second) == f"{PLAN_NAME} us planned"
        assert isinstance(first, LiveSource)
        assert first._thread is not None
        assert not first._thread.is_alive(), "the source of the release before has ended"
        with pytest.raises(ZddError, match="no database of the fleet has region ap"):
            await asyncio.wrap_future(fleet.open_region(first.state().plan, "ap"))
        fleet.pause()
        before = fleet.fleet()
        assert before.rows
        assert planned.urgency is not None


async def test_a_database_that_stops_answering_keeps_its_rows_marked(
    settings: FleetSettings, pg: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_fleet, "READ_INTERVAL_SECONDS", 0.1)
    name = settings.databases[1].dsn.rpartition("/")[2]
    async with live(lambda: settings) as fleet:
        fleet.resume()
        await wait_for(fleet, lambda each: each.databases > 0 and not each.pending)
        admin = await asyncpg.connect(pg.dsn)
        await admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        await admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        await admin.close()
        shown = await wait_for(fleet, lambda each: each.unanswered == 2)
        rows = [row for row in shown.rows if row.database == "us"]
        assert [row.label for row in rows] == ["NO ANSWER", "PLANNED"]
        assert rows[0].waiting_since is not None, "the time of its last answer"
        assert rows[1].is_last_known


async def test_rows_keep_the_time_of_their_reading_until_they_are_read_again(settings: FleetSettings) -> None:
    async with live(lambda: settings) as fleet:
        names = [each.name for each in settings.databases]

        def answers() -> list[float | None]:
            return [fleet.answered_at(name) for name in names]

        fleet.resume()
        await wait_for(fleet, lambda each: each.databases > 0 and not each.pending)
        fleet.pause()
        before = answers()
        assert [at is not None for at in before] == [True, True, False], "the third one does not respond"
        async with AsyncExitStack() as stack:  # nothing can be read
            for each in settings.databases[:2]:
                connection = await asyncpg.connect(each.dsn)
                stack.push_async_callback(connection.close)
                await stack.enter_async_context(connection.transaction())
                await connection.execute("LOCK TABLE zdd.release IN ACCESS EXCLUSIVE MODE")
            fleet.resume()
            await wait_for(fleet, lambda each: all(row.is_last_known for row in each.rows if row.release_id))
            assert answers() == before
        await wait_for(fleet, lambda each: not any(row.is_last_known for row in each.rows))
        assert all(now > then for now, then in zip(answers()[:2], before[:2], strict=True) if now and then)


async def test_a_configuration_that_cannot_be_used_is_a_row() -> None:
    def load() -> FleetSettings:
        raise FleetConfigError("config.toml: databse: unknown key", "did you mean database?")

    async with live(load) as fleet:
        fleet.resume()
        shown = await wait_for(fleet, lambda each: bool(each.unanswered))
        assert [(row.error, row.hint) for row in shown.rows] == [
            ("config.toml: databse: unknown key", "did you mean database?")
        ]


async def test_a_fleet_that_was_never_shown_ends_at_once() -> None:
    async with live(FleetSettings) as fleet:
        assert fleet.fleet() == Fleet()

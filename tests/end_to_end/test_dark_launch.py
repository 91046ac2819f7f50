"""Dark launch under load: back from every phase, the whole way, and a new path that is wrong gets no further."""

import asyncio
import json
from pathlib import Path

import asyncpg
import pytest

from tests.support.release import (
    assert_nobody_was_hurt,
    back_from_the_middle_of_cleanup,
    no_progress,
    production,
)
from tests.support.store import ANA
from zdd_tui.dashboard.live_source import Feeds
from zdd_tui.demo.environment import Environment
from zdd_tui.demo.release_driver import Walker
from zdd_tui.demo.state_snapshot import differences, take
from zdd_tui.model.errors import ZddError
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import CommandKind, State
from zdd_tui.model.shadow import ShadowQuery, ShadowSample

PHASES = ("rollout", "shadow-20", "shadow-100", "ramp-50", "ramp-100", "cleanup")


@pytest.mark.timeout(600)
async def test_rollback_from_every_phase_then_the_release(tmp_path: Path) -> None:
    async with production(tmp_path, strategy="dark-launch", rate=100) as (env, store):
        before = await take(env)
        for last in PHASES[:-1]:
            walker = Walker(env, store, no_progress)
            await walker.begin()
            for phase in PHASES[: PHASES.index(last) + 1]:
                await walker.advance(phase)
            await walker.rollback()
            await env.end("agent")
            assert differences(before, await take(env)) == [], f"after a rollback from {last}"
            await assert_nobody_was_hurt(env)
        # The shadow flag is deleted by then, and comes back before it goes for good.
        await back_from_the_middle_of_cleanup(env, store)
        assert differences(before, await take(env)) == [], "after a rollback from the middle of cleanup"
        await assert_nobody_was_hurt(env)
        walker = Walker(env, store, no_progress)
        await walker.begin()
        for phase in PHASES:
            await walker.advance(phase)
        assert (await walker.record()).release.state is State.DONE
        after = await take(env)
        assert after.flags == before.flags | {"users_sql_name_read": "true"}
        assert after.pods == ("shop/users-api:4",) * 2
        await assert_nobody_was_hurt(env)


@pytest.mark.timeout(400)
async def test_a_new_path_that_is_wrong_is_seen_by_the_gate_and_by_nobody_else(tmp_path: Path) -> None:
    async with production(tmp_path, strategy="dark-launch", rate=100, mistaken=True) as (env, store):
        before = await take(env)
        walker = Walker(env, store, no_progress)
        await walker.begin()
        await walker.advance("rollout")
        await walker.enter("shadow-20")
        record = await walker.until(
            lambda record: (
                record.release.state is State.WAITING
                and (gate := record.gates.get("shadow-agrees")) is not None
                and gate.verdict is Verdict.FAIL
            )
        )
        assert "mismatch; differs: name" in record.gates["shadow-agrees"].reason
        await assert_the_dashboard_tells_which_answers_differ(env)
        with pytest.raises(ZddError, match="shadow-agrees"):
            await walker.command(CommandKind.ADVANCE)
        await walker.rollback()
        await env.end("agent")
        assert differences(before, await take(env)) == []
        await assert_nobody_was_hurt(env)


async def assert_the_dashboard_tells_which_answers_differ(env: Environment) -> None:
    """By the logs of the real pods: the user, and the name as it stands in the table against what the new path says."""
    plan = load_plan(env.plan_file.read_text(), source="plan.yaml", environ=env.environ).plan
    feeds = Feeds(plan, actor=ANA)
    feeds.start(wait_for_screen=0)
    connection = await asyncpg.connect(env.postgres.dsn)
    try:
        async with asyncio.timeout(60):
            # The load changes rows: some sample is of one that still has the name.
            while True:
                found = await asyncio.wrap_future(feeds.ask(ShadowQuery()))
                assert found.known >= len(found.samples) > 0
                assert (found.pods, found.unread) == (2, 0)
                if [sample for sample in found.samples if await _old_as_in_the_table(connection, sample)]:
                    return
                await asyncio.sleep(0.5)
    finally:
        await connection.close()
        assert await asyncio.to_thread(feeds.stop, 5.0)


async def _old_as_in_the_table(connection: asyncpg.Connection, sample: ShadowSample) -> bool:
    (field,) = sample.fields
    assert (field.name, field.how) == ("name", "only case")
    assert field.old.casefold() == field.new.casefold()
    assert field.old != field.new
    name = await connection.fetchval(
        "SELECT first_name || CASE WHEN last_name = '' THEN '' ELSE ' ' || last_name END FROM users WHERE id = $1",
        int(sample.unit),
    )
    return name == json.loads(field.old)

"""What the guard writes: readings as they were, one rollback whatever happens, and a cause that stays."""

import asyncio
from dataclasses import replace

import pytest

from tests.support.store import AGENT, ANA, OTHER, open_store
from zdd_tui.backends.store import guard as guard_store
from zdd_tui.backends.store.agent import AgentStore, acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.model.errors import StaleEpoch
from zdd_tui.model.guard.decisions import GuardDecision
from zdd_tui.model.plan.guard import GuardAction, MetricUnit
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import CommandRequest, GuardReading, MetricsProbe
from zdd_tui.model.release.state import CommandKind, ReleaseState

READING = GuardReading(
    rule="errors",
    verdict=Verdict.FAIL,
    reason="v2 errors 12.4%, limit 1%",
    unit=MetricUnit.RATIO,
    value=0.124,
    baseline=0.002,
    limit=0.01,
    samples=1240,
    series=(0.001, None, 0.124),
    action=GuardAction.ROLLBACK,
    should_act=True,
    max_age=7.5,
)
ROLLBACK = GuardDecision("errors", GuardAction.ROLLBACK, CommandKind.ROLLBACK, "errors: v2 errors 12.4%, limit 1%")
PAUSE = GuardDecision("slow", GuardAction.PAUSE, CommandKind.PAUSE, "slow: v2 p99 3s, limit 200ms")


async def start_release(
    store: Store, release_id: int, dsn: str, state: ReleaseState = ReleaseState.RUNNING
) -> AgentStore:
    agent = await acquire_lease(dsn, release_id, AGENT)
    assert agent is not None
    await agent.save(replace((await store.read_release(release_id)).release, state=state, phase=0))
    return agent


async def test_a_failed_probe_keeps_the_time_of_the_last_response(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id), await start_release(store, release_id, pg_dsn) as agent:

        async def probe(error: str) -> MetricsProbe:
            await guard_store.save_probe(agent, error)
            found = (await store.read_release(release_id)).metrics_probe
            assert found is not None
            assert found.error == error
            return found

        assert (await probe("refused")).answered_at is None, "it has never responded"
        assert await guard_store.load_snapshot(agent)
        answered = (await probe("")).answered_at
        assert answered is not None
        assert (await probe("no response within 5 s")).answered_at == answered
        assert ((await probe("")).answered_at or 0.0) > answered


async def test_readings_are_read_as_written(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id), await start_release(store, release_id, pg_dsn) as agent:
        idle = GuardReading("slow", Verdict.INCONCLUSIVE, "only v1 runs", is_applicable=False)
        for _ in range(2):
            await guard_store.save_readings(agent, [READING, idle], {READING.rule: 7.0, idle.rule: 0.0})
        record = await store.read_release(release_id)
        errors, slow = record.guard
        assert 7 <= errors.age(record.now) < 12, "its data are older than the reading"
        assert 0 <= slow.age(record.now) < 5
        assert replace(errors, observed_at=0.0) == READING
        assert replace(slow, observed_at=0.0) == idle
        output = [(event.message, event.reason) for event in record.events if event.kind == "guard"]
        assert output == [("errors: fail", READING.reason), ("slow: inconclusive", idle.reason)], "said once"


async def test_a_decision_is_queued_once(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id), await start_release(store, release_id, pg_dsn) as agent:
        await guard_store.save_readings(agent, [READING], {READING.rule: 0.0})
        requested = await asyncio.gather(*(guard_store.execute_decision(agent, ROLLBACK) for _ in range(4)))
        assert sorted(requested) == [False, False, False, True]
        assert await guard_store.has_requested_rollback(agent)
        record = await store.read_release(release_id)
        assert [(one.kind, one.actor.name, one.request.reason) for one in record.commands] == [
            (CommandKind.ROLLBACK, "guard", ROLLBACK.reason)
        ]
        assert (record.cause, record.guard[0].action_taken) == (ROLLBACK.reason, "rollback")
        assert not await guard_store.execute_decision(agent, replace(ROLLBACK, rule="another"))


async def test_the_next_agent_knows_the_requested_rollback(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id), await start_release(store, release_id, pg_dsn) as agent:
        assert not await guard_store.has_requested_rollback(agent)
        await guard_store.execute_decision(agent, ROLLBACK)
        await agent.release_lease()
        second = await acquire_lease(pg_dsn, release_id, OTHER)
        assert second is not None
        async with second:
            assert await guard_store.has_requested_rollback(second)
            assert not await guard_store.execute_decision(second, ROLLBACK)
        with pytest.raises(StaleEpoch):
            await guard_store.execute_decision(agent, PAUSE)
        with pytest.raises(StaleEpoch):
            await guard_store.save_readings(agent, [READING], {READING.rule: 0.0})


@pytest.mark.parametrize(
    "state", [ReleaseState.PLANNED, ReleaseState.DONE, ReleaseState.ROLLED_BACK, ReleaseState.ROLLING_BACK]
)
async def test_no_command_for_a_release_that_has_not_started_has_ended_or_rolls_back(
    pg_dsn: str, state: ReleaseState
) -> None:
    async with (
        open_store(pg_dsn) as (store, release_id),
        await start_release(store, release_id, pg_dsn, state) as agent,
    ):
        assert not await guard_store.execute_decision(agent, ROLLBACK)
        record = await store.read_release(release_id)
        assert (record.commands, record.cause) == ((), "")


async def test_the_cause_of_a_pause_goes_with_it_and_that_of_a_rollback_stays(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id), await start_release(store, release_id, pg_dsn) as agent:
        release = (await store.read_release(release_id)).release
        assert await guard_store.execute_decision(agent, PAUSE)
        await agent.save(replace(release, paused=True))
        assert (await store.read_release(release_id)).cause == PAUSE.reason
        await agent.save(release)
        assert (await store.read_release(release_id)).cause == "", "somebody has resumed"
        await agent.save(replace(release, paused=True))
        assert await guard_store.execute_decision(agent, ROLLBACK)
        await agent.save(replace(release, state=ReleaseState.ROLLING_BACK))
        await agent.save(replace(release, state=ReleaseState.ROLLED_BACK))
        assert (await store.read_release(release_id)).cause == ROLLBACK.reason


async def test_an_operator_may_still_roll_back(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id), await start_release(store, release_id, pg_dsn) as agent:
        await guard_store.execute_decision(agent, ROLLBACK)
        for _ in range(2):
            await store.send_command(release_id, CommandRequest(CommandKind.ROLLBACK), actor=ANA)
        assert len((await store.read_release(release_id)).commands) == 3

"""For what the agent waits is said within seconds: in the note of a step, and in the audit where no step runs."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import SecretStr

from tests.support.command_line import wait_until
from tests.support.store import AGENT, ANA, open_store, plan_for
from zdd_tui.backends.kubernetes.errors import ApiUnreachable, KubeApiError
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.cli.status import format_status
from zdd_tui.engine import waits
from zdd_tui.engine.agent import Agent
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.retry import with_retry
from zdd_tui.engine.steps.rollout import build_status, wait_until_done
from zdd_tui.model.errors import BackendError
from zdd_tui.model.release.claims import assess_activity, list_agent_waits
from zdd_tui.model.release.records import CommandRequest, StepRecord
from zdd_tui.model.release.state import CommandKind, StepStatus
from zdd_tui.model.workload.rollout import RolloutStatus


async def poll(ctx: Context, step: StepHandle, request: Callable[[], Awaitable[RolloutStatus]]) -> None:
    await wait_until_done(ctx, step, request, subject="rollout of users", resource="deployment/users")


@pytest.mark.parametrize("wait", [poll, with_retry])
async def test_a_silent_system_is_in_the_note_of_the_step_before_its_request_gives_up(
    pg_dsn: str, monkeypatch: pytest.MonkeyPatch, wait: Callable[..., Awaitable[Any]]
) -> None:
    monkeypatch.setattr(waits, "FRESH_SECONDS", 1.0)
    notes: list[str] = []
    attempts: list[tuple[float, BackendError | None]] = [
        (1.4, ApiUnreachable("api does not respond")),
        (0.3, ApiUnreachable("api does not respond")),
        (0.0, KubeApiError("status 503", status=503)),
        (0.0, None),
    ]

    async def request() -> RolloutStatus:
        seconds, error = attempts.pop(0)
        await asyncio.sleep(seconds)
        if error is not None:
            raise error
        return build_status("")

    async def note(text: str) -> None:
        notes.append(text)

    async def ignore(*_: Any) -> None: ...

    async with open_store(pg_dsn) as (_, release_id):
        store = await acquire_lease(pg_dsn, release_id, AGENT)
        assert store is not None
        async with store:
            ctx = Context(plan_for(pg_dsn), store, None, None, lambda: False, lambda _line: None)
            record = StepRecord("step", StepStatus.STARTED)
            step = StepHandle(record, write_note=note, write_detail=ignore, write_done=ignore)
            await wait(ctx, step, request)
    said = list(dict.fromkeys(re.sub(r"\d+(s?)", r"N\1", text) for text in notes))
    assert said == [
        "waits for Kubernetes: unavailable for Ns: no response",
        "waits for Kubernetes: unavailable for Ns: api does not respond",
        "waits for Kubernetes: unavailable for Ns: status N",
    ]


async def test_a_frozen_system_is_named_before_its_connection_gives_up(pg_dsn: str) -> None:
    frozen = socket.create_server(("127.0.0.1", 0))  # connections are accepted, and nothing is said
    port = frozen.getsockname()[1]
    plan = plan_for(pg_dsn)
    flags = plan.flags.model_copy(update={"url": SecretStr(f"redis://127.0.0.1:{port}/0")})
    async with open_store(pg_dsn) as (store, release_id):
        agent = asyncio.create_task(Agent(plan.model_copy(update={"flags": flags}), release_id, AGENT, log=print).run())
        try:
            found = await wait_until(lambda: waits_for_redis(store, release_id))
            assert found == ["Redis: no response"]
            await store.send_command(release_id, CommandRequest(CommandKind.ADVANCE), actor=ANA)
            text = " ".join(format_status(await store.read_release(release_id)).split())
            assert re.search(r"… advance by ana@bastion .*queued .* ago; not accepted by the agent yet", text)
            assert "? the agent waits for Redis: " in text
        finally:
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)
            frozen.close()


async def waits_for_redis(store: Store, release_id: int) -> list[str]:
    record = await store.read_release(release_id)
    return [each for each in list_agent_waits(record, assess_activity(record.lease, 0.0)) if each.startswith("Redis")]

"""The guard on a real release with real pods: it lets through what is well, and takes back what is not."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.metric_servers import serving
from tests.support.release import assert_nobody_was_hurt, no_progress, production
from zdd_tui.cli.status import as_document, as_text
from zdd_tui.demo.environment import Environment
from zdd_tui.demo.release_driver import Walker
from zdd_tui.demo.state_snapshot import differences, take
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import State

GUARD = """
guard:
  interval: 500ms
  sources:
    probe: {{url: "{url}", timeout: 1s}}
  rules:
    - {{name: errors, metric: error-rate, limit: 5%, window: 10s, min_samples: 5}}
    - {{name: p99, metric: latency, limit: 4s, window: 10s, min_samples: 5}}
    - {{name: crashes, metric: restarts, limit: 2}}
    - {{name: front, metric: error-rate, source: probe, limit: 50%, window: 4s, min_samples: 3, for: 500ms}}
"""


class Front:
    """What stands before the service, as the probe sees it."""

    def __init__(self) -> None:
        self.status = 200

    async def answer(self, _request: web.Request) -> web.Response:
        return web.Response(status=self.status)


def add_guard(env: Environment, url: str) -> None:
    plain = env.plan_file.read_text().split("\nguard:")[0]
    env.plan_file.write_text(plain + GUARD.format(url=url))


async def until(walker: Walker, there: object) -> ReleaseRecord:
    async with asyncio.timeout(60):
        while True:
            record = await walker.record()
            if there(record):  # type: ignore[operator]
                return record
            await asyncio.sleep(0.1)


@pytest.mark.timeout(240)
async def test_the_guard_lets_a_good_release_through_and_rolls_a_bad_one_back_by_itself(tmp_path: Path) -> None:
    front = Front()
    async with production(tmp_path, rate=60) as (env, store), serving(front.answer) as url:
        add_guard(env, url)
        before = await take(env)
        walker = Walker(env, store, no_progress)
        await walker.begin()
        await walker.advance("expand")
        await walker.advance("dual-write")  # the gate `guard` has passed twice, on numbers of real pods of V1 and V2
        record = await walker.record()
        assert record.gates["guard"].verdict is Verdict.PASS
        errors = next(reading for reading in record.guard if reading.rule == "errors")
        assert errors.verdict is Verdict.PASS
        assert errors.samples >= 5
        assert record.cause == ""

        front.status = 503  # while the release waits for a person at the gate
        record = await until(walker, lambda one: one.release.state is State.ROLLED_BACK)
        await env.end("agent")
        assert differences(before, await take(env)) == []
        await assert_nobody_was_hurt(env)

    assert record.cause.startswith("front: service errors ")
    assert "limit 50%" in record.cause
    asked = [command for command in record.commands if command.actor.name == "guard"]
    assert [(one.kind, one.status, one.reason) for one in asked] == [("rollback", "done", record.cause)]
    assert as_text(record).splitlines()[0] == f"✗ GUARD: {record.cause}"[: len(as_text(record).splitlines()[0])]
    assert as_document(record)["cause"] == record.cause
    said = [event for event in record.events if event.actor.name == "guard"]
    assert any(event.kind == "guard" and event.what == "front: fail" for event in said)
    assert any(event.kind == "command" and event.why == record.cause for event in said)

"""The guard on a real release with real pods: it passes a healthy version and rolls a failing one back."""

from pathlib import Path

import pytest
from aiohttp import web

from tests.support.metric_servers import serve_handler
from tests.support.release import assert_no_failures, ignore_progress, start_production
from zdd_tui.cli.status import format_status, status_to_dict
from zdd_tui.demo.environment import Environment
from zdd_tui.demo.release_driver import ReleaseDriver
from zdd_tui.demo.state_snapshot import describe_differences, read_environment_state
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import ReleaseState

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


class FrontServer:
    """The server in front of the service that the probe requests."""

    def __init__(self) -> None:
        self.status = 200

    async def answer(self, _request: web.Request) -> web.Response:
        return web.Response(status=self.status)


def add_guard(env: Environment, url: str) -> None:
    plain = env.plan_file.read_text().split("\nguard:")[0]
    env.plan_file.write_text(plain + GUARD.format(url=url))


@pytest.mark.timeout(240)
async def test_the_guard_passes_a_healthy_release_and_rolls_a_failing_one_back(tmp_path: Path) -> None:
    front = FrontServer()
    async with start_production(tmp_path, rate=60) as (env, store), serve_handler(front.answer) as url:
        add_guard(env, url)
        before = await read_environment_state(env)
        driver = ReleaseDriver(env, store, ignore_progress)
        await driver.start_release()
        await driver.run_phase("expand")
        await driver.run_phase("dual-write")  # the gate `guard` has passed twice, on data of real pods of V1 and V2
        record = await driver.read_record()
        assert record.gates["guard"].verdict is Verdict.PASS
        errors = next(reading for reading in record.guard if reading.rule == "errors")
        assert errors.verdict is Verdict.PASS
        assert errors.samples >= 5
        assert record.cause == ""

        front.status = 503  # while the release waits for approval
        record = await driver.wait_until(lambda record: record.release.state is ReleaseState.ROLLED_BACK)
        await env.stop("agent")
        assert describe_differences(before, await read_environment_state(env)) == []
        await assert_no_failures(env)

    assert record.cause.startswith("front: service errors ")
    assert "limit 50%" in record.cause
    commands = [command for command in record.commands if command.actor.name == "guard"]
    assert [(each.kind, each.status, each.request.reason) for each in commands] == [("rollback", "done", record.cause)]
    first_line = format_status(record).splitlines()[0]
    assert first_line == f"✗ GUARD: {record.cause}"[: len(first_line)]
    assert status_to_dict(record)["cause"] == record.cause
    events = [event for event in record.events if event.actor.name == "guard"]
    assert any(event.kind == "guard" and event.message == "front: fail" for event in events)
    assert any(event.kind == "command" and event.reason == record.cause for event in events)

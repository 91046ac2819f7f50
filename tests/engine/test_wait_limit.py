"""A release that waits longer than its plan allows: reported once, and first in the status."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.command_line import NAME, CliEnvironment, make_environment

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def here(tmp_path: Path, pg_dsn: str, redis_url: str) -> AsyncIterator[CliEnvironment]:
    async with make_environment(tmp_path, pg_dsn, redis_url) as made:
        yield made


async def waiting_release(here: CliEnvironment) -> list[str]:
    text = "SELECT coalesce(string_agg(message, E'\\n' ORDER BY id), '') FROM zdd.event WHERE kind = 'wait'"
    return str(await here.fetchval(text)).splitlines()


async def test_a_wait_over_its_limit_is_reported_once(here: CliEnvironment) -> None:
    here.plan_file.write_text(here.plan_file.read_text().split("\nguard:")[0] + "\n")
    here.rewrite("wait_limit: 1d", "wait_limit: 1s")
    async with here.run_agent() as agent:
        await agent.wait_for_output("holding the lease")
        sent = await here.run_zdd("advance", "--yes", "--unrehearsed", "--reason", "a test")
        assert sent.code == 0, sent.err
        assert (await here.run_zdd("status", "--wait", "expand", "--timeout", "1m")).code == 0
        await agent.wait_for_output("waiting for you for ")
    async with here.run_agent() as another:
        await another.wait_for_output("holding the lease")
        document = json.loads((await here.run_zdd("status", "--json", "--wait", "expand", "--timeout", "1m")).out)
        assert document["waits"]["over"]
        assert (document["waits"]["owner"], document["waits"]["limit"]) == ("you", 1.0)
        shown = (await here.run_zdd("status")).out.splitlines()
        assert shown[0] == f"{NAME}: waiting in expand (demo)"
        assert shown[1].startswith("  ✗ LATE: waiting for you for ")
        # The next phase cannot be left here, where no pod runs: its gates fail, and that is no wait.
        assert (await here.run_zdd("pause")).code == 0
        assert (await here.run_zdd("status")).out.count("LATE") == 0
    (text,) = await waiting_release(here)
    assert text.startswith("waiting for you for "), "the second agent must not report the same wait"

"""A release that waits longer than its plan allows: said once, by whichever agent notices, and first in its status."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.command_line import NAME, Ground, ground

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def here(tmp_path: Path, pg_dsn: str, redis_url: str) -> AsyncIterator[Ground]:
    async with ground(tmp_path, pg_dsn, redis_url) as made:
        yield made


async def waits(here: Ground) -> list[str]:
    told = "SELECT coalesce(string_agg(what, E'\\n' ORDER BY id), '') FROM zdd.event WHERE kind = 'wait'"
    return str(await here.fetchval(told)).splitlines()


async def test_a_wait_over_its_limit_is_told_once(here: Ground) -> None:
    here.plan.write_text(here.plan.read_text().split("\nguard:")[0] + "\n")
    here.rewrite("wait_limit: 1d", "wait_limit: 1s")
    async with here.agent() as agent:
        await agent.says("holding the lease")
        sent = await here.zdd("advance", "--yes", "--unrehearsed", "--reason", "a test")
        assert sent.code == 0, sent.err
        assert (await here.zdd("status", "--wait", "expand", "--timeout", "1m")).code == 0
        await agent.says("for you, limit 1.0s")
    async with here.agent() as another:
        await another.says("holding the lease")
        document = json.loads((await here.zdd("status", "--json", "--wait", "expand", "--timeout", "1m")).out)
        assert document["waits"]["over"]
        assert (document["waits"]["owner"], document["waits"]["limit"]) == ("you", 1.0)
        shown = (await here.zdd("status")).out.splitlines()
        assert shown[0] == f"{NAME}: waiting in expand (demo)"
        assert shown[1].startswith("  ✗ LATE: waits ")
        # The next phase cannot be left here, where no pod runs: its gates say no, and that is no wait.
        assert (await here.zdd("pause")).code == 0
        assert (await here.zdd("status")).out.count("LATE") == 0
    (told,) = await waits(here)
    assert told.endswith("for you, limit 1.0s"), "the second agent says nothing of the same wait"

"""A malformed command does not end the agent, nor the next one (case C6): the real process."""

from pathlib import Path

import pytest

from tests.support.command_line import make_environment

pytestmark = pytest.mark.timeout(300)


async def test_c6_the_agent_lives_through_malformed_commands(tmp_path: Path, pg_dsn: str, redis_url: str) -> None:
    async with make_environment(tmp_path, pg_dsn, redis_url) as here:
        async with here.run_agent() as agent:
            await agent.wait_for_output("holding the lease")
            for kind, args in (("advance", "[]"), ("advance", '{"expected":1}'), ("tune", '{"tuning":{"speed":1e30}}')):
                await here.fetchval(
                    "INSERT INTO zdd.command (release_id, kind, args, actor, host)"
                    " SELECT id, $1, $2, 'eve', 'x' FROM zdd.release RETURNING id",
                    kind, args,
                )  # fmt: skip
            sent = await here.run_zdd("pause")  # it is answered after the three
            assert sent.code in (0, 1), sent.output
            assert agent.process.returncode is None, agent.log
            status = await here.run_zdd("status")
            assert status.code == 0, status.output
        refused = "SELECT count(*) FROM zdd.event WHERE kind = 'refused' AND actor = 'eve'"
        assert await here.fetchval(refused) == 3
        async with here.run_agent() as successor:
            await successor.wait_for_output("holding the lease")
            assert successor.process.returncode is None

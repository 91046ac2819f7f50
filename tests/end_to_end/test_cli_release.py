"""A release by CLI commands only, on a whole small production under load: to dual-write, then a rollback."""

import json
from pathlib import Path

import pytest

from tests.support.command_line import NAME, CliEnvironment
from tests.support.release import assert_no_failures, start_production
from zdd_tui.demo.state_snapshot import describe_differences, read_environment_state


@pytest.mark.timeout(300)
async def test_a_release_and_its_rollback_by_commands(tmp_path: Path) -> None:
    async with start_production(tmp_path) as (env, _store):
        before = await read_environment_state(env)
        here = CliEnvironment(env.folder, env.environ)
        assert (await here.run_zdd("check")).code == 0

        async with here.run_agent() as agent:
            await agent.wait_for_output("holding the lease")
            for phase in ("expand", "dual-write"):
                sent = await here.run_zdd("advance", "--yes", "--reason", f"time for {phase}")
                assert (sent.code, sent.out) == (0, f"advance accepted: {phase} is running\n"), sent.err
                reached = await here.run_zdd("status", "--wait", phase, "--timeout", "2m")
                assert reached.code == 0, reached.output
                assert reached.out.startswith(f"{NAME}: waiting in {phase} (demo)\n")

            document = json.loads((await here.run_zdd("status", "--json")).out)
            assert [gate["verdict"] for gate in document["gates"]] == ["pass", "pass"]
            assert document["next_phase"] == "backfill"
            assert document["agent"]["pid"] == agent.process.pid

            sent = await here.run_zdd("rollback", "--yes", "--reason", "wrong customer")
            assert sent.code == 0, sent.err
            reached = await here.run_zdd("status", "--wait", "rolled-back", "--timeout", "2m")
            assert (reached.code, reached.out.partition("\n")[0]) == (0, f"{NAME}: rolled-back (demo)"), reached.output
            assert await agent.wait_for_exit() == 0

        reasons = await here.fetchval(
            "SELECT string_agg(reason, ', ' ORDER BY id) FROM zdd.event WHERE kind = 'command'"
        )
        assert reasons == "time for expand, time for dual-write, wrong customer"
        for secret in here.secrets:
            assert secret not in agent.log
        assert describe_differences(before, await read_environment_state(env)) == []
        await assert_no_failures(env)

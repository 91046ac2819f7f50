"""A release driven by commands alone, on a whole small production under load: forward to dual-write, then back."""

import json
from pathlib import Path

import pytest

from tests.support.command_line import NAME, Ground
from tests.support.release import assert_nobody_was_hurt, production
from zdd_tui.demo.state_snapshot import differences, take


@pytest.mark.timeout(300)
async def test_forward_and_back_by_commands(tmp_path: Path) -> None:
    async with production(tmp_path) as (env, _store):
        before = await take(env)
        here = Ground(env.folder, env.environ)
        assert (await here.zdd("check")).code == 0

        async with here.agent() as agent:
            await agent.says("holding the lease")
            for phase in ("expand", "dual-write"):
                sent = await here.zdd("advance", "--yes", "--reason", f"time for {phase}")
                assert (sent.code, sent.out) == (0, f"advance done: {phase} is running\n"), sent.err
                reached = await here.zdd("status", "--wait", phase, "--timeout", "2m")
                assert reached.code == 0, reached.said
                assert reached.out.startswith(f"{NAME}: waiting in {phase} (demo)\n")

            document = json.loads((await here.zdd("status", "--json")).out)
            assert [gate["verdict"] for gate in document["gates"]] == ["pass", "pass"]
            assert document["next_phase"] == "backfill"
            assert document["agent"]["pid"] == agent.process.pid

            sent = await here.zdd("rollback", "--yes", "--reason", "wrong customer")
            assert sent.code == 0, sent.err
            reached = await here.zdd("status", "--wait", "rolled-back", "--timeout", "2m")
            assert (reached.code, reached.out.partition("\n")[0]) == (0, f"{NAME}: rolled-back (demo)"), reached.said
            assert await agent.ends() == 0

        why = await here.fetchval("SELECT string_agg(why, ', ' ORDER BY id) FROM zdd.event WHERE kind = 'command'")
        assert why == "time for expand, time for dual-write, wrong customer"
        for secret in here.secrets:
            assert secret not in agent.log
        assert differences(before, await take(env)) == []
        await assert_nobody_was_hurt(env)

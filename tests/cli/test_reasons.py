"""A plan that asks for reasons: neither the command line nor the agent takes a command without one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.command_line import NAME, CliEnvironment, make_environment
from zdd_tui.backends.store.client import Store
from zdd_tui.model.release.records import Actor, CommandRequest
from zdd_tui.model.release.state import CommandKind

pytestmark = pytest.mark.timeout(300)  # some processes, on a machine that may do much else


@pytest.fixture
async def here(tmp_path: Path, pg_dsn: str, redis_url: str) -> AsyncIterator[CliEnvironment]:
    async with make_environment(tmp_path, pg_dsn, redis_url) as made:
        yield made


async def test_without_a_reason_nothing_is_sent_and_nothing_accepted(here: CliEnvironment) -> None:
    here.rewrite("environment: demo\n", "environment: demo\nconfirm:\n  reason: [pause, rollback]\n")
    async with here.run_agent() as agent:
        await agent.wait_for_output("holding the lease")
        refused = await here.run_zdd("pause")
        assert refused.code == 2
        assert f"pause requires a reason (confirm.reason in {here.plan_file}); nothing was sent" in refused.err
        assert "--reason TEXT" in refused.err
        assert await here.fetchval("SELECT count(*) FROM zdd.command") == 0

        async with await Store.open(here.environ["DATABASE_URL"]) as store:
            found = await store.find_release(NAME)
            assert found is not None
            sent = await store.send_command(
                found, CommandRequest(CommandKind.PAUSE, " "), actor=Actor("ana", "bastion")
            )
            answer = await store.wait_command(sent, 60)
            assert answer.status == "refused"
            assert "the plan requires a reason to pause" in answer.outcome
            assert not (await store.read_release(found)).release.paused

        accepted = await here.run_zdd("pause", "--reason", "lag")
        assert (accepted.code, accepted.err) == (0, "")
        assert "lag" in str(await here.fetchval("SELECT string_agg(reason, ',') FROM zdd.event"))
        back = await here.run_zdd("rollback", "--yes")
        assert "asks for a reason" not in back.output

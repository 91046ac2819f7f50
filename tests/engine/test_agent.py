"""Agents as processes: one works and the others stand by; all wait for unreachable systems."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.command_line import NAME, AgentProcess, CliEnvironment, make_environment, wait_until
from tests.support.kubelet import read, write_config
from tests.support.tcp_relay import Relay
from zdd_tui.testbed.processes import free_port

pytestmark = pytest.mark.timeout(300)  # a dozen processes each, on a machine that may do much else

TAKEOVER_SECONDS = 5.0
"""The budget of design section 10."""


@pytest.fixture
async def here(tmp_path: Path, pg_dsn: str, redis_url: str) -> AsyncIterator[CliEnvironment]:
    async with make_environment(tmp_path, pg_dsn, redis_url) as made:
        yield made


async def find_lease_holder(here: CliEnvironment, *agents: AgentProcess) -> tuple[AgentProcess, AgentProcess]:
    """The agent that holds the lease, then the one that stands by.

    From the lease itself: on a slow machine an agent that renews too late loses it, and its log has both states.
    """

    async def find() -> tuple[AgentProcess, AgentProcess] | None:
        pid = await here.fetchval("SELECT pid FROM zdd.lease WHERE holder <> ''") if await has_lease(here) else None
        working = [agent for agent in agents if agent.process.pid == pid and "holding the lease" in agent.log]
        waiting = [agent for agent in agents if agent.process.pid != pid and "standing by" in agent.log]
        return (working[0], waiting[0]) if working and waiting else None

    found: tuple[AgentProcess, AgentProcess] = await wait_until(find)
    return found


async def has_lease(here: CliEnvironment) -> bool:
    """Whether the agents have created their schema already."""
    return bool(await here.fetchval("SELECT to_regclass('zdd.lease') IS NOT NULL"))


async def is_logged(agent: AgentProcess, text: str, times: int) -> bool:
    return agent.log.count(text) >= times


async def events(here: CliEnvironment, kind: str) -> list[str]:
    text = await here.fetchval(
        "SELECT coalesce(string_agg(message || '|' || reason, E'\\n' ORDER BY id), '') FROM zdd.event WHERE kind = $1",
        kind,
    )
    return str(text).splitlines()


async def test_one_agent_works_and_the_other_takes_over(here: CliEnvironment) -> None:
    async with here.run_agent() as one, here.run_agent() as two:
        first, second = await find_lease_holder(here, one, two)
        assert await here.fetchval("SELECT count(*) FROM zdd.release") == 1

        assert await first.wait_for_exit(signal.SIGKILL) == -signal.SIGKILL
        async with here.run_agent() as new:
            # Whichever of the two is faster: both wait for the lease until it expires.
            holder, waiting = await find_lease_holder(here, second, new)
            silence = re.findall(r"no renewal by \S+ for ([\d.]+) s", "\n".join(await events(here, "lease")))
            assert float(silence[-1]) <= TAKEOVER_SECONDS
            before = waiting.log.count("holding the lease")
            assert await holder.wait_for_exit(signal.SIGTERM) == 0
            assert "stopped by a signal" in holder.log
            await wait_until(lambda: is_logged(waiting, "holding the lease", before + 1))
            # Released, not expired: no agent was silent.
            given, taken = (await events(here, "lease"))[-2:]
            assert given.startswith("released the lease")
            assert taken.startswith("acquired the lease")
            assert taken.endswith("|")
            assert waiting.log.count("standing by") <= before + 1, "the log fills while an agent stands by"

            unneeded = await here.run_zdd("agent", "--if-needed")
            assert unneeded.code == 0
            assert "another agent holds the lease; nothing to do" in unneeded.err
            assert (await here.run_zdd("pause")).out == f"pause accepted: {NAME} is planned, paused\n"


async def test_an_ended_release_starts_again_only_with_new(here: CliEnvironment) -> None:
    async with here.run_agent() as agent:
        await agent.wait_for_output("holding the lease")
        ended = await here.run_zdd("rollback", "--yes", "--reason", "wrong day")
        assert (ended.code, ended.out) == (0, f"rollback accepted: {NAME} is rolled back\n")
        assert await agent.wait_for_exit() == 0

    for options in ((), ("--if-needed",)):
        again = await here.run_zdd("agent", *options)
        assert again.code == 0
        assert "has ended; to begin another: zdd agent --new" in again.err
    assert await here.fetchval("SELECT count(*) FROM zdd.release") == 1

    late = await here.run_zdd("advance", "--yes")
    assert late.code == 1
    assert f"release {NAME} has ended: it is rolled back" in late.err
    assert "--new" in late.err

    async with here.run_agent("--new") as agent:
        await agent.wait_for_output("holding the lease")
        assert await here.fetchval("SELECT count(*) FROM zdd.release") == 2
        # --new is no licence to begin a third while the second is under way.
        more = await here.run_zdd("agent", "--new", "--if-needed")
        assert (more.code, "another agent holds the lease" in more.err) == (0, True)
        assert await here.fetchval("SELECT count(*) FROM zdd.release") == 2


async def _start_behind_relay(here: CliEnvironment, system: str) -> tuple[Relay, CliEnvironment]:
    own = free_port()
    if system == "Redis":
        parts = urlsplit(here.environ["REDIS_URL"])
        away = here.with_env(REDIS_URL=parts._replace(netloc=f":{parts.password}@127.0.0.1:{own}").geturl())
    else:
        config = read(here.environ["KUBECONFIG"])
        cluster = config["clusters"][0]["cluster"]
        parts = urlsplit(cluster["server"])
        folder = here.folder / "relay"
        folder.mkdir()
        path = write_config(folder, cluster | {"server": f"https://127.0.0.1:{own}"}, **config["users"][0]["user"])
        away = here.with_env(KUBECONFIG=path)
    assert parts.port
    return Relay("127.0.0.1", parts.port, own), away


@pytest.mark.parametrize("system", ["Redis", "Kubernetes"])
async def test_a_release_is_taken_over_while_a_system_is_unreachable(here: CliEnvironment, system: str) -> None:
    async with here.run_agent() as agent:
        await agent.wait_for_output("holding the lease")
        assert await agent.wait_for_exit(signal.SIGTERM) == 0

    relay, away = await _start_behind_relay(here, system)
    async with relay, away.run_agent() as agent:
        await agent.wait_for_output(f"waiting for {system}")
        assert agent.process.returncode is None
        output: list[str] = await wait_until(lambda: events(here, "error"))  # the log is written first
        assert output[0].startswith(f"agent waits for {system}")

        # It holds the lease meanwhile: no other agent works, and the audit explains why commands wait.
        held = await here.run_zdd("agent", "--if-needed")
        assert "another agent holds the lease" in held.err
        unanswered = await here.run_zdd("pause", "--timeout", "1s")
        assert unanswered.code == 4
        assert "the pause stays queued" in unanswered.err
        assert f"agent waits for {system}" in unanswered.err
        status = await here.run_zdd("status")
        assert f"? the agent waits for {system}: " in status.out

        await relay.open_port()
        await agent.wait_for_output("pause by")
        status = await here.run_zdd("status")
        assert f"{NAME}: planned, PAUSED" in status.out
        assert "the agent waits" not in status.out


async def test_the_agent_waits_for_a_lost_database(here: CliEnvironment) -> None:
    parts = urlsplit(here.environ["DATABASE_URL"])
    assert parts.port
    relay = Relay("127.0.0.1", parts.port, free_port())
    async with relay:
        await relay.open_port()
        netloc = f"{parts.username}:{parts.password}@127.0.0.1:{relay.port}"
        away = here.with_env(DATABASE_URL=parts._replace(netloc=netloc).geturl())
        async with away.run_agent() as agent:
            await agent.wait_for_output("holding the lease")
            await relay.close_port()
            await agent.wait_for_output("retrying until it works")
            await asyncio.sleep(1.5)  # several tries: they must not fill the log
            refused = agent.log.count("refuses connections")
            assert refused <= 1, agent.log
            await relay.open_port()
            await wait_until(lambda: _count_lease_conflicts(agent))
            assert agent.process.returncode is None
            for secret in here.secrets:
                assert secret not in agent.log


async def _count_lease_conflicts(agent: AgentProcess) -> bool:
    return agent.log.count("holding the lease") == 2

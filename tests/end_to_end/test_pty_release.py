"""Whole releases by keys only: `zdd open` in a terminal, with the agent that it starts, on a real production."""

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.release import assert_no_failures, start_production
from tests.support.terminal_emulator import Emulator, run_in_emulator
from zdd_tui.backends.store.client import Store
from zdd_tui.dashboard.recording.reader import load_recording
from zdd_tui.demo.environment import Environment
from zdd_tui.model.release.records import ReleaseRecord

ENTER = "\r"
NAME = "users-full-name"


@asynccontextmanager
async def small_production(folder: Path, **options: object) -> AsyncIterator[tuple[Environment, Store]]:
    """A production; agents that were started for its plan are stopped at the end."""
    async with start_production(folder, **options) as (env, store):
        try:
            yield env, store
        finally:
            for agent in running_agents(env):
                with contextlib.suppress(psutil.NoSuchProcess):
                    agent.terminate()
            await asyncio.to_thread(psutil.wait_procs, running_agents(env), 20)


def running_agents(env: Environment) -> list[psutil.Process]:
    """The agents of this plan; no other test has its path."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if {"agent", str(env.plan_file.resolve())} <= set(process.info["cmdline"] or ())
    ]


def dashboard(env: Environment, *options: str) -> AbstractAsyncContextManager[Emulator]:
    argv = [sys.executable, "-m", "zdd_tui", "open", *options, str(env.plan_file)]
    return run_in_emulator(argv, env.environ | {"XDG_STATE_HOME": str(env.folder / "state")})


async def read_record(store: Store) -> ReleaseRecord:
    found = await store.find_release(NAME)
    assert found is not None
    return await store.read_release(found)


async def wait_until_running(terminal: Emulator, command: str) -> None:
    """The agent has taken it: what is told of it goes on by itself from there, faster than a test may look."""
    progress = re.compile(rf"(… {command} accepted by the agent|▶ {command} |✔ {command.title()} )")
    await terminal.wait_until(
        lambda text: bool(progress.search(text)) and "Enter confirm" not in text, progress.pattern
    )


async def advance(terminal: Emulator, phase: str, *shows: str) -> None:
    """Presses `a` when the screen offers it, reads the dialog, and says yes."""
    await terminal.wait_for(f"a runs {phase}", "a advance", without="once all gates pass")
    terminal.press("a")
    await terminal.wait_for(f"run {phase}", *shows, "Enter confirm")
    terminal.press(ENTER)
    await wait_until_running(terminal, "advance")


@pytest.mark.timeout(600)
async def test_a_whole_release_by_keys(tmp_path: Path) -> None:
    async with small_production(tmp_path, rows=4000, max_rows_per_second=500) as (env, store):
        async with dashboard(env) as terminal:
            await terminal.wait_for("PLANNED", "nothing has run yet", "2/2 ready", "write · unset")
            (agent,) = running_agents(env)
            await advance(terminal, "expand", "ADD COLUMN full_name text")
            await advance(terminal, "dual-write", "users-api:2")
            await advance(terminal, "backfill", "UPDATE")

            await terminal.wait_for("RUNNING", "move old rows", "p pause")
            terminal.press("p")
            paused = await terminal.wait_for("‖ PAUSED", "✔ Paused", "p resume", without="p pauses")
            assert "✔ expand ─ ✔ dual-write ─ ‖ backfill" in paused
            terminal.press("p")
            await terminal.wait_for("▶ RUNNING", "✔ Resumed")
            terminal.press("q")
            assert await terminal.wait_for_exit() == 0

        assert agent.is_running(), "the agent left with the dashboard"
        left_at = (await read_record(store)).backfill
        assert left_at is not None
        assert left_at.status == "running", "the backfill was over too early to tell"
        async with dashboard(env) as terminal:
            await terminal.wait_for("a runs cutover")
            assert running_agents(env) == [agent], "a second agent was started"
            agent = await replace_agent(terminal, env, agent)
            await advance(terminal, "cutover", "turn the read flag on", "roll out V3")
            assert running_agents(env) == [agent], "a second agent was started"
            await advance(terminal, "contract", "archive the old schema and its data")
            await leave_contract(terminal)
            await terminal.wait_for("✔ DONE", "all 6 phases are complete", "agent not needed", "q quits")
            terminal.press("q")
            assert await terminal.wait_for_exit() == 0
        assert await asyncio.to_thread(psutil.wait_procs, [agent], 20) == ([agent], [])
        await assert_no_failures(env)


async def replace_agent(terminal: Emulator, env: Environment, agent: psutil.Process) -> psutil.Process:
    """Kills the agent, and starts another one by its key."""
    agent.kill()
    await terminal.wait_for("✗ No agent is running this release", "A starts an agent")
    terminal.press("A")
    await terminal.wait_for("start an agent", "zdd agent", "Enter confirm")
    terminal.press(ENTER)
    await terminal.wait_for("a runs cutover", without="No agent is running")
    (other,) = running_agents(env)
    return other


async def leave_contract(terminal: Emulator) -> None:
    """What cannot be undone asks for the release's name, and takes no other."""
    await terminal.wait_for("a runs cleanup", "asks for the release’s name")
    terminal.press("a")
    await terminal.wait_for("run cleanup", "irreversible", f"type {NAME}")
    terminal.press(f"users-full{ENTER}")
    await terminal.wait_for("“users-full” is not the release name")
    terminal.press(f"-name{ENTER}")
    await wait_until_running(terminal, "advance")


@pytest.mark.timeout(600)
async def test_a_rollback_by_keys(tmp_path: Path) -> None:
    file = tmp_path / "release.jsonl.gz"
    async with (
        small_production(tmp_path, rows=1000) as (env, store),
        dashboard(env, "--record", str(file)) as terminal,
    ):
        await advance(terminal, "expand", "ADD COLUMN full_name text")
        await advance(terminal, "dual-write", "users-api:2")
        await terminal.wait_for("dual-write has run")
        terminal.press("R")
        await terminal.wait_for("roll back", "undo", "Enter confirm")
        terminal.press(ENTER)
        await wait_until_running(terminal, "rollback")
        done = await terminal.wait_for("◀ ROLLED BACK", "every step is undone", "agent not needed", without="STALE")
        assert "R rollback" not in done
        terminal.press("q")
        assert await terminal.wait_for_exit() == 0
        assert (await read_record(store)).release.state == "rolled-back"
        await assert_no_failures(env)
    recording = load_recording(file)
    states = [recorded.release.state for at in recording.times if (recorded := recording.state_at(at).release.value)]
    seen = list(dict.fromkeys(states))
    # A phase that is over between two readings was never seen to run.
    assert (seen[0], set(seen[1:3]), seen[3:]) == ("planned", {"running", "waiting"}, ["rolling-back", "rolled-back"])

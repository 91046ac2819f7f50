"""Whole releases by keys only: `zdd open` in a terminal, with the agent that it starts, on a real production."""

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.release import assert_no_failures, start_production
from tests.support.terminal_emulator import Emulator, run_in_emulator
from zdd_tui.backends.actor import this_actor
from zdd_tui.backends.store.client import Store
from zdd_tui.dashboard.recording.reader import load_recording
from zdd_tui.demo.environment import Environment
from zdd_tui.model.release.records import ReleaseRecord

ENTER = "\r"
NAME = "users-full-name"
ROWS, MAX_ROWS_PER_SECOND = 4000, 500


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


async def confirm(terminal: Emulator, command: str) -> None:
    """Presses Enter; again, where a reading has brought something new at that moment and the dialog says so."""
    terminal.press(ENTER)
    refused = "Enter was not taken, because this is new"
    text = await terminal.wait_until(lambda text: "Enter confirm" not in text or refused in text, "an answer to Enter")
    if refused in text:
        await terminal.wait_for("Enter confirm")
        terminal.press(ENTER)
    await wait_until_running(terminal, command)


async def advance(terminal: Emulator, phase: str, *shows: str) -> None:
    """Presses `a` when the screen offers it, reads the dialog, and says yes."""
    await terminal.wait_for(f"a runs {phase}", "a advance", without="once all gates pass")
    terminal.press("a")
    await terminal.wait_for(f"run {phase}", *shows, "Enter confirm")
    await confirm(terminal, "advance")


@pytest.mark.timeout(600)
async def test_a_whole_release_by_keys(tmp_path: Path) -> None:
    async with small_production(tmp_path, rows=ROWS, max_rows_per_second=MAX_ROWS_PER_SECOND) as (env, store):
        async with dashboard(env) as terminal:
            await terminal.wait_for("PLANNED", "nothing has run yet", "2/2 ready", "write · unset")
            (agent,) = running_agents(env)
            await advance(terminal, "expand", "ADD COLUMN full_name text")
            await advance(terminal, "dual-write", "users-api:2")
            await advance(terminal, "backfill", "UPDATE")

            await terminal.wait_for("RUNNING", "move old rows", "p pause")
            await read_eta(terminal)
            terminal.press("p")
            paused = await terminal.wait_for("‖ PAUSED", "✔ Paused", "p resume", without="p pauses")
            assert "✔ expand ─ ✔ dual-write ─ ‖ backfill" in paused
            await asyncio.sleep(1.2)  # a shorter pause is not named
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
            await read_backfill(terminal)
            await read_past_gates(terminal)
            await advance(terminal, "contract", "archive the old schema and its data")
            await leave_contract(terminal)
            await terminal.wait_for("✔ DONE", "all 6 phases are complete", "agent not needed", "q quits")
            terminal.press("q")
            assert await terminal.wait_for_exit() == 0
        assert await asyncio.to_thread(psutil.wait_procs, [agent], 20) == ([agent], [])
        await assert_no_failures(env)


async def read_eta(terminal: Emulator) -> None:
    """The first time left rests on no higher rate than the limit allows; the first batches are faster."""
    shown = re.compile(r" ([\d.]+)(k?) / ~([\d.]+)k[^E]*ETA ~?([\d.]+)s")
    found = shown.search(await terminal.wait_until(lambda text: bool(shown.search(text)), "ETA"))
    assert found is not None
    left = 1000 * float(found[3]) - float(found[1]) * (1000 if found[2] else 1)
    assert float(found[4]) > (left - 100) / MAX_ROWS_PER_SECOND - 1, found[0]


async def read_backfill(terminal: Emulator) -> None:
    """It took as long as the wall's clock says, with the pause; its batches took a tenth of a second."""
    terminal.press("2z")
    took = re.compile(r"in ([\d.]+)s, paused ([\d.]+)s")
    found = took.search(await terminal.wait_until(lambda text: bool(took.search(text)), "duration of the backfill"))
    assert found is not None
    assert float(found[1]) >= ROWS / MAX_ROWS_PER_SECOND, found[0]
    assert 1 <= float(found[2]) < float(found[1]), found[0]
    terminal.press("z")
    await terminal.wait_for("1:pods")


async def read_past_gates(terminal: Emulator) -> None:
    """What the gates of each earlier phase were when it was left, and when that was."""
    await terminal.wait_for("a runs contract")
    terminal.press("G")
    await terminal.wait_for("Tab every phase")
    terminal.press("\t")
    for page, gate in (
        ("1-20 of", "new objects"),
        ("21-40 of", "every serving pod is V2"),
        ("41-60 of", "no writer writes only"),  # it was checked in each phase since
    ):
        past = re.compile(rf"(?s)✔ passed  {gate}[^\n]* checked at \d\d:\d\d:\d\d, .*Tab this phase.*{page}")
        text = await terminal.wait_until(lambda text, past=past: bool(past.search(text)), past.pattern)
        assert "no record" not in text
        terminal.press("\x1b[6~")  # Page down
    terminal.press("q")
    await terminal.wait_for("a runs contract")


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


async def leave_contract(terminal: Emulator, name: str = NAME) -> None:
    """What cannot be undone asks for the release's name, and takes no other."""
    await terminal.wait_for("a runs cleanup", "asks for the release’s name")
    terminal.press("a")
    await terminal.wait_for("run cleanup", "irreversible", f"type {name}")
    part, rest = name[:10], name[10:]
    terminal.press(f"{part}{ENTER}")
    await terminal.wait_for(f"“{part}” is not the release name")
    terminal.press(f"{rest}{ENTER}")
    await wait_until_running(terminal, "advance")


def require_reason(env: Environment) -> Environment:
    """The plan asks for the reason of a rollback."""
    env.plan_file.write_text(f"{env.plan_file.read_text()}\nconfirm:\n  reason: [rollback]\n")
    return env


def one_line(text: str) -> str:
    """A text of the screen wherever its lines are broken."""
    return " ".join(text.split())


async def read_the_same_answer_as_on_the_command_line(terminal: Emulator, env: Environment) -> None:
    """Why a release that has ended takes no command, and what begins another."""
    terminal.press("a")
    answer = f"advance refused: release {NAME} has ended: it is rolled back (to begin another: zdd agent --new"
    shown = await terminal.wait_until(lambda text: answer in one_line(text), answer)
    assert f"zddagent--new{env.plan_file})" in "".join(shown.split()), shown
    argv = [sys.executable, "-m", "zdd_tui", "advance", str(env.plan_file)]
    process = await asyncio.create_subprocess_exec(*argv, env=env.environ, stderr=asyncio.subprocess.PIPE)
    text = (await process.communicate())[1].decode()
    assert f"release {NAME} has ended: it is rolled back" in text
    assert f"to begin another: zdd agent --new {env.plan_file}" in text


@pytest.mark.timeout(600)
async def test_a_rollback_by_keys(tmp_path: Path) -> None:
    file = tmp_path / "release.jsonl.gz"
    async with (
        small_production(tmp_path, rows=1000) as (env, store),
        dashboard(require_reason(env), "--record", str(file)) as terminal,
    ):
        await advance(terminal, "expand", "ADD COLUMN full_name text")
        await advance(terminal, "dual-write", "users-api:2")
        await terminal.wait_for("dual-write has run")
        terminal.press("R")
        await terminal.wait_for("roll back", "undo", "reason for the audit", "Enter confirm")
        terminal.press("orders fail")
        await terminal.wait_for("orders fail")
        began = time.monotonic()
        await confirm(terminal, "rollback")
        headline = re.compile(r"every step is undone, in ([\d.]+)s, triggered by (\S+).*: orders fail")
        done = await terminal.wait_until(
            lambda text: bool(headline.search(one_line(text))) and "agent not needed" in text and "STALE" not in text,
            headline.pattern,
        )
        assert "◀ ROLLED BACK" in done
        assert "R rollback" not in done
        record = await read_record(store)
        assert record.finished_at is not None
        found = headline.search(one_line(done))
        assert found is not None
        # Its own duration, which is shorter than the release's.
        assert float(found[1]) < min(time.monotonic() - began, record.finished_at - record.created_at), done
        assert found[2].startswith(str(this_actor())), done
        await read_the_same_answer_as_on_the_command_line(terminal, env)
        terminal.press("q")
        assert await terminal.wait_for_exit() == 0
        assert (await read_record(store)).release.state == "rolled-back"
        await assert_no_failures(env)
    recording = load_recording(file)
    states = [recorded.release.state for at in recording.times if (recorded := recording.state_at(at).release.value)]
    seen = list(dict.fromkeys(states))
    # A phase that is over between two readings was never seen to run.
    assert (seen[0], set(seen[1:3]), seen[3:]) == ("planned", {"running", "waiting"}, ["rolling-back", "rolled-back"])

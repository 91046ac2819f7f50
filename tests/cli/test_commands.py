"""The command line: every action of the dashboard is a command, and its exit code is the result.

Agents here are the real store driven by the test: they answer commands by the real rules and run no step.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cluster.planes import free_port
from tests.support.command_line import NAME, TIMEOUT, CliEnvironment, CommandResult, read_record, stop_process
from tests.support.tcp_relay import Relay
from tests.support.terminal_emulator import Emulator, run_in_emulator
from zdd_tui.backends.store.agent import AgentStore, acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.cli.agent import register_release
from zdd_tui.cli.status import wait_result
from zdd_tui.demo.data import create_schema, insert_seed_rows
from zdd_tui.demo.plan import plan_yaml
from zdd_tui.model.errors import Refused
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import Actor, ReleaseRecord
from zdd_tui.model.release.state import Release, ReleaseState, StepStatus, apply_command

pytestmark = pytest.mark.timeout(300)  # several processes each, on a machine that may do much else

AGENT = Actor("agent", "pod-1")


@pytest.fixture
async def here(tmp_path: Path, pg_dsn: str, redis_url: str) -> CliEnvironment:
    """A registered release of the demo's plan; no cluster and no agent."""
    await create_schema(pg_dsn)
    await insert_seed_rows(pg_dsn, 20)
    made = CliEnvironment(
        tmp_path, {**os.environ, "DATABASE_URL": pg_dsn, "REDIS_URL": redis_url, "KUBECONFIG": "/x", "COLUMNS": "80"}
    )
    made.plan_file.write_text(plan_yaml("column", "application"))
    loaded = load_plan(made.plan_file.read_text(), source=str(made.plan_file), environment=made.environ)
    async with await Store.open(pg_dsn) as store:
        await store.migrate()
        await store.register_release(
            loaded.plan,
            text=loaded.text,
            document=loaded.document,
            plan_hash=loaded.hash,
            actor=Actor("ana", "bastion"),
        )
    return made


@pytest.fixture
async def store(here: CliEnvironment) -> AsyncIterator[Store]:
    async with await Store.open(here.environ["DATABASE_URL"]) as opened:
        yield opened


@asynccontextmanager
async def lease(here: CliEnvironment, store: Store) -> AsyncIterator[AgentStore]:
    """The lease, held by the test, long enough for any test."""
    record = await read_record(store)
    held = await acquire_lease(here.environ["DATABASE_URL"], record.id, AGENT, ttl=600)
    assert held is not None
    async with held:
        yield held


@asynccontextmanager
async def run_command_handler(here: CliEnvironment, store: Store) -> AsyncIterator[AgentStore]:
    """An agent that judges commands by the rules, and runs nothing."""
    async with lease(here, store) as agent:
        task = asyncio.create_task(_handle_commands(store, agent))
        try:
            yield agent
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _handle_commands(store: Store, agent: AgentStore) -> None:
    async with aclosing(store.watch_changes(agent.release_id, idle_timeout=0.5)) as changes:
        async for _ in changes:
            while (stored := await agent.next_command()) is not None:
                record = await agent.read()
                try:
                    after = apply_command(record.release, stored.to_command, record.gates, record.now)
                except Refused as refusal:
                    await agent.complete_command(stored.id, refused=True, outcome=str(refusal), release=None)
                else:
                    await agent.complete_command(
                        stored.id, refused=False, outcome=f"it is {after.state}", release=after
                    )


async def move_release(agent: AgentStore, change: Callable[[Release], Release], *, gates: bool = False) -> None:
    """Saves the release as it would be after some work."""
    record = await agent.read()
    release = change(record.release)
    await agent.save(release)
    if gates:
        assert release.current_phase is not None
        await agent.save_gates(
            [
                GateReading(gate.name, Verdict.PASS, "all is well", record.now, 600.0)
                for gate in release.current_phase.gates
            ]
        )


def wait_in_phase(phase: str) -> Callable[[Release], Release]:
    """Everything up to the end of a phase is done."""

    def change(release: Release) -> Release:
        index = [spec.name for spec in release.strategy.phases].index(phase)
        done = {step.name for spec in release.strategy.phases[: index + 1] for step in spec.steps}
        statuses = tuple(
            StepStatus.DONE if step.name in done else StepStatus.PENDING for step in release.strategy.steps
        )
        return replace(release, state=ReleaseState.WAITING, phase=index, statuses=statuses)

    return change


def terminal(here: CliEnvironment, verb: str, *options: str) -> Any:
    return run_in_emulator([sys.executable, "-m", "zdd_tui", verb, *options, str(here.plan_file)], here.environ)


async def last_command(store: Store) -> Any:
    commands = (await read_record(store)).commands
    return commands[-1] if commands else None


# --- commands ---------------------------------------------------------------------------------------------------


async def test_pause_and_resume_with_a_reason(here: CliEnvironment, store: Store) -> None:
    async with run_command_handler(here, store):
        paused = await here.run_zdd("pause", "--reason", "lag on eu-2; 50% over")
        assert paused == CommandResult(0, "pause accepted: it is planned\n", "")
        refused = await here.run_zdd("pause")
        assert refused.code == 1
        assert refused.out == ""
        reason = "zdd: pause refused: the release is paused already\n  Fix: resume it: zdd resume"
        assert refused.err == f"{reason} {here.plan_file}\n"
        resumed = await here.run_zdd("resume")
        assert resumed.code == 0
    record = await read_record(store)
    assert record.commands[0].request.reason == "lag on eu-2; 50% over"
    assert record.commands[0].actor.name
    assert not record.release.paused
    audit = [event for event in record.events if event.kind == "command" and "pause" in event.message]
    assert audit[0].reason == "lag on eu-2; 50% over"


async def test_without_a_terminal_there_is_no_confirmation(here: CliEnvironment, store: Store) -> None:
    async with run_command_handler(here, store):
        for verb in ("advance", "rollback"):
            ended = await here.run_zdd(verb, stdin="y\n")
            assert (ended.code, ended.out) == (2, "")
            assert f"{verb} requires a confirmation, and stdin is no terminal; nothing was sent" in ended.err
            assert ended.err.endswith("\n  Fix: add --yes\n")
        assert await last_command(store) is None

        assert (await here.run_zdd("advance", "--yes")) == CommandResult(0, "advance accepted: it is running\n", "")
        sent = await last_command(store)
        assert any("ALTER TABLE users ADD COLUMN full_name text" in line for line in sent.request.targets)
        assert sent.request.expected is not None
        assert sent.request.expected.state == "planned"


async def test_gates_that_do_not_pass_refuse(here: CliEnvironment, store: Store) -> None:
    async with run_command_handler(here, store) as agent:
        await move_release(agent, wait_in_phase("expand"))
        ended = await here.run_zdd("advance", "-y")
        assert (ended.code, ended.out) == (1, "")
        assert "advance refused: gates are not open: schema-valid unknown" in ended.err
        assert "\n  Fix: " in ended.err


async def test_no_answer(here: CliEnvironment, store: Store) -> None:
    ended = await here.run_zdd("pause", "--timeout", "500ms")
    assert ended.code == 4
    assert "no agent holds the lease" in ended.err
    assert "no result within 0.5 s; the pause stays queued, and no agent is running" in ended.err
    assert f"Fix: start one with `zdd agent {here.plan_file}`" in ended.err
    async with lease(here, store) as agent:
        ended = await here.run_zdd("resume", "--timeout", "500ms")
        assert ended.code == 4
        assert "see the log of agent agent@pod-1, pid " in ended.err
        # Nothing is lost: both stay queued.
        first = await agent.next_command()
        assert first is not None
        assert first.kind == "pause"


async def test_ctrl_c_while_waiting_leaves_the_command(here: CliEnvironment, store: Store) -> None:
    process = await here.start_zdd("pause", "--timeout", "1h")
    try:
        async with asyncio.timeout(TIMEOUT):
            while await last_command(store) is None:  # noqa: ASYNC110 - another process sends it
                await asyncio.sleep(0.05)
            assert process.stderr is not None
            output = await process.stderr.readline()
            assert b"no agent holds the lease" in output
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
    finally:
        await stop_process(process)
    assert process.returncode == 130
    assert err == b"zdd: interrupted; the pause stays queued, and the agent will run it\n"
    assert (await last_command(store)).status == "queued"


async def test_an_irreversible_advance_needs_the_name(here: CliEnvironment, store: Store) -> None:
    async with run_command_handler(here, store) as agent:
        await move_release(agent, wait_in_phase("contract"), gates=True)
        ended = await here.run_zdd("advance")
        assert (ended.code, f"add --confirm {NAME}" in ended.err) == (2, True)
        ended = await here.run_zdd("advance", "--confirm", "users")
        assert (ended.code, "'users' is not the release's name; nothing was sent" in ended.err) == (1, True)
        assert await last_command(store) is None
        ended = await here.run_zdd("advance", "--yes")
        assert ended.code == 1
        assert f"--confirm {NAME}" in ended.err
        assert (await here.run_zdd("advance", "--confirm", NAME)).code == 0
        assert (await last_command(store)).request.typed == NAME


# --- in a terminal ----------------------------------------------------------------------------------------------


async def _answer(terminal: Emulator, prompt: str, typed: str) -> tuple[int, str]:
    await terminal.wait_for(prompt)
    terminal.press(typed)
    code = await terminal.wait_for_exit()
    return code, terminal.text


async def test_a_run_on_a_terminal_asks_before_it_starts(here: CliEnvironment) -> None:
    async with terminal(here, "run", "--until", "backfill") as shown:
        code, text = await _answer(shown, "Continue? [y/N]", "n\r")
        assert code == 1
        assert "zdd run advances users-full-name on public.users" in " ".join(text.split())
        await shown.wait_for("not confirmed; nothing was started")


async def test_a_run_goes_on_where_a_person_has_advanced_in_its_place(here: CliEnvironment, store: Store) -> None:
    async with lease(here, store) as agent:
        await move_release(agent, wait_in_phase("expand"), gates=True)
        run = asyncio.create_task(here.run_zdd("run", "--until", "dual-write", "--timeout", "60s"))
        async with aclosing(store.watch_changes(agent.release_id, idle_timeout=0.5)) as changes:
            async for _ in changes:
                if (stored := await agent.next_command()) is not None:
                    break
        await move_release(agent, wait_in_phase("dual-write"), gates=True)
        await agent.complete_command(
            stored.id, refused=True, outcome="expired: the release is in dual-write", release=None
        )
        ended = await run
    assert (ended.code, ended.out.splitlines()) == (0, [f"{NAME} waits after dual-write"]), ended.output
    assert "advance refused: expired: the release is in dual-write" in ended.err


async def test_a_run_stops_where_a_person_has_passed_the_phase(here: CliEnvironment, store: Store) -> None:
    async with lease(here, store) as agent:
        await move_release(agent, wait_in_phase("backfill"), gates=True)
        ended = await here.run_zdd("run", "--until", "expand", "--timeout", "60s")
    assert (ended.code, ended.out) == (0, f"{NAME} waits after backfill\n"), ended.output
    assert await last_command(store) is None


async def test_a_run_that_is_refused_again_and_again_ends(here: CliEnvironment, store: Store) -> None:
    async with lease(here, store) as agent:
        await move_release(agent, wait_in_phase("expand"), gates=True)
        run = asyncio.create_task(here.run_zdd("run", "--timeout", "1s"))
        phases = cycle(("dual-write", "expand"))
        async with aclosing(store.watch_changes(agent.release_id, idle_timeout=0.1)) as changes:
            async for _ in changes:
                if run.done():
                    break
                if (stored := await agent.next_command()) is not None:
                    await move_release(agent, wait_in_phase(next(phases)), gates=True)
                    await agent.complete_command(stored.id, refused=True, outcome="it has moved", release=None)
        ended = await run
    assert ended.code == 4, ended.output
    assert ended.err.count("advance refused: it has moved") > 1


async def test_a_run_that_is_held_says_by_what(here: CliEnvironment, store: Store) -> None:
    async with run_command_handler(here, store) as agent:
        await move_release(agent, wait_in_phase("expand"), gates=True)
        await move_release(agent, lambda release: replace(release, paused=True))
        held = await here.run_zdd("run", "--timeout", "4s")
        assert (held.code, held.err.splitlines()) == (4, ["zdd: waits: paused", "zdd: expand: paused"])
        assert await last_command(store) is None


async def test_a_run_says_for_which_sessions_a_step_waits(here: CliEnvironment, store: Store) -> None:
    """Without a limit: the timeout is for what a person decides."""
    note = "waiting for transactions with an older snapshot: pid 7 (pg_dump, active, {}s). Fix: end them"
    async with lease(here, store) as agent:
        await move_release(agent, wait_in_phase("expand"), gates=True)
        await move_release(
            agent,
            lambda release: replace(release, state=ReleaseState.ROLLING_BACK).with_status(
                "expand-schema", StepStatus.UNDOING
            ),
        )
        await agent.save_step_note("expand-schema", note.format(1))
        run = await here.start_zdd("run", "--timeout", "1s")
        try:
            assert await _read_until(run.stderr, "waits: ") == f"zdd: waits: expand-schema: {note.format(1)}\n"
            await agent.save_step_note("expand-schema", note.format(5))
            await move_release(
                agent,
                lambda release: replace(
                    release, state=ReleaseState.ROLLED_BACK, statuses=(StepStatus.UNDONE,) * len(release.statuses)
                ),
            )
            _, err = await run.communicate()
        finally:
            await stop_process(run)
        assert run.returncode == 1
        assert err.decode().splitlines()[0] == f"zdd: {NAME} is rolled-back"


async def _read_until(stream: asyncio.StreamReader | None, text: str) -> str:
    assert stream is not None
    async with asyncio.timeout(TIMEOUT):
        while text not in (line := (await stream.readline()).decode()):
            assert line, f"it ended without {text}"
    return line


async def test_a_run_says_that_the_database_is_lost_and_continues_with_it(here: CliEnvironment, store: Store) -> None:
    """The outage begins between the advance and its result: it is sent once, and the run takes up its result."""
    parts = urlsplit(here.environ["DATABASE_URL"])
    assert parts.port
    async with lease(here, store) as agent, Relay("127.0.0.1", parts.port, free_port()) as relay:
        await relay.open_port()
        netloc = f"{parts.username}:{parts.password}@127.0.0.1:{relay.port}"
        away = here.with_env(DATABASE_URL=parts._replace(netloc=netloc).geturl())
        await move_release(agent, wait_in_phase("expand"), gates=True)
        run = await away.start_zdd("run", "--until", "dual-write", "--timeout", "60s")
        try:
            async with aclosing(store.watch_changes(agent.release_id, idle_timeout=0.5)) as changes:
                async for _ in changes:
                    if (stored := await agent.next_command()) is not None:
                        break
            await relay.close_port()
            assert (await _read_until(run.stderr, "waits: ")).startswith("zdd: waits: ")
            await move_release(agent, wait_in_phase("dual-write"), gates=True)
            await agent.complete_command(stored.id, refused=False, outcome="dual-write began", release=None)
            await relay.open_port()
            out, _ = await run.communicate()
        finally:
            await stop_process(run)
        assert (run.returncode, out.decode()) == (0, f"dual-write began\n{NAME} waits after dual-write\n")
        assert len((await read_record(store)).commands) == 1
        await move_release(agent, lambda release: replace(release, paused=True))
        run = await away.start_zdd("run", "--timeout", "5s")
        try:
            await _read_until(run.stderr, "waits: paused")
            await relay.close_port()
            assert f"127.0.0.1:{relay.port}" in await _read_until(run.stderr, "waits: ")
            assert "given up after 5 s" in await _read_until(run.stderr, "given up")
            assert await run.wait() == 4
        finally:
            await stop_process(run)


async def test_a_terminal_asks(here: CliEnvironment, store: Store) -> None:
    async with run_command_handler(here, store):
        async with terminal(here, "advance") as shown:
            code, text = await _answer(shown, "Continue? [y/N]", "\r")
            assert code == 1
            assert "advance of users-full-name on public.users · default/users-api · demo will run:" in text
            assert "ALTER TABLE users ADD COLUMN full_name text" in text
            await shown.wait_for("not confirmed; nothing was sent")
        async with terminal(here, "advance") as shown:  # the end of input is no yes
            assert (await _answer(shown, "Continue? [y/N]", "\x04"))[0] == 1
        async with terminal(here, "advance") as shown:
            await shown.wait_for("Continue? [y/N]")
            shown.process.send_signal(signal.SIGINT)
            assert await shown.wait_for_exit() == 130
        assert await last_command(store) is None
        async with terminal(here, "advance") as shown:
            assert (await _answer(shown, "Continue? [y/N]", "y\r"))[0] == 0
            await shown.wait_for("advance accepted: it is running")


async def test_a_rollback_shows_what_the_dashboard_shows_before_it_asks(here: CliEnvironment, store: Store) -> None:
    async with run_command_handler(here, store) as agent:
        await move_release(agent, wait_in_phase("backfill"), gates=True)
        async with terminal(here, "rollback") as shown:
            code, text = await _answer(shown, "Continue? [y/N]", "n\r")
    assert code == 1
    words = " ".join(text.split())
    assert "USERS NOW unknown, the read flag does not exist" in words
    assert "LOST column full_name of public.users, no row was copied to it yet" in words
    assert "REHEARSED never, in this version of the plan" in words
    assert "LAST TIME no rollback of this strategy is recorded in this database" in words
    assert words.index("LAST TIME") < words.index("rollback of users-full-name on") < words.index("Continue?")
    assert await last_command(store) is None


async def test_a_terminal_asks_for_the_name_of_an_irreversible_advance(here: CliEnvironment, store: Store) -> None:
    async with run_command_handler(here, store) as agent:
        await move_release(agent, wait_in_phase("contract"), gates=True)
        async with terminal(here, "advance") as shown:
            await shown.wait_for("CANNOT BE UNDONE")
            assert (await _answer(shown, "Type the release's name to confirm", "y\r"))[0] == 1
        assert await last_command(store) is None
        async with terminal(here, "advance") as shown:
            assert (await _answer(shown, "Type the release's name to confirm", f"{NAME}\r"))[0] == 0
        assert (await last_command(store)).request.typed == NAME


# --- status -----------------------------------------------------------------------------------------------------


async def test_status_as_json_keeps_its_keys(here: CliEnvironment, store: Store) -> None:
    async with lease(here, store) as agent:
        await move_release(agent, wait_in_phase("expand"), gates=True)
        ended = await here.run_zdd("status", "--json")
    assert (ended.code, ended.err) == (0, "")
    document = json.loads(ended.out)
    assert set(document) >= {
        *("name", "environment", "strategy", "state", "phase", "next_phase", "paused", "error", "plan_hash"),
        *("agent", "gates", "steps", "backfill", "created_at", "finished_at", "now"),
    }
    assert (document["state"], document["phase"], document["next_phase"]) == ("waiting", "expand", "dual-write")
    assert set(document["agent"]) >= {"holder", "host", "pid", "epoch", "age"}
    assert {frozenset(gate) for gate in document["gates"]} == {frozenset({"name", "verdict", "reason", "age"})}
    assert document["steps"][0] == {"name": "lint-ddl", "status": "done", "note": None, "error": None}
    assert document["backfill"] is None
    for secret in here.secrets:
        assert secret not in ended.out


async def test_status_waits(here: CliEnvironment, store: Store) -> None:
    async with lease(here, store) as agent:
        late = await here.run_zdd("status", "--wait", "expand", "--timeout", "300ms")
        assert late.code == 4
        assert late.out.startswith(f"{NAME}: planned")

        waiting = asyncio.create_task(here.run_zdd("status", "--wait", "expand", "--timeout", "1m"))
        await move_release(agent, wait_in_phase("expand"))  # its gates do not pass yet
        await move_release(agent, wait_in_phase("expand"), gates=True)
        assert (await waiting).code == 0

        failing = asyncio.create_task(here.run_zdd("status", "--wait", "backfill", "--timeout", "1m"))
        await move_release(agent, lambda release: replace(release, state=ReleaseState.FAILED, error="disk full"))
        failed = await failing
        assert failed.code == 1
        assert "✗ disk full" in failed.out

        unknown = await here.run_zdd("status", "--wait", "backfil")
        assert unknown.code == 2
        assert "one of: expand, dual-write, backfill" in unknown.err

        await move_release(agent, lambda release: replace(release, state=ReleaseState.DONE, error=""))
        assert (await here.run_zdd("status", "--wait", "done")).code == 0
        assert (await here.run_zdd("status", "--wait", "rolled-back")).code == 1


async def test_a_closed_pipe_is_no_error(here: CliEnvironment) -> None:
    process = await here.start_zdd("status", "--json")
    assert process.stdout is not None
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    try:
        async with asyncio.timeout(TIMEOUT):
            assert process.stderr is not None
            err = await process.stderr.read()
            await process.wait()
    finally:
        await stop_process(process)
    assert (process.returncode, err) == (0, b"")


async def test_a_terminal_without_our_glyphs_still_answers(here: CliEnvironment) -> None:
    ended = await here.with_env(PYTHONIOENCODING="ascii", PYTHONUTF8="0").run_zdd("status")
    assert (ended.code, ended.err) == (0, "")
    assert "STALLED: no agent is running this release" in ended.out


def test_help_fits_a_terminal_and_documents_the_exit_codes() -> None:
    script = """
import contextlib, sys
from zdd_tui.cli.parser import main
def show(*words):
    with contextlib.suppress(SystemExit):
        main([*words, "--help"])
show()
for verb in sys.argv[1:]:
    show(verb)
"""
    verbs = ("open", "check", "status", "agent", "advance", "pause", "resume", "rollback", "demo")
    environ = {**os.environ, "COLUMNS": "80"}
    output = subprocess.run(
        [sys.executable, "-c", script, *verbs], env=environ, capture_output=True, text=True, check=True
    ).stdout
    assert [line for line in output.splitlines() if len(line) > 80] == []
    for code in ("0 ", "1 ", "2 ", "4 ", "130 "):
        assert f"\n    {code}" in output
    assert all(f"\n    {verb} " in output and f"usage: zdd {verb} " in output for verb in verbs)


# --- wait results ------------------------------------------------------------------------------------------------


async def test_a_wait_result_depends_on_state_and_gates(here: CliEnvironment, store: Store) -> None:
    async with lease(here, store) as agent:

        async def result_of(wait: str) -> int | None:
            record: ReleaseRecord = await agent.read()
            return wait_result(record, wait)

        assert await result_of("expand") is None
        await move_release(agent, wait_in_phase("backfill"))
        assert [await result_of(phase) for phase in ("expand", "backfill", "cutover", "done")] == [0, None, None, None]
        await move_release(agent, lambda release: replace(release, state=ReleaseState.ROLLING_BACK))
        assert [await result_of(place) for place in ("expand", "done", "rolled-back")] == [1, 1, None]


async def test_registering_again_finds_the_same_release(here: CliEnvironment, store: Store) -> None:
    """A release under way is taken over without a check: the cluster of this test does not even exist."""
    loaded = load_plan(here.plan_file.read_text(), source=str(here.plan_file), environment=here.environ)
    assert await register_release(loaded, AGENT) == (await read_record(store)).id

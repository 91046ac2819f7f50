"""`zdd agent`: registers a release and runs it; and starts such an agent detached from the terminal."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from platformdirs import user_state_path

from zdd_tui.backends.actor import this_actor
from zdd_tui.checks.plan import check_guard_dependencies, check_plan
from zdd_tui.cli.commands import open_store
from zdd_tui.cli.measurement import lock_measurement
from zdd_tui.engine.agent import LEASE_TTL, Agent
from zdd_tui.engine.runner import StepHook
from zdd_tui.model.errors import HINT_PREFIX, BackendError, ZddError
from zdd_tui.model.masking import mask_urls
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.records import Actor
from zdd_tui.model.release.regions import require_same_region
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.model.release.summary import has_no_agent

POLL_INTERVAL = 0.5
"""Seconds between two checks of a detached agent's process."""

RETRY_SECONDS = 2.0
"""Seconds between two attempts to reach the database, before an agent is started."""


async def run_agent(
    loaded: LoadedPlan,
    *,
    if_needed: bool = False,
    new: bool = False,
    ttl: float = LEASE_TTL,
    hook: StepHook | None = None,
) -> int:
    """Registers the release, unless it is already registered, and runs it until it ends.

    SIGTERM and SIGINT end the agent cleanly: it releases the lease, and the next agent continues at once.

    Args:
        if_needed: return at once where another agent holds the lease.
        new: start another release where the last one of this very plan has ended.
        ttl: seconds until the lease expires without renewal.

    Returns:
        0 when the release is done or rolled back, when there is nothing to do, or after a signal; else 1.

    Raises:
        ZddError: the release cannot run here; nothing was changed.
    """
    actor = this_actor()
    check_guard_dependencies(loaded.plan.guard)
    release_id = await register_release(loaded, actor, new=new)
    if release_id is None:
        log_to_stderr(
            f"the release of {loaded.source} has ended; to begin another: zdd agent --new {loaded.command_line_name}"
        )
        return 0
    if if_needed:
        async with await open_store(loaded) as store:
            lease = await store.read_lease(release_id)
        if not has_no_agent(lease):
            log_to_stderr("another agent holds the lease; nothing to do")
            return 0
    agent_actor, check = Actor("agent", actor.host), partial(_check, loaded)
    agent = Agent(loaded.plan, release_id, agent_actor, log=log_to_stderr, check=check, ttl=ttl, boundary=hook)
    task = asyncio.create_task(agent.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        release = await task
    except asyncio.CancelledError:
        log_to_stderr("stopped by a signal; the lease is released")
        return 0
    return 0 if release.state in (ReleaseState.DONE, ReleaseState.ROLLED_BACK) else 1


async def register_release(loaded: LoadedPlan, actor: Actor, *, new: bool = False) -> int | None:
    """Migrates the `zdd` schema and registers the release, unless it is already registered.

    A new release is registered only where the whole check of the plan passes. One that has not ended is taken over
    without the check: it must continue although, say, Redis is unreachable for the moment.

    Returns:
        the release's id; None where the last one of this very plan has ended and ``new`` is false, so that a
        supervisor that restarts the agent does not start the release again.

    Raises:
        ZddError: the plan cannot run here; nothing was changed.
        Refused: a release of that name runs with another plan.
    """
    async with await open_store(loaded) as store:
        if await store.schema_version():
            await store.migrate()  # an older schema cannot be read
        found = await store.find_release(loaded.plan.name)
        has_ended = True
        if found is not None:
            record = await store.read_release(found)
            has_ended = record.release.state.has_ended
            if record.release.plan_hash == loaded.hash:
                require_same_region(loaded.plan, record.region)
                if has_ended and not new:
                    return None
        if has_ended:
            for line in await _check(loaded):
                log_to_stderr(line)
            await store.migrate()
        return await store.register_release(
            loaded.plan, text=loaded.text, document=loaded.document, plan_hash=loaded.hash, actor=actor
        )


async def _check(loaded: LoadedPlan) -> list[str]:
    """The check of `zdd check`; code that no rule can evaluate is executed on a copy of the schema, if there is any."""
    return await check_plan(loaded, offline=False, measurement=lock_measurement(only_opaque=True))


def log_to_stderr(line: str) -> None:
    """Writes one line to stderr, with the time in UTC."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    sys.stderr.write(f"{stamp}Z {mask_urls(line)}\n")
    sys.stderr.flush()


def agent_log_path(release: str) -> Path:
    """The log file of a detached agent, in the user's state folder."""
    return user_state_path("zdd", appauthor=False) / f"agent-{release}.log"


@dataclass(frozen=True, slots=True)
class DetachedAgent:
    """A started agent; its own part of the log begins at ``offset`` bytes."""

    process: "subprocess.Popen[bytes]"
    log: Path
    offset: int

    async def wait_for_exit(self) -> ZddError | None:
        """Waits until the agent exits, which may take days; returns the error that it exited with, if any."""
        # Polled: a waiting thread would delay our own exit.
        while (code := self.process.poll()) is None:  # noqa: ASYNC110
            await asyncio.sleep(POLL_INTERVAL)
        if code <= 0:
            return None
        with self.log.open("rb") as file:
            file.seek(self.offset)
            output = file.read().decode(errors="replace")
        return _parse_last_error(output) or ZddError(f"the agent exited with code {code}", f"see {self.log}")


def _parse_last_error(output: str) -> ZddError | None:
    """The error that `zdd` printed last before it exited."""
    _, marker, block = output.rpartition("zdd: ")
    lines = block.splitlines()
    hints = [line.removeprefix(HINT_PREFIX) for line in lines if line.startswith(HINT_PREFIX)]
    titles = [line.strip() for line in lines if not line.startswith(HINT_PREFIX)]
    return ZddError("; ".join(titles), "; ".join(hints)) if marker and titles else None


def start_agent(plan_file: Path, release: str, region: str = "") -> DetachedAgent:
    """Starts `zdd agent` in a session of its own, so that neither a hang-up nor ctrl-c reaches it.

    Secrets are passed in the environment, never on the command line, where every user of the machine could read them.

    Raises:
        ZddError: the log cannot be written.
    """
    log = agent_log_path(f"{release}-{region}" if region else release)
    options = ["--region", region] if region else []
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with log.open("ab") as out:
            offset = out.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                [sys.executable, "-m", "zdd_tui", "agent", "--if-needed", *options, str(plan_file.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
    except OSError as error:
        raise ZddError(
            f"no agent could be started: {error}",
            f"make {log.parent} writable, or run `zdd agent {' '.join([*options, str(plan_file)])}` yourself",
        ) from None
    return DetachedAgent(process, log, offset)


async def ensure_agent(
    loaded: LoadedPlan, plan_file: Path, on_start: Callable[[DetachedAgent], None] | None = None
) -> None:
    """Starts a detached agent unless one holds the lease, or the release has ended; then waits until it exits.

    Waits for the database as long as it is unreachable. Two callers at once are harmless: the agent that finds the
    lease held exits.

    Args:
        on_start: called with the started agent.

    Raises:
        ZddError: no agent could be started, it refused the plan, or it exited with an error.
    """
    while True:
        try:
            if not await _needs_agent(loaded):
                return
            break
        except BackendError:
            await asyncio.sleep(RETRY_SECONDS)  # the dashboard shows the reason
    agent = start_agent(plan_file, loaded.plan.name, loaded.plan.region)
    if on_start is not None:
        on_start(agent)
    if (error := await agent.wait_for_exit()) is not None:
        raise error


async def _needs_agent(loaded: LoadedPlan) -> bool:
    async with await open_store(loaded, "zdd open") as store:
        if not await store.schema_version():
            return True
        release_id = await store.find_release(loaded.plan.name)
        if release_id is None:
            return True
        if (await store.read_release(release_id)).release.state.has_ended:
            return False  # only `zdd agent` starts another release of this name, never a dashboard
        return has_no_agent(await store.read_lease(release_id))

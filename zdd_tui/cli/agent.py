"""`zdd agent`: the process around the agent."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from zdd_tui.backends.actor import this_actor
from zdd_tui.backends.store.client import Store
from zdd_tui.checks.plan import check_guard_dependencies, check_plan
from zdd_tui.engine.agent import LEASE_TTL, Agent
from zdd_tui.engine.runner import StepHook
from zdd_tui.model.errors import HINT_PREFIX, BackendError, ZddError
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.records import Actor
from zdd_tui.model.release.regions import require_same_region
from zdd_tui.model.release.state import ReleaseState


async def run_agent(
    loaded: LoadedPlan,
    *,
    if_needed: bool = False,
    new: bool = False,
    ttl: float = LEASE_TTL,
    hook: StepHook | None = None,
) -> int:
    """Registers the release, unless it is under way, and carries it out until it ends.

    SIGTERM and SIGINT end the agent cleanly: the lease is given back, and the next agent goes on at once.

    Args:
        if_needed: return at once where another agent holds the lease.
        new: begin another release where the last one of this very plan has ended.

    Returns:
        0 when the release is done or rolled back, or when the agent was told to stop.

    Raises:
        ZddError: the release cannot be carried out here; nothing was changed.
    """
    actor = this_actor()
    check_guard_dependencies(loaded.plan.guard)
    release_id = await register_release(loaded, actor, new=new)
    if release_id is None:
        log_to_stderr(
            f"the release of {loaded.source} has ended; to begin another: zdd agent --new {loaded.command_line_name}"
        )
        return 0
    if if_needed and await _is_lease_held(loaded, release_id):
        log_to_stderr("another agent holds the lease; nothing to do")
        return 0
    agent = Agent(loaded.plan, release_id, Actor("agent", actor.host), log=log_to_stderr, ttl=ttl, boundary=hook)
    carrying = asyncio.create_task(agent.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, carrying.cancel)
    try:
        ended = await carrying
    except asyncio.CancelledError:
        log_to_stderr("told to stop; another agent can go on at once")
        return 0
    return 0 if ended.state in (ReleaseState.DONE, ReleaseState.ROLLED_BACK) else 1


async def register_release(loaded: LoadedPlan, actor: Actor, *, new: bool = False) -> int | None:
    """Brings the `zdd` schema up to date and registers the release, unless it is under way.

    A new release is begun only where the whole check of the plan passes; one that is under way is taken over although,
    say, Redis is away for the moment.

    Returns:
        the release's id; None where the last one of this very plan has ended and another is not asked for, so that
        an agent which is restarted for ever does not begin it again.

    Raises:
        ZddError: the plan cannot be carried out here; nothing was changed.
        Refused: a release of that name runs with another plan.
    """
    database = loaded.plan.database
    async with await Store.open(database.dsn.get_secret_value(), timeout=database.connect_timeout) as store:
        if await store.schema_version():
            await store.migrate()  # what is there already must be up to date to be read
        found = await store.find_release(loaded.plan.name)
        release = None
        if found is not None:
            record = await store.read_release(found)
            release = record.release
            if release.plan_hash == loaded.hash:
                require_same_region(loaded.plan, record.region)
        if release is not None and release.state.has_ended and release.plan_hash == loaded.hash and not new:
            return None
        if release is None or release.state.has_ended:
            for line in await check_plan(loaded, offline=False):
                log_to_stderr(line)
            await store.migrate()
        return await store.register_release(
            loaded.plan, text=loaded.text, document=loaded.document, plan_hash=loaded.hash, actor=actor
        )


async def _is_lease_held(loaded: LoadedPlan, release_id: int) -> bool:
    async with await Store.open(loaded.plan.database.dsn.get_secret_value()) as store:
        lease = await store.read_lease(release_id)
        return lease is not None and lease.is_live


def log_to_stderr(line: str) -> None:
    """One line on stderr, with the time in UTC."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    sys.stderr.write(f"{stamp}Z {line}\n")
    sys.stderr.flush()


# --- Starts an agent that outlives the terminal.


POLL_INTERVAL = 0.5


def agent_log_path(release: str, environ: Mapping[str, str]) -> Path:
    """Where the detached agent of a release writes its log (XDG base directory specification)."""
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "/tmp")) / ".local" / "state")  # noqa: S108
    return Path(state) / "zdd" / f"agent-{release}.log"


@dataclass(frozen=True, slots=True)
class DetachedAgent:
    """An agent that was started, and where its own part of the log begins."""

    process: "subprocess.Popen[bytes]"
    log: Path
    offset: int

    async def wait_for_exit(self) -> ZddError | None:
        """Waits until it ends, which may be in days; why it could not do its work, None where it did."""
        # Polled: a thread that waits would hold up our own exit.
        while (code := self.process.poll()) is None:  # noqa: ASYNC110
            await asyncio.sleep(POLL_INTERVAL)
        if code <= 0:
            return None
        with self.log.open("rb") as file:
            file.seek(self.offset)
            said = file.read().decode(errors="replace")
        return _parse_last_error(said) or ZddError(f"the agent ended with exit code {code}", f"see {self.log}")


def _parse_last_error(output: str) -> ZddError | None:
    """The error with which a command of ours has ended, as it printed it."""
    _, mark, block = output.rpartition("zdd: ")
    lines = block.splitlines()
    mends = [line.removeprefix(HINT_PREFIX) for line in lines if line.startswith(HINT_PREFIX)]
    titles = [line.strip() for line in lines if not line.startswith(HINT_PREFIX)]
    return ZddError("; ".join(titles), "; ".join(mends)) if mark and titles else None


def start_agent(
    plan_file: Path, release: str, region: str = "", *, environ: Mapping[str, str] = os.environ
) -> DetachedAgent:
    """Starts `zdd agent` in a session of its own, so that neither a hang-up nor ctrl-c reaches it.

    Secrets go by the environment, never by the command line, where every user of the machine could read them.

    Raises:
        ZddError: the log cannot be written.
    """
    log = agent_log_path(f"{release}-{region}" if region else release, environ)
    there = ["--region", region] if region else []
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with log.open("ab") as out:
            offset = out.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                [sys.executable, "-m", "zdd_tui", "agent", "--if-needed", *there, str(plan_file.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=dict(environ),
            )
    except OSError as error:
        raise ZddError(
            f"no agent could be started: {error}",
            f"make {log.parent} writable, or run `zdd agent {' '.join([*there, str(plan_file)])}` yourself",
        ) from None
    return DetachedAgent(process, log, offset)


# --- Makes sure that somebody carries the release out.


RETRY_SECONDS = 2.0


async def ensure_agent(loaded: LoadedPlan, plan_file: Path) -> bool:
    """Starts a detached agent unless one holds the lease, or the release has ended.

    Waits for the database as long as it is away, and for the end of the agent that it started. Two that do this at
    once do no harm: the agent that finds the lease held goes away by itself.

    Returns:
        whether one was started.

    Raises:
        ZddError: no agent could be started, or it refused the plan, or it ended in an error.
    """
    while True:
        try:
            if not await _needs_agent(loaded):
                return False
            break
        except BackendError:
            await asyncio.sleep(RETRY_SECONDS)  # the dashboard says why; we only wait
    if (error := await start_agent(plan_file, loaded.plan.name, loaded.plan.region).wait_for_exit()) is not None:
        raise error
    return True


async def _needs_agent(loaded: LoadedPlan) -> bool:
    async with await Store.open(loaded.plan.database.dsn.get_secret_value(), application_name="zdd open") as store:
        if not await store.schema_version():
            return True
        release_id = await store.find_release(loaded.plan.name)
        if release_id is None:
            return True
        if (await store.read_release(release_id)).release.state.has_ended:
            return False  # another release of this name is begun by `zdd agent`, never by looking at the last one
        lease = await store.read_lease(release_id)
        return lease is None or not lease.is_live

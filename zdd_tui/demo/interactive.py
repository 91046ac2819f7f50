"""`zdd demo`: the environment, an agent, and `zdd open` in this terminal."""

import asyncio
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from zdd_tui.backends.store.client import Store
from zdd_tui.demo.environment import DemoOptions, Environment, poll_until, start_regions
from zdd_tui.model.errors import ZddError

ENV_FILE = "env"
REGISTRATION_TIMEOUT = 20.0
"""Seconds; after that the dashboard starts anyway and shows that there is no release."""


def run_interactive(folder: Path, options: DemoOptions, dashboard_options: Sequence[str] = ()) -> int:
    """Runs until the operator quits the dashboard or the terminal is closed; returns the dashboard's exit code.

    Args:
        options: a fault is injected from the new version's first request on.
        dashboard_options: for `zdd open`.
    """
    return asyncio.run(_run_environment(folder, options, dashboard_options))


async def _run_environment(folder: Path, options: DemoOptions, dashboard_options: Sequence[str]) -> int:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ending.set)
    async with start_regions(folder, options, _print_progress) as envs:
        env = envs[0]
        if options.fault:
            env.fault_file.write_text(options.fault)
        for each in envs:
            each.start_agent()
        _print_progress("waiting until the agent has registered the release")
        await asyncio.gather(*map(_wait_for_registration, envs))
        _print_access_help(folder, envs)
        trials = asyncio.create_task(_try_images(env))
        try:
            return await _run_dashboard(env, ending, dashboard_options)
        finally:
            trials.cancel()
            await asyncio.wait({trials})


async def _wait_for_registration(env: Environment) -> None:
    """Waits for the release, so that the dashboard does not begin with an error."""
    async with await Store.open(env.postgres.dsn, application_name="zdd demo") as store:

        async def is_registered() -> bool:
            return bool(await store.schema_version() and await store.find_release(env.options.name))

        await poll_until(is_registered, REGISTRATION_TIMEOUT)


async def _try_images(env: Environment) -> None:
    """Collects evidence for the doctor while the dashboard runs."""
    from zdd_tui.demo.image_trials import run_image_trials  # noqa: PLC0415  it imports the engine

    with suppress(ZddError, OSError):  # then the doctor reports that no image was tried
        await run_image_trials(env)


async def _run_dashboard(env: Environment, stopping: asyncio.Event, options: Sequence[str]) -> int:
    # ctrl-c reaches the whole foreground process group; the dashboard handles it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    dashboard = subprocess.Popen(  # noqa: ASYNC220 - a start, not a wait
        [sys.executable, "-m", "zdd_tui", "open", "--no-agent", *options, str(env.plan_file)],
        env=env.environ,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no lock is taken in it
    )
    waiting = asyncio.create_task(asyncio.to_thread(dashboard.wait))
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({waiting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            dashboard.terminate()
        return await waiting
    finally:
        stopped.cancel()
        signal.signal(signal.SIGINT, before)
        _print_progress("stopping")


def _print_access_help(folder: Path, envs: tuple[Environment, ...]) -> None:
    """Prints how other tools reach the productions; also to a file, since the dashboard will cover this."""
    lines = export_lines(envs)
    file = folder / ENV_FILE
    file.touch(mode=0o600)
    file.write_text("\n".join(lines) + "\n")
    hints = ['in another terminal: eval "$(zdd demo --env)"; then zdd status, kubectl get pods, psql,']
    hints += ['redis-cli -u "$REDIS_URL"']
    for region, file in ((env.options.region, env.plan_file) for env in envs if env.options.region):
        hints += [f"region {region}: zdd open --no-agent --region {region} {file}"]
    sys.stderr.write("\n".join(["", *lines, "", *hints, ""]))
    sys.stderr.flush()


def export_lines(envs: Sequence[Environment]) -> list[str]:
    """What a shell evaluates to reach the first production: zdd, kubectl, psql and redis-cli work as they are typed."""
    variables = envs[0].connection_variables | envs[0].tool_variables | envs[0].region_variables
    return [f"export {name}={shlex.quote(value)}" for name, value in sorted(variables.items())]


def find_running_exports(temporary: Path) -> str:
    """The export lines of the newest demo on this machine; empty where none is running."""
    files = sorted(temporary.glob(f"zdd-demo-*/{ENV_FILE}"), key=lambda file: file.stat().st_mtime)
    return files[-1].read_text() if files else ""


def _print_progress(text: str) -> None:
    sys.stderr.write(f"zdd demo: {text}\n")
    sys.stderr.flush()

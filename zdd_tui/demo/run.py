"""`zdd demo`: a live release with a dashboard, or a headless one that prints a report."""

import argparse
import asyncio
import fcntl
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path

from zdd_tui.backends.files import MAX_SQL_BYTES, read_text
from zdd_tui.backends.store.client import Store
from zdd_tui.cli.options import MISMATCH_FAULT, forwarded_options, read_display_options
from zdd_tui.cli.plan import keep_operations
from zdd_tui.demo.environment import REGION_NAMES, DemoOptions, Environment, poll_until, start_regions
from zdd_tui.demo.image_trials import run_image_trials
from zdd_tui.demo.plan import EXPAND_CONTRACT
from zdd_tui.demo.release_driver import ProgressLog
from zdd_tui.demo.scenarios import Production, Report, Scenario, choose_scenario, load_summary
from zdd_tui.model.advice.migration import read_migration
from zdd_tui.model.errors import ZddError
from zdd_tui.model.migrations.operations import PlanOperation
from zdd_tui.testbed.processes import scratch_folder

HEADLESS_BACKFILL_SECONDS = 8
"""Minimum duration of the headless backfill, so that there is time to pause it and to kill its agent."""

BACKFILL_SECONDS = 40
"""Default duration of the backfill under a dashboard, so that an operator can pause it."""

DEFAULT_ROWS, REGION_ROWS = 200_000, 20_000
"""Default rows of a single production, and of each one where there are several on this machine."""

FOLDER_PREFIX = "zdd-demo-"
ENV_FILE = "env"
REGISTRATION_TIMEOUT = 20.0
"""Seconds; after that the dashboard starts anyway and shows that there is no release."""


def run_demo(arguments: argparse.Namespace) -> int:
    """Runs the demo in a temporary folder that is deleted at the end; returns the exit code.

    Raises:
        ZddError: there is no terminal to show a dashboard on, or a part did not start.
    """
    if arguments.env:
        return _print_exports()
    options = read_options(arguments)
    if not arguments.headless:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise ZddError("the dashboard needs a terminal", "use `zdd demo --headless`")
        read_display_options(arguments, os.environ)  # refuses an unusable terminal before anything starts
    with scratch_folder(FOLDER_PREFIX, keep=arguments.keep) as folder:
        try:
            if arguments.headless:
                return _run_headless(folder, options, as_json=arguments.json)
            return asyncio.run(_run_interactive(folder, options, forwarded_options(arguments)))
        finally:
            if arguments.keep:
                sys.stderr.write(f"kept: {folder}\n")


def read_options(arguments: argparse.Namespace) -> DemoOptions:
    """The production that the command line requests.

    Raises:
        ZddError: two options that exclude each other.
    """
    options = DemoOptions(rows=arguments.rows, rate=arguments.rate, kind=arguments.kind, mode=arguments.dual_write)
    if arguments.strategy != options.strategy:
        options.strategy, options.name = arguments.strategy, f"users-api-{re.sub('[^a-z]', '-', arguments.strategy)}"
    if arguments.migration:
        options.migration, options.name = read_migration_file(arguments), "your-migration"
    options.canary_by = arguments.by
    options.has_wrong_results = arguments.inject == MISMATCH_FAULT
    options.fault = "" if options.has_wrong_results else arguments.inject or ""
    options.has_guard, options.is_guard_lenient = True, not options.fault
    if options.has_wrong_results and options.strategy != "dark-launch":
        raise ZddError("--inject mismatch needs a dark launch", "add --strategy dark-launch")
    if arguments.headless and options.fault and not options.changes_schema:
        raise ZddError("--headless --inject needs an Expand/Contract release", "omit --headless or --strategy")
    if arguments.tour and (arguments.headless or arguments.regions > 1 or not options.changes_schema):
        raise ZddError(
            "--tour is for the dashboard of one Expand/Contract release",
            "omit --tour, or --headless, --regions and --strategy",
        )
    if arguments.regions > 1:
        if arguments.inject is not None:
            raise ZddError("--inject works on one production, --regions starts several", "omit one of them")
        options.regions, options.is_fast = REGION_NAMES[: arguments.regions], True
        if options.rows == DEFAULT_ROWS:
            options.rows = REGION_ROWS
    options.max_rows_per_second = limit_rows_per_second(options.rows, arguments.backfill_time, arguments.headless)
    return options


def read_migration_file(arguments: argparse.Namespace) -> tuple[PlanOperation, ...]:
    """The statements of the reader's own migration.

    Raises:
        ZddError: it cannot be read or executed, or another option excludes it.
    """
    if arguments.strategy != EXPAND_CONTRACT or arguments.regions > 1 or arguments.tour or arguments.inject:
        raise ZddError(
            "--migration is a release of its own", "omit --strategy, --regions, --tour and --inject, or --migration"
        )
    file = arguments.migration
    return tuple(keep_operations(read_migration(read_text(file, max_bytes=MAX_SQL_BYTES), file), has_rollout=True))


def limit_rows_per_second(rows: int, seconds: float | None, is_headless: bool) -> int | None:
    """The backfill's limit for a duration; None for no limit.

    Args:
        seconds: 0 for as fast as it can; None for the default.
    """
    if seconds is None:
        return max(1000, rows // HEADLESS_BACKFILL_SECONDS) if is_headless else math.ceil(rows / BACKFILL_SECONDS)
    return math.ceil(rows / seconds) if seconds > 0 else None


def _print_exports() -> int:
    """Prints the export lines of the newest demo that runs on this machine."""
    files = [file for file in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*/{ENV_FILE}") if _is_running(file)]
    newest = max(files, key=lambda file: file.stat().st_mtime, default=None)
    if newest is None:
        raise ZddError("no demo is running on this machine", "start one with `zdd demo`")
    sys.stdout.write(newest.read_text())
    return 0


def _is_running(file: Path) -> bool:
    """Whether the demo that has written a file of exports still runs: the kernel takes its lock away with it."""
    try:
        with file.open() as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # of another user, or its folder is being deleted
        return False
    return False


@contextmanager
def published_exports(folder: Path, lines: Sequence[str]) -> Iterator[None]:
    """A file from which `zdd demo --env` takes its lines as long as this holds; the folder may outlive it."""
    file = folder / ENV_FILE
    file.touch(mode=0o600)
    with file.open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        opened.write("\n".join(lines) + "\n")
        opened.flush()
        yield


async def run_headless_scenario(folder: Path, options: DemoOptions, scenario: Scenario | None = None) -> Report:
    """Starts the productions, runs a scenario on them and returns its report; progress goes to stderr.

    The report's ``ok`` is true when the scenario went as it must, no response was wrong, and no request failed unless
    the scenario breaks something.

    Raises:
        ZddError: a production did not start, or the release made no progress.
    """
    scenario = scenario or choose_scenario(options)
    progress = ProgressLog()
    async with AsyncExitStack() as stack:
        productions: list[Production] = []
        for env in await stack.enter_async_context(start_regions(folder, options, progress.log)):
            store = await stack.enter_async_context(await Store.open(env.postgres.dsn, application_name="zdd demo"))
            # An agent creates the schema `zdd`, and no rollback removes it: it must exist before states are compared.
            await store.migrate()
            productions.append(Production(env, store, progress))
        result = await scenario.run(productions)
        for production in productions:
            await production.env.stop("load")
    report: Report = {"ok": False, **result}
    loads = report.get("regions", [report])
    for load, production in zip(loads, productions, strict=True):
        load.update(load_summary(production.env.read_load_report()))
    is_clean = all(load["wrong_results"] == 0 and (scenario.breaks_requests or load["failures"] == 0) for load in loads)
    report["ok"] = bool(result["ok"]) and is_clean
    return report


def as_text(report: Report, scenario: Scenario) -> str:
    """The report for a terminal: a title, and a label with a text on each line."""
    lines = [f"{'✔' if report['ok'] else '✗'} {scenario.title(report)}"]
    lines += [f"  {label:<16} {text}" for label, text in scenario.lines(report)]
    return "\n" + "\n".join(lines) + "\n"


def _run_headless(folder: Path, options: DemoOptions, *, as_json: bool) -> int:
    scenario = choose_scenario(options)
    report = asyncio.run(run_headless_scenario(folder, options, scenario))
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if as_json else as_text(report, scenario))
    return 0 if report["ok"] else 1


async def _run_interactive(folder: Path, options: DemoOptions, dashboard_options: Sequence[str]) -> int:
    """Runs until the operator quits the dashboard or the terminal is closed; returns the dashboard's exit code.

    Args:
        options: a fault is injected from the new version's first request on.
        dashboard_options: for `zdd open`.
    """
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
        with published_exports(folder, lines := export_lines(envs)):
            _print_access_help(lines, envs)
            trials = asyncio.create_task(_try_images(env))
            try:
                config = str(_write_config(folder, envs))
                return await _run_dashboard(env, ending, ["--config", config, *dashboard_options])
            finally:
                trials.cancel()
                await asyncio.wait({trials})
                await asyncio.gather(*map(_stop_started_agent, envs))


async def _stop_started_agent(env: Environment) -> None:
    """Stops the agent that holds the lease, if the operator has started it from the dashboard."""
    with suppress(ZddError, OSError):
        async with await Store.open(env.postgres.dsn, application_name="zdd demo") as store:
            release_id = await store.find_release(env.options.name)
            lease = await store.read_lease(release_id) if release_id is not None else None
        own = env.processes.get("agent")
        if lease is not None and lease.is_live and (own is None or lease.pid != own.pid):
            os.kill(lease.pid, signal.SIGTERM)


async def _wait_for_registration(env: Environment) -> None:
    """Waits for the release, so that the dashboard does not begin with an error."""
    async with await Store.open(env.postgres.dsn, application_name="zdd demo") as store:

        async def is_registered() -> bool:
            return bool(await store.schema_version() and await store.find_release(env.options.name))

        await poll_until(is_registered, REGISTRATION_TIMEOUT)


async def _try_images(env: Environment) -> None:
    """Collects evidence for the doctor while the dashboard runs."""
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


def _write_config(folder: Path, envs: tuple[Environment, ...]) -> Path:
    """The demo's own list of databases: the dashboard of a demo shows no others."""
    file = folder / "config.toml"
    entries = ((env.options.region, f"{env.options.region.upper()}_DATABASE_URL") for env in envs)
    file.write_text(
        "".join(
            f'[[database]]\nname = "{region or "demo"}"\ndsn = "${{{variable.removeprefix("_")}}}"\n'
            for region, variable in entries
        )
    )
    return file


def _print_access_help(lines: Sequence[str], envs: tuple[Environment, ...]) -> None:
    """Prints how other tools reach the productions. The dashboard will cover this."""
    hints = ['in another terminal: eval "$(zdd demo --env)"; then zdd, zdd status, kubectl get pods, psql,']
    hints += ['redis-cli -u "$REDIS_URL"']
    for region, file in ((env.options.region, env.plan_file) for env in envs if env.options.region):
        hints += [f"region {region}: zdd open --no-agent --region {region} {file}"]
    sys.stderr.write("\n".join(["", *lines, "", *hints, ""]))
    sys.stderr.flush()


def export_lines(envs: Sequence[Environment]) -> list[str]:
    """What a shell evaluates to reach the first production: zdd, kubectl, psql and redis-cli work as they are typed."""
    variables = envs[0].connection_variables | envs[0].tool_variables | envs[0].region_variables
    return [f"export {name}={shlex.quote(value)}" for name, value in sorted(variables.items())]


def _print_progress(text: str) -> None:
    sys.stderr.write(f"zdd demo: {text}\n")
    sys.stderr.flush()

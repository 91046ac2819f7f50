"""`zdd demo`: a live release with a dashboard, or a headless one that prints a report."""

import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from zdd_tui.cli.options import MISMATCH_FAULT, forwarded_options, read_display_options
from zdd_tui.demo.environment import REGION_NAMES, DemoOptions
from zdd_tui.demo.headless import run_headless
from zdd_tui.model.errors import ZddError

HEADLESS_BACKFILL_SECONDS = 8
"""Minimum duration of the headless backfill, so that there is time to pause it and to kill its agent."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP)

DEFAULT_ROWS, REGION_ROWS = 200_000, 20_000
"""Default rows of a single production, and of each one where there are several on this machine."""


def run_demo(arguments: argparse.Namespace) -> int:
    """Runs the demo in a temporary folder that is deleted at the end; returns the exit code.

    Raises:
        ZddError: there is no terminal to show a dashboard on, or a part did not start.
    """
    if arguments.env:
        return _print_exports()
    options = read_options(arguments)
    interactive = not arguments.headless
    if interactive and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ZddError("the dashboard needs a terminal", "use `zdd demo --headless`")
    if interactive:
        read_display_options(arguments, os.environ)  # refuses an unusable terminal before anything starts
    folder = Path(tempfile.mkdtemp(prefix="zdd-demo-"))
    # An exception from wherever we are, so that the servers are stopped and the folder is deleted.
    for number in STOP_SIGNALS:
        signal.signal(number, _interrupt)
    try:
        if interactive:
            from zdd_tui.demo.interactive import run_interactive  # noqa: PLC0415  not needed when headless

            return run_interactive(folder, options, forwarded_options(arguments))
        options.max_rows_per_second = max(1000, options.rows // HEADLESS_BACKFILL_SECONDS)
        return run_headless(folder, options, as_json=arguments.json)
    finally:
        if arguments.keep:
            sys.stderr.write(f"kept: {folder}\n")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def read_options(arguments: argparse.Namespace) -> DemoOptions:
    """The production that the command line requests.

    Raises:
        ZddError: two options that exclude each other.
    """
    options = DemoOptions(
        rows=_row_count(arguments), rate=arguments.rate, kind=arguments.kind, mode=arguments.dual_write
    )
    if arguments.strategy != options.strategy:
        options.strategy, options.name = arguments.strategy, f"users-api-{re.sub('[^a-z]', '-', arguments.strategy)}"
    options.canary_by = arguments.by
    options.has_wrong_results = arguments.inject == MISMATCH_FAULT
    options.fault = "" if options.has_wrong_results else arguments.inject or ""
    options.has_guard, options.is_guard_lenient = True, not options.fault
    if options.has_wrong_results and options.strategy != "dark-launch":
        raise ZddError("--inject mismatch needs a dark launch", "add --strategy dark-launch")
    if arguments.headless and options.fault and not options.changes_schema:
        raise ZddError("--headless --inject needs an Expand/Contract release", "omit --headless or --strategy")
    if arguments.regions > 1:
        if arguments.inject is not None:
            raise ZddError("--inject works on one production, --regions starts several", "omit one of them")
        options.regions, options.is_fast = REGION_NAMES[: arguments.regions], True
    return options


def _row_count(arguments: argparse.Namespace) -> int:
    """Several productions on one machine are small by default."""
    requested: int = arguments.rows
    return REGION_ROWS if arguments.regions > 1 and requested == DEFAULT_ROWS else requested


def _interrupt(number: int, _frame: object) -> None:
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # a second signal must not interrupt the shutdown
    raise KeyboardInterrupt(f"signal {number}")


def _print_exports() -> int:
    from zdd_tui.demo.interactive import find_running_exports  # noqa: PLC0415

    found = find_running_exports(Path(tempfile.gettempdir()))
    if not found:
        raise ZddError("no demo is running on this machine", "start one with `zdd demo`")
    sys.stdout.write(found)
    return 0

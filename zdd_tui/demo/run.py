"""`zdd demo`: a living release to play with, or one that walks by itself."""

import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from zdd_tui.cli.options import MISMATCH_FAULT, forwarded_options, read_display_options
from zdd_tui.demo.environment import EXPAND_CONTRACT, DemoOptions
from zdd_tui.demo.headless import run_headless
from zdd_tui.demo.regions import REGION_NAMES
from zdd_tui.model.errors import ZddError

HEADLESS_BACKFILL_SECONDS = 8
"""At least so long does the headless backfill take, so that there is time to pause it and to kill its agent."""


DEFAULT_ROWS, REGION_ROWS = 200_000, 20_000
"""Rows of a production, and of each where there are several, if nothing else is asked for."""


def run_demo(arguments: argparse.Namespace) -> int:
    """Runs the demo in a temporary folder that goes when it ends.

    Raises:
        ZddError: there is no terminal to show a dashboard on, or something did not come up.
    """
    if arguments.env:
        return _print_exports()
    options = read_options(arguments)
    fault = None if options.has_wrong_results else arguments.inject
    interactive = not arguments.headless
    if interactive and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ZddError("the dashboard needs a terminal", "use `zdd demo --headless`")
    if interactive:
        read_display_options(arguments, os.environ)  # refuses a terminal before anything is started for it
    folder = Path(tempfile.mkdtemp(prefix="zdd-demo-"))
    # Raised wherever we are, so that the servers are ended and the folder goes.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        if interactive:
            from zdd_tui.demo.interactive import run_interactive  # noqa: PLC0415 - Textual only where it is shown

            return run_interactive(folder, options, fault, forwarded_options(arguments))
        options.max_rows_per_second = max(1000, options.rows // HEADLESS_BACKFILL_SECONDS)
        return run_headless(folder, options, as_json=arguments.json, fault=fault)
    finally:
        if arguments.keep:
            sys.stderr.write(f"kept: {folder}\n")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def read_options(arguments: argparse.Namespace) -> DemoOptions:
    """What is wanted.

    Raises:
        ZddError: two options that do not go together.
    """
    options = DemoOptions(
        rows=_row_count(arguments), rate=arguments.rate, kind=arguments.kind, mode=arguments.dual_write
    )
    if arguments.strategy != options.strategy:
        options.strategy, options.name = arguments.strategy, f"users-api-{re.sub('[^a-z]', '-', arguments.strategy)}"
    options.canary_by = arguments.by
    options.has_wrong_results = arguments.inject == MISMATCH_FAULT
    if options.has_wrong_results and options.strategy != "dark-launch":
        raise ZddError("--inject mismatch is of a dark launch", "add --strategy dark-launch")
    if (
        arguments.headless
        and arguments.inject
        and not options.has_wrong_results
        and options.strategy != EXPAND_CONTRACT
    ):
        raise ZddError("--headless breaks a release of expand/contract alone", "leave --headless or --strategy out")
    options.has_guard, options.is_guard_lenient = True, arguments.inject is None or options.has_wrong_results
    if arguments.regions > 1:
        if arguments.inject is not None:
            raise ZddError("--inject breaks one production, and --regions starts several", "leave one of them out")
        options.regions, options.is_fast = REGION_NAMES[: arguments.regions], True
    return options


def _row_count(arguments: argparse.Namespace) -> int:
    """Several productions on one machine are small ones, unless somebody asks for more."""
    requested: int = arguments.rows
    return REGION_ROWS if arguments.regions > 1 and requested == DEFAULT_ROWS else requested


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(f"signal {number}")


def _print_exports() -> int:
    from zdd_tui.demo.interactive import find_running_exports  # noqa: PLC0415

    found = find_running_exports(Path(tempfile.gettempdir()))
    if not found:
        raise ZddError("no demo runs on this machine", "start one with `zdd demo`")
    sys.stdout.write(found)
    return 0

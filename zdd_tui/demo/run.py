"""`zdd demo`: a living release to play with, or one that walks by itself."""

import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from zdd_tui.cli.options import MISMATCH, handed_on, look_of
from zdd_tui.demo.environment import EXPAND_CONTRACT, Options
from zdd_tui.demo.headless import run_headless
from zdd_tui.demo.regions import NAMES
from zdd_tui.model.errors import ZddError

HEADLESS_SECONDS_OF_BACKFILL = 8
"""At least so long does the headless backfill take, so that there is time to pause it and to kill its agent."""


ROWS, SMALL = 200_000, 20_000
"""Rows of a production, and of each where there are several, if nothing else is asked for."""


def run_demo(arguments: argparse.Namespace) -> int:
    """Runs the demo in a temporary folder that goes when it ends.

    Raises:
        ZddError: there is no terminal to show a dashboard on, or something did not come up.
    """
    if arguments.env:
        return _print_env()
    options = options_of(arguments)
    fault = None if options.mistaken else arguments.inject
    interactive = not arguments.headless
    if interactive and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ZddError("the dashboard needs a terminal", "use `zdd demo --headless`")
    if interactive:
        look_of(arguments, os.environ)  # refuses a terminal before anything is started for it
    folder = Path(tempfile.mkdtemp(prefix="zdd-demo-"))
    # Raised wherever we are, so that the servers are ended and the folder goes.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        if interactive:
            from zdd_tui.demo.interactive import run_interactive  # noqa: PLC0415 - Textual only where it is shown

            return run_interactive(folder, options, fault, handed_on(arguments))
        options.ceiling = max(1000, options.rows // HEADLESS_SECONDS_OF_BACKFILL)
        return run_headless(folder, options, as_json=arguments.json, fault=fault)
    finally:
        if arguments.keep:
            sys.stderr.write(f"kept: {folder}\n")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def options_of(arguments: argparse.Namespace) -> Options:
    """What is wanted.

    Raises:
        ZddError: two options that do not go together.
    """
    options = Options(rows=_rows(arguments), rate=arguments.rate, kind=arguments.kind, mode=arguments.dual_write)
    if arguments.strategy != options.strategy:
        options.strategy, options.name = arguments.strategy, f"users-api-{re.sub('[^a-z]', '-', arguments.strategy)}"
    options.by = arguments.by
    options.mistaken = arguments.inject == MISMATCH
    if options.mistaken and options.strategy != "dark-launch":
        raise ZddError("--inject mismatch is of a dark launch", "add --strategy dark-launch")
    if arguments.headless and arguments.inject and not options.mistaken and options.strategy != EXPAND_CONTRACT:
        raise ZddError("--headless breaks a release of expand/contract alone", "leave --headless or --strategy out")
    options.guard, options.calm = True, arguments.inject is None or options.mistaken
    if arguments.regions > 1:
        if arguments.inject is not None:
            raise ZddError("--inject breaks one production, and --regions starts several", "leave one of them out")
        options.regions, options.quick = NAMES[: arguments.regions], True
    return options


def _rows(arguments: argparse.Namespace) -> int:
    """Several productions on one machine are small ones, unless somebody asks for more."""
    asked: int = arguments.rows
    return SMALL if arguments.regions > 1 and asked == ROWS else asked


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(f"signal {number}")


def _print_env() -> int:
    from zdd_tui.demo.interactive import running_env  # noqa: PLC0415

    found = running_env(Path(tempfile.gettempdir()))
    if not found:
        raise ZddError("no demo runs on this machine", "start one with `zdd demo`")
    sys.stdout.write(found)
    return 0

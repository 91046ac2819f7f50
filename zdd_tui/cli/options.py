"""The options of every verb that draws the dashboard."""

import argparse
from collections.abc import Mapping, Sequence

from zdd_tui.dashboard.terminal.display_options import DisplayOptions, check_terminal, is_utf8_locale
from zdd_tui.model.duration import parse_duration
from zdd_tui.model.plan.strategies import PLAN_CLASSES, normalize_strategy
from zdd_tui.model.tuning import LIMITS


def add_display_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII only; by itself where LANG is not UTF-8")
    parser.add_argument(
        "--low-bandwidth", action="store_true", help="at most one paint a second, no histories: for a slow line"
    )
    parser.add_argument("--no-bell", action="store_true", help="no bell or notification when something needs you")


def add_record_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--record", metavar="FILE", help="write what the dashboard sees, for `zdd replay FILE`; .gz compresses"
    )


def read_display_options(arguments: argparse.Namespace, environ: Mapping[str, str]) -> DisplayOptions:
    """What options and environment say together.

    Raises:
        ZddError: the terminal cannot show a dashboard at all.
    """
    check_terminal(environ)
    return DisplayOptions(
        ascii=arguments.ascii or not is_utf8_locale(environ),
        low_bandwidth=arguments.low_bandwidth,
        bell=not arguments.no_bell,
    )


def forwarded_options(arguments: argparse.Namespace) -> Sequence[str]:
    """The same options for another `zdd` in this terminal."""
    given = {"--ascii": arguments.ascii, "--low-bandwidth": arguments.low_bandwidth, "--no-bell": arguments.no_bell}
    record = ["--record", arguments.record] if arguments.record else []
    return [*(option for option, on in given.items() if on), *record]


# --- The options of `zdd advise` and `zdd init`. Imports nothing heavy: every command builds the whole parser.


EPILOG = """\
examples:
  zdd advise --sql rename.sql --dsn '${DATABASE_URL}' --manifest deploy.yaml \\
      --v2 shop/api:2 --v3 shop/api:3 --plan plan.yaml
  zdd advise --image shop/api:1 shop/api:2 --deployment api --feature-risk high
"""


def add_change_options(parser: argparse.ArgumentParser) -> None:
    """What both verbs take."""
    change = parser.add_argument_group("the change")
    change.add_argument("--sql", nargs="+", default=[], metavar="FILE", help="the migration, in order")
    change.add_argument(
        "--manifest", nargs="+", default=[], metavar="FILE", help="the Deployment; twice the same one: before, after"
    )
    change.add_argument("--image", nargs=2, metavar=("OLD", "NEW"), help="the image that runs, and the new one")
    change.add_argument("--dsn", default="", metavar="'${NAME}'", help="the database, for sizes, types and traffic")
    what = parser.add_argument_group("what only you know")
    what.add_argument("--feature-risk", choices=("low", "high"), default="low")
    what.add_argument("--regions", type=_parse_region_count, default=1, metavar="N", help="how many regions serve")
    what.add_argument("--sessions", choices=("external", "in-memory"), default="external")
    what.add_argument("--monolith", action="store_true", help="one large program with rare releases")
    what.add_argument("--experimental", action="store_true", help="logic that must be proven right first")
    for side, text in (("up", "NEW column, from the old ones"), ("down", "OLD column, from the new ones")):
        what.add_argument(f"--{side}", action="append", default=[], metavar="COLUMN=EXPRESSION", help=text)
    what.add_argument("--type", action="append", default=[], metavar="COLUMN=TYPE", help="of an old column, no --dsn")
    plan = parser.add_argument_group("the plan")
    plan.add_argument("--name", default="", help="of the release")
    plan.add_argument("--environment", default="production")
    plan.add_argument("--deployment", default="", metavar="NAME")
    plan.add_argument("--namespace", default="", metavar="NAME")
    plan.add_argument("--container", default="", metavar="NAME")
    plan.add_argument("--v2", default="", metavar="IMAGE", help="expand/contract: writes both sides behind a flag")
    plan.add_argument("--v3", default="", metavar="IMAGE", help="expand/contract: knows only the new side")
    plan.add_argument("--flag", default="", metavar="KEY", help="canary: the flag whose percentage is the weight")
    plan.add_argument("--smoke", default="", metavar="/PATH", help="blue/green: asked of new pods before the switch")
    plan.add_argument("--dark-path", default="", metavar="NAME", help="dark launch: the new path in the metrics")
    plan.add_argument("--force", action="store_true", help="overwrite the plan file")


def add_advise_options(parser: argparse.ArgumentParser) -> None:
    """The options of `zdd advise`."""
    add_change_options(parser)
    parser.add_argument(
        "--strategy",
        type=normalize_strategy,
        choices=tuple(PLAN_CLASSES),
        help="the one that you have in mind: is it safe?",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document, for scripts")
    parser.add_argument("--plan", default="", metavar="FILE", help="write the plan there")
    parser.usage = "zdd advise [--sql FILE ...] [--manifest FILE ...] [--image OLD NEW] [options]"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG


def add_init_options(parser: argparse.ArgumentParser) -> None:
    """The options of `zdd init`."""
    parser.add_argument("plan", metavar="PLAN", nargs="?", default="plan.yaml", help="default: %(default)s")
    add_change_options(parser)
    parser.add_argument("--non-interactive", action="store_true", help="ask nothing: what is not told is an error")
    parser.usage = "zdd init [PLAN] [--non-interactive] [options]"


def _parse_region_count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"expected a number of regions from 1 on, got {text!r}")
    return int(text)


# --- The options of `zdd demo`. Imports nothing heavy: every command builds the whole parser.


MISMATCH_FAULT = "mismatch"
"""The fault of a dark launch: an image whose new path answers otherwise."""


def add_demo_options(demo: argparse.ArgumentParser) -> None:
    """The options of `zdd demo`."""
    demo.add_argument(
        "--strategy",
        type=normalize_strategy,
        choices=tuple(PLAN_CLASSES),
        default="expand-contract",
        metavar="NAME",
        help=f"of the release: {', '.join(PLAN_CLASSES)} (default: %(default)s)",
    )
    demo.add_argument(
        "--by", choices=("replicas", "flag", "gateway"), default="replicas", help="what makes a canary's weight"
    )
    demo.add_argument(
        "--regions",
        type=int,
        choices=(1, 2, 3),
        default=1,
        metavar="N",
        help="so many productions, and one release that goes through them one after the other: 1 to 3",
    )
    demo.add_argument("--headless", action="store_true", help="walk the release by itself and print a report")
    demo.add_argument("--json", action="store_true", help="with --headless: the report as JSON on stdout")
    demo.add_argument("--rows", type=parse_positive, default=200_000, help="rows in the table (default: %(default)s)")
    demo.add_argument(
        "--rate", type=parse_positive, default=120, help="requests a second of the load (default: %(default)s)"
    )
    demo.add_argument("--kind", choices=("column", "table"), default="column", help="what is beside the old schema")
    demo.add_argument("--dual-write", choices=("application", "trigger"), default="application")
    demo.add_argument(
        "--inject",
        choices=("errors", "latency", "crash-loop", "redis-down", "db-slow", "metrics-gone", MISMATCH_FAULT),
        metavar="FAULT",
        help="break the new version, and the guard rolls back by itself: errors, latency, crash-loop, redis-down,"
        " db-slow or metrics-gone; of a dark launch mismatch: its new path answers otherwise, and its gate stays shut",
    )
    demo.add_argument(
        "--env", action="store_true", help="print the exports of the demo that runs, for kubectl and psql"
    )
    demo.add_argument("--keep", action="store_true", help="keep the temporary folder, for its logs")
    add_display_options(demo)
    add_record_option(demo)


def parse_positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


# --- The options of `zdd open` that say what may be changed from the dashboard, and by which keys.


def add_dashboard_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--read-only", action="store_true", help="hide every key that changes something")
    parser.add_argument(
        "--unlock-for",
        type=_parse_duration,
        metavar="TIME",
        help="how long an unlock of production lasts (default: the plan's confirm.unlock, 15m)",
    )
    add_keymap_option(parser)


def add_keymap_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keymap",
        metavar="FILE",
        help="other keys; see `zdd keys` (default: ~/.config/zdd/keymap.yaml, if it is there)",
    )


def add_keys_options(parser: argparse.ArgumentParser) -> None:
    add_keymap_option(parser)
    parser.add_argument("--check", metavar="FILE", help="only say what cannot be taken from FILE; exit code 2 then")


def _parse_duration(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if seconds <= 0:
        raise argparse.ArgumentTypeError("an unlock lasts some time, such as 15m")
    return seconds


# --- The arguments of `zdd tune`, without what it needs to run.


def add_tune_options(parser: argparse.ArgumentParser) -> None:
    """The verb's own arguments, after PLAN."""
    parser.epilog = "limits: " + ", ".join(spec.key for spec in LIMITS)
    parser.add_argument(
        "changes",
        nargs="*",
        metavar="KEY=VALUE",
        help="such as speed=50, max_rows_per_second=5k, batch_budget=80ms; none lifts a ceiling, plan goes back to"
        " the plan's own value",
    )
    parser.add_argument("--reset", action="store_true", help="first take every limit back to the plan's own value")
    parser.add_argument("--reason", default="", metavar="WHY", help="goes into the audit")

"""The options of the verbs. Imports nothing slow: every command builds the whole parser."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from zdd_tui.backends.files import read_text
from zdd_tui.dashboard.terminal.display_options import (
    DEFAULT_THEME,
    DisplayOptions,
    check_terminal,
    check_theme,
    is_utf8_locale,
)
from zdd_tui.model.duration import parse_duration
from zdd_tui.model.errors import ZddError
from zdd_tui.model.migrations.registry import TOOLS
from zdd_tui.model.plan.registry import PLAN_CLASSES, normalize_strategy
from zdd_tui.model.tuning import LIMITS


def add_display_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ascii", action="store_true", help="draw with ASCII only; the default where LANG is not UTF-8"
    )
    parser.add_argument(
        "--low-bandwidth", action="store_true", help="for a slow line: at most one paint a second, no histories"
    )
    parser.add_argument(
        "--theme",
        metavar="NAME",
        help="colours: one of Textual's themes, such as ansi-light, nord or textual-light (default: `theme` in"
        f" config.toml, else {DEFAULT_THEME}, the colours of the terminal)",
    )
    parser.add_argument(
        "--no-bell", action="store_true", help="no bell and no notification when the release needs a person"
    )


def add_record_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--record", metavar="FILE", help="record the dashboard's state for `zdd replay FILE`; .gz compresses"
    )


def read_display_options(arguments: argparse.Namespace, environ: Mapping[str, str]) -> DisplayOptions:
    """The display options of the command line and the environment.

    Raises:
        ZddError: the terminal cannot show a dashboard, or there is no theme of that name.
    """
    check_terminal(environ)
    theme, origin = _choose_theme(arguments)
    if theme != DEFAULT_THEME:
        check_theme(theme, origin)
    return DisplayOptions(
        ascii=arguments.ascii or not is_utf8_locale(environ),
        low_bandwidth=arguments.low_bandwidth,
        bell=not arguments.no_bell,
        theme=theme,
        tour=getattr(arguments, "tour", False),
    )


def default_config_path() -> Path:
    """``config.toml`` in the user's configuration folder of zdd."""
    from platformdirs import user_config_path  # noqa: PLC0415  # few commands need it

    return user_config_path("zdd", appauthor=False) / "config.toml"


def _choose_theme(arguments: argparse.Namespace) -> tuple[str, str]:
    """The theme, and where it comes from: the command line, else the configuration file."""
    if arguments.theme is not None:
        return arguments.theme, "--theme"
    given = getattr(arguments, "config", None)
    path = Path(given) if given else default_config_path()
    try:
        # Path.exists raises for a name that is too long.
        text = read_text(path) if os.path.exists(path) else ""
    except ZddError:
        return DEFAULT_THEME, ""  # the list of releases tells why the file cannot be read
    if "theme" not in text:
        return DEFAULT_THEME, ""

    from zdd_tui.model.fleet.config import parse_theme  # noqa: PLC0415  # slow; few have a theme

    return parse_theme(text) or DEFAULT_THEME, f"theme in {path}"


def forwarded_options(arguments: argparse.Namespace) -> Sequence[str]:
    """The display options as arguments for another `zdd` in this terminal."""
    flags = {"--ascii": arguments.ascii, "--low-bandwidth": arguments.low_bandwidth, "--no-bell": arguments.no_bell}
    record = ["--record", arguments.record] if arguments.record else []
    chosen, _ = _choose_theme(arguments)
    theme = ["--theme", chosen] if chosen != DEFAULT_THEME else []
    flags["--tour"] = getattr(arguments, "tour", False)
    return [*(option for option, on in flags.items() if on), *theme, *record]


def add_fleet_options(parser: argparse.ArgumentParser) -> None:
    """Where the fleet's databases come from."""
    parser.add_argument("dsns", nargs="*", metavar="DSN", help="databases besides the configured ones")
    parser.add_argument("--dsn", action="append", default=[], metavar="DSN", help="the same; '${NAME}' is filled in")
    add_config_option(parser)
    parser.epilog = "See docs/guide.md for the file. A plan in ZDD_PLAN adds its databases."


def add_config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="the databases; default: ~/.config/zdd/config.toml, if it exists"
    )


_ADVISE_EPILOG = """\
examples:
  zdd advise --sql rename.sql --dsn '${DATABASE_URL}' --manifest deploy.yaml \\
      --v2 shop/api:2 --v3 shop/api:3 --plan plan.yaml
  zdd advise --image shop/api:1 shop/api:2 --deployment api --feature-risk high
"""


def add_change_options(parser: argparse.ArgumentParser) -> None:
    """The options that `zdd advise` and `zdd init` share."""
    change = parser.add_argument_group("the change")
    change.add_argument("--sql", nargs="+", default=[], metavar="FILE", help="the migration, in order")
    change.add_argument(
        "--manifest", nargs="+", default=[], metavar="FILE", help="the Deployment; the same one twice: before, after"
    )
    change.add_argument("--image", nargs=2, metavar=("OLD", "NEW"), help="the running image, and the new one")
    change.add_argument("--dsn", default="", metavar="'${NAME}'", help="the database, for sizes, types and traffic")
    known = parser.add_argument_group("what cannot be determined automatically")
    known.add_argument("--feature-risk", choices=("low", "high"), default="low")
    known.add_argument("--regions", type=_parse_region_count, default=1, metavar="N", help="number of serving regions")
    known.add_argument("--sessions", choices=("external", "in-memory"), default="external")
    known.add_argument("--monolith", action="store_true", help="one large application with rare releases")
    known.add_argument("--experimental", action="store_true", help="new logic that must be compared before it is used")
    for side, text in (("up", "NEW column, from the old ones"), ("down", "OLD column, from the new ones")):
        known.add_argument(f"--{side}", action="append", default=[], metavar="COLUMN=EXPRESSION", help=text)
    known.add_argument("--type", action="append", default=[], metavar="COLUMN=TYPE", help="of an old column, no --dsn")
    plan = parser.add_argument_group("the plan")
    plan.add_argument("--name", default="", help="of the release")
    plan.add_argument("--environment", default="production")
    plan.add_argument("--deployment", default="", metavar="NAME")
    plan.add_argument("--namespace", default="", metavar="NAME")
    plan.add_argument("--container", default="", metavar="NAME")
    plan.add_argument("--v2", default="", metavar="IMAGE", help="expand/contract: writes both sides behind a flag")
    plan.add_argument("--v3", default="", metavar="IMAGE", help="expand/contract: knows only the new side")
    plan.add_argument("--flag", default="", metavar="KEY", help="canary: the flag whose percentage is the weight")
    plan.add_argument("--smoke", default="", metavar="/PATH", help="blue/green: request to new pods before the switch")
    plan.add_argument("--dark-path", default="", metavar="NAME", help="dark launch: the new path in the metrics")
    plan.add_argument("--force", action="store_true", help="overwrite the plan file")


def add_scratch_option(parser: argparse.ArgumentParser) -> None:
    """The server for the copy of the schema."""
    parser.add_argument(
        "--scratch-dsn",
        default="",
        metavar="DSN",
        help="measure locks on a copy of the schema in a new database of this server; default: an embedded server",
    )


def add_advise_options(parser: argparse.ArgumentParser) -> None:
    """The options of `zdd advise`."""
    add_change_options(parser)
    add_scratch_option(parser)
    parser.add_argument(
        "--strategy",
        type=normalize_strategy,
        choices=tuple(PLAN_CLASSES),
        help="the strategy that you intend: is it safe?",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document, for scripts")
    parser.add_argument("--plan", default="", metavar="FILE", help="write the plan to FILE")
    parser.usage = "zdd advise [--sql FILE ...] [--manifest FILE ...] [--image OLD NEW] [options]"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ADVISE_EPILOG


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """The options of `zdd plan`."""
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="the migration's SQL, in order; with --from, what the tool's own command printed",
    )
    _add_directory_options(parser)
    parser.add_argument(
        "--deployment", metavar="NAME", help="the Deployment that serves; without it the plan rolls out nothing"
    )
    parser.add_argument("--image", metavar="IMAGE", help="the version that needs the new schema")
    parser.add_argument("--name", default="", help="of the release; default: from the last file's name")
    parser.add_argument("--environment", default="production")
    parser.add_argument("--namespace", default="", metavar="NAME")
    parser.add_argument("--container", default="", metavar="NAME")
    parser.add_argument("--dsn", default="", metavar="'${NAME}'", help="default: '${DATABASE_URL}'")
    parser.add_argument("--output", "-o", default="", metavar="PLAN", help="the file to write; default: print the plan")
    parser.add_argument("--force", action="store_true", help="overwrite the plan file")


def _add_directory_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a directory of migrations (docs/migrations.md)")
    group.add_argument(
        "--from",
        dest="directory",
        default="",
        metavar="DIR",
        help="plan what the database has not applied; the version table of the tool is changed by the release",
    )
    group.add_argument(
        "--tool", choices=[tool.name for tool in TOOLS], metavar="NAME", help="default: recognized by the files"
    )
    group.add_argument(
        "--tool-command", default="", metavar="'CMD ARG…'", help="runs the tool in DIR where only it can write the SQL"
    )
    group.add_argument("--version-table", default="", metavar="SCHEMA.NAME", help="default: as the tool names it")
    group.add_argument("--out-of-order", action="store_true", help="also what is older than an applied migration")
    group.add_argument(
        "--baseline",
        default="",
        metavar="FILE",
        help="plain files: the last one that the database has; none for no one",
    )
    group.add_argument(
        "--record-in",
        choices=("expand", "cleanup"),
        default="expand",
        help="the phase that changes the version table as its last operation (default: %(default)s)",
    )


def add_init_options(parser: argparse.ArgumentParser) -> None:
    """The options of `zdd init`."""
    parser.add_argument("plan", metavar="PLAN", nargs="?", default="plan.yaml", help="default: %(default)s")
    add_change_options(parser)
    parser.add_argument("--non-interactive", action="store_true", help="ask nothing: a missing value is an error")
    parser.usage = "zdd init [PLAN] [--non-interactive] [options]"


def _parse_region_count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"expected a number of regions from 1 to 1000, got {text!r}")
    return int(text)


MISMATCH_FAULT = "mismatch"
"""The fault of a dark launch: an image whose new path returns different results."""


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
        "--by", choices=("replicas", "flag", "gateway"), default="replicas", help="what sets a canary's weight"
    )
    demo.add_argument(
        "--regions",
        type=int,
        choices=(1, 2, 3),
        default=1,
        metavar="N",
        help="number of clusters and databases that the release goes through one after the other: 1 to 3",
    )
    demo.add_argument("--headless", action="store_true", help="run the release automatically and print a report")
    demo.add_argument("--json", action="store_true", help="with --headless: the report as JSON on stdout")
    demo.add_argument("--rows", type=parse_positive, default=200_000, help="rows in the table (default: %(default)s)")
    demo.add_argument(
        "--rate", type=parse_positive, default=120, help="requests a second of the load (default: %(default)s)"
    )
    demo.add_argument(
        "--kind", choices=("column", "table"), default="column", help="what the new schema adds: columns, or a table"
    )
    demo.add_argument(
        "--migration",
        metavar="FILE",
        help="run SQL of your own on the demo's table `users` (id, first_name, last_name, email, created_at,"
        " updated_at), statement by statement",
    )
    demo.add_argument("--dual-write", choices=("application", "trigger"), default="application")
    demo.add_argument(
        "--inject",
        choices=("errors", "latency", "crash-loop", "redis-down", "db-slow", "metrics-gone", MISMATCH_FAULT),
        metavar="FAULT",
        help="break the new version, so that the guard rolls back: errors, latency, crash-loop, redis-down, db-slow or"
        " metrics-gone; of a dark launch mismatch: its new path returns different results, and its gate fails",
    )
    demo.add_argument(
        "--backfill-time",
        type=parse_seconds,
        metavar="TIME",
        help="about how long the backfill, or each fill of --migration, takes, so that there is time to pause it; 0 for"
        " as fast as it can (default: 40s; with --headless, 8s)",
    )
    demo.add_argument("--tour", action="store_true", help="six steps on the screen that lead through the release")
    demo.add_argument("--env", action="store_true", help="print the exports of the running demo, for kubectl and psql")
    demo.add_argument("--keep", action="store_true", help="keep the temporary folder, for its logs")
    add_display_options(demo)
    add_record_option(demo)


def parse_positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def add_dashboard_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--read-only", action="store_true", help="hide every key that changes something")
    parser.add_argument(
        "--unlock-for",
        type=_parse_positive_seconds,
        metavar="TIME",
        help="duration of an unlock of production (default: the plan's confirm.unlock, 15m)",
    )
    add_keymap_option(parser)


def add_keymap_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keymap", metavar="FILE", help="other keys; see `zdd keys` (default: ~/.config/zdd/keymap.yaml, if it exists)"
    )


def add_keys_options(parser: argparse.ArgumentParser) -> None:
    add_keymap_option(parser)
    parser.add_argument("--check", metavar="FILE", help="only validate FILE; exit code 2 where it is invalid")


def parse_seconds(text: str) -> float:
    """A duration, for argparse."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parse_positive_seconds(text: str) -> float:
    seconds = parse_seconds(text)
    if seconds <= 0:
        raise argparse.ArgumentTypeError("expected a time above 0, such as 15m")
    return seconds


def add_replay_options(parser: argparse.ArgumentParser) -> None:
    """The options of `zdd replay`."""
    parser.add_argument("file", metavar="FILE", help="a recording")
    parser.add_argument("--speed", type=float, default=1.0, help="playback speed, 0.25 to 64 (default: %(default)g)")
    parser.add_argument(
        "--at", default="", metavar="TIME", help="start position: 3m after the start, or the time of day 14:02:11"
    )
    add_display_options(parser)


def add_tune_options(parser: argparse.ArgumentParser) -> None:
    """The arguments of `zdd tune`, after PLAN."""
    parser.epilog = (
        "limits: "
        + ", ".join(spec.key for spec in LIMITS)
        + ". Where operations fill several tables, users:speed=50 limits the filling of the table users further."
    )
    parser.add_argument(
        "changes",
        nargs="*",
        metavar="KEY=VALUE",
        help="such as speed=50, max_rows_per_second=5k, batch_budget=80ms; none removes a limit, plan restores the"
        " plan's value",
    )
    parser.add_argument("--reset", action="store_true", help="first restore the plan's value of every limit")
    parser.add_argument("--reason", default="", metavar="TEXT", help="stored in the audit")

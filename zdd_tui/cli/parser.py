"""`zdd`: one command per verb, on the same core as the screens.

Without a verb: `zdd fleet`, the list of all releases on screen.

Exit codes:
    0    done
    1    refused, or not confirmed; with --wait: the release failed or ended
         otherwise
    2    bad input, or a system that cannot be used; nothing was changed
    4    --timeout expired: with --wait before the phase, else before the result
         of the agent (the command stays queued)
    130  interrupted

PLAN is the release's YAML file, by default the one that ZDD_PLAN names; ${NAME}
in it is filled from the environment.
"""

import argparse
import asyncio
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

from zdd_tui import __version__
from zdd_tui.backends.files import read_text
from zdd_tui.cli.options import (
    add_advise_options,
    add_config_option,
    add_dashboard_options,
    add_demo_options,
    add_display_options,
    add_fleet_options,
    add_init_options,
    add_keys_options,
    add_plan_options,
    add_record_option,
    add_replay_options,
    add_scratch_option,
    add_tune_options,
    parse_positive,
    parse_seconds,
    read_display_options,
)
from zdd_tui.cli.output import guard_streams
from zdd_tui.model.actions import ACTIONS, Confirmation, find_action
from zdd_tui.model.errors import PlanError, ZddError
from zdd_tui.model.fleet.config import FleetDatabase, plan_databases
from zdd_tui.model.masking import hide_values, mask_urls
from zdd_tui.model.plan.file import LoadedPlan, find_placeholders, load_plan
from zdd_tui.model.plan.region_rules import require_region
from zdd_tui.model.plan_name import name_plan
from zdd_tui.model.release.records import CommandRequest
from zdd_tui.model.release.state import CommandKind

CommandHandler = Callable[[argparse.Namespace], int]
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""What the output to a full disk, or to a terminal that is gone, ends with."""
PLAN_VARIABLE = "ZDD_PLAN"
"""The environment variable with the plan file that is used where the command line names none."""

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb and returns its exit code; every expected error is one message on stderr."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # `zdd … >&-`: Python has no stream then
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  for the rest of the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ✔ must not lose the output
    with guard_streams():
        return _run_verb(sys.argv[1:] if argv is None else argv)


def add_default_verb(argv: Sequence[str]) -> list[str]:
    """`zdd`, `zdd --dsn DSN` and `zdd postgresql://…` are `zdd fleet …`."""
    first = argv[0] if argv else ""
    is_top_level = first in ("-h", "--help", "--version")
    is_fleet = not first or (first.startswith("-") and not is_top_level) or "://" in first or first.startswith("${")
    return ["fleet", *argv] if is_fleet else list(argv)


def _run_verb(argv: Sequence[str]) -> int:
    plan_file = ""
    try:
        arguments = _parse(argv)
        verb: CommandHandler = arguments.verb
        if getattr(arguments, "takes_plan", False):
            _fill_plan_from_environment(arguments)
            plan_file = arguments.plan
        code = verb(arguments)
        sys.stdout.flush()  # here, where a reader that has closed the pipe is no error
        return code
    except ZddError as error:
        text = name_plan(str(error), plan_file) if plan_file else str(error)
        print(f"zdd: {mask_urls(text)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `zdd status | head`: the reader has closed the pipe.
        _discard_output()
        return 0
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        _discard_output()
        print(f"zdd: the output cannot be written: {error.strerror}", file=sys.stderr)
        print("  Fix: make room where it is written, or write it elsewhere", file=sys.stderr)
        return ZddError.exit_code


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    try:
        return build_parser().parse_args(add_default_verb(argv))
    except SystemExit:  # after --help or --version
        sys.stdout.flush()
        raise


def _discard_output() -> None:
    """Python would report the failed write again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fill_plan_from_environment(arguments: argparse.Namespace) -> None:
    """Takes PLAN from $ZDD_PLAN where the command line names none.

    Raises:
        PlanError: there is neither.
    """
    default = os.environ.get(PLAN_VARIABLE)
    changes = getattr(arguments, "changes", None)
    if (
        default
        and changes is not None
        and arguments.plan
        and "=" in arguments.plan
        and not os.path.exists(arguments.plan)  # Path.exists raises for a name that is too long
    ):
        arguments.changes, arguments.plan = [arguments.plan, *changes], None  # zdd tune speed=50
    if arguments.plan is None:
        if not default:
            raise PlanError("no PLAN was given", f"name the plan file, or export {PLAN_VARIABLE}=FILE")
        arguments.plan = default


def load_plan_file(file: str, region: str = "") -> LoadedPlan:
    """Reads a plan file and fills in the environment.

    Args:
        region: one of the plan's regions; empty for the whole plan.

    Raises:
        PlanError: it cannot be read, or it is invalid.
    """
    text = read_text(file, missing_hint="create one with `zdd init`, or see config/plan.example.yaml")
    loaded = load_plan(text, source=file, environment=os.environ, region=region)
    # Errors of the server and of SQL parsers quote the plan's SQL, and a preview shows it.
    names = find_placeholders(loaded.document.get("change"))
    hide_values({name: os.environ[name] for name in names if name in os.environ}, shown=text)
    return loaded


def _load_current_region(arguments: argparse.Namespace) -> LoadedPlan:
    """The plan in the named region, else in its current one."""
    loaded = load_plan_file(arguments.plan, arguments.region)
    if loaded.plan.regions is None or loaded.plan.region:
        return loaded
    from zdd_tui.cli.regions import in_current_region

    return asyncio.run(in_current_region(loaded))


# One handler for each verb. They import late: `zdd status` must not pay for Textual or the drivers of other verbs.


def _run_check(arguments: argparse.Namespace) -> int:
    from zdd_tui.checks.plan import check_plan
    from zdd_tui.cli.measurement import lock_measurement

    loaded = load_plan_file(arguments.plan, arguments.region)
    measurement = None if arguments.offline else lock_measurement(arguments.scratch_dsn)
    if arguments.json:
        from zdd_tui.cli.check import run_check_json

        return asyncio.run(run_check_json(loaded, offline=arguments.offline, out=sys.stdout, measurement=measurement))
    for line in asyncio.run(check_plan(loaded, offline=arguments.offline, measurement=measurement)):
        print(f"✔ {line}")
    print(f"{loaded.plan.name}: {'keys and SQL are valid' if arguments.offline else 'ready to run'}")
    return 0


def _run_doctor(arguments: argparse.Namespace) -> int:
    from zdd_tui.backends.actor import this_actor
    from zdd_tui.cli.doctor import record_answer, run_doctor

    loaded = _load_current_region(arguments)
    if arguments.answer is not None:
        asyncio.run(record_answer(loaded, arguments.answer, arguments.reason, this_actor()))
    return asyncio.run(run_doctor(loaded, as_json=arguments.json, out=sys.stdout))


def _run_status(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.status import show_status

    loaded = load_plan_file(arguments.plan, arguments.region)
    options = {"as_json": arguments.json, "wait": arguments.wait, "timeout": arguments.timeout, "out": sys.stdout}
    if loaded.plan.regions is None or loaded.plan.region:
        return asyncio.run(show_status(loaded, **options))
    from zdd_tui.cli.regions import show_all_regions

    return asyncio.run(show_all_regions(loaded, **options))


def _run_release(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.run import RunOptions, confirm_run, run_release

    loaded = load_plan_file(arguments.plan, arguments.region)
    options = RunOptions(arguments.until, arguments.confirm, arguments.reason, arguments.unrehearsed, arguments.timeout)
    if not arguments.yes and arguments.confirm is None and sys.stdin.isatty():
        confirm_run(loaded, options)
    return asyncio.run(run_release(loaded, options))


def _run_command(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.commands import run_command

    loaded = _load_current_region(arguments)
    request = CommandRequest(
        CommandKind(arguments.command),
        arguments.reason,
        typed=getattr(arguments, "confirm", None),
        unrehearsed=getattr(arguments, "unrehearsed", False),
    )
    return run_command(loaded, request, assume_yes=getattr(arguments, "yes", True), timeout=arguments.timeout)


def _run_tune(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.commands import tune_backfill

    options = {"reset": arguments.reset, "reason": arguments.reason, "timeout": arguments.timeout}
    return tune_backfill(_load_current_region(arguments), arguments.changes, **options)


@contextmanager
def _importing_demo_packages(user: str) -> Iterator[None]:
    """Turns a package that only the extra `demo` installs into an error with a hint."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ZddError(
            f"{user} needs a package that is not installed: {error.name}", "pip install 'zdd-tui[demo]'"
        ) from None


def _run_rehearse(arguments: argparse.Namespace) -> int:
    with _importing_demo_packages("a rehearsal"):
        from zdd_tui.rehearsal.copy import RehearsalOptions
        from zdd_tui.rehearsal.run import run_rehearsal
    options = RehearsalOptions(arguments.scale, arguments.rows, arguments.with_data)
    return run_rehearsal(_load_current_region(arguments), options, as_json=arguments.json)


def _run_agent(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.agent import run_agent

    loaded = load_plan_file(arguments.plan, arguments.region)
    require_region(loaded.plan, loaded.source)
    return asyncio.run(run_agent(loaded, if_needed=arguments.if_needed, new=arguments.new))


def _run_open(arguments: argparse.Namespace) -> int:
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise ZddError("the dashboard needs a terminal", f"use `zdd status {arguments.plan}` in scripts")
    display = read_display_options(arguments, os.environ)
    loaded = _load_current_region(arguments)

    from zdd_tui.backends.actor import this_actor
    from zdd_tui.cli.dashboard import run_dashboard
    from zdd_tui.cli.fleet import load_fleet_settings

    watch_only = arguments.no_agent or arguments.read_only
    return run_dashboard(
        loaded,
        this_actor(),
        load_settings=lambda: load_fleet_settings(arguments.config, (), partial(_plan_databases, loaded)),
        start_agent=not watch_only,
        read_only=arguments.read_only,
        display=display,
        keymap=arguments.keymap,
        unlock_seconds=arguments.unlock_for,
        recording_file=arguments.record,
    )


def _run_fleet(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.fleet import load_fleet_settings

    settings = load_fleet_settings(arguments.config, _fleet_dsns(arguments), _plan_databases)
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise ZddError("the list of releases needs a terminal", "use `zdd list` in scripts")
    display = read_display_options(arguments, os.environ)

    from zdd_tui.backends.actor import this_actor
    from zdd_tui.cli.dashboard import run_fleet

    return run_fleet(
        lambda: settings,
        this_actor(),
        read_only=arguments.read_only,
        display=display,
        keymap=arguments.keymap,
        unlock_seconds=arguments.unlock_for,
    )


def _run_list(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.fleet import list_releases, load_fleet_settings

    settings = load_fleet_settings(arguments.config, _fleet_dsns(arguments), _plan_databases)
    return list_releases(settings, as_json=arguments.json, history=arguments.history, out=sys.stdout)


def _fleet_dsns(arguments: argparse.Namespace) -> list[str]:
    return [*arguments.dsn, *arguments.dsns]


def _plan_databases(loaded: LoadedPlan | None = None) -> tuple[FleetDatabase, ...]:
    """The databases of a plan, by default of the one that ZDD_PLAN names; none where there is no such plan."""
    if loaded is None:
        file = os.environ.get(PLAN_VARIABLE)
        if not file:
            return ()
        loaded = load_plan_file(file)
    plan = loaded.plan
    return plan_databases([plan.for_region(name) for name in plan.regions.names] if plan.regions else [plan])


def _run_keys(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.keys import show_keys

    return show_keys(arguments.check, arguments.keymap, sys.stdout)


def _run_replay(arguments: argparse.Namespace) -> int:
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise ZddError("a replay needs a terminal", f"`gzip -dcf {arguments.file} | head` shows its contents")
    display = read_display_options(arguments, os.environ)

    from zdd_tui.cli.dashboard import open_player
    from zdd_tui.dashboard.replay import run_replay

    return run_replay(open_player(arguments.file, arguments.speed, arguments.at), display)


def _run_plan(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.plan import run_plan

    return run_plan(arguments, sys.stdout)


def _run_advise(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.advise_report import run_advise

    return run_advise(arguments, sys.stdout)


def _run_init(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.init import run_init

    return run_init(arguments, sys.stdout)


def _run_demo(arguments: argparse.Namespace) -> int:
    with _importing_demo_packages("the demo"):
        from zdd_tui.demo.run import run_demo
    return run_demo(arguments)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zdd",
        description="Drives zero-downtime releases from a terminal.",
        epilog=(__doc__ or "").split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"zdd {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    _add_fleet_commands(verbs)
    _add_read_commands(verbs)
    _add_release_commands(verbs)
    _add_advice_commands(verbs)
    add_replay_options(_add_command(verbs, "replay", _run_replay, "Play a recording of `zdd open --record FILE`."))
    add_demo_options(
        _add_command(
            verbs,
            "demo",
            _run_demo,
            "Run a live demo on embedded PostgreSQL, Redis and Kubernetes. Needs nothing else.",
        )
    )
    return parser


def _add_command(verbs: Verbs, name: str, verb: CommandHandler, text: str) -> argparse.ArgumentParser:
    added = verbs.add_parser(name, help=text, description=text)
    added.set_defaults(verb=verb)
    return added


def _add_plan_command(verbs: Verbs, name: str, verb: CommandHandler, text: str) -> argparse.ArgumentParser:
    added = _add_command(verbs, name, verb, text)
    help_text = f"the release's YAML file (default: ${PLAN_VARIABLE})"
    added.add_argument("plan", metavar="PLAN", nargs="?", help=help_text)
    added.set_defaults(takes_plan=True)
    added.add_argument("--region", default="", metavar="NAME", help="one region of the plan; default: the current one")
    return added


def _add_fleet_commands(verbs: Verbs) -> None:
    shown = _add_command(verbs, "fleet", _run_fleet, find_action("fleet").cli_help)
    listed = _add_command(verbs, "list", _run_list, "List the releases of all configured databases.")
    for each in (shown, listed):
        add_fleet_options(each)
    add_dashboard_options(shown)
    add_display_options(shown)
    listed.add_argument("--history", action="store_true", help="ended releases too")
    listed.add_argument("--json", action="store_true", help="one JSON document, for scripts")


def _add_read_commands(verbs: Verbs) -> None:
    opened = _add_plan_command(
        verbs, "open", _run_open, "Open the dashboard; start an agent on this machine if none is running."
    )
    opened.add_argument("--no-agent", action="store_true", help="start no agent when it opens")
    opened.add_argument("--tour", action="store_true", help=argparse.SUPPRESS)  # for `zdd demo`, which starts this
    add_config_option(opened)
    add_dashboard_options(opened)
    add_display_options(opened)
    add_record_option(opened)

    add_keys_options(_add_command(verbs, "keys", _run_keys, "List the dashboard's keys and the source of each."))

    check = _add_plan_command(
        verbs, "check", _run_check, "Check a plan, and that database, cluster and Redis can run it. Changes nothing."
    )
    check.add_argument("--offline", action="store_true", help="check the file only; connect to nothing")
    add_scratch_option(check)
    check.add_argument(
        "--json",
        action="store_true",
        help="one JSON document, with the complete comparison of the new and the old side",
    )

    doctor = _add_plan_command(verbs, "doctor", _run_doctor, find_action("doctor").cli_help)
    doctor.add_argument("--json", action="store_true", help="one JSON document, for scripts")
    doctor.add_argument("--answer", metavar="ITEM", help="first store your answer to a checklist item, with --reason")
    doctor.add_argument("--reason", default="", help="the answer, and how you know; stored with your name and the date")

    rehearse = _add_plan_command(
        verbs,
        "rehearse",
        _run_rehearse,
        "Run the plan forward, and back from every phase, on an embedded PostgreSQL with production's schema, generated"
        " rows and writers. A production plan does not start without a rehearsal that passed.",
    )
    rehearse.add_argument(
        "--scale",
        type=_parse_fraction,
        default=0.1,
        metavar="SHARE",
        help="of production's rows (default: %(default)s)",
    )
    rehearse.add_argument("--rows", type=parse_positive, help="rows of the plan's table, instead of --scale")
    rehearse.add_argument(
        "--with-data", action="store_true", help="copy production's rows; without it no value is read"
    )
    rehearse.add_argument("--json", action="store_true", help="the report as JSON on stdout")

    status = _add_plan_command(verbs, "status", _run_status, "Show the state of the release.")
    status.add_argument("--json", action="store_true", help="one JSON document, for scripts")
    status.add_argument("--wait", metavar="PHASE", help="wait until the gates of PHASE pass (or: done, rolled-back)")
    _add_timeout_option(status, 600)

    agent = _add_plan_command(
        verbs, "agent", _run_agent, "Run the release: wait for the lease, then handle commands until it ends."
    )
    agent.add_argument("--new", action="store_true", help="start another release of a plan whose last one has ended")
    agent.add_argument("--if-needed", action="store_true", help="exit where another agent holds the lease")


def _add_release_commands(verbs: Verbs) -> None:
    run = _add_plan_command(
        verbs,
        "run",
        _run_release,
        "For pipelines: advance while gates open; stop where one stays closed, or the release stays held.",
    )
    run.add_argument("--until", default="", metavar="PHASE", help="stop after this phase (default: the end)")
    run.add_argument("--yes", "-y", action="store_true", help="on a terminal, too, do not ask before it starts")
    run.add_argument(
        "--confirm", metavar="NAME", help="the release's name: required where a step cannot be undone; implies --yes"
    )
    run.add_argument("--reason", default="", metavar="TEXT", help="stored in the audit with each advance")
    run.add_argument("--unrehearsed", action="store_true", help="start without a rehearsal; needs --reason")
    held_by = "a gate, a pause, a standing condition, a missing agent or a lost database"
    _add_timeout_option(run, 600, f"how long {held_by} may hold it")
    for each in ACTIONS:
        if not each.has_cli_command:
            continue
        added = _add_plan_command(verbs, each.id, _run_command, each.cli_help)
        added.set_defaults(command=each.id)
        added.add_argument("--reason", default="", metavar="TEXT", help="stored in the audit")
        _add_timeout_option(added, 30, "how long to wait for the agent's result")
        if each.confirmation is not Confirmation.NONE:
            added.add_argument("--yes", "-y", action="store_true", help="do not ask; required without a terminal")
        if each.id == "advance":
            added.add_argument(
                "--confirm",
                metavar="NAME",
                help="the release's name: required where a step cannot be undone; implies --yes",
            )
            added.add_argument(
                "--unrehearsed",
                action="store_true",
                help="start a production plan without a fresh rehearsal; needs --reason, and is audited",
            )
    tuner = _add_plan_command(verbs, "tune", _run_tune, find_action("tune").cli_help)
    add_tune_options(tuner)
    _add_timeout_option(tuner, 30, "how long to wait for the agent's result")


def _add_advice_commands(verbs: Verbs) -> None:
    add_advise_options(
        _add_command(verbs, "advise", _run_advise, "Read a change and recommend a strategy, with reasons and a plan.")
    )
    add_plan_options(
        _add_command(verbs, "plan", _run_plan, "Write the plan that executes a migration online, phase by phase.")
    )
    add_init_options(
        _add_command(
            verbs,
            "init",
            _run_init,
            "Ask a few questions and write the first plan. Overwrites nothing without --force.",
        )
    )


def _add_timeout_option(parser: argparse.ArgumentParser, default: float, help_text: str = "how long to --wait") -> None:
    parser.add_argument(
        "--timeout", type=parse_seconds, default=default, metavar="TIME", help=f"{help_text} (default: {default:.0f}s)"
    )


def _parse_fraction(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and up to 1, such as 0.1, got {text!r}")
    return share

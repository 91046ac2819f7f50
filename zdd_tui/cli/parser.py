"""`zdd`: one command per verb, on the same core as the screens.

Exit codes:
    0    done as asked
    1    refused by the rules or by you; or, with --wait, the release failed or
         came to another end
    2    bad input, or a system that cannot be used; nothing was changed
    4    nothing came within --timeout: the phase with --wait, else the agent's
         answer (the command stays queued)
    130  interrupted

PLAN is the release's YAML file; ${NAME} in it is filled from the environment.
"""

import argparse
import asyncio
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from zdd_tui import __version__
from zdd_tui.cli.options import add_desk, add_keys, add_look, add_record, add_tune, look_of
from zdd_tui.model.actions import ACTIONS, Danger, action
from zdd_tui.model.errors import PlanError, ZddError
from zdd_tui.model.plan.file import LoadedPlan, load_plan
from zdd_tui.model.release.records import CommandRequest
from zdd_tui.model.release.regions import refuse_whole
from zdd_tui.model.release.state import CommandKind

Verb = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb and returns its exit code; every expected error is one message on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no ✔ must not cost the answer
    arguments = _parser().parse_args(argv)
    verb: Verb = arguments.verb
    try:
        code = verb(arguments)
        sys.stdout.flush()  # here, where a reader that has gone is no error
        return code
    except ZddError as error:
        print(f"zdd: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `zdd status | head`: nobody reads any more. Python would complain once again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def read_plan(file: str, region: str = "") -> LoadedPlan:
    """Reads a plan file and fills in the environment.

    Args:
        region: which one of the plan's is meant; empty for the whole plan.

    Raises:
        PlanError: it cannot be read, or it is wrong.
    """
    path = Path(file)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PlanError(f"there is no plan at {file}", "see config/plan.example.yaml for one to start from") from None
    except IsADirectoryError:
        raise PlanError(f"{file} is a directory", "name the plan file in it") from None
    except OSError as error:
        raise PlanError(f"{file} cannot be read: {error.strerror}", "check its permissions") from None
    except UnicodeDecodeError as error:
        raise PlanError(f"{file} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from None
    return load_plan(text, source=file, environ=os.environ, region=region)


def _current(arguments: argparse.Namespace) -> LoadedPlan:
    """The plan in the region that is named, or else in its current one."""
    loaded = read_plan(arguments.plan, arguments.region)
    if loaded.plan.regions is None or loaded.plan.region:
        return loaded
    from zdd_tui.cli.regions import in_current

    return asyncio.run(in_current(loaded))


# --- verbs --------------------------------------------------------------------------------------------------


def _check(arguments: argparse.Namespace) -> int:
    from zdd_tui.checks.plan import check_plan

    loaded = read_plan(arguments.plan, arguments.region)
    check = check_plan
    if loaded.plan.regions is not None and not loaded.plan.region:
        from zdd_tui.cli.regions import check_regions as check
    for line in asyncio.run(check(loaded, offline=arguments.offline)):
        print(f"✔ {line}")
    where = "its SQL and its keys are right" if arguments.offline else "it can be carried out here"
    print(f"{loaded.plan.name}: {where}")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from zdd_tui.backends.actor import this_actor
    from zdd_tui.cli.doctor import answer, doctor

    loaded = _current(arguments)
    if arguments.answer is not None:
        asyncio.run(answer(loaded, arguments.answer, arguments.reason, this_actor()))
    return asyncio.run(doctor(loaded, as_json=arguments.json, out=sys.stdout))


def _status(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.status import status

    loaded = read_plan(arguments.plan, arguments.region)
    asked = {"as_json": arguments.json, "wait": arguments.wait, "timeout": arguments.timeout, "out": sys.stdout}
    if loaded.plan.regions is None or loaded.plan.region:
        return asyncio.run(status(loaded, **asked))
    from zdd_tui.cli.regions import status_of_all

    return asyncio.run(status_of_all(loaded, **asked))


def _command(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.commands import operate

    loaded = _current(arguments)
    request = CommandRequest(
        CommandKind(arguments.command),
        arguments.reason,
        typed=getattr(arguments, "confirm", None),
        unrehearsed=getattr(arguments, "unrehearsed", False),
    )
    return operate(loaded, request, yes=getattr(arguments, "yes", True), timeout=arguments.timeout)


def _tune(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.commands import tune

    wanted = {"reset": arguments.reset, "reason": arguments.reason, "timeout": arguments.timeout}
    return tune(_current(arguments), arguments.changes, **wanted)


def _rehearse(arguments: argparse.Namespace) -> int:
    try:
        from zdd_tui.rehearsal.copy import Wish
        from zdd_tui.rehearsal.run import run_rehearsal
    except ModuleNotFoundError as error:
        raise ZddError(
            f"a rehearsal needs a package that is not installed: {error.name}", "pip install 'zdd-tui[demo]'"
        ) from None
    wish = Wish(arguments.scale, arguments.rows, arguments.with_data)
    return run_rehearsal(_current(arguments), wish, as_json=arguments.json)


def _agent(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.agent import serve

    loaded = read_plan(arguments.plan, arguments.region)
    refuse_whole(loaded.plan, loaded.source)
    return asyncio.run(serve(loaded, if_needed=arguments.if_needed, anew=arguments.anew))


def _open(arguments: argparse.Namespace) -> int:
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise ZddError("the dashboard needs a terminal", f"use `zdd status {arguments.plan}` in scripts")
    look = look_of(arguments, os.environ)
    loaded = _current(arguments)

    from zdd_tui.backends.actor import this_actor
    from zdd_tui.cli.dashboard import run_dashboard

    watch_only = arguments.no_agent or arguments.read_only
    return run_dashboard(
        loaded,
        this_actor(),
        start_agent=not watch_only,
        read_only=arguments.read_only,
        look=look,
        keymap=arguments.keymap,
        unlock_seconds=arguments.unlock_for,
        record=arguments.record,
    )


def _keys(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.keys import run_keys

    return run_keys(arguments.check, arguments.keymap, os.environ, sys.stdout)


def _replay(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.replay import player_of

    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise ZddError("a replay needs a terminal", f"`gzip -dcf {arguments.file} | head` shows what is in it")
    look = look_of(arguments, os.environ)
    player = player_of(arguments.file, arguments.speed, arguments.at)

    from zdd_tui.dashboard.replay import run_replay

    return run_replay(player, look)


def _advise(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.advise_report import run_advise

    return run_advise(arguments, sys.stdout)


def _init(arguments: argparse.Namespace) -> int:
    from zdd_tui.cli.init import run_init

    return run_init(arguments, sys.stdout)


def _demo(arguments: argparse.Namespace) -> int:
    try:
        from zdd_tui.demo.run import run_demo
    except ModuleNotFoundError as error:
        raise ZddError(
            f"the demo needs a package that is not installed: {error.name}", "pip install 'zdd-tui[demo]'"
        ) from None
    return run_demo(arguments)


# --- parser -------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zdd",
        description="Drives zero-downtime releases from a terminal.",
        epilog=(__doc__ or "").split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"zdd {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    _add_reading_verbs(verbs)
    _add_commands(verbs)
    _add_advisers(verbs)
    _add_replay(verbs)
    _add_demo(verbs)
    return parser


def _add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, verb: Verb, text: str):  # type: ignore[no-untyped-def]
    added = verbs.add_parser(name, help=text, description=text)
    added.set_defaults(verb=verb)
    return added


def _add_reading_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from zdd_tui.cli.options import positive

    opened = _add(verbs, "open", _open, "Open the dashboard; start an agent on this machine if none is at work.")
    _plan(opened)
    opened.add_argument("--no-agent", action="store_true", help="only look: never start an agent")
    add_desk(opened)
    add_look(opened)
    add_record(opened)

    add_keys(_add(verbs, "keys", _keys, "List the dashboard's keys and where each comes from."))

    check = _add(
        verbs, "check", _check, "Check a plan, and that database, cluster and Redis can carry it. Changes nothing."
    )
    _plan(check)
    check.add_argument("--offline", action="store_true", help="only the file: ask no system")

    doctor = _add(verbs, "doctor", _doctor, action("doctor").cli_help)
    _plan(doctor)
    doctor.add_argument("--json", action="store_true", help="one JSON document, for scripts")
    doctor.add_argument("--answer", metavar="POINT", help="first record what only you know about it, with --reason")
    doctor.add_argument("--reason", default="", help="what you know, and from where; kept with your name and the date")

    rehearse = _add(
        verbs,
        "rehearse",
        _rehearse,
        "Walk the plan forward, and back from every phase, on an embedded PostgreSQL with production's schema, made-up"
        " rows and writers. A production plan does not start without one that passed.",
    )
    _plan(rehearse)
    rehearse.add_argument(
        "--scale", type=_share, default=0.1, metavar="SHARE", help="of production's rows (default: %(default)s)"
    )
    rehearse.add_argument("--rows", type=positive, help="rows of the plan's table, instead of --scale")
    rehearse.add_argument(
        "--with-data", action="store_true", help="with production's own rows; without it no value is read"
    )
    rehearse.add_argument("--json", action="store_true", help="the report as JSON on stdout")

    status = _add(verbs, "status", _status, "Show where the release stands.")
    _plan(status)
    status.add_argument("--json", action="store_true", help="one JSON document, for scripts")
    status.add_argument("--wait", metavar="PHASE", help="until PHASE may be left (or: done, rolled-back)")
    _timeout(status, 600)

    agent = _add(verbs, "agent", _agent, "Carry the release out: wait for the lease, obey commands, until it ends.")
    _plan(agent)
    agent.add_argument("--anew", action="store_true", help="begin another release of a plan whose last one has ended")
    agent.add_argument("--if-needed", action="store_true", help="go away where another agent holds the lease")


def _add_commands(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for each in ACTIONS:
        if not each.verb:
            continue
        added = _add(verbs, each.id, _command, each.cli_help)
        added.set_defaults(command=each.id)
        _plan(added)
        added.add_argument("--reason", default="", metavar="WHY", help="goes into the audit")
        _timeout(added, 30, "how long to wait for the agent's answer")
        if each.danger is not Danger.PLAIN:
            added.add_argument("--yes", "-y", action="store_true", help="do not ask; needed where there is no terminal")
        if each.id == "advance":
            added.add_argument(
                "--confirm",
                metavar="NAME",
                help="the release's name: needed where a step cannot be undone; as good as --yes",
            )
            added.add_argument(
                "--unrehearsed",
                action="store_true",
                help="begin a production plan without a fresh rehearsal; needs --reason, and is audited",
            )
    tuner = _add(verbs, "tune", _tune, action("tune").cli_help)
    _plan(tuner)
    add_tune(tuner)
    _timeout(tuner, 30, "how long to wait for the agent's answer")


def _add_advisers(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from zdd_tui.cli.options import add_advise, add_init

    add_advise(_add(verbs, "advise", _advise, "Look at a change and say which strategy it asks for, why, and how."))
    add_init(_add(verbs, "init", _init, "Ask a few questions and write the first plan. Overwrites nothing."))


def _add_replay(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from zdd_tui.cli.replay import add_replay

    add_replay(_add(verbs, "replay", _replay, "Play what `zdd open --record FILE` has written, in the same screens."))


def _add_demo(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    from zdd_tui.cli.options import add_demo

    add_demo(
        _add(verbs, "demo", _demo, "A living release on embedded PostgreSQL, Redis and Kubernetes. Needs nothing else.")
    )


def _plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", metavar="PLAN", help="the release's YAML file")
    parser.add_argument(
        "--region", default="", metavar="NAME", help="of a plan with regions: which one; default: the current one"
    )


def _timeout(parser: argparse.ArgumentParser, default: float, what: str = "how long to --wait") -> None:
    from zdd_tui.model.duration import parse_duration

    def duration(text: str) -> float:
        try:
            return parse_duration(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    parser.add_argument(
        "--timeout", type=duration, default=default, metavar="TIME", help=f"{what} (default: {default:.0f}s)"
    )


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"expected a share over 0 and up to 1, such as 0.1, got {text!r}")
    return share

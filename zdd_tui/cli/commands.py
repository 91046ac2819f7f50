"""An operator's command from the shell: show what will run, ask, send, and say what came of it."""

import asyncio
import sys
from dataclasses import dataclass, replace

from zdd_tui.backends.actor import this_actor
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS, connect
from zdd_tui.backends.store.client import Store
from zdd_tui.model.actions import Confirmation, find_action
from zdd_tui.model.ddl import Catalog
from zdd_tui.model.errors import PlanError, Refused, ZddError, with_hint
from zdd_tui.model.plan.base import BasePlan, Plan
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.preview import describe_target, preview_command
from zdd_tui.model.release.records import CommandRequest, ReleaseRecord, StoredCommand
from zdd_tui.model.release.regions import require_same_region
from zdd_tui.model.release.state import Command, CommandKind, Precondition, apply_command, requires_name
from zdd_tui.model.tuning import LIMITS, apply_tuning, format_limit, parse_requested_limits, reset_to_plan

EXIT_TIMEOUT = 4


@dataclass(frozen=True, slots=True)
class PreparedCommand:
    """A command as the operator sees it before it is sent; the request holds what was seen and what will run."""

    record: ReleaseRecord
    request: CommandRequest

    @property
    def requires_name(self) -> bool:
        return requires_name(self.record.release, self.request.kind)


async def find_release(store: Store, loaded: LoadedPlan) -> int:
    """The newest release of the plan's name.

    Raises:
        ZddError: there is none yet.
    """
    found = await store.find_release(loaded.plan.name) if await store.schema_version() else None
    if found is None:
        raise ZddError(
            f"{store.address} has no release {loaded.plan.name}",
            f"start it with `zdd open {loaded.command_line_name}` or `zdd agent {loaded.command_line_name}`",
        )
    return found


def build_precondition(record: ReleaseRecord) -> Precondition:
    """What the operator sees now, to be rechecked when the agent takes the command."""
    return Precondition(record.release.plan_hash, record.release.state, record.release.phase)


def require_reason(loaded: LoadedPlan, verb: str, reason: str) -> None:
    """Where the plan asks for a reason, nothing is sent without one.

    Raises:
        PlanError: there is none.
    """
    if loaded.plan.confirm.needs_reason(verb, reason):
        title = f"the plan asks for a reason to {verb} (confirm.reason in {loaded.source}); nothing was sent"
        raise PlanError(title, "say why with --reason TEXT; it goes into the audit")


def run_command(loaded: LoadedPlan, request: CommandRequest, *, assume_yes: bool, timeout: float) -> int:
    """Sends one command and waits for the agent's answer.

    What was asked for on the terminal goes to stderr; stdout carries the answer alone. The question is put between
    two event loops: inside of one, ctrl-c would not end it.

    Args:
        request: what was given on the command line; what was seen, what will run and the name are added here.
        assume_yes: do not ask.
        timeout: seconds to wait for the answer.

    Returns:
        0 done, 1 refused, 4 no answer within ``timeout`` seconds.

    Raises:
        PlanError: the plan asks for a reason and there is none; nothing was sent.
        ZddError: there is no release, or nobody to confirm; nothing was sent.
        Refused: the release runs another plan, has ended, or the operator said no; nothing was sent.
    """
    if request.unrehearsed and not request.reason.strip():
        raise PlanError("--unrehearsed needs a reason", "say why with --reason TEXT; it goes into the audit")
    require_reason(loaded, request.kind, request.reason)
    prepared = asyncio.run(_prepare_command(loaded, request))
    name = prepared.record.release.name
    if request.typed is not None and request.typed != name:
        raise Refused(f"{request.typed!r} is not the release's name; nothing was sent", f"--confirm {name}")
    if find_action(request.kind).confirmation is not Confirmation.NONE and not assume_yes and request.typed is None:
        prepared = replace(prepared, request=replace(prepared.request, typed=_ask_confirmation(loaded, prepared)))
    return asyncio.run(send_command(loaded, prepared, timeout))


async def _prepare_command(loaded: LoadedPlan, request: CommandRequest) -> PreparedCommand:
    async with await open_store(loaded) as store:
        record = await store.read_release(await find_release(store, loaded))
    kind, release = request.kind, record.release
    if release.plan_hash == loaded.hash:
        require_same_region(loaded.plan, record.region)
    else:
        other = f"{loaded.source} is not the plan that release {release.name} runs"
        if kind in (CommandKind.ADVANCE, CommandKind.RESUME):
            raise Refused(other, "use the file it was started with, or roll back and start the new one")
        _print_message(
            f"{other}; the {kind} goes by the plan that it runs"
        )  # in an incident the way back is open, whatever
    if release.state.has_ended:  # no agent is there to refuse it
        region = f" in region {record.region}" if record.region else ""
        raise Refused(
            f"release {release.name} has ended{region}: it is {release.state}",
            f"begin another with `zdd agent --new {loaded.command_line_name}`",
        )
    catalog = await _read_catalog(loaded.plan) if find_action(kind).confirmation is not Confirmation.NONE else None
    targets = preview_command(loaded.plan, release, kind, catalog)
    return PreparedCommand(record, replace(request, expected=build_precondition(record), targets=targets))


async def open_store(loaded: LoadedPlan) -> Store:
    """Connects to the plan's database."""
    database = loaded.plan.database
    return await Store.open(database.dsn.get_secret_value(), timeout=database.connect_timeout)


async def _read_catalog(plan: BasePlan) -> Catalog | None:
    """Facts for the preview; None where they cannot be had, and the preview describes what it cannot show."""
    if not isinstance(plan, Plan):
        return None
    database = plan.database
    try:
        conn = await connect(database.dsn.get_secret_value(), application_name="zdd", timeout=database.connect_timeout)
        try:
            return await read_catalog(conn, plan)
        finally:
            conn.terminate()
    except (ZddError, *CONNECTION_ERRORS):
        return None


async def send_command(loaded: LoadedPlan, prepared: PreparedCommand, timeout: float) -> int:
    """Sends a command that was prepared and confirmed, and waits for the answer; see :func:`run_command`."""
    verb, record = prepared.request.kind, prepared.record
    async with await open_store(loaded) as store:
        command_id = await store.send_command(record.id, prepared.request, actor=this_actor())
        lease = await store.read_lease(record.id)
        if lease is None or not lease.is_live:
            _print_message(f"no agent holds the lease; waiting {timeout:.0f} s for one to take the command")
        try:
            answer = await store.wait_command(command_id, timeout)
        except asyncio.CancelledError:
            _print_message(f"interrupted: the {verb} stays queued, and the agent will take it")
            raise
        if answer.status == "queued":
            _print_message(_explain_no_answer(loaded, verb, await store.read_release(record.id), timeout))
            return EXIT_TIMEOUT
    return _report_outcome(verb, answer)


def _report_outcome(verb: str, answer: StoredCommand) -> int:
    if answer.status == "refused":
        _print_message(f"{verb} refused: {answer.outcome}")
        return 1
    sys.stdout.write(f"{verb} done: {answer.outcome}\n")
    return 0


def _explain_no_answer(loaded: LoadedPlan, verb: str, record: ReleaseRecord, timeout: float) -> str:
    """Why nobody answers, as far as it can be known, and what to do."""
    lease = record.lease
    told = f"no answer within {timeout:g} s; the {verb} stays queued"
    if lease is None or not lease.is_live:
        return with_hint(f"{told}, and no agent is running", f"start one with `zdd agent {loaded.command_line_name}`")
    holder = f"agent {lease.holder}@{lease.host}, pid {lease.pid}"
    word = next((event.message for event in reversed(record.events) if event.kind == "error"), "")
    if word:
        return f"{told}\n  {holder}, said last: {word}"
    return with_hint(told, f"see the log of {holder}: it holds the lease and does not answer")


def _print_message(text: str) -> None:
    sys.stderr.write(f"zdd: {text}\n")
    sys.stderr.flush()


def _ask_confirmation(loaded: LoadedPlan, prepared: PreparedCommand) -> str | None:
    """Shows what will run and asks; what was typed where the release's name is asked for.

    Raises:
        ZddError: nobody is there to ask.
        Refused: the operator said no.
    """
    name = prepared.record.release.name
    if not sys.stdin.isatty():
        mend = f"look at it with `zdd status {loaded.command_line_name}`, then add --confirm {name}"
        raise ZddError(
            f"{prepared.request.kind} asks for a confirmation, and there is no terminal to give it; nothing was sent",
            mend if prepared.requires_name else "add --yes",
        )
    sys.stderr.write(f"{prepared.request.kind} of {name} on {describe_target(loaded.plan)} will run:\n")
    sys.stderr.write("".join(f"  {line}\n" for line in prepared.request.targets))
    wanted = f"Type the release's name to go on ({name}): " if prepared.requires_name else "Go on? [y/N] "
    sys.stderr.write(wanted)
    sys.stderr.flush()
    typed = sys.stdin.readline().strip()
    if prepared.requires_name and typed == name:
        return typed
    if prepared.requires_name or typed.lower() not in ("y", "yes"):
        raise Refused("not confirmed; nothing was sent")
    return None


# --- `zdd tune`: changes limits of the backfill while it runs, or shows which hold.


def tune_backfill(loaded: LoadedPlan, assignments: list[str], *, reset: bool, reason: str, timeout: float) -> int:
    """Sends the change and waits for the agent's answer; without one, shows the limits.

    Returns:
        0 done, 1 refused, 4 no answer within ``timeout`` seconds.

    Raises:
        PlanError: no such limit, or a value that the plan's rules do not allow; nothing was sent.
        Refused: the release has no backfill, or it is over; nothing was sent.
    """
    asked = parse_requested_limits(assignments)
    if assignments or reset:
        require_reason(loaded, CommandKind.TUNE, reason)
    record = asyncio.run(_read_record(loaded))
    plan = record.plan_limits
    if not assignments and not reset:
        sys.stdout.write(format_limits(record))
        return 0
    before = record.tuning
    asked = (reset_to_plan(before) if reset else {}) | asked
    tuning = apply_tuning(plan, before, asked) if plan is not None else ()
    # Judged here as the agent will, so that what cannot be is not sent.
    apply_command(record.release, Command(CommandKind.TUNE, tuning=tuning), {}, record.now)
    if not asked:
        sys.stdout.write("every limit is the plan's own already\n")
        return 0
    targets = preview_command(loaded.plan, record.release, CommandKind.TUNE)
    request = CommandRequest(CommandKind.TUNE, reason, build_precondition(record), targets=targets, tuning=asked)
    return asyncio.run(send_command(loaded, PreparedCommand(record, request), timeout))


async def _read_record(loaded: LoadedPlan) -> ReleaseRecord:
    async with await open_store(loaded) as store:
        return await store.read_release(await find_release(store, loaded))


def format_limits(record: ReleaseRecord) -> str:
    """Every limit with its value; the plan's own where it differs.

    Raises:
        Refused: the release has no backfill.
    """
    plan, limits = record.plan_limits, record.limits
    if plan is None or limits is None:
        raise Refused(f"a {record.release.strategy.name} release has no backfill: there are no limits to change")
    lines = []
    for spec in LIMITS:
        now, own = (format_limit(spec.key, getattr(values, spec.key)) for values in (limits, plan))
        value = now if now == own else f"{now} (plan: {own})"
        lines.append(f"{spec.key:<22} {value:<20} {spec.help}".rstrip())
    return "\n".join(lines) + "\n"

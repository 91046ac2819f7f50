"""An operator's command from the shell: shows what will run, confirms, sends it and prints the result."""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from http import HTTPStatus
from uuid import uuid4

from zdd_tui.backends.actor import this_actor
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS, connect
from zdd_tui.backends.store.client import Store
from zdd_tui.backends.store.delivery import deliver_command
from zdd_tui.model.actions import Confirmation, find_action
from zdd_tui.model.ddl import Catalog
from zdd_tui.model.errors import (
    ClusterError,
    CommandNotSent,
    DatabaseError,
    PlanError,
    Refused,
    ZddError,
    with_hint,
)
from zdd_tui.model.plan.base import BasePlan, Plan, WorkloadPlan
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.plan.registry import strategy_title
from zdd_tui.model.plan_name import name_plan
from zdd_tui.model.release.blocks import find_blocks
from zdd_tui.model.release.claims import assess_activity, list_agent_waits
from zdd_tui.model.release.delivery import ATTEMPT_SECONDS, RETRY_SECONDS, VALID_SECONDS
from zdd_tui.model.release.preview import describe_target, preview_blocks, preview_command
from zdd_tui.model.release.records import CommandRequest, ReleaseRecord
from zdd_tui.model.release.regions import require_same_region
from zdd_tui.model.release.state import (
    Command,
    CommandKind,
    Precondition,
    apply_command,
    explain_ended,
    requires_name,
)
from zdd_tui.model.release.summary import has_no_agent
from zdd_tui.model.tuning import (
    LIMITS,
    apply_tuning,
    describe_table_limits,
    format_limit,
    parse_requested_limits,
    reset_to_plan,
)

CLUSTER_TIMEOUT = 2.0
"""Seconds for what a preview asks the cluster."""

EXIT_TIMEOUT = 4
"""The agent did not answer in time; the command stays queued."""


@dataclass(frozen=True, slots=True)
class PreparedCommand:
    """A command before it is sent; its request holds the precondition and the lines that will run.

    Attributes:
        read_at: monotonic seconds at which the record was read.
    """

    record: ReleaseRecord
    request: CommandRequest
    read_at: float

    def server_now(self) -> float:
        """The database's clock in seconds since the epoch, extrapolated from the reading."""
        return self.record.now + time.monotonic() - self.read_at

    @property
    def requires_name(self) -> bool:
        return requires_name(self.record.release, self.request.kind)


async def find_release(store: Store, loaded: LoadedPlan) -> int:
    """The id of the newest release of the plan's name.

    Raises:
        ZddError: there is no release yet.
    """
    found = await store.find_release(loaded.plan.name) if await store.schema_version() else None
    if found is None:
        raise ZddError(
            f"{store.address} has no release {loaded.plan.name}",
            f"start it with `zdd open {loaded.command_line_name}` or `zdd agent {loaded.command_line_name}`",
        )
    return found


def build_precondition(record: ReleaseRecord) -> Precondition:
    """The state that the operator sees now; the agent rechecks it before it runs the command."""
    return Precondition(record.release.plan_hash, record.release.state, record.release.phase)


def require_reason(loaded: LoadedPlan, verb: str, reason: str) -> None:
    """
    Raises:
        PlanError: the plan requires a reason for this command, and none was given.
    """
    if loaded.plan.confirm.needs_reason(verb, reason):
        title = f"{verb} requires a reason (confirm.reason in {loaded.source}); nothing was sent"
        raise PlanError(title, "add --reason TEXT; it is stored in the audit")


def run_command(loaded: LoadedPlan, request: CommandRequest, *, assume_yes: bool, timeout: float) -> int:
    """Sends one command and waits for the agent's result.

    The confirmation goes to stderr; stdout carries the result alone. The question is asked between two event loops:
    inside of one, ctrl-c would not end it.

    Args:
        request: from the command line; precondition, targets and typed name are added here.
        assume_yes: do not ask for a confirmation.
        timeout: seconds to wait for the result.

    Returns:
        0 done, 1 refused, 4 no result within ``timeout`` seconds.

    Raises:
        PlanError: the plan requires a reason, and none was given; nothing was sent.
        ZddError: there is no release, or no terminal for the confirmation; nothing was sent.
        Refused: the release runs another plan, has ended, or the operator declined; nothing was sent.
    """
    if request.unrehearsed and not request.reason.strip():
        raise PlanError("--unrehearsed needs a reason", "add --reason TEXT; it is stored in the audit")
    require_reason(loaded, request.kind, request.reason)
    prepared = asyncio.run(_prepare_command(loaded, request))
    name = prepared.record.release.name
    if request.typed is not None and request.typed != name:
        raise Refused(f"{request.typed!r} is not the release's name; nothing was sent", f"add --confirm {name}")
    if find_action(request.kind).confirmation is not Confirmation.NONE and not assume_yes and request.typed is None:
        prepared = replace(prepared, request=replace(prepared.request, typed=_ask_confirmation(loaded, prepared)))
    return asyncio.run(send_command(loaded, prepared, timeout))


async def _prepare_command(loaded: LoadedPlan, request: CommandRequest) -> PreparedCommand:
    read_at = time.monotonic()
    record = await _read_record(loaded)
    kind, release = request.kind, record.release
    if release.plan_hash == loaded.hash:
        require_same_region(loaded.plan, record.region)
    else:
        other = f"{loaded.source} is not the plan that release {release.name} runs"
        if kind in (CommandKind.ADVANCE, CommandKind.RESUME):
            raise Refused(other, "use the file it was started with, or roll back and start the new one")
        # In an incident, rollback and pause stay possible.
        _print_message(f"{other}; the {kind} uses the plan that it runs")
    if release.state.has_ended:  # no agent runs that could refuse it
        raise explain_ended(release, loaded.command_line_name, record.region)
    catalog = await _read_catalog(loaded.plan) if find_action(kind).confirmation is not Confirmation.NONE else None
    missing = await _find_missing_deployments(loaded.plan) if kind is CommandKind.ROLLBACK else ()
    targets = preview_command(loaded.plan, release, kind, catalog, missing)
    return PreparedCommand(record, replace(request, expected=build_precondition(record), targets=targets), read_at)


async def open_store(loaded: LoadedPlan, application_name: str = "zdd", timeout: float | None = None) -> Store:
    """Connects to the plan's database.

    Args:
        timeout: seconds to connect; None for those of the plan.
    """
    database = loaded.plan.database
    dsn = database.dsn.get_secret_value()
    return await Store.open(dsn, application_name=application_name, timeout=timeout or database.connect_timeout)


async def _read_catalog(plan: BasePlan) -> Catalog | None:
    """The catalog for the preview; None where it cannot be read, and the preview describes the steps instead."""
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


async def _find_missing_deployments(plan: BasePlan) -> tuple[str, ...]:
    """The plan's Deployment if it does not exist. A cluster that does not respond must not delay a rollback."""
    from zdd_tui.backends.kubernetes.cluster import Cluster  # noqa: PLC0415  # only a rollback needs it
    from zdd_tui.backends.kubernetes.errors import KubeApiError  # noqa: PLC0415

    if not isinstance(plan, WorkloadPlan):
        return ()
    names = plan.kubernetes
    try:
        async with (
            asyncio.timeout(CLUSTER_TIMEOUT),
            Cluster.connect(names.kubeconfig, names.context, names.namespace, check=False) as cluster,
        ):
            await cluster.get_deployment(names.deployment)
    except KubeApiError as error:
        return (names.deployment,) if error.status == HTTPStatus.NOT_FOUND else ()
    except (ClusterError, TimeoutError):
        pass
    return ()


async def send_command(loaded: LoadedPlan, prepared: PreparedCommand, timeout: float) -> int:
    """Sends a confirmed command and waits for the result; see :func:`run_command`.

    While the database does not confirm it, says so and retries; the command is stored once at most.

    Raises:
        CommandNotSent: the database has not confirmed it; it has no effect later.
    """
    verb, record = prepared.request.kind, prepared.record
    request = replace(prepared.request, request_id=uuid4().hex, confirmed_at=prepared.server_now())
    try:
        async with AsyncExitStack() as stack:
            store, command_id = await _deliver(loaded, replace(prepared, request=request), stack)
            return await _wait_for_answer(loaded, store, record, verb, command_id, timeout)
    except CommandNotSent as error:
        raise CommandNotSent(f"{verb} was NOT SENT: {error.title}", error.hint) from None


async def _deliver(loaded: LoadedPlan, prepared: PreparedCommand, stack: AsyncExitStack) -> tuple[Store, int]:
    """Opens a store and stores the command."""
    verb, opened = prepared.request.kind, list[Store]()
    is_reported = False

    async def attempt() -> int:
        if not opened:
            opened.append(await stack.enter_async_context(await open_store(loaded, timeout=ATTEMPT_SECONDS)))
        valid_until = prepared.server_now() + VALID_SECONDS
        return await opened[0].send_command(
            prepared.record.id, prepared.request, actor=this_actor(), valid_until=valid_until
        )

    def on_failure(error: DatabaseError) -> None:
        nonlocal is_reported
        if not is_reported:
            is_reported = True
            _print_message(f"{verb} NOT SENT: {error.title}; retrying for {RETRY_SECONDS:.0f} s")

    try:
        command_id = await deliver_command(attempt, on_failure)
    except asyncio.CancelledError:
        _print_message(f"interrupted; {verb} is given up, and is not executed after {VALID_SECONDS:.0f} s from now")
        raise
    if is_reported:
        _print_message(f"{verb} is stored now")
    return opened[0], command_id


async def _wait_for_answer(
    loaded: LoadedPlan, store: Store, record: ReleaseRecord, verb: CommandKind, command_id: int, timeout: float
) -> int:
    try:
        if has_no_agent(await store.read_lease(record.id)):
            _print_message(f"no agent holds the lease; waiting {timeout:.0f} s for one")
        answer = await store.wait_command(command_id, timeout)
    except DatabaseError as error:
        hint = f"check it with `zdd status {loaded.command_line_name}`"
        raise DatabaseError(f"the {verb} is stored; its result cannot be read: {error.title}", hint) from None
    except asyncio.CancelledError:
        _print_message(f"interrupted; the {verb} stays queued, and the agent will run it")
        raise
    if answer.status == "queued":
        _print_message(_explain_no_answer(loaded, verb, await store.read_release(record.id), timeout))
        return EXIT_TIMEOUT
    if answer.status == "refused":
        _print_message(name_plan(f"{verb} refused: {answer.outcome}", loaded.command_line_name))
        return 1
    sys.stdout.write(f"{verb} accepted: {answer.outcome}\n")
    return 0


def _explain_no_answer(loaded: LoadedPlan, verb: str, record: ReleaseRecord, timeout: float) -> str:
    """Why there is no result, as far as it is known, and what to do."""
    lease = record.lease
    text = f"no result within {timeout:g} s; the {verb} stays queued"
    activity = assess_activity(lease, 0.0)
    if lease is None or not activity.is_active:
        return with_hint(f"{text}, and no agent is running", f"start one with `zdd agent {loaded.command_line_name}`")
    holder = f"agent {lease.holder}@{lease.host}, pid {lease.pid}"
    if waits := list_agent_waits(record, activity):
        return f"{text}\n  the agent waits for {'; '.join(waits)} ({holder})"
    return with_hint(text, f"see the log of {holder}: it holds the lease and does not respond")


def _print_message(text: str) -> None:
    sys.stderr.write(f"zdd: {text}\n")
    sys.stderr.flush()


def _ask_confirmation(loaded: LoadedPlan, prepared: PreparedCommand) -> str | None:
    """Shows what will run and asks for a confirmation.

    Returns:
        the typed name, where the release's name is required.

    Raises:
        ZddError: stdin is no terminal.
        Refused: the operator declined.
    """
    name = prepared.record.release.name
    if not sys.stdin.isatty():
        named = f"check it with `zdd status {loaded.command_line_name}`, then add --confirm {name}"
        raise ZddError(
            f"{prepared.request.kind} requires a confirmation, and stdin is no terminal; nothing was sent",
            named if prepared.requires_name else "add --yes",
        )
    if prepared.request.kind is CommandKind.ROLLBACK:
        _show_rollback_facts(loaded, prepared.record)
    for title, block in find_blocks(prepared.request.targets, preview_blocks(loaded.plan)).items():
        sys.stderr.write("".join(f"{line}\n" for line in (title, *(f"  {line}" for line in block), "")))
    sys.stderr.write(f"{prepared.request.kind} of {name} on {describe_target(loaded.plan)} will run:\n")
    sys.stderr.write("".join(f"  {line}\n" for line in prepared.request.targets))
    sys.stderr.write(f"Type the release's name to confirm ({name}): " if prepared.requires_name else "Continue? [y/N] ")
    sys.stderr.flush()
    typed = sys.stdin.readline().strip()
    if prepared.requires_name and typed == name:
        return typed
    if prepared.requires_name or typed.lower() not in ("y", "yes"):
        raise Refused("not confirmed; nothing was sent")
    return None


def _show_rollback_facts(loaded: LoadedPlan, record: ReleaseRecord) -> None:
    from zdd_tui.cli.rollback_facts import (  # noqa: PLC0415  # the dashboard's source; a script needs none of it
        read_rollback_facts,
        write_rollback_facts,
    )

    _print_message("reading what users get now and what is lost …")
    write_rollback_facts(read_rollback_facts(loaded, record))


def tune_backfill(loaded: LoadedPlan, assignments: list[str], *, reset: bool, reason: str, timeout: float) -> int:
    """`zdd tune`: changes limits of the backfill while it runs; without a change, shows the limits.

    Returns:
        0 done, 1 refused, 4 no result within ``timeout`` seconds.

    Raises:
        PlanError: no such limit, or a value that the plan's rules do not allow; nothing was sent.
        Refused: the release has no backfill, or the backfill has ended; nothing was sent.
    """
    requested = parse_requested_limits(assignments)
    if assignments or reset:
        require_reason(loaded, CommandKind.TUNE, reason)
    read_at = time.monotonic()
    record = asyncio.run(_read_record(loaded))
    plan = record.plan_limits
    if not assignments and not reset:
        sys.stdout.write(format_limits(record))
        return 0
    before = record.tuning
    requested = (reset_to_plan(before) if reset else {}) | requested
    tables = record.release.strategy.filled_tables
    tuning = apply_tuning(plan, before, requested, tables) if plan is not None else ()
    # The same rules as the agent's, so that an impossible change is not sent.
    apply_command(record.release, Command(CommandKind.TUNE, tuning=tuning), {}, record.now)
    if not requested:
        sys.stdout.write("every limit has the plan's value already\n")
        return 0
    targets = preview_command(loaded.plan, record.release, CommandKind.TUNE)
    request = CommandRequest(CommandKind.TUNE, reason, build_precondition(record), targets=targets, tuning=requested)
    return asyncio.run(send_command(loaded, PreparedCommand(record, request, read_at), timeout))


async def _read_record(loaded: LoadedPlan) -> ReleaseRecord:
    async with await open_store(loaded) as store:
        return await store.read_release(await find_release(store, loaded))


def format_limits(record: ReleaseRecord) -> str:
    """Every limit with its value, and the plan's value where it differs; then the limits of tables of their own.

    Raises:
        Refused: the release has no backfill.
    """
    plan, limits = record.plan_limits, record.limits
    if plan is None or limits is None:
        title = strategy_title(record.release.strategy.name)
        raise Refused(f"{title}: this release has no backfill, so there are no limits to change")
    lines = []
    for spec in LIMITS:
        now, own = (format_limit(spec.key, getattr(values, spec.key)) for values in (limits, plan))
        value = now if now == own else f"{now} (plan: {own})"
        lines.append(f"{spec.key:<22} {value:<20} {spec.help}".rstrip())
    lines += describe_table_limits(plan, limits, record.release.strategy.filled_tables)
    return "\n".join(lines) + "\n"

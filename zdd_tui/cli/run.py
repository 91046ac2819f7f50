"""`zdd run`: a release without a person, for pipelines: it advances while gates open, and stops where one does not."""

import asyncio
import re
import sys
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from zdd_tui.backends.actor import this_actor
from zdd_tui.backends.store.client import Store
from zdd_tui.cli.agent import ensure_agent
from zdd_tui.cli.commands import EXIT_TIMEOUT, build_precondition, open_store
from zdd_tui.cli.output import name_plan
from zdd_tui.model.errors import DatabaseError, PlanError, Refused
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.claims import ProgressState, assess_activity, assess_progress, count_verdicts
from zdd_tui.model.release.condition import ConditionStatus
from zdd_tui.model.release.gate_rows import BEFORE_FIRST_PHASE
from zdd_tui.model.release.preview import describe_target, preview_command
from zdd_tui.model.release.records import CommandRequest, ReleaseRecord
from zdd_tui.model.release.state import CommandKind, ReleaseState, StepStatus, closed_gates, requires_name

RECHECK_SECONDS = 1.0
"""How long a change may go unnoticed: the age of a gate's reading grows without one."""

POLL_SECONDS = 0.2
"""While the agent registers the release."""

SAY_HOLD_SECONDS = 3.0
"""How long something holds the release before a line says so; gates that open at once need none."""

CAN_GO_ON = (ReleaseState.PLANNED, ReleaseState.RUNNING, ReleaseState.WAITING, ReleaseState.ROLLING_BACK)
"""The others are the end of a run: the release has ended, or a person must look at what failed."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line says.

    Attributes:
        until: the phase after whose gates, or those of a later one, the run stops; empty for the end of the release.
        typed: the release's name, without which it stops before a step that cannot be undone.
        timeout: seconds that a closed gate, a pause, a standing condition or a missing agent may hold the release.
    """

    until: str = ""
    typed: str | None = None
    reason: str = ""
    unrehearsed: bool = False
    timeout: float = 600.0


def confirm_run(loaded: LoadedPlan, options: RunOptions) -> None:
    """Asks on the terminal whether to start.

    Raises:
        Refused: the operator declined.
    """
    sys.stderr.write(
        f"zdd run advances {loaded.plan.name} on {describe_target(loaded.plan)}, phase by phase while gates open, to"
        f" the end of {options.until or 'the last phase'}. Continue? [y/N] "
    )
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused("not confirmed; nothing was started", "answer y, or add --yes")


async def run_release(loaded: LoadedPlan, options: RunOptions) -> int:
    """Starts an agent if none is at work, and advances the release phase by phase. A person may pause, advance or roll
    back at any time: the run continues from where the release is.

    Progress goes to stdout, a line for each phase; the reason of a stop to stderr. The agent stays when the run stops.

    Returns:
        0 when the release is done or has arrived at ``until``, 1 when it failed, was refused or was rolled back, 4 when
        it was held for longer than the timeout.

    Raises:
        ZddError: no agent could be started, or there is no such phase.
    """
    agent = asyncio.create_task(ensure_agent(loaded, Path(loaded.source)))
    drive = asyncio.create_task(_drive(loaded, options))
    try:
        await asyncio.wait({agent, drive}, return_when=asyncio.FIRST_COMPLETED)
        if agent.done() and not drive.done():
            agent.result()  # raises why there is no agent
        return await drive
    finally:
        for task in (agent, drive):
            task.cancel()
        await asyncio.gather(agent, drive, return_exceptions=True)


async def _drive(loaded: LoadedPlan, options: RunOptions) -> int:
    async with await open_store(loaded) as store:
        record = await store.read_release(await _wait_for_release(store, loaded))
        if record.release.plan_hash != loaded.hash:
            raise Refused(
                f"{loaded.source} is not the plan that release {record.release.name} runs",
                "use the file it was started with, or roll back and start the new one",
            )
        names = [phase.name for phase in record.release.strategy.phases]
        if options.until and options.until not in names:
            raise PlanError(f"--until {options.until}: no such phase", f"one of: {', '.join(names)}")
        refused_since: float | None = None
        while True:
            record = await _wait_while_held(store, record, options.timeout)
            release = record.release
            if (code := _result(loaded, record, options.until)) is not None:
                return code
            if requires_name(release, CommandKind.ADVANCE) and options.typed is None:
                following = release.next_phase.name if release.next_phase else "the end"
                _say_error(f"{following} has steps that cannot be undone: add --confirm {release.name}")
                return 1
            if (is_done := await _advance(store, loaded, record, options)) is None:
                return 1
            # A gate that opens and closes again is a hold, too.
            refused_since = None if is_done else record.now if refused_since is None else refused_since
            if refused_since is not None and record.now - refused_since > options.timeout:
                return EXIT_TIMEOUT


async def _wait_for_release(store: Store, loaded: LoadedPlan) -> int:
    """The id of the release, which the agent registers when it starts."""
    while True:
        if await store.schema_version() and (found := await store.find_release(loaded.plan.name)) is not None:
            return found
        await asyncio.sleep(POLL_SECONDS)


def _find_hold(record: ReleaseRecord) -> str:
    """What prevents the phase from continuing, or the next one from starting; empty where nothing does."""
    release = record.release
    progress = assess_progress(release, assess_activity(record.lease, 0.0))
    if progress.moves:  # a step that waits for a system does so without a limit of its own
        waiting = (step for step in record.steps if step.status is StepStatus.STARTED and step.waits_for)
        return next((f"{step.name} {step.note}" for step in waiting), "")
    if release.breach is not None:
        return release.breach.title
    if progress.state in (ProgressState.PAUSED, ProgressState.STALLED):
        return progress.reason
    if unknown := [each for each in release.unmet if each.status is ConditionStatus.UNKNOWN]:
        return f"condition {unknown[0].name}: {unknown[0].text}"
    if closed := closed_gates(release, record.gates, record.now):
        return f"gate {closed[0].name}: {closed[0].verdict}: {closed[0].reason}"
    return ""


def _result(loaded: LoadedPlan, record: ReleaseRecord, until: str) -> int | None:
    """The exit code where the release is over, has arrived, cannot go on or was held for too long; else None."""
    release = record.release
    if release.state is ReleaseState.DONE:
        sys.stdout.write(f"{release.name} is done{_describe_region(loaded)}\n")
        return 0
    if release.state not in CAN_GO_ON:
        reason = name_plan(f": {release.error}" if release.error else "", loaded.command_line_name)
        _say_error(f"{release.name} is {release.state}{reason}")
        if release.state is ReleaseState.ROLLED_BACK:
            _say_error(f"to start another release of this name: zdd agent --new {loaded.command_line_name}")
        return 1
    phase = release.current_phase.name if release.current_phase else BEFORE_FIRST_PHASE
    if hold := _find_hold(record):
        _say_error(name_plan(f"{phase}: {hold}", loaded.command_line_name))
        return EXIT_TIMEOUT
    names = [each.name for each in release.strategy.phases]
    if until and phase in names and names.index(phase) >= names.index(until):  # a person may have advanced it further
        sys.stdout.write(f"{release.name} waits after {phase}\n")
        return 0
    return None


def _without_numbers(text: str) -> str:
    """Ages and counts change with every reading; they are no reason for another line."""
    return re.sub(r"\d[\d.,]*\w*", "", text)


def _describe_region(loaded: LoadedPlan) -> str:
    """Of a plan with regions, which one it is and how the next is released."""
    if loaded.plan.regions is None or not loaded.plan.region:
        return ""
    names = loaded.plan.regions.names
    place = names.index(loaded.plan.region) + 1
    file = loaded.command_line_name
    following = f"; region {names[place]} follows: zdd run --region {names[place]} {file}" if place < len(names) else ""
    return f" in region {loaded.plan.region}{following}"


async def _wait_while_held(store: Store, record: ReleaseRecord, timeout: float) -> ReleaseRecord:
    """The record when the next phase can start or the release cannot continue; or when it was held for ``timeout``.

    Args:
        timeout: seconds.
    """
    try:
        async with aclosing(store.watch_changes(record.id, idle_timeout=RECHECK_SECONDS)) as changes:
            held_since: float | None = None
            said = ""
            async for _ in changes:
                try:
                    newest = await store.read_release(record.id)
                    record = count_verdicts(newest, newest.now)
                except DatabaseError as error:  # it stops no release: the agent is the one that works
                    if said != error.title:
                        said = error.title
                        _say_error(f"waits: {error.title}")
                    continue
                release = record.release
                if release.state not in CAN_GO_ON:
                    return record
                if hold := _find_hold(record):
                    held_since = record.now if held_since is None else held_since
                    if record.now - held_since >= SAY_HOLD_SECONDS and said != _without_numbers(hold):
                        said = _without_numbers(hold)
                        _say_error(f"waits: {hold}")
                    if record.now - held_since > timeout:
                        return record
                    continue
                held_since = None
                if release.state in (ReleaseState.WAITING, ReleaseState.PLANNED) and release.next_phase is not None:
                    return record
    except asyncio.CancelledError:
        _say_error("interrupted; the release stays as it is, its agent continues")
        raise
    return record


async def _advance(store: Store, loaded: LoadedPlan, record: ReleaseRecord, options: RunOptions) -> bool | None:
    """Sends one advance; False where it was refused, None where it would be again.

    A person at a dashboard may have advanced, paused or rolled back meanwhile, or a gate may have closed: the release
    is read again then.
    """
    targets = preview_command(loaded.plan, record.release, CommandKind.ADVANCE)
    request = CommandRequest(
        CommandKind.ADVANCE,
        options.reason,
        build_precondition(record),
        options.typed,
        targets=targets,
        unrehearsed=options.unrehearsed,
    )
    answer = await store.wait_command(await store.send_command(record.id, request, actor=this_actor()), 60.0)
    if answer.status == "done":
        sys.stdout.write(f"{answer.outcome}\n")
        sys.stdout.flush()
        return True
    outcome = answer.outcome or "no result from the agent within 60 s"
    _say_error(name_plan(f"advance {answer.status}: {outcome}", loaded.command_line_name))
    newest = await store.read_release(record.id)
    newest = count_verdicts(newest, newest.now)
    has_moved = build_precondition(newest) != build_precondition(record)
    return False if answer.status == "refused" and (has_moved or _find_hold(newest)) else None


def _say_error(text: str) -> None:
    sys.stderr.write(f"zdd: {text}\n")
    sys.stderr.flush()

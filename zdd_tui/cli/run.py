"""`zdd run`: a release without a person, for pipelines: it advances while gates open, and stops where one does not."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from zdd_tui.backends.actor import this_actor
from zdd_tui.backends.store.client import Store
from zdd_tui.backends.store.delivery import RETRY_PAUSE
from zdd_tui.cli.agent import ensure_agent
from zdd_tui.cli.commands import EXIT_TIMEOUT, build_precondition, open_store
from zdd_tui.model.errors import DatabaseError, DatabaseUnavailable, PlanError, Refused
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.plan_name import name_plan
from zdd_tui.model.release.claims import ProgressState, assess_agent_activity, assess_progress, count_verdicts
from zdd_tui.model.release.condition import ConditionStatus
from zdd_tui.model.release.gate_rows import BEFORE_FIRST_PHASE
from zdd_tui.model.release.preview import describe_target, preview_command
from zdd_tui.model.release.records import CommandRequest, ReleaseRecord
from zdd_tui.model.release.state import CommandKind, ReleaseState, StepStatus, closed_gates, requires_name

_T = TypeVar("_T")

RECHECK_SECONDS = 1.0
"""How long a change may go unnoticed: the age of a gate's reading grows without one."""

ANSWER_SECONDS = 3.0
"""How long the database may be lost before a line says so, while the agent's answer is awaited."""

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
        timeout: seconds that a closed gate, a pause, a standing condition, a missing agent or a lost database may hold
            the release.
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


class GivenUp(Exception):
    """The database could not be used for as long as the timeout."""


async def _drive(loaded: LoadedPlan, options: RunOptions) -> int:
    async with await open_store(loaded) as store:
        try:
            record = await _wait_for_release(store, loaded, options)
            return await _drive_release(store, loaded, record, options)
        except GivenUp as error:
            _say_error(f"{error}; given up after {options.timeout:g} s")
            return EXIT_TIMEOUT


async def _drive_release(store: Store, loaded: LoadedPlan, record: ReleaseRecord, options: RunOptions) -> int:
    """
    Returns:
        see :func:`run_release`.

    Raises:
        GivenUp: the database was lost for longer than the timeout.
    """
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
        match await _advance(store, loaded, record, options):
            case AdvanceResult.ACCEPTED:
                refused_since = None
            case AdvanceResult.OVERTAKEN:  # a gate that opens and closes again is a hold, too
                refused_since = record.now if refused_since is None else refused_since
                if record.now - refused_since > options.timeout:
                    return EXIT_TIMEOUT
            case AdvanceResult.REFUSED:
                return 1
            case AdvanceResult.UNANSWERED:
                return EXIT_TIMEOUT


async def _wait_for_release(store: Store, loaded: LoadedPlan, options: RunOptions) -> ReleaseRecord:
    """The release, which the agent registers when it starts.

    Raises:
        Refused: it runs another plan.
        PlanError: it has no phase ``until``.
        GivenUp: the database was lost for longer than the timeout.
    """

    async def read() -> ReleaseRecord | None:
        found = await store.find_release(loaded.plan.name) if await store.schema_version() else None
        return None if found is None else await store.read_release(found)

    while True:
        if (record := await _with_retry(read, options.timeout)) is not None:
            break
        await asyncio.sleep(POLL_SECONDS)
    if record.release.plan_hash != loaded.hash:
        raise Refused(
            f"{loaded.source} is not the plan that release {record.release.name} runs",
            "use the file it was started with, or roll back and start the new one",
        )
    names = [phase.name for phase in record.release.strategy.phases]
    if options.until and options.until not in names:
        raise PlanError(f"--until {options.until}: no such phase", f"one of: {', '.join(names)}")
    return record


async def _with_retry(
    call: Callable[[], Awaitable[_T]], timeout: float, retried: type[DatabaseError] = DatabaseError
) -> _T:
    """Repeats a call that may be repeated while the database is lost, and says so once for each reason.

    Args:
        timeout: seconds.
        retried: other errors are raised at once.

    Raises:
        GivenUp: after the timeout.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    said = ""
    while True:
        try:
            return await call()
        except retried as error:  # it stops no release: the agent is the one that works
            if loop.time() + RETRY_PAUSE >= deadline:
                raise GivenUp(error.title) from None
            if said != error.title:
                said = error.title
                _say_error(f"waits: {error.title}")
        await asyncio.sleep(RETRY_PAUSE)


def _find_hold(record: ReleaseRecord) -> str:
    """What prevents the phase from continuing, or the next one from starting; empty where nothing does."""
    release = record.release
    progress = assess_progress(release, assess_agent_activity(record))
    if progress.moves:  # a step that waits for a system does so without a limit of its own
        waiting = (step for step in record.steps if step.status is StepStatus.STARTED and step.waits_for)
        return next((f"{step.name} {step.note}" for step in waiting), "")
    if release.breach is not None:
        return release.breach.title
    if progress.state is ProgressState.PAUSED and not release.paused:
        return "; ".join(f"{pause.describe(record.now)}: {pause.resume_command}" for pause in release.table_pauses)
    if progress.state in (ProgressState.PAUSED, ProgressState.STALLED) or (
        progress.reason and progress.state is ProgressState.WAITING
    ):
        return progress.reason
    if unknown := [each for each in release.unmet if each.status is ConditionStatus.UNKNOWN]:
        return f"condition {unknown[0].name}: {unknown[0].text}"
    if closed := closed_gates(release, record.gates, record.now):
        return f"gate {closed[0].name}: {closed[0].verdict}: {closed[0].reason}"
    return ""


def _find_step_wait(record: ReleaseRecord) -> str:
    """What a step that runs, or is undone, waits for by its note; empty for nothing."""
    running = (StepStatus.STARTED, StepStatus.UNDOING)
    waiting = (step for step in record.steps if step.status in running and step.gets_no_further)
    return next((f"{step.name}: {step.note}" for step in waiting), "")


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

    Raises:
        GivenUp: the database was lost for longer.
    """
    read = partial(store.read_release, record.id)
    report = _WaitLines()
    try:
        async with _watch_changes(store, record.id) as changed:
            while True:
                changed.clear()
                newest = await _with_retry(read, timeout)
                record = count_verdicts(newest, newest.now)
                release = record.release
                if release.state not in CAN_GO_ON:
                    return record
                hold = _find_hold(record)
                held = report.update(hold, hold or _find_step_wait(record), record.now)
                if held > timeout:
                    return record
                is_ready = release.state in (ReleaseState.WAITING, ReleaseState.PLANNED)
                if is_ready and not hold and release.next_phase is not None:
                    return record
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), RECHECK_SECONDS)
    except asyncio.CancelledError:
        _say_error("interrupted; the release stays as it is, its agent continues")
        raise


@dataclass(slots=True)
class _WaitLines:
    """Lines on stderr about what the release waits for: one for each reason that lasts.

    Attributes:
        held_since, waits_since: seconds by the database's clock; None while it does not.
    """

    held_since: float | None = None
    waits_since: float | None = None
    said: str = ""

    def update(self, hold: str, reason: str, now: float) -> float:
        """
        Args:
            hold: what limits the run; empty for nothing.
            reason: what to say; empty for nothing.

        Returns:
            seconds for which something has held the release.
        """
        self.held_since = (now if self.held_since is None else self.held_since) if hold else None
        self.waits_since = (now if self.waits_since is None else self.waits_since) if reason else None
        lasts = self.waits_since is not None and now - self.waits_since >= SAY_HOLD_SECONDS
        if lasts and self.said != _without_numbers(reason):
            self.said = _without_numbers(reason)
            _say_error(f"waits: {reason}")
        return 0.0 if self.held_since is None else now - self.held_since


@asynccontextmanager
async def _watch_changes(store: Store, release_id: int) -> AsyncIterator[asyncio.Event]:
    """An event that every change of the release sets; none comes while the database is lost."""
    changed = asyncio.Event()

    async def watch() -> None:
        async with aclosing(store.watch_changes(release_id)) as changes:
            async for _ in changes:
                changed.set()

    task = asyncio.create_task(watch())
    try:
        yield changed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class AdvanceResult(Enum):
    """What became of an advance."""

    ACCEPTED = auto()
    OVERTAKEN = auto()
    """Refused, because a person has advanced, paused or rolled back meanwhile, or a gate has closed."""
    REFUSED = auto()
    """For a reason that stays."""
    UNANSWERED = auto()
    """It stays queued: no agent has answered within the timeout."""


async def _advance(store: Store, loaded: LoadedPlan, record: ReleaseRecord, options: RunOptions) -> AdvanceResult:
    """Sends one advance, once however often the database is lost meanwhile, and waits for its result.

    Raises:
        DatabaseError: it cannot be sent.
        GivenUp: the database was lost for longer than the timeout.
    """
    request = CommandRequest(
        CommandKind.ADVANCE,
        options.reason,
        build_precondition(record),
        options.typed,
        targets=preview_command(loaded.plan, record.release, CommandKind.ADVANCE),
        unrehearsed=options.unrehearsed,
        request_id=uuid4().hex,
    )
    send = partial(store.send_command, record.id, request, actor=this_actor())
    sent = await _with_retry(send, options.timeout, DatabaseUnavailable)
    # In parts: what waits for longer would not say that the database is lost.
    wait = partial(store.wait_command, sent, ANSWER_SECONDS)
    deadline = asyncio.get_running_loop().time() + options.timeout
    while (answer := await _with_retry(wait, options.timeout)).status == "queued":
        if asyncio.get_running_loop().time() >= deadline:
            break
    if answer.status == "done":
        sys.stdout.write(f"{answer.outcome}\n")
        sys.stdout.flush()
        return AdvanceResult.ACCEPTED
    outcome = answer.outcome or f"no result from the agent within {options.timeout:g} s"
    _say_error(name_plan(f"advance {answer.status}: {outcome}", loaded.command_line_name))
    if answer.status != "refused":
        return AdvanceResult.UNANSWERED
    newest = await _with_retry(lambda: store.read_release(record.id), options.timeout)
    newest = count_verdicts(newest, newest.now)
    has_moved = build_precondition(newest) != build_precondition(record)
    return AdvanceResult.OVERTAKEN if has_moved or _find_hold(newest) else AdvanceResult.REFUSED


def _say_error(text: str) -> None:
    sys.stderr.write(f"zdd: {text}\n")
    sys.stderr.flush()

"""Progress of the last command from the key to its effect: sending, queued, accepted, running, succeeded or failed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.bars.footer import disabled_reason
from zdd_tui.dashboard.widgets.drawing.glyphs import progress_glyph
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, format_age, wrap
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.model.release.claims import (
    FRESH_SECONDS,
    MOVING,
    ProgressState,
    assess_progress,
    count_verdicts,
    is_current,
    list_agent_waits,
)
from zdd_tui.model.release.delivery import RETRY_SECONDS, DeliveryStatus
from zdd_tui.model.release.next_commands import pause_or_resume_table
from zdd_tui.model.release.records import ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import (
    LATE_SECONDS,
    CommandKind,
    Precondition,
    Release,
    ReleaseState,
    StepStatus,
    closed_gates,
    current_step,
    describe_table_pause,
)
from zdd_tui.model.tuning import Tuning


@dataclass(frozen=True, slots=True)
class RefusalCause:
    """Where the release was when a command was refused or failed.

    Attributes:
        position: state, phase, and whether it was paused; None where the release was not read.
        is_blocked: such a command is refused in this state.
    """

    position: tuple[ReleaseState, int, bool] | None
    is_blocked: bool


class CommandStage(StrEnum):
    """Stage of a command.

    ``sending`` until the database has confirmed that it is stored, ``queued`` until the agent answers.
    """

    SENDING = "sending"
    QUEUED = "queued"
    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"
    FAILED = "failed"
    REFUSED = "refused"
    NOT_SENT = "not sent"

    @property
    def is_final(self) -> bool:
        return self not in (
            CommandStage.SENDING,
            CommandStage.QUEUED,
            CommandStage.ACCEPTED,
            CommandStage.RUNNING,
        )


SHOWN_SECONDS: Mapping[CommandStage, float] = {
    CommandStage.ACCEPTED: 60.0,
    CommandStage.SUCCEEDED: 10.0,
    CommandStage.CANCELLED: 10.0,
    CommandStage.FAILED: 60.0,
    CommandStage.REFUSED: 60.0,
    CommandStage.NOT_SENT: 600.0,
}
"""Seconds for which a stage is shown at most. The state above soon differs from a success. What was refused or failed
is shown no longer than its cause lasts. What was not sent is on no other screen, so that it is shown longest. A stage
that is not here is shown as long as the state shows it."""


@dataclass(frozen=True, slots=True)
class CommandProgress:
    """A command and its progress.

    Attributes:
        sent_at: monotonic seconds.
        expected: state of the release when it was sent; while the release still has it, there is no effect yet.
        text: shown after the command's kind and stage; a complete sentence once it succeeded or was cancelled.
        since: monotonic seconds at which it was accepted, or reached its last stage.
        target_tuning: of ``tune``: the resulting tuning.
        table: of a pause or resume of one table; else empty.
        request_id: of the request; empty for one that is refused here.
        failure: while it is sending: why the database has not confirmed it, or empty.
        overtakes: kind of an earlier command that was not confirmed when this one was sent; else empty.
        release: id of the release that it is for; None where it was not known.
        cause: of a refusal or a failure; None before the first state after it.
    """

    kind: CommandKind
    sent_at: float
    expected: Precondition | None = None
    stage: CommandStage = CommandStage.SENDING
    text: str = ""
    since: float = 0.0
    target_tuning: Tuning | None = None
    table: str = ""
    request_id: str = ""
    failure: str = ""
    overtakes: str = ""
    release: int | None = None
    cause: RefusalCause | None = None

    @property
    def is_unsent(self) -> bool:
        """The database has not confirmed it, and it is not given up."""
        return self.stage is CommandStage.SENDING

    def with_result(self, command: StoredCommand, now: float) -> "CommandProgress":
        """The agent has accepted or refused it."""
        if command.status == "refused":
            return self.with_refusal(command.outcome, now)
        return replace(self, stage=CommandStage.ACCEPTED, text=command.outcome, since=now)

    def with_refusal(self, reason: str, now: float) -> "CommandProgress":
        return replace(self, stage=CommandStage.REFUSED, text=reason, since=now)

    def with_send_error(self, error: BaseException, now: float) -> "CommandProgress":
        title = getattr(error, "title", "") or str(error) or type(error).__name__
        hint = getattr(error, "hint", "")
        text = f"{title}. Fix: {hint}" if hint else title
        return replace(self, stage=CommandStage.NOT_SENT, text=text, since=now)

    def with_board(self, board: DashboardState, context: RenderContext) -> "CommandProgress":
        """Progress by a newer state. Only an accepted command can have an effect."""
        record, now = board.release.value, board.server_now(context.now)
        if self.stage in (CommandStage.SENDING, CommandStage.NOT_SENT):
            return self._with_delivery(board)
        if self.stage not in (CommandStage.ACCEPTED, CommandStage.RUNNING) or record is None or now is None:
            return self
        stage, text = self._current_stage(record, now)
        return replace(self, stage=stage, text=text, since=context.now if stage is not self.stage else self.since)

    def _with_delivery(self, board: DashboardState) -> "CommandProgress":
        """Where the delivery is. A command that is in the database is queued, whatever the sender knows."""
        commands = board.release.value.commands if board.release.value is not None else ()
        delivery = board.delivery
        is_own = delivery is not None and bool(self.request_id) and delivery.request_id == self.request_id
        is_stored = self.is_unsent and is_own and delivery is not None and delivery.status is DeliveryStatus.QUEUED
        stored = next(
            (each for each in commands if self.request_id and each.request.request_id == self.request_id), None
        )
        if stored is not None and stored.status != "queued" and self.stage is CommandStage.NOT_SENT:
            return self.with_result(stored, self.since)
        if is_stored or stored is not None:
            return replace(self, stage=CommandStage.QUEUED, text="", failure="")
        if is_own and delivery is not None and self.is_unsent and delivery.error != self.failure:
            return replace(self, failure=delivery.error)
        return self

    def with_cause(self, board: DashboardState, context: RenderContext) -> "CommandProgress | None":
        """The same while its message is about the present; None once its cause has ended, or it is old."""
        record = board.release.value
        if record is not None and self.release not in (None, record.id):  # another release has begun
            return None
        limit = SHOWN_SECONDS.get(self.stage)
        if limit is not None and context.now - self.since > limit:
            return None
        if self.stage not in (CommandStage.REFUSED, CommandStage.FAILED):
            return self
        release = record.release if record is not None else None
        position = (release.state, release.phase, release.paused) if release is not None else None
        cause = RefusalCause(position, bool(disabled_reason(board, context, self.kind, self.table)))
        if self.cause is None:
            return replace(self, cause=cause)
        # What the rules do not refuse, such as a Deployment that was replaced, has no cause that could be seen to end.
        has_ended = cause.position != self.cause.position or (self.cause.is_blocked and not cause.is_blocked)
        return None if has_ended else self

    def _current_stage(self, record: ReleaseRecord, now: float) -> tuple[CommandStage, str]:
        """Stage and text by the state of the release; the known ones while it shows no effect."""
        release = record.release
        if self.table:
            return self._table_stage(release)
        match self.kind:
            case CommandKind.PAUSE if release.paused:
                return CommandStage.SUCCEEDED, "Paused"
            case CommandKind.RESUME if not release.paused:
                return CommandStage.SUCCEEDED, "Resumed"
            case CommandKind.TUNE if self.target_tuning is not None and release.tuning == self.target_tuning:
                # Limits are effective within one batch after the release has them.
                return CommandStage.SUCCEEDED, f"Applied: {self.text}"
            case CommandKind.ROLLBACK:
                return self._rollback_stage(record)
            case CommandKind.ADVANCE if self._has_effect(record):
                return self._advance_stage(record, now)
        return self.stage, self.text

    def _table_stage(self, release: Release) -> tuple[CommandStage, str]:
        if pause_or_resume_table(release, self.table) is self.kind:
            return self.stage, self.text  # it is as before
        text = describe_table_pause(release, self.table)
        return CommandStage.SUCCEEDED, f"{text[0].upper()}{text[1:]}"

    def _has_effect(self, record: ReleaseRecord) -> bool:
        """The release's state shows an effect. A record in which the command is accepted has it, also where the state
        is the same again: a retry that has failed at once."""
        if self.stage is CommandStage.RUNNING or self.expected is None:
            return True
        release = record.release
        own = (each.status for each in record.commands if each.request.request_id == self.request_id)
        return (bool(self.request_id) and "done" in own) or (release.state, release.phase) != (
            self.expected.state,
            self.expected.phase,
        )

    def _advance_stage(self, record: ReleaseRecord, now: float) -> tuple[CommandStage, str]:
        release = record.release
        if release.state.is_rolling_back:
            return CommandStage.CANCELLED, "Advance cancelled by a rollback"
        if release.state is ReleaseState.FAILED:
            return CommandStage.FAILED, release.error
        if release.state is ReleaseState.DONE:
            return CommandStage.SUCCEEDED, "Advance completed: the release is done"
        phase = release.current_phase
        if phase is None:
            return self.stage, self.text
        if release.state is ReleaseState.WAITING:
            if closed := [gate.name for gate in closed_gates(release, count_verdicts(record, now).gates, now)]:
                return CommandStage.RUNNING, f"{phase.name} has run; gates pending: {', '.join(closed)}"
            return CommandStage.SUCCEEDED, f"Advance completed: {phase.name} has run, all gates pass"
        step = current_step(release) or phase.steps[-1]
        number = phase.steps.index(step) + 1
        return CommandStage.RUNNING, f"step {number} of {len(phase.steps)} of {phase.name}: {step.label}"

    def _rollback_stage(self, record: ReleaseRecord) -> tuple[CommandStage, str]:
        release = record.release
        if release.state is ReleaseState.ROLLED_BACK:
            return CommandStage.SUCCEEDED, "Rollback completed: all steps are reverted"
        if release.state is ReleaseState.ROLLBACK_FAILED and self._has_effect(record):
            return CommandStage.FAILED, release.error
        if release.state is not ReleaseState.ROLLING_BACK:
            return self.stage, self.text
        left = sum(status.has_effect for status in release.statuses)
        total = left + sum(status is StepStatus.UNDONE for status in release.statuses)
        return CommandStage.RUNNING, f"step {min(total, total - left + 1)} of {total}, newest first"


def command_progress_lines(
    progress: CommandProgress, board: DashboardState, context: RenderContext, cells: int
) -> list[Line]:
    """The text for a command, with the age of what does not follow the state."""
    kind, text = progress.kind, progress.text
    activity = board.activity(context.now)
    seconds = context.now - progress.since
    is_new = is_current(seconds) and (activity.is_active or progress.stage is not CommandStage.SUCCEEDED)
    ago = "" if is_new else f" {format_age(seconds)} ago"
    match progress.stage:
        case CommandStage.SENDING:
            return _sending_lines(progress, context, cells)
        case CommandStage.QUEUED:
            return _queued_lines(progress, board, context, cells)
        case CommandStage.ACCEPTED if activity.is_active:
            return wrap(f"… {kind} accepted by the agent{ago}{f': {text}' if text else ''}", cells, TextStyle.RUNNING)
        case CommandStage.ACCEPTED:
            return wrap(f"? {kind} accepted by an agent{ago}; {activity.description}", cells, TextStyle.WARN)
        case CommandStage.RUNNING:
            return _running_lines(progress, board, context, cells)
        case CommandStage.SUCCEEDED:
            was = f" ({ago.strip()})" if ago else ""
            is_held = not activity.is_active and not _has_ended(board)
            held = f"; {activity.description}" if is_held else ""
            return wrap(f"✔ {text}{was}{held}", cells, TextStyle.WARN if is_held else TextStyle.GOOD)
        case CommandStage.CANCELLED:
            return wrap(f"‖ {text}", cells, TextStyle.WARN)
        case _:
            stage = "NOT SENT" if progress.stage is CommandStage.NOT_SENT else progress.stage
            return wrap(f"✗ {kind} {stage}{ago}: {text}", cells, TextStyle.BAD)


def _has_ended(board: DashboardState) -> bool:
    return board.release.value is not None and board.release.value.release.state.has_ended


def _waits(record: ReleaseRecord) -> bool:
    """The step that runs, or is undone, gets no result of a system, or waits for sessions: nothing moves."""
    at_work = StepStatus.UNDOING if record.release.state.is_rolling_back else StepStatus.STARTED
    return any(step.gets_no_further for step in record.steps if step.status is at_work)


def _running_lines(progress: CommandProgress, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
    """What the agent does for it, or what holds the release."""
    kind, record, activity = progress.kind, board.release.value, board.activity(context.now)
    movement = MOVING if record is None else assess_progress(record.release, activity)
    doing = "reverting" if kind is CommandKind.ROLLBACK else "running"
    verb = {ProgressState.STOPPED: "stopped at", ProgressState.PAUSED: "paused at"}.get(movement.state, f"was {doing}")
    glyph, style = progress_glyph(movement)
    if activity.description:
        glyph, style = "?", TextStyle.WARN
    if record is not None and record.release.state is ReleaseState.WAITING:
        head = f"{glyph} {kind}:"  # no step runs
    elif movement.moves and record is not None and _waits(record):
        head, style = f"? {kind} waits at", TextStyle.WARN  # the state says for what
    else:
        head = f"{glyph} {kind} {doing if movement.moves else verb}"
    return wrap("; ".join(filter(None, (f"{head} {progress.text}", activity.description))), cells, style)


def _sending_lines(progress: CommandProgress, context: RenderContext, cells: int) -> list[Line]:
    """Not stored yet: as a failure once an attempt has failed, or the database is silent."""
    waited = context.now - progress.sent_at
    failure = progress.failure
    if not failure and waited > FRESH_SECONDS:
        failure = "the database does not respond"
    overtakes = f", overtakes {progress.overtakes}, which was not confirmed" if progress.overtakes else ""
    if not failure:
        return wrap(f"… {progress.kind} sending{overtakes}: not stored yet", cells, TextStyle.RUNNING)
    text = f"✗ {progress.kind} NOT SENT{overtakes}: {failure}; retrying, {format_age(waited)} of {RETRY_SECONDS:.0f}s"
    return wrap(text, cells, TextStyle.BAD)


def _queued_lines(progress: CommandProgress, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
    """Stored, without an answer of an agent."""
    waited = context.now - progress.sent_at
    text = f"{progress.kind} queued {format_age(waited)} ago"
    can_expire = progress.kind is not CommandKind.PAUSE  # a pause takes effect in every phase
    late = "; late: it takes effect only in the phase that you saw" if can_expire and waited > LATE_SECONDS else ""
    activity, record = board.activity(context.now), board.release.value
    waits = list_agent_waits(record, activity) if record is not None else ()
    if waits:
        return wrap(f"? {text}; the agent waits for {'; '.join(waits)}{late}", cells, TextStyle.WARN)
    if activity.is_active:
        lost = ", ".join(each.name for each in board.all_lost_systems(context.now))
        why = f" (LOST: {lost})" if lost and not is_current(waited) else ""
        return wrap(f"… {text}, not accepted by the agent yet{why}{late}", cells, TextStyle.RUNNING)
    return wrap(f"? {text}; {activity.description}{late}", cells, TextStyle.WARN)


class MessageLine(LineView):
    """The last command, else the start-up notice; hidden while there is neither."""

    auto_height = 4

    progress: CommandProgress | None = None

    notice: tuple[str, ...] = ()
    """Shown until the first command, such as warnings of the keymap."""

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        if self.progress is not None:
            return command_progress_lines(self.progress, board, context, cells)
        return [line for text in self.notice for line in wrap(text, cells, TextStyle.WARN)]

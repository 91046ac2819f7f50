"""The course of a command, from the key to what it has brought about: sent, taken, running, verified or failed."""

from dataclasses import dataclass, replace
from enum import StrEnum

from zdd_tui.dashboard.state import Board, Moment
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, human_age, wrap
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.model.release.records import StoredCommand
from zdd_tui.model.release.state import CommandKind, Expected, Release, State, StepStatus, closed_gates
from zdd_tui.model.release.summary import no_agent
from zdd_tui.model.tuning import Tuning

GOOD_NEWS_SECONDS = 10.0
"""How long a success stays; it would soon contradict the state above it. A refusal stays until the next command."""


class Stage(StrEnum):
    """Where a command is."""

    SENT = "sent"
    TAKEN = "taken"
    RUNNING = "running"
    VERIFIED = "verified"
    OVERTAKEN = "overtaken"
    FAILED = "failed"
    REFUSED = "refused"

    @property
    def settled(self) -> bool:
        return self not in (Stage.SENT, Stage.TAKEN, Stage.RUNNING)


@dataclass(frozen=True, slots=True)
class Course:
    """A command on its way.

    Attributes:
        sent_at: monotonic seconds.
        before: where the release stood when it was sent: a board that still says so has not seen the effect.
        text: what is told beside the stage.
        settled_at: monotonic seconds at which the stage became the last one.
        wanted: of ``tune``: the tuning that it comes to.
    """

    kind: CommandKind
    sent_at: float
    before: Expected | None = None
    stage: Stage = Stage.SENT
    text: str = ""
    settled_at: float = 0.0
    wanted: Tuning | None = None

    def answered(self, command: StoredCommand, now: float) -> "Course":
        """The agent has taken it, or has refused it."""
        if command.status == "refused":
            return self.refused(command.outcome, now)
        return replace(self, stage=Stage.TAKEN, text=command.outcome)

    def refused(self, why: str, now: float) -> "Course":
        return replace(self, stage=Stage.REFUSED, text=f"refused: {why}", settled_at=now)

    def failed(self, error: BaseException, now: float) -> "Course":
        """It could not be sent."""
        title = getattr(error, "title", "") or str(error) or type(error).__name__
        mend = getattr(error, "mend", "")
        return replace(
            self, stage=Stage.REFUSED, text=f"not sent: {title}{f' ({mend})' if mend else ''}", settled_at=now
        )

    def followed(self, board: Board, moment: Moment) -> "Course":
        """Where it is by a newer board. Only what the agent has taken can have an effect."""
        record, now = board.release.value, board.server_now(moment.now)
        if self.stage not in (Stage.TAKEN, Stage.RUNNING) or record is None or now is None:
            return self
        release = record.release
        if self.kind in _EFFECTS:
            stage, text = _EFFECTS[self.kind](release, self)
        elif self.kind is CommandKind.ADVANCE and release.state is State.WAITING and self._seen(release):
            stage, text = _at_gates(release, tuple(g.name for g in closed_gates(release, record.gates, now)))
        else:
            stage, text = self._by_steps(release)
        return replace(self, stage=stage, text=text, settled_at=moment.now if stage.settled else 0.0)

    def _seen(self, release: Release) -> bool:
        """The board has seen an effect."""
        if self.stage is Stage.RUNNING or self.before is None:
            return True
        return (release.state, release.phase) != (self.before.state, self.before.phase)

    def _by_steps(self, release: Release) -> tuple[Stage, str]:
        """How far an advance has come."""
        if not self._seen(release):
            return self.stage, self.text
        if release.state.backwards:
            return Stage.OVERTAKEN, "overtaken: the release goes back"
        if release.state is State.FAILED:
            return Stage.FAILED, f"failed: {release.error}"
        if release.state is State.DONE:
            return Stage.VERIFIED, "verified: the release is done"
        phase = release.current
        if phase is None:
            return self.stage, self.text
        done = sum(release.status(step.name) is StepStatus.DONE for step in phase.steps)
        at = min(done, len(phase.steps) - 1)
        held = "paused at" if release.paused else "running"
        return Stage.RUNNING, f"{held} step {at + 1} of {len(phase.steps)} of {phase.name}: {phase.steps[at].label}"


def _at_gates(release: Release, shut: tuple[str, ...]) -> tuple[Stage, str]:
    phase = release.current
    assert phase is not None
    if shut:
        return Stage.RUNNING, f"{phase.name} has run; not verified yet: {', '.join(shut)}"
    return Stage.VERIFIED, f"verified: {phase.name} has run, every gate passes"


def _back(release: Release, course: Course) -> tuple[Stage, str]:
    """How far the way back has come."""
    if release.state is State.ROLLED_BACK:
        return Stage.VERIFIED, "verified: every step is undone"
    if release.state is State.ROLLBACK_FAILED and course._seen(release):
        return Stage.FAILED, f"failed: {release.error}"
    if release.state is not State.ROLLING_BACK:
        return course.stage, course.text
    left = sum(status.touched for status in release.statuses)
    total = left + sum(status is StepStatus.UNDONE for status in release.statuses)
    return Stage.RUNNING, f"undoing step {min(total, total - left + 1)} of {total}, newest first"


def _paused(release: Release, course: Course) -> tuple[Stage, str]:
    return (Stage.VERIFIED, "verified: it is paused") if release.paused else (course.stage, course.text)


def _resumed(release: Release, course: Course) -> tuple[Stage, str]:
    return (course.stage, course.text) if release.paused else (Stage.VERIFIED, "verified: it goes on")


def _tuned(release: Release, course: Course) -> tuple[Stage, str]:
    """The limits hold within one batch from when the release has them."""
    if course.wanted is None or release.tuning != course.wanted:
        return course.stage, course.text
    return Stage.VERIFIED, f"in force: {course.text}"


_EFFECTS = {
    CommandKind.ROLLBACK: _back,
    CommandKind.PAUSE: _paused,
    CommandKind.RESUME: _resumed,
    CommandKind.TUNE: _tuned,
}


def course_lines(course: Course, board: Board, moment: Moment, cells: int) -> list[Line]:
    """What is told of a command; nothing more once its success is old."""
    kind, text = course.kind, course.text
    record = board.release.value
    ago = human_age(moment.now - course.sent_at)
    match course.stage:
        case Stage.SENT if record is not None and no_agent(record.lease):
            return wrap(f"… {kind} sent {ago} ago; there is no agent to take it", cells, Tone.WARN)
        case Stage.SENT:
            return wrap(f"… {kind} sent {ago} ago, the agent has not answered yet", cells, Tone.BUSY)
        case Stage.TAKEN:
            return wrap(f"… {kind} taken by the agent{f': {text}' if text else ''}", cells, Tone.BUSY)
        case Stage.RUNNING:
            return wrap(f"▶ {kind} {text}", cells, Tone.BUSY)
        case Stage.VERIFIED | Stage.OVERTAKEN if moment.now - course.settled_at > GOOD_NEWS_SECONDS:
            return []
        case Stage.VERIFIED:
            return wrap(f"✔ {kind} {text}", cells, Tone.GOOD)
        case Stage.OVERTAKEN:
            return wrap(f"‖ {kind} {text}", cells, Tone.WARN)
        case _:
            return wrap(f"✗ {kind} {text}", cells, Tone.BAD)


# --- The message line: what became of the last command, and what the dashboard itself has to say.


class MessageLine(LineView):
    """Hidden while there is nothing to say."""

    auto_height = 4

    course: Course | None = None

    notice: tuple[str, ...] = ()
    """What is to be known before the first command, such as a keymap that could not be taken as it is."""

    def lines(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        if self.course is not None:
            return course_lines(self.course, board, moment, cells)
        return [line for text in self.notice for line in wrap(text, cells, Tone.WARN)]

"""The course of the last command: sent, taken, done, or refused and why."""

from dataclasses import dataclass, replace

from zdd_tui.board import Board, Moment
from zdd_tui.model.records import StoredCommand
from zdd_tui.model.release import CommandKind
from zdd_tui.model.situation import no_agent
from zdd_tui.widgets.line import Line, Tone, human_age, wrap
from zdd_tui.widgets.line_view import LineView

GOOD_NEWS_SECONDS = 10.0
"""How long a success stays; it would soon contradict the state above it. A refusal stays until the next command."""


@dataclass(frozen=True, slots=True)
class Course:
    """A command on its way.

    Attributes:
        sent_at: monotonic seconds.
        outcome: empty while nobody has answered.
        settled_at: monotonic seconds of the answer.
        bad: it was refused, or could not be sent.
    """

    kind: CommandKind
    sent_at: float
    outcome: str = ""
    bad: bool = False
    settled_at: float = 0.0

    @property
    def open(self) -> bool:
        return not self.outcome

    def answered(self, command: StoredCommand, now: float) -> "Course":
        if command.status == "refused":
            return replace(self, outcome=f"refused: {command.outcome}", bad=True, settled_at=now)
        return replace(self, outcome=command.outcome or "done", settled_at=now)

    def failed(self, error: BaseException) -> "Course":
        title = getattr(error, "title", "") or str(error) or type(error).__name__
        mend = getattr(error, "mend", "")
        return replace(self, outcome=f"not sent: {title}{f' ({mend})' if mend else ''}", bad=True)


class MessageLine(LineView):
    """Hidden while there is nothing to say."""

    auto_height = 4

    course: Course | None = None

    def lines(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return course_lines(self.course, board, moment, cells) if self.course else []


def course_lines(course: Course, board: Board, moment: Moment, cells: int) -> list[Line]:
    if course.bad:
        return wrap(f"✗ {course.kind} {course.outcome}", cells, Tone.BAD)
    if not course.open:
        if moment.now - course.settled_at > GOOD_NEWS_SECONDS:
            return []
        return wrap(f"✔ {course.kind} taken: {course.outcome}", cells, Tone.GOOD)
    record = board.release.value
    ago = human_age(moment.now - course.sent_at)
    if record is not None and no_agent(record.lease):
        return wrap(f"… {course.kind} sent {ago} ago; there is no agent to take it", cells, Tone.WARN)
    return wrap(f"… {course.kind} sent {ago} ago, the agent has not answered yet", cells, Tone.BUSY)

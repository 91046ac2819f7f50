"""The first line: which release, where, and whether an agent carries it out."""

from zdd_tui.dashboard.state import RELEASE_STALE, Board, Moment
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, human_age, join, source_age, spread, width
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.model.release.summary import no_agent

_GAP = ("  ", Tone.NORMAL)


class HeaderLine(LineView):
    """Name, strategy, environment and target, lock, agent. In production it is the upper edge of a frame."""

    plated = True

    def watched(self, board: Board) -> tuple[object, ...]:
        return board.plan, board.release

    def lines(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return [header(board, moment, cells)]


def header(board: Board, moment: Moment, cells: int) -> Line:
    """What is left out first on a narrow terminal: the strategy, then the target."""
    plan = board.plan
    name: Line = (("zdd ", Tone.DIM), (plan.name, Tone.STRONG))
    strategy: Line = ((plan.strategy, Tone.DIM),)
    word = f"■ {plan.environment.upper()}"
    environment: Line = ((f" {word} " if plan.production else word, Tone.ALARM if plan.production else Tone.STRONG),)
    if plan.region:
        environment = (*environment, _GAP, (f"region {plan.region}", Tone.STRONG))
    target: Line = ((plan.target, Tone.NORMAL),)
    lock = lock_state(moment)
    right = (*lock, _GAP, *agent_state(board, moment)) if lock else agent_state(board, moment)
    for parts in ((name, strategy, environment, target), (name, environment, target), (name, environment)):
        left = join(parts, _GAP)
        if width(left) + width(right) < cells:
            break
    return spread(left, right, cells)


def lock_state(moment: Moment) -> Line:
    """What may be changed from here: nothing, nothing yet, or anything for so long; empty where there is no lock."""
    access, now = moment.access, moment.now
    if access.read_only:
        return (("READ-ONLY", Tone.WARN),)
    if access.locked(now):
        return (("LOCKED", Tone.STRONG),)
    if access.unlocked(now):
        left = int(access.left(now) + 0.999)
        return ((f" UNLOCKED {left // 60}:{left % 60:02} ", Tone.ALARM),)
    return ()


def agent_state(board: Board, moment: Moment) -> Line:
    """Alive with the age of its last sign, or an alarm."""
    record = board.release.value
    age = board.release.age(moment.now)
    if record is None or age is None:
        return (("agent ?", Tone.DIM),)
    if board.release.stale(moment.now, RELEASE_STALE):
        return ((f"agent ? DATABASE STALE {human_age(age)}", Tone.WARN),)
    lease = record.lease
    if record.release.state.ended and no_agent(lease):
        return (("agent not needed", Tone.DIM),)
    if lease is None or not lease.holder:
        return ((" ✗ NO AGENT ", Tone.ALARM),)
    if no_agent(lease):
        return ((f" ✗ NO AGENT {human_age(lease.age + age)} ", Tone.ALARM),)
    return ((f"agent {source_age(lease.age + age)}", Tone.GOOD),)

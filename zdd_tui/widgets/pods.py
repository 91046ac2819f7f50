"""The pods of the Deployment, those that need eyes first."""

from collections import Counter
from collections.abc import Sequence

from zdd_tui.board import PODS_STALE, Board, Moment, Sourced
from zdd_tui.model.pod import Pod, PodState
from zdd_tui.model.rollout import WorkloadSnapshot
from zdd_tui.widgets.line import Line, Rows, Tone, cut, cut_start, fit, human_age
from zdd_tui.widgets.pane import Pane

MARKS = {
    PodState.OVERDUE: ("✗", Tone.BAD),
    PodState.STOPPING: ("▼", Tone.WARN),
    PodState.DRAINING: ("▽", Tone.WARN),
    PodState.STARTING: ("○", Tone.BUSY),
    PodState.WARMING: ("◐", Tone.BUSY),
    PodState.SERVING: ("●", Tone.GOOD),
    PodState.GONE: ("·", Tone.DIM),
}
_ORDER = {state: place for place, state in enumerate(MARKS)}

# Columns after the name: VER 3, STATE 10, LEFT 5, RS 2, AGE 4, with a blank before each.
_FIXED = 3 + 10 + 5 + 2 + 4 + 5


class PodPane(Pane):
    """One line a pod, and what the rollout waits for above them."""

    name_of_pane = "pods"
    limit = PODS_STALE

    def source(self, board: Board) -> Sourced[object]:
        return board.pods

    def heading(self, board: Board, moment: Moment) -> str:
        return pod_heading(board.pods.value) if board.pods.value else ""

    def body(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        snapshot = board.pods.value
        return pod_lines(snapshot, moment.wall + snapshot.clock_skew, cells) if snapshot else []


def pod_heading(snapshot: WorkloadSnapshot) -> str:
    """``users-api 4/4 ready, 1 draining``."""
    view = snapshot.deployment
    if view is None:
        return "no such Deployment"
    counts = Counter(pod.state for pod in snapshot.pods)
    told = [
        f"{counts[state]} {state.lower()}"
        for state in _ORDER
        if counts[state] and state not in (PodState.SERVING, PodState.GONE)
    ]
    return ", ".join([f"{view.name} {view.ready}/{view.desired} ready", *told])


def pod_lines(snapshot: WorkloadSnapshot, cluster_now: float, cells: int) -> Sequence[Line]:
    """A rollout line where one is under way, a heading, and the pods in order of urgency, then name."""
    lines: list[Line] = []
    rollout = snapshot.rollout
    if rollout is not None and not rollout.done:
        glyph, tone = ("✗", Tone.BAD) if rollout.failed else ("▶", Tone.BUSY)
        lines.append(((cut(f"{glyph} rollout: {rollout.message}", cells), tone),))
    # Both come in the order of their names, and sorting is stable.
    pods = sorted((*snapshot.pods, *snapshot.gone), key=lambda pod: _ORDER[pod.state])
    longest = max((len(pod.name) for pod in pods), default=0)
    room = max(6, min(cells - _FIXED, longest))
    lines.append(((f"{'POD':<{room}} VER STATE      {'LEFT':>5} {'RS':>2} {'AGE':>4}", Tone.DIM),))
    if not pods:
        lines.append((("no pods", Tone.WARN),))
    return Rows(lines, len(pods), lambda at: pod_line(pods[at], cluster_now, room, cells - room))


def pod_line(pod: Pod, cluster_now: float, room: int, rest: int) -> Line:
    """One pod, with its name in `room` cells and all else in `rest`. What is wrong takes the place of the state."""
    glyph, tone = MARKS[pod.state]
    head: Line = (
        (f"{fit(cut_start(pod.name, room), room)} ", Tone.DIM if pod.state is PodState.GONE else Tone.NORMAL),
        (f"{fit(pod.version, 3)} ", Tone.NORMAL),
    )
    age = "" if pod.created_at is None else human_age(cluster_now - pod.created_at)
    if pod.reason:
        wrong = f"{glyph} {pod.reason}{f' {pod.restarts}×' if pod.restarts else ''}"
        return (*head, (f"{fit(wrong, max(8, rest - 10))} ", Tone.BAD), (f"{age:>4}", Tone.DIM))
    return (
        *head,
        (f"{glyph} {fit(pod.state.value, 8)} ", tone),
        (f"{_left(pod):>5} ", tone),
        (f"{pod.restarts:>2} ", Tone.WARN if pod.restarts else Tone.NORMAL),
        (f"{age:>4}", Tone.DIM),
    )


def _left(pod: Pod) -> str:
    """Seconds to the deadline; ``~`` says that the preStop hook should be running still, which is an estimate."""
    if pod.seconds_left is None or pod.state is PodState.GONE:
        return ""
    sign = "+" if pod.seconds_left < 0 else ""
    return f"{'~' if pod.prestop_estimated else ''}{sign}{human_age(abs(pod.seconds_left))}"

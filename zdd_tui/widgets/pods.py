"""The pods of the Deployment, those that need eyes first."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from zdd_tui.board import PODS_STALE, Board, Moment, PlanView, Sourced
from zdd_tui.model.pod import Pod, PodState
from zdd_tui.model.rollout import WorkloadSnapshot
from zdd_tui.widgets.line import Line, Rows, Tone, cut, cut_start, fit, human_age, width
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

_WARM = ("◇", "Warm")
"""Ready, and without traffic because the Service has been switched away, or has not been switched here yet."""

# Columns after the name: VER 3, STATE 10, LEFT 5, RS 2, AGE 4, with a blank before each.
_FIXED = 3 + 10 + 5 + 2 + 4 + 5


@dataclass(frozen=True, slots=True)
class Row:
    """A pod as it is shown.

    Attributes:
        side: which of two Deployments it belongs to; empty where there is one.
        version: short.
        warm: it stands ready without traffic, as it should.
    """

    pod: Pod
    side: str
    version: str
    warm: bool = False


class PodPane(Pane):
    """One line a pod, and what the rollout waits for above them."""

    name_of_pane = "pods"
    limit = PODS_STALE

    def source(self, board: Board) -> Sourced[object]:
        return board.pods

    def watched(self, board: Board) -> tuple[object, ...]:
        return board.plan, board.pods, board.twin

    def heading(self, board: Board, moment: Moment) -> str:
        first, twin = board.pods.value, board.twin.value
        if first is None:
            return ""
        return sides_heading(board.plan, first, twin) if twin and board.plan.sides else pod_heading(first)

    def body(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        snapshot = board.pods.value
        return board_pods(board, moment.wall + snapshot.clock_skew, cells) if snapshot else []


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


def sides_heading(plan: PlanView, first: WorkloadSnapshot, twin: WorkloadSnapshot) -> str:
    """``serving: stable 4/4, canary 1/1``: where the traffic goes."""
    told = []
    for (side, _), snapshot in zip(plan.sides, (first, twin), strict=True):
        others = {pod.uid for pod in twin.pods} if snapshot is first else set()
        serving = sum(pod.state is PodState.SERVING and pod.uid not in others for pod in snapshot.pods)
        wanted = snapshot.deployment.desired if snapshot.deployment else "?"
        told.append(f"{side} {serving}/{wanted}")
    return f"serving: {', '.join(told)}"


def board_pods(board: Board, cluster_now: float, cells: int) -> Sequence[Line]:
    """A line for each rollout that is under way, a heading, and the pods in order of urgency, then name."""
    plan, twin = board.plan, board.twin
    snapshots = [found for found in (board.pods.value, twin.value) if found is not None]
    sides = [side for side, _ in plan.sides] or [""]
    lines: list[Line] = []
    if twin.error and plan.sides:
        lines.append(((cut(f"✗ {sides[1]}: {twin.error}", cells), Tone.BAD),))
    for snapshot, side in zip(snapshots, sides, strict=False):
        rollout = snapshot.rollout
        if rollout is not None and not rollout.done:
            glyph, tone = ("✗", Tone.BAD) if rollout.failed else ("▶", Tone.BUSY)
            which = f" {side}" if len(snapshots) > 1 else ""
            lines.append(((cut(f"{glyph} rollout{which}: {rollout.message}", cells), tone),))
    rows = pod_rows(plan, snapshots)
    column = max(len(side) for side in sides) if len(rows) else 0
    longest = max((len(pod.name) for pod, _ in rows), default=0)
    room = max(6, min(cells - _FIXED - (column + 1 if column else 0), longest))
    title = f"{'SIDE':<{column}} " if column else ""
    lines.append(((f"{'POD':<{room}} {title}VER STATE      {'LEFT':>5} {'RS':>2} {'AGE':>4}", Tone.DIM),))
    if not rows:
        lines.append((("no pods", Tone.WARN),))
    warm = [plan.switched and found.rollout is not None and found.rollout.done for found in snapshots]

    def row(at: int) -> Line:
        pod, number = rows[at]
        version = pod.version
        if plan.new_image:
            version = "new" if pod.image == plan.new_image else "old"
        # A pod that is Ready but in no Service looks as if it were warming up; once all are available it is not.
        stands = number < len(warm) and warm[number] and pod.state is PodState.WARMING
        return pod_line(Row(pod, sides[number], version, stands), cluster_now, room, column, cells)

    return Rows(lines, len(rows), row)


def pod_rows(plan: PlanView, snapshots: Sequence[WorkloadSnapshot]) -> list[tuple[Pod, int]]:
    """Every pod once, with the number of its Deployment; those that need eyes first, then by name.

    The first Deployment's labels find the second one's pods too, while that comes or goes: names tell them apart.
    """
    # Each snapshot comes in the order of its pods' names, and sorting is stable.
    if not plan.sides:
        pods = [(pod, 0) for found in snapshots for pod in (*found.pods, *found.gone)]
        return sorted(pods, key=lambda row: _ORDER[row[0].state])
    second = f"{plan.sides[1][1]}-"
    known: dict[str, tuple[Pod, int]] = {}
    for number, found in reversed(list(enumerate(snapshots))):
        for pod in (*found.pods, *found.gone):
            known.setdefault(pod.uid, (pod, 1 if pod.name.startswith(second) else number))
    return sorted(known.values(), key=lambda row: (_ORDER[row[0].state], row[1]))


def pod_line(row: Row, cluster_now: float, room: int, column: int, cells: int) -> Line:
    """One pod, with its name in `room` cells. What is wrong takes the place of the state."""
    pod = row.pod
    glyph, tone = MARKS[pod.state]
    word = pod.state.value
    if row.warm:
        (glyph, word), tone = _WARM, Tone.NORMAL
    head: Line = (
        (f"{fit(cut_start(pod.name, room), room)} ", Tone.DIM if pod.state is PodState.GONE else Tone.NORMAL),
        (f"{fit(row.side, column)} " if column else "", Tone.NORMAL),
        (f"{fit(row.version, 3)} ", Tone.STRONG if row.version == "new" else Tone.NORMAL),
    )
    age = "" if pod.created_at is None else human_age(cluster_now - pod.created_at)
    if pod.reason:
        wrong = f"{glyph} {pod.reason}{f' {pod.restarts}×' if pod.restarts else ''}"
        rest = cells - width(head) - 5
        return (*head, (f"{fit(wrong, max(8, min(rest, 40)))} ", Tone.BAD), (f"{age:>4}", Tone.DIM))
    return (
        *head,
        (f"{glyph} {fit(word, 8)} ", tone),
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

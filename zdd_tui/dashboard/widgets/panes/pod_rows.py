"""The pods of a board as rows of a table, made anew only where a pod has changed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from operator import is_not

from zdd_tui.dashboard.state import Board, PlanView
from zdd_tui.dashboard.widgets.drawing.line import Tone
from zdd_tui.model.workload.pod import Pod, PodState
from zdd_tui.model.workload.rollout import WorkloadSnapshot

MARKS = {
    PodState.OVERDUE: ("✗", Tone.BAD),
    PodState.STOPPING: ("▼", Tone.WARN),
    PodState.DRAINING: ("▽", Tone.WARN),
    PodState.STARTING: ("○", Tone.BUSY),
    PodState.WARMING: ("◐", Tone.BUSY),
    PodState.SERVING: ("●", Tone.GOOD),
    PodState.GONE: ("·", Tone.DIM),
}
"""Glyph and tone of each state, those that need eyes first."""

ORDER = {state: place for place, state in enumerate(MARKS)}


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


@dataclass(frozen=True, slots=True)
class Widths:
    """The longest texts of all rows, in cells of plain letters; never too small, and too large only for a while."""

    name: int = 0
    side: int = 0
    node: int = 0
    reason: int = 0

    def with_row(self, row: Row) -> "Widths":
        pod = row.pod
        return Widths(
            max(self.name, len(pod.name)),
            max(self.side, len(row.side)),
            max(self.node, len(pod.node)),
            max(self.reason, len(pod.reason)),
        )


def widths_of(rows: Sequence[Row]) -> Widths:
    return Widths(
        max((len(row.pod.name) for row in rows), default=0),
        max((len(row.side) for row in rows), default=0),
        max((len(row.pod.node) for row in rows), default=0),
        max((len(row.pod.reason) for row in rows), default=0),
    )


class PodRows:
    """The rows of the newest board.

    While pods only change and none comes, goes or changes its state, which is almost always, a board costs its
    changed pods and not all of them.

    Attributes:
        rows: in order of urgency, then name.
        counts: pods of the first Deployment in each state.
    """

    def __init__(self) -> None:
        self.rows: Sequence[Row] = ()
        self.widths = Widths()
        self.counts: Counter[PodState] = Counter()
        self._of: tuple[PlanView, WorkloadSnapshot | None, WorkloadSnapshot | None] | None = None
        self._places: dict[str, int] = {}

    def see(self, board: Board) -> None:
        """Brings the rows up to a board."""
        before, now = self._of, (board.plan, board.pods.value, board.twin.value)
        if before is not None and all(old is new for old, new in zip(before, now, strict=True)):
            return
        self._of = now
        if before is None or before[0] is not now[0] or before[2] is not now[2] or not self._patch(before[1], now[1]):
            self.rows = board_rows(board)
            self.widths = widths_of(self.rows)
            self.counts = Counter(pod.state for pod in now[1].pods) if now[1] is not None else Counter()
            self._places = {}

    def _patch(self, before: WorkloadSnapshot | None, after: WorkloadSnapshot | None) -> bool:
        """Takes changed pods in; False where that is not all that has changed."""
        assert self._of is not None
        plan = self._of[0]
        if before is None or after is None or plan.sides or before.gone or after.gone:
            return False
        if len(before.pods) != len(after.pods):
            return False
        differ = map(is_not, before.pods, after.pods)
        changed = list(compress(zip(before.pods, after.pods, strict=True), differ))
        if any((old.uid, old.name, old.state) != (new.uid, new.name, new.state) for old, new in changed):
            return False
        if changed and not self._places:
            self._places = {row.pod.uid: place for place, row in enumerate(self.rows)}
        rows = list(self.rows)
        for _, pod in changed:
            row = Row(pod, "", _version(plan, pod))
            rows[self._places[pod.uid]] = row
            self.widths = self.widths.with_row(row)
        self.rows = rows
        return True


def _version(plan: PlanView, pod: Pod) -> str:
    if not plan.new_image:
        return pod.version
    return "new" if pod.image == plan.new_image else "old"


def board_rows(board: Board) -> list[Row]:
    """The pods in order of urgency, then name."""
    plan = board.plan
    snapshots = [found for found in (board.pods.value, board.twin.value) if found is not None]
    sides = [side for side, _ in plan.sides] or [""]
    warm = [plan.switched and found.rollout is not None and found.rollout.done for found in snapshots]
    made: list[Row] = []
    for pod, number in pod_rows(plan, snapshots):
        # A pod that is Ready but in no Service looks as if it were warming up; once all are available it is not.
        stands = pod.state is PodState.WARMING and number < len(warm) and warm[number]
        made.append(Row(pod, sides[number], _version(plan, pod), stands))
    return made


def pod_rows(plan: PlanView, snapshots: Sequence[WorkloadSnapshot]) -> list[tuple[Pod, int]]:
    """Every pod once, with the number of its Deployment; those that need eyes first, then by name.

    The first Deployment's labels find the second one's pods too, while that comes or goes: names tell them apart.
    """
    # Each snapshot comes in the order of its pods' names, and sorting is stable.
    if not plan.sides:
        pods = [(pod, 0) for found in snapshots for pod in (*found.pods, *found.gone)]
        return sorted(pods, key=lambda row: ORDER[row[0].state])
    second = f"{plan.sides[1][1]}-"
    known: dict[str, tuple[Pod, int]] = {}
    for number, found in reversed(list(enumerate(snapshots))):
        for pod in (*found.pods, *found.gone):
            known.setdefault(pod.uid, (pod, 1 if pod.name.startswith(second) else number))
    return sorted(known.values(), key=lambda row: (ORDER[row[0].state], row[1]))

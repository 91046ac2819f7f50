"""The pods of the dashboard's state as rows of a table, rebuilt only where a pod has changed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from operator import is_not

from zdd_tui.dashboard.state import PODS_STALE_SECONDS, DashboardState, Observed, PlanView, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import TextStyle
from zdd_tui.model.release.claims import uncounted_seconds
from zdd_tui.model.workload.pod import Pod, PodState
from zdd_tui.model.workload.rollout import WorkloadSnapshot

POD_GLYPHS = {
    PodState.OVERDUE: ("✗", TextStyle.BAD),
    PodState.NOT_READY: ("✗", TextStyle.BAD),
    PodState.STOPPING: ("▼", TextStyle.WARN),
    PodState.DRAINING: ("▽", TextStyle.WARN),
    PodState.STARTING: ("○", TextStyle.RUNNING),
    PodState.WARMING: ("◐", TextStyle.RUNNING),
    PodState.SERVING: ("●", TextStyle.GOOD),
    PodState.FAILED: ("✗", TextStyle.DIM),
    PodState.SUCCEEDED: ("✔", TextStyle.DIM),
    PodState.GONE: ("·", TextStyle.DIM),
}
"""Glyph and style of each state, the most urgent first."""

STATE_ORDER = {state: place for place, state in enumerate(POD_GLYPHS)}


@dataclass(frozen=True, slots=True)
class PodRow:
    """A pod as shown.

    Attributes:
        deployment_label: label of its Deployment where there are two, else empty.
        version: short form of the version.
        is_standby: of blue/green: ready without traffic, as intended.
        watch: place of the watch that knows it, in :attr:`DashboardState.pod_watches`.
    """

    pod: Pod
    deployment_label: str
    version: str
    is_standby: bool = False
    watch: int = 0


@dataclass(frozen=True, slots=True)
class ColumnWidths:
    """Lengths of the longest texts of all rows; never too small, temporarily too large."""

    name: int = 0
    side: int = 0
    node: int = 0
    reason: int = 0
    version: int = 0

    def with_row(self, row: PodRow) -> "ColumnWidths":
        pod = row.pod
        return ColumnWidths(
            max(self.name, len(pod.name)),
            max(self.side, len(row.deployment_label)),
            max(self.node, len(node_label(pod))),
            max(self.reason, len(pod.reason)),
            max(self.version, len(row.version)),
        )


def is_old(watch: Observed[WorkloadSnapshot], now: float) -> bool:
    """What a watch knows was so, and need not be so now.

    Args:
        now: monotonic seconds.
    """
    return bool(watch.error) or watch.is_stale(now, PODS_STALE_SECONDS)


def cluster_time(watch: Observed[WorkloadSnapshot], context: RenderContext) -> float:
    """The cluster's clock in seconds since the epoch; it stops where the watch confirms nothing."""
    stopped = uncounted_seconds(watch.age(context.now) or 0.0)
    return context.wall - stopped + (watch.value.clock_skew if watch.value is not None else 0.0)


def node_label(pod: Pod) -> str:
    """The node without its domain, which is the same for all nodes."""
    return pod.node.partition(".")[0]


def measure_widths(rows: Sequence[PodRow]) -> ColumnWidths:
    return ColumnWidths(
        max((len(row.pod.name) for row in rows), default=0),
        max((len(row.deployment_label) for row in rows), default=0),
        max((len(node_label(row.pod)) for row in rows), default=0),
        max((len(row.pod.reason) for row in rows), default=0),
        max((len(row.version) for row in rows), default=0),
    )


class PodRowCache:
    """The rows of the newest state.

    While no pod is added, removed or changes its state, which is the usual case, only changed pods are rebuilt.

    Attributes:
        rows: the most urgent first, then by name.
        counts: number of pods of the first Deployment in each state.
        revision: grows when a pod is added or removed, or changes its state or its image.
    """

    def __init__(self) -> None:
        self.rows: Sequence[PodRow] = ()
        self.widths = ColumnWidths()
        self.counts: Counter[PodState] = Counter()
        self.revision = 0
        self._source: tuple[PlanView, WorkloadSnapshot | None, WorkloadSnapshot | None] | None = None
        self._index_by_name: dict[str, int] = {}

    def update(self, board: DashboardState) -> None:
        """Updates the rows to a state."""
        before, now = self._source, (board.plan, board.workload.value, board.second_workload.value)
        if before is not None and all(old is new for old, new in zip(before, now, strict=True)):
            return
        self._source = now
        if before is None or before[0] is not now[0] or before[2] is not now[2] or not self._patch(before[1], now[1]):
            self.rows = sorted_pod_rows(board)
            self.widths = measure_widths(self.rows)
            self.counts = Counter(pod.state for pod in now[1].pods) if now[1] is not None else Counter()
            self._index_by_name = {}
            self.revision += 1

    def _patch(self, before: WorkloadSnapshot | None, after: WorkloadSnapshot | None) -> bool:
        """Replaces changed pods; False where more than that has changed."""
        assert self._source is not None
        plan = self._source[0]
        if before is None or after is None or plan.deployment_roles or before.gone or after.gone:
            return False
        if len(before.pods) != len(after.pods):
            return False
        differ = map(is_not, before.pods, after.pods)
        changed = list(compress(zip(before.pods, after.pods, strict=True), differ))
        if any(
            (old.uid, old.name, old.state, old.image) != (new.uid, new.name, new.state, new.image)
            for old, new in changed
        ):
            return False
        if changed and not self._index_by_name:
            self._index_by_name = {row.pod.uid: place for place, row in enumerate(self.rows)}
        rows = list(self.rows)
        for _, pod in changed:
            row = PodRow(pod, "", shown_version(plan, pod))
            rows[self._index_by_name[pod.uid]] = row
            self.widths = self.widths.with_row(row)
        self.rows = rows
        return True


def shown_version(plan: PlanView, pod: Pod) -> str:
    """``1``, ``2``, ``3`` of expand/contract; ``old`` or ``new`` where the release has one new image."""
    if not plan.new_image:
        return pod.version
    return "new" if pod.image == plan.new_image else "old"


def sorted_pod_rows(board: DashboardState) -> list[PodRow]:
    """The pods, the most urgent first, then by name."""
    plan, snapshots = board.plan, board.workloads
    sides = [side for side, _ in plan.deployment_roles] or [""]
    is_complete = [plan.is_blue_green and each.rollout is not None and each.rollout.done for each in snapshots]
    second = board.second_workload.value if plan.deployment_roles else None
    of_second = {pod.uid for pod in (*second.pods, *second.gone)} if second is not None else set()
    rows: list[PodRow] = []
    for pod, number in build_pod_rows(plan, snapshots):
        # A ready pod without traffic has the state Warming; once the rollout is done it is on standby.
        is_standby = pod.state is PodState.WARMING and number < len(is_complete) and is_complete[number]
        rows.append(PodRow(pod, sides[number], shown_version(plan, pod), is_standby, int(pod.uid in of_second)))
    return rows


def build_pod_rows(plan: PlanView, snapshots: Sequence[WorkloadSnapshot]) -> list[tuple[Pod, int]]:
    """Every pod once, with the index of its Deployment; the most urgent first, then by name.

    The selector of the first Deployment also matches pods of the second one; names tell them apart.
    """
    # The pods of a snapshot are ordered by name, and sorting is stable.
    if not plan.deployment_roles:
        pods = [(pod, 0) for snapshot in snapshots for pod in (*snapshot.pods, *snapshot.gone)]
        return sorted(pods, key=lambda row: STATE_ORDER[row[0].state])
    second = f"{plan.deployment_roles[1][1]}-"
    known: dict[str, tuple[Pod, int]] = {}
    for number, snapshot in reversed(list(enumerate(snapshots))):
        for pod in (*snapshot.pods, *snapshot.gone):
            known.setdefault(pod.uid, (pod, 1 if pod.name.startswith(second) else number))
    return sorted(known.values(), key=lambda row: (STATE_ORDER[row[0].state], row[1]))

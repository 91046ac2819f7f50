"""The pods of the Deployment, those that need eyes first."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from zdd_tui.dashboard.state import PODS_STALE_SECONDS, DashboardState, Observed, PlanView, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, Span, TextStyle, format_age, truncate
from zdd_tui.dashboard.widgets.panes.columns import PaneColumn
from zdd_tui.dashboard.widgets.panes.pod_rows import POD_GLYPHS, STATE_ORDER, ColumnWidths, PodRow, PodRowCache
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.workload.pod import Pod, PodState
from zdd_tui.model.workload.rollout import WorkloadSnapshot

_WARM_GLYPH = ("◇", "Warm")
"""Ready, and without traffic because the Service has been switched away, or has not been switched here yet."""


class PodPane(TablePane[PodRow, float]):
    """A row a pod, those that need eyes first, and above them what a rollout waits for."""

    pane_name = "pods"
    stale_after = PODS_STALE_SECONDS

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._pods = PodRowCache()

    def source(self, board: DashboardState) -> Observed[object]:
        return board.workload

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        pods, second = board.workload, board.second_workload
        return board.plan, pods.value, pods.error, second.value, second.error

    def heading(self, board: DashboardState, context: RenderContext) -> str:
        first, second = board.workload.value, board.second_workload.value
        if first is None:
            return ""
        self._pods.update(board)
        return (
            deployments_heading(board.plan, first, second)
            if second and board.plan.deployment_roles
            else pod_heading(first, self._pods.counts)
        )

    def rows(self, board: DashboardState, context: RenderContext) -> Sequence[PodRow]:
        self._pods.update(board)
        return self._pods.rows

    def columns(self, board: DashboardState, rows: Sequence[PodRow], cells: int) -> Sequence[PaneColumn[PodRow, float]]:
        return pod_columns(self._pods.widths)

    def cell_context(self, board: DashboardState, context: RenderContext) -> float:
        return context.wall + (board.workload.value.clock_skew if board.workload.value else 0.0)

    def identity(self, row: PodRow) -> str:
        return row.pod.uid

    def labels(self, row: PodRow) -> Mapping[str, str]:
        return row.pod.labels

    def row_value(self, row: PodRow) -> object:
        return row.pod

    def notes(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return pod_notes(board, cells)

    def empty_line(self, board: DashboardState) -> Line:
        return (("no pods", TextStyle.WARN),)


def pod_heading(snapshot: WorkloadSnapshot, counts: Mapping[PodState, int]) -> str:
    """``users-api 4/4 ready, 1 draining``."""
    view = snapshot.deployment
    if view is None:
        return "no such Deployment"
    text = [
        f"{counts[state]} {state.lower()}"
        for state in STATE_ORDER
        if counts.get(state) and state not in (PodState.SERVING, PodState.GONE)
    ]
    return ", ".join([f"{view.name} {view.ready}/{view.desired} ready", *text])


def deployments_heading(plan: PlanView, first: WorkloadSnapshot, second: WorkloadSnapshot) -> str:
    """``serving: stable 4/4, canary 1/1``: where the traffic goes."""
    text = []
    for (side, _), snapshot in zip(plan.deployment_roles, (first, second), strict=True):
        others = {pod.uid for pod in second.pods} if snapshot is first else set()
        serving = sum(pod.state is PodState.SERVING and pod.uid not in others for pod in snapshot.pods)
        wanted = snapshot.deployment.desired if snapshot.deployment else "?"
        text.append(f"{side} {serving}/{wanted}")
    return f"serving: {', '.join(text)}"


def pod_notes(board: DashboardState, cells: int) -> list[Line]:
    """A line for the second Deployment's error, and one for each rollout that is under way."""
    plan, second = board.plan, board.second_workload
    snapshots = [found for found in (board.workload.value, second.value) if found is not None]
    sides = [side for side, _ in plan.deployment_roles] or [""]
    lines: list[Line] = []
    if second.error and plan.deployment_roles:
        lines.append(((truncate(f"✗ {sides[1]}: {second.error}", cells), TextStyle.BAD),))
    for snapshot, side in zip(snapshots, sides, strict=False):
        rollout = snapshot.rollout
        if rollout is not None and not rollout.done:
            glyph, style = ("✗", TextStyle.BAD) if rollout.failed else ("▶", TextStyle.RUNNING)
            which = f" {side}" if len(snapshots) > 1 else ""
            lines.append(((truncate(f"{glyph} rollout{which}: {rollout.message}", cells), style),))
    return lines


@lru_cache(maxsize=8)
def pod_columns(widths: ColumnWidths) -> Sequence[PaneColumn[PodRow, float]]:
    """The columns of pods with texts of these widths. Cells get the cluster's clock."""
    longest, side, node = widths.name, widths.side, widths.node
    reason = widths.reason + 6 if widths.reason else 0
    columns: list[PaneColumn[PodRow, float]] = [
        PaneColumn(
            "pod", "POD", lambda row, _: row.pod.name, 12, longest, keep_end=True, style=_name_style, find=_name
        ),
    ]
    if side:
        columns.append(
            PaneColumn("side", "SIDE", lambda row, _: row.deployment_label, side, find=lambda row: row.deployment_label)
        )
    columns += [
        PaneColumn("version", "VER", lambda row, _: row.version, 3, style=_version_style, find=lambda row: row.version),
        # What is wrong takes the place of the state.
        PaneColumn(
            "state", "STATE", lambda row, _: " ".join(_state_cell(row)[:2]), 10, max(10, min(40, reason) - 9),
            style=lambda row, _: _state_cell(row)[2], find=lambda row: f"{_state_cell(row)[1]} {row.pod.reason}".rstrip(),
            sort=lambda row: STATE_ORDER[row.pod.state], group_label=_problem_text, group_span=2,
        ),
        PaneColumn(
            "left", "LEFT", lambda row, _: _drain_left_text(row.pod), 5, align_right=True,
            style=lambda row, _: _state_cell(row)[2], sort=lambda row: row.pod.seconds_left,
        ),
        PaneColumn(
            "restarts", "RS", lambda row, _: str(row.pod.restarts), 2, align_right=True,
            style=lambda row, _: TextStyle.WARN if row.pod.restarts else TextStyle.NORMAL,
            find=lambda row: str(row.pod.restarts), sort=lambda row: row.pod.restarts,
        ),
        PaneColumn("age", "AGE", _age, 4, align_right=True, style=lambda _row, _: TextStyle.DIM, sort=_start_sort_key, drop_order=1),
    ]  # fmt: skip
    if node:
        columns.append(
            PaneColumn(
                "node",
                "NODE",
                lambda row, _: row.pod.node,
                min(6, node),
                min(30, node),
                drop_order=2,
                keep_end=True,
                style=lambda _row, _: TextStyle.DIM,
                find=lambda row: row.pod.node,
            )
        )
    return columns


def _name(row: PodRow) -> str:
    return row.pod.name


def _name_style(row: PodRow, _now: float) -> TextStyle:
    return TextStyle.DIM if row.pod.state is PodState.GONE else TextStyle.NORMAL


def _version_style(row: PodRow, _now: float) -> TextStyle:
    return TextStyle.STRONG if row.version == "new" else TextStyle.NORMAL


def _state_cell(row: PodRow) -> tuple[str, str, TextStyle]:
    """Glyph, word and tone."""
    if row.is_warm:
        return (*_WARM_GLYPH, TextStyle.NORMAL)
    glyph, style = POD_GLYPHS[row.pod.state]
    return glyph, row.pod.state.value, style


def _problem_text(row: PodRow, _now: float) -> Span | None:
    pod = row.pod
    if not pod.reason:
        return None
    return f"{_state_cell(row)[0]} {pod.reason}{f' {pod.restarts}×' if pod.restarts else ''}", TextStyle.BAD


def _start_sort_key(row: PodRow) -> float | None:
    """Sorts the youngest first."""
    return None if row.pod.created_at is None else -row.pod.created_at


def _age(row: PodRow, now: float) -> str:
    return "" if row.pod.created_at is None else format_age(now - row.pod.created_at)


def _drain_left_text(pod: Pod) -> str:
    """Seconds to the deadline; ``~`` says that the preStop hook should be running still, which is an estimate."""
    if pod.seconds_left is None or pod.state is PodState.GONE:
        return ""
    sign = "+" if pod.seconds_left < 0 else ""
    return f"{'~' if pod.prestop_estimated else ''}{sign}{format_age(abs(pod.seconds_left))}"

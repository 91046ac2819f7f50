"""The pods of the Deployment, those that need eyes first."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from zdd_tui.dashboard.state import PODS_STALE, Board, Moment, PlanView, Sourced
from zdd_tui.dashboard.widgets.drawing.line import Line, Span, Tone, cut, human_age
from zdd_tui.dashboard.widgets.panes.columns import Column
from zdd_tui.dashboard.widgets.panes.pod_rows import MARKS, ORDER, PodRows, Row, Widths
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.workload.pod import Pod, PodState
from zdd_tui.model.workload.rollout import WorkloadSnapshot

_WARM = ("◇", "Warm")
"""Ready, and without traffic because the Service has been switched away, or has not been switched here yet."""


class PodPane(TablePane[Row, float]):
    """A row a pod, those that need eyes first, and above them what a rollout waits for."""

    name_of_pane = "pods"
    limit = PODS_STALE

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._pods = PodRows()

    def source(self, board: Board) -> Sourced[object]:
        return board.pods

    def watched(self, board: Board) -> tuple[object, ...]:
        pods, twin = board.pods, board.twin
        return board.plan, pods.value, pods.error, twin.value, twin.error

    def heading(self, board: Board, moment: Moment) -> str:
        first, twin = board.pods.value, board.twin.value
        if first is None:
            return ""
        self._pods.see(board)
        return (
            sides_heading(board.plan, first, twin)
            if twin and board.plan.sides
            else pod_heading(first, self._pods.counts)
        )

    def rows(self, board: Board, moment: Moment) -> Sequence[Row]:
        self._pods.see(board)
        return self._pods.rows

    def columns(self, board: Board, rows: Sequence[Row], cells: int) -> Sequence[Column[Row, float]]:
        return pod_columns(self._pods.widths)

    def context(self, board: Board, moment: Moment) -> float:
        return moment.wall + (board.pods.value.clock_skew if board.pods.value else 0.0)

    def identity(self, row: Row) -> str:
        return row.pod.uid

    def labels(self, row: Row) -> Mapping[str, str]:
        return row.pod.labels

    def value(self, row: Row) -> object:
        return row.pod

    def notes(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return pod_notes(board, cells)

    def nothing(self, board: Board) -> Line:
        return (("no pods", Tone.WARN),)


def pod_heading(snapshot: WorkloadSnapshot, counts: Mapping[PodState, int]) -> str:
    """``users-api 4/4 ready, 1 draining``."""
    view = snapshot.deployment
    if view is None:
        return "no such Deployment"
    told = [
        f"{counts[state]} {state.lower()}"
        for state in ORDER
        if counts.get(state) and state not in (PodState.SERVING, PodState.GONE)
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


def pod_notes(board: Board, cells: int) -> list[Line]:
    """A line for the second Deployment's error, and one for each rollout that is under way."""
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
    return lines


@lru_cache(maxsize=8)
def pod_columns(widths: Widths) -> Sequence[Column[Row, float]]:
    """The columns of pods with texts of these widths. Cells get the cluster's clock."""
    longest, side, node = widths.name, widths.side, widths.node
    reason = widths.reason + 6 if widths.reason else 0
    columns: list[Column[Row, float]] = [
        Column("pod", "POD", lambda row, _: row.pod.name, 12, longest, tail=True, tone=_name_tone, find=_name),
    ]
    if side:
        columns.append(Column("side", "SIDE", lambda row, _: row.side, side, find=lambda row: row.side))
    columns += [
        Column("version", "VER", lambda row, _: row.version, 3, tone=_version_tone, find=lambda row: row.version),
        # What is wrong takes the place of the state.
        Column(
            "state", "STATE", lambda row, _: " ".join(_state(row)[:2]), 10, max(10, min(40, reason) - 9),
            tone=lambda row, _: _state(row)[2], find=lambda row: f"{_state(row)[1]} {row.pod.reason}".rstrip(),
            sort=lambda row: ORDER[row.pod.state], over=_wrong, covers=2,
        ),
        Column(
            "left", "LEFT", lambda row, _: _left(row.pod), 5, right=True,
            tone=lambda row, _: _state(row)[2], sort=lambda row: row.pod.seconds_left,
        ),
        Column(
            "restarts", "RS", lambda row, _: str(row.pod.restarts), 2, right=True,
            tone=lambda row, _: Tone.WARN if row.pod.restarts else Tone.NORMAL,
            find=lambda row: str(row.pod.restarts), sort=lambda row: row.pod.restarts,
        ),
        Column("age", "AGE", _age, 4, right=True, tone=lambda _row, _: Tone.DIM, sort=_youth, gives_way=1),
    ]  # fmt: skip
    if node:
        columns.append(
            Column(
                "node",
                "NODE",
                lambda row, _: row.pod.node,
                min(6, node),
                min(30, node),
                gives_way=2,
                tail=True,
                tone=lambda _row, _: Tone.DIM,
                find=lambda row: row.pod.node,
            )
        )
    return columns


def _name(row: Row) -> str:
    return row.pod.name


def _name_tone(row: Row, _now: float) -> Tone:
    return Tone.DIM if row.pod.state is PodState.GONE else Tone.NORMAL


def _version_tone(row: Row, _now: float) -> Tone:
    return Tone.STRONG if row.version == "new" else Tone.NORMAL


def _state(row: Row) -> tuple[str, str, Tone]:
    """Glyph, word and tone."""
    if row.warm:
        return (*_WARM, Tone.NORMAL)
    glyph, tone = MARKS[row.pod.state]
    return glyph, row.pod.state.value, tone


def _wrong(row: Row, _now: float) -> Span | None:
    pod = row.pod
    if not pod.reason:
        return None
    return f"{_state(row)[0]} {pod.reason}{f' {pod.restarts}×' if pod.restarts else ''}", Tone.BAD


def _youth(row: Row) -> float | None:
    """Sorts the youngest first."""
    return None if row.pod.created_at is None else -row.pod.created_at


def _age(row: Row, now: float) -> str:
    return "" if row.pod.created_at is None else human_age(now - row.pod.created_at)


def _left(pod: Pod) -> str:
    """Seconds to the deadline; ``~`` says that the preStop hook should be running still, which is an estimate."""
    if pod.seconds_left is None or pod.state is PodState.GONE:
        return ""
    sign = "+" if pod.seconds_left < 0 else ""
    return f"{'~' if pod.prestop_estimated else ''}{sign}{human_age(abs(pod.seconds_left))}"

"""The pods of the release, the most urgent first."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from zdd_tui.dashboard.state import PODS_STALE_SECONDS, DashboardState, Observed, PlanView, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import Line, Span, TextStyle, dim, format_age, join, line_width, truncate
from zdd_tui.dashboard.widgets.panes.columns import PaneColumn, dim_style
from zdd_tui.dashboard.widgets.panes.pod_rows import (
    POD_GLYPHS,
    STATE_ORDER,
    ColumnWidths,
    PodRow,
    PodRowCache,
    cluster_time,
    is_old,
    node_label,
)
from zdd_tui.dashboard.widgets.panes.table import TablePane
from zdd_tui.model.counting import count_noun
from zdd_tui.model.release.condition import ConditionKind, ConditionStatus
from zdd_tui.model.workload.drain import DatabaseSessions, VersionDrain, summarize_drain
from zdd_tui.model.workload.pod import Pod, PodState
from zdd_tui.model.workload.rollout import WorkloadSnapshot

_STANDBY = ("◇", "Standby")
"""Ready, without traffic: the Service selects the other Deployment."""

_DAY = 86400.0

SESSIONS_STALE_SECONDS = 6.0
"""They are read every two seconds."""

_PANE_CELLS = 4
"""Cells at the sides of a row: the frame, and the margins inside it."""

_RESTARTS_FROM = 50
"""Width in cells at which all columns but the node fit, without a side."""


class PodAges(NamedTuple):
    """What cells need besides the row.

    Attributes:
        clocks: of each watch the time by the cluster's clock, in seconds since the epoch; it stops with the watch.
        old: places of the watches whose pods were so, and need not be so now.
    """

    clocks: tuple[float, ...]
    old: frozenset[int] = frozenset()


PodColumn = PaneColumn[PodRow, PodAges]


class PodPane(TablePane[PodRow, PodAges]):
    """One row per pod, the most urgent first; above them what a rollout waits for."""

    pane_name = "pods"
    fixed_columns = frozenset({"pod", "state"})
    title_action = "topology"
    shows_error = True
    stale_after = PODS_STALE_SECONDS

    def __init__(self) -> None:
        super().__init__()
        self._pods = PodRowCache()
        self._drain: tuple[tuple[int, DatabaseSessions | None], tuple[VersionDrain, ...]] = ((-1, None), ())

    def source(self, board: DashboardState) -> Observed[object]:
        return board.workload

    def dependencies(self, board: DashboardState) -> tuple[object, ...]:
        pods, second = board.workload, board.second_workload
        return board.plan, pods.value, pods.error, second.value, second.error, board.sessions, _breaches(board)

    def heading(self, board: DashboardState, context: RenderContext) -> str:
        first, second = board.workload.value, board.second_workload.value
        if first is None:
            return ""
        self._pods.update(board)
        text = (
            deployments_heading(board.plan, first, second)
            if second and board.plan.deployment_roles
            else pod_heading(first, self._pods.counts)
        )
        text = f"last: {text}" if self.is_uncertain(board, context) else text
        breaches = _breaches(board) if board.activity(context.now).is_active else ()
        return ", ".join((*(f"✗ wrong {what}" for what in breaches), text))

    def rows(self, board: DashboardState, context: RenderContext) -> Sequence[PodRow]:
        self._pods.update(board)
        return self._pods.rows

    def full_width(self, board: DashboardState) -> int:
        """Cells in which every pod is shown completely."""
        self._pods.update(board)
        return pods_width(self._pods.widths)

    def is_uncertain(self, board: DashboardState, context: RenderContext) -> bool:
        """Every pod may be out of date; where one watch alone is silent, its own pods are dimmed one by one."""
        return all(is_old(watch, context.now) for watch in board.pod_watches if watch.value is not None)

    def is_row_old(self, row: PodRow, cell_context: PodAges) -> bool:
        return row.watch in cell_context.old

    def stale_text(self, board: DashboardState, context: RenderContext) -> str:
        """Names the Deployment where the other one is current."""
        sides = [side for side, _ in board.plan.deployment_roles] or [""]
        known = [pair for pair in zip(sides, board.pod_watches, strict=True) if pair[1].value is not None]
        limit = self.stale_after
        stale = [(side, watch.age(context.now) or 0.0) for side, watch in known if watch.is_stale(context.now, limit)]
        if not stale:
            return ""
        text = f"STALE {format_age(max(age for _, age in stale))}"
        return text if len(stale) == len(known) else f"{stale[0][0]} {text}"

    def columns(self, board: DashboardState, rows: Sequence[PodRow], cells: int) -> Sequence[PodColumn]:
        widths = self._pods.widths
        needed = _RESTARTS_FROM + (1 + widths.side if widths.side else 0)
        return pod_columns(widths, with_restarts=cells >= needed)

    def cell_context(self, board: DashboardState, context: RenderContext) -> PodAges:
        watches = board.pod_watches
        return PodAges(
            tuple(cluster_time(watch, context) for watch in watches),
            _old_watches(board, context.now),
        )

    def identity(self, row: PodRow) -> str:
        return row.pod.uid

    def labels(self, row: PodRow) -> Mapping[str, str]:
        return row.pod.labels

    def row_value(self, row: PodRow) -> object:
        return row.pod

    def notes(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        is_stale = board.sessions.is_stale(context.now, SESSIONS_STALE_SECONDS)
        drain = drain_lines(self._summarize_drain(None if is_stale else board.sessions.value), cells)
        if _old_watches(board, context.now):
            drain = [dim(line) for line in drain]  # a version may have pods of both Deployments
        return [*drain, *pod_notes(board, context.now, cells)]

    def _summarize_drain(self, sessions: DatabaseSessions | None) -> tuple[VersionDrain, ...]:
        """Computed only when a pod has changed its state: there may be thousands."""
        made_of = self._pods.revision, sessions
        if self._drain[0] != made_of:
            pods = [(row.version, row.pod) for row in self._pods.rows]
            self._drain = made_of, summarize_drain(pods, sessions)
        return self._drain[1]

    def empty_line(self, board: DashboardState) -> Line:
        return (("no pods", TextStyle.WARN),)


def _old_watches(board: DashboardState, now: float) -> frozenset[int]:
    """Places, in ``board.pod_watches``, of the watches whose pods are not current."""
    watches = enumerate(board.pod_watches)
    return frozenset(at for at, watch in watches if watch.value is not None and is_old(watch, now))


def _breaches(board: DashboardState) -> tuple[str, ...]:
    """What is wrong about the pods by the standing conditions: pods that are ready may have another image."""
    record = board.release.value
    unmet = record.release.unmet if record is not None else ()
    names = {reading.name.partition(" ")[0] for reading in unmet if reading.status is ConditionStatus.BREACHED}
    kinds = {ConditionKind.PODS: "version", ConditionKind.IMAGE: "image"}
    return tuple(what for kind, what in kinds.items() if kind in names)


def pods_width(widths: ColumnWidths) -> int:
    """Cells of a pane that shows every pod completely, frame included; longer texts of problems may be cut."""
    columns = pod_columns(replace(widths, reason=0))
    return sum(max(column.width, column.max_width) for column in columns) + len(columns) - 1 + _PANE_CELLS


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
    """``serving: stable 4/4, canary 1/1``."""
    text = []
    for (side, _), snapshot in zip(plan.deployment_roles, (first, second), strict=True):
        others = {pod.uid for pod in second.pods} if snapshot is first else set()
        serving = sum(pod.state is PodState.SERVING and pod.uid not in others for pod in snapshot.pods)
        desired = snapshot.deployment.desired if snapshot.deployment else "?"
        text.append(f"{side} {serving}/{desired}")
    return f"serving: {', '.join(text)}"


def drain_lines(drain: Sequence[VersionDrain], cells: int) -> list[Line]:
    """The pods of each version: in one line, or one line each where that is too long."""
    spans = [(each.text, TextStyle.BAD if each.overdue else TextStyle.NORMAL) for each in drain]
    line = join([(span,) for span in spans], ("  ", TextStyle.NORMAL))
    if line_width(line) <= cells:
        return [line] if line else []
    texts = [text if len(text) <= cells else each.short_text for each, (text, _) in zip(drain, spans, strict=True)]
    return [((truncate(text, cells), style),) for text, (_, style) in zip(texts, spans, strict=True)]


def pod_notes(board: DashboardState, now: float, cells: int) -> list[Line]:
    """A line for the second Deployment's error, and one for each rollout in progress.

    Args:
        now: monotonic seconds.
    """
    plan, second = board.plan, board.second_workload
    sides = [side for side, _ in plan.deployment_roles] or [""]
    lines: list[Line] = []
    if second.error and plan.deployment_roles:
        lines.append(((truncate(f"✗ {sides[1]}: {second.error}", cells), TextStyle.BAD),))
    for watch, side in zip(board.pod_watches, sides, strict=True):
        rollout = watch.value.rollout if watch.value is not None else None
        if rollout is None or rollout.done:
            continue
        is_bad = rollout.failed or rollout.is_degraded
        moving = ("?", TextStyle.WARN) if is_old(watch, now) else ("▶", TextStyle.RUNNING)
        glyph, style = ("✗", TextStyle.BAD) if is_bad else moving
        what = "" if rollout.is_degraded else "rollout"
        which = side if len(board.workloads) > 1 else ""
        head = " ".join(part for part in (glyph, what, which) if part)
        line: Line = ((truncate(f"{head}{' ' if head == glyph else ': '}{rollout.message}", cells), style),)
        lines.append(dim(line) if is_old(watch, now) else line)
    return lines


@lru_cache(maxsize=8)
def pod_columns(widths: ColumnWidths, *, with_restarts: bool = True) -> Sequence[PodColumn]:
    """The columns for pods with texts of these lengths.

    Args:
        with_restarts: the column of restarts fits; else restarts are shown beside the state.
    """
    longest, side, node = widths.name, widths.side, widths.node
    reason = widths.reason + 6 if widths.reason else 0
    columns: list[PodColumn] = [
        PaneColumn("pod", "POD", lambda row, _: row.pod.name, 12, longest, keep_end=True, style=_name_style, weight=20,
               find=lambda row: row.pod.name),
        PaneColumn("side", "SIDE", lambda row, _: row.deployment_label, side, find=lambda row: row.deployment_label),
        PaneColumn("version", "VERSION", lambda row, _: row.version, 7, min(20, widths.version), keep_end=True,
               style=_version_style, find=lambda row: row.version, weight=5),
        # A problem, and restarts without a column, take the place of state, drain and the column after it.
        PaneColumn(
            "state", "STATE", _state_text, 10, max(10, min(40, reason) - 9),
            style=lambda row, _: _state_cell(row)[2], sort=lambda row: STATE_ORDER[row.pod.state],
            find=lambda row: f"{_state_cell(row)[1]} {row.pod.reason}".rstrip(),
            group_label=_problem_text if with_restarts else _problem_or_restarts, group_span=2,
        ),
        PaneColumn(
            "drain", "DRAIN", lambda row, _: _drain_left_text(row.pod), 5, align_right=True,
            style=lambda row, _: _state_cell(row)[2], sort=lambda row: row.pod.seconds_left,
        ),
        PaneColumn(
            "restarts", "RESTARTS", lambda row, _: str(row.pod.restarts), 8, align_right=True, drop_order=2,
            style=lambda row, _: TextStyle.WARN if row.pod.restarts else TextStyle.NORMAL,
            find=lambda row: str(row.pod.restarts), sort=lambda row: row.pod.restarts,
        ),
        PaneColumn("age", "AGE", _age, 3, 4, align_right=True, style=dim_style, sort=_start_sort_key, drop_order=1),
        PaneColumn("node", "NODE", lambda row, _: node_label(row.pod), min(6, node), min(30, node), drop_order=3,
               keep_end=True, style=dim_style, find=lambda row: row.pod.node, weight=5),
    ]  # fmt: skip
    empty = {"side": not side, "node": not node}
    return [column for column in columns if not empty.get(column.key)]


def _name_style(row: PodRow, _ages: PodAges) -> TextStyle:
    return TextStyle.DIM if row.pod.state is PodState.GONE else TextStyle.NORMAL


def _version_style(row: PodRow, _ages: PodAges) -> TextStyle:
    return TextStyle.STRONG if row.version == "new" else TextStyle.NORMAL


def _state_cell(row: PodRow) -> tuple[str, str, TextStyle]:
    """Glyph, word and style."""
    if row.is_standby:
        return (*_STANDBY, TextStyle.NORMAL)
    glyph, style = POD_GLYPHS[row.pod.state]
    return glyph, row.pod.state.value, style


def _state_text(row: PodRow, ages: PodAges) -> str:
    return f"{_state_glyph(row, ages)} {_state_cell(row)[1]}"


def _state_glyph(row: PodRow, ages: PodAges) -> str:
    """``?`` for a pod that was so, and need not be so now."""
    return "?" if row.watch in ages.old else _state_cell(row)[0]


def _problem_text(row: PodRow, ages: PodAges) -> Span | None:
    pod = row.pod
    if not pod.reason:
        return None
    if pod.state is PodState.NOT_READY:
        return f"{_state_text(row, ages)} {pod.reason.removeprefix('readiness probe: ')}", TextStyle.BAD
    return f"{_state_glyph(row, ages)} {pod.reason}{f'×{pod.restarts}' if pod.restarts else ''}", TextStyle.BAD


def _problem_or_restarts(row: PodRow, ages: PodAges) -> Span | None:
    """Restarts give way to a running drain, which is more urgent."""
    count, is_draining = row.pod.restarts, row.pod.seconds_left is not None
    if row.pod.reason or not count or is_draining:
        return _problem_text(row, ages)
    return f"{_state_text(row, ages)} {count_noun(count, 'restart')}", TextStyle.WARN


def _start_sort_key(row: PodRow) -> float | None:
    """The youngest first."""
    return None if row.pod.created_at is None else -row.pod.created_at


def _age(row: PodRow, ages: PodAges) -> str:
    """In three cells: weeks from 100 days on."""
    if row.pod.created_at is None:
        return ""
    seconds = ages.clocks[row.watch] - row.pod.created_at
    return format_age(seconds) if seconds < 100 * _DAY else f"{int(seconds / (7 * _DAY))}w"


def _drain_left_text(pod: Pod) -> str:
    """Time to the deadline, ``+`` after it; ``~`` marks an estimate: the preStop hook should still be running."""
    if pod.seconds_left is None or pod.state is PodState.GONE:
        return ""
    sign = "+" if pod.seconds_left < 0 else ""
    return f"{'~' if pod.prestop_estimated else ''}{sign}{format_age(abs(pod.seconds_left))}"

"""Which panes are shown, how many lines each requests, and its place on a screen of any size.

Lines are those inside a pane's border; rows and columns are cells of the screen, borders included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len

from zdd_tui.dashboard.state import DashboardState
from zdd_tui.model.phase import Phase
from zdd_tui.model.release.fills import list_fills
from zdd_tui.model.tuning import describe_tuning
from zdd_tui.model.workload.drain import has_leaving_pods

FULL_LAYOUT_ROWS = 32
"""Height of the screen from which all panes fit."""

BORDER_ROWS = 2
"""Rows of a pane's border."""

_MIN_PANE_ROWS = BORDER_ROWS + 1
"""Rows of the lowest pane that shows anything."""

_MAX_CROWDED_RULES = 5
"""Rules that are visible beside the backfill on a low screen, the worst first; of more the pane counts the hidden."""

_BACKFILL_LINES = 5
"""Lines that the backfill needs."""

_ENDED_BACKFILL_LINES = 2
"""Lines that it needs once it has ended: the flags beside it matter more then."""

_MIN_EVENT_ROWS = (5, 8)
"""Rows that the events keep whatever the other panes request, on a low screen and on a high one."""

_EVENTS_BESIDE_COLUMNS = 160
"""Width of the screen from which events fit beside the pods."""

_MAX_POD_COLUMNS = 104
"""Width that shows a pod with long names completely, with its node and its problem."""

_STEP_COLUMNS_BESIDE_LABEL = 46
"""Width of a step's phase, status, duration and a short note, with the frame."""

GATE_PANE_ROWS = 50
"""Height of the screen from which the gates may have a pane in the layout; the lines above the panes show the current
gates on every screen."""

_ROWS_OUTSIDE_PANES = 11
"""Rows above and below the panes while the release waits."""

_MIN_GATE_LINES = 4
"""Lines of the gates below which they get no place in the layout."""

_CHARTS_FROM_COLUMNS = 118
"""Width of the screen from which charts fit beside the events."""

_CHART_ROWS = 7
"""Rows of the lowest chart that shows more than its scale, border included."""

_MAX_CHART_ROWS = 10
"""Rows that charts get below the events, where these are beside the pods."""

_EVENT_COUNT_STEP = 4
"""Events are counted in steps of this size, so that one more event does not move every pane."""


@dataclass(frozen=True, slots=True)
class PaneRequest:
    """Lines that a pane requests: fewer than `minimum` hide what matters; more than `maximum` stay empty."""

    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class LayoutRequest:
    """The requests of all panes; None for a pane that is not shown.

    Attributes:
        is_guard_compact: the guard has one line per rule.
        pods: lines that would show every pod; of a plan without a Deployment, every step.
        pod_columns: width that would show every pod completely; of a plan without a Deployment, every step.
        events: lines that would show every event, approximately.
        gates: they get only what the other panes leave.
        charts: a part of the events' place is theirs.
        main: the pane at the left: ``pods``, or ``steps`` where there are none.
    """

    backfill: PaneRequest | None
    flags: PaneRequest | None
    guard: PaneRequest | None
    is_guard_compact: bool
    pods: int
    events: int
    gates: PaneRequest | None = None
    pod_columns: int = _MAX_POD_COLUMNS
    charts: bool = False
    main: str = "pods"

    @property
    def right_column(self) -> dict[str, PaneRequest]:
        """The panes at the right of the pods, from the top."""
        requested = {"backfill": self.backfill, "flags": self.flags, "guard": self.guard, "gates": self.gates}
        return {name: request for name, request in requested.items() if request is not None}


@dataclass(frozen=True, slots=True)
class Box:
    """A place on the screen, border included."""

    x: int
    y: int
    width: int
    height: int


# --- requests --------------------------------------------------------------------------------------------------------


def request_layout(
    board: DashboardState,
    rows: int,
    max_pods: int = 0,
    pod_columns: int = _MAX_POD_COLUMNS,
    *,
    with_charts: bool = False,
) -> LayoutRequest:
    """Requests a pane for everything that the plan has. A low screen has no room for three panes at the right: the
    guard replaces the backfill, except during the backfill phase, when it replaces the flags; flags with an error stay.

    Args:
        rows: height of the whole screen.
        max_pods: the highest number of pods so far, so that panes do not move while pods come and go.
        pod_columns: the largest width so far that would show every pod completely.
        with_charts: charts of the guard may be drawn.
    """
    plan = board.plan
    guard = bool(plan.rule_names)
    low = rows < FULL_LAYOUT_ROWS
    backfill = board.has_backfill and (not low or not guard or _is_backfilling(board))
    crowded = low and guard and backfill
    flags = plan.has_flags and (not crowded or bool(board.flags.error))
    rules = len(plan.rule_names)
    of_guard = PaneRequest(1, min(rules, _MAX_CROWDED_RULES)) if crowded else PaneRequest(rules, 2 * rules + 1)
    record = board.release.value
    events = len(record.events) if record is not None else 0
    requested = LayoutRequest(
        backfill=_backfill_request(board) if backfill else None,
        flags=_flags_request(board, low) if flags else None,
        guard=of_guard if guard else None,
        is_guard_compact=crowded,
        main="pods" if plan.has_workload else "steps",
        # Titles, and a rollout that is under way.
        pods=(max(pod_count(board), max_pods) if plan.has_workload else _step_count(board)) + 2,
        events=-(-events // _EVENT_COUNT_STEP) * _EVENT_COUNT_STEP,
        pod_columns=pod_columns if plan.has_workload else _step_columns(board),
        charts=with_charts and guard and not low,
    )
    return replace(requested, gates=_gates_request(board)) if _has_room_for_gates(requested, rows) else requested


def pod_count(board: DashboardState) -> int:
    """Rows of the pods' table, with the lines above it that count the pods of two versions."""
    snapshots = board.workloads
    images = {pod.image for snapshot in snapshots for pod in snapshot.pods}
    has_counts = len(images) > 1 or any(has_leaving_pods(snapshot.pods) for snapshot in snapshots)
    return sum(len(snapshot.pods) + len(snapshot.gone) for snapshot in snapshots) + (2 if has_counts else 0)


def _step_count(board: DashboardState) -> int:
    record = board.release.value
    return len(record.release.strategy.steps) if record is not None else 0


def _step_columns(board: DashboardState) -> int:
    """Width that shows every step completely."""
    record = board.release.value
    steps = record.release.strategy.steps if record is not None else ()
    return max((cell_len(step.label) for step in steps), default=0) + _STEP_COLUMNS_BESIDE_LABEL


def _backfill_request(board: DashboardState) -> PaneRequest:
    """Bar, rows, rate, throttle, verification or tables; then failed rows, changed limits, batches, rate history."""
    record = board.release.value
    if record is None or record.backfill is None:
        return PaneRequest(1, 1)
    tuned = len(describe_tuning(record.plan_limits, record.tuning)) if record.plan_limits else 0
    failed = bool(record.backfill.failed_rows)
    fills = len(list_fills(record))
    has_ended = record.backfill.status in ("done", "cancelled") and not failed
    lowest = _ENDED_BACKFILL_LINES if has_ended else _BACKFILL_LINES
    return PaneRequest(lowest, _BACKFILL_LINES + fills + failed + tuned + 3)


def _has_room_for_gates(request: LayoutRequest, rows: int) -> bool:
    """Decided by the screen's height alone, so that the pane does not come and go with a line above the panes."""
    return (
        rows >= GATE_PANE_ROWS
        and _total_maximum(request.right_column) + _MIN_EVENT_ROWS[1] + _MIN_GATE_LINES + BORDER_ROWS
        <= rows - _ROWS_OUTSIDE_PANES
    )


def _gates_request(board: DashboardState) -> PaneRequest | None:
    """Titles, and one line per gate of every phase."""
    record = board.release.value
    if record is None:
        return None
    strategy = record.release.strategy
    gates = len(strategy.entry) + sum(len(phase.gates) for phase in strategy.phases)
    return PaneRequest(_MIN_GATE_LINES, max(_MIN_GATE_LINES, gates + 1))


def _flags_request(board: DashboardState, is_low: bool) -> PaneRequest:
    """Titles, one line per flag, and one per invalid value."""
    flags = board.flags.value or ()
    if not flags:
        lines = 3 if board.flags.error else 2
    else:
        invalid = sum(bool(flag.problem) for flag in flags)
        lines = min(1 + len(flags) + invalid + bool(board.flags.error), 4 if is_low else 9)
    return PaneRequest(lines, lines)


def _is_backfilling(board: DashboardState) -> bool:
    record = board.release.value
    if record is None or record.release.state.has_ended or record.release.state.is_rolling_back:
        return False
    phase = record.release.current_phase
    return phase is not None and phase.name == Phase.BACKFILL


# --- placement -------------------------------------------------------------------------------------------------------


def place_panes(request: LayoutRequest, width: int, height: int) -> Mapping[str, Box]:
    """The place of each pane, by its name; a pane without a row is missing.

    The panes at the right come first, because they are short and shown nowhere else; then the pods; then the events,
    which get the rest. On a wide screen where pods would scroll, pods get the whole height, and events go to the
    right. Gates come last.

    Args:
        width: columns for all panes.
        height: rows for all panes.
    """
    lowest, highest = _MIN_EVENT_ROWS
    min_events = min(max(lowest, height // 3), highest) if height >= lowest + _MIN_PANE_ROWS else 0
    for_events = max(min_events, min(request.events + BORDER_ROWS, height // 3))
    if request.charts and width >= _EVENTS_BESIDE_COLUMNS and request.pods + BORDER_ROWS > height - for_events:
        for_events = max(for_events, min(min_events + _MAX_CHART_ROWS, height // 2))  # they go to the right
    right = _fit_right_column(request, height - for_events)
    right_rows = _total_maximum(right)
    left = min(width - 2 * width // 5, _MAX_POD_COLUMNS, max(request.pod_columns, width // 3)) if right else width
    for_pods = min(request.pods + BORDER_ROWS, height - for_events)
    top = min(max(right_rows, for_pods, height // 3), height - min_events)
    if height - top < _MIN_PANE_ROWS:
        top = height
    beside = (
        bool(right)
        and width >= _EVENTS_BESIDE_COLUMNS
        and request.pods + BORDER_ROWS > top
        and height - right_rows >= max(min_events, _MIN_PANE_ROWS)
    )
    if beside:
        top = height
    boxes = {request.main: Box(0, 0, left, top)}
    y = 0
    for name, rows in zip(right, share_rows(tuple(right.values()), top), strict=True):
        boxes[name] = Box(left, y, width - left, rows)
        y += rows
    events = Box(left, y, width - left, height - y) if beside else Box(0, top, width, height - top)
    boxes |= _share_with_charts(events, left) if request.charts else {"events": events}
    return {name: box for name, box in boxes.items() if box.width > 0 and box.height > 0}


def _share_with_charts(events: Box, left: int) -> dict[str, Box]:
    """The place of the events, shared with the charts: side by side where it is wide, else one above the other. Without
    room for both the events keep it.

    Args:
        left: width of the pods.
    """
    x, y, width, height = events.x, events.y, events.width, events.height
    if x == 0 and width >= _CHARTS_FROM_COLUMNS and height >= _CHART_ROWS:
        return {"events": Box(0, y, left, height), "charts": Box(left, y, width - left, height)}
    charts = min(_MAX_CHART_ROWS, height - _MIN_EVENT_ROWS[0])
    if x > 0 and charts >= _CHART_ROWS:
        return {"events": Box(x, y, width, height - charts), "charts": Box(x, y + height - charts, width, charts)}
    return {"events": events}


def _total_maximum(requests: Mapping[str, PaneRequest]) -> int:
    return sum(request.maximum + BORDER_ROWS for request in requests.values())


def _fit_right_column(request: LayoutRequest, rows: int) -> dict[str, PaneRequest]:
    """The panes at the right; the gates get the rows that the others leave, or no place."""
    right = request.right_column
    gates = right.pop("gates", None)
    if gates is not None:
        lines = rows - _total_maximum(right) - BORDER_ROWS
        if lines >= gates.minimum:
            right["gates"] = replace(gates, maximum=min(gates.maximum, lines))
    return right


def share_rows(requests: Sequence[PaneRequest], rows: int) -> list[int]:
    """Heights of panes above each other: one line each, then the minimum of each, then the maximum.

    The lowest pane always gets the next row, so that the largest request is cut first.
    """
    heights = [0] * len(requests)
    for at in range(len(requests)):
        if rows >= _MIN_PANE_ROWS or at == 0:
            heights[at] = min(_MIN_PANE_ROWS, rows)
            rows -= heights[at]
    for wanted in ([request.minimum for request in requests], [request.maximum for request in requests]):
        while rows > 0:
            short = [at for at, lines in enumerate(wanted) if 0 < heights[at] < lines + BORDER_ROWS]
            if not short:
                break
            heights[min(short, key=heights.__getitem__)] += 1
            rows -= 1
    return heights

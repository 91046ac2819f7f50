"""Which panes there are, how many lines each asks for, and where each stands on a screen of any size.

Lines are those inside of a pane's frame; rows and columns are cells of the screen, frames included.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from zdd_tui.dashboard.state import DashboardState
from zdd_tui.model.release.strategy import Phase
from zdd_tui.model.tuning import describe_tuning

FULL_LAYOUT_ROWS = 32
"""From this height of the screen on nothing has to give way."""

BORDER_ROWS = 2
"""Rows of a pane's border."""

_MIN_PANE_ROWS = BORDER_ROWS + 1
"""Rows of a pane below which it shows nothing."""

_MAX_CROWDED_RULES = 3
"""So many rules are in sight beside the backfill on a low screen, the worst first."""

_BACKFILL_LINES = 5
"""Lines of the backfill that tell all that matters."""

_MIN_EVENT_ROWS = (5, 8)
"""Rows that the events keep whatever the other panes ask for, on a low screen and on a high one."""

_EVENTS_BESIDE_COLUMNS = 160
"""Columns from which on events have room enough beside the pods."""

_MAX_POD_COLUMNS = 104
"""Columns that show all of a pod, its node's name and what is wrong with it too."""

GATE_PANE_ROWS = 50
"""From this height of the screen on the gates may have a place of their own; the lines above the panes tell what
matters of them on every screen."""

_ROWS_OUTSIDE_PANES = 10
"""Rows above and below the panes, where something waits."""

_MIN_GATE_LINES = 4
"""Lines of the gates below which they had better have all the room."""

_EVENT_COUNT_STEP = 4
"""Events are counted in steps of so many, so that one more does not move every pane."""


@dataclass(frozen=True, slots=True)
class PaneRequest:
    """Lines that a pane wants: without `least` it hides what matters, more than `wish` it cannot fill."""

    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class LayoutRequest:
    """What the panes ask for; None for a pane that is not there.

    Attributes:
        is_guard_compact: the guard has one line a rule.
        pods: lines that would show every pod.
        events: lines that would show every event, about.
        gates: they take no more than all others leave.
    """

    backfill: PaneRequest | None
    flags: PaneRequest | None
    guard: PaneRequest | None
    is_guard_compact: bool
    pods: int
    events: int
    gates: PaneRequest | None = None

    @property
    def right_column(self) -> dict[str, PaneRequest]:
        """What stands at the right of the pods, from above."""
        requested = {"backfill": self.backfill, "flags": self.flags, "guard": self.guard, "gates": self.gates}
        return {name: ask for name, ask in requested.items() if ask is not None}


@dataclass(frozen=True, slots=True)
class Box:
    """A place on the screen, frame included."""

    x: int
    y: int
    width: int
    height: int


# --- what is asked for ------------------------------------------------------------------------------------------


def request_layout(board: DashboardState, rows: int, max_pods: int = 0) -> LayoutRequest:
    """What a plan has gets a pane. On a low screen there is no room for three: the backfill gives way to the guard
    except while it is at work, and then the flags do, which nobody switches meanwhile; but never to hide an error.

    Args:
        rows: of the whole screen.
        max_pods: so many were there before: panes do not jump to and fro while pods come and go.
    """
    plan = board.plan
    guard = bool(plan.rule_names)
    low = rows < FULL_LAYOUT_ROWS
    backfill = plan.has_backfill and (not low or not guard or _is_backfilling(board))
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
        pods=max(pod_count(board), max_pods) + 2,  # titles, and a rollout that is under way
        events=-(-events // _EVENT_COUNT_STEP) * _EVENT_COUNT_STEP,
    )
    return replace(requested, gates=_gates_request(board)) if _has_room_for_gates(requested, rows) else requested


def pod_count(board: DashboardState) -> int:
    """Rows of the pods' table."""
    found = [source.value for source in (board.workload, board.second_workload) if source.value is not None]
    return sum(len(snapshot.pods) + len(snapshot.gone) for snapshot in found)


def _backfill_request(board: DashboardState) -> PaneRequest:
    """Bar, rows, pace, throttle, verification; then failed rows, what is tuned, batches, the rate, the hint."""
    record = board.release.value
    if record is None or record.backfill is None:
        return PaneRequest(1, 1)
    tuned = len(describe_tuning(record.plan_limits, record.tuning)) if record.plan_limits else 0
    failed = bool(record.backfill.failed_rows)
    return PaneRequest(_BACKFILL_LINES, _BACKFILL_LINES + failed + tuned + 3)


def _has_room_for_gates(request: LayoutRequest, rows: int) -> bool:
    """Judged by the screen's height alone, so that they do not come and go with a line above the panes."""
    return (
        rows >= GATE_PANE_ROWS
        and _total_maximum(request.right_column) + _MIN_EVENT_ROWS[1] + _MIN_GATE_LINES + BORDER_ROWS
        <= rows - _ROWS_OUTSIDE_PANES
    )


def _gates_request(board: DashboardState) -> PaneRequest | None:
    """Titles, and a line a gate of every phase."""
    record = board.release.value
    if record is None:
        return None
    strategy = record.release.strategy
    gates = len(strategy.entry) + sum(len(phase.gates) for phase in strategy.phases)
    return PaneRequest(_MIN_GATE_LINES, max(_MIN_GATE_LINES, gates + 1))


def _flags_request(board: DashboardState, is_low: bool) -> PaneRequest:
    """Titles, a line a flag, and what is wrong with them."""
    flags = board.flags.value or ()
    if not flags:
        lines = 3 if board.flags.error else 2
    else:
        wrong = sum(bool(flag.problem) for flag in flags)
        lines = min(1 + len(flags) + wrong + bool(board.flags.error), 4 if is_low else 9)
    return PaneRequest(lines, lines)


def _is_backfilling(board: DashboardState) -> bool:
    record = board.release.value
    if record is None or record.release.state.has_ended or record.release.state.is_rolling_back:
        return False
    phase = record.release.current_phase
    return phase is not None and phase.name == Phase.BACKFILL


# --- where it stands --------------------------------------------------------------------------------------------


def place_panes(request: LayoutRequest, width: int, height: int) -> Mapping[str, Box]:
    """Where each pane stands, by its name; one for which there is no row left is missing.

    The panes at the right get what they ask for first, for what they tell is nowhere else and their lines are few; a
    table scrolls. Then the pods, then the events, which can always use what is left. Where pods would scroll and the
    screen is wide, they have its whole height, and events go to the right. The gates come last of all.

    Args:
        width, height: columns and rows for all panes.
    """
    quiet = (
        min(max(_MIN_EVENT_ROWS[0], height // 3), _MIN_EVENT_ROWS[1])
        if height >= _MIN_EVENT_ROWS[0] + _MIN_PANE_ROWS
        else 0
    )
    for_events = max(quiet, min(request.events + BORDER_ROWS, height // 3))
    right = _fit_right_column(request, height - for_events)
    options = _total_maximum(right)
    left = min(width - 2 * width // 5, _MAX_POD_COLUMNS) if right else width
    for_pods = min(request.pods + BORDER_ROWS, height - for_events)
    top = min(max(options, for_pods, height // 3), height - quiet)
    if height - top < _MIN_PANE_ROWS:
        top = height
    beside = (
        bool(right)
        and width >= _EVENTS_BESIDE_COLUMNS
        and request.pods + BORDER_ROWS > top
        and height - options >= quiet
    )
    if beside:
        top = height
    found = {"pods": Box(0, 0, left, top)}
    y = 0
    for name, rows in zip(right, share_rows(tuple(right.values()), top), strict=True):
        found[name] = Box(left, y, width - left, rows)
        y += rows
    found["events"] = Box(left, y, width - left, height - y) if beside else Box(0, top, width, height - top)
    return {name: box for name, box in found.items() if box.width > 0 and box.height > 0}


def _total_maximum(requests: Mapping[str, PaneRequest]) -> int:
    return sum(ask.maximum + BORDER_ROWS for ask in requests.values())


def _fit_right_column(request: LayoutRequest, rows: int) -> dict[str, PaneRequest]:
    """What stands there; the gates have those of so many rows that the others do not wish for, or no place."""
    right = request.right_column
    gates = right.pop("gates", None)
    if gates is not None:
        lines = rows - _total_maximum(right) - BORDER_ROWS
        if lines >= gates.minimum:
            right["gates"] = replace(gates, maximum=min(gates.maximum, lines))
    return right


def share_rows(requests: Sequence[PaneRequest], rows: int) -> list[int]:
    """The rows of panes above each other: a line each, then to each what it needs, then what it wishes.

    Where there is too little, the lowest pane is given the next row, so that the one that asks for most gives way.
    """
    heights = [0] * len(requests)
    for at in range(len(requests)):
        if rows >= _MIN_PANE_ROWS or at == 0:
            heights[at] = min(_MIN_PANE_ROWS, rows)
            rows -= heights[at]
    wanted: tuple[Callable[[PaneRequest], int], ...] = (lambda ask: ask.minimum, lambda ask: ask.maximum)
    for lines in wanted:
        while rows > 0:
            short = [at for at, ask in enumerate(requests) if 0 < heights[at] < lines(ask) + BORDER_ROWS]
            if not short:
                break
            heights[min(short, key=heights.__getitem__)] += 1
            rows -= 1
    return heights

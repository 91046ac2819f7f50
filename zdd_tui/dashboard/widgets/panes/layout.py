"""Which panes there are, how many lines each asks for, and where each stands on a screen of any size.

Lines are those inside of a pane's frame; rows and columns are cells of the screen, frames included.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from zdd_tui.dashboard.state import Board
from zdd_tui.model.release.strategy import Phase
from zdd_tui.model.tuning import told

ROWS_FOR_ALL = 32
"""From this height of the screen on nothing has to give way."""

FRAME = 2
"""Rows of a pane's border."""

_LEAST = FRAME + 1
"""Rows of a pane below which it shows nothing."""

_CROWDED_RULES = 3
"""So many rules are in sight beside the backfill on a low screen, the worst first."""

_BACKFILL = 5
"""Lines of the backfill that tell all that matters."""

_QUIET = (5, 8)
"""Rows that the events keep whatever the other panes ask for, on a low screen and on a high one."""

_BESIDE = 160
"""Columns from which on events have room enough beside the pods."""

_POD_WIDTH = 104
"""Columns that show all of a pod, its node's name and what is wrong with it too."""

ROWS_FOR_GATES = 50
"""From this height of the screen on the gates may have a place of their own; the lines above the panes tell what
matters of them on every screen."""

_AROUND = 10
"""Rows above and below the panes, where something waits."""

_GATES = 4
"""Lines of the gates below which they had better have all the room."""

_STEP = 4
"""Events are counted in steps of so many, so that one more does not move every pane."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Lines that a pane wants: without `least` it hides what matters, more than `wish` it cannot fill."""

    least: int
    wish: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What the panes ask for; None for a pane that is not there.

    Attributes:
        compact: the guard has one line a rule.
        pods: lines that would show every pod.
        events: lines that would show every event, about.
        gates: they take no more than all others leave.
    """

    backfill: Ask | None
    flags: Ask | None
    guard: Ask | None
    compact: bool
    pods: int
    events: int
    gates: Ask | None = None

    @property
    def right(self) -> dict[str, Ask]:
        """What stands at the right of the pods, from above."""
        asked = {"backfill": self.backfill, "flags": self.flags, "guard": self.guard, "gates": self.gates}
        return {name: ask for name, ask in asked.items() if ask is not None}


@dataclass(frozen=True, slots=True)
class Box:
    """A place on the screen, frame included."""

    x: int
    y: int
    width: int
    height: int


# --- what is asked for ------------------------------------------------------------------------------------------


def layout(board: Board, rows: int, most_pods: int = 0) -> Layout:
    """What a plan has gets a pane. On a low screen there is no room for three: the backfill gives way to the guard
    except while it is at work, and then the flags do, which nobody switches meanwhile; but never to hide an error.

    Args:
        rows: of the whole screen.
        most_pods: so many were there before: panes do not jump to and fro while pods come and go.
    """
    plan = board.plan
    guard = bool(plan.rules)
    low = rows < ROWS_FOR_ALL
    backfill = plan.backfills and (not low or not guard or _backfilling(board))
    crowded = low and guard and backfill
    flags = plan.flagged and (not crowded or bool(board.flags.error))
    rules = len(plan.rules)
    of_guard = Ask(1, min(rules, _CROWDED_RULES)) if crowded else Ask(rules, 2 * rules + 1)
    record = board.release.value
    events = len(record.events) if record is not None else 0
    asked = Layout(
        backfill=_of_backfill(board) if backfill else None,
        flags=_of_flags(board, low) if flags else None,
        guard=of_guard if guard else None,
        compact=crowded,
        pods=max(pod_count(board), most_pods) + 2,  # titles, and a rollout that is under way
        events=-(-events // _STEP) * _STEP,
    )
    return replace(asked, gates=_of_gates(board)) if _has_room_for_gates(asked, rows) else asked


def pod_count(board: Board) -> int:
    """Rows of the pods' table."""
    found = [source.value for source in (board.pods, board.twin) if source.value is not None]
    return sum(len(snapshot.pods) + len(snapshot.gone) for snapshot in found)


def _of_backfill(board: Board) -> Ask:
    """Bar, rows, pace, throttle, verification; then failed rows, what is tuned, batches, the rate, the hint."""
    record = board.release.value
    if record is None or record.backfill is None:
        return Ask(1, 1)
    tuned = len(told(record.plan_limits, record.tuning)) if record.plan_limits else 0
    failed = bool(record.backfill.failed_rows)
    return Ask(_BACKFILL, _BACKFILL + failed + tuned + 3)


def _has_room_for_gates(asked: Layout, rows: int) -> bool:
    """Judged by the screen's height alone, so that they do not come and go with a line above the panes."""
    return rows >= ROWS_FOR_GATES and _wish(asked.right) + _QUIET[1] + _GATES + FRAME <= rows - _AROUND


def _of_gates(board: Board) -> Ask | None:
    """Titles, and a line a gate of every phase."""
    record = board.release.value
    if record is None:
        return None
    strategy = record.release.strategy
    gates = len(strategy.entry) + sum(len(phase.gates) for phase in strategy.phases)
    return Ask(_GATES, max(_GATES, gates + 1))


def _of_flags(board: Board, low: bool) -> Ask:
    """Titles, a line a flag, and what is wrong with them."""
    flags = board.flags.value or ()
    if not flags:
        lines = 3 if board.flags.error else 2
    else:
        wrong = sum(bool(flag.problem) for flag in flags)
        lines = min(1 + len(flags) + wrong + bool(board.flags.error), 4 if low else 9)
    return Ask(lines, lines)


def _backfilling(board: Board) -> bool:
    record = board.release.value
    if record is None or record.release.state.ended or record.release.state.backwards:
        return False
    phase = record.release.current
    return phase is not None and phase.name == Phase.BACKFILL


# --- where it stands --------------------------------------------------------------------------------------------


def places(asked: Layout, width: int, height: int) -> Mapping[str, Box]:
    """Where each pane stands, by its name; one for which there is no row left is missing.

    The panes at the right get what they ask for first, for what they tell is nowhere else and their lines are few; a
    table scrolls. Then the pods, then the events, which can always use what is left. Where pods would scroll and the
    screen is wide, they have its whole height, and events go to the right. The gates come last of all.

    Args:
        width, height: columns and rows for all panes.
    """
    quiet = min(max(_QUIET[0], height // 3), _QUIET[1]) if height >= _QUIET[0] + _LEAST else 0
    for_events = max(quiet, min(asked.events + FRAME, height // 3))
    right = _at_the_right(asked, height - for_events)
    wish = _wish(right)
    left = min(width - 2 * width // 5, _POD_WIDTH) if right else width
    for_pods = min(asked.pods + FRAME, height - for_events)
    top = min(max(wish, for_pods, height // 3), height - quiet)
    if height - top < _LEAST:
        top = height
    beside = bool(right) and width >= _BESIDE and asked.pods + FRAME > top and height - wish >= quiet
    if beside:
        top = height
    found = {"pods": Box(0, 0, left, top)}
    y = 0
    for name, rows in zip(right, shares(tuple(right.values()), top), strict=True):
        found[name] = Box(left, y, width - left, rows)
        y += rows
    found["events"] = Box(left, y, width - left, height - y) if beside else Box(0, top, width, height - top)
    return {name: box for name, box in found.items() if box.width > 0 and box.height > 0}


def _wish(asks: Mapping[str, Ask]) -> int:
    return sum(ask.wish + FRAME for ask in asks.values())


def _at_the_right(asked: Layout, rows: int) -> dict[str, Ask]:
    """What stands there; the gates have those of so many rows that the others do not wish for, or no place."""
    right = asked.right
    gates = right.pop("gates", None)
    if gates is not None:
        lines = rows - _wish(right) - FRAME
        if lines >= gates.least:
            right["gates"] = replace(gates, wish=min(gates.wish, lines))
    return right


def shares(asks: Sequence[Ask], rows: int) -> list[int]:
    """The rows of panes above each other: a line each, then to each what it needs, then what it wishes.

    Where there is too little, the lowest pane is given the next row, so that the one that asks for most gives way.
    """
    heights = [0] * len(asks)
    for at in range(len(asks)):
        if rows >= _LEAST or at == 0:
            heights[at] = min(_LEAST, rows)
            rows -= heights[at]
    wanted: tuple[Callable[[Ask], int], ...] = (lambda ask: ask.least, lambda ask: ask.wish)
    for lines in wanted:
        while rows > 0:
            short = [at for at, ask in enumerate(asks) if 0 < heights[at] < lines(ask) + FRAME]
            if not short:
                break
            heights[min(short, key=heights.__getitem__)] += 1
            rows -= 1
    return heights

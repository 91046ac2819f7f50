"""The first line: release, environment, target and lock."""

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    TextStyle,
    join,
    justify,
    line_width,
    truncate,
)
from zdd_tui.dashboard.widgets.drawing.line_view import ReleaseView
from zdd_tui.dashboard.widgets.panes.traffic import read_canary_weight
from zdd_tui.model.plan.registry import strategy_title
from zdd_tui.model.release.claims import is_stopped

_GAP = ("  ", TextStyle.NORMAL)
WEIGHT_TOLERANCE = 5.0
"""Percentage points by which a canary's real share may miss the wanted one before it is marked."""

_MIN_NAME_CELLS = 6
"""A shorter piece of the name says nothing."""


class Header(ReleaseView):
    """In production it is a coloured bar, the upper edge of the frame."""

    is_coloured_in_production = True

    def dependencies(self, state: DashboardState) -> tuple[object, ...]:
        weight = (state.workload, state.second_workload, state.flags, state.route_weight)
        return (*super().dependencies(state), *(weight if state.plan.weight_source else ()))

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return [header_line(board, context, cells)]


def header_line(board: DashboardState, context: RenderContext, cells: int) -> Line:
    """A narrow terminal leaves out strategy, target and a canary's weight, in this order; then it cuts the name."""
    plan = board.plan
    name: Line = (("zdd ", TextStyle.DIM), (plan.name, TextStyle.STRONG))
    strategy: Line = ((strategy_title(plan.strategy), TextStyle.DIM),)
    word = f"■ {plan.environment.upper()}"
    environment: Line = (
        (f" {word} " if plan.is_production else word, TextStyle.ALARM if plan.is_production else TextStyle.STRONG),
    )
    if plan.region:
        environment = (*environment, _GAP, (f"region {plan.region}", TextStyle.STRONG))
    target: Line = ((plan.target, TextStyle.NORMAL),)
    right = lock_status(context)
    weight = read_canary_weight(board, context.now)
    weights: tuple[Line, ...] = ()
    if weight is not None:
        style = TextStyle.WARN if weight.real is None or weight.differs(WEIGHT_TOLERANCE) else TextStyle.NORMAL
        weights = (((weight.text, style),), ((weight.short_text, style),))
    record = board.release.value
    if record is not None and is_stopped(record.release, board.activity(context.now)):
        right = ((" ✗ STOPPED ", TextStyle.ALARM), *((_GAP, *right) if right else ()))
    layouts: list[tuple[Line, ...]] = [
        *((name, strategy, environment, text, target) for text in weights),
        *((name, environment, text, target) for text in weights),
        *((name, environment, text) for text in weights),
        *(() if weights else ((name, strategy, environment, target), (name, environment, target))),
        (name, environment),
    ]
    for parts in layouts:
        left = join(parts, _GAP)
        if line_width(left) + line_width(right) < cells:
            return justify(left, right, cells)
    # A wrong environment is worse than half a name: it is never cut.
    room = cells - line_width(right) - line_width(environment) - line_width((_GAP,)) - 1
    short: Line = ((truncate(plan.name, room), TextStyle.STRONG), _GAP) if room >= _MIN_NAME_CELLS else ()
    return justify((*short, *environment), right, cells)


def lock_status(context: RenderContext) -> Line:
    """Read-only, locked, or unlocked with the time left; empty where there is no lock."""
    access, now = context.production_lock, context.now
    if access.read_only:
        return (("READ-ONLY", TextStyle.WARN),)
    if access.is_locked(now):
        return (("LOCKED", TextStyle.STRONG),)
    if access.is_unlocked(now):
        left = int(access.seconds_left(now) + 0.999)
        return ((f" UNLOCKED {left // 60}:{left % 60:02} ", TextStyle.ALARM),)
    return ()

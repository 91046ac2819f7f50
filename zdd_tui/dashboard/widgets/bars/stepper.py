"""The phases in order, with the current one marked."""

from zdd_tui.dashboard.state import DashboardState, RenderContext
from zdd_tui.dashboard.widgets.drawing.glyphs import phase_glyph
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, join, line_width
from zdd_tui.dashboard.widgets.drawing.line_view import ReleaseView
from zdd_tui.dashboard.widgets.panes.backfill import done_percent
from zdd_tui.model.phase import Phase
from zdd_tui.model.release.claims import ACTIVE, Activity


class Stepper(ReleaseView):
    """One line: ``✔ expand ─ ▶ dual-write ─ ○ backfill``."""

    click_action = "timeline"

    def lines(self, board: DashboardState, context: RenderContext, cells: int) -> list[Line]:
        return [stepper_line(board, cells, board.activity(context.now))]


def stepper_line(board: DashboardState, cells: int, activity: Activity = ACTIVE) -> Line:
    record = board.release.value
    if record is None:
        return (("○ not started" if board.is_not_started else "… reading the release", TextStyle.DIM),)
    release = record.release
    items: list[Line] = []
    for index, phase in enumerate(release.strategy.phases):
        glyph, style = phase_glyph(release, index, activity)
        label = phase.name
        if phase.name == Phase.BACKFILL and index == release.phase and not release.state.is_rolling_back:
            percent = done_percent(record.backfill)
            label += f" {percent}%" if percent is not None else ""
        items.append(((f"{glyph} {label}", style),))
    return _fit_items(items, [phase.name for phase in release.strategy.phases], release.phase, cells)


def _fit_items(items: list[Line], names: list[str], current: int, cells: int) -> Line:
    """All phases; else with narrower gaps; else `shadow-25 ○ 100` for `shadow-25 ○ shadow-100`; else the phases around
    the current one, with the number of those left out on each side."""
    shorter = [
        ((text.replace(name, name.rpartition("-")[2], 1), style),)
        if at and at != current and _phase_group(name) and _phase_group(name) == _phase_group(names[at - 1])
        else ((text, style),)
        for at, (((text, style),), name) in enumerate(zip(items, names, strict=True))
    ]
    for parts, between in ((items, " ─ "), (items, " "), (shorter, " ")):
        line = join(parts, (between, TextStyle.DIM))
        if line_width(line) <= cells:
            return line
    first = last = max(0, current)
    best = _item_range(items, first, last)
    while True:
        # The next phases matter more than the previous ones.
        for start, stop in ((first, last + 1), (first - 1, last)):
            if start >= 0 and stop < len(items) and line_width(_item_range(items, start, stop)) <= cells:
                first, last, best = start, stop, _item_range(items, start, stop)
                break
        else:
            return best


def _item_range(items: list[Line], first: int, last: int) -> Line:
    before, after = first, len(items) - 1 - last
    parts: list[Line] = [((f"… {before} before", TextStyle.DIM),)] if before else []
    parts += items[first : last + 1]
    parts += [((f"{after} more …", TextStyle.DIM),)] if after else []
    return join(parts, (" ─ ", TextStyle.DIM))


def _phase_group(name: str) -> str:
    """``shadow`` for ``shadow-25``; empty for a phase without a share."""
    head, _, tail = name.rpartition("-")
    return head if tail.isdigit() else ""

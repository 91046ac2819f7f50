"""The phases in order, and where the release stands among them."""

from zdd_tui.dashboard.state import Board, Moment
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, join, width
from zdd_tui.dashboard.widgets.drawing.line_view import LineView
from zdd_tui.dashboard.widgets.panes.backfill import done_percent
from zdd_tui.model.release.state import Release, State
from zdd_tui.model.release.strategy import Phase


class Stepper(LineView):
    """One line: ``✔ expand ─ ▶ dual-write ─ ○ backfill``."""

    def watched(self, board: Board) -> tuple[object, ...]:
        return board.plan, board.release

    def lines(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return [stepper(board, cells)]


def stepper(board: Board, cells: int) -> Line:
    record = board.release.value
    if record is None:
        return (("… reading the release", Tone.DIM),)
    release = record.release
    items: list[Line] = []
    for index, phase in enumerate(release.strategy.phases):
        glyph, tone = _mark(release, index)
        label = phase.name
        if phase.name == Phase.BACKFILL and index == release.phase and not release.state.backwards:
            percent = done_percent(record.backfill)
            label += f" {percent}%" if percent is not None else ""
        items.append(((f"{glyph} {label}", tone),))
    return _fitted(items, [phase.name for phase in release.strategy.phases], release.phase, cells)


def _fitted(items: list[Line], names: list[str], current: int, cells: int) -> Line:
    """In full; else closer together; else `shadow-25 ○ 100` for `shadow-25 ○ shadow-100`; else what lies around the
    current phase, with the number of those left out on either side."""
    shorter = [
        ((text.replace(name, name.rpartition("-")[2], 1), tone),)
        if at and at != current and _family(name) and _family(name) == _family(names[at - 1])
        else ((text, tone),)
        for at, (((text, tone),), name) in enumerate(zip(items, names, strict=True))
    ]
    for parts, between in ((items, " ─ "), (items, " "), (shorter, " ")):
        line = join(parts, (between, Tone.DIM))
        if width(line) <= cells:
            return line
    first = last = max(0, current)
    best = _window(items, first, last)
    while True:
        # The way ahead matters more than the way behind.
        for start, stop in ((first, last + 1), (first - 1, last)):
            if start >= 0 and stop < len(items) and width(_window(items, start, stop)) <= cells:
                first, last, best = start, stop, _window(items, start, stop)
                break
        else:
            return best


def _window(items: list[Line], first: int, last: int) -> Line:
    before, after = first, len(items) - 1 - last
    parts: list[Line] = [((f"… {before} before", Tone.DIM),)] if before else []
    parts += items[first : last + 1]
    parts += [((f"{after} more …", Tone.DIM),)] if after else []
    return join(parts, (" ─ ", Tone.DIM))


def _family(name: str) -> str:
    """``shadow`` of ``shadow-25``; empty for a phase that has no weight."""
    head, _, tail = name.rpartition("-")
    return head if tail.isdigit() else ""


def _mark(release: Release, index: int) -> tuple[str, Tone]:
    """Glyph and tone of one phase."""
    if release.state is State.DONE:
        return "✔", Tone.GOOD
    if release.state is State.ROLLED_BACK:
        return ("◁" if index <= release.phase else "○"), Tone.DIM
    if release.state.backwards:
        steps = release.strategy.phases[index].steps
        touched = [release.status(step.name).touched for step in steps]
        if not any(touched):
            return ("◁" if index <= release.phase else "○"), Tone.DIM
        later = (step for phase in release.strategy.phases[index + 1 :] for step in phase.steps)
        if any(release.status(step.name).touched for step in later):
            return "✔", Tone.NORMAL
        return ("✗", Tone.BAD) if release.state is State.ROLLBACK_FAILED else ("◀", Tone.WARN)
    if index != release.phase:
        return ("✔", Tone.GOOD) if index < release.phase else ("○", Tone.DIM)
    if release.state is State.FAILED:
        return "✗", Tone.BAD
    if release.paused:
        return "‖", Tone.WARN
    return ("◆", Tone.WARN) if release.state is State.WAITING else ("▶", Tone.BUSY)

"""The phases in order, and where the release stands among them."""

from zdd_tui.board import Board, Moment
from zdd_tui.model.release import Release, State
from zdd_tui.model.strategy import Phase
from zdd_tui.widgets.backfill import done_percent
from zdd_tui.widgets.line import Line, Tone, join, width
from zdd_tui.widgets.line_view import LineView


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
    full = join(items, (" ─ ", Tone.DIM))
    return full if width(full) <= cells else join(items, (" ", Tone.DIM))


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

"""The release from its beginning: phases, every try of every step, and what people and the guard did in between."""

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.details.base import DetailScreen, Look, Told, same_story
from zdd_tui.dashboard.state import Board, BoardSource, Moment
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, clip, fit, outside, width
from zdd_tui.dashboard.widgets.panes.events import event_line
from zdd_tui.model.duration import human_duration
from zdd_tui.model.queries import Story, StoryQuery
from zdd_tui.model.release.records import Event, ReleaseRecord
from zdd_tui.model.release.timeline import Stretch, Try, timeline

WIDE = 100
"""Cells from which on each phase has a bar."""

BAR = 36

_OUTCOMES = {
    "running": ("▶", Tone.BUSY),
    "done": ("✔", Tone.GOOD),
    "failed": ("✗", Tone.BAD),
    "cut off": ("~", Tone.WARN),
    "stopped": ("◁", Tone.WARN),
}


class TimelineScreen(DetailScreen):
    """Absolute and relative times; the newest is at the end."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "gates", "Show verdicts of gates and guard too, or not", show=False, id="timeline.gates"),
    ]

    def __init__(self, source: BoardSource, look: Look) -> None:
        super().__init__(source, look)
        self._asked = self.will_ask(StoryQuery(), "the audit", same_story)
        self._gates = False

    def heading(self, board: Board) -> str:
        return f"timeline of {board.plan.name}"

    def own_hints(self) -> tuple[tuple[str, str], ...]:
        return (("g", "without verdicts" if self._gates else "verdicts"),)

    def body(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        lines = self.missing(self._asked, cells)
        record, now = board.release.value, board.server_now(moment.now)
        if self._asked.value is None or record is None or now is None:
            return lines
        return lines + timeline_lines(record, self._asked.value, now, moment, cells, self.text, gates=self._gates)

    def action_gates(self) -> None:
        self._gates = not self._gates
        self.redraw()


def timeline_lines(
    record: ReleaseRecord, story: Story, now: float, moment: Moment, cells: int, told: Told, *, gates: bool
) -> list[Line]:
    """One line a phase and a try, and one an act.

    Args:
        now: by the database's clock.
    """
    stretches = timeline(record.release.strategy, story.events, gates=gates)
    end = record.finished_at or now
    lines: list[Line] = []
    if story.earlier:
        lines.append(((f"… {story.earlier:,} earlier lines of the audit are left out", Tone.WARN),))
    if story.since is not None:
        when = moment.clock.time_of_day(story.since)
        lines += told(f"… the audit is recorded from {when} on; what came before is not there", cells, Tone.WARN)
    begun = moment.clock.time_of_day(record.created_at)
    over = f", over after {human_duration(end - record.created_at)}" if record.finished_at else ""
    lines += told(f"registered {begun}, {human_duration(now - record.created_at)} ago{over}", cells, Tone.DIM)
    before: float | None = None
    for stretch in stretches:
        if before is not None and stretch.began - before >= 1:
            lines.append(((f"{'':9}waited {human_duration(stretch.began - before)} for gates and a person", Tone.DIM),))
        lines += [(), _stretch_line(stretch, record.created_at, end, moment, cells)]
        for item in stretch.items:
            if isinstance(item, Try):
                lines += _try_lines(item, record, now, moment, cells, told)
            else:
                lines += _act(item, moment, cells, told)
        before = stretch.ended
    rest = [phase.name for phase in record.release.strategy.phases[record.release.phase + 1 :]]
    if rest and not record.release.state.ended and not record.release.state.backwards:
        lines += [(), *told(f"○ still to come: {', '.join(rest)}", cells, Tone.DIM)]
    return lines


def _stretch_line(stretch: Stretch, first: float, end: float, moment: Moment, cells: int) -> Line:
    took = (stretch.ended or end) - stretch.began
    backwards = stretch.name == "rollback"
    glyph = "◀" if backwards else "▶" if stretch.ended is None else "■"
    head: Line = (
        (f"{moment.clock.time_of_day(stretch.began)} ", Tone.DIM),
        (f"{glyph} {fit(stretch.name, 12)} ", Tone.UNDONE if backwards else Tone.STRONG),
        (f"{_since(stretch.began, first):>8}", Tone.DIM),
        (f"  took {human_duration(took)}" + (" so far" if stretch.ended is None else ""), Tone.NORMAL),
    )
    if cells < WIDE:
        return clip(head, cells)
    blank = " " * max(1, cells - BAR - width(head))
    return (*head, (blank, Tone.NORMAL), *bar(stretch.began, stretch.ended or end, first, end))


def bar(began: float, ended: float, first: float, end: float) -> Line:
    """Where in the release's time a stretch lies; however short, it takes one cell."""
    span = max(end - first, 0.001)
    start = min(BAR - 1, int(BAR * max(0.0, began - first) / span))
    stop = min(BAR, max(start + 1, round(BAR * (ended - first) / span)))
    return (("·" * start, Tone.DIM), ("█" * (stop - start), Tone.BUSY), ("·" * (BAR - stop), Tone.DIM))


def _try_lines(item: Try, record: ReleaseRecord, now: float, moment: Moment, cells: int, told: Told) -> list[Line]:
    glyph, tone = _OUTCOMES[item.outcome]
    took = human_duration((item.ended if item.ended is not None else record.finished_at or now) - item.began)
    verb = "undo " if item.undo else ""
    again = f"  {_nth(item.number)} try" if item.number > 1 else ""
    cut = {"cut off": "  cut off: the agent was lost", "stopped": "  stopped by the rollback"}.get(item.outcome, "")
    line: Line = (
        (f"{moment.clock.time_of_day(item.began)}   ", Tone.DIM),
        (f"{glyph} ", tone),
        (f"{took:>6}  ", Tone.NORMAL),
        (f"{verb}{outside(item.label)}", Tone.NORMAL),
        (again + cut, Tone.WARN),
    )
    return [clip(line, cells), *(told(f"✗ {item.error}", cells, Tone.BAD, indent=" " * 21) if item.error else [])]


def _act(event: Event, moment: Moment, cells: int, told: Told) -> list[Line]:
    spans = event_line(event, moment.clock)
    text = "".join(part for part, _ in spans)
    tone = Tone.BAD if event.kind in ("refused", "error") else Tone.WARN if event.kind == "guard" else Tone.KEY
    return told(text, cells, tone if event.kind not in ("lease", "gate", "release") else Tone.DIM)


def _since(at: float, first: float) -> str:
    return f"+{human_duration(max(0.0, at - first))}"


def _nth(number: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if 10 < number % 100 < 14 else endings.get(number % 10, 'th')}"

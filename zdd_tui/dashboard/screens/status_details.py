"""Everything in full: errors, refused commands, gates, sources and events, none of it cut."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from zdd_tui.dashboard.screens.base import Acting
from zdd_tui.dashboard.screens.dialog import DIALOG_CSS, HasPage, Keys, Page
from zdd_tui.dashboard.state import FLAGS_STALE, PODS_STALE, RELEASE_STALE, Board, Moment, Sourced
from zdd_tui.dashboard.widgets.bars.command_progress import Course, course_lines
from zdd_tui.dashboard.widgets.bars.gates import GLYPHS
from zdd_tui.dashboard.widgets.drawing.glyphs import STEP_SIGNS, step_word
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, human_age, outside, source_age, wrap
from zdd_tui.dashboard.widgets.panes.events import event_line
from zdd_tui.dashboard.widgets.panes.guard import guard_readings
from zdd_tui.model.release.records import ReleaseRecord, StepRecord
from zdd_tui.model.release.summary import current_gates, situation


class DetailsScreen(Acting[None], ModalScreen[None], HasPage):
    """A page to read; it follows the board."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,e,q,enter", "dismiss", "Close", show=False, id="details.close"),
    ]

    CSS = DIALOG_CSS.format(name="DetailsScreen")

    def __init__(self, board: Board, moment: Moment, course: Course | None = None) -> None:
        super().__init__()
        self._first = (board, moment)
        self._course = course

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Page()
            yield Keys()

    def on_mount(self) -> None:
        self.query_one(Page).focus()
        self.show(*self._first)

    def show(self, board: Board, moment: Moment) -> None:
        self.query_one(Page).show(board, moment)
        self.query_one(Keys).show(board, moment)

    def page(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return details_lines(board, moment, cells, self._course)

    def keys(self, board: Board, moment: Moment, cells: int) -> list[Line]:
        return [(("↑ ↓ PgUp PgDn", Tone.KEY), (" scroll   ", Tone.NORMAL), ("Esc", Tone.KEY), (" close", Tone.NORMAL))]


def details_lines(board: Board, moment: Moment, cells: int, course: Course | None = None) -> list[Line]:
    lines: list[Line] = []
    record, now = board.release.value, board.server_now(moment.now)
    if course is not None:
        lines += [*course_lines(course, board, moment, cells), ()]
    if record is not None and now is not None:
        told = situation(record, now, moment.keys)
        lines += wrap(f"✗ {told.cause}", cells, Tone.BAD) if told.cause else []
        lines += wrap(f"{told.glyph} {told.word}  {told.text}", cells, Tone.STRONG)
        lines += [line for note in told.notes for line in wrap(note, cells, indent="  ")]
        lines += [(), *_gates(record, now, cells), *_guard(board, now, cells)]
        lines += [*_steps(record, cells), *_refused(record, moment, cells)]
    lines += _sources(board, moment, cells)
    if record is not None:
        lines += [(), (("events", Tone.DIM),)]
        for event in sorted(record.events, key=lambda each: each.id, reverse=True):
            text = "".join(part for part, _ in event_line(event, moment.clock, full=True))
            lines += wrap(text, cells, Tone.BAD if event.kind in ("refused", "error") else Tone.NORMAL)
    return lines


def _gates(record: ReleaseRecord, now: float, cells: int) -> list[Line]:
    lines: list[Line] = []
    for label, reading in current_gates(record, now):
        glyph, tone = GLYPHS[reading.verdict]
        lines.append(
            (
                (f"{glyph} {reading.verdict}  ", tone),
                (label, Tone.STRONG),
                (f"  {human_age(reading.age(now))} old", Tone.DIM),
            )
        )
        lines += wrap(f"{reading.name}: {reading.reason}", cells, indent="    ")
    return [(("gates", Tone.DIM),), *lines, ()] if lines else []


def _guard(board: Board, now: float, cells: int) -> list[Line]:
    """What each rule said, in its own words."""
    lines: list[Line] = []
    for reading in guard_readings(board, now):
        glyph, tone = GLYPHS[reading.verdict]
        acted = f", the guard has asked for: {reading.acted}" if reading.acted else ""
        lines += [((f"{glyph} {reading.verdict}  ", tone), (outside(reading.rule), Tone.STRONG), (acted, Tone.WARN))]
        lines += wrap(reading.reason, cells, indent="    ")
    return [(("guard", Tone.DIM),), *lines, ()] if lines else []


def _steps(record: ReleaseRecord, cells: int) -> list[Line]:
    labels = {spec.name: spec.label for spec in record.release.strategy.steps}
    lines = [line for step in record.steps for line in _step(step, labels.get(step.name, step.name), cells)]
    return [(("steps", Tone.DIM),), *lines, ()] if lines else []


def _step(step: StepRecord, label: str, cells: int) -> list[Line]:
    glyph, tone = STEP_SIGNS[step.status]
    lines: list[Line] = [((f"{glyph} ", tone), (f"{step_word(step.status):<12} ", Tone.NORMAL), (label, Tone.NORMAL))]
    lines += wrap(step.note, cells, Tone.DIM, indent="    ") if step.note else []
    lines += wrap(f"✗ {step.error}", cells, Tone.BAD, indent="    ") if step.error else []
    return lines


def _refused(record: ReleaseRecord, moment: Moment, cells: int) -> list[Line]:
    lines: list[Line] = []
    for asked in record.commands:
        if asked.status == "refused":
            when = moment.clock.time_of_day(asked.created_at)
            lines += wrap(f"✗ {when} {asked.kind} by {asked.actor}: {asked.outcome}", cells, Tone.BAD)
    return [(("refused commands", Tone.DIM),), *lines, ()] if lines else []


def _sources(board: Board, moment: Moment, cells: int) -> list[Line]:
    plan = board.plan
    lines: list[Line] = [(("sources", Tone.DIM),)]
    named: tuple[tuple[str, str, Sourced[object], float], ...] = (
        ("database", plan.database, board.release, RELEASE_STALE),
        ("cluster", plan.cluster, board.pods, PODS_STALE),
        *((("flags", plan.flags, board.flags, FLAGS_STALE),) if plan.flagged else ()),
        *(((f"{side}", f"deployment {name}", board.twin, PODS_STALE) for side, name in plan.sides[1:])),
    )
    for name, place, source, limit in named:
        age = source.age(moment.now)
        stale = source.stale(moment.now, limit)
        told = "never read" if age is None else f"{source_age(age, stale=stale)} old"
        lines += wrap(
            f"{'✗' if stale else '✔'} {name:<9} {told:<14} {place}", cells, Tone.WARN if stale else Tone.NORMAL
        )
        lines += wrap(source.error, cells, Tone.BAD, indent="    ") if source.error else []
        lines += wrap(f"→ {source.mend}", cells, Tone.STRONG, indent="    ") if source.mend else []
    return lines

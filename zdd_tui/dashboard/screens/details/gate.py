"""The gates: what each asks, of whom, what came back, and how often it changed its mind."""

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.dashboard.screens.details.base import Look, RecordScreen, Told, same_story
from zdd_tui.dashboard.state import Board, BoardSource, Moment
from zdd_tui.dashboard.widgets.bars.gates import GLYPHS
from zdd_tui.dashboard.widgets.drawing.line import Line, Tone, clip, human_age, outside, spread
from zdd_tui.dashboard.widgets.panes.gates import verdict_of
from zdd_tui.model.queries import Story, StoryQuery
from zdd_tui.model.release.gate import GateReading
from zdd_tui.model.release.gate_rows import GateRow, Place, ask_of, gate_rows
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.strategy import GateSpec

CHANGES = 6
"""Changes of a verdict that are told, the newest first."""


class GateScreen(RecordScreen):
    """The present phase's gates; Tab shows every phase's."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "turn", "The present phase, or all of them", show=False, id="gate.turn"),
    ]

    def __init__(self, source: BoardSource, look: Look) -> None:
        super().__init__(source, look)
        self._asked = self.will_ask(StoryQuery(), "the audit", same_story)
        self._all = False

    def heading(self, board: Board) -> str:
        record = board.release.value
        phase = record.release.current if record else None
        return f"gates of {'every phase' if self._all else phase.name if phase else 'no phase yet'}"

    def own_hints(self) -> tuple[tuple[str, str], ...]:
        return (("Tab", "this phase" if self._all else "every phase"),)

    def record_body(
        self, board: Board, record: ReleaseRecord, now: float, moment: Moment, cells: int
    ) -> Sequence[Line]:
        phases = record.release.strategy.phases
        current = record.release.current
        shown = phases if self._all or current is None else (current,)
        lines = self.missing(self._asked, cells)
        if current is None and (entry := record.release.strategy.entry):
            lines += [(("before the first phase", Tone.STRONG),)]
            for gate in entry:
                reading = record.gates.get(gate.name)
                lines += gate_detail(gate, reading, record, now, moment, cells, self.text, self._asked.value)
        for phase in shown:
            if len(shown) > 1:
                lines += [(), ((phase.name, Tone.STRONG),)]
            judged = phase == current
            for gate in phase.gates:
                reading = record.gates.get(gate.name) if judged else None
                lines += gate_detail(gate, reading, record, now, moment, cells, self.text, self._asked.value)
        return lines

    def action_turn(self) -> None:
        self._all = not self._all
        self.redraw()


class OneGateScreen(RecordScreen):
    """One gate of one phase: what the table's row has no room for."""

    def __init__(self, source: BoardSource, look: Look, phase: str, gate: str) -> None:
        super().__init__(source, look)
        self._phase, self._gate = phase, gate
        self._asked = self.will_ask(StoryQuery(), "the audit", same_story)

    def heading(self, board: Board) -> str:
        return f"gate {self._gate} of {self._phase}"

    def record_body(
        self, board: Board, record: ReleaseRecord, now: float, moment: Moment, cells: int
    ) -> Sequence[Line]:
        key = f"{self._phase}/{self._gate}"
        row = next((each for each in gate_rows(record, now) if each.key == key), None)
        if row is None:
            return [(("the gate is not among the release's", Tone.WARN),)]
        lines = row_detail(row, record, now, cells, self.text)
        lines += [(), (("changes of the verdict, in whatever phase", Tone.DIM),), *self.missing(self._asked, cells)]
        if self._asked.value is not None:
            changes = change_lines(self._gate, self._asked.value, moment, cells, self.text, indent="  ")
            lines += changes or [(("  none in this release", Tone.DIM),)]
        return lines


_PLACES = {
    Place.PAST: "is over: this gate counts no more",
    Place.PRESENT: "is where the release stands: this gate counts now",
    Place.AHEAD: "is still ahead: nobody asks this gate yet",
}


def row_detail(row: GateRow, record: ReleaseRecord, now: float, cells: int, told: Told) -> list[Line]:
    """A gate as its row in the table has it, in full."""
    glyph, word, tone = verdict_of(row)
    reading = row.reading
    age = "" if reading is None else f"{human_age(reading.age(now))} old"
    if reading is not None and row.place is Place.PRESENT:
        age += f", counts for {human_age(reading.max_age)}"
    head: Line = (
        (f"{glyph} {word}  ", tone),
        (row.gate.label, Tone.STRONG),
        (f"  {row.gate.name}", Tone.DIM),
    )
    state = record.release.state
    where = f"{row.phase} {_PLACES[row.place]}"
    if state.ended or state.backwards:
        where = f"{row.phase}; " + (
            "the release has ended" if state.ended else "it is being undone, and no gate counts"
        )
    lines = [spread(clip(head, cells), ((age, Tone.DIM),), cells)]
    lines += _named("phase", where, cells, told)
    lines += _question(row.gate.name, cells, told)
    if row.again or reading is not None:
        lines += _named("answer", row.reason, cells, told, tone if tone is Tone.BAD else Tone.NORMAL)
    return lines


def gate_detail(
    gate: GateSpec,
    reading: GateReading | None,
    record: ReleaseRecord,
    now: float,
    moment: Moment,
    cells: int,
    told: Told,
    story: Story | None,
) -> list[Line]:
    """One gate.

    Args:
        reading: None where it has not been judged in the present phase.
    """
    shown = reading if reading is None or record.release.state.ended else reading.at(now)
    glyph, tone = GLYPHS[shown.verdict] if shown else ("○", Tone.DIM)
    age = "" if reading is None else f"{human_age(reading.age(now))} old, counts for {human_age(reading.max_age)}"
    head: Line = (
        (f"{glyph} {shown.verdict if shown else 'not judged'}  ", tone),
        (gate.label, Tone.STRONG),
        (f"  {gate.name}", Tone.DIM),
    )
    lines: list[Line] = [(), spread(clip(head, cells), ((age, Tone.DIM),), cells)]
    lines += _question(gate.name, cells, told)
    if shown is not None:
        lines += _named("answer", shown.reason, cells, told, tone if tone is Tone.BAD else Tone.NORMAL)
    if reading is not None and story is not None:
        lines += change_lines(gate.name, story, moment, cells, told, indent="          ")
    return lines


def _question(gate: str, cells: int, told: Told) -> list[Line]:
    ask = ask_of(gate)
    if ask is None:
        return []
    return [
        *_named("asks", f"{ask.system}: {ask.query}", cells, told),
        *_named("wants", ask.wanted, cells, told),
    ]


def change_lines(gate: str, story: Story, moment: Moment, cells: int, told: Told, *, indent: str) -> list[Line]:
    """When the verdict of a gate of that name changed, and why, the newest first."""
    prefix = f"{gate}: "
    changes = [event for event in story.events if event.kind == "gate" and event.what.startswith(prefix)]
    lines: list[Line] = []
    for event in reversed(changes[-CHANGES:]):
        when, verdict = moment.clock.time_of_day(event.at), outside(event.what.removeprefix(prefix))
        lines += told(f"{when} {verdict}: {event.why}", cells, Tone.DIM, indent=indent)
    return lines


def _named(name: str, text: str, cells: int, told: Told, tone: Tone = Tone.NORMAL) -> list[Line]:
    """A text beside its name; further lines of it stand under the first."""
    first, *rest = told(text, max(10, cells - 10), tone)
    return [((f"  {name:<8}", Tone.DIM), *first), *(((" " * 10, Tone.NORMAL), *line) for line in rest)]

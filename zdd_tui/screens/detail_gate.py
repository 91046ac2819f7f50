"""The gates: what each asks, of whom, what came back, and how often it changed its mind."""

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zdd_tui.board import RELEASE_STALE, Board, BoardSource, Moment, Sourced
from zdd_tui.model.detail import Story, StoryQuery
from zdd_tui.model.gate import GateReading
from zdd_tui.model.gate_asks import ask_of
from zdd_tui.model.records import ReleaseRecord
from zdd_tui.model.strategy import GateSpec
from zdd_tui.screens.detail import DetailScreen, Look, Told, same_story
from zdd_tui.widgets.gate_line import GLYPHS
from zdd_tui.widgets.line import Line, Tone, clip, human_age, outside, spread

CHANGES = 6
"""Changes of a verdict that are told, the newest first."""


class GateScreen(DetailScreen):
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

    def aged(self, board: Board) -> tuple[Sourced[object], float]:
        return board.release, RELEASE_STALE

    def body(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        record, now = board.release.value, board.server_now(moment.now)
        if record is None or now is None:
            return [(("… connecting", Tone.DIM),)]
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
    ask = ask_of(gate.name)
    if ask is not None:
        lines += _named("asks", f"{ask.system}: {ask.query}", cells, told)
        lines += _named("wants", ask.wanted, cells, told)
    if shown is not None:
        lines += _named("answer", shown.reason, cells, told, tone if tone is Tone.BAD else Tone.NORMAL)
    if reading is None or story is None:
        return lines
    prefix = f"{gate.name}: "
    changes = [event for event in story.events if event.kind == "gate" and event.what.startswith(prefix)]
    for event in reversed(changes[-CHANGES:]):
        when, verdict = moment.clock.time_of_day(event.at), outside(event.what.removeprefix(prefix))
        lines += told(f"{when} {verdict}: {event.why}", cells, Tone.DIM, indent="          ")
    return lines


def _named(name: str, text: str, cells: int, told: Told, tone: Tone = Tone.NORMAL) -> list[Line]:
    """A text beside its name; further lines of it stand under the first."""
    first, *rest = told(text, max(10, cells - 10), tone)
    return [((f"  {name:<8}", Tone.DIM), *first), *(((" " * 10, Tone.NORMAL), *line) for line in rest)]

"""Every gate of a strategy in the order of its phases, with what is known of it: a line each."""

from dataclasses import dataclass
from enum import StrEnum

from zdd_tui.model.gate import GateReading, Verdict
from zdd_tui.model.gate_asks import ask_of
from zdd_tui.model.records import ReleaseRecord
from zdd_tui.model.strategy import GateSpec

BEFORE = "start"
"""In place of a phase's name, for what must hold before the first one."""

NOT_ASKED = "not asked yet"


class Place(StrEnum):
    """Where the gate's phase lies, seen from where the release stands."""

    PAST = "past"
    PRESENT = "present"
    AHEAD = "ahead"


@dataclass(frozen=True, slots=True)
class GateRow:
    """One gate of one phase. A name may come again in a later phase: phase and name together tell one from another.

    Attributes:
        phase: its name, or ``BEFORE``.
        place: of that phase; of a release that has ended none is present.
        number: in the strategy's order, from 0.
        reading: as it counts now; None where none is known that was taken for this phase.
        again: the phase that has asked the gate of this name since; else empty.
    """

    phase: str
    place: Place
    number: int
    gate: GateSpec
    reading: GateReading | None = None
    again: str = ""

    @property
    def key(self) -> str:
        return f"{self.phase}/{self.gate.name}"

    @property
    def passed(self) -> bool:
        """It did while its phase, or the release, was not over: that says nothing of now."""
        if self.place is not Place.PAST:
            return False
        return bool(self.again) or (self.reading is not None and _passed(self.reading))

    @property
    def verdict(self) -> Verdict | None:
        """What counts now; None for a gate of another phase of which no reading is known."""
        if self.reading is not None:
            return self.reading.verdict
        return Verdict.UNKNOWN if self.place is Place.PRESENT else None

    @property
    def word(self) -> str:
        """``pass``, ``fail``, ``inconclusive`` or ``unknown``; else ``passed``, ``not asked`` or ``none``."""
        if self.passed:
            return "passed"
        if self.verdict is not None:
            return str(self.verdict)
        return "none" if self.place is Place.PAST else "not asked"

    @property
    def answer(self) -> str:
        """What came back, in the gate's own words; empty where nothing did."""
        return self.reading.reason if self.reading is not None else ""

    @property
    def reason(self) -> str:
        """The answer, or why there is none, with what would pass."""
        if self.again:
            return f"asked again since, in {self.again}"
        if self.reading is not None:
            return self.answer
        if self.place is Place.PAST:
            return "no reading is known"
        ask = ask_of(self.gate.name)
        wants = f"wants: {ask.wanted}" if ask is not None else ""
        # Where the word tells that it is not asked, the room is for what it will want.
        told = (NOT_ASKED, wants) if self.place is Place.PRESENT or not wants else (wants,)
        return "; ".join(text for text in told if text)


def gate_rows(record: ReleaseRecord, now: float) -> tuple[GateRow, ...]:
    """All gates in the order of their phases, those before the first phase at the head.

    A stale reading is unknown, as it is to the rules. Only two are told as they were: those by which a phase was left,
    which count no more, and all those of a release that has ended.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    release = record.release
    phases = [(-1, BEFORE, release.strategy.entry)]
    phases += [(at, phase.name, phase.gates) for at, phase in enumerate(release.strategy.phases)]
    owners = {gate.name: (at, name) for at, name, gates in phases if at <= release.phase for gate in gates}
    rows: list[GateRow] = []
    for at, name, gates in phases:
        place = _place(at, release.phase, ended=release.state.ended)
        for gate in gates:
            owner, again = owners.get(gate.name, (at, name))
            mine = at <= release.phase and owner == at
            reading = record.gates.get(gate.name) if mine else None
            kept = release.state.ended or (place is Place.PAST and reading is not None and _passed(reading))
            shown = reading if reading is None or kept else reading.at(now)
            rows.append(GateRow(name, place, len(rows), gate, shown, again if at < owner else ""))
    return tuple(rows)


def _passed(reading: GateReading) -> bool:
    return reading.verdict is Verdict.PASS


def _place(at: int, present: int, *, ended: bool) -> Place:
    if at == present and not ended:
        return Place.PRESENT
    return Place.AHEAD if at > present else Place.PAST

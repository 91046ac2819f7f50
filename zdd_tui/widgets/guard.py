"""The guard: each rule's value beside its limit, where it has been, and the verdict."""

from collections.abc import Sequence

from rich.cells import cell_len

from zdd_tui.board import RELEASE_STALE, Board, Moment, Sourced
from zdd_tui.model.gate import Verdict
from zdd_tui.model.guard import GuardReading
from zdd_tui.model.guard_rules import show
from zdd_tui.widgets.gate_line import GLYPHS
from zdd_tui.widgets.line import Line, Tone, cut, dimmed, fit, outside, width
from zdd_tui.widgets.pane import Pane

_BARS = "▁▂▃▄▅▆▇█"
_ORDER = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.INCONCLUSIVE, Verdict.PASS)
_WIDE = 40
"""Cells from which on the columns of different rules stand under each other."""


class GuardPane(Pane):
    """Two lines a rule, or one where rows are scarce; those that need eyes first."""

    name_of_pane = "guard"
    tells_error = False
    limit = RELEASE_STALE
    compact = False

    def source(self, board: Board) -> Sourced[object]:
        return board.release

    def watched(self, board: Board) -> tuple[object, ...]:
        return board.plan, board.release, self.compact

    def heading(self, board: Board, moment: Moment) -> str:
        record, now = board.release.value, board.server_now(moment.now)
        if record is None or now is None:
            return ""
        last = "at the end: " if record.release.state.ended else ""
        return last + guard_heading(guard_readings(board, now))

    def body(self, board: Board, moment: Moment, cells: int) -> Sequence[Line]:
        now = board.server_now(moment.now)
        if now is None:
            return []
        lines = guard_lines(guard_readings(board, now), cells, compact=self.compact, strips=self.histories)
        record = board.release.value
        return [dimmed(line) for line in lines] if record is not None and record.release.state.ended else lines


def guard_readings(board: Board, now: float) -> tuple[GuardReading, ...]:
    """What each rule of the plan says now, the worst first. Of a release that has ended: what it said last.

    Args:
        now: seconds since the epoch, by the database's clock.
    """
    record = board.release.value
    if record is None:
        return ()
    known = {reading.rule: reading for reading in record.guard}
    names = dict.fromkeys((*board.plan.rules, *known))
    found = [known.get(name) or GuardReading(name, Verdict.UNKNOWN, "not judged yet", max_age=now) for name in names]
    if not record.release.state.ended:
        found = [reading.at(now) for reading in found]
    return tuple(sorted(found, key=lambda reading: _ORDER.index(reading.verdict)))


def guard_heading(readings: Sequence[GuardReading]) -> str:
    """``all 2 pass``, or how many do not."""
    counts = {verdict: sum(reading.verdict is verdict for reading in readings) for verdict in _ORDER}
    if counts[Verdict.PASS] == len(readings):
        return f"all {len(readings)} pass" if len(readings) > 1 else "passes"
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count and verdict is not Verdict.PASS)


def guard_lines(
    readings: Sequence[GuardReading], cells: int, *, compact: bool = False, strips: bool = True
) -> list[Line]:
    """One or two lines a rule, with or without strips of what each has read."""
    words = max((len(reading.verdict) for reading in readings), default=0) if cells >= _WIDE else 0
    lines: list[Line] = []
    for reading in readings:
        lines.append(_first(reading, cells, words, compact=compact, strips=strips))
        if not compact:
            lines.append(_second(reading, cells))
    return lines


def _first(reading: GuardReading, cells: int, words: int, *, compact: bool, strips: bool) -> Line:
    """``✔ pass  errors   0.02% ▁▁▂▁``; where it stands alone the limit is in it, and the word only says bad news."""
    glyph, tone = GLYPHS[reading.verdict]
    passes = reading.verdict is Verdict.PASS
    word = "" if compact and passes else f"{reading.verdict:<{words}} "
    value = "-" if reading.value is None else show(reading.value, reading.unit)
    if compact and reading.limit is not None:
        value += f" of {show(reading.limit, reading.unit)}"
    strip = sparkline(reading.series, reading.limit, min(len(reading.series), cells // 4)) if strips else ()
    if compact and not passes:
        strip = ()  # the numbers matter more
    head = f"{glyph} {word}"
    room = cells - len(head) - len(value) - 1
    if room - width(strip) - 1 < cell_len(outside(reading.rule)):
        strip = ()  # the name matters more
    room -= width(strip) + 1 if strip else 0
    told = {Verdict.FAIL: Tone.BAD, Verdict.UNKNOWN: Tone.DIM}.get(reading.verdict, Tone.STRONG)
    blank: Line = ((" ", Tone.NORMAL),) if strip else ()
    return ((head, tone), (fit(reading.rule, max(0, room)), Tone.STRONG), (f" {value}", told), *blank, *strip)


def _second(reading: GuardReading, cells: int) -> Line:
    """What the value is measured against; in its place why there is no verdict."""
    if reading.verdict in (Verdict.UNKNOWN, Verdict.INCONCLUSIVE) or not reading.applies:
        return ((cut(f"  {outside(reading.reason)}", cells), Tone.WARN if reading.applies else Tone.DIM),)
    told = [f"limit {show(reading.limit, reading.unit)}"] if reading.limit is not None else []
    if reading.baseline is not None:
        told.append(f"old {show(reading.baseline, reading.unit)}")
    if reading.acted:
        told.append(f"asked: {reading.acted}")
    if reading.samples and len("  ".join([*told, many := f"{reading.samples:,} samples"])) + 2 <= cells:
        told.append(many)  # what does not fit is the least of it
    failing = reading.verdict is Verdict.FAIL
    return ((cut("  " + ("  ".join(told) or outside(reading.reason)), cells), Tone.WARN if failing else Tone.DIM),)


def sparkline(series: Sequence[float | None], limit: float | None, cells: int) -> Line:
    """The last values as bars from nothing to the limit, or to the highest where one is higher; a gap is a dot.

    What is above the limit stands out also without colour: it alone makes the bars under the limit small.
    """
    shown = series[-cells:] if cells > 0 else ()
    values = [value for value in shown if value is not None]
    top = max([*values, limit or 0.0], default=0.0)
    spans: list[tuple[str, Tone]] = []
    for value in shown:
        bar, tone = "·", Tone.DIM
        if value is not None:
            share = min(max(value, 0.0), top) / top if top > 0 else 0.0
            bar = _BARS[int(share * (len(_BARS) - 1) + 0.5)]
            tone = Tone.BAD if limit is not None and value > limit else Tone.NORMAL
        if spans and spans[-1][1] is tone:
            spans[-1] = (spans[-1][0] + bar, tone)
        else:
            spans.append((bar, tone))
    return tuple(spans)

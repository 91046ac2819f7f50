"""The rows of the gates' pane: every gate of every phase, and no more said of it than is known."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.states import EPOCH, FixedClock, board, gate, record, release, situations
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.state import Moment
from zdd_tui.dashboard.widgets.drawing.line import Tone, width
from zdd_tui.dashboard.widgets.panes.columns import cells_of, fit_columns, row_line, searchable, sortable, title_line
from zdd_tui.dashboard.widgets.panes.filter import parse_filter
from zdd_tui.dashboard.widgets.panes.gates import gate_columns, gates_heading, verdict_of
from zdd_tui.dashboard.widgets.panes.rows import ordered
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.gate_rows import BEFORE, GateRow, Place, gate_rows
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import State
from zdd_tui.model.release.strategy import GateSpec, Phase
from zdd_tui.model.release.summary import current_gates

BOARDS = situations() | guard_situations()
MINUTES = 720.0


def walked(state: State = State.WAITING, **changes: object) -> ReleaseRecord:
    """In cutover, with the last readings of the phases before it."""
    gates = dict(
        [
            gate("schema-valid", Verdict.PASS, "users.full_name text", MINUTES),
            gate("no-waiters", Verdict.PASS, "no session waits", MINUTES),
            gate("serving-v2", Verdict.PASS, "4 of 4 pods", 300.0),
            gate("recent-rows-agree", Verdict.FAIL, "1 of 500 rows differs", 300.0),
            gate("backfill-complete", Verdict.PASS, "1.2M of 1.2M", 60.0),
            gate("soak-passed", Verdict.PASS, "30s without an error"),
            gate("serving-v3", Verdict.FAIL, "2 of 4 pods are v2"),
            gate("no-older-pod", Verdict.FAIL, "2 older pods", 31.0),
        ]
    )
    return replace(record(release(state, Phase.CUTOVER), gates=gates), **changes)  # type: ignore[arg-type]


def rows_of(made: ReleaseRecord) -> dict[str, GateRow]:
    return {row.key: row for row in gate_rows(made, EPOCH)}


@pytest.mark.parametrize("name", [name for name, made in BOARDS.items() if made.release.value is not None])
def test_every_gate_of_every_phase_has_its_row_in_the_order_of_phases(name: str) -> None:
    made = BOARDS[name].release.value
    assert made is not None
    wanted = [(phase.name, gate.name) for phase in made.release.strategy.phases for gate in phase.gates]
    rows = gate_rows(made, EPOCH)
    assert [(row.phase, row.gate.name) for row in rows] == wanted
    assert [row.number for row in rows] == list(range(len(wanted)))
    assert len({row.key for row in rows}) == len(rows)
    present = [(row.gate.label, row.verdict) for row in rows if row.place is Place.PRESENT]
    if made.release.state.ended:
        assert not present
    else:
        assert present == [(label, reading.verdict) for label, reading in current_gates(made, EPOCH)]


def test_what_is_past_is_told_as_past_and_what_is_ahead_says_what_it_wants() -> None:
    rows = rows_of(walked())
    told = {key: (row.word, row.reason, verdict_of(row)[2]) for key, row in rows.items()}
    assert told["expand/schema-valid"] == ("passed", "users.full_name text", Tone.DIM)
    assert told["dual-write/recent-rows-agree"] == ("unknown", "STALE 300s: 1 of 500 rows differs", Tone.DIM)
    assert told["backfill/no-mismatch"] == ("none", "no reading is known", Tone.DIM)
    assert told["cutover/soak-passed"] == ("pass", "30s without an error", Tone.GOOD)
    assert told["cutover/serving-v3"] == ("fail", "2 of 4 pods are v2", Tone.BAD)
    assert told["cutover/no-older-pod"] == ("unknown", "STALE 31s: 2 older pods", Tone.WARN)
    # The same name in a later phase has not been asked for that phase, whatever it says in this one.
    assert told["contract/serving-v3"][0] == "not asked"
    assert told["contract/no-old-snapshot"][1].startswith("wants: no transaction is older")


def test_a_name_that_came_again_has_one_reading_and_the_earlier_phase_says_where() -> None:
    rows = rows_of(walked(release=release(State.WAITING, Phase.CONTRACT)))
    before, now = rows["cutover/serving-v3"], rows["contract/serving-v3"]
    assert (before.reading, before.word, before.reason) == (None, "passed", "asked again since, in contract")
    assert (now.word, now.reason) == ("fail", "2 of 4 pods are v2")


def test_a_present_gate_that_nobody_has_looked_at_is_unknown_as_it_is_to_the_rules() -> None:
    row = rows_of(walked(gates={}))["cutover/soak-passed"]
    assert (row.verdict, row.word, row.reading) == (Verdict.UNKNOWN, "unknown", None)
    assert row.reason == "not asked yet; wants: it is over"
    assert verdict_of(row) == ("?", "unknown", Tone.WARN)


def test_of_a_release_that_has_ended_each_gate_tells_what_it_said_last() -> None:
    rows = rows_of(walked(State.ROLLED_BACK))
    assert {row.place for row in rows.values()} == {Place.PAST, Place.AHEAD}
    assert rows["cutover/no-older-pod"].reason == "2 older pods"
    assert rows["cutover/no-older-pod"].word == "fail"
    assert rows["cutover/soak-passed"].word == "passed"
    assert verdict_of(rows["cutover/no-older-pod"])[2] is Tone.DIM


def test_what_must_hold_before_the_first_phase_comes_first() -> None:
    planned = release(State.PLANNED)
    entry = replace(planned.strategy, entry=(GateSpec("region-before", "the region before is done"),))
    reading = dict([gate("region-before", Verdict.FAIL, "eu-1 runs")])
    first, *others = gate_rows(record(replace(planned, strategy=entry), gates=reading), EPOCH)
    assert (first.phase, first.place, first.word) == (BEFORE, Place.PRESENT, "fail")
    assert {row.place for row in others} == {Place.AHEAD}
    begun = replace(release(State.RUNNING, Phase.EXPAND), strategy=entry)
    assert gate_rows(record(begun, gates=reading), EPOCH)[0].place is Place.PAST


# --- columns --------------------------------------------------------------------------------------------------


def test_at_eighty_columns_gate_verdict_and_reason_are_in_sight_and_the_reason_has_the_room() -> None:
    rows = gate_rows(walked(), EPOCH)
    wide = {column.key: cells for column, cells in fit_columns(gate_columns(rows, 76), 76)}
    assert wide["gate"] == len("recent-rows-agree")
    assert wide["reason"] >= 28
    narrow = [column.key for column, _ in fit_columns(gate_columns(rows, 38), 38)]
    assert narrow == ["mark", "gate", "verdict", "reason"]
    fitted = fit_columns(gate_columns(rows, 76), 76)
    assert "".join(text for text, _ in title_line(fitted)).split() == ["PHASE", "GATE", "SAYS", "AGE", "REASON"]


@given(
    cells=st.integers(28, 160),
    text=st.text(st.characters(codec="utf-8"), max_size=60),
    verdict=st.sampled_from(Verdict),
)
def test_whatever_a_gate_says_fits_the_pane(cells: int, text: str, verdict: Verdict) -> None:
    made = walked(gates={"serving-v3": GateReading("serving-v3", verdict, text, EPOCH - 1)})
    rows = gate_rows(made, EPOCH)
    fitted = fit_columns(gate_columns(rows, cells), cells)
    assert {"gate", "verdict"} <= {column.key for column, _ in fitted}
    for row in rows:
        line = row_line(fitted, row, EPOCH)
        assert width(line) <= cells
        assert all(part.isprintable() for part, _ in line)


def kept(typed: str) -> list[str]:
    rows = gate_rows(walked(), EPOCH)
    columns = gate_columns(rows, 76)
    wanted = parse_filter(typed, searchable(columns))
    return [row.key for row in rows if wanted.keeps(cells_of(columns, row), {})]


def test_a_filter_sees_verdict_phase_and_answer_but_not_what_a_gate_will_want() -> None:
    assert kept("fail") == ["cutover/serving-v3"]
    assert kept("verdict:^pass$") == ["cutover/soak-passed"]
    assert kept("phase:cut ver:unk") == ["cutover/no-older-pod"]
    assert kept("reason:v2") == ["cutover/serving-v3"]
    assert kept('"older pod is left" phase:con') == ["contract/no-older-pod"], "a gate's label is found too"


def test_sorted_by_verdict_what_needs_eyes_comes_first_and_by_age_the_newest() -> None:
    rows = gate_rows(walked(), EPOCH)
    columns = {column.key: column for column in gate_columns(rows, 76)}
    assert sortable(list(columns.values())) == ["phase", "gate", "verdict", "age", "reason"]
    words = [row.word for row in ordered(rows, columns["verdict"].sort_by)]
    assert words[:4] == ["fail", "unknown", "unknown", "pass"]
    assert words[-1] == "passed"
    ages = [row.reading.observed_at for row in ordered(rows, columns["age"].sort_by) if row.reading is not None]
    assert ages == sorted(ages, reverse=True)


def test_the_title_counts_what_passes_or_says_why_nothing_counts() -> None:
    moment = Moment.of(FixedClock(1000.0))

    def title(made: ReleaseRecord) -> str:
        return gates_heading(board(made), moment)

    assert title(walked()) == "cutover: 1 of 3 pass"
    assert title(walked(State.ROLLING_BACK)) == "not asked on the way back"
    assert title(walked(State.DONE)) == "as they were at the end"
    assert title(record(release(State.PLANNED))) == ""

"""The rows of the gates pane: every gate of every phase, with no more than its reading supports."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.states import AGENT, EPOCH, FixedClock, board, dashboard_situations, gate, record, release
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.state import RenderContext
from zdd_tui.dashboard.widgets.drawing.line import TextStyle, line_width
from zdd_tui.dashboard.widgets.panes.columns import (
    filter_texts,
    fit_columns,
    row_line,
    searchable_columns,
    sortable_columns,
    title_line,
)
from zdd_tui.dashboard.widgets.panes.filter import parse_filter
from zdd_tui.dashboard.widgets.panes.gates import gate_columns, gates_heading, verdict_of
from zdd_tui.dashboard.widgets.panes.rows import sort_rows
from zdd_tui.model.phase import Phase
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.gate_rows import (
    BEFORE_FIRST_PHASE,
    GateRow,
    PhasePosition,
    build_gate_rows,
    complete_gate_rows,
)
from zdd_tui.model.release.records import Event, ReleaseRecord
from zdd_tui.model.release.state import ReleaseState
from zdd_tui.model.release.strategy import GateSpec
from zdd_tui.model.release.summary import list_current_gates

BOARDS = dashboard_situations() | guard_situations()
MINUTES = 720.0


def walked(state: ReleaseState = ReleaseState.WAITING, **changes: object) -> ReleaseRecord:
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
    return {row.key: row for row in build_gate_rows(made, EPOCH)}


@pytest.mark.parametrize("name", [name for name, made in BOARDS.items() if made.release.value is not None])
def test_every_gate_of_every_phase_has_its_row_in_the_order_of_phases(name: str) -> None:
    made = BOARDS[name].release.value
    assert made is not None
    strategy = made.release.strategy
    wanted = [(BEFORE_FIRST_PHASE, gate.name) for gate in strategy.entry]
    wanted += [(phase.name, gate.name) for phase in strategy.phases for gate in phase.gates]
    rows = build_gate_rows(made, EPOCH)
    assert [(row.phase, row.gate.name) for row in rows] == wanted
    assert [row.number for row in rows] == list(range(len(wanted)))
    assert len({row.key for row in rows}) == len(rows)
    present = [(row.gate.label, row.verdict) for row in rows if row.position is PhasePosition.PRESENT]
    if made.release.state.has_ended:
        assert not present
    else:
        assert present == [(label, reading.verdict) for label, reading in list_current_gates(made, EPOCH)]


def test_a_past_gate_shows_how_it_passed_and_one_ahead_what_it_expects() -> None:
    rows = rows_of(walked())
    text = {key: (row.status_text, row.reason_text, verdict_of(row)[2]) for key, row in rows.items()}
    assert text["expand/schema-valid"] == ("passed", "users.full_name text", TextStyle.DIM)
    assert text["dual-write/recent-rows-agree"] == ("unknown", "STALE 5m00s: 1 of 500 rows differs", TextStyle.DIM)
    assert text["backfill/no-mismatch"] == ("no record", "no verdict is recorded for this phase", TextStyle.DIM)
    assert text["cutover/soak-passed"] == ("pass", "30s without an error", TextStyle.GOOD)
    assert text["cutover/serving-v3"] == ("fail", "2 of 4 pods are v2", TextStyle.BAD)
    assert text["cutover/no-older-pod"] == ("unknown", "STALE 31s: 2 older pods", TextStyle.WARN)
    # The gate of the same name in a later phase is not checked yet, whatever its verdict in this phase.
    assert text["contract/serving-v3"][0] == "upcoming"
    assert text["contract/no-old-snapshot"][1].startswith("expected: no transaction is older")


def test_a_gate_checked_again_has_one_reading_and_the_earlier_phase_refers_to_it() -> None:
    rows = rows_of(walked(release=release(ReleaseState.WAITING, Phase.CONTRACT)))
    before, now = rows["cutover/serving-v3"], rows["contract/serving-v3"]
    assert (before.reading, before.status_text, before.reason_text) == (
        None,
        "passed",
        "checked again in contract",
    )
    assert (now.status_text, now.reason_text) == ("fail", "2 of 4 pods are v2")


def test_a_present_gate_without_a_reading_is_unknown_as_for_the_rules() -> None:
    row = rows_of(walked(gates={}))["cutover/soak-passed"]
    assert (row.verdict, row.status_text, row.reading) == (Verdict.UNKNOWN, "unknown", None)
    assert row.reason_text == "not checked yet; expected: the soak time has passed"
    assert verdict_of(row) == ("?", "unknown", TextStyle.WARN)


def test_gates_of_an_ended_release_keep_their_last_reading() -> None:
    rows = rows_of(walked(ReleaseState.ROLLED_BACK))
    assert {row.position for row in rows.values()} == {PhasePosition.PAST, PhasePosition.AHEAD}
    assert rows["cutover/no-older-pod"].reason_text == "2 older pods"
    assert rows["cutover/no-older-pod"].status_text == "fail"
    assert rows["cutover/soak-passed"].status_text == "passed"
    assert verdict_of(rows["cutover/no-older-pod"])[2] is TextStyle.DIM


def test_the_gates_before_the_first_phase_come_first() -> None:
    planned = release(ReleaseState.PLANNED)
    entry = replace(planned.strategy, entry=(GateSpec("region-before", "the region before is done"),))
    reading = dict([gate("region-before", Verdict.FAIL, "eu-1 runs")])
    first, *others = build_gate_rows(record(replace(planned, strategy=entry), gates=reading), EPOCH)
    assert (first.phase, first.position, first.status_text) == (BEFORE_FIRST_PHASE, PhasePosition.PRESENT, "fail")
    assert {row.position for row in others} == {PhasePosition.AHEAD}
    begun = replace(release(ReleaseState.RUNNING, Phase.EXPAND), strategy=entry)
    assert build_gate_rows(record(begun, gates=reading), EPOCH)[0].position is PhasePosition.PAST


# --- columns --------------------------------------------------------------------------------------------------


def test_eighty_columns_show_gate_verdict_and_reason() -> None:
    rows = build_gate_rows(walked(), EPOCH)
    wide = {column.key: cells for column, cells in fit_columns(gate_columns(rows, 76), 76)}
    assert wide["gate"] == len("recent-rows-agree")
    assert wide["reason"] >= 28
    narrow = [column.key for column, _ in fit_columns(gate_columns(rows, 38), 38)]
    assert narrow == ["mark", "gate", "verdict", "reason"]
    fitted = fit_columns(gate_columns(rows, 76), 76)
    assert "".join(text for text, _ in title_line(fitted)).split() == ["PHASE", "GATE", "VERDICT", "AGE", "REASON"]


@given(
    cells=st.integers(28, 160),
    text=st.text(st.characters(codec="utf-8"), max_size=60),
    verdict=st.sampled_from(Verdict),
)
def test_any_reading_fits_the_pane(cells: int, text: str, verdict: Verdict) -> None:
    made = walked(gates={"serving-v3": GateReading("serving-v3", verdict, text, EPOCH - 1)})
    rows = build_gate_rows(made, EPOCH)
    fitted = fit_columns(gate_columns(rows, cells), cells)
    assert {"gate", "verdict"} <= {column.key for column, _ in fitted}
    for row in rows:
        line = row_line(fitted, row, EPOCH)
        assert line_width(line) <= cells
        assert all(part.isprintable() for part, _ in line)


def matching_gates(typed: str) -> list[str]:
    rows = build_gate_rows(walked(), EPOCH)
    columns = gate_columns(rows, 76)
    wanted = parse_filter(typed, searchable_columns(columns))
    return [row.key for row in rows if wanted.matches(filter_texts(columns, row), {})]


def test_a_filter_finds_verdict_phase_and_reason_but_not_expected_results() -> None:
    assert matching_gates("fail") == ["cutover/serving-v3"]
    assert matching_gates("verdict:^pass$") == ["cutover/soak-passed"]
    assert matching_gates("phase:cut ver:unk") == ["cutover/no-older-pod"]
    assert matching_gates("reason:v2") == ["cutover/serving-v3"]
    assert matching_gates('"older pod is left" phase:con') == ["contract/no-older-pod"], "a gate's label is found too"


def test_sorting_by_verdict_puts_failures_first_and_by_age_the_newest() -> None:
    rows = build_gate_rows(walked(), EPOCH)
    columns = {column.key: column for column in gate_columns(rows, 76)}
    assert sortable_columns(list(columns.values())) == ["phase", "gate", "verdict", "age", "reason"]
    words = [row.status_text for row in sort_rows(rows, columns["verdict"].sort_key)]
    assert words[:4] == ["fail", "unknown", "unknown", "pass"]
    assert words[-1] == "passed"
    ages = [row.reading.observed_at for row in sort_rows(rows, columns["age"].sort_key) if row.reading is not None]
    assert ages == sorted(ages, reverse=True)


def test_the_title_counts_passing_gates_or_says_why_none_counts() -> None:
    context = RenderContext.at_clock(FixedClock(1000.0))

    def title(made: ReleaseRecord) -> str:
        return gates_heading(board(made), context)

    assert title(walked()) == "cutover: 1 of 3 pass"
    assert title(walked(ReleaseState.ROLLING_BACK)) == "not checked during rollback"
    assert title(walked(ReleaseState.DONE)) == "at the end of the release"
    assert title(walked(ReleaseState.ROLLED_BACK)) == "before the rollback"
    assert title(record(release(ReleaseState.PLANNED))) == ""


def test_gates_of_past_phases_have_what_was_judged_from_the_audit() -> None:
    made = walked(gates=dict([gate("no-older-pod", Verdict.PENDING, "2 older pods")]))
    lines = [
        (100.0, "phase", "expand begins", ""),
        (110.0, "gate", "schema-valid: pending", "an index is being built"),
        (120.0, "gate", "schema-valid: pass", "all valid"),
        (130.0, "phase", "dual-write begins", ""),
        (140.0, "gate", "schema-valid: fail", "dropped by hand later"),
        (150.0, "gate", "recent-rows-agree: nonsense", "x"),
    ]
    events = [Event(number, at, AGENT, kind, what, why) for number, (at, kind, what, why) in enumerate(lines)]
    rows = complete_gate_rows(build_gate_rows(made, EPOCH), made.release.strategy, events)
    found = {row.key: row for row in rows}
    judged = found["expand/schema-valid"]
    assert (judged.status_text, judged.reason_text) == ("passed", "all valid")
    assert judged.reading is not None
    assert judged.reading.observed_at == 120.0
    assert found["dual-write/recent-rows-agree"].status_text == "no record", "its end and its verdict are not known"
    assert found["contract/no-old-snapshot"].status_text == "upcoming"
    assert [row.key for row in rows] == [row.key for row in build_gate_rows(made, EPOCH)]

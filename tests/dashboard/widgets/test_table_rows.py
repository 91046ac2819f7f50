"""Tables without a terminal: filters, columns, order, cursor."""

import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.incident_states import incident_situations
from tests.support.states import EPOCH, FixedClock, backfill, board, dashboard_situations, pod, workload
from zdd_tui.dashboard.state import FlagView, Observed
from zdd_tui.dashboard.widgets.drawing.line import Line, TextStyle, find_changed_spans, line_width
from zdd_tui.dashboard.widgets.panes.backfill import _extra_lines, backfill_lines, failed_rows_columns, writer_lines
from zdd_tui.dashboard.widgets.panes.columns import (
    PaneColumn,
    filter_texts,
    fit_columns,
    row_line,
    searchable_columns,
    title_line,
)
from zdd_tui.dashboard.widgets.panes.filter import MAX_LENGTH, FilterError, FilterLine, parse_filter
from zdd_tui.dashboard.widgets.panes.flags import FlagContext, days_left, flag_columns
from zdd_tui.dashboard.widgets.panes.guard import RuleAges, guard_columns
from zdd_tui.dashboard.widgets.panes.pod_rows import PodRow, PodRowCache, measure_widths, sorted_pod_rows
from zdd_tui.dashboard.widgets.panes.pods import PodAges, pod_columns, pod_notes
from zdd_tui.dashboard.widgets.panes.rows import RowStore, sort_rows
from zdd_tui.model.flag import ON
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import FailedRow, GuardReading
from zdd_tui.model.release.witness import ReplacedWrite, WitnessRecord, Writer
from zdd_tui.model.workload.pod import Pod, PodState
from zdd_tui.model.workload.rollout import RolloutStatus

CELLS = {"pod": "users-api-x7k2p", "state": "Serving", "node": "node-1"}
LABELS = {"app": "users-api", "tier": "Web"}
COLUMNS = list(CELLS)


def keeps(text: str) -> bool:
    return parse_filter(text, COLUMNS).matches(CELLS, LABELS)


def text(*lines: Line) -> str:
    return "\n".join("".join(part for part, _ in line) for line in lines)


# --- filter ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("", True),
        ("X7K", True),
        ("x9", False),
        ("!x9", True),
        ("!x7k", False),
        ("x7k serv", True),
        ("x7k drain", False),
        ("state:^serv", True),
        ("st:^serv$", False),
        ("no:1$", True),
        ("!node:1$", False),
        ("pod:Serving", False),
        ("label:app=users-api", True),
        ("label:app=users", False),
        ("label:tier=web", True),
        ("label:tier", True),
        ("label:zone", False),
        ("!label:zone", True),
        ("label:tier!=db", True),
        ("label:zone!=a", True),
        ("label:tier!=web", False),
        ("03:11", False),
        ('"state:serving"', False),
        ("!", True),
        ("state:", True),
        ("label:", True),
    ],
)
def test_rows_that_a_filter_keeps(typed: str, kept: bool) -> None:
    assert keeps(typed) is kept


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("pod:[", "unterminated character set"),
        ("stat:x stae:x", "did you mean state?"),
        ("zzz:x", "columns are pod, state, node"),
        ("pod:(a+)+$", "not allowed"),
        ("x" * (MAX_LENGTH + 1), "at most"),
    ],
)
def test_the_error_of_an_invalid_filter(typed: str, expected: str) -> None:
    with pytest.raises(FilterError, match=expected.replace("?", r"\?")):
        parse_filter(typed, COLUMNS)


def test_an_ambiguous_prefix_of_a_column_is_an_error() -> None:
    with pytest.raises(FilterError, match="state or status"):
        parse_filter("sta:x", ["state", "status"])


@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.text('()[]{}*+?|\\^$!:= "ab', max_size=30))
def test_any_filter_text_is_parsed_or_an_error(typed: str) -> None:
    try:
        parsed = parse_filter(typed, COLUMNS)
    except FilterError:
        return
    assert parsed.matches(CELLS, LABELS) in (True, False)


@given(st.text(string.ascii_letters + "-", min_size=1, max_size=8))
def test_a_term_and_its_negation_split_the_rows(typed: str) -> None:
    assert keeps(typed) is not keeps(f"!{typed}")


# --- columns --------------------------------------------------------------------------------------------------

AGES = PodAges((EPOCH,))
PODS = [
    PodRow(pod("6d4f9c7b5d-x7k2p", "2", PodState.DRAINING, seconds_left=18.0), "", "2"),
    PodRow(pod("6d4f9c7b5d-q2pzz", "2", PodState.STARTING, restarts=5, reason="CrashLoopBackOff"), "", "2"),
    PodRow(pod("6d4f9c7b5d-m4t8c", "2", PodState.SERVING, node="ip-10-0-12-7.eu-west-1.compute.internal"), "", "2"),
]


@given(st.integers(20, 160))
def test_columns_fit_and_the_node_is_dropped_first(cells: int) -> None:
    fitted = fit_columns(pod_columns(measure_widths(PODS)), cells)
    shown = [column.key for column, _ in fitted]
    assert {"pod", "version", "state", "drain"} <= set(shown)
    order = ["age", "restarts", "node"]
    assert [key for key in order if key in shown] == order[: len(shown) - 4]
    lines = [title_line(fitted), *[row_line(fitted, row, AGES) for row in PODS]]
    assert len({line_width(line) for line in lines}) == 1
    if cells >= 37:
        assert line_width(lines[0]) <= cells


def test_columns_take_the_room_by_weight() -> None:
    def column(key: str, most: int, weight: int) -> PaneColumn[str, None]:
        return PaneColumn(key, key, lambda row, _: row, 4, most, weight=weight)

    def widths(cells: int, *columns: PaneColumn[str, None]) -> list[int]:
        return [width for _, width in fit_columns(columns, cells)]

    columns = column("name", 20, 1), column("reason", 10_000, 3)
    assert widths(9, *columns) == [4, 4 + 0]
    assert widths(49, *columns) == [14, 34], "three quarters of 40 to the heavier one"
    assert widths(149, *columns) == [20, 128], "what one does not need, the other gets"
    assert sum(widths(50, *columns)) == 49, "no cell is lost"


def test_a_problem_replaces_the_state_and_keeps_the_other_columns() -> None:
    message = text(row_line(fit_columns(pod_columns(measure_widths(PODS)), 90), PODS[1], AGES))
    assert "○ CrashLoopBackOff×5" in message
    assert "12m" in message
    assert "node-1" in message


def test_a_pod_that_lost_its_readiness_names_the_probe_and_is_no_rollout() -> None:
    reason = "readiness probe: HTTP 503"
    lost = PodRow(pod("6d4f9c7b5d-m4t8c", "2", PodState.NOT_READY, reason=reason), "", "2")
    for with_restarts in (True, False):
        columns = fit_columns(pod_columns(measure_widths([lost]), with_restarts=with_restarts), 44)
        assert "✗ Not ready HTTP 503" in text(row_line(columns, lost, AGES))
    status = RolloutStatus(False, False, "1 of 4 pods not ready any more", is_degraded=True)
    shown = board(None, workload=Observed(replace(workload([lost.pod]), rollout=status), 1.0))
    assert [text(line) for line in pod_notes(shown, 1.0, 60)] == ["✗ 1 of 4 pods not ready any more"]


@pytest.mark.parametrize("cells", [40, 44, 60, 90])
@pytest.mark.parametrize("reason", ["CrashLoopBackOff", "CreateContainerConfigError"])
def test_e10_a_count_of_restarts_is_whole_in_every_width(cells: int, reason: str) -> None:
    ill = PodRow(pod("6d4f9c7b5d-m4t8c", "2", PodState.STARTING, restarts=600, reason=reason), "", "2")
    for with_restarts in (True, False):
        columns = fit_columns(pod_columns(measure_widths([ill]), with_restarts=with_restarts), cells)
        assert "×600" in text(row_line(columns, ill, AGES))


def test_restarts_are_beside_the_state_where_their_column_does_not_fit() -> None:
    serving = PodRow(pod("6d4f9c7b5d-m4t8c", "2", PodState.SERVING, restarts=2), "", "2")
    draining = PodRow(pod("6d4f9c7b5d-x7k2p", "2", PodState.DRAINING, restarts=2, seconds_left=18.0), "", "2")
    columns = fit_columns(pod_columns(measure_widths([serving, draining]), with_restarts=False), 44)
    assert "● Serving 2 restarts" in text(row_line(columns, serving, AGES))
    assert "▽ Draining   18s 12m" in text(row_line(columns, draining, AGES))


def test_the_title_of_the_sorted_column_is_marked() -> None:
    fitted = fit_columns(pod_columns(measure_widths(PODS)), 90)
    assert "AGE▲" in text(title_line(fitted, "age"))
    assert "DRAI▼" in text(title_line(fitted, "drain", down=True))
    assert text(title_line(fitted, "restarts")).count("▲") == 1
    assert line_width(title_line(fitted, "restarts")) == line_width(title_line(fitted))


def test_a_title_that_does_not_fit_loses_its_end_and_keeps_its_arrow() -> None:
    columns: list[PaneColumn[str, None]] = [PaneColumn("waits", "WAITS FOR", lambda row, _: row, 8, sort=str)]
    assert text(title_line(fit_columns(columns, 8))) == "WAITS   "
    assert text(title_line(fit_columns(columns, 8), "waits")) == "WAITS▲  "
    short: list[PaneColumn[str, None]] = [PaneColumn("version", "VERSION", lambda row, _: row, 7, sort=str)]
    assert text(title_line(fit_columns(short, 7), "version", down=True)) == "VERSIO▼"


def test_versions_and_nodes_are_cut_where_they_are_alike() -> None:
    pods = incident_situations()["long-names"]
    rows = sorted_pod_rows(pods)
    fitted = fit_columns(pod_columns(measure_widths(rows)), 66)
    shown = {text(row_line(fitted, row, AGES)) for row in rows}
    assert any("…3-rc.14 " in line for line in shown)
    assert any("…24-rc.1 " in line for line in shown)
    assert not any("compute.internal" in line for line in shown)


def test_a_filter_rejects_a_column_that_is_not_searchable() -> None:
    columns = pod_columns(measure_widths(PODS))
    assert searchable_columns(columns) == ["pod", "version", "state", "restarts", "node"]
    assert filter_texts(columns, PODS[1])["state"] == "Starting CrashLoopBackOff"


POD_STATES = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(PodState), st.integers(0, 2)), max_size=5)


@given(st.lists(POD_STATES, min_size=1, max_size=5), st.booleans())
def test_patched_rows_equal_rebuilt_rows(readings: list[list[tuple[str, PodState, int]]], image: bool) -> None:
    """For any sequence of added, removed and changed pods."""
    plan = replace(dashboard_situations()["open"].plan, new_image="shop/users-api:2" if image else "")
    rows = PodRowCache()
    known: dict[str, Pod] = {}
    for reading in readings:
        pods = []
        for name, state, restarts in {each[0]: each for each in reading}.values():
            made = pod(name, "2", state, restarts=restarts)
            # What has not changed is the very same object, as from the feeds.
            pods.append(known[name] if known.get(name) == made else made)
        known = {each.uid: each for each in pods}
        made_board = board(None, plan=plan, workload=Observed(workload(pods), 1.0))
        rows.update(made_board)
        assert list(rows.rows) == sorted_pod_rows(made_board)
        assert sum(rows.counts.values()) == len(pods)
        exact = measure_widths(rows.rows)
        assert rows.widths.name >= exact.name
        assert rows.widths.reason >= exact.reason


def test_flags_show_the_day_of_their_removal_where_they_are_set() -> None:
    late = FlagView("a_key", "write", ON, owner="team-x", expires="2026-11-20", changed_at=EPOCH - 130)
    soon = FlagView("b_key", "read", ON, expires="2026-12-01")
    unset = replace(soon, value=None)
    columns = flag_columns((late, soon), {"a_key": late.changed_at, "b_key": None})
    now = FlagContext(EPOCH)
    lines = [text(row_line(fit_columns(columns, 80), flag, now)) for flag in (late, soon, unset)]
    assert "✗ 4d late team-x" in lines[0]
    assert " 2m " in lines[0]
    assert "in 7d" in lines[1]
    assert "7d" not in lines[2], "there is nothing to remove"
    assert next(column.title for column in columns if column.key == "expires") == "REMOVE BY"
    assert days_left(FlagView("c", "read", None), EPOCH) is None
    assert {column.key for column, _ in fit_columns(columns, 28)} == {"role", "value", "key"}


def test_values_of_a_silent_source_are_in_the_past_tense() -> None:
    flags = [FlagView("a", "write", ON), FlagView("b", "read", None), FlagView("c", "read", None, problem="no JSON")]
    fitted = fit_columns(flag_columns(flags, {}), 60)
    old = [text(row_line(fitted, flag, FlagContext(EPOCH, is_old=True))) for flag in flags]
    for line, value in zip(old, ("? was on", "? unset", "✗ invalid"), strict=True):
        assert value in line
    fitted_pods = fit_columns(pod_columns(measure_widths(PODS)), 90)
    for row in PODS:
        before, after = (text(row_line(fitted_pods, row, AGES._replace(old=old))) for old in (frozenset(), {row.watch}))
        assert "?" not in before
        assert "?" in after
    reading = GuardReading("errors", Verdict.UNKNOWN, "no agent", value=0.01, limit=0.02, series=(0.01, 0.01))
    fitted_rules = fit_columns(guard_columns([reading], 120), 120)
    ages = RuleAges(None, {})
    unknown, passing = (
        text(row_line(fitted_rules, each, ages)) for each in (reading, replace(reading, verdict=Verdict.PASS))
    )
    assert "50%" in passing
    assert "50%" not in unknown
    assert not set("▁▂▃▄▅▆▇█") & set(unknown)
    assert set("▁▂▃▄▅▆▇█") & set(passing)


def test_failed_rows_show_key_reason_and_time() -> None:
    row = FailedRow(["7", "eu"], "value too long for type character varying(10)", EPOCH)
    message = text(row_line(fit_columns(failed_rows_columns((row,)), 70), row, FixedClock()))
    assert message.startswith("7, eu")
    assert "value too long" in message
    assert message.endswith("03:12:00")


# --- order and cursor -----------------------------------------------------------------------------------------

Item = tuple[str, int | None]
ITEMS = st.lists(st.tuples(st.text("abcdefgh", min_size=1, max_size=2), st.none() | st.integers(0, 4)), max_size=12)


def unique(items: list[Item]) -> list[Item]:
    return list(dict(reversed(items)).items())


def store_of(items: list[Item], room: int = 4) -> RowStore[Item]:
    store: RowStore[Item] = RowStore(lambda item: item[0])
    store.resize(room)
    store.update(items)
    return store


@given(ITEMS.map(unique), st.lists(ITEMS.map(unique), max_size=4), st.integers(0, 11), st.integers(1, 6), st.booleans())
def test_the_cursor_is_on_a_row_that_is_shown(
    first: list[Item], later: list[list[Item]], at: int, room: int, by_number: bool
) -> None:
    store = store_of(first, room)
    store.move_cursor(at)
    for items in later:
        before, cursor, was = list(store.shown), store.cursor_identity, store.cursor_index
        store.update(items, key=(lambda item: item[1]) if by_number else None, keep=lambda item: item[1] != 3)
        names = [item[0] for item in store.shown]
        assert bool(store.cursor_identity) == (store.cursor_index >= 0)
        if cursor in names:
            assert store.cursor_identity == cursor
        elif cursor and names:
            # The next of the old order that is still there, else the one before.
            successors = [item[0] for item in (*before[was + 1 :], *reversed(before[:was])) if item[0] in names]
            assert store.cursor_identity == (successors[0] if successors else names[min(was, len(names) - 1)])
        if store.cursor_index >= 0:
            assert names[store.cursor_index] == store.cursor_identity
        else:
            assert not cursor or not names
        assert 0 <= store.first_visible <= max(0, len(names) - room)


@given(ITEMS, st.booleans())
def test_sorting_is_stable_both_ways_and_rows_without_a_value_come_last(items: list[Item], down: bool) -> None:
    numbered = list(enumerate(items))
    found = sort_rows(numbered, lambda item: item[1][1], reverse=down)
    values = [item[1][1] for item in found]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=down)
    assert values == known + [None] * (len(values) - len(known))
    for value in {*values}:
        places = [item[0] for item in found if item[1][1] == value]
        assert places == sorted(places)


def test_the_cursor_row_keeps_its_place_on_screen() -> None:
    rows: list[Item] = [(name, 0) for name in "abcdefgh"]
    store = store_of(rows, 3)
    store.move_cursor(5)
    assert (store.first_visible, store.cursor_index) == (3, 5)
    store.update([("x", 0), ("y", 0), *rows])
    assert (store.cursor_identity, store.cursor_index, store.first_visible) == ("f", 7, 5)
    store.update(rows[4:])
    assert (store.cursor_identity, store.cursor_index, store.first_visible) == ("f", 1, 0)


def test_the_cursor_moves_to_the_neighbour_of_a_removed_row() -> None:
    rows: list[Item] = [(name, 0) for name in "abcd"]
    store = store_of(rows)
    store.move_cursor(2)
    store.update([rows[0], rows[1], rows[3]])
    assert store.cursor_identity == "d"
    store.update(rows[:2])
    assert store.cursor_identity == "b"
    store.update([])
    assert (store.cursor_identity, store.selected_row) == ("", None)


def test_the_cursor_stays_when_the_focus_returns() -> None:
    store = store_of([(name, 0) for name in "abcdefgh"], 3)
    store.scroll(4)
    store.focus_cursor()
    assert store.cursor_identity == "e"
    store.move_cursor(99)
    assert store.cursor_identity == "h"
    store.scroll(-99)
    store.focus_cursor()
    assert (store.cursor_identity, store.first_visible) == ("h", 5)


# --- what is painted ------------------------------------------------------------------------------------------


def test_columns_far_apart_are_painted_apart() -> None:
    before: Line = (
        ("name", TextStyle.NORMAL),
        (" 1", TextStyle.NORMAL),
        ("  a long middle  ", TextStyle.DIM),
        ("12m", TextStyle.DIM),
    )
    after: Line = (
        ("name", TextStyle.NORMAL),
        (" 2", TextStyle.NORMAL),
        ("  a long middle  ", TextStyle.DIM),
        ("13m", TextStyle.DIM),
    )
    assert find_changed_spans(before, after) == [(4, 6), (23, 26)]
    assert find_changed_spans(before, before) == []
    assert find_changed_spans(before, (("name", TextStyle.BAD), *before[1:])) == [(0, 4)]
    assert find_changed_spans((("abc", TextStyle.NORMAL),), (("ab", TextStyle.NORMAL),)) == [(0, 3)]


def test_a_column_needs_no_more_than_a_key_and_a_text() -> None:
    plain: PaneColumn[str, None] = PaneColumn("it", "IT", lambda row, _: row, 4)
    assert text(row_line(fit_columns([plain], 10), "a\x1b[2Jbcdefgh", None)) == "a[2…"


def test_the_number_of_workers_is_shown_beside_the_batch() -> None:
    assert "batch 2000×3" in text(*backfill_lines(backfill(), 40, workers=3))
    assert "×" not in text(*backfill_lines(backfill(), 40))


def test_a_changed_speed_is_in_the_first_five_lines_without_a_throttle() -> None:
    tuned = ("speed 50% (plan: 100%)", "workers 2 (plan: 1)")
    narrow = backfill_lines(backfill(), 29, tuned=tuned)
    assert text(narrow[3]) == "tuned: speed 50% (plan: 100%)"
    assert all(line_width(line) <= 12 for line in backfill_lines(backfill(), 12, tuned=tuned)[3:4])
    assert text(backfill_lines(backfill(), 60, tuned=tuned)[3]) == "throttle: -  tuned: speed 50% (plan: 100%)"
    assert text(backfill_lines(backfill(throttle="lag"), 60, tuned=tuned)[3]) == "throttle: lag"


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.integers(16, 100), st.integers(0, 99_999))
def test_the_filter_line_fits_and_shows_the_count(typed: str, cells: int, total: int) -> None:
    line = FilterLine()
    line.start_typing()
    line.set_text(typed, COLUMNS)
    message = line.render(min(7, total), total, cells)
    assert line_width(message) == cells
    assert text(message).endswith(f"{min(7, total)} of {total}")
    assert ("✗" in text(message)) or not line.error


def test_changed_limits_are_still_shown_after_the_backfill() -> None:
    tuned = ("speed 50% (plan: 100%)",)
    assert "tuned: speed 50%" in text(*_extra_lines(backfill(status="done"), tuned, (), 40))
    assert "tuned" not in text(*_extra_lines(backfill(), tuned, (), 40))  # it stands above


def test_the_pane_shows_who_wrote_only_one_side_first() -> None:
    writer = Writer("reports-worker", "10.1.4.7", "app", "app", 12, 1, 1.0, 2.0)
    [line] = writer_lines(WitnessRecord(1, (writer,)), 80)
    assert text(line) == "✗ wrote one side: reports-worker 10.1.4.7 as app: 12 rows"
    assert line[0][1] is TextStyle.BAD
    [line] = writer_lines(WitnessRecord(0, (replace(writer, open_rows=0),)), 80)
    assert line[0][1] is TextStyle.WARN, "copied again, but the writer is still there"
    assert all(line_width(line) <= 30 for line in writer_lines(WitnessRecord(0, (writer,) * 5), 30))
    assert text(writer_lines(WitnessRecord(0, (writer,) * 5), 30)[-1]).strip() == "and 2 more writers"
    assert writer_lines(WitnessRecord(), 80) == []
    write = ReplacedWrite(("7",), "812", 61.0, 62.0, "v1", "10.1.4.9", "app", "app")
    first, more, last = writer_lines(WitnessRecord(0, (writer,), replaced_rows=2, replaced=(write,)), 120)
    assert text(first).startswith("✗ may have been overwritten: key 7: written by v1 10.1.4.9 as app at ")
    assert (text(more).strip(), text(last)[0]) == ("and 1 more write", "!")

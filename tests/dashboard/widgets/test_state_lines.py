"""The board, and the lines that are drawn from it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.support.states import EPOCH, MONO, FixedClock, backfill, board, record, release, situations
from zdd_tui.dashboard.state import Moment, Sourced
from zdd_tui.dashboard.widgets.bars.footer import available, why_not
from zdd_tui.dashboard.widgets.bars.gates import gate_lines
from zdd_tui.dashboard.widgets.bars.header import header
from zdd_tui.dashboard.widgets.bars.summary import now_lines
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    Tone,
    changed_cells,
    clip,
    cut,
    cut_start,
    fit,
    human_age,
    human_count,
    outside,
    spread,
    width,
    wrap,
)
from zdd_tui.dashboard.widgets.panes.backfill import backfill_lines, done_percent
from zdd_tui.model.release.records import Lease
from zdd_tui.model.release.state import CommandKind, State, StepStatus
from zdd_tui.model.release.strategy import Phase
from zdd_tui.model.release.summary import Mood, situation

HOSTILE = st.text(st.characters(codec="utf-8"), max_size=60)
MOMENT = Moment.of(FixedClock())


def text(*lines: Line) -> str:
    return "\n".join("".join(part for part, _ in line) for line in lines)


def test_a_value_grows_old_and_stale() -> None:
    value = Sourced("x", 100.0)
    assert value.age(103.5) == 3.5
    assert not value.stale(105.0, 5)
    assert value.stale(105.1, 5)
    assert Sourced().age(5) is None
    assert Sourced().stale(5, 5)


def test_the_databases_clock_goes_on_between_readings() -> None:
    assert board(record(release(State.PLANNED))).server_now(MONO + 2.5) == EPOCH + 2.5
    assert situations()["connecting"].server_now(MONO) is None


@given(HOSTILE)
def test_no_control_character_from_outside_is_drawn(data: str) -> None:
    assert outside(data).isprintable()


def test_what_is_outside_stays_readable() -> None:
    assert outside("a\x1b[31mb\r\nc\u202ed\u200be\t[/var/log] é 漢") == "a[31mb  cde [/var/log] é 漢"


@given(HOSTILE, st.integers(0, 40))
def test_cutting_and_filling_keep_to_their_cells(data: str, cells: int) -> None:
    assert cell_len(cut(data, cells)) <= cells
    assert cell_len(cut_start(data, cells)) <= cells
    assert cell_len(fit(data, cells)) == cells
    assert cell_len(fit(data, cells, right=True)) == cells


@given(st.lists(HOSTILE, max_size=4), st.lists(HOSTILE, max_size=2), st.integers(0, 60))
def test_lines_keep_to_their_cells(left: list[str], right: list[str], cells: int) -> None:
    one: Line = tuple((outside(part), Tone.NORMAL) for part in left)
    other: Line = tuple((cut(part, 10), Tone.NORMAL) for part in right)
    assert width(clip(one, cells)) <= cells
    assert width(spread(one, other, cells)) <= max(cells, width(other))


@given(st.lists(st.text("ab漢 ", max_size=3), max_size=5), st.lists(st.text("ab漢 ", max_size=3), max_size=5))
def test_cells_outside_of_what_changed_are_the_same(left: list[str], right: list[str]) -> None:
    one, other = (tuple((part, Tone.NORMAL) for part in parts) for parts in (left, right))
    start, stop = changed_cells(one, other)
    full = max(width(one), width(other))
    assert 0 <= start <= stop <= full
    cells = [
        [char for part in parts for c in part for char in ([c] if cell_len(c) == 1 else [c, ""])]
        for parts in (left, right)
    ]
    padded = [row + [" "] * (full - len(row)) for row in cells]
    assert padded[0][:start] == padded[1][:start]
    assert padded[0][stop:] == padded[1][stop:]


@given(HOSTILE, st.integers(8, 60))
def test_wrapping_loses_no_word(data: str, cells: int) -> None:
    assert "".join(text(*wrap(data, cells)).split()) == "".join(outside(data).split())


@pytest.mark.parametrize(
    ("number", "told"), [(0, "0"), (756, "756"), (999.6, "1k"), (41_000, "41k"), (756_000, "756k"), (1_200_000, "1.2M")]
)
def test_counts(number: float, told: str) -> None:
    assert human_count(number) == told


@pytest.mark.parametrize(("seconds", "told"), [(0.4, "0s"), (59.9, "59s"), (754, "12m"), (3600 * 5, "5h"), (3e5, "3d")])
def test_ages(seconds: float, told: str) -> None:
    assert human_age(seconds) == told


def test_each_end_and_failure_has_a_look_of_its_own() -> None:
    looks = {}
    for name, made in situations().items():
        if made.release.value is not None:
            told = situation(made.release.value, EPOCH)
            looks[name] = (told.glyph, told.word)
    for name in ("done", "rolled-back", "failed", "rolling-back", "paused", "backfill", "open", "gates", "planned"):
        assert [other for other, look in looks.items() if look == looks[name]].count(name) == 1
    assert len({looks[name] for name in ("done", "rolled-back", "failed", "rolling-back")}) == 4
    words = [looks[name][1] for name in ("done", "rolled-back", "failed")]
    assert words == ["DONE", "ROLLED BACK", "FAILED"]


def test_a_failed_undo_tells_its_error_and_the_key() -> None:
    rel = release(State.ROLLBACK_FAILED, Phase.EXPAND, done=1, current=StepStatus.UNDO_FAILED, error="no rights")
    told = situation(record(rel), EPOCH)
    assert told.mood is Mood.BAD
    assert told.notes == ("no rights",)
    assert "R tries the undo again" in told.press


def test_where_there_is_no_way_back_nobody_is_told_to_roll_back() -> None:
    steps = sum(len(phase.steps) for phase in release(State.PLANNED).strategy.phases[:5])
    rel = release(State.FAILED, Phase.CLEANUP, done=steps + 2, current=StepStatus.FAILED, error="x")
    assert "R" not in situation(record(rel), EPOCH).press.split()
    assert "no way back" in why_not(board(record(rel)), MOMENT, CommandKind.ROLLBACK)


def test_long_errors_are_cut_with_a_way_to_all_of_it() -> None:
    rel = release(State.FAILED, Phase.EXPAND, done=1, current=StepStatus.FAILED, error="word " * 400)
    lines = now_lines(board(record(rel)), MOMENT, 78)
    assert len(lines) == 8
    assert "e shows all of it" in text(*lines)
    assert text(lines[-1]).startswith("→ a tries the step again")


def test_a_note_is_never_cut_away_by_what_to_press() -> None:
    made = situations()["lock"]
    told = text(*now_lines(made, MOMENT, 78))
    assert "held by pid 4123" in told
    assert "try 7 of 40" in told


def test_the_header_gives_up_the_target_before_the_alarm() -> None:
    made = situations()["no-agent"]
    for cells in (80, 60, 50):
        told = text(header(made, MOMENT, cells))
        assert "NO AGENT 13s" in told
        assert "users-full-name" in told
        assert len(told) <= cells


def test_an_agent_that_never_was_is_an_alarm_too() -> None:
    for lease in (None, Lease(3, "", "", 0, 0.0, 3.0)):
        assert "✗ NO AGENT" in text(header(board(record(release(State.PLANNED), lease=lease)), MOMENT, 80))


def test_an_ended_release_needs_no_agent() -> None:
    made = board(record(release(State.DONE, Phase.CLEANUP), lease=None))
    assert "NO AGENT" not in text(header(made, MOMENT, 80))
    assert "nobody" not in text(*now_lines(made, MOMENT, 80))


def test_queued_commands_are_counted_where_nobody_takes_them() -> None:
    made = situations()["no-agent"]
    assert made.release.value is not None
    queued = replace(made.release.value, commands=(_command(1), _command(2)))
    told = text(*now_lines(replace(made, release=Sourced(queued, MONO)), MOMENT, 90))
    assert "2 commands wait" in told


def _command(number: int):  # type: ignore[no-untyped-def]
    from zdd_tui.model.release.records import Actor, CommandRequest, StoredCommand

    return StoredCommand(number, CommandRequest(CommandKind.PAUSE), Actor("ana", "bastion"), EPOCH)


def test_a_stale_board_opens_no_gate() -> None:
    made = situations()["open"]
    assert why_not(made, MOMENT, CommandKind.ADVANCE) == ""
    late = Moment(MONO + 60, EPOCH + 60, FixedClock())
    assert "STALE" in why_not(made, late, CommandKind.ADVANCE)
    assert all("unknown" in text(line) for line in gate_lines(made, late, 80))
    assert CommandKind.ADVANCE not in [action.id for action in available(made, late)]


def test_a_backfill_is_at_100_percent_only_when_it_is_over() -> None:
    assert done_percent(None) is None
    assert done_percent(backfill(rows_done=1_300_000)) == 99
    assert done_percent(backfill(status="done")) == 100
    assert done_percent(backfill(rows_total=0)) == 0


def test_what_the_backfill_found_is_told() -> None:
    told = text(*backfill_lines(backfill(failed_rows=3, mismatches=2, status="done"), 26))
    assert "✗ 3 rows failed" in told
    assert "✗ 2 mismatches" in told
    assert "✔ verified 5, 0 wrong" in text(
        *backfill_lines(backfill(verified=True, verified_rows=5, mismatches=0, status="done"), 26)
    )
    assert text(*backfill_lines(None, 26)) == "○ not begun"
    assert all(width(line) <= 26 for line in backfill_lines(backfill(rate=123_456.0, rows_done=1, batch_rows=5000), 26))

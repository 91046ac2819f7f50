"""The dashboard's state, and the lines that are drawn from it."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.support.incident_states import incident_situations
from tests.support.states import EPOCH, MONOTONIC, FixedClock, backfill, board, dashboard_situations, record, release
from tests.support.strategy_states import guard_situations
from zdd_tui.dashboard.screens.status_details import status_detail_lines
from zdd_tui.dashboard.state import Observed, RenderContext
from zdd_tui.dashboard.widgets.bars.footer import available_actions, disabled_reason
from zdd_tui.dashboard.widgets.bars.gates import gate_lines, max_gate_lines
from zdd_tui.dashboard.widgets.bars.header import header_line
from zdd_tui.dashboard.widgets.bars.health import health_line
from zdd_tui.dashboard.widgets.bars.summary import summary_lines
from zdd_tui.dashboard.widgets.drawing.line import (
    Line,
    TextStyle,
    clip,
    find_changed_span,
    fit,
    format_age,
    format_count,
    justify,
    line_width,
    sanitize,
    truncate,
    truncate_middle,
    truncate_start,
    truncate_to_clauses,
    wrap,
)
from zdd_tui.dashboard.widgets.panes.backfill import backfill_lines, done_percent
from zdd_tui.model.counting import count_noun
from zdd_tui.model.phase import Phase
from zdd_tui.model.production_lock import ProductionLock
from zdd_tui.model.release.claims import verification_doubt
from zdd_tui.model.release.condition import ConditionReading, ConditionStatus
from zdd_tui.model.release.fills import FillProgress
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import Lease
from zdd_tui.model.release.state import CommandKind, ReleaseState, StepStatus
from zdd_tui.model.release.strategy import GateSpec
from zdd_tui.model.release.summary import Severity, summarize_release
from zdd_tui.model.release.witness import WitnessMode, WitnessRecord, Writer, evaluate_witness

HOSTILE = st.text(st.characters(codec="utf-8"), max_size=60)
MOMENT = RenderContext.at_clock(FixedClock())


def text(*lines: Line) -> str:
    return "\n".join("".join(part for part, _ in line) for line in lines)


def test_a_value_becomes_stale() -> None:
    value = Observed("x", 100.0)
    assert value.age(103.5) == 3.5
    assert not value.is_stale(105.0, 5)
    assert value.is_stale(105.1, 5)
    assert Observed().age(5) is None
    assert Observed().is_stale(5, 5)


def test_the_database_clock_continues_between_readings() -> None:
    assert board(record(release(ReleaseState.PLANNED))).server_now(MONOTONIC + 2.5) == EPOCH + 2.5
    assert dashboard_situations()["connecting"].server_now(MONOTONIC) is None


@given(HOSTILE)
def test_no_control_character_from_outside_is_drawn(data: str) -> None:
    assert sanitize(data).isprintable()


def test_text_from_outside_stays_readable() -> None:
    assert sanitize("a\x1b[31mb\r\nc\u202ed\u200be\t[/var/log] é 漢") == "a[31mb  cde [/var/log] é 漢"


@given(HOSTILE, st.integers(0, 40))
def test_truncated_and_padded_texts_have_their_width(data: str, cells: int) -> None:
    assert cell_len(truncate(data, cells)) <= cells
    assert cell_len(truncate_start(data, cells)) <= cells
    assert cell_len(fit(data, cells)) == cells
    assert cell_len(fit(data, cells, right=True)) == cells


@given(st.lists(HOSTILE, max_size=4), st.lists(HOSTILE, max_size=2), st.integers(0, 60))
def test_lines_have_their_width(left: list[str], right: list[str], cells: int) -> None:
    one: Line = tuple((sanitize(part), TextStyle.NORMAL) for part in left)
    other: Line = tuple((truncate(part, 10), TextStyle.NORMAL) for part in right)
    assert line_width(clip(one, cells)) <= cells
    assert line_width(justify(one, other, cells)) <= max(cells, line_width(other))


@given(st.lists(st.text("ab漢 ", max_size=3), max_size=5), st.lists(st.text("ab漢 ", max_size=3), max_size=5))
def test_cells_outside_the_changed_span_are_equal(left: list[str], right: list[str]) -> None:
    one, other = (tuple((part, TextStyle.NORMAL) for part in parts) for parts in (left, right))
    start, stop = find_changed_span(one, other)
    full = max(line_width(one), line_width(other))
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
    assert "".join(text(*wrap(data, cells)).split()) == "".join(sanitize(data).split())


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0"), (756, "756"), (999.6, "1k"), (41_000, "41k"), (756_000, "756k"), (1_200_000, "1.2M")],
)
def test_counts(number: float, expected: str) -> None:
    assert format_count(number) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.4, "0s"), (59.9, "59s"), (754, "12m"), (3600 * 5, "5h"), (3e5, "3d")]
)
def test_ages(seconds: float, expected: str) -> None:
    assert format_age(seconds) == expected


def test_each_final_state_has_its_own_glyph_and_label() -> None:
    styles = {}
    for name, made in dashboard_situations().items():
        if made.release.value is not None:
            text = summarize_release(made.release.value, EPOCH)
            styles[name] = (text.glyph, text.state_label)
    for name in ("done", "rolled-back", "failed", "rolling-back", "paused", "backfill", "open", "gates", "planned"):
        assert [other for other, look in styles.items() if look == styles[name]].count(name) == 1
    assert len({styles[name] for name in ("done", "rolled-back", "failed", "rolling-back")}) == 4
    words = [styles[name][1] for name in ("done", "rolled-back", "failed")]
    assert words == ["DONE", "ROLLED BACK", "FAILED"]


def test_a_failed_undo_shows_its_error_and_the_key() -> None:
    rel = release(ReleaseState.ROLLBACK_FAILED, Phase.EXPAND, done=1, current=StepStatus.UNDO_FAILED, error="no rights")
    text = summarize_release(record(rel), EPOCH)
    assert text.severity is Severity.ERROR
    assert text.notes == ("no rights",)
    assert "R retries the undo" in text.next_action


def test_rollback_is_not_suggested_where_it_is_impossible() -> None:
    steps = sum(len(phase.steps) for phase in release(ReleaseState.PLANNED).strategy.phases[:5])
    rel = release(ReleaseState.FAILED, Phase.CLEANUP, done=steps + 2, current=StepStatus.FAILED, error="x")
    assert "R" not in summarize_release(record(rel), EPOCH).next_action.split()
    assert "rollback is no longer possible" in disabled_reason(board(record(rel)), MOMENT, CommandKind.ROLLBACK)


def test_long_errors_are_truncated_with_the_key_of_the_details() -> None:
    rel = release(ReleaseState.FAILED, Phase.EXPAND, done=1, current=StepStatus.FAILED, error="word " * 400)
    lines = summary_lines(board(record(rel)), MOMENT, 78)
    assert len(lines) == 8
    assert "e shows all" in text(*lines)
    assert text(lines[-1]).startswith("→ a retries the failed step")


@pytest.mark.parametrize("limit", [5, 6, 8])
@pytest.mark.parametrize("cells", [78, 118, 198])
def test_what_has_failed_is_named_beside_what_stops_the_release(cells: int, limit: int) -> None:
    stopped = dashboard_situations()["stopped"].release.value
    assert stopped is not None
    breach = stopped.release.unmet[0]
    unmet = (breach, replace(breach, name="other", text="flag orders-new was changed by ana " * 4))
    rel = replace(stopped.release, state=ReleaseState.FAILED, error="no space left on device; " * 12, unmet=unmet)
    lines = summary_lines(board(replace(stopped, release=rel)), MOMENT, cells, limit)
    shown = text(*lines)
    assert len(lines) <= limit, shown
    assert "STOPPED, FAILED" in shown
    assert "no space left on device" in shown
    assert text(lines[-1]).endswith("e shows all") or "R rolls back" in shown
    assert all(line_width(line) <= cells for line in lines)


def test_the_next_action_does_not_displace_a_note() -> None:
    made = dashboard_situations()["lock"]
    message = text(*summary_lines(made, MOMENT, 78))
    assert "held by pid 4123" in message
    assert "try 7 of 40" in message


def test_a_narrow_health_line_keeps_every_source_and_age() -> None:
    made = dashboard_situations()["no-agent"]
    assert text(health_line(made, MOMENT, 80)) == "✔ PostgreSQL <3s  ✔ Redis <3s  ✔ Kubernetes <3s  ✗ agent 13s"
    assert text(health_line(made, MOMENT, 50)) == "✔ PG <3s ✔ Redis <3s ✔ K8s <3s ✗ agent 13s"


@pytest.mark.parametrize("situation", ["backfill", "no-agent", "stopped"])
@pytest.mark.parametrize("environment", ["production", "eu-production-2"])
def test_the_environment_is_never_cut(situation: str, environment: str) -> None:
    made = dashboard_situations()[situation]
    made = replace(made, plan=replace(made.plan, name="orders-" * 6, environment=environment, region="eu-1 1/2"))
    for cells in (78, 80, 100, 120):
        message = text(header_line(made, MOMENT, cells))
        assert f"■ {environment.upper()}" in message
        assert "region eu-1 1/2" in message
        assert len(message) <= cells
    assert "orders-ord" in text(header_line(made, MOMENT, 90))


def test_a_release_that_never_had_an_agent_shows_the_alarm() -> None:
    for lease in (None, Lease(3, "", "", 0, 0.0, 3.0)):
        assert "✗ agent none" in text(
            health_line(board(record(release(ReleaseState.PLANNED), lease=lease)), MOMENT, 80)
        )


def test_an_ended_release_needs_no_agent() -> None:
    made = board(record(release(ReleaseState.DONE, Phase.CLEANUP), lease=None))
    assert "○ agent not needed" in text(health_line(made, MOMENT, 80))
    assert "No agent" not in text(*summary_lines(made, MOMENT, 80))


def test_queued_commands_are_counted_without_an_agent() -> None:
    made = dashboard_situations()["no-agent"]
    assert made.release.value is not None
    queued = replace(made.release.value, commands=(_command(1), _command(2)))
    message = text(*summary_lines(replace(made, release=Observed(queued, MONOTONIC)), MOMENT, 90))
    assert "2 commands wait" in message


def _command(number: int):  # type: ignore[no-untyped-def]
    from zdd_tui.model.release.records import Actor, CommandRequest, StoredCommand

    return StoredCommand(number, CommandRequest(CommandKind.PAUSE), Actor("ana", "bastion"), EPOCH)


def test_a_stale_board_opens_no_gate() -> None:
    made = dashboard_situations()["open"]
    assert disabled_reason(made, MOMENT, CommandKind.ADVANCE) == ""
    late = RenderContext(MONOTONIC + 60, EPOCH + 60, FixedClock())
    assert "the database does not respond" in disabled_reason(made, late, CommandKind.ADVANCE)
    lines = [text(line) for line in gate_lines(made, late, 80)]
    assert all("unknown" in line for line in lines if not line.startswith(" ")), "the others go on with a reason"
    assert CommandKind.ADVANCE not in [action.id for action in available_actions(made, late)]


def test_a_backfill_is_at_100_percent_only_when_it_is_done() -> None:
    assert done_percent(None) is None
    assert done_percent(backfill(rows_done=1_300_000)) == 99
    assert done_percent(backfill(status="done")) == 100
    assert done_percent(backfill(rows_total=0)) == 0


def test_a_backfill_took_its_wall_time_and_names_its_waits() -> None:
    done = backfill(status="done", seconds=2.1, started_at=1.0, ended_at=106.0, waits=(("paused", 50.0), ("lag", 0.4)))
    assert "in 1m45s, paused 50s" in text(*backfill_lines(done, 26))
    assert "2.1s" not in text(*backfill_lines(done, 26))


def test_nothing_of_a_copy_that_is_undone_is_verified() -> None:
    undone = backfill(status="cancelled", verified=True, verified_rows=5, mismatches=0)
    assert "✔" not in text(*backfill_lines(undone, 40))
    assert "○ not verified: the copy is undone" in text(*backfill_lines(undone, 40))


def test_a_verification_is_not_claimed_while_rows_are_to_be_verified_again() -> None:
    done = backfill(status="done", verified=True, verified_rows=200_000, mismatches=0)
    breach = ConditionReading("flag", ConditionStatus.RECHECKING, "ff:x was off", affects_rows=True)
    for status, expected in (
        (ConditionStatus.RECHECKING, "○ to be verified again"),
        (ConditionStatus.UNKNOWN, "? verified 200k, not known now"),
    ):
        cutover = replace(release(ReleaseState.RUNNING, Phase.CUTOVER), unmet=(replace(breach, status=status),))
        shown = text(*backfill_lines(done, 30, doubt=verification_doubt(cutover)))
        assert expected in shown
        assert "✔ verified" not in shown
    assert "✔ verified 200k" in text(*backfill_lines(done, 30, doubt=verification_doubt(replace(cutover, unmet=()))))


def test_failed_rows_and_mismatches_of_the_backfill_are_shown() -> None:
    message = text(*backfill_lines(backfill(failed_rows=3, mismatches=2, status="done"), 26))
    assert "✗ 3 rows failed" in message
    assert "✗ 2 mismatches" in message
    assert "✔ verified 5, 0 mismatches" in text(
        *backfill_lines(backfill(verified=True, verified_rows=5, mismatches=0, status="done"), 26)
    )
    assert text(*backfill_lines(None, 26)) == "○ not started"
    assert all(
        line_width(line) <= 26 for line in backfill_lines(backfill(rate=123_456.0, rows_done=1, batch_rows=5000), 26)
    )


def test_fills_that_are_done_are_listed_and_wait_for_no_verification() -> None:
    done = backfill(status="done")
    fills = [FillProgress(name, name, "backfill", done, False) for name in ("fill users.a", "fill users.b")]
    message = text(*backfill_lines(done, 60, fills=fills))
    assert "fill users.a" in message
    assert "fill users.b" in message
    assert "verified" not in message


# --- what to press, and what keeps a gate closed --------------------------------------------------------------------


def locked_lines(situation: str, cells: int = 78) -> list[Line]:
    made = (dashboard_situations() | guard_situations() | incident_situations())[situation]
    return summary_lines(made, RenderContext.at_clock(FixedClock(), ProductionLock(False, True, 900.0)), cells)


@pytest.mark.parametrize(
    ("situation", "action"),
    [
        ("open", "→ u unlocks, then a runs dual-write; R rolls back without unlock"),
        ("failed", "→ u unlocks, then a retries the failed step; R rolls back without unlock, e shows all"),
        ("dark-mismatch", "→ u unlocks, then a runs shadow-100 once all gates pass; V shows which responses differ,"),
        ("planned", "→ u unlocks, then a runs expand"),
        ("rollback-failed", "→ R retries the undo"),
        ("done", "→ q quits; to begin another release of this plan: zdd agent --new PLAN"),
    ],
)
def test_a_locked_screen_names_the_unlock_only_where_a_key_needs_it(situation: str, action: str) -> None:
    assert action in text(*locked_lines(situation, 110))


@pytest.mark.parametrize(
    ("situation", "action"),
    [
        ("open", "→ read-only session: a runs dual-write, R rolls back"),
        ("stopped", "; read-only session: R rolls back"),
        ("stopped-paused", "; the release is paused, too; read-only session: p resumes, R rolls back"),
        ("rollback-failed", "→ read-only session: R retries the undo"),
        ("done", "→ q quits; to begin another release of this plan: zdd agent --new PLAN"),
    ],
)
def test_a_read_only_screen_marks_the_keys_that_do_not_work(situation: str, action: str) -> None:
    made = (dashboard_situations() | incident_situations())[situation]
    lines = summary_lines(made, RenderContext.at_clock(FixedClock(), ProductionLock(True, True, 900.0)), 110)
    assert action in " ".join(text(*lines).split())


def test_a_hint_names_the_key_of_the_rollback_and_has_one_arrow() -> None:
    shown = text(*locked_lines("stopped", 60))
    assert "zdd rollback" not in shown
    assert "R rolls back" in " ".join(shown.split())
    assert shown.count("→") == 1


def test_the_keys_of_the_next_actions_are_marked() -> None:
    keys = [part for line in locked_lines("failed") for part, style in line if style is TextStyle.KEY]
    assert keys == ["→ ", "u", "a", "R", "e"]
    article = [part for line in locked_lines("stopped") for part, style in line if style is TextStyle.KEY]
    assert article == ["→ ", "R"]


def test_a_missing_agent_is_told_once_with_its_key() -> None:
    shown = text(*locked_lines("queued-no-agent", 110))
    assert "✗ No agent is running this release; 2 commands wait for one\n→ A starts an agent" in shown
    assert shown.count("1m13s") == 1


def test_a_wait_beyond_its_limit_is_marked_by_a_word() -> None:
    assert "✗ LATE: waiting for ana for 2h30m, limit 1h00m" in text(*locked_lines("late-approval"))


@pytest.mark.parametrize("open_rows", [0, 12])
@pytest.mark.parametrize("spare", [0, 2])
def test_who_closes_a_gate_is_named_at_80_columns(open_rows: int, spare: int) -> None:
    writer = Writer("nightly-report", "10.2.14.7", "bi", "bi", 12, open_rows, EPOCH - 300, EPOCH - 5)
    found = WitnessRecord(open_rows, (writer,))
    verdict, reason = evaluate_witness(found, mode=WitnessMode.OLD_IS_RIGHT, now=EPOCH, quiet=300, missing=())
    rel = release(ReleaseState.WAITING, Phase.BACKFILL)
    specs = (GateSpec("no-mismatch", "zero mismatches"), GateSpec("witness-empty", "no writer writes only one side"))
    phases = [replace(each, gates=specs) for each in rel.strategy.phases]
    rel = replace(rel, strategy=replace(rel.strategy, phases=tuple(phases)))
    passes = GateReading("no-mismatch", Verdict.PASS, "0 mismatches", EPOCH)
    gates = {"no-mismatch": passes, "witness-empty": GateReading("witness-empty", verdict, reason, EPOCH)}
    made, current = board(record(rel, gates=gates)), len(specs)
    lines = gate_lines(made, MOMENT, 80, current + spare)
    shown = " ".join(text(*lines).split())
    assert "nightly-report 10.2.14.7 as bi: 12 rows" in shown
    assert len(lines) <= current + spare
    assert all(line_width(line) <= 80 for line in lines)
    assert spare == 0 or "one side" in shown, "the rest is wrapped where there is room"


def test_the_most_urgent_gates_are_visible_and_the_others_counted() -> None:
    made = incident_situations()["long-names"]
    shown = gate_lines(made, MOMENT, 100)
    assert [line[0][0][:6] for line in shown] == ["✗ fail"] * 3 + ["… 9 mo"]
    assert "1 fail, 1 unknown, 1 inconclusive, 1 pending, 5 pass  G shows all" in text(shown[-1])
    assert len(gate_lines(made, MOMENT, 100, 12)) == 12
    assert [max_gate_lines(rows) for rows in (18, 24, 36, 50)] == [4, 4, 6, 12]
    record_of = made.release.value
    assert record_of is not None
    running = replace(record_of, release=replace(record_of.release, state=ReleaseState.RUNNING))
    (line,) = gate_lines(replace(made, release=Observed(running, MONOTONIC)), MOMENT, 60)
    assert text(line).startswith("contract waits for: ✗ "), "what fails is not cut off"
    shown = text(*gate_lines(replace(made, release=Observed(running, MONOTONIC)), MOMENT, 170))
    assert shown.endswith("  ✔ 5 pass"), "what passes is not waited for"
    (line,) = gate_lines(replace(made, release=Observed(running, MONOTONIC)), MOMENT, 78)
    assert re.search(r"✗ \S+ .*  … \d more  ✔ 5 pass$", text(line)), "the count is last where names do not fit, too"
    assert line_width(line) <= 78


def test_what_passes_is_counted_and_not_listed_among_what_is_waited_for() -> None:
    made = dashboard_situations()["gates"]
    value = made.release.value
    assert value is not None
    verdicts = {
        "soak-passed": GateReading("soak-passed", Verdict.PASS, "", EPOCH, 5.0),
        "serving-v3": GateReading("serving-v3", Verdict.PASS, "", EPOCH, 5.0),
        "no-older-pod": GateReading("no-older-pod", Verdict.UNKNOWN, "a long reason " * 9, EPOCH, 5.0),
    }
    running = replace(value, release=replace(value.release, state=ReleaseState.RUNNING), gates=verdicts)
    (line,) = gate_lines(replace(made, release=Observed(running, MONOTONIC)), MOMENT, 78)
    assert re.fullmatch(r"contract waits for: (\? \S+  )+✔ 2 pass", text(line)), text(line)
    verdicts = {name: replace(each, verdict=Verdict.PASS) for name, each in verdicts.items()}
    verdicts |= {gate.name: replace(verdicts["soak-passed"], name=gate.name) for gate in value.release.gates}
    (line,) = gate_lines(replace(made, release=Observed(replace(running, gates=verdicts), MONOTONIC)), MOMENT, 78)
    assert text(line) == f"contract waits for no gate: ✔ {len(verdicts)} pass"


def test_the_ages_of_gates_are_a_column_and_no_gate_has_one_that_was_never_checked() -> None:
    made = dashboard_situations()["open"]
    lines = text(*gate_lines(made, MOMENT, 78)).splitlines()
    assert [line.endswith(" <3s ago") for line in lines] == [True] * 3
    assert len({len(line) for line in lines}) == 1
    assert lines[2].count("locked sessions") == 1, "the reason repeats the label"
    record_of = made.release.value
    assert record_of is not None
    unread = replace(made, release=Observed(replace(record_of, gates={}), MONOTONIC))
    assert "ago" not in text(*gate_lines(unread, MOMENT, 78))
    assert "old" not in text(*status_detail_lines(unread, MOMENT, 78)).partition("steps")[0].replace("old side", "")


def test_a_finished_backfill_says_nothing_twice() -> None:
    done = backfill(status="done", rows_done=1_200_000, verified=True, verified_rows=1_200_000, mismatches=0)
    shown = text(*backfill_lines(done, 60))
    assert "batches" not in shown, "they are below these lines"
    assert "throttle" not in shown


@pytest.mark.parametrize(("number", "expected"), [(0, "0 rows"), (1, "1 row"), (1200, "1,200 rows")])
def test_counts_with_a_noun(number: int, expected: str) -> None:
    assert count_noun(number, "row") == expected
    assert count_noun(1, "mismatch", "mismatches") == "1 mismatch"
    assert count_noun(2, "mismatch", "mismatches") == "2 mismatches"


@given(HOSTILE, st.integers(0, 30))
def test_a_text_cut_in_its_middle_has_its_width_and_keeps_its_ends(data: str, cells: int) -> None:
    assert cell_len(truncate_middle(data, cells)) <= cells
    assert truncate_middle("checkout-error-rate-by-status", 11) == "check…tatus"


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        (57, "Quit the dashboard; the agent keeps running, and waits:ok"),
        (50, "Quit the dashboard; the agent keeps running, …"),
        (30, "Quit the dashboard; …"),
        (12, "Quit the da…"),
    ],
)
def test_a_help_text_is_cut_behind_a_clause(cells: int, shown: str) -> None:
    whole = "Quit the dashboard; the agent keeps running, and waits:ok"
    assert truncate_to_clauses(whole, cells) == shown


def test_a_rollback_that_needs_a_lost_source_waits_for_it() -> None:
    made = dashboard_situations()["rolling-back"]
    assert "→ No action needed" in text(*summary_lines(made, MOMENT, 110))
    lost = replace(made, workload=replace(made.workload, observed_at=MONOTONIC - 9, hint="check the VPN"))
    shown = text(*summary_lines(lost, MOMENT, 110))
    assert "No action needed" not in shown
    assert "Fix: check the VPN" in shown
    assert "→ It continues when Kubernetes responds again" in shown


@pytest.mark.parametrize("length", [100, 400, 2000])
@pytest.mark.parametrize("state", [ReleaseState.RUNNING, ReleaseState.WAITING])
@pytest.mark.parametrize("cells", [76, 118])
def test_a_long_fix_cuts_no_action(cells: int, length: int, state: ReleaseState) -> None:
    made = incident_situations()["stopped-paused"]
    found = made.release.value
    assert found is not None
    assert found.release.breach is not None
    breach = replace(
        found.release.breach, hint="set the image where it comes from " * (length // 34), who="x " * length
    )
    paused = replace(found, release=replace(found.release, state=state, unmet=(breach,)))
    shown = summary_lines(replace(made, release=Observed(paused, MONOTONIC)), MOMENT, cells)
    assert len(shown) <= 8
    said = " ".join(text(*shown).split())
    assert "STOPPED, PAUSED" in said
    assert "Fix: set the image" in said
    assert said.endswith("; the release is paused, too; p resumes, R rolls back")

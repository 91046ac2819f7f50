"""Who wrote only one side: the rules of the gate, the mode, and the text."""

from dataclasses import replace

import pytest

from zdd_tui.model.phase import Phase
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import Release, ReleaseState, StepStatus
from zdd_tui.model.release.strategy import build_expand_contract
from zdd_tui.model.release.witness import (
    MAX_COUNTED,
    ReplacedWrite,
    WitnessMode,
    WitnessRecord,
    Writer,
    accepts_down,
    choose_copy,
    describe_replaced,
    describe_writers,
    evaluate_witness,
    find_pods,
    may_lose_new_side,
    reads_new_side,
    witness_mode,
)
from zdd_tui.model.workload.pod import PodFacts, project_pod

REPORTS = Writer("reports-worker", "10.1.4.7", "app", "app", rows=12, open_rows=0, first_at=100.0, last_at=200.0)


def evaluate(
    *writers: Writer,
    open_rows: int = 0,
    now: float = 1000.0,
    mode: WitnessMode = WitnessMode.OLD_IS_RIGHT,
    missing: tuple[str, ...] = (),
    error: str = "",
) -> tuple[Verdict, str]:
    found = WitnessRecord(open_rows, writers, error)
    return evaluate_witness(found, mode=mode, now=now, quiet=30.0, missing=missing)


def test_the_text_is_the_one_of_the_issue() -> None:
    assert str(REPORTS) == "reports-worker 10.1.4.7 as app: 12 rows"
    assert str(replace(REPORTS, pod="reports-7d9-x")) == "reports-worker reports-7d9-x as app: 12 rows"
    assert str(replace(REPORTS, application_name="", address="", rows=1)) == "no application_name local as app: 1 row"
    assert str(replace(REPORTS, session_role="dba")) == "reports-worker 10.1.4.7 as app (login dba): 12 rows"
    assert "\x1b" not in str(replace(REPORTS, role="a\x1b[31m"))
    assert describe_writers([REPORTS] * 5).endswith("; and 2 more")


def test_the_gate_passes_without_writers_and_names_them_otherwise() -> None:
    assert evaluate() == (Verdict.PASS, "every writer writes both sides")
    verdict, reason = evaluate(replace(REPORTS, open_rows=2), open_rows=2)
    assert verdict is Verdict.FAIL
    assert "2 rows differ" in reason
    assert "reports-worker 10.1.4.7 as app: 12 rows" in reason
    assert evaluate(REPORTS, now=210.0)[0] is Verdict.PENDING, "copied again, but it may write again"
    verdict, reason = evaluate(REPORTS)
    assert verdict is Verdict.PASS
    assert "reports-worker 10.1.4.7 as app: 12 rows" in reason


def test_after_v3_a_row_is_shown_and_not_overwritten() -> None:
    verdict, reason = evaluate(REPORTS, open_rows=1, mode=WitnessMode.NEW_IS_RIGHT)
    assert verdict is Verdict.FAIL
    assert "not overwritten" in reason


@pytest.mark.parametrize(
    ("changes", "verdict", "text"),
    [
        ({"missing": ("zdd_x_wor",)}, Verdict.FAIL, "zdd_x_wor is missing or disabled"),
        ({"open_rows": 3}, Verdict.PENDING, "3 rows differ"),
        ({"open_rows": 1, "error": "division by zero (22012)"}, Verdict.FAIL, "not copied again"),
        ({"open_rows": MAX_COUNTED + 5}, Verdict.PENDING, "1,000 rows or more differ"),
    ],
)
def test_other_verdicts(changes: dict[str, object], verdict: Verdict, text: str) -> None:
    found, reason = evaluate(**changes)  # type: ignore[arg-type]
    assert found is verdict
    assert text in reason


def in_phase(phase: Phase, *done: str, state: ReleaseState = ReleaseState.RUNNING) -> Release:
    strategy = build_expand_contract(witness=True)
    index = [spec.name for spec in strategy.phases].index(phase)
    release = Release("x", "hash", strategy, state, index)
    for name in done:
        release = release.with_status(name, StepStatus.DONE)
    return release


def test_rows_are_repaired_from_the_backfill_on_until_v3_rolls_out() -> None:
    assert witness_mode(in_phase(Phase.DUAL_WRITE, "create-witness")) is WitnessMode.OFF
    assert witness_mode(in_phase(Phase.BACKFILL)) is WitnessMode.OFF
    assert witness_mode(in_phase(Phase.BACKFILL, "create-witness")) is WitnessMode.OLD_IS_RIGHT
    started = in_phase(Phase.CUTOVER, "create-witness").with_status("rollout-v3", StepStatus.STARTED)
    assert witness_mode(started) is WitnessMode.NEW_IS_RIGHT
    assert witness_mode(in_phase(Phase.CLEANUP, "create-witness", "rollout-v3", "drop-witness")) is WitnessMode.OFF
    rolling_back = in_phase(Phase.CUTOVER, "create-witness", state=ReleaseState.ROLLING_BACK)
    assert witness_mode(rolling_back) is WitnessMode.OFF
    watched = in_phase(Phase.CUTOVER, "create-witness", "extend-witness", state=ReleaseState.ROLLING_BACK)
    assert witness_mode(watched) is WitnessMode.ROLLBACK
    assert witness_mode(replace(watched, state=ReleaseState.ROLLED_BACK)) is WitnessMode.OFF
    old_release = Release("x", "hash", build_expand_contract(), ReleaseState.RUNNING, 3)
    assert witness_mode(old_release) is WitnessMode.OFF


def test_down_counts_once_the_trigger_writes_the_old_side() -> None:
    assert not accepts_down(in_phase(Phase.BACKFILL))
    assert accepts_down(in_phase(Phase.CUTOVER, "sync-reverse"))


def pod(name: str, ip: str) -> PodFacts:
    return project_pod({"metadata": {"name": name, "uid": name}, "spec": {"containers": []}, "status": {"podIP": ip}})


def test_an_address_is_a_pods_unless_several_share_it() -> None:
    pods = [pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), pod("host-1", "10.9.9.9"), pod("host-2", "10.9.9.9")]
    found = find_pods(["10.0.0.2", "10.9.9.9", "10.7.7.7", ""], [*pods, pod("pending", "")])
    assert found == {"10.0.0.2": "b", "10.9.9.9": "", "10.7.7.7": "", "": ""}


@pytest.mark.parametrize(
    ("mode", "sides", "reads_new", "is_proved", "expected"),
    [
        (WitnessMode.OLD_IS_RIGHT, {"old"}, False, False, "up"),
        (WitnessMode.OLD_IS_RIGHT, {"new"}, False, False, "up"),
        (WitnessMode.OLD_IS_RIGHT, {"old"}, True, False, "up"),
        (WitnessMode.OLD_IS_RIGHT, {"new"}, True, True, "down"),
        (WitnessMode.OLD_IS_RIGHT, {"new"}, True, False, ""),
        (WitnessMode.OLD_IS_RIGHT, {"old", "new"}, True, True, ""),
        (WitnessMode.NEW_IS_RIGHT, {"new"}, True, True, "down"),
        (WitnessMode.NEW_IS_RIGHT, {"new"}, True, False, ""),
        (WitnessMode.NEW_IS_RIGHT, {"old"}, True, True, ""),
        (WitnessMode.NEW_IS_RIGHT, {"old", "new"}, True, True, ""),
        (WitnessMode.ROLLBACK, {"new"}, True, True, "down"),
        (WitnessMode.ROLLBACK, {"old"}, True, True, "up"),
        (WitnessMode.ROLLBACK, {"old"}, True, False, ""),
        (WitnessMode.ROLLBACK, {"old", "new"}, True, True, ""),
        (WitnessMode.OFF, {"new"}, True, True, ""),
    ],
)
def test_a_row_is_copied_only_where_it_is_known_which_side_is_newer(
    mode: WitnessMode, sides: set[str], reads_new: bool, is_proved: bool, expected: str
) -> None:
    assert choose_copy(mode, frozenset(sides), reads_new=reads_new, is_proved=is_proved) == expected


@pytest.mark.parametrize(
    ("sides", "has_reverse", "has_witness", "expected"),
    [
        ({"new"}, True, True, True),
        ({"old", "new"}, True, True, True),
        ({"old"}, True, False, False),
        ({"old"}, False, True, False),
        ({"old"}, False, False, True),
        (set(), True, False, False),
        (set(), False, True, True),
        (set(), False, False, True),
    ],
)
def test_what_a_rollback_may_lose(sides: set[str], has_reverse: bool, has_witness: bool, expected: bool) -> None:
    found = may_lose_new_side(frozenset(sides), has_reverse=has_reverse, has_witness=has_witness)
    assert found == expected


def test_a_write_that_may_have_been_overwritten_is_in_the_reason_of_the_gate() -> None:
    write = ReplacedWrite(("7", "a\x1b"), "812", 61.0, 62.0, "v1", "10.1.4.9", "app", "app", pod="users-1")
    found = WitnessRecord(writers=(REPORTS,), replaced_rows=3, replaced=(write,))
    assert describe_replaced(found) == (
        "3 writes of the old side may have been overwritten: key 7, a?: written by v1 users-1 as app at 00:01:01,"
        " then by transaction 812 before 00:01:02 UTC; and 2 more"
    )
    assert describe_replaced(WitnessRecord(writers=(REPORTS,))) == ""
    for now in (210.0, 1000.0):
        _, reason = evaluate_witness(found, mode=WitnessMode.OLD_IS_RIGHT, now=now, quiet=30.0, missing=())
        assert reason.endswith(describe_replaced(found))


def test_reads_use_the_new_side_from_the_first_share_on() -> None:
    strategy = build_expand_contract(sync_by_trigger=False, indexes=False, ramp=(5,), witness=True)
    release = Release("r", "h", strategy, ReleaseState.RUNNING, 3)
    assert not reads_new_side(release)
    assert reads_new_side(release.with_status("read-5", StepStatus.STARTED))
    assert reads_new_side(release.with_status("read-5", StepStatus.DONE).with_status("read-flag-on", StepStatus.DONE))

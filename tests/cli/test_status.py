"""`zdd status` for people: what it shows in each state of a release, within 80 columns."""

import json
from dataclasses import replace

import pytest

from tests.support.states import MONOTONIC, PLAN
from zdd_tui.cli.status import WIDTH, format_status, status_to_dict, wait_result
from zdd_tui.dashboard.state import DashboardState, Observed
from zdd_tui.dashboard.widgets.bars.stepper import stepper_line
from zdd_tui.model.release.condition import ConditionReading, ConditionStatus
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import (
    KUBERNETES_NOTE,
    RETRYING_NOTE,
    WAITING_NOTE,
    BackfillRecord,
    Lease,
    ReleaseRecord,
    StepRecord,
)
from zdd_tui.model.release.regions import REGION_GATE, REGION_ROLLED_BACK
from zdd_tui.model.release.state import Release, ReleaseState, StepStatus
from zdd_tui.model.release.strategy import build_expand_contract
from zdd_tui.model.release.witness import WitnessRecord, Writer

NOW = 1_700_000_000.0
STRATEGY = build_expand_contract()
LIVE = Lease(7, "agent", "node-3", 4711, 0.4, 3.0)
DEAD = replace(LIVE, age=90.0)
ERROR = (
    "ALTER TABLE users got no lock in 40 tries: blocked by pid 812 (psql, idle in transaction for 12m)\n  Fix: end it"
)


def record(release: Release, **changes: object) -> ReleaseRecord:
    steps = tuple(StepRecord(step.name, status) for step, status in zip(STRATEGY.steps, release.statuses, strict=True))
    made = ReleaseRecord(1, release, "production", "", NOW - 60, None, NOW, steps, {}, (), (), LIVE, None)
    return replace(made, **changes)  # type: ignore[arg-type]


def at(phase: str, state: ReleaseState, **changes: object) -> Release:
    """A release in a phase; everything before it is done."""
    index = [spec.name for spec in STRATEGY.phases].index(phase)
    done = {step.name for spec in STRATEGY.phases[:index] for step in spec.steps}
    if state is ReleaseState.WAITING:
        done |= {step.name for step in STRATEGY.phases[index].steps}
    statuses = tuple(StepStatus.DONE if step.name in done else StepStatus.PENDING for step in STRATEGY.steps)
    return replace(Release("users", "hash", STRATEGY, state, index, statuses), **changes)  # type: ignore[arg-type]


def gates(phase: str, verdict: Verdict = Verdict.PASS, reason: str = "all is well") -> dict[str, GateReading]:
    spec = next(spec for spec in STRATEGY.phases if spec.name == phase)
    return {gate.name: GateReading(gate.name, verdict, reason, NOW - 0.5) for gate in spec.gates}


PLANNED = record(Release("users", "hash", STRATEGY))
RUNNING = record(
    at("backfill", ReleaseState.RUNNING).with_status("backfill-rows", StepStatus.STARTED),
    backfill=BackfillRecord(
        "running", 1_200_000, 756_000, rate=41_234.0, throttle="replica lag 6.1 s", failed_rows=2, updated_at=NOW - 1
    ),
)
WAITING = record(at("expand", ReleaseState.WAITING), gates=gates("expand"))
SHUT = record(at("dual-write", ReleaseState.WAITING), gates=gates("dual-write", Verdict.FAIL, "users-api-x7k runs V1"))
CONTRACT = record(at("contract", ReleaseState.WAITING), gates=gates("contract"))
FAILED = record(at("expand", ReleaseState.FAILED, error=ERROR))
PAUSED = record(at("backfill", ReleaseState.RUNNING, paused=True))
BACK = record(at("dual-write", ReleaseState.ROLLING_BACK).with_status("expand-schema", StepStatus.UNDOING))
BACK_FAILED = record(at("dual-write", ReleaseState.ROLLBACK_FAILED, error="no"))
ROLLED_BACK = record(at("dual-write", ReleaseState.ROLLED_BACK), lease=None)
DONE = record(at("cleanup", ReleaseState.DONE), lease=None)
ALONE = record(at("expand", ReleaseState.WAITING), gates=gates("expand"), lease=DEAD)

CASES: dict[str, tuple[ReleaseRecord, tuple[str, ...]]] = {
    "planned": (PLANNED, ("users: planned (production)", "○ expand", "next: zdd advance p.yaml runs expand")),
    "running": (
        RUNNING,
        (
            "users: running in backfill",
            "✔ expand  ✔ dual-write  ▶ backfill  ○ cutover",
            "? gate no-mismatch: unknown, not checked yet … running backfill-rows",
            "756,000 of 1,200,000 rows, 41,234 a second",
            "replica lag",
            "2 failed",
            "agent agent@node-3, pid 4711, seen 0.4s ago",
        ),
    ),
    "waiting": (
        WAITING,
        (
            "users: waiting in expand",
            "✔ gate schema-valid: pass, all is well (0.5s ago)",
            "runs dual-write",
            "zdd rollback p.yaml undoes",
        ),
    ),
    "shut": (
        SHUT,
        (
            "✗ gate serving-v2: fail, users-api-x7k runs V1",
            "next: zdd advance p.yaml runs backfill, once all gates pass",
        ),
    ),
    "contract": (CONTRACT, ("next: zdd advance --confirm users p.yaml runs cleanup",)),
    "failed": (
        FAILED,
        (
            "users: failed in expand",
            "✗ ALTER TABLE users got no lock",
            "Fix: end it",
            "✗ expand",
            "next: zdd advance p.yaml retries the failed step",
            "zdd rollback p.yaml",
        ),
    ),
    "paused": (
        PAUSED,
        ("users: running in backfill, PAUSED", "next: zdd resume p.yaml continues", "zdd rollback p.yaml undoes"),
    ),
    "rolling back": (
        BACK,
        (
            "users: rolling-back in expand",
            "◀ expand  ◁ dual-write  ○ backfill",
            "… undoing expand-schema",
            "next: No action needed",
        ),
    ),
    "rollback failed": (BACK_FAILED, ("users: rollback-failed", "next: zdd rollback p.yaml retries the failed undo")),
    "rolled back": (ROLLED_BACK, ("users: rolled-back (production)", "◁ expand  ◁ dual-write  ○ backfill")),
    "done": (DONE, ("users: done (production)", "✔ cleanup")),
    "no agent": (
        ALONE,
        (
            "✗ STALLED: no agent is running this release",
            "the last was agent@node-3, pid 4711",
            "next: zdd agent p.yaml starts an agent",
            "zdd advance p.yaml runs dual-write",
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_status_shows(case: str) -> None:
    seen, expected = CASES[case]
    text = format_status(seen, "p.yaml")
    flat = " ".join(text.split())
    for part in expected:
        assert " ".join(part.split()) in flat, text
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.endswith("\n")


@pytest.mark.parametrize("seen", [DONE, ROLLED_BACK])
def test_an_ended_release_needs_no_agent_and_no_command(seen: ReleaseRecord) -> None:
    text = format_status(seen)
    assert "AGENT" not in text
    assert "next:" not in text
    assert "gate" not in text


@pytest.mark.parametrize("case", CASES)
def test_the_json_document_has_the_same_keys_in_every_state(case: str) -> None:
    document = json.loads(json.dumps(status_to_dict(CASES[case][0])))
    assert document.keys() == status_to_dict(PLANNED).keys()


def test_an_expired_lease_counts_as_no_agent() -> None:
    assert status_to_dict(ALONE)["agent"] is None
    assert status_to_dict(WAITING)["agent"]["pid"] == 4711


def test_stale_gates_count_as_unknown() -> None:
    stale = replace(WAITING, now=NOW + 60)
    assert {gate["verdict"] for gate in status_to_dict(stale)["gates"]} == {"unknown"}
    assert wait_result(stale, "expand") is None
    assert "runs dual-write, once all gates pass" in " ".join(format_status(stale).split())


WAIT_RESULTS: list[tuple[ReleaseRecord, str, int | None]] = [
    (PLANNED, "expand", None),
    (WAITING, "expand", 0),
    (SHUT, "expand", 0),
    (SHUT, "dual-write", None),
    (RUNNING, "dual-write", 0),
    (FAILED, "expand", 1),
    (DONE, "cutover", 0),
    (DONE, "done", 0),
    (DONE, "rolled-back", 1),
    (BACK, "expand", 1),
    (BACK, "rolled-back", None),
    (BACK_FAILED, "rolled-back", 1),
    (ROLLED_BACK, "rolled-back", 0),
    (ROLLED_BACK, "done", 1),
]


@pytest.mark.parametrize(("seen", "wait", "code"), WAIT_RESULTS)
def test_the_exit_code_of_a_wait(seen: ReleaseRecord, wait: str, code: int | None) -> None:
    assert wait_result(seen, wait) == code


def test_a_rollback_that_is_no_longer_possible_is_not_shown() -> None:
    release = at("cleanup", ReleaseState.FAILED, error="analyze failed").with_status("drop-archive", StepStatus.DONE)
    failed = record(release)
    assert "rollback" not in format_status(failed)


def test_who_wrote_only_one_side_is_shown() -> None:
    writer = Writer("reports-worker", "10.1.4.7", "app", "app", 12, 2, NOW - 60, NOW - 5)
    seen = replace(WAITING, witness=WitnessRecord(2, (writer,)))
    assert "reports-worker 10.1.4.7 as app: 12 rows" in format_status(seen)
    document = status_to_dict(seen)["witness"]
    assert document["open_rows"] == 2
    assert document["writers"][0]["text"] == "reports-worker 10.1.4.7 as app: 12 rows"
    assert document["writers"][0]["pod"] is None
    json.dumps(document)


@pytest.mark.parametrize(
    ("note", "until"),
    [
        (f"{RETRYING_NOTE}https://api does not respond", "that system responds again"),
        (f"{KUBERNETES_NOTE}no response", "that system responds again"),
        (f"{WAITING_NOTE}pid 7 (pg_dump)", "the sessions that it waits for have ended"),
    ],
)
def test_a_rollback_that_waits_does_not_claim_to_need_nothing(note: str, until: str) -> None:
    steps = tuple(replace(step, note=note) if step.status is StepStatus.UNDOING else step for step in BACK.steps)
    shown = format_status(replace(BACK, steps=steps))
    assert f"… undoing expand-schema: {note}" in shown
    assert f"next: It continues when {until}" in shown
    assert "No action needed" not in shown


def test_a_rollback_is_in_the_phase_that_it_undoes() -> None:
    undoing = at("dual-write", ReleaseState.WAITING).with_status("write-flag-on", StepStatus.UNDOING)
    begun = replace(undoing, state=ReleaseState.ROLLING_BACK, phase=3)
    assert "users: rolling-back in dual-write, STALLED (" in format_status(record(begun, lease=DEAD))
    assert "✗ dual-write" in format_status(record(begun, lease=DEAD))
    nothing = replace(begun, statuses=(StepStatus.UNDONE,) * len(begun.statuses))
    assert "users: rolling-back (" in format_status(record(nothing))


def test_a_hint_names_the_plans_file_in_its_commands() -> None:
    reading = ConditionReading("flag", ConditionStatus.BREACHED, "ff:x is off", hint="find who, then zdd status PLAN")
    error = "no lock\n  Fix: zdd advance PLAN, or zdd rollback PLAN"
    failed = at("backfill", ReleaseState.FAILED, unmet=(reading,), error=error)
    behind = {REGION_GATE: GateReading(REGION_GATE, Verdict.FAIL, f"{REGION_ROLLED_BACK}eu", NOW)}
    for seen, expected in (
        (record(failed), ("then zdd status plans/a.yaml", "zdd advance plans/a.yaml, or zdd rollback plans/a.yaml")),
        (record(PLANNED.release, gates=behind), ("zdd agent --new --region eu plans/a.yaml",)),
    ):
        text = " ".join(format_status(seen, "plans/a.yaml").split())
        assert all(each in text for each in expected), text
        assert "PLAN" not in text.replace("PLANNED", "")


@pytest.mark.parametrize(
    ("status", "last", "expected"),
    [
        (ConditionStatus.BREACHED, None, "to be verified again"),
        (ConditionStatus.RECHECKING, None, "to be verified again"),
        (ConditionStatus.UNKNOWN, ConditionStatus.BREACHED, "to be verified again"),
        (ConditionStatus.UNKNOWN, None, "verified; not known now"),
    ],
)
def test_a_verification_does_not_count_while_a_breach_may_have_changed_rows(
    status: ConditionStatus, last: ConditionStatus | None, expected: str
) -> None:
    done = BackfillRecord("done", 1000, 1000, verified=True, verified_rows=1000, mismatches=0)
    reading = ConditionReading("flag", status, "ff:x is off", affects_rows=True, last=last)
    for found, shown in ((reading, expected), (replace(reading, affects_rows=False), "0 mismatches")):
        seen = record(at("cutover", ReleaseState.RUNNING, unmet=(found,)), backfill=done)
        assert f"backfill done: 1,000 of 1,000 rows, {shown}" in format_status(seen)


def test_a_condition_that_cannot_be_checked_has_its_fix_unless_its_reading_is_withdrawn() -> None:
    reading = ConditionReading("flag", ConditionStatus.UNKNOWN, "Redis does not respond", hint="check that Redis runs")
    seen = record(at("cutover", ReleaseState.RUNNING, unmet=(reading,)))
    assert format_status(seen).startswith("? UNKNOWN: Redis does not respond\n  Fix: check that Redis runs\n")
    breach = replace(reading, status=ConditionStatus.BREACHED).withdrawn("no agent")
    assert "check that Redis runs" not in format_status(record(at("cutover", ReleaseState.RUNNING, unmet=(breach,))))


@pytest.mark.parametrize("state", [ReleaseState.ROLLED_BACK, ReleaseState.ROLLING_BACK, ReleaseState.RUNNING])
def test_phases_have_the_glyphs_of_the_screen(state: ReleaseState) -> None:
    seen = record(at("dual-write", state).with_status("expand-schema", StepStatus.DONE))
    board = DashboardState(PLAN, release=Observed(seen, MONOTONIC))
    on_screen = "".join(text for text, _ in stepper_line(board, 200)).replace(" ─ ", "  ")
    assert f"  {on_screen}\n" in format_status(seen)

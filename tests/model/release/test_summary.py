"""A release that waits: for whom or what, how long, and when that is too long."""

import re
from dataclasses import replace

import pytest

from tests.support import states
from zdd_tui.cli.status import format_status
from zdd_tui.model.duration import format_duration
from zdd_tui.model.fleet.rows import ReleaseFacts, Urgency, build_release_row
from zdd_tui.model.phase import Phase
from zdd_tui.model.release.claims import Activity, assess_activity, format_silence, withdraw_verdicts
from zdd_tui.model.release.condition import ConditionReading, ConditionStatus
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import Actor, Event, Lease, ReleaseRecord, RollbackStart, StepRecord
from zdd_tui.model.release.regions import REGION_GATE, RegionStatus, evaluate_regions
from zdd_tui.model.release.state import Release, ReleaseState, StepStatus
from zdd_tui.model.release.strategy import GateSpec, build_expand_contract
from zdd_tui.model.release.summary import MAX_REASON_LENGTH, Severity, find_wait, summarize_release

NOW = 1_700_000_000.0
STRATEGY = build_expand_contract()
PHASE = STRATEGY.phases[0]


def record(
    *, ran: float = 7200.0, verdict: Verdict = Verdict.PASS, since: float = 7100.0, **changes: object
) -> ReleaseRecord:
    """Expand ended `ran` seconds ago, and its last gate has had its verdict for `since` seconds."""
    done = len(PHASE.steps)
    statuses = (StepStatus.DONE,) * done + (StepStatus.PENDING,) * (len(STRATEGY.steps) - done)
    release = Release("users", "hash", STRATEGY, ReleaseState.WAITING, 0, statuses)
    steps = tuple(
        StepRecord(spec.name, status, ended_at=NOW - ran if status is StepStatus.DONE else None)
        for spec, status in zip(STRATEGY.steps, statuses, strict=True)
    )
    names = [gate.name for gate in PHASE.gates]
    gates = {name: GateReading(name, Verdict.PASS, "ok", NOW - 0.5, since=NOW - ran) for name in names}
    gates[names[-1]] = GateReading(names[-1], verdict, "reason", NOW - 0.5, since=NOW - since)
    made = ReleaseRecord(1, release, "live", "", NOW - 9000, None, NOW, steps, gates, (), (), None, None)
    return replace(made, **({"owner": "team-x", "wait_limit": 3600.0} | changes))  # type: ignore[arg-type]


def test_the_wait_for_the_owner_starts_when_all_gates_pass() -> None:
    wait = find_wait(record(), NOW)
    assert wait is not None
    assert (wait.description, wait.is_overdue, wait.since) == (
        "waiting for team-x for 1h58m, limit 1h00m",
        True,
        NOW - 7100,
    )
    assert summarize_release(record(), NOW).notes == (f"✗ LATE: {wait.description}",)


def test_without_an_agent_nothing_is_late() -> None:
    """Its gates are unknown then, and not for as long as they had passed before."""
    gone = Activity(is_active=False, is_known=True, idle_seconds=60.0)
    summary = summarize_release(record(), NOW, activity=gone)
    assert "LATE" not in " ".join(summary.notes)
    assert "no agent for" in summary.text


@pytest.mark.parametrize(
    ("state", "paused", "wanted"),
    [
        (ReleaseState.RUNNING, False, ""),
        (ReleaseState.RUNNING, True, "; the release is paused, too; p resumes, R rolls back"),
        (
            ReleaseState.FAILED,
            False,
            "; the release is failed, too; a retries the failed step once the condition ",
        ),
    ],
)
def test_a_stopped_release_that_is_paused_or_failed_says_what_a_person_must_do(
    state: ReleaseState, paused: bool, wanted: str
) -> None:
    stopped = states.dashboard_situations()["stopped"].release.value
    assert stopped is not None
    made = replace(stopped, release=replace(stopped.release, state=state, paused=paused))
    action = summarize_release(made, made.now).next_action
    assert wanted in action
    assert (", too;" in action) is bool(wanted)
    assert action.count("the release continues then") == (not wanted), "a person continues it"
    assert len(re.findall(r"\brollback|\brolls", action)) == 1


def test_a_wait_within_its_limit_is_shown_and_not_overdue() -> None:
    wait = find_wait(record(since=60.0), NOW)
    assert wait is not None
    assert (wait.description, wait.is_overdue) == ("waiting for team-x for 1m00s, limit 1h00m", False)
    assert summarize_release(record(since=60.0), NOW).notes == (wait.description,)
    assert summarize_release(record(since=59.0), NOW).notes == ()
    free = find_wait(record(wait_limit=None, owner=""), NOW)
    assert free is not None
    assert (free.description, free.is_overdue) == ("waiting for a person for 1h58m", False)
    assert summarize_release(record(wait_limit=None, owner=""), NOW).notes == (), "no limit and no owner"


@pytest.mark.parametrize("verdict", [Verdict.UNKNOWN, Verdict.INCONCLUSIVE, Verdict.PENDING])
def test_a_gate_that_is_undecided_for_too_long_is_overdue_too(verdict: Verdict) -> None:
    late = record(verdict=verdict, since=5000.0)
    wait = find_wait(late, NOW)
    assert wait is not None
    assert wait.description == f"“{PHASE.gates[-1].label}” has been {verdict} for 1h23m, limit 1h00m"
    assert wait.is_overdue
    assert summarize_release(late, NOW).notes == (f"✗ LATE: {wait.description}",)
    fresh = record(verdict=verdict, since=50.0)
    young = find_wait(fresh, NOW)
    assert young is not None
    assert not young.is_overdue
    assert summarize_release(fresh, NOW).notes == (), "an undecided gate within the limit needs no note"


def test_a_release_that_does_not_wait_is_not_overdue() -> None:
    assert find_wait(record(verdict=Verdict.FAIL), NOW) is None, "the gate fails"
    waiting = record()
    for state in (ReleaseState.RUNNING, ReleaseState.FAILED, ReleaseState.ROLLING_BACK, ReleaseState.DONE):
        assert find_wait(replace(waiting, release=replace(waiting.release, state=state)), NOW) is None
    assert find_wait(replace(waiting, release=replace(waiting.release, paused=True)), NOW) is None
    assert find_wait(replace(waiting, steps=(), gates={}), NOW) is None


@pytest.mark.parametrize("state", [ReleaseState.ROLLING_BACK, ReleaseState.ROLLED_BACK, ReleaseState.ROLLBACK_FAILED])
def test_a_rollback_has_its_own_duration_and_names_who_and_why(state: ReleaseState) -> None:
    rel = states.release(state, "backfill")
    rel = replace(rel, statuses=(StepStatus.UNDONE,) * len(rel.statuses))
    shown = summarize_release(
        states.record(rel, rollback=RollbackStart(states.ANA, "orders fail", states.EPOCH - 42)), states.EPOCH
    ).text
    assert "triggered by ana@bastion: orders fail" in shown
    assert ("every step is undone, in 42s, triggered" in shown) is (state is ReleaseState.ROLLED_BACK)
    assert "12m34s" not in shown, "the age of the release"
    by_guard = RollbackStart(Actor("guard", "bastion"), "errors 9 %", states.EPOCH - 42)
    summary = summarize_release(states.record(rel, rollback=by_guard, cause="errors 9 %"), states.EPOCH)
    assert ", triggered by guard@bastion" in summary.text
    assert summary.cause == "guard: errors 9 %"
    long = summarize_release(
        states.record(rel, rollback=RollbackStart(states.ANA, "x" * 9999, states.EPOCH)), states.EPOCH
    ).text
    assert len(long) < MAX_REASON_LENGTH + 100


def test_a_release_that_is_rolled_back_before_it_ran_says_so() -> None:
    planned = states.release(ReleaseState.ROLLED_BACK)
    assert summarize_release(states.record(planned), states.EPOCH).text == "nothing had run; ended 0s ago"


def test_a_release_that_is_paused_before_it_runs_says_so() -> None:
    planned = states.release(ReleaseState.PLANNED, paused=True)
    summary = summarize_release(states.record(planned), states.EPOCH)
    assert (summary.state_label, summary.next_action) == ("PAUSED", "p resumes")


UNKNOWN = Activity(is_active=False, is_known=False, idle_seconds=41.0)


def test_the_last_known_state_is_the_one_that_was_known() -> None:
    """Its verdicts are those of that time, and in the past tense: they are not known any more."""
    lease = Lease(7, "agent", "node-3", 4711, 0.4, 3.0)
    summary = summarize_release(record(lease=lease), NOW + 41, activity=UNKNOWN)
    assert summary.state_label == "LAST KNOWN: AWAITING APPROVAL"
    assert summary.text == f"expand has run, all {len(PHASE.gates)} gates passed; state not known for 41s"
    assert summary.next_action.startswith("a runs dual-write once all gates pass"), "nothing is open now"
    closed = summarize_release(record(lease=lease, verdict=Verdict.FAIL), NOW + 41, activity=UNKNOWN)
    assert closed.state_label == "LAST KNOWN: WAITING FOR GATES"
    assert f"1 of {len(PHASE.gates)} gates not open" in closed.text
    gone = summarize_release(record(lease=replace(lease, age=60.0)), NOW + 41, activity=UNKNOWN)
    assert "AWAITING APPROVAL" not in gone.state_label, "no agent judged them at that time, either"


@pytest.mark.parametrize(
    ("state", "paused", "held"),
    [
        (ReleaseState.RUNNING, False, ""),
        (ReleaseState.RUNNING, True, ", PAUSED"),
        (ReleaseState.FAILED, False, ", FAILED"),
        (ReleaseState.FAILED, True, ", FAILED, PAUSED"),
    ],
)
def test_screen_status_and_fleet_agree_on_what_holds_a_breached_release(
    state: ReleaseState, paused: bool, held: str
) -> None:
    stopped = states.dashboard_situations()["stopped"].release.value
    assert stopped is not None
    assert stopped.release.breach is not None
    text = stopped.release.breach.text
    lease = Lease(7, "agent", "node-3", 4711, 0.4, 3.0)
    for age, word in ((0.4, "STOPPED"), (60.0, "STALLED")):
        release = replace(stopped.release, state=state, paused=paused)
        made = replace(stopped, release=release, lease=replace(lease, age=age))
        activity = assess_activity(made.lease, 0.0)
        summary = summarize_release(made, made.now, activity=activity)
        assert (summary.state_label, summary.severity) == (f"{word}{held}", Severity.ERROR)
        row = build_release_row(made, ReleaseFacts(), database="db", group="", clock_offset=0.0)
        assert (row.label, row.urgency) == (summary.state_label, Urgency.BROKEN)
        header, *_ = (line for line in format_status(made).splitlines() if line.startswith(made.release.name))
        assert f", {word}{', PAUSED' if paused else ''} (" in header
        assert str(state) in header
        said = f"last: breached, {text}"
        for shown in (" ".join(summary.notes), row.waits_for, " ".join(format_status(made).split())):
            assert (said in shown) is (word == "STALLED"), "the last known breach, and only as such"
    unknown = withdraw_verdicts(replace(stopped, release=release, lease=lease), UNKNOWN, made.now)
    summary = summarize_release(unknown, made.now, activity=UNKNOWN)
    assert summary.state_label == f"LAST KNOWN: STOPPED{held}"


def test_a_region_behind_one_that_was_rolled_back_never_starts_and_has_a_fix() -> None:
    earlier = RegionStatus("eu", ReleaseState.ROLLED_BACK, was_rolled_back=True)
    verdict, reason = evaluate_regions([earlier], 60.0)
    planned = replace(
        states.record(states.release(ReleaseState.PLANNED)),
        gates={REGION_GATE: GateReading(REGION_GATE, verdict, reason, states.EPOCH)},
        lease=Lease(7, "agent", "node-3", 4711, 0.4, 3.0),
    )
    strategy = replace(planned.release.strategy, entry=(GateSpec(REGION_GATE, "the region before it"),))
    planned = replace(planned, release=replace(planned.release, strategy=strategy))
    summary = summarize_release(planned, states.EPOCH)
    assert (summary.glyph, summary.severity, summary.notes) == ("✗", Severity.ERROR, (reason,))
    assert "once" not in summary.next_action
    assert "--new --region eu PLAN; R ends the release" in summary.next_action
    shown = " ".join(format_status(planned).split())
    assert "Fix: end this release" in shown
    assert "zdd rollback PLAN" in shown
    assert "zdd advance" not in shown
    failed = replace(planned.gates[REGION_GATE], reason="region eu is failed in backfill")
    retried = summarize_release(replace(planned, gates={REGION_GATE: failed}), states.EPOCH)
    assert "once its gate passes" in retried.next_action, "that region may still be done"


def test_a_breach_of_two_conditions_has_the_advice_of_the_one_that_has_it() -> None:
    pods = ConditionReading("pods users", ConditionStatus.BREACHED, "4 of 4 pods run V1")
    image = ConditionReading("image users", ConditionStatus.BREACHED, "it has image a:1", hint="set a:2 back")
    running = states.release(ReleaseState.RUNNING, Phase.CUTOVER)
    for unmet in ((pods, image), (image, pods)):
        summary = summarize_release(states.record(replace(running, unmet=unmet)), states.EPOCH)
        assert summary.next_action == "Fix: set a:2 back"
        assert pods.text in (summary.cause, *summary.notes)


def test_a_duration_never_goes_back_when_its_agent_is_missed() -> None:
    """The clock of a step stops where no agent is known to work, and what it showed is not replaced by less."""
    running = states.release(ReleaseState.RUNNING, Phase.BACKFILL, done=7, current=StepStatus.STARTED)
    seen = states.record(running, running_for=5.0)
    assert " (5s)" in summarize_release(seen, states.EPOCH).text
    for known in (True, False):
        gone = Activity(is_active=False, is_known=known, idle_seconds=4.0)
        text = summarize_release(seen, states.EPOCH, activity=gone).text
        assert re.search(r"\(\d+s\)", text) is None, text
        assert "for 4s" in text


def test_a_pause_and_an_end_say_since_when() -> None:
    paused = states.release(ReleaseState.RUNNING, Phase.BACKFILL, done=7, paused=True)
    at = states.EPOCH - 185
    seen = states.record(paused, events=(Event(1, at, states.ANA, "command", "pause"),))
    assert summarize_release(seen, states.EPOCH).text.endswith("; paused for 3m05s")
    ended = states.record(states.release(ReleaseState.DONE, Phase.CLEANUP), finished_at=at)
    assert summarize_release(ended, states.EPOCH).text.endswith("; ended 3m05s ago")


def test_what_counts_and_what_has_ended_have_one_figure() -> None:
    for seconds in (10.4, 10.6, 59.6, 185.7):
        assert format_duration(seconds) == format_silence(seconds)


def test_the_error_of_a_failure_is_in_the_past() -> None:
    """Redis may respond by now."""
    undone = states.release(ReleaseState.ROLLBACK_FAILED, Phase.CUTOVER, error="Redis does not respond in time")
    seen = states.record(undone)
    steps = (replace(seen.steps[0], status=StepStatus.UNDO_FAILED, ended_at=states.EPOCH - 40), *seen.steps[1:])
    seen = replace(seen, steps=steps)
    assert summarize_release(seen, states.EPOCH).notes == ("40s ago: Redis does not respond in time",)
    assert "✗ 40s ago: Redis does not respond in time" in format_status(replace(seen, now=states.EPOCH))

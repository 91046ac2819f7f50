"""A release that waits: for whom, for how long, and when that is too long."""

from dataclasses import replace

import pytest

from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import ReleaseRecord, StepRecord
from zdd_tui.model.release.state import Release, State, StepStatus
from zdd_tui.model.release.strategy import expand_contract
from zdd_tui.model.release.summary import situation, wait_of

NOW = 1_700_000_000.0
STRATEGY = expand_contract()
PHASE = STRATEGY.phases[0]


def record(
    *, ran: float = 7200.0, verdict: Verdict = Verdict.PASS, since: float = 7100.0, **changes: object
) -> ReleaseRecord:
    """Expand has run `ran` seconds ago, and its last gate has said so for `since` seconds."""
    done = len(PHASE.steps)
    statuses = (StepStatus.DONE,) * done + (StepStatus.PENDING,) * (len(STRATEGY.steps) - done)
    release = Release("users", "hash", STRATEGY, State.WAITING, 0, statuses)
    steps = tuple(
        StepRecord(spec.name, status, ended_at=NOW - ran if status is StepStatus.DONE else None)
        for spec, status in zip(STRATEGY.steps, statuses, strict=True)
    )
    names = [gate.name for gate in PHASE.gates]
    gates = {name: GateReading(name, Verdict.PASS, "well", NOW - 0.5, since=NOW - ran) for name in names}
    gates[names[-1]] = GateReading(names[-1], verdict, "told", NOW - 0.5, since=NOW - since)
    made = ReleaseRecord(1, release, "live", "", NOW - 9000, None, NOW, steps, gates, (), (), None, None)
    return replace(made, **({"owner": "team-x", "wait_limit": 3600.0} | changes))  # type: ignore[arg-type]


def test_it_waits_for_its_owner_from_the_moment_on_in_which_all_gates_passed() -> None:
    wait = wait_of(record(), NOW)
    assert wait is not None
    assert (wait.text, wait.over, wait.since) == ("waits 1h58m for team-x, limit 1h00m", True, NOW - 7100)
    assert situation(record(), NOW).notes == (wait.text,)


def test_a_wait_within_its_limit_is_told_and_not_late() -> None:
    wait = wait_of(record(since=60.0), NOW)
    assert wait is not None
    assert (wait.text, wait.over) == ("waits 1m00s for team-x, limit 1h00m", False)
    assert situation(record(since=60.0), NOW).notes == (wait.text,)
    assert situation(record(since=59.0), NOW).notes == ()
    free = wait_of(record(wait_limit=None, owner=""), NOW)
    assert free is not None
    assert (free.text, free.over) == ("waits 1h58m for a person", False)
    assert situation(record(wait_limit=None, owner=""), NOW).notes == (), "nobody set a limit, nobody is named"


@pytest.mark.parametrize("verdict", [Verdict.UNKNOWN, Verdict.INCONCLUSIVE])
def test_a_gate_that_nobody_can_judge_is_late_too(verdict: Verdict) -> None:
    late = record(verdict=verdict, since=5000.0)
    wait = wait_of(late, NOW)
    assert wait is not None
    assert wait.text == f"“{PHASE.gates[-1].label}” has been {verdict} for 1h23m, limit 1h00m"
    assert wait.over
    assert situation(late, NOW).notes == (wait.text,)
    fresh = record(verdict=verdict, since=50.0)
    young = wait_of(fresh, NOW)
    assert young is not None
    assert not young.over
    assert situation(fresh, NOW).notes == (), "gates take their time"


def test_who_is_not_asked_is_not_late() -> None:
    assert wait_of(record(verdict=Verdict.FAIL), NOW) is None, "the gate says no"
    calm = record()
    for state in (State.RUNNING, State.FAILED, State.ROLLING_BACK, State.DONE):
        assert wait_of(replace(calm, release=replace(calm.release, state=state)), NOW) is None
    assert wait_of(replace(calm, release=replace(calm.release, paused=True)), NOW) is None
    assert wait_of(replace(calm, steps=(), gates={}), NOW) is None

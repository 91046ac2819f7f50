"""The rules of the release: by example, and by random sequences of commands and failures."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zdd_tui.model.errors import Refused
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.state import (
    LATE_SECONDS,
    Command,
    CommandKind,
    Precondition,
    Release,
    ReleaseState,
    StepStatus,
    apply_command,
    closed_gates,
    complete_if_open,
    is_irreversible,
    mark_step_failed,
    mark_step_finished,
    mark_step_started,
    next_pending_step,
    next_state,
)
from zdd_tui.model.release.strategy import Strategy, build_expand_contract

NOW = 1_000_000.0
ADVANCE = Command(CommandKind.ADVANCE)
ROLLBACK = Command(CommandKind.ROLLBACK)
PAUSE = Command(CommandKind.PAUSE)
RESUME = Command(CommandKind.RESUME)


def fresh(**flags: bool) -> Release:
    return Release("users-full-name", "hash", build_expand_contract(**flags))


def passing(release: Release, at: float = NOW) -> dict[str, GateReading]:
    return {
        gate.name: GateReading(gate.name, Verdict.PASS, "ok", at)
        for phase in release.strategy.phases
        for gate in phase.gates
    }


def run_phase(release: Release) -> Release:
    while (work := next_pending_step(release)) is not None:
        release = mark_step_finished(mark_step_started(release, work), work)
    return release


def to_waiting(phase: str) -> Release:
    release = fresh()
    while True:
        release = run_phase(apply_command(release, replace(ADVANCE, typed=release.name), passing(release), NOW))
        assert release.current_phase is not None
        if release.current_phase.name == phase:
            return release


PHASES = [phase.name for phase in build_expand_contract().phases]


def test_a_release_runs_its_six_phases_and_ends() -> None:
    release = to_waiting("cleanup")
    assert release.state is ReleaseState.WAITING
    assert complete_if_open(release, passing(release), NOW).state is ReleaseState.DONE
    assert set(release.statuses) == {StepStatus.DONE}


def test_a_read_ramp_adds_steps_to_the_cutover() -> None:
    cutover = build_expand_contract(ramp=(10, 50)).phases[3]
    assert [step.name for step in cutover.steps] == [
        "sync-reverse", "read-10", "read-50", "read-flag-on", "soak", "compare-recent-writes", "rollout-v3",
    ]  # fmt: skip
    watched = build_expand_contract(ramp=(10,), witness=True).phases[3]
    assert [step.name for step in watched.steps][:3] == ["sync-reverse", "extend-witness", "read-10"]


def undo_all(release: Release) -> list[str]:
    """Names of the steps that a rollback undoes, in order."""
    release = apply_command(release, ROLLBACK, {}, NOW)
    undone = []
    while (work := next_pending_step(release)) is not None:
        assert work.direction == "undo"
        undone.append(work.step.name)
        release = mark_step_finished(mark_step_started(release, work), work)
    assert release.state is ReleaseState.ROLLED_BACK
    return undone


@pytest.mark.parametrize("phase", PHASES[:-1])
def test_rollback_undoes_every_step_with_an_effect(phase: str) -> None:
    release = to_waiting(phase)
    undone = undo_all(release)
    done = [step.name for spec in release.strategy.phases[: PHASES.index(phase) + 1] for step in spec.steps]
    assert sorted(undone) == sorted(done)
    # But for the reads it is newest first: nothing is undone before what builds on it.
    assert [name for name in undone if name != "read-flag-on"] == [n for n in done[::-1] if n != "read-flag-on"]


def started_until(release: Release, last: str) -> Release:
    """The release with every step up to one done, and that one started."""
    for spec in release.strategy.steps:
        if spec.name == last:
            return replace(release.with_status(last, StepStatus.STARTED), state=ReleaseState.RUNNING)
        release = release.with_status(spec.name, StepStatus.DONE)
    raise KeyError(last)


RAMPED = Release("r", "hash", build_expand_contract(ramp=(10, 50), witness=True, new_table=True, constrain=True))


@pytest.mark.parametrize("running", ["read-10", "read-50", "read-flag-on", "soak", "rollout-v3", "constrain-new-side"])
def test_a_rollback_moves_reads_back_before_everything_else(running: str) -> None:
    """Pods take minutes, a flag takes seconds; the triggers that keep both sides equal still exist then."""
    release = started_until(RAMPED, running)
    with_effect = [spec for spec in RAMPED.strategy.steps if release.status(spec.name).has_effect]
    reads = [spec.name for spec in with_effect if spec.moves_reads]
    undone = undo_all(release)
    assert undone[: len(reads)] == reads[::-1]
    assert reads
    assert undone.index("sync-reverse") > undone.index(reads[0])


@pytest.mark.parametrize("running", ["archive-old-side", "delete-flags", "drop-witness"])
def test_reads_wait_for_an_old_side_that_is_archived(running: str) -> None:
    """Reads of an archived side would fail; and an older value of the flags must not be restored later."""
    undone = undo_all(started_until(RAMPED, running))
    assert (
        undone[: undone.index("archive-old-side") + 1]
        == {
            "archive-old-side": ["archive-old-side"],
            "delete-flags": ["delete-flags", "archive-old-side"],
            "drop-witness": ["drop-witness", "delete-flags", "archive-old-side"],
        }[running]
    )
    after = undone[undone.index("archive-old-side") + 1 :]
    assert after[:4] == ["read-flag-on", "read-50", "read-10", "constrain-new-side"]


def test_rollback_is_refused_once_the_old_data_is_dropped() -> None:
    release = apply_command(to_waiting("contract"), replace(ADVANCE, typed="users-full-name"), passing(fresh()), NOW)
    while (work := next_pending_step(release)) is not None:
        began = mark_step_started(release, work)
        for not_dropped in (began, mark_step_failed(began, work, "a view depends on it")):
            assert apply_command(not_dropped, ROLLBACK, {}, NOW).state is ReleaseState.ROLLING_BACK
        release = mark_step_finished(began, work)
        if work.step.irreversible:
            with pytest.raises(Refused, match="rollback is no longer possible"):
                apply_command(release, ROLLBACK, {}, NOW)
            return
    pytest.fail("the strategy has no irreversible step")


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.PASS])
def test_only_pass_opens_a_gate(verdict: Verdict) -> None:
    release = to_waiting("expand")
    gates = passing(release) | {"no-waiters": GateReading("no-waiters", verdict, "pid 42 waits", NOW)}
    with pytest.raises(Refused, match="pid 42 waits"):
        apply_command(release, ADVANCE, gates, NOW)


def test_a_stale_reading_is_unknown_and_opens_nothing() -> None:
    release = to_waiting("expand")
    with pytest.raises(Refused, match="STALE 11s"):
        apply_command(release, ADVANCE, passing(release, at=NOW - 11), NOW)


def test_a_gate_that_was_not_checked_is_closed() -> None:
    release = to_waiting("expand")
    assert {reading.verdict for reading in closed_gates(release, {}, NOW)} == {Verdict.UNKNOWN}


def test_leaving_contract_asks_for_the_name() -> None:
    release = to_waiting("contract")
    for typed in (None, "", "users", "USERS-FULL-NAME"):
        with pytest.raises(Refused, match="typing users-full-name"):
            apply_command(release, replace(ADVANCE, typed=typed), passing(release), NOW)
    assert (
        apply_command(release, replace(ADVANCE, typed=release.name), passing(release), NOW).state
        is ReleaseState.RUNNING
    )


def test_the_confirmed_state_is_rechecked() -> None:
    release = to_waiting("expand")
    moved = replace(ADVANCE, expected=Precondition("hash", ReleaseState.PLANNED, -1))
    with pytest.raises(Refused, match="it was planned, it is waiting in expand"):
        apply_command(release, moved, passing(release), NOW)
    other_plan = replace(ADVANCE, expected=Precondition("other", ReleaseState.WAITING, 0))
    with pytest.raises(Refused, match="plan is not the one"):
        apply_command(release, other_plan, passing(release), NOW)
    with pytest.raises(Refused, match="plan is not the one"):
        apply_command(release, replace(other_plan, kind=CommandKind.ROLLBACK), {}, NOW)


def test_a_rollback_is_not_refused_because_a_step_ended_meanwhile() -> None:
    release = to_waiting("expand")
    confirmed_while_running = replace(ROLLBACK, expected=Precondition("hash", ReleaseState.RUNNING, 0))
    assert apply_command(release, confirmed_while_running, {}, NOW).state is ReleaseState.ROLLING_BACK


def test_a_failed_step_is_run_again_by_advance() -> None:
    release = apply_command(fresh(), ADVANCE, {}, NOW)
    work = next_pending_step(release)
    assert work is not None
    failed = mark_step_failed(mark_step_started(release, work), work, "lock timeout")
    assert (failed.state, failed.error, next_pending_step(failed)) == (ReleaseState.FAILED, "lock timeout", None)
    assert next_pending_step(apply_command(failed, ADVANCE, {}, NOW)) == work


def test_a_failed_undo_is_tried_again_by_rollback() -> None:
    release = apply_command(to_waiting("expand"), ROLLBACK, {}, NOW)
    work = next_pending_step(release)
    assert work is not None
    failed = mark_step_failed(mark_step_started(release, work), work, "cluster away")
    assert (failed.state, next_pending_step(failed)) == (ReleaseState.ROLLBACK_FAILED, None)
    with pytest.raises(Refused, match="rolled back"):
        apply_command(failed, ADVANCE, {}, NOW)
    assert next_pending_step(apply_command(failed, ROLLBACK, {}, NOW)) == work


def test_pause_holds_back_further_steps_but_never_a_rollback() -> None:
    release = apply_command(apply_command(fresh(), ADVANCE, {}, NOW), PAUSE, {}, NOW)
    assert next_pending_step(release) is None
    with pytest.raises(Refused, match="paused already"):
        apply_command(release, PAUSE, {}, NOW)
    with pytest.raises(Refused, match="resume it first"):
        apply_command(release, ADVANCE, {}, NOW)
    assert next_pending_step(apply_command(release, RESUME, {}, NOW)) is not None
    assert apply_command(release, ROLLBACK, {}, NOW).paused is False


class AnySequence(RuleBasedStateMachine):
    """Commands, crashes, failures and readings in any order: the invariants of the design hold throughout."""

    def __init__(self) -> None:
        super().__init__()
        self.release = fresh(sync_by_trigger=True)
        self.gates: dict[str, GateReading] = {}
        self.now = NOW

    @property
    def strategy(self) -> Strategy:
        return self.release.strategy

    @rule(seconds=st.sampled_from([0.0, 1.0, 9.0, 11.0, 3600.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(verdicts=st.lists(st.sampled_from(list(Verdict)), min_size=3, max_size=3), all_pass=st.booleans())
    def gates_are_checked(self, verdicts: list[Verdict], all_pass: bool) -> None:
        for phase in self.strategy.phases:
            for gate, verdict in zip(phase.gates, verdicts, strict=False):
                chosen = Verdict.PASS if all_pass else verdict
                self.gates[gate.name] = GateReading(gate.name, chosen, "", self.now)

    @rule(kind=st.sampled_from(list(CommandKind)), typed=st.sampled_from([None, "users-full-name", "nonsense"]))
    def operator_commands(self, kind: CommandKind, typed: str | None) -> None:
        before = self.release
        try:
            after = apply_command(before, Command(kind, typed=typed), self.gates, self.now)
        except Refused:
            return
        if after.phase != before.phase:
            assert after.phase == before.phase + 1, "a phase was skipped"
            if before.current_phase is not None:
                for gate in before.current_phase.gates:
                    reading = self.gates[gate.name]
                    assert reading.verdict is Verdict.PASS, "a phase was left through a closed gate"
                    assert self.now - reading.observed_at <= reading.max_age, "a phase was left on stale data"
                assert not before.current_phase.typed_confirm or typed == before.name
        self.release = after

    @precondition(lambda self: next_pending_step(self.release) is not None)
    @rule(outcome=st.sampled_from(["done", "done", "done", "fails", "crash after start", "crash before start"]))
    def agent_works(self, outcome: str) -> None:
        work = next_pending_step(self.release)
        assert work is not None
        if outcome == "crash before start":
            return
        began = mark_step_started(self.release, work)
        if outcome == "crash after start":
            assert next_pending_step(began) == work, "the next agent would not repeat the interrupted step"
            self.release = began
        elif outcome == "fails":
            self.release = mark_step_failed(began, work, "because")
        else:
            self.release = mark_step_finished(began, work)

    @rule()
    def agent_restarts(self) -> None:
        assert next_state(self.release) == self.release, "a stored state needs no further transition"

    @rule()
    def last_gate(self) -> None:
        after = complete_if_open(self.release, self.gates, self.now)
        if after.state is ReleaseState.DONE and self.release.state is not ReleaseState.DONE:
            assert self.release.next_phase is None
            assert not closed_gates(self.release, self.gates, self.now)
        self.release = after

    @invariant()
    def steps_run_in_order(self) -> None:
        if self.release.state.is_rolling_back:
            return
        statuses = list(self.release.statuses)
        first_open = next((i for i, s in enumerate(statuses) if s is not StepStatus.DONE), len(statuses))
        assert all(s is StepStatus.PENDING for s in statuses[first_open + 1 :])
        for spec, status in zip(self.strategy.steps, statuses, strict=True):
            if status.has_effect:
                phase = next(at for at, phase in enumerate(self.strategy.phases) if spec in phase.steps)
                assert phase <= self.release.phase

    @invariant()
    def rollback_is_possible_until_the_drop(self) -> None:
        if self.release.state.has_ended:
            return
        if is_irreversible(self.release):
            with pytest.raises(Refused):
                apply_command(self.release, ROLLBACK, {}, self.now)
        else:
            back = apply_command(self.release, ROLLBACK, {}, self.now)
            assert back.state is (ReleaseState.ROLLING_BACK if next_pending_step(back) else ReleaseState.ROLLED_BACK)

    @invariant()
    def rolled_back_means_no_effect_is_left(self) -> None:
        if self.release.state is ReleaseState.ROLLED_BACK:
            assert not any(status.has_effect for status in self.release.statuses)

    @invariant()
    def done_means_every_step_is_done(self) -> None:
        if self.release.state is ReleaseState.DONE:
            assert set(self.release.statuses) == {StepStatus.DONE}


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)


@given(st.sampled_from(PHASES[:-1]), st.lists(st.booleans(), max_size=60))
@settings(deadline=None, max_examples=50)
def test_a_repeated_rollback_always_completes(phase: str, failures: list[bool]) -> None:
    """With undos that fail now and then, repeating the command completes the rollback."""
    release = apply_command(to_waiting(phase), ROLLBACK, {}, NOW)
    error = iter(failures)
    while release.state is not ReleaseState.ROLLED_BACK:
        work = next_pending_step(release)
        if work is None:
            release = apply_command(release, ROLLBACK, {}, NOW)
            continue
        began = mark_step_started(release, work)
        release = mark_step_failed(began, work, "x") if next(error, False) else mark_step_finished(began, work)
    assert not any(status.has_effect for status in release.statuses)


# --- late commands ----------------------------------------------------------------------------------------------------


def late(kind: CommandKind, expected: Precondition | None, seconds: float = LATE_SECONDS + 1) -> Command:
    return Command(kind, expected, confirmed_at=NOW - seconds)


def test_a_late_rollback_takes_effect_only_in_the_phase_that_was_confirmed() -> None:
    release = to_waiting("backfill")
    seen = Precondition(release.plan_hash, ReleaseState.RUNNING, release.phase)
    assert apply_command(release, late(CommandKind.ROLLBACK, seen), {}, NOW).state is ReleaseState.ROLLING_BACK
    earlier = replace(seen, phase=release.phase - 1)
    with pytest.raises(Refused, match="expired: confirmed 31s ago in running in dual-write; the release is waiting in"):
        apply_command(release, late(CommandKind.ROLLBACK, earlier), {}, NOW)
    in_time = late(CommandKind.ROLLBACK, earlier, LATE_SECONDS - 1)
    assert apply_command(release, in_time, {}, NOW).state is ReleaseState.ROLLING_BACK


def test_of_late_commands_that_confirmed_nothing_only_a_pause_takes_effect() -> None:
    release = to_waiting("backfill")
    paused = apply_command(release, late(CommandKind.PAUSE, None), {}, NOW)
    assert paused.paused
    with pytest.raises(Refused, match="expired"):
        apply_command(paused, late(CommandKind.RESUME, None), {}, NOW)
    # The guard's commands carry no time: they count whenever an agent takes them.
    assert apply_command(release, ROLLBACK, {}, NOW).state is ReleaseState.ROLLING_BACK

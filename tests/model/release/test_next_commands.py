"""The commands that make sense in each state, and that they are exactly what the rules accept."""

from dataclasses import replace

import pytest

from zdd_tui.model.errors import Refused
from zdd_tui.model.phase import Phase
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.next_commands import NextCommand, explain_refusal, next_commands, pause_or_resume
from zdd_tui.model.release.state import (
    Command,
    CommandKind,
    Release,
    ReleaseState,
    StepStatus,
    apply_command,
    explain_ended,
    requires_name,
)
from zdd_tui.model.release.strategies import build_blue_green
from zdd_tui.model.release.strategy import Strategy, build_expand_contract

NOW = 1_700_000_000.0
STRATEGY = build_expand_contract()
ADVANCE, PAUSE, RESUME, ROLLBACK = CommandKind.ADVANCE, CommandKind.PAUSE, CommandKind.RESUME, CommandKind.ROLLBACK
PHASES = list(Phase)


def release(state: ReleaseState, phase: Phase | None = Phase.CUTOVER, *, paused: bool = False) -> Release:
    index = -1 if phase is None else PHASES.index(phase)
    done = sum(len(each.steps) for each in STRATEGY.phases[:index]) if index > 0 else 0
    done += len(STRATEGY.phases[index].steps) if state is ReleaseState.WAITING else 0
    statuses = (StepStatus.DONE,) * done + (StepStatus.PENDING,) * (len(STRATEGY.steps) - done)
    return Release("users", "hash", STRATEGY, state, index, statuses, paused)


def gates(verdict: Verdict = Verdict.PASS) -> dict[str, GateReading]:
    names = {gate.name for phase in STRATEGY.phases for gate in phase.gates}
    return {name: GateReading(name, verdict, "reason", NOW) for name in names}


def commands(of: Release, verdict: Verdict = Verdict.PASS, *, has_agent: bool = True) -> tuple[NextCommand, ...]:
    return next_commands(of, gates(verdict), NOW, has_agent=has_agent)


@pytest.mark.parametrize(
    ("of", "verdict", "kinds"),
    [
        (release(ReleaseState.PLANNED, None), Verdict.PASS, [ADVANCE, ROLLBACK]),
        (release(ReleaseState.RUNNING), Verdict.PASS, [PAUSE, ROLLBACK]),
        (release(ReleaseState.RUNNING, paused=True), Verdict.PASS, [RESUME, ROLLBACK]),
        (release(ReleaseState.WAITING), Verdict.PASS, [ADVANCE, ROLLBACK]),
        (release(ReleaseState.WAITING), Verdict.FAIL, [ADVANCE, ROLLBACK]),
        (release(ReleaseState.WAITING, paused=True), Verdict.PASS, [RESUME, ADVANCE, ROLLBACK]),
        (release(ReleaseState.FAILED), Verdict.PASS, [ADVANCE, ROLLBACK]),
        (release(ReleaseState.FAILED, paused=True), Verdict.PASS, [RESUME, ADVANCE, ROLLBACK]),
        (release(ReleaseState.ROLLING_BACK), Verdict.PASS, []),
        (release(ReleaseState.ROLLBACK_FAILED), Verdict.PASS, [ROLLBACK]),
        (release(ReleaseState.ROLLED_BACK), Verdict.PASS, []),
        (release(ReleaseState.DONE, Phase.CLEANUP), Verdict.PASS, []),
        (release(ReleaseState.WAITING, Phase.CLEANUP), Verdict.PENDING, []),
    ],
)
def test_every_state_offers_its_commands_in_order(of: Release, verdict: Verdict, kinds: list[CommandKind]) -> None:
    assert [each.kind for each in commands(of, verdict)] == kinds


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.PENDING])
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("state", list(ReleaseState))
def test_an_offered_command_is_accepted_unless_it_says_what_blocks_it(
    state: ReleaseState, paused: bool, verdict: Verdict
) -> None:
    for phase in (None, *Phase):
        if (phase is None) is not (state is ReleaseState.PLANNED):
            continue
        of = release(state, phase, paused=paused)
        for each in commands(of, verdict):
            assert each.kind is not None
            command = Command(each.kind, typed="users")
            if each.blocked_until:
                with pytest.raises(Refused):
                    apply_command(of, command, gates(verdict), NOW)
            else:
                assert apply_command(of, command, gates(verdict), NOW) != of
            assert each.requires_name is requires_name(of, each.kind)


def test_a_command_says_what_it_does_and_what_blocks_it() -> None:
    advance, rollback = commands(release(ReleaseState.WAITING))
    assert (advance.label, advance.is_primary, advance.blocked_until) == ("runs contract", True, "")
    assert (rollback.label, rollback.is_primary) == ("rolls back", True)
    assert commands(release(ReleaseState.WAITING), Verdict.PENDING)[0].label == "runs contract once all gates pass"
    resume, advance, _ = commands(release(ReleaseState.FAILED, paused=True))
    assert resume.label == "resumes"
    assert advance.label == "retries the failed step once it is resumed"
    assert commands(release(ReleaseState.ROLLBACK_FAILED))[0].label == "retries the undo"
    leave_contract = commands(release(ReleaseState.WAITING, Phase.CONTRACT))[0]
    assert leave_contract.requires_name


def test_without_an_agent_starting_one_comes_first() -> None:
    first, *others = commands(release(ReleaseState.RUNNING), has_agent=False)
    assert (first.kind, first.is_primary) == (None, True)
    assert [each.kind for each in others] == [PAUSE, ROLLBACK]
    assert commands(release(ReleaseState.DONE), has_agent=False) == ()


def test_an_irreversible_release_offers_no_rollback() -> None:
    dropped = release(ReleaseState.FAILED, Phase.CLEANUP).with_status("drop-archive", StepStatus.DONE)
    assert [each.kind for each in commands(dropped)] == [ADVANCE]


def test_pause_and_resume_take_turns() -> None:
    running = release(ReleaseState.RUNNING)
    assert pause_or_resume(None) is PAUSE
    assert pause_or_resume(running) is PAUSE
    assert pause_or_resume(replace(running, paused=True)) is RESUME


def test_a_second_rollback_is_refused_because_it_changes_nothing() -> None:
    assert explain_refusal(release(ReleaseState.ROLLING_BACK), ROLLBACK, {}, NOW) == (
        "the release is being rolled back already"
    )


@pytest.mark.parametrize("state", [ReleaseState.DONE, ReleaseState.ROLLED_BACK])
@pytest.mark.parametrize("kind", CommandKind)
def test_an_ended_release_has_one_answer_to_every_command(state: ReleaseState, kind: CommandKind) -> None:
    ended = Release("users", "hash", build_expand_contract(), state)
    found = explain_refusal(ended, kind, {}, 0.0)
    assert found.startswith(f"release users has ended: it is {state.text}")
    assert found.endswith("(to begin another: zdd agent --new PLAN)")
    in_region = explain_ended(ended, "p.yaml", "eu").title
    assert in_region.startswith(f"release users has ended in region eu: it is {state.text}")
    assert explain_ended(ended, "p.yaml").hint == "to begin another: zdd agent --new p.yaml"


@pytest.mark.parametrize(("strategy", "first"), [(STRATEGY, "reads"), (build_blue_green(), "the newest")])
def test_a_rollback_names_what_it_undoes_first(strategy: Strategy, first: str) -> None:
    statuses = (StepStatus.DONE,) + (StepStatus.PENDING,) * (len(strategy.steps) - 1)
    running = Release("users", "hash", strategy, ReleaseState.RUNNING, 0, statuses)
    effects = {each.kind: each.effect for each in next_commands(running, {}, NOW, has_agent=True)}
    assert effects[ROLLBACK] == f"undoes every step, {first} first"

"""The timeline of a release, built from its audit."""

from zdd_tui.model.plan.operations import OperationsPlan
from zdd_tui.model.plan.strategies import CanaryPlan, DarkLaunchPlan
from zdd_tui.model.release.gate_rows import GATE_DESCRIPTIONS
from zdd_tui.model.release.records import Actor, Event
from zdd_tui.model.release.regions import REGION_GATE
from zdd_tui.model.release.strategies import (
    add_guard_gate,
    build_blue_green,
    build_canary,
    build_dark_launch,
    build_operations,
    build_rolling,
)
from zdd_tui.model.release.strategy import build_expand_contract
from zdd_tui.model.release.timeline import PhaseSpan, StepAttempt, build_timeline

AGENT = Actor("agent", "bastion")


def make_audit_log(*lines: tuple[float, str, str]) -> tuple[PhaseSpan, ...]:
    events = [Event(number, at, AGENT, kind, what) for number, (at, kind, what) in enumerate(lines)]
    return build_timeline(build_expand_contract(), events)


def attempt_names(span: PhaseSpan) -> list[StepAttempt]:
    return [item for item in span.items if isinstance(item, StepAttempt)]


def test_a_failed_and_a_cut_off_run_are_separate_attempts() -> None:
    (expand,) = make_audit_log(
        (1, "step", "run lint-ddl begins: lint"),
        (2, "error", "run lint-ddl failed: no\nbecause: of: colons"),
        (5, "step", "run lint-ddl begins: lint"),
        (9, "step", "run lint-ddl begins: lint"),
        (10, "step", "run lint-ddl done"),
    )
    first, second, third = attempt_names(expand)
    assert (first.outcome, first.ended_at, first.error) == ("failed", 2, "no\nbecause: of: colons")
    assert (second.outcome, second.ended_at, second.number) == ("cut off", 9, 2)
    assert (third.outcome, third.ended_at, third.number) == ("done", 10, 3)
    assert (expand.name, expand.started_at, expand.ended_at) == ("expand", 1, 10)


def test_a_breach_ends_the_attempt_that_it_stops() -> None:
    (expand,) = make_audit_log(
        (1, "step", "run lint-ddl begins: lint"),
        (4, "condition", "breach: Deployment users-api has image 1"),
        (8, "condition", "holds again after 4s: image users-api"),
        (8, "step", "run lint-ddl begins: lint"),
    )
    first, second = attempt_names(expand)
    assert (first.outcome, first.ended_at) == ("breached", 4)
    assert (second.outcome, second.number, second.ended_at) == ("running", 2, None)
    back = make_audit_log((1, "step", "revert lint-ddl begins"), (4, "condition", "breach: a trigger is missing"))
    assert [each.outcome for each in attempt_names(back[0])] == ["running"]


def test_phases_follow_each_other_and_a_rollback_is_one_span() -> None:
    expand, dual, back = make_audit_log(
        (1, "step", "run expand-schema begins: x"),
        (2, "step", "run expand-schema done"),
        (3, "phase", "expand: waiting"),
        (4, "step", "run rollout-v2 begins: x"),
        (4.5, "guard", "errors: inconclusive"),
        (5, "guard", "errors: fail"),
        (6, "step", "revert rollout-v2 begins: x"),
        (7, "step", "revert rollout-v2 done"),
        (8, "step", "revert expand-schema begins: x"),
    )
    assert [each.name for each in (expand, dual, back)] == ["expand", "dual-write", "rollback"]
    assert [item.message for item in dual.items if isinstance(item, Event)] == ["errors: fail"]
    assert [(each.outcome, each.ended_at) for each in attempt_names(dual)] == [("stopped", 6)]
    assert [each.is_undo for each in attempt_names(back)] == [True, True]
    assert back.ended_at is None


def test_events_before_the_first_step_are_kept_and_gates_only_on_request() -> None:
    lines = ((1.0, "release", "registered"), (2.0, "gate", "x: pass"), (3.0, "step", "run something-else begins: y"))
    (before,) = make_audit_log(*lines)
    assert (before.name, len(before.items)) == ("before", 2)
    events = [Event(number, at, AGENT, kind, what) for number, (at, kind, what) in enumerate(lines)]
    assert len(build_timeline(build_expand_contract(), events, include_gates=True)[0].items) == 3


def test_every_gate_has_a_description() -> None:
    common = {"name": "x", "database": {"dsn": "postgresql:///x"}, "kubernetes": {"deployment": "x", "image": "x:2"}}
    flag = {"url": "redis:///", "key": "x"}
    plans = [
        CanaryPlan.model_validate(common | {"strategy": "canary", "canary": {"weights": [10], **more}})
        for more in ({}, {"flag": flag, "by": "flag"})
    ]
    dark = DarkLaunchPlan.model_validate(
        common
        | {
            "strategy": "dark-launch",
            "flags": {"url": "redis:///", "shadow": "a", "read": "b"},
            "dark": {"path": "p"},
        }
    )
    strategies = [
        build_expand_contract(witness=True),
        build_rolling(),
        build_blue_green(),
        build_dark_launch(dark),
        *map(build_canary, plans),
        build_operations(
            OperationsPlan.model_validate(common | {"operations": ["ALTER TABLE t ADD n serial", "DROP TABLE u"]})
        ),
    ]
    gates = {gate.name for each in strategies for phase in add_guard_gate(each).phases for gate in phase.gates}
    assert gates | {REGION_GATE} == set(GATE_DESCRIPTIONS)
    assert all(ask.system and ask.query and ask.expected for ask in GATE_DESCRIPTIONS.values())

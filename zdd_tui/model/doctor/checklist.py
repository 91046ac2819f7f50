"""The eight points of the release checklist. Each is proven by evidence; only where none can be had, a person answers.

An answer counts for the version of the plan that it was given for, never against evidence, and always with its name
and date.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from zdd_tui.model.doctor import pitfalls, probes
from zdd_tui.model.doctor.evidence import check_production_volume_rehearsed, rollback_rule_names
from zdd_tui.model.doctor.facts import (
    DoctorFacts,
    DoctorRule,
    Finding,
    Observation,
    fail_observation,
    inconclusive_observation,
    pass_observation,
    run_rules,
)
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.release.gate import Verdict

DoctorCheck = Callable[[DoctorFacts], Iterator[Observation]]


@dataclass(frozen=True, slots=True)
class ChecklistItem:
    """A point of the checklist.

    Attributes:
        question: the question for a person, where only a person knows what evidence leaves open; else empty.
    """

    id: str
    title: str
    check: DoctorCheck
    question: str = ""


def check_backward_compatible(facts: DoctorFacts) -> Iterator[Observation]:
    yield from pitfalls.check_breaking_migration(facts)


def check_health_and_ready(facts: DoctorFacts) -> Iterator[Observation]:
    workload = facts.workload.value
    if workload is None:
        yield facts.workload.as_unknown
        return
    yield from probes.check_declared_probes(workload)
    yield from probes.check_trials(facts, probes.READINESS_TRIAL, "readiness with its database away")


def check_drain_timeout(facts: DoctorFacts) -> Iterator[Observation]:
    workload = facts.workload.value
    if workload is None:
        yield facts.workload.as_unknown
        return
    yield from probes.check_shutdown(workload)


def check_flags(facts: DoctorFacts) -> Iterator[Observation]:
    plan = facts.plan
    if isinstance(plan, Plan):
        yield pass_observation(f"reads switch by {plan.flags.read}, writes by {plan.flags.write}")
    elif plan.flag_roles:
        yield pass_observation(f"the new path is taken by {', '.join(plan.flag_roles)}")
    else:
        yield inconclusive_observation(
            f"{plan.strategy}: no flag; the image alone brings what is new, and a rollback takes it away"
        )
        return
    yield inconclusive_observation("whether the new images change anything else, no machine knows")


def check_graceful_shutdown(facts: DoctorFacts) -> Iterator[Observation]:
    yield from probes.check_trials(facts, probes.SHUTDOWN_TRIAL, "SIGTERM")


def check_external_sessions(facts: DoctorFacts) -> Iterator[Observation]:
    yield from pitfalls.check_sticky_sessions(facts)
    yield inconclusive_observation("no manifest shows whether the application keeps sessions at all")


def check_rollback_triggers(facts: DoctorFacts) -> Iterator[Observation]:
    rules = rollback_rule_names(facts.plan)
    if rules:
        yield pass_observation(f"the guard rolls back by {', '.join(rules)}")
    else:
        yield fail_observation("no rule of the guard rolls back", "add guard rules with action: rollback to the plan")


def check_production_volume(facts: DoctorFacts) -> Iterator[Observation]:
    yield check_production_volume_rehearsed(facts)


CHECKLIST = (
    ChecklistItem("schema", "the schema change is backward-compatible", check_backward_compatible),
    ChecklistItem(
        "health-ready",
        "separate /health and /ready, with dependency checks",
        check_health_and_ready,
        "does /ready fail while the database is away?",
    ),
    ChecklistItem("drain", "a drain timeout", check_drain_timeout),
    ChecklistItem("flags", "flags for all logic", check_flags, "is all new logic behind these flags?"),
    ChecklistItem(
        "shutdown", "graceful shutdown", check_graceful_shutdown, "does each image shut down cleanly on SIGTERM?"
    ),
    ChecklistItem(
        "sessions",
        "sessions are kept outside",
        check_external_sessions,
        "are sessions outside of the pods, or are none?",
    ),
    ChecklistItem("triggers", "rollback triggers", check_rollback_triggers),
    ChecklistItem(
        "volume",
        "tested with production-like volume",
        check_production_volume,
        "was it tested with such a volume, where?",
    ),
)


def check_checklist(facts: DoctorFacts) -> tuple[Finding, ...]:
    return run_rules((DoctorRule(point.id, point.title, partial(_check_item, point)) for point in CHECKLIST), facts)


def _check_item(item: ChecklistItem, facts: DoctorFacts) -> Iterator[Observation]:
    seen = list(item.check(facts))
    if not item.question:
        yield from seen
        return
    verdicts = {observation.verdict for observation in seen}
    if Verdict.FAIL in verdicts or verdicts <= {Verdict.PASS}:
        # An answer never overrides evidence against it, and proof needs no answer.
        yield from seen
        return
    answer = _recorded_answer(item, facts)
    if answer is None:
        for observation in seen:
            open_ = observation.verdict is Verdict.INCONCLUSIVE
            hint = f"zdd doctor PLAN --answer {item.id} --reason TEXT  ({item.question})"
            yield Observation(observation.verdict, observation.text, hint) if open_ else observation
        return
    # What could not be examined stays unknown; the answer settles what evidence leaves open.
    yield from (each for each in seen if each.verdict is not Verdict.INCONCLUSIVE)
    yield answer


def _recorded_answer(item: ChecklistItem, facts: DoctorFacts) -> Observation | None:
    history = facts.history.value
    given = [
        each for each in (history.evidence if history else ()) if each.source == "person" and each.item_id == item.id
    ]
    if not given:
        return None
    newest = max(given, key=lambda each: each.at)
    text = f"{newest.actor} on {datetime.fromtimestamp(newest.at, UTC):%Y-%m-%d}: {newest.text}"
    if newest.plan_hash != facts.plan_hash:
        hint = f"zdd doctor PLAN --answer {item.id} --reason TEXT  ({item.question})"
        return inconclusive_observation(f"answered for another version of the plan, {text}", hint)
    return pass_observation(text)

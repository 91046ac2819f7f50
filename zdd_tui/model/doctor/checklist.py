"""The eight points of the release checklist. Each is proven by evidence; only where none can be had, a person answers.

An answer counts for the version of the plan that it was given for, never against evidence, and always with its name
and date.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from zdd_tui.model.doctor import pitfalls, probes
from zdd_tui.model.doctor.evidence import at_production_volume, rollback_rules
from zdd_tui.model.doctor.facts import Facts, Finding, Observation, Rule, apply, failed, passed, unsure
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.release.gate import Verdict

Judge = Callable[[Facts], Iterator[Observation]]


@dataclass(frozen=True, slots=True)
class Point:
    """A point of the checklist.

    Attributes:
        asks: the question for a person, where only a person knows what evidence leaves open; else empty.
    """

    id: str
    title: str
    judge: Judge
    asks: str = ""


def backward_compatible(facts: Facts) -> Iterator[Observation]:
    yield from pitfalls.breaking_migration(facts)


def health_and_ready(facts: Facts) -> Iterator[Observation]:
    workload = facts.workload.value
    if workload is None:
        yield facts.workload.failure
        return
    yield from probes.declared_probes(workload)
    yield from probes.tried(facts, probes.READINESS_TRIAL, "readiness with its database away")


def drain_timeout(facts: Facts) -> Iterator[Observation]:
    workload = facts.workload.value
    if workload is None:
        yield facts.workload.failure
        return
    yield from probes.ending(workload)


def flags_for_all(facts: Facts) -> Iterator[Observation]:
    plan = facts.plan
    if isinstance(plan, Plan):
        yield passed(f"reads switch by {plan.flags.read}, writes by {plan.flags.write}")
    elif plan.flag_roles:
        yield passed(f"the new path is taken by {', '.join(plan.flag_roles)}")
    else:
        yield unsure(f"{plan.strategy}: no flag; the image alone brings what is new, and a rollback takes it away")
        return
    yield unsure("whether the new images change anything else, no machine knows")


def graceful_shutdown(facts: Facts) -> Iterator[Observation]:
    yield from probes.tried(facts, probes.SHUTDOWN_TRIAL, "SIGTERM")


def external_sessions(facts: Facts) -> Iterator[Observation]:
    yield from pitfalls.sticky_sessions(facts)
    yield unsure("whether the application keeps sessions at all, no manifest tells")


def rollback_triggers(facts: Facts) -> Iterator[Observation]:
    rules = rollback_rules(facts.plan)
    if rules:
        yield passed(f"the guard rolls back by {', '.join(rules)}")
    else:
        yield failed("no rule of the guard rolls back", "add guard rules with action: rollback to the plan")


def production_volume(facts: Facts) -> Iterator[Observation]:
    yield at_production_volume(facts)


POINTS = (
    Point("schema", "the schema change is backward-compatible", backward_compatible),
    Point(
        "health-ready",
        "separate /health and /ready, with dependency checks",
        health_and_ready,
        "does /ready say no while the database is away?",
    ),
    Point("drain", "a drain timeout", drain_timeout),
    Point("flags", "flags for all logic", flags_for_all, "is all new logic behind these flags?"),
    Point("shutdown", "graceful shutdown", graceful_shutdown, "does each image end cleanly on SIGTERM?"),
    Point("sessions", "sessions are kept outside", external_sessions, "are sessions outside of the pods, or are none?"),
    Point("triggers", "rollback triggers", rollback_triggers),
    Point(
        "volume", "tested with production-like volume", production_volume, "was it tested with such a volume, where?"
    ),
)


def check_points(facts: Facts) -> tuple[Finding, ...]:
    return apply((Rule(point.id, point.title, partial(_judge, point)) for point in POINTS), facts)


def _judge(point: Point, facts: Facts) -> Iterator[Observation]:
    seen = list(point.judge(facts))
    if not point.asks:
        yield from seen
        return
    verdicts = {observation.verdict for observation in seen}
    if Verdict.FAIL in verdicts or verdicts <= {Verdict.PASS}:
        # Evidence against it is not talked away, and proof needs no word.
        yield from seen
        return
    answer = _answer(point, facts)
    if answer is None:
        for observation in seen:
            open_ = observation.verdict is Verdict.INCONCLUSIVE
            mend = f"{point.asks} zdd doctor PLAN --answer {point.id} --reason TEXT"
            yield Observation(observation.verdict, observation.text, mend) if open_ else observation
        return
    # What could not be looked at stays unknown; the answer closes what evidence leaves open.
    yield from (each for each in seen if each.verdict is not Verdict.INCONCLUSIVE)
    yield answer


def _answer(point: Point, facts: Facts) -> Observation | None:
    history = facts.history.value
    given = [
        each for each in (history.evidence if history else ()) if each.source == "person" and each.point == point.id
    ]
    if not given:
        return None
    newest = max(given, key=lambda each: each.at)
    told = f"{newest.who} on {datetime.fromtimestamp(newest.at, UTC):%Y-%m-%d}: {newest.text}"
    if newest.plan_hash != facts.plan_hash:
        mend = f"{point.asks} zdd doctor PLAN --answer {point.id} --reason TEXT"
        return unsure(f"answered for another version of the plan, {told}", mend)
    return passed(told)

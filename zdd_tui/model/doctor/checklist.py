"""The eight points of the release checklist. Each is proven by evidence; only where none can be had, a person answers.

An answer counts for the version of the plan that it was given for, never against evidence, and always with its name
and date.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from zdd_tui.model.counting import count_noun
from zdd_tui.model.doctor import pitfalls
from zdd_tui.model.doctor.facts import DoctorFacts, DoctorRule, Finding, Observation, failed, inconclusive, passed
from zdd_tui.model.doctor.pitfalls import REHEARSE
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.plan.guard import GuardAction
from zdd_tui.model.release.gate import Verdict


def check_health_and_ready(facts: DoctorFacts) -> Iterator[Observation]:
    yield from pitfalls.check_declared_probes(facts.workload.require())
    yield from pitfalls.check_trials(facts, pitfalls.READINESS_TRIAL, "readiness without its database")


def check_flags(facts: DoctorFacts) -> Iterator[Observation]:
    plan = facts.plan
    if isinstance(plan, Plan):
        yield passed(f"reads switch by {plan.flags.read}, writes by {plan.flags.write}")
    elif plan.flag_roles:
        yield passed(f"the new path is taken by {', '.join(plan.flag_roles)}")
    else:
        yield inconclusive(f"{plan.strategy}: no flag; the image alone brings what is new, and a rollback removes it")
        return
    yield inconclusive("whether the new images change anything else cannot be determined automatically")


def check_external_sessions(facts: DoctorFacts) -> Iterator[Observation]:
    yield from pitfalls.check_sticky_sessions(facts)
    yield inconclusive("no manifest shows whether the application keeps sessions at all")


def check_rollback_triggers(facts: DoctorFacts) -> Iterator[Observation]:
    actions = facts.plan.guard.rule_actions if facts.plan.guard else {}
    rules = [name for name, action in actions.items() if action is GuardAction.ROLLBACK]
    if rules:
        yield passed(f"the guard rolls back by {', '.join(rules)}")
    else:
        yield failed("no rule of the guard rolls back", "add guard.rules with action: rollback to the plan")


def check_production_volume(facts: DoctorFacts) -> Iterator[Observation]:
    """Whether the rehearsal had production's volume."""
    rehearsals = facts.history.require().rehearsals
    good = [each for each in rehearsals if each.plan_hash == facts.plan_hash and each.verdict == Verdict.PASS]
    if not good:
        yield inconclusive("no rehearsal of this version of the plan", f"{REHEARSE}, at full volume")
        return
    best = max(good, key=lambda each: each.scale or 0.0)
    text = f"rehearsed on {best.where}" + (f" with {count_noun(best.rows, 'row')}" if best.rows is not None else "")
    if best.scale is None:
        yield inconclusive(f"{text}; production's volume was not compared", REHEARSE)
    elif best.scale >= 1.0:
        yield passed(f"{text}, all of production's volume")
    else:
        yield inconclusive(f"{text}, {best.scale:.0%} of production's volume", f"{REHEARSE} --scale 1")


CHECKLIST = (
    DoctorRule("schema", "the schema change is backward-compatible", pitfalls.check_breaking_migration),
    DoctorRule(
        "health-ready",
        "separate /health and /ready, with dependency checks",
        check_health_and_ready,
        "does /ready fail while the database is down?",
    ),
    DoctorRule("drain", "a drain timeout", lambda facts: pitfalls.check_shutdown(facts.workload.require())),
    DoctorRule("flags", "all new logic is behind flags", check_flags, "is all new logic behind these flags?"),
    DoctorRule(
        "shutdown",
        "graceful shutdown",
        lambda facts: pitfalls.check_trials(facts, pitfalls.SHUTDOWN_TRIAL, "SIGTERM"),
        "does each image shut down cleanly on SIGTERM?",
    ),
    DoctorRule(
        "sessions",
        "sessions are kept outside the pods",
        check_external_sessions,
        "are sessions kept outside the pods, or are there none?",
    ),
    DoctorRule("triggers", "rollback triggers", check_rollback_triggers),
    DoctorRule(
        "volume",
        "tested with production-like volume",
        check_production_volume,
        "was it tested with such a volume, and where?",
    ),
)


def check_checklist(facts: DoctorFacts) -> tuple[Finding, ...]:
    return tuple(Finding(item.id, item.title, tuple(_check_item(item, facts))) for item in CHECKLIST)


def _check_item(item: DoctorRule, facts: DoctorFacts) -> Iterator[Observation]:
    seen = list(item.examine(facts))
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


def _recorded_answer(item: DoctorRule, facts: DoctorFacts) -> Observation | None:
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
        return inconclusive(f"answered for another version of the plan, {text}", hint)
    return passed(text)

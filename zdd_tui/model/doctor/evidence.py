"""What the doctor reads from a plan of any strategy."""

import re
from collections.abc import Iterator
from datetime import date

from zdd_tui.model.doctor.facts import (
    DoctorFacts,
    Observation,
    RollbackRecord,
    WorkloadFacts,
    fail_observation,
    inconclusive_observation,
    pass_observation,
)
from zdd_tui.model.duration import format_duration
from zdd_tui.model.plan.base import BasePlan, Plan
from zdd_tui.model.plan.guard import GuardAction
from zdd_tui.model.plan.strategies import SingleImagePlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.strategies import build_strategy
from zdd_tui.model.sql import fold_name, readable_tokens


def find_flag_owner(plan: BasePlan) -> tuple[str | None, date | None]:
    """The owner of the plan's flags, and the date by which they must be removed."""
    section = plan.flag_section
    return (section.owner, section.expires) if section else (None, None)


def list_images(plan: BasePlan, workload: WorkloadFacts | None) -> Iterator[tuple[str, str]]:
    """The images that are rolled out and the one that runs, each with its role."""
    seen: dict[str, str] = {}
    match plan:
        case Plan():
            seen = {plan.kubernetes.images.v2: "V2", plan.kubernetes.images.v3: "V3"}
        case SingleImagePlan():
            seen = {plan.kubernetes.image: "new"}
    for image, role in seen.items():
        yield role, image
    if workload is not None and workload.image not in seen:
        yield "that runs", workload.image


def soak_step_labels(plan: BasePlan) -> tuple[str, ...]:
    """Labels of the soak steps, in which metrics must be watched.

    Not those of shadow reads: there the gate compares the new path with the old one.
    """
    steps = build_strategy(plan).steps
    soaks = (step for step in steps if "soak" in (step.name, step.handler))
    return tuple(step.label for step in soaks if not step.name.startswith("soak-shadow"))


def guard_acts(plan: BasePlan) -> bool:
    """Whether some rule of the guard does more than alert."""
    return plan.guard is not None and plan.guard.closes_gates


def rollback_rule_names(plan: BasePlan) -> tuple[str, ...]:
    """Names of the guard's rules that roll back."""
    demanded = plan.guard.rule_actions if plan.guard else {}
    return tuple(name for name, action in demanded.items() if action is GuardAction.ROLLBACK)


# --- Which queries name the old side of a change.


_DML_KEYWORDS = frozenset({"select", "insert", "update", "delete", "merge", "with", "table", "copy"})
_NAME_KINDS = frozenset({"word", "name"})
_MASKS = {**dict.fromkeys(("string", "escaped", "dollar", "unreadable"), "'…'"), "number": "…", "comment": ""}


def references_old_side(plan: BasePlan, query: str) -> bool:
    """Whether a query, as PostgreSQL shows it, reads or writes what contract takes away.

    For a change of columns it must name the table and one of the old columns; for a change of tables, the old table.
    ``SELECT *`` names no column: it survives the change, and its use of the result cannot be seen here.
    Schema changes, such as our own, are left out.
    """
    if not isinstance(plan, Plan):
        return False
    tokens = [token for token in readable_tokens(query) if token.kind != "comment"]
    first = next((fold_name(token) for token in tokens if token.kind in _NAME_KINDS), "")
    if first not in _DML_KEYWORDS:
        return False
    names = {fold_name(token) for token in tokens if token.kind in _NAME_KINDS}
    if tokens[-1].kind == "unreadable":  # cut off inside a string, as far as we can see: every word may be a name
        names.update(re.findall(r"\w+", tokens[-1].text.lower()))
    if plan.change.table.name not in names:
        return False
    return plan.change.into is not None or any(column in names for column in plan.change.down)


def redact_query(query: str, length: int = 100) -> str:
    """A query for a line of evidence, without its strings and numbers, which may be personal data."""
    end, parts = 0, []
    for token in readable_tokens(query):
        parts += [" " if token.start > end else "", _MASKS.get(token.kind, token.text)]
        end = token.end
    text = " ".join("".join(parts).split())
    return text if len(text) <= length else text[: length - 1] + "…"


# --- Was the rollback rehearsed, and with how many rows?


_HINT = "zdd rehearse PLAN"


def check_rehearsed(facts: DoctorFacts) -> Observation:
    """Whether this version of the plan was rehearsed forward and back."""
    history = facts.history.value
    if history is None:
        return facts.history.as_unknown
    newest = newest_for_plan(history.rehearsals, facts.plan_hash)
    if newest is None:
        if other := max(history.rehearsals, key=lambda each: each.at, default=None):
            age = format_duration(max(0.0, facts.now - other.at))
            return fail_observation(
                f"rehearsed {age} ago, but for another version of the plan ({other.plan_hash[:8]})", _HINT
            )
        return fail_observation("never rehearsed", _HINT)
    age = format_duration(max(0.0, facts.now - newest.at))
    if newest.verdict == Verdict.PASS:
        return pass_observation(f"this version of the plan was rolled back on {newest.where} {age} ago")
    return fail_observation(
        f"the rehearsal of {age} ago on {newest.where}: {newest.verdict}",
        "read its report, fix the cause, run zdd rehearse PLAN",
    )


def check_production_volume_rehearsed(facts: DoctorFacts) -> Observation:
    """Whether the rehearsal had production's volume."""
    history = facts.history.value
    if history is None:
        return facts.history.as_unknown
    good = [each for each in history.rehearsals if each.plan_hash == facts.plan_hash and each.verdict == Verdict.PASS]
    if not good:
        return inconclusive_observation("no rehearsal of this version of the plan", f"{_HINT}, at full volume")
    best = max(good, key=lambda each: each.scale or 0.0)
    text = f"rehearsed on {best.where}" + (f" with {best.rows:,} rows" if best.rows is not None else "")
    if best.scale is None:
        return inconclusive_observation(f"{text}; production's volume was not compared", _HINT)
    if best.scale >= 1.0:
        return pass_observation(f"{text}, all of production's volume")
    return inconclusive_observation(f"{text}, {best.scale:.0%} of production's volume", f"{_HINT} --scale 1")


def newest_for_plan(rehearsals: tuple[RollbackRecord, ...], plan_hash: str) -> RollbackRecord | None:
    """The newest one of a version of the plan."""
    return max((each for each in rehearsals if each.plan_hash == plan_hash), key=lambda each: each.at, default=None)

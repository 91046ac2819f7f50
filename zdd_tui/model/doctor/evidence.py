"""What the doctor reads from a plan of any strategy."""

import re
from collections.abc import Iterator

from zdd_tui.model.doctor.facts import WorkloadFacts
from zdd_tui.model.plan.base import BasePlan, Plan
from zdd_tui.model.plan.strategies import SingleImagePlan
from zdd_tui.model.release.strategies import build_strategy
from zdd_tui.model.sql import fold_name, readable_tokens


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

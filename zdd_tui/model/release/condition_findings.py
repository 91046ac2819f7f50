"""Evaluates standing conditions: what was observed against what is allowed. Pure; None means that it holds."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Self

from zdd_tui.model.counting import format_list
from zdd_tui.model.flag import flag_key, parse_flag
from zdd_tui.model.plan.base import BasePlan, WorkloadPlan
from zdd_tui.model.release.condition import (
    CONTINUES_IN_HINT,
    ROLLBACK_IN_HINT,
    Condition,
    ConditionFinding,
    system_of,
)
from zdd_tui.model.workload.managers import FieldManager
from zdd_tui.model.workload.pod import PodFacts
from zdd_tui.model.workload.rollout import DeploymentView, ReplicaSetView, select_own_pods
from zdd_tui.model.workload.route import percent_of_pods
from zdd_tui.model.workload.second_deployment import ServiceView
from zdd_tui.model.workload.version import PodVersions, group_by_origin

NOT_RECORDED = "Kubernetes does not record who"


def unknown_finding(condition: Condition, since: float, error: str = "", hint: str = "") -> ConditionFinding:
    """That a condition cannot be checked, because its system is silent or refuses.

    Args:
        since: seconds since the epoch.
        error, hint: of the last reading; empty where there was no response yet.
    """
    system = system_of(condition.kind)
    cause = error if system in error else f"{system}: {error}" if error else f"{system} does not respond"
    return ConditionFinding(
        f"{condition.name} cannot be checked since {datetime.fromtimestamp(since, UTC):%H:%M:%S} UTC: {cause}",
        hint=hint or f"check that {system} runs and that the agent reaches it",
    )


# --- Kubernetes -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DeploymentFacts:
    """One Deployment with its ReplicaSets and pods; `deployment` is None where it does not exist."""

    deployment: DeploymentView | None
    replica_sets: tuple[ReplicaSetView, ...] = ()
    pods: tuple[PodFacts, ...] = ()

    @cached_property
    def running_pods(self) -> tuple[tuple[PodFacts, ...], ...]:
        """The Deployment's own pods that run, in groups of one version (:func:`group_by_origin`)."""
        if self.deployment is None:
            return ()
        own = select_own_pods(self.deployment, self.replica_sets, self.pods)
        return group_by_origin(pod for pod in own if not pod.is_terminal)


def find_wrong_image(plan: WorkloadPlan, condition: Condition, facts: DeploymentFacts) -> ConditionFinding | None:
    """The image of the plan's container against the allowed ones."""
    names, view = plan.kubernetes, facts.deployment
    expected = _join(condition.allowed)
    if view is None:
        return ConditionFinding(
            f"Deployment {condition.subject} does not exist in namespace {names.namespace}, expected image {expected}",
            NOT_RECORDED,
            f"create the Deployment again from its manifest{ROLLBACK_IN_HINT}",
        )
    image = view.images.get(names.container)
    if image is not None and any(plan.is_image(str(allowed), image) for allowed in condition.allowed):
        return None
    manager = view.image_managers.get(names.container)
    if len(condition.allowed) > 1 and manager and view.epoch_manager and manager.name == view.epoch_manager.name:
        return None  # an admission webhook has changed the image in our own patch: the step of the rollout decides
    return ConditionFinding(
        f"Deployment {condition.subject} has image {image or 'no such container'}, expected {expected}",
        describe_manager(manager),
        image_hint(plan, condition.subject, manager, expected),
    )


def describe_manager(manager: FieldManager | None) -> str:
    return f"set by {manager}" if manager else NOT_RECORDED


def image_hint(
    plan: WorkloadPlan,
    deployment: str,
    manager: FieldManager | None,
    expected: str,
    then: str = f"{CONTINUES_IN_HINT}{ROLLBACK_IN_HINT}",
) -> str:
    """What to do about an image that another client has set: zdd does not set it again, the other would, too.

    Args:
        then: what follows, as the end of the hint.
    """
    name = manager.name if manager else "the other client"
    command = (
        f"kubectl -n {plan.kubernetes.namespace} set image deployment/{deployment}"
        f" {plan.kubernetes.container}={expected}"
    )
    if name.startswith("kubectl"):
        return f"{command}{then}"
    return (
        f"set {expected} where {name} takes the image from (its Git repository), or suspend its sync of {deployment}"
        f" and {command}{then}"
    )


def find_wrong_pods(plan: WorkloadPlan, condition: Condition, facts: DeploymentFacts) -> ConditionFinding | None:
    """The versions of all existing pods, terminating ones included."""
    view = facts.deployment
    if view is None:
        return None  # the condition about the image says so
    versions = PodVersions(plan, {each.uid: each for each in facts.replica_sets})
    groups = [(versions.version_of(group[0]), group) for group in facts.running_pods]
    wrong = sorted(pod.name for version, group in groups if version not in condition.allowed for pod in group)
    if not wrong:
        return None
    found = ", ".join(sorted({version.upper() for version, _ in groups if version not in condition.allowed}))
    expected = " or ".join(str(version).upper() for version in condition.allowed)
    names, total = f"{', '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''}", sum(len(group) for _, group in groups)
    text = f"{len(wrong)} of {total} pods of {condition.subject} run {found}, expected {expected}: {names}"
    if plan.version_of(view.images.get(plan.kubernetes.container, "")) in condition.allowed:
        # The pods are from before the image.
        status = f"kubectl -n {plan.kubernetes.namespace} rollout status deployment/{condition.subject}"
        return ConditionFinding(text, "", f"{status}; the release continues when those pods are gone")
    # What to do is said by the condition about the image, which has the same cause.
    return ConditionFinding(text, describe_manager(view.image_managers.get(plan.kubernetes.container)))


def find_wrong_selector(plan: BasePlan, condition: Condition, service: ServiceView | None) -> ConditionFinding | None:
    """The value of the label by which a Service is switched."""
    expected = _join(condition.allowed)
    if service is None:
        return ConditionFinding(
            f"Service {condition.subject} does not exist, expected selector {expected}",
            NOT_RECORDED,
            f"create the Service again from its manifest{ROLLBACK_IN_HINT}",
        )
    label = str(condition.allowed[0]).partition("=")[0]
    current = f"{label}={service.selector.get(label, '')}"
    if current in condition.allowed:
        return None
    return ConditionFinding(
        f"Service {condition.subject} selects {current}, expected {expected}",
        describe_manager(service.selector_manager),
        f"set the selector of Service {condition.subject} to {expected} where it is managed; the release continues"
        f" then{ROLLBACK_IN_HINT}",
    )


def find_wrong_weight(
    plan: WorkloadPlan,
    condition: Condition,
    canary: DeploymentView | None,
    stable: DeploymentView | None,
    tolerance: int,
) -> ConditionFinding | None:
    """The canary's share of the wanted pods."""
    if canary is None or stable is None:
        return None  # the conditions about their images say so
    weight = int(condition.allowed[0] or 0)
    total = canary.desired + stable.desired
    share = percent_of_pods(canary.desired, stable.desired) if total else 0.0
    if total and abs(share - weight) <= tolerance:
        return None
    changed = max((canary, stable), key=lambda view: view.replicas_manager.at or 0.0 if view.replicas_manager else 0.0)
    return ConditionFinding(
        f"{canary.desired} of {total} wanted pods are new: {share:.0f}%, expected {weight}%",
        f"replicas of {changed.name} {describe_manager(changed.replicas_manager)}",
        f"kubectl -n {plan.kubernetes.namespace} scale deployment/{changed.name} to the replicas from before"
        f"{ROLLBACK_IN_HINT}",
    )


# --- flags ----------------------------------------------------------------------------------------------------------


def find_wrong_flag(condition: Condition, raw: str | None) -> ConditionFinding | None:
    """A flag's stored value against the allowed ones; ``25%`` and ``25`` are the same."""
    value = raw
    if raw is not None:
        try:
            value = parse_flag(raw).to_redis
        except ValueError:
            value = raw[:40]
    if value in condition.allowed:
        return None
    current = "missing" if value is None else f"{value!r}"
    return ConditionFinding(
        f"flag {flag_key(condition.subject)} is {current}, expected {_join(condition.allowed)}",
        hint=f"find the client that writes {flag_key(condition.subject)}, then zdd status PLAN; the agent writes the"
        " flag again",
    )


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TriggerFacts:
    """A trigger.

    Attributes:
        enabled: as ``pg_trigger.tgenabled``: O and A fire in the application's sessions, R and D do not.
        digest: of the definitions of the trigger and of its function.
    """

    name: str
    table: str
    enabled: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """A column, index or constraint that a release relies on, as it was when the release began to.

    Attributes:
        kind: ``column``, ``index`` or ``constraint``; of operations also ``table``, ``trigger``, ``view``,
            ``function`` and ``helpers``.
        key: what identifies it while it is renamed: relation and number of a column; of others its qualified name.
        shape: what must not change: the type of a column, of operations with its default; two digests of others, of the
            columns and of the expressions. Of a trigger, its function's definition and its own, as a list in JSON; of a
            view or function the statements that create it; of helpers what they are. Empty of an object that its step
            has removed.
        is_valid: an index is valid and ready, a constraint is validated.
        is_old: a column of the old side, which the release itself archives.
        since: of an operation's object: the step after which it was so.
        condition: its name, of an operation's object or a trigger.
        digest: of a trigger, view or function; empty where an older version of zdd has noted it.
        by_names: a digest that stays the same when the object, a column of it or its table is dropped and created again
            as before: numbers that the server gives are left out. It has type, NOT NULL and default of an operation's
            column. Empty of a column of a ``change:``, whose type alone counts, and where an older zdd has noted it.
        statement: what creates a column, constraint or index; empty where it could not be read.
    """

    kind: str
    key: str
    name: str
    table: str
    shape: str
    is_valid: bool = True
    is_old: bool = False
    since: str = ""
    condition: str = ""
    digest: str = ""
    by_names: str = ""
    statement: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(**document)


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """What the catalog says at one time.

    Attributes:
        triggers: those of the release that exist.
        replica_settings: roles and databases whose sessions fire no ordinary trigger (session_replication_role).
        objects: the columns of the plan's tables, its indexes and constraints.
        hidden_tables: tables of which this role may not see every row.
        details: of the steps, by name.
        names: qualified names of the tables that operations name.
        definitions: digests of the views and functions of operations, by kind and name.
    """

    triggers: tuple[TriggerFacts, ...]
    replica_settings: tuple[str, ...]
    objects: tuple[SchemaObject, ...]
    hidden_tables: tuple[str, ...]
    details: Mapping[str, Mapping[str, Any]]
    names: Mapping[str, str] = field(default_factory=dict)
    definitions: Mapping[str, str] = field(default_factory=dict)


def plain_name(sql: str) -> str:
    """A name of SQL without its quotation marks, as tables are named in facts and findings."""
    return sql.replace('"', "")


def find_disabled_trigger(
    condition: Condition, facts: DatabaseFacts, expected: SchemaObject | None = None
) -> ConditionFinding | None:
    """A trigger that is missing, disabled, does not fire in sessions of some role, or does something else.

    Args:
        expected: as it was after the step that made or changed it; None before that is noted.
    """
    found = next((trigger for trigger in facts.triggers if trigger.name == condition.subject), None)
    if found is None:
        return ConditionFinding(f"trigger {condition.subject} is missing", hint=_TRIGGER_HINT)
    if found.enabled not in condition.allowed:
        state = {
            "D": "disabled",
            "R": "enabled for replica sessions only",
            "O": "not enabled for sessions whose session_replication_role is replica",
        }.get(found.enabled, found.enabled)
        return ConditionFinding(f"trigger {condition.subject} on {found.table} is {state}", hint=_TRIGGER_HINT)
    if facts.replica_settings and found.enabled != "A":
        return ConditionFinding(
            f"session_replication_role is replica for {', '.join(facts.replica_settings)}: trigger {condition.subject}"
            " does not fire there",
            hint="reset it in psql: ALTER ROLE, ALTER DATABASE or ALTER SYSTEM with RESET session_replication_role,"
            " then end the sessions that still have it",
        )
    if expected is not None and expected.digest not in ("", found.digest):
        return ConditionFinding(
            f"trigger {condition.subject} on {found.table} or its function was replaced", hint=_TRIGGER_HINT
        )
    return None


_TRIGGER_HINT = "find who changes triggers, then zdd status PLAN; the agent creates and enables the trigger again"


def find_changed_schema(
    baseline: Sequence[SchemaObject],
    facts: DatabaseFacts,
    *,
    archived: Mapping[str, str],
    old_side_needed: bool,
    missing: Sequence[str] = (),
    made: str = "as change.expand and change.indexes define it",
) -> ConditionFinding | None:
    """Objects that are missing, renamed, changed or invalid. One that was created again as it was counts as the same.

    Args:
        made: how the objects were made, for the hint.
        baseline: as they were when the condition was established.
        archived: the name under which the release archives each old column.
        old_side_needed: the old side is not dropped yet.
        missing: objects that were missing already when the condition was established, as texts.
    """
    current = {(each.kind, each.key): each for each in facts.objects}
    columns = {(each.table, each.name): each for each in facts.objects if each.kind == "column"}
    wrong, statements = list(missing), []
    for expected in baseline:
        if expected.is_old and not old_side_needed:
            continue
        label = f"{expected.kind} {expected.name} of {expected.table}"
        names = (expected.name, archived.get(expected.name, "") if expected.is_old else expected.name)
        found = current.get((expected.kind, expected.key))
        is_new = found is None and expected.kind == "column"
        if is_new:
            # A column that is created again has another number, in a table that is created again all have.
            found = next((columns[expected.table, name] for name in names if (expected.table, name) in columns), None)
        if found is None:
            wrong.append(f"{label} is missing")
            statements.append(expected.statement)
        elif found.name not in names:
            wrong.append(f"{label} was renamed to {found.name}")
        elif not _has_shape(found, expected) and not (found.by_names and found.by_names == expected.by_names):
            wrong.append(f"{label} {_describe_change(found, expected)}")
            statements += [expected.statement] if is_new or expected.kind != "column" else []
        elif is_new and expected.by_names not in ("", found.by_names):
            wrong.append(f"{label} was created again, but not as it was")
            statements.append(expected.statement)
        elif expected.is_valid and not found.is_valid:
            wrong.append(f"{label} is not valid")
    if not wrong:
        return None
    return ConditionFinding(format_list(wrong), hint=_restore_hint(made, statements))


def _restore_hint(made: str, statements: Iterable[str]) -> str:
    shown = "; ".join(dict.fromkeys(each for each in statements if each))
    return f"restore it in psql {made}{f': {shown}' if shown else ''}{CONTINUES_IN_HINT}{ROLLBACK_IN_HINT}"


DEFAULT_MARK = " DEFAULT "
"""In the shape of an operation's column, between its type and the digest of its default."""


def _describe_change(found: SchemaObject, expected: SchemaObject) -> str:
    if expected.kind != "column":
        return "was changed"
    (now, _, default), (before, _, _) = found.shape.partition(DEFAULT_MARK), expected.shape.partition(DEFAULT_MARK)
    if now != before:
        return f"is {now} now, it was {before}"
    return "has another default" if default else "has lost its default"


def _has_shape(found: SchemaObject, expected: SchemaObject) -> bool:
    """An earlier zdd stored the first of the two digests of an index or constraint alone, and no default of a column:
    one that was added is no change."""
    if expected.kind == "column" and DEFAULT_MARK not in expected.shape:
        return found.shape.partition(DEFAULT_MARK)[0] == expected.shape
    if expected.kind in ("index", "constraint") and " " not in expected.shape:
        return found.shape.partition(" ")[0] == expected.shape
    return found.shape == expected.shape


def find_object(condition: Condition, facts: DatabaseFacts) -> SchemaObject | None:
    """An operation's object as the catalog has it now."""
    kind, _, _ = condition.name.partition(" ")
    table = facts.names.get(condition.table, "")
    if kind == "table":
        return SchemaObject(kind, table, condition.subject, table, "exists") if table else None
    if kind == "helpers":
        own = [each.to_json() for each in facts.objects if each.table == table and _is_helper(each, condition)]
        return SchemaObject(kind, table, condition.subject, table, json.dumps(own))
    for each in facts.objects:
        if each.kind != kind:
            continue
        if kind == "index" and plain_name(each.key) == condition.subject:
            return each
        if kind != "index" and (each.table, each.name) == (table, condition.subject):
            return each
    return None


def find_changed_object(
    condition: Condition, expected: SchemaObject | None, facts: DatabaseFacts
) -> ConditionFinding | None:
    """An operation's object that is missing, renamed, changed or invalid.

    Args:
        expected: as it was after the step that made it; None where it was missing already.
    """
    made = f"as {condition.made_by} has made it"
    hint = _restore_hint(made, [condition.statement])
    if expected is None:
        return ConditionFinding(f"{condition.name} is missing", hint=hint)
    if not expected.shape:
        return None
    if expected.kind == "table":
        is_there = find_object(condition, facts) is not None
        return None if is_there else ConditionFinding(f"{condition.name} is missing", hint=hint)
    is_list = expected.kind == "helpers"
    objects = [SchemaObject.from_json(each) for each in json.loads(expected.shape)] if is_list else [expected]
    return find_changed_schema(objects, facts, archived={}, old_side_needed=True, made=made)


def _is_helper(found: SchemaObject, condition: Condition) -> bool:
    return found.kind in ("constraint", "index") and found.name.startswith(condition.subject)


def definition_key(condition: Condition, table: str) -> str:
    """The key of :attr:`DatabaseFacts.definitions`.

    Args:
        table: of a view, its qualified name, unquoted.
    """
    kind = condition.name.partition(" ")[0]
    return f"{kind} {table if kind == 'view' else condition.subject}"


def find_changed_definition(
    condition: Condition, expected: SchemaObject | None, facts: DatabaseFacts
) -> ConditionFinding | None:
    """A view or function of the release that is missing or was replaced.

    Args:
        expected: as it was after the step that made it; None where it was missing already.
    """
    found = facts.definitions.get(definition_key(condition, facts.names.get(condition.table, "")))
    if expected is not None and found == expected.digest:
        return None
    if expected is None:
        hint = f"create it in psql as {condition.made_by} has made it{CONTINUES_IN_HINT}{ROLLBACK_IN_HINT}"
        return ConditionFinding(f"{condition.name} is missing", hint=hint)
    what = "is missing" if found is None else "was replaced"
    return ConditionFinding(f"{condition.name} {what}", hint=_DEFINITION_HINT)


_DEFINITION_HINT = (
    "find who changes it, then zdd status PLAN; the agent creates it again, unless another object depends on what is"
    f" there now: drop that then{ROLLBACK_IN_HINT}"
)


def find_stopped_trigger(
    condition: Condition, expected: SchemaObject | None, facts: DatabaseFacts
) -> ConditionFinding | None:
    """An operation's trigger that is missing, does not fire in every session, or does something else.

    Args:
        expected: as it was after the step that made it.
    """
    table = facts.names.get(condition.table, "")
    there = tuple(each for each in facts.triggers if plain_name(each.table) == table)
    return find_disabled_trigger(condition, replace(facts, triggers=there), expected)


def find_row_security(facts: DatabaseFacts) -> ConditionFinding | None:
    """Row-level security that hides rows from the agent's role."""
    if not facts.hidden_tables:
        return None
    return ConditionFinding(
        f"row-level security of {', '.join(facts.hidden_tables)} is in effect for the agent's role:"
        " it may not see every row",
        hint="give the role of database.dsn BYPASSRLS, or run ALTER TABLE with NO FORCE ROW LEVEL SECURITY, in psql",
    )


def _join(values: Iterable[str | None]) -> str:
    return " or ".join("missing" if value is None else value for value in dict.fromkeys(values))

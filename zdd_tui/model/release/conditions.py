"""Which standing conditions hold when: a pure function of the plan and of the steps that have run.

A condition begins with the step that establishes it and ends with the last step that needs it. While a step changes
its subject, both the value before and the value after are allowed. During a rollback there are none, because it undoes
them, but one: the read flag, from when the reads are back on the old side.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from zdd_tui.model.ddl.names import lock_order_name, sync_name
from zdd_tui.model.ddl.witness import expected_triggers
from zdd_tui.model.flag import OFF, ON, FlagValue, parse_flag
from zdd_tui.model.operations.base import ReliedKind
from zdd_tui.model.operations.generated import FUNCTION_SCHEMA
from zdd_tui.model.operations.relied_objects import (
    BuiltIndexes,
    ReliedChange,
    ReliedInterval,
    label_object,
    may_be_gone,
    relied_objects,
)
from zdd_tui.model.plan.base import BasePlan, Plan, WorkloadPlan
from zdd_tui.model.plan.operations import BaseOperationsPlan, OperationsPlan
from zdd_tui.model.plan.strategies import BlueGreenPlan, CanaryPlan, DarkLaunchPlan, SingleImagePlan
from zdd_tui.model.release.condition import Condition, ConditionKind
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.state import Release, ReleaseState, StepStatus

StepDetails = Mapping[str, Mapping[str, Any]]
"""What the steps have stored, by their names."""

ENABLED, ALWAYS_ENABLED = ("O", "A"), ("A",)
"""Values of ``pg_trigger.tgenabled``: fires in ordinary sessions; also where session_replication_role is replica.

Sync triggers are always enabled; those that an earlier zdd installed are not, and are no breach for that.
"""

NEW_SCHEMA = "new schema"
ALL_ROWS = "all rows visible"


def required_conditions(plan: BasePlan, release: Release, details: StepDetails) -> tuple[Condition, ...]:
    """What the release relies on now.

    Args:
        details: of the steps; a condition whose values are in a detail begins when the detail is stored.
    """
    steps = _Steps(release, details)
    if release.state in (ReleaseState.ROLLING_BACK, ReleaseState.ROLLBACK_FAILED):
        return _rollback(plan, steps) if isinstance(plan, Plan) else ()
    if release.state not in (ReleaseState.RUNNING, ReleaseState.WAITING, ReleaseState.FAILED):
        return ()
    found: Iterable[Condition | None]
    match plan:
        case Plan():
            found = _expand_contract(plan, steps)
        case BlueGreenPlan():
            found = _blue_green(plan, steps)
        case CanaryPlan():
            found = _canary(plan, steps)
        case BaseOperationsPlan():
            rollout = _single_image(plan, steps) if isinstance(plan, OperationsPlan) else ()
            found = (*rollout, *_operations(plan, steps))
        case SingleImagePlan():
            found = _single_image(plan, steps)
        case _:
            raise TypeError(type(plan).__name__)
    return tuple(condition for condition in found if condition is not None)


def withhold_verdicts(readings: Sequence[GateReading], release: Release) -> list[GateReading]:
    """The readings of gates as they count while a condition is not met: pass is pending, or unknown."""
    if not release.unmet:
        return list(readings)
    first = release.unmet[0]
    verdict = Verdict.PENDING if first.status.stops_progress else Verdict.UNKNOWN
    return [
        replace(reading, verdict=verdict, reason=f"withdrawn: {first.text}")
        if reading.verdict is Verdict.PASS
        else reading
        for reading in readings
    ]


class _Steps:
    """The statuses and details of the steps. A step that the strategy does not have is pending."""

    def __init__(self, release: Release, details: StepDetails) -> None:
        self._statuses = {
            spec.name: status for spec, status in zip(release.strategy.steps, release.statuses, strict=True)
        }
        self._details = details
        self.specs = release.strategy.steps

    def status(self, name: str) -> StepStatus:
        return self._statuses.get(name, StepStatus.PENDING)

    def detail(self, name: str) -> Mapping[str, Any]:
        return self._details.get(name, {})

    def is_done(self, name: str) -> bool:
        return self.status(name) is StepStatus.DONE

    def has_effect(self, name: str) -> bool:
        return self.status(name).has_effect

    def has_run(self, name: str) -> bool:
        """As `has_effect`, for a step whose effect commits with its record: a failed one has had none."""
        return self.has_effect(name) and self.status(name) is not StepStatus.FAILED

    def with_handler(self, key: str) -> list[tuple[str, FlagValue]]:
        """Name and value of each step that a handler runs, in order."""
        return [(spec.name, FlagValue(spec.value or 0)) for spec in self.specs if spec.registry_key == key]


def _expand_contract(plan: Plan, steps: _Steps) -> Iterable[Condition | None]:
    names, images = plan.kubernetes, plan.kubernetes.images
    rollouts = [("rollout-v2", images.v2), ("rollout-v3", images.v3)]
    yield _image(steps, names.deployment, rollouts, steps.detail("rollout-v2").get("image_before"), is_writer=True)
    yield _pods(plan, steps, rollouts)
    yield from _expand_contract_flags(plan, steps)
    for name, states in (*_sync_triggers(plan, steps), *_witness_triggers(plan, steps)):
        since = _last_function_change(plan, steps, name)
        yield Condition(f"trigger {name}", ConditionKind.TRIGGER, name, states, affects_rows=True, since=since)
    if steps.is_done("expand-schema"):
        yield Condition(NEW_SCHEMA, ConditionKind.SCHEMA, affects_rows=True)
    if steps.is_done("lint-ddl") and not steps.is_done("drop-archive"):
        yield Condition(ALL_ROWS, ConditionKind.ROWS_VISIBLE, affects_rows=True)


def _operations(plan: BaseOperationsPlan, steps: _Steps) -> Iterable[Condition | None]:
    """The objects that the steps of operations have made, until a step removes them."""
    relied = relied_objects(plan)
    for interval in relied.intervals:
        yield _relied_object(interval, steps)
    for built in relied.indexes:
        yield from _built_indexes(built, steps)


def _has_run(steps: _Steps, name: str) -> bool:
    return steps.is_done(name) and bool(steps.detail(name).get("is_needed", True))


def _last_change(changes: Iterable[ReliedChange], steps: _Steps) -> str | None:
    """The last step that has made or changed an object; empty for none, None while one may be changing it."""
    last = ""
    for each in changes:
        if _has_run(steps, each.step):
            last = each.step
        elif steps.status(each.step) is StepStatus.STARTED:
            return None
    return last


_KINDS = {
    ReliedKind.TRIGGER: ConditionKind.OBJECT_TRIGGER,
    ReliedKind.VIEW: ConditionKind.OBJECT_DEFINITION,
    ReliedKind.FUNCTION: ConditionKind.OBJECT_DEFINITION,
}
"""How an object is checked, where it is not enough that it exists."""

_NAMED_BY_TABLE = (ReliedKind.TABLE, ReliedKind.VIEW, ReliedKind.HELPERS)


def _relied_object(interval: ReliedInterval, steps: _Steps) -> Condition | None:
    made = [(each.step, each.made) for each in interval.changes if each.made is not None and _has_run(steps, each.step)]
    last = _last_change(interval.changes, steps)
    if not made or not last:
        return None
    first, is_trigger = interval.first, interval.first.kind is ReliedKind.TRIGGER
    place = FUNCTION_SCHEMA if first.kind is ReliedKind.FUNCTION else first.table
    label = first.table if first.kind in _NAMED_BY_TABLE else label_object(place, first.name)
    return Condition(
        f"trigger {first.name} of {first.table}" if is_trigger else f"{first.kind} {label}",
        _KINDS.get(first.kind, ConditionKind.OBJECT),
        first.name,
        ALWAYS_ENABLED if is_trigger else (),
        affects_rows=is_trigger or first.kind in (ReliedKind.FUNCTION, ReliedKind.COLUMN),
        table=first.table,
        since=last,
        made_by=made[-1][0],
        statement=made[-1][1].statement,
        may_be_gone=may_be_gone(interval.changes, last),
        differing=made[-1][1].differing,
    )


def _built_indexes(built: BuiltIndexes, steps: _Steps) -> Iterable[Condition]:
    last = _last_change((ReliedChange(built.step, None), *built.changes), steps)
    if not last or not _has_run(steps, built.step):
        return
    detail = steps.detail(built.step)
    for schema, name in (*detail.get("made", ()), *detail.get("copied", ())):
        yield Condition(
            f"index {schema}.{name}",
            ConditionKind.OBJECT,
            f"{schema}.{name}",
            table=built.table,
            since=last,
            made_by=built.step,
            may_be_gone=last != built.step,
        )


def set_fills_back(release: Release) -> Release | None:
    """The release whose fills prove once more that no row is left; None where none has ended in this phase."""
    phase = release.current_phase
    done = [
        spec.name
        for spec in (phase.steps if phase is not None else ())
        if spec.registry_key == "fill-rows" and release.status(spec.name) is StepStatus.DONE
    ]
    if not done:
        return None
    for name in done:
        release = release.with_status(name, StepStatus.PENDING)
    return release if release.state is ReleaseState.FAILED else replace(release, state=ReleaseState.RUNNING)


def has_filled(release: Release) -> bool:
    """Whether a phase with fills is left: rows that were written while a trigger did not fire are counted then."""
    phases = release.strategy.phases[: max(release.phase, 0)]
    return any(spec.registry_key == "fill-rows" for phase in phases for spec in phase.steps)


def _sync_triggers(plan: Plan, steps: _Steps) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Names of the sync triggers that must exist, each with the values of ``pg_trigger.tgenabled`` it may have."""
    if steps.has_run("drop-archive"):
        return
    if steps.is_done("sync-forward"):
        yield sync_name(plan, "forward"), ENABLED
    if steps.is_done("sync-reverse"):
        yield sync_name(plan, "reverse"), ENABLED
        if plan.change.kind == "table":
            yield lock_order_name(plan), ENABLED


def _last_function_change(plan: Plan, steps: _Steps, trigger: str) -> str:
    """The last step that has made or changed a trigger or its function; empty while one may be changing it."""
    reverse = ("sync-reverse", "archive-old-side")
    changes = {
        sync_name(plan, "forward"): ("sync-forward", *reverse),
        sync_name(plan, "reverse"): reverse,
        lock_order_name(plan): reverse,
    }
    last = ""
    for step in changes.get(trigger, ("create-witness", "extend-witness", "archive-old-side")):
        if steps.is_done(step):
            last = step
        elif steps.has_effect(step):
            return ""
    return last


def rollback_triggers(plan: Plan, release: Release) -> tuple[Condition, ...]:
    """The triggers that a rollback relies on while V3 may write: they are no standing conditions then, because the
    rollback removes them, but until it does they are restored."""
    steps = _Steps(release, {})
    if not steps.has_effect("rollout-v3"):
        return ()
    found = (*_sync_triggers(plan, steps), *_witness_triggers(plan, steps))
    return tuple(Condition(f"trigger {name}", ConditionKind.TRIGGER, name, states) for name, states in found)


def _witness_triggers(plan: Plan, steps: _Steps) -> Iterable[tuple[str, tuple[str, ...]]]:
    """As :func:`_sync_triggers`; those of the witness also fire in replica sessions."""
    if not steps.is_done("create-witness") or steps.has_effect("drop-witness"):
        return
    is_extended = steps.is_done("extend-witness")
    if plan.change.kind == "column" and steps.has_effect("extend-witness") and not is_extended:
        return  # the step puts one trigger in place of the other
    for name in expected_triggers(plan, both_sides=is_extended):
        yield name, ALWAYS_ENABLED


def _expand_contract_flags(plan: Plan, steps: _Steps) -> Iterable[Condition | None]:
    if steps.has_effect("delete-flags"):
        return
    created = steps.detail("rollout-v2").get("flags_before", {})
    writes = [("write-flag-on", ON)]
    for key, changes in ((plan.flags.write, writes), (plan.flags.read, _read_changes(steps))):
        yield _flag(steps, key, changes, created.get(key), steps.is_done("rollout-v2"), affects_rows=True)


def _rollback(plan: Plan, steps: _Steps) -> tuple[Condition, ...]:
    """Until V2 is gone, the read flag as it was before the release: what V2 would read is not kept in step any more."""
    before = steps.detail("rollout-v2").get("flags_before")
    is_reading = any(steps.has_effect(name) for name, _ in _read_changes(steps))
    if before is None or is_reading or not steps.has_effect("rollout-v2") or steps.has_effect("delete-flags"):
        return ()
    key = plan.flags.read
    condition = _flag(steps, key, (), before.get(key), has_begun=True)
    assert condition is not None, "it has begun"
    if before.get(key) is None and not steps.is_done("rollout-v2"):  # its undo deletes the flag
        condition = replace(condition, allowed=(*condition.allowed, None))
    return (condition,)


def _read_changes(steps: _Steps) -> list[tuple[str, FlagValue]]:
    return [*steps.with_handler("read-ramp"), ("read-flag-on", ON)]


def _single_image(plan: SingleImagePlan, steps: _Steps) -> Iterable[Condition | None]:
    rollouts = [("rollout-new", plan.kubernetes.image)]
    yield _image(steps, plan.kubernetes.deployment, rollouts, _image_before(steps))
    yield _pods(plan, steps, rollouts)
    if isinstance(plan, DarkLaunchPlan):
        created, has_begun = steps.detail("rollout-new").get("flags_before", {}), steps.is_done("rollout-new")
        if not steps.has_effect("shadow-off"):
            shadow, changes = plan.flags.shadow, steps.with_handler("set-shadow")
            yield _flag(steps, shadow, changes, created.get(shadow), has_begun)
        read = plan.flags.read
        yield _flag(steps, read, steps.with_handler("set-read"), created.get(read), has_begun)


def _canary(plan: CanaryPlan, steps: _Steps) -> Iterable[Condition | None]:
    yield from _single_image(plan, steps)
    weights = steps.with_handler("set-weight")
    if plan.canary.flag is not None:
        key = plan.canary.flag.key
        created = steps.detail("rollout-new").get("flags_before", {}).get(key)
        yield _flag(steps, key, weights, created, steps.is_done("rollout-new"))
        return
    if steps.is_done("create-canary") and not steps.has_effect("remove-canary"):
        yield _fixed_image(plan.canary_deployment, plan.kubernetes.image)
    last = next((name for name, _ in reversed(weights) if steps.has_effect(name)), None)
    if last is None or not steps.is_done(last) or steps.has_effect("rollout-new") or plan.canary.by != "replicas":
        return
    weight = dict(weights)[last].percent
    yield Condition(f"weight {plan.canary_deployment}", ConditionKind.WEIGHT, plan.canary_deployment, (str(weight),))


def _blue_green(plan: BlueGreenPlan, steps: _Steps) -> Iterable[Condition | None]:
    yield from _single_image(plan, steps)
    if steps.is_done("create-green") and not steps.has_effect("remove-green"):
        yield _fixed_image(plan.green_deployment, plan.kubernetes.image)
    switch = steps.detail("acquire-service").get("switch")
    if not steps.is_done("acquire-service") or steps.has_effect("release-service") or not switch:
        return
    label, first, second = switch
    allowed = _allowed_values(steps, [("switch-to-green", second), ("switch-to-stable", first)], first)
    yield Condition(
        f"selector {plan.service}",
        ConditionKind.SELECTOR,
        plan.service,
        tuple(f"{label}={value}" for value in allowed),
    )


def _image_before(steps: _Steps) -> str | None:
    value = steps.detail("record-workload").get("image_before") if steps.is_done("record-workload") else None
    return str(value) if value else None


def _allowed_values(steps: _Steps, changes: Sequence[tuple[str, str]], before: str | None) -> tuple[str | None, ...]:
    """The value of the last change that is done; while one runs or has failed, also the value that it sets."""
    allowed: tuple[str | None, ...] = (before,)
    for name, value in changes:
        if steps.is_done(name):
            allowed = (value,)
        elif steps.has_effect(name):
            return (allowed[0], value)
    return allowed


def _image(
    steps: _Steps,
    deployment: str,
    rollouts: Sequence[tuple[str, str]],
    before: str | None,
    *,
    is_writer: bool = False,
) -> Condition | None:
    """The image of a Deployment, from the first rollout on; where the image before the release is known, from then."""
    allowed = _allowed_values(steps, rollouts, before)
    if None in allowed or steps.is_done("remove-annotations"):
        return None
    if is_writer and not steps.has_effect(rollouts[0][0]):
        return None
    return Condition(f"image {deployment}", ConditionKind.IMAGE, deployment, allowed, affects_rows=is_writer)


def _fixed_image(deployment: str, image: str) -> Condition:
    return Condition(f"image {deployment}", ConditionKind.IMAGE, deployment, (image,))


def _pods(plan: WorkloadPlan, steps: _Steps, rollouts: Sequence[tuple[str, str]]) -> Condition | None:
    """The versions of the existing pods, once the first rollout is done: then no older pod is left."""
    if not steps.is_done(rollouts[0][0]) or steps.is_done("remove-annotations"):
        return None
    allowed = _allowed_values(steps, rollouts, None)
    versions = tuple(plan.version_of(image) for image in allowed if image is not None)
    deployment = plan.kubernetes.deployment
    return Condition(
        f"pods {deployment}", ConditionKind.PODS, deployment, versions, affects_rows=isinstance(plan, Plan)
    )


def _flag(
    steps: _Steps,
    key: str,
    changes: Sequence[tuple[str, FlagValue]],
    before: str | None,
    has_begun: bool,
    *,
    affects_rows: bool = False,
) -> Condition | None:
    """The value of a flag, from the rollout of the image that reads it.

    Args:
        changes: the steps that change it, in order.
        before: the stored value before the release; None for a flag that the release creates.
        has_begun: the rollout is done; the flag exists since then.
    """
    if not has_begun:
        return None
    current = OFF.to_redis if before is None else _stored_value(before)
    allowed: tuple[str, ...] = ()
    for name, value in changes:
        # A step that holds its share for a while stores the end of that time once the flag is set.
        if steps.is_done(name) or (steps.status(name) is StepStatus.STARTED and steps.detail(name).get("until")):
            current = value.to_redis
        elif steps.has_effect(name):
            allowed = (value.to_redis,)
            break
    return Condition(f"flag {key}", ConditionKind.FLAG, key, (current, *allowed), current, affects_rows)


def _stored_value(raw: str) -> str:
    try:
        return parse_flag(raw).to_redis
    except ValueError:
        return raw


# --- what a breach withdraws ----------------------------------------------------------------------------------------

_VERIFICATION = "verify-rows"


def set_verification_back(release: Release) -> Release | None:
    """The release whose verification must run again, because rows may have been written on one side only.

    None where nothing is verified yet, or where the phase of the backfill is left: then the rows are compared again
    without a step, see :func:`needs_comparison`.
    """
    phase = release.current_phase
    if phase is None or all(spec.name != _VERIFICATION for spec in phase.steps):
        return None
    if not release.status(_VERIFICATION).has_effect:
        return None
    if release.state is ReleaseState.FAILED:
        return release
    return replace(release.with_status(_VERIFICATION, StepStatus.PENDING), state=ReleaseState.RUNNING)


def needs_comparison(release: Release) -> bool:
    """Whether the rows must be compared again before progress: verified, no longer in the backfill's phase, and the old
    side is still at its place."""
    names = {spec.name for spec in release.strategy.steps}
    phase = release.current_phase
    if _VERIFICATION not in names or phase is None or any(spec.name == _VERIFICATION for spec in phase.steps):
        return False
    return release.status(_VERIFICATION) is StepStatus.DONE and not release.status("archive-old-side").has_effect


def started_steps(release: Release) -> tuple[str, ...]:
    """The steps of the current phase that have started and not ended; none in a rollback, which undoes them."""
    phase = None if release.state.is_rolling_back else release.current_phase
    return tuple(
        spec.name for spec in (phase.steps if phase else ()) if release.status(spec.name) is StepStatus.STARTED
    )


def timed_steps(release: Release, details: StepDetails) -> tuple[str, ...]:
    """The started steps that wait for a time: the wait starts again after a breach."""
    return tuple(name for name in started_steps(release) if details.get(name, {}).get("until"))

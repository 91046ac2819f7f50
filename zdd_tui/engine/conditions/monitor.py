"""Holds the standing conditions while the lease is held: notices a breach, stops progress, records who broke what.

A breach stops progress before anything is awaited. It is then confirmed in the store, what belongs to the release is
restored, and when the condition holds again the release continues with what must be verified again.

Each system is read and checked by itself, so that one that does not respond delays only its own conditions.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from zdd_tui.backends.postgres.condition_queries import (
    find_missing,
    find_schema_changer,
    has_planned_indexes,
    read_statements,
    select_baseline,
)
from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS
from zdd_tui.backends.postgres.gate_queries import read_newest_key, snapshot_marker
from zdd_tui.backends.redis_changes import find_flag_writer
from zdd_tui.backends.store.conditions import load_baseline, save_baseline, save_conditions
from zdd_tui.engine.conditions.comparison import RowComparison, describe_written_rows
from zdd_tui.engine.conditions.operations import KINDS, MadeObjects, describe_missed_rows
from zdd_tui.engine.conditions.sources import DatabaseSource, FlagSource, KubernetesSource, SourceState
from zdd_tui.engine.context import Context
from zdd_tui.engine.restore import restore_flag, restore_trigger
from zdd_tui.engine.runner import ReleaseHolder
from zdd_tui.model.ddl.names import witness_functions
from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import BackendError, StaleEpoch, StepFailed
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.plan.strategies import CanaryPlan
from zdd_tui.model.release.condition import (
    ROLLBACK_IN_HINT,
    STOPPED_NOTE,
    Condition,
    ConditionFinding,
    ConditionKind,
    ConditionReading,
    ConditionStatus,
    recheck_reading,
    system_of,
    unmet_readings,
)
from zdd_tui.model.release.condition_findings import (
    SchemaObject,
    find_changed_schema,
    find_disabled_trigger,
    find_row_security,
    find_wrong_flag,
    find_wrong_image,
    find_wrong_pods,
    find_wrong_selector,
    find_wrong_weight,
    unknown_finding,
)
from zdd_tui.model.release.conditions import (
    StepDetails,
    has_filled,
    needs_comparison,
    required_conditions,
    set_fills_back,
    set_verification_back,
    started_steps,
    timed_steps,
    withhold_verdicts,
)
from zdd_tui.model.release.records import NewEvent, StepChange
from zdd_tui.model.release.state import Release, StepStatus
from zdd_tui.model.release.system import System

CHECK_INTERVAL = 1.0
"""Seconds between two checks without a change."""
MIN_INTERVAL = 0.2
"""Seconds between two checks while many pods change."""
UNKNOWN_AFTER = 3.0
"""Seconds without its source until a condition is unknown: most watches reconnect within that time."""
OBJECT_RECHECK_DELAY = 0.25
"""Seconds until an object of an operation that does not look as expected is read once more."""
IDENTIFY_TIMEOUT = 1.0
"""Seconds to find out who changed something; the breach is recorded without it then."""
RESTORE_TIMEOUT = 2.0
"""Seconds for one attempt to restore; it is repeated."""
ROWS_AGREE = "rows agree"
"""The reading of a comparison that found rows which differ."""


_NOTED = (*KINDS, ConditionKind.TRIGGER)
"""What is compared with how the release has made it."""

_RESTORED = (
    ConditionKind.FLAG,
    ConditionKind.TRIGGER,
    ConditionKind.OBJECT_TRIGGER,
    ConditionKind.OBJECT_DEFINITION,
)
"""What the agent restores: the release's own."""

COMPARING = "the rows of both sides are compared again"


@dataclass(slots=True)
class _Required:
    """A condition and since when it is required, in monotonic seconds."""

    condition: Condition
    since: float


Evaluation = tuple[ConditionStatus, ConditionFinding | None]


def _wall_time(at: float) -> float:
    """Seconds since the epoch for monotonic seconds."""
    return time.time() - (time.monotonic() - at)


class ConditionMonitor:
    """Watches the conditions of one release.

    Locks are taken in this order: that of a system for a whole check of its conditions, `_record_lock` while something
    is recorded or restored, `step_lock`, the lock of `holder`. What holds one of the later locks must not call
    :meth:`refresh`. A breach stops progress before `_record_lock` is acquired.

    Args:
        step_lock: held while a step is chosen and while a command changes the release.
        stop_step: cancels the running step, if it runs forward; returns at once.
        wait_for_step: waits until a cancelled step has ended, and reads the release again; called with `step_lock`
            held.
        on_change: called after a change of the conditions.
    """

    def __init__(
        self,
        ctx: Context,
        holder: ReleaseHolder,
        step_lock: asyncio.Lock,
        *,
        stop_step: Callable[[], None],
        wait_for_step: Callable[[], Awaitable[None]],
        on_change: Callable[[], None],
    ) -> None:
        self._ctx = ctx
        self._holder = holder
        self._step_lock = step_lock
        self._stop_step = stop_step
        self._wait_for_step = wait_for_step
        self._on_change = on_change
        systems = [System.POSTGRESQL]
        systems += [System.KUBERNETES] if ctx.cluster_client is not None else []
        systems += [System.REDIS] if ctx.flag_store is not None else []
        self._changed = {system: asyncio.Event() for system in systems}
        self._check_locks = {system: asyncio.Lock() for system in systems}
        self._record_lock = asyncio.Lock()
        self._is_loaded = asyncio.Event()
        self._readings: dict[str, ConditionReading] = {}
        self._required: dict[str, _Required] = {}
        self._breached_at: dict[str, float] = {}
        self._wait_until: dict[str, float] = {}
        self._baseline: list[SchemaObject] = []
        self._missing: list[str] = []
        self._cluster = (
            KubernetesSource(ctx, self._changed[System.KUBERNETES].set) if System.KUBERNETES in systems else None
        )
        self._flags = FlagSource(ctx, self._changed[System.REDIS].set) if System.REDIS in systems else None
        self._database = DatabaseSource(ctx, self._changed[System.POSTGRESQL].set)
        self._objects = MadeObjects(ctx, ())
        self._comparison = RowComparison(ctx, self._compare_all, self._changed[System.POSTGRESQL].set)

    async def run(self) -> None:
        """Watches until cancelled.

        Raises:
            StaleEpoch, DatabaseUnavailable: nothing can be recorded any more.
        """
        record = await self._ctx.store.read()
        self._readings = {reading.name: reading for reading in record.conditions}
        async with self._ctx.read_connection() as conn:
            stored = await load_baseline(conn, self._ctx.store.release_id)
        self._baseline = [each for each in stored if not each.condition]
        self._objects = MadeObjects(self._ctx, stored)
        self._is_loaded.set()
        tasks = [asyncio.create_task(self._database.run())]
        if self._cluster is not None:
            tasks.append(asyncio.create_task(self._cluster.run()))
        if self._flags is not None:
            tasks.append(asyncio.create_task(self._flags.run()))
        tasks += [asyncio.create_task(self._check_loop(system)) for system in self._changed]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._comparison.stop()
            pending = set(tasks)
            while pending:
                # Repeated: wait_for of Python 3.11, which the Redis client uses, can lose a cancellation.
                for task in pending:
                    task.cancel()
                _, pending = await asyncio.wait(pending, timeout=0.1)
        for task in done:
            task.result()

    async def _check_loop(self, system: System) -> None:
        changed = self._changed[system]
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL):
                    await changed.wait()
            changed.clear()
            async with self._check_locks[system]:
                await self._check(system)
            await asyncio.sleep(MIN_INTERVAL)

    async def refresh(self) -> None:
        """Reads every system now and checks, so that an old reading neither opens nor refuses a command."""
        await self._is_loaded.wait()
        await asyncio.gather(*map(self._refresh_system, self._check_locks))

    async def _refresh_system(self, system: System) -> None:
        async with self._check_locks[system]:
            if system is System.POSTGRESQL:
                await self._database.read()
            else:
                await self._read_again(self._list_required(system))
            await self._check(system, unknown_after=0.0)

    # --- evaluation ------------------------------------------------------------------------------------------------

    def _details(self) -> StepDetails:
        facts = self._database.facts.value
        return facts.details if facts else {}

    def _list_required(self, system: System | None = None) -> list[Condition]:
        """The conditions now, of one system or of all; notes since when each of them is required."""
        now = time.monotonic()
        required = required_conditions(self._ctx.plan, self._holder.release, self._details())
        known = self._required
        self._required = {
            condition.name: (
                known[condition.name]
                if condition.name in known and known[condition.name].condition == condition
                else _Required(condition, now)
            )
            for condition in required
        }
        return [each for each in required if system in (None, system_of(each.kind))]

    def _is_required(self, condition: Condition) -> bool:
        """Whether it still was when the conditions were listed last."""
        known = self._required.get(condition.name)
        return known is not None and known.condition == condition

    def _observation(self, condition: Condition) -> SourceState[object]:
        observation: object
        match condition.kind:
            case ConditionKind.IMAGE | ConditionKind.PODS | ConditionKind.WEIGHT:
                observation = self._require_cluster().workloads[condition.subject]
            case ConditionKind.SELECTOR:
                observation = self._require_cluster().service
            case ConditionKind.FLAG:
                assert self._flags is not None, "a plan with flags has a flag store"
                observation = self._flags.flags
            case _:
                observation = self._database.facts
        return observation  # type: ignore[return-value]  # each kind reads the value of its own source

    def _evaluate(self, condition: Condition, unknown_after: float) -> Evaluation | None:
        """None: the facts are not new enough, or the release has gone on; the last status stays."""
        if not self._is_required(condition):
            return None
        observation, now = self._observation(condition), time.monotonic()
        if observation.error:
            if now - observation.failed_at < unknown_after:
                return None
            since = _wall_time(observation.failed_at)
            return ConditionStatus.UNKNOWN, unknown_finding(condition, since, observation.error, observation.hint)
        if not observation.is_live and now - observation.began_at > UNKNOWN_AFTER + CHECK_INTERVAL:
            return ConditionStatus.UNKNOWN, unknown_finding(condition, _wall_time(observation.began_at))
        if not observation.is_live and observation.began_at < self._required[condition.name].since:
            return None
        finding = self._find(condition)
        return (ConditionStatus.BREACHED, finding) if finding else (ConditionStatus.HOLDS, None)

    def _find(self, condition: Condition) -> ConditionFinding | None:
        plan = self._ctx.plan
        workload = self._cluster.workloads.get(condition.subject) if self._cluster is not None else None
        match condition.kind:
            case ConditionKind.IMAGE:
                assert workload is not None
                assert workload.value is not None
                return find_wrong_image(self._ctx.workload_plan, condition, workload.value)
            case ConditionKind.PODS:
                assert workload is not None
                assert workload.value is not None
                return find_wrong_pods(self._ctx.workload_plan, condition, workload.value)
            case ConditionKind.WEIGHT:
                assert isinstance(plan, CanaryPlan)
                stable = self._require_cluster().workloads[plan.kubernetes.deployment].value
                canary = self._require_cluster().workloads[plan.canary_deployment].value
                assert canary is not None
                if stable is None:
                    return None
                return find_wrong_weight(plan, condition, canary.deployment, stable.deployment, plan.canary.tolerance)
            case ConditionKind.SELECTOR:
                return find_wrong_selector(plan, condition, self._require_cluster().service.value)
            case ConditionKind.FLAG:
                assert self._flags is not None
                assert self._flags.flags.value is not None
                return find_wrong_flag(condition, self._flags.flags.value.get(condition.subject))
            case _:
                return self._find_in_database(condition)

    def _find_in_database(self, condition: Condition) -> ConditionFinding | None:
        facts = self._database.facts.value
        assert facts is not None
        match condition.kind:
            case ConditionKind.TRIGGER:
                return find_disabled_trigger(condition, facts, self._objects.expected(condition))
            case ConditionKind.SCHEMA:
                assert self._database.relied is not None
                return find_changed_schema(
                    self._baseline,
                    facts,
                    archived=self._database.relied.archived,
                    old_side_needed=not self._has_effect("drop-archive"),
                    missing=self._missing,
                )
            case ConditionKind.ROWS_VISIBLE:
                return find_row_security(facts)
        return self._objects.find(condition, facts)

    def _require_cluster(self) -> KubernetesSource:
        assert self._cluster is not None, "only a plan with a Deployment has conditions about it"
        return self._cluster

    def _has_effect(self, step: str) -> bool:
        return self._holder.release.status(step).has_effect

    async def _check(self, system: System, unknown_after: float = UNKNOWN_AFTER) -> None:
        """One check of every condition of a system; call it with its lock held. Only a record waits for other systems.

        Args:
            unknown_after: seconds without its source until a condition is unknown.
        """
        required = self._list_required(system)
        if system is System.POSTGRESQL:
            await self._save_baseline(required)
        suspects = self._find_new_breaches(required, unknown_after)
        breaches = []
        if suspects:
            # A watch may be behind our own step: only what a direct reading shows is a breach.
            await self._read_again(list(suspects))
            if any(each.kind in KINDS for each in suspects):
                # A step of ours may just have changed the object, and its record follows.
                await asyncio.sleep(OBJECT_RECHECK_DELAY)
                await self._database.read()
            required = self._list_required(system)
            if system is System.POSTGRESQL:
                await self._save_baseline(required)  # what a step has just made is in this reading for the first time
            breaches = list(self._find_new_breaches(suspects, unknown_after).items())
            self._stop_progress(breaches)
        async with self._record_lock:
            await self._record_breaches(breaches)
            await self._restore_breached(self._list_required(system))
            required = self._list_required(system)
            evaluated = {each.name: self._evaluate(each, unknown_after) for each in required}
            await self._update_others(required, evaluated)

    def _find_new_breaches(
        self, conditions: Iterable[Condition], unknown_after: float
    ) -> dict[Condition, ConditionFinding]:
        return {
            each: evaluation[1]
            for each in conditions
            if (evaluation := self._evaluate(each, unknown_after)) is not None
            and evaluation[1] is not None
            and self._is_new_breach(each.name, evaluation)
        }

    def _is_new_breach(self, name: str, evaluation: Evaluation | None) -> bool:
        known = self._readings.get(name)
        is_breach = evaluation is not None and evaluation[0] is ConditionStatus.BREACHED
        return is_breach and (known is None or known.status is not ConditionStatus.BREACHED)

    async def _read_again(self, conditions: list[Condition]) -> None:
        kinds = {condition.kind for condition in conditions}
        workloads = {
            condition.subject
            for condition in conditions
            if condition.kind in (ConditionKind.IMAGE, ConditionKind.PODS, ConditionKind.WEIGHT)
        }
        reads: list[Awaitable[object]] = [self._require_cluster().read_workload(name) for name in sorted(workloads)]
        if ConditionKind.SELECTOR in kinds:
            reads.append(self._require_cluster().read_service(self._ctx.workload_plan.service))
        if ConditionKind.FLAG in kinds and self._flags is not None:
            reads.append(self._flags.read())
        await asyncio.gather(*reads)

    async def _save_baseline(self, required: list[Condition]) -> None:
        """Notes the objects as they are, the first time that the release relies on them; indexes once they are built.

        Taken from a reading that began after the step had ended.
        """
        facts, relied = self._database.facts, self._database.relied
        if facts.value is not None:
            made = [
                each
                for each in required
                if each.kind in _NOTED and self._is_required(each) and facts.began_at >= self._required[each.name].since
            ]
            if await self._objects.note(made, facts.value):
                await save_baseline(self._ctx.store, [*self._baseline, *self._objects.noted])
        schema = [each for each in required if each.kind is ConditionKind.SCHEMA and self._is_required(each)]
        entry = self._required[schema[0].name] if schema else None
        if entry is None or facts.value is None or relied is None or facts.began_at < entry.since:
            return
        with_indexes = self._has_built_indexes()
        if self._baseline and (not with_indexes or has_planned_indexes(relied, self._baseline)):
            self._missing = []
            return
        self._missing = find_missing(relied, facts.value, with_indexes=with_indexes)
        if self._missing:
            return
        fresh = select_baseline(relied, facts.value, with_indexes=with_indexes)
        known = {(each.kind, each.key) for each in self._baseline}
        fresh = [each for each in fresh if (each.kind, each.key) not in known]
        async with self._ctx.read_connection() as conn:
            self._baseline += await read_statements(conn, fresh)
        await save_baseline(self._ctx.store, [*self._baseline, *self._objects.noted])

    def _has_built_indexes(self) -> bool:
        release = self._holder.release
        names = {spec.name for spec in release.strategy.steps}
        return "create-indexes" in names and release.status("create-indexes") is StepStatus.DONE

    # --- a breach --------------------------------------------------------------------------------------------------

    def _set(self, reading: ConditionReading) -> None:
        self._readings[reading.name] = reading
        self._holder.set_unmet(unmet_readings(self._readings.values()))

    def _stop_progress(self, breaches: list[tuple[Condition, ConditionFinding]]) -> None:
        if not breaches:
            return
        for condition, finding in breaches:
            self._set(_breach_reading(condition, finding))
            self._breached_at.setdefault(condition.name, time.monotonic())
            self._wait_until.pop(condition.name, None)
        self._stop_step()
        self._comparison.stop()

    async def _record_breaches(self, breaches: list[tuple[Condition, ConditionFinding]]) -> None:
        # The release may have gone on meanwhile to where nothing relies on it.
        breaches = [each for each in breaches if self._readings[each[0].name].status is ConditionStatus.BREACHED]
        if not breaches:
            return
        for condition, finding in breaches:
            if not finding.who:
                self._set(replace(self._readings[condition.name], who=await self._identify(condition)))
        readings = [self._readings[condition.name] for condition, _ in breaches]
        async with self._step_lock:
            await self._wait_for_step()
            async with self._holder.lock:
                release = self._holder.release
                back = self._verify_again(release) if any(each.affects_rows for each in readings) else None
                record = await self._ctx.store.read()
                gates = [record.gates[spec.name] for spec in release.gates if spec.name in record.gates]
                events = [NewEvent("condition", f"breach: {each.title}", each.hint) for each in readings]
                details = {step.name: step.detail for step in record.steps}
                timed = timed_steps(release, details)
                await save_conditions(
                    self._ctx.store,
                    readings,
                    events=events,
                    gates=withhold_verdicts(gates, release),
                    verify_again=back,
                    steps=[
                        StepChange(name, {**details[name], "until": None} if name in timed else None, STOPPED_NOTE)
                        for name in started_steps(release)
                    ],
                )
                self._holder.release = back or release
        for each in readings:
            self._ctx.log(f"breach: {each.title}")
        self._on_change()

    def _verify_again(self, release: Release) -> Release | None:
        is_operations = isinstance(self._ctx.plan, BaseOperationsPlan)
        return set_fills_back(release) if is_operations else set_verification_back(release)

    def _needs_comparison(self) -> bool:
        release = self._holder.release
        return has_filled(release) if isinstance(self._ctx.plan, BaseOperationsPlan) else needs_comparison(release)

    async def _compare_all(self) -> str:
        if isinstance(self._ctx.plan, BaseOperationsPlan):
            return await describe_missed_rows(self._ctx, self._list_required())
        return await describe_written_rows(self._ctx)

    async def _identify(self, condition: Condition) -> str:
        try:
            async with asyncio.timeout(IDENTIFY_TIMEOUT):
                if condition.kind is ConditionKind.FLAG:
                    return await find_flag_writer(self._ctx.flags)
                words = [each.rpartition(".")[2] for each in (condition.subject, condition.table) if each]
                if isinstance(self._ctx.plan, Plan):
                    change = self._ctx.plan.change
                    words += [change.table.name, change.target_table.name, *witness_functions(self._ctx.plan)]
                async with self._ctx.read_connection() as conn:
                    return await find_schema_changer(conn, words)
        except (TimeoutError, BackendError, *CONNECTION_ERRORS):
            return "changed by: unknown"

    async def _restore_breached(self, required: list[Condition]) -> None:
        """Restores the release's own flags and triggers. Nothing that belongs to others is written."""
        for condition in required:
            reading = self._readings.get(condition.name)
            if reading is None or reading.status is not ConditionStatus.BREACHED:
                continue
            if condition.kind not in _RESTORED:
                continue
            if await self._restore(condition):
                restored = replace(reading, restored=True)
                self._set(restored)
                await save_conditions(self._ctx.store, [restored])

    async def _restore(self, condition: Condition) -> bool:
        async with self._step_lock:
            # A command may have changed the release meanwhile: a rollback takes its flags and triggers away itself.
            if condition not in required_conditions(self._ctx.plan, self._holder.release, self._details()):
                return False
            try:
                async with asyncio.timeout(RESTORE_TIMEOUT):
                    if condition.kind is ConditionKind.FLAG:
                        restored = await restore_flag(self._ctx, condition)
                    else:
                        facts = self._database.facts.value
                        assert facts is not None, "the breach was found in it"
                        is_trigger = condition.kind is ConditionKind.TRIGGER
                        restored = is_trigger and await restore_trigger(self._ctx, condition)
                        restored = restored or await self._objects.restore(condition, facts)
            except StaleEpoch:
                raise
            except (TimeoutError, BackendError, StepFailed) as error:
                self._ctx.log(f"{condition.name} could not be restored yet: {error or type(error).__name__}")
                return False
        self._changed[system_of(condition.kind)].set()
        return restored

    # --- everything else -------------------------------------------------------------------------------------------

    async def _update_others(self, required: list[Condition], evaluated: dict[str, Evaluation | None]) -> None:
        changed: list[ConditionReading] = []
        events: list[NewEvent] = []
        for condition in required:
            evaluation = evaluated.get(condition.name)
            if self._is_new_breach(condition.name, evaluation):
                self._changed[system_of(condition.kind)].set()  # it is confirmed first
                continue
            reading = await self._next_reading(condition, evaluation) if evaluation is not None else None
            if reading is not None:
                events += self._transition_events(self._readings.get(condition.name), reading)
                changed.append(reading)
        changed += self._end_unneeded(events)
        await self._compare_rows(changed, events)
        if changed:
            for reading in changed:
                self._set(reading)
            async with self._holder.lock:
                await save_conditions(self._ctx.store, changed, events=events)
            for event in events:
                self._ctx.log(event.message)
            self._on_change()

    async def _next_reading(self, condition: Condition, evaluation: Evaluation) -> ConditionReading | None:
        """The reading after a check that found no new breach; None where it is the same."""
        known, (status, finding) = self._readings.get(condition.name), evaluation
        if status is ConditionStatus.UNKNOWN and finding is not None:
            is_known = known is None or known.status is ConditionStatus.HOLDS
            return ConditionReading(condition.name, status, finding.text, hint=finding.hint) if is_known else None
        if known is None or known.status is ConditionStatus.HOLDS:
            return None
        if status is ConditionStatus.BREACHED and finding is not None:
            is_other = known.text != finding.text and not known.restored
            return (
                replace(known, text=finding.text, who=finding.who or known.who, hint=finding.hint) if is_other else None
            )
        if known.status is ConditionStatus.UNKNOWN:
            return replace(known, status=ConditionStatus.HOLDS)
        return await self._resolve(condition, known)

    def _transition_events(self, before: ConditionReading | None, after: ConditionReading) -> list[NewEvent]:
        if after.status is ConditionStatus.UNKNOWN:
            return [NewEvent("condition", f"unknown: {after.text}")]
        if after.status is not ConditionStatus.HOLDS:
            return []
        if before is not None and before.status is ConditionStatus.UNKNOWN:
            return [NewEvent("condition", f"known again: {after.name}")]
        return [self._end_event(after)]

    def _end_event(self, reading: ConditionReading) -> NewEvent:
        began = self._breached_at.pop(reading.name, None)
        after = f" after {format_duration(time.monotonic() - began)}" if began is not None else ""
        restored = ", restored by the agent" if reading.restored else ""
        return NewEvent("condition", f"holds again{after}: {reading.name}{restored}", reading.text)

    def _end_unneeded(self, events: list[NewEvent]) -> list[ConditionReading]:
        """Unmet conditions that are not watched any more: nothing relies on them, or a rollback checks them itself."""
        is_rolling_back = self._holder.release.state.is_rolling_back
        what = "not watched in the rollback" if is_rolling_back else "no longer needed"
        ended = []
        for name, reading in self._readings.items():
            if name in self._required or reading.status is ConditionStatus.HOLDS:
                continue
            if name == ROWS_AGREE and self._needs_comparison():
                continue
            ended.append(replace(reading, status=ConditionStatus.HOLDS))
            events.append(NewEvent("condition", f"{what}: {name}", reading.text))
            self._breached_at.pop(name, None)
        return ended

    async def _resolve(self, condition: Condition, known: ConditionReading) -> ConditionReading | None:
        """The reading of a condition that holds again; None where nothing has changed.

        What it may have affected is verified again first. An application may use its copy of a flag for a while.
        """
        if condition.kind is ConditionKind.FLAG:
            until = self._wait_until.setdefault(condition.name, time.monotonic() + 2 * self._ctx.plan.flag_staleness)
            if time.monotonic() < until:
                return recheck_reading(known, "waiting until every pod has seen the flag")
        release = self._holder.release
        if condition.affects_rows and self._needs_comparison():
            if not self._may_write_one_side():
                self._comparison.start()
            return recheck_reading(known, COMPARING)
        if condition.affects_rows:
            await self._restart_sample(release)
        return replace(known, status=ConditionStatus.HOLDS)

    def _may_write_one_side(self) -> bool:
        """Whether a row may still be written on one side only: a comparison that starts now would not see it."""
        now = time.monotonic()
        return any(until > now for until in self._wait_until.values()) or any(
            reading.affects_rows and reading.status is ConditionStatus.BREACHED for reading in self._readings.values()
        )

    async def _restart_sample(self, release: Release) -> None:
        """The sample of recent rows starts again: rows of the breach differ until the backfill copies them."""
        phase, name = release.current_phase, "write-flag-on"
        detail = self._details().get(name, {})
        if phase is None or all(spec.name != name for spec in phase.steps) or not detail.get("since"):
            return
        async with self._ctx.read_connection() as conn:
            newest = await read_newest_key(conn, await self._ctx.catalog())
            fresh = {**detail, "since": await snapshot_marker(conn), "newest_key": newest}
        async with self._holder.lock:
            await self._ctx.store.save(self._holder.release, step=StepChange(name, detail=fresh))

    async def _compare_rows(self, changed: list[ConditionReading], events: list[NewEvent]) -> None:
        """Ends the conditions that wait for a comparison, once it has found no difference."""
        result, differing = self._comparison.result(), self._readings.get(ROWS_AGREE)
        if result is None:
            if differing is not None and differing.status.stops_progress and ROWS_AGREE not in self._required:
                self._comparison.start(delay=True)
            return
        if result:
            if differing is None or differing.status is not ConditionStatus.BREACHED or differing.text != result:
                where = "" if isinstance(self._ctx.plan, BaseOperationsPlan) else "see zdd.mismatch and "
                hint = f"{where}correct those rows; the release continues when they agree{ROLLBACK_IN_HINT}"
                changed.append(ConditionReading(ROWS_AGREE, ConditionStatus.BREACHED, result, hint=hint))
                events.append(NewEvent("condition", f"breach: {result}", hint))
        elif differing is not None and differing.status is not ConditionStatus.HOLDS:
            changed.append(replace(differing, status=ConditionStatus.HOLDS))
            events.append(NewEvent("condition", f"holds again: {ROWS_AGREE}"))
        waiting = [
            reading
            for reading in self._readings.values()
            if reading.status is ConditionStatus.RECHECKING and reading.text.endswith(COMPARING)
        ]
        known = {reading.name for reading in changed}
        for reading in waiting:
            if reading.name in known:
                changed[:] = [each for each in changed if each.name != reading.name]
            held = replace(reading, status=ConditionStatus.HOLDS)
            changed.append(held)
            events.append(self._end_event(held))
        if result:
            self._comparison.start(delay=True)


def _breach_reading(condition: Condition, finding: ConditionFinding) -> ConditionReading:
    return ConditionReading(
        condition.name,
        ConditionStatus.BREACHED,
        finding.text,
        finding.who,
        finding.hint,
        affects_rows=condition.affects_rows,
    )

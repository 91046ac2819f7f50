"""The agent's work from acquiring the lease until it loses the lease or the release ends.

Six loops run concurrently, in the manner of a Kubernetes controller: one renews the lease, one handles commands one
at a time, one runs steps one at a time, one evaluates the gates, one watches the standing conditions, and one evaluates
the guard's rules. The first loop that ends or fails ends the session; the next session continues from the state in
PostgreSQL.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import replace
from typing import Any, TypeVar

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.workload_cache import WorkloadCache
from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.backends.store.client import Store
from zdd_tui.backends.store.guard import record_overdue_wait
from zdd_tui.engine.conditions.monitor import ConditionMonitor
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.registry import stream_gates
from zdd_tui.engine.guard.loop import GuardLoop
from zdd_tui.engine.preconditions import (
    build_tune_command,
    describe_tune_result,
    find_waiting_fills,
    require_kept_rows,
    require_rehearsal,
    require_same_objects,
)
from zdd_tui.engine.rollback_rows import KEEPS_TRIGGERS, restore_triggers
from zdd_tui.engine.runner import ReleaseHolder, Runner, StepHook
from zdd_tui.engine.steps.rollout import recall_admitted_images
from zdd_tui.engine.waits import report_wait
from zdd_tui.engine.witness import settle_recorded_rows
from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import BackendError, DatabaseError, DatabaseUnavailable, Refused, StaleEpoch, ZddError
from zdd_tui.model.plan.base import BasePlan, Plan, WorkloadPlan
from zdd_tui.model.plan.guard import Guard
from zdd_tui.model.release.conditions import withhold_verdicts
from zdd_tui.model.release.records import NewEvent, ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import (
    Command,
    CommandKind,
    PendingStep,
    Release,
    ReleaseState,
    apply_command,
    complete_if_open,
    describe_table_pause,
    next_pending_step,
    suspend_held_steps,
)
from zdd_tui.model.release.summary import find_wait

RENEWALS_PER_TTL = 3
"""Renewals in the lifetime of a lease: two may fail."""
GATE_INTERVAL = 1.0
"""Seconds between two evaluations of the gates."""
ENTRY_GATE_INTERVAL = 3.0
"""Seconds between two evaluations before the first phase: each reads the databases of other regions."""
RECONNECT_DELAY = 1.0
"""The longest pause between two attempts to connect to Kubernetes or Redis."""

LogCallback = Callable[[str], None]
PlanCheck = Callable[[], Awaitable[object]]
"""Raises a ZddError for a plan that must not start."""
T = TypeVar("T")


class LeaseSession:
    """Runs the release while the lease is held.

    Locks are taken in this order, so that no two tasks wait for each other: that of the conditions (in
    :class:`ConditionMonitor`), the step lock, the lock of the `ReleaseHolder`. The gate lock is held alone.
    """

    def __init__(
        self,
        plan: BasePlan,
        store: AgentStore,
        hook: StepHook | None,
        log: LogCallback,
        check: PlanCheck | None = None,
    ) -> None:
        self._plan = plan
        self._store = store
        self._hook = hook
        self._log = log
        self._check = check
        self._state_changed = asyncio.Event()
        self._gate_lock = asyncio.Lock()
        self._step_lock = asyncio.Lock()  # held while the next step is chosen and while a command changes the release
        self._running_step: asyncio.Task[None] | None = None
        self._running_pending: PendingStep | None = None
        self._holder: ReleaseHolder
        self._ctx: Context
        self._workloads: WorkloadCache | None = None
        self._reported_wait_since = 0.0
        self._runner: Runner
        self._monitor: ConditionMonitor

    async def run(self) -> Release:
        """Runs until the release has ended. Whatever ends the session earlier is raised."""
        record = await self._store.read()
        recall_admitted_images(self._plan, record.steps)
        self._holder = ReleaseHolder(suspend_held_steps(record.release))
        # The renewals start first: connecting to the other systems may take longer than the lease lasts.
        await _run_until_first_ends(self._renew_loop(), self._run_loops())
        return self._release

    @property
    def _release(self) -> Release:
        return self._holder.release

    async def _renew_loop(self) -> None:
        """Renews the lease. While the database is unreachable it retries for as long as the lease lasts."""
        while True:
            await asyncio.sleep(self._store.ttl / RENEWALS_PER_TTL)
            try:
                await self._store.renew_lease()
            except DatabaseUnavailable:
                if self._store.seconds_remaining < self._store.ttl / RENEWALS_PER_TTL:
                    raise

    async def _run_loops(self) -> None:
        async with AsyncExitStack() as stack:
            loops = [self._run_release(stack)]
            if self._plan.guard is not None:
                loops.append(self._build_guard(self._plan.guard).run())
            await _run_until_first_ends(*loops)

    async def _run_release(self, stack: AsyncExitStack) -> None:
        await self._connect(stack)
        self._state_changed.set()
        loops = [self._command_loop(), self._step_loop(), self._gate_loop(), self._monitor.run()]
        if self._workloads is not None:
            loops.insert(0, self._workloads.run())  # first: the others read and follow its watches
        await _run_until_first_ends(*loops)

    def _build_guard(self, guard: Guard) -> GuardLoop:
        """The guard starts before the connections exist. A rule is unknown while its source is unavailable."""
        return GuardLoop(
            self._plan,
            guard,
            self._store,
            workloads=lambda: self._workloads,
            release=lambda: self._release,
            log=self._log,
        )

    # Connections

    async def _connect(self, stack: AsyncExitStack) -> None:
        redis = asyncio.create_task(self._connect_flags(stack))
        try:
            cluster = await self._connect_cluster(stack)
            flags = await redis
        finally:
            redis.cancel()
            await asyncio.gather(redis, return_exceptions=True)
        self._ctx = Context(
            plan=self._plan,
            store=self._store,
            flag_store=flags,
            cluster_client=cluster,
            is_paused=lambda: self._release.paused,
            log=self._log,
            tuning=lambda: self._release.tuning,
            paused_tables=lambda: frozenset(pause.table for pause in self._release.table_pauses),
        )
        self._workloads = self._ctx.workload_cache
        self._runner = Runner(self._ctx, self._holder, self._hook)
        self._monitor = ConditionMonitor(
            self._ctx,
            self._holder,
            self._step_lock,
            stop_step=self._stop_step_for_breach,
            wait_for_step=self._wait_for_cancelled_step,
            on_change=self._state_changed.set,
        )

    async def _connect_cluster(self, stack: AsyncExitStack) -> Cluster | None:
        if not isinstance(self._plan, WorkloadPlan):
            return None
        names = self._plan.kubernetes
        cluster = await self._connect_with_retry(
            "Kubernetes",
            lambda: stack.enter_async_context(Cluster.connect(names.kubeconfig, names.context, names.namespace)),
        )
        cluster.lease_check = self._store.check_lease
        return cluster

    async def _connect_flags(self, stack: AsyncExitStack) -> FlagStore | None:
        if (url := self._plan.redis_url) is None:
            return None
        flags = await self._connect_with_retry("Redis", lambda: FlagStore.connect(url.get_secret_value()))
        stack.push_async_callback(flags.close)
        return flags

    async def _connect_with_retry(self, system: str, connect: Callable[[], Awaitable[T]]) -> T:
        """Retries without limit. Each new reason is logged and written to the audit once."""
        backoff = Backoff(RECONNECT_DELAY, RECONNECT_DELAY)
        async with report_wait(self._store, self._log, system) as wait:
            while True:
                try:
                    return await connect()
                except BackendError as error:
                    await wait.report(error.title, str(error))
                await backoff.sleep()

    # Steps

    async def _step_loop(self) -> None:
        try:
            while not self._release.state.has_ended:
                async with self._step_lock:
                    self._state_changed.clear()
                    pending = next_pending_step(self._release)
                    if pending is not None:
                        self._running_pending = pending
                        self._running_step = asyncio.create_task(self._runner.run_step(pending))
                if self._running_step is None:
                    await self._state_changed.wait()
                    continue
                await asyncio.wait([self._running_step])
                finished, self._running_step = self._running_step, None
                if not finished.cancelled():
                    finished.result()
            await self._store.save_end(self._release)
            self._log(f"release {self._release.name} is {self._release.state}")
        finally:
            await self._cancel_step()

    async def _cancel_step(self) -> None:
        """Cancels the running step wherever it is. Steps are idempotent: it is run again or undone."""
        step = self._running_step
        if step is not None and not step.done():
            step.cancel()
            await asyncio.wait([step])

    def _stop_step_for_breach(self) -> None:
        """Cancels the running step at once, unless it is an undo: a rollback continues during a breach."""
        step, pending = self._running_step, self._running_pending
        if step is not None and pending is not None and pending.direction == "run":
            step.cancel()

    async def _wait_for_cancelled_step(self) -> None:
        """Waits until a cancelled step has ended, which may have committed its end before. An undo goes on."""
        step = self._running_step
        if step is not None and step.cancelling():
            await asyncio.wait([step])
        elif step is not None and not step.done():
            return
        self._holder.release = (await self._store.read()).release

    # Commands

    async def _command_loop(self) -> None:
        dsn = self._plan.database.dsn.get_secret_value()
        async with await Store.open(dsn, application_name="zdd agent listen") as store:
            async for _ in store.watch_changes(self._store.release_id):
                while (stored := await self._store.next_command()) is not None:
                    await self._handle_command(stored)

    async def _handle_command(self, stored: StoredCommand) -> None:
        command = stored.to_command
        try:
            if command.kind is CommandKind.ADVANCE:
                async with self._report_wait("the standing conditions", "not read yet"):
                    await self._monitor.refresh()
                async with self._report_wait("the gates", "not read yet"):
                    await self._evaluate_gates(fresh=True)  # a reading that is only old must not refuse the command
                async with self._report_wait("zdd check of the plan", "no result yet"):
                    await self._require_checked_plan(command)
            # Before the lock: a slow cluster or a count of rows must not delay the record of a breach elsewhere.
            async with self._report_wait("Kubernetes", "no response"):
                await require_same_objects(self._ctx.cluster_client, stored)
            if command.kind is CommandKind.ROLLBACK:
                await require_kept_rows(self._ctx)
            if command.kind is CommandKind.PAUSE and command.table:
                command = replace(command, waits=await find_waiting_fills(self._ctx, command.table))
            async with self._step_lock:
                if command.kind is CommandKind.ROLLBACK:
                    await self._stop_step_for_rollback(command)
                await self._apply_command(stored, command)
        except Refused as refusal:
            await self._refuse(stored, refusal)
        except (StaleEpoch, DatabaseError, *CONNECTION_ERRORS):
            raise  # nothing can be answered now; the next session takes the command again
        except ZddError as error:
            await self._refuse(stored, error)
        except Exception as error:
            # It stays queued: without an answer it would end every agent that takes it.
            self._log("".join(traceback.format_exception(error)))
            await self._refuse(stored, Refused(f"bug in zdd: {type(error).__name__}", "see the log of the agent"))
        self._state_changed.set()

    def _report_wait(self, subject: str, why: str) -> AbstractAsyncContextManager[object]:
        return report_wait(self._store, self._log, subject, why)

    async def _refuse(self, stored: StoredCommand, error: ZddError) -> None:
        await self._store.complete_command(stored.id, refused=True, outcome=str(error), release=None)
        self._log(f"refused {stored.kind} by {stored.actor}: {error.title}")

    async def _require_checked_plan(self, advance: Command) -> None:
        """Refuses to start a release that `zdd check` refuses. The plan or a system may have changed since it was
        registered. A release that has started is resumed without the check: it must be possible to finish it."""
        if self._check is None or self._release.state is not ReleaseState.PLANNED:
            return
        record = await self._store.read()
        apply_command(self._release, advance, record.gates, record.now)  # the rules refuse it at once, without a check
        try:
            await self._check()
        except ZddError as error:
            raise Refused(f"zdd check refuses this plan: {error.title}", error.hint) from None

    async def _stop_step_for_rollback(self, rollback: Command) -> None:
        record = await self._store.read()
        apply_command(self._release, rollback, record.gates, record.now)  # a refused rollback must not cancel a step
        await self._cancel_step()
        # The step may have committed its end before it was cancelled.
        self._holder.release = (await self._store.read()).release

    async def _apply_command(self, stored: StoredCommand, command: Command) -> None:
        async with self._holder.lock:
            record = await self._store.read()
            before = self._holder.release
            if self._plan.confirm.needs_reason(stored.kind, stored.request.reason):
                raise Refused(f"the plan requires a reason to {stored.kind}", "repeat the command with --reason TEXT")
            if command.kind is CommandKind.TUNE:
                command = build_tune_command(self._plan, before, stored)
            after = apply_command(before, command, record.gates, record.now)
            events = await require_rehearsal(self._ctx, before, stored, record.now)
            if after.phase != before.phase and after.current_phase is not None:
                events.append(NewEvent("phase", f"{after.current_phase.name} begins"))
            if command.kind is CommandKind.TUNE:
                outcome = describe_tune_result(self._plan, before, after)
            elif command.table:
                outcome = describe_table_pause(after, command.table)
            else:
                outcome = f"{_position_name(after)} is {after.state.text}{', paused' if after.paused else ''}"
            if late := command.seconds_late(record.now):
                outcome += f"; late: confirmed {format_duration(late)} before"
            await self._store.complete_command(stored.id, refused=False, outcome=outcome, release=after, events=events)
            self._holder.release = after
            self._log(f"{stored.kind} by {stored.actor}: {outcome}")

    # Gates

    async def _gate_loop(self) -> None:
        while True:
            has_entry_gates = self._release.state is ReleaseState.PLANNED and bool(self._release.gates)
            is_active = self._release.state in (ReleaseState.RUNNING, ReleaseState.WAITING, ReleaseState.FAILED)
            if is_active or has_entry_gates:
                await self._evaluate_gates()
            elif self._release.state in (ReleaseState.ROLLING_BACK, ReleaseState.ROLLBACK_FAILED):
                await self._keep_rows()
            await asyncio.sleep(ENTRY_GATE_INTERVAL if has_entry_gates else GATE_INTERVAL)

    async def _keep_rows(self) -> None:
        """In a rollback: restores what copies writes of V3 to the old side, and settles the rows that differ."""
        if not isinstance(self._plan, Plan):
            return
        async with self._step_lock:  # a step that removes a trigger does not begin meanwhile
            pending, is_running = self._running_pending, self._running_step is not None
            if not is_running or (pending is not None and pending.step.name in KEEPS_TRIGGERS):
                await restore_triggers(self._ctx, self._release)
        await settle_recorded_rows(self._ctx, await self._store.read())

    async def _evaluate_gates(self, *, fresh: bool = False) -> None:
        async with self._gate_lock:  # one evaluation at a time: an older result must not replace a newer one
            record = await self._store.read()
            if await settle_recorded_rows(self._ctx, record):
                record = await self._store.read()
            async with aclosing(stream_gates(self._ctx, record, fresh=fresh)) as parts:
                async for readings in parts:
                    await self._store.save_gates(withhold_verdicts(readings, self._release))
        async with self._holder.lock:
            record = await self._store.read()
            after = complete_if_open(self._release, record.gates, record.now)
            if after is not self._release:
                await self._store.save(after, events=[NewEvent("phase", f"release {after.name}: {after.state}")])
                self._holder.release = after
        self._state_changed.set()
        await self._report_overdue_wait(record)

    async def _report_overdue_wait(self, record: ReleaseRecord) -> None:
        """Reports each wait that lasts longer than the plan allows, once."""
        wait = find_wait(record, record.now)
        if wait is not None and wait.is_overdue and wait.since != self._reported_wait_since:
            self._reported_wait_since = wait.since
            if await record_overdue_wait(self._store, wait):
                self._log(wait.description)


def _position_name(release: Release) -> str:
    return release.current_phase.name if release.current_phase else release.name


async def _run_until_first_ends(*loops: Coroutine[Any, Any, None]) -> None:
    """Runs loops concurrently until one ends or fails, cancels the others, and raises the failure."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()

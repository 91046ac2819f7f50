"""Walks a release through its phases and back, with the real engine's steps, rules and gates."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.registry import evaluate_gates
from zdd_tui.engine.runner import ReleaseHolder, Runner
from zdd_tui.engine.witness import settle_recorded_rows
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.gate import GateReading
from zdd_tui.model.release.records import Actor
from zdd_tui.model.release.state import (
    Command,
    CommandKind,
    ReleaseState,
    apply_command,
    closed_gates,
    complete_if_open,
    next_pending_step,
)
from zdd_tui.rehearsal.copy import ProgressCallback
from zdd_tui.rehearsal.step_metrics import MeteredStore, StepMetrics, StepMetricsCollector
from zdd_tui.rehearsal.workload import Writers

GATE_TIMEOUT = 60.0
"""Seconds that gates may take to open once the steps before them are done."""

POLL_INTERVAL = 0.1
DRAINING_STEPS = frozenset({"rollout-v2", "rollout-v3", "write-flag-on", "read-flag-on"})
"""Steps that end when no request is under way any more that began before: pods drain, flags are waited for."""

ACTOR = Actor("rehearsal", "here")
LEASE_TTL = 60.0
"""Seconds of the lease: no other agent competes for it."""


@asynccontextmanager
async def open_release(dsn: str, plan: BasePlan, loaded: LoadedPlan) -> AsyncIterator[MeteredStore]:
    """A new release of the plan in the database of the rehearsal, and its lease."""
    async with await Store.open(dsn, application_name="zdd rehearsal") as registry:
        release_id = await registry.register_release(
            plan, text=loaded.text, document=loaded.document, plan_hash=loaded.hash, actor=ACTOR
        )
    taken = await acquire_lease(dsn, release_id, ACTOR, ttl=LEASE_TTL)
    assert taken is not None, "no other client uses this database"
    await taken.close()
    store = await MeteredStore.open(dsn, release_id, taken.epoch, ACTOR, ttl=LEASE_TTL, timeout=5.0)
    renewing = asyncio.create_task(_renew_lease(store))
    try:
        yield store
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await store.release_lease()
        await store.close()


async def _renew_lease(store: MeteredStore) -> None:
    while True:
        await store.renew_lease()
        await asyncio.sleep(LEASE_TTL / 4)


@dataclass(slots=True)
class Measurement:
    """What measures every step.

    Attributes:
        writers: the application's, whose waits are measured; None where nobody writes.
        steps: gets the figures of every step that runs.
    """

    collector: StepMetricsCollector
    writers: Writers | None
    steps: list[StepMetrics]


class ReleaseWalk:
    """One release on its way.

    Args:
        log: called with each phase.
    """

    def __init__(
        self, ctx: Context, store: MeteredStore, holder: ReleaseHolder, measured: Measurement, log: ProgressCallback
    ) -> None:
        self._ctx = ctx
        self._store = store
        self.holder = holder
        self._measured = measured
        self._log = log
        self._runner = Runner(ctx, holder)
        self._gates: Mapping[str, GateReading] = {}
        self._server_now = 0.0

    async def run_phase(self, phase: str) -> None:
        """Runs the next phase, until its gates are open.

        Raises:
            StepFailed: a step failed, or a gate did not open; names it and the reason.
        """
        self._log(f"  {phase}")
        if self.holder.release.current_phase is None and self.holder.release.gates:
            await self._wait_until_open()
        await self._apply_command(Command(CommandKind.ADVANCE, typed=self.holder.release.name))
        await self._run_pending_steps()
        await self._wait_until_open()

    async def _wait_until_open(self) -> None:
        await self._wait_for_gates(lambda: not closed_gates(self.holder.release, self._gates, self._server_now))

    async def finish(self) -> None:
        """Waits until the release is done.

        Raises:
            StepFailed: it does not end.
        """
        await self._wait_for_gates(lambda: self.holder.release.state is ReleaseState.DONE)

    async def roll_back(self, phase: str) -> float:
        """Rolls back; returns how many seconds it took.

        Args:
            phase: where it is now, for the messages.

        Raises:
            StepFailed: an undo failed.
        """
        self._log(f"  back from {phase}")
        began = time.monotonic()
        await self._apply_command(Command(CommandKind.ROLLBACK))
        await self._run_pending_steps()
        seconds = time.monotonic() - began
        release = self.holder.release
        if release.state is not ReleaseState.ROLLED_BACK:
            raise StepFailed(f"the rollback from {phase} ended as {release.state}")
        await self._store.save_end(release)
        return seconds

    async def _apply_command(self, requested: Command) -> None:
        record = await self._store.read()
        after = apply_command(self.holder.release, requested, record.gates, record.now)
        await self._store.save(after)
        self.holder.release = after

    async def _run_pending_steps(self) -> None:
        while (work := next_pending_step(self.holder.release)) is not None:
            measured = self._measured
            async with measured.collector.measure(
                self._store, measured.writers, work.step.name, work.direction
            ) as metrics:
                measured.steps.append(metrics)
                await self._runner.run_step(work)
                if measured.writers is not None and work.step.name in DRAINING_STEPS:
                    await measured.writers.drain()
            release = self.holder.release
            if release.state in (ReleaseState.FAILED, ReleaseState.ROLLBACK_FAILED):
                verb = "the undo of " if work.direction == "undo" else ""
                raise StepFailed(f"{verb}{work.step.name}: {release.error}")

    async def _wait_for_gates(self, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + GATE_TIMEOUT
        while True:
            await settle_recorded_rows(self._ctx, await self._store.read())
            await self._store.save_gates(await evaluate_gates(self._ctx, await self._store.read()))
            record = await self._store.read()
            self._gates, self._server_now = record.gates, record.now
            after = complete_if_open(self.holder.release, record.gates, record.now)
            if after is not self.holder.release:
                await self._store.save_end(after)
                self.holder.release = after
            if is_done():
                return
            if time.monotonic() > deadline:
                closed = closed_gates(self.holder.release, record.gates, record.now)
                listed = "; ".join(f"{gate.name} {gate.verdict}: {gate.reason}" for gate in closed)
                raise StepFailed(f"gates did not open within {GATE_TIMEOUT:.0f} s: {listed}")
            await asyncio.sleep(POLL_INTERVAL)

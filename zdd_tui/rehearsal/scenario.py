"""The course of a rehearsal: the real engine's steps, rules and gates, one walk forward and back for each phase."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import asyncpg

from zdd_tui.backends.postgres.catalog import read_schema_objects
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.registry import evaluate_gates
from zdd_tui.engine.runner import ReleaseHolder, Runner
from zdd_tui.engine.witness import settle_recorded_rows
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.flag import OFF, parse_flag
from zdd_tui.model.plan.base import DualWriteMode, Plan
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.gate import GateReading
from zdd_tui.model.release.records import Actor
from zdd_tui.model.release.state import (
    Command,
    CommandKind,
    ReleaseState,
    StepStatus,
    apply_command,
    closed_gates,
    complete_if_open,
    next_pending_step,
)
from zdd_tui.rehearsal.copy import ProgressCallback, copy_session
from zdd_tui.rehearsal.expected_rows import ExpectedRows, RowDiff
from zdd_tui.rehearsal.fake_cluster import fake_cluster
from zdd_tui.rehearsal.step_metrics import MeteredStore, StepMetrics, StepMetricsCollector
from zdd_tui.rehearsal.workload import LiveVersions, Writers

GATE_TIMEOUT = 60.0
"""Seconds that gates may take to open once the steps before them are done."""

POLL_INTERVAL = 0.1
DRAINING_STEPS = frozenset({"rollout-v2", "rollout-v3", "write-flag-on", "read-flag-on"})
"""Steps that end when no request is under way any more that began before: pods drain, flags are waited for."""

ACTOR = Actor("rehearsal", "here")
LEASE_TTL = 60.0
"""Seconds of the lease: no other agent competes for it."""


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """One way forward, and back where it is said from where.

    Attributes:
        rollback_from: the last phase before the rollback; empty for the run to the end.
        rollback_seconds: of the rollback.
        row_diff: what rows had come to at its end.
        differences: of the schema, flags and image afterwards from before.
    """

    rollback_from: str
    row_diff: RowDiff
    rollback_seconds: float = 0.0
    differences: tuple[str, ...] = ()


@dataclass(slots=True)
class ScenarioSetup:
    """What all scenarios share: the copy's address, the flags, who writes, who measures, and what rows must hold."""

    loaded: LoadedPlan
    plan: Plan
    dsn: str
    flags: FlagStore
    writers: Writers
    metrics: StepMetricsCollector
    expected_rows: ExpectedRows
    log: ProgressCallback
    live_state: "LiveState"
    step_metrics: list[StepMetrics]


@dataclass(slots=True)
class LiveState:
    """Which versions are live, for the writers."""

    plan: Plan
    flags: FlagStore
    holding: ReleaseHolder | None = None

    async def read_versions(self) -> LiveVersions:
        """Which versions have pods now, and whether V2 writes both sides."""
        if self.holding is None:
            return LiveVersions()
        release = self.holding.release
        v2, v3 = release.status("rollout-v2"), release.status("rollout-v3")
        versions = _live_versions(2, 3, v3) if v3.has_effect else _live_versions(1, 2, v2)
        if self.plan.change.dual_write is DualWriteMode.TRIGGER:
            return LiveVersions(versions)
        raw = (await self.flags.read_raw([self.plan.flags.write]))[self.plan.flags.write]
        return LiveVersions(versions, is_dual_write=raw is not None and parse_flag(raw) != OFF)


def _live_versions(older: int, newer: int, status: StepStatus) -> tuple[int, ...]:
    if status is StepStatus.DONE:
        return (newer,)
    return (older, newer) if status.has_effect else (older,)


async def run_scenario(setup: ScenarioSetup, rollback_from: str) -> ScenarioResult:
    """Runs from planned through ``rollback_from`` and back; to the end where it is empty.

    Raises:
        StepFailed: a step failed, or a gate did not open; names it and the reason.
    """
    async with await Store.open(setup.dsn, application_name="zdd rehearsal") as registry:
        release_id = await registry.register_release(
            setup.plan,
            text=setup.loaded.text,
            document=setup.loaded.document,
            plan_hash=setup.loaded.hash,
            actor=ACTOR,
        )
    taken = await acquire_lease(setup.dsn, release_id, ACTOR, ttl=LEASE_TTL)
    assert taken is not None, "no other client uses this database"
    await taken.close()
    store = await MeteredStore.open(setup.dsn, release_id, taken.epoch, ACTOR, ttl=LEASE_TTL, timeout=5.0)
    renewing = asyncio.create_task(_renew_lease(store))
    try:
        return await _ScenarioRunner(setup, store, ReleaseHolder((await store.read()).release)).run(rollback_from)
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await store.release_lease()
        await store.close()


async def _renew_lease(store: MeteredStore) -> None:
    while True:
        await store.renew_lease()
        await asyncio.sleep(LEASE_TTL / 4)


class _ScenarioRunner:
    def __init__(self, setup: ScenarioSetup, store: MeteredStore, holding: ReleaseHolder) -> None:
        self._setup = setup
        self._store = store
        self._holding = holding
        self._cluster = fake_cluster(setup.plan)
        self._ctx = Context(
            plan=setup.plan,
            store=store,
            flag_store=setup.flags,
            cluster_client=self._cluster,
            is_paused=lambda: False,
            log=setup.log,
        )
        self._runner = Runner(self._ctx, holding)
        self._gates: Mapping[str, GateReading] = {}
        self._server_now = 0.0

    async def run(self, rollback_from: str) -> ScenarioResult:
        before = await self._read_environment()
        self._setup.live_state.holding = self._holding
        try:
            for phase in self._holding.release.strategy.phases:
                await self.run_phase(phase.name)
                if phase.name == rollback_from:
                    return await self._roll_back(rollback_from, before)
            await self._wait_for_gates(lambda: self._holding.release.state is ReleaseState.DONE)
            row_diff = await self._compare_rows(new=True)
            await self._setup.writers.pause()  # there is nothing left that V1 could write
            return ScenarioResult("", row_diff)
        except BaseException:
            await self._setup.writers.pause()  # which version would be right is undefined from here
            raise
        finally:
            self._setup.live_state.holding = None

    async def run_phase(self, phase: str) -> None:
        self._setup.log(f"  {phase}")
        await self._apply_command(Command(CommandKind.ADVANCE, typed=self._holding.release.name))
        await self._run_pending_steps()
        await self._wait_for_gates(lambda: not closed_gates(self._holding.release, self._gates, self._server_now))

    async def _apply_command(self, requested: Command) -> None:
        record = await self._store.read()
        after = apply_command(self._holding.release, requested, record.gates, record.now)
        await self._store.save(after)
        self._holding.release = after

    async def _run_pending_steps(self) -> None:
        while (work := next_pending_step(self._holding.release)) is not None:
            async with self._setup.metrics.measure(
                self._store, self._setup.writers, work.step.name, work.direction
            ) as metrics:
                self._setup.step_metrics.append(metrics)
                await self._runner.run_step(work)
                if work.step.name in DRAINING_STEPS:
                    await self._setup.writers.drain()
            release = self._holding.release
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
            after = complete_if_open(self._holding.release, record.gates, record.now)
            if after is not self._holding.release:
                await self._store.save_end(after)
                self._holding.release = after
            if is_done():
                return
            if time.monotonic() > deadline:
                closed = closed_gates(self._holding.release, record.gates, record.now)
                listed = "; ".join(f"{gate.name} {gate.verdict}: {gate.reason}" for gate in closed)
                raise StepFailed(f"gates did not open within {GATE_TIMEOUT:.0f} s: {listed}")
            await asyncio.sleep(POLL_INTERVAL)

    async def _roll_back(self, phase: str, before: list[str]) -> ScenarioResult:
        self._setup.log(f"  back from {phase}")
        began = time.monotonic()
        await self._apply_command(Command(CommandKind.ROLLBACK))
        await self._run_pending_steps()
        seconds = time.monotonic() - began
        release = self._holding.release
        if release.state is not ReleaseState.ROLLED_BACK:
            raise StepFailed(f"the rollback from {phase} ended as {release.state}")
        await self._store.save_end(release)
        row_diff = await self._compare_rows(new=False)
        after = await self._read_environment()
        differences = [f"gone: {line}" for line in before if line not in after]
        differences += [f"left behind: {line}" for line in after if line not in before]
        return ScenarioResult(phase, row_diff, seconds, tuple(differences))

    async def _compare_rows(self, *, new: bool) -> RowDiff:
        await self._setup.writers.pause()
        try:
            async with copy_session(self._setup.dsn, self._setup.plan) as conn:
                if not new:
                    return await self._setup.expected_rows.compare_old(conn)
                return await self._setup.expected_rows.compare_new(conn, self._setup.plan.change.target_table)
        finally:
            self._setup.writers.resume()

    async def _read_environment(self) -> list[str]:
        """What a rollback must restore besides rows."""
        conn = await asyncpg.connect(self._setup.dsn)
        try:
            lines = await read_schema_objects(conn)
        finally:
            await conn.close()
        keys = [self._setup.plan.flags.write, self._setup.plan.flags.read]
        lines += [f"flag {key}: {value}" for key, value in (await self._setup.flags.read_raw(keys)).items()]
        view = await self._cluster.get_deployment(self._setup.plan.kubernetes.deployment)
        return [*lines, f"image {view.images}", f"epoch {view.epoch}"]

"""The scenarios of a rehearsal with writers: one walk forward and back for each phase."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from zdd_tui.backends.postgres.catalog import read_schema_objects
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.engine.context import Context
from zdd_tui.engine.runner import ReleaseHolder
from zdd_tui.model.flag import OFF, parse_flag
from zdd_tui.model.plan.base import DualWriteMode, Plan
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.state import StepStatus
from zdd_tui.rehearsal.copy import ProgressCallback, copy_session
from zdd_tui.rehearsal.expected_rows import ExpectedRows, RowDiff
from zdd_tui.rehearsal.fake_cluster import fake_cluster
from zdd_tui.rehearsal.step_metrics import MeteredStore, StepMetrics, StepMetricsCollector
from zdd_tui.rehearsal.walk import Measurement, ReleaseWalk, open_release
from zdd_tui.rehearsal.workload import LiveVersions, Writers


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
    async with open_release(setup.dsn, setup.plan, setup.loaded) as store:
        return await _ScenarioRunner(setup, store, ReleaseHolder((await store.read()).release)).run(rollback_from)


class _ScenarioRunner:
    def __init__(self, setup: ScenarioSetup, store: MeteredStore, holder: ReleaseHolder) -> None:
        self._setup = setup
        self._holder = holder
        self._cluster = fake_cluster(setup.plan)
        ctx = Context(
            plan=setup.plan,
            store=store,
            flag_store=setup.flags,
            cluster_client=self._cluster,
            is_paused=lambda: False,
            log=setup.log,
        )
        measured = Measurement(setup.metrics, setup.writers, setup.step_metrics)
        self._walk = ReleaseWalk(ctx, store, holder, measured, setup.log)

    async def run(self, rollback_from: str) -> ScenarioResult:
        before = await self._read_environment()
        self._setup.live_state.holding = self._holder
        try:
            for phase in self._holder.release.strategy.phases:
                await self._walk.run_phase(phase.name)
                if phase.name == rollback_from:
                    return await self._roll_back(rollback_from, before)
            await self._walk.finish()
            row_diff = await self._compare_rows(new=True)
            await self._setup.writers.pause()  # there is nothing left that V1 could write
            return ScenarioResult("", row_diff)
        except BaseException:
            await self._setup.writers.pause()  # which version would be right is undefined from here
            raise
        finally:
            self._setup.live_state.holding = None

    async def _roll_back(self, phase: str, before: list[str]) -> ScenarioResult:
        seconds = await self._walk.roll_back(phase)
        row_diff = await self._compare_rows(new=False)
        after = await self._read_environment()
        return ScenarioResult(phase, row_diff, seconds, list_differences(before, after))

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


def list_differences(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    """What is there before or after only, a line each."""
    differences = [f"gone: {line}" for line in before if line not in after]
    return (*differences, *(f"left behind: {line}" for line in after if line not in before))

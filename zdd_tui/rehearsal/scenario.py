"""The course of a rehearsal: the real engine's steps, rules and gates, one walk forward and back for each phase."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import asyncpg

from zdd_tui.backends.postgres.catalog import schema_lines
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.backends.store.agent import take_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.registry import judge
from zdd_tui.engine.runner import Holding, Runner
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.flag import OFF, parse_flag
from zdd_tui.model.plan.base import DualWrite, Plan
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.gate import GateReading
from zdd_tui.model.release.records import Actor
from zdd_tui.model.release.state import (
    Command,
    CommandKind,
    State,
    StepStatus,
    closed_gates,
    command,
    finish,
    next_work,
)
from zdd_tui.rehearsal.copy import Say, copy_session
from zdd_tui.rehearsal.expected_rows import Ledger, Losses
from zdd_tui.rehearsal.fake_cluster import instant_cluster
from zdd_tui.rehearsal.step_metrics import Measure, Meter, MeteredStore
from zdd_tui.rehearsal.workload import Stance, Writers

GATES_WITHIN = 60.0
"""Seconds that gates may take to open once the steps before them are done."""

LOOK_AGAIN = 0.1
DRAINS = frozenset({"rollout-v2", "rollout-v3", "write-flag-on", "read-flag-on"})
"""Steps that end when no request is under way any more that began before: pods drain, flags are waited for."""

TTL = 60.0
"""Seconds of the lease: nobody else wants it."""


@dataclass(frozen=True, slots=True)
class Walk:
    """One way forward, and back where it is said from where.

    Attributes:
        back_from: the last phase before the rollback; empty for the way to the end.
        back_seconds: of the rollback.
        losses: what rows had come to at its end.
        differences: of the schema, flags and image afterwards from before.
    """

    back_from: str
    losses: Losses
    back_seconds: float = 0.0
    differences: tuple[str, ...] = ()


@dataclass(slots=True)
class Stage:
    """What all walks share: the copy's address, the flags, who writes, who measures, and what rows must hold."""

    loaded: LoadedPlan
    plan: Plan
    dsn: str
    flags: FlagStore
    writers: Writers
    meter: Meter
    ledger: Ledger
    say: Say
    stance: "Position"
    measures: list[Measure]


@dataclass(slots=True)
class Position:
    """Where the release stands, for the writers."""

    plan: Plan
    flags: FlagStore
    holding: Holding | None = None

    async def now(self) -> Stance:
        """Which versions have pods now, and whether V2 writes both sides."""
        if self.holding is None:
            return Stance()
        release = self.holding.release
        v2, v3 = release.status("rollout-v2"), release.status("rollout-v3")
        versions = _between(2, 3, v3) if v3.touched else _between(1, 2, v2)
        if self.plan.change.dual_write is DualWrite.TRIGGER:
            return Stance(versions)
        raw = (await self.flags.read_raw([self.plan.flags.write]))[self.plan.flags.write]
        return Stance(versions, dual=raw is not None and parse_flag(raw) != OFF)


def _between(older: int, newer: int, status: StepStatus) -> tuple[int, ...]:
    if status is StepStatus.DONE:
        return (newer,)
    return (older, newer) if status.touched else (older,)


async def walk(stage: Stage, back_from: str) -> Walk:
    """Walks from planned through ``back_from`` and back; to the end where it is empty.

    Raises:
        StepFailed: a step failed, or a gate did not open; says which and why.
    """
    async with await Store.open(stage.dsn, application_name="zdd rehearsal") as registry:
        release_id = await registry.register(
            stage.plan,
            text=stage.loaded.text,
            document=stage.loaded.document,
            plan_hash=stage.loaded.hash,
            actor=Actor("rehearsal", "here"),
        )
    taken = await take_lease(stage.dsn, release_id, Actor("rehearsal", "here"), ttl=TTL)
    assert taken is not None, "nobody else knows this database"
    await taken.close()
    store = await MeteredStore.start(
        stage.dsn, release_id, taken.epoch, Actor("rehearsal", "here"), ttl=TTL, timeout=5.0
    )
    renewing = asyncio.create_task(_renew(store))
    try:
        return await _Walker(stage, store, Holding((await store.read()).release)).walk(back_from)
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await store.release_lease()
        await store.close()


async def _renew(store: MeteredStore) -> None:
    while True:
        await store.renew()
        await asyncio.sleep(TTL / 4)


class _Walker:
    def __init__(self, stage: Stage, store: MeteredStore, holding: Holding) -> None:
        self._stage = stage
        self._store = store
        self._holding = holding
        self._cluster = instant_cluster(stage.plan)
        ctx = Context(
            plan=stage.plan,
            store=store,
            flag_store=stage.flags,
            cluster=self._cluster,
            paused=lambda: False,
            say=stage.say,
        )
        self._ctx = ctx
        self._runner = Runner(ctx, holding)
        self._gates: Mapping[str, GateReading] = {}
        self._now = 0.0

    async def walk(self, back_from: str) -> Walk:
        before = await self._looks()
        self._stage.stance.holding = self._holding
        try:
            for phase in self._holding.release.strategy.phases:
                await self._advance(phase.name)
                if phase.name == back_from:
                    return await self._back(back_from, before)
            await self._until_open(lambda: self._holding.release.state is State.DONE)
            losses = await self._compare(new=True)
            await self._stage.writers.rest()  # there is nothing left that V1 could write
            return Walk("", losses)
        except BaseException:
            await self._stage.writers.rest()  # nobody can tell any more which version would be right
            raise
        finally:
            self._stage.stance.holding = None

    async def _advance(self, phase: str) -> None:
        self._stage.say(f"  {phase}")
        await self._command(Command(CommandKind.ADVANCE, typed=self._holding.release.name))
        await self._work()
        await self._until_open(lambda: not closed_gates(self._holding.release, self._gates, self._now))

    async def _command(self, asked: Command) -> None:
        record = await self._store.read()
        after = command(self._holding.release, asked, record.gates, record.now)
        await self._store.save(after)
        self._holding.release = after

    async def _work(self) -> None:
        while (work := next_work(self._holding.release)) is not None:
            async with self._stage.meter.measuring(
                self._store, self._stage.writers, work.step.name, work.direction
            ) as measure:
                self._stage.measures.append(measure)
                await self._runner.perform(work)
                if work.step.name in DRAINS:
                    await self._stage.writers.drain()
            release = self._holding.release
            if release.state in (State.FAILED, State.ROLLBACK_FAILED):
                verb = "the undo of " if work.direction == "undo" else ""
                raise StepFailed(f"{verb}{work.step.name}: {release.error}")

    async def _until_open(self, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + GATES_WITHIN
        while True:
            await self._store.save_gates(await judge(self._ctx, await self._store.read()))
            record = await self._store.read()
            self._gates, self._now = record.gates, record.now
            after = finish(self._holding.release, record.gates, record.now)
            if after is not self._holding.release:
                await self._store.end(after)
                self._holding.release = after
            if there():
                return
            if time.monotonic() > deadline:
                shut = closed_gates(self._holding.release, record.gates, record.now)
                listed = "; ".join(f"{gate.name} {gate.verdict}: {gate.reason}" for gate in shut)
                raise StepFailed(f"gates did not open within {GATES_WITHIN:.0f} s: {listed}")
            await asyncio.sleep(LOOK_AGAIN)

    async def _back(self, phase: str, before: list[str]) -> Walk:
        self._stage.say(f"  back from {phase}")
        began = time.monotonic()
        await self._command(Command(CommandKind.ROLLBACK))
        await self._work()
        seconds = time.monotonic() - began
        release = self._holding.release
        if release.state is not State.ROLLED_BACK:
            raise StepFailed(f"the rollback from {phase} ended as {release.state}")
        await self._store.end(release)
        losses = await self._compare(new=False)
        after = await self._looks()
        differences = [f"gone: {line}" for line in before if line not in after]
        differences += [f"left behind: {line}" for line in after if line not in before]
        return Walk(phase, losses, seconds, tuple(differences))

    async def _compare(self, *, new: bool) -> Losses:
        await self._stage.writers.rest()
        try:
            async with copy_session(self._stage.dsn, self._stage.plan) as conn:
                ledger, target = self._stage.ledger, self._stage.plan.change.target
                if not new:
                    return await ledger.compare_old(conn)
                return await ledger.compare_new(conn, target)
        finally:
            self._stage.writers.go_on()

    async def _looks(self) -> list[str]:
        """What a rollback must restore besides rows."""
        conn = await asyncpg.connect(self._stage.dsn)
        try:
            lines = await schema_lines(conn)
        finally:
            await conn.close()
        keys = [self._stage.plan.flags.write, self._stage.plan.flags.read]
        lines += [f"flag {key}: {value}" for key, value in (await self._stage.flags.read_raw(keys)).items()]
        view = await self._cluster.get_deployment(self._stage.plan.kubernetes.deployment)
        return [*lines, f"image {view.images}", f"epoch {view.epoch}"]

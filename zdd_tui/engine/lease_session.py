"""One tenure of the lease: from taking it to losing it or to the end of the release.

Five loops run side by side: the lease is renewed, commands are taken one at a time, steps are run one at a time, gates
are judged, and so are the rules of the guard, which waits for no other system to be there. The first that ends, ends
the tenure.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.backends.store.client import Store
from zdd_tui.backends.store.guard import tell
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.registry import judge
from zdd_tui.engine.guard.loop import GuardLoop
from zdd_tui.engine.preconditions import asked_of, recheck_objects, require_rehearsal, tuned_text
from zdd_tui.engine.runner import Boundary, Holding, Runner
from zdd_tui.model.errors import BackendError, DatabaseAway, Refused
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.guard import Guard
from zdd_tui.model.release.records import NewEvent, ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import Command, CommandKind, Release, State, command, finish, next_work
from zdd_tui.model.release.summary import wait_of

RENEWALS = 3
"""Renewals in the life of a lease: two may fail."""
GATES_EVERY = 1.0
CONNECT_AGAIN = 1.0

ENTRY_EVERY = 3.0
"""Seconds between two looks before the first phase: each asks the databases of other regions."""
Say = Callable[[str], None]
T = TypeVar("T")


class Tenure:
    """What the agent does while it holds the lease."""

    def __init__(self, plan: BasePlan, store: AgentStore, boundary: Boundary | None, say: Say) -> None:
        self._plan = plan
        self._store = store
        self._boundary = boundary
        self._say = say
        self._moved = asyncio.Event()
        self._looking = asyncio.Lock()
        self._steering = asyncio.Lock()  # held while the next step is chosen, and while a command changes course
        self._step: asyncio.Task[None] | None = None
        self._holding: Holding
        self._ctx: Context
        self._cluster: Cluster | None = None
        self._told_of = 0.0  # since when the wait has lasted that was told of
        self._runner: Runner

    async def serve(self) -> Release:
        """Works until the release has ended; whatever ends the tenure before that is raised."""
        self._holding = Holding((await self._store.read()).release)
        # Renewed from the first moment on: connecting to the other systems may take longer than the lease lasts.
        await _until_first(self._renew(), self._work())
        return self._release

    @property
    def _release(self) -> Release:
        return self._holding.release

    async def _renew(self) -> None:
        """Two renewals may fail, say by a reset of the connection, before the tenure is given up."""
        while True:
            await asyncio.sleep(self._store.ttl / RENEWALS)
            try:
                await self._store.renew()
            except DatabaseAway:
                if self._store.remaining < self._store.ttl / RENEWALS:
                    raise

    async def _work(self) -> None:
        async with AsyncExitStack() as stack:
            loops = [self._carry_out(stack)]
            if self._plan.guard is not None:
                loops.append(self._guard(self._plan.guard).run())
            await _until_first(*loops)

    async def _carry_out(self, stack: AsyncExitStack) -> None:
        await self._connect(stack)
        self._announce()
        await _until_first(self._take_commands(), self._run_steps(), self._judge_gates())

    def _guard(self, guard: Guard) -> GuardLoop:
        """It waits for no other system: it begins with what it can see, and the rest is unknown."""
        return GuardLoop(
            self._plan,
            guard,
            self._store,
            cluster=lambda: self._cluster,
            release=lambda: self._release,
            say=self._say,
        )

    async def _connect(self, stack: AsyncExitStack) -> None:
        redis = asyncio.create_task(self._connect_flags(stack))
        try:
            names = self._plan.kubernetes
            self._cluster = cluster = await self._patiently(
                "Kubernetes",
                lambda: stack.enter_async_context(Cluster.connect(names.kubeconfig, names.context, names.namespace)),
            )
            cluster.prove = self._store.check
            flags = await redis
        finally:
            redis.cancel()
            await asyncio.gather(redis, return_exceptions=True)
        self._ctx = Context(
            plan=self._plan,
            store=self._store,
            flag_store=flags,
            cluster=cluster,
            paused=lambda: self._release.paused,
            say=self._say,
            tuning=lambda: self._release.tuning,
        )
        self._runner = Runner(self._ctx, self._holding, self._boundary)

    async def _connect_flags(self, stack: AsyncExitStack) -> FlagStore | None:
        if (url := self._plan.redis_url) is None:
            return None
        flags = await self._patiently("Redis", lambda: FlagStore.connect(url.get_secret_value()))
        stack.push_async_callback(flags.close)
        return flags

    async def _patiently(self, what: str, connect: Callable[[], Awaitable[T]]) -> T:
        """Connects, for ever; the reason why it cannot is said once, where operators look."""
        said = ""
        while True:
            try:
                return await connect()
            except BackendError as error:
                if error.title != said:
                    said = error.title
                    self._say(f"waiting for {what}: {error}")
                    await self._store.save(
                        self._release, events=[NewEvent("error", f"agent waits for {what}: {error}")]
                    )
            await asyncio.sleep(CONNECT_AGAIN)

    def _announce(self) -> None:
        """The state has changed: whoever waits for that looks again."""
        self._moved.set()

    # --- steps ----------------------------------------------------------------------------------------------

    async def _run_steps(self) -> None:
        try:
            while not self._release.state.ended:
                async with self._steering:
                    self._moved.clear()
                    work = next_work(self._release)
                    if work is not None:
                        self._step = asyncio.create_task(self._runner.perform(work))
                if self._step is None:
                    await self._moved.wait()
                    continue
                await asyncio.wait([self._step])
                finished, self._step = self._step, None
                if not finished.cancelled():
                    finished.result()
            await self._store.end(self._release)
            self._say(f"release {self._release.name} is {self._release.state}")
        finally:
            await self._cut_off()

    async def _cut_off(self) -> None:
        """Ends the running step wherever it is. Steps bear that: they are run again or undone."""
        step = self._step
        if step is not None and not step.done():
            step.cancel()
            await asyncio.wait([step])

    # --- commands -------------------------------------------------------------------------------------------

    async def _take_commands(self) -> None:
        dsn = self._plan.database.dsn.get_secret_value()
        async with await Store.open(dsn, application_name="zdd agent listen") as store:
            async for _ in store.changes(self._store.release_id):
                while (stored := await self._store.next_command()) is not None:
                    await self._obey(stored)

    async def _obey(self, stored: StoredCommand) -> None:
        asked = stored.asked
        if asked.kind is CommandKind.ADVANCE:
            await self._look_at_gates()  # an operator must not be refused for a reading that is only old
        async with self._steering:
            try:
                await recheck_objects(self._ctx.cluster, stored)
                if asked.kind is CommandKind.ROLLBACK:
                    await self._stop_for_rollback(asked)
                await self._apply(stored, asked)
            except Refused as refusal:
                await self._store.answer(stored.id, refused=True, outcome=str(refusal), release=None)
                self._say(f"refused {stored.kind} by {stored.actor}: {refusal.title}")
        self._announce()

    async def _stop_for_rollback(self, asked: Command) -> None:
        record = await self._store.read()
        command(self._release, asked, record.gates, record.now)  # a refused rollback must not cut a step off
        await self._cut_off()
        # The step may have committed its end before it noticed that it was cut off.
        self._holding.release = (await self._store.read()).release

    async def _apply(self, stored: StoredCommand, asked: Command) -> None:
        async with self._holding.lock:
            record = await self._store.read()
            before = self._holding.release
            if self._plan.confirm.wants_reason(stored.kind, stored.request.reason):
                raise Refused(f"the plan asks for a reason to {stored.kind}", "say why; it goes into the audit")
            if asked.kind is CommandKind.TUNE:
                asked = asked_of(self._plan, before, stored)
            after = command(before, asked, record.gates, record.now)
            events = await require_rehearsal(self._ctx, before, stored, record.now)
            if after.phase != before.phase and after.current is not None:
                events.append(NewEvent("phase", f"{after.current.name} begins"))
            place = after.current.name if after.current else after.name
            outcome = f"{place} is {after.state}{', paused' if after.paused else ''}"
            if asked.kind is CommandKind.TUNE:
                outcome = tuned_text(self._plan, before, after)
            await self._store.answer(stored.id, refused=False, outcome=outcome, release=after, events=events)
            self._holding.release = after
            self._say(f"{stored.kind} by {stored.actor}: {outcome}")

    # --- gates ----------------------------------------------------------------------------------------------

    async def _judge_gates(self) -> None:
        while True:
            waiting = self._release.state is State.PLANNED
            if self._release.state in (State.RUNNING, State.WAITING, State.FAILED) or (waiting and self._release.gates):
                await self._look_at_gates()
            await asyncio.sleep(ENTRY_EVERY if waiting and self._release.gates else GATES_EVERY)

    async def _look_at_gates(self) -> None:
        async with self._looking:  # one look at a time: an older one must not be written over a newer one
            await self._store.save_gates(await judge(self._ctx, await self._store.read()))
        async with self._holding.lock:
            record = await self._store.read()
            after = finish(self._release, record.gates, record.now)
            if after is not self._release:
                await self._store.save(after, events=[NewEvent("phase", f"release {after.name}: {after.state}")])
                self._holding.release = after
        self._announce()
        await self._tell_of_wait(record)

    async def _tell_of_wait(self, record: ReleaseRecord) -> None:
        """Once for each wait that lasts longer than the plan allows."""
        wait = wait_of(record, record.now)
        if wait is not None and wait.over and wait.since != self._told_of:
            self._told_of = wait.since
            if await tell(self._store, wait):
                self._say(wait.text)


async def _until_first(*loops: Coroutine[Any, Any, None]) -> None:
    """Runs loops side by side until one ends or fails; the others are ended with it, and its failure is raised."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()

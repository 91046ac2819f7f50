"""Runs the controllers: changes of objects become keys in a queue, and one task works the queue off."""

import asyncio
import logging
import time
from collections import deque
from types import TracebackType
from typing import Self

from zdd_tui.testbed.cluster.api import Api
from zdd_tui.testbed.cluster.controllers.base import Controller, ControllerEventRecorder, QueueKey
from zdd_tui.testbed.cluster.controllers.deployments import DeploymentController
from zdd_tui.testbed.cluster.controllers.endpoints import EndpointSliceController
from zdd_tui.testbed.cluster.controllers.garbage_collector import GarbageCollector, NamespaceController
from zdd_tui.testbed.cluster.controllers.replicasets import ReplicaSetController
from zdd_tui.testbed.cluster.controllers.scheduler import Scheduler
from zdd_tui.testbed.cluster.errors import ApiError
from zdd_tui.testbed.cluster.store import ObjectChange

log = logging.getLogger(__name__)

RETRY_DELAY = 1.0  # seconds after a failed sync
# Keys worked off before other tasks of the loop get a turn.
MAX_BATCH = 20
# A sync that took this many seconds is held back for YIELD_FACTOR times as long: with thousands of pods, hundreds of
# changes become one sync, and a key takes a sixth of a core at most. A small cluster never gets there; in a large one,
# as in a real one, new pods may be there a moment before the old ones that make room for them are told to go.
COSTLY_SECONDS = 0.002
YIELD_FACTOR = 5.0


class ControllerManager:
    """All controllers of a cluster; an async context manager."""

    def __init__(self, api: Api) -> None:
        recorder = ControllerEventRecorder(api)
        # In the order of their turn. Deployments come last: a rollout takes its next step only when the ReplicaSets
        # have done the one before, so that pods, not just intentions, stay within maxSurge and maxUnavailable.
        self._controllers: tuple[Controller, ...] = (
            ReplicaSetController(api, recorder, self.enqueue_after),
            EndpointSliceController(api, recorder, self.enqueue_after),
            Scheduler(api, recorder, self.enqueue_after),
            GarbageCollector(api, recorder, self.enqueue_after),
            NamespaceController(api, recorder, self.enqueue_after),
            DeploymentController(api, recorder, self.enqueue_after),
        )
        self._queues: dict[Controller, deque[QueueKey]] = {controller: deque() for controller in self._controllers}
        self._queued: set[tuple[Controller, QueueKey]] = set()
        self._not_before: dict[tuple[Controller, QueueKey], float] = {}
        self._timers: dict[tuple[Controller, QueueKey], asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        api.store.add_listener(self._on_change)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="cluster-controllers")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for timer in self._timers.values():
            timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _on_change(self, change: ObjectChange) -> None:
        for controller in self._controllers:
            if change.kind in controller.watched_kinds:
                for key in controller.keys_for(change):
                    self._enqueue(controller, key)

    def _enqueue(self, controller: Controller, key: QueueKey) -> None:
        item = (controller, key)
        if item in self._queued:
            return
        wait = self._not_before.get(item, 0.0) - time.monotonic()
        if wait > 0:
            self.enqueue_after(controller, key, wait)
        else:
            self._queued.add(item)
            self._queues[controller].append(key)
            self._wake.set()

    def enqueue_after(self, controller: Controller, key: QueueKey, seconds: float) -> None:
        """Schedules a later sync of a key; an earlier one stays."""
        loop = asyncio.get_running_loop()
        item = (controller, key)
        due = loop.time() + seconds
        pending = self._timers.get(item)
        if pending is not None:
            if pending.when() <= due:
                return
            pending.cancel()
        self._timers[item] = loop.call_at(due, self._enqueue_due, item)

    def _enqueue_due(self, item: tuple[Controller, QueueKey]) -> None:
        self._timers.pop(item, None)
        self._enqueue(*item)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            for _ in range(MAX_BATCH):
                item = self._next()
                if item is None:
                    self._wake.clear()
                    break
                self._sync(*item)
            await asyncio.sleep(0)

    def _next(self) -> tuple[Controller, QueueKey] | None:
        for controller, keys in self._queues.items():
            if keys:
                return controller, keys.popleft()
        return None

    def _sync(self, controller: Controller, key: QueueKey) -> None:
        self._queued.discard((controller, key))
        start = time.monotonic()
        try:
            controller.sync(*key)
        except ApiError as error:
            log.info("%s %s: %s", type(controller).__name__, "/".join(key), error)
            self.enqueue_after(controller, key, RETRY_DELAY)
        except Exception:
            # A defect in one object's sync must not end the cluster: the others continue, this one is retried.
            log.exception("%s could not sync %s", type(controller).__name__, "/".join(key))
            self.enqueue_after(controller, key, RETRY_DELAY)
        took = time.monotonic() - start
        if took > COSTLY_SECONDS:
            self._not_before[controller, key] = start + took * (1 + YIELD_FACTOR)
        else:
            self._not_before.pop((controller, key), None)

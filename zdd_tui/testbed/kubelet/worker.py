"""One pod from start to deletion. Rules: Kubernetes documentation, "Pod Lifecycle"."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from zdd_tui.backends.kubernetes.http import KubeHttp
from zdd_tui.model.json_access import Json, number, obj, objects, text
from zdd_tui.testbed.kubelet.addresses import Addresses
from zdd_tui.testbed.kubelet.container import ConfigError, Process, command, environment, port_of
from zdd_tui.testbed.kubelet.events import EventRecorder
from zdd_tui.testbed.kubelet.handlers import Target, run_handler
from zdd_tui.testbed.kubelet.probes import Prober
from zdd_tui.testbed.kubelet.status import PodRecord, stamp, terminated, waiting
from zdd_tui.testbed.kubelet.status_manager import Reporter
from zdd_tui.testbed.kubelet.zygote import Zygote

log = logging.getLogger(__name__)

MINIMUM_GRACE = 2.0
"""Seconds that the process gets after SIGTERM even when preStop has used up the grace, as in the real kubelet."""

BACKOFF_LAST = 300.0
BACKOFF_RESET = 600.0
"""Seconds of running after which the back-off starts anew."""


@dataclass(frozen=True, slots=True)
class Node:
    """What all workers of a kubelet share. `backoff` is the first wait of a crash loop in seconds."""

    name: str
    host: str
    folder: Path
    backoff: float
    http: KubeHttp
    session: aiohttp.ClientSession
    events: EventRecorder
    addresses: Addresses
    zygote: Zygote


class PodWorker:
    """Runs one pod; `run` ends when the pod is gone from the API or from this node."""

    def __init__(self, node: Node, pod: Json) -> None:
        self._node = node
        self._pod = pod
        self._record = PodRecord(host=node.host)
        self._log = node.folder / "logs" / f"{text(pod, 'metadata', 'name')}.log"
        self._reporter = Reporter(node.http, pod, self._record, str(self._log.absolute()))
        self._deleting = asyncio.Event()
        self._changed = asyncio.Event()
        self._vanished = False
        self._process: Process | None = None
        self._prober: Prober | None = None
        self._own_address = ""
        self._began = 0.0
        self._deadline = float("inf")
        self._grace = 0.0
        self.update(pod)

    # What the watch tells

    def update(self, pod: Json) -> None:
        """The API's object has changed."""
        self._pod = self._reporter.pod = pod
        if text(pod, "metadata", "deletionTimestamp"):
            grace = float(max(number(pod, "metadata", "deletionGracePeriodSeconds"), 0))
            self._expire(grace)
        elif objects(pod, "spec", "readinessGates"):
            self._reporter.changed()

    def vanish(self) -> None:
        """The API's object is gone, by force: there is nobody left to report to."""
        self._vanished = True
        self._reporter.stop()
        self._expire(MINIMUM_GRACE)

    def _expire(self, grace: float) -> None:
        deadline = asyncio.get_running_loop().time() + grace
        if not self._deleting.is_set() or deadline < self._deadline:
            self._deadline, self._grace = deadline, grace
        self._deleting.set()
        self._changed.set()

    # The life

    async def run(self) -> None:
        """The whole life. When cancelled (this kubelet ends) the process is killed and the API keeps its object."""
        reporting = asyncio.create_task(self._reporter.run())
        try:
            await self._live()
            await self._stop("Stopping container")
            if not self._vanished:
                self._record.phase = self._record.phase or self._final_phase()
                await self._reporter.delete()
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)
            if self._prober:
                await self._prober.end()
            if self._process and not self._process.exited.is_set():
                self._process.kill()
                await self._process.exited.wait()
            self._node.addresses.give_back(self._own_address)

    async def _live(self) -> None:
        """Until deletion: start, watch, start again."""
        policy = text(self._pod, "spec", "restartPolicy") or "Always"
        self._adopt()
        delay = 0.0
        while not self._deleting.is_set() and not self._record.phase:
            if not await self._start():
                await self._deleting.wait()
                return
            await self._until_trouble()
            if self._deleting.is_set():
                return
            await self._stop("failed liveness probe, will be restarted", liveness=True)
            if policy == "Never" or (policy == "OnFailure" and self._exit_code() == 0):
                self._record.phase = self._final_phase()
                self._reporter.changed()
                continue
            ran = asyncio.get_running_loop().time() - self._began
            if ran > BACKOFF_RESET:
                delay = 0.0
            await self._back_off(delay)
            delay = min(delay * 2, BACKOFF_LAST) if delay else self._node.backoff
            self._record.restarts += 1
        await self._deleting.wait()

    def _adopt(self) -> None:
        """A pod that ran under a kubelet before us has lost its process: that counts as a restart."""
        self._record.adopt(self._pod)
        phase = text(self._pod, "status", "phase")
        if phase in ("Succeeded", "Failed"):
            self._record.phase = phase
        told = objects(self._pod, "status", "containerStatuses")
        if told and text(told[0], "containerID"):
            self._record.restarts = number(told[0], "restartCount") + 1
            self._record.has_run = True

    async def _start(self) -> bool:
        """Start the process and its probes; False, with the status telling why, when it cannot be made."""
        containers = objects(self._pod, "spec", "containers")
        container, name = containers[0], text(containers[0], "name")
        try:
            if len(containers) > 1 or objects(self._pod, "spec", "initContainers"):
                raise ConfigError("this kubelet runs pods of one container only")
            if not self._own_address:
                self._own_address = self._node.addresses.take(port_of(container))
                self._record.address = self._node.addresses.reported(self._own_address)
            env = environment(self._pod, container, self._own_address, self._node.host, self._node.name)
            argv = command(container, env)
            image = text(container, "image")
            self._event("Pulled", f'Container image "{image}" already present on machine')
            self._event("Created", f"Created container: {name}")
            folder = self._node.folder / "pods" / text(self._pod, "metadata", "name")
            self._process = process = await Process.start(argv, env, folder, self._log, self._node.zygote)
        except (ConfigError, OSError) as error:
            reason = "CreateContainerConfigError" if isinstance(error, ConfigError) else "RunContainerError"
            self._record.state = waiting(reason, str(error))
            self._event("Failed", f"Error: {error}", warning=True)
            self._reporter.changed()
            return False
        self._began = asyncio.get_running_loop().time()
        self._event("Started", f"Started container {name}")
        self._record.state = {"running": {"startedAt": stamp()}}
        self._record.has_run = True
        self._record.container_id = f"process://{process.pid}"
        ports = {text(item, "name"): number(item, "containerPort") for item in objects(container, "ports")}
        self._prober = Prober(
            container,
            Target(self._own_address, ports, process),
            self._node.session,
            self._on_probe_change,
            self._on_probe_failure,
        )
        self._prober.begin()
        self._on_probe_change()
        return True

    async def _until_trouble(self) -> None:
        """Until the process ends, is unhealthy, or the pod is deleted."""
        assert self._process is not None
        assert self._prober is not None
        waits = [
            asyncio.ensure_future(event.wait())
            for event in (self._process.exited, self._prober.unhealthy, self._deleting)
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _back_off(self, delay: float) -> None:
        name = text(self._pod, "metadata", "name")
        container = text(objects(self._pod, "spec", "containers")[0], "name")
        self._record.last_state = self._record.state
        if not delay:
            return  # the first restart comes at once
        message = f"back-off {delay:g}s restarting failed container={container} pod={name}"
        self._record.state = waiting("CrashLoopBackOff", message)
        self._reporter.changed()
        self._event("BackOff", f"Back-off restarting failed container {container} in pod {name}", warning=True)
        try:
            async with asyncio.timeout(delay):
                await self._deleting.wait()
        except TimeoutError:
            pass

    async def _stop(self, why: str, *, liveness: bool = False) -> None:
        """preStop, SIGTERM, the rest of the grace, SIGKILL. Records how the container ended."""
        process, prober = self._process, self._prober
        if process is None or prober is None:
            return
        container = objects(self._pod, "spec", "containers")[0]
        if not process.exited.is_set():
            name = text(container, "name")
            self._event("Killing", f"Container {name} {why}" if liveness else f"{why} {name}")
            if liveness:
                grace = number(self._pod, "spec", "terminationGracePeriodSeconds", default=30)
                self._deadline = asyncio.get_running_loop().time() + grace
                self._grace = float(grace)
            prober.spare()
            await self._prestop(container, process)
            clock = asyncio.get_running_loop().time
            self._deadline = max(self._deadline, clock() + min(MINIMUM_GRACE, max(self._grace, 0.1)))
            process.terminate()
            await self._exited_by_deadline(process)
            process.kill()
            await process.exited.wait()
        await prober.end()
        started = text(self._record.state, "running", "startedAt")
        self._record.state = terminated(process.exit, started)
        self._record.started = self._record.ready = False
        self._process = self._prober = None
        if not self._deleting.is_set():
            self._deadline = float("inf")
        self._reporter.changed()

    async def _prestop(self, container: Json, process: Process) -> None:
        hook = obj(container, "lifecycle", "preStop")
        left = self._deadline - asyncio.get_running_loop().time()
        if not hook or left <= 0:
            return
        ports = {text(item, "name"): number(item, "containerPort") for item in objects(container, "ports")}
        target = Target(self._own_address, ports, process)
        running = asyncio.ensure_future(run_handler(hook, target, self._node.session, left))
        ended = asyncio.ensure_future(self._exited_by_deadline(process))
        try:
            # A grace that is shortened meanwhile, or a process that ends by itself, cuts the hook short.
            await asyncio.wait([running, ended], return_when=asyncio.FIRST_COMPLETED)
            if running.done() and running.result():
                self._event("FailedPreStopHook", f"PreStopHook failed: {running.result()}", warning=True)
        finally:
            running.cancel()
            ended.cancel()
            await asyncio.gather(running, ended, return_exceptions=True)

    async def _exited_by_deadline(self, process: Process) -> None:
        """Until the process has ended or the deadline, which a second deletion may bring forward."""
        exited = asyncio.ensure_future(process.exited.wait())
        try:
            while not exited.done() and (left := self._deadline - asyncio.get_running_loop().time()) > 0:
                self._changed.clear()
                changed = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait([exited, changed], timeout=left, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
        finally:
            exited.cancel()

    # Small things

    def _final_phase(self) -> str:
        return "Succeeded" if self._exit_code() == 0 else "Failed"

    def _exit_code(self) -> int:
        return number(self._record.state, "terminated", "exitCode", default=1)

    def _on_probe_change(self) -> None:
        if self._prober is not None:
            self._record.started, self._record.ready = self._prober.started, self._prober.ready
        self._reporter.changed()

    def _on_probe_failure(self, kind: str, why: str) -> None:
        self._event("Unhealthy", f"{kind} probe failed: {why}", warning=True)

    def _event(self, reason: str, message: str, *, warning: bool = False) -> None:
        self._node.events.record(self._pod, reason, message, warning=warning)

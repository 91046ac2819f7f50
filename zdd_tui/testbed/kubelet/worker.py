"""One pod from start to deletion. Rules: Kubernetes documentation, "Pod Lifecycle"."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from zdd_tui.backends.kubernetes.http import KubeHttp
from zdd_tui.model.json_access import JsonObject, get_number, get_object, get_objects, get_text
from zdd_tui.testbed.cluster.meta import now
from zdd_tui.testbed.kubelet.addresses import PodAddressAllocator
from zdd_tui.testbed.kubelet.container import (
    ConfigError,
    Process,
    container_command,
    container_environment,
    container_port,
)
from zdd_tui.testbed.kubelet.events import PodEventRecorder
from zdd_tui.testbed.kubelet.probes import ContainerProber, ProbeTarget, run_handler
from zdd_tui.testbed.kubelet.status import PodRecord, StatusManager, terminated_state, waiting_state
from zdd_tui.testbed.kubelet.zygote import Zygote

log = logging.getLogger(__name__)

MIN_GRACE_SECONDS = 2.0
"""Seconds that the process gets after SIGTERM even when preStop has used up the grace, as in the real kubelet."""

MAX_BACKOFF = 300.0
BACKOFF_RESET_SECONDS = 600.0
"""Seconds of running after which the back-off starts anew."""


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What all workers of a kubelet share. `backoff` is the first wait of a crash loop in seconds."""

    name: str
    host: str
    folder: Path
    backoff: float
    http: KubeHttp
    session: aiohttp.ClientSession
    events: PodEventRecorder
    addresses: PodAddressAllocator
    zygote: Zygote


class PodWorker:
    """Runs one pod; `run` ends when the pod is gone from the API or from this node."""

    def __init__(self, node: NodeContext, pod: JsonObject) -> None:
        self._node = node
        self._pod = pod
        self._record = PodRecord(host=node.host)
        self._name = get_text(pod, "metadata", "name")
        self._log = node.folder / "logs" / f"{self._name}.log"
        self._reporter = StatusManager(node.http, pod, self._record, str(self._log.absolute()))
        self._deleting = asyncio.Event()
        self._changed = asyncio.Event()
        self._process: Process | None = None
        self._prober: ContainerProber | None = None
        self._own_address = ""
        self._began = 0.0
        self._deadline = float("inf")
        self._grace = 0.0
        self.update(pod)

    @property
    def _container(self) -> JsonObject:
        return get_objects(self._pod, "spec", "containers")[0]

    def update(self, pod: JsonObject) -> None:
        self._pod = self._reporter.pod = pod
        if get_text(pod, "metadata", "deletionTimestamp"):
            self._shorten_grace(float(max(get_number(pod, "metadata", "deletionGracePeriodSeconds"), 0)))
        elif get_objects(pod, "spec", "readinessGates"):
            self._reporter.mark_changed()

    def mark_deleted(self) -> None:
        """The API object was deleted by force: stops reporting."""
        self._reporter.stop()
        self._shorten_grace(MIN_GRACE_SECONDS)

    def _shorten_grace(self, grace: float) -> None:
        deadline = asyncio.get_running_loop().time() + grace
        if not self._deleting.is_set() or deadline < self._deadline:
            self._deadline, self._grace = deadline, grace
        self._deleting.set()
        self._changed.set()

    async def run(self) -> None:
        """The whole life. When cancelled (this kubelet ends) the process is killed and the API keeps its object."""
        reporting = asyncio.create_task(self._reporter.run())
        try:
            await self._run_until_deleted()
            await self._stop("Stopping container")
            self._record.phase = self._record.phase or self._final_phase()
            await self._reporter.delete()
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)
            if self._prober:
                await self._prober.stop()
            if self._process and not self._process.exited.is_set():
                self._process.kill()
                await self._process.exited.wait()
            self._node.addresses.release(self._own_address)

    async def _run_until_deleted(self) -> None:
        """Until deletion: start, watch, start again."""
        policy = get_text(self._pod, "spec", "restartPolicy") or "Always"
        self._restore_previous()
        delay = 0.0
        while not self._deleting.is_set() and not self._record.phase:
            if not await self._start():
                await self._deleting.wait()
                return
            await self._wait_for_restart_cause()
            if self._deleting.is_set():
                return
            await self._stop("failed liveness probe, will be restarted", liveness=True)
            if policy == "Never" or (policy == "OnFailure" and self._exit_code() == 0):
                self._record.phase = self._final_phase()
                self._reporter.mark_changed()
                continue
            if asyncio.get_running_loop().time() - self._began > BACKOFF_RESET_SECONDS:
                delay = 0.0
            await self._back_off(delay)
            delay = min(delay * 2, MAX_BACKOFF) if delay else self._node.backoff
            self._record.restarts += 1
        await self._deleting.wait()

    def _restore_previous(self) -> None:
        """A pod that ran under a kubelet before us has lost its process: that counts as a restart."""
        self._record.restore_from(self._pod)
        phase = get_text(self._pod, "status", "phase")
        if phase in ("Succeeded", "Failed"):
            self._record.phase = phase
        message = get_objects(self._pod, "status", "containerStatuses")
        if message and get_text(message[0], "containerID"):
            self._record.restarts = get_number(message[0], "restartCount") + 1
            self._record.has_run = True

    async def _start(self) -> bool:
        """Start the process and its probes; False, with the status telling why, when it cannot be made."""
        container, name = self._container, get_text(self._container, "name")
        others = [*get_objects(self._pod, "spec", "containers")[1:], *get_objects(self._pod, "spec", "initContainers")]
        try:
            if others:
                raise ConfigError("this kubelet runs pods of one container only")
            if not self._own_address:
                self._own_address = self._node.addresses.allocate(container_port(container))
                self._record.address = self._node.addresses.advertised(self._own_address)
            env = container_environment(self._pod, container, self._own_address, self._node.host, self._node.name)
            argv = container_command(container, env)
            image = get_text(container, "image")
            self._event("Pulled", f'Container image "{image}" already present on machine')
            self._event("Created", f"Created container: {name}")
            folder = self._node.folder / "pods" / self._name
            self._process = process = await Process.start(argv, env, folder, self._log, self._node.zygote)
        except (ConfigError, OSError) as error:
            reason = "CreateContainerConfigError" if isinstance(error, ConfigError) else "RunContainerError"
            self._record.state = waiting_state(reason, str(error))
            self._event("Failed", f"Error: {error}", warning=True)
            self._reporter.mark_changed()
            return False
        self._began = asyncio.get_running_loop().time()
        self._event("Started", f"Started container {name}")
        self._record.state = {"running": {"startedAt": now()}}
        self._record.has_run = True
        self._record.container_id = f"process://{process.pid}"
        self._prober = ContainerProber(
            container, self._target(process), self._node.session, self._on_probe_change, self._on_probe_failure
        )
        self._prober.start()
        self._on_probe_change()
        return True

    def _target(self, process: Process) -> ProbeTarget:
        ports = get_objects(self._container, "ports")
        numbers = {get_text(item, "name"): get_number(item, "containerPort") for item in ports}
        return ProbeTarget(self._own_address, numbers, process)

    async def _wait_for_restart_cause(self) -> None:
        """Until the process ends, is unhealthy, or the pod is deleted."""
        assert self._process is not None
        assert self._prober is not None
        await _wait_for_any(self._process.exited, self._prober.is_unhealthy, self._deleting)

    async def _back_off(self, delay: float) -> None:
        container = get_text(self._container, "name")
        self._record.last_state = self._record.state
        if not delay:
            return  # the first restart comes at once
        message = f"back-off {delay:g}s restarting failed container={container} pod={self._name}"
        self._record.state = waiting_state("CrashLoopBackOff", message)
        self._reporter.mark_changed()
        self._event("BackOff", f"Back-off restarting failed container {container} in pod {self._name}", warning=True)
        await _wait_for_any(self._deleting, seconds=delay)

    async def _stop(self, reason: str, *, liveness: bool = False) -> None:
        """preStop, SIGTERM, the rest of the grace, SIGKILL. Records how the container ended."""
        process, prober = self._process, self._prober
        if process is None or prober is None:
            return
        if not process.exited.is_set():
            name = get_text(self._container, "name")
            self._event("Killing", f"Container {name} {reason}" if liveness else f"{reason} {name}")
            if liveness:
                grace = get_number(self._pod, "spec", "terminationGracePeriodSeconds", default=30)
                self._deadline = asyncio.get_running_loop().time() + grace
                self._grace = float(grace)
            prober.keep_readiness_only()
            await self._prestop(process)
            clock = asyncio.get_running_loop().time
            self._deadline = max(self._deadline, clock() + min(MIN_GRACE_SECONDS, max(self._grace, 0.1)))
            process.terminate()
            await self._exited_by_deadline(process)
            process.kill()
            await process.exited.wait()
        await prober.stop()
        started = get_text(self._record.state, "running", "startedAt")
        self._record.state = terminated_state(process.exit, started)
        self._record.started = self._record.ready = False
        self._process = self._prober = None
        if not self._deleting.is_set():
            self._deadline = float("inf")
        self._reporter.mark_changed()

    async def _prestop(self, process: Process) -> None:
        hook = get_object(self._container, "lifecycle", "preStop")
        left = self._deadline - asyncio.get_running_loop().time()
        if not hook or left <= 0:
            return
        running = asyncio.ensure_future(run_handler(hook, self._target(process), self._node.session, left))
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
        while not process.exited.is_set() and (left := self._deadline - asyncio.get_running_loop().time()) > 0:
            self._changed.clear()
            await _wait_for_any(process.exited, self._changed, seconds=left)

    def _final_phase(self) -> str:
        return "Succeeded" if self._exit_code() == 0 else "Failed"

    def _exit_code(self) -> int:
        return get_number(self._record.state, "terminated", "exitCode", default=1)

    def _on_probe_change(self) -> None:
        if self._prober is not None:
            self._record.started, self._record.ready = self._prober.is_started, self._prober.is_ready
        self._reporter.mark_changed()

    def _on_probe_failure(self, kind: str, reason: str) -> None:
        self._event("Unhealthy", f"{kind} probe failed: {reason}", warning=True)

    def _event(self, reason: str, message: str, *, warning: bool = False) -> None:
        self._node.events.record(self._pod, reason, message, warning=warning)


async def _wait_for_any(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Until one of the events is set, or the time is over."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()

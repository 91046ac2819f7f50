"""Probes of one container, and the handlers of probes and hooks: httpGet, tcpSocket, exec and sleep.

Rules: Kubernetes documentation, "Configure probes"; wording as the real kubelet's.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp

from zdd_tui.model.json_access import JsonObject, get_number, get_object, get_objects, get_text
from zdd_tui.testbed.kubelet.container import Process

INITIAL_DELAY = 0.25
"""Seconds from a container's start to its first probe. The real kubelet's probes tick from before that start, so that
the first comes at any time within a period; one at the very instant of the start would find no container listening, and
nothing would be probed again for a whole period."""


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """Where a container can be probed: its address and its ports by name."""

    address: str
    ports: Mapping[str, int]
    process: Process


class ContainerProber:
    """Runs a container's probes and keeps their verdicts.

    Args:
        changed: called after `started` or `ready` changed.
        failed: called with the kind (Readiness, ...) and why, after each failed attempt.
    """

    def __init__(
        self,
        container: JsonObject,
        target: ProbeTarget,
        session: aiohttp.ClientSession,
        changed: Callable[[], None],
        failed: Callable[[str, str], None],
    ) -> None:
        self._container = container
        self._target = target
        self._session = session
        self._changed = changed
        self._failed = failed
        self._tasks: list[asyncio.Task[None]] = []
        self._alive_tasks: list[asyncio.Task[None]] = []
        self._first_due = 0.0
        self.is_started = False
        self.is_ready = False
        self.is_unhealthy = asyncio.Event()
        """Set when the container must be restarted: liveness or startup failed too often."""

    def start(self) -> None:
        """Start probing: the startup probe first, where there is one."""
        self._first_due = asyncio.get_running_loop().time() + INITIAL_DELAY
        if get_object(self._container, "startupProbe"):
            self._alive_tasks.append(asyncio.create_task(self._loop("Startup", self._on_startup)))
        else:
            self._on_startup(True)

    def keep_readiness_only(self) -> None:
        """The pod is terminating: only readiness is still probed, as in the real kubelet."""
        for task in self._alive_tasks:
            task.cancel()

    async def stop(self) -> None:
        tasks = [*self._tasks, *self._alive_tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.is_ready = False

    def _on_startup(self, good: bool) -> None:
        if not good:
            self.is_unhealthy.set()
            return
        if self.is_started:
            return
        self.is_started = True
        if get_object(self._container, "livenessProbe"):
            self._alive_tasks.append(asyncio.create_task(self._loop("Liveness", self._on_liveness)))
        if get_object(self._container, "readinessProbe"):
            self._tasks.append(asyncio.create_task(self._loop("Readiness", self._on_readiness)))
        else:
            self.is_ready = True
        self._changed()

    def _on_liveness(self, good: bool) -> None:
        if not good:
            self.is_unhealthy.set()

    def _on_readiness(self, good: bool) -> None:
        if self.is_ready != good:
            self.is_ready = good
            self._changed()

    async def _loop(self, kind: str, verdict: Callable[[bool], None]) -> None:
        """Probes every period; calls `verdict` whenever a threshold is reached."""
        probe = get_object(self._container, f"{kind.lower()}Probe")
        period = max(get_number(probe, "periodSeconds", default=10), 1)
        timeout = max(get_number(probe, "timeoutSeconds", default=1), 1)
        enough_good = max(get_number(probe, "successThreshold", default=1), 1)
        enough_bad = max(get_number(probe, "failureThreshold", default=3), 1)
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(max(get_number(probe, "initialDelaySeconds"), self._first_due - clock()))
        good = bad = 0
        while True:
            due = clock() + period
            why = await run_handler(probe, self._target, self._session, timeout)
            if why:
                good, bad = 0, bad + 1
                self._failed(kind, why)
            else:
                good, bad = good + 1, 0
            if good >= enough_good:
                verdict(True)
                if kind == "Startup":
                    return
            elif bad >= enough_bad:
                verdict(False)
            await asyncio.sleep(max(due - clock(), 0))


async def run_handler(handler: JsonObject, target: ProbeTarget, session: aiohttp.ClientSession, seconds: float) -> str:
    """Run one handler.

    Args:
        seconds: after which it has failed.

    Returns:
        The empty string, or why it failed.
    """
    try:
        async with asyncio.timeout(seconds):
            if "sleep" in handler:
                await asyncio.sleep(get_number(handler, "sleep", "seconds"))
                return ""
            if "exec" in handler:
                return await _exec_command(get_object(handler, "exec"), target)
            if "tcpSocket" in handler:
                return await _tcp_connect(get_object(handler, "tcpSocket"), target)
            return await _http_get(get_object(handler, "httpGet"), target, session)
    except TimeoutError:
        return "context deadline exceeded"


def _resolve_port(handler: JsonObject, target: ProbeTarget) -> int:
    port = handler.get("port")
    return target.ports.get(port, 0) if isinstance(port, str) and not port.isdigit() else int(port or 0)


async def _http_get(handler: JsonObject, target: ProbeTarget, session: aiohttp.ClientSession) -> str:
    host = get_text(handler, "host") or target.address
    path = get_text(handler, "path") or "/"
    scheme = (get_text(handler, "scheme") or "HTTP").lower()
    url = f"{scheme}://{host}:{_resolve_port(handler, target)}{path if path.startswith('/') else '/' + path}"
    headers = {get_text(item, "name"): get_text(item, "value") for item in get_objects(handler, "httpHeaders")}
    try:
        async with session.get(url, headers=headers, allow_redirects=False, ssl=False) as answer:
            # The rule of the API: 200 to 399 is success.
            return "" if 200 <= answer.status < 400 else f"HTTP probe failed with statuscode: {answer.status}"
    except aiohttp.ClientConnectorError as error:
        reason = "connection refused" if isinstance(error.os_error, ConnectionRefusedError) else str(error.os_error)
        return f'Get "{url}": dial tcp {host}:{_resolve_port(handler, target)}: connect: {reason}'
    except (aiohttp.ClientError, OSError) as error:
        if isinstance(error, TimeoutError):
            raise
        return f'Get "{url}": {error or type(error).__name__}'


async def _tcp_connect(handler: JsonObject, target: ProbeTarget) -> str:
    host = get_text(handler, "host") or target.address
    try:
        _, writer = await asyncio.open_connection(host, _resolve_port(handler, target))
    except OSError as error:
        return f"dial tcp {host}:{_resolve_port(handler, target)}: {error.strerror or error}"
    writer.close()
    return ""


async def _exec_command(handler: JsonObject, target: ProbeTarget) -> str:
    words = [str(word) for word in handler.get("command") or []]
    try:
        child = await asyncio.create_subprocess_exec(
            *words,
            env=target.process.env,
            cwd=target.process.cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return f"exec: {words[:1]}: {error.strerror or error}"
    try:
        output, _ = await child.communicate()
    except asyncio.CancelledError:
        child.kill()
        await child.communicate()
        raise
    if child.returncode == 0:
        return ""
    return output.decode(errors="replace").strip()[:1000] or f"exit status {child.returncode}"

"""httpGet, tcpSocket, exec and sleep, as probes and hooks use them. Wording as the real kubelet's."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from zdd_tui.model.json_access import JsonObject, get_number, get_object, get_objects, get_text
from zdd_tui.testbed.kubelet.container import Process


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """Where a container can be probed: its address and its ports by name."""

    address: str
    ports: Mapping[str, int]
    process: Process


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

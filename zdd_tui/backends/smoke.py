"""Smoke checks: a few GET requests, straight to a pod, judged by status and by text in the body."""

import asyncio
import importlib
from collections.abc import Sequence
from typing import Any

from zdd_tui.model.plans import SmokeCheck

MAX_BODY = 1 << 20
"""Bytes of an answer that are looked at."""
AT_ONCE = 8


async def smoke(addresses: Sequence[tuple[str, int]], checks: Sequence[SmokeCheck], timeout: float) -> list[str]:
    """Asks every address everything; nothing is asked twice, and redirects are answers like others.

    Args:
        addresses: host and port of each pod.
        timeout: seconds for one whole answer.

    Returns:
        what went wrong, a line for each request; empty when every answer was as expected. Bodies are not quoted:
        they may hold data.
    """
    # aiohttp costs a quarter of a second to import: not before the first paint.
    aiohttp: Any = await asyncio.to_thread(importlib.import_module, "aiohttp")
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(session: Any, host: str, port: int, check: SmokeCheck) -> str:
        place = f"[{host}]" if ":" in host else host
        async with gate:
            try:
                async with asyncio.timeout(timeout):
                    url = f"http://{place}:{port}{check.path}"
                    async with session.get(url, allow_redirects=False) as response:
                        status, body = response.status, await _text(response)
            except TimeoutError:
                return f"{place}:{port} GET {check.path}: no answer within {timeout:g} s"
            except (aiohttp.ClientError, OSError, ValueError) as error:
                return f"{place}:{port} GET {check.path}: {type(error).__name__}"
        if status != check.status:
            return f"{place}:{port} GET {check.path}: {status} instead of {check.status}"
        if check.contains is not None and check.contains not in body:
            return f"{place}:{port} GET {check.path}: {check.contains!r} is not in the body"
        return ""

    async with aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session:
        asked = (one(session, host, port, check) for host, port in addresses for check in checks)
        found = await asyncio.gather(*asked)
    return [line for line in found if line]


async def _text(response: Any) -> str:
    payload = bytearray()
    async for chunk in response.content.iter_any():
        payload += chunk
        if len(payload) >= MAX_BODY:
            break
    return payload.decode(response.charset or "utf-8", errors="replace")

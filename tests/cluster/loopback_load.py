"""``python -m tests.cluster.loopback_load``: the demo's load, on pods that a real API server has the addresses of.

It refuses loopback addresses, so the kubelet reports 10.x.y.z for a pod that listens on 127.x.y.z.
"""

import asyncio
import sys
from typing import Any

from zdd_tui.demo.load.__main__ import main

_open_connection = asyncio.open_connection


async def _open_on_loopback(host: str, port: int) -> Any:
    return await _open_connection("127." + host.partition(".")[2], port)


if __name__ == "__main__":
    asyncio.open_connection = _open_on_loopback  # type: ignore[assignment]
    sys.exit(main())

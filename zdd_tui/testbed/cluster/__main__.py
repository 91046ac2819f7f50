"""`python -m zdd_tui.testbed.cluster --dir DIR [--port N] [--logs DIR]`: the local cluster as a process.

Prints one line of JSON when it is ready, {"server": URL, "kubeconfig": PATH}, and ends on SIGTERM or SIGINT.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

from zdd_tui.testbed.cluster.cluster import local_cluster


async def serve_cluster(directory: Path, port: int, log_root: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with local_cluster(directory, port=port, log_root=log_root) as cluster:
        ready = {"server": cluster.url, "kubeconfig": str(cluster.kubeconfig)}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m zdd_tui.testbed.cluster", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="folder of the kubeconfig")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--logs", type=Path, help="folder below which pod logs may be read; --dir by default")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    asyncio.run(serve_cluster(arguments.dir, arguments.port, arguments.logs))


if __name__ == "__main__":
    main()

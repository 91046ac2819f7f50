"""`python -m zdd_tui.testbed.kubelet`: runs until SIGTERM or SIGINT, then ends every pod's process.

Prints one JSON line once the node is registered: {"node": NAME, "pid": PID, "logs": FOLDER}.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.model.errors import ZddError
from zdd_tui.testbed.kubelet.node import Kubelet


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m zdd_tui.testbed.kubelet", description=__doc__)
    parser.add_argument("--kubeconfig", required=True, help="of the API server to serve")
    parser.add_argument("--context", help="of the kubeconfig; default: the current one")
    parser.add_argument("--dir", required=True, type=Path, help="folder for logs and working directories")
    parser.add_argument("--node", default="local", help="name of the node (default: %(default)s)")
    parser.add_argument("--bind", action="store_true", help="place pods too, where no scheduler runs")
    parser.add_argument("--advertise", type=int, default=127, help="first octet of pod addresses in the API")
    parser.add_argument("--backoff", type=float, default=10.0, help="first wait of a crash loop, seconds")
    return parser.parse_args()


async def _serve(options: argparse.Namespace) -> None:
    async with Cluster.connect(options.kubeconfig, options.context, "default") as cluster:
        kubelet = Kubelet(
            cluster.http,
            options.dir,
            name=options.node,
            bind=options.bind,
            advertise=options.advertise,
            backoff=options.backoff,
        )
        running = asyncio.create_task(kubelet.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, running.cancel)
        announcing = asyncio.create_task(_print_ready(kubelet, options))
        try:
            await running
        except asyncio.CancelledError:
            pass
        finally:
            announcing.cancel()


async def _print_ready(kubelet: Kubelet, options: argparse.Namespace) -> None:
    await kubelet.ready.wait()
    text = {"node": options.node, "pid": os.getpid(), "logs": str(options.dir / "logs")}
    sys.stdout.write(json.dumps(text) + "\n")
    sys.stdout.flush()


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s kubelet %(levelname)s %(message)s")
    try:
        asyncio.run(_serve(_parse_arguments()))
    except ZddError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

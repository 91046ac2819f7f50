"""``python -m zdd_tui.demo.load``: load on a Service until SIGTERM."""

import argparse
import asyncio
import random
import signal
import sys
import time
from pathlib import Path

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.demo.load.client import Client
from zdd_tui.demo.load.endpoints import Endpoints, follow_service
from zdd_tui.demo.load.gateway import Split, follow_route
from zdd_tui.demo.load.ledger import Ledger
from zdd_tui.demo.load.stats import Stats, write_report
from zdd_tui.demo.load.traffic import Worker

REPORT_EVERY = 0.5


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m zdd_tui.demo.load", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--kubeconfig", help="follow the EndpointSlices of --service in this cluster")
    where.add_argument("--endpoints", help="host:port,...: these, without a cluster")
    parser.add_argument("--service", default="users-api")
    parser.add_argument("--route", help="requests are shared out by this HTTPRoute, whose status says so")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--out", type=Path, required=True, help="the JSON report, replaced every half second")
    parser.add_argument("--rate", type=float, default=150, help="requests per second of all workers together")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--rows", type=int, default=0, help="seeded rows that may be read and changed")
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args(argv)
    if args.route and args.endpoints:
        parser.error("--route needs a cluster, by --kubeconfig")
    if args.rate <= 0 or args.workers <= 0:
        parser.error("--rate and --workers must be above 0")
    return args


async def run(args: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    client, stats = Client(), Stats(args.rate)
    endpoints = (Split if args.route else Endpoints)(on_leave=client.leave)

    def report(*, final: bool = False) -> None:
        addresses = [f"{host}:{port}" for host, port in endpoints.addresses]
        shared = dict(endpoints.picked) if isinstance(endpoints, Split) else {}
        write_report(args.out, stats.report(addresses, final=final) | {"services": shared})

    report()
    following = asyncio.create_task(_follow(args, endpoints))
    working = asyncio.create_task(_work(args, client, endpoints, stats, stop))
    try:
        while not working.done():
            await asyncio.wait([working], timeout=REPORT_EVERY)
            report()
            if following.done():
                following.result()  # a load that no longer follows the Service would blame it for its own errors
        await working
    finally:
        following.cancel()
        working.cancel()
        await asyncio.gather(following, working, return_exceptions=True)
        await client.close()
    report(final=True)


async def _follow(args: argparse.Namespace, endpoints: Endpoints | Split) -> None:
    if args.endpoints:
        assert isinstance(endpoints, Endpoints)
        pairs = (text.rpartition(":") for text in args.endpoints.split(","))
        endpoints.set((host, int(port)) for host, _, port in pairs)
        return
    async with Cluster.connect(args.kubeconfig, None, args.namespace, check=False) as cluster:
        if isinstance(endpoints, Split):
            await follow_route(cluster, args.route, endpoints)
        else:
            await follow_service(cluster, args.service, endpoints)


async def _work(
    args: argparse.Namespace, client: Client, endpoints: Endpoints | Split, stats: Stats, stop: asyncio.Event
) -> None:
    """Workers from the first endpoint until ``stop``. A worker that breaks breaks the load: no silent gap."""
    stopping, first = asyncio.create_task(stop.wait()), asyncio.create_task(endpoints.wait_first())
    await asyncio.wait([stopping, first], return_when=asyncio.FIRST_COMPLETED)
    first.cancel()
    if not stop.is_set():
        seed = time.time_ns() if args.seed is None else args.seed
        async with asyncio.TaskGroup() as group:
            for number in range(args.workers):
                dice = random.Random(f"{seed}:{number}")  # noqa: S311
                ledger = Ledger(number, args.workers, args.rows, dice)
                worker = Worker(ledger, dice, client, endpoints, stats, args.rate / args.workers)
                group.create_task(worker.run(stop))
    await stopping


def main() -> int:
    asyncio.run(run(parse()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

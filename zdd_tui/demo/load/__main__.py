"""``python -m zdd_tui.demo.load``: load on a Service until SIGTERM."""

import argparse
import asyncio
import random
import signal
import sys
import time
from pathlib import Path

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.demo.load.client import HttpClient
from zdd_tui.demo.load.endpoints import Endpoints, follow_route, follow_service
from zdd_tui.demo.load.rows import RowTracker
from zdd_tui.demo.load.stats import LoadStats, write_load_report
from zdd_tui.demo.load.traffic import LoadWorker
from zdd_tui.demo.manifests import NAME as SERVICE

REPORT_INTERVAL = 0.5
WORKERS = 16


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m zdd_tui.demo.load", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--kubeconfig", help="follow the Service's EndpointSlices in this cluster")
    where.add_argument("--endpoints", help="host:port,...: fixed ones, without a cluster")
    parser.add_argument("--route", help="HTTPRoute that distributes the requests; its status is updated")
    parser.add_argument("--out", type=Path, required=True, help="JSON report, replaced every half second")
    parser.add_argument("--rate", type=float, default=150, help="requests per second, of all workers together")
    parser.add_argument("--rows", type=int, default=0, help="number of seeded rows that may be read and changed")
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    if args.route and args.endpoints:
        parser.error("--route needs a cluster: use --kubeconfig")
    if args.rate <= 0:
        parser.error("--rate must be above 0")
    return args


async def run_load(args: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    client, stats = HttpClient(), LoadStats(args.rate)
    endpoints = Endpoints(on_leave=client.close_endpoint)

    def report(*, final: bool = False) -> None:
        addresses = [f"{host}:{port}" for host, port in endpoints.addresses]
        write_load_report(args.out, stats.report(addresses, final=final) | {"services": dict(endpoints.picked)})

    report()
    follower = asyncio.create_task(_follow_endpoints(args, endpoints))
    workers = asyncio.create_task(_run_workers(args, client, endpoints, stats, stop))
    try:
        while not workers.done():
            await asyncio.wait([workers], timeout=REPORT_INTERVAL)
            report()
            if follower.done():
                follower.result()  # without its addresses the load would count its own errors as the Service's
        await workers
    finally:
        follower.cancel()
        workers.cancel()
        await asyncio.gather(follower, workers, return_exceptions=True)
        await client.close()
    report(final=True)


async def _follow_endpoints(args: argparse.Namespace, endpoints: Endpoints) -> None:
    if not args.route:
        endpoints.set_weights({SERVICE: 1})
    if args.endpoints:
        pairs = (text.rpartition(":") for text in args.endpoints.split(","))
        endpoints.set_addresses(SERVICE, ((host, int(port)) for host, _, port in pairs))
        return
    async with Cluster.connect(args.kubeconfig, None, "default", check=False) as cluster:
        if args.route:
            await follow_route(cluster, args.route, endpoints)
        else:
            await follow_service(cluster, SERVICE, endpoints)


async def _run_workers(
    args: argparse.Namespace, client: HttpClient, endpoints: Endpoints, stats: LoadStats, stop: asyncio.Event
) -> None:
    """Runs the workers from the first endpoint until ``stop``. An error in one of them ends the load."""
    stopping, first = asyncio.create_task(stop.wait()), asyncio.create_task(endpoints.wait_for_first())
    await asyncio.wait([stopping, first], return_when=asyncio.FIRST_COMPLETED)
    first.cancel()
    if not stop.is_set():
        seed = time.time_ns() if args.seed is None else args.seed
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                rng = random.Random(f"{seed}:{number}")  # noqa: S311
                tracker = RowTracker(number, WORKERS, args.rows, rng)
                worker = LoadWorker(tracker, rng, client, endpoints, stats, args.rate / WORKERS)
                group.create_task(worker.run(stop))
    await stopping


def main() -> int:
    asyncio.run(run_load(parse_arguments()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

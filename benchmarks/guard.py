"""Time of the guard from a fault to its verdict, and cost of one scrape of 500 pods.

    python -m benchmarks.guard

Real HTTP: every pod is a server of its own on a loopback port, in this process, so the printed cost includes the
servers.
"""

import asyncio
import math
import random
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp

from zdd_tui.backends.metrics.scrape import build_reader, scrape_all
from zdd_tui.model.guard.rule_state import RuleState, update_rule_state
from zdd_tui.model.guard.rules import evaluate_rule
from zdd_tui.model.guard.series import MetricSeries, MetricTarget
from zdd_tui.model.guard.snapshot import save_series
from zdd_tui.model.plan.guard import Guard, Scrape
from zdd_tui.service.metrics import RequestMetrics

PODS = 500
READINGS = 5
FAULTS = 5
VERSION_ORDER = ("v1", "v2")
GUARD = Guard.model_validate(
    {
        "interval": "1s",
        "rules": [{"name": "errors", "metric": "error-rate", "limit": "1%", "window": "30s", "for": "2s"}],
    }
)


@dataclass
class FakePod:
    """A server with the metrics of simulated requests."""

    metrics: RequestMetrics
    error_rate: float = 0.0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                body = self.metrics.render(0).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def count_requests(self, requests: int) -> None:
        for _ in range(requests):
            failed = random.random() < self.error_rate
            self.metrics.observe("GET", 500 if failed else 200, random.expovariate(100))


async def start_pods(stack: AsyncExitStack, count: int) -> dict[str, tuple[FakePod, str]]:
    """Pods by name, with their addresses."""
    pods = {}
    for number in range(count):
        pod = FakePod(RequestMetrics())
        server = await asyncio.start_server(pod.handle, "127.0.0.1", 0)
        stack.callback(server.close)
        pods[f"pod-{number}"] = pod, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    return pods


async def measure_many_pods() -> None:
    """One scrape of PODS pods: wall clock and processor time."""
    async with AsyncExitStack() as stack:
        pods = await start_pods(stack, PODS)
        for pod, _ in pods.values():
            pod.count_requests(20)
        addresses = {name: address for name, (_, address) in pods.items()}
        targets = [MetricTarget(name, "v1") for name in pods]
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        series = MetricSeries(retention=60, silence_timeout=10)
        seconds: dict[str, list[float]] = {"wall": [], "scrape": [], "evaluate": [], "save": []}
        for _ in range(READINGS):
            began, cpu = time.perf_counter(), time.process_time()
            readings = await scrape_all(session, addresses, Scrape())
            seconds["scrape"].append(time.process_time() - cpu)
            seconds["wall"].append(time.perf_counter() - began)
            assert all(not isinstance(reading, str) for reading in readings.values()), next(iter(readings.values()))
            cpu = time.process_time()
            now = time.monotonic()
            series.observe(now, targets, readings)
            evaluate_rule(GUARD.rules[0], [series.window_stats(now, 30)], VERSION_ORDER)
            seconds["evaluate"].append(time.process_time() - cpu)
            cpu = time.process_time()
            snapshot = save_series({"scrape": series}, [30], now)
            seconds["save"].append(time.process_time() - cpu)
    ms = {name: statistics.median(values) * 1000 for name, values in seconds.items()}
    print(
        f"guard: {PODS} pods scraped in {ms['wall']:.0f} ms, {ms['scrape']:.0f} ms of CPU with the {PODS} servers;"
        f" evaluated in {ms['evaluate']:.1f} ms;"
        f" snapshot for the next agent {ms['save']:.1f} ms, {len(snapshot) / 1024:.0f} KB"
    )


def measure_parsing() -> None:
    """Parsing of the sample application's metrics, and of a page as large as real services have."""
    metrics = RequestMetrics()
    for _ in range(1000):
        metrics.observe("GET", 200, random.expovariate(100))
    small = metrics.render(0)
    large = small + "".join(f'other_metric{{number="{number}"}} {number}\n' for number in range(5000))
    parse = build_reader(Scrape())
    for name, page in (("of the sample application", small), ("with 5,000 more series", large)):
        began = time.process_time()
        for _ in range(100):
            parse(page)
        ms = (time.process_time() - began) / 100 * 1000
        print(f"guard: metrics {name} ({len(page) / 1024:.0f} KB) parsed in {ms:.2f} ms of CPU")


async def measure_fault_detection() -> float:
    """Seconds from when one of four pods begins to fail every tenth request until the guard would roll back."""
    rule = GUARD.rules[0]
    async with AsyncExitStack() as stack:
        pods = await start_pods(stack, 4)
        addresses = {name: address for name, (_, address) in pods.items()}
        targets = [MetricTarget(name, "v2" if name == "pod-0" else "v1") for name in pods]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        series, rule_state = MetricSeries(retention=31, silence_timeout=4), RuleState()
        fault_at = math.inf
        began = time.monotonic()
        while True:
            for pod, _ in pods.values():
                pod.count_requests(max(1, int(30 * GUARD.interval)))
            readings = await scrape_all(session, addresses, Scrape())
            now = time.monotonic()
            series.observe(now, targets, readings)
            evaluation = evaluate_rule(rule, [series.window_stats(now, rule.window)], VERSION_ORDER)
            rule_state, decision = update_rule_state(rule, rule_state, evaluation, now, GUARD.interval)
            if decision.should_act:
                return now - fault_at
            if now - began > 3 and fault_at == math.inf:
                await asyncio.sleep(random.uniform(0, GUARD.interval))  # a fault begins at any time of the interval
                fault_at = time.monotonic()
                pods["pod-0"][0].error_rate = 0.1
            await asyncio.sleep(GUARD.interval)


def main() -> None:
    asyncio.run(measure_many_pods())
    measure_parsing()

    async def faults() -> list[float]:
        return await asyncio.gather(*(measure_fault_detection() for _ in range(FAULTS)))

    delays = asyncio.run(faults())
    rule = GUARD.rules[0]
    print(
        f"guard: from the first failed request to the verdict {statistics.median(delays):.1f} s,"
        f" at most {max(delays):.1f} s, of {FAULTS} faults (interval {GUARD.interval:g} s, `for` {rule.for_:g} s,"
        " one pod of four fails every tenth request, 30 requests a second each)"
    )


if __name__ == "__main__":
    main()

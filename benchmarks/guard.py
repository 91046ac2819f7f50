"""How long the guard takes from a fault to its verdict, and what a look at 500 pods costs.

    python -m benchmarks.guard

Real HTTP: every pod is a server of its own on a loopback port, in this process, so the cost that is printed is that of
client and servers together. Printed: lines.
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
    """A server that counts made-up requests and shows them."""

    metrics: RequestMetrics
    error_rate: float = 0.0

    async def answer(self, read: asyncio.StreamReader, write: asyncio.StreamWriter) -> None:
        try:
            while await read.readuntil(b"\r\n\r\n"):
                body = self.metrics.render(0).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
                write.write(head.encode() + body)
                await write.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            write.close()

    def serve(self, requests: int) -> None:
        for _ in range(requests):
            failed = random.random() < self.error_rate
            self.metrics.observe("GET", 500 if failed else 200, random.expovariate(100))


async def start_pods(stack: AsyncExitStack, count: int) -> dict[str, tuple[FakePod, str]]:
    """Pods by name, with their addresses."""
    made = {}
    for number in range(count):
        pod = FakePod(RequestMetrics())
        server = await asyncio.start_server(pod.answer, "127.0.0.1", 0)
        stack.callback(server.close)
        made[f"pod-{number}"] = pod, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    return made


async def measure_many_pods() -> None:
    """One look at PODS pods: wall clock and processor time."""
    async with AsyncExitStack() as stack:
        pods = await start_pods(stack, PODS)
        for pod, _ in pods.values():
            pod.serve(20)
        addresses = {name: address for name, (_, address) in pods.items()}
        targets = [MetricTarget(name, "v1") for name in pods]
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        series = MetricSeries(retention=60, silence_timeout=10)
        walls, scrapes, judging, keeping = [], [], [], []
        for _ in range(READINGS):
            began, busy = time.perf_counter(), time.process_time()
            found = await scrape_all(session, addresses, Scrape())
            scraped, walled = time.process_time() - busy, time.perf_counter() - began
            assert all(not isinstance(one, str) for one in found.values()), next(iter(found.values()))
            busy = time.process_time()
            now = time.monotonic()
            series.observe(now, targets, found)
            evaluate_rule(GUARD.rules[0], [series.window_stats(now, 30)], VERSION_ORDER)
            judging.append(time.process_time() - busy)
            busy = time.process_time()
            kept = save_series({"scrape": series}, [30], now)
            keeping.append(time.process_time() - busy)
            scrapes.append(scraped)
            walls.append(walled)
    print(
        f"guard: {PODS} pods looked at in {statistics.median(walls) * 1000:.0f} ms;"
        f" {statistics.median(scrapes) * 1000:.0f} ms of CPU, the {PODS} servers' share included;"
        f" judged in {statistics.median(judging) * 1000:.1f} ms;"
        f" kept for the next agent in {statistics.median(keeping) * 1000:.1f} ms and {len(kept) / 1024:.0f} KB"
    )


def measure_parsing() -> None:
    """Parsing alone, and that of a page as large as real services have."""
    metrics = RequestMetrics()
    for _ in range(1000):
        metrics.observe("GET", 200, random.expovariate(100))
    small = metrics.render(0)
    large = small + "".join(f'other_metric{{number="{number}"}} {number}\n' for number in range(5000))
    read = build_reader(Scrape())
    for name, page in (("of the sample application", small), ("with 5,000 more series", large)):
        began = time.process_time()
        for _ in range(100):
            read(page)
        each = (time.process_time() - began) / 100
        print(f"guard: a page {name} ({len(page) / 1024:.0f} KB) is read in {each * 1000:.2f} ms of CPU")


async def measure_fault_detection() -> float:
    """Seconds from the moment at which one of four pods begins to fail every tenth request to the verdict `fail`."""
    rule = GUARD.rules[0]
    async with AsyncExitStack() as stack:
        pods = await start_pods(stack, 4)
        addresses = {name: address for name, (_, address) in pods.items()}
        targets = [MetricTarget(name, "v2" if name == "pod-0" else "v1") for name in pods]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        series, rule_state = MetricSeries(retention=31, silence_timeout=4), RuleState()
        broke = math.inf
        began = time.monotonic()
        while True:
            for pod, _ in pods.values():
                pod.serve(max(1, int(30 * GUARD.interval)))
            found = await scrape_all(session, addresses, Scrape())
            now = time.monotonic()
            series.observe(now, targets, found)
            finding = evaluate_rule(rule, [series.window_stats(now, rule.window)], VERSION_ORDER)
            rule_state, output = update_rule_state(rule, rule_state, finding, now, GUARD.interval)
            if output.should_act:
                return now - broke
            if now - began > 3 and broke == math.inf:
                await asyncio.sleep(random.uniform(0, GUARD.interval))  # a fault keeps to nobody's clock
                broke = time.monotonic()
                pods["pod-0"][0].error_rate = 0.1
            await asyncio.sleep(GUARD.interval)


def main() -> None:
    asyncio.run(measure_many_pods())
    measure_parsing()

    async def faults() -> list[float]:
        return await asyncio.gather(*(measure_fault_detection() for _ in range(FAULTS)))

    took = asyncio.run(faults())
    rule = GUARD.rules[0]
    print(
        f"guard: from the first bad answer to the verdict {statistics.median(took):.1f} s, at most {max(took):.1f} s,"
        f" of {FAULTS} faults (a look every {GUARD.interval:g} s, `for` {rule.for_:g} s,"
        " one pod of four fails every tenth request, 30 requests a second each)"
    )


if __name__ == "__main__":
    main()

"""The application's clients: they write through the Service, and keep a ledger of what was acknowledged."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.chaos.saboteur.ledger import Content, LedgerFile
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.demo.load.client import HttpClient, HttpResponse, RequestFailed
from zdd_tui.demo.load.endpoints import Endpoints, follow_service
from zdd_tui.demo.manifests import NAME as SERVICE

WRITERS = 5
MAX_ROWS = 60
"""Rows that a writer changes, its own included: so each is written several times in a run."""


class Writer:
    """One client. Only it writes its rows, and one after the other, so the last acknowledged write is what must stay.

    A row of which a write got no result is not written again.
    """

    def __init__(self, name: str, rows: dict[int, Content], ledger: LedgerFile, rng: random.Random) -> None:
        self._name = name
        self._rows: dict[int, Content | None] = dict(rows)
        self._ledger = ledger
        self._rng = rng
        self._number = 0
        self.done = 0
        self.created = 0
        self.unknown = 0
        self.refused = 0

    async def write_one(self, client: HttpClient, endpoints: Endpoints) -> None:
        """Sends one write and records its result."""
        present = [row_id for row_id, content in self._rows.items() if content is not None]
        roll = self._rng.random()
        if not present or (roll < 0.25 and len(present) < MAX_ROWS):
            await self._create(client, endpoints)
            return
        row_id = self._rng.choice(present)
        before = self._rows[row_id]
        assert before is not None
        if roll < 0.35:
            await self._send(client, endpoints, "delete", row_id, None, None, 204)
            return
        fresh = self._fresh_content()
        names = self._rng.choice((("name",), ("email",), ("name", "email")))
        content = (fresh[0] if "name" in names else before[0], fresh[1] if "email" in names else before[1])
        body = {"name": fresh[0], "email": fresh[1]}
        await self._send(client, endpoints, "update", row_id, content, {name: body[name] for name in names}, 200)

    async def _create(self, client: HttpClient, endpoints: Endpoints) -> None:
        content = self._fresh_content()
        body = {"name": content[0], "email": content[1]}
        response = await self._request(client, endpoints, "POST", "/users", body)
        row_id = response.body.get("id") if response is not None and response.status == 201 else None
        if row_id is not None:
            self._ledger.write(self._name, "create", row_id, content, "done")
            self._rows[row_id] = content
            self.done += 1
            self.created += 1
        elif response is None or response.status >= 500:
            self._ledger.write(self._name, "create", None, content, "unknown")
            self.unknown += 1

    async def _send(
        self,
        client: HttpClient,
        endpoints: Endpoints,
        op: str,
        row_id: int,
        content: Content | None,
        body: dict[str, str] | None,
        wanted: int,
    ) -> None:
        method = "DELETE" if op == "delete" else "PUT"
        response = await self._request(client, endpoints, method, f"/users/{row_id}", body)
        if response is not None and response.status == wanted:
            self._ledger.write(self._name, op, row_id, content, "done")
            self._rows[row_id] = content
            self.done += 1
        elif response is None or response.status >= 500:
            self._ledger.write(self._name, op, row_id, content, "unknown")
            del self._rows[row_id]
            self.unknown += 1
        else:  # such as 404 for a row that exists: nothing was acknowledged, the row must stay as it was
            del self._rows[row_id]
            self.refused += 1

    async def _request(
        self, client: HttpClient, endpoints: Endpoints, method: str, path: str, body: Any
    ) -> HttpResponse | None:
        address = endpoints.pick(self._rng)
        if address is None:
            await asyncio.sleep(0.1)
            return None
        try:
            return await client.request(address, method, path, body)
        except RequestFailed:
            return None

    def _fresh_content(self) -> Content:
        self._number += 1
        last = self._rng.choice(("", " Lee", " van der Berg", " O'Neil", " 山田"))
        return f"Ana-{self._name}-{self._number}{last}", f"{self._name}.{self._number}@example.com"


class Writers:
    """All of them, until the block of :func:`run_writers` ends."""

    def __init__(self, writers: list[Writer], ledger: LedgerFile) -> None:
        self._writers = writers
        self.ledger = ledger
        self._gate = asyncio.Event()
        self._gate.set()
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def counts(self) -> dict[str, int]:
        names = ("done", "created", "unknown", "refused")
        return {name: sum(getattr(each, name) for each in self._writers) for name in names}

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """No write is under way, and none begins, while the block runs."""
        self._gate.clear()
        try:
            await self._idle.wait()
            yield
        finally:
            self._gate.set()

    async def wait_for_writes(self, count: int, timeout: float) -> bool:
        """Waits until `count` more writes were acknowledged, a creation among them."""
        before = self.counts
        try:
            async with asyncio.timeout(timeout):
                while self.counts["done"] < before["done"] + count or self.counts["created"] == before["created"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError:
            return False
        return True

    async def run(self, writer: Writer, client: HttpClient, endpoints: Endpoints, interval: float) -> None:
        while True:
            await self._gate.wait()
            self._busy += 1
            self._idle.clear()
            try:
                await writer.write_one(client, endpoints)
            finally:
                self._busy -= 1
                if not self._busy:
                    self._idle.set()
            await asyncio.sleep(interval)


@asynccontextmanager
async def run_writers(
    kubeconfig: Path, ledger_file: Path, seeded: dict[int, Content], rate: float, seed: int
) -> AsyncIterator[Writers]:
    """Writers on the cluster's Service while the block runs; `seeded` are the rows that they may change."""
    client = HttpClient()
    endpoints = Endpoints(on_leave=client.close_endpoint)
    endpoints.set_weights({SERVICE: 1})
    ledger = LedgerFile(ledger_file)
    ids = list(seeded)
    each = []
    for number in range(WRITERS):
        own = {row_id: seeded[row_id] for row_id in ids[number::WRITERS][: MAX_ROWS // 2]}
        each.append(Writer(f"w{number}", own, ledger, random.Random(f"{seed}:{number}")))
    writers = Writers(each, ledger)
    async with Cluster.connect(str(kubeconfig), None, "default", check=False) as cluster:
        tasks = [asyncio.create_task(follow_service(cluster, SERVICE, endpoints))]
        await endpoints.wait_for_first()
        tasks += [asyncio.create_task(writers.run(one, client, endpoints, WRITERS / rate)) for one in each]
        try:
            yield writers
        finally:
            async with writers.paused():
                for task in tasks:
                    task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await client.close()
            ledger.close()
    for result in results:
        if isinstance(result, Exception):
            raise result

"""The workers: each sends one request after the other, when it is due, and judges the answer."""

import asyncio
import random
import time
from typing import Any

from zdd_tui.demo.load.client import Answer, Client, RequestFailed
from zdd_tui.demo.load.endpoints import Endpoints
from zdd_tui.demo.load.gateway import Split
from zdd_tui.demo.load.ledger import Expected, Ledger
from zdd_tui.demo.load.stats import Stats

MAX_BACKLOG = 5.0
"""Seconds of missed requests that a worker makes up for after an outage; what is older is dropped."""


class Worker:
    """One of ``workers`` users.

    Args:
        rate: requests per second of this worker.
    """

    def __init__(
        self,
        ledger: Ledger,
        dice: random.Random,
        client: Client,
        endpoints: Endpoints | Split,
        stats: Stats,
        rate: float,
    ) -> None:
        self.ledger = ledger
        self._dice = dice
        self._client = client
        self._endpoints = endpoints
        self._stats = stats
        self._interval = 1 / rate
        self._due = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; the request in flight is waited for."""
        self._due = time.monotonic() + self._dice.random() * self._interval
        while not stop.is_set():
            now = time.monotonic()
            if now < self._due:
                await asyncio.sleep(self._due - now)
            elif now - self._due > MAX_BACKLOG:
                self._due = now
            await self.step()
            self._due += self._interval * self._dice.uniform(0.5, 1.5)

    async def step(self) -> None:
        """One request: 60 % reads, 25 % updates, 15 % creations and deletions in balance."""
        roll = self._dice.random()
        if roll < 0.15:
            if self._dice.random() * 2 > self.ledger.own / 40 and self.ledger.wants_more:
                await self._create()
            else:
                await self._delete()
            return
        row_id = self._pick(to_change=roll < 0.40)
        if row_id is None:
            await self._create()
        elif roll < 0.40:
            await self._update(row_id)
        else:
            await self._read(row_id)

    def _pick(self, *, to_change: bool) -> int | None:
        if self._dice.random() < 0.5:
            return self.ledger.pick_own()
        return self.ledger.pick_seeded(to_change=to_change)

    async def _create(self) -> None:
        content = self.ledger.new_content()
        body = {"name": content.name, "email": content.email}
        answer, endpoint = await self._send("create", "POST", "/users", body)
        if answer is None:
            return
        if answer.status != 201:
            self._failed(answer, "POST /users", endpoint)
        elif (got := _content(answer.body)) != content or not isinstance(answer.body.get("id"), int):
            self._stats.wrong_answer("POST /users", endpoint, str(content), str(answer.body))
        else:
            self.ledger.created(answer.body["id"], got)

    async def _read(self, row_id: int) -> None:
        await self._judge("read", "GET", row_id, None, self.ledger.expected(row_id))

    async def _update(self, row_id: int) -> None:
        before = self.ledger.expected(row_id)
        fresh = self.ledger.new_content()
        fields = self._dice.choice((("name",), ("email",), ("name", "email")))
        body = {field: getattr(fresh, field) for field in fields}
        after = None
        if before is not None:
            after = Expected(body.get("name", before.name), body.get("email", before.email))
        if await self._judge("update", "PUT", row_id, body, after) and before is not None:
            self.ledger.wrote(row_id, after)

    async def _delete(self) -> None:
        row_id = self.ledger.pick_own()
        if row_id is None or (self._dice.random() < 0.2 and self.ledger.may_delete_seeded):
            row_id = self.ledger.pick_seeded(to_change=True)
        if row_id is None:
            return
        existed = self.ledger.expected(row_id) is not None
        if await self._judge("delete", "DELETE", row_id, None, None, gone=204 if existed else 404):
            self.ledger.wrote(row_id, None)

    async def _judge(
        self, operation: str, method: str, row_id: int, body: Any, expected: Expected | None, gone: int = 404
    ) -> bool:
        """Send, and compare with ``expected`` (None: the status ``gone``). False: the row is in doubt now."""
        path = f"/users/{row_id}"
        answer, endpoint = await self._send(operation, method, path, body)
        if answer is not None:
            if answer.status == (gone if expected is None else 200):
                if expected is None or (answer.body.get("id") == row_id and _content(answer.body) == expected):
                    return True
                self._stats.wrong_answer(f"{method} {path}", endpoint, str(expected), str(answer.body))
            elif answer.status in (200, 204, 404):
                # A row that should be there is not, or the other way round.
                got = f"status {answer.status} {answer.body}"
                self._stats.wrong_answer(f"{method} {path}", endpoint, str(expected or f"status {gone}"), got)
            else:
                self._failed(answer, f"{method} {path}", endpoint)
                if method == "GET":
                    return False
        elif method == "GET":
            return False  # a read that got no answer has changed nothing
        self.ledger.forget(row_id)
        return False

    async def _send(self, operation: str, method: str, path: str, body: Any) -> tuple[Answer | None, str]:
        address = self._endpoints.pick(self._dice)
        endpoint = "none" if address is None else f"{address[0]}:{address[1]}"
        answer = None
        try:
            if address is None:
                raise RequestFailed("no endpoint", "the Service has no endpoint that serves")
            answer = await self._client.request(address, method, path, body)
        except RequestFailed as error:
            self._stats.failure(error.kind, f"{method} {path}", endpoint, error.detail)
        self._stats.request(operation, time.monotonic() - self._due)
        return answer, endpoint

    def _failed(self, answer: Answer, request: str, endpoint: str) -> None:
        self._stats.failure(f"status {answer.status}", request, endpoint, str(answer.body)[:200])


def _content(body: Any) -> Expected | None:
    if not isinstance(body, dict) or "name" not in body or "email" not in body:
        return None
    return Expected(body["name"], body["email"])

"""The workers: each sends one request after the other, when it is due, and judges the answer."""

import asyncio
import random
import time
from typing import Any

from zdd_tui.demo.load.client import HttpAnswer, HttpClient, RequestFailed
from zdd_tui.demo.load.endpoints import Endpoints
from zdd_tui.demo.load.gateway import WeightedEndpoints
from zdd_tui.demo.load.ledger import RowTracker, UserContent
from zdd_tui.demo.load.stats import LoadStats

MAX_BACKLOG_SECONDS = 5.0
"""Seconds of missed requests that a worker makes up for after an outage; what is older is dropped."""


class LoadWorker:
    """One of ``workers`` users.

    Args:
        rate: requests per second of this worker.
    """

    def __init__(
        self,
        rows: RowTracker,
        rng: random.Random,
        client: HttpClient,
        endpoints: Endpoints | WeightedEndpoints,
        stats: LoadStats,
        rate: float,
    ) -> None:
        self.rows = rows
        self._rng = rng
        self._client = client
        self._endpoints = endpoints
        self._stats = stats
        self._interval = 1 / rate
        self._due = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; the request in flight is waited for."""
        self._due = time.monotonic() + self._rng.random() * self._interval
        while not stop.is_set():
            now = time.monotonic()
            if now < self._due:
                await asyncio.sleep(self._due - now)
            elif now - self._due > MAX_BACKLOG_SECONDS:
                self._due = now
            await self.send_one()
            self._due += self._interval * self._rng.uniform(0.5, 1.5)

    async def send_one(self) -> None:
        """One request: 60 % reads, 25 % updates, 15 % creations and deletions in balance."""
        roll = self._rng.random()
        if roll < 0.15:
            if self._rng.random() * 2 > self.rows.own_count / 40 and self.rows.needs_more_rows:
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
        if self._rng.random() < 0.5:
            return self.rows.pick_own()
        return self.rows.pick_seeded(to_change=to_change)

    async def _create(self) -> None:
        content = self.rows.new_content()
        body = {"name": content.name, "email": content.email}
        answer, endpoint = await self._send("create", "POST", "/users", body)
        if answer is None:
            return
        if answer.status != 201:
            self._failed(answer, "POST /users", endpoint)
        elif (got := _content(answer.body)) != content or not isinstance(answer.body.get("id"), int):
            self._stats.count_wrong_answer("POST /users", endpoint, str(content), str(answer.body))
        else:
            self.rows.record_created(answer.body["id"], got)

    async def _read(self, row_id: int) -> None:
        await self._send_and_check("read", "GET", row_id, None, self.rows.expected(row_id))

    async def _update(self, row_id: int) -> None:
        before = self.rows.expected(row_id)
        fresh = self.rows.new_content()
        fields = self._rng.choice((("name",), ("email",), ("name", "email")))
        body = {field: getattr(fresh, field) for field in fields}
        after = None
        if before is not None:
            after = UserContent(body.get("name", before.name), body.get("email", before.email))
        if await self._send_and_check("update", "PUT", row_id, body, after) and before is not None:
            self.rows.record_written(row_id, after)

    async def _delete(self) -> None:
        row_id = self.rows.pick_own()
        if row_id is None or (self._rng.random() < 0.2 and self.rows.may_delete_seeded):
            row_id = self.rows.pick_seeded(to_change=True)
        if row_id is None:
            return
        existed = self.rows.expected(row_id) is not None
        if await self._send_and_check("delete", "DELETE", row_id, None, None, gone=204 if existed else 404):
            self.rows.record_written(row_id, None)

    async def _send_and_check(
        self, operation: str, method: str, row_id: int, body: Any, expected: UserContent | None, gone: int = 404
    ) -> bool:
        """Send, and compare with ``expected`` (None: the status ``gone``). False: the row is in doubt now."""
        path = f"/users/{row_id}"
        answer, endpoint = await self._send(operation, method, path, body)
        if answer is not None:
            if answer.status == (gone if expected is None else 200):
                if expected is None or (answer.body.get("id") == row_id and _content(answer.body) == expected):
                    return True
                self._stats.count_wrong_answer(f"{method} {path}", endpoint, str(expected), str(answer.body))
            elif answer.status in (200, 204, 404):
                # A row that should be there is not, or the other way round.
                got = f"status {answer.status} {answer.body}"
                self._stats.count_wrong_answer(f"{method} {path}", endpoint, str(expected or f"status {gone}"), got)
            else:
                self._failed(answer, f"{method} {path}", endpoint)
                if method == "GET":
                    return False
        elif method == "GET":
            return False  # a read that got no answer has changed nothing
        self.rows.mark_uncertain(row_id)
        return False

    async def _send(self, operation: str, method: str, path: str, body: Any) -> tuple[HttpAnswer | None, str]:
        address = self._endpoints.pick(self._rng)
        endpoint = "none" if address is None else f"{address[0]}:{address[1]}"
        answer = None
        try:
            if address is None:
                raise RequestFailed("no endpoint", "the Service has no endpoint that serves")
            answer = await self._client.request(address, method, path, body)
        except RequestFailed as error:
            self._stats.count_failure(error.kind, f"{method} {path}", endpoint, error.detail)
        self._stats.count_request(operation, time.monotonic() - self._due)
        return answer, endpoint

    def _failed(self, answer: HttpAnswer, request: str, endpoint: str) -> None:
        self._stats.count_failure(f"status {answer.status}", request, endpoint, str(answer.body)[:200])


def _content(body: Any) -> UserContent | None:
    if not isinstance(body, dict) or "name" not in body or "email" not in body:
        return None
    return UserContent(body["name"], body["email"])

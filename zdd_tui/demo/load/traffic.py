"""The workers: each sends one request after the other, when it is due, and checks the response."""

import asyncio
import random
import time
from typing import Any

from zdd_tui.demo.load.client import HttpClient, HttpResponse, RequestFailed
from zdd_tui.demo.load.endpoints import Endpoints
from zdd_tui.demo.load.rows import RowTracker, UserContent
from zdd_tui.demo.load.stats import LoadStats

MAX_BACKLOG_SECONDS = 5.0
"""Seconds of missed requests that a worker sends late after an outage; older ones are dropped."""


class LoadWorker:
    """One client.

    Args:
        rate: requests per second of this worker.
    """

    def __init__(
        self,
        rows: RowTracker,
        rng: random.Random,
        client: HttpClient,
        endpoints: Endpoints,
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
        """Runs until ``stop`` is set and the request in flight has ended."""
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
        """Sends one request: 60 % reads, 25 % updates, 15 % creations and deletions in balance."""
        roll = self._rng.random()
        if roll < 0.15:
            if self._rng.random() * 2 > self.rows.own_count / 40 and self.rows.needs_more_rows:
                await self._create()
            else:
                await self._delete()
            return
        is_own = self._rng.random() < 0.5
        row_id = self.rows.pick_own() if is_own else self.rows.pick_seeded(to_change=roll < 0.40)
        if row_id is None:
            await self._create()
        elif roll < 0.40:
            await self._update(row_id)
        else:
            await self._send_and_check("read", "GET", row_id, None, self.rows.expected(row_id))

    async def _create(self) -> None:
        content = self.rows.new_content()
        body = {"name": content.name, "email": content.email}
        response, endpoint = await self._send("create", "POST", "/users", body)
        if response is None:
            return
        if response.status != 201:
            self._count_failure(response, "POST /users", endpoint)
        elif (got := _content(response.body)) != content or not isinstance(response.body.get("id"), int):
            self._stats.count_wrong_result("POST /users", endpoint, str(content), str(response.body))
        else:
            self.rows.record_created(response.body["id"], got)

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
        """Sends a request and compares the response with ``expected`` (None: the status ``gone``).

        Returns:
            True where they are equal. False where not: unless the row was only read, its content is uncertain now.
        """
        request = f"{method} /users/{row_id}"
        response, endpoint = await self._send(operation, method, f"/users/{row_id}", body)
        has_failed = response is None
        if response is not None:
            if response.status == (gone if expected is None else 200):
                if expected is None or (response.body.get("id") == row_id and _content(response.body) == expected):
                    return True
                self._stats.count_wrong_result(request, endpoint, str(expected), str(response.body))
            elif response.status in (200, 204, 404):  # the row is missing, or exists and should not
                got = f"status {response.status} {response.body}"
                self._stats.count_wrong_result(request, endpoint, str(expected or f"status {gone}"), got)
            else:
                has_failed = True
                self._count_failure(response, request, endpoint)
        if not (has_failed and method == "GET"):
            self.rows.mark_uncertain(row_id)
        return False

    async def _send(self, operation: str, method: str, path: str, body: Any) -> tuple[HttpResponse | None, str]:
        address = self._endpoints.pick(self._rng)
        endpoint = "none" if address is None else f"{address[0]}:{address[1]}"
        response = None
        try:
            if address is None:
                raise RequestFailed("no endpoint", "the Service has no endpoint that serves")
            response = await self._client.request(address, method, path, body)
        except RequestFailed as error:
            self._stats.count_failure(error.kind, f"{method} {path}", endpoint, error.detail)
        self._stats.count_request(operation, time.monotonic() - self._due)
        return response, endpoint

    def _count_failure(self, response: HttpResponse, request: str, endpoint: str) -> None:
        self._stats.count_failure(f"status {response.status}", request, endpoint, str(response.body)[:200])


def _content(body: Any) -> UserContent | None:
    if not isinstance(body, dict) or "name" not in body or "email" not in body:
        return None
    return UserContent(body["name"], body["email"])

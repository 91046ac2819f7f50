"""Events in the kubelet's words, sent in order by one task; a repeated one only counts up."""

import asyncio
import logging
import secrets
from typing import Any

from zdd_tui.backends.kubernetes.cluster import MERGE_PATCH
from zdd_tui.backends.kubernetes.http import KubeHttp
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import JsonObject, get_text
from zdd_tui.testbed.kubelet.status import format_time

log = logging.getLogger(__name__)
MAX_REMEMBERED = 500


class PodEventRecorder:
    """Records Events about pods. Losing one is no harm: what cannot be sent is dropped."""

    def __init__(self, http: KubeHttp, node: str) -> None:
        self._http = http
        self._node = node
        self._queue: asyncio.Queue[tuple[JsonObject, str, str, str, str]] = asyncio.Queue(1000)
        self._sent: dict[tuple[str, str, str], tuple[str, str, int]] = {}

    def record(self, pod: JsonObject, reason: str, message: str, *, warning: bool = False, by: str = "kubelet") -> None:
        """Queue one Event."""
        try:
            self._queue.put_nowait((pod, reason, message, "Warning" if warning else "Normal", by))
        except asyncio.QueueFull:
            log.warning("event dropped: %s %s", reason, message)

    async def run(self) -> None:
        """Send what is queued, for ever."""
        while True:
            entry = await self._queue.get()
            try:
                await self._send(*entry)
            except ClusterError as error:
                log.info("event not sent: %s", error.title)
            finally:
                self._queue.task_done()

    async def flush(self, seconds: float) -> None:
        """Give the queue some time to empty."""
        try:
            async with asyncio.timeout(seconds):
                await self._queue.join()
        except TimeoutError:
            pass

    async def _send(self, pod: JsonObject, reason: str, message: str, kind: str, by: str) -> None:
        namespace, name, uid = (get_text(pod, "metadata", key) for key in ("namespace", "name", "uid"))
        path = f"/api/v1/namespaces/{namespace}/events"
        key = (uid, reason, message)
        if key in self._sent:
            event, first, count = self._sent[key]
            body: dict[str, Any] = {"count": count + 1, "lastTimestamp": format_time()}
            await self._http.request_json("PATCH", f"{path}/{event}", body=body, content_type=MERGE_PATCH)
            self._sent[key] = (event, first, count + 1)
            return
        event, now = f"{name}.{secrets.token_hex(8)}", format_time()
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": event, "namespace": namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": namespace,
                "name": name,
                "uid": uid,
                "resourceVersion": get_text(pod, "metadata", "resourceVersion"),
            },
            "reason": reason,
            "message": message,
            "type": kind,
            "source": {"component": by, "host": self._node} if by == "kubelet" else {"component": by},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "reportingComponent": by,
            "reportingInstance": self._node,
        }
        await self._http.request_json("POST", path, body=body)
        while len(self._sent) >= MAX_REMEMBERED:
            del self._sent[next(iter(self._sent))]
        self._sent[key] = (event, now, 1)

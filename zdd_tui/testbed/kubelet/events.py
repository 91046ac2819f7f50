"""Events in the kubelet's words, sent in order by one task; a repeated one only counts up."""

import asyncio
import logging
import secrets
from typing import Any

from zdd_tui.backends.kubernetes.cluster import MERGE_PATCH
from zdd_tui.backends.kubernetes.http import KubeHttp
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import JsonObject, get_text
from zdd_tui.testbed.cluster.meta import make_event, now

log = logging.getLogger(__name__)
MAX_REMEMBERED = 500


class PodEventRecorder:
    """Records Events about pods. Losing one is no harm: what cannot be sent is dropped."""

    def __init__(self, http: KubeHttp, node: str) -> None:
        self._http = http
        self._node = node
        self._queue: asyncio.Queue[tuple[JsonObject, str, str, bool, str]] = asyncio.Queue(1000)
        self._sent: dict[tuple[str, str, str], tuple[str, int]] = {}

    def record(self, pod: JsonObject, reason: str, message: str, *, warning: bool = False, by: str = "kubelet") -> None:
        try:
            self._queue.put_nowait((pod, reason, message, warning, by))
        except asyncio.QueueFull:
            log.warning("event dropped: %s %s", reason, message)

    async def run(self) -> None:
        while True:
            entry = await self._queue.get()
            try:
                await self._send(*entry)
            except ClusterError as error:
                log.info("event not sent: %s", error.title)

    async def _send(self, pod: JsonObject, reason: str, message: str, warning: bool, by: str) -> None:
        path = f"/api/v1/namespaces/{get_text(pod, 'metadata', 'namespace')}/events"
        key = (get_text(pod, "metadata", "uid"), reason, message)
        if key in self._sent:
            event, count = self._sent[key]
            body: dict[str, Any] = {"count": count + 1, "lastTimestamp": now()}
            await self._http.request_json("PATCH", f"{path}/{event}", body=body, content_type=MERGE_PATCH)
            self._sent[key] = (event, count + 1)
            return
        event = f"{get_text(pod, 'metadata', 'name')}.{secrets.token_hex(8)}"
        # An item of a list says neither its kind nor its version.
        about = {**pod, "apiVersion": "v1", "kind": "Pod"}
        node = self._node if by == "kubelet" else ""
        body = make_event(event, about, reason, message, by, warning=warning, node=node)
        await self._http.request_json("POST", path, body=body)
        while len(self._sent) >= MAX_REMEMBERED:
            del self._sent[next(iter(self._sent))]
        self._sent[key] = (event, 1)

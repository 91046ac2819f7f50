"""Reports pod statuses to the API server. Only the newest status counts; one that could not be sent is retried."""

import asyncio
import logging
from http import HTTPStatus
from typing import Any

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.kubernetes.cluster import MERGE_PATCH
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.kubernetes.http import KubeHttp
from zdd_tui.backends.kubernetes.watch import RETRY_PAUSES
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import JsonObject, get_text
from zdd_tui.testbed.kubelet.status import PodRecord

log = logging.getLogger(__name__)

LOG_ANNOTATION = "zdd.local/log-file"


class StatusManager:
    """Sends one pod's status, and its final deletion."""

    def __init__(self, http: KubeHttp, pod: JsonObject, record: PodRecord, log_file: str) -> None:
        self._http = http
        self._record = record
        self._dirty = asyncio.Event()
        self._dirty.set()
        self._lock = asyncio.Lock()
        self._stopped = False
        self._last: dict[str, Any] | None = None
        self.pod = pod
        self.log_file = log_file

    def mark_changed(self) -> None:
        """Schedules a report of the new status."""
        self._dirty.set()

    def stop(self) -> None:
        """Stops reporting: the pod is gone from the API."""
        self._stopped = True

    async def run(self) -> None:
        """Sends a status after each change, until the pod is gone from the API."""
        await self._annotate_log_file()
        while not self._stopped:
            await self._dirty.wait()
            await self._send()

    async def _annotate_log_file(self) -> None:
        # The embedded API server reads the file itself for `kubectl logs`: a process needs no log proxy.
        body = {"metadata": {"annotations": {LOG_ANNOTATION: self.log_file}}}
        try:
            await self._http.request_json("PATCH", self._path, body=body, content_type=MERGE_PATCH)
        except ClusterError as error:
            log.info("log file of %s: %s", self._path, error.title)

    async def _send(self) -> None:
        # PATCH of a whole status: a list in a merge patch replaces, so no condition of ours lingers.
        async with self._lock:
            backoff = Backoff(*RETRY_PAUSES)
            while not self._stopped:
                self._dirty.clear()
                status = self._record.render(self.pod)
                if status == self._last:
                    return
                body = {
                    "metadata": {"uid": get_text(self.pod, "metadata", "uid")},
                    "status": _with_removed_fields(status),
                }
                try:
                    await self._http.request_json("PATCH", self._path + "/status", body=body, content_type=MERGE_PATCH)
                except KubeApiError as error:
                    if await self._is_lost(error):
                        return
                    log.warning("status of %s: %s", self._path, error.title)
                except ClusterError as error:
                    log.info("status of %s: %s", self._path, error.title)
                else:
                    self._last = status
                    return
                await backoff.sleep()

    async def delete(self) -> None:
        """Send the last status, then remove the object: the pod has ended."""
        await self._send()
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": get_text(self.pod, "metadata", "uid")},
        }
        backoff = Backoff(*RETRY_PAUSES)
        while not self._stopped:
            try:
                await self._http.request_json("DELETE", self._path, body=body)
            except KubeApiError as error:
                if await self._is_lost(error):
                    return
                log.warning("deletion of %s: %s", self._path, error.title)
            except ClusterError as error:
                log.info("deletion of %s: %s", self._path, error.title)
            else:
                return
            await backoff.sleep()

    async def _is_lost(self, error: KubeApiError) -> bool:
        """The pod is gone, or another one has its name (our uid is a precondition of every write)."""
        if error.status != HTTPStatus.CONFLICT:  # 409 may also be a mere race with another writer
            return error.status == HTTPStatus.NOT_FOUND
        try:
            found = await self._http.request_json("GET", self._path)
        except KubeApiError as missing:
            return missing.status == HTTPStatus.NOT_FOUND
        except ClusterError:
            return False
        return get_text(found, "metadata", "uid") != get_text(self.pod, "metadata", "uid")

    @property
    def _path(self) -> str:
        namespace, name = get_text(self.pod, "metadata", "namespace"), get_text(self.pod, "metadata", "name")
        return f"/api/v1/namespaces/{namespace}/pods/{name}"


def _with_removed_fields(status: dict[str, Any]) -> dict[str, Any]:
    """Fields that a status before may have had and this one has not: null takes them away in a merge patch."""
    return {"reason": None, "message": None, **status}

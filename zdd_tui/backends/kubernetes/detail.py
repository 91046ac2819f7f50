"""Details of one object for a screen: the object, its Events and its log."""

from collections.abc import Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING

import yaml

from zdd_tui.backends.backoff import Backoff
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import get_objects, get_text
from zdd_tui.model.log_buffer import LogBuffer
from zdd_tui.model.masking import clean_object
from zdd_tui.model.queries import LogQuery, ObjectDetail, ObjectKind, ObjectQuery
from zdd_tui.model.workload.rollout import EventView, project_event

if TYPE_CHECKING:
    from zdd_tui.backends.kubernetes.cluster import Cluster

_RESOURCES: Mapping[ObjectKind, tuple[str, str]] = {
    "Pod": ("api/v1", "pods"),
    "Service": ("api/v1", "services"),
    "ReplicaSet": ("apis/apps/v1", "replicasets"),
    "Deployment": ("apis/apps/v1", "deployments"),
}

SILENCE_TIMEOUT = 60.0
"""Seconds without a byte after which a log is requested again: TCP does not detect a lost server."""

RETRY_PAUSES = (0.5, 4.0)
"""First and longest pause in seconds before a lost log is requested again."""


async def read_object_detail(cluster: "Cluster", query: ObjectQuery) -> ObjectDetail:
    """Reads the object and its Events.

    Raises:
        ClusterError: no such object, not allowed, or the server is unreachable.
    """
    api, resource = _RESOURCES[query.kind]
    raw = await cluster.http.request_json("GET", cluster.path(api, resource, query.name))
    document = clean_object({"apiVersion": api.removeprefix("apis/").removeprefix("api/"), "kind": query.kind} | raw)
    events: tuple[EventView, ...] = ()
    error = ""
    selector = f"involvedObject.name={query.name},involvedObject.uid={get_text(raw, 'metadata', 'uid')}"
    try:
        raw_events = await cluster.http.request_json(
            "GET", cluster.path("api/v1", "events"), params={"fieldSelector": selector}
        )
        events = tuple(sorted(map(project_event, get_objects(raw_events, "items")), key=lambda event: event.at or 0.0))
    except ClusterError as refused:  # show the object without its Events
        error = refused.title
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=10_000)
    return ObjectDetail(document, text, events, error)


# --- logs ----------------------------------------------------------------------------------------------------------


async def follow_log(cluster: "Cluster", query: LogQuery, buffer: LogBuffer) -> None:
    """Appends a container's log to a buffer until it is cancelled, or until the log is complete.

    A broken stream is requested again from where it ended. After the end of a container it waits for the next run,
    whose log is appended to the same buffer.
    """
    # A container that has ended returns its log and closes, so success alone does not reset the pause.
    backoff = Backoff(*RETRY_PAUSES, reset_after=RETRY_PAUSES[1])
    path = cluster.path("api/v1", "pods", query.pod, "log")
    final_statuses = {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}
    if query.previous:
        final_statuses.add(HTTPStatus.BAD_REQUEST)
    while True:
        try:
            await _stream_log(cluster, path, _log_params(query, buffer.last_timestamp), buffer)
        except ClusterError as error:
            if query.previous and "previous terminated container" in error.title:
                buffer.set_state("ended", f"pod {query.pod!r} has no previous container: it has not restarted")
                return
            if isinstance(error, KubeApiError) and error.status in final_statuses:
                buffer.set_state("ended", error.title, error.hint)
                return
            buffer.set_state("lost", error.title, error.hint)
        else:
            if query.previous:
                buffer.set_state("ended")
                return
            buffer.set_state("lost", "the log has ended: the container has stopped, or the connection is lost")
        await backoff.sleep()


def _log_params(query: LogQuery, since: str) -> dict[str, str | int]:
    params: dict[str, str | int] = {"timestamps": "true"}
    if query.container:
        params["container"] = query.container
    if query.previous:
        return params | {"previous": "true", "tailLines": query.tail}
    # The API counts in whole seconds; lines of that second that are in the buffer are dropped by their timestamps.
    return params | {"follow": "true"} | ({"sinceTime": since} if since else {"tailLines": query.tail})


async def _stream_log(cluster: "Cluster", path: str, params: Mapping[str, str | int], buffer: LogBuffer) -> None:
    skip = str(params.get("sinceTime", ""))
    async with aclosing(
        cluster.http.stream_chunks(path, params, silence_timeout=SILENCE_TIMEOUT, verb="GET")
    ) as chunks:
        async for chunk in chunks:
            if chunk is None:
                buffer.set_state("following")
            else:
                buffer.append(chunk, after=skip)
    buffer.flush()

"""What a screen asks of one object: the object itself, what happened to it, and its log."""

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

import yaml

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
"""Seconds without a byte after which a log is asked for anew: TCP would not tell that its server is gone."""

RETRY_PAUSES = (0.5, 4.0)
"""First and longest pause before a lost log is tried again; each is drawn from half of it to all of it."""


async def read_object_detail(cluster: "Cluster", query: ObjectQuery) -> ObjectDetail:
    """The object as the API has it now, and the Events about it.

    Raises:
        ClusterError: no such object, not allowed, or the server is away.
    """
    api, resource = _RESOURCES[query.kind]
    raw = await cluster.http.request_json("GET", cluster.path(api, resource, query.name))
    document = clean_object({"apiVersion": api.removeprefix("apis/").removeprefix("api/"), "kind": query.kind} | raw)
    events: tuple[EventView, ...] = ()
    error = ""
    selector = f"involvedObject.name={query.name},involvedObject.uid={get_text(raw, 'metadata', 'uid')}"
    try:
        found = await cluster.http.request_json(
            "GET", cluster.path("api/v1", "events"), params={"fieldSelector": selector}
        )
        events = tuple(sorted(map(project_event, get_objects(found, "items")), key=lambda event: event.at or 0.0))
    except ClusterError as refused:  # the object alone is worth more than nothing
        error = refused.title
    shown = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=10_000)
    return ObjectDetail(document, shown, events, error)


# --- logs ----------------------------------------------------------------------------------------------------------


async def follow_log(cluster: "Cluster", query: LogQuery, buffer: LogBuffer) -> None:
    """Fills a buffer with a container's log until it is cancelled, or until there is no more to come.

    A stream that breaks is asked for anew from where it ended. A container that has ended is waited for: its next
    run goes on in the same buffer.
    """
    pause = RETRY_PAUSES[0]
    path = cluster.path("api/v1", "pods", query.pod, "log")
    while True:
        began = time.monotonic()
        try:
            await _stream_log(cluster, path, _log_params(query, buffer.last_timestamp), buffer)
        except ClusterError as error:
            if isinstance(error, KubeApiError) and error.status in ((400, 403, 404) if query.previous else (403, 404)):
                buffer.set_state("ended", error.title, error.hint)
                return
            buffer.set_state("lost", error.title, error.hint)
        else:
            if query.previous:
                buffer.set_state("ended")
                return
            buffer.set_state("lost", "the log has ended: the container is over, or the connection")
        # A container that has ended gives its log and closes: it is not asked for in a hurry.
        if time.monotonic() - began > RETRY_PAUSES[1]:
            pause = RETRY_PAUSES[0]
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
        pause = min(pause * 2, RETRY_PAUSES[1])


def _log_params(query: LogQuery, since: str) -> dict[str, str | int]:
    params: dict[str, str | int] = {"timestamps": "true"}
    if query.container:
        params["container"] = query.container
    if query.previous:
        return params | {"previous": "true", "tailLines": query.tail}
    # Only whole seconds count; lines of that second that we have already are dropped by their stamps.
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

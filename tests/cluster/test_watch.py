"""Watches: where they begin, what they say, how they end."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from tests.cluster.rest import Json, KubernetesClient, RequestRefused
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.watch import Changed, Connected, list_and_watch


def config_map(name: str, **labels: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"a": "1"}}


def is_own(obj: Json) -> bool:
    """Not the map of certificates that the real plane may put into every namespace."""
    return not obj["metadata"]["name"].startswith("kube-")


def test_a_watch_resumes_after_the_version_it_is_given(api: KubernetesClient) -> None:
    first = api.create("configmaps", config_map("first"))
    api.create("configmaps", config_map("second"))
    api.patch("configmaps/first", {"data": {"a": "2"}})
    api.delete("configmaps/second")
    seen = []
    with api.watch("configmaps", resourceVersion=first["metadata"]["resourceVersion"]) as events:
        for event in events:
            if is_own(event["object"]):
                seen.append((event["type"], event["object"]["metadata"]["name"]))
            if len(seen) == 3:
                break
    assert seen == [("ADDED", "second"), ("MODIFIED", "first"), ("DELETED", "second")]


def test_versions_of_events_grow_and_a_deletion_has_one_of_its_own(api: KubernetesClient) -> None:
    start = api.create("configmaps", config_map("one"))["metadata"]["resourceVersion"]
    api.patch("configmaps/one", {"data": {"a": "2"}})
    api.delete("configmaps/one")
    versions = [int(start)]
    with api.watch("configmaps", resourceVersion=start, fieldSelector="metadata.name=one") as events:
        for event in events:
            versions.append(int(event["object"]["metadata"]["resourceVersion"]))
            if event["type"] == "DELETED":
                break
    assert len(versions) == 3
    assert versions == sorted(set(versions))


def test_a_watch_without_a_version_begins_with_what_exists(api: KubernetesClient) -> None:
    api.create("configmaps", config_map("one", tier="a"))
    with api.watch("configmaps", labelSelector="tier=a") as events:
        event = next(events)
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "one")
    assert event["object"]["kind"] == "ConfigMap"


def test_leaving_a_selection_reads_as_deleted_and_entering_as_added(api: KubernetesClient) -> None:
    start = api.create("configmaps", config_map("one", tier="a"))["metadata"]["resourceVersion"]
    api.patch("configmaps/one", {"metadata": {"labels": {"tier": "b"}}})
    back = api.patch("configmaps/one", {"metadata": {"labels": {"tier": "a"}}})
    seen = []
    with api.watch("configmaps", resourceVersion=start, labelSelector="tier in (a)") as events:
        for event in events:
            labels = event["object"]["metadata"]["labels"]
            seen.append((event["type"], labels["tier"]))
            if event["object"]["metadata"]["resourceVersion"] == back["metadata"]["resourceVersion"]:
                break
    assert seen == [("DELETED", "a"), ("ADDED", "a")]


def test_a_quiet_watch_ends_with_a_bookmark_of_what_it_has_passed(api: KubernetesClient) -> None:
    start = api.create("configmaps", config_map("one", tier="a"))["metadata"]["resourceVersion"]
    other = api.create("configmaps", config_map("two", tier="b"))["metadata"]["resourceVersion"]
    query = {"resourceVersion": start, "labelSelector": "tier=a", "allowWatchBookmarks": "true"}
    with api.watch("configmaps", 4, **query) as events:
        seen = list(events)
    # A server may send bookmarks at any time; the last one is about everything until the end.
    assert {event["type"] for event in seen} == {"BOOKMARK"}
    assert {event["object"]["kind"] for event in seen} == {"ConfigMap"}
    assert int(seen[-1]["object"]["metadata"]["resourceVersion"]) >= int(other)


def test_initial_events_end_with_a_marked_bookmark(api: KubernetesClient) -> None:
    api.create("configmaps", config_map("one", tier="a"))
    seen = []
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    with api.watch("configmaps", labelSelector="tier=a", **query) as events:
        for event in events:
            seen.append(event["type"])
            if event["type"] == "BOOKMARK" and (marks := event["object"]["metadata"].get("annotations")):
                break
    assert [kind for kind in seen if kind != "BOOKMARK"] == ["ADDED"]
    assert marks == {"k8s.io/initial-events-end": "true"}


def test_a_version_that_is_no_longer_kept_is_refused_with_410(api: KubernetesClient) -> None:
    try:
        with api.watch("pods", 5, resourceVersion="1") as events:
            event = next(events)
    except RequestRefused as refused:  # either way is allowed; clients must know both
        status = refused.status
    else:
        assert event["type"] == "ERROR"
        status = event["object"]
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 410, "Expired")


def test_a_malformed_version_is_refused(api: KubernetesClient) -> None:
    with pytest.raises(RequestRefused) as refused, api.watch("pods", 5, resourceVersion="new"):
        pass
    assert refused.value.code >= 400


def test_a_watch_across_namespaces_sees_the_case(api: KubernetesClient) -> None:
    version = api.get("/api/v1/configmaps")["metadata"]["resourceVersion"]
    api.create("configmaps", config_map("one"))
    with api.watch("/api/v1/configmaps", resourceVersion=version) as events:
        event = next(event for event in events if event["object"]["metadata"]["name"] == "one")
    assert event["object"]["metadata"]["namespace"] == api.namespace


def test_an_idle_watch_of_ours_is_ended_by_the_server_and_goes_on_over_its_connection(
    api: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    connect = asyncio.BaseEventLoop.create_connection

    async def counted(loop: asyncio.BaseEventLoop, *arguments: Any, **options: Any) -> Any:
        opened.append(arguments)
        return await connect(loop, *arguments, **options)

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", counted)
    path = f"/api/v1/namespaces/{api.namespace}/configmaps"

    async def followed() -> str:
        async with (
            Cluster.connect(str(api.plane.kubeconfig), None, api.namespace) as cluster,
            aclosing(
                list_and_watch(cluster.http, path, lambda raw: str(raw["metadata"]["name"]), silence_timeout=3.0)
            ) as events,
        ):
            lives = 0
            async for event in events:
                lives += event == Connected()
                if lives == 3:
                    await asyncio.to_thread(api.create, "configmaps", config_map("late"))
                    lives += 1
                if isinstance(event, Changed) and event.item == "late":
                    return event.kind
        raise AssertionError("a watch has no end")

    assert asyncio.run(asyncio.wait_for(followed(), 60)) == "ADDED"
    assert len(opened) == 1

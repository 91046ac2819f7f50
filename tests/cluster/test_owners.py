"""What becomes of what is owned when its owner is deleted, or takes it in."""

import pytest

from tests.cluster.conftest import manifest
from tests.cluster.rest import Json, KubernetesClient, RequestRefused
from tests.cluster.test_rollout import complete


def empty(items: list[Json]) -> bool:
    return not items


def test_by_default_the_owned_go_after_their_owner(api: KubernetesClient) -> None:
    api.create("deployments", manifest(replicas=2))
    api.until("deployments", complete)
    answer = api.delete("deployments/web", {"propagationPolicy": "Background"})
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    api.until("replicasets", empty)
    api.until("pods", empty)


def test_in_the_foreground_the_owner_waits_for_its_owned(api: KubernetesClient) -> None:
    api.create("deployments", manifest(replicas=1, pod={"test/stop-after": "1.5"}))
    api.until("deployments", complete)
    answer = api.delete("deployments/web", {"propagationPolicy": "Foreground"})
    assert answer["metadata"]["finalizers"] == ["foregroundDeletion"]
    api.until("pods", lambda pods: "deletionTimestamp" in pods[0]["metadata"])
    assert "deletionTimestamp" in api.get("deployments/web")["metadata"]
    api.until("deployments", empty)
    assert api.items("pods") == []
    assert api.items("replicasets") == []


def test_orphans_stay_and_are_taken_in_by_the_next_owner(api: KubernetesClient) -> None:
    api.create("deployments", manifest(replicas=1))
    api.until("deployments", complete)
    (old,) = api.items("pods")
    api.delete("deployments/web", {"propagationPolicy": "Orphan"})
    orphans = api.until("replicasets", lambda items: not items[0]["metadata"].get("ownerReferences"))
    api.until("deployments", empty)
    new = api.create("deployments", manifest(replicas=1))
    adopted = api.until("replicasets", lambda items: bool(items[0]["metadata"].get("ownerReferences")))
    assert len(adopted) == 1
    assert adopted[0]["metadata"]["uid"] == orphans[0]["metadata"]["uid"]
    assert adopted[0]["metadata"]["ownerReferences"][0]["uid"] == new["metadata"]["uid"]
    api.until("deployments", complete)
    assert [pod["metadata"]["uid"] for pod in api.items("pods")] == [old["metadata"]["uid"]]


def test_a_finalizer_holds_an_object_until_it_is_removed(api: KubernetesClient) -> None:
    metadata = {"name": "held", "finalizers": ["test/hold"]}
    api.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    api.delete("configmaps/held")
    assert "deletionTimestamp" in api.get("configmaps/held")["metadata"]
    api.patch("configmaps/held", {"metadata": {"finalizers": None}})
    with pytest.raises(RequestRefused) as refused:
        api.get("configmaps/held")
    assert refused.value.code == 404


def test_a_pod_that_loses_its_label_is_let_go_and_replaced(api: KubernetesClient) -> None:
    api.create("deployments", manifest(replicas=1))
    api.until("deployments", complete)
    name = api.items("pods")[0]["metadata"]["name"]
    api.patch(f"pods/{name}", {"metadata": {"labels": {"app": "aside"}}})
    api.until("pods", lambda pods: len(pods) == 2)
    freed = api.until("pods", lambda pods: not pods[0]["metadata"].get("ownerReferences"), labelSelector="app=aside")
    assert freed[0]["metadata"]["name"] == name

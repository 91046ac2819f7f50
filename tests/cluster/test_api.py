"""Single objects: versions, patches, deletion, selection, refusals."""

from typing import Any

import pytest

from tests.cluster.conftest import manifest, service
from tests.cluster.rest import JSON_PATCH, STRATEGIC, Json, KubernetesClient, RequestRefused


def paused(**more: Any) -> Json:
    """A Deployment that no controller does anything with."""
    return manifest(paused=True, **more)


def bare_pod(name: str = "lone", **labels: str) -> Json:
    container = {"name": "main", "image": "shop/web:1"}
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}


def refused(call: Any, *arguments: Any, **keywords: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        call(*arguments, **keywords)
    return caught.value


def test_a_stale_update_is_a_conflict(api: KubernetesClient) -> None:
    old = api.create("services", service())
    api.patch("services/web", {"metadata": {"labels": {"a": "b"}}})
    error = refused(api.put, "services/web", old)
    assert (error.code, error.reason) == (409, "Conflict")
    assert "the object has been modified" in error.status["message"]


def test_a_patch_with_a_stale_version_is_a_conflict(api: KubernetesClient) -> None:
    old = api.create("services", service())["metadata"]["resourceVersion"]
    api.patch("services/web", {"metadata": {"labels": {"a": "b"}}})
    error = refused(api.patch, "services/web", {"metadata": {"resourceVersion": old, "labels": {"a": "c"}}})
    assert error.code == 409


def test_a_write_that_changes_nothing_makes_no_version(api: KubernetesClient) -> None:
    old = api.create("services", service())
    same = api.patch("services/web", {"metadata": {"labels": None}})
    assert same["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"]


def test_the_generation_counts_changes_of_the_spec(api: KubernetesClient) -> None:
    api.create("deployments", paused(replicas=0))
    first = api.until("deployments", lambda items: items[0].get("status", {}).get("observedGeneration") == 1)[0]
    assert first["metadata"]["generation"] == 1
    labelled = api.patch("deployments/web", {"metadata": {"labels": {"x": "y"}}})
    assert labelled["metadata"]["generation"] == 1
    scaled = api.patch("deployments/web", {"spec": {"minReadySeconds": 3}})
    assert scaled["metadata"]["generation"] == 2
    status = api.patch("deployments/web/status", {"spec": {"minReadySeconds": 9}, "status": {"collisionCount": 4}})
    assert status["metadata"]["generation"] == 2
    assert status["spec"]["minReadySeconds"] == 3
    assert status["status"]["collisionCount"] == 4


def test_a_strategic_patch_merges_containers_and_variables_by_name(api: KubernetesClient) -> None:
    body = paused(replicas=0)
    body["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "A", "value": "1"}, {"name": "B", "value": "2"}
    ]  # fmt: skip
    api.create("deployments", body)
    env = [{"name": "C", "value": "3"}, {"name": "A", "$patch": "delete"}]
    containers = [
        {"name": "log", "image": "log:1"},
        {"name": "web", "env": env, "ports": [{"containerPort": 9090}]},
    ]
    spec = {"containers": containers, "$setElementOrder/containers": [{"name": "log"}, {"name": "web"}]}
    patch = {"spec": {"template": {"spec": spec}}}
    after = api.patch("deployments/web", patch, STRATEGIC)["spec"]["template"]["spec"]["containers"]
    assert [c["name"] for c in after] == ["log", "web"]
    assert after[1]["image"] == "shop/web:1"
    assert after[1]["env"] == [{"name": "B", "value": "2"}, {"name": "C", "value": "3"}] or after[1]["env"] == [
        {"name": "C", "value": "3"}, {"name": "B", "value": "2"}
    ]  # fmt: skip
    assert sorted(p["containerPort"] for p in after[1]["ports"]) == [8080, 9090]
    assert after[0]["imagePullPolicy"] == "IfNotPresent", "what is added gets its defaults"


def test_a_strategic_patch_changes_the_strategy_by_its_keys(api: KubernetesClient) -> None:
    api.create("deployments", paused(replicas=0))
    strategy = {"$retainKeys": ["type"], "type": "Recreate"}
    after = api.patch("deployments/web", {"spec": {"strategy": strategy}}, STRATEGIC)
    assert after["spec"]["strategy"] == {"type": "Recreate"}


def test_a_json_patch_applies_or_is_refused_whole(api: KubernetesClient) -> None:
    api.create("services", service())
    operations = [
        {"op": "test", "path": "/spec/selector/app", "value": "web"},
        {"op": "add", "path": "/metadata/labels", "value": {"a~b": "1"}},
        {"op": "replace", "path": "/spec/ports/0/targetPort", "value": 9000},
        {"op": "remove", "path": "/metadata/labels/a~0b"},
    ]
    error = refused(api.patch, "services/web", [{"op": "test", "path": "/spec/selector/app", "value": "x"}], JSON_PATCH)
    assert error.code == 422
    after = api.patch("services/web", operations, JSON_PATCH)
    assert after["spec"]["ports"][0]["targetPort"] == 9000
    assert not after["metadata"].get("labels")


def test_the_scale_subresource_reads_and_writes_replicas(api: KubernetesClient) -> None:
    api.create("deployments", paused(replicas=2))
    scale = api.get("deployments/web/scale")
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    assert (scale["spec"]["replicas"], scale["status"]["selector"]) == (2, "app=web")
    assert api.patch("deployments/web/scale", {"spec": {"replicas": 5}})["spec"]["replicas"] == 5
    assert api.get("deployments/web")["spec"]["replicas"] == 5
    assert refused(api.put, "deployments/web/scale", scale).code == 409
    assert refused(api.patch, "deployments/web/scale", {"spec": {"replicas": -1}}).code == 422


def test_preconditions_guard_a_deletion(api: KubernetesClient) -> None:
    made = api.create("services", service())
    error = refused(api.delete, "services/web", {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}})
    assert (error.code, error.reason) == (409, "Conflict")
    api.patch("services/web", {"metadata": {"labels": {"a": "b"}}})
    version = made["metadata"]["resourceVersion"]
    assert refused(api.delete, "services/web", {"preconditions": {"resourceVersion": version}}).code == 409
    api.delete("services/web", {"preconditions": {"uid": made["metadata"]["uid"]}})
    assert refused(api.get, "services/web").code == 404


def test_a_pod_is_given_its_grace_and_may_be_hurried(api: KubernetesClient) -> None:
    body = bare_pod()
    body["metadata"]["annotations"] = {"test/stop-after": "30"}
    api.create("pods", body)
    api.until("pods", lambda items: items[0].get("status", {}).get("phase") == "Running")
    leaving = api.delete("pods/lone")
    assert leaving["metadata"]["deletionGracePeriodSeconds"] == 30
    hurried = api.delete("pods/lone", {"gracePeriodSeconds": 5})
    assert hurried["metadata"]["deletionGracePeriodSeconds"] == 5
    assert hurried["metadata"]["deletionTimestamp"] < leaving["metadata"]["deletionTimestamp"]
    again = api.delete("pods/lone", {"gracePeriodSeconds": 20})
    assert again["metadata"]["deletionTimestamp"] == hurried["metadata"]["deletionTimestamp"], "never longer"
    api.delete("pods/lone", {"gracePeriodSeconds": 0})
    assert refused(api.get, "pods/lone").code == 404


def test_a_bound_pod_cannot_be_bound_again(api: KubernetesClient) -> None:
    api.create("pods", bare_pod())
    api.until("pods", lambda items: bool(items[0]["spec"].get("nodeName")))
    target = {"apiVersion": "v1", "kind": "Node", "name": "elsewhere"}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "lone"}, "target": target}
    assert refused(api.create, "pods/lone/binding", binding).code == 409


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("tier=a", {"one"}),
        ("tier==a", {"one"}),
        ("tier!=a", {"two", "three"}),
        ("tier in (a, b)", {"one", "two"}),
        ("tier notin (a)", {"two", "three"}),
        ("tier", {"one", "two"}),
        ("!tier", {"three"}),
        ("tier in (a,b),side=left", {"two"}),
    ],
)
def test_lists_select_by_label(api: KubernetesClient, selector: str, expected: set[str]) -> None:
    labels: list[tuple[str, dict[str, str]]] = [("one", {"tier": "a"}), ("two", {"tier": "b", "side": "left"})]
    for name, given in [*labels, ("three", {"x": "y"})]:
        metadata = {"name": name, "labels": {**given, "ours": "yes"}}
        api.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    found = api.items("configmaps", labelSelector=f"ours=yes,{selector}")
    assert {item["metadata"]["name"] for item in found} == expected


def test_lists_select_by_field(api: KubernetesClient) -> None:
    api.create("pods", bare_pod())
    api.until("pods", lambda items: items[0].get("status", {}).get("phase") == "Running")
    node = api.get("pods/lone")["spec"]["nodeName"]
    for selector in ("metadata.name=lone", f"spec.nodeName={node}", "status.phase=Running", "metadata.name!=other"):
        assert [item["metadata"]["name"] for item in api.items("pods", fieldSelector=selector)] == ["lone"]
    assert api.items("pods", fieldSelector="status.phase!=Running") == []
    assert refused(api.items, "pods", fieldSelector="spec.colour=red").code == 400


def test_deleting_a_collection_takes_the_selected(api: KubernetesClient) -> None:
    for name in ("one", "two"):
        metadata = {"name": name, "labels": {"pick": name}}
        api.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    api.send("DELETE", "configmaps?labelSelector=pick%3Done")
    assert [i["metadata"]["name"] for i in api.items("configmaps", labelSelector="pick")] == ["two"]


def test_a_dry_run_changes_nothing(api: KubernetesClient) -> None:
    made = api.create("services?dryRun=All", service())
    assert made["spec"]["type"] == "ClusterIP"
    assert refused(api.get, "services/web").code == 404


def test_a_namespace_takes_its_contents_along(api: KubernetesClient) -> None:
    other = KubernetesClient(api.plane, api.namespace + "-b")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other.namespace}}
    api.create("namespaces", namespace)
    other.create("services", service())
    api.delete(f"namespaces/{other.namespace}")
    api.until("namespaces", lambda items: not items, fieldSelector=f"metadata.name={other.namespace}")
    assert other.items("services") == []
    assert refused(other.create, "services", service()).code == 404


def test_events_are_the_same_in_both_groups(api: KubernetesClient) -> None:
    regarding = {"kind": "Service", "apiVersion": "v1", "namespace": api.namespace, "name": "web"}
    old = {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "old"}, "involvedObject": regarding,
        "reason": "Seen", "message": "by core", "type": "Normal", "source": {"component": "test"}, "count": 2,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:01Z",
    }  # fmt: skip
    new = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "new"}, "regarding": regarding,
        "reason": "Seen", "note": "by events", "type": "Warning", "action": "Look",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "test/seer", "reportingInstance": "one",
    }  # fmt: skip
    path = f"/apis/events.k8s.io/v1/namespaces/{api.namespace}/events"
    api.create("events", old)
    api.create(path, new)
    shown = {item["metadata"]["name"]: item for item in api.items(path)}
    assert (shown["old"]["note"], shown["old"]["regarding"]["name"]) == ("by core", "web")
    assert (shown["old"]["deprecatedCount"], shown["old"]["deprecatedSource"]) == (2, {"component": "test"})
    core = api.get("events/new")
    assert (core["message"], core["reportingComponent"], core["action"]) == ("by events", "test/seer", "Look")
    assert core["apiVersion"] == "v1"
    with api.watch(path, fieldSelector="metadata.name=old") as events:
        event = next(events)["object"]
    assert (event["apiVersion"], event["note"]) == ("events.k8s.io/v1", "by core")

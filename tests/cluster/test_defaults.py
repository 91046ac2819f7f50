"""Defaults and patches on rich objects: what both planes make of the same body is the same."""

import copy
import difflib
import json
from typing import Any

import pytest

from tests.cluster.conftest import manifest, service
from tests.cluster.rest import JSON_PATCH, MERGE_PATCH, STRATEGIC, Json, KubernetesClient
from tests.cluster.test_shape import without_account

POD = "spec.template.spec"


def rich_pod_spec() -> Json:
    """Probes, hooks, sources of variables, volumes, resources: what the sample and common charts use."""
    probe = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1}
    main = {
        "name": "main",
        "image": "registry.example:5000/shop/web",
        "command": ["serve"],
        "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 8081, "protocol": "UDP"}],
        "readinessProbe": probe,
        "livenessProbe": {"tcpSocket": {"port": 8080}, "failureThreshold": 6},
        "startupProbe": {"exec": {"command": ["true"]}, "failureThreshold": 60},
        "lifecycle": {
            "preStop": {"sleep": {"seconds": 2}},
            "postStart": {"httpGet": {"port": 8080}},
        },
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "EMPTY", "value": ""},
        ],
        "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}},
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
    }
    side = {"name": "side", "image": "side@sha256:" + "a" * 64, "livenessProbe": {"grpc": {"port": 9000}}}
    volumes = [
        {"name": "scratch"},
        {"name": "settings", "configMap": {"name": "c"}},
        {"name": "keys", "secret": {"secretName": "s"}},
        {"name": "host", "hostPath": {"path": "/srv"}},
        {"name": "pod", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    init = {"name": "init", "image": "init:latest"}
    return {
        "containers": [main, side],
        "initContainers": [init],
        "volumes": volumes,
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "gone", "operator": "Exists"}],
        "securityContext": {"runAsNonRoot": True},
        "terminationGracePeriodSeconds": 5,
        "readinessGates": [{"conditionType": "test/gate"}],
    }


def comparable(obj: Json) -> Json:
    """Spec and labels of an object, without what is drawn by chance."""
    obj = without_account(obj) if obj["kind"] == "Pod" else copy.deepcopy(obj)
    for field in ("clusterIP", "clusterIPs"):
        if obj["spec"].get(field) not in (None, "None", ["None"]):
            obj["spec"][field] = "drawn"
    for port in obj["spec"].get("ports", ()):
        port.update({"nodePort": "drawn"} if "nodePort" in port else {})
    kept = {k: v for k, v in obj["metadata"].items() if k in ("labels", "annotations", "generation", "finalizers")}
    return {**{k: v for k, v in obj.items() if k not in ("metadata", "status")}, "metadata": kept}


def assert_same(made: list[Json]) -> None:
    ours, theirs = (json.dumps(comparable(obj), indent=1, sort_keys=True).splitlines() for obj in made)
    difference = "\n".join(difflib.unified_diff(theirs, ours, "real", "embedded", lineterm=""))
    assert not difference, difference


def test_a_rich_deployment(both_planes: tuple[KubernetesClient, KubernetesClient]) -> None:
    body = manifest(paused=True, replicas=0)
    body["spec"]["template"]["spec"] = rich_pod_spec()
    assert_same([client.create("deployments", body) for client in both_planes])


def test_a_rich_pod(both_planes: tuple[KubernetesClient, KubernetesClient]) -> None:
    made = []
    for client in both_planes:
        metadata = {"name": "rich", "labels": {"a": "b"}}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": rich_pod_spec()}
        made.append(client.create("pods", body))
    assert_same(made)
    assert made[0]["status"]["qosClass"] == made[1]["status"]["qosClass"] == "Burstable"


SERVICES: dict[str, Json] = {
    "headless": {"clusterIP": "None"},
    "node port": {"type": "NodePort"},
    "load balancer": {"type": "LoadBalancer"},
    "external name": {"type": "ExternalName", "externalName": "example.org"},
    "several ports": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 53, "protocol": "UDP"}]},
    "named target": {"ports": [{"port": 80, "targetPort": "http"}]},
    "affinity": {"sessionAffinity": "ClientIP"},
    "no selector": {"selector": None},
}


@pytest.mark.parametrize("case", SERVICES)
def test_services(both_planes: tuple[KubernetesClient, KubernetesClient], case: str) -> None:
    body = service()
    body["spec"].update(SERVICES[case])
    assert_same([client.create("services", body) for client in both_planes])


DEPLOYMENTS: dict[str, Json] = {
    "bare": {},
    "recreate": {"strategy": {"type": "Recreate"}},
    "one bound": {"strategy": {"rollingUpdate": {"maxSurge": 2}}},
    "no deadline": {"progressDeadlineSeconds": 2147483647},
    "no history": {"revisionHistoryLimit": 0},
    "zero": {"replicas": 0},
    "expressions": {
        "selector": {
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "x"]}],
        }
    },
}


@pytest.mark.parametrize("case", DEPLOYMENTS)
def test_deployments(both_planes: tuple[KubernetesClient, KubernetesClient], case: str) -> None:
    body = manifest(paused=True)
    body["spec"].update(DEPLOYMENTS[case])
    assert_same([client.create("deployments", body) for client in both_planes])


def _containers(*items: Any, **more: Any) -> Json:
    return {"spec": {"template": {"spec": {"containers": list(items), **more}}}}


STRATEGIC_PATCHES: dict[str, Json] = {
    "image": _containers({"name": "main", "image": "x:2"}),
    "variable changed": _containers({"name": "main", "env": [{"name": "EMPTY", "value": "1"}]}),
    "variable added": _containers({"name": "main", "env": [{"name": "NEW", "value": "1"}]}),
    "variable with another source": _containers(
        {"name": "main", "env": [{"name": "KEY", "value": "plain", "valueFrom": None}]}
    ),
    "container added": _containers({"name": "third", "image": "t:1"}),
    "container removed": _containers({"name": "side", "$patch": "delete"}),
    "containers replaced": _containers({"name": "only", "image": "o:1"}, {"$patch": "replace"}),
    "probe removed": _containers({"name": "main", "readinessProbe": None}),
    "probe of another kind": _containers(
        {"name": "main", "livenessProbe": {"tcpSocket": None, "httpGet": {"port": 1}, "$retainKeys": ["httpGet"]}}
    ),
    "port changed": _containers({"name": "main", "ports": [{"containerPort": 8080, "name": "web"}]}),
    "command replaced": _containers({"name": "main", "command": ["other", "one"]}),
    "tolerations replaced": {"spec": {"template": {"spec": {"tolerations": [{"operator": "Exists"}]}}}},
    "volume retained keys": {
        "spec": {
            "template": {
                "spec": {"volumes": [{"name": "settings", "$retainKeys": ["name", "emptyDir"], "emptyDir": {}}]}
            }
        }
    },
    "volume removed": {"spec": {"template": {"spec": {"volumes": [{"name": "host", "$patch": "delete"}]}}}},
    "finalizer added": {"metadata": {"finalizers": ["test/one"]}},
    "label removed": {"metadata": {"labels": {"app": None, "new": "1"}}},
    "selector of nodes replaced": {
        "spec": {"template": {"spec": {"nodeSelector": {"$patch": "replace", "zone": "a"}}}}
    },
    "order": _containers(
        {"name": "side"},
        {"name": "main"},
        **{"$setElementOrder/containers": [{"name": "side"}, {"name": "main"}]},
    ),
    "order of an added one": _containers(
        {"name": "third", "image": "t:1"},
        **{"$setElementOrder/containers": [{"name": "third"}, {"name": "main"}, {"name": "side"}]},
    ),
    "limits": _containers({"name": "main", "resources": {"limits": {"cpu": "200m"}}}),
    "nothing": {},
}


def patched(client: KubernetesClient, patch: Any, kind: str) -> Json:
    body = manifest(paused=True, replicas=0)
    body["spec"]["template"]["spec"] = rich_pod_spec()
    client.create("deployments", body)
    result = client.patch("deployments/web", patch, kind)
    if result["metadata"].get("finalizers"):
        client.patch("deployments/web", {"metadata": {"finalizers": None}})
    return result


def assert_patched_alike(both: tuple[KubernetesClient, KubernetesClient], patch: Any, kind: str) -> None:
    made = []
    for client in both:
        result = patched(client, patch, kind)
        # The controller may write its revision before or after: neither is the patch's doing.
        result["metadata"].pop("annotations", None)
        result["metadata"].pop("generation")
        made.append(result)
    assert_same(made)


@pytest.mark.parametrize("case", STRATEGIC_PATCHES)
def test_strategic_patches(both_planes: tuple[KubernetesClient, KubernetesClient], case: str) -> None:
    assert_patched_alike(both_planes, STRATEGIC_PATCHES[case], STRATEGIC)


MERGES: dict[str, Json] = {
    "list replaced": {"spec": {"template": {"spec": {"volumes": None, "containers": [{"name": "a", "image": "b"}]}}}},
    "default comes back": {"spec": {"strategy": None, "progressDeadlineSeconds": None}},
    "unknown field": {"spec": {"colour": "red"}},
}


@pytest.mark.parametrize("case", MERGES)
def test_merge_patches(both_planes: tuple[KubernetesClient, KubernetesClient], case: str) -> None:
    patch = copy.deepcopy(MERGES[case])
    if case == "list replaced":
        patch["spec"]["template"]["spec"]["initContainers"] = None
    assert_patched_alike(both_planes, patch, MERGE_PATCH)


def test_a_json_patch(both_planes: tuple[KubernetesClient, KubernetesClient]) -> None:
    operations = [
        {"op": "test", "path": "/spec/replicas", "value": 0},
        {"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "Z", "value": "1"}},
        {"op": "remove", "path": "/spec/template/spec/containers/1"},
        {"op": "copy", "from": "/metadata/labels/app", "path": "/metadata/labels/copy"},
    ]
    assert_patched_alike(both_planes, operations, JSON_PATCH)

"""The embedded cluster's objects have the fields, and where they are fixed the values, of the real one's."""

import json
import re
from typing import Any

import pytest

from tests.cluster.conftest import manifest, service
from tests.cluster.rest import Json, KubernetesClient, is_complete

# What is different by nature: identities, times, addresses, and how many writes it took.
VOLATILE = {
    "uid", "resourceVersion", "creationTimestamp", "lastTransitionTime", "lastUpdateTime", "startTime", "startedAt",
    "firstTimestamp", "lastTimestamp", "endpoints.kubernetes.io/last-change-trigger-time",
    "clusterIP", "clusterIPs", "podIP", "ip", "addresses",
}  # fmt: skip


def fields(value: Any, path: str = "") -> dict[str, Any]:
    """Dotted paths to leaves. List items are merged under []."""
    if isinstance(value, dict) and value:
        found: dict[str, Any] = {}
        for key, item in value.items():
            found |= fields(item, f"{path}.{key}" if path else key)
        return found
    if isinstance(value, list) and value:
        found = {}
        for index, item in enumerate(value):
            label = item.get("type", item.get("name", index)) if isinstance(item, dict) else index
            found |= fields(item, f"{path}[{label}]")
        return found
    return {path: value}


def without_account(pod: Json) -> Json:
    """The real plane mounts an account's token. The embedded one issues none, so it mounts none."""
    pod = json.loads(json.dumps(pod))
    spec = pod["spec"]
    containers = [*spec["containers"], *spec.get("initContainers", ())]
    for holder, field in ((spec, "volumes"), *((container, "volumeMounts") for container in containers)):
        holder[field] = [item for item in holder.get(field, ()) if not item["name"].startswith("kube-api-access-")]
        if not holder[field]:
            del holder[field]
    return pod


def normalize(obj: Json, names: dict[str, str]) -> dict[str, Any]:
    """An object's fields by path, names drawn by chance replaced, volatile values blank."""
    obj = without_account(obj) if obj["kind"] == "Pod" else obj
    obj = {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "managedFields"}}
    if obj["kind"] == "EndpointSlice":
        obj["metadata"].pop("generation")  # how many steps were seen depends on who was faster
    text = json.dumps(obj)
    for name, pattern in names.items():
        text = text.replace(name, pattern)
    text = re.sub(r"POD-[a-z0-9]{5}", "POD", text)
    text = re.sub(r"(\w+)\.[0-9a-f]{16}", r"\1.TIME", text)
    found = fields(json.loads(text))
    return {path: None if _field(path) in VOLATILE else value for path, value in found.items()}


def _field(path: str) -> str:
    for name in VOLATILE:
        if path.endswith(name):
            return name
    return re.sub(r"\[\w+\]$", "", path).split(".")[-1]


def snapshot_rollout(client: KubernetesClient) -> dict[str, dict[str, Any]]:
    """The fields of every object around one rolled-out Deployment behind a Service, after one change of image."""
    client.create("services", service())
    client.create("deployments", manifest(replicas=1))
    client.until("deployments", lambda items: bool(items) and is_complete(items[0]))
    client.patch("deployments/web", {"spec": {"minReadySeconds": 1}})
    change = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "shop/web:2"}]
    client.patch("deployments/web", change, "application/json-patch+json")
    client.until("deployments", lambda items: is_complete(items[0]))
    sets = client.until(
        "replicasets", lambda items: sum(i.get("status", {}).get("readyReplicas", 0) for i in items) == 1
    )
    pods = client.until("pods", lambda items: len(items) == 1)
    slices = client.until(
        "endpointslices",
        lambda items: (
            len(items) == 1
            and [e["targetRef"]["name"] for e in items[0].get("endpoints") or ()] == [pods[0]["metadata"]["name"]]
            and items[0]["endpoints"][0]["conditions"]["ready"]
        ),
    )
    old, new = sorted(sets, key=lambda item: int(item["metadata"]["annotations"]["deployment.kubernetes.io/revision"]))
    names = [item["metadata"]["name"] for item in (new, old, pods[0], slices[0])]
    paths = {
        "Deployment": "deployments/web",
        "new ReplicaSet": f"replicasets/{names[0]}",
        "old ReplicaSet": f"replicasets/{names[1]}",
        "Pod": f"pods/{names[2]}",
        "Service": "services/web",
        "EndpointSlice": f"endpointslices/{names[3]}",
    }
    events = client.items("events")
    for what, words in (("Event", "Scaled down"), ("Pod event", f"Created pod: {names[2]}")):
        name = next(item["metadata"]["name"] for item in events if item["message"].startswith(words))
        paths[what] = f"events/{name}"
    replaced = {
        names[2]: "NEW-POD", names[0]: "NEW", names[1]: "OLD", names[3]: "SLICE",
        names[0].removeprefix("web-"): "NEW-HASH", names[1].removeprefix("web-"): "OLD-HASH",
        client.namespace: "NAMESPACE",
    }  # fmt: skip
    # Read one by one: the items of a list carry no kind.
    return {what: normalize(client.get(path), replaced) for what, path in paths.items()}


def test_objects_have_the_shape_of_the_real_ones(both_planes: tuple[KubernetesClient, KubernetesClient]) -> None:
    ours, theirs = (snapshot_rollout(client) for client in both_planes)
    differences = []
    for what, expected in theirs.items():
        found = ours[what]
        for path in sorted(expected.keys() | found.keys()):
            if path not in found:
                differences.append(f"{what}: lacks {path} = {expected[path]!r}")
            elif path not in expected:
                differences.append(f"{what}: should not have {path} = {found[path]!r}")
            elif found[path] != expected[path]:
                differences.append(f"{what}: {path} is {found[path]!r}, should be {expected[path]!r}")
    assert not differences, "\n".join(differences)


@pytest.mark.parametrize("kind", ["pods", "deployments", "services"])
def test_a_status_of_refusal_is_the_same(both_planes: tuple[KubernetesClient, KubernetesClient], kind: str) -> None:
    statuses = []
    for client in both_planes:
        try:
            client.get(f"{kind}/absent")
        except Exception as error:
            statuses.append(getattr(error, "status", None))
    assert statuses[0] is not None
    assert statuses[0] == statuses[1]

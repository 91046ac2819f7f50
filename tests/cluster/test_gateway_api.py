"""HTTPRoute: built into the embedded cluster, defined by a CustomResourceDefinition on the real plane.

The definition has, of the Gateway API's own, what the embedded cluster claims: types, defaults, the weights' limits.
"""

from collections.abc import Iterator

import pytest

from tests.cluster.conftest import Kubectl
from tests.cluster.planes import ControlPlane
from tests.cluster.rest import STRATEGIC, Json, KubernetesClient
from tests.cluster.test_api import refused

GROUP = "gateway.networking.k8s.io"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
BEFORE_ALL = [{"path": {"type": "PathPrefix", "value": "/"}}]


def _text(default: str | None = None) -> Json:
    return {"type": "string"} | ({} if default is None else {"default": default})


def _list(properties: Json) -> Json:
    return {"type": "array", "items": {"type": "object", "properties": properties}}


def definition() -> Json:
    whole = {"type": "integer", "format": "int32"}
    backend = {
        "group": _text(""), "kind": _text("Service"), "name": _text(), "port": whole,
        "weight": whole | {"default": 1, "minimum": 0, "maximum": 1_000_000},
    }  # fmt: skip
    path = {"type": "object", "properties": {"type": _text(), "value": _text()}}
    rules = _list({"matches": _list({"path": path}) | {"default": BEFORE_ALL}, "backendRefs": _list(backend)})
    parents = _list({"group": _text(GROUP), "kind": _text("Gateway"), "name": _text()})
    spec = {"hostnames": {"type": "array", "items": _text()}, "parentRefs": parents, "rules": rules}
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "properties": {"spec": {"type": "object", "properties": spec}, "status": anything},
            }
        },
        "additionalPrinterColumns": [
            {"name": "Hostnames", "type": "string", "jsonPath": ".spec.hostnames"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
    }  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"httproutes.{GROUP}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "HTTPRoute",
                "plural": "httproutes",
                "singular": "httproute",
                "listKind": "HTTPRouteList",
            },
            "versions": [version],
        },
    }


@pytest.fixture(scope="module", autouse=True)
def _define_gateway_api(plane: ControlPlane) -> Iterator[None]:
    """A cluster that has the Gateway API keeps its own."""
    client, name = KubernetesClient(plane, "default"), f"httproutes.{GROUP}"
    own = plane.real and not any(each["metadata"]["name"] == name for each in client.items(DEFINITIONS))
    if own:
        client.create(DEFINITIONS, definition())
        client.until(DEFINITIONS, lambda items: any(map(_established, items)), fieldSelector=f"metadata.name={name}")
    yield
    if own:
        client.delete(f"{DEFINITIONS}/{name}")


def _established(item: Json) -> bool:
    conditions = item.get("status", {}).get("conditions") or ()  # null while it is new
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def route() -> Json:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "web"},
        "spec": {"parentRefs": [{"name": "public"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]},
    }


def shares(**weights: int) -> Json:
    refs = [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]
    return {"spec": {"rules": [{"backendRefs": refs}]}}


def test_a_route_is_kept_with_its_defaults_and_its_own_rules(api: KubernetesClient) -> None:
    made = api.create("httproutes", route())
    assert made["metadata"]["generation"] == 1
    assert "status" not in made
    assert made["spec"]["parentRefs"] == [{"group": GROUP, "kind": "Gateway", "name": "public"}]
    rule = made["spec"]["rules"][0]
    ref = {"group": "", "kind": "Service", "name": "web", "port": 80, "weight": 1}
    assert (rule["matches"], rule["backendRefs"]) == (BEFORE_ALL, [ref])

    error = refused(api.patch, "httproutes/web", shares(web=-1))
    assert (error.code, error.reason) == (422, "Invalid")
    path = "spec.rules[0].backendRefs[0].weight"
    assert f"{path}: Invalid value: -1: {path} in body should be greater than or equal to 0" in error.status["message"]
    error = refused(api.patch, "httproutes/web", shares(web=1), STRATEGIC)
    assert (error.code, error.reason) == (415, "UnsupportedMediaType")
    assert refused(api.get, "httproutes/other").code == 404


def test_weights_and_status_are_written_apart_and_a_watch_sees_both(api: KubernetesClient) -> None:
    start = api.create("httproutes", route())["metadata"]["resourceVersion"]
    seen = {"parents": [{"parentRef": {"name": "public"}, "controllerName": "example.com/case", "conditions": []}]}
    split = api.patch("httproutes/web", {**shares(web=80, canary=20), "status": seen})
    assert "status" not in split
    text = api.patch("httproutes/web/status", {"status": seen, **shares(web=1)})
    assert (text["status"], text["spec"]) == (seen, split["spec"])
    stale = {"metadata": {"resourceVersion": start}, **shares(web=100)}
    assert refused(api.patch, "httproutes/web", stale).code == 409
    again = api.patch("httproutes/web", {"metadata": {"annotations": {"a": "b"}}})
    api.delete("httproutes/web")
    assert [each["metadata"]["generation"] for each in (split, text, again)] == [2, 2, 2]
    events = []
    with api.watch("httproutes", resourceVersion=start) as stream:
        for event in stream:
            events.append((event["type"], event["object"]["spec"]["rules"][0]["backendRefs"][-1]["weight"]))
            if event["type"] == "DELETED":
                break
    assert events == [("MODIFIED", 20), ("MODIFIED", 20), ("MODIFIED", 20), ("DELETED", 20)]


def test_kubectl_knows_routes(api: KubernetesClient, kubectl: Kubectl) -> None:
    api.create("httproutes", route())
    lines = [line.split() for line in kubectl.run("get", "httproutes").splitlines()]
    assert lines[0] == ["NAME", "HOSTNAMES", "AGE"]
    assert lines[1][0] == "web"
    listed = kubectl.run("api-resources", "--api-group", GROUP, "-o", "name").split()
    assert f"httproutes.{GROUP}" in listed
    kubectl.run("patch", "httproute", "web", "--type=merge", "-p", '{"spec":{"hostnames":["shop.example"]}}')
    assert '["shop.example"]' in kubectl.run("get", "httproute", "web")
    assert "deleted" in kubectl.run("delete", "httproute", "web")

"""What a client gets wrong is refused by both planes in the same words."""

import copy
import http.client
import json
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.cluster.conftest import manifest, service
from tests.cluster.rest import Json, KubernetesClient, RequestRefused

Change = Callable[[Json], object]


def _set(path: str, value: object) -> Change:
    """A change of a body: a dotted path, where a number is an index and None removes."""

    def change(body: Json) -> None:
        *above, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        holder: object = body
        for part in above:
            holder = holder[part]  # type: ignore[index]
        if value is None:
            del holder[last]  # type: ignore[attr-defined]
        else:
            holder[last] = value  # type: ignore[index]

    return change


POD = "spec.template.spec"
DEPLOYMENTS = {
    "no selector": _set("spec.selector", None),
    "empty selector": _set("spec.selector", {}),
    "selector that does not match": _set("spec.selector.matchLabels.app", "other"),
    "no containers": _set(f"{POD}.containers", []),
    "no image": _set(f"{POD}.containers.0.image", None),
    "no container name": _set(f"{POD}.containers.0.name", None),
    "bad container name": _set(f"{POD}.containers.0.name", "Web_1"),
    "bad name": _set("metadata.name", "Web"),
    "bad label": _set("metadata.labels.app", "a b"),
    "negative replicas": _set("spec.replicas", -1),
    "restart policy": _set(f"{POD}.restartPolicy", "Never"),
    "unknown restart policy": _set(f"{POD}.restartPolicy", "Sometimes"),
    "no way to move": _set("spec.strategy", {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
    "bad percentage": _set("spec.strategy", {"rollingUpdate": {"maxSurge": "a lot"}}),
    "unknown strategy": _set("spec.strategy", {"type": "Careful"}),
    "recreate with bounds": _set("spec.strategy", {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
    "deadline below readiness": lambda b: b["spec"].update(progressDeadlineSeconds=5, minReadySeconds=6),
    "port out of range": _set(f"{POD}.containers.0.ports.0.containerPort", 70000),
    "text for a number": _set("spec.replicas", "three"),
    "number for text": _set(f"{POD}.containers.0.image", 7),
    "list for an object": _set("spec.selector", []),
    "object for a list": _set(f"{POD}.containers", {"name": "web"}),
    "text for an object": _set("spec.template", "web"),
    "wrong kind": _set("kind", "ReplicaSet"),
    "wrong namespace": _set("metadata.namespace", "elsewhere"),
}
SERVICES = {
    "no ports": _set("spec.ports", None),
    "bad port": _set("spec.ports.0.port", 0),
    "bad name": _set("metadata.name", "1web"),
    "unknown type": _set("spec.type", "Magic"),
    "two ports without names": _set("spec.ports", [{"port": 80}, {"port": 81}]),
}


def refusal(client: KubernetesClient, call: Callable[[KubernetesClient], object]) -> Json:
    with pytest.raises(RequestRefused) as caught:
        call(client)
    status = caught.value.status
    return json.loads(json.dumps(status).replace(client.namespace, "NAMESPACE"))  # type: ignore[no-any-return]


def compare(both: tuple[KubernetesClient, KubernetesClient], call: Callable[[KubernetesClient], object]) -> None:
    ours, theirs = (refusal(client, call) for client in both)
    assert ours == theirs


@pytest.mark.parametrize("case", DEPLOYMENTS)
def test_deployments(both_planes: tuple[KubernetesClient, KubernetesClient], case: str) -> None:
    body = copy.deepcopy(manifest())
    DEPLOYMENTS[case](body)
    compare(both_planes, lambda client: client.create("deployments", body))


@pytest.mark.parametrize("case", SERVICES)
def test_services(both_planes: tuple[KubernetesClient, KubernetesClient], case: str) -> None:
    body = copy.deepcopy(service())
    SERVICES[case](body)
    compare(both_planes, lambda client: client.create("services", body))


UNKNOWN = {
    "one field": _set("spec.replica", 2),
    "deep": _set(f"{POD}.containers.0.imagePolicy", "Always"),
    "several": lambda b: (b.update(specs={}), b["metadata"].update(label={})),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_unknown_fields_are_refused_where_that_is_asked_for(
    both_planes: tuple[KubernetesClient, KubernetesClient], case: str
) -> None:
    body = copy.deepcopy(manifest(paused=True))
    UNKNOWN[case](body)
    compare(both_planes, lambda client: client.create("deployments?fieldValidation=Strict", body))
    for client in both_planes:
        made = client.create("deployments?fieldValidation=Ignore", body)
        assert made.keys() == {"apiVersion", "kind", "metadata", "spec", "status"}
        assert "replica" not in made["spec"]


def _create_twice(client: KubernetesClient) -> None:
    client.create("services", service())
    client.create("services", service())


def _change_selector(client: KubernetesClient) -> None:
    client.create("deployments", manifest(paused=True))
    body = manifest(paused=True)
    body["spec"]["selector"]["matchLabels"] = {"app": "web", "more": "1"}
    body["spec"]["template"]["metadata"]["labels"] = {"app": "web", "more": "1"}
    client.put("deployments/web", body)


OPERATIONS: dict[str, Change] = {
    "absent": lambda client: client.get("deployments/web"),
    "absent, to patch": lambda client: client.patch("pods/web", {"metadata": {"labels": {"a": "b"}}}),
    "absent, to delete": lambda client: client.delete("services/web"),
    "created twice": _create_twice,
    "selector is immutable": _change_selector,
    "namespace absent": lambda client: client.create("/api/v1/namespaces/nowhere/services", service()),
    "another name": lambda client: client.put("services/other", service()),
    "unknown resource": lambda client: client.get("/apis/apps/v1/namespaces/default/toasters"),
}


@pytest.mark.parametrize("case", OPERATIONS)
def test_operations(both_planes: tuple[KubernetesClient, KubernetesClient], case: str) -> None:
    compare(both_planes, OPERATIONS[case])  # type: ignore[arg-type]


def test_without_a_token_nothing_is_served(api: KubernetesClient) -> None:
    address = urlsplit(api.plane.url)
    assert address.hostname == "127.0.0.1"
    for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}):
        connection = http.client.HTTPSConnection(
            address.hostname, address.port, context=api.plane.ssl_context(), timeout=20
        )
        try:
            connection.request("GET", "/api/v1/namespaces/default/pods", headers=headers)
            response = connection.getresponse()
            body = json.loads(response.read())
        finally:
            connection.close()
        assert response.status == body["code"]
        if headers["Authorization"].startswith("Bearer"):
            assert (body["code"], body["reason"]) == (401, "Unauthorized")
        else:  # the real plane takes whoever brings no token for system:anonymous, who may do nothing
            assert body["code"] in (401, 403)

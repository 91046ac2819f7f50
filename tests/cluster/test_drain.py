"""A Service's endpoints while pods come and go: what the drain display and the load rely on."""

from tests.cluster.conftest import manifest, service
from tests.cluster.rest import Json, KubernetesClient
from tests.cluster.test_rollout import complete


def endpoints(items: list[Json]) -> list[Json]:
    return [endpoint for item in items for endpoint in item.get("endpoints") or ()]


def conditions(endpoint: Json) -> tuple[bool, bool, bool]:
    found = endpoint["conditions"]
    return found["ready"], found["serving"], found["terminating"]


def test_a_stopping_pod_serves_but_takes_nothing_new(api: KubernetesClient) -> None:
    api.create("services", service())
    body = manifest(replicas=1, pod={"test/stop-after": "2"})
    body["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 8
    api.create("deployments", body)
    api.until("deployments", complete)
    slices = api.until("endpointslices", lambda i: [conditions(e) for e in endpoints(i)] == [(True, True, False)])
    (before,) = endpoints(slices)
    name = before["targetRef"]["name"]
    pod = api.get(f"pods/{name}")
    assert before["addresses"] == [pod["status"]["podIP"]]
    assert before["nodeName"] == pod["spec"]["nodeName"]
    assert slices[0]["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    assert slices[0]["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    api.delete(f"pods/{name}")

    def leaving(items: list[Json]) -> list[tuple[bool, bool, bool]]:
        return [conditions(e) for e in endpoints(items) if e["targetRef"]["name"] == name]

    api.until("endpointslices", lambda items: leaving(items) == [(False, True, True)])
    api.until("endpointslices", lambda items: leaving(items) == [] and len(endpoints(items)) == 1)


def test_a_pod_that_is_not_ready_is_listed_as_such(api: KubernetesClient) -> None:
    api.create("services", service())
    api.create("deployments", manifest(replicas=1, pod={"test/ready-after": "never"}))
    api.until("endpointslices", lambda i: [conditions(e) for e in endpoints(i)] == [(False, False, False)])


def test_a_service_without_pods_has_an_empty_slice(api: KubernetesClient) -> None:
    api.create("services", service())
    (found,) = api.until("endpointslices", lambda items: len(items) == 1)
    assert not found.get("endpoints")
    assert found["metadata"]["generateName"] == "web-"
    assert found["metadata"]["ownerReferences"][0]["kind"] == "Service"


def test_the_slices_go_with_the_service(api: KubernetesClient) -> None:
    api.create("services", service())
    api.until("endpointslices", lambda items: len(items) == 1)
    api.delete("services/web")
    api.until("endpointslices", lambda items: not items)


def test_a_named_target_port_is_that_of_the_pod(api: KubernetesClient) -> None:
    body = service()
    body["spec"]["ports"] = [{"name": "http", "port": 80, "targetPort": "web"}]
    api.create("services", body)
    deployment = manifest(replicas=1)
    ports = [{"name": "web", "containerPort": 8443}]
    deployment["spec"]["template"]["spec"]["containers"][0]["ports"] = ports
    api.create("deployments", deployment)
    slices = api.until("endpointslices", lambda items: bool(endpoints(items)))
    found = next(item for item in slices if item.get("endpoints"))
    assert found["ports"] == [{"name": "http", "port": 8443, "protocol": "TCP"}]

"""A Service switched between two Deployments, made and written by the product's own backend."""

import asyncio

from tests.cluster.conftest import manifest, service
from tests.cluster.rest import Json, KubernetesClient
from tests.cluster.test_rollout import complete
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.services import (
    DEPLOYMENTS,
    SERVICES,
    acquire_service,
    create_owned,
    get_raw_object,
    get_service,
    release_service,
    remove_owned,
    set_service_selector,
)
from zdd_tui.model.workload.pod import EndpointFacts
from zdd_tui.model.workload.second_deployment import build_preview_service, build_second_deployment, choose_switch_label


async def endpoints(cluster: Cluster, of: str, count: int, own: str) -> list[EndpointFacts]:
    """Once the Service has so many ready endpoints and all are pods of one Deployment, by their names."""
    async with asyncio.timeout(30):
        while True:
            ready = [found for found in await cluster.list_endpoint_slices(of) if found.ready]
            if len(ready) == count and all(found.pod_name.rsplit("-", 2)[0] == own for found in ready):
                return ready
            await asyncio.sleep(0.1)


async def switched(api: KubernetesClient) -> tuple[Json, Json]:
    """Walks the way of a blue/green release; returns the Service before and after it."""
    async with Cluster.connect(str(api.plane.kubeconfig), None, api.namespace) as cluster:
        before = api.get("services/web")
        view = await get_service(cluster, "web")
        switch = choose_switch_label(await get_raw_object(cluster, DEPLOYMENTS, "web"), view, "green")
        await acquire_service(cluster, "web", owner="case", epoch=3)
        first = await get_raw_object(cluster, DEPLOYMENTS, "web")
        second = build_second_deployment(
            first, switch, name="web-green", container="web", image="shop/web:2", owner="case", epoch=3
        )
        preview = build_preview_service(before, switch, name="web-preview", owner="case", epoch=3)
        for _ in range(2):  # the second time finds what the first has made
            await create_owned(cluster, DEPLOYMENTS, second, owner="case")
            await create_owned(cluster, SERVICES, preview, owner="case")
        await endpoints(cluster, "web-preview", 2, "web-green")
        await endpoints(cluster, "web", 2, "web")
        await set_service_selector(cluster, "web", {switch.label: switch.second_value}, owner="case", epoch=3)
        await endpoints(cluster, "web", 2, "web-green")
        await set_service_selector(cluster, "web", {switch.label: switch.first_value}, owner="case", epoch=4)
        await endpoints(cluster, "web", 2, "web")
        async with asyncio.timeout(30):
            for kind, name in ((DEPLOYMENTS, "web-green"), (SERVICES, "web-preview")):
                while not await remove_owned(cluster, kind, name, owner="case", epoch=4):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        await release_service(cluster, "web", owner="case", epoch=4)
        return before, api.get("services/web")


def test_a_service_is_switched_and_nothing_is_left(api: KubernetesClient) -> None:
    api.create("deployments", manifest(replicas=2))
    api.create("services", service())
    api.until("deployments", complete)
    before, after = asyncio.run(switched(api))
    assert after["spec"] == before["spec"]
    assert after["metadata"].get("annotations", {}) == before["metadata"].get("annotations", {})
    assert [item["metadata"]["name"] for item in api.items("deployments")] == ["web"]
    assert len(api.items("replicasets")) == 1
    # Foreground deletion: when the second Deployment is gone, its pods are gone.
    assert len(api.items("pods")) == 2

"""Check tries the rollouts as dry runs against the embedded API server, and names what harms them (C3, C4, E5, E8)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubelet import api_server
from tests.support.mutating_proxy import Rewrite, mutating_webhook
from zdd_tui.backends.kubernetes.cluster import STRATEGIC_MERGE_PATCH, Cluster
from zdd_tui.checks.rollouts import require_live_namespace, try_rollouts
from zdd_tui.demo import manifests
from zdd_tui.demo.plan import plan_yaml, strategy_plan_yaml
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.file import load_plan

DEPLOYMENTS, SERVICES = ("apis/apps/v1", "deployments"), ("api/v1", "services")
DIGEST = "sha256:" + "0123456789abcdef" * 4


def load(text: str, kubeconfig: str = "k") -> BasePlan:
    environment = {"DATABASE_URL": "postgresql://x@y/z", "REDIS_URL": "redis://x", "KUBECONFIG": kubeconfig}
    return load_plan(text, source="plan.yaml", environment=environment).plan


CHANGE = plan_yaml("column", "application")
ROLLING = strategy_plan_yaml("rolling", name="r", soak="1s")


class Shop:
    """The sample's Deployment and Service in an embedded cluster."""

    def __init__(self, cluster: Cluster, kubeconfig: str) -> None:
        self.cluster, self.kubeconfig = cluster, kubeconfig

    async def patch(self, body: dict[str, Any], kind: tuple[str, str] = DEPLOYMENTS) -> None:
        path = self.cluster.path(*kind, manifests.NAME)
        await self.cluster.http.request_json("PATCH", path, body=body, content_type=STRATEGIC_MERGE_PATCH)

    async def read(self) -> Any:
        return await self.cluster.http.request_json("GET", self.cluster.path(*DEPLOYMENTS, manifests.NAME))

    async def delete_service(self) -> None:
        await self.cluster.http.request_json("DELETE", self.cluster.path(*SERVICES, manifests.NAME))

    async def errors(self, text: str = CHANGE) -> str:
        with pytest.raises(ClusterError) as caught:
            await try_rollouts(self.cluster, load(text))
        return str(caught.value)

    async def lines(self, text: str = CHANGE) -> str:
        return "\n".join(await try_rollouts(self.cluster, load(text)))


@asynccontextmanager
async def open_shop(folder: Path) -> AsyncIterator[Shop]:
    async with api_server(folder) as kubeconfig, Cluster.connect(kubeconfig, None, "default") as cluster:
        body = manifests.deployment_manifest(dsn="x", redis_url="y", replicas=2)
        await cluster.http.request_json("POST", cluster.path(*DEPLOYMENTS), body=body)
        await cluster.http.request_json("POST", cluster.path(*SERVICES), body=manifests.service_manifest())
        yield Shop(cluster, kubeconfig)


@asynccontextmanager
async def behind_webhook(shop: Shop, folder: Path, rewrite: Rewrite, **options: str) -> AsyncIterator[Cluster]:
    async with (
        mutating_webhook(shop.kubeconfig, folder, rewrite, **options) as kubeconfig,
        Cluster.connect(kubeconfig, None, "default") as cluster,
    ):
        yield cluster


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as made:
        yield made


async def test_every_image_is_tried_and_nothing_changes(shop: Shop) -> None:
    before = await shop.read()
    assert "the server would accept shop/users-api:2 and then shop/users-api:3" in await shop.lines()
    assert "the server would accept shop/users-api:2" in await shop.lines(ROLLING)
    after = await shop.read()
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], before["metadata"]["generation"])
    pods = await shop.cluster.http.request_json("GET", shop.cluster.path("api/v1", "pods"))
    assert len(pods["items"]) <= 2


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda image: f"{image}@{DIGEST}",
        lambda image: f"mirror.example/{image}",
        lambda image: f"shop/users-api@{image[-1]}",
    ],
)
async def test_c3_e5_a_webhook_that_changes_the_image_is_shown(shop: Shop, tmp_path: Path, rewrite: Any) -> None:
    async with behind_webhook(shop, tmp_path, rewrite) as cluster:
        text = "\n".join(await try_rollouts(cluster, load(CHANGE)))
    for version in (2, 3):
        image = f"shop/users-api:{version}"
        assert f"an admission webhook changes {image} to {rewrite(image)}: steps and gates then expect" in text


async def test_c3_a_webhook_that_takes_the_new_image_back_is_refused(shop: Shop, tmp_path: Path) -> None:
    async with behind_webhook(shop, tmp_path, lambda _: "shop/users-api:1") as cluster:
        with pytest.raises(ClusterError) as caught:
            await try_rollouts(cluster, load(CHANGE))
    assert "an admission webhook changes shop/users-api:2 to shop/users-api:1, which runs already" in str(caught.value)


async def test_e5_a_webhook_that_changes_pods_is_shown(shop: Shop, tmp_path: Path) -> None:
    def rewrite(image: str) -> str:
        return f"mirror.example/{image}"

    async with behind_webhook(shop, tmp_path, rewrite, resource="pods") as cluster:
        text = "\n".join(await try_rollouts(cluster, load(CHANGE)))
    assert "changes shop/users-api:2 to mirror.example/shop/users-api:2 in its pods, not in the Deployment" in text


async def test_c4_paused_recreate_and_no_surge_are_refused(shop: Shop) -> None:
    await shop.patch({"spec": {"paused": True}})
    for text in (CHANGE, ROLLING):
        errors = await shop.errors(text)
        assert "the Deployment is paused" in errors
        assert "Fix: kubectl -n default rollout resume deployment/users-api" in errors
    await shop.patch({"spec": {"paused": False, "strategy": {"type": "Recreate", "rollingUpdate": None}}})
    errors = await shop.errors()
    assert "strategy Recreate stops every old pod before the first new one starts" in errors
    assert '"type":"RollingUpdate"' in errors.partition("Fix: ")[2]
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    await shop.patch({"spec": {"strategy": rolling}})
    assert "maxUnavailable 1 removes 1 of 2 pods before their successors are ready" in await shop.errors()
    await shop.patch({"spec": {"strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}}})
    assert "a rollout serves with less capacity" in await shop.lines(), "no outage: a note"


async def test_c4_e8_other_containers_of_the_program_are_named(shop: Shop) -> None:
    second = {"name": "jobs", "image": "registry.example/shop/users-api:1"}
    init = {"name": "migrate", "image": "shop/users-api:2"}
    await shop.patch({"spec": {"template": {"spec": {"containers": [second], "initContainers": [init]}}}})
    errors = await shop.errors()
    assert "container jobs has registry.example/shop/users-api:1, an image of this program, and no step" in errors
    assert "init container migrate has shop/users-api:2" in errors
    assert "{what: container jobs keeps its image, reason: …}" in errors
    assert "container jobs has registry.example/shop/users-api:1" in await shop.lines(ROLLING)
    entries = "".join(
        f"  - what: {what} keeps its image\n    reason: it reads nothing\n"
        for what in ("container jobs", "init container migrate")
    )
    accepted = CHANGE.replace("\naccept:\n", f"\naccept:\n{entries}")
    assert accepted != CHANGE
    assert "init container migrate has" in await shop.lines(accepted)


async def test_e8_a_service_that_does_not_exist(shop: Shop) -> None:
    named = CHANGE.replace("  deployment: users-api\n", "  deployment: users-api\n  service: no-such\n")
    errors = await shop.errors(named)
    assert "there is no Service no-such" in errors
    assert "correct kubernetes.service" in errors
    await shop.patch({"spec": {"selector": {"app": "other"}}}, SERVICES)
    assert "selects app=other, which the pods of the Deployment do not have" in await shop.errors()
    await shop.delete_service()
    assert "there is no Service users-api: pods count as serving when they are ready" in await shop.lines()


async def test_a_terminating_namespace_is_named(shop: Shop) -> None:
    await require_live_namespace(shop.cluster)
    # A pod on a node without an agent stays, and so does the namespace.
    body = {"metadata": {"name": "held"}, "spec": {"containers": [{"name": "app", "image": "x"}]}}
    await shop.cluster.http.request_json("POST", shop.cluster.path("api/v1", "pods"), body=body)
    binding = {"target": {"kind": "Node", "name": "gone"}}
    await shop.cluster.http.request_json("POST", shop.cluster.path("api/v1", "pods", "held", "binding"), body=binding)
    await shop.cluster.http.request_json("DELETE", "/api/v1/namespaces/default")
    with pytest.raises(ClusterError, match="the namespace is being deleted") as caught:
        await require_live_namespace(shop.cluster)
    assert "kubernetes.namespace" in caught.value.hint


async def test_owners_are_named_with_a_way(shop: Shop) -> None:
    marks = {"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/users-api"}}
    await shop.patch({"metadata": marks})
    text = await shop.lines()
    assert "Argo CD owns the Deployment (argocd.argoproj.io/tracking-id: shop:apps/Deployment:shop/users-api)" in text
    assert "Fix: switch off auto-sync" in text

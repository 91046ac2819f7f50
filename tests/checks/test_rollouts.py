"""Check tries the rollouts as dry runs against the API server, and names what harms them (C3, C4, E5, E8)."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubelet import api_server
from tests.support.mutating_proxy import Rewrite, mutating_webhook
from zdd_tui.backends.kubernetes.cluster import MERGE_PATCH, STRATEGIC_MERGE_PATCH, Cluster
from zdd_tui.checks.rollouts import require_live_namespace, try_rollouts
from zdd_tui.demo import manifests
from zdd_tui.demo.plan import plan_yaml, strategy_plan_yaml
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.file import load_plan

DEPLOYMENTS, SERVICES = ("apis/apps/v1", "deployments"), ("api/v1", "services")
DIGEST = "sha256:" + "0123456789abcdef" * 4


def load(text: str) -> BasePlan:
    environment = {"DATABASE_URL": "postgresql://x@y/z", "REDIS_URL": "redis://x", "KUBECONFIG": "k"}
    return load_plan(text, source="plan.yaml", environment=environment).plan


CHANGE = plan_yaml("column", "application")
ROLLING = strategy_plan_yaml("rolling", name="r", soak="1s")


Webhook = Callable[..., AbstractAsyncContextManager[str]]
"""From how images are rewritten, and the resource of which, to the kubeconfig to use."""


class Shop:
    """The sample's Deployment and Service. `tests/cluster` has the same cases on a real control plane."""

    def __init__(self, cluster: Cluster, webhook: Webhook) -> None:
        self.cluster, self._webhook = cluster, webhook

    async def create(self) -> None:
        body = manifests.deployment_manifest(dsn="x", redis_url="y", replicas=2)
        for kind, manifest in ((DEPLOYMENTS, body), (SERVICES, manifests.service_manifest())):
            manifest["metadata"].pop("namespace", None)
            await self.cluster.http.request_json("POST", self.cluster.path(*kind), body=manifest)

    async def patch(self, body: dict[str, Any], kind: tuple[str, str] = DEPLOYMENTS) -> None:
        path = self.cluster.path(*kind, manifests.NAME)
        await self.cluster.http.request_json("PATCH", path, body=body, content_type=STRATEGIC_MERGE_PATCH)

    async def read(self) -> Any:
        return await self.cluster.http.request_json("GET", self.cluster.path(*DEPLOYMENTS, manifests.NAME))

    async def delete_service(self) -> None:
        await self.cluster.http.request_json("DELETE", self.cluster.path(*SERVICES, manifests.NAME))

    def load(self, text: str) -> BasePlan:
        plan = load(text)
        return plan.model_copy(
            update={"kubernetes": plan.kubernetes.model_copy(update={"namespace": self.cluster.namespace})}
        )

    async def errors(self, text: str = CHANGE, cluster: Cluster | None = None) -> str:
        with pytest.raises(ClusterError) as caught:
            await try_rollouts(cluster or self.cluster, self.load(text))
        return str(caught.value)

    async def lines(self, text: str = CHANGE, cluster: Cluster | None = None) -> str:
        return "\n".join(await try_rollouts(cluster or self.cluster, self.load(text)))

    @asynccontextmanager
    async def behind_webhook(self, rewrite: Rewrite, resource: str = "deployments") -> AsyncIterator[Cluster]:
        async with (
            self._webhook(rewrite, resource=resource) as kubeconfig,
            Cluster.connect(kubeconfig, None, self.cluster.namespace) as cluster,
        ):
            yield cluster


@asynccontextmanager
async def open_shop(folder: Path) -> AsyncIterator[Shop]:
    async with api_server(folder) as kubeconfig, Cluster.connect(kubeconfig, None, "default") as cluster:
        made = Shop(cluster, partial(mutating_webhook, kubeconfig, folder))
        await made.create()
        yield made


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
async def test_c3_e5_a_webhook_that_changes_the_image_is_shown(shop: Shop, rewrite: Any) -> None:
    async with shop.behind_webhook(rewrite) as cluster:
        text = await shop.lines(cluster=cluster)
    for version in (2, 3):
        image = f"shop/users-api:{version}"
        assert f"an admission webhook changes {image} to {rewrite(image)}: steps and gates then expect" in text


async def test_c3_a_webhook_that_takes_the_new_image_back_is_refused(shop: Shop) -> None:
    async with shop.behind_webhook(lambda _: "shop/users-api:1") as cluster:
        errors = await shop.errors(cluster=cluster)
    assert "an admission webhook changes shop/users-api:2 to shop/users-api:1, which runs already" in errors


async def test_e5_a_webhook_that_changes_pods_is_shown(shop: Shop) -> None:
    def rewrite(image: str) -> str:
        return f"mirror.example/{image}"

    async with shop.behind_webhook(rewrite, resource="pods") as cluster:
        text = await shop.lines(cluster=cluster)
    assert "changes shop/users-api:2 to mirror.example/shop/users-api:2 in its pods, not in the Deployment" in text


async def test_c4_paused_recreate_and_no_surge_are_refused(shop: Shop) -> None:
    await shop.patch({"spec": {"paused": True}})
    for text in (CHANGE, ROLLING):
        errors = await shop.errors(text)
        assert "the Deployment is paused" in errors
        assert f"Fix: kubectl -n {shop.cluster.namespace} rollout resume deployment/users-api" in errors
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
    held = shop.cluster.path("api/v1", "configmaps", "held")
    body = {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
    await shop.cluster.http.request_json("POST", shop.cluster.path("api/v1", "configmaps"), body=body)
    await shop.cluster.http.request_json("DELETE", f"/api/v1/namespaces/{shop.cluster.namespace}")
    with pytest.raises(ClusterError, match="the namespace is being deleted") as caught:
        await require_live_namespace(shop.cluster)
    assert "kubernetes.namespace" in caught.value.hint
    released = {"metadata": {"finalizers": None}}
    await shop.cluster.http.request_json("PATCH", held, body=released, content_type=MERGE_PATCH)


async def test_owners_are_named_with_a_way(shop: Shop) -> None:
    marks = {"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/users-api"}}
    await shop.patch({"metadata": marks})
    text = await shop.lines()
    assert "Argo CD owns the Deployment (argocd.argoproj.io/tracking-id: shop:apps/Deployment:shop/users-api)" in text
    assert "Fix: switch off auto-sync" in text

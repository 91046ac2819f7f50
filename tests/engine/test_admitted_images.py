"""What an admission webhook makes of the plan's image is the image that steps and gates expect (cases C3, E5)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubelet import api_server
from tests.support.mutating_proxy import mutating_webhook
from tests.support.schema_change import make_plan, open_leased_store
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.demo import manifests
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.observations import list_serving_pods, read_workload
from zdd_tui.engine.steps.dual_write import RolloutV2
from zdd_tui.engine.steps.rollout import recall_admitted_images, roll_out, save_current_image
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.release.records import StepRecord
from zdd_tui.model.release.state import StepStatus

IMAGES = {"deployment": manifests.NAME, "images": {"v2": "shop/users-api:2", "v3": "shop/users-api:3"}}


async def ignore(*_: Any) -> None: ...


def step_handle(name: str) -> StepHandle:
    record = StepRecord(name, StepStatus.STARTED)
    return StepHandle(record, write_note=ignore, write_detail=ignore, write_done=ignore)


async def create_deployment(cluster: Cluster, replicas: int = 0) -> None:
    body = manifests.deployment_manifest(dsn="x", redis_url="y", replicas=replicas)
    await cluster.http.request_json("POST", cluster.path("apis/apps/v1", "deployments"), body=body)


def context(plan: Plan, store: Any, cluster: Cluster, flags: FlagStore | None = None) -> Context:
    return Context(plan, store, flags, cluster, lambda: False, lambda _line: None)


async def serving_names(ctx: Context) -> list[str]:
    return [pod.name for pod in await list_serving_pods(ctx, await read_workload(ctx))]


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda image: f"{image}@sha256:{image[-1] * 64}",
        lambda image: f"mirror.example/{image}",
        lambda image: f"mirror.example/users@sha256:{image[-1] * 64}",
    ],
)
async def test_c3_a_release_with_a_webhook(
    pg_dsn: str, redis_url: str, tmp_path: Path, rewrite: Callable[[str], str]
) -> None:
    plan = make_plan(dsn=pg_dsn, kubernetes=IMAGES)
    async with (
        api_server(tmp_path) as kubeconfig,
        mutating_webhook(kubeconfig, tmp_path, rewrite) as proxied,
        Cluster.connect(proxied, None, "default") as cluster,
        await FlagStore.connect(redis_url) as flags,
        open_leased_store(pg_dsn, plan) as store,
    ):
        await create_deployment(cluster)
        ctx = context(plan, store, cluster, flags)
        second, third = step_handle("rollout-v2"), step_handle("rollout-v3")
        await RolloutV2().run(ctx, second)
        admitted = (await cluster.get_deployment(manifests.NAME)).images["app"]
        assert admitted == rewrite("shop/users-api:2")
        assert plan.version_of(admitted) == "v2"
        await RolloutV2().run(ctx, second)  # again, as after a crash
        await save_current_image(ctx, third)
        await roll_out(ctx, third, "shop/users-api:3", "V3")
        assert plan.version_of((await cluster.get_deployment(manifests.NAME)).images["app"]) == "v3"
        # The next agent knows it from the records of the steps.
        successor = make_plan(dsn=pg_dsn, kubernetes=IMAGES)
        recall_admitted_images(successor, [StepRecord("rollout-v2", StepStatus.DONE, detail=second.detail)])
        assert successor.version_of(admitted) == "v2"
        await roll_out(ctx, third, third.detail["image_before"], "back to V2")
        assert plan.version_of((await cluster.get_deployment(manifests.NAME)).images["app"]) == "v2"


async def test_c3_a_webhook_that_keeps_the_old_image(pg_dsn: str, redis_url: str, tmp_path: Path) -> None:
    plan = make_plan(dsn=pg_dsn, kubernetes=IMAGES)
    async with (
        api_server(tmp_path) as kubeconfig,
        mutating_webhook(kubeconfig, tmp_path, lambda _: "shop/users-api:1") as proxied,
        Cluster.connect(proxied, None, "default") as cluster,
        await FlagStore.connect(redis_url) as flags,
        open_leased_store(pg_dsn, plan) as store,
    ):
        await create_deployment(cluster)
        with pytest.raises(StepFailed, match="changes shop/users-api:2 back to shop/users-api:1"):
            await RolloutV2().run(context(plan, store, cluster, flags), step_handle("rollout-v2"))


async def test_e8_a_worker_without_a_service_is_judged_by_readiness(pg_dsn: str, tmp_path: Path) -> None:
    plan = make_plan(dsn=pg_dsn, kubernetes=IMAGES)
    named = make_plan(dsn=pg_dsn, kubernetes=IMAGES | {"service": "no-such"})
    async with (
        api_server(tmp_path) as kubeconfig,
        Cluster.connect(kubeconfig, None, "default") as cluster,
        open_leased_store(pg_dsn, plan) as store,
    ):
        await create_deployment(cluster)
        pods = cluster.path("api/v1", "pods")
        for number, conditions in enumerate(([{"type": "Ready", "status": "True"}], [])):
            body = {
                "metadata": {"name": f"pod-{number}", "labels": manifests.LABELS},
                "spec": {"containers": [{"name": "app", "image": "shop/users-api:2"}]},
            }
            await cluster.http.request_json("POST", pods, body=body)
            await cluster.http.request_json(
                "PATCH",
                cluster.path("api/v1", "pods", f"pod-{number}", "status"),
                body={"status": {"phase": "Running", "conditions": conditions}},
                content_type="application/merge-patch+json",
            )
        assert await serving_names(context(plan, store, cluster)) == ["pod-0"]
        assert await serving_names(context(named, store, cluster)) == [], "a Service that the plan names must exist"

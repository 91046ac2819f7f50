"""The Kubernetes backend against a living cluster: fenced writes, rollouts as the watch sees them, clear errors."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubelet import (
    NAME,
    ClusterClient,
    deployment,
    make_cluster,
    make_kubelet,
    service,
)
from zdd_tui.backends.kubernetes.cluster import STRATEGIC_MERGE_PATCH, Cluster
from zdd_tui.backends.kubernetes.deployment_watch import DeploymentWatch, read_workload_snapshot
from zdd_tui.model.errors import ClusterError, Refused, StaleEpoch
from zdd_tui.model.workload.pod import PodState
from zdd_tui.model.workload.rollout import WorkloadSnapshot


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ClusterClient]:
    """A cluster where no pod runs: enough for reads and writes."""
    async with make_cluster(tmp_path, kubelet=False) as made:
        yield made


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[ClusterClient]:
    async with make_cluster(tmp_path) as made:
        yield made


# Fenced writes


async def test_set_image_annotates_the_deployment(api: ClusterClient) -> None:
    await api.create("deployments", deployment(0))
    view = await api.cluster.set_image(NAME, "app", "shop/users:2", epoch=7, reason="zdd: V2")
    assert (view.images, view.epoch, view.change_cause) == ({"app": "shop/users:2"}, 7, "zdd: V2")
    stored = await api.cluster.get_deployment(NAME)
    assert (stored.images, stored.epoch, stored.change_cause) == (view.images, 7, "zdd: V2")


async def test_an_older_epoch_is_refused_and_changes_nothing(api: ClusterClient) -> None:
    await api.create("deployments", deployment(0))
    await api.cluster.fence(NAME, 8)
    for write in (
        api.cluster.set_image(NAME, "app", "shop/users:2", epoch=7, reason="late"),
        api.cluster.fence(NAME, 7),
        api.cluster.remove_annotations(NAME, epoch=7, change_cause=None),
    ):
        with pytest.raises(StaleEpoch, match="epoch 8"):
            await write
    view = await api.cluster.get_deployment(NAME)
    assert (view.images, view.epoch, view.change_cause) == ({"app": "shop/users:1"}, 8, None)


async def test_setting_the_image_is_idempotent(api: ClusterClient) -> None:
    await api.create("deployments", deployment(0))
    first = await api.cluster.set_image(NAME, "app", "shop/users:2", epoch=7, reason="V2")
    again = await api.cluster.set_image(NAME, "app", "shop/users:2", epoch=7, reason="V2 again")
    assert (again.generation, again.change_cause) == (first.generation, "V2")
    newer = await api.cluster.set_image(NAME, "app", "shop/users:2", epoch=9, reason="V2 by another agent")
    # The generation grows with annotations too (the API server's rule); the template is what must not change.
    assert (newer.images, newer.change_cause, newer.epoch) == (first.images, "V2", 9)


async def test_a_write_between_check_and_patch_is_detected(api: ClusterClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The later agent fences after our check and before our patch: the patch must not go through."""
    await api.create("deployments", deployment(0))
    original = api.cluster.http.request_json
    raced = False

    async def racing(method: str, path: str, **options: Any) -> Any:
        nonlocal raced
        if method == "PATCH" and not raced:
            raced = True
            await api.cluster.fence(NAME, 8)
        return await original(method, path, **options)

    monkeypatch.setattr(api.cluster.http, "request_json", racing)
    with pytest.raises(StaleEpoch):
        await api.cluster.set_image(NAME, "app", "shop/users:2", epoch=7, reason="late")
    assert raced
    assert (await api.cluster.get_deployment(NAME)).images == {"app": "shop/users:1"}


async def test_conflicts_with_other_writers_are_retried(api: ClusterClient) -> None:
    await api.create("deployments", deployment(0))
    path = api.cluster.path("apis/apps/v1", "deployments", NAME)

    async def bother(number: int) -> None:
        body = {"metadata": {"annotations": {"other": str(number)}}}
        await api.cluster.http.request_json("PATCH", path, body=body, content_type=STRATEGIC_MERGE_PATCH)

    results = await asyncio.gather(
        *(bother(number) for number in range(5)),
        api.cluster.set_image(NAME, "app", "shop/users:2", epoch=7, reason="V2"),
        *(bother(number) for number in range(5, 10)),
    )
    assert results[5] is not None
    assert (await api.cluster.get_deployment(NAME)).images == {"app": "shop/users:2"}


async def test_a_paused_deployment_is_refused(api: ClusterClient) -> None:
    body = deployment(0)
    body["spec"]["paused"] = True
    await api.create("deployments", body)
    with pytest.raises(Refused, match="paused Deployment cannot be rolled") as caught:
        await api.cluster.set_image(NAME, "app", "shop/users:2", epoch=7, reason="V2")
    assert caught.value.hint == f"kubectl -n {api.cluster.namespace} rollout resume deployment/{NAME}"
    assert (await api.cluster.get_deployment(NAME)).epoch == 0


async def test_another_container_or_another_deployment_is_refused(api: ClusterClient) -> None:
    await api.create("deployments", deployment(0))
    with pytest.raises(ClusterError, match="no container 'sidecar'") as caught:
        await api.cluster.set_image(NAME, "sidecar", "x:2", epoch=7, reason="V2")
    assert caught.value.hint == "it has: app"
    with pytest.raises(Refused, match="created again"):
        await api.cluster.set_image(NAME, "app", "x:2", epoch=7, reason="V2", uid="another")


@pytest.mark.parametrize("cause", [None, "kubectl apply"])
async def test_removing_the_annotations_restores_the_change_cause(api: ClusterClient, cause: str | None) -> None:
    body = deployment(0)
    if cause:
        body["metadata"]["annotations"] = {"kubernetes.io/change-cause": cause}
    await api.create("deployments", body)
    before = await api.cluster.get_deployment(NAME)
    await api.cluster.set_image(NAME, "app", "shop/users:2", epoch=7, reason="V2")
    for _ in range(2):  # twice, as an agent killed after the write would do
        after = await api.cluster.remove_annotations(NAME, epoch=7, change_cause=before.change_cause)
    assert (after.epoch, after.change_cause) == (0, cause)


async def test_an_administrator_has_all_permissions(api: ClusterClient) -> None:
    assert await api.cluster.missing_permissions() == []


# A rollout, as read and as watched


def unique(history: list[WorkloadSnapshot], name: str) -> list[PodState]:
    """The states that a pod went through."""
    states: list[PodState] = []
    for snapshot in history:
        for pod in (*snapshot.pods, *snapshot.gone):
            if pod.name == name and states[-1:] != [pod.state]:
                states.append(pod.state)
    return states


async def test_a_rollout_from_set_image_to_the_last_old_pod(here: ClusterClient) -> None:
    hook = {"preStop": {"sleep": {"seconds": 1}}}
    await here.create("services", service())
    await here.create("deployments", deployment(2, lifecycle=hook))
    history: list[WorkloadSnapshot] = []
    changed = asyncio.Event()

    def on_change(snapshot: WorkloadSnapshot) -> None:
        history.append(snapshot)
        changed.set()

    async def settled(version: str) -> WorkloadSnapshot:
        async with asyncio.timeout(40):
            while True:
                if history and (last := history[-1]).rollout is not None and last.rollout.done:
                    states = [(pod.version, pod.state) for pod in last.pods]
                    if states == [(version, PodState.SERVING)] * 2:
                        return last
                changed.clear()
                await changed.wait()

    watch = asyncio.create_task(DeploymentWatch(here.cluster, NAME, container="app").run(on_change))
    try:
        before = await settled("1")
        assert all(pod.node == here.node and pod.restarts == 0 and not pod.reason for pod in before.pods)
        history.clear()
        await here.cluster.set_image(NAME, "app", "shop/users:2", epoch=1, reason="V2")
        after = await settled("2")
        reading = await read_workload_snapshot(here.cluster, NAME, container="app")
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    for old in before.pods:
        states = unique(history, old.name)
        assert states[:2] == [PodState.SERVING, PodState.DRAINING], states
        assert states[-1] is PodState.GONE
    for new in after.pods:
        states = unique(history, new.name)
        assert states[0] is PodState.STARTING
        assert states[-1] is PodState.SERVING
    for snapshot in history:
        assert snapshot.rollout is not None
        serving = [pod for pod in snapshot.pods if pod.state in (PodState.SERVING, PodState.WARMING)]
        assert len(serving) >= 2, "maxUnavailable 0 was violated, or the watch misjudges"
        if snapshot.rollout.done and snapshot.deployment and snapshot.deployment.images["app"].endswith(":2"):
            assert all(pod.version == "2" for pod in snapshot.pods if not pod.is_terminal)
    assert any(pod.prestop_estimated for snapshot in history for pod in snapshot.pods)
    assert {event.reason for event in after.events} >= {"ScalingReplicaSet", "Killing", "Started"}
    assert reading.rollout is not None
    assert reading.rollout.done
    assert reading.pods == after.pods


async def test_a_rollout_that_cannot_start_has_a_reason(here: ClusterClient) -> None:
    body = deployment(1, command=["sh", "-c", "exit 3"])
    body["spec"]["progressDeadlineSeconds"] = 2
    await here.create("deployments", body)
    async with asyncio.timeout(40):
        while True:
            reading = await read_workload_snapshot(here.cluster, NAME)
            assert reading.rollout is not None
            if reading.rollout.failed and "CrashLoopBackOff" in reading.rollout.message:
                break
            await asyncio.sleep(0.1)
    assert not reading.rollout.done


async def test_a_watch_of_a_deployment_that_comes_later(here: ClusterClient) -> None:
    snapshots: asyncio.Queue[WorkloadSnapshot] = asyncio.Queue()
    watch = asyncio.create_task(DeploymentWatch(here.cluster, NAME).run(snapshots.put_nowait))
    try:
        async with asyncio.timeout(30):
            first = await snapshots.get()
            assert first.deployment is None
            assert first.error == f"no Deployment 'users' in namespace '{here.cluster.namespace}'"
            await here.create("deployments", deployment(1))
            while True:
                snapshot = await snapshots.get()
                # Without a Service readiness alone makes a pod serve.
                if [pod.state for pod in snapshot.pods] == [PodState.SERVING]:
                    break
            assert snapshot.error is None
            await here.cluster.http.request_json("DELETE", here.cluster.path("apis/apps/v1", "deployments", NAME))
            while (await snapshots.get()).deployment is not None:
                pass
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def test_no_task_and_no_connection_is_left(api: ClusterClient) -> None:
    await api.create("deployments", deployment(0))
    before = asyncio.all_tasks()
    for _ in range(3):
        async with Cluster.connect(api.kubeconfig, None, api.cluster.namespace) as cluster:
            watch = asyncio.create_task(DeploymentWatch(cluster, NAME).run(lambda _: None))
            async with aclosing(cluster.watch("api/v1", "pods", json.dumps)) as events:
                await anext(events)
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
    async with asyncio.timeout(10):  # the server's own tasks hear of the end a moment later
        while asyncio.all_tasks() != before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_kubelet_that_starts_late_serves_all(tmp_path: Path) -> None:
    async with make_cluster(tmp_path, kubelet=False) as here:
        await here.create("deployments", deployment(1))
        kubelet = asyncio.create_task(make_kubelet(here).run())
        try:
            async with asyncio.timeout(30):
                while True:
                    reading = await read_workload_snapshot(here.cluster, NAME)
                    if reading.rollout and reading.rollout.done:
                        break
                    await asyncio.sleep(0.1)
        finally:
            kubelet.cancel()
            await asyncio.gather(kubelet, return_exceptions=True)

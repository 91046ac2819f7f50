"""Rollouts and undos of a release against what others do to its Deployment, with the real engine's steps.

The cases C3, E1 to E7 and E9 from real productions.
"""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import manifest, service
from tests.cluster.rest import STRATEGIC, Json, KubernetesClient, condition
from tests.cluster.test_rollout import complete
from tests.cluster.webhook import Rewrite, mutating_webhook
from tests.support.store import AGENT, ANA
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.kubernetes.workload_cache import WorkloadReading
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.engine.conditions.sources import KubernetesSource
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.gates.workload import evaluate_serving_version
from zdd_tui.engine.observations import read_workload
from zdd_tui.engine.steps.rollout import roll_out, save_current_image
from zdd_tui.engine.steps.undo import roll_back
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.release.condition import Condition, ConditionKind
from zdd_tui.model.release.condition_findings import DeploymentFacts, find_wrong_image, find_wrong_pods
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import StepRecord
from zdd_tui.model.release.state import StepStatus

V1, V2 = "shop/web:1", "shop/web:2"
DIGEST = "shop/web@sha256:" + "5" * 64
ONE_BY_ONE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


class Step(StepHandle):
    """A step whose notes and detail are kept here."""

    def __init__(self, *, is_undo: bool = False) -> None:
        self.notes: list[str] = []

        async def add_note(text: str) -> None:
            self.notes.append(text)

        async def ignore(*_: Any) -> None: ...

        record = StepRecord("rollout-v2", StepStatus.STARTED)
        super().__init__(record, is_undo=is_undo, write_note=add_note, write_detail=ignore, write_done=ignore)


class Case:
    """A Deployment `web` of two pods with V1 and a Service, and a release of which the agent holds the lease."""

    def __init__(self, api: KubernetesClient, ctx: Context, store: Store) -> None:
        self.api, self.ctx, self._store = api, ctx, store

    async def call(self, action: Callable[..., Any], *arguments: Any) -> Any:
        """The test's own synchronous client, in a thread."""
        return await asyncio.to_thread(action, *arguments)

    async def audit(self) -> str:
        record = await self._store.read_release(self.ctx.store.release_id)
        return "\n".join(event.message for event in record.events)


@asynccontextmanager
async def open_case(api: KubernetesClient, dsn: str, kubeconfig: str = "") -> AsyncIterator[Case]:
    """
    Args:
        kubeconfig: of the release; empty for the plane's own.
    """
    kubeconfig = kubeconfig or str(api.plane.kubeconfig)
    names = {
        "deployment": "web",
        "container": "web",
        "namespace": api.namespace,
        "images": {"v2": V2, "v3": "shop/web:3"},
    }
    plan = Plan.model_validate(
        {
            "name": f"web-{api.namespace}",
            "environment": "staging",
            "database": {"dsn": dsn},
            "kubernetes": {**names, "kubeconfig": kubeconfig, "rollout_timeout": "60s"},
            "flags": {"url": "redis://localhost/0", "write": "new_write", "read": "new_read"},
            "change": {"table": "t", "expand": "ALTER TABLE t ADD b text", "up": {"b": "a"}, "down": {"a": "b"}},
        }
    )
    async with (
        await Store.open(dsn) as store,
        Cluster.connect(kubeconfig, None, api.namespace) as cluster,
    ):
        await store.migrate()
        release = await store.register_release(plan, text="", document={}, plan_hash="hash", actor=ANA)
        agent = await acquire_lease(dsn, release, AGENT)
        assert agent is not None
        async with agent:
            yield Case(api, Context(plan, agent, None, cluster, lambda: False, lambda _line: None), store)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A mutating webhook; see `tests.cluster.webhook`."""

    rewrite: Rewrite
    resource: str


def run_case(
    api: KubernetesClient,
    dsn: str,
    walk: Callable[[Case], Coroutine[Any, Any, None]],
    webhook: Webhook | None = None,
    **spec: Any,
) -> None:
    api.create("services", service())
    api.create("deployments", manifest(replicas=2, strategy=ONE_BY_ONE, **spec))
    api.until("deployments", complete)

    async def main() -> None:
        async with asyncio.timeout(90), AsyncExitStack() as stack:
            kubeconfig = ""
            if webhook is not None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                kubeconfig = await stack.enter_async_context(
                    mutating_webhook(api, folder, webhook.rewrite, resource=webhook.resource)
                )
            await walk(await stack.enter_async_context(open_case(api, dsn, kubeconfig)))

    asyncio.run(main())


def evict(api: KubernetesClient, pod: Json) -> None:
    status = {"status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."}}
    api.patch(f"pods/{pod['metadata']['name']}/status", status)


def test_e1_an_evicted_pod_that_stays_as_failed_does_not_count_as_an_older_one(
    api: KubernetesClient, pg_dsn: str
) -> None:
    async def walk(case: Case) -> None:
        await case.call(evict, api, api.items("pods")[0])
        await roll_out(case.ctx, Step(), V2, "a test")
        workload = await read_workload(case.ctx)
        assert [pod.image for pod in workload.pods if pod.is_terminal] == [V1]
        assert workload.rollout.done, workload.rollout
        assert workload.rollout.old_pods == ()

    run_case(api, pg_dsn, walk)


def test_e2_e3_a_quota_is_named_at_once_and_a_retry_without_it_succeeds(api: KubernetesClient, pg_dsn: str) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}}

    async def walk(case: Case) -> None:
        await case.call(api.create, "resourcequotas", quota)
        await case.call(api.until, "resourcequotas", lambda items: items[0].get("status", {}).get("used") is not None)
        with pytest.raises(StepFailed) as caught:
            await roll_out(case.ctx, Step(), V2, "a test")
        assert caught.value.title.startswith("FailedCreate: pods ")
        assert "exceeded quota: few" in caught.value.title
        assert "2 of 2" not in caught.value.title
        await case.call(
            api.until,
            "deployments",
            lambda items: condition(items[0], "Progressing")["reason"] == "ProgressDeadlineExceeded",
        )
        await case.call(api.delete, "resourcequotas/few")
        await roll_out(case.ctx, Step(), V2, "a test")
        assert (await read_workload(case.ctx)).rollout.done

    run_case(api, pg_dsn, walk, progressDeadlineSeconds=8)


@pytest.mark.parametrize(
    ("tag", "beginning"),
    [
        ("missing", "image shop/web:missing cannot be pulled: ImagePullBackOff: Back-off pulling image: not found"),
        ("unkeyed", "container web of pod web-"),
    ],
)
def test_e3_what_does_not_heal_stops_the_rollout_within_seconds_with_its_cause_first(
    api: KubernetesClient, pg_dsn: str, tag: str, beginning: str
) -> None:
    async def walk(case: Case) -> None:
        began = time.monotonic()
        with pytest.raises(StepFailed) as caught:
            await roll_out(case.ctx, Step(), f"shop/web:{tag}", "a test")
        assert time.monotonic() - began < 40, "the rollout timeout or the deadline ended it"
        assert caught.value.title.startswith(beginning)
        assert "0 of 2 new replicas available" in caught.value.title or "1 of 2 new" in caught.value.title
        undo = Step(is_undo=True)
        await roll_back(case.ctx, undo, V1, "back")
        assert (await read_workload(case.ctx)).rollout.done

    run_case(api, pg_dsn, walk)


def test_e3_a_crash_loop_fails_at_the_deadline_with_its_exit_code_first(api: KubernetesClient, pg_dsn: str) -> None:
    async def walk(case: Case) -> None:
        with pytest.raises(StepFailed) as caught:
            await roll_out(case.ctx, Step(), "shop/web:crashing", "a test")
        title = caught.value.title
        assert title.startswith("container web of pod web-")
        assert "crashes: CrashLoopBackOff, Error, exit code 3, 4 restarts" in title
        assert "no progress within the Deployment's deadline, 0 of 2 new replicas available" in title

    run_case(api, pg_dsn, walk, progressDeadlineSeconds=2)


def test_e4_a_deployment_that_is_gone_counts_as_rolled_back_once_its_pods_are_gone(
    api: KubernetesClient, pg_dsn: str
) -> None:
    async def walk(case: Case) -> None:
        await roll_out(case.ctx, Step(), V2, "a test")
        await case.call(api.delete, "deployments/web", {"propagationPolicy": "Orphan"})
        await case.call(api.until, "deployments", lambda items: not items)
        undo = Step(is_undo=True)
        undone = asyncio.create_task(roll_back(case.ctx, undo, V1, "back"))
        async with asyncio.timeout(20):
            while not any("2 of its pods still run" in note for note in undo.notes):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert not undone.done()
        for replica_set in await case.call(api.items, "replicasets"):
            await case.call(
                api.delete, f"replicasets/{replica_set['metadata']['name']}", {"propagationPolicy": "Background"}
            )
        await undone
        assert "Deployment web is gone: it counts as rolled back" in await case.audit()

    run_case(api, pg_dsn, walk)


def test_e4_a_terminating_namespace_is_named(api: KubernetesClient, pg_dsn: str) -> None:
    async def walk(case: Case) -> None:
        await roll_out(case.ctx, Step(), V2, "a test")
        await case.call(api.patch, "deployments/web", {"metadata": {"finalizers": ["example.com/hold"]}})
        await case.call(api.delete, f"namespaces/{api.namespace}")
        undo = Step(is_undo=True)
        undone = asyncio.create_task(roll_back(case.ctx, undo, V1, "back"))
        async with asyncio.timeout(20):
            while not any(f"namespace {api.namespace} is terminating" in note for note in undo.notes):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await case.call(api.patch, "deployments/web", {"metadata": {"finalizers": None}})
        await undone
        assert f"namespace {api.namespace}" in await case.audit()

    run_case(api, pg_dsn, walk)


REWRITES: dict[str, Rewrite] = {
    "digest": lambda image: f"{image.partition('@')[0].partition(':')[0]}@sha256:{image[-1] * 64}",
    "tag and digest": lambda image: image if "@" in image else f"{image}@sha256:{image[-1] * 64}",
    "registry": lambda image: image if image.startswith("mirror.") else f"mirror.example/{image}",
}


def facts_of(workload: WorkloadReading) -> DeploymentFacts:
    return DeploymentFacts(workload.view, workload.replica_sets, workload.pods)


async def wait_for_pass(case: Case, version: str) -> None:
    """Until the gate passes: the endpoints follow the pods."""
    async with asyncio.timeout(20):
        while True:
            record = await case.ctx.store.read()
            verdict, _ = await evaluate_serving_version(case.ctx, record, version, f"rollout-{version}")
            if verdict is Verdict.PASS:
                return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("name", REWRITES)
def test_c3_e5_a_webhook_that_changes_the_image_of_the_deployment(
    api: KubernetesClient, pg_dsn: str, name: str
) -> None:
    async def walk(case: Case) -> None:
        step, rewrite = Step(), REWRITES[name]
        admitted = rewrite(V2)
        await roll_out(case.ctx, step, V2, "a test")
        assert step.detail == {"images_admitted": [[V2, admitted]]}
        assert f"the API server made {admitted} of the image {V2}" in await case.audit()
        await wait_for_pass(case, "v2")
        facts = facts_of(await read_workload(case.ctx))
        allowed = Condition("image", ConditionKind.IMAGE, "web", (V2,))
        assert find_wrong_image(case.ctx.plan, allowed, facts) is None
        assert find_wrong_pods(case.ctx.plan, replace(allowed, kind=ConditionKind.PODS, allowed=("v2",)), facts) is None
        await roll_out(case.ctx, Step(), "shop/web:3", "a test")
        await wait_for_pass(case, "v3")

    run_case(api, pg_dsn, walk, Webhook(REWRITES[name], "deployments"))


@pytest.mark.parametrize("name", REWRITES)
def test_c3_e5_a_webhook_that_changes_the_image_of_pods(api: KubernetesClient, pg_dsn: str, name: str) -> None:
    if not api.plane.real:
        pytest.skip("the embedded cluster's controllers create pods past the proxy")

    async def walk(case: Case) -> None:
        await roll_out(case.ctx, Step(), V2, "a test")
        await wait_for_pass(case, "v2")
        workload = await read_workload(case.ctx)
        assert {pod.image for pod in workload.pods} == {REWRITES[name](V2)}
        allowed = Condition("pods", ConditionKind.PODS, "web", ("v2",))
        assert find_wrong_pods(case.ctx.plan, allowed, facts_of(workload)) is None
        await roll_back(case.ctx, Step(is_undo=True), V1, "back")
        await wait_for_pass(case, "v1")

    run_case(api, pg_dsn, walk, Webhook(REWRITES[name], "pods"))


def test_c3_a_webhook_that_keeps_the_old_image_ends_the_rollout_at_once(api: KubernetesClient, pg_dsn: str) -> None:
    async def walk(case: Case) -> None:
        step = Step()
        await save_current_image(case.ctx, step)
        with pytest.raises(StepFailed, match=f"an admission webhook changes {V2} back to {V1}, which runs already"):
            await roll_out(case.ctx, step, V2, "a test")

    run_case(api, pg_dsn, walk, Webhook(lambda _: V1, "deployments"))


@pytest.mark.parametrize("image", ["shop/web:hotfix", "shop/web:missing"])
def test_e6_a_third_image_of_another_manager_is_named_at_once(api: KubernetesClient, pg_dsn: str, image: str) -> None:
    """Also where it cannot run: its failure is not that of our image."""

    async def walk(case: Case) -> None:
        step = Step()
        rollout = asyncio.create_task(roll_out(case.ctx, step, V2, "a test"))
        await case.call(api.until, "replicasets", lambda items: len(items) == 2)
        containers = [{"name": "web", "image": image}]
        patch = {"spec": {"template": {"spec": {"containers": containers}}}}
        await case.call(api.patch, "deployments/web?fieldManager=argocd-controller", patch, STRATEGIC)
        began = time.monotonic()
        with pytest.raises(StepFailed) as caught:
            await rollout
        assert time.monotonic() - began < 2
        assert caught.value.title.startswith(
            f"another client set the image of Deployment web to {image} during the rollout of {V2}:"
            " set by argocd-controller at 20"
        )
        assert "suspend its sync of web" in caught.value.hint

    run_case(api, pg_dsn, walk, pod={"test/ready-after": "5"})


def test_e5_pods_that_a_webhook_pinned_have_the_version_of_their_replica_set(
    api: KubernetesClient, pg_dsn: str
) -> None:
    def change_images(image: str) -> None:
        for pod in api.items("pods"):
            body = [{"op": "replace", "path": "/spec/containers/0/image", "value": image}]
            api.patch(f"pods/{pod['metadata']['name']}", body, "application/json-patch+json")

    async def evaluate(case: Case) -> tuple[Verdict, str]:
        return await evaluate_serving_version(case.ctx, await case.ctx.store.read(), "v2", "rollout-v2")

    async def walk(case: Case) -> None:
        await roll_out(case.ctx, Step(), V2, "a test")
        async with asyncio.timeout(20):
            while (await evaluate(case))[0] is not Verdict.PASS:  # noqa: ASYNC110 - the endpoints follow the pods
                await asyncio.sleep(0.1)
        await case.call(change_images, DIGEST)
        assert (await evaluate(case))[0] is Verdict.PASS
        await case.call(change_images, "shop/web:hotfix")
        verdict, reason = await evaluate(case)
        assert verdict is not Verdict.PASS
        assert "has shop/web:hotfix" in reason

    run_case(api, pg_dsn, walk)


def test_e7_a_paused_deployment_is_rolled_back_only_where_there_is_something_to_undo(
    api: KubernetesClient, pg_dsn: str
) -> None:
    async def walk(case: Case) -> None:
        await case.call(api.patch, "deployments/web", {"spec": {"paused": True}})
        undo = Step(is_undo=True)
        await roll_back(case.ctx, undo, V1, "back")
        assert "is paused and has shop/web:1 alone: nothing to undo" in await case.audit()
        with pytest.raises(StepFailed) as caught:
            await roll_back(case.ctx, undo, V2, "back")
        assert caught.value.hint == (
            f"kubectl -n {api.namespace} rollout resume deployment/web; then zdd rollback PLAN"
        )
        assert "advance" not in caught.value.hint

    run_case(api, pg_dsn, walk)


def test_a_permanent_error_of_the_api_is_not_repeated(api: KubernetesClient, pg_dsn: str) -> None:
    async def walk(case: Case) -> None:
        await case.call(api.delete, "deployments/web")
        await case.call(api.until, "deployments", lambda items: not items)
        began = time.monotonic()
        with pytest.raises(KubeApiError, match="no Deployment 'web'"):
            await roll_out(case.ctx, Step(), V2, "a test")
        assert time.monotonic() - began < 10

    run_case(api, pg_dsn, walk)


def test_e9_gates_read_a_watch_and_not_lists(api: KubernetesClient, pg_dsn: str) -> None:
    async def walk(case: Case) -> None:
        lists: list[str] = []
        send = case.ctx.cluster.http.request_bytes

        async def count(method: str, path: str, *arguments: Any, **options: Any) -> bytes:
            lists.append(path)
            return await send(method, path, *arguments, **options)

        changes = 0

        def count_change() -> None:
            nonlocal changes
            changes += 1

        watched: Counter[str] = Counter()
        stream = case.ctx.cluster.http.stream_lines

        async def count_watch(path: str, *arguments: Any, **options: Any) -> AsyncGenerator[bytes | None, None]:
            resource = path.rpartition("/")[2]
            watched[resource] += 1
            async with aclosing(stream(path, *arguments, **options)) as lines:
                async for line in lines:
                    yield line
            watched[resource] -= 1

        case.ctx.cluster.http.stream_lines = count_watch  # type: ignore[method-assign]
        watching = asyncio.create_task(case.ctx.workloads.run())
        await asyncio.sleep(0)
        conditions = KubernetesSource(case.ctx, count_change)
        following = asyncio.create_task(conditions.run())
        async with asyncio.timeout(20):
            first = await read_workload(case.ctx)
            while (newest := await read_workload(case.ctx)) is not await read_workload(case.ctx):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert {pod.name for pod in newest.pods} == {pod.name for pod in first.pods}
        case.ctx.cluster.http.request_bytes = count  # type: ignore[method-assign]
        assert await read_workload(case.ctx) is newest
        assert lists == []
        assert watched.keys() == {"deployments", "endpointslices", "pods", "replicasets"}
        assert max(watched.values()) == 1, "gates and conditions have one watch"
        async with asyncio.timeout(20):
            while (seen := conditions.workloads["web"].value) is None or seen.pods is not newest.pods:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # it is told some moments after the change
        noticed = changes
        await case.call(api.patch, "deployments/web", {"spec": {"replicas": 3}})
        async with asyncio.timeout(20):
            while len((await read_workload(case.ctx)).serving_pods) != 3:  # noqa: ASYNC110 - the watch brings it
                await asyncio.sleep(0.05)
        assert lists == []
        async with asyncio.timeout(20):
            while changes == noticed:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        following.cancel()
        watching.cancel()
        await asyncio.gather(following, watching, return_exceptions=True)
        assert len((await read_workload(case.ctx)).pods) == 3
        assert lists, "without a watch it is read directly"

    run_case(api, pg_dsn, walk)

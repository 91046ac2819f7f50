"""The sample application rolled out by the kubelet, with requests through the Service's ready endpoints all the time.

A request that fails here is a drain that does not work: the endpoint left rotation after its process did.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import aiohttp
import pytest

from tests.support.kubelet import ClusterClient, make_cluster
from zdd_tui.backends.kubernetes.cluster import SERVICE_LABEL
from zdd_tui.backends.kubernetes.deployment_watch import read_workload_snapshot
from zdd_tui.backends.kubernetes.watch import Changed, Listed
from zdd_tui.demo import manifests
from zdd_tui.demo.data import create_schema
from zdd_tui.model.json_access import get_text
from zdd_tui.model.workload.pod import EndpointFacts, project_endpoints


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[ClusterClient]:
    async with make_cluster(tmp_path) as made:
        yield made


class EndpointRouter:
    """Knows the ready endpoints, as kube-proxy does."""

    def __init__(self, here: ClusterClient) -> None:
        self._here = here
        self._slices: dict[str, list[EndpointFacts]] = {}
        self.any_endpoint = asyncio.Event()

    @property
    def ready(self) -> list[str]:
        return [each.address for found in self._slices.values() for each in found if each.ready]

    async def run(self) -> None:
        events = self._here.cluster.watch(
            "apis/discovery.k8s.io/v1",
            "endpointslices",
            lambda raw: (get_text(raw, "metadata", "name"), project_endpoints(raw)),
            labels=f"{SERVICE_LABEL}={manifests.NAME}",
        )
        async with aclosing(events):
            async for event in events:
                match event:
                    case Listed():
                        self._slices = dict(event.items)
                    case Changed():
                        name, endpoints = event.item
                        self._slices[name] = [] if event.kind == "DELETED" else endpoints
                if self.ready:
                    self.any_endpoint.set()


async def wait_until_rolled_out(here: ClusterClient) -> None:
    async with asyncio.timeout(60):
        while True:
            reading = await read_workload_snapshot(here.cluster, manifests.NAME)
            if reading.rollout and reading.rollout.done:
                return
            await asyncio.sleep(0.1)


async def test_no_request_fails_during_a_rollout(here: ClusterClient, pg_dsn: str, redis_url: str) -> None:
    await create_schema(pg_dsn)
    namespace = here.cluster.namespace
    await here.create("services", manifests.service_manifest(namespace=namespace))
    body = manifests.deployment_manifest(dsn=pg_dsn, redis_url=redis_url, replicas=2, namespace=namespace)
    await here.create("deployments", body)
    router = EndpointRouter(here)
    failures: list[str] = []
    answers: list[str] = []

    async def load() -> None:
        await router.any_endpoint.wait()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
            for number in itertools.count():
                address = "127." + router.ready[number % len(router.ready)].split(".", 1)[1]
                try:
                    async with session.get(f"http://{address}:8080/version") as answer:
                        answers.append(await answer.text())
                        if answer.status != 200:
                            failures.append(f"{address}: {answer.status} {answers[-1]}")
                except aiohttp.ClientError as error:
                    failures.append(f"{address}: {error!r}")
                await asyncio.sleep(0.005)

    tasks = [asyncio.create_task(router.run()), asyncio.create_task(load())]
    try:
        await wait_until_rolled_out(here)
        old = {pod.name for pod in (await read_workload_snapshot(here.cluster, manifests.NAME)).pods}
        before = len(answers)
        await here.cluster.set_image(manifests.NAME, manifests.CONTAINER, manifests.image_name(2), epoch=1, reason="V2")
        await wait_until_rolled_out(here)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results), results
    assert failures == []
    assert len(answers) - before > 100
    assert answers[-1] != answers[before - 1], "the new version never answered"
    for name in old:
        log = "\n".join(here.log(name))
        assert "Traceback" not in log, log

"""The local cluster as a process and as a context: how it starts, whom it serves, what it leaves behind."""

import asyncio
import json
import os
import signal
import ssl
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from kubernetes_asyncio import client, config, watch

from zdd_tui.testbed.cluster.cluster import LocalCluster, local_cluster

Json = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    async with local_cluster(tmp_path / "cluster", log_root=tmp_path) as running:
        yield running


@pytest.fixture
async def session(cluster: LocalCluster) -> AsyncIterator[aiohttp.ClientSession]:
    context = ssl.create_default_context(cadata=cluster.certificate.decode())
    headers = {"Authorization": f"Bearer {cluster.token}"}
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(cluster.url, headers=headers, connector=connector) as opened:
        yield opened
    await asyncio.sleep(0.05)  # aiohttp offers nothing to await for the end of its TLS transports


def pod(name: str = "lone", **metadata: Any) -> Json:
    spec = {"containers": [{"name": "main", "image": "shop/web:1"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **metadata}, "spec": spec}


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def token_in(kubeconfig: Path) -> str:
    return str(yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"])


async def test_the_process_says_when_it_is_ready_and_ends_on_sigterm_under_open_watches(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zdd_tui.testbed.cluster", "--dir", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    kubeconfig = Path(ready["kubeconfig"])
    assert kubeconfig == tmp_path / "kubeconfig"
    assert mode_of(kubeconfig) == 0o600
    assert ready["server"].startswith("https://127.0.0.1:")
    loader = await config.new_client_from_config(str(kubeconfig))
    async with loader as api_client, watch.Watch().stream(client.CoreV1Api(api_client).list_namespace) as stream:
        await anext(stream)
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 5)
    await asyncio.sleep(0.05)  # as above
    assert (process.returncode, errors) == (0, b"")
    assert token_in(kubeconfig) not in json.dumps(ready)
    assert os.listdir(tmp_path) == ["kubeconfig"], "the key stays on no disk"


async def test_a_context_leaves_no_task_behind(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with local_cluster(tmp_path) as running:
        assert running.token not in repr(running)
        context = ssl.create_default_context(cadata=running.certificate.decode())
        headers = {"Authorization": f"Bearer {running.token}"}
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(running.url, headers=headers, connector=connector) as opened:
            open_watches = [await opened.get(PODS, params={"watch": "1"}) for _ in range(20)]
            for response in open_watches:
                response.close()
        await asyncio.sleep(0.05)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_watch_that_nobody_reads_is_given_up(cluster: LocalCluster, session: aiohttp.ClientSession) -> None:
    """A client that vanished without a word must not keep its watcher."""
    store = cluster.api.store
    response = await session.get(PODS, params={"watch": "1"})
    assert store.watcher_count == 1
    response.close()
    async with asyncio.timeout(5):
        while store.watcher_count:  # noqa: ASYNC110 - the server has no reason to announce it
            await asyncio.sleep(0.01)


async def test_a_compacted_history_answers_410(cluster: LocalCluster, session: aiohttp.ClientSession) -> None:
    async with session.get(PODS) as listed:
        version = (await listed.json())["metadata"]["resourceVersion"]
    await (await session.post(PODS, json=pod())).read()
    cluster.api.store.compact()
    async with session.get(PODS, params={"watch": "1", "resourceVersion": version}) as stream:
        lines = [json.loads(line) async for line in stream.content]
    assert [line["type"] for line in lines] == ["ERROR"], "and the watch ends"
    assert lines[0]["object"]["code"] == 410


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b"null", b'"pod"', b'{"metadata": []}', b'{"metadata": {"name": "x"}, "spec": 7}',
        b'{"metadata": {"name": "x"}, "spec": {"containers": {"a": 1}}}',
        b'{"metadata": {"name": 5}, "spec": {"containers": [{"name": "a", "image": "b"}]}}',
        b'{"metadata": {"name": "x", "labels": ["a"]}, "spec": {"containers": [{"name": "a", "image": "b"}]}}',
        b'{"metadata": {"name": "x"}, "spec": {"containers": [1]}}',
        b"\xff\xfe",
    ],
)  # fmt: skip
async def test_a_malformed_body_is_a_bad_request_and_nothing_worse(session: aiohttp.ClientSession, body: bytes) -> None:
    async with session.post(PODS, data=body, headers={"Content-Type": "application/json"}) as answer:
        status = await answer.json()
    assert answer.status in (400, 422)
    assert (status["kind"], status["code"]) == ("Status", answer.status)
    async with session.get(PODS) as listed:
        assert (await listed.json())["items"] == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json-patch+json", '{"op": "add"}'),
        ("application/json-patch+json", '[{"op": "add"}]'),
        ("application/json-patch+json", '[{"op": "replace", "path": "/spec/nowhere/0", "value": 1}]'),
        ("application/merge-patch+json", "[]"),
        ("application/merge-patch+json", '{"spec": {"containers": null}}'),
        ("application/merge-patch+json", '{"metadata": null}'),
        ("application/strategic-merge-patch+json", '{"spec": {"containers": [{"image": "x"}]}}'),
        ("application/strategic-merge-patch+json", '{"spec": {"containers": "x"}}'),
        ("application/apply-patch+yaml", "{}"),
        ("text/plain", "{}"),
    ],
)
async def test_a_malformed_patch_changes_nothing(session: aiohttp.ClientSession, content_type: str, body: str) -> None:
    async with session.post(PODS, json=pod()) as made:
        before = await made.json()
    headers = {"Content-Type": content_type}
    async with session.patch(f"{PODS}/lone", data=body, headers=headers) as answer:
        status = await answer.json()
    assert answer.status in (400, 415, 422)
    assert status["kind"] == "Status"
    async with session.get(f"{PODS}/lone") as got:
        assert (await got.json())["spec"] == before["spec"]


async def test_logs_come_from_the_file_that_the_node_names_and_from_nowhere_else(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    log = tmp_path / "logs" / "lone.log"
    log.parent.mkdir()
    log.write_text("one\ntwo\nthree\n")
    named = {"annotations": {"zdd.local/log-file": str(log)}}
    await (await session.post(PODS, json=pod(**named))).read()
    async with session.get(f"{PODS}/lone/log", params={"tailLines": "2"}) as answer:
        assert await answer.text() == "two\nthree\n"
    async with session.get(f"{PODS}/lone/log", params={"follow": "true", "tailLines": "0"}) as answer:
        with log.open("a") as file:
            file.write("four\n")
        assert await asyncio.wait_for(answer.content.readline(), 5) == b"four\n"
    outside = {"annotations": {"zdd.local/log-file": "/etc/hostname"}}
    await (await session.post(PODS, json=pod("other", **outside))).read()
    async with session.get(f"{PODS}/other/log") as answer:
        assert answer.status == 400


async def test_the_clients_of_kubernetes_asyncio_work(cluster: LocalCluster) -> None:
    loader = await config.new_client_from_config(str(cluster.kubeconfig))
    async with loader as api_client:
        core, apps = client.CoreV1Api(api_client), client.AppsV1Api(api_client)
        container = client.V1Container(name="web", image="shop/web:1")
        template = client.V1PodTemplateSpec(
            metadata=client.V1ObjectMeta(labels={"app": "web"}), spec=client.V1PodSpec(containers=[container])
        )
        spec = client.V1DeploymentSpec(
            replicas=2, selector=client.V1LabelSelector(match_labels={"app": "web"}), template=template
        )
        body = client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec)
        made = await apps.create_namespaced_deployment("default", body)
        assert made.spec.strategy.rolling_update.max_surge == "25%"
        seen = set()
        async with watch.Watch().stream(core.list_namespaced_pod, "default", timeout_seconds=10) as stream:
            async for event in stream:
                seen.add(event["object"].metadata.name)
                if len(seen) == 2:
                    break
        version = (await core.list_namespaced_pod("default")).metadata.resource_version
        await apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 0}})
        follow = watch.Watch()
        async with follow.stream(core.list_namespaced_pod, "default", resource_version=version) as stream:
            async for event in stream:
                if event["type"] == "DELETED":
                    seen.discard(event["object"].metadata.name)
                if not seen:
                    break
    await asyncio.sleep(0.05)

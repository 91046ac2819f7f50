"""Logs of pods: what the embedded cluster serves, and what a screen's tail makes of it. kubectl reads the same."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from zdd_tui.backends.kubernetes.cluster import MERGE_PATCH, Cluster
from zdd_tui.backends.kubernetes.detail import follow_log, read_object_detail
from zdd_tui.backends.kubernetes.http import KubeHttp
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.log_buffer import LogBuffer
from zdd_tui.model.masking import mask_text
from zdd_tui.model.queries import LogQuery, LogView, ObjectQuery
from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.cluster import LocalCluster, local_cluster
from zdd_tui.testbed.cluster.pod_log import LOG_ANNOTATION, PREVIOUS_SUFFIX
from zdd_tui.testbed.kubelet.container import PREVIOUS_SUFFIX as WRITTEN_SUFFIX
from zdd_tui.testbed.kubelet.container import Process
from zdd_tui.testbed.kubelet.zygote import Zygote

POD: dict[str, Any] = {
    "metadata": {"name": "web-1", "namespace": "default", "labels": {"app": "web"}},
    "spec": {
        "containers": [
            {
                "name": "app",
                "image": "web:1",
                "args": ["--password=hunter2"],
                "env": [
                    {"name": "DATABASE_URL", "value": "postgresql://web:hunter2@db/x"},
                    {"name": "SIGNING_SECRET", "value": "hunter2"},
                    {"name": "PORT", "value": "8080"},
                ],
            }
        ]
    },
}


class LoggedPod:
    """A cluster with one pod that has a log file."""

    def __init__(self, local: LocalCluster, cluster: Cluster, file: Path) -> None:
        self.local, self.cluster, self.file = local, cluster, file

    def write(self, *lines: str) -> None:
        with self.file.open("a") as sink:
            sink.write("".join(f"{line}\n" for line in lines))

    def restart(self) -> None:
        """Like the kubelet: keeps the log of the previous container."""
        self.file.replace(self.file.with_suffix(PREVIOUS_SUFFIX))
        self.file.touch()


@asynccontextmanager
async def pod_with_log(tmp_path: Path) -> AsyncIterator[LoggedPod]:
    async with local_cluster(tmp_path) as local:
        local.api.create(kinds.POD, "default", POD)
        file = tmp_path / "web-1.log"
        file.touch()
        async with Cluster.connect(str(local.kubeconfig), None, "default") as cluster:
            body = {"metadata": {"annotations": {LOG_ANNOTATION: str(file)}}}
            await cluster.http.request_json(
                "PATCH", cluster.path("api/v1", "pods", "web-1"), body=body, content_type=MERGE_PATCH
            )
            yield LoggedPod(local, cluster, file)


async def text_of(http: KubeHttp, path: str, **params: str | int) -> str:
    text = b""
    async for chunk in http.stream_chunks(path, params, silence_timeout=5, verb="GET"):
        text += chunk or b""
    return text.decode()


async def wait_for_lines(buffer: LogBuffer, wanted: Callable[[LogView], bool]) -> LogView:
    async with asyncio.timeout(20):
        while not wanted(view := buffer.snapshot()):  # noqa: ASYNC110 - a buffer has no callback
            await asyncio.sleep(0.02)
    return view


def texts(view: LogView) -> list[str]:
    return [line.text for line in view.lines]


async def test_the_log_is_served_as_requested(tmp_path: Path) -> None:
    assert PREVIOUS_SUFFIX == WRITTEN_SUFFIX
    async with pod_with_log(tmp_path) as here:
        path, http = here.cluster.path("api/v1", "pods", "web-1", "log"), here.cluster.http
        here.write("one", "", "three")
        assert await text_of(http, path) == "one\n\nthree\n"
        assert await text_of(http, path, tailLines=1, container="app") == "three\n"
        assert await text_of(http, path, limitBytes=2) == "on"
        stamped = (await text_of(http, path, timestamps="true")).splitlines()
        assert [line.partition(" ")[2] for line in stamped] == ["one", "", "three"]
        assert all(line.startswith("20") for line in stamped)
        assert await text_of(http, path, sinceTime="2999-01-01T00:00:00Z") == ""
        for params, text in (
            ({"container": "sidecar"}, "container sidecar is not valid for pod web-1"),
            ({"previous": "true"}, 'previous terminated container "app" in pod "web-1" not found'),
            ({"sinceTime": "yesterday"}, "invalid value for sinceTime"),
        ):
            with pytest.raises(ClusterError, match=text):
                await text_of(http, path, **params)


async def test_a_tail_continues_over_a_restart_and_shows_the_previous_container(tmp_path: Path) -> None:
    async with pod_with_log(tmp_path) as here:
        here.write(*(f"old {number}" for number in range(5)))
        buffer = LogBuffer(mask_text, has_timestamps=True)
        tail = asyncio.create_task(follow_log(here.cluster, LogQuery("web-1", tail=2), buffer))
        try:
            view = await wait_for_lines(buffer, lambda each: len(each.lines) == 2)
            assert (texts(view), view.state) == (["old 3", "old 4"], "following")
            here.write("connects to postgresql://web:hunter2@db/x", "Authorization: Bearer abc.def")
            view = await wait_for_lines(buffer, lambda each: len(each.lines) == 4)
            assert texts(view)[2:] == ["connects to postgresql://web:***@db/x", "Authorization: Bearer ***"]
            assert all(line.at is not None for line in view.lines)
            here.restart()
            await wait_for_lines(buffer, lambda each: each.state == "lost")
            here.write("new 1")
            view = await wait_for_lines(buffer, lambda each: "new 1" in texts(each))
            assert view.state == "following"
        finally:
            tail.cancel()
        before = LogBuffer(has_timestamps=True)
        await follow_log(here.cluster, LogQuery("web-1", previous=True), before)
        assert before.snapshot().state == "ended"
        assert texts(before.snapshot())[:2] == ["old 0", "old 1"]


async def test_a_tail_of_a_deleted_pod_ends_with_a_reason(tmp_path: Path) -> None:
    async with pod_with_log(tmp_path) as here:
        buffer = LogBuffer()
        await follow_log(here.cluster, LogQuery("web-2"), buffer)
        assert buffer.snapshot().state == "ended"
        assert "web-2" in buffer.snapshot().error
        never = LogBuffer()
        await follow_log(here.cluster, LogQuery("web-1", previous=True), never)
        assert never.snapshot().state == "ended"
        assert "has no previous container: it has not restarted" in never.snapshot().error


async def test_the_kubelet_keeps_the_log_of_the_previous_process(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "web-1.log"
    for word in ("first", "second"):
        argv = [sys.executable, "-c", f"print({word!r})"]
        process = await Process.start(argv, {}, tmp_path / "web-1", log, Zygote(tmp_path, {}))
        async with asyncio.timeout(20):
            await process.exited.wait()
    assert log.read_text() == "second\n"
    assert log.with_suffix(PREVIOUS_SUFFIX).read_text() == "first\n"


async def test_an_object_is_read_with_its_events_and_without_its_secrets(tmp_path: Path) -> None:
    async with pod_with_log(tmp_path) as here:
        detail = await read_object_detail(here.cluster, ObjectQuery("Pod", "web-1"))
        assert detail.yaml.startswith("apiVersion: v1\nkind: Pod\n")
        assert "hunter2" not in repr(detail)
        assert "managedFields" not in detail.yaml
        assert {"name": "PORT", "value": "8080"} in detail.document["spec"]["containers"][0]["env"]
        assert {"name": "SIGNING_SECRET", "value": "***"} in detail.document["spec"]["containers"][0]["env"]
        with pytest.raises(ClusterError, match="no Deployment 'web'"):
            await read_object_detail(here.cluster, ObjectQuery("Deployment", "web"))


@pytest.mark.skipif(shutil.which("kubectl") is None and "KUBECTL" not in os.environ, reason="there is no kubectl")
async def test_kubectl_logs_reads_the_same(tmp_path: Path) -> None:
    async with pod_with_log(tmp_path) as here:
        here.write("one", "two", "three")
        kubectl = os.environ.get("KUBECTL") or shutil.which("kubectl")

        def logs(*more: str) -> str:
            done = subprocess.run(
                [str(kubectl), "--kubeconfig", str(here.local.kubeconfig), "logs", "web-1", *more],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            return done.stdout + done.stderr

        assert await asyncio.to_thread(logs) == "one\ntwo\nthree\n"
        assert await asyncio.to_thread(logs, "--tail=1", "-c", "app") == "three\n"
        stamped = await asyncio.to_thread(logs, "--timestamps", "--tail=1")
        assert stamped.endswith("Z three\n")
        assert "previous terminated container" in await asyncio.to_thread(logs, "-p")
        here.restart()
        here.write("again")
        assert await asyncio.to_thread(logs, "-p", "--tail=1") == "three\n"
        assert await asyncio.to_thread(logs, "--since=1h") == "again\n"

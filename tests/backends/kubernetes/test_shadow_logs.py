"""Samples of a dark launch from pods' logs, through the API: first all pods, then only new lines."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.shadow_logs import MAX_LINE_BYTES, MAX_LINES_PER_LOG, ShadowReader
from zdd_tui.model.errors import ClusterError
from zdd_tui.model.shadow import LOG_PREFIX, MAX_SAMPLES
from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.cluster import local_cluster
from zdd_tui.testbed.cluster.pod_log import LOG_ANNOTATION

DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "app", "image": "web:1"}]},
        },
    },
}


def pod(name: str, log: Path | None) -> dict[str, Any]:
    annotations = {LOG_ANNOTATION: str(log)} if log else {}
    return {
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}, "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": "web:1"}]},
    }


def line(at: float, number: int, **changes: object) -> str:
    made = {"path": "p", "what": "mismatch", "at": at, "n": number, "unit": str(number), "fields": []}
    return f"WARNING {LOG_PREFIX}{json.dumps(made | changes)}"


class ShadowEnvironment:
    def __init__(self, cluster: Cluster, folder: Path, api: Any) -> None:
        self.cluster, self.folder, self.api = cluster, folder, api

    def add(self, name: str, *lines: str, logged: bool = True) -> None:
        """A pod, with these lines in its log."""
        file = self.folder / f"{name}.log"
        file.touch()
        self.api.create(kinds.POD, "default", pod(name, file if logged else None))
        self.write(name, *lines)

    def write(self, name: str, *lines: str) -> None:
        with (self.folder / f"{name}.log").open("a") as sink:
            sink.write("".join(f"{each}\n" for each in lines))


@asynccontextmanager
async def production(folder: Path) -> AsyncIterator[ShadowEnvironment]:
    async with local_cluster(folder) as local:
        local.api.create(kinds.DEPLOYMENT, "default", DEPLOYMENT)
        async with Cluster.connect(str(local.kubeconfig), None, "default") as cluster:
            yield ShadowEnvironment(cluster, folder, local.api)


async def test_the_newest_of_all_pods_come_first_and_the_rest_is_counted(tmp_path: Path) -> None:
    async with production(tmp_path) as here:
        here.add("web-1", "noise", line(5, 1), line(7, 30), line(6, 2, path="other"))
        here.add("web-2", line(6, 4), line(1, 1, what="error", error="ValueError"), '{"broken": ' + LOG_PREFIX + "{")
        reader = ShadowReader("web", "app", "p")
        found = await reader.read(here.cluster)
        assert [(each.pod, each.at, each.kind) for each in found.samples] == [
            ("web-1", 7, "mismatch"),
            ("web-2", 6, "mismatch"),
            ("web-1", 5, "mismatch"),
            ("web-2", 1, "error"),
        ]
        assert (found.total_failures, found.logs_read, found.logs_not_read, found.lines_per_log) == (
            30 + 4 + 1,
            2,
            0,
            MAX_LINES_PER_LOG,
        )


async def test_a_later_reading_adds_new_samples_and_counts_none_twice(tmp_path: Path) -> None:
    async with production(tmp_path) as here:
        here.add("web-1", line(5, 1))
        reader = ShadowReader("web", "", "p")
        first = await reader.read(here.cluster)
        assert (await reader.read(here.cluster)).samples == first.samples
        here.write("web-1", *(line(10 + number, 2 + number) for number in range(MAX_SAMPLES)))
        found = await reader.read(here.cluster)
        assert [each.number for each in found.samples] == list(range(MAX_SAMPLES + 1, 1, -1))
        assert found.total_failures == MAX_SAMPLES + 1
        here.write("web-1", line(99, 1))
        assert (await reader.read(here.cluster)).total_failures == 1, "its process began anew"


async def test_a_flood_and_a_line_without_end_leave_the_newest_sample(tmp_path: Path) -> None:
    async with production(tmp_path) as here:
        here.add(
            "web-1",
            line(1, 1),
            *("x" * 100 for _ in range(MAX_LINES_PER_LOG - 1)),
            "y" * (8 * MAX_LINE_BYTES),
            line(2, 2),
        )
        found = await ShadowReader("web", "app", "p").read(here.cluster)
        assert [each.number for each in found.samples] == [2]


async def test_a_log_that_cannot_be_read_is_counted_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    async with production(tmp_path) as here:
        here.add("web-1", logged=False)
        with pytest.raises(ClusterError, match='no log is kept for pod "web-1"'):
            await ShadowReader("web", "app", "p").read(here.cluster)
        here.add("web-2", line(1, 1))
        found = await ShadowReader("web", "app", "p").read(here.cluster)
        assert (len(found.samples), found.logs_read, found.logs_not_read) == (1, 1, 1)
        assert "no log is kept" in found.not_read_reason
        with pytest.raises(ClusterError, match="no Deployment 'gone'"):
            await ShadowReader("gone", "app", "p").read(here.cluster)

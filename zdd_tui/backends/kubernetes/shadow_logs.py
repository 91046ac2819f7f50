"""Reads the samples of a dark launch from the pods' logs, through the API server.

The first reading takes the end of each log, later readings only the lines since the one before.
"""

import asyncio
import math
import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

from zdd_tui.model.errors import ClusterError
from zdd_tui.model.shadow import LOG_PREFIX, ShadowSample, ShadowSamples, parse_sample, select_newest_samples
from zdd_tui.model.workload.pod import PodFacts

if TYPE_CHECKING:
    from zdd_tui.backends.kubernetes.cluster import Cluster

MAX_LINES_PER_LOG = 2000
"""Of each log, in one reading."""

MAX_LINE_BYTES = 64 * 1024
"""Longer lines are not samples and are dropped."""

MAX_PODS = 50
"""The youngest pods are read; each log is one request."""

MAX_CONCURRENT = 8
LOG_TIMEOUT = 8.0
"""Seconds, for one log."""

OVERLAP_SECONDS = 3
"""Seconds that are read twice, because the API counts in whole seconds. A sample counts once."""


class ShadowReader:
    """Reads logs repeatedly and keeps the newest samples.

    Args:
        container: empty for the pod's only one.
        path: name of the path in the application, from the dark launch.
    """

    def __init__(self, deployment: str, container: str, path: str) -> None:
        self._deployment, self._container, self._path = deployment, container, path
        self._samples: tuple[ShadowSample, ...] = ()
        self._read_at: dict[str, float] = {}
        self._last_counts: dict[tuple[str, bool], tuple[float, int]] = {}

    async def read(self, cluster: "Cluster") -> ShadowSamples:
        """Reads the new lines and returns all samples.

        Raises:
            ClusterError: no such Deployment, or no log can be read.
        """
        view = await cluster.get_deployment(self._deployment)
        pods = await cluster.list_pods(view.selector, container=self._container or None)
        pods = sorted(pods, key=lambda pod: pod.created_at or 0.0, reverse=True)
        semaphore = asyncio.Semaphore(MAX_CONCURRENT)

        async def read_one(pod: PodFacts) -> list[ShadowSample] | ClusterError:
            async with semaphore:
                try:
                    return await self._read_one(cluster, pod)
                except ClusterError as error:
                    return error

        results = await asyncio.gather(*(read_one(pod) for pod in pods[:MAX_PODS]))
        errors = [result for result in results if isinstance(result, ClusterError)]
        read = [result for result in results if not isinstance(result, ClusterError)]
        if errors and not read:
            raise errors[0]
        self._merge_samples([sample for samples in read for sample in samples], pods)
        skipped = len(pods) - len(results)
        reason = errors[0].title if errors else f"only the {MAX_PODS} youngest pods are read" if skipped else ""
        known = sum(count for _, count in self._last_counts.values())
        return ShadowSamples(self._samples, known, len(read), len(errors) + skipped, reason, MAX_LINES_PER_LOG)

    def _merge_samples(self, samples: list[ShadowSample], pods: list[PodFacts]) -> None:
        """Adds new samples. Samples of deleted pods stay as long as they are among the newest."""
        self._samples = select_newest_samples((*self._samples, *samples))
        for sample in samples:
            key = (sample.pod, sample.kind == "mismatch")
            self._last_counts[key] = max(self._last_counts.get(key, (0.0, 0)), (sample.at, sample.number))
        uids = {pod.uid for pod in pods}
        names = {pod.name for pod in pods} | {sample.pod for sample in self._samples}
        self._read_at = {uid: at for uid, at in self._read_at.items() if uid in uids}
        self._last_counts = {key: last for key, last in self._last_counts.items() if key[0] in names}

    async def _read_one(self, cluster: "Cluster", pod: PodFacts) -> list[ShadowSample]:
        params: dict[str, str | int] = {"tailLines": MAX_LINES_PER_LOG}
        if self._container:
            params["container"] = self._container
        now = time.monotonic()
        if (before := self._read_at.get(pod.uid)) is not None:
            params["sinceSeconds"] = math.ceil(now - before) + OVERLAP_SECONDS
        path = cluster.path("api/v1", "pods", pod.name, "log")
        try:
            async with asyncio.timeout(LOG_TIMEOUT):
                lines = await _read_marked_lines(cluster, path, params)
        except TimeoutError:
            raise ClusterError(f"no log of pod {pod.name!r} within {LOG_TIMEOUT:g} s") from None
        self._read_at[pod.uid] = now
        samples = (parse_sample(line, pod.name, self._path) for line in lines)
        return [sample for sample in samples if sample is not None]


async def _read_marked_lines(cluster: "Cluster", path: str, params: Mapping[str, str | int]) -> list[str]:
    """Reads the lines that may hold a sample and drops all others."""
    prefix = LOG_PREFIX.encode()
    marked: list[bytes] = []
    rest = b""
    async with aclosing(
        cluster.http.stream_chunks(path, params, silence_timeout=2 * LOG_TIMEOUT, verb="GET")
    ) as chunks:
        async for chunk in chunks:
            *whole, rest = (rest + (chunk or b"")).split(b"\n")
            marked += [line for line in whole if prefix in line]
            rest = rest[:MAX_LINE_BYTES]
    marked.append(rest)
    return [line.decode("utf-8", "replace") for line in marked[-MAX_LINES_PER_LOG:]]

"""Reads the samples of a dark launch from the pods' logs: through the API server, as the log screen does it.

The first look takes the end of each log, every later one only what was written since the look before.
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
"""Of each log, at a look."""

MAX_LINE_BYTES = 64 * 1024
"""What is longer is no sample, and is not kept."""

MAX_PODS = 50
"""The youngest; each one's log is a request."""

MAX_CONCURRENT = 8
LOG_TIMEOUT = 8.0
"""For one log."""

OVERLAP_SECONDS = 3
"""Seconds that are read twice: the API counts in whole ones. The same sample counts once."""


class ShadowReader:
    """Keeps the newest samples from look to look.

    Args:
        container: empty for the pod's only one.
        path: of the dark launch, as the application names it.
    """

    def __init__(self, deployment: str, container: str, path: str) -> None:
        self._deployment, self._container, self._path = deployment, container, path
        self._samples: tuple[ShadowSample, ...] = ()
        self._read_at: dict[str, float] = {}
        self._last_counts: dict[tuple[str, bool], tuple[float, int]] = {}

    async def read(self, cluster: "Cluster") -> ShadowSamples:
        """The samples as of now.

        Raises:
            ClusterError: no such Deployment, or no log can be read.
        """
        view = await cluster.get_deployment(self._deployment)
        pods = await cluster.list_pods(view.selector, container=self._container or None)
        pods = sorted(pods, key=lambda pod: pod.created_at or 0.0, reverse=True)
        turn = asyncio.Semaphore(MAX_CONCURRENT)

        async def one(pod: PodFacts) -> list[ShadowSample] | ClusterError:
            async with turn:
                try:
                    return await self._read_one(cluster, pod)
                except ClusterError as error:
                    return error

        found = await asyncio.gather(*(one(pod) for pod in pods[:MAX_PODS]))
        refused = [each for each in found if isinstance(each, ClusterError)]
        read = [each for each in found if not isinstance(each, ClusterError)]
        if refused and not read:
            raise refused[0]
        self._merge_samples([sample for samples in read for sample in samples], pods)
        over = len(pods) - len(found)
        why = refused[0].title if refused else f"only the {MAX_PODS} youngest are asked" if over else ""
        known = sum(count for _, count in self._last_counts.values())
        return ShadowSamples(self._samples, known, len(read), len(refused) + over, why, MAX_LINES_PER_LOG)

    def _merge_samples(self, samples: list[ShadowSample], pods: list[PodFacts]) -> None:
        """What came since the look before; pods that are gone keep their samples as long as these are the newest."""
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
            raise ClusterError(f"the log of pod {pod.name!r} did not come within {LOG_TIMEOUT:g} s") from None
        self._read_at[pod.uid] = now
        found = (parse_sample(line, pod.name, self._path) for line in lines)
        return [sample for sample in found if sample is not None]


async def _read_marked_lines(cluster: "Cluster", path: str, params: Mapping[str, str | int]) -> list[str]:
    """Lines that may hold a sample; of the others nothing is kept, however much comes."""
    mark = LOG_PREFIX.encode()
    kept: list[bytes] = []
    rest = b""
    async with aclosing(
        cluster.http.stream_chunks(path, params, silence_timeout=2 * LOG_TIMEOUT, verb="GET")
    ) as chunks:
        async for chunk in chunks:
            *whole, rest = (rest + (chunk or b"")).split(b"\n")
            kept += [line for line in whole if mark in line]
            rest = rest[:MAX_LINE_BYTES]
    kept.append(rest)
    return [line.decode("utf-8", "replace") for line in kept[-MAX_LINES_PER_LOG:]]

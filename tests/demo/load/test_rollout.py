"""A rollout on the local cluster under load: endpoints come and go, and no request fails."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.demo.environment import Environment, Options, environment
from zdd_tui.demo.manifests import CONTAINER, NAME, image
from zdd_tui.model.workload.rollout import DeploymentView


async def report(made: Environment, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while not condition(found := made.load()):  # noqa: ASYNC110  another process writes the file
            await asyncio.sleep(0.1)
    return found


@pytest.mark.timeout(300)
async def test_a_rollout_fails_no_request(server_folder: Path) -> None:
    folder = server_folder / "rollout"
    folder.mkdir()
    async with (
        environment(folder, Options(rows=2000, rate=150), lambda _: None) as made,
        Cluster.connect(str(made.kubeconfig), None, "default") as cluster,
    ):
        before = set((await report(made, lambda found: len(found["endpoints"]) == 4))["endpoints"])
        view = await cluster.set_image(NAME, CONTAINER, image(2), epoch=1, reason="test")
        deadline = time.monotonic() + 180  # beside other tests, each pod may take ten times as long as alone
        while not _done(view, len(pods := await cluster.list_pods(f"app={NAME}"))):
            assert time.monotonic() < deadline, _told(folder, view, *pods)
            await asyncio.sleep(0.1)
            view = await cluster.get_deployment(NAME)
        moved = time.time()
        after = await report(made, lambda found: found["updated_at"] > moved + 1)
        assert not before & set(after["endpoints"])
        assert len(after["endpoints"]) == 4
        assert (after["failures"], after["wrong"]) == (0, 0), after
        assert after["requests"] > 500


def _told(folder: Path, *state: object) -> str:
    """What a rollout that does not end can be understood by."""
    logs = [f"{log.name}: ...{log.read_text()[-600:]}" for log in sorted(folder.rglob("*.log"))]
    return "\n".join([*map(str, state), *logs])


def _done(view: DeploymentView, pods: int) -> bool:
    return view.observed and view.available == view.updated == view.desired == pods

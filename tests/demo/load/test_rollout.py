"""A rollout on the local cluster under load: endpoints come and go, and no request fails."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.demo.environment import DemoOptions, Environment, start_environment
from zdd_tui.demo.manifests import CONTAINER, NAME, image_name
from zdd_tui.model.workload.rollout import DeploymentView


async def wait_for_report(env: Environment, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while not condition(report := env.read_load_report()):  # noqa: ASYNC110  another process writes the file
            await asyncio.sleep(0.1)
    return report


@pytest.mark.timeout(300)
async def test_a_rollout_fails_no_request(server_folder: Path) -> None:
    folder = server_folder / "rollout"
    folder.mkdir()
    async with (
        start_environment(folder, DemoOptions(rows=2000, rate=150), lambda _: None) as env,
        Cluster.connect(str(env.kubeconfig), None, "default") as cluster,
    ):
        with redis.Redis.from_url(env.redis.url) as client:  # V2 is ready once it has read its flags
            client.mset({"ff:users_full_name_write": "false", "ff:users_full_name_read": "false"})
        before = set((await wait_for_report(env, lambda report: len(report["endpoints"]) == 4))["endpoints"])
        view = await cluster.set_image(NAME, CONTAINER, image_name(2), epoch=1, reason="test")
        deadline = time.monotonic() + 180  # beside other tests, each pod may take ten times as long as alone
        while not _is_done(view, len(pods := await cluster.list_pods(f"app={NAME}"))):
            assert time.monotonic() < deadline, _describe_state(folder, view, *pods)
            await asyncio.sleep(0.1)
            view = await cluster.get_deployment(NAME)
        done_at = time.time()
        after = await wait_for_report(env, lambda report: report["updated_at"] > done_at + 1)
        assert not before & set(after["endpoints"])
        assert len(after["endpoints"]) == 4
        assert (after["failures"], after["wrong"]) == (0, 0), after
        assert after["requests"] > 500


def _describe_state(folder: Path, *state: object) -> str:
    """The state and the logs, to explain a rollout that does not end."""
    logs = [f"{log.name}: ...{log.read_text()[-600:]}" for log in sorted(folder.rglob("*.log"))]
    return "\n".join([*map(str, state), *logs])


def _is_done(view: DeploymentView, pods: int) -> bool:
    return view.is_observed and view.available == view.updated == view.desired == pods

"""The Deployments of a confirmed command are compared with the cluster before it takes effect."""

import asyncio
import signal
from pathlib import Path
from typing import cast

import pytest

from tests.support.command_line import NAME as RELEASE
from tests.support.command_line import make_environment
from tests.support.kubelet import NAME, ClusterClient, deployment, make_cluster
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.store.client import Store
from zdd_tui.engine.preconditions import require_same_objects
from zdd_tui.model.errors import Refused
from zdd_tui.model.release.records import Actor, CommandRequest, StoredCommand
from zdd_tui.model.release.state import CommandKind, Precondition, ReleaseState

ANA = Actor("ana", "bastion")


def confirmed(kind: CommandKind, uid: str) -> StoredCommand:
    expected = Precondition("h", ReleaseState.WAITING, 0, ((NAME, uid),))
    return StoredCommand(1, CommandRequest(kind, expected=expected), ANA, 0.0)


async def recreate_deployment(api: ClusterClient) -> tuple[str, str]:
    """The uids of a Deployment and of the one that has its name now."""
    await api.create("deployments", deployment(0))
    first = (await api.cluster.get_deployment(NAME)).uid
    await api.cluster.http.request_json("DELETE", api.cluster.path("apis/apps/v1", "deployments", NAME))
    await api.create("deployments", deployment(0))
    return first, (await api.cluster.get_deployment(NAME)).uid


async def test_another_object_under_a_confirmed_name_is_refused(tmp_path: Path) -> None:
    async with make_cluster(tmp_path, kubelet=False) as api:
        first, now = await recreate_deployment(api)
        for kind in (CommandKind.ADVANCE, CommandKind.ROLLBACK):
            await require_same_objects(api.cluster, confirmed(kind, now))
            with pytest.raises(Refused, match=rf"created again since it was confirmed \(uid {first} is {now} now\)"):
                await require_same_objects(api.cluster, confirmed(kind, first))
        await api.cluster.http.request_json("DELETE", api.cluster.path("apis/apps/v1", "deployments", NAME))
        await require_same_objects(api.cluster, confirmed(CommandKind.ROLLBACK, now))  # a rollback does what it can
        with pytest.raises(Refused, match="deleted since it was confirmed"):
            await require_same_objects(api.cluster, confirmed(CommandKind.ADVANCE, now))


async def test_a_rollback_does_not_wait_for_a_cluster_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first undo moves reads back by a flag, which needs no cluster."""

    class SilentCluster:
        async def get_deployment(self, _name: str) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr("zdd_tui.engine.preconditions.RECHECK_TIMEOUT", 0.05)
    async with asyncio.timeout(5):
        await require_same_objects(cast(Cluster, SilentCluster()), confirmed(CommandKind.ROLLBACK, "uid"))


@pytest.mark.timeout(300)
async def test_the_agent_rechecks(tmp_path: Path, pg_dsn: str, redis_url: str) -> None:
    async with make_environment(tmp_path, pg_dsn, redis_url) as here, here.run_agent() as agent:
        await agent.wait_for_output("holding the lease")
        async with await Store.open(pg_dsn) as store:
            release_id = await store.find_release(RELEASE)
            assert release_id is not None
            record = await store.read_release(release_id)
            seen = Precondition(record.release.plan_hash, ReleaseState.PLANNED, -1, (("users-api", "the-one-before"),))
            command = await store.send_command(
                release_id, CommandRequest(CommandKind.ADVANCE, expected=seen), actor=ANA
            )
            answer = await store.wait_command(command, 60)
        assert answer.status == "refused"
        assert "uid the-one-before is" in answer.outcome
        assert await agent.wait_for_exit(signal.SIGTERM) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)

"""What `zdd check` finds out about a cluster (C3, C4, E5, E8): the cases of `tests/checks`, on both planes."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from tests.checks.test_rollouts import *  # noqa: F403 - the cases; `shop` is replaced
from tests.checks.test_rollouts import Shop
from tests.cluster.rest import KubernetesClient
from tests.cluster.webhook import mutating_webhook
from zdd_tui.backends.kubernetes.cluster import Cluster


@pytest.fixture
async def shop(api: KubernetesClient, tmp_path: Path) -> AsyncIterator[Shop]:
    async with Cluster.connect(str(api.plane.kubeconfig), None, api.namespace) as cluster:
        made = Shop(cluster, partial(mutating_webhook, api, tmp_path))
        await made.create()
        yield made

"""The core of tests/cluster on the embedded cluster alone, without kubectl: the part that `make test` runs.

The cases are those of tests/cluster; only where they run is chosen here.
"""

import secrets
from collections.abc import Iterator

import pytest

from tests.cluster import planes
from tests.cluster.fake_node import FakeNode
from tests.cluster.planes import ControlPlane
from tests.cluster.rest import KubernetesClient
from tests.cluster.test_api import *  # noqa: F403
from tests.cluster.test_drain import (  # noqa: F401
    test_a_pod_that_is_not_ready_is_listed_as_such,
    test_a_service_without_pods_has_an_empty_slice,
    test_a_stopping_pod_serves_but_takes_nothing_new,
)
from tests.cluster.test_owners import *  # noqa: F403
from tests.cluster.test_refusals import test_without_a_token_nothing_is_served  # noqa: F401
from tests.cluster.test_rollout import (  # noqa: F401
    test_a_deleted_pod_is_replaced,
    test_a_paused_rollout_starts_nothing_until_it_is_resumed,
    test_a_rollout_stays_within_its_bounds,
    test_a_rollout_without_progress_exceeds_its_deadline_and_can_go_back,
    test_going_back_reuses_the_replica_set_and_keeps_its_history,
    test_recreate_never_runs_two_versions,
    test_scaling_down_takes_pods_that_are_not_ready_first,
    test_scaling_during_a_rollout_keeps_the_proportions,
)
from tests.cluster.test_watch import (  # noqa: F401
    test_a_version_that_is_no_longer_kept_is_refused_with_410,
    test_a_watch_resumes_after_the_version_it_is_given,
    test_a_watch_without_a_version_begins_with_what_exists,
    test_initial_events_end_with_a_marked_bookmark,
    test_leaving_a_selection_reads_as_deleted_and_entering_as_added,
    test_versions_of_events_grow_and_a_deletion_has_one_of_its_own,
)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with planes.embedded(tmp_path_factory.mktemp("cluster")) as found, FakeNode(found).running():
        yield found


@pytest.fixture
def api(plane: ControlPlane) -> Iterator[KubernetesClient]:
    client = KubernetesClient(plane, f"case-{secrets.token_hex(3)}")
    client.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": client.namespace}})
    yield client
    client.delete(f"namespaces/{client.namespace}")

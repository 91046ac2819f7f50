"""Rollouts: how many pods at any moment, what the status says, how they fail, pause and go back."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.conftest import manifest
from tests.cluster.rest import STRATEGIC, Json, KubernetesClient, condition, is_complete

REVISION = "deployment.kubernetes.io/revision"


def complete(items: list[Json]) -> bool:
    return bool(items) and is_complete(items[0])


def set_image(api: KubernetesClient, image: str) -> Json:
    containers = [{"name": "web", "image": image}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    return api.patch("deployments/web", patch, STRATEGIC)


def by_revision(api: KubernetesClient) -> list[Json]:
    return sorted(api.items("replicasets"), key=lambda item: int(item["metadata"]["annotations"][REVISION]))


def is_ready(pod: Json) -> bool:
    return condition(pod, "Ready").get("status") == "True"


def is_active(pod: Json) -> bool:
    return "deletionTimestamp" not in pod["metadata"]


class ResourceObserver(threading.Thread):
    """Follows one resource of a namespace, showing every state to `look`, until that says that all is done."""

    def __init__(self, api: KubernetesClient, resource: str, look: Callable[[list[Json]], bool]) -> None:
        super().__init__()
        self._follow = lambda: api.until(resource, look)
        self._failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._follow()
        except BaseException as error:
            self._failure = error

    def finish(self) -> None:
        self.join(60)
        assert not self.is_alive()
        if self._failure is not None:
            raise self._failure


class RolloutExtremes:
    """What was seen while a rollout ran."""

    def __init__(self) -> None:
        self.most_pods = self.most_asked = self.versions = 0
        self.fewest_ready = 1_000

    def observe_pods(self, pods: list[Json]) -> None:
        active = [pod for pod in pods if is_active(pod)]
        self.most_pods = max(self.most_pods, len(active))
        self.fewest_ready = min(self.fewest_ready, sum(map(is_ready, active)))
        self.versions = max(self.versions, len({pod["spec"]["containers"][0]["image"] for pod in pods}))

    def observe_replica_sets(self, sets: list[Json]) -> None:
        self.most_asked = max(self.most_asked, sum(item["spec"]["replicas"] for item in sets))


def roll_out(api: KubernetesClient, image: str, count: int) -> RolloutExtremes:
    """Roll the image out, watching; returns when only ready pods of it are left."""
    seen = RolloutExtremes()
    finished = is_rolled_out(image, count)

    def look_at_pods(pods: list[Json]) -> bool:
        seen.observe_pods(pods)
        return bool(finished(pods))

    def look_at_sets(sets: list[Json]) -> bool:
        seen.observe_replica_sets(sets)
        running = {item["spec"]["template"]["spec"]["containers"][0]["image"]: item for item in sets}
        left = [name for name, item in running.items() if item.get("status", {}).get("replicas")]
        return left == [image] and running[image]["status"].get("readyReplicas") == count

    watches = [ResourceObserver(api, "pods", look_at_pods), ResourceObserver(api, "replicasets", look_at_sets)]
    set_image(api, image)
    for watch in watches:
        watch.finish()
    return seen


def is_rolled_out(image: str, count: int) -> Any:
    """All pods run the image, are ready, and nobody is leaving."""

    def done(pods: list[Json]) -> bool:
        images = [pod["spec"]["containers"][0]["image"] for pod in pods]
        return images == [image] * count and all(is_active(pod) and is_ready(pod) for pod in pods)

    return done


@pytest.mark.parametrize(
    ("surge", "unavailable", "most", "fewest"),
    [("25%", "25%", 5, 3), (1, 0, 5, 4), (0, 1, 4, 3), ("50%", "50%", 6, 2), (4, 0, 8, 4)],
)
def test_a_rollout_stays_within_its_bounds(
    api: KubernetesClient, surge: int | str, unavailable: int | str, most: int, fewest: int
) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    api.create("deployments", manifest(replicas=4, strategy=strategy))
    api.until("pods", is_rolled_out("shop/web:1", 4))
    api.until("deployments", complete)
    seen = roll_out(api, "shop/web:2", 4)
    assert seen.most_asked <= most
    assert seen.fewest_ready >= fewest
    if not api.plane.real:  # there, ReplicaSets are worked on side by side, and one may create before another deletes
        assert seen.most_pods <= most
    api.until("deployments", complete)


def test_recreate_never_runs_two_versions(api: KubernetesClient) -> None:
    api.create("deployments", manifest(replicas=2, strategy={"type": "Recreate"}))
    api.until("pods", is_rolled_out("shop/web:1", 2))
    api.until("deployments", complete)
    seen = roll_out(api, "shop/web:2", 2)
    assert (seen.versions, seen.fewest_ready, seen.most_pods) == (1, 0, 2)


def test_the_status_of_a_finished_rollout(api: KubernetesClient) -> None:
    api.create("deployments", manifest())
    done = api.until(
        "deployments", lambda i: complete(i) and condition(i[0], "Progressing")["reason"] == "NewReplicaSetAvailable"
    )[0]
    newest = by_revision(api)[-1]["metadata"]["name"]
    assert condition(done, "Available")["reason"] == "MinimumReplicasAvailable"
    assert condition(done, "Progressing")["message"] == f'ReplicaSet "{newest}" has successfully progressed.'
    assert "unavailableReplicas" not in done["status"]
    assert "terminatingReplicas" not in done["status"]
    messages = {item["message"] for item in api.items("events", fieldSelector="involvedObject.name=web")}
    assert messages == {f"Scaled up replica set {newest} from 0 to 3"}


def test_readiness_counts_only_after_min_ready_seconds(api: KubernetesClient) -> None:
    api.create("deployments", manifest(replicas=1, minReadySeconds=3))
    early = api.until("deployments", lambda i: i[0].get("status", {}).get("readyReplicas") == 1)[0]
    assert early["status"].get("availableReplicas", 0) == 0
    assert condition(early, "Available")["reason"] == "MinimumReplicasUnavailable"
    late = api.until("deployments", complete)[0]
    waited = condition(late, "Available")["lastTransitionTime"] > condition(early, "Available")["lastTransitionTime"]
    assert waited


def test_a_rollout_without_progress_exceeds_its_deadline_and_can_go_back(api: KubernetesClient) -> None:
    api.create("deployments", manifest(replicas=2, progressDeadlineSeconds=3))
    api.until("deployments", complete)
    before = api.get("deployments/web")["spec"]["template"]
    template = {"metadata": {"annotations": {"test/ready-after": "never"}}}
    api.patch("deployments/web", {"spec": {"template": template}})
    failed = api.until("deployments", lambda i: condition(i[0], "Progressing").get("status") == "False")[0]
    newest = by_revision(api)[-1]["metadata"]["name"]
    assert condition(failed, "Progressing")["reason"] == "ProgressDeadlineExceeded"
    assert condition(failed, "Progressing")["message"] == f'ReplicaSet "{newest}" has timed out progressing.'
    assert failed["status"]["availableReplicas"] == 2, "the old pods still serve"
    replacement = [{"op": "replace", "path": "/spec/template", "value": before}]
    api.patch("deployments/web", replacement, "application/json-patch+json")
    back = api.until("deployments", lambda i: complete(i) and condition(i[0], "Progressing")["status"] == "True")[0]
    assert condition(back, "Progressing")["reason"] == "NewReplicaSetAvailable"


def test_going_back_reuses_the_replica_set_and_keeps_its_history(api: KubernetesClient) -> None:
    api.create("deployments", manifest(replicas=1))
    api.until("deployments", complete)
    for image in ("shop/web:2", "shop/web:1"):
        set_image(api, image)
        api.until("deployments", complete)
    older, newer = by_revision(api)
    notes = newer["metadata"]["annotations"]
    assert newer["spec"]["template"]["spec"]["containers"][0]["image"] == "shop/web:1"
    assert (notes[REVISION], notes["deployment.kubernetes.io/revision-history"]) == ("3", "1")
    assert older["metadata"]["annotations"][REVISION] == "2"
    assert api.get("deployments/web")["metadata"]["annotations"][REVISION] == "3"


def test_a_paused_rollout_starts_nothing_until_it_is_resumed(api: KubernetesClient) -> None:
    api.create("deployments", manifest(replicas=2))
    api.until("deployments", complete)
    api.patch("deployments/web", {"spec": {"paused": True}})
    api.until("deployments", lambda i: condition(i[0], "Progressing").get("reason") == "DeploymentPaused")
    generation = set_image(api, "shop/web:2")["metadata"]["generation"]
    api.patch("deployments/web/scale", {"spec": {"replicas": 3}})
    scaled = api.until("deployments", lambda i: i[0]["status"].get("availableReplicas") == 3)[0]
    assert scaled["status"]["observedGeneration"] > generation
    assert scaled["status"].get("updatedReplicas", 0) == 0
    assert len(api.items("replicasets")) == 1
    api.patch("deployments/web", {"spec": {"paused": None}})
    api.until("pods", is_rolled_out("shop/web:2", 3))
    api.until("deployments", complete)


def test_scaling_during_a_rollout_keeps_the_proportions(api: KubernetesClient) -> None:
    strategy = {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    api.create("deployments", manifest(replicas=10, strategy=strategy))
    api.until("deployments", complete)
    template: Json = {"metadata": {"annotations": {"test/ready-after": "never"}}}
    template["spec"] = {"containers": [{"name": "web", "image": "shop/web:2"}]}
    api.patch("deployments/web", {"spec": {"template": template}}, STRATEGIC)

    def sizes(items: list[Json]) -> list[int]:
        return sorted(item["spec"]["replicas"] for item in items)

    api.until("replicasets", lambda items: sizes(items) == [5, 8])
    api.until("deployments", lambda i: i[0]["status"].get("unavailableReplicas") == 5)
    api.patch("deployments/web/scale", {"spec": {"replicas": 15}})
    api.until("replicasets", lambda items: sizes(items) == [7, 11])


def test_old_replica_sets_beyond_the_limit_go(api: KubernetesClient) -> None:
    api.create("deployments", manifest(replicas=1, revisionHistoryLimit=1))
    api.until("deployments", complete)
    for number in (2, 3):
        set_image(api, f"shop/web:{number}")
        api.until("deployments", complete)
    api.until("replicasets", lambda items: len(items) == 2)
    images = [item["spec"]["template"]["spec"]["containers"][0]["image"] for item in by_revision(api)]
    assert images == ["shop/web:2", "shop/web:3"]


def test_scaling_down_takes_pods_that_are_not_ready_first(api: KubernetesClient) -> None:
    api.create("deployments", manifest(replicas=2))
    api.until("deployments", complete)
    ready = {pod["metadata"]["name"] for pod in api.items("pods")}
    api.patch("deployments/web/scale", {"spec": {"replicas": 3}})
    api.until("deployments", complete)
    names = {pod["metadata"]["name"] for pod in api.items("pods")}
    young = (names - ready).pop()
    status = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    api.patch(f"pods/{young}/status", status, STRATEGIC)
    api.patch("deployments/web/scale", {"spec": {"replicas": 2}})
    left = api.until("pods", lambda pods: len(pods) == 2)
    assert {pod["metadata"]["name"] for pod in left} == ready


def test_a_deleted_pod_is_replaced(api: KubernetesClient) -> None:
    api.create("deployments", manifest(replicas=1))
    api.until("deployments", complete)
    (old,) = api.items("pods")
    api.delete(f"pods/{old['metadata']['name']}")
    new = api.until("pods", lambda pods: len(pods) == 1 and pods[0]["metadata"]["uid"] != old["metadata"]["uid"])
    assert new[0]["metadata"]["labels"] == old["metadata"]["labels"]

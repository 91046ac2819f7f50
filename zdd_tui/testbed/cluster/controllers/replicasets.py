"""The ReplicaSet controller: keeps the desired number of active pods, and counts them in the status."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from zdd_tui.testbed.cluster import kinds, selectors
from zdd_tui.testbed.cluster.controllers import pods as podlib
from zdd_tui.testbed.cluster.controllers.base import Controller, QueueKey
from zdd_tui.testbed.cluster.errors import ApiError
from zdd_tui.testbed.cluster.meta import (
    Json,
    condition_of,
    controller_of,
    controller_reference,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    now,
    owner_references,
    prune_empty,
    uid_of,
    without_condition,
)
from zdd_tui.testbed.cluster.store import ObjectChange

COMPONENT = "replicaset-controller"
FAILED_CREATE = "FailedCreate"
# Pods created or deleted in one sync (BurstReplicas).
BURST_REPLICAS = 500


class ReplicaSetController(Controller):
    watched_kinds = frozenset({kinds.REPLICA_SET, kinds.POD})

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._orphaned_pods: set[QueueKey] = set()

    def keys_for(self, change: ObjectChange) -> Iterable[QueueKey]:
        obj = change.current
        key = key_of(obj)
        if change.kind is kinds.REPLICA_SET:
            return [key]
        before = controller_of(change.previous) if change.previous else None
        owner = controller_of(obj)
        found = {(key[0], ref["name"]) for ref in (before, owner) if ref and ref["kind"] == "ReplicaSet"}
        self._orphaned_pods.discard(key)
        if owner is None and not change.deleted:
            self._orphaned_pods.add(key)
            for item in self.store.items(kinds.REPLICA_SET, key[0]):
                if selectors.match_label_selector(item["spec"]["selector"])(labels_of(obj)):
                    found.add(key_of(item))
        return found

    def sync(self, namespace: str, name: str) -> None:
        replica_set = self.store.get(kinds.REPLICA_SET, namespace, name)
        if replica_set is None:
            return
        pods = [pod for pod in self._claim_pods(replica_set) if podlib.is_active(pod)]
        failure: ApiError | None = None
        if not is_deleting(replica_set):
            failure = self._reconcile_pods(replica_set, pods)
            pods = [pod for _, pod in self.store.owned_by(uid_of(replica_set), kinds.POD) if podlib.is_active(pod)]
        self._write_status(replica_set, pods, failure)
        if failure is not None:
            raise failure

    def _claim_pods(self, replica_set: Json) -> list[Json]:
        """Its pods: orphans that match are adopted, pods that no longer match are released."""
        matches = selectors.match_label_selector(replica_set["spec"]["selector"])
        claimed = []
        for _, pod in self.store.owned_by(uid_of(replica_set), kinds.POD):
            if matches(labels_of(pod)) or is_deleting(replica_set):
                claimed.append(pod)
            else:
                others = [ref for ref in owner_references(pod) if ref["uid"] != uid_of(replica_set)]
                self.api.write_metadata(kinds.POD, pod, "ownerReferences", others)
        namespace = namespace_of(replica_set)
        for key in [key for key in self._orphaned_pods if key[0] == namespace and not is_deleting(replica_set)]:
            orphan = self.store.get(kinds.POD, *key)
            if orphan is not None and matches(labels_of(orphan)) and podlib.is_active(orphan):
                owners = [*owner_references(orphan), controller_reference(replica_set)]
                claimed.append(self.api.write_metadata(kinds.POD, orphan, "ownerReferences", owners))
        return claimed

    def _reconcile_pods(self, replica_set: Json, pods: list[Json]) -> ApiError | None:
        """Create or delete pods; the error where the API refused to create one."""
        missing = replica_set["spec"]["replicas"] - len(pods)
        try:
            for _ in range(min(missing, BURST_REPLICAS)):
                self._create_pod(replica_set)
        except ApiError as error:
            self.recorder.record(replica_set, COMPONENT, FAILED_CREATE, f"Error creating: {error}", warning=True)
            return error
        if missing < 0:
            for pod in self._pods_to_delete(replica_set, pods, min(-missing, BURST_REPLICAS)):
                self.api.delete(kinds.POD, *key_of(pod))
                self.recorder.record(replica_set, COMPONENT, "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")
        return None

    def _create_pod(self, replica_set: Json) -> None:
        template = replica_set["spec"]["template"]
        copied = {k: v for k, v in template.get("metadata", {}).items() if k in ("labels", "annotations", "finalizers")}
        metadata = {
            **copied,
            "generateName": name_of(replica_set) + "-",
            "ownerReferences": [controller_reference(replica_set)],
        }
        body = {"metadata": metadata, "spec": template["spec"]}
        pod = self.api.create(kinds.POD, namespace_of(replica_set), body)
        self.recorder.record(replica_set, COMPONENT, "SuccessfulCreate", f"Created pod: {name_of(pod)}")

    def _pods_to_delete(self, replica_set: Json, pods: list[Json], count: int) -> list[Json]:
        owner = controller_of(replica_set)
        family = self.store.owned_by(owner["uid"], kinds.REPLICA_SET) if owner else [(kinds.REPLICA_SET, replica_set)]
        related = [pod for _, item in family for _, pod in self.store.owned_by(uid_of(item), kinds.POD)]
        crowd = Counter(pod["spec"].get("nodeName", "") for pod in related if podlib.is_active(pod))
        return podlib.deletion_order(pods, dict(crowd), datetime.now(UTC))[:count]

    def _write_status(self, replica_set: Json, pods: list[Json], failure: ApiError | None) -> None:
        moment = datetime.now(UTC)
        wait_ready = replica_set["spec"].get("minReadySeconds", 0)
        wanted = replica_set["spec"]["template"].get("metadata", {}).get("labels") or {}
        status: Json = {
            "replicas": len(pods),
            "fullyLabeledReplicas": sum(wanted.items() <= labels_of(pod).items() for pod in pods),
            "readyReplicas": sum(podlib.is_ready(pod) for pod in pods),
            "availableReplicas": sum(podlib.is_available(pod, wait_ready, moment) for pod in pods),
            "observedGeneration": replica_set["metadata"]["generation"],
            "conditions": _conditions(replica_set, failure),
        }
        status = prune_empty(status, keep=frozenset({"replicas"}))
        if status != replica_set.get("status"):
            self.api.write(kinds.REPLICA_SET, replica_set, "status", status)
        # Come back when the next pod has been ready for minReadySeconds.
        due = [at for pod in pods if (at := podlib.available_from(pod, wait_ready)) is not None and at > moment]
        if due:
            wait = (min(due) - moment).total_seconds()
            self.requeue_after(key_of(replica_set), wait + 0.01)


def _conditions(replica_set: Json, failure: ApiError | None) -> list[Json]:
    kept = without_condition(replica_set["status"].get("conditions"), "ReplicaFailure")
    if failure is None:
        return kept
    old = condition_of(replica_set, "ReplicaFailure")
    since = old["lastTransitionTime"] if old else now()
    made = {"status": "True", "lastTransitionTime": since, "reason": FAILED_CREATE, "message": str(failure)}
    return [*kept, {"type": "ReplicaFailure", **made}]

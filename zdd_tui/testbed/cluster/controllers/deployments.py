"""The Deployment controller: ReplicaSets that follow the template, and the status of the rollout."""

from collections.abc import Iterable
from datetime import UTC, datetime

from zdd_tui.testbed.cluster import kinds, selectors
from zdd_tui.testbed.cluster.api import Api
from zdd_tui.testbed.cluster.controllers import deployment_status as statuses
from zdd_tui.testbed.cluster.controllers import revisions, rollout
from zdd_tui.testbed.cluster.controllers.base import Controller, QueueKey
from zdd_tui.testbed.cluster.controllers.rollout import ReplicaSetSize, RolloutBounds
from zdd_tui.testbed.cluster.errors import ApiError
from zdd_tui.testbed.cluster.meta import (
    Json,
    annotations_of,
    condition_of,
    controller_of,
    controller_reference,
    deep_copy,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    owner_references,
    prune_empty,
    status_of,
    uid_of,
)
from zdd_tui.testbed.cluster.store import ObjectChange

COMPONENT = "deployment-controller"


def rollout_bounds(deployment: Json) -> RolloutBounds:
    spec = deployment["spec"]
    if spec["strategy"]["type"] != "RollingUpdate":
        return RolloutBounds(spec["replicas"], 0, 0)
    rolling = spec["strategy"]["rollingUpdate"]
    return rollout.resolve_bounds(spec["replicas"], rolling["maxSurge"], rolling["maxUnavailable"])


def replica_set_size(replica_set: Json) -> ReplicaSetSize:
    notes = annotations_of(replica_set)
    return ReplicaSetSize(
        name_of(replica_set),
        replica_set["spec"]["replicas"],
        replica_set["status"].get("availableReplicas", 0),
        replica_set["metadata"]["creationTimestamp"],
        revisions.parse_number(notes.get(revisions.DESIRED_REPLICAS)),
        revisions.parse_number(notes.get(revisions.MAX_REPLICAS)),
    )


class _DeploymentSync:
    """One sync of one Deployment: its ReplicaSets as they are now, and writes to them."""

    def __init__(self, controller: "DeploymentController", deployment: Json, sets: list[Json]) -> None:
        self.api: Api = controller.api
        self.recorder = controller.recorder
        self.deployment = deployment
        self.limit = rollout_bounds(deployment)
        ordered = sorted(sets, key=lambda item: (item["metadata"]["creationTimestamp"], name_of(item)))
        template = deployment["spec"]["template"]
        self.new = next((item for item in ordered if revisions.same_template(item["spec"]["template"], template)), None)
        self.old = [item for item in ordered if item is not self.new]

    @property
    def all_sets(self) -> list[Json]:
        return [*self.old, *([self.new] if self.new else [])]

    def write_status(self, status: Json, annotations: dict[str, str] | None = None) -> None:
        status = prune_empty(status)  # as the API stores it: zeros left out
        if status != self.deployment.get("status") or annotations is not None:
            self.deployment = self.api.write(kinds.DEPLOYMENT, self.deployment, "status", status, annotations)

    def set_progressing(self, status: str, reason: str, message: str, revision: str | None = None) -> None:
        """Write the Progressing condition and, where given, the Deployment's revision."""
        current = status_of(self.deployment)
        conditions = list(current.get("conditions") or [])
        if statuses.progress_deadline(self.deployment) is not None and reason:
            made = statuses.condition("Progressing", status, reason, message, datetime.now(UTC))
            conditions = statuses.with_condition(conditions, made)
        annotations = dict(annotations_of(self.deployment))
        if revision is not None:
            annotations[revisions.REVISION] = revision
        self.write_status({**current, "conditions": conditions}, annotations)

    def sync_revision(self) -> None:
        """Bring the existing new ReplicaSet's annotations and the Deployment's revision up to date."""
        if self.new is None:
            return
        wanted = revisions.replica_set_annotations(self.deployment, self.new, revisions.next_revision(self.old))
        spec = {**self.new["spec"]}
        spec.pop("minReadySeconds", None)
        if self.deployment["spec"].get("minReadySeconds"):
            spec["minReadySeconds"] = self.deployment["spec"]["minReadySeconds"]
        if wanted != annotations_of(self.new) or spec != self.new["spec"]:
            self.new = self.api.write(kinds.REPLICA_SET, self.new, "spec", spec, wanted)
        revision = annotations_of(self.new).get(revisions.REVISION)
        has_deadline = statuses.progress_deadline(self.deployment) is not None
        unknown = has_deadline and condition_of(self.deployment, "Progressing") is None
        if annotations_of(self.deployment).get(revisions.REVISION) != revision or unknown:
            found = f'Found new replica set "{name_of(self.new)}"'
            self.set_progressing("True", "FoundNewReplicaSet" if unknown else "", found, revision)

    def create_new(self) -> Json:
        """Create the ReplicaSet for the present template. Raises ApiError where that fails."""
        spec = self.deployment["spec"]
        value = revisions.template_hash(spec["template"], status_of(self.deployment).get("collisionCount", 0))
        template = revisions.with_label(spec["template"], value)
        selector = deep_copy(spec["selector"])
        selector.setdefault("matchLabels", {})[revisions.HASH_LABEL] = value
        name = f"{name_of(self.deployment)[: 252 - len(value)]}-{value}"
        revision = revisions.next_revision(self.old)
        rolling = spec["strategy"]["type"] == "RollingUpdate"
        others = [replica_set_size(item) for item in self.old]
        blank = ReplicaSetSize(name, 0, 0)
        replicas = rollout.next_new_size(self.limit, blank, [*others, blank]) if rolling else spec["replicas"]
        body: Json = {
            "metadata": {
                "name": name,
                "labels": template["metadata"]["labels"],
                "ownerReferences": [controller_reference(self.deployment)],
            },
            "spec": {"replicas": replicas, "selector": selector, "template": template},
        }
        if spec.get("minReadySeconds"):
            body["spec"]["minReadySeconds"] = spec["minReadySeconds"]
        notes = revisions.replica_set_annotations(self.deployment, body, revision)
        body["metadata"]["annotations"] = notes | revisions.replica_annotations(self.limit.replicas, self.limit.surge)
        try:
            self.new = self.api.create(kinds.REPLICA_SET, namespace_of(self.deployment), body)
        except ApiError as error:
            self._record_create_failure(name, error)
            raise
        if replicas > 0:
            text = f"Scaled up replica set {name} from 0 to {replicas}"
            self.recorder.record(self.deployment, COMPONENT, "ScalingReplicaSet", text)
        text = f'Created new replica set "{name}"'
        self.set_progressing("True", "NewReplicaSetCreated", text, str(revision))
        return self.new

    def _record_create_failure(self, name: str, error: ApiError) -> None:
        if error.reason == "AlreadyExists":  # another template with the same hash: the next try gets another name
            current = status_of(self.deployment)
            self.write_status({**current, "collisionCount": current.get("collisionCount", 0) + 1})
            return
        text = f'Failed to create new replica set "{name}": {error}'
        self.set_progressing("False", "ReplicaSetCreateError", text)
        self.recorder.record(self.deployment, COMPONENT, "ReplicaSetCreateError", text, warning=True)

    def resize(self, wanted: dict[str, int]) -> bool:
        """Scale the named ReplicaSets; True if any size changed."""
        changed = False
        for index, item in enumerate(self.old):
            if name_of(item) in wanted:
                self.old[index], scaled = self._scale(item, wanted[name_of(item)])
                changed |= scaled
        if self.new is not None and name_of(self.new) in wanted:
            self.new, scaled = self._scale(self.new, wanted[name_of(self.new)])
            changed |= scaled
        return changed

    def _scale(self, replica_set: Json, size: int) -> tuple[Json, bool]:
        before = replica_set["spec"]["replicas"]
        notes = annotations_of(replica_set) | revisions.replica_annotations(self.limit.replicas, self.limit.surge)
        if before == size and notes == annotations_of(replica_set):
            return replica_set, False
        spec = {**replica_set["spec"], "replicas": size}
        scaled = self.api.write(kinds.REPLICA_SET, replica_set, "spec", spec, notes)
        if before == size:
            return scaled, False
        text = f"Scaled {'up' if before < size else 'down'} replica set {name_of(scaled)} from {before} to {size}"
        self.recorder.record(self.deployment, COMPONENT, "ScalingReplicaSet", text)
        return scaled, True

    def clean_history(self) -> None:
        """Delete the oldest ReplicaSets beyond revisionHistoryLimit that run nothing."""
        kept = self.deployment["spec"]["revisionHistoryLimit"]
        alive = sorted((item for item in self.old if not is_deleting(item)), key=revisions.revision_of)
        for item in alive[: max(0, len(alive) - kept)]:
            status = status_of(item)
            behind = item["metadata"]["generation"] > status.get("observedGeneration", 0)
            if not (status.get("replicas") or item["spec"]["replicas"] or behind):
                self.api.delete(kinds.REPLICA_SET, *key_of(item))


class DeploymentController(Controller):
    watched_kinds = frozenset({kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.POD})

    def keys_for(self, change: ObjectChange) -> Iterable[QueueKey]:
        obj = change.current
        if change.kind is kinds.DEPLOYMENT:
            return [key_of(obj)]
        if change.kind is kinds.POD:
            # Only Recreate waits for pods to be gone rather than for their ReplicaSet's numbers.
            owner = controller_of(obj) if change.deleted else None
            replica_set = self.store.by_uid(owner["uid"]) if owner else None
            return self._owning_deployment(replica_set) if replica_set else []
        if controller_of(obj) is not None:
            return self._owning_deployment(obj)
        return [
            key_of(item)
            for item in self.store.items(kinds.DEPLOYMENT, namespace_of(obj))
            if selectors.match_label_selector(item["spec"]["selector"])(labels_of(obj))
        ]

    def _owning_deployment(self, replica_set: Json) -> list[QueueKey]:
        owner = controller_of(replica_set)
        return [(namespace_of(replica_set), owner["name"])] if owner and owner["kind"] == "Deployment" else []

    def sync(self, namespace: str, name: str) -> None:
        deployment = self.store.get(kinds.DEPLOYMENT, namespace, name)
        if deployment is None:
            return
        moment = datetime.now(UTC)
        run = _DeploymentSync(self, deployment, self._replica_sets(deployment))
        if is_deleting(deployment):
            run.write_status(statuses.base_status(deployment, run.new, run.old, run.limit, moment))
            return
        self._record_pause(run)
        run.sync_revision()
        spec = deployment["spec"]
        if spec.get("paused") or self._is_scaling(run):
            self._scale(run, moment)
        elif spec["strategy"]["type"] == "Recreate":
            self._recreate(run, moment)
        else:
            self._rolling_update(run, moment)

    def _replica_sets(self, deployment: Json) -> list[Json]:
        """Owned ones, and orphans that match, which are adopted."""
        matches = selectors.match_label_selector(deployment["spec"]["selector"])
        found = [item for _, item in self.store.owned_by(uid_of(deployment), kinds.REPLICA_SET)]
        for item in self.store.items(kinds.REPLICA_SET, namespace_of(deployment)):
            if controller_of(item) is None and matches(labels_of(item)) and not is_deleting(deployment):
                owners = [*owner_references(item), controller_reference(deployment)]
                found.append(self.api.write_metadata(kinds.REPLICA_SET, item, "ownerReferences", owners))
        return found

    def _record_pause(self, run: _DeploymentSync) -> None:
        """Conditions that keep the time of a pause from counting against the deadline."""
        reason = (condition_of(run.deployment, "Progressing") or {}).get("reason")
        if statuses.progress_deadline(run.deployment) is None or reason == statuses.TIMED_OUT:
            return
        if run.deployment["spec"].get("paused") and reason != statuses.PAUSED:
            run.set_progressing("Unknown", statuses.PAUSED, "Deployment is paused")
        elif not run.deployment["spec"].get("paused") and reason == statuses.PAUSED:
            run.set_progressing("Unknown", statuses.RESUMED, "Deployment is resumed")

    def _is_scaling(self, run: _DeploymentSync) -> bool:
        notes = [replica_set_size(item).desired_annotation for item in run.all_sets if item["spec"]["replicas"] > 0]
        return any(note is not None and note != run.limit.replicas for note in notes)

    def _scale(self, run: _DeploymentSync, moment: datetime) -> None:
        """Paused, or scaled in the middle of a rollout: keep the proportions and start nothing new."""
        limit = run.limit
        active = [item for item in run.all_sets if item["spec"]["replicas"] > 0]
        only = active[0] if len(active) == 1 else None
        if not active and run.all_sets:
            only = run.new or run.old[-1]
        if only is not None:
            if only["spec"]["replicas"] != limit.replicas:
                run.resize({name_of(only): limit.replicas})
        elif rollout.is_saturated(limit, replica_set_size(run.new) if run.new else None):
            run.resize({name_of(item): 0 for item in run.old if item["spec"]["replicas"] > 0})
        elif run.deployment["spec"]["strategy"]["type"] == "RollingUpdate":
            total = status_of(run.deployment).get("replicas", 0)
            run.resize(rollout.proportional_sizes(limit, [replica_set_size(item) for item in run.all_sets], total))
        if run.deployment["spec"].get("paused"):
            run.clean_history()
        run.write_status(statuses.base_status(run.deployment, run.new, run.old, limit, moment))

    def _rolling_update(self, run: _DeploymentSync, moment: datetime) -> None:
        """One step of a rolling update: up if there is room, else down if there is slack."""
        new = run.new or run.create_new()
        limit, size = run.limit, replica_set_size(new)
        wanted = size.replicas
        if size.replicas > limit.replicas:
            wanted = limit.replicas
        elif size.replicas < limit.replicas:
            wanted = rollout.next_new_size(limit, size, [replica_set_size(item) for item in run.all_sets])
        if wanted == size.replicas or not run.resize({name_of(new): wanted}):
            shrunk = run.resize(rollout.next_old_sizes(limit, size, [replica_set_size(item) for item in run.old]))
            if not shrunk and self._is_complete(run.deployment):
                run.clean_history()
        self._finish(run, moment)

    def _recreate(self, run: _DeploymentSync, moment: datetime) -> None:
        """All old pods away first, then the new ones."""
        shrunk = run.resize({name_of(item): 0 for item in run.old if item["spec"]["replicas"] > 0})
        if not shrunk and not self._has_old_pods(run):
            run.resize({name_of(run.new or run.create_new()): run.limit.replicas})
            if self._is_complete(run.deployment):
                run.clean_history()
        self._finish(run, moment)

    def _has_old_pods(self, run: _DeploymentSync) -> bool:
        pods = [pod for item in run.old for _, pod in self.store.owned_by(uid_of(item), kinds.POD)]
        return any(pod["status"].get("phase") not in ("Succeeded", "Failed") for pod in pods)

    def _is_complete(self, deployment: Json) -> bool:
        status = status_of(deployment)
        current = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        return current and rollout.is_complete(deployment["spec"]["replicas"], statuses.replica_counts(status))

    def _finish(self, run: _DeploymentSync, moment: datetime) -> None:
        status = statuses.deployment_rollout_status(run.deployment, run.new, run.old, run.limit, moment)
        run.write_status(status)
        wait = statuses.recheck_after(run.deployment, status, moment)
        if wait is not None:
            self.requeue_after(key_of(run.deployment), wait)

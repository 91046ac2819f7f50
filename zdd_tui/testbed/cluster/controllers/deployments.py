"""The Deployment controller: ReplicaSets that follow the template, and the status of the rollout."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import ClassVar

from zdd_tui.testbed.cluster import kinds, selectors
from zdd_tui.testbed.cluster.api import Api
from zdd_tui.testbed.cluster.controllers import deployment_status as statuses
from zdd_tui.testbed.cluster.controllers import revisions, rollout
from zdd_tui.testbed.cluster.controllers.base import Controller, QueueKey
from zdd_tui.testbed.cluster.controllers.rollout import ReplicaSetSize, RolloutBounds
from zdd_tui.testbed.cluster.controllers.template import HASH_LABEL, same_template, template_hash, with_label
from zdd_tui.testbed.cluster.errors import ApiError
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.meta import (
    Json,
    annotations_of,
    controller_of,
    controller_reference,
    deep_copy,
    find_condition,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    owner_references,
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
        self.new = next((item for item in ordered if same_template(item["spec"]["template"], template)), None)
        self.old = [item for item in ordered if item is not self.new]

    @property
    def all_sets(self) -> list[Json]:
        return [*self.old, *([self.new] if self.new else [])]

    def write_status(self, status: Json, annotations: dict[str, str] | None = None) -> None:
        self.deployment = self.api.set_status(
            kinds.DEPLOYMENT, self.deployment, statuses.as_stored(status), annotations
        )

    def set_progressing(self, status: str, reason: str, message: str, revision: str | None = None) -> None:
        """Write the Progressing condition and, where given, the Deployment's revision."""
        current = self.deployment.get("status") or {}
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
            self.new = self.api.modify(kinds.REPLICA_SET, self.new, spec, wanted)
        revision = annotations_of(self.new).get(revisions.REVISION)
        known = find_condition((self.deployment.get("status") or {}).get("conditions"), "Progressing")
        unknown = known is None and statuses.progress_deadline(self.deployment) is not None
        if annotations_of(self.deployment).get(revisions.REVISION) != revision or unknown:
            found = f'Found new replica set "{name_of(self.new)}"'
            self.set_progressing("True", "FoundNewReplicaSet" if unknown else "", found, revision)

    def create_new(self) -> None:
        """Create the ReplicaSet for the present template. Raises ApiError where that fails."""
        spec = self.deployment["spec"]
        collisions = self.deployment.get("status", {}).get("collisionCount", 0)
        value = template_hash(spec["template"], collisions)
        template = with_label(spec["template"], value)
        selector = deep_copy(spec["selector"])
        selector.setdefault("matchLabels", {})[HASH_LABEL] = value
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
            self.recorder.normal(self.deployment, COMPONENT, "ScalingReplicaSet", text)
        text = f'Created new replica set "{name}"'
        self.set_progressing("True", "NewReplicaSetCreated", text, str(revision))

    def _record_create_failure(self, name: str, error: ApiError) -> None:
        if error.reason == "AlreadyExists":  # another template with the same hash: the next try gets another name
            current = self.deployment.get("status") or {}
            self.write_status({**current, "collisionCount": current.get("collisionCount", 0) + 1})
            return
        text = f'Failed to create new replica set "{name}": {error}'
        self.set_progressing("False", "ReplicaSetCreateError", text)
        self.recorder.warning(self.deployment, COMPONENT, "ReplicaSetCreateError", text)

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
        scaled = self.api.modify(kinds.REPLICA_SET, replica_set, spec, notes)
        if before == size:
            return scaled, False
        text = f"Scaled {'up' if before < size else 'down'} replica set {name_of(scaled)} from {before} to {size}"
        self.recorder.normal(self.deployment, COMPONENT, "ScalingReplicaSet", text)
        return scaled, True

    def clean_history(self) -> None:
        """Delete the oldest ReplicaSets beyond revisionHistoryLimit that run nothing."""
        kept = self.deployment["spec"].get("revisionHistoryLimit")
        alive = sorted((item for item in self.old if not is_deleting(item)), key=revisions.revision_of)
        if kept is None:
            return
        for item in alive[: max(0, len(alive) - kept)]:
            status = item.get("status") or {}
            behind = item["metadata"]["generation"] > status.get("observedGeneration", 0)
            if status.get("replicas") or item["spec"]["replicas"] or behind:
                continue
            self.api.delete(kinds.REPLICA_SET, namespace_of(item), name_of(item))


class DeploymentController(Controller):
    kinds: ClassVar[frozenset[ResourceType]] = frozenset({kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.POD})

    def keys_for(self, change: ObjectChange) -> Iterable[QueueKey]:
        obj = change.current
        if change.kind is kinds.DEPLOYMENT:
            return [(namespace_of(obj), name_of(obj))]
        if change.kind is kinds.POD:
            # Only Recreate waits for pods to be gone rather than for their ReplicaSet's numbers.
            return self._recreating_deployment(obj) if change.deleted else []
        owner = controller_of(obj)
        if owner is not None:
            return [(namespace_of(obj), owner["name"])] if owner["kind"] == "Deployment" else []
        return [(namespace_of(d), name_of(d)) for d in self._matching_deployments(obj)]

    def _recreating_deployment(self, pod: Json) -> list[QueueKey]:
        owner = controller_of(pod)
        parent = self.store.by_uid(owner["uid"]) if owner else None
        above = controller_of(parent) if parent else None
        return [(namespace_of(pod), above["name"])] if above and above["kind"] == "Deployment" else []

    def _matching_deployments(self, replica_set: Json) -> list[Json]:
        return [
            item
            for item in self.store.items(kinds.DEPLOYMENT, namespace_of(replica_set))
            if selectors.match_label_selector(item["spec"]["selector"])(labels_of(replica_set))
        ]

    def sync(self, namespace: str, name: str) -> None:
        deployment = self.store.get(kinds.DEPLOYMENT, namespace, name)
        if deployment is None:
            return
        moment = datetime.now(UTC)
        run = _DeploymentSync(self, deployment, self._replica_sets(deployment))
        if is_deleting(deployment):
            self._write(run, statuses.base_status(deployment, run.new, run.old, run.limit, moment))
            return
        self._record_pause(run)
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
                new = deep_copy(item)
                references = [*owner_references(item), controller_reference(deployment)]
                new["metadata"]["ownerReferences"] = references
                found.append(self.api.update(kinds.REPLICA_SET, namespace_of(item), name_of(item), new))
        return found

    def _record_pause(self, run: _DeploymentSync) -> None:
        """Conditions that keep the time of a pause from counting against the deadline."""
        current = find_condition((run.deployment.get("status") or {}).get("conditions"), "Progressing")
        reason = current.get("reason") if current else None
        if statuses.progress_deadline(run.deployment) is None or reason == statuses.TIMED_OUT:
            return
        if run.deployment["spec"].get("paused") and reason != statuses.PAUSED:
            run.set_progressing("Unknown", statuses.PAUSED, "Deployment is paused")
        elif not run.deployment["spec"].get("paused") and reason == statuses.PAUSED:
            run.set_progressing("Unknown", statuses.RESUMED, "Deployment is resumed")

    def _is_scaling(self, run: _DeploymentSync) -> bool:
        run.sync_revision()
        notes = [replica_set_size(item).desired_annotation for item in run.all_sets if item["spec"]["replicas"] > 0]
        return any(note is not None and note != run.limit.replicas for note in notes)

    def _scale(self, run: _DeploymentSync, moment: datetime) -> None:
        """Paused, or scaled in the middle of a rollout: keep the proportions and start nothing new."""
        run.sync_revision()
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
            total = (run.deployment.get("status") or {}).get("replicas", 0)
            run.resize(rollout.proportional_sizes(limit, [replica_set_size(item) for item in run.all_sets], total))
        if run.deployment["spec"].get("paused"):
            run.clean_history()
        self._write(run, statuses.base_status(run.deployment, run.new, run.old, limit, moment))

    def _rolling_update(self, run: _DeploymentSync, moment: datetime) -> None:
        """One step of a rolling update: up if there is room, else down if there is slack."""
        run.sync_revision()
        if run.new is None:
            run.create_new()
        new = run.new
        assert new is not None
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
        run.sync_revision()
        shrunk = run.resize({name_of(item): 0 for item in run.old if item["spec"]["replicas"] > 0})
        if not shrunk and not self._has_old_pods(run):
            if run.new is None:
                run.create_new()
            assert run.new is not None
            run.resize({name_of(run.new): run.limit.replicas})
            if self._is_complete(run.deployment):
                run.clean_history()
        self._finish(run, moment)

    def _has_old_pods(self, run: _DeploymentSync) -> bool:
        pods = [pod for item in run.old for _, pod in self.store.owned_by(uid_of(item), kinds.POD)]
        return any(pod["status"].get("phase") not in ("Succeeded", "Failed") for pod in pods)

    def _is_complete(self, deployment: Json) -> bool:
        status = deployment.get("status") or {}
        current = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        return current and rollout.is_complete(deployment["spec"]["replicas"], statuses.replica_counts(status))

    def _finish(self, run: _DeploymentSync, moment: datetime) -> None:
        status = statuses.deployment_rollout_status(run.deployment, run.new, run.old, run.limit, moment)
        self._write(run, status)
        wait = statuses.recheck_after(run.deployment, status, moment)
        if wait is not None:
            self.requeue_after((namespace_of(run.deployment), name_of(run.deployment)), wait)

    def _write(self, run: _DeploymentSync, status: Json) -> None:
        if statuses.as_stored(status) != run.deployment.get("status"):
            run.write_status(status)

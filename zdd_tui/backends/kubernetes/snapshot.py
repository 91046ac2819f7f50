"""Builds snapshots of a Deployment's objects incrementally.

A watch of 5,000 pods has some hundred changes and ten snapshots a second; classifying and sorting all pods for each
snapshot would take a tenth of a core. All objects are immutable, so unchanged ones are recognised by identity.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from operator import is_not

from zdd_tui.model.workload.pod import EndpointFacts, Pod, PodFacts, PodState, classify_pod
from zdd_tui.model.workload.probe_failure import find_probe_failure
from zdd_tui.model.workload.rollout import (
    DeploymentView,
    EventView,
    ReplicaSetView,
    RolloutStatus,
    WorkloadSnapshot,
    evaluate_rollout,
    select_own_pods,
)

MAX_EVENTS = 50


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """One EndpointSlice."""

    name: str
    endpoints: tuple[EndpointFacts, ...]


@dataclass(frozen=True, slots=True)
class DeploymentObjects:
    """Everything that belongs to a Deployment. A tuple without changes is the same object as before.

    Attributes:
        deployment: None where the Deployment does not exist.
        deleted_pods: pods that were deleted within the last seconds.
    """

    deployment: DeploymentView | None
    replica_sets: tuple[ReplicaSetView, ...]
    pods: tuple[PodFacts, ...]
    slices: tuple[EndpointSlice, ...]
    events: tuple[EventView, ...] = ()
    deleted_pods: tuple[PodFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class _PodContext:
    """What the state of a pod depends on beside the pod."""

    endpoints: dict[str, EndpointFacts]
    has_service: bool
    min_ready: float

    def is_same(self, other: "_PodContext") -> bool:
        return (
            self.endpoints is other.endpoints
            and self.has_service == other.has_service
            and self.min_ready == other.min_ready
        )

    def classify(self, pod: PodFacts, now: float, clock_skew: float) -> Pod:
        return classify_pod(
            pod,
            self.endpoints.get(pod.uid),
            now=now,
            clock_skew=clock_skew,
            min_ready_seconds=self.min_ready,
            has_service=self.has_service,
        )


class _PodIndex:
    """The classified pods of one Deployment in the order of their names.

    `has_changed_shape` is set where pods were added or removed, or changed their template or their reason: what the
    status of a rollout depends on.
    """

    def __init__(self) -> None:
        self.pods: tuple[Pod, ...] = ()
        self.has_changed_shape = True
        self._raw_pods: tuple[PodFacts, ...] = ()
        self._sets: tuple[ReplicaSetView, ...] | None = None
        self._owner = ""
        self._context = _PodContext({}, False, 0.0)
        self._positions: dict[int, int] = {}
        self._time_dependent: set[int] = set()

    @property
    def depends_on_time(self) -> bool:
        """Whether time alone can change the state or the remaining time of a pod."""
        return bool(self._time_dependent)

    def update(
        self,
        view: DeploymentView,
        sets: tuple[ReplicaSetView, ...],
        raw_pods: tuple[PodFacts, ...],
        context: _PodContext,
        now: float,
        clock_skew: float,
    ) -> tuple[Pod, ...]:
        """Classifies the pods of the Deployment among those given, at a time of this machine's clock."""
        same_owners = sets is self._sets and view.uid == self._owner
        patched = same_owners and context.is_same(self._context) and self._update_changed(raw_pods, now, clock_skew)
        if not patched:
            self._sets, self._owner = sets, view.uid
            self._classify_all(view, sets, raw_pods, context, now, clock_skew)
        self.has_changed_shape = self.has_changed_shape or not patched
        return self.pods

    def _update_changed(self, raw_pods: tuple[PodFacts, ...], now: float, clock_skew: float) -> bool:
        """Classifies only changed pods; returns False where pods were added, removed or changed their owner."""
        before = self._raw_pods
        if len(raw_pods) != len(before):
            return False
        changed = list(compress(range(len(raw_pods)), map(is_not, raw_pods, before)))
        if any(not _counts_the_same(before[index], raw_pods[index]) for index in changed):
            return False
        self._raw_pods = raw_pods
        outdated = {*changed, *self._time_dependent}
        if outdated:
            pods = list(self.pods)
            for index in outdated:
                position = self._positions.get(index)
                if position is not None:  # pods of other Deployments have none
                    old, new = pods[position], self._classify_one(index, raw_pods[index], now, clock_skew)
                    if new != old:
                        self.has_changed_shape = self.has_changed_shape or (old.reason, old.cause, old.is_terminal) != (
                            new.reason,
                            new.cause,
                            new.is_terminal,
                        )
                        pods[position] = new
            self.pods = tuple(pods)
        return True

    def _classify_all(
        self,
        view: DeploymentView,
        sets: tuple[ReplicaSetView, ...],
        raw_pods: tuple[PodFacts, ...],
        context: _PodContext,
        now: float,
        clock_skew: float,
    ) -> None:
        known = self._reusable_pods(context)
        self._raw_pods, self._context, self._time_dependent = raw_pods, context, set()
        own = {id(pod) for pod in select_own_pods(view, sets, raw_pods)}
        classified: list[tuple[str, int, Pod]] = []
        for index, pod in enumerate(raw_pods):
            if id(pod) in own:
                endpoint = context.endpoints.get(pod.uid)
                reused = known.get((id(pod), id(endpoint)))
                classified.append((pod.name, index, reused or self._classify_one(index, pod, now, clock_skew)))
        classified.sort(key=lambda entry: entry[:2])
        self.pods = tuple(pod for _, _, pod in classified)
        self._positions = {index: position for position, (_, index, _) in enumerate(classified)}

    def _reusable_pods(self, context: _PodContext) -> dict[tuple[int, int], Pod]:
        """Returns the pods that need not be classified again, by the ids of pod and endpoint: those that do not depend
        on time."""
        before = self._context
        if before.has_service != context.has_service or before.min_ready != context.min_ready:
            return {}
        return {
            (id(self._raw_pods[index]), id(before.endpoints.get(self._raw_pods[index].uid))): self.pods[position]
            for index, position in self._positions.items()
            if index not in self._time_dependent
        }

    def _classify_one(self, index: int, pod: PodFacts, now: float, clock_skew: float) -> Pod:
        classified = self._context.classify(pod, now, clock_skew)
        if pod.deletion_deadline is not None or classified.state is PodState.WARMING:
            self._time_dependent.add(index)
        else:
            self._time_dependent.discard(index)
        return classified


def _counts_the_same(old: PodFacts, new: PodFacts) -> bool:
    """Whether everything that the status of a rollout is made of is as before."""
    return _rollout_facts(old) == _rollout_facts(new)


def _rollout_facts(pod: PodFacts) -> tuple[object, ...]:
    identity = (pod.uid, pod.name, pod.template_hash, pod.owner_uid)
    running = (pod.ready, pod.unready_since, pod.phase, pod.deletion_deadline, pod.containers, pod.init_containers)
    return *identity, *running, pod.image, pod.scheduled, pod.unschedulable_message, pod.status_reason


class SnapshotBuilder:
    """Builds the snapshots of one Deployment, each from the one before."""

    def __init__(self) -> None:
        self._pod_index = _PodIndex()
        self._slices: tuple[EndpointSlice, ...] | None = None
        self._endpoints: dict[str, EndpointFacts] = {}
        self._rollout_inputs: tuple[object, object] = (None, None)
        self._rollout: RolloutStatus | None = None
        self._events: tuple[EventView, ...] | None = None
        self._newest_events: tuple[EventView, ...] = ()
        self._probe_failures: dict[str, str] = {}
        self._pods_with_failures: dict[str, tuple[Pod, Pod]] = {}
        """Of each pod with a failing probe, by its uid: without and with the failure."""

    @property
    def depends_on_time(self) -> bool:
        """Whether the next snapshot may differ although no object has changed."""
        return self._pod_index.depends_on_time

    def build(
        self, objects: DeploymentObjects, *, now: float, clock_skew: float, observed_at: float, error: str | None
    ) -> WorkloadSnapshot:
        """Builds one snapshot.

        Args:
            now: seconds since 1970 by this machine's clock; `clock_skew`: how far the cluster's clock is ahead of it.
            observed_at, error: as in the snapshot.
        """
        view = objects.deployment
        pods: tuple[Pod, ...] = ()
        if view is None:
            self._pod_index = _PodIndex()
        else:
            # Every Service with a selector has a slice, which may be empty: no slice means no Service.
            context = _PodContext(self._endpoints_of(objects.slices), bool(objects.slices), view.min_ready_seconds)
            pods = self._pod_index.update(view, objects.replica_sets, objects.pods, context, now, clock_skew)
            pods = self._with_probe_failures(pods, objects.events)
        if objects.events is not self._events:
            self._events = objects.events
            self._newest_events = tuple(sorted(objects.events, key=lambda event: event.at or 0.0)[-MAX_EVENTS:])
        return WorkloadSnapshot(
            pods=pods,
            gone=tuple(
                classify_pod(pod, None, now=now, clock_skew=clock_skew, is_deleted=True) for pod in objects.deleted_pods
            ),
            deployment=view,
            rollout=self._rollout_of(view, objects.replica_sets, pods),
            events=self._newest_events,
            clock_skew=clock_skew,
            observed_at=observed_at,
            error=error,
        )

    def _with_probe_failures(self, pods: tuple[Pod, ...], events: tuple[EventView, ...]) -> tuple[Pod, ...]:
        """The pods; those that are Not ready with the failing probe as their reason."""
        found = {pod.uid: text for pod in pods if pod.unready_since and (text := find_probe_failure(pod, events))}
        if found != self._probe_failures:
            self._probe_failures = found
            self._pod_index.has_changed_shape = True
        if not found:
            return pods
        known = self._pods_with_failures
        self._pods_with_failures = {}
        for pod in pods:
            if pod.uid in found:
                before = known.get(pod.uid)
                # An unchanged pod stays the same object: its row is not drawn again.
                if before is None or before[0] is not pod or before[1].reason != found[pod.uid]:
                    before = pod, replace(pod, reason=found[pod.uid])
                self._pods_with_failures[pod.uid] = before
        return tuple(self._pods_with_failures[pod.uid][1] if pod.uid in found else pod for pod in pods)

    def _endpoints_of(self, slices: tuple[EndpointSlice, ...]) -> dict[str, EndpointFacts]:
        """Returns the endpoints by the uid of the pod."""
        if slices is not self._slices:
            self._slices, self._endpoints = slices, _endpoints_by_pod(slices)
        return self._endpoints

    def _rollout_of(
        self, view: DeploymentView | None, sets: tuple[ReplicaSetView, ...], pods: Sequence[Pod]
    ) -> RolloutStatus | None:
        inputs = (view, sets)
        if self._pod_index.has_changed_shape or any(map(is_not, inputs, self._rollout_inputs)):
            self._rollout_inputs = inputs
            self._rollout = evaluate_rollout(view, sets, pods) if view else None
            self._pod_index.has_changed_shape = False
        return self._rollout


def _endpoints_by_pod(slices: Iterable[EndpointSlice]) -> dict[str, EndpointFacts]:
    endpoints: dict[str, EndpointFacts] = {}
    for endpoint in (endpoint for piece in slices for endpoint in piece.endpoints):
        # While the controller moves an endpoint between slices it is in both: the serving one counts.
        if endpoint.pod_uid and not (endpoint.pod_uid in endpoints and endpoints[endpoint.pod_uid].serving):
            endpoints[endpoint.pod_uid] = endpoint
    return endpoints

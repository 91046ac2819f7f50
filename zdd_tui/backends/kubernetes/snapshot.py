"""Makes snapshots of a Deployment's objects, at the cost of what has changed since the one before.

A watch of 5,000 pods has some hundred changes a second and ten snapshots; to judge and sort all pods for each of them
would take a tenth of a core. What did not change is told by identity: no object here is ever changed itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import is_not

from zdd_tui.model.workload.pod import EndpointFacts, Pod, PodFacts, PodState, classify_pod
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
    """Everything that belongs to a Deployment. A tuple in which nothing has changed is the same tuple as before.

    Attributes:
        deployment: None where there is no Deployment.
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
    """What a pod is judged by beside itself."""

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
    """The judged pods of one Deployment in the order of their names.

    `reshaped` is set where pods came or went, or changed their template or what is wrong with them: what a rollout is
    judged by.
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
        """Time alone can change some pod's state or what is left of its time."""
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
        """All pods of the Deployment among those given, judged at a time of this machine's clock."""
        same_owners = sets is self._sets and view.uid == self._owner
        patched = same_owners and context.is_same(self._context) and self._update_changed(raw_pods, now, clock_skew)
        if not patched:
            self._sets, self._owner = sets, view.uid
            self._classify_all(view, sets, raw_pods, context, now, clock_skew)
        self.has_changed_shape = self.has_changed_shape or not patched
        return self.pods

    def _update_changed(self, raw_pods: tuple[PodFacts, ...], now: float, clock_skew: float) -> bool:
        """Judges only what has changed; False where pods came, went or changed their owner."""
        before = self._raw_pods
        if len(raw_pods) != len(before):
            return False
        changed = list(compress(range(len(raw_pods)), map(is_not, raw_pods, before)))
        if any(not _has_same_identity(before[index], raw_pods[index]) for index in changed):
            return False
        self._raw_pods = raw_pods
        again = {*changed, *self._time_dependent}
        if again:
            pods = list(self.pods)
            for index in again:
                place = self._positions.get(index)
                if place is not None:  # another Deployment's are not ours to judge
                    old, new = pods[place], self._classify_one(index, raw_pods[index], now, clock_skew)
                    if new != old:
                        self.has_changed_shape = self.has_changed_shape or old.reason != new.reason
                        pods[place] = new
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
        judged: list[tuple[str, int, Pod]] = []
        for index, pod in enumerate(raw_pods):
            if id(pod) in own:
                endpoint = context.endpoints.get(pod.uid)
                verdict = known.get((id(pod), id(endpoint)))
                judged.append((pod.name, index, verdict or self._classify_one(index, pod, now, clock_skew)))
        judged.sort(key=lambda found: found[:2])
        self.pods = tuple(pod for _, _, pod in judged)
        self._positions = {index: place for place, (_, index, _) in enumerate(judged)}

    def _reusable_pods(self, context: _PodContext) -> dict[tuple[int, int], Pod]:
        """What need not be judged again, by the pod and its endpoint: those that time cannot change either."""
        before = self._context
        if before.has_service != context.has_service or before.min_ready != context.min_ready:
            return {}
        return {
            (id(self._raw_pods[index]), id(before.endpoints.get(self._raw_pods[index].uid))): self.pods[place]
            for index, place in self._positions.items()
            if index not in self._time_dependent
        }

    def _classify_one(self, index: int, pod: PodFacts, now: float, clock_skew: float) -> Pod:
        verdict = self._context.classify(pod, now, clock_skew)
        if pod.deletion_deadline is not None or verdict.state is PodState.WARMING:
            self._time_dependent.add(index)
        else:
            self._time_dependent.discard(index)
        return verdict


def _has_same_identity(old: PodFacts, new: PodFacts) -> bool:
    return (old.uid, old.name, old.template_hash, old.owner_uid) == (
        new.uid,
        new.name,
        new.template_hash,
        new.owner_uid,
    )


class SnapshotBuilder:
    """Makes the snapshots of one Deployment, each from the one before."""

    def __init__(self) -> None:
        self._pod_index = _PodIndex()
        self._slices: tuple[EndpointSlice, ...] | None = None
        self._endpoints: dict[str, EndpointFacts] = {}
        self._rollout_inputs: tuple[object, object] = (None, None)
        self._rollout: RolloutStatus | None = None
        self._events: tuple[EventView, ...] | None = None
        self._newest_events: tuple[EventView, ...] = ()

    @property
    def depends_on_time(self) -> bool:
        """The next snapshot may differ although no object does."""
        return self._pod_index.depends_on_time

    def build(
        self, objects: DeploymentObjects, *, now: float, clock_skew: float, observed_at: float, error: str | None
    ) -> WorkloadSnapshot:
        """One reading.

        Args:
            now: seconds since 1970 by this machine's clock; `skew` is how far the cluster's is ahead of it.
            observed_at, error: as in the snapshot.
        """
        view = objects.deployment
        pods: tuple[Pod, ...] = ()
        if view is None:
            self._pod_index = _PodIndex()
        else:
            # Every Service with a selector has a slice, be it empty: no slice means no Service.
            rules = _PodContext(self._endpoints_of(objects.slices), bool(objects.slices), view.min_ready_seconds)
            pods = self._pod_index.update(view, objects.replica_sets, objects.pods, rules, now, clock_skew)
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

    def _endpoints_of(self, slices: tuple[EndpointSlice, ...]) -> dict[str, EndpointFacts]:
        """Each pod's endpoint by the pod's uid."""
        if slices is not self._slices:
            self._slices, self._endpoints = slices, _endpoints_by_pod(slices)
        return self._endpoints

    def _rollout_of(
        self, view: DeploymentView | None, sets: tuple[ReplicaSetView, ...], pods: Sequence[Pod]
    ) -> RolloutStatus | None:
        by = (view, sets)
        if self._pod_index.has_changed_shape or any(map(is_not, by, self._rollout_inputs)):
            self._rollout_inputs = by
            self._rollout = evaluate_rollout(view, sets, pods) if view else None
            self._pod_index.has_changed_shape = False
        return self._rollout


def _endpoints_by_pod(slices: Iterable[EndpointSlice]) -> dict[str, EndpointFacts]:
    endpoints: dict[str, EndpointFacts] = {}
    for endpoint in (endpoint for found in slices for endpoint in found.endpoints):
        # While the controller moves an endpoint between slices it stands in two: believe the one that serves.
        if endpoint.pod_uid and not (endpoint.pod_uid in endpoints and endpoints[endpoint.pod_uid].serving):
            endpoints[endpoint.pod_uid] = endpoint
    return endpoints

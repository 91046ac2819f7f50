"""Makes snapshots of a Deployment's objects, at the cost of what has changed since the one before.

A watch of 5,000 pods has some hundred changes a second and ten snapshots; to judge and sort all pods for each of them
would take a tenth of a core. What did not change is told by identity: no object here is ever changed itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import is_not

from zdd_tui.model.workload.pod import EndpointFacts, Pod, PodFacts, PodState, classify
from zdd_tui.model.workload.rollout import (
    DeploymentView,
    EventView,
    ReplicaSetView,
    RolloutStatus,
    WorkloadSnapshot,
    own_pods,
    rollout_status,
)

MAX_EVENTS = 50


@dataclass(frozen=True, slots=True)
class Slice:
    """One EndpointSlice."""

    name: str
    endpoints: tuple[EndpointFacts, ...]


@dataclass(frozen=True, slots=True)
class Objects:
    """Everything that belongs to a Deployment. A tuple in which nothing has changed is the same tuple as before.

    Attributes:
        view: None where there is no Deployment.
        gone: pods that were deleted within the last seconds.
    """

    view: DeploymentView | None
    sets: tuple[ReplicaSetView, ...]
    pods: tuple[PodFacts, ...]
    slices: tuple[Slice, ...]
    events: tuple[EventView, ...] = ()
    gone: tuple[PodFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a pod is judged by beside itself."""

    endpoints: dict[str, EndpointFacts]
    has_service: bool
    min_ready: float

    def same(self, other: "_Rules") -> bool:
        return (
            self.endpoints is other.endpoints
            and self.has_service == other.has_service
            and self.min_ready == other.min_ready
        )

    def judge(self, pod: PodFacts, wall: float, skew: float) -> Pod:
        return classify(
            pod,
            self.endpoints.get(pod.uid),
            now=wall,
            clock_skew=skew,
            min_ready_seconds=self.min_ready,
            has_service=self.has_service,
        )


class _Roster:
    """The judged pods of one Deployment in the order of their names.

    `reshaped` is set where pods came or went, or changed their template or what is wrong with them: what a rollout is
    judged by.
    """

    def __init__(self) -> None:
        self.pods: tuple[Pod, ...] = ()
        self.reshaped = True
        self._given: tuple[PodFacts, ...] = ()
        self._sets: tuple[ReplicaSetView, ...] | None = None
        self._owner = ""
        self._rules = _Rules({}, False, 0.0)
        self._places: dict[int, int] = {}
        self._timed: set[int] = set()

    @property
    def timed(self) -> bool:
        """Time alone can change some pod's state or what is left of its time."""
        return bool(self._timed)

    def see(
        self,
        view: DeploymentView,
        sets: tuple[ReplicaSetView, ...],
        given: tuple[PodFacts, ...],
        rules: _Rules,
        wall: float,
        skew: float,
    ) -> tuple[Pod, ...]:
        """All pods of the Deployment among those given, judged at a time of this machine's clock."""
        same_owners = sets is self._sets and view.uid == self._owner
        patched = same_owners and rules.same(self._rules) and self._patch(given, wall, skew)
        if not patched:
            self._sets, self._owner = sets, view.uid
            self._judge_all(view, sets, given, rules, wall, skew)
        self.reshaped = self.reshaped or not patched
        return self.pods

    def _patch(self, given: tuple[PodFacts, ...], wall: float, skew: float) -> bool:
        """Judges only what has changed; False where pods came, went or changed their owner."""
        before = self._given
        if len(given) != len(before):
            return False
        changed = list(compress(range(len(given)), map(is_not, given, before)))
        if any(not _same_place(before[index], given[index]) for index in changed):
            return False
        self._given = given
        again = {*changed, *self._timed}
        if again:
            pods = list(self.pods)
            for index in again:
                place = self._places.get(index)
                if place is not None:  # another Deployment's are not ours to judge
                    old, new = pods[place], self._judged(index, given[index], wall, skew)
                    if new != old:
                        self.reshaped = self.reshaped or old.reason != new.reason
                        pods[place] = new
            self.pods = tuple(pods)
        return True

    def _judge_all(
        self,
        view: DeploymentView,
        sets: tuple[ReplicaSetView, ...],
        given: tuple[PodFacts, ...],
        rules: _Rules,
        wall: float,
        skew: float,
    ) -> None:
        known = self._verdicts(rules)
        self._given, self._rules, self._timed = given, rules, set()
        own = {id(pod) for pod in own_pods(view, sets, given)}
        judged: list[tuple[str, int, Pod]] = []
        for index, pod in enumerate(given):
            if id(pod) in own:
                endpoint = rules.endpoints.get(pod.uid)
                verdict = known.get((id(pod), id(endpoint)))
                judged.append((pod.name, index, verdict or self._judged(index, pod, wall, skew)))
        judged.sort(key=lambda found: found[:2])
        self.pods = tuple(pod for _, _, pod in judged)
        self._places = {index: place for place, (_, index, _) in enumerate(judged)}

    def _verdicts(self, rules: _Rules) -> dict[tuple[int, int], Pod]:
        """What need not be judged again, by the pod and its endpoint: those that time cannot change either."""
        before = self._rules
        if before.has_service != rules.has_service or before.min_ready != rules.min_ready:
            return {}
        return {
            (id(self._given[index]), id(before.endpoints.get(self._given[index].uid))): self.pods[place]
            for index, place in self._places.items()
            if index not in self._timed
        }

    def _judged(self, index: int, pod: PodFacts, wall: float, skew: float) -> Pod:
        verdict = self._rules.judge(pod, wall, skew)
        if pod.deadline is not None or verdict.state is PodState.WARMING:
            self._timed.add(index)
        else:
            self._timed.discard(index)
        return verdict


def _same_place(old: PodFacts, new: PodFacts) -> bool:
    return (old.uid, old.name, old.template_hash, old.owner_uid) == (
        new.uid,
        new.name,
        new.template_hash,
        new.owner_uid,
    )


class Assembler:
    """Makes the snapshots of one Deployment, each from the one before."""

    def __init__(self) -> None:
        self._roster = _Roster()
        self._slices: tuple[Slice, ...] | None = None
        self._endpoints: dict[str, EndpointFacts] = {}
        self._judged_by: tuple[object, object] = (None, None)
        self._rollout: RolloutStatus | None = None
        self._events: tuple[EventView, ...] | None = None
        self._newest: tuple[EventView, ...] = ()

    @property
    def timed(self) -> bool:
        """The next snapshot may differ although no object does."""
        return self._roster.timed

    def snapshot(
        self, found: Objects, *, wall: float, skew: float, observed_at: float, error: str | None
    ) -> WorkloadSnapshot:
        """One reading.

        Args:
            wall: seconds since 1970 by this machine's clock; `skew` is how far the cluster's is ahead of it.
            observed_at, error: as in the snapshot.
        """
        view = found.view
        pods: tuple[Pod, ...] = ()
        if view is None:
            self._roster = _Roster()
        else:
            # Every Service with a selector has a slice, be it empty: no slice means no Service.
            rules = _Rules(self._endpoints_of(found.slices), bool(found.slices), view.min_ready_seconds)
            pods = self._roster.see(view, found.sets, found.pods, rules, wall, skew)
        if found.events is not self._events:
            self._events = found.events
            self._newest = tuple(sorted(found.events, key=lambda event: event.at or 0.0)[-MAX_EVENTS:])
        return WorkloadSnapshot(
            pods=pods,
            gone=tuple(classify(pod, None, now=wall, clock_skew=skew, deleted=True) for pod in found.gone),
            deployment=view,
            rollout=self._rollout_of(view, found.sets, pods),
            events=self._newest,
            clock_skew=skew,
            observed_at=observed_at,
            error=error,
        )

    def _endpoints_of(self, slices: tuple[Slice, ...]) -> dict[str, EndpointFacts]:
        """Each pod's endpoint by the pod's uid."""
        if slices is not self._slices:
            self._slices, self._endpoints = slices, _by_pod(slices)
        return self._endpoints

    def _rollout_of(
        self, view: DeploymentView | None, sets: tuple[ReplicaSetView, ...], pods: Sequence[Pod]
    ) -> RolloutStatus | None:
        by = (view, sets)
        if self._roster.reshaped or any(map(is_not, by, self._judged_by)):
            self._judged_by = by
            self._rollout = rollout_status(view, sets, pods) if view else None
            self._roster.reshaped = False
        return self._rollout


def _by_pod(slices: Iterable[Slice]) -> dict[str, EndpointFacts]:
    endpoints: dict[str, EndpointFacts] = {}
    for endpoint in (endpoint for found in slices for endpoint in found.endpoints):
        # While the controller moves an endpoint between slices it stands in two: believe the one that serves.
        if endpoint.pod_uid and not (endpoint.pod_uid in endpoints and endpoints[endpoint.pod_uid].serving):
            endpoints[endpoint.pod_uid] = endpoint
    return endpoints

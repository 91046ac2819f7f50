"""Incremental snapshots: equal to full ones, and unchanged pods are not classified again."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zdd_tui.backends.kubernetes import deployment_watch
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.deployment_watch import DeploymentWatch
from zdd_tui.backends.kubernetes.snapshot import DeploymentObjects, EndpointSlice, SnapshotBuilder
from zdd_tui.backends.kubernetes.watch import Connected, Listed
from zdd_tui.model.workload.container import ContainerFacts
from zdd_tui.model.workload.pod import EndpointFacts, PodFacts, PodState
from zdd_tui.model.workload.rollout import (
    DeploymentCondition,
    DeploymentView,
    EventView,
    ReplicaSetView,
    WorkloadSnapshot,
)

NOW = 1_800_000_000.0
VIEW = DeploymentView(
    name="web", uid="d", namespace="shop", resource_version="1", generation=1, observed_generation=1,
    images={"app": "web:1"}, selector="app=web", desired=3, replicas=3, updated=3, ready=3, available=3, paused=False,
    min_ready_seconds=0.0, conditions=(), revision="1", epoch=0, change_cause=None,
)  # fmt: skip
SETS = tuple(
    ReplicaSetView(name, name, owner, hash_, "1", {"app": "web:1"}, 3, 3, 3, 3)
    for name, owner, hash_ in (("ours", "d", "a"), ("theirs", "other", "b"))
)


def facts(number: int, **changes: object) -> PodFacts:
    made = PodFacts(
        name=f"web-{number:03}", uid=f"u{number}", namespace="shop", image="web:1", template_hash="a", owner_uid="ours",
        node="n", ip="10.0.0.1", phase="Running", status_reason="", created_at=NOW - 60, deletion_deadline=None,
        grace_seconds=0.0, ready=True, ready_since=NOW - 50, containers_ready=True, readiness_gates_pass=True,
        scheduled=True, containers=(), has_prestop=False, prestop_seconds=None,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def endpoint(number: int, serving: bool = True) -> EndpointFacts:
    return EndpointFacts(f"web-{number:03}", f"u{number}", "10.0.0.1", 80, serving, serving, not serving)


def sliced(*numbers: int) -> tuple[EndpointSlice, ...]:
    return (EndpointSlice("s", tuple(endpoint(number) for number in numbers)),)


def unhealthy(number: int) -> EventView:
    message = "Readiness probe failed: HTTP probe failed with statuscode: 503"
    return EventView(NOW, True, "Unhealthy", f"pod/web-{number:03}", message, 1)


def build_snapshot(assembler: SnapshotBuilder, found: DeploymentObjects, wall: float = NOW) -> WorkloadSnapshot:
    return assembler.build(found, now=wall, clock_skew=0.0, observed_at=1.0, error=None)


RUNNING = ContainerFacts("app", "web:1", False, 0, True, "", "", "", started_at=NOW - 40)
POD_CHANGES = st.sampled_from(
    [
        {"ready": False, "ready_since": None},
        {"ready": True, "ready_since": NOW - 3, "unready_since": None},
        {"ready": False, "ready_since": None, "unready_since": NOW - 3, "containers": (RUNNING,)},
        {"deletion_deadline": NOW + 5, "grace_seconds": 30.0},
        {"deletion_deadline": NOW - 5, "grace_seconds": 30.0},
        {"status_reason": "Evicted"},
        {"status_reason": ""},
        {"template_hash": "b"},
        {"template_hash": ""},
        {"owner_uid": "theirs"},
        {"image": "web:2"},
        {"readiness_gates_pass": False, "ready": False},
    ]
)
PLACES = st.integers(0, 5)
LATE = (DeploymentCondition("Progressing", "False", "ProgressDeadlineExceeded", ""),)
STEPS = st.one_of(
    st.tuples(st.just("pod"), PLACES, POD_CHANGES),
    st.tuples(st.just("come"), st.integers(0, 20)),
    st.tuples(st.just("go"), PLACES),
    st.tuples(st.just("relist"), st.just(0)),
    st.tuples(st.just("endpoint"), st.integers(0, 20), st.booleans()),
    st.tuples(st.just("slices"), st.just(0)),
    st.tuples(
        st.just("view"),
        st.sampled_from([{"min_ready_seconds": 10.0}, {"updated": 2}, {"uid": "other"}, {"conditions": LATE}]),
    ),
    st.tuples(st.just("away"), st.just(0)),
    st.tuples(st.just("sets"), st.integers(0, 2)),
    st.tuples(st.just("event"), st.integers(0, 9)),
    st.tuples(st.just("unhealthy"), PLACES),
    st.tuples(st.just("time"), st.floats(0.0, 9.0)),
)


def apply_step(found: DeploymentObjects, step: tuple[object, ...]) -> DeploymentObjects:
    kind, where = step[0], step[1]
    pods = list(found.pods)
    if kind == "pod" and pods:
        place = int(str(where)) % len(pods)
        pods[place] = replace(pods[place], **step[2])  # type: ignore[arg-type]
    elif kind == "come":
        new = facts(int(str(where)))
        pods = pods if any(pod.uid == new.uid for pod in pods) else [*pods, new]
    elif kind == "go" and pods:
        pods.pop(int(str(where)) % len(pods))
    elif kind == "relist":
        pods = [replace(pod) for pod in pods]
    elif kind == "endpoint":
        more = EndpointSlice(f"s{where}", (endpoint(int(str(where)), bool(step[2])),))
        return replace(found, slices=(*(each for each in found.slices if each.name != more.name), more))
    elif kind == "slices":
        return replace(found, slices=())
    elif kind == "view":
        return replace(found, deployment=replace(found.deployment or VIEW, **step[1]))  # type: ignore[arg-type]
    elif kind == "away":
        return replace(found, deployment=None if found.deployment else VIEW)
    elif kind == "sets":
        return replace(found, replica_sets=SETS[: int(str(where))])
    elif kind == "event":
        return replace(found, events=(*found.events, EventView(float(str(where)), False, "Pulled", "pod/web", "", 1)))
    elif kind == "unhealthy":
        return replace(found, events=(*found.events, unhealthy(int(str(where)))))
    return found if pods == list(found.pods) and kind != "relist" else replace(found, pods=tuple(pods))


@settings(max_examples=150)
@given(st.lists(STEPS, max_size=25))
def test_an_incremental_snapshot_equals_a_full_one(steps: list[tuple[object, ...]]) -> None:
    kept, wall = SnapshotBuilder(), NOW
    ours, theirs = (facts(number) for number in (3, 1)), facts(2, owner_uid="theirs")
    found = DeploymentObjects(VIEW, SETS, (*ours, theirs), sliced(1, 2, 3))
    for step in [("time", 0.0), *steps]:
        wall += float(str(step[1])) if step[0] == "time" else 0.5
        found, anew = apply_step(found, step), SnapshotBuilder()
        assert build_snapshot(kept, found, wall) == build_snapshot(anew, found, wall)
        assert kept.depends_on_time == anew.depends_on_time


def test_where_nothing_changed_the_pods_are_the_same_tuple() -> None:
    kept, found = SnapshotBuilder(), DeploymentObjects(VIEW, SETS, tuple(map(facts, range(5))), sliced(*range(5)))
    first, second = build_snapshot(kept, found), build_snapshot(kept, replace(found, pods=(*found.pods,)))
    assert second.pods is first.pods
    assert second.rollout is first.rollout


def test_one_changed_pod_leaves_the_others_unchanged() -> None:
    kept, pods = SnapshotBuilder(), tuple(map(facts, range(5)))
    found = DeploymentObjects(VIEW, SETS, pods, sliced(*range(5)))
    first = build_snapshot(kept, found)
    changed = facts(2, status_reason="Evicted")
    second = build_snapshot(kept, replace(found, pods=(*pods[:2], changed, *pods[3:])))
    assert [old is new for old, new in zip(first.pods, second.pods, strict=True)] == [True, True, False, True, True]
    assert second.pods[2].reason == "Evicted"


def test_time_alone_changes_only_time_dependent_pods() -> None:
    kept, pods = SnapshotBuilder(), (facts(0), facts(1, deletion_deadline=NOW + 1, grace_seconds=30.0))
    found = DeploymentObjects(VIEW, SETS, pods, sliced(0, 1))
    first = build_snapshot(kept, found)
    assert kept.depends_on_time
    second = build_snapshot(kept, found, NOW + 4)
    assert second.pods[0] is first.pods[0]
    assert [pod.state for pod in (first.pods[1], second.pods[1])] == [PodState.DRAINING, PodState.OVERDUE]


def test_after_the_warm_up_of_a_pod_time_changes_nothing() -> None:
    kept = SnapshotBuilder()
    view = replace(VIEW, min_ready_seconds=10.0)
    found = DeploymentObjects(view, SETS, (facts(0, ready_since=NOW - 3),), sliced(0))
    assert build_snapshot(kept, found).pods[0].state is PodState.WARMING
    assert kept.depends_on_time
    assert build_snapshot(kept, found, NOW + 8).pods[0].state is PodState.SERVING
    assert not kept.depends_on_time


def test_a_pod_that_is_not_ready_any_more_has_the_failing_probe_as_its_reason() -> None:
    kept, lost = SnapshotBuilder(), facts(0, ready=False, unready_since=NOW - 3, containers=(RUNNING,))
    view = replace(VIEW, available=2)
    found = DeploymentObjects(view, SETS, (lost, facts(1), facts(2)), sliced(1, 2))
    first = build_snapshot(kept, found)
    assert [(pod.state, pod.reason) for pod in first.pods[:1]] == [(PodState.NOT_READY, "")]
    found = replace(found, events=(unhealthy(0), unhealthy(1)))
    second = build_snapshot(kept, found)
    assert [pod.reason for pod in second.pods] == ["readiness probe: HTTP 503", "", ""]
    assert second.rollout is not None
    assert second.rollout.is_degraded
    assert second.rollout.message == "1 of 3 pods not ready any more: readiness probe: HTTP 503 (web-000)"
    assert build_snapshot(kept, replace(found, pods=(*found.pods,))).pods[0] is second.pods[0]


def test_a_failed_rollout_has_the_newest_reason() -> None:
    kept, found = SnapshotBuilder(), DeploymentObjects(replace(VIEW, conditions=LATE), SETS, (facts(0),), sliced(0))
    build_snapshot(kept, found)
    rollout = build_snapshot(kept, replace(found, pods=(facts(0, status_reason="Evicted"),))).rollout
    assert rollout is not None
    assert "Evicted" in rollout.message


def test_countdowns_stop_where_the_cluster_confirms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(at=100.0)
    fake_time = SimpleNamespace(monotonic=lambda: clock.at, time=lambda: NOW + clock.at - 100.0)
    monkeypatch.setattr(deployment_watch, "time", fake_time)
    cluster = SimpleNamespace(http=SimpleNamespace(clock=SimpleNamespace(skew=0.0)), namespace="shop")
    watch = DeploymentWatch(cast("Cluster", cluster), "web")
    leaving = facts(1, deletion_deadline=NOW + 30, grace_seconds=30.0)
    collections = (watch._deployments, watch._sets, watch._pods, watch._endpoints.slices)
    for collection, items in zip(collections, ((VIEW,), SETS, (leaving,), sliced(1)), strict=True):
        collection.handle_event(Listed(items), clock.at)  # type: ignore[attr-defined]

    def seconds_left(at: float) -> float | None:
        clock.at = at
        return watch.snapshot().pods[0].seconds_left

    assert seconds_left(102.0) == 28.0
    assert seconds_left(103.0) == 27.0
    assert seconds_left(150.0) == 27.0, "it counts on without a confirmation"
    for collection in collections:
        collection.handle_event(Connected(), 150.0)
    assert seconds_left(150.0) == -20.0

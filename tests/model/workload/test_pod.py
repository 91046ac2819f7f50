"""Pod states by evidence (design, section Kubernetes), and projections of what an API server may send."""

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdd_tui.model.workload.pod import (
    OVERDUE_AFTER_SECONDS,
    EndpointFacts,
    PodFacts,
    PodState,
    classify_pod,
    extract_image_version,
    project_endpoints,
    project_pod,
)
from zdd_tui.model.workload.probe_failure import find_probe_failure
from zdd_tui.model.workload.rollout import EventView

NOW = 1_800_000_000.0
STAMP = "2027-01-15T08:00:00Z"  # NOW as the API writes it

RUNNING: dict[str, Any] = {
    "metadata": {
        "name": "users-api-7d9-x7k",
        "uid": "u1",
        "namespace": "shop",
        "labels": {"pod-template-hash": "7d9"},
        "creationTimestamp": STAMP,
        "ownerReferences": [{"kind": "ReplicaSet", "uid": "rs1", "controller": True}],
    },
    "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "shop/users-api:2"}]},
    "status": {
        "phase": "Running",
        "podIP": "127.0.0.9",
        "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": STAMP},
            {"type": "ContainersReady", "status": "True"},
            {"type": "PodScheduled", "status": "True"},
        ],
        "containerStatuses": [{"name": "app", "ready": True, "restartCount": 0, "state": {"running": {}}}],
    },
}
SERVING = EndpointFacts("users-api-7d9-x7k", "u1", "127.0.0.9", 8080, ready=True, serving=True, terminating=False)
LEAVING = replace(SERVING, ready=False, terminating=True)
OUT = replace(LEAVING, serving=False)


def facts(**changes: Any) -> PodFacts:
    return replace(project_pod(RUNNING), **changes)


def raw(path: str, value: Any) -> dict[str, Any]:
    """RUNNING with one value at a dotted path replaced."""
    changed = copy.deepcopy(RUNNING)
    at = changed
    *way, last = path.split(".")
    for key in way:
        at = at.setdefault(key, {})
    at[last] = value
    return changed


def state(pod: PodFacts, endpoint: EndpointFacts | None, **more: Any) -> PodState:
    return classify_pod(pod, endpoint, now=NOW + 100, **more).state


def test_the_timestamp_of_these_tests() -> None:
    assert project_pod(RUNNING).created_at == NOW


def test_not_ready_is_starting() -> None:
    assert state(facts(ready=False, containers_ready=False), None) is PodState.STARTING


@pytest.mark.parametrize(
    ("started", "since", "expected"),
    [
        (10, 130, PodState.NOT_READY),
        (10, 9, PodState.STARTING),
        (10, 10, PodState.STARTING),
        (140, 130, PodState.STARTING),
    ],
    ids=["lost it", "new", "new, within one second", "restarted since"],
)
def test_a_pod_that_was_ready_is_not_starting(started: float, since: float, expected: PodState) -> None:
    pod = facts(ready=False, containers_ready=False, ready_since=None, unready_since=NOW + since)
    (app,) = pod.containers
    pod = replace(pod, containers=(replace(app, ready=False, started_at=NOW + started),))
    assert state(pod, None) is expected
    assert (classify_pod(pod, None, now=NOW + 200).unready_since is None) is (expected is PodState.STARTING)


def test_the_times_of_readiness_and_start_are_read() -> None:
    made = raw("status.conditions", [{"type": "Ready", "status": "False", "lastTransitionTime": STAMP}])
    made["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": STAMP}}
    pod = project_pod(made)
    assert (pod.unready_since, pod.ready_since, pod.containers[0].started_at) == (NOW, None, NOW)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Readiness probe failed: HTTP probe failed with statuscode: 503", "readiness probe: HTTP 503"),
        (
            'Readiness probe failed: Get "http://10.0.0.9:80/": dial tcp 10.0.0.9:80: connect: connection refused',
            "readiness probe: connection refused",
        ),
        (
            'Readiness probe failed: Get "http://10.0.0.9/": context deadline exceeded (Client.Timeout exceeded)',
            "readiness probe: timeout",
        ),
        ("Readiness probe failed: pg_isready: no response\nmore", "readiness probe: pg_isready: no response"),
        ("Liveness probe failed: ", "liveness probe failed"),
        ("Something else", "Something else"),
    ],
)
def test_the_failing_probe_of_a_pod_that_is_not_ready(message: str, shown: str) -> None:
    pod = replace(classify_pod(facts(), SERVING, now=NOW), unready_since=NOW)
    event = EventView(NOW, True, "Unhealthy", f"pod/{pod.name}", message, 1)
    assert find_probe_failure(pod, [event]) == shown
    for other in ({"at": NOW - 600}, {"object": "pod/x"}, {"reason": "Killing"}):
        assert find_probe_failure(pod, [replace(event, **other)]) == ""  # type: ignore[arg-type]
    assert find_probe_failure(replace(pod, unready_since=None), [event]) == ""


def test_ready_but_younger_than_min_ready_seconds_is_warming() -> None:
    assert state(facts(), SERVING, min_ready_seconds=101) is PodState.WARMING
    assert state(facts(), SERVING, min_ready_seconds=100) is PodState.SERVING


def test_ready_without_a_transition_time_is_not_proven() -> None:
    assert state(facts(ready_since=None), SERVING, min_ready_seconds=1) is PodState.WARMING


def test_a_readiness_gate_that_is_closed_is_warming() -> None:
    gated = raw("spec.readinessGates", [{"conditionType": "lb/attached"}])
    gated["status"]["conditions"][0] = {"type": "Ready", "status": "False"}
    assert state(project_pod(gated), None) is PodState.WARMING


def test_ready_but_not_in_rotation_yet_is_warming() -> None:
    assert state(facts(), None) is PodState.WARMING
    assert state(facts(), replace(SERVING, ready=False, serving=False)) is PodState.WARMING


def test_endpoint_ready_is_serving() -> None:
    assert state(facts(), SERVING) is PodState.SERVING


def test_without_a_service_readiness_decides() -> None:
    assert state(facts(), None, has_service=False) is PodState.SERVING
    assert state(facts(deletion_deadline=NOW + 200), None, has_service=False) is PodState.DRAINING
    assert state(facts(deletion_deadline=NOW + 200, ready=False), None, has_service=False) is PodState.STOPPING


def test_deleted_while_the_endpoint_serves_is_draining() -> None:
    pod = classify_pod(facts(deletion_deadline=NOW + 118, grace_seconds=30.0), LEAVING, now=NOW + 100)
    assert pod.state is PodState.DRAINING
    assert pod.seconds_left == 18


def test_draining_holds_while_the_slice_lags_behind_the_deletion() -> None:
    assert state(facts(deletion_deadline=NOW + 118), SERVING) is PodState.DRAINING


@pytest.mark.parametrize("endpoint", [OUT, None])
def test_deleted_and_out_of_rotation_is_stopping(endpoint: EndpointFacts | None) -> None:
    assert state(facts(deletion_deadline=NOW + 118), endpoint) is PodState.STOPPING


def test_main_containers_ended_is_stopping_whatever_the_slice_says() -> None:
    ended = raw("status.containerStatuses", [{"name": "app", "state": {"terminated": {"reason": "Completed"}}}])
    ended["metadata"]["deletionTimestamp"] = "2027-01-15T08:02:00Z"
    assert state(project_pod(ended), LEAVING) is PodState.STOPPING


def test_overdue_begins_two_seconds_after_the_deadline() -> None:
    deadline = NOW + 100 - OVERDUE_AFTER_SECONDS
    assert state(facts(deletion_deadline=deadline), LEAVING) is PodState.DRAINING
    assert state(facts(deletion_deadline=deadline - 0.1), LEAVING) is PodState.OVERDUE
    assert state(facts(deletion_deadline=deadline - 0.1), None) is PodState.OVERDUE


def test_the_deadline_is_the_clusters_clock() -> None:
    """A bastion whose clock is a minute slow must not show a pod as leaving in time when it is overdue."""
    pod = facts(deletion_deadline=NOW + 110)
    assert classify_pod(pod, LEAVING, now=NOW + 100).seconds_left == 10
    late = classify_pod(pod, LEAVING, now=NOW + 100, clock_skew=60)
    assert late.seconds_left == -50
    assert late.state is PodState.OVERDUE


def test_deleted_seen_is_gone() -> None:
    gone = classify_pod(facts(deletion_deadline=NOW), LEAVING, now=NOW + 500, is_deleted=True)
    assert gone.state is PodState.GONE
    assert gone.seconds_left is None


HOOKS = [
    ({"sleep": {"seconds": 5}}, 5.0),
    ({"exec": {"command": ["sleep", "5"]}}, 5.0),
    ({"exec": {"command": ["/bin/sh", "-c", "sleep 5"]}}, 5.0),
    ({"exec": {"command": ["/drain"]}}, None),
    ({"exec": {"command": ["sh", "-c", "curl localhost/drain && sleep 5"]}}, None),
    ({"httpGet": {"path": "/drain", "port": 80}}, None),
]


@pytest.mark.parametrize(("hook", "seconds"), HOOKS)
def test_prestop_is_estimated(hook: dict[str, Any], seconds: float | None) -> None:
    containers = [{"name": "app", "image": "x:1", "lifecycle": {"preStop": hook}}]
    pod = project_pod(raw("spec.containers", containers))
    assert pod.prestop_seconds == seconds
    leaving = replace(pod, deletion_deadline=NOW + 30, grace_seconds=30.0)  # deleted at NOW
    assert not classify_pod(pod, SERVING, now=NOW).prestop_estimated
    assert classify_pod(leaving, LEAVING, now=NOW + 4).prestop_estimated
    assert classify_pod(leaving, LEAVING, now=NOW + 6).prestop_estimated is (seconds is None)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}}, "CrashLoopBackOff"),
        ({"state": {"waiting": {"reason": "ImagePullBackOff"}}}, "ImagePullBackOff"),
        ({"state": {"waiting": {"reason": "ContainerCreating"}}}, ""),
        (
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"reason": "OOMKilled"}},
            },
            "CrashLoopBackOff, OOMKilled",
        ),
        (
            {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"reason": "Error"}}},
            "CrashLoopBackOff",
        ),
        ({"ready": True, "state": {"running": {}}, "lastState": {"terminated": {"reason": "OOMKilled"}}}, ""),
        ({"ready": False, "state": {"running": {}}, "lastState": {"terminated": {"reason": "OOMKilled"}}}, "OOMKilled"),
    ],
)
def test_reason(status: dict[str, Any], reason: str) -> None:
    pod = project_pod(raw("status.containerStatuses", [{"name": "app", **status}]))
    assert classify_pod(pod, SERVING, now=NOW).reason == reason


def test_reason_of_an_unschedulable_pod() -> None:
    pending = raw("status", {"phase": "Pending"})
    assert classify_pod(project_pod(pending), None, now=NOW).reason == ""
    pending["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    assert classify_pod(project_pod(pending), None, now=NOW).reason == "Unschedulable"


def test_an_evicted_pod_is_not_starting() -> None:
    pod = classify_pod(project_pod(raw("status", {"phase": "Failed", "reason": "Evicted"})), None, now=NOW)
    assert (pod.state, pod.reason, pod.is_terminal, pod.cause) == (PodState.FAILED, "Evicted", True, None)
    done = classify_pod(project_pod(raw("status", {"phase": "Succeeded"})), None, now=NOW)
    assert (done.state, done.is_terminal) == (PodState.SUCCEEDED, True)


@pytest.mark.parametrize(
    ("where", "status", "text", "patience"),
    [
        (
            "containerStatuses",
            {
                "image": "u:9",
                "state": {"waiting": {"reason": "ErrImagePull", "message": "dial tcp: i/o timeout\nmore"}},
            },
            "image u:9 cannot be pulled: ErrImagePull: dial tcp: i/o timeout (pod ",
            15.0,
        ),
        (
            "containerStatuses",
            {"image": "u:9", "state": {"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}},
            "image u:9 cannot be pulled: ErrImagePull: manifest unknown (pod ",
            3.0,
        ),
        (
            "containerStatuses",
            {"image": "U:9", "state": {"waiting": {"reason": "InvalidImageName"}}},
            "image U:9 cannot be pulled: InvalidImageName (pod ",
            3.0,
        ),
        (
            "containerStatuses",
            {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'configmap "c" not found'}}},
            'cannot be created: CreateContainerConfigError: configmap "c" not found',
            15.0,
        ),
        (
            "initContainerStatuses",
            {
                "restartCount": 1,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            },
            "crashes: CrashLoopBackOff, OOMKilled, exit code 137, 1 restart",
            None,
        ),
    ],
)
def test_e3_the_cause_of_a_container_that_does_not_run(
    where: str, status: dict[str, Any], text: str, patience: float | None
) -> None:
    pod = classify_pod(project_pod(raw(f"status.{where}", [{"name": "app", **status}])), None, now=NOW)
    assert pod.cause is not None
    assert text in pod.cause.text
    assert pod.cause.patience == patience
    assert pod.reason


def test_restarts_add_up_over_containers() -> None:
    statuses = [{"name": "a", "restartCount": 2}, {"name": "b", "restartCount": 3}]
    assert classify_pod(project_pod(raw("status.containerStatuses", statuses)), None, now=NOW).restarts == 5


def test_the_named_container_gives_the_version() -> None:
    pod = raw("spec.containers", [{"name": "proxy", "image": "envoy:1.30"}, {"name": "app", "image": "users:3"}])
    assert project_pod(pod, "app").image == "users:3"
    assert project_pod(pod, "gone").image == "envoy:1.30"


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("shop/users-api:2", "2"),
        ("users-api", "latest"),
        ("registry:5000/users-api", "latest"),
        ("registry:5000/users-api:v3", "v3"),
        ("users-api@sha256:0123456789abcdef", "0123456789ab"),
        ("users-api:2@sha256:0123456789abcdef", "2"),
        ("", "latest"),
    ],
)
def test_image_version(image: str, version: str) -> None:
    assert extract_image_version(image) == version


def test_endpoint_conditions_have_the_apis_defaults() -> None:
    text = project_endpoints(
        {
            "ports": [{"port": 8080}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "a", "uid": "1"}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": False}},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": False, "serving": True, "terminating": True}},
            ],
        }
    )
    assert [(e.ready, e.serving, e.terminating) for e in text] == [
        (True, True, False),
        (False, False, False),
        (False, True, True),
    ]
    assert (text[0].pod_uid, text[0].address, text[0].port) == ("1", "10.0.0.1", 8080)


# What an API server may send

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PATHS = [
    "metadata", "metadata.name", "metadata.labels", "metadata.ownerReferences", "metadata.deletionTimestamp",
    "metadata.deletionGracePeriodSeconds", "metadata.creationTimestamp", "spec", "spec.containers",
    "spec.readinessGates", "status", "status.conditions", "status.containerStatuses", "status.phase",
]  # fmt: skip


@given(st.sampled_from(PATHS), JSON)
def test_any_value_anywhere_is_tolerated(path: str, value: Any) -> None:
    pod = classify_pod(project_pod(raw(path, value)), None, now=NOW)
    assert pod.state in PodState
    assert pod.restarts >= 0


@given(JSON)
def test_any_object_is_tolerated(value: Any) -> None:
    classify_pod(project_pod(value), None, now=NOW)
    project_endpoints(value)
    project_endpoints({"endpoints": value, "ports": value})
    project_endpoints({"endpoints": [{"addresses": value, "conditions": value, "targetRef": value}]})


TIMES = st.floats(min_value=-1e4, max_value=1e4).map(lambda offset: NOW + offset)


@given(
    now=TIMES,
    deadline=TIMES | st.none(),
    skew=st.floats(-3600, 3600),
    ready=st.booleans(),
    endpoint=st.sampled_from([None, SERVING, LEAVING, OUT]),
    min_ready=st.floats(0, 100),
    has_service=st.booleans(),
)
def test_only_a_deleted_pod_leaves_and_skew_is_only_a_shift(
    now: float,
    deadline: float | None,
    skew: float,
    ready: bool,
    endpoint: EndpointFacts | None,
    min_ready: float,
    has_service: bool,
) -> None:
    pod = facts(deletion_deadline=deadline, ready=ready, grace_seconds=30.0)
    circumstances = {"min_ready_seconds": min_ready, "has_service": has_service}
    judged = classify_pod(pod, endpoint, now=now, clock_skew=skew, **circumstances)
    assert (judged.state in (PodState.DRAINING, PodState.STOPPING, PodState.OVERDUE)) == (deadline is not None)
    assert (judged.seconds_left is None) == (deadline is None)
    shifted = classify_pod(pod, endpoint, now=now + skew, **circumstances)
    assert judged.state is shifted.state
    if judged.seconds_left is not None and shifted.seconds_left is not None:
        assert math.isclose(judged.seconds_left, shifted.seconds_left, abs_tol=1e-3)
    if judged.state is PodState.SERVING:
        assert ready
        assert not has_service or (endpoint is not None and endpoint.ready)

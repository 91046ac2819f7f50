"""When a rollout is over, when it has failed, and what it waits for."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.workload.test_pod import JSON, LEAVING, NOW, SERVING, facts
from zdd_tui.model.workload.container import FailureCause
from zdd_tui.model.workload.pod import Pod, PodState, classify_pod
from zdd_tui.model.workload.probe_failure import describe_waiting
from zdd_tui.model.workload.rollout import (
    DeploymentCondition,
    DeploymentView,
    EventView,
    ReplicaSetView,
    evaluate_rollout,
    format_selector,
    project_deployment,
    project_event,
    project_replica_set,
    select_own_pods,
)

OLD = ReplicaSetView("users-1", "rs1", "d1", "h1", "1", {"app": "u:1"}, 0, 0, 0, 0)
NEW = ReplicaSetView("users-2", "rs2", "d1", "h2", "2", {"app": "u:2"}, 3, 3, 3, 3)
SETTLED = DeploymentView(
    name="users",
    uid="d1",
    namespace="shop",
    resource_version="9",
    generation=4,
    observed_generation=4,
    images={"app": "u:2"},
    selector="app=users",
    desired=3,
    replicas=3,
    updated=3,
    ready=3,
    available=3,
    paused=False,
    min_ready_seconds=0.0,
    conditions=(DeploymentCondition("Progressing", "True", "NewReplicaSetAvailable", ""),),
    revision="2",
    epoch=0,
    change_cause=None,
)


def pod(name: str, template: str, *, leaving: bool = False, deleted: bool = False) -> Pod:
    deadline = NOW + 10 if leaving else None
    made = facts(name=name, uid=name, template_hash=template, deletion_deadline=deadline)
    return classify_pod(made, LEAVING if leaving else SERVING, now=NOW, is_deleted=deleted)


PODS = [pod(f"new-{n}", "h2") for n in range(3)]


def test_done() -> None:
    status = evaluate_rollout(SETTLED, [OLD, NEW], PODS)
    assert (status.done, status.failed) == (True, False)


def test_a_terminating_pod_of_an_older_template_keeps_the_rollout_open() -> None:
    """`kubectl rollout status` reports success here; the old code may still write."""
    status = evaluate_rollout(SETTLED, [OLD, NEW], [*PODS, pod("old-1", "h1", leaving=True)])
    assert not status.done
    assert status.old_pods == ("old-1",)
    assert "old-1" in status.message


def test_a_pod_whose_deletion_was_seen_does_not_count() -> None:
    assert evaluate_rollout(SETTLED, [OLD, NEW], [*PODS, pod("old-1", "h1", deleted=True)]).done


@pytest.mark.parametrize(
    ("change", "waits_for"),
    [
        ({"observed_generation": 3}, "generation 3 of 4"),
        ({"paused": True}, "rollout resume deployment/users"),
        ({"revision": ""}, "new ReplicaSet"),
        ({"revision": "1"}, "new ReplicaSet"),  # the controller has seen it but not renumbered yet
        ({"images": {"app": "u:3"}}, "new ReplicaSet"),
        ({"updated": 2}, "2 of 3 new replicas created"),
        ({"available": 2}, "2 of 3 new replicas available"),
        ({"replicas": 4}, "1 older pod"),
        (
            {"conditions": (DeploymentCondition("ReplicaFailure", "True", "FailedCreate", "exceeded quota"),)},
            "exceeded quota",
        ),
    ],
)
def test_what_it_waits_for(change: dict[str, Any], waits_for: str) -> None:
    status = evaluate_rollout(replace(SETTLED, **change), [OLD, NEW], PODS)
    assert (status.done, status.failed) == (False, False)
    assert waits_for in status.message


def test_available_pods_of_the_older_template_do_not_make_the_new_one_available() -> None:
    status = evaluate_rollout(SETTLED, [OLD, replace(NEW, available=1)], PODS)
    assert not status.done
    assert "1 of 3" in status.message


def test_failed_when_the_progress_deadline_is_exceeded_and_says_why() -> None:
    conditions = (DeploymentCondition("Progressing", "False", "ProgressDeadlineExceeded", ""),)
    ill = replace(PODS[0], cause=FailureCause("CrashLoopBackOff", "container app of pod new-1 crashes"))
    view = replace(SETTLED, available=2, conditions=conditions)
    status = evaluate_rollout(view, [OLD, NEW], [ill, *PODS[1:]])
    assert status.failed
    assert status.message == (
        "container app of pod new-1 crashes; no progress within the Deployment's deadline,"
        " 2 of 3 new replicas available"
    )


def test_e1_an_older_pod_in_a_terminal_phase_does_not_count() -> None:
    evicted = replace(pod("old-1", "h1"), state=PodState.FAILED, is_terminal=True)
    status = evaluate_rollout(SETTLED, [OLD, NEW], [*PODS, evicted])
    assert (status.done, status.old_pods) == (True, ())


def test_e2_a_deadline_from_before_the_attempt_counts_once_it_is_renewed() -> None:
    earlier = DeploymentCondition("Progressing", "False", "ProgressDeadlineExceeded", "", "2026-01-01T00:00:00Z")
    view = replace(SETTLED, available=2, conditions=(earlier,))
    status = evaluate_rollout(view, [OLD, NEW], PODS, ignored_condition=earlier)
    assert (status.done, status.failed) == (False, False)
    renewed = replace(earlier, updated_at="2026-01-01T00:00:09Z")
    assert evaluate_rollout(replace(view, conditions=(renewed,)), [OLD, NEW], PODS, ignored_condition=earlier).failed


def test_e2_available_pods_of_the_old_template_are_not_said_to_be_the_new_ones() -> None:
    conditions = (DeploymentCondition("Progressing", "False", "ProgressDeadlineExceeded", ""),)
    status = evaluate_rollout(replace(SETTLED, conditions=conditions), [OLD, replace(NEW, available=0)], PODS)
    assert "0 of 3 new replicas available" in status.message
    assert "3 of 3" not in status.message


def test_e3_what_does_not_heal_is_named_before_what_may() -> None:
    crash = FailureCause("CrashLoopBackOff", "container app of pod new-1 crashes")
    pull = FailureCause("ErrImagePull", "image u:2 cannot be pulled", 3.0)
    pods = [replace(PODS[0], cause=crash), replace(PODS[1], cause=pull), *PODS[2:]]
    assert evaluate_rollout(replace(SETTLED, available=1), [OLD, NEW], pods).cause is pull
    refused = replace(NEW, replicas=2, failure_message='pods "x" is forbidden: exceeded quota: q')
    status = evaluate_rollout(replace(SETTLED, updated=2), [OLD, refused], pods)
    assert status.message.startswith('FailedCreate: pods "x" is forbidden: exceeded quota: q; ')
    assert status.cause is not None
    assert status.cause.patience == 5.0


def test_the_condition_of_an_older_generation_is_not_the_verdict_on_the_new_one() -> None:
    conditions = (DeploymentCondition("Progressing", "False", "ProgressDeadlineExceeded", ""),)
    fresh = replace(SETTLED, generation=5, conditions=conditions)
    assert not evaluate_rollout(fresh, [OLD, NEW], PODS).failed


def test_after_a_rollback_the_older_replica_set_is_the_new_one() -> None:
    back = replace(SETTLED, images={"app": "u:1"}, revision="3")
    reused = replace(OLD, revision="3", desired=3, replicas=3, ready=3, available=3)
    assert evaluate_rollout(back, [reused, NEW], [pod(f"b-{n}", "h1") for n in range(3)]).done
    assert not evaluate_rollout(back, [reused, NEW], [*PODS]).done


@given(
    observed=st.integers(0, 4),
    paused=st.booleans(),
    updated=st.integers(0, 3),
    available=st.integers(0, 3),
    hashes=st.lists(st.sampled_from(["h1", "h2", ""]), max_size=5),
    leaving=st.booleans(),
)
def test_never_done_with_an_older_pod_or_an_unseen_spec(
    observed: int, paused: bool, updated: int, available: int, hashes: list[str], leaving: bool
) -> None:
    view = replace(SETTLED, observed_generation=observed, paused=paused, updated=updated, available=available)
    pods = [pod(f"p{n}", template, leaving=leaving) for n, template in enumerate(hashes)]
    status = evaluate_rollout(view, [OLD, NEW], pods)
    if status.done:
        assert observed == 4
        assert not paused
        assert available == updated == 3
        assert all(template == "h2" for template in hashes)
    assert not (status.done and status.failed)


def test_pods_of_others_do_not_count_and_those_of_a_deleted_replica_set_do() -> None:
    foreign = replace(OLD, uid="rs9", owner_uid="d9")
    found = select_own_pods(
        SETTLED,
        [OLD, NEW, foreign],
        [
            facts(name="mine", owner_uid="rs2", template_hash="h2"),
            facts(name="orphaned", owner_uid="rs0", template_hash="h0"),
            facts(name="foreign", owner_uid="rs9", template_hash="h9"),
            facts(name="bare", owner_uid="", template_hash=""),
        ],
    )
    assert [item.name for item in found] == ["mine", "orphaned"]


def test_deployment_projection() -> None:
    view = project_deployment(
        {
            "metadata": {
                "name": "users",
                "generation": 7,
                "resourceVersion": "12",
                "annotations": {
                    "deployment.kubernetes.io/revision": "3",
                    "zdd.dev/epoch": "41",
                    "kubernetes.io/change-cause": "V2",
                },
            },
            "spec": {
                "selector": {"matchLabels": {"app": "users"}},
                "minReadySeconds": 5,
                "paused": True,
                "template": {"spec": {"containers": [{"name": "app", "image": "u:2"}]}},
            },
            "status": {"observedGeneration": 6},
        }
    )
    assert (view.generation, view.observed_generation, view.is_observed) == (7, 6, False)
    assert (view.revision, view.epoch, view.change_cause) == ("3", 41, "V2")
    assert (view.desired, view.min_ready_seconds, view.paused) == (1, 5.0, True)
    assert (view.images, view.selector) == ({"app": "u:2"}, "app=users")


@pytest.mark.parametrize("spoiled", ["", "x", "-3", "1.5", "٣", "9" * 40])
def test_a_malformed_epoch_counts_as_none(spoiled: str) -> None:
    assert project_deployment({"metadata": {"annotations": {"zdd.dev/epoch": spoiled}}}).epoch == 0


def test_selector_text() -> None:
    rules = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "x", "operator": "NotIn", "values": ["c"]},
        {"key": "y", "operator": "Exists"},
        {"key": "z", "operator": "DoesNotExist"},
    ]
    found = format_selector({"matchLabels": {"app": "users"}, "matchExpressions": rules})
    assert found == "app=users,tier in (a,b),x notin (c),y,!z"


@given(JSON)
def test_any_object_is_tolerated(value: Any) -> None:
    for raw in (
        value,
        {"metadata": value, "spec": value, "status": value},
        {"spec": {"selector": value, "template": value}},
    ):
        view = project_deployment(raw)
        project_replica_set(raw)
        project_event(raw)
        evaluate_rollout(view, [], [])


def test_event_projection_takes_the_newest_time_and_the_count() -> None:
    event = project_event(
        {
            "type": "Warning",
            "reason": "Unhealthy",
            "message": "Readiness probe failed",
            "count": 3,
            "involvedObject": {"kind": "Pod", "name": "users-1"},
            "metadata": {"creationTimestamp": "2027-01-15T07:00:00Z"},
            "lastTimestamp": "2027-01-15T08:00:00Z",
        }
    )
    assert (event.at, event.warning, event.object, event.count) == (NOW, True, "pod/users-1", 3)


def test_why_a_pod_does_not_become_ready_by_its_events() -> None:
    def event(at: float, reason: str, message: str = "", count: int = 1, *, warning: bool = True) -> EventView:
        return EventView(at, warning, reason, "pod/one", message, count)

    probe = event(3.0, "Unhealthy", "Startup probe failed: HTTP probe failed with statuscode: 503", 97)
    killed = event(4.0, "Killing", warning=False)
    assert describe_waiting([killed, probe]) == "startup probe: HTTP 503 (97×)"
    unmounted = event(1.0, "FailedMount", "no secret")
    assert describe_waiting([unmounted]) == "FailedMount: no secret"
    assert describe_waiting([unmounted, event(2.0, "Started", warning=False)]) == ""
    assert describe_waiting([]) == ""


def test_the_pod_that_was_restarted_most_often_is_named_first() -> None:
    waiting = [replace(each, state=PodState.NOT_READY, restarts=count) for count, each in enumerate(PODS[:2])]
    status = evaluate_rollout(replace(SETTLED, available=1), [OLD, NEW], [*waiting, PODS[2]])
    assert (status.waiting_pods, status.restarts) == (("new-1", "new-0"), 1)

"""The rules of the local cluster that are plain functions: rollout arithmetic, patches, selectors, tables."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdd_tui.testbed.cluster import schema, selectors
from zdd_tui.testbed.cluster.controllers.endpoints import distribute_endpoints
from zdd_tui.testbed.cluster.controllers.pods import deletion_order
from zdd_tui.testbed.cluster.controllers.revisions import (
    replica_set_annotations,
    same_template,
    template_hash,
    with_label,
)
from zdd_tui.testbed.cluster.controllers.rollout import (
    ReplicaSetSize,
    RolloutBounds,
    next_new_size,
    next_old_sizes,
    proportional_sizes,
    resolve_bounds,
)
from zdd_tui.testbed.cluster.patches import json_patch, merge_patch, strategic_merge
from zdd_tui.testbed.cluster.tables import format_kubectl_duration

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        # The examples beside ResolveFenceposts in deployment_util.go.
        (2, "0%", "1%", (0, 1)),
        (1, "0%", "1%", (0, 1)),
        (2, "1%", "25%", (1, 0)),
        (1, "1%", "25%", (1, 0)),
        (2, "1%", "0%", (1, 0)),
        (10, "25%", "25%", (3, 2)),
        (4, "25%", "25%", (1, 1)),
        (3, 5, 9, (5, 3)),
        (0, "25%", "25%", (0, 0)),
    ],
)
def test_percentages_round_up_for_surge_and_down_for_unavailable(
    replicas: int, surge: Any, unavailable: Any, expected: tuple[int, int]
) -> None:
    found = resolve_bounds(replicas, surge, unavailable)
    assert (found.surge, found.unavailable) == expected


def test_unhealthy_old_pods_go_first() -> None:
    """Case 1 of the comment in rolling.go: 4 of 5 crash-looping pods go after a rollback."""
    limit = RolloutBounds(10, 3, 2)
    good, bad = ReplicaSetSize("good", 8, 7), ReplicaSetSize("bad", 5, 0, "2")
    assert next_old_sizes(limit, good, [bad]) == {"bad": 1}


def test_a_new_template_over_a_stuck_one_starts_at_zero_and_makes_room() -> None:
    """Case 2 of the same comment."""
    limit = RolloutBounds(10, 3, 2)
    old, stuck, new = (
        ReplicaSetSize("old", 8, 8, "1"),
        ReplicaSetSize("stuck", 5, 0, "2"),
        ReplicaSetSize("new", 0, 0, "3"),
    )
    assert next_new_size(limit, new, [old, stuck, new]) == 0
    assert next_old_sizes(limit, new, [old, stuck]) == {"stuck": 0}


@given(
    replicas=st.integers(1, 12),
    surge=st.one_of(st.integers(0, 5), st.integers(0, 100).map("{}%".format)),
    unavailable=st.one_of(st.integers(0, 5), st.integers(0, 100).map("{}%".format)),
    data=st.data(),
)
def test_no_order_of_readiness_leaves_the_bounds_and_every_rollout_ends(
    replicas: int, surge: Any, unavailable: Any, data: st.DataObject
) -> None:
    """A rollout where, between two steps, any of the new pods may become ready or none."""
    limit = resolve_bounds(replicas, surge, unavailable)
    old, new = ReplicaSetSize("old", replicas, replicas, "1"), ReplicaSetSize("new", 0, 0, "2")
    for _ in range(8 * replicas + 8):
        if (old.replicas, new.available) == (0, replicas):
            break
        new = replace(new, replicas=next_new_size(limit, new, [old, new]))
        smaller = next_old_sizes(limit, new, [old]).get("old", old.replicas)
        old = replace(old, replicas=smaller, available=min(old.available, smaller))
        assert old.replicas + new.replicas <= replicas + limit.surge
        assert old.available + new.available >= replicas - limit.unavailable
        slowest = min(1, new.replicas - new.available)
        more = data.draw(st.integers(slowest, max(slowest, new.replicas - new.available)))
        new = replace(new, available=new.available + more)
    assert (old.replicas, new.available) == (0, replicas)


@given(
    sizes=st.lists(st.integers(0, 20), min_size=1, max_size=5),
    replicas=st.integers(0, 30),
    surge=st.integers(0, 5),
)
def test_proportional_sizes_move_towards_what_is_allowed(sizes: list[int], replicas: int, surge: int) -> None:
    before = sum(sizes)
    every = [ReplicaSetSize(f"rs{i}", size, size, str(i), max_annotation=before) for i, size in enumerate(sizes)]
    found = proportional_sizes(RolloutBounds(replicas, surge, 1), every, before)
    if not any(sizes):
        assert found == {}
        return
    assert all(size >= 0 for size in found.values())
    allowed = replicas + surge if replicas else 0
    if allowed >= before:
        assert sum(found.values()) == allowed
    else:  # what one ReplicaSet is too small to give is taken by the next sync
        assert allowed <= sum(found.values()) <= before


def pod(name: str, *, phase: str = "Running", ready: int | None = 60, node: str = "a", **more: Any) -> Json:
    """`ready` is the number of seconds since it became ready; None where it is not."""
    since = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(seconds=ready or 0)
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since.isoformat()}
    metadata = {"name": name, "uid": name, "creationTimestamp": "2025-12-31T00:00:00Z", **more}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": phase, "conditions": [condition]}}


def test_pods_are_deleted_in_the_order_of_the_real_controller() -> None:
    cheap = {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}}
    dear = {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "5"}}
    expected = [
        pod("unassigned", node="", phase="Pending", ready=None), pod("pending", phase="Pending", ready=None),
        pod("not-ready", ready=None), pod("cheap", **cheap), pod("crowded", node="b"),
        pod("young", ready=2), pod("old", ready=5_000), pod("dear", **dear),
    ]  # fmt: skip
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    found = deletion_order(reversed(expected), {"a": 1, "b": 3}, moment)
    assert [item["metadata"]["name"] for item in found] == [item["metadata"]["name"] for item in expected]


def test_endpoints_stay_in_their_slice_and_slices_hold_a_hundred() -> None:
    wanted = [{"targetRef": {"uid": str(number)}} for number in range(250)]
    first = distribute_endpoints(wanted, [])
    assert [len(item) for item in first] == [100, 100, 50]
    left = [item for item in wanted if int(item["targetRef"]["uid"]) % 2 or item in first[2]]
    second = distribute_endpoints(left, first)
    for old, new in zip(first, second, strict=True):
        assert [item for item in old if item in left] == new


def test_a_revision_that_comes_back_remembers_the_ones_it_had() -> None:
    prefix = "deployment.kubernetes.io/"
    own = {f"{prefix}revision": "3", f"{prefix}revision-history": "1"}
    deployment = {"metadata": {"annotations": {"note": "x", f"{prefix}revision": "4"}}}
    found = replica_set_annotations(deployment, {"metadata": {"annotations": own}}, 5)
    assert found == {"note": "x", f"{prefix}revision": "5", f"{prefix}revision-history": "1,3"}


def test_a_template_hash_names_its_template() -> None:
    one: Json = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"image": "x:1"}]}}
    other = {**one, "spec": {"containers": [{"image": "x:2"}]}}
    assert template_hash(one) == template_hash(dict(reversed(one.items())))
    assert len({template_hash(one), template_hash(other), template_hash(one, 1)}) == 3
    assert same_template(one, with_label(one, "abc"))
    assert not same_template(one, other)


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [  # the examples of RFC 7386, appendix A, that patch objects
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Json, patch: Json, expected: Json) -> None:
    assert merge_patch(target, patch) == expected


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"op": "add", "path": "/l/1", "value": 9}, {"l": [1, 9, 2], "m": {"k": 0}}),
        ({"op": "add", "path": "/l/-", "value": 9}, {"l": [1, 2, 9], "m": {"k": 0}}),
        ({"op": "remove", "path": "/l/0"}, {"l": [2], "m": {"k": 0}}),
        ({"op": "replace", "path": "/l/0", "value": 9}, {"l": [9, 2], "m": {"k": 0}}),
        ({"op": "move", "from": "/m/k", "path": "/m/n"}, {"l": [1, 2], "m": {"n": 0}}),
        ({"op": "copy", "from": "/l/1", "path": "/m/k"}, {"l": [1, 2], "m": {"k": 2}}),
    ],
)
def test_json_patch(operation: Json, expected: Json) -> None:
    original = {"l": [1, 2], "m": {"k": 0}}
    assert json_patch(original, [operation]) == expected
    assert original == {"l": [1, 2], "m": {"k": 0}}, "the stored object is not touched"


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ([{"name": "b", "image": "2"}], [{"name": "b", "image": "2"}, {"name": "a", "image": "1"}]),
        ([{"name": "a", "$patch": "delete"}], []),
        ([{"$patch": "replace"}, {"name": "c"}], [{"name": "c"}]),
        ([{"name": "a", "image": None}], [{"name": "a"}]),
    ],
)
def test_strategic_merge_of_containers(patch: list[Json], expected: list[Json]) -> None:
    target = {"spec": {"containers": [{"name": "a", "image": "1"}]}}
    assert strategic_merge(target, {"spec": {"containers": patch}}, "Pod")["spec"]["containers"] == expected
    assert target == {"spec": {"containers": [{"name": "a", "image": "1"}]}}


def test_strategic_merge_keeps_unnamed_items_where_they_came_before() -> None:
    target = {"spec": {"containers": [{"name": name} for name in ("a", "x", "b")]}}
    order = [{"name": "b"}, {"name": "a"}]
    merged = strategic_merge(target, {"spec": {"$setElementOrder/containers": order}}, "Pod")
    assert [item["name"] for item in merged["spec"]["containers"]] == ["x", "b", "a"]


def test_ports_merge_by_the_key_of_their_kind() -> None:
    service = {"spec": {"ports": [{"port": 80, "name": "http"}]}}
    merged = strategic_merge(service, {"spec": {"ports": [{"port": 80, "name": "web"}]}}, "Service")
    assert merged["spec"]["ports"] == [{"port": 80, "name": "web"}]
    slices = {"ports": [{"port": 80}, {"port": 81}]}
    assert strategic_merge(slices, {"ports": [{"port": 82}]}, "EndpointSlice") == {"ports": [{"port": 82}]}


@pytest.mark.parametrize("text", ["a=b c", "in (a)", "a in b", "a=b,,c", "=", "a>1"])
def test_selectors_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(Exception, match="unable to parse requirement"):
        selectors.parse_labels(text)


def test_a_service_without_a_selector_selects_nothing() -> None:
    matches: Callable[[dict[str, str]], bool] = selectors.match_map({})
    assert not matches({"a": "b"})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"), (5, "5s"), (119, "119s"), (120, "2m"), (200, "3m20s"), (601, "10m"), (3 * 3600, "3h"),
        (5 * 3600 + 120, "5h2m"), (9 * 3600 + 60, "9h"), (50 * 3600, "2d2h"), (10 * 86400, "10d"),
        (800 * 86400, "2y70d"),
    ],
)  # fmt: skip
def test_ages_read_as_kubectl_writes_them(seconds: int, text: str) -> None:
    assert format_kubectl_duration(seconds) == text


def test_the_schema_is_that_of_the_installed_client() -> None:
    assert isinstance(schema.SCHEMA_FILE, Path)
    generated = schema.generate_schema()
    stored = schema._types()
    assert stored.keys() <= generated.keys(), "run python -m zdd_tui.testbed.cluster.schema"
    for name, fields in stored.items():
        assert fields.keys() <= generated[name].keys(), f"{name}: run python -m zdd_tui.testbed.cluster.schema"

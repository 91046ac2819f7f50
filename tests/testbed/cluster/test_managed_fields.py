"""managedFields of the embedded cluster: the last writer of a field is its only manager."""

from typing import Any

from zdd_tui.model.workload.managers import find_image_manager, find_manager
from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.managed_fields import _manager, track_changes


def deployment(image: str, replicas: int) -> dict[str, Any]:
    container = {"name": "app", "image": image}
    spec = {"replicas": replicas, "template": {"spec": {"containers": [container]}}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def write(manager: str, old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    token = _manager.set(manager)
    track_changes(kinds.DEPLOYMENT, old, new)
    _manager.reset(token)
    return new


def name(manager: object) -> str:
    return str(manager).partition(" at ")[0]


def test_the_last_writer_of_a_field_is_its_manager() -> None:
    first = write("helm", None, deployment("a:1", 2))
    second = write("zdd-tui", first, deployment("a:2", 2))
    third = write("hpa", second, deployment("a:2", 5))
    assert name(find_image_manager(third, "app")) == "zdd-tui"
    assert name(find_manager(third, "f:spec", "f:replicas")) == "hpa"
    assert [entry["manager"] for entry in third["metadata"]["managedFields"]] == ["helm", "zdd-tui", "hpa"]
    unchanged = write("reader", third, deployment("a:2", 5))
    assert unchanged["metadata"]["managedFields"] == third["metadata"]["managedFields"]

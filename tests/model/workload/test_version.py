"""Which version a pod runs, also where a webhook has changed its image (case E5)."""

from dataclasses import replace

import pytest

from tests.model.workload.test_pod import facts
from tests.model.workload.test_rollout import NEW
from tests.support.store import plan_for
from zdd_tui.model.workload.version import applied_images, image_version, is_rewritten, pod_version

DIGEST = "sha256:" + "5" * 64
PLAN = plan_for("postgresql://a@b/c")
CONTAINER = PLAN.kubernetes.container


@pytest.mark.parametrize(
    ("found", "requested", "is_same"),
    [
        (f"shop/api@{DIGEST}", "shop/api:2", True),
        (f"shop/api:2@{DIGEST}", "shop/api:2", True),
        ("mirror.local:5000/shop/api:2", "shop/api:2", True),
        (f"mirror.local/api@{DIGEST}", "shop/api:2", True),
        ("shop/api:latest", "shop/api", True),
        ("shop/api:3", "shop/api:2", False),
        (f"shop/api:1@{DIGEST}", "shop/api:2", False),
        ("shop/other:2", "shop/api:2", False),
        (f"shop/api@{DIGEST}", f"shop/api@{DIGEST[:-1]}6", False),
        ("shop/api", "shop/api:2", False),
    ],
)
def test_what_a_webhook_may_have_made_of_an_image(found: str, requested: str, is_same: bool) -> None:
    assert is_rewritten(found, requested) is is_same


def test_a_pinned_pod_has_the_version_of_the_replica_set_that_made_it() -> None:
    made_by = replace(NEW, uid="set", images={CONTAINER: "users:2"})
    pinned = replace(facts(), image=f"users@{DIGEST}", owner_uid="set")
    assert pod_version(PLAN, pinned, {"set": made_by}, {}) == "v2"
    assert pod_version(PLAN, pinned, {}, {}) == "v1", "without its ReplicaSet it cannot be told"
    by_hand = replace(pinned, image="users:hotfix")
    assert pod_version(PLAN, by_hand, {"set": made_by}, {}) == "v1"
    assert pod_version(PLAN, replace(pinned, image="users:3"), {"set": made_by}, {}) == "v3"


def test_an_image_that_the_api_server_made_of_ours_has_its_version() -> None:
    applied = applied_images([{}, {"images_applied": {"users:2": f"users@{DIGEST}", "users:3": "users:3"}}])
    assert applied == {f"users@{DIGEST}": "users:2"}
    assert image_version(PLAN, f"users@{DIGEST}", applied) == "v2"
    pinned_set = replace(NEW, uid="set", images={CONTAINER: f"users@{DIGEST}"})
    pod = replace(facts(), image=f"users@{DIGEST}", owner_uid="set")
    assert pod_version(PLAN, pod, {"set": pinned_set}, applied) == "v2"

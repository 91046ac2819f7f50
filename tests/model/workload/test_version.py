"""Which version a pod runs, also where a webhook has changed its image (case E5)."""

from dataclasses import replace

import pytest

from tests.model.workload.test_pod import facts
from tests.model.workload.test_rollout import NEW
from tests.support.store import plan_for
from zdd_tui.model.image import is_rewritten
from zdd_tui.model.workload.version import PodVersions

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
        (f"shop/api:2@{DIGEST}", f"mirror.local/api@{DIGEST}", True),
        ("shop/api", "shop/api:2", False),
    ],
)
def test_what_a_webhook_may_have_made_of_an_image(found: str, requested: str, is_same: bool) -> None:
    assert is_rewritten(found, requested) is is_same


def test_a_pinned_pod_has_the_version_of_the_replica_set_that_made_it() -> None:
    made_by = replace(NEW, uid="set", images={CONTAINER: "users:2"})
    versions = PodVersions(PLAN, {"set": made_by})
    pinned = replace(facts(), image=f"users@{DIGEST}", owner_uid="set")
    assert versions.version_of(pinned) == "v2"
    assert PodVersions(PLAN, {}).version_of(pinned) == "v1", "without its ReplicaSet it cannot be told"
    assert versions.version_of(replace(pinned, image="users:hotfix")) == "v1"
    assert versions.version_of(replace(pinned, image="users:3")) == "v3"


def test_an_image_that_the_api_server_made_of_ours_has_its_version() -> None:
    plan = plan_for("postgresql://a@b/c")
    plan.learn_image("users:2", f"users@{DIGEST}")
    pinned_set = replace(NEW, uid="set", images={CONTAINER: f"users@{DIGEST}"})
    pod = replace(facts(), image=f"users@{DIGEST}", owner_uid="set")
    assert PodVersions(plan, {"set": pinned_set}).version_of(pod) == "v2"

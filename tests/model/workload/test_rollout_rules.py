"""Judgement of recorded objects: owners, quotas, autoscalers, budgets, image references."""

from decimal import Decimal
from typing import Any

import pytest

from zdd_tui.model.image import has_same_repository, is_same_image, parse_image
from zdd_tui.model.workload.owners import find_workload_owners
from zdd_tui.model.workload.quota import find_quota_shortages, parse_quantity
from zdd_tui.model.workload.rollout_rules import find_companions, matches_selector

D = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("planned", "found", "is_same"),
    [
        ("shop/api:2", "shop/api:2", True),
        ("shop/api:2", f"shop/api:2@{D}", True),
        ("shop/api:2", f"docker.io/shop/api:2@{D}", True),
        ("nginx:1", "docker.io/library/nginx:1", True),
        ("nginx", "nginx:latest", True),
        ("shop/api:2", f"shop/api@{D}", False),
        ("shop/api:2", "mirror.example/shop/api:2", False),
        ("shop/api:2", "shop/api:3", False),
        ("localhost:5000/api:2", f"localhost:5000/api:2@{D}", True),
        (f"shop/api@{D}", f"shop/api:2@{D}", True),
    ],
)
def test_same_image(planned: str, found: str, is_same: bool) -> None:
    assert is_same_image(planned, found) is is_same


def test_parts_of_a_reference() -> None:
    assert parse_image(f"reg.example:5000/a/b:1@{D}") == parse_image(f" reg.example:5000/a/b:1@{D} ")
    assert parse_image("reg.example:5000/a/b:1").repository == "reg.example:5000/a/b"
    assert has_same_repository("mirror.example/shop/api:1", "shop/api:2")
    assert not has_same_repository("shop/api:1", "shop/apis:1")


def deployment(metadata: dict[str, Any]) -> dict[str, Any]:
    labels = {"app": "api"}
    return {
        "metadata": {"name": "api", "namespace": "shop", **metadata},
        "spec": {"template": {"metadata": {"labels": labels}}},
    }


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({}, []),
        ({"labels": {"argocd.argoproj.io/instance": "shop"}}, ["Argo CD"]),
        ({"managedFields": [{"manager": "argocd-controller"}]}, ["Argo CD"]),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}}, ["Flux (kustomization)"]),
        (
            {
                "labels": {"kustomize.toolkit.fluxcd.io/name": "apps"},
                "annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"},
            },
            [],
        ),
        (
            {
                "labels": {"app.kubernetes.io/managed-by": "Helm", "helm.toolkit.fluxcd.io/name": "shop"},
                "annotations": {"meta.helm.sh/release-name": "shop"},
            },
            ["Flux (helm release)"],
        ),
        ({"annotations": {"meta.helm.sh/release-name": "shop"}}, ["Helm"]),
        ({"managedFields": [{"manager": "helm", "subresource": "status"}]}, []),
        ({"ownerReferences": [{"kind": "Shop", "name": "eu", "controller": True}]}, ["Shop eu"]),
        ({"ownerReferences": [{"kind": "Shop", "name": "eu"}]}, []),
        ({"managedFields": [{"manager": "kubectl-client-side-apply"}, {"manager": "Terraform"}]}, ["Terraform"]),
        ({"labels": "broken", "managedFields": "broken", "ownerReferences": [3]}, []),
    ],
)
def test_owners(metadata: dict[str, Any], names: list[str]) -> None:
    owners = find_workload_owners(deployment(metadata))
    assert [owner.name for owner in owners] == names
    assert all(owner.hint and owner.evidence for owner in owners)


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", "0.5"), ("2Gi", str(2 * 1024**3)), ("1k", "1000"), ("4", "4"), ("1e3", "1000"), ("0.5", "0.5")],
)
def test_quantities(text: str, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)
    assert parse_quantity("much") is None
    assert parse_quantity("1.2.3") is None


def quota(hard: dict[str, str], used: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used}}


def test_e2_quota_that_forbids_the_surge() -> None:
    container = {"name": "app", "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}}}
    template = {"spec": {"containers": [container]}}

    def find(*quotas: Any) -> tuple[str, ...]:
        return find_quota_shortages(quotas, template)

    assert find(quota({"pods": "4"}, {"pods": "4"})) == (
        "quota q allows pods 4, and 4 are used: no pod can be created beside the old ones",
    )
    assert find(quota({"pods": "5"}, {"pods": "4"})) == ()
    assert len(find(quota({"requests.cpu": "2"}, {"requests.cpu": "1600m"}))) == 1
    assert find(quota({"requests.cpu": "2"}, {"requests.cpu": "1500m"})) == ()
    assert len(find(quota({"requests.memory": "4Gi"}, {"requests.memory": "3500Mi"}))) == 1
    assert find(quota({"limits.cpu": "1"}, {"limits.cpu": "1"})) == (), "a LimitRange may set it"
    assert find(quota({"pods": "4"}, {"pods": "4"}, scopes=["BestEffort"])) == ()
    assert find(quota({"count/secrets": "1"}, {"count/secrets": "1"})) == ()


def test_autoscalers_and_budgets() -> None:
    target = {"kind": "Deployment", "name": "api"}
    scaler = {"metadata": {"name": "s"}, "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 9}}
    other = {"metadata": {"name": "t"}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}}}
    selector = {"matchLabels": {"app": "api"}}
    budget = {"metadata": {"name": "b"}, "spec": {"selector": selector, "minAvailable": 4}}
    full = budget | {"status": {"disruptionsAllowed": 0}}
    found = [each.text for each in find_companions(deployment({}), [scaler, other], [budget])]
    assert found == ["HorizontalPodAutoscaler s scales it, 2 to 9 pods: the number may change during a rollout"]
    assert (
        "PodDisruptionBudget b (minAvailable 4) allows no eviction now"
        in find_companions(deployment({}), [], [full])[0].text
    )


def test_selectors() -> None:
    labels = {"app": "api", "tier": "web"}
    rules = [
        ({"key": "tier", "operator": "In", "values": ["web"]}, True),
        ({"key": "tier", "operator": "NotIn", "values": ["web"]}, False),
        ({"key": "zone", "operator": "NotIn", "values": ["a"]}, True),
        ({"key": "tier", "operator": "Exists"}, True),
        ({"key": "zone", "operator": "Exists"}, False),
        ({"key": "tier", "operator": "DoesNotExist"}, False),
    ]
    for rule, is_match in rules:
        assert matches_selector({"matchExpressions": [rule]}, labels) is is_match
    assert matches_selector({}, labels)
    assert not matches_selector({"matchLabels": {"app": "x"}}, labels)

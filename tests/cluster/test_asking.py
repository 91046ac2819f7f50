"""What a client asks beside single objects: lists in pages, and what it may do."""

from urllib.parse import quote

import pytest

from tests.cluster.rest import Json, KubernetesClient, RequestRefused

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def make_config_maps(api: KubernetesClient, count: int) -> list[str]:
    """The names of so many new ConfigMaps, in the order of a list."""
    names = [f"page-{number}" for number in range(count)]
    for name in names:
        api.create("configmaps", {"metadata": {"name": name, "labels": {"in": "pages"}}})
    return names


def names_of(page: Json) -> list[str]:
    return [item["metadata"]["name"] for item in page["items"]]


def test_a_list_comes_in_pages_of_one_version(api: KubernetesClient) -> None:
    names = make_config_maps(api, 5)
    first = api.get("configmaps?labelSelector=in%3Dpages&limit=2")
    api.delete(f"configmaps/{names[4]}")
    token, seen = first["metadata"]["continue"], names_of(first)
    assert seen == names[:2]
    assert "remainingItemCount" not in first["metadata"]
    while token:
        page = api.get(f"configmaps?labelSelector=in%3Dpages&limit=2&continue={quote(token)}")
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        assert len(page["items"]) <= 2
        seen += names_of(page)
        token = page["metadata"].get("continue", "")
    assert seen == names


def test_without_a_limit_or_from_the_cache_a_list_is_whole(api: KubernetesClient) -> None:
    names = make_config_maps(api, 3)
    assert names_of(api.get("configmaps?labelSelector=in%3Dpages")) == names
    api.get("configmaps?labelSelector=in%3Dpages")  # the cache has seen them
    whole = api.get("configmaps?labelSelector=in%3Dpages&limit=3")
    assert names_of(whole) == names
    assert "continue" not in whole["metadata"]


def test_the_holder_of_the_token_may_do_everything(api: KubernetesClient) -> None:
    requested = {"namespace": api.namespace, "verb": "list", "resource": "pods"}
    answer = api.create(REVIEWS, {"spec": {"resourceAttributes": requested}})
    assert answer["status"]["allowed"] is True
    assert answer["spec"]["resourceAttributes"] == requested


@pytest.mark.parametrize("spec", [{}, {"resourceAttributes": {"verb": "get"}, "nonResourceAttributes": {"path": "/"}}])
def test_a_review_asks_about_exactly_one_thing(api: KubernetesClient, spec: Json) -> None:
    with pytest.raises(RequestRefused) as caught:
        api.create(REVIEWS, {"spec": spec})
    assert caught.value.code == 422

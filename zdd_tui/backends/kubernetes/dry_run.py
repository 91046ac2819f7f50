"""Requests that the API server admits and does not store (``dryRun=All``), and reads of what is beside a Deployment."""

from http import HTTPStatus
from typing import Any

from zdd_tui.backends.kubernetes.cluster import STRATEGIC_MERGE_PATCH, ApiResource, Cluster
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.kubernetes.services import DEPLOYMENTS
from zdd_tui.model.json_access import get_object, get_objects

PODS: ApiResource = "api/v1", "pods"
QUOTAS: ApiResource = "api/v1", "resourcequotas"
AUTOSCALERS: ApiResource = "apis/autoscaling/v2", "horizontalpodautoscalers"
BUDGETS: ApiResource = "apis/policy/v1", "poddisruptionbudgets"
_DRY_RUN = {"dryRun": "All"}


async def try_image(cluster: Cluster, deployment: str, container: str, image: str) -> Any:
    """The Deployment as it would be with another image, after every admission webhook.

    Raises:
        KubeApiError: the patch would be refused.
    """
    body = {"spec": {"template": {"spec": {"containers": [{"name": container, "image": image}]}}}}
    return await cluster.http.request_json(
        "PATCH",
        cluster.path(*DEPLOYMENTS, deployment),
        params=_DRY_RUN,
        body=body,
        content_type=STRATEGIC_MERGE_PATCH,
    )


async def try_pod(cluster: Cluster, deployment: Any) -> Any:
    """A pod of a Deployment's template as it would be, after every admission webhook and quota.

    Raises:
        KubeApiError: the pod would be refused, or this account may create none.
    """
    template = get_object(deployment, "spec", "template")
    metadata = {
        key: value
        for key, value in get_object(template, "metadata").items()
        if key in ("labels", "annotations") and value
    }
    metadata["generateName"] = f"{deployment['metadata']['name']}-"
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": get_object(template, "spec")}
    return await cluster.http.request_json("POST", cluster.path(*PODS), params=_DRY_RUN, body=body)


async def list_readable(cluster: Cluster, kind: ApiResource) -> list[Any] | None:
    """All objects of a kind; none where the cluster does not have the kind, None where this account may not read it."""
    try:
        found = await cluster.http.request_json("GET", cluster.path(*kind))
    except KubeApiError as error:
        if error.status == HTTPStatus.FORBIDDEN:
            return None
        if error.status == HTTPStatus.NOT_FOUND:
            return []
        raise
    return list(get_objects(found, "items"))


async def get_namespace(cluster: Cluster) -> Any | None:
    """The namespace; None where this account may not read it."""
    try:
        return await cluster.http.request_json("GET", f"/api/v1/namespaces/{cluster.namespace}")
    except KubeApiError as error:
        if error.status == HTTPStatus.FORBIDDEN:
            return None
        raise

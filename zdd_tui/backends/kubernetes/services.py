"""The second Deployment and the Services of a blue/green release: create, switch, remove.

Writes are fenced by :meth:`zdd_tui.backends.kubernetes.cluster.Cluster.fenced_patch`. An object that another release
holds is refused, with the name of that release.
"""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from zdd_tui.backends.kubernetes.cluster import ApiResource, Cluster, FencedView, require_current_epoch
from zdd_tui.backends.kubernetes.errors import KubeApiError, kind_name
from zdd_tui.model.errors import ClusterError, Refused
from zdd_tui.model.json_access import get_text
from zdd_tui.model.workload.rollout import EPOCH_ANNOTATION
from zdd_tui.model.workload.second_deployment import (
    OWNER_ANNOTATION,
    ServiceView,
    ownership_annotations,
    project_service,
)

DEPLOYMENTS = "apis/apps/v1", "deployments"
SERVICES = "api/v1", "services"


class OwnedView(FencedView, Protocol):
    """An object that one release can hold."""

    @property
    def owner(self) -> str: ...


OwnedViewT = TypeVar("OwnedViewT", bound=OwnedView)


async def get_raw_object(cluster: Cluster, kind: ApiResource, name: str) -> Any | None:
    """Reads an object as raw JSON; None where it does not exist."""
    try:
        return await cluster.http.request_json("GET", cluster.path(*kind, name))
    except KubeApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


async def read_namespace_phase(cluster: Cluster) -> str | None:
    """The phase of the cluster's namespace, such as Terminating; empty where it does not exist, None where unknown.

    Namespaces are outside of every namespace: a role of one namespace may not read them.
    """
    try:
        raw = await cluster.http.request_json("GET", f"/api/v1/namespaces/{quote(cluster.namespace, safe='')}")
    except KubeApiError as error:
        return "" if error.status == HTTPStatus.NOT_FOUND else None
    return get_text(raw, "status", "phase") or None


async def get_service(cluster: Cluster, name: str) -> ServiceView:
    """Reads a Service.

    Raises:
        ClusterError: it does not exist.
    """
    return project_service(await cluster.http.request_json("GET", cluster.path(*SERVICES, name)))


def require_owner(kind: ApiResource, name: str, raw: Any, owner: str) -> None:
    """Raises Refused where another release holds the object."""
    holder = get_text(raw, "metadata", "annotations", OWNER_ANNOTATION)
    if holder and holder != owner:
        noun = kind_name(kind[1])
        raise Refused(
            f"{noun} {name!r} is held by release {holder!r}",
            f"finish or roll back {holder!r} first; two releases cannot change one {noun}",
        )


async def acquire_service(cluster: Cluster, name: str, *, owner: str, epoch: int) -> ServiceView:
    """Annotate a Service as owned by this release. No other release can acquire it then.

    Raises:
        Refused: another release holds it.
        StaleEpoch: a later epoch has written.
    """

    def build(view: ServiceView) -> dict[str, Any] | None:
        if view.owner == owner and view.epoch == epoch:
            return None
        return {"metadata": {"annotations": ownership_annotations(owner, epoch)}}

    return await _patch_service(cluster, name, owner, epoch, build)


async def set_service_selector(
    cluster: Cluster, name: str, selector: Mapping[str, str], *, owner: str, epoch: int
) -> ServiceView:
    """Change values of a Service's selector, in one patch with the annotations. Labels that are not named stay.

    Raises:
        Refused: another release holds it.
        StaleEpoch: a later epoch has written.
    """

    def build(view: ServiceView) -> dict[str, Any] | None:
        if view.owner == owner and view.epoch == epoch and selector.items() <= view.selector.items():
            return None
        return {"metadata": {"annotations": ownership_annotations(owner, epoch)}, "spec": {"selector": dict(selector)}}

    return await _patch_service(cluster, name, owner, epoch, build)


async def release_service(cluster: Cluster, name: str, *, owner: str, epoch: int) -> ServiceView:
    """Remove the ownership annotations from a Service.

    Raises:
        StaleEpoch: a later epoch has written.
    """
    return await _patch_service(cluster, name, owner, epoch, remove_ownership_patch)


async def create_owned(cluster: Cluster, kind: ApiResource, manifest: Mapping[str, Any], *, owner: str) -> None:
    """Create an object unless this release has created it already.

    Raises:
        Refused: an object of this name belongs to another owner; it is not changed.
    """
    name = manifest["metadata"]["name"]
    try:
        await cluster.http.request_json("POST", cluster.path(*kind), body=manifest)
    except KubeApiError as error:
        if error.status != HTTPStatus.CONFLICT:
            raise
        raw = await get_raw_object(cluster, kind, name)
        if raw is None:
            raise ClusterError(
                f"{kind_name(kind[1])} {name!r} is created and deleted by another client",
                cluster.show_writers_hint(kind, name),
            ) from None
        require_owner(kind, name, raw, owner)
        if not get_text(raw, "metadata", "annotations", OWNER_ANNOTATION):
            raise Refused(
                f"{kind_name(kind[1])} {name!r} exists already and belongs to no release",
                f"if it is not needed: kubectl -n {cluster.namespace} delete {kind[1]}/{name}",
            ) from None
        if get_text(raw, "metadata", "deletionTimestamp"):
            raise ClusterError(
                f"{kind_name(kind[1])} {name!r} is being deleted", "wait until it is deleted, then retry"
            ) from None


async def remove_owned(cluster: Cluster, kind: ApiResource, name: str, *, owner: str, epoch: int) -> bool:
    """Delete an object of this release; its pods are deleted after their Deployment, with their grace period.

    Returns:
        whether it no longer exists; call it again until then.

    Raises:
        StaleEpoch: a later epoch has written.
    """
    raw = await get_raw_object(cluster, kind, name)
    if raw is None or get_text(raw, "metadata", "annotations", OWNER_ANNOTATION) != owner:
        return True
    require_current_epoch(kind, name, get_text(raw, "metadata", "annotations", EPOCH_ANNOTATION), epoch)
    if not get_text(raw, "metadata", "deletionTimestamp"):
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": get_text(raw, "metadata", "uid")},
        }
        try:
            await cluster.http.request_json("DELETE", cluster.path(*kind, name), body=options)
        except KubeApiError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise
    return await get_raw_object(cluster, kind, name) is None


async def patch_owned(
    cluster: Cluster,
    kind: ApiResource,
    name: str,
    build: Callable[[OwnedViewT], dict[str, Any] | None],
    *,
    project: Callable[[Any], OwnedViewT],
    owner: str,
    epoch: int,
    read: Callable[[], Awaitable[Any]] | None = None,
) -> OwnedViewT:
    """Patch an object that one release can hold; the arguments are those of `Cluster.fenced_patch`.

    Raises:
        Refused: another release holds it.
        StaleEpoch: a later epoch has written.
    """

    async def read_checked() -> Any:
        raw = await (read() if read else cluster.http.request_json("GET", cluster.path(*kind, name)))
        require_owner(kind, name, raw, owner)
        return raw

    return await cluster.fenced_patch(kind, name, build, project=project, epoch=epoch, read=read_checked)


def remove_ownership_patch(view: OwnedView) -> dict[str, Any] | None:
    """Builds the patch that removes the ownership annotations."""
    if not view.owner and not view.epoch:
        return None
    return {"metadata": {"annotations": {OWNER_ANNOTATION: None, EPOCH_ANNOTATION: None}}}


async def _patch_service(
    cluster: Cluster, name: str, owner: str, epoch: int, build: Callable[[ServiceView], dict[str, Any] | None]
) -> ServiceView:
    return await patch_owned(cluster, SERVICES, name, build, project=project_service, owner=owner, epoch=epoch)

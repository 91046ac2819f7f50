"""The second Deployment and the Services of a blue/green release: make, switch, remove.

Every patch is fenced as in :mod:`zdd_tui.backends.kubernetes.cluster`: a later epoch is never written over, and the
patch carries the resourceVersion that was judged. What another release holds is refused by name.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from zdd_tui.backends.kubernetes.cluster import MERGE_PATCH, Cluster
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.model.errors import ClusterError, Refused, StaleEpoch
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
_CONFLICT, _NOT_FOUND = 409, 404
_ATTEMPTS = 10

ApiResource = tuple[str, str]


class OwnedView(Protocol):
    """What fencing needs of an object's view."""

    @property
    def owner(self) -> str: ...

    @property
    def epoch(self) -> int: ...

    @property
    def resource_version(self) -> str: ...


OwnedViewT = TypeVar("OwnedViewT", bound=OwnedView)


async def get_raw_object(cluster: Cluster, kind: ApiResource, name: str) -> Any | None:
    """An object as the API gives it; None where there is none."""
    try:
        return await cluster.http.request_json("GET", cluster.path(*kind, name))
    except KubeApiError as error:
        if error.status == _NOT_FOUND:
            return None
        raise


async def get_service(cluster: Cluster, name: str) -> ServiceView:
    """A Service as of now.

    Raises:
        ClusterError: there is none.
    """
    return project_service(await cluster.http.request_json("GET", cluster.path(*SERVICES, name)))


def require_owner(kind: ApiResource, name: str, raw: Any, owner: str) -> None:
    """Raises Refused where another release holds the object."""
    held = get_text(raw, "metadata", "annotations", OWNER_ANNOTATION)
    if held and held != owner:
        what = kind[1].removesuffix("s")
        raise Refused(
            f"{what} {name!r} is in the hands of release {held!r}",
            f"finish or roll back {held!r} first; two releases cannot switch one {what}",
        )


async def acquire_service(cluster: Cluster, name: str, *, owner: str, epoch: int) -> ServiceView:
    """Mark a Service as ours. From then on no other release may have it.

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
    """Change values of a Service's selector, in one patch with our marks. Labels that are not named stay.

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
    """Take our marks off a Service.

    Raises:
        StaleEpoch: a later epoch has written.
    """
    return await _patch_service(cluster, name, owner, epoch, remove_ownership_patch)


async def create_owned(cluster: Cluster, kind: ApiResource, manifest: Mapping[str, Any], *, owner: str) -> None:
    """Create an object unless we have created it already.

    Raises:
        Refused: another has an object of this name: it is left as it is.
    """
    name = manifest["metadata"]["name"]
    try:
        await cluster.http.request_json("POST", cluster.path(*kind), body=manifest)
    except KubeApiError as error:
        if error.status != _CONFLICT:
            raise
        raw = await get_raw_object(cluster, kind, name)
        if raw is None:
            raise ClusterError(f"{kind[1]} {name!r} comes and goes", "see who else writes to it") from None
        require_owner(kind, name, raw, owner)
        if not get_text(raw, "metadata", "annotations", OWNER_ANNOTATION):
            raise Refused(
                f"{kind[1].removesuffix('s')} {name!r} is there already and belongs to no release",
                f"kubectl -n {cluster.namespace} delete {kind[1]}/{name}, if nobody needs it",
            ) from None
        if get_text(raw, "metadata", "deletionTimestamp"):
            raise ClusterError(
                f"{kind[1].removesuffix('s')} {name!r} is being deleted", "wait until it is gone"
            ) from None


async def remove_owned(cluster: Cluster, kind: ApiResource, name: str, *, owner: str, epoch: int) -> bool:
    """Delete an object of ours; pods go after their Deployment, with their grace.

    Returns:
        whether it is gone; ask again while it is not.

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
            if error.status not in (_NOT_FOUND, _CONFLICT):
                raise
    return await get_raw_object(cluster, kind, name) is None


def require_current_epoch(kind: ApiResource, name: str, stored_epoch: str, epoch: int) -> None:
    """Raises StaleEpoch where a later epoch has written."""
    if stored_epoch.isdigit() and int(stored_epoch) > epoch:
        raise StaleEpoch(
            f"{kind[1].removesuffix('s')} {name!r} was written by epoch {stored_epoch}; this agent holds epoch {epoch}",
            "another agent carries the release now; this one must stop",
        )


async def fenced_patch(
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
    """Patch an object that a release may hold; the resourceVersion lets nothing come between check and write.

    Args:
        build: the patch for the object as it is; None when nothing has to change.
        read: how the object is read, where a plain GET would not tell enough of what is missing.

    Raises:
        Refused: another release holds it.
        StaleEpoch: a later epoch has written.
    """
    path, what = cluster.path(*kind, name), kind[1].removesuffix("s")
    for _ in range(_ATTEMPTS):
        raw = await (read() if read else cluster.http.request_json("GET", path))
        require_owner(kind, name, raw, owner)
        view = project(raw)
        require_current_epoch(kind, name, str(view.epoch), epoch)
        patch = build(view)
        if patch is None:
            return view
        patch["metadata"]["resourceVersion"] = view.resource_version
        await cluster.check_lease()
        try:
            return project(await cluster.http.request_json("PATCH", path, body=patch, content_type=MERGE_PATCH))
        except KubeApiError as error:
            if error.status != _CONFLICT:
                raise
    raise ClusterError(f"{what} {name!r} changes faster than it can be patched", "see who else writes to it")


def remove_ownership_patch(view: OwnedView) -> dict[str, Any] | None:
    """The patch that takes our marks off."""
    if not view.owner and not view.epoch:
        return None
    return {"metadata": {"annotations": {OWNER_ANNOTATION: None, EPOCH_ANNOTATION: None}}}


async def _patch_service(
    cluster: Cluster, name: str, owner: str, epoch: int, build: Callable[[ServiceView], dict[str, Any] | None]
) -> ServiceView:
    return await fenced_patch(cluster, SERVICES, name, build, project=project_service, owner=owner, epoch=epoch)

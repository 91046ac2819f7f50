"""One namespace of a Kubernetes cluster: the reads and writes of a release.

Every write is fenced: the annotation ``zdd.dev/epoch`` of an object holds the highest lease epoch that wrote to it, and
a write from a lower epoch is refused. The patch carries metadata.resourceVersion, so that no other write can happen
between the check and the patch.
"""

import asyncio
import importlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar
from urllib.parse import quote

from zdd_tui.backends.kubernetes.auth import open_api_session
from zdd_tui.backends.kubernetes.errors import KubeApiError, kind_name
from zdd_tui.backends.kubernetes.watch import SILENCE_TIMEOUT, WatchEvent, list_all, list_and_watch
from zdd_tui.model.errors import ClusterError, Refused, StaleEpoch
from zdd_tui.model.json_access import get_bool
from zdd_tui.model.workload.pod import EndpointFacts, PodFacts, project_endpoints, project_pod
from zdd_tui.model.workload.rollout import (
    CHANGE_CAUSE_ANNOTATION,
    EPOCH_ANNOTATION,
    DeploymentView,
    ReplicaSetView,
    project_deployment,
    project_replica_set,
)

if TYPE_CHECKING:
    from zdd_tui.backends.kubernetes.http import KubeHttp

T = TypeVar("T")
ApiResource = tuple[str, str]
"""API path and resource, such as ``("apis/apps/v1", "deployments")``."""

_DEPLOYMENTS: ApiResource = "apis/apps/v1", "deployments"
SERVICE_LABEL = "kubernetes.io/service-name"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
_PATCH_ATTEMPTS = 10

REQUIRED_PERMISSIONS = (
    ("get", "apps", "deployments"),
    ("watch", "apps", "deployments"),
    ("patch", "apps", "deployments"),
    ("watch", "apps", "replicasets"),
    ("watch", "", "pods"),
    ("watch", "discovery.k8s.io", "endpointslices"),
)
"""(verb, group, resource) that every release needs."""


class FencedView(Protocol):
    """The attributes of an object's view that fencing needs."""

    @property
    def epoch(self) -> int: ...

    @property
    def resource_version(self) -> str: ...


ViewT = TypeVar("ViewT", bound=FencedView)


def require_current_epoch(kind: ApiResource, name: str, stored_epoch: str, epoch: int) -> None:
    """Raises StaleEpoch where a later epoch has written."""
    if stored_epoch.isdigit() and int(stored_epoch) > epoch:
        raise StaleEpoch(
            f"{kind_name(kind[1])} {name!r} was written by epoch {stored_epoch}; this agent has epoch {epoch} and stops"
        )


class Cluster:
    """A connection to one namespace. Create it with ``async with Cluster.connect(...)``.

    `context` is the name of the active kubeconfig context, ``in-cluster`` with a service account.
    """

    def __init__(self, http: "KubeHttp", namespace: str, context: str = "") -> None:
        self.http = http
        self.namespace = namespace
        self.context = context
        self.lease_check: Callable[[], Awaitable[None]] | None = None
        """Called between reading an object and patching it; raises StaleEpoch where the lease is lost. The annotation
        alone is not enough: a later agent may have removed it while this one was suspended."""

    async def check_lease(self) -> None:
        """Raises StaleEpoch where `lease_check` is set and the lease is lost."""
        if self.lease_check is not None:
            await self.lease_check()

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, kubeconfig: str | None, context: str | None, namespace: str, *, check: bool = True
    ) -> AsyncGenerator[Self, None]:
        """Open a session for the time of the block.

        Args:
            kubeconfig: path; None takes $KUBECONFIG, then ~/.kube/config, then the pod's service account.
            context: None takes the current one.
            check: read the version of the server first. A dashboard passes False and retries instead.

        Raises:
            ClusterError: no such file or context, connection refused, TLS failure, 401.
        """
        access = await open_api_session(kubeconfig, context)
        try:
            # The import of aiohttp takes a quarter of a second: not before the first paint.
            module = await asyncio.to_thread(importlib.import_module, "zdd_tui.backends.kubernetes.http")
            cluster = cls(module.KubeHttp(access), namespace, access.context)
            if check:
                await cluster._check_version()
            yield cluster
        finally:
            await access.close()

    async def _check_version(self) -> None:
        try:
            await self.http.request_json("GET", "/version")
        except KubeApiError as error:
            # A restricted server may hide its version and still serve the rest.
            if error.status not in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
                raise

    # Reading

    async def get_deployment(self, name: str) -> DeploymentView:
        """Reads a Deployment (a quorum read, never from a cache)."""
        return project_deployment(await self.http.request_json("GET", self._deployment(name)))

    async def list_pods(self, selector: str, *, container: str | None = None) -> list[PodFacts]:
        """Lists the pods of a label selector, terminating ones included."""

        def project(raw: Any) -> PodFacts:
            return project_pod(raw, container)

        return await self._list("api/v1", "pods", project, selector)

    async def list_replica_sets(self, selector: str) -> list[ReplicaSetView]:
        """Lists the ReplicaSets of a label selector."""
        return await self._list("apis/apps/v1", "replicasets", project_replica_set, selector)

    async def list_endpoint_slices(self, service: str) -> list[EndpointFacts]:
        """Lists the endpoints in all slices of a Service."""
        slices = await self._list(
            "apis/discovery.k8s.io/v1", "endpointslices", project_endpoints, f"{SERVICE_LABEL}={service}"
        )
        return [endpoint for endpoints in slices for endpoint in endpoints]

    def watch(
        self,
        api: str,
        resource: str,
        project: Callable[[Any], T],
        *,
        labels: str = "",
        fields: str = "",
        silence_timeout: float = SILENCE_TIMEOUT,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """List and watch one resource of the namespace without end; see `list_and_watch`.

        Args:
            api: such as ``api/v1`` or ``apis/apps/v1``.
        """
        params = _selector_params(labels, fields)
        return list_and_watch(self.http, self.path(api, resource), project, params, silence_timeout=silence_timeout)

    # Writing

    async def set_image(
        self,
        deployment: str,
        container: str,
        image: str,
        *,
        epoch: int,
        reason: str,
        uid: str | None = None,
    ) -> DeploymentView:
        """Set the image of a container; only fences when it is set already.

        Args:
            epoch: of the lease.
            reason: the change cause that `kubectl rollout history` shows.
            uid: of the Deployment that the operator confirmed; another one of that name is refused.

        Raises:
            StaleEpoch: a later epoch has written.
            Refused: the Deployment is paused, or is not the confirmed one.
            ClusterError: no such Deployment or container, or the API refuses.
        """

        def build(view: DeploymentView) -> dict[str, Any] | None:
            if container not in view.images:
                known = ", ".join(view.images) or "none"
                raise ClusterError(f"Deployment {deployment!r} has no container {container!r}", f"it has: {known}")
            if uid is not None and view.uid != uid:
                raise Refused(
                    f"Deployment {deployment!r} was deleted and created again since it was confirmed",
                    "review it, then confirm again",
                )
            if view.paused:
                raise Refused(
                    f"Deployment {deployment!r} is paused: a paused Deployment cannot be rolled out or rolled back",
                    f"kubectl -n {self.namespace} rollout resume deployment/{deployment}",
                )
            if view.images[container] == image and not view.replica_failure_message:
                return self._fence_patch(view, epoch)
            # The controller copies the annotations to the ReplicaSet. A change makes it try at once to create the pods
            # that it could not create before; alone it waits up to 1,000 s between two attempts.
            is_retry = bool(view.replica_failure_message) and view.change_cause == reason
            cause = f"{reason} (retry)" if is_retry else reason
            patch: dict[str, Any] = _annotations_patch({EPOCH_ANNOTATION: str(epoch), CHANGE_CAUSE_ANNOTATION: cause})
            patch["spec"] = {"template": {"spec": {"containers": [{"name": container, "image": image}]}}}
            return patch

        return await self._patch_deployment(deployment, epoch, build)

    async def scale(self, deployment: str, replicas: int, *, epoch: int) -> DeploymentView:
        """Set the number of replicas; only fences when it is set already.

        Raises:
            StaleEpoch: a later epoch has written.
            ClusterError: no such Deployment, or the API refuses.
        """

        def build(view: DeploymentView) -> dict[str, Any] | None:
            if view.desired == replicas:
                return self._fence_patch(view, epoch)
            return {**_annotations_patch({EPOCH_ANNOTATION: str(epoch)}), "spec": {"replicas": replicas}}

        return await self._patch_deployment(deployment, epoch, build)

    async def fence(self, deployment: str, epoch: int) -> DeploymentView:
        """Refuse every later write of a lower epoch.

        Raises:
            StaleEpoch: a later epoch has written.
        """
        return await self._patch_deployment(deployment, epoch, lambda view: self._fence_patch(view, epoch))

    async def remove_annotations(self, deployment: str, *, epoch: int, change_cause: str | None) -> DeploymentView:
        """Remove the annotations at the end of a release and restore the change cause from before it.

        Raises:
            StaleEpoch: a later epoch has written.
        """

        def build(view: DeploymentView) -> dict[str, Any] | None:
            if not view.epoch and view.change_cause == change_cause:
                return None
            return _annotations_patch({EPOCH_ANNOTATION: None, CHANGE_CAUSE_ANNOTATION: change_cause})

        return await self._patch_deployment(deployment, epoch, build)

    async def missing_permissions(self, *more: tuple[str, str, str]) -> list[str]:
        """Lists missing permissions as ``verb resource``; empty when the server cannot check them.

        Args:
            more: permissions that a strategy needs in addition.
        """
        needed = (*REQUIRED_PERMISSIONS, *more)
        results = await asyncio.gather(*(self._is_allowed(*permission) for permission in needed))
        return [f"{verb} {resource}" for (verb, _, resource), ok in zip(needed, results, strict=True) if not ok]

    # Plumbing

    def path(self, api: str, resource: str, name: str = "", subresource: str = "") -> str:
        """Returns the API path of a resource in this namespace."""
        parts = [api, "namespaces", quote(self.namespace, safe=""), resource, quote(name, safe=""), subresource]
        return "/" + "/".join(part for part in parts if part)

    def _deployment(self, name: str) -> str:
        return self.path(*_DEPLOYMENTS, name)

    async def _list(self, api: str, resource: str, project: Callable[[Any], T], selector: str) -> list[T]:
        items, _ = await list_all(self.http, self.path(api, resource), project, _selector_params(selector, ""))
        return list(items)

    @staticmethod
    def _fence_patch(view: DeploymentView, epoch: int) -> dict[str, Any] | None:
        return None if view.epoch == epoch else _annotations_patch({EPOCH_ANNOTATION: str(epoch)})

    def show_writers_hint(self, kind: ApiResource, name: str) -> str:
        """Returns the command that shows the writers of an object."""
        noun = kind[1].removesuffix("s")
        return f"find the other writer: kubectl -n {self.namespace} get {noun} {name} -o yaml --show-managed-fields"

    async def fenced_patch(
        self,
        kind: ApiResource,
        name: str,
        build: Callable[[ViewT], dict[str, Any] | None],
        *,
        project: Callable[[Any], ViewT],
        epoch: int,
        read: Callable[[], Awaitable[Any]] | None = None,
        content_type: str = MERGE_PATCH,
    ) -> ViewT:
        """Patch an object; the resourceVersion prevents writes between the check and the patch.

        Args:
            build: returns the patch for the object; None when nothing has to change.
            epoch: of the lease.
            read: reads the object, where it must be checked or a plain GET would not explain why it fails.

        Raises:
            StaleEpoch: a later epoch has written.
            ClusterError: no such object, or the API refuses.
        """
        path = self.path(*kind, name)
        for _ in range(_PATCH_ATTEMPTS):
            raw = await (read() if read else self.http.request_json("GET", path))
            view = project(raw)
            require_current_epoch(kind, name, str(view.epoch), epoch)
            patch = build(view)
            if patch is None:
                return view
            patch["metadata"]["resourceVersion"] = view.resource_version
            await self.check_lease()
            try:
                return project(await self.http.request_json("PATCH", path, body=patch, content_type=content_type))
            except KubeApiError as error:
                # The controller updates the same object often: read it again and decide again.
                if error.status != HTTPStatus.CONFLICT:
                    raise
        raise ClusterError(
            f"{kind_name(kind[1])} {name!r} changes faster than it can be patched",
            self.show_writers_hint(kind, name),
        )

    async def _patch_deployment(
        self, name: str, epoch: int, build: Callable[[DeploymentView], dict[str, Any] | None]
    ) -> DeploymentView:
        return await self.fenced_patch(
            _DEPLOYMENTS, name, build, project=project_deployment, epoch=epoch, content_type=STRATEGIC_MERGE_PATCH
        )

    async def _is_allowed(self, verb: str, group: str, resource: str) -> bool:
        attributes = {"namespace": self.namespace, "verb": verb, "group": group, "resource": resource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        try:
            result = await self.http.request_json(
                "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review
            )
        except KubeApiError as error:
            if error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
                return True
            raise
        return get_bool(result, "status", "allowed") is True


def _annotations_patch(annotations: Mapping[str, str | None]) -> dict[str, Any]:
    return {"metadata": {"annotations": dict(annotations)}}


def _selector_params(labels: str, fields: str) -> dict[str, str]:
    params = {"labelSelector": labels, "fieldSelector": fields}
    return {key: value for key, value in params.items() if value}

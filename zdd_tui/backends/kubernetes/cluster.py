"""One namespace of a Kubernetes cluster: what a release reads of it, and the only writes that it makes there.

Every write is fenced: the Deployment's annotation ``zdd.dev/epoch`` holds the highest lease epoch that ever wrote to
it, and a write from a lower epoch is refused. The patch carries metadata.resourceVersion, so nothing can come between
the check and the write.
"""

import asyncio
import importlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

from zdd_tui.backends.kubernetes.auth import open_api_session
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.kubernetes.watch import WatchEvent, list_all, list_and_watch
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

SERVICE_LABEL = "kubernetes.io/service-name"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
_CONFLICT = 409
_PATCH_ATTEMPTS = 10

REQUIRED_PERMISSIONS = (
    ("get", "apps", "deployments"),
    ("watch", "apps", "deployments"),
    ("patch", "apps", "deployments"),
    ("watch", "apps", "replicasets"),
    ("watch", "", "pods"),
    ("watch", "discovery.k8s.io", "endpointslices"),
)
"""(verb, group, resource) that a release cannot do without."""


class Cluster:
    """A connection to one namespace. Make it with ``async with Cluster.connect(...)``.

    `context` is the name of the kubeconfig's context in force, ``in-cluster`` where a service account is used.
    """

    def __init__(self, http: "KubeHttp", namespace: str, context: str = "") -> None:
        self.http = http
        self.namespace = namespace
        self.context = context
        self.lease_check: Callable[[], Awaitable[None]] | None = None
        """Asked between reading an object and patching it: raises StaleEpoch where the lease is gone. An object whose
        marks a later agent has cleared would not tell an agent that was frozen all the while."""

    async def check_lease(self) -> None:
        """The lease is still ours, where somebody can tell."""
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
            check: ask the server for its version first. A dashboard passes False: it retries for ever instead.

        Raises:
            ClusterError: no such file or context, connection refused, TLS failure, 401.
        """
        access = await open_api_session(kubeconfig, context)
        try:
            # aiohttp costs a quarter of a second to import: not before the first paint either.
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
            if error.status not in (403, 404):  # a locked-down server may hide its version and serve us all the same
                raise

    # Reading

    async def get_deployment(self, name: str) -> DeploymentView:
        """The Deployment as of now (a quorum read, never from a cache)."""
        return project_deployment(await self.http.request_json("GET", self._deployment(name)))

    async def list_pods(self, selector: str, *, container: str | None = None) -> list[PodFacts]:
        """Pods that match a label selector, terminating ones included."""

        def project(raw: Any) -> PodFacts:
            return project_pod(raw, container)

        return await self._list("api/v1", "pods", project, selector)

    async def list_replica_sets(self, selector: str) -> list[ReplicaSetView]:
        """ReplicaSets that match a label selector."""
        return await self._list("apis/apps/v1", "replicasets", project_replica_set, selector)

    async def list_endpoint_slices(self, service: str) -> list[EndpointFacts]:
        """The endpoints in all slices of a Service."""
        slices = await self._list(
            "apis/discovery.k8s.io/v1", "endpointslices", project_endpoints, f"{SERVICE_LABEL}={service}"
        )
        return [endpoint for found in slices for endpoint in found]

    def watch(
        self,
        api: str,
        resource: str,
        project: Callable[[Any], T],
        *,
        labels: str = "",
        fields: str = "",
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """List and watch one resource of the namespace for ever; see `kube_watch.list_and_watch`.

        Args:
            api: such as ``api/v1`` or ``apis/apps/v1``.
        """
        return list_and_watch(self.http, self.path(api, resource), project, _selector_params(labels, fields))

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
        """Point a container at an image; only fences when it is there already.

        Args:
            epoch: of the lease.
            reason: becomes the change cause that `kubectl rollout history` shows.
            uid: of the Deployment that the operator confirmed; another one under its name is refused.

        Raises:
            StaleEpoch: a later epoch has written.
            Refused: the Deployment is paused, or it is not the one confirmed.
            ClusterError: no such Deployment or container, or the API refuses.
        """

        def build(view: DeploymentView) -> dict[str, Any] | None:
            if container not in view.images:
                known = ", ".join(view.images) or "none"
                raise ClusterError(f"deployment {deployment!r} has no container {container!r}", f"it has: {known}")
            if uid is not None and view.uid != uid:
                raise Refused(
                    f"deployment {deployment!r} was deleted and made anew since it was confirmed", "confirm again"
                )
            if view.paused:
                raise Refused(
                    f"deployment {deployment!r} is paused: a paused Deployment cannot be rolled out or rolled back",
                    f"kubectl -n {self.namespace} rollout resume deployment/{deployment}",
                )
            if view.images[container] == image:
                return self._fence_patch(view, epoch)
            patch: dict[str, Any] = _annotations_patch({EPOCH_ANNOTATION: str(epoch), CHANGE_CAUSE_ANNOTATION: reason})
            patch["spec"] = {"template": {"spec": {"containers": [{"name": container, "image": image}]}}}
            return patch

        return await self._fenced_patch(deployment, epoch, build)

    async def scale(self, deployment: str, replicas: int, *, epoch: int) -> DeploymentView:
        """Set the number of pods; only fences when it is that already.

        Raises:
            StaleEpoch: a later epoch has written.
            ClusterError: no such Deployment, or the API refuses.
        """

        def build(view: DeploymentView) -> dict[str, Any] | None:
            if view.desired == replicas:
                return self._fence_patch(view, epoch)
            return {**_annotations_patch({EPOCH_ANNOTATION: str(epoch)}), "spec": {"replicas": replicas}}

        return await self._fenced_patch(deployment, epoch, build)

    async def fence(self, deployment: str, epoch: int) -> DeploymentView:
        """Refuse from now on every write of an epoch lower than this one.

        Raises:
            StaleEpoch: a later epoch has written.
        """
        return await self._fenced_patch(deployment, epoch, lambda view: self._fence_patch(view, epoch))

    async def remove_annotations(self, deployment: str, *, epoch: int, change_cause: str | None) -> DeploymentView:
        """Take our annotations away at the end of a release and restore the change cause that stood before it.

        Raises:
            StaleEpoch: a later epoch has written.
        """

        def build(view: DeploymentView) -> dict[str, Any] | None:
            if not view.epoch and view.change_cause == change_cause:
                return None
            return _annotations_patch({EPOCH_ANNOTATION: None, CHANGE_CAUSE_ANNOTATION: change_cause})

        return await self._fenced_patch(deployment, epoch, build)

    async def missing_permissions(self, *more: tuple[str, str, str]) -> list[str]:
        """What we may not do here, as ``verb resource``; empty when nothing is missing or the server cannot tell.

        Args:
            more: what a strategy needs beyond what every release does.
        """
        needed = (*REQUIRED_PERMISSIONS, *more)
        answers = await asyncio.gather(*(self._is_allowed(*need) for need in needed))
        return [f"{verb} {resource}" for (verb, _, resource), may in zip(needed, answers, strict=True) if not may]

    # Plumbing

    def path(self, api: str, resource: str, name: str = "", subresource: str = "") -> str:
        """The API's path of a resource in this namespace."""
        parts = [api, "namespaces", quote(self.namespace, safe=""), resource, quote(name, safe=""), subresource]
        return "/" + "/".join(part for part in parts if part)

    def _deployment(self, name: str) -> str:
        return self.path("apis/apps/v1", "deployments", name)

    async def _list(self, api: str, resource: str, project: Callable[[Any], T], selector: str) -> list[T]:
        items, _ = await list_all(self.http, self.path(api, resource), project, _selector_params(selector, ""))
        return list(items)

    @staticmethod
    def _fence_patch(view: DeploymentView, epoch: int) -> dict[str, Any] | None:
        return None if view.epoch == epoch else _annotations_patch({EPOCH_ANNOTATION: str(epoch)})

    async def _fenced_patch(
        self, name: str, epoch: int, build: Callable[[DeploymentView], dict[str, Any] | None]
    ) -> DeploymentView:
        for _ in range(_PATCH_ATTEMPTS):
            view = await self.get_deployment(name)
            if view.epoch > epoch:
                raise StaleEpoch(
                    f"deployment {name!r} was written by epoch {view.epoch}; this agent holds epoch {epoch}",
                    "another agent carries the release now; this one must stop",
                )
            patch = build(view)
            if patch is None:
                return view
            patch["metadata"]["resourceVersion"] = view.resource_version
            await self.check_lease()
            try:
                answer = await self.http.request_json(
                    "PATCH", self._deployment(name), body=patch, content_type=STRATEGIC_MERGE_PATCH
                )
            except KubeApiError as error:
                # The controller writes the same object all the time: read again, judge again.
                if error.status != _CONFLICT:
                    raise
                continue
            return project_deployment(answer)
        raise ClusterError(f"deployment {name!r} changes faster than it can be patched", "see who else writes to it")

    async def _is_allowed(self, verb: str, group: str, resource: str) -> bool:
        attributes = {"namespace": self.namespace, "verb": verb, "group": group, "resource": resource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        try:
            answer = await self.http.request_json(
                "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review
            )
        except KubeApiError as error:
            if error.status in (403, 404, 405):
                return True
            raise
        return get_bool(answer, "status", "allowed") is True


def _annotations_patch(annotations: Mapping[str, str | None]) -> dict[str, Any]:
    return {"metadata": {"annotations": dict(annotations)}}


def _selector_params(labels: str, fields: str) -> dict[str, str]:
    found = {"labelSelector": labels, "fieldSelector": fields}
    return {key: value for key, value in found.items() if value}

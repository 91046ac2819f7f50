"""A Deployment without pods that run: a rehearsal is of the database.

The real client speaks to it, so fences and annotations are real; a rollout completes at once.
"""

import copy
import itertools
import json
from typing import Any

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.model.plan.base import WorkloadPlan
from zdd_tui.model.workload.pod import TEMPLATE_HASH_LABEL
from zdd_tui.model.workload.rollout import REVISION_ANNOTATION

FIRST_IMAGE = "rehearsal/before:1"
_UID = "rehearsal"


class FakeApi:
    """Serves what a release needs of an API server, from one object in memory."""

    def __init__(self, plan: WorkloadPlan) -> None:
        names = plan.kubernetes
        self._versions = itertools.count(2)
        self._deployment: dict[str, Any] = {
            "metadata": {
                "name": names.deployment,
                "uid": _UID,
                "namespace": names.namespace,
                "resourceVersion": "1",
                "generation": 1,
                "annotations": {REVISION_ANNOTATION: "1"},
            },
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": names.deployment}},
                "template": {"spec": {"containers": [{"name": names.container, "image": FIRST_IMAGE}]}},
            },
            "status": dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
            | {"observedGeneration": 1},
        }

    @property
    def image(self) -> str:
        """The image that runs now."""
        return str(self._deployment["spec"]["template"]["spec"]["containers"][0]["image"])

    async def request_json(self, method: str, path: str, *, body: Any = None, **_options: Any) -> Any:
        """As :meth:`zdd_tui.backends.kubernetes.http.KubeHttp.request_json`."""
        if method == "PATCH":
            self._patch(body)
        if "/deployments" in path:
            return copy.deepcopy(self._deployment)
        kind = path.rpartition("/")[2]
        made = {"replicasets": self._replica_set, "pods": self._pod, "endpointslices": self._slice}
        return {"items": [made[kind]()], "metadata": {"resourceVersion": "1"}} if kind in made else {}

    async def request_bytes(self, method: str, path: str, *_options: Any, **_more: Any) -> bytes:
        """As :meth:`zdd_tui.backends.kubernetes.http.KubeHttp.request_bytes`, for reading."""
        return json.dumps(await self.request_json(method, path)).encode()

    def _patch(self, body: dict[str, Any]) -> None:
        meta, spec = self._deployment["metadata"], self._deployment["spec"]
        for key, value in body["metadata"].get("annotations", {}).items():
            meta["annotations"].pop(key, None)
            if value is not None:
                meta["annotations"][key] = value
        for container in body.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            spec["template"]["spec"]["containers"][0] |= container
            meta["generation"] += 1
            meta["annotations"][REVISION_ANNOTATION] = str(meta["generation"])
            self._deployment["status"]["observedGeneration"] = meta["generation"]
        meta["resourceVersion"] = str(next(self._versions))

    @property
    def _hash(self) -> str:
        return f"t{self._deployment['metadata']['generation']}"

    def _replica_set(self) -> dict[str, Any]:
        meta = self._deployment["metadata"]
        return {
            "metadata": {
                "name": f"{meta['name']}-{self._hash}",
                "uid": self._hash,
                "labels": {TEMPLATE_HASH_LABEL: self._hash},
                "annotations": {REVISION_ANNOTATION: meta["annotations"][REVISION_ANNOTATION]},
                "ownerReferences": [{"controller": True, "uid": _UID}],
            },
            "spec": {"replicas": 1, "template": copy.deepcopy(self._deployment["spec"]["template"])},
            "status": dict.fromkeys(("replicas", "readyReplicas", "availableReplicas"), 1),
        }

    def _pod(self) -> dict[str, Any]:
        meta = self._deployment["metadata"]
        return {
            "metadata": {
                "name": f"{meta['name']}-{self._hash}-0",
                "uid": f"{self._hash}-0",
                "namespace": meta["namespace"],
                "labels": {TEMPLATE_HASH_LABEL: self._hash},
                "ownerReferences": [{"controller": True, "uid": self._hash}],
            },
            "spec": copy.deepcopy(self._deployment["spec"]["template"]["spec"]),
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        }

    def _slice(self) -> dict[str, Any]:
        pod = self._pod()["metadata"]
        return {
            "ports": [{"port": 80}],
            "endpoints": [
                {
                    "addresses": ["127.0.0.1"],
                    "conditions": {"ready": True, "serving": True, "terminating": False},
                    "targetRef": {"kind": "Pod", "name": pod["name"], "uid": pod["uid"]},
                }
            ],
        }


def fake_cluster(plan: WorkloadPlan) -> Cluster:
    """The real client on a Deployment in memory."""
    return Cluster(FakeApi(plan), plan.kubernetes.namespace, "rehearsal")  # type: ignore[arg-type]

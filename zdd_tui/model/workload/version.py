"""Which version of a release a pod runs, also where a webhook has changed its image.

Admission webhooks pin a tag to a digest (`shop/api:2` becomes `shop/api@sha256:…` or `shop/api:2@sha256:…`) or put
another registry before it, in pods or in the Deployment itself. The version then follows from the ReplicaSet that made
the pod. What the API server answered to our own patch is known to the plan (`WorkloadPlan.learn_image`).
"""

from collections.abc import Iterable, Mapping

from zdd_tui.model.image import is_rewritten
from zdd_tui.model.plan.base import WorkloadPlan
from zdd_tui.model.workload.pod import PodFacts
from zdd_tui.model.workload.rollout import ReplicaSetView


def group_by_origin(pods: Iterable[PodFacts]) -> tuple[tuple[PodFacts, ...], ...]:
    """Pods of one image and one ReplicaSet together: they have one version. There are few groups of many pods."""
    groups: dict[tuple[str, str], list[PodFacts]] = {}
    for pod in pods:
        groups.setdefault((pod.image, pod.owner_uid), []).append(pod)
    return tuple(map(tuple, groups.values()))


class PodVersions:
    """The versions of pods, each computed once.

    Args:
        replica_sets: by uid; those that made the pods.
    """

    def __init__(self, plan: WorkloadPlan, replica_sets: Mapping[str, ReplicaSetView]) -> None:
        self._plan = plan
        self._replica_sets = replica_sets
        self._known: dict[tuple[str, str], str] = {}

    def version_of(self, pod: PodFacts) -> str:
        """The version of a pod: by its image, or else by the template that it was made from.

        Args:
            pod: read with the plan's container.
        """
        key = (pod.image, pod.owner_uid)
        if key not in self._known:
            self._known[key] = self._find_version(pod)
        return self._known[key]

    def _find_version(self, pod: PodFacts) -> str:
        version, owner = self._plan.version_of(pod.image), self._replica_sets.get(pod.owner_uid)
        if version != self._plan.versions[0] or owner is None:
            return version
        template = owner.images.get(self._plan.kubernetes.container, pod.image)
        return self._plan.version_of(template) if is_rewritten(pod.image, template) else version

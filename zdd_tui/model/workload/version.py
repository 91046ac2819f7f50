"""Which version of a release a pod runs, also where a webhook has changed its image.

Admission webhooks pin a tag to a digest (`shop/api:2` becomes `shop/api@sha256:…` or `shop/api:2@sha256:…`) or put
another registry before it, in pods or in the Deployment itself. The version then follows from the ReplicaSet that made
the pod. What the API server answered to our own patch is known to the plan (`BasePlan.learn_image`).
"""

from collections.abc import Mapping

from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.workload.pod import PodFacts
from zdd_tui.model.workload.rollout import ReplicaSetView


def split_image(image: str) -> tuple[str, str, str]:
    """The last part of the name, the tag and the digest of an image; empty where it has none."""
    name, _, digest = image.partition("@")
    last = name.rsplit("/", 1)[-1]
    repository, _, tag = last.partition(":")
    return repository, tag, digest


def is_rewritten(found: str, requested: str) -> bool:
    """Whether an image may be what a webhook made of another: the same name, and no other tag or digest."""
    name, tag, digest = split_image(found)
    requested_name, requested_tag, requested_digest = split_image(requested)
    if name != requested_name or (digest and requested_digest and digest != requested_digest):
        return False
    return tag == (requested_tag or "latest") or (not tag and bool(digest))


class PodVersions:
    """The versions of pods, each computed once.

    Args:
        replica_sets: by uid; those that made the pods.
    """

    def __init__(self, plan: BasePlan, replica_sets: Mapping[str, ReplicaSetView]) -> None:
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

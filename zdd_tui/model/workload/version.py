"""Which version of a release a pod runs, also where a webhook has changed its image.

Admission webhooks pin a tag to a digest (`shop/api:2` becomes `shop/api@sha256:…` or `shop/api:2@sha256:…`) or put
another registry before it, in pods or in the Deployment itself. The version then follows from the ReplicaSet that made
the pod, or from what the API server answered to our own patch.
"""

from collections.abc import Iterable, Mapping

from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.workload.pod import PodFacts
from zdd_tui.model.workload.rollout import ReplicaSetView

APPLIED_DETAIL = "images_applied"
"""In the detail of a step: by requested image, what the API server made of it."""


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


def applied_images(details: Iterable[Mapping[str, object]]) -> dict[str, str]:
    """By the image that the API server made, the requested one; from the details of the release's steps."""
    found: dict[str, str] = {}
    for detail in details:
        applied = detail.get(APPLIED_DETAIL)
        if isinstance(applied, Mapping):
            found |= {str(made): str(requested) for requested, made in applied.items() if made != requested}
    return found


def image_version(plan: BasePlan, image: str, applied: Mapping[str, str]) -> str:
    """The version of an image, which the API server may have made of one of the plan's.

    Args:
        applied: of :func:`applied_images`.
    """
    return plan.version_of(applied.get(image, image))


def pod_version(
    plan: BasePlan, pod: PodFacts, replica_sets: Mapping[str, ReplicaSetView], applied: Mapping[str, str]
) -> str:
    """The version of a pod: by its image, or else by the template that it was made from.

    Args:
        pod: read with the plan's container.
        replica_sets: by uid.
        applied: of :func:`applied_images`.
    """
    version = image_version(plan, pod.image, applied)
    owner = replica_sets.get(pod.owner_uid)
    if version != plan.versions[0] or owner is None:
        return version
    template = owner.images.get(plan.kubernetes.container, pod.image)
    return image_version(plan, template, applied) if is_rewritten(pod.image, template) else version

"""What would stop or harm a rollout of a Deployment, by its raw object and the objects beside it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from zdd_tui.model.image import has_same_repository, is_same_image
from zdd_tui.model.json_access import get_bool, get_number, get_object, get_objects, get_text
from zdd_tui.model.workload.owners import find_workload_owners
from zdd_tui.model.workload.pod import TERMINAL_PHASES


@dataclass(frozen=True, slots=True)
class RolloutFinding:
    """One fact about a rollout, with what to do about it."""

    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class OtherContainer:
    """A container beside the plan's one that runs the same program, and keeps its version.

    Attributes:
        is_init: it is an init container.
    """

    name: str
    image: str
    is_init: bool

    @property
    def accepted_as(self) -> str:
        """Its name under the plan's key `accept`."""
        return f"{self.description} keeps its image"

    @property
    def description(self) -> str:
        return f"{'init container' if self.is_init else 'container'} {self.name}"


def find_other_containers(raw: Any, container: str, images: Iterable[str]) -> tuple[OtherContainer, ...]:
    """The containers of a Deployment that run an image of the plan's program and that no step changes.

    Args:
        container: the plan's container.
        images: the image that runs, and the plan's images.
    """
    images = tuple(images)
    spec = get_object(raw, "spec", "template", "spec")
    return tuple(
        OtherContainer(get_text(each, "name"), image, is_init)
        for field, is_init in (("containers", False), ("initContainers", True))
        for each in get_objects(spec, field)
        if (is_init or get_text(each, "name") != container)
        and (image := get_text(each, "image"))
        and any(has_same_repository(image, known) for known in images)
    )


def find_admitted_image(raw: Any, container: str) -> str:
    """The image of a container in a Deployment or pod that the API server has admitted; empty where there is none."""
    spec = get_object(raw, "spec", "template", "spec") or get_object(raw, "spec")
    return next(
        (get_text(each, "image") for each in get_objects(spec, "containers") if get_text(each, "name") == container), ""
    )


def find_undone_images(made: Sequence[tuple[str, str]], current: str) -> tuple[RolloutFinding, ...]:
    """Rollouts after which the new pods could not be told from others.

    Args:
        made: each planned image, in the order of the rollouts, with what the server makes of it.
        current: the image that runs.
    """
    found = []
    before = current
    for planned, admitted in made:
        if admitted != planned and admitted == before and not is_same_image(planned, before):
            found.append(
                RolloutFinding(
                    f"an admission webhook changes {planned} to {admitted}, which runs already: nothing would change",
                    "see kubectl get mutatingwebhookconfigurations, and correct the policy, or the image in the plan",
                )
            )
        before = admitted
    return tuple(found)


def find_companions(raw: Any, autoscalers: Iterable[Any], budgets: Iterable[Any]) -> tuple[RolloutFinding, ...]:
    """What else acts on the Deployment during a release: owners, autoscalers, disruption budgets.

    Args:
        autoscalers: raw HorizontalPodAutoscalers of the namespace.
        budgets: raw PodDisruptionBudgets of the namespace.
    """
    name, namespace = get_text(raw, "metadata", "name"), get_text(raw, "metadata", "namespace")
    labels = get_object(raw, "spec", "template", "metadata", "labels")
    found = [
        RolloutFinding(f"{owner.name} owns the Deployment ({owner.evidence}): {owner.effect}", owner.hint)
        for owner in find_workload_owners(raw)
    ]
    for each in autoscalers:
        target = get_object(each, "spec", "scaleTargetRef")
        if (get_text(target, "kind"), get_text(target, "name")) != ("Deployment", name):
            continue
        bounds = f"{get_number(each, 'spec', 'minReplicas', default=1)} to {get_number(each, 'spec', 'maxReplicas')}"
        scaler = get_text(each, "metadata", "name")
        found.append(
            RolloutFinding(
                f"HorizontalPodAutoscaler {scaler} scales it, {bounds} pods: the number may change during a rollout",
                f"to hold the number: kubectl -n {namespace} patch hpa {scaler} -p"
                ' \'{"spec":{"minReplicas":N,"maxReplicas":N}}\' for the time of the release',
            )
        )
    for each in budgets:
        if not matches_selector(get_object(each, "spec", "selector"), labels):
            continue
        spec = get_object(each, "spec")
        limit = next((f"{key} {spec[key]}" for key in ("minAvailable", "maxUnavailable") if key in spec), "no limit")
        if get_number(each, "status", "disruptionsAllowed", default=1) == 0:
            budget = get_text(each, "metadata", "name")
            found.append(
                RolloutFinding(
                    f"PodDisruptionBudget {budget} ({limit}) allows no eviction now: a node cannot be drained during"
                    " the release, and a rollout is not held by it",
                    f"kubectl -n {namespace} describe pdb {budget}",
                )
            )
    return tuple(found)


def matches_selector(selector: Any, labels: Any) -> bool:
    """Whether a LabelSelector selects an object with these labels; an empty one selects every object."""
    if any(labels.get(key) != value for key, value in get_object(selector, "matchLabels").items()):
        return False
    for rule in get_objects(selector, "matchExpressions"):
        key, values = get_text(rule, "key"), rule.get("values") or []
        match get_text(rule, "operator"):
            case "In" if labels.get(key) not in values:
                return False
            case "NotIn" if key in labels and labels[key] in values:
                return False
            case "Exists" if key not in labels:
                return False
            case "DoesNotExist" if key in labels:
                return False
    return True


def is_terminating(namespace: Any) -> bool:
    """Whether a namespace is being deleted, so that nothing can be created in it."""
    return get_text(namespace, "status", "phase") == "Terminating" or bool(
        get_text(namespace, "metadata", "deletionTimestamp")
    )


def is_finished_pod(raw: Any) -> bool:
    """Whether a pod has ended for good, such as an evicted one: it serves nothing and writes nothing."""
    return get_text(raw, "status", "phase") in TERMINAL_PHASES


def is_paused(raw: Any) -> bool:
    """Whether the Deployment's controller does not roll out."""
    return get_bool(raw, "spec", "paused") is True

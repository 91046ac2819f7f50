"""A second Deployment beside the first, and the Service that is switched between the two.

The pods of the second Deployment have the labels of the first one's pods, except that one label of the Service's
selector has another value. So nothing that selects the first Deployment's pods (the Service, a disruption budget, the
first Deployment itself) selects them before the Service is switched, and the switch changes one value in one patch.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import get_object, get_objects, get_text
from zdd_tui.model.workload.managers import FieldManager, find_manager
from zdd_tui.model.workload.rollout import EPOCH_ANNOTATION, read_epoch

OWNER_ANNOTATION = "zdd.dev/release"
"""The release's name, on every object that it creates or switches. Other releases do not change such objects."""

MAX_LABEL_LENGTH = 63
_COPIED_PORT_FIELDS = ("name", "port", "targetPort", "protocol", "appProtocol")


@dataclass(frozen=True, slots=True)
class ServiceView:
    """The kept fields of a Service. `owner` is the release that holds it, empty for none; `epoch` 0 for none."""

    name: str
    uid: str
    resource_version: str
    selector: Mapping[str, str]
    epoch: int
    owner: str
    selector_manager: FieldManager | None = None


@dataclass(frozen=True, slots=True)
class SwitchLabel:
    """The label of the Service's selector whose value differs between the pods of the two Deployments."""

    label: str
    first_value: str
    second_value: str


def project_service(raw: Any) -> ServiceView:
    """Reads a raw Service."""
    meta = get_object(raw, "metadata")
    return ServiceView(
        name=get_text(meta, "name"),
        uid=get_text(meta, "uid"),
        resource_version=get_text(meta, "resourceVersion"),
        selector={key: str(value) for key, value in get_object(raw, "spec", "selector").items()},
        epoch=read_epoch(meta),
        owner=get_text(meta, "annotations", OWNER_ANNOTATION),
        selector_manager=find_manager(raw, "f:spec", "f:selector"),
    )


def choose_switch_label(deployment: Any, service: ServiceView, suffix: str) -> SwitchLabel:
    """The label to switch by: one that the selectors of Service and Deployment have in common.

    Args:
        deployment: the first one, raw.
        service: as it was before the release.
        suffix: the end of the label's value in the second Deployment.

    Raises:
        ClusterError: they have no label in common.
    """
    labels = get_object(deployment, "spec", "selector", "matchLabels")
    shared = sorted(key for key, value in service.selector.items() if labels.get(key) == value)
    if not shared:
        raise ClusterError(
            f"Service {service.name!r} and Deployment {get_text(deployment, 'metadata', 'name')!r} select by no label"
            " in common",
            "give the Service's selector one of the Deployment's matchLabels",
        )
    first = service.selector[shared[0]]
    return SwitchLabel(shared[0], first, f"{first[: MAX_LABEL_LENGTH - len(suffix) - 1]}-{suffix}")


def build_second_deployment(
    deployment: Any, label: SwitchLabel, *, name: str, container: str, image: str, owner: str, epoch: int
) -> dict[str, Any]:
    """The manifest of the second Deployment: spec and replicas of the first, the new image, its own label value."""
    first = get_object(deployment, "spec")
    spec = deepcopy(dict(first))
    spec.pop("paused", None)
    selector = spec["selector"]
    selector["matchLabels"] = {**selector.get("matchLabels", {}), label.label: label.second_value}
    rules = [rule for rule in get_objects(selector, "matchExpressions") if rule.get("key") != label.label]
    if rules:
        selector["matchExpressions"] = rules
    else:
        selector.pop("matchExpressions", None)
    metadata = spec["template"].setdefault("metadata", {})
    metadata.pop("creationTimestamp", None)
    metadata["labels"] = {**metadata.get("labels", {}), label.label: label.second_value}
    for each in spec["template"]["spec"]["containers"]:
        if each.get("name") == container:
            each["image"] = image
    labels = {**get_object(deployment, "metadata", "labels"), label.label: label.second_value}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels, "annotations": ownership_annotations(owner, epoch)},
        "spec": spec,
    }


def build_preview_service(service: Any, label: SwitchLabel, *, name: str, owner: str, epoch: int) -> dict[str, Any]:
    """The manifest of a Service for the second Deployment's pods, with the ports of the first Service."""
    spec = get_object(service, "spec")
    ports = [{key: port[key] for key in _COPIED_PORT_FIELDS if key in port} for port in get_objects(spec, "ports")]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "labels": dict(get_object(service, "metadata", "labels")),
            "annotations": ownership_annotations(owner, epoch),
        },
        "spec": {
            "type": "ClusterIP",
            "selector": {**get_object(spec, "selector"), label.label: label.second_value},
            "ports": ports,
        },
    }


def ownership_annotations(owner: str, epoch: int) -> dict[str, str]:
    """The annotations of an object that a release holds."""
    return {OWNER_ANNOTATION: owner, EPOCH_ANNOTATION: str(epoch)}

"""A second Deployment beside the first, and the Service that is switched between the two.

The twin's pods carry every label of the first one's but one: the label by which the Service finds them has a value of
its own. So nothing that selects the first Deployment's pods (the Service, a disruption budget, the first Deployment
itself) sees the twin's before the Service is switched, and the switch is one value in one patch.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from zdd_tui.model.errors import ClusterError
from zdd_tui.model.json_access import obj, objects, text
from zdd_tui.model.workload.rollout import EPOCH_ANNOTATION

OWNER_ANNOTATION = "zdd.dev/release"
"""On every object that a release makes or switches: the release's name. Another release leaves it alone."""

MAX_LABEL = 63
_KEPT_PORT = ("name", "port", "targetPort", "protocol", "appProtocol")


@dataclass(frozen=True, slots=True)
class ServiceView:
    """What we keep of a Service. `owner` is the release that holds it, empty for none; `epoch` 0 for none."""

    name: str
    uid: str
    resource_version: str
    selector: Mapping[str, str]
    epoch: int
    owner: str


@dataclass(frozen=True, slots=True)
class Switch:
    """The one label that tells the two Deployments' pods apart, as the Service's selector names it."""

    label: str
    first: str
    twin: str


def project_service(raw: Any) -> ServiceView:
    """Keep what we need of a raw Service."""
    meta = obj(raw, "metadata")
    epoch = text(meta, "annotations", EPOCH_ANNOTATION)
    return ServiceView(
        name=text(meta, "name"),
        uid=text(meta, "uid"),
        resource_version=text(meta, "resourceVersion"),
        selector={key: str(value) for key, value in obj(raw, "spec", "selector").items()},
        epoch=int(epoch) if epoch.isascii() and epoch.isdigit() and len(epoch) < 19 else 0,
        owner=text(meta, "annotations", OWNER_ANNOTATION),
    )


def switch_for(deployment: Any, service: ServiceView, colour: str) -> Switch:
    """The label to switch by: one that the Service's selector and the Deployment's have in common.

    Args:
        deployment: the first one, raw.
        service: as it selects before the release.
        colour: becomes the end of the twin's value.

    Raises:
        ClusterError: they have no label in common, so that no single value tells the pods apart.
    """
    wanted = obj(deployment, "spec", "selector", "matchLabels")
    shared = sorted(key for key, value in service.selector.items() if wanted.get(key) == value)
    if not shared:
        raise ClusterError(
            f"service {service.name!r} and deployment {text(deployment, 'metadata', 'name')!r} select by no label"
            " in common",
            "give the Service's selector one of the Deployment's matchLabels",
        )
    first = service.selector[shared[0]]
    return Switch(shared[0], first, f"{first[: MAX_LABEL - len(colour) - 1]}-{colour}")


def twin_deployment(
    deployment: Any, switch: Switch, *, name: str, container: str, image: str, owner: str, epoch: int
) -> dict[str, Any]:
    """The manifest of the second Deployment: the first one's spec and replicas, the new image, a label of its own."""
    first = obj(deployment, "spec")
    spec = deepcopy(dict(first))
    spec.pop("paused", None)
    selector = spec["selector"]
    selector["matchLabels"] = {**selector.get("matchLabels", {}), switch.label: switch.twin}
    rules = [rule for rule in objects(selector, "matchExpressions") if rule.get("key") != switch.label]
    if rules:
        selector["matchExpressions"] = rules
    else:
        selector.pop("matchExpressions", None)
    metadata = spec["template"].setdefault("metadata", {})
    metadata.pop("creationTimestamp", None)
    metadata["labels"] = {**metadata.get("labels", {}), switch.label: switch.twin}
    for each in spec["template"]["spec"]["containers"]:
        if each.get("name") == container:
            each["image"] = image
    labels = {**obj(deployment, "metadata", "labels"), switch.label: switch.twin}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels, "annotations": marks(owner, epoch)},
        "spec": spec,
    }


def preview_service(service: Any, switch: Switch, *, name: str, owner: str, epoch: int) -> dict[str, Any]:
    """The manifest of a Service that finds the twin's pods, with the ports of the first one."""
    spec = obj(service, "spec")
    ports = [{key: port[key] for key in _KEPT_PORT if key in port} for port in objects(spec, "ports")]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "labels": dict(obj(service, "metadata", "labels")),
            "annotations": marks(owner, epoch),
        },
        "spec": {
            "type": "ClusterIP",
            "selector": {**obj(spec, "selector"), switch.label: switch.twin},
            "ports": ports,
        },
    }


def marks(owner: str, epoch: int) -> dict[str, str]:
    """The annotations of an object that a release holds."""
    return {OWNER_ANNOTATION: owner, EPOCH_ANNOTATION: str(epoch)}

"""A Kubernetes manifest: the Deployment that a release changes, and the settings in it that make a release harder."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from zdd_tui.model.doctor.facts import WorkloadFacts
from zdd_tui.model.doctor.workload import extract_traffic_facts, extract_workload_facts
from zdd_tui.model.errors import PlanError
from zdd_tui.model.json_access import get_object, get_objects, get_text
from zdd_tui.model.yaml_limits import CONSTRUCTION_ERRORS, LimitedLoader, YamlLimitError

_HINT = "name a file with a Deployment (apps/v1), such as `kubectl get deployment NAME -o yaml` prints"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A Deployment, with the Service that is in the same files.

    Attributes:
        location: ``file:line``.
        raw: the object itself.
        service: name of the Service that selects its pods; empty where none is there.
        sticky: settings that bind a client to one pod.
    """

    location: str
    raw: Mapping[str, Any]
    container: str
    facts: WorkloadFacts
    service: str = ""
    sticky: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return get_text(self.raw, "metadata", "name")

    @property
    def namespace(self) -> str:
        return get_text(self.raw, "metadata", "namespace") or "default"


def _read_objects(source_text: str, source: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The objects of a manifest, each with its location.

    Raises:
        PlanError: not YAML, or not Kubernetes objects; names file and line.
    """
    objects: list[tuple[str, Mapping[str, Any]]] = []
    try:
        for location, document in _read_documents(source_text, source):
            for each in get_objects(document, "items") if get_text(document, "kind") == "List" else [document]:
                if not get_text(each, "kind") or not get_text(each, "apiVersion"):
                    raise PlanError(f"{location}: no Kubernetes manifest: apiVersion and kind are missing", _HINT)
                objects.append((location, each))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        if isinstance(error, YamlLimitError):
            raise PlanError(f"{source}:{line}: this is no manifest: {error.problem}", _HINT) from None
        raise PlanError(f"{source}:{line}: not valid YAML: {error.problem}", "check indentation and quotes") from None
    except CONSTRUCTION_ERRORS as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PlanError(f"{source}: not valid YAML: {what}", "save it as UTF-8 text") from None
    if not objects:
        raise PlanError(f"{source}: there is no Kubernetes manifest in it", _HINT)
    return objects


def _read_documents(source_text: str, source: str) -> Iterator[tuple[str, Any]]:
    loader = LimitedLoader(source_text)
    try:
        while loader.check_node():
            if (node := loader.get_node()) is None:
                break
            document = loader.construct_document(node)
            if document is not None:
                yield f"{source}:{node.start_mark.line + 1}", document
    finally:
        loader.dispose()


def read_manifests(files: Iterable[tuple[str, str]], *, container: str = "") -> tuple[Manifest, ...]:
    """The Deployments in files (name and text each), in order.

    Args:
        container: the one whose image changes; may be left out where a pod has one.

    Raises:
        PlanError: not a manifest, no Deployment in it, or several containers to choose from.
    """
    by_kind: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for source, content in files:
        for location, each in _read_objects(content, source):
            by_kind.setdefault(get_text(each, "kind"), []).append((location, each))
    if not by_kind:
        return ()
    if "Deployment" not in by_kind:
        first = next(iter(by_kind.values()))[0][0]
        raise PlanError(f"{first}: there is no Deployment in it, only {', '.join(by_kind)}", _HINT)
    services, ingresses, routes = (
        [each for _, each in by_kind.get(kind, [])] for kind in ("Service", "Ingress", "HTTPRoute")
    )
    return tuple(
        _build_manifest(location, raw, container, services, ingresses, routes)
        for location, raw in by_kind["Deployment"]
    )


def _build_manifest(
    location: str, raw: Any, container: str, services: list[Any], ingresses: list[Any], routes: list[Any]
) -> Manifest:
    name = get_text(raw, "metadata", "name")
    if not name:
        raise PlanError(f"{location}: the Deployment has no metadata.name", "give it one")
    names = [get_text(each, "name") for each in get_objects(raw, "spec", "template", "spec", "containers")]
    if not names:
        raise PlanError(f"{location}: Deployment {name} has no containers", "add spec.template.spec.containers")
    if not container and len(names) > 1:
        raise PlanError(
            f"{location}: Deployment {name} has {len(names)} containers: {', '.join(names)}",
            f"name the container whose image changes: --container {names[0]}",
        )
    facts = extract_workload_facts(raw, container or names[0], drain_seconds=None)
    if facts is None:
        hint = f"--container is one of {', '.join(names)}"
        raise PlanError(f"{location}: Deployment {name} has no container {container}", hint)
    labels = get_object(raw, "spec", "template", "metadata", "labels")
    service = next((each for each in services if _selects(get_object(each, "spec", "selector"), labels)), None)
    if service is None:
        return Manifest(location, raw, container or names[0], facts)
    traffic = extract_traffic_facts(service, ingresses, routes)
    sticky = list(traffic.sticky)
    if traffic.affinity != "None":
        sticky.append(f"service/{traffic.service}: sessionAffinity {traffic.affinity}")
    return Manifest(location, raw, container or names[0], facts, traffic.service, tuple(sticky))


def _selects(selector: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


# --- settings that make a release harder


def find_cautions(manifest: Manifest) -> Iterator[str]:
    """Settings of a Deployment that lose requests during any rollout, each with the better value."""
    spec, facts, name = get_object(manifest.raw, "spec"), manifest.facts, manifest.name
    strategy, rolling = get_text(spec, "strategy", "type"), get_object(spec, "strategy", "rollingUpdate")
    if strategy == "Recreate":
        yield f"{name}: strategy Recreate stops every pod first: use RollingUpdate with maxUnavailable 0"
    elif rolling.get("maxUnavailable", "25%") not in (0, "0", "0%"):
        given = rolling.get("maxUnavailable", "25% (the default)")
        yield f"{name}: maxUnavailable {given} removes pods before their successors are ready: use 0"
    if spec.get("replicas", 1) in (0, 1):
        yield f"{name}: {spec.get('replicas', 1)} replica: the loss of one pod is an outage: use 2 or more"
    if not facts.readiness:
        yield f"{name}: no readinessProbe: a pod gets traffic before it can serve"
    elif facts.readiness == facts.liveness:
        yield f"{name}: readiness and liveness probe the same: a slow dependency restarts every pod"
    if facts.pre_stop is None:
        yield f"{name}: no preStop: routers still send requests to a pod that has stopped: add a sleep of some seconds"
    elif facts.pre_stop.seconds is not None and facts.grace <= facts.pre_stop.seconds + (facts.drain or 0):
        yield f"{name}: the grace period of {facts.grace:g} s is not longer than preStop and drain"
    if ":" not in facts.image.rpartition("/")[2] or facts.image.endswith(":latest"):
        yield f"{name}: image {facts.image or '(none)'} has no fixed tag: a rollback to it is not possible"
    yield from (f"sessions stick to one pod: {what}" for what in manifest.sticky)


def describe_manifest_changes(old: Manifest, new: Manifest) -> Iterator[str]:
    """The differences between two versions of one Deployment, as text."""
    before, after = get_object(old.raw, "spec"), get_object(new.raw, "spec")
    if old.facts.image != new.facts.image:
        yield f"image {old.facts.image} → {new.facts.image}"
    if before.get("selector") != after.get("selector"):
        yield "selector: Kubernetes cannot change it; create a new Deployment beside the old one"
    if before.get("replicas", 1) != after.get("replicas", 1):
        yield f"replicas {before.get('replicas', 1)} → {after.get('replicas', 1)}"
    if _without_image(old) != _without_image(new):
        yield "the pod's configuration"


def _without_image(manifest: Manifest) -> Any:
    pod = get_object(manifest.raw, "spec", "template", "spec")
    containers = [
        {**each, "image": ""} if get_text(each, "name") == manifest.container else each
        for each in get_objects(pod, "containers")
    ]
    return {**pod, "containers": containers}

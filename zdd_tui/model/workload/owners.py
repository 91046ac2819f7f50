"""Programs that own a Deployment and would set its image back, by labels, annotations, owners and managedFields."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zdd_tui.model.json_access import get_bool, get_object, get_objects, get_text


@dataclass(frozen=True, slots=True)
class WorkloadOwner:
    """A program that applies the Deployment from another source.

    Attributes:
        evidence: where the object says so.
        effect: what it does to a release.
        hint: how to keep it from that.
    """

    name: str
    evidence: str
    effect: str
    hint: str


@dataclass(frozen=True, slots=True)
class _OwnerRule:
    """How a program marks what it applies.

    Attributes:
        marks: keys of labels or annotations; with ``=``: and the value.
        managers: names in managedFields, or their beginnings where they end in ``*``.
        disabled: an annotation or label with the value that switches the program off for this object.
    """

    name: str
    marks: tuple[str, ...]
    managers: tuple[str, ...]
    effect: str
    hint: str
    disabled: tuple[str, ...] = ()


_SETS_BACK = "it sets the image back when it synchronizes"

_RULES = (
    _OwnerRule(
        "Argo CD",
        ("argocd.argoproj.io/tracking-id", "argocd.argoproj.io/instance"),
        ("argocd*", "argo-cd*"),
        _SETS_BACK,
        "switch off auto-sync of its application for the time of the release, or put the"
        " image under ignoreDifferences with RespectIgnoreDifferences=true",
    ),
    _OwnerRule(
        "Flux (kustomization)",
        ("kustomize.toolkit.fluxcd.io/name",),
        ("kustomize-controller",),
        _SETS_BACK,
        "flux suspend kustomization NAME for the time of the release, and commit the new image before flux resume",
        ("kustomize.toolkit.fluxcd.io/reconcile=disabled", "kustomize.toolkit.fluxcd.io/ssa=Ignore"),
    ),
    _OwnerRule(
        "Flux (helm release)",
        ("helm.toolkit.fluxcd.io/name",),
        ("helm-controller",),
        "with drift detection, and at its next upgrade, it sets the image back",
        "flux suspend helmrelease NAME for the time of the release, and commit the new image before flux resume",
        ("helm.toolkit.fluxcd.io/driftDetection=disabled",),
    ),
    _OwnerRule(
        "Rancher Fleet",
        ("objectset.rio.cattle.io/id", "fleet.cattle.io/bundle-id"),
        ("fleetagent", "fleet-agent"),
        _SETS_BACK,
        "pause its GitRepo (spec.paused: true) for the time of the release",
    ),
    _OwnerRule(
        "Config Sync",
        ("configsync.gke.io/declared-version", "configmanagement.gke.io/managed=enabled"),
        ("configsync*",),
        _SETS_BACK,
        "annotate the Deployment with client.lifecycle.config.k8s.io/mutation=ignore for the time of the release",
        ("client.lifecycle.config.k8s.io/mutation=ignore",),
    ),
    _OwnerRule(
        "kapp",
        ("kapp.k14s.io/app",),
        ("kapp*",),
        "its next deploy sets the image back",
        "pause its App (spec.paused: true), and deploy the new image with it after the release",
    ),
    _OwnerRule(
        "Helm",
        ("meta.helm.sh/release-name", "app.kubernetes.io/managed-by=Helm"),
        ("helm",),
        "its next upgrade sets the image back",
        "do not upgrade the Helm release until this one is done, and put the new image into its values then",
    ),
    _OwnerRule(
        "Terraform",
        (),
        ("Terraform", "terraform*"),
        "its next apply sets the image back",
        "do not apply until the release is done, and put the new image into the configuration then",
    ),
    _OwnerRule(
        "Pulumi",
        ("pulumi.com/patchForce",),
        ("pulumi*",),
        "its next update sets the image back",
        "do not update the stack until the release is done, and put the new image into the program then",
    ),
)


def find_workload_owners(raw: Any) -> tuple[WorkloadOwner, ...]:
    """The owners of a Deployment, as its raw object shows them. One that is switched off for the object is left out.

    A program is found by its marks on the object even where managedFields are hidden.
    """
    marks = {**get_object(raw, "metadata", "labels"), **get_object(raw, "metadata", "annotations")}
    managers = [
        manager
        for entry in get_objects(raw, "metadata", "managedFields")
        if not get_text(entry, "subresource") and (manager := get_text(entry, "manager"))
    ]
    found = [
        WorkloadOwner(rule.name, evidence, rule.effect, rule.hint)
        for rule in _RULES
        if not any(_has_mark(marks, mark) for mark in rule.disabled)
        and (evidence := _find_evidence(rule, marks, managers))
    ]
    # The chart's own label stays when Flux renders it, and then Flux decides.
    if any(each.name.startswith("Flux (helm") for each in found):
        found = [each for each in found if each.name != "Helm"]
    return (*_controllers(raw), *found)


def _controllers(raw: Any) -> Iterator[WorkloadOwner]:
    for reference in get_objects(raw, "metadata", "ownerReferences"):
        if get_bool(reference, "controller") is True:
            kind, name = get_text(reference, "kind"), get_text(reference, "name")
            yield WorkloadOwner(
                f"{kind} {name}",
                "ownerReferences",
                "its operator makes the Deployment from it and sets the image back",
                f"set the image in {kind} {name} instead, or pause its operator for the time of the release",
            )


def _find_evidence(rule: _OwnerRule, marks: Mapping[str, Any], managers: list[str]) -> str:
    for mark in rule.marks:
        if _has_mark(marks, mark):
            key = mark.partition("=")[0]
            return f"{key}: {_shorten(str(marks[key]))}"
    for manager in managers:
        for pattern in rule.managers:
            if manager == pattern or (pattern.endswith("*") and manager.startswith(pattern[:-1])):
                return f"managedFields: {_shorten(manager)}"
    return ""


def _has_mark(marks: Mapping[str, Any], mark: str) -> bool:
    key, separator, value = mark.partition("=")
    return key in marks and (not separator or marks[key] == value)


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"

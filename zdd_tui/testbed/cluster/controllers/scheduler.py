"""A scheduler that filters by readiness and node selector only, and takes the emptiest node."""

from collections import Counter
from collections.abc import Iterable

from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.controllers.base import Controller, QueueKey
from zdd_tui.testbed.cluster.meta import (
    Json,
    condition_of,
    condition_true,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    now,
    without_condition,
)
from zdd_tui.testbed.cluster.store import ObjectChange

COMPONENT = "default-scheduler"


def is_schedulable(node: Json) -> bool:
    return condition_true(node, "Ready") and not (node.get("spec") or {}).get("unschedulable") and not is_deleting(node)


def can_schedule(node: Json, pod: Json) -> bool:
    wanted = pod["spec"].get("nodeSelector") or {}
    return is_schedulable(node) and wanted.items() <= labels_of(node).items()


class Scheduler(Controller):
    watched_kinds = frozenset({kinds.POD, kinds.NODE})

    def keys_for(self, change: ObjectChange) -> Iterable[QueueKey]:
        obj = change.current
        if change.kind is kinds.POD:
            return [] if change.deleted or not _is_pending(obj) else [key_of(obj)]
        was = change.previous is not None and is_schedulable(change.previous)
        if change.deleted or was or not is_schedulable(obj):
            return []
        return [key_of(pod) for pod in self.store.items(kinds.POD) if _is_pending(pod)]

    def sync(self, namespace: str, name: str) -> None:
        pod = self.store.get(kinds.POD, namespace, name)
        if pod is None or not _is_pending(pod):
            return
        nodes = list(self.store.items(kinds.NODE))
        fitting = [name_of(node) for node in nodes if can_schedule(node, pod)]
        if not fitting:
            self._mark_unschedulable(pod, len(nodes))
            return
        node = fitting[0] if len(fitting) == 1 else self._least_loaded(fitting)
        self.api.bind(namespace, name, node)
        text = f"Successfully assigned {namespace}/{name} to {node}"
        self.recorder.record(pod, COMPONENT, "Scheduled", text)

    def _least_loaded(self, names: list[str]) -> str:
        load = Counter(pod["spec"].get("nodeName") for pod in self.store.items(kinds.POD))
        return min(names, key=lambda name: (load[name], name))

    def _mark_unschedulable(self, pod: Json, nodes: int) -> None:
        text = f"0/{nodes} nodes are available." if nodes else "no nodes available to schedule pods"
        old = condition_of(pod, "PodScheduled")
        if old is not None and old.get("message") == text:
            return
        made = {
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text,
            "lastProbeTime": None, "lastTransitionTime": now(),
        }  # fmt: skip
        others = without_condition(pod["status"].get("conditions"), "PodScheduled")
        self.api.write(kinds.POD, pod, "status", {**pod["status"], "conditions": [*others, made]})
        self.recorder.record(pod, COMPONENT, "FailedScheduling", text, warning=True)


def _is_pending(pod: Json) -> bool:
    spec = pod["spec"]
    gated = spec.get("schedulingGates") or spec.get("schedulerName", COMPONENT) != COMPONENT
    return not spec.get("nodeName") and not is_deleting(pod) and not gated

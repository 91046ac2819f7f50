"""The ResourceQuota controller: counts the `pods` that a namespace uses, the only limit that is kept here."""

from collections.abc import Iterable

from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.api import count_quota_pods
from zdd_tui.testbed.cluster.controllers.base import Controller, QueueKey
from zdd_tui.testbed.cluster.meta import key_of, namespace_of, status_of
from zdd_tui.testbed.cluster.store import ObjectChange


class ResourceQuotaController(Controller):
    watched_kinds = frozenset({kinds.RESOURCE_QUOTA, kinds.POD})

    def keys_for(self, change: ObjectChange) -> Iterable[QueueKey]:
        if change.kind is kinds.RESOURCE_QUOTA:
            return [key_of(change.current)]
        return [key_of(quota) for quota in self.store.items(kinds.RESOURCE_QUOTA, namespace_of(change.current))]

    def sync(self, namespace: str, name: str) -> None:
        quota = self.store.get(kinds.RESOURCE_QUOTA, namespace, name)
        if quota is None:
            return
        hard = quota["spec"].get("hard") or {}
        used = {"pods": str(count_quota_pods(self.store, namespace))} if "pods" in hard else {}
        status = {"hard": hard, "used": used}
        if status != status_of(quota):
            self.api.write(kinds.RESOURCE_QUOTA, quota, "status", status)

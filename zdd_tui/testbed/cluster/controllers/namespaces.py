"""Empties a namespace that is being deleted, and lets it go when nothing is left in it."""

from collections.abc import Iterable
from typing import ClassVar

from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.controllers.base import Controller, QueueKey
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.meta import is_deleting, name_of, namespace_of
from zdd_tui.testbed.cluster.store import ObjectChange


class NamespaceController(Controller):
    kinds: ClassVar[frozenset[ResourceType]] = frozenset(kinds.KINDS)

    def keys_for(self, change: ObjectChange) -> Iterable[QueueKey]:
        if change.kind is kinds.NAMESPACE:
            name = name_of(change.current)
        elif change.deleted:
            name = namespace_of(change.current)
        else:
            return []
        namespace = self.store.get(kinds.NAMESPACE, "", name)
        return [("", name)] if namespace is not None and is_deleting(namespace) else []

    def sync(self, namespace: str, name: str) -> None:
        owner = self.store.get(kinds.NAMESPACE, "", name)
        if owner is None or not is_deleting(owner):
            return
        left = 0
        for kind in kinds.KINDS:
            if not kind.namespaced:
                continue
            for item in self.store.items(kind, name):
                if is_deleting(item):
                    left += 1
                    continue
                _, gone = self.api.delete(kind, name, name_of(item))
                left += not gone
        if left == 0:
            self.store.remove(kinds.NAMESPACE, owner)

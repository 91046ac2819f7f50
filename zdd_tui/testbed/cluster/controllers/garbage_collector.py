"""What is owned goes after, with, or without its owner; what is in a namespace goes with it."""

from collections.abc import Iterable

from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.api import FOREGROUND, ORPHAN
from zdd_tui.testbed.cluster.controllers.base import Controller, QueueKey
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.meta import Json, is_deleting, key_of, name_of, namespace_of, owner_references, uid_of
from zdd_tui.testbed.cluster.store import ObjectChange


class GarbageCollector(Controller):
    """Its keys are uids of owners: ("", uid)."""

    watched_kinds = frozenset(kinds.KINDS) - {kinds.EVENT}

    def keys_for(self, change: ObjectChange) -> Iterable[QueueKey]:
        obj = change.current
        owners = [ref["uid"] for ref in owner_references(obj)]
        if change.deleted:
            return [("", uid_of(obj)), *(("", uid) for uid in owners)]
        found = [("", uid) for uid in owners if self.store.by_uid(uid) is None]
        if is_deleting(obj) and _finalizers(obj) & {FOREGROUND, ORPHAN}:
            found.append(("", uid_of(obj)))
        return found

    def sync(self, namespace: str, name: str) -> None:
        owner = self.store.by_uid(name)
        dependents = self.store.owned_by(name)
        if owner is None:
            for kind, item in dependents:
                self._handle_missing_owner(kind, item, name)
        elif is_deleting(owner) and ORPHAN in _finalizers(owner):
            for kind, item in dependents:
                self._drop_reference(kind, item, name)
            self._drop_finalizer(owner, ORPHAN)
        elif is_deleting(owner) and FOREGROUND in _finalizers(owner):
            for kind, item in dependents:
                if not is_deleting(item):
                    nested = bool(self.store.owned_by(uid_of(item)))
                    self._delete(kind, item, "Foreground" if nested else "Background")
            blocking = [
                item
                for _, item in self.store.owned_by(name)
                if any(ref["uid"] == name and ref.get("blockOwnerDeletion") for ref in owner_references(item))
            ]
            if not blocking:
                self._drop_finalizer(owner, FOREGROUND)

    def _handle_missing_owner(self, kind: ResourceType, item: Json, uid: str) -> None:
        if any(self.store.by_uid(ref["uid"]) is not None for ref in owner_references(item)):
            self._drop_reference(kind, item, uid)
        elif not is_deleting(item):
            self._delete(kind, item, "Background")

    def _delete(self, kind: ResourceType, item: Json, policy: str) -> None:
        options = {"propagationPolicy": policy, "preconditions": {"uid": uid_of(item)}}
        self.api.delete(kind, *key_of(item), options)

    def _drop_reference(self, kind: ResourceType, item: Json, uid: str) -> None:
        left = [ref for ref in owner_references(item) if ref["uid"] != uid]
        self.api.write_metadata(kind, item, "ownerReferences", left)

    def _drop_finalizer(self, owner: Json, finalizer: str) -> None:
        kind = kinds.by_kind(owner["apiVersion"], owner["kind"])
        assert kind is not None
        left = [item for item in owner["metadata"]["finalizers"] if item != finalizer]
        self.api.write_metadata(kind, owner, "finalizers", left)


def _finalizers(obj: Json) -> set[str]:
    return set(obj["metadata"].get("finalizers") or ())


class NamespaceController(Controller):
    """Empties a namespace that is being deleted, and lets it go when nothing is left in it."""

    watched_kinds = frozenset(kinds.KINDS)

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
        for kind in filter(lambda kind: kind.namespaced, kinds.KINDS):
            for item in self.store.items(kind, name):
                left += is_deleting(item) or not self.api.delete(kind, *key_of(item))[1]
        if left == 0:
            self.store.remove(kinds.NAMESPACE, owner)

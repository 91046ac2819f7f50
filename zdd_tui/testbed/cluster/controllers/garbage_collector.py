"""The garbage collector: what is owned goes after, with, or without its owner."""

from collections.abc import Iterable
from typing import ClassVar

from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.api import FOREGROUND, ORPHAN
from zdd_tui.testbed.cluster.controllers.base import Controller, QueueKey
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.meta import Json, deep_copy, is_deleting, name_of, namespace_of, owner_references, uid_of
from zdd_tui.testbed.cluster.store import ObjectChange


class GarbageCollector(Controller):
    """Its keys are uids of owners: ("", uid)."""

    kinds: ClassVar[frozenset[ResourceType]] = frozenset(kinds.KINDS) - {kinds.EVENT}

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
        self.api.delete(kind, namespace_of(item), name_of(item), options)

    def _drop_reference(self, kind: ResourceType, item: Json, uid: str) -> None:
        new = deep_copy(item)
        left = [ref for ref in owner_references(item) if ref["uid"] != uid]
        new["metadata"].pop("ownerReferences")
        if left:
            new["metadata"]["ownerReferences"] = left
        self.api.update(kind, namespace_of(item), name_of(item), new)

    def _drop_finalizer(self, owner: Json, finalizer: str) -> None:
        kind = kinds.by_kind(owner["apiVersion"], owner["kind"])
        assert kind is not None
        new = deep_copy(owner)
        left = [item for item in owner["metadata"]["finalizers"] if item != finalizer]
        new["metadata"].pop("finalizers")
        if left:
            new["metadata"]["finalizers"] = left
        self.api.update(kind, namespace_of(owner), name_of(owner), new)


def _finalizers(obj: Json) -> set[str]:
    return set(obj["metadata"].get("finalizers") or ())

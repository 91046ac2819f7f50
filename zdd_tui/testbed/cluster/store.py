"""The objects in memory, their history, and who watches them.

One counter numbers every write (resourceVersion). A stored object is never changed afterwards: a write puts
a new one in its place, so watchers and controllers may hold what they were given without copying it.
"""

import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from zdd_tui.testbed.cluster.errors import expired
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.meta import Json, name_of, namespace_of, owner_references, uid_of
from zdd_tui.testbed.cluster.selectors import ObjectMatch

# Writes kept for watches that resume, some 10 KB each: minutes of a demo's busiest rollout. Older ones get a 410.
HISTORY_LENGTH = 5_000
# Numbering does not begin at 1, so that a version of another cluster is not mistaken for ours.
FIRST_VERSION = 100
# A watcher that lags by this many events is closed: it resumes or relists, and memory stays bounded.
MAX_WATCH_BACKLOG = 10_000


@dataclass(slots=True)
class ObjectChange:
    """One write. `previous` is None for a creation, `current` the last state for a deletion."""

    version: int
    kind: ResourceType
    current: Json
    previous: Json | None
    deleted: bool = False
    _lines: dict[str, bytes] = field(default_factory=dict)

    def event_type_for(self, match: ObjectMatch) -> str | None:
        """The event for a watch with this selector: leaving the selection reads as DELETED."""
        before = self.previous is not None and match(self.previous)
        after = not self.deleted and match(self.current)
        if before and after:
            return "MODIFIED"
        if after:
            return "ADDED"
        return "DELETED" if before else None

    def event_line(self, type_: str) -> bytes:
        """The event as a line of a watch stream; encoded once for all watchers."""
        if type_ not in self._lines:
            text = json.dumps({"type": type_, "object": self.object_for(type_)}, separators=(",", ":"))
            self._lines[type_] = text.encode() + b"\n"
        return self._lines[type_]

    def object_for(self, type_: str) -> Json:
        """The object of the event. One that left the selection: its last state in it, with the change's version."""
        if self.deleted or type_ != "DELETED" or self.previous is None:
            return self.current
        return {**self.previous, "metadata": {**self.previous["metadata"], "resourceVersion": str(self.version)}}


@dataclass(slots=True, eq=False)
class Watcher:
    """A watch in progress: what waits to be sent, and whether it fell behind and must end."""

    kind: ResourceType
    namespace: str | None
    wake: Callable[[], None]
    pending: deque[ObjectChange] = field(default_factory=deque)
    is_overrun: bool = False

    def matches(self, change: ObjectChange) -> bool:
        return self.namespace is None or namespace_of(change.current) == self.namespace

    def enqueue(self, change: ObjectChange) -> None:
        if len(self.pending) >= MAX_WATCH_BACKLOG:
            self.is_overrun = True
        else:
            self.pending.append(change)
        self.wake()


class ObjectStore:
    """All objects of the cluster. Not thread-safe: one event loop owns it."""

    def __init__(self, history: int = HISTORY_LENGTH) -> None:
        self.version = FIRST_VERSION
        self._objects: dict[ResourceType, dict[tuple[str, str], Json]] = defaultdict(dict)
        self._log: deque[ObjectChange] = deque()
        self._history = history
        self._oldest = FIRST_VERSION
        self._watchers: dict[ResourceType, set[Watcher]] = defaultdict(set)
        self._listeners: list[Callable[[ObjectChange], None]] = []
        self._by_uid: dict[str, tuple[ResourceType, str, str]] = {}
        self._owned: dict[str, dict[tuple[ResourceType, str, str], None]] = defaultdict(dict)

    def get(self, kind: ResourceType, namespace: str, name: str) -> Json | None:
        return self._objects[kind].get((namespace, name))

    def items(self, kind: ResourceType, namespace: str | None = None) -> Iterator[Json]:
        """Objects in creation order. The iterator is over a copy: the caller may write meanwhile."""
        for key, obj in list(self._objects[kind].items()):
            if namespace is None or key[0] == namespace:
                yield obj

    def by_uid(self, uid: str) -> Json | None:
        key = self._by_uid.get(uid)
        return self.get(*key) if key else None

    def owned_by(self, uid: str, kind: ResourceType | None = None) -> list[tuple[ResourceType, Json]]:
        """Every object that names this owner."""
        found = []
        for key in list(self._owned.get(uid, ())):
            obj = self.get(*key)
            if obj is not None and (kind is None or key[0] is kind):
                found.append((key[0], obj))
        return found

    def put(self, kind: ResourceType, obj: Json) -> Json:
        """Create or replace; sets the resourceVersion of `obj` and takes ownership of it."""
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        key = (namespace_of(obj), name_of(obj))
        previous = self._objects[kind].get(key)
        self._objects[kind][key] = obj
        full_key = (kind, *key)
        if previous is not None:
            self._unindex(full_key, previous)
        self._by_uid[uid_of(obj)] = full_key
        for reference in owner_references(obj):
            self._owned[reference["uid"]][full_key] = None
        self._publish(ObjectChange(self.version, kind, obj, previous))
        return obj

    def remove(self, kind: ResourceType, obj: Json) -> Json:
        """Delete; the watchers see the last state with the version of the deletion."""
        self.version += 1
        key = (namespace_of(obj), name_of(obj))
        previous = self._objects[kind].pop(key)
        last = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
        self._unindex((kind, *key), previous)
        self._publish(ObjectChange(self.version, kind, last, previous, deleted=True))
        return last

    def _unindex(self, key: tuple[ResourceType, str, str], obj: Json) -> None:
        self._by_uid.pop(uid_of(obj), None)
        for reference in owner_references(obj):
            owned = self._owned.get(reference["uid"])
            if owned is not None:
                owned.pop(key, None)
                if not owned:
                    del self._owned[reference["uid"]]

    def _publish(self, change: ObjectChange) -> None:
        self._log.append(change)
        if len(self._log) > self._history:
            self._oldest = self._log.popleft().version
        for listener in self._listeners:
            listener(change)
        for watcher in self._watchers[change.kind]:
            if watcher.matches(change):
                watcher.enqueue(change)

    def compact(self) -> None:
        """Compact: watches from any version before now are answered 410 (etcd does it every 5 minutes)."""
        self._log.clear()
        self._oldest = self.version

    def add_listener(self, listener: Callable[[ObjectChange], None]) -> None:
        self._listeners.append(listener)

    def watch(self, watcher: Watcher, since: int | None) -> None:
        """Register a watcher and give it what happened after `since` (None: from now on).

        Raises ApiError 410 where that part of the history is no longer kept.
        """
        if since is not None:
            if since < self._oldest:
                raise expired(since, self._oldest)
            behind: list[ObjectChange] = []
            for change in reversed(self._log):
                if change.version <= since:
                    break
                if change.kind is watcher.kind and watcher.matches(change):
                    behind.append(change)
            watcher.pending.extend(reversed(behind))
        self._watchers[watcher.kind].add(watcher)

    def wake_watchers(self) -> None:
        for watcher in (each for watchers in self._watchers.values() for each in watchers):
            watcher.wake()

    @property
    def watcher_count(self) -> int:
        return sum(map(len, self._watchers.values()))

    def unwatch(self, watcher: Watcher) -> None:
        self._watchers[watcher.kind].discard(watcher)

"""What all controllers have: the keys that they sync, and the Events that they record."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import ClassVar, TypeAlias

from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.api import Api
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.meta import Json, key_of, make_event, name_of, namespace_of, now, uid_of
from zdd_tui.testbed.cluster.store import ObjectChange

QueueKey: TypeAlias = tuple[str, str]

# Events are kept for an hour by the real server; here, the newest of them.
MAX_EVENTS = 2_000


class ControllerEventRecorder:
    """Writes Events about objects; never raises for one that cannot be written. Equal ones are counted up."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._counted: OrderedDict[tuple[str, str, str], QueueKey] = OrderedDict()

    def record(self, about: Json, component: str, reason: str, message: str, *, warning: bool = False) -> None:
        key = (uid_of(about), reason, message)
        namespace = namespace_of(about) or "default"
        if self._api.store.get(kinds.NAMESPACE, "", namespace) is None:
            return
        if key in self._counted:
            old = self._api.store.get(kinds.EVENT, *self._counted[key])
            if old is not None:
                again = {**old, "count": old["count"] + 1, "lastTimestamp": now()}
                self._api.update(kinds.EVENT, *key_of(old), again)
                return
        name = f"{name_of(about)}.{time.time_ns():x}"
        event = make_event(name, about, reason, message, component, warning=warning)
        self._api.create(kinds.EVENT, namespace, event)
        self._counted[key] = (namespace, name)
        while len(self._counted) > MAX_EVENTS:
            _, oldest = self._counted.popitem(last=False)
            if self._api.store.get(kinds.EVENT, *oldest) is not None:
                self._api.delete(kinds.EVENT, *oldest)


class Controller:
    """Reconciles one object with its spec. `sync` is idempotent and never waits."""

    watched_kinds: ClassVar[frozenset[ResourceType]]

    def __init__(
        self, api: Api, recorder: ControllerEventRecorder, after: "Callable[[Controller, QueueKey, float], None]"
    ) -> None:
        self.api = api
        self.store = api.store
        self.recorder = recorder
        self._after = after

    def keys_for(self, change: ObjectChange) -> Iterable[QueueKey]:
        """Namespace and name of the objects to sync after a change of one of `watched_kinds`."""
        raise NotImplementedError

    def sync(self, namespace: str, name: str) -> None:
        raise NotImplementedError

    def requeue_after(self, key: QueueKey, seconds: float) -> None:
        self._after(self, key, seconds)

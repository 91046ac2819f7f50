"""What a controller is."""

from collections.abc import Callable, Iterable
from typing import ClassVar, TypeAlias

from zdd_tui.testbed.cluster.api import Api
from zdd_tui.testbed.cluster.controllers.events import ControllerEventRecorder
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.store import ObjectChange

QueueKey: TypeAlias = tuple[str, str]


class Controller:
    """Reconciles one object with its spec. `sync` is idempotent and never waits."""

    kinds: ClassVar[frozenset[ResourceType]]

    def __init__(
        self, api: Api, recorder: ControllerEventRecorder, after: "Callable[[Controller, QueueKey, float], None]"
    ) -> None:
        self.api = api
        self.store = api.store
        self.recorder = recorder
        self._after = after

    def keys_for(self, change: ObjectChange) -> Iterable[QueueKey]:
        """Namespace and name of the objects to sync after a change of one of `kinds`."""
        raise NotImplementedError

    def sync(self, namespace: str, name: str) -> None:
        raise NotImplementedError

    def requeue_after(self, key: QueueKey, seconds: float) -> None:
        self._after(self, key, seconds)

"""What a controller is."""

from collections.abc import Callable, Iterable
from typing import ClassVar, TypeAlias

from zdd_tui.testbed.cluster.api import Api
from zdd_tui.testbed.cluster.controllers.events import Recorder
from zdd_tui.testbed.cluster.kinds import Kind
from zdd_tui.testbed.cluster.store import Change

Key: TypeAlias = tuple[str, str]


class Controller:
    """Brings the world towards what one object asks for. `sync` is idempotent and never waits."""

    kinds: ClassVar[frozenset[Kind]]

    def __init__(self, api: Api, recorder: Recorder, after: "Callable[[Controller, Key, float], None]") -> None:
        self.api = api
        self.store = api.store
        self.recorder = recorder
        self._after = after

    def keys_for(self, change: Change) -> Iterable[Key]:
        """Namespace and name of what has to be looked at after a change of one of `kinds`."""
        raise NotImplementedError

    def sync(self, namespace: str, name: str) -> None:
        raise NotImplementedError

    def look_again(self, key: Key, seconds: float) -> None:
        self._after(self, key, seconds)

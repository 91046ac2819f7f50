"""Records Events as the controllers of the real control plane do: equal ones are counted up."""

import time
from collections import OrderedDict

from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.api import Api
from zdd_tui.testbed.cluster.meta import Json, deep_copy, name_of, namespace_of, now, uid_of

# Events are kept for an hour by the real server; here, the newest of them.
MAX_EVENTS = 2_000


class ControllerEventRecorder:
    """Writes Events about objects; never raises for one that cannot be written."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._counted: OrderedDict[tuple[str, str, str], tuple[str, str]] = OrderedDict()

    def normal(self, about: Json, component: str, reason: str, message: str) -> None:
        self._record(about, component, "Normal", reason, message)

    def warning(self, about: Json, component: str, reason: str, message: str) -> None:
        self._record(about, component, "Warning", reason, message)

    def _record(self, about: Json, component: str, type_: str, reason: str, message: str) -> None:
        key = (uid_of(about), reason, message)
        namespace = namespace_of(about) or "default"
        if self._api.store.get(kinds.NAMESPACE, "", namespace) is None:
            return
        if key in self._counted:
            old = self._api.store.get(kinds.EVENT, *self._counted[key])
            if old is not None:
                again = {**deep_copy(old), "count": old["count"] + 1, "lastTimestamp": now()}
                self._api.update(kinds.EVENT, namespace, name_of(old), again)
                return
        name = f"{name_of(about)}.{time.time_ns():x}"
        self._api.create(kinds.EVENT, namespace, _make_event(about, namespace, name, component, type_, reason, message))
        self._counted[key] = (namespace, name)
        while len(self._counted) > MAX_EVENTS:
            _, oldest = self._counted.popitem(last=False)
            if self._api.store.get(kinds.EVENT, *oldest) is not None:
                self._api.delete(kinds.EVENT, *oldest)


def _make_event(about: Json, namespace: str, name: str, component: str, type_: str, reason: str, message: str) -> Json:
    moment = now()
    return {
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {
            "kind": about["kind"],
            **({"namespace": namespace_of(about)} if namespace_of(about) else {}),
            "name": name_of(about),
            "uid": uid_of(about),
            "apiVersion": about["apiVersion"],
            "resourceVersion": about["metadata"]["resourceVersion"],
        },
        "reason": reason,
        "message": message,
        "source": {"component": component},
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "type": type_,
        "eventTime": None,
        "reportingComponent": component,
        "reportingInstance": "",
    }

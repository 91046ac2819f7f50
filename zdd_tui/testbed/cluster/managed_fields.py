"""managedFields: which client wrote which field last, for the kinds in which others look for it.

Rules: Kubernetes documentation, "Server-Side Apply". Every write is an Update of the fields that it changes; there is
no apply. Only Deployments and Services are tracked: the sets of thousands of pods would cost time, and nothing reads
them.
"""

from contextvars import ContextVar
from typing import Any

from aiohttp import web

from zdd_tui.testbed.cluster import kinds
from zdd_tui.testbed.cluster.kinds import ResourceType
from zdd_tui.testbed.cluster.meta import Json, now

TRACKED = (kinds.DEPLOYMENT, kinds.SERVICE)
_LIST_KEYS = ("name", "containerPort", "port")


_manager: ContextVar[str] = ContextVar("manager", default="kube-controller-manager")
"""Who makes the present write: the client of the request; outside of requests a controller."""


def note_client(request: web.Request) -> None:
    """Names the client of a request: its fieldManager, else the start of its User-Agent."""
    agent = request.headers.get("User-Agent", "")
    _manager.set(request.query.get("fieldManager") or agent.partition("/")[0].partition(" ")[0] or "unknown")


def track_changes(kind: ResourceType, old: Json | None, new: Json) -> None:
    """Notes in `new` that a client has written the fields that differ from `old`; takes them from other managers."""
    if kind not in TRACKED:
        return
    manager = _manager.get()
    entries: list[Json] = [dict(entry) for entry in (old or {}).get("metadata", {}).get("managedFields", [])]
    changed = _changed_paths(_tracked(old or {}), _tracked(new), ())
    if changed:
        paths = {id(entry): _to_paths(entry["fieldsV1"], ()) - changed for entry in entries}
        own = next((entry for entry in entries if entry["manager"] == manager), None)
        if own is None:
            own = {"manager": manager, "operation": "Update", "apiVersion": new["apiVersion"], "fieldsType": "FieldsV1"}
            entries.append(own)
            paths[id(own)] = set()
        paths[id(own)] |= {path for path in changed if _exists(_tracked(new), path)}
        own["time"] = now()
        for entry in entries:
            entry["fieldsV1"] = _to_fields(paths[id(entry)])
        entries = [entry for entry in entries if entry["fieldsV1"]]
    if entries:
        new["metadata"]["managedFields"] = entries
    else:
        new["metadata"].pop("managedFields", None)


Path = tuple[str, ...]


def _tracked(obj: Json) -> Json:
    metadata = obj.get("metadata", {})
    kept = {key: metadata[key] for key in ("labels", "annotations") if metadata.get(key)}
    return {"metadata": kept, "spec": obj.get("spec", {})}


def _members(value: Any) -> dict[str, Any] | None:
    """The members of an object or of a list with keys, by their fieldsV1 keys; None for a leaf."""
    if isinstance(value, dict):
        return {f"f:{key}": item for key, item in value.items()}
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for key in _LIST_KEYS:
            if all(key in item for item in value):
                return {_list_key(key, item[key]): item for item in value}
    return None


def _list_key(key: str, value: Any) -> str:
    return f'k:{{"{key}":"{value}"}}' if isinstance(value, str) else f'k:{{"{key}":{value}}}'


def _changed_paths(old: Any, new: Any, path: Path) -> set[Path]:
    """The leaves that differ."""
    if old == new:
        return set()
    before, after = _members(old), _members(new)
    if before is None and after is None:
        return {path}
    changed: set[Path] = set()
    for key in {**(before or {}), **(after or {})}:
        changed |= _changed_paths((before or {}).get(key), (after or {}).get(key), (*path, key))
    return changed


def _exists(value: Any, path: Path) -> bool:
    for key in path:
        members = _members(value)
        if members is None or key not in members:
            return False
        value = members[key]
    return True


def _to_paths(fields: Json, path: Path) -> set[Path]:
    if not fields:
        return {path} if path else set()
    found: set[Path] = set()
    for key, inner in fields.items():
        found |= _to_paths(inner, (*path, key))
    return found


def _to_fields(paths: set[Path]) -> Json:
    fields: Json = {}
    for path in sorted(paths):
        at = fields
        for key in path:
            at = at.setdefault(key, {})
    return fields

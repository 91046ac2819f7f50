"""Strategic merge patch: lists of objects merge by a key instead of being replaced.

Merge keys are those of the `patchMergeKey` tags in k8s.io/api 1.34 for the kinds that we serve; every other
list is replaced whole. Directives: $patch (merge, replace, delete), $retainKeys, $setElementOrder/<list>,
$deleteFromPrimitiveList/<list>.
"""

from typing import Any

from zdd_tui.testbed.cluster.errors import bad_request
from zdd_tui.testbed.cluster.meta import Json, deep_copy

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "schedulingGates": "name",
    "secrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "ownerReferences": "uid",
    "conditions": "type",
    "podIPs": "ip",
    "hostIPs": "ip",
    "addresses": "type",
}
PRIMITIVE_MERGE = frozenset({"finalizers", "podCIDRs"})

_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


def strategic_merge(target: Json, patch: Any, kind: str) -> Json:
    """The target with the patch merged in. `kind` decides what `ports` merges by. Raises ApiError 400."""
    if not isinstance(patch, dict):
        raise bad_request("a strategic merge patch is an object")
    return _merge_map(target, patch, (kind,))


def _merge_key(path: tuple[str, ...]) -> str | None:
    field = path[-1]
    if path[0] == "EndpointSlice" and field in ("addresses", "ports", "conditions"):
        return None
    if field == "ports":
        if "containers" in path or "initContainers" in path:
            return "containerPort"
        return "port" if path == ("Service", "spec", "ports") else None
    return MERGE_KEYS.get(field)


def _merge_map(target: Json, patch: Json, path: tuple[str, ...]) -> Json:
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: deep_copy(value) for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    result = dict(target)
    retain = patch.get("$retainKeys")
    if retain is not None:
        result = {key: value for key, value in result.items() if key in retain}
    for key, value in patch.items():
        if key in ("$patch", "$retainKeys"):
            continue
        if key.startswith(_DELETE):
            name = key.removeprefix(_DELETE)
            result[name] = [item for item in result.get(name) or [] if item not in value]
        elif key.startswith(_ORDER):
            continue
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = _merge_field(result.get(key), value, (*path, key))
    _order_lists(result, patch, target, path)
    return result


def _merge_field(current: Any, value: Any, path: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return _merge_map(current if isinstance(current, dict) else {}, value, path)
    if isinstance(value, list):
        existing = current if isinstance(current, list) else []
        if path[-1] in PRIMITIVE_MERGE:
            merged = existing + [item for item in value if item not in existing]
            return _order_items(merged, value, existing, None)
        key = _merge_key(path)
        if key is not None:
            return _merge_list(existing, value, key, path)
        return [_strip_directives(item) for item in value]
    return value


def _strip_directives(item: Any) -> Any:
    """A whole value out of a patch, without directives that have nothing to act on."""
    if isinstance(item, dict):
        return {
            key: _strip_directives(value)
            for key, value in item.items()
            if not key.startswith("$") and value is not None
        }
    return deep_copy(item)


def _merge_list(current: list[Any], patch: list[Any], key: str, path: tuple[str, ...]) -> list[Any]:
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [_strip_directives(item) for item in patch if set(item) != {"$patch"}]
    result = list(current)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        index = next((i for i, have in enumerate(result) if have.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if index is not None:
                del result[index]
        elif index is None:
            result.append(_merge_map({}, item, path))
        else:
            result[index] = _merge_map(result[index], item, path)
    return _order_items(result, [item for item in patch if item.get("$patch") != "delete"], current, key)


def _order_lists(result: Json, patch: Json, original: Json, path: tuple[str, ...]) -> None:
    """Follow $setElementOrder."""
    for directive, order in patch.items():
        if directive.startswith(_ORDER):
            name = directive.removeprefix(_ORDER)
            if isinstance(result.get(name), list):
                key = None if name in PRIMITIVE_MERGE else _merge_key((*path, name))
                result[name] = _order_items(result[name], order, original.get(name) or [], key)


def _order_items(merged: list[Any], wanted: list[Any], before: list[Any], key: str | None) -> list[Any]:
    """Items in the order of `wanted`; the others keep theirs, each after the wanted ones that it came after.

    This is normalizeElementOrder of apimachinery: a wanted item that was not there before goes as far to the front as
    it can.
    """

    def identity(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    rank = {identity(item): index for index, item in enumerate(wanted)}
    place = {identity(item): index for index, item in enumerate(before)}
    named = sorted((item for item in merged if identity(item) in rank), key=lambda item: rank[identity(item)])
    others = [item for item in merged if identity(item) not in rank]
    result = []
    while named and others:
        other, next_named = place.get(identity(others[0])), place.get(identity(named[0]))
        first = other is not None and next_named is not None and other < next_named
        result.append(others.pop(0) if first else named.pop(0))
    return [*result, *named, *others]

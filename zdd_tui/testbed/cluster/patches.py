"""The three kinds of patch: JSON patch (RFC 6902), JSON merge patch (RFC 7386) and strategic merge patch."""

from collections.abc import Callable
from typing import Any

import jsonpatch
from aiohttp import web

from zdd_tui.testbed.cluster import request as requests
from zdd_tui.testbed.cluster.errors import bad_request, invalid_request
from zdd_tui.testbed.cluster.meta import Json, deep_copy

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"


async def read_patch(request: web.Request, kind: str, *, custom: bool = False) -> Callable[[Json], Any]:
    """The body of a PATCH as a function from the old object to the new. Raises ApiError 400, 415, 422.

    A `custom` resource takes no strategic merge patch.
    """
    types = (JSON_PATCH, MERGE_PATCH) if custom else (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH)
    body = await requests.read_body(request, types)
    content_type = request.content_type if "Content-Type" in request.headers else JSON_PATCH

    def apply(obj: Json) -> Any:
        if content_type == JSON_PATCH:
            return json_patch(obj, body)
        try:
            return merge_patch(obj, body) if content_type == MERGE_PATCH else strategic_merge(obj, body, kind)
        except (AttributeError, KeyError, TypeError) as error:  # a shape that the object does not have
            raise bad_request(f"the patch does not fit the object: {error}") from error

    return apply


def merge_patch(target: Any, patch: Any) -> Any:
    """The target with the patch merged in; null removes a key, lists are replaced whole."""
    if not isinstance(patch, dict):
        return deep_copy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def json_patch(target: Json, operations: Any) -> Json:
    """The target after the operations of RFC 6902.

    Raises:
        ApiError: 400 where it is no list of operations, 422 where one of them fails.
    """
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: a JSON patch is an array of operations")
    try:
        result = jsonpatch.JsonPatch(operations).apply(target)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, AttributeError, KeyError) as error:
        message = f"the server rejected our request due to an error in our request: {error}"
        raise invalid_request(message) from error
    if not isinstance(result, dict):
        raise bad_request("a JSON patch must leave an object")
    return result


# --- Strategic merge patch: lists of objects merge by a key instead of being replaced.
#
# Merge keys are those of the `patchMergeKey` tags in k8s.io/api 1.34 for the kinds that we serve; every other list is
# replaced whole. Directives: $patch (merge, replace, delete), $retainKeys, $setElementOrder/<list>,
# $deleteFromPrimitiveList/<list>.

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

"""JSON patch (RFC 6902) and JSON merge patch (RFC 7386)."""

from typing import Any

from zdd_tui.testbed.cluster.errors import ApiError, bad_request
from zdd_tui.testbed.cluster.meta import Json, deep_copy


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
    """The target after add, remove, replace, move, copy and test. Raises ApiError 400, or 422 on a failed test."""
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: a JSON patch is an array of operations")
    result: Any = deep_copy(target)
    for operation in operations:
        try:
            result = _apply_operation(result, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise _patch_failed(operation, str(error)) from error
    if not isinstance(result, dict):
        raise bad_request("a JSON patch must leave an object")
    return result


def _patch_failed(operation: Any, reason: str) -> ApiError:
    message = f"the server rejected our request due to an error in our request: {operation}: {reason}"
    return ApiError(422, "Invalid", message, {})


def _apply_operation(document: Any, operation: Json) -> Any:
    op, path = operation["op"], operation["path"]
    if op == "test":
        if _resolve(document, path) != operation.get("value"):
            raise ValueError(f"testing path {path} failed")
        return document
    if op in ("move", "copy"):
        value = deep_copy(_resolve(document, operation["from"]))
        if op == "move":
            document = _remove(document, operation["from"])
        return _add(document, path, value)
    if op == "remove":
        return _remove(document, path)
    if op == "replace":
        _resolve(document, path)
        return _add(_remove(document, path) if path else document, path, deep_copy(operation["value"]))
    if op == "add":
        return _add(document, path, deep_copy(operation["value"]))
    raise ValueError(f"unknown operation {op}")


def _split_pointer(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise ValueError(f"path {path!r} does not begin with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _child(node: Any, part: str) -> Any:
    return node[int(part)] if isinstance(node, list) else node[part]


def _resolve(document: Any, path: str) -> Any:
    for part in _split_pointer(path):
        document = _child(document, part)
    return document


def _resolve_parent(document: Any, path: str) -> tuple[Any, str]:
    *above, last = _split_pointer(path)
    for part in above:
        document = _child(document, part)
    return document, last


def _add(document: Any, path: str, value: Any) -> Any:
    if not path:
        return value
    parent, last = _resolve_parent(document, path)
    if isinstance(parent, list):
        index = len(parent) if last == "-" else int(last)
        if index > len(parent):
            raise IndexError(f"index {index} is out of bounds")
        parent.insert(index, value)
    else:
        parent[last] = value
    return document


def _remove(document: Any, path: str) -> Any:
    parent, last = _resolve_parent(document, path)
    if isinstance(parent, list):
        del parent[int(last)]
    else:
        del parent[last]
    return document

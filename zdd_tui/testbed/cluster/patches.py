"""JSON patch (RFC 6902) and JSON merge patch (RFC 7386)."""

from typing import Any

from zdd_tui.testbed.cluster.errors import ApiError, bad_request
from zdd_tui.testbed.cluster.meta import Json, clone


def merge_patch(target: Any, patch: Any) -> Any:
    """The target with the patch merged in; null removes a key, lists are replaced whole."""
    if not isinstance(patch, dict):
        return clone(patch)
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
    result: Any = clone(target)
    for operation in operations:
        try:
            result = _apply(result, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise _failed(operation, str(error)) from error
    if not isinstance(result, dict):
        raise bad_request("a JSON patch must leave an object")
    return result


def _failed(operation: Any, why: str) -> ApiError:
    message = f"the server rejected our request due to an error in our request: {operation}: {why}"
    return ApiError(422, "Invalid", message, {})


def _apply(document: Any, operation: Json) -> Any:
    op, path = operation["op"], operation["path"]
    if op == "test":
        if _lookup(document, path) != operation.get("value"):
            raise ValueError(f"testing path {path} failed")
        return document
    if op in ("move", "copy"):
        value = clone(_lookup(document, operation["from"]))
        if op == "move":
            document = _remove(document, operation["from"])
        return _add(document, path, value)
    if op == "remove":
        return _remove(document, path)
    if op == "replace":
        _lookup(document, path)
        return _add(_remove(document, path) if path else document, path, clone(operation["value"]))
    if op == "add":
        return _add(document, path, clone(operation["value"]))
    raise ValueError(f"unknown operation {op}")


def _parts(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise ValueError(f"path {path!r} does not begin with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _step(node: Any, part: str) -> Any:
    return node[int(part)] if isinstance(node, list) else node[part]


def _lookup(document: Any, path: str) -> Any:
    for part in _parts(path):
        document = _step(document, part)
    return document


def _parent(document: Any, path: str) -> tuple[Any, str]:
    *above, last = _parts(path)
    for part in above:
        document = _step(document, part)
    return document, last


def _add(document: Any, path: str, value: Any) -> Any:
    if not path:
        return value
    parent, last = _parent(document, path)
    if isinstance(parent, list):
        index = len(parent) if last == "-" else int(last)
        if index > len(parent):
            raise IndexError(f"index {index} is out of bounds")
        parent.insert(index, value)
    else:
        parent[last] = value
    return document


def _remove(document: Any, path: str) -> Any:
    parent, last = _parent(document, path)
    if isinstance(parent, list):
        del parent[int(last)]
    else:
        del parent[last]
    return document

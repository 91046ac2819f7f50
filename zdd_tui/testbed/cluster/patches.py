"""JSON patch (RFC 6902) and JSON merge patch (RFC 7386)."""

from typing import Any

import jsonpatch

from zdd_tui.testbed.cluster.errors import bad_request, invalid_request
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

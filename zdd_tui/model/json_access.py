"""Access to untrusted JSON: every accessor tolerates a missing field and a value of another type.

An object of the Kubernetes API that lacks a field, or holds a string instead of a number, must not end the dashboard in
the middle of an incident.
"""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

JsonObject = Mapping[str, Any]
EMPTY: JsonObject = {}


def _get_at(value: Any, path: tuple[str, ...]) -> Any:
    """The value at `path`, or None. Called some fifty times for each pod, for hundreds of pods a second."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def get_object(value: Any, *path: str) -> JsonObject:
    """The object at `path`; empty where any part of the path is missing."""
    value = _get_at(value, path)
    return value if isinstance(value, dict) else EMPTY


def get_objects(value: Any, *path: str) -> list[JsonObject]:
    """The objects of the list at `path`, without its other items."""
    value = _get_at(value, path)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def get_text(value: Any, *path: str) -> str:
    """The string at `path`, or the empty string."""
    value = _get_at(value, path)
    return value if isinstance(value, str) else ""


def interned_text(value: Any, *path: str) -> str:
    """Like `get_text`, for values that many objects share: held in memory once."""
    value = _get_at(value, path)
    return sys.intern(value) if type(value) is str else ""


def get_number(value: Any, *path: str, default: int = 0) -> int:
    """The whole number at `path`, or `default`."""
    value = _get_at(value, path)
    if isinstance(value, bool) or not isinstance(value, int):
        return default
    return value


def get_bool(value: Any, *path: str) -> bool | None:
    """The boolean at `path`, or None."""
    value = _get_at(value, path)
    return value if isinstance(value, bool) else None


def get_timestamp(value: Any, *path: str) -> float | None:
    """The RFC 3339 time at `path` in seconds since 1970, or None."""
    stamp = get_text(value, *path)
    if not stamp:
        return None
    try:
        parsed = datetime.fromisoformat(stamp)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None

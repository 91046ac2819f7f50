"""Reading JSON that somebody else wrote: every accessor tolerates what is missing or of another type.

The Kubernetes API is an outside party. An object that lacks a field, or holds a string where a number belongs,
must not end the dashboard in the middle of an incident.
"""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

JsonObject = Mapping[str, Any]
EMPTY: JsonObject = {}


def _get_at(value: Any, path: tuple[str, ...]) -> Any:
    """What is at `path` below `value`, or None. Of a pod some fifty times, and of pods some hundred a second."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def get_object(value: Any, *path: str) -> JsonObject:
    """The object at `path` below `value`; empty when any part of the way is missing."""
    value = _get_at(value, path)
    return value if isinstance(value, dict) else EMPTY


def get_objects(value: Any, *path: str) -> list[JsonObject]:
    """The objects of the list at `path`; whatever is no object is left out."""
    value = _get_at(value, path)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def get_text(value: Any, *path: str) -> str:
    """The string at `path`, or the empty string."""
    value = _get_at(value, path)
    return value if isinstance(value, str) else ""


def interned_text(value: Any, *path: str) -> str:
    """As `text`, for what many objects have in common: kept in memory once."""
    value = _get_at(value, path)
    return sys.intern(value) if type(value) is str else ""


def get_number(value: Any, *path: str, default: int = 0) -> int:
    """The whole number at `path`, or `default`."""
    value = _get_at(value, path)
    if isinstance(value, bool) or not isinstance(value, int):
        return default
    return value


def get_bool(value: Any, *path: str) -> bool | None:
    """The boolean at `path`, or None when it is not there."""
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

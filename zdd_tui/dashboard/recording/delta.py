"""What has changed between two JSON values, and how to put it back: pure, and knows nothing of boards.

A change is ``{"=": value}`` for another value, ``{"~": {key: change}, "-": [keys]}`` for an object, and for a list
``{"~": {index: change}}`` where it is as long as before, else ``{"@": [first, last, items]}``: those items in the place
of the old ones from first to before last.
"""

from typing import Any

Json = Any
"""None, bool, int, float, str, list or dict with string keys."""

Change = dict[str, Any]

UNCHANGED: Change = {}
"""Nothing has changed."""


def compute_delta(old: Json, new: Json) -> Change:
    """What makes the new value of the old one; :data:`UNCHANGED` where they are equal."""
    if old is new:
        return UNCHANGED
    if isinstance(old, dict) and isinstance(new, dict):
        return _object_delta(old, new)
    if isinstance(old, list) and isinstance(new, list):
        return _list_delta(old, new)
    return UNCHANGED if type(old) is type(new) and old == new else {"=": new}


def _object_delta(old: dict[str, Json], new: dict[str, Json]) -> Change:
    changed: dict[str, Change] = {}
    for key, value in new.items():
        change = compute_delta(old[key], value) if key in old else {"=": value}
        if change:
            changed[key] = change
    gone = [key for key in old if key not in new]
    return {**({"~": changed} if changed else {}), **({"-": gone} if gone else {})}


def _list_delta(old: list[Json], new: list[Json]) -> Change:
    if len(old) == len(new):
        found = (
            (str(at), compute_delta(before, after)) for at, (before, after) in enumerate(zip(old, new, strict=True))
        )
        changed = {at: change for at, change in found if change}
        return {"~": changed} if changed else UNCHANGED
    shorter = min(len(old), len(new))
    first = 0
    while first < shorter and _is_equal(old[first], new[first]):
        first += 1
    back = 0
    while back < shorter - first and _is_equal(old[-1 - back], new[-1 - back]):
        back += 1
    return {"@": [first, len(old) - back, new[first : len(new) - back]]}


def _is_equal(one: Json, other: Json) -> bool:
    return not compute_delta(one, other)


def apply_delta(old: Json, change: Change) -> Json:
    """The new value; the old one is left as it is, and what has not changed in it is shared.

    Raises:
        ValueError: the change does not fit the value.
    """
    if not change:
        return old
    if "=" in change:
        return change["="]
    try:
        if "@" in change:
            first, last, items = change["@"]
            return [*old[:first], *items, *old[last:]]
        if isinstance(old, list):
            made = list(old)
            for at, inner in change["~"].items():
                made[int(at)] = apply_delta(made[int(at)], inner)
            return made
        merged = {key: value for key, value in old.items() if key not in change.get("-", ())}
        for key, inner in change.get("~", {}).items():
            merged[key] = apply_delta(merged.get(key), inner)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError("the change does not fit what was there before") from error
    return merged

"""What differs between two answers, in words that hold no data unless their field may be shown.

A field that may not be shown is told by its shape (``<text of 14>``) and by how its two values differ (``only case``):
enough to tell a rounding from a lost name, and nothing that a log must not hold. A shown one is told as JSON, cut
around the place where the two part.
"""

import dataclasses
import json
import math
import unicodedata
from collections.abc import Collection, Mapping, Sequence

MAX_SHOWN_CHARS = 120
"""Characters of a shown value."""

NONE_TEXT = "<nothing>"
RESULT_TEXT = "<an answer>"


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One field of two answers.

    Attributes:
        old, new: the value as JSON where it may be shown, else its shape.
        kind: what tells the two apart, such as ``only case`` or ``from character 5``; empty where shapes say it all.
    """

    field: str
    old: str
    new: str
    kind: str = ""


def differing_fields(old: object, new: object) -> tuple[str, ...]:
    """Names of what differs between two answers; empty when they are equal."""
    if old == new:
        return ()
    if old is None or new is None:
        return ("presence",)
    one, other = _as_fields(old), _as_fields(new)
    found = sorted({key for key in one.keys() | other.keys() if one.get(key) != other.get(key)})
    return tuple(found) or ("value",)


def compare_results(old: object, new: object, visible_fields: Collection[str] = ()) -> tuple[Difference, ...]:
    """The same with both sides.

    Args:
        visible_fields: fields whose values hold nothing personal and nothing secret, and may be told.
    """
    if old is None or new is None:
        told = tuple(NONE_TEXT if value is None else RESULT_TEXT for value in (old, new))
        return (Difference("presence", *told),) if old is not new else ()
    one, other = _as_fields(old), _as_fields(new)
    found = []
    for name in differing_fields(old, new):
        whole = name == "value" and name not in one.keys() | other.keys()
        sides = (old, new) if whole else (one.get(name, _MISSING), other.get(name, _MISSING))
        found.append(_build_difference(name, *sides, show_values=name in visible_fields))
    return tuple(found)


class _Missing:
    """A field that one answer does not have."""


_MISSING = _Missing()


def _build_difference(name: str, old: object, new: object, *, show_values: bool) -> Difference:
    how = _classify_difference(old, new)
    if not show_values:
        return Difference(name, _describe_shape(old), _describe_shape(new), how)
    one, other = _to_json(old), _to_json(new)
    start = (
        max(0, _first_difference(one, other) - MAX_SHOWN_CHARS // 3)
        if max(len(one), len(other)) > MAX_SHOWN_CHARS
        else 0
    )
    return Difference(name, _excerpt(one, start), _excerpt(other, start), how)


def _as_fields(value: object) -> Mapping[str, object]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {str(key): each for key, each in value.items()} if isinstance(value, Mapping) else {}


def _describe_shape(value: object) -> str:
    match value:
        case _Missing():
            return "<absent>"
        case None:
            return "<null>"
        case bool():
            return "<boolean>"
        case int() | float():
            return "<number>"
        case str():
            return f"<text of {len(value)}>"
        case bytes():
            return f"<bytes, {len(value)}>"
        case Mapping():
            return f"<object of {len(value)}>"
        case Sequence():
            return f"<list of {len(value)}>"
    return f"<{type(value).__name__}>"


def _to_json(value: object) -> str:
    if isinstance(value, _Missing):
        return _describe_shape(value)
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except Exception:  # a circle, keys of another kind, or what a class of the application does when asked for a text
        return _describe_shape(value)


def _classify_difference(old: object, new: object) -> str:
    if isinstance(old, str) and isinstance(new, str):
        return _classify_text_difference(old, new)
    if isinstance(old, bool) or isinstance(new, bool):
        return ""
    if isinstance(old, int | float) and isinstance(new, int | float):
        return "by rounding" if math.isclose(old, new, rel_tol=1e-6) else ""
    return ""


def _classify_text_difference(old: str, new: str) -> str:
    if unicodedata.normalize("NFC", old) == unicodedata.normalize("NFC", new):
        return "only the Unicode form"
    if "".join(old.split()) == "".join(new.split()):
        return "only blanks"
    if old.casefold() == new.casefold():
        return "only case"
    return f"from character {_first_difference(old, new) + 1}"


def _first_difference(one: str, other: str) -> int:
    """Where two texts begin to differ; the shorter one's length where one begins with the other."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))


def _excerpt(text: str, start: int) -> str:
    kept = text[start : start + MAX_SHOWN_CHARS]
    return ("…" if start else "") + kept + ("…" if start + MAX_SHOWN_CHARS < len(text) else "")

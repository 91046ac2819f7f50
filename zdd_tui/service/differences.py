"""Describes the differences between two results without their data, except for fields that may be shown.

Other fields are described by shape (``<text of 14>``) and kind of difference (``only case``): enough to distinguish a
rounding from a lost name, and nothing that a log must not contain. A visible field is shown as JSON, truncated around
the first difference.
"""

import dataclasses
import json
import math
import unicodedata
from collections.abc import Collection, Mapping, Sequence

MAX_SHOWN_CHARS = 120
"""Characters of a shown value."""

NO_RESULT_TEXT = "<no result>"
RESULT_TEXT = "<result>"


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs.

    Attributes:
        old, new: the value as JSON if the field is visible, else its shape.
        kind: such as ``only case`` or ``from character 5``; empty if there is no special kind.
    """

    field: str
    old: str
    new: str
    kind: str = ""


def differing_fields(old: object, new: object) -> tuple[str, ...]:
    """Names of the fields that differ; empty if the results are equal."""
    if old == new:
        return ()
    if old is None or new is None:
        return ("presence",)
    one, other = _as_fields(old), _as_fields(new)
    names = sorted({key for key in one.keys() | other.keys() if one.get(key) != other.get(key)})
    return tuple(names) or ("value",)


def compare_results(old: object, new: object, visible_fields: Collection[str] = ()) -> tuple[Difference, ...]:
    """The fields that differ, with both sides.

    Args:
        visible_fields: fields whose values are neither personal nor secret and may be shown.
    """
    if old is None or new is None:
        sides = tuple(NO_RESULT_TEXT if value is None else RESULT_TEXT for value in (old, new))
        return (Difference("presence", *sides),) if old is not new else ()
    one, other = _as_fields(old), _as_fields(new)
    differences = []
    for name in differing_fields(old, new):
        is_whole_value = name == "value" and name not in one.keys() | other.keys()
        values = (old, new) if is_whole_value else (one.get(name, _MISSING), other.get(name, _MISSING))
        differences.append(_build_difference(name, *values, show_values=name in visible_fields))
    return tuple(differences)


class _Missing:
    """The value of a field that one result does not have."""


_MISSING = _Missing()


def _build_difference(name: str, old: object, new: object, *, show_values: bool) -> Difference:
    kind = _classify_difference(old, new)
    if not show_values:
        return Difference(name, _describe_shape(old), _describe_shape(new), kind)
    one, other = _to_json(old), _to_json(new)
    is_long = max(len(one), len(other)) > MAX_SHOWN_CHARS
    start = max(0, _first_difference(one, other) - MAX_SHOWN_CHARS // 3) if is_long else 0
    return Difference(name, _excerpt(one, start), _excerpt(other, start), kind)


def _as_fields(value: object) -> Mapping[str, object]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {str(key): field for key, field in value.items()} if isinstance(value, Mapping) else {}


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
    except Exception:  # a cycle, keys of other types, or an error in a class of the application
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
    """Index of the first difference; the length of the shorter text if the other starts with it."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(one), len(other)))


def _excerpt(text: str, start: int) -> str:
    excerpt = text[start : start + MAX_SHOWN_CHARS]
    return ("…" if start else "") + excerpt + ("…" if start + MAX_SHOWN_CHARS < len(text) else "")

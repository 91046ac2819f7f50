"""Typed access to what a row of the `zdd` schema holds.

Whoever may write to the schema may write anything. A value of the wrong type is an error that names it, so that it can
be refused or reported, and ends neither an agent nor a dashboard.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from zdd_tui.model.errors import DatabaseError

MAX_ARGS_CHARACTERS = 262_144
"""Of the arguments of a command. What is longer is cut off in the query, and is then no JSON."""

_MAX_DIGITS = 400
"""Of a number in JSON; PostgreSQL's jsonb holds longer ones, and Python refuses to parse them."""


class MalformedRow(DatabaseError):
    """A row that this version cannot use."""


def decode_json(value: Any, name: str) -> Any:
    """Parses a json column that was read as text; what was decoded before stays as it is.

    Raises:
        MalformedRow: no JSON, nested too deep, or a number that is too long.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_int=_parse_integer)
    except (ValueError, RecursionError):
        raise MalformedRow(f"{name} is no readable JSON") from None


def _parse_integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError("too long")
    return int(digits)


def expect_object(value: Any, name: str) -> Mapping[str, Any]:
    """
    Raises:
        MalformedRow: not a JSON object.
    """
    if not isinstance(value, Mapping):
        raise _wrong_type(value, name, "an object")
    return value


def expect_text(value: Any, name: str) -> str:
    """
    Raises:
        MalformedRow: not a text.
    """
    if not isinstance(value, str):
        raise _wrong_type(value, name, "a text")
    return value


def expect_integer(value: Any, name: str) -> int:
    """
    Raises:
        MalformedRow: not a whole number.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(value, name, "a whole number")
    return value


def expect_flag(value: Any, name: str) -> bool:
    """
    Raises:
        MalformedRow: neither true nor false.
    """
    if not isinstance(value, bool):
        raise _wrong_type(value, name, "true or false")
    return value


def expect_texts(value: Any, name: str) -> tuple[str, ...]:
    """
    Raises:
        MalformedRow: not a list of texts.
    """
    if not isinstance(value, list | tuple):
        raise _wrong_type(value, name, "a list")
    return tuple(expect_text(item, f"{name}[{number}]") for number, item in enumerate(value))


def expect_scalars(value: Any, name: str) -> dict[str, str | int | float | bool | None]:
    """
    Raises:
        MalformedRow: not an object of texts, numbers, true, false and null.
    """
    result = dict(expect_object(value, name))
    for key, item in result.items():
        if not isinstance(item, str | int | float | bool | None) or (isinstance(item, float) and math.isinf(item)):
            raise _wrong_type(item, f"{name}.{key}", "a text or a number")
    return result


def finite(value: Any, default: float) -> float:
    """A number of a row; `default` for NaN, an infinity, and what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return default
    return float(value)


def _wrong_type(value: Any, name: str, expected: str) -> MalformedRow:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return MalformedRow(f"{name} is {names.get(type(value), 'a number')}, expected {expected}")

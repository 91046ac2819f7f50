"""Dashboard states as JSON and back, by the types of their fields. A new field needs no change here."""

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from zdd_tui.dashboard.recording.delta import Json
from zdd_tui.dashboard.state import DashboardState
from zdd_tui.model.doctor import Report

STATE_FIELDS = tuple(field.name for field in dataclasses.fields(DashboardState))


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(DashboardState, localns={"Report": Report})
    return {name: TypeAdapter(hints[name]) for name in STATE_FIELDS}


def _to_plain(value: object) -> object:
    """Converts read-only views of dictionaries, which pydantic does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a state must not hold a {type(value).__name__}")


class Encoder:
    """States to JSON. A field that holds the same object as before is not encoded again."""

    def __init__(self) -> None:
        self._state: DashboardState | None = None
        self._json: dict[str, Json] = {}

    def encode(self, state: DashboardState) -> dict[str, Json]:
        """The fields by name."""
        before = self._state
        for name in STATE_FIELDS:
            value = getattr(state, name)
            if before is None or value is not getattr(before, name):
                self._json[name] = _adapters()[name].dump_python(value, mode="json", warnings=False, fallback=_to_plain)
        self._state = state
        return dict(self._json)


class Decoder:
    """JSON to states. Unchanged fields stay the same objects, so that nothing is drawn again for them."""

    def __init__(self) -> None:
        self._json: dict[str, Json] = {}
        self._fields: dict[str, Any] = {}

    def decode(self, fields: dict[str, Json]) -> DashboardState:
        """The state of fields by name. Unknown ones, of a later version, are ignored.

        Raises:
            ValueError: a value does not fit the type of its field.
        """
        for name, value in fields.items():
            if name in STATE_FIELDS and not (name in self._json and self._json[name] is value):
                try:
                    self._fields[name] = _adapters()[name].validate_python(value)
                except ValidationError as error:
                    place = ".".join(str(key) for key in (name, *error.errors()[0]["loc"]))
                    raise ValueError(f"{place}: {error.errors()[0]['msg']}") from None
                self._json[name] = value
        return DashboardState(**{name: value for name, value in self._fields.items() if name in fields})

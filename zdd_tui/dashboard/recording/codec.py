"""Boards as JSON and back, by the types of their parts: what is added to the board is recorded without a line here."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from zdd_tui.dashboard.recording.delta import Json
from zdd_tui.dashboard.state import DashboardState
from zdd_tui.model.doctor import Report

BOARD_FIELDS = tuple(field.name for field in fields(DashboardState))


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(DashboardState, localns={"Report": Report})
    return {name: TypeAdapter(hints[name]) for name in BOARD_FIELDS}


def _to_plain(value: object) -> object:
    """What pydantic does not know: read-only views of dictionaries."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a board may not hold a {type(value).__name__}")


class Encoder:
    """Boards to JSON; a part that is the very object it was before is not looked at again."""

    def __init__(self) -> None:
        self._board: DashboardState | None = None
        self._json: dict[str, Json] = {}

    def encode(self, board: DashboardState) -> dict[str, Json]:
        """Every part by its name."""
        before = self._board
        for name in BOARD_FIELDS:
            part = getattr(board, name)
            if before is None or part is not getattr(before, name):
                self._json[name] = _adapters()[name].dump_python(part, mode="json", warnings=False, fallback=_to_plain)
        self._board = board
        return dict(self._json)


class Decoder:
    """JSON to boards; parts that have not changed stay the same objects, so that nothing is drawn again for them."""

    def __init__(self) -> None:
        self._json: dict[str, Json] = {}
        self._parts: dict[str, Any] = {}

    def decode(self, parts: dict[str, Json]) -> DashboardState:
        """The board of parts by name. Unknown ones, of a later version, are left out.

        Raises:
            ValueError: a part is not what its type says.
        """
        for name, value in parts.items():
            if name in BOARD_FIELDS and not (name in self._json and self._json[name] is value):
                try:
                    self._parts[name] = _adapters()[name].validate_python(value)
                except ValidationError as error:
                    place = ".".join(str(each) for each in (name, *error.errors()[0]["loc"]))
                    raise ValueError(f"{place}: {error.errors()[0]['msg']}") from None
                self._json[name] = value
        return DashboardState(**{name: part for name, part in self._parts.items() if name in parts})

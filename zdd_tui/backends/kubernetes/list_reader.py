"""Reads a List object by object: a page of 500 pods as one piece of Python is tens of MB, and nobody else gets a turn.

Objects that are dropped one by one leave room for the next; made all at once, they leave a memory full of holes.
"""

import json
import re
from collections.abc import Generator, Iterator
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_decoder = json.JSONDecoder()


class ListReader:
    """Iterate over the `items` of a List's JSON; then `rest` holds its other parts.

    Raises:
        ValueError: it is not the JSON of an object; told when one gets there.
    """

    def __init__(self, payload: bytes) -> None:
        self._text = payload.decode()
        self.rest: dict[str, Any] = {}

    def __iter__(self) -> Iterator[Any]:
        at = self._after("{", self._skip(0))
        more = not self._is("}", at)
        while more:
            name, at = self._value(at)
            if not isinstance(name, str):
                raise ValueError(f"expected a name before {at}")
            at = self._after(":", at)
            if name == "items" and self._is("[", at):
                at = yield from self._objects(self._after("[", at))
            else:
                self.rest[name], at = self._value(at)
            more = self._is(",", at)
            at = self._after("," if more else "}", at)

    def _objects(self, at: int) -> Generator[Any, None, int]:
        more = not self._is("]", at)
        if not more:
            at = self._after("]", at)
        while more:
            value, at = self._value(at)
            yield value
            more = self._is(",", at)
            at = self._after("," if more else "]", at)
        return at

    def _value(self, at: int) -> tuple[Any, int]:
        value, end = _decoder.raw_decode(self._text, at)
        return value, self._skip(end)

    def _skip(self, at: int) -> int:
        found = _SPACE.match(self._text, at)
        assert found is not None  # it matches nothing, too
        return found.end()

    def _is(self, sign: str, at: int) -> bool:
        return self._text.startswith(sign, at)

    def _after(self, sign: str, at: int) -> int:
        if not self._is(sign, at):
            raise ValueError(f"expected {sign} at {at}")
        return self._skip(at + 1)

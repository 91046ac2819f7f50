"""Reads a List object by object. A page of 500 pods as one Python object takes tens of MB and blocks the event loop;
objects that are freed one by one also fragment the memory less."""

import json
import re
from collections.abc import Generator, Iterator
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_decoder = json.JSONDecoder()


class ListReader:
    """Iterates over the `items` of a List in JSON; after that, `metadata` holds the other members.

    Raises:
        ValueError: not the JSON of an object; raised during the iteration.
    """

    def __init__(self, payload: bytes) -> None:
        self._text = payload.decode()
        self.metadata: dict[str, Any] = {}

    def __iter__(self) -> Iterator[Any]:
        at = self._expect("{", self._skip_whitespace(0))
        more = not self._is_at("}", at)
        while more:
            name, at = self._read_value(at)
            if not isinstance(name, str):
                raise ValueError(f"expected a name before {at}")
            at = self._expect(":", at)
            if name == "items" and self._is_at("[", at):
                at = yield from self._read_objects(self._expect("[", at))
            else:
                self.metadata[name], at = self._read_value(at)
            more = self._is_at(",", at)
            at = self._expect("," if more else "}", at)

    def _read_objects(self, at: int) -> Generator[Any, None, int]:
        more = not self._is_at("]", at)
        if not more:
            at = self._expect("]", at)
        while more:
            value, at = self._read_value(at)
            yield value
            more = self._is_at(",", at)
            at = self._expect("," if more else "]", at)
        return at

    def _read_value(self, at: int) -> tuple[Any, int]:
        value, end = _decoder.raw_decode(self._text, at)
        return value, self._skip_whitespace(end)

    def _skip_whitespace(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        assert match is not None  # it also matches the empty string
        return match.end()

    def _is_at(self, token: str, at: int) -> bool:
        return self._text.startswith(token, at)

    def _expect(self, token: str, at: int) -> int:
        if not self._is_at(token, at):
            raise ValueError(f"expected {token} at {at}")
        return self._skip_whitespace(at + 1)

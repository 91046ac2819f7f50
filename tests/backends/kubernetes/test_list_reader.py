"""A List read object by object equals the decoded List; anything else is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdd_tui.backends.kubernetes.list_reader import ListReader

LEAVES = st.none() | st.booleans() | st.integers() | st.text()
VALUES = st.recursive(LEAVES, lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=10)


@given(st.dictionaries(st.text() | st.sampled_from(["items", "metadata", "kind"]), VALUES), st.sampled_from([None, 2]))
def test_it_reads_the_same_as_json(made: dict[str, Any], indent: int | None) -> None:
    reader = ListReader(json.dumps(made, indent=indent).encode())
    items = made.get("items")
    assert list(reader) == (items if isinstance(items, list) else [])
    assert reader.metadata == {
        name: value for name, value in made.items() if name != "items" or not isinstance(value, list)
    }


def test_space_and_letters_of_every_kind() -> None:
    reader = ListReader(' {\r\n"items" :\t[ {"a": "é𝄞"} , 7 ] , "metadata":{"continue" : "x"} } '.encode())
    assert list(reader) == [{"a": "é𝄞"}, 7]
    assert reader.metadata == {"metadata": {"continue": "x"}}


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"7", b"{", b'{"items"', b'{"items":[', b'{"items":[1', b'{"items":[1,]}', b'{"items":[1 2]}',
     b'{"items":[1]', b'{"items":[],}', b'{"a":1 "b":2}', b'{"a":}', b'{[]:1}', b"<html>", b"\xff{}"],
)  # fmt: skip
def test_anything_but_a_json_object_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(ListReader(payload))

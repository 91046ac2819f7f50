"""Flag values and buckets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdd_tui.model.flag import OFF, ON, FlagValue, flag_key, parse_flag


@pytest.mark.parametrize(
    ("text", "percent"),
    [("true", 100), ("false", 0), ("TRUE ", 100), ("0", 0), ("25", 25), ("25%", 25), ("25 %", 25), ("100", 100)],
)
def test_reads_every_spelling(text: str, percent: int) -> None:
    assert parse_flag(text) == FlagValue(percent)


@pytest.mark.parametrize("text", ["", "yes", "101", "-1", "2.5", "%", "1e2", "٢٥%%", "truefalse"])
def test_refuses_what_no_flag_can_be(text: str) -> None:
    with pytest.raises(ValueError, match="expected true, false or a percentage"):
        parse_flag(text)


@given(st.integers(0, 100))
def test_what_is_stored_reads_back(percent: int) -> None:
    assert parse_flag(FlagValue(percent).to_redis) == FlagValue(percent)


def test_words() -> None:
    assert [str(ON), str(OFF), str(FlagValue(25))] == ["on", "off", "25%"]
    assert ON.is_on
    assert OFF.is_off
    assert flag_key("x") == "ff:x"

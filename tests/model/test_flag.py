"""Flag values and buckets."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdd_tui.model.flag import OFF, ON, FlagValue, bucket, flag_key, parse_flag


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


@given(st.text(min_size=1, max_size=20), st.text(max_size=20), st.integers(0, 99))
def test_raising_a_percentage_never_turns_a_unit_off(key: str, unit: str, percent: int) -> None:
    if FlagValue(percent).is_on_for(key, unit):
        assert FlagValue(percent + 1).is_on_for(key, unit)
    assert ON.is_on_for(key, unit)
    assert not OFF.is_on_for(key, unit)


def test_buckets_are_even() -> None:
    counts = Counter(bucket("users_full_name_write", str(unit)) for unit in range(20_000))
    assert set(counts) == set(range(100))
    assert min(counts.values()) >= 140
    assert max(counts.values()) <= 260


def test_bucket_is_the_one_of_the_service_library() -> None:
    service = pytest.importorskip("zdd_tui.service.flags")
    for unit in range(500):
        assert service.bucket("users_full_name_write", str(unit)) == bucket("users_full_name_write", str(unit))

"""Flag values: the application's copy of the rules equals the model's. Buckets of units."""

import zlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdd_tui.model import flag as model
from zdd_tui.service.dual_write import DualWrite, WriteDecision
from zdd_tui.service.flags import PREFIX, FlagClient, FlagState, bucket, parse_percent


def test_the_prefix_is_the_models() -> None:
    assert model.flag_key("x") == PREFIX + "x"


@given(st.text(), st.text())
def test_the_bucket_is_stable(key: str, unit: str) -> None:
    assert bucket(key, unit) == zlib.crc32(f"{key}:{unit}".encode()) % 100


def test_buckets_are_even() -> None:
    counts = Counter(bucket("users_full_name_write", str(unit)) for unit in range(20_000))
    assert set(counts) == set(range(100))
    assert min(counts.values()) >= 140
    assert max(counts.values()) <= 260


@given(
    st.text()
    | st.integers(-20, 120).map(str)
    | st.integers(0, 120).map(lambda number: f"{number}%")
    | st.sampled_from(["true", "false", "TRUE", " true ", "on", "٣", "25 %", "+5", "1_0"])
)
def test_values_are_read_as_the_model_reads_them(text: str) -> None:
    try:
        expected = model.parse_flag(text).percent
    except ValueError:
        expected = None
    assert parse_percent(text) == expected


def test_buckets_spread_evenly_over_units() -> None:
    on = sum(bucket("users_full_name_write", str(unit)) < 25 for unit in range(20_000))
    assert 0.24 < on / 20_000 < 0.26


@given(st.integers(0, 100), st.integers(0, 100), st.integers())
def test_a_unit_that_is_on_stays_on_when_the_percentage_grows(first: int, second: int, unit: int) -> None:
    low, high = sorted((first, second))
    client = FlagClient("redis://unused", ["k"], defaults={"k": low})
    on = client.is_on("k", unit)
    client = FlagClient("redis://unused", ["k"], defaults={"k": high})
    assert client.is_on("k", unit) or not on


def test_defaults_are_used_and_reported_before_the_first_read() -> None:
    client = FlagClient("redis://unused", ["on", "off"], defaults={"on": 100})
    assert client.is_on("on", 1)
    assert not client.is_on("off", 1)
    assert client.snapshot().flags["off"] == FlagState(0, "not read yet")
    assert client.age is None
    assert not client.is_loaded
    with pytest.raises(KeyError):
        client.is_on("undeclared", 1)


@pytest.mark.parametrize(
    ("write", "read", "sides"),
    [(0, 0, (False, False)), (0, 100, (False, False)), (100, 0, (True, False)), (100, 100, (True, True))],
)
def test_a_side_that_is_not_written_is_not_read(write: int, read: int, sides: tuple[bool, bool]) -> None:
    flags = FlagClient("redis://unused", ["w", "r"], defaults={"w": write, "r": read})
    assert DualWrite(flags, write_key="w", read_key="r").decide(7) == WriteDecision(*sides)


def test_with_a_trigger_only_the_read_flag_decides() -> None:
    flags = FlagClient("redis://unused", ["r"], defaults={"r": 100})
    assert DualWrite(flags, write_key=None, read_key="r").decide(7) == WriteDecision(False, True)


def test_an_undeclared_flag_is_refused_at_start_up() -> None:
    with pytest.raises(ValueError, match="does not know r"):
        DualWrite(FlagClient("redis://unused", ["w"]), write_key="w", read_key="r")


@pytest.mark.parametrize(
    ("sides", "calls", "answer"),
    [
        (WriteDecision(False, False), [("old", None)], "old row"),
        (WriteDecision(True, False), [("old", None), ("new", "old row")], "old row"),
        (WriteDecision(True, True), [("new", None), ("old", "new row")], "new row"),
    ],
)
async def test_the_side_that_is_read_is_written_first_and_mirrored(
    sides: WriteDecision, calls: list[tuple[str, str | None]], answer: str
) -> None:
    made: list[tuple[str, str | None]] = []

    async def old(source: str | None) -> str | None:
        made.append(("old", source))
        return source or "old row"

    async def new(source: str | None) -> str | None:
        made.append(("new", source))
        return source or "new row"

    assert await sides.write(old=old, new=new) == answer
    assert made == calls


async def test_a_row_that_does_not_exist_is_not_mirrored() -> None:
    async def missing(source: str | None) -> str | None:
        assert source is None
        return None

    async def mirror(_: str | None) -> str | None:
        raise AssertionError("there is nothing to mirror")

    assert await WriteDecision(True, False).write(old=missing, new=mirror) is None

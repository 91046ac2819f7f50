"""A log in bounded room: what comes in pieces, what floods, what has no end, what comes twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zdd_tui.model.log_buffer import MAX_LINE_BYTES, LogBuffer


def texts(buffer: LogBuffer) -> list[str]:
    return [line.text for line in buffer.snapshot().lines]


@given(st.lists(st.binary(max_size=12), max_size=30))
def test_lines_are_the_same_however_they_come(pieces: list[bytes]) -> None:
    whole, parts = LogBuffer(), LogBuffer()
    whole.append(b"".join(pieces))
    for piece in pieces:
        parts.append(piece)
    assert texts(parts) == texts(whole)
    assert whole.snapshot().total == b"".join(pieces).count(b"\n")


def test_a_flood_keeps_the_newest_and_counts_the_rest() -> None:
    decoded: list[str] = []
    buffer = LogBuffer(lambda text: decoded.append(text) or text, max_lines=100)  # type: ignore[func-returns-value]
    buffer.append(b"".join(b"line %d\n" % number for number in range(50_000)))
    view = buffer.snapshot()
    assert (view.total, view.dropped, len(view.lines)) == (50_000, 49_900, 100)
    assert (view.lines[0].text, view.lines[-1].text) == ("line 49900", "line 49999")
    assert len(decoded) == 100, "lines that are never shown are not decoded"


def test_the_view_is_the_same_object_until_something_comes() -> None:
    buffer = LogBuffer()
    buffer.append(b"one\n")
    before = buffer.snapshot()
    assert buffer.snapshot() is before
    buffer.set_state("following")
    assert buffer.snapshot() is not before
    assert buffer.snapshot().lines == before.lines


@pytest.mark.parametrize("size", [1, 1000, 10**6])
def test_a_line_without_end_takes_no_more_room_than_any(size: int) -> None:
    buffer = LogBuffer()
    for at in range(0, 1_000_000, size if size > 1 else 10_000):
        buffer.append(b"x" * min(size if size > 1 else 10_000, 1_000_000 - at))
    buffer.append(b"\nnext\n")
    long, following = texts(buffer)
    assert long == "x" * MAX_LINE_BYTES + f" … and {1_000_000 - MAX_LINE_BYTES:,} bytes more"
    assert following == "next"


def test_stamps_become_times_and_duplicates_are_left_out() -> None:
    buffer = LogBuffer(has_timestamps=True)
    buffer.append(b"2026-11-24T03:12:00.000000001Z one\n2026-11-24T03:12:00.5Z two\nno time\n")
    first, second, third = buffer.snapshot().lines
    assert (first.text, second.text, third.text) == ("one", "two", "no time")
    assert second.at is not None
    assert first.at is not None
    assert second.at - first.at == pytest.approx(0.5)
    assert third.at is None
    seen = buffer.last_timestamp
    buffer.append(b"2026-11-24T03:12:00.5Z two\n2026-11-24T03:12:01Z three\n", after=seen)
    assert texts(buffer)[-2:] == ["no time", "three"]


def test_bytes_that_are_no_text_and_the_last_line_without_a_break() -> None:
    buffer = LogBuffer()
    buffer.append(b"\xff\xfe\r\nunfinished")
    assert texts(buffer) == ["\ufffd\ufffd"]
    buffer.flush()
    assert texts(buffer)[-1] == "unfinished"

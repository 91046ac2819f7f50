"""Logs of several pods as one."""

import pytest

from zdd_tui.model.merged_log import MAX_PODS, MergedLog, PodLine, filter_lines, select_pods
from zdd_tui.model.queries import LogLine, LogView


def view(*lines: tuple[float | None, str], total: int | None = None) -> LogView:
    return LogView(tuple(LogLine(text, at) for at, text in lines), len(lines) if total is None else total)


def texts(log: MergedLog) -> list[str]:
    return [f"{each.pod} {each.line.text}" for each in log.lines]


def test_lines_are_in_the_order_of_time_also_when_a_pod_is_late() -> None:
    log = MergedLog()
    first = {"a": view((1.0, "one"), (3.0, "three"), (None, "  of a traceback")), "b": view((2.0, "two"))}
    assert log.update(first)
    assert texts(log) == ["a one", "b two", "a three", "a   of a traceback"]
    assert not log.update(first)
    assert log.update({"b": view((2.0, "two"), (2.5, "late"))})
    assert texts(log) == ["a one", "b two", "b late", "a three", "a   of a traceback"]


def test_memory_is_bounded_and_what_is_dropped_is_counted() -> None:
    log = MergedLog(max_lines=3)
    log.update({"a": view(*((float(at), f"{at}") for at in range(4)), total=10)})
    assert (texts(log), log.total, log.dropped) == (["a 1", "a 2", "a 3"], 10, 7)
    log.update({"a": view(*((float(at), f"{at}") for at in range(50, 54)), total=1000)})
    assert (texts(log), log.total, log.dropped) == (["a 51", "a 52", "a 53"], 1000, 997)


@pytest.mark.parametrize(
    "text",
    [
        "ERROR: no such user",
        '{"level": "error", "msg": "x"}',
        "level=fatal msg=x",
        "Traceback (most recent call last):",
        "E1124 10:00:00 x",
    ],
)
def test_errors_in_their_usual_forms(text: str) -> None:
    assert PodLine("a", LogLine(text)).is_error


def test_what_is_no_error() -> None:
    for text in ("GET /terrors 200", '{"level": "info", "errors": 0}', "mirrored"):
        assert not PodLine("a", LogLine(text)).is_error, text


def test_the_filter_finds_text_and_pods_and_its_opposite() -> None:
    lines = [PodLine("api-x7", LogLine("GET /users")), PodLine("api-b2", LogLine("ERROR timeout"))]
    assert filter_lines(lines, "users", errors_only=False) == lines[:1]
    assert filter_lines(lines, "B2", errors_only=False) == lines[1:]
    assert filter_lines(lines, "!users", errors_only=False) == lines[1:]
    assert filter_lines(lines, "", errors_only=True) == lines[1:]
    assert filter_lines(lines, "", errors_only=False) == lines


def test_the_number_of_followed_pods_is_bounded() -> None:
    names = [f"pod-{number}" for number in range(MAX_PODS + 5)]
    followed, left_out = select_pods(names)
    assert (len(followed), left_out) == (MAX_PODS, 5)

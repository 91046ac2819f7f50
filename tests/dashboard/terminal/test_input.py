"""Pastes are told from keys, and bounded, before anything processes them."""

import pytest

from zdd_tui.dashboard.terminal.input import (
    KEY_BURST,
    KEYS_PER_SECOND,
    MAX_PASTE_LENGTH,
    InputSplitter,
    KeyBudget,
    PastedText,
)


def test_what_somebody_types_stays_keys() -> None:
    splitter = InputSplitter()
    for at, text in enumerate(
        ["a", "\x1b", "\x1b[A" * 60, "production\r", "users-full-name\r", "\x1b[200~short\x1b[201~"]
    ):
        assert list(splitter.split(text, float(at))) == [text]


def test_a_long_run_is_a_paste_and_only_its_start_is_kept() -> None:
    splitter = InputSplitter()
    assert list(splitter.split("R\r" * 2048, 1.0)) == [PastedText("R\r" * 2048)]
    assert list(splitter.split("R\r" * 2048, 1.01)) == [], "more than a text field takes"
    assert list(splitter.split("R\r", 1.02)) == [], "its end is short"
    assert list(splitter.split("R\r", 2.0)) == ["R\r"], "somebody types again"
    (kept,) = splitter.split("x" * 10 * MAX_PASTE_LENGTH, 3.0)
    assert kept == PastedText("x" * MAX_PASTE_LENGTH)


def test_the_marks_of_a_bracketed_paste_reach_the_parser() -> None:
    splitter = InputSplitter()
    text = "x" * 100
    assert list(splitter.split(f"/\x1b[200~{text}\x1b[201~", 1.0)) == ["/\x1b[200~", PastedText(text), "\x1b[201~"]
    assert list(splitter.split("\x1b", 2.0)) == ["\x1b"], "Escape works after it"
    assert list(splitter.split(f"{text}\x1b[201~", 3.0)) == [PastedText(text), "\x1b[201~"]


@pytest.mark.parametrize("place", range(6))
def test_the_end_of_a_paste_is_found_across_reads(place: int) -> None:
    """Else the parser would wait for it, and no key would work any more."""
    splitter, text, end = InputSplitter(), "x" * 100, "\x1b[201~"
    parts = [*splitter.split(f"{text}{end[:place]}", 1.0), *splitter.split(f"{end[place:]}", 1.001)]
    assert "".join(each for each in parts if isinstance(each, str)) == end
    assert list(splitter.split("q", 1.5)) == ["q"]


def test_keys_are_taken_as_fast_as_somebody_types() -> None:
    budget = KeyBudget()
    assert sum(budget.take(1.0) for _ in range(10 * KEY_BURST)) == KEY_BURST
    assert sum(budget.take(2.0) for _ in range(KEY_BURST)) == KEYS_PER_SECOND
    assert all(budget.take(10.0 + at / 60) for at in range(2000)), "a held key"

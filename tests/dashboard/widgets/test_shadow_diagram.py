"""The samples of a dark launch as lines: they fit, and differences are visible."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.states import MONOTONIC, FixedClock
from zdd_tui.dashboard.state import Observed, RenderContext
from zdd_tui.dashboard.widgets.diagrams.shadow import align_at_difference, escape_invisible, shadow_sample_lines
from zdd_tui.dashboard.widgets.drawing.line import line_width, truncate, wrap
from zdd_tui.model.shadow import FieldDifference, ShadowSample, ShadowSamples

MOMENT = RenderContext.at_clock(FixedClock())
TEXTS = st.text(max_size=60)
FIELDS = st.builds(FieldDifference, TEXTS, TEXTS, TEXTS, TEXTS)
SAMPLES = st.builds(
    ShadowSample,
    TEXTS,
    st.floats(0, 2e9),
    st.sampled_from(["mismatch", "error", "timeout"]),
    st.integers(0, 10**9),
    TEXTS,
    st.lists(FIELDS, max_size=3).map(tuple),
    st.integers(0, 99),
    TEXTS,
)


def sample_text(found: ShadowSamples | None, *, whole: bool = False, cells: int = 76, **changes: str) -> list[str]:
    answer = replace(Observed(found, MONOTONIC - 2 if found else None), **changes)
    lines = shadow_sample_lines(answer, 15.0, MOMENT, cells, in_full=whole)
    assert max(map(line_width, lines)) <= cells
    return ["".join(text for text, _ in line).rstrip() for line in lines]


@given(st.lists(SAMPLES, max_size=5), st.booleans(), st.sampled_from([56, 76, 116]))
def test_any_sample_fits_and_is_printable(samples: list[ShadowSample], whole: bool, cells: int) -> None:
    lines = sample_text(ShadowSamples(tuple(samples), 99, 3, 1, "x", 2000), whole=whole, cells=cells)
    assert all(line.isprintable() for line in lines)


@given(st.text("abж山 ", max_size=80), st.text("abж山 ", max_size=80), st.text("abж山 ", max_size=80))
def test_the_first_difference_is_visible(same: str, one: str, other: str) -> None:
    old, new = f"{same}1{one}", f"{same}2{other}"
    shown = [truncate(each, 20) for each in align_at_difference(old, new, 20)]
    assert ["1" in shown[0], "2" in shown[1]] == [True, True]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u200bb", "a\\u200bb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\u00a0b\n", "a\\xa0b\\n"),
        ("\ud800", "\\ud800"),
        ("ok é", "ok é"),
    ],
)
def test_invisible_characters_are_escaped(text: str, shown: str) -> None:
    assert escape_invisible(text) == shown


def test_different_blanks_are_kept() -> None:
    field = FieldDifference("name", '"a  b "', '"a b"', "only blanks")
    lines = sample_text(ShadowSamples((ShadowSample("p-1", 0, "mismatch", 1, "7", (field,)),), 1, 1), whole=True)
    assert '    old   "a  b "' in lines


def test_samples_that_are_not_shown_are_counted() -> None:
    sample = ShadowSample("p-1", 0, "mismatch", 7, "7")
    assert sample_text(ShadowSamples((sample,), 7, 1))[1] == "1 sample from the log of 1 pod; at least 6 more not shown"
    assert sample_text(ShadowSamples((sample,), 1, 3))[1] == "1 sample from the logs of 3 pods; no others known"
    assert sample_text(ShadowSamples((), 0, 3, 2, "why", 2000))[1:] == [
        "no samples in the logs of 3 pods, the last 2,000 lines of each",
        "? 2 logs were not read: why",
    ]


def test_age_and_errors_are_shown() -> None:
    assert sample_text(None)[-1] == "… reading the pods' logs"
    assert sample_text(ShadowSamples((), 0, 1))[0].endswith("3s old")
    failed = sample_text(None, error="pods is forbidden", hint="ask for pods/log")
    assert failed[1:] == ["✗ the pods' logs: pods is forbidden", "→ Fix: ask for pods/log"]


@given(st.text("ab 山ж-", max_size=80), st.integers(8, 40))
def test_wrapped_text_fits_and_is_complete(text: str, cells: int) -> None:
    lines = wrap(text, cells)
    assert max(map(line_width, lines)) <= cells
    assert "".join(part for line in lines for part, _ in line).replace(" ", "") == text.replace(" ", "")

"""What the load counts and expects: histogram, report, rows."""

import json
import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from zdd_tui.demo.data import seed_email, seed_name
from zdd_tui.demo.load.rows import MAX_CHANGED_ROWS, MAX_OWN_ROWS, RowTracker, UserContent
from zdd_tui.demo.load.stats import Histogram, LoadStats, write_load_report
from zdd_tui.demo.sample.users import is_valid_name, join_full_name, split_full_name


@given(st.lists(st.floats(0.0002, 20), min_size=1), st.sampled_from([0.01, 0.5, 0.99, 1.0]))
def test_percentiles_are_right_within_a_bucket(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]
    found = histogram.quantile(share)
    assert found is not None
    assert exact * 0.999 <= found <= exact * 1.081


def test_an_empty_histogram_has_no_percentile() -> None:
    assert Histogram().quantile(0.5) is None


def test_a_report_is_replaced_atomically(tmp_path: Path) -> None:
    stats = LoadStats(150)
    for number in range(30):
        stats.count_request("read", 0.01)
        stats.count_failure("timeout", f"GET /users/{number}", "127.0.0.1:1", "no answer")
        stats.count_wrong_result("GET /users/1", "127.0.0.1:1", "Zoë", "?")
    out = tmp_path / "load.json"
    write_load_report(out, {"old": True})
    write_load_report(out, stats.report(["127.0.0.1:1"], final=True))
    report = json.loads(out.read_text())
    assert (report["requests"], report["failures"], report["wrong"], report["final"]) == (30, 30, 30, True)
    assert report["failure_kinds"] == {"timeout": 30}
    assert len(report["failure_samples"]) == len(report["wrong_samples"]) == 20
    assert report["last_10s"]["failures"] == 30
    assert 9 < report["total"]["p99_ms"] < 11
    assert [path.name for path in tmp_path.iterdir()] == ["load.json"]


def test_workers_own_disjoint_seeded_rows() -> None:
    seen: dict[int, int] = {}
    for number in range(4):
        tracker = RowTracker(number, 4, 41, random.Random(number))
        for _ in range(300):
            row_id = tracker.pick_seeded(to_change=False)
            assert row_id is not None
            assert 1 <= row_id <= 41
            assert seen.setdefault(row_id, number) == number
    assert set(seen) == set(range(1, 42))


def test_expected_rows_are_bounded_and_never_wrong() -> None:
    rng = random.Random(3)
    tracker = RowTracker(0, 1, 100_000, rng)
    truth: dict[int, UserContent | None] = {}
    next_id = 100_001
    for _ in range(30_000):
        if tracker.needs_more_rows and rng.random() < 0.2:
            content = tracker.new_content()
            tracker.record_created(next_id, content)
            truth[next_id] = content
            next_id += 1
            continue
        row_id = tracker.pick_own() if rng.random() < 0.5 else tracker.pick_seeded(to_change=True)
        if row_id is None:
            continue
        assert tracker.expected(row_id) == truth.get(row_id, UserContent(seed_name(row_id), seed_email(row_id)))
        content_or_gone = None if rng.random() < 0.3 else tracker.new_content()
        if tracker.expected(row_id) is None and content_or_gone is not None:
            continue  # a deleted row cannot be updated
        truth[row_id] = content_or_gone
        tracker.record_written(row_id, content_or_gone)
        assert tracker.own_count <= MAX_OWN_ROWS
        assert len(tracker._changed) <= MAX_CHANGED_ROWS + 1
    assert next_id > 100_100


def test_an_uncertain_row_is_not_picked() -> None:
    tracker = RowTracker(0, 1, 3, random.Random(1))
    tracker.mark_uncertain(2)
    assert {tracker.pick_seeded(to_change=False) for _ in range(60)} == {1, 3, None}


def test_every_name_of_the_load_survives_the_release() -> None:
    tracker = RowTracker(0, 1, 0, random.Random(5))
    names = [tracker.new_content().name for _ in range(500)] + [seed_name(number) for number in range(1, 500)]
    assert len(set(names)) == len(names)
    for name in names:
        assert is_valid_name(name)
        assert join_full_name(*split_full_name(name)) == name
    assert any(" " not in name for name in names)
    assert any(name.count(" ") >= 3 for name in names)


@given(st.text())
def test_split_and_join_are_inverse_for_every_name_that_is_accepted(text: str) -> None:
    if is_valid_name(text):
        assert join_full_name(*split_full_name(text)) == text

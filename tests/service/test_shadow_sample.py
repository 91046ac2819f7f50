"""Samples of a dark launch: the service library writes them to a log, the dashboard reads them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.service.test_shadow import ANA, BOB, SampleUser, answers, make, never_return, wait_and_scrape
from zdd_tui.model import shadow as shadow_sample
from zdd_tui.model.shadow import FieldDifference, ShadowSample, parse_sample, select_newest_samples
from zdd_tui.service import shadow as library
from zdd_tui.service.differences import MAX_SHOWN_CHARS, Difference, compare_results


def read(log: pytest.LogCaptureFixture, path: str = "users") -> list[ShadowSample]:
    """The samples of the log, line by line, as they come from a pod."""
    lines = "\n".join(f"2026-11-24 {record.levelname} {record.getMessage()}" for record in log.records).split("\n")
    return [sample for line in lines if (sample := parse_sample(line, "pod-1", path)) is not None]


def test_both_sides_use_the_same_prefix() -> None:
    assert library.LOG_PREFIX == shadow_sample.LOG_PREFIX
    assert library.MAX_SAMPLES == shadow_sample.MAX_SAMPLES


async def test_a_mismatch_is_read_as_it_was_written(caplog: pytest.LogCaptureFixture) -> None:
    shadow = make(visible_fields=["name"])
    await shadow.run(7, old=answers(ANA), new=answers(BOB))
    await wait_and_scrape(shadow)
    (sample,) = read(caplog)
    assert (sample.kind, sample.unit, sample.number) == ("mismatch", "7", 1)
    assert sample.fields == (FieldDifference("name", '"Ana"', '"Bob"', "from character 1"),)
    assert sample.at == pytest.approx(shadow.samples[0].at, abs=1)
    assert read(caplog, "orders") == []


async def test_old_stays_old_when_the_new_path_serves(caplog: pytest.LogCaptureFixture) -> None:
    shadow = make(read=100, visible_fields=["name"])
    assert await shadow.run(7, old=answers(ANA), new=answers(BOB)) is BOB
    await wait_and_scrape(shadow)
    assert read(caplog)[0].fields[0].old == '"Ana"'


async def test_hidden_values_are_shapes(caplog: pytest.LogCaptureFixture) -> None:
    shadow = make()
    await shadow.run(7, old=answers(SampleUser(1, "Ana Lee")), new=answers(SampleUser(1, "ana lee")))
    await wait_and_scrape(shadow)
    assert read(caplog)[0].fields == (FieldDifference("name", "<text of 7>", "<text of 7>", "only case"),)
    assert "lee" not in caplog.text.casefold()


async def test_failures_show_only_their_type(caplog: pytest.LogCaptureFixture) -> None:
    shadow = make(timeout=0.01)
    await shadow.run(1, old=answers(ANA), new=answers(ValueError("hunter2")))
    await shadow.run(2, old=answers(ANA), new=never_return)
    await wait_and_scrape(shadow)
    text = [(sample.kind, sample.unit, sample.error, sample.number) for sample in read(caplog)]
    assert text == [("error", "1", "ValueError", 1), ("timeout", "2", "TimeoutError", 2)]
    assert "hunter2" not in caplog.text


async def test_lines_are_limited_and_numbered(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(library.time, "monotonic", lambda: now[0])
    shadow = make()
    for unit in range(50):
        await shadow.run(unit, old=answers(ANA), new=answers(BOB))
        await wait_and_scrape(shadow)
    assert [sample.number for sample in read(caplog)] == list(range(1, library.MAX_SAMPLES + 1))
    now[0] += 1
    for unit in range(2):
        await shadow.run(unit, old=answers(ANA), new=answers(BOB))
        await wait_and_scrape(shadow)
    assert read(caplog)[-1].number == 51
    assert len(read(caplog)) == library.MAX_SAMPLES + 1


async def test_a_unit_cannot_forge_a_line_nor_a_sample(caplog: pytest.LogCaptureFixture) -> None:
    forged = (
        'x\n2026 shadow-sample {"path": "users", "what": "mismatch", "at": 1, "n": 9, "unit": "forged"}\x1b[2J\u2028'
    )
    shadow = make()
    await shadow.run(forged, old=answers(ANA), new=answers(BOB))
    await wait_and_scrape(shadow)
    (sample,) = read(caplog)
    assert (sample.number, sample.unit) == (1, forged[: library.MAX_UNIT_CHARS])
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.isascii()
    assert line.isprintable()


async def test_a_line_has_a_length_and_counts_what_it_leaves_out(caplog: pytest.LogCaptureFixture) -> None:
    shadow = make(visible_fields=[f"field{number}" for number in range(99)])
    old = {f"field{number}": "ж" * 500 for number in range(99)}
    await shadow.run(1, old=answers(old), new=answers(dict.fromkeys(old, "x")))  # type: ignore[arg-type]
    await wait_and_scrape(shadow)
    (sample,) = read(caplog)
    assert len(caplog.records[0].getMessage()) < 4096
    assert len(sample.fields) > 0
    assert len(sample.fields) + sample.omitted_fields == 99


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("a b", "a  b", Difference("f", "<text of 3>", "<text of 4>", "only blanks")),
        ("\u00e9", "e\u0301", Difference("f", "<text of 1>", "<text of 2>", "only the Unicode form")),
        ("abcd", "abXd", Difference("f", "<text of 4>", "<text of 4>", "from character 3")),
        (1.0, 1.0000001, Difference("f", "<number>", "<number>", "by rounding")),
        (1, "1", Difference("f", "<number>", "<text of 1>")),
        (True, False, Difference("f", "<boolean>", "<boolean>")),
        (None, [1, 2], Difference("f", "<null>", "<list of 2>")),
        ({"a": 1}, b"xy", Difference("f", "<object of 1>", "<bytes, 2>")),
    ],
)
def test_shapes_show_the_kind_and_not_the_value(old: object, new: object, expected: Difference) -> None:
    assert compare_results({"f": old}, {"f": new}) == (expected,)


def test_whole_and_missing_values_are_described() -> None:
    assert compare_results(None, ANA) == (Difference("presence", "<no result>", "<result>"),)
    assert compare_results(1, 2, ["value"]) == (Difference("value", "1", "2"),)
    assert compare_results({"a": 1}, {}, ["a"]) == (Difference("a", "1", "<absent>"),)
    assert compare_results(ANA, ANA) == ()


def test_a_long_value_is_truncated_around_its_difference() -> None:
    (found,) = compare_results({"f": "x" * 999 + "old" + "y" * 999}, {"f": "x" * 999 + "new" + "y" * 999}, ["f"])
    assert "xold" in found.old
    assert "xnew" in found.new
    assert max(len(found.old), len(found.new)) == MAX_SHOWN_CHARS + 2


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_a_value_without_text_affects_no_request() -> None:
    circle: dict[str, object] = {}
    circle["self"] = circle
    assert compare_results({"f": Rude()}, {"f": 1}, ["f"])[0].old == "<Rude>"
    assert compare_results({"f": circle}, {"f": 1}, ["f"])[0].old == "<object of 1>"


# The lines of a log


def line(**changes: object) -> str:
    made = {"path": "users", "what": "mismatch", "at": 5.5, "n": 3, "unit": "7", "fields": [["f", "1", "2", ""]]}
    return f"12:00 WARNING {shadow_sample.LOG_PREFIX}{json.dumps(made | changes)}"


def test_an_application_may_log_in_json() -> None:
    plain = parse_sample(line(), "pod-1", "users")
    assert plain is not None
    assert parse_sample(json.dumps({"level": "warning", "msg": line()}), "pod-1", "users") == plain
    assert parse_sample(line() + " trace_id=1", "pod-1", "users") == plain


def test_likely_secrets_are_masked_even_in_visible_fields() -> None:
    fields = [
        ["api_key", '"hunter2 and more"', "<text of 4>", ""],
        ["dsn", '"postgresql://u:hunter2@db/x"', "null", ""],
    ]
    found = parse_sample(line(fields=fields, unit="token=hunter2"), "pod-1", "users")
    assert found is not None
    assert "hunter2" not in repr(found)
    assert [(each.old, each.new) for each in found.fields] == [
        ("***", "<text of 4>"),
        ('"postgresql://u:***@db/x"', "null"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        shadow_sample.LOG_PREFIX,
        shadow_sample.LOG_PREFIX + "[1]",
        shadow_sample.LOG_PREFIX + "{",
        shadow_sample.LOG_PREFIX + "[" * 100_000,
        line(path="orders"),
        line(what="fine"),
        line(at="now"),
        line(at=True),
    ],
)
def test_other_lines_are_no_samples(text: str) -> None:
    assert parse_sample(text, "pod-1", "users") is None


@given(
    st.dictionaries(st.sampled_from(["n", "unit", "fields", "more", "error", "at"]), st.from_type(object) | st.text())
)
def test_any_field_value_is_accepted(changes: dict[str, object]) -> None:
    parse_sample(line(**{key: repr(value) for key, value in changes.items()}), "pod-1", "users")
    parse_sample(
        line(**{key: [value, [1, 2, 3, 4]] for key, value in changes.items() if isinstance(value, str)}), "p", "users"
    )


def test_the_newest_samples_are_kept_once_each() -> None:
    made = [ShadowSample("p", float(at), "mismatch", at, "u") for at in range(30)]
    found = select_newest_samples([*made, *made])
    assert [sample.number for sample in found] == list(range(29, 9, -1))

"""How `zdd demo` reads its options before it starts anything."""

import argparse
import re
from pathlib import Path

import pytest

from zdd_tui.cli.options import add_demo_options
from zdd_tui.demo.data import SCHEMA_SQL
from zdd_tui.demo.environment import DemoOptions
from zdd_tui.demo.run import read_options, run_demo
from zdd_tui.demo.scenarios import choose_scenario
from zdd_tui.model.errors import Refused, ZddError
from zdd_tui.model.operations.registry import plan_operations
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.plan.operations import OperationsPlan


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_demo_options(parser)
    return parser.parse_args(words)


def make_options(*words: str) -> DemoOptions:
    return read_options(parse(*words))


def test_mismatch_is_an_image_whose_new_path_returns_different_results() -> None:
    wrong = make_options("--strategy", "dark-launch", "--inject", "mismatch")
    assert (wrong.has_wrong_results, wrong.fault, wrong.is_guard_lenient) == (True, "", True)
    assert "image: shop/users-api:5" in wrong.plan_text()
    right = make_options("--strategy", "dark-launch")
    assert right.plan_text() == wrong.plan_text().replace("users-api:5", "users-api:4")


@pytest.mark.parametrize("more", [[], ["--strategy", "canary"]])
def test_mismatch_is_only_for_a_dark_launch(more: list[str]) -> None:
    with pytest.raises(ZddError, match="--inject mismatch needs a dark launch"):
        run_demo(parse("--inject", "mismatch", *more))


def test_other_faults_have_a_strict_guard() -> None:
    broken = make_options("--inject", "errors")
    assert (broken.fault, broken.is_guard_lenient, make_options().is_guard_lenient) == ("errors", False, True)
    with pytest.raises(ZddError, match="needs an Expand/Contract release"):
        make_options("--inject", "errors", "--strategy", "canary", "--headless")
    with pytest.raises(ZddError, match="--regions starts several"):
        make_options("--inject", "errors", "--regions", "2")


@pytest.mark.parametrize(
    ("words", "scenario"),
    [
        ([], "_run_release"),
        (["--strategy", "blue-green"], "_run_release"),
        (["--inject", "latency"], "_run_fault"),
        (["--strategy", "dark-launch", "--inject", "mismatch"], "_run_mismatch"),
        (["--regions", "2"], "_run_regions"),
    ],
)
def test_the_options_choose_the_headless_scenario(words: list[str], scenario: str) -> None:
    assert choose_scenario(make_options("--headless", *words)).run.__name__ == scenario


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        ((), 5000),
        (("--backfill-time", "10s"), 20_000),
        (("--backfill-time", "0s"), None),
        (("--headless",), 25_000),
        (("--headless", "--rows", "100"), 1000),
        (("--headless", "--backfill-time", "100s"), 2000),
    ],
)
def test_the_backfill_takes_long_enough_to_be_paused(words: tuple[str, ...], limit: int | None) -> None:
    options = make_options(*words)
    assert options.max_rows_per_second == limit
    assert (f"max_rows_per_second: {limit}" in options.plan_text()) is (limit is not None)


@pytest.mark.parametrize("more", [["--headless"], ["--regions", "2"], ["--strategy", "canary"]])
def test_the_tour_is_for_the_dashboard_of_one_expand_contract_release(more: list[str]) -> None:
    assert make_options("--tour")
    with pytest.raises(ZddError, match="--tour is for") as caught:
        make_options("--tour", *more)
    assert "omit" in caught.value.hint


def test_help_names_the_columns_that_a_migration_can_change() -> None:
    parser = argparse.ArgumentParser()
    add_demo_options(parser)
    columns = re.findall(r"^  (\w+) ", SCHEMA_SQL.split(";")[0], re.MULTILINE)
    listed = ", ".join(columns)
    assert len(columns) == 6
    assert f"({listed})" in " ".join(parser.format_help().split())


def test_a_migration_of_ones_own_replaces_the_demo_change(tmp_path: Path) -> None:
    file = tmp_path / "m.sql"
    file.write_text(
        "BEGIN;\nALTER TABLE users ADD COLUMN nickname text;\nCREATE INDEX ON users (lower(email));\nCOMMIT;\n"
    )
    options = make_options("--migration", str(file))
    loaded = load_plan(options.plan_text(), source="plan.yaml", environment={}, keep_unset=True)
    assert isinstance(loaded.plan, OperationsPlan)
    assert [each.summary for each in plan_operations(loaded.plan)] == [
        "add column users.nickname",
        "build index users_lower_idx on users",
    ]
    assert loaded.plan.backfill.max_rows_per_second == options.max_rows_per_second == 5000
    assert not options.uses_flags
    with pytest.raises(ZddError, match="--migration is a release of its own"):
        make_options("--migration", str(file), "--strategy", "canary")
    file.write_text("UPDATE users SET email = NULL;")
    with pytest.raises(Refused, match=r"m\.sql:1"):
        make_options("--migration", str(file))

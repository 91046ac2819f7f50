"""What `zdd demo` makes of its options before it starts anything."""

import argparse

import pytest

from zdd_tui.cli.options import add_demo_options
from zdd_tui.demo.environment import DemoOptions
from zdd_tui.demo.run import read_options, run_demo
from zdd_tui.model.errors import ZddError


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_demo_options(parser)
    return parser.parse_args(words)


def made(*words: str) -> DemoOptions:
    return read_options(parsed(*words))


def test_a_mismatch_is_an_image_whose_new_path_is_wrong() -> None:
    wrong = made("--strategy", "dark-launch", "--inject", "mismatch")
    assert "image: shop/users-api:5" in wrong.plan_text()
    right = made("--strategy", "dark-launch")
    assert right.plan_text() == wrong.plan_text().replace("users-api:5", "users-api:4")


@pytest.mark.parametrize("more", [[], ["--strategy", "canary"]])
def test_a_mismatch_is_of_a_dark_launch_alone(more: list[str]) -> None:
    with pytest.raises(ZddError, match="--inject mismatch is of a dark launch"):
        run_demo(parsed("--inject", "mismatch", *more))


def test_other_faults_have_a_guard_that_does_not_forgive() -> None:
    assert (made("--inject", "errors").is_guard_lenient, made().is_guard_lenient) == (False, True)
    with pytest.raises(ZddError, match="a release of expand/contract alone"):
        made("--inject", "errors", "--strategy", "canary", "--headless")
    with pytest.raises(ZddError, match="--regions starts several"):
        made("--inject", "errors", "--regions", "2")

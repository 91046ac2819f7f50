"""Snapshots as text: one file a picture, readable in a review."""

from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "snapshots"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-screens", action="store_true", help="write tests/ui/snapshots anew instead of comparing")


@pytest.fixture
def same_as_before(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a screen with its file; a missing file is a failure, so that no picture goes unseen."""

    def compare(name: str, screen: str) -> None:
        path = FOLDER / f"{name}.txt"
        if request.config.getoption("--update-screens"):
            FOLDER.mkdir(exist_ok=True)
            path.write_text(screen, encoding="utf-8")
        assert path.exists(), f"no picture {name}: look at it, then write it with --update-screens"
        assert screen == path.read_text(encoding="utf-8")

    return compare

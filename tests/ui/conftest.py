"""Snapshots as text: one file a picture, readable in a review."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "snapshots"


@pytest.fixture
def same_as_before() -> Callable[[str, str], None]:
    """Compares a screen with its file; a missing file is a failure, so that no picture goes unseen."""

    def compare(name: str, screen: str) -> None:
        path = FOLDER / f"{name}.txt"
        if os.environ.get("UPDATE_SCREENS"):
            FOLDER.mkdir(exist_ok=True)
            path.write_text(screen, encoding="utf-8")
        assert path.exists(), f"no picture {name}: look at it, then write it with UPDATE_SCREENS=1"
        assert screen == path.read_text(encoding="utf-8")

    return compare

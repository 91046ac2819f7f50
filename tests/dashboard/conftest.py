"""Snapshots as text, one file each; and one in ASCII of every snapshot at 80x24."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from zdd_tui.dashboard.terminal.ascii import ASCII_REPLACEMENTS, to_ascii

FOLDER = Path(__file__).parent / "snapshots"
IN_ASCII = "-80x24"
"""The end of the name of a snapshot that has another one in ASCII."""


@pytest.fixture
def same_as_before() -> Callable[[str, str], None]:
    """Compares a screen with its file; a missing file is a failure, so that every snapshot was seen."""

    def compare(name: str, screen: str) -> None:
        compare_one(name, screen)
        if name.endswith(IN_ASCII):
            compare_one(f"ascii-{name}", in_ascii(screen))

    def compare_one(name: str, screen: str) -> None:
        path = FOLDER / f"{name}.txt"
        if os.environ.get("UPDATE_SCREENS"):
            FOLDER.mkdir(exist_ok=True)
            path.write_text(screen, encoding="utf-8")
        assert path.exists(), f"no snapshot {name}: write it with UPDATE_SCREENS=1, and review it"
        assert screen == path.read_text(encoding="utf-8")

    return compare


def in_ascii(screen: str) -> str:
    """A screen as the driver sends it with `--ascii`: every cell keeps its place.

    Each glyph must have its own replacement: a question mark is for unknown letters, and a verdict.
    """
    made = to_ascii(screen)
    assert made.isascii()
    assert [len(line) for line in made.splitlines()] == [cell_len(line) for line in screen.splitlines()]
    assert {
        char for char in screen if not char.isascii() and char not in ASCII_REPLACEMENTS and not char.isalpha()
    } == set()
    return made

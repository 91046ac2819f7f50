"""Snapshots as text: one file a picture, readable in a review; and one in ASCII of every picture at 80x24."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from zdd_tui.dashboard.terminal.ascii import ASCII_REPLACEMENTS, to_ascii

FOLDER = Path(__file__).parent / "snapshots"
IN_ASCII = "-80x24"
"""The end of the name of a picture that has another in ASCII: so no screen is without one."""


@pytest.fixture
def same_as_before() -> Callable[[str, str], None]:
    """Compares a screen with its file; a missing file is a failure, so that no picture goes unseen."""

    def compare(name: str, screen: str) -> None:
        compare_one(name, screen)
        if name.endswith(IN_ASCII):
            compare_one(f"ascii-{name}", in_ascii(screen))

    def compare_one(name: str, screen: str) -> None:
        path = FOLDER / f"{name}.txt"
        if os.environ.get("UPDATE_SCREENS"):
            FOLDER.mkdir(exist_ok=True)
            path.write_text(screen, encoding="utf-8")
        assert path.exists(), f"no picture {name}: look at it, then write it with UPDATE_SCREENS=1"
        assert screen == path.read_text(encoding="utf-8")

    return compare


def in_ascii(screen: str) -> str:
    """What the driver makes of a screen on its way to the terminal: every cell stays where it is.

    Our own signs must have a form of their own: a question mark is for letters that have none, and a verdict.
    """
    made = to_ascii(screen)
    assert made.isascii()
    assert [len(line) for line in made.splitlines()] == [cell_len(line) for line in screen.splitlines()]
    assert {
        char for char in screen if not char.isascii() and char not in ASCII_REPLACEMENTS and not char.isalpha()
    } == set()
    return made

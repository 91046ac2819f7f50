"""Snapshots as text, one file for each screen and size; and one in ASCII of every snapshot at 80x24."""

import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from textual.notifications import Notification
from textual.pilot import Pilot

from tests.support.quick_screens import quick_screens
from tests.support.screen_text import screen_text
from zdd_tui.dashboard.terminal.ascii import ASCII_REPLACEMENTS, to_ascii

FOLDER = Path(__file__).parent / "snapshots"
SIZES = ((80, 24), (120, 36), (200, 50))
"""Columns and rows; a test draws its screen at the first one, and resizes it to the others."""

SameInAllSizes = Callable[[Pilot[Any], str], Awaitable[None]]

IN_ASCII = "-80x24"
"""The end of the name of a snapshot that has another one in ASCII."""


@pytest.fixture(scope="session", autouse=True)
def _quick_screens() -> Iterator[None]:
    with quick_screens():
        yield


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


@pytest.fixture
def same_in_all_sizes(same_as_before: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> SameInAllSizes:
    """Resizes a screen to each size and compares it with its files; no line may be wider than the screen.

    Notifications stay meanwhile, however long a busy machine takes.
    """
    monkeypatch.setattr(Notification, "time_left", 600.0)
    monkeypatch.setattr(Notification, "has_expired", False)

    async def compare(pilot: Pilot[Any], name: str) -> None:
        for width, height in SIZES:
            if pilot.app.size != (width, height):
                await pilot.resize_terminal(width, height)
            await pilot.pause()
            await pilot.pause()  # charts ask for their values when they have a place
            screen = screen_text(pilot.app)
            assert max(map(cell_len, screen.splitlines())) <= width
            same_as_before(f"{name}-{width}x{height}", screen)

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

"""README and docs name only files and symbols that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("", "zdd_tui", "docs", "tests")
"""Where a path of a page may begin."""


def named_paths(text: str) -> set[str]:
    links = {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}
    quoted = set(re.findall(r"`([\w./-]+/[\w.-]*\w|[\w-]+\.(?:py|md|toml|yaml|sql))`", text))
    return links | quoted


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_exists(page: Path) -> None:
    missing = [
        name
        for name in sorted(named_paths(page.read_text()))
        if not any((ROOT / folder / name).exists() for folder in FOLDERS) and not (page.parent / name).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_class_and_function_exists(page: Path) -> None:
    code = "\n".join(file.read_text() for file in (ROOT / "zdd_tui").rglob("*.py"))
    names = set(re.findall(r"`([A-Z][a-z]+[A-Z]\w+|[a-z]+_[a-z_]+)(?:\(\))?`", page.read_text()))
    defined = set(re.findall(r"^\s*(?:class|def|async def) (\w+)", code, re.MULTILINE))
    quoted = set(re.findall(r'"(\w+)"', code))  # names of others that we compare with, such as a pod's reason
    known = defined | quoted
    assert sorted(name for name in names if name not in known and not (ROOT / "zdd_tui" / name).exists()) == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120

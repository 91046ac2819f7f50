"""Rules of the house that no linter knows: sizes of files and functions, secrets of the workshop."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "zdd_tui").rglob("*.py"))
MAX_FILE, MAX_FUNCTION = 400, 60


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_and_functions_stay_small(file: Path) -> None:
    text = file.read_text()
    assert text.count("\n") <= MAX_FILE
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= MAX_FUNCTION
    ]
    assert not long


def test_no_file_records_a_download_address_or_a_path_of_a_machine() -> None:
    # Spelled in pieces, so that this file does not find itself.
    forbidden = re.compile(
        "|".join(["files\\." + "pythonhosted", "pypi\\." + "org", "/ho" + "me/", "/ro" + "ot/", "/wo" + "rk/"])
    )
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    found = []
    for name in listed.stdout.splitlines():
        file = ROOT / name
        if file.is_file() and not file.is_symlink() and file.suffix not in (".png",):
            found += [f"{name}: {hit[0]}" for hit in forbidden.finditer(file.read_text(errors="replace"))]
    assert not found


def test_every_pin_is_a_name_and_a_version() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+", line)] == []


def test_reading_the_status_costs_no_textual() -> None:
    code = "import sys, zdd_tui.cli, zdd_tui.verbs.status; sys.exit('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

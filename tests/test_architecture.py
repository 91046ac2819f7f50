"""Rules of the repository that no linter knows."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_pin_is_a_name_and_a_version() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+", line)] == []


def test_reading_the_status_costs_no_textual() -> None:
    code = "import sys, zdd_tui.cli.parser, zdd_tui.cli.status; sys.exit('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_benchmark_can_be_imported() -> None:
    """No type checker reads them, and most run by hand: a name that was changed in the product would break them."""
    names = [path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "__main__"]
    code = f"import importlib; [importlib.import_module('benchmarks.' + name) for name in {sorted(names)}]"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr

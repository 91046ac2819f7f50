"""Seconds from the command `zdd open` to its first paint, in a terminal of 80x24.

    python -m benchmarks.startup

No backend is reachable: the first paint must not wait for one. The start of Python with Textual, which is most of the
time, is measured in the same run. Prints medians of five rounds.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.pseudo_terminal import PseudoTerminal
from zdd_tui.demo.plan import plan_yaml

ROUNDS = 5
NAME = "users-full-name"
UNREACHABLE = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "KUBECONFIG": "/nonexistent",
}


def measure_first_paint(plan: Path) -> float:
    """Seconds until the header and the footer of the dashboard are printed."""
    script = Path(sys.executable).with_name("zdd")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "zdd_tui"]
    argv = [*command, "open", "--no-agent", str(plan)]
    with PseudoTerminal(argv, os.environ | UNREACHABLE, columns=80, rows=24) as terminal:
        return max(terminal.wait_for(NAME.encode()), terminal.wait_for(b"quit"))


def measure_textual_import() -> float:
    """Seconds of a Python process that only imports Textual."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import textual.app"], check=True)
    return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="zdd-bench-") as folder:
        plan = Path(folder) / "plan.yaml"
        plan.write_text(plan_yaml("column", "application", name=NAME))
        measure_first_paint(plan)  # the very first start compiles and fills the page cache
        pairs = [(measure_first_paint(plan), measure_textual_import()) for _ in range(ROUNDS)]
    paint, textual = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"startup: first paint {paint:.2f} s (budget 0.6 s), median of {ROUNDS};"
        f" {paint / textual:.2f} times `import textual.app` ({textual:.2f} s)"
    )


if __name__ == "__main__":
    main()

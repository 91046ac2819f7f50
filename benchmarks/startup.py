"""Seconds from the command `zdd open` to its first paint, in a real terminal of 80x24.

    python -m benchmarks.startup

No backend is there: the first paint must not wait for one. What Python and Textual cost by themselves is measured in
the same run, since both are most of it. Printed: one line, medians of five.
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
    """Seconds until the header and the footer of the dashboard have come."""
    script = Path(sys.executable).with_name("zdd")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "zdd_tui"]
    argv = [*command, "open", "--no-agent", str(plan)]
    with PseudoTerminal(argv, os.environ | UNREACHABLE, columns=80, rows=24) as terminal:
        return max(terminal.wait_for(NAME.encode()), terminal.wait_for(b"quit"))


def measure_textual_import() -> float:
    """Seconds of a Python that imports Textual and ends."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import textual.app"], check=True)
    return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="zdd-bench-") as folder:
        plan = Path(folder) / "plan.yaml"
        plan.write_text(plan_yaml("column", "application", name=NAME))
        measure_first_paint(plan)  # the first start of all compiles and fills the page cache
        pairs = [(measure_first_paint(plan), measure_textual_import()) for _ in range(ROUNDS)]
    paint, textual = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"startup: first paint {paint:.2f} s (budget 0.6 s), median of {ROUNDS};"
        f" {paint / textual:.2f} times `import textual.app` ({textual:.2f} s)"
    )


if __name__ == "__main__":
    main()

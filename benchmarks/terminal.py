"""What the dashboard costs a slow line and a busy bastion, against Textual's DataTable doing the same.

    python -m benchmarks.terminal

120 columns, 36 rows, 500 pods, ten visible cells changed a second. Both run in the same run, one after the other,
each in a terminal of its own. Printed: bytes a second and share of a core, one line each, medians of three spells.
"""

import argparse
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.pseudo_terminal import PseudoTerminal

PODS = 500
CHANGES_A_SECOND = 10
VISIBLE = 6
"""Rows that both show without scrolling; the changes go round among them."""

STORE_EVERY = 3
"""Changes between two readings of the release: a little over three a second, as while a backfill runs."""

WARM_UP = 3.0
SPELL = 5.0
SPELLS = 3
READY = b"users-api-000"


def measure(kind: str) -> tuple[float, float]:
    """Bytes a second and percent of a core of one of the two."""
    argv = [sys.executable, "-m", "benchmarks.terminal", "--show", kind]
    with PseudoTerminal(argv, os.environ, columns=120, rows=36) as terminal:
        terminal.until(READY)
        terminal.count_for(WARM_UP)
        spells = []
        for _ in range(SPELLS):
            used, began = terminal.cpu(), time.perf_counter()
            count = terminal.count_for(SPELL)
            took = time.perf_counter() - began
            spells.append((count / took, 100 * (terminal.cpu() - used) / took))
        if terminal.process.poll() is not None:
            raise RuntimeError(f"{kind} ended by itself with code {terminal.process.returncode}")
    count_a_second, share = (statistics.median(column) for column in zip(*spells, strict=True))
    return count_a_second, share


def for_ever(change: Callable[[int], None]) -> None:
    """Calls back for every change, at the rate, from a thread of its own."""

    def run() -> None:
        due = time.monotonic()
        for number in range(sys.maxsize):
            due += 1 / CHANGES_A_SECOND
            time.sleep(max(0.0, due - time.monotonic()))
            change(number)

    threading.Thread(target=run, daemon=True).start()


def show_dashboard() -> None:
    """The dashboard in a backfill, with the restarts of one visible pod counted up at each change."""
    from tests.ui.boards import FixedSource, pod, situations, workload
    from zdd_tui.app import SystemClock, ZddApp
    from zdd_tui.board import Sourced
    from zdd_tui.model.pod import PodState

    clock = SystemClock()
    pods = [pod(f"{number:03}", "2", PodState.SERVING) for number in range(PODS)]
    start, began = situations()["backfill"], clock.monotonic()
    record = start.release.value
    assert record is not None
    source = FixedSource(replace(start, pods=Sourced(workload(pods, ready=PODS), clock.monotonic())))

    def change(number: int) -> None:
        at = number % VISIBLE
        pods[at] = replace(pods[at], restarts=number // VISIBLE % 100)
        now = clock.monotonic()
        board = replace(source.current, pods=Sourced(workload(pods, ready=PODS), now))
        if number % STORE_EVERY == 0:
            board = replace(board, release=Sourced(replace(record, now=record.now + now - began), now))
        if number % CHANGES_A_SECOND == 0:
            board = replace(board, flags=Sourced(start.flags.value, now))
        source.put(board)

    for_ever(change)
    ZddApp(source, clock=clock).run()


def show_data_table() -> None:
    """The same rows and the same changes in a DataTable, and nothing else."""
    from textual.app import App, ComposeResult
    from textual.widgets import DataTable

    class Table(App[None]):
        def compose(self) -> ComposeResult:
            yield DataTable[Any]()

        def on_mount(self) -> None:
            table = self.query_one(DataTable)
            for column in ("POD", "VER", "STATE", "LEFT", "RS", "AGE"):
                table.add_column(column, key=column)
            for number in range(PODS):
                table.add_row(f"users-api-{number:03}", "2", "● Serving", "", "0", "12m", key=str(number))
            for_ever(lambda number: self.call_from_thread(self.change, number))

        def change(self, number: int) -> None:
            self.query_one(DataTable).update_cell(str(number % VISIBLE), "RS", str(number // VISIBLE % 100))

    Table().run()


def main() -> None:
    ours, theirs = measure("dashboard"), measure("data-table")
    told = f"120x36, {PODS} pods, {CHANGES_A_SECOND} changes a second"
    print(f"terminal: dashboard {ours[0]:,.0f} B/s (budget 1,000), {ours[1]:.1f} % of a core (budget 3): {told}")
    print(
        f"terminal: DataTable {theirs[0]:,.0f} B/s, {theirs[1]:.1f} % of a core;"
        f" {theirs[0] / ours[0]:.1f} times the bytes, {theirs[1] / ours[1]:.1f} times the processor"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", choices=["dashboard", "data-table"], help="what a run shows in its terminals")
    shows = {"dashboard": show_dashboard, "data-table": show_data_table, None: main}
    shows[parser.parse_args().show]()

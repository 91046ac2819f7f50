"""What the dashboard costs a slow line and a busy bastion, against Textual's DataTable doing the same.

    python -m benchmarks.terminal

120 columns, 36 rows, 500 pods, ten visible cells changed a second. Both run in the same run, one after the other,
each in a terminal of its own, and so does the least that a Textual application can do: one widget, one cell, no more.
Printed: bytes a second and share of a core, one line each, medians of three spells.

Then 5,000 pods and 500 changes a second: from a change of a visible cell to that cell on the line, and from a key to
what it does, while keys are pressed all the time; no key may be lost.
"""

import argparse
import os
import re
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

WARM_UP_SECONDS = 3.0
SPELL_SECONDS = 5.0
SPELLS = 3
READY = b"users-api-000"

MANY_PODS = 5_000
MANY_CHANGES = 500
PRESSES = 60
PROBES = 60
DELAY_TIMEOUT = 10.0
"""Seconds after which a change or a key counts as lost."""


def measure_program(kind: str) -> tuple[float, float]:
    """Bytes a second and percent of a core of one of the two."""
    argv = [sys.executable, "-m", "benchmarks.terminal", "--show", kind]
    with PseudoTerminal(argv, os.environ, columns=120, rows=36) as terminal:
        terminal.wait_for(READY)
        terminal.count_for(WARM_UP_SECONDS)
        cost = terminal.measure_cost(SPELLS, SPELL_SECONDS)
        if terminal.process.poll() is not None:
            raise RuntimeError(f"{kind} ended by itself with code {terminal.process.returncode}")
    return cost


def run_changes(change: Callable[[int], None], rate: float = CHANGES_A_SECOND) -> None:
    """Calls back for every change, at the rate, from a thread of its own."""

    def run() -> None:
        due = time.monotonic()
        for number in range(sys.maxsize):
            due += 1 / rate
            time.sleep(max(0.0, due - time.monotonic()))
            change(number)

    threading.Thread(target=run, daemon=True).start()


def show_dashboard() -> None:
    """The dashboard in a backfill, with the restarts of one visible pod counted up at each change."""
    from tests.support.states import FixedSource, dashboard_situations, pod, workload
    from zdd_tui.dashboard.app import SystemClock, ZddApp
    from zdd_tui.dashboard.state import Observed
    from zdd_tui.model.workload.pod import PodState

    clock = SystemClock()
    pods = [pod(f"{number:03}", "2", PodState.SERVING) for number in range(PODS)]
    start, began = dashboard_situations()["backfill"], clock.monotonic()
    record = start.release.value
    assert record is not None
    source = FixedSource(replace(start, workload=Observed(workload(pods, ready=PODS), clock.monotonic())))

    def change(number: int) -> None:
        at = number % VISIBLE
        pods[at] = replace(pods[at], restarts=number // VISIBLE % 100)
        now = clock.monotonic()
        board = replace(source.current, workload=Observed(workload(pods, ready=PODS), now))
        if number % STORE_EVERY == 0:
            board = replace(board, release=Observed(replace(record, now=record.now + now - began), now))
        if number % CHANGES_A_SECOND == 0:
            board = replace(board, flags=Observed(start.flags.value, now))
        source.set_board(board)

    run_changes(change)
    ZddApp(source, clock=clock).run()


def encode_time(at: float, *, odd: bool) -> str:
    """A moment in letters, of which none is that of the stamp before: only cells that differ go over the line."""
    text = f"<{at:.3f}>"
    return text.translate(_ODD if odd else _EVEN)


def decode_time(seen: bytes) -> float | None:
    """The last moment that stands in a piece of the line."""
    found = _STAMP.findall(seen.decode("utf-8", "replace").translate(_BACK))
    return float(found[-1]) if found else None


def show_many() -> None:
    """The dashboard with 5,000 pods, of which 500 change in each second. Some seven times a second the first
    one in sight gets a reason that tells when, by the clock that all processes of a machine share."""
    from tests.support.states import FixedSource, dashboard_situations, pod, workload
    from zdd_tui.dashboard.app import SystemClock, ZddApp
    from zdd_tui.dashboard.state import Observed
    from zdd_tui.model.workload.pod import PodState

    clock = SystemClock()
    pods = [pod(f"{number:04}", "2", PodState.SERVING) for number in range(MANY_PODS)]
    whole = workload(pods, ready=MANY_PODS)
    source = FixedSource(replace(dashboard_situations()["backfill"], workload=Observed(whole, clock.monotonic())))
    a_time = MANY_CHANGES // 50  # as a watch does: what came within 20 ms is one reading

    def change(number: int) -> None:
        for at in range(a_time):
            place = 1 + (number * a_time + at) * 7 % (MANY_PODS - 1)
            pods[place] = replace(pods[place], restarts=(pods[place].restarts + 1) % 100)
        if number % 7 == 0:  # in no step with the paints
            pods[0] = replace(pods[0], reason=encode_time(time.monotonic(), odd=bool(number // 7 % 2)))
        source.set_board(
            replace(source.current, workload=Observed(replace(whole, pods=tuple(pods)), clock.monotonic()))
        )

    run_changes(change, 50)
    ZddApp(source, clock=clock).run()


def show_minimum() -> None:
    """One widget, one cell that changes: what Textual itself costs."""
    from rich.segment import Segment
    from textual.app import App, ComposeResult
    from textual.geometry import Region
    from textual.scroll_view import ScrollView
    from textual.strip import Strip

    class Cell(ScrollView):
        number = 0

        def render_line(self, y: int) -> Strip:
            text = f"users-api-{y:03} {self.number if y == 3 else 0:3}"
            return Strip([Segment(text)]).adjust_cell_length(self.size.width)

    class Floor(App[None]):
        def compose(self) -> ComposeResult:
            yield Cell()

        def on_mount(self) -> None:
            run_changes(lambda number: self.call_from_thread(self.change, number))

        def change(self, number: int) -> None:
            cell = self.query_one(Cell)
            cell.number = number % 1000
            cell.refresh(Region(14, 3, 3, 1))

    Floor().run()


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
            run_changes(lambda number: self.call_from_thread(self.change, number))

        def change(self, number: int) -> None:
            self.query_one(DataTable).update_cell(str(number % VISIBLE), "RS", str(number // VISIBLE % 100))

    Table().run()


def measure_delays() -> tuple[list[float], list[float], int]:
    """Of the dashboard with many pods: seconds from each probed change to the line, seconds from each key to its
    effect, and how many keys had none."""
    argv = [sys.executable, "-m", "benchmarks.terminal", "--show", "many"]
    changes: list[float] = []
    keys: list[float] = []
    with PseudoTerminal(argv, os.environ, columns=120, rows=36) as terminal:
        terminal.wait_for(b"users-api-0001", 60.0)
        terminal.count_for(WARM_UP_SECONDS)
        seen = b""
        while len(changes) < PROBES:
            seen = (seen + terminal.read(1.0))[-4096:]
            arrived = time.monotonic()
            if (at := decode_time(seen)) is not None:
                changes.append(arrived - at)
                seen = b""
        lost = 0
        # Maximised and back: each press draws the whole screen anew, so its effect cannot be missed.
        terminal.send(b"\t")
        terminal.count_for(1.0)
        for press in range(PRESSES):
            wanted = b"events" if press % 2 else b" of 5000"
            began = time.monotonic()
            terminal.send(b"z")
            seen, there = b"", False
            while not there and time.monotonic() - began < DELAY_TIMEOUT:
                seen = (seen + terminal.read(0.5))[-65536:]
                there = wanted in seen
            if there:
                keys.append(time.monotonic() - began)
            lost += not there
    return changes, keys, lost


def format_values(values: list[float]) -> str:
    ordered = sorted(values)
    return f"median {1000 * statistics.median(ordered):.0f} ms, p95 {1000 * ordered[int(0.95 * len(ordered))]:.0f} ms"


def main() -> None:
    floor, ours, theirs = measure_program("floor"), measure_program("dashboard"), measure_program("data-table")
    case = f"120x36, {PODS} pods, {CHANGES_A_SECOND} changes a second"
    print(f"terminal: dashboard {ours[0]:,.0f} B/s (budget 1,000), {ours[1]:.1f} % of a core (budget 3): {case}")
    print(
        f"terminal: DataTable {theirs[0]:,.0f} B/s, {theirs[1]:.1f} % of a core;"
        f" {theirs[0] / ours[0]:.1f} times the bytes, {theirs[1] / ours[1]:.1f} times the processor"
    )
    print(f"terminal: Textual with one cell {floor[0]:,.0f} B/s, {floor[1]:.1f} % of a core")
    changes, keys, lost = measure_delays()
    print(
        f"terminal: {MANY_PODS} pods, {MANY_CHANGES} changes a second: change to line {format_values(changes)} (budget 200 ms)"
    )
    print(f"terminal: key to effect {format_values(keys)}; {lost} of {PRESSES} keys lost (budget none)")


_PLAIN = "0123456789.<>"
_LETTERS = ("αβγδεζηθικλμν", "ΑΒΓΔΕΖΗΘΙΚΛΜΝ")
_EVEN, _ODD = (str.maketrans(_PLAIN, letters) for letters in _LETTERS)
_BACK = str.maketrans("".join(_LETTERS), 2 * _PLAIN)
_STAMP = re.compile(r"<(\d+\.\d{3})>")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shows: dict[str, Callable[[], None]] = {
        "dashboard": show_dashboard,
        "data-table": show_data_table,
        "floor": show_minimum,
        "many": show_many,
    }
    parser.add_argument("--show", choices=list(shows), help="what a run shows in its terminals")
    shows.get(parser.parse_args().show, main)()

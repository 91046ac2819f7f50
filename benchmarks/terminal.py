"""Bytes and processor time of the dashboard, against Textual's DataTable with the same content.

    python -m benchmarks.terminal

120 columns, 36 rows, 500 pods, ten changes of visible cells per second. Both run one after the other, each in a
terminal of its own, and so does the minimum of a Textual application: one widget with one cell. Prints bytes per
second and share of a core of each, medians of three intervals; and of the screens of charts (`m`), logs (`L`, ten lines
a second) and database activity (`D`, twelve sessions that are read every two seconds).

Then 5,000 pods and 500 changes per second: the delay from a change of a visible cell to the terminal, and from a key
to its effect while keys are pressed continuously; no key may be lost.
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
"""Rows that both show without scrolling; the changes rotate among them."""

STORE_EVERY = 3
"""Changes between two readings of the release: a little over three per second, as during a backfill."""

WARM_UP_SECONDS = 3.0
INTERVAL_SECONDS = 5.0
INTERVALS = 3
READY = b"users-api-000"

MANY_PODS = 5_000
MANY_CHANGES = 500
PRESSES = 60
PROBES = 60
DELAY_TIMEOUT = 10.0
"""Seconds after which a key counts as lost."""


DETAIL_KEYS = {"charts": b"m", "logs": b"L", "activity": b"D"}
"""Screens that are measured too, by their keys."""

LOG_TEXT_BYTES = 650
"""Bytes a second of the new log lines themselves, with time and pod: they have to be sent."""

DETAIL_BUDGETS = {"charts": 1_000, "logs": 1_000 + LOG_TEXT_BYTES, "activity": 1_000}
"""Bytes a second."""


def measure_program(kind: str, key: bytes = b"") -> tuple[float, float]:
    """Bytes per second and percent of a core of one program.

    Args:
        key: opens another screen of it first.
    """
    argv = [sys.executable, "-m", "benchmarks.terminal", "--show", kind]
    with PseudoTerminal(argv, os.environ, columns=120, rows=36) as terminal:
        terminal.wait_for(READY)
        terminal.send(key)
        terminal.count_for(WARM_UP_SECONDS)
        cost = terminal.measure_cost(INTERVALS, INTERVAL_SECONDS)
        if terminal.process.poll() is not None:
            raise RuntimeError(f"{kind} ended with code {terminal.process.returncode}")
    return cost


def run_changes(change: Callable[[int], None], rate: float = CHANGES_A_SECOND) -> None:
    """Calls ``change`` at a rate per second, with a number that counts up, from a thread of its own."""

    def run() -> None:
        due = time.monotonic()
        for number in range(sys.maxsize):
            due += 1 / rate
            time.sleep(max(0.0, due - time.monotonic()))
            change(number)

    threading.Thread(target=run, daemon=True).start()


def show_charts() -> None:
    """The same with a guard, whose charts get a new point every five seconds."""
    show_dashboard(with_charts=True)


def show_dashboard(*, with_charts: bool = False) -> None:
    """The dashboard in a backfill; each change increments the restarts of one visible pod."""
    from tests.support.states import FixedSource, dashboard_situations, pod, workload
    from tests.support.strategy_states import guard_situations
    from zdd_tui.dashboard.app import SystemClock, ZddApp
    from zdd_tui.dashboard.state import Observed
    from zdd_tui.model.activity import ActivityQuery, DatabaseActivity, Session
    from zdd_tui.model.queries import LogLine, LogView, MetricHistory, MetricHistoryQuery, MetricPoint
    from zdd_tui.model.release.records import ReleaseRecord
    from zdd_tui.model.workload.pod import PodState

    clock = SystemClock()
    pods = [pod(f"{number:03}", "2", PodState.SERVING) for number in range(PODS)]
    situation = guard_situations()["guard-backfill"] if with_charts else dashboard_situations()["backfill"]
    start, began = situation, clock.monotonic()
    record = start.release.value
    assert record is not None
    source = FixedSource(replace(start, workload=Observed(workload(pods, ready=PODS), clock.monotonic())))

    def history(now: float) -> MetricHistory:
        """20 minutes of values that differ from point to point."""
        times = [5.0 * step for step in range(int(now / 5) - 239, int(now / 5) + 1)]
        noise = {at: (at * 7919 % 101) / 101 for at in times}
        return MetricHistory(
            {
                "errors": tuple(MetricPoint(at, 0.004 + 0.004 * noise[at], 0.003) for at in times),
                "p99": tuple(MetricPoint(at, 0.08 + 0.03 * noise[at], 0.08 - 0.01 * noise[at]) for at in times),
            }
        )

    def activity(seconds: float) -> DatabaseActivity:
        """One session blocks eleven others; their transactions get older."""
        statement = "UPDATE public.users SET email = $2 WHERE id = $1"
        who = "app", "users-api", "10.2.0.7", "active"
        sessions = [
            Session(4000 + at, f"s{at}", *who, 60 + seconds, seconds, "Lock relation", statement, (4000,) if at else ())
            for at in range(12)
        ]
        return DatabaseActivity(tuple(sessions))

    def append_line(number: int, now: float) -> None:
        if not source.tails:
            return
        tail = source.tails[number % len(source.tails)]
        line = LogLine(f'{{"level": "info", "path": "/users/{number}", "ms": {number % 9}}}', now)
        lines = (*tail.current.lines[-200:], line)
        tail.current = LogView(lines, tail.current.total + 1, state="following")

    def stored(seconds: float) -> ReleaseRecord:
        """The release so many seconds later, with verdicts that an agent has renewed meanwhile."""
        return replace(
            record,
            now=record.now + seconds,
            gates={name: replace(each, observed_at=each.observed_at + seconds) for name, each in record.gates.items()},
            guard=tuple(replace(each, observed_at=each.observed_at + seconds) for each in record.guard),
        )

    def change(number: int) -> None:
        at = number % VISIBLE
        pods[at] = replace(pods[at], restarts=number // VISIBLE % 100)
        append_line(number, time.time())
        source.answers[ActivityQuery] = activity(number / CHANGES_A_SECOND)
        now = clock.monotonic()
        board = replace(source.current, workload=Observed(workload(pods, ready=PODS), now))
        if number % STORE_EVERY == 0:
            board = replace(board, release=Observed(stored(now - began), now))
            if with_charts:
                source.answers[MetricHistoryQuery] = history(record.now + now - began)
        if number % CHANGES_A_SECOND == 0:
            board = replace(board, flags=Observed(start.flags.value, now))
        source.set_board(board)

    source.answers[MetricHistoryQuery] = history(record.now)
    run_changes(change)
    ZddApp(source, clock=clock).run()


def encode_time(at: float, *, odd: bool) -> str:
    """A time in letters of which none is in the time before: only cells that differ are sent to the terminal."""
    text = f"<{at:.3f}>"
    return text.translate(_ODD if odd else _EVEN)


def decode_time(output: bytes) -> float | None:
    """The last time in a piece of output."""
    times = _STAMP.findall(output.decode("utf-8", "replace").translate(_BACK))
    return float(times[-1]) if times else None


def show_many() -> None:
    """The dashboard with 5,000 pods, of which 500 change per second.

    About seven times per second the first visible pod gets the time as its reason, by the monotonic clock, which all
    processes of a machine share.
    """
    from tests.support.states import FixedSource, dashboard_situations, pod, workload
    from zdd_tui.dashboard.app import SystemClock, ZddApp
    from zdd_tui.dashboard.state import Observed
    from zdd_tui.model.workload.pod import PodState

    clock = SystemClock()
    pods = [pod(f"{number:04}", "2", PodState.SERVING) for number in range(MANY_PODS)]
    whole = workload(pods, ready=MANY_PODS)
    source = FixedSource(replace(dashboard_situations()["backfill"], workload=Observed(whole, clock.monotonic())))
    batch = MANY_CHANGES // 50  # as a watch does: all events within 20 ms are one reading

    def change(number: int) -> None:
        for item in range(batch):
            index = 1 + (number * batch + item) * 7 % (MANY_PODS - 1)
            pods[index] = replace(pods[index], restarts=(pods[index].restarts + 1) % 100)
        if number % 7 == 0:  # not synchronous with the paints
            pods[0] = replace(pods[0], reason=encode_time(time.monotonic(), odd=bool(number // 7 % 2)))
        source.set_board(
            replace(source.current, workload=Observed(replace(whole, pods=tuple(pods)), clock.monotonic()))
        )

    run_changes(change, 50)
    ZddApp(source, clock=clock).run()


def show_minimum() -> None:
    """One widget with one cell that changes: the cost of Textual itself."""
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

    class MinimalApp(App[None]):
        def compose(self) -> ComposeResult:
            yield Cell()

        def on_mount(self) -> None:
            run_changes(lambda number: self.call_from_thread(self.change, number))

        def change(self, number: int) -> None:
            cell = self.query_one(Cell)
            cell.number = number % 1000
            cell.refresh(Region(14, 3, 3, 1))

    MinimalApp().run()


def show_data_table() -> None:
    """Only a DataTable, with the same rows and the same changes."""
    from textual.app import App, ComposeResult
    from textual.widgets import DataTable

    class Table(App[None]):
        def compose(self) -> ComposeResult:
            yield DataTable[Any]()

        def on_mount(self) -> None:
            table = self.query_one(DataTable)
            for column in ("POD", "VERSION", "STATE", "DRAIN", "RESTARTS", "AGE"):
                table.add_column(column, key=column)
            for number in range(PODS):
                table.add_row(f"users-api-{number:03}", "2", "● Serving", "", "0", "12m", key=str(number))
            run_changes(lambda number: self.call_from_thread(self.change, number))

        def change(self, number: int) -> None:
            self.query_one(DataTable).update_cell(str(number % VISIBLE), "RESTARTS", str(number // VISIBLE % 100))

    Table().run()


def measure_delays() -> tuple[list[float], list[float], int]:
    """Measures the dashboard with many pods.

    Returns:
        Seconds from each probed change to the terminal, seconds from each key to its effect, and the number of keys
        without an effect.
    """
    argv = [sys.executable, "-m", "benchmarks.terminal", "--show", "many"]
    changes: list[float] = []
    keys: list[float] = []
    with PseudoTerminal(argv, os.environ, columns=120, rows=36) as terminal:
        terminal.wait_for(b"users-api-0001", 60.0)
        terminal.count_for(WARM_UP_SECONDS)
        output = b""
        while len(changes) < PROBES:
            output = (output + terminal.read(1.0))[-4096:]
            arrived = time.monotonic()
            if (changed_at := decode_time(output)) is not None:
                changes.append(arrived - changed_at)
                output = b""
        lost = 0
        # Maximises a pane and restores it: each press redraws the whole screen, so its effect is always visible.
        terminal.send(b"\t")
        terminal.count_for(1.0)
        for press in range(PRESSES):
            expected = b"events" if press % 2 else b" of 5000"
            began = time.monotonic()
            terminal.send(b"z")
            output, is_shown = b"", False
            while not is_shown and time.monotonic() - began < DELAY_TIMEOUT:
                output = (output + terminal.read(0.5))[-65536:]
                is_shown = expected in output
            if is_shown:
                keys.append(time.monotonic() - began)
            else:
                lost += 1
    return changes, keys, lost


def format_values(values: list[float]) -> str:
    ordered = sorted(values)
    return f"median {1000 * statistics.median(ordered):.0f} ms, p95 {1000 * ordered[int(0.95 * len(ordered))]:.0f} ms"


def main() -> None:
    kinds = ("minimum", "dashboard", "charts", "data-table")
    minimum, dashboard, charts, table = (measure_program(kind) for kind in kinds)
    case = f"120x36, {PODS} pods, {CHANGES_A_SECOND} changes a second"
    print(
        f"terminal: dashboard {dashboard[0]:,.0f} B/s (budget 1,000), {dashboard[1]:.1f} % of a core (budget 3): {case}"
    )
    details = {name: measure_program("charts", key) for name, key in DETAIL_KEYS.items()}
    print(f"terminal: with charts {charts[0]:,.0f} B/s (budget 1,000), {charts[1]:.1f} % of a core (budget 3)")
    for name, (bytes_a_second, share) in details.items():
        print(
            f"terminal: screen of {name} {bytes_a_second:,.0f} B/s (budget {DETAIL_BUDGETS[name]:,}),"
            f" {share:.1f} % of a core (budget 3)"
        )
    print(
        f"terminal: DataTable {table[0]:,.0f} B/s, {table[1]:.1f} % of a core;"
        f" {table[0] / dashboard[0]:.1f} times the bytes, {table[1] / dashboard[1]:.1f} times the processor"
    )
    print(f"terminal: Textual with one cell {minimum[0]:,.0f} B/s, {minimum[1]:.1f} % of a core")
    changes, keys, lost = measure_delays()
    print(
        f"terminal: {MANY_PODS} pods, {MANY_CHANGES} changes a second:"
        f" change to line {format_values(changes)} (budget 200 ms)"
    )
    print(f"terminal: key to effect {format_values(keys)}; {lost} of {PRESSES} keys lost (budget none)")


_PLAIN = "0123456789.<>"
_LETTERS = ("αβγδεζηθικλμν", "ΑΒΓΔΕΖΗΘΙΚΛΜΝ")
_EVEN, _ODD = (str.maketrans(_PLAIN, letters) for letters in _LETTERS)
_BACK = str.maketrans("".join(_LETTERS), 2 * _PLAIN)
_STAMP = re.compile(r"<(\d+\.\d{3})>")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    programs: dict[str, Callable[[], None]] = {
        "dashboard": show_dashboard,
        "charts": show_charts,
        "data-table": show_data_table,
        "minimum": show_minimum,
        "many": show_many,
    }
    parser.add_argument("--show", choices=list(programs), help="run a measured program in this terminal")
    programs.get(parser.parse_args().show, main)()

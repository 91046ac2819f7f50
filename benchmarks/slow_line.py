"""Effect of `--low-bandwidth`, cost of a terminal that does not read for a while, and cost of a recording.

    python -m benchmarks.slow_line

A backfill under a guard at 120x36: rows, rate and three rules with their histories change ten times a second. Prints
bytes per second with and without `--low-bandwidth`; processor time while the terminal does not read, and the bytes of
the five seconds after; then processor time with and without `--record`, and the size of the recording.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.pseudo_terminal import PseudoTerminal

CHANGES_A_SECOND = 10
WARM_UP_SECONDS = 4.0
MEASURED_SECONDS = 15.0
STALL_SECONDS = 60.0
READY = b"users-full-name"


def run_dashboard(low_bandwidth: bool, record_path: str) -> None:
    """The dashboard with a state that changes."""
    from tests.support.states import FixedSource
    from tests.support.strategy_states import guard_situations
    from zdd_tui.dashboard.app import SystemClock, ZddApp
    from zdd_tui.dashboard.recording.writer import RecordingWriter
    from zdd_tui.dashboard.terminal.display_options import DisplayOptions

    clock = SystemClock()
    start = guard_situations()["guard-backfill"]
    first = start.release.value
    assert first is not None
    assert first.backfill is not None
    backfill, began = first.backfill, clock.monotonic()
    source = FixedSource(start)

    def change() -> None:
        for number in range(sys.maxsize):
            time.sleep(1 / CHANGES_A_SECOND)
            now = clock.monotonic()
            server_now = first.now + now - began
            value, point = (number % 50) / 1000, (number * 7 % 50) / 1000
            release = replace(
                first,
                now=server_now,
                guard=tuple(
                    replace(reading, value=value, series=(*reading.series[1:], point), observed_at=server_now)
                    for reading in first.guard
                ),
                backfill=replace(backfill, rows_done=backfill.rows_done + 4000 * number, rate=40_000 + number % 900),
            )
            source.set_board(
                replace(
                    start,
                    release=replace(start.release, value=release, observed_at=now),
                    workload=replace(start.workload, observed_at=now),
                    flags=replace(start.flags, observed_at=now),
                )
            )

    threading.Thread(target=change, daemon=True).start()
    if record_path:
        RecordingWriter(source.state, Path(record_path))
    ZddApp(source, clock=clock, display_options=DisplayOptions(low_bandwidth=low_bandwidth)).run()


def open_terminal(*options: str) -> PseudoTerminal:
    argv = [sys.executable, "-m", "benchmarks.slow_line", "--show", *options]
    return PseudoTerminal(argv, os.environ, columns=120, rows=36)


def measure_dashboard(*options: str) -> tuple[float, float]:
    """Bytes per second and percent of a core."""
    with open_terminal(*options) as terminal:
        terminal.wait_for(READY)
        terminal.count_for(WARM_UP_SECONDS)
        return terminal.measure_cost(1, MEASURED_SECONDS)


def measure_stall(seconds: float) -> tuple[float, int]:
    """Percent of a core while the terminal does not read, and the bytes of the five seconds after."""
    with open_terminal() as terminal:
        terminal.wait_for(READY)
        terminal.count_for(WARM_UP_SECONDS)
        used = terminal.cpu_seconds()
        time.sleep(seconds)
        share = 100 * (terminal.cpu_seconds() - used) / seconds
        return share, terminal.count_for(5.0)


def main(stall_seconds: float = STALL_SECONDS) -> None:
    normal, low = measure_dashboard(), measure_dashboard("--low-bandwidth")
    print(
        f"slow_line: {normal[0]:,.0f} B/s, with --low-bandwidth {low[0]:,.0f} B/s,"
        f" {normal[0] / low[0]:.1f} times fewer; {normal[1]:.1f} and {low[1]:.1f} % of a core"
    )
    share, count = measure_stall(stall_seconds)
    print(f"slow_line: no reads for {stall_seconds:.0f} s: {share:.1f} % of a core, then {count:,} bytes in 5 s")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "r.jsonl.gz"
        recorded = measure_dashboard("--record", str(file))
        size = file.stat().st_size / (WARM_UP_SECONDS + MEASURED_SECONDS)
    print(
        f"slow_line: recording: {recorded[1]:.1f} % of a core instead of {normal[1]:.1f}, {size:,.0f} B/s to the disk"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="run the measured dashboard in this terminal")
    parser.add_argument("--low-bandwidth", action="store_true")
    parser.add_argument("--record", default="")
    parser.add_argument("--stall", type=float, default=STALL_SECONDS, help="seconds (default: %(default)g)")
    arguments = parser.parse_args()
    if arguments.show:
        run_dashboard(arguments.low_bandwidth, arguments.record)
    else:
        main(arguments.stall)

"""What `--low-bandwidth` saves, what a terminal costs that does not read for a while, and what recording costs.

    python -m benchmarks.slow_line

A backfill under a guard at 120x36: rows, rate and three rules with their histories move ten times a second. Printed:
bytes a second with and without `--low-bandwidth`; the processor while nobody reads, and the bytes of the first second
after; then the processor with and without `--record`, and the size of the recording.
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
SPELL_SECONDS = 15.0
STALL_SECONDS = 60.0
READY = b"users-full-name"


def run_dashboard(low_bandwidth: bool, record: str) -> None:
    """The dashboard on a board that moves."""
    from tests.support.states import FixedSource
    from tests.support.strategy_states import guard_situations
    from zdd_tui.dashboard.app import SystemClock, ZddApp
    from zdd_tui.dashboard.recording.writer import RecordingWriter
    from zdd_tui.dashboard.terminal.display_options import DisplayOptions

    clock = SystemClock()
    start = guard_situations()["guard-backfill"]
    record_ = start.release.value
    assert record_ is not None
    assert record_.backfill is not None
    backfill, began = record_.backfill, clock.monotonic()
    source = FixedSource(start)

    def work() -> None:
        for number in range(sys.maxsize):
            time.sleep(1 / CHANGES_A_SECOND)
            now = clock.monotonic()
            guard = tuple(
                replace(each, value=(number % 50) / 1000, series=(*each.series[1:], (number * 7 % 50) / 1000))
                for each in record_.guard
            )
            moved = replace(
                record_,
                now=record_.now + now - began,
                guard=tuple(replace(each, observed_at=record_.now + now - began) for each in guard),
                backfill=replace(backfill, rows_done=backfill.rows_done + 4000 * number, rate=40_000 + number % 900),
            )
            pods, flags = (replace(each, observed_at=now) for each in (start.workload, start.flags))
            source.set_board(
                replace(start, release=replace(start.release, value=moved, observed_at=now), workload=pods, flags=flags)
            )

    threading.Thread(target=work, daemon=True).start()
    if record:
        RecordingWriter(source.state, Path(record))
    ZddApp(source, clock=clock, display_options=DisplayOptions(low_bandwidth=low_bandwidth)).run()


def open_terminal(*options: str) -> PseudoTerminal:
    argv = [sys.executable, "-m", "benchmarks.slow_line", "--show", *options]
    return PseudoTerminal(argv, os.environ, columns=120, rows=36)


def measure_dashboard(*options: str) -> tuple[float, float]:
    """Bytes a second and percent of a core."""
    with open_terminal(*options) as shown:
        shown.wait_for(READY)
        shown.count_for(WARM_UP_SECONDS)
        used = shown.cpu_seconds()
        count = shown.count_for(SPELL_SECONDS)
        return count / SPELL_SECONDS, 100 * (shown.cpu_seconds() - used) / SPELL_SECONDS


def measure_stall(seconds: float) -> tuple[float, int]:
    """Percent of a core while nobody reads, and bytes that come in the five seconds after."""
    with open_terminal() as shown:
        shown.wait_for(READY)
        shown.count_for(WARM_UP_SECONDS)
        used = shown.cpu_seconds()
        time.sleep(seconds)
        share = 100 * (shown.cpu_seconds() - used) / seconds
        return share, shown.count_for(5.0)


def main(stalled: float = STALL_SECONDS) -> None:
    """Prints the three."""
    usual, low = measure_dashboard(), measure_dashboard("--low-bandwidth")
    print(
        f"slow_line: {usual[0]:,.0f} B/s, with --low-bandwidth {low[0]:,.0f} B/s: {usual[0] / low[0]:.1f} times fewer;"
        f" {usual[1]:.1f} and {low[1]:.1f} % of a core"
    )
    share, count = measure_stall(stalled)
    print(f"slow_line: nobody reads for {stalled:.0f} s: {share:.1f} % of a core, then {count:,} bytes in 5 s")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "r.jsonl.gz"
        recorded = measure_dashboard("--record", str(file))
        size = file.stat().st_size / (WARM_UP_SECONDS + SPELL_SECONDS)
    print(f"slow_line: recording: {recorded[1]:.1f} % of a core instead of {usual[1]:.1f}, {size:,.0f} B/s to the disk")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="what a run shows in its terminals")
    parser.add_argument("--low-bandwidth", action="store_true")
    parser.add_argument("--record", default="")
    parser.add_argument("--stall", type=float, default=STALL_SECONDS, help="seconds (default: %(default)g)")
    given = parser.parse_args()
    if given.show:
        run_dashboard(given.low_bandwidth, given.record)
    else:
        main(given.stall)

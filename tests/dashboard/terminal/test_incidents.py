"""What an operator reads of incidents in a real terminal: one dashboard, whose states a test sets."""

import copyreg
import os
import pickle
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from tests.backends.kubernetes.test_snapshot import RUNNING, SETS, VIEW, build_snapshot, facts, sliced, unhealthy
from tests.support.incident_states import LONG_NAME, incident_situations
from tests.support.states import EPOCH, MONOTONIC, backfill, dashboard_situations, events
from tests.support.strategy_states import errors, guard_situations
from tests.support.terminal_emulator import Emulator, run_in_emulator
from zdd_tui.backends.kubernetes.snapshot import DeploymentObjects, SnapshotBuilder
from zdd_tui.dashboard.state import DashboardState, Observed
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import GuardReading, ReleaseRecord

copyreg.pickle(MappingProxyType, lambda proxy: (dict, (dict(proxy),)))  # the labels of pods

ROOT = Path(__file__).parents[3]
PROGRAM = """
import pickle, signal, sys
from dataclasses import replace
from pathlib import Path
from tests.support.states import FixedClock, FixedSource
from zdd_tui.dashboard.app import ZddApp
def read():
    seconds, board = pickle.loads(Path(sys.argv[1]).read_bytes())
    clock.seconds += seconds
    sources = ("release", "workload", "flags")
    return replace(board, **{name: replace(getattr(board, name), observed_at=clock.seconds) for name in sources})
clock = FixedClock()
source = FixedSource(read())
signal.signal(signal.SIGUSR1, lambda *_: source.set_board(read()))
ZddApp(source, clock=clock).run()
"""
"""At each SIGUSR1 it reads its state again, and moves its clock."""


@dataclass
class Desk:
    """A dashboard in a terminal of 80x24, and the file of its state."""

    terminal: Emulator
    file: Path

    def show(self, board: DashboardState, seconds: float = 0.0) -> None:
        """Gives the dashboard a state, so many seconds after the one before."""
        write_state(self.file, board, seconds)
        self.terminal.process.send_signal(signal.SIGUSR1)


def write_state(file: Path, board: DashboardState, seconds: float = 0.0) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(pickle.dumps((seconds, board)))
    new.rename(file)


@asynccontextmanager
async def open_desk(folder: Path, board: DashboardState) -> AsyncIterator[Desk]:
    file = folder / "state"
    write_state(file, board)
    program = [sys.executable, "-c", PROGRAM, str(file)]
    async with run_in_emulator(program, {**os.environ, "PYTHONPATH": str(ROOT)}) as terminal:
        yield Desk(terminal, file)
        terminal.press("q")
        assert await terminal.wait_for_exit() == 0


def record_of(board: DashboardState) -> ReleaseRecord:
    assert board.release.value is not None
    return board.release.value


def changed(board: DashboardState, **changes: object) -> DashboardState:
    """The board with another record of its release, outside of production."""
    record = replace(record_of(board), **changes)  # type: ignore[arg-type]
    return replace(board, release=Observed(record, MONOTONIC), plan=replace(board.plan, environment="staging"))


def with_rules(board: DashboardState, *names: str) -> DashboardState:
    return replace(board, plan=replace(board.plan, rule_names=names))


def lost_readiness() -> DashboardState:
    """A pod of two minutes whose probe fails now, from the objects that the API server has of it."""
    old = EPOCH - 120
    containers = (replace(RUNNING, started_at=old + 1),)
    lost = facts(0, created_at=old, ready=False, ready_since=None, unready_since=EPOCH - 3, containers=containers)
    others = (facts(number, created_at=old, ready_since=old) for number in (1, 2))
    found = DeploymentObjects(
        replace(VIEW, ready=2, available=2), SETS, (lost, *others), sliced(1, 2), events=(unhealthy(0),)
    )
    return replace(
        dashboard_situations()["open"],
        workload=Observed(build_snapshot(SnapshotBuilder(), found, EPOCH), MONOTONIC),
    )


async def test_pods_gates_rules_and_names_keep_their_place_at_every_size(tmp_path: Path) -> None:
    async with open_desk(tmp_path, lost_readiness()) as desk:
        text = await desk.terminal.wait_for("✗ Not ready HTTP 503", "2/3 ready", "✗ 1 of 3 pods not ready any more")
        assert "Starting" not in text, "a pod of two minutes does not start"

        await show_moving_rules(desk)
        await show_more_rules_than_fit(desk)

        side = backfill(status="cancelled", verified=True, verified_rows=1_200_000, mismatches=0)
        desk.show(changed(dashboard_situations()["rolled-back"], backfill=side))
        text = await desk.terminal.wait_for("◀ ROLLED BACK", "○ not verified: the copy is")
        assert "✔ verified" not in text, "the side that was verified does not exist any more"

        assert len(LONG_NAME) >= 40
        desk.show(incident_situations()["long-names"])
        text = await desk.terminal.wait_for("customers-full-n…", "31 older pods")
        assert "■ PRODUCTION-EU-CENTRAL-1 " in text.splitlines()[0], "the environment is cut"
        desk.terminal.resize(200, 50)
        await desk.terminal.wait_for(
            f"zdd {LONG_NAME}",
            "checkout-payments-api-7f8c6d9b4f-00027 2026.11.24-rc.1 ✗ Not ready HTTP 503        12m ip-10-2-4-14",
            "no writer writes only one side: nightly-report 10.2.14.7 as bi: 12 rows",
            "checkout_payments_customer_full_name_write",
        )


def guard_rows(text: str) -> list[str]:
    """The content of the guard's pane."""
    lines = iter(text.splitlines())
    left = next(line for line in lines if "4:guard" in line).rindex("╭")
    rows = [line[left + 1 : -1] for line in lines]
    return rows[: next(at for at, row in enumerate(rows) if row.endswith("─"))]


async def show_moving_rules(desk: Desk) -> None:
    """Verdict, value and baseline of a rule come and go in the first seconds of a rollout: its columns stay."""
    start, titles = with_rules(guard_situations()["guard-pass"], "errors"), set()
    for heading, reading in (
        ("1 unknown", GuardReading("errors", Verdict.UNKNOWN, "no requests yet", observed_at=EPOCH)),
        ("1 inconclusive", errors(verdict=Verdict.INCONCLUSIVE, reason="3 of 50 requests", value=0.123456, samples=3)),
        ("passes", errors(value=0.0, baseline=0.0, series=(0.0,) * 60)),
        ("1 fail", errors(verdict=Verdict.FAIL, value=0.9, action_taken="rollback")),
    ):
        desk.show(changed(start, guard=(reading,)))
        titles.add(guard_rows(await desk.terminal.wait_for(f"4:guard · {heading}", "RULE", "AGE  │"))[0])
    assert len(titles) == 1, titles


async def show_more_rules_than_fit(desk: Desk) -> None:
    """Beside a running backfill at 80x24: those that are not visible are counted."""
    readings = tuple(errors(rule=f"rule-{number}") for number in range(9))
    start = with_rules(guard_situations()["guard-backfill"], *(each.rule for each in readings))
    desk.show(changed(start, guard=readings))
    await desk.terminal.wait_for("4:guard · all 9 pass", "hidden")

    def counts_the_hidden(text: str) -> bool:
        visible = sum("rule-" in row for row in guard_rows(text))
        return 0 < visible < 9 and f" {9 - visible} hidden" in text

    await desk.terminal.wait_until(counts_the_hidden, "9 rules, the hidden ones counted")


async def test_messages_end_with_their_cause_and_scrolled_events_return(tmp_path: Path) -> None:
    start = changed(dashboard_situations()["backfill"])
    async with open_desk(tmp_path, start) as desk:
        terminal = desk.terminal
        await terminal.wait_for("t tune")
        terminal.press("a")
        await terminal.wait_for("advance refused: ")
        desk.show(changed(start, backfill=backfill(rows_done=800_000)), seconds=50)
        await terminal.wait_for("800k", "advance refused 50s ago: ")
        desk.show(start, seconds=11)
        await terminal.wait_for("756k", without="advance refused")

        terminal.press("a")
        await terminal.wait_for("advance refused: ")
        desk.show(changed(dashboard_situations()["open"]))
        await terminal.wait_for("all 3 gates pass", without="advance refused")
        terminal.press("a")
        await terminal.wait_for("Enter confirm")
        terminal.press("\r")
        await terminal.wait_for("advance queued")
        desk.show(changed(dashboard_situations()["open"], id=2))
        await terminal.wait_for("all 3 gates pass", without="advance queued")

        await scroll_events(desk, start)


async def scroll_events(desk: Desk, start: DashboardState) -> None:
    """What is being read does not move; the newer events are counted, and a minute without a key returns to them."""

    def with_events(count: int) -> DashboardState:
        return changed(start, events=events(*[("step", f"e{number}e", "") for number in range(count)]))

    terminal = desk.terminal
    desk.show(with_events(30))
    await terminal.wait_for("e29e")
    terminal.press("5\x1b[F")  # its pane, End
    before = re.search(r"(\d+) newer ↑", await terminal.wait_for("e0e", "newer ↑"))
    assert before is not None
    desk.show(with_events(42), seconds=30)
    await terminal.wait_for("e0e", f"{int(before[1]) + 12} newer ↑")
    desk.show(with_events(42), seconds=61)
    await terminal.wait_for("e41e", without="newer ↑")

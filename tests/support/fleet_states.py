"""A fixed fleet, and a source of it that a test controls."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from tests.support.states import EPOCH, dashboard_situations
from zdd_tui.dashboard.state import PlanView, StateSource
from zdd_tui.model.fleet.rows import (
    CommandFacts,
    Fleet,
    FleetRow,
    ReleaseFacts,
    build_connecting_row,
    build_database_row,
    build_error_row,
    build_release_row,
    mark_last_known,
    mark_recent_rollbacks,
    order_rows,
)
from zdd_tui.model.release.records import Lease, ReleaseRecord
from zdd_tui.model.release.state import ReleaseState

LIVE = Lease(7, "agent", "bastion", 4711, 0.4, 3.0)
REGIONS = ReleaseFacts(("eu", "us"))
NO_FACTS = ReleaseFacts()


def situation(name: str) -> ReleaseRecord:
    record = dashboard_situations()[name].release.value
    assert record is not None
    return record


def row(
    record: ReleaseRecord, database: str, facts: ReleaseFacts = NO_FACTS, *, group: str = "", **changes: object
) -> FleetRow:
    """The row of a record, whose release gets other values."""
    return replace(build_release_row(record, facts, database=database, group=group, clock_offset=0.0), **changes)  # type: ignore[arg-type]


def ended(record: ReleaseRecord, state: ReleaseState, **changes: object) -> ReleaseRecord:
    release = replace(record.release, state=state, paused=False)
    made = replace(record, release=release, created_at=EPOCH - 4000, finished_at=EPOCH - 400, lease=None)
    return replace(made, **changes)  # type: ignore[arg-type]


def fixed_fleet() -> Fleet:
    """One row of every kind."""
    backfill, waiting, failed = (situation(name) for name in ("backfill", "open", "failed"))
    hostile = "evil[red]\x1b[2J\u202e"
    guard = CommandFacts("guard", EPOCH - 412)
    rows = [
        row(backfill, "shop-eu", REGIONS, group="shop", name="users-full-name", region="eu 1/2", region_order=0),
        row(waiting, "shop-us", REGIONS, group="shop", name="users-full-name", region="us 2/2", region_order=1),
        row(failed, "billing", group="money", name="invoice-number-to-bigint", environment="staging"),
        row(situation("paused"), "search", group="shop", name="tags", environment="test"),
        row(replace(backfill, lease=None), "stock", name="stock-of-the-day"),
        mark_last_known(row(backfill, "gone", name="orders-archive")),
        row(waiting, hostile, name=hostile, environment="test", waits_for=hostile),
        build_error_row(
            "gone", "", "production", "zdd@gone:5432/x does not respond within 3 s", "check host, port and firewall",
            answered_at=EPOCH - 65,
        ),
        build_database_row("empty", "money", "test"),
        build_connecting_row("slow", "", ""),
        row(ended(backfill, ReleaseState.DONE), "shop-eu", group="shop", name="tags-2", release_id=90),
        row(
            ended(backfill, ReleaseState.ROLLED_BACK, cause="errors 4.1 % of v2, limit 2 %"), "billing",
            ReleaseFacts(rollback=guard, rollbacks=1), name="invoice-number", release_id=92,
        ),
        row(
            ended(backfill, ReleaseState.ROLLED_BACK), "billing",
            ReleaseFacts(rollback=CommandFacts("ana", EPOCH - 900, "wrong index"), rollbacks=2), name="invoice-number",
            release_id=91,
        ),
    ]  # fmt: skip
    return Fleet(order_rows(mark_recent_rollbacks(rows, EPOCH)), 8, 1, 1)


@dataclass
class FixedFleetSource:
    """A FleetSource whose rows a test sets."""

    current: Fleet = field(default_factory=fixed_fleet)
    colours: Mapping[str, str] = field(default_factory=lambda: {"production": "red"})
    answers: dict[str, float] = field(default_factory=lambda: {"gone": EPOCH - 65})
    ends: dict[str, float] = field(default_factory=dict)
    callbacks: list[Callable[[], None]] = field(default_factory=list)
    is_reading: bool = False
    opened: list[FleetRow | str] = field(default_factory=list)
    futures: list["Future[StateSource]"] = field(default_factory=list)

    def fleet(self) -> Fleet:
        return self.current

    def answered_at(self, database: str) -> float | None:
        return self.answers.get(database)

    def lease_ends(self, row: FleetRow) -> float | None:
        return self.ends.get(row.key)

    def subscribe(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def set_fleet(self, fleet: Fleet) -> None:
        self.current = fleet
        for callback in self.callbacks:
            callback()

    def resume(self) -> None:
        self.is_reading = True

    def pause(self) -> None:
        self.is_reading = False

    def open_release(self, row: FleetRow) -> "Future[StateSource]":
        return self._open(row)

    def open_region(self, plan: PlanView, region: str) -> "Future[StateSource]":
        return self._open(region)

    def _open(self, what: FleetRow | str) -> "Future[StateSource]":
        self.opened.append(what)
        self.futures.append(Future())
        return self.futures[-1]

"""What the application needs of a fleet, and the source of a dashboard on which no release is open."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from zdd_tui.dashboard.state import DashboardState, PlanView, StateSource, UnavailableLog
from zdd_tui.model.activity import StopRequest
from zdd_tui.model.errors import ZddError
from zdd_tui.model.fleet.rows import Fleet, FleetRow
from zdd_tui.model.queries import LogQuery, LogTail, LogView, Query
from zdd_tui.model.release.records import CommandRequest, StoredCommand

NO_PLAN = PlanView("", "", "", "", has_backfill=False, has_flags=False, production=False)
"""While no release is open."""


class FleetSource(Protocol):
    """Reads the fleet while it is on screen, and opens releases of it."""

    colours: Mapping[str, str]
    """Colour of an environment, by its name in lower case: red, yellow, green, blue or grey."""

    def fleet(self) -> Fleet:
        """The newest snapshot. Cheap; call it from any thread."""
        ...

    def answered_at(self, database: str) -> float | None:
        """When a database was last read, by its name: seconds since the epoch by this machine's clock; None for never.

        It changes with every answer, a snapshot only with what the rows say. Cheap; call it from any thread.
        """
        ...

    def lease_ends(self, row: FleetRow) -> float | None:
        """When the lease of a release's agent ends unless it is renewed; times and threads as :meth:`answered_at`."""
        ...

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Calls back, from another thread, when :meth:`fleet` has changed."""
        ...

    def resume(self) -> None:
        """Reads now, and then again and again."""
        ...

    def pause(self) -> None:
        """Stops reading; the sessions are closed."""
        ...

    def open_release(self, row: FleetRow) -> "Future[StateSource]":
        """Opens a release. The source that was opened before ends. The future fails with a ZddError."""
        ...

    def open_region(self, plan: PlanView, region: str) -> "Future[StateSource]":
        """Opens the release of another region of a plan; else as :meth:`open_release`."""
        ...


class NoRelease:
    """A :class:`zdd_tui.dashboard.state.StateSource` while no release is open."""

    def __init__(self) -> None:
        self._state = DashboardState(NO_PLAN)

    def state(self) -> DashboardState:
        return self._state

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Nothing changes."""

    def send_command(self, request: CommandRequest) -> "Future[StoredCommand]":
        return _failed()

    def stop_session(self, request: StopRequest) -> "Future[bool]":
        return _failed()

    def run_doctor(self) -> None:
        """There is nothing to examine."""

    def start_agent(self) -> None:
        """There is nothing to run."""

    def fetch(self, query: Query[Any]) -> "Future[Any]":
        return _failed()

    def follow_log(self, query: LogQuery) -> LogTail:
        return UnavailableLog(LogView(state="lost", error="no release is open", hint="press Enter on a release"))


def _failed() -> "Future[Any]":
    failed: Future[Any] = Future()
    failed.set_exception(ZddError("no release is open", "press Enter on a release"))
    return failed

"""The board: one immutable snapshot of everything that the screens show, with the age of every source.

Feeds assemble it (:mod:`zdd_tui.dashboard.live_source`); screens only read it. Times called ``now`` are
monotonic seconds of this machine unless they say otherwise.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from zdd_tui.model.actions import default_keys
from zdd_tui.model.environment import is_production
from zdd_tui.model.flag import FlagValue
from zdd_tui.model.production_lock import UNLOCK_SECONDS, UNRESTRICTED, ProductionLock
from zdd_tui.model.queries import ChangeView, LogQuery, LogTail, Query, RuleView
from zdd_tui.model.release.records import CommandRequest, ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import CommandKind, Precondition
from zdd_tui.model.workload.rollout import WorkloadSnapshot

if TYPE_CHECKING:
    from zdd_tui.model.doctor import Report  # its rules are for later than the first paint

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

RELEASE_STALE_SECONDS = 5.0
"""Seconds; the store is read once a second at least, and several times while things move."""

FLAGS_STALE_SECONDS = 5.0
"""Seconds; flags are read once a second."""

PODS_STALE_SECONDS = 15.0
"""Seconds without a sign of life from the cluster."""


@dataclass(frozen=True, slots=True)
class Observed(Generic[T_co]):
    """A value with the age of its source.

    Attributes:
        value: the last known one; None before the first.
        observed_at: monotonic seconds at which the source last confirmed it. No difference by itself: screens draw ages
            by their own clock.
        error: why it cannot be had newer, in one line; empty while all is well.
        hint: what to do about the error.
    """

    value: T_co | None = None
    observed_at: float | None = field(default=None, compare=False)
    error: str = ""
    hint: str = ""

    def age(self, now: float) -> float | None:
        return None if self.observed_at is None else max(0.0, now - self.observed_at)

    def is_stale(self, now: float, limit: float) -> bool:
        age = self.age(now)
        return age is None or age > limit


@dataclass(frozen=True, slots=True)
class PlanView:
    """What screens show of a plan; nothing secret.

    Attributes:
        target: deployment and where it runs, such as ``users-api@shop``.
        database: where the `zdd` schema lives, as ``user@host:port/db``.
        has_backfill: the strategy moves old rows.
        has_flags: the release has flags.
        rule_names: names of the guard's rules; empty without a guard.
        guard_rules: what those rules ask; empty in a recording that is older than this.
        new_image: of a strategy that brings one image: that one; every other is old.
        deployment_roles: where pods of two Deployments serve: the word for each, and its name; the first is always there.
        is_blue_green: one of the two has all the traffic, the other stands warm.
        change: of a strategy that changes the schema: both sides.
        region: of a plan with several regions, this one with its place in their order, such as ``eu-1 1/2``.
        commands_needing_reason: commands that the plan wants a reason for.
        unlock_seconds: how long an unlock of production lasts.
    """

    name: str
    strategy: str
    environment: str
    target: str
    database: str = ""
    cluster: str = ""
    flags: str = ""
    has_backfill: bool = True
    has_flags: bool = True
    rule_names: tuple[str, ...] = ()
    new_image: str = ""
    deployment_roles: tuple[tuple[str, str], ...] = ()
    is_blue_green: bool = False
    change: ChangeView | None = None
    region: str = ""
    commands_needing_reason: tuple[str, ...] = ()
    unlock_seconds: float = UNLOCK_SECONDS
    guard_rules: tuple[RuleView, ...] = ()
    production: bool | None = None

    @property
    def is_production(self) -> bool:
        return is_production(self.environment, self.production)


@dataclass(frozen=True, slots=True)
class FlagView:
    """One flag of the release.

    Attributes:
        role: ``write`` or ``read``.
        value: None where the flag does not exist or cannot be understood.
        problem: what is wrong with the stored value, else empty.
        owner: who answers for it, or empty.
        expires: the day on which it should be gone, such as ``2027-01-31``, or empty.
        changed_at: when this dashboard saw it change, in seconds since the epoch by this machine's clock.
    """

    key: str
    role: str
    value: FlagValue | None
    problem: str = ""
    owner: str = ""
    expires: str = ""
    changed_at: float | None = None


@dataclass(frozen=True, slots=True)
class DashboardState:
    """One snapshot.

    Attributes:
        previews: what each command would run now, line by line.
        doctor_report: the last examination, if one was asked for.
        is_doctor_running: one is under way.
        second_workload: the second Deployment of a canary or of blue/green; no value while it does not exist.
    """

    plan: PlanView
    release: Observed[ReleaseRecord] = Observed()
    workload: Observed[WorkloadSnapshot] = Observed()
    flags: Observed[tuple[FlagView, ...]] = Observed()
    previews: Mapping[CommandKind, tuple[str, ...]] = field(default_factory=dict)
    doctor_report: "Observed[Report]" = Observed()
    is_doctor_running: bool = False
    second_workload: Observed[WorkloadSnapshot] = Observed()

    def server_now(self, now: float) -> float | None:
        """The database's clock, carried on from the last reading; None before the first."""
        record, age = self.release.value, self.release.age(now)
        return None if record is None or age is None else record.now + age

    def build_precondition(self) -> Precondition | None:
        """What an operator who looks at this board would confirm."""
        if self.release.value is None:
            return None
        release = self.release.value.release
        seen = [source.value.deployment for source in (self.workload, self.second_workload) if source.value is not None]
        objects = tuple((view.name, view.uid) for view in seen if view is not None)
        return Precondition(release.plan_hash, release.state, release.phase, objects)


class StateSource(Protocol):
    """Where the application gets its boards, and where its commands go."""

    def state(self) -> DashboardState:
        """The newest board; cheap, from any thread."""
        ...

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Calls back, from another thread, whenever :meth:`state` has something new."""
        ...

    def send_command(self, request: CommandRequest) -> "Future[StoredCommand]":
        """Queues a command; the future ends when the agent has answered it, or with a ZddError."""
        ...

    def run_doctor(self) -> None:
        """Asks the doctor to look; a later board has what it found. Cheap, from any thread."""
        ...

    def fetch(self, query: "Query[T]") -> "Future[T]":
        """Fetches what a detail screen shows; the future ends with it, or with a ZddError. Cheap, from any thread."""
        ...

    def follow_log(self, query: LogQuery) -> LogTail:
        """Follows a log until the tail is closed; whoever opens one closes it. Cheap, from any thread."""
        ...


class Clock(Protocol):
    """Time, so that tests can hold it still."""

    def monotonic(self) -> float: ...

    def wall(self) -> float:
        """Seconds since the epoch."""
        ...

    def time_of_day(self, at: float) -> str:
        """``14:02:11`` in the operator's time zone, for seconds since the epoch."""
        ...


@dataclass(frozen=True, slots=True)
class RenderContext:
    """When and by whom a board is looked at.

    Attributes:
        now: monotonic seconds.
        wall: seconds since the epoch.
        production_lock: what the operator may change.
        key_names: what each action's key is called, by the action's id.
    """

    now: float
    wall: float
    clock: Clock
    production_lock: ProductionLock = UNRESTRICTED
    key_names: Mapping[str, str] = field(default_factory=default_keys)

    @classmethod
    def at_clock(
        cls, clock: Clock, access: ProductionLock = UNRESTRICTED, keys: Mapping[str, str] | None = None
    ) -> "RenderContext":
        return cls(clock.monotonic(), clock.wall(), clock, access, keys or default_keys())

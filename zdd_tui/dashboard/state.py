"""The dashboard state: one immutable snapshot of everything that the screens show, with the age of every source.

:mod:`zdd_tui.dashboard.live_source` builds it; screens only read it. Times called ``now`` are monotonic seconds of this
machine unless documented otherwise.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from zdd_tui.model.actions import default_keys
from zdd_tui.model.activity import StopRequest
from zdd_tui.model.agent_start import AgentStart
from zdd_tui.model.flag import FlagValue
from zdd_tui.model.production_lock import UNLOCK_SECONDS, UNRESTRICTED, ProductionLock, is_production
from zdd_tui.model.queries import ChangeView, LogQuery, LogTail, LogView, Query, RuleView
from zdd_tui.model.release.claims import (
    FRESH_SECONDS,
    RECONNECT_SECONDS,
    Activity,
    SourceHealth,
    SourceStatus,
    assess_agent,
    assess_agent_activity,
    assess_queried_metrics,
    assess_source,
    metrics_answered_at,
    metrics_limit,
    required_sources,
)
from zdd_tui.model.release.delivery import Delivery
from zdd_tui.model.release.records import CommandRequest, ReleaseRecord, StoredCommand
from zdd_tui.model.release.state import CommandKind, Precondition
from zdd_tui.model.release.system import System
from zdd_tui.model.workload.drain import DatabaseSessions
from zdd_tui.model.workload.rollout import WorkloadSnapshot

if TYPE_CHECKING:
    from zdd_tui.model.doctor import Report  # its rules are imported after the first paint

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

RELEASE_STALE_SECONDS = FLAGS_STALE_SECONDS = PODS_STALE_SECONDS = FRESH_SECONDS
"""Store and flags are read once a second; an idle watch of the cluster is renewed every two."""


@dataclass(frozen=True, slots=True)
class Observed(Generic[T_co]):
    """A value with the age of its source.

    Attributes:
        value: the last known value; None before the first reading.
        observed_at: monotonic seconds at which the source last confirmed it. Not compared: screens compute ages with
            their own clock.
        error: why there is no newer value, in one line; empty without an error.
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
    """What screens show of a plan. It holds no secrets.

    Attributes:
        target: deployment and where it runs, such as ``users-api@shop``.
        database: where the `zdd` schema lives, as ``user@host:port/db``.
        has_backfill: the strategy moves old rows, whatever its operations are.
        has_flags: the release has flags.
        has_workload: the release rolls out an image on a Deployment.
        rule_names: names of the guard's rules; empty without a guard.
        new_image: the image that a strategy with one new image rolls out; every other image is old.
        newest_image: the last image that the release rolls out; of expand/contract it knows only the new side.
        deployment_roles: role and name of each of two Deployments, such as ``("blue", "users-api")``; the first one
            always exists. Empty for a strategy with one Deployment.
        is_blue_green: one of the two Deployments has all the traffic, the other is standby.
        change: both sides of a schema change; None for a strategy without one.
        region: name and position in the order of regions, such as ``eu-1 1/2``; empty without regions.
        region_names: of all regions, in order.
        commands_needing_reason: commands for which the plan requires a reason.
        unlock_seconds: duration of an unlock of production.
        file: the plan's file for a command line, with its region; empty where it is not known.
        agent_command: the line that starts an agent for the plan's file; empty where the file is not known.
        guard_rules: query and limits of each rule.
        weight_source: of a canary, what sets its weight: ``replicas``, ``flag`` or ``gateway``; else empty.
        queried_rules: names of the rules that query a Prometheus server, with the seconds between two evaluations.
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
    has_workload: bool = True
    rule_names: tuple[str, ...] = ()
    new_image: str = ""
    newest_image: str = ""
    deployment_roles: tuple[tuple[str, str], ...] = ()
    is_blue_green: bool = False
    change: ChangeView | None = None
    region: str = ""
    commands_needing_reason: tuple[str, ...] = ()
    unlock_seconds: float = UNLOCK_SECONDS
    file: str = ""
    agent_command: str = ""
    guard_rules: tuple[RuleView, ...] = ()
    production: bool | None = None
    queried_rules: Mapping[str, float] = field(default_factory=dict)
    region_names: tuple[str, ...] = ()
    weight_source: str = ""

    def region_beside(self, step: int) -> str:
        """The region so many places after this one; empty where there is none."""
        name = self.region.split(" ")[0]
        at = self.region_names.index(name) + step if name in self.region_names else -1
        return self.region_names[at] if 0 <= at < len(self.region_names) else ""

    @property
    def is_production(self) -> bool:
        return is_production(self.environment, self.production)


@dataclass(frozen=True, slots=True)
class FlagView:
    """One flag of the release.

    Attributes:
        role: ``write`` or ``read``.
        value: None if the flag does not exist or its value is invalid.
        problem: why the stored value is invalid, or empty.
        owner: team or person, or empty.
        expires: the day by which it should be removed, such as ``2027-01-31``, or empty.
        changed_at: last change that this dashboard saw, in seconds since the epoch by this machine's clock.
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
        blocks: the lines of blocks that are shortened in `previews`, by the title that stands for them.
        doctor_report: the last examination of this session.
        is_doctor_running: an examination is running.
        second_workload: the second Deployment of a canary or blue/green release; no value while it does not exist.
        delivery: of the newest command that this dashboard sends; None before the first.
        agent_start: the agent that this dashboard has started; None where it has started none.
        sessions: of the database, by client; read only while a pod leaves.
        route_weight: percentage of the requests that the HTTPRoute gives to the canary; only where it sets the weight.
    """

    plan: PlanView
    release: Observed[ReleaseRecord] = Observed()
    workload: Observed[WorkloadSnapshot] = Observed()
    flags: Observed[tuple[FlagView, ...]] = Observed()
    previews: Mapping[CommandKind, tuple[str, ...]] = field(default_factory=dict)
    blocks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    doctor_report: "Observed[Report]" = Observed()
    is_doctor_running: bool = False
    second_workload: Observed[WorkloadSnapshot] = Observed()
    delivery: Delivery | None = None
    agent_start: AgentStart | None = None
    sessions: Observed[DatabaseSessions] = Observed()
    route_weight: Observed[float] = Observed()

    @property
    def workloads(self) -> list[WorkloadSnapshot]:
        """The Deployments that are known: the first one, then the second one of a canary or blue/green release."""
        return [source.value for source in (self.workload, self.second_workload) if source.value is not None]

    @property
    def pod_watches(self) -> tuple[Observed[WorkloadSnapshot], ...]:
        """What watches the pods: of the first Deployment, and of the second one of a canary or blue/green release."""
        return (self.workload, self.second_workload)[: max(1, len(self.plan.deployment_roles))]

    def watch_of_pod(self, name: str) -> Observed[WorkloadSnapshot]:
        """The watch by which a pod is known; of an unknown pod that of the first Deployment."""
        second = self.second_workload.value
        is_of_second = second is not None and any(pod.name == name for pod in (*second.pods, *second.gone))
        return self.second_workload if is_of_second else self.workload

    @property
    def has_backfill(self) -> bool:
        """Whether the release writes rows in batches; of operations only the stored strategy says it."""
        record = self.release.value
        return self.plan.has_backfill or (record is not None and record.plan_limits is not None)

    def server_now(self, now: float) -> float | None:
        """The database's clock in seconds since the epoch, extrapolated from the last reading; None before one."""
        record, age = self.release.value, self.release.age(now)
        return None if record is None or age is None else record.now + age

    def activity(self, now: float) -> Activity:
        """Whether an agent is known to work on the release."""
        record, age = self.release.value, self.release.age(now)
        if record is None or age is None:
            return Activity(is_active=False, is_known=False, idle_seconds=None)
        return assess_agent_activity(record, age, self.release.error)

    def health(self, now: float) -> tuple[SourceHealth, ...]:
        """Every source of the release, in the order of the health line."""
        record, activity = self.release.value, self.activity(now)
        required = required_sources(record) if record is not None else frozenset(System)

        def assess(name: System, source: Observed[object]) -> SourceHealth:
            return assess_source(name, source.age(now), source.error, source.hint, is_required=name in required)

        found = [assess(System.POSTGRESQL, self.release)]
        if self.plan.has_flags:
            found.append(assess(System.REDIS, self.flags))
        if self.plan.has_workload:
            each = [assess(System.KUBERNETES, watch) for watch in self.pod_watches]
            found.append(max(each, key=lambda health: (health.status is not SourceStatus.FRESH, health.age or 0.0)))
        server_now = self.server_now(now)
        if self.plan.queried_rules and record is not None and server_now is not None:
            found.append(assess_queried_metrics(record, self.plan.queried_rules, server_now, activity))
        return (*found, assess_agent(record, activity))

    def _current_until(self) -> Iterator[float]:
        """Until when each source that was read, and the agent, counts as current, in monotonic seconds."""
        for source in (self.release, self.flags, self.workload, self.second_workload):
            if source.observed_at is not None:
                yield source.observed_at + (RECONNECT_SECONDS if source.error else FRESH_SECONDS)
        record, read_at = self.release.value, self.release.observed_at
        if record is None or read_at is None:
            return
        if record.lease is not None:
            yield read_at + record.lease.ttl - record.lease.age
        rules = self.plan.queried_rules
        if rules and (answered_at := metrics_answered_at(record, rules)) is not None:
            yield read_at + answered_at - record.now + metrics_limit(record, rules)

    def seconds_until_expiry(self, now: float) -> float | None:
        """Seconds until the next source, or the agent, stops being current; None where none is."""
        return min((end - now for end in self._current_until() if end >= now), default=None)

    def current_sources(self, now: float) -> tuple[bool, ...]:
        """Which of them are current: when this changes, everything that was drawn with the state is outdated."""
        return tuple(end >= now for end in self._current_until())

    def lost_sources(self, now: float) -> tuple[SourceHealth, ...]:
        """The lost sources on which the release relies now."""
        return tuple(each for each in self.health(now) if each.is_required and each.status is SourceStatus.LOST)

    def lost_systems(self, now: float) -> tuple[SourceHealth, ...]:
        """The lost systems on which the release relies now, without PostgreSQL and the agent."""
        return tuple(each for each in self.all_lost_systems(now) if each.is_required)

    def all_lost_systems(self, now: float) -> tuple[SourceHealth, ...]:
        """The lost systems, without PostgreSQL and the agent, which have lines of their own on screen."""
        own_lines = (System.POSTGRESQL, System.AGENT)
        lost = (each for each in self.health(now) if each.status is SourceStatus.LOST)
        return tuple(each for each in lost if each.name not in own_lines)

    @property
    def is_not_started(self) -> bool:
        """The database was read, and has no release of the plan: nothing has failed."""
        return self.release.value is None and self.release.observed_at is not None

    def build_precondition(self) -> Precondition | None:
        """What an operator who sees this state confirms; None before the first reading of the release."""
        if self.release.value is None:
            return None
        release = self.release.value.release
        seen = (workload.deployment for workload in self.workloads)
        objects = tuple((view.name, view.uid) for view in seen if view is not None)
        return Precondition(release.plan_hash, release.state, release.phase, objects)


@dataclass(frozen=True, slots=True)
class UnavailableLog:
    """In place of a followed log: the reason why there is none."""

    view: LogView

    def snapshot(self) -> LogView:
        return self.view

    def close(self) -> None:
        """Does nothing."""


class StateSource(Protocol):
    """Provides the states of the application, and accepts its commands."""

    def state(self) -> DashboardState:
        """The newest state. Cheap; call it from any thread."""
        ...

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Calls back, from another thread, when :meth:`state` has changed."""
        ...

    def send_command(self, request: CommandRequest) -> "Future[StoredCommand]":
        """Queues a command; the future ends with the agent's result or with a ZddError."""
        ...

    def stop_session(self, request: StopRequest) -> "Future[bool]":
        """Stops a session of the database; the future ends with whether it was signalled, or with a ZddError."""
        ...

    def run_doctor(self) -> None:
        """Starts an examination; a later state has its report. Cheap; call it from any thread."""
        ...

    def start_agent(self) -> None:
        """Starts an agent on this machine; later states say what became of it. Cheap; call it from any thread."""
        ...

    def fetch(self, query: "Query[T]") -> "Future[T]":
        """Runs a query of a detail screen; the future ends with its result or a ZddError. Call it from any thread."""
        ...

    def follow_log(self, query: LogQuery) -> LogTail:
        """Follows a log until the caller closes the tail. Cheap; call it from any thread."""
        ...


class Clock(Protocol):
    """Time; tests replace it."""

    def monotonic(self) -> float: ...

    def wall(self) -> float:
        """Seconds since the epoch."""
        ...

    def time_of_day(self, at: float) -> str:
        """``14:02:11`` in the operator's time zone, for seconds since the epoch."""
        ...


@dataclass(frozen=True, slots=True)
class RenderContext:
    """When a state is rendered, and for which operator.

    Attributes:
        now: monotonic seconds.
        wall: seconds since the epoch.
        production_lock: what the operator may change.
        key_names: display name of each action's key, by the action's id.
        has_fleet: this dashboard can open other releases.
    """

    now: float
    wall: float
    clock: Clock
    production_lock: ProductionLock = UNRESTRICTED
    key_names: Mapping[str, str] = field(default_factory=default_keys)
    has_fleet: bool = False

    @classmethod
    def at_clock(
        cls,
        clock: Clock,
        lock: ProductionLock = UNRESTRICTED,
        keys: Mapping[str, str] | None = None,
        *,
        has_fleet: bool = False,
    ) -> "RenderContext":
        return cls(clock.monotonic(), clock.wall(), clock, lock, keys or default_keys(), has_fleet)

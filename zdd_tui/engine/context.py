"""The context of a step or gate: the backends of the release, and the handle of the running step."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.workload_cache import WorkloadCache
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS, Connection
from zdd_tui.backends.read_scope import CachedReading
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.plan.base import Backfill, BasePlan, Plan, WorkloadPlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import StepRecord
from zdd_tui.model.tuning import Tuning, effective_limits, limits_of_table, plan_limits

PlanT = TypeVar("PlanT", bound=BasePlan)


POOL_RELEASE_TIMEOUT = 5.0
"""Seconds: after a failover the old server never confirms the cancellation of a query."""


@dataclass(slots=True)
class Context:
    """The backends of one release, in the agent that holds the lease.

    Attributes:
        flag_store: None for a plan without flags.
        cluster_client: None for a plan without a Deployment.
        is_paused: returns whether the release is paused now.
        log: writes a line to the agent's log.
        tuning: returns the limits of the backfill that the operator has changed.
        paused_tables: returns the tables whose backfill is paused by itself, by their short names.
        workload_cache: the Deployments of the release as gates read them; None without a Deployment.
        removed_use: the last result of the gate removed-unused.
    """

    plan: BasePlan
    store: AgentStore
    flag_store: FlagStore | None
    cluster_client: Cluster | None
    is_paused: Callable[[], bool]
    log: Callable[[str], None]
    tuning: Callable[[], Tuning] = tuple
    paused_tables: Callable[[], frozenset[str]] = frozenset
    workload_cache: WorkloadCache | None = field(default=None, init=False)
    removed_use: CachedReading[tuple[Verdict, str]] = field(default_factory=CachedReading, init=False)
    _catalog: Catalog | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if isinstance(self.plan, WorkloadPlan) and self.cluster_client is not None:
            self.workload_cache = WorkloadCache(self.cluster_client, self.plan.kubernetes.container)

    @property
    def epoch(self) -> int:
        return self.store.epoch

    @property
    def flags(self) -> FlagStore:
        """The flag store, for steps and gates of strategies with flags."""
        assert self.flag_store is not None, f"{self.plan.strategy} plan without flags"
        return self.flag_store

    @property
    def cluster(self) -> Cluster:
        """The cluster, for steps and gates that work on a Deployment."""
        assert self.cluster_client is not None, f"{self.plan.strategy} plan without a Deployment"
        return self.cluster_client

    @property
    def workloads(self) -> WorkloadCache:
        assert self.workload_cache is not None, f"{self.plan.strategy} plan without a Deployment"
        return self.workload_cache

    @property
    def workload_plan(self) -> WorkloadPlan:
        """The plan, for the steps and gates that work on a Deployment."""
        return self.plan_of_type(WorkloadPlan)

    @property
    def expand_contract_plan(self) -> Plan:
        """The plan, for the steps and gates of expand/contract."""
        return self.plan_of_type(Plan)

    def current_limits(self, table: str = "") -> Backfill:
        """The effective limits of the backfill: the plan's, with the changes of the operator.

        Args:
            table: the one that is filled now, as SQL, whose own limits count, too.
        """
        limits = plan_limits(self.plan)
        assert limits is not None, f"{self.plan.strategy} plan without a backfill"
        return limits_of_table(effective_limits(limits, self.tuning()), table)

    def plan_of_type(self, kind: type[PlanT]) -> PlanT:
        """The plan with the type of its strategy. Another type is a bug: the step belongs to another strategy."""
        assert isinstance(self.plan, kind), f"{type(self.plan).__name__} is not a {kind.__name__}"
        return self.plan

    @asynccontextmanager
    async def read_connection(self) -> AsyncIterator[Connection]:
        """A connection for reads, without a fence."""
        conn = await self.store.pool.acquire()
        try:
            yield conn
        finally:
            with suppress(*CONNECTION_ERRORS):
                await self.store.pool.release(conn, timeout=POOL_RELEASE_TIMEOUT)

    async def catalog(self, *, fresh: bool = False) -> Catalog:
        """The catalog of the plan's tables. Pass ``fresh`` to read it again, as after a change of the schema."""
        if self._catalog is None or fresh:
            async with self.read_connection() as conn:
                self._catalog = await read_catalog(conn, self.expand_contract_plan)
        return self._catalog

    async def check_lease(self) -> None:
        """Raises StaleEpoch unless this agent still holds the lease.

        Called right before an effect that cannot be in one transaction with its fence.
        """
        await self.store.check_lease()


class StepHandle:
    """One running step: its stored detail, its progress note and its record.

    Args:
        value: of the strategy's step, such as a weight in percent.
        is_undo: the step is being undone.
        write_done: writes the step's end. It may be called in the transaction of the step's effect; both then commit
            together.
    """

    def __init__(
        self,
        stored: StepRecord,
        *,
        value: int | None = None,
        is_undo: bool = False,
        write_note: Callable[[str], Awaitable[None]],
        write_detail: Callable[[dict[str, Any]], Awaitable[None]],
        write_done: Callable[[Connection, dict[str, Any]], Awaitable[None]],
    ) -> None:
        self.name = stored.name
        self.value = value
        self.retry_command = "zdd rollback PLAN" if is_undo else "zdd advance PLAN, or zdd rollback PLAN"
        """What an operator can do after a failure; a rollback that failed cannot be advanced."""
        self.detail: dict[str, Any] = dict(stored.require_detail())
        self._last_note = stored.note
        self._write_note = write_note
        self._write_detail = write_detail
        self._write_done = write_done

    async def set_note(self, text: str) -> None:
        """Shows on the screens what the step does now. Written only when it changes."""
        if text != self._last_note:
            self._last_note = text
            await self._write_note(text)

    async def save_detail(self, **facts: Any) -> None:
        """Saves what the undo needs. Call it before the effect, so that a crash in between loses nothing."""
        self.detail |= facts
        await self._write_detail(self.detail)

    async def record_done(self, conn: Connection, **facts: Any) -> None:
        """Writes the step's end, and facts for its undo, in the transaction of its effect."""
        self.detail |= facts
        await self._write_done(conn, self.detail)

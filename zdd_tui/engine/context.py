"""What a step or a gate has to work with."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS, Connection
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.plan.base import Backfill, BasePlan, Plan
from zdd_tui.model.release.records import StepRecord
from zdd_tui.model.tuning import Tuning, effective_limits

PlanT = TypeVar("PlanT", bound=BasePlan)


POOL_RELEASE_TIMEOUT = 5.0


@dataclass(slots=True)
class Context:
    """The backends of one release, as the agent that holds the lease sees them.

    Attributes:
        flag_store: None where the plan has no flags.
        is_paused: tells whether the operator has paused the release.
        log: takes a line for the agent's log.
        tuning: tells which limits of the backfill the operator has changed.
    """

    plan: BasePlan
    store: AgentStore
    flag_store: FlagStore | None
    cluster: Cluster
    is_paused: Callable[[], bool]
    log: Callable[[str], None]
    tuning: Callable[[], Tuning] = tuple
    _catalog: Catalog | None = field(default=None, init=False)

    @property
    def epoch(self) -> int:
        return self.store.epoch

    @property
    def flags(self) -> FlagStore:
        """For steps and gates of strategies that have flags."""
        assert self.flag_store is not None, f"{self.plan.strategy} plan without flags"
        return self.flag_store

    @property
    def expand_contract_plan(self) -> Plan:
        """For the steps and gates of expand/contract."""
        return self.plan_of_type(Plan)

    def current_limits(self) -> Backfill:
        """The limits of the backfill that hold now: the plan's, as far as no operator has changed them."""
        return effective_limits(self.expand_contract_plan.backfill, self.tuning())

    def plan_of_type(self, kind: type[PlanT]) -> PlanT:
        """The plan as its strategy's steps and gates know it; a step of another strategy is a defect of ours."""
        assert isinstance(self.plan, kind), f"{type(self.plan).__name__} is no {kind.__name__}"
        return self.plan

    @asynccontextmanager
    async def read_connection(self) -> AsyncIterator[Connection]:
        """A connection for looking, outside of any fence."""
        conn = await self.store.pool.acquire()
        try:
            yield conn
        finally:
            # With a limit: after a failover the old server never answers the cancel of what was asked of it.
            with suppress(*CONNECTION_ERRORS):
                await self.store.pool.release(conn, timeout=POOL_RELEASE_TIMEOUT)

    async def catalog(self, *, fresh: bool = False) -> Catalog:
        """The facts about the tables; read anew after every change of the schema."""
        if self._catalog is None or fresh:
            async with self.read_connection() as conn:
                self._catalog = await read_catalog(conn, self.expand_contract_plan)
        return self._catalog

    async def check_lease(self) -> None:
        """Raises StaleEpoch unless the lease is still ours. Called right before an effect that PostgreSQL
        cannot put into the same transaction as its fence."""
        await self.store.check_lease()


class StepHandle:
    """One running step: its stored detail, its progress note, and its record.

    ``value`` is the strategy's, such as a weight in percent. ``write_done`` may be called inside the transaction that has
    the step's effect; then both commit together.
    """

    def __init__(
        self,
        stored: StepRecord,
        *,
        value: int | None = None,
        write_note: Callable[[str], Awaitable[None]],
        write_detail: Callable[[dict[str, Any]], Awaitable[None]],
        write_done: Callable[[Connection, dict[str, Any]], Awaitable[None]],
    ) -> None:
        self.name = stored.name
        self.value = value
        self.detail: dict[str, Any] = dict(stored.detail)
        self._last_note = stored.note
        self._write_note = write_note
        self._write_detail = write_detail
        self._write_done = write_done

    async def set_note(self, text: str) -> None:
        """What the step is doing now, for the screens; written only when it changes."""
        if text != self._last_note:
            self._last_note = text
            await self._write_note(text)

    async def save_detail(self, **facts: Any) -> None:
        """Keeps what the undo will need. Called before the effect, so that a crash in between loses nothing."""
        self.detail |= facts
        await self._write_detail(self.detail)

    async def record_done(self, conn: Connection, **facts: Any) -> None:
        """Writes the step's end, and facts for its undo, inside the transaction of its effect."""
        self.detail |= facts
        await self._write_done(conn, self.detail)

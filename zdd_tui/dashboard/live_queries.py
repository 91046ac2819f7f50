"""Runs the queries of detail screens in the live source's thread. It connects to the cluster at the first query."""

import asyncio
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from zdd_tui.dashboard.live_views import describe_error
from zdd_tui.model.activity import ActivityQuery
from zdd_tui.model.errors import ClusterError, DatabaseError, PlanError, ZddError
from zdd_tui.model.fleet.stored import require_known_cluster
from zdd_tui.model.log_buffer import LogBuffer
from zdd_tui.model.masking import mask_secrets, mask_text
from zdd_tui.model.plan.base import BasePlan, Plan, WorkloadPlan
from zdd_tui.model.plan.strategies import DarkLaunchPlan
from zdd_tui.model.queries import (
    AuditLogQuery,
    BackfillDetail,
    BackfillQuery,
    LogQuery,
    LogView,
    MetricHistoryQuery,
    ObjectQuery,
    PlanQuery,
    PlanText,
    Query,
)
from zdd_tui.model.rollback import RollbackQuery
from zdd_tui.model.shadow import ShadowQuery, ShadowSamples

if TYPE_CHECKING:
    from zdd_tui.backends.kubernetes.cluster import Cluster
    from zdd_tui.backends.kubernetes.shadow_logs import ShadowReader
    from zdd_tui.backends.store.client import Store

T = TypeVar("T")

DISCONNECTED_LOG = LogView(state="lost", error="the cluster is not connected yet", hint="wait a moment and retry")
"""The log while the thread does not run."""

NOT_CONNECTED = ("the database is not connected yet", "wait a moment and retry")


def failed_future() -> "Future[Any]":
    """The result while the thread does not run."""
    failed: Future[Any] = Future()
    failed.set_exception(DatabaseError(*NOT_CONNECTED))
    return failed


class LiveQueries:
    """Everything that is read on demand. All methods but :meth:`follow_log` are for the live source's loop.

    Args:
        path: of the plan's file; empty if unknown.
    """

    def __init__(self, plan: BasePlan, path: str = "") -> None:
        self._plan = plan
        self._path = path
        self._stack = AsyncExitStack()
        self._cluster: Cluster | None = None
        self._connecting = asyncio.Lock()
        self.tails: set[_LiveLogTail] = set()
        """The followed logs."""
        self._shadow: ShadowReader | None = None

    async def execute(self, query: Query[T], store: "Store | None", release_id: int | None) -> T:
        """The result of a query.

        Raises:
            ZddError: it is unavailable.
        """
        try:
            return cast(T, await self._execute(query, store, release_id))
        except ZddError:
            raise
        except Exception as error:
            raise DatabaseError(*describe_error("details", error)) from None

    async def _execute(self, query: Query[Any], store: "Store | None", release_id: int | None) -> Any:
        if isinstance(query, ObjectQuery):
            from zdd_tui.backends.kubernetes.detail import read_object_detail  # noqa: PLC0415  # slow: when needed

            return await read_object_detail(await self.connect_cluster(), query)
        if isinstance(query, ShadowQuery):
            return await self._read_shadow_samples()
        if store is None or release_id is None:
            raise DatabaseError(*NOT_CONNECTED)
        from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS, translate_error  # noqa: PLC0415

        try:
            return await self._query_database(query, store, release_id)
        except CONNECTION_ERRORS as error:
            raise translate_error(error, self._plan.database.dsn.get_secret_value()) from None

    async def _query_database(self, query: Query[Any], store: "Store", release_id: int) -> Any:
        from zdd_tui.backends.postgres.activity import read_activity  # noqa: PLC0415  # slow: when needed
        from zdd_tui.backends.store import detail as store_detail  # noqa: PLC0415
        from zdd_tui.backends.store.rollback import read_rollback_history  # noqa: PLC0415

        match query:
            case AuditLogQuery():
                return await store_detail.read_audit_log(store.pool, release_id, query.limit)
            case PlanQuery():
                return await asyncio.to_thread(
                    _with_plan_file, await store_detail.read_stored_plan(store.pool, release_id), self._path
                )
            case MetricHistoryQuery():
                return await store_detail.read_metric_history(store.pool, release_id)
            case BackfillQuery():
                if not isinstance(self._plan, Plan):
                    return BackfillDetail(explain_error="this strategy moves no rows")
                dsn = self._plan.database.dsn.get_secret_value()
                return await store_detail.read_backfill_detail(store.pool, release_id, self._plan, dsn)
            case ActivityQuery():
                async with store.pool.acquire() as connection:
                    return await read_activity(connection, self._plan)
            case RollbackQuery():
                return await read_rollback_history(store.pool, release_id, self._plan)
        raise TypeError(type(query).__name__)

    async def _read_shadow_samples(self) -> ShadowSamples:
        """Differences found by a dark launch; none in any other strategy."""
        if not isinstance(self._plan, DarkLaunchPlan):
            return ShadowSamples()
        if self._shadow is None:
            from zdd_tui.backends.kubernetes.shadow_logs import ShadowReader  # noqa: PLC0415

            names = self._plan.kubernetes
            self._shadow = ShadowReader(names.deployment, names.container, self._plan.dark.path)
        return await self._shadow.read(await self.connect_cluster())

    async def connect_cluster(self) -> "Cluster":
        """A connection of its own: queries of a screen must not delay the watch of the pods."""
        async with self._connecting:
            if self._cluster is None:
                from zdd_tui.backends.kubernetes.cluster import Cluster  # noqa: PLC0415

                if not isinstance(self._plan, WorkloadPlan):
                    raise ClusterError("this plan has no Deployment")
                require_known_cluster(self._plan)
                names = self._plan.kubernetes
                self._cluster = await self._stack.enter_async_context(
                    Cluster.connect(names.kubeconfig, names.context, names.namespace, check=False)
                )
            return self._cluster

    def follow_log(self, query: LogQuery, loop: asyncio.AbstractEventLoop) -> "_LiveLogTail":
        """Starts following a log. Call it from any thread."""
        container = self._plan.kubernetes.container if isinstance(self._plan, WorkloadPlan) else ""
        tail = _LiveLogTail(self, replace(query, container=query.container or container), loop)
        loop.call_soon_threadsafe(tail.start)
        return tail

    async def aclose(self) -> None:
        """Closes every followed log and the connection."""
        tails = list(self.tails)
        for tail in tails:
            tail.cancel()
        await asyncio.gather(*(tail.wait_closed() for tail in tails))
        await self._stack.aclose()


class _LiveLogTail:
    """A followed log: a task in the live source's loop, and a buffer shared with the screen's thread."""

    def __init__(self, queries: LiveQueries, query: LogQuery, loop: asyncio.AbstractEventLoop) -> None:
        self._queries = queries
        self._query = query
        self._loop = loop
        self._buffer = LogBuffer(mask_text, has_timestamps=True)
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def snapshot(self) -> LogView:
        return self._buffer.snapshot()

    def close(self) -> None:
        self._is_closed = True
        with suppress(RuntimeError):  # the loop has ended, and the task with it
            self._loop.call_soon_threadsafe(self.cancel)

    def start(self) -> None:
        if not self._is_closed:
            self._task = self._loop.create_task(self._run())
            self._queries.tails.add(self)
            self._task.add_done_callback(lambda _: self._queries.tails.discard(self))

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def wait_closed(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        from zdd_tui.backends.kubernetes.detail import follow_log  # noqa: PLC0415

        try:
            await follow_log(await self._queries.connect_cluster(), self._query, self._buffer)
        except Exception as error:
            self._buffer.set_state("ended", *describe_error("log", error))


def _with_plan_file(plan: PlanText, path: str) -> PlanText:
    """The stored plan, with the present content of the plan's file."""
    from zdd_tui.backends.files import read_text  # noqa: PLC0415

    if not path:
        return plan
    try:
        changed_at = Path(path).stat().st_mtime
        text = str(mask_secrets(read_text(path)))
    except OSError as error:
        return replace(plan, path=path, file_error=f"{path}: {error.strerror or type(error).__name__}")
    except PlanError as error:
        return replace(plan, path=path, file_error=error.title)
    return replace(plan, path=path, file=text, file_changed_at=changed_at)

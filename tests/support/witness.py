"""A release with its witness on a real server, at any point of it, without a cluster."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, cast

import asyncpg

from tests.support.schema_change import USERS, ddl, insert_rows, make_plan, open_leased_store, run_expand
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.store import witness
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.engine.context import Context
from zdd_tui.engine.continuity import DETAIL, INSTALLED_BY, watched_triggers
from zdd_tui.engine.witness import settle_recorded_rows
from zdd_tui.model.ddl import sync_statements
from zdd_tui.model.ddl.witness import create_witness_statements, extend_witness_statements
from zdd_tui.model.plan.base import DualWriteMode, Plan
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import Release, ReleaseState, StepStatus
from zdd_tui.model.release.strategies import build_strategy
from zdd_tui.model.workload.pod import PodFacts

APP = "app_role"
KINDS = ("column", "table")


class AwayCluster:
    """A cluster that does not answer."""

    async def list_pods(self, _selector: str) -> list[PodFacts]:
        raise KubeApiError("away", status=HTTPStatus.SERVICE_UNAVAILABLE)


@dataclass
class WatchedRelease:
    """The store of the agent, a superuser's connection, and the plan."""

    store: AgentStore
    admin: asyncpg.Connection
    plan: Plan
    dsn: str
    ctx: Context

    async def settle(self, *done: str, phase: str = "backfill") -> ReleaseRecord:
        """Settles recorded rows as in a release in ``phase``; ``done``: steps that are done besides create-witness."""
        await settle_recorded_rows(self.ctx, self.record(await self.store.read(), phase, *done))
        return self.record(await self.store.read(), phase, *done)

    def record(self, stored: ReleaseRecord, phase: str, *done: str) -> ReleaseRecord:
        """What is stored, with the release moved to a phase."""
        strategy = build_strategy(self.plan)
        index = [spec.name for spec in strategy.phases].index(phase)
        release = Release(self.plan.name, stored.release.plan_hash, strategy, ReleaseState.RUNNING, index)
        for name in ("create-witness", *done):
            release = release.with_status(name, StepStatus.DONE)
        return replace(stored, release=release)

    async def extend(self) -> None:
        """Cutover: the sync trigger of the new side, and the witness on both sides."""
        catalog = await read_catalog(self.admin, self.plan)
        await ddl(self.store, sync_statements(self.plan, catalog, "reverse"))
        catalog = await read_catalog(self.admin, self.plan)
        if self.plan.change.has_witness:
            await ddl(self.store, extend_witness_statements(self.plan, catalog))
        known = {step.name for step in (await self.store.read()).release.strategy.steps}
        for step in known.intersection(INSTALLED_BY):
            state = await witness.read_trigger_continuity(self.admin, watched_triggers(self.plan, step))
            await self.store.save_step_detail(step, {DETAIL: state})

    async def recorded(self) -> list[tuple[Any, ...]]:
        """New records: key, side, operation, whether it was compared."""
        rows = await self.admin.fetch("SELECT key, side, operation, is_checked FROM zdd.witness_record ORDER BY id")
        return [(row["key"], row["side"], row["operation"], row["is_checked"]) for row in rows]

    @asynccontextmanager
    async def writer(self, name: str = "reports-worker", **settings: str) -> AsyncIterator[asyncpg.Connection]:
        """A session of the application's role, which has no right in the schema zdd."""
        connection = await asyncpg.connect(self.dsn, server_settings={"application_name": name, **settings})
        await connection.execute(f"SET SESSION AUTHORIZATION {APP}")
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def watched_release(
    dsn: str, kind: str = "column", rows: int = 10, **extra: Any
) -> AsyncIterator[WatchedRelease]:
    """A release after write-flag-on: every row is copied, the witness records."""
    plan = make_plan(kind, dsn=dsn, **extra)
    admin = await asyncpg.connect(dsn)
    try:
        if await admin.fetchval("SELECT to_regclass('users') IS NULL"):
            await admin.execute(USERS)
            await insert_rows(admin, rows)
        async with open_leased_store(dsn, plan) as store:
            is_synced = plan.change.dual_write is DualWriteMode.TRIGGER
            catalog = await run_expand(store, plan, forward=is_synced)
            await admin.execute(
                f"DO $$ BEGIN IF to_regrole('{APP}') IS NULL THEN CREATE ROLE {APP}; END IF; END $$;"
                f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {APP};"
                f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {APP}"
            )
            await copy_all(admin, plan)
            if plan.change.has_witness:
                await ddl(store, create_witness_statements(plan, catalog))
                async with store.fenced() as conn:
                    xid = await conn.fetchval("SELECT pg_current_xact_id()::text")
                    await witness.start_recording(conn, store.release_id, plan.name, xid)
            cluster = cast(Cluster, AwayCluster())
            ctx = Context(plan, store, None, cluster, lambda: False, lambda _line: None)
            yield WatchedRelease(store, admin, plan, dsn, ctx)
    finally:
        await admin.close()


async def copy_all(conn: asyncpg.Connection, plan: Plan) -> None:
    """Copies every row, by a statement that shares nothing with the product's."""
    ups = plan.change.up
    if plan.change.into is None:
        sets = ", ".join(f"{name} = {expression}" for name, expression in ups.items())
        await conn.execute(f"UPDATE {plan.change.table} SET {sets}")
        return
    keys = ", ".join(f'"{name}"' for name in plan.change.key or ("id",))
    await conn.execute(
        f"INSERT INTO {plan.change.into} ({keys}, {', '.join(ups)}) SELECT {keys}, {', '.join(ups.values())}"
        f" FROM {plan.change.table}"
    )

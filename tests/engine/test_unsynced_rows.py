"""Rows that a sync trigger could not copy are copied again by the agent, and keep a gate closed until then."""

from dataclasses import replace
from typing import Any, cast

import asyncpg
import pytest

from tests.support.schema_change import (
    USERS,
    count_disagreements,
    insert_rows,
    make_plan,
    open_leased_store,
    run_expand,
)
from tests.support.witness import AwayCluster
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.registry import GATES
from zdd_tui.engine.witness import settle_recorded_rows
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import BackfillRecord, ReleaseRecord
from zdd_tui.model.release.state import Release, ReleaseState, StepStatus
from zdd_tui.model.release.strategies import build_strategy


def in_backfill(plan: Plan, stored: ReleaseRecord) -> ReleaseRecord:
    strategy = build_strategy(plan)
    index = [spec.name for spec in strategy.phases].index("backfill")
    release = Release(plan.name, stored.release.plan_hash, strategy, ReleaseState.RUNNING, index)
    verified = BackfillRecord(status="done", rows_total=20, verified=True, mismatches=0, verified_rows=20)
    return replace(stored, release=release.with_status("sync-forward", StepStatus.DONE), backfill=verified)


@pytest.mark.parametrize("kind", ["column", "table"])
async def test_a_row_is_copied_again_when_its_obstacle_is_gone(db: asyncpg.Connection, pg_dsn: str, kind: str) -> None:
    plan = make_plan(kind, "trigger", pg_dsn)
    await db.execute(USERS)
    target = "users" if kind == "column" else "people"
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, forward=True)
        await insert_rows(db, 20)
        assert await count_disagreements(db, kind) == []
        # The function itself is broken for a moment: the same as an expression that fails.
        await db.execute(f"ALTER TABLE {target} RENAME COLUMN full_name TO hidden")
        await db.execute("UPDATE users SET first_name = 'New' WHERE id IN (3, 4)")
        await db.execute(f"ALTER TABLE {target} RENAME COLUMN hidden TO full_name")
        assert len(await count_disagreements(db, kind)) == 2
        ctx = Context(plan, store, None, cast(Cluster, AwayCluster()), lambda: True, lambda _line: None)

        async def settle() -> Any:
            await settle_recorded_rows(ctx, in_backfill(plan, await store.read()))
            record = in_backfill(plan, await store.read())
            return record.witness.open_rows, await GATES["no-mismatch"](ctx, record)

        rows, (verdict, reason) = await settle()  # paused: nothing is copied
        assert (rows, verdict) == (2, Verdict.PENDING)
        assert "2 rows could not be copied by the sync trigger" in reason
        ctx.is_paused = lambda: False
        rows, (verdict, _) = await settle()
        assert (rows, verdict) == (0, Verdict.PASS)
        assert await count_disagreements(db, kind) == []

"""Queries of detail screens on real servers: audit log, plan and file, backfill with its SQL, logs."""

import asyncio
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.dashboard.test_live_source import agent_for, plan, run_feeds, wait_for_board
from tests.support.store import ANA, open_store, password_of, plan_for
from zdd_tui.dashboard.live_source import LiveSource
from zdd_tui.model.errors import ClusterError, DatabaseError
from zdd_tui.model.queries import AuditLogQuery, BackfillQuery, LogQuery, ObjectQuery, PlanQuery, Query
from zdd_tui.model.release.records import CommandRequest, NewEvent
from zdd_tui.model.release.state import CommandKind

TABLE = """
CREATE TABLE public.users (id bigint PRIMARY KEY, name text NOT NULL, full_name text);
INSERT INTO public.users SELECT n, 'user ' || n, NULL FROM generate_series(1, 5000) AS n;
ANALYZE public.users;
"""

BACKFILL_ROWS = """
INSERT INTO zdd.backfill (release_id, status, rows_total, rows_done) VALUES ({release}, 'running', 5000, 100);
INSERT INTO zdd.range (release_id, id, kind, hi, cursor, rows)
VALUES ({release}, 0, 'backfill', '["5000"]', '["100"]', 100);
INSERT INTO zdd.failed_row (release_id, key, reason) VALUES ({release}, '["7"]', 'not null violation');
INSERT INTO zdd.mismatch (release_id, key, old, new)
VALUES ({release}, '["9"]', '{{"present": true}}',
  '{{"present": true, "differs": ["full_name"], "reason": "differs"}}');
UPDATE zdd.release SET tuning = '{{"batch_rows_max": 2000}}' WHERE id = {release};
"""


async def fetch_detail(feeds: LiveSource, query: Query[Any]) -> Any:
    async with asyncio.timeout(20):
        return await asyncio.wrap_future(feeds.fetch(query))


async def test_the_audit_log_with_a_limit(pg_dsn: str) -> None:
    async with open_store(pg_dsn) as (store, release_id), run_feeds(plan(pg_dsn)) as feeds:
        await wait_for_board(feeds, lambda b: b.release.value is not None)
        await store.send_command(release_id, CommandRequest(CommandKind.PAUSE, reason="lunch"), actor=ANA)
        async with await agent_for(pg_dsn, release_id) as agent:
            await agent.append_events([NewEvent("step", f"number {number}") for number in range(60)])
        audit_log = await fetch_detail(feeds, AuditLogQuery())
        assert [event.message for event in audit_log.events][-2:] == ["number 58", "number 59"]
        assert audit_log.events[0].kind == "release"
        assert (audit_log.earlier_count, [command.request.reason for command in audit_log.commands]) == (0, ["lunch"])
        few = await fetch_detail(feeds, AuditLogQuery(10))
        assert ([event.message for event in few.events], few.earlier_count) == (
            [f"number {number}" for number in range(50, 60)],
            len(audit_log.events) - 10,
        )


async def test_the_stored_plan_and_the_file(pg_dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(f"database: {{dsn: {pg_dsn}}}\n")
    async with open_store(pg_dsn):
        feeds = LiveSource(plan(pg_dsn), actor=ANA, path=str(file))
        feeds.start(wait_for_screen=0)
        try:
            await wait_for_board(feeds, lambda b: b.release.value is not None)
            found = await fetch_detail(feeds, PlanQuery())
            assert found.stored == "database: {dsn: ${DATABASE_URL}}"
            assert found.file is not None
            assert "***@" in found.file
            assert password_of(pg_dsn) not in repr(found)
            assert found.file_changed_at == pytest.approx(time.time(), abs=60)
            file.unlink()
            found = await fetch_detail(feeds, PlanQuery())
            assert (found.file, found.file_error) == (None, f"{file}: No such file or directory")
        finally:
            assert await asyncio.to_thread(feeds.stop, 5.0)


async def test_the_backfill_with_its_sql_and_explain(pg_dsn: str) -> None:
    connection = await asyncpg.connect(pg_dsn)
    try:
        await connection.execute(TABLE)
        async with open_store(pg_dsn) as (_store, release_id), run_feeds(plan(pg_dsn)) as feeds:
            await wait_for_board(feeds, lambda b: b.release.value is not None)
            before = await fetch_detail(feeds, BackfillQuery())
            assert before.explain_error == "the upper bound is not fixed yet"
            await connection.execute("ALTER TABLE users RENAME full_name TO not_yet")
            early = await fetch_detail(feeds, BackfillQuery())
            assert (early.statement, early.explain_error) == ("", "the new side does not exist yet")
            await connection.execute("ALTER TABLE users RENAME not_yet TO full_name")
            await connection.execute(BACKFILL_ROWS.format(release=release_id))
            found = await fetch_detail(feeds, BackfillQuery())
        (moving,) = found.ranges
        assert (moving.kind, moving.hi, moving.cursor, moving.rows, moving.done) == (
            "backfill",
            ("5000",),
            ("100",),
            100,
            False,
        )
        assert [(row.key, row.reason) for row in found.failed] == [(["7"], "not null violation")]
        assert [(row.key, row.columns) for row in found.mismatches] == [(("9",), ("full_name",))]
        assert found.limits == {"batch_rows_max": 2000}
        assert found.statement.startswith('UPDATE "public"."users" SET')
        assert found.explain_error == ""
        assert any("users_pkey" in line for line in found.query_plan)
        unmoved = await connection.fetchval("SELECT count(*) FROM public.users WHERE full_name IS NOT NULL")
        assert unmoved == 0, "EXPLAIN runs nothing"
    finally:
        await connection.close()


async def test_unavailable_systems_are_reported_and_a_tail_ends_with_the_source() -> None:
    made = plan("postgresql://u:hunter2@127.0.0.1:1/x")
    async with run_feeds(made) as feeds:
        await wait_for_board(feeds, lambda b: bool(b.release.error and b.workload.error))
        with pytest.raises(DatabaseError, match="not connected yet"):
            await fetch_detail(feeds, AuditLogQuery())
        with pytest.raises(ClusterError, match="nonexistent/kubeconfig"):
            await fetch_detail(feeds, ObjectQuery("Pod", "x"))
        tail = feeds.follow_log(LogQuery("x"))
        async with asyncio.timeout(20):
            while tail.snapshot().state == "connecting":  # noqa: ASYNC110 - a tail is polled, it has no callback
                await asyncio.sleep(0.02)
        assert "nonexistent/kubeconfig" in tail.snapshot().error
    tail.close()
    assert "hunter2" not in repr(tail.snapshot())


def test_no_query_runs_before_the_start() -> None:
    feeds = LiveSource(plan_for("postgresql://u:p@127.0.0.1:1/x"), actor=ANA)
    with pytest.raises(DatabaseError, match="not connected yet"):
        feeds.fetch(AuditLogQuery()).result(1)
    tail = feeds.follow_log(LogQuery("x"))
    assert tail.snapshot().state == "lost"
    tail.close()

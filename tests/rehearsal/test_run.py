"""Rehearsals on the real embedded PostgreSQL: the copy, its rows, the walks, the verdict, the rule for production."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import asyncpg
import pytest

from tests.rehearsal.support import ROWS, SCHEMA, fetch, plan_of, run
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.store import evidence as rehearsals
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.backends.store.client import Store
from zdd_tui.cli.parser import main
from zdd_tui.engine.context import Context
from zdd_tui.engine.preconditions import require_rehearsal
from zdd_tui.model.errors import DatabaseError, PlanError, Refused
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.plan.file import LoadedPlan, load_plan
from zdd_tui.model.release.records import Actor, CommandRequest, StoredCommand
from zdd_tui.model.release.state import CommandKind, Release
from zdd_tui.rehearsal.copy import RehearsalOptions, SchemaCopy, copy_session, make_copy
from zdd_tui.rehearsal.expected_rows import CREATE_EXPECTED, ExpectedRows, RowDiff
from zdd_tui.rehearsal.fake_cluster import fake_cluster
from zdd_tui.rehearsal.pg_dump import check_versions
from zdd_tui.rehearsal.report import format_rehearsal_report
from zdd_tui.rehearsal.run import rehearse
from zdd_tui.testbed.servers import PostgresServer

ANA = Actor("ana", "bastion")


def ignore_progress(_text: str) -> None:
    """For those who need no progress."""


@pytest.fixture
def production(pg_dsn: str) -> str:
    asyncio.run(run(pg_dsn, SCHEMA, ROWS))
    return pg_dsn


@asynccontextmanager
async def make_test_copy(
    production: str, pg: PostgresServer, folder: Path, options: RehearsalOptions
) -> AsyncIterator[tuple[Any, SchemaCopy]]:
    """The copy in a database beside production's, and a session of it."""
    name = f"copy_of_{production.rpartition('/')[2]}"
    await run(pg.dsn, f"CREATE DATABASE {name}")
    plan = plan_of(production).plan
    assert isinstance(plan, Plan)
    try:
        async with copy_session(pg.dsn_for(name), plan) as conn:
            yield (
                conn,
                await make_copy(conn, plan, options, pg.dsn_for(name), pg.programs_folder, folder, ignore_progress),
            )
    finally:
        await run(pg.dsn, f"DROP DATABASE {name} WITH (FORCE)")


async def test_the_copy_has_what_depends_on_the_table_and_rows_that_look_like_productions(
    production: str, pg: PostgresServer, tmp_path: Path
) -> None:
    async with make_test_copy(production, pg, tmp_path, RehearsalOptions(scale=0.5)) as (conn, copy):
        assert (copy.rows, copy.main.rows, copy.error) == (2000, 4000, "")
        there = await conn.fetchrow(
            "SELECT to_regclass('crm.grown') IS NOT NULL AS view, to_regclass('crm.invoice') IS NOT NULL AS child,"
            " to_regclass('crm.log') IS NOT NULL AS named_by_the_trigger, to_regclass('unrelated') AS other,"
            " to_regproc('unrelated') AS other_function, to_regclass('crm.users_tenant') IS NOT NULL AS index"
        )
        assert dict(there) == {
            "view": True, "child": True, "named_by_the_trigger": True, "other": None, "other_function": None,
            "index": True,
        }  # fmt: skip
        table = await conn.fetchrow(
            "SELECT avg((age IS NULL)::int)::float8 AS nulls, avg((tier = 'free')::int)::float8 AS common,"
            " count(DISTINCT first_name) AS names, bool_and(age BETWEEN 18 AND 99) AS ok,"
            " avg((last_name = '')::int)::float8 AS single, avg(pg_column_size(extra)) AS wide,"
            " count(DISTINCT email) AS emails, bool_and(shout = upper(email)) AS generated FROM crm.users"
        )
        assert table["nulls"] == pytest.approx(0.2, abs=0.04)
        assert table["common"] == pytest.approx(0.7, abs=0.04)
        assert 40 <= table["names"] <= 50
        assert 80 <= table["wide"] <= 130
        assert (table["emails"], table["ok"], table["generated"]) == (2000, True, True)
        # Keys are checked by the server when they are declared anew.
        await conn.execute(
            "ALTER TABLE crm.users ADD FOREIGN KEY (tenant_id) REFERENCES crm.tenant;"
            "ALTER TABLE crm.invoice ADD FOREIGN KEY (user_id) REFERENCES crm.users"
        )
        assert await conn.fetchval("SELECT count(*) FROM crm.invoice") == 4000
        # What production's people are called is nobody's business here, and the CHECK that asks for it is told.
        assert not await conn.fetchval("SELECT count(*) FROM crm.users u WHERE u::text ~* 'secret'")
        assert any("named_well" in note for note in copy.notes)
        # The next row gets a number that is free.
        await conn.execute("INSERT INTO crm.users (tenant_id, first_name, email) VALUES (1, 'x', 'x')")
        await conn.execute("UPDATE crm.users SET age = 44 WHERE email = 'x'")
        assert await conn.fetchval("SELECT count(*) FROM crm.log") == 1


async def test_with_data_production_rows_come_and_the_same_share_of_them_every_time(
    production: str, pg: PostgresServer, tmp_path: Path
) -> None:
    async with make_test_copy(production, pg, tmp_path, RehearsalOptions(scale=0.5, with_data=True)) as (conn, copy):
        assert 1800 < copy.rows < 2200
        assert await conn.fetchval("SELECT bool_and(email LIKE 'secret%') FROM crm.users")
        assert await conn.fetchval("SELECT count(*) FROM crm.tenant") == 20
        assert any("crm.invoice stays empty" in note for note in copy.notes)
    assert "rows.copy" not in os.listdir(tmp_path)


async def test_a_good_plan_passes_forward_and_back_from_every_phase_and_the_verdict_is_kept(
    production: str, tmp_path: Path
) -> None:
    loaded = plan_of(production)
    rehearsal_report = await rehearse(loaded, RehearsalOptions(rows=1000), tmp_path, ignore_progress)
    report = rehearsal_report.to_json()
    assert report["passed"], report["reasons"]
    phases = ["expand", "dual-write", "backfill", "cutover", "contract"]
    assert [result["rollback_from"] for result in report["scenarios"]] == [*phases, ""]
    assert [result["row_differences"] for result in report["scenarios"]] == [0] * 6
    assert all(result["rows"] >= 1000 for result in report["scenarios"])
    assert report["writers"]["writes"] > 50
    assert report["writers"]["failures"] == {}
    steps = {step["step"]: step for step in report["steps"]}
    assert set(steps) == {spec.name for spec in rehearsal_report.strategy.steps}
    assert steps["archive-old-side"]["lock"] == "AccessExclusiveLock"
    assert steps["create-indexes"]["undo_seconds"] is not None
    assert steps["backfill-rows"]["wal_bytes"] > 100_000
    low, high = steps["backfill-rows"]["full_seconds"]
    assert 0 < low < high
    kept = await fetch(production, "SELECT plan_hash, verdict, scale, report FROM zdd.rehearsal")
    assert [(row["plan_hash"], row["verdict"], row["scale"]) for row in kept] == [(loaded.hash, "passed", 0.25)]
    assert json.loads(kept[0]["report"])["plan"] == "crm-names"
    # Production has seen nothing of it: neither a row nor a column, nor a release.
    assert await fetch(production, "SELECT FROM zdd.release") == []
    assert (await fetch(production, "SELECT count(*) AS rows FROM crm.users"))[0]["rows"] == 4000


async def test_c5_a_plan_with_a_guard_is_rehearsed_and_what_was_not_checked_is_counted(
    production: str, tmp_path: Path
) -> None:
    guard = "guard: {rules: [{name: errors, metric: error-rate, limit: 1%}, {name: p99, metric: latency, limit: 1s}]}"
    plan = plan_of(production, **{"change:\n": f"{guard}\nchange:\n"})
    assert plan.plan.guard is not None
    report = (await rehearse(plan, RehearsalOptions(rows=200), tmp_path, ignore_progress)).to_json()
    assert report["passed"], report["reasons"]
    assert [text.partition(":")[0] for text in report["not_checked"]] == [
        "guard rule errors",
        "guard rule p99",
        "rollouts, probes and drains of crm (crm",
    ]
    assert "not checked (3): guard rule errors: there are no pods" in format_rehearsal_report(report)


def test_a_wrong_way_back_fails_on_the_command_line_with_the_reason_and_that_is_kept_too(
    production: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", production)
    file = tmp_path / "plan.yaml"
    file.write_text(plan_of(production, last_name="\"''\"").text)
    assert main(["rehearse", str(file), "--rows", "1000", "--json"]) == 1
    text = capsys.readouterr()
    report = json.loads(text.out)
    assert "change.down loses what V3 writes" in report["reasons"][0]
    assert "filling 1,000 rows" in text.err
    query = "SELECT verdict, report ->> 'reasons' AS reasons FROM zdd.rehearsal"
    kept = asyncio.run(fetch(production, query))
    assert kept[0]["verdict"] == "failed"
    assert "change.down loses what V3 writes" in kept[0]["reasons"]


async def test_the_ledger_sees_each_kind_of_loss(pg_dsn: str) -> None:
    await run(pg_dsn, SCHEMA, ROWS)
    plan = plan_of(pg_dsn).plan
    assert isinstance(plan, Plan)
    async with copy_session(pg_dsn, plan) as conn:
        await conn.execute(CREATE_EXPECTED)
        expected_rows = ExpectedRows(plan, await read_catalog(conn, plan), {"full_name": "text"})
        assert await expected_rows.record_all(conn) == 4000
        assert (await expected_rows.compare_old(conn)).total == 0
        await conn.execute("DELETE FROM crm.invoice; DELETE FROM crm.users WHERE id = 7")
        await conn.execute("UPDATE crm.users SET last_name = 'Thief' WHERE id IN (8, 9)")
        await conn.execute(
            "INSERT INTO crm.users (tenant_id, first_name, email)"
            " SELECT 1, 'Secret', n::text FROM generate_series(1, 3) n"
        )
        assert await expected_rows.compare_old(conn) == RowDiff(
            4003, missing=1, unexpected=3, changed=2, sample='["4001"]'
        )


async def test_a_strategy_without_a_database_and_a_newer_server_are_refused(
    pg_dsn: str, db: "asyncpg.Connection[asyncpg.Record]", tmp_path: Path
) -> None:
    text = plan_of(pg_dsn).text
    rolling = (
        text.partition("flags:")[0]
        .replace("expand-contract", "rolling")
        .replace('images: {v2: "crm:2", v3: "crm:3"}', "image: crm:2")
    )
    loaded = load_plan(rolling, source="plan.yaml", environment={"DATABASE_URL": pg_dsn})
    with pytest.raises(PlanError, match="rolling changes none"):
        await rehearse(loaded, RehearsalOptions(), tmp_path, ignore_progress)
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 14.9'\n")
    old.chmod(0o755)
    with pytest.raises(DatabaseError, match="and pg_dump is of 14"):
        await check_versions(db, pg_dsn, tmp_path)
    assert await fetch(pg_dsn, "SELECT to_regclass('zdd.rehearsal') AS there") == [(None,)]


# --- the rule -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def make_planned_release(loaded: LoadedPlan) -> AsyncIterator[tuple[Context, Store, int]]:
    """A release that was registered and has not begun, as the agent that holds the lease sees it."""
    dsn = loaded.plan.database.dsn.get_secret_value()
    async with await Store.open(dsn) as store:
        await store.migrate()
        release_id = await store.register_release(
            loaded.plan, text=loaded.text, document=loaded.document, plan_hash=loaded.hash, actor=ANA
        )
        lease = await acquire_lease(dsn, release_id, ANA)
        assert lease is not None
        assert isinstance(loaded.plan, Plan)
        async with lease:
            cluster = fake_cluster(loaded.plan)
            yield Context(loaded.plan, lease, None, cluster, lambda: False, ignore_progress), store, release_id


async def send_advance(ctx: Context, store: Store, release_id: int, **how: Any) -> list[str]:
    """Sends an advance and judges it; the lines for the audit."""
    sent = await store.send_command(release_id, CommandRequest(CommandKind.ADVANCE, **how), actor=ANA)
    stored: StoredCommand = await store.read_command(sent)
    record = await store.read_release(release_id)
    return [event.message for event in await require_rehearsal(ctx, record.release, stored, record.now)]


async def test_the_first_advance_of_production_asks_for_a_fresh_rehearsal_of_this_very_plan(production: str) -> None:
    loaded = plan_of(production)
    async with make_planned_release(loaded) as (ctx, store, release_id):
        with pytest.raises(Refused, match="this version of it was never rehearsed"):
            await send_advance(ctx, store, release_id)
        with pytest.raises(Refused, match="needs a reason"):
            await send_advance(ctx, store, release_id, unrehearsed=True)
        lines = await send_advance(ctx, store, release_id, unrehearsed=True, reason="the index is on fire")
        assert lines == ["started without a rehearsal: this version of it was never rehearsed"]
        conn = await asyncpg.connect(production)
        try:
            for plan_hash, passed, words in (("other", True, "never"), (loaded.hash, False, "failed")):
                await rehearsals.save_rehearsal(
                    conn, plan_hash=plan_hash, name="x", passed=passed, scale=0.1, report={}, actor=ANA
                )
                with pytest.raises(Refused, match=words):
                    await send_advance(ctx, store, release_id)
            await rehearsals.save_rehearsal(
                conn, plan_hash=loaded.hash, name="x", passed=True, scale=1, report={}, actor=ANA
            )
            assert await send_advance(ctx, store, release_id) == []
            await conn.execute("UPDATE zdd.rehearsal SET at = at - interval '31 days'")
        finally:
            await conn.close()
        with pytest.raises(Refused, match="valid for"):
            await send_advance(ctx, store, release_id)


async def test_an_agent_refuses_the_advance_and_writes_down_who_went_without(production: str) -> None:
    """The rule is asked where commands are taken: one refused, one with a waiver that lands in the audit."""
    loaded = plan_of(production)
    async with make_planned_release(loaded) as (ctx, store, release_id):
        refused = await store.send_command(release_id, CommandRequest(CommandKind.ADVANCE), actor=ANA)
        waived = await store.send_command(
            release_id, CommandRequest(CommandKind.ADVANCE, "the index is on fire", unrehearsed=True), actor=ANA
        )
        record = await store.read_release(release_id)
        session = make_lease_session(ctx, loaded, record.release)
        for _ in range(2):
            stored = await ctx.store.next_command()
            assert stored is not None
            await asyncio.wait_for(session._handle_command(stored), 20)
        answer = await store.read_command(refused)
        assert answer.status == "refused"
        assert "zdd rehearse" in answer.outcome
        assert (await store.read_command(waived)).status == "done"
        record = await store.read_release(release_id)
        assert record.release.phase == 0
        trace = [event for event in record.events if event.kind == "rehearsal"]
        assert [(event.actor, event.reason) for event in trace] == [
            (replace(ANA, role="postgres"), "the index is on fire")
        ]


def make_lease_session(ctx: Context, loaded: LoadedPlan, release: Release) -> Any:
    """A session that is connected, and whose loops do not run."""
    from zdd_tui.engine.conditions.monitor import ConditionMonitor
    from zdd_tui.engine.lease_session import LeaseSession
    from zdd_tui.engine.runner import ReleaseHolder

    session = LeaseSession(loaded.plan, ctx.store, None, ignore_progress)
    session._ctx = ctx
    session._monitor = AsyncMock(spec=ConditionMonitor)
    session._holder = ReleaseHolder(release)
    return session

"""Rehearsals of a migration: pg_dump decides."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml

from tests.rehearsal.support import run
from zdd_tui.model.operations.registry import plan_operations
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.file import LoadedPlan, load_plan
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.rehearsal.copy import RehearsalOptions
from zdd_tui.rehearsal.operations import compare_definitions, sort_columns
from zdd_tui.rehearsal.report import format_rehearsal_report
from zdd_tui.rehearsal.run import rehearse

SCHEMA = """
CREATE SCHEMA shop;
CREATE ROLE shop_reader;
CREATE TYPE shop.mood AS ENUM ('calm');
CREATE TABLE shop.team (id int PRIMARY KEY);
CREATE TABLE shop.note (id bigserial PRIMARY KEY, team int REFERENCES shop.team, body text, legacy text NOT NULL,
    mood shop.mood DEFAULT 'calm');
CREATE TABLE shop.visit (id bigserial PRIMARY KEY, at date NOT NULL, visit bigint REFERENCES shop.visit);
INSERT INTO shop.visit (at) SELECT date '2024-01-01' + n FROM generate_series(1, 100) n;
CREATE VIEW shop.bodies AS SELECT id, body FROM shop.note;
INSERT INTO shop.team SELECT generate_series(1, 20);
INSERT INTO shop.note (team, body, legacy) SELECT n % 20 + 1, 'note ' || n, 'x' FROM generate_series(1, 3000) n;
ANALYZE;
"""
MIGRATION = """
ALTER TABLE shop.note ADD COLUMN priority int NOT NULL DEFAULT 3, DROP COLUMN legacy;
ALTER TABLE shop.note ALTER COLUMN team SET NOT NULL, ADD CONSTRAINT short CHECK (length(body) < 5000);
CREATE INDEX ON shop.note (lower(body));
ALTER TYPE shop.mood ADD VALUE 'cross';
GRANT SELECT ON shop.note TO shop_reader;
ALTER TABLE shop.team RENAME TO crew;
ALTER TABLE shop.crew ADD COLUMN lead int REFERENCES shop.crew, ADD CHECK (crew.id > 0);
CREATE INDEX ON shop.crew (lead);
"""

PARTITION = {
    "partition": {
        "table": "shop.visit",
        "by": "HASH (id)",
        "partitions": {f"shop.visit_{number}": f"WITH (MODULUS 2, REMAINDER {number})" for number in range(2)},
    }
}


@pytest.fixture
def production(pg_dsn: str) -> Any:
    asyncio.run(run(pg_dsn, SCHEMA))
    yield pg_dsn
    asyncio.run(run(pg_dsn, "DROP OWNED BY shop_reader", "DROP ROLE shop_reader"))


def plan_of(dsn: str, *operations: Any, **more: Any) -> LoadedPlan:
    document = {"name": "notes", "database": {"dsn": dsn}, "operations": list(operations), **more}
    return load_plan(yaml.safe_dump(document), source="plan.yaml", environment={})


async def rehearse_here(loaded: LoadedPlan, folder: Path) -> dict[str, Any]:
    report = await rehearse(loaded, RehearsalOptions(rows=1500), folder, lambda _text: None)
    return report.to_json()


async def test_a_migration_passes_forward_and_back_from_every_phase(production: str, tmp_path: Path) -> None:
    rollout = {"kubernetes": {"deployment": "notes", "image": "shop/notes:2"}}
    connection = await asyncpg.connect(production)
    if connection.get_server_version().major < 18:
        (tmp_path / "refused").mkdir()
        report = await rehearse_here(plan_of(production, PARTITION), tmp_path / "refused")
        assert report["reasons"] == [
            "operations: before PostgreSQL 18 a partitioned table gets foreign key visit_visit_fkey only under a lock"
            " that blocks writes; change that in a release before"
        ]
        await connection.execute("ALTER TABLE shop.visit DROP CONSTRAINT visit_visit_fkey")
    await connection.close()
    report = await rehearse_here(plan_of(production, MIGRATION, PARTITION, **rollout), tmp_path)
    assert report["passed"], report["reasons"]
    assert [each["rollback_from"] for each in report["scenarios"]] == ["expand", "backfill", "cutover", "contract", ""]
    assert (report["rows"], report["full_rows"]) == (1500, 3000)
    assert {each["rows"] for each in report["scenarios"]} == {1620}
    assert "the rehearsal has no writers" in format_rehearsal_report(report)


async def test_an_undo_that_leaves_something_behind_fails(production: str, tmp_path: Path) -> None:
    wrong = {"sql": "CREATE TABLE shop.extra (id int)", "undo": []}
    report = await rehearse_here(plan_of(production, wrong), tmp_path)
    assert not report["passed"]
    assert "CREATE TABLE shop.extra" in report["reasons"][0]


async def test_a_migration_that_fails_by_itself_is_told_so(production: str, tmp_path: Path) -> None:
    report = await rehearse_here(plan_of(production, "ALTER TABLE shop.note ADD COLUMN body int"), tmp_path)
    assert report["reasons"] == [
        'the migration itself fails: column "body" of relation "note" already exists:'
        " ALTER TABLE shop.note ADD COLUMN body int"
    ]


def test_only_added_enum_values_may_stay_after_a_rollback() -> None:
    before, after = ["    'a'", ");"], ["    'a',", "    'b'", ");"]
    assert compare_definitions(before, after, kept={"'b'"}) == ()
    assert compare_definitions(before, after, kept={"'c'"}) == ("+    'b'",)


def test_the_order_of_columns_is_no_difference_at_the_end() -> None:
    plain = ["CREATE TABLE t (", "    a bigint NOT NULL,", "    b text", ");", "CREATE INDEX i ON t (a);"]
    ours = ["CREATE TABLE t (", "    b text,", "    a bigint NOT NULL", ");", "CREATE INDEX i ON t (a);"]
    assert sort_columns(plain) == sort_columns(ours)
    assert sort_columns(plain) != sort_columns([line.replace(" NOT NULL", "") for line in ours])


@pytest.mark.parametrize("has_rollout", [True, False])
def test_constraints_wait_for_contract_only_where_an_older_version_may_run(has_rollout: bool) -> None:
    rollout = {"kubernetes": {"deployment": "notes", "image": "shop/notes:2"}} if has_rollout else {}
    plan = plan_of("postgresql://here/db", "ALTER TABLE a ADD CONSTRAINT c CHECK (x > 0)", **rollout).plan
    assert isinstance(plan, BaseOperationsPlan)
    phases = {step.phase for operation in plan_operations(plan) for step in operation.steps}
    assert (Phase.EXPAND in phases) is not has_rollout

"""Migration 10 renames what is stored: a database of version 9 with rows of every kind is read by this version."""

import json
import shutil
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.store import AGENT, ANA, plan_for
from zdd_tui.backends.store import evidence, migrations, records
from zdd_tui.backends.store import guard as guard_store
from zdd_tui.backends.store.agent import acquire_lease
from zdd_tui.backends.store.backfill import RowMismatch, read_verification
from zdd_tui.backends.store.client import Store
from zdd_tui.backends.store.detail import read_audit_log
from zdd_tui.model.doctor.facts import Evidence
from zdd_tui.model.plan.guard import GuardAction
from zdd_tui.model.plan.strategies import DarkLaunchPlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import CommandKind, ReleaseState, StepStatus
from zdd_tui.model.release.strategies import build_blue_green, build_dark_launch, build_rolling
from zdd_tui.model.release.strategy import Strategy, build_expand_contract

OLD_NAMES = {
    "archive-old-side": "set-aside",
    "drop-archive": "drop-aside",
    "record-workload": "remember-workload",
    "remove-annotations": "clear-marks",
    "acquire-service": "claim-service",
    "release-service": "free-service",
    "switch-to-stable": "switch-to-first",
    "capacity-kept": "never-short",
    "stable-ready": "first-warm",
    "green-removed": "green-gone",
    "dark-launch-removed": "dark-gone",
    "annotations-removed": "marks-gone",
    "cleanup-complete": "nothing-left",
    "blue-green": "blue/green",
    "expand-contract": "expand/contract",
}
DARK_LAUNCH = build_dark_launch(
    DarkLaunchPlan.model_validate(
        {
            "name": "dark",
            "strategy": "dark-launch",
            "database": {"dsn": "postgresql:///x"},
            "kubernetes": {"deployment": "users-api", "image": "users:2"},
            "flags": {"url": "redis:///", "shadow": "users_shadow", "read": "users_read"},
            "dark": {"path": "users_name"},
        }
    )
)
STRATEGIES = (build_rolling(), build_blue_green(), build_expand_contract(ramp=(10, 50)), DARK_LAUNCH)


def to_version_9(value: Any) -> Any:
    """The JSON of a strategy as version 9 stored it."""
    if isinstance(value, dict):
        renamed = {"work" if key == "handler" else key: to_version_9(item) for key, item in value.items()}
        return renamed | ({"name": OLD_NAMES.get(value["name"], value["name"])} if "name" in value else {})
    return [to_version_9(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
async def version_9(db: asyncpg.Connection, pg_dsn: str, tmp_path: Path) -> asyncpg.Connection:
    folder = tmp_path / "sql"
    shutil.copytree(str(migrations.SQL_FOLDER), folder)
    for file in folder.iterdir():
        if file.name >= "010":
            file.unlink()
    assert len(await migrations.migrate(db, pg_dsn, folder)) == 9
    return db


async def insert_release(db: asyncpg.Connection, strategy: Strategy, *, state: str = "running", phase: int = 0) -> int:
    """A release of version 9 with all of its steps; the first one runs."""
    stored = to_version_9(json.loads(records.dump_strategy(strategy)))
    release_id: int = await db.fetchval(
        "INSERT INTO zdd.release"
        " (name, environment, plan_text, document, plan_hash, strategy, state, phase, finished_at)"
        " VALUES ($1, 'staging', 'a plan', '{}', 'hash-1', $2, $3, $4,"
        "  CASE WHEN $3 IN ('done', 'rolled-back') THEN now() END) RETURNING id",
        f"{strategy.name}-{state}",
        json.dumps(stored),
        state,
        phase,
    )
    names = [step["name"] for piece in stored["phases"] for step in piece["steps"]]
    await db.executemany(
        "INSERT INTO zdd.step (release_id, position, name, status, began_at) VALUES ($1, $2, $3, $4, now())",
        [(release_id, number, name, "done" if number else "intent") for number, name in enumerate(names)],
    )
    gates = [gate["name"] for piece in stored["phases"] for gate in piece["gates"]]
    await db.executemany(
        "INSERT INTO zdd.gate (release_id, name, verdict, reason, observed_at, max_age)"
        " VALUES ($1, $2, 'fail', 'not begun', now(), 5) ON CONFLICT DO NOTHING",
        [(release_id, name) for name in gates],
    )
    return release_id


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.name)
@pytest.mark.parametrize(("state", "phase"), [("running", 0), ("done", 3), ("rolled-back", 1)])
async def test_strategies_steps_and_gates_have_their_new_names(
    version_9: asyncpg.Connection, pg_dsn: str, strategy: Strategy, state: str, phase: int
) -> None:
    release_id = await insert_release(version_9, strategy, state=state, phase=phase)
    async with await Store.open(pg_dsn) as store:
        await store.migrate()
        record = await store.read_release(release_id)
    assert record.release.strategy == strategy
    assert (record.release.state, record.release.phase) == (ReleaseState(state), phase)
    assert [step.name for step in record.steps] == [step.name for step in strategy.steps]
    assert [step.status for step in record.steps[:2]] == [StepStatus.STARTED, StepStatus.DONE]
    assert record.steps[0].started_at is not None
    assert record.gates.keys() == {gate.name for piece in strategy.phases for gate in piece.gates}
    assert {gate.verdict for gate in record.gates.values()} == {Verdict.FAIL}


async def test_all_other_rows_are_readable(version_9: asyncpg.Connection, pg_dsn: str) -> None:
    plan = plan_for(pg_dsn)
    release_id = await insert_release(version_9, build_expand_contract())
    await version_9.execute(
        f"""
        INSERT INTO zdd.event (release_id, actor, host, kind, what, why)
            VALUES ({release_id}, 'ana', 'bastion', 'step', 'run expand begins', 'because');
        INSERT INTO zdd.command (release_id, kind, args, reason, actor, host)
            VALUES ({release_id}, 'pause', '{{"typed": "users"}}', 'lunch', 'ana', 'bastion');
        INSERT INTO zdd.lease (release_id, epoch, holder, host, pid, ttl) VALUES ({release_id}, 7, '', '', 0, 3);
        SELECT setval('zdd.epoch', 7);
        INSERT INTO zdd.guard
            (release_id, rule, verdict, reason, unit, action, acting, applies, acted, observed_at, max_age)
            VALUES ({release_id}, 'errors', 'fail', '12%', 'ratio', 'rollback', true, false, 'pause', now(), 5);
        INSERT INTO zdd.guard_memory (release_id, part, epoch, body) VALUES ({release_id}, 'courses', 7, 'old');
        INSERT INTO zdd.backfill (release_id, status, rows_total, verified_rows, mismatches, recent)
            VALUES ({release_id}, 'running', 9, 9, 1, '[[1, 2, 0.5]]');
        INSERT INTO zdd.mismatch (release_id, key, old, new)
            VALUES ({release_id}, '["9"]', '{{"present": true}}',
                    '{{"present": false, "differs": ["full_name"], "what": "no row"}}');
        INSERT INTO zdd.failed_row (release_id, key, reason) VALUES ({release_id}, '["7"]', 'not null');
        INSERT INTO zdd.evidence (name, plan_hash, source, point, verdict, what, actor, host)
            VALUES ('{plan.name}', 'hash-1', 'person', 'runbook', 'pass', 'it is written', 'ana', 'bastion');
        INSERT INTO zdd.rehearsal (plan_hash, name, verdict, scale, report, actor, host)
            VALUES ('hash-1', '{plan.name}', 'passed', 0.5, '{{"rows": 10}}', 'ana', 'bastion');
        """
    )
    async with await Store.open(pg_dsn) as store:
        await store.migrate()
        record = await store.read_release(release_id)
        audit_log = await read_audit_log(store.pool, release_id, 10)
        failed = await store.read_failed_rows(release_id)
        history = await evidence.read_history(version_9, plan)
        rehearsal = await evidence.load_newest_rehearsal(version_9, "hash-1")
        assert rehearsal is not None
        agent = await acquire_lease(pg_dsn, release_id, AGENT)
        assert agent is not None
        async with agent:
            assert agent.epoch > 7
            assert await guard_store.load_snapshot(agent) == {}
            assert (command := await agent.next_command()) is not None
    (event,) = record.events
    assert (event.message, event.reason, str(event.actor)) == ("run expand begins", "because", "ana@bastion")
    assert audit_log.events == record.events
    assert (command.request.kind, command.request.typed, command.request.reason) == (
        CommandKind.PAUSE,
        "users",
        "lunch",
    )
    (rule,) = record.guard
    assert (rule.should_act, rule.is_applicable, rule.action_taken) == (True, False, GuardAction.PAUSE)
    assert record.lease is not None
    assert record.lease.epoch == 7
    assert record.backfill is not None
    assert (record.backfill.rows_total, len(record.backfill.recent)) == (9, 1)
    assert await read_verification(version_9, release_id, 5) == (
        9, 1, [RowMismatch(("9",), "no row", ("full_name",), has_old=True, has_new=False)],
    )  # fmt: skip
    assert [row.reason for row in failed] == ["not null"]
    assert [(item.item_id, item.text) for item in history.evidence] == [("runbook", "it is written")]
    assert rehearsal.passed
    await evidence.add_evidence(
        version_9, plan, "hash-1", ANA, [Evidence("runbook", "person", "pass", "still", "", 0.0, "hash-1")]
    )


async def test_an_empty_database_is_migrated(version_9: asyncpg.Connection, pg_dsn: str) -> None:
    assert (await migrations.migrate(version_9, pg_dsn))[0] == 10


async def test_a_stale_epoch_is_named_with_the_current_one(version_9: asyncpg.Connection, pg_dsn: str) -> None:
    release_id = await insert_release(version_9, build_rolling())
    await migrations.migrate(version_9, pg_dsn)
    await version_9.execute(
        f"INSERT INTO zdd.lease (release_id, epoch, holder, host, pid, ttl) VALUES ({release_id}, 7, '', '', 0, 3)"
    )
    with pytest.raises(
        asyncpg.PostgresError, match=f"epoch 6 of release {release_id} is stale; the current epoch is 7"
    ) as caught:
        await version_9.execute("SELECT zdd.fence($1, 6)", release_id)
    assert caught.value.sqlstate == "ZD001"

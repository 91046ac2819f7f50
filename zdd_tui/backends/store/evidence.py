"""The evidence for `zdd doctor` in the `zdd` schema: earlier releases of the plan, rehearsals, answers, trials."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import asyncpg

from zdd_tui.backends.postgres.connection import Connection, Row
from zdd_tui.backends.store.records import strip_nul
from zdd_tui.model.doctor.facts import Evidence, ReleaseHistory, RollbackRecord
from zdd_tui.model.masking import mask_secrets
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.release.records import Actor
from zdd_tui.model.release.rehearsal import Rehearsal

_RELEASE = """
SELECT r.id, r.state,
       (SELECT extract(epoch FROM s.ended_at)::float8 FROM zdd.step s
         WHERE s.release_id = r.id AND s.name = 'rollout-v3' AND s.status = 'done') AS cutover_at,
       EXISTS (SELECT FROM zdd.step s WHERE s.release_id = r.id AND s.name = 'archive-old-side' AND s.status = 'done')
         AS contracted,
       CASE WHEN r.state IN ('waiting', 'failed') THEN
         (SELECT extract(epoch FROM max(s.ended_at))::float8 FROM zdd.step s WHERE s.release_id = r.id) END
         AS waiting_since
FROM zdd.release r WHERE r.name = $1 ORDER BY r.id DESC LIMIT 1
"""

# Releases that were rolled back after the start, with the progress of their backfill.
_ROLLED_BACK = """
SELECT r.plan_hash, extract(epoch FROM r.finished_at)::float8 AS at, b.rows_done, b.rows_total, b.status
FROM zdd.release r LEFT JOIN LATERAL (
    SELECT sum(rows_done)::bigint AS rows_done, sum(rows_total)::bigint AS rows_total,
           CASE WHEN bool_and(status = 'done') THEN 'done' ELSE 'cancelled' END AS status
    FROM zdd.backfill WHERE release_id = r.id HAVING count(*) > 0) b ON true
WHERE r.name = $1 AND r.state = 'rolled-back' AND r.phase >= 0
"""

_REHEARSED = """
SELECT plan_hash, extract(epoch FROM at)::float8 AS at, verdict, scale, (report ->> 'rows')::bigint AS rows
FROM zdd.rehearsal
WHERE name = $1 ORDER BY id DESC LIMIT 500
"""

_FLAG_STEPS: Final = (
    # (steps that set a flag, role of the flag), see zdd_tui.model.release.strategies
    (re.compile(r"write-flag-on"), "write"),
    (re.compile(r"read-flag-on|read-\d+|ramp-\d+"), "read"),
    (re.compile(r"shadow-\d+"), "shadow"),
    (re.compile(r"weight-\d+"), "weight"),
)
_FLAG_SET = """
SELECT s.name, extract(epoch FROM s.ended_at)::float8 AS at FROM zdd.step s
WHERE s.release_id = $1 AND s.status = 'done' AND s.ended_at IS NOT NULL
"""

_ENDED_FLAGS = """
WITH flag AS (
    SELECT r.name, r.state, f.key, r.state IN ('rolled-back', 'done') AS ended
    FROM zdd.release r CROSS JOIN LATERAL (VALUES
        (r.document #>> '{flags,write}'), (r.document #>> '{flags,read}'), (r.document #>> '{flags,shadow}'),
        (r.document #>> '{canary,flag,key}')) f (key)
    WHERE f.key IS NOT NULL)
SELECT key, max('release ' || name || ' (' || state || ')') AS release FROM flag
GROUP BY key HAVING bool_and(ended)
"""

_EVIDENCE = """
SELECT point, source, verdict, message, actor || '@' || host AS who, extract(epoch FROM at)::float8 AS at,
       plan_hash, subject
FROM zdd.evidence WHERE name = $1 ORDER BY id DESC LIMIT 500
"""


async def read_history(conn: Connection, plan: BasePlan) -> ReleaseHistory:
    """Reads the history of a plan by its name; empty in a database without a `zdd` schema."""
    if not await _table_exists(conn, "release"):
        return ReleaseHistory()
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        release = await conn.fetchrow(_RELEASE, plan.name)
        rehearsals = [_rollback_from_row(row) for row in await conn.fetch(_ROLLED_BACK, plan.name)]
        rehearsals += await _read_rehearsals(conn, plan)
        known = _flag_set_times(plan, await conn.fetch(_FLAG_SET, release["id"])) if release is not None else {}
        ended = {row["key"]: row["release"] for row in await conn.fetch(_ENDED_FLAGS)}
        evidence: Iterable[asyncpg.Record] = ()
        if await _table_exists(conn, "evidence"):
            evidence = await conn.fetch(_EVIDENCE, plan.name)
    return ReleaseHistory(
        cutover_at=release["cutover_at"] if release else None,
        is_contracted=bool(release and release["contracted"]),
        waiting_since=release["waiting_since"] if release else None,
        rehearsals=tuple(rehearsals),
        flag_set_at=known,
        ended_flags=ended,
        evidence=tuple(_evidence_from_row(row) for row in evidence),
    )


async def add_evidence(
    conn: Connection, plan: BasePlan, plan_hash: str, actor: Actor, evidence: Iterable[Evidence]
) -> None:
    """Appends answers or trials of `actor`, with the time of the database.

    Raises:
        asyncpg.PostgresError: without a `zdd` schema an UndefinedTableError.
    """
    await conn.executemany(
        "INSERT INTO zdd.evidence (name, plan_hash, source, point, subject, verdict, message, actor, host)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        [
            (
                plan.name, plan_hash, item.source, item.item_id, item.subject, item.verdict, strip_nul(item.text),
                actor.name, actor.host,
            )
            for item in evidence
        ],
    )  # fmt: skip


async def _read_rehearsals(conn: Connection, plan: BasePlan) -> list[RollbackRecord]:
    """Reads the results of `zdd rehearse`."""
    if not await _table_exists(conn, "rehearsal"):
        return []
    return [
        RollbackRecord(
            plan_hash=row["plan_hash"],
            at=row["at"],
            verdict="pass" if row["verdict"] == "passed" else "fail",
            rows=row["rows"],
            scale=row["scale"],
            where="a copy",
        )
        for row in await conn.fetch(_REHEARSED, plan.name)
    ]


async def _table_exists(conn: Connection, table: str) -> bool:
    # Not to_regclass(): it needs USAGE on the schema, and the query itself explains a missing right.
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'zdd' AND c.relname = $1)",
            table,
        )
    )


def _flag_set_times(plan: BasePlan, steps: Iterable[Row]) -> dict[str, float]:
    """Returns when each flag was set last, by the completed steps."""
    keys = {role: key for key, role in plan.flag_roles.items()}
    known: dict[str, float] = {}
    for step in steps:
        for pattern, role in _FLAG_STEPS:
            if role in keys and pattern.fullmatch(step["name"]):
                known[keys[role]] = max(step["at"], known.get(keys[role], 0.0))
    return known


def _rollback_from_row(row: Row) -> RollbackRecord:
    scale = min(1.0, row["rows_done"] / row["rows_total"]) if row["rows_total"] else 0.0
    return RollbackRecord(row["plan_hash"], row["at"], "pass", row["rows_done"] or 0, scale, "this database")


def _evidence_from_row(row: Row) -> Evidence:
    return Evidence(
        item_id=row["point"],
        source=row["source"],
        verdict=row["verdict"],
        text=row["message"],
        actor=row["who"],
        at=row["at"],
        plan_hash=row["plan_hash"],
        subject=row["subject"],
    )


async def save_rehearsal(
    conn: Connection,
    *,
    plan_hash: str,
    name: str,
    passed: bool,
    scale: float,
    report: Mapping[str, Any],
    actor: Actor,
) -> None:
    """Saves the result of a rehearsal, with the time of the database."""
    await conn.execute(
        "INSERT INTO zdd.rehearsal (plan_hash, name, verdict, scale, report, actor, host)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        plan_hash,
        name,
        "passed" if passed else "failed",
        scale,
        strip_nul(json.dumps(mask_secrets(report))),
        actor.name,
        actor.host,
    )


async def load_newest_rehearsal(conn: Connection, plan_hash: str) -> Rehearsal | None:
    """Reads the last rehearsal of a plan; None also where the schema is older than rehearsals."""
    try:
        row = await conn.fetchrow(
            "SELECT plan_hash, extract(epoch FROM at)::float8 AS at, verdict, scale, actor, host FROM zdd.rehearsal"
            " WHERE plan_hash = $1 ORDER BY at DESC LIMIT 1",
            plan_hash,
        )
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return None
    if row is None:
        return None
    return Rehearsal(row["plan_hash"], row["at"], row["verdict"] == "passed", row["scale"], row["actor"], row["host"])

"""Rehearsals in the `zdd` schema."""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import asyncpg

from zdd_tui.backends.records import storable
from zdd_tui.model.masking import masked
from zdd_tui.model.records import Actor
from zdd_tui.model.rehearsal import Rehearsal

Connection: TypeAlias = Any
"""asyncpg.Connection, or the pool's proxy of one."""


async def keep(
    conn: Connection,
    *,
    plan_hash: str,
    name: str,
    passed: bool,
    scale: float,
    report: Mapping[str, Any],
    actor: Actor,
) -> None:
    """Writes down what came of a rehearsal, by the database's clock."""
    await conn.execute(
        "INSERT INTO zdd.rehearsal (plan_hash, name, verdict, scale, report, actor, host)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        plan_hash,
        name,
        "passed" if passed else "failed",
        scale,
        storable(json.dumps(masked(report))),
        actor.name,
        actor.host,
    )


async def newest(conn: Connection, plan_hash: str) -> Rehearsal | None:
    """The last rehearsal of a plan; None also where the schema is older than rehearsals."""
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

"""What the guard writes: its readings, and what it does about them. All of it carries the lease's epoch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import asyncpg

from zdd_tui.backends.store import writes
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.backends.store.records import strip_nul
from zdd_tui.model.guard.decisions import GuardDecision
from zdd_tui.model.release.records import Actor, GuardReading, NewEvent
from zdd_tui.model.release.summary import WaitStatus

GUARD_ACTOR = "guard"
"""The actor's name; a unique index lets an actor of this name ask for a release's rollback once."""

_SAVE = """
WITH given AS (
    SELECT * FROM jsonb_to_recordset($2) AS given(
        rule text, verdict text, reason text, unit text, value float8, baseline float8, "limit" float8,
        samples bigint, series float8[], action text, should_act boolean, is_applicable boolean, max_age float8,
        action_taken text)
), before AS (SELECT rule, verdict, is_applicable FROM zdd.guard WHERE release_id = $1),
fresh AS (
    INSERT INTO zdd.guard AS old (release_id, rule, verdict, reason, unit, value, baseline, "limit", samples, series,
                                  action, should_act, is_applicable, max_age, action_taken, observed_at)
    SELECT $1, rule, verdict, reason, unit, value, baseline, "limit", samples, series, action, should_act,
           is_applicable, max_age, action_taken, clock_timestamp() FROM given
    ON CONFLICT (release_id, rule) DO UPDATE SET
        verdict = excluded.verdict, reason = excluded.reason, unit = excluded.unit, value = excluded.value,
        baseline = excluded.baseline, "limit" = excluded."limit", samples = excluded.samples,
        series = excluded.series, action = excluded.action, should_act = excluded.should_act,
        is_applicable = excluded.is_applicable,
        max_age = excluded.max_age, action_taken = excluded.action_taken, observed_at = excluded.observed_at
    RETURNING rule, verdict, reason
)
SELECT fresh.rule, fresh.verdict, fresh.reason, coalesce(before.verdict, 'unknown') AS before
FROM fresh LEFT JOIN before USING (rule) ORDER BY rule
"""


_SAVE_MEMORY = """
INSERT INTO zdd.guard_snapshot (release_id, epoch, part, body) VALUES ($1, $2, $3, $4)
ON CONFLICT (release_id, part) DO UPDATE SET
    epoch = excluded.epoch, body = excluded.body, saved_at = clock_timestamp()
"""

_LOAD_MEMORY = """
SELECT part, body, extract(epoch FROM clock_timestamp() - saved_at)::float8 AS since
FROM zdd.guard_snapshot WHERE release_id = $1
"""


async def save_readings(
    store: AgentStore, readings: Sequence[GuardReading], memory: Mapping[str, bytes] | None = None
) -> None:
    """The newest readings, stamped by the server's clock; an audit line where a rule begins or ends to fail or to be
    without data.

    Args:
        memory: by part, what the next guard will need, as of now; a part that is missing stays as it was.

    Raises:
        StaleEpoch: another agent carries the release out.
        DatabaseError: the server is away.
    """
    if not readings:
        return
    rows = [_reading_to_row(reading) for reading in readings]
    async with store.fenced() as connection:
        changed = await connection.fetch(_SAVE, store.release_id, json.dumps(rows))
        for part, body in (memory or {}).items():
            await connection.execute(_SAVE_MEMORY, store.release_id, store.epoch, part, body)
        lines = [
            NewEvent(GUARD_ACTOR, f"{row['rule']}: {row['verdict']}", row["reason"], _guard_actor(store))
            for row in changed
            if row["verdict"] != row["before"] and not {row["verdict"], row["before"]} <= {"pass", "inconclusive"}
        ]
        await writes.insert_events(connection, store.release_id, store.actor, lines)


def _reading_to_row(reading: GuardReading) -> dict[str, Any]:
    return asdict(reading) | {"reason": strip_nul(reading.reason)}


async def load_memory(store: AgentStore) -> dict[str, tuple[bytes, float]]:
    """By part, what a guard before this one has kept, and how many seconds ago."""
    async with store.fenced() as connection:
        rows = await connection.fetch(_LOAD_MEMORY, store.release_id)
    return {row["part"]: (row["body"], max(0.0, row["since"])) for row in rows}


async def has_requested_rollback(store: AgentStore) -> bool:
    """Whether the guard, this one or one before it, has asked for this release's rollback."""
    async with store.fenced() as connection:
        return bool(
            await connection.fetchval(
                "SELECT EXISTS (SELECT FROM zdd.command WHERE release_id = $1 AND actor = $2 AND kind = 'rollback')",
                store.release_id,
                GUARD_ACTOR,
            )
        )


async def execute_decision(store: AgentStore, decision: GuardDecision) -> bool:
    """Asks for what the guard has decided, with its cause and its audit line, in one transaction.

    Returns:
        False when there is nothing to be done any more: the release has ended or is on its way back, or the rollback
        was asked for before.
    """
    async with store.fenced() as connection:
        # The row is held until the command is in: the release cannot end in between.
        moving = await connection.fetchval(
            "SELECT state IN ('running', 'waiting', 'failed') FROM zdd.release WHERE id = $1 FOR UPDATE",
            store.release_id,
        )
        if not moving or (decision.command is not None and not await _enqueue_command(connection, store, decision)):
            return False
        await connection.execute(
            "UPDATE zdd.guard SET action_taken = $3 WHERE release_id = $1 AND rule = $2",
            store.release_id,
            decision.rule,
            str(decision.action),
        )
        doing = "alert" if decision.command is None else f"asks for {decision.command}"
        line = NewEvent(GUARD_ACTOR, f"{decision.rule}: {doing}", decision.reason, _guard_actor(store))
        await writes.insert_events(connection, store.release_id, store.actor, [line])
    return True


async def _enqueue_command(
    connection: "asyncpg.Connection[asyncpg.Record]", store: AgentStore, decision: GuardDecision
) -> bool:
    reason = strip_nul(decision.reason)
    asked = await connection.fetchval(
        "INSERT INTO zdd.command (release_id, kind, reason, actor, host) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT DO NOTHING RETURNING id",
        store.release_id,
        str(decision.command),
        reason,
        GUARD_ACTOR,
        store.actor.host,
    )
    if asked is None:
        return False
    await connection.execute("UPDATE zdd.release SET cause = $2 WHERE id = $1", store.release_id, reason)
    return True


def _guard_actor(store: AgentStore) -> Actor:
    return Actor(GUARD_ACTOR, store.actor.host)


# --- What an agent says of a wait that lasts too long: one audit line, whichever agent it is that notices.


_ALREADY_RECORDED = (
    "SELECT EXISTS (SELECT FROM zdd.event WHERE release_id = $1 AND kind = 'wait' AND at > to_timestamp($2))"
)


async def record_overdue_wait(store: AgentStore, wait: WaitStatus) -> bool:
    """An audit line of kind `wait`, unless there is one of this very wait already.

    Returns:
        whether it was written now.

    Raises:
        StaleEpoch: another agent carries the release out.
        DatabaseError: the server is away.
    """
    async with store.fenced() as connection:
        if await connection.fetchval(_ALREADY_RECORDED, store.release_id, wait.since):
            return False
        await writes.insert_events(connection, store.release_id, store.actor, [NewEvent("wait", wait.description)])
    return True

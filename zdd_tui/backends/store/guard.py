"""The writes of the guard: readings, decisions and saved state, all under the epoch of the lease."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.store import writes
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.backends.store.records import strip_nul
from zdd_tui.model.guard.decisions import GuardDecision
from zdd_tui.model.release.records import Actor, GuardReading, NewEvent
from zdd_tui.model.release.summary import WaitStatus

GUARD_ACTOR = "guard"
"""The name of the actor. A unique index allows it one rollback command per release."""

_SAVE_READINGS = """
WITH given AS (
    SELECT * FROM jsonb_to_recordset($2) AS given(
        rule text, verdict text, reason text, unit text, value float8, baseline float8, "limit" float8,
        samples bigint, series float8[], action text, should_act boolean, is_applicable boolean, max_age float8,
        action_taken text, age float8)
), before AS (SELECT rule, verdict, is_applicable FROM zdd.guard WHERE release_id = $1),
fresh AS (
    INSERT INTO zdd.guard AS old (release_id, rule, verdict, reason, unit, value, baseline, "limit", samples, series,
                                  action, should_act, is_applicable, max_age, action_taken, observed_at)
    SELECT $1, rule, verdict, reason, unit, value, baseline, "limit", samples, series, action, should_act,
           is_applicable, max_age, action_taken, clock_timestamp() - make_interval(secs => age) FROM given
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

_SAVE_SNAPSHOT = """
INSERT INTO zdd.guard_snapshot (release_id, epoch, part, body) VALUES ($1, $2, $3, $4)
ON CONFLICT (release_id, part) DO UPDATE SET
    epoch = excluded.epoch, body = excluded.body, saved_at = clock_timestamp()
"""

# A failure keeps the time of the last response: how long the server has been silent is what screens show.
_SAVE_PROBE = """
INSERT INTO zdd.guard_snapshot AS before (release_id, epoch, part, body, saved_at)
VALUES ($1, $2, $3, $4, CASE WHEN $4 = ''::bytea THEN clock_timestamp() ELSE 'epoch' END)
ON CONFLICT (release_id, part) DO UPDATE SET
    epoch = excluded.epoch, body = excluded.body, saved_at = greatest(excluded.saved_at, before.saved_at)
"""

_LOAD_SNAPSHOT = """
SELECT part, body, extract(epoch FROM clock_timestamp() - saved_at)::float8 AS since
FROM zdd.guard_snapshot WHERE release_id = $1
"""


async def save_readings(
    store: AgentStore,
    readings: Sequence[GuardReading],
    ages: Mapping[str, float],
    snapshot: Mapping[str, bytes] | None = None,
) -> None:
    """Writes the newest readings, and an audit line where a rule starts or stops failing or having no data.

    Args:
        ages: by rule, how many seconds old the oldest data are that its reading rests on.
        snapshot: by part, the state that the next guard continues with; a missing part stays as it is.

    Raises:
        StaleEpoch: another agent runs the release.
        DatabaseError: the server is unreachable.
    """
    if not readings:
        return
    rows = [asdict(each) | {"reason": strip_nul(each.reason), "age": ages[each.rule]} for each in readings]
    async with store.fenced() as connection:
        changed = await connection.fetch(_SAVE_READINGS, store.release_id, json.dumps(rows))
        for part, body in (snapshot or {}).items():
            await connection.execute(_SAVE_SNAPSHOT, store.release_id, store.epoch, part, body)
        lines = [
            NewEvent(GUARD_ACTOR, f"{row['rule']}: {row['verdict']}", row["reason"], _guard_actor(store))
            for row in changed
            if row["verdict"] != row["before"] and not {row["verdict"], row["before"]} <= {"pass", "inconclusive"}
        ]
        await writes.insert_events(connection, store.release_id, store.actor, lines)


PROBE_PART = "prometheus"


async def save_probe(store: AgentStore, error: str) -> None:
    """Writes that the metrics server was probed, and when it last responded, by the database's clock.

    Args:
        error: empty where it has answered.

    Raises:
        StaleEpoch: another agent runs the release.
        DatabaseError: the server is unreachable.
    """
    async with store.fenced() as connection:
        await connection.execute(
            _SAVE_PROBE, store.release_id, store.epoch, PROBE_PART, strip_nul(error).encode("utf-8", "replace")
        )


async def load_snapshot(store: AgentStore) -> dict[str, tuple[bytes, float]]:
    """Reads by part the state that the last guard saved, and its age in seconds."""
    async with store.fenced() as connection:
        rows = await connection.fetch(_LOAD_SNAPSHOT, store.release_id)
    return {row["part"]: (row["body"], max(0.0, row["since"])) for row in rows}


async def has_requested_rollback(store: AgentStore) -> bool:
    """Whether this guard or an earlier one has requested the rollback of the release."""
    async with store.fenced() as connection:
        return bool(
            await connection.fetchval(
                "SELECT EXISTS (SELECT FROM zdd.command WHERE release_id = $1 AND actor = $2 AND kind = 'rollback')",
                store.release_id,
                GUARD_ACTOR,
            )
        )


async def execute_decision(store: AgentStore, decision: GuardDecision) -> bool:
    """Queues the command of a decision, with its cause and its audit line, in one transaction.

    Returns:
        False when it has no effect: the release has ended or is rolling back, or a rollback was requested before.
    """
    async with store.fenced() as connection:
        # The row stays locked until the command is stored: the release cannot end in between.
        is_active = await connection.fetchval(
            "SELECT state IN ('running', 'waiting', 'failed') FROM zdd.release WHERE id = $1 FOR UPDATE",
            store.release_id,
        )
        if not is_active or (decision.command is not None and not await _enqueue_command(connection, store, decision)):
            return False
        await connection.execute(
            "UPDATE zdd.guard SET action_taken = $3 WHERE release_id = $1 AND rule = $2",
            store.release_id,
            decision.rule,
            str(decision.action),
        )
        action = "alert" if decision.command is None else f"triggered {decision.command}"
        event = NewEvent(GUARD_ACTOR, f"{decision.rule}: {action}", decision.reason, _guard_actor(store))
        await writes.insert_events(connection, store.release_id, store.actor, [event])
    return True


async def _enqueue_command(connection: Connection, store: AgentStore, decision: GuardDecision) -> bool:
    reason = strip_nul(decision.reason)
    command_id = await connection.fetchval(
        "INSERT INTO zdd.command (release_id, kind, reason, actor, host) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT DO NOTHING RETURNING id",
        store.release_id,
        str(decision.command),
        reason,
        GUARD_ACTOR,
        store.actor.host,
    )
    if command_id is None:
        return False
    await connection.execute("UPDATE zdd.release SET cause = $2 WHERE id = $1", store.release_id, reason)
    return True


def _guard_actor(store: AgentStore) -> Actor:
    return Actor(GUARD_ACTOR, store.actor.host)


_ALREADY_RECORDED = (
    "SELECT EXISTS (SELECT FROM zdd.event WHERE release_id = $1 AND kind = 'wait' AND at > to_timestamp($2))"
)


async def record_overdue_wait(store: AgentStore, wait: WaitStatus) -> bool:
    """Writes an audit line of kind `wait`, once for each wait, whichever agent notices it.

    Returns:
        whether it was written now.

    Raises:
        StaleEpoch: another agent runs the release.
        DatabaseError: the server is unreachable.
    """
    async with store.fenced() as connection:
        if await connection.fetchval(_ALREADY_RECORDED, store.release_id, wait.since):
            return False
        await writes.insert_events(connection, store.release_id, store.actor, [NewEvent("wait", wait.description)])
    return True

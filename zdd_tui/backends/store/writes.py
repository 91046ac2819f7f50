"""The statements that write to the `zdd` schema. Call them only inside a fenced transaction."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.store.records import strip_nul
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.release.gate import GateReading
from zdd_tui.model.release.records import Actor, NewEvent, StepChange
from zdd_tui.model.release.state import Release, StepStatus

_STEPS = """
UPDATE zdd.step s SET
    status = n.status,
    started_at = CASE WHEN n.status = ANY ($4::text[]) THEN clock_timestamp()
                    WHEN n.status = ANY ($5::text[]) OR n.status = $6 THEN s.started_at END,
    ended_at = CASE WHEN n.status = ANY ($5::text[]) THEN clock_timestamp() END,
    note = '',
    error = CASE WHEN n.status = ANY ($4::text[]) THEN '' ELSE s.error END
FROM unnest($2::text[], $3::text[]) AS n(name, status)
WHERE s.release_id = $1 AND s.name = n.name AND s.status <> n.status
"""

_GATES = """
WITH before AS (SELECT name, verdict FROM zdd.gate WHERE release_id = $1),
fresh AS (
    INSERT INTO zdd.gate AS old (release_id, name, verdict, reason, max_age, observed_at)
    SELECT $1, name, verdict, reason, max_age, to_timestamp(observed_at)
    FROM unnest($2::text[], $3::text[], $4::text[], $5::float8[], $6::float8[])
        AS n(name, verdict, reason, max_age, observed_at)
    ON CONFLICT (release_id, name) DO UPDATE SET
        verdict = excluded.verdict, reason = excluded.reason, max_age = excluded.max_age,
        observed_at = excluded.observed_at,
        since = CASE WHEN old.verdict = excluded.verdict THEN old.since ELSE clock_timestamp() END
    RETURNING name, verdict, reason
)
SELECT fresh.*, coalesce(before.verdict, 'unknown') AS before FROM fresh LEFT JOIN before USING (name) ORDER BY name
"""


async def update_release(connection: Connection, release_id: int, state: Release) -> None:
    """Writes the state of the release and the statuses of its steps with their times."""
    await connection.execute(
        # A resume clears the cause of a pause by the guard; the cause of a rollback stays.
        "UPDATE zdd.release SET state = $2, phase = $3, paused = $4, error = $5,"
        " cause = CASE WHEN paused AND NOT $4 AND NOT $7 THEN '' ELSE cause END,"
        " finished_at = CASE WHEN $6 THEN coalesce(finished_at, clock_timestamp()) END, tuning = $8,"
        " table_pauses = $9 WHERE id = $1",
        release_id,
        str(state.state),
        state.phase,
        state.paused,
        strip_nul(state.error),
        state.state.has_ended,
        state.state.is_rolling_back,
        json.dumps(dict(state.tuning)),
        json.dumps([asdict(pause) for pause in state.table_pauses]),
    )
    await connection.execute(
        _STEPS,
        release_id,
        [spec.name for spec in state.strategy.steps],
        [str(status) for status in state.statuses],
        [str(StepStatus.STARTED), str(StepStatus.UNDOING)],
        [str(status) for status in (StepStatus.DONE, StepStatus.FAILED, StepStatus.UNDONE, StepStatus.UNDO_FAILED)],
        str(StepStatus.SUSPENDED),
    )


async def update_step(connection: Connection, release_id: int, change: StepChange) -> None:
    """Writes the attributes of a step that are not None in `change`."""
    await connection.execute(
        "UPDATE zdd.step SET detail = coalesce($3::jsonb, detail), note = coalesce($4, note),"
        " error = coalesce($5, error) WHERE release_id = $1 AND name = $2",
        release_id,
        change.name,
        None if change.detail is None else json.dumps(change.detail),
        None if change.note is None else strip_nul(change.note),
        None if change.error is None else strip_nul(change.error),
    )


async def save_gates(connection: Connection, release_id: int, readings: Sequence[GateReading]) -> list[NewEvent]:
    """Writes the newest readings; returns an event for each changed verdict."""
    newest = list({reading.name: reading for reading in readings}.values())
    rows = await connection.fetch(
        _GATES,
        release_id,
        [reading.name for reading in newest],
        [str(reading.verdict) for reading in newest],
        [strip_nul(reading.reason) for reading in newest],
        [reading.max_age for reading in newest],
        [reading.observed_at for reading in newest],
    )
    return [
        NewEvent("gate", f"{row['name']}: {row['verdict']}", row["reason"])
        for row in rows
        if row["verdict"] != row["before"]
    ]


async def insert_events(
    connection: Connection, release_id: int, default_actor: Actor, lines: Sequence[NewEvent]
) -> None:
    """Writes audit lines in their order; `default_actor` acts where a line has no actor."""
    if not lines:
        return
    actors = [line.actor or default_actor for line in lines]
    # One statement: one round trip for many lines.
    await connection.execute(
        "INSERT INTO zdd.event (release_id, actor, host, kind, message, reason, role)"
        " SELECT $1, n.actor, n.host, n.kind, n.message, n.reason, n.role FROM unnest($2::text[], $3::text[],"
        " $4::text[], $5::text[], $6::text[], $7::text[])"
        " WITH ORDINALITY AS n(actor, host, kind, message, reason, role, nr) ORDER BY n.nr",
        release_id,
        [actor.name for actor in actors],
        [actor.host for actor in actors],
        [line.kind for line in lines],
        [strip_nul(line.message) for line in lines],
        [strip_nul(line.reason) for line in lines],
        [actor.role for actor in actors],
    )


async def complete_command(
    connection: Connection, release_id: int, command_id: int, *, refused: bool, outcome: str
) -> NewEvent:
    """Writes the result of a command; returns its audit event.

    Raises:
        DatabaseError: it was answered before.
    """
    row = await connection.fetchrow(
        "UPDATE zdd.command SET status = $3, outcome = $4, answered_at = clock_timestamp()"
        " WHERE id = $1 AND release_id = $2 AND status = 'queued'"
        " RETURNING left(kind, 100) AS kind, left(reason, 16384) AS reason, left(actor, 256) AS actor,"
        # The guard's own commands come from the agent's role.
        " left(host, 256) AS host, CASE WHEN actor = 'guard' AND role = session_user THEN '' ELSE role END AS role",
        command_id,
        release_id,
        "refused" if refused else "done",
        strip_nul(outcome),
    )
    if row is None:
        raise DatabaseError(f"command {command_id} of release {release_id} was answered before")
    kind = "refused" if refused else "command"
    return NewEvent(kind, f"{row['kind']}: {outcome}", row["reason"], Actor(row["actor"], row["host"], row["role"]))

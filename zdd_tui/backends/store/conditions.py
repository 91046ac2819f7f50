"""The stored standing conditions of a release. Every write is fenced."""

import json
from collections.abc import Sequence

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.store import backfill, writes
from zdd_tui.backends.store.agent import AgentStore
from zdd_tui.backends.store.records import strip_nul
from zdd_tui.model.operations.removed_use import UseBaseline
from zdd_tui.model.release.condition import ConditionReading
from zdd_tui.model.release.condition_findings import SchemaObject
from zdd_tui.model.release.gate import GateReading
from zdd_tui.model.release.records import NewEvent, StepChange
from zdd_tui.model.release.state import Release

_SAVE = """
INSERT INTO zdd.condition AS old (release_id, name, status, text, who, hint, restored, affects_rows, breached_at)
SELECT $1, n.name, n.status, n.text, n.who, n.hint, n.restored, n.affects_rows,
       CASE WHEN n.status = 'breached' THEN clock_timestamp() END
FROM jsonb_to_recordset($2) AS n(name text, status text, text text, who text, hint text, restored boolean,
                                 affects_rows boolean)
ON CONFLICT (release_id, name) DO UPDATE SET
    status = excluded.status, text = excluded.text, who = excluded.who, hint = excluded.hint,
    restored = excluded.restored, affects_rows = excluded.affects_rows,
    since = CASE WHEN old.status = excluded.status THEN old.since ELSE clock_timestamp() END,
    breached_at = CASE WHEN excluded.status = 'breached' AND old.status <> 'breached' THEN clock_timestamp()
                       ELSE old.breached_at END
"""


async def save_conditions(
    store: AgentStore,
    readings: Sequence[ConditionReading],
    *,
    events: Sequence[NewEvent] = (),
    gates: Sequence[GateReading] = (),
    verify_again: Release | None = None,
    steps: Sequence[StepChange] = (),
) -> None:
    """Writes readings, audit lines and withdrawn verdicts in one transaction.

    Args:
        gates: the readings of gates that were withdrawn.
        verify_again: the release with the step of the verification set back; its result is discarded.
        steps: changes of the steps that were stopped.
    """
    rows = [
        {
            "name": reading.name,
            "status": str(reading.status),
            "text": strip_nul(reading.text),
            "who": strip_nul(reading.who),
            "hint": strip_nul(reading.hint),
            "restored": reading.restored,
            "affects_rows": reading.affects_rows,
        }
        for reading in readings
    ]
    async with store.fenced() as conn:
        await conn.execute(_SAVE, store.release_id, json.dumps(rows))
        if verify_again is not None:
            await backfill.reset_verification(conn, store.release_id)
            await writes.update_release(conn, store.release_id, verify_again)
        for change in steps:
            await writes.update_step(conn, store.release_id, change)
        changed = await writes.save_gates(conn, store.release_id, gates) if gates else []
        await writes.insert_events(conn, store.release_id, store.actor, [*events, *changed])


async def was_breached(conn: Connection, release_id: int) -> bool:
    """Whether rows may have been written on one side only at some time of this release."""
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM zdd.condition WHERE release_id = $1 AND affects_rows"
            " AND breached_at IS NOT NULL)",
            release_id,
        )
    )


async def load_baseline(conn: Connection, release_id: int) -> list[SchemaObject]:
    """Reads the objects as they were when the release began to rely on them; empty before that."""
    raw = await conn.fetchval("SELECT objects FROM zdd.baseline WHERE release_id = $1", release_id)
    return [SchemaObject.from_json(document) for document in json.loads(raw)] if raw else []


async def save_baseline(store: AgentStore, objects: Sequence[SchemaObject]) -> None:
    """Writes the objects that the release relies on from now on."""
    async with store.fenced() as conn:
        await conn.execute(
            "INSERT INTO zdd.baseline (release_id, objects) VALUES ($1, $2)"
            " ON CONFLICT (release_id) DO UPDATE SET objects = excluded.objects, at = clock_timestamp()",
            store.release_id,
            json.dumps([each.to_json() for each in objects]),
        )


async def load_use_baseline(conn: Connection, release_id: int) -> UseBaseline | None:
    """Reads the counts from which uses of removed objects are counted; None before they are taken."""
    raw = await conn.fetchval("SELECT uses FROM zdd.baseline WHERE release_id = $1", release_id)
    return UseBaseline.from_json(json.loads(raw)) if raw else None


async def save_use_baseline(store: AgentStore, baseline: UseBaseline) -> None:
    """Writes these counts."""
    async with store.fenced() as conn:
        await conn.execute(
            "INSERT INTO zdd.baseline (release_id, uses) VALUES ($1, $2)"
            " ON CONFLICT (release_id) DO UPDATE SET uses = excluded.uses",
            store.release_id,
            json.dumps(baseline.to_json()),
        )

"""The tables of the witness: zdd.witness, zdd.witness_record, zdd.witness_row and zdd.witness_writer.

Records are added by the trigger of :mod:`zdd_tui.model.ddl.witness`; everything else is written by the agent, with a
fenced connection.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from zdd_tui.backends.postgres.connection import Connection, Row
from zdd_tui.backends.store.backfill import Key
from zdd_tui.model.ddl.names import witness_triggers
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.release.witness import MAX_COUNTED, MAX_SHOWN_REPLACED, ReplacedWrite, WitnessRecord, Writer

MOVED_RECORDS = 5000
"""Records that are moved in one transaction."""

TRUNCATED: Final[Key] = ()
"""Stands for the key in the record of a TRUNCATE."""

_MOVE = """
WITH moved AS (
    DELETE FROM zdd.witness_record WHERE id IN (
        SELECT id FROM zdd.witness_record WHERE release_id = $1 ORDER BY id LIMIT $2)
    RETURNING *),
grouped AS (
    SELECT release_id, key, application_name, address, role, bool_and(is_copied) AS is_copied,
        CASE WHEN count(DISTINCT side) FILTER (WHERE NOT is_copied) > 1 THEN 'both'
            ELSE coalesce(min(side) FILTER (WHERE NOT is_copied), min(side)) END AS side,
        (array_agg(operation ORDER BY id DESC))[1] AS operation,
        (array_agg(session_role ORDER BY id DESC))[1] AS session_role, bool_or(is_checked) AS is_checked,
        bool_or(is_foreign) AS is_foreign, count(*) AS writes, min(at) AS first_at, max(at) AS last_at,
        coalesce(max(xid::text::numeric) FILTER (WHERE NOT is_copied), max(xid::text::numeric))::text::xid8 AS xid
    FROM moved GROUP BY release_id, key, application_name, address, role)
INSERT INTO zdd.witness_row AS w (release_id, key, application_name, address, role, side, operation, session_role,
    is_checked, is_foreign, writes, first_at, last_at, xid, settled_at, outcome)
SELECT release_id, key, application_name, address, role, side, operation, session_role,
    is_checked, is_foreign, writes, first_at, last_at, xid,
    CASE WHEN is_copied THEN clock_timestamp() END, CASE WHEN is_copied THEN 'copied' ELSE '' END
FROM grouped
ON CONFLICT (release_id, key, application_name, address, role) DO UPDATE SET
    side = CASE WHEN w.settled_at IS NOT NULL THEN EXCLUDED.side
        WHEN EXCLUDED.outcome = 'copied' OR w.side = EXCLUDED.side THEN w.side ELSE 'both' END,
    operation = EXCLUDED.operation, session_role = EXCLUDED.session_role,
    is_checked = w.is_checked OR EXCLUDED.is_checked, is_foreign = w.is_foreign OR EXCLUDED.is_foreign,
    writes = w.writes + EXCLUDED.writes, last_at = EXCLUDED.last_at,
    xid = CASE WHEN w.settled_at IS NULL AND EXCLUDED.outcome = 'copied' THEN w.xid ELSE EXCLUDED.xid END,
    settled_at = CASE WHEN w.settled_at IS NOT NULL THEN EXCLUDED.settled_at END,
    outcome = CASE WHEN w.settled_at IS NOT NULL THEN EXCLUDED.outcome ELSE '' END, error = ''
"""
"""A write that was copied at its commit is settled, and leaves what is open as it is: both sides agreed before it, so
another transaction than the open one has made them agree."""

_WRITER_COLUMNS = "application_name, address, role, session_role, rows, open_rows, coalesce(pod, '') AS pod"
_TIMES = "extract(epoch FROM first_at)::float8 AS first_at, extract(epoch FROM last_at)::float8 AS last_at"

WITNESS_JSON = f"""
json_build_object(
    'open_rows', (SELECT count(*) FROM (
            SELECT DISTINCT key FROM zdd.witness_row WHERE release_id = $1 AND settled_at IS NULL
            LIMIT {MAX_COUNTED}) o)
        + (SELECT count(*) FROM (
            SELECT FROM zdd.witness_record WHERE release_id = $1 AND NOT is_copied LIMIT {MAX_COUNTED}) r),
    'has_records', EXISTS (SELECT FROM zdd.witness_record WHERE release_id = $1),
    'writers', (SELECT coalesce(json_agg(w ORDER BY last_at DESC), '[]') FROM (
        SELECT {_WRITER_COLUMNS}, {_TIMES} FROM zdd.witness_writer WHERE release_id = $1) w),
    'error', coalesce((SELECT error FROM zdd.witness_row
        WHERE release_id = $1 AND settled_at IS NULL AND error <> '' ORDER BY first_at LIMIT 1), ''),
    'replaced_rows', (SELECT count(*) FROM zdd.witness_row WHERE release_id = $1 AND replaced_at IS NOT NULL),
    'replaced', (SELECT coalesce(json_agg(r), '[]') FROM (
        SELECT key, replaced_by AS transaction, extract(epoch FROM replaced_write)::float8 AS written_at,
            extract(epoch FROM replaced_at)::float8 AS found_at, application_name, address, role, session_role,
            coalesce((SELECT pod FROM zdd.witness_writer AS w WHERE w.release_id = t.release_id
                AND (w.application_name, w.address, w.role) = (t.application_name, t.address, t.role)), '') AS pod
        FROM zdd.witness_row AS t WHERE release_id = $1 AND replaced_at IS NOT NULL
        ORDER BY replaced_at DESC LIMIT {MAX_SHOWN_REPLACED}) r))
"""  # noqa: S608  the pieces are constants
"""What the witness has found, as a JSON expression with the release's id as $1."""


@dataclass(frozen=True, slots=True)
class OpenRow:
    """A recorded row that is not settled.

    Attributes:
        key: `TRUNCATED` for a TRUNCATE.
        sides: the sides that were written alone, ``old`` and ``new``.
    """

    key: Key
    sides: frozenset[str]


def parse_witness(raw: Any) -> WitnessRecord:
    """Converts the JSON of that expression."""
    return WitnessRecord(
        raw["open_rows"],
        tuple(Writer(**writer) for writer in raw["writers"]),
        raw["error"],
        raw["has_records"],
        raw["replaced_rows"],
        tuple(ReplacedWrite(**each | {"key": tuple(each["key"])}) for each in raw["replaced"]),
    )


async def start_recording(conn: Connection, release_id: int, name: str, counts_from: str) -> None:
    """Starts recording for a release. Records of an earlier release of the plan are removed.

    Args:
        counts_from: id of the first transaction whose writer must write both sides.
    """
    await conn.execute(
        "INSERT INTO zdd.witness AS w (name, release_id, counts_from) VALUES ($2, $1, $3::text::xid8)"
        " ON CONFLICT (name) DO UPDATE SET release_id = EXCLUDED.release_id, counts_from = CASE"
        " WHEN w.release_id = EXCLUDED.release_id THEN coalesce(w.counts_from, EXCLUDED.counts_from)"
        " ELSE EXCLUDED.counts_from END",
        release_id,
        name,
        counts_from,
    )


async def stop_recording(conn: Connection, release_id: int) -> None:
    """Stops recording."""
    await conn.execute("UPDATE zdd.witness SET counts_from = NULL WHERE release_id = $1", release_id)


async def read_continuity(conn: Connection, plan: Plan) -> str:
    """Returns a text that stays the same while the witness misses nothing.

    It changes when a trigger on the old table was dropped, disabled or changed in between, and when a record could not
    be written.
    """
    return await read_trigger_continuity(conn, witness_triggers(plan, "old"))


async def read_trigger_continuity(conn: Connection, names: Iterable[str]) -> str:
    """As :func:`read_continuity`, for triggers of ours by their names. One that does not exist leaves no part."""
    missed = await conn.fetchval("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM zdd.witness_missed")
    triggers = await conn.fetch(
        "SELECT tgname || ' ' || oid || ' ' || xmin || ' ' || tgenabled::text AS state FROM pg_trigger"
        " WHERE tgname = ANY ($1::text[]) AND NOT tgisinternal ORDER BY 1",
        list(names),
    )
    return "; ".join([f"missed {missed}", *(row["state"] for row in triggers)])


async def move_records(conn: Connection, release_id: int) -> int:
    """Moves new records to zdd.witness_row, one row for each key and writer. Returns how many were moved at most."""
    count = await conn.fetchval(
        "SELECT count(*) FROM (SELECT FROM zdd.witness_record WHERE release_id = $1 LIMIT $2) r",
        release_id,
        MOVED_RECORDS,
    )
    if count:
        await conn.execute(_MOVE, release_id, MOVED_RECORDS)
    return int(count)


async def list_open_rows(conn: Connection, release_id: int, limit: int) -> list[OpenRow]:
    """Reads recorded rows that are not settled, in no order, so that each gets its turn; failed ones come last."""
    rows = await conn.fetch(
        "SELECT key, array_agg(DISTINCT side) AS sides FROM zdd.witness_row"
        " WHERE release_id = $1 AND settled_at IS NULL GROUP BY key ORDER BY max(error), random() LIMIT $2",
        release_id,
        limit,
    )
    return [OpenRow(tuple(json.loads(row["key"])), _parse_sides(row["sides"])) for row in rows]


def _parse_sides(stored: Iterable[str]) -> frozenset[str]:
    """``both`` is stored where one writer has written each side alone, or both in one statement."""
    return frozenset(side for each in stored for side in (("old", "new") if each == "both" else (each,)))


async def count_open_rows(conn: Connection, release_id: int) -> int:
    """Counts the rows that :func:`list_open_rows` reads without a limit."""
    return int(
        await conn.fetchval(
            "SELECT count(DISTINCT key) FROM zdd.witness_row WHERE release_id = $1 AND settled_at IS NULL", release_id
        )
    )


async def read_open_sides(conn: Connection, release_id: int, keys: Iterable[Key]) -> dict[Key, frozenset[str]]:
    """Reads which sides of the keys' rows were written alone, for those that are not settled."""
    rows = await conn.fetch(
        "SELECT key, array_agg(DISTINCT side) AS sides FROM zdd.witness_row"
        " WHERE release_id = $1 AND key = ANY ($2::text[]::jsonb[]) AND settled_at IS NULL GROUP BY key",
        release_id,
        [json.dumps(list(key)) for key in keys],
    )
    return {tuple(json.loads(row["key"])): _parse_sides(row["sides"]) for row in rows}


async def read_sides_now(conn: Connection, release_id: int, key: Key) -> frozenset[str]:
    """As :func:`read_open_sides` for one key, with the records that are not moved yet: call it with the row locked."""
    rows = await conn.fetch(
        "SELECT side FROM zdd.witness_row WHERE release_id = $1 AND key = $2::text::jsonb AND settled_at IS NULL"
        " UNION SELECT side FROM zdd.witness_record WHERE release_id = $1 AND key = $2::text::jsonb AND NOT is_copied",
        release_id,
        json.dumps(list(key)),
    )
    return _parse_sides(row["side"] for row in rows)


async def is_truncation_recorded(conn: Connection, release_id: int) -> bool:
    """Whether a TRUNCATE of one of the two tables is recorded and not settled."""
    return bool(await read_sides_now(conn, release_id, TRUNCATED))


async def settle_rows(conn: Connection, release_id: int, keys: Iterable[Key], outcome: str) -> None:
    """Marks the open rows of the keys. Rows that no commit found different, and that agree, are removed."""
    dumped = [json.dumps(list(key)) for key in keys]
    if not dumped:
        return
    if outcome == "agreed":
        await conn.execute(
            "DELETE FROM zdd.witness_row WHERE release_id = $1 AND key = ANY ($2::text[]::jsonb[])"
            " AND settled_at IS NULL AND NOT is_checked",
            release_id,
            dumped,
        )
    await conn.execute(
        "UPDATE zdd.witness_row SET settled_at = clock_timestamp(), outcome = $3, error = ''"
        " WHERE release_id = $1 AND key = ANY ($2::text[]::jsonb[]) AND settled_at IS NULL",
        release_id,
        dumped,
        outcome,
    )


async def list_old_side_writes(conn: Connection, release_id: int, keys: Iterable[Key]) -> dict[Key, frozenset[str]]:
    """Reads, for open rows whose old side was written alone, the transactions that did: ids as in a row's ``xmin``.

    A row that no commit has compared counts where its writer is recorded for the old side only.
    """
    rows = await conn.fetch(
        "SELECT key, array_agg(DISTINCT (xid::text::numeric % 4294967296)::text) AS xids FROM zdd.witness_row"
        " WHERE release_id = $1 AND key = ANY ($2::text[]::jsonb[]) AND settled_at IS NULL"
        " AND (side = 'old' OR side = 'both' AND is_checked) GROUP BY key",
        release_id,
        [json.dumps(list(key)) for key in keys],
    )
    return {tuple(json.loads(row["key"])): frozenset(row["xids"]) for row in rows}


async def mark_replaced(conn: Connection, release_id: int, found: Mapping[Key, str]) -> None:
    """Records that the open writes of the old side may have been overwritten, by the transaction that wrote it last.

    Args:
        found: that transaction's id, by key.
    """
    await conn.executemany(
        "UPDATE zdd.witness_row SET is_checked = true, replaced_at = clock_timestamp(), replaced_write = last_at,"
        " replaced_by = $3 WHERE release_id = $1 AND key = $2::text::jsonb AND settled_at IS NULL"
        " AND (side = 'old' OR side = 'both' AND is_checked)",
        [(release_id, json.dumps(list(key)), transaction) for key, transaction in found.items()],
    )


async def list_new_side_keys(conn: Connection, release_id: int, keys: Iterable[Key]) -> list[Key]:
    """Those of the keys whose row is not settled, and was found different after a write of the new side."""
    rows = await conn.fetch(
        "SELECT DISTINCT key FROM zdd.witness_row WHERE release_id = $1 AND key = ANY ($2::text[]::jsonb[])"
        " AND settled_at IS NULL AND is_checked AND side <> 'old' AND key <> '[]'",
        release_id,
        [json.dumps(list(key)) for key in keys],
    )
    return [tuple(json.loads(row["key"])) for row in rows]


async def mark_different(conn: Connection, release_id: int, keys: Iterable[Key]) -> None:
    """Records that the sides of the keys' rows differ, also where no commit could compare them."""
    await conn.execute(
        "UPDATE zdd.witness_row SET is_checked = true WHERE release_id = $1"
        " AND key = ANY ($2::text[]::jsonb[]) AND settled_at IS NULL AND NOT is_checked",
        release_id,
        [json.dumps(list(key)) for key in keys],
    )


async def save_repair_error(conn: Connection, release_id: int, key: Key, error: str) -> None:
    """Records why a row could not be copied again."""
    await conn.execute(
        "UPDATE zdd.witness_row SET error = $3 WHERE release_id = $1 AND key = $2::text::jsonb AND settled_at IS NULL"
        " AND error <> $3",
        release_id,
        json.dumps(list(key)),
        error,
    )


async def update_writers(conn: Connection, release_id: int) -> None:
    """Counts the rows of each writer anew. Writers without a row that counts are removed."""
    counted = (
        "SELECT release_id, application_name, address, role, max(session_role) AS session_role, count(*) AS rows,"
        " count(*) FILTER (WHERE settled_at IS NULL) AS open_rows, min(first_at) AS first_at, max(last_at) AS last_at"
        " FROM zdd.witness_row WHERE release_id = $1 AND is_checked AND is_foreign"
        " GROUP BY release_id, application_name, address, role"
    )
    await conn.execute(
        f"DELETE FROM zdd.witness_writer w WHERE release_id = $1 AND NOT EXISTS (SELECT FROM ({counted}) c"  # noqa: S608
        " WHERE (c.application_name, c.address, c.role) = (w.application_name, w.address, w.role))",
        release_id,
    )
    await conn.execute(
        "INSERT INTO zdd.witness_writer AS w (release_id, application_name, address, role, session_role, rows,"
        f" open_rows, first_at, last_at) {counted} ON CONFLICT (release_id, application_name, address, role)"
        " DO UPDATE SET session_role = EXCLUDED.session_role, rows = EXCLUDED.rows, open_rows = EXCLUDED.open_rows,"
        " first_at = EXCLUDED.first_at, last_at = EXCLUDED.last_at"
        " WHERE (w.session_role, w.rows, w.open_rows, w.last_at)"
        " IS DISTINCT FROM (EXCLUDED.session_role, EXCLUDED.rows, EXCLUDED.open_rows, EXCLUDED.last_at)",
        release_id,
    )


async def list_unnamed_addresses(conn: Connection, release_id: int) -> list[str]:
    """Reads the addresses of writers for which no pod was looked up."""
    rows = await conn.fetch(
        "SELECT DISTINCT address FROM zdd.witness_writer WHERE release_id = $1 AND pod IS NULL", release_id
    )
    return [row["address"] for row in rows]


async def save_pods(conn: Connection, release_id: int, pods: Mapping[str, str]) -> None:
    """Writes the pod of each address; empty for an address that no pod has."""
    await conn.executemany(
        "UPDATE zdd.witness_writer SET pod = $3 WHERE release_id = $1 AND address = $2 AND pod IS NULL",
        [(release_id, address, pod) for address, pod in pods.items()],
    )


async def read_writers_of(conn: Connection, release_id: int, keys: Sequence[Key]) -> list[Writer]:
    """Reads the writers that the witness knows of the given keys, the last one first."""
    rows = await conn.fetch(
        "SELECT application_name, address, role, session_role, count(*) AS rows,"
        " count(*) FILTER (WHERE settled_at IS NULL) AS open_rows,"
        " extract(epoch FROM min(first_at))::float8 AS first_at,"
        " extract(epoch FROM max(last_at))::float8 AS last_at FROM zdd.witness_row"
        " WHERE release_id = $1 AND key = ANY ($2::text[]::jsonb[]) GROUP BY 1, 2, 3, 4 ORDER BY last_at DESC",
        release_id,
        [json.dumps(list(key)) for key in keys],
    )
    return [_parse_writer(row) for row in rows]


def _parse_writer(row: Row) -> Writer:
    return Writer(**dict(row))

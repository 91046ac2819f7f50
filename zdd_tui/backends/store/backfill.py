"""The rows of zdd.backfill, zdd.range, zdd.failed_row and zdd.mismatch. Every function takes a fenced connection, so
that its writes commit together with the batch.

``job`` is the name of the step that fills a table; empty for the rows of a ``change:``.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zdd_tui.backends.postgres.connection import Connection

Key = tuple[str, ...]
"""The columns of a key as text."""

RangeKind = Literal["backfill", "verify"]


@dataclass(frozen=True, slots=True)
class Range:
    """A part of the table in key order, and its progress.

    Attributes:
        lo: exclusive; None: from the start.
        hi: inclusive; None: to the end.
        cursor: the last key that is done; None: not started.
    """

    id: int
    lo: Key | None
    hi: Key | None
    cursor: Key | None
    rows: int
    done: bool

    @property
    def start_key(self) -> Key | None:
        """The start of the next page, exclusive."""
        return self.cursor or self.lo


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """What a batch adds to zdd.backfill.

    Attributes:
        rows_scanned: rows read in this batch.
        seconds: duration of this batch.
        recent: the newest batches, this one included, in the form of zdd.backfill.recent.
    """

    rows_scanned: int
    seconds: float
    batch_rows: int
    rate: float
    throttle: str = ""
    recent: Sequence[Sequence[float]] = ()


class CheckpointLost(Exception):
    """The server has crashed and lost batches that were committed but not flushed."""


@dataclass(frozen=True, slots=True)
class RowMismatch:
    """A row whose two sides differ. Its values are not stored.

    Attributes:
        columns: names of the new columns that differ; empty when a whole row is missing or ``up`` fails.
        reason: text for the screen.
    """

    key: Key
    reason: str
    columns: tuple[str, ...] = ()
    has_old: bool = True
    has_new: bool = True

    def __str__(self) -> str:
        return f"{', '.join(self.key)} ({self.reason})"


# `replica lag` of `replica lag 6.1s (standby), limit 5s`: the waits of one reason are added up.
_WAIT_DETAIL = "(:| of | [0-9]).*$"
_WAIT_NAME = f"CASE status WHEN 'paused' THEN 'paused' ELSE regexp_replace(throttle, '{_WAIT_DETAIL}', '') END"
_WAITS_AT_END = (
    "CASE WHEN waiting_since IS NULL THEN waits ELSE waits || jsonb_build_object("
    f"{_WAIT_NAME}, coalesce((waits->>{_WAIT_NAME})::float8, 0)"
    " + extract(epoch FROM clock_timestamp() - waiting_since)::float8) END"
)
_END_WAIT = f"waits = {_WAITS_AT_END}"


def parse_key(raw: str | None) -> Key | None:
    return None if raw is None else tuple(json.loads(raw))


def _dump_key(key: Key | None) -> str | None:
    return None if key is None else json.dumps(list(key))


async def create_backfill(
    conn: Connection, release_id: int, *, rows_total: int, batch_rows: int, job: str = ""
) -> None:
    """Adds the row of a new backfill; does nothing when it exists."""
    await conn.execute(
        "INSERT INTO zdd.backfill (release_id, job, status, rows_total, batch_rows) VALUES ($1, $4, 'prepared', $2, $3)"
        " ON CONFLICT (release_id, job) DO NOTHING",
        release_id,
        rows_total,
        batch_rows,
        job,
    )


async def restart_backfill(conn: Connection, release_id: int, *, rows_total: int, job: str = "") -> None:
    """Starts another pass over the table: its ranges go, and the rows of the pass are added to the total."""
    await drop_ranges(conn, release_id, "backfill", job=job)
    await conn.execute(
        "UPDATE zdd.backfill SET status = 'running', rows_total = rows_done + $2, ended_at = NULL"
        " WHERE release_id = $1 AND job = $3",
        release_id,
        rows_total,
        job,
    )


async def add_ranges(
    conn: Connection,
    release_id: int,
    kind: RangeKind,
    ends: Sequence[Key | None],
    *,
    done: bool = False,
    job: str = "",
) -> None:
    """Adds one range up to each of ``ends``, the first from the start; None: to the end of the table.

    Does nothing where ranges exist, so the bound stays fixed.
    """
    await conn.execute(
        "INSERT INTO zdd.range (release_id, job, id, kind, lo, hi, done)"
        " SELECT $1, $5, number - 1, $2, lag(hi) OVER (ORDER BY number), hi, $4"
        " FROM (SELECT hi::jsonb AS hi, number FROM unnest($3::text[]) WITH ORDINALITY AS e (hi, number)) AS ends"
        " WHERE NOT EXISTS (SELECT FROM zdd.range WHERE release_id = $1 AND kind = $2 AND job = $5)",
        release_id,
        kind,
        [_dump_key(end) for end in ends],
        done,
        job,
    )


async def drop_ranges(conn: Connection, release_id: int, kind: RangeKind, *, job: str = "") -> None:
    await conn.execute("DELETE FROM zdd.range WHERE release_id = $1 AND kind = $2 AND job = $3", release_id, kind, job)


async def list_ranges(conn: Connection, release_id: int, kind: RangeKind, *, job: str = "") -> list[Range]:
    rows = await conn.fetch(
        "SELECT id, lo, hi, cursor, rows, done FROM zdd.range WHERE release_id = $1 AND kind = $2 AND job = $3"
        " ORDER BY id",
        release_id,
        kind,
        job,
    )
    return [
        Range(row["id"], parse_key(row["lo"]), parse_key(row["hi"]), parse_key(row["cursor"]), row["rows"], row["done"])
        for row in rows
    ]


async def advance_range(
    conn: Connection, release_id: int, kind: RangeKind, number: int, *, cursor: Key | None, rows: int, done: bool
) -> None:
    await conn.execute(
        "UPDATE zdd.range SET cursor = coalesce($4::jsonb, cursor), rows = rows + $5, done = $6"
        " WHERE release_id = $1 AND kind = $2 AND id = $3 AND job = ''",
        release_id,
        kind,
        number,
        _dump_key(cursor),
        rows,
        done,
    )


_SAVE_CHECKPOINT = f"""
WITH moved AS (
    UPDATE zdd.range SET cursor = coalesce($3::jsonb, cursor), rows = rows + $4, done = $5
    WHERE release_id = $1 AND job = $12 AND kind = 'backfill' AND id = $2 AND cursor IS NOT DISTINCT FROM $11::jsonb
    RETURNING 1)
UPDATE zdd.backfill SET status = 'running', rows_done = rows_done + $4, batches = batches + least($4, 1),
    rows_total = greatest(rows_total, rows_done + $4), seconds = seconds + $6, batch_rows = $7, rate = $8,
    throttle = $9, recent = $10, updated_at = clock_timestamp(), {_END_WAIT}, waiting_since = NULL
FROM moved WHERE release_id = $1 AND job = $12
"""  # noqa: S608  a constant


async def save_checkpoint(
    conn: Connection,
    release_id: int,
    key_range: Range,
    *,
    end: Key | None,
    done: bool,
    progress: BatchProgress,
    job: str = "",
) -> None:
    """Writes cursor and counters of one batch, from the cursor of ``key_range`` to ``end``.

    Raises:
        CheckpointLost: the stored cursor is another one: undo this batch, and read the range again.
    """
    result = await conn.execute(
        _SAVE_CHECKPOINT,
        release_id,
        key_range.id,
        _dump_key(end),
        progress.rows_scanned,
        done,
        progress.seconds,
        progress.batch_rows,
        progress.rate,
        progress.throttle,
        json.dumps(list(progress.recent)),
        _dump_key(key_range.cursor),
        job,
    )
    if result == "UPDATE 0":
        raise CheckpointLost


_SAME_WAIT = (
    "status = $2 AND waiting_since IS NOT NULL AND $3 <> ''"
    f" AND {_WAIT_NAME} = regexp_replace($3, '{_WAIT_DETAIL}', '')"
)
"""The same reason with other numbers: that wait goes on."""

_SET_STATUS = f"""
UPDATE zdd.backfill SET status = $2, throttle = $3,
    updated_at = CASE WHEN status = $2 THEN updated_at ELSE clock_timestamp() END,
    waits = CASE WHEN {_SAME_WAIT} THEN waits ELSE {_WAITS_AT_END} END,
    waiting_since = CASE WHEN {_SAME_WAIT} THEN waiting_since
        WHEN $2 = 'paused' OR ($2 = 'running' AND $3 <> '') THEN clock_timestamp() END,
    ended_at = CASE WHEN $2 = 'done' THEN clock_timestamp() ELSE ended_at END,
    rows_total = CASE WHEN $2 = 'done' THEN rows_done ELSE rows_total END
WHERE release_id = $1 AND job = $4 AND (status, throttle) IS DISTINCT FROM ($2, $3)
"""  # noqa: S608  a constant


async def set_status(conn: Connection, release_id: int, status: str, throttle: str = "", *, job: str = "") -> None:
    """Writes status and throttle if they changed; an unchanged row would notify the clients for nothing.

    A throttle is no progress: since when nothing was written stays. One with other numbers is the same wait.

    The status `done` sets the total to the copied rows. The time until now counts for the wait that ends.
    """
    await conn.execute(_SET_STATUS, release_id, status, throttle, job)


async def record_start(conn: Connection, release_id: int, *, job: str = "") -> None:
    """Records when the first batch may start; a later start of the same backfill changes nothing."""
    await conn.execute(
        "UPDATE zdd.backfill SET started_at = clock_timestamp()"
        " WHERE release_id = $1 AND job = $2 AND started_at IS NULL",
        release_id,
        job,
    )


async def read_last_batch(conn: Connection, release_id: int, *, job: str = "") -> tuple[int, list[list[float]]] | None:
    """Reads the size of the last batch, and the newest batches (zdd.backfill.recent); None before the preparation."""
    row = await conn.fetchrow(
        "SELECT batch_rows, recent FROM zdd.backfill WHERE release_id = $1 AND job = $2", release_id, job
    )
    return None if row is None else (row["batch_rows"], json.loads(row["recent"]))


async def read_status(conn: Connection, release_id: int, *, job: str = "") -> str | None:
    """Reads the status; None before the preparation."""
    statement = "SELECT status FROM zdd.backfill WHERE release_id = $1 AND job = $2"
    status: str | None = await conn.fetchval(statement, release_id, job)
    return status


async def read_copied(conn: Connection, release_id: int, *, job: str = "") -> int:
    """Reads the number of rows that the batches have read so far."""
    statement = "SELECT rows_done FROM zdd.backfill WHERE release_id = $1 AND job = $2"
    return int(await conn.fetchval(statement, release_id, job) or 0)


async def add_failed_row(conn: Connection, release_id: int, key: Key, reason: str, *, job: str = "") -> None:
    """Records a row that could not be copied."""
    await conn.execute(
        "WITH added AS (INSERT INTO zdd.failed_row (release_id, job, key, reason) VALUES ($1, $4, $2::jsonb, $3)"
        " ON CONFLICT (release_id, job, key) DO UPDATE SET reason = EXCLUDED.reason RETURNING xmax = 0 AS fresh)"
        " UPDATE zdd.backfill SET failed_rows = failed_rows + added.fresh::int FROM added"
        " WHERE release_id = $1 AND job = $4",
        release_id,
        _dump_key(key),
        reason,
        job,
    )


async def count_failed_rows(conn: Connection, release_id: int, *, job: str = "") -> int:
    """The number of rows that could not be copied."""
    statement = "SELECT count(*) FROM zdd.failed_row WHERE release_id = $1 AND job = $2"
    return int(await conn.fetchval(statement, release_id, job))


async def list_failed_keys(conn: Connection, release_id: int, *, job: str = "") -> list[Key]:
    """Reads the keys of the failed rows, in no order."""
    rows = await conn.fetch("SELECT key FROM zdd.failed_row WHERE release_id = $1 AND job = $2", release_id, job)
    return [tuple(json.loads(row["key"])) for row in rows]


async def remove_failed_row(conn: Connection, release_id: int, key: Key, *, job: str = "") -> None:
    """Removes a failed row that was copied after all, or deleted."""
    await conn.execute(
        "WITH gone AS (DELETE FROM zdd.failed_row WHERE release_id = $1 AND job = $3 AND key = $2::jsonb RETURNING 1)"
        " UPDATE zdd.backfill SET failed_rows = failed_rows - 1 FROM gone WHERE release_id = $1 AND job = $3",
        release_id,
        _dump_key(key),
        job,
    )


async def reset_verification(conn: Connection, release_id: int) -> None:
    """Restarts a verification."""
    await drop_ranges(conn, release_id, "verify")
    await conn.execute("DELETE FROM zdd.mismatch WHERE release_id = $1", release_id)
    await conn.execute(
        "UPDATE zdd.backfill SET verified_rows = 0, mismatches = 0, verified = false WHERE release_id = $1"
        " AND job = ''",
        release_id,
    )


async def save_verified_page(
    conn: Connection, release_id: int, *, rows: int, mismatches: Iterable[RowMismatch], done: bool, max_kept: int
) -> None:
    """Writes one page of a verification; stores at most ``max_kept`` mismatches in all and counts the rest."""
    differing = list(mismatches)
    if differing:
        await _add_mismatches(conn, release_id, differing, max_kept)
    await conn.execute(
        "UPDATE zdd.backfill SET verified_rows = verified_rows + $2, mismatches = coalesce(mismatches, 0) + $3,"
        " verified = $4, updated_at = clock_timestamp() WHERE release_id = $1 AND job = ''",
        release_id,
        rows,
        len(differing),
        done,
    )


async def replace_mismatches(conn: Connection, release_id: int, mismatches: Sequence[RowMismatch]) -> None:
    """Replaces the rows that differ by those of a comparison that was no verification."""
    await conn.execute("DELETE FROM zdd.mismatch WHERE release_id = $1", release_id)
    if mismatches:
        await _add_mismatches(conn, release_id, mismatches, len(mismatches))


async def _add_mismatches(conn: Connection, release_id: int, differing: Sequence[RowMismatch], max_kept: int) -> None:
    await conn.execute(
        "INSERT INTO zdd.mismatch (release_id, key, old, new)"
        " SELECT $1, key::jsonb, old::jsonb, new::jsonb"
        " FROM unnest($2::text[], $3::text[], $4::text[]) AS mismatches (key, old, new)"
        " LIMIT greatest(0, $5 - (SELECT count(*) FROM zdd.mismatch WHERE release_id = $1))"
        " ON CONFLICT (release_id, key) DO NOTHING",
        release_id,
        [_dump_key(mismatch.key) for mismatch in differing],
        [json.dumps({"present": mismatch.has_old}) for mismatch in differing],
        [
            json.dumps({"present": mismatch.has_new, "differs": list(mismatch.columns), "reason": mismatch.reason})
            for mismatch in differing
        ],
        max_kept,
    )


async def read_verification(conn: Connection, release_id: int, limit: int) -> tuple[int, int, list[RowMismatch]]:
    """Reads the number of verified rows, the number of mismatches, and the first mismatches."""
    row = await conn.fetchrow(
        "SELECT verified_rows, coalesce(mismatches, 0) AS mismatches FROM zdd.backfill"
        " WHERE release_id = $1 AND job = ''",
        release_id,
    )
    samples = await conn.fetch(
        "SELECT key, old, new FROM zdd.mismatch WHERE release_id = $1 ORDER BY at, key LIMIT $2", release_id, limit
    )
    assert row is not None
    return (
        row["verified_rows"],
        row["mismatches"],
        [_parse_mismatch(sample["key"], json.loads(sample["old"]), json.loads(sample["new"])) for sample in samples],
    )


def _parse_mismatch(key: str, old: dict[str, Any], new: dict[str, Any]) -> RowMismatch:
    return RowMismatch(
        tuple(json.loads(key)), new.get("reason", ""), tuple(new.get("differs", ())), old["present"], new["present"]
    )

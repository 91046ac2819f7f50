"""Reads all releases of one database for the fleet: one statement, one session, a timeout for each."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS, connect, describe_dsn, translate_error
from zdd_tui.backends.store.records import parse_release_record
from zdd_tui.backends.store.row_values import MalformedRow, decode_json, expect_object
from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.fleet.config import FleetDatabase
from zdd_tui.model.fleet.rows import (
    CommandFacts,
    FleetRow,
    ReleaseFacts,
    build_database_row,
    build_release_row,
    build_unreadable_row,
)
from zdd_tui.model.masking import mask_urls
from zdd_tui.model.release.records import AGENT_CONTINUES, AGENT_WAITS, KUBERNETES_NOTE, LEASE_ACQUIRED, RETRYING_NOTE

READ_TIMEOUT = 3.0
"""Seconds for connecting, and for one reading."""

MAX_ACTIVE, MAX_ENDED = 200, 100
"""Releases of one database that are read: the newest that have not ended, and the newest that have."""

MAX_EVENTS = 50
"""Events of a release in which the waits of its agent are looked for, the newest."""

_ENDED = "('rolled-back', 'done')"

# What never changes is sent once for each release ($1: known), and an ended release once ($2: known as ended). The body
# holds no age, so that an unchanged release has an unchanged body. Texts in the tables may be of any length: all are
# cut.
_READ: Final = f"""
WITH shown AS (
    (SELECT * FROM zdd.release WHERE state NOT IN {_ENDED} ORDER BY id DESC LIMIT {MAX_ACTIVE})
    UNION ALL
    (SELECT * FROM zdd.release WHERE state IN {_ENDED} ORDER BY id DESC LIMIT {MAX_ENDED})
)
SELECT extract(epoch FROM clock_timestamp())::float8 AS now, r.id, r.name, r.environment,
    CASE WHEN r.id IS NULL OR r.id = ANY ($1::bigint[]) THEN NULL ELSE json_build_object(
        'plan_hash', r.plan_hash, 'strategy', r.strategy::text, 'region', left(r.region, 40),
        'waits', (r.document->'gates')::text, 'created_at', extract(epoch FROM r.created_at)::float8,
        'regions', (
            SELECT json_agg(left(o->>'name', 40)) FROM jsonb_array_elements(
                CASE jsonb_typeof(r.document->'regions'->'order')
                WHEN 'array' THEN r.document->'regions'->'order' ELSE '[]' END) o)
    )::text END AS fixed,
    CASE WHEN r.id IS NULL OR (r.state IN {_ENDED} AND r.id = ANY ($2::bigint[])) THEN NULL ELSE json_build_object(
        'state', r.state, 'phase', r.phase, 'paused', r.paused, 'error', left(r.error, 500),
        'cause', left(r.cause, 500), 'finished_at', extract(epoch FROM r.finished_at)::float8,
        'steps', (SELECT json_agg(json_build_array(s.status, extract(epoch FROM s.started_at)::float8,
                                                   extract(epoch FROM s.ended_at)::float8, CASE
                      WHEN starts_with(s.note, '{RETRYING_NOTE}') OR starts_with(s.note, '{KUBERNETES_NOTE}')
                      THEN left(s.note, 300) ELSE '' END) ORDER BY s.position)
                  FROM zdd.step s WHERE s.release_id = r.id),
        'gates', (SELECT coalesce(json_agg(json_build_object(
                      'name', g.name, 'verdict', g.verdict, 'reason', left(g.reason, 200), 'max_age', g.max_age,
                      'observed_at', extract(epoch FROM g.observed_at)::float8,
                      'since', extract(epoch FROM g.since)::float8)), '[]')
                  FROM zdd.gate g WHERE g.release_id = r.id),
        'guard', (SELECT coalesce(json_agg(json_build_object(
                      'rule', u.rule, 'verdict', u.verdict, 'is_applicable', u.is_applicable, 'max_age', u.max_age,
                      'observed_at', extract(epoch FROM u.observed_at)::float8)), '[]')
                  FROM zdd.guard u WHERE u.release_id = r.id),
        'conditions', (SELECT coalesce(json_agg(c ORDER BY c.since, c.name), '[]') FROM (
                      SELECT name, status, left(text, 500) AS text, left(who, 200) AS who, left(hint, 500) AS hint,
                             restored, affects_rows, extract(epoch FROM since)::float8 AS since
                      FROM zdd.condition WHERE release_id = r.id) c),
        'events', (SELECT coalesce(json_agg(json_build_array(e.id, extract(epoch FROM e.at)::float8, e.kind,
                                                             left(e.message, 300)) ORDER BY e.id), '[]') FROM (
                      SELECT *, max(id) FILTER (WHERE kind = 'lease' AND starts_with(message, '{LEASE_ACQUIRED}'))
                             OVER () AS acquired, max(id) FILTER (WHERE kind = 'step') OVER () AS stepped
                      FROM (SELECT id, at, kind, message FROM zdd.event WHERE release_id = r.id
                            ORDER BY id DESC LIMIT {MAX_EVENTS}) newest) e
                      WHERE e.id >= coalesce(e.acquired, 0) AND (e.id IN (e.acquired, e.stepped)
                            OR starts_with(e.message, '{AGENT_WAITS}') OR starts_with(e.message, '{AGENT_CONTINUES}'))),
        'backfills', (SELECT coalesce(json_agg(json_build_object('job', b.job, 'status', b.status,
                                                'rows_total', b.rows_total, 'rows_done', b.rows_done)), '[]')
                      FROM zdd.backfill b WHERE b.release_id = r.id),
        'commands', (SELECT json_object_agg(k.kind, json_build_array(k.actor, k.at, k.reason, k.number)) FROM (
                      SELECT DISTINCT ON (m.kind) m.kind, left(m.actor, 100) AS actor, left(m.reason, 300) AS reason,
                             extract(epoch FROM m.created_at)::float8 AS at,
                             count(*) OVER (PARTITION BY m.kind) AS number
                      FROM zdd.command m
                      WHERE m.release_id = r.id AND m.status = 'done' AND m.kind IN ('pause', 'rollback')
                      ORDER BY m.kind, m.id DESC) k)
    )::text END AS body,
    l.epoch, l.holder, l.host, l.pid, l.ttl,
    greatest(0, extract(epoch FROM clock_timestamp() - l.renewed_at))::float8 AS age
FROM (SELECT 1) one LEFT JOIN shown r ON true LEFT JOIN zdd.lease l ON l.release_id = r.id
"""  # noqa: S608  the pieces are the constants above

_PLAN_COPY = "SELECT name, region, plan_text FROM zdd.release WHERE id = $1"

_GUARD_DEFAULTS: Mapping[str, Any] = {
    "reason": "", "unit": "number", "value": None, "baseline": None, "limit": None, "samples": 0, "series": [],
    "action": "alert", "should_act": False, "action_taken": "",
}  # fmt: skip
_EVENT_DEFAULTS: dict[str, Any] = {"actor": "", "host": "", "role": "", "reason": ""}
_STEP_DEFAULTS: Mapping[str, Any] = {"detail": {}, "error": ""}
_BACKFILL_DEFAULTS: Mapping[str, Any] = {"seconds": 0.0, "rate": 0.0, "updated_at": 0.0, "recent": []}


@dataclass(slots=True)
class _KnownRelease:
    """What was read of a release before."""

    fixed: dict[str, Any]
    body: str = ""
    raw: dict[str, Any] | None = None
    row: FleetRow | None = None


@dataclass(frozen=True, slots=True)
class StoredPlanCopy:
    """The plan that is stored with a release, without secrets."""

    release: str
    region: str
    text: str


class FleetReader:
    """Reads one database again and again. Not for two tasks at once.

    Every error is a DatabaseError without a password; after one the next reading connects again.
    """

    def __init__(self, database: FleetDatabase) -> None:
        self._database = database
        self._connection: asyncpg.Connection | None = None
        self._known: dict[int, _KnownRelease] = {}
        self.lease_ends: Mapping[int, float] = {}
        """When the lease of each release's agent ends unless it is renewed, by this machine's clock."""

    def close(self) -> None:
        """Ends the session without waiting for the server."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def read(self) -> tuple[FleetRow, ...]:
        """One row for each release, in no order; one for the database where it has none. An unchanged one is the same.

        Raises:
            DatabaseError: no answer within the timeout, no rights, or a zdd schema of another version.
        """
        ended = [key for key, known in self._known.items() if known.row is not None and known.row.has_ended]
        rows, wall = await self._fetch(_READ, list(self._known), ended), time.time()
        self.lease_ends = {row["id"]: wall - row["age"] + row["ttl"] for row in rows if row["holder"]}
        return self._build_rows(rows, wall)

    async def read_plan_copy(self, release_id: int) -> StoredPlanCopy:
        """
        Raises:
            DatabaseError: as for :meth:`read`; or there is no such release any more.
        """
        rows = await self._fetch(_PLAN_COPY, release_id)
        if not rows:
            raise DatabaseError(f"{self._address} has no release {release_id} any more", "go back to the list")
        return StoredPlanCopy(rows[0]["name"], rows[0]["region"], rows[0]["plan_text"])

    @property
    def _address(self) -> str:
        return describe_dsn(self._database.dsn)

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        database = self._database
        if database.error:
            raise DatabaseError(database.error, database.hint)
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await connect(
                        database.dsn,
                        application_name="zdd fleet",
                        timeout=READ_TIMEOUT,
                        default_transaction_read_only="on",
                        statement_timeout=f"{READ_TIMEOUT:.0f}s",
                    )
                return list(await self._connection.fetch(query, *arguments))
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
            return []
        except asyncpg.UndefinedColumnError:
            self.close()
            raise DatabaseError(
                f"{self._address} has a zdd schema of an older version",
                "start an agent of this version there: `zdd agent PLAN`",
            ) from None
        except DatabaseError:
            self.close()
            raise
        except CONNECTION_ERRORS as error:
            self.close()
            failure = translate_error(error, database.dsn, timeout=READ_TIMEOUT)
        except BaseException:
            self.close()
            raise
        raise failure

    def _build_rows(self, rows: list[asyncpg.Record], wall: float) -> tuple[FleetRow, ...]:
        database = self._database
        found = [row for row in rows if row["id"] is not None]
        self._known = {key: value for key, value in self._known.items() if key in {row["id"] for row in found}}
        if not found:
            return (build_database_row(database.name, database.group, database.environment),)
        return tuple(self._build_row(row, row["now"] - wall) for row in found)

    def _build_row(self, row: asyncpg.Record, clock_offset: float) -> FleetRow:
        release_id = row["id"]
        try:
            known = self._known.get(release_id)
            if known is None:
                known = self._known[release_id] = _KnownRelease(json.loads(row["fixed"]))
            if row["body"] is None and known.row is not None:
                return known.row  # it has ended
            made = self._parse(row, known, clock_offset)
        except (MalformedRow, ValueError, TypeError, KeyError) as error:
            self._known.pop(release_id, None)
            title = error.title if isinstance(error, MalformedRow) else "its rows in the zdd schema cannot be used"
            hint = "update zdd, if a newer version wrote them"
            name, environment = str(row["name"])[:60], str(row["environment"])[:40]
            database = self._database
            return build_unreadable_row(database.name, database.group, release_id, name, environment, title, hint)
        known.row = made if made != known.row else known.row
        assert known.row is not None
        return known.row

    def _parse(self, row: asyncpg.Record, known: _KnownRelease, clock_offset: float) -> FleetRow:
        fixed = known.fixed
        if known.raw is None or row["body"] != known.body:
            known.body = row["body"]
            known.raw = self._merge(row, fixed, dict(expect_object(decode_json(row["body"], "its rows"), "its rows")))
        lease = None
        if row["holder"] is not None:
            lease = {name: row[name] for name in ("epoch", "holder", "host", "pid", "ttl", "age")}
        record = parse_release_record(known.raw | {"now": row["now"], "lease": lease})
        fixed["strategy"] = known.raw["release"]["strategy"] = record.release.strategy  # it never changes
        commands = known.raw["facts"] or {}
        facts = ReleaseFacts(
            tuple(name for name in fixed["regions"] or () if isinstance(name, str)),
            _parse_command_facts(commands.get("pause")),
            _parse_command_facts(commands.get("rollback")),
            int(commands["rollback"][3]) if "rollback" in commands else 0,
        )
        database = self._database
        return build_release_row(record, facts, database=database.name, group=database.group, clock_offset=clock_offset)

    def _merge(self, row: asyncpg.Record, fixed: Mapping[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        """The form of :func:`zdd_tui.backends.store.records.parse_release_record`."""
        strategy = decode_json(fixed["strategy"], "zdd.release.strategy")
        names = (
            [step["name"] for phase in strategy["phases"] for step in phase["steps"]]
            if isinstance(strategy, Mapping)
            else [step.name for step in strategy.steps]
        )
        steps = body["steps"] or []
        backfills = [{**_BACKFILL_DEFAULTS, **each} for each in body["backfills"]]
        release = {
            "id": row["id"], "name": row["name"], "environment": row["environment"], "region": fixed["region"],
            "plan_text": "", "plan_hash": fixed["plan_hash"], "strategy": fixed["strategy"], "tuning": "{}",
            "backfill": None, "waits": fixed["waits"], "created_at": fixed["created_at"],
        }  # fmt: skip
        release |= {name: body[name] for name in ("state", "phase", "paused", "finished_at")}
        release |= {name: mask_urls(body[name]) for name in ("error", "cause")}
        return {
            "release": release,
            "steps": [
                {
                    **_STEP_DEFAULTS,
                    "name": name,
                    "status": status,
                    "started_at": started,
                    "ended_at": ended,
                    "note": mask_urls(note),
                }
                for name, (status, started, ended, note) in zip(names, steps, strict=True)
            ],
            "gates": body["gates"],
            "guard": [{**_GUARD_DEFAULTS, **reading} for reading in body["guard"]],
            "conditions": body["conditions"],
            "backfill": next((each for each in backfills if not each["job"]), None),
            "fills": [each for each in backfills if each["job"]],
            "events": [
                {"id": number, "at": at, "kind": kind, "message": mask_urls(message)} | _EVENT_DEFAULTS
                for number, at, kind, message in body["events"]
            ],
            "commands": [],
            "facts": body["commands"],
        }


def _parse_command_facts(raw: Any) -> CommandFacts | None:
    return None if raw is None else CommandFacts(str(raw[0]), float(raw[1]), mask_urls(str(raw[2])))

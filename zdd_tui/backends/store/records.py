"""One statement that reads everything about a release, and the conversion of rows to model values."""

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from zdd_tui.backends.postgres.connection import Connection, Pool, Row
from zdd_tui.backends.store.witness import WITNESS_JSON, parse_witness
from zdd_tui.model.duration import parse_duration
from zdd_tui.model.masking import mask_secrets
from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.plan.guard import GuardAction, MetricUnit
from zdd_tui.model.release.condition import ConditionReading, ConditionStatus, unmet_readings
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import (
    Actor,
    BackfillRecord,
    BatchRecord,
    CommandRequest,
    Event,
    FailedRow,
    GuardReading,
    Lease,
    ReleaseRecord,
    StepRecord,
    StoredCommand,
)
from zdd_tui.model.release.state import CommandKind, Precondition, Release, ReleaseState, StepStatus
from zdd_tui.model.release.strategy import Strategy
from zdd_tui.model.release.witness import NOTHING_RECORDED

MAX_COMMANDS = 20
"""Number of commands in a record: the newest. Queued ones are newer than all answered ones."""

_STRATEGY: Final = TypeAdapter(Strategy)
_KNOWN_KINDS: Final = frozenset(kind.value for kind in CommandKind)

EVENT_COLUMNS = "id, extract(epoch FROM at)::float8 AS at, actor, host, kind, message, reason"
COMMAND_COLUMNS = (
    "id, kind, args, reason, actor, host, extract(epoch FROM created_at)::float8 AS created_at, status, outcome"
)
LEASE_COLUMNS = (
    "epoch, holder, host, pid, ttl, greatest(0, extract(epoch FROM clock_timestamp() - renewed_at))::float8 AS age"
)

# One statement is one snapshot and one round trip: every dashboard runs it up to four times a second.
_READ = f"""
SELECT json_build_object(
    'now', extract(epoch FROM clock_timestamp())::float8,
    'release', (SELECT row_to_json(r) FROM (
        SELECT id, name, environment, region, plan_text, plan_hash, strategy, state, phase, paused, error, cause,
               tuning, document->'backfill' AS backfill, document->'gates' AS waits,
               extract(epoch FROM created_at)::float8 AS created_at,
               extract(epoch FROM finished_at)::float8 AS finished_at
        FROM zdd.release WHERE id = $1) r),
    'steps', (SELECT coalesce(json_agg(s ORDER BY position), '[]') FROM (
        SELECT position, name, status, detail, note, error,
               extract(epoch FROM started_at)::float8 AS started_at, extract(epoch FROM ended_at)::float8 AS ended_at
        FROM zdd.step WHERE release_id = $1) s),
    'gates', (SELECT coalesce(json_agg(g), '[]') FROM (
        SELECT name, verdict, reason, extract(epoch FROM observed_at)::float8 AS observed_at, max_age,
               extract(epoch FROM since)::float8 AS since
        FROM zdd.gate WHERE release_id = $1) g),
    'guard', (SELECT coalesce(json_agg(g ORDER BY rule), '[]') FROM (
        SELECT rule, verdict, reason, unit, value, baseline, "limit", samples, series, action, should_act,
               is_applicable, action_taken, extract(epoch FROM observed_at)::float8 AS observed_at, max_age
        FROM zdd.guard WHERE release_id = $1) g),
    'events', (SELECT coalesce(json_agg(e ORDER BY id), '[]') FROM (
        SELECT {EVENT_COLUMNS} FROM zdd.event WHERE release_id = $1 ORDER BY zdd.event.id DESC LIMIT $2) e),
    'commands', (SELECT coalesce(json_agg(c ORDER BY id), '[]') FROM (
        SELECT {COMMAND_COLUMNS} FROM zdd.command WHERE release_id = $1 ORDER BY zdd.command.id DESC
        LIMIT {MAX_COMMANDS}) c),
    'lease', (SELECT row_to_json(l) FROM (SELECT {LEASE_COLUMNS} FROM zdd.lease WHERE release_id = $1) l),
    'backfill', (SELECT row_to_json(b) FROM (
        SELECT status, rows_total, rows_done, batches, batch_rows, seconds, rate, throttle, failed_rows,
               verified_rows, mismatches, verified, recent, extract(epoch FROM updated_at)::float8 AS updated_at
        FROM zdd.backfill WHERE release_id = $1) b),
    'conditions', (SELECT coalesce(json_agg(c ORDER BY since, name), '[]') FROM (
        SELECT name, status, text, who, hint, restored, affects_rows, extract(epoch FROM since)::float8 AS since
        FROM zdd.condition WHERE release_id = $1) c),
    'witness', {WITNESS_JSON}
)::text
"""  # noqa: S608  the pieces are the column lists above


async def read_release(connection: Connection | Pool, release_id: int, events: int = 50) -> ReleaseRecord | None:
    """Reads everything about a release in one snapshot; None when there is no such release."""
    raw = json.loads(await connection.fetchval(_READ, release_id, events))
    return parse_release_record(raw) if raw["release"] else None


def parse_release_record(raw: Mapping[str, Any]) -> ReleaseRecord:
    """Converts the JSON of that statement."""
    row = raw["release"]
    conditions = tuple(_parse_condition(each) for each in raw["conditions"])
    release = Release(
        name=row["name"],
        plan_hash=row["plan_hash"],
        strategy=_STRATEGY.validate_python(row["strategy"]),
        state=ReleaseState(row["state"]),
        phase=row["phase"],
        statuses=tuple(StepStatus(step["status"]) for step in raw["steps"]),
        paused=row["paused"],
        error=row["error"],
        tuning=tuple(sorted(row["tuning"].items())),
        unmet=unmet_readings(conditions),
    )
    return ReleaseRecord(
        id=row["id"],
        release=release,
        environment=row["environment"],
        plan_text=row["plan_text"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        now=raw["now"],
        steps=tuple(_parse_step(step) for step in raw["steps"]),
        gates={gate["name"]: _parse_gate(gate) for gate in raw["gates"]},
        events=tuple(parse_event(row) for row in raw["events"]),
        commands=tuple(parse_command(row) for row in raw["commands"] if is_known(row["kind"])),
        lease=parse_lease(raw["lease"]) if raw["lease"] else None,
        backfill=_parse_backfill(raw["backfill"]) if raw["backfill"] else None,
        guard=tuple(_parse_guard_reading(reading) for reading in raw["guard"]),
        cause=row["cause"],
        region=row["region"],
        plan_limits=_parse_plan_limits(release.strategy, row["backfill"]),
        owner=(row["waits"] or {}).get("owner") or "",
        wait_limit=_parse_wait_limit(row["waits"] or {}),
        conditions=conditions,
        witness=parse_witness(raw["witness"]) if "witness" in raw else NOTHING_RECORDED,
    )


def _parse_condition(row: Mapping[str, Any]) -> ConditionReading:
    return ConditionReading(**{**row, "status": ConditionStatus(row["status"])})


def _parse_plan_limits(strategy: Strategy, section: Any) -> Backfill | None:
    """Returns the limits of the plan; the defaults where it has none, or takes one from the environment."""
    if all(phase.name != "backfill" for phase in strategy.phases):
        return None
    try:
        return Backfill.model_validate(section or {})
    except ValidationError:
        return Backfill()


def _parse_wait_limit(section: Mapping[str, Any]) -> float | None:
    """Returns seconds; None where the plan has no limit, or takes it from the environment, which is unknown here."""
    limit = section.get("wait_limit")
    try:
        return None if limit is None else parse_duration(limit)
    except ValueError:
        return None


def dump_strategy(strategy: Strategy) -> str:
    """Serialises a strategy for the store."""
    return _STRATEGY.dump_json(strategy).decode()


def parse_event(row: Row) -> Event:
    return Event(row["id"], row["at"], Actor(row["actor"], row["host"]), row["kind"], row["message"], row["reason"])


def is_known(kind: str) -> bool:
    """Whether this version knows the kind of command; a newer zdd may send others."""
    return kind in _KNOWN_KINDS


def command_args(request: CommandRequest) -> dict[str, Any]:
    """Serialises a request without kind and reason; unset attributes are left out."""
    args: dict[str, Any] = {}
    if request.expected is not None:
        args["expected"] = {
            "plan_hash": request.expected.plan_hash,
            "state": str(request.expected.state),
            "phase": request.expected.phase,
            "objects": dict(request.expected.objects),
        }
    if request.typed is not None:
        args["typed"] = request.typed
    if request.targets:
        args["targets"] = list(request.targets)
    if request.unrehearsed:
        args["unrehearsed"] = True
    if request.tuning is not None:
        args["tuning"] = dict(request.tuning)
    return args


def _request(kind: CommandKind, reason: str, args: Mapping[str, Any]) -> CommandRequest:
    stored, expected = args.get("expected"), None
    if stored:
        objects = tuple(stored.get("objects", {}).items())
        expected = Precondition(stored["plan_hash"], ReleaseState(stored["state"]), stored["phase"], objects)
    return CommandRequest(
        kind,
        reason,
        expected,
        args.get("typed"),
        tuple(args.get("targets", ())),
        bool(args.get("unrehearsed")),
        args.get("tuning"),
    )


def parse_command(row: Row) -> StoredCommand:
    return StoredCommand(
        id=row["id"],
        request=_request(CommandKind(row["kind"]), row["reason"], _decode_json(row["args"])),
        actor=Actor(row["actor"], row["host"]),
        created_at=row["created_at"],
        status=row["status"],
        outcome=row["outcome"],
    )


def parse_lease(row: Row) -> Lease:
    return Lease(row["epoch"], row["holder"], row["host"], row["pid"], row["age"], row["ttl"])


def _parse_backfill(row: Row) -> BackfillRecord:
    return BackfillRecord(**dict(row) | {"recent": tuple(BatchRecord(*batch) for batch in row["recent"])})


def parse_failed_row(row: Row) -> FailedRow:
    return FailedRow(_decode_json(row["key"]), row["reason"], row["at"])


def _parse_step(row: Row) -> StepRecord:
    return StepRecord(
        name=row["name"],
        status=StepStatus(row["status"]),
        detail=row["detail"],
        note=row["note"],
        error=row["error"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )


def _parse_gate(row: Row) -> GateReading:
    return GateReading(**dict(row) | {"verdict": Verdict(row["verdict"])})


def _parse_guard_reading(row: Row) -> GuardReading:
    return GuardReading(
        **dict(row)
        | {
            "verdict": Verdict(row["verdict"]),
            "unit": MetricUnit(row["unit"]),
            "action": GuardAction(row["action"]),
            "series": tuple(row["series"]),
        }
    )


def _decode_json(value: Any) -> Any:
    # asyncpg returns jsonb as text; in the JSON of the one statement it is decoded already.
    return json.loads(value) if isinstance(value, str) else value


def strip_nul(text: str) -> str:
    """Prepares text for the store: masks passwords in URLs, replaces NULs and lone surrogates, which servers refuse."""
    return str(mask_secrets(text)).replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()

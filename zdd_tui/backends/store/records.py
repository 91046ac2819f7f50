"""One statement that reads everything about a release, and the conversion of rows to model values."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from zdd_tui.backends.postgres.connection import Connection, Pool, Row
from zdd_tui.backends.store.row_values import (
    MAX_ARGS_CHARACTERS,
    MalformedRow,
    decode_json,
    expect_flag,
    expect_integer,
    expect_object,
    expect_scalars,
    expect_text,
    expect_texts,
    finite,
)
from zdd_tui.backends.store.witness import WITNESS_JSON, parse_witness
from zdd_tui.model.duration import parse_duration
from zdd_tui.model.masking import mask_secrets
from zdd_tui.model.plan.base import Backfill, BackfillOfTables
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
    MetricsProbe,
    ReleaseRecord,
    RollbackStart,
    StepRecord,
    StoredCommand,
    combine_backfills,
    mark_paused_fills,
)
from zdd_tui.model.release.state import CommandKind, Precondition, Release, ReleaseState, StepStatus
from zdd_tui.model.release.strategy import Strategy
from zdd_tui.model.release.table_pause import TablePause
from zdd_tui.model.release.witness import NOTHING_RECORDED
from zdd_tui.model.tuning import Tuning

MAX_COMMANDS = 20
"""Number of commands in a record: the newest. Queued ones are newer than all answered ones."""

_STRATEGY: Final = TypeAdapter(Strategy)
_KNOWN_KINDS: Final = frozenset(kind.value for kind in CommandKind)

EVENT_COLUMNS = "id, extract(epoch FROM at)::float8 AS at, actor, host, role, kind, message, reason"
# Texts of any length and JSON of any form may be in it: the JSON of one row must not make the others unreadable.
COMMAND_COLUMNS = (
    f"id, left(kind, 100) AS kind, left(args::text, {MAX_ARGS_CHARACTERS + 1}) AS args, left(reason, 16384) AS reason,"
    " left(actor, 256) AS actor, left(host, 256) AS host, role,"
    " extract(epoch FROM created_at)::float8 AS created_at, status, outcome"
)
_BACKFILL_COLUMNS = """status, rows_total, rows_done, batches, batch_rows, seconds, rate, throttle, failed_rows,
               verified_rows, mismatches, verified, recent::text, extract(epoch FROM updated_at)::float8 AS updated_at,
               extract(epoch FROM started_at)::float8 AS started_at, extract(epoch FROM ended_at)::float8 AS ended_at,
               waits::text"""
LEASE_COLUMNS = (
    "epoch, holder, host, pid, ttl, greatest(0, extract(epoch FROM clock_timestamp() - renewed_at))::float8 AS age"
)

# One statement is one snapshot and one round trip: every dashboard runs it up to four times a second.
_READ = f"""
SELECT json_build_object(
    'now', extract(epoch FROM clock_timestamp())::float8,
    'release', (SELECT row_to_json(r) FROM (
        SELECT id, name, environment, region, plan_text, plan_hash, strategy::text, state, phase, paused, error, cause,
               tuning::text, table_pauses::text,
               (document->'backfill')::text AS backfill, (document->'gates')::text AS waits,
               extract(epoch FROM created_at)::float8 AS created_at,
               extract(epoch FROM finished_at)::float8 AS finished_at
        FROM zdd.release WHERE id = $1) r),
    'steps', (SELECT coalesce(json_agg(s ORDER BY position), '[]') FROM (
        SELECT position, name, status, detail::text, note, error,
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
    'rollback', (SELECT row_to_json(c) FROM (
        SELECT left(actor, 256) AS actor, left(host, 256) AS host, left(reason, 16384) AS reason,
               extract(epoch FROM answered_at)::float8 AS started_at
        FROM zdd.command WHERE release_id = $1 AND kind = 'rollback' AND status = 'done' ORDER BY id LIMIT 1) c),
    'lease', (SELECT row_to_json(l) FROM (SELECT {LEASE_COLUMNS} FROM zdd.lease WHERE release_id = $1) l),
    'backfill', (SELECT row_to_json(b) FROM (
        SELECT {_BACKFILL_COLUMNS} FROM zdd.backfill WHERE release_id = $1 AND job = '') b),
    'fills', (SELECT coalesce(json_agg(b), '[]') FROM (
        SELECT job, {_BACKFILL_COLUMNS} FROM zdd.backfill WHERE release_id = $1 AND job <> '') b),
    'conditions', (SELECT coalesce(json_agg(c ORDER BY since, name), '[]') FROM (
        SELECT name, status, text, who, hint, restored, affects_rows, extract(epoch FROM since)::float8 AS since
        FROM zdd.condition WHERE release_id = $1) c),
    'probe', (SELECT row_to_json(p) FROM (
        SELECT extract(epoch FROM saved_at)::float8 AS at, left(convert_from(body, 'UTF8'), 500) AS error
        FROM zdd.guard_snapshot WHERE release_id = $1 AND part = 'prometheus') p),
    'witness', {WITNESS_JSON}
)::text
"""  # noqa: S608  the pieces are the column lists above


async def read_release(connection: Connection | Pool, release_id: int, events: int = 50) -> ReleaseRecord | None:
    """Reads everything about a release in one snapshot; None when there is no such release."""
    raw = json.loads(await connection.fetchval(_READ, release_id, events))
    return parse_release_record(raw) if raw["release"] else None


def parse_release_record(raw: Mapping[str, Any]) -> ReleaseRecord:
    """Converts the JSON of that statement. A reading that cannot be used is unknown, other details are left out.

    Raises:
        MalformedRow: without the damaged part nothing could be said about the release.
    """
    try:
        return _parse_release_record(raw)
    except (MalformedRow, ValueError, TypeError, KeyError) as error:
        reason = error.title if isinstance(error, MalformedRow) else str(error).splitlines()[0][:200]
        raise MalformedRow(
            f"the rows of release {raw['release']['id']} cannot be used: {reason}",
            "update zdd, if a newer version wrote them; else find out who changed the tables of the zdd schema",
        ) from None


def _parse_release_record(raw: Mapping[str, Any]) -> ReleaseRecord:
    row = raw["release"]
    conditions = tuple(_parse_condition(each) for each in raw["conditions"])
    waits = _as_section(row["waits"])
    order = {step["name"]: number for number, step in enumerate(raw["steps"])}
    fills = tuple(_parse_backfill(each) for each in raw.get("fills") or ())
    fills = tuple(sorted(fills, key=lambda fill: order.get(fill.job, 0)))
    release = Release(
        name=row["name"],
        plan_hash=row["plan_hash"],
        strategy=_parse_strategy(row["strategy"]),
        state=ReleaseState(row["state"]),
        phase=row["phase"],
        statuses=tuple(StepStatus(step["status"]) for step in raw["steps"]),
        paused=row["paused"],
        error=row["error"],
        tuning=_parse_tuning(row["tuning"]),
        unmet=unmet_readings(conditions),
        table_pauses=_parse_table_pauses(row["table_pauses"]),
    )
    fills = mark_paused_fills(fills, release)
    if [step["name"] for step in raw["steps"]] != [step.name for step in release.strategy.steps]:
        raise MalformedRow("zdd.step does not have the steps of the strategy")
    if release.phase >= len(release.strategy.phases) and not release.state.has_ended:
        raise MalformedRow(f"phase {release.phase} is not one of the strategy's {len(release.strategy.phases)}")
    return ReleaseRecord(
        id=row["id"],
        release=release,
        environment=row["environment"],
        plan_text=row["plan_text"],
        created_at=finite(row["created_at"], 0.0),
        finished_at=None if row["finished_at"] is None else finite(row["finished_at"], 0.0),
        now=raw["now"],
        steps=tuple(_parse_step(step) for step in raw["steps"]),
        gates={gate["name"]: _parse_gate(gate) for gate in raw["gates"]},
        events=tuple(parse_event(row) for row in raw["events"]),
        commands=parse_known_commands(raw["commands"]),
        lease=parse_lease(raw["lease"]) if raw["lease"] else None,
        backfill=combine_backfills(fills) or (_parse_backfill(raw["backfill"]) if raw["backfill"] else None),
        fills=fills,
        guard=tuple(_parse_guard_reading(reading) for reading in raw["guard"]),
        cause=row["cause"],
        region=row["region"],
        plan_limits=_parse_plan_limits(release.strategy, _as_section(row["backfill"])),
        owner=str(waits.get("owner") or ""),
        wait_limit=_parse_wait_limit(waits),
        conditions=conditions,
        rollback=_parse_rollback(raw.get("rollback")),
        metrics_probe=_parse_probe(raw.get("probe")),
        witness=parse_witness(raw["witness"]) if "witness" in raw else NOTHING_RECORDED,
    )


def _parse_rollback(row: Mapping[str, Any] | None) -> RollbackStart | None:
    if row is None:
        return None
    return RollbackStart(Actor(row["actor"], row["host"]), row["reason"], finite(row["started_at"], 0.0))


def _parse_probe(row: Mapping[str, Any] | None) -> MetricsProbe | None:
    """The epoch is stored for a server that has never responded."""
    return None if row is None else MetricsProbe(finite(row["at"], 0.0) or None, row["error"])


def _parse_condition(row: Mapping[str, Any]) -> ConditionReading:
    return ConditionReading(**{**row, "status": ConditionStatus(row["status"])})


def _as_section(raw: Any) -> Mapping[str, Any]:
    """A section of the stored plan; empty where there is none, or another value."""
    try:
        section = decode_json(raw, "zdd.release.document")
    except MalformedRow:
        return {}
    return section if isinstance(section, Mapping) else {}


def _parse_strategy(raw: Any) -> Strategy:
    try:
        return _STRATEGY.validate_python(decode_json(raw, "zdd.release.strategy"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MalformedRow(f"zdd.release.strategy: {place}: {first['msg']}") from None


def _parse_tuning(raw: Any) -> Tuning:
    """Returns the changed limits; none where they cannot be used: then the plan's own are in effect."""
    try:
        values = expect_scalars(decode_json(raw, "zdd.release.tuning"), "zdd.release.tuning")
    except MalformedRow:
        return ()
    kept = {key: value for key, value in values.items() if not isinstance(value, str | bool)}
    return tuple(sorted(kept.items(), key=lambda item: item[0]))


def _parse_table_pauses(raw: Any) -> tuple[TablePause, ...]:
    """
    Raises:
        MalformedRow: then it is not known which tables are paused, and no batch may run.
    """
    name = "zdd.release.table_pauses"
    items = decode_json(raw, name)
    if not isinstance(items, list):
        raise MalformedRow(f"{name} is no list")
    rows = [expect_object(item, name) for item in items]
    return tuple(
        TablePause(
            expect_text(row.get("table"), f"{name}.table"),
            expect_text(row.get("by"), f"{name}.by"),
            finite(row.get("since"), 0.0),
            expect_texts(row.get("waits"), f"{name}.waits"),
        )
        for row in rows
    )


def _parse_plan_limits(strategy: Strategy, section: Any) -> Backfill | None:
    """Returns the limits of the plan; the defaults where it has none, or takes one from the environment."""
    if all(phase.name != "backfill" for phase in strategy.phases):
        return None
    try:
        return BackfillOfTables.model_validate(section or {})  # of one table, too: its plan has no `tables`
    except ValidationError:
        return BackfillOfTables()


def _parse_wait_limit(section: Mapping[str, Any]) -> float | None:
    """Returns seconds; None where the plan has no limit, or takes it from the environment, which is unknown here."""
    limit = section.get("wait_limit")
    try:
        return None if limit is None else parse_duration(limit)
    except (ValueError, TypeError):
        return None


def dump_strategy(strategy: Strategy) -> str:
    """Serialises a strategy for the store."""
    return _STRATEGY.dump_json(strategy).decode()


def parse_event(row: Row) -> Event:
    actor = Actor(row["actor"], row["host"], row["role"])
    return Event(row["id"], finite(row["at"], 0.0), actor, row["kind"], row["message"], row["reason"])


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
    if request.table:
        args["table"] = request.table
    if request.request_id:
        args["request_id"] = request.request_id
    if request.confirmed_at is not None:
        args["confirmed_at"] = request.confirmed_at
    return args


def dump_args(request: CommandRequest, valid_until: float | None = None) -> str:
    """The arguments as JSON that the server accepts: without NULs and lone surrogates, passwords masked.

    Args:
        valid_until: seconds since the epoch, by the database's clock, after which the command is not stored.
    """
    args = _map_texts(command_args(request))
    return json.dumps(args if valid_until is None else args | {"valid_until": valid_until})


def _map_texts(value: Any) -> Any:
    if isinstance(value, str):
        return strip_nul(value)
    if isinstance(value, Mapping):
        return {strip_nul(key): _map_texts(item) for key, item in value.items()}
    return [_map_texts(item) for item in value] if isinstance(value, list | tuple) else value


def _request(kind: CommandKind, reason: str, raw: Any) -> CommandRequest:
    args = expect_object(decode_json(raw, "args"), "args")
    typed, tuning, confirmed_at = args.get("typed"), args.get("tuning"), args.get("confirmed_at")
    return CommandRequest(
        kind,
        reason,
        _parse_precondition(args.get("expected")),
        None if typed is None else expect_text(typed, "args.typed"),
        expect_texts(args.get("targets", ()), "args.targets"),
        expect_flag(args.get("unrehearsed", False), "args.unrehearsed"),
        None if tuning is None else expect_scalars(tuning, "args.tuning"),
        expect_text(args.get("request_id", ""), "args.request_id"),
        None if confirmed_at is None else finite(confirmed_at, 0.0),  # what is no time was long ago
        expect_text(args.get("table", ""), "args.table"),
    )


def _parse_precondition(stored: Any) -> Precondition | None:
    if stored is None:
        return None
    expected, name = expect_object(stored, "args.expected"), "args.expected."
    state = expect_text(expected.get("state"), f"{name}state")
    if state not in set(ReleaseState):
        raise MalformedRow(f"{name}state is not a state of a release")
    objects = expect_object(expected.get("objects", {}), f"{name}objects")
    return Precondition(
        expect_text(expected.get("plan_hash"), f"{name}plan_hash"),
        ReleaseState(state),
        expect_integer(expected.get("phase"), f"{name}phase"),
        tuple((key, expect_text(uid, f"{name}objects")) for key, uid in objects.items()),
    )


def parse_command(row: Row) -> StoredCommand:
    """
    Raises:
        MalformedRow: an unknown kind, or arguments that are not those of a command.
    """
    if not is_known(row["kind"]):
        raise MalformedRow(f"{row['kind'][:40]!r} is no kind of command that this version knows")
    return _build_command(row, _request(CommandKind(row["kind"]), row["reason"], row["args"]))


def parse_known_commands(rows: Iterable[Row]) -> tuple[StoredCommand, ...]:
    """The commands for a screen: without those of an unknown kind; malformed arguments are left out."""
    commands = []
    for row in rows:
        if is_known(row["kind"]):
            try:
                commands.append(parse_command(row))
            except MalformedRow:
                commands.append(_build_command(row, CommandRequest(CommandKind(row["kind"]), row["reason"])))
    return tuple(commands)


def _build_command(row: Row, request: CommandRequest) -> StoredCommand:
    actor = Actor(row["actor"], row["host"], row["role"])
    created_at = finite(row["created_at"], 0.0)
    return StoredCommand(row["id"], request, actor, created_at, row["status"], row["outcome"])


def parse_lease(row: Row) -> Lease:
    return Lease(row["epoch"], row["holder"], row["host"], row["pid"], row["age"], row["ttl"])


def _parse_backfill(row: Row) -> BackfillRecord:
    values = {key: finite(row[key], 0.0) for key in ("seconds", "rate", "updated_at")}
    parsed = {"recent": _parse_batches(row["recent"]), "waits": _parse_waits(row.get("waits"))}
    return BackfillRecord(**dict(row) | values | parsed)


def _parse_waits(raw: Any) -> tuple[tuple[str, float], ...]:
    """Returns the waits by reason, the longest first; none where they cannot be used, or a recording has none."""
    try:
        waits = expect_scalars(decode_json(raw, "zdd.backfill.waits"), "zdd.backfill.waits") if raw else {}
    except MalformedRow:
        return ()
    known = [(name, float(seconds)) for name, seconds in waits.items() if isinstance(seconds, int | float)]
    return tuple(sorted(known, key=lambda wait: -wait[1]))


def _parse_batches(raw: Any) -> tuple[BatchRecord, ...]:
    """Returns the last batches, which a screen shows; none where they cannot be used."""
    try:
        batches = decode_json(raw, "zdd.backfill.recent")
        return tuple(BatchRecord(finite(at, 0.0), int(rows), finite(took, 0.0)) for at, rows, took in batches)
    except (MalformedRow, TypeError, ValueError, OverflowError):
        return ()


def parse_failed_row(row: Row) -> FailedRow:
    key = decode_json(row["key"], "zdd.failed_row.key")
    parts = key if isinstance(key, list) else [key]
    return FailedRow(
        [part if isinstance(part, str) else json.dumps(part) for part in parts], row["reason"], row["at"], row["job"]
    )


def _parse_step(row: Row) -> StepRecord:
    detail, detail_error = {}, ""
    try:
        detail = dict(expect_object(decode_json(row["detail"], "zdd.step.detail"), "zdd.step.detail"))
    except MalformedRow as error:
        detail_error = error.title
    return StepRecord(
        name=row["name"],
        status=StepStatus(row["status"]),
        detail=detail,
        detail_error=detail_error,
        note=row["note"],
        error=row["error"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )


def _parse_gate(row: Row) -> GateReading:
    numbers = {key: finite(row[key], 0.0) for key in ("observed_at", "max_age", "since")}
    return GateReading(**dict(row) | numbers | {"verdict": Verdict(row["verdict"])})


def _parse_guard_reading(row: Row) -> GuardReading:
    return GuardReading(
        **dict(row)
        | {key: _finite_or_none(row[key]) for key in ("value", "baseline", "limit")}
        | {key: finite(row[key], 0.0) for key in ("observed_at", "max_age")}
        | {
            "verdict": Verdict(row["verdict"]),
            "unit": MetricUnit(row["unit"]),
            "action": GuardAction(row["action"]),
            "series": tuple(_finite_or_none(value) for value in row["series"]),
        }
    )


def _finite_or_none(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def strip_nul(text: str) -> str:
    """Prepares text for the store: masks passwords in URLs, replaces NULs and lone surrogates, which servers refuse."""
    return str(mask_secrets(text)).replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()

"""`zdd status`: the state of a release, for people or as JSON, now or once it has reached a phase or state."""

import asyncio
import json
import sys
import textwrap
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import asdict
from typing import Any, TextIO

from zdd_tui.backends.store.client import Store
from zdd_tui.cli.commands import EXIT_TIMEOUT, find_release, open_store
from zdd_tui.model.counting import count_noun
from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import HINT_PREFIX, DatabaseError, PlanError
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.plan_name import name_plan
from zdd_tui.model.release.claims import (
    Activity,
    ProgressState,
    assess_agent_activity,
    assess_backfill,
    assess_phase,
    assess_progress,
    count_verdicts,
    describe_step_note,
    format_silence,
    is_current,
    list_agent_waits,
    verification_doubt,
)
from zdd_tui.model.release.condition import ConditionReading, ConditionStatus
from zdd_tui.model.release.fills import FillProgress, list_fills
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.next_commands import NextCommand, fix_of_rolled_back_region, next_commands
from zdd_tui.model.release.records import (
    BackfillRecord,
    GuardReading,
    ReleaseRecord,
    RollbackStart,
    StoredCommand,
)
from zdd_tui.model.release.regions import require_same_region
from zdd_tui.model.release.state import Release, ReleaseState, StepStatus, closed_gates, current_readings
from zdd_tui.model.release.summary import (
    WaitStatus,
    describe_continuation,
    describe_rollback,
    find_wait,
    has_no_agent,
    list_holds,
)
from zdd_tui.model.release.witness import WitnessRecord, describe_replaced, describe_writers
from zdd_tui.model.tuning import describe_tuning, format_own_limits, limit_values

VERDICT_GLYPHS = {
    Verdict.PASS: "✔",
    Verdict.FAIL: "✗",
    Verdict.PENDING: "◆",
    Verdict.INCONCLUSIVE: "~",
    Verdict.UNKNOWN: "?",
}
WIDTH = 80
RECHECK_SECONDS = 1.0
"""Seconds after which a wait reads again although no change was notified: gates become stale without one."""


async def show_status(
    loaded: LoadedPlan,
    *,
    as_json: bool,
    wait: str | None,
    timeout: float,
    out: TextIO,
    extra: Mapping[str, Any] | None = None,
) -> int:
    """Writes the status.

    Args:
        wait: a phase whose gates must be open, or a final state.
        timeout: seconds to wait.
        extra: further keys of the JSON document.

    Returns:
        0; 1 when the release failed or ended in another state; 4 when the timeout ran out.

    Raises:
        ZddError: the database cannot be used, there is no release, or no such phase.
    """
    code = 0
    async with await open_store(loaded) as store:
        record = await store.read_release(await find_release(store, loaded))
        if record.release.plan_hash == loaded.hash:
            require_same_region(loaded.plan, record.region)
        else:
            sys.stderr.write(f"zdd: {loaded.source} is not the plan of this release; the file was changed since\n")
        if wait is not None:
            _require_known_wait_target(record, wait)
            record, code = await _wait_until_reached(store, record, wait, timeout)
    document = status_to_dict(record) | dict(extra or {})
    out.write(json.dumps(document, indent=2) + "\n" if as_json else format_status(record, loaded.command_line_name))
    return code


def _require_known_wait_target(record: ReleaseRecord, wait: str) -> None:
    targets = [phase.name for phase in record.release.strategy.phases]
    targets += [ReleaseState.DONE.value, ReleaseState.ROLLED_BACK.value]
    if wait not in targets:
        raise PlanError(f"--wait {wait}: no such phase or final state", f"one of: {', '.join(targets)}")


async def _wait_until_reached(
    store: Store, record: ReleaseRecord, wait: str, timeout: float
) -> tuple[ReleaseRecord, int]:
    """The record when the wait is over, and the exit code; it also waits for a server that is away."""
    try:
        async with (
            asyncio.timeout(timeout),
            aclosing(store.watch_changes(record.id, idle_timeout=RECHECK_SECONDS)) as changes,
        ):
            async for _ in changes:
                try:
                    record = await store.read_release(record.id)
                except DatabaseError:
                    continue
                code = wait_result(record, wait)
                if code is not None:
                    return record, code
    except TimeoutError:
        pass
    return record, EXIT_TIMEOUT


def wait_result(record: ReleaseRecord, wait: str) -> int | None:
    """0 when the release has reached the target, 1 when it cannot reach it without a person, else None."""
    record = count_verdicts(record, record.now)
    release = record.release
    if wait == release.state.value:
        return 0
    names = [phase.name for phase in release.strategy.phases]
    if wait in names and not release.state.is_rolling_back:
        target = names.index(wait)
        if release.phase > target or release.state is ReleaseState.DONE:
            return 0
        if release.phase == target and release.state is ReleaseState.WAITING:
            return None if closed_gates(release, record.gates, record.now) else 0
    if release.state in (ReleaseState.FAILED, ReleaseState.ROLLBACK_FAILED) or release.state.has_ended:
        return 1
    return 1 if release.state.is_rolling_back and wait != ReleaseState.ROLLED_BACK.value else None


def status_to_dict(record: ReleaseRecord) -> dict[str, Any]:
    """The status for scripts. Keys are only ever added, and what a key means does not change.

    ============  =============================================================================================
    name          of the release; ``environment`` and ``strategy`` as in the plan; ``plan_hash`` of its content
    region        which one of the plan's this release is for, or null; without --region, ``regions`` has all of them
    state         planned, running, waiting, failed, rolling-back, rollback-failed, rolled-back or done
    phase         the current one, null before the first; ``next_phase`` null after the last
    paused        true or false; ``error`` why it is failed, else null
    progress      whether it moves: running only where an agent works and nothing holds it; else stopped (a standing
                  condition does not hold), stalled (no agent), paused, waiting, failed, not started or done
    agent         that holds the lease: holder, host, pid, epoch, age (seconds), waits_for (systems, each with the
                  reason, while it can run nothing without them); null when none does
    queued        commands that are stored and not answered: kind, actor, age (seconds), late (true once a command has
                  waited so long that it takes effect only in the phase that was confirmed)
    gates         of the current phase: name, verdict (pass, fail, pending, inconclusive, unknown), reason, age
                  (seconds)
    cause         why the guard rolled the release back or paused it, with the numbers, or null
    rollback      null, or how the rollback started: actor, reason (or null), started_at (like ``now``)
    conditions    standing conditions that are not met: name, status (breached, rechecking, unknown), text, who (changed
                  it) or null, hint or null, restored (by the agent), age (seconds)
    waits         null while it does not wait, or a gate fails; since (like ``now``), owner or null, limit (seconds
                  or null), over (the limit), text
    guard         of every rule: rule, verdict, reason, unit (ratio, seconds, count, number), value, baseline and
                  limit (or null), samples, action, action_taken (rollback, pause, alert or null), age (seconds)
    steps         all, in order: name, status (pending, started, done, failed, undoing, undo-failed, undone),
                  note (what it does now, or did last) and error, or null
    backfill      null before it; status, rows_done, rows_total (an estimate until done), rows_per_second (0 where
                  no batch was committed for 3 seconds, and where nothing moves), throttle (the active signal, or null),
                  failed_rows, verified_rows, mismatches (null before the first verification), seconds (from the first
                  batch to the last, waits included; null until all rows are copied), waits (seconds by reason: paused,
                  or a throttle)
    fills         of every table that operations fill, in their order: name and label of the step, phase, current
                  (true for the one that runs), table, ``limits`` (those that the table has of its own, by name), and
                  ``progress`` as ``backfill``, null before its upper bound is fixed; ``backfill`` is then the sum
    witness       open_rows (rows that a write of one side left different) and writers: who wrote only one side
                  (application_name, address, pod or null, role, session_role, rows, open_rows, first_at, last_at,
                  text); replaced_rows (writes of the old side that may have been overwritten) and replaced: the last
                  of them (key, transaction, written_at, found_at, application_name, address, pod, role, session_role,
                  text)
    limits        effective limits of the backfill, by name; ``tuned``: those that an operator has changed, with the
                  plan's own values, as ``users:speed`` where a table's own has been changed; null where the
                  strategy has no backfill
    created_at    seconds since the epoch by the database's clock, like ``now``; ``finished_at`` null until it ends
    ============  =============================================================================================

    ``age`` of a gate and of a rule is that of the oldest data that its verdict rests on. While no agent is known to
    work, the verdicts of ``gates`` and ``guard`` and the status of ``conditions`` are unknown, with the last in
    ``reason`` or ``text``.
    """
    record = count_verdicts(record, record.now)
    release, backfill = record.release, record.backfill
    activity = assess_agent_activity(record)
    return {
        "name": release.name,
        "environment": record.environment,
        "region": record.region or None,
        "strategy": release.strategy.name,
        "state": str(release.state),
        "phase": release.current_phase.name if release.current_phase else None,
        "next_phase": release.next_phase.name if release.next_phase else None,
        "paused": release.paused,
        "progress": assess_progress(release, activity).state.value,
        "error": release.error or None,
        "cause": record.cause or None,
        "rollback": None if record.rollback is None else _rollback_to_dict(record.rollback),
        "conditions": [_condition_to_dict(reading, record.now) for reading in release.unmet],
        "waits": _wait_to_dict(record),
        "plan_hash": release.plan_hash,
        "agent": _agent_to_dict(record, activity),
        "queued": [_queued_to_dict(command, record.now) for command in record.commands if command.status == "queued"],
        "gates": [_gate_to_dict(gate, record.now) for gate in current_readings(release, record.gates, record.now)],
        "guard": [_guard_to_dict(reading.as_of(record.now), record.now) for reading in record.guard],
        "steps": [
            {
                "name": step.name,
                "status": str(step.status),
                "note": describe_step_note(step, activity) or None,
                "error": step.error or None,
            }
            for step in record.steps
        ],
        "backfill": None if backfill is None else _backfill_to_dict(backfill, record, activity),
        "fills": [_fill_to_dict(fill, record, activity) for fill in list_fills(record)],
        "witness": _witness_to_dict(record.witness),
        "limits": None if record.limits is None else record.limits.model_dump(exclude={"tables"}),
        "tuned": None
        if (plan := record.plan_limits) is None
        else {key: limit_values(plan).get(key) for key, _ in record.tuning},
        "created_at": record.created_at,
        "finished_at": record.finished_at,
        "now": record.now,
    }


def _agent_to_dict(record: ReleaseRecord, activity: Activity) -> dict[str, Any] | None:
    lease = record.lease
    if lease is None or not activity.is_active:
        return None
    return {
        "holder": lease.holder,
        "host": lease.host,
        "pid": lease.pid,
        "epoch": lease.epoch,
        "age": lease.age,
        "waits_for": list(list_agent_waits(record, activity)),
    }


def _queued_to_dict(command: StoredCommand, now: float) -> dict[str, Any]:
    late = command.to_command.seconds_late(now) > 0
    age = round(max(0.0, now - command.created_at), 1)
    return {"kind": str(command.kind), "actor": str(command.actor), "age": age, "late": late}


def _rollback_to_dict(start: RollbackStart) -> dict[str, Any]:
    return {"actor": str(start.actor), "reason": start.reason or None, "started_at": start.started_at}


def _condition_to_dict(reading: ConditionReading, now: float) -> dict[str, Any]:
    return {
        "name": reading.name,
        "status": str(reading.status),
        "text": reading.text,
        "who": reading.who or None,
        "hint": reading.hint or None,
        "restored": reading.restored,
        "age": round(max(0.0, now - reading.since), 1),
    }


def _gate_to_dict(gate: GateReading, now: float) -> dict[str, Any]:
    return {"name": gate.name, "verdict": str(gate.verdict), "reason": gate.reason, "age": round(gate.age(now), 1)}


def _current_wait(record: ReleaseRecord) -> WaitStatus | None:
    return None if has_no_agent(record.lease) else find_wait(record, record.now)


def _wait_to_dict(record: ReleaseRecord) -> dict[str, Any] | None:
    wait = _current_wait(record)
    if wait is None:
        return None
    return {
        "since": wait.since,
        "owner": record.owner or None,
        "limit": record.wait_limit,
        "over": wait.is_overdue,
        "text": wait.description,
    }


def _guard_to_dict(reading: GuardReading, now: float) -> dict[str, Any]:
    return {
        "rule": reading.rule,
        "verdict": str(reading.verdict),
        "reason": reading.reason,
        "unit": str(reading.unit),
        "value": reading.value,
        "baseline": reading.baseline,
        "limit": reading.limit,
        "samples": reading.samples,
        "action": str(reading.action),
        "action_taken": reading.action_taken or None,
        "age": round(reading.age(now), 1),
    }


def _backfill_to_dict(backfill: BackfillRecord, record: ReleaseRecord, activity: Activity) -> dict[str, Any]:
    is_moving = assess_backfill(record.release, activity, backfill).moves
    return {
        "status": backfill.status,
        "rows_done": backfill.rows_done,
        "rows_total": backfill.rows_total,
        "rows_per_second": (
            round(backfill.rate, 1) if is_moving and is_current(backfill.idle_seconds(record.now)) else 0.0
        ),
        "throttle": (backfill.throttle or None) if is_moving else None,
        "failed_rows": backfill.failed_rows,
        "verified_rows": backfill.verified_rows,
        "mismatches": backfill.mismatches,
        "seconds": backfill.wall_seconds,
        "waits": {name: round(seconds, 1) for name, seconds in backfill.waits},
    }


def _fill_to_dict(fill: FillProgress, record: ReleaseRecord, activity: Activity) -> dict[str, Any]:
    return {
        "name": fill.name,
        "label": fill.label,
        "phase": fill.phase,
        "current": fill.is_current,
        "table": fill.table or None,
        "limits": dict(fill.own_limits),
        "progress": None if fill.progress is None else _backfill_to_dict(fill.progress, record, activity),
    }


def _witness_to_dict(found: WitnessRecord) -> dict[str, Any]:
    writers = [asdict(writer) | {"pod": writer.pod or None, "text": str(writer)} for writer in found.writers]
    replaced = [asdict(write) | {"pod": write.pod or None, "text": str(write)} for write in found.replaced]
    return {
        "open_rows": found.open_rows,
        "writers": writers,
        "replaced_rows": found.replaced_rows,
        "replaced": replaced,
    }


def _witness_lines(found: WitnessRecord) -> list[str]:
    mark, now = ("✗", "") if found.open_rows else ("!", ", no row differs now")
    lines = [f"  {mark} wrote only one side{now}: {describe_writers(found.writers)}"] if found.writers else []
    return [*lines, f"  ✗ {describe_replaced(found)}"] if found.replaced_rows else lines


def format_status(record: ReleaseRecord, plan_file: str = "PLAN") -> str:
    """The status for people: the first line says what matters most, the last ones what to do next.

    Lines that are longer than WIDTH cells are broken between words.

    Args:
        plan_file: the plan's name in the commands that are shown.
    """
    record = count_verdicts(record, record.now)
    release = record.release
    position = -1 if release.state.has_ended else release.position
    place = f" in {release.strategy.phases[position].name}" if position >= 0 else ""
    where = f"{record.environment}, region {record.region}" if record.region else record.environment
    activity = assess_agent_activity(record)
    progress = assess_progress(release, activity).state
    held = [progress.value] if progress in (ProgressState.STOPPED, ProgressState.STALLED) else []
    held += [each for each in list_holds(release) if each != release.state]
    state = ", ".join((f"{release.state}{place}", *(each.upper() for each in held)))
    lines = [f"{release.name}: {state} ({where})"]
    if record.cause:
        lines.insert(0, f"✗ GUARD: {record.cause}")
    lines[:0] = _condition_lines(release)
    lines += _rollback_lines(record)
    wait = _current_wait(record)
    if wait is not None and (wait.is_overdue or record.owner):
        lines.append(f"  {'✗ LATE: ' if wait.is_overdue else ''}{wait.description}")
    errors = release.error.splitlines()
    lines += [f"  ✗ {part}" for part in errors[:1]] + [f"    {part.strip()}" for part in errors[1:]]
    phases = enumerate(release.strategy.phases)
    lines.append("  " + "  ".join(f"{assess_phase(release, at, activity).glyph} {phase.name}" for at, phase in phases))
    if not release.state.has_ended and not release.state.is_rolling_back:
        for gate in current_readings(release, record.gates, record.now):
            age = f" ({format_duration(gate.age(record.now))} ago)" if gate.name in record.gates else ""
            lines.append(f"  {VERDICT_GLYPHS[gate.verdict]} gate {gate.name}: {gate.verdict}, {gate.reason}{age}")
    lines += _step_lines(record, activity)
    if record.backfill is not None:
        lines.append(f"  {_backfill_line(record.backfill, record, activity)}")
        lines += [f"    {_fill_line(fill, record, activity)}" for fill in list_fills(record)]
    lines += _witness_lines(record.witness)
    if record.plan_limits is not None and (changed := describe_tuning(record.plan_limits, record.tuning)):
        lines.append(f"  tuned: {', '.join(changed)}")
    for command in record.commands:
        if command.status == "queued":
            age = format_duration(max(0.0, record.now - command.created_at))
            late = ", late" if command.to_command.seconds_late(record.now) else ""
            text = f"  … {command.kind} by {command.actor} queued {age} ago{late}"
            lines.append(f"{text}; {'not accepted by the agent yet' if activity.is_active else activity.description}")
    lines += _agent_lines(record)
    lines = [name_plan(line, plan_file) for line in lines]
    lines += _next_lines(record, plan_file)
    return "\n".join(piece for line in lines for piece in _wrap_line(line)) + "\n"


def _step_lines(record: ReleaseRecord, activity: Activity) -> list[str]:
    """The steps that have started and not ended; running only where the release moves."""
    lines = []
    for step in record.steps:
        if step.status not in (StepStatus.STARTED, StepStatus.UNDOING):
            continue
        is_undo = step.status is StepStatus.UNDOING
        progress = assess_progress(record.release, activity, step.status)
        note = f": {step.note}" if step.note else ""
        if progress.moves:
            lines.append(f"  … {'undoing' if is_undo else 'running'} {step.name}{note}")
        elif progress.state in (ProgressState.STOPPED, ProgressState.PAUSED):
            lines.append(f"  {progress.glyph} {step.name}: {progress.reason}")
        else:
            verb, why = "undo of " if is_undo else "", f"; {progress.reason}" if progress.reason else ""
            lines.append(f"  ? {verb}{step.name} has started and not ended{why}")
    return lines


def _rollback_lines(record: ReleaseRecord) -> list[str]:
    return [f"  rollback {describe_rollback(record)}"] if record.rollback is not None else []


def _condition_lines(release: Release) -> list[str]:
    """The standing conditions that are not met: before everything else, because nothing else matters until they are."""
    lines = []
    for reading in release.unmet:
        label = "? UNKNOWN"
        if reading.status.stops_progress:  # a rollback continues
            label = "✗ BREACH" if release.state.is_rolling_back else "✗ STOPPED"
        lines.append(f"{label}: {reading.title}")
        # The hint of a withdrawn reading is about what it said before.
        if reading.status is not ConditionStatus.RECHECKING and reading.hint and reading.last is None:
            lines.append(f"{HINT_PREFIX}{reading.hint}")
    return lines


def _backfill_line(backfill: BackfillRecord, record: ReleaseRecord, activity: Activity) -> str:
    progress = assess_backfill(record.release, activity, backfill)
    is_held = backfill.status == "running" and not progress.moves
    status = progress.state.value if is_held else backfill.status
    text = f"backfill {status}: {backfill.rows_done:,} of {count_noun(backfill.rows_total, 'row')}"
    if is_held:
        text += f", {activity.description}" if activity.description else ""
    elif backfill.status == "running" and not is_current(idle := backfill.idle_seconds(record.now)):
        text += f", no batch for {format_silence(idle)}"
    elif backfill.status == "running":
        text += f", {backfill.rate:,.0f} a second"
    if backfill.throttle and progress.moves:
        text += f", slowed by {backfill.throttle}"
    if backfill.failed_rows:
        text += f", {backfill.failed_rows:,} failed"
    if duration := backfill.describe_duration():
        text += f", {duration}"
    doubt = verification_doubt(record.release)
    if backfill.status == "cancelled":
        return text
    if backfill.verified and not backfill.mismatches and doubt is not None:
        return f"{text}, {'to be verified again' if doubt is ConditionStatus.RECHECKING else 'verified; not known now'}"
    is_compared = backfill.verified or bool(backfill.mismatches)
    return f"{text}, {count_noun(backfill.mismatches or 0, 'mismatch', 'mismatches')}" if is_compared else text


def _fill_line(fill: FillProgress, record: ReleaseRecord, activity: Activity) -> str:
    """``▶ fill users.token: 1,200 of 3,000 rows, 90 a second``; the sum is in the line above."""
    own = f"; its own limits: {format_own_limits(fill.own_limits)}" if fill.own_limits else ""
    if fill.progress is None:
        return f"○ {fill.label}: waits for phase {fill.phase}{own}"
    glyph = {"done": "✔", "cancelled": "◁"}.get(fill.progress.status, "○")
    if fill.is_current:
        glyph = assess_backfill(record.release, activity, fill.progress).glyph
    own = "" if fill.progress.status in ("done", "cancelled") else own
    return f"{glyph} {fill.label}: {_backfill_line(fill.progress, record, activity).removeprefix('backfill ')}{own}"


def _agent_lines(record: ReleaseRecord) -> list[str]:
    lease = record.lease
    if record.release.state.has_ended:
        return []
    activity = assess_agent_activity(record)
    if lease is not None and activity.is_active:
        waits = [f"  ? the agent waits for {each}" for each in list_agent_waits(record, activity)]
        return [*waits, f"  agent {lease.holder}@{lease.host}, pid {lease.pid}, seen {format_duration(lease.age)} ago"]
    last = f"; the last was {lease.holder}@{lease.host}, pid {lease.pid}" if lease and lease.holder else ""
    seen = f", {activity.description}" if last else ""
    return [f"  ✗ STALLED: no agent is running this release{seen}{last}"]


def _next_lines(record: ReleaseRecord, plan_file: str) -> list[str]:
    """The commands that make sense now, to copy, each with what it does."""
    release = record.release
    if release.state.has_ended:
        return [f"  to begin another: zdd agent --new {plan_file}"]
    commands = next_commands(release, record.gates, record.now, has_agent=not has_no_agent(record.lease))
    if not commands:
        return [f"  next: {describe_continuation(record)}"]
    lines = [(_command_line(each, release, plan_file), each.effect) for each in commands]
    column = max(len(command) for command, _ in lines)
    fix = fix_of_rolled_back_region(release, record.gates)
    return [
        *([f"  {HINT_PREFIX.strip()} {name_plan(fix, plan_file)}"] if fix else []),
        *(
            f"  {'' if number else 'next:':5} {command:<{column}}   {effect}"
            for number, (command, effect) in enumerate(lines)
        ),
    ]


def _command_line(command: NextCommand, release: Release, plan_file: str) -> str:
    if command.kind is None:
        return f"zdd agent {plan_file}"
    confirm = f" --confirm {release.name}" if command.requires_name else ""
    return f"zdd {command.kind}{confirm} {plan_file}"


def _wrap_line(line: str) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
    return textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [
        line
    ]

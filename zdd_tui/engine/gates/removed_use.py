"""The gate before a phase that takes something away: live queries have stopped using it."""

import asyncio
import time

from zdd_tui.backends.postgres.operations import find_dependents
from zdd_tui.backends.postgres.query_stats import read_use_facts
from zdd_tui.backends.postgres.removed_use import resolve_removed
from zdd_tui.backends.read_scope import report_age
from zdd_tui.backends.store.conditions import load_use_baseline, save_use_baseline
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.result import GateResult
from zdd_tui.model.counting import format_list
from zdd_tui.model.duration import format_duration
from zdd_tui.model.operations.registry import plan_operations
from zdd_tui.model.operations.removed_use import (
    UseBaseline,
    UseFacts,
    UseFindings,
    find_uses,
    removed_objects,
    replaced_routines,
)
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import BaseOperationsPlan, OperationsPlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import Release, ReleaseState, StepStatus

HOW_TO_DECIDE = "if it is none, start the release with accept: [{what: LABEL, reason: …}] in the plan"


READ_INTERVAL = 10.0
"""Seconds between two readings while the gate waits: each reads the catalog, all functions and pg_stat_statements. An
advance reads anew."""


async def evaluate_removed_unused(ctx: Context, record: ReleaseRecord) -> GateResult:
    """Nobody uses what the next phase removes. Every object of the plan is in the baseline, whatever its phase."""
    plan, release = ctx.plan_of_type(BaseOperationsPlan), record.release
    if not (since := _baseline_name(plan, release)):
        what = "the old version still runs" if isinstance(plan, OperationsPlan) else "steps of this phase have not run"
        return Verdict.PENDING, what
    following = release.next_phase
    assert following is not None, "the gate is before a phase"
    key = since, following.name
    max_age = plan.gates.max_age + READ_INTERVAL
    if (known := ctx.removed_use.get(key, max_age)) is not None:
        return known
    ctx.removed_use.expire()  # what was known before must not come back where this reading fails
    began_at = time.monotonic()
    try:
        result, seconds = await _read_result(ctx, plan, since, Phase(following.name))
    except asyncio.CancelledError:
        late = Verdict.UNKNOWN, "no result in time; the next reading follows"
        ctx.removed_use.put(key, late, began_at, READ_INTERVAL)
        raise
    ctx.removed_use.put(key, result, began_at, min(seconds, READ_INTERVAL))
    report_age(0.0, max_age)
    return result


async def _read_result(ctx: Context, plan: BaseOperationsPlan, since: str, phase: Phase) -> tuple[GateResult, float]:
    """The result, and the seconds after which it changes if nobody uses anything meanwhile."""
    operations = plan_operations(plan)
    async with ctx.read_connection() as conn:
        resolved = await resolve_removed(conn, removed_objects(plan), replaced_routines(plan))
        dependents = await find_dependents(
            conn, operations, lambda each: any(removed.phase is phase for removed in each.removes)
        )
        facts = await read_use_facts(conn, resolved)
        stored = await load_use_baseline(conn, ctx.store.release_id)
    if dependents:
        return (Verdict.FAIL, format_list(dependents)), READ_INTERVAL
    objects = [each for each in resolved if each.removed.phase is phase]
    if not objects:
        return (Verdict.PASS, "nothing that a query can use is removed"), READ_INTERVAL
    is_stored = stored is not None and stored.since == since
    baseline = stored.follow(facts) if stored is not None and is_stored else UseBaseline.take(since, facts)
    if baseline != stored:
        await save_use_baseline(ctx.store, baseline)
    # Parsing takes time: the lease is renewed meanwhile.
    findings = await asyncio.to_thread(find_uses, objects, facts, baseline, plan.accepted_reasons)
    soak = plan.gates.soak
    result = _describe(findings, [each.removed.label for each in objects], facts, baseline, soak)
    is_soaking = result[0] is Verdict.PENDING
    return result, max(0.0, baseline.at + soak - facts.at) if is_soaking else READ_INTERVAL


def _baseline_name(plan: BaseOperationsPlan, release: Release) -> str:
    """What has ended when the baseline is taken; empty before that.

    A rollout ends when the last pod of the old version is gone. Without one, statements of zdd's own steps, which the
    server does not tell from others, must have ended.
    """
    if release.current_phase is None:
        return "planned"
    if isinstance(plan, OperationsPlan):
        return "rollout-new" if release.status("rollout-new") is StepStatus.DONE else ""
    return release.current_phase.name if release.state is ReleaseState.WAITING else ""


def _describe(
    findings: UseFindings, labels: list[str], facts: UseFacts, baseline: UseBaseline, soak: float
) -> GateResult:
    if findings.used:
        return Verdict.FAIL, format_list(findings.used)
    if findings.unknown:
        return Verdict.UNKNOWN, f"may be used: {format_list(findings.unknown)}; {HOW_TO_DECIDE}"
    seconds = facts.at - baseline.at
    if seconds < soak and set(labels) != set(findings.accepted):
        return Verdict.PENDING, f"no use for {format_duration(seconds)}, {format_duration(soak)} are required"
    accepted = f"; accepted by the plan: {format_list(findings.accepted)}" if findings.accepted else ""
    return Verdict.PASS, f"no use of {format_list(labels)} for {format_duration(seconds)}{accepted}"

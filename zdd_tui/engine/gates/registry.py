"""Judges the gates of the current phase. What cannot be looked at is unknown, with the reason why."""

import asyncio
from collections.abc import Mapping

import asyncpg

from zdd_tui.backends.postgres.connection import is_session_lost
from zdd_tui.backends.postgres.gate_queries import (
    compare_recent_rows,
    count_hidden_sessions,
    find_invalid_objects,
    find_leftovers,
    find_older_transactions,
    find_waiters,
)
from zdd_tui.backends.regions import read_region_statuses
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.blue_green import BLUE_GREEN_GATES
from zdd_tui.engine.gates.dark_launch import DARK_LAUNCH_GATES
from zdd_tui.engine.gates.result import GateEvaluator, GateResult, find_step_record, format_list, pass_or_fail
from zdd_tui.engine.gates.workload import WORKLOAD_GATES, evaluate_serving_version
from zdd_tui.model.errors import DatabaseUnavailable, StaleEpoch, ZddError
from zdd_tui.model.guard.reading import evaluate_guard_gate
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.regions import REGION_GATE, evaluate_regions

# --- A region begins only when those before it are done and the last has soaked.


async def evaluate_earlier_regions(ctx: Context, record: ReleaseRecord) -> GateResult:
    """The gate before the first phase. Nothing waives it: what cannot be read is unknown, and opens nothing."""
    plan = ctx.plan
    assert plan.regions is not None, "only a plan with regions has this gate"
    stands = await read_region_statuses(plan, record.release.plan_hash, plan.earlier_regions)
    return evaluate_regions(stands, plan.regions.soak)


# --- end


GATE_TIMEOUT = 5.0
"""Seconds that one gate may look; after that it is unknown, so that it cannot hold up the others."""


async def evaluate_gates(ctx: Context, record: ReleaseRecord) -> list[GateReading]:
    """Every gate of the current phase, or of those before the first, judged now."""
    found = await asyncio.gather(*(_evaluate_gate(ctx, record, spec.name) for spec in record.release.gates))
    return list(found)


async def _evaluate_gate(ctx: Context, record: ReleaseRecord, name: str) -> GateReading:
    try:
        async with asyncio.timeout(GATE_TIMEOUT):
            verdict, reason = await GATES[name](ctx, record)
    except TimeoutError:
        verdict, reason = Verdict.UNKNOWN, f"no answer within {GATE_TIMEOUT:.0f} s"
    except (DatabaseUnavailable, StaleEpoch):
        raise
    except ZddError as error:
        verdict, reason = Verdict.UNKNOWN, error.title
    except asyncpg.PostgresError as error:
        if is_session_lost(error):
            raise
        verdict, reason = Verdict.UNKNOWN, f"database: {error}"
    except Exception as error:
        if is_session_lost(error):
            raise
        # One gate that cannot be judged must not take the agent with it, and with it a rollback.
        verdict, reason = Verdict.UNKNOWN, f"defect in zdd: {type(error).__name__}; please report it"
    return GateReading(name, verdict, reason, record.now, ctx.plan.gates.max_age)


# --- expand -------------------------------------------------------------------------------------------------


async def _evaluate_schema_valid(ctx: Context, _record: ReleaseRecord) -> GateResult:
    async with ctx.read_connection() as conn:
        broken = await find_invalid_objects(conn, ctx.expand_contract_plan)
    return pass_or_fail(not broken, "; ".join(broken) or "columns, indexes and triggers are there and valid")


async def _evaluate_no_waiters(ctx: Context, _record: ReleaseRecord) -> GateResult:
    async with ctx.read_connection() as conn:
        waiters = await find_waiters(conn, ctx.expand_contract_plan)
    return pass_or_fail(not waiters, format_list(waiters) or "no session waits for a lock of ours")


# --- dual-write ---------------------------------------------------------------------------------------------


async def _evaluate_serving_v2(ctx: Context, _record: ReleaseRecord) -> GateResult:
    return await evaluate_serving_version(ctx, "v2")


async def _evaluate_recent_rows(ctx: Context, record: ReleaseRecord) -> GateResult:
    step = find_step_record(record, "write-flag-on")
    since = step.detail.get("since") if step else None
    if not since:
        return Verdict.INCONCLUSIVE, "the write flag is not on yet"
    assert step is not None
    async with ctx.read_connection() as conn:
        sample = await compare_recent_rows(
            conn, ctx.expand_contract_plan, await ctx.catalog(), since, inserted_after=step.detail.get("newest_key")
        )
    if sample.mismatches:
        return (
            Verdict.FAIL,
            f"{sample.mismatches} of {sample.rows} recent rows disagree, such as key {sample.example_key}",
        )
    wanted = ctx.plan.gates.min_recent_rows
    if sample.matches < wanted:
        return (
            Verdict.INCONCLUSIVE,
            f"{sample.matches} rows written on both sides since the flag is on; wanted: {wanted}",
        )
    unmoved = f", {sample.not_copied} older ones wait for the backfill" if sample.not_copied else ""
    return Verdict.PASS, f"{sample.matches} recent rows agree{unmoved}"


# --- backfill -----------------------------------------------------------------------------------------------


async def _evaluate_backfill_complete(ctx: Context, record: ReleaseRecord) -> GateResult:
    state = record.backfill
    if state is None:
        return Verdict.FAIL, "not begun"
    if state.status != "done":
        return Verdict.FAIL, f"{state.rows_done:,} of about {state.rows_total:,} rows"
    if state.failed_rows > ctx.expand_contract_plan.backfill.max_failed_rows:
        return Verdict.FAIL, f"{state.failed_rows} rows could not be moved; see zdd.failed_row"
    return Verdict.PASS, f"all ranges done, {state.rows_done:,} rows"


async def _evaluate_no_mismatch(_ctx: Context, record: ReleaseRecord) -> GateResult:
    state = record.backfill
    if state is None or not state.verified or state.mismatches is None:
        done = f", {state.verified_rows:,} rows compared so far" if state and state.verified_rows else ""
        return Verdict.INCONCLUSIVE, f"not verified yet{done}"
    return pass_or_fail(state.mismatches == 0, f"{state.mismatches} mismatches in {state.verified_rows:,} rows")


# --- cutover, contract ----------------------------------------------------------------------------------------


async def _evaluate_serving_v3(ctx: Context, _record: ReleaseRecord) -> GateResult:
    return await evaluate_serving_version(ctx, "v3")


async def _evaluate_no_old_snapshot(ctx: Context, record: ReleaseRecord) -> GateResult:
    step = find_step_record(record, "rollout-v3")
    since = step.detail.get("since") if step else None
    if not since:
        return Verdict.UNKNOWN, "the cutover's transaction is not on record"
    async with ctx.read_connection() as conn:
        older = await find_older_transactions(conn, since)
        hidden = 0 if older else await count_hidden_sessions(conn)
        role = await conn.fetchval("SELECT current_user::text")
    if hidden:
        return Verdict.UNKNOWN, f"{hidden} sessions cannot be looked at: GRANT pg_read_all_stats TO {role}"
    return pass_or_fail(not older, format_list(older) or "no transaction is older than the cutover")


# --- cleanup --------------------------------------------------------------------------------------------------


async def _evaluate_nothing_left(ctx: Context, _record: ReleaseRecord) -> GateResult:
    async with ctx.read_connection() as conn:
        left = await find_leftovers(conn, ctx.expand_contract_plan)
    flags = await ctx.flags.read_raw([ctx.expand_contract_plan.flags.write, ctx.expand_contract_plan.flags.read])
    left += [f"flag {key}" for key, value in flags.items() if value is not None]
    view = await ctx.cluster.get_deployment(ctx.plan.kubernetes.deployment)
    if view.epoch:
        left.append(f"annotation on Deployment {view.name}")
    return pass_or_fail(not left, f"still there: {', '.join(left)}" if left else "nothing is left behind")


# --- every phase ------------------------------------------------------------------------------------------------


async def _evaluate_guard(ctx: Context, record: ReleaseRecord) -> GateResult:
    """The guard looks by itself; the gate tells what it said last, and how old that is."""
    demanded = ctx.plan.guard.rule_actions if ctx.plan.guard else {}
    return evaluate_guard_gate(demanded, {reading.rule: reading for reading in record.guard}, record.now)


GATES: Mapping[str, GateEvaluator] = {
    "guard": _evaluate_guard,
    REGION_GATE: evaluate_earlier_regions,
    **WORKLOAD_GATES,
    **BLUE_GREEN_GATES,
    **DARK_LAUNCH_GATES,
    "schema-valid": _evaluate_schema_valid,
    "no-waiters": _evaluate_no_waiters,
    "serving-v2": _evaluate_serving_v2,
    "recent-rows-agree": _evaluate_recent_rows,
    "backfill-complete": _evaluate_backfill_complete,
    "no-mismatch": _evaluate_no_mismatch,
    "serving-v3": _evaluate_serving_v3,
    "no-old-snapshot": _evaluate_no_old_snapshot,
    "cleanup-complete": _evaluate_nothing_left,
}

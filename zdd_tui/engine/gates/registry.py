"""Judges the gates of the current phase. What cannot be looked at is unknown, with the reason why."""

import asyncio
from collections.abc import Mapping

import asyncpg

from zdd_tui.backends.postgres.connection import is_lost
from zdd_tui.backends.postgres.gate_queries import (
    hidden_sessions,
    leftovers,
    objects_valid,
    oldest_snapshot_since,
    sample_recent,
    waiters_behind,
)
from zdd_tui.backends.regions import read_stands
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.blue_green import BLUE_GREEN_GATES
from zdd_tui.engine.gates.dark_launch import DARK_LAUNCH_GATES
from zdd_tui.engine.gates.result import Finding, Judge, listed, passes, step_record
from zdd_tui.engine.gates.workload import WORKLOAD_GATES, serving_version
from zdd_tui.model.errors import DatabaseAway, StaleEpoch, ZddError
from zdd_tui.model.guard.reading import gate_verdict
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.regions import REGION_GATE, judge_regions

# --- A region begins only when those before it are done and the last has soaked.


async def earlier_regions_done(ctx: Context, record: ReleaseRecord) -> Finding:
    """The gate before the first phase. Nothing waives it: what cannot be read is unknown, and opens nothing."""
    plan = ctx.plan
    assert plan.regions is not None, "only a plan with regions has this gate"
    stands = await read_stands(plan, record.release.plan_hash, plan.earlier_regions)
    return judge_regions(stands, plan.regions.soak)


# --- end


LOOK_TIMEOUT = 5.0
"""Seconds that one gate may look; after that it is unknown, so that it cannot hold up the others."""


async def judge(ctx: Context, record: ReleaseRecord) -> list[GateReading]:
    """Every gate of the current phase, or of those before the first, judged now."""
    found = await asyncio.gather(*(_judge_one(ctx, record, spec.name) for spec in record.release.gates))
    return list(found)


async def _judge_one(ctx: Context, record: ReleaseRecord, name: str) -> GateReading:
    try:
        async with asyncio.timeout(LOOK_TIMEOUT):
            verdict, reason = await GATES[name](ctx, record)
    except TimeoutError:
        verdict, reason = Verdict.UNKNOWN, f"no answer within {LOOK_TIMEOUT:.0f} s"
    except (DatabaseAway, StaleEpoch):
        raise
    except ZddError as error:
        verdict, reason = Verdict.UNKNOWN, error.title
    except asyncpg.PostgresError as error:
        if is_lost(error):
            raise
        verdict, reason = Verdict.UNKNOWN, f"database: {error}"
    except Exception as error:
        if is_lost(error):
            raise
        # One gate that cannot be judged must not take the agent with it, and with it a rollback.
        verdict, reason = Verdict.UNKNOWN, f"defect in zdd: {type(error).__name__}; please report it"
    return GateReading(name, verdict, reason, record.now, ctx.plan.gates.max_age)


# --- expand -------------------------------------------------------------------------------------------------


async def _schema_valid(ctx: Context, _record: ReleaseRecord) -> Finding:
    async with ctx.reading() as conn:
        broken = await objects_valid(conn, ctx.change_plan)
    return passes(not broken, "; ".join(broken) or "columns, indexes and triggers are there and valid")


async def _no_waiters(ctx: Context, _record: ReleaseRecord) -> Finding:
    async with ctx.reading() as conn:
        waiters = await waiters_behind(conn, ctx.change_plan)
    return passes(not waiters, listed(waiters) or "no session waits for a lock of ours")


# --- dual-write ---------------------------------------------------------------------------------------------


async def _serving_v2(ctx: Context, _record: ReleaseRecord) -> Finding:
    return await serving_version(ctx, "v2")


async def _recent_rows_agree(ctx: Context, record: ReleaseRecord) -> Finding:
    step = step_record(record, "write-flag-on")
    since = step.detail.get("since") if step else None
    if not since:
        return Verdict.INCONCLUSIVE, "the write flag is not on yet"
    assert step is not None
    async with ctx.reading() as conn:
        sample = await sample_recent(
            conn, ctx.change_plan, await ctx.catalog(), since, born_after=step.detail.get("newest_key")
        )
    if sample.disagree:
        return (
            Verdict.FAIL,
            f"{sample.disagree} of {sample.rows} recent rows disagree, such as key {sample.example_key}",
        )
    wanted = ctx.plan.gates.min_recent_rows
    if sample.agree < wanted:
        return Verdict.INCONCLUSIVE, f"{sample.agree} rows written on both sides since the flag is on; wanted: {wanted}"
    unmoved = f", {sample.unmoved} older ones wait for the backfill" if sample.unmoved else ""
    return Verdict.PASS, f"{sample.agree} recent rows agree{unmoved}"


# --- backfill -----------------------------------------------------------------------------------------------


async def _backfill_complete(ctx: Context, record: ReleaseRecord) -> Finding:
    state = record.backfill
    if state is None:
        return Verdict.FAIL, "not begun"
    if state.status != "done":
        return Verdict.FAIL, f"{state.rows_done:,} of about {state.rows_total:,} rows"
    if state.failed_rows > ctx.change_plan.backfill.max_failed_rows:
        return Verdict.FAIL, f"{state.failed_rows} rows could not be moved; see zdd.failed_row"
    return Verdict.PASS, f"all ranges done, {state.rows_done:,} rows"


async def _no_mismatch(_ctx: Context, record: ReleaseRecord) -> Finding:
    state = record.backfill
    if state is None or not state.verified or state.mismatches is None:
        done = f", {state.verified_rows:,} rows compared so far" if state and state.verified_rows else ""
        return Verdict.INCONCLUSIVE, f"not verified yet{done}"
    return passes(state.mismatches == 0, f"{state.mismatches} mismatches in {state.verified_rows:,} rows")


# --- cutover, contract ----------------------------------------------------------------------------------------


async def _serving_v3(ctx: Context, _record: ReleaseRecord) -> Finding:
    return await serving_version(ctx, "v3")


async def _no_old_snapshot(ctx: Context, record: ReleaseRecord) -> Finding:
    step = step_record(record, "rollout-v3")
    since = step.detail.get("since") if step else None
    if not since:
        return Verdict.UNKNOWN, "the cutover's transaction is not on record"
    async with ctx.reading() as conn:
        older = await oldest_snapshot_since(conn, since)
        hidden = 0 if older else await hidden_sessions(conn)
        role = await conn.fetchval("SELECT current_user::text")
    if hidden:
        return Verdict.UNKNOWN, f"{hidden} sessions cannot be looked at: GRANT pg_read_all_stats TO {role}"
    return passes(not older, listed(older) or "no transaction is older than the cutover")


# --- cleanup --------------------------------------------------------------------------------------------------


async def _nothing_left(ctx: Context, _record: ReleaseRecord) -> Finding:
    async with ctx.reading() as conn:
        left = await leftovers(conn, ctx.change_plan, await ctx.catalog())
    flags = await ctx.flags.read_raw([ctx.change_plan.flags.write, ctx.change_plan.flags.read])
    left += [f"flag {key}" for key, value in flags.items() if value is not None]
    view = await ctx.cluster.get_deployment(ctx.plan.kubernetes.deployment)
    if view.epoch:
        left.append(f"annotation on Deployment {view.name}")
    return passes(not left, f"still there: {', '.join(left)}" if left else "nothing is left behind")


# --- every phase ------------------------------------------------------------------------------------------------


async def _guard(ctx: Context, record: ReleaseRecord) -> Finding:
    """The guard looks by itself; the gate tells what it said last, and how old that is."""
    demanded = ctx.plan.guard.demanded if ctx.plan.guard else {}
    return gate_verdict(demanded, {reading.rule: reading for reading in record.guard}, record.now)


GATES: Mapping[str, Judge] = {
    "guard": _guard,
    REGION_GATE: earlier_regions_done,
    **WORKLOAD_GATES,
    **BLUE_GREEN_GATES,
    **DARK_LAUNCH_GATES,
    "schema-valid": _schema_valid,
    "no-waiters": _no_waiters,
    "serving-v2": _serving_v2,
    "recent-rows-agree": _recent_rows_agree,
    "backfill-complete": _backfill_complete,
    "no-mismatch": _no_mismatch,
    "serving-v3": _serving_v3,
    "no-old-snapshot": _no_old_snapshot,
    "nothing-left": _nothing_left,
}

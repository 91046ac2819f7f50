"""The registry of gates, and the evaluation of the current phase's. A gate that cannot be evaluated is unknown."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime

import asyncpg

from zdd_tui.backends.postgres.connection import is_session_lost
from zdd_tui.backends.postgres.gate_queries import (
    compare_recent_rows,
    count_hidden_sessions,
    find_invalid_objects,
    find_leftovers,
    find_older_transactions,
    find_waiters,
    list_enabled_triggers,
)
from zdd_tui.backends.postgres.operations import is_invalid_index, is_valid_index
from zdd_tui.backends.postgres.row_visibility import count_unread_blocks
from zdd_tui.backends.read_scope import read_scope, report_age
from zdd_tui.backends.regions import read_region_statuses
from zdd_tui.checks.catalog_diff import describe_losses, find_losses
from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.blue_green import BLUE_GREEN_GATES
from zdd_tui.engine.gates.dark_launch import DARK_LAUNCH_GATES
from zdd_tui.engine.gates.removed_use import evaluate_removed_unused
from zdd_tui.engine.gates.result import (
    GateEvaluator,
    GateResult,
    describe_leftovers,
    pass_after,
    pass_or_fail,
    pass_or_pending,
)
from zdd_tui.engine.gates.workload import WORKLOAD_GATES, evaluate_serving_version
from zdd_tui.engine.observations import find_step_record
from zdd_tui.engine.witness import name_writers
from zdd_tui.model.counting import count_noun, format_list
from zdd_tui.model.ddl.witness import expected_triggers
from zdd_tui.model.errors import DatabaseUnavailable, StaleEpoch, ZddError
from zdd_tui.model.guard.decisions import evaluate_guard_gate
from zdd_tui.model.operations.registry import dropped_indexes
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.plan.guard import GuardAction
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.release.gate import GateReading, Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.regions import REGION_GATE, evaluate_regions
from zdd_tui.model.release.state import StepStatus
from zdd_tui.model.release.strategies import REMOVED_GATE
from zdd_tui.model.release.strategy import WITNESS_GATE
from zdd_tui.model.release.witness import describe_writers, evaluate_witness, witness_mode
from zdd_tui.model.tuning import plan_limits

GATE_TIMEOUT = 5.0
"""Seconds for one gate. A gate that takes longer is unknown, so that it does not delay the others."""

MAX_DUE_SECONDS = 2.0
"""Seconds between two evaluations of the guard that do not count as age of its gate."""

PROMPT_SECONDS = 1.0
"""Seconds after which the verdicts are taken that are known until then."""


async def evaluate_gates(ctx: Context, record: ReleaseRecord, *, fresh: bool = False) -> list[GateReading]:
    """Evaluates every gate of the current phase, or the entry gates before the first phase.

    Args:
        fresh: read the cluster itself, and not what the watches know; for an advance that depends on it.
    """
    return [reading async for readings in stream_gates(ctx, record, fresh=fresh) for reading in readings]


async def stream_gates(
    ctx: Context, record: ReleaseRecord, *, fresh: bool = False
) -> AsyncGenerator[list[GateReading], None]:
    """The same, in two parts at most: a gate whose system does not answer must not age the verdicts of the others."""
    tasks = [asyncio.create_task(_evaluate_gate(ctx, record, spec.name, fresh=fresh)) for spec in record.release.gates]
    try:
        for timeout in (PROMPT_SECONDS, None):
            if pending := [task for task in tasks if not task.done()]:
                await asyncio.wait(pending, timeout=timeout)
            ended = [task for task in tasks if task.done()]
            tasks = [task for task in tasks if task not in ended]
            if ended:
                yield [task.result() for task in ended]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _evaluate_gate(ctx: Context, record: ReleaseRecord, name: str, *, fresh: bool) -> GateReading:
    with read_scope(fresh=fresh) as scope:
        verdict, reason = await _read_gate(ctx, record, name)
    # What was not read from a cache is newer than the record.
    max_age = max(ctx.plan.gates.max_age, scope.max_age)
    return GateReading(name, verdict, reason, record.now - scope.age, max_age)


async def _read_gate(ctx: Context, record: ReleaseRecord, name: str) -> GateResult:
    try:
        async with asyncio.timeout(GATE_TIMEOUT):
            return await GATES[name](ctx, record)
    except TimeoutError:
        reads = "; it reads Kubernetes" if name in _CLUSTER_GATES else ""
        return Verdict.UNKNOWN, f"no result within {GATE_TIMEOUT:.0f} s{reads}"
    except (DatabaseUnavailable, StaleEpoch):
        raise
    except ZddError as error:
        return Verdict.UNKNOWN, error.title
    except asyncpg.PostgresError as error:
        if is_session_lost(error):
            raise
        return Verdict.UNKNOWN, f"PostgreSQL refused the query: {str(error).splitlines()[0]}"
    except Exception as error:
        if is_session_lost(error):
            raise
        # A bug in one gate must not stop the agent: the agent must still be able to roll back.
        return Verdict.UNKNOWN, f"bug in zdd: {type(error).__name__}; please report it"


async def _evaluate_earlier_regions(ctx: Context, record: ReleaseRecord) -> GateResult:
    """Every earlier region is done and the last of them has soaked. A region that cannot be read is unknown."""
    plan = ctx.plan
    assert plan.regions is not None, "only a plan with regions has this gate"
    statuses = await read_region_statuses(plan, record.release.plan_hash, plan.earlier_regions)
    return evaluate_regions(statuses, plan.regions.soak)


async def _evaluate_guard(ctx: Context, record: ReleaseRecord) -> GateResult:
    """The guard has a loop of its own; the gate reports its newest readings."""
    rule_actions = ctx.plan.guard.rule_actions if ctx.plan.guard else {}
    readings = {reading.rule: reading for reading in record.guard if reading.rule in rule_actions}
    # Until the next evaluation is due there is nothing newer; a rule that is evaluated rarely is old all the same.
    due = min(ctx.plan.guard.interval, MAX_DUE_SECONDS) if ctx.plan.guard else 0.0
    for reading in readings.values():
        if rule_actions[reading.rule] is not GuardAction.ALERT:
            report_age(max(0.0, reading.age(record.now) - due), reading.max_age)
    return evaluate_guard_gate(rule_actions, readings, record.now)


# The gates of expand/contract, in the order of its phases.


async def _evaluate_schema_valid(ctx: Context, record: ReleaseRecord) -> GateResult:
    async with ctx.read_connection() as conn:
        invalid = await find_invalid_objects(conn, ctx.expand_contract_plan)
    reason = "; ".join(invalid) or "columns, indexes and triggers exist and are valid"
    return pass_after(record, ["expand-schema", "create-indexes", "sync-forward"], not invalid, reason)


async def _evaluate_catalog_diff(ctx: Context, record: ReleaseRecord) -> GateResult:
    """The new side has what the old one has: after expand except for what constrain brings, in contract everything."""
    phase = record.release.current_phase
    at_end = phase is not None and phase.name == Phase.CONTRACT
    if record.release.status("expand-schema") is not StepStatus.DONE:
        return Verdict.PENDING, "the new side does not exist yet"
    lint = find_step_record(record, "lint-ddl")
    deferred = () if at_end or lint is None else tuple(lint.detail.get("deferred", ()))
    async with ctx.read_connection() as conn:
        lost = await find_losses(conn, ctx.expand_contract_plan, deferred=deferred, at_end=at_end)
    later = f"; {len(deferred)} of it come with change.constrain" if deferred else ""
    reason = describe_losses(lost) or f"the new side has what the old side has, or the plan accepts its loss{later}"
    return pass_after(record, ["expand-schema", "create-indexes", "constrain-new-side"], not lost, reason)


async def _evaluate_no_waiters(ctx: Context, _record: ReleaseRecord) -> GateResult:
    change = ctx.plan.change if isinstance(ctx.plan, Plan) else None
    async with ctx.read_connection() as conn:
        waiters = await find_waiters(conn, (change.table, change.target_table) if change else None)
    return pass_or_fail(not waiters, format_list(waiters) or "no session waits for a lock that the agent holds")


async def _evaluate_serving_v2(ctx: Context, record: ReleaseRecord) -> GateResult:
    return await evaluate_serving_version(ctx, record, "v2", "rollout-v2")


async def _evaluate_recent_rows(ctx: Context, record: ReleaseRecord) -> GateResult:
    step = find_step_record(record, "write-flag-on")
    since = step.detail.get("since") if step else None
    if not since:
        return Verdict.PENDING, "the write flag is not on yet"
    assert step is not None
    async with ctx.read_connection() as conn:
        sample = await compare_recent_rows(
            conn, ctx.expand_contract_plan, await ctx.catalog(), since, inserted_after=step.detail.get("newest_key")
        )
    if sample.mismatches:
        differ = f"{sample.mismatches} of {sample.rows} recent rows differ"
        writers = await name_writers(ctx, [sample.example] if sample.example else [])
        return Verdict.FAIL, f"key {sample.example_key}{writers}; {differ}"
    required = ctx.plan.gates.min_recent_rows
    if sample.matches < required:
        written = f"{count_noun(sample.matches, 'row')} written on both sides since the write flag is on"
        return Verdict.INCONCLUSIVE, f"{written}, required: {required}"
    not_copied = (
        f"; the backfill has yet to copy {count_noun(sample.not_copied, 'older one')}" if sample.not_copied else ""
    )
    return Verdict.PASS, f"{count_noun(sample.matches, 'recent row agrees', 'recent rows agree')}{not_copied}"


async def _evaluate_backfill_complete(ctx: Context, record: ReleaseRecord) -> GateResult:
    state = record.backfill
    if state is None:
        return Verdict.PENDING, "not started"
    if state.status != "done":
        return Verdict.PENDING, f"{state.rows_done:,} of about {state.rows_total:,} rows"
    if state.failed_rows > ctx.expand_contract_plan.backfill.max_failed_rows:
        return Verdict.FAIL, f"{count_noun(state.failed_rows, 'row')} failed; see zdd.failed_row"
    if not state.rows_done:
        async with ctx.read_connection() as conn:
            if blocks := await count_unread_blocks(conn, (await ctx.catalog()).old.sql):
                return Verdict.FAIL, f"no row was visible, but the table has {count_noun(blocks, 'page')}"
    return Verdict.PASS, f"all ranges done, {count_noun(state.rows_done, 'row')}"


async def _evaluate_no_mismatch(ctx: Context, record: ReleaseRecord) -> GateResult:
    state = record.backfill
    if record.witness.open_rows and not ctx.expand_contract_plan.change.has_witness:
        return _describe_unsynced_rows(record)
    if state is None or not state.verified or state.mismatches is None:
        progress = (
            f", {count_noun(state.verified_rows, 'row')} compared so far" if state and state.verified_rows else ""
        )
        return Verdict.PENDING, f"not verified yet{progress}"
    mismatches = count_noun(state.mismatches, "mismatch", "mismatches")
    # The age of the reading is that of this look at the record; the rows were compared at another time.
    compared = f"{datetime.fromtimestamp(state.updated_at, UTC):%H:%M:%S} UTC"
    rows = count_noun(state.verified_rows, "row")
    return pass_or_fail(state.mismatches == 0, f"{mismatches} in {rows}, compared by {compared}")


async def _evaluate_witness(ctx: Context, record: ReleaseRecord) -> GateResult:
    plan = ctx.expand_contract_plan
    is_extended = record.release.status("extend-witness") is StepStatus.DONE
    expected = expected_triggers(plan, both_sides=is_extended)
    async with ctx.read_connection() as conn:
        enabled = await list_enabled_triggers(conn, expected)
    return evaluate_witness(
        record.witness,
        mode=witness_mode(record.release),
        now=record.now,
        quiet=plan.gates.soak,
        missing=[name for name in expected if name not in enabled],
    )


def _describe_unsynced_rows(record: ReleaseRecord) -> GateResult:
    """Rows that a sync trigger could not copy. They are copied again, unless that fails too."""
    rows = f"{count_noun(record.witness.open_rows, 'row')} could not be copied by the sync trigger"
    writers = describe_writers(record.witness.writers)
    reason = ": ".join(part for part in (rows, writers, record.witness.error) if part)
    return (Verdict.FAIL if record.witness.error else Verdict.PENDING), reason


async def _evaluate_serving_v3(ctx: Context, record: ReleaseRecord) -> GateResult:
    return await evaluate_serving_version(ctx, record, "v3", "rollout-v3")


async def _evaluate_no_old_snapshot(ctx: Context, record: ReleaseRecord) -> GateResult:
    step = find_step_record(record, "rollout-v3")
    since = step.detail.get("since") if step else None
    if not since:
        return Verdict.UNKNOWN, "rollout-v3 has not recorded the transaction of the cutover"
    async with ctx.read_connection() as conn:
        older = await find_older_transactions(conn, since)
        hidden = 0 if older else await count_hidden_sessions(conn)
        role = await conn.fetchval("SELECT current_user::text")
    if hidden:
        return (
            Verdict.UNKNOWN,
            f"the agent does not see {count_noun(hidden, 'session')}: GRANT pg_read_all_stats TO {role}",
        )
    return pass_or_pending(not older, format_list(older) or "no transaction is older than the cutover")


async def _evaluate_fills_complete(ctx: Context, record: ReleaseRecord) -> GateResult:
    """Every fill of the phase has ended with the proof that no row is left, and no row has failed."""
    phase = record.release.current_phase
    steps = [step for step in (phase.steps if phase else ()) if step.registry_key == "fill-rows"]
    found = {fill.job: fill for fill in record.fills}
    failed = [fill for step in steps if (fill := found.get(step.name)) and fill.failed_rows]
    limits = plan_limits(ctx.plan)
    if limits is not None and any(fill.failed_rows > limits.max_failed_rows for fill in failed):
        return Verdict.FAIL, f"{count_noun(sum(fill.failed_rows for fill in failed), 'row')} failed; see zdd.failed_row"
    undone = [step.label for step in steps if record.release.status(step.name) is not StepStatus.DONE]
    if undone:
        return Verdict.PENDING, f"not finished: {format_list(undone)}"
    rows = sum(fill.rows_done for fill in found.values())
    return Verdict.PASS, f"{len(steps)} of {len(steps)} fills done, {count_noun(rows, 'row')} read"


def _last_name(name: str, renamed: dict[str, str]) -> str:
    """An index may be renamed for a constraint, and the constraint after that."""
    for _ in renamed:
        name = renamed.get(name, name)
    return name


async def _evaluate_operations_valid(ctx: Context, record: ReleaseRecord) -> GateResult:
    """The indexes that the phase has built are valid. What ran in a transaction is there or is not.

    That of a partitioned table which the plan builds ON ONLY the table is not before the partitions have theirs.
    """
    renamed = dict(step.detail["renamed"] for step in record.steps if "renamed" in step.detail)
    built = [step for step in record.steps if not step.detail.get("is_helper")]
    made = [(schema, _last_name(name, renamed)) for step in built for schema, name in step.detail.get("made", ())]
    copied = [name for step in record.steps for name in step.detail.get("copied", ())]
    copied += [name for step in record.steps if step not in built for name in step.detail["made"]]
    gone = dropped_indexes(ctx.plan_of_type(BaseOperationsPlan))
    copied += [each for each in made if each[1] in gone]
    async with ctx.read_connection() as conn:
        kept = [each for each in made if each[1] not in gone]
        alone = [each for step in built if step.detail.get("is_without_partitions") for each in step.detail["made"]]
        invalid = [
            f"{schema}.{name}"
            for schema, name in kept
            if not await is_valid_index(conn, schema, name)
            and not ([schema, name] in alone and await is_invalid_index(conn, schema, name))
        ]
        # A copy gets the name of its original, in the transaction that checks that nothing is left without a copy.
        invalid += [f"{schema}.{name}" for schema, name in copied if await is_invalid_index(conn, schema, name)]
    if invalid:
        return pass_after(record, ["run-operation"], False, f"not valid: {format_list(invalid)}")
    phase = record.release.current_phase
    steps = phase.steps if phase is not None else ()
    if left := [each.label for each in steps if record.release.status(each.name) is not StepStatus.DONE]:
        return Verdict.PENDING, f"{len(left)} of {len(steps)} steps to run: {left[0]}"
    return Verdict.PASS, f"nothing is left to run; indexes built: {len(made)}"


async def _evaluate_cleanup_complete(ctx: Context, record: ReleaseRecord) -> GateResult:
    plan = ctx.expand_contract_plan
    async with ctx.read_connection() as conn:
        left = await find_leftovers(conn, plan)
    flags = await ctx.flags.read_raw([plan.flags.write, plan.flags.read])
    left += [f"flag {key}" for key, value in flags.items() if value is not None]
    view = await ctx.cluster.get_deployment(plan.kubernetes.deployment)
    if view.epoch:
        left.append(f"annotation on Deployment {view.name}")
    return pass_after(
        record, ["delete-flags", "drop-archive", "remove-annotations"], not left, describe_leftovers(left)
    )


GATES: Mapping[str, GateEvaluator] = {
    "guard": _evaluate_guard,
    REGION_GATE: _evaluate_earlier_regions,
    **WORKLOAD_GATES,
    **BLUE_GREEN_GATES,
    **DARK_LAUNCH_GATES,
    "schema-valid": _evaluate_schema_valid,
    "catalog-diff": _evaluate_catalog_diff,
    "no-waiters": _evaluate_no_waiters,
    "serving-v2": _evaluate_serving_v2,
    "recent-rows-agree": _evaluate_recent_rows,
    "backfill-complete": _evaluate_backfill_complete,
    "no-mismatch": _evaluate_no_mismatch,
    WITNESS_GATE: _evaluate_witness,
    "serving-v3": _evaluate_serving_v3,
    "no-old-snapshot": _evaluate_no_old_snapshot,
    "fills-complete": _evaluate_fills_complete,
    "operations-valid": _evaluate_operations_valid,
    REMOVED_GATE: evaluate_removed_unused,
    "cleanup-complete": _evaluate_cleanup_complete,
}

_CLUSTER_GATES = frozenset({*WORKLOAD_GATES, *BLUE_GREEN_GATES, "serving-v2", "serving-v3"}) - {"soak-passed"}
"""The gates that read Kubernetes, whose requests take longer to fail than a gate may take."""

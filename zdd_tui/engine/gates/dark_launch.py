"""The gates of a dark launch: the pods' comparisons since the phase started, and the values of the flags."""

from collections.abc import Callable, Mapping

from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.result import (
    GateEvaluator,
    GateResult,
    describe_flag,
    describe_leftovers,
    pass_after,
    pass_or_fail,
)
from zdd_tui.engine.observations import counters_since, find_current_step, find_step_record, read_pod_counters
from zdd_tui.model.flag import ON, FlagValue
from zdd_tui.model.plan.strategies import Dark, DarkLaunchPlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.shadow import ShadowCounters, evaluate_agreement, evaluate_latency


async def _evaluate_counters(
    ctx: Context, record: ReleaseRecord, evaluate: Callable[[ShadowCounters, Dark], GateResult]
) -> GateResult:
    spec = find_current_step(record, "set-shadow") or find_current_step(record, "set-read")
    step = find_step_record(record, spec.name) if spec else None
    if step is None or "base" not in step.detail:
        return Verdict.PENDING, "the flag does not have this phase's share yet"
    counts = counters_since(await read_pod_counters(ctx), step.detail["base"])
    return evaluate(counts, ctx.plan_of_type(DarkLaunchPlan).dark)


async def _evaluate_shadow_agrees(ctx: Context, record: ReleaseRecord) -> GateResult:
    return await _evaluate_counters(ctx, record, evaluate_agreement)


async def _evaluate_shadow_latency(ctx: Context, record: ReleaseRecord) -> GateResult:
    return await _evaluate_counters(ctx, record, evaluate_latency)


async def _evaluate_read_flag(ctx: Context, record: ReleaseRecord) -> GateResult:
    key = ctx.plan_of_type(DarkLaunchPlan).flags.read
    spec = find_current_step(record, "set-read")
    expected = FlagValue(spec.value if spec and spec.value is not None else 0)
    value = (await ctx.flags.read([key]))[key]
    return pass_after(record, ["set-read"], value == expected, describe_flag(key, value, expected))


async def _evaluate_dark_launch_removed(ctx: Context, record: ReleaseRecord) -> GateResult:
    flags = ctx.plan_of_type(DarkLaunchPlan).flags
    values = await ctx.flags.read([flags.shadow, flags.read])
    left = [f"flag {flags.shadow}"] if values[flags.shadow] is not None else []
    view = await ctx.cluster.get_deployment(ctx.workload_plan.kubernetes.deployment)
    if view.epoch:
        left.append(f"annotation on Deployment {view.name}")
    if left:
        return pass_after(record, ["shadow-off", "remove-annotations"], False, describe_leftovers(left))
    return pass_or_fail(values[flags.read] == ON, describe_flag(flags.read, values[flags.read], ON))


DARK_LAUNCH_GATES: Mapping[str, GateEvaluator] = {
    "shadow-agrees": _evaluate_shadow_agrees,
    "shadow-fast": _evaluate_shadow_latency,
    "read-held": _evaluate_read_flag,
    "dark-launch-removed": _evaluate_dark_launch_removed,
}

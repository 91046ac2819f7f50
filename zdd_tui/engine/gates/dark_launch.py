"""The gates of a dark launch: what the pods' comparisons say since the phase began, and where the flags stand."""

from collections.abc import Callable, Mapping

from zdd_tui.engine.context import Context
from zdd_tui.engine.gates.result import Finding, Judge, own_step, passes, step_record
from zdd_tui.engine.steps.dark_launch import shadows, since
from zdd_tui.model.plan.strategies import Dark, DarkLaunchPlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.shadow import ShadowCounts, agreement, speed


async def _judged(ctx: Context, record: ReleaseRecord, rule: Callable[[ShadowCounts, Dark], Finding]) -> Finding:
    spec = own_step(record, "set-shadow") or own_step(record, "set-read")
    step = step_record(record, spec.name) if spec else None
    if step is None or "base" not in step.detail:
        return Verdict.INCONCLUSIVE, "the share is not set yet"
    counts = since(await shadows(ctx), step.detail["base"])
    return rule(counts, ctx.plan_as(DarkLaunchPlan).dark)


async def _agrees(ctx: Context, record: ReleaseRecord) -> Finding:
    return await _judged(ctx, record, agreement)


async def _fast(ctx: Context, record: ReleaseRecord) -> Finding:
    return await _judged(ctx, record, speed)


async def _read_held(ctx: Context, record: ReleaseRecord) -> Finding:
    key = ctx.plan_as(DarkLaunchPlan).flags.read
    spec = own_step(record, "set-read")
    wanted = spec.value if spec and spec.value is not None else 0
    value = (await ctx.flags.read([key]))[key]
    return passes(value is not None and value.percent == wanted, f"flag {key} is {value}, wanted: {wanted}%")


async def _dark_gone(ctx: Context, _record: ReleaseRecord) -> Finding:
    flags = ctx.plan_as(DarkLaunchPlan).flags
    values = await ctx.flags.read([flags.shadow, flags.read])
    left = [f"flag {flags.shadow}"] if values[flags.shadow] is not None else []
    view = await ctx.cluster.get_deployment(ctx.plan.kubernetes.deployment)
    if view.epoch:
        left.append(f"annotation on Deployment {view.name}")
    if left:
        return Verdict.FAIL, f"still there: {', '.join(left)}"
    value = values[flags.read]
    return passes(value is not None and value.on, f"flag {flags.read} is {value}: everybody has the new path")


DARK_LAUNCH_GATES: Mapping[str, Judge] = {
    "shadow-agrees": _agrees,
    "shadow-fast": _fast,
    "read-held": _read_held,
    "dark-gone": _dark_gone,
}

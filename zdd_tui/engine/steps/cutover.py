"""Cutover: reads move to the new side at once, soak there, then V3 forgets the old side."""

import asyncio

from zdd_tui.backends.postgres.gate_queries import snapshot_marker
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.steps.expand import install_sync, remove_sync
from zdd_tui.engine.steps.flags import save_flag_values, set_flag_and_wait, undo_flag_share
from zdd_tui.engine.steps.rollout import roll_out, save_current_image
from zdd_tui.model.duration import format_duration
from zdd_tui.model.flag import ON, FlagValue


class SyncReverse:
    """Before anybody writes the new side alone, a trigger keeps the old side in step: the way back stays open."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await install_sync(ctx, step, "reverse")

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await remove_sync(ctx, step, "reverse")


class ReadRamp:
    """A share of the reads uses the new side for a while, as in a canary; the guard looks on."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        assert step.value is not None, f"{step.name} has no share"
        key = ctx.expand_contract_plan.flags.read
        await save_flag_values(ctx, step, key)
        await set_flag_and_wait(ctx, step, key, FlagValue(step.value))
        await _wait_until_deadline(
            ctx, step, ctx.expand_contract_plan.cutover.hold, f"{step.value}% of reads use the new side"
        )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.expand_contract_plan
        await undo_flag_share(ctx, step, plan.flags.read, is_first_step=step.value == plan.cutover.ramp[0])


class ReadFlagOn:
    """One atomic switch: every pod reads the new side."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await save_flag_values(ctx, step, ctx.expand_contract_plan.flags.read)
        await set_flag_and_wait(ctx, step, ctx.expand_contract_plan.flags.read, ON)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await undo_flag_share(
            ctx, step, ctx.expand_contract_plan.flags.read, is_first_step=not ctx.expand_contract_plan.cutover.ramp
        )


class Soak:
    """Reads stay on the new side for a while; a restart of the agent does not begin the soak anew."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await _wait_until_deadline(ctx, step, ctx.plan.gates.soak, "soaking")

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await step.save_detail(until=None)


class RolloutV3:
    """The Deployment runs V3, which knows only the new side."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await save_current_image(ctx, step)
        await roll_out(
            ctx, step, ctx.expand_contract_plan.kubernetes.images.v3, f"zdd {ctx.plan.name}: V3 knows only the new side"
        )
        if "since" not in step.detail:
            async with ctx.read_connection() as conn:
                await step.save_detail(since=await snapshot_marker(conn))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        if before := step.detail.get("image_before"):
            await roll_out(ctx, step, before, f"zdd {ctx.plan.name}: rolled back to V2")


async def _wait_until_deadline(ctx: Context, step: StepHandle, seconds: float, what: str) -> None:
    if not step.detail.get("until"):
        # The agent that ends the wait may run on another machine: the database's clock is the one they share.
        await step.save_detail(until=await _read_database_time(ctx) + seconds)
    while (left := step.detail["until"] - await _read_database_time(ctx)) > 0:
        await step.set_note(f"{what}: {format_duration(left)} left")
        await asyncio.sleep(min(1.0, left))


async def _read_database_time(ctx: Context) -> float:
    async with ctx.read_connection() as conn:
        return float(await conn.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))

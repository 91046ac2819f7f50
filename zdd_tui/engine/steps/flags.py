"""Changes a flag and waits until every pod has seen the change."""

import asyncio

from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.retry import retry_redis
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.flag import OFF, FlagValue, flag_key, parse_flag


async def save_flag_values(ctx: Context, step: StepHandle, *keys: str) -> None:
    """Saves the current values for the undo, once; None for a flag that does not exist.

    Raises:
        StepFailed: a value that is not a flag's, so that the undo could not restore it.
    """
    if "flags_before" in step.detail:
        return
    values = await retry_redis(ctx, step, lambda: ctx.flags.read_raw(keys))
    for key, raw in values.items():
        try:
            parse_flag(raw or "false")
        except ValueError as error:
            raise StepFailed(
                f"{flag_key(key)} in Redis: {error}", "set it to true, false or a percentage, then advance again"
            ) from None
    await step.save_detail(flags_before=dict(values))


async def create_flags(ctx: Context, step: StepHandle) -> None:
    """Creates the plan's flags, switched off, where they do not exist: a process of the new image that finds a declared
    flag missing is not ready. Call it before the rollout of the image that reads them."""
    keys = tuple(ctx.plan.flag_roles)
    if not keys:
        return
    await save_flag_values(ctx, step, *keys)
    before: dict[str, str | None] = step.detail["flags_before"]
    for key in keys:
        if before[key] is None:
            await retry_redis(ctx, step, lambda key=key: ctx.flags.set(key, OFF, epoch=ctx.epoch))  # type: ignore[misc]


async def delete_created_flags(ctx: Context, step: StepHandle) -> None:
    """Deletes the flags that :func:`create_flags` created. Call it when no pod of that image is left."""
    created = [key for key, raw in step.detail.get("flags_before", {}).items() if raw is None]
    for key in created:
        await retry_redis(ctx, step, lambda key=key: ctx.flags.delete(key, epoch=ctx.epoch))  # type: ignore[misc]
    if created:
        await retry_redis(ctx, step, lambda: ctx.flags.expire_fences(created))


async def set_flag_and_wait(ctx: Context, step: StepHandle, key: str, value: FlagValue) -> None:
    """Writes the value and waits twice ``flags.max_staleness``: once because a pod may use its copy for that long,
    once for the requests that started with the copy."""
    await retry_redis(ctx, step, lambda: ctx.flags.set(key, value, epoch=ctx.epoch))
    await _wait_until_seen(ctx, step, f"flag {key} is {value}")


async def restore_flags(ctx: Context, step: StepHandle) -> None:
    """Restores the values that :func:`save_flag_values` saved, if it did.

    A flag that did not exist is switched off before it is deleted: applications keep the last value of a flag that
    disappears, so that all pods still agree when Redis loses its data in the middle of a release.
    """
    before: dict[str, str | None] = step.detail.get("flags_before", {})
    for key, raw in before.items():
        value = OFF if raw is None else _parse_or_off(raw)
        await retry_redis(ctx, step, lambda key=key, value=value: ctx.flags.set(key, value, epoch=ctx.epoch))  # type: ignore[misc]
    if before:
        await _wait_until_seen(ctx, step, f"restored {', '.join(before)}")
    for key, raw in before.items():
        if raw is None:
            await retry_redis(ctx, step, lambda key=key: ctx.flags.delete(key, epoch=ctx.epoch))  # type: ignore[misc]


async def undo_flag_share(ctx: Context, step: StepHandle, key: str, *, is_first_step: bool) -> None:
    """Undoes one of several steps that each gave a flag a larger share. The first undo switches it off at once.

    Args:
        is_first_step: this step set the first share and saved the value before the release, which is restored.
    """
    if "flags_before" not in step.detail:
        return
    if is_first_step:
        await restore_flags(ctx, step)
        await retry_redis(ctx, step, lambda: ctx.flags.expire_fences([key]))
        return
    raw = (await retry_redis(ctx, step, lambda: ctx.flags.read_raw([key])))[key]
    # Another client may have written any text meanwhile: a rollback must not stop at an unreadable value.
    if raw is not None and raw != OFF.to_redis:
        await set_flag_and_wait(ctx, step, key, OFF)


def _parse_or_off(raw: str) -> FlagValue:
    """A stored value. An unreadable one counts as off, as it does for an application that never read another value."""
    try:
        return parse_flag(raw)
    except ValueError:
        return OFF


async def _wait_until_seen(ctx: Context, step: StepHandle, description: str) -> None:
    await step.set_note(f"{description}; waiting {2 * ctx.plan.flag_staleness:.1f} s until every pod has seen it")
    await asyncio.sleep(2 * ctx.plan.flag_staleness)

"""Contract and cleanup: the old side is archived (a rename, undone in an instant), and cleanup drops the archive."""

from zdd_tui.backends.postgres.ddl import as_owner
from zdd_tui.backends.read_scope import read_scope
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.continuity import KeptContinuity, check_continuity
from zdd_tui.engine.observations import find_step_record, read_workload
from zdd_tui.engine.recent_writes import describe_differing, find_rows_without_new_side
from zdd_tui.engine.retry import retry_redis, with_retry
from zdd_tui.engine.steps.expand import run_statements
from zdd_tui.engine.steps.flags import restore_flags, save_flag_values
from zdd_tui.engine.steps.new_side import require_new_side_complete
from zdd_tui.model.ddl import Catalog, archive_statements, drop_archive_statements, restore_archive_statements
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.sql import quote_qualified
from zdd_tui.model.workload.rollout import container_image
from zdd_tui.model.workload.version import PodVersions


async def require_only_v3_pods(ctx: Context) -> None:
    """Checks that every pod is V3, terminating pods included: no older version can use the old side any more.

    Raises:
        StepFailed: with the names of the other pods.
    """
    plan = ctx.expand_contract_plan
    with read_scope(fresh=True):
        workload = await read_workload(ctx)
    view, status, versions = workload.view, workload.rollout, PodVersions(plan, workload.sets_by_uid)
    other = sorted(
        f"{pod.name} ({pod.image})" for pod in workload.pods if not pod.is_terminal and versions.version_of(pod) != "v3"
    )
    if other or plan.version_of(container_image(plan, view)) != "v3" or not status.done:
        reason = f"not V3: {', '.join(other[:3])}{' ...' if len(other) > 3 else ''}" if other else status.message
        raise StepFailed(
            f"an older version may still use the old side: {reason}",
            "roll out V3 again and wait until every other pod is gone, then advance again; or roll back",
        )


class ArchiveOldSide:
    """Moves the old side into the archive by renaming it."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        # The gate has passed, but another client may have rolled out since then (architecture.md, invariant 6).
        await require_only_v3_pods(ctx)
        await require_new_side_complete(ctx)
        statements = archive_statements(ctx.expand_contract_plan, await ctx.catalog(fresh=True))
        await self._move(ctx, step, statements)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        statements = restore_archive_statements(ctx.expand_contract_plan, await ctx.catalog(fresh=True))
        await self._move(ctx, step, statements)

    async def _move(self, ctx: Context, step: StepHandle, statements: tuple[str, ...]) -> None:
        kept = KeptContinuity(ctx, await ctx.store.read())
        await run_statements(ctx, step, statements, first=kept.before, then=kept.after)


# Cleanup: nothing of the release is left behind.


class DeleteFlags:
    """Deletes the flags, which V3 does not read. The undo restores them with their values."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        flags = ctx.expand_contract_plan.flags
        keys = (flags.write, flags.read)
        await save_flag_values(ctx, step, *keys)
        for key in keys:
            await retry_redis(ctx, step, lambda key=key: ctx.flags.delete(key, epoch=ctx.epoch))  # type: ignore[misc]

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        await restore_flags(ctx, step)


async def _create_as_owner(ctx: Context, catalog: Catalog, statements: tuple[str, ...]) -> tuple[str, ...]:
    """Has the new table's sequence created by the owner of the table: PostgreSQL requires that both have one owner."""
    if catalog.new is None or all(not each.startswith("CREATE SEQUENCE") for each in statements):
        return statements
    table = catalog.new_table
    prepared: list[str] = []
    async with ctx.read_connection() as conn:
        for statement in statements:
            is_new = statement.startswith("CREATE SEQUENCE")
            prepared += await as_owner(conn, table.sql, table.schema, (statement,)) if is_new else (statement,)
    return tuple(prepared)


async def require_archive_agrees(ctx: Context, step: StepHandle) -> None:
    """Compares once more where nobody is known to have recorded it: the old side could be written after the
    comparison before contract until it was archived, also by a transaction that was open during both.

    Raises:
        StepFailed: the old side of a row would be lost.
    """
    record = await ctx.store.read()
    witness = find_step_record(record, "drop-witness")
    is_recorded = (witness is not None and bool(witness.detail.get("unbroken"))) or (
        await check_continuity(ctx, record)
    ).forward
    if is_recorded and not (record.witness.open_rows or record.witness.has_records):
        return
    result = await find_rows_without_new_side(ctx, record, step.set_note)
    if result.differing:
        raise StepFailed(
            f"the archive has what the new side lacks: {await describe_differing(ctx, result)}",
            "correct the row on the new side so that both agree, then advance again; or roll back",
        )


class DropArchive:
    """Drops the archive: the one step that cannot be undone."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await require_only_v3_pods(ctx)
        await require_new_side_complete(ctx)
        await require_archive_agrees(ctx, step)
        catalog = await ctx.catalog(fresh=True)
        statements = await _create_as_owner(ctx, catalog, drop_archive_statements(ctx.expand_contract_plan, catalog))
        await run_statements(ctx, step, statements)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """Nothing to undo: a drop that succeeded is recorded in its transaction, and no rollback starts after it."""


class AnalyzeTable:
    """Updates the statistics of the changed table."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        target = ctx.expand_contract_plan.change.target_table
        async with ctx.store.fenced() as conn:
            # The timeouts of the role must not stop a release whose old data is dropped already.
            await conn.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
            await conn.execute(f"ANALYZE {quote_qualified(target.schema_, target.name)}")

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """New statistics do no harm."""


class RemoveAnnotations:
    """Removes our annotations from the Deployment and lets our fences in Redis expire."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        await with_retry(
            ctx,
            step,
            lambda: ctx.cluster.remove_annotations(
                ctx.workload_plan.kubernetes.deployment, epoch=ctx.epoch, change_cause=None
            ),
        )
        if keys := list(ctx.plan.flag_roles):
            await retry_redis(ctx, step, lambda: ctx.flags.expire_fences(keys))

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The next write sets the annotations again."""

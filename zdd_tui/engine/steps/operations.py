"""Runs the steps of operations: SQL in one transaction with its record, and indexes that are built concurrently."""

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.ddl import create_index, drop_index
from zdd_tui.backends.postgres.operations import count_violations, find_index, table_schema
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.steps.expand import run_statements
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.operations.base import OperationStep, StepMode
from zdd_tui.model.operations.indexes import concurrent_build
from zdd_tui.model.operations.registry import find_step, plan_operations
from zdd_tui.model.plan.operations import BaseOperationsPlan


class CheckRows:
    """Counts the rows that the migration's constraints would refuse. Only reads."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        operations = plan_operations(ctx.plan_of_type(BaseOperationsPlan))
        async with ctx.read_connection() as conn:
            found = await count_violations(conn, [each for one in operations for each in one.violations])
        if found:
            raise StepFailed(
                f"rows violate a constraint of the migration: {'; '.join(found)}",
                f"repair them, then {step.retry_command}",
            )

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The check only reads."""


class RunOperation:
    """Runs one step of an operation. Its undo is kept with the step's record, in the same transaction."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        spec = self._spec(ctx, step)
        if spec.only_if and "is_needed" not in step.detail:
            async with ctx.read_connection() as conn:
                await step.save_detail(is_needed=bool(await conn.fetchval(spec.only_if)))
        if not step.detail.get("is_needed", True):
            return
        match spec.mode:
            case StepMode.TRANSACTION:
                await self._run_transaction(ctx, step, spec)
            case StepMode.BUILD_INDEX:
                await self._build_index(ctx, step, spec)
            case StepMode.DROP_INDEX:
                await self._drop_index(ctx, step, spec)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        spec = self._spec(ctx, step)
        if not step.detail.get("is_needed", True):
            return
        match spec.mode:
            case StepMode.TRANSACTION:
                await run_statements(ctx, step, (*step.detail.get("undo", ()), *spec.undo))
            case StepMode.BUILD_INDEX:
                for schema, name in step.detail.get("made", ()):
                    await drop_index(ctx.read_connection, schema, name, on_wait=step.set_note)
            case StepMode.DROP_INDEX:
                for schema, name, definition in step.detail.get("dropped", ()):
                    build = concurrent_build(definition)
                    await create_index(ctx.read_connection, build, on_wait=step.set_note, schema=schema, name=name)

    def _spec(self, ctx: Context, step: StepHandle) -> OperationStep:
        return find_step(ctx.plan_of_type(BaseOperationsPlan), step.value or 0)

    async def _run_transaction(self, ctx: Context, step: StepHandle, spec: OperationStep) -> None:
        undo: list[str] = []

        async def read_undo(conn: Connection) -> None:
            undo[:] = [row[0] for row in await conn.fetch(spec.undo_query)] if spec.undo_query else []

        await run_statements(ctx, step, spec.statements, first=read_undo, undo=undo)

    async def _build_index(self, ctx: Context, step: StepHandle, spec: OperationStep) -> None:
        async with ctx.read_connection() as conn:
            schema = await table_schema(conn, spec.table)
            name = spec.index
            if [schema, name] not in step.detail.get("made", []):
                if await find_index(conn, schema, name) is not None:
                    if spec.is_optional:
                        return
                    raise StepFailed(f"there is an index {schema}.{name} already", "drop it, or name another one")
                await step.save_detail(made=[[schema, name]])
        await ctx.check_lease()
        await create_index(ctx.read_connection, spec.statements[0], on_wait=step.set_note, schema=schema, name=name)

    async def _drop_index(self, ctx: Context, step: StepHandle, spec: OperationStep) -> None:
        if "dropped" not in step.detail:
            async with ctx.read_connection() as conn:
                found = await find_index(conn, spec.schema, spec.index)
            if found is None and not spec.is_optional:
                raise StepFailed(f"there is no index {spec.index}", "correct the operation's name of it")
            await step.save_detail(dropped=[list(found)] if found else [])
        for schema, name, _definition in step.detail["dropped"]:
            await ctx.check_lease()
            await drop_index(ctx.read_connection, schema, name, on_wait=step.set_note)

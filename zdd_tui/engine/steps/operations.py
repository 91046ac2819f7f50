"""Runs the steps of operations: SQL in one transaction with its record, and indexes that are built concurrently."""

from typing import Any, TypeAlias

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.ddl import create_index, drop_index, execute_ddl, run_outside_transaction
from zdd_tui.backends.postgres.fill_target import read_reason_for_one
from zdd_tui.backends.postgres.operations import (
    NotNullState,
    count_violations,
    find_index,
    find_problems,
    has_address,
    has_constraint,
    has_nulls,
    in_settings,
    index_copies,
    is_needed,
    read_not_null,
    table_schema,
    with_settings,
)
from zdd_tui.backends.postgres.partitions import (
    ATTACH_SEPARATOR,
    drop_key_sql,
    find_index_partitions,
    is_attached_index,
    is_partitioned_index,
    is_partitioned_table,
    is_without_partitions,
    list_index_builds,
    list_key_builds,
    root_statement,
)
from zdd_tui.checks.expressions import HINT, check_fill_expressions
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.steps.expand import run_batch, run_statements
from zdd_tui.engine.steps.fills import run_fill, undo_fill
from zdd_tui.engine.steps.snapshots import copy_differing_rows, wait_for_snapshots
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.operations.base import NotNullRestore, OperationStep, StepMode, fit_name
from zdd_tui.model.operations.columns import fill_nulls_sql
from zdd_tui.model.operations.constraints import not_null_check
from zdd_tui.model.operations.indexes import concurrent_build, copied_index
from zdd_tui.model.operations.registry import find_step, plan_operations
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.sql import name_sql, quote_qualified


class CheckRows:
    """Counts the rows that the migration's constraints would refuse. Only reads.

    Those that the release itself repairs are left out until then. Before expand it also looks for what would stop a
    later phase: objects that depend on one that is dropped, tables whose rows cannot be filled, and expressions that
    fail for a row.
    """

    async def run(self, ctx: Context, step: StepHandle) -> None:
        plan = ctx.plan_of_type(BaseOperationsPlan)
        operations = plan_operations(plan)
        is_again = step.name == "check-rows-again"
        async with ctx.read_connection() as conn:
            counted = await count_violations(conn, operations, repaired=[Phase.BACKFILL] if is_again else [])
            problems = [] if is_again else await find_problems(conn, operations)
            for spec in (each for one in operations for each in one.steps if not is_again):
                if spec.fill is not None:
                    async with with_settings(conn, spec):
                        await read_reason_for_one(conn, spec.fill, plan.backfill.max_statement_rows)
            expressions = None if is_again else await check_fill_expressions(conn, operations, plan.backfill)
        if problems:
            raise StepFailed("; ".join(text for text, _ in problems), f"{problems[0][1]}; then {step.retry_command}")
        unknown = [*counted.uncounted, *(expressions.notes if expressions else ())]
        if unknown:
            await step.save_detail(uncounted=unknown)
            ctx.log("; ".join(unknown))
        if counted.found:
            raise StepFailed(
                f"rows violate a constraint of the migration: {'; '.join(counted.found)}",
                f"repair them, then {step.retry_command}",
            )
        if expressions and expressions.failing:
            raise StepFailed("; ".join(expressions.failing), f"{HINT}; then {step.retry_command}")

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        """The check only reads."""


class RunOperation:
    """Runs one step of an operation. Its undo is kept with the step's record, in the same transaction."""

    async def run(self, ctx: Context, step: StepHandle) -> None:
        spec = self._spec(ctx, step)
        if (spec.only_if or spec.only_if_exists) and "is_needed" not in step.detail:
            async with ctx.read_connection() as conn:
                await step.save_detail(is_needed=await is_needed(conn, spec))
        if not step.detail.get("is_needed", True):
            return
        if not spec.is_reversed:
            await self._run_mode(ctx, step, spec)

    async def undo(self, ctx: Context, step: StepHandle) -> None:
        spec = self._spec(ctx, step)
        if not step.detail.get("is_needed", True):
            return
        if spec.mode is StepMode.TRANSACTION and not spec.is_reversed and "undo" not in step.detail:
            return  # its record commits with its statements: they have had no effect
        await self._undo_mode(ctx, step, spec)

    async def _run_mode(self, ctx: Context, step: StepHandle, spec: OperationStep) -> None:
        match spec.mode:
            case StepMode.TRANSACTION:
                await self._run_transaction(ctx, step, spec)
            case StepMode.BUILD_INDEX:
                await self._build_index(ctx, step, spec)
            case StepMode.DROP_INDEX:
                await self._drop_index(ctx, step, spec)
            case StepMode.COPY_INDEXES:
                await self._copy_indexes(ctx, step, spec)
            case StepMode.FILL:
                await run_fill(ctx, step, spec)
            case StepMode.WAIT:
                await wait_for_snapshots(ctx, step)
                await copy_differing_rows(ctx, step, spec)
            case StepMode.AUTOCOMMIT:
                for statement in spec.statements:
                    await ctx.check_lease()
                    await run_outside_transaction(
                        ctx.read_connection, statement, on_wait=step.set_note, settings=spec.settings
                    )

    async def _undo_mode(self, ctx: Context, step: StepHandle, spec: OperationStep) -> None:
        match spec.mode:
            case StepMode.TRANSACTION | StepMode.AUTOCOMMIT:
                await self._undo_transaction(ctx, step, spec)
            case StepMode.COPY_INDEXES if spec.is_reversed:
                await self._copy_indexes(ctx, step, spec)
            case StepMode.BUILD_INDEX:
                await self._undo_build(ctx, step)
            case StepMode.COPY_INDEXES:
                for schema, name in step.detail.get("copied", ()):
                    await drop_index(ctx.read_connection, schema, name, on_wait=step.set_note)
            case StepMode.DROP_INDEX:
                for schema, name, definition in step.detail.get("dropped", ()):
                    await self._build_again(ctx, step, schema, name, definition)
            case StepMode.FILL:
                await undo_fill(ctx, step, spec)
            case StepMode.WAIT if spec.is_reversed:
                await copy_differing_rows(ctx, step, spec)

    def _spec(self, ctx: Context, step: StepHandle) -> OperationStep:
        return find_step(ctx.plan_of_type(BaseOperationsPlan), step.value or 0)

    async def _run_transaction(self, ctx: Context, step: StepHandle, spec: OperationStep) -> None:
        facts: dict[str, Any] = {}

        async def run(conn: Connection) -> None:
            facts.clear()
            facts["undo"] = await _run_part(conn, spec, facts)

        async def record(conn: Connection) -> None:
            step.detail |= facts

        await run_statements(ctx, step, (), first=run, then=record)

    async def _undo_transaction(self, ctx: Context, step: StepHandle, spec: OperationStep) -> None:
        before = NotNullState.from_json(step.detail.get("not_null"))
        if spec.not_null is not None and before is not None:
            await self._restore_not_null(ctx, step, spec, spec.not_null, before)
            return
        # A reversed step has run nothing, so it has no record: its statements are all in its undo. Nor has one that
        # runs in no transaction.
        is_recorded = not spec.is_reversed and spec.mode is StepMode.TRANSACTION
        entries: list[UndoEntry] = step.detail["undo"] if is_recorded else list(spec.undo)
        for entry in entries:
            if not isinstance(entry, str):
                await self._undo_by_itself(ctx, step, spec, *entry)
        statements = tuple(entry for entry in entries if isinstance(entry, str))
        await run_statements(ctx, step, in_settings(spec, statements))

    async def _undo_by_itself(
        self, ctx: Context, step: StepHandle, spec: OperationStep, kind: str, sql: str, place: str, name: str
    ) -> None:
        """What would read rows under a lock that blocks writes, in parts that may be repeated."""
        if kind == "index":
            await self._build_again(ctx, step, place, name, sql)
            return
        if kind == "constraint":
            async with ctx.read_connection() as conn, with_settings(conn, spec):
                if await has_constraint(conn, place, name):
                    return
        await run_batch(ctx, step, in_settings(spec, (sql,)))

    async def _restore_not_null(
        self, ctx: Context, step: StepHandle, spec: OperationStep, column: NotNullRestore, before: NotNullState
    ) -> None:
        """NOT NULL comes back without a lock that lasts: first for new rows, then the others are filled and read."""
        table, name = column.table, name_sql(column.column)
        check = not_null_check(column.column)
        guard = before.name or check
        if before.is_partitioned:
            restore: tuple[str, ...] = (before.plain_sql(table, column.column),)
            guarded = False
        elif before.name:
            add, restore, guarded = f"{before.definition} NOT VALID", (), True
        else:
            restore = (
                f"ALTER TABLE {table} ALTER COLUMN {name} SET NOT NULL",
                f"ALTER TABLE {table} DROP CONSTRAINT {name_sql(check)}",
            )
            add, guarded = f"CHECK ({name} IS NOT NULL) NOT VALID", True
        if guarded:
            async with ctx.read_connection() as conn, with_settings(conn, spec):
                exists = await has_constraint(conn, table, guard)
            if not exists:
                sql = f"ALTER TABLE {table} ADD CONSTRAINT {name_sql(guard)} {add}"
                await run_batch(ctx, step, in_settings(spec, (sql,)))
            restore = (f"ALTER TABLE {table} VALIDATE CONSTRAINT {name_sql(guard)}", *restore)
        while True:
            async with ctx.read_connection() as conn, with_settings(conn, spec):
                if not await has_nulls(conn, table, name):
                    break
            if not column.fill:
                raise StepFailed(
                    f"{table}.{name} was NOT NULL, and rows that the new version wrote have no value",
                    f"fill {name} where it is NULL, then {step.retry_command}; next time add down: to the operation",
                )
            await run_batch(ctx, step, in_settings(spec, (fill_nulls_sql(table, column.column, column.fill),)))
        if guarded:  # reads the table under a lock that lets writers continue; the next transaction only the catalog
            await run_batch(ctx, step, in_settings(spec, restore[:1]))
            restore = restore[1:]
        await run_statements(ctx, step, in_settings(spec, restore))

    async def _build_index(self, ctx: Context, step: StepHandle, spec: OperationStep) -> None:
        async with ctx.read_connection() as conn:
            async with with_settings(conn, spec):
                schema = await table_schema(conn, spec.table)
                partitioned = await is_partitioned_table(conn, spec.table)
            name = spec.index
            if [schema, name] not in step.detail.get("made", []):
                if await find_index(conn, schema, name) is not None:
                    if spec.is_optional:
                        return
                    raise StepFailed(
                        f"index {schema}.{name} exists already", "drop it, or give the operation's index another name"
                    )
                await step.save_detail(
                    made=[[schema, name]],
                    is_helper=spec.is_helper,
                    is_without_partitions=partitioned and is_without_partitions(spec.statements[0]),
                )
        await ctx.check_lease()
        if partitioned and spec.key:
            await self._build_keys(ctx, step, spec, schema)
        elif partitioned:
            await self._build_on_partitions(ctx, step, spec.statements[0], schema)
        else:
            await create_index(ctx.read_connection, spec.statements[0], on_wait=step.set_note, schema=schema, name=name)

    async def _build_on_partitions(self, ctx: Context, step: StepHandle, statement: str, schema: str) -> None:
        """The index of a partitioned table, invalid at first; one for each partition, concurrently; then attached."""
        async with ctx.read_connection() as conn:
            has_root = await find_index(conn, *step.detail["made"][0]) is not None
        if not has_root:
            await run_batch(ctx, step, (root_statement(statement, schema),))
        async with ctx.read_connection() as conn:
            builds = await list_index_builds(conn, statement, schema, step.detail["made"])
        for build in builds:
            known = step.detail["made"]
            if build.adopted:
                adopted = [[build.schema, build.name, build.adopted]]
                if build.is_parent:
                    async with ctx.read_connection() as conn:
                        adopted += await find_index_partitions(conn, build.schema, build.name)
                before = step.detail.get("adopted", [])
                await step.save_detail(adopted=[*before, *(each for each in adopted if each not in before)])
            elif [build.schema, build.name] not in known:
                await step.save_detail(made=[*known, [build.schema, build.name]])
            await ctx.check_lease()
            if build.is_parent:
                if not build.exists:
                    await run_batch(ctx, step, (build.statement,))
            elif not build.exists:
                await create_index(
                    ctx.read_connection, build.statement, on_wait=step.set_note, schema=build.schema, name=build.name
                )
            if build.attach and not build.is_attached:
                await run_batch(ctx, step, (build.attach,))

    async def _build_keys(self, ctx: Context, step: StepHandle, spec: OperationStep, schema: str) -> None:
        """A unique index of each partition, concurrently, and the partition's constraint from it."""
        async with ctx.read_connection() as conn:
            builds = await list_key_builds(conn, spec.statements[0], spec.key, schema, step.detail["made"])
        for build in builds:
            if [build.schema, build.name] not in step.detail["made"]:
                await step.save_detail(made=[*step.detail["made"], [build.schema, build.name]])
            await ctx.check_lease()
            if build.is_attached:
                continue
            await create_index(
                ctx.read_connection, build.statement, on_wait=step.set_note, schema=build.schema, name=build.name
            )
            await run_batch(ctx, step, (build.attach,))

    async def _undo_build(self, ctx: Context, step: StepHandle) -> None:
        renames = await self._build_copies_of_adopted(ctx, step)
        for schema, name in step.detail.get("made", ()):
            async with ctx.read_connection() as conn:
                exists = await find_index(conn, schema, name) is not None
                exists = exists and not await is_attached_index(conn, schema, name)  # it goes with the other one
                partitioned = exists and await is_partitioned_index(conn, schema, name)
                drop_key = await drop_key_sql(conn, schema, name) if exists else None
            if drop_key:
                await run_batch(ctx, step, (drop_key,))
            elif partitioned:  # with those of its partitions: only the catalog changes
                await run_batch(ctx, step, (f"DROP INDEX {quote_qualified(schema, name)}", *renames))
                renames = []  # they belong to the first one, the root
            elif exists:
                await drop_index(ctx.read_connection, schema, name, on_wait=step.set_note)
        for schema, name, definition in step.detail.get("adopted", ()):
            if _is_of_tree(definition):
                await self._build_again(ctx, step, schema, name, definition)

    async def _build_copies_of_adopted(self, ctx: Context, step: StepHandle) -> list[str]:
        """Another index beside each that was there before and goes with its parent, so that queries never lack one.

        Returns:
            The statements that give them the names of those.
        """
        renames = []
        for schema, name, definition in step.detail.get("adopted", ()):
            async with ctx.read_connection() as conn:
                is_attached = await is_attached_index(conn, schema, name)
            if not is_attached or _is_of_tree(definition):
                continue
            copy = fit_name(AGAIN_PREFIX, name)
            await ctx.check_lease()
            build = copied_index(definition, {}, copy, is_unique=True)
            await create_index(ctx.read_connection, build, on_wait=step.set_note, schema=schema, name=copy)
            renames.append(f"ALTER INDEX {quote_qualified(schema, copy)} RENAME TO {name_sql(name)}")
        return renames

    async def _copy_indexes(self, ctx: Context, step: StepHandle, spec: OperationStep) -> None:
        async with ctx.read_connection() as conn, with_settings(conn, spec):
            schema = await table_schema(conn, spec.table)
            copies = await index_copies(conn, spec.table, spec.copies, spec.copy_prefix)
        await step.save_detail(copied=[[schema, name] for name, _ in copies])
        for name, statement in copies:
            await ctx.check_lease()
            await create_index(ctx.read_connection, statement, on_wait=step.set_note, schema=schema, name=name)

    async def _drop_index(self, ctx: Context, step: StepHandle, spec: OperationStep) -> None:
        if "dropped" not in step.detail:
            async with ctx.read_connection() as conn, with_settings(conn, spec):
                found = await find_index(conn, spec.schema, spec.index)
                if found is None and not spec.is_optional:
                    raise StepFailed(f"there is no index {spec.index}", "correct the index's name in the operation")
                dropped = [] if found is None else [list(found)]
                if found is not None and await is_partitioned_index(conn, *found[:2]):
                    dropped += await find_index_partitions(conn, *found[:2])
            await step.save_detail(dropped=dropped)
        for schema, name, _definition in step.detail["dropped"]:
            await ctx.check_lease()
            async with ctx.read_connection() as conn:
                partitioned = await is_partitioned_index(conn, schema, name)
            if partitioned:
                await run_batch(ctx, step, (f"DROP INDEX {quote_qualified(schema, name)}",))
            else:
                await drop_index(ctx.read_connection, schema, name, on_wait=step.set_note)

    async def _build_again(self, ctx: Context, step: StepHandle, schema: str, name: str, definition: str) -> None:
        create, *attach = definition.split(ATTACH_SEPARATOR)
        if _is_of_tree(create):  # of a partitioned table: only an entry of the catalog
            async with ctx.read_connection() as conn:
                exists = await find_index(conn, schema, name) is not None
            if not exists:
                await run_batch(ctx, step, (create,))
        else:
            build = concurrent_build(create)
            await create_index(ctx.read_connection, build, on_wait=step.set_note, schema=schema, name=name)
        for statement in attach:
            await run_batch(ctx, step, (statement,))


AGAIN_PREFIX = "zdd_again_"


def _is_of_tree(definition: str) -> bool:
    """Whether it is the index of a partitioned table, or belongs to one below it."""
    return ATTACH_SEPARATOR in definition or " ON ONLY " in definition.partition("(")[0]


UndoEntry: TypeAlias = str | list[str]
"""SQL of the undo's transaction; or what runs before it, by itself: a kind of :attr:`OperationStep.undo_query`, the
SQL, and two names."""


def _undo_entry(row: Any) -> UndoEntry:
    return str(row[0]) if len(row) == 1 else [str(value) for value in row]


async def _run_part(conn: Connection, spec: OperationStep, facts: dict[str, Any]) -> list[UndoEntry]:
    """Runs a step, after the one that belongs before it, and returns what takes both back."""
    earlier: list[UndoEntry] = []
    if spec.before is not None and await is_needed(conn, spec.before):
        earlier = await _run_part(conn, spec.before, facts)
    for setting in spec.settings:
        await execute_ddl(conn, setting)
    undo = [_undo_entry(row) for row in await conn.fetch(spec.undo_query)] if spec.undo_query else []
    if spec.not_null is not None:
        state = await read_not_null(conn, spec.not_null.table, spec.not_null.column)
        facts["not_null"] = state.to_json() if state is not None else None
    if spec.renames is not None:
        facts["renamed"] = list(spec.renames)
    if spec.created is None or not await has_address(conn, spec.created):
        undo += spec.undo
    partitioned = bool(spec.on_partitioned) and await is_partitioned_table(conn, spec.table)
    for statement in (spec.on_partitioned,) if partitioned else spec.statements:
        await execute_ddl(conn, statement)
    for row in await conn.fetch(spec.then_query) if spec.then_query else ():
        await execute_ddl(conn, row[0])
    if spec.settings:
        await execute_ddl(conn, "RESET ROLE")
    return [*undo, *earlier]

"""Restores what belongs to the release: its flags and its triggers. Every write is fenced."""

import json
from collections.abc import Iterable

from zdd_tui.backends.postgres.condition_queries import read_trigger_definition
from zdd_tui.backends.postgres.ddl import LadderSettings, run_ddl
from zdd_tui.backends.postgres.gate_queries import read_trigger_state
from zdd_tui.engine.context import Context
from zdd_tui.model.ddl import sync_statements
from zdd_tui.model.ddl.names import sync_name, witness_triggers
from zdd_tui.model.ddl.witness import restore_trigger_statements
from zdd_tui.model.flag import parse_flag
from zdd_tui.model.release.condition import Condition
from zdd_tui.model.release.condition_findings import SchemaObject

_TRIES = LadderSettings(lock_timeout=0.2, lock_timeout_max=0.5, max_tries=3, pause=0.05)
"""Short: progress waits meanwhile, and the next check tries again."""


async def restore_flag(ctx: Context, condition: Condition) -> bool:
    """Writes the release's value back; False where it is there, or is not a flag's value.

    Raises:
        StaleEpoch: another agent runs the release.
        FlagStoreError: Redis is unreachable or refuses.
    """
    assert condition.restore_to is not None, "a flag of a release has a value"
    raw = (await ctx.flags.read_raw([condition.subject]))[condition.subject]
    if raw in condition.allowed:
        return False
    try:
        value = parse_flag(condition.restore_to)
    except ValueError:
        return False
    await ctx.check_lease()
    await ctx.flags.set(condition.subject, value, epoch=ctx.epoch)
    return True


async def restore_trigger(ctx: Context, condition: Condition) -> bool:
    """Creates the trigger and its function again, and enables it.

    Raises:
        StaleEpoch: another agent runs the release.
        StepFailed: the lock could not be acquired in time, or the statement is refused.
    """
    plan = ctx.expand_contract_plan
    async with ctx.read_connection() as conn:
        state = await read_trigger_state(conn, condition.subject)
    if state in condition.allowed:
        return False
    catalog = await ctx.catalog(fresh=True)
    if condition.subject in (*witness_triggers(plan, "old"), *witness_triggers(plan, "new")):
        statements = restore_trigger_statements(plan, catalog, condition.subject, exists=state is not None)
    else:
        statements = sync_statements(
            plan, catalog, "forward" if condition.subject == sync_name(plan, "forward") else "reverse"
        )

    await _run(ctx, statements)
    return True


async def restore_operation_trigger(ctx: Context, expected: SchemaObject) -> None:
    """Creates an operation's trigger and its function again as they were, and enables it.

    Raises:
        StaleEpoch, StepFailed: as :func:`restore_trigger`.
    """
    function, trigger, enable = json.loads(expected.shape)
    async with ctx.read_connection() as conn:
        exists = await read_trigger_definition(conn, expected.table, expected.name)
    await _run(ctx, (function, *(() if exists else (trigger,)), enable))


async def _run(ctx: Context, statements: Iterable[str]) -> None:
    async def no_note(_text: str) -> None:
        """The step that is shown has nothing to do with it."""

    await run_ddl(ctx.read_connection, ctx.store.fenced, statements, ladder=_TRIES, on_wait=no_note)

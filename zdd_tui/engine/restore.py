"""Restores what belongs to the release: its flags and its triggers. Every write is fenced."""

import json
from collections.abc import Iterable, Sequence

from zdd_tui.backends.postgres.condition_queries import read_definition, read_trigger_definition
from zdd_tui.backends.postgres.ddl import LadderSettings, run_ddl
from zdd_tui.backends.postgres.gate_queries import read_trigger_state
from zdd_tui.engine.context import Context
from zdd_tui.model.ddl import sync_statements
from zdd_tui.model.ddl.names import sync_name, witness_triggers
from zdd_tui.model.ddl.witness import restore_trigger_statements
from zdd_tui.model.flag import parse_flag
from zdd_tui.model.release.condition import Condition
from zdd_tui.model.release.condition_findings import SchemaObject
from zdd_tui.model.sql import quote_identifier, quote_qualified

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


async def restore_operation_trigger(ctx: Context, expected: SchemaObject, before: Sequence[str] = ()) -> None:
    """Creates an operation's trigger and its function again as they were, and enables it.

    Args:
        before: statements on the trigger that is there.

    Raises:
        StaleEpoch, StepFailed: as :func:`restore_trigger`.
    """
    function, trigger, enable = json.loads(expected.shape)
    async with ctx.read_connection() as conn:
        _, shape = await read_trigger_definition(conn, expected.table, expected.name)
    statements = [*(before if shape else ()), function]
    if shape and json.loads(shape)[1] != trigger:
        table = _quote_plain(expected.table)
        statements += [
            f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
            f"DROP TRIGGER {quote_identifier(expected.name)} ON {table}",
            trigger,
        ]
    elif not shape:
        statements.append(trigger)
    await _run(ctx, (*statements, enable))


async def restore_replaced_trigger(ctx: Context, expected: SchemaObject) -> None:
    """As :func:`restore_operation_trigger`, for a trigger of a ``change:``.

    It is disabled and enabled in one transaction. That waits for the writers that may have used another function, and
    whoever asks whether the trigger was in force all the time sees that it was not (:func:`read_trigger_continuity`).
    """
    disable = f"ALTER TABLE {_quote_plain(expected.table)} DISABLE TRIGGER {quote_identifier(expected.name)}"
    await restore_operation_trigger(ctx, expected, before=(disable,))


async def restore_definition(ctx: Context, expected: SchemaObject, key: str) -> bool:
    """Creates a view or function of the release again as it was; False where it is so.

    Args:
        key: see :func:`definition_key`.

    Raises:
        StaleEpoch, StepFailed: as :func:`restore_trigger`; also where another object depends on the view that is there.
    """
    async with ctx.read_connection() as conn:
        digest, _ = await read_definition(conn, key)
    if digest == expected.digest:
        return False
    statements = [each for each in json.loads(expected.shape) if each]
    if digest and expected.kind == "view":
        statements.insert(0, f"DROP VIEW {_quote_plain(key.partition(' ')[2])}")
    await _run(ctx, statements)
    return True


def _quote_plain(name: str) -> str:
    """``schema.name``, which is no SQL, as SQL."""
    schema, _, own = name.partition(".")
    return quote_qualified(schema, own)


async def _run(ctx: Context, statements: Iterable[str]) -> None:
    async def no_note(_text: str) -> None:
        """The step that is shown has nothing to do with it."""

    await run_ddl(ctx.read_connection, ctx.store.fenced, statements, ladder=_TRIES, on_wait=no_note)

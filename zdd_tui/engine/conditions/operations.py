"""What the release has made: objects of operations and triggers as they were, and rows that a trigger has missed."""

import json
from collections.abc import Iterable
from dataclasses import replace

import asyncpg

from zdd_tui.backends.postgres.condition_queries import (
    read_definition,
    read_statements,
    read_trigger_definition,
)
from zdd_tui.backends.postgres.connection import is_session_lost
from zdd_tui.backends.postgres.operations import reading_with
from zdd_tui.engine.context import Context
from zdd_tui.engine.restore import restore_definition, restore_operation_trigger, restore_replaced_trigger
from zdd_tui.model.counting import count_up_to
from zdd_tui.model.operations.base import MAX_VIOLATIONS
from zdd_tui.model.operations.relied_objects import relied_objects
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.release.condition import Condition, ConditionFinding, ConditionKind
from zdd_tui.model.release.condition_findings import (
    DatabaseFacts,
    SchemaObject,
    definition_key,
    find_changed_definition,
    find_changed_object,
    find_object,
    find_stopped_trigger,
    plain_name,
)

KINDS = (ConditionKind.OBJECT, ConditionKind.OBJECT_TRIGGER, ConditionKind.OBJECT_DEFINITION)


class MadeObjects:
    """Objects of operations, and triggers of a ``change:``, as they were after the step that has made or changed them.

    Args:
        baseline: as stored.
    """

    def __init__(self, ctx: Context, baseline: Iterable[SchemaObject]) -> None:
        self._ctx = ctx
        self._known = {each.condition: each for each in baseline if each.condition}

    @property
    def noted(self) -> list[SchemaObject]:
        return list(self._known.values())

    def expected(self, condition: Condition) -> SchemaObject | None:
        """The object as it was; None before :meth:`note`, or where it was missing then."""
        found = self._known.get(condition.name)
        return found if found is not None and found.since == condition.since else None

    def is_noted(self, condition: Condition) -> bool:
        return self.expected(condition) is not None

    async def note(self, conditions: Iterable[Condition], facts: DatabaseFacts) -> bool:
        """Notes the objects as they are, from a reading that began after their steps had ended; whether it did."""
        is_new = False
        for condition in conditions:
            if not condition.since or self.is_noted(condition):
                continue
            if (found := await self._read(condition, facts)) is not None:
                self._known[condition.name] = found
                is_new = True
        return is_new

    async def _read(self, condition: Condition, facts: DatabaseFacts) -> SchemaObject | None:
        kind, table = condition.name.partition(" ")[0], facts.names.get(condition.table, "")
        if condition.kind is ConditionKind.OBJECT:
            found, digest, shape = find_object(condition, facts), "", ""
            if found is not None:
                found = await self._with_statements(found)
                return replace(found, since=condition.since, condition=condition.name)
        else:
            async with self._ctx.read_connection() as conn:
                if condition.kind is ConditionKind.TRIGGER:
                    there = (each.table for each in facts.triggers if each.name == condition.subject)
                    table = plain_name(next(there, ""))
                if condition.kind in (ConditionKind.TRIGGER, ConditionKind.OBJECT_TRIGGER):
                    digest, shape = await read_trigger_definition(conn, table, condition.subject)
                else:
                    digest, shape = await read_definition(conn, definition_key(condition, table))
        if shape or condition.may_be_gone:
            since, name = condition.since, condition.name
            return SchemaObject(kind, name, condition.subject, table, shape, since=since, condition=name, digest=digest)
        return None

    async def _with_statements(self, found: SchemaObject) -> SchemaObject:
        if found.kind == "table":
            return found
        is_list = found.kind == "helpers"
        objects = [SchemaObject.from_json(each) for each in json.loads(found.shape)] if is_list else [found]
        async with self._ctx.read_connection() as conn:
            objects = await read_statements(conn, objects)
        return replace(found, shape=json.dumps([each.to_json() for each in objects])) if is_list else objects[0]

    def find(self, condition: Condition, facts: DatabaseFacts) -> ConditionFinding | None:
        """Why a condition about an operation's object does not hold; None where it holds."""
        expected = self.expected(condition)
        if condition.kind is ConditionKind.OBJECT:
            return find_changed_object(condition, expected, facts)
        if expected is not None and not expected.shape:
            return None
        if condition.kind is ConditionKind.OBJECT_TRIGGER:
            return find_stopped_trigger(condition, expected, facts)
        return find_changed_definition(condition, expected, facts)

    async def restore(self, condition: Condition, facts: DatabaseFacts) -> bool:
        """Restores a trigger, view or function of the release; False where nobody knows how it was, or it is so.

        Raises:
            StaleEpoch, StepFailed: as :func:`zdd_tui.engine.restore.restore_trigger`.
        """
        expected = self.expected(condition)
        if expected is None or not expected.shape:
            return False
        if condition.kind is ConditionKind.OBJECT_TRIGGER:
            await restore_operation_trigger(self._ctx, expected)
            return True
        if condition.kind is ConditionKind.TRIGGER:
            await restore_replaced_trigger(self._ctx, expected)
            return True
        # Of a view that is gone no name is known: the one from before.
        key = definition_key(condition, facts.names.get(condition.table) or expected.table)
        return await restore_definition(self._ctx, expected, key)


async def describe_missed_rows(ctx: Context, conditions: Iterable[Condition]) -> str:
    """Rows that a trigger has not kept equal while it did not fire; empty for none. Every row is read.

    Args:
        conditions: the release's, now.
    """
    settings = dict(relied_objects(ctx.plan_of_type(BaseOperationsPlan)).tables)
    lines = []
    for condition in conditions:
        if not condition.differing:
            continue
        table, where = condition.table, condition.differing
        try:
            async with ctx.read_connection() as conn, reading_with(conn, settings.get(table, ())):
                await conn.execute("SET LOCAL statement_timeout = 0")
                count = await conn.fetchval(
                    f"SELECT count(*) FROM (SELECT FROM {table} WHERE {where} LIMIT {MAX_VIOLATIONS}) AS zdd_missed"  # noqa: S608
                )
        except asyncpg.PostgresError as error:
            if is_session_lost(error):
                raise
            lines.append(f"{table}: the rows could not be compared: {error}")
            continue
        if count:
            rows, were = count_up_to(count, MAX_VIOLATIONS, "row"), "was" if count == 1 else "were"
            query = f"SELECT FROM {table} WHERE {where}"
            lines.append(f"{rows} of {table} {were} written without {condition.name}: {query}")
    return "; ".join(lines)

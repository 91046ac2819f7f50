"""Whether the expressions of a backfill fit the rows of today: found before anything starts, not by the first batch."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.failing_rows import FailingRows, find_failing_rows
from zdd_tui.backends.postgres.fill_target import read_fill_target
from zdd_tui.backends.postgres.operations import reading_with
from zdd_tui.model.counting import count_up_to
from zdd_tui.model.ddl.catalog import CatalogColumn, Table
from zdd_tui.model.ddl.failing_rows import ComputedValues
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.operations.base import MAX_VIOLATIONS, Operation
from zdd_tui.model.operations.expressions import TriedFill, list_tried_fills
from zdd_tui.model.operations.fills import CTID, without_role
from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.sql import name_sql

HINT = "correct these rows or the expression; backfill.max_failed_rows tolerates some"


@dataclass(frozen=True, slots=True)
class CheckedExpressions:
    """What became of the expressions of a plan.

    Attributes:
        failing: those that fail for more rows than the plan tolerates.
        notes: what is tolerated, and what is not known.
    """

    failing: tuple[str, ...]
    notes: tuple[str, ...]


async def check_fill_expressions(
    conn: Connection, operations: Iterable[Operation], limits: Backfill
) -> CheckedExpressions:
    """Computes what the fills of a migration would write, for the rows of today. Writes nothing."""
    failing: list[str] = []
    notes: list[str] = []
    for tried in list_tried_fills(operations):
        computed = await _read_computed(conn, tried)
        if computed is None:
            continue
        name = f"{tried.summary}: {', '.join(value for _, value in tried.values) or tried.only_where}"
        if tried.doubt:
            notes.append(f"{name}: whether it fits every row is not known: {tried.doubt}")
            continue
        limit = max(MAX_VIOLATIONS, limits.max_failed_rows + 1)
        found = await find_failing_rows(conn, computed, without_role(tried.step.settings), limit=limit)
        unknown = describe_unknown(found, limit)
        if found.count:
            expressions = (tried.only_where, *(value for _, value in tried.values))
            failed = describe_failing(expressions[found.number], tried.fill.table, computed.key, found, limit)
            text = f"{tried.summary}: {failed}"
            if found.count > limits.max_failed_rows:
                failing.append(f"{text}; {unknown}" if unknown else text)
                continue
            notes.append(f"{text}; backfill.max_failed_rows tolerates that")
        if unknown:
            notes.append(f"{name}: {unknown}")
    return CheckedExpressions(tuple(failing), tuple(notes))


async def _read_computed(conn: Connection, tried: TriedFill) -> ComputedValues | None:
    """The expressions with the types of their columns; None where there is nothing to compute now."""
    fill = tried.fill
    async with reading_with(conn, without_role(tried.step.settings)):
        try:
            target = await read_fill_target(conn, replace(fill, values=(), is_once=False))
        except StepFailed:
            return None  # the fill itself is refused
        if target is None:
            return None  # an earlier operation of the plan creates the table
        table, key = target
        present = {column.name: column.type for column in table.columns}
        added = [each for each in tried.added if each.name not in present]
        targets = {column for column, _ in tried.values}
        for each in added:
            if each.name in targets and each.only_if and not await conn.fetchval(each.only_if):
                return None  # the catalog alone is changed
    types = present | {each.name: each.type for each in added}
    return ComputedValues(
        table.sql,
        name_sql(fill.alias or table.name),
        tuple((value, types.get(column, "text")) for column, value in tried.values),
        _key_names(table, key),
        fill.source,
        tried.only_where,
        tuple((each.name, each.type, each.default) for each in added),
    )


def _key_names(table: Table, key: tuple[CatalogColumn, ...]) -> tuple[str, ...]:
    return () if key == (CTID,) else tuple(column.name for column in key)


def describe_failing(expression: str, table: str, key: Iterable[str], found: FailingRows, limit: int) -> str:
    """Which expression fails, for how many rows, why, and one of them; without values but those of the key.

    Args:
        key: as of the computed values.
        limit: up to which the rows were counted.
    """
    names = tuple(key) or ("ctid",)
    row = ", ".join(f"{name_sql(name)} = {value}" for name, value in zip(names, found.key, strict=True))
    return f"{expression} fails for {count_up_to(found.count, limit, 'row')} of {table}: {found.message} ({row})"


def describe_unknown(found: FailingRows, limit: int) -> str:
    """What is not known; empty where every row was computed, or more fail than are counted."""
    if found.unknown:
        return f"whether it fits every row is not known: {found.unknown}"
    if found.share < 1 and found.count < limit:
        return f"{found.share:.0%} of the table was computed in time; whether it fits the rest is not known"
    return ""

"""Whether the new side of a change has everything that its old side has: before the release, and at its gates."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.scratch_copy import PlannedChange, open_planned_change
from zdd_tui.backends.postgres.table_objects import read_table_objects
from zdd_tui.model.counting import count_noun, format_list
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.ddl.catalog_diff import (
    SideDifference,
    SideVerdict,
    compare_sides,
    find_sequence_moves,
    format_losses,
    lost_differences,
    unused_accepts,
)
from zdd_tui.model.ddl.sequences import SequenceMove
from zdd_tui.model.ddl.table_objects import ObjectKind, TableObjects
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import name_sql, quote_qualified


@dataclass(frozen=True, slots=True)
class SideReport:
    """The comparison of the planned new side with the old side.

    Attributes:
        deferred: losses until change.constrain has run.
    """

    differences: tuple[SideDifference, ...] = ()
    deferred: tuple[str, ...] = ()

    def lines(self, plan: Plan) -> list[str]:
        """One line for each fact that an operator should see."""
        lines = []
        if carried := [each.what for each in self.differences if each.verdict is SideVerdict.CARRIED]:
            lines.append(f"the new side carries {len(carried)} of the old side's: {', '.join(carried)}")
        lines += [
            f"note: harmless: {each.what}: {each.reason}"
            for each in self.differences
            if each.verdict is SideVerdict.HARMLESS
        ]
        lines += [
            f"note: lost and accepted: {each.what}: {plan.accepted_reasons[each.what]}"
            for each in self.differences
            if each.verdict is SideVerdict.LOST and each.what in plan.accepted_reasons
        ]
        lines += [f"note: {problem}" for problem in unused_accepts(plan, self.differences)]
        return lines


async def check_new_side(conn: Connection, plan: Plan) -> SideReport:
    """Compares the sides as they will be after expand and constrain. Changes nothing.

    Raises:
        PlanError: something is lost that the plan does not accept; the lines to add are the hint.
    """
    report = await compare_planned_side(conn, plan)
    refuse_losses(plan, report)
    return report


def refuse_losses(plan: Plan, report: SideReport) -> None:
    """
    Raises:
        PlanError: something is lost that the plan does not accept; the lines to add are the hint.
    """
    if lost := lost_differences(plan, report.differences):
        title = "\n".join(
            [_loss_title(plan, lost), *(f"  {each}" for each in unused_accepts(plan, report.differences))]
        )
        raise PlanError(title, format_losses(lost))


async def compare_planned_side(conn: Connection, plan: Plan, change: PlannedChange | None = None) -> SideReport:
    """The comparison with the planned new side, whatever it finds; nothing when the old side is archived or dropped.

    Args:
        change: the copies where the caller has them.
    """
    if change is None:
        async with open_planned_change(conn, plan) as opened:
            return SideReport() if opened is None else await compare_planned_side(conn, plan, opened)
    key, old, sides = change.catalog.key_names, change.old, await change.read_sides()
    final = compare_sides(plan, old, sides.complete, key=key)
    lost = {each.what for each in final if each.verdict is SideVerdict.LOST}
    before = compare_sides(plan, old, sides.after_expand, key=key)
    deferred = [each.what for each in before if each.verdict is SideVerdict.LOST and each.what not in lost]
    return SideReport((*_subscriber_losses(plan, old), *final), tuple(deferred))


async def find_losses(
    conn: Connection, plan: Plan, *, deferred: tuple[str, ...] = (), at_end: bool = False
) -> tuple[SideDifference, ...]:
    """Compares the sides as they are: what is lost, and neither accepted nor deferred to change.constrain.

    Args:
        at_end: the old side is about to be archived or dropped.
    """
    catalog = await read_catalog(conn, plan)
    if catalog.is_dropped:
        return ()
    old, new = await read_sides(conn, plan, catalog)
    if old is None or new is None:
        return ()
    differences = compare_sides(plan, old, new, key=catalog.key_names, archived=catalog.is_archived)
    return tuple(each for each in lost_differences(plan, differences, at_end=at_end) if each.what not in deferred)


async def read_sequence_moves(conn: Connection, plan: Plan) -> tuple[SequenceMove, ...]:
    """The sequences of the new side, and what they must be past before V3 inserts."""
    catalog = await read_catalog(conn, plan)
    old, new = await read_sides(conn, plan, catalog)
    if old is None or new is None:
        return ()
    return find_sequence_moves(plan, old, new, key=catalog.key_names, archived=catalog.is_archived)


async def read_sides(conn: Connection, plan: Plan, catalog: Catalog) -> tuple[TableObjects | None, TableObjects | None]:
    """The old and the new table as they are; the same one in the column kind."""
    old = await read_table_objects(conn, catalog.old.sql)
    if plan.change.into is None:
        return old, old
    target = plan.change.target_table
    return old, await read_table_objects(conn, quote_qualified(target.schema_, target.name))


def describe_losses(lost: tuple[SideDifference, ...]) -> str:
    """The first few losses and how many more there are."""
    return format_list([f"{each.what}: {each.reason}" for each in lost])


def _loss_title(plan: Plan, lost: tuple[SideDifference, ...]) -> str:
    things = count_noun(len(lost), "thing")
    listed = "\n".join(f"  lost: {each.what}: {each.reason}" for each in lost)
    return f"change: the new side of {plan.change.table} would lose {things} of the old side\n{listed}"


def _subscriber_losses(plan: Plan, old: TableObjects) -> Iterator[SideDifference]:
    """In the column kind a published table gets columns, which its subscribers must have first.

    Not part of the comparison of both sides: it concerns the first step, and nothing can be said of it afterwards.
    """
    if plan.change.into is not None:
        return
    added, removed, table = ", ".join(plan.change.up), ", ".join(plan.change.down), plan.change.table
    listed = ", ".join(name_sql(column.name) for column in old.columns if column.name not in plan.change.up)
    for each in old.of_kind(ObjectKind.PUBLICATION):
        published = json.loads(each.definition)
        if published["columns"]:
            continue
        name, row_filter = name_sql(each.name), f" WHERE ({published['filter']})" if published["filter"] else ""
        narrow = (
            f", or publish the present columns only, in one transaction: ALTER PUBLICATION {name} DROP TABLE"
            f" {name_sql(table.schema_, table.name)}; ALTER PUBLICATION {name} ADD TABLE"
            f" {name_sql(table.schema_, table.name)} ({listed}){row_filter}"
            if published["scope"] == "table"
            else ""
        )
        yield SideDifference(
            f"subscribers {each.name}",
            SideVerdict.LOST,
            f'a PostgreSQL subscriber of publication {each.name} stops with "missing replicated column" at the first'
            f" row that has {added}",
            advice=f"before expand, add {added} to the table of every subscriber{narrow}; the same before contract,"
            f" which renames {removed}; then accept it here to start",
        )

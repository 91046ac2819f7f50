"""Tries a change on real rows before the release: what would fail, and what a rollback would not give back."""

from collections.abc import Iterator, Mapping, Sequence

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.failing_rows import find_failing_rows
from zdd_tui.backends.postgres.sample_rows import TriedRows, try_sampled_rows
from zdd_tui.backends.postgres.scratch_copy import PlannedChange, open_planned_change
from zdd_tui.checks.expressions import HINT, describe_failing, describe_unknown
from zdd_tui.model.counting import count_noun
from zdd_tui.model.ddl.failing_rows import ComputedValues
from zdd_tui.model.ddl.jobs import change_settings
from zdd_tui.model.ddl.tries import LOSSY_ROLLBACK, RowFailure
from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import MAX_VIOLATIONS
from zdd_tui.model.plan.base import DualWriteMode, Plan
from zdd_tui.model.sql import quote_identifier

MAX_SHOWN = 3
"""Kinds of failures that an error lists."""

_REASONS = {
    "23502": "a column that is NOT NULL gets NULL",
    "23503": "it refers to a row that does not exist",
    "23505": "two rows get the same values under a unique key",
    "23514": "a check is not satisfied",
    "23P01": "two rows conflict under an exclusion constraint",
    "P0001": "a function raises an exception",
}


async def check_sampled_rows(conn: Connection, plan: Plan, change: PlannedChange | None = None) -> list[str]:
    """Copies sampled rows to the new side and back, on scratch tables. Changes nothing, and prints no value.

    Args:
        change: the copies where the caller has them.

    Returns:
        one line for each fact that an operator should see.

    Raises:
        PlanError: everything that fails, each with its place in the plan.
        DatabaseError: the try could not be made.
    """
    if change is None:
        async with open_planned_change(conn, plan) as opened:
            return [] if opened is None else await check_sampled_rows(conn, plan, opened)
    tried = await try_sampled_rows(conn, change)
    if errors := evaluate_tried_rows(plan, tried):
        raise PlanError.join(errors)
    return [*describe_tried_rows(plan, tried), *await _check_every_row(conn, change, tried.types)]


async def _check_every_row(conn: Connection, change: PlannedChange, types: Mapping[str, str]) -> list[str]:
    """Computes ``up`` for the rows that were not sampled, as far as the time suffices.

    Args:
        types: of the new columns.

    Raises:
        PlanError: it fails for more rows than the plan tolerates.
    """
    plan, catalog = change.scratch.plan, change.catalog
    limit = max(MAX_VIOLATIONS, plan.backfill.max_failed_rows + 1)
    values = tuple((plan.change.up[name], kind) for name, kind in types.items())
    alias = quote_identifier(plan.change.table.name)
    computed = ComputedValues(catalog.old.sql, alias, values, catalog.key_names)
    found = await find_failing_rows(conn, computed, (change_settings(plan),), limit=limit)
    unknown = describe_unknown(found, limit)
    notes = [f"note: change.up: {unknown}"] if unknown else []
    if not found.count:
        return notes
    column = list(types)[found.number - 1]
    text = describe_failing(plan.change.up[column], str(plan.change.table), computed.key, found, limit)
    if found.count <= plan.backfill.max_failed_rows:
        return [f"note: change.up.{column}: {text}; backfill.max_failed_rows tolerates that", *notes]
    raise PlanError(f"change.up.{column}: {text}", HINT)


def evaluate_tried_rows(plan: Plan, tried: TriedRows) -> list[PlanError]:
    """What must be corrected, or accepted, before the release."""
    return [*_target_errors(plan, tried), *_forward_errors(plan, tried), *_reverse_errors(plan, tried)]


def describe_tried_rows(plan: Plan, tried: TriedRows) -> list[str]:
    """One line for each fact that an operator should see."""
    if not tried.rows:
        return [f"note: no row of {plan.change.table} could be tried: only the types of the expressions are checked"]
    lines = [f"{_sample(tried)} of {plan.change.table} copied to the new side and back, on scratch tables"]
    if tried.broken:
        count = sum(failure.rows for failure in tried.broken)
        lines.append(
            f"note: the table's own rules refuse {count_noun(count, 'more sampled row')}: {_reason(tried.broken[0])}"
        )
    if tried.forward:
        lines.append(
            f"note: {_count(tried.forward)} of {_sample(tried)} cannot be copied, and"
            f" backfill.max_failed_rows tolerates that: {_reason(tried.forward[0])}"
        )
    lines += [
        f"note: accept: {name} is not needed for the sampled rows"
        for name in plan.accepted_reasons
        if name.startswith(LOSSY_ROLLBACK) and name.removeprefix(LOSSY_ROLLBACK) not in tried.changed
    ]
    for column, count in tried.changed.items():
        reason = plan.accepted_reasons[f"{LOSSY_ROLLBACK}{column}"]
        lines.append(f"note: accepted: a rollback changes {column} in {count} of {_sample(tried)}: {reason}")
    return lines


def _target_errors(plan: Plan, tried: TriedRows) -> Iterator[PlanError]:
    target = plan.change.target_table
    if not tried.has_target_key:
        key = ", ".join(plan.change.key) or "the primary key of the old table"
        yield PlanError(
            f"change.expand: {target} has no unique key on ({key}): a row could not be copied to it",
            "add PRIMARY KEY or UNIQUE over those columns to its CREATE TABLE; a row of the old table becomes one row",
        )
    for column in tried.unfilled:
        yield PlanError(
            f"change.expand: column {column} of {target} is NOT NULL, and up does not fill it: no row could be copied",
            f"add change.up.{column}, or a DEFAULT; NOT NULL may also be set later, in change.constrain",
        )
    if tried.old_writes:
        failing = _listed(tried.old_writes, tried)
        yield PlanError(
            f"change.expand: after it an INSERT of the running application would fail: {failing}",
            "leave the constraint out of change.expand, and add it in change.constrain, when every row is filled",
        )


def _forward_errors(plan: Plan, tried: TriedRows) -> Iterator[PlanError]:
    is_trigger = plan.change.dual_write is DualWriteMode.TRIGGER
    what = "the sync trigger and the backfill" if is_trigger else "the backfill"
    if tried.forward and _count(tried.forward) > plan.backfill.max_failed_rows:
        yield PlanError(
            f"{_place('change.up', tried.forward_columns)}: {what} could not copy {_listed(tried.forward, tried)}",
            "correct the expression, the type or the constraint; or the rows. backfill.max_failed_rows tolerates some",
        )
    for column, count in tried.unequal.items():
        yield PlanError(
            f"change.up.{column}: after the copy {count} of {_sample(tried)} without the value of up",
            "check the triggers and generated columns that fill that column",
        )
    for name, count in tried.orphans.items():
        yield PlanError(
            f"change.expand: foreign key {name}: {count} of {_sample(tried)} would refer to no row",
            "add the missing rows first, or correct the expression in change.up",
        )
    for plan_key, message in tried.constrain:
        yield PlanError(
            f"{plan_key}: PostgreSQL refuses it for the sampled rows: {message}",
            "correct the statement, or the expression in change.up",
        )


def _reverse_errors(plan: Plan, tried: TriedRows) -> Iterator[PlanError]:
    if tried.reverse:
        yield PlanError(
            f"{_place('change.down', tried.reverse_columns)}: what V3 writes could not be copied back for"
            f" {_listed(tried.reverse, tried)}",
            "correct the expression: the old side must accept what down gives, or a rollback loses the row",
        )
    for column, count in tried.changed.items():
        name = f"{LOSSY_ROLLBACK}{column}"
        if name not in plan.accepted_reasons:
            yield PlanError(
                f"change.down.{column}: lossy: in {count} of {_sample(tried)} a rollback would not"
                " restore the value once V3 has written the row: down(up(x)) is not x",
                f"correct down, or accept it in the plan: accept: [{{what: {name}, reason: …}}]",
            )


def _place(section: str, columns: Sequence[RowFailure]) -> str:
    names = dict.fromkeys(failure.place for failure in columns if failure.place)
    return f"{section}.{next(iter(names))}" if len(names) == 1 else section


def _sample(tried: TriedRows) -> str:
    return count_noun(tried.rows, "sampled row")


def _count(failures: Sequence[RowFailure]) -> int:
    return sum(failure.rows for failure in failures)


def _listed(failures: Sequence[RowFailure], tried: TriedRows) -> str:
    shown = "; ".join(
        f"{_reason(failure)} ({failure.rows})" if len(failures) > 1 else _reason(failure)
        for failure in failures[:MAX_SHOWN]
    )
    more = f"; and {len(failures) - MAX_SHOWN} more kinds" if len(failures) > MAX_SHOWN else ""
    return f"{_count(failures)} of {_sample(tried)}: {shown}{more}"


def _reason(failure: RowFailure) -> str:
    """Without values of the row: the message of a constraint has none, others are masked."""
    text = _REASONS.get(failure.state, failure.message)
    names = [failure.rule and f"constraint {failure.rule}", failure.place and f"column {failure.place}"]
    named = ", ".join(name for name in names if name)
    return f"{text} ({named})" if named else text

"""Rechecks before a command takes effect: the confirmed objects, the rehearsal of production, the tuned limits."""

import asyncio
from dataclasses import replace
from http import HTTPStatus

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.postgres.fill_order import read_references, read_step_use
from zdd_tui.backends.postgres.operations import count_rollback_losses
from zdd_tui.backends.store import evidence
from zdd_tui.engine.context import Context
from zdd_tui.model.errors import BackendError, PlanError, Refused
from zdd_tui.model.operations.fill_order import list_waiting_fills, read_step_names
from zdd_tui.model.operations.registry import named_steps, plan_operations
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.base import BasePlan, short_table_name
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.release.records import NewEvent, StoredCommand
from zdd_tui.model.release.rehearsal import require_rehearsal_for_start
from zdd_tui.model.release.state import Command, CommandKind, Release, ReleaseState, is_before_backfill
from zdd_tui.model.tuning import apply_tuning, describe_limit_changes, plan_limits

RECHECK_TIMEOUT = 2.0
"""Seconds that a rollback waits for Kubernetes: reads go back by a flag, which needs no cluster."""


async def require_same_objects(cluster: Cluster | None, command: StoredCommand) -> None:
    """Compares the uids that the command froze with the cluster (architecture.md, invariant 10), where there is one.

    A rollback continues when the cluster is unreachable or a Deployment is gone: it undoes what it can.

    Raises:
        Refused: another object has a confirmed name now, or an advance cannot be rechecked.
    """
    if cluster is None:
        return
    expected = command.to_command.expected
    is_rollback = command.kind is CommandKind.ROLLBACK
    repeat = f"review the state, then repeat the {command.kind}"
    for name, uid in expected.objects if expected else ():
        try:
            async with asyncio.timeout(RECHECK_TIMEOUT if is_rollback else None):
                view = await cluster.get_deployment(name)
        except TimeoutError:
            return  # the other Deployments are of the same server
        except BackendError as error:
            if is_rollback:
                continue
            if isinstance(error, KubeApiError) and error.status == HTTPStatus.NOT_FOUND:
                raise Refused(f"Deployment {name} was deleted since it was confirmed", repeat) from None
            raise Refused(
                f"the confirmed objects cannot be rechecked: {error.title}",
                f"repeat the {command.kind} when Kubernetes is reachable",
            ) from None
        if view.uid != uid:
            raise Refused(
                f"Deployment {name} was deleted and created again since it was confirmed (uid {uid} is {view.uid} now)",
                repeat,
            )


async def require_kept_rows(ctx: Context) -> None:
    """Refuses a rollback that would stop at its first step, before anything stops for it.

    What cannot be counted in time does not refuse it: the rollback compares every row before it changes anything.

    Raises:
        Refused: rows have values that it could not keep.
    """
    if not isinstance(ctx.plan, BaseOperationsPlan):
        return
    operations = await asyncio.to_thread(plan_operations, ctx.plan)  # parsing takes time: the lease is renewed
    if not any(each.rollback_losses for each in operations):
        return
    async with ctx.read_connection() as conn:
        counted = await count_rollback_losses(conn, operations, seconds=RECHECK_TIMEOUT)
    if counted.found:
        raise Refused(
            f"a rollback would lose values: {'; '.join(counted.found)}",
            "set these rows to values that the old type has, by UPDATE in psql, then zdd rollback PLAN",
        )


async def require_rehearsal(ctx: Context, release: Release, command: StoredCommand, now: float) -> list[NewEvent]:
    """Checks that the plan of a production release was rehearsed before its first advance.

    Args:
        now: seconds since the epoch, by the database's clock.

    Returns:
        audit events for a rehearsal that was waived.

    Raises:
        Refused: it was not rehearsed, and the command does not waive that with a reason.
    """
    if release.state is not ReleaseState.PLANNED or command.kind is not CommandKind.ADVANCE:
        return []
    async with ctx.read_connection() as conn:
        newest = await evidence.load_newest_rehearsal(conn, release.plan_hash)
    waived = require_rehearsal_for_start(
        strategy=release.strategy.name,
        environment=ctx.plan.environment,
        is_production=ctx.plan.is_production,
        plan_hash=release.plan_hash,
        newest=newest,
        now=now,
        skip_rehearsal=command.request.unrehearsed,
        reason=command.request.reason,
    )
    return [NewEvent("rehearsal", waived, command.request.reason, command.actor)] if waived else []


async def find_waiting_fills(ctx: Context, table: str) -> tuple[str, ...]:
    """The names of the fill steps of other tables that must wait while a table is paused.

    Args:
        table: its short name; another one has none.
    """
    if not isinstance(ctx.plan, BaseOperationsPlan):
        return ()
    waiting: list[str] = []
    for phase in Phase:
        steps = await asyncio.to_thread(named_steps, ctx.plan, phase)  # as above
        paused = [name for name, _, spec in steps if spec.fill and short_table_name(spec.fill.table) == table]
        if not paused:
            continue
        async with ctx.read_connection() as conn:
            uses = [await read_step_use(conn, read_step_names(name, spec)) for name, _, spec in steps]
            waiting += list_waiting_fills(uses, paused, await read_references(conn, uses))
    return tuple(waiting)


def build_tune_command(plan: BasePlan, before: Release, stored: StoredCommand) -> Command:
    """The command with the limits that it leads to, checked by the plan's own rules.

    Raises:
        Refused: an unknown limit, or a value that the plan's rules do not allow.
    """
    limits = plan_limits(plan)
    if stored.kind is not CommandKind.TUNE or limits is None:
        return stored.to_command
    try:
        tuning = apply_tuning(limits, before.tuning, stored.request.tuning or {}, before.strategy.filled_tables)
    except PlanError as error:
        raise Refused(error.title, error.hint) from None
    return replace(stored.to_command, tuning=tuning)


def describe_tune_result(plan: BasePlan, before: Release, after: Release) -> str:
    """The changed limits, for the outcome of a ``tune`` and the audit; and that they count for a backfill to come."""
    limits = plan_limits(plan)
    if limits is None:
        return ""
    later = ", for the backfill to come" if before.tuning != after.tuning and is_before_backfill(after) else ""
    return f"{describe_limit_changes(limits, before.tuning, after.tuning)}{later}"

"""What an operator confirmed is what a command touches: the Deployments are still the ones that were on screen."""

from dataclasses import replace

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.errors import KubeApiError
from zdd_tui.backends.store import evidence as rehearsals
from zdd_tui.engine.context import Context
from zdd_tui.model.errors import BackendError, PlanError, Refused
from zdd_tui.model.plan.base import BasePlan, Plan
from zdd_tui.model.release.records import NewEvent, StoredCommand
from zdd_tui.model.release.rehearsal import require_rehearsal_for_start
from zdd_tui.model.release.state import Command, CommandKind, Release, ReleaseState
from zdd_tui.model.tuning import apply_tuning, describe_limit_changes

_NOT_FOUND = 404


async def require_same_objects(cluster: Cluster, command: StoredCommand) -> None:
    """Holds the uids that the command froze against the cluster (design, invariant 10).

    A rollback goes on where the cluster cannot be asked, or has lost a Deployment: it undoes what it can.

    Raises:
        Refused: another object stands under a confirmed name now, or an advance cannot be rechecked.
    """
    expected = command.to_command.expected
    back = command.kind is CommandKind.ROLLBACK
    for name, uid in expected.objects if expected else ():
        try:
            view = await cluster.get_deployment(name)
        except BackendError as error:
            if back:
                continue
            if isinstance(error, KubeApiError) and error.status == _NOT_FOUND:
                raise Refused(f"Deployment {name} was deleted since it was confirmed", "look again") from None
            raise Refused(
                f"what was confirmed cannot be rechecked: {error.title}", "repeat it when it is back"
            ) from None
        if view.uid != uid:
            raise Refused(
                f"Deployment {name} was deleted and made anew since it was confirmed (uid {uid} is {view.uid} now)",
                "look at it, then repeat the command",
            )


# --- A release of production does not begin before its plan was rehearsed.


async def require_rehearsal(ctx: Context, release: Release, command: StoredCommand, now: float) -> list[NewEvent]:
    """Judges the first advance of a release.

    Args:
        now: seconds since the epoch, by the database's clock.

    Returns:
        what the audit must say, besides the command itself.

    Raises:
        Refused: it was not rehearsed, and the command does not waive that with a reason.
    """
    if release.state is not ReleaseState.PLANNED or command.kind is not CommandKind.ADVANCE:
        return []
    async with ctx.read_connection() as conn:
        newest = await rehearsals.load_newest_rehearsal(conn, release.plan_hash)
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


# --- Changes of the backfill's limits while it runs: what an operator asks for is judged by the plan's own rules.


def build_tune_command(plan: BasePlan, before: Release, stored: StoredCommand) -> Command:
    """The command as the rules see it; a ``tune`` carries the limits that it leads to.

    Raises:
        Refused: no such limit, or a value that the plan's rules do not allow.
    """
    if stored.kind is not CommandKind.TUNE or not isinstance(plan, Plan):
        return stored.to_command
    try:
        return replace(
            stored.to_command, tuning=apply_tuning(plan.backfill, before.tuning, stored.request.tuning or {})
        )
    except PlanError as error:
        raise Refused(error.title, error.hint) from None


def describe_tune_result(plan: BasePlan, before: Release, after: Release) -> str:
    """What became of a ``tune``, for the answer and the audit."""
    return describe_limit_changes(plan.backfill, before.tuning, after.tuning) if isinstance(plan, Plan) else ""

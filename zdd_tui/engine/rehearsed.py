"""A release of production does not begin before its plan was rehearsed."""

from zdd_tui.backends import rehearsals
from zdd_tui.engine.context import Context
from zdd_tui.model.records import NewEvent, StoredCommand
from zdd_tui.model.rehearsal import require
from zdd_tui.model.release import CommandKind, Release, State


async def require_rehearsal(ctx: Context, release: Release, stored: StoredCommand, now: float) -> list[NewEvent]:
    """Judges the first advance of a release.

    Args:
        now: seconds since the epoch, by the database's clock.

    Returns:
        what the audit must say, besides the command itself.

    Raises:
        Refused: it was not rehearsed, and the command does not waive that with a reason.
    """
    if release.state is not State.PLANNED or stored.kind is not CommandKind.ADVANCE:
        return []
    async with ctx.reading() as conn:
        newest = await rehearsals.newest(conn, release.plan_hash)
    waived = require(
        strategy=release.strategy.name,
        environment=ctx.plan.environment,
        plan_hash=release.plan_hash,
        newest=newest,
        now=now,
        unrehearsed=bool(stored.args.get("unrehearsed")),
        reason=stored.reason,
    )
    return [NewEvent("rehearsal", waived, stored.reason, stored.actor)] if waived else []

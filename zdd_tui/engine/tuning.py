"""Changes of the backfill's limits while it runs: what an operator asks for is judged by the plan's own rules."""

from dataclasses import replace

from zdd_tui.model.errors import PlanError, Refused
from zdd_tui.model.plan import BasePlan, Plan
from zdd_tui.model.records import StoredCommand
from zdd_tui.model.release import Command, CommandKind, Release
from zdd_tui.model.tuning import changes_text, retuned


def asked_of(plan: BasePlan, before: Release, stored: StoredCommand) -> Command:
    """The command as the rules see it; a ``tune`` carries the limits that it leads to.

    Raises:
        Refused: no such limit, or a value that the plan's rules do not allow.
    """
    if stored.kind is not CommandKind.TUNE or not isinstance(plan, Plan):
        return stored.asked
    try:
        return replace(stored.asked, tuning=retuned(plan.backfill, before.tuning, stored.args.get("tuning", {})))
    except PlanError as error:
        raise Refused(error.title, error.mend) from None


def tuned_text(plan: BasePlan, before: Release, after: Release) -> str:
    """What became of a ``tune``, for the answer and the audit."""
    return changes_text(plan.backfill, before.tuning, after.tuning) if isinstance(plan, Plan) else ""

"""When a plan counts as rehearsed. Pure: time comes in as an argument."""

from dataclasses import dataclass

from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import Refused

MAX_REHEARSAL_AGE = 30 * 24 * 3600.0
"""Seconds that a rehearsal counts: in a month tables grow, versions change, and people forget."""

STRATEGIES_NEEDING_REHEARSAL = frozenset({"expand-contract"})
"""Strategies that change a database, which is what a rehearsal is of."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A rehearsal as it is kept.

    Attributes:
        at: seconds since the epoch, by the database's clock.
        scale: share of production's rows that it ran with.
    """

    plan_hash: str
    at: float
    passed: bool
    scale: float
    actor: str
    host: str


def why_not_rehearsed(plan_hash: str, newest: Rehearsal | None, now: float) -> str:
    """What is missing from the rehearsal of a plan, in words; empty where nothing is.

    Args:
        newest: the last rehearsal of that plan.
    """
    if newest is None or newest.plan_hash != plan_hash:
        return "it was never rehearsed as it is now"
    if not newest.passed:
        return f"its last rehearsal, by {newest.actor}@{newest.host}, failed"
    if (age := now - newest.at) > MAX_REHEARSAL_AGE:
        return f"its last rehearsal is {format_duration(age)} old; after {format_duration(MAX_REHEARSAL_AGE)} it counts no more"
    return ""


def require_rehearsal_for_start(
    *,
    strategy: str,
    environment: str,
    is_production: bool,
    plan_hash: str,
    newest: Rehearsal | None,
    now: float,
    skip_rehearsal: bool,
    reason: str,
) -> str:
    """The rule for the first advance of a release.

    Returns:
        what the audit must say, empty where there is nothing to say.

    Raises:
        Refused: it must be rehearsed first, or the waiver gives no reason.
    """
    if not is_production or strategy not in STRATEGIES_NEEDING_REHEARSAL:
        return ""
    missing = why_not_rehearsed(plan_hash, newest, now)
    if not missing:
        return ""
    if not skip_rehearsal:
        raise Refused(
            f"environment {environment}: this plan does not start: {missing}",
            "run `zdd rehearse PLAN` first, or `zdd advance PLAN --unrehearsed --reason TEXT` in the shell",
        )
    if not reason.strip():
        raise Refused("--unrehearsed needs a reason", "say why with --reason TEXT; it goes into the audit")
    return f"begun without a rehearsal: {missing}"

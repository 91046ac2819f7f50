"""When a plan counts as rehearsed."""

from dataclasses import dataclass

from zdd_tui.model.duration import format_duration
from zdd_tui.model.errors import Refused

MAX_REHEARSAL_AGE = 30 * 24 * 3600.0
"""Seconds for which a rehearsal is valid: in a month tables grow and versions change."""

STRATEGIES_NEEDING_REHEARSAL = frozenset({"expand-contract"})
"""Strategies that change a database: a rehearsal is of the database only."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A rehearsal as stored.

    Attributes:
        at: seconds since the epoch, by the database's clock.
        scale: rows that it ran with, as a share of production's.
    """

    plan_hash: str
    at: float
    passed: bool
    scale: float
    actor: str
    host: str


def why_not_rehearsed(plan_hash: str, newest: Rehearsal | None, now: float) -> str:
    """Why a plan does not count as rehearsed; empty where it does.

    Args:
        newest: the last rehearsal of that plan.
    """
    if newest is None or newest.plan_hash != plan_hash:
        return "this version of it was never rehearsed"
    if not newest.passed:
        return f"its last rehearsal, by {newest.actor}@{newest.host}, failed"
    if (age := now - newest.at) > MAX_REHEARSAL_AGE:
        return f"its last rehearsal is {format_duration(age)} old; valid for {format_duration(MAX_REHEARSAL_AGE)}"
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
        the audit text of a waived rehearsal; else empty.

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
            f"environment {environment}: the plan cannot start: {missing}",
            "run `zdd rehearse PLAN` first, or `zdd advance PLAN --unrehearsed --reason TEXT` in the shell",
        )
    if not reason.strip():
        raise Refused("--unrehearsed needs a reason", "add --reason TEXT; the audit records it")
    return f"started without a rehearsal: {missing}"

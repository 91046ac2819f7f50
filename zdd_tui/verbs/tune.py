"""`zdd tune`: changes limits of the backfill while it runs, or shows which hold."""

import asyncio
import sys

from zdd_tui.model.errors import Refused
from zdd_tui.model.plan_file import LoadedPlan
from zdd_tui.model.preview import preview
from zdd_tui.model.records import ReleaseRecord
from zdd_tui.model.release import Command, CommandKind, command
from zdd_tui.model.tuning import LIMITS, back_to_plan, parse_asked, retuned, value_text
from zdd_tui.verbs.operate import Order, find_release, open_store, require_reason, send_order


def tune(loaded: LoadedPlan, words: list[str], *, reset: bool, reason: str, timeout: float) -> int:
    """Sends the change and waits for the agent's answer; without one, shows the limits.

    Returns:
        0 done, 1 refused, 4 no answer within ``timeout`` seconds.

    Raises:
        PlanError: no such limit, or a value that the plan's rules do not allow; nothing was sent.
        Refused: the release has no backfill, or it is over; nothing was sent.
    """
    asked = parse_asked(words)
    if words or reset:
        require_reason(loaded, CommandKind.TUNE, reason)
    record = asyncio.run(_read(loaded))
    plan = record.plan_limits
    if not words and not reset:
        sys.stdout.write(limits_text(record))
        return 0
    before = record.tuning
    asked = (back_to_plan(before) if reset else {}) | asked
    tuning = retuned(plan, before, asked) if plan is not None else ()
    # Judged here as the agent will, so that what cannot be is not sent.
    command(record.release, Command(CommandKind.TUNE, tuning=tuning), {}, record.now)
    if not asked:
        sys.stdout.write("every limit is the plan's own already\n")
        return 0
    order = Order(CommandKind.TUNE, record, preview(loaded.plan, record.release, CommandKind.TUNE))
    return asyncio.run(send_order(loaded, order, reason=reason, timeout=timeout, tuning=asked))


async def _read(loaded: LoadedPlan) -> ReleaseRecord:
    async with await open_store(loaded) as store:
        return await store.read(await find_release(store, loaded))


def limits_text(record: ReleaseRecord) -> str:
    """Every limit with its value; the plan's own where it differs.

    Raises:
        Refused: the release has no backfill.
    """
    plan, limits = record.plan_limits, record.limits
    if plan is None or limits is None:
        raise Refused(f"a {record.release.strategy.name} release has no backfill: there are no limits to change")
    lines = []
    for spec in LIMITS:
        now, own = (value_text(spec.key, getattr(values, spec.key)) for values in (limits, plan))
        value = now if now == own else f"{now} (plan: {own})"
        lines.append(f"{spec.key:<22} {value:<20} {spec.help}".rstrip())
    return "\n".join(lines) + "\n"

"""A region begins only when those before it are done and the last has soaked."""

from zdd_tui.backends.regions import read_stands
from zdd_tui.engine.context import Context
from zdd_tui.engine.judging import Finding
from zdd_tui.model.records import ReleaseRecord
from zdd_tui.model.regions import judge_regions


async def earlier_regions_done(ctx: Context, record: ReleaseRecord) -> Finding:
    """The gate before the first phase. Nothing waives it: what cannot be read is unknown, and opens nothing."""
    plan = ctx.plan
    assert plan.regions is not None, "only a plan with regions has this gate"
    stands = await read_stands(plan, record.release.plan_hash, plan.earlier_regions)
    return judge_regions(stands, plan.regions.soak)

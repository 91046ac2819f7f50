"""`zdd check --json`: the result of the check, and the complete comparison of the new side with the old one."""

import json
from typing import Any, TextIO

from zdd_tui.backends.postgres.connection import connect, translate_errors
from zdd_tui.checks.catalog_diff import compare_planned_side
from zdd_tui.checks.locks import LockMeasurement
from zdd_tui.checks.plan import check_plan
from zdd_tui.model.errors import ZddError
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.plan.file import LoadedPlan


async def run_check_json(
    loaded: LoadedPlan, *, offline: bool, out: TextIO, measurement: LockMeasurement | None = None
) -> int:
    """Checks a plan and writes the result.

    Returns:
        the exit code of the command.
    """
    document: dict[str, Any] = {"plan": loaded.plan.name, "ok": True, "lines": [], "error": None, "hint": None}
    code = 0
    try:
        document["lines"] = await check_plan(loaded, offline=offline, measurement=measurement)
    except ZddError as error:
        document |= {"ok": False, "error": error.title, "hint": error.hint}
        code = error.exit_code
    document["differences"] = None if offline else await _read_differences(loaded)
    out.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return code


async def _read_differences(loaded: LoadedPlan) -> list[dict[str, object]] | None:
    """Every difference of every region; None where the plan changes no schema, or the database cannot be read."""
    plan = loaded.plan
    if not isinstance(plan, Plan):
        return None
    regions = plan.regions.names if plan.regions is not None and not plan.region else ()
    found: list[dict[str, object]] = []
    for region in regions or ("",):
        own = loaded.for_region(region).plan if region else plan
        assert isinstance(own, Plan), "a region has the plan's strategy"
        dsn = own.database.dsn.get_secret_value()
        try:
            conn = await connect(dsn, application_name="zdd check", timeout=own.database.connect_timeout)
            try:
                with translate_errors(dsn):
                    report = await compare_planned_side(conn, own)
            finally:
                await conn.close()
        except ZddError:
            return None  # `error` says why
        accepted = own.accepted_reasons
        place = {"region": region} if region else {}
        found += [place | each.to_json() | {"accepted": accepted.get(each.what)} for each in report.differences]
    return found

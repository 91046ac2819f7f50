"""`zdd check --json`: the result of the check, and the complete comparison of the new side with the old one."""

import json
from typing import Any, TextIO

from zdd_tui.checks.locks import LockMeasurement
from zdd_tui.checks.plan import CheckedSides, check_plan
from zdd_tui.model.errors import ZddError
from zdd_tui.model.plan.file import LoadedPlan


async def run_check_json(
    loaded: LoadedPlan, *, offline: bool, out: TextIO, measurement: LockMeasurement | None = None
) -> int:
    """Checks a plan and writes the result.

    Returns:
        the exit code of the command.
    """
    document: dict[str, Any] = {"plan": loaded.plan.name, "ok": True, "lines": [], "error": None, "hint": None}
    code, sides = 0, list[CheckedSides]()
    try:
        document["lines"] = await check_plan(loaded, offline=offline, measurement=measurement, sides=sides)
    except ZddError as error:
        document |= {"ok": False, "error": error.title, "hint": error.hint}
        code = error.exit_code
    document["differences"] = _differences(loaded, sides)
    out.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return code


def _differences(loaded: LoadedPlan, sides: list[CheckedSides]) -> list[dict[str, object]] | None:
    """Every difference of every region; None where the plan changes no schema, or no comparison could be made."""
    found: list[dict[str, object]] = []
    has_regions = loaded.plan.regions is not None and not loaded.plan.region
    for checked in sides:
        accepted = checked.plan.accepted_reasons
        place = {"region": checked.plan.region} if has_regions else {}
        found += [place | each.to_json() | {"accepted": accepted.get(each.what)} for each in checked.report.differences]
    return found if sides else None

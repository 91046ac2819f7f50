"""A plan with regions on the command line: which region is meant, and where all of them stand."""

import json
from collections.abc import Sequence
from typing import Any, TextIO

from zdd_tui.backends.regions import read_region_statuses
from zdd_tui.checks.plan import check_plan
from zdd_tui.cli.status import show_status
from zdd_tui.model.errors import DatabaseError, ZddError
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.regions import RegionStatus, find_current_region
from zdd_tui.model.release.state import ReleaseState


async def read_all_regions(loaded: LoadedPlan) -> tuple[RegionStatus, ...]:
    """Every region of a plan, in order; what cannot be reached says so."""
    assert loaded.plan.regions is not None
    return await read_region_statuses(loaded.plan, loaded.hash, loaded.plan.regions.names)


async def in_current_region(loaded: LoadedPlan) -> LoadedPlan:
    """The plan in its current region: the first that is not done and soaked, or the last one.

    Raises:
        DatabaseError: which one that is cannot be told.
    """
    assert loaded.plan.regions is not None
    found = find_current_region(await read_all_regions(loaded), loaded.plan.regions.soak)
    if found.error:
        raise DatabaseError(
            f"which region of {loaded.plan.name} is current cannot be told: region {found.region}: {found.error}",
            f"name it: --region {loaded.plan.regions.names[0]}, for example",
        )
    return loaded.for_region(found.region)


async def check_regions(loaded: LoadedPlan, *, offline: bool) -> list[str]:
    """As :func:`zdd_tui.checks.plan.check_plan`, for every region of the plan.

    Raises:
        ZddError: everything that is wrong, each with its region.
    """
    assert loaded.plan.regions is not None
    if offline:
        return await check_plan(loaded, offline=True)
    found: list[str] = []
    wrong: list[str] = []
    for name in loaded.plan.regions.names:
        try:
            lines = await check_plan(loaded.for_region(name), offline=False)
        except ZddError as error:
            wrong.append(f"region {name}: {error}")
        else:
            found += [f"region {name}: {line}" for line in lines]
    if wrong:
        raise ZddError("\n".join(wrong))
    return found


async def show_all_regions(loaded: LoadedPlan, *, as_json: bool, wait: str | None, timeout: float, out: TextIO) -> int:
    """All regions in order, then the current one as :func:`zdd_tui.cli.status.show_status` tells it.

    Raises:
        ZddError: the current region has no release, or cannot be read; all others were written before.
    """
    assert loaded.plan.regions is not None
    soak = loaded.plan.regions.soak
    stands = await read_all_regions(loaded)
    current = loaded.for_region(find_current_region(stands, soak).region)
    if not as_json:
        out.write(format_regions(loaded.plan.name, stands, soak, current.plan.region))
        out.flush()
        return await show_status(current, as_json=False, wait=wait, timeout=timeout, out=out)
    regions = [region_status_to_dict(stand, soak) for stand in stands]
    try:
        return await show_status(current, as_json=True, wait=wait, timeout=timeout, out=out, extra={"regions": regions})
    except ZddError as error:
        # The others are worth knowing all the same.
        told = {"name": loaded.plan.name, "region": current.plan.region, "state": None, "error": error.title}
        out.write(json.dumps(told | {"regions": regions}, indent=2) + "\n")
        return error.exit_code


def region_status_to_dict(status: RegionStatus, soak: float) -> dict[str, Any]:
    """One region for scripts; keys are only ever added.

    ``state`` is null where no release of the plan was registered, or where it cannot be read: then ``error`` says
    why. ``soak_left`` are the seconds until the next region may begin, null while the region is not done.
    """
    left = (
        None
        if status.seconds_since_end is None or status.state is not ReleaseState.DONE
        else max(0.0, soak - status.seconds_since_end)
    )
    return {
        "region": status.region,
        "state": str(status.state) if status.state else None,
        "phase": status.phase or None,
        "paused": status.is_paused,
        "rolled_back": status.was_rolled_back,
        "soak_left": None if left is None else round(left, 1),
        "error": status.error or None,
    }


def format_regions(name: str, statuses: Sequence[RegionStatus], soak: float, current: str) -> str:
    """A line for each region, in order; the current one is marked."""
    wide = max(len(stand.region) for stand in statuses)
    lines = [f"{name}: {len(statuses)} regions, one after the other"]
    for number, stand in enumerate(statuses, 1):
        mark = "▶" if stand.region == current else " "
        lines.append(f"{mark} {_status_glyph(stand, soak)} {number} {stand.region:{wide}}  {stand.describe(soak)}")
    return "\n".join([*lines, ""]) + "\n"


def _status_glyph(status: RegionStatus, soak: float) -> str:
    if status.error:
        return "?"
    if status.was_rolled_back or status.state in (ReleaseState.FAILED, ReleaseState.ROLLBACK_FAILED):
        return "✗"
    if status.has_soaked(soak):
        return "✔"
    return "○" if status.state in (None, ReleaseState.PLANNED) else "◆"

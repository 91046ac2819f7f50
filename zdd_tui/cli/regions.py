"""A plan with regions on the command line: its current region, and the state of all of them."""

import json
from collections.abc import Sequence
from typing import Any, TextIO

from zdd_tui.backends.regions import read_region_statuses
from zdd_tui.cli.status import show_status
from zdd_tui.model.counting import count_noun
from zdd_tui.model.errors import DatabaseError, ZddError
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.regions import RegionStatus, find_current_region
from zdd_tui.model.release.state import ReleaseState


async def read_all_regions(loaded: LoadedPlan) -> tuple[RegionStatus, ...]:
    """The status of every region of a plan, in order; that of an unreachable one holds the error."""
    assert loaded.plan.regions is not None
    return await read_region_statuses(loaded.plan, loaded.hash, loaded.plan.regions.names)


async def in_current_region(loaded: LoadedPlan) -> LoadedPlan:
    """The plan in its current region: the first that is not done and soaked, or the last one.

    Raises:
        DatabaseError: a region that decides it is unreachable.
    """
    assert loaded.plan.regions is not None
    current = find_current_region(await read_all_regions(loaded), loaded.plan.regions.soak)
    if current.error:
        raise DatabaseError(
            f"the current region of {loaded.plan.name} is unknown: region {current.region}: {current.error}",
            f"name a region, such as --region {loaded.plan.regions.names[0]}",
        )
    return loaded.for_region(current.region)


async def show_all_regions(loaded: LoadedPlan, *, as_json: bool, wait: str | None, timeout: float, out: TextIO) -> int:
    """Prints all regions in order, then the current one like :func:`zdd_tui.cli.status.show_status`.

    Raises:
        ZddError: the current region has no release, or cannot be read; all others were printed before.
    """
    assert loaded.plan.regions is not None
    soak = loaded.plan.regions.soak
    statuses = await read_all_regions(loaded)
    current = loaded.for_region(find_current_region(statuses, soak).region)
    if not as_json:
        out.write(format_regions(loaded.plan.name, statuses, soak, current.plan.region))
        out.flush()
        return await show_status(current, as_json=False, wait=wait, timeout=timeout, out=out)
    regions = [region_status_to_dict(status, soak) for status in statuses]
    try:
        return await show_status(current, as_json=True, wait=wait, timeout=timeout, out=out, extra={"regions": regions})
    except ZddError as error:
        document = {"name": loaded.plan.name, "region": current.plan.region, "state": None, "error": error.title}
        out.write(json.dumps(document | {"regions": regions}, indent=2) + "\n")
        return error.exit_code


def region_status_to_dict(status: RegionStatus, soak: float) -> dict[str, Any]:
    """One region for scripts; keys are only ever added.

    ``state`` is null where no release of the plan is registered, or where it cannot be read; then ``error`` holds the
    reason. ``soak_left``: seconds until the next region may start, null while the region is not done.
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
    """One line for each region, in order; the current one is marked."""
    width = max(len(status.region) for status in statuses)
    lines = [f"{name}: {count_noun(len(statuses), 'region')}, one after the other"]
    for number, status in enumerate(statuses, 1):
        marker = "▶" if status.region == current else " "
        lines.append(
            f"{marker} {_status_glyph(status, soak)} {number} {status.region:{width}}  {status.describe(soak)}"
        )
    return "\n".join([*lines, ""]) + "\n"


def _status_glyph(status: RegionStatus, soak: float) -> str:
    if status.error:
        return "?"
    if status.was_rolled_back or status.state in (ReleaseState.FAILED, ReleaseState.ROLLBACK_FAILED):
        return "✗"
    if status.has_soaked(soak):
        return "✔"
    return "○" if status.state in (None, ReleaseState.PLANNED) else "◆"

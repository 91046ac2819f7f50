"""A plan with regions on the command line: which region is meant, and where all of them stand."""

import json
from collections.abc import Sequence
from typing import Any, TextIO

from zdd_tui.backends.regions import read_stands
from zdd_tui.checks.plan import check_plan
from zdd_tui.cli.status import status
from zdd_tui.model.errors import DatabaseError, ZddError
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.regions import RegionStand, current_region
from zdd_tui.model.release.state import State


async def all_stands(loaded: LoadedPlan) -> tuple[RegionStand, ...]:
    """Every region of a plan, in order; what cannot be reached says so."""
    assert loaded.plan.regions is not None
    return await read_stands(loaded.plan, loaded.hash, loaded.plan.regions.names)


async def in_current(loaded: LoadedPlan) -> LoadedPlan:
    """The plan in its current region: the first that is not done and soaked, or the last one.

    Raises:
        DatabaseError: which one that is cannot be told.
    """
    assert loaded.plan.regions is not None
    found = current_region(await all_stands(loaded), loaded.plan.regions.soak)
    if found.error:
        raise DatabaseError(
            f"which region of {loaded.plan.name} is current cannot be told: region {found.region}: {found.error}",
            f"name it: --region {loaded.plan.regions.names[0]}, for example",
        )
    return loaded.in_region(found.region)


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
            lines = await check_plan(loaded.in_region(name), offline=False)
        except ZddError as error:
            wrong.append(f"region {name}: {error}")
        else:
            found += [f"region {name}: {line}" for line in lines]
    if wrong:
        raise ZddError("\n".join(wrong))
    return found


async def status_of_all(loaded: LoadedPlan, *, as_json: bool, wait: str | None, timeout: float, out: TextIO) -> int:
    """All regions in order, then the current one as :func:`zdd_tui.cli.status.status` tells it.

    Raises:
        ZddError: the current region has no release, or cannot be read; all others were written before.
    """
    assert loaded.plan.regions is not None
    soak = loaded.plan.regions.soak
    stands = await all_stands(loaded)
    current = loaded.in_region(current_region(stands, soak).region)
    if not as_json:
        out.write(as_text(loaded.plan.name, stands, soak, current.plan.region))
        out.flush()
        return await status(current, as_json=False, wait=wait, timeout=timeout, out=out)
    regions = [as_document(stand, soak) for stand in stands]
    try:
        return await status(current, as_json=True, wait=wait, timeout=timeout, out=out, more={"regions": regions})
    except ZddError as error:
        # The others are worth knowing all the same.
        told = {"name": loaded.plan.name, "region": current.plan.region, "state": None, "error": error.title}
        out.write(json.dumps(told | {"regions": regions}, indent=2) + "\n")
        return error.exit_code


def as_document(stand: RegionStand, soak: float) -> dict[str, Any]:
    """One region for scripts; keys are only ever added.

    ``state`` is null where no release of the plan was registered, or where it cannot be read: then ``error`` says
    why. ``soak_left`` are the seconds until the next region may begin, null while the region is not done.
    """
    left = None if stand.ended_for is None or stand.state is not State.DONE else max(0.0, soak - stand.ended_for)
    return {
        "region": stand.region,
        "state": str(stand.state) if stand.state else None,
        "phase": stand.phase or None,
        "paused": stand.paused,
        "rolled_back": stand.given_up,
        "soak_left": None if left is None else round(left, 1),
        "error": stand.error or None,
    }


def as_text(name: str, stands: Sequence[RegionStand], soak: float, current: str) -> str:
    """A line for each region, in order; the current one is marked."""
    wide = max(len(stand.region) for stand in stands)
    lines = [f"{name}: {len(stands)} regions, one after the other"]
    for number, stand in enumerate(stands, 1):
        mark = "▶" if stand.region == current else " "
        lines.append(f"{mark} {_glyph(stand, soak)} {number} {stand.region:{wide}}  {stand.words(soak)}")
    return "\n".join([*lines, ""]) + "\n"


def _glyph(stand: RegionStand, soak: float) -> str:
    if stand.error:
        return "?"
    if stand.given_up or stand.state in (State.FAILED, State.ROLLBACK_FAILED):
        return "✗"
    if stand.soaked(soak):
        return "✔"
    return "○" if stand.state in (None, State.PLANNED) else "◆"

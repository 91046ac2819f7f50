"""`zdd demo --regions N --headless`: one release through several productions, one after the other.

Every region has an agent from the beginning, and each later one is told to go too early: before the region before it
has begun, and again while that one soaks. Both must be refused. No load ever stops.
"""

import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from zdd_tui.backends.store.client import Store
from zdd_tui.demo.environment import DemoOptions, Environment
from zdd_tui.demo.plan import REGION_SOAK
from zdd_tui.demo.regions import start_regions
from zdd_tui.demo.release_driver import ProgressLog, ReleaseDriver
from zdd_tui.demo.report_lines import load_report_lines, load_summary
from zdd_tui.model.duration import parse_duration
from zdd_tui.model.errors import ZddError
from zdd_tui.model.release.state import CommandKind, closed_gates


async def run_regions(folder: Path, options: DemoOptions) -> dict[str, Any]:
    """Walks it and returns the report; progress goes to stderr."""
    progress = ProgressLog()
    async with AsyncExitStack() as stack:
        envs = await stack.enter_async_context(start_regions(folder, options, progress.log))
        walkers = []
        for env in envs:
            store = await stack.enter_async_context(await Store.open(env.postgres.dsn, application_name="zdd demo"))
            await store.migrate()
            walkers.append(ReleaseDriver(env, store, progress.log_record))
            await walkers[-1].start_release()
        refused = [[] if number == 0 else [await _refusal_reason(driver)] for number, driver in enumerate(walkers)]
        results: list[dict[str, Any]] = []
        ended = 0.0
        for number, (env, driver) in enumerate(zip(envs, walkers, strict=True)):
            gap = 0.0
            if number:
                refused[number].append(await _refusal_reason(driver))
                progress.log(f"region {env.options.region} waits: {refused[number][-1]}")
                await driver.wait_until(lambda record: not closed_gates(record.release, record.gates, record.now))
                gap = time.time() - ended
            progress.log(f"region {env.options.region}: every phase")
            results.append(await _run_region(driver) | {"refused": refused[number], "began_after": round(gap, 2)})
            ended = (await driver.read_record()).finished_at or 0.0
        for env in envs:
            await env.stop("load")
        return _regions_report(envs, results)


async def _refusal_reason(driver: ReleaseDriver) -> str:
    """The reason why the region may not begin.

    Raises:
        ZddError: it began.
    """
    release = (await driver.read_record()).release
    answer = await driver.send_command(CommandKind.ADVANCE, typed=release.name)
    if answer.status != "refused":
        raise ZddError(f"a later region was not refused: {answer.status}, {answer.outcome}")
    return answer.outcome.splitlines()[0]


async def _run_region(driver: ReleaseDriver) -> dict[str, Any]:
    began = time.monotonic()
    for phase in await driver.phase_names():
        await driver.run_phase(phase)
    record = await driver.read_record()
    return {
        "region": record.region,
        "state": str(record.release.state),
        "seconds": round(time.monotonic() - began, 2),
        "phases": driver.phase_seconds,
        "verified_rows": record.backfill.verified_rows if record.backfill else None,
        "mismatches": record.backfill.mismatches if record.backfill else None,
    }


def _regions_report(envs: tuple[Environment, ...], results: list[dict[str, Any]]) -> dict[str, Any]:
    soak = parse_duration(REGION_SOAK)
    regions = []
    for env, found in zip(envs, results, strict=True):
        regions.append(found | load_summary(env.read_load_report()))
    good = all(
        region["failures"] == region["wrong_answers"] == 0 and not region["mismatches"] and region["state"] == "done"
        for region in regions
    )
    in_turn = all(len(region["refused"]) == 2 and region["began_after"] >= soak for region in regions[1:])
    return {
        "ok": good and in_turn,
        "strategy": envs[0].options.strategy,
        "region_soak_seconds": soak,
        "regions": regions,
    }


def format_regions_report(report: dict[str, Any]) -> str:
    """The report for people."""
    names = ", then ".join(region["region"] for region in report["regions"])
    lines = ["", f"{'✔' if report['ok'] else '✗'} {report['strategy']} release of {names}"]
    for region in report["regions"]:
        lines += [f"region {region['region']}: {region['state']} in {region['seconds']} s", *load_report_lines(region)]
        if region["verified_rows"] is not None:
            lines.append(f"  verified       {region['verified_rows']:,} rows, {region['mismatches']} mismatches")
        lines += [f"  refused        {reason}" for reason in region["refused"]]
        if region["refused"]:
            lines.append(f"  began          {region['began_after']} s after the region before it was done")
        lines.append(
            "  phases         " + ", ".join(f"{name} {seconds} s" for name, seconds in region["phases"].items())
        )
        lines += [f"  ✗ failed: {sample}" for sample in region["failure_samples"]]
        lines += [f"  ✗ wrong: {sample}" for sample in region["wrong_samples"]]
    return "\n".join(lines) + "\n"

"""`zdd demo --headless`: the whole release by itself, with trouble on the way, and a report.

First a rehearsal: the release walks to the end of cutover, where V3 writes only the new side, and is rolled back from
there. Then the release itself: all six phases, a pause and resume in the backfill, and an agent that is killed in it.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg

from zdd_tui.backends.store.client import Store
from zdd_tui.demo.doctor_check import run_doctor_check
from zdd_tui.demo.environment import EXPAND_CONTRACT, DemoOptions, Environment, start_environment
from zdd_tui.demo.headless_dark import format_dark_launch_report as dark_text
from zdd_tui.demo.headless_dark import run_dark_launch_mismatch
from zdd_tui.demo.headless_inject import format_fault_report as inject_text
from zdd_tui.demo.headless_inject import run_fault_injection
from zdd_tui.demo.headless_regions import format_regions_report as regions_text
from zdd_tui.demo.headless_regions import run_regions
from zdd_tui.demo.headless_strategy import format_strategy_report as strategy_text
from zdd_tui.demo.headless_strategy import run_strategy_release
from zdd_tui.demo.release_driver import ProgressLog, ReleaseDriver
from zdd_tui.demo.report_lines import load_report_lines, load_summary, rollback_and_phase_lines
from zdd_tui.demo.state_snapshot import describe_differences, read_environment_state

PHASES = ("expand", "dual-write", "backfill", "cutover", "contract", "cleanup")
REHEARSED_PHASES = PHASES[:4]


async def run_schema_release(folder: Path, options: DemoOptions) -> dict[str, Any]:
    """Walks it and returns the report; progress goes to stderr."""
    progress = ProgressLog()
    async with start_environment(folder, options, progress.log) as env:
        # The `zdd` schema goes with the first release's agent, not with a rollback; it must be there to compare.
        async with await Store.open(env.postgres.dsn, application_name="zdd demo") as store:
            await store.migrate()
            doctor = await run_doctor_check(env, progress)
            before = await read_environment_state(env)
            rehearsal = await _rehearse_rollback(env, store, progress)
            rehearsal["differences"] = describe_differences(before, await read_environment_state(env))
            progress.log(
                f"rolled back in {rehearsal['rollback_seconds']} s, {len(rehearsal['differences'])} differences"
            )
            release = await _run_release(env, store, progress)
        rows = await _count_rows(env)
        await env.stop("load")
        return _build_report(env, rehearsal, release, rows) | {"doctor": doctor}


async def _rehearse_rollback(env: Environment, store: Store, progress: ProgressLog) -> dict[str, Any]:
    progress.log("rehearsal: to the end of cutover, then back")
    driver = ReleaseDriver(env, store, progress.log_record)
    await driver.start_release()
    for phase in REHEARSED_PHASES:
        await driver.run_phase(phase)
    seconds = await driver.roll_back()
    await env.stop("agent")
    return {"from": REHEARSED_PHASES[-1], "rollback_seconds": round(seconds, 2), "phases": driver.phase_seconds}


async def _run_release(env: Environment, store: Store, progress: ProgressLog) -> dict[str, Any]:
    progress.log("release: all six phases, with a pause and a kill of the agent in the backfill")
    driver = ReleaseDriver(env, store, progress.log_record)
    await driver.start_release()
    await driver.run_phase("expand")
    await driver.run_phase("dual-write")
    began = time.monotonic()
    await driver.start_phase("backfill")
    await driver.wait_for_backfill(0.15)
    pause = await driver.pause_and_resume()
    await driver.wait_for_backfill(0.45)
    kill = await driver.kill_agent()
    await driver.wait_for_phase("backfill")
    driver.phase_seconds["backfill"] = round(time.monotonic() - began, 2)
    backfill = (await driver.read_record()).backfill
    assert backfill is not None
    for phase in PHASES[3:]:
        await driver.run_phase(phase)
    return {
        "phases": driver.phase_seconds,
        "pause": pause,
        "agent_killed": kill,
        "backfill": {
            "rows": backfill.rows_done,
            "rows_per_second": round(backfill.rows_done / backfill.seconds, 1) if backfill.seconds else None,
            "batches": backfill.batches,
            "failed_rows": backfill.failed_rows,
        },
        "verified_rows": backfill.verified_rows,
        "mismatches": backfill.mismatches,
    }


async def _count_rows(env: Environment) -> int:
    connection = await asyncpg.connect(env.postgres.dsn)
    try:
        table = "public.people" if env.options.kind == "table" else "public.users"
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608  one of our two names
    finally:
        await connection.close()


def _build_report(env: Environment, rehearsal: dict[str, Any], release: dict[str, Any], rows: int) -> dict[str, Any]:
    load = env.read_load_report()
    good = (
        load["failures"] == load["wrong"] == 0
        and release["mismatches"] == 0
        and not rehearsal["differences"]
        and release["pause"]["rows_moved_while_paused"] == 0
    )
    return {
        "ok": good,
        "kind": env.options.kind,
        "dual_write": env.options.mode,
        "rows": rows,
        **load_summary(load),
        "rows_per_second": release["backfill"]["rows_per_second"],
        "verified_rows": release["verified_rows"],
        "mismatches": release["mismatches"],
        "release": release,
        "rollback_rehearsal": rehearsal,
    }


def format_schema_report(report: dict[str, Any]) -> str:
    """The report for people."""
    release = report["release"]
    lines = [
        "",
        f"{'✔' if report['ok'] else '✗'} release of {report['rows']:,} rows, {report['kind']} kind,"
        f" dual writing by {report['dual_write']}",
        *load_report_lines(report),
        f"  backfill       {report['rows_per_second']:,} rows/s",
        f"  verified       {report['verified_rows']:,} rows, {report['mismatches']} mismatches",
        f"  paused         {release['pause']['rows_moved_while_paused']} rows moved while paused",
        f"  agent killed   replaced after {release['agent_killed']['takeover_seconds']} s",
        *rollback_and_phase_lines(report),
    ]
    return "\n".join(lines) + "\n"


def run_headless(folder: Path, options: DemoOptions, *, as_json: bool, fault: str | None = None) -> int:
    """Runs it and prints the report; 0 only when nothing failed, nothing was wrong and nothing differs.

    Args:
        fault: what breaks in the new version; then 0 only when the guard has brought the old behaviour back.
    """
    if fault is not None:
        report = asyncio.run(run_fault_injection(folder, options, fault))
        text = inject_text(report)
    elif options.has_wrong_results:
        report = asyncio.run(run_dark_launch_mismatch(folder, options))
        text = dark_text(report)
    elif options.regions:
        report = asyncio.run(run_regions(folder, options))
        text = regions_text(report)
    elif options.strategy == EXPAND_CONTRACT:
        report = asyncio.run(run_schema_release(folder, options))
        text = format_schema_report(report)
    else:
        report = asyncio.run(run_strategy_release(folder, options))
        text = strategy_text(report)
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if as_json else text)
    return 0 if report["ok"] else 1

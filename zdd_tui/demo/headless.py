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
from zdd_tui.demo.doctor_check import check_up
from zdd_tui.demo.environment import EXPAND_CONTRACT, Environment, Options, environment
from zdd_tui.demo.headless_dark import as_text as dark_text
from zdd_tui.demo.headless_dark import headless_dark
from zdd_tui.demo.headless_inject import as_text as inject_text
from zdd_tui.demo.headless_inject import headless_inject
from zdd_tui.demo.headless_regions import as_text as regions_text
from zdd_tui.demo.headless_regions import headless_regions
from zdd_tui.demo.headless_strategy import as_text as strategy_text
from zdd_tui.demo.headless_strategy import headless_strategy
from zdd_tui.demo.release_driver import Ticker, Walker
from zdd_tui.demo.report_lines import closing_lines, load_figures, load_lines
from zdd_tui.demo.state_snapshot import differences, take

PHASES = ("expand", "dual-write", "backfill", "cutover", "contract", "cleanup")
REHEARSED = PHASES[:4]


async def headless(folder: Path, options: Options) -> dict[str, Any]:
    """Walks it and returns the report; progress goes to stderr."""
    ticker = Ticker()
    async with environment(folder, options, ticker.say) as env:
        # The `zdd` schema goes with the first release's agent, not with a rollback; it must be there to compare.
        async with await Store.open(env.postgres.dsn, application_name="zdd demo") as store:
            await store.migrate()
            doctor = await check_up(env, ticker)
            before = await take(env)
            rehearsal = await _rehearse(env, store, ticker)
            rehearsal["differences"] = differences(before, await take(env))
            ticker.say(f"rolled back in {rehearsal['rollback_seconds']} s, {len(rehearsal['differences'])} differences")
            release = await _release(env, store, ticker)
        rows = await _rows(env)
        await env.end("load")
        return _report(env, rehearsal, release, rows) | {"doctor": doctor}


async def _rehearse(env: Environment, store: Store, ticker: Ticker) -> dict[str, Any]:
    ticker.say("rehearsal: to the end of cutover, then back")
    walker = Walker(env, store, ticker.show)
    await walker.begin()
    for phase in REHEARSED:
        await walker.advance(phase)
    seconds = await walker.rollback()
    await env.end("agent")
    return {"from": REHEARSED[-1], "rollback_seconds": round(seconds, 2), "phases": walker.phases}


async def _release(env: Environment, store: Store, ticker: Ticker) -> dict[str, Any]:
    ticker.say("release: all six phases, with a pause and a kill of the agent in the backfill")
    walker = Walker(env, store, ticker.show)
    await walker.begin()
    await walker.advance("expand")
    await walker.advance("dual-write")
    began = time.monotonic()
    await walker.enter("backfill")
    await walker.rows_moved(0.15)
    pause = await walker.pause_and_resume()
    await walker.rows_moved(0.45)
    kill = await walker.kill_agent()
    await walker.settle("backfill")
    walker.phases["backfill"] = round(time.monotonic() - began, 2)
    backfill = (await walker.record()).backfill
    assert backfill is not None
    for phase in PHASES[3:]:
        await walker.advance(phase)
    return {
        "phases": walker.phases,
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


async def _rows(env: Environment) -> int:
    connection = await asyncpg.connect(env.postgres.dsn)
    try:
        table = "public.people" if env.options.kind == "table" else "public.users"
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608  one of our two names
    finally:
        await connection.close()


def _report(env: Environment, rehearsal: dict[str, Any], release: dict[str, Any], rows: int) -> dict[str, Any]:
    load = env.load()
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
        **load_figures(load),
        "rows_per_second": release["backfill"]["rows_per_second"],
        "verified_rows": release["verified_rows"],
        "mismatches": release["mismatches"],
        "release": release,
        "rollback_rehearsal": rehearsal,
    }


def as_text(report: dict[str, Any]) -> str:
    """The report for people."""
    release = report["release"]
    lines = [
        "",
        f"{'✔' if report['ok'] else '✗'} release of {report['rows']:,} rows, {report['kind']} kind,"
        f" dual writing by {report['dual_write']}",
        *load_lines(report),
        f"  backfill       {report['rows_per_second']:,} rows/s",
        f"  verified       {report['verified_rows']:,} rows, {report['mismatches']} mismatches",
        f"  paused         {release['pause']['rows_moved_while_paused']} rows moved while paused",
        f"  agent killed   replaced after {release['agent_killed']['takeover_seconds']} s",
        *closing_lines(report),
    ]
    return "\n".join(lines) + "\n"


def run_headless(folder: Path, options: Options, *, as_json: bool, fault: str | None = None) -> int:
    """Runs it and prints the report; 0 only when nothing failed, nothing was wrong and nothing differs.

    Args:
        fault: what breaks in the new version; then 0 only when the guard has brought the old behaviour back.
    """
    if fault is not None:
        report = asyncio.run(headless_inject(folder, options, fault))
        text = inject_text(report)
    elif options.mistaken:
        report = asyncio.run(headless_dark(folder, options))
        text = dark_text(report)
    elif options.regions:
        report = asyncio.run(headless_regions(folder, options))
        text = regions_text(report)
    elif options.strategy == EXPAND_CONTRACT:
        report = asyncio.run(headless(folder, options))
        text = as_text(report)
    else:
        report = asyncio.run(headless_strategy(folder, options))
        text = strategy_text(report)
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if as_json else text)
    return 0 if report["ok"] else 1

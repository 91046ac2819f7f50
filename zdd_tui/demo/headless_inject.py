"""`zdd demo --inject FAULT --headless`: the new version breaks, the guard acts by itself, and a report says how fast.

The release walks to where V2 serves everything. After a while of health the fault is switched on; nobody touches a key.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

from zdd_tui.backends.store.client import Store
from zdd_tui.demo.environment import Environment, Options, environment
from zdd_tui.demo.release_driver import Ticker, Walker
from zdd_tui.model.errors import ZddError
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import State

HEALTHY_SECONDS = 8.0
"""So long does V2 serve before it breaks: the guard has a baseline, and says so."""

ACTS_WITHIN = 90.0
RECOVERS_WITHIN = 150.0

REDIS_AWAY_SECONDS = 12.0
"""Redis comes back after that: flags cannot be put back without it, so no rollback could end before."""


async def headless_inject(folder: Path, options: Options, fault: str) -> dict[str, Any]:
    """Walks it and returns the report; progress goes to stderr."""
    ticker = Ticker()
    async with environment(folder, options, ticker.say) as env:
        async with await Store.open(env.postgres.dsn, application_name="zdd demo") as store:
            walker = Walker(env, store, ticker.show)
            await walker.begin()
            await walker.advance("expand")
            await walker.advance("dual-write")
            await asyncio.sleep(HEALTHY_SECONDS)
            report = await _break(env, walker, ticker, fault)
        await env.end("load")
        load = env.load()
    report["requests"], report["wrong_answers"] = load["requests"], load["wrong"]
    report["ok"] = bool(report["cause"]) and report["state"] == State.ROLLED_BACK and load["wrong"] == 0
    return report


async def _break(env: Environment, walker: Walker, ticker: Ticker, fault: str) -> dict[str, Any]:
    before = env.load()
    ticker.say(f"fault: {fault}")
    env.inject_file.write_text(fault)
    began = time.monotonic()
    away = asyncio.create_task(_redis_away(env)) if fault == "redis-down" else None
    acted = await _until(walker, ticker, lambda record: bool(record.cause), ACTS_WITHIN)
    verdict = time.monotonic() - began
    ticker.say(f"the guard acts after {verdict:.1f} s: {acted.cause}")
    ended = await _until(
        walker,
        ticker,
        lambda record: record.release.state in (State.ROLLED_BACK, State.ROLLBACK_FAILED),
        RECOVERS_WITHIN,
    )
    recovered = time.monotonic() - began - verdict
    if away is not None:
        await away
    env.inject_file.unlink()
    after = env.load()
    return {
        "fault": fault,
        "cause": acted.cause,
        "state": str(ended.release.state),
        "seconds_to_verdict": round(verdict, 2),
        "seconds_from_verdict_to_old_behaviour": round(recovered, 2),
        "requests_during_fault": after["requests"] - before["requests"],
        "requests_failed": after["failures"] - before["failures"],
        "p99_ms_at_the_end": after["last_10s"]["p99_ms"],
    }


async def _redis_away(env: Environment) -> None:
    await env.redis.stop()
    await asyncio.sleep(REDIS_AWAY_SECONDS)
    await env.redis.restart()


async def _until(walker: Walker, ticker: Ticker, there: Any, within: float) -> ReleaseRecord:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        record = await walker.record()
        ticker.show(record)
        if there(record):
            return record
        await asyncio.sleep(0.1)
    raise ZddError(f"the guard did not get there within {within:.0f} s", "see the agent's log; --keep keeps it")


def as_text(report: dict[str, Any]) -> str:
    """The report for people."""
    return "\n".join(
        [
            "",
            f"{'✔' if report['ok'] else '✗'} fault {report['fault']}: {report['state']}",
            f"  cause           {report['cause']}",
            f"  verdict         {report['seconds_to_verdict']} s after the fault",
            f"  old behaviour   {report['seconds_from_verdict_to_old_behaviour']} s after the verdict",
            f"  requests hurt   {report['requests_failed']} of {report['requests_during_fault']} failed",
            f"  wrong answers   {report['wrong_answers']}",
            "",
        ]
    )

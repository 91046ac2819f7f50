"""`zdd demo --inject FAULT --headless`: the new version breaks, the guard acts by itself, and a report says how fast.

The release walks to where V2 serves everything. After a while of health the fault is switched on; nobody touches a key.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

from zdd_tui.backends.store.client import Store
from zdd_tui.demo.environment import DemoOptions, Environment, start_environment
from zdd_tui.demo.release_driver import ProgressLog, ReleaseDriver
from zdd_tui.model.errors import ZddError
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.release.state import ReleaseState

HEALTHY_SECONDS = 8.0
"""So long does V2 serve before it breaks: the guard has a baseline, and says so."""

GUARD_TIMEOUT = 90.0
RECOVERY_TIMEOUT = 150.0

REDIS_OUTAGE_SECONDS = 12.0
"""Redis comes back after that: flags cannot be put back without it, so no rollback could end before."""


async def run_fault_injection(folder: Path, options: DemoOptions, fault: str) -> dict[str, Any]:
    """Walks it and returns the report; progress goes to stderr."""
    progress = ProgressLog()
    async with start_environment(folder, options, progress.log) as env:
        async with await Store.open(env.postgres.dsn, application_name="zdd demo") as store:
            driver = ReleaseDriver(env, store, progress.log_record)
            await driver.start_release()
            await driver.run_phase("expand")
            await driver.run_phase("dual-write")
            await asyncio.sleep(HEALTHY_SECONDS)
            report = await _inject_fault(env, driver, progress, fault)
        await env.stop("load")
        load = env.read_load_report()
    report["requests"], report["wrong_answers"] = load["requests"], load["wrong"]
    report["ok"] = bool(report["cause"]) and report["state"] == ReleaseState.ROLLED_BACK and load["wrong"] == 0
    return report


async def _inject_fault(env: Environment, driver: ReleaseDriver, progress: ProgressLog, fault: str) -> dict[str, Any]:
    before = env.read_load_report()
    progress.log(f"fault: {fault}")
    env.fault_file.write_text(fault)
    began = time.monotonic()
    away = asyncio.create_task(_stop_redis_for_a_while(env)) if fault == "redis-down" else None
    acted = await _wait_until(driver, progress, lambda record: bool(record.cause), GUARD_TIMEOUT)
    verdict = time.monotonic() - began
    progress.log(f"the guard acts after {verdict:.1f} s: {acted.cause}")
    ended = await _wait_until(
        driver,
        progress,
        lambda record: record.release.state in (ReleaseState.ROLLED_BACK, ReleaseState.ROLLBACK_FAILED),
        RECOVERY_TIMEOUT,
    )
    recovered = time.monotonic() - began - verdict
    if away is not None:
        await away
    env.fault_file.unlink()
    after = env.read_load_report()
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


async def _stop_redis_for_a_while(env: Environment) -> None:
    await env.redis.stop()
    await asyncio.sleep(REDIS_OUTAGE_SECONDS)
    await env.redis.restart()


async def _wait_until(driver: ReleaseDriver, progress: ProgressLog, is_reached: Any, within: float) -> ReleaseRecord:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        record = await driver.read_record()
        progress.log_record(record)
        if is_reached(record):
            return record
        await asyncio.sleep(0.1)
    raise ZddError(f"the guard did not get there within {within:.0f} s", "see the agent's log; --keep keeps it")


def format_fault_report(report: dict[str, Any]) -> str:
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

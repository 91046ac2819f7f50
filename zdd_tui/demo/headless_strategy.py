"""`zdd demo --strategy NAME --headless` for the strategies that leave the schema alone.

First a rehearsal: every phase but the last, then back. Then the release itself, whose agent is killed in its second
phase. The load never stops.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

from zdd_tui.backends.store.client import Store
from zdd_tui.demo.doctor_check import run_doctor_check
from zdd_tui.demo.environment import DemoOptions, Environment, start_environment
from zdd_tui.demo.release_driver import ProgressLog, ReleaseDriver
from zdd_tui.demo.report_lines import load_report_lines, load_summary, rollback_and_phase_lines
from zdd_tui.demo.state_snapshot import EnvironmentState, describe_differences, read_environment_state


async def run_strategy_release(folder: Path, options: DemoOptions) -> dict[str, Any]:
    """Walks it and returns the report; progress goes to stderr."""
    progress = ProgressLog()
    async with start_environment(folder, options, progress.log) as env:
        async with await Store.open(env.postgres.dsn, application_name="zdd demo") as store:
            await store.migrate()
            doctor = await run_doctor_check(env, progress)
            before = await read_environment_state(env)
            rehearsal = await _rehearse_rollback(env, store, progress, before)
            release = await _run_release(env, store, progress)
            after = await read_environment_state(env)
        await env.stop("load")
        return _strategy_report(env, rehearsal, release, after) | {"doctor": doctor}


async def _rehearse_rollback(
    env: Environment, store: Store, progress: ProgressLog, before: EnvironmentState
) -> dict[str, Any]:
    driver = ReleaseDriver(env, store, progress.log_record)
    await driver.start_release()
    phases = (await driver.phase_names())[:-1]
    progress.log(f"rehearsal: to the end of {phases[-1]}, then back")
    for phase in phases:
        await driver.run_phase(phase)
    seconds = round(await driver.roll_back(), 2)
    await env.stop("agent")
    found = describe_differences(before, await read_environment_state(env))
    progress.log(f"rolled back in {seconds} s, {len(found)} differences")
    return {"from": phases[-1], "rollback_seconds": seconds, "phases": driver.phase_seconds, "differences": found}


async def _run_release(env: Environment, store: Store, progress: ProgressLog) -> dict[str, Any]:
    driver = ReleaseDriver(env, store, progress.log_record)
    await driver.start_release()
    first, second, *others = await driver.phase_names()
    progress.log(f"release: every phase, the agent is killed in {second}")
    await driver.run_phase(first)
    shared = [await _measure_route_shares(env, first)]
    began = time.monotonic()
    await driver.start_phase(second)
    _, _, takeover = await driver.replace_agent()
    await driver.wait_for_phase(second)
    driver.phase_seconds[second] = round(time.monotonic() - began, 2)
    shared.append(await _measure_route_shares(env, second))
    for phase in others:
        await driver.run_phase(phase)
        shared.append(await _measure_route_shares(env, phase))
    killed = {"in": second, "takeover_seconds": takeover}
    return {"phases": driver.phase_seconds, "agent_killed": killed, "shared": [each for each in shared if each]}


ROUTE_SAMPLE_SECONDS = 3.0
"""Some hundred requests: enough to see a weight."""


async def _measure_route_shares(env: Environment, phase: str) -> dict[str, Any]:
    """How many requests an HTTPRoute sends where, once the phase's weight is held; nothing without a route."""
    if not env.options.uses_gateway:
        return {}
    before = env.read_load_report()["services"]
    await asyncio.sleep(ROUTE_SAMPLE_SECONDS)
    after = env.read_load_report()["services"]
    return {"after": phase} | {name: count - before.get(name, 0) for name, count in sorted(after.items())}


def _strategy_report(
    env: Environment, rehearsal: dict[str, Any], release: dict[str, Any], after: EnvironmentState
) -> dict[str, Any]:
    load = env.read_load_report()
    return {
        "ok": load["failures"] == load["wrong"] == 0 and not rehearsal["differences"],
        "strategy": env.options.strategy,
        **load_summary(load),
        "image": after.image,
        "pods": list(after.pods),
        "release": release,
        "rollback_rehearsal": rehearsal,
    }


def format_strategy_report(report: dict[str, Any]) -> str:
    """The report for people."""
    release = report["release"]
    killed = release["agent_killed"]
    lines = [
        "",
        f"{'✔' if report['ok'] else '✗'} {report['strategy']} release: {len(report['pods'])} pods of {report['image']}",
        *load_report_lines(report),
        f"  agent killed   in {killed['in']}, replaced after {killed['takeover_seconds']} s",
        *(f"  shared         {_route_share_text(each)}" for each in release["shared"]),
        *rollback_and_phase_lines(report),
    ]
    return "\n".join(lines) + "\n"


def _route_share_text(shares: dict[str, Any]) -> str:
    counts = {name: count for name, count in shares.items() if name != "after"}
    total = sum(counts.values()) or 1
    parts = (f"{100 * count / total:.0f}% to {name}" for name, count in counts.items())
    return f"after {shares['after']}: of {total} requests " + ", ".join(parts)

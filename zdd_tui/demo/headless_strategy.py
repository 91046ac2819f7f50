"""`zdd demo --strategy NAME --headless` for the strategies that leave the schema alone.

First a rehearsal: every phase but the last, then back. Then the release itself, whose agent is killed in its second
phase. The load never stops.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

from zdd_tui.backends.store.client import Store
from zdd_tui.demo.doctor_check import check_up
from zdd_tui.demo.environment import Environment, Options, environment
from zdd_tui.demo.release_driver import Ticker, Walker
from zdd_tui.demo.report_lines import closing_lines, load_figures, load_lines
from zdd_tui.demo.state_snapshot import Likeness, differences, take


async def headless_strategy(folder: Path, options: Options) -> dict[str, Any]:
    """Walks it and returns the report; progress goes to stderr."""
    ticker = Ticker()
    async with environment(folder, options, ticker.say) as env:
        async with await Store.open(env.postgres.dsn, application_name="zdd demo") as store:
            await store.migrate()
            doctor = await check_up(env, ticker)
            before = await take(env)
            rehearsal = await _rehearse(env, store, ticker, before)
            release = await _release(env, store, ticker)
            after = await take(env)
        await env.end("load")
        return _report(env, rehearsal, release, after) | {"doctor": doctor}


async def _rehearse(env: Environment, store: Store, ticker: Ticker, before: Likeness) -> dict[str, Any]:
    walker = Walker(env, store, ticker.show)
    await walker.begin()
    phases = (await walker.phase_names())[:-1]
    ticker.say(f"rehearsal: to the end of {phases[-1]}, then back")
    for phase in phases:
        await walker.advance(phase)
    seconds = round(await walker.rollback(), 2)
    await env.end("agent")
    found = differences(before, await take(env))
    ticker.say(f"rolled back in {seconds} s, {len(found)} differences")
    return {"from": phases[-1], "rollback_seconds": seconds, "phases": walker.phases, "differences": found}


async def _release(env: Environment, store: Store, ticker: Ticker) -> dict[str, Any]:
    walker = Walker(env, store, ticker.show)
    await walker.begin()
    first, second, *others = await walker.phase_names()
    ticker.say(f"release: every phase, the agent is killed in {second}")
    await walker.advance(first)
    shared = [await _shared(env, first)]
    began = time.monotonic()
    await walker.enter(second)
    _, _, takeover = await walker.replace_agent()
    await walker.settle(second)
    walker.phases[second] = round(time.monotonic() - began, 2)
    shared.append(await _shared(env, second))
    for phase in others:
        await walker.advance(phase)
        shared.append(await _shared(env, phase))
    killed = {"in": second, "takeover_seconds": takeover}
    return {"phases": walker.phases, "agent_killed": killed, "shared": [each for each in shared if each]}


SHARED_SECONDS = 3.0
"""Some hundred requests: enough to see a weight."""


async def _shared(env: Environment, phase: str) -> dict[str, Any]:
    """How many requests an HTTPRoute sends where, once the phase's weight is held; nothing without a route."""
    if not env.options.routed:
        return {}
    before = env.load()["services"]
    await asyncio.sleep(SHARED_SECONDS)
    after = env.load()["services"]
    return {"after": phase} | {name: count - before.get(name, 0) for name, count in sorted(after.items())}


def _report(env: Environment, rehearsal: dict[str, Any], release: dict[str, Any], after: Likeness) -> dict[str, Any]:
    load = env.load()
    return {
        "ok": load["failures"] == load["wrong"] == 0 and not rehearsal["differences"],
        "strategy": env.options.strategy,
        **load_figures(load),
        "image": after.image,
        "pods": list(after.pods),
        "release": release,
        "rollback_rehearsal": rehearsal,
    }


def as_text(report: dict[str, Any]) -> str:
    """The report for people."""
    release = report["release"]
    killed = release["agent_killed"]
    lines = [
        "",
        f"{'✔' if report['ok'] else '✗'} {report['strategy']} release: {len(report['pods'])} pods of {report['image']}",
        *load_lines(report),
        f"  agent killed   in {killed['in']}, replaced after {killed['takeover_seconds']} s",
        *(f"  shared         {_told(each)}" for each in release["shared"]),
        *closing_lines(report),
    ]
    return "\n".join(lines) + "\n"


def _told(shared: dict[str, Any]) -> str:
    counts = {name: count for name, count in shared.items() if name != "after"}
    total = sum(counts.values()) or 1
    parts = (f"{100 * count / total:.0f}% to {name}" for name, count in counts.items())
    return f"after {shared['after']}: of {total} requests " + ", ".join(parts)

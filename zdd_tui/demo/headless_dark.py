"""`zdd demo --strategy dark-launch --inject mismatch --headless`: the new path is wrong, and its gate stays shut.

The release walks to where answers are compared. The gate must say so, the samples must tell which answers differ, and
the way back must leave everything as it was; no user may have seen a wrong answer.
"""

import time
from pathlib import Path
from typing import Any

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.shadow_logs import ShadowReader
from zdd_tui.backends.store.client import Store
from zdd_tui.demo.environment import Environment, Options, environment
from zdd_tui.demo.release_driver import Ticker, Walker
from zdd_tui.demo.sample.version4 import PATH
from zdd_tui.demo.state_snapshot import differences, take
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.shadow import ShadowSample, ShadowSamples

GATE = "shadow-agrees"


async def headless_dark(folder: Path, options: Options) -> dict[str, Any]:
    """Walks it and returns the report; progress goes to stderr."""
    ticker = Ticker()
    async with environment(folder, options, ticker.say) as env:
        async with await Store.open(env.postgres.dsn, application_name="zdd demo") as store:
            await store.migrate()
            before = await take(env)
            walker = Walker(env, store, ticker.show)
            await walker.begin()
            rollout, shadow, *_ = await walker.phase_names()
            await walker.advance(rollout)
            began = time.monotonic()
            await walker.enter(shadow)
            record = await walker.until(_refused)
            seconds = round(time.monotonic() - began, 2)
            reason = record.gates[GATE].reason
            ticker.say(f"{GATE}: {reason}")
            found = await samples(env)
            back = round(await walker.rollback(), 2)
            await env.end("agent")
            changed = differences(before, await take(env))
        await env.end("load")
        load = env.load()
    clean = load["failures"] == load["wrong"] == 0 and not changed
    return {
        "ok": clean and bool(found.samples),
        "strategy": options.strategy,
        "gate": reason,
        "seconds_to_verdict": seconds,
        "samples": [_told(sample) for sample in found.samples],
        "samples_not_shown": max(0, found.known - len(found.samples)),
        "rollback_seconds": back,
        "differences": changed,
        "requests": load["requests"],
        "failures": load["failures"],
        "wrong_answers": load["wrong"],
    }


async def samples(env: Environment) -> ShadowSamples:
    """Which answers differ, as the dashboard reads them."""
    reader = ShadowReader("users-api", "app", PATH)
    async with Cluster.connect(str(env.kubeconfig), None, "default") as cluster:
        return await reader.read(cluster)


def _refused(record: ReleaseRecord) -> bool:
    reading = record.gates.get(GATE)
    return reading is not None and reading.verdict is Verdict.FAIL


def _told(sample: ShadowSample) -> str:
    fields = "; ".join(f"{each.name} {each.old} -> {each.new} {each.how}".rstrip() for each in sample.fields)
    return f"{sample.pod} unit {sample.unit}: {fields or sample.what}"


def as_text(report: dict[str, Any]) -> str:
    """The report for people."""
    return "\n".join(
        [
            "",
            f"{'✔' if report['ok'] else '✗'} dark launch of a new path that is wrong",
            f"  gate            {report['gate']}",
            f"  verdict         {report['seconds_to_verdict']} s after the first comparison could run",
            *(f"  differs         {line}" for line in report["samples"][:5]),
            f"  rolled back     in {report['rollback_seconds']} s, {len(report['differences'])} differences",
            f"  users           {report['wrong_answers']} wrong answers and {report['failures']} failures"
            f" of {report['requests']} requests",
            "",
        ]
    )

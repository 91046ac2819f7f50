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
from zdd_tui.demo.environment import DemoOptions, Environment, start_environment
from zdd_tui.demo.release_driver import ProgressLog, ReleaseDriver
from zdd_tui.demo.sample.version4 import SHADOW_PATH
from zdd_tui.demo.state_snapshot import describe_differences, read_environment_state
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import ReleaseRecord
from zdd_tui.model.shadow import ShadowSample, ShadowSamples

MISMATCH_GATE = "shadow-agrees"


async def run_dark_launch_mismatch(folder: Path, options: DemoOptions) -> dict[str, Any]:
    """Walks it and returns the report; progress goes to stderr."""
    progress = ProgressLog()
    async with start_environment(folder, options, progress.log) as env:
        async with await Store.open(env.postgres.dsn, application_name="zdd demo") as store:
            await store.migrate()
            before = await read_environment_state(env)
            driver = ReleaseDriver(env, store, progress.log_record)
            await driver.start_release()
            rollout, shadow, *_ = await driver.phase_names()
            await driver.run_phase(rollout)
            began = time.monotonic()
            await driver.start_phase(shadow)
            record = await driver.wait_until(_refusals)
            seconds = round(time.monotonic() - began, 2)
            reason = record.gates[MISMATCH_GATE].reason
            progress.log(f"{MISMATCH_GATE}: {reason}")
            found = await read_shadow_samples(env)
            back = round(await driver.roll_back(), 2)
            await env.stop("agent")
            changed = describe_differences(before, await read_environment_state(env))
        await env.stop("load")
        load = env.read_load_report()
    clean = load["failures"] == load["wrong"] == 0 and not changed
    return {
        "ok": clean and bool(found.samples),
        "strategy": options.strategy,
        "gate": reason,
        "seconds_to_verdict": seconds,
        "samples": [_sample_text(sample) for sample in found.samples],
        "samples_not_shown": max(0, found.total_failures - len(found.samples)),
        "rollback_seconds": back,
        "differences": changed,
        "requests": load["requests"],
        "failures": load["failures"],
        "wrong_answers": load["wrong"],
    }


async def read_shadow_samples(env: Environment) -> ShadowSamples:
    """Which answers differ, as the dashboard reads them."""
    reader = ShadowReader("users-api", "app", SHADOW_PATH)
    async with Cluster.connect(str(env.kubeconfig), None, "default") as cluster:
        return await reader.read(cluster)


def _refusals(record: ReleaseRecord) -> bool:
    reading = record.gates.get(MISMATCH_GATE)
    return reading is not None and reading.verdict is Verdict.FAIL


def _sample_text(sample: ShadowSample) -> str:
    fields = "; ".join(f"{each.name} {each.old} -> {each.new} {each.difference}".rstrip() for each in sample.fields)
    return f"{sample.pod} unit {sample.unit}: {fields or sample.kind}"


def format_dark_launch_report(report: dict[str, Any]) -> str:
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

"""What `zdd demo --headless` can run: a table of scenarios, each with its steps and the lines of its report.

A scenario's report is JSON; :func:`load_summary` adds what the load counted, and ``ok`` decides the exit code.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.backends.kubernetes.shadow_logs import ShadowReader
from zdd_tui.backends.store.client import Store
from zdd_tui.cli.doctor import run_examination
from zdd_tui.cli.status import VERDICT_GLYPHS
from zdd_tui.demo import manifests
from zdd_tui.demo.data import open_connection
from zdd_tui.demo.environment import DemoOptions, Environment
from zdd_tui.demo.image_trials import run_image_trials
from zdd_tui.demo.plan import EXPAND_CONTRACT, REGION_SOAK
from zdd_tui.demo.release_driver import ProgressLog, ReleaseDriver
from zdd_tui.demo.sample.version4 import SHADOW_PATH
from zdd_tui.demo.state_snapshot import EnvironmentState, describe_differences, read_environment_state
from zdd_tui.model.doctor.facts import WORST_FIRST
from zdd_tui.model.duration import parse_duration
from zdd_tui.model.errors import ZddError
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.plan.registry import strategy_title
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.state import CommandKind, ReleaseState, closed_gates
from zdd_tui.model.shadow import ShadowSample

Report = dict[str, Any]
ReportLines = Iterator[tuple[str, str]]
"""Label and text."""

ROUTE_SAMPLE_SECONDS = 3.0
"""Some hundred requests: enough to measure a weight."""

HEALTHY_SECONDS = 8.0
"""V2 serves this long before it breaks, so that the guard has data of a healthy version."""

GUARD_TIMEOUT = 90.0
RECOVERY_TIMEOUT = 150.0

REDIS_OUTAGE_SECONDS = 12.0
"""Redis returns after this: without it no rollback can restore the flags."""

MISMATCH_GATE = "shadow-agrees"


@dataclass(frozen=True, slots=True)
class Production:
    """A running production on which a scenario drives releases."""

    env: Environment
    store: Store
    progress: ProgressLog

    async def start_release(self) -> ReleaseDriver:
        driver = ReleaseDriver(self.env, self.store, self.progress.log_record)
        await driver.start_release()
        return driver

    async def roll_back(self, driver: ReleaseDriver, before: EnvironmentState) -> Report:
        """Rolls the release back and compares the environment with its state before the release."""
        seconds = round(await driver.roll_back(), 2)
        await self.env.stop("agent")
        differences = describe_differences(before, await read_environment_state(self.env))
        self.progress.log(f"rolled back in {seconds} s, {len(differences)} differences")
        return {"rollback_seconds": seconds, "differences": differences}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One headless run.

    Attributes:
        is_requested: the options request it; of several, the first in the table runs.
        run: drives releases on the productions, one for each region, and returns its part of the report. Its ``ok``
            says whether they went as they must.
        title, lines: the report for a terminal.
        breaks_requests: failed requests are expected, wrong results are not.
    """

    is_requested: Callable[[DemoOptions], bool]
    run: Callable[[Sequence[Production]], Awaitable[Report]]
    title: Callable[[Report], str]
    lines: Callable[[Report], ReportLines]
    breaks_requests: bool = False


def choose_scenario(options: DemoOptions) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.is_requested(options))


def load_summary(load: Report) -> Report:
    """A report's part of what the load counted, see :mod:`zdd_tui.demo.load.stats`; times in ms and seconds."""
    return {
        "requests": load["requests"],
        "failures": load["failures"],
        "failure_samples": load["failure_samples"][:5],
        "wrong_results": load["wrong"],
        "wrong_samples": load["wrong_samples"][:5],
        "p50_ms": load["total"]["p50_ms"],
        "p99_ms": load["total"]["p99_ms"],
        "load_seconds": load["seconds"],
    }


def _load_lines(report: Report) -> ReportLines:
    yield "requests", f"{report['requests']:,}"
    yield "failures", f"{report['failures']}"
    yield "wrong results", f"{report['wrong_results']}"
    yield "p50 / p99", f"{report['p50_ms']} / {report['p99_ms']} ms"
    yield from (("✗ failed", str(sample)) for sample in report["failure_samples"])
    yield from (("✗ wrong", str(sample)) for sample in report["wrong_samples"])


def _phase_text(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value} s" for name, value in seconds.items())


# A release of any strategy: the doctor, a rehearsed rollback, then every phase, with the agent killed on the way.


async def _run_release(productions: Sequence[Production]) -> Report:
    (production,) = productions
    env, log = production.env, production.progress.log
    changes_schema = env.options.changes_schema
    doctor = await _run_doctor(production)
    before = await read_environment_state(env)

    driver = await production.start_release()
    phases = await driver.phase_names()
    # At the end of cutover V3 writes only the new side: the rollback with the most to restore.
    last_rehearsed = "cutover" if changes_schema else phases[-2]
    log(f"rehearsal: to the end of {last_rehearsed}, then back")
    for phase in phases[: phases.index(last_rehearsed) + 1]:
        await driver.run_phase(phase)
    rehearsal = {"from": last_rehearsed, "phases": driver.phase_seconds, **await production.roll_back(driver, before)}

    interrupted = "backfill" if changes_schema else phases[1]
    log(f"release: all {len(phases)} phases; the agent is killed in {interrupted}")
    driver = await production.start_release()
    interruptions: Report = {}
    route_shares: list[Report] = []
    for phase in phases:
        if phase == interrupted:
            interruptions = await _run_interrupted_phase(driver, phase)
        else:
            await driver.run_phase(phase)
        if env.options.uses_gateway:
            route_shares.append(await _measure_route_shares(env, phase))

    release: Report = {"phases": driver.phase_seconds, **interruptions}
    strategy = EXPAND_CONTRACT if env.options.migration else env.options.strategy
    report: Report = {"strategy": strategy, "release": release, "rollback_rehearsal": rehearsal}
    ok = not rehearsal["differences"]
    if changes_schema:
        release |= await _backfill_report(driver)
        report |= {"kind": env.options.kind, "dual_write": env.options.mode, "rows": await _count_rows(env)}
        report |= {name: release[name] for name in ("verified_rows", "mismatches")}
        report["rows_per_second"] = release["backfill"]["rows_per_second"]
        ok = ok and release["mismatches"] == 0 and release["pause"]["rows_moved_while_paused"] == 0
    else:
        after = await read_environment_state(env)
        release["route_shares"] = route_shares
        report |= {"image": after.image, "pods": list(after.pods)}
    return {"ok": ok, **report, "doctor": doctor}


async def _run_interrupted_phase(driver: ReleaseDriver, phase: str) -> Report:
    """Kills the agent in a phase; in a backfill also pauses and resumes it before."""
    interruptions: Report = {}
    began = time.monotonic()
    await driver.start_phase(phase)
    if phase == "backfill":
        await driver.wait_for_backfill(0.15)
        interruptions["pause"] = await driver.pause_and_resume()
        await driver.wait_for_backfill(0.45)
    interruptions["agent_killed"] = {"in": phase, **await driver.kill_agent()}
    await driver.wait_for_phase(phase)
    driver.phase_seconds[phase] = round(time.monotonic() - began, 2)
    return interruptions


async def _backfill_report(driver: ReleaseDriver) -> Report:
    backfill = (await driver.read_record()).backfill
    assert backfill is not None
    return {
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
    table = "public.people" if env.options.kind == "table" else "public.users"
    async with open_connection(env.postgres.dsn) as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608  one of two constants


async def _measure_route_shares(env: Environment, phase: str) -> Report:
    """Requests by Service while the phase's weight is held."""
    before = env.read_load_report()["services"]
    await asyncio.sleep(ROUTE_SAMPLE_SECONDS)
    after = env.read_load_report()["services"]
    return {"after": phase} | {name: count - before.get(name, 0) for name, count in sorted(after.items())}


async def _run_doctor(production: Production) -> Report:
    """Runs `zdd doctor` after a trial of each image.

    Returns:
        counts: findings by verdict, the worst first.
        open: a line for each finding that fails or is unknown, with its evidence.
        findings: the verdict of each, by its id; pitfalls, then the checklist.
    """
    env = production.env
    production.progress.log("doctor: each image runs without its database, then plan and systems are examined")
    await run_image_trials(env)
    text = await asyncio.to_thread(env.plan_file.read_text)
    examination = await run_examination(load_plan(text, source=str(env.plan_file), environment=env.environ))
    counts = Counter(examination.verdicts)
    findings = [*examination.pitfalls, *examination.checklist]
    return {
        "counts": {str(verdict): counts[verdict] for verdict in WORST_FIRST if counts[verdict]},
        "open": [
            f"{VERDICT_GLYPHS[finding.verdict]} {finding.title}: {finding.deciding_observation.text}"
            for finding in findings
            if finding.verdict in (Verdict.FAIL, Verdict.UNKNOWN)
        ],
        "findings": {finding.id: str(finding.verdict) for finding in findings},
    }


def _release_title(report: Report) -> str:
    if "rows" in report:
        return f"release of {report['rows']:,} rows, {report['kind']} kind, dual writing by {report['dual_write']}"
    return f"{strategy_title(report['strategy'])} release: {len(report['pods'])} pods of {report['image']}"


def _release_lines(report: Report) -> ReportLines:
    release, rehearsal, doctor = report["release"], report["rollback_rehearsal"], report["doctor"]
    yield from _load_lines(report)
    if "rows" in report:
        yield "backfill", f"{report['rows_per_second']:,} rows/s"
        yield "verified", f"{report['verified_rows']:,} rows, {report['mismatches']} mismatches"
        yield "paused", f"{release['pause']['rows_moved_while_paused']} rows moved while paused"
    killed = release["agent_killed"]
    yield "agent killed", f"in {killed['in']}, replaced after {killed['takeover_seconds']} s"
    for shares in release.get("route_shares", ()):
        counts = {name: count for name, count in shares.items() if name != "after"}
        total = sum(counts.values()) or 1
        parts = ", ".join(f"{100 * count / total:.0f}% to {name}" for name, count in counts.items())
        yield "route", f"after {shares['after']}: of {total} requests {parts}"
    yield (
        "rollback",
        f"from {rehearsal['from']} in {rehearsal['rollback_seconds']} s, {len(rehearsal['differences'])} differences",
    )
    yield from (("✗ differs", difference) for difference in rehearsal["differences"])
    yield "phases", _phase_text(release["phases"])
    yield "doctor", ", ".join(f"{number} {verdict}" for verdict, number in doctor["counts"].items())
    yield from (("", line) for line in doctor["open"])


# A fault in V2 once it serves everything: the guard must roll back without a command.


async def _run_fault(productions: Sequence[Production]) -> Report:
    (production,) = productions
    env, log = production.env, production.progress.log
    driver = await production.start_release()
    await driver.run_phase("expand")
    await driver.run_phase("dual-write")
    await asyncio.sleep(HEALTHY_SECONDS)

    before = env.read_load_report()
    log(f"fault: {env.options.fault}")
    env.fault_file.write_text(env.options.fault)
    began = time.monotonic()
    outage = asyncio.create_task(_stop_redis(env)) if env.options.fault == "redis-down" else None
    cause = (await driver.wait_until(lambda record: bool(record.cause), GUARD_TIMEOUT)).cause
    to_verdict = time.monotonic() - began
    log(f"the guard rolls back after {to_verdict:.1f} s: {cause}")
    ended = await driver.wait_until(
        lambda record: record.release.state in (ReleaseState.ROLLED_BACK, ReleaseState.ROLLBACK_FAILED),
        RECOVERY_TIMEOUT,
    )
    recovery = time.monotonic() - began - to_verdict
    if outage is not None:
        await outage
    env.fault_file.unlink()
    after = env.read_load_report()
    return {
        "ok": ended.release.state is ReleaseState.ROLLED_BACK,
        "fault": env.options.fault,
        "cause": cause,
        "state": str(ended.release.state),
        "seconds_to_verdict": round(to_verdict, 2),
        "recovery_seconds": round(recovery, 2),
        "requests_during_fault": after["requests"] - before["requests"],
        "requests_failed": after["failures"] - before["failures"],
        "p99_ms_at_the_end": after["last_10s"]["p99_ms"],
    }


async def _stop_redis(env: Environment) -> None:
    await env.redis.stop()
    await asyncio.sleep(REDIS_OUTAGE_SECONDS)
    await env.redis.restart()


def _fault_lines(report: Report) -> ReportLines:
    yield "cause", report["cause"]
    yield "verdict", f"{report['seconds_to_verdict']} s after the fault"
    yield "recovery", f"{report['recovery_seconds']} s after the verdict"
    yield "requests failed", f"{report['requests_failed']} of {report['requests_during_fault']}"
    yield "wrong results", f"{report['wrong_results']}"


# A dark launch whose new path is wrong: its gate must fail, and no user may get a wrong result.


async def _run_mismatch(productions: Sequence[Production]) -> Report:
    (production,) = productions
    env = production.env
    before = await read_environment_state(env)
    driver = await production.start_release()
    rollout, shadow, *_ = await driver.phase_names()
    await driver.run_phase(rollout)
    began = time.monotonic()
    await driver.start_phase(shadow)
    record = await driver.wait_until(
        lambda record: (gate := record.gates.get(MISMATCH_GATE)) is not None and gate.verdict is Verdict.FAIL
    )
    seconds = round(time.monotonic() - began, 2)
    reason = record.gates[MISMATCH_GATE].reason
    production.progress.log(f"{MISMATCH_GATE}: {reason}")
    async with Cluster.connect(str(env.kubeconfig), None, "default") as cluster:
        shadows = await ShadowReader(manifests.NAME, manifests.CONTAINER, SHADOW_PATH).read(cluster)
    rollback = await production.roll_back(driver, before)
    return {
        "ok": bool(shadows.samples) and not rollback["differences"],
        "strategy": env.options.strategy,
        "gate": reason,
        "seconds_to_verdict": seconds,
        "samples": [_sample_text(sample) for sample in shadows.samples],
        "samples_not_shown": max(0, shadows.total_failures - len(shadows.samples)),
        **rollback,
    }


def _sample_text(sample: ShadowSample) -> str:
    fields = "; ".join(
        f"{field.name} {field.old} -> {field.new} {field.difference}".rstrip() for field in sample.fields
    )
    return f"{sample.pod} unit {sample.unit}: {fields or sample.kind}"


def _mismatch_lines(report: Report) -> ReportLines:
    yield "gate", report["gate"]
    yield "verdict", f"{report['seconds_to_verdict']} s after the first comparison could run"
    yield from (("mismatch", line) for line in report["samples"][:5])
    yield "rolled back", f"in {report['rollback_seconds']} s, {len(report['differences'])} differences"
    yield from (("✗ differs", difference) for difference in report["differences"])
    yield from _load_lines(report)


# One release through several regions: a later region must refuse to begin before the one before it is done and soaked.


async def _run_regions(productions: Sequence[Production]) -> Report:
    soak = parse_duration(REGION_SOAK)
    drivers = [await production.start_release() for production in productions]
    refusals = [[] if number == 0 else [await _refusal_reason(driver)] for number, driver in enumerate(drivers)]
    regions: list[Report] = []
    finished_at = 0.0
    for number, (production, driver) in enumerate(zip(productions, drivers, strict=True)):
        log, region = production.progress.log, production.env.options.region
        gap = 0.0
        if number:
            refusals[number].append(await _refusal_reason(driver))
            log(f"region {region} waits: {refusals[number][-1]}")
            await driver.wait_until(lambda record: not closed_gates(record.release, record.gates, record.now))
            gap = time.time() - finished_at
        log(f"region {region}: every phase")
        result = await _run_region(driver)
        regions.append(result | {"refused": refusals[number], "began_after": round(gap, 2)})
        finished_at = (await driver.read_record()).finished_at or 0.0
    complete = all(region["state"] == "done" and not region["mismatches"] for region in regions)
    in_order = all(len(region["refused"]) == 2 and region["began_after"] >= soak for region in regions[1:])
    return {
        "ok": complete and in_order,
        "strategy": productions[0].env.options.strategy,
        "region_soak_seconds": soak,
        "regions": regions,
    }


async def _refusal_reason(driver: ReleaseDriver) -> str:
    """Why the region may not begin.

    Raises:
        ZddError: it began.
    """
    release = (await driver.read_record()).release
    answer = await driver.send_command(CommandKind.ADVANCE, typed=release.name)
    if answer.status != "refused":
        raise ZddError(f"a later region was not refused: {answer.status}, {answer.outcome}")
    return answer.outcome.splitlines()[0]


async def _run_region(driver: ReleaseDriver) -> Report:
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


def _regions_title(report: Report) -> str:
    return f"{strategy_title(report['strategy'])} release of {', then '.join(r['region'] for r in report['regions'])}"


def _regions_lines(report: Report) -> ReportLines:
    for region in report["regions"]:
        yield f"region {region['region']}", f"{region['state']} in {region['seconds']} s"
        yield from _load_lines(region)
        if region["verified_rows"] is not None:
            yield "verified", f"{region['verified_rows']:,} rows, {region['mismatches']} mismatches"
        yield from (("refused", reason) for reason in region["refused"])
        if region["refused"]:
            yield "began", f"{region['began_after']} s after the region before it was done"
        yield "phases", _phase_text(region["phases"])


SCENARIOS = (
    Scenario(
        is_requested=lambda options: bool(options.fault),
        run=_run_fault,
        title=lambda report: f"fault {report['fault']}: {report['state']}",
        lines=_fault_lines,
        breaks_requests=True,
    ),
    Scenario(
        is_requested=lambda options: options.has_wrong_results,
        run=_run_mismatch,
        title=lambda _: "Dark launch of a new path that returns different results",
        lines=_mismatch_lines,
    ),
    Scenario(
        is_requested=lambda options: bool(options.regions),
        run=_run_regions,
        title=_regions_title,
        lines=_regions_lines,
    ),
    Scenario(is_requested=lambda _: True, run=_run_release, title=_release_title, lines=_release_lines),
)

"""`zdd doctor`: reads facts from every system in parallel and examines them. Only `--answer` stores anything."""

import asyncio
import json
import time
from collections.abc import Awaitable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TextIO, TypeVar

from zdd_tui.backends.dns import read_ttls
from zdd_tui.backends.git import read_file_state
from zdd_tui.backends.kubernetes.doctor import read_cluster
from zdd_tui.backends.postgres.connection import CONNECTION_ERRORS, connect, translate_error
from zdd_tui.backends.postgres.query_stats import read_old_queries
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.backends.store.evidence import add_evidence, read_history
from zdd_tui.checks.migrations import read_migration_facts
from zdd_tui.checks.plan import check_plan
from zdd_tui.cli.commands import open_store
from zdd_tui.cli.measurement import lock_measurement
from zdd_tui.cli.status import VERDICT_GLYPHS
from zdd_tui.model.doctor import CHECKLIST, DoctorFacts, Fact, Finding, Report, examine_facts
from zdd_tui.model.doctor.facts import Evidence, QueryFacts, ReleaseHistory, TrafficFacts, WorkloadFacts
from zdd_tui.model.errors import DatabaseError, Refused, ZddError
from zdd_tui.model.plan.base import BasePlan, Plan, WorkloadPlan
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import Actor

T = TypeVar("T")


async def run_examination(loaded: LoadedPlan) -> Report:
    """Runs every rule. An unreachable system makes its part unknown and raises nothing."""
    plan = loaded.plan
    (history, queries), (workload, traffic), flags, names, file, (migrations, refusals) = await asyncio.gather(
        _read_database_facts(plan),
        _read_cluster_facts(plan),
        _read_flags(plan),
        read_ttls(plan.dns),
        read_file_state(Path(loaded.source)),
        asyncio.gather(read_migration_facts(loaded, lock_measurement(only_opaque=True)), _read_refusals(loaded)),
    )
    return examine_facts(
        DoctorFacts(
            plan=plan,
            plan_hash=loaded.hash,
            now=time.time(),
            workload=workload,
            traffic=traffic,
            queries=queries,
            history=history,
            flags=flags,
            names=names,
            file=file,
            refusals=refusals,
            migrations=migrations,
        )
    )


async def record_answer(loaded: LoadedPlan, item_id: str, reason: str, actor: Actor) -> None:
    """Stores a person's answer to a checklist item that no evidence can prove.

    Raises:
        Refused: there is no such item, only evidence can prove it, or there is no reason.
        DatabaseError: it cannot be stored.
    """
    item = next((candidate for candidate in CHECKLIST if candidate.id == item_id), None)
    answerable = [candidate.id for candidate in CHECKLIST if candidate.question]
    if item is None:
        near = get_close_matches(item_id, answerable, 1)
        hint = f"did you mean {near[0]}?" if near else f"use one of: {', '.join(answerable)}"
        raise Refused(f"--answer {item_id}: the checklist has no such item", hint)
    if not item.question:
        raise Refused(
            f"--answer {item_id}: {item.title} is proven by evidence only, not by an answer",
            f"run `zdd doctor {loaded.command_line_name}` and follow its hints",
        )
    if not reason.strip():
        raise Refused(f"--answer {item_id}: no reason was given", f"add --reason TEXT, which answers: {item.question}")
    answer = Evidence(item_id, "person", Verdict.PASS, " ".join(reason.split()), str(actor), 0.0)
    await store_evidence(loaded, actor, [answer])


async def store_evidence(loaded: LoadedPlan, actor: Actor, evidence: list[Evidence]) -> None:
    """Stores evidence; creates the `zdd` schema where it is missing.

    Raises:
        DatabaseError: it cannot be stored.
    """
    database = loaded.plan.database
    dsn = database.dsn.get_secret_value()
    async with await open_store(loaded, "zdd doctor") as store:
        await store.migrate()
    conn = await connect(dsn, application_name="zdd doctor", timeout=database.connect_timeout)
    try:
        await add_evidence(conn, loaded.plan, loaded.hash, actor, evidence)
    except CONNECTION_ERRORS as error:
        raise translate_error(error, dsn) from None
    finally:
        conn.terminate()


async def _read_database_facts(plan: BasePlan) -> tuple[Fact[ReleaseHistory], Fact[QueryFacts]]:
    dsn = plan.database.dsn.get_secret_value()
    try:
        conn = await connect(dsn, application_name="zdd doctor", timeout=plan.database.connect_timeout)
    except DatabaseError as error:
        return Fact(None, error.title, error.hint), Fact(None, error.title, error.hint)
    try:
        history = await _read_fact(read_history(conn, plan), dsn)
        if not isinstance(plan, Plan):
            return history, Fact(QueryFacts(()))  # of operations the gate removed-unused reads them
        since = history.value.cutover_at if history.value else None
        return history, await _read_fact(read_old_queries(conn, plan, since=since), dsn)
    finally:
        conn.terminate()


async def _read_cluster_facts(plan: BasePlan) -> tuple[Fact[WorkloadFacts], Fact[TrafficFacts]]:
    if isinstance(plan, WorkloadPlan):
        return await read_cluster(plan)
    return Fact(None, "this plan has no Deployment"), Fact(None, "this plan has no Deployment")


async def _read_fact(read: Awaitable[T], dsn: str) -> Fact[T]:
    try:
        return Fact(await read)
    except CONNECTION_ERRORS as error:
        translated = translate_error(error, dsn)
        return Fact(None, translated.title, translated.hint)


async def _read_refusals(loaded: LoadedPlan) -> Fact[tuple[tuple[str, str], ...]]:
    try:
        await check_plan(loaded, offline=True)
    except ZddError as error:
        return Fact(((error.title, error.hint),))
    return Fact(())


async def _read_flags(plan: BasePlan) -> Fact[dict[str, str | None]]:
    if plan.redis_url is None:
        return Fact({})
    try:
        async with await FlagStore.connect(plan.redis_url.get_secret_value()) as store:
            return Fact(await store.read_raw(tuple(plan.flag_roles)))
    except ZddError as error:
        return Fact(None, error.title, error.hint)


async def run_doctor(loaded: LoadedPlan, *, as_json: bool, out: TextIO) -> int:
    """Examines the release and writes the report.

    Returns:
        1 when anything fails; else 0, also where something is unknown or inconclusive.
    """
    report = await run_examination(loaded)
    out.write(json.dumps(report_to_dict(report), indent=2) + "\n" if as_json else format_report(report))
    return 1 if Verdict.FAIL in report.verdicts else 0


def report_to_dict(report: Report) -> dict[str, Any]:
    """The report for scripts; keys are only ever added."""
    return {
        "name": report.name,
        "plan_hash": report.plan_hash,
        "at": report.at,
        "pitfalls": [_finding_to_dict(finding) for finding in report.pitfalls],
        "checklist": [_finding_to_dict(finding) for finding in report.checklist],
    }


def _finding_to_dict(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.id,
        "title": finding.title,
        "verdict": str(finding.verdict),
        "evidence": [
            {"verdict": str(observation.verdict), "text": observation.text, "hint": observation.hint or None}
            for observation in finding.observations
        ],
    }


def format_report(report: Report) -> str:
    """The report for people: pitfalls with all their evidence, the checklist with its deciding evidence."""
    lines = [f"{report.name}, plan {report.plan_hash[:8]}", "", "pitfalls"]
    for number, finding in enumerate(report.pitfalls, 1):
        lines.append(f" {VERDICT_GLYPHS[finding.verdict]} {number}. {finding.title}: {finding.verdict}")
        for observation in finding.observations:
            lines.append(f"     {VERDICT_GLYPHS[observation.verdict]} {observation.text}")
            if observation.hint and observation.verdict is not Verdict.PASS:
                lines.append(f"       → {observation.hint}")
    lines += ["", "release checklist"]
    for number, finding in enumerate(report.checklist, 1):
        deciding = finding.deciding_observation
        lines.append(
            f" {VERDICT_GLYPHS[finding.verdict]} {number}. {finding.title}: {finding.verdict}   [{finding.id}]"
        )
        lines.append(f"     {deciding.text}")
        if deciding.hint and finding.verdict is not Verdict.PASS:
            lines.append(f"       → {deciding.hint}")
    return "\n".join(lines) + "\n"

"""`zdd doctor`: collects facts from every system side by side, and judges them. Changes nothing, but for an answer."""

import asyncio
import json
import time
from collections.abc import Awaitable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TextIO, TypeVar

from zdd_tui.backends.dns import read_names
from zdd_tui.backends.git import read_file_state
from zdd_tui.backends.kubernetes.doctor import read_cluster
from zdd_tui.backends.postgres.connection import FAILURES, connect, translate
from zdd_tui.backends.postgres.query_stats import LOOK_SECONDS, read_old_queries
from zdd_tui.backends.redis_flags import FlagStore
from zdd_tui.backends.store.client import Store
from zdd_tui.backends.store.evidence import add_evidence, read_history
from zdd_tui.checks.migrations import look_at_migrations
from zdd_tui.cli.status import GLYPH
from zdd_tui.model.doctor import POINTS, Facts, Finding, Look, Report, examine_facts
from zdd_tui.model.doctor.facts import Evidence, History, QueryFacts
from zdd_tui.model.errors import DatabaseError, Refused, ZddError
from zdd_tui.model.plan.base import BasePlan
from zdd_tui.model.plan.file import LoadedPlan
from zdd_tui.model.release.gate import Verdict
from zdd_tui.model.release.records import Actor

T = TypeVar("T")


async def examine(loaded: LoadedPlan, *, look: float = LOOK_SECONDS) -> Report:
    """The whole examination. A system that cannot be reached makes its part unknown; nothing here raises for it.

    Args:
        look: seconds between the two readings of the counts of queries, after a cutover.
    """
    plan = loaded.plan
    database, cluster, flags, names, file, migrations = await asyncio.gather(
        _database(plan, look),
        read_cluster(plan),
        _flags(plan),
        read_names(plan.dns),
        read_file_state(Path(loaded.source)),
        look_at_migrations(loaded),
    )
    return examine_facts(
        Facts(
            plan=plan,
            plan_hash=loaded.hash,
            now=time.time(),
            workload=cluster[0],
            traffic=cluster[1],
            queries=database[1],
            history=database[0],
            flags=flags,
            names=names,
            file=file,
            migrations=migrations,
        )
    )


async def answer(loaded: LoadedPlan, point: str, reason: str, actor: Actor) -> None:
    """Records what a person says about a point that no evidence can prove.

    Raises:
        Refused: there is no such point, it is proven by evidence alone, or there is no reason.
        DatabaseError: it cannot be stored.
    """
    asked = next((each for each in POINTS if each.id == point), None)
    open_to_answers = [each.id for each in POINTS if each.asks]
    if asked is None:
        near = get_close_matches(point, open_to_answers, 1)
        mend = f"did you mean {near[0]}?" if near else f"one of: {', '.join(open_to_answers)}"
        raise Refused(f"--answer {point}: the checklist has no such point", mend)
    if not asked.asks:
        raise Refused(
            f"--answer {point}: {asked.title} is proven by evidence, and no word stands in for it",
            f"run `zdd doctor {loaded.named}` and do what it says",
        )
    if not reason.strip():
        raise Refused(f"--answer {point}: no reason was given", f"--reason TEXT answers: {asked.asks}")
    given = Evidence(point, "person", Verdict.PASS, " ".join(reason.split()), str(actor), 0.0)
    await record(loaded, actor, [given])


async def record(loaded: LoadedPlan, actor: Actor, given: list[Evidence]) -> None:
    """Stores evidence; makes the `zdd` schema where there is none yet.

    Raises:
        DatabaseError: it cannot be stored.
    """
    database = loaded.plan.database
    dsn = database.dsn.get_secret_value()
    async with await Store.open(dsn, application_name="zdd doctor", timeout=database.connect_timeout) as store:
        await store.migrate()
    conn = await connect(dsn, application_name="zdd doctor", timeout=database.connect_timeout)
    try:
        await add_evidence(conn, loaded.plan, loaded.hash, actor, given)
    except FAILURES as error:
        raise translate(error, dsn) from None
    finally:
        conn.terminate()


async def _database(plan: BasePlan, look: float) -> tuple[Look[History], Look[QueryFacts]]:
    dsn = plan.database.dsn.get_secret_value()
    try:
        conn = await connect(dsn, application_name="zdd doctor", timeout=plan.database.connect_timeout)
    except DatabaseError as error:
        return Look(None, error.title, error.mend), Look(None, error.title, error.mend)
    try:
        history = await _looked(read_history(conn, plan), dsn)
        since = history.value.cut_over_at if history.value else None
        return history, await _looked(read_old_queries(conn, plan, since=since, look=look), dsn)
    finally:
        conn.terminate()


async def _looked(reading: Awaitable[T], dsn: str) -> Look[T]:
    try:
        return Look(await reading)
    except FAILURES as error:
        explained = translate(error, dsn)
        return Look(None, explained.title, explained.mend)


async def _flags(plan: BasePlan) -> Look[dict[str, str | None]]:
    if plan.redis_url is None:
        return Look({})
    try:
        async with await FlagStore.connect(plan.redis_url.get_secret_value()) as store:
            return Look(await store.read_raw(tuple(plan.flag_roles)))
    except ZddError as error:
        return Look(None, error.title, error.mend)


# --- The doctor's report on the shell: for people and for scripts.


async def doctor(loaded: LoadedPlan, *, as_json: bool, out: TextIO) -> int:
    """Examines and writes the report.

    Returns:
        1 when anything fails; 0 else, also where something is unknown or inconclusive.
    """
    report = await examine(loaded)
    out.write(json.dumps(as_document(report), indent=2) + "\n" if as_json else as_text(report))
    return 1 if Verdict.FAIL in report.verdicts else 0


def as_document(report: Report) -> dict[str, Any]:
    """The report for scripts; keys are only ever added."""
    return {
        "name": report.name,
        "plan_hash": report.plan_hash,
        "at": report.at,
        "pitfalls": [_finding(finding) for finding in report.pitfalls],
        "checklist": [_finding(finding) for finding in report.checklist],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.id,
        "title": finding.title,
        "verdict": str(finding.verdict),
        "evidence": [
            {"verdict": str(each.verdict), "text": each.text, "mend": each.mend or None}
            for each in finding.observations
        ],
    }


def as_text(report: Report) -> str:
    """The report for people: pitfalls with all their evidence, the checklist with what decides each point."""
    lines = [f"{report.name}, plan {report.plan_hash[:8]}", "", "pitfalls"]
    for number, finding in enumerate(report.pitfalls, 1):
        lines.append(f" {GLYPH[finding.verdict]} {number}. {finding.title}: {finding.verdict}")
        for each in finding.observations:
            lines.append(f"     {GLYPH[each.verdict]} {each.text}")
            if each.mend and each.verdict is not Verdict.PASS:
                lines.append(f"       → {each.mend}")
    lines += ["", "release checklist"]
    for number, finding in enumerate(report.checklist, 1):
        telling = finding.telling
        lines.append(f" {GLYPH[finding.verdict]} {number}. {finding.title}: {finding.verdict}   [{finding.id}]")
        lines.append(f"     {telling.text}")
        if telling.mend and finding.verdict is not Verdict.PASS:
            lines.append(f"       → {telling.mend}")
    return "\n".join(lines) + "\n"

"""The doctor, in the demo: each image is tried first, then the plan and its systems are examined, for the report."""

import asyncio
from collections import Counter
from typing import Any

from zdd_tui.cli.doctor import run_examination
from zdd_tui.cli.status import VERDICT_GLYPHS
from zdd_tui.demo.environment import Environment
from zdd_tui.demo.image_trials import run_image_trials
from zdd_tui.demo.release_driver import ProgressLog
from zdd_tui.model.doctor.facts import WORST_FIRST
from zdd_tui.model.plan.file import load_plan
from zdd_tui.model.release.gate import Verdict


async def run_doctor_check(env: Environment, progress: ProgressLog) -> dict[str, Any]:
    """
    Returns:
        counts: findings by verdict, the worst first.
        open: a line for each that fails or could not be looked at, with its evidence.
        findings: the verdict of each, by its id; pitfalls, then the checklist.
    """
    progress.log("the doctor: each image is tried with its database away, then plan and systems are examined")
    await run_image_trials(env)
    text = await asyncio.to_thread(env.plan_file.read_text)
    report = await run_examination(load_plan(text, source=str(env.plan_file), environment=env.environ))
    counts = Counter(report.verdicts)
    findings = [*report.pitfalls, *report.checklist]
    return {
        "counts": {str(verdict): counts[verdict] for verdict in WORST_FIRST if counts[verdict]},
        "open": [
            f"{VERDICT_GLYPHS[each.verdict]} {each.title}: {each.deciding_observation.text}"
            for each in findings
            if each.verdict in (Verdict.FAIL, Verdict.UNKNOWN)
        ],
        "findings": {each.id: str(each.verdict) for each in findings},
    }

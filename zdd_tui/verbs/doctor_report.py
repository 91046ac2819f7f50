"""The doctor's report on the shell: for people and for scripts."""

import json
from typing import Any, TextIO

from zdd_tui.model.doctor import Finding, Report
from zdd_tui.model.gate import Verdict
from zdd_tui.model.plan_file import LoadedPlan
from zdd_tui.verbs.doctor import examine
from zdd_tui.verbs.status import GLYPH


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

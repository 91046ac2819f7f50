"""The report of `zdd advise`, as text for 80 columns or as JSON."""

import argparse
import asyncio
import json
import shutil
import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, TextIO

from zdd_tui.cli.advise import AdviseRequest, AdviseResult, analyze_change, require_new_file, require_plan, write_plan
from zdd_tui.model.advice.draft import PlanTarget
from zdd_tui.model.advice.effects import TableLock, TableWork
from zdd_tui.model.advice.locks import (
    StatementVerdict,
    describe_table_verdict,
    format_lock_seconds,
    select_breaking,
    select_long_locks,
)
from zdd_tui.model.advice.migration import LiveTableStats
from zdd_tui.model.advice.plan_from_migration import UserAnswers
from zdd_tui.model.advice.rules import ChangeFacts
from zdd_tui.model.errors import ZddError

WIDTH = 80
_MAX_EXPRESSIONS = 6


def write_advise_report(result: AdviseResult, out: TextIO, *, plan_file: str = "", as_json: bool = False) -> None:
    """Writes the report."""
    if as_json:
        json.dump(advise_result_to_dict(result, plan_file), out, indent=1, ensure_ascii=False)
        out.write("\n")
        return
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    for line in _report_lines(result, plan_file, width):
        out.write(line + "\n")


def _report_lines(result: AdviseResult, plan_file: str, width: int) -> Iterator[str]:
    advice = result.advice
    yield f"{advice.strategy}   cost: {advice.cost.name.lower()}   rollback: {advice.rollback[0]}"
    yield from _wrap(f"rollback: {advice.rollback[1]}", width, "  ")
    yield from _format_heading("reasons")
    for row in advice.reasons:
        decides = row is advice.reasons[0]
        alone = "" if decides or row.strategy == advice.strategy else f" (alone: {row.strategy})"
        if decides or row is not advice.reasons[-1]:  # the last rule always applies
            yield from _wrap(f"{row.change}: {row.reason}; cost {row.cost.name.lower()}{alone}", width, "  ")
    for change in result.changes:
        yield from _wrap(f"changes: {change}", width, "  ")
    if result.verdicts:
        yield from _format_heading("statements: the lock, what it blocks, how long it is held")
        yield from _wrap(f"locks {result.lock_source}", width, "  ")
        yield from _statement_lines(result, width)
    if result.stats is not None:
        yield from _format_heading(f"tables of {result.stats.database}")
        for table in result.stats.tables.values():
            yield from _wrap(_format_table(table), width, "  ", "    ")
    yield from _section("Fix first", result.warnings, width)
    yield from _format_heading("other strategies")
    for name, reason in advice.rejected:
        yield from _wrap(f"{name:<16}{reason}", width, "  ", " " * 18)
    yield from _plan_lines(result, plan_file, width)


def _plan_lines(result: AdviseResult, plan_file: str, width: int) -> Iterator[str]:
    yield from _section("about the plan" if result.plan else "about the change", result.notes, width)
    if result.plan is None:
        yield from _section("no plan yet, these inputs are missing", map(str, result.missing_inputs), width)
    elif plan_file:
        yield from _format_heading(f"plan written to {plan_file}")
        yield f"  next: zdd check {plan_file}"
    else:
        yield from _format_heading("a plan can be written with --plan FILE")
        for line in result.expressions[:_MAX_EXPRESSIONS]:
            yield from _wrap(line, width, "  ")
        if (more := len(result.expressions) - _MAX_EXPRESSIONS) > 0:
            yield f"  and {more} more"


def _statement_lines(result: AdviseResult, width: int) -> Iterator[str]:
    for statement, verdicts in groupby(result.verdicts, key=lambda verdict: verdict.statement):
        text = statement.one_line
        yield from _wrap(f"{statement.location}  {text if len(text) <= 200 else text[:199] + '…'}", width, "  ", "    ")
        for verdict in verdicts:
            yield from _verdict_lines(verdict, width, show_action=len(statement.actions) > 1)
            last = verdict
        named = {str(action.table) for action in statement.actions}
        for locked in last.tables:
            if locked.table not in named and locked.lock.strength > TableLock.ROW_EXCLUSIVE.strength:
                also = "also " if last.rule.lock is not TableLock.NONE and last.action.table is not None else ""
                yield from _wrap(f"{also}{describe_table_verdict(locked)}", width, "    ", "      ")
                if locked.is_long and not also:
                    yield from _wrap(f"✗ {locked.lock.blocked} wait while it {locked.work}", width, "    ", "      ")
        if last.note:
            yield from _wrap(f"by rule: {last.note}", width, "    ", "      ")
        if rules := ", ".join(dict.fromkeys(each.rule for each in result.violations.get(statement, ()))):
            yield from _wrap(f"squawk: {rules}", width, "    ", "      ")


def _verdict_lines(verdict: StatementVerdict, width: int, *, show_action: bool) -> Iterator[str]:
    rule = verdict.rule
    action = f"{verdict.action.kind} {verdict.action.column}".strip() + ": " if show_action else ""
    if rule.lock is TableLock.NONE:
        text = "not evaluated" if rule.work is TableWork.UNKNOWN else "blocks nothing"
    else:
        text = f"{rule.lock} (blocks {rule.lock.blocked}), {rule.work}, {_format_lock_seconds(verdict)}"
    # What names no table of its own is shown by the verdicts for the tables that it locks.
    is_shown = (
        bool(action) or not verdict.tables or (verdict.action.table is not None and rule.lock is not TableLock.NONE)
    )
    lines = [action + text] if is_shown else []
    if rule.breaking_reason:
        lines.append(f"✗ {rule.breaking_reason}")
    elif is_shown and any(select_long_locks([verdict])):
        lines.append(f"✗ {rule.lock.blocked} wait while it {rule.work}")
    if rule.hint:
        lines.append(f"Fix: {rule.hint}")
    for line in lines:
        yield from _wrap(line, width, "    ", "      ")


def _format_lock_seconds(verdict: StatementVerdict) -> str:
    if verdict.lock_seconds is None and verdict.rule.work is not TableWork.UNKNOWN:
        return "time unknown (--dsn estimates it)"
    return format_lock_seconds(verdict.lock_seconds)


def _format_table(table: LiveTableStats) -> str:
    rows = "never analyzed" if table.rows < 0 else f"{_format_count(table.rows)} rows"
    parts = [f"{rows}, {_format_bytes(table.heap_bytes)}, indexes {_format_bytes(table.index_bytes)}"]
    if table.triggers:
        parts.append(f"triggers {', '.join(table.triggers)}")
    if table.referenced_by:
        parts.append(f"referenced by {', '.join(table.referenced_by)}")
    if table.reads is not None and table.writes is not None:
        reads, writes = _format_count(table.reads), _format_count(table.writes)
        parts.append(f"{reads} scans/s and {writes} rows written/s since the statistics were reset")
    return f"{table.table}  {'; '.join(parts)}"


def _format_count(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.2g}" if number < 10 else f"{number:.0f}"


def _format_bytes(number: float) -> str:
    for size, unit in ((2**40, "TB"), (2**30, "GB"), (2**20, "MB"), (2**10, "kB")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} B"


def _format_heading(text: str) -> tuple[str, str]:
    return ("", text)


def _section(heading: str, items: Iterable[str], width: int) -> Iterator[str]:
    """A heading and a list; nothing where the list is empty."""
    lines = [line for item in items for line in _wrap(f"- {item}", width, "  ", "    ")]
    if lines:
        yield from (*_format_heading(heading), *lines)


def _wrap(text: str, width: int, indent: str, continuation: str | None = None) -> list[str]:
    hanging = indent + "  " if continuation is None else continuation
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=hanging, break_on_hyphens=False, break_long_words=False
    )


# --- JSON


def advise_result_to_dict(result: AdviseResult, plan_file: str = "") -> dict[str, Any]:
    """The report for scripts. Times in seconds, sizes in bytes."""
    advice = result.advice
    return {
        "strategy": advice.strategy,
        "cost": advice.cost.name.lower(),
        "rollback": {"duration": advice.rollback[0], "description": advice.rollback[1]},
        "schema": result.facts.schema.value,
        "reasons": [
            {"change": row.change, "strategy": row.strategy, "reason": row.reason, "cost": row.cost.name.lower()}
            for row in advice.reasons
        ],
        "rejected": [{"strategy": name, "reason": reason} for name, reason in advice.rejected],
        "statements": [_verdict_to_dict(verdict, result) for verdict in result.verdicts],
        "lock_source": result.lock_source,
        "breaking": len(list(select_breaking(result.verdicts))),
        "tables": [_table_stats_to_dict(table) for table in result.stats.tables.values()] if result.stats else [],
        "longest_transaction": result.stats.longest_transaction if result.stats else None,
        "changes": list(result.changes),
        "warnings": list(result.warnings),
        "notes": list(result.notes),
        "missing_inputs": [
            {"text": missing.text, "option": missing.option, "name": missing.name} for missing in result.missing_inputs
        ],
        "plan": result.plan,
        "plan_file": plan_file or None,
    }


def _verdict_to_dict(verdict: StatementVerdict, result: AdviseResult) -> dict[str, Any]:
    rule, action = verdict.rule, verdict.action
    violations = result.violations.get(verdict.statement, ())
    return {
        "location": verdict.statement.location,
        "sql": verdict.statement.one_line,
        "action": str(action.kind),
        "table": str(action.table) if action.table else None,
        "column": action.column or None,
        "lock": str(rule.lock),
        "blocks": rule.lock.blocked,
        "work": str(rule.work),
        "lock_seconds": list(verdict.lock_seconds) if verdict.lock_seconds is not None else None,
        "source": str(verdict.source),
        "note": verdict.note or None,
        "locks": [
            {
                "table": locked.table,
                "lock": str(locked.lock),
                "blocks": locked.lock.blocked,
                "work": str(locked.work),
                "lock_seconds": list(locked.lock_seconds) if locked.lock_seconds is not None else None,
            }
            for locked in verdict.tables
        ],
        "breaks": rule.breaking_reason or None,
        "hint": rule.hint or None,
        "squawk": [{"rule": each.rule, "message": each.message, "hint": each.hint} for each in violations],
    }


def _table_stats_to_dict(table: LiveTableStats) -> dict[str, Any]:
    return {
        "table": str(table.table),
        "rows": table.rows,
        "heap_bytes": table.heap_bytes,
        "index_bytes": table.index_bytes,
        "indexes": list(table.indexes),
        "triggers": list(table.triggers),
        "referenced_by": list(table.referenced_by),
        "reads_per_second": table.reads,
        "writes_per_second": table.writes,
    }


# --- the command


def build_request(arguments: argparse.Namespace) -> AdviseRequest:
    """The options as a request.

    Raises:
        ZddError: an option's value is not COLUMN=….
    """
    old, new = arguments.image or ("", "")
    return AdviseRequest(
        sql=tuple(arguments.sql),
        manifests=tuple(arguments.manifest),
        old_image=old,
        dsn=arguments.dsn,
        facts=ChangeFacts(
            risk=arguments.feature_risk,
            regions=arguments.regions,
            sessions=arguments.sessions,
            is_monolith=arguments.monolith,
            is_experimental=arguments.experimental,
        ),
        target=PlanTarget(
            name=arguments.name,
            environment=arguments.environment,
            namespace=arguments.namespace,
            deployment=arguments.deployment,
            container=arguments.container,
            image=new,
            v2=arguments.v2,
            v3=arguments.v3,
            flag=arguments.flag,
            smoke=arguments.smoke,
            path=arguments.dark_path,
        ),
        answers=UserAnswers(*(_parse_pairs(f"--{name}", getattr(arguments, name)) for name in ("up", "down", "type"))),
        intended_strategy=getattr(arguments, "strategy", None) or "",
        scratch_dsn=getattr(arguments, "scratch_dsn", ""),
    )


def run_advise(arguments: argparse.Namespace, out: TextIO) -> int:
    """Runs the command. Returns 0 after a report (and a plan, with --plan).

    Raises:
        Refused: --plan, and inputs of the plan are missing.
        ZddError: bad input.
    """
    request = build_request(arguments)
    inputs = (request.sql, request.manifests, request.target.image, request.target.deployment)
    if not any(inputs) and request.facts == ChangeFacts():
        raise ZddError(
            "there is no change to advise on",
            "give --sql FILE, --manifest FILE, --image OLD NEW or --feature-risk high",
        )
    if arguments.plan:
        require_new_file(arguments.plan, force=arguments.force)
    result = asyncio.run(analyze_change(request))
    plan_file = ""
    if arguments.plan and result.plan is not None:
        write_plan(result.plan, arguments.plan, force=arguments.force)
        plan_file = arguments.plan
    write_advise_report(result, out, plan_file=plan_file, as_json=arguments.json)
    out.flush()
    if arguments.plan:
        require_plan(result, arguments.plan)
    return 0


def _parse_pairs(option: str, values: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for each in values:
        name, equals, value = each.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise ZddError(f"{option} {each!r}: expected COLUMN=…", f'write {option} "full_name=first || last"')
        if name.strip() in pairs:
            raise ZddError(f"{option} names {name.strip()} twice", "keep one of them")
        pairs[name.strip()] = value.strip()
    return pairs

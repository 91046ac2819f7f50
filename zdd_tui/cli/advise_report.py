"""What `zdd advise` says: for a tired person at 80 columns, or as JSON."""

import argparse
import asyncio
import json
import shutil
import textwrap
from collections.abc import Iterator
from itertools import groupby
from typing import Any, TextIO

from zdd_tui.cli.advise import Answer, Request, answer, refuse_existing, refuse_unanswered, write_plan
from zdd_tui.model.advice.draft import Target
from zdd_tui.model.advice.locks import Lock, Ruling, Work, breaking, long_locks
from zdd_tui.model.advice.migration import LiveTable
from zdd_tui.model.advice.plan_from_migration import Answers
from zdd_tui.model.advice.rules import Facts
from zdd_tui.model.duration import human_duration
from zdd_tui.model.errors import ZddError

WIDTH = 80
_COMPUTED = 6


def write_report(found: Answer, out: TextIO, *, plan_file: str = "", as_json: bool = False) -> None:
    """The whole answer."""
    if as_json:
        json.dump(as_document(found, plan_file), out, indent=1, ensure_ascii=False)
        out.write("\n")
        return
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    for line in _lines(found, plan_file, width):
        out.write(line + "\n")


def _lines(found: Answer, plan_file: str, width: int) -> Iterator[str]:
    advice = found.advice
    yield f"{advice.strategy}   cost: {advice.cost.name.lower()}   way back: {advice.rollback[0]}"
    yield from _wrapped(f"way back: {advice.rollback[1]}", width, "  ")
    yield from _heading("why")
    for row in advice.reasons:
        decides = row is advice.reasons[0]
        beside = "" if decides or row.strategy == advice.strategy else f" (alone it would be {row.strategy})"
        if decides or row is not advice.reasons[-1]:  # the last row holds always
            yield from _wrapped(f"{row.change}: {row.why}; {row.cost.name.lower()}{beside}", width, "  ")
    for change in found.changes:
        yield from _wrapped(f"changes: {change}", width, "  ")
    if found.rulings:
        yield from _heading("statements: the lock, whom it blocks, for how long once it is granted")
        yield from _statements(found, width)
    if found.live is not None:
        yield from _heading(f"tables of {found.live.place}")
        for table in found.live.tables.values():
            yield from _wrapped(_table(table), width, "  ", "    ")
    if found.cautions:
        yield from _heading("mend first")
        yield from _list(found.cautions, width)
    yield from _heading("not taken")
    for name, why in advice.rejected:
        yield from _wrapped(f"{name:<16}{why}", width, "  ", " " * 18)
    yield from _plan(found, plan_file, width)


def _plan(found: Answer, plan_file: str, width: int) -> Iterator[str]:
    if found.notes:
        yield from _heading("about the plan" if found.plan else "about the change")
        yield from _list(found.notes, width)
    if found.plan is None:
        yield from _heading("no plan yet: only you know")
        yield from _list(tuple(str(ask) for ask in found.asks), width)
    elif plan_file:
        yield from _heading(f"plan written to {plan_file}")
        yield f"  next: zdd check {plan_file}"
    else:
        yield from _heading("a plan can be written: --plan FILE")
        for line in found.computed[:_COMPUTED]:
            yield from _wrapped(line, width, "  ")
        if more := len(found.computed) - _COMPUTED:
            yield from (f"  and {more} more",) if more > 0 else ()


def _statements(found: Answer, width: int) -> Iterator[str]:
    for statement, rulings in groupby(found.rulings, key=lambda ruling: ruling.statement):
        text = statement.line
        yield from _wrapped(f"{statement.place}  {text if len(text) <= 200 else text[:199] + '…'}", width, "  ", "    ")
        for ruling in rulings:
            yield from _ruling(ruling, width, several=len(statement.actions) > 1)
        if rules := ", ".join(dict.fromkeys(each.rule for each in found.findings.get(statement, ()))):
            yield from _wrapped(f"squawk: {rules}", width, "    ", "      ")


def _ruling(ruling: Ruling, width: int, *, several: bool) -> Iterator[str]:
    rule = ruling.rule
    what = f"{ruling.action.kind} {ruling.action.column}".strip() + ": " if several else ""
    if rule.lock is Lock.NONE:
        yield from _wrapped(f"{what}{'not judged' if rule.work is Work.UNKNOWN else 'nobody waits'}", width, "    ")
    else:
        blocks = f" (blocks {rule.lock.blocks})" if rule.lock.blocks != "nobody" else " (blocks nobody)"
        yield from _wrapped(f"{what}{rule.lock}{blocks}, {rule.work}, {_seconds(ruling)}", width, "    ", "      ")
    if not rule.breaks and any(long_locks([ruling])):
        yield from _wrapped(f"✗ {rule.lock.blocks} wait while it {rule.work}", width, "    ", "      ")
    if rule.breaks:
        yield from _wrapped(f"✗ {rule.breaks}", width, "    ", "      ")
    if rule.mend:
        yield from _wrapped(f"→ {rule.mend}", width, "    ", "      ")


def _seconds(ruling: Ruling) -> str:
    if ruling.seconds is None:
        return "time unknown (--dsn would tell)" if ruling.rule.work is not Work.UNKNOWN else "time unknown"
    low, high = ruling.seconds
    if high <= 0.1:
        return "under 0.1s"
    return f"{'under 0.1s' if low < 0.1 else human_duration(low)} to {human_duration(high)}"


def _table(table: LiveTable) -> str:
    rows = "never analyzed" if table.rows < 0 else f"{_count(table.rows)} rows"
    parts = [f"{rows}, {_bytes(table.heap_bytes)}, indexes {_bytes(table.index_bytes)}"]
    if table.triggers:
        parts.append(f"triggers {', '.join(table.triggers)}")
    if table.referenced_by:
        parts.append(f"referred to by {', '.join(table.referenced_by)}")
    if table.reads is not None and table.writes is not None:
        parts.append(
            f"{_count(table.reads)} scans/s and {_count(table.writes)} rows written/s since its statistics began"
        )
    return f"{table.table}  {'; '.join(parts)}"


def _count(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.2g}" if number < 10 else f"{number:.0f}"


def _bytes(number: float) -> str:
    for size, unit in ((2**40, "TB"), (2**30, "GB"), (2**20, "MB"), (2**10, "kB")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} B"


def _heading(text: str) -> tuple[str, str]:
    return ("", text)


def _list(items: tuple[str, ...], width: int) -> Iterator[str]:
    for item in items:
        yield from _wrapped(f"- {item}", width, "  ", "    ")


def _wrapped(text: str, width: int, indent: str, further: str | None = None) -> list[str]:
    hanging = indent + "  " if further is None else further
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=hanging, break_on_hyphens=False, break_long_words=False
    )


# --- JSON ----------------------------------------------------------------------------------------------------


def as_document(found: Answer, plan_file: str = "") -> dict[str, Any]:
    """The whole answer, for scripts. Times in seconds, sizes in bytes."""
    advice = found.advice
    return {
        "strategy": advice.strategy,
        "cost": advice.cost.name.lower(),
        "rollback": {"latency": advice.rollback[0], "how": advice.rollback[1]},
        "schema": found.facts.schema.value,
        "reasons": [
            {"change": row.change, "strategy": row.strategy, "why": row.why, "cost": row.cost.name.lower()}
            for row in advice.reasons
        ],
        "rejected": [{"strategy": name, "why": why} for name, why in advice.rejected],
        "statements": [_statement(ruling, found) for ruling in found.rulings],
        "breaking": len(list(breaking(found.rulings))),
        "tables": [_live(table) for table in found.live.tables.values()] if found.live else [],
        "longest_transaction": found.live.longest_transaction if found.live else None,
        "changes": list(found.changes),
        "cautions": list(found.cautions),
        "notes": list(found.notes),
        "asks": [{"text": ask.text, "option": ask.option, "name": ask.name} for ask in found.asks],
        "plan": found.plan,
        "plan_file": plan_file or None,
    }


def _statement(ruling: Ruling, found: Answer) -> dict[str, Any]:
    rule, action = ruling.rule, ruling.action
    squawked = found.findings.get(ruling.statement, ())
    return {
        "place": ruling.statement.place,
        "sql": ruling.statement.line,
        "does": str(action.kind),
        "table": str(action.table) if action.table else None,
        "column": action.column or None,
        "lock": str(rule.lock),
        "blocks": rule.lock.blocks,
        "work": str(rule.work),
        "seconds": list(ruling.seconds) if ruling.seconds is not None else None,
        "breaks": rule.breaks or None,
        "mend": rule.mend or None,
        "squawk": [{"rule": each.rule, "message": each.message, "mend": each.mend} for each in squawked],
    }


def _live(table: LiveTable) -> dict[str, Any]:
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


# --- `zdd advise` as a command: options in, report and plan file out.


def request_of(arguments: argparse.Namespace) -> Request:
    """The options as a request.

    Raises:
        ZddError: an option's value is not of its form.
    """
    old, new = arguments.image or ("", "")
    return Request(
        sql=tuple(arguments.sql),
        manifests=tuple(arguments.manifest),
        old_image=old,
        dsn=arguments.dsn,
        facts=Facts(
            risk=arguments.feature_risk,
            regions=arguments.regions,
            sessions=arguments.sessions,
            monolith=arguments.monolith,
            experimental=arguments.experimental,
        ),
        target=Target(
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
        answers=Answers(*(_pairs(f"--{name}", getattr(arguments, name)) for name in ("up", "down", "type"))),
        intended=getattr(arguments, "strategy", None) or "",
    )


def run_advise(arguments: argparse.Namespace, out: TextIO) -> int:
    """The verb. 0: answered (and written, with --plan); 1: no plan to write; 2, by exception: bad input."""
    request = request_of(arguments)
    told = (request.sql, request.manifests, request.target.image, request.target.deployment)
    if not any(told) and request.facts == Facts():
        raise ZddError(
            "there is no change to look at", "--sql FILE, --manifest FILE, --image OLD NEW, or --feature-risk high …"
        )
    if arguments.plan:
        refuse_existing(arguments.plan, force=arguments.force)
    found = asyncio.run(answer(request))
    written = ""
    if arguments.plan and found.plan is not None:
        write_plan(found.plan, arguments.plan, force=arguments.force)
        written = arguments.plan
    write_report(found, out, plan_file=written, as_json=arguments.json)
    out.flush()
    if arguments.plan:
        refuse_unanswered(found, arguments.plan)
    return 0


def _pairs(option: str, given: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise ZddError(f"{option} {each!r}: expected COLUMN=…", f'such as {option} "full_name=first || last"')
        if name.strip() in pairs:
            raise ZddError(f"{option} names {name.strip()} twice", "keep one of them")
        pairs[name.strip()] = value.strip()
    return pairs

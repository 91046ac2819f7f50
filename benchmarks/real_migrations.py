"""Migration directories of public projects, file by file, by zdd and beside it as their teams would run them.

Each file is one release: read into operations, driven through all phases by the real engine, compared with what the
plain statements make of a second database. pg_dump compares the definitions. What is refused runs plainly in both, so
that the next file finds what it expects. The files are not part of this repository::

    git clone https://github.com/OWNER/NAME
    python -m benchmarks.real_migrations NAME/migrations --files '*/up.sql'
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import asyncpg
import yaml

from zdd_tui.backends.files import MAX_SQL_BYTES, read_text
from zdd_tui.backends.store.client import Store
from zdd_tui.engine.context import Context
from zdd_tui.engine.runner import ReleaseHolder
from zdd_tui.model.errors import PlanError, ZddError
from zdd_tui.model.operations.base import OperationOptions
from zdd_tui.model.operations.registry import plan_operations, read_operations
from zdd_tui.model.operations.removed_use import accept_every_use
from zdd_tui.model.operations.statements import UndoRequired
from zdd_tui.model.plan.file import LoadedPlan, load_plan
from zdd_tui.model.plan.operations import OperationsPlan
from zdd_tui.model.sql import SqlSyntaxError, parse_sql, split_statements
from zdd_tui.rehearsal.fake_cluster import fake_cluster
from zdd_tui.rehearsal.operations import compare_definitions, sort_columns
from zdd_tui.rehearsal.pg_dump import dump_definitions
from zdd_tui.rehearsal.step_metrics import StepMetrics, StepMetricsCollector
from zdd_tui.rehearsal.walk import Measurement, ReleaseWalk, open_release
from zdd_tui.testbed.servers import PostgresServer

_FOLDED_NOW = re.compile(r"'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+[^']*'(?=::timestamp)")
"""A view over ``'now'::timestamp`` holds the moment of its creation, which differs between the two databases."""

Operations: TypeAlias = list[str | dict[str, object]]
"""Of a plan."""

BRIEF_MODES = ("ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock", "ShareLock")
"""Locks that stop writers."""


@dataclass(slots=True)
class FileResult:
    """What became of one file.

    Attributes:
        outcome: ``done``, ``refused``, ``wrong``, ``failed`` (by zdd) or ``broken`` (it fails without zdd, too).
        executed: of its statements, those that zdd can execute.
        by_hand: of those executed, the ones whose undo a person has to write; here it is written as "nothing".
        lock_ms: the longest lock that stops writers; 0 for none.
    """

    name: str
    outcome: str
    statements: int = 0
    executed: int = 0
    by_hand: int = 0
    lock_ms: float = 0.0
    seconds: float = 0.0
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Databases:
    """Two databases with the same definitions before each file."""

    server: PostgresServer

    @property
    def zdd(self) -> str:
        return self.server.dsn_for("by_zdd")

    @property
    def plain(self) -> str:
        return self.server.dsn_for("plainly")

    async def create(self, prepare: str) -> None:
        await self._admin("CREATE DATABASE plainly")
        for statement in split_statements(prepare):
            await run_plainly(self.plain, [statement])
        await self.copy()

    async def copy(self) -> None:
        """Makes the database of zdd anew from the plain one."""
        await self._admin("DROP DATABASE IF EXISTS by_zdd WITH (FORCE)", "CREATE DATABASE by_zdd TEMPLATE plainly")
        async with await Store.open(self.zdd) as store:
            await store.migrate()

    async def compare(self) -> tuple[tuple[str, ...], bool]:
        """The lines that differ, and whether columns are in another order: one that was changed is the last.

        Such an order is no difference, but a later file may show it: a view over ``*`` lists the columns.
        """
        programs = self.server.programs_folder
        dumps = [await dump_definitions(each, programs) for each in (self.plain, self.zdd)]
        expected, found = ([_FOLDED_NOW.sub("now", line) for line in each] for each in dumps)
        return compare_definitions(sort_columns(expected), sort_columns(found)), expected != found

    async def _admin(self, *statements: str) -> None:
        conn = await asyncpg.connect(self.server.dsn)
        try:
            for statement in statements:
                await conn.execute(statement)
        finally:
            await conn.close()


async def run_plainly(dsn: str, statements: Sequence[str]) -> None:
    """Each statement as it stands, one after the other."""
    conn = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await conn.execute(statement)
    finally:
        await conn.close()


def _is_transaction_control(statement: str) -> bool:
    return all(each.stmt.HasField("transaction_stmt") for each in parse_sql(statement).stmts)


@dataclass(slots=True)
class ReadStatements:
    """The operations of a plan, and the statements that cannot be one."""

    operations: Operations = field(default_factory=list)
    by_hand: int = 0
    refusals: list[str] = field(default_factory=list)


def read_plan(statements: Sequence[str]) -> ReadStatements:
    read, options = ReadStatements(), OperationOptions(has_rollout=True)
    for statement in statements:
        try:
            read_operations(statement, options)
            read.operations.append(statement)
        except PlanError as error:
            if isinstance(error, UndoRequired):
                read.operations.append({"sql": statement, "undo": []})
                read.by_hand += 1
            else:
                read.refusals.append(f"{error.title}: {' '.join(statement.split())[:110]}")
    return read


async def run_file(databases: Databases, name: str, text: str) -> FileResult:
    """Runs one file on both databases."""
    began = time.monotonic()
    try:
        statements = tuple(split_statements(text))
    except SqlSyntaxError as error:
        return FileResult(name, "broken", reasons=[f"PostgreSQL cannot read it: {error.reason}"])
    counted = tuple(each for each in statements if not _is_transaction_control(each))
    read = read_plan(counted)
    executed = len(counted) - len(read.refusals)
    result = FileResult(name, "done", len(counted), executed, read.by_hand, reasons=read.refusals)
    try:
        await run_plainly(databases.plain, statements)
    except asyncpg.PostgresError as error:
        result.outcome, result.reasons = "broken", [str(error).splitlines()[0]]
        await databases.copy()
        return result
    if read.refusals:
        result.outcome = "refused"
    elif counted:
        await _run_by_zdd(databases, result, read.operations)
    must_copy = result.outcome != "done"
    if not must_copy:
        differences, must_copy = await databases.compare()
        if differences:
            result.outcome, result.reasons = "wrong", list(differences)
    if must_copy:
        await databases.copy()
    result.seconds = time.monotonic() - began
    return result


def _load(dsn: str, operations: Operations) -> LoadedPlan:
    document = {
        "name": "file",
        "environment": "test",
        "database": {"dsn": dsn},
        "kubernetes": {"deployment": "app", "image": "app:2"},
        "gates": {"soak": "0s"},
        "operations": operations,
    }
    return load_plan(yaml.safe_dump(document), source="file", environment={})


def _find_refusal(operations: Operations) -> str:
    """Why the statements cannot be one plan; empty where they can."""
    try:
        plan = _load("postgresql://x", operations).plan
        assert isinstance(plan, OperationsPlan)
        plan_operations(plan)
    except PlanError as error:
        return error.title
    return ""


def find_refused_together(operations: Operations) -> list[str]:
    """The reasons of statements that only beside the others cannot be executed; one for each.

    Such a statement is the last without which a reason is gone.
    """
    reasons: list[str] = []
    rest = list(operations)
    while rest and (reason := _find_refusal(rest)):
        without = ([*rest[:n], *rest[n + 1 :]] for n in reversed(range(len(rest))))
        rest = next((each for each in without if _find_refusal(each) != reason), [])
        reasons += [reason] * (1 if rest else len(operations) - len(reasons))
    return reasons


async def _run_by_zdd(databases: Databases, result: FileResult, operations: Operations) -> None:
    metrics: list[StepMetrics] = []
    try:
        loaded = _load(databases.zdd, operations)
        assert isinstance(loaded.plan, OperationsPlan)
        accepted = accept_every_use(loaded.plan, "nobody else uses the database")
        plan = loaded.plan.model_copy(update={"accept": accepted})
        async with (
            open_release(databases.zdd, plan, loaded) as store,
            StepMetricsCollector(databases.zdd) as collector,
        ):
            holder = ReleaseHolder((await store.read()).release)
            ctx = Context(plan, store, None, fake_cluster(plan), lambda: False, lambda _: None)
            walk = ReleaseWalk(ctx, store, holder, Measurement(collector, None, metrics), lambda _: None)
            for phase in holder.release.strategy.phases:
                await walk.run_phase(phase.name)
            await walk.finish()
    except PlanError as error:
        result.outcome, result.reasons = "refused", find_refused_together(operations) or [error.title]
        result.executed -= len(result.reasons)
    except ZddError as error:
        result.outcome, result.reasons = "failed", [" ".join(str(error).split())]
        if result.reasons[0].startswith("check-rows: "):  # before anything is changed
            result.outcome, result.executed = "refused", 0
    locks = (seconds for each in metrics for mode, seconds in each.locks.items() if mode in BRIEF_MODES)
    result.lock_ms = 1000 * max(locks, default=0.0)


async def run_directory(arguments: argparse.Namespace, folder: Path, files: Sequence[Path]) -> list[FileResult]:
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        server = PostgresServer(Path(scratch) / "postgres")
        await server.start()
        try:
            databases = Databases(server)
            await databases.create(arguments.prepare)
            for number, file in enumerate(files, 1):
                text = read_text(str(file), max_bytes=MAX_SQL_BYTES)
                for pair in arguments.replace:
                    old, _, new = pair.partition("=>")
                    text = text.replace(old, new)
                result = await run_file(databases, str(file.relative_to(folder)), text)
                results.append(result)
                if result.outcome != "done" or number % 25 == 0:
                    reasons = "; ".join(result.reasons[:3])
                    sys.stderr.write(f"{number}/{len(files)} {result.outcome} {result.name}: {reasons[:400]}\n")
        finally:
            await server.stop()
    return results


_DATE_DIGITS, _TIME_DIGITS = 8, 14


def _version(file: Path) -> tuple[int, str]:
    """Files in the order of their numbers, a date before a time of that day; those of a folder by the folder's name."""
    name = file.name if re.match(r"V?\d", file.name) else file.parent.name
    number = re.match(r"V?(\d[\d-]*)", name)
    digits = number[1].replace("-", "") if number else "0"
    return (int(digits.ljust(_TIME_DIGITS, "9") if len(digits) == _DATE_DIGITS else digits), name)


def report(name: str, results: Sequence[FileResult]) -> str:
    """One row of the table."""
    outcomes = Counter(result.outcome for result in results)
    done = [result for result in results if result.outcome == "done"]
    locked = [result.lock_ms for result in done if result.lock_ms]
    statements = sum(result.statements for result in results if result.outcome != "broken")
    executed = sum(result.executed for result in results if result.outcome not in ("broken", "failed", "wrong"))
    share = 100 * executed / statements if statements else 0.0
    longest = f"{max(locked):.0f} ms" if locked else "-"
    return (
        f"| {name} | {len(results)} | {len(done) - len(locked)} | {len(locked)} (longest {longest}) |"
        f" {outcomes['refused']} | {outcomes['failed']} | {outcomes['wrong']} | {outcomes['broken']} |"
        f" {executed} of {statements} ({share:.1f} %) | {sum(result.by_hand for result in results)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--files", default="*.sql", help="which files, such as '*.up.sql' (default: %(default)s)")
    parser.add_argument("--name", default="", help="of the project, for the table")
    parser.add_argument("--prepare", default="", help="SQL that the first file expects to have run")
    parser.add_argument("--replace", action="append", default=[], metavar="OLD=>NEW", help="for templates in files")
    parser.add_argument("--limit", type=int, default=None, help="only the first files")
    parser.add_argument("--json", metavar="FILE", help="write every result")
    arguments = parser.parse_args()
    folder = Path(arguments.folder)
    files = sorted(folder.glob(arguments.files), key=_version)[: arguments.limit]
    results = asyncio.run(run_directory(arguments, folder, files))
    if arguments.json:
        rows = [{name: getattr(each, name) for name in FileResult.__slots__} for each in results]
        Path(arguments.json).write_text(json.dumps(rows, indent=1))
    sys.stdout.write(report(arguments.name or arguments.folder, results) + "\n")


if __name__ == "__main__":
    main()

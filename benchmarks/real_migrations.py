"""Migration directories of public projects, file by file, by zdd and beside it as their teams would run them.

Each file is one release: read into operations, driven through all phases by the real engine, compared with what the
plain statements make of a second database. pg_dump compares the definitions. What is refused runs plainly in both, so
that the next file finds what it expects. The files are not part of this repository::

    git clone https://github.com/OWNER/NAME
    python -m benchmarks.real_migrations NAME/migrations --files '*/up.sql'

``--rows 20`` gives tables generated rows before each file, and compares the rows afterwards, too. A file that fails
plainly on them runs on empty tables. ``--roll-back`` rolls each release back from contract first, and compares.
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import yaml

from zdd_tui.backends.files import MAX_SQL_BYTES, read_text
from zdd_tui.backends.postgres.connection import Connection
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
from zdd_tui.model.sql import SqlSyntaxError, enum_name, name_sql, parse_sql, split_statements
from zdd_tui.rehearsal.fake_cluster import fake_cluster
from zdd_tui.rehearsal.operations import compare_definitions, find_added_enum_values, sort_columns
from zdd_tui.rehearsal.pg_dump import dump_definitions
from zdd_tui.rehearsal.populate import make_generators, populate, set_sequences
from zdd_tui.rehearsal.step_metrics import StepMetrics, StepMetricsCollector
from zdd_tui.rehearsal.table_stats import TableStats, read_structure
from zdd_tui.rehearsal.walk import Measurement, ReleaseWalk, open_release
from zdd_tui.testbed.servers import PostgresServer

_FOLDED_NOW = re.compile(r"'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+[^']*'(?=::timestamp)")
"""A view over ``'now'::timestamp`` holds the moment of its creation, which differs between the two databases."""

_LOST_COLUMNS = re.compile(r"the new (\S+) lacks columns that the old version may read")
"""Of a view; ``zdd check`` finds it before the start, on a copy of the schema."""

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
        by_hand: of those executed, the ones whose undo a person has to write, here as "nothing"; and those of views
            that wait for contract, because the new one lacks columns.
        lock_ms: the longest lock that stops writers; 0 for none.
        rows: in all tables before the file.
    """

    name: str
    outcome: str
    statements: int = 0
    executed: int = 0
    by_hand: int = 0
    lock_ms: float = 0.0
    rows: int = 0
    seconds: float = 0.0
    reasons: list[str] = field(default_factory=list)


_TABLES = """
SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^(pg_|zdd|information_schema$)'
ORDER BY c.oid
"""

_CHECKS = """
SELECT conrelid::regclass::text AS table, conname::text AS name, pg_get_constraintdef(oid) AS definition
FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0
"""

NULL_SHARE = 0.2
"""Of generated values in columns that may be NULL."""


@dataclass(slots=True)
class Databases:
    """Databases with the same definitions and rows before each file.

    Attributes:
        generated: OIDs of the tables whose rows are generated; a copied database has the same.
    """

    server: PostgresServer
    generated: set[int] = field(default_factory=set)

    @property
    def zdd(self) -> str:
        return self.server.dsn_for("by_zdd")

    @property
    def plain(self) -> str:
        return self.server.dsn_for("plainly")

    @property
    def again(self) -> str:
        """Where the plain statements run a second time."""
        return self.server.dsn_for("plainly_again")

    async def create(self, prepare: str) -> None:
        await self._admin("CREATE DATABASE plainly")
        for statement in split_statements(prepare):
            await run_plainly(self.plain, [statement])
        await self.copy()

    async def copy(self, source: str = "plainly") -> None:
        """Makes the database of zdd anew from the plain one, or from another one."""
        await self._admin("DROP DATABASE IF EXISTS by_zdd WITH (FORCE)", f"CREATE DATABASE by_zdd TEMPLATE {source}")
        async with await Store.open(self.zdd) as store:
            await store.migrate()

    async def save(self) -> None:
        """Keeps the plain database as it is before a file, for what needs it later."""
        await self._admin(
            "DROP DATABASE IF EXISTS plainly_again WITH (FORCE)", "CREATE DATABASE plainly_again TEMPLATE plainly"
        )

    async def copy_saved(self) -> None:
        """Makes the database of zdd anew as it was before the file."""
        await self.copy("plainly_again")

    async def restore(self) -> None:
        """The plain database as it was saved, but without generated rows, in all databases."""
        await self._admin("DROP DATABASE plainly WITH (FORCE)", "CREATE DATABASE plainly TEMPLATE plainly_again")
        conn = await asyncpg.connect(self.plain)
        try:
            await conn.execute("SET session_replication_role = replica")
            for row in await conn.fetch(_TABLES):
                if row["oid"] in self.generated:
                    await conn.execute(f"DELETE FROM {name_sql(row['schema'], row['name'])}")
        finally:
            await conn.close()
        self.generated.clear()
        await self.save()
        await self.copy()

    async def fill(self, rows: int) -> int:
        """Gives empty tables generated rows, where that succeeds; returns how many rows all tables have."""
        conn = await asyncpg.connect(self.plain)
        try:
            tables = await conn.fetch(_TABLES)
            counts = {row["oid"]: await _count(conn, name_sql(row["schema"], row["name"])) for row in tables}
            checks = await conn.fetch(_CHECKS)
            shapes = {(row["schema"], row["name"]): await _read_shape(conn, row) for row in tables}
            makers = make_generators(shapes, dict.fromkeys(shapes, rows))
            empty = {(row["schema"], row["name"]): row["oid"] for row in tables if not counts[row["oid"]]}
            await populate(conn, {name: makers[name] for name in empty})
            await conn.execute("SET session_replication_role = replica")
            kept = {(row["table"], row["name"]) for row in await conn.fetch(_CHECKS)}
            for table, name, definition in checks:
                if (table, name) not in kept:  # populate leaves out what its rows violate
                    await conn.execute(f"DELETE FROM {table}")
                    await conn.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name_sql(name)} {definition}")
            while any([await _drop_orphans(conn, shapes[name]) for name in empty]):
                pass
            await conn.execute("SET session_replication_role = origin")
            for name, oid in empty.items():
                if await _count(conn, shapes[name].sql):
                    await set_sequences(conn, shapes[name])
                    self.generated.add(oid)
            return sum([await _count(conn, shape.sql) for shape in shapes.values()])
        finally:
            await conn.close()

    async def compare(self) -> tuple[tuple[str, ...], bool]:
        """The lines that differ, and whether columns are in another order: one that was changed is the last.

        Such an order is no difference, but a later file may show it: a view over ``*`` lists the columns.
        """
        expected, found = [await self.definitions(each) for each in (self.plain, self.zdd)]
        return compare_definitions(sort_columns(expected), sort_columns(found)), expected != found

    async def compare_rows(self, statements: Sequence[str]) -> tuple[str, ...]:
        """The columns whose values differ from those that the plain statements make each time they run."""
        expected, found = await read_values(self.plain), await read_values(self.zdd)
        if expected == found:
            return ()
        await run_plainly(self.again, statements)
        again = await read_values(self.again)
        return tuple(
            f"rows differ: {name}" for name in expected if expected[name] == again.get(name) != found.get(name)
        )

    async def definitions(self, dsn: str) -> list[str]:
        lines = await dump_definitions(dsn, self.server.programs_folder)
        return [_FOLDED_NOW.sub("now", line) for line in lines]

    async def _admin(self, *statements: str) -> None:
        await run_plainly(self.server.dsn, statements)


async def _count(conn: Connection, table: str) -> int:
    return int(await conn.fetchval(f"SELECT count(*) FROM {table}"))


async def _read_shape(conn: Connection, row: asyncpg.Record) -> TableStats:
    shape = await read_structure(conn, row["schema"], row["name"])
    return replace(shape, columns=tuple(replace(each, null_fraction=NULL_SHARE) for each in shape.columns))


async def _drop_orphans(conn: Connection, child: TableStats) -> bool:
    """Deletes the rows of a table that refer to none; returns whether there were any."""
    deleted = 0
    for key in child.foreign_keys:
        pairs = zip(key.columns, key.referenced_columns, strict=True)
        same = " AND ".join(f"p.{name_sql(there)} = c.{name_sql(here)}" for here, there in pairs)
        present = " AND ".join(f"c.{name_sql(here)} IS NOT NULL" for here in key.columns)
        tag = await conn.execute(
            f"DELETE FROM {child.sql} c WHERE {present} AND NOT EXISTS"
            f" (SELECT FROM {name_sql(key.schema, key.table)} p WHERE {same})"
        )
        deleted += int(tag.rpartition(" ")[2])
    return deleted > 0


async def read_values(dsn: str) -> dict[str, tuple[int, str]]:
    """Of each column of each table: how many values, and a sum over them."""
    conn = await asyncpg.connect(dsn)
    try:
        found: dict[str, tuple[int, str]] = {}
        for row in await conn.fetch(_TABLES):
            table = name_sql(row["schema"], row["name"])
            columns = [each.name for each in (await read_structure(conn, row["schema"], row["name"])).columns]
            if not columns:
                continue
            sums = ", ".join(f"sum(hashtextextended({name_sql(each)}::text, 0)::numeric)::text" for each in columns)
            count, *values = await conn.fetchrow(f"SELECT count(*), {sums} FROM {table}")
            found |= {f"{table}.{name}": (count, str(value)) for name, value in zip(columns, values, strict=True)}
        return found
    finally:
        await conn.close()


async def run_plainly(dsn: str, statements: Sequence[str]) -> None:
    """Each statement as it stands, one after the other; in one transaction where they need one."""
    nodes = [each.stmt for statement in statements for each in parse_sql(statement).stmts]
    has_own = any(each.HasField("transaction_stmt") for each in nodes)
    needs_one = not has_own and any(each.HasField("lock_stmt") for each in nodes)
    conn = await asyncpg.connect(dsn)
    try:
        async with conn.transaction() if needs_one else nullcontext():
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


async def run_file(databases: Databases, name: str, text: str, options: argparse.Namespace) -> FileResult:
    """Runs one file on both databases."""
    began = time.monotonic()
    try:
        statements = tuple(split_statements(text))
        counted = tuple(each for each in statements if not _is_transaction_control(each))
    except SqlSyntaxError as error:
        return FileResult(name, "broken", reasons=[f"PostgreSQL cannot read it: {error.reason}"])
    read = read_plan(counted)
    executed = len(counted) - len(read.refusals)
    result = FileResult(name, "done", len(counted), executed, read.by_hand, reasons=read.refusals)
    if error := await _run_plain_side(databases, result, statements, options):
        result.outcome, result.reasons = "broken", [error]
        await databases.copy()
        return result
    if read.refusals:
        result.outcome = "refused"
    elif counted:
        await _run_as_refusals_say(databases, result, read.operations, is_rolled_back=options.roll_back)
    must_copy = result.outcome != "done"
    if not must_copy:
        differences, must_copy = await databases.compare()
        if not differences and options.rows:
            differences = await databases.compare_rows(statements)
        if differences:
            result.outcome, result.reasons = "wrong", list(differences)
    if must_copy:
        await databases.copy()
    result.seconds = time.monotonic() - began
    return result


async def _run_plain_side(
    databases: Databases, result: FileResult, statements: Sequence[str], options: argparse.Namespace
) -> str:
    """Runs the plain statements, on generated rows where they succeed there; the error of one that fails."""
    if options.rows:
        result.rows = await databases.fill(options.rows)
        await databases.copy()
    if options.rows or options.roll_back or any(_is_of_view(each) for each in statements):
        await databases.save()
    error = await _find_error(databases, statements)
    if error and options.rows:
        result.rows = 0
        await databases.restore()
        error = await _find_error(databases, statements)
    return error


async def _find_error(databases: Databases, statements: Sequence[str]) -> str:
    """Runs the plain statements; the error of one that fails."""
    try:
        await run_plainly(databases.plain, statements)
    except asyncpg.PostgresError as error:
        return str(error).splitlines()[0]
    return ""


def load_operations(dsn: str, operations: Operations, name: str = "file") -> LoadedPlan:
    document = {
        "name": name,
        "environment": "test",
        "database": {"dsn": dsn},
        "kubernetes": {"deployment": "app", "image": "app:2"},
        "gates": {"soak": "0s"},
        "operations": operations,
    }
    return load_plan(yaml.safe_dump(document), source=name, environment={})


def _find_refusal(operations: Operations) -> str:
    """Why the statements cannot be one plan; empty where they can."""
    try:
        plan = load_operations("postgresql://x", operations).plan
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


async def _run_by_zdd(
    databases: Databases, result: FileResult, operations: Operations, *, is_rolled_back: bool
) -> None:
    metrics: list[StepMetrics] = []
    try:
        loaded = load_operations(databases.zdd, operations)
        if is_rolled_back:
            differences = await _roll_back(databases, loaded, with_rows=not result.by_hand)
            if differences:
                result.outcome, result.reasons = "wrong", [f"after a rollback: {each}" for each in differences]
                return
            if result.by_hand:  # its undo is "nothing" here
                await databases.copy_saved()
        async with open_walk(databases.zdd, loaded, metrics) as walk:
            for phase in walk.holder.release.strategy.phases:
                await walk.run_phase(phase.name)
            await walk.finish()
    except PlanError as error:
        result.outcome, result.reasons = "refused", find_refused_together(operations) or [error.title]
        result.executed -= len(result.reasons)
    except ZddError as error:
        result.outcome, result.reasons = "failed", [" ".join(str(error).split())]
        if result.reasons[0].startswith("check-rows: ") or _LOST_COLUMNS.search(result.reasons[0]):  # before the start
            result.outcome, result.executed = "refused", 0
    locks = (seconds for each in metrics for mode, seconds in each.locks.items() if mode in BRIEF_MODES)
    result.lock_ms = 1000 * max(locks, default=0.0)


async def _run_as_refusals_say(
    databases: Databases, result: FileResult, operations: Operations, *, is_rolled_back: bool
) -> None:
    """Runs a file, and again with ``phase: contract`` where a refusal names a view for which a person may write it."""
    await _run_by_zdd(databases, result, operations, is_rolled_back=is_rolled_back)
    late: list[str] = []
    while result.outcome == "refused" and (found := _LOST_COLUMNS.search(result.reasons[0])) and found[1] not in late:
        late.append(found[1])
        await _run_with_late_views(databases, result, operations, late, is_rolled_back=is_rolled_back)


async def _run_with_late_views(
    databases: Databases, result: FileResult, operations: Operations, names: Sequence[str], *, is_rolled_back: bool
) -> None:
    """Runs a file again as the refusal says: the statements of such views are one operation of contract."""
    named = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, names))})(?!\w)")
    views = [each for each in operations if isinstance(each, str) and _is_of_view(each) and named.search(each)]
    late: Operations = [each for each in operations if each not in views[:-1]]
    late[late.index(views[-1])] = {"sql": ";\n".join(each.rstrip().rstrip(";") for each in views), "phase": "contract"}
    await databases.copy_saved()
    result.outcome, result.executed, result.reasons = "done", result.statements, []
    await _run_by_zdd(databases, result, late, is_rolled_back=is_rolled_back)
    if result.outcome == "done":
        result.by_hand += len(views)
    elif result.outcome == "refused":  # one operation, and several statements
        result.executed = max(0, result.executed - len(views) + 1)


def _is_of_view(statement: str) -> bool:
    """Whether a statement can wait for contract with the others of a view."""
    return all(_is_view_node(each.stmt) for each in parse_sql(statement).stmts)


def _is_view_node(node: Any) -> bool:
    if node.HasField("drop_stmt"):
        return enum_name(node.drop_stmt, "remove_type") == "OBJECT_VIEW"
    if node.HasField("comment_stmt"):
        return enum_name(node.comment_stmt, "objtype") == "OBJECT_VIEW"
    return node.WhichOneof("node") in ("view_stmt", "grant_stmt", "transaction_stmt")


async def _roll_back(databases: Databases, loaded: LoadedPlan, *, with_rows: bool) -> tuple[str, ...]:
    """Runs the release up to contract and back; what is not as it was before."""
    assert isinstance(loaded.plan, OperationsPlan)
    definitions, values = await databases.definitions(databases.zdd), await read_values(databases.zdd)
    async with open_walk(databases.zdd, loaded, []) as walk:
        phases = [phase.name for phase in walk.holder.release.strategy.phases[:-1]]
        for phase in phases:
            await walk.run_phase(phase)
        if phases:
            await walk.roll_back(phases[-1])
    found = await databases.definitions(databases.zdd)
    differences = compare_definitions(definitions, found, kept=find_added_enum_values(loaded.plan))
    if differences or not with_rows:
        return differences
    after = await read_values(databases.zdd)
    return tuple(f"rows differ: {name}" for name in values if values[name] != after.get(name))


@asynccontextmanager
async def open_walk(dsn: str, loaded: LoadedPlan, metrics: list[StepMetrics]) -> AsyncIterator[ReleaseWalk]:
    """A release of operations in a database that nobody else uses."""
    assert isinstance(loaded.plan, OperationsPlan)
    accepted = accept_every_use(loaded.plan, "nobody else uses the database")
    plan = loaded.plan.model_copy(update={"accept": accepted})
    async with open_release(dsn, plan, loaded) as store, StepMetricsCollector(dsn) as collector:
        holder = ReleaseHolder((await store.read()).release)
        ctx = Context(plan, store, None, fake_cluster(plan), lambda: False, lambda _: None)
        yield ReleaseWalk(ctx, store, holder, Measurement(collector, None, metrics), lambda _: None)


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
                result = await run_file(databases, str(file.relative_to(folder)), text, arguments)
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
    parser.add_argument("--rows", type=int, default=0, help="generated rows that an empty table gets before each file")
    parser.add_argument("--roll-back", action="store_true", help="roll each release back once before it runs")
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

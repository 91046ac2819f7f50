"""Executes a statement on a scratch database and measures what it does: locks, rewrites, index builds, scans.

Never call it with a connection to a database that somebody uses.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.backends.postgres.schema_snapshot import read_schema_snapshot
from zdd_tui.model.advice.effects import PlainRun, StatementEffects, TableLock, measured_effects
from zdd_tui.model.advice.opaque import depends_on_rows, is_left_out, reads_rows, why_not_executed
from zdd_tui.model.advice.schema import RelationInfo, SchemaSnapshot
from zdd_tui.model.sql import parse_sql, quote_qualified

MAX_HOLDERS = 40
"""Tables that are held while a statement runs that the server refuses in a transaction; each takes a session."""

_MODES = {"".join(word.capitalize() for word in lock.split()) + "Lock": lock for lock in TableLock}
_LOCKS = "SELECT relation::bigint AS oid, mode FROM pg_locks WHERE pid = $1 AND locktype = 'relation'"
_COUNTS = """
SELECT relid::bigint AS oid,
  seq_scan + coalesce(idx_scan, 0) + pg_stat_get_vacuum_count(relid) + pg_stat_get_analyze_count(relid) AS scans,
  n_tup_ins + n_tup_upd + n_tup_del AS written, n_tup_del AS deleted
FROM {view}
"""
_OUTSIDE_TRANSACTION = (asyncpg.ActiveSQLTransactionError, asyncpg.InvalidTransactionTerminationError)
_DUPLICATE = (
    *(asyncpg.DuplicateColumnError, asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError),
    *(asyncpg.DuplicateFunctionError, asyncpg.DuplicateSchemaError, asyncpg.DuplicateAliasError),
)
_OF_THE_SERVER = (
    *(asyncpg.InsufficientPrivilegeError, asyncpg.OperatorInterventionError, asyncpg.LockNotAvailableError),
    asyncpg.UndefinedFileError,
)
"""Errors that may come from what the scratch server lacks: rights of its role, files."""

_OF_THE_COPY = (
    *(asyncpg.UndefinedFunctionError, asyncpg.UndefinedObjectError, asyncpg.UndefinedTableError),
    *(asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError),
)
"""Errors that may come from what the copy lacks: extensions of the real server, and what uses them."""

_OF_ROWS = (
    *(asyncpg.IntegrityConstraintViolationError, asyncpg.RaiseError, asyncpg.NoDataFoundError),
    *(asyncpg.AssertError, asyncpg.CardinalityViolationError, asyncpg.InvalidCursorStateError),
)
"""Errors that may come from rows, which the copy does not have."""


_NOT_COPIED = re.compile(r"extension |tablespace |collation |language |unrecognized configuration parameter ")
"""What errors name that a server has, and no copy of a schema: its packages, its disks, its operating system."""


@dataclass(slots=True)
class _Observed:
    locks: dict[int, TableLock] = field(default_factory=dict)

    def add(self, rows: Iterable[asyncpg.Record]) -> None:
        for row in rows:
            lock = _MODES.get(row["mode"], TableLock.NONE)
            if lock.strength > self.locks.get(row["oid"], TableLock.NONE).strength:
                self.locks[row["oid"]] = lock

    def stronger_than(self, other: "_Observed") -> dict[int, TableLock]:
        return {
            oid: lock
            for oid, lock in self.locks.items()
            if lock.strength > other.locks.get(oid, TableLock.NONE).strength
        }


async def measure_statement(
    conn: Connection,
    sql: str,
    before: SchemaSnapshot,
    *,
    open_session: Callable[[], "contextlib.AbstractAsyncContextManager[Connection]"],
    keep: bool = True,
    original: SchemaSnapshot | None = None,
    exception_code: str = "",
) -> tuple[StatementEffects, SchemaSnapshot]:
    """Executes one statement and returns its effects, and the schema after it.

    Args:
        conn: a session of the scratch database, outside of a transaction.
        open_session: opens further sessions of it, for a statement that the server refuses in a transaction.
        original: the schema before the migration: what the migration itself has made is left out of the effects.
        keep: whether the statement's changes stay; a statement outside of a transaction always keeps them.
        exception_code: code of the statement that has an EXCEPTION block, empty for none. Where such a block takes
            its effects back, its locks are gone before the statement ends: they are seen while it waits for them.
    """
    observed, waited = _Observed(), _Observed()
    if exception_code and (problem := await _observe_waits(conn, sql, exception_code, before, open_session, waited)):
        return StatementEffects(error=problem), before
    transaction = conn.transaction()
    await transaction.start()
    try:
        # Counts of earlier transactions stay in the view until the session has reported them.
        counted = await _read_counts(conn, "pg_stat_xact_user_tables")
        await conn.execute(sql)
        observed.add(await conn.fetch(_LOCKS, await conn.fetchval("SELECT pg_backend_pid()")))
        counts = _subtract(await _read_counts(conn, "pg_stat_xact_user_tables"), counted)
        after = await read_schema_snapshot(conn)
        if keep:
            await transaction.commit()
        else:
            await transaction.rollback()
    except _OUTSIDE_TRANSACTION:
        await transaction.rollback()
        return await _measure_outside_transaction(conn, sql, before, open_session, original)
    except asyncpg.PostgresError as error:
        with contextlib.suppress(asyncpg.PostgresError):
            await transaction.rollback()
        return _refused(error, sql), before
    taken_back = waited.stronger_than(observed)
    effects = measured_effects(
        before,
        after,
        observed.locks | taken_back,
        counts,
        writes_rows=not _is_only_planned(sql),
        original=original,
        taken_back=taken_back.keys(),
    )
    return effects, after


def _is_only_planned(sql: str) -> bool:
    """Whether a statement locks tables as for a write, and writes nothing."""
    [statement] = parse_sql(sql).stmts
    node = statement.stmt
    if node.WhichOneof("node") == "explain_stmt":
        return all(option.def_elem.defname != "analyze" for option in node.explain_stmt.options)
    return node.WhichOneof("node") in ("rule_stmt", "prepare_stmt", "lock_stmt")


def _refused(error: BaseException, sql: str) -> StatementEffects:
    text = str(error).splitlines()[0]
    # The schema zdd, which steps use, is not copied.
    # It runs without those before it, in a transaction of its own: a cursor of theirs is not there.
    is_of_others = isinstance(error, asyncpg.InvalidCursorNameError)
    is_refused = not is_of_others and _is_certain(error, (*_OF_THE_SERVER, *_of_rows(_read_node(sql)), *_OF_THE_COPY))
    return StatementEffects(error=text, is_duplicate=isinstance(error, _DUPLICATE), is_refused=is_refused)


def _read_node(sql: str) -> str:
    return parse_sql(sql).stmts[0].stmt.WhichOneof("node") or ""


def _of_rows(node: str) -> tuple[type[BaseException], ...]:
    """Errors that other rows may not cause: a value that a statement computes is none that its text has."""
    return (*_OF_ROWS, asyncpg.DataError) if reads_rows(node) else _OF_ROWS


def _is_certain(error: BaseException, lacking: tuple[type[BaseException], ...]) -> bool:
    """Whether the real server refuses it as well: the error is none of those that the copy's limits cause."""
    return not isinstance(error, lacking) and not _NOT_COPIED.match(str(error))


async def run_plainly(
    conn: Connection,
    statements: Iterable[str],
    *,
    is_complete: bool,
    bodies: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> PlainRun:
    """Executes statements one after the other, up to the first that the server refuses.

    Args:
        conn: a session of a copy.
        is_complete: the copy has every object of the real database.
        bodies: source of the functions of users, by name: what reaches outside of the database is not executed. None
            where the whole server goes with the copy: everything is executed.
        timeout: seconds for a statement, also where one changes statement_timeout.
    """
    differs = not is_complete  # whether the copy may lack an object that the real database has
    for statement in statements:
        node = _read_node(statement)
        if is_left_out(node, statement, is_whole_server=bodies is None):
            continue
        if bodies is not None and (reason := why_not_executed(node, statement, bodies)):
            return PlainRun(statement, f"not executed there: {reason}", is_refused=False)
        depends = depends_on_rows(node, statement, bodies or {})
        try:
            async with asyncio.timeout(timeout):
                await conn.execute(statement)
        except TimeoutError:
            return PlainRun(statement, f"no end within {timeout:.0f} s on a copy", is_refused=False)
        except asyncpg.PostgresError as error:
            lacking = (*_OF_THE_SERVER, *_of_rows(node), *((*_OF_THE_COPY, *_DUPLICATE) if differs else ()))
            ends_transaction = isinstance(error, asyncpg.InvalidTransactionTerminationError)
            is_refused = ends_transaction or (not depends and _is_certain(error, lacking))
            return PlainRun(statement, str(error).splitlines()[0], is_refused)
        differs = differs or depends
    return PlainRun()


_Counts = Mapping[int, tuple[int, int, int]]
"""Scans, rows written and rows deleted, by oid of the table."""


async def _read_counts(conn: Connection, view: str) -> _Counts:
    await conn.execute("SELECT pg_stat_clear_snapshot()")
    rows = await conn.fetch(_COUNTS.format(view=view))
    return {row["oid"]: (row["scans"], row["written"], row["deleted"]) for row in rows}


async def _report_counts(conn: Connection) -> None:
    """Makes the session report its counts, which it otherwise does once a second."""
    if await conn.fetchval("SELECT current_setting('server_version_num')::int >= 150000"):
        await conn.execute("SELECT pg_stat_force_next_flush()")
    else:
        await asyncio.sleep(1.1)
        await conn.execute("SELECT 1")


def _subtract(counts: _Counts, earlier: _Counts) -> _Counts:
    zero = (0, 0, 0)
    return {
        oid: (row[0] - old[0], row[1] - old[1], row[2] - old[2])
        for oid, row in counts.items()
        for old in (earlier.get(oid, zero),)
    }


# --- statements that the server refuses in a transaction: their locks are seen while they wait for ours


async def _measure_outside_transaction(
    conn: Connection,
    sql: str,
    before: SchemaSnapshot,
    open_session: Callable[[], "contextlib.AbstractAsyncContextManager[Connection]"],
    original: SchemaSnapshot | None,
) -> tuple[StatementEffects, SchemaSnapshot]:
    """Other sessions hold every table that the statement could lock. It waits for each, and its locks are read then."""
    wanted = _find_lockable(sql, before)
    if len(wanted) > MAX_HOLDERS:
        return StatementEffects(outside_transaction=True, error=_too_many(wanted)), before
    observed = _Observed()
    async with contextlib.AsyncExitStack() as stack:
        observer, holders = await _hold_tables(stack, wanted, open_session)
        counted = await _read_counts(observer, "pg_stat_user_tables")
        try:
            await _run_against_holders(conn, sql, observer, holders, observed)
            await _report_counts(conn)
        except asyncpg.PostgresError as error:
            return _refused(error, sql), before
        counts = _subtract(await _read_counts(observer, "pg_stat_user_tables"), counted)
    after = await read_schema_snapshot(conn)
    effects = measured_effects(before, after, observed.locks, counts, original=original, outside_transaction=True)
    return effects, after


async def _observe_waits(
    conn: Connection,
    sql: str,
    code: str,
    before: SchemaSnapshot,
    open_session: Callable[[], "contextlib.AbstractAsyncContextManager[Connection]"],
    observed: _Observed,
) -> str:
    """Executes the statement in a transaction that is rolled back, while other sessions hold the tables.

    Returns:
        why nothing was observed; empty where it was.
    """
    wanted = _find_lockable(code, before)
    if len(wanted) > MAX_HOLDERS:
        return f"the locks of its EXCEPTION blocks cannot be observed: {_too_many(wanted)}"
    async with contextlib.AsyncExitStack() as stack:
        observer, holders = await _hold_tables(stack, wanted, open_session)
        transaction = conn.transaction()
        await transaction.start()
        try:
            # What it says of errors, the execution that counts says too.
            with contextlib.suppress(asyncpg.PostgresError):
                await _run_against_holders(conn, sql, observer, holders, observed)
        finally:
            await transaction.rollback()
    return ""


def _find_lockable(code: str, before: SchemaSnapshot) -> list[RelationInfo]:
    """The tables that code may lock: those that it names, with their partitions; all where it names none."""
    tables = [relation for relation in before.relations.values() if relation.kind in "rpm"]
    named = [each for each in tables if each.name in code]
    indexed = {each.index_of for each in before.relations.values() if each.index_of and each.name in code}
    roots = {each.oid for each in named} | indexed
    near = {child.oid for oid in roots for child in before.children(oid)} | roots
    return [each for each in tables if each.oid in near] or tables


def _too_many(wanted: Sequence[RelationInfo]) -> str:
    return f"it may lock {len(wanted)} tables, and at most {MAX_HOLDERS} are observed"


async def _hold_tables(
    stack: contextlib.AsyncExitStack,
    wanted: Iterable[RelationInfo],
    open_session: Callable[[], "contextlib.AbstractAsyncContextManager[Connection]"],
) -> tuple[Connection, "dict[int, _Holder]"]:
    """Returns a session to observe from, and the sessions that hold the tables, by process id."""
    observer = await stack.enter_async_context(open_session())
    holders: dict[int, _Holder] = {}
    for relation in wanted:
        session = await stack.enter_async_context(open_session())
        holder = _Holder(session, quote_qualified(relation.schema, relation.name), is_view=relation.kind == "m")
        holders[await holder.hold()] = holder
    return observer, holders


async def _run_against_holders(
    conn: Connection, sql: str, observer: Connection, holders: "dict[int, _Holder]", observed: _Observed
) -> None:
    """Executes a statement, reads its locks whenever it waits, and lets it go on.

    Raises:
        asyncpg.PostgresError: the server refuses the statement.
    """
    pid = conn.get_server_pid()
    running = asyncio.ensure_future(conn.execute(sql))
    try:
        while not running.done():
            await asyncio.wait({running}, timeout=0.002)
            blocking = await observer.fetchval("SELECT pg_blocking_pids($1)", pid)
            observed.add(await observer.fetch(_LOCKS, pid))
            for each in blocking or ():
                if each in holders:
                    await holders[each].loosen()
        await running
    finally:
        for holder in holders.values():
            await holder.release()
        if not running.done():
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


class _Holder:
    """Holds a table in EXCLUSIVE mode, for which every other mode but ACCESS SHARE waits; then in ACCESS SHARE, for
    which only ACCESS EXCLUSIVE waits; then not at all. A materialized view, which LOCK TABLE refuses, is held in SHARE
    mode first."""

    def __init__(self, conn: Connection, table: str, *, is_view: bool) -> None:
        self._conn, self._table, self._is_view = conn, table, is_view
        self._steps = ["ROLLBACK TO SAVEPOINT stronger", "ROLLBACK"]

    async def hold(self) -> int:
        """Returns the process id of the session."""
        if self._is_view:
            await self._conn.execute(f"BEGIN; SELECT FROM {self._table} LIMIT 0; SAVEPOINT stronger")
            await self._conn.execute(f"CREATE INDEX ON {self._table} ((1))")
        else:
            await self._conn.execute(f"BEGIN; LOCK TABLE ONLY {self._table} IN ACCESS SHARE MODE; SAVEPOINT stronger")
            await self._conn.execute(f"LOCK TABLE ONLY {self._table} IN EXCLUSIVE MODE")
        # No query by the extended protocol: its portal would keep a snapshot, for which CONCURRENTLY waits too.
        return self._conn.get_server_pid()

    async def loosen(self) -> None:
        if self._steps:
            await self._conn.execute(self._steps.pop(0))

    async def release(self) -> None:
        if self._steps:
            self._steps.clear()
            await self._conn.execute("ROLLBACK")


@contextlib.asynccontextmanager
async def open_scratch_session(dsn: str, **settings: str) -> AsyncIterator[Connection]:
    """A session of a scratch database."""
    conn = await asyncpg.connect(dsn, server_settings={"application_name": "zdd scratch", **settings})
    try:
        yield conn
    finally:
        conn.terminate()

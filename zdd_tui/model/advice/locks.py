"""Which lock each kind of statement takes, the work done under it, and whether it breaks running code.

Sources: PostgreSQL documentation, "Explicit Locking" (13.3.1) and the notes of ALTER TABLE, CREATE INDEX, REINDEX,
VACUUM and CLUSTER. tests/model/advice/test_locks.py compares the table with a real server.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from zdd_tui.model.advice.migration import ActionKind, DatabaseStats, LiveTableStats, Statement, StatementAction


class TableLock(StrEnum):
    """A table-level lock, by its name in the documentation."""

    ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"
    SHARE_ROW_EXCLUSIVE = "SHARE ROW EXCLUSIVE"
    SHARE = "SHARE"
    SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE"
    ROW_EXCLUSIVE = "ROW EXCLUSIVE"
    NONE = "no lock"

    @property
    def blocked(self) -> str:
        """The sessions that wait for it."""
        return _BLOCKED_BY_LOCK.get(self, "nothing")


_BLOCKED_BY_LOCK = {
    TableLock.ACCESS_EXCLUSIVE: "reads and writes",
    TableLock.SHARE_ROW_EXCLUSIVE: "writes",
    TableLock.SHARE: "writes",
    TableLock.ROW_EXCLUSIVE: "writers of the same rows",
}


class TableWork(StrEnum):
    """The work that is done while the lock is held."""

    NONE = "nothing"
    INSTANT = "catalog only"
    SCAN = "reads the whole table"
    REWRITE = "rewrites the table and its indexes"
    INDEX = "builds an index"
    ROWS = "writes rows, all of them at worst"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class LockRule:
    """
    Attributes:
        breaking_reason: why it breaks running code; empty where it does not.
        hint: a safer way to the same result; empty where none is needed.
    """

    lock: TableLock
    work: TableWork
    breaking_reason: str = ""
    hint: str = ""


_AX, _SRX, _S = TableLock.ACCESS_EXCLUSIVE, TableLock.SHARE_ROW_EXCLUSIVE, TableLock.SHARE
_SUX, _RX, _NO = TableLock.SHARE_UPDATE_EXCLUSIVE, TableLock.ROW_EXCLUSIVE, TableLock.NONE

LOCK_RULES: dict[ActionKind, LockRule] = {
    # Breaks running code:
    ActionKind.DROP_TABLE: LockRule(_AX, TableWork.INSTANT, "running code still uses the table, and its rows are gone"),
    ActionKind.DROP_COLUMN: LockRule(
        _AX, TableWork.INSTANT, "running code still names the column, and its data is gone"
    ),
    ActionKind.DROP_OTHER: LockRule(_AX, TableWork.INSTANT, "running code may still use it"),
    ActionKind.TRUNCATE: LockRule(_AX, TableWork.INSTANT, "its rows are deleted, and no rollback restores them"),
    ActionKind.RENAME_TABLE: LockRule(_AX, TableWork.INSTANT, "running code still uses the old name"),
    ActionKind.SET_SCHEMA: LockRule(_AX, TableWork.INSTANT, "running code uses it in the old schema"),
    ActionKind.RENAME_COLUMN: LockRule(_AX, TableWork.INSTANT, "running code still uses the old name"),
    ActionKind.RENAME_OTHER: LockRule(_AX, TableWork.INSTANT, "running code may still use the old name"),
    ActionKind.CHANGE_TYPE: LockRule(_AX, TableWork.REWRITE, "running code reads and writes the old type"),
    ActionKind.SET_NOT_NULL: LockRule(
        *(_AX, TableWork.SCAN, "running code may still write NULL, and the whole table is read under the lock"),
        hint="ADD CONSTRAINT … CHECK (… IS NOT NULL) NOT VALID; VALIDATE CONSTRAINT; then SET NOT NULL",
    ),
    ActionKind.ADD_REQUIRED_COLUMN: LockRule(
        *(_AX, TableWork.SCAN, "INSERTs of running code do not name the column and fail"),
        hint="add it nullable, or with a constant DEFAULT",
    ),
    # Safe for running code:
    ActionKind.ADD_COLUMN: LockRule(_AX, TableWork.INSTANT),
    ActionKind.ADD_COLUMN_REWRITE: LockRule(
        _AX, TableWork.REWRITE, hint="add it bare, SET DEFAULT for new rows, and fill the old ones in batches"
    ),
    ActionKind.ADD_CHECK: LockRule(
        _AX, TableWork.SCAN, hint="add it NOT VALID, then VALIDATE CONSTRAINT in a transaction of its own"
    ),
    ActionKind.ADD_FOREIGN_KEY: LockRule(
        _SRX, TableWork.SCAN, hint="add it NOT VALID, then VALIDATE CONSTRAINT in a transaction of its own"
    ),
    ActionKind.ADD_NOT_VALID: LockRule(_AX, TableWork.INSTANT),
    ActionKind.ADD_FOREIGN_KEY_NOT_VALID: LockRule(_SRX, TableWork.INSTANT),
    ActionKind.ADD_UNIQUE: LockRule(
        _AX, TableWork.INDEX, hint="CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT … USING INDEX"
    ),
    ActionKind.ADD_UNIQUE_USING_INDEX: LockRule(_AX, TableWork.INSTANT),
    ActionKind.VALIDATE: LockRule(_SUX, TableWork.SCAN),
    ActionKind.DROP_CONSTRAINT: LockRule(_AX, TableWork.INSTANT),
    ActionKind.DROP_NOT_NULL: LockRule(_AX, TableWork.INSTANT),
    ActionKind.SET_DEFAULT: LockRule(_AX, TableWork.INSTANT),
    ActionKind.ALTER_OTHER: LockRule(_AX, TableWork.UNKNOWN),
    ActionKind.REWRITE_OTHER: LockRule(_AX, TableWork.REWRITE, hint="run it at a time of low load, or use pg_repack"),
    ActionKind.CREATE: LockRule(_NO, TableWork.NONE),
    ActionKind.CREATE_INDEX: LockRule(_S, TableWork.INDEX, hint="CREATE INDEX CONCURRENTLY, outside of a transaction"),
    ActionKind.CREATE_INDEX_CONCURRENTLY: LockRule(_SUX, TableWork.INDEX),
    ActionKind.DROP_INDEX: LockRule(_AX, TableWork.INSTANT, hint="DROP INDEX CONCURRENTLY, outside of a transaction"),
    ActionKind.DROP_INDEX_CONCURRENTLY: LockRule(_SUX, TableWork.INSTANT),
    ActionKind.REINDEX: LockRule(_S, TableWork.INDEX, hint="REINDEX CONCURRENTLY"),
    ActionKind.REINDEX_CONCURRENTLY: LockRule(_SUX, TableWork.INDEX),
    ActionKind.CREATE_TRIGGER: LockRule(_SRX, TableWork.INSTANT),
    ActionKind.DROP_TRIGGER: LockRule(_AX, TableWork.INSTANT),
    ActionKind.VACUUM_FULL: LockRule(_AX, TableWork.REWRITE, hint="VACUUM without FULL, or pg_repack"),
    ActionKind.REFRESH: LockRule(_AX, TableWork.UNKNOWN, hint="REFRESH MATERIALIZED VIEW CONCURRENTLY"),
    ActionKind.LOCK: LockRule(_AX, TableWork.UNKNOWN, hint="leave it out"),
    ActionKind.WRITE_ROWS: LockRule(_RX, TableWork.ROWS, hint="where it touches many rows, run it in batches"),
    ActionKind.HARMLESS: LockRule(_NO, TableWork.NONE),
    ActionKind.UNKNOWN: LockRule(
        _NO, TableWork.UNKNOWN, hint="review it yourself: the adviser does not know this statement"
    ),
}


@dataclass(frozen=True, slots=True)
class StatementVerdict:
    """The rule for one action of a statement, with an estimate for its table.

    Attributes:
        lock_seconds: least and most time that the lock is held once it is granted; None where it is unknown.
    """

    statement: Statement
    action: StatementAction
    rule: LockRule
    lock_seconds: tuple[float, float] | None


def evaluate_statements(
    statements: Iterable[Statement], stats: DatabaseStats | None = None
) -> tuple[StatementVerdict, ...]:
    """A verdict for each action. Without ``stats`` the worse case is assumed."""
    proofs = _NotNullProofs()
    verdicts = []
    for statement in statements:
        for action in statement.actions:
            table = stats.find_table(action.table) if stats is not None else None
            rule = _rule_in_context(action, proofs, table)
            proofs.record(action)
            verdicts.append(
                StatementVerdict(
                    statement, action, rule, estimate_lock_seconds(rule.work, None if action.on_new_table else table)
                )
            )
    return tuple(verdicts)


class _NotNullProofs:
    """Columns that the migration itself has proven not to be NULL."""

    def __init__(self) -> None:
        self.columns: set[tuple[str, str]] = set()
        self._pending: dict[tuple[str, str], str] = {}

    def record(self, action: StatementAction) -> None:
        table = str(action.table)
        if action.kind is ActionKind.ADD_CHECK and action.column:
            self.columns.add((table, action.column))
        elif action.kind is ActionKind.ADD_NOT_VALID and action.column:
            self._pending[table, action.name] = action.column
        elif action.kind is ActionKind.VALIDATE and (column := self._pending.get((table, action.name))):
            self.columns.add((table, column))


def _rule_in_context(
    action: StatementAction, not_null_proofs: _NotNullProofs, table: LiveTableStats | None
) -> LockRule:
    rule = LOCK_RULES[action.kind]
    if action.on_new_table:
        return replace(rule, work=TableWork.INSTANT, breaking_reason="", hint="")
    if action.kind is ActionKind.SET_NOT_NULL:
        known = (str(action.table), action.column) in not_null_proofs.columns
        if known or (table is not None and action.column in table.not_null):
            return LockRule(rule.lock, TableWork.INSTANT)
    if action.kind is ActionKind.CHANGE_TYPE and table is not None and not action.using:
        old = table.columns.get(action.column, "")
        return LockRule(rule.lock, TableWork.INSTANT) if is_widening(old, action.type) else rule
    return rule


_SIZED_TYPE = re.compile(r"^(character varying|varchar|numeric|decimal|bit varying|varbit)(?:\((\d+)(?:, *(\d+))?\))?$")
_TYPE_ALIASES = {"varchar": "character varying", "decimal": "numeric", "varbit": "bit varying"}


def is_widening(old: str, new: str) -> bool:
    """Whether the change of type holds every old value as it is, without reading or rewriting a row.

    Source: ALTER TABLE's notes: binary coercible types, and a longer or no limit of varchar, varbit and numeric.
    """
    if old and old == new:
        return True
    before, after = _SIZED_TYPE.match(old.lower()), _SIZED_TYPE.match(new.lower())
    if before is None:
        return False
    family = _TYPE_ALIASES.get(before[1], before[1])
    if family == "character varying" and new.lower() == "text":
        return True
    if after is None or _TYPE_ALIASES.get(after[1], after[1]) != family:
        return False
    if after[2] is None:
        return True
    if before[2] is None or int(after[2]) < int(before[2]):
        return False
    return (before[3] or "0") == (after[3] or "0")


# --- duration of locks

_MB = 1024 * 1024
_BYTES_PER_SECOND = {
    TableWork.SCAN: (150 * _MB, 3000 * _MB),
    TableWork.REWRITE: (15 * _MB, 400 * _MB),
    TableWork.INDEX: (10 * _MB, 300 * _MB),
}
"""Slowest and fastest: cold on a slow, busy disk, and cached on an idle machine. Wide on purpose."""
_ROWS_PER_SECOND = 5_000
"""The slowest, with many indexes; the fastest is a statement that changes few rows."""
INSTANT_SECONDS = (0.001, 0.1)


def estimate_lock_seconds(work: TableWork, table: LiveTableStats | None) -> tuple[float, float] | None:
    """Least and most seconds; None where only a database knows."""
    if work is TableWork.NONE:
        return (0.0, 0.0)
    if work is TableWork.INSTANT:
        return INSTANT_SECONDS
    if table is None or work is TableWork.UNKNOWN:
        return None
    if work is TableWork.ROWS:
        return (INSTANT_SECONDS[0], max(table.rows / _ROWS_PER_SECOND, INSTANT_SECONDS[1]))
    size = table.heap_bytes + (table.index_bytes if work is TableWork.REWRITE else 0)
    slow, fast = _BYTES_PER_SECOND[work]
    return (max(size / fast, INSTANT_SECONDS[0]), max(size / slow, INSTANT_SECONDS[1]))


def select_breaking(verdicts: Iterable[StatementVerdict]) -> Iterator[StatementVerdict]:
    """Those that break running code."""
    return (verdict for verdict in verdicts if verdict.rule.breaking_reason)


def select_long_locks(verdicts: Iterable[StatementVerdict], max_seconds: float = 1.0) -> Iterator[StatementVerdict]:
    """Those that may block readers or writers for longer than ``max_seconds``, an unknown time included."""
    for verdict in verdicts:
        blocks = verdict.rule.lock in (TableLock.ACCESS_EXCLUSIVE, TableLock.SHARE_ROW_EXCLUSIVE, TableLock.SHARE)
        works = verdict.rule.work not in (TableWork.NONE, TableWork.INSTANT)
        if blocks and works and (verdict.lock_seconds is None or verdict.lock_seconds[1] > max_seconds):
            yield verdict

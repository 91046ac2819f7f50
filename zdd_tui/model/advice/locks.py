"""Which lock each kind of statement takes, what is done under it, and whether running code survives it.

Sources: PostgreSQL documentation, "Explicit Locking" (13.3.1) and the notes of ALTER TABLE, CREATE INDEX, REINDEX,
VACUUM and CLUSTER. tests/model/advice/test_locks.py holds the table against a real server.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from zdd_tui.model.advice.migration import Action, Kind, Live, LiveTable, Statement


class Lock(StrEnum):
    """A table-level lock, by its name in the documentation."""

    ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"
    SHARE_ROW_EXCLUSIVE = "SHARE ROW EXCLUSIVE"
    SHARE = "SHARE"
    SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE"
    ROW_EXCLUSIVE = "ROW EXCLUSIVE"
    NONE = "no lock"

    @property
    def blocks(self) -> str:
        """Whom it keeps waiting."""
        return _BLOCKS.get(self, "nobody")


_BLOCKS = {
    Lock.ACCESS_EXCLUSIVE: "reads and writes",
    Lock.SHARE_ROW_EXCLUSIVE: "writes",
    Lock.SHARE: "writes",
    Lock.ROW_EXCLUSIVE: "writers of the same rows",
}


class Work(StrEnum):
    """What is done while the lock is held."""

    NONE = "nothing"
    INSTANT = "catalog only"
    SCAN = "reads the whole table"
    REWRITE = "rewrites the table and its indexes"
    INDEX = "builds an index"
    ROWS = "writes rows, all of them at worst"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Rule:
    """
    Attributes:
        breaks: why code that runs now does not survive it; empty where it does.
        mend: how to come to the same end without harm; empty where there is nothing to mend.
    """

    lock: Lock
    work: Work
    breaks: str = ""
    mend: str = ""


_AX, _SRX, _S = Lock.ACCESS_EXCLUSIVE, Lock.SHARE_ROW_EXCLUSIVE, Lock.SHARE
_SUX, _RX, _NO = Lock.SHARE_UPDATE_EXCLUSIVE, Lock.ROW_EXCLUSIVE, Lock.NONE

RULES: dict[Kind, Rule] = {
    # --- what running code does not survive
    Kind.DROP_TABLE: Rule(_AX, Work.INSTANT, "running code still uses the table, and its rows are gone"),
    Kind.DROP_COLUMN: Rule(_AX, Work.INSTANT, "running code still names the column, and its data is gone"),
    Kind.DROP_OTHER: Rule(_AX, Work.INSTANT, "running code may still use it"),
    Kind.TRUNCATE: Rule(_AX, Work.INSTANT, "its rows are gone, and there is no way back"),
    Kind.RENAME_TABLE: Rule(_AX, Work.INSTANT, "running code still uses the old name"),
    Kind.SET_SCHEMA: Rule(_AX, Work.INSTANT, "running code looks for it in the old schema"),
    Kind.RENAME_COLUMN: Rule(_AX, Work.INSTANT, "running code still uses the old name"),
    Kind.RENAME_OTHER: Rule(_AX, Work.INSTANT, "running code may still use the old name"),
    Kind.CHANGE_TYPE: Rule(_AX, Work.REWRITE, "running code reads and writes the old type"),
    Kind.SET_NOT_NULL: Rule(
        *(_AX, Work.SCAN, "running code may still write NULL, and the whole table is read under the lock"),
        mend="ADD CONSTRAINT … CHECK (… IS NOT NULL) NOT VALID; VALIDATE CONSTRAINT; then SET NOT NULL",
    ),
    Kind.ADD_REQUIRED_COLUMN: Rule(
        *(_AX, Work.SCAN, "INSERTs of running code do not name the column and fail"),
        mend="add it nullable, or with a constant DEFAULT",
    ),
    # --- what running code survives
    Kind.ADD_COLUMN: Rule(_AX, Work.INSTANT),
    Kind.ADD_COLUMN_REWRITE: Rule(
        _AX, Work.REWRITE, mend="add it bare, SET DEFAULT for new rows, and fill the old ones in batches"
    ),
    Kind.ADD_CHECK: Rule(_AX, Work.SCAN, mend="add it NOT VALID, then VALIDATE CONSTRAINT in a transaction of its own"),
    Kind.ADD_FOREIGN_KEY: Rule(
        _SRX, Work.SCAN, mend="add it NOT VALID, then VALIDATE CONSTRAINT in a transaction of its own"
    ),
    Kind.ADD_NOT_VALID: Rule(_AX, Work.INSTANT),
    Kind.ADD_FOREIGN_KEY_NOT_VALID: Rule(_SRX, Work.INSTANT),
    Kind.ADD_UNIQUE: Rule(_AX, Work.INDEX, mend="CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT … USING INDEX"),
    Kind.ADD_UNIQUE_USING_INDEX: Rule(_AX, Work.INSTANT),
    Kind.VALIDATE: Rule(_SUX, Work.SCAN),
    Kind.DROP_CONSTRAINT: Rule(_AX, Work.INSTANT),
    Kind.DROP_NOT_NULL: Rule(_AX, Work.INSTANT),
    Kind.SET_DEFAULT: Rule(_AX, Work.INSTANT),
    Kind.ALTER_OTHER: Rule(_AX, Work.UNKNOWN),
    Kind.REWRITE_OTHER: Rule(_AX, Work.REWRITE, mend="do it at a quiet hour, or with pg_repack"),
    Kind.CREATE: Rule(_NO, Work.NONE),
    Kind.CREATE_INDEX: Rule(_S, Work.INDEX, mend="CREATE INDEX CONCURRENTLY, outside of a transaction"),
    Kind.CREATE_INDEX_CONCURRENTLY: Rule(_SUX, Work.INDEX),
    Kind.DROP_INDEX: Rule(_AX, Work.INSTANT, mend="DROP INDEX CONCURRENTLY, outside of a transaction"),
    Kind.DROP_INDEX_CONCURRENTLY: Rule(_SUX, Work.INSTANT),
    Kind.REINDEX: Rule(_S, Work.INDEX, mend="REINDEX CONCURRENTLY"),
    Kind.REINDEX_CONCURRENTLY: Rule(_SUX, Work.INDEX),
    Kind.CREATE_TRIGGER: Rule(_SRX, Work.INSTANT),
    Kind.DROP_TRIGGER: Rule(_AX, Work.INSTANT),
    Kind.VACUUM_FULL: Rule(_AX, Work.REWRITE, mend="VACUUM without FULL, or pg_repack"),
    Kind.REFRESH: Rule(_AX, Work.UNKNOWN, mend="REFRESH MATERIALIZED VIEW CONCURRENTLY"),
    Kind.LOCK: Rule(_AX, Work.UNKNOWN, mend="leave it out"),
    Kind.WRITE_ROWS: Rule(_RX, Work.ROWS, mend="where it touches many rows, run it in batches"),
    Kind.HARMLESS: Rule(_NO, Work.NONE),
    Kind.UNKNOWN: Rule(_NO, Work.UNKNOWN, mend="read it yourself: the adviser does not know such statements"),
}


@dataclass(frozen=True, slots=True)
class Ruling:
    """The rule for one action of a statement, with what is known of its table.

    Attributes:
        seconds: from, to: how long the lock is held once it is granted; None where nobody can tell.
    """

    statement: Statement
    action: Action
    rule: Rule
    seconds: tuple[float, float] | None


def judge(statements: Iterable[Statement], live: Live | None = None) -> tuple[Ruling, ...]:
    """A ruling for each action. Without ``live``, what only a database knows is taken for the worse."""
    proven = _Proven()
    rulings = []
    for statement in statements:
        for action in statement.actions:
            table = live.of(action.table) if live is not None else None
            rule = _in_context(action, proven, table)
            proven.take(action)
            rulings.append(Ruling(statement, action, rule, estimate(rule.work, None if action.fresh else table)))
    return tuple(rulings)


class _Proven:
    """Which columns the migration itself has proven not to be NULL."""

    def __init__(self) -> None:
        self.columns: set[tuple[str, str]] = set()
        self._pending: dict[tuple[str, str], str] = {}

    def take(self, action: Action) -> None:
        table = str(action.table)
        if action.kind is Kind.ADD_CHECK and action.column:
            self.columns.add((table, action.column))
        elif action.kind is Kind.ADD_NOT_VALID and action.column:
            self._pending[table, action.name] = action.column
        elif action.kind is Kind.VALIDATE and (column := self._pending.get((table, action.name))):
            self.columns.add((table, column))


def _in_context(action: Action, proven: _Proven, table: LiveTable | None) -> Rule:
    rule = RULES[action.kind]
    if action.fresh:
        return replace(rule, work=Work.INSTANT, breaks="", mend="")
    if action.kind is Kind.SET_NOT_NULL:
        known = (str(action.table), action.column) in proven.columns
        if known or (table is not None and action.column in table.not_null):
            return Rule(rule.lock, Work.INSTANT)
    if action.kind is Kind.CHANGE_TYPE and table is not None and not action.using:
        old = table.columns.get(action.column, "")
        return Rule(rule.lock, Work.INSTANT) if widens(old, action.type) else rule
    return rule


_SIZED = re.compile(r"^(character varying|varchar|numeric|decimal|bit varying|varbit)(?:\((\d+)(?:, *(\d+))?\))?$")
_SAME = {"varchar": "character varying", "decimal": "numeric", "varbit": "bit varying"}


def widens(old: str, new: str) -> bool:
    """Whether the change of type holds every old value as it is, without reading or rewriting a row.

    Source: ALTER TABLE's notes: binary coercible types, and a longer or no limit of varchar, varbit and numeric.
    """
    if old and old == new:
        return True
    before, after = _SIZED.match(old.lower()), _SIZED.match(new.lower())
    if before is None:
        return False
    family = _SAME.get(before[1], before[1])
    if family == "character varying" and new.lower() == "text":
        return True
    if after is None or _SAME.get(after[1], after[1]) != family:
        return False
    if after[2] is None:
        return True
    if before[2] is None or int(after[2]) < int(before[2]):
        return False
    return (before[3] or "0") == (after[3] or "0")


# --- how long ------------------------------------------------------------------------------------------------

_MB = 1024 * 1024
_RATES = {Work.SCAN: (150 * _MB, 3000 * _MB), Work.REWRITE: (15 * _MB, 400 * _MB), Work.INDEX: (10 * _MB, 300 * _MB)}
"""Bytes a second: cold on a slow disk and busy, to cached and idle. Wide on purpose."""
_ROWS_A_SECOND = 5_000
"""The slow end, with many indexes; the fast end is a statement that touches few rows."""
INSTANT = (0.001, 0.1)


def estimate(work: Work, table: LiveTable | None) -> tuple[float, float] | None:
    """Seconds, from and to; None where only a database could tell."""
    if work is Work.NONE:
        return (0.0, 0.0)
    if work is Work.INSTANT:
        return INSTANT
    if table is None or work is Work.UNKNOWN:
        return None
    if work is Work.ROWS:
        return (INSTANT[0], max(table.rows / _ROWS_A_SECOND, INSTANT[1]))
    size = table.heap_bytes + (table.index_bytes if work is Work.REWRITE else 0)
    slow, fast = _RATES[work]
    return (max(size / fast, INSTANT[0]), max(size / slow, INSTANT[1]))


def breaking(rulings: Iterable[Ruling]) -> Iterator[Ruling]:
    """Those that running code does not survive."""
    return (ruling for ruling in rulings if ruling.rule.breaks)


def long_locks(rulings: Iterable[Ruling], patience: float = 1.0) -> Iterator[Ruling]:
    """Those that would keep readers or writers waiting for longer than ``patience`` seconds, or for nobody knows how
    long."""
    for ruling in rulings:
        waits = ruling.rule.lock in (Lock.ACCESS_EXCLUSIVE, Lock.SHARE_ROW_EXCLUSIVE, Lock.SHARE)
        works = ruling.rule.work not in (Work.NONE, Work.INSTANT)
        if waits and works and (ruling.seconds is None or ruling.seconds[1] > patience):
            yield ruling

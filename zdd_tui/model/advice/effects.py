"""What one statement does: its lock on each table, the work under it, and what running code loses."""

import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum

from zdd_tui.model.advice.schema import TABLE_KINDS, ColumnInfo, RelationInfo, SchemaSnapshot


class TableLock(StrEnum):
    """A table-level lock, by its name in the documentation; the strongest first."""

    ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"
    EXCLUSIVE = "EXCLUSIVE"
    SHARE_ROW_EXCLUSIVE = "SHARE ROW EXCLUSIVE"
    SHARE = "SHARE"
    SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE"
    ROW_EXCLUSIVE = "ROW EXCLUSIVE"
    ROW_SHARE = "ROW SHARE"
    ACCESS_SHARE = "ACCESS SHARE"
    NONE = "no lock"

    @property
    def blocked(self) -> str:
        """The sessions that wait for it."""
        return _BLOCKED_BY_LOCK.get(self, "nothing")

    @property
    def blocks_writes(self) -> bool:
        """Whether every write to the table waits for it."""
        return _STRENGTH[self] <= _STRENGTH[TableLock.SHARE]

    @property
    def strength(self) -> int:
        """0 for no lock; the larger, the stronger."""
        return len(_STRENGTH) - 1 - _STRENGTH[self]


_STRENGTH = {lock: number for number, lock in enumerate(TableLock)}
_BLOCKED_BY_LOCK = {
    TableLock.ACCESS_EXCLUSIVE: "reads and writes",
    TableLock.EXCLUSIVE: "writes",
    TableLock.SHARE_ROW_EXCLUSIVE: "writes",
    TableLock.SHARE: "writes",
    TableLock.ROW_EXCLUSIVE: "writers of the same rows",
    TableLock.ROW_SHARE: "writers of the same rows",
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


@dataclass(frozen=True, slots=True)
class StatementEffects:
    """What a statement does to the tables that exist before it; what it creates is left out.

    Attributes:
        locks: the strongest lock on each table, by its qualified name. ACCESS SHARE is left out: only ACCESS EXCLUSIVE
            waits for it.
        work: of each table that is read, written, rewritten or indexed; a table that is not named costs nothing.
        breaking: why it breaks running code; empty where it does not.
        outside_transaction: the server refuses it inside of a transaction.
        error: why the server refused to execute it; then nothing else is known of it.
        is_duplicate: it failed because what it creates exists.
        is_refused: the real server would refuse it as well; else the copy may lack what it needs.
    """

    locks: Mapping[str, TableLock] = field(default_factory=dict)
    work: Mapping[str, TableWork] = field(default_factory=dict)
    breaking: tuple[str, ...] = ()
    outside_transaction: bool = False
    error: str = ""
    is_duplicate: bool = False
    is_refused: bool = False


# --- what differs after a statement


def measured_effects(
    before: SchemaSnapshot,
    after: SchemaSnapshot,
    locks: Mapping[int, TableLock],
    counts: Mapping[int, tuple[int, int, int]],
    *,
    outside_transaction: bool = False,
    writes_rows: bool = True,
    original: SchemaSnapshot | None = None,
    taken_back: AbstractSet[int] = frozenset(),
) -> StatementEffects:
    """The effects, from the schema before and after a statement.

    Args:
        writes_rows: where the statement locks a table for writing, it writes; not so if it was only planned.
        original: the schema before the migration: what the migration itself has made is left out.
        taken_back: tables whose lock was released with a subtransaction, by oid: what was done under it is not known.
        locks: the strongest lock that the session took on each relation, by oid.
        counts: of each table, scans begun, rows written and rows deleted.
    """
    existing = before if original is None else before.only(original)
    tables = {oid: relation for oid, relation in existing.relations.items() if relation.kind in TABLE_KINDS}
    taken = {oid: lock for oid, lock in locks.items() if oid in tables and lock is not TableLock.ACCESS_SHARE}
    work = {}
    for oid, lock in taken.items():
        found = _work_of(oid, lock, before, after, counts.get(oid, (0, 0, 0))[0])
        if oid in taken_back and lock is not TableLock.ROW_SHARE:
            found = TableWork.UNKNOWN
        if found is TableWork.ROWS and not writes_rows:
            continue
        if found is not TableWork.NONE:
            work[str(tables[oid])] = found
    lost = [oid for oid in tables if counts.get(oid, (0, 0, 0))[2] or _is_emptied(oid, before, after, counts)]
    reasons = [
        *find_breaking(existing, after, made=after.objects.keys() - before.objects.keys()),
        *(f"it deletes rows of {tables[oid]}" for oid in lost),
    ]
    named = {str(tables[oid]): lock for oid, lock in taken.items()}
    return StatementEffects(named, work, tuple(dict.fromkeys(reasons)), outside_transaction)


def _work_of(oid: int, lock: TableLock, before: SchemaSnapshot, after: SchemaSnapshot, scans: int) -> TableWork:
    old, new = before.relations[oid], after.relations.get(oid)
    if new is None or lock is TableLock.ROW_SHARE:  # a read under ROW SHARE keeps nobody waiting
        return TableWork.NONE
    if lock is TableLock.ROW_EXCLUSIVE:
        return TableWork.NONE if old.kind == "p" else TableWork.ROWS
    if old.filenode != new.filenode:
        return TableWork.REWRITE if old.kind == "m" or _is_rewritten(oid, after, scans) else TableWork.NONE
    if {each.filenode for each in after.indexes(oid)} - {each.filenode for each in before.indexes(oid)} - {0}:
        return TableWork.INDEX
    return TableWork.SCAN if scans else TableWork.NONE


def _is_rewritten(oid: int, after: SchemaSnapshot, scans: int) -> bool:
    """Whether a new file was filled: TRUNCATE scans once for each index that it makes anew, a rewrite once more."""
    return scans > len([*after.indexes(oid)])


def _is_emptied(
    oid: int, before: SchemaSnapshot, after: SchemaSnapshot, counts: Mapping[int, tuple[int, int, int]]
) -> bool:
    old, new = before.relations[oid], after.relations.get(oid)
    if old.kind != "r" or new is None or old.filenode == new.filenode:
        return False
    return not _is_rewritten(oid, after, counts.get(oid, (0, 0, 0))[0])


def find_breaking(
    before: SchemaSnapshot, after: SchemaSnapshot, *, made: AbstractSet[tuple[str, int]] = frozenset()
) -> Iterator[str]:
    """Why code that runs on the schema ``before`` fails on the schema ``after``, or loses data.

    Args:
        made: objects that were made in between.
    """
    for oid, old in before.relations.items():
        if old.kind in TABLE_KINDS or old.kind == "S":
            yield from _breaking_relation(old, after.relations.get(oid), before)
    yield from _lost_keys(before, after)
    for (kind, oid), text in before.objects.items():
        changed = after.objects.get((kind, oid))
        name = text.partition("\n")[0]
        if kind == "statistics":
            continue
        if changed is None:
            yield f"{kind} {name} is gone"
        elif _differs(kind, text, changed):
            yield f"{kind} {name} is changed, and running code uses it"
    for kind, oid in sorted(made):
        name = after.objects[kind, oid].partition("\n")[0]
        if kind in ("policy", "rule") and before.find(name.rpartition(" on ")[2]) is not None:
            yield f"{kind} {name} changes which rows running code reads and writes"


def _lost_keys(before: SchemaSnapshot, after: SchemaSnapshot) -> Iterator[str]:
    """Keys and unique indexes that are gone; one that was made again under its name is not."""
    kept = {(each.table, each.name) for each in after.constraints.values()}
    for oid, constraint in before.constraints.items():
        table = after.relations.get(constraint.table)
        if constraint.kind not in "pux" or table is None or (constraint.table, constraint.name) in kept:
            continue
        if (renamed := after.constraints.get(oid)) is not None:
            yield (
                f"the key {constraint.name} of {table} is named {renamed.name} now: ON CONFLICT ON CONSTRAINT of"
                " running code uses the old name"
            )
        else:
            yield f"the key {constraint.name} of {table} is gone: ON CONFLICT of running code fails, duplicates pass"
    held = {each.index for each in before.constraints.values()}
    for oid, index in before.relations.items():
        is_lost = index.is_unique and index.index_of in after.relations and oid not in {*after.relations, *held}
        if is_lost and index.name not in {each.name for each in after.indexes(index.index_of)}:
            yield f"the unique index {index.name} is gone: ON CONFLICT of running code fails, duplicates pass"


def _differs(kind: str, old: str, new: str) -> bool:
    (old_name, _, old_text), (new_name, _, new_text) = old.partition("\n"), new.partition("\n")
    if kind in ("policy", "trigger", "rule"):  # their names, and their table's, mean nothing to running code
        return old_text != new_text
    if kind == "type":
        before, after = old_text.split("\n"), new_text.split("\n")
        # Constraints of a domain come and go as those of a table do; more labels of an enumeration harm nobody.
        labels = [{*parts[4].split(",")} if len(parts) > 4 else set() for parts in (before, after)]
        return old_name != new_name or before[:2] + before[3:4] != after[:2] + after[3:4] or not labels[0] <= labels[1]
    return old != new


def _breaking_relation(old: RelationInfo, new: RelationInfo | None, before: SchemaSnapshot) -> Iterator[str]:
    if new is None:
        yield f"{old} is gone, and running code still uses it"
        return
    if str(old) != str(new):
        yield f"{old} is named {new} now, and running code uses the old name"
    if lost := sorted(old.grants - new.grants):
        yield f"rights on {old} are revoked: {', '.join(lost)}"
    if old.owner != new.owner:
        yield f"the owner of {old} is {new.owner} now: {old.owner} may lose its rights"
    yield from _breaking_rows(old, new)
    proven = before.proven_not_null(old.oid)
    for column in new.columns:
        known = next((each for each in old.columns if each.number == column.number), None)
        if column.not_null and known is not None and not known.not_null and known.name not in proven:
            yield f"column {column.name} of {old} is NOT NULL now: running code may still write NULL"
    yield from _breaking_columns(old, new)


def _breaking_rows(old: RelationInfo, new: RelationInfo) -> Iterator[str]:
    """Why running code, or a subscriber, sees other rows."""
    if old.is_partition and not new.is_partition:
        yield f"{old} is no partition any more: its rows are missing from the partitioned table"
    elif old.parents != new.parents and not new.is_partition:
        yield f"the inheritance of {old} is changed, and with it the rows that queries of the parent see"
    if old.row_security != new.row_security:
        yield f"row security of {old} is {new.row_security} now: running code sees and writes other rows"
    if old.kind == "r" and old.settings.split(" ")[1:2] != new.settings.split(" ")[1:2]:
        yield f"the replica identity of {old} is changed: subscribers may stop"


def _breaking_columns(old: RelationInfo, new: RelationInfo) -> Iterator[str]:
    current = {column.number: column for column in new.columns}
    for column in old.columns:
        changed = current.pop(column.number, None)
        if changed is None:
            yield f"column {column.name} of {old} is gone, and running code still names it"
        else:
            yield from _breaking_column(old, column, changed)
    for column in current.values():
        if not column.is_filled:
            yield f"column {column.name} of {old} is NOT NULL without a default: INSERTs of running code fail"


def _breaking_column(table: RelationInfo, old: ColumnInfo, new: ColumnInfo) -> Iterator[str]:
    name = f"column {old.name} of {table}"
    if old.name != new.name:
        yield f"{name} is named {new.name} now, and running code uses the old name"
    if old.type != new.type and not is_widening(old.type, new.type):
        yield f"{name} has the type {new.type} now, and running code reads and writes {old.type}"
    if new.identity == "a" and old.identity != "a":
        yield f"{name} is always generated now: INSERTs of running code that name it fail"
    elif (old.default or old.identity) and not (new.default or new.identity):
        yield f"{name} has no default any more: INSERTs of running code that rely on it store NULL or fail"
    elif old.generated and old.generated != new.generated:
        yield f"{name} is not generated any more: running code does not fill it"


# --- types


_SIZED_TYPE = re.compile(r"^(character varying|varchar|numeric|decimal|bit varying|varbit)(?:\((\d+)(?:, *(\d+))?\))?$")
_TYPE_ALIASES = {"varchar": "character varying", "decimal": "numeric", "varbit": "bit varying"}


def is_widening(old: str, new: str) -> bool:
    """Whether the change of type holds every old value as it is, without reading or rewriting a row.

    Source: ALTER TABLE's notes: binary coercible types, and a longer or no limit of varchar, varbit and numeric.
    """
    if old and old == new:
        return True
    before, after = _SIZED_TYPE.match(old.lower()), _SIZED_TYPE.match(new.lower())
    if old.lower() == "text" and new.lower() in ("varchar", "character varying"):
        return True
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


# --- a whole migration


@dataclass(frozen=True, slots=True)
class PlainRun:
    """The statements of a migration, one after the other, on a copy of the schema.

    Attributes:
        statement: the one that failed; empty where none did.
        error: of the server.
        is_refused: the real server would refuse it as well; else the copy may lack what it needs.
    """

    statement: str = ""
    error: str = ""
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class MeasuredMigration:
    """What the statements of a migration did on a copy of the schema.

    Attributes:
        effects: by the statement's location and text; a statement that was not executed is left out.
        server: where it was measured, such as ``PostgreSQL 18 (embedded)``; empty where nothing was.
        problem: why nothing was measured; empty where it was.
        plain: what happened to the migration as the team wrote it; None where it was not executed.
    """

    effects: Mapping[tuple[str, str], StatementEffects] = field(default_factory=dict)
    server: str = ""
    problem: str = ""
    plain: PlainRun | None = None

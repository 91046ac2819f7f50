"""What a database tells about a table that a migration touches."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from zdd_tui.model.plan import TableName


@dataclass(frozen=True, slots=True)
class LiveTable:
    """A table as it is now.

    Attributes:
        rows: PostgreSQL's own estimate; -1 where it was never analyzed.
        heap_bytes: rows with what is stored out of line.
        index_bytes: all of its indexes.
        columns: name and type.
        key: columns of the primary key.
        defaults: column: DEFAULT, as SQL; of an identity column, what draws from its sequence.
        generated: columns that are computed from others.
        not_null: columns that are NOT NULL, or that a validated CHECK proves never to be NULL.
        indexes: definition of each index that is no constraint's primary key.
        triggers: names of the triggers that are no constraint's.
        referenced_by: tables whose foreign keys point here.
        ordinary: neither partitioned nor part of an inheritance tree; zdd changes ordinary tables only.
        reads, writes: scans and changed rows a second, since the statistics began; None where nothing is counted.
    """

    table: TableName
    rows: int
    heap_bytes: int
    index_bytes: int
    columns: Mapping[str, str]
    key: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    generated: frozenset[str] = frozenset()
    not_null: frozenset[str] = frozenset()
    indexes: tuple[str, ...] = ()
    triggers: tuple[str, ...] = ()
    referenced_by: tuple[str, ...] = ()
    ordinary: bool = True
    reads: float | None = None
    writes: float | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """The database that a migration is meant for.

    Attributes:
        missing: tables that a migration names and the database does not have.
        longest_transaction: seconds; every lock of a migration waits for it, and everything waits behind that lock.
    """

    place: str
    tables: Mapping[str, LiveTable] = field(default_factory=dict)
    missing: tuple[TableName, ...] = ()
    longest_transaction: float = 0.0

    def of(self, table: TableName | None) -> LiveTable | None:
        return self.tables.get(str(table)) if table is not None else None

"""What the SQL builders must know about the database: read once by :mod:`zdd_tui.backends.postgres.catalog`."""

from dataclasses import dataclass

from zdd_tui.model.sql import qualified


@dataclass(frozen=True, slots=True)
class Column:
    """A column under its own name, also while it is set aside under another.

    Attributes:
        type: as ``format_type`` prints it, qualified where needed; fit for a cast.
        identity: ``a`` for GENERATED ALWAYS, ``d`` for BY DEFAULT, else empty.
        comparable: its type has an equality operator, so that IS DISTINCT FROM works.
    """

    name: str
    type: str
    not_null: bool = False
    default: bool = False
    identity: str = ""
    generated: bool = False
    comparable: bool = True

    @property
    def required(self) -> bool:
        """An INSERT that does not name it fails."""
        return self.not_null and not self.default and not self.identity and not self.generated


@dataclass(frozen=True, slots=True)
class Table:
    """A table where it is now.

    Attributes:
        rows: estimate of the statistics; -1 when there are none.
        blocks: of 8 KiB, as its file has them now.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    rows: int = -1
    blocks: int = 0

    @property
    def sql(self) -> str:
        return qualified(self.schema, self.name)

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Sequence:
    """The sequence behind a key column of the old table.

    Attributes:
        key: the key column.
        identity: it belongs to an identity column, so that PostgreSQL cannot hand it over.
        shared: the new table's default takes its values from it.
        successor: a free name, in the new table's schema, for the one that takes its place.
    """

    schema: str
    name: str
    key: str
    identity: bool
    shared: bool
    successor: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """The facts of one plan in one database.

    Attributes:
        old: the table with the old columns (column kind: with the new ones too).
        new: the table with the new columns; the same as ``old`` in the column kind, None before it is made.
        key: in the order of the unique index that carries it.
        aside: the old side is set aside.
        gone: the old side was dropped.
        aside_shared: the schema of the aside data holds something else too, or is not ours: it stays.
        up_reads: columns of the old table that ``up`` reads.
        down_reads: columns of the new table that ``down`` reads.
        triggers: our triggers that exist and are enabled, by name.
        foreign_before: enabled BEFORE ROW triggers of others on INSERT or UPDATE of the old table.
    """

    old: Table
    new: Table | None
    key: tuple[Column, ...]
    aside: bool = False
    gone: bool = False
    up_reads: tuple[str, ...] = ()
    down_reads: tuple[str, ...] = ()
    triggers: frozenset[str] = frozenset()
    foreign_before: tuple[str, ...] = ()
    sequences: tuple[Sequence, ...] = ()
    aside_shared: bool = False

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.key)

    @property
    def target(self) -> Table:
        """The new table; the caller knows that it exists."""
        assert self.new is not None, "the new table does not exist yet"
        return self.new

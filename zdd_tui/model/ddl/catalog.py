"""Facts about the database for the SQL builders, read by :mod:`zdd_tui.backends.postgres.catalog`."""

from collections.abc import Iterable
from dataclasses import dataclass

from zdd_tui.model.errors import DatabaseError
from zdd_tui.model.sql import quote_identifier, quote_qualified


@dataclass(frozen=True, slots=True)
class CatalogColumn:
    """A column under its own name, also while it is archived under another.

    Attributes:
        type: as ``format_type`` prints it, qualified where needed; usable in a cast.
        identity: ``a`` for GENERATED ALWAYS, ``d`` for BY DEFAULT, else empty.
        is_comparable: its type has an equality operator, so that IS DISTINCT FROM works.
    """

    name: str
    type: str
    not_null: bool = False
    has_default: bool = False
    identity: str = ""
    is_generated: bool = False
    is_comparable: bool = True

    @property
    def sql(self) -> str:
        return quote_identifier(self.name)

    @property
    def is_required(self) -> bool:
        """Whether an INSERT that does not name it fails."""
        return self.not_null and not self.has_default and not self.identity and not self.is_generated


@dataclass(frozen=True, slots=True)
class Table:
    """A table at its present place.

    Attributes:
        rows: estimated by the statistics; -1 when there are none.
        blocks: size of its file, in blocks of 8 KiB.
    """

    schema: str
    name: str
    columns: tuple[CatalogColumn, ...]
    rows: int = -1
    blocks: int = 0

    @property
    def sql(self) -> str:
        return quote_qualified(self.schema, self.name)

    def column(self, name: str) -> CatalogColumn | None:
        return next((column for column in self.columns if column.name == name), None)

    def require_columns(self, names: Iterable[str]) -> list[CatalogColumn]:
        """The columns of these names: SQL that silently left one out would copy or compare less than the plan says.

        Raises:
            DatabaseError: one does not exist, such as one that somebody has renamed.
        """
        columns = []
        for name in names:
            if (column := self.column(name)) is None:
                raise DatabaseError(
                    f"column {name} of {self.schema}.{self.name} is missing",
                    "put it back in psql under this name, then retry; or: zdd rollback PLAN",
                )
            columns.append(column)
        return columns


@dataclass(frozen=True, slots=True)
class KeySequence:
    """The sequence behind a key column of the old table.

    Attributes:
        key: the key column.
        is_identity: it belongs to an identity column, so its owner cannot change.
        is_shared: the new table's default uses it.
        successor: a free name in the new table's schema for the sequence that replaces it.
        grants: privilege and role, quoted, of every right on it.
        options: SQL of its other options, where they are not the defaults.
    """

    schema: str
    name: str
    key: str
    is_identity: bool
    is_shared: bool
    successor: str
    increment: int = 1
    grants: tuple[tuple[str, str], ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttachedObject:
    """An object of the old side that is dropped before it, because PostgreSQL does not drop it along.

    Attributes:
        kind: ``policy``, ``trigger`` or ``constraint``.
        schema, table: the table that has it.
    """

    kind: str
    schema: str
    table: str
    name: str

    @property
    def drop_sql(self) -> str:
        table, name = quote_qualified(self.schema, self.table), quote_identifier(self.name)
        if self.kind == "constraint":
            return f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}"
        return f"DROP {self.kind.upper()} IF EXISTS {name} ON {table}"


@dataclass(frozen=True, slots=True)
class RowCheck:
    """A CHECK constraint of the old table. Column kind only, as the next two: a trigger tests it before the table does.

    Attributes:
        expression: SQL over the columns of one row; names in it are qualified where needed.
    """

    name: str
    columns: tuple[str, ...]
    expression: str


@dataclass(frozen=True, slots=True)
class RowKey:
    """A unique index over columns, without expressions or condition."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RowReference:
    """A foreign key.

    Attributes:
        target: the referenced table, quoted and qualified.
    """

    name: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The facts of one plan in one database.

    Attributes:
        old: the table with the old columns (column kind: with the new ones too).
        new: the table with the new columns; the same as ``old`` in the column kind, None before it is made.
        key: in the order of its unique index.
        is_archived: the old side is archived.
        is_dropped: the old side was dropped.
        archive_in_use: the schema of archived tables holds other objects, or is not ours: it is not dropped.
        up_source_columns: columns of the old table that ``up`` reads.
        down_source_columns: columns of the new table that ``down`` reads.
        triggers: names of our triggers that exist and are enabled.
        attached: objects that are dropped before the old side.
        row_checks, row_keys, row_references: of the old table in the column kind; columns have their present names.
        required_columns: of the old table in the column kind: present names of those that are NOT NULL.
        constant_defaults: each column of the old side with the SQL of its default, NULL where it has none; column kind
            only. Empty where a default is no constant, or could not be read.
        left_out_columns: new columns whose default is our function that notes that an INSERT leaves them out.
        has_left_out_function: that function exists.
        other_before_triggers: enabled BEFORE ROW triggers, not ours, on INSERT or UPDATE of the old table.
    """

    old: Table
    new: Table | None
    key: tuple[CatalogColumn, ...]
    is_archived: bool = False
    is_dropped: bool = False
    up_source_columns: tuple[str, ...] = ()
    down_source_columns: tuple[str, ...] = ()
    triggers: frozenset[str] = frozenset()
    other_before_triggers: tuple[str, ...] = ()
    sequences: tuple[KeySequence, ...] = ()
    archive_in_use: bool = False
    attached: tuple[AttachedObject, ...] = ()
    row_checks: tuple[RowCheck, ...] = ()
    row_keys: tuple[RowKey, ...] = ()
    row_references: tuple[RowReference, ...] = ()
    required_columns: tuple[str, ...] = ()
    constant_defaults: tuple[tuple[str, str], ...] = ()
    left_out_columns: tuple[str, ...] = ()
    has_left_out_function: bool = False

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.key)

    @property
    def new_table(self) -> Table:
        """The new table; the caller knows that it exists."""
        assert self.new is not None, "the new table does not exist yet"
        return self.new

"""Everything that PostgreSQL's catalog knows about a table, read by :mod:`zdd_tui.backends.postgres.table_objects`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from zdd_tui.model.ddl.canonical import TablePair


class ObjectKind(StrEnum):
    """Kinds of objects that belong to a table or depend on it. The value is the first word of a difference's name."""

    CHECK = "check"
    UNIQUE = "unique"
    PRIMARY_KEY = "primary-key"
    EXCLUSION = "exclusion"
    FOREIGN_KEY = "foreign-key"
    REFERENCING_KEY = "referencing-key"
    INDEX = "index"
    POLICY = "policy"
    TRIGGER = "trigger"
    RULE = "rule"
    STATISTICS = "statistics"
    PUBLICATION = "publication"
    VIEW = "view"
    MATERIALIZED_VIEW = "materialized-view"
    FUNCTION = "function"
    DEPENDENT = "dependent"
    INHERITANCE = "inheritance"
    SECURITY_LABEL = "security-label"


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column.

    Attributes:
        type: as ``format_type`` prints it; of a domain, the type that it is based on. The domain's checks are
            objects of the table, its default and its NOT NULL are those of the column.
        domain: its name; empty for a type that is none.
        collation: qualified; empty for a type that has none.
        not_null: a constraint that is not valid does not count.
        not_null_name, not_null_comment: of its constraint; empty before PostgreSQL 18, where it has none.
        default: expression; empty for none, for an identity and for a generated column.
        generated: expression of a generated column.
        identity: ``a`` for ALWAYS, ``d`` for BY DEFAULT.
        sequence: schema and name of the sequence behind its identity or default.
        storage: settings other than the type's own, such as ``STORAGE external`` or ``STATISTICS 500``.
    """

    name: str
    type: str
    collation: str = ""
    not_null: bool = False
    not_null_name: str = ""
    not_null_comment: str = ""
    default: str = ""
    generated: str = ""
    identity: str = ""
    sequence: TablePair | None = None
    storage: tuple[str, ...] = ()
    comment: str = ""
    domain: str = ""


@dataclass(frozen=True, slots=True)
class CatalogObject:
    """An object of a table, or one that depends on it.

    Attributes:
        name: for a person; of another table's constraint: ``constraint of schema.table``.
        definition: the server's SQL.
        columns: of this table, which it uses.
        is_valid: of a constraint: validated; of an index: usable; of a trigger: it fires in some session.
        index: definition of the index behind a constraint.
        owner_table: of a referencing key, the table that has it.
        is_attached: dropping what it uses fails while it exists.
        is_by_name: its columns are those that its text names; dropping them does not fail.
        is_whole_row: it uses the row as one value, so it changes with every column that comes or goes.
        is_indivisible: of a foreign key: the server does not add it NOT VALID.
        properties: what it has beside its definition, by name: comment, statistics targets, when a trigger fires. Only
            what is not the default.
        users: what depends on this object, by name, and would have to go before it.
    """

    kind: ObjectKind
    name: str
    definition: str = ""
    columns: tuple[str, ...] = ()
    is_valid: bool = True
    index: str = ""
    owner_table: TablePair | None = None
    is_attached: bool = False
    is_by_name: bool = False
    is_whole_row: bool = False
    is_indivisible: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """A right of a role, other than the owner, on a table or on one of its columns.

    Attributes:
        column: empty for the whole table.
    """

    role: str
    privilege: str
    column: str = ""
    is_grantable: bool = False


@dataclass(frozen=True, slots=True)
class SequenceObject:
    """A sequence behind a column.

    Attributes:
        owner_column: the column of this table that owns it; empty where another one does, or none.
        grants: role and privilege.
        options: in which it differs from a new sequence of its type and increment, such as ``CYCLE`` or
            ``MAXVALUE 300``.
        users: what uses it, but for defaults of this table.
    """

    schema: str
    name: str
    type: str
    column: str
    owner_column: str = ""
    is_identity: bool = False
    increment: int = 1
    grants: tuple[tuple[str, str], ...] = ()
    options: tuple[str, ...] = ()
    users: tuple[str, ...] = ()

    @property
    def pair(self) -> TablePair:
        return (self.schema, self.name)


@dataclass(frozen=True, slots=True)
class TableObjects:
    """A table with everything that belongs to it.

    Attributes:
        settings: storage parameters, persistence, access method and tablespace, by name; only what is not the default.
        replica_identity: ``DEFAULT``, ``FULL``, ``NOTHING``, or the definition of its index.
        aliases: tables by the names that definitions have for them, where these are names of copies.
    """

    schema: str
    name: str
    owner: str = ""
    columns: tuple[TableColumn, ...] = ()
    objects: tuple[CatalogObject, ...] = ()
    sequences: tuple[SequenceObject, ...] = ()
    grants: tuple[Grant, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    row_security: bool = False
    force_row_security: bool = False
    replica_identity: str = "DEFAULT"
    comment: str = ""
    aliases: Mapping[TablePair, TablePair] = field(default_factory=dict)

    @property
    def pair(self) -> TablePair:
        return (self.schema, self.name)

    def column(self, name: str) -> TableColumn | None:
        return next((column for column in self.columns if column.name == name), None)

    def sequence(self, pair: TablePair | None) -> SequenceObject | None:
        return next((sequence for sequence in self.sequences if sequence.pair == pair), None)

    def of_kind(self, *kinds: ObjectKind) -> tuple[CatalogObject, ...]:
        return tuple(each for each in self.objects if each.kind in kinds)

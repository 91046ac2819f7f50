"""A database's schema as values: what a statement touches, and what differs after it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

_NOT_NULL_CHECK = re.compile(r"^CHECK \(\((\w+|\"(?:[^\"]|\"\")+\") IS NOT NULL\)\)$")
"""The form that pg_get_constraintdef prints, whatever the author wrote."""

TABLE_KINDS = frozenset("rpmvf")
"""pg_class.relkind of what running code reads and writes: tables, partitioned and foreign ones, views of both kinds."""


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """
    Attributes:
        default: as SQL; empty for none. Of a generated column, its expression.
        identity, generated: as in pg_attribute; empty for neither.
    """

    number: int
    name: str
    type: str
    not_null: bool = False
    default: str = ""
    identity: str = ""
    generated: str = ""

    @property
    def is_filled(self) -> bool:
        """Whether an INSERT that does not name the column succeeds."""
        return not self.not_null or bool(self.default or self.identity or self.generated)


@dataclass(frozen=True, slots=True)
class RelationInfo:
    """A table, view, sequence or index.

    Attributes:
        kind: pg_class.relkind.
        filenode: of the file; another one after a rewrite.
        owner: role.
        grants: ``role privilege``, such as ``app SELECT``; of a column ``app SELECT (mail)``.
        parents: oids of the tables that it is a partition or child of.
        is_partition: of a partitioned table.
        row_security: off, on or forced.
        is_valid: of an index.
        index_of: oid of the table of an index; 0 otherwise.
        settings: persistence (p, u or t), replica identity, access method and storage options.
        tablespace: its own, or that of the database.
        index_columns: of an index, the numbers of the columns that it uses.
        uses: of a view, the tables and columns (oid, number) that it reads; number 0 is the table as a whole.
    """

    oid: int
    schema: str
    name: str
    kind: str
    filenode: int = 0
    owner: str = ""
    grants: frozenset[str] = frozenset()
    parents: tuple[int, ...] = ()
    is_partition: bool = False
    is_default_partition: bool = False
    row_security: str = "off"
    is_valid: bool = True
    index_of: int = 0
    is_unique: bool = False
    settings: str = ""
    tablespace: str = ""
    index_columns: frozenset[int] = frozenset()
    uses: frozenset[tuple[int, int]] = frozenset()
    columns: tuple[ColumnInfo, ...] = ()

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> ColumnInfo | None:
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class ConstraintInfo:
    """
    Attributes:
        kind: pg_constraint.contype.
        table, target: oids; 0 for none. ``target`` is the referenced table of a foreign key.
        columns, target_columns: numbers.
        index: oid of the index that holds it, or that a foreign key refers to.
    """

    oid: int
    name: str
    kind: str
    table: int = 0
    target: int = 0
    is_valid: bool = True
    definition: str = ""
    index: int = 0
    columns: tuple[int, ...] = ()
    target_columns: tuple[int, ...] = ()


@dataclass(frozen=True)
class SchemaSnapshot:
    """The schema of a database at one moment; everything is found by its oid.

    Attributes:
        objects: other objects by kind and oid: functions, types, policies, triggers, schemas, each with a text that
            changes when the object does.
        search_path: schemas in which an unqualified name is looked up.
        role: whom the session runs as.
    """

    relations: Mapping[int, RelationInfo] = field(default_factory=dict)
    constraints: Mapping[int, ConstraintInfo] = field(default_factory=dict)
    objects: Mapping[tuple[str, int], str] = field(default_factory=dict)
    search_path: tuple[str, ...] = ("public",)
    role: str = ""

    def find(self, name: str) -> RelationInfo | None:
        """The relation with this qualified name, unquoted, such as ``public.users``."""
        return self._by_name.get(name)

    def only(self, original: "SchemaSnapshot") -> "SchemaSnapshot":
        """What exists in both, as it is here."""
        return replace(
            self,
            relations={oid: each for oid, each in self.relations.items() if oid in original.relations},
            constraints={oid: each for oid, each in self.constraints.items() if oid in original.constraints},
            objects={key: text for key, text in self.objects.items() if key in original.objects},
        )

    def functions(self) -> frozenset[str]:
        """Names of the functions of users, with and without their schema."""
        names = {text.partition("(")[0] for (kind, _), text in self.objects.items() if kind == "function"}
        return frozenset(names | {name.partition(".")[2] for name in names})

    @cached_property
    def _by_name(self) -> dict[str, RelationInfo]:
        return {str(relation): relation for relation in self.relations.values()}

    @cached_property
    def _types(self) -> dict[str, str]:
        types = (text.partition("\n") for (kind, _), text in self.objects.items() if kind == "type")
        return {name: text for name, _, text in types}

    @cached_property
    def _by_parent(self) -> dict[int, list[RelationInfo]]:
        found: dict[int, list[RelationInfo]] = {}
        for relation in self.relations.values():
            for parent in relation.parents:
                found.setdefault(parent, []).append(relation)
        return found

    def children(self, oid: int) -> Iterator[RelationInfo]:
        """Partitions and children of a table, theirs included."""
        for child in self._by_parent.get(oid, ()):
            yield child
            yield from self.children(child.oid)

    def parents(self, oid: int) -> Iterator[RelationInfo]:
        """Tables that a table is a partition or child of, theirs included."""
        for parent in self.relations[oid].parents:
            if parent in self.relations:
                yield self.relations[parent]
                yield from self.parents(parent)

    def type_text(self, name: str) -> str | None:
        """The description of a type of users by its qualified name: kind, then what it depends on."""
        return self._types.get(name)

    def domains(self) -> dict[str, str]:
        """The base type of each domain."""
        return {name: text.split("\n")[1] for name, text in self._types.items() if text.startswith("d")}

    def has_constrained_domain(self, type_name: str) -> bool:
        """Whether a type is a domain with a constraint or a default, its own or one of its base type's."""
        plain = type_name.replace('"', "")
        candidates = [plain] if "." in plain else [f"{schema}.{plain}" for schema in (*self.search_path, "public")]
        text = next((found for each in candidates if (found := self._types.get(each)) is not None), "")
        if not text.startswith("d"):
            return False
        _, base, constrained = text.split("\n")[:3]
        return constrained == "constrained" or self.has_constrained_domain(base)

    def is_immutable(self, function: str) -> bool:
        """Whether all functions of users with this name are IMMUTABLE or STABLE."""
        found = [
            text.rpartition(" ")[2]
            for (kind, _), text in self.objects.items()
            if kind == "function" and text.partition("(")[0].rpartition(".")[2] == function
        ]
        return bool(found) and all(volatility in "is" for volatility in found)

    def statistics_tables(self, name: str) -> list[str]:
        """The table of a statistics object."""
        plain = name.rpartition(".")[2]
        return [
            text.partition("\n")[2]
            for (kind, _), text in self.objects.items()
            if kind == "statistics" and text.partition("\n")[0].rpartition(".")[2] == plain
        ]

    def trigger_names(self) -> frozenset[str]:
        """All triggers, such as ``audit on public.users``."""
        return frozenset(text.partition("\n")[0] for (kind, _), text in self.objects.items() if kind == "trigger")

    def triggered_tables(self, function: str) -> list[str]:
        """The tables with a trigger that calls a function."""
        plain = function.rpartition(".")[2]
        found = []
        for (kind, _), text in self.objects.items():
            name, _, definition = text.partition("\n")
            called = definition.rpartition("EXECUTE FUNCTION ")[2].partition("(")[0].rpartition(".")[2]
            if kind == "trigger" and _unquote(called) == plain:
                found.append(name.rpartition(" on ")[2])
        return found

    def foreign_keys(self, oid: int) -> Iterator[ConstraintInfo]:
        """Foreign keys of a table, and those that refer to it."""
        return (each for each in self.constraints.values() if each.kind == "f" and oid in (each.table, each.target))

    def indexes(self, oid: int) -> Iterator[RelationInfo]:
        """Indexes of a table."""
        return (each for each in self.relations.values() if each.index_of == oid)

    def proven_not_null(self, oid: int) -> frozenset[str]:
        """Columns of a table of which a validated CHECK proves that they are never NULL."""
        checks = (each for each in self.constraints.values() if each.table == oid and each.is_valid)
        found = (_NOT_NULL_CHECK.match(each.definition) for each in checks)
        return frozenset(_unquote(match[1]) for match in found if match is not None)


def _unquote(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name

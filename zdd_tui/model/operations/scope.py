"""What the statements of a migration before the present one have made: new objects, settings, what comes later."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from zdd_tui.model.sql import enum_name, node_class, type_sql, walk

DEFAULT_SCHEMA = "public"


class Novelty(StrEnum):
    """Whether an object is known to be new."""

    NEW = "new"
    MAYBE = "maybe"
    """Created with IF NOT EXISTS."""
    NO = "no"


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """An object by its name space (``relation``, ``type``, ``routine``, ``schema``), schema and name."""

    space: str
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class NewDomain:
    """A domain with constraints that the migration creates.

    Attributes:
        base: the type that it is over, as SQL.
        condition: SQL over a column ``value``: not false for what the domain takes.
    """

    base: str
    condition: str


def part_key(space: str, table: ObjectKey, name: str) -> ObjectKey:
    """The key of a column, trigger, rule or policy: its name is unique in its table."""
    return ObjectKey(space, f"{table.schema}.{table.name}", name)


@dataclass(slots=True)
class Scope:
    """Follows a migration from statement to statement.

    Attributes:
        settings: SET LOCAL statements by the name of the setting.
        local_settings: those that end with the migration's own transaction.
        schema: where unqualified names are created; empty where the migration has set an empty search_path.
        created: new objects, and objects created with IF NOT EXISTS.
        deferred: constraints and indexes that come in contract, or get their name there: each with its table, where
            that is known.
        deferred_keys: relation and columns of keys that come in contract; no columns stand for the primary key.
        late_parents: tables that a foreign key of contract refers to.
        filled: new tables that the migration has written rows into.
        late: tables whose rows get values in phase backfill.
        late_tables: names of new tables that are created there, from rows.
        added_columns: columns that the migration adds for certain.
        new_columns: those without a default and a fill: older versions leave them NULL, and no row has a value.
        dropped_columns: columns that exist until cleanup, under another name from contract on.
        renamed_columns: columns by their old name.
        second_names: columns by the name that they get, with the old one.
        retyped_columns: columns whose type the migration changes.
        dropped_defaults: columns whose default the migration drops.
        constraint_names: by the table, of those that the migration adds.
        type_names: the name that a type has until contract, by the one that the migration has given to it.
        moved_types: types whose name another one may take in contract, by the name until then.
        removed_types, removed_tables: those that the migration drops.
        removed_triggers: the same, each with its table.
        checked_domains: new domains with constraints.
        tables_before: by the name that the migration gives to a table, the one that it has before.
        renamed_tables: those of these names that the migration has given up to here.
        has_new_names: statements are read with the names that the tables have at the end.
        removed_indexes, removed_views: indexes and plain views that the migration drops, each as SQL.
        view_tables: what the views of the migration read, as RangeVars.
    """

    settings: dict[str, str] = field(default_factory=dict)
    local_settings: set[str] = field(default_factory=set)
    schema: str = DEFAULT_SCHEMA
    created: dict[ObjectKey, Novelty] = field(default_factory=dict)
    late_parents: set[ObjectKey] = field(default_factory=set)
    filled: set[ObjectKey] = field(default_factory=set)
    deferred: set[tuple[ObjectKey | None, str]] = field(default_factory=set)
    deferred_keys: set[tuple[ObjectKey, tuple[str, ...]]] = field(default_factory=set)
    late: set[ObjectKey] = field(default_factory=set)
    late_tables: set[str] = field(default_factory=set)
    added_columns: set[tuple[ObjectKey, str]] = field(default_factory=set)
    new_columns: set[tuple[ObjectKey, str]] = field(default_factory=set)
    dropped_columns: set[tuple[ObjectKey, str]] = field(default_factory=set)
    renamed_columns: set[tuple[ObjectKey, str]] = field(default_factory=set)
    second_names: dict[tuple[ObjectKey, str], str] = field(default_factory=dict)
    retyped_columns: set[tuple[ObjectKey, str]] = field(default_factory=set)
    dropped_defaults: set[tuple[ObjectKey, str]] = field(default_factory=set)
    constraint_names: set[tuple[ObjectKey, str]] = field(default_factory=set)
    dropped_constraints: set[tuple[ObjectKey, str]] = field(default_factory=set)
    type_names: dict[ObjectKey, ObjectKey] = field(default_factory=dict)
    moved_types: set[ObjectKey] = field(default_factory=set)
    removed_types: set[ObjectKey] = field(default_factory=set)
    removed_tables: set[ObjectKey] = field(default_factory=set)
    removed_triggers: set[tuple[ObjectKey, str]] = field(default_factory=set)
    checked_domains: dict[ObjectKey, NewDomain] = field(default_factory=dict)
    tables_before: dict[ObjectKey, ObjectKey] = field(default_factory=dict)
    renamed_tables: set[ObjectKey] = field(default_factory=set)
    has_new_names: bool = False
    removed_indexes: list[str] = field(default_factory=list)
    removed_views: list[str] = field(default_factory=list)
    view_tables: dict[ObjectKey, list[Any]] = field(default_factory=dict)
    _index_names: dict[str, set[str]] = field(default_factory=dict)

    def relation_key(self, relation: Any) -> ObjectKey:
        """
        Args:
            relation: a RangeVar.
        """
        key = self.written_relation_key(relation)
        return self.tables_before.get(key, key)

    def key(self, space: str, names: Iterable[str]) -> ObjectKey:
        """The key of an object; a table that the migration renames has one key, whatever its name.

        Args:
            names: with or without a schema.
        """
        key = self.written_key(space, names)
        return self.tables_before.get(key, key)

    def written_key(self, space: str, names: Iterable[str]) -> ObjectKey:
        """The key of a name, as it is written."""
        parts = list(names)
        return ObjectKey(space, parts[-2] if len(parts) > 1 else self.schema, parts[-1])

    def written_relation_key(self, relation: Any) -> ObjectKey:
        """
        Args:
            relation: a RangeVar.
        """
        return ObjectKey("relation", relation.schemaname or self.schema, relation.relname)

    def written_name(self, relation: Any) -> str:
        """The name that a table has at this place of the migration, after which objects are named.

        Args:
            relation: a RangeVar, with the name of this reading.
        """
        if (pair := self.renamed_table(self.written_relation_key(relation))) is None:
            name: str = relation.relname
            return name
        before, after = pair
        return (after if after in self.renamed_tables else before).name

    def renamed_table(self, key: ObjectKey) -> tuple[ObjectKey, ObjectKey] | None:
        """The keys before and after of the table that the migration renames, of which ``key`` is one."""
        pairs = ((before, after) for after, before in self.tables_before.items())
        return next((pair for pair in pairs if key in pair), None)

    def create(self, key: ObjectKey, *, is_optional: bool = False) -> None:
        """Notes an object that the migration creates."""
        self.created[key] = Novelty.MAYBE if is_optional else Novelty.NEW

    def novelty(self, key: ObjectKey) -> Novelty:
        """Whether the migration has created an object."""
        if (found := self.created.get(key)) is not None:
            return found
        is_in_new_schema = self.created.get(ObjectKey("schema", "", key.schema)) is Novelty.NEW
        return Novelty.NEW if is_in_new_schema and key.space != "schema" else Novelty.NO

    def is_new(self, key: ObjectKey) -> bool:
        """Whether the object is certainly new, so that no running code uses it."""
        return self.novelty(key) is Novelty.NEW

    def is_deferred(self, name: str, table: ObjectKey | None) -> bool:
        """Whether a constraint or index of a table comes in contract.

        Args:
            table: None where the statement does not name it.
        """
        return any(name == other and (table is None or of in (None, table)) for of, other in self.deferred)

    def reads_late(self, node: Any) -> bool:
        """Whether a statement reads or changes rows that get values in phase backfill."""
        return any(self.relation_key(each) in self.late for each in self.read_tables(node))

    def create_view(self, key: ObjectKey, query: Any) -> None:
        """Notes a view that the migration creates, or replaces, and what it reads."""
        self.view_tables[key] = self.read_tables(query)

    def read_tables(self, node: Any) -> list[Any]:
        """As :func:`read_tables`, and what the migration's views among them read."""
        found = read_tables(node)
        return found + [table for each in found for table in self.view_tables.get(self.relation_key(each), ())]

    def index_names(self, schema: str) -> set[str]:
        """Names of the indexes that the migration makes in a schema."""
        return self._index_names.setdefault(schema, set())

    def take_index_name(self, schema: str, name: str) -> None:
        """Notes the name of a new index."""
        self.index_names(schema).add(name)

    def rename(self, old: ObjectKey, name: str, schema: str = "") -> None:
        """Notes the new name of a new object."""
        if (found := self.created.pop(old, None)) is not None:
            self.created[replace(old, name=name, schema=schema or old.schema)] = found


def routine_name(names: Iterable[str], types: Iterable[Any]) -> list[str]:
    """The name of a function with the types of its arguments, for :meth:`Scope.key`."""
    *schema, name = names
    return [*schema, f"{name}({', '.join(type_sql(each) for each in types)})"]


def input_types(parameters: Any) -> list[Any]:
    """The types of a function's arguments that identify it."""
    return [
        each.function_parameter.arg_type
        for each in parameters
        if enum_name(each.function_parameter, "mode") not in ("FUNC_PARAM_OUT", "FUNC_PARAM_TABLE")
    ]


def read_tables(node: Any) -> list[Any]:
    """The RangeVars that a query reads, without the names of its WITH clauses."""
    ctes = {each.ctename for each in walk(node) if node_class(each) == "CommonTableExpr"}
    ranges = [each for each in walk(node) if node_class(each) == "RangeVar"]
    return [each for each in ranges if each.schemaname or each.relname not in ctes]

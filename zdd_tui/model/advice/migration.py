"""An SQL migration, read by PostgreSQL's own parser into the actions that matter for a release."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import TableName
from zdd_tui.model.sql import (
    SqlSyntaxError,
    called_functions,
    deparse,
    enum_name,
    expression_sql,
    is_serial,
    parse_sql,
    string_values,
    tokens,
    type_sql,
)


class ActionKind(StrEnum):
    """The kind of a statement, or of one action of an ALTER TABLE."""

    DROP_TABLE = "DROP TABLE"
    DROP_COLUMN = "DROP COLUMN"
    DROP_OTHER = "DROP of a view, type, function or schema"
    TRUNCATE = "TRUNCATE"
    RENAME_TABLE = "RENAME TABLE"
    SET_SCHEMA = "SET SCHEMA"
    RENAME_COLUMN = "RENAME COLUMN"
    RENAME_OTHER = "RENAME"
    CHANGE_TYPE = "ALTER COLUMN TYPE"
    SET_NOT_NULL = "SET NOT NULL"
    ADD_REQUIRED_COLUMN = "ADD COLUMN NOT NULL without DEFAULT"

    ADD_COLUMN = "ADD COLUMN"
    ADD_COLUMN_REWRITE = "ADD COLUMN with a volatile DEFAULT or a stored expression"
    ADD_CHECK = "ADD CHECK"
    ADD_FOREIGN_KEY = "ADD FOREIGN KEY"
    ADD_NOT_VALID = "ADD CHECK NOT VALID"
    ADD_FOREIGN_KEY_NOT_VALID = "ADD FOREIGN KEY NOT VALID"
    ADD_UNIQUE = "ADD UNIQUE or PRIMARY KEY"
    ADD_UNIQUE_USING_INDEX = "ADD UNIQUE or PRIMARY KEY USING INDEX"
    VALIDATE = "VALIDATE CONSTRAINT"
    DROP_CONSTRAINT = "DROP CONSTRAINT"
    DROP_NOT_NULL = "DROP NOT NULL"
    SET_DEFAULT = "SET or DROP DEFAULT"
    ALTER_OTHER = "another ALTER TABLE"
    REWRITE_OTHER = "SET LOGGED, TABLESPACE or ACCESS METHOD"
    CREATE = "CREATE"
    CREATE_INDEX = "CREATE INDEX"
    CREATE_INDEX_CONCURRENTLY = "CREATE INDEX CONCURRENTLY"
    DROP_INDEX = "DROP INDEX"
    DROP_INDEX_CONCURRENTLY = "DROP INDEX CONCURRENTLY"
    REINDEX = "REINDEX"
    REINDEX_CONCURRENTLY = "REINDEX CONCURRENTLY"
    CREATE_TRIGGER = "CREATE TRIGGER"
    DROP_TRIGGER = "DROP TRIGGER, RULE or POLICY"
    VACUUM_FULL = "VACUUM FULL or CLUSTER"
    REFRESH = "REFRESH MATERIALIZED VIEW"
    LOCK = "LOCK TABLE"
    WRITE_ROWS = "INSERT, UPDATE or DELETE"
    HARMLESS = "a statement that blocks nothing"
    UNKNOWN = "an unknown statement"


@dataclass(frozen=True, slots=True)
class StatementAction:
    """One action of a statement on one object.

    Attributes:
        table: None where no table is concerned.
        column: the column that it changes.
        name: the new name, or the name of the constraint or index.
        type: the new type, as SQL.
        using: the expression that fills the new type, as SQL.
        columns: of a new table, name and type.
        definition: of a new column, the ALTER TABLE that adds only it.
        on_new_table: the same migration created the table, so no running code uses it.
    """

    kind: ActionKind
    table: TableName | None = None
    column: str = ""
    name: str = ""
    type: str = ""
    using: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    definition: str = ""
    on_new_table: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with its location, ``migration.sql:12``."""

    location: str
    text: str
    actions: tuple[StatementAction, ...]

    @property
    def one_line(self) -> str:
        """The statement in one line."""
        return " ".join(self.text.split())


def read_migration(text: str, source: str) -> tuple[Statement, ...]:
    """The statements of a migration.

    Args:
        source: the file's name, for messages.

    Raises:
        PlanError: it cannot be parsed; names the line.
    """
    raw = text.encode(errors="replace")
    try:
        tree = parse_sql(text)
    except SqlSyntaxError as error:
        line = text.count("\n", 0, error.offset) + 1
        raise PlanError(
            f"{source}:{line}: PostgreSQL cannot read it: {error.reason}",
            "write plain SQL for PostgreSQL, without psql's \\commands and COPY data",
        ) from None
    starts = [token.start for token in tokens(text) if token.kind not in ("comment", "semicolon")]
    statements = []
    for node in tree.stmts:
        end = node.stmt_location + node.stmt_len if node.stmt_len else len(raw)
        start = starts[bisect_left(starts, node.stmt_location)]
        line = raw.count(b"\n", 0, start) + 1
        statements.append(Statement(f"{source}:{line}", raw[start:end].decode(), tuple(_actions_of(node.stmt))))
    if not statements:
        raise PlanError(f"{source}: there is no SQL statement in it", "name the migration's file")
    return tuple(statements)


def mark_new_tables(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """The same statements; actions on a table that an earlier statement created are marked."""
    created: set[str] = set()
    result = []
    for statement in statements:
        actions = tuple(
            replace(
                action, on_new_table=action.on_new_table or (action.table is not None and str(action.table) in created)
            )
            for action in statement.actions
        )
        created |= {
            str(a.table) for a in statement.actions if a.kind is ActionKind.CREATE and a.table is not None and a.columns
        }
        result.append(replace(statement, actions=actions))
    return tuple(result)


def all_actions(statements: tuple[Statement, ...]) -> Iterator[StatementAction]:
    """All actions, in order."""
    for statement in statements:
        yield from statement.actions


# --- statistics of the tables that a migration changes


@dataclass(frozen=True, slots=True)
class LiveTableStats:
    """A table in the database.

    Attributes:
        rows: PostgreSQL's own estimate; -1 where it was never analyzed.
        heap_bytes: rows with what is stored out of line.
        index_bytes: all of its indexes.
        columns: name and type.
        key: columns of the primary key.
        defaults: DEFAULT of columns, as SQL; of an identity column, the call that draws from its sequence.
        generated: columns that are computed from others.
        not_null: columns that are NOT NULL, or that a validated CHECK proves never to be NULL.
        indexes: definitions of all indexes but the primary key's.
        triggers: names of the triggers, those of constraints left out.
        referenced_by: tables whose foreign keys point to this one.
        is_ordinary: neither partitioned nor part of an inheritance tree; zdd changes ordinary tables only.
        reads, writes: scans and changed rows a second since the statistics were reset; None where they are off.
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
    is_ordinary: bool = True
    reads: float | None = None
    writes: float | None = None


@dataclass(frozen=True, slots=True)
class DatabaseStats:
    """The database that a migration is written for.

    Attributes:
        missing_tables: tables that a migration names and that do not exist in the database.
        longest_transaction: age of the oldest, in seconds; locks of a migration wait for it, and others behind them.
    """

    database: str
    tables: Mapping[str, LiveTableStats] = field(default_factory=dict)
    missing_tables: tuple[TableName, ...] = ()
    longest_transaction: float = 0.0

    def find_table(self, table: TableName | None) -> LiveTableStats | None:
        return self.tables.get(str(table)) if table is not None else None


# --- from parse trees to actions


_HARMLESS_NODES = {
    *("comment_stmt", "grant_stmt", "grant_role_stmt", "variable_set_stmt", "variable_show_stmt", "transaction_stmt"),
    *("create_extension_stmt", "create_schema_stmt", "create_seq_stmt", "create_enum_stmt"),
    *("composite_type_stmt", "create_domain_stmt", "create_function_stmt", "view_stmt", "create_role_stmt"),
    *("explain_stmt", "notify_stmt", "create_stats_stmt", "discard_stmt", "create_range_stmt", "define_stmt"),
}
_STABLE_FUNCTIONS = {"now", "transaction_timestamp", "statement_timestamp", "lower", "upper"}
"""Functions that are not volatile: a default that calls them is computed once. Any other may be volatile."""

_RENAME_KINDS = {"OBJECT_COLUMN": ActionKind.RENAME_COLUMN, "OBJECT_TABLE": ActionKind.RENAME_TABLE}
_ALTER_KINDS = {
    "AT_DropColumn": ActionKind.DROP_COLUMN,
    "AT_SetNotNull": ActionKind.SET_NOT_NULL,
    "AT_DropNotNull": ActionKind.DROP_NOT_NULL,
    "AT_ColumnDefault": ActionKind.SET_DEFAULT,
    "AT_ValidateConstraint": ActionKind.VALIDATE,
    "AT_DropConstraint": ActionKind.DROP_CONSTRAINT,
    "AT_SetLogged": ActionKind.REWRITE_OTHER,
    "AT_SetUnLogged": ActionKind.REWRITE_OTHER,
    "AT_SetTableSpace": ActionKind.REWRITE_OTHER,
    "AT_SetAccessMethod": ActionKind.REWRITE_OTHER,
}
_COLUMN_ACTIONS = {"AT_DropColumn", "AT_SetNotNull", "AT_DropNotNull", "AT_ColumnDefault"}


def _actions_of(node: Any) -> Iterator[StatementAction]:
    kind = node.WhichOneof("node")
    if (reader := _READERS.get(kind)) is not None:
        yield from reader(getattr(node, kind))
    else:
        yield StatementAction(ActionKind.HARMLESS if kind in _HARMLESS_NODES else ActionKind.UNKNOWN)


def _table_name(relation: Any) -> TableName:
    return TableName(schema_=relation.schemaname or "public", name=relation.relname)


# --- ALTER TABLE


def _alter_table(node: Any) -> Iterator[StatementAction]:
    if enum_name(node, "objtype") not in ("OBJECT_TABLE", "OBJECT_INDEX"):
        yield StatementAction(ActionKind.UNKNOWN)
        return
    table = _table_name(node.relation)
    for each in node.cmds:
        cmd = each.alter_table_cmd
        definition, subtype = getattr(cmd, "def"), enum_name(cmd, "subtype")
        if subtype == "AT_AddColumn":
            yield replace(_add_column(table, definition.column_def), definition=_single_command_sql(node, each))
        elif subtype == "AT_AlterColumnType":
            column = definition.column_def
            using = expression_sql(column.raw_default) if column.HasField("raw_default") else ""
            yield StatementAction(ActionKind.CHANGE_TYPE, table, cmd.name, type=type_sql(column.type_name), using=using)
        elif subtype == "AT_AddConstraint":
            yield _add_constraint(table, definition.constraint)
        elif subtype in _COLUMN_ACTIONS:
            yield StatementAction(_ALTER_KINDS[subtype], table, cmd.name)
        else:
            yield StatementAction(_ALTER_KINDS.get(subtype, ActionKind.ALTER_OTHER), table, name=cmd.name)


def _single_command_sql(node: Any, command: Any) -> str:
    """An ALTER TABLE with one of its commands only."""
    tree = parse_sql("ALTER TABLE a ADD b int")
    alter = tree.stmts[0].stmt.alter_table_stmt
    alter.CopyFrom(node)
    del alter.cmds[:]
    alter.cmds.add().CopyFrom(command)
    return deparse(tree)


def _add_column(table: TableName, column: Any) -> StatementAction:
    constraints = {enum_name(each.constraint, "contype"): each.constraint for each in column.constraints}
    default, generated = constraints.get("CONSTR_DEFAULT"), constraints.get("CONSTR_GENERATED")
    kind = ActionKind.ADD_COLUMN
    if (
        (generated is not None and generated.generated_kind != "v")
        or "CONSTR_IDENTITY" in constraints
        or is_serial(column.type_name)
        or (default is not None and _may_be_volatile(default.raw_expr))
    ):
        kind = ActionKind.ADD_COLUMN_REWRITE
    elif constraints.keys() & {"CONSTR_UNIQUE", "CONSTR_PRIMARY"}:
        kind = ActionKind.ADD_UNIQUE
    elif "CONSTR_NOTNULL" in constraints and default is None and generated is None:
        kind = ActionKind.ADD_REQUIRED_COLUMN
    elif "CONSTR_CHECK" in constraints:
        kind = ActionKind.ADD_CHECK
    elif "CONSTR_FOREIGN" in constraints:
        kind = ActionKind.ADD_FOREIGN_KEY
    return StatementAction(kind, table, column.colname, type=type_sql(column.type_name))


def _may_be_volatile(default: Any) -> bool:
    return any(
        schema not in ("", "pg_catalog") or name not in _STABLE_FUNCTIONS
        for schema, name, _ in called_functions(default)
    )


def _add_constraint(table: TableName, constraint: Any) -> StatementAction:
    name, column, is_unchecked = constraint.conname, "", constraint.skip_validation
    match enum_name(constraint, "contype"):
        case "CONSTR_CHECK" | "CONSTR_NOTNULL":
            kind = ActionKind.ADD_NOT_VALID if is_unchecked else ActionKind.ADD_CHECK
            column = _not_null_column(constraint)
        case "CONSTR_FOREIGN":
            kind = ActionKind.ADD_FOREIGN_KEY_NOT_VALID if is_unchecked else ActionKind.ADD_FOREIGN_KEY
        case "CONSTR_UNIQUE" | "CONSTR_PRIMARY" if constraint.indexname:
            kind = ActionKind.ADD_UNIQUE_USING_INDEX
        case "CONSTR_UNIQUE" | "CONSTR_PRIMARY" | "CONSTR_EXCLUSION":
            kind = ActionKind.ADD_UNIQUE
        case _:
            kind = ActionKind.ALTER_OTHER
    return StatementAction(kind, table, column, name)


def _not_null_column(constraint: Any) -> str:
    """The column that a constraint proves not to be NULL; empty for any other constraint."""
    if enum_name(constraint, "contype") == "CONSTR_NOTNULL":
        return next(iter(string_values(constraint.keys)), "")
    test = constraint.raw_expr.null_test
    fields = string_values(test.arg.column_ref.fields)
    return fields[0] if enum_name(test, "nulltesttype") == "IS_NOT_NULL" and len(fields) == 1 else ""


# --- other statements


def _rename(node: Any) -> Iterator[StatementAction]:
    renamed = enum_name(node, "rename_type")
    if renamed in ("OBJECT_INDEX", "OBJECT_TABCONSTRAINT"):
        kind = ActionKind.HARMLESS
    elif "OBJECT_TABLE" in (renamed, enum_name(node, "relation_type")):
        kind = _RENAME_KINDS.get(renamed, ActionKind.RENAME_OTHER)
    else:
        kind = ActionKind.RENAME_OTHER
    yield StatementAction(kind, _named_table(node), node.subname, node.newname)


def _set_schema(node: Any) -> Iterator[StatementAction]:
    is_table = enum_name(node, "object_type") == "OBJECT_TABLE"
    kind = ActionKind.SET_SCHEMA if is_table else ActionKind.RENAME_OTHER
    yield StatementAction(kind, _named_table(node), name=node.newschema)


def _named_table(node: Any) -> TableName | None:
    return _table_name(node.relation) if node.relation.relname else None


def _drop(node: Any) -> Iterator[StatementAction]:
    for each in node.objects:
        names = string_values(each.list.items)
        match enum_name(node, "remove_type"):
            case "OBJECT_INDEX":
                kind = ActionKind.DROP_INDEX_CONCURRENTLY if node.concurrent else ActionKind.DROP_INDEX
                yield StatementAction(kind, name=names[-1])
            case "OBJECT_TABLE":
                schema, name = ["public", *names][-2:]
                yield StatementAction(ActionKind.DROP_TABLE, TableName(schema_=schema, name=name))
            case "OBJECT_TRIGGER" | "OBJECT_RULE" | "OBJECT_POLICY":
                schema, name = ["public", *names[:-1]][-2:]
                yield StatementAction(ActionKind.DROP_TRIGGER, TableName(schema_=schema, name=name))
            case _:
                yield StatementAction(ActionKind.DROP_OTHER, name=".".join(names))


def _create_table(node: Any) -> Iterator[StatementAction]:
    columns = [element.column_def for element in node.table_elts if element.HasField("column_def")]
    named = tuple((column.colname, type_sql(column.type_name)) for column in columns)
    yield StatementAction(ActionKind.CREATE, _table_name(node.relation), columns=named or (("", ""),))


def _create_table_as(node: Any) -> Iterator[StatementAction]:
    yield StatementAction(ActionKind.CREATE, _table_name(node.into.rel), columns=(("", ""),))


def _index(node: Any) -> Iterator[StatementAction]:
    kind = ActionKind.CREATE_INDEX_CONCURRENTLY if node.concurrent else ActionKind.CREATE_INDEX
    yield StatementAction(kind, _table_name(node.relation), name=node.idxname)


def _reindex(node: Any) -> Iterator[StatementAction]:
    concurrently = any(param.def_elem.defname == "concurrently" for param in node.params)
    kind = ActionKind.REINDEX_CONCURRENTLY if concurrently else ActionKind.REINDEX
    table = _table_name(node.relation) if enum_name(node, "kind") == "REINDEX_OBJECT_TABLE" else None
    yield StatementAction(kind, table, name=node.relation.relname)


def _vacuum(node: Any) -> Iterator[StatementAction]:
    is_full = any(option.def_elem.defname == "full" for option in node.options)
    kind = ActionKind.VACUUM_FULL if is_full else ActionKind.HARMLESS
    for each in node.rels:
        yield StatementAction(kind, _table_name(each.vacuum_relation.relation))
    if not node.rels:
        yield StatementAction(kind)


def _enum(node: Any) -> Iterator[StatementAction]:
    yield StatementAction(ActionKind.RENAME_OTHER if node.old_val else ActionKind.HARMLESS, name=node.new_val)


def _reader_of_many(kind: ActionKind) -> Callable[[Any], Iterator[StatementAction]]:
    def read(node: Any) -> Iterator[StatementAction]:
        for relation in node.relations:
            yield StatementAction(kind, _table_name(relation.range_var))

    return read


def _reader_of_one(kind: ActionKind) -> Callable[[Any], Iterator[StatementAction]]:
    def read(node: Any) -> Iterator[StatementAction]:
        yield StatementAction(kind, _table_name(node.relation))

    return read


_READERS: dict[str, Callable[[Any], Iterator[StatementAction]]] = {
    "alter_table_stmt": _alter_table,
    "rename_stmt": _rename,
    "alter_object_schema_stmt": _set_schema,
    "drop_stmt": _drop,
    "truncate_stmt": _reader_of_many(ActionKind.TRUNCATE),
    "create_stmt": _create_table,
    "create_table_as_stmt": _create_table_as,
    "index_stmt": _index,
    "reindex_stmt": _reindex,
    "vacuum_stmt": _vacuum,
    "cluster_stmt": _reader_of_one(ActionKind.VACUUM_FULL),
    "repack_stmt": _reader_of_one(ActionKind.VACUUM_FULL),
    "refresh_mat_view_stmt": _reader_of_one(ActionKind.REFRESH),
    "lock_stmt": _reader_of_many(ActionKind.LOCK),
    "alter_enum_stmt": _enum,
    "create_trig_stmt": _reader_of_one(ActionKind.CREATE_TRIGGER),
    "insert_stmt": _reader_of_one(ActionKind.WRITE_ROWS),
    "update_stmt": _reader_of_one(ActionKind.WRITE_ROWS),
    "delete_stmt": _reader_of_one(ActionKind.WRITE_ROWS),
    "merge_stmt": _reader_of_one(ActionKind.WRITE_ROWS),
}

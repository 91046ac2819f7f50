"""An SQL migration, read by PostgreSQL's own parser into the actions that matter for a release."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import postgast
from postgast import pg_query_pb2 as pb

from zdd_tui.model.ddl.tokens import called_functions
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import TableName


class ActionKind(StrEnum):
    """What a statement, or one action of an ALTER TABLE, does."""

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
    HARMLESS = "nothing that anybody waits for"
    UNKNOWN = "nothing that the adviser knows"


@dataclass(frozen=True, slots=True)
class StatementAction:
    """One thing that a statement does to one object.

    Attributes:
        table: None where no table is concerned.
        column: the column that it is about.
        name: the new name, or the name of the constraint or index.
        type: the new type, as SQL.
        using: the expression that fills the new type, as SQL.
        columns: of a new table, name and type.
        definition: of a new column, the ALTER TABLE that adds it alone.
        on_new_table: the table was made by the same migration, so nobody uses it yet.
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
    """A statement with its place, ``migration.sql:12``."""

    location: str
    text: str
    actions: tuple[StatementAction, ...]

    @property
    def one_line(self) -> str:
        """The statement in one line, for screens."""
        return " ".join(self.text.split())


def read_migration(text: str, source: str) -> tuple[Statement, ...]:
    """The statements of a migration.

    Args:
        source: the file's name, for messages.

    Raises:
        PlanError: it does not parse; names the line.
    """
    import postgast  # noqa: PLC0415  it takes a fifth of a second, and most commands need none of it

    if "\0" in text:
        raise PlanError(f"{source}: it holds a NUL", "save it as UTF-8 text")
    try:
        tree = postgast.parse(text)
    except postgast.PgQueryError as error:
        line = text.count("\n", 0, max(error.cursorpos - 1, 0)) + 1
        raise PlanError(
            f"{source}:{line}: PostgreSQL cannot read it: {error.message}",
            "plain SQL for PostgreSQL, without psql's \\commands and COPY data",
        ) from None
    raw, statements = text.encode(), []
    for found in tree.stmts:
        end = found.stmt_location + found.stmt_len if found.stmt_len else len(raw)
        lead, body = _skip_leading_comments(raw[found.stmt_location : end].decode(errors="replace"))
        line = raw.count(b"\n", 0, found.stmt_location) + lead + 1
        statements.append(Statement(f"{source}:{line}", body, tuple(actions_of(found.stmt))))
    if not statements:
        raise PlanError(f"{source}: there is no SQL statement in it", "name the migration's file")
    return tuple(statements)


def mark_new_tables(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """The same, with every action on a table marked that an earlier statement has made."""
    made: set[str] = set()
    result = []
    for statement in statements:
        actions = tuple(
            replace(
                action, on_new_table=action.on_new_table or (action.table is not None and str(action.table) in made)
            )
            for action in statement.actions
        )
        made |= {
            str(a.table) for a in statement.actions if a.kind is ActionKind.CREATE and a.table is not None and a.columns
        }
        result.append(replace(statement, actions=actions))
    return tuple(result)


def all_actions(statements: tuple[Statement, ...]) -> Iterator[StatementAction]:
    """Every action, in order."""
    for statement in statements:
        yield from statement.actions


def _skip_leading_comments(text: str) -> tuple[int, str]:
    """How many lines of blanks and comments come first, and the rest."""
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
        elif text.startswith("--", position):
            position = _index_after(text, "\n", position)
        elif text.startswith("/*", position):
            position = _index_after(text, "*/", position + 2)
        else:
            break
    return text.count("\n", 0, position), text[position:]


def _index_after(text: str, token: str, start: int) -> int:
    found = text.find(token, start)
    return len(text) if found < 0 else found + len(token)


# --- What a database tells about a table that a migration touches.


@dataclass(frozen=True, slots=True)
class LiveTableStats:
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
        is_ordinary: neither partitioned nor part of an inheritance tree; zdd changes ordinary tables only.
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
    is_ordinary: bool = True
    reads: float | None = None
    writes: float | None = None


@dataclass(frozen=True, slots=True)
class DatabaseStats:
    """The database that a migration is meant for.

    Attributes:
        missing_tables: tables that a migration names and the database does not have.
        longest_transaction: seconds; every lock of a migration waits for it, and everything waits behind that lock.
    """

    database: str
    tables: Mapping[str, LiveTableStats] = field(default_factory=dict)
    missing_tables: tuple[TableName, ...] = ()
    longest_transaction: float = 0.0

    def find_table(self, table: TableName | None) -> LiveTableStats | None:
        return self.tables.get(str(table)) if table is not None else None


# --- From libpg_query's parse tree to actions. Node names are those of PostgreSQL's parsenodes.h.


_HARMLESS_NODES = {
    *("comment_stmt", "grant_stmt", "grant_role_stmt", "variable_set_stmt", "variable_show_stmt", "transaction_stmt"),
    *("create_extension_stmt", "create_schema_stmt", "create_seq_stmt", "create_enum_stmt"),
    *("composite_type_stmt", "create_domain_stmt", "create_function_stmt", "view_stmt", "create_role_stmt"),
    *("explain_stmt", "notify_stmt", "create_stats_stmt", "discard_stmt", "create_range_stmt", "define_stmt"),
}
_STABLE_FUNCTIONS = {"now", "current_timestamp", "transaction_timestamp", "statement_timestamp", "lower", "upper"}
"""Functions that are not volatile: a default that calls them is computed once. Any other might be."""

_RENAME_KINDS = {pb.OBJECT_COLUMN: ActionKind.RENAME_COLUMN, pb.OBJECT_TABLE: ActionKind.RENAME_TABLE}
_ALTER_KINDS = {
    pb.AT_DropColumn: ActionKind.DROP_COLUMN,
    pb.AT_SetNotNull: ActionKind.SET_NOT_NULL,
    pb.AT_DropNotNull: ActionKind.DROP_NOT_NULL,
    pb.AT_ColumnDefault: ActionKind.SET_DEFAULT,
    pb.AT_ValidateConstraint: ActionKind.VALIDATE,
    pb.AT_DropConstraint: ActionKind.DROP_CONSTRAINT,
    pb.AT_SetLogged: ActionKind.REWRITE_OTHER,
    pb.AT_SetUnLogged: ActionKind.REWRITE_OTHER,
    pb.AT_SetTableSpace: ActionKind.REWRITE_OTHER,
    pb.AT_SetAccessMethod: ActionKind.REWRITE_OTHER,
}
_COLUMN_ACTIONS = {pb.AT_DropColumn, pb.AT_SetNotNull, pb.AT_DropNotNull, pb.AT_ColumnDefault}


def actions_of(node: Any) -> Iterator[StatementAction]:
    """What a statement does."""
    kind = node.WhichOneof("node")
    read = _READERS.get(kind)
    if read is not None:
        yield from read(getattr(node, kind))
    else:
        yield StatementAction(ActionKind.HARMLESS if kind in _HARMLESS_NODES else ActionKind.UNKNOWN)


def table_name(relation: Any) -> TableName:
    return TableName(schema_=relation.schemaname or "public", name=relation.relname)


def type_sql(type_name: Any) -> str:
    """A type as SQL."""
    tree = postgast.parse("SELECT NULL::int")
    _deparse_value(tree).type_cast.type_name.CopyFrom(type_name)
    return str(postgast.deparse(tree)).removeprefix("SELECT NULL::")


def expression_sql(node: Any) -> str:
    """An expression as SQL."""
    tree = postgast.parse("SELECT 1")
    _deparse_value(tree).CopyFrom(node)
    return str(postgast.deparse(tree)).removeprefix("SELECT ")


def _deparse_value(tree: Any) -> Any:
    return tree.stmts[0].stmt.select_stmt.target_list[0].res_target.val


# --- ALTER TABLE --------------------------------------------------------------------------------------------


def _alter_table(node: Any) -> Iterator[StatementAction]:
    if node.objtype not in (pb.OBJECT_TABLE, pb.OBJECT_INDEX):
        yield StatementAction(ActionKind.UNKNOWN)
        return
    table = table_name(node.relation)
    for each in node.cmds:
        cmd = each.alter_table_cmd
        definition = getattr(cmd, "def")
        if cmd.subtype == pb.AT_AddColumn:
            yield replace(_add_column(table, definition.column_def), definition=_single_command_sql(node, each))
        elif cmd.subtype == pb.AT_AlterColumnType:
            column = definition.column_def
            using = expression_sql(column.raw_default) if column.HasField("raw_default") else ""
            yield StatementAction(ActionKind.CHANGE_TYPE, table, cmd.name, type=type_sql(column.type_name), using=using)
        elif cmd.subtype == pb.AT_AddConstraint:
            yield _add_constraint(table, definition.constraint)
        elif cmd.subtype in _COLUMN_ACTIONS:
            yield StatementAction(_ALTER_KINDS[cmd.subtype], table, cmd.name)
        else:
            yield StatementAction(_ALTER_KINDS.get(cmd.subtype, ActionKind.ALTER_OTHER), table, name=cmd.name)


def _single_command_sql(node: Any, command: Any) -> str:
    """An ALTER TABLE with one of its commands only."""
    tree = postgast.parse("ALTER TABLE a ADD b int")
    alter = tree.stmts[0].stmt.alter_table_stmt
    alter.CopyFrom(node)
    kept = type(command)()
    kept.CopyFrom(command)
    del alter.cmds[:]
    alter.cmds.append(kept)
    return str(postgast.deparse(tree))


def _add_column(table: TableName, column: Any) -> StatementAction:
    constraints = {each.constraint.contype: each.constraint for each in column.constraints}
    default = constraints.get(pb.CONSTR_DEFAULT)
    kind, sql = ActionKind.ADD_COLUMN, type_sql(column.type_name)
    generated = constraints.get(pb.CONSTR_GENERATED)
    stored = generated is not None and generated.generated_kind != "v"
    if (
        stored
        or pb.CONSTR_IDENTITY in constraints
        or sql.lower().endswith("serial")
        or (default is not None and _is_volatile(expression_sql(default.raw_expr)))
    ):
        kind = ActionKind.ADD_COLUMN_REWRITE
    elif constraints.keys() & {pb.CONSTR_UNIQUE, pb.CONSTR_PRIMARY}:
        kind = ActionKind.ADD_UNIQUE
    elif pb.CONSTR_NOTNULL in constraints and default is None and generated is None:
        kind = ActionKind.ADD_REQUIRED_COLUMN
    elif pb.CONSTR_CHECK in constraints:
        kind = ActionKind.ADD_CHECK
    elif pb.CONSTR_FOREIGN in constraints:
        kind = ActionKind.ADD_FOREIGN_KEY
    return StatementAction(kind, table, column.colname, type=sql)


def _is_volatile(default: str) -> bool:
    return bool(set(called_functions(default)) - _STABLE_FUNCTIONS)


def _add_constraint(table: TableName, constraint: Any) -> StatementAction:
    kind, column = constraint.contype, ""
    if kind in (pb.CONSTR_CHECK, pb.CONSTR_NOTNULL):
        column = not_null_column(constraint)
        skipped = constraint.skip_validation
        return StatementAction(
            ActionKind.ADD_NOT_VALID if skipped else ActionKind.ADD_CHECK, table, column, constraint.conname
        )
    if kind == pb.CONSTR_FOREIGN:
        foreign = ActionKind.ADD_FOREIGN_KEY_NOT_VALID if constraint.skip_validation else ActionKind.ADD_FOREIGN_KEY
        return StatementAction(foreign, table, name=constraint.conname)
    if kind in (pb.CONSTR_UNIQUE, pb.CONSTR_PRIMARY):
        ready = bool(constraint.indexname)
        return StatementAction(
            ActionKind.ADD_UNIQUE_USING_INDEX if ready else ActionKind.ADD_UNIQUE, table, name=constraint.conname
        )
    return StatementAction(
        ActionKind.ADD_UNIQUE if kind == pb.CONSTR_EXCLUSION else ActionKind.ALTER_OTHER, table, name=constraint.conname
    )


def not_null_column(constraint: Any) -> str:
    """The column that a constraint proves not to be NULL; empty for any other constraint."""
    if constraint.contype == pb.CONSTR_NOTNULL:
        return str(constraint.keys[0].string.sval) if constraint.keys else ""
    test = constraint.raw_expr.null_test
    fields = test.arg.column_ref.fields
    proven = test.nulltesttype == pb.IS_NOT_NULL and len(fields) == 1
    return str(fields[0].string.sval) if proven else ""


# --- the other statements -----------------------------------------------------------------------------------


def _rename(node: Any) -> Iterator[StatementAction]:
    on_table = pb.OBJECT_TABLE in (node.relation_type, node.rename_type)
    kind = _RENAME_KINDS.get(node.rename_type, ActionKind.RENAME_OTHER) if on_table else ActionKind.RENAME_OTHER
    if node.rename_type in (pb.OBJECT_INDEX, pb.OBJECT_TABCONSTRAINT):
        kind = ActionKind.HARMLESS
    table = table_name(node.relation) if node.relation.relname else None
    yield StatementAction(kind, table, node.subname, node.newname)


def _set_schema(node: Any) -> Iterator[StatementAction]:
    table = table_name(node.relation) if node.relation.relname else None
    is_table = node.object_type == pb.OBJECT_TABLE
    yield StatementAction(ActionKind.SET_SCHEMA if is_table else ActionKind.RENAME_OTHER, table, name=node.newschema)


def _drop(node: Any) -> Iterator[StatementAction]:
    for each in node.objects:
        names = [item.string.sval for item in each.list.items]
        if node.remove_type == pb.OBJECT_INDEX:
            yield StatementAction(
                ActionKind.DROP_INDEX_CONCURRENTLY if node.concurrent else ActionKind.DROP_INDEX, name=names[-1]
            )
        elif node.remove_type == pb.OBJECT_TABLE:
            schema = names[-2] if len(names) > 1 else "public"
            yield StatementAction(ActionKind.DROP_TABLE, TableName(schema_=schema, name=names[-1]))
        elif node.remove_type in (pb.OBJECT_TRIGGER, pb.OBJECT_RULE, pb.OBJECT_POLICY):
            schema = names[-3] if len(names) > 2 else "public"
            yield StatementAction(ActionKind.DROP_TRIGGER, TableName(schema_=schema, name=names[-2]))
        else:
            yield StatementAction(ActionKind.DROP_OTHER, name=".".join(names))


def _create_table(node: Any) -> Iterator[StatementAction]:
    columns = [element.column_def for element in node.table_elts if element.HasField("column_def")]
    named = tuple((column.colname, type_sql(column.type_name)) for column in columns)
    yield StatementAction(ActionKind.CREATE, table_name(node.relation), columns=named or (("", ""),))


def _create_table_as(node: Any) -> Iterator[StatementAction]:
    yield StatementAction(ActionKind.CREATE, table_name(node.into.rel), columns=(("", ""),))


def _index(node: Any) -> Iterator[StatementAction]:
    kind = ActionKind.CREATE_INDEX_CONCURRENTLY if node.concurrent else ActionKind.CREATE_INDEX
    yield StatementAction(kind, table_name(node.relation), name=node.idxname)


def _reindex(node: Any) -> Iterator[StatementAction]:
    concurrently = any(param.def_elem.defname == "concurrently" for param in node.params)
    table = table_name(node.relation) if node.kind == pb.REINDEX_OBJECT_TABLE else None
    yield StatementAction(
        ActionKind.REINDEX_CONCURRENTLY if concurrently else ActionKind.REINDEX, table, name=node.relation.relname
    )


def _vacuum(node: Any) -> Iterator[StatementAction]:
    full = any(option.def_elem.defname == "full" for option in node.options)
    for each in node.rels:
        relation = each.vacuum_relation.relation
        yield StatementAction(ActionKind.VACUUM_FULL if full else ActionKind.HARMLESS, table_name(relation))
    if not node.rels:
        yield StatementAction(ActionKind.VACUUM_FULL if full else ActionKind.HARMLESS)


def _enum(node: Any) -> Iterator[StatementAction]:
    yield StatementAction(ActionKind.RENAME_OTHER if node.old_val else ActionKind.HARMLESS, name=node.new_val)


def _reader_of_many(kind: ActionKind) -> Callable[[Any], Iterator[StatementAction]]:
    def read(node: Any) -> Iterator[StatementAction]:
        for relation in node.relations:
            yield StatementAction(kind, table_name(relation.range_var))

    return read


def _reader_of_one(kind: ActionKind) -> Callable[[Any], Iterator[StatementAction]]:
    def read(node: Any) -> Iterator[StatementAction]:
        yield StatementAction(kind, table_name(node.relation))

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

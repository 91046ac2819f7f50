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


class Kind(StrEnum):
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
class Action:
    """One thing that a statement does to one object.

    Attributes:
        table: None where no table is concerned.
        column: the column that it is about.
        name: the new name, or the name of the constraint or index.
        type: the new type, as SQL.
        using: the expression that fills the new type, as SQL.
        columns: of a new table, name and type.
        definition: of a new column, the ALTER TABLE that adds it alone.
        fresh: the table was made by the same migration, so nobody uses it yet.
    """

    kind: Kind
    table: TableName | None = None
    column: str = ""
    name: str = ""
    type: str = ""
    using: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    definition: str = ""
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with its place, ``migration.sql:12``."""

    place: str
    text: str
    actions: tuple[Action, ...]

    @property
    def line(self) -> str:
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
        lead, body = _without_lead(raw[found.stmt_location : end].decode(errors="replace"))
        line = raw.count(b"\n", 0, found.stmt_location) + lead + 1
        statements.append(Statement(f"{source}:{line}", body, tuple(actions_of(found.stmt))))
    if not statements:
        raise PlanError(f"{source}: there is no SQL statement in it", "name the migration's file")
    return tuple(statements)


def freshened(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """The same, with every action on a table marked that an earlier statement has made."""
    made: set[str] = set()
    result = []
    for statement in statements:
        actions = tuple(
            replace(action, fresh=action.fresh or (action.table is not None and str(action.table) in made))
            for action in statement.actions
        )
        made |= {str(a.table) for a in statement.actions if a.kind is Kind.CREATE and a.table is not None and a.columns}
        result.append(replace(statement, actions=actions))
    return tuple(result)


def all_actions(statements: tuple[Statement, ...]) -> Iterator[Action]:
    """Every action, in order."""
    for statement in statements:
        yield from statement.actions


def _without_lead(text: str) -> tuple[int, str]:
    """How many lines of blanks and comments come first, and the rest."""
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
        elif text.startswith("--", position):
            position = _after(text, "\n", position)
        elif text.startswith("/*", position):
            position = _after(text, "*/", position + 2)
        else:
            break
    return text.count("\n", 0, position), text[position:]


def _after(text: str, mark: str, start: int) -> int:
    found = text.find(mark, start)
    return len(text) if found < 0 else found + len(mark)


# --- What a database tells about a table that a migration touches.


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


# --- From libpg_query's parse tree to actions. Node names are those of PostgreSQL's parsenodes.h.


_HARMLESS = {
    *("comment_stmt", "grant_stmt", "grant_role_stmt", "variable_set_stmt", "variable_show_stmt", "transaction_stmt"),
    *("create_extension_stmt", "create_schema_stmt", "create_seq_stmt", "create_enum_stmt"),
    *("composite_type_stmt", "create_domain_stmt", "create_function_stmt", "view_stmt", "create_role_stmt"),
    *("explain_stmt", "notify_stmt", "create_stats_stmt", "discard_stmt", "create_range_stmt", "define_stmt"),
}
_STEADY_FUNCTIONS = {"now", "current_timestamp", "transaction_timestamp", "statement_timestamp", "lower", "upper"}
"""Functions that are not volatile: a default that calls them is computed once. Any other might be."""

_RENAMES = {pb.OBJECT_COLUMN: Kind.RENAME_COLUMN, pb.OBJECT_TABLE: Kind.RENAME_TABLE}
_ALTERS = {
    pb.AT_DropColumn: Kind.DROP_COLUMN,
    pb.AT_SetNotNull: Kind.SET_NOT_NULL,
    pb.AT_DropNotNull: Kind.DROP_NOT_NULL,
    pb.AT_ColumnDefault: Kind.SET_DEFAULT,
    pb.AT_ValidateConstraint: Kind.VALIDATE,
    pb.AT_DropConstraint: Kind.DROP_CONSTRAINT,
    pb.AT_SetLogged: Kind.REWRITE_OTHER,
    pb.AT_SetUnLogged: Kind.REWRITE_OTHER,
    pb.AT_SetTableSpace: Kind.REWRITE_OTHER,
    pb.AT_SetAccessMethod: Kind.REWRITE_OTHER,
}
_COLUMN_ACTIONS = {pb.AT_DropColumn, pb.AT_SetNotNull, pb.AT_DropNotNull, pb.AT_ColumnDefault}


def actions_of(node: Any) -> Iterator[Action]:
    """What a statement does."""
    kind = node.WhichOneof("node")
    read = _READERS.get(kind)
    if read is not None:
        yield from read(getattr(node, kind))
    else:
        yield Action(Kind.HARMLESS if kind in _HARMLESS else Kind.UNKNOWN)


def table_name(relation: Any) -> TableName:
    return TableName(schema_=relation.schemaname or "public", name=relation.relname)


def type_sql(type_name: Any) -> str:
    """A type as SQL."""
    tree = postgast.parse("SELECT NULL::int")
    _value(tree).type_cast.type_name.CopyFrom(type_name)
    return str(postgast.deparse(tree)).removeprefix("SELECT NULL::")


def expression_sql(node: Any) -> str:
    """An expression as SQL."""
    tree = postgast.parse("SELECT 1")
    _value(tree).CopyFrom(node)
    return str(postgast.deparse(tree)).removeprefix("SELECT ")


def _value(tree: Any) -> Any:
    return tree.stmts[0].stmt.select_stmt.target_list[0].res_target.val


# --- ALTER TABLE --------------------------------------------------------------------------------------------


def _alter_table(node: Any) -> Iterator[Action]:
    if node.objtype not in (pb.OBJECT_TABLE, pb.OBJECT_INDEX):
        yield Action(Kind.UNKNOWN)
        return
    table = table_name(node.relation)
    for each in node.cmds:
        cmd = each.alter_table_cmd
        definition = getattr(cmd, "def")
        if cmd.subtype == pb.AT_AddColumn:
            yield replace(_add_column(table, definition.column_def), definition=_alone(node, each))
        elif cmd.subtype == pb.AT_AlterColumnType:
            column = definition.column_def
            using = expression_sql(column.raw_default) if column.HasField("raw_default") else ""
            yield Action(Kind.CHANGE_TYPE, table, cmd.name, type=type_sql(column.type_name), using=using)
        elif cmd.subtype == pb.AT_AddConstraint:
            yield _add_constraint(table, definition.constraint)
        elif cmd.subtype in _COLUMN_ACTIONS:
            yield Action(_ALTERS[cmd.subtype], table, cmd.name)
        else:
            yield Action(_ALTERS.get(cmd.subtype, Kind.ALTER_OTHER), table, name=cmd.name)


def _alone(node: Any, command: Any) -> str:
    """An ALTER TABLE with one of its commands only."""
    tree = postgast.parse("ALTER TABLE a ADD b int")
    alter = tree.stmts[0].stmt.alter_table_stmt
    alter.CopyFrom(node)
    kept = type(command)()
    kept.CopyFrom(command)
    del alter.cmds[:]
    alter.cmds.append(kept)
    return str(postgast.deparse(tree))


def _add_column(table: TableName, column: Any) -> Action:
    constraints = {each.constraint.contype: each.constraint for each in column.constraints}
    default = constraints.get(pb.CONSTR_DEFAULT)
    kind, sql = Kind.ADD_COLUMN, type_sql(column.type_name)
    generated = constraints.get(pb.CONSTR_GENERATED)
    stored = generated is not None and generated.generated_kind != "v"
    if (
        stored
        or pb.CONSTR_IDENTITY in constraints
        or sql.lower().endswith("serial")
        or (default is not None and _volatile(expression_sql(default.raw_expr)))
    ):
        kind = Kind.ADD_COLUMN_REWRITE
    elif constraints.keys() & {pb.CONSTR_UNIQUE, pb.CONSTR_PRIMARY}:
        kind = Kind.ADD_UNIQUE
    elif pb.CONSTR_NOTNULL in constraints and default is None and generated is None:
        kind = Kind.ADD_REQUIRED_COLUMN
    elif pb.CONSTR_CHECK in constraints:
        kind = Kind.ADD_CHECK
    elif pb.CONSTR_FOREIGN in constraints:
        kind = Kind.ADD_FOREIGN_KEY
    return Action(kind, table, column.colname, type=sql)


def _volatile(default: str) -> bool:
    return bool(set(called_functions(default)) - _STEADY_FUNCTIONS)


def _add_constraint(table: TableName, constraint: Any) -> Action:
    kind, column = constraint.contype, ""
    if kind in (pb.CONSTR_CHECK, pb.CONSTR_NOTNULL):
        column = not_null_column(constraint)
        skipped = constraint.skip_validation
        return Action(Kind.ADD_NOT_VALID if skipped else Kind.ADD_CHECK, table, column, constraint.conname)
    if kind == pb.CONSTR_FOREIGN:
        foreign = Kind.ADD_FOREIGN_KEY_NOT_VALID if constraint.skip_validation else Kind.ADD_FOREIGN_KEY
        return Action(foreign, table, name=constraint.conname)
    if kind in (pb.CONSTR_UNIQUE, pb.CONSTR_PRIMARY):
        ready = bool(constraint.indexname)
        return Action(Kind.ADD_UNIQUE_USING_INDEX if ready else Kind.ADD_UNIQUE, table, name=constraint.conname)
    return Action(Kind.ADD_UNIQUE if kind == pb.CONSTR_EXCLUSION else Kind.ALTER_OTHER, table, name=constraint.conname)


def not_null_column(constraint: Any) -> str:
    """The column that a constraint proves not to be NULL; empty for any other constraint."""
    if constraint.contype == pb.CONSTR_NOTNULL:
        return str(constraint.keys[0].string.sval) if constraint.keys else ""
    test = constraint.raw_expr.null_test
    fields = test.arg.column_ref.fields
    proven = test.nulltesttype == pb.IS_NOT_NULL and len(fields) == 1
    return str(fields[0].string.sval) if proven else ""


# --- the other statements -----------------------------------------------------------------------------------


def _rename(node: Any) -> Iterator[Action]:
    on_table = pb.OBJECT_TABLE in (node.relation_type, node.rename_type)
    kind = _RENAMES.get(node.rename_type, Kind.RENAME_OTHER) if on_table else Kind.RENAME_OTHER
    if node.rename_type in (pb.OBJECT_INDEX, pb.OBJECT_TABCONSTRAINT):
        kind = Kind.HARMLESS
    table = table_name(node.relation) if node.relation.relname else None
    yield Action(kind, table, node.subname, node.newname)


def _set_schema(node: Any) -> Iterator[Action]:
    table = table_name(node.relation) if node.relation.relname else None
    is_table = node.object_type == pb.OBJECT_TABLE
    yield Action(Kind.SET_SCHEMA if is_table else Kind.RENAME_OTHER, table, name=node.newschema)


def _drop(node: Any) -> Iterator[Action]:
    for each in node.objects:
        names = [item.string.sval for item in each.list.items]
        if node.remove_type == pb.OBJECT_INDEX:
            yield Action(Kind.DROP_INDEX_CONCURRENTLY if node.concurrent else Kind.DROP_INDEX, name=names[-1])
        elif node.remove_type == pb.OBJECT_TABLE:
            schema = names[-2] if len(names) > 1 else "public"
            yield Action(Kind.DROP_TABLE, TableName(schema_=schema, name=names[-1]))
        elif node.remove_type in (pb.OBJECT_TRIGGER, pb.OBJECT_RULE, pb.OBJECT_POLICY):
            schema = names[-3] if len(names) > 2 else "public"
            yield Action(Kind.DROP_TRIGGER, TableName(schema_=schema, name=names[-2]))
        else:
            yield Action(Kind.DROP_OTHER, name=".".join(names))


def _create_table(node: Any) -> Iterator[Action]:
    columns = [element.column_def for element in node.table_elts if element.HasField("column_def")]
    named = tuple((column.colname, type_sql(column.type_name)) for column in columns)
    yield Action(Kind.CREATE, table_name(node.relation), columns=named or (("", ""),))


def _create_table_as(node: Any) -> Iterator[Action]:
    yield Action(Kind.CREATE, table_name(node.into.rel), columns=(("", ""),))


def _index(node: Any) -> Iterator[Action]:
    kind = Kind.CREATE_INDEX_CONCURRENTLY if node.concurrent else Kind.CREATE_INDEX
    yield Action(kind, table_name(node.relation), name=node.idxname)


def _reindex(node: Any) -> Iterator[Action]:
    concurrently = any(param.def_elem.defname == "concurrently" for param in node.params)
    table = table_name(node.relation) if node.kind == pb.REINDEX_OBJECT_TABLE else None
    yield Action(Kind.REINDEX_CONCURRENTLY if concurrently else Kind.REINDEX, table, name=node.relation.relname)


def _vacuum(node: Any) -> Iterator[Action]:
    full = any(option.def_elem.defname == "full" for option in node.options)
    for each in node.rels:
        relation = each.vacuum_relation.relation
        yield Action(Kind.VACUUM_FULL if full else Kind.HARMLESS, table_name(relation))
    if not node.rels:
        yield Action(Kind.VACUUM_FULL if full else Kind.HARMLESS)


def _enum(node: Any) -> Iterator[Action]:
    yield Action(Kind.RENAME_OTHER if node.old_val else Kind.HARMLESS, name=node.new_val)


def _many(kind: Kind) -> Callable[[Any], Iterator[Action]]:
    def read(node: Any) -> Iterator[Action]:
        for relation in node.relations:
            yield Action(kind, table_name(relation.range_var))

    return read


def _one(kind: Kind) -> Callable[[Any], Iterator[Action]]:
    def read(node: Any) -> Iterator[Action]:
        yield Action(kind, table_name(node.relation))

    return read


_READERS: dict[str, Callable[[Any], Iterator[Action]]] = {
    "alter_table_stmt": _alter_table,
    "rename_stmt": _rename,
    "alter_object_schema_stmt": _set_schema,
    "drop_stmt": _drop,
    "truncate_stmt": _many(Kind.TRUNCATE),
    "create_stmt": _create_table,
    "create_table_as_stmt": _create_table_as,
    "index_stmt": _index,
    "reindex_stmt": _reindex,
    "vacuum_stmt": _vacuum,
    "cluster_stmt": _one(Kind.VACUUM_FULL),
    "repack_stmt": _one(Kind.VACUUM_FULL),
    "refresh_mat_view_stmt": _one(Kind.REFRESH),
    "lock_stmt": _many(Kind.LOCK),
    "alter_enum_stmt": _enum,
    "create_trig_stmt": _one(Kind.CREATE_TRIGGER),
    "insert_stmt": _one(Kind.WRITE_ROWS),
    "update_stmt": _one(Kind.WRITE_ROWS),
    "delete_stmt": _one(Kind.WRITE_ROWS),
    "merge_stmt": _one(Kind.WRITE_ROWS),
}

"""An SQL migration, read by PostgreSQL's own parser into the actions that matter for a release."""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from zdd_tui.model.advice.effects import TableLock, TableWork
from zdd_tui.model.advice.schema import SchemaSnapshot
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import TableName
from zdd_tui.model.sql import (
    SqlSyntaxError,
    called_functions,
    enum_name,
    expression_sql,
    is_serial,
    may_be_volatile,
    node_class,
    parse_sql,
    refuse_placeholder,
    single_command_sql,
    string_values,
    tokens,
    type_sql,
    walk,
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
    RENAME_CONSTRAINT = "RENAME CONSTRAINT"
    RENAME_INDEX = "RENAME of an index"
    CHANGE_TYPE = "ALTER COLUMN TYPE"
    SET_NOT_NULL = "SET NOT NULL"
    ADD_REQUIRED_COLUMN = "ADD COLUMN NOT NULL without DEFAULT"
    DROP_DEFAULT = "DROP DEFAULT, IDENTITY or EXPRESSION"
    ALWAYS_IDENTITY = "GENERATED ALWAYS AS IDENTITY of a column that exists"
    SET_EXPRESSION = "SET EXPRESSION"
    ROW_SECURITY = "row level security or a policy"
    REPLICA_IDENTITY = "REPLICA IDENTITY"
    OWNER = "OWNER TO"
    INHERITANCE = "INHERIT or NO INHERIT"
    DETACH_PARTITION = "DETACH PARTITION"
    DETACH_PARTITION_CONCURRENTLY = "DETACH PARTITION CONCURRENTLY"
    SWITCH_TRIGGER = "ENABLE or DISABLE TRIGGER"
    SWITCH_RULE = "a rule of a table"
    REPLACE = "CREATE OR REPLACE of a view or function"
    REVOKE = "REVOKE"
    ALTER_PUBLICATION = "a publication"
    ALTER_OBJECT = "ALTER of a sequence, type, function or role"
    DELETE_ROWS = "DELETE"

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
    ALTER_CATALOG = "ALTER TABLE of storage or names"
    SET_PARAMETER = "SET of statistics or storage parameters"
    ATTACH_PARTITION = "ATTACH PARTITION"
    ALTER_DOMAIN = "ADD CHECK to a domain"
    ALTER_OTHER = "another ALTER TABLE"
    REWRITE_OTHER = "SET LOGGED, TABLESPACE or ACCESS METHOD"
    CREATE = "CREATE"
    COMMENT = "COMMENT or STATISTICS of a table"
    MAINTAIN = "VACUUM or ANALYZE"
    CREATE_INDEX = "CREATE INDEX"
    CREATE_INDEX_CONCURRENTLY = "CREATE INDEX CONCURRENTLY"
    DROP_INDEX = "DROP INDEX"
    DROP_INDEX_CONCURRENTLY = "DROP INDEX CONCURRENTLY"
    REINDEX = "REINDEX"
    REINDEX_CONCURRENTLY = "REINDEX CONCURRENTLY"
    CREATE_TRIGGER = "CREATE TRIGGER"
    DROP_TRIGGER = "DROP TRIGGER"
    VACUUM_FULL = "VACUUM FULL or CLUSTER"
    REFRESH = "REFRESH MATERIALIZED VIEW"
    REFRESH_CONCURRENTLY = "REFRESH MATERIALIZED VIEW CONCURRENTLY"
    LOCK = "LOCK TABLE"
    WRITE_ROWS = "INSERT or UPDATE"
    LOCK_ROWS = "SELECT FOR UPDATE or SHARE"
    CALL_FUNCTION = "a call of a function"
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
        others: further tables that the statement names, each with the lock and the work on it.
        lock: of LOCK TABLE, the mode that it names.
        only: without the table's partitions and children.
        cascade: objects that depend on it are dropped too.
        detail: what the rule needs beyond the kind: of written rows INSERT, UPDATE or DELETE; of a call the function.
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
    others: tuple[tuple[TableName, TableLock, TableWork], ...] = ()
    lock: TableLock | None = None
    only: bool = False
    cascade: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with its location, ``migration.sql:12``.

    Attributes:
        node: the kind of its parse tree's root, such as ``do_stmt``.
    """

    location: str
    text: str
    actions: tuple[StatementAction, ...]
    node: str = ""

    @property
    def one_line(self) -> str:
        """The statement in one line."""
        return " ".join(self.text.split())


@dataclass(frozen=True, slots=True)
class NameScope:
    """Where names without a schema are looked up.

    Attributes:
        search_path: the session's schemas when the migration begins.
        relations: qualified names of the relations that exist.
        role: for ``"$user"``.
    """

    search_path: tuple[str, ...] = ("public",)
    relations: frozenset[str] = frozenset()
    role: str = ""

    @classmethod
    def of_schema(cls, schema: SchemaSnapshot) -> "NameScope":
        """The scope of a session of that database."""
        return cls(
            schema.search_path or ("public",), frozenset(str(each) for each in schema.relations.values()), schema.role
        )


class _NameResolver:
    """Resolves names as the server would, following SET search_path from statement to statement."""

    def __init__(self, scope: NameScope) -> None:
        self._scope, self._known = scope, set(scope.relations)
        self._session = self._path = scope.search_path

    def resolve(self, action: StatementAction) -> StatementAction:
        creates = action.kind is ActionKind.CREATE
        table = self._table(action.table, creates=creates) if action.table is not None else None
        others = tuple((self._table(each, creates=False), lock, work) for each, lock, work in action.others)
        if creates and table is not None:
            self._known.add(str(table))
        name = action.name
        if action.kind in _INDEX_KINDS and name:
            schema, _, plain = name.rpartition(".")
            name = str(self._table(TableName(schema_=schema, name=plain), creates=False))
        return replace(action, table=table, others=others, name=name)

    def _table(self, table: TableName, *, creates: bool) -> TableName:
        if table.schema_:
            return table
        found = (each for each in self._path if f"{each}.{table.name}" in self._known) if not creates else iter(())
        return TableName(schema_=next(found, next(iter(self._path), "public")), name=table.name)

    def follow(self, node: Any) -> None:
        """Takes over the search_path that a statement sets."""
        kind = node.WhichOneof("node")
        if kind == "transaction_stmt" and enum_name(node.transaction_stmt, "kind") in _TRANSACTION_ENDS:
            self._path = self._session
        elif kind == "variable_set_stmt" and node.variable_set_stmt.name == "search_path":
            values = string_values_of_constants(node.variable_set_stmt.args)
            self._set(values, is_local=node.variable_set_stmt.is_local)
        elif kind == "variable_set_stmt" and enum_name(node.variable_set_stmt, "kind") == "VAR_RESET_ALL":
            self._set([], is_local=False)
        elif kind == "select_stmt":
            for call in (each for each in walk(node) if node_class(each) == "FuncCall"):
                values = string_values_of_constants(call.args)
                if string_values(call.funcname)[-1:] == ["set_config"] and values[:1] == ["search_path"]:
                    self._set([part.strip().strip('"') for part in values[1].split(",")], is_local=False)

    def _set(self, values: list[str], *, is_local: bool) -> None:
        role = self._scope.role or "public"
        path = tuple(role if value == "$user" else value for value in values) or self._scope.search_path
        self._path = path
        if not is_local:
            self._session = path


_TRANSACTION_ENDS = {"TRANS_STMT_COMMIT", "TRANS_STMT_ROLLBACK"}


def string_values_of_constants(nodes: Any) -> list[str]:
    """The texts of a list of constants; other nodes are left out."""
    return [node.a_const.sval.sval for node in nodes if node.HasField("a_const") and node.a_const.HasField("sval")]


_DISPLAY_COMMANDS = re.compile(
    r"^\\(?:un)?restrict\b.*$|^\\(?:echo|qecho|timing|pset|x|conninfo|encoding|set +ON_ERROR_STOP)\b.*$", re.MULTILINE
)
"""Commands of psql that change no statement: pg_dump writes the first two."""


def _parse_script(text: str) -> tuple[str, Any]:
    try:
        return text, parse_sql(text)
    except SqlSyntaxError:
        plain = _DISPLAY_COMMANDS.sub("", text)
        if plain == text:
            raise
        return plain, parse_sql(plain)


def read_migration(text: str, source: str, scope: NameScope | None = None) -> tuple[Statement, ...]:
    """The statements of a migration.

    Args:
        source: the file's name, for messages.
        scope: where names are looked up; without it in ``public``.

    Raises:
        PlanError: it cannot be parsed; names the line.
    """
    try:
        text, tree = _parse_script(text)
    except SqlSyntaxError as error:
        refuse_placeholder(text, error, source)
        line = text.count("\n", 0, error.offset) + 1
        raise PlanError(
            f"{source}:{line}: PostgreSQL cannot read it: {error.reason}",
            "correct the statement; psql's \\commands and COPY data are not SQL",
        ) from None
    refuse_placeholder(text, file=source)
    raw = text.encode(errors="replace")
    names = _NameResolver(scope or NameScope())
    starts = [token.start for token in tokens(text) if token.kind not in ("comment", "semicolon")]
    statements = []
    for node in tree.stmts:
        end = node.stmt_location + node.stmt_len if node.stmt_len else len(raw)
        start = starts[bisect_left(starts, node.stmt_location)]
        line = raw.count(b"\n", 0, start) + 1
        actions = tuple(names.resolve(action) for action in _actions_of(node.stmt))
        statements.append(Statement(f"{source}:{line}", raw[start:end].decode(), actions, node.stmt.WhichOneof("node")))
        names.follow(node.stmt)
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
        schema: the database's schema; None where it was not read.
    """

    database: str
    tables: Mapping[str, LiveTableStats] = field(default_factory=dict)
    missing_tables: tuple[TableName, ...] = ()
    longest_transaction: float = 0.0
    schema: SchemaSnapshot | None = None

    def find_table(self, table: TableName | None) -> LiveTableStats | None:
        return self.tables.get(str(table)) if table is not None else None


# --- from parse trees to actions


_HARMLESS_NODES = {
    *("variable_set_stmt", "variable_show_stmt", "transaction_stmt", "check_point_stmt", "deallocate_stmt"),
    *("create_schema_stmt", "create_seq_stmt", "create_enum_stmt", "create_cast_stmt", "create_conversion_stmt"),
    *("composite_type_stmt", "create_domain_stmt", "create_role_stmt", "listen_stmt", "unlisten_stmt"),
    *("notify_stmt", "discard_stmt", "create_range_stmt", "create_plang_stmt"),
}
_INDEX_KINDS = {
    *(ActionKind.DROP_INDEX, ActionKind.DROP_INDEX_CONCURRENTLY, ActionKind.REINDEX, ActionKind.REINDEX_CONCURRENTLY),
    *(ActionKind.CREATE_INDEX, ActionKind.CREATE_INDEX_CONCURRENTLY, ActionKind.RENAME_INDEX),
}
_TRUSTED_EXTENSIONS = {
    *("btree_gin", "btree_gist", "citext", "cube", "dict_int", "fuzzystrmatch", "hstore", "intarray", "isn", "lo"),
    *("ltree", "pg_trgm", "pgcrypto", "plpgsql", "seg", "tablefunc", "tcn", "tsm_system_rows", "tsm_system_time"),
    *("unaccent", "uuid-ossp"),
}
"""Extensions of PostgreSQL itself that any owner of a database may create: they cannot reach outside of it."""

_HARMLESS_FUNCTIONS = {
    *("abs", "array_agg", "avg", "btrim", "ceil", "char_length", "clock_timestamp", "coalesce", "concat", "count"),
    *("current_database", "current_schema", "current_setting", "date_part", "date_trunc", "format", "gen_random_uuid"),
    *("generate_series", "greatest", "initcap", "jsonb_build_object", "json_build_object", "least", "left", "length"),
    *(
        "lower",
        "lpad",
        "max",
        "md5",
        "min",
        "now",
        "nullif",
        "pg_sleep",
        "random",
        "regexp_replace",
        "replace",
        "right",
    ),
    *("round", "rpad", "set_config", "split_part", "statement_timestamp", "string_agg", "substr", "substring", "sum"),
    *("to_char", "to_date", "to_jsonb", "to_timestamp", "trim", "upper", "uuid_generate_v4", "version", "pg_notify"),
    *("nextval", "currval", "unnest", "row_number", "rank", "cardinality", "array_length", "extract", "timezone"),
}
"""Functions of PostgreSQL that change nothing but what the statement around them does."""

_RENAME_KINDS = {"OBJECT_COLUMN": ActionKind.RENAME_COLUMN, "OBJECT_TABLE": ActionKind.RENAME_TABLE}
_CATALOG_RENAMES = {"OBJECT_TRIGGER", "OBJECT_POLICY", "OBJECT_RULE"}
_ALTER_KINDS = {
    "AT_DropColumn": ActionKind.DROP_COLUMN,
    "AT_SetNotNull": ActionKind.SET_NOT_NULL,
    "AT_DropNotNull": ActionKind.DROP_NOT_NULL,
    "AT_ValidateConstraint": ActionKind.VALIDATE,
    "AT_DropConstraint": ActionKind.DROP_CONSTRAINT,
    "AT_SetLogged": ActionKind.REWRITE_OTHER,
    "AT_SetUnLogged": ActionKind.REWRITE_OTHER,
    "AT_SetTableSpace": ActionKind.REWRITE_OTHER,
    "AT_SetAccessMethod": ActionKind.REWRITE_OTHER,
    "AT_SetExpression": ActionKind.SET_EXPRESSION,
    "AT_DropExpression": ActionKind.DROP_DEFAULT,
    "AT_DropIdentity": ActionKind.DROP_DEFAULT,
    "AT_SetStorage": ActionKind.ALTER_CATALOG,
    "AT_DropOids": ActionKind.ALTER_CATALOG,
    "AT_SetCompression": ActionKind.ALTER_CATALOG,
    "AT_AlterConstraint": ActionKind.ALTER_CATALOG,
    "AT_ChangeOwner": ActionKind.OWNER,
    "AT_ReplicaIdentity": ActionKind.REPLICA_IDENTITY,
    **dict.fromkeys(("AT_AddInherit", "AT_DropInherit", "AT_AddOf", "AT_DropOf"), ActionKind.INHERITANCE),
    **dict.fromkeys(
        ("AT_SetStatistics", "AT_SetOptions", "AT_ResetOptions", "AT_ClusterOn", "AT_DropCluster"),
        ActionKind.SET_PARAMETER,
    ),
    **dict.fromkeys(
        ("AT_EnableRowSecurity", "AT_DisableRowSecurity", "AT_ForceRowSecurity", "AT_NoForceRowSecurity"),
        ActionKind.ROW_SECURITY,
    ),
    **dict.fromkeys(
        ("AT_EnableRule", "AT_DisableRule", "AT_EnableAlwaysRule", "AT_EnableReplicaRule"), ActionKind.SWITCH_RULE
    ),
    **dict.fromkeys(
        (
            *("AT_EnableTrig", "AT_EnableAlwaysTrig", "AT_EnableReplicaTrig", "AT_DisableTrig", "AT_EnableTrigAll"),
            *("AT_DisableTrigAll", "AT_EnableTrigUser", "AT_DisableTrigUser"),
        ),
        ActionKind.SWITCH_TRIGGER,
    ),
}
_COLUMN_ACTIONS = {
    *("AT_DropColumn", "AT_SetNotNull", "AT_DropNotNull", "AT_DropExpression", "AT_DropIdentity", "AT_SetExpression"),
    *("AT_SetStatistics", "AT_SetStorage", "AT_SetCompression"),
}
_SRX, _SUX, _AX = TableLock.SHARE_ROW_EXCLUSIVE, TableLock.SHARE_UPDATE_EXCLUSIVE, TableLock.ACCESS_EXCLUSIVE
_LOCK_MODES = (TableLock.NONE, *reversed(list(TableLock)[:-1]))
"""By number: 1 is ACCESS SHARE, 8 ACCESS EXCLUSIVE (lockdefs.h)."""


def _actions_of(node: Any) -> Iterator[StatementAction]:
    kind = node.WhichOneof("node")
    if (reader := _READERS.get(kind)) is not None:
        yield from reader(getattr(node, kind))
    else:
        yield StatementAction(ActionKind.HARMLESS if kind in _HARMLESS_NODES else ActionKind.UNKNOWN)


def _table_name(relation: Any) -> TableName:
    """The name as written; an empty schema is looked up later."""
    return TableName(schema_=relation.schemaname, name=relation.relname)


def _list_name(names: list[str]) -> TableName:
    schema, name = ["", *names][-2:]
    return TableName(schema_=schema, name=name)


# --- ALTER TABLE


def _alter_table(node: Any) -> Iterator[StatementAction]:
    altered = enum_name(node, "objtype")
    if altered == "OBJECT_INDEX":
        yield StatementAction(ActionKind.HARMLESS)
        return
    if altered in ("OBJECT_SEQUENCE", "OBJECT_TYPE"):
        yield StatementAction(ActionKind.ALTER_OBJECT, name=node.relation.relname)
        return
    table, only = _table_name(node.relation), not node.relation.inh
    for each in node.cmds:
        cmd = each.alter_table_cmd
        definition, subtype = getattr(cmd, "def"), enum_name(cmd, "subtype")
        cascade = enum_name(cmd, "behavior") == "DROP_CASCADE"
        if subtype == "AT_AddColumn":
            added = _add_column(table, definition.column_def, if_not_exists=cmd.missing_ok)
            action = replace(added, definition=single_command_sql(node, each))
        elif subtype == "AT_AlterColumnType":
            column = definition.column_def
            using = expression_sql(column.raw_default) if column.HasField("raw_default") else ""
            detail = "collate" if column.HasField("coll_clause") else ""
            action = StatementAction(
                ActionKind.CHANGE_TYPE, table, cmd.name, type=type_sql(column.type_name), using=using, detail=detail
            )
        elif subtype == "AT_AddConstraint":
            action = _add_constraint(table, definition.constraint)
        elif subtype in _COLUMN_ACTIONS:
            action = StatementAction(_ALTER_KINDS[subtype], table, cmd.name, detail=subtype)
        else:
            action = _alter_otherwise(table, subtype, cmd, definition)
        yield replace(action, only=only, cascade=cascade)


def _alter_otherwise(table: TableName, subtype: str, cmd: Any, definition: Any) -> StatementAction:
    kind, others = _ALTER_KINDS.get(subtype, ActionKind.ALTER_OTHER), ()
    match subtype:
        case "AT_ColumnDefault":
            is_set = cmd.HasField("def")
            return StatementAction(ActionKind.SET_DEFAULT if is_set else ActionKind.DROP_DEFAULT, table, cmd.name)
        case "AT_AddIdentity":
            is_always = definition.constraint.generated_when == "a"
            kind = ActionKind.ALWAYS_IDENTITY if is_always else ActionKind.ALTER_CATALOG
            return StatementAction(kind, table, cmd.name, detail=subtype)
        case "AT_SetIdentity":
            options = [each.def_elem for each in definition.list.items]
            is_default = all(each.defname == "generated" and each.arg.integer.ival == ord("d") for each in options)
            kind = ActionKind.ALTER_CATALOG if is_default else ActionKind.ALWAYS_IDENTITY
            return StatementAction(kind, table, cmd.name, detail=subtype)
        case "AT_SetRelOptions" | "AT_ResetRelOptions":
            names = {each.def_elem.defname for each in definition.list.items}
            is_strong = names & {"user_catalog_table", "security_barrier", "security_invoker", "check_option"}
            return StatementAction(ActionKind.ALTER_CATALOG if is_strong else ActionKind.SET_PARAMETER, table)
        case "AT_AlterConstraint":
            changed = definition.atalter_constraint
            if not changed.alter_enforceability:
                return StatementAction(kind, table, name=changed.conname, detail=subtype)
            kind = ActionKind.ADD_FOREIGN_KEY if changed.is_enforced else kind
            return StatementAction(kind, table, name=changed.conname, lock=_AX, detail="enforcement")
        case "AT_AttachPartition":
            partition = _table_name(definition.partition_cmd.name)
            detail = "default" if definition.partition_cmd.bound.is_default else ""
            return StatementAction(
                ActionKind.ATTACH_PARTITION, table, others=((partition, _AX, TableWork.SCAN),), detail=detail
            )
        case "AT_DetachPartition" | "AT_DetachPartitionFinalize":
            partition = _table_name(definition.partition_cmd.name)
            is_concurrent = definition.partition_cmd.concurrent
            kind = ActionKind.DETACH_PARTITION_CONCURRENTLY if is_concurrent else ActionKind.DETACH_PARTITION
            lock = _SUX if subtype == "AT_DetachPartitionFinalize" else None
            return StatementAction(kind, table, others=((partition, _AX, TableWork.NONE),), lock=lock)
        case "AT_AddInherit":
            parent = _table_name(definition.range_var)
            return StatementAction(kind, table, others=((parent, _SUX, TableWork.NONE),))
    return StatementAction(kind, table, name=cmd.name, others=others, detail=subtype)


def _add_column(table: TableName, column: Any, *, if_not_exists: bool) -> StatementAction:
    constraints = {enum_name(each.constraint, "contype"): each.constraint for each in column.constraints}
    default, generated = constraints.get("CONSTR_DEFAULT"), constraints.get("CONSTR_GENERATED")
    kind = ActionKind.ADD_COLUMN
    if (
        (generated is not None and generated.generated_kind != "v")
        or "CONSTR_IDENTITY" in constraints
        or is_serial(column.type_name)
        or (default is not None and may_be_volatile(default.raw_expr))
    ):
        kind = ActionKind.ADD_COLUMN_REWRITE
    elif constraints.keys() & {"CONSTR_UNIQUE", "CONSTR_PRIMARY"}:
        kind = ActionKind.ADD_UNIQUE
    elif "CONSTR_NOTNULL" in constraints and default is None and generated is None:
        kind = ActionKind.ADD_REQUIRED_COLUMN
    elif "CONSTR_CHECK" in constraints:
        kind = ActionKind.ADD_CHECK
    others: tuple[tuple[TableName, TableLock, TableWork], ...] = ()
    if (key := constraints.get("CONSTR_FOREIGN")) is not None:
        # Rows that exist hold NULL, unless there is a default.
        work = TableWork.SCAN if default is not None else TableWork.NONE
        others = ((_table_name(key.pktable), _SRX, work),)
        if kind is ActionKind.ADD_COLUMN:
            kind = ActionKind.ADD_FOREIGN_KEY
    detail = "not null" if "CONSTR_NOTNULL" in constraints else ""
    if default is not None:
        detail += " default " + " ".join(name for _, name, _ in called_functions(default.raw_expr))
    return StatementAction(
        *(kind, table, column.colname),
        type=type_sql(column.type_name),
        others=others,
        detail=("if not exists " if if_not_exists else "") + detail.strip(),
    )


def _add_constraint(table: TableName, constraint: Any) -> StatementAction:
    name, column, is_unchecked = constraint.conname, "", constraint.skip_validation
    others: tuple[tuple[TableName, TableLock, TableWork], ...] = ()
    detail = ""
    match enum_name(constraint, "contype"):
        case "CONSTR_CHECK" | "CONSTR_NOTNULL" as given:
            kind = ActionKind.ADD_NOT_VALID if is_unchecked else ActionKind.ADD_CHECK
            column = _not_null_column(constraint)
            detail = "no inherit" if constraint.is_no_inherit else ""
            if given == "CONSTR_NOTNULL":
                detail += " not null"
        case "CONSTR_FOREIGN":
            kind = ActionKind.ADD_FOREIGN_KEY_NOT_VALID if is_unchecked else ActionKind.ADD_FOREIGN_KEY
            work = TableWork.NONE if is_unchecked else TableWork.SCAN
            others = ((_table_name(constraint.pktable), _SRX, work),)
        case "CONSTR_UNIQUE" | "CONSTR_PRIMARY" if constraint.indexname:
            kind = ActionKind.ADD_UNIQUE_USING_INDEX
        case "CONSTR_UNIQUE" | "CONSTR_PRIMARY" | "CONSTR_EXCLUSION" as given:
            kind = ActionKind.ADD_UNIQUE
            detail = "primary " + " ".join(string_values(constraint.keys)) if given == "CONSTR_PRIMARY" else ""
        case _:
            kind = ActionKind.ALTER_OTHER
    return StatementAction(kind, table, column, name, others=others, detail=detail.strip())


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
    if renamed == "OBJECT_INDEX":
        name = ".".join(filter(None, (node.relation.schemaname, node.relation.relname)))
        yield StatementAction(ActionKind.RENAME_INDEX, name=name)
        return
    if renamed == "OBJECT_SEQUENCE":
        yield StatementAction(ActionKind.RENAME_OTHER, name=node.newname)
        return
    if renamed == "OBJECT_TABCONSTRAINT":
        yield StatementAction(ActionKind.RENAME_CONSTRAINT, _named_table(node), name=node.subname, only=True)
        return
    if renamed in _CATALOG_RENAMES:
        kind = ActionKind.ALTER_CATALOG
    elif "OBJECT_TABLE" in (renamed, enum_name(node, "relation_type")):
        kind = _RENAME_KINDS.get(renamed, ActionKind.RENAME_OTHER)
    else:
        kind = ActionKind.RENAME_OTHER
    only = renamed != "OBJECT_COLUMN" or not node.relation.inh
    yield StatementAction(kind, _named_table(node), node.subname, node.newname, only=only)


def _set_schema(node: Any) -> Iterator[StatementAction]:
    moved = enum_name(node, "object_type")
    if moved == "OBJECT_SEQUENCE":
        yield StatementAction(ActionKind.RENAME_OTHER, name=node.newschema)
        return
    is_table = moved == "OBJECT_TABLE"
    kind = ActionKind.SET_SCHEMA if is_table else ActionKind.RENAME_OTHER
    yield StatementAction(kind, _named_table(node), name=node.newschema, only=True)


def _named_table(node: Any) -> TableName | None:
    return _table_name(node.relation) if node.relation.relname else None


def _drop(node: Any) -> Iterator[StatementAction]:
    cascade = enum_name(node, "behavior") == "DROP_CASCADE"
    for each in node.objects:
        names = _object_name(each)
        match enum_name(node, "remove_type"):
            case "OBJECT_INDEX":
                kind = ActionKind.DROP_INDEX_CONCURRENTLY if node.concurrent else ActionKind.DROP_INDEX
                action = StatementAction(kind, name=".".join(names))
            case "OBJECT_TABLE" | "OBJECT_FOREIGN_TABLE":
                action = StatementAction(ActionKind.DROP_TABLE, _list_name(names))
            case "OBJECT_TRIGGER":
                action = StatementAction(ActionKind.DROP_TRIGGER, _list_name(names[:-1]), name=names[-1])
            case "OBJECT_RULE":
                action = StatementAction(ActionKind.SWITCH_RULE, _list_name(names[:-1]), name=names[-1])
            case "OBJECT_POLICY":
                action = StatementAction(ActionKind.ROW_SECURITY, _list_name(names[:-1]), name=names[-1])
            case "OBJECT_VIEW" | "OBJECT_MATVIEW":
                action = StatementAction(ActionKind.DROP_OTHER, _list_name(names), name=names[-1], only=True)
            case "OBJECT_STATISTIC_EXT":
                action = StatementAction(ActionKind.COMMENT, name=".".join(names), detail="statistics")
            case "OBJECT_PUBLICATION":
                action = StatementAction(ActionKind.ALTER_PUBLICATION, name=names[-1])
            case removed:
                action = StatementAction(ActionKind.DROP_OTHER, name=".".join(names), detail=removed)
        yield replace(action, cascade=cascade)


def _object_name(each: Any) -> list[str]:
    """The parts of the name of an object that a statement drops or comments."""
    match each.WhichOneof("node"):
        case "list":
            return string_values(each.list.items)
        case "object_with_args":
            return string_values(each.object_with_args.objname)
        case "type_name":
            return string_values(each.type_name.names)
        case "string":
            return [each.string.sval]
    return [""]


def _create_table(node: Any) -> Iterator[StatementAction]:
    columns = [element.column_def for element in node.table_elts if element.HasField("column_def")]
    named = tuple((column.colname, type_sql(column.type_name)) for column in columns)
    table = _table_name(node.relation)
    constraints = [element.constraint for element in node.table_elts if element.HasField("constraint")]
    constraints += [each.constraint for column in columns for each in column.constraints]
    others = [
        (_table_name(constraint.pktable), _SRX, TableWork.NONE)
        for constraint in constraints
        if enum_name(constraint, "contype") == "CONSTR_FOREIGN" and constraint.pktable.relname != table.name
    ]
    is_partition = node.HasField("partbound")
    others += [
        (_table_name(each.range_var), _AX if is_partition else _SUX, TableWork.NONE) for each in node.inh_relations
    ]
    detail = "partition" if is_partition else ""
    if is_partition and node.partbound.is_default:
        detail = "default partition"
    if node.relation.relpersistence == "t":
        table = TableName(schema_="pg_temp", name=table.name)
    yield StatementAction(
        ActionKind.CREATE, table, columns=named or (("", ""),), others=tuple(dict.fromkeys(others)), detail=detail
    )


def _create_table_as(node: Any) -> Iterator[StatementAction]:
    yield StatementAction(ActionKind.CREATE, _table_name(node.into.rel), columns=(("", ""),))
    yield from _calls(node)


def _view(node: Any) -> Iterator[StatementAction]:
    if node.replace:
        yield StatementAction(ActionKind.REPLACE, _table_name(node.view), only=True, detail="view")
    else:
        yield StatementAction(ActionKind.HARMLESS)


def _function(node: Any) -> Iterator[StatementAction]:
    names = string_values(node.funcname)
    if node.replace:
        yield StatementAction(ActionKind.REPLACE, name=".".join(names), detail="function")
    else:
        yield StatementAction(ActionKind.HARMLESS, name=".".join(names))


def _index(node: Any) -> Iterator[StatementAction]:
    kind = ActionKind.CREATE_INDEX_CONCURRENTLY if node.concurrent else ActionKind.CREATE_INDEX
    detail = "if not exists" if node.if_not_exists else ""
    yield StatementAction(
        kind, _table_name(node.relation), name=node.idxname, only=not node.relation.inh, detail=detail
    )


def _reindex(node: Any) -> Iterator[StatementAction]:
    concurrently = any(param.def_elem.defname == "concurrently" for param in node.params)
    kind = ActionKind.REINDEX_CONCURRENTLY if concurrently else ActionKind.REINDEX
    table, name = None, node.relation.relname
    if enum_name(node, "kind") == "REINDEX_OBJECT_TABLE":
        table, name = _table_name(node.relation), ""
    elif node.relation.schemaname:
        name = f"{node.relation.schemaname}.{name}"
    yield StatementAction(kind, table, name=name)


def _vacuum(node: Any) -> Iterator[StatementAction]:
    is_full = any(option.def_elem.defname == "full" for option in node.options)
    kind = ActionKind.VACUUM_FULL if is_full else ActionKind.MAINTAIN
    detail = "vacuum" if node.is_vacuumcmd else "analyze"
    for each in node.rels:
        yield StatementAction(kind, _table_name(each.vacuum_relation.relation), detail=detail)
    if not node.rels:
        yield StatementAction(kind, detail=detail)


def _enum(node: Any) -> Iterator[StatementAction]:
    yield StatementAction(ActionKind.RENAME_OTHER if node.old_val else ActionKind.HARMLESS, name=node.new_val)


def _lock(node: Any) -> Iterator[StatementAction]:
    for relation in node.relations:
        yield StatementAction(
            *(ActionKind.LOCK, _table_name(relation.range_var)),
            lock=_LOCK_MODES[node.mode],
            only=not relation.range_var.inh,
        )


def _trigger(node: Any) -> Iterator[StatementAction]:
    # The table after FROM is read under ACCESS SHARE, which only ACCESS EXCLUSIVE waits for.
    yield StatementAction(
        *(ActionKind.CREATE_TRIGGER, _table_name(node.relation)),
        name=node.trigname,
        only=not node.row,
        detail="replace" if node.replace else "",
    )


def _rule(node: Any) -> Iterator[StatementAction]:
    """A rule locks the tables that its actions will write, and writes none of them yet."""
    others = tuple(_planned_locks(action for each in node.actions for action in _rows_written(each)))
    yield StatementAction(ActionKind.SWITCH_RULE, _table_name(node.relation), others=others)


def _planned_locks(actions: Iterable[StatementAction]) -> Iterator[tuple[TableName, TableLock, TableWork]]:
    """The locks of statements that are planned and not executed."""
    for action in actions:
        if action.table is not None and action.kind is not ActionKind.CREATE:
            is_read = action.kind is ActionKind.LOCK_ROWS
            yield action.table, TableLock.ROW_SHARE if is_read else TableLock.ROW_EXCLUSIVE, TableWork.NONE


def _policy(node: Any) -> Iterator[StatementAction]:
    yield StatementAction(ActionKind.ROW_SECURITY, _table_name(node.table), name=node.policy_name)


def _statistics(node: Any) -> Iterator[StatementAction]:
    for relation in node.relations:
        if relation.HasField("range_var"):
            yield StatementAction(ActionKind.COMMENT, _table_name(relation.range_var), only=True)


def _comment(node: Any) -> Iterator[StatementAction]:
    names, commented = _object_name(node.object), enum_name(node, "objtype")
    if commented == "OBJECT_COLUMN":
        names = names[:-1]
    elif commented not in ("OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE"):
        yield StatementAction(ActionKind.HARMLESS)
        return
    yield StatementAction(ActionKind.COMMENT, _list_name(names), only=True)


def _publication(node: Any) -> Iterator[StatementAction]:
    tables = [each.publication_obj_spec.pubtable.relation for each in node.pubobjects]
    named = [_table_name(relation) for relation in tables if relation.relname]
    for table in named:
        yield StatementAction(ActionKind.ALTER_PUBLICATION, table, name=node.pubname)
    if not named:
        yield StatementAction(ActionKind.ALTER_PUBLICATION, name=node.pubname)


def _grant(node: Any) -> Iterator[StatementAction]:
    yield StatementAction(ActionKind.HARMLESS if node.is_grant else ActionKind.REVOKE)


def _default_privileges(node: Any) -> Iterator[StatementAction]:
    yield from _grant(node.action)


def _domain(node: Any) -> Iterator[StatementAction]:
    name = ".".join(string_values(node.type_name))
    constraint = getattr(node, "def").constraint
    match node.subtype:
        case "C" if constraint.skip_validation:
            yield StatementAction(ActionKind.HARMLESS, name=name)
        case "C" | "V":
            yield StatementAction(ActionKind.ALTER_DOMAIN, name=name)
        case "O":
            yield StatementAction(ActionKind.ALTER_DOMAIN, name=name, detail="not null")
        case "X" | "N":
            yield StatementAction(ActionKind.HARMLESS, name=name)
        case _:
            yield StatementAction(ActionKind.ALTER_OBJECT, name=name)


def _alter_sequence(node: Any) -> Iterator[StatementAction]:
    is_owner = all(option.def_elem.defname == "owned_by" for option in node.options)
    yield StatementAction(ActionKind.HARMLESS if is_owner else ActionKind.ALTER_OBJECT, name=node.sequence.relname)


def _extension(node: Any) -> Iterator[StatementAction]:
    is_trusted = node.extname in _TRUSTED_EXTENSIONS
    yield StatementAction(ActionKind.HARMLESS if is_trusted else ActionKind.UNKNOWN, name=node.extname)


def _copy(node: Any) -> Iterator[StatementAction]:
    if node.is_program or node.filename:
        yield StatementAction(ActionKind.UNKNOWN, detail="it reads or writes a file of the server, or starts a program")
    elif node.is_from:
        yield StatementAction(ActionKind.WRITE_ROWS, _table_name(node.relation), detail="INSERT")
    else:
        yield from _query(node)


def _explain(node: Any) -> Iterator[StatementAction]:
    if any(option.def_elem.defname == "analyze" for option in node.options):
        yield from _actions_of(node.query)
    else:
        yield StatementAction(ActionKind.HARMLESS, others=tuple(_planned_locks(_rows_written(node.query))))


def _opaque(node: Any) -> Iterator[StatementAction]:
    yield StatementAction(ActionKind.UNKNOWN, detail="it is code that only an execution shows")


_ROW_NODES = {"InsertStmt": "INSERT", "UpdateStmt": "UPDATE", "DeleteStmt": "DELETE", "MergeStmt": "MERGE"}


def _query(node: Any) -> Iterator[StatementAction]:
    """A SELECT, INSERT, UPDATE, DELETE or MERGE, with what its WITH clauses write and the functions that it calls."""
    found = list(_rows_written(node))
    found += _calls(node)
    yield from found or [StatementAction(ActionKind.HARMLESS)]


def _rows_written(node: Any) -> Iterator[StatementAction]:
    for each in walk(node):
        kind = node_class(each)
        if kind in _ROW_NODES:
            detail = _ROW_NODES[kind]
            if kind == "MergeStmt":
                clauses = [clause.merge_when_clause for clause in each.merge_when_clauses]
                commands = {enum_name(clause, "command_type").removeprefix("CMD_") for clause in clauses}
                detail = "DELETE" if "DELETE" in commands else "UPDATE" if "UPDATE" in commands else "INSERT"
            columns = tuple((target.res_target.name, "") for target in getattr(each, "target_list", ()))
            deletes = detail == "DELETE"
            yield StatementAction(
                *(ActionKind.DELETE_ROWS if deletes else ActionKind.WRITE_ROWS, _table_name(each.relation)),
                columns=columns,
                detail=detail,
                only=not each.relation.inh,
            )
        elif kind == "SelectStmt":
            if each.HasField("into_clause"):
                yield StatementAction(ActionKind.CREATE, _table_name(each.into_clause.rel), columns=(("", ""),))
            if each.locking_clause:
                named = {
                    item.range_var.relname
                    for clause in each.locking_clause
                    for item in clause.locking_clause.locked_rels
                }
                for relation in _locked_sources(each.from_clause, named):
                    yield StatementAction(ActionKind.LOCK_ROWS, _table_name(relation), only=not relation.inh)


def _locked_sources(sources: Iterable[Any], named: AbstractSet[str]) -> Iterator[Any]:
    """The RangeVars of a FROM whose rows FOR UPDATE locks.

    Args:
        named: tables or aliases after OF; empty for all.
    """
    for source in sources:
        match source.WhichOneof("node"):
            case "range_var":
                relation = source.range_var
                if not named or (relation.alias.aliasname or relation.relname) in named:
                    yield relation
            case "join_expr":
                yield from _locked_sources((source.join_expr.larg, source.join_expr.rarg), named)
            case "range_subselect":
                inner = source.range_subselect
                if not named or inner.alias.aliasname in named:
                    yield from _locked_sources(inner.subquery.select_stmt.from_clause, frozenset())


def _calls(node: Any) -> list[StatementAction]:
    """Calls of functions that may change something."""
    return [
        StatementAction(ActionKind.CALL_FUNCTION, name=f"{schema}.{name}" if schema else name)
        for schema, name, _ in called_functions(node)
        if schema not in ("", "pg_catalog") or name not in _HARMLESS_FUNCTIONS
    ]


def _reader_of_many(kind: ActionKind) -> Callable[[Any], Iterator[StatementAction]]:
    def read(node: Any) -> Iterator[StatementAction]:
        cascade = enum_name(node, "behavior") == "DROP_CASCADE"
        for relation in node.relations:
            only = not relation.range_var.inh
            yield StatementAction(kind, _table_name(relation.range_var), only=only, cascade=cascade)

    return read


def _reader_of_one(kind: ActionKind, detail: str = "") -> Callable[[Any], Iterator[StatementAction]]:
    def read(node: Any) -> Iterator[StatementAction]:
        yield StatementAction(kind, _table_name(node.relation), detail=detail)

    return read


def _reader_of_object(kind: ActionKind) -> Callable[[Any], Iterator[StatementAction]]:
    def read(_node: Any) -> Iterator[StatementAction]:
        yield StatementAction(kind)

    return read


def _refresh(node: Any) -> Iterator[StatementAction]:
    kind = ActionKind.REFRESH_CONCURRENTLY if node.concurrent else ActionKind.REFRESH
    yield StatementAction(kind, _table_name(node.relation), only=True)


_READERS: dict[str, Callable[[Any], Iterator[StatementAction]]] = {
    "alter_table_stmt": _alter_table,
    "rename_stmt": _rename,
    "alter_object_schema_stmt": _set_schema,
    "drop_stmt": _drop,
    "truncate_stmt": _reader_of_many(ActionKind.TRUNCATE),
    "create_stmt": _create_table,
    "create_table_as_stmt": _create_table_as,
    "view_stmt": _view,
    "create_function_stmt": _function,
    "define_stmt": lambda node: iter([StatementAction(ActionKind.REPLACE if node.replace else ActionKind.HARMLESS)]),
    "index_stmt": _index,
    "reindex_stmt": _reindex,
    "vacuum_stmt": _vacuum,
    "cluster_stmt": _reader_of_one(ActionKind.VACUUM_FULL, "cluster"),
    "repack_stmt": _reader_of_one(ActionKind.VACUUM_FULL, "cluster"),
    "refresh_mat_view_stmt": _refresh,
    "lock_stmt": _lock,
    "alter_enum_stmt": _enum,
    "alter_domain_stmt": _domain,
    "alter_seq_stmt": _alter_sequence,
    "create_trig_stmt": _trigger,
    "rule_stmt": _rule,
    "create_policy_stmt": _policy,
    "alter_policy_stmt": _policy,
    "create_stats_stmt": _statistics,
    "comment_stmt": _comment,
    "create_publication_stmt": _publication,
    "alter_publication_stmt": _publication,
    "grant_stmt": _grant,
    "grant_role_stmt": _grant,
    "alter_default_privileges_stmt": _default_privileges,
    "create_extension_stmt": _extension,
    "copy_stmt": _copy,
    "explain_stmt": _explain,
    "do_stmt": _opaque,
    "call_stmt": _opaque,
    "execute_stmt": _opaque,
    "select_stmt": _query,
    "insert_stmt": _query,
    "update_stmt": _query,
    "delete_stmt": _query,
    "merge_stmt": _query,
    **dict.fromkeys(
        (
            *("alter_function_stmt", "alter_type_stmt", "alter_owner_stmt", "alter_role_stmt", "alter_role_set_stmt"),
            *("drop_role_stmt", "alter_database_stmt", "alter_database_set_stmt", "alter_extension_stmt"),
            *("alter_extension_contents_stmt", "drop_owned_stmt", "reassign_owned_stmt", "alter_system_stmt"),
            *("alter_collation_stmt", "alter_operator_stmt"),
        ),
        _reader_of_object(ActionKind.ALTER_OBJECT),
    ),
}

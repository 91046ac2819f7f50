"""What the plan's SQL may do: additive DDL, and expressions over the columns of one row.

Whatever is not understood is refused: an error names the key of the plan and the fix. Names of types and functions
are checked by :mod:`zdd_tui.checks.schema`, which asks the catalog.
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from zdd_tui.model.ddl.constrain import CONSTRAIN_HINT, ConstrainStatement, read_constrain_statement
from zdd_tui.model.ddl.expand import CreatedObjects
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import DualWriteMode, Plan, TableName
from zdd_tui.model.sql import (
    SqlSyntaxError,
    called_functions,
    enum_name,
    is_serial,
    node_class,
    parse_expression,
    parse_sql,
    split_statements,
    string_values,
    type_sql,
    unsafe_token,
    walk,
)

_EXPRESSION_HINT = "write one expression over the columns of the row, such as first_name || ' ' || last_name"
_ADDITIVE_HINT = (
    "expand may hold ALTER TABLE … ADD COLUMN, ADD CONSTRAINT … NOT VALID, CREATE TABLE, CREATE TYPE, "
    "CREATE SEQUENCE, CREATE STATISTICS, COMMENT ON and GRANT; for a new table also its settings, owner, policies, "
    "triggers, publications and REVOKE"
)


def lint_plan_sql(plan: Plan, *, has_catalog: bool = False) -> None:
    """Checks every SQL text of the plan.

    Args:
        has_catalog: a database checks functions afterwards; otherwise those of PostgreSQL itself by name.

    Raises:
        PlanError: naming the key (``change.expand statement 2``, ``change.up.full_name``) and the fix.
    """
    for plan_key, expression, table in _expressions(plan):
        check_expression(plan_key, expression, table)
        if not has_catalog:
            _refuse_known_functions(plan_key, expression)
    shared = [name for name in plan.change.key if name in plan.change.up or name in plan.change.down]
    if shared:
        raise PlanError(
            f"change.key: {shared[0]} is also in up or down",
            "a key is the same on both sides: leave it out of up and down",
        )
    created_objects(plan)
    read_constrain(plan)


def suggest_name(name: str, names: Sequence[str]) -> str:
    """``; did you mean x?``, or nothing."""
    matches = get_close_matches(name, names, 1)
    return f"; did you mean {matches[0]}?" if matches else ""


# --- expressions

_REFUSED_NODES = {
    **dict.fromkeys(("SubLink", "SelectStmt"), ("a subquery", "an expression may read only the row that it is for")),
    **dict.fromkeys(
        ("WindowDef", "GroupingFunc", "JsonArrayAgg", "JsonObjectAgg"),
        ("an aggregate or window function", "it would read more than one row"),
    ),
    "A_Star": ("*", "name the columns"),
    "SetToDefault": ("DEFAULT", _EXPRESSION_HINT),
}
_AGGREGATE_SYNTAX = ("agg_star", "agg_distinct", "agg_within_group", "agg_order", "agg_filter", "over")

# --- functions of pg_catalog, which is searched before any other schema

_VOLATILE_FUNCTIONS = frozenset(
    {
        *("now", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday"),
        *("random", "gen_random_uuid", "uuid_generate_v4", "nextval", "currval", "lastval", "txid_current"),
    }
)
_MULTI_ROW_FUNCTIONS = frozenset(
    {
        *("any_value", "array_agg", "avg", "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or", "count", "every"),
        *("json_agg", "json_object_agg", "jsonb_agg", "jsonb_object_agg", "max", "min", "mode", "range_agg"),
        *("percentile_cont", "percentile_disc", "stddev", "stddev_pop", "stddev_samp", "string_agg", "sum"),
        *("var_pop", "var_samp", "variance", "xmlagg", "corr", "covar_pop", "covar_samp", "regr_slope"),
        *("row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead"),
        *("first_value", "last_value", "nth_value"),
    }
)


def check_expression(plan_key: str, expression: str, table: str) -> tuple[str, ...]:
    """The columns that an expression reads, in the order of their first mention.

    Raises:
        PlanError: not exactly one expression over one row of ``table``.
    """
    if reason := unsafe_token(expression):
        raise PlanError(f"{plan_key}: not a plain expression: {reason}", _EXPRESSION_HINT)
    try:
        tree = parse_expression(expression)
    except SqlSyntaxError as error:
        raise _explain_syntax_error(plan_key, expression, error) from None
    columns = []
    for node in walk(tree):
        kind = node_class(node)
        is_aggregate = kind == "FuncCall" and any(_is_set(node, field) for field in _AGGREGATE_SYNTAX)
        if is_aggregate or kind in _REFUSED_NODES:
            what, hint = _REFUSED_NODES["WindowDef" if is_aggregate else kind]
            raise PlanError(f"{plan_key}: {what} is not allowed", hint)
        if kind == "SQLValueFunction":
            raise _changing_result(plan_key, enum_name(node, "op").removeprefix("SVFOP_").removesuffix("_N").lower())
        if kind == "ColumnRef":
            if not (names := string_values(node.fields)):
                continue  # only *, which is refused next
            *qualifier, column = names
            if qualifier not in ([], [table]):
                raise PlanError(f"{plan_key}: {'.'.join(names)} is not a column of {table}", _EXPRESSION_HINT)
            columns.append(column)
    return tuple(dict.fromkeys(columns))


def up_source_columns(plan: Plan) -> tuple[str, ...]:
    """Columns of the old table that ``up`` reads."""
    return _source_columns(plan, "change.up.")


def down_source_columns(plan: Plan) -> tuple[str, ...]:
    """Columns of the new side that ``down`` reads."""
    return _source_columns(plan, "change.down.")


def _expressions(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """Key in the plan, expression, and the table whose columns it may read."""
    for column, expression in plan.change.up.items():
        yield f"change.up.{column}", expression, plan.change.table.name
    for column, expression in plan.change.down.items():
        yield f"change.down.{column}", expression, plan.change.target_table.name


def _source_columns(plan: Plan, prefix: str) -> tuple[str, ...]:
    read = (
        column
        for plan_key, expression, table in _expressions(plan)
        if plan_key.startswith(prefix)
        for column in check_expression(plan_key, expression, table)
    )
    return tuple(dict.fromkeys(read))


def _is_set(node: Any, field: str) -> bool:
    return any(descriptor.name == field for descriptor, _ in node.ListFields())


def _changing_result(plan_key: str, name: str) -> PlanError:
    return PlanError(
        f"{plan_key}: {name} returns a different result each time, so the rows could never be verified",
        "compute it from columns alone",
    )


def _refuse_known_functions(plan_key: str, expression: str) -> None:
    for schema, name, _ in called_functions(parse_expression(expression)):
        if schema not in ("", "pg_catalog"):
            continue
        if name in _VOLATILE_FUNCTIONS:
            raise _changing_result(plan_key, name)
        if name in _MULTI_ROW_FUNCTIONS:
            what, hint = _REFUSED_NODES["WindowDef"]
            raise PlanError(f"{plan_key}: {what} is not allowed: {name}", hint)


def _explain_syntax_error(plan_key: str, expression: str, error: SqlSyntaxError) -> PlanError:
    """The text as written in place of an expression."""
    for text in (expression, f"SELECT {expression}"):
        try:
            statements = [statement.stmt for statement in parse_sql(text).stmts]
        except SqlSyntaxError:
            continue
        if text == expression and statements:
            return PlanError(f"{plan_key}: a statement is not allowed", _EXPRESSION_HINT)
        for target in (target.res_target for each in statements for target in each.select_stmt.target_list):
            if target.name:
                return PlanError(
                    f"{plan_key}: AS is not allowed", "leave the alias out: the key in the plan is the column's name"
                )
            if target.val.HasField("column_ref") and target.val.column_ref.fields[-1].HasField("a_star"):
                what, hint = _REFUSED_NODES["A_Star"]
                return PlanError(f"{plan_key}: {what} is not allowed", hint)
    return PlanError(f"{plan_key}: PostgreSQL cannot read it: {error.reason}", _EXPRESSION_HINT)


# --- DDL


def created_objects(plan: Plan) -> CreatedObjects:
    """What the expand DDL and the indexes make.

    Raises:
        PlanError: naming statement and fix, for everything that is not known to be additive.
    """
    checker = _check_expand(plan)
    return CreatedObjects(
        columns=tuple(checker.columns),
        constraints=tuple(checker.constraints),
        tables=tuple(checker.relations["table"]),
        sequences=tuple(checker.relations["sequence"]),
        types=tuple(checker.relations["type"]),
        indexes=tuple(
            _check_index(plan, f"change.indexes statement {number}", statement)
            for number, statement in enumerate(plan.change.indexes, 1)
        ),
    )


def read_constrain(plan: Plan) -> tuple[ConstrainStatement, ...]:
    """The statements of `change.constrain`.

    Raises:
        PlanError: a statement that is none of those that zdd can run in steps, and undo.
    """
    statements = []
    for number, written in enumerate(plan.change.constrain, 1):
        plan_key, text = f"change.constrain statement {number}", written.strip().rstrip(";").strip()
        if reason := unsafe_token(text):
            raise PlanError(f"{plan_key}: {reason}", CONSTRAIN_HINT)
        node = _parse_statement(plan_key, text, CONSTRAIN_HINT)
        statements.append(read_constrain_statement(plan_key, node, text, lambda relation: resolve_name(plan, relation)))
    return tuple(statements)


def early_defaults(plan: Plan) -> tuple[ConstrainStatement, ...]:
    """The defaults of `change.constrain` that V3 needs from its first INSERT on: they are set before its rollout.

    None for columns that the forward trigger fills: it takes a value there for that of a writer who knows the column.
    """
    if plan.change.into is None and plan.change.dual_write is DualWriteMode.TRIGGER:
        return ()
    return tuple(each for each in read_constrain(plan) if each.is_default and each.table == plan.change.target_table)


def new_column_types(plan: Plan) -> dict[str, str]:
    """Name and SQL type of the columns that the expand DDL makes in the target table."""
    return _check_expand(plan).types


def index_name(statement: str) -> str:
    """The name in a CREATE INDEX statement that the lint has accepted."""
    return str(parse_sql(statement).stmts[0].stmt.index_stmt.idxname)


def _check_expand(plan: Plan) -> "_AdditiveChecker":
    expand = plan.change.expand
    if reason := unsafe_token(expand, statements=True):
        raise PlanError(f"change.expand: {reason}", "write plain statements, separated by semicolons")
    checker = _AdditiveChecker(plan)
    for number, statement in enumerate(split_statements(expand), 1):
        plan_key = f"change.expand statement {number}"
        checker.check_statement(plan_key, _parse_statement(plan_key, statement, _ADDITIVE_HINT), statement)
    checker.check_complete()
    return checker


def _parse_statement(plan_key: str, text: str, hint: str) -> Any:
    try:
        statements = parse_sql(text).stmts
    except SqlSyntaxError as error:
        raise PlanError(f"{plan_key}: PostgreSQL cannot read it: {error.reason}", hint) from None
    if len(statements) != 1:
        raise PlanError(f"{plan_key}: expected one statement", hint)
    return statements[0].stmt


def _check_index(plan: Plan, plan_key: str, statement: str) -> tuple[str, str]:
    """Schema and name of the index that a statement of ``indexes`` makes."""
    hint = f"write CREATE INDEX CONCURRENTLY name ON {plan.change.target_table} (column)"
    text = statement.strip().rstrip(";")
    if reason := unsafe_token(text):
        raise PlanError(f"{plan_key}: {reason}", hint)
    node = _parse_statement(plan_key, text, hint)
    if not node.HasField("index_stmt"):
        raise PlanError(f"{plan_key}: not a CREATE INDEX", hint)
    index = node.index_stmt
    if not index.concurrent:
        raise PlanError(f"{plan_key}: without CONCURRENTLY it would block every write while it is built", hint)
    if not index.idxname:
        raise PlanError(f"{plan_key}: the index has no name, so it could not be found again", hint)
    table = resolve_name(plan, index.relation)
    if table not in (plan.change.table, plan.change.target_table):
        raise PlanError(f"{plan_key}: {table} is no table of this plan", hint)
    return table.schema_, index.idxname


def resolve_name(plan: Plan, relation: Any) -> TableName:
    """The table that a name means under the search path that the statements run with."""
    known = [plan.change.target_table, plan.change.table]
    schema = relation.schemaname or next(
        (table.schema_ for table in known if table.name == relation.relname), plan.change.target_table.schema_
    )
    return TableName(schema_=schema, name=relation.relname)


_NEW_TABLE_SETTINGS = frozenset(
    {
        *("AT_ChangeOwner", "AT_EnableRowSecurity", "AT_ForceRowSecurity", "AT_ReplicaIdentity", "AT_SetRelOptions"),
        *("AT_ColumnDefault", "AT_AddIdentity", "AT_EnableAlwaysTrig", "AT_EnableReplicaTrig"),
    }
)
_COLUMN_SETTINGS = frozenset({"AT_SetStatistics", "AT_SetStorage", "AT_SetCompression", "AT_SetOptions"})


class _AdditiveChecker:
    """Takes the statements one by one and keeps what they make."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.types: dict[str, str] = {}
        self.columns: list[str] = []
        self.constraints: list[str] = []
        self.relations: dict[str, list[tuple[str, str]]] = {"table": [], "sequence": [], "type": []}

    def check_statement(self, plan_key: str, node: Any, text: str) -> None:
        kind = node.WhichOneof("node")
        statement = getattr(node, kind)
        match kind:
            case "alter_table_stmt" if enum_name(statement, "objtype") == "OBJECT_TABLE":
                self._alter(plan_key, statement, text)
            case "create_stmt":
                self._create_table(plan_key, statement)
            case "create_table_as_stmt" if enum_name(statement, "objtype") == "OBJECT_TABLE":
                self._refuse_special_table(plan_key, statement.into.rel)
            case "create_seq_stmt" if statement.sequence.relpersistence == "p":
                self._refuse_if_not_exists(plan_key, statement)
                self._add("sequence", statement.sequence)
            case "create_enum_stmt" | "create_range_stmt":
                schema, name = ("", *string_values(statement.type_name))[-2:]
                self.relations["type"].append((schema or self.plan.change.target_table.schema_, name))
            case "composite_type_stmt":
                self._add("type", statement.typevar)
            case "index_stmt":
                raise PlanError(
                    f"{plan_key}: an index belongs to change.indexes", "CREATE INDEX CONCURRENTLY goes there"
                )
            case "comment_stmt":
                pass
            case "grant_stmt" if statement.is_grant:
                pass
            case _:
                self._check_table_property(plan_key, kind, statement, text)

    def _check_table_property(self, plan_key: str, kind: str, statement: Any, text: str) -> None:
        """What belongs to a table: statistics of the plan's tables; policies, triggers, publications of new ones."""
        match kind:
            case "create_stats_stmt" if not statement.if_not_exists and statement.defnames:
                self._require_plan_table(plan_key, statement.relations[0].range_var)
            case "create_policy_stmt":
                self._require_new_table(plan_key, statement.table, text)
            case "grant_stmt" if enum_name(statement, "objtype") == "OBJECT_TABLE":  # a REVOKE
                for each in statement.objects:
                    self._require_new_table(plan_key, each.range_var, text)
            case "create_trig_stmt" if not statement.isconstraint and not statement.replace:
                self._require_new_table(plan_key, statement.relation, text)
            case "alter_publication_stmt" if enum_name(statement, "action") == "AP_AddObjects":
                for each in (each.publication_obj_spec for each in statement.pubobjects):
                    if enum_name(each, "pubobjtype") != "PUBLICATIONOBJ_TABLE":
                        raise _not_additive(plan_key, text)
                    self._require_new_table(plan_key, each.pubtable.relation, text)
            case _:
                raise _not_additive(plan_key, text)

    def check_complete(self) -> None:
        target = self.plan.change.target_table
        if self.plan.change.into is not None and (target.schema_, target.name) not in self.relations["table"]:
            raise PlanError(f"change.expand: nothing creates {target}", "add its CREATE TABLE, or leave into out")
        for column in self.plan.change.up:
            if column not in self.types:
                raise PlanError(
                    f"change.up.{column}: change.expand makes no column {column} in {target}",
                    f"add it there; expand makes {', '.join(self.types) or 'no column'}",
                )

    def _is_new(self, table: TableName) -> bool:
        return (table.schema_, table.name) in self.relations["table"]

    def _require_plan_table(self, plan_key: str, relation: Any) -> TableName:
        table = resolve_name(self.plan, relation)
        if table not in (self.plan.change.table, self.plan.change.target_table) and not self._is_new(table):
            raise PlanError(
                f"{plan_key}: {table} is no table of this plan", f"alter {self.plan.change.target_table} only"
            )
        return table

    def _require_new_table(self, plan_key: str, relation: Any, text: str) -> None:
        if not self._is_new(resolve_name(self.plan, relation)):
            raise _not_additive(plan_key, text)

    def _add(self, kind: str, relation: Any) -> TableName:
        name = resolve_name(self.plan, relation)
        self.relations[kind].append((name.schema_, name.name))
        return name

    def _alter(self, plan_key: str, statement: Any, text: str) -> None:
        table = self._require_plan_table(plan_key, statement.relation)
        is_new = self._is_new(table)
        for command in (each.alter_table_cmd for each in statement.cmds):
            definition = getattr(command, "def")
            match enum_name(command, "subtype"):
                case "AT_AddColumn":
                    if command.missing_ok:
                        raise _takes_over(plan_key)
                    self._add_column(plan_key, definition.column_def, table, is_new)
                case "AT_AddConstraint":
                    self._add_constraint(plan_key, definition.constraint, is_new)
                case subtype if subtype in _NEW_TABLE_SETTINGS and is_new:
                    pass
                case subtype if subtype in _COLUMN_SETTINGS and (is_new or command.name in self.columns):
                    pass
                case _:
                    raise _not_additive(plan_key, text)

    def _add_constraint(self, plan_key: str, constraint: Any, on_new_table: bool) -> None:
        if not constraint.conname:
            raise PlanError(f"{plan_key}: the constraint has no name", "write ADD CONSTRAINT name CHECK (…) NOT VALID")
        if on_new_table:
            return
        if not constraint.skip_validation or enum_name(constraint, "contype") not in ("CONSTR_CHECK", "CONSTR_FOREIGN"):
            raise PlanError(
                f"{plan_key}: the constraint would read the whole table under a lock",
                "add NOT VALID to a CHECK or FOREIGN KEY; build uniqueness as an index in `indexes`",
            )
        self.constraints.append(constraint.conname)

    def _add_column(self, plan_key: str, column: Any, table: TableName, on_new_table: bool) -> None:
        if is_serial(column.type_name):
            raise PlanError(
                f"{plan_key}: column {column.colname} has a type that rewrites the table", "use a plain type"
            )
        if not on_new_table:
            self._check_added_column(plan_key, column)
            if table == self.plan.change.table:
                self.columns.append(column.colname)
        if table == self.plan.change.target_table:
            self.types[column.colname] = type_sql(column.type_name)

    def _check_added_column(self, plan_key: str, column: Any) -> None:
        name, constraints = column.colname, _constraints_by_type(column)
        if not constraints.keys() <= {"CONSTR_DEFAULT", "CONSTR_NOTNULL", "CONSTR_NULL"}:
            raise PlanError(
                f"{plan_key}: column {name} has a constraint that needs a long lock or a rewrite",
                "add the column bare; constraints as NOT VALID, uniqueness as an index in `indexes`",
            )
        default, not_null = constraints.get("CONSTR_DEFAULT"), "CONSTR_NOTNULL" in constraints
        if name in self.plan.change.up and (default is not None or not_null):
            raise PlanError(
                f"{plan_key}: column {name} must be nullable and without a default",
                "NULL marks a row that is not written yet; NOT NULL and DEFAULT belong to change.constrain",
            )
        if not_null and default is None:
            raise PlanError(
                f"{plan_key}: column {name} is NOT NULL without a default", "drop NOT NULL or add a DEFAULT"
            )
        if default is not None and any(node_class(node) == "FuncCall" for node in walk(default.raw_expr)):
            raise PlanError(
                f"{plan_key}: the default of {name} calls a function: it could rewrite the table",
                "give a constant as default",
            )

    def _refuse_if_not_exists(self, plan_key: str, statement: Any) -> None:
        if statement.if_not_exists:
            raise _takes_over(plan_key)

    def _refuse_special_table(self, plan_key: str, relation: Any) -> None:
        raise PlanError(
            f"{plan_key}: {resolve_name(self.plan, relation)} must be a plain table with a list of columns",
            "no AS SELECT, TEMPORARY, PARTITION BY, INHERITS or UNLOGGED, no storage options",
        )

    def _create_table(self, plan_key: str, statement: Any) -> None:
        self._refuse_if_not_exists(plan_key, statement)
        fields = {descriptor.name for descriptor, _ in statement.ListFields()}
        if not fields <= {"relation", "table_elts", "oncommit"} or statement.relation.relpersistence != "p":
            self._refuse_special_table(plan_key, statement.relation)
        if self._add("table", statement.relation) != self.plan.change.target_table:
            return
        key = self.plan.change.key
        for column in (element.column_def for element in statement.table_elts if element.HasField("column_def")):
            name, constraints = column.colname, _constraints_by_type(column)
            self.types[name] = type_sql(column.type_name)
            is_filled = is_serial(column.type_name) or constraints.keys() & {
                *("CONSTR_DEFAULT", "CONSTR_IDENTITY", "CONSTR_GENERATED", "CONSTR_PRIMARY")
            }
            if "CONSTR_NOTNULL" in constraints and not is_filled and key and name not in (*self.plan.change.up, *key):
                raise PlanError(
                    f"{plan_key}: column {name} is NOT NULL, and up does not fill it",
                    f"add change.up.{name}, or a DEFAULT",
                )


def _constraints_by_type(column: Any) -> dict[str, Any]:
    return {enum_name(each.constraint, "contype"): each.constraint for each in column.constraints}


def _not_additive(plan_key: str, text: str) -> PlanError:
    return PlanError(f"{plan_key}: {' '.join(text.split())[:40]} is not additive", _ADDITIVE_HINT)


def _takes_over(plan_key: str) -> PlanError:
    return PlanError(f"{plan_key}: IF NOT EXISTS would take over an object that this plan did not make", "leave it out")

"""New columns whose value PostgreSQL would compute for every row while it locks the table: volatile defaults, serial
and identity columns. The column comes empty, new rows get the value by its default, and old rows get it in batches."""

# ruff: noqa: S608  names are quoted by the parser's own rules, expressions are those of the statement

from dataclasses import replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Fill, Operation, OperationOptions, OperationStep, StepMode, relation_sql
from zdd_tui.model.operations.constraints import set_not_null_steps
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import (
    MAX_IDENTIFIER_BYTES,
    deparse,
    enum_name,
    expression_sql,
    is_serial,
    may_be_volatile,
    name_sql,
    parse_sql,
    quote_literal,
    single_command_sql,
    string_values,
)

_INTEGER_OF_SERIAL = {"2": "smallint", "4": "integer", "8": "bigint"}


def is_computed(column: Any) -> bool:
    """Whether a ColumnDef makes PostgreSQL compute a value for every row that exists."""
    parts = {enum_name(each.constraint, "contype"): each.constraint for each in column.constraints}
    default = parts.get("CONSTR_DEFAULT")
    volatile = default is not None and may_be_volatile(default.raw_expr)
    return volatile or "CONSTR_IDENTITY" in parts or is_serial(column.type_name)


def add_computed_column(alter: Any, command: Any, text: str, options: OperationOptions) -> Operation:
    """The operation of ADD COLUMN for such a column; constraints but NOT NULL have been taken from it before.

    Raises:
        PlanError: a name that PostgreSQL would shorten.
    """
    table, column = relation_sql(alter.relation), getattr(command.alter_table_cmd, "def").column_def
    parts = {enum_name(each.constraint, "contype"): each.constraint for each in column.constraints}
    if "CONSTR_IDENTITY" in parts:
        return _identity_column(alter, command, text, options, parts["CONSTR_IDENTITY"])
    if is_serial(column.type_name):
        return _serial_column(alter, command, text, options)
    expression = expression_sql(parts["CONSTR_DEFAULT"].raw_expr)
    column_sql = f"ALTER TABLE {table} ALTER COLUMN {name_sql(column.colname)}"
    statements = (_bare_column_sql(alter, command), f"{column_sql} SET DEFAULT {expression}")
    return _with_fill(
        text, alter.relation, column.colname, expression, statements, options, not_null="CONSTR_NOTNULL" in parts
    )


def _serial_column(alter: Any, command: Any, text: str, options: OperationOptions) -> Operation:
    column = getattr(command.alter_table_cmd, "def").column_def
    type_name = _INTEGER_OF_SERIAL[_serial_size(column)]
    del column.type_name.names[:]
    column.type_name.CopyFrom(_type_node(type_name))
    sequence, table = _sequence_name(alter.relation, column.colname, options), relation_sql(alter.relation)
    statements = (
        f"CREATE SEQUENCE {sequence} AS {type_name}",
        _bare_column_sql(alter, command),
        _set_default_sql(table, column.colname, sequence),
    )
    operation = _with_fill(text, alter.relation, column.colname, _nextval(sequence), statements, options, not_null=True)
    add = replace(operation.steps[0], then_query=_adopt_query(table, column.colname, sequence))
    return replace(operation, steps=(add, *operation.steps[1:]))


def _identity_column(alter: Any, command: Any, text: str, options: OperationOptions, identity: Any) -> Operation:
    """Until contract a sequence of zdd's own gives the numbers; then the identity's own sequence continues them."""
    table, column = relation_sql(alter.relation), getattr(command.alter_table_cmd, "def").column_def
    name, what = column.colname, f"{table}.{name_sql(column.colname)}"
    identity_sql = _identity_sql(identity)
    helper = _sequence_name(alter.relation, name, options, prefix="zdd_")
    create = _create_sequence_sql(helper, column.type_name, identity)
    # An identity column needs no right on its sequence, a default does: older versions must be able to insert.
    grant, set_default = f"GRANT USAGE ON SEQUENCE {helper} TO PUBLIC", _set_default_sql(table, name, helper)
    statements = (create, grant, _bare_column_sql(alter, command), set_default)
    operation = _with_fill(text, alter.relation, name, _nextval(helper), statements, options, not_null=True)
    add = replace(operation.steps[0], undo=(*operation.steps[0].undo, f"DROP SEQUENCE {helper}"))
    column_sql = f"ALTER TABLE {table} ALTER COLUMN {name_sql(name)}"
    current = f"pg_get_serial_sequence({quote_literal(table)}, {quote_literal(name)})"
    switch = OperationStep(
        Phase.CONTRACT,
        f"{what} is an identity column",
        (
            f"{column_sql} DROP DEFAULT",
            f"{column_sql} ADD GENERATED {identity_sql}",
            f"SELECT setval({current}, last_value, is_called) FROM {helper}",
            f"DROP SEQUENCE {helper}",
        ),
        (
            create,
            grant,
            f"SELECT setval({quote_literal(helper)}, nextval({current}), false)",
            f"{column_sql} DROP IDENTITY",
            set_default,
        ),
    )
    at = next(n for n, step in enumerate(operation.steps) if step.phase is Phase.CLEANUP)
    return replace(operation, steps=(add, *operation.steps[1:at], switch, *operation.steps[at:]))


def _with_fill(
    text: str,
    relation: Any,
    column: str,
    expression: str,
    statements: tuple[str, ...],
    options: OperationOptions,
    *,
    not_null: bool,
) -> Operation:
    table = relation_sql(relation)
    what = f"{table}.{name_sql(column)}"
    options.scope.late.add(options.scope.relation_key(relation))
    undo = [f"ALTER TABLE {table} DROP COLUMN {name_sql(column)}"]
    add = OperationStep(Phase.EXPAND, f"add column {what}", statements, tuple(undo))
    fill = OperationStep(
        Phase.BACKFILL,
        f"fill {what}",
        (),
        mode=StepMode.FILL,
        fill=Fill(table, ((column, expression),), f"{name_sql(column)} IS NULL"),
    )
    # Even without a rollout: the constraint waits for the old rows, whose updates it would refuse.
    late = replace(options, has_rollout=True)
    constrain = set_not_null_steps(relation, column, text, late) if not_null else None
    steps = (add, fill, *(constrain.steps if constrain else ()))
    return Operation(text, add.label, steps, constrain.violations if constrain else ())


def _bare_column_sql(alter: Any, command: Any) -> str:
    """The ADD COLUMN without default, identity and NOT NULL."""
    column = getattr(command.alter_table_cmd, "def").column_def
    kept = [
        each
        for each in column.constraints
        if enum_name(each.constraint, "contype") not in ("CONSTR_DEFAULT", "CONSTR_IDENTITY", "CONSTR_NOTNULL")
    ]
    del column.constraints[:]
    column.constraints.extend(kept)
    return single_command_sql(alter, command)


def _serial_size(column: Any) -> str:
    name = string_values(column.type_name.names)[-1]
    return {"smallserial": "2", "serial": "4", "bigserial": "8"}.get(name, name[-1])


def _type_node(type_name: str) -> Any:
    return (
        parse_sql(f"SELECT NULL::{type_name}")
        .stmts[0]
        .stmt.select_stmt.target_list[0]
        .res_target.val.type_cast.type_name
    )


def _sequence_name(relation: Any, column: str, options: OperationOptions, prefix: str = "") -> str:
    """The name that PostgreSQL gives the sequence of a serial or identity column, in the table's schema.

    Raises:
        PlanError: PostgreSQL would shorten it.
    """
    table = options.scope.written_name(relation)
    name = f"{prefix}{table}_{column}_seq"
    if len(name.encode()) > MAX_IDENTIFIER_BYTES:
        raise PlanError(
            f"the sequence of {table}.{column} would have a name of more than {MAX_IDENTIFIER_BYTES} bytes",
            "create the sequence with a shorter name, and add the column with DEFAULT nextval('name')",
        )
    return name_sql(*(part for part in (relation.schemaname, name) if part))


def _nextval(sequence: str) -> str:
    return f"nextval({quote_literal(sequence)}::regclass)"


def _set_default_sql(table: str, column: str, sequence: str) -> str:
    return f"ALTER TABLE {table} ALTER COLUMN {name_sql(column)} SET DEFAULT {_nextval(sequence)}"


def _adopt_query(table: str, column: str, sequence: str) -> str:
    """Statements that give the sequence to the table's owner, as PostgreSQL does, and let everyone use it who may
    insert: an older version of the application inserts rows too."""
    relation, name = quote_literal(table), quote_literal(sequence)
    owned = quote_literal(f"ALTER SEQUENCE {sequence} OWNED BY {table}.{name_sql(column)}")
    return (
        f"SELECT sql FROM ("
        f"SELECT 1 AS n, format('ALTER SEQUENCE %s OWNER TO %I', {name}, pg_get_userbyid(t.relowner)) AS sql"
        f" FROM pg_class t JOIN pg_class s ON s.relowner <> t.relowner"
        f" WHERE t.oid = to_regclass({relation}) AND s.oid = to_regclass({name})"
        f" UNION ALL SELECT 2, {owned}"
        f" UNION ALL SELECT DISTINCT 3, format('GRANT USAGE ON SEQUENCE %s TO %s', {name},"
        f" CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END)"
        f" FROM (SELECT relowner, relacl AS acl FROM pg_class WHERE oid = to_regclass({relation})"
        f" UNION ALL SELECT relowner, attacl FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
        f" WHERE attrelid = to_regclass({relation})) AS rights, aclexplode(acl) AS g"
        f" WHERE g.privilege_type = 'INSERT' AND g.grantee <> relowner"
        f") AS adopt ORDER BY n, sql"
    )


def _identity_sql(identity: Any) -> str:
    """``ALWAYS AS IDENTITY (…)``, as written."""
    tree = parse_sql("CREATE TABLE a (b int GENERATED ALWAYS AS IDENTITY)")
    tree.stmts[0].stmt.create_stmt.table_elts[0].column_def.constraints[0].constraint.CopyFrom(identity)
    return deparse(tree).partition("GENERATED ")[2].removesuffix(")").strip()


def _create_sequence_sql(sequence: str, type_name: Any, identity: Any) -> str:
    """A sequence with the options of an identity column, but for its name."""
    tree = parse_sql(f"CREATE SEQUENCE {sequence} AS int")
    options = tree.stmts[0].stmt.create_seq_stmt.options
    options[0].def_elem.arg.type_name.CopyFrom(type_name)
    options.extend(each for each in identity.options if each.def_elem.defname != "sequence_name")
    return deparse(tree)

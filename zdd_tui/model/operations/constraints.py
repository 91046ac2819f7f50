"""Constraints: added without reading the table under a lock that stops writers, then validated.

A constraint that an older version may violate waits until that version is gone: then its statements cannot fail.
"""

# ruff: noqa: S608  names are quoted by the parser's own rules, expressions are those of the statement

from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    MAX_VIOLATIONS,
    Operation,
    OperationOptions,
    OperationStep,
    Violation,
    relation_sql,
)
from zdd_tui.model.operations.indexes import build_index_step
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import (
    MAX_IDENTIFIER_BYTES,
    deparse,
    enum_name,
    expression_sql,
    name_sql,
    parse_sql,
    quote_literal,
    string_values,
)


def add_table_constraint(
    relation: Any, constraint: Any, text: str, options: OperationOptions, *, column: str = ""
) -> Operation:
    """The operation of ``ADD CONSTRAINT``.

    Args:
        relation: the table.
        column: the column of a constraint that is written behind a column; then the constraint itself names none.

    Raises:
        PlanError: PostgreSQL cannot add it online.
    """
    kind = enum_name(constraint, "contype")
    if column and kind in ("CONSTR_UNIQUE", "CONSTR_PRIMARY"):
        constraint.keys.add().string.sval = column
    elif column and kind == "CONSTR_FOREIGN":
        constraint.fk_attrs.add().string.sval = column
    constraint.conname = constraint.conname or _default_name(relation, constraint, kind, column)
    match kind:
        case "CONSTR_CHECK" | "CONSTR_FOREIGN":
            return _add_not_valid(relation, constraint, text, options, kind)
        case "CONSTR_UNIQUE" | "CONSTR_PRIMARY" if constraint.indexname:
            return _add_using_index(relation, constraint, text, options, ())
        case "CONSTR_UNIQUE" | "CONSTR_PRIMARY":
            return _add_unique(relation, constraint, text, options, kind)
        case "CONSTR_NOTNULL":
            return set_not_null_steps(relation_sql(relation), string_values(constraint.keys)[0], text, options)
    raise PlanError(
        f"{relation_sql(relation)}: PostgreSQL cannot add constraint {constraint.conname} without reading the table"
        " under a lock that stops all writers",
        "add it to a new table and move the rows there: change.into",
    )


def _add_not_valid(relation: Any, constraint: Any, text: str, options: OperationOptions, kind: str) -> Operation:
    table, name = relation_sql(relation), constraint.conname
    what = f"{'CHECK' if kind == 'CONSTR_CHECK' else 'foreign key'} {name_sql(name)} of {table}"
    was_not_valid = constraint.skip_validation
    constraint.skip_validation, constraint.initially_valid = True, False
    add = OperationStep(
        _first_phase(options),
        f"add {what}, not validated",
        (_add_sql(relation, constraint),),
        (f"ALTER TABLE {table} DROP CONSTRAINT {name_sql(name)}",),
    )
    steps = (add,) if was_not_valid else (add, _validate(table, name))
    violations: tuple[Violation, ...] = ()
    if kind == "CONSTR_CHECK" and not was_not_valid:
        condition = expression_sql(constraint.raw_expr)
        columns = tuple(dict.fromkeys(_read_columns(constraint)))
        violations = (_count(f"CHECK {name} of {table}", table, f"NOT ({condition})", columns),)
    return Operation(text, f"add {what}", steps, violations)


def _first_phase(options: OperationOptions) -> Phase:
    return Phase.CONTRACT if options.has_rollout else Phase.EXPAND


def _validate(table: str, name: str) -> OperationStep:
    return OperationStep(
        Phase.CONTRACT,
        f"validate {name_sql(name)} of {table}",
        (f"ALTER TABLE {table} VALIDATE CONSTRAINT {name_sql(name)}",),
    )


def _add_unique(relation: Any, constraint: Any, text: str, options: OperationOptions, kind: str) -> Operation:
    """A unique index is built concurrently and becomes the constraint's.

    The index alone refuses duplicates. So it is built where the constraint may exist: after the older version is gone.
    """
    keys = string_values(constraint.keys)
    tree = parse_sql("CREATE UNIQUE INDEX a ON b (c)")
    index = tree.stmts[0].stmt.index_stmt
    index.relation.CopyFrom(relation)
    del index.index_params[:]
    for key in keys:
        element = index.index_params.add().index_elem
        element.name, element.ordering, element.nulls_ordering = key, 1, 1
    for included in string_values(constraint.including):
        element = index.index_including_params.add().index_elem
        element.name, element.ordering, element.nulls_ordering = included, 1, 1
    index.nulls_not_distinct = constraint.nulls_not_distinct
    build = build_index_step(_first_phase(options), index, constraint.conname)
    table, columns = relation_sql(relation), ", ".join(name_sql(key) for key in keys)
    duplicates = Violation(
        f"{table}: rows with the same {columns}",
        f"SELECT count(*)::int FROM (SELECT FROM {table}"
        f"{'' if constraint.nulls_not_distinct else ' WHERE ' + _none_null(keys)}"
        f" GROUP BY {columns} HAVING count(*) > 1 LIMIT {MAX_VIOLATIONS}) AS violating",
        table,
        tuple(keys),
    )
    constraint.indexname = constraint.conname
    del constraint.keys[:], constraint.including[:]
    constraint.nulls_not_distinct = False
    operation = _add_using_index(relation, constraint, text, options, (build,), duplicates)
    if kind == "CONSTR_PRIMARY":
        nulls = [set_not_null_steps(table, key, text, options) for key in keys]
        steps = (*(step for each in nulls for step in each.steps), *operation.steps)
        violations = (*(each for one in nulls for each in one.violations), *operation.violations)
        return Operation(text, operation.summary, steps, violations)
    return operation


def _none_null(columns: list[str]) -> str:
    return " AND ".join(f"{name_sql(column)} IS NOT NULL" for column in columns)


def _add_using_index(
    relation: Any,
    constraint: Any,
    text: str,
    options: OperationOptions,
    first: tuple[OperationStep, ...],
    *violations: Violation,
) -> Operation:
    table, name = relation_sql(relation), constraint.conname
    word = "primary key" if enum_name(constraint, "contype") == "CONSTR_PRIMARY" else "unique constraint"
    label = f"add {word} {name_sql(name)} of {table}"
    drop = f"ALTER TABLE {table} DROP CONSTRAINT {name_sql(name)}"  # and its index, which the undo of its build expects
    step = OperationStep(Phase.CONTRACT, label, (_add_sql(relation, constraint),), (drop,))
    return Operation(text, label, (*first, step), violations)


def _add_sql(relation: Any, constraint: Any) -> str:
    tree = parse_sql("ALTER TABLE a ADD CONSTRAINT b CHECK (true)")
    alter = tree.stmts[0].stmt.alter_table_stmt
    alter.relation.CopyFrom(relation)
    getattr(alter.cmds[0].alter_table_cmd, "def").constraint.CopyFrom(constraint)
    return deparse(tree)


def set_not_null_steps(table: str, column: str, text: str, options: OperationOptions) -> Operation:
    """NOT NULL through a validated CHECK, which goes with it. PostgreSQL 12 and newer then read no row again."""
    check = name_sql(f"zdd_not_null_{column}".encode()[:MAX_IDENTIFIER_BYTES].decode(errors="ignore"))
    alter, name = f"ALTER TABLE {table}", name_sql(column)
    what = f"{table}.{name}"
    steps = (
        OperationStep(
            _first_phase(options),
            f"{what}: new rows are not NULL",
            (f"{alter} ADD CONSTRAINT {check} CHECK ({name} IS NOT NULL) NOT VALID",),
            (f"{alter} DROP CONSTRAINT IF EXISTS {check}",),
        ),
        OperationStep(Phase.CONTRACT, f"{what}: no row is NULL", (f"{alter} VALIDATE CONSTRAINT {check}",)),
        OperationStep(
            Phase.CONTRACT,
            f"{what} is NOT NULL",
            (f"{alter} ALTER COLUMN {name} SET NOT NULL",),
            undo_query=(
                f"SELECT {quote_literal(f'{alter} ALTER COLUMN {name} DROP NOT NULL')} FROM pg_attribute WHERE attrelid"
                f" = to_regclass({quote_literal(table)}) AND attname = {quote_literal(column)} AND NOT attnotnull"
            ),
        ),
        OperationStep(Phase.CLEANUP, f"{what}: drop the helper constraint", (f"{alter} DROP CONSTRAINT {check}",)),
    )
    return Operation(
        text, f"{what} is NOT NULL", steps, (_count(f"{what} is NULL", table, f"{name} IS NULL", (column,)),)
    )


def _count(what: str, table: str, condition: str, columns: tuple[str, ...]) -> Violation:
    query = f"SELECT count(*)::int FROM (SELECT FROM {table} WHERE {condition} LIMIT {MAX_VIOLATIONS}) AS violating"
    return Violation(what, query, table, columns, condition)


def read_drop_constraint(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """Dropped in expand, because a new version may write what it forbids; the undo adds it from its definition."""
    table, name = relation_sql(alter.relation), command.alter_table_cmd.name
    drop = f"ALTER TABLE {table} DROP CONSTRAINT {name_sql(name)}"
    definition = (
        f"SELECT {quote_literal(f'ALTER TABLE {table} ADD CONSTRAINT {name_sql(name)} ')} || pg_get_constraintdef(oid)"
        f" FROM pg_constraint WHERE conrelid = to_regclass({quote_literal(table)}) AND conname = {quote_literal(name)}"
    )
    label = f"drop constraint {name_sql(name)} of {table}"
    step = OperationStep(Phase.EXPAND, label, (drop,), undo_query=definition)
    return (Operation(text, label, (step,), removes=(f"constraint {name_sql(name)} of {table}",)),)


def _default_name(relation: Any, constraint: Any, kind: str, column: str) -> str:
    """The name that PostgreSQL chooses (ChooseConstraintName, ChooseIndexName)."""
    suffix = {
        "CONSTR_CHECK": "check",
        "CONSTR_FOREIGN": "fkey",
        "CONSTR_UNIQUE": "key",
        "CONSTR_PRIMARY": "pkey",
    }.get(kind, "excl")
    columns = string_values(constraint.keys) or string_values(constraint.fk_attrs) or ([column] if column else [])
    if kind == "CONSTR_CHECK" and not column:
        columns = _checked_columns(constraint)
    if kind == "CONSTR_PRIMARY":
        columns = []
    name = "_".join((relation.relname, *columns, suffix))
    if len(name.encode()) > MAX_IDENTIFIER_BYTES:
        raise PlanError(f"a constraint of {relation_sql(relation)} has no name", "name it: ADD CONSTRAINT name …")
    return name


def _checked_columns(constraint: Any) -> list[str]:
    """The column of a CHECK that reads only one: PostgreSQL names the constraint after it."""
    read = set(_read_columns(constraint))
    return sorted(read) if len(read) == 1 else []


def _read_columns(constraint: Any) -> list[str]:
    """The columns that a CHECK reads, with repetitions."""
    from zdd_tui.model.sql import node_class, walk  # noqa: PLC0415

    references = (node for node in walk(constraint.raw_expr) if node_class(node) == "ColumnRef")
    return [string_values(node.fields)[-1] for node in references]

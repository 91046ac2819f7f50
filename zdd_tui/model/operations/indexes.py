"""Indexes: built and dropped concurrently."""

# ruff: noqa: S608  names are quoted by the parser's own rules, expressions are those of the statement

import itertools
from collections.abc import Callable, Container, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    MAX_VIOLATIONS,
    Operation,
    OperationOptions,
    OperationStep,
    RemovedKind,
    RemovedObject,
    Requirement,
    StepMode,
    Violation,
    relation_sql,
)
from zdd_tui.model.operations.scope import ObjectKey, Scope
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import (
    MAX_IDENTIFIER_BYTES,
    SqlSyntaxError,
    deparse,
    enum_name,
    expression_sql,
    name_sql,
    node_class,
    parse_sql,
    quote_literal,
    string_values,
    walk,
)


def read_create_index(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """In expand, whatever else the migration does: an index refuses no row unless it is unique.

    A unique index that older versions could violate waits as a constraint does, and one that may suit only the new type
    of a column for that.
    """
    scope, key = options.scope, options.scope.relation_key(statement.relation)
    name = statement.idxname or choose_index_name(
        statement, scope.index_names(key.schema), scope.written_name(statement.relation)
    )
    scope.take_index_name(key.schema, name)
    is_old_unique = statement.unique and not is_only_new_columns(scope, key, statement)
    phase = options.last_phase if is_old_unique else Phase.EXPAND
    if _needs_new_type(scope, key, statement):
        phase = Phase.CONTRACT
    if phase is Phase.CONTRACT:
        scope.deferred.add((key, name))
    if phase is Phase.CONTRACT and is_old_unique:
        scope.deferred_keys.add((key, tuple(each.index_elem.name for each in statement.index_params)))
    step = build_index_step(phase, statement, name)
    violations = (count_duplicates(statement),) if is_old_unique and not statement.if_not_exists else ()
    return (Operation(text, step.label, (step,), violations),)


def _needs_new_type(scope: Scope, table: ObjectKey, statement: Any) -> bool:
    """Whether an index may suit only the new type of a column that the migration changes: it is built when the column
    has that. Any other one is built on the old column, and copied."""
    changed = {column for key, column in scope.retyped_columns if key == table}
    is_plain = statement.access_method in ("", "btree")
    for each in (param.index_elem for param in statement.index_params):
        names = {each.name} if each.name else set(_column_names(each.expr))
        if names & changed and not (is_plain and each.name and not each.opclass and not each.collation):
            return True
    return not changed.isdisjoint(_column_names(statement.where_clause))


def _column_names(node: Any) -> list[str]:
    return [string_values(each.fields)[-1] for each in walk(node) if node_class(each) == "ColumnRef" and each.fields]


def is_only_new_columns(scope: Scope, table: ObjectKey, statement: Any) -> bool:
    """Whether an index reads only columns that the migration adds without a default: older versions leave them NULL."""
    names = [each.index_elem.name for each in statement.index_params]
    return not statement.nulls_not_distinct and any((table, name) in scope.new_columns for name in names if name)


def count_duplicates(statement: Any) -> Violation:
    """
    Args:
        statement: a unique IndexStmt.
    """
    table = relation_sql(statement.relation)
    elements = [each.index_elem for each in statement.index_params]
    keys = [name_sql(each.name) if each.name else f"({expression_sql(each.expr)})" for each in elements]
    conditions = [] if statement.nulls_not_distinct else [f"{key} IS NOT NULL" for key in keys]
    if statement.HasField("where_clause"):
        conditions.append(f"({expression_sql(statement.where_clause)})")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    collated = [
        f"{key} COLLATE {name_sql(*string_values(each.collation))}" if each.collation else key
        for key, each in zip(keys, elements, strict=True)
    ]
    # By their names: PostgreSQL groups by no constant.
    names = [f"zdd_{number}" for number, _ in enumerate(collated)]
    values = ", ".join(f"{value} AS {name}" for value, name in zip(collated, names, strict=True))
    return Violation(
        f"{table}: rows with the same {', '.join(keys)}",
        f"SELECT count(*)::int FROM (SELECT FROM (SELECT {values} FROM {table}{where}) AS zdd_keys"
        f" GROUP BY {', '.join(names)} HAVING count(*) > 1 LIMIT {MAX_VIOLATIONS}) AS zdd_violating",
        table,
        tuple(each.name for each in elements if each.name),
    )


def build_index_step(phase: Phase, statement: Any, name: str) -> OperationStep:
    """The step that builds an index concurrently, under a name that is known before.

    Args:
        statement: an IndexStmt.
    """
    tree = parse_sql("CREATE INDEX a ON b (c)")
    index = tree.stmts[0].stmt.index_stmt
    index.CopyFrom(statement)
    index.concurrent, index.idxname, index.if_not_exists = True, name, statement.if_not_exists
    table = relation_sql(statement.relation)
    unique = "unique index" if statement.unique else "index"
    return OperationStep(
        phase,
        f"build {unique} {name} on {table}",
        (deparse(tree),),
        mode=StepMode.BUILD_INDEX,
        index=name,
        table=table,
        is_optional=statement.if_not_exists,
    )


def concurrent_build(definition: str) -> str:
    """The statement that builds an index again from what pg_get_indexdef returns."""
    tree = parse_sql(definition)
    tree.stmts[0].stmt.index_stmt.concurrent = True
    return deparse(tree)


def copied_index(definition: str, columns: Mapping[str, str], name: str, *, is_unique: bool) -> str:
    """The statement that builds an index on other columns of its table.

    Args:
        definition: as pg_get_indexdef returns it.
        columns: new name by old name.
        is_unique: whether the copy may be unique.

    Raises:
        PlanError: the definition cannot be read.
    """
    from zdd_tui.model.ddl.canonical import Renaming  # noqa: PLC0415  imports the SQL parser late

    try:
        tree = parse_sql(definition)
    except SqlSyntaxError as error:
        raise PlanError(
            f"{definition}: {error.reason}", "drop the index before, and create it after the release"
        ) from None
    index = tree.stmts[0].stmt.index_stmt
    own = frozenset({(index.relation.schemaname, index.relation.relname), ("", index.relation.relname)})
    Renaming(dict(columns), own).apply(tree)
    index.idxname, index.concurrent = name, True
    index.unique = index.unique and is_unique
    return deparse(tree)


def choose_index_name(statement: Any, taken: AbstractSet[str] = frozenset(), table: str = "") -> str:
    """The name that PostgreSQL chooses for an index without one: ``users_email_idx`` (ChooseIndexName, indexcmds.c).

    Args:
        taken: names in the schema.
        table: the name after which the index is named; default: that in the statement.
    """
    table = table or statement.relation.relname
    elements = (each.index_elem for each in (*statement.index_params, *statement.index_including_params))
    columns: list[str] = []
    for each in elements:
        base = each.name or _figure_name(each.expr)[0] or "expr"
        columns.append(distinct_name(lambda suffix, base=base: f"{base}{suffix}", columns))  # type: ignore[misc]
    return distinct_name(lambda suffix: make_object_name(table, "_".join(columns), f"idx{suffix}"), taken)


def distinct_name(build: Callable[[str], str], taken: Container[str]) -> str:
    """The first name that is not taken: without a number, then with 1, 2, …"""
    numbers = itertools.count(1)
    name = build("")
    while name in taken:
        name = build(str(next(numbers)))
    return name


def make_object_name(relation: str, columns: str, label: str) -> str:
    """``relation_columns_label``, the longer of the first two shortened to fit (makeObjectName, indexcmds.c)."""
    first, second = relation.encode(), columns.encode()[:MAX_IDENTIFIER_BYTES]
    available = MAX_IDENTIFIER_BYTES - (len(label.encode()) + 1) - bool(columns)
    one, two = len(first), len(second)
    while one + two > available:
        one, two = (one - 1, two) if one > two else (one, two - 1)
    parts = (first[:one].decode(errors="ignore"), second[:two].decode(errors="ignore"))
    return "_".join((parts[0], *([parts[1]] if columns else []), label))


def _figure_name(node: Any) -> tuple[str, int]:
    """The name of an expression's column and how sure it is (FigureColnameInternal, parse_target.c)."""
    kind = node.WhichOneof("node")
    match kind:
        case "column_ref":
            return (string_values(node.column_ref.fields)[-1:] or [""])[0], 2
        case "func_call":
            return string_values(node.func_call.funcname)[-1], 2
        case "collate_clause":
            return _figure_name(node.collate_clause.arg)
        case "type_cast":
            name, strength = _figure_name(node.type_cast.arg)
            return (name, strength) if strength > 1 else (string_values(node.type_cast.type_name.names)[-1], 1)
        case "case_expr":
            name, strength = _figure_name(node.case_expr.defresult)
            return (name, strength) if strength > 1 else ("case", 1)
        case "min_max_expr":
            return enum_name(node.min_max_expr, "op").removeprefix("IS_").lower(), 2
        case "a_expr" if enum_name(node.a_expr, "kind") == "AEXPR_NULLIF":
            return "nullif", 2
    return _EXPRESSION_NAMES.get(kind or "", ""), 2 if kind in _EXPRESSION_NAMES else 0


_EXPRESSION_NAMES = {"a_array_expr": "array", "row_expr": "row", "coalesce_expr": "coalesce"}


def read_drop_index(names: list[str], text: str, options: OperationOptions, *, missing_ok: bool) -> Operation:
    """Dropped in contract; the undo builds it again from its definition. CASCADE is plain: a foreign key that needs the
    index is found before the start."""
    schema, name = ["", *names][-2:]
    index = name_sql(*(part for part in (schema, name) if part))
    options.scope.removed_indexes.append(index)
    step = OperationStep(
        options.last_phase,
        f"drop index {index}",
        (f"DROP INDEX CONCURRENTLY {'IF EXISTS ' if missing_ok else ''}{index}",),
        mode=StepMode.DROP_INDEX,
        index=name,
        schema=schema,
        is_optional=missing_ok,
    )
    removed = RemovedObject(RemovedKind.INDEX, tuple(names), f"index {index}", options.last_phase)
    query = (
        f"SELECT format('drop index %s: foreign key %I of %s would be dropped with it', {quote_literal(index)},"
        f" k.conname, k.conrelid::regclass) FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0"
        f" AND k.conindid = to_regclass({quote_literal(index)}){kept_constraints_sql(options.scope)} ORDER BY 1"
    )
    required = Requirement(query, "drop each of them by name, before it")
    return Operation(text, step.label, (step,), removes=(removed,), requirements=(required,))


def reads_columns_sql(index: str, columns: Iterable[str]) -> str:
    """A condition: an index reads one of the columns, also in an expression or in its WHERE.

    Args:
        index: the alias of a row of pg_index.
    """
    listed = ", ".join(map(quote_literal, columns))
    return (
        f"EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = {index}.indrelid AND NOT a.attisdropped"
        f" AND a.attname IN ({listed}) AND (a.attnum = ANY ({index}.indkey::int2[]) OR EXISTS ("
        f"SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = {index}.indexrelid"
        f" AND d.refobjid = {index}.indrelid AND d.refobjsubid = a.attnum)))"
    )


def kept_constraints_sql(scope: Scope) -> str:
    """A condition over pg_constraint k: the migration has not dropped it by name up to here."""
    dropped = [(name_sql(each.schema, each.name), name) for each, name in sorted(scope.dropped_constraints, key=str)]
    return "".join(
        f" AND (k.conname, k.conrelid) IS DISTINCT FROM ({quote_literal(name)}, to_regclass({quote_literal(table)}))"
        for table, name in dropped
    )

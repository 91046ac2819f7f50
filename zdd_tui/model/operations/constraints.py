"""Constraints: added without reading the table under a lock that blocks writes, then validated.

A constraint that an older version may violate waits until that version is gone: then its statements cannot fail.
"""

# ruff: noqa: S608  names are quoted by the parser's own rules, expressions are those of the statement

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    MAX_VIOLATIONS,
    MissingParents,
    ObjectAddress,
    Operation,
    OperationOptions,
    OperationStep,
    RemovedKind,
    RemovedObject,
    Requirement,
    Violation,
    fit_name,
    relation_names,
    relation_sql,
    shorten,
)
from zdd_tui.model.operations.indexes import build_index_step, count_duplicates, distinct_name, make_object_name
from zdd_tui.model.operations.scope import ObjectKey, Scope
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import (
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
    scope, key = options.scope, options.scope.relation_key(relation)
    is_named = bool(constraint.conname)
    if kind != "CONSTR_NOTNULL":
        constraint.conname = constraint.conname or choose_name(relation, constraint, kind, column, options)
    elif constraint.skip_validation and not is_named:
        constraint.conname = make_object_name(
            scope.written_name(relation), string_values(constraint.keys)[0], "not_null"
        )
    if constraint.conname:
        scope.constraint_names.add((key, constraint.conname))
    phase = _constraint_phase(scope, key, constraint, kind, options)
    if phase is Phase.CONTRACT:
        _note_deferred(scope, key, constraint, kind)
    operation = _read_kind(relation, constraint, text, options, kind, phase)
    if is_named or not constraint.conname:
        return operation
    table = quote_literal(relation_sql(relation))
    problem = "'%s has a constraint %s already, and the new one has no name'"
    taken = Requirement(
        f"SELECT format({problem}, {table}, conname) FROM pg_constraint WHERE conrelid = to_regclass({table})"
        f" AND conname = {quote_literal(constraint.conname)}{_not_of(scope, key)}",
        "name it: ADD CONSTRAINT name …",
    )
    dropped = (key, constraint.conname) in scope.dropped_constraints
    return operation if dropped else replace(operation, requirements=(*operation.requirements, taken))


def _note_deferred(scope: Scope, key: ObjectKey, constraint: Any, kind: str) -> None:
    scope.deferred.add((key, constraint.conname or ""))
    if kind == "CONSTR_FOREIGN":
        scope.late_parents.add(scope.relation_key(constraint.pktable))
    if kind in ("CONSTR_UNIQUE", "CONSTR_PRIMARY"):
        scope.deferred_keys.add((key, () if kind == "CONSTR_PRIMARY" else tuple(string_values(constraint.keys))))
        if kind == "CONSTR_PRIMARY":
            scope.deferred_keys.add((key, tuple(string_values(constraint.keys))))


def _not_of(scope: Scope, table: ObjectKey) -> str:
    """Leaves out what goes in expand, together with a column that the migration drops."""
    dropped = [column for key, column in scope.dropped_columns if key == table]
    if not dropped:
        return ""
    return (
        " AND NOT (contype IN ('c', 'p', 'x') AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = conrelid"
        f" AND attnum = ANY (conkey) AND attname IN ({', '.join(map(quote_literal, sorted(dropped)))})))"
    )


def _constraint_phase(scope: Scope, key: ObjectKey, constraint: Any, kind: str, options: OperationOptions) -> Phase:
    """Where no running version violates it: in expand for a key of a column that older versions leave NULL."""
    columns = string_values(constraint.keys) or string_values(constraint.fk_attrs)
    is_unwritten = any((key, column) in scope.new_columns for column in columns)
    if kind == "CONSTR_FOREIGN" and is_unwritten and constraint.fk_matchtype != "f":
        parent = scope.relation_key(constraint.pktable)
        if (parent, tuple(string_values(constraint.pk_attrs))) not in scope.deferred_keys:
            return Phase.EXPAND
    if kind == "CONSTR_UNIQUE" and is_unwritten and not constraint.nulls_not_distinct:
        return Phase.EXPAND
    return options.last_phase


def _read_kind(
    relation: Any, constraint: Any, text: str, options: OperationOptions, kind: str, phase: Phase
) -> Operation:
    scope_names = options.scope.index_names(options.scope.relation_key(relation).schema)
    match kind:
        case "CONSTR_CHECK" | "CONSTR_FOREIGN":
            return _add_not_valid(relation, constraint, text, kind, phase)
        case "CONSTR_UNIQUE" | "CONSTR_PRIMARY" if constraint.indexname:
            return _add_using_index(relation, constraint, text, phase, (), is_new=constraint.indexname in scope_names)
        case "CONSTR_UNIQUE" | "CONSTR_PRIMARY" if not constraint.without_overlaps:
            return _add_unique(relation, constraint, text, options, kind, phase)
        case "CONSTR_NOTNULL" if constraint.skip_validation:
            what = f"{relation_sql(relation)}.{name_sql(*string_values(constraint.keys))}: new rows are not NULL"
            undo = f"ALTER TABLE {relation_sql(relation)} DROP CONSTRAINT {name_sql(constraint.conname)}"
            return Operation(text, what, (OperationStep(phase, what, (_add_sql(relation, constraint),), (undo,)),))
        case "CONSTR_NOTNULL":
            return set_not_null_steps(relation, string_values(constraint.keys)[0], text, options, constraint)
    raise PlanError(
        f"{relation_sql(relation)}: PostgreSQL cannot add constraint {constraint.conname} without reading the table"
        " under a lock that blocks writes",
        "add it to a new table and move the rows there: change.into",
    )


def _add_not_valid(relation: Any, constraint: Any, text: str, kind: str, phase: Phase) -> Operation:
    table, name = relation_sql(relation), constraint.conname
    what = f"{'CHECK' if kind == 'CONSTR_CHECK' else 'foreign key'} {name_sql(name)} of {table}"
    is_checked = not constraint.skip_validation and constraint.is_enforced
    constraint.skip_validation, constraint.initially_valid = True, False
    add = OperationStep(
        phase,
        f"add {what}, not validated",
        (_add_sql(relation, constraint),),
        (f"ALTER TABLE {table} DROP CONSTRAINT {name_sql(name)}",),
    )
    if not is_checked:
        return Operation(text, f"add {what}", (replace(add, label=f"add {what}"),))
    steps = (add, _validate(table, name, phase))
    violation: Violation | MissingParents
    requirements: tuple[Requirement, ...] = ()
    if kind == "CONSTR_FOREIGN" and constraint.fk_with_period:
        return Operation(text, f"add {what}", steps)
    if kind == "CONSTR_CHECK":
        condition = f"NOT ({expression_sql(constraint.raw_expr)})"
        columns = tuple(dict.fromkeys(_read_columns(constraint)))
        violation = _count(f"CHECK {name} of {table}", table, condition, columns)
    else:
        parent = relation_sql(constraint.pktable)
        violation = MissingParents(
            f"foreign key {name} of {table}: no row of {parent} for",
            table,
            tuple(string_values(constraint.fk_attrs)),
            parent,
            tuple(string_values(constraint.pk_attrs)),
            is_full=constraint.fk_matchtype == "f",
        )
        requirements = (
            _not_partitioned(table, "a foreign key of it cannot be NOT VALID before PostgreSQL 18", 180000),
        )
    return Operation(text, f"add {what}", steps, (violation,), requirements=requirements)


def _not_partitioned(table: str, why: str, until: int = 0) -> Requirement:
    newer = f" AND current_setting('server_version_num')::int < {until}" if until else ""
    return Requirement(
        f"SELECT {quote_literal(f'{table} is partitioned, and {why}')} FROM pg_class"
        f" WHERE oid = to_regclass({quote_literal(table)}) AND relkind = 'p'{newer}",
        "add it to each partition, then to the table with an undo of your own",
    )


def _holds_partition_key(table: str, keys: Iterable[str]) -> Requirement:
    listed = ", ".join(map(quote_literal, keys))
    return Requirement(
        f"SELECT {quote_literal(f'{table} is partitioned by columns that the key does not contain')}"
        f" FROM pg_partitioned_table p WHERE p.partrelid = to_regclass({quote_literal(table)}) AND (p.partexprs IS NOT"
        " NULL OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = p.partrelid"
        f" AND a.attnum = ANY (p.partattrs::int2[]) AND a.attname NOT IN ({listed})))",
        "add the columns of the partition key to it; PostgreSQL cannot enforce it over all partitions",
    )


def orphans_sql(key: MissingParents, parents: tuple[str, ...]) -> str:
    """Counts the rows without a parent, up to the limit.

    Args:
        parents: the columns of the parent.
    """
    pairs = " AND ".join(
        f"parent.{name_sql(theirs)} = child.{name_sql(ours)}" for theirs, ours in zip(parents, key.columns, strict=True)
    )
    given = [f"child.{name_sql(column)} IS NOT NULL" for column in key.columns]
    missing = f"{' AND '.join(given)} AND NOT EXISTS (SELECT FROM {key.parent} AS parent WHERE {pairs})"
    if key.is_full:
        missing = f"({missing}) OR (({' OR '.join(given)}) AND NOT ({' AND '.join(given)}))"
    return (
        f"SELECT count(*)::int FROM (SELECT FROM {key.table} AS child WHERE {missing} LIMIT {MAX_VIOLATIONS})"
        " AS zdd_violating"
    )


def _validate(table: str, name: str, phase: Phase) -> OperationStep:
    return OperationStep(
        phase,
        f"validate {name_sql(name)} of {table}",
        (f"ALTER TABLE {table} VALIDATE CONSTRAINT {name_sql(name)}",),
    )


def _add_unique(
    relation: Any, constraint: Any, text: str, options: OperationOptions, kind: str, phase: Phase
) -> Operation:
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
    index.relation.inh, index.unique = True, True
    options.scope.take_index_name(options.scope.relation_key(relation).schema, constraint.conname)
    word = "PRIMARY KEY" if kind == "CONSTR_PRIMARY" else "UNIQUE"
    build = replace(build_index_step(phase, index, constraint.conname), key=word)
    plain = _add_sql(relation, constraint)
    table, duplicates = relation_sql(relation), count_duplicates(index)
    constraint.indexname = constraint.conname
    del constraint.keys[:], constraint.including[:]
    constraint.nulls_not_distinct = False
    operation = _add_using_index(relation, constraint, text, phase, (build,), duplicates)
    operation = replace(
        operation,
        steps=(build, replace(operation.steps[-1], table=table, on_partitioned=plain)),
        requirements=(_holds_partition_key(table, keys),),
    )
    if kind == "CONSTR_PRIMARY":
        nulls = [set_not_null_steps(relation, key, text, options) for key in keys]
        steps = (*(step for each in nulls for step in each.steps), *operation.steps)
        violations = (*(each for one in nulls for each in one.violations), *operation.violations)
        return replace(operation, steps=steps, violations=violations)
    return operation


def _add_using_index(
    relation: Any,
    constraint: Any,
    text: str,
    phase: Phase,
    first: tuple[OperationStep, ...],
    *violations: Violation,
    is_new: bool = True,
) -> Operation:
    """
    Args:
        is_new: the migration builds the index; otherwise a rollback builds it again.
    """
    table, name = relation_sql(relation), constraint.conname
    word = "primary key" if enum_name(constraint, "contype") == "CONSTR_PRIMARY" else "unique constraint"
    label = f"add {word} {name_sql(name)} of {table}"
    drop = f"ALTER TABLE {table} DROP CONSTRAINT {name_sql(name)}"  # and its index, which the undo of its build expects
    index = constraint.indexname
    names = [each for each in (relation.schemaname, index) if each]
    before = (
        "SELECT 'index', pg_get_indexdef(i.oid), n.nspname::text, i.relname::text FROM pg_class i JOIN pg_namespace n"
        f" ON n.oid = i.relnamespace WHERE i.oid = to_regclass({quote_literal(name_sql(*names))})"
    )
    step = OperationStep(
        phase,
        label,
        (_add_sql(relation, constraint),),
        (drop,),
        undo_query="" if is_new else before,
        renames=(index, name) if index != name else None,
    )
    return Operation(text, label, (*first, step), violations)


def _add_sql(relation: Any, constraint: Any) -> str:
    tree = parse_sql("ALTER TABLE a ADD CONSTRAINT b CHECK (true)")
    alter = tree.stmts[0].stmt.alter_table_stmt
    alter.relation.CopyFrom(relation)
    getattr(alter.cmds[0].alter_table_cmd, "def").constraint.CopyFrom(constraint)
    return deparse(tree)


def set_not_null_steps(
    relation: Any, column: str, text: str, options: OperationOptions, constraint: Any = None
) -> Operation:
    """NOT NULL through a validated CHECK, which goes with it. PostgreSQL 12 and newer then read no row again.

    Args:
        constraint: as it is written; before PostgreSQL 18 its name is lost, as with the plain statement.
    """
    table = relation_sql(relation)
    only = table if relation.inh else f"ONLY {table}"
    check = name_sql(not_null_check(column))
    alter, name = f"ALTER TABLE {only}", name_sql(column)
    what = f"{table}.{name}"
    set_sql = f"{alter} ALTER COLUMN {name} SET NOT NULL"
    given = constraint.conname if constraint is not None else ""
    if constraint is not None and constraint.is_no_inherit:
        named = f"CONSTRAINT {name_sql(given)} " if given else ""
        set_sql = f"{alter} ADD {named}NOT NULL {name} NO INHERIT"
    needed = (
        f"SELECT NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass({quote_literal(table)})"
        f" AND attname = {quote_literal(column)} AND attnotnull)"
    )
    inherit = "" if relation.inh else " NO INHERIT"
    steps = (
        OperationStep(
            options.last_phase,
            f"{what}: new rows are not NULL",
            (f"{alter} ADD CONSTRAINT {check} CHECK ({name} IS NOT NULL){inherit} NOT VALID",),
            (f"{alter} DROP CONSTRAINT IF EXISTS {check}",),
            only_if=needed,
        ),
        OperationStep(
            options.last_phase,
            f"{what}: no row is NULL",
            (f"{alter} VALIDATE CONSTRAINT {check}",),
            only_if=needed,
        ),
        OperationStep(
            options.last_phase,
            f"{what} is NOT NULL",
            (set_sql,),
            undo_query=f"SELECT {quote_literal(f'{alter} ALTER COLUMN {name} DROP NOT NULL')}"
            f" UNION ALL SELECT * FROM ({_drop_of_partitions(table, column)}) AS parts",
            then_query=_name_not_null(relation, column, options.scope, given),
            only_if=needed,
        ),
        OperationStep(
            Phase.CLEANUP,
            f"{what}: drop the helper constraint",
            (f"{alter} DROP CONSTRAINT IF EXISTS {check}",),
        ),
    )
    return Operation(
        text, f"{what} is NOT NULL", steps, (_count(f"{what} is NULL", table, f"{name} IS NULL", (column,)),)
    )


def _name_not_null(relation: Any, column: str, scope: Scope, given: str) -> str:
    """From PostgreSQL 18 on NOT NULL has a name: the given one, or that of the plain statement on a renamed table.

    Empty where it has that by itself.
    """
    written, table = scope.written_name(relation), relation_sql(relation)
    if not given and written == relation.relname:
        return ""
    name = f"{quote_literal(given or make_object_name(written, column, 'not_null'))}::name"
    return (
        f"SELECT format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', {quote_literal(table)}, c.conname, {name})"
        " FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]"
        f" WHERE c.conrelid = to_regclass({quote_literal(table)}) AND c.contype = 'n'"
        f" AND a.attname = {quote_literal(column)} AND c.conname <> {name}"
    )


def not_null_check(column: str) -> str:
    """The name of the CHECK that stands for NOT NULL while rows are read."""
    return fit_name("zdd_not_null_", column)


def _drop_of_partitions(table: str, column: str) -> str:
    """A primary key that a partition gets by itself leaves its columns NOT NULL when it goes: those are reset, too."""
    return (
        "SELECT format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', t.relid, a.attname)"
        f" FROM pg_partition_tree(to_regclass({quote_literal(table)})) t JOIN pg_attribute a ON a.attrelid = t.relid"
        f" WHERE t.level > 0 AND a.attname = {quote_literal(column)} AND NOT a.attnotnull ORDER BY t.level"
    )


def _count(what: str, table: str, condition: str, columns: tuple[str, ...]) -> Violation:
    query = f"SELECT count(*)::int FROM (SELECT FROM {table} WHERE {condition} LIMIT {MAX_VIOLATIONS}) AS zdd_violating"
    return Violation(what, query, table, columns, condition)


def read_drop_constraint(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """Dropped in expand, because a new version may write what it forbids; the undo adds it from its definition.

    What belongs to it, an index of a key with its settings among it, comes back with the definition; a NOT NULL by
    way of PostgreSQL 18's constraint, too.
    """
    table, given = relation_sql(alter.relation), command.alter_table_cmd
    name, is_optional = given.name, given.missing_ok
    key = options.scope.relation_key(alter.relation)
    options.scope.dropped_constraints.add((key, name))
    only = "" if alter.relation.inh else "ONLY "
    drop = f"ALTER TABLE {only}{table} DROP CONSTRAINT {'IF EXISTS ' if is_optional else ''}{name_sql(name)}"
    definition = restore_constraints_query(table, f"c.conname = {quote_literal(name)}", only)
    label = f"drop constraint {name_sql(name)} of {table}"
    phase = options.last_phase if options.scope.is_deferred(name, key) else Phase.EXPAND
    step = OperationStep(phase, label, (drop,), undo_query=definition, may_break=True)
    address = ObjectAddress("table constraint", (*relation_names(alter.relation), name))
    what = f"constraint {name_sql(name)} of {table}"
    removed = RemovedObject(RemovedKind.CONSTRAINT, address.names, what, phase)
    return (Operation(text, label, (step,), removes=(removed,), drops=(address,)),)


def restore_constraints_query(table: str, condition: str, only: str = "") -> str:
    """For ``undo_query``: adds constraints of a table again, without reading rows under a lock that blocks writes.

    Args:
        table: as SQL.
        condition: over pg_constraint c.
    """
    literal = quote_literal(table)
    where = f"WHERE c.conrelid = to_regclass({literal}) AND {condition}"
    return f"""
WITH RECURSIVE part (oid, relid, is_part) AS (
  SELECT c.oid, c.conrelid, false FROM pg_constraint c {where} AND c.contype IN ('p', 'u') AND NOT c.conperiod_
  UNION ALL SELECT c.oid, c.conrelid, true FROM part JOIN pg_constraint c ON c.conparentid = part.oid
),
-- the keys that have rows: of a partitioned table those of its partitions
key AS (
  SELECT c.*, part.is_part, i.relname AS index, n.nspname AS index_schema FROM part JOIN pg_constraint c USING (oid)
  JOIN pg_class r ON r.oid = c.conrelid AND r.relkind = 'r'
  JOIN pg_class i ON i.oid = c.conindid JOIN pg_namespace n ON n.oid = i.relnamespace
)
SELECT 'index', pg_get_indexdef(c.conindid), c.index_schema::text, c.index::text FROM key c
UNION ALL
SELECT 'constraint', format('ALTER TABLE %s ADD CONSTRAINT %I %s USING INDEX %I', c.conrelid::regclass, c.conname,
  CASE c.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, c.index), c.conrelid::regclass::text, c.conname::text
FROM key c WHERE c.is_part
UNION ALL
SELECT 'constraint',
 format('ALTER TABLE {only}%s ADD CONSTRAINT %I %s', {literal}, c.conname,
  CASE WHEN c.contype IN ('p', 'u') AND NOT c.conperiod_ AND r.relkind <> 'p' THEN
   format('%s USING INDEX %I%s%s', CASE c.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, i.relname,
    CASE WHEN c.condeferrable THEN ' DEFERRABLE' ELSE '' END,
    CASE WHEN c.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END)
  WHEN c.contype IN ('c', 'f') AND c.convalidated AND r.relkind <> 'p' THEN pg_get_constraintdef(c.oid) || ' NOT VALID'
  ELSE pg_get_constraintdef(c.oid) END),
 {literal}, c.conname::text
FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid LEFT JOIN pg_class i ON i.oid = c.conindid {where}
UNION ALL
SELECT 'validate', format('ALTER TABLE %s VALIDATE CONSTRAINT %I', {literal}, c.conname), '', ''
FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid
{where} AND c.contype IN ('c', 'f') AND c.convalidated AND r.relkind <> 'p'
UNION ALL
SELECT 'sql', format('COMMENT ON CONSTRAINT %I ON %s IS %L', c.conname, {literal}, d.description), '', ''
FROM pg_constraint c JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_constraint'::regclass {where}
UNION ALL
SELECT 'sql', format('ALTER TABLE %s CLUSTER ON %I', {literal}, c.conname), '', ''
FROM pg_constraint c JOIN pg_index x ON x.indexrelid = c.conindid
{where} AND x.indisclustered AND c.contype IN ('p', 'u', 'x')
UNION ALL
SELECT 'sql', format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', {literal}, c.conname), '', ''
FROM pg_constraint c JOIN pg_index x ON x.indexrelid = c.conindid
{where} AND x.indisreplident AND c.contype IN ('p', 'u', 'x')
""".replace("c.conperiod_", "(to_jsonb(c) ->> 'conperiod' IS NOT DISTINCT FROM 'true')")


def read_validate(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """A constraint that new rows satisfy already. Validated it stays: its rows have been read."""
    name, table = command.alter_table_cmd.name, relation_sql(alter.relation)
    is_late = options.scope.is_deferred(name, options.scope.relation_key(alter.relation))
    phase = options.last_phase if is_late else Phase.EXPAND
    label = f"validate {name_sql(name)} of {table}, which stays so after a rollback"
    return (Operation(text, label, (OperationStep(phase, label, (text,)),)),)


def read_alter_constraint(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """DEFERRABLE and INITIALLY DEFERRED of a foreign key: only the catalog changes.

    Raises:
        PlanError: the rows would have to be read.
    """
    given = getattr(command.alter_table_cmd, "def").atalter_constraint
    table = relation_sql(alter.relation)
    if not given.alter_deferrability:
        raise PlanError(
            f"{shorten(text)}: PostgreSQL reads the rows under a lock that blocks writes",
            "drop the constraint and add it as it should be, or give the operation undo:",
        )
    begin = f"ALTER TABLE {table} ALTER CONSTRAINT {name_sql(given.conname)} "
    before = (
        f"SELECT {quote_literal(begin)} || CASE WHEN condeferrable THEN 'DEFERRABLE' ELSE 'NOT DEFERRABLE' END"
        " || CASE WHEN condeferred THEN ' INITIALLY DEFERRED' ELSE ' INITIALLY IMMEDIATE' END FROM pg_constraint"
        f" WHERE conrelid = to_regclass({quote_literal(table)}) AND conname = {quote_literal(given.conname)}"
    )
    is_late = options.scope.is_deferred(given.conname, options.scope.relation_key(alter.relation))
    phase = options.last_phase if is_late else Phase.EXPAND
    label = shorten(text)
    return (Operation(text, label, (OperationStep(phase, label, (text,), undo_query=before),)),)


def choose_name(relation: Any, constraint: Any, kind: str, column: str, options: OperationOptions) -> str:
    """The name that PostgreSQL chooses (ChooseConstraintName, ChooseIndexName), with the migration's own in mind."""
    label = {
        "CONSTR_CHECK": "check",
        "CONSTR_FOREIGN": "fkey",
        "CONSTR_UNIQUE": "key",
        "CONSTR_PRIMARY": "pkey",
    }.get(kind, "excl")
    columns = string_values(constraint.keys) or string_values(constraint.fk_attrs) or ([column] if column else [])
    if kind in ("CONSTR_UNIQUE", "CONSTR_PRIMARY") and not columns:
        raise PlanError(f"{relation_sql(relation)}: a constraint from an index has no name", "name it")
    if kind == "CONSTR_UNIQUE":
        columns += string_values(constraint.including)
    if kind == "CONSTR_CHECK" and not column:
        columns = _checked_columns(constraint)
    if kind == "CONSTR_PRIMARY":
        columns = []
    scope = options.scope
    key = scope.relation_key(relation)
    taken = {name for table, name in scope.constraint_names if table == key} | scope.index_names(key.schema)
    table = scope.written_name(relation)
    return distinct_name(lambda suffix: make_object_name(table, "_".join(columns), f"{label}{suffix}"), taken)


def _checked_columns(constraint: Any) -> list[str]:
    """The column of a CHECK that reads only one: PostgreSQL names the constraint after it."""
    read = set(_read_columns(constraint))
    return sorted(read) if len(read) == 1 else []


def _read_columns(constraint: Any) -> list[str]:
    """The columns that a CHECK reads, with repetitions."""
    references = (node for node in walk(constraint.raw_expr) if node_class(node) == "ColumnRef")
    return [string_values(node.fields)[-1] for node in references]

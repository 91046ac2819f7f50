"""Columns: added beside what running code knows, and removed after nothing uses them."""

# ruff: noqa: S608  names are quoted by the parser's own rules, expressions are those of the statement

from dataclasses import replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    MAX_VIOLATIONS,
    NotNullRestore,
    ObjectAddress,
    Operation,
    OperationOptions,
    OperationStep,
    RemovedKind,
    RemovedObject,
    Requirement,
    Violation,
    column_exists,
    default_topic,
    old_object_name,
    relation_names,
    relation_sql,
)
from zdd_tui.model.operations.computed_columns import add_computed_column, is_computed
from zdd_tui.model.operations.constraints import add_table_constraint, restore_constraints_query, set_not_null_steps
from zdd_tui.model.operations.generated import NEW_PREFIX, prefixed_column
from zdd_tui.model.operations.indexes import make_object_name
from zdd_tui.model.operations.scope import part_key
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import (
    dollar_quoted,
    enum_name,
    name_sql,
    quote_literal,
    single_command_sql,
)

_SEPARATE = {"CONSTR_UNIQUE", "CONSTR_PRIMARY", "CONSTR_CHECK", "CONSTR_FOREIGN"}
"""Constraints of a new column that would read the table, or lock another one, while it is locked."""


def read_add_column(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """A column that only the catalog changes for, or that is filled in batches; its constraints become operations of
    their own.

    Raises:
        PlanError: the column cannot be added online.
    """
    table, column = relation_sql(alter.relation), getattr(command.alter_table_cmd, "def").column_def
    what = f"{table}.{name_sql(column.colname)}"
    parts = {enum_name(each.constraint, "contype"): each.constraint for each in column.constraints}
    default = parts.get("CONSTR_DEFAULT")
    if "CONSTR_GENERATED" in parts and parts["CONSTR_GENERATED"].generated_kind != "v":
        raise PlanError(
            f"{what}: a stored generated column rewrites the table under a lock, and PostgreSQL knows no other way",
            "make it VIRTUAL (PostgreSQL 18: it is computed when it is read), or add a plain column, a trigger that"
            " keeps it, and an UPDATE of the old rows, which runs in batches",
        )
    is_required = (
        "CONSTR_NOTNULL" in parts and default is None and not is_computed(column) and "CONSTR_GENERATED" not in parts
    )
    kept = [
        each
        for each in column.constraints
        if (kind := enum_name(each.constraint, "contype")) not in _SEPARATE
        and not kind.startswith("CONSTR_ATTR_")
        and not (is_required and kind == "CONSTR_NOTNULL")
    ]
    scope, key = options.scope, options.scope.relation_key(alter.relation)
    is_replaced = options.has_rollout and (key, column.colname) in scope.dropped_columns
    for each in (node.constraint for node in kept if is_replaced):
        if enum_name(each, "contype") == "CONSTR_NOTNULL" and not each.conname:
            # PostgreSQL 18 keeps the name; before, it has no meaning.
            each.conname = make_object_name(scope.written_name(alter.relation), column.colname, "not_null")
    separate = _with_attributes(column.constraints)
    del column.constraints[:]
    column.constraints.extend(kept)
    if (key, column.colname) in scope.renamed_columns:
        raise PlanError(
            f"{what}: the migration renames the column and adds it again, and running code uses both",
            "rename it in this release and add the new column in the next one, when no running code takes it for"
            " the old one; or add it under another name",
        )
    if is_replaced and (is_computed(column) or "CONSTR_GENERATED" in parts):
        raise PlanError(
            f"{what}: the migration drops the column and adds it again with values that are computed for each row, and"
            " until contract its name is that of the old one",
            "add it under another name, or with a default that is the same for all rows",
        )
    is_optional = command.alter_table_cmd.missing_ok and not is_replaced
    if not is_optional and not is_replaced:
        scope.added_columns.add((key, column.colname))
    if is_computed(column):
        others = [add_table_constraint(alter.relation, each, text, options, column=column.colname) for each in separate]
        found = [add_computed_column(alter, command, text, options), *others]
        return tuple(_require_absent(table, column.colname, found) if is_optional else found)
    drop = f"ALTER TABLE {table} DROP COLUMN {name_sql(column.colname)}"
    if (
        default is None
        and not {"CONSTR_GENERATED", "CONSTR_IDENTITY"} & parts.keys()
        and not (is_optional or is_replaced)
    ):
        scope.new_columns.add((key, column.colname))
    only_if = f"SELECT NOT ({column_exists(table, column.colname)})" if is_optional else ""
    step = OperationStep(
        Phase.EXPAND, f"add column {what}", (single_command_sql(alter, command),), undo=(drop,), only_if=only_if
    )
    added = Operation(
        text, step.label, (step,), creates=part_key("column", key, column.colname) if is_replaced else None
    )
    others = [add_table_constraint(alter.relation, each, text, options, column=column.colname) for each in separate]
    if is_required:
        beside = prefixed_column(NEW_PREFIX, table, column.colname) if is_replaced else column.colname
        required = _require_value(alter.relation, column.colname, parts["CONSTR_NOTNULL"], text, options, beside)
        others.insert(0, required)
    return (added, *(_require_absent(table, column.colname, others) if is_optional else others))


def _require_absent(table: str, column: str, operations: list[Operation]) -> list[Operation]:
    """Of IF NOT EXISTS: in later phases the column exists in any case, and what counts is whether the migration has
    added it."""
    what = f"{table}.{name_sql(column)} exists"
    absent = f"SELECT {quote_literal(what)} WHERE ({column_exists(table, column)})"
    hint = "leave it out of the migration, or leave out IF NOT EXISTS of a column with constraints or computed values"
    required = (Requirement(absent, hint),)
    return [replace(each, requirements=(*each.requirements, *required)) for each in operations]


def _require_value(
    relation: Any, column: str, constraint: Any, text: str, options: OperationOptions, name: str
) -> Operation:
    """NOT NULL of a new column without a default, in contract: older versions insert rows without it.

    As by the plain statement the table must be empty; or ``repair:`` gives its rows a value.

    Args:
        name: of the column until then.
    """
    operation = set_not_null_steps(relation, column, text, options, constraint)
    table, violation = relation_sql(relation), operation.violations[0]
    assert isinstance(violation, Violation)
    # Before expand there is no such column.
    query = (
        f"SELECT count(*)::int FROM (SELECT FROM {table} AS zdd_row"
        f" WHERE to_jsonb(zdd_row) ->> {quote_literal(name)} IS NULL LIMIT {MAX_VIOLATIONS}) AS violating"
    )
    repair = f"; repair: {name_sql(column)} of the operation gives rows a value" if name == column else ""
    what = f"{violation.what}, and it has no default{repair}"
    return replace(operation, violations=(replace(violation, what=what, query=query),))


def _with_attributes(constraints: Any) -> list[Any]:
    """The constraints that become operations of their own, with the DEFERRABLE that is written behind them."""
    found: list[Any] = []
    for each in (node.constraint for node in constraints):
        match enum_name(each, "contype"):
            case kind if kind in _SEPARATE:
                found.append(each)
            case "CONSTR_ATTR_DEFERRABLE" if found:
                found[-1].deferrable = True
            case "CONSTR_ATTR_DEFERRED" if found:
                found[-1].deferrable = found[-1].initdeferred = True
            case "CONSTR_ATTR_NOT_ENFORCED" if found:
                found[-1].is_enforced, found[-1].skip_validation, found[-1].initially_valid = False, True, False
    return found


def read_drop_column(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """A column that is renamed in contract, and dropped in cleanup.

    A version that does not know the column any more must be able to insert rows while it exists: NOT NULL goes first,
    and comes back with a rollback. CASCADE is plain: what depends on the column is found before the start.
    """
    given = command.alter_table_cmd
    table, column, is_optional = relation_sql(alter.relation), name_sql(given.name), given.missing_ok
    scope, key = options.scope, options.scope.relation_key(alter.relation)
    scope.dropped_columns.add((key, given.name))
    archived, what = name_sql(old_object_name(given.name)), f"{table}.{column}"
    only_if = column_exists(table, given.name) if is_optional else ""
    relax = OperationStep(
        Phase.EXPAND,
        f"{what} may be NULL",
        (f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL",),
        only_if=f"SELECT {_is_relaxable(table, given.name)}",
        not_null=NotNullRestore(table, given.name, options.down_of(given.name)),
    )
    loosen = OperationStep(
        Phase.EXPAND,
        f"drop the constraints that go with {what} and refuse rows without it",
        (_drop_constraints_sql(table, given.name),),
        undo_query=restore_constraints_query(table, _refuses_null(table, given.name)),
        only_if="SELECT EXISTS (SELECT FROM pg_constraint c WHERE"
        f" c.conrelid = to_regclass({quote_literal(table)}) AND {_refuses_null(table, given.name)})",
        are_locks_known=True,
    )
    steps = [
        loosen,
        relax,
        OperationStep(
            options.last_phase,
            f"archive column {what}",
            (f"ALTER TABLE {table} RENAME COLUMN {column} TO {archived}",),
            (f"ALTER TABLE {table} RENAME COLUMN {archived} TO {column}",),
            only_if=only_if,
        ),
        OperationStep(
            Phase.CLEANUP,
            f"drop column {what}",
            (f"ALTER TABLE {table} DROP COLUMN {'IF EXISTS ' if is_optional else ''}{archived}",),
        ),
    ]
    dropped = ObjectAddress("table column", (*relation_names(alter.relation), given.name))
    removed = RemovedObject(RemovedKind.COLUMN, dropped.names, f"column {what}", options.last_phase)
    archives = part_key("column", key, given.name)
    label = f"drop column {what}"
    return (
        Operation(
            text, label, tuple(steps), removes=(removed,), drops=(dropped,), archives=archives, object_type="COLUMN"
        ),
    )


def _refuses_null(table: str, column: str) -> str:
    """Over pg_constraint c: whether it reads the column and may refuse a row that has no value in it."""
    return (
        f"(SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = to_regclass({quote_literal(table)}) AND"
        f" a.attname = {quote_literal(column)}) = ANY(c.conkey) AND (c.contype IN ('c', 'p', 'x') OR c.contype = 'u'"
        " AND EXISTS (SELECT FROM pg_index x WHERE x.indexrelid = c.conindid"
        " AND to_jsonb(x) ->> 'indnullsnotdistinct' = 'true'))"
    )


def _drop_constraints_sql(table: str, column: str) -> str:
    body = (
        "DECLARE name text; BEGIN FOR name IN SELECT c.conname FROM pg_constraint c WHERE c.conrelid ="
        f" to_regclass({quote_literal(table)}) AND {_refuses_null(table, column)}"
        f" LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', {quote_literal(table)}, name); END LOOP; END"
    )
    return f"DO {dollar_quoted(body)}"


def _is_relaxable(table: str, column: str) -> str:
    """NOT NULL of a primary key goes only with the key, and that of an identity only with the identity."""
    return (
        f"EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass({quote_literal(table)})"
        f" AND a.attname = {quote_literal(column)} AND a.attnotnull AND a.attidentity = '' AND NOT EXISTS"
        " (SELECT FROM pg_index x WHERE x.indrelid = a.attrelid AND x.indisprimary AND a.attnum = ANY(x.indkey)))"
    )


def fill_nulls_sql(table: str, column: str, expression: str) -> str:
    """Fills a batch of the rows that have no value.

    Args:
        expression: over the row.
    """
    name = name_sql(column)
    return (
        f"UPDATE {table} SET {name} = ({expression}) WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table}"
        f" WHERE {name} IS NULL LIMIT {FILL_BATCH}))"
    )


FILL_BATCH = 5000
"""Rows that a rollback fills in one transaction."""


def read_drop_not_null(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """In expand: a new version may write NULL."""
    table, column = relation_sql(alter.relation), command.alter_table_cmd.name
    label = f"{table}.{name_sql(column)} may be NULL"
    restore = NotNullRestore(table, column, options.down_of(column))
    step = OperationStep(Phase.EXPAND, label, (single_command_sql(alter, command),), not_null=restore)
    return (Operation(text, label, (step,)),)


def read_set_not_null(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """NOT NULL through a validated CHECK: the table is read under a lock that lets writers continue."""
    return (set_not_null_steps(alter.relation, command.alter_table_cmd.name, text, options),)


def read_column_default(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """A default is set in expand and dropped in contract, where no running version relies on it."""
    table, column = relation_sql(alter.relation), command.alter_table_cmd.name
    is_set = getattr(command.alter_table_cmd, "def").WhichOneof("node") is not None
    alter_column = f"ALTER TABLE {table} ALTER COLUMN {name_sql(column)}"
    before = (
        f"SELECT coalesce({quote_literal(alter_column + ' SET DEFAULT ')} || (SELECT pg_get_expr(adbin, adrelid)"
        f" FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum"
        f" WHERE adrelid = to_regclass({quote_literal(table)}) AND attname = {quote_literal(column)}),"
        f" {quote_literal(alter_column + ' DROP DEFAULT')})"
    )
    phase = Phase.EXPAND if is_set else options.last_phase
    label = f"{'set' if is_set else 'drop'} the default of {table}.{name_sql(column)}"
    step = OperationStep(phase, label, (single_command_sql(alter, command),), undo_query=before)
    names = (*relation_names(alter.relation), column)
    what = f"default of {table}.{name_sql(column)}"
    removed = () if is_set else (RemovedObject(RemovedKind.DEFAULT, names, what, phase),)
    drops = () if is_set else (ObjectAddress("default value", names),)
    if not is_set:
        options.scope.dropped_defaults.add((options.scope.relation_key(alter.relation), column))
    return (Operation(text, label, (step,), removes=removed, drops=drops, topic=default_topic(table, column)),)

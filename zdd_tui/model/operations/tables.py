"""Tables: created beside what running code knows, and everything that is done to them before it knows them."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    Operation,
    OperationOptions,
    OperationStep,
    Requirement,
    fit_name,
    relation_sql,
    shorten,
)
from zdd_tui.model.operations.constraints import add_table_constraint, choose_name
from zdd_tui.model.operations.generated import block
from zdd_tui.model.operations.objects import create_object, refuse_temporary, relation_address
from zdd_tui.model.operations.scope import Scope
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import deparse, enum_name, name_sql, parse_sql, quote_literal, string_values


def read_create_table(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """A table that no running code knows. Foreign keys lock the tables they point at for a moment."""
    relation, is_optional = statement.relation, statement.if_not_exists
    if relation.relpersistence == "t":
        raise refuse_temporary(text)
    if statement.HasField("partbound"):
        return _create_partition(statement, text, options)
    late = _take_late_keys(statement, options.scope)
    if late:
        tree = parse_sql(text)
        tree.stmts[0].stmt.create_stmt.CopyFrom(statement)
        text = deparse(tree)
    options.scope.create(options.scope.relation_key(relation), is_optional=is_optional)
    exists = relation_address("table", relation) if is_optional else None
    created = create_object("TABLE", relation_sql(relation), text, exists=exists)
    return (
        *created,
        *(add_table_constraint(relation, key, text, options, column=column) for key, column in late),
    )


def _take_late_keys(statement: Any, scope: Scope) -> list[tuple[Any, str]]:
    """Removes the foreign keys to a key that an earlier statement adds in contract; each with its column."""
    late: list[tuple[Any, str]] = []
    for element in list(statement.table_elts):
        if element.HasField("constraint") and points_to_late_key(element.constraint, scope):
            late.append((_copied(element.constraint), ""))
            statement.table_elts.remove(element)
        elif element.HasField("column_def"):
            for each in list(element.column_def.constraints):
                if points_to_late_key(each.constraint, scope):
                    late.append((_copied(each.constraint), element.column_def.colname))
                    element.column_def.constraints.remove(each)
    return late


def points_to_late_key(constraint: Any, scope: Scope) -> bool:
    """Whether a constraint is a foreign key to a key that comes in contract."""
    if enum_name(constraint, "contype") != "CONSTR_FOREIGN":
        return False
    columns = tuple(string_values(constraint.pk_attrs))
    return (scope.relation_key(constraint.pktable), columns) in scope.deferred_keys


def _copied(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _create_partition(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """A new partition. A rollback keeps it where it holds rows: older versions may have written them."""
    relation, parent = statement.relation, statement.inh_relations[0].range_var
    scope = options.scope
    key = scope.relation_key(relation)
    is_optional = statement.if_not_exists
    exists = relation_address("table", relation) if is_optional else None
    scope.create(key, is_optional=is_optional)
    if scope.is_new(scope.relation_key(parent)):
        return create_object("TABLE", relation_sql(relation), text, exists=exists)
    name, parent_name = relation_sql(relation), relation_sql(parent)
    scope.created.pop(key)  # rows of running code get into it at once
    body = (
        f"BEGIN IF to_regclass({quote_literal(name)}) IS NOT NULL AND NOT EXISTS (SELECT FROM {name})"
        f" THEN DROP TABLE {name}; END IF; END"
    )
    requirement = Requirement(
        f"SELECT format('%s has the default partition %s, and PostgreSQL would read it under a lock',"
        f" {quote_literal(parent_name)}, partdefid::regclass) FROM pg_partitioned_table"
        f" WHERE partrelid = to_regclass({quote_literal(parent_name)}) AND partdefid <> 0"
        " AND pg_relation_size(partdefid) > 0",
        "where it holds no rows, TRUNCATE it; else detach it before, in a release of its own",
    )
    label = f"create table {name}, a partition of {parent_name}, which stays after a rollback if it holds rows"
    step = OperationStep(Phase.EXPAND, label, (text,), (f"DO $zdd$ {body} $zdd$",), created=exists)
    return (Operation(text, label, (step,), requirements=(requirement,)),)


# --- commands of ALTER TABLE that concern the whole table


def _command(alter: Any, command: Any) -> tuple[str, Any]:
    return relation_sql(alter.relation), command.alter_table_cmd


def _read_cluster_on(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """The mark for a later CLUSTER."""
    table, given = _command(alter, command)
    literal = quote_literal(table)
    before = (
        f"SELECT 'ALTER TABLE ' || {literal} || coalesce((SELECT format(' CLUSTER ON %I', i.relname) FROM pg_index x"
        f" JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = to_regclass({literal}) AND x.indisclustered),"
        " ' SET WITHOUT CLUSTER')"
    )
    is_late = options.scope.is_deferred(given.name, options.scope.relation_key(alter.relation))
    phase = options.last_phase if is_late else Phase.EXPAND
    return (Operation(text, shorten(text), (OperationStep(phase, shorten(text), (text,), undo_query=before),)),)


def _read_column_options(alter: Any, command: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    """``ALTER COLUMN a SET (n_distinct = 5)``."""
    table, given = _command(alter, command)
    names = [each.def_elem.defname for each in getattr(given, "def").list.items]
    begin = f"ALTER TABLE {table} ALTER COLUMN {name_sql(given.name)}"
    listed = ", ".join(quote_literal(name) for name in names)
    before = (
        f"SELECT {quote_literal(begin + ' RESET (' + ', '.join(names) + ')')}"
        f" UNION ALL SELECT {quote_literal(begin)} || format(' SET (%s = %L)', option_name, option_value)"
        f" FROM pg_attribute, pg_options_to_table(attoptions) WHERE attrelid = to_regclass({quote_literal(table)})"
        f" AND attname = {quote_literal(given.name)} AND option_name IN ({listed})"
    )
    step = OperationStep(Phase.EXPAND, shorten(text), (text,), undo_query=before)
    return (Operation(text, step.label, (step,)),)


def _read_inherit(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """INHERIT shows the rows in the parent; NO INHERIT takes them away, in contract."""
    table, given = _command(alter, command)
    parent = relation_sql(getattr(given, "def").range_var)
    is_added = enum_name(given, "subtype") == "AT_AddInherit"
    undo = f"ALTER TABLE {table} {'NO INHERIT' if is_added else 'INHERIT'} {parent}"
    phase = Phase.EXPAND if is_added else options.last_phase
    return (Operation(text, shorten(text), (OperationStep(phase, shorten(text), (text,), (undo,)),)),)


def _read_attach(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """
    Raises:
        PlanError: PostgreSQL would read a table that exists, under a lock that blocks reads and writes.
    """
    table, given = _command(alter, command)
    partition = getattr(given, "def").partition_cmd.name
    name, scope = relation_sql(partition), options.scope
    key = scope.relation_key(partition)
    detach = f"ALTER TABLE {table} DETACH PARTITION {name}"
    if enum_name(alter, "objtype") == "OBJECT_INDEX":
        step = OperationStep(Phase.EXPAND, f"{shorten(text)}, which stays after a rollback", (text,))
        return (Operation(text, step.label, (step,)),)
    if not scope.is_new(key) or key in scope.filled:
        return (_attach_existing(table, partition, text, detach),)
    keep = (
        f"BEGIN IF EXISTS (SELECT FROM {name}) THEN RAISE EXCEPTION '% holds rows that older versions wrote',"
        f" {quote_literal(name)} USING HINT = 'move them, then repeat the rollback'; END IF; {detach}; END"
    )
    step = OperationStep(Phase.EXPAND, shorten(text), (text,), (f"DO $zdd$ {keep} $zdd$",))
    return (Operation(text, step.label, (step,)),)


_PROBE = """
  zdd_part := {partition}::regclass;
  BEGIN
    zdd_probe := format('%s.%I', (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = zdd_part), {probe});
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING CONSTRAINTS INCLUDING GENERATED)', zdd_probe, zdd_part);
    EXECUTE format({attach}, zdd_probe);
    zdd_text := pg_get_partition_constraintdef(zdd_probe::regclass);
    RAISE EXCEPTION 'what the partition holds is known' USING ERRCODE = 'ZDD01';
  EXCEPTION WHEN SQLSTATE 'ZDD01' THEN NULL;
  END;
  IF zdd_text <> '' THEN
    EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (%s) NOT VALID', zdd_part, {check}, zdd_text);
  END IF;
"""


def _attach_existing(table: str, partition: Any, text: str, detach: str) -> Operation:
    """A table with rows: a validated CHECK says that they belong to the partition, so that PostgreSQL reads none.

    The condition is the server's own, of an empty table that is attached in its place and goes at once.
    """
    name, probe = relation_sql(partition), fit_name("zdd_probe_", partition.relname)
    check = name_sql(fit_name("zdd_holds_", partition.relname))
    bound = deparse(parse_sql(text)).partition(f" ATTACH PARTITION {name} ")[2]
    attach = f"ALTER TABLE {table.replace('%', '%%')} ATTACH PARTITION %s {bound.replace('%', '%%')}"
    body = (
        _PROBE.replace("{partition}", quote_literal(name))
        .replace("{probe}", quote_literal(probe))
        .replace("{check}", quote_literal(fit_name("zdd_holds_", partition.relname)))
        .replace("{attach}", quote_literal(attach))
    )
    drop = f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {check}"
    holds = (
        f"SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass({quote_literal(name)}) AND conname ="
    )
    steps = (
        OperationStep(
            Phase.EXPAND,
            f"{name}: new rows belong to the partition",
            (block(body, "  zdd_part regclass;\n  zdd_probe text;\n  zdd_text text;\n"),),
            (drop,),
        ),
        OperationStep(
            Phase.EXPAND,
            f"{name}: every row belongs to the partition",
            (f"ALTER TABLE {name} VALIDATE CONSTRAINT {check}",),
            only_if=f"{holds} {quote_literal(fit_name('zdd_holds_', partition.relname))})",
        ),
        OperationStep(Phase.EXPAND, shorten(text), (text,), (detach,)),
        OperationStep(Phase.EXPAND, f"{name}: drop the helper constraint", (drop,)),
    )
    requirement = Requirement(
        _attach_problems(table, name), "add it before, in this release or in one of its own; it is built concurrently"
    )
    known = tuple(replace(step, are_locks_known=True) for step in steps)
    return Operation(text, f"attach {name} to {table}", known, requirements=(requirement,))


def _attach_problems(table: str, name: str) -> str:
    """What PostgreSQL would build or read while it attaches a table: indexes, foreign keys, the default partition."""
    return f"""
WITH t AS (SELECT to_regclass({quote_literal(table)}) AS parent, to_regclass({quote_literal(name)}) AS part)
SELECT format('%s has no index like %s of %s, and PostgreSQL would build it under a lock', part, i.indexrelid::regclass,
              parent)
FROM t JOIN pg_index i ON i.indrelid = t.parent LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid
  AND k.conrelid = parent AND k.contype IN ('p', 'u')
WHERE part IS NOT NULL AND NOT EXISTS (
  SELECT FROM pg_index o LEFT JOIN pg_constraint c ON c.conindid = o.indexrelid AND c.conrelid = part
    AND c.contype IN ('p', 'u')
  WHERE o.indrelid = part AND o.indisvalid AND o.indisunique = i.indisunique
    AND c.contype IS NOT DISTINCT FROM k.contype
    AND regexp_replace(pg_get_indexdef(o.indexrelid), '^.*? USING ', '')
      = regexp_replace(pg_get_indexdef(i.indexrelid), '^.*? USING ', ''))
UNION ALL
SELECT format('%s has no foreign key like %s of %s, and PostgreSQL would read every row for it', part, k.conname,
              parent)
FROM t JOIN pg_constraint k ON k.conrelid = parent AND k.contype = 'f'
WHERE part IS NOT NULL AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = part AND c.contype = 'f'
  AND c.convalidated AND pg_get_constraintdef(c.oid) = pg_get_constraintdef(k.oid))
UNION ALL
SELECT format('%s has the default partition %s, and PostgreSQL would read it under a lock', parent,
              p.partdefid::regclass)
FROM t JOIN pg_partitioned_table p ON p.partrelid = parent WHERE p.partdefid <> 0 AND part IS NOT NULL
"""


def _read_detach(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """In contract, with the ladder of lock timeouts: only the catalog changes. CONCURRENTLY is not needed for that."""
    table, given = _command(alter, command)
    partition = relation_sql(getattr(given, "def").partition_cmd.name)
    first = _keep_condition(partition, options.last_phase) if getattr(given, "def").partition_cmd.concurrent else ()
    literal = quote_literal(partition)
    before = (
        f"SELECT format('ALTER TABLE %s ATTACH PARTITION %s %s', {quote_literal(table)}, {literal},"
        f" pg_get_expr(relpartbound, oid)) FROM pg_class WHERE oid = to_regclass({literal})"
    )
    detach = f"ALTER TABLE {table} DETACH PARTITION {partition}"
    step = OperationStep(options.last_phase, f"detach {partition} from {table}", (detach,), undo_query=before)
    return (Operation(text, step.label, (*first, step)),)


def _keep_condition(partition: str, phase: Phase) -> tuple[OperationStep, ...]:
    """The CHECK that CONCURRENTLY leaves at what was a partition, but for one by hash; here it is validated first."""
    part = f"to_regclass({quote_literal(partition)})"
    condition = f"pg_get_partition_constraintdef({part})"
    same = (
        f"SELECT conname FROM pg_constraint WHERE conrelid = {part} AND contype = 'c' AND conislocal"
        f" AND replace(pg_get_constraintdef(oid), ' NOT VALID', '') = format('CHECK (%s)', {condition})"
    )
    add = f"  EXECUTE format('ALTER TABLE %s ADD CHECK (%s) NOT VALID', {part}, {condition});"
    each = f"  FOR r IN {same} LOOP EXECUTE format('ALTER TABLE %s {{}} CONSTRAINT %I', {part}, r.conname); END LOOP;"
    needed = f"SELECT {condition} <> '' AND {condition} NOT LIKE 'satisfies_hash_partition%' AND NOT EXISTS ({same})"
    steps = (
        OperationStep(
            phase,
            f"{partition}: a CHECK says what it holds",
            (block(add),),
            (block(each.replace("{}", "DROP"), "  r record;\n"),),
            only_if=needed,
        ),
        OperationStep(
            phase, f"{partition}: validate that CHECK", (block(each.replace("{}", "VALIDATE"), "  r record;\n"),)
        ),
    )
    return tuple(replace(step, are_locks_known=True) for step in steps)


def _read_rewrite(_alter: Any, _command: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    raise PlanError(
        f"{shorten(text)}: PostgreSQL rewrites the whole table under a lock that blocks reads and writes",
        "leave it out and use pg_repack; or move the rows into a new table: change.into",
    )


TABLE_COMMANDS: Mapping[str, Any] = {
    **dict.fromkeys(("AT_ClusterOn", "AT_DropCluster"), _read_cluster_on),
    **dict.fromkeys(("AT_SetOptions", "AT_ResetOptions"), _read_column_options),
    **dict.fromkeys(("AT_AddInherit", "AT_DropInherit"), _read_inherit),
    **dict.fromkeys(("AT_SetLogged", "AT_SetUnLogged", "AT_SetTableSpace", "AT_SetAccessMethod"), _read_rewrite),
    "AT_AttachPartition": _read_attach,
    "AT_DetachPartition": _read_detach,
    "AT_DetachPartitionFinalize": _read_detach,
}


# --- statements on what the migration has created


def read_on_new(kind: str, statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...] | None:
    """A statement on a table that the same migration creates: as it is, in expand, and undone with the table.

    Returns:
        None where the statement is none of these.
    """
    scope = options.scope
    relations = _own_relations(kind, statement)
    if not relations or not all(scope.is_new(scope.relation_key(each)) for each in relations):
        return None
    if kind == "alter_table_stmt" and _needs_its_own_reader(statement, scope):
        return None
    if kind == "index_stmt":
        statement.concurrent = False
        tree = parse_sql("CREATE INDEX ON a (b)")
        tree.stmts[0].stmt.index_stmt.CopyFrom(statement)
        text = deparse(tree)
    undo = _undo_on_new(kind, statement, options)
    step = OperationStep(Phase.EXPAND, shorten(text), (text,), undo)
    return (Operation(text, step.label, (step,)),)


def _undo_on_new(kind: str, statement: Any, options: OperationOptions) -> tuple[str, ...]:
    """What goes with the table, but depends on an object that was created after it, and is dropped before it."""
    match kind:
        case "create_trig_stmt":
            return (f"DROP TRIGGER IF EXISTS {name_sql(statement.trigname)} ON {relation_sql(statement.relation)}",)
        case "rule_stmt":
            return (f"DROP RULE IF EXISTS {name_sql(statement.rulename)} ON {relation_sql(statement.relation)}",)
        case "create_policy_stmt":
            return (f"DROP POLICY IF EXISTS {name_sql(statement.policy_name)} ON {relation_sql(statement.table)}",)
        case "index_stmt" if statement.idxname:
            names = (statement.relation.schemaname, statement.idxname)
            return (f"DROP INDEX IF EXISTS {name_sql(*(each for each in names if each))}",)
        case "alter_table_stmt":
            return tuple(undo for each in reversed(statement.cmds) if (undo := _undo_command(statement, each, options)))
    return ()


def _undo_command(alter: Any, command: Any, options: OperationOptions) -> str:
    given, table = command.alter_table_cmd, relation_sql(alter.relation)
    match enum_name(given, "subtype"):
        case "AT_AddColumn":
            column = name_sql(getattr(given, "def").column_def.colname)
            return f"ALTER TABLE {table} DROP COLUMN IF EXISTS {column}"
        case "AT_AddConstraint":
            constraint = getattr(given, "def").constraint
            kind = enum_name(constraint, "contype")
            if constraint.conname or kind in ("CONSTR_FOREIGN", "CONSTR_CHECK"):
                name = constraint.conname or choose_name(alter.relation, constraint, kind, "", options)
                return f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name_sql(name)}"
        case "AT_ColumnDefault" if getattr(given, "def").WhichOneof("node") is not None:
            return f"ALTER TABLE {table} ALTER COLUMN {name_sql(given.name)} DROP DEFAULT"
    return ""


def _own_relations(kind: str, statement: Any) -> list[Any]:
    match kind:
        case "alter_table_stmt" | "index_stmt" | "create_trig_stmt" | "rule_stmt":
            return [statement.relation]
        case "create_policy_stmt" | "alter_policy_stmt":
            return [statement.table]
        case "alter_seq_stmt":
            return [statement.sequence]
        case "create_stats_stmt":
            return [each.range_var for each in statement.relations if each.HasField("range_var")]
        case "grant_stmt" if enum_name(statement, "objtype") in ("OBJECT_TABLE", "OBJECT_SEQUENCE"):
            return [each.range_var for each in statement.objects if each.HasField("range_var")]
    return []


def _needs_its_own_reader(statement: Any, scope: Scope) -> bool:
    """A command that concerns another table, or that needs a key which comes in contract, or that reads many rows."""
    key = scope.relation_key(statement.relation)
    for each in (node.alter_table_cmd for node in statement.cmds):
        subtype = enum_name(each, "subtype")
        if subtype in ("AT_AttachPartition", "AT_DetachPartition", "AT_AddInherit", "AT_DropInherit"):
            return True
        if subtype == "AT_AddConstraint":
            constraint = getattr(each, "def").constraint
            is_foreign = enum_name(constraint, "contype") == "CONSTR_FOREIGN"
            if points_to_late_key(constraint, scope) or (is_foreign and key in scope.filled):
                return True
    return False

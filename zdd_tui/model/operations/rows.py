"""Rows: those of a table that the migration creates go with a rollback by themselves; others are changed in batches."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, Requirement, relation_sql, shorten
from zdd_tui.model.operations.identities import restore_position_query
from zdd_tui.model.operations.indexes import kept_constraints_sql, reads_columns_sql
from zdd_tui.model.operations.objects import refuse_temporary
from zdd_tui.model.operations.row_changes import UNDO_ROWS, read_delete, read_update
from zdd_tui.model.operations.scope import Novelty, Scope
from zdd_tui.model.operations.statements import read_own_statement
from zdd_tui.model.operations.type_swap import oids_sql
from zdd_tui.model.operations.views import create_filled_table, require_own_rows, used_tables
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import enum_name, expression_sql, name_sql, node_class, quote_literal, string_values, walk

_IN_BATCHES = {"UpdateStmt": read_update, "DeleteStmt": read_delete}


def _read_write(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """INSERT, UPDATE, DELETE and MERGE."""
    scope, relation = options.scope, statement.relation
    key = scope.relation_key(relation)
    novelty = scope.novelty(key)
    name = relation_sql(relation)
    if novelty is Novelty.NO:
        if (reader := _IN_BATCHES.get(node_class(statement))) is not None:
            return _with_requirements(reader(statement, text, options), statement, text, options)
        reason = f"{UNDO_ROWS} of {name}"
        return _with_requirements((read_own_statement(text, options, reason),), statement, text, options)
    query = getattr(statement, "select_stmt", None)
    if query is not None:
        require_own_rows(query, text, options)
    scope.filled.add(key)
    step = OperationStep(rows_phase(statement, options), shorten(text), (text,))
    if step.phase is Phase.BACKFILL:
        scope.late.add(key)
    if novelty is Novelty.NEW:
        return (Operation(text, step.label, (step,)),)
    exists = Requirement(
        f"SELECT {quote_literal(f'{name} exists already, and {UNDO_ROWS}: {shorten(text, 40)}')}"
        f" WHERE to_regclass({quote_literal(name)}) IS NOT NULL",
        "write the INSERT as an operation with undo:, where undo: [] leaves the rows",
    )
    return (Operation(text, step.label, (step,), requirements=(exists,)),)


def _with_requirements(
    operations: tuple[Operation, ...], statement: Any, text: str, options: OperationOptions
) -> tuple[Operation, ...]:
    first, *others = operations
    return (replace(first, requirements=require_no_dropped_unique_index(statement, text, options)), *others)


def require_no_dropped_unique_index(statement: Any, text: str, options: OperationOptions) -> tuple[Requirement, ...]:
    """Refuses rows that are written before contract to a table of which the migration has dropped a unique index: the
    index is there until contract, and may refuse them. Only the server knows whether an index is unique."""
    scope = options.scope
    if options.phase is not None or options.last_phase is not Phase.CONTRACT or not scope.removed_indexes:
        return ()
    indexes = _relations_sql(scope.removed_indexes)
    found = []
    for write in (each for each in walk(statement) if node_class(each) in ("InsertStmt", "UpdateStmt", "MergeStmt")):
        is_update = node_class(write) == "UpdateStmt"
        columns = [each.res_target.name for each in write.target_list] if is_update else []
        reads = f" AND {reads_columns_sql('i', columns)}" if is_update else ""
        found.append(
            f"SELECT format('%s: unique index %s may refuse the rows until contract, where the migration drops it',"
            f" {quote_literal(shorten(text))}, i.indexrelid::regclass) FROM pg_index i WHERE i.indisunique"
            f" AND i.indexrelid IN ({indexes})"
            f" AND i.indrelid = to_regclass({quote_literal(relation_sql(write.relation))}){reads}"
        )
    hint = "write it as an operation with undo: and phase: contract; phase: expand says that the index allows its rows"
    return (Requirement(" UNION ALL ".join(found), hint),) if found else ()


def rows_phase(statement: Any, options: OperationOptions) -> Phase:
    """Where rows are written as one statement: after those that it reads.

    A copy of rows that running code changes comes last before cutover.
    """
    scope = options.scope
    if _needs_late_key(statement, scope):
        return options.last_phase
    query = getattr(statement, "select_stmt", getattr(statement, "query", None))
    copies = options.has_rollout and query is not None and bool(used_tables(query, scope))
    return Phase.BACKFILL if copies or scope.reads_late(statement) else Phase.EXPAND


def _needs_late_key(statement: Any, scope: Scope) -> bool:
    """Whether the ON CONFLICT of an INSERT names a key that the migration adds in contract."""
    if node_class(statement) != "InsertStmt" or not statement.HasField("on_conflict_clause"):
        return False
    infer, table = statement.on_conflict_clause.infer, scope.relation_key(statement.relation)
    columns = {each.index_elem.name for each in infer.index_elems}
    named = bool(infer.conname) and scope.is_deferred(infer.conname, table)
    return named or any(of == table and columns and set(key) == columns for of, key in scope.deferred_keys)


def _read_copy(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    raise PlanError(
        f"{shorten(text)}: the rows of COPY are no SQL, or are in a file that zdd does not read",
        "write INSERT statements, or load the rows before the release",
    )


def _read_truncate(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    relations = [each.range_var for each in statement.relations]
    if all(options.scope.is_new(options.scope.relation_key(each)) for each in relations):
        step = OperationStep(Phase.EXPAND, shorten(text), (text,))
        return (Operation(text, step.label, (step,)),)
    return (read_own_statement(text, options, "nothing brings the rows back"),)


def check_truncate(statement: Any, scope: Scope) -> tuple[Requirement, str]:
    """What TRUNCATE of tables of running code requires before the start, and a query of the tables that CASCADE empties
    besides them; the query is empty without CASCADE."""
    names = [relation_sql(each.range_var) for each in statement.relations]
    if enum_name(statement, "behavior") == "DROP_CASCADE":
        return _check_cascade(names, scope)
    listed = _relations_sql(names)
    query = (
        "SELECT format('TRUNCATE of %s: %s references it, also while the migration waits to drop it',"
        " k.confrelid::regclass, k.conrelid::regclass) FROM pg_constraint k WHERE k.contype = 'f'"
        f" AND k.confrelid IN ({listed}) AND k.conrelid NOT IN ({listed}){kept_constraints_sql(scope)} ORDER BY 1"
    )
    return Requirement(query, "name both tables in one TRUNCATE, or leave it out"), ""


def _check_cascade(names: list[str], scope: Scope) -> tuple[Requirement, str]:
    listed = _relations_sql(names)
    emptied = f"""WITH RECURSIVE emptied (oid) AS (
  SELECT unnest(ARRAY[{listed}]::oid[])
  UNION SELECT k.conrelid FROM emptied e JOIN pg_constraint k ON k.confrelid = e.oid
  WHERE k.contype = 'f'{kept_constraints_sql(scope)}
)
"""
    shown = f"TRUNCATE of {', '.join(names)} CASCADE"
    late, removed = (
        oids_sql(name_sql(each.schema, each.name) for each in sorted(keys, key=str))
        for keys in (scope.late_parents, scope.removed_tables)
    )
    query = f"""{emptied}SELECT {quote_literal(shown)} || CASE WHEN oid = ANY ({removed})
  THEN format(' empties %s, which the migration drops before: a rollback would give it back without its rows',
              oid::regclass)
  ELSE format(': a foreign key to %s comes in contract, so that its table would not be emptied', oid::regclass) END
FROM emptied WHERE oid = ANY ({removed} || {late}) ORDER BY 1"""
    note = f"""{emptied}SELECT {quote_literal(shown)} || ' empties, too: '
  || string_agg(oid::regclass::text, ', ' ORDER BY oid::regclass::text)
FROM emptied WHERE oid NOT IN ({listed}) HAVING count(*) > 0"""
    hint = "name the tables that it shall empty, without CASCADE; or write it in its own release"
    return Requirement(query, hint), note


def _relations_sql(names: Iterable[str]) -> str:
    return ", ".join(f"to_regclass({quote_literal(name)})" for name in names)


def read_setval(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """The undo lets the sequence continue after every number that it has given."""
    scope = options.scope
    calls = [each for each in walk(statement) if node_class(each) == "FuncCall"]
    set_calls = [each for each in calls if string_values(each.funcname)[-1] == "setval"]
    argument = set_calls[0].args[0]
    if len(set_calls) > 1 or any(node_class(each) == "ColumnRef" for each in walk(argument)):
        return (read_own_statement(text, options, "it sets several sequences"),)
    # The identity that takes the place of a default comes in contract.
    phase = options.last_phase if scope.dropped_defaults else rows_phase(statement, options)
    before = restore_position_query(expression_sql(argument))
    step = OperationStep(phase, shorten(text), (text,), undo_query=before)
    return (Operation(text, step.label, (step,)),)


def read_select_into(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """SELECT INTO: a new table.

    Raises:
        PlanError: rows that running code still changes would be copied once.
    """
    relation = statement.into_clause.rel
    if relation.relpersistence == "t":
        raise refuse_temporary(text)
    query = type(statement)()
    query.CopyFrom(statement)
    query.ClearField("into_clause")
    return create_filled_table(relation, query, text, options)


def _reader_of(reason: str) -> Any:
    def read(_statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
        return (read_own_statement(text, options, reason),)

    return read


ROW_READERS: Mapping[str, Any] = {
    **dict.fromkeys(("insert_stmt", "update_stmt", "delete_stmt", "merge_stmt"), _read_write),
    "copy_stmt": _read_copy,
    "truncate_stmt": _read_truncate,
    "do_stmt": _reader_of("only its execution shows what the code does"),
    "call_stmt": _reader_of("only its execution shows what the code does"),
    "execute_stmt": _reader_of("only its execution shows what it does"),
}

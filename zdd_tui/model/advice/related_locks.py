"""The tables that a statement locks beside the one that it names: partitions, parents, both sides of foreign keys.

What only a database knows comes from :class:`SchemaSnapshot`; without one, only what the statement names is known.
tests/model/advice/test_lock_table.py compares every answer with a real server.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from zdd_tui.model.advice.effects import LockRule, TableLock, TableWork, is_widening
from zdd_tui.model.advice.migration import ActionKind, StatementAction
from zdd_tui.model.advice.schema import ColumnInfo, ConstraintInfo, RelationInfo, SchemaSnapshot
from zdd_tui.model.plan.base import TableName

WORK_ORDER = (
    *(TableWork.NONE, TableWork.INSTANT, TableWork.ROWS, TableWork.SCAN, TableWork.INDEX, TableWork.REWRITE),
    TableWork.UNKNOWN,
)
"""The cheapest first."""

FoundLock = tuple[str, TableLock, TableWork]
"""A table's qualified name, the lock on it, and the work on it."""

_K = ActionKind
_AX, _SRX, _NONE = TableLock.ACCESS_EXCLUSIVE, TableLock.SHARE_ROW_EXCLUSIVE, TableWork.NONE

_TO_CHILDREN = {
    *(_K.ADD_COLUMN, _K.ADD_COLUMN_REWRITE, _K.ADD_REQUIRED_COLUMN, _K.DROP_COLUMN, _K.CHANGE_TYPE, _K.SET_NOT_NULL),
    *(_K.ADD_CHECK, _K.ADD_NOT_VALID, _K.ADD_UNIQUE, _K.VALIDATE, _K.DROP_CONSTRAINT, _K.RENAME_COLUMN),
    *(_K.SET_DEFAULT, _K.DROP_DEFAULT, _K.SET_EXPRESSION, _K.TRUNCATE, _K.LOCK, _K.WRITE_ROWS, _K.DELETE_ROWS),
    *(_K.LOCK_ROWS, _K.DROP_TABLE),
}
"""Kinds that reach partitions and children, unless ONLY is written."""
_TO_PARTITIONS = {
    *(_K.CREATE_INDEX, _K.ADD_FOREIGN_KEY, _K.ADD_FOREIGN_KEY_NOT_VALID, _K.CREATE_TRIGGER, _K.DROP_TRIGGER),
    *(_K.MAINTAIN, _K.VACUUM_FULL, _K.REINDEX, _K.REINDEX_CONCURRENTLY, _K.ADD_UNIQUE_USING_INDEX),
}
"""Kinds that reach partitions only; a table that inherits otherwise is left alone."""
_COLUMN_PARAMETERS = {"AT_SetStatistics", "AT_SetStorage"}
_THROUGH_VIEWS = {_K.WRITE_ROWS, _K.DELETE_ROWS, _K.LOCK, _K.LOCK_ROWS}
"""Kinds that reach the tables of a view."""
_ON_ACTION = re.compile(r" ON (DELETE|UPDATE) (CASCADE|SET NULL|SET DEFAULT)")


def related_locks(
    action: StatementAction, lock: TableLock, work: TableWork, schema: SchemaSnapshot | None
) -> Iterator[FoundLock]:
    """The lock of an action on its own table and on every other that it reaches.

    Args:
        lock, work: of the rule, on the table that the action names.
        schema: the database's; None where it is not known.
    """
    nothing = (TableLock.NONE, TableLock.ACCESS_SHARE)
    yield from (each for each in _reach(action, lock, work, schema) if each[1] not in nothing)


def _reach(
    action: StatementAction, lock: TableLock, work: TableWork, schema: SchemaSnapshot | None
) -> Iterator[FoundLock]:
    relation = schema.find(str(action.table)) if schema is not None and action.table is not None else None
    if action.table is not None and action.kind is not _K.CREATE:
        if schema is None:
            yield str(action.table), lock, work
        elif relation is not None:
            yield from _own_locks(action, lock, work, relation, schema)
    yield from _named_locks(action, schema)
    if schema is None:
        return
    if relation is not None:
        yield from _foreign_key_locks(action, relation, work, schema)
        yield from _dropped_locks(action, relation, schema)
        if relation.kind == "v" and action.kind in _THROUGH_VIEWS:
            for oid in {used for used, _ in relation.uses} & schema.relations.keys():
                used = schema.relations[oid]
                below = replace(action, table=TableName(schema_=used.schema, name=used.name))
                yield from _reach(below, lock, work, schema)
    elif action.table is None:
        yield from _object_locks(action, lock, work, schema)


def _own_locks(
    action: StatementAction, lock: TableLock, work: TableWork, relation: RelationInfo, schema: SchemaSnapshot
) -> Iterator[FoundLock]:
    """The named table with its partitions and children; a partitioned table itself has no rows."""
    has_no_file = relation.kind == "p"
    idle = TableWork.INSTANT if work is not TableWork.NONE else TableWork.NONE
    own_work = idle if has_no_file and action.detail != "analyze" else work
    yield str(relation), lock, own_work
    reaches = action.kind in _TO_CHILDREN or action.detail in _COLUMN_PARAMETERS
    reaches |= action.kind in _TO_PARTITIONS and relation.kind == "p"
    reaches |= action.kind is _K.MAINTAIN and action.detail == "analyze"
    if not reaches or action.only:
        return
    if action.kind is _K.REINDEX_CONCURRENTLY:
        lock = TableLock.SHARE  # the server locks all partitions so before it begins with the first one
    for child in schema.children(relation.oid):
        child_work = work
        if child.kind == "p":
            child_work = idle
        elif action.kind is _K.ADD_UNIQUE and relation.kind != "p":
            # A primary key makes the children's columns NOT NULL; other keys do not reach them.
            if not action.detail.startswith("primary"):
                continue
            child_work = TableWork.SCAN
        elif action.detail.startswith("no inherit"):
            child_work = idle
        yield str(child), lock, child_work


def _named_locks(action: StatementAction, schema: SchemaSnapshot | None) -> Iterator[FoundLock]:
    """The tables that the statement names beside its own, with their partitions."""
    for name, lock, work in action.others:
        relation = schema.find(str(name)) if schema is not None else None
        if schema is None:
            yield str(name), lock, work
        elif relation is not None:
            yield from _named_lock(action, relation, lock, work, schema)


def _named_lock(
    action: StatementAction, relation: RelationInfo, lock: TableLock, work: TableWork, schema: SchemaSnapshot
) -> Iterator[FoundLock]:
    own = schema.find(str(action.table)) if action.table is not None else None
    if action.kind is _K.ATTACH_PARTITION and own is not None:
        builds = any(schema.indexes(own.oid))
        yield str(relation), lock, TableWork.INDEX if builds else work
        yield from _default_partition(own, schema, scanned=action.detail != "default")
        return
    yield str(relation), lock, TableWork.NONE if relation.kind == "p" else work
    if lock is _SRX:  # the referenced side of a foreign key: its triggers are on every partition
        yield from ((str(child), lock, work) for child in schema.children(relation.oid) if child.is_partition)
    elif "partition" in action.detail:
        yield from _default_partition(relation, schema, scanned=action.detail != "default partition")
    elif action.kind in (_K.DETACH_PARTITION, _K.DETACH_PARTITION_CONCURRENTLY):
        yield from _default_partition(own, schema, scanned=False)


def _default_partition(parent: RelationInfo | None, schema: SchemaSnapshot, *, scanned: bool) -> Iterator[FoundLock]:
    """The default partition: its rows may belong to a new one."""
    for child in schema.children(parent.oid) if parent is not None else ():
        if child.is_default_partition:
            yield str(child), _AX, TableWork.SCAN if scanned else TableWork.NONE


def _columns_of(relation: RelationInfo, *names: str) -> set[int]:
    return {column.number for column in relation.columns if column.name in names}


def _foreign_key_locks(
    action: StatementAction, relation: RelationInfo, work: TableWork, schema: SchemaSnapshot
) -> Iterator[FoundLock]:
    """The other sides of the foreign keys that an action drops, makes again or checks."""
    keys = list(schema.foreign_keys(relation.oid))
    match action.kind:
        case _K.DROP_COLUMN | _K.CHANGE_TYPE:
            numbers = _columns_of(relation, action.column)
            touched = [key for key in keys if _touches(key, relation, numbers)]
            yield from _other_sides(touched, relation, TableWork.SCAN if work is TableWork.REWRITE else _NONE, schema)
        case _K.DROP_CONSTRAINT:
            named = _find_constraint(action, relation, schema)
            touched = [key for key in keys if named is not None and (key is named or key.index == named.index != 0)]
            yield from _other_sides(touched, relation, _NONE, schema)
        case _K.ALTER_CATALOG | _K.ADD_FOREIGN_KEY if action.detail == "enforcement":
            named = _find_constraint(action, relation, schema)
            other_work = TableWork.SCAN if action.kind is _K.ADD_FOREIGN_KEY else _NONE
            yield from _other_sides([key for key in keys if key is named], relation, other_work, schema)
        case _K.DROP_TABLE:
            yield from _other_sides(keys, relation, _NONE, schema)
        case _K.TRUNCATE if action.cascade:
            yield from ((str(table), _AX, _NONE) for table in _referring_tables(relation, schema))
        case _K.VALIDATE:
            named = _find_constraint(action, relation, schema)
            if named is not None and not named.is_valid and named.kind == "f" and named.target in schema.relations:
                yield str(schema.relations[named.target]), TableLock.ROW_SHARE, _NONE
        case _K.WRITE_ROWS | _K.DELETE_ROWS:
            yield from _written_key_locks(action, relation, keys, schema)


def _referring_tables(relation: RelationInfo, schema: SchemaSnapshot) -> list[RelationInfo]:
    """The tables that refer to a table, to its partitions, or to one of those tables."""
    found, open_oids = dict[int, RelationInfo](), [relation.oid]
    while open_oids:
        oid = open_oids.pop()
        near = [key.table for key in schema.foreign_keys(oid) if key.target == oid]
        near += [child.oid for child in schema.children(oid)]
        for each in near:
            if each not in found and each in schema.relations and each != relation.oid:
                found[each] = schema.relations[each]
                open_oids.append(each)
    return list(found.values())


def _touches(key: ConstraintInfo, relation: RelationInfo, numbers: set[int]) -> bool:
    own = key.columns if key.table == relation.oid else ()
    return bool(numbers & {*own, *(key.target_columns if key.target == relation.oid else ())})


def _other_sides(
    keys: list[ConstraintInfo], relation: RelationInfo, work: TableWork, schema: SchemaSnapshot
) -> Iterator[FoundLock]:
    for key in keys:
        for oid in {key.table, key.target} - {relation.oid}:
            if oid in schema.relations:
                yield str(schema.relations[oid]), _AX, work


def _written_key_locks(
    action: StatementAction, relation: RelationInfo, keys: list[ConstraintInfo], schema: SchemaSnapshot
) -> Iterator[FoundLock]:
    """Rows that are written are looked up on the other side of a foreign key; ON … CASCADE writes there."""
    changed = _columns_of(relation, *(name for name, _ in action.columns))
    verb = action.detail
    for key in keys:
        is_own, is_target = key.table == relation.oid, key.target == relation.oid
        if (
            is_own
            and key.target in schema.relations
            and (verb == "INSERT" or (verb == "UPDATE" and changed & {*key.columns}))
        ):
            yield str(schema.relations[key.target]), TableLock.ROW_SHARE, _NONE
        loses = verb == "DELETE" or (verb == "UPDATE" and changed & {*key.target_columns})
        if is_target and loses and key.table in schema.relations:
            cascades = {match[1] for match in _ON_ACTION.finditer(key.definition)}
            lock = TableLock.ROW_EXCLUSIVE if verb in cascades else TableLock.ROW_SHARE
            work = TableWork.ROWS if verb in cascades else _NONE
            yield str(schema.relations[key.table]), lock, work


def _find_constraint(action: StatementAction, relation: RelationInfo, schema: SchemaSnapshot) -> ConstraintInfo | None:
    return next(
        (each for each in schema.constraints.values() if each.table == relation.oid and each.name == action.name), None
    )


def _dropped_locks(action: StatementAction, relation: RelationInfo, schema: SchemaSnapshot) -> Iterator[FoundLock]:
    """Views that are dropped with a table or column, and what a dropped partition belongs to."""
    if action.kind is _K.DROP_TABLE:
        for parent in schema.parents(relation.oid) if relation.is_partition else ():
            yield str(parent), _AX, _NONE
            yield from _default_partition(parent, schema, scanned=False)
    if not action.cascade or action.kind not in (_K.DROP_TABLE, _K.DROP_COLUMN, _K.DROP_OTHER):
        return
    numbers = {0, *(_columns_of(relation, action.column) if action.kind is _K.DROP_COLUMN else range(1, 2000))}
    if action.kind is _K.DROP_COLUMN:
        numbers -= {0}
    yield from _view_locks(relation.oid, numbers, schema)


def _view_locks(oid: int, numbers: set[int], schema: SchemaSnapshot) -> Iterator[FoundLock]:
    for view in schema.relations.values():
        if any(used == oid and number in numbers for used, number in view.uses):
            yield str(view), _AX, _NONE
            yield from _view_locks(view.oid, {*range(2000)}, schema)


# --- actions that name no table


def _object_locks(
    action: StatementAction, lock: TableLock, work: TableWork, schema: SchemaSnapshot
) -> Iterator[FoundLock]:
    match action.kind:
        case _K.DROP_INDEX | _K.DROP_INDEX_CONCURRENTLY | _K.REINDEX | _K.REINDEX_CONCURRENTLY if index := schema.find(
            action.name
        ):
            tables = [schema.relations[index.index_of]]
            tables += [each for each in schema.children(index.index_of) if each.is_partition and index.kind == "I"]
            for table in tables:
                yield str(table), lock, TableWork.INSTANT if table.kind == "p" else work
        case _K.ALTER_DOMAIN:
            for table, _ in _columns_with_type(action.name, schema):
                yield str(table), TableLock.SHARE, TableWork.SCAN
        case _K.DROP_OTHER if action.cascade and action.detail in ("OBJECT_TYPE", "OBJECT_DOMAIN"):
            for table, _ in _columns_with_type(action.name, schema):
                yield str(table), _AX, _NONE
        case _K.DROP_OTHER if action.cascade and action.detail in ("OBJECT_FUNCTION", "OBJECT_ROUTINE"):
            yield from ((table, _AX, _NONE) for table in schema.triggered_tables(action.name))
        case _K.DROP_OTHER if action.cascade and action.detail == "OBJECT_SCHEMA":
            yield from _schema_locks(action.name, schema)
        case _K.COMMENT if action.detail == "statistics":
            yield from ((name, lock, work) for name in schema.statistics_tables(action.name))


def _schema_locks(name: str, schema: SchemaSnapshot) -> Iterator[FoundLock]:
    """Everything in a schema that is dropped, the other sides of its foreign keys, and the views above."""
    for relation in schema.relations.values():
        if relation.schema == name and relation.kind in "rpvmf":
            yield str(relation), _AX, _NONE
            yield from _other_sides(list(schema.foreign_keys(relation.oid)), relation, _NONE, schema)
            yield from _view_locks(relation.oid, {*range(2000)}, schema)


def _columns_with_type(name: str, schema: SchemaSnapshot) -> Iterator[tuple[RelationInfo, ColumnInfo]]:
    """Columns of tables with a type, or with a domain over it."""
    plain = name.rpartition(".")[2]
    names = {f"{name.rpartition('.')[0] or path}.{plain}" for path in (*schema.search_path, "public")}
    wanted = {each for each in names if schema.type_text(each) is not None}
    while True:
        over = {each for each, base in schema.domains().items() if base in wanted} - wanted
        if not over:
            break
        wanted |= over
    for relation in schema.relations.values():
        for column in relation.columns if relation.kind in "rp" else ():
            if column.type in wanted:
                yield relation, column
                break


# --- rules that depend on what is there


def rule_with_schema(
    action: StatementAction, rule: LockRule, relation: RelationInfo | None, schema: SchemaSnapshot
) -> LockRule:
    """The rule for an action, with what the schema tells."""
    column = relation.column(action.column) if relation is not None and action.column else None
    if action.definition:
        return _add_column_rule(action, rule, column, schema)
    if action.kind in (_K.DROP_INDEX, _K.DROP_INDEX_CONCURRENTLY, _K.RENAME_INDEX, _K.REPLACE, _K.CALL_FUNCTION):
        return _object_rule(action, rule, relation, schema)
    if relation is None:
        return rule
    if action.kind in (_K.CREATE_INDEX, _K.CREATE_INDEX_CONCURRENTLY):
        return _create_index_rule(action, rule, relation, schema)
    return (
        _table_rule(action, rule, relation, schema)
        if column is None
        else _column_rule(action, rule, relation, column, schema)
    )


def _column_rule(
    action: StatementAction, rule: LockRule, relation: RelationInfo, column: ColumnInfo, schema: SchemaSnapshot
) -> LockRule:
    match action.kind:
        case _K.DROP_DEFAULT if not (column.default or column.identity or column.generated):
            return replace(rule, breaking_reason="", hint="")
        case _K.CHANGE_TYPE if is_widening(column.type, action.type) and not action.using:
            # An index keeps its file, but for those of partitions: the parent's is made again, and theirs with it.
            if relation.kind == "p" and any(
                column.number in each.index_columns for each in schema.indexes(relation.oid)
            ):
                return replace(rule, work=TableWork.INDEX, breaking_reason="")
            return replace(rule, work=TableWork.INSTANT, breaking_reason="")
        case _K.SET_NOT_NULL if column.not_null or column.name in schema.proven_not_null(relation.oid):
            return LockRule(rule.lock, TableWork.INSTANT)
    return rule


def _table_rule(action: StatementAction, rule: LockRule, relation: RelationInfo, schema: SchemaSnapshot) -> LockRule:
    if action.kind in (_K.DROP_CONSTRAINT, _K.RENAME_CONSTRAINT):
        named = _find_constraint(action, relation, schema)
        is_key = named is not None and named.kind in "pux"
        return rule if is_key else replace(rule, breaking_reason="", hint="")
    if action.kind is _K.VALIDATE:
        named = _find_constraint(action, relation, schema)
        return replace(rule, work=TableWork.INSTANT) if named is not None and named.is_valid else rule
    if action.kind is _K.REWRITE_OTHER:
        persistence, _, access_method, *_ = [*relation.settings.split(" "), "", ""]
        same = {"AT_SetLogged": persistence == "p", "AT_SetUnLogged": persistence == "u"}
        same["AT_SetAccessMethod"] = access_method == action.name
        same["AT_SetTableSpace"] = relation.tablespace == action.name
        if same.get(action.detail):
            return replace(rule, work=TableWork.INSTANT, hint="")
    return rule


def _object_rule(
    action: StatementAction, rule: LockRule, relation: RelationInfo | None, schema: SchemaSnapshot
) -> LockRule:
    if action.kind is _K.REPLACE:
        if not _is_replaced(action, relation, schema):
            return replace(rule, breaking_reason="")
        return replace(rule, lock=_AX, work=TableWork.INSTANT) if action.detail == "view" else rule
    if action.kind is _K.RENAME_INDEX:
        index = schema.find(action.name)
        is_key = index is not None and any(
            each.index == index.oid and each.kind in "pux" for each in schema.constraints.values()
        )
        return rule if is_key else replace(rule, breaking_reason="", hint="")
    if action.kind is _K.CALL_FUNCTION:
        name = action.name.removeprefix("pg_catalog.")
        is_quiet = name in _QUIET_FUNCTIONS and name not in schema.functions()
        return replace(rule, work=TableWork.NONE, breaking_reason="", hint="") if is_quiet else rule
    index = schema.find(action.name)
    is_key = index is not None and index.is_unique
    hint = "" if action.kind is _K.DROP_INDEX_CONCURRENTLY else "DROP INDEX CONCURRENTLY, outside of a transaction"
    return replace(rule, breaking_reason=rule.breaking_reason if is_key else "", hint=hint)


_QUIET_FUNCTIONS = frozenset({"pg_get_serial_sequence", "to_regclass", "pg_typeof", "obj_description", "pg_table_size"})


def _is_replaced(action: StatementAction, relation: RelationInfo | None, schema: SchemaSnapshot) -> bool:
    if action.detail == "view":
        return relation is not None
    return action.detail != "function" or action.name in schema.functions()


def _add_column_rule(
    action: StatementAction, rule: LockRule, column: ColumnInfo | None, schema: SchemaSnapshot
) -> LockRule:
    if column is not None and action.detail.startswith("if not exists"):
        return LockRule(rule.lock, TableWork.INSTANT)
    called = action.detail.partition("default ")[2].split()
    if action.kind is _K.ADD_COLUMN_REWRITE and called and all(schema.is_immutable(name) for name in called):
        rule = replace(rule, work=TableWork.INSTANT, hint="")
    if schema.has_constrained_domain(action.type):
        reason = rule.breaking_reason
        return LockRule(rule.lock, TableWork.REWRITE, reason, "add the column with the domain's base type")
    if action.kind is _K.ADD_FOREIGN_KEY and "default" not in action.detail:
        return replace(rule, lock=_AX, work=TableWork.INSTANT, hint="")
    return replace(rule, lock=_AX)


def _create_index_rule(
    action: StatementAction, rule: LockRule, relation: RelationInfo, schema: SchemaSnapshot
) -> LockRule:
    if action.detail and schema.find(action.name) is not None:
        return replace(rule, work=TableWork.INSTANT, hint="")
    if relation.kind != "p":
        return rule
    if action.kind is _K.CREATE_INDEX_CONCURRENTLY:
        return LockRule(
            *(TableLock.NONE, TableWork.NONE, "the server refuses CONCURRENTLY on a partitioned table"),
            hint="CREATE INDEX … ON ONLY the table, CREATE INDEX CONCURRENTLY on each partition, then ATTACH PARTITION",
        )
    return replace(
        rule,
        hint="CREATE INDEX … ON ONLY the table, CREATE INDEX CONCURRENTLY on each partition, then ATTACH PARTITION",
    )

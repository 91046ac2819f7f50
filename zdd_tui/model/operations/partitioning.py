"""An ordinary table becomes a partitioned one: a second table beside it, kept equal by a trigger until both swap.

In expand the partitioned table is made, with everything that the old one has, and a trigger copies each row that is
written. In backfill the other rows are copied. In contract the two swap in one short transaction, and a trigger copies
what is written to the old table until cleanup, so that a rollback loses nothing.
"""

from dataclasses import replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    Fill,
    OperationOptions,
    OperationStep,
    ReliedKind,
    ReliedObject,
    RenameOperation,
    Requirement,
    StepMode,
    relation_names,
    relation_sql,
    shorten,
)
from zdd_tui.model.operations.generated import HELPER_PREFIX, NEW_PREFIX, OLD_PREFIX, function_sql, prefixed_column
from zdd_tui.model.operations.partition_swap import (
    Partition,
    Partitioning,
    add_foreign_keys,
    create_copy_triggers,
    create_new,
    drop_copy_triggers,
    has_no_key_index,
    key_problems,
    name_problems,
    swap_tables,
    table_problems,
    trial_partitions,
    truncate_trigger,
    validate_foreign_keys,
)
from zdd_tui.model.operations.scope import Scope
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import PartitionSection
from zdd_tui.model.sql import SqlSyntaxError, deparse, name_sql, parse_sql, refuse_placeholder

_BEFORE_18 = "SELECT current_setting('server_version_num')::int < 180000"


def read_partition(section: PartitionSection, options: OperationOptions) -> RenameOperation:
    """The operation of a ``partition:`` section.

    Raises:
        PlanError: the section is no SQL of PostgreSQL, or the partition key holds an expression.
    """
    relation = _parse_table(section.table)
    change = _parse(section, relation, options.scope)
    table = change.table
    if options.scope.is_new(options.scope.relation_key(relation)):
        raise PlanError(f"partition: the migration itself creates {table}", "create it with PARTITION BY")
    *schema, _ = relation_names(relation)
    new = name_sql(*schema, change.new)
    summary = f"partition {table} by {change.by}"
    steps = (*_expand_steps(change, new), *_backfill_steps(change, new), *_contract_steps(change, schema))
    settings = tuple(options.scope.settings.values())
    return RenameOperation(
        section.statements,
        summary,
        tuple(replace(step, are_locks_known=True, settings=settings) for step in steps),
        requirements=(
            Requirement(
                key_problems(change),
                "let the plan name a key that contains the partition key and the present primary key (key: [id,"
                " created_at]), or partition by columns of every unique index; or drop what stands in the way in a"
                " release before",
            ),
            Requirement(table_problems(change), "change that in a release before"),
            Requirement(
                name_problems(change), "correct by and partitions of this section", tried=trial_partitions(change)
            ),
        ),
        settings=settings,
        on=options.scope.relation_key(relation),
        schema=relation.schemaname,
        tables=(change.relation.name,),
    )


def partition_plainly(section: PartitionSection) -> tuple[str, ...]:
    """The steps one after the other, each a script, for a copy of the schema without clients; the table's rows go."""
    operation = read_partition(section, OperationOptions())
    steps = [each for each in operation.steps if each.statements and not each.only_if]
    return (
        f"TRUNCATE {relation_sql(_parse_table(section.table))} CASCADE",
        *("; ".join(step.statements) for step in steps if step.mode is StepMode.TRANSACTION),
    )


def _expand_steps(change: Partitioning, new: str) -> tuple[OperationStep, ...]:
    """The partitioned table and what copies to it; with an index over the new key, if there is one."""
    table = change.table
    lock = f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"
    return (
        OperationStep(
            Phase.EXPAND,
            f"create {new}, partitioned, beside {table}",
            (create_new(change),),
            (f"DROP TABLE {new}",),
            keeps=_second_table(new, change.new),
        ),
        OperationStep(
            Phase.EXPAND,
            f"add the foreign keys of {table} to {new}",
            (add_foreign_keys(change),),
            only_if=_BEFORE_18,
        ),
        OperationStep(
            Phase.EXPAND,
            f"copy to {new} what is written to {table}",
            (lock, create_copy_triggers(change, change.new)),
            (f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE", *drop_copy_triggers(change)),
            keeps=_triggers(change),
        ),
        *_key_index_steps(change),
    )


def _backfill_steps(change: Partitioning, new: str) -> tuple[OperationStep, ...]:
    table = change.table
    return (
        OperationStep(
            Phase.BACKFILL,
            f"copy the rows of {table} to {new}",
            (),
            mode=StepMode.FILL,
            fill=_copy(change, change.new),
        ),
        OperationStep(Phase.BACKFILL, f"analyze {new}", (f"ANALYZE {new}",)),
    )


def _copy(change: Partitioning, into: str) -> Fill:
    """The rows of the table in use, in the other one."""
    copy, differing = function_sql(change.copy_function), function_sql(change.differing_function)
    return Fill(change.table, (), "", into=into, key=change.key, copy=copy, differing=differing)


def _contract_steps(change: Partitioning, schema: list[str]) -> tuple[OperationStep, ...]:
    """The swap, and what a rollback needs: steps with ``is_reversed`` do nothing, their undo runs in opposite order."""
    table = change.table
    new, old = (name_sql(*schema, each) for each in (change.new, change.old))
    lock = f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"

    def step(
        label: str, *statements: str, undo: tuple[str, ...] = (), keeps: tuple[ReliedObject, ...] = ()
    ) -> OperationStep:
        return OperationStep(Phase.CONTRACT, label, statements, undo, is_reversed=not statements, keeps=keeps)

    def compare(label: str, into: str, *, is_reversed: bool = False) -> OperationStep:
        copy = _copy(change, into)
        return OperationStep(
            Phase.CONTRACT, label, (), mode=StepMode.WAIT, compares=copy, is_reversed=is_reversed, are_locks_known=True
        )

    triggers = _triggers(change)
    index = (f"DROP INDEX IF EXISTS {name_sql(*schema, change.key_index)}",) if change.key else ()

    forward, back = create_copy_triggers(change, change.new), create_copy_triggers(change, change.old)
    strict = create_copy_triggers(change, change.new, strict=True)
    strict_back = create_copy_triggers(change, change.old, strict=True)
    return (
        # A transaction that does not see a row's copy could not write it.
        OperationStep(Phase.CONTRACT, f"wait for transactions from before the copy of {table}", (), mode=StepMode.WAIT),
        step(f"refuse rows of {table} that no partition can hold", lock, strict, undo=(lock, forward), keeps=triggers),
        compare(f"compare every row of {table} with {new}", change.new),
        step(f"for a rollback: validate the foreign keys of {table}", undo=(validate_foreign_keys(change),)),
        step(
            f"swap {table} and {new}",
            swap_tables(change, change.new, change.old),
            back,
            undo=(swap_tables(change, change.old, change.new), strict),
            keeps=(*triggers, *_second_table(old, change.old)),
        ),
        # Right after the swap, so that no rollback of it leaves them out.
        compare(f"for a rollback: compare every row of {table} with {old}", change.old, is_reversed=True),
        step(f"for a rollback: refuse rows that {old} cannot hold", undo=(lock, strict_back)),
        step(f"validate the foreign keys of {table}", validate_foreign_keys(change)),
        OperationStep(
            Phase.CLEANUP,
            f"drop {old} and the trigger",
            (
                f"LOCK TABLE {table}, {old} IN ACCESS EXCLUSIVE MODE",
                *drop_copy_triggers(change),
                *index,
                f"DROP TABLE {old}",
            ),
        ),
    )


def _triggers(change: Partitioning) -> tuple[ReliedObject, ...]:
    """With the functions that they call.

    Rows that are written without them are found by the comparison before the swap, and before a rollback of it.
    """
    names = (change.trigger, truncate_trigger(change))
    functions = (change.copy_function, change.differing_function)
    return (
        *(ReliedObject(ReliedKind.TRIGGER, change.table, each) for each in names),
        *(ReliedObject(ReliedKind.FUNCTION, change.table, each) for each in functions),
    )


def _second_table(sql: str, name: str) -> tuple[ReliedObject, ...]:
    return ReliedObject(ReliedKind.TABLE, sql, name), ReliedObject(ReliedKind.HELPERS, sql, HELPER_PREFIX)


def _key_index_steps(change: Partitioning) -> tuple[OperationStep, ...]:
    """A unique index over the new key on the old table: rows are found by it, and ON CONFLICT works by either key."""
    if not change.key:
        return ()
    columns = ", ".join(name_sql(each) for each in change.key)
    return (
        OperationStep(
            Phase.EXPAND,
            f"build an index of the new key of {change.table}",
            (f"CREATE UNIQUE INDEX CONCURRENTLY {name_sql(change.key_index)} ON {change.table} ({columns})",),
            mode=StepMode.BUILD_INDEX,
            index=change.key_index,
            table=change.table,
            is_helper=True,
            only_if=has_no_key_index(change),
        ),
    )


def _parse(section: PartitionSection, relation: Any, scope: Scope) -> Partitioning:
    table, name = relation_sql(relation), relation.relname
    by, columns = _parse_key(section.by)
    return Partitioning(
        table,
        scope.relation_key(relation),
        prefixed_column(NEW_PREFIX, table, name),
        prefixed_column(OLD_PREFIX, table, name),
        by,
        columns,
        tuple(_parse_partition(*each) for each in section.partitions.items()),
        section.key,
    )


_KEY = "CREATE TABLE a (b int) PARTITION BY "
_BOUND = "CREATE TABLE a PARTITION OF b "


def key_sql(key: Any) -> str:
    """A ``PartitionSpec`` as SQL, without PARTITION BY."""
    return _create_sql(f"{_KEY}LIST (b)", "partspec", key).partition(" PARTITION BY ")[2]


def bound_sql(bound: Any) -> str:
    """A ``PartitionBoundSpec`` as SQL, such as ``FOR VALUES IN (1)`` or ``DEFAULT``."""
    return _create_sql(f"{_BOUND}DEFAULT", "partbound", bound).removeprefix(_BOUND)


def _create_sql(pattern: str, field: str, part: Any) -> str:
    """A CREATE TABLE with another part."""
    tree = parse_sql(pattern)
    getattr(tree.stmts[0].stmt.create_stmt, field).CopyFrom(part)
    return deparse(tree)


def _parse_key(by: str) -> tuple[str, tuple[str, ...]]:
    """The partition key as SQL, and its columns."""
    key = _parse_part(f"{_KEY}LIST (b)", f"{_KEY}{by}", "partspec")
    elements = [each.partition_elem for each in key.part_params]
    if not all(each.name for each in elements):
        raise PlanError(
            f"partition: by: {by} holds an expression, and PostgreSQL allows no primary key then",
            "partition by columns",
        )
    return key_sql(key), tuple(each.name for each in elements)


def _parse_partition(name: str, bound: str) -> Partition:
    relation = _parse_table(name)
    values = bound if bound.strip().upper().startswith(("FOR ", "DEFAULT")) else f"FOR VALUES {bound}"
    part = _parse_part(f"{_BOUND}DEFAULT", f"{_BOUND}{values}", "partbound")
    return Partition(relation.schemaname, relation.relname, bound_sql(part))


def _parse_table(name: str) -> Any:
    pattern = "ALTER TABLE a ADD b int"
    tree = _parse_given(f"ALTER TABLE {name} ADD b int", name)
    given = tree.stmts[0].stmt.alter_table_stmt.relation
    plain = parse_sql(pattern)
    plain.stmts[0].stmt.alter_table_stmt.relation.CopyFrom(given)
    if deparse(plain) != deparse(tree) or not given.inh or given.catalogname:
        raise PlanError(f"partition: {name} is not the name of a table", "write it as events or public.events")
    return given


def _parse_part(pattern: str, text: str, field: str) -> Any:
    """The part of a statement in which it differs from a pattern.

    Raises:
        PlanError: it is no SQL, or differs in more.
    """
    tree = _parse_given(text, text)
    part = getattr(tree.stmts[0].stmt.create_stmt, field)
    if _create_sql(pattern, field, part) != deparse(tree):
        raise PlanError(f"partition: {shorten(text)} holds more than a partition key or bound", "leave the rest out")
    return part


def _parse_given(text: str, what: str) -> Any:
    try:
        tree = parse_sql(text)
    except SqlSyntaxError as error:
        refuse_placeholder(text, error)
        raise PlanError(
            f"partition: {shorten(what)}: {error.reason}", "see `partition:` in docs/operations.md"
        ) from None
    refuse_placeholder(text)
    return tree

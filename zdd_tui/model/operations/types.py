"""ALTER COLUMN TYPE: directly where only the catalog changes, else through a second column of the new type. A domain
with constraints is in :mod:`zdd_tui.model.operations.domain_types`.

The second column is filled by a trigger and in batches while the old one is in use. In contract it gets the indexes and
constraints of the old one, built and validated without blocking writers; then the two columns swap their names,
defaults, identities and constraints in one short transaction, for all tables of the migration together, so that a key
and the foreign keys that point at it change at once. The old column is kept up to date until cleanup, and a rollback
goes the same way in the other direction.
"""

# ruff: noqa: S608  names are quoted by the parser's own rules, expressions are those of the statement

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    MAX_VIOLATIONS,
    Fill,
    Operation,
    OperationOptions,
    OperationStep,
    ReliedKind,
    ReliedObject,
    Requirement,
    StepMode,
    Violation,
    column_exists,
    on_new_table,
    relation_sql,
    same_table,
)
from zdd_tui.model.operations.direct_types import NEVER, is_direct_query, narrow_again
from zdd_tui.model.operations.domain_types import (
    DOMAIN_HINT,
    archived_views,
    change_to_domain,
    describe_checked_domain,
    domain_requirement,
    domain_violations,
    drop_and_create_archived_views,
    former_type_query,
    is_checked_domain_query,
    join_statements_query,
)
from zdd_tui.model.operations.generated import (
    HELPER_PREFIX,
    NEW_PREFIX,
    OLD_PREFIX,
    derived_name,
    differs,
    function_name,
    function_sql,
    prefixed_column,
)
from zdd_tui.model.operations.scope import ObjectKey, part_key
from zdd_tui.model.operations.type_swap import (
    ColumnNames,
    add_constraints,
    copy_properties,
    drop_and_create_views,
    drop_constraints,
    recreate_triggers,
    recreate_views,
    swap_columns,
    used_by_triggers_query,
    used_by_views_query,
    validate_constraints,
)
from zdd_tui.model.operations.views import VIEW, created_view
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import (
    dollar_quoted,
    expression_sql,
    name_sql,
    node_class,
    parse_expression,
    parse_sql,
    quote_literal,
    read_names,
    single_command_sql,
    string_values,
    type_sql,
    walk,
    with_record,
)

_LAST_TRIGGER = "~"
"""Ours fires after all others of its event, which may change the column."""


@dataclass(frozen=True, slots=True)
class TypeChange:
    """A column that gets another type.

    Attributes:
        table: as SQL.
        key: of the table.
        statement: the plain statement.
        up: the expression that computes the new value, over the columns of the row.
        down: the expression that computes the old value; empty for an assignment.
        is_default_dropped: the migration drops the default before.
        is_domain: a query of one truth value: the new type is a domain with constraints over the type that it has.
        removed_indexes, removed_views: those that the migration drops before, as SQL.
        removed_triggers: the names of those of the table that it drops before.
        default: the statement that gives the new column a default of its own; empty where it gets that of the old one.
        swapped: the change with the names that the types have after the swap; None where they are the same.
    """

    table: str
    key: ObjectKey
    column: str
    type: str
    collation: str
    statement: str
    up: str
    down: str
    is_default_dropped: bool = False
    is_domain: str = NEVER
    removed_indexes: tuple[str, ...] = ()
    removed_views: tuple[str, ...] = ()
    removed_triggers: tuple[str, ...] = ()
    default: str = ""
    swapped: "TypeChange | None" = None

    @property
    def after(self) -> "TypeChange":
        """The change as it is written after the swap."""
        return self.swapped or self

    @property
    def label(self) -> str:
        return f"{self.table}.{name_sql(self.column)}"

    @property
    def new(self) -> str:
        return prefixed_column(NEW_PREFIX, self.table, self.column)

    @property
    def old(self) -> str:
        return prefixed_column(OLD_PREFIX, self.table, self.column)

    @property
    def function(self) -> str:
        return function_name("retype", self.key, self.column)

    @property
    def trigger_name(self) -> str:
        return derived_name(f"{_LAST_TRIGGER}zdd_retype", self.key.name, self.column)

    @property
    def trigger(self) -> str:
        return name_sql(self.trigger_name)

    @property
    def names(self) -> ColumnNames:
        return (self.table, self.column, bool(self.default))

    def value(self, expression: str) -> str:
        """An expression as a value of the new type, without its column's checks."""
        return f"CAST(({expression}) AS {self.type})"


@dataclass(frozen=True, slots=True)
class TypeSwap:
    """Types whose names change places in the transaction that swaps the columns.

    Attributes:
        forward, back: statements.
    """

    forward: tuple[str, ...] = ()
    back: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TypeOperation(Operation):
    """The operation of one change. The contract steps of all changes of a plan are combined."""

    changes: tuple[TypeChange, ...] = ()


def read_column_type(alter: Any, command: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """ALTER COLUMN TYPE, with COLLATE and USING."""
    table, column = relation_sql(alter.relation), command.alter_table_cmd.name
    if options.scope.is_new(options.scope.relation_key(alter.relation)):
        return (on_new_table(text, f"change the type of {table}.{name_sql(column)}"),)
    definition = getattr(command.alter_table_cmd, "def").column_def
    using = definition.raw_default.WhichOneof("node") is not None
    up = _unqualified(expression_sql(definition.raw_default)) if using else name_sql(column)
    collation = string_values(definition.coll_clause.collname) if definition.HasField("coll_clause") else []
    type_text = type_sql(definition.type_name)
    key = options.scope.relation_key(alter.relation)
    is_default_dropped = (key, column) in options.scope.dropped_defaults
    is_domain = is_checked_domain_query(table, column, definition.type_name, type_text)
    if using or collation or is_default_dropped:
        is_domain = NEVER
    options.scope.retyped_columns.add((key, column))
    change = TypeChange(
        table,
        key,
        column,
        type_text,
        name_sql(*collation) if collation else "",
        single_command_sql(alter, command),
        up,
        _unqualified(down) if (down := options.down_of(column)) else "",
        is_default_dropped,
        is_domain,
        tuple(options.scope.removed_indexes),
        tuple(options.scope.removed_views),
        tuple(sorted(name for on, name in options.scope.removed_triggers if on == key)),
    )
    created = options.scope.checked_domains.get(options.scope.key("type", string_values(definition.type_name.names)))
    if created is not None and is_domain == NEVER:
        raise PlanError(f"{change.label}: {describe_checked_domain(change.type)}", DOMAIN_HINT)
    is_direct = NEVER if using or collation else is_direct_query(table, column, definition.type_name)
    first = _expand_steps(change, is_direct)
    steps = (
        *(first if is_direct != NEVER else first[1:]),
        *_backfill_steps(change),
        *_contract_steps([change], TypeSwap()),
        _cleanup(change),
    )
    summary = f"change the type of {change.label} to {change.type}"
    required = Requirement(
        used_by_views_query(table, column, change.removed_views),
        "where it is a plain view, DROP VIEW before and CREATE VIEW after, in this migration; else drop it in a release"
        " before, and create it again in one after it",
    )
    triggers = Requirement(
        used_by_triggers_query(table, column, change.removed_triggers),
        "drop it before, and create it again after the change, in this migration",
    )
    is_possible = is_domain != NEVER
    domain = domain_requirement(table, column, type_text, change.removed_views, created, is_possible=is_possible)
    violations = domain_violations(table, column, type_text, created) if is_possible else ()
    return (
        TypeOperation(
            text,
            summary,
            _with_known_locks(steps),
            violations,
            requirements=(required, triggers, domain),
            changes=(change,),
        ),
    )


def _with_known_locks(steps: Iterable[OperationStep]) -> tuple[OperationStep, ...]:
    return tuple(replace(step, are_locks_known=True) for step in steps)


def _unqualified(expression: str) -> str:
    """An expression whose columns have no table's name."""
    tree = parse_expression(expression)
    for node in walk(tree):
        if node_class(node) == "ColumnRef":
            column = string_values(node.fields)[-1]
            del node.fields[:]
            node.fields.add().string.sval = column
    return expression_sql(tree)


def combine_type_changes(operations: Iterable[Operation], types: TypeSwap) -> tuple[Operation, ...]:
    """The contract steps of all changes of types as one sequence, in the last of their operations.

    A foreign key may point from one changed column to another one: both need their copy first, and swap together.

    Views of the columns that the migration creates after the first change are made for those of before. They are
    created again when the columns swap.

    Raises:
        PlanError: they do not belong to the same settings of the session; or a materialized view is made for them.
    """
    found = _move_late_indexes(list(operations))
    numbers = [number for number, each in enumerate(found) if isinstance(each, TypeOperation)]
    changes = [change for number in numbers for change in found[number].changes]  # type: ignore[attr-defined]
    views = _views_of(changes, found[numbers[0] :] if numbers else ())
    naming = next((each for each in views if NEW_PREFIX in each.text), None)
    if types.forward and naming is not None:
        raise PlanError(
            f"{naming.summary}: it names a type whose name changes in contract",
            "create it in a release of its own",
        )
    named = _triggers_of(changes, found[numbers[0] :] if numbers else ())
    if len({found[number].settings for number in numbers} | {each.settings for each in (*views, *named)}) > 1:
        raise PlanError(
            "columns change their types under different settings of the session, and all of them swap in one step",
            "write the ALTER TABLE statements without a SET between them, with the names of the schemas",
        )
    again = [(created_view(each), each.steps[0].statements[0]) for each in views]
    triggers = [(_drop_trigger(each), each.steps[0].statements[0]) for each in named]
    for number in numbers:
        each = found[number]
        kept = [step for step in each.steps if step.phase is not Phase.CONTRACT]
        combined = _contract_steps(changes, types, again, triggers) if number == numbers[-1] else ()
        own = [replace(step, settings=each.settings) for step in _with_known_locks(combined)]
        place = next(index for index, step in enumerate(kept) if step.phase is Phase.CLEANUP)
        found[number] = replace(
            each,
            steps=(*kept[:place], *own, *kept[place:]),
            rollback_losses=tuple(map(_rollback_loss, each.changes)),  # type: ignore[attr-defined]
        )
    return tuple(found)


def _move_late_indexes(operations: list[Operation]) -> list[Operation]:
    """The operations, where indexes that contract builds on changed tables, and what it does with them, come after all
    columns have swapped."""
    numbers = [number for number, each in enumerate(operations) if isinstance(each, TypeOperation)]
    if not numbers:
        return operations
    changed = {same_table(change.table) for n in numbers for change in operations[n].changes}  # type: ignore[attr-defined]
    kept: list[Operation] = []
    late: list[Operation] = []
    names: set[str] = set()
    for each in operations[numbers[0] : numbers[-1]]:
        own = {step.index for step in each.steps if _is_late_index(step, changed)}
        is_in_contract = all(step.phase is Phase.CONTRACT for step in each.steps)
        is_about = is_in_contract and not names.isdisjoint(re.findall(r"\w+", each.text))
        (late if own or is_about else kept).append(each)
        names |= own
    return [*operations[: numbers[0]], *kept, operations[numbers[-1]], *late, *operations[numbers[-1] + 1 :]]


def _is_late_index(step: OperationStep, changed: set[str]) -> bool:
    return step.phase is Phase.CONTRACT and step.mode is StepMode.BUILD_INDEX and same_table(step.table) in changed


def _triggers_of(changes: Sequence[TypeChange], created: Iterable[Operation]) -> tuple[Operation, ...]:
    """The triggers of a table that name a changed column of it."""
    found = []
    for each in created:
        if each.creates is None or each.creates.space != "trigger" or each.steps[0].phase is not Phase.EXPAND:
            continue
        columns = {one.column for one in changes if each.creates == part_key("trigger", one.key, each.creates.name)}
        trigger = parse_sql(each.text).stmts[0].stmt.create_trig_stmt
        refs = (
            string_values(node.fields)[-1:] for node in walk(trigger.when_clause) if node_class(node) == "ColumnRef"
        )
        if columns.intersection(string_values(trigger.columns)) or columns & {name for ref in refs for name in ref}:
            found.append(each)
    return tuple(found)


def _drop_trigger(operation: Operation) -> str:
    trigger = parse_sql(operation.text).stmts[0].stmt.create_trig_stmt
    return f"DROP TRIGGER {name_sql(trigger.trigname)} ON {relation_sql(trigger.relation)}"


def _views_of(changes: Sequence[TypeChange], created: Iterable[Operation]) -> tuple[Operation, ...]:
    """The views that read a changed column, or another one of these views.

    Raises:
        PlanError: one is materialized, and would be computed again under a lock.
    """
    found: dict[str, Operation] = {}
    for each in created:
        if each.creates is None or (view := VIEW.match(each.summary)) is None:
            continue
        names = read_names(each.text)
        used = [one for one in changes if one.key.name in names and not names.isdisjoint((one.column, "*"))]
        if not used and names.isdisjoint(found):
            continue
        is_late = each.steps[0].phase is Phase.CONTRACT
        if view[1] or is_late:
            reason = "is created there, too" if is_late else "would be computed again under a lock"
            raise PlanError(
                f"{each.summary}: it reads {(used or changes)[0].label}, whose type changes in contract, and {reason}",
                "create it in a release after this one",
            )
        found[each.creates.name] = each
    return tuple(found.values())


# --- phases


def _expand_steps(change: TypeChange, is_direct: str) -> tuple[OperationStep, ...]:
    table, new = change.table, name_sql(change.new)
    collate = f" COLLATE {change.collation}" if change.collation else ""
    return (
        OperationStep(
            Phase.EXPAND,
            f"change the type of {change.label} to {change.type}, in the catalog alone",
            (change.statement,),
            undo_query=narrow_again(table, change.column),
            only_if=is_direct,
        ),
        OperationStep(
            Phase.EXPAND,
            f"add column {table}.{new} of type {change.type}",
            (
                f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
                f"ALTER TABLE {table} ADD COLUMN {new} {change.type}{collate}",
                copy_properties(
                    table,
                    change.column,
                    change.new,
                    _on_probe(change),
                    change.removed_indexes,
                    change.removed_views,
                    change.removed_triggers,
                ),
                _forward(change),
                f"CREATE TRIGGER {change.trigger} BEFORE INSERT OR UPDATE ON {table}"
                f" FOR EACH ROW EXECUTE FUNCTION {function_sql(change.function)}()",
                f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {change.trigger}",
            ),
            (
                f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
                f"DROP TRIGGER {change.trigger} ON {table}",
                f"DROP FUNCTION {function_sql(change.function)}()",
                f"ALTER TABLE {table} DROP COLUMN {new}",
            ),
            only_if=f"SELECT NOT ({is_direct}) AND NOT ({change.is_domain})",
            keeps=(
                ReliedObject(ReliedKind.COLUMN, table, change.new),
                ReliedObject(ReliedKind.TRIGGER, table, change.trigger_name, _verify_condition(change)),
            ),
        ),
    )


PROBE = "zdd_probe"


def _on_probe(change: TypeChange) -> str:
    """The plain statement on an empty copy of the table: PostgreSQL says what it would refuse."""
    column = name_sql(change.column)
    collate = f" COLLATE {change.collation}" if change.collation else ""
    using = "" if change.up == column else f" USING {change.up}"
    drop = f"ALTER COLUMN {column} DROP DEFAULT, " if change.is_default_dropped else ""
    return f"ALTER TABLE pg_temp.{PROBE} {drop}ALTER COLUMN {column} TYPE {change.type}{collate}{using}"


def _backfill_steps(change: TypeChange) -> tuple[OperationStep, ...]:
    table, new = change.table, name_sql(change.new)
    needed = column_exists(table, change.new)
    return (
        OperationStep(
            Phase.BACKFILL,
            f"fill {table}.{new} from {name_sql(change.column)}",
            (),
            mode=StepMode.FILL,
            only_if=needed,
            fill=Fill(table, ((change.new, change.up),), differs(new, change.value(change.up))),
        ),
        OperationStep(Phase.BACKFILL, f"analyze {table}.{new}", (f"ANALYZE {table} ({new})",), only_if=needed),
    )


def _contract_steps(
    changes: Sequence[TypeChange],
    types: TypeSwap,
    views: Sequence[tuple[str, str]] = (),
    triggers: Sequence[tuple[str, str]] = (),
) -> tuple[OperationStep, ...]:
    """Indexes and constraints for the new columns, the swap, and what a rollback needs to prepare before it swaps back.

    Steps with ``is_reversed`` do nothing; their undo is the preparation, in the opposite order.

    Args:
        views: name as SQL and CREATE VIEW of each that is made for the columns.
        triggers: DROP TRIGGER and CREATE TRIGGER of each that names one of the columns.
    """
    is_swapped = " OR ".join(f"({column_exists(each.table, each.old)})" for each in changes)
    is_swapped_back = " OR ".join(f"({column_exists(each.table, each.new)})" for each in changes)
    swapped = recreate_views(views, is_swapped) + recreate_triggers(triggers, is_swapped)
    swapped_back = recreate_views(views, is_swapped_back) + recreate_triggers(triggers, is_swapped_back)
    names = [change.names for change in changes]
    columns = ", ".join(change.label for change in changes)
    tables = dict.fromkeys(change.table for change in changes)
    strict = [each for change in changes for each in _if_exists(change, change.new, _forward(change, strict=True))]
    lenient = [each for change in changes for each in _if_exists(change, change.new, _forward(change))]
    locks = [
        each
        for change in changes
        for each in _if_exists(change, change.new, f"LOCK TABLE {change.table} IN SHARE ROW EXCLUSIVE MODE")
    ]

    def step(
        label: str,
        *statements: str,
        undo: Sequence[str] = (),
        is_reversed: bool = False,
        keeps: Sequence[ReliedObject] = (),
    ) -> OperationStep:
        return OperationStep(
            Phase.CONTRACT, label, tuple(statements), tuple(undo), is_reversed=is_reversed, keeps=tuple(keeps)
        )

    def index_steps(prefix: str, *, is_reversed: bool) -> list[OperationStep]:
        what = "for a rollback: build" if is_reversed else "build"
        return [
            OperationStep(
                Phase.CONTRACT,
                f"{what} the indexes of {', '.join(own.label for own in changes if own.table == table)}"
                f" for the {'old' if is_reversed else 'new'} type",
                (),
                mode=StepMode.COPY_INDEXES,
                table=table,
                copies=tuple((own.column, prefix + own.column) for own in changes if own.table == table),
                is_reversed=is_reversed,
            )
            for table in tables
        ]

    compare = [
        _require_equal(change, change.new, name_sql(change.column), _verify_condition(change)) for change in changes
    ]
    compare_back = [
        _require_equal(change, change.old, name_sql(change.old), _lossless_condition(change.after))
        for change in changes
    ]
    reverse = [each for change in changes for each in _if_exists(change, change.old, _reverse(change.after))]
    strict_back = [
        each for change in changes for each in _if_exists(change, change.old, _reverse(change.after, strict=True))
    ]
    lock_back = [
        each
        for change in changes
        for each in _if_exists(change, change.old, f"LOCK TABLE {change.table} IN SHARE ROW EXCLUSIVE MODE")
    ]
    return (
        step(f"refuse values of {columns} that the new type cannot hold", *locks, *strict, undo=lenient),
        step(f"compare every row of {columns} with its new value", *compare),
        OperationStep(  # after the swap they would read NULL under the column's name
            Phase.CONTRACT,
            f"wait for transactions from before {columns} got its new value",
            (),
            mode=StepMode.WAIT,
            only_if=f"SELECT {is_swapped_back}",
        ),
        *index_steps(NEW_PREFIX, is_reversed=False),
        step(
            f"add the constraints of {columns} for the new type, not validated",
            add_constraints(names, NEW_PREFIX, OLD_PREFIX),
            undo=(drop_constraints(names),),
            keeps=[ReliedObject(ReliedKind.HELPERS, table, HELPER_PREFIX) for table in tables],
        ),
        step(f"validate the constraints of {columns}", validate_constraints(names)),
        step(
            f"swap {columns} for the columns of the new type",
            swap_columns(names, NEW_PREFIX, OLD_PREFIX),
            *types.forward,
            *swapped,
            *reverse,
            undo=(*types.back, swap_columns(names, OLD_PREFIX, NEW_PREFIX), *swapped_back, *lenient),
            keeps=[
                ReliedObject(ReliedKind.TRIGGER, each.table, each.trigger_name, _unkept_condition(each.after))
                for each in changes
            ],
        ),
        step(
            f"for a rollback: validate the constraints of {columns}",
            undo=(validate_constraints(names),),
            is_reversed=True,
        ),
        step(
            f"for a rollback: add the constraints of {columns} for the old type",
            undo=(add_constraints(names, OLD_PREFIX, NEW_PREFIX),),
            is_reversed=True,
        ),
        *index_steps(OLD_PREFIX, is_reversed=True),
        step(f"for a rollback: compare every row of {columns} with its old value", undo=compare_back, is_reversed=True),
        step(
            f"for a rollback: refuse values of {columns} that the old type cannot hold",
            undo=(*lock_back, *strict_back),
            is_reversed=True,
        ),
        # The first undo steps: they stop the rollback before anything has changed.
        step(f"for a rollback: find values of {columns} that would be lost", undo=compare_back, is_reversed=True),
        *_domain_steps(changes, views),
    )


def _domain_steps(changes: Sequence[TypeChange], views: Sequence[tuple[str, str]]) -> tuple[OperationStep, ...]:
    """The plain statements of columns that get a domain with constraints, in one transaction."""
    own = [each for each in changes if each.is_domain != NEVER]
    if not own:
        return ()
    drop, create = drop_and_create_views(views)
    archived = archived_views(
        [(each.table, each.column) for each in own], dict.fromkeys(view for each in own for view in each.removed_views)
    )
    drop_archived, create_archived = drop_and_create_archived_views(archived)
    statements = [change_to_domain(each.table, each.column, each.statement, each.is_domain) for each in own]
    types = [former_type_query(each.table, each.column, each.is_domain) for each in own]
    return (
        OperationStep(
            Phase.CONTRACT,
            f"test {', '.join(each.label for each in own)}, where the new type is a domain with constraints",
            (*drop, *drop_archived, *statements, *create_archived, *create),
            undo_query=join_statements_query(drop, (archived[0], *types, *archived[1:]), create),
            only_if="SELECT " + " OR ".join(f"({each.is_domain})" for each in own),
        ),
    )


def _rollback_loss(change: TypeChange) -> Violation:
    column, condition = name_sql(change.column), _lossless_condition(change.after)
    return Violation(
        f"{change.label} has a value that is not the same in the old type",
        f"SELECT count(*)::int FROM (SELECT FROM {change.table} WHERE {condition} LIMIT {MAX_VIOLATIONS})"
        " AS zdd_violating",
        change.table,
        (change.column,),
        condition,
        sample=f"SELECT string_agg(quote_literal(zdd_value), ', ') FROM (SELECT DISTINCT ({column})::text AS zdd_value"
        f" FROM {change.table} WHERE {condition} ORDER BY 1 LIMIT 10) AS zdd_values",
    )


def _cleanup(change: TypeChange) -> OperationStep:
    old = name_sql(change.old)
    return OperationStep(
        Phase.CLEANUP,
        f"drop {change.table}.{old} and its trigger",
        (
            f"LOCK TABLE {change.table} IN ACCESS EXCLUSIVE MODE",
            f"DROP TRIGGER {change.trigger} ON {change.table}",
            f"DROP FUNCTION {function_sql(change.function)}()",
            f"ALTER TABLE {change.table} DROP COLUMN {old}",
        ),
        only_if=column_exists(change.table, change.old),
    )


# --- triggers and comparisons


def _if_exists(change: TypeChange, column: str, statement: str) -> tuple[str]:
    """A statement that runs only where the second column exists: not where the catalog alone was changed."""
    code = f"""
BEGIN
  IF ({column_exists(change.table, column)}) THEN
    EXECUTE {quote_literal(statement)};
  END IF;
END
"""
    return (f"DO {dollar_quoted(code)}",)


def _verify_condition(change: TypeChange) -> str:
    return differs(name_sql(change.new), change.value(change.up))


def _lossless_condition(change: TypeChange) -> str:
    up = _with_columns(change.up, {change.column: change.old})
    return differs(name_sql(change.column), change.value(up))


def _unkept_condition(change: TypeChange) -> str:
    """Rows whose old column is not what the trigger would have written. Where it is NULL, the value had no old one."""
    return f"{name_sql(change.old)} IS NOT NULL AND {_lossless_condition(change)}"


def _with_columns(expression: str, columns: dict[str, str]) -> str:
    tree = parse_expression(expression)
    for node in walk(tree):
        if node_class(node) == "ColumnRef":
            name = node.fields[-1].string
            name.sval = columns.get(name.sval, name.sval)
    return expression_sql(tree)


def _require_equal(change: TypeChange, column: str, source: str, condition: str) -> str:
    message = (
        f"% rows of {change.label.replace('%', '%%')} would lose their value: it is not the same in the other type"
    )
    code = f"""
DECLARE
  zdd_count bigint;
BEGIN
  IF ({column_exists(change.table, column)}) THEN
    EXECUTE {quote_literal(f"SELECT count(*) FROM {change.table} WHERE {condition}")} INTO zdd_count;
    IF zdd_count > 0 THEN RAISE EXCEPTION {quote_literal(message)}, zdd_count; END IF;
  END IF;
END
"""
    return f"DO {dollar_quoted(code)}"


def _forward(change: TypeChange, *, strict: bool = False) -> str:
    """Fills the column of the new type. A value that it cannot hold leaves it NULL, until the change is strict."""
    new = name_sql(change.new)
    assign = f"NEW.{new} := {with_record(change.up, 'new', {})};"
    return _trigger_function(change, assign if strict else _caught(assign, f"NEW.{new} := NULL;"))


def _reverse(change: TypeChange, *, strict: bool = False) -> str:
    """Keeps the old column, where its value gives the new one again; else it is NULL, and a rollback would lose it.

    So two new values never have one old value, and a unique index of the old column can be built again.
    """
    c, old = name_sql(change.column), name_sql(change.old)
    down = with_record(change.down, "new", {}) if change.down else f"NEW.{c}"
    again = change.value(with_record(change.up, "new", {change.column: change.old}))
    lost = f"NEW.{old} := NULL;"
    refuse = f"RAISE EXCEPTION 'the old type of column % cannot hold the value', {quote_literal(change.column)};"
    code = f"""NEW.{old} := {down};
    IF {differs(again, f"NEW.{c}")} THEN
      {refuse if strict else lost}
    END IF;"""
    return _trigger_function(change, code if strict else _caught(code, lost))


def _caught(code: str, otherwise: str) -> str:
    return f"BEGIN\n    {code}\n  EXCEPTION WHEN OTHERS THEN\n    {otherwise}\n  END;"


def _trigger_function(change: TypeChange, code: str) -> str:
    """A function with the rights of its owner, in which names and times are read as in the session that makes it."""
    body = dollar_quoted(f"\n#variable_conflict use_column\nBEGIN\n  {code}\n  RETURN NEW;\nEND\n")
    statement = (
        f"CREATE OR REPLACE FUNCTION {function_sql(change.function)}() RETURNS trigger LANGUAGE plpgsql"
        f" SECURITY DEFINER SET search_path = {{{{path}}}}, pg_temp SET timezone FROM CURRENT AS {body}"
    )
    execute = (
        f"\nBEGIN\n  EXECUTE replace({quote_literal(statement)}, '{{{{path}}}}',"
        " nullif(current_setting('search_path'), ''));\nEND\n"
    )
    return f"DO {dollar_quoted(execute)}"

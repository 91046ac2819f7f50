"""Types that change places: an enum that the migration replaces by another one of its name.

``ALTER TYPE x RENAME TO x_old; CREATE TYPE x …; ALTER COLUMN TYPE x; DROP TYPE x_old``, or the same with a new type
``x_new`` that gets the name at the end. Running code casts to ``x``, so the names change places in contract, in the
transaction that swaps the columns. Until then every statement of the migration is read with the names that the types
have: the scope holds them.
"""

# ruff: noqa: S608  names are quoted by the parser's own rules, expressions are those of the statement

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    MAX_VIOLATIONS,
    Operation,
    OperationStep,
    Requirement,
    StepMode,
    TypeRename,
    Violation,
    default_topic,
    old_object_name,
    same_table,
    shorten,
)
from zdd_tui.model.operations.scope import ObjectKey, Scope
from zdd_tui.model.operations.types import TypeChange, TypeOperation, TypeSwap
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import (
    deparse,
    enum_name,
    expression_sql,
    name_sql,
    node_class,
    parse_expression,
    parse_sql,
    quote_literal,
    string_values,
    walk,
)

_NAMING_KINDS = ("alter_enum_stmt", "alter_object_schema_stmt", "alter_owner_stmt", "alter_type_stmt", "grant_stmt")
"""Statements that may name a type by its plain name."""


def resolve_type_names(node: Any, text: str, scope: Scope) -> tuple[Any, str]:
    """A statement with the names that its types have until contract.

    Raises:
        PlanError: it changes a type that the migration has renamed.
    """
    if not scope.type_names:
        return node, text
    kind = node.WhichOneof("node")
    if kind in _NAMING_KINDS:
        for key in scope.type_names:
            if any(each.sval == key.name for each in walk(node) if node_class(each) == "String"):
                raise PlanError(
                    f"{shorten(text)}: the migration has given the name {name_sql(key.name)} to another type",
                    "write it before the type is renamed; or in a release of its own",
                )
    tree = parse_sql(text)
    is_changed = False
    for each in walk(tree):
        if node_class(each) == "TypeName" and (names := string_values(each.names)):
            current = scope.type_names.get(scope.key("type", names))
            if current is not None:
                each.names[-1].string.sval = current.name
                is_changed = True
    return (tree.stmts[0].stmt, deparse(tree)) if is_changed else (node, text)


def rename_type(statement: Any, text: str, scope: Scope) -> TypeRename | None:
    """The rename of a type that running code knows, or to the name of such a type; None for any other rename."""
    *schema, last = string_values(statement.object.list.items)
    written = scope.key("type", [*schema, last])
    key, target = scope.type_names.get(written, written), replace(written, name=statement.newname)
    is_new = scope.is_new(key)
    if is_new and written not in scope.type_names and target not in scope.moved_types | scope.removed_types:
        return None
    scope.type_names.pop(written, None)
    scope.type_names[target] = key
    if not is_new:
        scope.moved_types.add(key)
    names = (*schema, key.name)
    summary = f"rename type {name_sql(*names)} to {name_sql(target.name)}"
    return TypeRename(text, summary, (), key=key, names=names, name=target.name, is_new=is_new)


def combine_type_renames(operations: Sequence[Operation]) -> tuple[tuple[Operation, ...], TypeSwap]:
    """The operations without the renames of types, and how the names change places in contract.

    Raises:
        PlanError: a type gets another name and no other type has its name afterwards; or an operation needs the new
            type before it has its name.
    """
    renames = {each.key: each for each in operations if isinstance(each, TypeRename)}
    found = [each for each in operations if not isinstance(each, TypeRename)]
    taken = {replace(key, name=each.name) for key, each in renames.items() if each.is_new}
    drops = {
        each.archives: number
        for number, each in enumerate(found)
        if each.archives is not None and each.archives.space == "type" and len(each.steps) > 1
    }
    for key, each in renames.items():
        if not each.is_new and key not in drops and key not in taken:
            raise _refuse_rename(each)
    pairs: list[tuple[str, str]] = []
    names: dict[ObjectKey, str] = {}
    for key in sorted(taken, key=str):
        if key in drops:
            archive, *others = found[drops[key]].steps
            pairs += zip(archive.statements, archive.undo, strict=True)
            names[key] = old_object_name(key.name)
            found[drops[key]] = replace(found[drops[key]], steps=tuple(others), removes=())
        else:
            pairs.append(_rename_sql(renames[key]))
            names[key] = renames[key].name
    successors = {key: each for key, each in renames.items() if each.is_new}
    pairs += map(_rename_sql, successors.values())
    names |= {key: each.name for key, each in successors.items()}
    swap = TypeSwap(tuple(sql for sql, _ in pairs), tuple(sql for _, sql in reversed(pairs)))
    _check_statements_after_swap(found, list(successors))
    return _with_columns(found, drops.values(), names, swap), swap


def _with_columns(
    found: list[Operation], drops: Iterable[int], names: Mapping[ObjectKey, str], swap: TypeSwap
) -> tuple[Operation, ...]:
    """
    Args:
        drops: the positions of each DROP TYPE.
        names: what types are named after the swap, by their name before it.
    """
    labels = {key: values for each in found for key, values in _created_labels(each)}
    for number, operation in enumerate(found):
        if isinstance(operation, TypeOperation):
            found[number] = _with_new_type(operation, names, labels)
    _move_defaults(found)
    changes = [each for one in found if isinstance(one, TypeOperation) for each in one.changes]
    for number in drops if changes else ():
        found[number] = _require_no_user(found, number, changes)
    if swap.forward and not changes:
        step = OperationStep(Phase.CONTRACT, "rename types", swap.forward, swap.back)
        found.append(Operation("; ".join(swap.forward), step.label, (step,)))
    return tuple(found)


def _rename_sql(rename: TypeRename) -> tuple[str, str]:
    *schema, last = rename.names
    return (
        f"ALTER TYPE {name_sql(*rename.names)} RENAME TO {name_sql(rename.name)}",
        f"ALTER TYPE {name_sql(*schema, rename.name)} RENAME TO {name_sql(last)}",
    )


def _refuse_rename(rename: TypeRename) -> PlanError:
    old, new = name_sql(*rename.names), name_sql(rename.name)
    return PlanError(
        f"{rename.summary}: running code that casts to {old} would fail, and so would a new version that casts to"
        f" {new} before: a type has one name only, and a domain beside it has no operators with it",
        f"keep {old} in the database and map the name in the program (Prisma: @@map); where no version casts to"
        f" it, give the operation phase: contract and undo: ALTER TYPE {new} RENAME TO {name_sql(rename.names[-1])}",
    )


def _check_statements_after_swap(operations: Sequence[Operation], keys: Sequence[ObjectKey]) -> None:
    """
    Raises:
        PlanError: a statement that runs after the swap has the name that a type has before it.
    """
    last = max((n for n, each in enumerate(operations) if isinstance(each, TypeOperation)), default=0)
    for operation in operations[last + 1 :]:
        for step in operation.steps:
            if step.phase in (Phase.CONTRACT, Phase.CLEANUP) and any(
                key.name in sql for key in keys for sql in step.statements
            ):
                raise PlanError(
                    f"{operation.summary}: it names a type that gets its name in the same phase",
                    "write it in a release of its own; or without the type: 'value' instead of 'value'::type",
                )


# --- the columns


def _created_labels(operation: Operation) -> list[tuple[ObjectKey, tuple[str, ...]]]:
    """The values of an enum that the operation creates, by the name that it has until contract."""
    if operation.creates is None or operation.creates.space != "type" or not operation.steps:
        return []
    node = parse_sql(operation.steps[0].statements[0]).stmts[0].stmt
    if node.WhichOneof("node") != "create_enum_stmt":
        return []
    key = replace(operation.creates, name=string_values(node.create_enum_stmt.type_name)[-1])
    return [(key, tuple(string_values(node.create_enum_stmt.vals)))]


def _find_type(type_name: Any, keys: Iterable[ObjectKey]) -> ObjectKey | None:
    names = string_values(type_name.names)
    return next((key for key in keys if names in ([key.name], [key.schema, key.name])), None)


def _with_types(expression: str, names: Mapping[ObjectKey, str]) -> str:
    """An expression in which types have other names."""
    tree = parse_expression(expression)
    for each in walk(tree):
        if node_class(each) == "TypeName" and (key := _find_type(each, names)) is not None:
            each.names[-1].string.sval = names[key]
    return expression_sql(tree)


def _with_new_type(
    operation: TypeOperation, names: Mapping[ObjectKey, str], labels: Mapping[ObjectKey, tuple[str, ...]]
) -> TypeOperation:
    """With the names that the types have after the swap, and the rows whose value the new type lacks."""
    (change,) = operation.changes
    type_name = parse_expression(f"NULL::{change.type}").type_cast.type_name
    if names:
        type_after = _with_types(f"NULL::{change.type}", names).removeprefix("NULL::")
        down = _with_types(change.down, names) if change.down else ""
        change = replace(change, swapped=replace(change, type=type_after, up=_with_types(change.up, names), down=down))
    key = _find_type(type_name, labels)
    if key is None:
        return replace(operation, changes=(change,))
    violation = _count_lacking_values(
        change, labels[key], key, names.get(key, key.name), is_array=bool(type_name.array_bounds)
    )
    note = _note_new_values(change, labels[key])
    return replace(
        operation,
        changes=(change,),
        violations=(*operation.violations, violation),
        notes=(*operation.notes, note),
    )


def _note_new_values(change: TypeChange, labels: Sequence[str]) -> str:
    """What becomes of values that the old type lacks, as a query of one text."""
    text = (
        f" of {change.label}: the old type lacks it; while a row holds one, a rollback from after contract is refused,"
        " before anything changes: such rows get another value first, by UPDATE"
    )
    return f"""SELECT string_agg(quote_literal(label), ', ') || {quote_literal(text)}
FROM unnest(ARRAY[{", ".join(map(quote_literal, labels))}]) AS label
WHERE NOT EXISTS (
    SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_enum e ON e.enumtypid IN (t.oid, t.typelem)
    WHERE a.attrelid = to_regclass({quote_literal(change.table)}) AND a.attname = {quote_literal(change.column)}
      AND e.enumlabel = label)
HAVING count(*) > 0"""


def _count_lacking_values(
    change: TypeChange, labels: Sequence[str], key: ObjectKey, name: str, *, is_array: bool
) -> Violation:
    tree = parse_expression(change.up)
    for each in walk(tree):
        if node_class(each) == "TypeName" and _find_type(each, [key]) is not None:
            del each.names[:-1]
            each.names[-1].string.sval = "text"
    text = expression_sql(tree)
    values = f"unnest({text})" if is_array else f"unnest(ARRAY[({text})::text])"
    known = f"ARRAY[{', '.join(map(quote_literal, labels))}]::text[]"
    source = f"{values} AS zdd_value WHERE zdd_value <> ALL ({known})"
    return Violation(
        f"{change.label} has a value that the new type {name_sql(name)} lacks",
        f"SELECT count(*)::int FROM (SELECT FROM {change.table} WHERE EXISTS (SELECT FROM {source})"
        f" LIMIT {MAX_VIOLATIONS}) AS zdd_violating",
        change.table,
        (change.column,),
        sample=f"SELECT string_agg(quote_literal(zdd_value), ', ') FROM (SELECT DISTINCT zdd_value FROM {change.table},"
        f" {source} ORDER BY 1 LIMIT 10) AS zdd_values",
    )


def _move_defaults(found: list[Operation]) -> None:
    """``DROP DEFAULT; TYPE; SET DEFAULT``: the new column has a default of its own, which the swap brings.

    Without DROP DEFAULT both columns get a constant: that of the old type is not always one of the new.

    Raises:
        PlanError: an UPDATE after the change sets the column, whose type is the old one until contract.
    """
    for number, operation in enumerate(found):
        if not isinstance(operation, TypeOperation):
            continue
        (change,) = operation.changes
        topic = default_topic(change.table, change.column)
        for later in range(number + 1, len(found)):
            other = found[later]
            if change.swapped is not None and any(_sets(step, change) for step in other.steps):
                raise PlanError(
                    f"{other.summary}: {change.label} has the old type until contract, and may lack the value",
                    "write the UPDATE before the type is replaced, or in a release of its own",
                )
            if other.topic != topic or (default := _default_of_new(other, change)) is None:
                continue
            if not change.is_default_dropped and default.is_constant:
                change = replace(change, default=default.statement)
            elif change.is_default_dropped and _is_replaced(operation):
                change = replace(change, default=default.statement)
                found[later] = replace(other, steps=())
        if change.default:
            steps = tuple(_with_default(step, change.default) for step in operation.steps)
            swapped = None if change.swapped is None else replace(change.swapped, default=change.default)
            found[number] = replace(operation, changes=(replace(change, swapped=swapped),), steps=steps)


def _sets(step: OperationStep, change: TypeChange) -> bool:
    fill = step.fill
    return (
        step.mode is StepMode.FILL
        and fill is not None
        and same_table(fill.table) == same_table(change.table)
        and any(column == change.column for column, _ in fill.values)
    )


def _is_replaced(operation: Operation) -> bool:
    """Whether a second column takes the place of the first: never is only the catalog changed."""
    return sum(step.phase is Phase.EXPAND for step in operation.steps) == 1


@dataclass(frozen=True, slots=True)
class _NewDefault:
    """ALTER COLUMN … DEFAULT of a column, as the statement for the new one."""

    statement: str
    is_constant: bool


def _default_of_new(operation: Operation, change: TypeChange) -> _NewDefault | None:
    for step in operation.steps:
        tree = parse_sql(step.statements[0])
        alter = tree.stmts[0].stmt.alter_table_stmt
        if len(alter.cmds) == 1 and enum_name(alter.cmds[0].alter_table_cmd, "subtype") == "AT_ColumnDefault":
            command = alter.cmds[0].alter_table_cmd
            command.name = change.new
            value = getattr(command, "def")
            value = value.type_cast.arg if value.HasField("type_cast") else value
            return _NewDefault(deparse(tree), value.HasField("a_const"))
    return None


def _with_default(step: OperationStep, default: str) -> OperationStep:
    if step.phase is not Phase.EXPAND or len(step.statements) == 1:  # where the catalog alone changes
        return step
    lock, add, *others = step.statements
    return replace(step, statements=(lock, add, default, *others))


def _require_no_user(found: Sequence[Operation], number: int, changes: Sequence[TypeChange]) -> Operation:
    """Of DROP TYPE: what depends on the type are columns that the migration changes or drops."""
    operation = found[number]
    if not operation.drops:
        return operation
    columns = [(each.table, each.column) for each in changes]
    tables = []
    for address in (address for one in found[:number] for address in one.drops):
        if address.kind == "table column":
            columns.append((name_sql(*address.names[:-1]), address.names[-1]))
        elif address.kind == "table":
            tables.append(name_sql(*address.names))
    listed = ", ".join(f"({quote_literal(table)}, {quote_literal(column)})" for table, column in columns)
    gone = "".join(f" AND r.objid IS DISTINCT FROM to_regclass({quote_literal(each)})" for each in tables)
    (name,) = operation.drops[0].names
    query = f"""SELECT {quote_literal(f"{operation.summary}: ")} || r.what || ' would be dropped with it'
FROM (SELECT DISTINCT coalesce(v.adrelid, d.objid) AS objid, coalesce(v.adnum, d.objsubid) AS objsubid,
        pg_describe_object(d.classid, d.objid, d.objsubid) AS what
      FROM pg_type t JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray)
      LEFT JOIN pg_attrdef v ON d.classid = 'pg_attrdef'::regclass AND v.oid = d.objid
      WHERE t.oid = to_regtype({quote_literal(name)}) AND d.deptype = 'n') AS r
WHERE NOT EXISTS (
    SELECT FROM (VALUES {listed}) AS c (relation, name) JOIN pg_attribute a
      ON a.attrelid = to_regclass(c.relation) AND a.attname = c.name
    WHERE a.attrelid = r.objid AND a.attnum = r.objsubid){gone}
ORDER BY 1"""
    required = Requirement(query, "change the type of each of them, or drop it by name, before the type is dropped")
    return replace(operation, drops=(), requirements=(*operation.requirements, required))

"""An object that a migration drops and creates again under its name: one change, in one transaction."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.addresses import NamedObject
from zdd_tui.model.operations.base import (
    MissingParents,
    ObjectAddress,
    Operation,
    OperationOptions,
    OperationStep,
    RemovedObject,
    Requirement,
    StepMode,
    TypeRename,
    default_topic,
    fit_name,
    fit_name_sql,
    old_object_name,
    relation_names,
    same_table,
)
from zdd_tui.model.operations.column_replacements import replace_column, run_after_swap
from zdd_tui.model.operations.generated import NEW_PREFIX, OLD_PREFIX, block
from zdd_tui.model.operations.indexes import choose_index_name, reads_columns_sql
from zdd_tui.model.operations.scope import ObjectKey, Scope, input_types, part_key, routine_name
from zdd_tui.model.operations.triggers import trigger_states_query
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import deparse, enum_name, name_sql, parse_sql, quote_literal, string_values, type_sql

_PARTS = {"OBJECT_TRIGGER": "trigger", "OBJECT_RULE": "rule", "OBJECT_POLICY": "policy"}


_Reader = Callable[[Any, Scope], ObjectKey | None]


def _relation(field: str) -> _Reader:
    return lambda statement, scope: scope.relation_key(getattr(statement, field))


def _type(field: str) -> _Reader:
    return lambda statement, scope: scope.key("type", string_values(getattr(statement, field)))


def _part(space: str, relation: str, name: str) -> _Reader:
    def read(statement: Any, scope: Scope) -> ObjectKey:
        return part_key(space, scope.relation_key(getattr(statement, relation)), getattr(statement, name))

    return read


def _renamed_table(statement: Any, scope: Scope) -> ObjectKey | None:
    """A new table may get the name of one that the migration drops."""
    if enum_name(statement, "rename_type") != "OBJECT_TABLE":
        return None
    key = scope.relation_key(statement.relation)
    return replace(key, name=statement.newname) if scope.is_new(key) else None


_CREATED: dict[str, _Reader] = {
    "composite_type_stmt": lambda statement, scope: replace(scope.relation_key(statement.typevar), space="type"),
    "create_domain_stmt": _type("domainname"),
    "create_enum_stmt": _type("type_name"),
    "create_extension_stmt": lambda statement, _: ObjectKey("extension", "", statement.extname),
    "create_function_stmt": lambda statement, scope: scope.key(
        "routine", routine_name(string_values(statement.funcname), input_types(statement.parameters))
    ),
    "create_policy_stmt": _part("policy", "table", "policy_name"),
    "create_range_stmt": _type("type_name"),
    "create_schema_stmt": lambda statement, _: ObjectKey("schema", "", statement.schemaname),
    "create_seq_stmt": _relation("sequence"),
    "create_stmt": _relation("relation"),
    "create_table_as_stmt": lambda statement, scope: scope.relation_key(statement.into.rel),
    "create_trig_stmt": _part("trigger", "relation", "trigname"),
    "index_stmt": lambda statement, scope: replace(scope.relation_key(statement.relation), name=statement.idxname),
    "rename_stmt": _renamed_table,
    "rule_stmt": _part("rule", "relation", "rulename"),
    "view_stmt": _relation("view"),
}


def created_key(kind: str, statement: Any, scope: Scope) -> ObjectKey | None:
    """What a statement creates, where a DROP may have made room for it."""
    return _CREATED[kind](statement, scope) if kind in _CREATED else None


def removed_key(given: NamedObject, scope: Scope) -> ObjectKey | None:
    """The same for the object of a DROP."""
    if given.kind in _PARTS:
        return part_key(_PARTS[given.kind], scope.key("relation", given.names[:-1]), given.names[-1])
    return given.key


def merge_replacements(operations: list[Operation], options: OperationOptions) -> tuple[Operation, ...]:
    """The operations, where the removal of an object moves to the creation of the one that takes its name.

    Raises:
        PlanError: the object cannot have another name meanwhile, or holds rows.
    """
    result: list[Operation] = []
    removed: dict[ObjectKey, int] = {}
    replaced: set[str] = set()
    columns: list[tuple[ObjectKey, str]] = []
    stored: int | None = None
    for operation in operations:
        for table, column in columns:
            operation = run_after_swap(operation, table, column)  # noqa: PLW2901
        if stored is not None and (indexed := _with_index(result[stored], operation)) is not None:
            result[stored] = indexed
            continue
        stored = None
        position = next((removed.pop(key) for key in _replaced_keys(operation) if key in removed), None)
        if position is not None:
            _require_no_later_step(result, position)
            replaced |= {same_table(name_sql(*each.names)) for each in result[position].drops if each.kind == "table"}
            result[position], operation = _merge(result[position], operation, options)  # noqa: PLW2901
            stored = len(result) if operation.object_type == "MATERIALIZED VIEW" else None
            if operation.on is not None and operation.creates is not None and operation.creates.space == "column":
                columns.append((operation.on, operation.creates.name))
        elif operation.creates is not None and (position := removed.get(any_of_name(operation.creates))) is not None:
            result[position], operation = _separate_overload(result[position], operation, options)  # noqa: PLW2901
        if operation.creates is not None and operation.creates.space == "routine":
            operation = replace(operation, requirements=(*operation.requirements, *_longer_calls(operation, removed)))  # noqa: PLW2901
        if operation.archives is not None:
            removed[operation.archives] = len(result)
        result.append(_count_in_new_table(operation, replaced))
    return tuple(
        each for each in result if each.steps or each.requirements or each.drops or isinstance(each, TypeRename)
    )


def _replaced_keys(creation: Operation) -> Iterator[ObjectKey]:
    """What cannot be there beside a new object: one of its name; of a function also one that has not its last
    arguments, where they have defaults, because calls would fit both."""
    key = creation.creates
    if key is None:
        return
    yield key
    if key.space == "routine":
        name = key.name.partition("(")[0]
        yield from (replace(key, name=f"{name}{arguments}") for arguments in _shorter_calls(creation))


def _shorter_calls(creation: Operation) -> list[str]:
    """The types of the arguments of calls that leave out some with defaults, in parentheses, the most first."""
    parameters = _parameters(creation)
    types = [type_sql(each) for each in input_types(parameters)]
    defaults = sum(1 for each in parameters if each.function_parameter.HasField("defexpr"))
    return [f"({', '.join(types[:count])})" for count in range(len(types) - 1, len(types) - defaults - 1, -1)]


def _parameters(creation: Operation) -> Any:
    return parse_sql(creation.text).stmts[0].stmt.create_function_stmt.parameters


def _longer_calls(creation: Operation, removed: Iterable[ObjectKey]) -> Iterator[Requirement]:
    """Of functions that the migration drops: none has the arguments of the new one, and defaults for all others."""
    key = creation.creates
    assert key is not None, creation.summary
    start = key.name.removesuffix(")") + ("" if key.name.endswith("()") else ", ")
    for each in removed:
        if each.space == key.space and each.schema == key.schema and each.name.startswith(start) and each != key:
            old, new = (
                name_sql(name.schema, name.name.partition("(")[0]) + "(" + name.name.partition("(")[2]
                for name in (each, key)
            )
            count = len(input_types(_parameters(creation)))
            text = f"calls would fit {old}, which goes in contract, and the new {new}"
            yield Requirement(
                f"SELECT {quote_literal(text)} FROM pg_proc"
                f" WHERE oid = to_regprocedure({quote_literal(old)}) AND pronargs - pronargdefaults <= {count}",
                "give the new function another name, or drop the old one in an earlier release",
            )


def _count_in_new_table(operation: Operation, replaced: set[str]) -> Operation:
    """Rows without a parent are counted in the new table, not in the one that has its name before."""
    return replace(
        operation,
        violations=tuple(
            replace(each, repaired_in=each.repaired_in or Phase.BACKFILL)
            if isinstance(each, MissingParents) and same_table(each.parent) in replaced
            else each
            for each in operation.violations
        ),
    )


def _require_no_later_step(operations: list[Operation], position: int) -> None:
    """
    Raises:
        PlanError: a statement before the DROP of a table would change the one that has its name by then.
    """
    removal = operations[position]
    for each in operations[:position]:
        if each.on == removal.archives and any(step.phase is not Phase.EXPAND for step in each.steps):
            raise PlanError(
                f"{each.summary}: the migration drops the table after it, and another one has its name by the time it"
                " runs",
                "leave it out: it goes with the table",
            )


def drop_with_table(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """What is left of a table that the migration drops later goes with it in cleanup, where it has another name.

    A trigger goes by itself, because its function may be dropped before the table.
    """
    dropped = {each.archives for each in operations if each.archives is not None and each.archives.space == "relation"}
    return tuple(_without_cleanup(each) if each.on in dropped else each for each in operations)


def _without_cleanup(operation: Operation) -> Operation:
    kept = tuple(step for step in operation.steps if step.phase is not Phase.CLEANUP)
    if operation.archives is not None and operation.archives.space == "trigger" and operation.drops:
        *schema, table, name = operation.drops[0].names
        drop = f"DROP TRIGGER IF EXISTS {name_sql(name)} ON {name_sql(*schema, old_object_name(table))}"
        kept += tuple(replace(step, statements=(drop,)) for step in operation.steps if step.phase is Phase.CLEANUP)
    return replace(operation, steps=kept)


def make_room(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """The operations, where an index gets the name of one that goes with a column which the migration drops before.

    That one exists until cleanup; it gets another name before the new one is built.
    """
    dropped: dict[ObjectKey, list[str]] = {}
    result = []
    for operation in operations:
        if operation.on is not None:
            names = dropped.setdefault(operation.on, [])
            names += [each.names[-1] for each in operation.drops if each.kind == "table column"]
        steps = [
            each
            for step in operation.steps
            for each in (_room_for(step, dropped) if step.mode is StepMode.BUILD_INDEX else (step,))
        ]
        result.append(replace(operation, steps=tuple(steps)))
    return tuple(result)


def _room_for(build: OperationStep, dropped: dict[ObjectKey, list[str]]) -> tuple[OperationStep, ...]:
    """The step that builds an index, after the one that renames the index of dropped columns."""
    relation = parse_sql(build.statements[0]).stmts[0].stmt.index_stmt.relation
    *schema, _ = relation_names(relation)
    columns = [
        column
        for table, names in dropped.items()
        if table.name == relation.relname and (not schema or schema == [table.schema])
        for column in names
    ]
    if not columns:
        return (build,)
    old = old_object_name(build.index)
    there, archived = (name_sql(*schema, each) for each in (build.index, old))
    dropped_names = (name for each in columns for name in (each, old_object_name(each)))
    found = (
        f"SELECT EXISTS (SELECT FROM pg_index x WHERE x.indexrelid = to_regclass({quote_literal(there)})"
        f" AND x.indrelid = to_regclass({quote_literal(build.table)})"
        f" AND {reads_columns_sql('x', dropped_names)})"
    )
    room = OperationStep(
        build.phase,
        f"index {build.index} of dropped columns makes room",
        (f"ALTER INDEX {there} RENAME TO {name_sql(old)}",),
        (f"ALTER INDEX {archived} RENAME TO {name_sql(build.index)}",),
        only_if=found,
        settings=build.settings,
    )
    return (room, build)


def repeat_overtaken(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """A setting of expand is set again in contract where an earlier one of the same has been put off until there.

    ``REVOKE …; GRANT …`` end as they are written. Of ``DROP DEFAULT; SET DEFAULT`` the second alone runs: between the
    two, rows would get no value.
    """
    late: set[str] = set()
    result = []
    for number, operation in enumerate(operations):
        is_late = any(step.phase is Phase.CONTRACT for step in operation.steps)
        later = {each.topic for each in operations[number + 1 :]}
        if operation.topic.startswith(default_topic("", "")[:-1]) and operation.drops and operation.topic in later:
            result.append(replace(operation, steps=()))
            continue
        if operation.topic and is_late:
            late.add(operation.topic)
        elif operation.topic in late:
            again = [replace(step, phase=Phase.CONTRACT) for step in operation.steps if step.phase is Phase.EXPAND]
            operation = replace(operation, steps=(*operation.steps, *again))  # noqa: PLW2901
        result.append(operation)
    return tuple(result)


def _merge(removal: Operation, creation: Operation, options: OperationOptions) -> tuple[Operation, Operation]:
    if not creation.steps:
        return removal, creation
    first = creation.steps[0]
    if first.mode is StepMode.BUILD_INDEX:
        return replace(removal, steps=(), removes=()), _build_beside(removal, creation)
    if removal.object_type == "COLUMN":
        return replace_column(removal, creation)
    if removal.object_type in ("SCHEMA", "EXTENSION"):
        return _require_absent(removal), creation
    archive, rest = _archive(removal, first.phase)
    if removal.object_type == creation.object_type == "MATERIALIZED VIEW":
        steps: tuple[OperationStep, ...] = _build_view_beside(archive, first)
    else:
        label = f"replace {first.label.removeprefix('create ')}"
        steps = (replace(first, label=label, before=archive, is_replacement=True),)
    required = _require_same_use(removal, creation) if options.has_rollout and steps[-1].phase is Phase.EXPAND else ()
    steps = (*steps[:-1], replace(steps[-1], statements=(*steps[-1].statements, *required)))
    return (
        replace(removal, steps=tuple(rest), removes=tuple(_removed_by(removal))),
        replace(creation, steps=(*steps, *creation.steps[1:])),
    )


def _require_same_use(removal: Operation, creation: Operation) -> tuple[str, ...]:
    """Statements that fail where running code cannot use the new object as it has used the old one."""
    if removal.object_type in ("VIEW", "MATERIALIZED VIEW"):
        return (_require_columns(removal.drops[0]),)
    if creation.creates is not None and creation.creates.space == "routine":
        assert removal.archives is not None, removal.summary
        *schema, name = removal.drops[0].names
        old = removal.archives.name.removeprefix(name)
        return (_require_same_calls(schema, name, creation.creates.name.removeprefix(name), [old]),)
    return ()


def _require_same_calls(schema: list[str], name: str, arguments: str, old_arguments: Sequence[str]) -> str:
    """A statement that fails where calls of the old function would fail, or get another type.

    Args:
        arguments: their types in parentheses, as SQL.
        old_arguments: those that the old one may have.
    """
    own = name_sql(*schema, name) + arguments
    begins = f"running code may call {own}, and the new one differs: "
    ends = "; keep that, give the new function another name, or write its statements with phase: contract"
    body = _SAME_CALLS
    for key, value in {
        "own": quote_literal(own),
        "old": _first_routine([*schema, old_object_name(name)], old_arguments),
        "begins": quote_literal(begins),
        "ends": quote_literal(ends),
    }.items():
        body = body.replace("{" + key + "}", value)
    return block(body, "  zdd_wrong text;\n")


def _first_routine(names: Sequence[str], arguments: Sequence[str]) -> str:
    """An expression: the first function of a name that is there with such arguments, or NULL."""
    name = name_sql(*names)
    return f"coalesce({', '.join(f'to_regprocedure({quote_literal(name + each)})' for each in arguments)})"


_SAME_CALLS = """
  WITH result AS (
    SELECT p.oid, u.name, u.type FROM pg_proc p, unnest(p.proargnames, p.proallargtypes, p.proargmodes)
      AS u (name, type, mode) WHERE u.mode IN ('o', 'b', 't')
    UNION ALL SELECT p.oid, a.attname, a.atttypid FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype
    JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
  ), input AS (
    SELECT p.oid, u.name, row_number() OVER (PARTITION BY p.oid ORDER BY u.number) AS number
    FROM pg_proc p, unnest(p.proargnames, p.proargmodes) WITH ORDINALITY AS u (name, mode, number)
    WHERE coalesce(u.mode, 'i') IN ('i', 'b', 'v')
  )
  SELECT string_agg(wrong.what, ', ') INTO zdd_wrong
  FROM pg_proc o JOIN pg_type ot ON ot.oid = o.prorettype,
    pg_proc n JOIN pg_type nt ON nt.oid = n.prorettype, LATERAL (
      SELECT format('it returns %s, no longer %s', pg_get_function_result(n.oid), pg_get_function_result(o.oid))
      WHERE o.prokind = n.prokind AND (o.proretset <> n.proretset OR NOT (o.prorettype = n.prorettype
        OR ot.typcategory = 'S' AND nt.typcategory = 'S' OR ot.typtype = 'c' AND nt.typtype = 'c'))
      UNION ALL SELECT format('its column %I is gone, or has another type', name) FROM result r
      WHERE r.oid = o.oid AND NOT EXISTS (SELECT FROM result s WHERE s.oid = n.oid AND s.name = r.name
        AND (s.type = r.type OR EXISTS (SELECT FROM pg_type a, pg_type b WHERE a.oid = s.type AND b.oid = r.type
                                        AND a.typcategory = 'S' AND b.typcategory = 'S')))
      UNION ALL SELECT 'it is a function instead of a procedure, or the reverse' WHERE o.prokind <> n.prokind
      UNION ALL SELECT 'an argument has no default any more'
      WHERE n.pronargs - n.pronargdefaults > o.pronargs - o.pronargdefaults
      UNION ALL SELECT format('its argument %I has another name', i.name) FROM input i
      WHERE i.oid = o.oid AND i.name <> '' AND NOT EXISTS (
        SELECT FROM input j WHERE j.oid = n.oid AND j.number = i.number AND j.name = i.name)
    ) AS wrong (what)
  WHERE o.oid = {old} AND n.oid = to_regprocedure({own});
  IF zdd_wrong IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_function_definition', MESSAGE = {begins} || zdd_wrong || {ends};
  END IF;"""


def _require_columns(view: ObjectAddress) -> str:
    """A statement that fails where the new view lacks a column of the old one, or shows it with another type.

    Which columns a view shows the server knows when the view is there: on the copy of ``zdd check`` first.
    """
    *schema, name = view.names
    own, old = name_sql(*schema, name), name_sql(*schema, old_object_name(name))
    body = (
        f"  SELECT string_agg(quote_ident(o.attname), ', ' ORDER BY o.attnum) INTO zdd_lost FROM pg_attribute o"
        f" WHERE o.attrelid = to_regclass({quote_literal(old)}) AND o.attnum > 0 AND NOT o.attisdropped"
        f" AND NOT EXISTS (SELECT FROM pg_attribute n JOIN pg_type t ON t.oid = n.atttypid"
        f" JOIN pg_type s ON s.oid = o.atttypid WHERE n.attrelid = to_regclass({quote_literal(own)})"
        " AND n.attname = o.attname AND NOT n.attisdropped"
        " AND (n.atttypid = o.atttypid OR t.typcategory = 'S' AND s.typcategory = 'S'));\n"
        "  IF zdd_lost IS NOT NULL THEN RAISE EXCEPTION USING ERRCODE = 'invalid_table_definition', MESSAGE ="
        f" {quote_literal(_LOST_COLUMNS.format(own))} || zdd_lost || {quote_literal(_KEEP_COLUMNS)}; END IF;"
    )
    return block(body, "  zdd_lost text;\n")


_LOST_COLUMNS = "the new {} lacks columns that the old version may read, or gives them another type: "
_KEEP_COLUMNS = "; keep them, give the new view another name, or write its statements with phase: contract"


def _removed_by(removal: Operation) -> Iterator[RemovedObject]:
    """What running code must not use any more. A name stays in use: it is that of the new object."""
    for each in removal.removes:
        # The new one does not have its rows or its position; values of the old type do not have the new one.
        if removal.object_type in ("TABLE", "SEQUENCE", "TYPE", "DOMAIN"):
            yield replace(each, phase=Phase.EXPAND)
        elif removal.object_type == "INDEX":  # of another table
            *schema, name = each.names
            yield replace(each, names=(*schema, old_object_name(name)))


def _archive(removal: Operation, phase: Phase) -> tuple[OperationStep, list[OperationStep]]:
    """The step that gives an object another name, and what follows it in later phases.

    Args:
        phase: that creates the new one.

    Raises:
        PlanError: it cannot have another one.
    """
    archive, *rest = removal.steps
    if archive.phase is Phase.CLEANUP:
        raise PlanError(
            f"{removal.summary}: the migration creates it again, and it cannot have another name meanwhile",
            "make one operation of the two statements, with undo: of your own",
        )
    if removal.object_type == "INDEX":
        archive, rest = _archive_index(archive)
    elif removal.object_type == "TRIGGER" and removal.archives is not None:
        archive, rest = _archive_trigger(removal, archive)
    elif removal.object_type in ("TABLE", "MATERIALIZED VIEW", "SEQUENCE"):
        archive = _with_own_names(archive, removal.drops[0])
    return replace(archive, phase=phase), rest


def any_of_name(key: ObjectKey) -> ObjectKey:
    """The key of the one function of a name, whatever its arguments are."""
    return replace(key, name=f"{key.name.partition('(')[0]}(…)")


def _separate_overload(
    removal: Operation, creation: Operation, options: OperationOptions
) -> tuple[Operation, Operation]:
    """A function dropped without its arguments, and a new one of its name, whose arguments may be others.

    Where calls fit both the new one takes its place. Else both exist until contract, where the other one goes.
    """
    if not creation.steps or creation.creates is None:
        return removal, creation
    (address,), (archive, *rest), first = removal.drops, removal.steps, creation.steps[0]
    *schema, name = address.names
    arguments = creation.creates.name.removeprefix(name)
    calls, old = [arguments, *_shorter_calls(creation)], old_object_name(name)
    same = _first_routine(address.names, calls)
    own = replace(
        archive,
        phase=first.phase,
        statements=(_rename_routine(same, old),),
        undo=(_rename_routine(_first_routine([*schema, old], calls), name),),
        only_if=f"SELECT {same} IS NOT NULL",
        only_if_exists=None,
    )
    present = archive.only_if_exists if archive.only_if_exists is not None else address
    other = replace(address, query=f"{present.query} AND p.oid IS DISTINCT FROM {same}")
    found = f"(SELECT found.objid FROM {other.sql} AS found)"
    later = replace(archive, statements=(_rename_routine(found, old),), only_if_exists=other)
    is_missing = f"{removal.summary.removeprefix('drop ')} does not exist"
    required = Requirement(
        f"SELECT {quote_literal(is_missing)} WHERE NOT EXISTS (SELECT FROM {address.sql} AS found)",
        "leave its DROP out, or write IF EXISTS",
    )
    is_optional = "IF EXISTS" in rest[-1].statements[0]
    if options.has_rollout and first.phase is Phase.EXPAND:
        first = replace(first, statements=(*first.statements, _require_same_calls(schema, name, arguments, calls)))
    # Its name stays in use: it is that of the new one.
    return (
        replace(removal, steps=(later, *rest), removes=(), requirements=() if is_optional else (required,)),
        replace(creation, steps=(replace(first, before=own, is_replacement=True), *creation.steps[1:])),
    )


def _rename_routine(found: str, name: str) -> str:
    """
    Args:
        found: an expression of its number.
    """
    rename = f"  EXECUTE format('ALTER ROUTINE %s RENAME TO %I', ({found})::regprocedure, {quote_literal(name)});\n"
    return block(rename, "")


def _require_absent(removal: Operation) -> Operation:
    """``DROP SCHEMA IF EXISTS a; CREATE SCHEMA a``: as in a first migration, where there is none.

    Raises:
        PlanError: there is one.
    """
    word = removal.object_type.lower()
    hint = f"give the new {word} another name, or drop the old one in an earlier release"
    if "IF EXISTS" not in removal.text.upper():
        raise PlanError(f"{removal.summary}: the migration creates another one, and running code uses both", hint)
    address = removal.drops[0]
    found = (
        f"to_regnamespace({quote_literal(name_sql(*address.names))})"
        if word == "schema"
        else f"(SELECT oid FROM pg_extension WHERE extname = {quote_literal(address.names[0])})"
    )
    text = f"{word} {name_sql(*address.names)} exists, and the migration replaces it by another one"
    required = Requirement(f"SELECT {quote_literal(text)} WHERE {found} IS NOT NULL", hint)
    return replace(removal, steps=(), drops=(), removes=(), requirements=(*removal.requirements, required))


def _archive_index(drop: OperationStep) -> tuple[OperationStep, list[OperationStep]]:
    """Renamed, where a table of the migration gets an index of its name; dropped as any other index."""
    schema, old = (drop.schema,) if drop.schema else (), old_object_name(drop.index)
    there, archived = (name_sql(*schema, each) for each in (drop.index, old))
    rename = OperationStep(
        Phase.EXPAND,
        f"archive index {there}",
        (f"ALTER INDEX {there} RENAME TO {name_sql(old)}",),
        (f"ALTER INDEX {archived} RENAME TO {name_sql(drop.index)}",),
        only_if=f"SELECT to_regclass({quote_literal(there)}) IS NOT NULL" if drop.is_optional else "",
        settings=drop.settings,
    )
    sql = f"{drop.statements[0].removesuffix(there)}{archived}"
    return rename, [replace(drop, statements=(sql,), index=old)]


def _archive_trigger(removal: Operation, archive: OperationStep) -> tuple[OperationStep, list[OperationStep]]:
    """Renamed and disabled, so that it keeps its function, even where that is replaced as well."""
    names = removal.drops[0].names
    table, name, old = name_sql(*names[:-1]), names[-1], old_object_name(names[-1])
    back = f"ALTER TRIGGER {name_sql(old)} ON {table} RENAME TO {name_sql(name)}"
    step = replace(
        archive,
        statements=(
            f"ALTER TABLE {table} DISABLE TRIGGER {name_sql(name)}",
            f"ALTER TRIGGER {name_sql(name)} ON {table} RENAME TO {name_sql(old)}",
        ),
        undo_query=f"SELECT {quote_literal(back)} UNION ALL {trigger_states_query(table, name)}",
    )
    drop = f"DROP TRIGGER IF EXISTS {name_sql(old)} ON {table}"
    return step, [OperationStep(Phase.CLEANUP, removal.summary, (drop,), settings=archive.settings)]


def _build_view_beside(archive: OperationStep, create: OperationStep) -> tuple[OperationStep, OperationStep]:
    """The new materialized view is computed under another name: nobody waits for it. Then the two change names."""
    tree = parse_sql(create.statements[0])
    relation = tree.stmts[0].stmt.create_table_as_stmt.into.rel
    *schema, name = relation_names(relation)
    relation.relname = fit_name(NEW_PREFIX, name)
    there, own = name_sql(*schema, relation.relname), name_sql(*schema, name)
    build = replace(
        create,
        label=f"{create.label}, beside the old one",
        statements=(deparse(tree),),
        undo=(f"DROP MATERIALIZED VIEW IF EXISTS {there}",),
        created=None,
    )
    swap = OperationStep(
        Phase.EXPAND,
        f"replace {create.label.removeprefix('create ')}",
        (f"ALTER MATERIALIZED VIEW {there} RENAME TO {name_sql(name)}",),
        (f"ALTER MATERIALIZED VIEW {own} RENAME TO {name_sql(relation.relname)}",),
        settings=create.settings,
        before=archive,
        is_replacement=True,
    )
    return build, swap


def _with_index(view: Operation, operation: Operation) -> Operation | None:
    """A materialized view that is built beside the old one, with an index that the migration creates right after it.

    So a REFRESH … CONCURRENTLY of running code, which needs a unique index, finds one at every moment.
    """
    if len(operation.steps) != 1 or view.creates is None:
        return None
    tree = parse_sql(operation.text)
    index = tree.stmts[0].stmt.index_stmt
    schema = [index.relation.schemaname] if index.relation.schemaname else []
    if index.relation.relname != view.creates.name or schema not in ([], [view.creates.schema]):
        return None
    name = index.idxname or choose_index_name(index)
    new = index.idxname = fit_name(NEW_PREFIX, name)
    index.relation.relname, index.concurrent = fit_name(NEW_PREFIX, view.creates.name), False
    *steps, swap = view.steps
    build = replace(operation.steps[0], statements=(deparse(tree),), undo=())
    swap = replace(
        swap,
        statements=(*swap.statements, f"ALTER INDEX {name_sql(*schema, new)} RENAME TO {name_sql(name)}"),
        undo=(f"ALTER INDEX {name_sql(*schema, name)} RENAME TO {name_sql(new)}", *swap.undo),
    )
    return replace(view, steps=(*steps, build, swap))


_OWN_NAMES = """
FROM (
  SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'INDEX' END, c.relname, c.relnamespace::regnamespace
  FROM pg_class c WHERE c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = {relation})
    OR c.relkind = 'S' AND EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid
      AND refclassid = classid AND refobjid = {relation} AND deptype IN ('a', 'i'))
  UNION ALL SELECT 'STATISTICS', stxname, stxnamespace::regnamespace FROM pg_statistic_ext WHERE stxrelid = {relation}
  UNION ALL SELECT 'CONSTRAINT', conname, NULL FROM pg_constraint
  WHERE conrelid = {relation} AND contype IN ('c', 'f', 'n')
) AS own (kind, name, schema), LATERAL (
  SELECT {fitted}
) AS archived (old), LATERAL (
  SELECT CASE kind WHEN 'CONSTRAINT' THEN format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', {names})
    ELSE format('ALTER %s %s.%I RENAME TO %I', kind, schema, {own}) END
) AS renamed (sql)
"""
"""The statements that rename what belongs to a relation. PostgreSQL keeps the names of constraints apart, too, where it
chooses them."""


def _with_own_names(archive: OperationStep, removed: ObjectAddress) -> OperationStep:
    """What belongs to a table or materialized view makes room for what belongs to the new one."""
    *schema, name = removed.names
    there, archived = (quote_literal(name_sql(*schema, each)) for each in (name, old_object_name(name)))
    found = _OWN_NAMES.replace("{relation}", f"to_regclass({there})")
    found = found.replace("{fitted}", fit_name_sql(OLD_PREFIX, "name::text"))
    forth = found.replace("{names}", f"{there}, name, old").replace("{own}", "name, old")
    back = found.replace("{names}", f"{archived}, old, name").replace("{own}", "old, name")
    body = f"  EXECUTE coalesce((SELECT string_agg(sql, '; ') {forth}), 'SELECT');"
    undo_query = f"SELECT sql {back}"
    if archive.undo_query:
        undo_query += f" UNION ALL {archive.undo_query}"
    return replace(archive, statements=(block(body), *archive.statements), undo_query=undo_query)


def _build_beside(removal: Operation, creation: Operation) -> Operation:
    """The new index is built under another name; it gets its own when the old one is gone."""
    build, *others = creation.steps
    drop = removal.steps[0]
    new = fit_name(NEW_PREFIX, build.index)
    tree = parse_sql(build.statements[0])
    tree.stmts[0].stmt.index_stmt.idxname = new
    schema = build.table.rpartition(".")[0]
    there, own = (f"{schema}.{name_sql(each)}" if schema else name_sql(each) for each in (new, build.index))
    rename = OperationStep(
        drop.phase,
        f"rename index {new} to {build.index}",
        (f"ALTER INDEX {there} RENAME TO {name_sql(build.index)}",),
        (f"ALTER INDEX {own} RENAME TO {name_sql(new)}",),
        settings=build.settings,
        renames=(new, build.index),
    )
    steps = (replace(build, statements=(deparse(tree),), index=new), *others, drop, rename)
    return replace(creation, steps=steps)

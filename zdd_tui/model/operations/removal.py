"""DROP: archived in contract under another name where PostgreSQL can rename the object, and dropped in cleanup.

CASCADE is read as plain DROP: before the start zdd looks what depends on the object, and refuses where the migration
does not drop that by name, or create it again. Of a function it drops the triggers that execute it, too: without it
they could only fail.
"""

# ruff: noqa: S608  names are quoted by the parser's own rules

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.addresses import NamedObject, name_object
from zdd_tui.model.operations.base import (
    ObjectAddress,
    Operation,
    OperationOptions,
    OperationStep,
    RemovedKind,
    RemovedObject,
    Requirement,
    old_object_name,
    relation_sql,
    shorten,
)
from zdd_tui.model.operations.generated import block
from zdd_tui.model.operations.indexes import read_drop_index
from zdd_tui.model.operations.replacements import any_of_name, removed_key
from zdd_tui.model.operations.scope import Novelty, Scope
from zdd_tui.model.operations.statements import read_own_statement
from zdd_tui.model.operations.triggers import (
    event_trigger_state_query,
    restore_policy_query,
    restore_rule_query,
    states_query,
    trigger_states_query,
)
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import enum_name, name_sql, node_class, parse_sql, quote_literal, walk

_RENAMED = {
    "OBJECT_VIEW": "VIEW",
    "OBJECT_MATVIEW": "MATERIALIZED VIEW",
    "OBJECT_SEQUENCE": "SEQUENCE",
    "OBJECT_TABLE": "TABLE",
    "OBJECT_FOREIGN_TABLE": "FOREIGN TABLE",
    "OBJECT_TYPE": "TYPE",
    "OBJECT_DOMAIN": "DOMAIN",
    "OBJECT_FUNCTION": "FUNCTION",
    "OBJECT_PROCEDURE": "PROCEDURE",
    "OBJECT_AGGREGATE": "AGGREGATE",
    "OBJECT_ROUTINE": "ROUTINE",
    "OBJECT_STATISTIC_EXT": "STATISTICS",
}
"""Objects that are archived by a rename."""

_USED_AS = {
    **dict.fromkeys(("OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_TABLE", "OBJECT_FOREIGN_TABLE"), RemovedKind.RELATION),
    "OBJECT_SEQUENCE": RemovedKind.SEQUENCE,
    **dict.fromkeys(("OBJECT_TYPE", "OBJECT_DOMAIN"), RemovedKind.TYPE),
    **dict.fromkeys(("OBJECT_FUNCTION", "OBJECT_PROCEDURE", "OBJECT_AGGREGATE", "OBJECT_ROUTINE"), RemovedKind.ROUTINE),
}
"""What queries use by its name. A trigger, rule or policy has no name that a query could use."""

_KEPT = {
    "OBJECT_SCHEMA",
    *("OBJECT_EXTENSION", "OBJECT_OPERATOR", "OBJECT_CAST", "OBJECT_COLLATION", "OBJECT_PUBLICATION"),
    *("OBJECT_OPCLASS", "OBJECT_OPFAMILY", "OBJECT_CONVERSION", "OBJECT_LANGUAGE", "OBJECT_FDW"),
    *("OBJECT_FOREIGN_SERVER", "OBJECT_ACCESS_METHOD", "OBJECT_TRANSFORM", "OBJECT_TSPARSER", "OBJECT_TSDICTIONARY"),
    *("OBJECT_TSTEMPLATE", "OBJECT_TSCONFIGURATION"),
}
"""Objects that stay as they are until cleanup."""

_ROUTINES = {
    "OBJECT_FUNCTION": "p.prokind IN ('f', 'w')",
    "OBJECT_PROCEDURE": "p.prokind = 'p'",
    "OBJECT_ROUTINE": "true",
}
"""With the condition over pg_proc p."""

_PARTS = {"OBJECT_TRIGGER": "TRIGGER", "OBJECT_RULE": "RULE", "OBJECT_POLICY": "POLICY"}


def read_drop(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """The operations of a DROP, one for each object.

    Raises:
        PlanError: it concerns another server or the whole of this one.
    """
    kind, is_optional = enum_name(statement, "remove_type"), statement.missing_ok
    operations: list[Operation] = []
    for node in statement.objects:
        given = _find_routine(name_object(kind, node, options.scope), options.scope)
        if given.key is not None and options.scope.is_new(given.key):
            operations.append(_drop_new(given, is_optional=is_optional))
            continue
        if kind == "OBJECT_INDEX":
            operation = read_drop_index(list(given.names), text, options, missing_ok=is_optional)
        elif kind in _PARTS:
            operation = _drop_part(given, text, options, is_optional=is_optional)
        elif kind == "OBJECT_EVENT_TRIGGER":
            operation = _drop_event_trigger(given, text, options)
        elif kind in _RENAMED:
            operation = _archive(given, text, options, is_optional=is_optional)
        elif kind in _KEPT:
            word, name = _split_word(given)
            label = f"drop {word.lower()}{name}"
            sql = f"DROP {word}{'IF EXISTS ' if is_optional else ''}{name}"
            step = OperationStep(Phase.CLEANUP, label, (sql,))
            operation = Operation(text, label, (step,))
        else:
            operation = read_own_statement(text, options)
        if given.address is not None and kind != "OBJECT_INDEX":
            operation = replace(operation, drops=(given.address,))
        on = given.key if kind in _PARTS else None
        word = _split_word(given)[0].strip()
        operation = replace(operation, archives=removed_key(given, options.scope), object_type=word, on=on)
        _note_removed(given, options.scope)
        operations.append(operation)
    return tuple(_drop_together(operations) if len(operations) > 1 and kind in _RENAMED else operations)


def _note_removed(given: NamedObject, scope: Scope) -> None:
    if given.kind == "OBJECT_TYPE" and given.key is not None:
        scope.removed_types.add(given.key)
    elif given.kind == "OBJECT_TABLE" and given.key is not None:
        scope.removed_tables.add(given.key)
    elif given.kind == "OBJECT_TRIGGER" and given.key is not None:
        scope.removed_triggers.add((given.key, given.names[-1]))
    elif given.kind == "OBJECT_VIEW":
        scope.removed_views.append(name_sql(*given.names))


def _find_routine(given: NamedObject, scope: Scope) -> NamedObject:
    """A function that is named without its arguments is the one of its name: PostgreSQL refuses several."""
    if given.address is not None or given.kind not in _ROUTINES or given.key is None:
        return given
    *schema, name = given.names
    place = (
        f"p.pronamespace = to_regnamespace({quote_literal(name_sql(*schema))})"
        if schema
        else "pg_function_is_visible(p.oid)"
    )
    query = (
        "SELECT 'pg_proc'::regclass::oid AS classid, p.oid AS objid, 0 AS objsubid FROM pg_proc p"
        f" WHERE p.proname = {quote_literal(name)} AND {place} AND {_ROUTINES[given.kind]}"
    )
    one = any_of_name(given.key)
    own = (each for each, found in scope.created.items() if found is Novelty.NEW and any_of_name(each) == one)
    key = next(own, one)
    return replace(given, address=ObjectAddress("function", given.names, query=query), key=key)


def _drop_together(operations: list[Operation]) -> list[Operation]:
    """One statement drops them all in cleanup: they may depend on each other."""
    drops = [step for operation in operations for step in operation.steps if step.phase is Phase.CLEANUP]
    if len(drops) < 2:
        return operations
    word = next(each for each in _WORDS if drops[0].statements[0].startswith(f"DROP {each} "))
    optional = "IF EXISTS " if any(step.statements[0].startswith(f"DROP {word} IF EXISTS ") for step in drops) else ""
    given = (step.statements[0].removeprefix(f"DROP {word} ").removeprefix("IF EXISTS ") for step in drops)
    names = ", ".join(given)
    together = OperationStep(Phase.CLEANUP, drops[-1].label, (f"DROP {word} {optional}{names}",))
    kept = [
        replace(each, steps=tuple(step for step in each.steps if step.phase is not Phase.CLEANUP))
        for each in operations
    ]
    return [*kept[:-1], replace(kept[-1], steps=(*kept[-1].steps, together))]


def _drop_new(given: NamedObject, *, is_optional: bool) -> Operation:
    """What the migration itself has created: a rollback creates it no more."""
    word, name = _split_word(given)
    text = f"DROP {word}{'IF EXISTS ' if is_optional else ''}{name}"
    return Operation(text, text, (OperationStep(Phase.EXPAND, text, (text,)),))


def read_drop_role(_statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    """Roles stay until cleanup."""
    step = OperationStep(Phase.CLEANUP, shorten(text), (text,))
    return (Operation(text, shorten(text), (step,)),)


def read_drop_user_mapping(_statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    """It stays until cleanup."""
    return (Operation(text, shorten(text), (OperationStep(Phase.CLEANUP, shorten(text), (text,)),)),)


def _split_word(given: NamedObject) -> tuple[str, str]:
    """The word of an object and its name: ``OPERATOR CLASS `` and ``a USING btree``."""
    word = next(each for each in _WORDS if given.sql.startswith(f"{each} "))
    return f"{word} ", given.sql.removeprefix(f"{word} ")


_WORDS = (
    *("MATERIALIZED VIEW", "FOREIGN TABLE", "FOREIGN DATA WRAPPER", "OPERATOR CLASS", "OPERATOR FAMILY"),
    *("TEXT SEARCH PARSER", "TEXT SEARCH DICTIONARY", "TEXT SEARCH TEMPLATE", "TEXT SEARCH CONFIGURATION"),
    *("ACCESS METHOD", "EVENT TRIGGER", "EXTENSION", "OPERATOR", "CAST", "COLLATION", "PUBLICATION", "CONVERSION"),
    *("LANGUAGE", "SERVER", "TRANSFORM", "VIEW", "SEQUENCE", "TABLE", "TYPE", "DOMAIN", "FUNCTION", "PROCEDURE"),
    *("AGGREGATE", "ROUTINE", "SCHEMA", "STATISTICS", "TRIGGER", "RULE", "POLICY", "COLUMN", "INDEX"),
)


def archive_sql(given: NamedObject, *, is_optional: bool) -> tuple[str, str, str]:
    """The statement that archives an object, the one that takes it back, and the one that drops it."""
    word, name = _split_word(given)
    word = word.strip()
    plain = given.names[-1]
    own = name_sql(*given.names)
    arguments = name.removeprefix(own)
    archived = old_object_name(plain)
    there = f"{name_sql(*given.names[:-1], archived)}{arguments}"
    return (
        f"ALTER {word} {name} RENAME TO {name_sql(archived)}",
        f"ALTER {word} {there} RENAME TO {name_sql(plain)}",
        f"DROP {word} {'IF EXISTS ' if is_optional else ''}{there}",
    )


def _archive(given: NamedObject, text: str, options: OperationOptions, *, is_optional: bool) -> Operation:
    archive, restore, drop = archive_sql(given, is_optional=is_optional)
    word, name = _split_word(given)
    label = f"{word.lower()}{name}"
    step = OperationStep(
        options.last_phase,
        f"archive {label}",
        (archive,),
        (restore,),
        only_if_exists=given.address if is_optional else None,
    )
    kind = _USED_AS.get(given.kind)
    removed = () if kind is None else (RemovedObject(kind, given.names, label, options.last_phase),)
    if given.kind == "OBJECT_TABLE":
        step = replace(step, before=_detach_partition(name.strip(), options.last_phase))
    drop_step = OperationStep(Phase.CLEANUP, f"drop {label}", (drop,))
    return Operation(text, f"drop {label}", (step, drop_step), removes=removed)


def _detach_partition(table: str, phase: Phase) -> OperationStep:
    """A partition leaves its table before it gets another name, so that nobody finds its rows, as after the plain
    statement. A rollback attaches it again and reads it meanwhile, under a lock that writers of the table pass."""
    literal = quote_literal(table)
    found = f"FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.oid = to_regclass({literal})"
    detach = "format('ALTER TABLE %s DETACH PARTITION %s', inhparent::regclass, c.oid::regclass)"
    attach = (
        "format('ALTER TABLE %s ATTACH PARTITION %s %s', inhparent::regclass, c.oid::regclass,"
        " pg_get_expr(c.relpartbound, c.oid))"
    )
    return OperationStep(
        phase,
        f"detach {table}, if it is a partition",
        (block(f"  EXECUTE (SELECT {detach}\n    {found});"),),
        undo_query=f"SELECT {attach} {found}",
        only_if=f"SELECT relispartition FROM pg_class WHERE oid = to_regclass({literal})",
        are_locks_known=True,
    )


def _drop_part(given: NamedObject, text: str, options: OperationOptions, *, is_optional: bool) -> Operation:
    """A trigger is disabled; a rule or policy has no such state for one kind of table, and is created again."""
    table, name = name_sql(*given.names[:-1]), given.names[-1]
    what = f"{_PARTS[given.kind].lower()} {name_sql(name)} of {table}"
    exists = given.address if is_optional else None
    drop = f"DROP {_PARTS[given.kind]} {'IF EXISTS ' if is_optional else ''}{name_sql(name)} ON {table}"
    if given.kind == "OBJECT_TRIGGER":
        steps = (
            OperationStep(
                options.last_phase,
                f"disable {what}",
                (f"ALTER TABLE {table} DISABLE TRIGGER {name_sql(name)}",),
                undo_query=trigger_states_query(table, name),
                only_if_exists=exists,
            ),
            OperationStep(Phase.CLEANUP, f"drop {what}", (drop,)),
        )
        return Operation(text, f"drop {what}", steps)
    restore = (restore_rule_query if given.kind == "OBJECT_RULE" else restore_policy_query)(table, name)
    step = OperationStep(options.last_phase, f"drop {what}", (drop,), undo_query=restore, only_if_exists=exists)
    return Operation(text, f"drop {what}", (step,))


def _drop_event_trigger(given: NamedObject, text: str, options: OperationOptions) -> Operation:
    name = name_sql(given.names[0])
    state = event_trigger_state_query(given.names[0])
    steps = (
        OperationStep(
            options.last_phase,
            f"disable event trigger {name}",
            (f"ALTER EVENT TRIGGER {name} DISABLE",),
            undo_query=state,
            only_if_exists=given.address,
        ),
        OperationStep(Phase.CLEANUP, f"drop event trigger {name}", (f"DROP EVENT TRIGGER IF EXISTS {name}",)),
    )
    return Operation(text, f"drop event trigger {name}", steps)


def read_drop_owned(_statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    """
    Raises:
        PlanError: always: the statement names no object.
    """
    raise PlanError(
        f"{shorten(text)}: it does not name what it changes", "name each object: DROP … or ALTER … OWNER TO"
    )


def drop_tables_together(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """The operations, where tables that are dropped one after the other, one of them by CASCADE, go in one statement:
    they may refer to each other in any order."""
    found: list[Operation] = []
    for is_table, group in groupby(operations, _is_archived_table):
        drops = list(group)
        if is_table and len(drops) > 1 and any(_is_cascade(each.text) for each in drops):
            together = ";\n".join(each.text for each in drops)
            drops = [replace(each, text=together) for each in _drop_together(drops)]
        found += drops
    return tuple(found)


def _is_archived_table(operation: Operation) -> bool:
    phases = [step.phase for step in operation.steps]
    is_drop = operation.object_type == "TABLE" and operation.archives is not None
    return is_drop and len(phases) == 2 and phases[1] is Phase.CLEANUP


def drop_cascaded(operations: Sequence[Operation], options: OperationOptions) -> list[Operation]:
    """The operations, with a DROP of each view and trigger that the migration creates after a CASCADE that drops it.

    They come before the first CASCADE: what depends on an object is dropped before it.
    """
    first = next((n for n, each in enumerate(operations) if each.drops and _is_cascade(each.text)), None)
    if first is None:
        return list(operations)
    known = {each.creates for each in operations[:first]}
    cascades: list[Operation] = []
    dropped: list[Operation] = []
    for each in operations[first:]:
        if each.drops and _is_cascade(each.text):
            cascades.append(each)
        known.add(each.archives)
        if each.creates is not None and each.creates not in known and (found := _named_again(each)) is not None:
            dropped.insert(0, _drop_again(found, each, cascades, options))
        known.add(each.creates)
    return [*operations[:first], *dropped, *operations[first:]]


def drop_triggers_of_functions(operations: Sequence[Operation]) -> list[Operation]:
    """DROP FUNCTION … CASCADE with the triggers that execute the function, whatever their tables are.

    Not where the migration creates one of its name: there they would execute the new one.
    """
    created = {any_of_name(each.creates) for each in operations if each.creates is not None}
    return [
        _with_triggers(each)
        if each.archives is not None
        and each.archives.space == "routine"
        and any_of_name(each.archives) not in created
        and each.drops
        and not each.drops[0].args
        and _is_cascade(each.text)
        else each
        for each in operations
    ]


def _with_triggers(operation: Operation) -> Operation:
    """Disables them where the function gets its other name, and drops them in cleanup: as DROP TRIGGER does it."""
    names = operation.drops[0].names
    own, old = (
        f"to_regprocedure({quote_literal(name_sql(*names[:-1], each) + '()')})"
        for each in (names[-1], old_object_name(names[-1]))
    )
    # A trigger of a view cannot be disabled.
    executing = (
        "NOT t.tgisinternal AND EXISTS (SELECT FROM pg_class c WHERE c.oid = t.tgrelid AND c.relkind <> 'v')"
        " AND t.tgfoid = "
    )
    what = operation.summary.removeprefix("drop ")
    phase = next((step.phase for step in operation.steps if step.phase is not Phase.CLEANUP), Phase.CONTRACT)
    disable = OperationStep(
        phase,
        f"disable the triggers of {what}",
        (_for_each_trigger(executing + own, "'ALTER TABLE ONLY %s DISABLE TRIGGER %I', r.relation, r.name"),),
        undo_query=states_query(executing + own),
        settings=operation.settings,
    )
    drop = OperationStep(
        Phase.CLEANUP,
        f"drop the triggers of {what}",
        (_for_each_trigger(f"{executing}{old} AND t.tgparentid = 0", "'DROP TRIGGER %I ON %s', r.name, r.relation"),),
        settings=operation.settings,
    )
    found = f"FROM pg_trigger t WHERE {executing}coalesce({old}, {own})"
    kept = [step for step in operation.steps if step.phase is not Phase.CLEANUP]
    last = [step for step in operation.steps if step.phase is Phase.CLEANUP]
    note = (
        f"SELECT {quote_literal(f'{operation.summary} CASCADE drops, too: ')} || string_agg(format('trigger %I on %s',"
        f" t.tgname, t.tgrelid::regclass), ', ' ORDER BY t.tgname) {found} AND t.tgparentid = 0 HAVING count(*) > 0"
    )
    address = ObjectAddress(
        "trigger", names, query=f"SELECT 'pg_trigger'::regclass::oid AS classid, t.oid AS objid, 0 AS objsubid {found}"
    )
    return replace(
        operation,
        steps=(disable, *kept, drop, *last),
        drops=(*operation.drops, address),
        notes=(*operation.notes, note),
    )


def _for_each_trigger(condition: str, formatted: str) -> str:
    """Executes a statement for each trigger.

    Args:
        condition: over pg_trigger t.
        formatted: the arguments of format(), of ``r.relation`` and ``r.name``.
    """
    body = f"""  FOR r IN SELECT t.tgrelid::regclass AS relation, t.tgname AS name FROM pg_trigger t
    WHERE {condition} ORDER BY t.tgrelid LOOP
    EXECUTE format({formatted});
  END LOOP;
"""
    return block(body, "  r record;\n")


def _is_cascade(text: str) -> bool:
    if "cascade" not in text.lower():  # most texts are not parsed once more
        return False
    nodes = (node for node in walk(parse_sql(text)) if node_class(node) in ("DropStmt", "AlterTableCmd"))
    return any(enum_name(node, "behavior") == "DROP_CASCADE" for node in nodes)


def _named_again(creation: Operation) -> tuple[str, str, str] | None:
    """Of a view or trigger that is created: its DROP, the catalog that it is in, and a query of its OID."""
    statement = parse_sql(creation.text).stmts[0].stmt
    if statement.HasField("create_trig_stmt"):
        trigger = statement.create_trig_stmt
        table, name = relation_sql(trigger.relation), trigger.trigname
        oid = (
            f"SELECT oid FROM pg_trigger WHERE tgrelid = to_regclass({quote_literal(table)})"
            f" AND tgname = {quote_literal(name)}"
        )
        return f"DROP TRIGGER IF EXISTS {name_sql(name)} ON {table}", "pg_trigger", oid
    if statement.HasField("view_stmt"):
        word, view = "VIEW", statement.view_stmt.view
    elif enum_name(statement.create_table_as_stmt, "objtype") == "OBJECT_MATVIEW":
        word, view = "MATERIALIZED VIEW", statement.create_table_as_stmt.into.rel
    else:
        return None
    name = relation_sql(view)
    return f"DROP {word} IF EXISTS {name}", "pg_class", f"SELECT to_regclass({quote_literal(name)})::oid AS oid"


def _drop_again(
    named: tuple[str, str, str], creation: Operation, cascades: Sequence[Operation], options: OperationOptions
) -> Operation:
    """The DROP of an object that a new one replaces: CASCADE has dropped it, or the new one could not be created."""
    text, catalog, oid = named
    (operation,) = read_drop(parse_sql(text).stmts[0].stmt.drop_stmt, text, replace(options, scope=Scope()))
    gone = " UNION ALL ".join(f"SELECT * FROM {each.sql} AS found" for one in cascades for each in one.drops)
    what = f"{creation.summary}: it exists already, and nothing that the migration drops by CASCADE has it"
    query = f"""
WITH RECURSIVE gone (classid, objid, objsubid) AS (
  SELECT * FROM ({gone}) AS dropped
  UNION
  SELECT CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END, coalesce(r.ev_class, d.objid),
         CASE WHEN r.oid IS NULL THEN d.objsubid ELSE 0 END
  FROM gone g JOIN pg_depend d ON d.refclassid = g.classid AND d.refobjid = g.objid
   AND (g.objsubid = 0 OR d.refobjsubid = g.objsubid)
  LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
)
SELECT {quote_literal(what)} FROM ({oid}) AS named WHERE named.oid IS NOT NULL
  AND NOT EXISTS (SELECT FROM gone WHERE classid = {quote_literal(catalog)}::regclass AND objid = named.oid)
"""
    return replace(
        operation,
        steps=tuple(replace(step, settings=creation.settings) for step in operation.steps),
        settings=creation.settings,
        archives=creation.creates,
        on=creation.on,
        requirements=(Requirement(query, "drop it by name before, or give the new one another name"),),
    )

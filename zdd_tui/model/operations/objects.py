"""Views, types, functions, triggers and other objects: created in expand, archived in contract, dropped in cleanup."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from collections.abc import Mapping
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, relation_sql
from zdd_tui.model.operations.statements import read_own_statement
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import deparse, enum_name, name_sql, parse_sql, quote_literal, string_values, type_sql

_EXISTS = {
    "EXTENSION": "SELECT FROM pg_extension WHERE extname = {name}",
    "FUNCTION": "SELECT WHERE to_regprocedure({name}) IS NOT NULL",
    "SCHEMA": "SELECT WHERE to_regnamespace({name}) IS NOT NULL",
    "STATISTICS": "SELECT FROM pg_statistic_ext WHERE stxname = {name}",
    "TYPE": "SELECT WHERE to_regtype({name}) IS NOT NULL",
}
"""Whether an object exists, by its word; the default asks for a relation."""


def _create(word: str, name: str, text: str, *, is_optional: bool = False, on: str = "") -> tuple[Operation, ...]:
    """
    Args:
        name: as SQL, with arguments where the object has them.
        is_optional: IF NOT EXISTS: what exists already stays after a rollback.
        on: the table of a trigger or policy, as SQL.
    """
    drop = f"DROP {word} {name}{f' ON {on}' if on else ''}"
    exists = _EXISTS.get(word, "SELECT WHERE to_regclass({name}) IS NOT NULL").format(name=quote_literal(name))
    step = OperationStep(
        Phase.EXPAND,
        f"create {word.lower()} {name}{f' on {on}' if on else ''}",
        (text,),
        undo=() if is_optional else (drop,),
        undo_query=f"SELECT {quote_literal(drop)} WHERE NOT EXISTS ({exists})" if is_optional else "",
    )
    return (Operation(text, step.label, (step,)),)


_RESTORE_VIEW = (
    "DO $zdd$ BEGIN CREATE OR REPLACE VIEW %1$s AS %2$s EXCEPTION WHEN invalid_table_definition THEN"
    " DROP VIEW %1$s; CREATE VIEW %1$s AS %2$s %3$s END $zdd$"
)
"""A view that has got columns cannot be replaced by one without them: then it is created anew, with its rights."""


def _read_view(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    name = relation_sql(statement.view)
    if not statement.replace:
        return _create("VIEW", name, text)
    literal = quote_literal(name)
    before = (
        f"SELECT CASE WHEN to_regclass({literal}) IS NULL THEN {quote_literal(f'DROP VIEW {name}')} ELSE"
        f" format({quote_literal(_RESTORE_VIEW)}, {literal}, pg_get_viewdef(to_regclass({literal})),"
        " (SELECT string_agg(format('GRANT %s ON ' || c.oid::regclass || ' TO %s;', acl.privilege_type,"
        " CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END), ' ')"
        f" FROM pg_class c, aclexplode(c.relacl) AS acl WHERE c.oid = to_regclass({literal}))) END"
    )
    return (_replace(f"view {name}", text, before),)


def _read_function(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    """A function or procedure; one that exists is replaced, and its definition comes back with a rollback."""
    inputs = [
        type_sql(each.function_parameter.arg_type)
        for each in statement.parameters
        if enum_name(each.function_parameter, "mode") not in ("FUNC_PARAM_OUT", "FUNC_PARAM_TABLE")
    ]
    name = f"{name_sql(*string_values(statement.funcname))}({', '.join(inputs)})"
    if not statement.replace:
        return _create("PROCEDURE" if statement.is_procedure else "FUNCTION", name, text)
    literal = quote_literal(name)
    before = (
        f"SELECT CASE WHEN to_regprocedure({literal}) IS NULL THEN {quote_literal(f'DROP ROUTINE {name}')}"
        f" ELSE pg_get_functiondef(to_regprocedure({literal})) END"
    )
    return (_replace(f"function {name}", text, before),)


def _replace(what: str, text: str, before: str) -> Operation:
    step = OperationStep(Phase.EXPAND, f"create or replace {what}", (text,), undo_query=before)
    return Operation(text, step.label, (step,))


def _read_table_as(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    word = "MATERIALIZED VIEW" if enum_name(statement, "objtype") == "OBJECT_MATVIEW" else "TABLE"
    return _create(word, relation_sql(statement.into.rel), text, is_optional=statement.if_not_exists)


def _read_type(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    names = string_values(statement.type_name)
    return _create("TYPE", name_sql(*names), text)


def _read_composite_type(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    return _create("TYPE", relation_sql(statement.typevar), text)


def _read_domain(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    return _create("DOMAIN", name_sql(*string_values(statement.domainname)), text)


def _read_sequence(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    return _create("SEQUENCE", relation_sql(statement.sequence), text, is_optional=statement.if_not_exists)


def _read_schema(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    if not statement.schemaname or statement.schema_elts:
        return (read_own_statement(text, options),)
    return _create("SCHEMA", name_sql(statement.schemaname), text, is_optional=statement.if_not_exists)


def _read_extension(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    return _create("EXTENSION", name_sql(statement.extname), text, is_optional=statement.if_not_exists)


def _read_statistics(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    names = string_values(statement.defnames)
    if not names:
        return (read_own_statement(text, options),)
    return _create("STATISTICS", name_sql(*names), text, is_optional=statement.if_not_exists)


def _read_trigger(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    if statement.replace or statement.isconstraint:
        return (read_own_statement(text, options),)
    return _create("TRIGGER", name_sql(statement.trigname), text, on=relation_sql(statement.relation))


def _read_policy(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    return _create("POLICY", name_sql(statement.policy_name), text, on=relation_sql(statement.table))


def _read_enum_value(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """ADD VALUE. PostgreSQL has no way to take it back, and an unused value harms nobody.

    So the value may be there from an earlier release of the same plan that was rolled back.
    """
    if statement.old_val:
        return (read_own_statement(text, options),)
    name = name_sql(*string_values(statement.type_name))
    label = f"add value {statement.new_val} to {name}, which stays after a rollback"
    tree = parse_sql(text)
    tree.stmts[0].stmt.alter_enum_stmt.skip_if_new_val_exists = True
    return (Operation(text, label, (OperationStep(Phase.EXPAND, label, (deparse(tree),)),)),)


# --- comments and rights

_ADDRESSES = {
    "OBJECT_TABLE": "table",
    "OBJECT_COLUMN": "table column",
    "OBJECT_VIEW": "view",
    "OBJECT_MATVIEW": "materialized view",
    "OBJECT_INDEX": "index",
    "OBJECT_SEQUENCE": "sequence",
}
"""Names of pg_get_object_address, for objects that a list of names identifies."""


def _read_comment(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    if (kind := _ADDRESSES.get(enum_name(statement, "objtype"))) is None:
        return (read_own_statement(text, options),)
    names = string_values(statement.object.list.items)
    parts = ", ".join(quote_literal(name) for name in names)
    tree = parse_sql(text)
    tree.stmts[0].stmt.comment_stmt.comment = "-"
    begin = deparse(tree).rpartition(" IS ")[0]
    before = (
        f"SELECT {quote_literal(begin + ' IS ')} || coalesce(quote_literal(d.description), 'NULL')"
        f" FROM pg_get_object_address({quote_literal(kind)}, ARRAY[{parts}], '{{}}') AS a"
        " LEFT JOIN pg_description d ON (d.objoid, d.classoid, d.objsubid) = (a.objid, a.classid, a.objsubid)"
    )
    label = f"comment on {name_sql(*names)}"
    return (Operation(text, label, (OperationStep(Phase.EXPAND, label, (text,), undo_query=before),)),)


_TABLE_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


def _read_grant(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """Rights on tables. GRANT belongs to expand, REVOKE to contract; the undo changes what the statement changed."""
    privileges = [each.access_priv for each in statement.privileges]
    tables = [each.range_var for each in statement.objects]
    roles = [each.role_spec for each in statement.grantees]
    is_plain = (
        enum_name(statement, "targtype") == "ACL_TARGET_OBJECT"
        and enum_name(statement, "objtype") == "OBJECT_TABLE"
        and not statement.grant_option
        and not any(each.cols for each in privileges)
        and all(enum_name(role, "roletype") in ("ROLESPEC_CSTRING", "ROLESPEC_PUBLIC") for role in roles)
    )
    if not is_plain:
        return (read_own_statement(text, options),)
    names = [each.priv_name.upper() for each in privileges] or list(_TABLE_PRIVILEGES)
    queries = [
        _restore_privilege(relation_sql(table), privilege, role.rolename, was_granted=not statement.is_grant)
        for table in tables
        for privilege in names
        for role in roles
    ]
    verb = "grant" if statement.is_grant else "revoke"
    to = "to" if statement.is_grant else "from"
    what = ", ".join(each.priv_name for each in privileges) or "all rights"
    label = f"{verb} {what} on {', '.join(map(relation_sql, tables))} {to} {', '.join(r.rolename for r in roles)}"
    phase = Phase.EXPAND if statement.is_grant or not options.has_rollout else Phase.CONTRACT
    step = OperationStep(phase, label, (text,), undo_query=" UNION ALL ".join(queries))
    return (Operation(text, label, (step,)),)


def _restore_privilege(table: str, privilege: str, role: str, *, was_granted: bool) -> str:
    verb, to = ("GRANT", "TO") if was_granted else ("REVOKE", "FROM")
    condition = "EXISTS" if was_granted else "NOT EXISTS"
    grantee = name_sql(role) if role else "PUBLIC"
    is_grantee = f"acl.grantee = {quote_literal(grantee)}::regrole" if role else "acl.grantee = 0"
    return (
        f"SELECT {quote_literal(f'{verb} {privilege} ON {table} {to} {grantee}')} WHERE {condition}"
        f" (SELECT FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS acl"
        f" WHERE c.oid = to_regclass({quote_literal(table)})"
        f" AND {is_grantee} AND acl.privilege_type = {quote_literal(privilege)})"
    )


# --- removal

_RENAMED = {
    "OBJECT_VIEW": "VIEW",
    "OBJECT_MATVIEW": "MATERIALIZED VIEW",
    "OBJECT_SEQUENCE": "SEQUENCE",
    "OBJECT_TABLE": "TABLE",
    "OBJECT_TYPE": "TYPE",
    "OBJECT_DOMAIN": "DOMAIN",
}
"""Objects that are archived by a rename."""


def read_drop(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """
    Raises:
        PlanError: it would drop objects that the statement does not name.
    """
    removed = enum_name(statement, "remove_type")
    if removed not in _RENAMED and removed not in ("OBJECT_TRIGGER", "OBJECT_STATISTIC_EXT"):
        return (read_own_statement(text, options),)
    if enum_name(statement, "behavior") == "DROP_CASCADE":
        raise PlanError(
            f"{' '.join(text.split())}: CASCADE drops objects that the statement does not name", "drop each by name"
        )
    operations = []
    for each in statement.objects:
        names = string_values(each.list.items) or string_values(each.type_name.names)
        if removed == "OBJECT_TRIGGER":
            operations.append(_drop_trigger(names, text))
        elif removed == "OBJECT_STATISTIC_EXT":
            operations.append(_drop_statistics(names, text))
        else:
            operations.append(_archive(_RENAMED[removed], names, text, is_optional=statement.missing_ok))
    return tuple(operations)


def _archive(word: str, names: list[str], text: str, *, is_optional: bool) -> Operation:
    name, short = name_sql(*names), names[-1]
    what, archived, there = f"{word.lower()} {name}", f"zdd_old_{short}", name_sql(*names[:-1], f"zdd_old_{short}")
    optional = "IF EXISTS " if is_optional and word not in ("TYPE", "DOMAIN") else ""
    steps = (
        OperationStep(
            Phase.CONTRACT,
            f"archive {what}",
            (f"ALTER {word} {optional}{name} RENAME TO {name_sql(archived)}",),
            (f"ALTER {word} {optional}{there} RENAME TO {name_sql(short)}",),
        ),
        OperationStep(Phase.CLEANUP, f"drop {what}", (f"DROP {word} {'IF EXISTS ' if is_optional else ''}{there}",)),
    )
    return Operation(text, f"drop {what}", steps, removes=(what,))


def _drop_trigger(names: list[str], text: str) -> Operation:
    table, trigger = name_sql(*names[:-1]), name_sql(names[-1])
    what = f"trigger {trigger} of {table}"
    steps = (
        OperationStep(
            Phase.CONTRACT,
            f"disable {what}",
            (f"ALTER TABLE {table} DISABLE TRIGGER {trigger}",),
            (f"ALTER TABLE {table} ENABLE TRIGGER {trigger}",),
        ),
        OperationStep(Phase.CLEANUP, f"drop {what}", (f"DROP TRIGGER {trigger} ON {table}",)),
    )
    return Operation(text, f"drop {what}", steps, removes=(what,))


def _drop_statistics(names: list[str], text: str) -> Operation:
    name = name_sql(*names)
    schema = "" if len(names) == 1 else f" AND n.nspname = {quote_literal(names[0])}"
    before = (
        "SELECT pg_get_statisticsobjdef(s.oid) FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace"
        f" WHERE s.stxname = {quote_literal(names[-1])}{schema}"
    )
    step = OperationStep(Phase.CONTRACT, f"drop statistics {name}", (f"DROP STATISTICS {name}",), undo_query=before)
    return Operation(text, step.label, (step,))


OBJECT_READERS: Mapping[str, Any] = {
    "comment_stmt": _read_comment,
    "composite_type_stmt": _read_composite_type,
    "create_domain_stmt": _read_domain,
    "create_enum_stmt": _read_type,
    "create_extension_stmt": _read_extension,
    "create_function_stmt": _read_function,
    "create_policy_stmt": _read_policy,
    "create_range_stmt": _read_type,
    "create_schema_stmt": _read_schema,
    "create_seq_stmt": _read_sequence,
    "create_stats_stmt": _read_statistics,
    "create_table_as_stmt": _read_table_as,
    "create_trig_stmt": _read_trigger,
    "alter_enum_stmt": _read_enum_value,
    "grant_stmt": _read_grant,
    "view_stmt": _read_view,
}

"""Rights: GRANT belongs to expand, REVOKE to contract. A rollback restores the rights of before, whatever they were."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zdd_tui.model.operations.addresses import NamedObject, name_object
from zdd_tui.model.operations.base import Operation, OperationOptions, OperationStep, relation_sql, shorten
from zdd_tui.model.operations.statements import read_own_statement
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import enum_name, name_sql, quote_literal, string_values, type_sql


@dataclass(frozen=True, slots=True)
class _RightsKind:
    """Where PostgreSQL keeps the rights of a kind of objects.

    Attributes:
        catalog, acl, owner: names; the catalog's alias in expressions is ``o``.
        letter: of acldefault, as SQL.
        name: the word and the object's name after ON, as SQL.
        namespace: the column of its schema; empty where it has none.
    """

    catalog: str
    acl: str
    owner: str
    letter: str
    name: str
    namespace: str = ""


_RELATION = _RightsKind(
    *("pg_class", "relacl", "relowner", "CASE o.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\""),
    "CASE o.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || o.oid::regclass",
    "relnamespace",
)
_ROUTINE = _RightsKind(
    "pg_proc", "proacl", "proowner", "'f'::\"char\"", "'ROUTINE ' || o.oid::regprocedure", "pronamespace"
)
_TYPE = _RightsKind("pg_type", "typacl", "typowner", "'T'::\"char\"", "'TYPE ' || format_type(o.oid, NULL)")
_NAMED = {
    "OBJECT_SCHEMA": ("pg_namespace", "nsp", "n", "SCHEMA"),
    "OBJECT_LANGUAGE": ("pg_language", "lan", "l", "LANGUAGE"),
    "OBJECT_FDW": ("pg_foreign_data_wrapper", "fdw", "F", "FOREIGN DATA WRAPPER"),
    "OBJECT_FOREIGN_SERVER": ("pg_foreign_server", "srv", "S", "FOREIGN SERVER"),
    "OBJECT_DATABASE": ("pg_database", "dat", "d", "DATABASE"),
}


def _kind_of(objtype: str) -> _RightsKind | None:
    if objtype in ("OBJECT_TABLE", "OBJECT_SEQUENCE"):
        return _RELATION
    if objtype in ("OBJECT_FUNCTION", "OBJECT_PROCEDURE", "OBJECT_ROUTINE"):
        return _ROUTINE
    if objtype in ("OBJECT_TYPE", "OBJECT_DOMAIN"):
        return _TYPE
    if objtype not in _NAMED:
        return None
    catalog, prefix, letter, word = _NAMED[objtype]
    owner = "datdba" if prefix == "dat" else f"{prefix}owner"
    return _RightsKind(
        catalog, f"{prefix}acl", owner, f"'{letter}'::\"char\"", f"'{word} ' || quote_ident(o.{prefix}name)"
    )


def _difference(now: str, before: str, prefix: str, on: str) -> str:
    """The statements that make the rights those of before.

    Args:
        now, before: aclitem[] as SQL.
        prefix: before GRANT and REVOKE, as SQL.
        on: after ON, as SQL.
    """
    role = "CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END"
    exploded = (
        "SELECT grantee, privilege_type, bool_or(is_grantable) AS can FROM aclexplode(nullif({}, '{{}}')) GROUP BY 1, 2"
    )
    return (
        f"SELECT CASE WHEN old.can IS NULL THEN {prefix} || 'REVOKE ' || privilege_type || {on} || ' FROM ' || {role}"
        f" WHEN now.can AND NOT old.can THEN {prefix} || 'REVOKE GRANT OPTION FOR ' || privilege_type || {on}"
        f" || ' FROM ' || {role}"
        f" ELSE {prefix} || 'GRANT ' || privilege_type || {on} || ' TO ' || {role}"
        " || CASE WHEN old.can THEN ' WITH GRANT OPTION' ELSE '' END END AS sql"
        f" FROM ({exploded.format(now)}) AS now FULL JOIN ({exploded.format(before)}) AS old"
        " USING (grantee, privilege_type) WHERE now.can IS DISTINCT FROM old.can"
    )


def _block(queries: list[str]) -> str:
    loops = " ".join(f"FOR r IN {query} LOOP EXECUTE r.sql; END LOOP;" for query in queries)
    return f"DO $zdd_rights$ DECLARE r record; BEGIN {loops} END $zdd_rights$"


def _restore_rights(kind: _RightsKind, condition: str) -> str:
    """For ``undo_query``: a block for each object.

    Args:
        condition: over the catalog's row o.
    """
    held = f"coalesce(o.{kind.acl}, acldefault({kind.letter}, o.{kind.owner}))"
    now = f"(SELECT {held} FROM {kind.catalog} o WHERE o.oid = %1$s)"
    block = _block([_difference(now, "%2$L::aclitem[]", "''", "' ON ' || %3$L")])
    query = f"SELECT format({quote_literal(block)}, o.oid, {held}, {kind.name}) FROM {kind.catalog} o WHERE {condition}"
    if kind is not _RELATION:
        return query
    column_now = "(SELECT coalesce(a.attacl, '{}') FROM pg_attribute a WHERE a.attrelid = %1$s AND a.attnum = %4$s)"
    column_block = _block(
        [_difference(column_now, "%2$L::aclitem[]", "''", "'(' || quote_ident(%5$L) || ') ON ' || %3$L")]
    )
    return (
        f"{query} UNION ALL SELECT format({quote_literal(column_block)}, o.oid, coalesce(a.attacl, '{{}}'),"
        f" {kind.name}, a.attnum, a.attname) FROM {kind.catalog} o JOIN pg_attribute a ON a.attrelid = o.oid"
        f" WHERE a.attnum > 0 AND NOT a.attisdropped AND {condition} AND o.relkind <> 'S'"
    )


def _read_grant(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    objtype = enum_name(statement, "objtype")
    kind = _kind_of(objtype)
    condition = _condition(statement, objtype) if kind is not None else ""
    if kind is None or not condition:
        return (read_own_statement(text, options),)
    phase = Phase.EXPAND if statement.is_grant else options.last_phase
    step = OperationStep(phase, shorten(text), (text,), undo_query=_restore_rights(kind, condition))
    return (Operation(text, step.label, (step,), topic="rights"),)


def _condition(statement: Any, objtype: str) -> str:
    objects = statement.objects
    if enum_name(statement, "targtype") == "ACL_TARGET_ALL_IN_SCHEMA":
        schemas = " , ".join(f"to_regnamespace({quote_literal(name_sql(each))})" for each in string_values(objects))
        if objtype == "OBJECT_TABLE":
            return f"o.relnamespace IN ({schemas}) AND o.relkind IN ('r', 'v', 'm', 'f', 'p')"
        if objtype == "OBJECT_SEQUENCE":
            return f"o.relnamespace IN ({schemas}) AND o.relkind = 'S'"
        return f"o.pronamespace IN ({schemas})"
    if objtype in ("OBJECT_TABLE", "OBJECT_SEQUENCE"):
        return (
            f"o.oid IN ({', '.join(f'to_regclass({quote_literal(relation_sql(each.range_var))})' for each in objects)})"
        )
    if objtype in ("OBJECT_FUNCTION", "OBJECT_PROCEDURE", "OBJECT_ROUTINE"):
        return f"o.oid IN ({', '.join(_routine_oid(each.object_with_args) for each in objects)})"
    if objtype in ("OBJECT_TYPE", "OBJECT_DOMAIN"):
        names = (name_sql(*string_values(each.list.items or each.type_name.names)) for each in objects)
        return f"o.oid IN ({', '.join(f'to_regtype({quote_literal(name)})' for name in names)})"
    column = f"{_NAMED[objtype][1]}name"
    return f"o.{column} IN ({', '.join(quote_literal(each) for each in string_values(objects))})"


def _routine_oid(given: Any) -> str:
    name = name_sql(*string_values(given.objname))
    if given.args_unspecified:
        return f"to_regproc({quote_literal(name)})"
    types = ", ".join(type_sql(each.type_name) for each in given.objargs)
    return f"to_regprocedure({quote_literal(f'{name}({types})')})"


_DEFAULTS = {
    "OBJECT_TABLE": ("r", "r", "TABLES"),
    "OBJECT_SEQUENCE": ("S", "s", "SEQUENCES"),
    "OBJECT_FUNCTION": ("f", "f", "ROUTINES"),
    "OBJECT_ROUTINE": ("f", "f", "ROUTINES"),
    "OBJECT_TYPE": ("T", "T", "TYPES"),
    "OBJECT_SCHEMA": ("n", "n", "SCHEMAS"),
}


def _read_default_privileges(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """Rights that later objects get."""
    objtype = enum_name(statement.action, "objtype")
    if objtype not in _DEFAULTS:
        return (read_own_statement(text, options),)
    letter, default, word = _DEFAULTS[objtype]
    given = {each.def_elem.defname: each.def_elem.arg.list.items for each in statement.options}
    roles = [each.role_spec.rolename for each in given.get("roles", ())] or [""]
    schemas = string_values(given.get("schemas", ())) or [""]
    queries = []
    for role in roles:
        for schema in schemas:
            owner = f"{quote_literal(name_sql(role))}::regrole" if role else "current_user::regrole"
            space = f"{quote_literal(name_sql(schema))}::regnamespace" if schema else "0"
            missing = "'{}'::aclitem[]" if schema else f"acldefault('{default}', {owner})"
            now = (
                f"(SELECT coalesce((SELECT defaclacl FROM pg_default_acl WHERE defaclrole = {owner} AND"
                f" defaclnamespace = {space} AND defaclobjtype = '{letter}'), {missing}))"
            )
            of = f" FOR ROLE {name_sql(role)}" if role else ""
            prefix = f"ALTER DEFAULT PRIVILEGES{of}{f' IN SCHEMA {name_sql(schema)}' if schema else ''} "
            block = _block(
                [
                    _difference(
                        now.replace("%", "%%"),
                        "%1$L::aclitem[]",
                        quote_literal(prefix).replace("%", "%%"),
                        quote_literal(f" ON {word}"),
                    )
                ]
            )
            queries.append(f"SELECT format({quote_literal(block)}, {now})")
    phase = Phase.EXPAND if statement.action.is_grant else options.last_phase
    step = OperationStep(phase, shorten(text), (text,), undo_query=" UNION ALL ".join(queries))
    return (Operation(text, step.label, (step,), topic="rights of later objects or members"),)


def _read_grant_role(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """Membership in roles. What it was before is restored; its options are PostgreSQL's defaults."""
    roles = [each.access_priv.priv_name for each in statement.granted_roles]
    members = [each.role_spec.rolename for each in statement.grantee_roles]
    if statement.opt or not all(members):
        return (read_own_statement(text, options),)
    queries = []
    for role in roles:
        for member in members:
            exists = (
                "EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles u"
                f" ON u.oid = m.member WHERE r.rolname = {quote_literal(role)} AND u.rolname = {quote_literal(member)})"
            )
            verb, to = ("REVOKE", "FROM") if statement.is_grant else ("GRANT", "TO")
            undo = quote_literal(f"{verb} {name_sql(role)} {to} {name_sql(member)}")
            queries.append(f"SELECT {undo} WHERE {'NOT ' if statement.is_grant else ''}{exists}")
    phase = Phase.EXPAND if statement.is_grant else options.last_phase
    step = OperationStep(phase, shorten(text), (text,), undo_query=" UNION ALL ".join(queries))
    return (Operation(text, step.label, (step,), topic="rights of later objects or members"),)


def recreated_rights_query(word: str, name: str) -> str:
    """An expression: the statements that give a new object what the present one has: owner, rights, comments.

    Args:
        word: VIEW or FUNCTION.
        name: a literal with the object's name as SQL.
    """
    if word == "VIEW":
        kind, oid, class_name = _RELATION, f"to_regclass({name})", "pg_class"
        extra = (
            f" UNION ALL SELECT 5, format('COMMENT ON COLUMN %s.%I IS %L;', {name}, a.attname, d.description)"
            f" FROM pg_description d JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid"
            f" WHERE d.objoid = {oid} AND d.classoid = 'pg_class'::regclass AND d.objsubid > 0"
            f" UNION ALL SELECT 6, pg_get_triggerdef(t.oid) || ';' FROM pg_trigger t WHERE t.tgrelid = {oid}"
            f" AND NOT t.tgisinternal"
            f" UNION ALL SELECT 7, format('GRANT %s (%I) ON %s TO %s;', x.privilege_type, a.attname, {name},"
            f" CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END)"
            f" FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = {oid}"
        )
        on = name
    else:
        kind, oid, class_name, extra = _ROUTINE, f"to_regprocedure({name})", "pg_proc", ""
        on = f"'{word} ' || {name}"
    grantee = "CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END"
    return (
        "SELECT string_agg(made.sql, ' ' ORDER BY made.place) FROM ("
        f"SELECT 1 AS place, format('ALTER {word} %s OWNER TO %I;', {name}, pg_get_userbyid(o.{kind.owner})) AS sql"
        f" FROM {kind.catalog} o WHERE o.oid = {oid}"
        f" UNION ALL SELECT 2, format('REVOKE ALL ON %s FROM PUBLIC;', {on}) FROM {kind.catalog} o"
        f" WHERE o.oid = {oid} AND o.{kind.acl} IS NOT NULL"
        f" UNION ALL SELECT 3, format('GRANT %s ON %s TO %s%s;', x.privilege_type, {on}, {grantee},"
        " CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)"
        f" FROM {kind.catalog} o, aclexplode(o.{kind.acl}) x WHERE o.oid = {oid} AND x.grantee <> o.{kind.owner}"
        f" UNION ALL SELECT 4, format('COMMENT ON {word} %s IS %L;', {name}, d.description) FROM pg_description d"
        f" WHERE d.objoid = {oid} AND d.classoid = '{class_name}'::regclass AND d.objsubid = 0{extra}) AS made"
    )


# --- owners

_OWNERS: Mapping[str, str] = {
    "OBJECT_SCHEMA": "SELECT nspowner FROM pg_namespace WHERE nspname = {literal}",
    "OBJECT_TYPE": "SELECT typowner FROM pg_type WHERE oid = to_regtype({name})",
    "OBJECT_DOMAIN": "SELECT typowner FROM pg_type WHERE oid = to_regtype({name})",
    "OBJECT_PUBLICATION": "SELECT pubowner FROM pg_publication WHERE pubname = {literal}",
    "OBJECT_EVENT_TRIGGER": "SELECT evtowner FROM pg_event_trigger WHERE evtname = {literal}",
    "OBJECT_FOREIGN_SERVER": "SELECT srvowner FROM pg_foreign_server WHERE srvname = {literal}",
    "OBJECT_FDW": "SELECT fdwowner FROM pg_foreign_data_wrapper WHERE fdwname = {literal}",
    "OBJECT_LANGUAGE": "SELECT lanowner FROM pg_language WHERE lanname = {literal}",
    "OBJECT_STATISTIC_EXT": "SELECT stxowner FROM pg_statistic_ext s, {address} a WHERE s.oid = a.objid",
    "OBJECT_COLLATION": "SELECT collowner FROM pg_collation s, {address} a WHERE s.oid = a.objid",
    "OBJECT_OPERATOR": "SELECT oprowner FROM pg_operator s, {address} a WHERE s.oid = a.objid",
    "OBJECT_OPCLASS": "SELECT opcowner FROM pg_opclass s, {address} a WHERE s.oid = a.objid",
    "OBJECT_OPFAMILY": "SELECT opfowner FROM pg_opfamily s, {address} a WHERE s.oid = a.objid",
    "OBJECT_CONVERSION": "SELECT conowner FROM pg_conversion s, {address} a WHERE s.oid = a.objid",
    "OBJECT_TSDICTIONARY": "SELECT dictowner FROM pg_ts_dict s, {address} a WHERE s.oid = a.objid",
    "OBJECT_TSCONFIGURATION": "SELECT cfgowner FROM pg_ts_config s, {address} a WHERE s.oid = a.objid",
    **dict.fromkeys(
        ("OBJECT_FUNCTION", "OBJECT_PROCEDURE", "OBJECT_AGGREGATE", "OBJECT_ROUTINE"),
        "SELECT proowner FROM pg_proc s, {address} a WHERE s.oid = a.objid",
    ),
}


def _read_owner(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    kind = enum_name(statement, "object_type")
    given = name_object(kind, statement.object, options.scope)
    if kind not in _OWNERS or (given.address is None and "{address}" in _OWNERS[kind]):
        return (read_own_statement(text, options),)
    query = _owner_query(given)
    alter = quote_literal(f"ALTER {given.sql.replace('%', '%%')} OWNER TO %I")
    before = f"SELECT format({alter}, pg_get_userbyid(({query})))"
    step = OperationStep(Phase.EXPAND, shorten(text), (text,), undo_query=before)
    return (Operation(text, step.label, (step,)),)


def _owner_query(given: NamedObject) -> str:
    return _OWNERS[given.kind].format(
        literal=quote_literal(given.names[0]),
        name=quote_literal(name_sql(*given.names)),
        address=given.address.sql if given.address is not None else "",
    )


RIGHT_READERS: Mapping[str, Any] = {
    "alter_default_privileges_stmt": _read_default_privileges,
    "alter_owner_stmt": _read_owner,
    "grant_role_stmt": _read_grant_role,
    "grant_stmt": _read_grant,
}

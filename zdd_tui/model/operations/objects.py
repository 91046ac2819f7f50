"""Objects that are created beside what running code knows: in expand, and dropped again by a rollback."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import (
    ObjectAddress,
    Operation,
    OperationOptions,
    OperationStep,
    Requirement,
    TypeRename,
    fit_name,
    relation_sql,
    shorten,
)
from zdd_tui.model.operations.generated import NEW_PREFIX
from zdd_tui.model.operations.scope import NewDomain, ObjectKey
from zdd_tui.model.operations.statements import read_own_statement
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import (
    deparse,
    enum_name,
    expression_sql,
    name_sql,
    parse_sql,
    quote_literal,
    string_values,
    type_sql,
)


def create_object(
    word: str, name: str, text: str, *, exists: ObjectAddress | None = None, on: str = ""
) -> tuple[Operation, ...]:
    """
    Args:
        name: as SQL, with arguments where the object has them.
        exists: for IF NOT EXISTS: what exists already stays after a rollback.
        on: the table of a trigger or policy, as SQL.
    """
    drop = f"DROP {word} IF EXISTS {name}{f' ON {on}' if on else ''}"
    label = f"create {word.lower()} {name}{f' on {on}' if on else ''}"
    step = OperationStep(Phase.EXPAND, label, (text,), (drop,), created=exists)
    return (Operation(text, label, (step,), object_type=word),)


def relation_address(kind: str, relation: Any) -> ObjectAddress:
    """
    Args:
        relation: a RangeVar.
    """
    return ObjectAddress(kind, tuple(part for part in (relation.schemaname, relation.relname) if part))


def _read_type(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    names = string_values(statement.type_name)
    if options.scope.key("type", names) in options.scope.moved_types:
        return _read_successor(statement, text, options)
    options.scope.create(options.scope.key("type", names))
    return create_object("TYPE", name_sql(*names), text)


def _read_successor(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """A type with the name of one that the migration has renamed. Running code uses that name until contract."""
    scope, tree = options.scope, parse_sql(text)
    key = scope.key("type", string_values(statement.type_name))
    (kind,) = (tree.stmts[0].stmt.WhichOneof("node"),)
    *schema, last = getattr(tree.stmts[0].stmt, kind).type_name
    names = (*string_values(schema), fit_name(NEW_PREFIX, key.name))
    last.string.sval = names[-1]
    scope.type_names[key] = replace(key, name=names[-1])
    scope.create(scope.type_names[key])
    rename = f"ALTER TYPE {name_sql(*names)} RENAME TO {name_sql(key.name)}"
    renamed = TypeRename(
        rename, shorten(rename), (), key=scope.type_names[key], names=names, name=key.name, is_new=True
    )
    return (*create_object("TYPE", name_sql(*names), deparse(tree)), renamed)


def _read_composite_type(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    relation = statement.typevar
    options.scope.create(options.scope.key("type", [each for each in (relation.schemaname, relation.relname) if each]))
    return create_object("TYPE", relation_sql(relation), text)


def _read_domain(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    names = string_values(statement.domainname)
    key = options.scope.key("type", names)
    options.scope.create(key)
    conditions = []
    for each in statement.constraints:
        match enum_name(each.constraint, "contype"):
            case "CONSTR_NOTNULL":
                conditions.append("value IS NOT NULL")
            case "CONSTR_CHECK":
                conditions.append(f"coalesce({expression_sql(each.constraint.raw_expr)}, true)")
    if conditions:
        domain = NewDomain(type_sql(statement.type_name), " AND ".join(conditions))
        options.scope.checked_domains[key] = domain
    return create_object("DOMAIN", name_sql(*names), text)


def _read_sequence(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    relation, is_optional = statement.sequence, statement.if_not_exists
    if relation.relpersistence == "t":
        raise refuse_temporary(text)
    options.scope.create(options.scope.relation_key(relation), is_optional=is_optional)
    exists = relation_address("sequence", relation) if is_optional else None
    return create_object("SEQUENCE", relation_sql(relation), text, exists=exists)


def refuse_temporary(text: str) -> PlanError:
    """The reason against temporary objects."""
    return PlanError(
        f"{shorten(text)}: a temporary object ends with its session, and every step has a session of its own",
        "write all statements that use it as one operation with undo:, or as one statement, or use an ordinary table",
    )


def _read_schema(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    name = statement.schemaname or statement.authrole.rolename
    if not name:
        return (read_own_statement(text, options),)
    if statement.schema_elts:
        raise PlanError(
            f"{shorten(text)}: it creates objects in the same statement", "write a statement for each of them"
        )
    options.scope.create(ObjectKey("schema", "", name), is_optional=statement.if_not_exists)
    exists = ObjectAddress("schema", (name,)) if statement.if_not_exists else None
    return create_object("SCHEMA", name_sql(name), text, exists=exists)


def _read_extension(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    exists = ObjectAddress("extension", (statement.extname,)) if statement.if_not_exists else None
    options.scope.create(ObjectKey("extension", "", statement.extname), is_optional=statement.if_not_exists)
    name, problem = statement.extname, f"the server does not have extension {statement.extname}"
    available = "(SELECT name FROM pg_available_extensions)"
    unavailable = Requirement(
        f"SELECT {quote_literal(problem)} WHERE {quote_literal(name)} NOT IN {available}",
        "install its package on the server of the database",
    )
    created = create_object("EXTENSION", name_sql(statement.extname), text, exists=exists)
    return tuple(replace(each, requirements=(unavailable,)) for each in created)


def _read_statistics(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    names = string_values(statement.defnames)
    if not names:
        return (read_own_statement(text, options),)
    exists = ObjectAddress("statistics object", tuple(names)) if statement.if_not_exists else None
    return create_object("STATISTICS", name_sql(*names), text, exists=exists)


_DEFINED = {
    "OBJECT_COLLATION": "COLLATION",
    "OBJECT_TYPE": "TYPE",
    "OBJECT_TSPARSER": "TEXT SEARCH PARSER",
    "OBJECT_TSDICTIONARY": "TEXT SEARCH DICTIONARY",
    "OBJECT_TSTEMPLATE": "TEXT SEARCH TEMPLATE",
    "OBJECT_TSCONFIGURATION": "TEXT SEARCH CONFIGURATION",
}


def _read_definition(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """CREATE of an aggregate, operator, collation, shell type or part of text search."""
    kind, names = enum_name(statement, "kind"), string_values(statement.defnames)
    name = name_sql(*names) if kind != "OBJECT_OPERATOR" else ""
    if statement.replace:
        return (read_own_statement(text, options),)
    if kind in _DEFINED:
        word = _DEFINED[kind]
        exists = ObjectAddress(word.lower(), tuple(names)) if statement.if_not_exists else None
        if kind == "OBJECT_TYPE":
            options.scope.create(options.scope.key("type", names))
        return create_object(word, name, text, exists=exists)
    options_by_name = {each.def_elem.defname: each.def_elem.arg for each in statement.definition}
    if kind == "OBJECT_OPERATOR":
        sides = [
            type_sql(options_by_name[side].type_name) if side in options_by_name else "NONE"
            for side in ("leftarg", "rightarg")
        ]
        operator = ".".join([*(name_sql(part) for part in names[:-1]), names[-1]])
        return create_object("OPERATOR", f"{operator} ({', '.join(sides)})", text)
    if kind == "OBJECT_AGGREGATE" and not statement.oldstyle:
        tree = parse_sql(text)
        head = deparse(tree).removeprefix("CREATE AGGREGATE ")
        return create_object("AGGREGATE", head[: _closing(head) + 1], text)
    return (read_own_statement(text, options),)


def _closing(text: str) -> int:
    """The position of the bracket that closes the first one; names in it hold none, or are not followed."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == ")" and depth == 0:
            return position
    return len(text) - 1


def _read_cast(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    return create_object("CAST", f"({type_sql(statement.sourcetype)} AS {type_sql(statement.targettype)})", text)


def _reader_of(word: str, field: str, kind: str = "") -> Any:
    """A reader of objects with a plain name.

    Args:
        field: of the name.
        kind: of the address, for IF NOT EXISTS.
    """

    def read(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
        name = getattr(statement, field)
        exists = ObjectAddress(kind, (name,)) if kind and statement.if_not_exists else None
        return create_object(word, name_sql(name), text, exists=exists)

    return read


def _read_foreign_table(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    relation, is_optional = statement.base_stmt.relation, statement.base_stmt.if_not_exists
    options.scope.create(options.scope.relation_key(relation), is_optional=is_optional)
    exists = relation_address("foreign table", relation) if is_optional else None
    return create_object("FOREIGN TABLE", relation_sql(relation), text, exists=exists)


def _read_user_mapping(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    if not statement.user.rolename:
        return (read_own_statement(text, options),)
    name = f"FOR {name_sql(statement.user.rolename)} SERVER {name_sql(statement.servername)}"
    exists = ObjectAddress("user mapping", (statement.user.rolename,), (statement.servername,))
    return create_object("USER MAPPING", name, text, exists=exists if statement.if_not_exists else None)


def _read_operator_class(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    names = statement.opclassname if hasattr(statement, "opclassname") else statement.opfamilyname
    word = "OPERATOR CLASS" if hasattr(statement, "opclassname") else "OPERATOR FAMILY"
    name = f"{name_sql(*string_values(names))} USING {name_sql(statement.amname)}"
    return create_object(word, name, text)


def _read_conversion(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    return create_object("CONVERSION", name_sql(*string_values(statement.conversion_name)), text)


def _read_role(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    """Roles belong to the whole server: CREATE ROLE fails where there is one of that name."""
    return create_object("ROLE", name_sql(statement.role), text)


def _read_subscription(statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    raise PlanError(
        f"{shorten(text)}: it makes a replication slot on another server, outside any transaction",
        "create the subscription by hand, before or after the release",
    )


def _read_cluster_wide(_statement: Any, text: str, _options: OperationOptions) -> tuple[Operation, ...]:
    raise PlanError(
        f"{shorten(text)}: it concerns the whole server, and PostgreSQL allows it in no transaction",
        "run it by hand before the release, and leave it out of the migration",
    )


def _read_enum_value(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """ADD VALUE. PostgreSQL has no way to take it back, and an unused value harms nobody.

    So the value may be there from an earlier release of the same plan that was rolled back.

    Raises:
        PlanError: a value is renamed.
    """
    name = name_sql(*string_values(statement.type_name))
    if statement.old_val:
        if options.scope.is_new(options.scope.key("type", string_values(statement.type_name))):
            back = f"ALTER TYPE {name} RENAME VALUE {quote_literal(statement.new_val)} TO"
            step = OperationStep(Phase.EXPAND, shorten(text), (text,), (f"{back} {quote_literal(statement.old_val)}",))
            return (Operation(text, step.label, (step,)),)
        raise PlanError(
            f"{shorten(text)}: running code writes the value {statement.old_val} by its name",
            "add the new value, move the rows to it, and leave the old one; where no version names it, give the"
            f" operation phase: contract and undo: ALTER TYPE {name} RENAME VALUE {quote_literal(statement.new_val)} TO"
            f" {quote_literal(statement.old_val)}",
        )
    label = f"add value {statement.new_val} to {name}, which stays after a rollback"
    tree = parse_sql(text)
    tree.stmts[0].stmt.alter_enum_stmt.skip_if_new_val_exists = True
    return (Operation(text, label, (OperationStep(Phase.EXPAND, label, (deparse(tree),)),)),)


OBJECT_READERS: Mapping[str, Any] = {
    "composite_type_stmt": _read_composite_type,
    "create_am_stmt": _reader_of("ACCESS METHOD", "amname"),
    "create_cast_stmt": _read_cast,
    "create_conversion_stmt": _read_conversion,
    "create_domain_stmt": _read_domain,
    "create_enum_stmt": _read_type,
    "create_event_trig_stmt": _reader_of("EVENT TRIGGER", "trigname"),
    "create_extension_stmt": _read_extension,
    "create_fdw_stmt": _reader_of("FOREIGN DATA WRAPPER", "fdwname"),
    "create_foreign_server_stmt": _reader_of("SERVER", "servername", "server"),
    "create_foreign_table_stmt": _read_foreign_table,
    "create_op_class_stmt": _read_operator_class,
    "create_op_family_stmt": _read_operator_class,
    "create_publication_stmt": _reader_of("PUBLICATION", "pubname"),
    "create_range_stmt": _read_type,
    "create_role_stmt": _read_role,
    "create_schema_stmt": _read_schema,
    "create_seq_stmt": _read_sequence,
    "create_stats_stmt": _read_statistics,
    "create_subscription_stmt": _read_subscription,
    "create_user_mapping_stmt": _read_user_mapping,
    "createdb_stmt": _read_cluster_wide,
    "create_table_space_stmt": _read_cluster_wide,
    "dropdb_stmt": _read_cluster_wide,
    "drop_table_space_stmt": _read_cluster_wide,
    "alter_system_stmt": _read_cluster_wide,
    "define_stmt": _read_definition,
    "alter_enum_stmt": _read_enum_value,
}

"""RENAME and SET SCHEMA: of new objects as they are, of others as running code allows it."""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from collections.abc import Mapping
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.addresses import name_object
from zdd_tui.model.operations.base import (
    Operation,
    OperationOptions,
    OperationStep,
    ReliedKind,
    ReliedObject,
    RemovedKind,
    RemovedObject,
    relation_names,
    relation_sql,
    shorten,
)
from zdd_tui.model.operations.removal import _split_word
from zdd_tui.model.operations.renames import read_rename_column
from zdd_tui.model.operations.scope import ObjectKey
from zdd_tui.model.operations.statements import read_own_statement
from zdd_tui.model.operations.table_renames import read_move_table, read_rename_table
from zdd_tui.model.operations.type_names import rename_type
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import deparse, enum_name, name_sql, parse_sql, quote_literal, string_values

_UNNAMED = {
    "OBJECT_INDEX": "INDEX",
    "OBJECT_TRIGGER": "TRIGGER",
    "OBJECT_POLICY": "POLICY",
    "OBJECT_RULE": "RULE",
    "OBJECT_TABCONSTRAINT": "CONSTRAINT",
    "OBJECT_DOMCONSTRAINT": "DOMAIN CONSTRAINT",
    "OBJECT_STATISTIC_EXT": "STATISTICS",
    "OBJECT_EVENT_TRIGGER": "EVENT TRIGGER",
}
"""What statements of running code do not name; a constraint only in ON CONFLICT ON CONSTRAINT."""

_RELATIONS = {"OBJECT_VIEW": "VIEW", "OBJECT_MATVIEW": "MATERIALIZED VIEW", "OBJECT_SEQUENCE": "SEQUENCE"}


def read_rename(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """Of what running code does not name: in contract, where only the new version runs.

    Raises:
        PlanError: running code names the object.
    """
    kind, scope = enum_name(statement, "rename_type"), options.scope
    back = _inverse(statement)
    key = _renamed_key(statement, kind, options)
    if kind == "OBJECT_TYPE" and (renamed := rename_type(statement, text, scope)) is not None:
        return (renamed,)
    if scope.is_new(key):
        if not statement.subname or key.space == "schema":
            scope.rename(key, statement.newname)
        step = OperationStep(Phase.EXPAND, shorten(text), (text,), (back,))
        return (Operation(text, step.label, (step,)),)
    if kind == "OBJECT_TABLE":
        return (read_rename_table(statement, text, scope),)
    if kind == "OBJECT_COLUMN" and enum_name(statement, "relation_type") == "OBJECT_TABLE":
        return (read_rename_column(statement, text, options.scope),)
    if kind == "OBJECT_COLUMN":
        return (read_own_statement(text, options),)
    if kind in _UNNAMED:
        return (_rename_unnamed(statement, kind, text, back, options),)
    if kind == "OBJECT_VIEW":
        return (_rename_view(statement, text, options),)
    raise PlanError(
        f"{shorten(text)}: running code uses the name, and an object has only one",
        "create the new one beside it, and drop the old one; or give the operation undo: and phase:",
    )


def _rename_unnamed(statement: Any, kind: str, text: str, back: str, options: OperationOptions) -> Operation:
    optional = ""
    if statement.missing_ok and statement.HasField("relation"):
        optional = f"SELECT to_regclass({quote_literal(relation_sql(statement.relation))}) IS NOT NULL"
    names = {"OBJECT_INDEX": statement.relation.relname, "OBJECT_TABCONSTRAINT": statement.subname}
    renames = (names[kind], statement.newname) if kind in names else None
    if options.last_phase is Phase.CONTRACT:
        table = options.scope.relation_key(statement.relation) if kind == "OBJECT_TABCONSTRAINT" else None
        options.scope.deferred.add((table, statement.newname))  # what names it comes after it
    step = OperationStep(options.last_phase, shorten(text), (text,), (back,), only_if=optional, renames=renames)
    return Operation(text, step.label, (step,))


def _renamed_key(statement: Any, kind: str, options: OperationOptions) -> ObjectKey:
    scope = options.scope
    if statement.HasField("relation"):
        return scope.relation_key(statement.relation)
    if kind == "OBJECT_DOMCONSTRAINT":
        return scope.key("type", string_values(statement.object.list.items))
    if not statement.HasField("object"):  # a schema, role or database
        return ObjectKey(kind.removeprefix("OBJECT_").lower(), "", statement.subname)
    return name_object(kind, statement.object, scope).key or ObjectKey("", "", "")


def _inverse(statement: Any) -> str:
    tree = parse_sql("ALTER TABLE a RENAME TO b")
    rename = tree.stmts[0].stmt.rename_stmt
    rename.CopyFrom(statement)
    kind = enum_name(statement, "rename_type")
    old = statement.subname
    if kind == "OBJECT_DOMCONSTRAINT" or statement.subname:
        rename.subname, rename.newname = statement.newname, statement.subname
        return deparse(tree)
    if statement.HasField("relation"):
        old = statement.relation.relname
        rename.relation.relname = statement.newname
    else:
        node = rename.object
        match node.WhichOneof("node"):
            case "string":
                old, node.string.sval = node.string.sval, statement.newname
            case "object_with_args":
                last = node.object_with_args.objname[-1].string
                old, last.sval = last.sval, statement.newname
            case "list":
                last = node.list.items[-1].string
                old, last.sval = last.sval, statement.newname
    rename.newname = old
    return deparse(tree)


def _rename_view(statement: Any, text: str, options: OperationOptions) -> Operation:
    """Both names until contract: a view under the old one reads the new one."""
    new = parse_sql("SELECT 1 FROM a").stmts[0].stmt.select_stmt.from_clause[0].range_var
    new.CopyFrom(statement.relation)
    new.relname = statement.newname
    old_sql, new_sql = relation_sql(statement.relation), relation_sql(new)
    body = (
        "DECLARE r record; BEGIN FOR r IN SELECT format('GRANT %s ON %s TO %s', x.privilege_type,"
        f" {quote_literal(old_sql)},"
        " CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END)"
        f" AS sql FROM pg_class c, aclexplode(c.relacl) x WHERE c.oid = to_regclass({quote_literal(new_sql)})"
        " AND x.grantee <> c.relowner LOOP EXECUTE r.sql; END LOOP; END"
    )
    both = OperationStep(
        Phase.EXPAND,
        f"view {new_sql}, and {old_sql} reads it",
        (text, f"CREATE VIEW {old_sql} AS SELECT * FROM {new_sql}", f"DO $zdd$ {body} $zdd$"),
        (f"DROP VIEW {old_sql}", _inverse(statement)),
        is_replacement=True,
        keeps=(ReliedObject(ReliedKind.VIEW, old_sql, statement.relation.relname, reads=new_sql),),
    )
    if not options.has_rollout:
        return Operation(text, shorten(text), (OperationStep(Phase.EXPAND, shorten(text), (text,), both.undo[1:]),))
    drop = OperationStep(
        Phase.CONTRACT,
        f"drop view {old_sql}, which reads {new_sql}",
        (f"DROP VIEW {old_sql}",),
        (*both.statements[1:],),
    )
    names = relation_names(statement.relation)
    removed = RemovedObject(RemovedKind.RELATION, names, f"view {old_sql}", Phase.CONTRACT)
    return Operation(text, shorten(text), (both, drop), removes=(removed,))


def read_set_schema(statement: Any, text: str, options: OperationOptions) -> tuple[Operation, ...]:
    """
    Raises:
        PlanError: running code names the object in its schema.
    """
    kind, scope = enum_name(statement, "object_type"), options.scope
    if statement.HasField("relation"):
        relation = statement.relation
        key, old = scope.relation_key(relation), relation.schemaname or scope.schema
        word = {**_RELATIONS, "OBJECT_FOREIGN_TABLE": "FOREIGN TABLE"}.get(kind, "TABLE")
        back = f"ALTER {word} {name_sql(statement.newschema, relation.relname)} SET SCHEMA {name_sql(old)}"
    else:
        given = name_object(kind, statement.object, scope)
        key, old = given.key or ObjectKey("", "", ""), given.names[-2] if len(given.names) > 1 else scope.schema
        word, name = _split_word(given)
        own = name_sql(*given.names)
        moved = name_sql(statement.newschema, given.names[-1])
        back = f"ALTER {word}{moved}{name.removeprefix(own)} SET SCHEMA {name_sql(old)}"
    if scope.is_new(key):
        scope.rename(key, key.name, statement.newschema)
        step = OperationStep(Phase.EXPAND, shorten(text), (text,), (back,))
        return (Operation(text, step.label, (step,)),)
    if kind == "OBJECT_TABLE":
        return (read_move_table(statement, text),)
    if kind == "OBJECT_EXTENSION":
        return (read_own_statement(text, options),)
    raise PlanError(
        f"{shorten(text)}: running code finds the object in its schema, and it is only in one",
        "add the new schema to the search_path of all versions first, then give the operation undo: and phase:",
    )


RENAME_READERS: Mapping[str, Any] = {
    "alter_object_schema_stmt": read_set_schema,
    "rename_stmt": read_rename,
}

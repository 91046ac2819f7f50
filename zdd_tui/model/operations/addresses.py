"""Objects of parse trees: as pg_get_object_address identifies them, as SQL, and as keys of the scope."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zdd_tui.model.operations.base import ObjectAddress
from zdd_tui.model.operations.scope import ObjectKey, Scope, routine_name
from zdd_tui.model.sql import deparse, name_sql, parse_sql, string_values, type_sql

_LISTED = {
    "OBJECT_TABLE": "table",
    "OBJECT_COLUMN": "table column",
    "OBJECT_VIEW": "view",
    "OBJECT_MATVIEW": "materialized view",
    "OBJECT_FOREIGN_TABLE": "foreign table",
    "OBJECT_INDEX": "index",
    "OBJECT_SEQUENCE": "sequence",
    "OBJECT_TRIGGER": "trigger",
    "OBJECT_POLICY": "policy",
    "OBJECT_RULE": "rule",
    "OBJECT_TABCONSTRAINT": "table constraint",
    "OBJECT_COLLATION": "collation",
    "OBJECT_CONVERSION": "conversion",
    "OBJECT_STATISTIC_EXT": "statistics object",
    "OBJECT_OPCLASS": "operator class",
    "OBJECT_OPFAMILY": "operator family",
    "OBJECT_TSPARSER": "text search parser",
    "OBJECT_TSDICTIONARY": "text search dictionary",
    "OBJECT_TSTEMPLATE": "text search template",
    "OBJECT_TSCONFIGURATION": "text search configuration",
}
_NAMED = {
    "OBJECT_SCHEMA": "schema",
    "OBJECT_EXTENSION": "extension",
    "OBJECT_ROLE": "role",
    "OBJECT_LANGUAGE": "language",
    "OBJECT_FDW": "foreign-data wrapper",
    "OBJECT_FOREIGN_SERVER": "server",
    "OBJECT_EVENT_TRIGGER": "event trigger",
    "OBJECT_ACCESS_METHOD": "access method",
    "OBJECT_PUBLICATION": "publication",
    "OBJECT_SUBSCRIPTION": "subscription",
    "OBJECT_DATABASE": "database",
    "OBJECT_TABLESPACE": "tablespace",
}
_ROUTINES = {
    "OBJECT_FUNCTION": "function",
    "OBJECT_PROCEDURE": "procedure",
    "OBJECT_AGGREGATE": "aggregate",
    "OBJECT_ROUTINE": "routine",
}
RELATION_KINDS = frozenset(
    {"OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE", "OBJECT_INDEX", "OBJECT_SEQUENCE"}
)
"""What shares one space of names with tables."""

_SPACES: Mapping[str, str] = {
    **dict.fromkeys(RELATION_KINDS, "relation"),
    **dict.fromkeys(("OBJECT_TYPE", "OBJECT_DOMAIN"), "type"),
    **dict.fromkeys(_ROUTINES, "routine"),
}
OF_RELATION = frozenset({"OBJECT_COLUMN", "OBJECT_TRIGGER", "OBJECT_POLICY", "OBJECT_RULE", "OBJECT_TABCONSTRAINT"})
"""Parts of a table: their dotted name begins with its name."""


@dataclass(frozen=True, slots=True)
class NamedObject:
    """An object that a statement names.

    Attributes:
        kind: such as ``OBJECT_TABLE``.
        sql: its word and name, such as ``TRIGGER a ON b``.
        address: None where PostgreSQL has no address of that form, such as for a function without arguments.
        key: in the scope; of a part of a table that of the table; None where the scope does not follow the kind.
        names: the dotted name, without arguments.
    """

    kind: str
    sql: str
    address: ObjectAddress | None
    key: ObjectKey | None
    names: tuple[str, ...]


def name_object(kind: str, node: Any, scope: Scope) -> NamedObject:
    """
    Args:
        kind: such as ``OBJECT_TABLE``.
        node: of a DropStmt, CommentStmt, AlterOwnerStmt or RenameStmt.
    """
    if kind in ("OBJECT_TYPE", "OBJECT_DOMAIN") and node.HasField("list"):  # as in ALTER TYPE … OWNER TO
        given, node = string_values(node.list.items), parse_sql("DROP TYPE a").stmts[0].stmt.drop_stmt.objects[0]
        del node.type_name.names[:]
        for part in given:
            node.type_name.names.add().string.sval = part
    names = object_names(node)
    return NamedObject(
        kind, _object_sql(kind, node), _address(kind, node, names), _key(kind, node, names, scope), names
    )


def object_names(node: Any) -> tuple[str, ...]:
    """The dotted name in an object node."""
    match node.WhichOneof("node"):
        case "string":
            return (node.string.sval,)
        case "type_name":
            return tuple(string_values(node.type_name.names))
        case "object_with_args":
            return tuple(string_values(node.object_with_args.objname))
    return tuple(string_values(node.list.items))


def _address(kind: str, node: Any, names: tuple[str, ...]) -> ObjectAddress | None:
    if kind in _LISTED:
        return ObjectAddress(_LISTED[kind], names)
    if kind in _NAMED:
        return ObjectAddress(_NAMED[kind], names)
    if kind in ("OBJECT_TYPE", "OBJECT_DOMAIN"):
        return ObjectAddress("type", (name_sql(*names),))
    if kind in (*_ROUTINES, "OBJECT_OPERATOR"):
        given = node.object_with_args
        args = tuple(type_sql(each.type_name) if each.HasField("type_name") else "NONE" for each in given.objargs)
        if given.args_unspecified:
            return None
        return ObjectAddress(_ROUTINES.get(kind, "operator"), names, args)
    if kind == "OBJECT_CAST":
        source, target = (type_sql(each.type_name) for each in node.list.items)
        return ObjectAddress("cast", (source,), (target,))
    if kind == "OBJECT_DOMCONSTRAINT":
        domain = string_values(node.list.items[0].type_name.names)
        return ObjectAddress("domain constraint", (name_sql(*domain),), (names[-1],))
    return None


def _key(kind: str, node: Any, names: tuple[str, ...], scope: Scope) -> ObjectKey | None:
    if kind in OF_RELATION:
        return scope.key("relation", names[:-1])
    if kind == "OBJECT_DOMCONSTRAINT":
        return scope.key("type", string_values(node.list.items[0].type_name.names))
    if kind in _ROUTINES:
        given = node.object_with_args
        return scope.key("routine", routine_name(names, [each.type_name for each in given.objargs]))
    if kind in _SPACES:
        return scope.key(_SPACES[kind], names)
    if kind in _NAMED:
        return ObjectKey(_NAMED[kind], "", names[0])
    return None


def _object_sql(kind: str, node: Any) -> str:
    tree = parse_sql("COMMENT ON TABLE a IS '-'")
    comment = tree.stmts[0].stmt.comment_stmt
    comment.objtype = type(comment).DESCRIPTOR.fields_by_name["objtype"].enum_type.values_by_name[kind].number
    comment.object.CopyFrom(node)
    return deparse(tree).removeprefix("COMMENT ON ").removesuffix(" IS '-'")

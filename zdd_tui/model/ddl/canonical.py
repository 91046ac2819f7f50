"""Definitions of catalog objects in one comparable form: the server's text, parsed, with names replaced.

Two objects are equal where these forms are equal. What PostgreSQL's parser here cannot read has no form: it is unknown.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zdd_tui.model.sql import SqlSyntaxError, deparse, expression_sql, node_class, parse_expression, parse_sql, walk

TablePair = tuple[str, str]
"""Schema and name; the schema is empty where a name is written without one."""

_PLACEHOLDER = "zdd"
_NO_TABLE: TablePair = ("", _PLACEHOLDER)
_ROW_ALIASES = ("old", "new")


@dataclass(frozen=True, slots=True)
class Renaming:
    """How names of one side are written on the other.

    Attributes:
        columns: new name by old name; of the table itself, never of other tables.
        own: schema and name of the table itself, under all names that it may be written with.
        tables: what replaces a table's name, the table itself included.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    own: frozenset[TablePair] = frozenset()
    tables: Mapping[TablePair, TablePair] = field(default_factory=dict)

    def apply(self, tree: Any) -> None:
        """Renames everywhere below a node, in place."""
        own_names = {name for _, name in self.own}
        for node in walk(tree):
            match node_class(node):
                case "Constraint":
                    self._rename_constraint(node)
                case "IndexElem" | "StatsElem" if node.name:
                    node.name = self.columns.get(node.name, node.name)
                case "ColumnRef":
                    self._rename_reference(node, own_names)
                case "CreateTrigStmt":
                    self._rename_strings(node.columns)
        for node in walk(tree):
            if node_class(node) == "RangeVar" and (pair := self.tables.get((node.schemaname, node.relname))):
                node.schemaname, node.relname = pair

    def _rename_constraint(self, node: Any) -> None:
        for names in (node.keys, node.fk_attrs, node.including):
            self._rename_strings(names)
        if node.HasField("pktable") and (node.pktable.schemaname, node.pktable.relname) in self.own:
            self._rename_strings(node.pk_attrs)

    def _rename_strings(self, nodes: Any) -> None:
        for each in nodes:
            each.string.sval = self.columns.get(each.string.sval, each.string.sval)

    def _rename_reference(self, node: Any, own_names: set[str]) -> None:
        if not node.fields[-1].HasField("string"):
            self._rename_qualifier(node, [each.string.sval for each in node.fields[:-1]], own_names)
            return
        *qualifier, column = [each.string.sval for each in node.fields]
        # The server qualifies every reference inside a subquery, so a bare name is a column of the table itself.
        if qualifier and qualifier[-1] not in own_names and qualifier[-1] not in _ROW_ALIASES:
            return
        node.fields[-1].string.sval = self.columns.get(column, column)
        self._rename_qualifier(node, qualifier, own_names)

    def _rename_qualifier(self, node: Any, qualifier: list[str], own_names: set[str]) -> None:
        if qualifier and qualifier[-1] in own_names:
            pair = ("", qualifier[-1]) if len(qualifier) == 1 else (qualifier[-2], qualifier[-1])
            target = next((new for old, new in self.tables.items() if old == pair or old[1] == pair[1]), None)
            if target is not None:
                for each, text in zip(reversed(node.fields[:-1]), reversed(target), strict=False):
                    each.string.sval = text


_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*\"""")
_WHOLE_ROW = re.compile(r"(?i)(?<!\bnew)(?<!\bold)\.\*")


def uses_whole_row(definition: str) -> bool:
    """Whether a definition, as the server prints it, has a reference to a whole row, such as ``t.*``.

    The row of a trigger is none: it is compared with the row before.
    """
    return ".*" in definition and _WHOLE_ROW.search(_QUOTED.sub("x", definition)) is not None


def constraint_form(definition: str, renaming: Renaming) -> str | None:
    """A constraint without its name and without NOT VALID; None where it cannot be read."""
    try:
        tree = parse_sql(f"ALTER TABLE {_PLACEHOLDER} ADD CONSTRAINT {_PLACEHOLDER} {definition}")
    except SqlSyntaxError:
        return None
    constraint = getattr(tree.stmts[0].stmt.alter_table_stmt.cmds[0].alter_table_cmd, "def").constraint
    constraint.skip_validation, constraint.initially_valid = False, True
    renaming.apply(tree)
    return deparse(tree)


def object_form(definition: str, renaming: Renaming) -> str | None:
    """An index, policy or trigger without its name, on no table in particular; None where it cannot be read."""
    tree = _rewrite(definition, renaming, _PLACEHOLDER, _NO_TABLE)
    return None if tree is None else deparse(tree)


def statistics_form(definition: str, renaming: Renaming) -> str | None:
    """As :func:`object_form`, for a statistics object: the order of its columns has no meaning."""
    tree = _rewrite(definition, renaming, _PLACEHOLDER, _NO_TABLE)
    if tree is None:
        return None
    statement = tree.stmts[0].stmt.create_stats_stmt
    order = sorted(range(len(statement.exprs)), key=lambda n: str(statement.exprs[n]))
    elements = [type(statement.exprs[0]).FromString(statement.exprs[n].SerializeToString()) for n in order]
    del statement.exprs[:]
    statement.exprs.extend(elements)
    return deparse(tree)


def expression_form(expression: str, renaming: Renaming, *, without_casts: bool = False) -> str | None:
    """An expression; without the casts around constants where the two columns differ in type."""
    try:
        node = parse_expression(expression)
    except SqlSyntaxError:
        return None
    if without_casts:
        while node.WhichOneof("node") == "type_cast":
            node = node.type_cast.arg
    renaming.apply(node)
    return expression_sql(node)


def renamed_constraint(definition: str, renaming: Renaming) -> str | None:
    """The constraint's SQL on the other side, for ADD CONSTRAINT."""
    form = constraint_form(definition, renaming)
    return form.partition(f"ADD CONSTRAINT {_PLACEHOLDER} ")[2] if form else None


def renamed_index(definition: str, renaming: Renaming, name: str, table: TablePair) -> str | None:
    """CREATE INDEX CONCURRENTLY of the same index on the other side."""
    tree = _rewrite(definition, renaming, name, table)
    if tree is None:
        return None
    tree.stmts[0].stmt.index_stmt.concurrent = True
    return deparse(tree)


def renamed_statement(definition: str, renaming: Renaming, name: str, table: TablePair) -> str | None:
    """CREATE POLICY, TRIGGER or STATISTICS of the same object on the other side."""
    tree = _rewrite(definition, renaming, name, table)
    return None if tree is None else deparse(tree)


def _rewrite(definition: str, renaming: Renaming, name: str, table: TablePair) -> Any | None:
    """The tree of CREATE INDEX, POLICY, TRIGGER or STATISTICS, with names replaced, under a name and on a table."""
    try:
        tree = parse_sql(definition)
    except SqlSyntaxError:
        return None
    renaming.apply(tree)
    statement = tree.stmts[0].stmt
    match statement.WhichOneof("node"):
        case "index_stmt":
            index = statement.index_stmt
            index.idxname, index.concurrent, index.if_not_exists = name, False, False
            relation = index.relation
        case "create_policy_stmt":
            statement.create_policy_stmt.policy_name = name
            relation = statement.create_policy_stmt.table
        case "create_trig_stmt":
            statement.create_trig_stmt.trigname = name
            relation = statement.create_trig_stmt.relation
        case "create_stats_stmt":
            del statement.create_stats_stmt.defnames[:-1]
            statement.create_stats_stmt.defnames[0].string.sval = name
            relation = statement.create_stats_stmt.relations[0].range_var
        case _:
            return None
    relation.schemaname, relation.relname = table
    return tree

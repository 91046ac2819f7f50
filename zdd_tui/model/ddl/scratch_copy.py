"""The plan's DDL for temporary copies of its tables, on which a check sees what the new side will be.

The copies are empty, belong to one transaction that is rolled back, and are never seen by another session.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zdd_tui.model.ddl.canonical import Renaming, TablePair, renamed_statement
from zdd_tui.model.ddl.expand import index_statements
from zdd_tui.model.ddl.lint import created_objects, read_constrain, resolve_name
from zdd_tui.model.ddl.table_objects import ObjectKind, TableObjects
from zdd_tui.model.plan.base import Plan, TableName
from zdd_tui.model.sql import (
    deparse,
    enum_name,
    name_sql,
    node_class,
    parse_sql,
    split_statements,
    string_values,
    walk,
)

TEMPORARY = "pg_temp"


@dataclass(frozen=True, slots=True)
class PlannedPublication:
    """A table that the plan puts into a publication; temporary tables cannot be in one."""

    name: str
    columns: tuple[str, ...]
    row_filter: str


@dataclass(slots=True)
class ScratchNames:
    """The copies of tables, by the names of the originals.

    Attributes:
        created: sequences and types that the plan makes; they are temporary under their own names.
    """

    plan: Plan
    copies: dict[TablePair, str] = field(default_factory=dict)
    created: frozenset[TablePair] = frozenset()

    @classmethod
    def for_plan(cls, plan: Plan) -> "ScratchNames":
        made = created_objects(plan)
        names = cls(plan, created=frozenset([*made.sequences, *made.types]))
        for table in (plan.change.table, plan.change.target_table):
            names.add(table)
        for schema, name in made.tables:
            names.add(TableName(schema_=schema, name=name))
        return names

    def add(self, table: TableName) -> str:
        """The name of a table's copy; a new one for a table that has none."""
        return self.copies.setdefault((table.schema_, table.name), f"zdd_copy_{len(self.copies) + 1}")

    def find(self, table: TableName) -> str | None:
        return self.copies.get((table.schema_, table.name))

    def originals(self) -> Mapping[str, TablePair]:
        return {copy: pair for pair, copy in self.copies.items()}


def scratch_statements(plan: Plan, *, constrain: bool) -> tuple[tuple[str, str], ...]:
    """Key and text of the plan's statements: those of expand and indexes, or those of constrain."""
    if constrain:
        return tuple((f"change.constrain statement {n}", each.text) for n, each in enumerate(read_constrain(plan), 1))
    expand = [(f"change.expand statement {n}", sql) for n, sql in enumerate(split_statements(plan.change.expand), 1)]
    indexes = [(f"change.indexes statement {n}", sql) for n, sql in enumerate(index_statements(plan), 1)]
    return (*expand, *indexes)


def copied_constraints(table: TableObjects, copy: str) -> tuple[str, ...]:
    """The constraints and indexes of a table for a copy that was made without them; not those of whole rows."""
    alter = f"ALTER TABLE {name_sql(TEMPORARY, copy)} ADD CONSTRAINT"
    kinds = (ObjectKind.PRIMARY_KEY, ObjectKind.UNIQUE, ObjectKind.EXCLUSION, ObjectKind.CHECK)
    domains = {column.name for column in table.columns if column.domain}
    found = [
        f"{alter} {name_sql(each.name)} {each.definition}"
        for kind in kinds
        for each in table.of_kind(kind)
        if not each.is_whole_row and not (kind is ObjectKind.CHECK and domains & {*each.columns})
    ]
    indexes = (
        renamed_statement(each.definition, Renaming(), each.name, (TEMPORARY, copy))
        for each in table.of_kind(ObjectKind.INDEX)
        if not each.is_whole_row
    )
    return (*found, *(sql for sql in indexes if sql))


def creates_table(text: str, plan: Plan, resolve: Callable[[Any], TableName]) -> bool:
    """Whether a statement creates the new table of a plan."""
    statement = parse_sql(text).stmts[0].stmt
    is_create = plan.change.into is not None and statement.HasField("create_stmt")
    return is_create and resolve(statement.create_stmt.relation) == plan.change.target_table


def needed_tables(text: str) -> tuple[Any, ...]:
    """The RangeVars of existing tables that a statement alters or refers to: those that need a copy."""
    found = []
    for node in walk(parse_sql(text)):
        if node_class(node) == "Constraint" and node.HasField("pktable"):
            found.append(node.pktable)
        if node_class(node) == "AlterTableStmt":
            found.append(node.relation)
    return tuple(found)


def planned_publications(plan: Plan) -> tuple[PlannedPublication, ...]:
    """The publications that the plan's expand adds its new table to."""
    found = []
    for _, text in scratch_statements(plan, constrain=False):
        statement = parse_sql(text).stmts[0].stmt
        if not statement.HasField("alter_publication_stmt"):
            continue
        for each in statement.alter_publication_stmt.pubobjects:
            table = each.publication_obj_spec.pubtable
            if resolve_name(plan, table.relation) == plan.change.target_table:
                # The row filter as the statement has it.
                match = re.search(r"\bwhere\s*\((.*)\)\s*$", text, re.IGNORECASE | re.DOTALL)
                row_filter = match[1] if match and table.HasField("where_clause") else ""
                name = statement.alter_publication_stmt.pubname
                found.append(PlannedPublication(name, tuple(string_values(table.columns)), row_filter))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class PlannedSequenceGrant:
    """A right on an existing sequence that the plan grants.

    Attributes:
        privilege: upper case; ``ALL`` for all of them.
        role: as :class:`SequenceObject` has it.
    """

    sequence: TableName
    privilege: str
    role: str


def planned_sequence_grants(plan: Plan) -> tuple[PlannedSequenceGrant, ...]:
    """The rights on sequences that the plan's expand grants; they do not run on the real sequences."""
    found = []
    for _, text in scratch_statements(plan, constrain=False):
        statement = parse_sql(text).stmts[0].stmt
        if not statement.HasField("grant_stmt") or enum_name(statement.grant_stmt, "objtype") != "OBJECT_SEQUENCE":
            continue
        grant = statement.grant_stmt
        privileges = [each.access_priv.priv_name.upper() for each in grant.privileges] or ["ALL"]
        found += [
            PlannedSequenceGrant(resolve_name(plan, each.range_var), privilege, _role_text(grantee.role_spec))
            for each in grant.objects
            for privilege in privileges
            for grantee in grant.grantees
        ]
    return tuple(found)


def _role_text(role: Any) -> str:
    if enum_name(role, "roletype") == "ROLESPEC_PUBLIC":
        return "PUBLIC"
    return name_sql(role.rolename) if role.rolename else ""  # CURRENT_USER and the like: the owner


def planned_roles(plan: Plan) -> tuple[str, ...]:
    """The roles that the plan's statements name."""
    roles = [
        node.rolename
        for constrain in (False, True)
        for _, text in scratch_statements(plan, constrain=constrain)
        for node in walk(parse_sql(text))
        if node_class(node) == "RoleSpec" and node.rolename
    ]
    return tuple(dict.fromkeys(roles))


def planned_owner(plan: Plan) -> str:
    """The role that the plan gives the new table to; empty for none."""
    owner = ""
    for _, text in scratch_statements(plan, constrain=False):
        statement = parse_sql(text).stmts[0].stmt
        if statement.HasField("alter_table_stmt"):
            if resolve_name(plan, statement.alter_table_stmt.relation) != plan.change.target_table:
                continue
            for command in (each.alter_table_cmd for each in statement.alter_table_stmt.cmds):
                if enum_name(command, "subtype") == "AT_ChangeOwner":
                    owner = command.newowner.rolename
    return owner


def scratch_statement(text: str, names: ScratchNames, resolve: Callable[[Any], TableName]) -> str | None:
    """A statement of the plan, for the copies; None for one that a copy cannot have or that needs none.

    Args:
        resolve: the table that a RangeVar means under the plan's search path.
    """
    tree = parse_sql(text)
    node = tree.stmts[0].stmt
    kind = node.WhichOneof("node")
    statement = getattr(node, kind)
    if not _prepare(kind, statement, names):
        return None
    _redirect_names(tree, names, resolve)
    match kind:
        case "grant_stmt" if any(each.range_var.schemaname != TEMPORARY for each in statement.objects):
            return None
        case "create_stmt":
            statement.relation.relpersistence, statement.relation.schemaname = "t", ""
        case "create_seq_stmt":
            statement.sequence.relpersistence, statement.sequence.schemaname = "t", ""
        case "composite_type_stmt":
            statement.typevar.schemaname = TEMPORARY
    sql = deparse(tree)
    for schema, name in names.created:  # nextval('public.people_seq')
        sql = sql.replace(f"'{schema}.{name}'", f"'{TEMPORARY}.{name}'")
    return sql


def _prepare(kind: str, statement: Any, names: ScratchNames) -> bool:
    """What a statement needs beside other names of tables; False where a copy cannot have it."""
    match kind:
        case "alter_publication_stmt" | "alter_seq_stmt":
            return False
        case "alter_table_stmt":
            kept = [each for each in statement.cmds if enum_name(each.alter_table_cmd, "subtype") != "AT_ChangeOwner"]
            _replace_nodes(statement.cmds, kept)
            return bool(kept)
        case "comment_stmt":
            return _redirect_comment(statement, names)
        case "create_enum_stmt" | "create_range_stmt":
            _make_temporary(statement.type_name)
        case "create_stats_stmt":
            _make_temporary(statement.defnames)
        case "index_stmt":
            statement.concurrent = False
    return True


def _replace_nodes(nodes: Any, kept: list[Any]) -> None:
    copies = [type(each).FromString(each.SerializeToString()) for each in kept]
    del nodes[:]
    nodes.extend(copies)


def _make_temporary(name: Any) -> None:
    """Puts the temporary schema into the name of an object."""
    _replace_nodes(name, [_string_node(name[-1], TEMPORARY), name[-1]])


def _redirect_names(tree: Any, names: ScratchNames, resolve: Callable[[Any], TableName]) -> None:
    for each in walk(tree):
        match node_class(each):
            case "RangeVar":
                _redirect(each, names, resolve)
            case "ColumnRef":
                _redirect_reference(each, names)
            case "TypeName" if tuple(string_values(each.names)) in names.created:
                each.names[0].string.sval = TEMPORARY


def _redirect(relation: Any, names: ScratchNames, resolve: Callable[[Any], TableName]) -> None:
    table = resolve(relation)
    if (copy := names.find(table)) is not None:
        relation.schemaname, relation.relname = TEMPORARY, copy
        return
    if (table.schema_, table.name) in names.created:
        relation.schemaname = TEMPORARY
        return
    # The sequence of a serial or identity column of the new table, which is named after its table.
    target, own = names.plan.change.into, names.find(names.plan.change.target_table)
    if target is None or own is None or table.schema_ != target.schema_:
        return
    if table.name.startswith(f"{target.name}_") and table.name.endswith("_seq"):
        relation.schemaname, relation.relname = TEMPORARY, own + table.name.removeprefix(target.name)


def _redirect_reference(reference: Any, names: ScratchNames) -> None:
    """A column that is written with its table's name, as in the subquery of a policy."""
    *qualifier, _ = string_values(reference.fields) or [""]
    target, old = names.plan.change.target_table, names.plan.change.table
    for table in (target, old):
        copy = names.find(table)
        if copy is not None and qualifier in ([table.name], [table.schema_, table.name]):
            reference.fields[len(qualifier) - 1].string.sval = copy
            if len(qualifier) > 1:
                reference.fields[0].string.sval = TEMPORARY
            return


def _redirect_comment(statement: Any, names: ScratchNames) -> bool:
    """Points a comment on a table or column to the copy; False for a comment on another object."""
    kind = enum_name(statement, "objtype")
    if kind not in ("OBJECT_COLUMN", "OBJECT_TABLE"):
        return False
    items = statement.object.list.items
    parts = string_values(items)
    column = [parts.pop()] if kind == "OBJECT_COLUMN" else []
    target = names.plan.change.target_table
    table = TableName(schema_=parts[-2] if len(parts) > 1 else target.schema_, name=parts[-1])
    if len(parts) == 1 and table != target and names.plan.change.table.name == table.name:
        table = names.plan.change.table
    copy = names.find(table)
    if copy is None:
        return False
    first = items[0]
    made = [_string_node(first, text) for text in (TEMPORARY, copy, *column)]
    del items[:]
    items.extend(made)
    return True


def _string_node(like: Any, text: str) -> Any:
    node = type(like)()
    node.string.sval = text
    return node

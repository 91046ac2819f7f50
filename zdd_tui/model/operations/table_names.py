"""The names of tables that a migration renames: the name before until contract, the name after from contract on.

The statements are read twice, once with each name, whichever of the two they have (:data:`Scope.has_new_names`). So
every step of every operation has a form for both: expand and backfill use the first, cleanup the second, contract the
one of its place (:func:`join_readings`). What is named after the table, such as an index without a name, has in both
readings the name that the plain statement gives it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.addresses import OF_RELATION, RELATION_KINDS
from zdd_tui.model.operations.base import Operation, RemovedObject, RenameOperation, shorten
from zdd_tui.model.operations.indexes import make_object_name
from zdd_tui.model.operations.scope import ObjectKey, Scope
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import deparse, enum_name, name_sql, node_class, parse_sql, string_values, walk


def resolve_table_names(node: Any, text: str, scope: Scope) -> tuple[Any, str]:
    """A statement with the names that renamed tables have in this reading.

    Raises:
        PlanError: it needs a name that another object has until contract, or it is not clear what it names.
    """
    if not scope.tables_before:
        return node, text
    tree = parse_sql(text)
    statement = _Statement(text, scope)
    if _is_own_rename(tree, scope) or not statement.resolve(tree):
        return node, text
    return tree.stmts[0].stmt, deparse(tree)


def resolve_undo(statements: Sequence[str], scope: Scope) -> tuple[str, ...]:
    """Statements of a plan's ``undo:``, which may use either name."""
    if not scope.tables_before:
        return tuple(statements)
    resolved = []
    for text in statements:
        tree = parse_sql(text)
        is_changed = _Statement(text, scope, is_undo=True).resolve(tree)
        resolved.append(deparse(tree) if is_changed else text)
    return tuple(resolved)


def _is_own_rename(tree: Any, scope: Scope) -> bool:
    """Whether it is the rename of a table that this reading knows from its start."""
    rename = tree.stmts[0].stmt.rename_stmt
    if not tree.stmts[0].stmt.HasField("rename_stmt") or enum_name(rename, "rename_type") != "OBJECT_TABLE":
        return False
    before = scope.written_relation_key(rename.relation)
    after = replace(before, name=rename.newname)
    return after not in scope.renamed_tables and scope.tables_before.get(after) == before


_WITH_INDEX = ("CONSTR_PRIMARY", "CONSTR_UNIQUE", "CONSTR_EXCLUSION")
"""Constraints whose name is that of an index, too."""


@dataclass(slots=True)
class _Statement:
    """One statement whose names are resolved in its parse tree.

    Attributes:
        own_names: those of WITH clauses.
        renamed: pairs of names without a schema, as written and as in this reading, of tables without an alias.
    """

    text: str
    scope: Scope
    is_undo: bool = False
    is_changed: bool = False
    own_names: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)

    def resolve(self, tree: Any) -> bool:
        """Changes the tree; whether anything has changed."""
        nodes = list(walk(tree))
        self.own_names |= {each.ctename for each in nodes if node_class(each) == "CommonTableExpr"}
        for each in nodes:
            if (read := _READERS.get(node_class(each))) is not None:
                read(self, each)
        if self.renamed:
            self._resolve_columns(nodes)
            self._name_after_table(tree)
        return self.is_changed

    def _current(self, key: ObjectKey) -> str | None:
        """The table's name in this reading; None for any other relation.

        Raises:
            PlanError: the name belongs to another object until contract, or does after it.
        """
        if (pair := self.scope.renamed_table(key)) is None:
            return None
        before, after = pair
        if key != (after if after in self.scope.renamed_tables else before) and not self.is_undo:
            raise self._refuse(before, after)
        return (after if self.scope.has_new_names else before).name

    def _refuse(self, before: ObjectKey, after: ObjectKey) -> PlanError:
        old, new = name_sql(before.name), name_sql(after.name)
        if after in self.scope.renamed_tables:
            return PlanError(
                f"{shorten(self.text)}: the migration has renamed {old} to {new}, and running code uses the name {old}"
                " until contract",
                f"write {new} for the renamed table; another object gets the name {old} in a release of its own, after"
                " this one",
            )
        return PlanError(
            f"{shorten(self.text)}: the migration renames {old} to {new}, and the name is another object's before",
            "choose another name, or remove that object in a release before",
        )

    def _resolve_range(self, relation: Any) -> None:
        written = relation.relname
        if not relation.schemaname and written in self.own_names:
            return
        name = self._current(self.scope.written_relation_key(relation))
        if name is None or name == written:
            return
        relation.relname = name
        self.is_changed = True
        if not relation.HasField("alias"):
            self.renamed[written] = name

    def _resolve_list(self, items: Any, *, of_part: bool = False) -> None:
        """
        Args:
            of_part: the last name is that of a part of the table, such as a column.
        """
        names = string_values(items)[: -1 if of_part else None]
        if not names or (name := self._current(self.scope.written_key("relation", names))) is None:
            return
        if name != names[-1]:
            items[len(names) - 1].string.sval = name
            self.is_changed = True

    def _resolve_type(self, type_name: Any) -> None:
        """The type of a table's rows, or of a column of it (``a.b%TYPE``).

        Raises:
            PlanError: it may be another type of this name, such as ``date``, which comes first.
        """
        names = string_values(type_name.names)
        if len(names) > 1:
            self._resolve_list(type_name.names, of_part=type_name.pct_type)
            return
        for after in self.scope.renamed_tables:
            if names == [after.name]:
                raise PlanError(
                    f"{shorten(self.text)}: {name_sql(after.name)} may be the type of the renamed table's rows, or"
                    " another type",
                    f"write it with its schema: {name_sql(after.schema or 'schema', after.name)}",
                )

    def _resolve_drop(self, drop: Any) -> None:
        for each in drop.objects:
            self._resolve_object(enum_name(drop, "remove_type"), each)

    def _resolve_described(self, statement: Any) -> None:
        self._resolve_object(enum_name(statement, "objtype"), statement.object)

    def _resolve_object(self, kind: str, node: Any) -> None:
        if node.HasField("list") and kind in OF_RELATION | RELATION_KINDS:
            self._resolve_list(node.list.items, of_part=kind in OF_RELATION)

    def _resolve_owner(self, option: Any) -> None:
        if option.defname == "owned_by":  # of a sequence
            self._resolve_list(option.arg.list.items, of_part=True)

    def _check_rename(self, rename: Any) -> None:
        if enum_name(rename, "rename_type") not in ("OBJECT_COLUMN", "OBJECT_ATTRIBUTE"):
            self._refuse_taken(rename.newname, rename.relation.schemaname)

    def _check_index(self, index: Any) -> None:
        self._refuse_taken(index.idxname, index.relation.schemaname)

    def _check_constraint(self, constraint: Any) -> None:
        if enum_name(constraint, "contype") in _WITH_INDEX:
            self._refuse_taken(constraint.conname, "")

    def _check_call(self, call: Any) -> None:
        self._refuse_text(call.args)

    def _check_cast(self, cast: Any) -> None:
        if string_values(cast.type_name.names)[-1:] == ["regclass"]:
            self._refuse_text([cast.arg])

    def _refuse_taken(self, name: str, schema: str) -> None:
        """Another object cannot get a name that a table, or the view of its other name, has until cleanup."""
        key = ObjectKey("relation", schema or self.scope.schema, name)
        if not self.is_undo and (pair := self.scope.renamed_table(key)) is not None:
            raise self._refuse(*pair)

    def _refuse_text(self, arguments: Iterable[Any]) -> None:
        """A name in a string, as in to_regclass('a'), would be that of the view until contract."""
        texts = {each.a_const.sval.sval for each in arguments if each.HasField("a_const")}
        for after in self.scope.renamed_tables:
            schemas = ((), (after.schema,))
            names = (after.name, self.scope.tables_before[after].name)
            qualified = ((*schema, name) for schema in schemas for name in names)
            forms = {form for each in qualified for form in (".".join(each), name_sql(*each))}
            if found := texts & forms:
                raise PlanError(
                    f"{shorten(self.text)}: it names the table in a string, '{sorted(found)[0]}', and until contract"
                    " that is the name of a view",
                    "write it before the rename, with the old name; or in a release of its own",
                )

    def _resolve_columns(self, nodes: Sequence[Any]) -> None:
        """``new.column`` is ``old.column``, where no other item of the query has one of the names.

        Raises:
            PlanError: another item has.
        """
        aliases = {each.aliasname for each in nodes if node_class(each) == "Alias"}
        aliases |= {each.ctename for each in nodes if node_class(each) == "CommonTableExpr"}
        for each in nodes:
            if node_class(each) != "ColumnRef" or not 2 <= len(each.fields) <= 3:
                continue
            qualifier = each.fields[-2].string
            if not each.fields[-2].HasField("string") or qualifier.sval not in self.renamed:
                continue
            if aliases & {qualifier.sval, self.renamed[qualifier.sval]}:
                raise PlanError(
                    f"{shorten(self.text)}: {name_sql(qualifier.sval)} is the name of a renamed table and of another"
                    " item of the query",
                    "give each item of the query an alias of its own",
                )
            qualifier.sval = self.renamed[qualifier.sval]

    def _name_after_table(self, tree: Any) -> None:
        """What PostgreSQL itself would name after the table gets the name that the plain statement gives it."""
        if not tree.stmts[0].stmt.HasField("alter_table_stmt"):
            return
        alter = tree.stmts[0].stmt.alter_table_stmt
        # Not the scope's: a statement of undo: may use either name.
        written: str = parse_sql(self.text).stmts[0].stmt.alter_table_stmt.relation.relname
        if written == alter.relation.relname:
            return
        for command in (each.alter_table_cmd for each in alter.cmds):
            definition = getattr(command, "def")
            column = definition.column_def
            constraints = [each.constraint for each in column.constraints] or [definition.constraint]
            kinds = {enum_name(each, "contype") for each in constraints}
            for each in constraints:
                kind = enum_name(each, "contype")
                if kind == "CONSTR_IDENTITY" and not any(o.def_elem.defname == "sequence_name" for o in each.options):
                    option = each.options.add().def_elem
                    option.defname, option.defaction = "sequence_name", 1
                    name = make_object_name(written, column.colname or command.name, "seq")
                    for part in filter(None, (alter.relation.schemaname, name)):
                        option.arg.list.items.add().string.sval = part
                elif kind == "CONSTR_NOTNULL" and "CONSTR_DEFAULT" in kinds and not each.conname:
                    # PostgreSQL 18 keeps the name; before, it has no meaning.
                    each.conname = make_object_name(written, column.colname, "not_null")


_READERS: Mapping[str, Callable[[_Statement, Any], None]] = {
    "CommentStmt": _Statement._resolve_described,
    "Constraint": _Statement._check_constraint,
    "DefElem": _Statement._resolve_owner,
    "DropStmt": _Statement._resolve_drop,
    "FuncCall": _Statement._check_call,
    "IndexStmt": _Statement._check_index,
    "RangeVar": _Statement._resolve_range,
    "RenameStmt": _Statement._check_rename,
    "SecLabelStmt": _Statement._resolve_described,
    "TypeCast": _Statement._check_cast,
    "TypeName": _Statement._resolve_type,
}


def join_readings(before: Sequence[Operation], after: Sequence[Operation]) -> tuple[Operation, ...]:
    """The operations, each step with the names that the tables have when it runs.

    Args:
        before: as read with the names before the renames.
        after: the same operations, with the names after.

    Raises:
        PlanError: an operation would be another one under the new names.
    """
    first = next(n for n, each in enumerate(before) if _renames_in_contract(each))
    joined = []
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        if (len(old.steps), len(old.removes)) != (len(new.steps), len(new.removes)):
            raise PlanError(
                f"{old.summary}: not the same work under the old and the new name of the table",
                "write it in a release of its own, after the rename",
            )
        steps = tuple(
            replace(theirs, phase=ours.phase)
            if ours.phase is Phase.CLEANUP or (ours.phase is Phase.CONTRACT and number > first)
            else ours
            for ours, theirs in zip(old.steps, new.steps, strict=True)
        )
        removes = tuple(_with_both_names(*pair) for pair in zip(old.removes, new.removes, strict=True))
        joined.append(replace(old, steps=steps, removes=removes))
    return tuple(joined)


def _renames_in_contract(operation: Operation) -> bool:
    return (
        isinstance(operation, RenameOperation)
        and operation.is_table_rename
        and any(step.phase is Phase.CONTRACT for step in operation.steps)
    )


def _with_both_names(old: RemovedObject, new: RemovedObject) -> RemovedObject:
    return old if old.names == new.names else replace(old, other_names=new.names)

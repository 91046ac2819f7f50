"""The columns that ``*`` of a view stands for, where its table has others until cleanup.

A column that the migration drops exists until cleanup, and one whose type changes has a second one beside it. The view
is created with the columns that the plain statement would show, in their order, as the table has them at that moment.
"""

# ruff: noqa: S608  names are quoted by the parser's own rules, values are literals

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Operation, old_object_name, relation_sql
from zdd_tui.model.operations.generated import NEW_PREFIX, block
from zdd_tui.model.operations.scope import ObjectKey
from zdd_tui.model.operations.types import TypeOperation
from zdd_tui.model.operations.views import VIEW
from zdd_tui.model.sql import deparse, enum_name, name_sql, node_class, parse_sql, quote_literal, string_values, walk


@dataclass(slots=True)
class _Columns:
    """The columns of a table that differ from those which the plain statement would show.

    Attributes:
        reason: why there are others, for an error.
        hidden: names.
        places: the name of a column whose place another one has, by the name of that.
    """

    reason: str
    hidden: set[str] = field(default_factory=set)
    places: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _AllColumns:
    """One ``*`` of a view.

    Attributes:
        marker: what stands in its place, as SQL.
        qualifier: of the columns, as SQL.
        table: as SQL.
    """

    marker: str
    qualifier: str
    table: str
    columns: _Columns

    @property
    def list_sql(self) -> str:
        """An expression: the columns, separated by commas."""
        hidden = ", ".join(map(quote_literal, sorted(self.columns.hidden)))
        places = " OR ".join(
            f"(a.attname, o.attname) = ({quote_literal(name)}, {quote_literal(other)})"
            for name, other in sorted(self.columns.places.items())
        )
        return (
            f"(SELECT string_agg(format('%s.%I', {quote_literal(self.qualifier)}, a.attname), ', '"
            " ORDER BY coalesce(o.attnum, a.attnum)) FROM pg_attribute a LEFT JOIN pg_attribute o"
            f" ON o.attrelid = a.attrelid AND NOT o.attisdropped AND ({places or 'false'})"
            f" WHERE a.attrelid = {quote_literal(self.table)}::regclass AND a.attnum > 0 AND NOT a.attisdropped"
            f" AND a.attname <> ALL (ARRAY[{hidden}]::name[]))"
        )


def name_columns(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """The operations, where a view that is created shows the columns of the plain statement for ``*``.

    Raises:
        PlanError: it is materialized, or which columns ``*`` stands for is not clear from the statement.
    """
    found = list(operations)
    tables = _changed_tables(found)
    for number, operation in enumerate(found if tables else ()):
        if operation.creates is None or (kind := VIEW.match(operation.summary)) is None:
            continue
        known = {key: _hide_later(columns, key, found[number + 1 :]) for key, columns in tables.items()}
        view = _View(operation, known)
        tree = parse_sql(operation.text)
        view.read(tree)
        if view.stars and kind[1]:
            raise view.refuse(view.stars[0].columns)
        if view.stars:
            sql = _create_sql(deparse(tree), view.stars)
            steps = tuple(
                replace(step, statements=tuple(sql if each == operation.text else each for each in step.statements))
                for step in operation.steps
            )
            found[number] = replace(operation, steps=steps)
    return tuple(found)


def _create_sql(text: str, stars: Iterable[_AllColumns]) -> str:
    expression = quote_literal(text)
    for star in stars:
        expression = f"replace({expression}, {quote_literal(star.marker)}, {star.list_sql})"
    return block(f"  EXECUTE {expression};")


def _changed_tables(operations: Iterable[Operation]) -> dict[ObjectKey, _Columns]:
    tables: dict[ObjectKey, _Columns] = {}
    for operation in operations:
        if isinstance(operation, TypeOperation):
            for change in operation.changes:
                reason = f"{change.label}, whose type changes, has a second one until cleanup"
                columns = tables.setdefault(change.key, _Columns(reason))
                columns.hidden |= {change.new, change.old}
                columns.places[change.column] = change.old
        if (key := operation.on) is None:
            continue
        for each in operation.drops:
            if each.kind == "table column":
                *_, table, name = each.names
                reason = f"{name_sql(table, name)}, which the migration drops, exists until cleanup"
                tables.setdefault(key, _Columns(reason)).hidden |= {name, old_object_name(name)}
        if key in tables:
            tables[key].hidden -= set(_added_columns(operation))  # again
    return tables


def _hide_later(columns: _Columns, key: ObjectKey, operations: Iterable[Operation]) -> _Columns:
    """Without the columns that the migration adds after the view: it may be created again when they exist."""
    later = {name for each in operations if each.on == key for name in _added_columns(each)}
    return replace(columns, hidden=columns.hidden | later | {NEW_PREFIX + name for name in later})


def _added_columns(operation: Operation) -> Iterator[str]:
    for command in parse_sql(operation.text).stmts[0].stmt.alter_table_stmt.cmds:
        if enum_name(command.alter_table_cmd, "subtype") == "AT_AddColumn":
            yield getattr(command.alter_table_cmd, "def").column_def.colname


@dataclass(slots=True)
class _View:
    """A statement in whose parse tree each ``*`` over the columns of a changed table is found and marked."""

    operation: Operation
    tables: Mapping[ObjectKey, _Columns]
    stars: list[_AllColumns] = field(default_factory=list)
    own_names: set[str] = field(default_factory=set)

    def read(self, tree: Any) -> None:
        """Marks them in the tree."""
        nodes = list(walk(tree))
        self.own_names = {each.ctename for each in nodes if node_class(each) == "CommonTableExpr"}
        for each in nodes:
            if node_class(each) == "SelectStmt":
                self._read_query(each)

    def refuse(self, columns: _Columns) -> PlanError:
        return PlanError(
            f"{self.operation.summary}: * shows every column, and {columns.reason}",
            "name the columns of the view, or create it in a release after this one",
        )

    def _read_query(self, query: Any) -> None:
        items = list(_items(query.from_clause))
        changed = [columns for each in items if (columns := self._columns(each)) is not None]
        if not changed:
            return
        targets = list(query.target_list)
        others = [target for target in targets if not _is_star(target.res_target.val)]
        if any(node_class(node) == "A_Star" for target in others for node in _own_nodes(target)):
            raise self.refuse(changed[0])  # such as ROW(a.*)
        del query.target_list[:]
        for target in targets:
            if not _is_star(target.res_target.val):
                query.target_list.add().CopyFrom(target)
                continue
            names = string_values(target.res_target.val.column_ref.fields)
            shown = [each for each in items if not names or _alias(each) == names[-1]]
            if len(names) > 1 or not all(map(_is_plain, shown)) or (not names and _merges(query.from_clause)):
                raise self.refuse(changed[0])
            if not any(self._columns(each) is not None for each in shown):
                query.target_list.add().CopyFrom(target)
                continue
            for each in shown:
                self._add(query, each)

    def _add(self, query: Any, item: Any) -> None:
        """Adds the columns of an item to the targets."""
        reference = query.target_list.add().res_target.val.column_ref
        reference.fields.add().string.sval = _alias(item)
        if (columns := self._columns(item)) is None:
            reference.fields.add().a_star.SetInParent()
            return
        name = f"zdd_columns_{len(self.stars) + 1}_"
        reference.fields.add().string.sval = name
        qualifier = name_sql(_alias(item))
        self.stars.append(_AllColumns(f"{qualifier}.{name}", qualifier, relation_sql(item.range_var), columns))

    def _columns(self, item: Any) -> _Columns | None:
        """Those of an item of FROM that is a changed table; None for any other."""
        if not item.HasField("range_var"):
            return None
        relation = item.range_var
        if not relation.schemaname and relation.relname in self.own_names:
            return None
        return next(
            (
                columns
                for key, columns in self.tables.items()
                if key.name == relation.relname and relation.schemaname in ("", key.schema)
            ),
            None,
        )


def _items(nodes: Iterable[Any]) -> Iterator[Any]:
    """The items of FROM, in their order, those of joins among them."""
    for node in nodes:
        if node.HasField("join_expr") and not node.join_expr.HasField("alias"):
            yield from _items([node.join_expr.larg, node.join_expr.rarg])
        else:
            yield node


def _merges(nodes: Iterable[Any]) -> bool:
    """Whether a join shows two columns as one."""
    joins = [node.join_expr for node in nodes if node.HasField("join_expr")]
    return any(each.is_natural or each.using_clause or _merges([each.larg, each.rarg]) for each in joins)


def _item(node: Any) -> Any:
    return getattr(node, node.WhichOneof("node"))


def _alias(node: Any) -> str:
    item = _item(node)
    name: str = item.alias.aliasname or (item.relname if node.HasField("range_var") else "")
    return name


def _is_plain(node: Any) -> bool:
    """Whether the columns of an item have the names of its own."""
    return bool(_alias(node)) and not _item(node).alias.colnames


def _is_star(node: Any) -> bool:
    return node.HasField("column_ref") and any(each.HasField("a_star") for each in node.column_ref.fields)


def _own_nodes(node: Any) -> Iterator[Any]:
    """The nodes below one, but for those of its subqueries."""
    inner = {id(each) for query in walk(node) if node_class(query) == "SelectStmt" for each in walk(query)}
    return (each for each in walk(node) if id(each) not in inner)

"""Whether a statement, as pg_stat_statements and pg_stat_activity show it, uses an object that a release removes.

The statement is parsed, so that a column is matched to its table. What the text alone cannot decide may be a use:
``SELECT *`` and a whole row hand out every column, and which of them the client reads by name is not seen.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import Any, TypeAlias

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import RemovedKind
from zdd_tui.model.sql import enum_name, node_class, parse_sql, string_values

QualifiedName: TypeAlias = tuple[str, str]
"""Schema and name; the schema is empty where a statement names none."""


class Use(IntEnum):
    """Whether a statement uses an object, from no to certainly."""

    NO = 0
    MAYBE = 1
    YES = 2


@dataclass(frozen=True, slots=True)
class RemovedTarget:
    """A removed object as the catalog has it.

    Attributes:
        names: of the table, with its partitions and children; of other objects their own.
        column: of a column or default.
        others: other tables that have a column of this name; other objects of this name.
        key: the columns of a unique index or constraint, which ON CONFLICT may name.
        constraint: its name, which ON CONFLICT may name.
    """

    kind: RemovedKind
    names: frozenset[QualifiedName]
    column: str = ""
    others: frozenset[QualifiedName] = frozenset()
    key: frozenset[str] = frozenset()
    constraint: str = ""

    @property
    def words(self) -> frozenset[str]:
        """A statement that holds none of these, in lower case, does not use the object."""
        return frozenset(name.lower().replace('"', '""') for _, name in self.names)


def find_use(sql: str, target: RemovedTarget) -> Use:
    """Whether a statement uses an object. Changes of the schema, and zdd's own statements, use none."""
    text = sql.lower()
    if not any(word in text for word in target.words) and 'u&"' not in text:
        return Use.NO
    names = _read_names(sql)
    if names is None:
        return Use.MAYBE
    if names.is_own:
        return Use.NO
    use = _find_use(names, target)
    return min(use, Use.MAYBE) if names.is_export else use


def can_read(sql: str) -> bool:
    """Whether the parser reads a statement; it does not where the text is cut off."""
    return _read_names(sql) is not None


def _find_use(names: "_Names", target: RemovedTarget) -> Use:
    match target.kind:
        case RemovedKind.RELATION | RemovedKind.SEQUENCE:
            return _use_of_name(names.tables, target)
        case RemovedKind.COLUMN:
            return _use_of_column(names, target)
        case RemovedKind.DEFAULT:
            return _use_of_default(names, target)
        case RemovedKind.ROUTINE:
            return _use_of_name(names.routines, target)
        case RemovedKind.TYPE:
            return _use_of_name(names.types, target)
    # Of the other kinds, an index or constraint, a statement can name only what ON CONFLICT relies on.
    conflicts = (each for each in names.conflicts if _is_one_of(each.table, target.names))
    is_used = any(
        each.constraint == target.constraint if each.constraint else target.key and each.columns == target.key
        for each in conflicts
    )
    return Use.YES if is_used else Use.NO


def may_be_named_in(body: str, target: RemovedTarget, *, is_of_table: bool) -> bool:
    """Whether the body of a function may use an object: it holds the words of its name.

    No body names an index, a constraint or a default.

    Args:
        is_of_table: a trigger of the table calls the function; its body has the row as OLD and NEW.
    """
    if target.kind in (RemovedKind.INDEX, RemovedKind.CONSTRAINT, RemovedKind.DEFAULT):
        return False
    words = set(_split_words(body.lower()))
    is_row_known = is_of_table and target.kind is RemovedKind.COLUMN
    is_named = is_row_known or any(set(_split_words(name)) <= words for name in target.words)
    return is_named and set(_split_words(target.column.lower())) <= words


def _use_of_name(found: Iterable[QualifiedName], target: RemovedTarget) -> Use:
    """By its name; without a schema that may be the name of another object."""
    uses = [
        Use.MAYBE if not schema and target.others else Use.YES
        for schema, name in found
        if _is_one_of((schema, name), target.names)
    ]
    return max(uses, default=Use.NO)


def _is_one_of(found: QualifiedName, names: frozenset[QualifiedName]) -> bool:
    return found in names if found[0] else any(found[1] == name for _, name in names)


def _use_of_column(names: "_Names", target: RemovedTarget) -> Use:
    """By its name; without a column list; or perhaps by ``*``."""
    if any(columns is None and _is_one_of(table, target.names) for table, columns in names.inserts):
        return Use.YES
    for column, levels in names.columns:
        if column != target.column:
            continue
        for tables in levels:  # from the innermost query outwards, as PostgreSQL looks a name up
            if any(_is_one_of(table, target.names) for table in tables):
                return Use.YES
            if any(_is_one_of(table, target.others) for table in tables):
                break
    if any(_is_one_of(table, target.names) for table in names.stars):
        return Use.YES if target.column in names.fields else Use.MAYBE
    return Use.YES if names.is_code and target.column in names.fields else Use.MAYBE if names.is_code else Use.NO


def _use_of_default(names: "_Names", target: RemovedTarget) -> Use:
    """By an INSERT that gives the column no value: it succeeds with NULL, which may be what is wanted."""
    is_used = any(
        columns is None or target.column not in columns
        for table, columns in names.inserts
        if _is_one_of(table, target.names)
    )
    return Use.MAYBE if is_used or names.is_code else Use.NO


# --- the names in a statement


@dataclass(frozen=True, slots=True)
class _Conflict:
    """ON CONFLICT of an INSERT."""

    table: QualifiedName
    constraint: str
    columns: frozenset[str]


@dataclass(slots=True)
class _Names:
    """What a statement names.

    Attributes:
        columns: each with the tables of its query, and of those around it, from the inside.
        stars: tables of which every column, or a whole row, is handed out.
        fields: names that are looked up in a row whose columns are not known here, such as that of a subquery.
        inserts: a table, and the columns that get a value; None where the statement has no list.
        is_code: a block of PL/pgSQL, whose statements are not read.
        is_own: it is a statement of zdd.
        is_export: what pg_dump sends, which reads the catalog first: COPY TO, LOCK TABLE.
    """

    tables: set[QualifiedName] = field(default_factory=set)
    columns: list[tuple[str, tuple[frozenset[QualifiedName], ...]]] = field(default_factory=list)
    stars: set[QualifiedName] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    inserts: list[tuple[QualifiedName, frozenset[str] | None]] = field(default_factory=list)
    conflicts: list[_Conflict] = field(default_factory=list)
    routines: set[QualifiedName] = field(default_factory=set)
    types: set[QualifiedName] = field(default_factory=set)
    is_code: bool = False
    is_own: bool = False
    is_export: bool = False


@lru_cache(maxsize=5000)
def _read_names(sql: str) -> _Names | None:
    """None where the text is cut off, or not what the parser reads."""
    try:
        statements = parse_sql(sql).stmts
    except PlanError:
        return None
    reader = _Reader()
    for each in statements:
        reader.read_statement(_unwrap(each.stmt))
    return reader.names


_Level: TypeAlias = dict[str, QualifiedName | None]
"""What a query reads FROM, by the name under which its columns are known; None for a subquery or function."""

_QUERIES = {"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "CopyStmt", "CallStmt", "DoStmt"}
_WITH_RELATIONS = {"TruncateStmt", "LockStmt", "RefreshMatViewStmt"}
_AROUND_QUERIES = {"ExplainStmt", "PrepareStmt", "DeclareCursorStmt", "CreateTableAsStmt"}
_CHANGES = {"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"}


class _Reader:
    """Collects the names of one statement."""

    def __init__(self) -> None:
        self.names = _Names()

    def read_statement(self, node: Any) -> None:
        kind = node_class(node)
        if kind in _AROUND_QUERIES:
            self.read_statement(_unwrap(node.query))
        elif kind in _QUERIES or kind in _WITH_RELATIONS:
            self.names.is_export = kind == "LockStmt"
            self._read(node, (), frozenset())

    def _read(self, node: Any, levels: tuple[_Level, ...], ctes: frozenset[str]) -> None:
        kind = node_class(node)
        if kind in _CHANGES:
            self._read_change(node, levels, ctes)
        elif kind in _HANDLERS:
            _HANDLERS[kind](self, node, levels, ctes)
        else:
            self._note_name(kind, node)
            self._read_parts(node, levels, ctes)

    def _note_name(self, kind: str, node: Any) -> None:
        if kind == "FuncCall":
            self.names.routines.add(_qualified_name(node.funcname))
        elif kind == "TypeName":
            self.names.types.add(_qualified_name(node.names))
        elif kind == "A_Indirection":
            self.names.fields.update(string_values(node.indirection))

    def _read_parts(
        self, node: Any, levels: tuple[_Level, ...], ctes: frozenset[str], without: frozenset[str] = frozenset()
    ) -> None:
        for name, part in _child_nodes(node):
            if name not in without:
                self._read(part, levels, ctes)

    # --- queries

    def _read_with(self, node: Any, levels: tuple[_Level, ...], ctes: frozenset[str]) -> frozenset[str]:
        """Reads the WITH clauses; returns the names that are no tables below."""
        if not node.HasField("with_clause"):
            return ctes
        inside = ctes | {each.common_table_expr.ctename for each in node.with_clause.ctes}
        known = inside if node.with_clause.recursive else ctes
        for each in node.with_clause.ctes:
            self._read(_unwrap(each.common_table_expr.ctequery), levels, known)
            known |= {each.common_table_expr.ctename}
        return inside

    def read_select(
        self, node: Any, levels: tuple[_Level, ...], ctes: frozenset[str], *, is_exists: bool = False
    ) -> None:
        """A query; of EXISTS PostgreSQL does not evaluate the list."""
        ctes = self._read_with(node, levels, ctes)
        level: _Level = {}
        inside = (level, *levels)
        for each in node.from_clause:
            self._read_source(_unwrap(each), level, inside, ctes)
        ignored = {"with_clause", "from_clause", *(("target_list",) if is_exists else ())}
        self._read_parts(node, inside, ctes, frozenset(ignored))

    def _read_source(self, node: Any, level: _Level, levels: tuple[_Level, ...], ctes: frozenset[str]) -> None:
        """An item of FROM."""
        match node_class(node):
            case "RangeVar":
                self._add_relation(node, level, ctes)
            case "JoinExpr":
                self._read_source(_unwrap(node.larg), level, levels, ctes)
                self._read_source(_unwrap(node.rarg), level, levels, ctes)
                for name in string_values(node.using_clause):
                    self._add_column(name, levels)
                if node.is_natural:
                    self.names.stars.update(table for table in level.values() if table is not None)
                if node.HasField("quals"):
                    self._read(_unwrap(node.quals), levels, ctes)
                if node.HasField("alias"):
                    level[node.alias.aliasname] = None
                    self.names.stars.update(table for table in level.values() if table is not None)
            case "RangeTableSample":
                self._read_source(_unwrap(node.relation), level, levels, ctes)
                self._read_parts(node, levels, ctes, frozenset({"relation"}))
            case _:
                if node.HasField("alias"):
                    level[node.alias.aliasname] = None
                    self.names.is_own |= node.alias.aliasname.startswith("zdd_")
                self._read_parts(node, levels, ctes)

    def _add_relation(self, node: Any, level: _Level, ctes: frozenset[str]) -> QualifiedName | None:
        table = self.read_table(node, (), ctes)
        alias = node.alias.aliasname or node.relname
        level[alias] = table
        if table is not None and node.alias.colnames:  # its columns have other names here
            self.names.stars.add(table)
            self.names.fields.update(string_values(node.alias.colnames))
        return table

    def read_table(self, node: Any, _levels: tuple[_Level, ...], ctes: frozenset[str]) -> QualifiedName | None:
        """Notes a table; None for the name of a WITH clause."""
        if not node.schemaname and node.relname in ctes:
            return None
        table = (str(node.schemaname), str(node.relname))
        self.names.tables.add(table)
        self.names.is_own |= table[0] == "zdd" or node.alias.aliasname.startswith("zdd_")
        return table

    # --- changes of rows

    def _read_change(self, node: Any, levels: tuple[_Level, ...], ctes: frozenset[str]) -> None:
        ctes = self._read_with(node, levels, ctes)
        level: _Level = {}
        inside = (level, *levels)
        table = self._add_relation(node.relation, level, frozenset())
        assert table is not None, "a WITH clause cannot be written"
        kind = node_class(node)
        if kind == "InsertStmt":
            self._read_insert(node, table, level)
        for name in ("from_clause", "using_clause"):
            for each in getattr(node, name, ()):
                self._read_source(_unwrap(each), level, inside, ctes)
        if kind == "MergeStmt":
            self._read_source(_unwrap(node.source_relation), level, inside, ctes)
            for each in node.merge_when_clauses:
                clause = each.merge_when_clause
                self._set_columns(clause.target_list, table)
                if enum_name(clause, "command_type") == "CMD_INSERT":
                    self.names.inserts.append((table, _target_names(clause.target_list)))
        elif kind == "UpdateStmt":
            self._set_columns(node.target_list, table)
        handled = {"with_clause", "relation", "from_clause", "using_clause", "source_relation", "cols"}
        self._read_parts(node, inside, ctes, frozenset(handled))

    def _read_insert(self, node: Any, table: QualifiedName, level: _Level) -> None:
        level["excluded"] = table
        self._set_columns(node.cols, table)
        has_values = node.HasField("select_stmt")
        self.names.inserts.append((table, _target_names(node.cols) if has_values else frozenset()))
        if not node.HasField("on_conflict_clause"):
            return
        conflict = node.on_conflict_clause
        self._set_columns(conflict.target_list, table)
        columns = [each.index_elem.name for each in conflict.infer.index_elems]
        for name in filter(None, columns):
            self._add_column(name, ({"": table},))
        self.names.conflicts.append(_Conflict(table, conflict.infer.conname, frozenset(columns)))

    def _set_columns(self, targets: Any, table: QualifiedName) -> None:
        """The columns that a list of targets sets."""
        for each in targets:
            if each.HasField("res_target"):
                self._add_column(each.res_target.name, ({"": table},))

    def read_copy(self, node: Any, _levels: tuple[_Level, ...], _ctes: frozenset[str]) -> None:
        """COPY of a table or query."""
        self.names.is_export = not node.is_from
        if node.HasField("query"):
            self.names.is_export = False
            self.read_statement(_unwrap(node.query))
            return
        level: _Level = {}
        table = self._add_relation(node.relation, level, frozenset())
        assert table is not None, "COPY names a table"
        columns = string_values(node.attlist)
        for name in columns:
            self._add_column(name, (level,))
        if node.is_from and columns:
            self.names.inserts.append((table, frozenset(columns)))
        elif node.is_from:
            self.names.inserts.append((table, None))
        elif not columns:
            self.names.stars.add(table)

    def read_block(self, node: Any, _levels: tuple[_Level, ...], _ctes: frozenset[str]) -> None:
        """DO: its code holds the name of the object, as the caller has found."""
        self.names.is_code = True
        code = " ".join(each.def_elem.arg.string.sval for each in node.args)
        words = {word.lower() for word in _split_words(code)}
        self.names.fields |= words
        self.names.tables |= {("", word) for word in words}
        self.names.routines |= {("", word) for word in words}
        self.names.is_own = "zdd" in words

    # --- expressions

    def read_sublink(self, node: Any, levels: tuple[_Level, ...], ctes: frozenset[str]) -> None:
        """A subquery in an expression."""
        query = _unwrap(node.subselect)
        if enum_name(node, "sub_link_type") == "EXISTS_SUBLINK" and node_class(query) == "SelectStmt":
            self.read_select(query, levels, ctes, is_exists=True)
        else:
            self._read(query, levels, ctes)
        if node.HasField("testexpr"):
            self._read(_unwrap(node.testexpr), levels, ctes)

    def read_column(self, node: Any, levels: tuple[_Level, ...], _ctes: frozenset[str]) -> None:
        """A column, a whole row, or ``*``."""
        parts = string_values(node.fields)
        if any(each.HasField("a_star") for each in node.fields):
            self._read_star(parts, levels)
            return
        *qualifier, column = parts
        self.names.is_own |= column.startswith("zdd_")
        if not qualifier:
            self._add_column(column, levels)
            if (row := _find(column, levels)) is not None:  # a whole row
                self.names.stars.add(row)
        elif len(qualifier) > 1:
            self._add_column(column, ({"": (qualifier[-2], qualifier[-1])},))
        elif (table := _find(qualifier[0], levels)) is not None:
            self._add_column(column, ({"": table},))
        else:
            self.names.fields.add(column)

    def _read_star(self, qualifier: list[str], levels: tuple[_Level, ...]) -> None:
        if not qualifier:
            found = list(levels[0].values()) if levels else []
        elif len(qualifier) > 1:
            found = [(qualifier[-2], qualifier[-1])]
        else:
            found = [_find(qualifier[0], levels)]
        self.names.stars.update(table for table in found if table is not None)

    def _add_column(self, name: str, levels: tuple[_Level, ...]) -> None:
        tables = tuple(frozenset(table for table in level.values() if table is not None) for level in levels)
        self.names.columns.append((name, tables))
        if any(None in level.values() for level in levels):
            self.names.fields.add(name)


_HANDLERS: Mapping[str, Callable[[_Reader, Any, tuple[_Level, ...], frozenset[str]], object]] = {
    "SelectStmt": _Reader.read_select,
    "CopyStmt": _Reader.read_copy,
    "DoStmt": _Reader.read_block,
    "RangeVar": _Reader.read_table,
    "ColumnRef": _Reader.read_column,
    "SubLink": _Reader.read_sublink,
}


def _find(name: str, levels: tuple[_Level, ...]) -> QualifiedName | None:
    for level in levels:
        if name in level:
            return level[name]
    return None


def _target_names(targets: Any) -> frozenset[str] | None:
    names = frozenset(each.res_target.name for each in targets if each.HasField("res_target"))
    return names or None


def _qualified_name(names: Any) -> QualifiedName:
    schema, name = ["", *string_values(names)][-2:]
    return schema, name


def _split_words(text: str) -> list[str]:
    return "".join(char if char.isalnum() or char == "_" else " " for char in text).split()


def _unwrap(node: Any) -> Any:
    """The message in a ``Node``."""
    if node_class(node) != "Node":
        return node
    kind = node.WhichOneof("node")
    return getattr(node, kind) if kind else node


def _child_nodes(node: Any) -> list[tuple[str, Any]]:
    """The messages directly below a node, each with the name of its field."""
    found = []
    for each, value in node.ListFields():
        if each.message_type is None:
            continue
        items = [value] if hasattr(value, "ListFields") else list(value)
        found += [(each.name, _unwrap(item)) for item in items]
    return found

"""Derives the `change` section of an expand-contract plan from a breaking migration, as far as possible.

Values that only a person knows become :class:`MissingInput`, with the option that supplies them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from zdd_tui.model.advice.locks import StatementVerdict, select_breaking
from zdd_tui.model.advice.migration import ActionKind, DatabaseStats, LiveTableStats, StatementAction
from zdd_tui.model.plan.base import TableName
from zdd_tui.model.sql import (
    MAX_IDENTIFIER_BYTES,
    deparse,
    expression_sql,
    name_sql,
    node_class,
    parse_expression,
    parse_sql,
    walk,
)


@dataclass(frozen=True, slots=True)
class UserAnswers:
    """Values of the options ``--up``, ``--down`` and ``--type``.

    Attributes:
        up: expression over old columns, by new column.
        down: expression over new columns, by old column.
        types: SQL type, by old column.
    """

    up: Mapping[str, str] = field(default_factory=dict)
    down: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MissingInput:
    """A value that only a person knows.

    Attributes:
        option: the option that supplies it, such as ``--up``; empty where no value leads to a plan.
        name: the column that the option is for.
    """

    text: str
    option: str = ""
    name: str = ""

    def __str__(self) -> str:
        if not self.option:
            return self.text
        return f'{self.text}: {self.option} "{self.name}=…"' if self.name else f"{self.text}: {self.option}"


@dataclass(frozen=True, slots=True)
class DerivedChange:
    """
    Attributes:
        change: the section; None while an input is missing.
        notes: remarks about the section.
    """

    change: dict[str, Any] | None
    missing_inputs: tuple[MissingInput, ...] = ()
    notes: tuple[str, ...] = ()

    def format_hint(self) -> str:
        """For an error: the section, or the missing inputs."""
        if self.change is None:
            return "\n".join(
                [f"  - {missing}" for missing in self.missing_inputs] + [f"  {note}" for note in self.notes]
            )
        text = yaml.safe_dump({"change": self.change}, sort_keys=False, width=1000, allow_unicode=True)
        return "\n".join(f"    {line}" for line in text.splitlines())


def derive_change(
    verdicts: Iterable[StatementVerdict], live: DatabaseStats | None = None, answers: UserAnswers | None = None
) -> DerivedChange:
    """The `change` section for a migration with breaking statements."""
    verdicts = tuple(verdicts)
    breaking = tuple(select_breaking(verdicts))
    tables = dict.fromkeys(verdict.action.table for verdict in breaking)
    if None in tables:
        location = next(verdict.statement.location for verdict in breaking if verdict.action.table is None)
        return _no_change(f"{location} changes no table: only you know what still uses the object")
    if len(tables) > 1:
        listed = ", ".join(str(table) for table in tables)
        return _no_change(f"it breaks {len(tables)} tables ({listed}): give each a migration and a release")
    if not tables:
        return _no_change("it breaks nothing: no expand-contract plan is needed")
    first = breaking[0].action
    assert first.table is not None
    stats = live.find_table(first.table) if live else None
    if live is not None and first.table in live.missing_tables:
        return _no_change(f"{first.table} is not in {live.database}: check --dsn and the table's schema")
    if stats is not None and (reason := _why_unsupported(stats)):
        return _no_change(reason)
    if first.kind in (ActionKind.RENAME_TABLE, ActionKind.SET_SCHEMA):
        return _derive_table_change(breaking, first, stats)
    return _ChangeBuilder(first.table, stats, answers or UserAnswers()).build(verdicts)


def _no_change(text: str, option: str = "") -> DerivedChange:
    return DerivedChange(None, (MissingInput(text, option),))


def _why_unsupported(table: LiveTableStats) -> str:
    """Why zdd cannot change a table; empty where it can."""
    if not table.is_ordinary:
        return f"{table.table} is partitioned or inherits: zdd changes ordinary tables only"
    return "" if table.key else f"{table.table} has no primary key, and zdd finds rows by it: add one first"


def _table_sql(table: TableName) -> str:
    return name_sql(table.schema_, table.name)


def _rename_in_expression(expression: str, renamed: Mapping[str, str]) -> str:
    tree = parse_expression(expression)
    for old, new in renamed.items():
        _rename_column_in(tree, old, new)
    return expression_sql(tree)


def _cast(expression: str, type_name: str) -> str:
    return f"CAST({expression} AS {type_name})"


class _ChangeBuilder:
    """Builds the section from a migration's actions, one by one."""

    def __init__(self, table: TableName, live: LiveTableStats | None, answers: UserAnswers) -> None:
        self.table, self.live, self.answers = table, live, answers
        self.new: dict[str, str] = {}
        self.up: dict[str, str] = {}
        self.down: dict[str, str] = {}
        self.source_columns: dict[str, str] = {}  # old column by the new one that replaces it
        self.extra: list[str] = []
        self.missing_inputs: list[MissingInput] = []
        self.notes: list[str] = []
        self.indexes: list[str] = []
        self.dropped: list[str] = []
        self.replaces_columns = False  # columns are dropped: those that are added may take their data

    def build(self, verdicts: tuple[StatementVerdict, ...]) -> DerivedChange:
        self.replaces_columns = any(
            each.action.kind is ActionKind.DROP_COLUMN and each.action.table == self.table for each in verdicts
        )
        for verdict in verdicts:
            self._apply_verdict(verdict)
        for column, expression in self.answers.up.items():
            if column in self.new:
                self.up[column] = expression
            else:
                known = ", ".join(self.new) or "none"
                self._require(f"--up names {column}, but the migration makes no such column (it makes: {known})")
        self.down |= self.answers.down
        for old in self.dropped:
            text = f"the expression over new columns that keeps {self.table}.{old} for a rollback"
            self._require(text, "--down", old)
        if self.dropped:
            self.notes.append(f"if its data is not needed any more, no plan is needed: {_RUN_AFTER_RELEASE}")
        for column in self.new:
            if column not in self.up:
                text = f"the value of {self.table}.{column} in rows that exist"
                self._require(text, "--up", column)
        if not self.down and not self.missing_inputs:
            text = "no old column is replaced: with a constant DEFAULT for the new one the migration breaks nothing"
            self._require(text)
        if self.missing_inputs:
            return DerivedChange(None, tuple(dict.fromkeys(self.missing_inputs)), tuple(self.notes))
        self._recreate_indexes()
        return DerivedChange(self._build_change_section(), notes=tuple(dict.fromkeys(self.notes)))

    def _apply_verdict(self, verdict: StatementVerdict) -> None:
        action, location = verdict.action, verdict.statement.location
        if action.table != self.table:
            if action.kind is not ActionKind.HARMLESS:
                self.notes.append(f"{location} is not in the plan: run it before the release")
            return
        if action.kind in _HANDLERS and (verdict.rule.breaking_reason or action.kind is ActionKind.ADD_COLUMN):
            if self.live and action.column in self.live.key and action.kind is not ActionKind.ADD_COLUMN:
                key = f"{self.table}.{action.column} is the key, and zdd finds rows by it"
                self._require(f"{key}: write a plan with a new table (change.into)")
                return
            _HANDLERS[action.kind](self, verdict)
        elif verdict.rule.breaking_reason:
            self._require(f"{location}: {_RUN_AFTER_RELEASE}")
        elif action.kind in (ActionKind.CREATE_INDEX, ActionKind.CREATE_INDEX_CONCURRENTLY):
            self.indexes.append(_make_concurrent(verdict.statement.text))
        elif action.kind is not ActionKind.HARMLESS:
            self.notes.append(f"{location} is not in the plan: run it after the release")

    def _require(self, text: str, option: str = "", name: str = "") -> None:
        self.missing_inputs.append(MissingInput(text, option, name))

    def _column_type(self, column: str) -> str:
        known = self.answers.types.get(column) or (self.live.columns.get(column, "") if self.live else "")
        if not known and self.live is not None:
            listed = ", ".join(self.live.columns)
            self._require(f"{self.table} has no column {column}; it has {listed}")
        elif not known:
            text = f"the type of {self.table}.{column} (--dsn finds it)"
            self._require(text, "--type", column)
        return known

    def _unused_name(self, column: str) -> str:
        taken, number = set(self.live.columns if self.live else ()) | set(self.new), 2
        while (name := _truncate_identifier(column, f"_v{number}")) in taken:
            number += 1
        return name

    def _rename_column(self, verdict: StatementVerdict) -> None:
        old, new = verdict.action.column, verdict.action.name
        self.new[new], self.source_columns[new] = self._column_type(old), old
        self.up[new], self.down[old] = name_sql(old), name_sql(new)

    def _change_type(self, verdict: StatementVerdict) -> None:
        action = verdict.action
        if action.column in self.source_columns:  # an earlier statement renamed it
            new, old = action.column, self.source_columns[action.column]
        else:
            new, old = self._unused_name(action.column), action.column
            self.source_columns[new] = old
            self.notes.append(f"the new column is called {new}: two columns cannot have the name {old}")
        before = self._column_type(old)
        self.new[new] = action.type
        before_rename = _rename_in_expression(action.using or name_sql(action.column), {action.column: old})
        self.up[new] = _cast(before_rename, action.type)
        self.down[old] = _cast(name_sql(new), before)
        self.notes.append(
            f"rows of {old} that do not cast to {action.type} close the backfill's gate; a rollback needs"
            f" every value of {new} to cast to {before or 'the old type'}"
        )

    def _set_not_null(self, verdict: StatementVerdict) -> None:
        old = verdict.action.column
        if old in self.new:
            self.notes.append(f"{old} NOT NULL: change.constrain sets it, through a validated CHECK")
            return
        new = self._unused_name(old)
        if new not in self.answers.up:
            self._require(f"the value of {self.table}.{old} in place of NULL", "--up", new)
            self.notes.append(
                f"if no row and no code has NULL in {old} any more, no plan is needed: {verdict.rule.hint}"
            )
            return
        self.new[new], self.down[old], self.source_columns[new] = self._column_type(old), name_sql(new), old
        self.notes.append(f"{new} needs SET NOT NULL in change.constrain, which is set when only V3 runs")

    def _drop_column(self, verdict: StatementVerdict) -> None:
        old = verdict.action.column
        if old not in self.answers.down:
            self.dropped.append(old)

    def _add_column(self, verdict: StatementVerdict) -> None:
        action = verdict.action
        plain = action.kind is ActionKind.ADD_COLUMN and not self.replaces_columns
        if plain and action.column not in self.answers.up:
            self.extra.append(action.definition)
        else:
            self.new[action.column] = action.type

    def _recreate_indexes(self) -> None:
        if self.live is None:
            self.notes.append("without --dsn the indexes on the old columns are unknown; the new ones may need some")
            return
        renamed = {old: new for new, old in self.source_columns.items()}
        merged = {old: old for old in self.down if old not in renamed}
        for definition in self.live.indexes:
            if retarget_index(definition, merged):
                self.notes.append(
                    f"index without a successor (a CREATE INDEX in the migration makes one): {definition}"
                )
            elif successor := retarget_index(definition, renamed):
                self.indexes.append(successor)
        for new, old in self.source_columns.items():
            properties = (("NOT NULL", self.live.not_null), ("DEFAULT", self.live.defaults))
            lost = [name for name, columns in properties if old in columns]
            if lost:
                self.notes.append(f"{old} is {' and '.join(lost)}: {new} gets the same in change.constrain")
        if self.live.triggers:
            self.notes.append(f"triggers of {self.table} ({', '.join(self.live.triggers)}) fire for the backfill too")

    def _build_change_section(self) -> dict[str, Any]:
        where = _table_sql(self.table)
        adds = [f"ALTER TABLE {where} ADD COLUMN {name_sql(name)} {kind}" for name, kind in self.new.items()]
        section: dict[str, Any] = {"table": _table_sql(self.table), "expand": ";\n".join([*adds, *self.extra])}
        if self.indexes:
            section["indexes"] = list(dict.fromkeys(self.indexes))
        return section | {"up": dict(self.up), "down": dict(self.down), "dual_write": "application"}


_RUN_AFTER_RELEASE = "first release code that does not use it; when no older pod is left, run this statement by itself"

_HANDLERS = {
    ActionKind.RENAME_COLUMN: _ChangeBuilder._rename_column,
    ActionKind.CHANGE_TYPE: _ChangeBuilder._change_type,
    ActionKind.SET_NOT_NULL: _ChangeBuilder._set_not_null,
    ActionKind.DROP_COLUMN: _ChangeBuilder._drop_column,
    ActionKind.ADD_COLUMN: _ChangeBuilder._add_column,
    ActionKind.ADD_REQUIRED_COLUMN: _ChangeBuilder._add_column,
}


# --- indexes


def _make_concurrent(statement: str) -> str:
    """A CREATE INDEX, made concurrent."""
    tree = parse_sql(statement)
    index = tree.stmts[0].stmt.index_stmt
    index.concurrent, index.if_not_exists = True, False
    return deparse(tree)


def retarget_index(definition: str, renamed: Mapping[str, str]) -> str:
    """The same index on the new columns; empty where it uses none of the old ones."""
    tree = parse_sql(definition)
    index = tree.stmts[0].stmt.index_stmt
    replaced = [new for old, new in renamed.items() if _rename_column_in(index, old, new)]
    if not replaced:
        return ""
    index.concurrent = True
    index.idxname = _truncate_identifier(index.idxname, "_" + replaced[0])
    return deparse(tree)


def _rename_column_in(tree: Any, old: str, new: str) -> bool:
    """Renames a column everywhere below a node of a parse tree; returns whether it was there."""
    is_used = False
    for node in walk(tree):
        match node_class(node):
            case "IndexElem" if node.name == old:
                node.name, is_used = new, True
            case "ColumnRef" if node.fields[-1].string.sval == old:
                node.fields[-1].string.sval, is_used = new, True
    return is_used


def _truncate_identifier(name: str, suffix: str) -> str:
    """A name with a suffix, truncated to the length that PostgreSQL allows."""
    return name.encode()[: MAX_IDENTIFIER_BYTES - len(suffix.encode())].decode(errors="ignore") + suffix


# --- a table that is renamed or moved to another schema: a new table with the same columns


def _derive_table_change(
    breaking: tuple[StatementVerdict, ...], rename: StatementAction, live: LiveTableStats | None
) -> DerivedChange:
    """The `change` section for a rename of a table; the columns come from the database."""
    old = rename.table
    assert old is not None
    if live is None:
        return _no_change(f"the columns of {old}", "--dsn")
    if others := [verdict for verdict in breaking if verdict.action is not rename]:
        location = others[0].statement.location
        return _no_change(f"{location} breaks {old} in another way too: give each a migration and a release")
    if live.generated:
        return _no_change(f"{old} has the generated column {min(live.generated)}: write the plan by hand")
    is_move = rename.kind is ActionKind.SET_SCHEMA
    new = TableName(schema_=rename.name if is_move else old.schema_, name=old.name if is_move else rename.name)
    same = {name: name_sql(name) for name in live.columns if name not in live.key}
    if not same:
        return _no_change(f"{old} has no column beside its key: write the plan by hand")
    section: dict[str, Any] = {
        "table": _table_sql(old),
        "into": _table_sql(new),
        "expand": _create_table_sql(new, live),
    }
    if indexes := [_move_index(definition, new) for definition in live.indexes]:
        section["indexes"] = indexes
    notes = [f"{new} gets columns, defaults, key and indexes of {old}; `zdd check` names what else it needs"]
    notes += [f"trigger {name} of {old} is not copied" for name in live.triggers]
    return DerivedChange(section | {"up": same, "down": dict(same), "dual_write": "application"}, notes=tuple(notes))


def _create_table_sql(new: TableName, live: LiveTableStats) -> str:
    lines = []
    for name, kind in live.columns.items():
        line = f"  {name_sql(name)} {kind}"
        if default := live.defaults.get(name):
            line += f" DEFAULT {default}"
        lines.append(line + (" NOT NULL" if name in live.not_null and name not in live.key else ""))
    lines.append(f"  PRIMARY KEY ({', '.join(name_sql(name) for name in live.key)})")
    return f"CREATE TABLE {_table_sql(new)} (\n" + ",\n".join(lines) + "\n)"


def _move_index(definition: str, table: TableName) -> str:
    """The same index on another table."""
    tree = parse_sql(definition)
    index = tree.stmts[0].stmt.index_stmt
    index.concurrent = True
    index.relation.schemaname, index.relation.relname = table.schema_, table.name
    index.idxname = _truncate_identifier(index.idxname, "_" + table.name)
    return deparse(tree)

"""From a breaking migration to the `change` section of an expand/contract plan, as far as it can be derived.

What only a person knows is asked for, with the option that answers it; nothing is invented.
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
    """What a person has told about the columns.

    Attributes:
        up: new column: expression over the old ones.
        down: old column: expression over the new ones.
        types: old column: its type.
    """

    up: Mapping[str, str] = field(default_factory=dict)
    down: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MissingInput:
    """Something that only a person knows.

    Attributes:
        option: what answers it, ``--up``; empty where no answer makes it a plan.
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
        change: the section, None while something is asked.
        missing_inputs: what only a person knows, and how to answer.
        notes: what is good to know about the section.
    """

    change: dict[str, Any] | None
    missing_inputs: tuple[MissingInput, ...] = ()
    notes: tuple[str, ...] = ()

    def format_hint(self) -> str:
        """For an error: the section, or what is asked."""
        if self.change is None:
            return "\n".join([f"  - {ask}" for ask in self.missing_inputs] + [f"  {note}" for note in self.notes])
        text = yaml.safe_dump({"change": self.change}, sort_keys=False, width=1000, allow_unicode=True)
        return "\n".join(f"    {line}" for line in text.splitlines())


def derive_change(
    verdicts: Iterable[StatementVerdict], live: DatabaseStats | None = None, answers: UserAnswers | None = None
) -> DerivedChange:
    """The `change` section for a migration with breaking statements."""
    verdicts = tuple(verdicts)
    tables = dict.fromkeys(str(ruling.action.table) for ruling in select_breaking(verdicts))
    if "None" in tables:
        place = next(r.statement.location for r in select_breaking(verdicts) if r.action.table is None)
        return DerivedChange(None, (MissingInput(f"{place} changes no table: who still uses it, only you know"),))
    if len(tables) > 1:
        listed = ", ".join(tables)
        return DerivedChange(
            None, (MissingInput(f"it breaks {len(tables)} tables ({listed}): give each a migration and a release"),)
        )
    if not tables:
        return DerivedChange(None, (MissingInput("it breaks nothing: no expand/contract plan is needed"),))
    first = next(select_breaking(verdicts)).action
    assert first.table is not None
    draft = _ChangeBuilder(first.table, live.find_table(first.table) if live else None, answers or UserAnswers())
    if live is not None and first.table in live.missing_tables:
        return DerivedChange(
            None, (MissingInput(f"{first.table} is not in {live.database}: check the DSN and the table's schema"),)
        )
    if draft.live is not None and (why := why_unsupported(draft.live)):
        return DerivedChange(None, (MissingInput(why),))
    if first.kind in (ActionKind.RENAME_TABLE, ActionKind.SET_SCHEMA):
        return _derive_table_change(verdicts, first, draft.live)
    return draft.build(verdicts)


def why_unsupported(table: LiveTableStats) -> str:
    """Why zdd cannot change a table; empty where it can."""
    if not table.is_ordinary:
        return f"{table.table} is partitioned or inherits: zdd changes ordinary tables only, so far"
    return "" if table.key else f"{table.table} has no primary key, by which zdd finds rows: add one first"


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
    """Takes a migration's actions one by one."""

    def __init__(self, table: TableName, live: LiveTableStats | None, answers: UserAnswers) -> None:
        self.table, self.live, self.answers = table, live, answers
        self.new: dict[str, str] = {}
        self.up: dict[str, str] = {}
        self.down: dict[str, str] = {}
        self.source_columns: dict[str, str] = {}  # new column: the old one that it replaces
        self.extra: list[str] = []
        self.missing_inputs: list[MissingInput] = []
        self.notes: list[str] = []
        self.indexes: list[str] = []
        self.dropped: list[str] = []
        self.replacing = False  # columns go: those that come may be what they go into

    def build(self, verdicts: tuple[StatementVerdict, ...]) -> DerivedChange:
        self.replacing = any(r.action.kind is ActionKind.DROP_COLUMN and r.action.table == self.table for r in verdicts)
        for ruling in verdicts:
            self._apply_verdict(ruling)
        for column, expression in self.answers.up.items():
            if column in self.new:
                self.up[column] = expression
            else:
                known = ", ".join(self.new) or "none"
                self.missing_inputs.append(
                    MissingInput(f"--up names {column}, and the migration makes no such column (it makes: {known})")
                )
        self.down |= self.answers.down
        for old in self.dropped:
            text = f"which expression over new columns keeps {self.table}.{old} for the way back"
            self.missing_inputs.append(MissingInput(text, "--down", old))
        if self.dropped:
            self.notes.append(f"where its data is needed nowhere, no plan is needed either: {_RUN_AFTER_RELEASE}")
        for column in self.new:
            if column not in self.up:
                self._require_up_expression(column)
        if not self.down and not self.missing_inputs:
            text = "no old column is replaced: give the new one a constant DEFAULT, and it breaks nothing"
            self.missing_inputs.append(MissingInput(text))
        if self.missing_inputs:
            return DerivedChange(None, tuple(dict.fromkeys(self.missing_inputs)), tuple(self.notes))
        self._recreate_indexes()
        return DerivedChange(self._build_change_section(), notes=tuple(dict.fromkeys(self.notes)))

    def _apply_verdict(self, verdict: StatementVerdict) -> None:
        action, place = verdict.action, verdict.statement.location
        if action.table != self.table:
            if action.kind not in (ActionKind.HARMLESS,):
                self.notes.append(f"{place} is not in the plan: run it before the release")
            return
        if action.kind in _HANDLERS and (verdict.rule.breaking_reason or action.kind is ActionKind.ADD_COLUMN):
            if self.live and action.column in self.live.key and action.kind is not ActionKind.ADD_COLUMN:
                key = f"{self.table}.{action.column} is the key, by which zdd finds rows"
                self.missing_inputs.append(
                    MissingInput(f"{key}: it needs a new table, and a plan by hand (change.into)")
                )
                return
            _HANDLERS[action.kind](self, verdict)
        elif verdict.rule.breaking_reason:
            self.missing_inputs.append(MissingInput(f"{place}: {_RUN_AFTER_RELEASE}"))
        elif action.kind in (ActionKind.CREATE_INDEX, ActionKind.CREATE_INDEX_CONCURRENTLY):
            self.indexes.append(_make_concurrent(verdict.statement.text))
        elif action.kind is not ActionKind.HARMLESS:
            self.notes.append(f"{place} is not in the plan: run it after the release")

    def _column_type(self, column: str) -> str:
        known = self.answers.types.get(column) or (self.live.columns.get(column, "") if self.live else "")
        if not known:
            if self.live is not None:
                self.missing_inputs.append(
                    MissingInput(f"{self.table} has no column {column}; it has {', '.join(self.live.columns)}")
                )
            else:
                self.missing_inputs.append(
                    MissingInput(f"the type of {self.table}.{column} (--dsn looks it up)", "--type", column)
                )
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
        if action.column in self.source_columns:  # it was renamed a line above
            new, old = action.column, self.source_columns[action.column]
        else:
            new, old = self._unused_name(action.column), action.column
            self.source_columns[new] = old
            self.notes.append(f"the new column is called {new}: two columns cannot share the name {old}")
        before = self._column_type(old)
        self.new[new] = action.type
        before_rename = _rename_in_expression(action.using or name_sql(action.column), {action.column: old})
        self.up[new] = _cast(before_rename, action.type)
        self.down[old] = _cast(name_sql(new), before)
        self.notes.append(
            f"rows of {old} that do not cast to {action.type} stop the backfill's gate; the way back needs"
            f" every value of {new} to cast to {before or 'the old type'}"
        )

    def _set_not_null(self, verdict: StatementVerdict) -> None:
        old = verdict.action.column
        if old in self.new:
            self.notes.append(f"{old} NOT NULL: after the release, through a validated CHECK")
            return
        new = self._unused_name(old)
        if new not in self.answers.up:
            self.missing_inputs.append(MissingInput(f"what stands in {self.table}.{old} in place of NULL", "--up", new))
            self.notes.append(
                f"where no row and no code has NULL in {old} any more, no plan is needed: {verdict.rule.hint}"
            )
            return
        self.new[new], self.down[old], self.source_columns[new] = self._column_type(old), name_sql(new), old
        self.notes.append(f"after the release: a CHECK ({new} IS NOT NULL) NOT VALID, VALIDATE, then SET NOT NULL")

    def _drop_column(self, verdict: StatementVerdict) -> None:
        old = verdict.action.column
        if old not in self.answers.down:
            self.dropped.append(old)

    def _add_column(self, verdict: StatementVerdict) -> None:
        action = verdict.action
        plain = action.kind is ActionKind.ADD_COLUMN and not self.replacing
        if plain and action.column not in self.answers.up:
            self.extra.append(action.definition)
        else:
            self.new[action.column] = action.type

    def _require_up_expression(self, column: str) -> None:
        self.missing_inputs.append(
            MissingInput(f"what {self.table}.{column} holds for rows that exist", "--up", column)
        )

    def _recreate_indexes(self) -> None:
        if self.live is None:
            self.notes.append("without --dsn: indexes on the old columns are not known; the new ones may need some")
            return
        renamed = {old: new for new, old in self.source_columns.items()}
        merged = {old: old for old in self.down if old not in renamed}
        for definition in self.live.indexes:
            if retarget_index(definition, merged):
                self.notes.append(f"no heir on the new columns (CREATE INDEX in the migration makes one): {definition}")
            elif carried := retarget_index(definition, renamed):
                self.indexes.append(carried)
        for new, old in self.source_columns.items():
            lost = [
                word
                for word, there in (("NOT NULL", self.live.not_null), ("DEFAULT", self.live.defaults))
                if old in there
            ]
            if lost:
                self.notes.append(f"{old} is {' and '.join(lost)}: give {new} the same after the release")
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


# --- indexes -------------------------------------------------------------------------------------------------


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
    """A name with its ending, at most as long as PostgreSQL keeps."""
    return name.encode()[: MAX_IDENTIFIER_BYTES - len(suffix.encode())].decode(errors="ignore") + suffix


# --- A table that is renamed, or moved to another schema: a new table beside it, with the same columns.


def _derive_table_change(
    verdicts: tuple[StatementVerdict, ...], rename: StatementAction, live: LiveTableStats | None
) -> DerivedChange:
    """The `change` section for a rename of a table; needs the live table, for its columns."""
    old = rename.table
    assert old is not None
    if live is None:
        return DerivedChange(None, (MissingInput(f"the columns of {old}", "--dsn"),))
    if others := [ruling for ruling in select_breaking(verdicts) if ruling.action is not rename]:
        return DerivedChange(
            None,
            (
                MissingInput(
                    f"{others[0].statement.location} breaks {old} in another way too: give each a migration and a release"
                ),
            ),
        )
    if live.generated:
        return DerivedChange(
            None, (MissingInput(f"{old} has the generated column {min(live.generated)}: write the plan by hand"),)
        )
    moved = rename.kind is ActionKind.SET_SCHEMA
    new = TableName(schema_=rename.name if moved else old.schema_, name=old.name if moved else rename.name)
    same = {name: name_sql(name) for name in live.columns if name not in live.key}
    if not same:
        return DerivedChange(None, (MissingInput(f"{old} has no column beside its key: write the plan by hand"),))
    indexes = [carried for definition in live.indexes if (carried := _move_index(definition, new))]
    section: dict[str, Any] = {
        "table": _table_sql(old),
        "into": _table_sql(new),
        "expand": _create_table_sql(new, live),
    }
    if indexes:
        section["indexes"] = indexes
    notes = [
        f"{new} gets columns, defaults, key and indexes of {old}; CHECKs, foreign keys and grants are yours to add"
    ]
    notes += [f"foreign keys of {table} point at {old}: move them before the contract" for table in live.referenced_by]
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

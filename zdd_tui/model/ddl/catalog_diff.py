"""The new side compared with the old side as a whole: what it carries, what does no harm, what would be lost.

The old side is the columns that the release drops, or the whole old table. For each object and property of it the new
side must have the same one, with the names of the columns replaced through `change.up`. What cannot be compared counts
as lost.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import TypedDict

from zdd_tui.model.ddl.canonical import (
    Renaming,
    TablePair,
    constraint_form,
    expression_form,
    object_form,
    renamed_constraint,
    renamed_index,
    renamed_statement,
    statistics_form,
)
from zdd_tui.model.ddl.lint import check_expression
from zdd_tui.model.ddl.names import old_column_name
from zdd_tui.model.ddl.sequences import SequenceMove
from zdd_tui.model.ddl.table_objects import (
    CatalogObject,
    Grant,
    ObjectKind,
    SequenceObject,
    TableColumn,
    TableObjects,
)
from zdd_tui.model.ddl.tries import LOSSY_ROLLBACK
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import (
    MAX_IDENTIFIER_BYTES,
    SqlSyntaxError,
    name_sql,
    parse_expression,
    parse_sql,
    quote_literal,
    split_statements,
)


class SideVerdict(StrEnum):
    """What becomes of an object of the old side."""

    CARRIED = "carried"
    HARMLESS = "harmless"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class CarryStatement:
    """A statement that would carry a lost object over.

    Attributes:
        section: the key under `change` that it belongs to: expand, indexes or constrain.
    """

    section: str
    sql: str


@dataclass(frozen=True, slots=True)
class SideDifference:
    """One object or property of the old side, and what the new side has of it.

    Attributes:
        what: its name, as in the plan's `accept:`, such as ``foreign-key accounts_owner_fkey``.
        statements: what would carry it over; empty where only a person knows.
        advice: what to do where there is no statement.
        is_attached: the old side cannot be dropped while it exists, so at the end it is not enough to accept the loss.
    """

    what: str
    verdict: SideVerdict
    reason: str
    statements: tuple[CarryStatement, ...] = ()
    advice: str = ""
    is_attached: bool = False
    old: str = ""
    new: str = ""

    @property
    def kind(self) -> str:
        return self.what.partition(" ")[0]

    def to_json(self) -> dict[str, object]:
        return {
            "what": self.what,
            "verdict": str(self.verdict),
            "reason": self.reason,
            "old": self.old,
            "new": self.new,
            "statements": [{"section": each.section, "sql": each.sql} for each in self.statements],
        }


ACCEPTED_KINDS = frozenset(
    {
        *(str(kind) for kind in ObjectKind),
        *("column", "type", "collation", "not-null", "default", "identity", "generated", "sequence", "sequence-type"),
        *(
            "domain",
            "storage",
            "comment",
            "grant",
            "grant-added",
            "owner",
            "row-security",
            "force-row-security",
            "replica-identity",
            "settings",
        ),
        "subscribers",
    }
)
"""First words of the names of differences, which `accept:` may name."""
OTHER_ACCEPTED_KINDS = frozenset({LOSSY_ROLLBACK.strip(), "container", "init"})
"""First words of what other checks name."""


def compare_sides(
    plan: Plan, old: TableObjects, new: TableObjects, *, key: Iterable[str], archived: bool = False
) -> tuple[SideDifference, ...]:
    """Compares everything that belongs to the old side with the new side.

    Args:
        old: the old table; in the column kind the table with both.
        new: the new table; in the column kind the same table, or a copy of it with the new columns.
        key: columns of the key, which both sides have under one name.
        archived: the old side is archived, so its columns have other names.
    """
    return _Comparison(plan, old, new, tuple(key), archived).run()


def find_sequence_moves(
    plan: Plan, old: TableObjects, new: TableObjects, *, key: Iterable[str], archived: bool = False
) -> tuple[SequenceMove, ...]:
    """The sequences of the new side that follow those of the old side; none where both sides share one."""
    comparison = _Comparison(plan, old, new, tuple(key), archived)
    moves: dict[TablePair, SequenceMove] = {}
    for column in comparison.affected:
        for successor in comparison.successors[column.name].columns:
            if successor.sequence is None or successor.sequence == column.sequence:
                continue
            is_key = comparison.is_table and column.name in comparison.key and column.type in _INTEGERS
            columns = ((*new.pair, successor.name), (*old.pair, column.name)) if is_key else ()
            if columns or column.sequence is not None:
                moves[successor.sequence] = SequenceMove(successor.sequence, column.sequence, columns)
    return tuple(moves.values())


def lost_differences(
    plan: Plan, differences: Iterable[SideDifference], *, at_end: bool = False
) -> tuple[SideDifference, ...]:
    """The losses that the plan does not accept.

    Args:
        at_end: the old side is about to go: what keeps it from being dropped must be gone, accepted or not.
    """
    return tuple(
        each
        for each in differences
        if each.verdict is SideVerdict.LOST
        and (each.what not in plan.accepted_reasons or (at_end and each.is_attached))
    )


def unused_accepts(plan: Plan, differences: Iterable[SideDifference]) -> tuple[str, ...]:
    """What is wrong with each entry of `accept:` that names no loss; entries for other checks are left out.

    An entry that looks like a loss that is not accepted was meant for it.
    """
    lost = {each.what for each in differences if each.verdict is SideVerdict.LOST}
    open_losses = sorted(lost - plan.accepted_reasons.keys())
    found = []
    for loss in plan.accept:
        kind = loss.what.partition(" ")[0]
        if loss.what in lost or kind in OTHER_ACCEPTED_KINDS:
            continue
        if meant := get_close_matches(loss.what, open_losses, 1):
            found.append(f"accept: {loss.what} matches nothing; did you mean {meant[0]}?")
        elif kind in ACCEPTED_KINDS:
            found.append(f"accept: {loss.what} is not lost; remove it")
        else:
            close = get_close_matches(kind, sorted(ACCEPTED_KINDS | OTHER_ACCEPTED_KINDS), 1)
            did_you_mean = f"; did you mean {close[0]}{loss.what.removeprefix(kind)}?" if close else ""
            found.append(f"accept: {loss.what} matches nothing: no check names a loss {kind} …{did_you_mean}")
    return tuple(found)


def format_losses(lost: Iterable[SideDifference], *, is_running: bool = False) -> str:
    """For a hint: the lines that carry the losses over, or accept them.

    Args:
        is_running: the release has started, so its plan cannot change: the statements are for a person.
    """
    lost = tuple(lost)
    if is_running:
        lines = ["give the new side what it lacks by hand"]
        lines += [f"    {each.sql};" for difference in lost for each in difference.statements]
        lines += [f"    {each.what}: {each.advice}" for each in lost if each.advice]
        return "\n".join(lines)
    lines = ["carry over what is lost, or accept it in the plan"]
    for section in ("expand", "indexes", "constrain"):
        statements = dict.fromkeys(
            each.sql for difference in lost for each in difference.statements if each.section == section
        )
        if statements:
            lines.append(f"    add to change.{section}:")
            mark = "" if section == "expand" else "- "
            lines += [f"      {mark}{sql}{';' if section == 'expand' else ''}" for sql in statements]
    lines += [f"    {each.what}: {each.advice}" for each in lost if each.advice]
    lines.append("    or accept the loss, with a reason:")
    lines.append("      accept:")
    for each in lost:
        lines += [f"        - what: {_yaml_text(each.what)}", "          reason: …"]
    return "\n".join(lines)


def _yaml_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if re.search(r"[:#'\"]|^[^A-Za-z]", text) else text


class _Texts(TypedDict):
    """What both sides have, for the document of `zdd check --json`."""

    old: str
    new: str


class _Source(StrEnum):
    """How the value of a new column comes from an old one, the best first."""

    SAME = "same"
    CAST = "cast"
    COMPUTED = "computed"
    MERGED = "merged"


@dataclass(frozen=True, slots=True)
class _Successors:
    """The new columns that take the place of an old one."""

    columns: tuple[TableColumn, ...] = ()
    source: _Source = _Source.SAME

    @property
    def only(self) -> TableColumn | None:
        return self.columns[0] if len(self.columns) == 1 else None


_DESCRIBED: Mapping[ObjectKind, Callable[[str, Renaming], str | None]] = {
    **dict.fromkeys(
        (
            ObjectKind.CHECK,
            ObjectKind.UNIQUE,
            ObjectKind.PRIMARY_KEY,
            ObjectKind.EXCLUSION,
            ObjectKind.FOREIGN_KEY,
            ObjectKind.REFERENCING_KEY,
        ),
        constraint_form,
    ),
    ObjectKind.INDEX: object_form,
    ObjectKind.POLICY: object_form,
    ObjectKind.TRIGGER: object_form,
    ObjectKind.STATISTICS: statistics_form,
}
_WHOLE_ROW_ADVICE = (
    "write one that works without the old side, before contract, or make sure that it does already; accept it here to"
    " start"
)
_GOES_WITH_COLUMN = (ObjectKind.INDEX, ObjectKind.STATISTICS)
_ADVICE = {
    ObjectKind.VIEW: "cleanup cannot drop the old side while it exists: replace it by one on the new side before"
    " contract, and accept it here to start",
    ObjectKind.MATERIALIZED_VIEW: "cleanup cannot drop the old side while it exists: create one on the new side, drop"
    " this one before contract, and accept it here to start",
    ObjectKind.FUNCTION: "change its body to the new side before contract, and accept it here to start",
    ObjectKind.DEPENDENT: "drop it, or create one on the new side, before contract, and accept it here to start",
    ObjectKind.RULE: "drop it, or create one on the new side, before contract, and accept it here to start",
    ObjectKind.TRIGGER: "create one on the new side, or change its function, before contract: a function that names"
    " NEW.x or OLD.x of an old column fails every write after it; accept it here to start",
    ObjectKind.PUBLICATION: "publish the new side (ALTER PUBLICATION), and tell its subscribers first",
    ObjectKind.EXCLUSION: "PostgreSQL builds it only under a lock: create it after the release, and accept its loss",
}


class _Comparison:
    def __init__(self, plan: Plan, old: TableObjects, new: TableObjects, key: tuple[str, ...], archived: bool) -> None:
        self.plan, self.old, self.new, self.key = plan, old, new, key
        self.is_table = plan.change.kind == "table"
        target = plan.change.target_table
        self.target: TablePair = (target.schema_, target.name)
        self.target_sql = name_sql(*self.target)
        # Names of old columns as the plan has them, by the names that they have now.
        self.plan_names = {
            old_column_name(plan, column, archived): column for column in plan.change.down if not self.is_table
        }
        self.affected = tuple(column for column in old.columns if self.is_table or column.name in self.plan_names)
        self.affected_names = {column.name for column in self.affected}
        self.readers = self._find_readers()
        self.successors = {column.name: self._find_successors(column) for column in self.affected}
        mapped = {name: found.only.name for name, found in self.successors.items() if found.only is not None}
        own = frozenset({old.pair, ("", old.name), ("", plan.change.table.name)})
        self.old_names = Renaming(mapped, own, dict.fromkeys(own, self.target))
        copies = frozenset({new.pair, ("", new.name)})
        self.new_names = Renaming({}, copies, {**dict.fromkeys(copies, self.target), **new.aliases})
        self.found: list[SideDifference] = []
        self.named: set[tuple[str, SideVerdict]] = set()

    def run(self) -> tuple[SideDifference, ...]:
        for column in self.affected:
            self._compare_column(column)
        for each in self.old.objects:
            if self.is_table or each.is_whole_row or set(each.columns) & self.affected_names:
                self._compare_object(each)
        self._compare_owned_sequences()
        self._compare_grants()
        self._compare_replica_identity()
        if self.is_table:
            self._compare_table()
            self._compare_added_grants()
        order = list(SideVerdict)
        return tuple(sorted(self.found, key=lambda each: -order.index(each.verdict)))

    def _name(self, column: str) -> str:
        return self.plan_names.get(column, column)

    def _add(
        self,
        what: str,
        verdict: SideVerdict,
        reason: str,
        *statements: CarryStatement,
        advice: str = "",
        is_attached: bool = False,
        old: str = "",
        new: str = "",
    ) -> None:
        what = " ".join(what.split())
        if (what, verdict) not in self.named:
            self.named.add((what, verdict))
            self.found.append(SideDifference(what, verdict, reason, statements, advice, is_attached, old, new))

    # --- columns

    def _find_readers(self) -> dict[str, list[tuple[_Source, TableColumn]]]:
        """The new columns that are computed from each old one. Each expression is parsed once: a table may have
        a thousand columns."""
        new_columns = {column.name: column for column in self.new.columns}
        found: dict[str, list[tuple[_Source, TableColumn]]] = {}
        for new, expression in self.plan.change.up.items():
            reads = check_expression(f"change.up.{new}", expression, self.plan.change.table.name)
            if (target := new_columns.get(new)) is not None:
                source = _classify_source(expression, len(reads))
                for name in reads:
                    found.setdefault(name, []).append((source, target))
        return found

    def _find_successors(self, column: TableColumn) -> _Successors:
        name = self._name(column.name)
        if self.is_table and name in self.key and (same := self.new.column(name)) is not None:
            return _Successors((same,))
        found: dict[_Source, list[TableColumn]] = {}
        for source, target in self.readers.get(name, ()):
            found.setdefault(source, []).append(target)
        for source in _Source:
            if columns := found.get(source):
                chosen = columns[:1] if source in (_Source.SAME, _Source.CAST) else columns
                return _Successors(tuple(chosen), source)
        if column.generated:
            return self._find_generated_successor(column)
        return _Successors()

    def _find_generated_successor(self, column: TableColumn) -> _Successors:
        same = self.new.column(self._name(column.name))
        return _Successors((same,)) if self.is_table and same is not None and same.generated else _Successors()

    def _compare_column(self, old: TableColumn) -> None:
        name, successors = self._name(old.name), self.successors[old.name]
        if not successors.columns:
            self._add(
                f"column {name}",
                SideVerdict.LOST,
                "no new column takes its values",
                advice="add a new column and change.up for it, or accept that its data goes with the old side",
            )
            return
        for new in successors.columns:
            self._compare_type(name, old, new, successors.source)
            self._compare_collation(name, old, new)
            self._compare_not_null(name, old, new)
            self._compare_storage(name, old, new, successors.source)
            self._compare_comment(name, old, new, successors.source)
        self._compare_default(name, old, successors)
        if old.generated:
            self._compare_generated(name, old, successors)

    def _compare_type(self, name: str, old: TableColumn, new: TableColumn, source: _Source) -> None:
        texts: _Texts = {"old": old.type, "new": new.type}
        if old.domain and old.domain != new.domain:
            self._add(
                f"domain {name}",
                SideVerdict.HARMLESS,
                f"{new.name} is no {old.domain}: its rules are compared one by one; no later ALTER DOMAIN reaches it",
                old=old.domain,
                new=new.domain or new.type,
            )
        if old.type == new.type:
            return
        if source is _Source.SAME and not holds_every_value(old.type, new.type):
            self._add(
                f"type {name}",
                SideVerdict.LOST,
                f"{new.name} is {new.type}, which does not hold every value of {old.type}",
                advice=f"make {new.name} {old.type}, or convert it in change.up.{new.name} with a CAST",
                **texts,
            )
        else:
            why = "holds every value" if source is _Source.SAME else "change.up converts it"
            self._add(
                f"type {name}", SideVerdict.HARMLESS, f"{old.type} becomes {new.type} in {new.name}: {why}", **texts
            )

    def _compare_collation(self, name: str, old: TableColumn, new: TableColumn) -> None:
        texts: _Texts = {"old": old.collation, "new": new.collation}
        if not old.collation or old.collation == new.collation:
            if old.collation and not old.collation.endswith(".default") and not old.collation.endswith('."default"'):
                self._add(f"collation {name}", SideVerdict.CARRIED, f"{new.name} has {new.collation}", **texts)
            return
        if not new.collation:
            self._add(f"collation {name}", SideVerdict.HARMLESS, f"{new.type} has no collation", **texts)
            return
        self._add(
            f"collation {name}",
            SideVerdict.LOST,
            f"{new.name} has {new.collation}, and equality and order are those of {old.collation}",
            CarryStatement(
                "expand",
                f"ALTER TABLE {self.target_sql} ADD COLUMN {name_sql(new.name)} {new.type} COLLATE {old.collation}",
            ),
            advice="in place of the statement that makes the column now",
            **texts,
        )

    def _compare_not_null(self, name: str, old: TableColumn, new: TableColumn) -> None:
        if not old.not_null:
            return
        if new.not_null:
            self._compare_not_null_constraint(name, old, new)
            return
        statement = f"ALTER TABLE {self.target_sql} ALTER COLUMN {name_sql(new.name)} SET NOT NULL"
        self._add(
            f"not-null {name}", SideVerdict.LOST, f"{new.name} may be NULL", CarryStatement("constrain", statement)
        )

    def _compare_not_null_constraint(self, name: str, old: TableColumn, new: TableColumn) -> None:
        """Its name and its comment, which a constraint has from PostgreSQL 18 on."""
        texts: _Texts = {"old": old.not_null_name, "new": new.not_null_name}
        is_chosen = old.not_null_name and not _CHOSEN_BY_SERVER.search(old.not_null_name)
        if is_chosen and old.not_null_name != new.not_null_name:
            why = f"{new.name} is NOT NULL; its constraint is {new.not_null_name or 'that of its type'}, which only"
            why += f" statements that name {old.not_null_name} would notice"
            self._add(f"not-null {name}", SideVerdict.HARMLESS, why, **texts)
        else:
            self._add(f"not-null {name}", SideVerdict.CARRIED, f"{new.name} is NOT NULL")
        if not old.not_null_comment:
            return
        what = f"comment of not-null {name}"
        if old.not_null_comment == new.not_null_comment:
            self._add(what, SideVerdict.CARRIED, f"the constraint of {new.name} has it")
            return
        constraint = f"{name_sql(new.not_null_name)} ON {self.target_sql}"
        statement = f"COMMENT ON CONSTRAINT {constraint} IS {quote_literal(old.not_null_comment).strip()}"
        self._add(
            what,
            SideVerdict.LOST,
            f"the constraint of {new.name} lacks it ({old.not_null_comment})",
            advice=_by_hand(statement)
            if new.not_null_name
            else "no constraint of the new table can have it: accept it",
            old=old.not_null_comment,
            new=new.not_null_comment,
        )

    def _compare_storage(self, name: str, old: TableColumn, new: TableColumn, source: _Source) -> None:
        missing = [setting for setting in old.storage if setting not in new.storage]
        if not old.storage:
            return
        texts: _Texts = {"old": ", ".join(old.storage), "new": ", ".join(new.storage)}
        if not missing:
            self._add(f"storage {name}", SideVerdict.CARRIED, f"{new.name} has it", **texts)
        elif source is not _Source.SAME:
            self._add(f"storage {name}", SideVerdict.HARMLESS, f"{new.name} holds other values", **texts)
        else:
            alter = f"ALTER TABLE {self.target_sql} ALTER COLUMN {name_sql(new.name)} SET"
            self._add(
                f"storage {name}",
                SideVerdict.LOST,
                f"{new.name} lacks {', '.join(missing)}",
                *(CarryStatement("expand", f"{alter} {setting}") for setting in missing),
                **texts,
            )

    def _compare_comment(self, name: str, old: TableColumn, new: TableColumn, source: _Source) -> None:
        if not old.comment:
            return
        if old.comment == new.comment:
            self._add(f"comment {name}", SideVerdict.CARRIED, f"{new.name} has it")
        elif source is not _Source.SAME:
            self._add(f"comment {name}", SideVerdict.HARMLESS, f"it describes other values than {new.name} holds")
        else:
            column = f"{self.target_sql}.{name_sql(new.name)}"
            statement = f"COMMENT ON COLUMN {column} IS {quote_literal(old.comment).strip()}"
            self._add(
                f"comment {name}",
                SideVerdict.LOST,
                f"{new.name} has {'another' if new.comment else 'none'}",
                *_plain_statement("expand", statement),
                advice=_by_hand(statement),
                old=old.comment,
                new=new.comment,
            )

    def _compare_default(self, name: str, old: TableColumn, successors: _Successors) -> None:
        if old.sequence is not None or old.identity:
            self._compare_sequence(name, old, successors)
            return
        if not old.default:
            return
        for new in successors.columns:
            with_casts = old.type != new.type
            expected = expression_form(old.default, self.old_names, without_casts=with_casts)
            actual = expression_form(new.default, self.new_names, without_casts=with_casts) if new.default else ""
            if expected is not None and expected == actual:
                self._add(f"default {name}", SideVerdict.CARRIED, f"{new.name} has it", old=old.default)
                return
        new = successors.columns[0]
        alter = f"ALTER TABLE {self.target_sql} ALTER COLUMN {name_sql(new.name)} SET DEFAULT {old.default}"
        statements = (CarryStatement("constrain", alter),) if successors.source is _Source.SAME else ()
        self._add(
            f"default {name}",
            SideVerdict.LOST,
            f"{new.name} has {'another one' if new.default else 'none'}",
            *statements,
            advice="" if statements else f"a row that does not name {new.name} gets none",
            old=old.default,
            new=new.default,
        )

    def _compare_generated(self, name: str, old: TableColumn, successors: _Successors) -> None:
        new = successors.columns[0]
        expected, actual = expression_form(old.generated, self.old_names), ""
        if new.generated:
            actual = expression_form(new.generated, self.new_names) or ""
        if expected and expected == actual:
            self._add(f"generated {name}", SideVerdict.CARRIED, f"{new.name} is generated alike", old=old.generated)
        else:
            self._add(
                f"generated {name}",
                SideVerdict.LOST,
                f"{new.name} is {'generated from another expression' if new.generated else 'not generated'}",
                advice="write it as a generated column of the new table",
                old=old.generated,
                new=new.generated,
            )

    # --- sequences

    def _compare_sequence(self, name: str, old: TableColumn, successors: _Successors) -> None:
        what = f"{'identity' if old.identity else 'default'} {name}"
        new, before = successors.columns[0], self.old.sequence(old.sequence)
        after = self.new.sequence(new.sequence)
        alter = f"ALTER TABLE {self.target_sql} ALTER COLUMN {name_sql(new.name)}"
        if after is None:
            default = (
                f"{alter} SET DEFAULT nextval({quote_literal(name_sql(*old.sequence))}::regclass)"
                if old.sequence
                else ""
            )
            section = "expand" if self.is_table else "constrain"
            is_identity = bool(old.identity) and not self.is_table
            options = _sequence_options(before) if before is not None else ""
            statement = (
                f"{alter} ADD GENERATED {_IDENTITY[old.identity]} AS IDENTITY{options}" if is_identity else default
            )
            self._add(what, SideVerdict.LOST, f"{new.name} gets no value automatically", *_optional(section, statement))
        elif old.identity == "a" and new.identity != "a":
            self._add(
                what,
                SideVerdict.LOST,
                f"a writer may give {new.name} any value, which GENERATED ALWAYS refuses",
                advice="write it as GENERATED ALWAYS AS IDENTITY, or accept it",
            )
        elif before is not None and before.increment != after.increment and before.pair != after.pair:
            self._add(
                what,
                SideVerdict.LOST,
                f"the sequence of {new.name} counts by {after.increment}, not {before.increment}",
                advice="create the sequence with the same INCREMENT",
            )
        elif before is not None and before.pair != after.pair and _limits(before) != _limits(after):
            self._add(
                what,
                SideVerdict.LOST,
                f"the sequence of {new.name} has {_limits(after) or 'the default limits'}, not"
                f" {_limits(before) or 'the default ones'}",
                advice=f"write it with the options of {before.name}:{_sequence_options(before) or ' none'}",
                old=_limits(before),
                new=_limits(after),
            )
        else:
            self._add(what, SideVerdict.CARRIED, f"{new.name} counts on from {after.schema}.{after.name}")
        if after is not None:
            self._compare_sequence_range(name, new, after)
            self._compare_sequence_owner(before, after, new)
            self._compare_sequence_grants(before, after)

    def _compare_owned_sequences(self) -> None:
        """Sequences that belong to an old column, and would be dropped with it."""
        defaults = {column.name: column.sequence for column in self.old.columns}
        for sequence in self.old.sequences:
            owner = sequence.owner_column
            if owner not in self.affected_names or sequence.is_identity:
                continue
            if defaults.get(owner) == sequence.pair and not sequence.users:
                continue  # it goes with the default, which is compared
            what, after = f"sequence {sequence.name}", self.new.sequence(sequence.pair)
            if after is not None and self.is_table:
                self._add(what, SideVerdict.CARRIED, "cleanup hands it over to the new table")
            elif after is not None and after.owner_column not in self.affected_names:
                self._add(what, SideVerdict.CARRIED, f"it belongs to {after.owner_column or 'no column'}")
            else:
                self._add_owned_sequence(what, sequence)

    def _add_owned_sequence(self, what: str, sequence: SequenceObject) -> None:
        name, successors = name_sql(*sequence.pair), self.successors[sequence.owner_column].columns
        is_near = sequence.schema == self.target[0]  # a sequence and its owner are in one schema
        statement = (
            f"ALTER SEQUENCE {name} OWNED BY {self.target_sql}.{name_sql(successors[0].name)}"
            if successors and is_near
            else ""
        )
        used = f", and {', '.join(sequence.users)} uses it" if sequence.users else ""
        self._add(
            what,
            SideVerdict.LOST,
            f"it belongs to {self._name(sequence.owner_column)}, and would be dropped with it{used}",
            *_optional("constrain", statement),
            advice=""
            if statement
            else f"ALTER SEQUENCE {name} OWNED BY NONE, before contract; accept it here to start",
            is_attached=bool(sequence.users),
        )

    def _compare_sequence_range(self, name: str, new: TableColumn, after: SequenceObject) -> None:
        if holds_every_value(new.type, after.type) or not holds_every_value(after.type, new.type):
            return
        self._add(
            f"sequence-type {name}",
            SideVerdict.LOST,
            f"{new.name} is {new.type}, and its sequence {after.schema}.{after.name} ends at that of {after.type}",
            CarryStatement("constrain", f"ALTER SEQUENCE {name_sql(*after.pair)} AS {new.type}"),
            old=after.type,
            new=new.type,
        )

    def _compare_sequence_owner(self, before: SequenceObject | None, after: SequenceObject, new: TableColumn) -> None:
        """In the column kind the old column takes its sequence along. In the table kind cleanup hands it over."""
        if self.is_table or before is None or before.pair != after.pair:
            return
        if after.owner_column in self.affected_names:
            statement = f"ALTER SEQUENCE {name_sql(*after.pair)} OWNED BY {self.target_sql}.{name_sql(new.name)}"
            self._add(
                f"sequence {after.name}",
                SideVerdict.LOST,
                "it belongs to the old column, and would be dropped with it",
                CarryStatement("constrain", statement),
            )
        elif after.owner_column == new.name:
            self._add(f"sequence {after.name}", SideVerdict.CARRIED, f"it belongs to {new.name}")

    def _compare_sequence_grants(self, before: SequenceObject | None, after: SequenceObject) -> None:
        if before is None or after.is_identity:
            return  # an identity column needs no right on its sequence, and a default does
        wanted = {(role, privilege) for role, privilege in before.grants if before.pair != after.pair}
        if before.is_identity:
            writers = (grant.role for grant in self.old.grants if grant.privilege == "INSERT")
            wanted |= {("PUBLIC" if role == "public" else name_sql(role), "USAGE") for role in writers}
        for role, privilege in sorted(wanted):
            what = f"grant {privilege} on sequence {before.name} to {role}"
            if (role, privilege) in after.grants or ("PUBLIC", privilege) in after.grants:
                self._add(what, SideVerdict.CARRIED, f"{after.name} has it")
            else:
                statement = f"GRANT {privilege} ON SEQUENCE {name_sql(*after.pair)} TO {role}"
                self._add(what, SideVerdict.LOST, f"{after.name} lacks it", CarryStatement("expand", statement))

    # --- objects with a definition

    def _compare_object(self, old: CatalogObject) -> None:
        what = f"{old.kind} {old.name}"
        match old.kind:
            case ObjectKind.PUBLICATION:
                self._compare_publication(what, old)
            case ObjectKind.SECURITY_LABEL | ObjectKind.INHERITANCE:
                self._compare_label(what, old)
            case kind if kind in _DESCRIBED:
                self._compare_described(what, old)
            case ObjectKind.DEPENDENT if self.is_table and old.name.startswith("generated column "):
                pass  # a generated column of the old table itself: compared as a column
            case _:
                self._add_dependent(what, old)

    def _add_dependent(self, what: str, old: CatalogObject) -> None:
        used = [self._name(name) for name in old.columns if self.is_table or name in self.affected_names]
        listed = ", ".join(used) if used and not self.is_table else str(self.plan.change.table)
        # A function whose body is text keeps nothing from being dropped; it fails when it is called.
        is_attached = old.is_attached and (self.is_table or (bool(used) and not old.is_by_name))
        if not used and not self.is_table:
            reason = f"it uses the whole row, {self._row_change()}"
        elif is_attached or (old.kind is ObjectKind.RULE and used):
            reason = f"it uses {listed}"
        else:
            reason = f"its body names {listed}"
        if old.users:
            reason += f"; {', '.join(old.users)} {'depends' if len(old.users) == 1 else 'depend'} on it"
        self._add(what, SideVerdict.LOST, reason, advice=_ADVICE[old.kind], is_attached=is_attached, old=old.definition)

    def _row_change(self) -> str:
        return f"which has {', '.join(self.plan.change.up)} and no {', '.join(self.plan.change.down)} at the end"

    def _compare_described(self, what: str, old: CatalogObject) -> None:
        form = _DESCRIBED[old.kind]
        if old.kind is ObjectKind.INDEX and not old.is_valid:
            self._add(what, SideVerdict.HARMLESS, "it is not valid, so no query uses it", old=old.definition)
            return
        if old.kind is ObjectKind.TRIGGER and not old.is_valid:
            self._add(what, SideVerdict.HARMLESS, "it is disabled", old=old.definition)
            return
        used = [name for name in old.columns if name in self.affected_names]
        missing = [name for name in used if not self.successors[name].columns]
        split = [name for name in used if len(self.successors[name].columns) > 1]
        if missing and len(missing) == len(used) and old.kind in _GOES_WITH_COLUMN:
            names = ", ".join(self._name(name) for name in missing)
            self._add(what, SideVerdict.HARMLESS, f"it goes with column {names}", old=old.definition)
            return
        if old.is_whole_row and not self.is_table:
            self._add(
                what,
                SideVerdict.LOST,
                f"it uses the whole row, {self._row_change()}",
                advice=_WHOLE_ROW_ADVICE,
                old=old.definition,
            )
            return
        expected = form(old.definition, self.old_names)
        kinds = (
            (ObjectKind.FOREIGN_KEY, ObjectKind.REFERENCING_KEY)
            if old.kind in (ObjectKind.FOREIGN_KEY, ObjectKind.REFERENCING_KEY)
            else (old.kind,)
        )
        if not missing and not split and expected is not None:
            match = self._find_match(old, expected, kinds, form)
            if match is not None:
                self._add_match(what, old, match)
                return
        reason = self._why_not_found(missing, split, expected)
        is_plain = not missing and not split and self._is_writable(old) and self._is_plain(used)
        statements = self._statements_for(old) if is_plain else ()
        advice = _WHOLE_ROW_ADVICE if old.is_whole_row else self._advice_for(old)
        self._add(
            what,
            SideVerdict.LOST,
            reason,
            *statements,
            advice="" if statements else advice,
            is_attached=old.is_attached,
            old=old.definition,
        )

    def _advice_for(self, old: CatalogObject) -> str:
        if "DEFERRABLE" in old.definition and old.kind in (ObjectKind.UNIQUE, ObjectKind.PRIMARY_KEY):
            return (
                "PostgreSQL builds a deferrable one only under a lock: create it after the release, and accept its loss"
            )
        if _is_temporal(old):
            return (
                "PostgreSQL builds WITHOUT OVERLAPS only under a lock: create it after the release, and accept its loss"
            )
        if old.is_indivisible:
            return (
                "before PostgreSQL 18 a partitioned table gets a foreign key only under a lock on both tables: add it"
                " after the release, and accept its loss"
            )
        if self._needs_filled_rows(old):
            return (
                "rows that are not filled yet are the same under NULLS NOT DISTINCT: create it after the release, and"
                " accept its loss"
            )
        return _ADVICE.get(old.kind, "write one for the new side by hand, or accept its loss")

    def _is_writable(self, old: CatalogObject) -> bool:
        """Whether a statement that the plan can run makes the same object on the new side."""
        return not (old.is_whole_row or old.is_indivisible or _is_temporal(old) or self._needs_filled_rows(old))

    def _needs_filled_rows(self, old: CatalogObject) -> bool:
        """In the column kind the indexes are built while the new column is NULL in every row."""
        return not self.is_table and "NULLS NOT DISTINCT" in f"{old.definition} {old.index}"

    def _is_plain(self, used: Iterable[str]) -> bool:
        return all(self.successors[name].source in (_Source.SAME, _Source.CAST) for name in used)

    def _why_not_found(self, missing: list[str], split: list[str], expected: str | None) -> str:
        if expected is None:
            return "zdd cannot read its definition, so it is unknown whether the new side has it"
        if missing:
            return f"no new column takes the values of {', '.join(self._name(name) for name in missing)}"
        if split:
            return f"{', '.join(self._name(name) for name in split)} has several successors"
        return "the new side has no such object"

    def _find_match(
        self,
        old: CatalogObject,
        expected: str,
        kinds: tuple[ObjectKind, ...],
        form: Callable[[str, Renaming], str | None],
    ) -> CatalogObject | None:
        found = [
            each
            for each in self.new.of_kind(*kinds)
            if each.owner_table == old.owner_table
            and (self.is_table or each.name != old.name)  # in the column kind the same table has the old one too
            and form(each.definition, self.new_names) == expected
        ]
        if not found and old.kind is ObjectKind.UNIQUE:
            index = object_form(old.index, self.old_names)
            found = [
                each
                for each in self.new.of_kind(ObjectKind.INDEX)
                if index is not None
                and "DEFERRABLE" not in old.definition
                and object_form(each.definition, self.new_names) == index
            ]
        if not found and old.kind is ObjectKind.INDEX:
            found = [
                each
                for each in self.new.of_kind(ObjectKind.UNIQUE, ObjectKind.PRIMARY_KEY)
                if each.index and object_form(each.index, self.new_names) == expected
            ]
        # Several may have one definition, as triggers that differ in when they fire.
        own_names = (old.name, self._successor_name(old))
        is_trigger = old.kind is ObjectKind.TRIGGER
        return min(
            found,
            key=lambda each: (
                is_trigger and each.name not in own_names,
                not each.is_valid,
                each.properties != old.properties,
                each.name not in own_names,
            ),
            default=None,
        )

    def _add_match(self, what: str, old: CatalogObject, match: CatalogObject) -> None:
        texts: _Texts = {"old": old.definition, "new": match.definition}
        if old.kind is ObjectKind.TRIGGER and not match.is_valid:
            self._add(
                what,
                SideVerdict.LOST,
                f"{match.name} is disabled",
                advice=f"ALTER TABLE {self.target_sql} ENABLE TRIGGER {name_sql(match.name)}",
                **texts,
            )
            return
        if old.is_valid and not match.is_valid:
            table = name_sql(*match.owner_table) if match.owner_table else self.target_sql
            statement = f"ALTER TABLE {table} VALIDATE CONSTRAINT {name_sql(match.name.partition(' of ')[0])}"
            is_index = match.kind is ObjectKind.INDEX
            self._add(
                what,
                SideVerdict.LOST,
                f"{match.name} is not valid",
                *(() if is_index else (CarryStatement("constrain", statement),)),
                advice=f"drop the index {match.name} and build it again" if is_index else "",
                **texts,
            )
        elif old.kind is not match.kind and old.kind is ObjectKind.UNIQUE:
            self._add(what, SideVerdict.HARMLESS, f"the unique index {match.name} enforces it", **texts)
        else:
            self._add(what, SideVerdict.CARRIED, f"{self._shown_name(match)} is alike", **texts)
        self._compare_properties(old, match)

    def _shown_name(self, match: CatalogObject) -> str:
        """An object that got its name from a copy gets it from the real table there."""
        for (schema, copy), (_, name) in self.new.aliases.items():
            if not schema and match.name.startswith(f"{copy}_"):
                return match.name.replace(copy, name, 1)
        return match.name

    def _compare_properties(self, old: CatalogObject, match: CatalogObject) -> None:
        """The comment, and the other properties together."""
        names = [name for name in old.properties if name != "comment"]
        for word, group in (("comment", ["comment"] if "comment" in old.properties else []), ("settings", names)):
            if not group:
                continue
            what, shown = f"{word} of {old.kind} {old.name}", self._shown_name(match)
            missing = [name for name in group if match.properties.get(name) != old.properties[name]]
            if not missing:
                self._add(what, SideVerdict.CARRIED, f"{shown} has {' and '.join(_PROPERTIES[name] for name in group)}")
                continue
            statements = [self._property_sql(match, name, old.properties[name]) for name in missing]
            is_expand = self.is_table and missing == ["fires"]
            self._add(
                what,
                SideVerdict.LOST,
                f"{shown} lacks {' and '.join(f'{_PROPERTIES[name]} ({old.properties[name]})' for name in missing)}",
                *(CarryStatement("expand", sql) for sql in statements if is_expand),
                advice="" if is_expand else _by_hand("; ".join(statements)),
                old=", ".join(old.properties[name] for name in group),
                new=", ".join(match.properties.get(name, "") for name in group),
            )

    def _property_sql(self, match: CatalogObject, name: str, value: str) -> str:
        name_of_match = self._shown_name(match).partition(" of ")[0]
        own = name_sql(name_of_match)
        table = name_sql(*match.owner_table) if match.owner_table else self.target_sql
        is_index = match.kind is ObjectKind.INDEX
        index = name_sql(self.target[0], name_of_match)
        word = {ObjectKind.INDEX: "INDEX", ObjectKind.POLICY: "POLICY", ObjectKind.TRIGGER: "TRIGGER"}.get(
            match.kind, "STATISTICS" if match.kind is ObjectKind.STATISTICS else "CONSTRAINT"
        )
        is_alone = is_index or match.kind is ObjectKind.STATISTICS
        called = index if is_alone else f"{own} ON {table}"
        match name:
            case "comment":
                return f"COMMENT ON {word} {called} IS {quote_literal(value).strip()}"
            case "fires":
                return f"ALTER TABLE {table} ENABLE {value} TRIGGER {own}"
            case "clustered":
                return f"ALTER TABLE {table} CLUSTER ON {own}"
            case "target":
                return f"ALTER STATISTICS {called} SET STATISTICS {value}"
            case "tablespace":
                return f"ALTER INDEX {index} SET TABLESPACE {name_sql(value)}"
            case "extension":
                return f"ALTER {word} {called} DEPENDS ON EXTENSION {value}"
        targets = (each.split(" ") for each in value.split(", "))
        return "; ".join(f"ALTER INDEX {index} ALTER COLUMN {column} SET STATISTICS {to}" for column, to in targets)

    def _statements_for(self, old: CatalogObject) -> tuple[CarryStatement, ...]:
        name = self._successor_name(old)
        alter = f"ALTER TABLE {self.target_sql}"
        match old.kind:
            case ObjectKind.CHECK | ObjectKind.FOREIGN_KEY:
                definition = renamed_constraint(old.definition, self.old_names)
                if definition is None:
                    return ()
                add = f"{alter} ADD CONSTRAINT {name_sql(name)} {definition} NOT VALID"
                validate = f"{alter} VALIDATE CONSTRAINT {name_sql(name)}"
                return (
                    CarryStatement("constrain", add),
                    *((CarryStatement("constrain", validate),) if old.is_valid else ()),
                )
            case ObjectKind.UNIQUE | ObjectKind.PRIMARY_KEY if "DEFERRABLE" not in old.definition:
                index = renamed_index(old.index, self.old_names, name, self.target)
                word = "UNIQUE" if old.kind is ObjectKind.UNIQUE else "PRIMARY KEY"
                add = f"{alter} ADD CONSTRAINT {name_sql(name)} {word} USING INDEX {name_sql(name)}"
                return (CarryStatement("indexes", index), CarryStatement("constrain", add)) if index else ()
            case ObjectKind.INDEX:
                return _optional("indexes", renamed_index(old.definition, self.old_names, name, self.target))
            case ObjectKind.POLICY:
                policy = renamed_statement(
                    old.definition, self.old_names, old.name if self.is_table else name, self.target
                )
                return _optional("expand" if self.is_table else "constrain", policy)
            case ObjectKind.TRIGGER if self.is_table and " BEFORE " in old.definition:
                # An AFTER trigger would act twice for each row while both tables are written.
                return _optional("expand", renamed_statement(old.definition, self.old_names, old.name, self.target))
            case ObjectKind.STATISTICS:
                return _optional("expand", renamed_statement(old.definition, self.old_names, name, self.target))
            case ObjectKind.REFERENCING_KEY if old.owner_table is not None:
                definition = renamed_constraint(old.definition, self.old_names)
                if definition is None:
                    return ()
                other, constraint = name_sql(*old.owner_table), name_sql(name)
                return (
                    CarryStatement(
                        "constrain", f"ALTER TABLE {other} ADD CONSTRAINT {constraint} {definition} NOT VALID"
                    ),
                    CarryStatement("constrain", f"ALTER TABLE {other} VALIDATE CONSTRAINT {constraint}"),
                )
        return ()

    def _successor_name(self, old: CatalogObject) -> str:
        """A name like the old one's, which stays taken until the old side is dropped."""
        base = old.name.partition(" of ")[0]
        used = [name for name in old.columns if name in self.affected_names]
        suffix = (
            self.target[1]
            if self.is_table
            else next((found.only.name for name in used if (found := self.successors[name]).only is not None), "new")
        )
        end = f"_{suffix}"
        name = base.encode()[: MAX_IDENTIFIER_BYTES - len(end.encode())].decode(errors="ignore") + end
        return name.encode()[:MAX_IDENTIFIER_BYTES].decode(errors="ignore")

    def _compare_label(self, what: str, old: CatalogObject) -> None:
        column = old.columns[0] if old.columns else ""
        only = self.successors[column].only if column in self.successors else None
        expected = tuple([only.name] if only else [])
        same = any(
            each.kind is old.kind and each.definition == old.definition and each.columns == expected
            for each in self.new.objects
        )
        if same and self.is_table:
            self._add(what, SideVerdict.CARRIED, "the new side has it")
        else:
            self._add(what, SideVerdict.LOST, "the new side lacks it", advice="set it on the new side, or accept it")

    def _compare_publication(self, what: str, old: CatalogObject) -> None:
        before = json.loads(old.definition)
        found = next((each for each in self.new.of_kind(ObjectKind.PUBLICATION) if each.name == old.name), None)
        if found is None:
            statement = f"ALTER PUBLICATION {name_sql(old.name)} ADD TABLE {self.target_sql}"
            if before["columns"] or before["filter"]:
                statement = ""
            self._add(
                what,
                SideVerdict.LOST,
                f"{self.plan.change.target_table} is not in it",
                *_optional("expand", statement),
                advice=_ADVICE[ObjectKind.PUBLICATION] if not statement else "",
            )
            return
        after = json.loads(found.definition)
        wanted = [self.old_names.columns.get(name, name) for name in before["columns"]]
        row_filter = expression_form(before["filter"], self.old_names) if before["filter"] else ""
        actual = expression_form(after["filter"], self.new_names) if after["filter"] else ""
        missing = [name for name in wanted if name not in after["columns"]] if after["columns"] else []
        is_stuck = not self.is_table and old.is_attached
        if row_filter is not None and row_filter == actual and not missing and not is_stuck:
            self._add(what, SideVerdict.CARRIED, "it has the new side")
        else:
            why = (
                f"it does not have {', '.join(missing)}" if missing else "its row filter or columns are of the old side"
            )
            self._add(what, SideVerdict.LOST, why, advice=_ADVICE[ObjectKind.PUBLICATION], is_attached=is_stuck)

    # --- rights

    def _compare_grants(self) -> None:
        for grant in self.old.grants:
            if grant.column and grant.column not in self.affected_names:
                continue
            if not grant.column and not self.is_table:
                continue
            successors = self.successors[grant.column].columns if grant.column else (None,)
            if grant.column and not successors:
                continue  # the column itself is reported
            name = self._name(grant.column) if grant.column else ""
            option = " with grant option" if grant.is_grantable else ""
            right = f"{grant.privilege}({name})" if name else grant.privilege
            what = f"grant {right} to {grant.role}{option}"
            missing = [column for column in successors if not self._has_grant(grant, column.name if column else "")]
            if not missing:
                self._add(what, SideVerdict.CARRIED, "the new side has it")
                continue
            role = "PUBLIC" if grant.role == "public" else name_sql(grant.role)
            tail = " WITH GRANT OPTION" if grant.is_grantable else ""
            statements = [
                f"GRANT {grant.privilege}{f' ({name_sql(column.name)})' if column else ''} ON {self.target_sql}"
                f" TO {role}{tail}"
                for column in missing
            ]
            where = ", ".join(column.name for column in missing if column) or str(self.plan.change.target_table)
            self._add(what, SideVerdict.LOST, f"not on {where}", *(CarryStatement("expand", sql) for sql in statements))

    def _compare_added_grants(self) -> None:
        """What default privileges give to roles that had no right to the rows: the plan's own GRANTs are meant."""
        meant = granted_roles(self.plan)
        for grant in self.new.grants:
            had = any(
                each.role in (grant.role, "public")
                and each.privilege == grant.privilege
                and each.column in ("", grant.column)
                for each in self.old.grants
            )
            if had or grant.role in (self.old.owner, self.new.owner) or grant.role in meant:
                continue
            right = f"{grant.privilege}({grant.column})" if grant.column else grant.privilege
            on = f"{grant.privilege} ({name_sql(grant.column)})" if grant.column else grant.privilege
            role = "PUBLIC" if grant.role == "public" else name_sql(grant.role)
            self._add(
                f"grant-added {right} to {grant.role}",
                SideVerdict.LOST,
                "the old side does not have it: default privileges open the new table to more roles",
                CarryStatement("expand", f"REVOKE {on} ON {self.target_sql} FROM {role}"),
            )

    def _has_grant(self, wanted: Grant, column: str) -> bool:
        if wanted.role == self.new.owner:
            return True
        return any(
            each.role in (wanted.role, "public")
            and each.privilege == wanted.privilege
            and each.column in ("", column)
            and (each.is_grantable or not wanted.is_grantable)
            for each in self.new.grants
        )

    # --- the table

    def _compare_replica_identity(self) -> None:
        old = self.old.replica_identity
        if old == "DEFAULT":
            return
        is_index = old not in ("FULL", "NOTHING")
        expected = object_form(old, self.old_names) if is_index else old
        if not self.is_table:
            used = is_index and expected != object_form(old, Renaming())
            if not used:
                return
        new = self.new.replica_identity
        actual = object_form(new, self.new_names) if new not in ("FULL", "NOTHING", "DEFAULT") else new
        if expected is not None and expected == actual:
            self._add("replica-identity", SideVerdict.CARRIED, "the new side has it", old=old, new=new)
            return
        statement = "" if is_index else f"ALTER TABLE {self.target_sql} REPLICA IDENTITY {old}"
        self._add(
            "replica-identity",
            SideVerdict.LOST,
            f"the new side has {new if new in ('FULL', 'NOTHING', 'DEFAULT') else 'another index'}",
            *_optional("expand", statement),
            advice=""
            if statement
            else "ALTER TABLE … REPLICA IDENTITY USING INDEX, before contract; accept it to start",
            old=old,
            new=new,
        )

    def _compare_table(self) -> None:
        old, new, alter = self.old, self.new, f"ALTER TABLE {self.target_sql}"
        if old.owner != new.owner:
            statement = CarryStatement("expand", f"{alter} OWNER TO {name_sql(old.owner)}")
            self._add(f"owner {old.owner}", SideVerdict.LOST, f"the owner is {new.owner}", statement)
        else:
            self._add(f"owner {old.owner}", SideVerdict.CARRIED, "the new side has it")
        for what, before, after, words in (
            ("row-security", old.row_security, new.row_security, "ENABLE ROW LEVEL SECURITY"),
            ("force-row-security", old.force_row_security, new.force_row_security, "FORCE ROW LEVEL SECURITY"),
        ):
            if before and after:
                self._add(what, SideVerdict.CARRIED, "the new side has it")
            elif before:
                self._add(what, SideVerdict.LOST, "the new table is open", CarryStatement("expand", f"{alter} {words}"))
        for setting, value in old.settings.items():
            if new.settings.get(setting) == value:
                self._add(f"settings {setting}", SideVerdict.CARRIED, "the new side has it")
                continue
            is_parameter = setting not in ("persistence", "access method", "tablespace", "type")
            statement_sql = f"{alter} SET ({setting} = {value})" if is_parameter else ""
            self._add(
                f"settings {setting}",
                SideVerdict.LOST,
                f"the new table has {new.settings.get(setting, 'the default')}",
                *_optional("expand", statement_sql),
                advice=""
                if is_parameter
                else f"{_TABLE_SETTINGS[setting]} after the release, at a time of low load, and accept its loss",
                old=value,
                new=new.settings.get(setting, ""),
            )
        if old.comment and old.comment == new.comment:
            self._add("comment", SideVerdict.CARRIED, "the new side has it")
        elif old.comment:
            statement_sql = f"COMMENT ON TABLE {self.target_sql} IS {quote_literal(old.comment).strip()}"
            self._add("comment", SideVerdict.LOST, "the new table lacks it", *_plain_statement("expand", statement_sql))


def granted_roles(plan: Plan) -> frozenset[str]:
    """The roles that the plan's expand gives rights to."""
    found = set()
    for text in split_statements(plan.change.expand):
        statement = parse_sql(text).stmts[0].stmt
        if statement.HasField("grant_stmt") and statement.grant_stmt.is_grant:
            found |= {each.role_spec.rolename or "public" for each in statement.grant_stmt.grantees}
    return frozenset(found)


_CHOSEN_BY_SERVER = re.compile(r"_not_null\d*$")
"""Ends the name of a NOT NULL constraint that no statement has named."""
_IDENTITY = {"a": "ALWAYS", "d": "BY DEFAULT"}
_TABLE_SETTINGS = {
    "persistence": "ALTER TABLE … SET UNLOGGED",
    "access method": "ALTER TABLE … SET ACCESS METHOD",
    "tablespace": "ALTER TABLE … SET TABLESPACE",
    "type": "ALTER TABLE … OF",
}
_PROPERTIES = {
    "comment": "its comment",
    "fires": "its firing mode",
    "clustered": "the mark of CLUSTER ON",
    "target": "its statistics target",
    "tablespace": "its tablespace",
    "extension": "its dependency on extension",
    "statistics": "the statistics targets of its columns",
}
"""How :attr:`CatalogObject.properties` are called."""


def _is_temporal(old: CatalogObject) -> bool:
    """A key WITHOUT OVERLAPS, or a foreign key to one (PostgreSQL 18)."""
    keys = (ObjectKind.UNIQUE, ObjectKind.PRIMARY_KEY, ObjectKind.FOREIGN_KEY, ObjectKind.REFERENCING_KEY)
    return old.kind in keys and re.search(r" WITHOUT OVERLAPS\)|\(.*\bPERIOD \S+\)", old.definition) is not None


def _by_hand(sql: str) -> str:
    """Advice for what no section of the plan runs."""
    return f"run it by hand after contract: {' '.join(sql.split())}; accept it here to start"


def _limits(sequence: SequenceObject) -> str:
    """The options that decide which values a sequence gives out; where it starts does not, once it has started."""
    return " ".join(option for option in sequence.options if not option.startswith(("START ", "CACHE ")))


def _sequence_options(sequence: SequenceObject) -> str:
    """The options of a sequence as an identity column has them; empty for none, else with a space before."""
    counting = () if sequence.increment == 1 else (f"INCREMENT BY {sequence.increment}",)
    options = " ".join([*counting, *sequence.options])
    return f" ({options})" if options else ""


def _optional(section: str, sql: str | None) -> tuple[CarryStatement, ...]:
    return (CarryStatement(section, sql),) if sql else ()


def _plain_statement(section: str, sql: str) -> tuple[CarryStatement, ...]:
    """The statement, unless it needs an escape string, which plans do not hold."""
    return () if " E'" in sql or "\n" in sql else (CarryStatement(section, sql),)


def _classify_source(expression: str, reads: int) -> _Source:
    try:
        node = parse_expression(expression)
    except SqlSyntaxError:
        return _Source.COMPUTED
    is_cast = False
    while (kind := node.WhichOneof("node")) in ("type_cast", "collate_clause"):
        is_cast = is_cast or kind == "type_cast"
        node = getattr(node, kind).arg
    if node.WhichOneof("node") == "column_ref":
        return _Source.CAST if is_cast else _Source.SAME
    return _Source.COMPUTED if reads == 1 else _Source.MERGED


_INTEGERS = ("smallint", "integer", "bigint", "numeric")
_SIZED = re.compile(r"^(character varying|character|bit varying|numeric)(?:\((\d+)(?:,(\d+))?\))?$")


def holds_every_value(old: str, new: str) -> bool:
    """Whether every value of one type can be stored in the other, as it is."""
    if old == new:
        return True
    if old in _INTEGERS and new in _INTEGERS:
        return _INTEGERS.index(old) <= _INTEGERS.index(new)
    if (old, new) in (("real", "double precision"), ("date", "timestamp without time zone")):
        return True
    if new == "text":
        return old.startswith("character varying") or old in ("text", "name")
    before, after = _SIZED.match(old), _SIZED.match(new)
    if old == "text":
        return new == "character varying"
    if before is None or after is None or before[1] != after[1]:
        return False
    if after[2] is None:
        return True
    if before[2] is None:
        return False
    whole = int(after[2]) - int(after[3] or 0) >= int(before[2]) - int(before[3] or 0)
    return whole and int(after[2]) >= int(before[2]) and int(after[3] or 0) >= int(before[3] or 0)

"""The objects that steps of operations make and later ones rely on, and from which step to which. Pure.

A step declares what it keeps beside its statements (``keeps``), or its statement says it: ADD COLUMN, ADD CONSTRAINT,
CREATE TABLE. Indexes that are built are those that the step's record lists.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import OperationStep, ReliedKind, ReliedObject, StepMode, relation_sql
from zdd_tui.model.operations.registry import named_steps
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import BaseOperationsPlan
from zdd_tui.model.sql import enum_name, name_sql, parse_sql

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class ReliedChange:
    """A step that makes an object, or may change it.

    Attributes:
        step: its name in the strategy.
        made: the object, where the step makes it, or declares it anew; None where it only names it or its table.
        may_remove: afterwards the object may be gone, or have another name.
    """

    step: str
    made: ReliedObject | None
    may_remove: bool = True


@dataclass(frozen=True, slots=True)
class ReliedInterval:
    """An object and the steps that make and change it, in the order in which they run."""

    changes: tuple[ReliedChange, ...]

    @property
    def first(self) -> ReliedObject:
        """The object as it was made."""
        made = self.changes[0].made
        assert made is not None, "the first step makes it"
        return made


@dataclass(frozen=True, slots=True)
class BuiltIndexes:
    """A step that builds indexes; its record lists them.

    Attributes:
        table: as SQL.
        changes: later steps that may rename or drop them.
    """

    step: str
    table: str
    changes: tuple[ReliedChange, ...]


@dataclass(frozen=True, slots=True)
class ReliedObjectsOfPlan:
    """Everything that the operations of a plan rely on.

    Attributes:
        tables: as SQL, each with the settings under which its name is looked up.
        triggers: names.
        views: as SQL.
        functions: names.
    """

    intervals: tuple[ReliedInterval, ...]
    indexes: tuple[BuiltIndexes, ...]
    tables: tuple[tuple[str, tuple[str, ...]], ...]
    triggers: tuple[str, ...]
    views: tuple[str, ...]
    functions: tuple[str, ...]


def relied_objects(plan: BaseOperationsPlan) -> ReliedObjectsOfPlan:
    """The objects that a plan makes and relies on, with the steps that make and change them.

    Raises:
        PlanError: an operation cannot be executed.
    """
    return _collect(tuple((name, step) for phase in Phase for name, _, step in named_steps(plan, phase)))


@lru_cache(maxsize=4)
def _collect(steps: tuple[tuple[str, OperationStep], ...]) -> ReliedObjectsOfPlan:
    made: dict[tuple[str, str, str], ReliedObject] = {}
    intervals: dict[tuple[str, str, str], list[ReliedChange]] = {}
    indexes: list[_IndexBuild] = []
    tables: dict[tuple[str, tuple[str, ...]], None] = {}
    for name, step in steps:
        words = _words(step)
        declared = {(each.kind, each.table, each.name): each for each in _declared(step)}
        for key, changes in intervals.items():
            if key in declared:
                continue
            if _names(_last_name(key[1]), words) or _renames_types(step):
                changes.append(ReliedChange(name, None, may_remove=_names(key[2], words) or _may_change_names(step)))
            elif (reads := made[key].reads) and _names(_last_name(reads), words):
                changes.append(ReliedChange(name, None, may_remove=False))
        for key, each in declared.items():
            intervals.setdefault(key, []).append(ReliedChange(name, each))
            made.setdefault(key, each)
            tables[each.table, step.settings] = None
        for build in indexes:
            build.follow(name, step, words)
        if step.mode in (StepMode.BUILD_INDEX, StepMode.COPY_INDEXES) and not step.is_reversed:
            indexes.append(_IndexBuild(name, step))
            tables[step.table, step.settings] = None
    return ReliedObjectsOfPlan(
        tuple(ReliedInterval(tuple(changes)) for changes in intervals.values()),
        tuple(BuiltIndexes(each.name, each.step.table, tuple(each.changes)) for each in indexes),
        tuple(tables),
        tuple(dict.fromkeys(each.name for each in made.values() if each.kind is ReliedKind.TRIGGER)),
        tuple(each.table for each in made.values() if each.kind is ReliedKind.VIEW),
        tuple(each.name for each in made.values() if each.kind is ReliedKind.FUNCTION),
    )


@dataclass(slots=True)
class _IndexBuild:
    """A step that builds indexes, and the later steps that may rename or drop them."""

    name: str
    step: OperationStep
    changes: list[ReliedChange] = field(default_factory=list)

    def follow(self, name: str, step: OperationStep, words: set[str]) -> None:
        """Notes a later step that may rename or drop the indexes; the names of copies stand in no statement."""
        is_dropped = step.mode is StepMode.DROP_INDEX and step.index == self.step.index
        is_named = _names(self.step.index or _last_name(self.step.table), words)
        if is_dropped or is_named:
            self.changes.append(ReliedChange(name, None))


def _words(step: OperationStep) -> set[str]:
    """The words of the statements that may change a table or what belongs to it."""
    if step.mode is not StepMode.TRANSACTION or step.is_reversed:
        return set()
    earlier = step.before.statements if step.before is not None else ()
    return set(_WORD.findall(" ".join((*earlier, *step.statements, step.then_query))))


def _may_change_names(step: OperationStep) -> bool:
    """Whether a step may rename or drop what its statements do not name: blocks, and those about a whole table."""
    return step.are_locks_known or any(_WHOLE_TABLE.match(each) for each in step.statements)


_WHOLE_TABLE = re.compile(r"DO |CALL |SELECT |DROP |ALTER TABLE \S+ (RENAME TO|SET SCHEMA) ")


def _renames_types(step: OperationStep) -> bool:
    """Whether columns of any table may have a type of another name afterwards."""
    return any(each.startswith("ALTER TYPE ") and " RENAME TO " in each for each in step.statements)


def _names(name: str, words: set[str]) -> bool:
    """Whether statements of these words may hold a name, which may have several words, and quotation marks."""
    return words.issuperset(_WORD.findall(name))


def _last_name(table: str) -> str:
    return table.rpartition(".")[2]


def _declared(step: OperationStep) -> Iterator[ReliedObject]:
    yield from step.keeps
    if step.mode is not StepMode.TRANSACTION or step.is_reversed or step.are_locks_known:
        return
    for statement in step.statements:
        if statement.startswith(("ALTER TABLE", "CREATE TABLE")):
            yield from _made_by(statement)


def _made_by(statement: str) -> Iterator[ReliedObject]:
    try:
        nodes = [each.stmt for each in parse_sql(statement).stmts]
    except PlanError:
        return
    for node in nodes:
        if node.HasField("create_stmt"):
            table = relation_sql(node.create_stmt.relation)
            yield ReliedObject(ReliedKind.TABLE, table, node.create_stmt.relation.relname, statement=statement)
        elif node.HasField("alter_table_stmt"):
            yield from _made_by_alter(node.alter_table_stmt, statement)


def _made_by_alter(alter: Any, statement: str) -> Iterator[ReliedObject]:
    table = relation_sql(alter.relation)
    for each in alter.cmds:
        command = each.alter_table_cmd
        definition = getattr(command, "def")
        kind = enum_name(command, "subtype")
        if kind == "AT_AddColumn":
            yield ReliedObject(ReliedKind.COLUMN, table, definition.column_def.colname, statement=statement)
        elif kind == "AT_AddConstraint" and definition.constraint.conname:
            yield ReliedObject(ReliedKind.CONSTRAINT, table, definition.constraint.conname, statement=statement)


def label_object(table: str, name: str = "") -> str:
    """The name of an object on screen and in errors: ``public.events``, ``public.events.kind``."""
    return f"{table}.{name_sql(name)}" if name else table


def may_be_gone(changes: Sequence[ReliedChange], step: str) -> bool:
    """Whether an object may have gone with a step of the release, or with one before it since it was made."""
    position = next(number for number, each in enumerate(changes) if each.step == step)
    until = changes[: position + 1]
    made = max((number for number, each in enumerate(until) if each.made is not None), default=-1)
    return any(each.may_remove for each in until[made + 1 :])

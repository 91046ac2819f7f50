"""Which fills must wait for the fills of a paused table: those whose rows could differ in another order.

The statements say which tables they name; the database says which of those are the same table, a partition of one, or
refer to each other by a foreign key. What neither says is unknown, and what is unknown waits. Triggers of the
application do not count: its own writes fire them in any order, too.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.base import Fill, OperationStep, relation_sql
from zdd_tui.model.sql import called_functions, name_sql, node_class, parse_sql, walk

_READS_BY_TEXT = re.compile(r"(query|table|schema|database|cursor)_to_xml\w*|ts_stat|ts_rewrite")
"""Functions of PostgreSQL that read tables which their arguments name."""


@dataclass(frozen=True, slots=True)
class StepNames:
    """What the statements of a step of an operation name.

    Attributes:
        name: of the step.
        table: that it fills, as SQL; empty for a step that fills none.
        columns: that it writes; None where it adds or removes rows, or what it writes is not known.
        written: other relations that it may write, as SQL.
        read: relations that it only reads, as SQL.
        functions: schema, often empty, and name of those that it calls.
        settings: of the migration, by which names are looked up.
        is_unknown: it runs code that does not say what it names.
    """

    name: str
    table: str = ""
    columns: frozenset[str] | None = None
    written: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()
    functions: frozenset[tuple[str, str]] = frozenset()
    settings: tuple[str, ...] = ()
    is_unknown: bool = False


@dataclass(frozen=True, slots=True)
class StepUse:
    """The same, as the database knows it; relations by oid, with their partitions and children."""

    name: str
    fills: bool
    columns: frozenset[str] | None = None
    written: frozenset[int] = frozenset()
    read: frozenset[int] = frozenset()
    is_unknown: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key; relations by oid."""

    child: int
    child_columns: frozenset[str]
    parent: int
    parent_columns: frozenset[str]


def read_step_names(name: str, step: OperationStep) -> StepNames:
    """What a step names, by its statements.

    Args:
        name: of the step in the release.
    """
    fill = step.fill
    statements = (fill.sql,) if fill is not None else step.statements
    is_known = bool(statements) and not (step.then_query or step.before or step.on_partitioned)
    try:
        trees = [parse_sql(sql) for sql in statements]
    except PlanError:
        return StepNames(name, is_unknown=True)
    nodes = [node for tree in trees for node in walk(tree)]
    kinds = {node_class(node) for node in nodes}
    functions = frozenset((schema, called) for tree in trees for schema, called, _ in called_functions(tree))
    named = {relation_sql(node) for node in nodes if node_class(node) == "RangeVar"}
    named -= {name_sql(node.ctename) for node in nodes if node_class(node) == "CommonTableExpr"}
    if kinds & {"DoStmt", "CallStmt", "ExecuteStmt"} or any(_READS_BY_TEXT.fullmatch(each) for _, each in functions):
        is_known = False
    if fill is None:
        return StepNames(
            name, written=frozenset(named), functions=functions, settings=step.settings, is_unknown=not is_known
        )
    written = {_target(fill)} if fill.into else set()
    return StepNames(
        name,
        fill.table,
        _written_columns(fill),
        frozenset(written),
        frozenset(named - written - {fill.table} - ({name_sql(fill.into)} if fill.into else set())),
        functions,
        step.settings,
        is_unknown=not is_known,
    )


def _target(fill: Fill) -> str:
    schema = fill.table.rpartition(".")[0]
    return f"{schema}.{name_sql(fill.into)}" if schema else name_sql(fill.into)


def _written_columns(fill: Fill) -> frozenset[str] | None:
    """None where the fill adds or removes rows, or is a statement that was not taken apart."""
    return frozenset(column for column, _ in fill.values) if fill.values and not fill.statement else None


def list_waiting_fills(
    steps: Sequence[StepUse], paused: Iterable[str], references: Sequence[Reference]
) -> tuple[str, ...]:
    """The names of the fills that must wait for those of a paused table, also by way of steps between them.

    Args:
        steps: of the phase, in their order.
        paused: names of the fills of the table.
    """
    names = frozenset(paused)
    held: list[StepUse] = []
    waiting = []
    for step in steps:
        if step.name in names:
            held.append(step)
        elif held and not step.fills:
            held.append(step)  # a step that is no fill runs before no earlier one
        elif any(_depend(earlier, step, references) for earlier in held):
            held.append(step)
            waiting.append(step.name)
    return tuple(waiting)


def _depend(first: StepUse, second: StepUse, references: Sequence[Reference]) -> bool:
    """Whether the order of two steps may matter."""
    if first.is_unknown or second.is_unknown:
        return True
    if first.written & (second.written | second.read) or second.written & first.read:
        return True
    pairs = ((first, second), (second, first))
    return any(_refers(child, parent, each) for each in references for child, parent in pairs)


def _refers(child: StepUse, parent: StepUse, reference: Reference) -> bool:
    """Whether a foreign key leads from rows of one to rows of the other, and one of them writes its columns."""
    if reference.child not in child.written or reference.parent not in parent.written:
        return False
    pairs = ((child.columns, reference.child_columns), (parent.columns, reference.parent_columns))
    return any(columns is None or bool(columns & keys) for columns, keys in pairs)

"""Which number each column of a made-up row is made from: keys count up, foreign keys point at rows that exist, and
CHECK constraints are met as far as their expression is simple."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zdd_tui.model.sql import SqlSyntaxError, enum_name, parse_expression, quote_literal, string_values
from zdd_tui.rehearsal.table_stats import ColumnStats, ForeignKey, TableStats
from zdd_tui.rehearsal.value_sql import count_distinct, null_condition, value_expression, value_number

_MAX_DEPTH = 6
"""Foreign keys that are followed through keys that are foreign keys themselves."""

_FLIPPED = {">": "<", ">=": "<=", "<": ">", "<=": ">=", "=": "="}


@dataclass(frozen=True, slots=True)
class AllowedValues:
    """What a CHECK allows a column: some values, numbers from one to another, or what another column holds."""

    values: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    same_as: str = ""


@dataclass(slots=True)
class RowGenerator:
    """Makes the rows of one table.

    Attributes:
        rows: how many will be made.
        others: the generators of all tables, by (schema, name), for foreign keys.
        allowed_values: what was learned from CHECK constraints.
        unsupported_columns: columns of a type for which no value can be made.
    """

    shape: TableStats
    rows: int
    others: Mapping[tuple[str, str], "RowGenerator"]
    allowed_values: dict[str, AllowedValues] = field(default_factory=dict)
    unsupported_columns: set[str] = field(default_factory=set)

    def expression(self, name: str, ordinal: str = "g.i", deep: int = 0) -> str:
        """The SQL of a column's value in the row of that number (from 1 up)."""
        column = self.shape.column(name)
        key = self.foreign_key_of(name)
        if key is not None and deep < _MAX_DEPTH and (parent := self.others.get((key.schema, key.table))) is not None:
            return self._reference_expression(column, key, parent, ordinal, deep)
        allowed = self.allowed_values.get(name, AllowedValues())
        if allowed.same_as:
            return self.expression(allowed.same_as, ordinal, deep + 1)
        number = self.unique_number(name, ordinal)
        drawn = number or value_number(column, ordinal, self.rows, self._seed(name))
        if name in self.allowed_values:
            return self._nullable(column, _allowed_expression(column, allowed, drawn), ordinal)
        made = value_expression(column, drawn)
        if made is None:
            self.unsupported_columns.add(name)
            return f"NULL::{column.type}"
        if number:
            return made
        if column.constant_default:
            made = f"CASE WHEN {drawn} = 0 THEN {column.constant_default} ELSE {made} END"
        return self._nullable(column, made, ordinal)

    def foreign_key_of(self, name: str) -> ForeignKey | None:
        """The foreign key that decides a column; that of most columns where several do."""
        return next((key for key in self.shape.foreign_keys if name in key.columns), None)

    def unique_number(self, name: str, ordinal: str) -> str | None:
        """The number that no other row has in this column, or in this column together with its index's others.

        All but the last column of an index count like digits, the last one is unbounded.
        """
        for columns in self.shape.unique:
            if name not in columns or any(self._is_unique_alone(other) for other in columns if len(columns) > 1):
                continue
            order = sorted(columns, key=lambda c: (self.foreign_key_of(c) is None, self._number_span(c)))
            product = 1
            for other in order[:-1]:
                if other == name:
                    return f"(({ordinal} / {product}) % {self._number_span(other)})"
                product *= self._number_span(other)
            return f"({ordinal} / {product})" if product > 1 else f"({ordinal})"
        return None

    def _is_unique_alone(self, name: str) -> bool:
        return any(columns == (name,) for columns in self.shape.unique)

    def _number_span(self, name: str) -> int:
        column = self.shape.column(name)
        if column.labels:
            return len(column.labels)
        return 2 if column.base == "bool" else count_distinct(column, self.rows)

    def _reference_expression(
        self, column: ColumnStats, key: ForeignKey, parent: "RowGenerator", ordinal: str, deep: int
    ) -> str:
        first = self.shape.column(key.columns[0])
        number = self.unique_number(key.columns[0], ordinal)
        seed = self._seed(",".join(key.columns))
        chosen = f"(1 + ({number or value_number(first, ordinal, self.rows, seed)} % {max(1, parent.rows)}))"
        made = parent.expression(key.referenced_columns[key.columns.index(column.name)], chosen, deep + 1)
        nulls = next((c for n in key.columns if not (c := self.shape.column(n)).not_null and c.null_fraction > 0), None)
        if number or nulls is None:
            return made
        return f"CASE WHEN {null_condition(nulls, ordinal, seed)} THEN NULL ELSE {made} END"

    def _nullable(self, column: ColumnStats, made: str, ordinal: str) -> str:
        if column.not_null or column.null_fraction <= 0:
            return made
        return f"CASE WHEN {null_condition(column, ordinal, self._seed(column.name))} THEN NULL ELSE {made} END"

    def _seed(self, name: str) -> str:
        return f"{self.shape.name}.{name}"


def _allowed_expression(column: ColumnStats, allowed: AllowedValues, number: str) -> str:
    if allowed.values:
        listed = ", ".join(quote_literal(one) for one in allowed.values)
        return f"((ARRAY[{listed}])[1 + {number} % {len(allowed.values)}])::{column.type}"
    low = allowed.low if allowed.low is not None else (allowed.high or 0) - 1000
    span = (allowed.high - low + 1) if allowed.high is not None else 1_000_000_000
    return f"({low} + ({number} % {max(1, span)}))::{column.type}"


def read_allowed_values(table: TableStats) -> dict[str, AllowedValues]:
    """What columns may hold: lists, bounds, and pairs of which one is not greater than the other."""
    names = {column.name for column in table.columns}
    allowed: dict[str, AllowedValues] = {}
    for _, expression in table.checks:
        try:
            conditions = _conjuncts(parse_expression(expression))
        except SqlSyntaxError:
            continue
        for condition in conditions:
            if (parsed := _parse_condition(condition)) is not None and parsed[0] in names:
                name, values = parsed
                allowed[name] = _column_pair(allowed[name], values) if name in allowed else values
    return allowed


def _conjuncts(node: Any) -> list[Any]:
    if node.HasField("bool_expr") and enum_name(node.bool_expr, "boolop") == "AND_EXPR":
        return [part for argument in node.bool_expr.args for part in _conjuncts(argument)]
    return [node]


def _parse_condition(node: Any) -> tuple[str, AllowedValues] | None:
    if not node.HasField("a_expr"):
        return None
    expression = node.a_expr
    name = _column(expression.lexpr)
    match enum_name(expression, "kind"), string_values(expression.name):
        case "AEXPR_IN", ["="] if name:
            return _value_list(name, expression.rexpr.list.items)
        case "AEXPR_OP_ANY", ["="] if name:
            return _value_list(name, _strip_casts(expression.rexpr).a_array_expr.elements)
        case "AEXPR_BETWEEN", _ if name:
            low, high = (_number(bound) for bound in expression.rexpr.list.items)
            if low is not None and high is not None:
                return name, _column_pair(_numeric_bound(">=", low), _numeric_bound("<=", high))
        case "AEXPR_OP", [sign] if sign in _FLIPPED:
            return _parse_comparison(expression.lexpr, sign, expression.rexpr)
    return None


def _parse_comparison(left_node: Any, sign: str, right_node: Any) -> tuple[str, AllowedValues] | None:
    left, right = _column(left_node), _column(right_node)
    if left and right:
        if sign in ("<=", "="):
            return right, AllowedValues(same_as=left)
        return (left, AllowedValues(same_as=right)) if sign == ">=" else None
    if left and (number := _number(right_node)) is not None:
        return left, _numeric_bound(sign, number)
    if right and (number := _number(left_node)) is not None:
        return right, _numeric_bound(_FLIPPED[sign], number)
    return None


def _value_list(name: str, nodes: Any) -> tuple[str, AllowedValues] | None:
    values = tuple(text for node in nodes if (text := _literal(node)) is not None)
    return (name, AllowedValues(values=values)) if values and len(values) == len(nodes) else None


def _numeric_bound(sign: str, number: float) -> AllowedValues:
    whole = int(number)
    if sign == "=":
        return AllowedValues(low=whole, high=whole)
    if sign in (">", ">="):
        return AllowedValues(low=whole + (1 if sign == ">" or number > whole else 0))
    return AllowedValues(high=whole - (1 if sign == "<" and number == whole else 0))


def _column_pair(one: AllowedValues, other: AllowedValues) -> AllowedValues:
    if one.values or one.same_as:
        return one
    if other.values or other.same_as:
        return other
    lows = [bound for bound in (one.low, other.low) if bound is not None]
    highs = [bound for bound in (one.high, other.high) if bound is not None]
    return AllowedValues(low=max(lows, default=None), high=min(highs, default=None))


def _strip_casts(node: Any) -> Any:
    while node.HasField("type_cast"):
        node = node.type_cast.arg
    return node


def _column(node: Any) -> str:
    """The name of a column; empty for anything else."""
    names = string_values(_strip_casts(node).column_ref.fields)
    return names[-1] if names else ""


def _literal(node: Any) -> str | None:
    """The text of a string or a number."""
    constant = _strip_casts(node).a_const
    match constant.WhichOneof("val"):
        case "sval":
            return str(constant.sval.sval)
        case "ival":
            return str(constant.ival.ival)
        case "fval":
            return str(constant.fval.fval)
    return None


def _number(node: Any) -> float | None:
    text = _literal(node)
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None

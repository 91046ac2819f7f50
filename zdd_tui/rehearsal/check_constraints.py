"""What a CHECK constraint requires, as far as its expression is simple."""

from typing import Any

from zdd_tui.model.sql import SqlSyntaxError, enum_name, parse_expression, string_values
from zdd_tui.rehearsal.generator import AllowedValues
from zdd_tui.rehearsal.table_stats import TableStats

_FLIPPED = {">": "<", ">=": "<=", "<": ">", "<=": ">=", "=": "="}


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

"""What a CHECK constraint requires, as far as its expression is simple."""

from typing import Any

from zdd_tui.rehearsal.generator import AllowedValues
from zdd_tui.rehearsal.table_stats import TableStats

_COMPARISON_SYMBOLS = {"GT": ">", "GTE": ">=", "LT": "<", "LTE": "<=", "EQ": "="}
_FLIPPED = {">": "<", ">=": "<=", "<": ">", "<=": ">=", "=": "="}


def read_allowed_values(table: TableStats) -> dict[str, AllowedValues]:
    """What columns may hold: lists, bounds, and pairs of which one is not greater than the other."""
    import sqlglot  # noqa: PLC0415  it takes a tenth of a second, and most commands need none of it

    known: dict[str, AllowedValues] = {}
    for _, expression in table.checks:
        try:
            tree = sqlglot.parse_one(expression, dialect="postgres")
        except sqlglot.ParseError:
            continue
        for part in _conjuncts(tree):
            if (found := _parse_condition(part)) is not None and found[0] in {column.name for column in table.columns}:
                name, choice = found
                known[name] = _column_pair(known[name], choice) if name in known else choice
    return known


def _conjuncts(tree: Any) -> list[Any]:
    from sqlglot import exp  # noqa: PLC0415

    while isinstance(tree, exp.Paren):
        tree = tree.this
    if isinstance(tree, exp.And):
        return _conjuncts(tree.left) + _conjuncts(tree.right)
    if isinstance(tree, exp.Between):
        return [
            exp.GTE(this=tree.this, expression=tree.args["low"]),
            exp.LTE(this=tree.this, expression=tree.args["high"]),
        ]
    return [tree]


def _parse_condition(part: Any) -> tuple[str, AllowedValues] | None:
    from sqlglot import exp  # noqa: PLC0415

    if isinstance(part, exp.In) and (name := _column(part.this)):
        return _value_list(name, part.expressions)
    if isinstance(part, exp.EQ) and isinstance(part.expression, exp.Any) and (name := _column(part.this)):
        array = part.expression.find(exp.Array)
        return _value_list(name, array.expressions) if array else None
    sign = _COMPARISON_SYMBOLS.get(type(part).__name__)
    if sign is None:
        return None
    left, right = _column(part.left), _column(part.right)
    if left and right:
        if sign in ("<=", "=", ">="):
            return (right, AllowedValues(same_as=left)) if sign != ">=" else (left, AllowedValues(same_as=right))
        return None
    if left and (number := _number(part.right)) is not None:
        return left, _numeric_bound(sign, number)
    if right and (number := _number(part.left)) is not None:
        return right, _numeric_bound(_FLIPPED[sign], number)
    return None


def _value_list(name: str, expressions: list[Any]) -> tuple[str, AllowedValues] | None:
    values = tuple(text for one in expressions if (text := _literal(one)) is not None)
    return (name, AllowedValues(values=values)) if values and len(values) == len(expressions) else None


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
    from sqlglot import exp  # noqa: PLC0415

    while isinstance(node, exp.Cast | exp.Paren):
        node = node.this
    return node


def _column(node: Any) -> str | None:
    from sqlglot import exp  # noqa: PLC0415

    node = _strip_casts(node)
    return node.name if isinstance(node, exp.Column) else None


def _literal(node: Any) -> str | None:
    from sqlglot import exp  # noqa: PLC0415

    node = _strip_casts(node)
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal):
        return f"-{node.this.name}"
    return node.name if isinstance(node, exp.Literal) else None


def _number(node: Any) -> float | None:
    text = _literal(node)
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None

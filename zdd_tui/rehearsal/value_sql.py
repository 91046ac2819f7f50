"""SQL that makes a value from a number, for every usual type, and spreads numbers as a column's values are spread.

Every column of a made-up row is a function of the row's number and of nothing else. So a foreign key can compute
what the row that it refers to holds, and a rehearsal that is repeated meets the same rows.
"""

from collections.abc import Callable

from zdd_tui.model.sql import quote_literal
from zdd_tui.rehearsal.table_stats import ColumnStats

_MASK = 9_223_372_036_854_775_807
_MAX_TEXT = 20_000
"""Characters: a wider value would cost minutes to generate for no use."""

_NUMBER_EXPRESSIONS: dict[str, Callable[[str], str]] = {
    "int2": lambda n: f"({n} % 32767)::int2",
    "int4": lambda n: f"({n} % 2147483647)::int4",
    "int8": lambda n: f"{n}",
    "oid": lambda n: f"({n} % 2147483647)::oid",
    "float4": lambda n: f"({n})::float4",
    "float8": lambda n: f"({n})::float8",
    "money": lambda n: f"({n})::numeric::money",
    "bool": lambda n: f"({n} % 2 = 0)",
    "date": lambda n: f"(date '2026-01-01' - ({n} % 40000)::int)",
    "timestamp": lambda n: f"(timestamp '2026-01-01' - make_interval(secs => ({n} % 3000000000)::float8))",
    "timestamptz": lambda n: f"(timestamptz '2026-01-01Z' - make_interval(secs => ({n} % 3000000000)::float8))",
    "time": lambda n: f"(time '00:00' + make_interval(secs => ({n} % 86400)::float8))",
    "timetz": lambda n: f"(time '00:00' + make_interval(secs => ({n} % 86400)::float8))::timetz",
    "interval": lambda n: f"make_interval(secs => ({n})::float8)",
    "uuid": lambda n: f"md5(({n})::text)::uuid",
    "inet": lambda n: f"(inet '10.0.0.0' + ({n} % 16777216))",
    "cidr": lambda n: f"(inet '10.0.0.0' + ({n} % 16777216))::cidr",
    "macaddr": lambda n: f"lpad(to_hex({n} % 281474976710656), 12, '0')::macaddr",
    "point": lambda n: f"point(({n})::float8, 0)",
    "int4range": lambda n: f"int4range(({n} % 2147483646)::int4, ({n} % 2147483646)::int4 + 1)",
    "int8range": lambda n: f"int8range({n}, {n} + 1)",
    "numrange": lambda n: f"numrange(({n})::numeric, ({n})::numeric + 1)",
    "tstzrange": lambda n: (
        f"tstzrange(timestamptz '2000-01-01Z' + make_interval(secs => ({n} % 3000000000)::float8),"
        f" timestamptz '2000-01-01Z' + make_interval(secs => ({n} % 3000000000)::float8 + 1))"
    ),
    "tsvector": lambda n: f"to_tsvector('simple', to_hex({n}))",
    "xml": lambda n: f"('<v>' || ({n}) || '</v>')::xml",
}
_TEXT_TYPES = ("text", "varchar", "bpchar", "citext", "name", "char")


def random_share(ordinal: str, seed: str) -> str:
    """A number from 0 (included) to 1, the same for the same row and seed."""
    return f"((hashint8extended({ordinal}, hashtext({quote_literal(seed)})) & {_MASK})::float8 / {_MASK}.0)"


def value_number(column: ColumnStats, ordinal: str, rows: int, seed: str) -> str:
    """Which of the column's values a row has, as a number from 0: the most common ones as often as in production."""
    count = count_distinct(column, rows)
    common = (
        column.common_frequencies[: max(0, count - 1)]
        if count <= len(column.common_frequencies)
        else column.common_frequencies
    )
    share = random_share(ordinal, seed)
    if not common:
        return f"floor({share} * {count})::bigint"
    sums, total = [], 0.0
    for frequency in common:
        total += frequency
        sums.append(f"{total:.9f}")
    rest = max(1, count - len(common))
    left = max(1e-9, 1.0 - column.null_fraction - total)
    return (
        f"(CASE WHEN {share} < {total:.9f} THEN width_bucket({share}, ARRAY[{', '.join(sums)}]::float8[])"
        f" ELSE {len(common)} + floor(least(({share} - {total:.9f}) / {left:.9f}, 0.999999999) * {rest})::bigint END)"
    )


def null_condition(column: ColumnStats, ordinal: str, seed: str) -> str:
    """The condition under which a row has NULL there; the same draw as in :func:`value_number`, from its other end."""
    return f"{random_share(ordinal, seed)} >= {1.0 - column.null_fraction:.9f}"


def count_distinct(column: ColumnStats, rows: int) -> int:
    """How many different values the column has among so many rows."""
    if column.n_distinct < 0:
        return max(1, round(-column.n_distinct * rows))
    return max(1, min(rows, round(column.n_distinct)) if column.n_distinct else rows)


def value_expression(column: ColumnStats, number: str) -> str | None:
    """The value for a number, in the column's type; None for a type that cannot be generated."""
    if column.element is not None:
        one = _scalar_expression(column.element, column, number)
        return f"ARRAY[{one}]::{column.type}" if one else None
    made = _scalar_expression(column.base, column, number)
    return f"({made})::{column.type}" if made else None


def _scalar_expression(base: str, column: ColumnStats, number: str) -> str | None:
    if column.labels:
        listed = ", ".join(quote_literal(label) for label in column.labels)
        return f"(ARRAY[{listed}])[1 + ({number}) % {len(column.labels)}]"
    if base in _TEXT_TYPES:
        return _text_expression(base, column, number)
    if base in ("json", "jsonb"):
        return f"json_build_object('v', {number}, 'is', {_padding_expression(number, column.width - 20)})::{base}"
    if base == "bytea":
        return f"decode({_padding_expression(number, 2 * max(1, column.width - 1))}, 'hex')"
    if base == "numeric":
        return _numeric_expression(column.typmod, number)
    made = _NUMBER_EXPRESSIONS.get(base)
    return made(number) if made else None


def _text_expression(base: str, column: ColumnStats, number: str) -> str:
    wide = max(1, column.width - 1)  # without the length byte
    limit = column.typmod - 4 if column.typmod > 4 and base in ("varchar", "bpchar") else 63 if base == "name" else None
    if base == "char":
        return f'chr(97 + ({number} % 26)::int)::"char"'
    if limit is not None:
        wide = min(wide, limit)
    made = f"to_hex({number})"
    if wide > 4:
        made = f"rpad({made} || '-', greatest({wide}, length({made})), {_padding_expression(number, wide)})"
    return made if limit is None else f"left({made}, {limit})"


def _padding_expression(number: str, wide: int) -> str:
    wide = max(1, min(wide, _MAX_TEXT))
    once = f"md5(({number})::text)"
    return f"left(repeat({once}, {wide // 32 + 1}), {wide})"


def _numeric_expression(typmod: int, number: str) -> str:
    if typmod < 4:
        return f"({number})::numeric"
    precision, scale = (typmod - 4) >> 16 & 0xFFFF, (typmod - 4) & 0x7FF
    whole = 10 ** min(18, max(0, precision - scale))
    return f"({number} % {whole})::numeric" if whole > 1 else "0::numeric"

"""Sequences at cutover: before V3 inserts, the new side's sequences are past every value that the old side gave out."""

# ruff: noqa: S608  names are quoted

from dataclasses import dataclass

from zdd_tui.model.sql import quote_identifier, quote_literal, quote_qualified

GAP = 100_000
"""Values that the new side leaves to the old one, which gives out values too until the last pod of V2 is gone."""


@dataclass(frozen=True, slots=True)
class SequenceMove:
    """A sequence of the new side, and what it must be past.

    Attributes:
        new, old: schema and name of the sequences; no old one where the application makes the values.
        columns: of both sides, the new one first: schema, table, column. Empty where reading the highest value would
            read the whole table.
    """

    new: tuple[str, str]
    old: tuple[str, str] | None
    columns: tuple[tuple[str, str, str], ...] = ()

    @property
    def sql(self) -> str:
        """Sets the new side's sequence; does nothing where it is past those values already."""
        return _advance(self.new, self.old, self.columns, GAP)

    @property
    def undo_sql(self) -> str | None:
        """Sets the old side's sequence past the values that V3 has used."""
        return None if self.old is None else _advance(self.old, self.new, self.columns, 0)


def _advance(
    target: tuple[str, str], other: tuple[str, str] | None, columns: tuple[tuple[str, str, str], ...], gap: int
) -> str:
    sequence = f"{quote_literal(quote_qualified(*target)).strip()}::regclass"
    values = [
        f"SELECT max({quote_identifier(column)})::numeric AS high, min({quote_identifier(column)})::numeric AS low"
        f" FROM {quote_qualified(schema, table)}"
        for schema, table, column in columns
    ]
    if other is not None:
        last = f"pg_sequence_last_value({quote_literal(quote_qualified(*other)).strip()}::regclass)::numeric"
        values.append(f"SELECT {last} AS high, {last} AS low")
    return (
        f"SELECT setval({sequence}, CASE WHEN s.seqincrement > 0"
        f" THEN least(top.high + least({gap}, trunc((s.seqmax - top.high) / 2)), s.seqmax)"
        f" ELSE greatest(top.low - least({gap}, trunc((top.low - s.seqmin) / 2)), s.seqmin) END::bigint)\n"
        f"FROM pg_sequence s,"
        f" (SELECT max(v.high) AS high, min(v.low) AS low FROM ({' UNION ALL '.join(values)}) v) top\n"
        f"WHERE s.seqrelid = {sequence} AND top.high IS NOT NULL"
        f" AND CASE WHEN s.seqincrement > 0 THEN top.high >= s.seqmin"
        f" AND top.high > coalesce(pg_sequence_last_value({sequence}), s.seqmin - 1::numeric)"
        f" ELSE top.low <= s.seqmax"
        f" AND top.low < coalesce(pg_sequence_last_value({sequence}), s.seqmax + 1::numeric) END"
    )

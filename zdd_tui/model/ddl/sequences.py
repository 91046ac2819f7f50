"""Sequences at cutover: before V3 inserts, the new side's sequences are past every value that the old side gave out."""

# ruff: noqa: S608  names are quoted

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zdd_tui.model.sql import quote_identifier, quote_literal, quote_qualified

GAP = 100_000
"""The least number of values that the new side leaves to the old one, which gives out values too until the last pod of
V2 is gone."""
GAP_SECONDS = 86_400
"""For that long the old side may give out values at its present rate."""
MIN_GAP_SECONDS = 3_600
"""With less room than that, V3 is not rolled out."""


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
        return self.sql_with_gap(GAP)

    def sql_with_gap(self, gap: int) -> str:
        """As :attr:`sql`, with so many values between both; fewer where the sequence ends."""
        return _advance(self.new, self.old, self.columns, gap)

    @property
    def room_sql(self) -> str:
        """Reads how many values the sequence of the new side has left, and the last value of the old one."""
        new, old = _regclass(self.new), _regclass(self.old or self.new)
        last = f"pg_sequence_last_value({old})::numeric"
        return (
            f"SELECT abs(CASE WHEN s.seqincrement > 0 THEN s.seqmax - coalesce({last}, s.seqmin)"
            f" ELSE coalesce({last}, s.seqmax) - s.seqmin END) AS room, {last} AS last"
            f" FROM pg_sequence s WHERE s.seqrelid = {new}"
        )

    @property
    def undo_sql(self) -> str | None:
        """Sets the old side's sequence past the values that V3 has used."""
        return None if self.old is None else _advance(self.old, self.new, self.columns, 0)


@dataclass(frozen=True, slots=True)
class SequencePair:
    """Two sequences that give out values of one key at the same time: the upper one is ahead of the lower one.

    Where the lower one comes near, it is set past the upper one, and then it is the upper one.

    Attributes:
        boundary: the upper one has given out no value below it.
        gap: how far the lower one was from it.
    """

    lower: tuple[str, str]
    upper: tuple[str, str]
    boundary: int
    gap: int

    @property
    def last_values_sql(self) -> str:
        """Reads the last values of both, the direction in which they count, and the lower one's end."""
        return (
            f"SELECT pg_sequence_last_value({_regclass(self.lower)}) AS lower,"
            f" pg_sequence_last_value({_regclass(self.upper)}) AS upper, s.seqincrement AS increment,"
            f" s.seqmax AS maximum FROM pg_sequence s WHERE s.seqrelid = {_regclass(self.lower)}"
        )

    def next_pair(self, lower: int, upper: int, maximum: int) -> "SequencePair | None":
        """The pair after the lower one was set to its boundary; None where it need not be, or has no room."""
        # Where a step was interrupted after the sequence was set, the lower one is above: it never goes back.
        target = max(lower, upper, self.boundary) + self.gap
        if lower < self.boundary - self.gap // 2 or target >= maximum:
            return None
        return SequencePair(self.upper, self.lower, target, self.gap)

    @property
    def set_upper_sql(self) -> str:
        return f"SELECT setval({_regclass(self.upper)}, {self.boundary})"

    def to_json(self) -> list[object]:
        return [[*self.lower], [*self.upper], self.boundary, self.gap]

    @classmethod
    def from_json(cls, document: Sequence[Any]) -> "SequencePair":
        lower, upper, boundary, gap = document
        return cls((lower[0], lower[1]), (upper[0], upper[1]), boundary, gap)


def _regclass(pair: tuple[str, str]) -> str:
    return f"{quote_literal(quote_qualified(*pair)).strip()}::regclass"


def _advance(
    target: tuple[str, str], other: tuple[str, str] | None, columns: tuple[tuple[str, str, str], ...], gap: int
) -> str:
    sequence = _regclass(target)
    values = [
        f"SELECT max({quote_identifier(column)})::numeric AS high, min({quote_identifier(column)})::numeric AS low"
        f" FROM {quote_qualified(schema, table)}"
        for schema, table, column in columns
    ]
    if other is not None:
        last = f"pg_sequence_last_value({_regclass(other)})::numeric"
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

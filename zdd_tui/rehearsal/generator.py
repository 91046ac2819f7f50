"""Which number each column of a made-up row is made from: keys count up, foreign keys point at rows that exist."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from zdd_tui.model.sql import literal
from zdd_tui.rehearsal.table_stats import ColumnShape, ForeignKey, TableShape
from zdd_tui.rehearsal.value_sql import distinct_values, is_null, spread, value

_DEEP = 6
"""Foreign keys that are followed through keys that are foreign keys themselves."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a CHECK allows a column: some values, numbers from one to another, or what another column holds."""

    values: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    same_as: str = ""


@dataclass(slots=True)
class Generator:
    """Makes the rows of one table.

    Attributes:
        rows: how many will be made.
        others: the generators of all tables, by (schema, name); foreign keys look there.
        choices: what was learned from CHECK constraints.
        unmade: columns of a type for which no value can be made.
    """

    shape: TableShape
    rows: int
    others: Mapping[tuple[str, str], "Generator"]
    choices: dict[str, Choice] = field(default_factory=dict)
    unmade: set[str] = field(default_factory=set)

    def expression(self, name: str, ordinal: str = "g.i", deep: int = 0) -> str:
        """The SQL of a column's value in the row of that number (from 1 up)."""
        column = self.shape.column(name)
        key = self.foreign_key_of(name)
        if key is not None and deep < _DEEP and (parent := self.others.get((key.schema, key.table))) is not None:
            return self._reference(column, key, parent, ordinal, deep)
        if choice := self.choices.get(name):
            return self._chosen(column, choice, ordinal, deep)
        number = self.unique_number(name, ordinal)
        drawn = number or spread(column, ordinal, self.rows, self._seed(name))
        made = value(column, drawn)
        if made is None:
            self.unmade.add(name)
            return f"NULL::{column.type}"
        if number:
            return made
        if column.usual:
            made = f"CASE WHEN {drawn} = 0 THEN {column.usual} ELSE {made} END"
        return self._nullable(column, made, ordinal, name)

    def foreign_key_of(self, name: str) -> ForeignKey | None:
        """The foreign key that decides a column; that of most columns where several do."""
        return next((key for key in self.shape.foreign if name in key.columns), None)

    def unique_number(self, name: str, ordinal: str) -> str | None:
        """The number that no other row has in this column, or in this column together with its index's others.

        All but the last column of an index count like digits, the last one goes on for ever.
        """
        for columns in self.shape.unique:
            if name not in columns or any(self._alone(other) for other in columns if len(columns) > 1):
                continue
            order = sorted(columns, key=lambda c: (self.foreign_key_of(c) is None, self._span(c)))
            product = 1
            for other in order[:-1]:
                if other == name:
                    return f"(({ordinal} / {product}) % {self._span(other)})"
                product *= self._span(other)
            return f"({ordinal} / {product})" if product > 1 else f"({ordinal})"
        return None

    def _alone(self, name: str) -> bool:
        return any(columns == (name,) for columns in self.shape.unique)

    def _span(self, name: str) -> int:
        column = self.shape.column(name)
        if column.labels:
            return len(column.labels)
        return 2 if column.base == "bool" else distinct_values(column, self.rows)

    def _reference(self, column: ColumnShape, key: ForeignKey, parent: "Generator", ordinal: str, deep: int) -> str:
        first = self.shape.column(key.columns[0])
        number = self.unique_number(key.columns[0], ordinal)
        seed = self._seed(",".join(key.columns))
        chosen = f"(1 + ({number or spread(first, ordinal, self.rows, seed)} % {max(1, parent.rows)}))"
        made = parent.expression(key.refers[key.columns.index(column.name)], chosen, deep + 1)
        nulls = next((c for n in key.columns if not (c := self.shape.column(n)).not_null and c.nulls > 0), None)
        if number or nulls is None:
            return made
        return f"CASE WHEN {is_null(nulls, ordinal, seed)} THEN NULL ELSE {made} END"

    def _chosen(self, column: ColumnShape, choice: Choice, ordinal: str, deep: int) -> str:
        if choice.same_as:
            return self.expression(choice.same_as, ordinal, deep + 1)
        number = self.unique_number(column.name, ordinal) or spread(column, ordinal, self.rows, self._seed(column.name))
        if choice.values:
            listed = ", ".join(literal(one) for one in choice.values)
            made = f"((ARRAY[{listed}])[1 + {number} % {len(choice.values)}])::{column.type}"
        else:
            low = choice.low if choice.low is not None else (choice.high or 0) - 1000
            span = (choice.high - low + 1) if choice.high is not None else 1_000_000_000
            made = f"({low} + ({number} % {max(1, span)}))::{column.type}"
        return self._nullable(column, made, ordinal, column.name)

    def _nullable(self, column: ColumnShape, made: str, ordinal: str, name: str) -> str:
        if column.not_null or column.nulls <= 0:
            return made
        return f"CASE WHEN {is_null(column, ordinal, self._seed(name))} THEN NULL ELSE {made} END"

    def _seed(self, name: str) -> str:
        return f"{self.shape.name}.{name}"

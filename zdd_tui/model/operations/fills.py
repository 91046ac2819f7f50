"""The statements of a fill: pages of a table in the order of its key, or of its blocks, and the batch of each."""

# ruff: noqa: S608  names are quoted, expressions are those of the plan's statements, values are parameters

import re
from collections.abc import Iterable
from dataclasses import dataclass

from zdd_tui.model.ddl.catalog import Catalog, CatalogColumn, Table
from zdd_tui.model.ddl.rows import (
    bounds_condition,
    key_condition,
    key_expressions,
    key_texts,
    last_key_statement,
    page_statement,
    range_ends_statement,
)
from zdd_tui.model.errors import StepFailed
from zdd_tui.model.operations.base import Fill, OperationStep, relation_sql, same_table
from zdd_tui.model.plan.base import Backfill
from zdd_tui.model.sql import (
    node_class,
    parse_sql,
    quote_identifier,
    quote_literal,
    quote_names,
    quote_qualified,
    tokens,
    walk,
)

_SETS_ROLE = re.compile(r"SET LOCAL role\b|SELECT pg_catalog\.set_config\('role'", re.IGNORECASE)

CTID = CatalogColumn("ctid", "tid", not_null=True)
"""The block and position of a row, in place of a key. An UPDATE moves the row, perhaps into a page that is done."""


def without_role(settings: Iterable[str]) -> tuple[str, ...]:
    """The settings of a migration but for its role."""
    return tuple(each for each in settings if not _SETS_ROLE.match(each))


def may_add_rows(step: OperationStep, table: str) -> bool:
    """Whether a step's statements insert rows into a table, or run code that may.

    Args:
        table: as SQL.
    """
    whole = (step.fill.statement,) if step.fill is not None and step.fill.statement else ()
    for node in (node for sql in (*step.statements, *whole) for node in walk(parse_sql(sql))):
        match node_class(node):
            case "DoStmt" | "CallStmt" | "ExecuteStmt":
                return True
            case "InsertStmt" | "MergeStmt" if same_table(relation_sql(node.relation)) == same_table(table):
                return True
    return False


@dataclass(frozen=True, slots=True)
class FillJob:
    """A fill in one database; a :class:`zdd_tui.model.ddl.jobs.BackfillJob`.

    Attributes:
        step: the name of the step; unique in the release.
        found: the table as the database has it.
        key: columns of a unique index, none of them NULL, in its order; or :data:`CTID` alone.
        own_settings: of the migration, as :attr:`zdd_tui.model.operations.base.OperationStep.settings`.
    """

    step: str
    fill: Fill
    found: Table
    key: tuple[CatalogColumn, ...]
    limits: Backfill
    own_settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """
        Raises:
            StepFailed: an expression holds a parameter, which would stand for a bound of the batch.
        """
        fill = self.fill
        for text in (*(value for _, value in fill.values), fill.only_where, fill.source):
            if any(token.kind == "parameter" for token in tokens(text)):
                raise StepFailed(f"{fill.table}: {text} holds a parameter such as $1", "write its value into the SQL")

    @property
    def name(self) -> str:
        return self.step

    @property
    def table(self) -> Table:
        return self.found

    @property
    def written_tables(self) -> tuple[str, ...]:
        return (self.found.sql, *([self._into] if self.fill.into else []))

    @property
    def read_tables(self) -> tuple[str, ...]:
        return (self.found.sql,)

    @property
    def settings(self) -> str:
        """Names mean what they mean to the statements of the same migration. The role stays the agent's, because the
        checkpoint is written in the same transaction."""
        return "; ".join(without_role(self.own_settings))

    @property
    def is_by_block(self) -> bool:
        """Whether the pages follow the table's blocks, because it has no key."""
        return self.key == (CTID,)

    def last_key(self) -> str:
        if not self.is_by_block:
            return last_key_statement(self._catalog)
        blocks = (
            f"pg_relation_size(to_regclass({quote_literal(self.found.sql)})) / current_setting('block_size')::bigint"
        )
        return f"SELECT '(' || blocks || ',0)' AS k1 FROM (SELECT {blocks} AS blocks) AS file WHERE blocks > 0"

    def range_ends(self) -> str:
        if not self.is_by_block:
            return range_ends_statement(self._catalog)
        return (
            "SELECT '(' || number * split_part(substr($1::text, 2), ',', 1)::bigint / $3::integer || ',0)' AS k1\n"
            "FROM generate_series(1, $3::integer) AS number WHERE $2::real IS NOT NULL ORDER BY number"
        )

    def page(self, *, first: bool, last: bool = False) -> str:
        if not self.is_by_block:
            return page_statement(self._catalog, first=first, last=last)
        # A scan by ctid reads in the order of ctid, so no sort is needed to take the first rows of the range.
        size = f"${1 + (not first) + (not last)}::bigint"
        bounds = bounds_condition(self._catalog, self.found, first=first, last=last)
        return (
            f"SELECT count(*) AS rows, max(page.place)::text AS k1 FROM (\n"
            f"  SELECT {quote_identifier(self.found.name)}.ctid AS place FROM {self.found.sql}\n"
            f"  WHERE {bounds} LIMIT {size}\n) AS page HAVING count(*) > 0"
        )

    def target_is_empty(self, *, first: bool) -> str:
        return ""

    def batch(self, *, first: bool, target_is_empty: bool = False) -> str:
        return self._write(bounds_condition(self._catalog, self._aliased, first=first))

    def batch_row(self) -> str:
        if self.fill.into:
            values = ", ".join(f"${number}::text::{each.type}" for number, each in enumerate(self.key, 1))
            return f"SELECT {self.fill.copy}({values})"
        return self._write(key_condition(self._catalog, self._aliased))

    def rows_left(self) -> str:
        if self.fill.is_once or self.fill.is_partial:
            return ""
        if self.fill.into:
            keys = [f"d.zdd_k{number}::text" for number in range(1, len(self.key) + 1)]
            selected = ", ".join(f"{each} AS k{number}" for number, each in enumerate(keys, 1))
            return (
                f"SELECT {selected} FROM {self.fill.differing}() AS d\n"
                f"WHERE jsonb_build_array({', '.join(keys)}) NOT IN (\n"
                f"  SELECT f.key FROM zdd.failed_row AS f WHERE f.release_id = $1::bigint AND f.job = $2::text)\n"
                f"LIMIT $3::bigint"
            )
        name = quote_identifier(self._aliased.name)
        key = key_expressions(self._catalog, self._aliased, "::text")
        source = f", {self.fill.source}" if self.fill.source else ""
        return (
            f"SELECT {key_texts(self._catalog, name)} FROM {self.found.sql} AS {name}{source}\n"
            f"WHERE ({self.fill.only_where}) AND jsonb_build_array({key}) NOT IN (\n"
            f"  SELECT f.key FROM zdd.failed_row AS f WHERE f.release_id = $1::bigint AND f.job = $2::text)\n"
            f"LIMIT $3::bigint"
        )

    def _write(self, page: str) -> str:
        name, fill = quote_identifier(self._aliased.name), self.fill
        if fill.into:
            columns = quote_names(each.name for each in self.found.columns if not each.is_generated)
            return (
                f"INSERT INTO {self._into} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM (\n"
                # Without the lock a row that is changed or deleted meanwhile would be written with its old values.
                f"  SELECT {columns} FROM {self.found.sql} AS {name} WHERE {page} FOR SHARE\n"
                f") AS {name} ON CONFLICT DO NOTHING"
            )
        where = f"WHERE {page}\n  AND ({fill.only_where})" if fill.only_where else f"WHERE {page}"
        if not fill.values:
            using = f" USING {fill.source}" if fill.source else ""
            return f"DELETE FROM {self.found.sql} AS {name}{using}\n{where}"
        values = ", ".join(f"{quote_identifier(column)} = {_value(expression)}" for column, expression in fill.values)
        source = f"\nFROM {fill.source}" if fill.source else ""
        return f"UPDATE {self.found.sql} AS {name} SET {values}{source}\n{where}"

    @property
    def _into(self) -> str:
        return quote_qualified(self.found.schema, self.fill.into)

    @property
    def _catalog(self) -> Catalog:
        return Catalog(self.found, self.found, self.key)

    @property
    def _aliased(self) -> Table:
        """The table under the name that the expressions use."""
        return Table(self.found.schema, self.fill.alias or self.found.name, ())


def _value(expression: str) -> str:
    return expression if expression.strip().upper() == "DEFAULT" else f"({expression})"

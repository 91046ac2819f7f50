"""What V1, V2 and V3 of an application write, as SQL over whole rows that exist already.

A new row is a copy of another with fresh keys, a change takes the changed columns from another row: so foreign keys,
checks and enums are met without knowing them.
"""

# ruff: noqa: S608  names are quoted by ident(), expressions have passed the lint, values are parameters

from collections.abc import Sequence
from dataclasses import dataclass

from zdd_tui.model.ddl import search_path
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.plan.base import Plan
from zdd_tui.model.sql import quote_identifier
from zdd_tui.rehearsal.expected_rows import REHEARSAL_SCHEMA, ExpectedRows
from zdd_tui.rehearsal.table_stats import TableStats
from zdd_tui.rehearsal.value_sql import value_expression

NEXT_ORDINAL = f"currval('{REHEARSAL_SCHEMA}.ordinal')"
"""A number that no row was made from; the writer's session has drawn it right before."""


@dataclass(frozen=True, slots=True)
class WriteStatements:
    """What one version of the application writes; parameters are keys as texts, one a column.

    Attributes:
        insert: makes a row like that of the key; returns the new row's key. None where it cannot be made.
        update: gives the row of the first key what the row of the second has.
        delete: takes the row away.
        after: what follows each of the first two in the same transaction, on the row that was written.
        after_delete: what follows a delete.
    """

    insert: str | None
    update: str | None
    delete: str
    after: tuple[str, ...]
    after_delete: tuple[str, ...]


class StatementBuilder:
    """Builds the statements of a plan.

    Args:
        old: structure of the old table before expand.
        new: structure of the target table after expand.
    """

    def __init__(
        self, plan: Plan, catalog: Catalog, old: TableStats, new: TableStats, expected_rows: ExpectedRows
    ) -> None:
        self._plan = plan
        self._catalog = catalog
        self._old = old
        self._new = new
        self._expected_rows = expected_rows
        self._key = list(catalog.key_names)
        self.search_path = search_path(plan)

    def old_side_statements(self, *, dual_write: bool) -> WriteStatements:
        """V1, and V2: ``dual_write`` is V2 while the write flag is on and no trigger does its work."""
        alias = quote_identifier(self._old.name)
        follow = [self._copy_to_new_side()] if dual_write else []
        save = self._expected_rows.record_old_statement(self._match_key(alias))
        gone = (
            [f"DELETE FROM {self._new.sql} AS t WHERE {self._match_key('t')}"]
            if dual_write and self._has_two_tables
            else []
        )
        return WriteStatements(
            self._insert(self._old, leave=set(self._plan.change.up) if not self._has_two_tables else set()),
            self._update(self._old, list(self._plan.change.down)),
            f"DELETE FROM {self._old.sql} AS t WHERE {self._match_key('t')}",
            (*follow, save),
            (*gone, self._record_delete()),
        )

    def new_side_statements(self) -> WriteStatements:
        """V3, which knows nothing of the old columns."""
        down = set() if self._has_two_tables else set(self._plan.change.down)
        return WriteStatements(
            self._insert(self._new, leave=down),
            self._upsert() if self._has_two_tables else self._update(self._new, list(self._plan.change.up)),
            f"DELETE FROM {self._new.sql} AS t WHERE {self._match_key('t')}",
            (self._expected_rows.record_new_statement(self._new.sql, self._match_key("w")),),
            (self._record_delete(),),
        )

    @property
    def sample_keys(self) -> str:
        """Some keys of the old table, as texts. Parameter: how many."""
        listed = ", ".join(f"t.{quote_identifier(name)}::text" for name in self._key)
        return f"SELECT {listed} FROM {self._old.sql} AS t ORDER BY random() LIMIT $1::bigint"

    @property
    def _has_two_tables(self) -> bool:
        return self._plan.change.kind == "table"

    def _match_key(self, alias: str, first: int = 1) -> str:
        return " AND ".join(
            f"{alias}.{quote_identifier(column.name)} = ${number}::text::{column.type}"
            for number, column in enumerate(self._catalog.key, first)
        )

    def _record_delete(self) -> str:
        key = ", ".join(f"${n}::text::{c.type}::text" for n, c in enumerate(self._catalog.key, 1))
        return (
            f"INSERT INTO {REHEARSAL_SCHEMA}.expected (key, gone) VALUES (jsonb_build_array({key})::text, true)"
            " ON CONFLICT (key) DO UPDATE SET gone = true"
        )

    def _insert(self, table: TableStats, leave: set[str]) -> str | None:
        foreign = {name for key in table.foreign_keys for name in key.columns}
        if any(foreign >= set(columns) for columns in table.unique):
            return None  # one row for each of another table's: only that one's writer could make more
        unique = {name for columns in table.unique for name in columns} - foreign
        names, values = [], []
        for column in table.insertable_columns:
            if column.name in leave or (column.has_server_default and column.name in unique):
                continue
            fresh = column.name in unique
            made = value_expression(column, NEXT_ORDINAL) if fresh else f"t.{quote_identifier(column.name)}"
            if made is None:
                return None
            names.append(quote_identifier(column.name))
            values.append(made)
        returned = ", ".join(f"{quote_identifier(name)}::text" for name in self._key)
        if not names:
            return None
        return (
            f"INSERT INTO {table.sql} ({', '.join(names)}) OVERRIDING USER VALUE"
            f" SELECT {', '.join(values)} FROM {table.sql} AS t WHERE {self._match_key('t')} RETURNING {returned}"
        )

    def _update(self, table: TableStats, columns: Sequence[str]) -> str | None:
        """Columns that an index keeps unique stay as they are: a copy would not be let in."""
        free = self._updatable_columns(table, columns)
        if not free:
            return None
        names = ", ".join(quote_identifier(name) for name in free)
        taken = ", ".join(f"o.{quote_identifier(name)}" for name in free)
        return (
            f"UPDATE {table.sql} AS t SET ({names}) = (SELECT {taken} FROM {table.sql} AS o"
            f" WHERE {self._match_key('o', 1 + len(self._key))}) WHERE {self._match_key('t')}"
            f" AND EXISTS (SELECT FROM {table.sql} AS o WHERE {self._match_key('o', 1 + len(self._key))})"
        )

    def _upsert(self) -> str | None:
        """Writers of a new table upsert, so that they lock in the same order as the old one's."""
        free = self._updatable_columns(self._new, list(self._plan.change.up))
        if not free:
            return None
        names, values = [], []
        for column in self._new.insertable_columns:
            names.append(quote_identifier(column.name))
            source = "t" if column.name in self._key or column.name not in free else "o"
            values.append(f"{source}.{quote_identifier(column.name)}")
        sets = ", ".join(f"{quote_identifier(name)} = EXCLUDED.{quote_identifier(name)}" for name in free)
        keys = ", ".join(quote_identifier(name) for name in self._key)
        return (
            f"INSERT INTO {self._new.sql} ({', '.join(names)}) OVERRIDING SYSTEM VALUE SELECT {', '.join(values)}"
            f" FROM {self._new.sql} AS t, {self._new.sql} AS o"
            f" WHERE {self._match_key('t')} AND {self._match_key('o', 1 + len(self._key))}"
            f" ON CONFLICT ({keys}) DO UPDATE SET {sets}"
        )

    def _updatable_columns(self, table: TableStats, columns: Sequence[str]) -> list[str]:
        unique = {name for index in table.unique for name in index} | set(self._key)
        given = {column.name for column in table.insertable_columns}
        return [name for name in columns if name not in unique and name in given]

    def _copy_to_new_side(self) -> str:
        """The second half of a dual write: the new columns from the old ones, in the same transaction."""
        change = self._plan.change
        names = ", ".join(quote_identifier(name) for name in change.up)
        alias = quote_identifier(change.table.name)
        if not self._has_two_tables:
            made = ", ".join(f"({text})" for text in change.up.values())
            return f"UPDATE {self._old.sql} AS {alias} SET ({names}) = ROW({made}) WHERE {self._match_key(alias)}"
        keys = ", ".join(quote_identifier(name) for name in self._key)
        values = ", ".join(
            [f"{alias}.{quote_identifier(name)}" for name in self._key] + [f"({t})" for t in change.up.values()]
        )
        sets = ", ".join(f"{quote_identifier(name)} = EXCLUDED.{quote_identifier(name)}" for name in change.up)
        return (
            f"INSERT INTO {self._new.sql} ({keys}, {names}) OVERRIDING SYSTEM VALUE SELECT {values}"
            f" FROM {self._old.sql} AS {alias} WHERE {self._match_key(alias)} ON CONFLICT ({keys}) DO UPDATE SET {sets}"
        )

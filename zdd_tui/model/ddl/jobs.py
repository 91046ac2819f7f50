"""What a backfill writes: a table in key order, and the statements of its pages and batches.

Two kinds exist: the rows of a ``change:``, here, and the values of an operation's step, in
:mod:`zdd_tui.model.operations.fills`.
"""

from dataclasses import dataclass
from typing import Protocol

from zdd_tui.model.ddl.catalog import Catalog, Table
from zdd_tui.model.ddl.names import ARCHIVE_SCHEMA, WITNESS_SETTING, search_path
from zdd_tui.model.ddl.rows import (
    batch_row_statement,
    batch_statement,
    last_key_statement,
    page_statement,
    range_ends_statement,
    target_is_empty_statement,
)
from zdd_tui.model.plan.base import Backfill, Plan
from zdd_tui.model.sql import quote_qualified


class BackfillJob(Protocol):
    """The rows that one backfill writes. Keys are passed as text, as in :mod:`zdd_tui.model.ddl.rows`."""

    @property
    def name(self) -> str:
        """In the tables of the store; unique in the release. Empty for the rows of a change."""
        ...

    @property
    def limits(self) -> Backfill:
        """The limits of the plan."""
        ...

    @property
    def table(self) -> Table:
        """The table whose pages are read."""
        ...

    @property
    def written_tables(self) -> tuple[str, ...]:
        """The quoted names of the tables that the throttles look at."""
        ...

    @property
    def read_tables(self) -> tuple[str, ...]:
        """The quoted names of the tables of which the role must see every row."""
        ...

    @property
    def settings(self) -> str:
        """``SET LOCAL`` statements for the start of a transaction, beside those of every backfill; may be empty."""
        ...

    def last_key(self) -> str:
        """The greatest key; no row where the table is empty. No parameters."""
        ...

    def range_ends(self) -> str:
        """As :func:`zdd_tui.model.ddl.rows.range_ends_statement`."""
        ...

    def page(self, *, first: bool, last: bool = False) -> str:
        """As :func:`zdd_tui.model.ddl.rows.page_statement`."""
        ...

    def target_is_empty(self, *, first: bool) -> str:
        """Whether the target has no row of a page; empty where a batch does not ask. Parameters: the bounds."""
        ...

    def batch(self, *, first: bool, target_is_empty: bool = False) -> str:
        """Writes the rows of a page. Parameters: the bounds."""
        ...

    def batch_row(self) -> str:
        """Writes one row. Parameters: its key."""
        ...

    def rows_left(self) -> str:
        """Keys of rows that a finished backfill must not leave; empty where nothing can be left behind.

        Parameters: the release's id, the name of the job, the number of keys. Failed rows are left out.
        """
        ...


@dataclass(frozen=True, slots=True)
class ChangeJob:
    """The rows of a ``change:``: ``up`` computes the new side of each from its old side."""

    plan: Plan
    catalog: Catalog

    @property
    def name(self) -> str:
        return ""

    @property
    def limits(self) -> Backfill:
        return self.plan.backfill

    @property
    def table(self) -> Table:
        return self.catalog.old

    @property
    def written_tables(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.catalog.old.sql, self.catalog.new_table.sql)))

    @property
    def read_tables(self) -> tuple[str, ...]:
        return list_read_tables(self.plan)

    @property
    def settings(self) -> str:
        return change_settings(self.plan)

    def last_key(self) -> str:
        return last_key_statement(self.catalog)

    def range_ends(self) -> str:
        return range_ends_statement(self.catalog)

    def page(self, *, first: bool, last: bool = False) -> str:
        return page_statement(self.catalog, first=first, last=last)

    def target_is_empty(self, *, first: bool) -> str:
        return target_is_empty_statement(self.catalog, first=first) if self.plan.change.kind == "table" else ""

    def batch(self, *, first: bool, target_is_empty: bool = False) -> str:
        return batch_statement(self.plan, self.catalog, first=first, target_is_empty=target_is_empty)

    def batch_row(self) -> str:
        return batch_row_statement(self.plan, self.catalog)

    def rows_left(self) -> str:
        return ""  # the verification compares every row


def change_settings(plan: Plan) -> str:
    """The settings of every transaction that writes or compares rows of a change."""
    return f"SET LOCAL {WITNESS_SETTING} = 'off'; SET LOCAL search_path = {search_path(plan)}"


def list_read_tables(plan: Plan) -> tuple[str, ...]:
    """The quoted names of the tables that a release reads: the old one, at both of its places, and the new one."""
    old, new = plan.change.table, plan.change.target_table
    names = ((old.schema_, old.name), (ARCHIVE_SCHEMA, old.name), (new.schema_, new.name))
    return tuple(dict.fromkeys(quote_qualified(*name) for name in names))

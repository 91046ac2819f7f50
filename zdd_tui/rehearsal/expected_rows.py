"""What every row must hold, kept beside the tables by everybody who writes; and what does not agree with it.

For each key: a digest of the old columns (where the last writer knew them), a digest of the new ones, and whether
the row was deleted. After every rollback the old side must hold the same, and at the end the new side.
"""

# ruff: noqa: S608  names are quoted by ident(), expressions have passed the lint, values are parameters

from collections.abc import Mapping
from dataclasses import dataclass

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.model.ddl.catalog import Catalog
from zdd_tui.model.plan.base import Plan, TableName
from zdd_tui.model.sql import quote_identifier, quote_qualified

REHEARSAL_SCHEMA = "zdd_rehearsal"

CREATE_EXPECTED = f"""
CREATE SCHEMA {REHEARSAL_SCHEMA};
CREATE SEQUENCE {REHEARSAL_SCHEMA}.ordinal;
CREATE TABLE {REHEARSAL_SCHEMA}.expected (
  key text PRIMARY KEY, old text, want text, gone boolean NOT NULL DEFAULT false
) WITH (autovacuum_enabled = off);
"""

_INSERT = f"INSERT INTO {REHEARSAL_SCHEMA}.expected (key, old, want)"
_SAVE = "ON CONFLICT (key) DO UPDATE SET old = EXCLUDED.old, want = EXCLUDED.want, gone = false"


@dataclass(frozen=True, slots=True)
class RowDiff:
    """What a comparison found.

    Attributes:
        rows: how many rows were compared.
        missing: rows that are not there any more.
        unexpected: rows that no writer wrote.
        changed: rows that hold something else than was written.
        sample: the key of one of them, empty where there is none.
    """

    rows: int
    missing: int
    unexpected: int
    changed: int
    sample: str = ""

    @property
    def total(self) -> int:
        return self.missing + self.unexpected + self.changed


class ExpectedRows:
    """Builds the statements; the old table is in its place whenever its side is compared.

    Args:
        types: type of each new column, as the expand makes it.
    """

    def __init__(self, plan: Plan, catalog: Catalog, types: Mapping[str, str]) -> None:
        self.catalog = catalog
        self.types = types
        self._key = [column.name for column in catalog.key]
        self._old = list(dict.fromkeys([*plan.change.down, *catalog.up_source_columns]))
        self._up_expressions = {name: f"CAST(({plan.change.up[name]}) AS {types[name]})" for name in plan.change.up}
        self.old_table = catalog.old.sql
        self._alias = quote_identifier(plan.change.table.name)

    def _old_rows(self) -> str:
        """Of each row of the old table: key, digest of the old columns, digest of what the new ones must be."""
        old = ", ".join(f"{self._alias}.{quote_identifier(name)}" for name in self._old)
        new = ", ".join(self._up_expressions.values())
        return (
            f"SELECT {self._key_text(self._alias)}, md5(ROW({old})::text), md5(ROW({new})::text)"
            f" FROM {self.old_table} AS {self._alias}"
        )

    def _new_rows(self, table: str) -> str:
        """The same of the new table, here called ``w``; who writes it knows nothing of the old columns."""
        new = ", ".join(f"w.{quote_identifier(name)}" for name in self._up_expressions)
        return f"SELECT {self._key_text('w')}, NULL::text, md5(ROW({new})::text) FROM {table} AS w"

    def _key_text(self, alias: str) -> str:
        return f"jsonb_build_array({', '.join(f'{alias}.{quote_identifier(name)}::text' for name in self._key)})::text"

    async def record_all(self, conn: Connection) -> int:
        """Writes down all rows as they are; returns how many."""
        await conn.execute(f"TRUNCATE {REHEARSAL_SCHEMA}.expected")
        text = await conn.execute(f"{_INSERT} {self._old_rows()}")
        await conn.execute(f"ANALYZE {REHEARSAL_SCHEMA}.expected")
        return int(str(text).rpartition(" ")[2])

    def record_old_statement(self, condition: str) -> str:
        """The statement by which a writer of the old side records what it wrote."""
        return f"{_INSERT} {self._old_rows()} WHERE {condition} {_SAVE}"

    def record_new_statement(self, table: str, condition: str) -> str:
        """The same for a writer of the new side, whose rows are called ``w`` in the condition."""
        return f"{_INSERT} {self._new_rows(table)} WHERE {condition} {_SAVE}"

    async def compare_old(self, conn: Connection) -> RowDiff:
        """The old side against what was written, after a rollback."""
        return await self._compare(conn, self._old_rows())

    async def compare_new(self, conn: Connection, target: TableName) -> RowDiff:
        """The new side against what was written, at the end of the way forward."""
        return await self._compare(conn, self._new_rows(quote_qualified(target.schema_, target.name)))

    async def _compare(self, conn: Connection, rows: str) -> RowDiff:
        found = await conn.fetchrow(
            f"WITH found (key, old, want) AS ({rows}),"
            " pairs AS (SELECT coalesce(e.key, i.key) AS key,"
            "   i.key IS NULL AND NOT e.gone AS missing,"
            "   i.key IS NOT NULL AND coalesce(e.gone, true) AS unexpected,"
            "   i.key IS NOT NULL AND NOT e.gone AND (i.want IS DISTINCT FROM e.want"
            "     OR (i.old IS NOT NULL AND e.old IS NOT NULL AND i.old <> e.old)) AS changed"
            f" FROM {REHEARSAL_SCHEMA}.expected e FULL JOIN found i ON i.key = e.key)"
            " SELECT count(*) AS rows, count(*) FILTER (WHERE missing) AS missing,"
            " count(*) FILTER (WHERE unexpected) AS unexpected, count(*) FILTER (WHERE changed) AS changed,"
            " coalesce(min(key) FILTER (WHERE missing OR unexpected OR changed), '') AS sample FROM pairs"
        )
        assert found is not None
        return RowDiff(**dict(found))


async def check_round_trip(conn: Connection, plan: Plan, catalog: Catalog, types: Mapping[str, str]) -> tuple[int, int]:
    """Whether what V3 writes is unchanged after a rollback to the old side.

    Returns:
        rows whose new columns would change (a loss), and rows whose old columns would come back in another form that
        means the same.

    Raises:
        asyncpg.PostgresError: an expression fails on a row.
    """
    change, columns = plan.change, catalog.old.column
    names = dict.fromkeys([*change.down, *catalog.up_source_columns, *catalog.key_names, *catalog.down_source_columns])
    reads = [name for name in names if columns(name) is not None]
    kept = ", ".join(f"zdd_k{n}" for n in range(len(reads)))
    up = {name: f"CAST(({text}) AS {types[name]})" for name, text in change.up.items()}
    down = {name: f"CAST(({text}) AS {c.type})" for name, text in change.down.items() if (c := columns(name))}
    old, new = quote_identifier(change.table.name), quote_identifier(change.target_table.name)
    # Four layers: a row; what V3 sees of it; what the rollback makes of that; what V2 sees then.
    first = ", ".join(f"{quote_identifier(name)}, {quote_identifier(name)} AS zdd_k{n}" for n, name in enumerate(reads))
    row = f"(SELECT {first} FROM {catalog.old.sql} AS {old}) AS {old}"
    shared = [quote_identifier(name) for name in reads if name not in up and name not in change.down]
    seen = f"(SELECT {', '.join([kept, *shared, *_aliased(up)])} FROM {row}) AS {new}"
    carried = [f"zdd_k{n} AS {quote_identifier(name)}" for n, name in enumerate(reads) if name not in down]
    saw = [f"{quote_identifier(name)} AS zdd_n{n}" for n, name in enumerate(up)]
    back = f"(SELECT {', '.join([kept, *carried, *saw, *_aliased(down)])} FROM {seen}) AS {old}"
    changed = " OR ".join(f"({text})::text IS DISTINCT FROM zdd_n{n}::text" for n, text in enumerate(up.values()))
    rewritten = " OR ".join(
        f"{quote_identifier(name)}::text IS DISTINCT FROM zdd_k{n}::text"
        for n, name in enumerate(reads)
        if name in down
    )
    found = await conn.fetchrow(
        f"SELECT count(*) FILTER (WHERE {changed}) AS changed,"
        f" count(*) FILTER (WHERE ({rewritten}) AND NOT ({changed})) AS rewritten FROM {back}"
    )
    assert found is not None
    return int(found["changed"]), int(found["rewritten"])


def _aliased(made: Mapping[str, str]) -> list[str]:
    return [f"{text} AS {quote_identifier(name)}" for name, text in made.items()]

"""Fills the copy's tables with generated rows, and lists what could not be generated."""

# ruff: noqa: S608  names are quoted, expressions are built by us from types, values of ours are literals

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.model.sql import quote_identifier
from zdd_tui.rehearsal.generator import RowGenerator, read_allowed_values
from zdd_tui.rehearsal.table_stats import TableStats

PROBE_ROWS = 2000
"""Rows that are tried against the CHECK constraints before the table is filled."""

POPULATE_TIMEOUT = 3600.0


@dataclass(slots=True)
class PopulateResult:
    """What was made.

    Attributes:
        rows: by table.
        notes: what could not be satisfied.
    """

    rows: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def make_generators(
    tables: Mapping[tuple[str, str], TableStats], rows: Mapping[tuple[str, str], int]
) -> dict[Any, RowGenerator]:
    """One for each table, each knowing all."""
    made: dict[tuple[str, str], RowGenerator] = {}
    for name, table in tables.items():
        made[name] = RowGenerator(table, rows[name], made, read_allowed_values(table))
    return made


async def populate(conn: Connection, makers: Mapping[tuple[str, str], RowGenerator]) -> PopulateResult:
    """Fills every table. Triggers rest meanwhile, as they did their work on production's rows long ago."""
    filled = PopulateResult()
    await conn.execute("SET session_replication_role = replica")
    try:
        for generator in makers.values():
            await _check_sample_rows(conn, generator, filled)
            filled.rows[str(generator.shape)] = await _populate_table(conn, generator, filled)
        for generator in makers.values():
            await _repair_references(conn, generator, makers, filled)
    finally:
        await conn.execute("SET session_replication_role = origin")
    return filled


async def set_sequences(conn: Connection, table: TableStats) -> None:
    """Sequences continue after the greatest value."""
    for column in table.columns:
        if not column.has_server_default:
            continue
        sequence = column.sequence or await conn.fetchval(
            "SELECT pg_get_serial_sequence($1, $2)", table.sql, column.name
        )
        if sequence:
            await conn.execute(
                "SELECT setval($1::text::regclass,"
                f" greatest((SELECT max({quote_identifier(column.name)}) FROM {table.sql}), 1))",
                sequence,
            )


async def _check_sample_rows(conn: Connection, maker: RowGenerator, filled: PopulateResult) -> None:
    """A constraint that made-up rows do not meet is left out of the copy: it would stop what production lets pass."""
    table = maker.shape
    if not table.checks or not maker.rows:
        return
    columns = ", ".join(f"{maker.expression(c.name)} AS {quote_identifier(c.name)}" for c in table.insertable_columns)
    for name, expression in table.checks:
        try:
            bad = await conn.fetchval(
                f"SELECT count(*) FILTER (WHERE NOT ({expression})) FROM (SELECT {columns}"
                f" FROM generate_series(1, {min(PROBE_ROWS, maker.rows)}::bigint) AS g (i))"
                f" AS {quote_identifier(table.name)}"
            )
        except asyncpg.PostgresError:
            continue  # it reads what the server computes; the INSERT checks it
        if bad:
            await _drop_constraint(conn, maker, name, filled)


async def _drop_constraint(conn: Connection, maker: RowGenerator, name: str, filled: PopulateResult) -> None:
    await conn.execute(f"ALTER TABLE {maker.shape.sql} DROP CONSTRAINT {quote_identifier(name)}")
    filled.notes.append(
        f"{maker.shape}: generated rows do not meet CHECK {name}; the rehearsal runs without it"
        " (--with-data has rows that do)"
    )


async def _populate_table(conn: Connection, maker: RowGenerator, filled: PopulateResult) -> int:
    table = maker.shape
    names = ", ".join(quote_identifier(column.name) for column in table.insertable_columns)
    values = ", ".join(maker.expression(column.name) for column in table.insertable_columns)
    for column in sorted(maker.unsupported_columns):
        filled.notes.append(f"{table}.{column}: type {table.column(column).type} cannot be generated; it is NULL")
    statement = (
        f"INSERT INTO {table.sql} ({names}) OVERRIDING SYSTEM VALUE SELECT {values}"
        f" FROM generate_series(1, {maker.rows}::bigint) AS g (i) ON CONFLICT DO NOTHING"
    )
    for _ in range(1 + len(table.checks)):
        try:
            made = int(str(await conn.execute(statement, timeout=POPULATE_TIMEOUT)).rpartition(" ")[2])
        except asyncpg.CheckViolationError as error:
            if not error.constraint_name or error.constraint_name not in dict(table.checks):
                filled.notes.append(f"{table}: it stays empty: {error}")
                return 0
            await _drop_constraint(conn, maker, error.constraint_name, filled)
        except asyncpg.PostgresError as error:
            filled.notes.append(f"{table}: it stays empty: {str(error).splitlines()[0]}")
            return 0
        else:
            if made < maker.rows:
                filled.notes.append(f"{table}: {maker.rows - made:,} of {maker.rows:,} rows violate a unique index")
            return made
    return 0


async def _repair_references(
    conn: Connection, maker: RowGenerator, makers: Mapping[tuple[str, str], RowGenerator], filled: PopulateResult
) -> None:
    """Where a table has fewer rows than were wanted, rows that refer to the missing ones go too."""
    for key in maker.shape.foreign_keys:
        parent = makers.get((key.schema, key.table))
        if parent is None or filled.rows.get(str(parent.shape), 0) >= parent.rows:
            continue
        pairs = " AND ".join(
            f"p.{quote_identifier(there)} = c.{quote_identifier(here)}"
            for here, there in zip(key.columns, key.referenced_columns, strict=True)
        )
        there = " AND ".join(f"c.{quote_identifier(here)} IS NOT NULL" for here in key.columns)
        gone = await conn.execute(
            f"DELETE FROM {maker.shape.sql} c WHERE {there}"
            f" AND NOT EXISTS (SELECT FROM {parent.shape.sql} p WHERE {pairs})"
        )
        if count := int(str(gone).rpartition(" ")[2]):
            filled.rows[str(maker.shape)] -= count
            filled.notes.append(f"{maker.shape}: {count:,} rows go, since {parent.shape.name} has too few")

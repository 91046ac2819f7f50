"""Fills the copy's tables with made-up rows, and tells what could not be made."""

# ruff: noqa: S608  names are quoted, expressions are built by us from types, values of ours are literals

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import asyncpg

from zdd_tui.model.sql import ident
from zdd_tui.rehearsal.check_constraints import learned
from zdd_tui.rehearsal.generator import Generator
from zdd_tui.rehearsal.table_stats import TableShape

Connection: TypeAlias = Any

PROBED = 2000
"""Rows that are tried against the CHECK constraints before the table is filled."""

FILL_WITHIN = 3600.0


@dataclass(slots=True)
class Filled:
    """What was made.

    Attributes:
        rows: by table.
        notes: what could not be satisfied, in words.
    """

    rows: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def generators(
    shapes: Mapping[tuple[str, str], TableShape], rows: Mapping[tuple[str, str], int]
) -> dict[Any, Generator]:
    """One for each table, each knowing all."""
    made: dict[tuple[str, str], Generator] = {}
    for name, shape in shapes.items():
        made[name] = Generator(shape, rows[name], made, learned(shape))
    return made


async def fill(conn: Connection, makers: Mapping[tuple[str, str], Generator]) -> Filled:
    """Fills every table. Triggers rest meanwhile, as they did their work on production's rows long ago."""
    filled = Filled()
    await conn.execute("SET session_replication_role = replica")
    try:
        for maker in makers.values():
            await _probe(conn, maker, filled)
            filled.rows[str_of(maker.shape)] = await _fill_one(conn, maker, filled)
        for maker in makers.values():
            await _mend_references(conn, maker, makers, filled)
    finally:
        await conn.execute("SET session_replication_role = origin")
    return filled


def str_of(shape: TableShape) -> str:
    return f"{shape.schema}.{shape.name}"


async def set_sequences(conn: Connection, shape: TableShape) -> None:
    """Sequences go on behind the greatest value there is."""
    for column in shape.columns:
        if not column.given:
            continue
        sequence = column.sequence or await conn.fetchval(
            "SELECT pg_get_serial_sequence($1, $2)", shape.sql, column.name
        )
        if sequence:
            await conn.execute(
                f"SELECT setval($1::text::regclass, greatest((SELECT max({ident(column.name)}) FROM {shape.sql}), 1))",
                sequence,
            )


async def _probe(conn: Connection, maker: Generator, filled: Filled) -> None:
    """A constraint that made-up rows do not meet is left out of the copy: it would stop what production lets pass."""
    shape = maker.shape
    if not shape.checks or not maker.rows:
        return
    columns = ", ".join(f"{maker.expression(c.name)} AS {ident(c.name)}" for c in shape.insertable)
    for name, expression in shape.checks:
        try:
            bad = await conn.fetchval(
                f"SELECT count(*) FILTER (WHERE NOT ({expression})) FROM (SELECT {columns}"
                f" FROM generate_series(1, {min(PROBED, maker.rows)}::bigint) AS g (i)) AS {ident(shape.name)}"
            )
        except asyncpg.PostgresError:
            continue  # it reads what is computed by the server; the INSERT will tell
        if bad:
            await _leave_out(conn, maker, name, filled)


async def _leave_out(conn: Connection, maker: Generator, name: str, filled: Filled) -> None:
    await conn.execute(f"ALTER TABLE {maker.shape.sql} DROP CONSTRAINT {ident(name)}")
    filled.notes.append(
        f"{str_of(maker.shape)}: made-up rows do not meet CHECK {name}; the rehearsal runs without it (--with-data has"
        " rows that do)"
    )


async def _fill_one(conn: Connection, maker: Generator, filled: Filled) -> int:
    shape = maker.shape
    names = ", ".join(ident(column.name) for column in shape.insertable)
    values = ", ".join(maker.expression(column.name) for column in shape.insertable)
    for column in sorted(maker.unmade):
        filled.notes.append(
            f"{str_of(shape)}.{column}: no values can be made for its type {shape.column(column).type}; it is NULL"
        )
    statement = (
        f"INSERT INTO {shape.sql} ({names}) OVERRIDING SYSTEM VALUE SELECT {values}"
        f" FROM generate_series(1, {maker.rows}::bigint) AS g (i) ON CONFLICT DO NOTHING"
    )
    for _ in range(1 + len(shape.checks)):
        try:
            made = int(str(await conn.execute(statement, timeout=FILL_WITHIN)).rpartition(" ")[2])
        except asyncpg.CheckViolationError as error:
            if not error.constraint_name or error.constraint_name not in dict(shape.checks):
                filled.notes.append(f"{str_of(shape)}: it stays empty: {error}")
                return 0
            await _leave_out(conn, maker, error.constraint_name, filled)
        except asyncpg.PostgresError as error:
            filled.notes.append(f"{str_of(shape)}: it stays empty: {str(error).splitlines()[0]}")
            return 0
        else:
            if made < maker.rows:
                filled.notes.append(
                    f"{str_of(shape)}: {maker.rows - made:,} of {maker.rows:,} rows met a unique index and are left out"
                )
            return made
    return 0


async def _mend_references(
    conn: Connection, maker: Generator, makers: Mapping[tuple[str, str], Generator], filled: Filled
) -> None:
    """Where a table has fewer rows than were wanted, rows that refer to the missing ones go too."""
    for key in maker.shape.foreign:
        parent = makers.get((key.schema, key.table))
        if parent is None or filled.rows.get(str_of(parent.shape), 0) >= parent.rows:
            continue
        pairs = " AND ".join(
            f"p.{ident(there)} = c.{ident(here)}" for here, there in zip(key.columns, key.refers, strict=True)
        )
        there = " AND ".join(f"c.{ident(here)} IS NOT NULL" for here in key.columns)
        gone = await conn.execute(
            f"DELETE FROM {maker.shape.sql} c WHERE {there}"
            f" AND NOT EXISTS (SELECT FROM {parent.shape.sql} p WHERE {pairs})"
        )
        if count := int(str(gone).rpartition(" ")[2]):
            filled.rows[str_of(maker.shape)] -= count
            filled.notes.append(f"{str_of(maker.shape)}: {count:,} rows go, since {parent.shape.name} has too few")

"""Plans of operations whose steps run directly, and pg_dump as the judge, which shares no code with the product."""

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg

from tests.support.schema_change import open_leased_store
from tests.support.store import plan_for
from zdd_tui.backends.kubernetes.cluster import Cluster
from zdd_tui.engine.context import Context, StepHandle
from zdd_tui.engine.steps.operations import CheckRows, RunOperation
from zdd_tui.model.operations.registry import named_steps, numbered_steps
from zdd_tui.model.phase import Phase
from zdd_tui.model.plan.operations import OperationsPlan
from zdd_tui.model.release.records import StepRecord
from zdd_tui.model.release.state import StepStatus
from zdd_tui.testbed.servers import PostgresServer

SCHEMA = """
CREATE TABLE teams (id int PRIMARY KEY, name text);
CREATE TYPE kind AS ENUM ('a', 'b');
CREATE TABLE notes (
  id bigserial PRIMARY KEY, user_id bigint, body text, legacy text NOT NULL DEFAULT 'x', kind kind, n int NOT NULL,
  code text, CONSTRAINT n_pos CHECK (n > 0), CONSTRAINT notes_code UNIQUE (code)
);
CREATE INDEX notes_kind ON notes (kind) INCLUDE (n) WHERE n > 3;
CREATE TABLE unused (id int);
CREATE VIEW note_bodies AS SELECT id, body FROM notes;
CREATE TYPE old_type AS (a int);
CREATE DOMAIN old_domain AS int;
CREATE SEQUENCE old_sequence;
CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT a';
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER notes_touch BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION touch();
CREATE STATISTICS notes_statistics ON n, kind FROM notes;
COMMENT ON TABLE notes IS 'the notes';
GRANT SELECT ON notes TO PUBLIC;
GRANT SELECT ON note_bodies TO pg_monitor;
INSERT INTO notes (user_id, body, n, code) SELECT i, 'b' || i, i, 'c' || i FROM generate_series(1, 50) i;
"""


def plan_of(dsn: str, *operations: Any, **sections: Any) -> OperationsPlan:
    kubernetes = plan_for(dsn).kubernetes.model_dump(exclude={"images"}) | {"image": "shop/notes:2"}
    return OperationsPlan.model_validate(
        {"name": "notes", "database": {"dsn": dsn}, "kubernetes": kubernetes, "operations": list(operations)} | sections
    )


def handle(number: int, name: str = "", on_note: Callable[[str], Awaitable[None]] | None = None) -> StepHandle:
    """
    Args:
        name: of the step in the strategy, under which a fill is stored; default: one of its own.
        on_note: told what the step shows on the screens.
    """

    async def ignore(*_: Any) -> None: ...

    stored = StepRecord(name or f"step-{number}", StepStatus.STARTED, detail={})
    return StepHandle(stored, value=number, write_note=on_note or ignore, write_detail=ignore, write_done=ignore)


@asynccontextmanager
async def open_context(plan: OperationsPlan) -> AsyncIterator[Context]:
    async with open_leased_store(plan.database.dsn.get_secret_value(), plan) as store:
        yield Context(plan, store, None, cast(Cluster, None), lambda: False, lambda _: None)


async def run_phases(ctx: Context, plan: OperationsPlan, phases: list[Phase]) -> list[StepHandle]:
    handles = [handle(number, name) for phase in phases for name, number, _ in named_steps(plan, phase)]
    for each in handles:
        await RunOperation().run(ctx, each)
    return handles


def dump(pg: PostgresServer, dsn: str) -> list[str]:
    """The definitions of a database as pg_dump writes them, without the agent's own schema."""
    command = [str(pg.programs_folder / "pg_dump"), "--schema-only", "--exclude-schema=zdd", "--restrict-key=x", dsn]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line for line in text.splitlines() if line and not line.startswith("--")]


def sort_columns(lines: list[str]) -> list[str]:
    """A dump in which the columns of a table have no order: a column of another type is at the end of the table."""
    tables: list[list[str]] = []
    inside = False
    for line in lines:
        if inside and not line.startswith(")"):
            tables[-1].append(line.rstrip(","))
        else:
            tables.append([line])
        inside = line.startswith("CREATE TABLE") or (inside and not line.startswith(")"))
    return [line for table in tables for line in (table[0], *sorted(table[1:]))]


async def assert_done_and_undone(
    pg: PostgresServer,
    dsn: str,
    setup: str,
    migration: str | Sequence[Any],
    plain: Sequence[str] = (),
    **sections: Any,
) -> None:
    """Done, the schema is what the plain migration makes; rolled back from any phase, it is as before.

    Args:
        plain: the plain migration; default: the statements of the operations.
        sections: of the plan.
    """
    operations = [migration] if isinstance(migration, str) else list(migration)
    plain = plain or [each["sql"] if isinstance(each, dict) else each for each in operations]
    connection = await asyncpg.connect(dsn)
    copy = f"{dsn.rpartition('/')[2]}_plain"
    admin = await asyncpg.connect(pg.dsn)
    try:
        await connection.execute(setup)
        before = dump(pg, dsn)
        plan = plan_of(dsn, *operations, **sections)
        phases = [phase for phase in Phase if numbered_steps(plan, phase)]
        async with open_context(plan) as ctx:
            await CheckRows().run(ctx, handle(0))
            for last, phase in enumerate(phases):
                if phase is Phase.CLEANUP:
                    continue
                for each in reversed(await run_phases(ctx, plan, phases[: last + 1])):
                    await RunOperation().undo(ctx, each)
                assert dump(pg, dsn) == before, f"rolled back from {phase}"
            await run_phases(ctx, plan, phases)
        await admin.execute(f"CREATE DATABASE {copy} TEMPLATE zdd_template")
        other = await asyncpg.connect(pg.dsn_for(copy))
        try:
            await other.execute(setup)
            for sql in plain:
                await other.execute(sql)
        finally:
            await other.close()
        assert dump(pg, dsn) == dump(pg, pg.dsn_for(copy)), "done"
    finally:
        await connection.close()
        await admin.execute(f"DROP DATABASE IF EXISTS {copy} WITH (FORCE)")
        await admin.close()

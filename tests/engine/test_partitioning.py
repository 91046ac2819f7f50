"""A table becomes a partitioned one while both versions of an application write to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
from pydantic import ValidationError

from tests.support.operations import assert_done_and_undone, dump, handle, open_context, plan_of, run_phases
from zdd_tui.checks.operations import check_operation_rows
from zdd_tui.cli.plan import keep_operations
from zdd_tui.engine.steps.operations import CheckRows, RunOperation
from zdd_tui.model.advice.migration import read_migration
from zdd_tui.model.errors import PlanError, Refused, StepFailed
from zdd_tui.model.operations.partition_scripts import derive_partition
from zdd_tui.model.operations.registry import find_step, named_steps, plan_operations
from zdd_tui.model.operations.relied_objects import may_be_gone, relied_objects
from zdd_tui.model.phase import Phase
from zdd_tui.model.sql import split_statements
from zdd_tui.testbed.servers import PostgresServer

SETUP = """
CREATE TABLE kinds (name text PRIMARY KEY);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.note := new.note || ''!''; RETURN new; END';
CREATE TABLE events (
  id bigserial, gone int, at date NOT NULL, kind text REFERENCES kinds ON DELETE SET NULL, note text DEFAULT 'x',
  n int NOT NULL, parent bigint, twice int GENERATED ALWAYS AS (n * 2) STORED, number int GENERATED ALWAYS AS IDENTITY,
  PRIMARY KEY (id, at), CONSTRAINT positive CHECK (n > 0), CONSTRAINT events_code UNIQUE (at, number)
) WITH (fillfactor = 80, toast.autovacuum_enabled = off);
ALTER TABLE events DROP COLUMN gone;
ALTER TABLE events ALTER note SET STATISTICS 50, ALTER note SET STORAGE EXTERNAL, ALTER n SET (n_distinct = 5);
CREATE INDEX events_kind ON events USING hash (kind);
CREATE INDEX "Odd name" ON events (lower(note) DESC) INCLUDE (n) WHERE n > 3;
CREATE STATISTICS events_stat (dependencies) ON n, kind FROM events;
CREATE TRIGGER first BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE TRIGGER second BEFORE UPDATE OF n ON events FOR EACH ROW WHEN (new.n > 100) EXECUTE FUNCTION stamp();
ALTER TABLE events DISABLE TRIGGER second; ALTER TABLE events ENABLE ALWAYS TRIGGER first;
CREATE POLICY mine ON events FOR UPDATE TO pg_monitor USING (n > 1) WITH CHECK (n > 2);
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON events TO PUBLIC; GRANT INSERT, SELECT ON events TO pg_monitor WITH GRANT OPTION;
GRANT UPDATE (note) ON events TO pg_monitor; GRANT USAGE ON SEQUENCE events_id_seq TO pg_monitor;
COMMENT ON TABLE events IS 'the events'; COMMENT ON COLUMN events.n IS 'how many'; COMMENT ON INDEX events_kind IS 'k';
COMMENT ON CONSTRAINT positive ON events IS 'p'; COMMENT ON CONSTRAINT events_pkey ON events IS 'pk';
COMMENT ON TRIGGER first ON events IS 't'; COMMENT ON POLICY mine ON events IS 'po';
COMMENT ON STATISTICS events_stat IS 's';
CREATE VIEW busy WITH (security_barrier = true) AS SELECT id, n, kind FROM events WHERE n > 1;
GRANT SELECT ON busy TO pg_monitor;
CREATE TABLE details (event bigint, at date, text text);
ALTER TABLE details ADD CONSTRAINT of_event FOREIGN KEY (event, at) REFERENCES events ON DELETE CASCADE;
COMMENT ON CONSTRAINT of_event ON details IS 'fk';
INSERT INTO kinds VALUES ('a'), ('b');
INSERT INTO events (at, kind, n) SELECT date '2024-01-01' + i, 'a', i FROM generate_series(1, 500) i;
INSERT INTO details SELECT id, at, 'd' FROM events;
"""

PARTITION = {
    "partition": {
        "table": "events",
        "by": "RANGE (at)",
        "partitions": {
            "events_2024": "FROM ('2024-01-01') TO ('2025-01-01')",
            "events_2025": "FROM ('2025-01-01') TO ('2026-01-01')",
            "events_rest": "DEFAULT",
        },
    }
}

PLAIN = """
DROP VIEW busy; ALTER TABLE details DROP CONSTRAINT of_event;
TRUNCATE details;
ALTER SEQUENCE events_id_seq OWNED BY NONE; DROP TABLE events;
CREATE TABLE events (
  id bigint NOT NULL DEFAULT nextval('events_id_seq'), at date NOT NULL, kind text, note text DEFAULT 'x',
  n int NOT NULL, parent bigint, twice int GENERATED ALWAYS AS (n * 2) STORED, number int
) PARTITION BY RANGE (at);
ALTER TABLE events ALTER number SET NOT NULL, ALTER number ADD GENERATED ALWAYS AS IDENTITY;
ALTER SEQUENCE events_id_seq OWNED BY events.id;
ALTER TABLE events ADD CONSTRAINT positive CHECK (n > 0);
ALTER TABLE events ADD PRIMARY KEY (id, at); ALTER TABLE events ADD CONSTRAINT events_code UNIQUE (at, number);
ALTER TABLE events ADD FOREIGN KEY (kind) REFERENCES kinds ON DELETE SET NULL;
CREATE INDEX events_kind ON events USING hash (kind);
CREATE INDEX "Odd name" ON events (lower(note) DESC) INCLUDE (n) WHERE n > 3;
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')
  WITH (fillfactor = 80, toast.autovacuum_enabled = off);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')
  WITH (fillfactor = 80, toast.autovacuum_enabled = off);
CREATE TABLE events_rest PARTITION OF events DEFAULT WITH (fillfactor = 80, toast.autovacuum_enabled = off);
ALTER TABLE events ALTER note SET STATISTICS 50, ALTER note SET STORAGE EXTERNAL, ALTER n SET (n_distinct = 5);
CREATE STATISTICS events_stat (dependencies) ON n, kind FROM events;
CREATE TRIGGER first BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE TRIGGER second BEFORE UPDATE OF n ON events FOR EACH ROW WHEN (new.n > 100) EXECUTE FUNCTION stamp();
ALTER TABLE events DISABLE TRIGGER second; ALTER TABLE events ENABLE ALWAYS TRIGGER first;
CREATE POLICY mine ON events FOR UPDATE TO pg_monitor USING (n > 1) WITH CHECK (n > 2);
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON events TO PUBLIC; GRANT INSERT, SELECT ON events TO pg_monitor WITH GRANT OPTION;
GRANT UPDATE (note) ON events TO pg_monitor;
COMMENT ON TABLE events IS 'the events'; COMMENT ON COLUMN events.n IS 'how many'; COMMENT ON INDEX events_kind IS 'k';
COMMENT ON CONSTRAINT positive ON events IS 'p'; COMMENT ON CONSTRAINT events_pkey ON events IS 'pk';
COMMENT ON TRIGGER first ON events IS 't'; COMMENT ON POLICY mine ON events IS 'po';
COMMENT ON STATISTICS events_stat IS 's';
CREATE VIEW busy WITH (security_barrier = true) AS SELECT id, n, kind FROM events WHERE n > 1;
GRANT SELECT ON busy TO pg_monitor;
ALTER TABLE details ADD CONSTRAINT of_event FOREIGN KEY (event, at) REFERENCES events ON DELETE CASCADE;
COMMENT ON CONSTRAINT of_event ON details IS 'fk';
"""


async def test_done_is_the_plain_migration_and_undone_is_as_before(pg: PostgresServer, pg_dsn: str) -> None:
    await assert_done_and_undone(pg, pg_dsn, SETUP, [PARTITION], [PLAIN])


@dataclass(slots=True)
class Writers:
    """Sessions of both versions: each knows what its own rows must hold in the end."""

    dsn: str
    rows: dict[int, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    writes: int = 0

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Two sessions that insert, update, move and delete; one that works on old rows with an old snapshot."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._write(stop, each)) for each in (self._new_row, self._new_row, self._old_row)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def _write(self, stop: asyncio.Event, work: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            while not stop.is_set():
                await work(connection)
                self.writes += 1
                await asyncio.sleep(0.002)
        except asyncpg.PostgresError as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        finally:
            await connection.close()

    async def _new_row(self, db: asyncpg.Connection) -> None:
        key = await db.fetchval("INSERT INTO t (at, region, n) VALUES ('2024-05-01', 'eu', 1) RETURNING id")
        self.rows[key] = 1
        await db.execute("INSERT INTO child (t, at, region) SELECT id, at, region FROM t WHERE id = $1", key)
        await db.execute("UPDATE t SET n = n + 1 WHERE id = $1", key)
        self.rows[key] += 1
        if not await db.fetch("SELECT id FROM v WHERE id = $1", key):
            self.errors.append(f"row {key} is not in the view")
        match key % 4:
            case 0:
                await db.execute("UPDATE t SET at = at + 365, region = 'us' WHERE id = $1", key)
            case 1:
                await db.execute("DELETE FROM t WHERE id = $1", key)
                del self.rows[key]

    async def _old_row(self, db: asyncpg.Connection) -> None:
        """Its snapshot is older than the copy of the row, which it therefore does not see."""
        key = await db.fetchval("SELECT max(id) FROM t WHERE id <= 1000")
        async with db.transaction(isolation="repeatable_read"):
            await db.fetch("SELECT count(*) FROM t WHERE id = $1", key)
            await asyncio.sleep(0.02)
            await db.execute("UPDATE t SET n = n + 7 WHERE id IN ($1, $2)", key, key // 2)
            await db.execute("DELETE FROM t WHERE id = $1", key)
        del self.rows[key]
        if key // 2 != key:
            self.rows[key // 2] += 7


KINDS = {
    "range": ("", "RANGE (at)", {"t_24": "FROM ('2024-01-01') TO ('2025-01-01')", "t_rest": "DEFAULT"}, ["id", "at"]),
    "list": ("", "LIST (region)", {"t_eu": "IN ('eu')", "t_us": "IN ('us', NULL)"}, ["region", "id"]),
    "hash": (
        "ALTER TABLE child ADD CONSTRAINT up FOREIGN KEY (t) REFERENCES t ON DELETE CASCADE;"
        "ALTER TABLE t ADD parent bigint REFERENCES t; UPDATE t SET parent = id - 1200 WHERE id > 1200;",
        "HASH (id)",
        {f"t_{number}": f"WITH (MODULUS 3, REMAINDER {number})" for number in range(3)},
        [],
    ),
}


@pytest.mark.parametrize("kind", ["range", "hash", pytest.param("list", marks=pytest.mark.slow)])
async def test_no_statement_of_either_version_fails_and_no_row_is_lost(
    kind: str, pg: PostgresServer, pg_dsn: str, db: asyncpg.Connection
) -> None:
    setup, by, partitions, key = KINDS[kind]
    if db.get_server_version().major < 18:  # it is refused there: PostgreSQL would read the rows under a lock
        setup = setup.replace("parent bigint REFERENCES t", "parent bigint")
    await db.execute(
        """
        CREATE TABLE t (id bigserial PRIMARY KEY, at date NOT NULL, region text NOT NULL, n int);
        CREATE TABLE child (t bigint, at date, region text); CREATE VIEW v AS SELECT id, n FROM t;
        INSERT INTO t (at, region, n) SELECT '2024-01-01', 'us', 0 FROM generate_series(1, 1500) i;
        """
        + setup
    )
    before = dump(pg, pg_dsn)
    given = {"table": "public.t", "by": by, "partitions": partitions, "key": key}
    plan = plan_of(pg_dsn, {"partition": given}, backfill={"batch_rows": 100, "batch_rows_max": 200})
    writers = Writers(pg_dsn, dict.fromkeys(range(1, 1501), 0))

    async def assert_rows() -> None:
        assert writers.errors == [], writers.errors
        assert {row["id"]: row["n"] for row in await db.fetch("SELECT id, n FROM t")} == writers.rows

    forward = [Phase.EXPAND, Phase.BACKFILL, Phase.CONTRACT]
    async with open_context(plan) as ctx:
        await CheckRows().run(ctx, handle(0))
        async with writers.run():
            done = await run_phases(ctx, plan, forward)
        await assert_rows()
        async with writers.run():
            for each in reversed(done):
                await RunOperation().undo(ctx, each)
        await assert_rows()
        assert dump(pg, pg_dsn) == before
        async with writers.run():
            await run_phases(ctx, plan, [*forward, Phase.CLEANUP])
        await assert_rows()
    assert writers.writes > 50
    assert await db.fetchval("SELECT count(DISTINCT tableoid) FROM t") == len(partitions)
    assert await db.fetchval("SELECT count(*) FROM child WHERE t NOT IN (SELECT id FROM t)") == 0 or kind != "hash"


DATED = "CREATE TABLE t (id int, at date, PRIMARY KEY (id, at))"
BY_DATE = {"by": "RANGE (at)", "partitions": {"t_all": "DEFAULT"}}


@pytest.mark.parametrize(
    ("setup", "given", "reason"),
    [
        ("CREATE TABLE t (id int, at date)", BY_DATE, "t has no primary key, by which rows could be found"),
        ("CREATE TABLE t (id int PRIMARY KEY, at date)", BY_DATE, r"primary key \(id\) of t does not contain the part"),
        (
            "CREATE TABLE t (id int PRIMARY KEY, at date)",
            BY_DATE | {"key": ["id", "at"]},
            "t.at of the key may be NULL",
        ),
        (
            "CREATE TABLE t (id int PRIMARY KEY, at date NOT NULL)",
            BY_DATE | {"key": ["at"]},
            r"does not contain the present primary key \(id\)",
        ),
        (
            "CREATE TABLE t (id int, at date, n int UNIQUE, PRIMARY KEY (at, id))",
            BY_DATE,
            r"unique index t_n_key does not contain the partition key \(at\)",
        ),
        (
            "CREATE TABLE t (id int PRIMARY KEY, at date NOT NULL); CREATE TABLE c (t int CONSTRAINT up REFERENCES t)",
            BY_DATE | {"key": ["id", "at"]},
            r"foreign key up of c refers to the primary key \(id\), which the new one replaces",
        ),
        (
            "CREATE TABLE t (id int, at date, PRIMARY KEY (id, at)); CREATE MATERIALIZED VIEW m AS SELECT id FROM t",
            BY_DATE,
            "materialized view m depends on t, and would stay with the old one",
        ),
        (
            "CREATE TABLE t (id int, at date, PRIMARY KEY (id, at)); CREATE TABLE o (a t)",
            BY_DATE,
            "column a of table o depends on t",
        ),
        (
            "CREATE TABLE t (id int, at date, PRIMARY KEY (id, at) DEFERRABLE)",
            BY_DATE,
            "constraint t_pkey is deferrable",
        ),
        (
            "CREATE TABLE t (id int, at date, PRIMARY KEY (id, at)); CREATE PUBLICATION p FOR TABLE t",
            BY_DATE,
            "publication p: its subscribers have none of the partitions",
        ),
        (
            "CREATE TABLE t (id int, at date, PRIMARY KEY (id, at)); CREATE TABLE i () INHERITS (t)",
            BY_DATE,
            "t is no ordinary table, or has parents or children",
        ),
        (
            "CREATE TABLE t (id int, at date, PRIMARY KEY (id, at)); ALTER TABLE t ADD CHECK (id > 0) NOT VALID",
            BY_DATE,
            "constraint t_id_check of t is not validated",
        ),
        (
            DATED,
            BY_DATE
            | {"partitions": {"a": "FROM ('2025-01-01') TO ('2026-01-01')", "b": "FROM ('2025-12-31') TO (MAXVALUE)"}},
            'partition t by RANGE .*: partition "b" would overlap partition "a"',
        ),
        (
            DATED,
            BY_DATE | {"partitions": {"a": "DEFAULT", "b": "DEFAULT"}},
            'conflicts with existing default partition "a"',
        ),
        (DATED, BY_DATE | {"partitions": {"a": "FROM ('2026-01-01') TO ('2025-01-01')"}}, "empty range bound"),
        (DATED, BY_DATE | {"partitions": {"a": "IN (1)"}}, "invalid bound specification for a range partition"),
        (DATED, BY_DATE | {"by": "RANGE (gone)"}, 'column "gone" named in partition key does not exist'),
        (DATED, BY_DATE | {"partitions": {"a": "FROM ('soon') TO (MAXVALUE)"}}, "invalid input syntax for type date"),
        (
            f"{DATED}; CREATE VIEW a AS SELECT 1",
            BY_DATE | {"partitions": {"a": "DEFAULT"}},
            "there is a relation public.a",
        ),
        (DATED, BY_DATE | {"partitions": {"nowhere.a": "DEFAULT"}}, "there is no schema nowhere"),
        (
            DATED,
            BY_DATE | {"partitions": {"a": "DEFAULT", "public.a": "FROM (MINVALUE) TO ('2025-01-01')"}},
            "there are two partitions public.a",
        ),
    ],
)
async def test_what_no_partitioned_table_can_take_over_is_found_before_the_start(
    setup: str, given: dict[str, Any], reason: str, pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute(setup)
    plan = plan_of(pg_dsn, {"partition": {"table": "t"} | given})
    with pytest.raises(PlanError, match=reason) as refused:
        await check_operation_rows(db, plan)
    assert "Fix:" in str(refused.value)
    left = "SELECT count(*) FROM pg_class WHERE relpersistence = 't' OR relname LIKE 'zdd%'"
    assert await db.fetchval(left) == 0, "nothing was left by the trial"


@pytest.mark.parametrize(
    ("operations", "reason"),
    [
        ([{"partition": {"table": "t", "by": "RANGE (lower(a))", "partitions": {"p": "DEFAULT"}}}], "an expression"),
        (
            [{"partition": {"table": "t", "by": "LIST (a); DROP TABLE b", "partitions": {"p": "DEFAULT"}}}],
            "more than a",
        ),
        ([{"partition": {"table": "t", "by": "LIST (a) WITH (x = 1)", "partitions": {"p": "DEFAULT"}}}], "more than a"),
        (
            [{"partition": {"table": "t b", "by": "LIST (a)", "partitions": {"p": "DEFAULT"}}}],
            "syntax error at or near",
        ),
        ([{"partition": {"table": "t", "by": "LIST (a)", "partitions": {"p": "IN (1) WITH (x = 1)"}}}], "more than a"),
        ([{"partition": {"table": "t", "by": "LIST (a)", "partitions": {"p": "FROM"}}}], "syntax error"),
        (["CREATE TABLE t (id int)", {"partition": BY_DATE | {"table": "t"}}], "the migration itself creates t"),
        (["ALTER TABLE t ADD c int", {"partition": BY_DATE | {"table": "t"}}], "is about it too"),
        ([{"partition": BY_DATE | {"table": '"{new}"'}}], "{new} is a placeholder of a template"),
        (["ALTER TABLE s.t ADD c int", {"partition": BY_DATE | {"table": "s.t"}}], "is about it too"),
        (["ALTER TABLE t ADD c int", {"partition": BY_DATE | {"table": "s.t"}}], "may be about it too"),
        ([{"partition": BY_DATE | {"table": "t"}}, {"partition": BY_DATE | {"table": "s.t"}}], "may be about it too"),
        (
            ['ALTER TABLE "S".t ADD a int', {"partition": BY_DATE | {"table": '"S".t'}}],
            "about it too",
        ),
    ],
)
def test_a_section_that_cannot_be_executed_is_refused(operations: list[Any], reason: str) -> None:
    with pytest.raises(PlanError, match=reason) as refused:
        plan_operations(plan_of("postgresql://x", *operations))
    assert refused.value.hint


@pytest.mark.parametrize("extra", [{"sql": "SELECT 1"}, {"undo": "SELECT 1"}, {"phase": "contract"}])
def test_an_operation_has_one_form(extra: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="an operation"):
        plan_of("postgresql://x", {"partition": BY_DATE | {"table": "t"}} | extra)
    with pytest.raises(ValidationError, match="an operation has sql or partition"):
        plan_of("postgresql://x", {"undo": []})


SCRIPT = """
CREATE TABLE s.new (LIKE s.old INCLUDING ALL EXCLUDING INDEXES) PARTITION BY RANGE (at);
CREATE TABLE s.p1 PARTITION OF s.new FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE p2 PARTITION OF s.new DEFAULT; ALTER TABLE s.new ADD PRIMARY KEY (id, at);
INSERT INTO s.new SELECT * FROM s.old;
ALTER TABLE s.old RENAME TO "Gone"; ALTER TABLE s.new RENAME TO old; DROP TABLE s."Gone"; SELECT 1;
"""


def test_the_script_by_which_teams_do_it_becomes_the_section() -> None:
    assert derive_partition(split_statements(SCRIPT)) == (
        {
            "table": "s.old",
            "by": "RANGE (at)",
            "partitions": {"s.p1": "FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')", "p2": "DEFAULT"},
            "key": ["id", "at"],
        },
        8,
    )


def test_zdd_plan_writes_the_section_and_the_other_statements() -> None:
    script = f"BEGIN; {SCRIPT.replace('SELECT 1', 'ALTER TABLE other ADD COLUMN a int')} COMMIT"
    section, other = keep_operations(read_migration(script, "m.sql"), has_rollout=True)
    assert isinstance(section, dict)
    assert section["partition"]["key"] == ["id", "at"]
    assert other == "ALTER TABLE other ADD COLUMN a int"
    expression = script.replace("RANGE (at)", "RANGE (lower(at))")
    with pytest.raises(Refused, match=r"m\.sql:2.*holds an expression"):
        keep_operations(read_migration(expression, "m.sql"), has_rollout=True)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("SELECT * FROM", "SELECT id FROM"),
        ("FROM s.old;", "FROM s.old WHERE id > 1;"),
        ('DROP TABLE s."Gone";', ""),
        ("RENAME TO old", "RENAME TO other"),
        ("ADD PRIMARY KEY (id, at)", "ADD UNIQUE (id, at)"),
        ("INSERT INTO", "UPDATE s.old SET a = 1; INSERT INTO"),
    ],
)
def test_another_script_stays_as_it_is(part: str, other: str) -> None:
    assert derive_partition(split_statements(SCRIPT.replace(part, other))) is None


async def test_a_row_that_belongs_to_no_partition_stops_the_release_and_no_statement(
    pg_dsn: str, db: asyncpg.Connection
) -> None:
    await db.execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i FROM generate_series(1, 50) i")
    given = {"table": "t", "by": "RANGE (id)", "partitions": {"t_low": "FROM (0) TO (100)"}}
    plan = plan_of(pg_dsn, {"partition": given})
    async with open_context(plan) as ctx:
        await run_phases(ctx, plan, [Phase.EXPAND])
        await db.execute("INSERT INTO t VALUES (200); UPDATE t SET id = 300 WHERE id = 50")
        with pytest.raises(StepFailed, match="1 row failed"):
            await run_phases(ctx, plan, [Phase.BACKFILL])
        await db.execute("DELETE FROM t WHERE id > 100")
        await run_phases(ctx, plan, [Phase.BACKFILL])
        await db.execute("INSERT INTO t VALUES (200)")
        with pytest.raises(StepFailed, match=r"t and the other table differ in 1 row, .* no partition of relation"):
            await run_phases(ctx, plan, [Phase.CONTRACT])
        with pytest.raises(asyncpg.CheckViolationError, match="no partition of relation"):
            await db.execute("INSERT INTO t VALUES (201)")
        await db.execute("DELETE FROM t WHERE id = 200")
        await run_phases(ctx, plan, [Phase.CONTRACT, Phase.CLEANUP])
    assert await db.fetchval("SELECT count(*) FROM t") == 49


async def test_a_rollback_stops_where_the_old_table_cannot_hold_a_row(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE t (id int PRIMARY KEY, at date NOT NULL); INSERT INTO t VALUES (1, '2024-01-01')")
    given = {"table": "t", "by": "RANGE (at)", "partitions": {"t_all": "DEFAULT"}, "key": ["id", "at"]}
    plan = plan_of(pg_dsn, {"partition": given})
    async with open_context(plan) as ctx:
        done = await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL, Phase.CONTRACT])
        await db.execute("INSERT INTO t VALUES (1, '2025-01-01') ON CONFLICT (id, at) DO NOTHING")
        undone = list(reversed(done))
        refuse, *_ = stopped = [each for each in undone if "for a rollback" in find_step(plan, each.value or 0).label]
        await RunOperation().undo(ctx, refuse)
        with pytest.raises(StepFailed, match=r"t and the other table differ in 1 row, .* duplicate key"):
            await RunOperation().undo(ctx, stopped[1])
        await db.execute("DELETE FROM t WHERE at > '2024-12-31'")
        for each in undone:
            await RunOperation().undo(ctx, each)
        assert await db.fetchval("SELECT count(*) FROM t") == 1
        assert not await db.fetch("SELECT FROM pg_class WHERE relkind = 'p'")


async def test_any_name_is_quoted(pg: PostgresServer, pg_dsn: str) -> None:
    setup = """CREATE TABLE "Odd 's %s" ("a % b" int PRIMARY KEY, "select" text);
        CREATE VIEW v AS SELECT * FROM "Odd 's %s";
        INSERT INTO "Odd 's %s" VALUES (1, 'x'), (2, 'y')"""
    plain = """DROP TABLE "Odd 's %s" CASCADE;
        CREATE TABLE "Odd 's %s" ("a % b" int PRIMARY KEY, "select" text) PARTITION BY HASH ("a % b");
        CREATE TABLE "P '%" PARTITION OF "Odd 's %s" FOR VALUES WITH (MODULUS 1, REMAINDER 0);
        CREATE VIEW v AS SELECT * FROM "Odd 's %s" """
    partitions = {'"P \'%"': "WITH (MODULUS 1, REMAINDER 0)"}
    given = {"table": '"Odd \'s %s"', "by": 'HASH ("a % b")', "partitions": partitions}
    await assert_done_and_undone(pg, pg_dsn, setup, [{"partition": given}], [plain])


async def test_what_has_changed_since_expand_stops_the_swap(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
    given = {"table": "t", "by": "HASH (id)", "partitions": {"t_0": "WITH (MODULUS 1, REMAINDER 0)"}}
    plan = plan_of(pg_dsn, {"partition": given})
    async with open_context(plan) as ctx:
        await run_phases(ctx, plan, [Phase.EXPAND, Phase.BACKFILL])
        await db.execute(
            "CREATE INDEX late ON t (n); GRANT SELECT ON t TO pg_monitor; ALTER TABLE t ALTER n SET DEFAULT 5"
        )
        with pytest.raises(StepFailed, match=r"t has changed since .*: column n, index public.late, rights or owner"):
            await run_phases(ctx, plan, [Phase.CONTRACT])


@pytest.mark.parametrize("table", ["events", 's."all events"', '"a""b"', '"x.y"'])
def test_the_index_of_the_new_key_may_go_with_the_swap_whatever_the_table_is_named(table: str) -> None:
    partition = {"table": table, "by": "LIST (k)", "partitions": {"p": "DEFAULT"}, "key": ["id", "k"]}
    plan = plan_of("postgresql://x", {"partition": partition})
    (built,) = relied_objects(plan).indexes
    swap = next(name for name, _, step in named_steps(plan, Phase.CONTRACT) if step.label.startswith("swap "))
    assert may_be_gone(built.changes, swap)


async def test_tables_of_one_name_in_two_schemas_become_partitioned_in_one_release(
    pg: PostgresServer, pg_dsn: str
) -> None:
    setup = """CREATE SCHEMA s; CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE s.t (id int PRIMARY KEY, n int);
        INSERT INTO t VALUES (1); INSERT INTO s.t VALUES (2, 3)"""
    given = {"by": "HASH (id)", "partitions": {"t_0": "WITH (MODULUS 1, REMAINDER 0)"}}
    operations = [{"partition": given | {"table": table}} for table in ("public.t", "s.t")]
    plain = [
        f"""DROP TABLE {schema}.t; CREATE TABLE {schema}.t (id int PRIMARY KEY{more}) PARTITION BY HASH (id);
        CREATE TABLE {schema}.t_0 PARTITION OF {schema}.t FOR VALUES WITH (MODULUS 1, REMAINDER 0)"""
        for schema, more in (("public", ""), ("s", ", n int"))
    ]
    await assert_done_and_undone(pg, pg_dsn, setup, operations, plain)

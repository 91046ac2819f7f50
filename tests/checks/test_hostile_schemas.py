"""Odd schemas on a real PostgreSQL: each dependency is carried, named as harmless or named as lost, and a release that
the check lets through ends. The judge is the server's own catalog."""

from typing import Any

import asyncpg
import pytest

from tests.checks.test_catalog_diff import plan_of
from tests.support.operations import plan_of as operations_plan
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.measure import run_plainly
from zdd_tui.backends.postgres.operations import find_problems
from zdd_tui.backends.postgres.table_objects import read_table_objects
from zdd_tui.checks.catalog_diff import compare_planned_side, find_losses
from zdd_tui.checks.locks import LockMeasurement
from zdd_tui.checks.operations import check_operation_locks
from zdd_tui.checks.schema import check_change
from zdd_tui.model.advice.carry_over import add_missing_ddl
from zdd_tui.model.ddl import archive_statements, drop_archive_statements
from zdd_tui.model.ddl.canonical import uses_whole_row
from zdd_tui.model.ddl.catalog_diff import SideDifference, SideVerdict, compare_sides
from zdd_tui.model.ddl.constrain import constrain_batches
from zdd_tui.model.ddl.lint import read_constrain
from zdd_tui.model.ddl.table_objects import CatalogObject, ObjectKind, TableColumn, TableObjects
from zdd_tui.model.errors import PlanError
from zdd_tui.model.operations.registry import plan_operations
from zdd_tui.model.plan.base import Plan
from zdd_tui.rehearsal.measure_locks import measure_migration


def column_change(kind: str = "text") -> dict[str, Any]:
    """A column c that is replaced by n."""
    return {"table": "t", "expand": f"ALTER TABLE t ADD COLUMN n {kind}", "up": {"n": "c"}, "down": {"c": "n"}}


def table_change(created: str, *columns: str) -> dict[str, Any]:
    """A table t that is replaced by t2, by trigger."""
    same = {column: column for column in columns}
    return {"table": "t", "into": "t2", "expand": created, "up": same, "down": same, "dual_write": "trigger"}


async def advise(db: asyncpg.Connection, change: dict[str, Any]) -> tuple[dict[str, Any], dict[str, SideDifference]]:
    """The change with everything that advise writes into it, and what is then said of each difference."""
    for _ in range(4):
        change = add_missing_ddl(change, (await compare_planned_side(db, plan_of(**change))).differences)
    report = await compare_planned_side(db, plan_of(**change))
    return change, {each.what: each for each in report.differences}


def names(found: dict[str, SideDifference], verdict: SideVerdict) -> list[str]:
    return sorted(each.what for each in found.values() if each.verdict is verdict)


async def replace_old_side(db: asyncpg.Connection, plan: Plan) -> None:
    """The statements of a release from expand to cleanup; rows are the caller's."""
    for sql in [*plan.change.expand.split(";\n"), *plan.change.indexes]:
        await db.execute(sql)
    for batch in constrain_batches(read_constrain(plan)):
        for sql in batch:
            await db.execute(sql)
    assert await find_losses(db, plan, at_end=True) == ()
    for build in (archive_statements, drop_archive_statements):
        async with db.transaction():
            for sql in build(plan, await read_catalog(db, plan)):
                await db.execute(sql)


async def test_what_a_definition_leaves_out_is_named(db: asyncpg.Connection) -> None:
    """pg_get_indexdef and its like print no comment, no statistics target and no CLUSTER ON."""
    await db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, c text CONSTRAINT filled CHECK (c <> ''), o int);"
        "CREATE INDEX by_c ON t (c); CREATE INDEX by_length ON t (length(c));"
        "CREATE STATISTICS pair ON c, o FROM t; ALTER STATISTICS pair SET STATISTICS 999;"
        "ALTER INDEX by_length ALTER COLUMN 1 SET STATISTICS 333; ALTER TABLE t CLUSTER ON by_c;"
        "CREATE POLICY own ON t USING (c <> 'x'); CREATE EXTENSION citext;"
        "ALTER INDEX by_c DEPENDS ON EXTENSION citext;"
        "COMMENT ON INDEX by_c IS 'i'; COMMENT ON CONSTRAINT filled ON t IS 'it''s'; COMMENT ON POLICY own ON t IS 'p';"
        "COMMENT ON STATISTICS pair IS 's'"
    )
    change, found = await advise(db, column_change())
    assert names(found, SideVerdict.LOST) == [
        "comment of check filled",
        "comment of index by_c",
        "comment of policy own",
        "comment of statistics pair",
        "settings of index by_c",
        "settings of index by_length",
        "settings of statistics pair",
    ]
    plan = plan_of(**change, accept=names(found, SideVerdict.LOST))
    for each in found.values():  # what it says is what works
        assert each.verdict is SideVerdict.CARRIED or each.advice.startswith("run it by hand after contract: ")
    for sql in [*change["expand"].split(";\n"), *change["indexes"]]:
        await db.execute(sql)
    for batch in constrain_batches(read_constrain(plan)):
        for sql in batch:
            await db.execute(sql)
    for each in found.values():
        if each.advice:
            await db.execute(each.advice.removeprefix("run it by hand after contract: ").rpartition("; accept")[0])
    again = compare_sides(plan, *[await _table(db, "t")] * 2, key=("id",))
    assert [each.what for each in again if each.verdict is not SideVerdict.CARRIED] == []


async def _table(db: asyncpg.Connection, name: str) -> TableObjects:
    found = await read_table_objects(db, name)
    assert found is not None
    return found


TRIGGERS = """
CREATE TABLE t (id int PRIMARY KEY, c text);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER always BEFORE UPDATE OF c ON t FOR EACH ROW EXECUTE FUNCTION f();
CREATE TRIGGER replica BEFORE UPDATE OF c ON t FOR EACH ROW EXECUTE FUNCTION f();
CREATE TRIGGER never BEFORE UPDATE OF c ON t FOR EACH ROW EXECUTE FUNCTION f();
ALTER TABLE t ENABLE ALWAYS TRIGGER always, ENABLE REPLICA TRIGGER replica, DISABLE TRIGGER never;
"""


async def test_a_trigger_of_replication_sessions_is_not_disabled(db: asyncpg.Connection) -> None:
    await db.execute(TRIGGERS)
    _, found = await advise(db, column_change())
    assert names(found, SideVerdict.LOST) == ["trigger always", "trigger replica"]
    assert names(found, SideVerdict.HARMLESS) == ["trigger never"]

    change, found = await advise(db, table_change("CREATE TABLE t2 (id int PRIMARY KEY, c text)", "c"))
    assert names(found, SideVerdict.LOST) == []
    for sql in change["expand"].split(";\n"):
        await db.execute(sql)
    modes = "SELECT tgname::text, tgenabled::text FROM pg_trigger WHERE tgrelid = 't2'::regclass AND NOT tgisinternal"
    assert dict(await db.fetch(modes)) == {"always": "A", "replica": "R"}
    for mode in ("ENABLE TRIGGER always", "DISABLE TRIGGER replica"):  # somebody changes it during the release
        await db.execute(f"ALTER TABLE t2 {mode}")
    assert [each.what for each in await find_losses(db, plan_of(**change))] == [
        "settings of trigger always",
        "trigger replica",
    ]


async def test_what_uses_the_whole_row_is_named(db: asyncpg.Connection) -> None:
    """The catalog has no dependency on columns for it, and dropping the column is no error: the next query is."""
    await db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, c text);"
        "CREATE FUNCTION is_mine(r t) RETURNS bool LANGUAGE sql STABLE AS 'SELECT r.c = current_user';"
        "CREATE FUNCTION has_key(r t) RETURNS bool LANGUAGE sql STABLE AS 'SELECT r.id > 0';"
        "CREATE POLICY own ON t USING (is_mine(t.*)); ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
        "CREATE VIEW documents AS SELECT to_jsonb(t.*) AS document FROM t;"
        "CREATE VIEW counted AS SELECT count(*) FROM t; CREATE VIEW above AS SELECT * FROM documents;"
        "ALTER TABLE t ADD CONSTRAINT full_row CHECK (num_nulls(t.*) < 9);"
        "ALTER TABLE t ADD CONSTRAINT pattern CHECK (c ~ 'a.*b')"
    )
    _, found = await advise(db, column_change())
    assert names(found, SideVerdict.LOST) == [
        "check full_row",
        "function public.is_mine(public.t)",
        "policy own",
        "view public.documents",
    ]
    assert found["view public.documents"].reason.endswith("and no c at the end; public.above depends on it")
    assert not found["view public.documents"].is_attached
    _, found = await advise(db, table_change("CREATE TABLE t2 (id int PRIMARY KEY, c text)", "c"))
    assert {"policy own", "function public.is_mine(public.t)", "view public.documents"} <= {
        *names(found, SideVerdict.LOST)
    }
    assert found["policy own"].advice, "a statement would name a function that does not take the new row"


@pytest.mark.parametrize(
    ("text", "is_whole"),
    [
        ("CHECK (num_nulls(t.*) > 1)", True),
        ('CREATE INDEX i ON s."a.*b" USING btree ((("a.*b".*)::text))', True),
        ("CHECK (c ~ 'a.*b'::text)", False),
        ('CREATE INDEX i ON s."a.*b" USING btree (c)', False),
        (
            "CREATE TRIGGER x AFTER UPDATE ON t FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION f",
            False,
        ),
    ],
)
def test_a_whole_row_is_found_in_the_text_and_not_in_literals(text: str, is_whole: bool) -> None:
    assert uses_whole_row(text) is is_whole


ODD_IDENTITY = """
CREATE TABLE t (
  id int GENERATED ALWAYS AS IDENTITY (START WITH 1000 INCREMENT BY -5 MINVALUE -100 MAXVALUE 2000 CYCLE CACHE 4)
    PRIMARY KEY,
  c int GENERATED BY DEFAULT AS IDENTITY (START 50 INCREMENT 10 MAXVALUE 9000 CYCLE));
INSERT INTO t (c) SELECT g FROM generate_series(1, 20) g;
"""
OPTIONS = "seqstart, seqincrement, seqmin, seqmax, seqcache, seqcycle"


async def test_the_options_of_a_sequence_survive_its_table(db: asyncpg.Connection) -> None:
    """The successor was created without them: cleanup failed at setval, with the archive half gone."""
    await db.execute(ODD_IDENTITY)
    read = f"SELECT {OPTIONS} FROM pg_sequence WHERE seqrelid = pg_get_serial_sequence($1, $2)::regclass"
    before = [dict(await db.fetchrow(read, "t", column)) for column in ("id", "c")]
    change, found = await advise(db, table_change("CREATE TABLE t2 (id int PRIMARY KEY, c int)", "c"))
    plan = plan_of(**change, accept=names(found, SideVerdict.LOST))
    await db.execute("CREATE SCHEMA zdd")
    await replace_old_side(db, plan)
    assert [dict(await db.fetchrow(read, "t2", column)) for column in ("id", "c")] == before
    assert await db.fetchval("INSERT INTO t2 DEFAULT VALUES RETURNING id") < 1000 - 19 * 5


async def test_an_identity_is_written_with_its_options_and_compared_by_them(db: asyncpg.Connection) -> None:
    await db.execute(ODD_IDENTITY)
    change, found = await advise(db, column_change("int"))
    assert names(found, SideVerdict.LOST) == []
    assert change["constrain"][-1].endswith(
        "ADD GENERATED BY DEFAULT AS IDENTITY (INCREMENT BY 10 START WITH 50 MAXVALUE 9000 CYCLE)"
    )
    created = (
        "CREATE TABLE t2 (id int GENERATED ALWAYS AS IDENTITY (INCREMENT -5 MINVALUE -100 MAXVALUE 2000) PRIMARY KEY,"
        " c int GENERATED BY DEFAULT AS IDENTITY (START 50 INCREMENT 10 MAXVALUE 9000 CYCLE))"
    )
    _, found = await advise(db, table_change(created, "c"))
    assert names(found, SideVerdict.LOST) == ["identity id"]
    assert "MINVALUE -100 MAXVALUE 2000 CYCLE" in found["identity id"].reason
    assert "CACHE 4 CYCLE" in found["identity id"].advice


@pytest.mark.parametrize("kind", ["column", "table"])
async def test_a_sequence_that_belongs_to_an_old_column_is_not_dropped_with_it(
    db: asyncpg.Connection, kind: str
) -> None:
    await db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, c int); CREATE SEQUENCE tickets OWNED BY t.c;"
        "CREATE SEQUENCE shared OWNED BY t.c; CREATE TABLE other (k int DEFAULT nextval('shared'))"
    )
    wanted = column_change("int")
    if kind == "table":
        wanted = table_change("CREATE TABLE t2 (id int PRIMARY KEY, c int)", "c")
    before = {each.what: each for each in (await compare_planned_side(db, plan_of(**wanted))).differences}
    assert before["sequence tickets"].verdict is SideVerdict.LOST
    assert not before["sequence tickets"].is_attached
    assert "default value for column k of table public.other uses it" in before["sequence shared"].reason
    assert before["sequence shared"].is_attached, "the old side cannot be dropped while another table uses it"
    change, found = await advise(db, wanted)
    assert names(found, SideVerdict.LOST) == []
    await db.execute("CREATE SCHEMA zdd")
    await replace_old_side(db, plan_of(**change))
    owners = await db.fetch(
        "SELECT objid::regclass::text AS name, refobjid::regclass::text || '.' || attname AS owner FROM pg_depend"
        " JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid"
        " WHERE classid = 'pg_class'::regclass AND deptype = 'a' AND objid > 16384"
    )
    assert dict(owners) == dict.fromkeys(("tickets", "shared"), "t2.c" if kind == "table" else "t.n")


async def test_a_table_that_can_get_no_column_is_refused_before_the_release(db: asyncpg.Connection) -> None:
    """The copies have no dropped columns and no type: expand worked there, and failed on the table."""
    columns = ", ".join(f"x{number} int" for number in range(1598))
    dropped = ", ".join(f"DROP x{number}" for number in range(1598))
    await db.execute(f"CREATE TABLE t (id int PRIMARY KEY, c text, {columns}); ALTER TABLE t {dropped}")
    with pytest.raises(PlanError, match="1600 columns: it has 1600, and 1598 of these are dropped"):
        await check_change(db, plan_of(**column_change()))
    await db.execute("DROP TABLE t; CREATE TYPE shape AS (id int, c text); CREATE TABLE t OF shape (PRIMARY KEY (id))")
    with pytest.raises(PlanError, match="a table of type shape, which gets no column of its own"):
        await check_change(db, plan_of(**column_change()))
    _, found = await advise(db, table_change("CREATE TABLE t2 (id int PRIMARY KEY, c text)", "c"))
    assert names(found, SideVerdict.LOST) == ["settings type"]


async def test_a_table_of_others_is_refused_before_the_release(db: asyncpg.Connection) -> None:
    """A child's column can be renamed only with its parent's; a table of an extension cannot be dropped."""
    await db.execute(
        "CREATE TABLE parent (id int, c text); CREATE TABLE t () INHERITS (parent); ALTER TABLE t ADD PRIMARY KEY (id)"
    )
    with pytest.raises(PlanError, match="part of an inheritance tree"):
        await check_change(db, plan_of(**column_change()))
    await db.execute("DROP TABLE parent CASCADE; CREATE TABLE t (id int PRIMARY KEY, c text)")
    await db.execute("CREATE EXTENSION citext; ALTER EXTENSION citext ADD TABLE t")
    with pytest.raises(PlanError, match="belongs to extension citext") as refused:
        await check_change(db, plan_of(**column_change()))
    await db.execute(refused.value.hint.partition(",")[0])
    assert await check_change(db, plan_of(**column_change())) == []


async def test_rights_that_only_the_new_table_would_have_are_named(db: asyncpg.Connection) -> None:
    """Default privileges gave all columns to a role that may read one of them."""
    await db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, c text); GRANT SELECT (id) ON t TO pg_monitor;"
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO pg_monitor"
    )
    created = table_change("CREATE TABLE t2 (id int PRIMARY KEY, c text)", "c")
    before = {each.what: each for each in (await compare_planned_side(db, plan_of(**created))).differences}
    assert before["grant-added SELECT to pg_monitor"].verdict is SideVerdict.LOST
    change, found = await advise(db, created)
    assert "REVOKE SELECT ON public.t2 FROM pg_monitor" in change["expand"]
    assert "grant-added SELECT to pg_monitor" not in found
    for sql in change["expand"].split(";\n"):
        await db.execute(sql)
    assert not await db.fetchval("SELECT has_table_privilege('pg_monitor', 't2', 'SELECT')")
    assert await db.fetchval("SELECT has_column_privilege('pg_monitor', 't2', 'id', 'SELECT')")
    granted = created | {"expand": created["expand"] + "; GRANT SELECT ON t2 TO pg_monitor"}
    assert "grant-added SELECT to pg_monitor" not in (await advise(db, granted))[1], "the plan means it"


async def test_more_columns_than_a_query_may_have_are_refused(db: asyncpg.Connection) -> None:
    columns = [f"w{number}" for number in range(801)]
    body = f"id int PRIMARY KEY, {', '.join(f'{each} int' for each in columns)}"
    await db.execute(f"CREATE TABLE t ({body})")
    with pytest.raises(PlanError, match="1602 columns of both sides would be compared in one query"):
        await check_change(db, plan_of(**table_change(f"CREATE TABLE t2 ({body})", *columns)))


async def test_a_key_without_overlaps_is_not_written(db: asyncpg.Connection) -> None:
    """Its index can only be built together with the constraint, under a lock."""
    await db.execute(
        "CREATE EXTENSION btree_gist;"
        "CREATE TABLE t (id int PRIMARY KEY, c int4range NOT NULL, k int,"
        " CONSTRAINT one UNIQUE (k, c WITHOUT OVERLAPS));"
        "CREATE TABLE o (k int, c int4range, CONSTRAINT other FOREIGN KEY (k, PERIOD c) REFERENCES t (k, PERIOD c))"
    )
    change, found = await advise(db, column_change("int4range"))
    assert names(found, SideVerdict.LOST) == ["referencing-key other of public.o", "unique one"]
    assert "WITHOUT OVERLAPS only under a lock" in found["unique one"].advice
    assert change["constrain"] == ["ALTER TABLE public.t ALTER COLUMN n SET NOT NULL"]


async def test_a_table_with_a_constraint_of_its_whole_row_is_copied(db: asyncpg.Connection) -> None:
    """LIKE refuses it; the copy has the other constraints and indexes."""
    await db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, c text, CONSTRAINT full_row CHECK (num_nulls(t.*) < 9),"
        " CONSTRAINT filled CHECK (c <> ''), CONSTRAINT one UNIQUE (c)); CREATE INDEX by_length ON t (length(c))"
    )
    _, found = await advise(db, column_change())
    assert names(found, SideVerdict.LOST) == ["check full_row"]
    assert names(found, SideVerdict.CARRIED) == ["check filled", "index by_length", "unique one"]


async def test_event_triggers_are_named(db: asyncpg.Connection) -> None:
    """They run for the real tables alone, so that no copy shows what they refuse."""
    await db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, c text);"
        "CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "CREATE EVENT TRIGGER only_dba ON ddl_command_end EXECUTE FUNCTION f()"
    )
    notes = await check_change(db, plan_of(**column_change()))
    assert notes == ["event trigger only_dba runs with every DDL of the release, and may refuse it"]
    await db.execute("ALTER EVENT TRIGGER only_dba DISABLE")
    assert await check_change(db, plan_of(**column_change())) == []


async def test_a_unique_index_without_distinct_nulls_waits_for_filled_rows(db: asyncpg.Connection) -> None:
    """It is built while the new column is NULL in every row: the second INSERT of the application would fail."""
    await db.execute("CREATE TABLE t (id int PRIMARY KEY, c text, CONSTRAINT one UNIQUE NULLS NOT DISTINCT (c))")
    change, found = await advise(db, column_change())
    assert "indexes" not in change
    assert "not filled yet" in found["unique one"].advice
    created = table_change("CREATE TABLE t2 (id int PRIMARY KEY, c text)", "c")
    assert (await advise(db, created))[1]["unique one"].verdict is SideVerdict.CARRIED


@pytest.mark.timeout(120)
async def test_a_thousand_columns_are_compared_in_seconds(db: asyncpg.Connection) -> None:
    """Each expression was parsed for each column, and each column was a query: it took seven minutes."""
    columns = [f"w{number}" for number in range(1000)]
    body = f"id int PRIMARY KEY, {', '.join(f'{each} text' for each in columns)}"
    await db.execute(f"CREATE TABLE t ({body})")
    report = await compare_planned_side(db, plan_of(**table_change(f"CREATE TABLE t2 ({body})", *columns)))
    assert {each.verdict for each in report.differences} == {SideVerdict.CARRIED}


async def test_a_domain_that_goes_is_named(db: asyncpg.Connection) -> None:
    await db.execute("CREATE DOMAIN code AS text CHECK (VALUE <> ''); CREATE TABLE t (id int PRIMARY KEY, c code)")
    _, found = await advise(db, column_change())
    assert names(found, SideVerdict.HARMLESS) == ["domain c"]
    assert names(found, SideVerdict.CARRIED) == ["check code_check"]


@pytest.mark.parametrize("is_indivisible", [False, True])
def test_a_foreign_key_that_the_server_adds_only_under_a_lock_is_not_written(is_indivisible: bool) -> None:
    """Of a partitioned table before PostgreSQL 18: NOT VALID is refused there, in contract."""
    key = CatalogObject(
        ObjectKind.REFERENCING_KEY,
        "p_fkey of public.p",
        "FOREIGN KEY (k) REFERENCES public.t(c)",
        ("c",),
        owner_table=("public", "p"),
        is_indivisible=is_indivisible,
    )
    old = TableObjects("public", "t", columns=(TableColumn("id", "integer"), TableColumn("c", "text")), objects=(key,))
    new = TableObjects("public", "t", columns=(*old.columns, TableColumn("n", "text")), objects=(key,))
    [found] = compare_sides(plan_of(**column_change()), old, new, key=("id",))
    assert found.verdict is SideVerdict.LOST
    assert bool(found.statements) is not is_indivisible
    assert ("partitioned" in found.advice) is is_indivisible


async def test_a_copy_of_a_partitioned_table_is_partitioned(db: asyncpg.Connection) -> None:
    """So what the server refuses for a partitioned table is refused by the check, not in contract."""
    await db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, c int); CREATE TABLE p (k int, day int) PARTITION BY HASH (day);"
        "CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
    )
    added = {"constrain": ["ALTER TABLE p ADD CONSTRAINT positive CHECK (k > 0) NO INHERIT NOT VALID"]}
    with pytest.raises(PlanError, match=r"statement 1: PostgreSQL refuses it: .*partitioned table"):
        await compare_planned_side(db, plan_of(**column_change("int"), **added))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("ALTER TABLE p0 ADD COLUMN x int", "cannot add column to a partition"),
        ("ALTER TABLE viewed DROP COLUMN c", r"refuses the migration: ALTER TABLE viewed .*: cannot drop column"),
        ("DROP VIEW below", r"refuses the migration: DROP VIEW below: cannot drop view"),
        ("ALTER TABLE viewed DROP COLUMN d", r'refuses the migration: ALTER .*: column "d" of relation "viewed" does'),
        ("CREATE INDEX ON viewed (d)", r'refuses the migration: CREATE INDEX .*: column "d" does not exist'),
        ("ALTER TABLE viewed ADD e nothing", r'refuses the migration: ALTER .*: type "nothing" does not exist'),
        ("CREATE VIEW v AS SELECT 1 FROM nothing", r'refuses the migration: .*: relation "nothing" does not exist'),
    ],
)
async def test_what_the_server_refuses_on_the_copy_is_refused_by_check(
    db: asyncpg.Connection, pg_dsn: str, sql: str, reason: str
) -> None:
    await db.execute(
        "CREATE TABLE viewed (id int PRIMARY KEY, c text); CREATE VIEW below AS SELECT c FROM viewed;"
        "CREATE VIEW above AS SELECT c FROM below;"
        "CREATE TABLE p (k int, day int) PARTITION BY HASH (day);"
        "CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
    )
    plan = operations_plan(pg_dsn, sql)
    with pytest.raises(PlanError, match=reason):
        await check_operation_locks(plan, LockMeasurement(measure_migration))
    optional = operations_plan(pg_dsn, "ALTER TABLE viewed DROP COLUMN IF EXISTS nothing", "CREATE INDEX by_k ON p (k)")
    lines = await check_operation_locks(optional, LockMeasurement(measure_migration))
    assert any(line.startswith("the migration itself runs on a copy of the schema (PostgreSQL") for line in lines)


@pytest.mark.timeout(120)
async def test_what_may_lack_on_the_copy_alone_is_not_known(db: asyncpg.Connection, pg_dsn: str) -> None:
    """Rows, and objects of an extension that the server of the copy does not have."""
    await db.execute("CREATE TABLE parents (id int PRIMARY KEY); CREATE TABLE t (p int REFERENCES parents)")
    await db.execute("INSERT INTO parents VALUES (1)")
    insert = {"sql": "INSERT INTO t VALUES (1)", "undo": ["DELETE FROM t"]}
    lines = await check_operation_locks(operations_plan(pg_dsn, insert), LockMeasurement(measure_migration))
    unknown = "note: whether PostgreSQL accepts the migration is not known: on a copy"
    assert [line for line in lines if line.startswith(unknown) and "violates foreign key" in line]
    await db.execute("CREATE FUNCTION f() RETURNS int LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler'")
    await db.execute("UPDATE pg_proc SET probin = '$libdir/not_there' WHERE proname = 'f'")
    used = operations_plan(pg_dsn, "ALTER TABLE t ADD COLUMN d int DEFAULT f()")
    lines = await check_operation_locks(used, LockMeasurement(measure_migration))
    assert [line for line in lines if line.startswith(unknown) and "function f() does not exist" in line]


@pytest.mark.timeout(120)
async def test_a_copy_has_no_rows_and_the_roles_of_the_server(db: asyncpg.Connection, pg_dsn: str) -> None:
    await db.execute("CREATE TABLE t (a int); CREATE TABLE names (n text)")
    plan = operations_plan(
        pg_dsn, {"sql": "COPY names FROM STDIN; NOTIFY done", "undo": []}, "GRANT ALL ON t TO nobody"
    )
    with pytest.raises(PlanError, match=r'refuses the migration: GRANT .*: role "nobody" does not exist'):
        await check_operation_locks(plan, LockMeasurement(measure_migration))


@pytest.mark.parametrize(
    "sql",
    [
        "DO $$ BEGIN EXECUTE 'COMMENT ON TABLE t IS ' || (SELECT quote_literal(n) FROM names); END $$",
        "SELECT 1 / count(*) FROM names",
        "ALTER ROLE CURRENT_USER SET work_mem = '8MB'",
        'ALTER TABLE t ADD COLUMN c text COLLATE "xx_XX"',
        "CREATE INDEX ON t (a) TABLESPACE fast",
    ],
)
async def test_what_a_copy_cannot_know_refuses_no_migration(db: asyncpg.Connection, sql: str) -> None:
    """A copy has no rows, none of the server's disks and locales, and changes no server."""
    await db.execute("CREATE TABLE t (a int); CREATE TABLE names (n text)")
    ran = await run_plainly(db, ["ALTER TABLE t ADD COLUMN b int", sql], is_complete=True, bodies={})
    assert (ran.statement, ran.is_refused) == (sql, False)


async def test_a_plain_run_ends_where_a_statement_does_not(db: asyncpg.Connection) -> None:
    ran = await run_plainly(
        db, ["SET statement_timeout = 0", "SELECT pg_sleep(60)"], is_complete=True, bodies={}, timeout=0.2
    )
    assert (ran.statement, ran.is_refused) == ("SELECT pg_sleep(60)", False)


async def test_what_code_makes_of_rows_is_not_known_to_later_statements(db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE t (a int); CREATE TABLE names (n text)")
    code = """DO $$ DECLARE c text; BEGIN FOR c IN SELECT n FROM names LOOP
        EXECUTE 'ALTER TABLE t ADD COLUMN ' || quote_ident(c) || ' int'; END LOOP; END $$"""
    for statements, is_refused in (
        ([code, "CREATE INDEX ON t (made)"], False),
        (["CREATE INDEX ON t (made)"], True),
        ([code, "CREATE INDEX ON t USING btree (a) WITH (fillfactor = 1)"], True),
    ):
        ran = await run_plainly(db, statements, is_complete=True)
        assert (ran.statement, ran.is_refused) == (statements[-1], is_refused)


@pytest.mark.parametrize(
    ("operations", "found"),
    [
        (["ALTER TABLE t DROP COLUMN nothing"], "column t.nothing does not exist"),
        (["ALTER TABLE nothing DROP COLUMN a"], "column nothing.a does not exist"),
        (["DROP TABLE nothing"], "table nothing does not exist"),
        (["DROP VIEW nothing"], "view nothing does not exist"),
        (["DROP TYPE nothing"], "type nothing does not exist"),
        (["DROP FUNCTION nothing()"], "function nothing does not exist"),
        (["DROP TRIGGER nothing ON t"], "trigger t.nothing does not exist"),
        (["ALTER TABLE t DROP CONSTRAINT nothing"], "constraint t.nothing does not exist"),
        (["ALTER TABLE t RENAME TO u; ALTER TABLE u DROP COLUMN a"], ""),
        (["ALTER TABLE t ADD COLUMN b int", "ALTER TABLE t DROP COLUMN b"], ""),
        (["DROP TABLE IF EXISTS nothing", "ALTER TABLE t DROP COLUMN IF EXISTS b"], ""),
        (["ALTER TABLE t DROP COLUMN a"], ""),
        (['ALTER TABLE t ADD COLUMN "New ""C" int', 'ALTER TABLE t DROP COLUMN "New ""C"'], ""),
        (["CREATE VIEW V AS SELECT 1", "DROP VIEW v"], ""),
        (["ALTER TABLE t ADD UNIQUE (a)", "ALTER TABLE t DROP CONSTRAINT t_a_key"], ""),
        (["CREATE INDEX ON t (a)", "DROP INDEX t_a_idx"], ""),
        (["ALTER TABLE IF EXISTS nothing DROP COLUMN a", "ALTER TABLE t ALTER a DROP DEFAULT"], ""),
        ([{"sql": "SELECT make()", "undo": []}, "DROP TABLE made"], ""),
        ([{"sql": "DO $$ BEGIN EXECUTE format('CREATE TABLE x_%s ()', 1); END $$", "undo": []}, "DROP TABLE x_1"], ""),
        (["CREATE INDEX ON t (a)", "DROP TABLE tx"], "table tx does not exist"),
        (["CREATE EXTENSION nothing"], "the server does not have extension nothing"),
    ],
)
async def test_what_is_dropped_has_to_exist_before_the_start(
    db: asyncpg.Connection, pg_dsn: str, operations: list[str], found: str
) -> None:
    await db.execute("CREATE TABLE t (id int PRIMARY KEY, a int)")
    problems = await find_problems(db, plan_operations(operations_plan(pg_dsn, *operations)))
    assert [text for text, _ in problems if found in text or not found] == [text for text, _ in problems]
    assert bool(problems) is bool(found)

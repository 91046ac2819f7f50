"""`zdd advise` with a database: statements are executed on a copy of the schema. Cases B1 to B6."""

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from zdd_tui.cli.parser import main
from zdd_tui.testbed.servers import postgres_server

pytestmark = pytest.mark.timeout(180)

SHOP = """
CREATE SCHEMA app;
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN nested AS positive;
CREATE TABLE users (id int PRIMARY KEY, name text);
CREATE TABLE app.users (id int PRIMARY KEY, name text);
INSERT INTO app.users SELECT n, 'a name' FROM generate_series(1, 50000) n;
CREATE TABLE orders (id int PRIMARY KEY, user_id int CONSTRAINT orders_user REFERENCES users);
CREATE TABLE t (id int PRIMARY KEY, c text);
GRANT SELECT ON t TO PUBLIC;
CREATE TABLE events (id int, day int NOT NULL) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20);
INSERT INTO events SELECT n, n % 20 FROM generate_series(1, 50000) n;
CREATE PROCEDURE widen() LANGUAGE plpgsql AS 'BEGIN ALTER TABLE t ADD z int; END';
CREATE FUNCTION destroy() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM t; RETURN 1; END';
ANALYZE;
"""
EVENTS = ("public.events", "public.events_1", "public.events_2")


@pytest.fixture
async def shop(db: asyncpg.Connection, pg_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", pg_dsn)
    await db.execute(SHOP)
    return pg_dsn


async def advise(capsys: pytest.CaptureFixture[str], sql: str, *options: str, dsn: bool = True) -> dict[str, Any]:
    """The report of `zdd advise` on a migration."""
    Path("m.sql").write_text(sql)  # noqa: ASYNC240
    arguments = ["advise", "--sql", "m.sql", "--json", "--deployment", "api", *options]
    if dsn:
        arguments += ["--dsn", "$DATABASE_URL"]
    assert await asyncio.to_thread(main, arguments) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    if dsn and "--scratch-dsn" not in options:
        assert report["lock_source"].startswith("measured on PostgreSQL"), report["lock_source"]
    return report


def locks_of(statement: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["table"]: (each["lock"], each["work"]) for each in statement["locks"]}


async def test_b1_code_that_cannot_be_read_is_judged_by_what_it_does(
    shop: str, db: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    report = await advise(
        capsys,
        "DO $$ BEGIN ALTER TABLE t DROP COLUMN c; END $$;\n"
        "DO $$ BEGIN EXECUTE 'ALTER TABLE ' || 't' || ' ADD x int'; END $$;\n"
        "DO $$ BEGIN IF current_database() = 'production' THEN DROP TABLE t; END IF; END $$;\n"
        "CALL widen();\nSELECT destroy();\n"
        "DO $$ BEGIN EXECUTE 'COPY t TO PROGRAM ''cat'''; END $$;\nSELECT 1;",
    )
    dropped, added, branch, procedure, function, outside, plain = report["statements"]
    assert "column c of public.t is gone" in dropped["breaks"]
    assert locks_of(dropped) == locks_of(added) == {"public.t": ("ACCESS EXCLUSIVE", "catalog only")}
    assert (added["breaks"], added["source"]) == (None, "measured")
    assert "branches" in branch["breaks"]
    assert procedure["breaks"] is None
    assert locks_of(procedure) == {"public.t": ("ACCESS EXCLUSIVE", "catalog only")}
    assert "deletes" in function["breaks"], "the copy has no rows that could show it"
    assert "not executed on a copy" in outside["breaks"]
    assert plain["breaks"] is None
    assert report["schema"] == "breaking"
    columns = await db.fetchval("SELECT count(*) FROM information_schema.columns WHERE table_name = 't'")
    assert columns == 2, "nothing was executed on the real database"


@pytest.mark.parametrize(
    "sql",
    [
        "DO $$ BEGIN ALTER TABLE t DROP COLUMN c; END $$",
        "CALL widen()",
        "SELECT destroy()",
        "CREATE EXTENSION dblink",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "SECURITY LABEL ON TABLE t IS 'x'",
        "DROP OWNED BY app",
        "COPY t TO PROGRAM 'cat'",
    ],
)
async def test_b1_without_a_server_what_no_rule_knows_is_breaking(
    shop: str, capsys: pytest.CaptureFixture[str], sql: str
) -> None:
    report = await advise(capsys, sql, dsn=False)
    assert report["lock_source"] == "by rule"
    assert (report["schema"], report["strategy"]) == ("breaking", "expand-contract")
    assert report["statements"][0]["source"] == "by rule"


async def test_a_truncate_that_follows_a_scan_is_never_taken_for_a_rewrite(
    shop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = await advise(capsys, "DO $$ BEGIN PERFORM count(*) FROM t; TRUNCATE t; END $$")
    assert "it deletes rows" in report["statements"][0]["breaks"]
    assert report["schema"] == "breaking"


async def test_the_copy_has_the_time_zone_of_the_database(
    shop: str, db: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    """A timestamptz becomes a timestamp without a rewrite where the time zone is UTC, and only there."""
    await db.execute("ALTER TABLE t ADD at timestamptz")
    name = await db.fetchval("SELECT current_database()")
    for zone, work in (("UTC", "catalog only"), ("Europe/Berlin", "rewrites the table and its indexes")):
        await db.execute(f"ALTER DATABASE {name} SET TimeZone = '{zone}'")
        report = await advise(capsys, "ALTER TABLE t ALTER at TYPE timestamp")
        assert locks_of(report["statements"][0]) == {"public.t": ("ACCESS EXCLUSIVE", work)}


async def test_the_name_of_a_key_may_be_used_by_running_code(
    shop: str, db: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    await db.execute("ALTER TABLE t ADD CONSTRAINT c_given CHECK (c <> '')")
    statements = (
        "ALTER TABLE t RENAME CONSTRAINT t_pkey TO a;\nALTER INDEX orders_pkey RENAME TO b;\n"
        "ALTER TABLE t RENAME CONSTRAINT c_given TO c"
    )
    key, index, check = (await advise(capsys, statements))["statements"]
    assert "the key t_pkey of public.t is named a now" in key["breaks"]
    assert "the key orders_pkey of public.orders is named b now" in index["breaks"]
    assert check["breaks"] is None


async def test_b2_a_ruling_for_each_side_of_a_foreign_key(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = await advise(
        capsys,
        "CREATE TABLE o (id int PRIMARY KEY, user_id int REFERENCES users);\n"
        "ALTER TABLE orders DROP CONSTRAINT orders_user;",
    )
    created, dropped = report["statements"]
    assert locks_of(created) == {"public.users": ("SHARE ROW EXCLUSIVE", "catalog only")}
    assert locks_of(dropped) == {
        "public.orders": ("ACCESS EXCLUSIVE", "catalog only"),
        "public.users": ("ACCESS EXCLUSIVE", "catalog only"),
    }
    [table] = (await advise(capsys, "DROP TABLE orders"))["statements"]
    assert locks_of(table)["public.users"] == ("ACCESS EXCLUSIVE", "catalog only")
    [by_rule] = (await advise(capsys, "CREATE TABLE o (id int REFERENCES users)", dsn=False))["statements"]
    assert locks_of(by_rule) == {"public.users": ("SHARE ROW EXCLUSIVE", "catalog only")}


async def test_b3_a_domain_with_a_constraint_rewrites_the_table(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = await advise(capsys, "ALTER TABLE t ADD e positive; ALTER TABLE app.users ADD e nested;")
    assert [each["work"] for each in report["statements"]] == ["rewrites the table and its indexes"] * 2


async def test_b4_partitions_are_summed_and_locked_with_their_parent(
    shop: str, db: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    report = await advise(
        capsys,
        "CREATE INDEX i ON events (id);\nCREATE TABLE events_3 PARTITION OF events FOR VALUES FROM (20) TO (30);\n"
        "CREATE INDEX CONCURRENTLY j ON events (day);",
    )
    index, partition, refused = report["statements"]
    assert locks_of(index) == dict.fromkeys(EVENTS, ("SHARE", "builds an index"))
    parent = next(each for each in report["tables"] if each["table"] == "public.events")
    size = await db.fetchval("SELECT sum(pg_table_size(relid)) FROM pg_partition_tree('events')")
    assert parent["heap_bytes"] == size > 1_000_000
    assert parent["rows"] == 50000
    assert locks_of(partition) == {"public.events": ("ACCESS EXCLUSIVE", "catalog only")}
    assert "CONCURRENTLY on a partitioned table" in refused["breaks"]
    assert "ON ONLY" in refused["hint"]


async def test_b5_names_are_looked_up_as_the_session_does(
    shop: str, db: asyncpg.Connection, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alter = "ALTER TABLE users ADD CHECK (id > 0);"
    for sql in (f"SET search_path TO app; {alter}", f"BEGIN; SET LOCAL search_path = app, public; {alter} COMMIT;"):
        report = await advise(capsys, sql)
        altered = next(each for each in report["statements"] if each["sql"].startswith("ALTER"))
        assert locks_of(altered) == {"app.users": ("ACCESS EXCLUSIVE", "reads the whole table")}
        assert [each["rows"] for each in report["tables"]] == [50000]
    await db.execute("CREATE ROLE b5_role LOGIN SUPERUSER PASSWORD 'b5'; ALTER ROLE b5_role SET search_path = app")
    try:
        monkeypatch.setenv("DATABASE_URL", f"postgresql://b5_role:b5@{shop.rpartition('@')[2]}")
        report = await advise(capsys, alter)
        assert [each["table"] for each in report["statements"]] == ["app.users"]
        assert locks_of(report["statements"][0]) == {"app.users": ("ACCESS EXCLUSIVE", "reads the whole table")}
    finally:
        await db.execute("DROP ROLE b5_role")


FAIL_CLOSED = [
    "DELETE FROM t",
    "DELETE FROM t WHERE id = 1",
    "WITH gone AS (DELETE FROM t RETURNING id) SELECT count(*) FROM gone",
    "ALTER TABLE events DETACH PARTITION events_1",
    "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY p ON t USING (false)",
    "REVOKE SELECT ON t FROM PUBLIC",
    "ALTER TABLE t DISABLE TRIGGER USER",
    "ALTER TABLE t REPLICA IDENTITY NOTHING",
    "ALTER SEQUENCE s RESTART",
    "CREATE RULE r AS ON INSERT TO t DO INSTEAD NOTHING",
    "CREATE OR REPLACE FUNCTION destroy() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER ROLE somebody SET search_path = nowhere",
    "ALTER TABLE t OWNER TO somebody",
]


@pytest.mark.parametrize("sql", FAIL_CLOSED)
async def test_b6_what_takes_rows_or_rights_away_is_breaking_by_rule(
    shop: str, capsys: pytest.CaptureFixture[str], sql: str
) -> None:
    report = await advise(capsys, sql, dsn=False)
    assert report["schema"] == "breaking"


async def test_b6_what_takes_rows_or_rights_away_is_breaking_on_a_copy(
    shop: str, db: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    await db.execute("CREATE SEQUENCE s")
    report = await advise(capsys, ";\n".join(FAIL_CLOSED))
    assert [each["sql"] for each in report["statements"] if each["breaks"]] == FAIL_CLOSED


async def test_b6_rights_that_code_takes_away_are_seen(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = await advise(capsys, "DO $$ BEGIN REVOKE SELECT ON t FROM PUBLIC; END $$")
    assert report["statements"][0]["breaks"] == "rights on public.t are revoked: PUBLIC SELECT"


async def test_what_the_migration_itself_makes_keeps_nobody_waiting(
    shop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = await advise(
        capsys,
        "CREATE TABLE n (id int); ALTER TABLE n ADD x int; CREATE INDEX k ON n (x); ALTER TABLE n DROP COLUMN x;"
        " CREATE INDEX CONCURRENTLY l ON t (c);",
    )
    assert report["schema"] == "additive"
    assert [locks_of(each) for each in report["statements"][:4]] == [{}] * 4
    assert locks_of(report["statements"][4]) == {"public.t": ("SHARE UPDATE EXCLUSIVE", "builds an index")}


async def test_the_scratch_server_can_be_named_and_is_left_clean(
    shop: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async with postgres_server(tmp_path / "scratch") as scratch:
        report = await advise(capsys, "CREATE TABLE o (id int REFERENCES users)", "--scratch-dsn", scratch.dsn)
        assert report["lock_source"].startswith("measured on PostgreSQL")
        assert f"127.0.0.1:{scratch.port}" in report["lock_source"]
        assert locks_of(report["statements"][0]) == {"public.users": ("SHARE ROW EXCLUSIVE", "catalog only")}
        conn = await asyncpg.connect(scratch.dsn)
        try:
            databases = await conn.fetchval("SELECT count(*) FROM pg_database WHERE datname LIKE 'zdd%'")
            roles = await conn.fetchval("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'zdd%'")
        finally:
            await conn.close()
        assert (databases, roles) == (0, 0)
    report = await advise(capsys, "CREATE TABLE o (id int REFERENCES users)", "--scratch-dsn", shop)
    assert report["lock_source"].startswith("by rule: --scratch-dsn")
    assert "is on the server of the real database" in report["lock_source"]


async def test_predefined_roles_and_exception_blocks_are_measured(
    shop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No role of that name can be created; what an EXCEPTION block takes back leaves no lock to read at the end."""
    block = "BEGIN ALTER TABLE t ADD z int; RAISE 'no'; EXCEPTION WHEN OTHERS THEN END;"
    report = await advise(capsys, f"GRANT SELECT ON t TO pg_monitor; DO $$ BEGIN {block} END $$")
    assert locks_of(report["statements"][-1]) == {"public.t": ("ACCESS EXCLUSIVE", "not known")}

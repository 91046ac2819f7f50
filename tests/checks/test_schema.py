"""The catalog, and everything that only the server can judge about a planned change."""

from typing import Any

import asyncpg
import pytest

from tests.support.schema_change import PEOPLE, USERS, insert_rows, make_plan, open_leased_store, run_expand
from zdd_tui.backends.postgres.catalog import read_catalog
from zdd_tui.backends.postgres.gate_queries import find_invalid_objects
from zdd_tui.backends.postgres.squawk import run_squawk
from zdd_tui.checks.schema import check_change, existing_objects
from zdd_tui.model.ddl import expand_statements, sync_name
from zdd_tui.model.errors import DatabaseError, PlanError, ZddError

ADD = "ALTER TABLE {} ADD COLUMN full_name text"
KINDS = pytest.mark.parametrize("kind", ["column", "table"])


def changed(kind: str = "column", dual_write: str = "application", **change: Any) -> Any:
    plan = make_plan(kind, dual_write)
    document = plan.model_dump(mode="json")
    document["change"] |= {"table": "users", **({"into": "people"} if kind == "table" else {}), **change}
    document["database"] = {"dsn": "postgresql://x@y/z"}
    document["flags"] |= {"url": "redis://x"}
    return type(plan).model_validate(document)


async def snapshot(db: asyncpg.Connection) -> Any:
    return await db.fetch("SELECT oid, relname, relnatts FROM pg_class WHERE relnamespace = 'public'::regnamespace")


@KINDS
@pytest.mark.parametrize("dual_write", ["application", "trigger"])
async def test_the_samples_plan_passes_and_nothing_is_changed(
    db: asyncpg.Connection, kind: str, dual_write: str
) -> None:
    await db.execute(USERS)
    before = await snapshot(db)
    assert await check_change(db, make_plan(kind, dual_write)) == []
    assert await snapshot(db) == before


@KINDS
async def test_facts_before_and_after_expand(db: asyncpg.Connection, pg_dsn: str, kind: str) -> None:
    plan = make_plan(kind, "trigger", pg_dsn)
    await db.execute(USERS)
    catalog = await read_catalog(db, plan)
    assert catalog.key_names == ("id",)
    assert set(catalog.up_source_columns) == {"first_name", "last_name", *(["email"] if kind == "table" else [])}
    assert (catalog.new is None) == (kind == "table")
    async with open_leased_store(pg_dsn, plan) as store:
        catalog = await run_expand(store, plan, forward=True)
        assert catalog.new_table.column("full_name") is not None
        assert catalog.triggers == {sync_name(plan, "forward")}
        assert catalog.other_before_triggers == ()
        assert await find_invalid_objects(db, plan) == []
        await db.execute(f'ALTER TABLE users DISABLE TRIGGER "{sync_name(plan, "forward")}"')
        assert await find_invalid_objects(db, plan) == [f"trigger {sync_name(plan, 'forward')} is missing or disabled"]
        if kind == "table":
            (sequence,) = catalog.sequences
            assert (sequence.name, sequence.is_identity, sequence.is_shared) == ("users_id_seq", True, True)
            assert sequence.successor == "people_id_seq"
        await check_change(db, plan, has_started=True)
        with pytest.raises(PlanError, match="exists already"):
            await check_change(db, plan)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            changed(table="usrs", expand=ADD.format("usrs")),
            r"change.table: public.usrs does not exist.*did you mean public.users",
        ),
        (
            changed(down={"firstname": "full_name"}),
            "change.down.firstname: public.users has no column firstname; did you mean first_name",
        ),
        (changed(up={"full_name": "first_nam"}), "change.up: public.users has no column first_nam; did you mean"),
        (
            changed(down={"first_name": "ful_name"}),
            "change.down: public.users has no column ful_name; did you mean full",
        ),
        (changed(up={"full_name": "first_name + 1"}), r"change.up.full_name: PostgreSQL refuses it: operator does not"),
        (
            changed(up={"full_name": "nosuch(first_name)"}),
            r"change.up.full_name: PostgreSQL refuses it: function nosuch",
        ),
        (
            changed(down={"created_at": "full_name"}),
            r"change.down.created_at: PostgreSQL refuses it: column .* is of type",
        ),
        (changed(up={"full_name": "shaky(first_name)"}), "function shaky is VOLATILE"),
        (changed(up={"full_name": "public.shaky(first_name)"}), "function shaky is VOLATILE"),
        (changed(up={"full_name": "now()::text"}), "now returns a different result each time"),
        (changed(up={"full_name": "gen_random_uuid()::text"}), "gen_random_uuid returns a different result each time"),
        (changed(up={"full_name": "random(1, 9)::text"}), "function random is VOLATILE|PostgreSQL refuses it"),
        (changed(up={"full_name": "max(first_name)"}), "change.up.full_name: an aggregate or window function"),
        (changed(up={"full_name": "first_one(first_name)"}), "change.up.full_name: an aggregate or window function"),
        (changed(down={"first_name": "min(full_name)"}), "change.down.first_name: an aggregate or window function"),
        (
            changed(up={"full_name": "regexp_split_to_table(first_name, ' ')"}),
            "set-returning functions are not allowed",
        ),
        (
            changed(expand="ALTER TABLE users ADD COLUMN full_name checked_text"),
            "change.expand: column full_name has the domain checked_text",
        ),
        (changed(key=["email"]), r"column email of public.users can be NULL"),
        (
            changed(expand="ALTER TABLE users ADD COLUMN full_name nosuch"),
            "change.up.full_name: PostgreSQL refuses it: type",
        ),
        (
            changed("table", into="nowhere.people", expand=PEOPLE.replace("people", "nowhere.people")),
            "schema nowhere does not",
        ),
        (
            changed("table", down={"last_name": "full_name"}),
            "column first_name of public.users is NOT NULL without a default",
        ),
        (changed("column", "trigger", table="guarded", expand=ADD.format("guarded")), "BEFORE trigger stamp"),
        (
            changed(table="derived", expand=ADD.format("derived"), up={"full_name": "initial"}),
            "column initial of public.derived is generated",
        ),
        (changed(table="parted", expand=ADD.format("parted")), "public.parted is a partitioned table"),
        (changed(table="seen", expand=ADD.format("seen")), "public.seen is a view"),
    ],
)
async def test_bad_changes_are_refused_with_place_and_hint(db: asyncpg.Connection, plan: Any, message: str) -> None:
    plain = USERS.replace("TABLE users", "TABLE {}")
    await db.execute(USERS)
    await db.execute(plain.format("guarded"))
    await db.execute(plain.format("derived"))
    await db.execute("ALTER TABLE derived ADD initial text GENERATED ALWAYS AS (left(first_name, 1)) STORED")
    await db.execute("CREATE FUNCTION shaky(text) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT $1'")
    await db.execute("CREATE AGGREGATE first_one(text) (SFUNC = textcat, STYPE = text)")
    await db.execute("CREATE DOMAIN checked_text AS text CHECK (VALUE <> '')")
    await db.execute("CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    await db.execute("CREATE TRIGGER stamp BEFORE UPDATE ON guarded FOR EACH ROW EXECUTE FUNCTION stamp()")
    await db.execute(
        "CREATE TABLE parted (id bigint PRIMARY KEY, first_name text, last_name text) PARTITION BY HASH (id)"
    )
    await db.execute("CREATE VIEW seen AS SELECT * FROM users")
    with pytest.raises(PlanError, match=message) as caught:
        await check_change(db, plan)
    assert caught.value.hint


async def test_functions_and_types_are_judged_by_the_catalog_not_by_name(db: asyncpg.Connection) -> None:
    await db.execute(USERS)
    await db.execute("CREATE FUNCTION random(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1'")
    await db.execute("CREATE FUNCTION max(text, int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1'")
    await db.execute("CREATE DOMAIN plain_text AS text")
    up = {"full_name": "random(first_name) || public.max(last_name, 1)"}
    assert await check_change(db, changed(up=up, expand="ALTER TABLE users ADD COLUMN full_name plain_text")) == []


async def test_a_role_without_rights_is_told_which(db: asyncpg.Connection, pg_dsn: str) -> None:
    role = f"dev_{pg_dsn.rpartition('/')[2]}"
    await db.execute(USERS)
    await db.execute(f"CREATE ROLE {role}; GRANT ALL ON users TO {role}; SET ROLE {role}")
    try:
        with pytest.raises(DatabaseError, match=f"role {role} does not own public.users") as caught:
            await check_change(db, make_plan())
        assert f'GRANT "postgres" TO "{role}"' in caught.value.hint
        await db.execute("RESET ROLE")
        await db.execute(f"ALTER TABLE users OWNER TO {role}; SET ROLE {role}")
        assert await check_change(db, make_plan()) == []
        with pytest.raises(DatabaseError, match=f"role {role} may not create tables in schema public"):
            await check_change(db, make_plan("table"))
        await db.execute(f"RESET ROLE; GRANT CREATE ON SCHEMA public TO {role}; SET ROLE {role}")
        with pytest.raises(DatabaseError, match="zdd_archive") as caught:
            await check_change(db, make_plan("table"))
        assert "GRANT CREATE ON DATABASE" in caught.value.hint
    finally:
        await db.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


async def test_what_an_operator_should_know(db: asyncpg.Connection) -> None:
    await db.execute(USERS)
    await db.execute("CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    await db.execute("CREATE TRIGGER stamp AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp()")
    (note,) = await check_change(db, make_plan())
    assert note == "trigger stamp of public.users fires for every backfilled row"


async def test_existing_objects_are_listed(db: asyncpg.Connection) -> None:
    plan = changed(
        expand="CREATE TYPE mood AS ENUM ('a'); CREATE SEQUENCE counter; ALTER TABLE users ADD COLUMN full_name text;"
        "ALTER TABLE users ADD CONSTRAINT named CHECK (full_name <> '') NOT VALID",
        indexes=["CREATE INDEX CONCURRENTLY users_full ON users (full_name)"],
    )
    await db.execute(USERS)
    assert await existing_objects(db, plan) == []
    async with db.transaction():
        for statement in expand_statements(plan):
            await db.execute(statement)
    await db.execute("CREATE INDEX users_full ON users (full_name)")
    assert await existing_objects(db, plan) == [
        "column full_name of public.users",
        "constraint named of public.users",
        "public.counter",
        "public.users_full",
        "type public.mood",
    ]


async def test_odd_names_and_schemas(db: asyncpg.Connection, pg_dsn: str) -> None:
    """Names with quotes, spaces and capitals: everything is quoted, nothing is folded."""
    change = {
        "table": '"Odd ""Schema"."Us ers"',
        "expand": 'ALTER TABLE "Odd ""Schema"."Us ers" ADD COLUMN "Full Name" text',
        "up": {"Full Name": "\"First Name\" || '!'"},
        "down": {"First Name": "rtrim(\"Full Name\", '!')"},
        "dual_write": "trigger",
    }
    plan = make_plan(dsn=pg_dsn, change=change)
    await db.execute(
        'CREATE SCHEMA "Odd ""Schema"; CREATE TABLE "Odd ""Schema"."Us ers" ("I d" int PRIMARY KEY, "First Name" text)'
    )
    assert await check_change(db, plan) == []
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan, forward=True, reverse=True)
        await db.execute('INSERT INTO "Odd ""Schema"."Us ers" VALUES (1, \'Ana\')')
        await db.execute('UPDATE "Odd ""Schema"."Us ers" SET "Full Name" = \'Bob!\'')
        assert tuple(await db.fetchrow('SELECT * FROM "Odd ""Schema"."Us ers"')) == (1, "Bob", "Bob!")


async def test_types_of_other_schemas_are_qualified(db: asyncpg.Connection) -> None:
    await db.execute("CREATE SCHEMA app; CREATE TYPE app.mood AS ENUM ('a'); SET search_path = app, public")
    await db.execute(USERS.replace("email text", "email app.mood").replace("TABLE users", "TABLE public.users"))
    async with db.transaction():
        column = (await read_catalog(db, make_plan())).old.column("email")
        assert column is not None
        assert column.type == "app.mood"
        assert await db.fetchval("SELECT current_setting('search_path')") == "app, public", "as it was"


async def test_a_table_without_rows_or_statistics(db: asyncpg.Connection) -> None:
    await db.execute(USERS)
    assert (await read_catalog(db, make_plan())).old.rows == -1
    await insert_rows(db, 1000)
    await db.execute("ANALYZE users")
    table = (await read_catalog(db, make_plan())).old
    assert (table.rows, table.blocks > 5) == (1000, True)


async def test_squawk_speaks_about_the_right_statement() -> None:
    findings = await run_squawk(
        [
            "ALTER TABLE users ADD COLUMN full_name text",
            "ALTER TABLE users\n  ALTER COLUMN email TYPE varchar(9)",
            "ALTER TABLE users DROP COLUMN email",
        ]
    )
    assert {(finding.statement_number, finding.rule) for finding in findings} >= {
        (2, "changing-column-type"),
        (3, "ban-drop-column"),
    }
    assert not [finding for finding in findings if finding.statement_number == 1]
    (error,) = await run_squawk(["ALTER TABLE"])
    assert (error.level, error.rule) == ("Error", "syntax-error")
    for kind in ("column", "table"):
        assert await run_squawk(expand_statements(make_plan(kind))) == []
    assert await run_squawk([]) == []


async def test_a_broken_squawk_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zdd_tui.backends.postgres.squawk.IGNORED_RULES", ("no-such-rule",))
    with pytest.raises(ZddError) as caught:
        await run_squawk(["SELECT 1"])
    assert caught.value.hint

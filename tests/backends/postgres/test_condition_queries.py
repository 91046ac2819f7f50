"""The catalog query of standing conditions, on a real server: every change by hand is seen, ours are not."""

import asyncpg
import pytest

from tests.support.schema_change import USERS, ddl, make_plan, open_leased_store, run_expand
from tests.support.sessions import client_session
from zdd_tui.backends.postgres.condition_queries import (
    ReliedObjects,
    find_missing,
    find_schema_changer,
    has_planned_indexes,
    read_database_facts,
    select_baseline,
)
from zdd_tui.backends.postgres.row_visibility import find_hidden_rows
from zdd_tui.backends.store.conditions import load_baseline, save_baseline
from zdd_tui.model.ddl import archive_statements
from zdd_tui.model.release.condition import Condition, ConditionKind
from zdd_tui.model.release.condition_findings import (
    DatabaseFacts,
    find_changed_schema,
    find_disabled_trigger,
    find_row_security,
)

FORWARD = "zdd_users-full-name_fwd"


@pytest.mark.parametrize("kind", ["column", "table"])
async def test_every_change_by_hand_is_seen(kind: str, pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(USERS)
    named = "CONSTRAINT named CHECK (full_name <> '-')"
    expand = f"ALTER TABLE users ADD COLUMN full_name text, ADD {named} NOT VALID"
    if kind == "table":
        expand = f"CREATE TABLE people (id bigint PRIMARY KEY, full_name text, email text, {named})"
    plan = make_plan(
        kind,
        "trigger",
        pg_dsn,
        change={
            "expand": expand,
            "indexes": [f"CREATE INDEX CONCURRENTLY by_name ON {_target(kind)} (lower(full_name))"],
        },
    )
    relied = ReliedObjects.from_plan(plan)
    async with open_leased_store(pg_dsn, plan) as store:
        catalog = await run_expand(store, plan, forward=True)
        await db.execute(f"CREATE INDEX by_name ON {_target(kind)} (lower(full_name))")

        async def read() -> DatabaseFacts:
            return await read_database_facts(db, store.release_id, relied)

        assert find_missing(relied, await read(), with_indexes=True) == []
        await db.execute(f"ALTER TABLE {_target(kind)} RENAME full_name TO x; DROP INDEX by_name")
        assert find_missing(relied, await read(), with_indexes=True) == [
            f"column full_name of public.{_target(kind)} is missing",
            "index public.by_name is missing",
        ]
        await db.execute(f"ALTER TABLE {_target(kind)} RENAME x TO full_name")
        await db.execute(f"CREATE INDEX by_name ON {_target(kind)} (lower(full_name))")
        await save_baseline(store, select_baseline(relied, await read(), with_indexes=True))
        baseline = await load_baseline(db, store.release_id)
        names = {(each.kind, each.name) for each in baseline}
        assert {("column", "full_name"), ("column", "first_name"), ("index", "by_name")} <= names
        assert has_planned_indexes(relied, baseline)
        before = [each for each in baseline if each.name != "by_name"]
        assert not has_planned_indexes(relied, before), "the key of a new table is no index of the plan"

        def schema(facts: DatabaseFacts) -> str:
            finding = find_changed_schema(baseline, facts, archived=relied.archived, old_side_needed=True)
            return finding.text if finding else ""

        def trigger(facts: DatabaseFacts) -> str:
            finding = find_disabled_trigger(Condition("t", ConditionKind.TRIGGER, FORWARD, ("O", "A")), facts)
            return finding.text if finding else ""

        facts = await read()
        assert (schema(facts), trigger(facts), find_row_security(facts)) == ("", "", None)
        table, place = _target(kind), f"public.{_target(kind)}"
        for statement, undo, text in (
            (f"ALTER TABLE {table} RENAME full_name TO x", f"ALTER TABLE {table} RENAME x TO full_name",
             f"column full_name of {place} was renamed to x"),
            ("ALTER TABLE users RENAME first_name TO x", "ALTER TABLE users RENAME x TO first_name",
             "column first_name of public.users was renamed to x"),
            (f"ALTER TABLE {table} ALTER full_name TYPE varchar(90)", f"ALTER TABLE {table} ALTER full_name TYPE text",
             "is character varying(90) now, it was text"),
            ("DROP INDEX by_name", f"CREATE INDEX by_name ON {table} (lower(full_name))", "index by_name"),
            (f"DROP INDEX by_name; CREATE INDEX by_name ON {table} (upper(full_name))",
             f"DROP INDEX by_name; CREATE  INDEX by_name ON {table} ((lower( full_name )))", "by_name of"),
            (f"ALTER TABLE {table} DROP CONSTRAINT named, ADD CONSTRAINT named CHECK (full_name <> '+') NOT VALID",
             f"ALTER TABLE {table} DROP CONSTRAINT named, ADD CONSTRAINT named CHECK (( full_name<>'-' ))",
             "constraint named of"),
        ):  # fmt: skip
            await db.execute(statement)
            assert text in schema(await read()), statement
            await db.execute(undo)
            assert schema(await read()) == ""
        enable = f'ALTER TABLE users ENABLE TRIGGER "{FORWARD}"'
        for statement, undo, text in (
            (f'ALTER TABLE users DISABLE TRIGGER "{FORWARD}"', enable, "disabled"),
            ("ALTER TABLE users DISABLE TRIGGER ALL", "ALTER TABLE users ENABLE TRIGGER ALL", "disabled"),
            (f'ALTER TABLE users ENABLE REPLICA TRIGGER "{FORWARD}"', enable, "replica sessions only"),
            ("ALTER DATABASE {} SET session_replication_role = replica",
             "ALTER DATABASE {} RESET session_replication_role", "does not fire there"),
        ):  # fmt: skip
            database = await db.fetchval("SELECT current_database()")
            await db.execute(statement.format(database))
            assert text in trigger(await read()), statement
            await db.execute(undo.format(database))
            assert trigger(await read()) == ""
        await db.execute(f'DROP TRIGGER "{FORWARD}" ON users')
        assert trigger(await read()) == f"trigger {FORWARD} is missing"
        # Our own archive is no breach.
        await ddl(store, archive_statements(plan, catalog))
        assert schema(await read()) == ""


def _target(kind: str) -> str:
    return "people" if kind == "table" else "users"


async def test_a_role_that_may_not_see_all_rows(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(USERS)
    plan = make_plan(dsn=pg_dsn)
    relied = ReliedObjects.from_plan(plan)
    async with open_leased_store(pg_dsn, plan) as store:
        await db.execute(
            "CREATE ROLE limited; GRANT SELECT ON users TO limited; GRANT USAGE ON SCHEMA zdd TO limited;"
            " GRANT SELECT ON ALL TABLES IN SCHEMA zdd TO limited; ALTER TABLE users ENABLE ROW LEVEL SECURITY;"
            " CREATE TABLE part () INHERITS (users); ALTER TABLE part ENABLE ROW LEVEL SECURITY"
        )
        try:
            assert find_row_security(await read_database_facts(db, store.release_id, relied)) is None, "a superuser"
            await db.execute("SET ROLE limited")
            finding = find_row_security(await read_database_facts(db, store.release_id, relied))
            assert finding is not None
            assert "public.part, public.users" in finding.text, "the tables that `zdd check` looks at"
            assert [each.table for each in await find_hidden_rows(db, relied.tables)] == ["public.users", "public.part"]
        finally:
            await db.execute("RESET ROLE; DROP OWNED BY limited; DROP ROLE limited")


async def test_who_may_have_changed_an_object(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(USERS)
    assert "by whom is unknown" in await find_schema_changer(db, ["users"])
    async with client_session(pg_dsn) as other:
        await other.execute("SELECT 'users'")
        assert "by whom is unknown" in await find_schema_changer(db, ["users"]), "it only reads"
        await other.execute("ALTER TABLE users ADD COLUMN secret text DEFAULT 'S3cret'")
        text = await find_schema_changer(db, ["users"])
        assert text.startswith("probably by role ")
        assert "application psql" in text
        assert "S3cret" not in text


async def test_an_index_whose_name_is_quoted_is_watched(pg_dsn: str, db: asyncpg.Connection) -> None:
    await db.execute(USERS)
    change = {
        "expand": "ALTER TABLE users ADD COLUMN full_name text",
        "indexes": ['CREATE INDEX CONCURRENTLY "Users_FullName" ON users (full_name)'],
    }
    plan = make_plan("column", "application", pg_dsn, change=change)
    relied = ReliedObjects.from_plan(plan)
    async with open_leased_store(pg_dsn, plan) as store:
        await run_expand(store, plan)
        await db.execute('CREATE INDEX IF NOT EXISTS "Users_FullName" ON users (full_name)')
        facts = await read_database_facts(db, store.release_id, relied)
        assert find_missing(relied, facts, with_indexes=True) == []
        watched = {each.name for each in select_baseline(relied, facts, with_indexes=True)}
        assert "Users_FullName" in {name.strip('"') for name in watched}

"""Check copies sampled real rows to the new side and back (case A9): it refuses what would fail, and names what a
rollback would lose."""

import re
import time
from typing import Any

import asyncpg
import pytest

from tests.support.schema_change import PEOPLE, UP, USERS, insert_rows, make_plan
from zdd_tui.checks.sample import check_sampled_rows
from zdd_tui.model.errors import PlanError
from zdd_tui.model.plan.base import Backfill, Plan

SOME_CHECK = "ALTER TABLE users ADD CONSTRAINT filled CHECK (full_name IS NOT NULL) NOT VALID"
ADD = "ALTER TABLE users ADD COLUMN full_name {}"
KINDS = pytest.mark.parametrize("kind", ["column", "table"])
MODES = pytest.mark.parametrize("dual_write", ["application", "trigger"])
BOTH = {"full_name": "first_name || ' ' || last_name", "email": "email"}


def table_plan(expand: str, dual_write: str = "trigger", **change: Any) -> Plan:
    return make_plan("table", dual_write, change={"expand": expand, "up": BOTH, **change})


async def database_state(db: asyncpg.Connection) -> Any:
    return await db.fetch(
        "SELECT relname, relfilenode, relnatts FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " OR relname LIKE 'zdd%' ORDER BY 1"
    )


@KINDS
@MODES
async def test_a_good_plan_is_tried_and_nothing_stays(db: asyncpg.Connection, kind: str, dual_write: str) -> None:
    await db.execute(USERS)
    plan = make_plan(kind, dual_write)
    (line,) = await check_sampled_rows(db, plan)
    assert line.startswith("note: no row of public.users could be tried")
    await insert_rows(db, 900)
    before = await database_state(db)
    (line,) = await check_sampled_rows(db, plan)
    count = int(line.split()[0])
    assert 332 <= count <= 500
    assert "sampled rows of public.users copied to the new side and back" in line
    assert await database_state(db) == before
    assert await db.fetchval("SELECT count(*) FROM users") == 900
    assert await db.fetchval("SELECT nextval('users_id_seq')") == 901, "no sequence was used"


@MODES
@pytest.mark.parametrize(
    ("expand", "message"),
    [
        ("CREATE TABLE people (id bigint NOT NULL, full_name text, email text)", r"no unique key on \("),
        (
            "CREATE TABLE people (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id bigint NOT NULL,"
            " full_name text, email text)",
            r"no unique key on \(.*a row of the old table becomes one row",
        ),
        (
            "CREATE TABLE people (id bigint PRIMARY KEY, full_name text, email text, country text NOT NULL)",
            "column country of public.people is NOT NULL, and up does not fill it",
        ),
        (
            "CREATE TABLE people (id bigint PRIMARY KEY, full_name varchar(9), email text)",
            r"change.up.full_name: .*could not copy \d+ of 60 sampled rows: value too long for type character varying",
        ),
        (
            "CREATE TABLE people (id bigint PRIMARY KEY, full_name text, email text NOT NULL)",
            r"change.up: .* 2 of 60 sampled rows: a column that is NOT NULL gets NULL \(column email\)",
        ),
        (
            "CREATE TABLE people (id bigint PRIMARY KEY, full_name text, email text UNIQUE)",
            "two rows get the same values under a unique key .constraint",
        ),
        (
            "CREATE TABLE people (id bigint PRIMARY KEY, full_name text CHECK (full_name <> 'First1 Last 1'),"
            " email text)",
            "1 of 60 sampled rows: a check is not satisfied",
        ),
        (
            "CREATE TABLE names (name text PRIMARY KEY); CREATE TABLE people (id bigint PRIMARY KEY, full_name text"
            " REFERENCES names, email text)",
            "foreign key .*: 60 of 60 sampled rows would refer to no row",
        ),
    ],
)
async def test_a9_table_kind_is_refused(db: asyncpg.Connection, expand: str, message: str, dual_write: str) -> None:
    await db.execute(USERS)
    await insert_rows(db, 60)
    await db.execute(
        "UPDATE users SET email = NULL WHERE id IN (7, 8); UPDATE users SET email = 'x' WHERE id IN (9, 10)"
    )
    if "names" in expand:
        await db.execute("CREATE TABLE names (name text PRIMARY KEY)")
        expand = expand.partition("; ")[2]
    with pytest.raises(PlanError) as caught:
        await check_sampled_rows(db, table_plan(expand, dual_write, down={"first_name": "full_name", "email": "email"}))
    text = " ".join(str(caught.value).split())
    assert re.search(message, text), text
    assert "Fix: " in text
    assert "First1" not in text.replace("'First1 Last 1'", "")


@MODES
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expand": ADD.format("varchar(9)")}, "change.up.full_name: .* could not copy .* value too long"),
        ({"expand": ADD.format("int"), "up": {"full_name": "nullif(first_name, 'Zed')::int"}, "down": {"first_name":
         "full_name::text"}}, "change.up.full_name: .* 60 of 60 sampled rows: invalid input syntax for type integer"),
        ({"expand": ADD.format("text") + "; " + SOME_CHECK},
         "change.expand: after it an INSERT of the running application would fail: 60 of 60"),
        ({"expand": ADD.format("text"), "up": {"full_name": "left(first_name, 5)"}, "down": {"first_name": "full_name"},
          "indexes": ["CREATE UNIQUE INDEX CONCURRENTLY users_full ON users (full_name)"]},
         "59 of 60 sampled rows: two rows get the same values under a unique key .constraint users_full"),
        ({"expand": ADD.format("text"), "down": {"first_name": "nullif(full_name, 'First3')"}},
         "change.down.*: what V3 writes could not be copied back for 1 of 60"),
        ({"expand": ADD.format("text"), "down": {"last_name": "full_name::int::text"}}, "change.down.last_name: what"),
        ({"constrain": ["ALTER TABLE users ADD CONSTRAINT long CHECK (length(full_name) > 8) NOT VALID",
                        "ALTER TABLE users VALIDATE CONSTRAINT long"]},
         "change.constrain statement 2: PostgreSQL refuses it for the sampled rows: check constraint"),
        ({"constrain": ["ALTER TABLE users ALTER COLUMN full_name SET NOT NULL"],
          "up": {"full_name": "nullif(first_name, 'First5')"}, "down": {"first_name": "full_name"}},
         "change.constrain statement 1: PostgreSQL refuses it for the sampled rows: column"),
    ],
)  # fmt: skip
async def test_a9_column_kind_is_refused(
    db: asyncpg.Connection, change: dict[str, Any], message: str, dual_write: str
) -> None:
    await db.execute(USERS)
    await insert_rows(db, 60)
    plan = make_plan("column", dual_write, change=change)
    with pytest.raises(PlanError, match="(?s)" + message) as caught:
        await check_sampled_rows(db, plan)
    assert "Fix: " in str(caught.value)
    assert "First2" not in str(caught.value), "no value is printed"


@KINDS
@MODES
async def test_a_lossy_rollback_must_be_accepted(db: asyncpg.Connection, kind: str, dual_write: str) -> None:
    await db.execute(USERS)
    await insert_rows(db, 20)
    await db.execute("UPDATE users SET first_name = 'Mary Ann' WHERE id IN (1, 4)")
    with pytest.raises(PlanError) as caught:
        await check_sampled_rows(db, make_plan(kind, dual_write))
    text = str(caught.value)
    assert "change.down.first_name: lossy: in 2 of 20 sampled rows" in text
    assert "change.down.last_name: lossy: in 2 of 20 sampled rows" in text
    assert "accept: [{what: lossy-rollback first_name, reason: …}]" in text
    assert "Mary" not in text
    plan = make_plan(kind, dual_write)
    accept = [
        {"what": f"lossy-rollback {column}", "reason": "names are joined"} for column in ("first_name", "last_name")
    ]
    document = plan.model_dump(mode="json") | {"accept": accept}
    document["change"] |= {"table": "users", **({"into": "people"} if kind == "table" else {})}
    document["database"], document["flags"]["url"] = {"dsn": "postgresql://x@y/z"}, "redis://x"
    lines = await check_sampled_rows(db, Plan.model_validate(document))
    assert "note: accepted: a rollback changes first_name in 2 of 20 sampled rows: names are joined" in lines


async def test_failures_that_the_plan_tolerates_are_a_note(db: asyncpg.Connection) -> None:
    await db.execute(USERS)
    await insert_rows(db, 30)
    await db.execute("UPDATE users SET email = NULL WHERE id = 3")
    expand = PEOPLE.replace("email text", "email text NOT NULL")
    tolerant = make_plan("table", "application", change={"expand": expand}, backfill={"max_failed_rows": 1})
    lines = await check_sampled_rows(db, tolerant)
    assert any(
        "1 of 30 sampled rows cannot be copied, and backfill.max_failed_rows tolerates that" in each for each in lines
    )


async def test_rows_that_break_the_old_tables_own_rules_are_left_out(db: asyncpg.Connection) -> None:
    await db.execute(USERS)
    await insert_rows(db, 10)
    await db.execute("ALTER TABLE users ADD CONSTRAINT short CHECK (length(first_name) < 7) NOT VALID")
    lines = await check_sampled_rows(db, make_plan("table", "trigger"))
    assert any("the table's own rules refuse 1 more sampled row" in line for line in lines), lines


async def test_the_check_of_rows_is_quick_and_holds_no_lock(db: asyncpg.Connection, pg_dsn: str) -> None:
    await db.execute(USERS)
    await insert_rows(db, 20_000)
    await db.execute("ANALYZE users")
    other = await asyncpg.connect(pg_dsn)
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE users IN ROW EXCLUSIVE MODE")
            await other.execute("UPDATE users SET first_name = first_name WHERE id < 100")
            began = time.monotonic()
            assert len(await check_sampled_rows(db, make_plan("column", "trigger"))) == 1
            assert time.monotonic() - began < 8
    finally:
        await other.close()


@KINDS
async def test_a_row_that_was_not_sampled_and_fails_is_found(db: asyncpg.Connection, kind: str) -> None:
    await db.execute(USERS)
    await insert_rows(db, 20_000)
    await db.execute("ANALYZE users; UPDATE users SET last_name = 'abc' WHERE id = 9876")
    up = {"full_name": f"{UP} || CASE WHEN last_name = 'abc' THEN (last_name::int)::text ELSE '' END"}
    wrong = make_plan(kind, "trigger", change={"up": up | ({"email": "email"} if kind == "table" else {})})
    found = r"change\.up\.full_name: .* fails for 1 row of public\.users: invalid input syntax .* \(id = 9876\)"
    with pytest.raises(PlanError, match=found):
        await check_sampled_rows(db, wrong)
    assert await db.fetchval("SHOW transaction_read_only") == "off"
    tolerant = wrong.model_copy(update={"backfill": Backfill(max_failed_rows=1)})
    assert any("backfill.max_failed_rows tolerates that" in line for line in await check_sampled_rows(db, tolerant))

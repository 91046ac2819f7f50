"""The witness's triggers on a real server: what they record, and that they never fail or delay the application."""

import asyncio
import json
import time

import asyncpg
import pytest

from tests.support.witness import APP, KINDS, watched_release

pytestmark = pytest.mark.timeout(60)

BOTH = {
    "column": ["UPDATE users SET first_name = 'A', last_name = '', full_name = 'A' WHERE id = 1"],
    "table": [
        "UPDATE users SET first_name = 'A', last_name = '' WHERE id = 1",
        "UPDATE people SET full_name = 'A' WHERE id = 1",
    ],
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_writer_of_one_side_is_recorded_with_its_name_and_one_of_both_is_not(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind) as made, made.writer() as writer:
        async with writer.transaction():
            for statement in BOTH[kind]:
                await writer.execute(statement)
        await writer.execute("UPDATE users SET created_at = now() WHERE id = 2")
        assert await made.recorded() == []
        await writer.execute("UPDATE users SET first_name = 'B' WHERE id = 2")
        assert await made.recorded() == [('["2"]', "old", "UPDATE", True)]
        row = await made.admin.fetchrow("SELECT * FROM zdd.witness_record")
        assert (row["application_name"], row["role"], row["session_role"]) == ("reports-worker", APP, APP)
        assert row["is_foreign"]
        assert row["xid"] is not None
        assert row["address"] in ("127.0.0.1", "")


async def test_the_role_that_was_set_is_recorded(pg_dsn: str) -> None:
    async with watched_release(pg_dsn) as made:
        await made.admin.execute(f"SET ROLE {APP}")
        await made.admin.execute("UPDATE users SET first_name = 'B' WHERE id = 2")
        await made.admin.execute("RESET ROLE")
        row = await made.admin.fetchrow("SELECT role, session_role FROM zdd.witness_record")
        assert row["role"] == APP
        assert row["session_role"] != APP


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_write_is_recorded(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind) as made, made.writer() as writer:
        await writer.execute("INSERT INTO users (id, first_name) VALUES (101, 'a')")
        await writer.execute(
            "INSERT INTO users (id, first_name) VALUES (1, 'x'), (102, 'b')"
            " ON CONFLICT (id) DO UPDATE SET first_name = EXCLUDED.first_name"
        )
        await writer.copy_records_to_table("users", records=[(103, "c")], columns=["id", "first_name"])
        await writer.execute("UPDATE users SET id = 104 WHERE id = 2")
        await writer.execute("DELETE FROM users WHERE id = 3")
        keys = [(json.loads(key)[0], operation) for key, _, operation, _ in await made.recorded()]
        if kind == "column":  # both sides are in one row: a new key or a delete leaves them equal
            assert keys == [("101", "INSERT"), ("1", "UPDATE"), ("102", "INSERT"), ("103", "INSERT")]
        else:
            assert sorted(keys) == sorted(
                [("101", "INSERT"), ("1", "UPDATE"), ("102", "INSERT"), ("103", "INSERT"), ("2", "UPDATE"),
                 ("104", "UPDATE"), ("3", "DELETE")]
            )  # fmt: skip


async def test_both_sides_may_be_written_in_any_order_and_more_than_once(pg_dsn: str) -> None:
    async with watched_release(pg_dsn, "table") as made, made.writer() as writer:
        async with writer.transaction():
            await writer.execute("DELETE FROM people WHERE id = 4")
            await writer.execute("UPDATE users SET first_name = 'tmp' WHERE id = 5")
            await writer.execute("DELETE FROM users WHERE id = 4")
            await writer.execute("UPDATE users SET first_name = 'E', last_name = '' WHERE id = 5")
            await writer.execute("UPDATE people SET full_name = 'E' WHERE id = 5")
            await writer.execute("INSERT INTO users (id, first_name) VALUES (200, 'n')")
            await writer.execute("INSERT INTO people (id, full_name) VALUES (200, 'n')")
        assert await made.recorded() == []
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute("UPDATE users SET first_name = 'gone' WHERE id = 6")
        await transaction.rollback()
        assert await made.recorded() == []


async def test_a_composite_key_of_many_types(pg_dsn: str) -> None:
    connection = await asyncpg.connect(pg_dsn)
    await connection.execute(
        'CREATE TABLE users (tenant uuid, "at time" timestamptz, code varchar(8), number numeric(10,2),'
        ' first_name text, last_name text, email text, PRIMARY KEY (tenant, "at time", code, number))'
    )
    await connection.execute(
        "INSERT INTO users SELECT gen_random_uuid(), now(), 'c' || n, n, 'F', 'L', 'e' FROM generate_series(1, 5) n"
    )
    people = (
        'CREATE TABLE people (tenant uuid, "at time" timestamptz, code varchar(8), number numeric(10,2),'
        ' full_name text, email text, PRIMARY KEY (tenant, "at time", code, number))'
    )
    change = {"key": ["tenant", "at time", "code", "number"], "expand": people}
    async with watched_release(pg_dsn, "table", change=change) as made, made.writer() as writer:
        await writer.execute("SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Tokyo'")
        await writer.execute("UPDATE users SET first_name = 'X' WHERE code = 'c3'")
        [(key, side, operation, is_checked)] = await made.recorded()
        assert (side, operation, is_checked) == ("old", "UPDATE", True)
        assert json.loads(key)[2:] == ["c3", "3.00"]
        assert len(json.loads(key)) == 4
        record = await made.settle()
        assert record.witness.open_rows == 0
        assert await made.admin.fetchval("SELECT full_name FROM people WHERE code = 'c3'") == "X L"
    await connection.close()


async def test_truncate_is_recorded_where_the_sides_are_two_tables(pg_dsn: str) -> None:
    async with watched_release(pg_dsn, "table") as made:
        await made.admin.execute("TRUNCATE users")
        assert await made.recorded() == [("[]", "old", "TRUNCATE", False)]
        record = await made.settle()
        assert record.witness.open_rows == 1, "the new side is not emptied for it"
        assert len(record.witness.writers) == 1
        assert "truncated" in record.witness.error
        assert await made.admin.fetchval("SELECT count(*) FROM people") == 10
        await made.admin.execute("SET zdd.witness = 'off'; TRUNCATE people")
        assert (await made.settle()).witness.open_rows == 0


async def test_sessions_that_skip_triggers_are_watched(pg_dsn: str) -> None:
    async with watched_release(pg_dsn) as made:
        await made.admin.execute("SET session_replication_role = replica")
        await made.admin.execute("UPDATE users SET first_name = 'B' WHERE id = 2")
        assert [row[0] for row in await made.recorded()] == ['["2"]']


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE zdd.witness_record",
        "DROP TABLE zdd.witness CASCADE",
        "DROP SEQUENCE zdd.witness_missed; DROP TABLE zdd.witness_record",
        "ALTER TABLE zdd.witness_record ADD CHECK (false) NOT VALID",
        "ALTER TABLE zdd.witness_record RENAME COLUMN key TO other",
    ],
)
async def test_a_damaged_witness_fails_no_statement(pg_dsn: str, kind: str, damage: str) -> None:
    async with watched_release(pg_dsn, kind) as made, made.writer() as writer:
        await made.admin.execute(damage)
        await writer.execute("UPDATE users SET first_name = first_name || 'x'")
        await writer.execute("INSERT INTO users (first_name) VALUES ('n')")
        await writer.execute("DELETE FROM users WHERE id = 1")
        await writer.copy_records_to_table("users", records=[(903, "c")], columns=["id", "first_name"])
        assert await made.admin.fetchval("SELECT count(*) FROM users WHERE first_name LIKE '%x'") == 9


async def test_what_could_not_be_recorded_is_counted(pg_dsn: str) -> None:
    async with watched_release(pg_dsn) as made, made.writer() as writer:
        await made.admin.execute("ALTER TABLE zdd.witness_record RENAME COLUMN key TO other")
        await writer.execute("UPDATE users SET first_name = first_name || 'x'")
        assert await made.admin.fetchval("SELECT last_value FROM zdd.witness_missed WHERE is_called") == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_locked_witness_delays_a_transaction_once_and_briefly(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind, rows=300) as made, made.writer(statement_timeout="5000") as writer:
        async with made.admin.transaction():
            await made.admin.execute("LOCK TABLE zdd.witness_record, zdd.witness IN ACCESS EXCLUSIVE MODE")
            if kind == "table":
                await made.admin.execute("LOCK TABLE people IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            await asyncio.wait_for(writer.execute("UPDATE users SET first_name = first_name || 'x'"), 20)
            # 300 rows that each waited would take 15 s.
            assert time.monotonic() - began < 5
        assert await made.admin.fetchval("SELECT count(*) FROM users WHERE first_name LIKE '%x'") == 300


async def test_a_small_statement_timeout_fails_no_statement(pg_dsn: str) -> None:
    async with watched_release(pg_dsn, "table") as made, made.writer(statement_timeout="30") as writer:
        async with made.admin.transaction():
            await made.admin.execute("LOCK TABLE people, zdd.witness_record IN ACCESS EXCLUSIVE MODE")
            async with writer.transaction():
                await writer.execute("UPDATE users SET first_name = 'x' WHERE id = 1")
                await writer.execute("SET CONSTRAINTS ALL IMMEDIATE")  # now the trigger runs within the timeout
        assert await made.admin.fetchval("SELECT first_name FROM users WHERE id = 1") == "x"


async def test_an_expression_that_fails_fails_no_statement(pg_dsn: str) -> None:
    change = {"up": {"full_name": "(first_name::integer)::text"}, "down": {"first_name": "full_name"}}
    connection = await asyncpg.connect(pg_dsn)
    await connection.execute("CREATE TABLE users (id int PRIMARY KEY, first_name text NOT NULL, last_name text)")
    await connection.execute("INSERT INTO users VALUES (1, '1'), (2, '2')")
    async with watched_release(pg_dsn, change=change) as made, made.writer() as writer:
        await writer.execute("UPDATE users SET first_name = 'not a number' WHERE id = 1")
        assert await made.recorded() == [('["1"]', "old", "UPDATE", False)]
        record = await made.settle()
        assert record.witness.open_rows == 1
        assert "22P02" in record.witness.error
        assert "not a number" not in record.witness.error
        await writer.execute("UPDATE users SET first_name = '7', full_name = '7' WHERE id = 1")
        assert (await made.settle()).witness.open_rows == 0
    await connection.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_serializable_transaction_reads_nothing_for_the_witness(pg_dsn: str, kind: str) -> None:
    """A read would make other serializable transactions of the application fail."""
    async with watched_release(pg_dsn, kind) as made, made.writer() as writer:
        async with writer.transaction(isolation="serializable"):
            for statement in BOTH[kind]:
                await writer.execute(statement)
            await writer.execute("UPDATE users SET first_name = 'B' WHERE id = 2")
        assert {row[3] for row in await made.recorded()} == {False}
        record = await made.settle()
        assert record.witness.open_rows == 0
        [writer_found] = record.witness.writers
        assert writer_found.rows == 1, "only the row that differed counts"


@pytest.mark.parametrize("kind", KINDS)
async def test_from_cutover_on_both_directions_are_watched(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind) as made, made.writer("v3") as v3, made.writer() as worker:
        await made.extend()
        new = "people" if kind == "table" else "users"
        values = "(id, full_name)" if kind == "table" else "(id, first_name, full_name)"
        row = "(300, 'Zoe  Two')" if kind == "table" else "(300, '', 'Zoe  Two')"
        await v3.execute(f"INSERT INTO {new} {values} VALUES {row}")
        await v3.execute(f"UPDATE {new} SET full_name = 'lossy ' WHERE id = 1")
        await v3.execute(f"DELETE FROM {new} WHERE id = 7")
        assert await made.recorded() == [], "the sync trigger has written the old side"
        await worker.execute("UPDATE users SET first_name = 'Old' WHERE id = 2")
        assert await made.recorded() == [('["2"]', "old", "UPDATE", True)]
        await made.admin.execute(f'ALTER TABLE {new} DISABLE TRIGGER "zdd_users-full-name_rev"')
        await v3.execute(f"UPDATE {new} SET full_name = 'alone' WHERE id = 3")
        assert (await made.recorded())[1:] == [('["3"]', "new", "UPDATE", True)]


async def test_nothing_is_recorded_before_the_write_flag_is_on(pg_dsn: str) -> None:
    async with watched_release(pg_dsn) as made, made.writer() as writer:
        await made.admin.execute("UPDATE zdd.witness SET counts_from = NULL")
        await writer.execute("UPDATE users SET first_name = 'V1' WHERE id = 2")
        assert await made.recorded() == []


async def test_a_transaction_that_began_before_the_write_flag_is_repaired_and_not_blamed(pg_dsn: str) -> None:
    async with watched_release(pg_dsn) as made, made.writer() as writer:
        async with writer.transaction():
            await writer.execute("UPDATE users SET first_name = 'V1' WHERE id = 2")
            await made.admin.execute("UPDATE zdd.witness SET counts_from = pg_current_xact_id()")
        record = await made.settle()
        assert record.witness.open_rows == 0
        assert record.witness.writers == ()
        assert await made.admin.fetchval("SELECT full_name FROM users WHERE id = 2") == "V1 Last 2"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        "ALTER TYPE mood RENAME TO temper",
        "ALTER TABLE users RENAME COLUMN first_name TO given_name",
        "ALTER TABLE users RENAME TO customers",
        "ALTER SCHEMA zdd RENAME TO elsewhere",
    ],
)
async def test_a_schema_that_was_changed_meanwhile_fails_no_statement(pg_dsn: str, kind: str, change: str) -> None:
    """Each session compiles the function anew: what it declares must exist whatever was renamed."""
    connection = await asyncpg.connect(pg_dsn)
    await connection.execute(
        "CREATE TYPE mood AS ENUM ('x', 'y'); CREATE SEQUENCE users_id_seq; CREATE TABLE users (id bigint PRIMARY KEY"
        " DEFAULT nextval('users_id_seq'), first_name mood NOT NULL, last_name text NOT NULL DEFAULT '', email text);"
        "INSERT INTO users (first_name) SELECT 'x' FROM generate_series(1, 5)"
    )
    up = {"full_name": "first_name::text || last_name"} | ({"email": "email"} if kind == "table" else {})
    async with watched_release(pg_dsn, kind, change={"up": up}) as made:
        await made.admin.execute(change)
        table = "customers" if "customers" in change else "users"
        column = "given_name" if "given_name" in change else "first_name"
        async with made.writer() as writer:
            await writer.execute(f"UPDATE {table} SET {column} = 'y' WHERE id = 1")
            await writer.execute(f"INSERT INTO {table} ({column}) VALUES ('y')")
            await writer.execute(f"DELETE FROM {table} WHERE id = 2")
        assert await made.admin.fetchval(f"SELECT count(*) FROM {table} WHERE {column} = 'y'") == 2
        if "elsewhere" in change:
            await made.admin.execute("ALTER SCHEMA elsewhere RENAME TO zdd")
    await connection.close()


async def test_a_serializable_transaction_locks_nothing_for_the_witness(pg_dsn: str) -> None:
    locks = "SELECT count(*) FROM pg_locks WHERE mode = 'SIReadLock' AND relation = 'people'::regclass"
    index = "SELECT count(*) FROM pg_locks WHERE mode = 'SIReadLock' AND relation = 'people_pkey'::regclass"
    async with watched_release(pg_dsn, "table") as made, made.writer() as writer:
        async with writer.transaction(isolation="serializable"):
            await writer.execute("UPDATE users SET first_name = 'x' WHERE id = 2")
            await writer.execute("SET CONSTRAINTS ALL IMMEDIATE")
            assert await made.admin.fetchval(locks) == 0
            assert await made.admin.fetchval(index) == 0
        assert len(await made.recorded()) == 1


async def test_partitioned_tables_are_watched_through_their_partitions(pg_dsn: str) -> None:
    """`zdd check` refuses a partitioned old table; the triggers work on one all the same."""
    connection = await asyncpg.connect(pg_dsn)
    await connection.execute(
        "CREATE TABLE users (id bigint PRIMARY KEY, first_name text, last_name text DEFAULT '', email text)"
        " PARTITION BY RANGE (id); CREATE TABLE users_1 PARTITION OF users FOR VALUES FROM (0) TO (5);"
        "CREATE TABLE users_2 PARTITION OF users FOR VALUES FROM (5) TO (1000000)"
    )
    await connection.execute("INSERT INTO users SELECT n, 'F', 'L' FROM generate_series(1, 9) n")
    expand = "CREATE TABLE people (id bigint PRIMARY KEY, full_name text, email text)"
    async with watched_release(pg_dsn, "table", change={"expand": expand}) as made, made.writer() as writer:
        await made.extend()
        await writer.execute("UPDATE users SET first_name = 'B' WHERE id IN (2, 7)")
        await writer.copy_records_to_table("users", records=[(700, "c")], columns=["id", "first_name"])
        await writer.execute("UPDATE users SET id = 8000 WHERE id = 3")  # moves to the other partition
        keys = {json.loads(row[0])[0] for row in await made.recorded()}
        assert keys == {"2", "7", "700", "3", "8000"}
        assert (await made.settle()).witness.open_rows == 0
        assert await made.admin.fetchval("SELECT full_name FROM people WHERE id = 7") == "B L"
        assert await made.admin.fetchval("SELECT count(*) FROM people WHERE id = 3") == 0
    await connection.close()


async def test_a_writer_that_repeats_the_old_values_is_not_recorded(pg_dsn: str) -> None:
    """As an ORM does that saves every column, for a row that is not copied yet."""
    async with watched_release(pg_dsn) as made, made.writer() as writer:
        await made.admin.execute("UPDATE users SET full_name = NULL WHERE id = 2")
        await writer.execute(
            "UPDATE users SET first_name = first_name, last_name = last_name, email = 'e' WHERE id = 2"
        )
        assert await made.recorded() == []


async def test_a_column_that_another_trigger_changes_is_watched(pg_dsn: str) -> None:
    connection = await asyncpg.connect(pg_dsn)
    await connection.execute(
        "CREATE TABLE users (id bigint PRIMARY KEY, first_name text NOT NULL, last_name text DEFAULT '', email text);"
        "INSERT INTO users VALUES (1, 'A'), (2, 'B');"
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN NEW.first_name := upper(NEW.email); RETURN NEW; END$$;"
        "CREATE TRIGGER shout BEFORE UPDATE ON users FOR EACH ROW WHEN (NEW.email <> '') EXECUTE FUNCTION shout()"
    )
    async with watched_release(pg_dsn) as made, made.writer() as writer:
        await writer.execute("UPDATE users SET email = 'x' WHERE id = 2")
        assert [row[0] for row in await made.recorded()] == ['["2"]']
    await connection.close()

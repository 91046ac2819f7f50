"""From cutover on a write of the old side alone is on the new side when it is committed, and its writer is recorded."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from tests.support.schema_change import UP, count_disagreements
from tests.support.witness import KINDS, WatchedRelease, watched_release

pytestmark = pytest.mark.timeout(60)


async def copied(made: WatchedRelease) -> list[tuple[str, str, str, bool]]:
    """New records: key, side, operation, whether the row was copied."""
    rows = await made.admin.fetch("SELECT key, side, operation, is_copied FROM zdd.witness_record ORDER BY id")
    return [(json.loads(row["key"])[0], row["side"], row["operation"], row["is_copied"]) for row in rows]


async def in_one_transaction(writer: asyncpg.Connection, *statements: str) -> None:
    async with writer.transaction():
        for statement in statements:
            await writer.execute(statement)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "statements",
    [
        ["UPDATE users SET first_name = 'B' WHERE id = 2"],
        ["UPDATE users SET first_name = 'B' WHERE id = 2", "UPDATE users SET last_name = 'C' WHERE id = 2"],
        ["INSERT INTO users (id, first_name) VALUES (101, 'a')"],
        ["INSERT INTO users (id, first_name) VALUES (101, 'a')", "UPDATE users SET first_name = 'b' WHERE id = 101"],
        ["INSERT INTO users (id, first_name) VALUES (101, 'a')", "DELETE FROM users WHERE id = 101"],
        ["DELETE FROM users WHERE id = 2"],
        ["DELETE FROM users WHERE id = 2", "INSERT INTO users (id, first_name) VALUES (2, 'again')"],
        ["UPDATE users SET id = 102, first_name = 'B' WHERE id = 2"],
        ["UPDATE users SET id = 102 WHERE id = 2", "UPDATE users SET first_name = 'B' WHERE id = 102"],
        ["UPDATE users SET id = 102 WHERE id = 2", "UPDATE users SET id = 2 WHERE id = 3",
         "UPDATE users SET id = 3 WHERE id = 102"],
        ["UPDATE users SET first_name = first_name || 'x'"],
        ["INSERT INTO users (id, first_name) VALUES (2, 'x'), (102, 'b')"
         " ON CONFLICT (id) DO UPDATE SET first_name = EXCLUDED.first_name"],
    ],
)  # fmt: skip
async def test_whatever_a_transaction_does_both_sides_agree_at_its_commit(
    pg_dsn: str, kind: str, statements: list[str]
) -> None:
    async with watched_release(pg_dsn, kind) as made, made.writer() as writer:
        await made.extend()
        await in_one_transaction(writer, *statements)
        assert await count_disagreements(made.admin, kind) == []
        found = await copied(made)
        changes_nothing = "DELETE FROM users WHERE id = 101" in statements or (
            kind == "column" and not any("first_name" in statement for statement in statements)
        )
        assert (found == []) == changes_nothing or (kind == "column" and "DELETE" in statements[0])
        assert all(side == "old" and is_copied for _, side, _, is_copied in found)
        record = await made.settle("write-flag-on", "sync-reverse", "extend-witness", "read-flag-on", phase="cutover")
        assert record.witness.open_rows == 0
        if found:
            [seen] = record.witness.writers
            assert seen.application_name == "reports-worker"
            assert {row["outcome"] for row in await made.admin.fetch("SELECT outcome FROM zdd.witness_row")} == {
                "copied"
            }


WHOLE_ROW = {
    "column": [
        "UPDATE users SET full_name = coalesce($2, full_name),"
        " first_name = split_part(coalesce($2, full_name), ' ', 1),"
        " last_name = substr(coalesce($2, full_name), length(split_part(coalesce($2, full_name), ' ', 1)) + 2),"
        " email = coalesce($3, email) WHERE id = $1"
    ],
    "table": [
        "INSERT INTO people AS p (id, full_name, email) SELECT id, coalesce($2, full_name), coalesce($3, email)"
        " FROM people WHERE id = $1 ON CONFLICT (id) DO UPDATE SET full_name = coalesce($2, p.full_name),"
        " email = coalesce($3, p.email) RETURNING full_name, email",
        "INSERT INTO users (id, first_name, last_name, email) VALUES ($1, split_part($2, ' ', 1),"
        " substr($2, length(split_part($2, ' ', 1)) + 2), $3) ON CONFLICT (id) DO UPDATE SET"
        " first_name = excluded.first_name, last_name = excluded.last_name, email = excluded.email",
    ],
}
"""What V2 does that reads the new side: it changes a field there, and writes the whole row to the old side."""


async def write_as_v2(conn: asyncpg.Connection, kind: str, key: int, name: str | None, email: str | None) -> None:
    async with conn.transaction():
        row = await conn.fetchrow(WHOLE_ROW[kind][0], key, name, email)
        if kind == "table" and row is not None:
            await conn.execute(WHOLE_ROW[kind][1], key, *row)


async def write_as_v1(conn: asyncpg.Connection, _kind: str, key: int, name: str | None, email: str | None) -> None:
    await conn.execute(
        "UPDATE users SET first_name = coalesce($2, first_name), last_name = CASE WHEN $2::text IS NULL THEN last_name"
        " ELSE '' END, email = coalesce($3, email) WHERE id = $1",
        key, name, email,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_v1_and_v2_overwrite_no_update_of_each_other(pg_dsn: str, kind: str) -> None:
    """Each client owns a field of each row, and writes it by a pod of V1 or V2 in turn."""
    async with watched_release(pg_dsn, kind, rows=4) as made:
        await made.extend()
        expected: dict[tuple[int, str], str] = {}

        async def run(field: str, key: int) -> None:
            rng = random.Random(f"{field}{key}")
            pods: list[tuple[Callable[..., Awaitable[None]], Any]] = []
            async with made.writer("v1") as v1, made.writer("v2") as v2:
                pods = [(write_as_v1, v1), (write_as_v2, v2)]
                for number in range(40):
                    write, conn = rng.choice(pods)
                    value = f"{field}{number}"
                    await write(conn, kind, key, *((value, None) if field == "name" else (None, value)))
                    expected[key, field] = value

        await asyncio.gather(*(run(field, key) for field in ("name", "email") for key in (1, 2)))
        new = "people" if kind == "table" else "users"
        rows = await made.admin.fetch(
            f"SELECT o.id, {UP.replace('first_name', 'o.first_name').replace('last_name', 'o.last_name')} AS old,"
            f" o.email, n.full_name, n.email AS new_email FROM users o JOIN {new} n ON o.id = n.id WHERE o.id < 3"
        )
        for row in rows:
            name, email = expected[row["id"], "name"], expected[row["id"], "email"]
            assert tuple(row)[1:] == (name, email, name, email)
        found = await copied(made)
        assert found, "V1 is recorded"
        assert all(side == "old" and is_copied for _, side, _, is_copied in found)
        names = {row[0] for row in await made.admin.fetch("SELECT application_name FROM zdd.witness_record")}
        assert names == {"v1"}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_row_whose_sides_differed_before_keeps_both(pg_dsn: str, kind: str) -> None:
    async with watched_release(pg_dsn, kind) as made, made.writer() as writer:
        await made.extend()
        new = "people" if kind == "table" else "users"
        await made.admin.execute(
            f"ALTER TABLE {new} DISABLE TRIGGER USER; UPDATE {new} SET full_name = 'V3' WHERE id IN (2, 3);"
            f"ALTER TABLE {new} ENABLE TRIGGER USER"
        )
        await writer.execute("UPDATE users SET first_name = 'V1' WHERE id IN (2, 4)")
        assert await made.admin.fetchval(f"SELECT full_name FROM {new} WHERE id = 2") == "V3"
        assert sorted(await copied(made)) == [("2", "old", "UPDATE", False), ("4", "old", "UPDATE", True)]
        if kind == "table":
            await writer.execute("DELETE FROM users WHERE id = 3")
            assert await made.admin.fetchval("SELECT full_name FROM people WHERE id = 3") == "V3"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "refusal",
    [
        "ALTER TABLE {new} ADD CHECK (full_name NOT LIKE 'B%')",
        "CREATE UNIQUE INDEX ON {new} ((full_name LIKE 'B%')) WHERE full_name LIKE 'B%'",
        "ALTER TABLE {new} ADD UNIQUE (full_name) DEFERRABLE INITIALLY DEFERRED",
        "CREATE TABLE names (n text PRIMARY KEY); INSERT INTO names SELECT full_name FROM {new};"
        "ALTER TABLE {new} ADD FOREIGN KEY (full_name) REFERENCES names DEFERRABLE INITIALLY DEFERRED",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;"
        "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE OF full_name ON {new} DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW WHEN (NEW.full_name LIKE 'B%') EXECUTE FUNCTION refuse()",
        "ALTER TABLE {new} RENAME full_name TO other",
    ],
)
async def test_a_new_side_that_refuses_the_copy_fails_no_statement(pg_dsn: str, kind: str, refusal: str) -> None:
    async with watched_release(pg_dsn, kind) as made, made.writer() as writer:
        await made.extend()
        await made.admin.execute(refusal.format(new="people" if kind == "table" else "users"))
        await writer.execute("UPDATE users SET first_name = 'B', last_name = '' WHERE id IN (2, 4)")
        assert await made.admin.fetchval("SELECT count(*) FROM users WHERE first_name = 'B'") == 2
        found = {(key, is_copied) for key, _, _, is_copied in await copied(made)}
        missed = await made.admin.fetchval(
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM zdd.witness_missed"
        )
        assert ("2", False) in found or ("4", False) in found or (missed and "RENAME" in refusal), "never silently"
        assert await made.admin.fetchval("SELECT current_setting('lock_timeout')") == "0"


async def test_a_locked_row_of_the_new_side_delays_a_transaction_once_and_fails_no_statement(pg_dsn: str) -> None:
    async with watched_release(pg_dsn, "table", rows=50, database={"lock_timeout_max": "200ms"}) as made:
        await made.extend()
        async with made.writer() as writer, made.admin.transaction():
            await made.admin.execute("SELECT FROM people FOR UPDATE")
            await asyncio.wait_for(writer.execute("UPDATE users SET first_name = first_name || 'x'"), 5)
            found = await copied(made)
        assert len(found) == 50
        assert not any(is_copied for *_, is_copied in found)
        assert await made.admin.fetchval("SELECT count(*) FROM users WHERE first_name LIKE '%x'") == 50
        record = await made.settle("write-flag-on", "sync-reverse", "extend-witness", "read-flag-on", phase="cutover")
        assert record.witness.open_rows == 0
        assert record.witness.replaced_rows == 0, "the agent has copied them"
        assert await count_disagreements(made.admin, "table") == []


async def test_in_a_deadlock_the_copy_gives_way(pg_dsn: str) -> None:
    """V3 that updates without an upsert locks the new row first, and its copy then waits for the old one."""
    async with watched_release(pg_dsn, "table", database={"lock_timeout_max": "300ms"}) as made:
        await made.extend()
        async with made.writer("v1") as v1, made.writer("v3") as v3:
            async with v1.transaction():
                await v1.execute("UPDATE users SET first_name = 'V1' WHERE id = 2")
                writing = asyncio.create_task(v3.execute("UPDATE people SET full_name = 'V3' WHERE id = 2"))
                waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                async with asyncio.timeout(10):
                    while not await made.admin.fetchval(waits):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
            await writing
        rows = await made.admin.fetchrow("SELECT first_name, full_name FROM users JOIN people USING (id) WHERE id = 2")
        assert rows is not None
        assert tuple(rows) == ("V1", "V3"), "each keeps its own, and a person decides"
        sides = {(side, is_copied) for _, side, _, is_copied in await copied(made)}
        assert ("old", False) in sides or ("new", False) in sides

"""The oracle finds what is lost: rows by the ledger, objects by the catalog."""

from pathlib import Path

import asyncpg
import pytest

from tests.chaos.saboteur.ledger import Content, ExpectedRows, LedgerFile, read_ledger
from tests.chaos.saboteur.oracle import compare_rows, find_lost_objects, find_lost_rows, read_schema
from tests.chaos.saboteur.production import TABLE
from tests.chaos.saboteur.script import PHASES, SINCE, SIZES, WEIGHTS, make_script

ANA, ZOE, BOB = ("Ana 1", "a@x"), ("Zoë", "z@x"), ("Bob Lee", "b@x")


def expected(tmp_path: Path, *writes: tuple[str, int | None, Content | None, str]) -> ExpectedRows:
    file = LedgerFile(tmp_path / "ledger")
    for op, row_id, content, result in writes:
        file.write("w", op, row_id, content, result)
    file.close()
    return read_ledger([(1, ANA), (2, ZOE)], file.path)


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ({1: BOB, 2: ZOE}, None),
        ({1: ANA, 2: ZOE}, "row 1 is ('Ana 1', 'a@x'), expected ('Bob Lee', 'b@x')"),
        ({2: ZOE}, "row 1 lost"),
        ({1: BOB, 2: ZOE, 3: ZOE}, "row 3 was written by nobody"),
    ],
)
def test_rows(found: dict[int, Content], line: str | None, tmp_path: Path) -> None:
    lines = compare_rows(expected(tmp_path, ("update", 1, BOB, "done")), found)
    assert (lines == []) if line is None else (len(lines) == 1 and lines[0].startswith(line))


def test_a_write_without_a_result_may_have_happened_or_not(tmp_path: Path) -> None:
    rows = expected(tmp_path, ("delete", 1, None, "unknown"), ("create", None, BOB, "unknown"))
    for found in ({1: ANA, 2: ZOE}, {2: ZOE}, {2: ZOE, 9: BOB}):
        assert compare_rows(rows, found) == []
    assert compare_rows(rows, {1: ZOE, 2: ZOE}) != []


def test_a_deleted_row_must_not_come_back(tmp_path: Path) -> None:
    rows = expected(tmp_path, ("delete", 1, None, "done"))
    assert compare_rows(rows, {1: ANA, 2: ZOE})[0].startswith("row 1 exists")


CONTRACT = """
ALTER TABLE users ADD COLUMN full_name text;
UPDATE users SET full_name = first_name || CASE WHEN last_name = '' THEN '' ELSE ' ' || last_name END;
CREATE INDEX users_full_name_idx ON users (full_name);
ALTER TABLE users DROP COLUMN first_name, DROP COLUMN last_name"""


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        ("SELECT 1", None),
        ("ALTER TABLE users DROP CONSTRAINT users_email_check", "constraints of users: missing ('users_email_check'"),
        ("DROP INDEX users_email_idx", "indexes of users: missing ('users_email_idx'"),
        ("REVOKE SELECT ON users FROM oracle_reports", "grants of users: missing ('', 'oracle_reports', 'SELECT'"),
        ("ALTER TABLE users ADD COLUMN zdd_archive_1 text", "columns of users: left behind ('zdd_archive_1'"),
    ],
)
async def test_objects_of_a_release_that_is_done(
    harm: str, line: str | None, db: asyncpg.Connection, tmp_path: Path
) -> None:
    for role in ("intern", "oracle_reports"):
        if not await db.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
            await db.execute(f"CREATE ROLE {role}")
    await db.execute(TABLE.replace("TO reports", "TO oracle_reports"))
    await db.execute("INSERT INTO users (first_name, last_name, email) VALUES ('Ana', '1', 'a@x'), ('Zoë', '', 'z@x')")
    before = await read_schema(db, "public.users")
    await db.execute(CONTRACT)
    assert await find_lost_rows(db, expected(tmp_path), "column", "done") == []
    await db.execute(harm)
    lines = await find_lost_objects(db, before, "column", "done", has_not_null=False)
    assert (lines == []) if line is None else (len(lines) == 1 and lines[0].startswith(line)), lines


def test_a_seed_always_gives_the_same_script() -> None:
    scripts = [make_script(seed, SIZES["long"]) for seed in range(300)]
    assert scripts == [make_script(seed, SIZES["long"]) for seed in range(300)]
    moments = [moment for script in scripts for moment in script.moments]
    assert {moment.act for moment in moments} == set(WEIGHTS)
    assert {moment.phase for moment in moments} == {*PHASES, "rollback"}
    assert all(each.phase in (*SINCE.get(each.act, PHASES), "rollback") for each in moments)
    assert {(script.kind, script.mode) for script in scripts} == {
        (kind, mode) for kind in ("column", "table") for mode in ("application", "trigger")
    }

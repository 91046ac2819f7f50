"""From pending migrations to operations: each statement with the undo that belongs to it."""

from typing import Any

import pytest

from zdd_tui.model.errors import PlanError, Refused
from zdd_tui.model.migrations.base import MigrationSet, PendingMigration, VersionRecord
from zdd_tui.model.migrations.operations import plan_pending
from zdd_tui.model.operations.base import OperationOptions
from zdd_tui.model.operations.registry import read_operations
from zdd_tui.model.phase import Phase

RECORD = VersionRecord(("INSERT 1", "INSERT 2"), ("DELETE 2",))


def operations_of(up: str, down: str | None = None, *earlier: str) -> list[Any]:
    """The operations without the one that changes the version table."""
    pending = [PendingMigration("e", f"e{n}.sql", text) for n, text in enumerate(earlier)]
    pending.append(PendingMigration("m", "m.sql", up, down, "write it to m.down.sql"))
    *found, last = plan_pending(MigrationSet(tuple(pending), RECORD))
    assert last == {"sql": "INSERT 1;\nINSERT 2", "undo": ["DELETE 2"], "phase": "expand"}
    return found


def test_the_version_table_is_changed_last_in_the_phase_that_was_chosen() -> None:
    found = MigrationSet((), VersionRecord(("INSERT",), ("DELETE",), ("CREATE TABLE v ()",)))
    assert plan_pending(found, record_in=Phase.CLEANUP) == [
        "CREATE TABLE v ()",
        {"sql": "INSERT", "undo": ["DELETE"], "phase": "cleanup"},
    ]


def test_statements_with_an_undo_of_zdd_s_own_take_nothing_from_the_down_file() -> None:
    up = "BEGIN; ALTER TABLE a ADD b int; CREATE INDEX i ON a (b); COMMIT;"
    assert operations_of(up, "DROP INDEX i; ALTER TABLE a DROP b") == [
        "ALTER TABLE a ADD b int",
        "CREATE INDEX i ON a (b)",
    ]
    assert operations_of("-- nothing\n;") == []


def test_the_down_file_takes_back_what_zdd_cannot() -> None:
    up = "CREATE INDEX i ON a (b); INSERT INTO a VALUES (1); INSERT INTO a VALUES (2);"
    assert operations_of(up, "BEGIN; DELETE FROM a WHERE id IN (1, 2); DROP INDEX i; COMMIT") == [
        "CREATE INDEX i ON a (b)",
        {"sql": "INSERT INTO a VALUES (1);\nINSERT INTO a VALUES (2)", "undo": ["DELETE FROM a WHERE id IN (1, 2)"]},
    ]


def test_statements_apart_are_taken_back_in_reverse() -> None:
    up = "INSERT INTO a VALUES (1); CREATE INDEX i ON a (b); INSERT INTO a VALUES (2);"
    assert operations_of(up, "DELETE FROM a WHERE id = 2; DROP INDEX i; DELETE FROM a WHERE id = 1") == [
        {"sql": "INSERT INTO a VALUES (1)", "undo": ["DELETE FROM a WHERE id = 1"]},
        "CREATE INDEX i ON a (b)",
        {"sql": "INSERT INTO a VALUES (2)", "undo": ["DELETE FROM a WHERE id = 2"]},
    ]
    with pytest.raises(Refused, match="2 statements need an undo, and 1 of the down migration take them back"):
        operations_of(up, "DELETE FROM a")


def test_rows_of_a_table_that_the_plan_creates_go_with_it() -> None:
    assert operations_of("INSERT INTO t VALUES (1)", None, "CREATE TABLE t (id int)") == [
        "CREATE TABLE t (id int)",
        "INSERT INTO t VALUES (1)",
    ]


@pytest.mark.parametrize(
    ("up", "down", "text"),
    [
        ("\nINSERT INTO a VALUES (1)", None, r"m\.sql:2: INSERT INTO a VALUES \(1\): zdd does not know how to undo it"),
        ("ALTER VIEW a RENAME COLUMN b TO c", "SELECT 1", r"m\.sql:1: .*running code may still use the old name"),
        ("DELETE FROM a", "SELECT 1", "rows are deleted"),
        ("DO $$ BEGIN END $$", "SELECT 1", "only an execution shows"),
        ("DROP DATABASE a", "CREATE DATABASE a", r"m\.sql:1: .*whole server"),
    ],
)
def test_statements_that_are_refused(up: str, down: str | None, text: str) -> None:
    with pytest.raises(Refused, match=text) as error:
        operations_of(up, down)
    assert error.value.hint


def test_what_is_no_sql_is_refused_with_its_place() -> None:
    with pytest.raises(PlanError, match=r"m\.sql:2: PostgreSQL cannot read it"):
        operations_of("SELECT 1;\nSELEKT 1")
    with pytest.raises(PlanError, match=r"m\.sql: PostgreSQL cannot read it"):
        operations_of("SELECT 'a")


def test_statements_with_one_undo_are_one_step() -> None:
    [operation] = read_operations("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)", OperationOptions(undo=("X",)))
    [step] = operation.steps
    assert step.statements == ("INSERT INTO a VALUES (1)", "INSERT INTO b VALUES (1)")
    assert (step.undo, step.label) == (("X",), "run INSERT INTO a VALUES (1) and 1 more")

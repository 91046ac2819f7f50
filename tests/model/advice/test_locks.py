"""The table of locks against a real server: which lock a statement takes, and whether it rewrites the table."""

import asyncpg
import pytest

from zdd_tui.model.advice.locks import LOCK_RULES, TableLock, TableWork, is_widening
from zdd_tui.model.advice.migration import ActionKind, read_migration

SETUP = """
CREATE TABLE other (id int PRIMARY KEY);
CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(10), c numeric(10,2), d text, n int);
INSERT INTO t SELECT i, i, i::text, i, i::text, i FROM generate_series(1, 50) i;
INSERT INTO other SELECT id FROM t;
CREATE UNIQUE INDEX ready ON t (a);
CREATE INDEX plain ON t (d);
ALTER TABLE t ADD CONSTRAINT waits CHECK (a > 0) NOT VALID;
ALTER TABLE t ADD CONSTRAINT n_there CHECK (n IS NOT NULL);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER old BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
"""

STATEMENTS = {
    ActionKind.DROP_TABLE: "DROP TABLE t",
    ActionKind.DROP_COLUMN: "ALTER TABLE t DROP COLUMN d",
    ActionKind.TRUNCATE: "TRUNCATE t",
    ActionKind.RENAME_TABLE: "ALTER TABLE t RENAME TO u",
    ActionKind.SET_SCHEMA: "ALTER TABLE t SET SCHEMA elsewhere",
    ActionKind.RENAME_COLUMN: "ALTER TABLE t RENAME COLUMN a TO z",
    ActionKind.CHANGE_TYPE: "ALTER TABLE t ALTER a TYPE bigint",
    ActionKind.SET_NOT_NULL: "ALTER TABLE t ALTER a SET NOT NULL",
    ActionKind.ADD_COLUMN: "ALTER TABLE t ADD x timestamptz NOT NULL DEFAULT now()",
    ActionKind.ADD_COLUMN_REWRITE: "ALTER TABLE t ADD x uuid DEFAULT gen_random_uuid()",
    ActionKind.ADD_CHECK: "ALTER TABLE t ADD CHECK (a > 0)",
    ActionKind.ADD_FOREIGN_KEY: "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES other",
    ActionKind.ADD_NOT_VALID: "ALTER TABLE t ADD CONSTRAINT x CHECK (a > 0) NOT VALID",
    ActionKind.ADD_FOREIGN_KEY_NOT_VALID: "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES other NOT VALID",
    ActionKind.ADD_UNIQUE: "ALTER TABLE t ADD UNIQUE (b)",
    ActionKind.ADD_UNIQUE_USING_INDEX: "ALTER TABLE t ADD CONSTRAINT x UNIQUE USING INDEX ready",
    ActionKind.VALIDATE: "ALTER TABLE t VALIDATE CONSTRAINT waits",
    ActionKind.DROP_CONSTRAINT: "ALTER TABLE t DROP CONSTRAINT waits",
    ActionKind.DROP_NOT_NULL: "ALTER TABLE t ALTER a DROP NOT NULL",
    ActionKind.SET_DEFAULT: "ALTER TABLE t ALTER a SET DEFAULT 1",
    ActionKind.CREATE_INDEX: "CREATE INDEX x ON t (a)",
    ActionKind.REINDEX: "REINDEX TABLE t",
    ActionKind.DROP_INDEX: "DROP INDEX plain",
    ActionKind.CREATE_TRIGGER: "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
    ActionKind.DROP_TRIGGER: "DROP TRIGGER old ON t",
    ActionKind.REWRITE_OTHER: "ALTER TABLE t SET UNLOGGED",
    ActionKind.LOCK: "LOCK TABLE t",
    ActionKind.WRITE_ROWS: "UPDATE t SET a = a + 100",
}
_LOCKS = "SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = $1::bigint::oid AND granted"
_STRONGEST = [
    *(
        TableLock.ACCESS_EXCLUSIVE,
        TableLock.SHARE_ROW_EXCLUSIVE,
        TableLock.SHARE,
        TableLock.SHARE_UPDATE_EXCLUSIVE,
        TableLock.ROW_EXCLUSIVE,
    ),
]


def _mode(lock: TableLock) -> str:
    return "".join(word.capitalize() for word in lock.value.split()) + "Lock"


@pytest.mark.parametrize("kind", STATEMENTS, ids=lambda kind: kind.name)
async def test_the_server_takes_the_lock_and_does_the_work(db: asyncpg.Connection, kind: ActionKind) -> None:
    sql = STATEMENTS[kind]
    assert read_migration(sql, "m.sql")[0].actions[0].kind is kind
    await db.execute("CREATE SCHEMA elsewhere;" + SETUP)
    oid = await db.fetchval("SELECT 't'::regclass::oid::bigint")
    before = await db.fetchval("SELECT pg_relation_filenode('t')")
    transaction = db.transaction()
    await transaction.start()
    try:
        await db.execute(sql)
        held = {row["mode"] for row in await db.fetch(_LOCKS, oid)}
        after = await db.fetchval("SELECT pg_relation_filenode($1::bigint::oid)", oid)
    finally:
        await transaction.rollback()
    strongest = next(lock for lock in _STRONGEST if _mode(lock) in held)
    assert strongest is LOCK_RULES[kind].lock
    if kind not in (ActionKind.DROP_TABLE, ActionKind.TRUNCATE):  # both leave the old file for good, at once
        assert (before != after) == (LOCK_RULES[kind].work is TableWork.REWRITE)


@pytest.mark.parametrize(
    ("column", "old", "new"),
    [
        ("b", "character varying(10)", "varchar(20)"),
        ("b", "character varying(10)", "text"),
        ("b", "character varying(10)", "varchar(5)"),
        ("c", "numeric(10,2)", "numeric(12, 2)"),
        ("c", "numeric(10,2)", "numeric(12, 3)"),
        ("c", "numeric(10,2)", "numeric"),
        ("a", "integer", "bigint"),
    ],
)
async def test_a_type_that_only_widens_rewrites_nothing(
    db: asyncpg.Connection, column: str, old: str, new: str
) -> None:
    await db.execute("CREATE SCHEMA elsewhere;" + SETUP)
    before = await db.fetchval("SELECT pg_relation_filenode('t')")
    await db.execute(f"ALTER TABLE t ALTER {column} TYPE {new}")
    assert (await db.fetchval("SELECT pg_relation_filenode('t')") == before) == is_widening(old, new)


async def test_a_validated_check_saves_the_scan_of_not_null(db: asyncpg.Connection) -> None:
    await db.execute("CREATE SCHEMA elsewhere;" + SETUP)
    output: list[str] = []
    db.add_log_listener(lambda _connection, message: output.append(message.message))
    await db.execute("SET client_min_messages = debug1")
    await db.execute("ALTER TABLE t ALTER n SET NOT NULL")
    await db.execute("RESET client_min_messages")
    assert any("sufficient to prove" in message for message in output), output
